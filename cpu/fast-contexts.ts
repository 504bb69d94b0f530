import { CODE_TAG_HIGH, FAST_CONTEXT, FAST_CONTEXTS, FAST_ENTRIES, FAST_TABLE, fastIndex, NO_TAG_HIGH, type Memory } from './memory.ts';

/** The context whose tables are never filled: every access takes the slow path (alignment checking). */
export const EMPTY_CONTEXT = FAST_CONTEXTS - 1;
const USABLE = FAST_CONTEXTS - 1;
/** Words of one table's bitmap of filled entries. */
const WORDS = FAST_ENTRIES / 32;
const HINTS = 64;

/**
 * Fast lookup tables of one kind for one CPU (data: read and write; instructions: execute), one set per context. A
 * context is what a cached translation may be used for without asking: address space, what the current privilege
 * allows, and for instructions the decode mode. Data and instruction contexts are chosen independently from the
 * same context numbers, each kind using only its own tables of a context.
 *
 * The tables are a pure cache of the modelled first-level TLB: clearing them at any time changes no result and no
 * cycle.
 */
export class FastContexts {
  private readonly i32: Int32Array;
  private readonly base: number;
  private readonly ramBase: number;
  private readonly first: number;
  private readonly tables: number;
  /** Identity of each context; space -1 = free. */
  private readonly spaces = new Int32Array(USABLE).fill(-1);
  private readonly keys = new Int32Array(USABLE);
  private readonly modes = new Int32Array(USABLE);
  private readonly used = new Float64Array(USABLE);
  private clock = 0;
  private readonly hints = new Int32Array(HINTS);
  /** Bit per filled entry, [context][table][word]; and those of them that come from global translations. */
  private readonly filled: Int32Array;
  private readonly global: Int32Array;

  /**
   * @param first number of the first table of this kind inside a context (0 read, 2 execute)
   * @param tables how many tables the kind has
   */
  constructor(memory: Memory, cpu: number, first: number, tables: number) {
    this.i32 = memory.i32;
    this.ramBase = memory.ramBase;
    this.base = memory.fastBase + cpu * FAST_CONTEXT * FAST_CONTEXTS;
    this.first = first;
    this.tables = tables;
    this.filled = new Int32Array(USABLE * tables * WORDS);
    this.global = new Int32Array(USABLE * tables * WORDS);
    for (let context = 0; context < FAST_CONTEXTS; context++) {
      for (let table = 0; table < tables; table++) {
        const word = this.table(context, table) >>> 2;
        for (let i = 0; i < FAST_ENTRIES; i++) this.i32[word + i * 4 + 1] = NO_TAG_HIGH;
      }
    }
  }

  /** Host address of a context's table (0 = the first of this kind). */
  table(context: number, table: number): number {
    return this.base + context * FAST_CONTEXT + (this.first + table) * FAST_TABLE;
  }

  /** Number of the context of this identity; the least recently selected one is reused when there is none. */
  select(space: number, key: number, mode: number): number {
    const hint = (space * 7 + key * 3 + mode * 5) & (HINTS - 1);
    let context = this.hints[hint]!;
    if (this.spaces[context] !== space || this.keys[context] !== key || this.modes[context] !== mode) {
      context = this.find(space, key, mode);
      this.hints[hint] = context;
    }
    this.used[context] = ++this.clock;
    return context;
  }

  private find(space: number, key: number, mode: number): number {
    let oldest = 0;
    for (let context = 0; context < USABLE; context++) {
      if (this.spaces[context] === space && this.keys[context] === key && this.modes[context] === mode) return context;
      if (this.used[context]! < this.used[oldest]!) oldest = context;
    }
    this.clear(oldest, false);
    this.spaces[oldest] = space;
    this.keys[oldest] = key;
    this.modes[oldest] = mode;
    return oldest;
  }

  /** Enters a page. `page` is the linear page (low word), `highTag` the tag's high word, `physical` the RAM page. */
  enter(context: number, table: number, page: number, highTag: number, physical: number, aux: number, global: boolean): void {
    const index = fastIndex(page);
    const at = (this.table(context, table) + index * 16) >>> 2;
    this.i32[at] = page;
    this.i32[at + 1] = highTag;
    this.i32[at + 2] = this.ramBase + physical - page;
    this.i32[at + 3] = aux;
    const word = (context * this.tables + table) * WORDS + (index >>> 5);
    const bit = 1 << (index & 31);
    this.filled[word]! |= bit;
    if (global) this.global[word]! |= bit;
    else this.global[word]! &= ~bit;
  }

  /**
   * Removes what a modelled entry backs: the pages whose low word agrees with `page` under `mask`, in the contexts
   * of the bit set.
   */
  drop(page: number, high: number, mask: number, contexts: number): void {
    const i32 = this.i32;
    while (contexts !== 0) {
      const context = 31 - Math.clz32(contexts);
      contexts &= ~(1 << context);
      for (let table = 0; table < this.tables; table++) {
        const start = this.table(context, table) >>> 2;
        if (mask === -4096) {
          const at = start + fastIndex(page) * 4;
          const tag = i32[at + 1]!;
          if (i32[at] === page && (tag === high || tag === (high ^ CODE_TAG_HIGH))) i32[at + 1] = NO_TAG_HIGH;
          continue;
        }
        const words = (context * this.tables + table) * WORDS;
        for (let word = 0; word < WORDS; word++) {
          let bits = this.filled[words + word]!;
          while (bits !== 0) {
            const bit = 31 - Math.clz32(bits);
            bits &= ~(1 << bit);
            const at = start + (word * 32 + bit) * 4;
            const tag = i32[at + 1]!;
            if (((i32[at]! ^ page) & mask) !== 0 || (tag !== high && tag !== (high ^ CODE_TAG_HIGH))) continue;
            i32[at + 1] = NO_TAG_HIGH;
            this.filled[words + word]! &= ~(1 << bit);
          }
        }
      }
    }
  }

  /** Empties all contexts of an address space, or only their non-global pages. */
  clearSpace(space: number, keepGlobal: boolean): void {
    for (let context = 0; context < USABLE; context++) if (this.spaces[context] === space) this.clear(context, keepGlobal);
  }

  /** Empties everything. */
  clearAll(): void {
    for (let context = 0; context < USABLE; context++) this.clear(context, false);
  }

  /** Empties everything and forgets the identities of the contexts. */
  reset(): void {
    this.clearAll();
    this.spaces.fill(-1);
    this.used.fill(0);
  }

  private clear(context: number, keepGlobal: boolean): void {
    for (let table = 0; table < this.tables; table++) {
      const start = this.table(context, table) >>> 2;
      const words = (context * this.tables + table) * WORDS;
      for (let word = 0; word < WORDS; word++) {
        const keep = keepGlobal ? this.global[words + word]! : 0;
        let bits = this.filled[words + word]! & ~keep;
        this.filled[words + word]! &= keep;
        while (bits !== 0) {
          const bit = 31 - Math.clz32(bits);
          bits &= ~(1 << bit);
          this.i32[start + (word * 32 + bit) * 4 + 1] = NO_TAG_HIGH;
        }
      }
    }
  }

  /** Gives the entries of one table that map a RAM page the tag for pages with or without decoded code. */
  retag(table: number, physical: number, hasCode: boolean): void {
    const host = (this.ramBase + physical) | 0;
    for (let context = 0; context < USABLE; context++) {
      if (this.spaces[context]! < 0) continue;
      const start = this.table(context, table) >>> 2;
      const words = (context * this.tables + table) * WORDS;
      for (let word = 0; word < WORDS; word++) {
        let bits = this.filled[words + word]!;
        while (bits !== 0) {
          const bit = 31 - Math.clz32(bits);
          bits &= ~(1 << bit);
          const at = start + (word * 32 + bit) * 4;
          const tag = this.i32[at + 1]!;
          if (tag === NO_TAG_HIGH || ((this.i32[at + 2]! + this.i32[at]!) | 0) !== host) continue;
          // linear addresses are canonical, so bits 30 and 31 of the high word agree unless the code tag is in
          const tagged = ((tag >> 31) & 1) !== ((tag >> 30) & 1);
          if (tagged !== hasCode) this.i32[at + 1] = tag ^ CODE_TAG_HIGH;
        }
      }
    }
  }

  /** Removes all entries of one table whose aux word has this value. */
  dropAux(table: number, aux: number): void {
    for (let context = 0; context < USABLE; context++) {
      if (this.spaces[context]! < 0) continue;
      const start = this.table(context, table) >>> 2;
      const words = (context * this.tables + table) * WORDS;
      for (let word = 0; word < WORDS; word++) {
        let bits = this.filled[words + word]!;
        while (bits !== 0) {
          const bit = 31 - Math.clz32(bits);
          bits &= ~(1 << bit);
          const at = start + (word * 32 + bit) * 4;
          if (this.i32[at + 3] === (aux | 0)) this.i32[at + 1] = NO_TAG_HIGH;
        }
      }
    }
  }
}
