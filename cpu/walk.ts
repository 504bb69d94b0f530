import type { Cpu } from './cpu.ts';
import { TranslatePurpose, type SecondLevel } from './hooks.ts';
import { LeafRule, PAGE_SIZE_BIT, Right, type CompiledFormat } from './page-format.ts';

const TWO32 = 4294967296;
const MAX_DEPTH = 5;

/** How a walk ended. */
export const WalkOutcome = {
  /** A page was found; the result fields describe it. */
  Mapped: 0,
  /** An entry was not present. */
  NotPresent: 1,
  /** A present entry has a reserved bit set or a reserved combination. */
  Reserved: 2,
  /** The second level recorded a VM exit. */
  Aborted: 3,
} as const;
export type WalkOutcome = (typeof WalkOutcome)[keyof typeof WalkOutcome];

/**
 * The page walker: one loop over any format. A nested walk is this walk with every table reference going through a
 * second level, in this order: each entry as it is read, then the accessed and dirty flags, then (by the caller) the page itself.
 *
 * Addresses are split: `low` is the low 32 bits as a signed word, `high` the rest (sign-extended).
 */
export class Walker {
  private readonly cpu: Cpu;
  private readonly u32: Uint32Array;
  private readonly ramBase: number;
  private readonly ramSize: number;
  /** Result: address of the 4-KByte frame (in the space the walked entries name), log2 of the page size. */
  frame = 0;
  shift = 12;
  /** Result: {@link Right} bits, Dirty included; SecondWrite is never set here. */
  rights = 0;
  /** The entry that ended the walk, and its level (0 = root). */
  leafLow = 0;
  leafHigh = 0;
  level = 0;
  /** References made by the last walk: to its own tables, and by the second level underneath. */
  references = 0;
  secondReferences = 0;
  /** Of each entry used: where it is (own space, host-physical), its low word, and whether the second level lets it be written. */
  private readonly entryAt = new Float64Array(MAX_DEPTH);
  private readonly entryHost = new Float64Array(MAX_DEPTH);
  private readonly entryLow = new Int32Array(MAX_DEPTH);
  private readonly entryWritable = new Uint8Array(MAX_DEPTH);

  constructor(cpu: Cpu) {
    this.cpu = cpu;
    this.u32 = cpu.memory.u32;
    this.ramBase = cpu.memory.ramBase;
    this.ramSize = cpu.memory.ramSize;
  }

  /**
   * Walks from the table at `root` without changing anything in memory.
   * @param linear the whole address, passed on to the second level
   */
  walk(format: CompiledFormat, root: number, low: number, high: number, second: SecondLevel | null, linear: number): WalkOutcome {
    this.references = 0;
    this.secondReferences = 0;
    const depth = format.depth;
    let table = root;
    let allow = 7;
    let denyHigh = 0;
    for (let level = 0; level < depth; level++) {
      const shift = format.shift[level]!;
      const index = (shift > 31 ? high >> (shift - 32) : (low >>> shift) | (high << (32 - shift))) & format.indexMask[level]!;
      const at = table + (index << format.entryShift);
      let host = at;
      this.level = level;
      if (second !== null) {
        host = second.translate(this.cpu, at, 1, TranslatePurpose.TableRead, linear);
        this.secondReferences += second.references;
        if (host < 0) return WalkOutcome.Aborted;
        this.entryWritable[level] = second.permissions & 2;
      } else this.entryWritable[level] = 1;
      this.references++;
      let entry: number;
      let entryHigh = 0;
      if (host + 8 <= this.ramSize) {
        const word = (this.ramBase + host) >>> 2;
        entry = this.u32[word]! | 0;
        if (format.entryBytes === 8) entryHigh = this.u32[word + 1]! | 0;
      } else {
        entry = this.cpu.readPhysical(host, 4) | 0;
        if (format.entryBytes === 8) entryHigh = this.cpu.readPhysical(host + 4, 4) | 0;
      }
      this.leafLow = entry;
      this.leafHigh = entryHigh;
      if ((entry & format.presentMask) === 0) return WalkOutcome.NotPresent;
      allow &= entry;
      denyHigh |= entryHigh;
      if (format.invalidPermissions >>> (entry & 7) & 1) return WalkOutcome.Reserved;
      this.entryAt[level] = at;
      this.entryHost[level] = host;
      this.entryLow[level] = entry;
      const rule = format.leaf[level]!;
      if (rule === LeafRule.Always || (rule === LeafRule.Size && (entry & PAGE_SIZE_BIT) !== 0)) {
        if (((entry & format.leafReservedLow[level]!) | (entryHigh & format.leafReservedHigh[level]!)) !== 0) return WalkOutcome.Reserved;
        if (format.invalidMemoryTypes >>> (entry >>> 3 & 7) & 1) return WalkOutcome.Reserved;
        const inside = (1 << shift) - 1;
        const upper = format.entryBytes === 8 ? entryHigh & format.addressHigh : entry >>> 13 & format.leafHighMask[level]!;
        this.frame = (((entry & ~inside) | (low & inside)) & -4096) >>> 0;
        if (upper !== 0) this.frame += upper * TWO32;
        this.shift = shift;
        let rights = format.rights[allow]!;
        if ((denyHigh & format.denyExecuteHigh) !== 0) rights &= ~Right.Execute;
        if ((entry & format.dirtyMask) === format.dirtyMask) rights |= Right.Dirty;
        this.rights = rights;
        return WalkOutcome.Mapped;
      }
      if (((entry & format.reservedLow[level]!) | (entryHigh & format.reservedHigh[level]!)) !== 0) return WalkOutcome.Reserved;
      table = (entry & -4096) >>> 0;
      const upper = entryHigh & format.addressHigh;
      if (upper !== 0) table += upper * TWO32;
    }
    throw new Error(`${format.format.name} paging: the last level does not map a page; its row must say leaf: 'always'`);
  }

  /**
   * Sets the accessed flags of all entries used by the last walk, and the dirty flag of the page if asked (SDM
   * "Accessed and Dirty Flags"). Call once the access is known to be permitted. False: the second level recorded a
   * VM exit for one of the writes.
   */
  mark(format: CompiledFormat, dirty: boolean, second: SecondLevel | null, linear: number): boolean {
    const leaf = this.level;
    for (let level = 0; level <= leaf; level++) {
      let bits = format.accessedMask;
      if (dirty && level === leaf) bits |= format.dirtyMask;
      if ((this.entryLow[level]! & bits) === bits) continue;
      let host = this.entryHost[level]!;
      if (second !== null && this.entryWritable[level] === 0) {
        host = second.translate(this.cpu, this.entryAt[level]!, 2, TranslatePurpose.TableWrite, linear);
        this.secondReferences += second.references;
        if (host < 0) return false;
      }
      this.cpu.writePhysical(host, 4, (this.cpu.readPhysical(host, 4) | bits) >>> 0);
    }
    if (dirty) this.rights |= Right.Dirty;
    return true;
  }

  /** Physical address behind a linear address without any effect, or -1. */
  peek(format: CompiledFormat, root: number, low: number, high: number, second: SecondLevel | null): number {
    let table = root;
    for (let level = 0; level < format.depth; level++) {
      const shift = format.shift[level]!;
      const index = (shift > 31 ? high >> (shift - 32) : (low >>> shift) | (high << (32 - shift))) & format.indexMask[level]!;
      let at = table + (index << format.entryShift);
      if (second !== null) at = second.peek === undefined ? -1 : second.peek(this.cpu, at);
      if (at < 0 || at + format.entryBytes > this.ramSize) return -1;
      const word = (this.ramBase + at) >>> 2;
      const entry = this.u32[word]! | 0;
      const entryHigh = format.entryBytes === 8 ? this.u32[word + 1]! | 0 : 0;
      if ((entry & format.presentMask) === 0 || format.invalidPermissions >>> (entry & 7) & 1) return -1;
      const rule = format.leaf[level]!;
      const leaf = rule === LeafRule.Always || (rule === LeafRule.Size && (entry & PAGE_SIZE_BIT) !== 0);
      if (leaf) {
        if (((entry & format.leafReservedLow[level]!) | (entryHigh & format.leafReservedHigh[level]!)) !== 0) return -1;
        const inside = (1 << shift) - 1;
        const upper = format.entryBytes === 8 ? entryHigh & format.addressHigh : entry >>> 13 & format.leafHighMask[level]!;
        const physical = upper * TWO32 + (((entry & ~inside) | (low & inside)) >>> 0);
        return second === null ? physical : second.peek === undefined ? -1 : second.peek(this.cpu, physical);
      }
      if (((entry & format.reservedLow[level]!) | (entryHigh & format.reservedHigh[level]!)) !== 0) return -1;
      table = ((entry & -4096) >>> 0) + (entryHigh & format.addressHigh) * TWO32;
    }
    return -1;
  }
}
