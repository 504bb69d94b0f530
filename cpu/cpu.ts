import type { Bus } from './bus.ts';
import type { CpuEvent } from './events.ts';
import { fault, gp, Vector, type Fault } from './fault.ts';
import type { Firmware } from './engine.ts';
import type { Hooks, SecondLevel } from './hooks.ts';
import type { Instruction } from './instruction.ts';
import { FAST_ENTRY, fastIndex, type Memory } from './memory.ts';
import { AccessKind, type Mmu } from './mmu.ts';
import type { Observer } from './observer.ts';
import type { CpuProfile } from './profile.ts';
import { Access, Cr0, Cr4, Efer, Flag, S, Segment, SegmentIndex, SEGMENT_SIZE, STATUS_FLAGS } from './state.ts';

/** What a system body tells the engine. */
export const Flow = {
  /** Done; continue with the next instruction (the engine advances RIP). */
  Next: 0,
  /** Done; the body has set RIP (and perhaps the mode): find the next instruction anew. */
  Jump: 1,
  /** Done; the body has set RIP; the run loop must look at the CPU (halt, pending event, single step, stop). */
  Leave: 2,
} as const;
export type Flow = (typeof Flow)[keyof typeof Flow];

/** Meaning of a rare or enormous row. Makes all checks first and throws a {@link Fault} before it changes anything. */
export type SystemBody = (cpu: Cpu, insn: Instruction) => Flow | void;

/** What charged cycles were spent on. */
export const ChargeTo = { Translation: 0, Event: 1, Transition: 2, Monitor: 3, Other: 4 } as const;
export type ChargeTo = (typeof ChargeTo)[keyof typeof ChargeTo];

const TWO32 = 4294967296;
const CANONICAL = 2 ** 47;

/**
 * One CPU: typed access to its state in linear memory, and the memory, segment and stack operations that system
 * bodies, event delivery and hooks share. Engines (interpreter, evaluator) execute instructions on it.
 *
 * Numbers: values up to 32 bits are unsigned numbers; 64-bit registers are bigint here (rare) or word pairs; linear
 * addresses are numbers (unsigned 32-bit outside 64-bit mode, signed 48-bit canonical inside, anything else is
 * non-canonical and faults).
 */
export class Cpu {
  readonly memory: Memory;
  readonly index: number;
  /** Host address of the state block; word index of it for the 32-bit views. */
  readonly base: number;
  readonly u8: Uint8Array;
  readonly u16: Uint16Array;
  readonly u32: Uint32Array;
  readonly i32: Int32Array;
  readonly f64: Float64Array;
  readonly u64: BigUint64Array;
  readonly profile: CpuProfile;
  readonly features: ReadonlySet<string>;
  bus: Bus;
  mmu!: Mmu;
  hooks: Hooks | null = null;
  secondLevel: SecondLevel | null = null;
  observer: Observer | null = null;
  /** Interrupt line from the interrupt controllers (set by the machine); NMI and INIT likewise. */
  interruptLine = false;
  nmiPending = false;
  initPending = false;
  /** Rows that leave the engine before they execute (ids), by the hook's owner; null = none. */
  interceptSet: InterceptSet | null = null;
  /** Costs by class and event, flattened from the profile. */
  readonly costs: Readonly<Record<string, number>>;
  /** The event whose delivery is in progress; a hook reads it as IDT-vectoring information. Null otherwise. */
  delivering: CpuEvent | null = null;
  /** The instruction just executed delivered an event itself (INT n): no single-step trap follows it. */
  interrupted = false;
  /** Page whose fetch calls TypeScript (monitors); null in plain machines. */
  firmware: Firmware | null = null;
  /** VMX state hangs here; cpu/ never looks inside. */
  extension: unknown = null;
  /** Restrictions and masks on CR0, CR4 and CR8 while an extension is active (VMX operation); null = none. */
  controlRegisters: ControlRegisterView | null = null;

  constructor(memory: Memory, index: number, profile: CpuProfile, bus: Bus) {
    this.memory = memory;
    this.index = index;
    this.base = memory.stateBase(index);
    this.u8 = memory.u8;
    this.u16 = memory.u16;
    this.u32 = memory.u32;
    this.i32 = memory.i32;
    this.f64 = memory.f64;
    this.u64 = memory.u64;
    this.profile = profile;
    this.features = new Set(profile.features);
    this.bus = bus;
    const costs: Record<string, number> = {};
    for (const [name, figure] of Object.entries(profile.costs)) costs[name] = figure.value;
    this.costs = { ...costs }; // a copy has fast properties, an object filled by computed names is a hash table
  }

  // --- raw state -----------------------------------------------------------------------------------------------
  get32(offset: number): number { return this.u32[(this.base + offset) >>> 2]!; }
  set32(offset: number, value: number): void { this.u32[(this.base + offset) >>> 2] = value; }
  get64(offset: number): bigint { return this.u64[(this.base + offset) >>> 3]!; }
  set64(offset: number, value: bigint): void { this.u64[(this.base + offset) >>> 3] = value; }
  getFloat(offset: number): number { return this.f64[(this.base + offset) >>> 3]!; }
  setFloat(offset: number, value: number): void { this.f64[(this.base + offset) >>> 3] = value; }
  /** A 64-bit field as a signed number: exact for canonical addresses, and far out of range for others. */
  getSigned(offset: number): number {
    const at = (this.base + offset) >>> 2;
    return this.i32[at + 1]! * TWO32 + this.u32[at]!;
  }
  /** Stores a signed number (|value| < 2^53) into a 64-bit field. */
  setSigned(offset: number, value: number): void {
    const at = (this.base + offset) >>> 2;
    this.i32[at] = value | 0;
    this.i32[at + 1] = Math.floor(value / TWO32) | 0;
  }

  // --- registers -----------------------------------------------------------------------------------------------
  reg32(n: number): number { return this.u32[(this.base + S.gpr + n * 8) >>> 2]!; }
  /** Writes a 32-bit register: the upper half becomes zero. */
  setReg32(n: number, value: number): void {
    const at = (this.base + S.gpr + n * 8) >>> 2;
    this.u32[at] = value;
    this.u32[at + 1] = 0;
  }
  reg64(n: number): bigint { return this.get64(S.gpr + n * 8); }
  setReg64(n: number, value: bigint): void { this.set64(S.gpr + n * 8, BigInt.asUintN(64, value)); }
  /** Reads a general register of 8 (low byte only), 16, 32 or 64 bits. */
  reg(n: number, bits: number): bigint { return BigInt.asUintN(bits, this.reg64(n)); }
  /** Writes a general register with the rule of its size: 8 and 16 keep the rest, 32 clears the upper half. */
  setReg(n: number, bits: number, value: bigint): void {
    if (bits === 64) this.setReg64(n, value);
    else if (bits === 32) this.setReg32(n, Number(BigInt.asUintN(32, value)));
    else if (bits === 16) this.u16[(this.base + S.gpr + n * 8) >>> 1] = Number(BigInt.asUintN(16, value));
    else this.u8[this.base + S.gpr + n * 8] = Number(BigInt.asUintN(8, value));
  }

  get rip(): number { return this.getSigned(S.rip); }
  set rip(value: number) { this.setSigned(S.rip, value); }
  /** RIP after this instruction, wrapped to the code size. */
  nextRip(insn: Instruction): number {
    const next = this.rip + insn.length;
    return insn.codeSize === 64 ? next : insn.codeSize === 32 ? next >>> 0 : next & 0xffff;
  }
  /** Moves RIP behind the instruction. */
  advance(insn: Instruction): void { this.rip = this.nextRip(insn); }

  // --- flags ---------------------------------------------------------------------------------------------------
  get flags(): number {
    const bits = this.get32(S.flagBits);
    const at = (this.base + S.flagResult) >>> 2;
    const low = this.u32[at]!;
    const high = this.i32[at + 1]!;
    let parity = (low & 0xff) ^ ((low & 0xff) >> 4);
    parity = (0x9669 >> (parity & 15)) & 1; // 1 = even
    let f = (bits & (Flag.CF | Flag.AF | Flag.OF)) | this.get32(S.flagsRest);
    if (parity !== ((bits >> 2) & 1)) f |= Flag.PF;
    if ((low | high) === 0) f |= Flag.ZF;
    if ((high < 0 ? 1 : 0) !== ((bits >> 7) & 1)) f |= Flag.SF;
    return f >>> 0;
  }
  set flags(value: number) {
    const at = (this.base + S.flagResult) >>> 2;
    const zero = (value & Flag.ZF) !== 0;
    // result 0 has SF 0, PF 1; result 1 has SF 0, PF 0: the delta bits supply the rest
    this.u32[at] = zero ? 0 : 1;
    this.u32[at + 1] = 0;
    const pf = (value & Flag.PF) !== 0;
    this.set32(S.flagBits, (value & (Flag.CF | Flag.AF | Flag.OF)) | (pf !== zero ? 4 : 0) | (value & Flag.SF));
    this.set32(S.flagsRest, ((value & ~STATUS_FLAGS & 0x3f7fd7) | 2) >>> 0);
  }
  /** Changes some flag bits. */
  setFlagBits(clear: number, set: number): void { this.flags = (this.flags & ~clear) | set; }
  get iopl(): number { return (this.get32(S.flagsRest) >> 12) & 3; }

  // --- mode ----------------------------------------------------------------------------------------------------
  get cpl(): number { return this.get32(S.cpl); }
  set cpl(value: number) { this.set32(S.cpl, value); }
  get cr0(): number { return this.get32(S.cr0); }
  get cr4(): number { return this.get32(S.cr4); }
  get efer(): number { return this.get32(S.efer); }
  get protectedMode(): boolean { return (this.get32(S.cr0) & Cr0.PE) !== 0; }
  get paging(): boolean { return (this.get32(S.cr0) & Cr0.PG) !== 0; }
  get longMode(): boolean { return (this.get32(S.efer) & Efer.LMA) !== 0; }
  get virtual8086(): boolean { return (this.get32(S.flagsRest) & Flag.VM) !== 0; }
  /** 64-bit mode proper: long mode and CS.L. */
  get code64(): boolean { return this.longMode && (this.attributes(SegmentIndex.CS) & Access.Long) !== 0; }
  hasCr4(bit: keyof typeof Cr4): boolean { return (this.get32(S.cr4) & Cr4[bit]) !== 0; }

  // --- segments ------------------------------------------------------------------------------------------------
  segmentOffset(n: number): number { return S.segment + n * SEGMENT_SIZE; }
  selector(n: number): number { return this.get32(this.segmentOffset(n) + Segment.selector); }
  attributes(n: number): number { return this.get32(this.segmentOffset(n) + Segment.attributes); }
  limit(n: number): number { return this.get32(this.segmentOffset(n) + Segment.limit); }
  /** Base as a number (signed in the 64-bit sense; ES CS SS DS bases are unsigned 32-bit). */
  segmentBase(n: number): number { return this.getSigned(this.segmentOffset(n) + Segment.base); }
  setSegment(n: number, selector: number, base: number, limit: number, attributes: number): void {
    const at = this.segmentOffset(n);
    this.setSigned(at + Segment.base, base);
    this.set32(at + Segment.limit, limit);
    this.set32(at + Segment.attributes, attributes);
    this.set32(at + Segment.selector, selector);
  }

  /**
   * Logical to linear address with all checks of SDM "Limit Checking", "Type Checking" and, in 64-bit mode,
   * canonicality. Throws #GP(0), or #SS(0) for the stack segment.
   */
  linear(segment: number, offset: number, size: number, write: boolean): number {
    const stack = segment === SegmentIndex.SS;
    if (this.code64) {
      const base = segment >= SegmentIndex.FS ? this.segmentBase(segment) : 0;
      let linear = base + offset;
      if (linear >= 2 ** 63) linear -= 2 ** 64;
      else if (linear < -(2 ** 63)) linear += 2 ** 64;
      if (linear < -CANONICAL || linear + size - 1 >= CANONICAL) throw fault(stack ? Vector.StackFault : Vector.GeneralProtection, 0);
      return linear;
    }
    const attributes = this.attributes(segment);
    if (attributes & Access.Unusable) throw fault(stack ? Vector.StackFault : Vector.GeneralProtection, 0);
    if (this.protectedMode && !this.virtual8086) {
      if (attributes & Access.Code) {
        if (write || !(attributes & Access.Writable)) throw gp();
      } else if (write && !(attributes & Access.Writable)) throw gp();
    }
    offset = offset >>> 0;
    const last = offset + size - 1;
    const limit = this.limit(segment);
    if ((attributes & (Access.Code | Access.Expand)) === Access.Expand) {
      const top = attributes & Access.Big ? 0xffffffff : 0xffff;
      if (offset <= limit || last > top) throw fault(stack ? Vector.StackFault : Vector.GeneralProtection, 0);
    } else if (last > limit && limit !== 0xffffffff) throw fault(stack ? Vector.StackFault : Vector.GeneralProtection, 0); // at 4 GiB accesses wrap, as the manual allows
    return (this.segmentBase(segment) + offset) >>> 0;
  }

  /** Offset part of the memory operand of an instruction (SDM "Addressing-Mode Encoding of ModR/M and SIB Bytes"). */
  effectiveAddress(insn: Instruction): number {
    if (insn.addressSize === 64) {
      let a = BigInt.asIntN(64, (BigInt(insn.displacementHigh) << 32n) | BigInt(insn.displacement >>> 0));
      if (insn.base === 16) a += BigInt(this.rip + insn.length);
      else if (insn.base >= 0) a += this.reg64(insn.base);
      if (insn.index >= 0) a += this.reg64(insn.index) << BigInt(insn.scale);
      return Number(BigInt.asIntN(64, a));
    }
    let a = insn.displacement;
    if (insn.base === 16) a += this.rip + insn.length;
    else if (insn.base >= 0) a += this.reg32(insn.base);
    if (insn.index >= 0) a += this.reg32(insn.index) * (1 << insn.scale);
    return insn.addressSize === 32 ? a >>> 0 : a & 0xffff;
  }

  /** Linear address of the memory operand, checked for `size` bytes. */
  linearOf(insn: Instruction, size: number, write: boolean): number {
    return this.linear(insn.segment, this.effectiveAddress(insn), size, write);
  }

  // --- memory by linear address (throw Fault) ------------------------------------------------------------------
  private physical(linear: number, kind: AccessKind, system: boolean): number {
    // the fast tables of the current context answer for free; they hold nothing that supervisor accesses from user mode need
    if (kind !== AccessKind.Execute && !(system && this.u32[(this.base + S.cpl) >>> 2] === 3)) {
      const low = linear | 0;
      const entry = (this.u32[(this.base + (kind === AccessKind.Read ? S.readTable : S.writeTable)) >>> 2]! + fastIndex(low) * FAST_ENTRY) >>> 2;
      if (this.i32[entry] === (low & -4096) && this.i32[entry + 1] === (linear >= 0 && linear < TWO32 ? 0 : Math.floor(linear / TWO32) | 0)) {
        return ((this.u32[entry + 2]! + low) >>> 0) - this.memory.ramBase;
      }
    }
    const physical = this.mmu.translate(linear, kind, system);
    if (physical < 0) throw this.recordedFault();
    return physical;
  }

  /** The fault that translation recorded in the state, as an object. */
  recordedFault(): Fault {
    const vector = this.get32(S.faultVector);
    return fault(vector, this.get32(S.faultError) | 0, this.getSigned(S.faultLinear));
  }

  /** Reads 1, 2 or 4 bytes (unsigned). `system`: implicit supervisor access. */
  load(linear: number, size: 1 | 2 | 4, system = false): number {
    if ((linear & 0xfff) + size > 4096) {
      // both pages are translated before anything is read, the lower one first
      this.physical(linear, AccessKind.Read, system);
      this.physical(this.nextPage(linear), AccessKind.Read, system);
      let value = 0;
      for (let i = size - 1; i >= 0; i--) value = value * 256 + this.load(this.wrapLinear(linear + i), 1, system);
      return value;
    }
    return this.readPhysical(this.physical(linear, AccessKind.Read, system), size);
  }
  load64(linear: number, system = false): bigint {
    const low = this.load(linear, 4, system);
    return (BigInt(this.load(this.wrapLinear(linear + 4), 4, system)) << 32n) | BigInt(low);
  }
  /** Where the second part of an access that crosses a page begins: the address a fault there reports. */
  private nextPage(linear: number): number { return this.wrapLinear(linear - (linear & 0xfff) + 4096); }
  /** Checks that `size` bytes can be written (both pages), without writing. */
  probeWrite(linear: number, size: number, system = false): void {
    this.physical(linear, AccessKind.Write, system);
    if ((linear & 0xfff) + size > 4096) this.physical(this.nextPage(linear), AccessKind.Write, system);
  }
  probeRead(linear: number, size: number, system = false): void {
    this.physical(linear, AccessKind.Read, system);
    if ((linear & 0xfff) + size > 4096) this.physical(this.nextPage(linear), AccessKind.Read, system);
  }
  store(linear: number, size: 1 | 2 | 4, value: number, system = false): void {
    if ((linear & 0xfff) + size > 4096) {
      this.probeWrite(linear, size, system);
      for (let i = 0; i < size; i++) this.store(this.wrapLinear(linear + i), 1, (value >>> (8 * i)) & 0xff, system);
      return;
    }
    this.writePhysical(this.physical(linear, AccessKind.Write, system), size, value);
  }
  store64(linear: number, value: bigint, system = false): void {
    this.probeWrite(linear, 8, system);
    this.store(linear, 4, Number(value & 0xffffffffn), system);
    this.store(this.wrapLinear(linear + 4), 4, Number((value >> 32n) & 0xffffffffn), system);
  }
  /** #AC(0) for a misaligned access of 2, 4 or 8 bytes where alignment checking is in force (SDM "Interrupt 17—Alignment Check Exception (#AC)"). */
  checkAlignment(linear: number, size: number): void {
    if (size > 1 && size <= 8 && linear & (size - 1) && this.cpl === 3 && this.get32(S.flagsRest) & Flag.AC && this.get32(S.cr0) & Cr0.AM) throw fault(Vector.AlignmentCheck, 0);
  }
  /** Linear addresses wrap at 4 GiB outside 64-bit mode. */
  wrapLinear(linear: number): number {
    return this.longMode ? linear : linear >>> 0;
  }

  // --- physical memory -----------------------------------------------------------------------------------------
  readPhysical(physical: number, size: 1 | 2 | 4): number {
    if (physical + size <= this.memory.ramSize) {
      const at = this.memory.ramBase + physical;
      if (size === 4) return (at & 3) === 0 ? this.u32[at / 4]! : this.memory.view.getUint32(at, true);
      if (size === 2) return this.memory.view.getUint16(at, true);
      return this.u8[at]!;
    }
    return this.bus.readPhysical(physical, size);
  }
  writePhysical(physical: number, size: 1 | 2 | 4, value: number): void {
    if (physical + size <= this.memory.ramSize) {
      const at = this.memory.ramBase + physical;
      if (size === 4) this.memory.view.setUint32(at, value, true);
      else if (size === 2) this.memory.view.setUint16(at, value, true);
      else this.u8[at] = value;
      this.codeWritten(physical, size);
    } else this.bus.writePhysical(physical, size, value);
  }
  /** Tells the decoder that bytes of RAM changed (set by the engine; drops decoded code there). */
  codeWritten: (physical: number, size: number) => void = () => {};

  // --- time ----------------------------------------------------------------------------------------------------
  /** Charges cycles beyond the row's own to the instruction being executed. */
  charge(cycles: number, to: ChargeTo = ChargeTo.Other): void {
    this.i32[(this.base + S.extra) >>> 2]! += cycles;
    this.charged[to]! += cycles;
    this.chargedTotal += cycles;
  }
  /** Cycles that belong to guest instructions themselves (further iterations, emulated rows). */
  spend(cycles: number): void { this.i32[(this.base + S.extra) >>> 2]! += cycles; }
  /** Cycles charged so far by purpose, and their sum; with idle time they are the difference between cycles and row costs. */
  readonly charged = new Float64Array(8);
  chargedTotal = 0;
  /** Cycles skipped while halted. */
  idle = 0;
  /** What hardware event delivery is charged to: the guest's own events, or transitions to a monitor that owns the tables. */
  eventsTo: ChargeTo = 1;
  /** Row costs of retired instructions plus idle time: the guest-time clock. */
  get guestCycles(): number { return this.cycles - this.chargedTotal; }
  /** The time that RDTSC and devices see. */
  guestTime = false;
  get now(): number { return this.guestTime ? this.cycles - this.chargedTotal : this.cycles; }
  /** Lets time pass while the CPU waits. */
  skip(cycles: number): void {
    if (cycles <= 0) return;
    this.setFloat(S.sliceCycles, this.getFloat(S.sliceCycles) + cycles);
    this.idle += cycles;
  }
  /** Counts an instruction that a monitor executed in the guest's place: it retires at its row's cost. */
  retire(cost: number): void {
    this.spend(cost);
    this.u32[(this.base + S.retired) >>> 2]! += 1;
  }
  /** Cycles since power-on. Exact at instruction boundaries and inside system bodies (their own cost included). */
  get cycles(): number {
    return this.getFloat(S.sliceCycles) + (this.i32[(this.base + S.budget) >>> 2]! - this.i32[(this.base + S.left) >>> 2]!) + this.i32[(this.base + S.extra) >>> 2]!;
  }
  /**
   * Makes the engine leave at the next instruction boundary, or at cycle `at` if that is later; time is not
   * affected. For devices whose next event comes sooner than the deadline, and for changed code.
   */
  leaveSoon(at = 0): void {
    const left = this.i32[(this.base + S.left) >>> 2]! - this.i32[(this.base + S.extra) >>> 2]!;
    const keep = Math.max(0, Math.min(left, Math.ceil(at - this.cycles)));
    const cut = left - keep;
    if (cut <= 0) return;
    this.i32[(this.base + S.extra) >>> 2]! += cut;
    this.i32[(this.base + S.budget) >>> 2]! -= cut;
  }
  /** As {@link leaveSoon}, with the moment given on the clock in force. */
  leaveAt(time: number): void { this.leaveSoon(this.cycles + (time - this.now)); }
  /** Instructions retired since power-on. */
  get retired(): number { return this.getFloat(S.sliceRetired) + this.get32(S.retired); }

  /** Starts an interrupt shadow covering the next instruction (1 STI, 2 MOV SS). Call from the body of the row. */
  shadow(kind: 1 | 2): void {
    this.set32(S.blockInterrupts, kind);
    this.setFloat(S.shadowAt, this.retired + 1); // the row itself retires first
  }
  /** Interrupt shadow in force now (VMCS interruptibility bits 0 and 1). */
  get shadowNow(): number {
    return this.getFloat(S.shadowAt) === this.retired ? this.get32(S.blockInterrupts) : 0;
  }

  /** Throws #UD where a feature is absent. */
  require(feature: string): void {
    if (!this.features.has(feature)) throw fault(Vector.InvalidOpcode);
  }
  /** Deliver an event; installed by cpu/interrupt.ts through the engine. */
  deliver!: (event: CpuEvent) => void;
}

/** How an extension changes the control registers as software sees them (SDM "Guest/Host Masks and Read Shadows for CR0 and CR4"). */
export interface ControlRegisterView {
  /** Whether the register may take this value (low word; high words must be 0): false = #GP(0). */
  check(cpu: Cpu, register: 0 | 4, value: number): boolean;
  /** The word that MOV from CR and SMSW show for the register's real word. */
  read(register: 0 | 4, value: number): number;
  readHigh(register: 0 | 4): number;
  /** The word that MOV to CR, LMSW and CLTS really put into the register, for the word they were given. */
  write(cpu: Cpu, register: 0 | 4, value: number): number;
  /** CR8 when it is virtualized: the value, or -1 when it is not. */
  readTaskPriority(cpu: Cpu): number;
  /** True: CR8 is virtualized and has been written. */
  writeTaskPriority(cpu: Cpu, value: number): boolean;
}

/** Which rows leave the engine before they execute; `id` is part of the decode mode key. */
export interface InterceptSet {
  readonly id: number;
  readonly rows: ReadonlySet<number>;
}
