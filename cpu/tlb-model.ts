import { AddressSpaces, type SavedSpaces } from './address-space.ts';
import { FastContexts } from './fast-contexts.ts';
import type { Memory } from './memory.ts';
import { AccessKind } from './mmu.ts';
import type { CpuProfile, TlbLevel } from './profile.ts';
import { GLOBAL_RIGHT, TlbArray, type SavedTlbArray } from './tlb.ts';

const TWO32 = 4294967296;
/** `span` of an entry without guest paging. */
export const UNPAGED_SPAN = 63;
/** Which address spaces an invalidation is for: any value of VPID, PCID or root; any VPID but 0, or any root at all. */
export const ANY = -2;
export const NONZERO = -3;

export interface SavedTlb {
  readonly spaces: SavedSpaces;
  readonly arrays: readonly SavedTlbArray[];
}

/**
 * The modelled TLB of one CPU: first-level instruction and data arrays, the second level they share, the address
 * spaces whose entries they hold, and the fast tables that the first level backs.
 *
 * 1-GByte pages are held whole where the large array has one set, and as 2-MByte pieces otherwise.
 */
export class TlbModel {
  readonly spaces = new AddressSpaces();
  /** Fast tables backed by the data arrays (read 0, write 1) and by the instruction arrays (execute 0). */
  readonly data: FastContexts;
  readonly code: FastContexts;
  readonly hasSecond: boolean;
  /** The entry that the last probe found or the last fill made in the first level. */
  hitArray: TlbArray;
  hitSlot = -1;
  /** Current address space. */
  space = -1;
  private vpid = 0;
  private pcid = 0;
  private root = -1;
  private unpaged = 0;
  private keyLocal = 0;
  private keyShared = 0;
  private readonly dataSmall: TlbArray;
  private readonly dataLarge: TlbArray;
  private readonly codeSmall: TlbArray;
  private readonly codeLarge: TlbArray;
  private readonly secondSmall: TlbArray;
  private readonly secondLarge: TlbArray;
  private readonly arrays: readonly TlbArray[];

  constructor(profile: CpuProfile, memory: Memory, cpu: number) {
    this.data = new FastContexts(memory, cpu, AccessKind.Read, 2);
    this.code = new FastContexts(memory, cpu, AccessKind.Execute, 1);
    const { alive } = this.spaces;
    const small = (name: string, level: TlbLevel | null, fast: FastContexts | null): TlbArray => {
      if (level !== null && level.entries4k < 1) throw new Error(`profile ${profile.name}: TLB ${name} has no 4-KByte entries`);
      return new TlbArray(`${name}, 4-KByte pages`, level?.entries4k ?? 0, level?.ways4k ?? 0, 12, alive, fast);
    };
    const large = (name: string, level: TlbLevel | null, fast: FastContexts | null): TlbArray => new TlbArray(`${name}, large pages`, level?.entriesLarge ?? 0, level?.waysLarge ?? 0, 21, alive, fast);
    const { tlb } = profile;
    this.dataSmall = small('data', tlb.data, this.data);
    this.dataLarge = large('data', tlb.data, this.data);
    this.codeSmall = small('instruction', tlb.instruction, this.code);
    this.codeLarge = large('instruction', tlb.instruction, this.code);
    this.hasSecond = tlb.second !== null;
    this.secondSmall = small('second level', tlb.second, null);
    this.secondLarge = large('second level', tlb.second, null);
    this.arrays = [this.dataSmall, this.dataLarge, this.codeSmall, this.codeLarge, this.secondSmall, this.secondLarge];
    this.hitArray = this.dataSmall;
  }

  // --- address spaces --------------------------------------------------------------------------------------------

  /** Makes an address space current. */
  select(vpid: number, pcid: number, root: number, unpaged: number): void {
    if (this.space >= 0 && this.pcid === pcid && this.unpaged === unpaged && this.vpid === vpid && this.root === root) return;
    let space = this.spaces.find(vpid, pcid, root, unpaged);
    if (space < 0) {
      this.compact();
      space = this.spaces.find(vpid, pcid, root, unpaged);
    }
    if (space < 0) {
      // too many spaces: start again with an empty TLB
      this.reset();
      space = this.spaces.find(vpid, pcid, root, unpaged);
    }
    this.space = space;
    this.vpid = vpid;
    this.pcid = pcid;
    this.root = root;
    this.unpaged = unpaged;
    this.readKeys();
  }

  private readKeys(): void {
    this.keyLocal = this.spaces.local[this.space]! << 16;
    this.keyShared = this.spaces.shared[this.spaces.group[this.space]!]! << 16;
  }

  /** Renumbers the tags when they have run out. */
  private compact(): void {
    const map = this.spaces.compact();
    for (const array of this.arrays) array.retag(map);
    if (this.space >= 0) this.readKeys();
  }

  /** Size of large pages in the current paging format (log2): 22 under 32-bit paging, otherwise 21. */
  indexLarge(shift: number): void {
    this.dataLarge.indexShift = shift;
    this.codeLarge.indexShift = shift;
    this.secondLarge.indexShift = shift;
  }

  // --- lookup ----------------------------------------------------------------------------------------------------

  /** Looks in the first level of instructions or data; true: hitArray and hitSlot tell the entry. */
  probeFirst(execute: boolean, low: number, high: number): boolean {
    return this.probe(execute ? this.codeSmall : this.dataSmall, execute ? this.codeLarge : this.dataLarge, low, high);
  }
  probeSecond(low: number, high: number): boolean {
    return this.probe(this.secondSmall, this.secondLarge, low, high);
  }

  private probe(small: TlbArray, large: TlbArray, low: number, high: number): boolean {
    const keyLocal = this.keyLocal | (high & 0xffff);
    const keyShared = this.keyShared | (high & 0xffff);
    let slot = small.find(low, keyLocal, keyShared);
    if (slot >= 0) {
      this.hitArray = small;
      this.hitSlot = slot;
      return true;
    }
    if (!large.used) return false;
    slot = large.find(low, keyLocal, keyShared);
    if (slot < 0) return false;
    this.hitArray = large;
    this.hitSlot = slot;
    return true;
  }

  // --- filling ---------------------------------------------------------------------------------------------------

  /**
   * Enters a translation in both levels; hitArray and hitSlot then tell the first-level entry.
   * @param shift log2 of the size that may be entered; `span` that of the guest's page
   * @param frame physical address of the 4-KByte frame of `low`
   */
  enter(execute: boolean, low: number, high: number, shift: number, frame: number, rights: number, span: number): void {
    const key = ((rights & GLOBAL_RIGHT) !== 0 ? this.keyShared : this.keyLocal) | (high & 0xffff);
    this.spaces.touched[this.spaces.group[this.space]!] = 1;
    if (this.hasSecond) this.enterArray(this.secondSmall, this.secondLarge, false, low, key, shift, frame, rights, span);
    this.enterFirst(execute, low, key, shift, frame, rights, span);
  }

  /** Copies the second-level entry that was hit into the first level. Returns the address of the 4-KByte frame of `low`. */
  promote(execute: boolean, low: number): number {
    const array = this.hitArray;
    const slot = this.hitSlot;
    const mask = array.mask[slot]!;
    const frame = array.physical[slot]! + (low & ~mask & -4096);
    this.enterFirst(execute, low, array.key[slot]!, mask === -4096 ? 12 : 31 - Math.clz32(-mask), frame, array.rights[slot]!, array.span[slot]!);
    return frame;
  }

  private enterFirst(execute: boolean, low: number, key: number, shift: number, frame: number, rights: number, span: number): void {
    this.enterArray(execute ? this.codeSmall : this.dataSmall, execute ? this.codeLarge : this.dataLarge, true, low, key, shift, frame, rights, span);
  }

  /** Enters a page of the size given, or the largest piece of it that the level can hold. A second level that holds no large pages does not hold pieces of them. */
  private enterArray(small: TlbArray, large: TlbArray, first: boolean, low: number, key: number, shift: number, frame: number, rights: number, span: number): void {
    let array = small;
    let size = 12;
    if (shift >= 21) {
      if (large.entries > 0) {
        array = large;
        size = shift < 30 || large.sets === 1 ? shift : 21;
      } else if (!first) return;
    }
    const mask = -(1 << size);
    const slot = array.insert(low, key, mask, frame - (low & ~mask & -4096), rights, span);
    if (first) {
      this.hitArray = array;
      this.hitSlot = slot;
    }
  }

  // --- invalidation ----------------------------------------------------------------------------------------------

  /** Drops what the second level holds for a page of the current space. */
  dropSecond(low: number, high: number): void {
    const keyLocal = this.keyLocal | (high & 0xffff);
    const keyShared = this.keyShared | (high & 0xffff);
    this.secondSmall.dropPage(low, keyLocal, keyShared);
    this.secondLarge.dropPage(low, keyLocal, keyShared);
  }

  /** Drops a page of the current space everywhere. */
  dropCurrent(low: number, high: number): void {
    this.dropKeys(low, this.keyLocal | (high & 0xffff), this.keyShared | (high & 0xffff));
  }

  private dropKeys(low: number, keyLocal: number, keyShared: number): void {
    for (let i = 0; i < 6; i++) this.arrays[i]!.dropGuestPage(low, keyLocal, keyShared);
  }

  /** Drops one page of every space that matches, global entries included or not. */
  dropWhere(linear: number, vpid: number, pcid: number, global: boolean): void {
    const low = linear | 0;
    const high = Math.floor(linear / TWO32) & 0xffff;
    const { spaces } = this;
    for (let space = 0; space < spaces.count; space++) {
      if (!this.matches(space, vpid, pcid, ANY)) continue;
      const group = spaces.group[space]!;
      if (spaces.touched[group] === 0) continue;
      const keyLocal = (spaces.local[space]! << 16) | high;
      const keyShared = global ? (spaces.shared[group]! << 16) | high : keyLocal;
      if (space === this.space) this.dropKeys(low, keyLocal, keyShared);
      // another space may use another paging format, so its sets are not known here
      else for (let i = 0; i < 6; i++) this.arrays[i]!.dropSpan(low, keyLocal, keyShared);
    }
  }

  /** Flushes every space that matches, and the global entries it shares if asked. */
  flushWhere(vpid: number, pcid: number, root: number, global: boolean): void {
    const { spaces } = this;
    for (let space = 0; space < spaces.count; space++) {
      if (!this.matches(space, vpid, pcid, root)) continue;
      if (spaces.full) this.compact();
      spaces.renewLocal(space);
      if (global) spaces.renewShared(spaces.group[space]!);
      this.data.clearSpace(space, !global);
      this.code.clearSpace(space, !global);
    }
    for (let i = 0; i < 6; i++) this.arrays[i]!.forget();
    this.readKeys();
  }

  private matches(space: number, vpid: number, pcid: number, root: number): boolean {
    const { spaces } = this;
    if (spaces.unpaged[space] === 1 && spaces.root[space]! < 0) return false; // nothing is modelled there
    if (vpid !== ANY && (vpid === NONZERO ? spaces.vpid[space] === 0 : spaces.vpid[space] !== vpid)) return false;
    if (pcid !== ANY && spaces.pcid[space] !== pcid) return false;
    return root === ANY || (root === NONZERO ? spaces.root[space]! >= 0 : spaces.root[space] === root);
  }

  /** Forgets everything; a space must be selected next. */
  reset(): void {
    for (const array of this.arrays) array.reset();
    this.data.reset();
    this.code.reset();
    this.spaces.reset();
    this.space = -1;
  }

  // --- snapshots -------------------------------------------------------------------------------------------------

  save(): SavedTlb {
    return { spaces: this.spaces.save(), arrays: this.arrays.map((array) => array.save()) };
  }

  /** Restores entries and spaces; the fast tables start empty. A space must be selected next. */
  load(saved: SavedTlb): void {
    this.reset();
    this.spaces.load(saved.spaces);
    this.arrays.forEach((array, i) => array.load(saved.arrays[i]!));
  }
}
