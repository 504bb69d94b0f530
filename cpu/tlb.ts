import type { FastContexts } from './fast-contexts.ts';

/** Added to the rights of an entry whose page is global. */
export const GLOBAL_RIGHT = 0x100;
/** Guest pages that can be larger than their entries, by size (2 MBytes: 2048, 4 MBytes: 1024, 1 GByte: 4) in the low 4 GBytes. */
const PIECE_BUCKETS = 4096;

/**
 * One array of the modelled TLB: sets and ways, first in, first out within a set. Replacement does not depend on
 * hits; invalid entries are filled first. An entry's key is its address-space tag and the upper 16 bits of the
 * linear address; entries of a tag no longer alive are invalid.
 */
export class TlbArray {
  readonly name: string;
  readonly entries: number;
  readonly ways: number;
  readonly sets: number;
  /** All entries are 4-KByte pages. */
  private readonly uniform: boolean;
  /** log2 of the page size that selects the set. */
  indexShift: number;
  /** Set once anything was entered: unused arrays are not searched. */
  used = false;
  readonly page: Int32Array;
  readonly key: Int32Array;
  /** Which low-word bits must agree: -4096, or fewer bits for a large page. */
  readonly mask: Int32Array;
  /** Physical address of the start of the entry's page. */
  readonly physical: Float64Array;
  readonly rights: Int32Array;
  /** log2 of the size of the guest's page, larger than the entry when that was broken up. */
  readonly span: Uint8Array;
  /** Fast contexts that hold pages of this entry (first level only). */
  readonly contexts: Int32Array;
  /** Slots that hold pieces of guest pages, invalid ones included: in all, and by the guest page (low 32 bits of its address, and its size). */
  private pieces = 0;
  private readonly piecesOf = new Uint16Array(PIECE_BUCKETS);
  /** The guest page that a slot is counted for, or 0. */
  private readonly piece: Uint16Array;
  private readonly hand: Int32Array;
  private readonly alive: Uint8Array;
  private readonly fast: FastContexts | null;
  /** Upper bound on the number of invalid entries, and the slot invalidated last (or -1), which is refilled first. */
  private spare: number;
  private hole = -1;

  /**
   * @param ways 0 = fully associative
   * @param alive by address-space tag (AddressSpaces.alive)
   * @param fast fast tables filled from this array, or null
   */
  constructor(name: string, entries: number, ways: number, indexShift: number, alive: Uint8Array, fast: FastContexts | null) {
    this.name = name;
    this.entries = entries;
    this.ways = ways === 0 ? entries : ways;
    this.sets = entries === 0 ? 1 : entries / this.ways;
    if (!Number.isInteger(this.sets) || (this.sets & (this.sets - 1)) !== 0) {
      throw new Error(`TLB ${name}: ${entries} entries in ${ways} ways give ${this.sets} sets; the profile must give a power of two`);
    }
    this.indexShift = indexShift;
    this.uniform = indexShift === 12;
    this.page = new Int32Array(entries);
    this.key = new Int32Array(entries);
    this.mask = new Int32Array(entries);
    this.physical = new Float64Array(entries);
    this.rights = new Int32Array(entries);
    this.span = new Uint8Array(entries);
    this.contexts = new Int32Array(entries);
    this.piece = new Uint16Array(entries);
    this.hand = new Int32Array(this.sets);
    this.alive = alive;
    this.fast = fast;
    this.spare = entries;
  }

  /** Slot of the entry for a linear address under either key, or -1. */
  find(low: number, keyLocal: number, keyShared: number): number {
    const ways = this.ways;
    const start = ((low >>> this.indexShift) & (this.sets - 1)) * ways;
    const end = start + ways;
    if (this.uniform) {
      const page = low & -4096;
      for (let slot = start; slot < end; slot++) {
        if (this.page[slot] !== page) continue;
        const key = this.key[slot]!;
        if (key === keyLocal || key === keyShared) return slot;
      }
      return -1;
    }
    for (let slot = start; slot < end; slot++) {
      if (((this.page[slot]! ^ low) & this.mask[slot]!) !== 0) continue;
      const key = this.key[slot]!;
      if (key === keyLocal || key === keyShared) return slot;
    }
    return -1;
  }

  /** Makes an entry in place of an invalid one of the set, or of the oldest one. Returns its slot. */
  insert(low: number, key: number, mask: number, physical: number, rights: number, span: number): number {
    const slot = this.victim(low);
    this.used = true;
    this.page[slot] = low & mask;
    this.key[slot] = key;
    this.mask[slot] = mask;
    this.physical[slot] = physical;
    this.rights[slot] = rights;
    this.span[slot] = span;
    this.contexts[slot] = 0;
    if (this.piece[slot] !== 0) this.uncount(slot);
    if (span < 32 && -(1 << span) !== mask) this.count(slot);
    return slot;
  }

  private count(slot: number): void {
    const span = this.span[slot]!;
    const bucket = 2 ** (32 - span) + (this.page[slot]! >>> span);
    if (bucket >= PIECE_BUCKETS) throw new Error(`TLB ${this.name}: a guest page of 2^${span} bytes in pieces; expected 2^21 or more`);
    this.piece[slot] = bucket;
    this.piecesOf[bucket]!++;
    this.pieces++;
  }

  private uncount(slot: number): void {
    this.piecesOf[this.piece[slot]!]!--;
    this.piece[slot] = 0;
    this.pieces--;
  }

  /** Whether the entry for an address may be a piece of a guest page that other entries hold pieces of. */
  private inPieces(low: number): boolean {
    const of = this.piecesOf;
    return this.pieces !== 0 && (of[2048 + (low >>> 21)]! | of[1024 + (low >>> 22)]! | of[4 + (low >>> 30)]!) !== 0;
  }

  private victim(low: number): number {
    const ways = this.ways;
    const set = (low >>> this.indexShift) & (this.sets - 1);
    const start = set * ways;
    const hole = this.hole;
    if (hole >= start && hole < start + ways) {
      this.hole = -1;
      if (this.key[hole] === 0) {
        this.spare--;
        return hole;
      }
    }
    let way = this.hand[set]!;
    if (this.spare > 0) {
      for (let i = 0; i < ways; i++) {
        let candidate = way + i;
        if (candidate >= ways) candidate -= ways;
        if (this.alive[this.key[start + candidate]! >>> 16] === 0) {
          this.spare--;
          if (i === 0) this.hand[set] = way + 1 === ways ? 0 : way + 1;
          return start + candidate;
        }
      }
      if (this.sets === 1) this.spare = 0;
    }
    this.hand[set] = way + 1 === ways ? 0 : way + 1;
    way += start;
    this.release(way);
    return way;
  }

  /** Removes the fast entries behind an entry. */
  private release(slot: number): void {
    const contexts = this.contexts[slot]!;
    if (contexts === 0 || this.fast === null) return;
    this.contexts[slot] = 0;
    this.fast.drop(this.page[slot]!, (this.key[slot]! << 16) >> 16, this.mask[slot]!, contexts);
  }

  /** Invalidates one entry. */
  drop(slot: number): void {
    this.release(slot);
    if (this.piece[slot] !== 0) this.uncount(slot);
    this.key[slot] = 0;
    this.spare++;
    this.hole = slot;
  }

  /** Invalidates the entries that hold a linear address under either key. */
  dropPage(low: number, keyLocal: number, keyShared: number): void {
    if (!this.used) return;
    const ways = this.ways;
    const start = ((low >>> this.indexShift) & (this.sets - 1)) * ways;
    const end = start + ways;
    const { uniform } = this;
    const page = low & -4096;
    for (let slot = start; slot < end; slot++) {
      if (uniform ? this.page[slot] !== page : ((this.page[slot]! ^ low) & this.mask[slot]!) !== 0) continue;
      const key = this.key[slot]!;
      if (key === keyLocal || key === keyShared) this.drop(slot);
    }
  }

  /** Invalidates the entries that hold a linear address under either key, or another piece of the guest's page that holds it. */
  dropGuestPage(low: number, keyLocal: number, keyShared: number): void {
    if (this.inPieces(low)) this.dropSpan(low, keyLocal, keyShared);
    else this.dropPage(low, keyLocal, keyShared);
  }

  /** As dropGuestPage, but searching every set: for entries that another paging format may have made. */
  dropSpan(low: number, keyLocal: number, keyShared: number): void {
    if (!this.used) return;
    for (let slot = 0; slot < this.entries; slot++) {
      const key = this.key[slot]!;
      if (key !== keyLocal && key !== keyShared) continue;
      const span = this.span[slot]!;
      const mask = span > 31 ? this.mask[slot]! : this.mask[slot]! & -(1 << span);
      if (((this.page[slot]! ^ low) & mask) === 0) this.drop(slot);
    }
  }

  /** Tags died: their entries are free. */
  forget(): void { this.spare = this.entries; }

  /** Rewrites tags after AddressSpaces.compact. */
  retag(map: Uint16Array): void {
    for (let slot = 0; slot < this.entries; slot++) this.key[slot] = (map[this.key[slot]! >>> 16]! << 16) | (this.key[slot]! & 0xffff);
  }

  reset(): void {
    this.key.fill(0);
    this.contexts.fill(0);
    this.forgetPieces();
    this.hand.fill(0);
    this.spare = this.entries;
    this.hole = -1;
    this.used = false;
  }

  private forgetPieces(): void {
    this.piece.fill(0);
    this.piecesOf.fill(0);
    this.pieces = 0;
  }

  save(): SavedTlbArray {
    const list = (from: ArrayLike<number>): number[] => Array.from(from);
    return {
      page: list(this.page), key: list(this.key), mask: list(this.mask), physical: list(this.physical), rights: list(this.rights), span: list(this.span),
      hand: list(this.hand), spare: this.spare, hole: this.hole, used: this.used,
    };
  }

  /** Fast entries are not saved: the fast tables must be empty. */
  load(saved: SavedTlbArray): void {
    if (saved.key.length !== this.entries || saved.hand.length !== this.sets) {
      throw new Error(`TLB ${this.name}: the saved state has ${saved.key.length} entries in ${saved.hand.length} sets, this profile ${this.entries} in ${this.sets}; load it with the profile it was saved with`);
    }
    this.page.set(saved.page);
    this.key.set(saved.key);
    this.mask.set(saved.mask);
    this.physical.set(saved.physical);
    this.rights.set(saved.rights);
    this.span.set(saved.span);
    this.hand.set(saved.hand);
    this.contexts.fill(0);
    this.forgetPieces();
    for (let slot = 0; slot < this.entries; slot++) {
      if (this.key[slot] !== 0 && this.span[slot]! < 32 && -(1 << this.span[slot]!) !== this.mask[slot]) this.count(slot);
    }
    this.spare = saved.spare;
    this.hole = saved.hole;
    this.used = saved.used;
  }
}

export interface SavedTlbArray {
  readonly page: readonly number[];
  readonly key: readonly number[];
  readonly mask: readonly number[];
  readonly physical: readonly number[];
  readonly rights: readonly number[];
  readonly span: readonly number[];
  readonly hand: readonly number[];
  readonly spare: number;
  readonly hole: number;
  readonly used: boolean;
}
