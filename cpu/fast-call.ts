import { Flow, type Cpu } from './cpu.ts';
import { FlatAccess, isCanonicalHigh } from './descriptor.ts';
import { gp, ud } from './fault.ts';
import type { Instruction } from './instruction.ts';
import { flowAfterFlags } from './iret.ts';
import { Cr0, Efer, Flag, Gpr, S, SegmentIndex } from './state.ts';

/** Loads CS and SS with the flat segments that these instructions assume; nothing is read from the tables. */
function installFlat(cpu: Cpu, cs: number, ss: number, codeAccess: number, cpl: number): void {
  const dpl = cpl === 3 ? FlatAccess.UserDpl : 0;
  cpu.setSegment(SegmentIndex.CS, cs, 0, 0xffffffff, codeAccess | dpl);
  cpu.setSegment(SegmentIndex.SS, ss, 0, 0xffffffff, FlatAccess.Data | dpl);
  cpu.set32(S.cpl, cpl);
  cpu.mmu.updateContext();
}

function setWords(cpu: Cpu, offset: number, low: number, high: number): void {
  const at = (cpu.base + offset) >>> 2;
  cpu.u32[at] = low;
  cpu.u32[at + 1] = high;
}

/** SYSCALL: 64-bit mode only on Intel processors. */
export function syscall(cpu: Cpu, insn: Instruction): Flow {
  if (!(cpu.get32(S.efer) & Efer.SCE) || !cpu.code64) throw ud();
  cpu.advance(insn);
  setWords(cpu, S.gpr + Gpr.RCX * 8, cpu.get32(S.rip), cpu.get32(S.rip + 4));
  const flags = cpu.flags;
  cpu.setReg32(Gpr.R11, flags);
  setWords(cpu, S.rip, cpu.get32(S.lstar), cpu.get32(S.lstar + 4));
  cpu.flags = flags & ~(cpu.get32(S.fmask) | Flag.RF);
  const selector = cpu.get32(S.star + 4) & 0xfffc;
  installFlat(cpu, selector, (selector + 8) & 0xffff, FlatAccess.Code64, 0);
  return flowAfterFlags(cpu, Flow.Jump);
}

/** SYSRET: the canonical check of RCX comes before the ring change. */
export function sysret(cpu: Cpu, insn: Instruction): Flow {
  if (!(cpu.get32(S.efer) & Efer.SCE) || !cpu.code64) throw ud();
  if (cpu.get32(S.cpl) !== 0) throw gp();
  const long = insn.operandSize === 64;
  const high = cpu.get32(S.gpr + Gpr.RCX * 8 + 4);
  if (long && !isCanonicalHigh(high)) throw gp();
  setWords(cpu, S.rip, cpu.reg32(Gpr.RCX), long ? high : 0);
  cpu.flags = (cpu.reg32(Gpr.R11) & 0x3c7fd7) | 2;
  const base = cpu.get32(S.star + 4) >>> 16;
  installFlat(cpu, ((long ? base + 16 : base) & 0xffff) | 3, ((base + 8) & 0xffff) | 3, long ? FlatAccess.Code64 : FlatAccess.Code32, 3);
  return flowAfterFlags(cpu, Flow.Jump);
}

export function sysenter(cpu: Cpu): Flow {
  const selector = cpu.get32(S.sysenterCs) & 0xfffc;
  if (!(cpu.get32(S.cr0) & Cr0.PE) || selector === 0) throw gp();
  const long = (cpu.get32(S.efer) & Efer.LMA) !== 0;
  setWords(cpu, S.gpr + Gpr.RSP * 8, cpu.get32(S.sysenterEsp), long ? cpu.get32(S.sysenterEsp + 4) : 0);
  setWords(cpu, S.rip, cpu.get32(S.sysenterEip), long ? cpu.get32(S.sysenterEip + 4) : 0);
  cpu.set32(S.flagsRest, cpu.get32(S.flagsRest) & ~(Flag.VM | Flag.IF | Flag.RF));
  installFlat(cpu, selector, (selector + 8) & 0xffff, long ? FlatAccess.Code64 : FlatAccess.Code32, 0);
  return Flow.Jump;
}

export function sysexit(cpu: Cpu, insn: Instruction): Flow {
  const selector = cpu.get32(S.sysenterCs) & 0xfffc;
  if (!(cpu.get32(S.cr0) & Cr0.PE) || selector === 0 || cpu.get32(S.cpl) !== 0) throw gp();
  const long = insn.operandSize === 64;
  const stackHigh = cpu.get32(S.gpr + Gpr.RCX * 8 + 4);
  const ripHigh = cpu.get32(S.gpr + Gpr.RDX * 8 + 4);
  if (long && (!isCanonicalHigh(stackHigh) || !isCanonicalHigh(ripHigh))) throw gp();
  setWords(cpu, S.gpr + Gpr.RSP * 8, cpu.reg32(Gpr.RCX), long ? stackHigh : 0);
  setWords(cpu, S.rip, cpu.reg32(Gpr.RDX), long ? ripHigh : 0);
  const cs = selector + (long ? 32 : 16);
  installFlat(cpu, (cs & 0xffff) | 3, ((cs + 8) & 0xffff) | 3, long ? FlatAccess.Code64 : FlatAccess.Code32, 3);
  return Flow.Jump;
}
