/**
 * The generator behind every initial state: 32-bit Weyl sequence with a two-round multiplicative mix ("mulberry32"),
 * seeded with FNV-1a of the form's bytes, code size and inputs, so that adding a form changes no other.
 */
export class Prng {
  private state: number;

  constructor(seed: number) {
    this.state = seed | 0;
  }

  /** The next 32 bits, unsigned. */
  next(): number {
    this.state = (this.state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.state ^ (this.state >>> 15), this.state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  }

  /** An integer from low to high, both included. */
  range(low: number, high: number): number {
    return low + (this.next() % (high - low + 1));
  }
}

/** FNV-1a over bytes, continued from `hash`. */
export function hashBytes(bytes: ArrayLike<number>, hash = 0x811c9dc5): number {
  for (let i = 0; i < bytes.length; i++) hash = Math.imul(hash ^ bytes[i]!, 0x01000193);
  return hash >>> 0;
}

export function hashText(text: string, hash = 0x811c9dc5): number {
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}
