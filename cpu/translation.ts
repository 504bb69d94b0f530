import { accessRules, GUEST_RIGHTS, PageFault, Privilege, unpagedRules, type AccessRules } from './access-rules.ts';
import { AddressSpaces, type SavedSpaces } from './address-space.ts';
import { ChargeTo, type Cpu } from './cpu.ts';
import { EMPTY_CONTEXT, FastContexts } from './fast-contexts.ts';
import { Vector } from './fault.ts';
import { TranslatePurpose, type SecondLevel } from './hooks.ts';
import { CODE_TAG_HIGH } from './memory.ts';
import { ABORT_VECTOR, AccessKind, type Mmu, type TlbCounters } from './mmu.ts';
import { compileFormat, format32, format4, formatPae, Right, type CompiledFormat, type PageFormat } from './page-format.ts';
import type { TlbLevel } from './profile.ts';
import { Cr0, Cr4, Efer, Flag, S } from './state.ts';
import { GLOBAL_RIGHT, TlbArray, type SavedTlbArray } from './tlb.ts';
import { Walker, WalkOutcome } from './walk.ts';

const TWO32 = 4294967296;
/** `span` of an entry without guest paging. */
const UNPAGED_SPAN = 63;
/** Wildcards of the flush operations. */
const ANY = -2;
const NONZERO = -3;

/** State of a {@link Translation} as plain data. */
export interface SavedTranslation {
  readonly vpid: number;
  readonly spaces: SavedSpaces;
  readonly arrays: readonly SavedTlbArray[];
  readonly counters: TlbCounters;
}

/**
 * Linear-address translation of one CPU: the modelled TLB over the walker, and the fast tables over the modelled
 * TLB. See {@link Mmu} for the contract.
 *
 * A fast entry exists only while a first-level entry of the modelled TLB backs it and permits the access in that
 * context, so using one needs no bookkeeping. Without paging and without a second level nothing is modelled and
 * every RAM page may be entered. 1-GByte pages are held whole where the large array has one set, and as 2-MByte
 * pieces otherwise.
 */
export class Translation implements Mmu {
  vpid = 0;
  readonly counters: TlbCounters = { dataMisses: 0, instructionMisses: 0, walks: 0, walkReferences: 0, secondLevelReferences: 0 };
  private readonly cpu: Cpu;
  private readonly u32: Uint32Array;
  private readonly base: number;
  private readonly ramSize: number;
  private readonly secondCost: number;
  private readonly referenceCost: number;
  private readonly walker: Walker;
  private readonly spaces = new AddressSpaces();
  private readonly data: FastContexts;
  private readonly code: FastContexts;
  private readonly dataSmall: TlbArray;
  private readonly dataLarge: TlbArray;
  private readonly codeSmall: TlbArray;
  private readonly codeLarge: TlbArray;
  private readonly secondSmall: TlbArray;
  private readonly secondLarge: TlbArray;
  private readonly hasSecond: boolean;
  private readonly arrays: readonly TlbArray[];
  /** [32-bit, 32-bit with PSE, PAE, PAE with NXE, 4-level, 4-level with NXE]. */
  private readonly formats: readonly CompiledFormat[];
  /** By RAM page: it holds decoded code. */
  private readonly codePages: Uint8Array;
  /** Hash filter of guest pages that were entered in smaller pieces. */
  private readonly pieces = new Uint8Array(256);
  // what updateContext found
  private identity = true;
  private paged = false;
  private pae = false;
  private wide = false;
  private user = false;
  private globals = false;
  private fetchBit = 0;
  private format: CompiledFormat;
  private second: SecondLevel | null = null;
  private rules: AccessRules = unpagedRules;
  private space = -1;
  /** Identity of `space`. */
  private spaceVpid = 0;
  private spacePcid = 0;
  private spaceRoot = -1;
  private spaceUnpaged = 0;
  private keyLocal = 0;
  private keyShared = 0;
  private codeKey = 0;
  private dataContext = 0;
  private codeContext = 0;
  /** First-level entry that the last probe found or the last fill made. */
  private hitArray: TlbArray;
  private hitSlot = -1;

  constructor(cpu: Cpu) {
    this.cpu = cpu;
    const { memory, profile } = cpu;
    this.u32 = memory.u32;
    this.base = cpu.base;
    this.ramSize = memory.ramSize;
    const cost = (key: string): number => {
      const value = cpu.costs[key];
      if (value === undefined) throw new Error(`profile ${profile.name}: no cost '${key}'; translation needs it`);
      return value;
    };
    this.secondCost = cost('tlb.second');
    this.referenceCost = cost('walk.reference');
    this.walker = new Walker(cpu);
    this.data = new FastContexts(memory, cpu.index, AccessKind.Read, 2);
    this.code = new FastContexts(memory, cpu.index, AccessKind.Execute, 1);
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
    const compile = (format: PageFormat, executeDisable: boolean, pageSizeExtensions: boolean): CompiledFormat => compileFormat(format, {
      physicalAddressBits: profile.physicalAddressBits, executeDisable, pageSizeExtensions, accessedDirty: true,
      pageSize36: cpu.features.has('PSE36') || cpu.features.has('PSE-36'), gigabytePages: cpu.features.has('PAGE1GB') || cpu.features.has('Page1GB'),
    });
    this.formats = [
      compile(format32, false, false), compile(format32, false, true), compile(formatPae, false, true), compile(formatPae, true, true), compile(format4, false, true), compile(format4, true, true),
    ];
    this.format = this.formats[0]!;
    this.codePages = new Uint8Array(memory.ramSize >>> 12);
    this.updateContext();
  }

  // --- the context -----------------------------------------------------------------------------------------------

  updateContext(): void {
    const cpu = this.cpu;
    const cr0 = cpu.get32(S.cr0);
    const cr4 = cpu.get32(S.cr4);
    const user = cpu.get32(S.cpl) === 3;
    const second = cpu.secondLevel;
    const alignmentFlag = (cpu.get32(S.flagsRest) & Flag.AC) !== 0;
    const paged = (cr0 & Cr0.PG) !== 0;
    let dataKey = 0;
    let codeKey = 0;
    let pcid = 0;
    this.second = second;
    this.paged = paged;
    this.user = user;
    this.identity = !paged && second === null;
    if (paged) {
      const efer = cpu.get32(S.efer);
      const nxe = (efer & Efer.NXE) !== 0;
      const smep = (cr4 & Cr4.SMEP) !== 0;
      const smap = (cr4 & Cr4.SMAP) !== 0;
      const pae = (cr4 & Cr4.PAE) !== 0;
      const wide = (efer & Efer.LMA) !== 0;
      this.wide = wide;
      this.pae = pae && !wide;
      this.globals = (cr4 & Cr4.PGE) !== 0;
      this.fetchBit = smep || (pae && nxe) ? PageFault.Fetch : 0;
      this.format = this.formats[wide ? (nxe ? 5 : 4) : pae ? (nxe ? 3 : 2) : cr4 & Cr4.PSE ? 1 : 0]!;
      const writeProtect = (cr0 & Cr0.WP) !== 0;
      this.rules = accessRules[
        (user ? Privilege.User : 0) | (writeProtect ? Privilege.WriteProtect : 0) | (smap ? Privilege.Smap : 0) | (alignmentFlag ? Privilege.AlignmentFlag : 0) | (smep ? Privilege.Smep : 0)
      ]!;
      dataKey = user ? 1 : (writeProtect ? 2 : 0) | (smap && !alignmentFlag ? 4 : 0);
      codeKey = user ? 1 : smep ? 2 : 0;
      if (cr4 & Cr4.PCIDE) pcid = cpu.get32(S.cr3) & 0xfff;
      this.indexLarge(wide || pae ? 21 : 22);
    } else {
      this.wide = false;
      this.pae = false;
      this.globals = false;
      this.rules = unpagedRules;
      this.indexLarge(21);
    }
    const root = second === null ? -1 : second.root;
    const unpaged = paged ? 0 : 1;
    if (this.space < 0 || this.spacePcid !== pcid || this.spaceUnpaged !== unpaged || this.spaceVpid !== this.vpid || this.spaceRoot !== root) this.selectSpace(pcid, root, unpaged);
    this.codeKey = codeKey;
    this.dataContext = user && alignmentFlag && (cr0 & Cr0.AM) !== 0 ? EMPTY_CONTEXT : this.data.select(this.space, dataKey, 0);
    this.u32[(this.base + S.readTable) >>> 2] = this.data.table(this.dataContext, 0);
    this.u32[(this.base + S.writeTable) >>> 2] = this.data.table(this.dataContext, 1);
    this.updateMode();
  }

  updateMode(): void {
    this.codeContext = this.code.select(this.space, this.codeKey, this.cpu.get32(S.mode));
    this.u32[(this.base + S.execTable) >>> 2] = this.code.table(this.codeContext, 0);
  }

  private indexLarge(shift: number): void {
    this.dataLarge.indexShift = shift;
    this.codeLarge.indexShift = shift;
    this.secondLarge.indexShift = shift;
  }

  private readKeys(): void {
    this.keyLocal = this.spaces.local[this.space]! << 16;
    this.keyShared = this.spaces.shared[this.spaces.group[this.space]!]! << 16;
  }

  /** When tags have run out they are renumbered; with too many spaces all translations are forgotten. */
  private selectSpace(pcid: number, root: number, unpaged: number): void {
    let space = this.spaces.find(this.vpid, pcid, root, unpaged);
    if (space < 0) {
      this.compact();
      space = this.spaces.find(this.vpid, pcid, root, unpaged);
    }
    if (space < 0) {
      this.forgetAll();
      space = this.spaces.find(this.vpid, pcid, root, unpaged);
    }
    this.space = space;
    this.spaceVpid = this.vpid;
    this.spacePcid = pcid;
    this.spaceRoot = root;
    this.spaceUnpaged = unpaged;
    this.readKeys();
  }

  private compact(): void {
    const map = this.spaces.compact();
    for (const array of this.arrays) array.retag(map);
    if (this.space >= 0) this.readKeys();
  }

  private forgetAll(): void {
    for (const array of this.arrays) array.reset();
    this.data.reset();
    this.code.reset();
    this.spaces.reset();
    this.space = -1;
  }

  // --- translation -----------------------------------------------------------------------------------------------

  translate(linear: number, kind: AccessKind, system: boolean): number {
    const low = linear | 0;
    if (this.identity) {
      if (kind !== AccessKind.Execute) this.enterIdentity(low);
      return low >>> 0;
    }
    const high = this.wide ? Math.floor(linear / TWO32) : 0;
    const keyLocal = this.keyLocal | (high & 0xffff);
    const keyShared = this.keyShared | (high & 0xffff);
    const rule = kind * 4 + (system ? 2 : 0);
    const need = this.rules[rule]!;
    const forbid = this.rules[rule + 1]!;
    const execute = kind === AccessKind.Execute;
    if (this.probe(execute ? this.codeSmall : this.dataSmall, execute ? this.codeLarge : this.dataLarge, low, keyLocal, keyShared)) {
      const array = this.hitArray;
      const slot = this.hitSlot;
      const rights = array.rights[slot]!;
      if ((rights & need) === need && (rights & forbid) === 0) {
        if (!execute) this.enterData(array, slot, low, high, rights);
        return array.physical[slot]! + (low & ~array.mask[slot]!);
      }
      // the cached translation does not permit this: only the tables in memory can decide
      array.drop(slot);
      this.dropSecond(low, keyLocal, keyShared);
      return this.fill(linear, low, high, kind, system, need, forbid);
    }
    if (execute) this.counters.instructionMisses++;
    else this.counters.dataMisses++;
    if (this.hasSecond && this.probe(this.secondSmall, this.secondLarge, low, keyLocal, keyShared)) {
      const array = this.hitArray;
      const slot = this.hitSlot;
      const rights = array.rights[slot]!;
      this.cpu.charge(this.secondCost, ChargeTo.Translation);
      if ((rights & need) === need && (rights & forbid) === 0) {
        const mask = array.mask[slot]!;
        const frame = array.physical[slot]! + (low & ~mask & -4096);
        this.enterFirst(execute, low, array.key[slot]!, mask === -4096 ? 12 : 31 - Math.clz32(-mask), frame, rights, array.span[slot]!);
        if (!execute) this.enterData(this.hitArray, this.hitSlot, low, high, rights);
        return frame + (low & 0xfff);
      }
      this.dropSecond(low, keyLocal, keyShared);
    }
    return this.fill(linear, low, high, kind, system, need, forbid);
  }

  private probe(small: TlbArray, large: TlbArray, low: number, keyLocal: number, keyShared: number): boolean {
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

  private dropSecond(low: number, keyLocal: number, keyShared: number): void {
    this.secondSmall.dropPage(low, keyLocal, keyShared);
    this.secondLarge.dropPage(low, keyLocal, keyShared);
  }

  /** Walks, and enters what was found. Returns the physical address, or -1 with the fault recorded. */
  private fill(linear: number, low: number, high: number, kind: AccessKind, system: boolean, need: number, forbid: number): number {
    const { walker, second, format, counters } = this;
    let frame: number;
    let shift: number;
    let span: number;
    let rights: number;
    counters.walks++;
    if (this.paged) {
      const root = this.tableRoot(low);
      if (root < 0) return this.pageFault(linear, low, high, kind, system, 0);
      const outcome = walker.walk(format, root, low, high, second, linear);
      if (outcome !== WalkOutcome.Mapped) {
        this.chargeWalk(walker.references, walker.secondReferences);
        if (outcome === WalkOutcome.Aborted) return this.abort(low, high);
        return this.pageFault(linear, low, high, kind, system, outcome === WalkOutcome.Reserved ? PageFault.Present | PageFault.Reserved : 0);
      }
      const guestNeed = need & GUEST_RIGHTS;
      if ((walker.rights & guestNeed) !== guestNeed || (walker.rights & forbid) !== 0) {
        this.chargeWalk(walker.references, walker.secondReferences);
        return this.pageFault(linear, low, high, kind, system, PageFault.Present);
      }
      const marked = walker.mark(format, kind === AccessKind.Write, second, linear);
      this.chargeWalk(walker.references, walker.secondReferences);
      if (!marked) return this.abort(low, high);
      frame = walker.frame;
      span = walker.shift;
      shift = span;
      rights = walker.rights | Right.SecondWrite;
      if (this.globals && (walker.leafLow & format.globalMask) !== 0) rights |= GLOBAL_RIGHT;
    } else {
      frame = (low & -4096) >>> 0;
      span = UNPAGED_SPAN;
      shift = 30;
      rights = GUEST_RIGHTS | Right.Read | Right.Dirty | Right.SecondWrite;
    }
    if (second !== null) {
      const host = second.translate(this.cpu, frame + (low & 0xfff), kind === AccessKind.Write ? 2 : kind === AccessKind.Read ? 1 : 4, TranslatePurpose.Page, linear);
      this.chargeWalk(0, second.references);
      if (host < 0) return this.abort(low, high);
      frame = host - (low & 0xfff);
      const { permissions, pageShift } = second;
      if (!(permissions & 1)) rights &= ~Right.Read;
      if (!(permissions & 2)) rights &= ~Right.SecondWrite;
      if (!(permissions & 4)) rights &= ~Right.Execute;
      if (pageShift < shift) shift = pageShift;
    }
    const key = ((rights & GLOBAL_RIGHT) !== 0 ? this.keyShared : this.keyLocal) | (high & 0xffff);
    if (this.hasSecond) this.enterArray(this.secondSmall, this.secondLarge, false, low, key, shift, frame, rights, span);
    this.enterFirst(kind === AccessKind.Execute, low, key, shift, frame, rights, span);
    if (kind !== AccessKind.Execute) this.enterData(this.hitArray, this.hitSlot, low, high, rights);
    const observer = this.cpu.observer;
    if (observer !== null && observer.tlbFill !== undefined) observer.tlbFill(linear, frame, walker.references + walker.secondReferences);
    return frame + (low & 0xfff);
  }

  /** Address of the first table: CR3, or under PAE paging the PDPTE register of the address (-1: not present). */
  private tableRoot(low: number): number {
    const at = (this.base + (this.pae ? S.pdpte + (low >>> 30) * 8 : S.cr3)) >>> 2;
    const word = this.u32[at]!;
    if (this.pae && (word & 1) === 0) return -1;
    const root = (word & -4096) >>> 0;
    const upper = this.u32[at + 1]! & this.format.addressHigh;
    return upper === 0 ? root : root + upper * TWO32;
  }

  private chargeWalk(own: number, second: number): void {
    this.counters.walkReferences += own;
    this.counters.secondLevelReferences += second;
    this.cpu.charge((own + second) * this.referenceCost, ChargeTo.Translation);
  }

  /** Records a page fault, which also invalidates what the TLB holds for the page (SDM "Invalidation of TLBs and Paging-Structure Caches"). */
  private pageFault(linear: number, low: number, high: number, kind: AccessKind, system: boolean, error: number): number {
    if (kind === AccessKind.Write) error |= PageFault.Write;
    else if (kind === AccessKind.Execute) error |= this.fetchBit;
    if (this.user && !system) error |= PageFault.User;
    this.dropCurrent(low, high);
    this.cpu.set32(S.faultVector, Vector.PageFault);
    this.cpu.set32(S.faultError, error);
    this.cpu.setSigned(S.faultLinear, linear);
    return -1;
  }

  private abort(low: number, high: number): number {
    this.dropCurrent(low, high);
    this.cpu.set32(S.faultVector, ABORT_VECTOR);
    return -1;
  }

  // --- filling ---------------------------------------------------------------------------------------------------

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
    if (span > size && span !== UNPAGED_SPAN) this.pieces[((low >>> span) + span) & 0xff] = 1;
    const slot = array.insert(low, key, mask, frame - (low & ~mask & -4096), rights, span);
    if (first) {
      this.hitArray = array;
      this.hitSlot = slot;
    }
  }

  /** Fills the read and write tables of the current context with one page, as far as the entry permits. */
  private enterData(array: TlbArray, slot: number, low: number, high: number, rights: number): void {
    const context = this.dataContext;
    if (context === EMPTY_CONTEXT) return;
    const physical = array.physical[slot]! + (low & ~array.mask[slot]! & -4096);
    if (physical >= this.ramSize) return;
    const { rules } = this;
    const page = low & -4096;
    const global = (rights & GLOBAL_RIGHT) !== 0;
    if ((rights & rules[0]!) !== rules[0]! || (rights & rules[1]!) !== 0) return;
    this.data.enter(context, 0, page, high, physical, 0, global);
    array.contexts[slot]! |= 1 << context;
    if ((rights & rules[4]!) === rules[4]!) this.data.enter(context, 1, page, this.codePages[physical >>> 12] !== 0 ? high ^ CODE_TAG_HIGH : high, physical, 0, global);
  }

  private enterIdentity(low: number): void {
    const context = this.dataContext;
    const page = low & -4096;
    if (context === EMPTY_CONTEXT || page >>> 0 >= this.ramSize) return;
    this.data.enter(context, 0, page, 0, page, 0, false);
    this.data.enter(context, 1, page, this.codePages[page >>> 12] !== 0 ? CODE_TAG_HIGH : 0, page, 0, false);
  }

  enterExecute(linear: number, codeMap: number): boolean {
    const low = linear | 0;
    const page = low & -4096;
    if (this.identity) {
      if (page >>> 0 >= this.ramSize) return false;
      this.code.enter(this.codeContext, 0, page, 0, page, codeMap, false);
      return true;
    }
    const high = this.wide ? Math.floor(linear / TWO32) : 0;
    if (!this.probe(this.codeSmall, this.codeLarge, low, this.keyLocal | (high & 0xffff), this.keyShared | (high & 0xffff))) return false;
    const { hitArray: array, hitSlot: slot, rules } = this;
    const rights = array.rights[slot]!;
    const physical = array.physical[slot]! + (low & ~array.mask[slot]! & -4096);
    if (physical >= this.ramSize || (rights & rules[8]!) !== rules[8]! || (rights & rules[9]!) !== 0) return false;
    this.code.enter(this.codeContext, 0, page, high, physical, codeMap, (rights & GLOBAL_RIGHT) !== 0);
    array.contexts[slot]! |= 1 << this.codeContext;
    return true;
  }

  dropExecute(codeMap: number): void {
    this.code.dropAux(0, codeMap);
  }

  codePageChanged(physicalPage: number, hasCode: boolean): void {
    const value = hasCode ? 1 : 0;
    if (this.codePages[physicalPage] === value) return;
    this.codePages[physicalPage] = value;
    this.data.retag(1, physicalPage * 4096, hasCode);
  }

  peek(linear: number): number {
    const low = linear | 0;
    if (this.identity) return low >>> 0;
    if (!this.paged) return this.second?.peek?.(this.cpu, low >>> 0) ?? -1;
    const high = this.wide ? Math.floor(linear / TWO32) : 0;
    if (high < -0x8000 || high > 0x7fff) return -1;
    const root = this.tableRoot(low);
    return root < 0 ? -1 : this.walker.peek(this.format, root, low, high, this.second);
  }

  // --- invalidation ----------------------------------------------------------------------------------------------

  /** Drops one page of the current space. */
  private dropCurrent(low: number, high: number): void {
    const keyLocal = this.keyLocal | (high & 0xffff);
    const keyShared = this.keyShared | (high & 0xffff);
    this.dropKeys(low, keyLocal, keyShared);
  }

  private dropKeys(low: number, keyLocal: number, keyShared: number): void {
    const { pieces } = this;
    if (pieces[((low >>> 21) + 21) & 0xff]! | pieces[((low >>> 22) + 22) & 0xff]! | pieces[((low >>> 30) + 30) & 0xff]!) {
      for (let i = 0; i < 6; i++) this.arrays[i]!.dropSpan(low, keyLocal, keyShared);
      return;
    }
    this.dataSmall.dropPage(low, keyLocal, keyShared);
    this.codeSmall.dropPage(low, keyLocal, keyShared);
    this.secondSmall.dropPage(low, keyLocal, keyShared);
    this.dataLarge.dropPage(low, keyLocal, keyShared);
    this.codeLarge.dropPage(low, keyLocal, keyShared);
    this.secondLarge.dropPage(low, keyLocal, keyShared);
  }

  /** Drops one page of every space of a VPID (and PCID, unless ANY), global entries included or not. */
  private dropWhere(linear: number, vpid: number, pcid: number, global: boolean): void {
    const low = linear | 0;
    const high = Math.floor(linear / TWO32) & 0xffff;
    const { spaces } = this;
    for (let space = 0; space < spaces.count; space++) {
      if (!this.matches(space, vpid, pcid, ANY)) continue;
      const keyLocal = (spaces.local[space]! << 16) | high;
      const keyShared = global ? (spaces.shared[spaces.group[space]!]! << 16) | high : keyLocal;
      if (space === this.space) this.dropKeys(low, keyLocal, keyShared);
      // another space may use another paging format, so its sets are not known here
      else for (const array of this.arrays) array.dropSpan(low, keyLocal, keyShared);
    }
  }

  private matches(space: number, vpid: number, pcid: number, root: number): boolean {
    const { spaces } = this;
    if (spaces.unpaged[space] === 1 && spaces.root[space]! < 0) return false; // nothing is modelled there
    if (vpid !== ANY && (vpid === NONZERO ? spaces.vpid[space] === 0 : spaces.vpid[space] !== vpid)) return false;
    if (pcid !== ANY && spaces.pcid[space] !== pcid) return false;
    return root === ANY || (root === NONZERO ? spaces.root[space]! >= 0 : spaces.root[space] === root);
  }

  /** Flushes all spaces that match; their global entries too if asked. */
  private flushWhere(vpid: number, pcid: number, root: number, global: boolean): void {
    const { spaces } = this;
    for (let space = 0; space < spaces.count; space++) {
      if (!this.matches(space, vpid, pcid, root)) continue;
      if (spaces.full) this.compact();
      spaces.renewLocal(space);
      if (global) {
        if (spaces.full) this.compact();
        spaces.renewShared(spaces.group[space]!);
      }
      this.data.clearSpace(space, !global);
      this.code.clearSpace(space, !global);
    }
    for (let i = 0; i < 6; i++) this.arrays[i]!.forget();
    this.readKeys();
  }

  private currentPcid(): number {
    return this.cpu.get32(S.cr4) & Cr4.PCIDE ? this.cpu.get32(S.cr3) & 0xfff : 0;
  }

  invalidatePage(linear: number): void { this.dropWhere(linear, this.vpid, this.currentPcid(), true); }

  flushNonGlobal(): void { this.flushWhere(this.vpid, this.currentPcid(), ANY, false); }

  flushAll(): void { this.flushWhere(this.vpid, ANY, ANY, true); }

  invalidatePcid(type: number, pcid: number, linear: number): void {
    if (type === 0) this.dropWhere(linear, this.vpid, pcid, false);
    else if (type === 1) this.flushWhere(this.vpid, pcid, ANY, false);
    else if (type === 2) this.flushAll();
    else if (type === 3) this.flushWhere(this.vpid, ANY, ANY, false);
    else throw new Error(`invalidatePcid: type ${type}; INVPCID raises #GP for types above 3 before it gets here`);
  }

  invalidateVpid(vpid: number, linear?: number, keepGlobal = false): void {
    if (linear !== undefined) this.dropWhere(linear, vpid, ANY, true);
    else this.flushWhere(vpid === -1 ? NONZERO : vpid, ANY, ANY, !keepGlobal);
  }

  invalidateEpt(root: number): void { this.flushWhere(ANY, ANY, root === -1 ? NONZERO : root, true); }

  // --- snapshots -------------------------------------------------------------------------------------------------

  save(): SavedTranslation {
    return { vpid: this.vpid, spaces: this.spaces.save(), arrays: this.arrays.map((array) => array.save()), counters: { ...this.counters } };
  }

  /** Restores the modelled TLB. The CPU's registers must be restored first: the context is selected from them. */
  load(saved: unknown): void {
    const state = saved as SavedTranslation;
    this.forgetAll();
    this.vpid = state.vpid;
    this.spaces.load(state.spaces);
    this.arrays.forEach((array, i) => array.load(state.arrays[i]!));
    Object.assign(this.counters, state.counters);
    this.pieces.fill(1);
    this.updateContext();
  }
}
