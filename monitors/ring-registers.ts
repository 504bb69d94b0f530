import { loadPageDirectoryBase } from '../cpu/control.ts';
import { ChargeTo, type Cpu } from '../cpu/cpu.ts';
import { loadSegment } from '../cpu/descriptor.ts';
import { isFault } from '../cpu/fault.ts';
import type { Instruction } from '../cpu/instruction.ts';
import { iret } from '../cpu/iret.ts';
import { Access, Cr0, Cr4, Efer, Flag, Gpr, S, SegmentIndex } from '../cpu/state.ts';
import { isa } from '../machine/isa.ts';
import { encodeDescriptor, GUEST_END, imageLimit, isUnusable, segmentImage, SystemAccess, type DescriptorTable, type DescriptorWords, type SegmentRegister } from './ring-descriptors.ts';
import type { Port } from './port.ts';
import type { GuestPaging } from './shadow.ts';

/**
 * Moves guest registers between the physical CPU, which runs the guest's kernel in ring 1, and the virtual CPU, where
 * it is in ring 0. With monitors/guest-registers.ts and monitors/port.ts the only files of monitors/ that know the CPU
 * state layout.
 */

/** Linear addresses of the monitor's own pages. */
export const MonitorLinear = { Firmware: 0xffe00000, Tables: 0xffe01000, Stack: 0xffe02000, Gdt: 0xffe10000, Ldt: 0xffe20000 } as const;
/** Places on the firmware page behind those of the 256 gates. */
export const Entrance = { Stay: 0xff0, Idle: 0xff8 } as const;
/** Pages in the order of their host-physical run: firmware, IDT and TSS, stack, GDT, LDT. */
export const MONITOR_PAGES = 3 + 16 + 16;
export function monitorPages(physical: number): readonly (readonly [number, number])[] {
  const pages: [number, number][] = [[MonitorLinear.Firmware, physical], [MonitorLinear.Tables, physical + 0x1000], [MonitorLinear.Stack, physical + 0x2000]];
  for (let i = 0; i < 16; i++) {
    pages.push([MonitorLinear.Gdt + i * 4096, physical + 0x3000 + i * 4096]);
    pages.push([MonitorLinear.Ldt + i * 4096, physical + 0x13000 + i * 4096]);
  }
  return pages;
}

/** The monitor's own entries at the end of the real GDT. The slots hold segments that the guest's table no longer has. */
const FIRST_OWN = 8180;
const Own = { Slots: FIRST_OWN, Code: FIRST_OWN + 6, Data: FIRST_OWN + 7, Tss: FIRST_OWN + 8, Ldt: FIRST_OWN + 9 } as const;
/** Entries of the real GDT that mirror the guest's. */
export const GUEST_ENTRIES = FIRST_OWN;
export const MONITOR_CODE = Own.Code * 8;
const TSS_OFFSET = 2048;
const STACK_TOP = MonitorLinear.Stack + 4096;
/** Below the top of the monitor's stack: EIP CS EFLAGS ESP SS as the hardware pushed them. */
const FRAME = 20;
const FrameAt = { Eip: 0, Cs: 4, Eflags: 8, Esp: 12, Ss: 16 } as const;

/** Flags that only the virtual CPU has. */
const VIRTUAL_FLAGS = Flag.IF | Flag.IOPL | Flag.VIF | Flag.VIP;
/** CR0, CR4 and EFER bits that act in the real registers as the guest sets them. */
const CR0_SHARED = Cr0.MP | Cr0.EM | Cr0.TS | Cr0.AM;
const CR4_SHARED = Cr4.TSD | Cr4.DE | Cr4.OSFXSR | Cr4.OSXMMEXCPT | Cr4.MCE | Cr4.PCE | Cr4.UMIP;
const CR4_PAGED = Cr4.SMEP | Cr4.SMAP;
/** Registers that both CPUs share outright: [state offset, bytes]. ESP is in the frame. */
const GENERAL: readonly (readonly [number, number])[] = [[S.gpr, 4 * 8], [S.gpr + 5 * 8, 3 * 8]];
const EXTENDED: readonly (readonly [number, number])[] = [[S.mxcsr, 4], [S.xmm, 256], [S.x87, 512]];

/** Segment registers in the order in which they are loaded; CS and SS come with IRET. */
const data = [SegmentIndex.ES, SegmentIndex.DS, SegmentIndex.FS, SegmentIndex.GS] as const;

const image: DescriptorWords = { low: 0, high: 0 };

export class RingRegisters {
  private readonly physical: Cpu;
  private readonly virtual: Cpu;
  private readonly port: Port;
  private readonly run: number;
  private readonly gdt: DescriptorTable;
  private readonly ldt: DescriptorTable;
  /** By segment register: the selector last put into the real one, and what the guest believes it holds. */
  private readonly realSelector = new Int32Array(6).fill(-1);
  private readonly slots: (SegmentRegister | null)[] = [null, null, null, null, null, null];
  /** Virtual segment registers as last carried over, so that unchanged ones are left alone. */
  private readonly carried: SegmentRegister[] = Array.from({ length: 6 }, () => ({ selector: -1, base: 0, limit: 0, attributes: 0 }));
  private generation = -1;
  private seen = { cr0: 0, cr3: 0, cr4: 0, efer: 0 };
  private readonly iretRow: Instruction;
  private readonly interruptCost: number;

  /** @param run host-physical address of the monitor's pages */
  constructor(physical: Cpu, virtual: Cpu, port: Port, run: number, gdt: DescriptorTable, ldt: DescriptorTable) {
    this.physical = physical;
    this.virtual = virtual;
    this.port = port;
    this.run = run;
    this.gdt = gdt;
    this.ldt = ldt;
    const row = isa.rows.find((candidate) => candidate.mnemonic === 'IRETD') ?? isa.rows.find((candidate) => candidate.cost === 'iret')!;
    this.interruptCost = Math.max(1, Math.round(physical.costs['int']!));
    this.iretRow = {
      row, length: 1, codeSize: 32, operandSize: 32, addressSize: 32, rex: 0, lock: false, rep: 0, override: -1, segment: SegmentIndex.DS, modrm: -1, reg: 0, rm: 0,
      memory: false, base: -1, index: -1, scale: 0, displacement: 0, displacementHigh: 0, immediate: 0, immediateHigh: 0, immediate2: 0,
    };
  }

  // --- the monitor's own environment -----------------------------------------------------------------------------
  /** Builds GDT, TSS and IDT, and puts the CPU into ring 0 on them. */
  enterMonitor(root: number): void {
    const { physical: cpu, port, run } = this;
    const own = (entry: number, base: number, limit: number, attributes: number): void => {
      const [low, high] = encodeDescriptor(base, limit, attributes);
      this.gdt.writeReal(entry, low, high);
    };
    own(Own.Code, 0, 0xffffffff, SystemAccess.Code);
    own(Own.Data, 0, 0xffffffff, SystemAccess.Data);
    own(Own.Tss, MonitorLinear.Tables + TSS_OFFSET, 0x67, SystemAccess.Tss | 2);
    own(Own.Ldt, MonitorLinear.Ldt, 0xffff, SystemAccess.Ldt);
    const tss = run + 0x1000 + TSS_OFFSET;
    port.writeHost(tss + 4, STACK_TOP);
    port.writeHost(tss + 8, Own.Data * 8);
    port.writeHost(tss + 100, 0x68 << 16); // the I/O permission bit map lies beyond the limit
    for (let vector = 0; vector < 256; vector++) this.setGate(vector, 0);
    cpu.set64(S.cr0, BigInt(Cr0.PE | Cr0.ET));
    for (const n of data) cpu.setSegment(n, 0, 0, 0, Access.Unusable);
    cpu.setSegment(SegmentIndex.CS, MONITOR_CODE, 0, 0xffffffff, SystemAccess.Code);
    cpu.setSegment(SegmentIndex.SS, Own.Data * 8, 0, 0xffffffff, SystemAccess.Data);
    cpu.setSegment(SegmentIndex.TR, Own.Tss * 8, MonitorLinear.Tables + TSS_OFFSET, 0x67, SystemAccess.Tss | 2);
    cpu.setSegment(SegmentIndex.LDTR, Own.Ldt * 8, MonitorLinear.Ldt, 0xffff, SystemAccess.Ldt);
    cpu.setSigned(S.gdtrBase, MonitorLinear.Gdt);
    cpu.set32(S.gdtrLimit, 0xffff);
    cpu.setSigned(S.idtrBase, MonitorLinear.Tables);
    cpu.set32(S.idtrLimit, 256 * 8 - 1);
    cpu.cpl = 0;
    cpu.flags = 2;
    this.setPaging(root, false);
  }

  /** Gate of a vector: to its place on the firmware page; `dpl` says from which ring INT n may use it. */
  setGate(vector: number, dpl: number): void {
    const at = this.run + 0x1000 + vector * 8;
    const target = MonitorLinear.Firmware + vector * 8;
    this.port.writeHost(at, ((MONITOR_CODE << 16) | (target & 0xffff)) >>> 0);
    this.port.writeHost(at + 4, ((target & 0xffff0000) | 0x8e00 | (dpl << 13)) >>> 0);
  }

  /** Real control registers for the virtual ones, on the shadow tables at `root`. */
  setPaging(root: number, pae: boolean): void {
    const { physical: cpu, virtual, port } = this;
    const paged = (virtual.get32(S.cr0) & Cr0.PG) !== 0;
    const cr0 = (Cr0.PE | Cr0.PG | Cr0.WP | Cr0.NE | Cr0.ET | (virtual.get32(S.cr0) & CR0_SHARED)) >>> 0;
    const cr4 = (virtual.get32(S.cr4) & (CR4_SHARED | (paged ? CR4_PAGED : 0))) | (pae ? Cr4.PAE : 0);
    const efer = pae ? virtual.get32(S.efer) & Efer.NXE : 0;
    if (cpu.get32(S.cr0) !== cr0 || cpu.get32(S.cr4) !== cr4 || cpu.get32(S.efer) !== efer) {
      port.spend('cr');
      cpu.set32(S.cr0, cr0);
      cpu.set32(S.cr4, cr4);
      cpu.set32(S.efer, efer);
      cpu.mmu.updateContext();
      cpu.mmu.flushAll();
    }
    this.reloadRoot(root);
  }
  /** MOV to CR3: the hardware forgets its translations. */
  reloadRoot(root: number): void {
    this.port.spend('cr');
    loadPageDirectoryBase(this.physical, root, 0);
  }
  dropPage(linear: number): void {
    this.port.spend('invlpg');
    this.physical.mmu.invalidatePage(linear);
  }
  /** Whether the virtual control registers ask for other real ones than {@link setPaging} last set (paging aside). */
  sharedChanged(): boolean {
    const { physical, virtual } = this;
    return ((physical.get32(S.cr0) ^ virtual.get32(S.cr0)) & CR0_SHARED) !== 0 || ((physical.get32(S.cr4) ^ virtual.get32(S.cr4)) & CR4_SHARED) !== 0;
  }
  /** Carries CR0 and CR4 bits over that do not touch translation. */
  shareControl(): void {
    const { physical: cpu, virtual } = this;
    this.port.spend('cr');
    cpu.set32(S.cr0, ((cpu.get32(S.cr0) & ~CR0_SHARED) | (virtual.get32(S.cr0) & CR0_SHARED)) >>> 0);
    cpu.set32(S.cr4, (cpu.get32(S.cr4) & ~CR4_SHARED) | (virtual.get32(S.cr4) & CR4_SHARED));
    cpu.mmu.updateContext();
  }

  // --- the frame on the monitor's stack ---------------------------------------------------------------------------
  private frame(at: number): number { return this.port.readHost(this.run + 0x3000 - FRAME + at); }
  private setFrame(at: number, value: number): void { this.port.writeHost(this.run + 0x3000 - FRAME + at, value >>> 0); }
  get frameEip(): number { return this.frame(FrameAt.Eip); }
  get frameCs(): number { return this.frame(FrameAt.Cs); }
  get frameEflags(): number { return this.frame(FrameAt.Eflags); }
  /** Error code, below the frame. */
  get errorCode(): number { return this.frame(-4); }
  /** The trap came from the monitor's own idle loop, or hit it on its way in: nothing below the guest's frame matters. */
  get nested(): boolean { return this.physical.reg32(Gpr.RSP) < STACK_TOP - FRAME - 4; }
  /** EFLAGS.AC in an explicit supervisor access (SMAP). */
  get alignmentFlag(): boolean { return (this.frame(FrameAt.Eflags) & Flag.AC) !== 0 && (this.frame(FrameAt.Cs) & 3) !== 3; }
  get pageFaultAddress(): number { return this.physical.get32(S.cr2); }
  /** DR6 as the hardware left it, cleared for the next time. */
  takeDebugStatus(): number {
    const status = this.physical.get32(S.dr + 48) & 0xe00f;
    this.physical.set32(S.dr + 48, 0xffff0ff0);
    return status;
  }

  // --- physical to virtual ----------------------------------------------------------------------------------------
  /** Everything the guest may have changed since it was last resumed. `stepping`: TF in the real flags is the monitor's. */
  fetch(stepping: boolean): void {
    const { physical, virtual } = this;
    for (const [offset, bytes] of GENERAL) virtual.u8.copyWithin(virtual.base + offset, physical.base + offset, physical.base + offset + bytes);
    const cs = this.frame(FrameAt.Cs);
    const ring = cs & 3;
    virtual.setSigned(S.rip, this.frame(FrameAt.Eip));
    virtual.setReg32(Gpr.RSP, this.frame(FrameAt.Esp));
    const kept = stepping ? VIRTUAL_FLAGS | Flag.TF : VIRTUAL_FLAGS;
    const before = virtual.get32(S.flagsRest);
    virtual.flags = (this.frame(FrameAt.Eflags) & ~kept) | (before & kept);
    const cpl = ring === 1 ? 0 : ring;
    this.fetchSegment(SegmentIndex.CS, cs, ring);
    this.fetchSegment(SegmentIndex.SS, this.frame(FrameAt.Ss) & 0xffff, ring);
    for (const n of data) this.fetchSegment(n, physical.selector(n), -1);
    if (virtual.cpl !== cpl || (before ^ virtual.get32(S.flagsRest)) & Flag.AC) {
      virtual.cpl = cpl;
      virtual.mmu.updateContext();
    }
    virtual.set32(S.activity, 0);
    virtual.set32(S.blockInterrupts, 0);
  }

  private fetchSegment(n: number, real: number, ring: number): void {
    if (real === this.realSelector[n]) return;
    // the guest loaded it itself: from its own tables, which the real ones mirror
    const { virtual } = this;
    this.realSelector[n] = real;
    const i = real >> 3;
    let segment: SegmentRegister;
    if (!(real & 4) && i >= Own.Slots && i < Own.Slots + 6) {
      const slot = this.slots[i - Own.Slots];
      if (!slot) throw new Error(`segment register ${n} holds the monitor's selector ${real.toString(16)}`);
      segment = slot;
    } else if ((real & 0xfffc) === 0) segment = { selector: real, base: 0, limit: 0, attributes: Access.Unusable };
    else {
      segment = (real & 4 ? this.ldt : this.gdt).segment(real);
      if (ring === 1) segment.selector &= ~3; // ring 1 is what the guest believes to be ring 0
    }
    virtual.setSegment(n, segment.selector, segment.base, segment.limit, segment.attributes);
    this.remember(n);
  }
  private remember(n: number): void {
    const { virtual } = this;
    const carried = this.carried[n]!;
    carried.selector = virtual.selector(n);
    carried.base = virtual.segmentBase(n);
    carried.limit = virtual.limit(n);
    carried.attributes = virtual.attributes(n);
  }
  /** Vector registers, before an instruction that may use them is emulated. */
  fetchExtended(): void { this.move(this.virtual, this.physical); }
  private storeExtended(): void { this.move(this.physical, this.virtual); }
  private move(to: Cpu, from: Cpu): void {
    for (const [offset, bytes] of EXTENDED) to.u8.copyWithin(to.base + offset, from.base + offset, from.base + offset + bytes);
  }

  // --- virtual to physical ----------------------------------------------------------------------------------------
  /**
   * Continues the guest at the virtual CPU's state, by IRET from the monitor's stack. Returns why that is not possible,
   * or null. `stepping`: one instruction only.
   */
  resume(stepping: boolean, extended: boolean): string | null {
    const { physical, virtual, gdt } = this;
    const flags = virtual.flags;
    if (flags & Flag.VM) return 'the guest entered virtual-8086 mode, which ring 1 cannot give it';
    const ring = virtual.cpl === 0 ? 1 : virtual.cpl;
    for (const [offset, bytes] of GENERAL) physical.u8.copyWithin(physical.base + offset, virtual.base + offset, virtual.base + offset + bytes);
    if (extended) {
      this.storeExtended();
      physical.u8.copyWithin(physical.base + S.dr, virtual.base + S.dr, virtual.base + S.dr + 48);
      physical.set32(S.dr + 56, virtual.get32(S.dr + 56));
      physical.set64(S.tscOffset, virtual.get64(S.tscOffset));
      physical.set64(S.tscAux, virtual.get64(S.tscAux));
    }
    const tables = gdt.generation + this.ldt.generation;
    const all = tables !== this.generation;
    for (const n of data) {
      if (!all && this.unchanged(n)) continue;
      this.remember(n);
      const selector = isUnusable(virtual.attributes(n)) ? virtual.selector(n) & 3 : this.realFor(n, virtual.selector(n));
      this.realSelector[n] = selector;
      if (physical.selector(n) !== selector || all || selector >> 3 === Own.Slots + n) {
        this.port.spend('segment', ChargeTo.Monitor);
        this.loadReal(n, selector);
      }
    }
    for (const n of [SegmentIndex.CS, SegmentIndex.SS]) {
      if (isUnusable(virtual.attributes(n))) return `segment register ${n === SegmentIndex.CS ? 'CS' : 'SS'} is unusable`;
      if (!all && this.unchanged(n) && (this.realSelector[n]! & 3) === ring) continue;
      this.remember(n);
      this.realSelector[n] = (this.realFor(n, virtual.selector(n)) & ~3) | ring;
    }
    this.generation = gdt.generation + this.ldt.generation;
    const cs = this.realSelector[SegmentIndex.CS]!;
    if (ring === 3) (cs & 4 ? this.ldt : gdt).open(cs >> 3);
    else {
      gdt.close();
      this.ldt.close();
    }
    this.setFrame(FrameAt.Eip, virtual.get32(S.rip));
    this.setFrame(FrameAt.Cs, cs);
    this.setFrame(FrameAt.Eflags, (flags & ~VIRTUAL_FLAGS) | Flag.IF | (stepping ? Flag.TF : 0));
    this.setFrame(FrameAt.Esp, virtual.reg32(Gpr.RSP));
    this.setFrame(FrameAt.Ss, this.realSelector[SegmentIndex.SS]!);
    this.returnToGuest();
    return null;
  }

  private unchanged(n: number): boolean {
    const { virtual } = this;
    const carried = this.carried[n]!;
    return carried.selector === virtual.selector(n) && carried.base === virtual.segmentBase(n) && carried.limit === virtual.limit(n) && carried.attributes === virtual.attributes(n);
  }

  /** A real selector whose descriptor is the image of the virtual register: the guest's own, or a slot of the monitor's. */
  private realFor(n: number, selector: number): number {
    const { virtual } = this;
    segmentImage(virtual.segmentBase(n), virtual.limit(n), virtual.attributes(n), image);
    const table = selector & 4 ? this.ldt : this.gdt;
    if ((selector & 4) !== 0 || selector >> 3 < GUEST_ENTRIES) {
      if ((selector & 0xfffc) !== 0 && table.gives(selector >> 3, image.low, image.high, n === SegmentIndex.CS)) return selector;
    }
    const slot = Own.Slots + n;
    this.slots[n] = { selector: virtual.selector(n), base: virtual.segmentBase(n), limit: virtual.limit(n), attributes: virtual.attributes(n) };
    this.gdt.writeReal(slot, image.low, image.high);
    return slot * 8 + (selector & 3);
  }

  private loadReal(n: number, selector: number): void {
    try {
      loadSegment(this.physical, n, selector);
    } catch (thrown) {
      if (!isFault(thrown)) throw thrown;
      throw new Error(`the monitor's load of segment register ${n} with selector 0x${selector.toString(16)} faulted (vector ${thrown.vector}, error 0x${thrown.error.toString(16)})`);
    }
  }

  /** IRET to the frame on the monitor's stack. */
  returnToGuest(): void {
    const { physical } = this;
    physical.setReg32(Gpr.RSP, STACK_TOP - FRAME);
    this.port.spend('iret', ChargeTo.Transition);
    try {
      iret(physical, this.iretRow);
    } catch (thrown) {
      if (!isFault(thrown)) throw thrown;
      throw new Error(`the monitor's IRET faulted (vector ${thrown.vector}, error 0x${thrown.error.toString(16)}) with CS 0x${this.frameCs.toString(16)}, SS 0x${this.frame(FrameAt.Ss).toString(16)}`);
    }
  }

  /** IRET to the frame on top of the monitor's stack, which is the monitor's own. */
  returnNested(): void {
    this.port.spend('iret', ChargeTo.Transition);
    iret(this.physical, this.iretRow);
  }

  /** The guest's next instruction lies inside the real code segment. */
  get reachable(): boolean {
    const base = this.virtual.segmentBase(SegmentIndex.CS);
    if (base + this.virtual.limit(SegmentIndex.CS) < GUEST_END) return true;
    segmentImage(base, this.virtual.limit(SegmentIndex.CS), this.virtual.attributes(SegmentIndex.CS), image);
    return base < GUEST_END && this.virtual.get32(S.rip) <= imageLimit(image);
  }
  /** The monitor goes on by itself, from its firmware page: for guest code that cannot run in the real code segment. */
  stay(): void {
    const { physical: cpu } = this;
    this.storeExtended();
    cpu.setReg32(Gpr.RSP, STACK_TOP - FRAME);
    cpu.setSigned(S.rip, MonitorLinear.Firmware + Entrance.Stay);
  }

  /** STI and HLT in ring 0: the CPU waits for an interrupt at the firmware page. */
  park(): void {
    const { physical: cpu } = this;
    this.port.spend('hlt');
    cpu.setReg32(Gpr.RSP, STACK_TOP - FRAME - 4);
    cpu.setSigned(S.rip, MonitorLinear.Firmware + Entrance.Idle);
    cpu.set32(S.flagsRest, cpu.get32(S.flagsRest) | Flag.IF);
    cpu.set32(S.activity, 1);
  }
  /** Takes back an INT n that retired on its way into the monitor, until it is known whether it faults in the guest's view. */
  takeBack(): void {
    const { physical: cpu } = this;
    cpu.setFloat(S.sliceRetired, cpu.getFloat(S.sliceRetired) - 1);
    cpu.spend(-this.interruptCost);
  }
  retireAgain(): void { this.physical.retire(this.interruptCost); }
  shutDown(): void { this.physical.set32(S.activity, 2); }

  // --- what the monitor asks of the virtual CPU -------------------------------------------------------------------
  get interruptsEnabled(): boolean { return (this.virtual.get32(S.flagsRest) & Flag.IF) !== 0; }
  /** The guest single-steps itself. */
  get trapFlag(): boolean { return (this.virtual.get32(S.flagsRest) & Flag.TF) !== 0; }
  get ioPrivilege(): number { return this.virtual.iopl; }
  get virtualRip(): number { return this.virtual.get32(S.rip); }
  set virtualRip(value: number) { this.virtual.setSigned(S.rip, value >>> 0); }
  set virtualPageFaultAddress(linear: number) { this.virtual.setSigned(S.cr2, linear); }
  get virtualHalted(): boolean { return this.virtual.get32(S.activity) === 1; }
  set virtualHalted(value: boolean) { this.virtual.set32(S.activity, value ? 1 : 0); }
  get virtualShutDown(): boolean { return this.virtual.get32(S.activity) === 2; }
  get cpl(): number { return this.virtual.cpl; }
  /** CR0, CR3, CR4 or EFER changed in a way that matters to translation since {@link guestPaging} was last asked. */
  get pagingChanged(): boolean {
    const { virtual, seen } = this;
    return ((seen.cr0 ^ virtual.get32(S.cr0)) & (Cr0.PG | Cr0.WP | Cr0.PE)) !== 0 || seen.cr3 !== virtual.get32(S.cr3)
      || ((seen.cr4 ^ virtual.get32(S.cr4)) & (Cr4.PAE | Cr4.PSE | CR4_PAGED)) !== 0 || ((seen.efer ^ virtual.get32(S.efer)) & (Efer.NXE | Efer.LMA)) !== 0;
  }
  /** The guest's paging as the virtual CPU has it, or why this monitor cannot give it. */
  guestPaging(): GuestPaging | string {
    const { virtual } = this;
    const cr0 = virtual.get32(S.cr0);
    const cr4 = virtual.get32(S.cr4);
    const efer = virtual.get32(S.efer);
    if (!(cr0 & Cr0.PE)) return 'the guest left protected mode: ring 1 exists only there';
    if (efer & Efer.LMA) return 'the guest entered long mode, where segment limits do not protect the monitor and pages know only user and supervisor';
    const pae = (cr4 & Cr4.PAE) !== 0;
    const entry = (i: number): readonly [number, number] => [virtual.get32(S.pdpte + i * 8), virtual.get32(S.pdpte + i * 8 + 4)];
    this.seen = { cr0, cr3: virtual.get32(S.cr3), cr4, efer };
    const paged = (cr0 & Cr0.PG) !== 0;
    return { ...this.seen, paged, pae, long: false, ...(paged && pae ? { pdptes: [entry(0), entry(1), entry(2), entry(3)] } : {}) };
  }
  get gdtrBase(): number { return this.virtual.get32(S.gdtrBase); }
  get gdtrLimit(): number { return this.virtual.get32(S.gdtrLimit); }
  get ldtrBase(): number { return this.virtual.segmentBase(SegmentIndex.LDTR); }
  /** -1 where there is no LDT. */
  get ldtrLimit(): number { return isUnusable(this.virtual.attributes(SegmentIndex.LDTR)) || (this.virtual.selector(SegmentIndex.LDTR) & 0xfffc) === 0 ? -1 : this.virtual.limit(SegmentIndex.LDTR); }

  save(): unknown {
    return structuredClone({ realSelector: [...this.realSelector], slots: this.slots, carried: this.carried, generation: this.generation, seen: this.seen });
  }
  load(saved: unknown): void {
    const s = structuredClone(saved) as { realSelector: number[]; slots: (SegmentRegister | null)[]; carried: SegmentRegister[]; generation: number; seen: RingRegisters['seen'] };
    this.realSelector.set(s.realSelector);
    s.slots.forEach((slot, i) => (this.slots[i] = slot));
    s.carried.forEach((segment, i) => Object.assign(this.carried[i]!, segment));
    this.generation = s.generation;
    this.seen = s.seen;
  }
}
