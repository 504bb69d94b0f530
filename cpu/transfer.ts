import { Flow, type Cpu } from './cpu.ts';
import {
  checkCodeSize, checkStackSegment, Descriptor, dropInnerSegments, installNull, installReal, installSegment, installVirtual8086, isCanonical, isCanonicalHigh,
  markDescriptor, paragraphMode, readDescriptor, readUpper, SystemType, wide,
} from './descriptor.ts';
import { fault, gp, ud, Vector } from './fault.ts';
import type { Instruction } from './instruction.ts';
import {
  frameHigh, frameLow, innerStackPointer, innerStackSelector, LONG_STACK, pushFrameOnly, readFrame, readInnerStack, readLongStack, setStackPointer, stackBits, stackPointer, writeFrame,
} from './stack.ts';
import { Access, Efer, Flag, Gpr, S, SegmentIndex } from './state.ts';
import { checkTaskGateTarget, TaskSource, transferTask } from './task.ts';

const target = new Descriptor();
const code = new Descriptor();
const stack = new Descriptor();

/** Far pointer of the instruction being executed. */
let pointerSelector = 0;
let pointerOffset = 0;

function readImmediatePointer(insn: Instruction): void {
  pointerSelector = insn.immediate2 & 0xffff;
  pointerOffset = insn.operandSize === 16 ? insn.immediate & 0xffff : insn.immediate >>> 0;
}

function readMemoryPointer(cpu: Cpu, insn: Instruction): void {
  if (!insn.memory) throw ud();
  const size = insn.operandSize >>> 3;
  const at = cpu.linearOf(insn, size + 2, false);
  if (size === 8) pointerOffset = wide(cpu.load(cpu.wrapLinear(at + 4), 4), cpu.load(at, 4));
  else pointerOffset = cpu.load(at, size === 2 ? 2 : 4);
  pointerSelector = cpu.load(cpu.wrapLinear(at + size), 2);
}

export function jmpFarDirect(cpu: Cpu, insn: Instruction): Flow {
  readImmediatePointer(insn);
  return jump(cpu, insn);
}

export function jmpFarMemory(cpu: Cpu, insn: Instruction): Flow {
  readMemoryPointer(cpu, insn);
  return jump(cpu, insn);
}

export function callFarDirect(cpu: Cpu, insn: Instruction): Flow {
  readImmediatePointer(insn);
  return call(cpu, insn);
}

export function callFarMemory(cpu: Cpu, insn: Instruction): Flow {
  readMemoryPointer(cpu, insn);
  return call(cpu, insn);
}

const inLongMode = (cpu: Cpu): boolean => (cpu.get32(S.efer) & Efer.LMA) !== 0;

/** CS of a real or virtual-8086 far transfer. The offset must fit the limit. */
function loadParagraph(cpu: Cpu, selector: number, offset: number): void {
  if (cpu.get32(S.flagsRest) & Flag.VM) installVirtual8086(cpu, SegmentIndex.CS, selector);
  else installReal(cpu, SegmentIndex.CS, selector);
  cpu.rip = offset;
}

/** Checks shared by JMP and CALL to a code segment named directly. */
function checkCode(cpu: Cpu, selector: number, descriptor: Descriptor, offset: number): void {
  const error = selector & 0xfffc;
  const cpl = cpu.get32(S.cpl);
  if (descriptor.isConforming) {
    if (descriptor.dpl > cpl) throw gp(error);
  } else if ((selector & 3) > cpl || descriptor.dpl !== cpl) throw gp(error);
  checkCodeSize(cpu, descriptor);
  if (!descriptor.isPresent) throw fault(Vector.SegmentNotPresent, error);
  checkOffset(cpu, descriptor, offset);
}

/** The target offset: canonical in 64-bit code, inside the limit elsewhere. Throws #GP(0). */
function checkOffset(cpu: Cpu, descriptor: Descriptor, offset: number): void {
  if (inLongMode(cpu) && descriptor.isLong) {
    if (!isCanonical(offset)) throw gp();
  } else if (offset < 0 || offset > descriptor.limit) throw gp();
}

function enter(cpu: Cpu, selector: number, descriptor: Descriptor, offset: number): Flow {
  installSegment(cpu, SegmentIndex.CS, selector, descriptor);
  cpu.rip = offset;
  return Flow.Jump;
}

/** Finds what a far JMP or CALL names; returns its 5-bit type (S bit included). Throws #GP. */
function findTarget(cpu: Cpu): number {
  if ((pointerSelector & 0xfffc) === 0) throw gp();
  readDescriptor(cpu, pointerSelector, target);
  return (target.high >>> 8) & 0x1f;
}

/** Gate or TSS privilege: DPL must admit CPL and RPL. */
function checkGatePrivilege(cpu: Cpu): void {
  const error = pointerSelector & 0xfffc;
  if (target.dpl < cpu.get32(S.cpl) || target.dpl < (pointerSelector & 3)) throw gp(error);
}

/** JMP or CALL to a TSS or task gate. */
function toTask(cpu: Cpu, insn: Instruction, type: number, source: TaskSource): Flow {
  const error = pointerSelector & 0xfffc;
  if (inLongMode(cpu)) throw gp(error);
  checkGatePrivilege(cpu);
  let selector = pointerSelector;
  if (type === SystemType.TaskGate) {
    if (!target.isPresent) throw fault(Vector.SegmentNotPresent, error);
    selector = target.gateSelector;
    checkTaskGateTarget(cpu, selector, target, 0);
  } else {
    if (selector & 4) throw gp(error);
    if (!target.isPresent) throw fault(Vector.SegmentNotPresent, error);
  }
  return transferTask(cpu, selector, target, source, insn.length, cpu.nextRip(insn));
}

/** Code segment of a call gate into `code`; its offset. Throws #GP or #NP. */
function readGate(cpu: Cpu, type: number): number {
  const gateError = pointerSelector & 0xfffc;
  const long = inLongMode(cpu);
  if (long && type !== SystemType.CallGate32) throw gp(gateError);
  checkGatePrivilege(cpu);
  if (!target.isPresent) throw fault(Vector.SegmentNotPresent, gateError);
  let offset = type === SystemType.CallGate16 ? target.low & 0xffff : target.gateOffset;
  if (long) {
    readUpper(cpu, target);
    offset = isCanonicalHigh(target.upper) ? wide(target.upper, offset) : 2 ** 60;
  }
  const selector = target.gateSelector;
  const error = selector & 0xfffc;
  if (error === 0) throw gp();
  readDescriptor(cpu, selector, code);
  if (!code.isCode || code.dpl > cpu.get32(S.cpl)) throw gp(error);
  if (long && (!code.isLong || code.isBig)) throw gp(error);
  if (!code.isPresent) throw fault(Vector.SegmentNotPresent, error);
  return offset;
}

function jump(cpu: Cpu, insn: Instruction): Flow {
  if (paragraphMode(cpu)) {
    if (pointerOffset > (cpu.get32(S.flagsRest) & Flag.VM ? 0xffff : cpu.limit(SegmentIndex.CS))) throw gp();
    loadParagraph(cpu, pointerSelector, pointerOffset);
    return Flow.Jump;
  }
  const type = findTarget(cpu);
  const cpl = cpu.get32(S.cpl);
  if (target.isCode) {
    checkCode(cpu, pointerSelector, target, pointerOffset);
    markDescriptor(cpu, target, 0x100);
    return enter(cpu, (pointerSelector & 0xfffc) | cpl, target, pointerOffset);
  }
  switch (type) {
    case SystemType.CallGate16:
    case SystemType.CallGate32: {
      const offset = readGate(cpu, type);
      if (!code.isConforming && code.dpl !== cpl) throw gp(target.gateSelector & 0xfffc);
      checkOffset(cpu, code, offset);
      markDescriptor(cpu, code, 0x100);
      return enter(cpu, (target.gateSelector & 0xfffc) | cpl, code, offset);
    }
    case SystemType.TaskGate:
    case SystemType.AvailableTss16:
    case SystemType.AvailableTss32:
      return toTask(cpu, insn, type, TaskSource.Jmp);
    default:
      throw gp(pointerSelector & 0xfffc);
  }
}

/** CS and the return address as frame elements from index `at` on. */
function frameReturn(cpu: Cpu, insn: Instruction, at: number): void {
  const next = cpu.nextRip(insn);
  frameLow[at] = cpu.selector(SegmentIndex.CS);
  frameHigh[at] = 0;
  frameLow[at + 1] = next;
  frameHigh[at + 1] = Math.floor(next / 4294967296);
}

function call(cpu: Cpu, insn: Instruction): Flow {
  const bits = stackBits(cpu);
  const size = insn.operandSize >>> 3;
  if (paragraphMode(cpu)) {
    if (pointerOffset > (cpu.get32(S.flagsRest) & Flag.VM ? 0xffff : cpu.limit(SegmentIndex.CS))) throw gp();
    frameReturn(cpu, insn, 0);
    const sp = pushFrameOnly(cpu, bits, size, 2);
    setStackPointer(cpu, bits, sp);
    loadParagraph(cpu, pointerSelector, pointerOffset);
    return Flow.Jump;
  }
  const type = findTarget(cpu);
  const cpl = cpu.get32(S.cpl);
  if (target.isCode) {
    checkCode(cpu, pointerSelector, target, pointerOffset);
    markDescriptor(cpu, target, 0x100);
    frameReturn(cpu, insn, 0);
    const sp = pushFrameOnly(cpu, bits, size, 2);
    setStackPointer(cpu, bits, sp);
    return enter(cpu, (pointerSelector & 0xfffc) | cpl, target, pointerOffset);
  }
  switch (type) {
    case SystemType.CallGate16:
    case SystemType.CallGate32: {
      const offset = readGate(cpu, type);
      if (!code.isConforming && code.dpl < cpl) return inLongMode(cpu) ? callInnerLong(cpu, insn, offset) : callInner(cpu, insn, type, offset);
      checkOffset(cpu, code, offset);
      markDescriptor(cpu, code, 0x100);
      frameReturn(cpu, insn, 0);
      const sp = pushFrameOnly(cpu, bits, inLongMode(cpu) ? 8 : type === SystemType.CallGate32 ? 4 : 2, 2);
      setStackPointer(cpu, bits, sp);
      return enter(cpu, (target.gateSelector & 0xfffc) | cpl, code, offset);
    }
    case SystemType.TaskGate:
    case SystemType.AvailableTss16:
    case SystemType.AvailableTss32:
      return toTask(cpu, insn, type, TaskSource.Call);
    default:
      throw gp(pointerSelector & 0xfffc);
  }
}

/** Call gate to a more privileged ring: new stack from the TSS, parameters copied. */
function callInner(cpu: Cpu, insn: Instruction, type: number, offset: number): Flow {
  const newCpl = code.dpl;
  const size = type === SystemType.CallGate32 ? 4 : 2;
  const parameters = target.high & 0x1f;
  readInnerStack(cpu, newCpl, 0);
  const ss = innerStackSelector();
  if ((ss & 0xfffc) === 0) throw fault(Vector.InvalidTss, 0);
  checkStackSegment(cpu, ss, newCpl, stack, Vector.InvalidTss);
  checkOffset(cpu, code, offset);
  // the parameters arrive in popping order; the frame holds them in pushing order
  if (parameters > 0) readFrame(cpu, stackBits(cpu), 0, size, parameters, 2);
  for (let low = 2, high = parameters + 1; low < high; low++, high--) {
    const swap = frameLow[low]!;
    frameLow[low] = frameLow[high]!;
    frameLow[high] = swap;
  }
  frameLow[0] = cpu.selector(SegmentIndex.SS);
  frameLow[1] = cpu.reg32(Gpr.RSP);
  frameReturn(cpu, insn, parameters + 2);
  markDescriptor(cpu, stack, 0x100);
  markDescriptor(cpu, code, 0x100);
  const attributes = stack.attributes;
  const pointer = innerStackPointer();
  const big = (attributes & Access.Big) !== 0;
  const sp = writeFrame(cpu, stack.base, stack.limit, attributes, big ? pointer : pointer & 0xffff, size, parameters + 4, true, ss & 0xfffc);
  cpu.set32(S.cpl, newCpl);
  installSegment(cpu, SegmentIndex.SS, ss, stack);
  cpu.setReg32(Gpr.RSP, big ? sp : (pointer & 0xffff0000) | sp);
  enter(cpu, (target.gateSelector & 0xfffc) | newCpl, code, offset);
  cpu.mmu.updateContext();
  return Flow.Jump;
}

/** 64-bit call gate to a more privileged ring: no parameters, SS becomes null. */
function callInnerLong(cpu: Cpu, insn: Instruction, offset: number): Flow {
  const newCpl = code.dpl;
  const pointer = readLongStack(cpu, newCpl * 8 + 4, 0);
  checkOffset(cpu, code, offset);
  const rsp = stackPointer(cpu, 64);
  frameLow[0] = cpu.selector(SegmentIndex.SS);
  frameHigh[0] = 0;
  frameLow[1] = rsp;
  frameHigh[1] = Math.floor(rsp / 4294967296);
  frameReturn(cpu, insn, 2);
  markDescriptor(cpu, code, 0x100);
  const sp = writeFrame(cpu, 0, 0, LONG_STACK, pointer, 8, 4, true, 0);
  cpu.set32(S.cpl, newCpl);
  installNull(cpu, SegmentIndex.SS, newCpl, newCpl);
  cpu.setSigned(S.gpr + Gpr.RSP * 8, sp);
  enter(cpu, (target.gateSelector & 0xfffc) | newCpl, code, offset);
  cpu.mmu.updateContext();
  return Flow.Jump;
}

const wrap = (value: number, bits: 16 | 32 | 64): number => (bits === 16 ? value & 0xffff : bits === 32 ? value >>> 0 : value);

/** RETF and RETF imm16. */
export function retf(cpu: Cpu, insn: Instruction): Flow {
  const release = insn.row.operands.length > 0 ? insn.immediate & 0xffff : 0;
  const bits = stackBits(cpu);
  const size = insn.operandSize >>> 3;
  readFrame(cpu, bits, 0, size, 2);
  const offset = size === 8 ? wide(frameHigh[0]!, frameLow[0]!) : frameLow[0]!;
  const cs = frameLow[1]! & 0xffff;
  const after = wrap(stackPointer(cpu, bits) + 2 * size + release, bits);
  if (paragraphMode(cpu)) {
    if (offset > (cpu.get32(S.flagsRest) & Flag.VM ? 0xffff : cpu.limit(SegmentIndex.CS))) throw gp();
    setStackPointer(cpu, bits, after);
    loadParagraph(cpu, cs, offset);
    return Flow.Jump;
  }
  const cpl = cpu.get32(S.cpl);
  const error = cs & 0xfffc;
  const rpl = cs & 3;
  if (error === 0) throw gp();
  readDescriptor(cpu, cs, code);
  if (!code.isCode || rpl < cpl) throw gp(error);
  if (code.isConforming ? code.dpl > rpl : code.dpl !== rpl) throw gp(error);
  checkCodeSize(cpu, code);
  if (!code.isPresent) throw fault(Vector.SegmentNotPresent, error);
  if (rpl === cpl) {
    checkOffset(cpu, code, offset);
    markDescriptor(cpu, code, 0x100);
    setStackPointer(cpu, bits, after);
    return enter(cpu, cs, code, offset);
  }
  readFrame(cpu, bits, 2 * size + release, size, 2, 2);
  const ss = frameLow[3]! & 0xffff;
  const to64 = inLongMode(cpu) && code.isLong;
  let nullStack = false;
  if ((ss & 0xfffc) === 0) {
    if (!to64 || rpl === 3 || (ss & 3) !== rpl) throw gp();
    nullStack = true;
  } else checkStackSegment(cpu, ss, rpl, stack);
  checkOffset(cpu, code, offset);
  markDescriptor(cpu, code, 0x100);
  const newBits = to64 ? 64 : stack.isBig ? 32 : 16;
  const sp = size === 8 ? wide(frameHigh[2]!, frameLow[2]!) : frameLow[2]!;
  if (nullStack) installNull(cpu, SegmentIndex.SS, ss, rpl);
  else {
    markDescriptor(cpu, stack, 0x100);
    installSegment(cpu, SegmentIndex.SS, ss, stack);
  }
  setStackPointer(cpu, newBits, wrap(sp + release, newBits));
  enter(cpu, cs, code, offset);
  cpu.set32(S.cpl, rpl);
  dropInnerSegments(cpu, rpl);
  cpu.mmu.updateContext();
  return Flow.Jump;
}
