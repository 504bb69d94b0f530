import type { Cpu } from './cpu.ts';
import { checkUmip } from './control.ts';
import { Descriptor, findDescriptor, installNull, installSegment, isCanonicalHigh, markDescriptor, paragraphMode, readDescriptor, readUpper, SystemType } from './descriptor.ts';
import { fault, gp, ud, Vector } from './fault.ts';
import type { Instruction } from './instruction.ts';
import { readRm16, writeRegister, writeRmSelector } from './operand.ts';
import { Efer, Flag, S, Segment, SegmentIndex } from './state.ts';

const descriptor = new Descriptor();

/** LGDT and LIDT, given the state fields. */
export const loadTable = (base: number, limit: number) => (cpu: Cpu, insn: Instruction): void => {
  if (cpu.get32(S.cpl) !== 0) throw gp();
  const long = insn.codeSize === 64;
  const at = cpu.linearOf(insn, long ? 10 : 6, false);
  const newLimit = cpu.load(at, 2);
  let low = cpu.load(cpu.wrapLinear(at + 2), 4);
  const high = long ? cpu.load(cpu.wrapLinear(at + 6), 4) : 0;
  if (long ? !isCanonicalHigh(high) : false) throw gp();
  if (!long && insn.operandSize === 16) low &= 0xffffff;
  cpu.set32(limit, newLimit);
  cpu.set32(base, low);
  cpu.set32(base + 4, high);
};

/** SGDT and SIDT: the whole 32-bit base whatever the operand size, as processors since the 80386 do. */
export const storeTable = (base: number, limit: number) => (cpu: Cpu, insn: Instruction): void => {
  checkUmip(cpu);
  const long = insn.codeSize === 64;
  const size = long ? 10 : 6;
  const at = cpu.linearOf(insn, size, true);
  cpu.probeWrite(at, size);
  cpu.store(at, 2, cpu.get32(limit));
  cpu.store(cpu.wrapLinear(at + 2), 4, cpu.get32(base));
  if (long) cpu.store(cpu.wrapLinear(at + 6), 4, cpu.get32(base + 4));
};

export function lldt(cpu: Cpu, insn: Instruction): void {
  if (paragraphMode(cpu)) throw ud();
  if (cpu.get32(S.cpl) !== 0) throw gp();
  const selector = readRm16(cpu, insn);
  if ((selector & 0xfffc) === 0) {
    installNull(cpu, SegmentIndex.LDTR, selector);
    return;
  }
  loadSystemSegment(cpu, SegmentIndex.LDTR, selector, SystemType.Ldt, -1);
}

export function ltr(cpu: Cpu, insn: Instruction): void {
  if (paragraphMode(cpu)) throw ud();
  if (cpu.get32(S.cpl) !== 0) throw gp();
  const selector = readRm16(cpu, insn);
  if ((selector & 0xfffc) === 0) throw gp();
  loadSystemSegment(cpu, SegmentIndex.TR, selector, SystemType.AvailableTss32, cpu.longMode ? -1 : SystemType.AvailableTss16);
}

/** LDTR or TR from the GDT; 16-byte descriptors in long mode. Throws #GP or #NP with the selector. */
function loadSystemSegment(cpu: Cpu, index: number, selector: number, type: number, otherType: number): void {
  const error = selector & 0xfffc;
  if (selector & 4) throw gp(error);
  readDescriptor(cpu, selector, descriptor);
  const found = (descriptor.high >>> 8) & 0x1f;
  if (found !== type && found !== otherType) throw gp(error);
  const long = cpu.longMode;
  if (long) {
    readUpper(cpu, descriptor);
    if (!isCanonicalHigh(descriptor.upper)) throw gp(error);
  }
  if (!descriptor.isPresent) throw fault(Vector.SegmentNotPresent, error);
  if (index === SegmentIndex.TR) markDescriptor(cpu, descriptor, 0x200);
  installSegment(cpu, index, selector, descriptor);
  if (long) cpu.set32(cpu.segmentOffset(index) + Segment.base + 4, descriptor.upper);
}

/** SLDT and STR. */
export const storeSelector = (index: number) => (cpu: Cpu, insn: Instruction): void => {
  if (paragraphMode(cpu)) throw ud();
  checkUmip(cpu);
  writeRmSelector(cpu, insn, cpu.selector(index));
};

/** System types whose access rights LAR gives, and whose limit LSL gives, outside and in long mode (SDM "LAR", "LSL"). */
const larTypes = 0b0001_1010_0011_1110; // 1 2 3 4 5 9 11 12
const larLongTypes = 0b0001_1010_0000_0100; // 2 9 11 12
const lslTypes = 0b0000_1010_0000_1110; // 1 2 3 9 11
const lslLongTypes = 0b0000_1010_0000_0100; // 2 9 11

/** Reads the descriptor a program asks about; false where it may not see it. */
function visible(cpu: Cpu, selector: number, types: number, longTypes: number): boolean {
  if ((selector & 0xfffc) === 0 || !findDescriptor(cpu, selector, descriptor)) return false;
  if (!descriptor.isSegment && !(((cpu.get32(S.efer) & Efer.LMA ? longTypes : types) >> descriptor.type) & 1)) return false;
  return descriptor.isConforming || (descriptor.dpl >= cpu.get32(S.cpl) && descriptor.dpl >= (selector & 3));
}

function setZero(cpu: Cpu, zero: boolean): void {
  cpu.setFlagBits(Flag.ZF, zero ? Flag.ZF : 0);
}

export function lar(cpu: Cpu, insn: Instruction): void {
  if (paragraphMode(cpu)) throw ud();
  const selector = readRm16(cpu, insn);
  const found = visible(cpu, selector, larTypes, larLongTypes);
  if (found) writeRegister(cpu, insn.reg, insn.operandSize, insn.operandSize === 16 ? descriptor.high & 0xff00 : descriptor.high & 0xf0ff00);
  setZero(cpu, found);
}

export function lsl(cpu: Cpu, insn: Instruction): void {
  if (paragraphMode(cpu)) throw ud();
  const selector = readRm16(cpu, insn);
  const found = visible(cpu, selector, lslTypes, lslLongTypes);
  if (found) writeRegister(cpu, insn.reg, insn.operandSize, descriptor.limit);
  setZero(cpu, found);
}

export function verr(cpu: Cpu, insn: Instruction): void {
  if (paragraphMode(cpu)) throw ud();
  const selector = readRm16(cpu, insn);
  setZero(cpu, visible(cpu, selector, 0, 0) && (!descriptor.isCode || (descriptor.high & 0x200) !== 0));
}

export function verw(cpu: Cpu, insn: Instruction): void {
  if (paragraphMode(cpu)) throw ud();
  const selector = readRm16(cpu, insn);
  setZero(cpu, visible(cpu, selector, 0, 0) && descriptor.isWritable);
}

/** ARPL r/m16, r16. */
export function arpl(cpu: Cpu, insn: Instruction): void {
  if (paragraphMode(cpu)) throw ud();
  const wanted = cpu.reg32(insn.reg) & 3;
  if (insn.memory) {
    const at = cpu.linearOf(insn, 2, true);
    cpu.probeWrite(at, 2);
    const value = cpu.load(at, 2);
    const raise = (value & 3) < wanted;
    cpu.store(at, 2, raise ? (value & 0xfffc) | wanted : value);
    setZero(cpu, raise);
    return;
  }
  const value = cpu.reg32(insn.rm) & 0xffff;
  const raise = (value & 3) < wanted;
  if (raise) writeRegister(cpu, insn.rm, 16, (value & 0xfffc) | wanted);
  setZero(cpu, raise);
}

