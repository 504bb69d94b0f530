import { Flow, type Cpu } from './cpu.ts';
import { gp } from './fault.ts';
import type { Instruction } from './instruction.ts';
import { Access, Cr0, Flag, Gpr, S, SegmentIndex } from './state.ts';

/**
 * I/O privilege: the ring test, then the I/O permission bit map of the TSS (SDM "I/O Permission Bit Map").
 * @param size 1, 2 or 4 ports
 */
export function ioPermitted(cpu: Cpu, port: number, size: number): boolean {
  if (!(cpu.get32(S.cr0) & Cr0.PE)) return true;
  if (!(cpu.get32(S.flagsRest) & Flag.VM) && cpu.get32(S.cpl) <= cpu.iopl) return true;
  const attributes = cpu.attributes(SegmentIndex.TR);
  const limit = cpu.limit(SegmentIndex.TR);
  if (attributes & Access.Unusable || !(attributes & 8) || limit < 0x67) return false;
  const base = cpu.segmentBase(SegmentIndex.TR);
  const at = cpu.load(cpu.wrapLinear(base + 0x66), 2, true) + (port >> 3);
  // two bytes are always read, so the map must end with a byte of ones
  if (at + 1 > limit) return false;
  const bits = cpu.load(cpu.wrapLinear(base + at), 2, true);
  return ((bits >> (port & 7)) & ((1 << size) - 1)) === 0;
}

function checkPort(cpu: Cpu, port: number, size: number): void {
  if (!ioPermitted(cpu, port, size)) throw gp();
}

/** Bytes moved: 1 by the byte rows, else 2 or 4 by operand size. */
function transferSize(insn: Instruction, wide: boolean): 1 | 2 | 4 {
  return !wide ? 1 : insn.operandSize === 16 ? 2 : 4;
}

/** A device may have asked for an interrupt just now. */
function flowAfterDevice(cpu: Cpu, insn: Instruction): Flow {
  if (cpu.get32(S.interruptPending) === 0 || !(cpu.get32(S.flagsRest) & Flag.IF)) return Flow.Next;
  cpu.advance(insn);
  return Flow.Leave;
}

/** IN. `wide`: AX or EAX instead of AL; `immediate`: the port is in the instruction instead of DX. */
export const input = (wide: boolean, immediate: boolean) => (cpu: Cpu, insn: Instruction): Flow => {
  const port = immediate ? insn.immediate & 0xff : cpu.reg32(Gpr.RDX) & 0xffff;
  const size = transferSize(insn, wide);
  checkPort(cpu, port, size);
  const value = cpu.bus.ioRead(port, size);
  if (size === 4) cpu.setReg32(Gpr.RAX, value);
  else if (size === 2) cpu.u16[(cpu.base + S.gpr) >>> 1] = value;
  else cpu.u8[cpu.base + S.gpr] = value;
  return flowAfterDevice(cpu, insn);
};

export const output = (wide: boolean, immediate: boolean) => (cpu: Cpu, insn: Instruction): Flow => {
  const port = immediate ? insn.immediate & 0xff : cpu.reg32(Gpr.RDX) & 0xffff;
  const size = transferSize(insn, wide);
  checkPort(cpu, port, size);
  const value = cpu.reg32(Gpr.RAX);
  cpu.bus.ioWrite(port, size, size === 4 ? value : value & (size === 2 ? 0xffff : 0xff));
  return flowAfterDevice(cpu, insn);
};

/** Register as wide as the address size. */
function addressRegister(cpu: Cpu, n: number, bits: number): number {
  return bits === 64 ? cpu.getSigned(S.gpr + n * 8) : bits === 32 ? cpu.reg32(n) : cpu.reg32(n) & 0xffff;
}

function moveAddressRegister(cpu: Cpu, n: number, bits: number, by: number): void {
  if (bits === 64) cpu.setReg64(n, cpu.reg64(n) + BigInt(by));
  else if (bits === 32) cpu.setReg32(n, cpu.reg32(n) + by);
  else cpu.u16[(cpu.base + S.gpr + n * 8) >>> 1]! += by;
}

/** Counts one iteration of REP; Jump while there is more to do, with RIP still on the instruction so that interrupts come in between. */
function repeat(cpu: Cpu, insn: Instruction): Flow {
  if (insn.rep === 0) return flowAfterDevice(cpu, insn);
  moveAddressRegister(cpu, Gpr.RCX, insn.addressSize, -1);
  cpu.setFloat(S.iterations, cpu.getFloat(S.iterations) + 1);
  if (addressRegister(cpu, Gpr.RCX, insn.addressSize) === 0) return flowAfterDevice(cpu, insn);
  return cpu.get32(S.interruptPending) !== 0 && cpu.get32(S.flagsRest) & Flag.IF ? Flow.Leave : Flow.Jump;
}

/** INS: the destination is checked before the port is read, because reading may change the device. */
export const inputString = (wide: boolean) => (cpu: Cpu, insn: Instruction): Flow => {
  if (insn.rep !== 0 && addressRegister(cpu, Gpr.RCX, insn.addressSize) === 0) return Flow.Next;
  const port = cpu.reg32(Gpr.RDX) & 0xffff;
  const size = transferSize(insn, wide);
  checkPort(cpu, port, size);
  const linear = cpu.linear(SegmentIndex.ES, addressRegister(cpu, Gpr.RDI, insn.addressSize), size, true);
  cpu.probeWrite(linear, size);
  cpu.store(linear, size, cpu.bus.ioRead(port, size));
  moveAddressRegister(cpu, Gpr.RDI, insn.addressSize, cpu.get32(S.flagsRest) & Flag.DF ? -size : size);
  return repeat(cpu, insn);
};

export const outputString = (wide: boolean) => (cpu: Cpu, insn: Instruction): Flow => {
  if (insn.rep !== 0 && addressRegister(cpu, Gpr.RCX, insn.addressSize) === 0) return Flow.Next;
  const port = cpu.reg32(Gpr.RDX) & 0xffff;
  const size = transferSize(insn, wide);
  checkPort(cpu, port, size);
  const linear = cpu.linear(insn.segment, addressRegister(cpu, Gpr.RSI, insn.addressSize), size, false);
  cpu.bus.ioWrite(port, size, cpu.load(linear, size));
  moveAddressRegister(cpu, Gpr.RSI, insn.addressSize, cpu.get32(S.flagsRest) & Flag.DF ? -size : size);
  return repeat(cpu, insn);
};
