import { Flow, type Cpu } from './cpu.ts';
import { loadSegment } from './descriptor.ts';
import { fault, ud, Vector } from './fault.ts';
import type { Instruction } from './instruction.ts';
import { readRm16, writeRegister, writeRmSelector } from './operand.ts';
import { frameHigh, frameLow, pushFrame, readFrame, setStackPointer, stackBits, stackPointer } from './stack.ts';
import { Access, S, Segment, SegmentIndex } from './state.ts';

/** Access-rights bits that decoded code depends on. */
const SHAPE = Access.Code | Access.Expand | Access.Writable | Access.Present | Access.Big | Access.Unusable;

/**
 * Loads a data or stack segment register. Decoded code depends on the shape of segments outside 64-bit mode: true
 * when the shape changed, so that the next instruction must be looked up anew.
 */
function reload(cpu: Cpu, index: number, selector: number): boolean {
  const at = (cpu.base + cpu.segmentOffset(index)) >>> 2;
  const words = cpu.u32;
  const base = words[at + (Segment.base >>> 2)]!;
  const limit = words[at + (Segment.limit >>> 2)]!;
  const attributes = words[at + (Segment.attributes >>> 2)]!;
  loadSegment(cpu, index, selector);
  return base !== words[at + (Segment.base >>> 2)]! || limit !== words[at + (Segment.limit >>> 2)]! || ((attributes ^ words[at + (Segment.attributes >>> 2)]!) & SHAPE) !== 0;
}

function flowAfterReload(cpu: Cpu, insn: Instruction, changed: boolean): Flow {
  if (!changed || insn.codeSize === 64) return Flow.Next;
  cpu.advance(insn);
  return Flow.Jump;
}

/** MOV Sreg, r/m16. CS cannot be loaded; SS starts the shadow that keeps interrupts out until RSP is loaded too. */
export function movToSegment(cpu: Cpu, insn: Instruction): Flow {
  const index = insn.reg & 7;
  if (index === SegmentIndex.CS || index > SegmentIndex.GS) throw ud();
  const changed = reload(cpu, index, readRm16(cpu, insn));
  if (index === SegmentIndex.SS) cpu.shadow(2);
  return flowAfterReload(cpu, insn, changed);
}

/** MOV r/m, Sreg. */
export function movFromSegment(cpu: Cpu, insn: Instruction): void {
  const index = insn.reg & 7;
  if (index > SegmentIndex.GS) throw ud();
  writeRmSelector(cpu, insn, cpu.selector(index));
}

export const pushSegment = (index: number) => (cpu: Cpu, insn: Instruction): void => {
  frameLow[0] = cpu.selector(index);
  frameHigh[0] = 0;
  pushFrame(cpu, insn.operandSize >>> 3, 1);
};

export const popSegment = (index: number) => (cpu: Cpu, insn: Instruction): Flow => {
  const bits = stackBits(cpu);
  const size = insn.operandSize >>> 3;
  readFrame(cpu, bits, 0, size, 1);
  const sp = stackPointer(cpu, bits) + size;
  const changed = reload(cpu, index, frameLow[0]! & 0xffff);
  setStackPointer(cpu, bits, sp);
  if (index === SegmentIndex.SS) cpu.shadow(2);
  return flowAfterReload(cpu, insn, changed);
};

/** LDS, LES, LFS, LGS, LSS. */
export const loadFarPointer = (index: number) => (cpu: Cpu, insn: Instruction): Flow => {
  const size = insn.operandSize >>> 3;
  const at = cpu.linearOf(insn, size + 2, false);
  const low = cpu.load(at, size === 2 ? 2 : 4);
  const high = size === 8 ? cpu.load(cpu.wrapLinear(at + 4), 4) : 0;
  const selector = cpu.load(cpu.wrapLinear(at + size), 2);
  const changed = reload(cpu, index, selector);
  writeRegister(cpu, insn.reg, insn.operandSize, low);
  if (size === 8) cpu.set32(S.gpr + insn.reg * 8 + 4, high);
  return flowAfterReload(cpu, insn, changed);
};

/** BOUND: a signed index against a pair of bounds in memory. */
export function bound(cpu: Cpu, insn: Instruction): void {
  const wide = insn.operandSize === 32;
  const at = cpu.linearOf(insn, wide ? 8 : 4, false);
  const signed = (value: number): number => (wide ? value | 0 : (value << 16) >> 16);
  const lower = signed(cpu.load(at, wide ? 4 : 2));
  const upper = signed(cpu.load(cpu.wrapLinear(at + (wide ? 4 : 2)), wide ? 4 : 2));
  const index = signed(cpu.reg32(insn.reg));
  if (index < lower || index > upper) throw fault(Vector.BoundRange);
}

