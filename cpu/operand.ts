import type { Cpu } from './cpu.ts';
import type { Instruction } from './instruction.ts';

/** The r/m16 operand. */
export function readRm16(cpu: Cpu, insn: Instruction): number {
  return insn.memory ? cpu.load(cpu.linearOf(insn, 2, false), 2) : cpu.reg32(insn.rm) & 0xffff;
}

/** An operand that is 16 bits in memory and as wide as the operand size, zero-extended, in a register (MOV from Sreg, STR, SLDT). */
export function writeRmSelector(cpu: Cpu, insn: Instruction, value: number): void {
  if (insn.memory) cpu.store(cpu.linearOf(insn, 2, true), 2, value);
  else writeRegister(cpu, insn.rm, insn.operandSize, value);
}

/** Writes a value of at most 32 bits to a register of 16, 32 or 64 bits. */
export function writeRegister(cpu: Cpu, n: number, bits: number, value: number): void {
  if (bits === 16) cpu.setReg(n, 16, BigInt(value & 0xffff));
  else cpu.setReg32(n, value);
}
