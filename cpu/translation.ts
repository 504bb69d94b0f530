import { accessRules, GUEST_RIGHTS, PageFault, Privilege, unpagedRules, type AccessRules } from './access-rules.ts';
import { ChargeTo, type Cpu } from './cpu.ts';
import { EMPTY_CONTEXT } from './fast-contexts.ts';
import { Vector } from './fault.ts';
import { TranslatePurpose, type SecondLevel } from './hooks.ts';
import { CODE_TAG_HIGH } from './memory.ts';
import { ABORT_VECTOR, AccessKind, type Mmu, type TlbCounters } from './mmu.ts';
import { compileFormat, format32, format4, formatPae, Right, type CompiledFormat, type PageFormat } from './page-format.ts';
import { Cr0, Cr4, Efer, Flag, S } from './state.ts';
import { GLOBAL_RIGHT, type TlbArray } from './tlb.ts';
import { ANY, NONZERO, TlbModel, UNPAGED_SPAN, type SavedTlb } from './tlb-model.ts';
import { Walker, WalkOutcome } from './walk.ts';

const TWO32 = 4294967296;

/** State of a {@link Translation} as plain data. */
export interface SavedTranslation {
  readonly vpid: number;
  readonly tlb: SavedTlb;
  readonly counters: TlbCounters;
}

/**
 * Linear-address translation of one CPU: the modelled TLB over the walker, and the fast tables over the modelled
 * TLB. See {@link Mmu} for the contract.
 *
 * A fast entry exists only while a first-level entry of the modelled TLB backs it and permits the access in that
 * context, so using one needs no bookkeeping. Without paging and without a second level nothing is modelled and
 * every RAM page may be entered.
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
  private readonly tlb: TlbModel;
  /** [32-bit, 32-bit with PSE, PAE, PAE with NXE, 4-level, 4-level with NXE]. */
  private readonly formats: readonly CompiledFormat[];
  /** By RAM page: it holds decoded code. */
  private readonly codePages: Uint8Array;
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
  private codeKey = 0;
  private dataContext = 0;
  private codeContext = 0;

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
    this.tlb = new TlbModel(profile, memory, cpu.index);
    const compile = (format: PageFormat, executeDisable: boolean, pageSizeExtensions: boolean): CompiledFormat => compileFormat(format, {
      physicalAddressBits: profile.physicalAddressBits, executeDisable, pageSizeExtensions, accessedDirty: true,
      pageSize36: cpu.features.has('PSE36'), gigabytePages: cpu.features.has('PDPE1GB'),
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
    const { cpu, tlb } = this;
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
      tlb.indexLarge(wide || pae ? 21 : 22);
    } else {
      this.wide = false;
      this.pae = false;
      this.globals = false;
      this.rules = unpagedRules;
      tlb.indexLarge(21);
    }
    tlb.select(this.vpid, pcid, second === null ? -1 : second.root, paged ? 0 : 1);
    this.codeKey = codeKey;
    this.dataContext = user && alignmentFlag && (cr0 & Cr0.AM) !== 0 ? EMPTY_CONTEXT : tlb.data.select(tlb.space, dataKey, 0);
    this.u32[(this.base + S.readTable) >>> 2] = tlb.data.table(this.dataContext, 0);
    this.u32[(this.base + S.writeTable) >>> 2] = tlb.data.table(this.dataContext, 1);
    this.updateMode();
  }

  updateMode(): void {
    this.codeContext = this.tlb.code.select(this.tlb.space, this.codeKey, this.cpu.get32(S.mode));
    this.u32[(this.base + S.execTable) >>> 2] = this.tlb.code.table(this.codeContext, 0);
  }

  // --- translation -----------------------------------------------------------------------------------------------

  translate(linear: number, kind: AccessKind, system: boolean): number {
    const low = linear | 0;
    if (this.identity) {
      if (kind !== AccessKind.Execute) this.enterIdentity(low);
      return low >>> 0;
    }
    const high = this.wide ? Math.floor(linear / TWO32) : 0;
    const { tlb } = this;
    const rule = kind * 4 + (system ? 2 : 0);
    const need = this.rules[rule]!;
    const forbid = this.rules[rule + 1]!;
    const execute = kind === AccessKind.Execute;
    if (tlb.probeFirst(execute, low, high)) {
      const array = tlb.hitArray;
      const slot = tlb.hitSlot;
      const rights = array.rights[slot]!;
      if ((rights & need) === need && (rights & forbid) === 0) {
        // what the kernel's tables need is of no use to the user's context
        if (!execute && !(system && this.user)) this.enterData(array, slot, low, high, rights);
        return array.physical[slot]! + (low & ~array.mask[slot]!);
      }
      // the cached translation does not permit this: only the tables in memory can decide
      array.drop(slot);
      tlb.dropSecond(low, high);
      return this.fill(linear, low, high, kind, system, need, forbid);
    }
    if (execute) this.counters.instructionMisses++;
    else this.counters.dataMisses++;
    if (tlb.hasSecond && tlb.probeSecond(low, high)) {
      const rights = tlb.hitArray.rights[tlb.hitSlot]!;
      this.cpu.charge(this.secondCost, ChargeTo.Translation);
      if ((rights & need) === need && (rights & forbid) === 0) {
        const frame = tlb.promote(execute, low);
        if (!execute) this.enterData(tlb.hitArray, tlb.hitSlot, low, high, rights);
        return frame + (low & 0xfff);
      }
      tlb.dropSecond(low, high);
    }
    return this.fill(linear, low, high, kind, system, need, forbid);
  }

  /** Walks, and enters what was found. Returns the physical address, or -1 with the fault recorded. */
  private fill(linear: number, low: number, high: number, kind: AccessKind, system: boolean, need: number, forbid: number): number {
    const { walker, second, format, counters, tlb } = this;
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
    tlb.enter(kind === AccessKind.Execute, low, high, shift, frame, rights, span);
    if (kind !== AccessKind.Execute) this.enterData(tlb.hitArray, tlb.hitSlot, low, high, rights);
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
    this.tlb.dropCurrent(low, high);
    this.cpu.set32(S.faultVector, Vector.PageFault);
    this.cpu.set32(S.faultError, error);
    this.cpu.setSigned(S.faultLinear, linear);
    return -1;
  }

  private abort(low: number, high: number): number {
    this.tlb.dropCurrent(low, high);
    this.cpu.set32(S.faultVector, ABORT_VECTOR);
    return -1;
  }

  // --- filling ---------------------------------------------------------------------------------------------------

  /** Fills the read and write tables of the current context with one page, as far as the entry permits. */
  private enterData(array: TlbArray, slot: number, low: number, high: number, rights: number): void {
    const context = this.dataContext;
    if (context === EMPTY_CONTEXT) return;
    const physical = array.physical[slot]! + (low & ~array.mask[slot]! & -4096);
    if (physical >= this.ramSize) return;
    const { rules, tlb } = this;
    const page = low & -4096;
    const global = (rights & GLOBAL_RIGHT) !== 0;
    if ((rights & rules[0]!) !== rules[0]! || (rights & rules[1]!) !== 0) return;
    tlb.data.enter(context, 0, page, high, physical, 0, global);
    array.contexts[slot]! |= 1 << context;
    if ((rights & rules[4]!) === rules[4]!) tlb.data.enter(context, 1, page, this.codePages[physical >>> 12] !== 0 ? high ^ CODE_TAG_HIGH : high, physical, 0, global);
  }

  private enterIdentity(low: number): void {
    const context = this.dataContext;
    const page = low & -4096;
    if (context === EMPTY_CONTEXT || page >>> 0 >= this.ramSize) return;
    this.tlb.data.enter(context, 0, page, 0, page, 0, false);
    this.tlb.data.enter(context, 1, page, this.codePages[page >>> 12] !== 0 ? CODE_TAG_HIGH : 0, page, 0, false);
  }

  enterExecute(linear: number, codeMap: number): boolean {
    const low = linear | 0;
    const page = low & -4096;
    if (this.identity) {
      if (page >>> 0 >= this.ramSize) return false;
      this.tlb.code.enter(this.codeContext, 0, page, 0, page, codeMap, false);
      return true;
    }
    const high = this.wide ? Math.floor(linear / TWO32) : 0;
    const { rules, tlb } = this;
    if (!tlb.probeFirst(true, low, high)) return false;
    const { hitArray: array, hitSlot: slot } = tlb;
    const rights = array.rights[slot]!;
    const physical = array.physical[slot]! + (low & ~array.mask[slot]! & -4096);
    if (physical >= this.ramSize || (rights & rules[8]!) !== rules[8]! || (rights & rules[9]!) !== 0) return false;
    tlb.code.enter(this.codeContext, 0, page, high, physical, codeMap, (rights & GLOBAL_RIGHT) !== 0);
    array.contexts[slot]! |= 1 << this.codeContext;
    return true;
  }

  dropExecute(codeMap: number): void {
    this.tlb.code.dropAux(0, codeMap);
  }

  codePageChanged(physicalPage: number, hasCode: boolean): void {
    const value = hasCode ? 1 : 0;
    if (this.codePages[physicalPage] === value) return;
    this.codePages[physicalPage] = value;
    this.tlb.data.retag(1, physicalPage * 4096, hasCode);
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

  private currentPcid(): number {
    return this.cpu.get32(S.cr4) & Cr4.PCIDE ? this.cpu.get32(S.cr3) & 0xfff : 0;
  }

  invalidatePage(linear: number): void { this.tlb.dropWhere(linear, this.vpid, this.currentPcid(), true); }

  flushNonGlobal(): void { this.tlb.flushWhere(this.vpid, this.currentPcid(), ANY, false); }

  flushAll(): void { this.tlb.flushWhere(this.vpid, ANY, ANY, true); }

  invalidatePcid(type: number, pcid: number, linear: number): void {
    if (type === 0) this.tlb.dropWhere(linear, this.vpid, pcid, false);
    else if (type === 1) this.tlb.flushWhere(this.vpid, pcid, ANY, false);
    else if (type === 2) this.flushAll();
    else if (type === 3) this.tlb.flushWhere(this.vpid, ANY, ANY, false);
    else throw new Error(`invalidatePcid: type ${type}; INVPCID raises #GP for types above 3 before it gets here`);
  }

  invalidateVpid(vpid: number, linear?: number, keepGlobal = false): void {
    if (linear !== undefined) this.tlb.dropWhere(linear, vpid, ANY, true);
    else this.tlb.flushWhere(vpid === -1 ? NONZERO : vpid, ANY, ANY, !keepGlobal);
  }

  invalidateEpt(root: number): void { this.tlb.flushWhere(ANY, ANY, root === -1 ? NONZERO : root, true); }

  // --- snapshots -------------------------------------------------------------------------------------------------

  save(): SavedTranslation {
    return { vpid: this.vpid, tlb: this.tlb.save(), counters: { ...this.counters } };
  }

  /** Restores the modelled TLB. The CPU's registers must be restored first: the context is selected from them. */
  load(saved: unknown): void {
    const state = saved as SavedTranslation;
    this.vpid = state.vpid;
    this.tlb.load(state.tlb);
    Object.assign(this.counters, state.counters);
    this.updateContext();
  }
}
