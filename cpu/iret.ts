import { Flow, type Cpu } from './cpu.ts';
import { checkCodeSize, Descriptor, dropInnerSegments, installNull, installReal, installSegment, installVirtual8086, isCanonicalHigh, markDescriptor, readDescriptor, checkStackSegment } from './descriptor.ts';
import { fault, gp, Vector } from './fault.ts';
import type { Instruction } from './instruction.ts';
import { frameHigh, frameLow, readFrame, setStackPointer, stackBits, stackPointer } from './stack.ts';
import { Cr0, Efer, Flag, Gpr, S, SegmentIndex, STATUS_FLAGS } from './state.ts';
import { returnTask } from './task.ts';

const code = new Descriptor();
const stack = new Descriptor();

/** Flags that IRET and POPF change at any privilege. */
export const USER_FLAGS = STATUS_FLAGS | Flag.TF | Flag.DF | Flag.NT;

/** What the run loop must know after flags were loaded: single-stepping began, or an interrupt may come in now. */
export function flowAfterFlags(cpu: Cpu, flow: Flow): Flow {
  const rest = cpu.get32(S.flagsRest);
  if (rest & Flag.TF || (rest & Flag.IF && cpu.get32(S.interruptPending) !== 0)) return Flow.Leave;
  return flow;
}

function changeFlags(cpu: Cpu, mask: number, value: number): void {
  const before = cpu.flags;
  const after = (before & ~mask) | (value & mask);
  cpu.flags = after;
  if ((before ^ after) & Flag.AC) cpu.mmu.updateContext();
}

/** IRET, IRETD, IRETQ (SDM "IRET/IRETD/IRETQ—Interrupt Return"). */
export function iret(cpu: Cpu, insn: Instruction): Flow {
  const rest = cpu.get32(S.flagsRest);
  if (!(cpu.get32(S.cr0) & Cr0.PE)) return iretReal(cpu, insn);
  if (rest & Flag.VM) return iretVirtual(cpu, insn);
  if (rest & Flag.NT) {
    if (cpu.get32(S.efer) & Efer.LMA) throw gp();
    cpu.set32(S.nmiBlocked, 0);
    return returnTask(cpu, insn.length, cpu.nextRip(insn));
  }
  return iretProtected(cpu, insn);
}

function iretReal(cpu: Cpu, insn: Instruction): Flow {
  cpu.set32(S.nmiBlocked, 0);
  const bits = stackBits(cpu);
  const size = insn.operandSize >>> 3;
  readFrame(cpu, bits, 0, size, 3);
  const rip = frameLow[0]!;
  if (rip > cpu.limit(SegmentIndex.CS)) throw gp();
  const wide = insn.operandSize === 32;
  setStackPointer(cpu, bits, wrap(stackPointer(cpu, bits) + 3 * size, bits));
  installReal(cpu, SegmentIndex.CS, frameLow[1]! & 0xffff);
  cpu.rip = rip;
  changeFlags(cpu, USER_FLAGS | Flag.IF | Flag.IOPL | (wide ? Flag.RF | Flag.AC | Flag.ID : 0), frameLow[2]!);
  return flowAfterFlags(cpu, Flow.Jump);
}

function wrap(value: number, bits: 16 | 32 | 64): number {
  return bits === 16 ? value & 0xffff : bits === 32 ? value >>> 0 : value;
}

function iretVirtual(cpu: Cpu, insn: Instruction): Flow {
  const wide = insn.operandSize === 32;
  const extended = cpu.iopl < 3;
  if (extended && (!cpu.hasCr4('VME') || wide)) throw gp();
  const bits = stackBits(cpu);
  const size = insn.operandSize >>> 3;
  readFrame(cpu, bits, 0, size, 3);
  const rip = frameLow[0]!;
  const image = frameLow[2]!;
  if (rip > 0xffff) throw gp();
  if (extended && (image & Flag.TF || (image & Flag.IF && cpu.get32(S.flagsRest) & Flag.VIP))) throw gp();
  cpu.set32(S.nmiBlocked, 0);
  setStackPointer(cpu, bits, wrap(stackPointer(cpu, bits) + 3 * size, bits));
  installVirtual8086(cpu, SegmentIndex.CS, frameLow[1]! & 0xffff);
  cpu.rip = rip;
  if (extended) changeFlags(cpu, USER_FLAGS | Flag.VIF, (image & ~Flag.VIF) | (image & Flag.IF ? Flag.VIF : 0));
  else changeFlags(cpu, USER_FLAGS | Flag.IF | (wide ? Flag.RF | Flag.AC | Flag.ID : 0), image);
  return flowAfterFlags(cpu, Flow.Jump);
}

function iretProtected(cpu: Cpu, insn: Instruction): Flow {
  cpu.set32(S.nmiBlocked, 0);
  const bits = stackBits(cpu);
  const size = insn.operandSize >>> 3;
  const long = bits === 64;
  readFrame(cpu, bits, 0, size, long ? 5 : 3);
  const cpl = cpu.get32(S.cpl);
  const image = frameLow[2]!;
  if (image & Flag.VM && cpl === 0 && size === 4 && !(cpu.get32(S.efer) & Efer.LMA)) return iretToVirtual(cpu, bits);
  const cs = frameLow[1]! & 0xffff;
  const error = cs & 0xfffc;
  if (error === 0) throw gp();
  readDescriptor(cpu, cs, code);
  const rpl = cs & 3;
  if (!code.isCode || rpl < cpl) throw gp(error);
  if (code.isConforming ? code.dpl > rpl : code.dpl !== rpl) throw gp(error);
  if (!code.isPresent) throw fault(Vector.SegmentNotPresent, error);
  checkCodeSize(cpu, code);
  const to64 = code.isLong && (cpu.get32(S.efer) & Efer.LMA) !== 0;
  const outer = rpl > cpl;
  let newBits = bits;
  let sp = 0;
  let nullStack = false;
  if (outer || long) {
    if (!long) readFrame(cpu, bits, 3 * size, size, 2, 3);
    const ss = frameLow[4]! & 0xffff;
    if ((ss & 0xfffc) === 0) {
      if (!to64 || rpl === 3 || (ss & 3) !== rpl) throw gp();
      nullStack = true;
    } else checkStackSegment(cpu, ss, rpl, stack);
    newBits = to64 ? 64 : !nullStack && stack.isBig ? 32 : 16;
    sp = frameHigh[3]! === 0 ? frameLow[3]! : (frameHigh[3]! | 0) * 4294967296 + frameLow[3]!;
  }
  if (to64) {
    if (!isCanonicalHigh(frameHigh[0]!)) throw gp();
  } else if (frameLow[0]! > code.limit) throw gp();
  if ((outer || long) && !nullStack) markDescriptor(cpu, stack, 0x100);
  markDescriptor(cpu, code, 0x100);

  if (outer || long) {
    const ss = frameLow[4]! & 0xffff;
    if (nullStack) installNull(cpu, SegmentIndex.SS, ss, rpl);
    else installSegment(cpu, SegmentIndex.SS, ss, stack);
    // the whole image goes to RSP in 64-bit code; a 16-bit stack takes only SP
    if (long && newBits === 64) {
      const at = (cpu.base + S.gpr + Gpr.RSP * 8) >>> 2;
      cpu.u32[at] = frameLow[3]!;
      cpu.u32[at + 1] = frameHigh[3]!;
    } else setStackPointer(cpu, newBits, wrap(sp, newBits));
  } else setStackPointer(cpu, bits, wrap(stackPointer(cpu, bits) + 3 * size, bits));
  installSegment(cpu, SegmentIndex.CS, cs, code);
  const rip = (cpu.base + S.rip) >>> 2;
  cpu.u32[rip] = frameLow[0]!;
  cpu.u32[rip + 1] = to64 ? frameHigh[0]! : 0;

  let mask = USER_FLAGS;
  if (size !== 2) mask |= Flag.RF | Flag.AC | Flag.ID;
  if (cpl <= cpu.iopl) mask |= Flag.IF;
  if (cpl === 0) mask |= Flag.IOPL | (size !== 2 ? Flag.VIF | Flag.VIP : 0);
  const acBefore = cpu.get32(S.flagsRest) & Flag.AC;
  cpu.flags = (cpu.flags & ~mask) | (image & mask);
  if (outer) {
    cpu.set32(S.cpl, rpl);
    dropInnerSegments(cpu, rpl);
    cpu.mmu.updateContext();
  } else if (acBefore !== (cpu.get32(S.flagsRest) & Flag.AC)) cpu.mmu.updateContext();
  return flowAfterFlags(cpu, Flow.Jump);
}

/** IRETD at CPL 0 whose EFLAGS image has VM set: a virtual-8086 program continues. */
function iretToVirtual(cpu: Cpu, bits: 16 | 32 | 64): Flow {
  readFrame(cpu, bits, 12, 4, 6, 3); // ESP SS ES DS FS GS
  if (frameLow[0]! > 0xffff) throw gp();
  cpu.flags = frameLow[2]!;
  cpu.rip = frameLow[0]!;
  installVirtual8086(cpu, SegmentIndex.CS, frameLow[1]! & 0xffff);
  cpu.setReg32(Gpr.RSP, frameLow[3]!);
  installVirtual8086(cpu, SegmentIndex.SS, frameLow[4]! & 0xffff);
  installVirtual8086(cpu, SegmentIndex.ES, frameLow[5]! & 0xffff);
  installVirtual8086(cpu, SegmentIndex.DS, frameLow[6]! & 0xffff);
  installVirtual8086(cpu, SegmentIndex.FS, frameLow[7]! & 0xffff);
  installVirtual8086(cpu, SegmentIndex.GS, frameLow[8]! & 0xffff);
  cpu.set32(S.cpl, 3);
  cpu.mmu.updateContext();
  return flowAfterFlags(cpu, Flow.Jump);
}
