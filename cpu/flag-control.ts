import { Flow, type Cpu } from './cpu.ts';
import { gp } from './fault.ts';
import type { Instruction } from './instruction.ts';
import { flowAfterFlags, USER_FLAGS } from './iret.ts';
import { frameHigh, frameLow, pushFrame, readFrame, setStackPointer, stackBits, stackPointer } from './stack.ts';
import { Cr4, Flag, S } from './state.ts';

/** CLI and STI act on IF, on VIF, or fault (SDM "Masking Maskable Hardware Interrupts" and the tables of CLI and STI). */
function interruptFlag(cpu: Cpu): number {
  const rest = cpu.get32(S.flagsRest);
  const iopl = (rest >> 12) & 3;
  if (rest & Flag.VM) {
    if (iopl === 3) return Flag.IF;
    if (cpu.get32(S.cr4) & Cr4.VME) return Flag.VIF;
  } else {
    const cpl = cpu.get32(S.cpl);
    if (cpl <= iopl) return Flag.IF;
    if (cpl === 3 && cpu.get32(S.cr4) & Cr4.PVI) return Flag.VIF;
  }
  throw gp();
}

export function cli(cpu: Cpu): void {
  const flag = interruptFlag(cpu);
  cpu.set32(S.flagsRest, cpu.get32(S.flagsRest) & ~flag);
}

export function sti(cpu: Cpu, insn: Instruction): Flow {
  const flag = interruptFlag(cpu);
  const rest = cpu.get32(S.flagsRest);
  if (flag === Flag.VIF) {
    if (rest & Flag.VIP) throw gp();
    cpu.set32(S.flagsRest, rest | Flag.VIF);
    return Flow.Next;
  }
  if (rest & Flag.IF) return Flow.Next;
  cpu.set32(S.flagsRest, rest | Flag.IF);
  cpu.shadow(1);
  if (cpu.get32(S.interruptPending) === 0) return Flow.Next;
  cpu.advance(insn);
  return Flow.Leave;
}

/** In virtual-8086 mode with an IOPL below 3, PUSHF and POPF fault unless VME lets their 16-bit forms see VIF. */
function virtualFlags(cpu: Cpu, insn: Instruction): boolean {
  if (!(cpu.get32(S.flagsRest) & Flag.VM) || cpu.iopl === 3) return false;
  if (insn.operandSize !== 16 || !(cpu.get32(S.cr4) & Cr4.VME)) throw gp();
  return true;
}

export function pushf(cpu: Cpu, insn: Instruction): void {
  const virtual = virtualFlags(cpu, insn);
  let image = cpu.flags & ~(Flag.RF | Flag.VM);
  if (virtual) image = (image & ~Flag.IF) | Flag.IOPL | (image & Flag.VIF ? Flag.IF : 0);
  frameLow[0] = image;
  frameHigh[0] = 0;
  pushFrame(cpu, insn.operandSize >>> 3, 1);
}

export function popf(cpu: Cpu, insn: Instruction): Flow {
  const virtual = virtualFlags(cpu, insn);
  const bits = stackBits(cpu);
  const size = insn.operandSize >>> 3;
  readFrame(cpu, bits, 0, size, 1);
  const image = frameLow[0]!;
  const rest = cpu.get32(S.flagsRest);
  if (virtual && (image & Flag.TF || (image & Flag.IF && rest & Flag.VIP))) throw gp();
  const sp = stackPointer(cpu, bits) + size;
  setStackPointer(cpu, bits, sp);
  let mask = USER_FLAGS;
  let value = image;
  if (size !== 2) {
    mask |= Flag.AC | Flag.ID | Flag.RF;
    value &= ~Flag.RF;
  }
  if (virtual) {
    mask |= Flag.VIF;
    value = (value & ~Flag.VIF) | (image & Flag.IF ? Flag.VIF : 0);
  } else {
    const cpl = cpu.get32(S.cpl);
    if (cpl <= cpu.iopl) mask |= Flag.IF;
    if (cpl === 0) mask |= Flag.IOPL;
  }
  cpu.flags = (cpu.flags & ~mask) | (value & mask);
  if ((rest ^ cpu.get32(S.flagsRest)) & Flag.AC) cpu.mmu.updateContext();
  const flow = flowAfterFlags(cpu, Flow.Next);
  if (flow === Flow.Next && !((rest ^ cpu.get32(S.flagsRest)) & Flag.AC)) return flow;
  cpu.advance(insn);
  return flow === Flow.Next ? Flow.Jump : flow;
}
