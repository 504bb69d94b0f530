import { FieldWidth, type Field } from './field.ts';
import { Region } from './field.ts';

/** Our own word in the VMCS region: software never sees its meaning. */
export const LaunchState = { Clear: 0, Launched: 1 } as const;

/**
 * A VMCS region seen as words: in a machine's RAM, or free-standing (a dump read from elsewhere). Field values are
 * word pairs, so that nothing here allocates.
 */
export class Vmcs {
  words: Uint32Array;
  /** Index of the region's first word. */
  base: number;

  constructor(words: Uint32Array = new Uint32Array(Region.size / 4), base = 0) {
    this.words = words;
    this.base = base;
  }

  low(field: Field): number { return this.words[this.base + field.word]!; }
  /** High word; 0 for fields of one word. */
  high(field: Field): number { return field.words === 2 ? this.words[this.base + field.word + 1]! : 0; }
  /** Stores a value cut to the field's width. */
  set(field: Field, low: number, high = 0): void {
    const at = this.base + field.word;
    if (field.words === 2) {
      this.words[at] = low;
      this.words[at + 1] = high;
    } else this.words[at] = field.width === FieldWidth.Bits16 ? low & 0xffff : low;
  }
  /** The value as one number, for display and tests. */
  value(field: Field): bigint { return (BigInt(this.high(field)) << 32n) | BigInt(this.low(field)); }
  setValue(field: Field, value: bigint): void { this.set(field, Number(value & 0xffffffffn), Number((value >> 32n) & 0xffffffffn)); }

  /** Revision identifier with the shadow indicator in bit 31. */
  get revision(): number { return this.words[this.base + Region.revision / 4]!; }
  set revision(value: number) { this.words[this.base + Region.revision / 4] = value; }
  get abortIndicator(): number { return this.words[this.base + Region.abort / 4]!; }
  set abortIndicator(value: number) { this.words[this.base + Region.abort / 4] = value; }
  get launchState(): number { return this.words[this.base + Region.launch / 4]!; }
  set launchState(value: number) { this.words[this.base + Region.launch / 4] = value; }
}
