import { Flow, type Cpu } from './cpu.ts';
import { clearBusy, Descriptor, findDescriptor, installNull, installSegment, installVirtual8086, markDescriptor, SystemType } from './descriptor.ts';
import { EventType } from './events.ts';
import { fault, gp, isFault, Vector } from './fault.ts';
import { loadPageDirectoryBase } from './control.ts';
import { ABORT_VECTOR } from './mmu.ts';
import { frameLow, pushFrame } from './stack.ts';
import { Cr0, Flag, S, SegmentIndex } from './state.ts';

/** What started a task switch, numbered as in the exit qualification of SDM "Exit Qualification for Task Switches". */
export const TaskSource = { Call: 0, Iret: 1, Jmp: 2, Gate: 3 } as const;
export type TaskSource = (typeof TaskSource)[keyof typeof TaskSource];

/** DR6.BT. */
export const TASK_SWITCH_TRAP = 0x8000;

/** Offsets in the two forms of TSS (SDM "Task-State Segment (TSS)" and "16-Bit Task-State Segment (TSS)"). */
const Tss32 = { cr3: 0x1c, eip: 0x20, eflags: 0x24, gpr: 0x28, segments: 0x48, ldt: 0x60, trap: 0x64, minimum: 0x67 } as const;
const Tss16 = { ip: 0x0e, flags: 0x10, gpr: 0x12, segments: 0x22, ldt: 0x2a, minimum: 0x2b } as const;

const segmentOrder = [SegmentIndex.ES, SegmentIndex.CS, SegmentIndex.SS, SegmentIndex.DS, SegmentIndex.FS, SegmentIndex.GS] as const;

const oldDescriptor = new Descriptor();
const scratch = new Descriptor();
const image = new Uint32Array(24);
/** The switch in progress has reached the new task. */
let entered = false;

/** Selector of a task gate: must name an available TSS in the GDT. Throws #GP or #NP with the selector. */
export function checkTaskGateTarget(cpu: Cpu, selector: number, into: Descriptor, ext: number): void {
  const error = (selector & 0xfffc) | ext;
  if (selector & 4 || (selector & 0xfffc) === 0 || !findDescriptor(cpu, selector, into)) throw gp(error);
  const type = (into.high >>> 8) & 0x1f;
  if (type !== SystemType.AvailableTss16 && type !== SystemType.AvailableTss32) throw gp(error);
  if (!into.isPresent) throw fault(Vector.SegmentNotPresent, error);
}

/**
 * Switches to the task whose TSS descriptor (type and presence checked) is given: SDM "Task Switching". Faults before
 * the commit leave everything as it was; faults of the new task's segments are thrown in its own context.
 * @param nextEip EIP the old task resumes at; `flags`: its EFLAGS
 * @returns true when the new TSS asks for a debug trap (throw #DB with {@link TASK_SWITCH_TRAP})
 */
export function switchTask(cpu: Cpu, selector: number, target: Descriptor, source: TaskSource, nextEip: number, flags: number, ext: number): boolean {
  const error = (selector & 0xfffc) | ext;
  const wide = (target.type & 8) !== 0;
  const newBase = target.base;
  if (target.limit < (wide ? Tss32.minimum : Tss16.minimum)) throw fault(Vector.InvalidTss, error);
  const oldSelector = cpu.selector(SegmentIndex.TR);
  const oldBase = cpu.segmentBase(SegmentIndex.TR);
  const oldWide = (cpu.attributes(SegmentIndex.TR) & 8) !== 0;
  if (cpu.limit(SegmentIndex.TR) < (oldWide ? 0x5f : 0x29)) throw fault(Vector.InvalidTss, (oldSelector & 0xfffc) | ext);
  const nests = source === TaskSource.Call || source === TaskSource.Gate;

  // all that can fault, before anything changes
  const at = (base: number, offset: number): number => (base + offset) >>> 0;
  let cr3 = 0;
  let trap = false;
  let ldt: number;
  if (wide) {
    for (let i = 0; i < 10; i++) image[i] = cpu.load(at(newBase, Tss32.eip + i * 4), 4, true);
    for (let i = 0; i < 6; i++) image[10 + i] = cpu.load(at(newBase, Tss32.segments + i * 4), 2, true);
    cr3 = cpu.load(at(newBase, Tss32.cr3), 4, true);
    ldt = cpu.load(at(newBase, Tss32.ldt), 2, true);
    trap = (cpu.load(at(newBase, Tss32.trap), 1, true) & 1) !== 0;
  } else {
    for (let i = 0; i < 10; i++) image[i] = cpu.load(at(newBase, Tss16.ip + i * 2), 2, true);
    for (let i = 0; i < 4; i++) image[10 + i] = cpu.load(at(newBase, Tss16.segments + i * 2), 2, true);
    image[14] = image[15] = 0;
    ldt = cpu.load(at(newBase, Tss16.ldt), 2, true);
  }
  if (nests) cpu.probeWrite(newBase, 2, true);
  else if (!findDescriptor(cpu, oldSelector, oldDescriptor)) throw fault(Vector.InvalidTss, (oldSelector & 0xfffc) | ext);
  if (oldWide) {
    cpu.probeWrite(at(oldBase, Tss32.eip), 4, true);
    cpu.probeWrite(at(oldBase, Tss32.segments + 20), 2, true);
  } else {
    cpu.probeWrite(at(oldBase, Tss16.ip), 2, true);
    cpu.probeWrite(at(oldBase, Tss16.segments + 6), 2, true);
  }

  // leave the old task
  if (!nests) clearBusy(cpu, oldDescriptor);
  const savedFlags = source === TaskSource.Iret ? flags & ~Flag.NT : flags;
  if (oldWide) {
    cpu.store(at(oldBase, Tss32.eip), 4, nextEip, true);
    cpu.store(at(oldBase, Tss32.eflags), 4, savedFlags, true);
    for (let i = 0; i < 8; i++) cpu.store(at(oldBase, Tss32.gpr + i * 4), 4, cpu.reg32(i), true);
    for (let i = 0; i < 6; i++) cpu.store(at(oldBase, Tss32.segments + i * 4), 2, cpu.selector(segmentOrder[i]!), true);
  } else {
    cpu.store(at(oldBase, Tss16.ip), 2, nextEip & 0xffff, true);
    cpu.store(at(oldBase, Tss16.flags), 2, savedFlags & 0xffff, true);
    for (let i = 0; i < 8; i++) cpu.store(at(oldBase, Tss16.gpr + i * 2), 2, cpu.reg32(i) & 0xffff, true);
    for (let i = 0; i < 4; i++) cpu.store(at(oldBase, Tss16.segments + i * 2), 2, cpu.selector(segmentOrder[i]!), true);
  }
  if (nests) cpu.store(newBase, 2, oldSelector, true);
  if (source !== TaskSource.Iret) markDescriptor(cpu, target, 0x200);

  // enter the new one
  entered = true;
  installSegment(cpu, SegmentIndex.TR, selector, target);
  cpu.set32(cpu.segmentOffset(SegmentIndex.TR) + 12, target.attributes | 2);
  const cr0 = cpu.cr0;
  cpu.set32(S.cr0, cr0 | Cr0.TS);
  cpu.set32(S.dr + 56, cpu.get32(S.dr + 56) & ~0x155); // local breakpoints belong to a task
  cpu.rip = image[0]!;
  cpu.flags = image[1]! | (nests ? Flag.NT : 0);
  for (let i = 0; i < 8; i++) cpu.setReg32(i, image[2 + i]!);
  const virtual = wide && (image[1]! & Flag.VM) !== 0;
  for (let i = 0; i < 6; i++) installNull(cpu, segmentOrder[i]!, image[10 + i]!);
  installNull(cpu, SegmentIndex.LDTR, ldt);
  const cpl = virtual ? 3 : image[11]! & 3;
  cpu.set32(S.cpl, cpl);
  if (wide && cr0 & Cr0.PG && cr3 !== cpu.get32(S.cr3)) loadPageDirectoryBase(cpu, cr3, 0);
  cpu.mmu.updateContext();
  loadTaskSegments(cpu, ldt, virtual, cpl, ext);
  return trap;
}

/** Descriptors of the new task; the selectors are in the registers already. Throws #TS, #NP or #SS in the new task. */
function loadTaskSegments(cpu: Cpu, ldt: number, virtual: boolean, cpl: number, ext: number): void {
  const raise = (vector: number, selector: number): never => { throw fault(vector, (selector & 0xfffc) | ext); };
  if (ldt & 0xfffc) {
    if (ldt & 4 || !findDescriptor(cpu, ldt, scratch) || ((scratch.high >>> 8) & 0x1f) !== SystemType.Ldt || !scratch.isPresent) raise(Vector.InvalidTss, ldt);
    installSegment(cpu, SegmentIndex.LDTR, ldt, scratch);
  }
  if (virtual) {
    for (const n of segmentOrder) installVirtual8086(cpu, n, cpu.selector(n));
    if (cpu.rip > 0xffff) throw gp(ext);
    return;
  }
  const cs = cpu.selector(SegmentIndex.CS);
  if ((cs & 0xfffc) === 0 || !findDescriptor(cpu, cs, scratch) || !scratch.isCode) raise(Vector.InvalidTss, cs);
  if (scratch.isConforming ? scratch.dpl > cpl : scratch.dpl !== cpl) raise(Vector.InvalidTss, cs);
  if (!scratch.isPresent) raise(Vector.SegmentNotPresent, cs);
  markDescriptor(cpu, scratch, 0x100);
  installSegment(cpu, SegmentIndex.CS, cs, scratch);
  const ss = cpu.selector(SegmentIndex.SS);
  if ((ss & 0xfffc) === 0 || !findDescriptor(cpu, ss, scratch) || (ss & 3) !== cpl || !scratch.isWritable || scratch.dpl !== cpl) raise(Vector.InvalidTss, ss);
  if (!scratch.isPresent) raise(Vector.StackFault, ss);
  markDescriptor(cpu, scratch, 0x100);
  installSegment(cpu, SegmentIndex.SS, ss, scratch);
  for (const n of [SegmentIndex.DS, SegmentIndex.ES, SegmentIndex.FS, SegmentIndex.GS]) {
    const selector = cpu.selector(n);
    if ((selector & 0xfffc) === 0) continue;
    if (!findDescriptor(cpu, selector, scratch)) raise(Vector.InvalidTss, selector);
    const type = scratch.high & 0x1e00;
    if (!(type & 0x1000) || (type & 0x0a00) === 0x0800) raise(Vector.InvalidTss, selector);
    if ((type & 0x0c00) !== 0x0c00 && (scratch.dpl < cpl || scratch.dpl < (selector & 3))) raise(Vector.InvalidTss, selector);
    if (!scratch.isPresent) raise(Vector.SegmentNotPresent, selector);
    markDescriptor(cpu, scratch, 0x100);
    installSegment(cpu, n, selector, scratch);
  }
  if (cpu.rip > cpu.limit(SegmentIndex.CS)) throw gp(ext);
}

/** Pushes the error code of an exception onto the stack of the task that a task gate entered. */
export function pushTaskError(cpu: Cpu, error: number, ext: number): void {
  frameLow[0] = error;
  pushFrame(cpu, cpu.attributes(SegmentIndex.TR) & 8 ? 4 : 2, 1, ext);
}

/** JMP, CALL or IRET that goes to another task; RIP is still the instruction's. */
export function transferTask(cpu: Cpu, selector: number, target: Descriptor, source: TaskSource, length: number, nextEip: number): Flow {
  if (cpu.hooks?.taskSwitch?.(cpu, selector, source, length)) return Flow.Leave;
  entered = false;
  try {
    if (switchTask(cpu, selector, target, source, nextEip, cpu.flags, 0)) throw fault(Vector.Debug, -1, TASK_SWITCH_TRAP);
  } catch (caught) {
    if (!isFault(caught) || !entered || caught.vector === ABORT_VECTOR) throw caught;
    // the instruction is complete: the fault is the new task's, before its first instruction
    cpu.interrupted = true;
    cpu.deliver({ type: EventType.HardwareException, vector: caught.vector, error: caught.error, data: caught.linear, length: 0 });
  }
  return Flow.Leave;
}

/** IRET with NT set: back to the task named by the link field of the current TSS. */
export function returnTask(cpu: Cpu, length: number, nextEip: number): Flow {
  const link = cpu.load(cpu.segmentBase(SegmentIndex.TR), 2, true);
  const error = link & 0xfffc;
  if (link & 4 || error === 0 || !findDescriptor(cpu, link, taskDescriptor)) throw fault(Vector.InvalidTss, error);
  const type = (taskDescriptor.high >>> 8) & 0x1f;
  if (type !== SystemType.BusyTss16 && type !== SystemType.BusyTss32) throw fault(Vector.InvalidTss, error);
  if (!taskDescriptor.isPresent) throw fault(Vector.SegmentNotPresent, error);
  return transferTask(cpu, link, taskDescriptor, TaskSource.Iret, length, nextEip);
}

const taskDescriptor = new Descriptor();
