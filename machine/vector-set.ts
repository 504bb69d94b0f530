/** A set of interrupt vectors, as a 256-bit register: eight words, lowest vectors first. */
export class VectorSet {
  readonly words = new Uint32Array(8);

  has(vector: number): boolean { return (this.words[vector >> 5]! & (1 << (vector & 31))) !== 0; }
  add(vector: number): void { this.words[vector >> 5]! |= 1 << (vector & 31); }
  delete(vector: number): void { this.words[vector >> 5]! &= ~(1 << (vector & 31)); }

  /** Highest vector, or -1. */
  get highest(): number {
    for (let i = 7; i >= 0; i--) if (this.words[i] !== 0) return i * 32 + 31 - Math.clz32(this.words[i]!);
    return -1;
  }
}
