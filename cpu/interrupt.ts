import type { Cpu } from './cpu.ts';
import {
  Descriptor, installNull, installReal, installSegment, isCanonicalHigh, markDescriptor, checkStackSegment, readDescriptor, readWords, SystemType,
} from './descriptor.ts';
import { EventType, type CpuEvent } from './events.ts';
import { fault, gp, isFault, Vector, type Fault } from './fault.ts';
import { ABORT_VECTOR } from './mmu.ts';
import {
  frameHigh, frameLow, innerStackPointer, innerStackSelector, LONG_STACK, pushFrame, readInnerStack, readLongStack, stackPointer, writeFrame,
} from './stack.ts';
import { Access, Cr0, Efer, Flag, Gpr, S, Segment, SegmentIndex, SEGMENT_SIZE } from './state.ts';
import { checkTaskGateTarget, pushTaskError, switchTask, TaskSource, TASK_SWITCH_TRAP } from './task.ts';

/** Vectors whose class in the double-fault table is contributory (SDM "Interrupt 8—Double Fault Exception (#DF)"). */
const contributory: ReadonlySet<number> = new Set([Vector.DivideError, Vector.InvalidTss, Vector.SegmentNotPresent, Vector.StackFault, Vector.GeneralProtection, Vector.ControlProtection]);
const Severity = { Benign: 0, Contributory: 1, PageFault: 2, DoubleFault: 3 } as const;

function severity(event: CpuEvent): number {
  if (event.type !== EventType.HardwareException) return Severity.Benign;
  if (event.vector === Vector.PageFault || event.vector === Vector.Virtualization) return Severity.PageFault;
  if (event.vector === Vector.DoubleFault) return Severity.DoubleFault;
  return contributory.has(event.vector) ? Severity.Contributory : Severity.Benign;
}

const doubleFault: CpuEvent = { type: EventType.HardwareException, vector: Vector.DoubleFault, error: 0, data: 0, length: 0 };

/** The event a fault becomes. */
export function eventOf(caught: Fault): CpuEvent {
  return { type: EventType.HardwareException, vector: caught.vector, error: caught.error, data: caught.linear, length: 0 };
}

/** Delivers a fault caught while an instruction executed (RIP is the instruction's), or carries out the VM exit it stands for. */
export function raise(cpu: Cpu, caught: Fault): void {
  if (caught.vector === ABORT_VECTOR) abort(cpu);
  else deliverEvent(cpu, eventOf(caught));
}

function abort(cpu: Cpu): void {
  if (cpu.hooks === null) throw new Error('a second-level translation stopped an access, but no hooks are installed to carry out the exit: set cpu.hooks together with cpu.secondLevel');
  cpu.hooks.abort(cpu);
}

/** Records what a debug exception or page fault leaves in DR6, DR7 and CR2 once nobody has taken the event over. */
function recordCause(cpu: Cpu, event: CpuEvent): void {
  if (event.vector === Vector.PageFault && event.type === EventType.HardwareException) cpu.setSigned(S.cr2, event.data);
  else if (event.vector === Vector.Debug) {
    if (event.type === EventType.HardwareException) cpu.set32(S.dr + 48, ((cpu.get32(S.dr + 48) & ~0xf) | event.data | 0xffff0ff0) >>> 0);
    cpu.set32(S.dr + 56, cpu.get32(S.dr + 56) & ~0x2000); // GD, so that the handler may use the debug registers
    cpu.set32(S.debugctl, cpu.get32(S.debugctl) & ~3); // LBR and BTF
  }
}

/**
 * Delivers an exception or interrupt through the tables of the current mode; faults on the way are delivered in
 * turn, up to double fault and shutdown. RIP must be that of the instruction (faults, software interrupts) or of the
 * next one (traps, interrupts). False when a fault on the way was delivered in its place (or shut the CPU down): an
 * INT n then has not completed.
 */
export function deliverEvent(cpu: Cpu, event: CpuEvent): boolean {
  let current = event;
  let asked = false;
  for (;;) {
    if (!asked) {
      if (cpu.hooks !== null && cpu.hooks.event(cpu, current)) return true;
      recordCause(cpu, current);
    }
    try {
      cpu.delivering = current;
      deliverOnce(cpu, current);
      cpu.delivering = null;
      return current === event;
    } catch (caught) {
      if (!isFault(caught)) {
        cpu.delivering = null;
        throw caught;
      }
      if (caught.vector === ABORT_VECTOR) {
        abort(cpu);
        cpu.delivering = null;
        return true;
      }
      const nested = eventOf(caught);
      const taken = cpu.hooks !== null && cpu.hooks.event(cpu, nested);
      cpu.delivering = null;
      if (taken) return true;
      recordCause(cpu, nested);
      const first = severity(current);
      const second = severity(nested);
      if (second === Severity.Benign || first === Severity.Benign || (first === Severity.Contributory && second === Severity.PageFault)) {
        current = nested;
        asked = true;
      } else if (first === Severity.DoubleFault) {
        if (cpu.hooks !== null && cpu.hooks.tripleFault(cpu)) return true;
        cpu.set32(S.activity, 2);
        return false;
      } else {
        current = doubleFault;
        asked = false;
      }
    }
  }
}

function deliverOnce(cpu: Cpu, event: CpuEvent): void {
  if (!(cpu.get32(S.cr0) & Cr0.PE)) deliverReal(cpu, event);
  else if (cpu.get32(S.efer) & Efer.LMA) deliverLong(cpu, event);
  else if (!deliverProtected(cpu, event)) return;
  const { type, vector } = event;
  if (type === EventType.Nmi) cpu.set32(S.nmiBlocked, 1);
  cpu.set32(S.activity, 0);
  cpu.set32(S.blockInterrupts, 0);
  const software = type >= EventType.SoftwareInterrupt;
  cpu.charge((software ? cpu.costs['event.software'] : type === EventType.HardwareException ? cpu.costs['event.exception'] : cpu.costs['event.interrupt']) ?? 0, cpu.eventsTo);
  if (cpu.observer?.delivered) {
    const kind = software ? 'software' : type === EventType.HardwareException ? 'exception' : type === EventType.Nmi ? 'nmi' : 'interrupt';
    cpu.observer.delivered(vector, kind, event.error, vector === Vector.PageFault ? event.data : 0);
  }
}

/** INT n, INT3 and INTO (not INT1) need a gate that their ring may use, and do not set EXT in error codes. */
function isProgrammed(event: CpuEvent): boolean {
  return event.type === EventType.SoftwareInterrupt || event.type === EventType.SoftwareException;
}

/** The flags to push: RF is set by faults, so that the handler's IRET does not meet the same instruction breakpoint again. */
function pushedFlags(cpu: Cpu, event: CpuEvent): number {
  const isFaultClass = event.type === EventType.HardwareException && event.vector !== Vector.Debug && event.vector !== Vector.MachineCheck;
  return isFaultClass ? (cpu.flags | Flag.RF) >>> 0 : cpu.flags;
}

/** RIP to push, low word; in 64-bit mode the high word goes to frameHigh by the caller through {@link returnHigh}. */
function returnLow(cpu: Cpu, event: CpuEvent): number {
  const low = cpu.u32[(cpu.base + S.rip) >>> 2]!;
  if (event.type < EventType.SoftwareInterrupt) return low;
  const next = low + event.length;
  return cpu.code64 || cpu.attributes(SegmentIndex.CS) & Access.Big ? next >>> 0 : next & 0xffff;
}

function returnHigh(cpu: Cpu, event: CpuEvent): number {
  const at = (cpu.base + S.rip) >>> 2;
  const carry = event.type >= EventType.SoftwareInterrupt && cpu.u32[at]! + event.length > 0xffffffff && cpu.code64 ? 1 : 0;
  return cpu.u32[at + 1]! + carry;
}

function deliverReal(cpu: Cpu, event: CpuEvent): void {
  const at = event.vector * 4;
  if (at + 3 > cpu.get32(S.idtrLimit)) throw gp(at * 2 + 2);
  const linear = (cpu.getSigned(S.idtrBase) + at) >>> 0;
  const offset = cpu.load(linear, 2, true);
  const selector = cpu.load((linear + 2) >>> 0, 2, true);
  frameLow[0] = pushedFlags(cpu, event);
  frameLow[1] = cpu.selector(SegmentIndex.CS);
  frameLow[2] = returnLow(cpu, event);
  pushFrame(cpu, 2, 3);
  enterReal(cpu, selector, offset);
}

/** Continues at an interrupt vector of the real-mode table. */
function enterReal(cpu: Cpu, selector: number, offset: number): void {
  const rest = (cpu.base + S.flagsRest) >>> 2;
  const hadAc = (cpu.u32[rest]! & Flag.AC) !== 0;
  cpu.u32[rest]! &= ~(Flag.IF | Flag.TF | Flag.RF | Flag.AC);
  installReal(cpu, SegmentIndex.CS, selector);
  cpu.rip = offset;
  if (hadAc) cpu.mmu.updateContext();
}

const gate = new Descriptor();
const code = new Descriptor();
const stack = new Descriptor();

function setRip(cpu: Cpu, low: number, high: number): void {
  const at = (cpu.base + S.rip) >>> 2;
  cpu.u32[at] = low;
  cpu.u32[at + 1] = high;
}

/** False when a hook took a task switch over: then nothing of the CPU may be touched any more. */
function deliverProtected(cpu: Cpu, event: CpuEvent): boolean {
  const vector = event.vector;
  const programmed = isProgrammed(event);
  const ext = programmed ? 0 : 1;
  const cpl = cpu.get32(S.cpl);
  const idtError = vector * 8 + 2 + ext;
  if (vector * 8 + 7 > cpu.get32(S.idtrLimit)) throw gp(idtError);
  readWords(cpu, (cpu.getSigned(S.idtrBase) + vector * 8) >>> 0, gate);
  const kind = (gate.high >>> 8) & 0x1f;
  if (kind !== SystemType.InterruptGate32 && kind !== SystemType.TrapGate32 && kind !== SystemType.InterruptGate16 && kind !== SystemType.TrapGate16 && kind !== SystemType.TaskGate) throw gp(idtError);
  if (programmed && gate.dpl < cpl) throw gp(idtError);
  if (!gate.isPresent) throw fault(Vector.SegmentNotPresent, idtError);
  if (kind === SystemType.TaskGate) return deliverTask(cpu, event, ext);
  const selector = gate.gateSelector;
  if ((selector & 0xfffc) === 0) throw gp(ext);
  const selectorError = (selector & 0xfffc) | ext;
  readDescriptor(cpu, selector, code, Vector.GeneralProtection, ext);
  if (!code.isCode || code.dpl > cpl) throw gp(selectorError);
  if (!code.isPresent) throw fault(Vector.SegmentNotPresent, selectorError);
  const size = kind & 8 ? 4 : 2;
  const offset = kind & 8 ? gate.gateOffset : gate.low & 0xffff;
  const rest = (cpu.base + S.flagsRest) >>> 2;
  const virtual = (cpu.u32[rest]! & Flag.VM) !== 0;
  const newCpl = code.isConforming ? cpl : code.dpl;
  let count = 0;
  if (newCpl < cpl) {
    if (virtual && newCpl !== 0) throw gp(selectorError);
    readInnerStack(cpu, newCpl, ext);
    const ss = innerStackSelector();
    if ((ss & 0xfffc) === 0) throw fault(Vector.InvalidTss, ext);
    checkStackSegment(cpu, ss, newCpl, stack, Vector.InvalidTss, ext);
    if (offset > code.limit) throw gp(ext);
    markDescriptor(cpu, stack, 0x100);
    markDescriptor(cpu, code, 0x100);
    if (virtual) {
      frameLow[0] = cpu.selector(SegmentIndex.GS);
      frameLow[1] = cpu.selector(SegmentIndex.FS);
      frameLow[2] = cpu.selector(SegmentIndex.DS);
      frameLow[3] = cpu.selector(SegmentIndex.ES);
      count = 4;
    }
    frameLow[count++] = cpu.u32[(cpu.base + S.segment + SegmentIndex.SS * SEGMENT_SIZE + Segment.selector) >>> 2]!;
    frameLow[count++] = cpu.u32[(cpu.base + S.gpr + Gpr.RSP * 8) >>> 2]!;
    count = frameCommon(cpu, event, count);
    const attributes = stack.attributes;
    const pointer = innerStackPointer();
    const sp = attributes & Access.Big ? pointer : pointer & 0xffff;
    const newSp = writeFrame(cpu, stack.base, stack.limit, attributes, sp, size, count, true, (ss & 0xfffc) | ext);
    cpu.set32(S.cpl, newCpl);
    installSegment(cpu, SegmentIndex.SS, ss, stack);
    cpu.setReg32(Gpr.RSP, attributes & Access.Big ? newSp : (pointer & 0xffff0000) | newSp);
    if (virtual) {
      installNull(cpu, SegmentIndex.GS, 0);
      installNull(cpu, SegmentIndex.FS, 0);
      installNull(cpu, SegmentIndex.DS, 0);
      installNull(cpu, SegmentIndex.ES, 0);
    }
  } else {
    if (virtual) throw gp(selectorError);
    if (offset > code.limit) throw gp(ext);
    markDescriptor(cpu, code, 0x100);
    count = frameCommon(cpu, event, 0);
    pushFrame(cpu, size, count, ext);
  }
  installSegment(cpu, SegmentIndex.CS, (selector & 0xfffc) | newCpl, code);
  setRip(cpu, offset, 0);
  cpu.u32[rest]! &= ~(Flag.TF | Flag.VM | Flag.RF | Flag.NT | (kind & 1 ? 0 : Flag.IF));
  if (newCpl !== cpl) cpu.mmu.updateContext();
  return true;
}

/** Flags, CS, EIP and the error code, from index `count` of the frame on; returns the number of elements. */
function frameCommon(cpu: Cpu, event: CpuEvent, count: number): number {
  frameLow[count++] = pushedFlags(cpu, event);
  frameLow[count++] = cpu.u32[(cpu.base + S.segment + SegmentIndex.CS * SEGMENT_SIZE + Segment.selector) >>> 2]!;
  frameLow[count++] = returnLow(cpu, event);
  if (event.error >= 0) frameLow[count++] = event.error;
  return count;
}

function deliverTask(cpu: Cpu, event: CpuEvent, ext: number): boolean {
  const selector = gate.gateSelector;
  checkTaskGateTarget(cpu, selector, code, ext);
  const length = event.type >= EventType.SoftwareInterrupt ? event.length : 0;
  if (cpu.hooks?.taskSwitch?.(cpu, selector, TaskSource.Gate, length)) return false;
  cpu.charge(cpu.costs['event.task'] ?? 0, cpu.eventsTo);
  const debugTrap = switchTask(cpu, selector, code, TaskSource.Gate, returnLow(cpu, event), pushedFlags(cpu, event), ext);
  if (event.error >= 0) pushTaskError(cpu, event.error, ext);
  if (debugTrap) throw fault(Vector.Debug, -1, TASK_SWITCH_TRAP);
  return true;
}

function deliverLong(cpu: Cpu, event: CpuEvent): void {
  const vector = event.vector;
  const programmed = isProgrammed(event);
  const ext = programmed ? 0 : 1;
  const cpl = cpu.get32(S.cpl);
  const idtError = vector * 8 + 2 + ext;
  if (vector * 16 + 15 > cpu.get32(S.idtrLimit)) throw gp(idtError);
  const linear = cpu.getSigned(S.idtrBase) + vector * 16;
  readWords(cpu, linear, gate);
  const kind = (gate.high >>> 8) & 0x1f;
  if (kind !== SystemType.InterruptGate32 && kind !== SystemType.TrapGate32) throw gp(idtError);
  if (programmed && gate.dpl < cpl) throw gp(idtError);
  if (!gate.isPresent) throw fault(Vector.SegmentNotPresent, idtError);
  const offsetHigh = cpu.load(linear + 8, 4, true);
  const selector = gate.gateSelector;
  if ((selector & 0xfffc) === 0) throw gp(ext);
  const selectorError = (selector & 0xfffc) | ext;
  readDescriptor(cpu, selector, code, Vector.GeneralProtection, ext);
  if (!code.isCode || code.dpl > cpl || !code.isLong || code.isBig) throw gp(selectorError);
  if (!code.isPresent) throw fault(Vector.SegmentNotPresent, selectorError);
  const newCpl = code.isConforming ? cpl : code.dpl;
  const ist = gate.high & 7;
  let sp: number;
  if (ist !== 0) sp = readLongStack(cpu, ist * 8 + 28, ext);
  else if (newCpl < cpl) sp = readLongStack(cpu, newCpl * 8 + 4, ext);
  else sp = stackPointer(cpu, 64);
  if (!isCanonicalHigh(offsetHigh)) throw gp(ext);
  markDescriptor(cpu, code, 0x100);
  sp -= sp & 15; // long mode aligns every frame
  const rsp = (cpu.base + S.gpr + Gpr.RSP * 8) >>> 2;
  frameLow[0] = cpu.u32[(cpu.base + S.segment + SegmentIndex.SS * SEGMENT_SIZE + Segment.selector) >>> 2]!;
  frameHigh[0] = 0;
  frameLow[1] = cpu.u32[rsp]!;
  frameHigh[1] = cpu.u32[rsp + 1]!;
  frameHigh[2] = 0;
  frameHigh[3] = 0;
  frameHigh[4] = returnHigh(cpu, event);
  frameHigh[5] = 0;
  const count = frameCommon(cpu, event, 2);
  const newSp = writeFrame(cpu, 0, 0, LONG_STACK, sp, 8, count, newCpl < cpl, ext);
  cpu.setSigned(S.gpr + Gpr.RSP * 8, newSp);
  installSegment(cpu, SegmentIndex.CS, (selector & 0xfffc) | newCpl, code);
  setRip(cpu, gate.gateOffset, offsetHigh);
  const rest = (cpu.base + S.flagsRest) >>> 2;
  cpu.u32[rest]! &= ~(Flag.TF | Flag.VM | Flag.RF | Flag.NT | (kind & 1 ? 0 : Flag.IF));
  if (newCpl !== cpl) {
    installNull(cpu, SegmentIndex.SS, newCpl, newCpl);
    cpu.set32(S.cpl, newCpl);
    cpu.mmu.updateContext();
  }
}


/**
 * Virtual-8086 mode extensions: an INT n that the redirection map sends to the program's own vector table (SDM
 * "Class 3—Software Interrupt Handling in Virtual-8086 Mode"). The flags pushed show VIF as IF and an IOPL of 3.
 */
export function redirectInterrupt(cpu: Cpu, vector: number, next: number): void {
  const offset = cpu.load(vector * 4, 2);
  const selector = cpu.load(vector * 4 + 2, 2);
  const flags = cpu.flags;
  const virtualized = cpu.iopl < 3;
  frameLow[0] = virtualized ? (flags & ~Flag.IF) | Flag.IOPL | (flags & Flag.VIF ? Flag.IF : 0) : flags;
  frameLow[1] = cpu.selector(SegmentIndex.CS);
  frameLow[2] = next;
  pushFrame(cpu, 2, 3);
  cpu.set32(S.flagsRest, cpu.get32(S.flagsRest) & ~(Flag.TF | Flag.NT | (virtualized ? Flag.VIF : Flag.IF)));
  cpu.setSegment(SegmentIndex.CS, selector, selector * 16, 0xffff, cpu.attributes(SegmentIndex.CS));
  cpu.rip = offset;
}

/** Bit of the TSS's interrupt redirection map for a vector: true = through the IDT. Throws #GP(0) when the TSS cannot hold one. */
export function redirectionBit(cpu: Cpu, vector: number): boolean {
  const limit = cpu.limit(SegmentIndex.TR);
  if (!(cpu.attributes(SegmentIndex.TR) & 8) || limit < 0x67) throw gp();
  const base = cpu.segmentBase(SegmentIndex.TR);
  const at = cpu.load((base + 0x66) >>> 0, 2, true) - 32 + (vector >> 3);
  if (at < 0 || at > limit) throw gp();
  return (cpu.load((base + at) >>> 0, 1, true) & (1 << (vector & 7))) !== 0;
}

