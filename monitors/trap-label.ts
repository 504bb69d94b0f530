import { Vector, vectorNames } from '../cpu/fault.ts';
import type { Instruction } from '../cpu/instruction.ts';

/** Name and reason of a trap, as reports show them. */
export interface TrapLabel { readonly name: string; readonly why: string }

const segmentNames = ['ES', 'CS', 'SS', 'DS', 'FS', 'GS'] as const;

/** The instruction as people name it: with the control, debug or segment register it is about. */
export function instructionName(instruction: Instruction | null): string {
  if (instruction === null) return 'an instruction that cannot be fetched';
  const { row } = instruction;
  const mnemonic = row.mnemonic.replace(/[vy]$/, '');
  const at = row.operands.findIndex((operand) => operand.kind === 'cr' || operand.kind === 'dr' || operand.kind === 'sreg');
  if (at < 0) return mnemonic;
  const operand = row.operands[at]!;
  if (operand.kind === 'sreg') {
    const name = segmentNames[operand.fixed ?? instruction.reg & 7] ?? 'segment';
    return mnemonic !== 'MOV' ? `${mnemonic} ${name}` : at === 0 ? `MOV to ${name}` : `MOV from ${name}`;
  }
  const name = `${operand.kind.toUpperCase()}${instruction.reg}`;
  return at === 0 ? `MOV to ${name}` : `MOV from ${name}`;
}

/** Vectors whose trap needs no decoding. */
export function vectorLabel(vector: number, software: boolean, hostInterrupt: number): TrapLabel {
  if (vector === hostInterrupt) return { name: 'external interrupt', why: 'the physical interrupt line; real EFLAGS.IF is set while the guest runs' };
  if (vector === Vector.PageFault) return { name: '#PF hidden', why: 'the shadow page table lacked the translation' };
  if (vector === Vector.Nmi) return { name: 'NMI', why: 'non-maskable interrupt' };
  if (software) return { name: vector === Vector.Breakpoint ? 'INT3' : vector === Vector.Overflow ? 'INTO' : `INT ${vector.toString(16)}`, why: 'software interrupt through the monitor\'s IDT' };
  return { name: vectorNames[vector] ?? `vector ${vector}`, why: 'exception of the guest through the monitor\'s IDT' };
}

/** An instruction that faults in the guest's view as well. */
export function faultLabel(vector: number, instruction: Instruction | null, cpl: number): TrapLabel {
  return { name: `${vectorNames[vector] ?? `vector ${vector}`} guest`, why: `${instructionName(instruction)} at CPL ${cpl} faults in the guest's view too` };
}

/**
 * Why an instruction trapped although the guest may execute it.
 * @param cpl ring the guest believes itself in; `iopl` its I/O privilege level
 */
export function emulationLabel(vector: number, instruction: Instruction, cpl: number, iopl: number, device: boolean): TrapLabel {
  const name = instructionName(instruction);
  const real = cpl === 0 ? 1 : cpl;
  const trap = vectorNames[vector]!;
  const { cost, system } = instruction.row;
  if (vector === Vector.PageFault) {
    return device ? { name: '#PF device', why: 'the guest-physical page belongs to a device and is not mapped' } : { name: '#PF descriptor table', why: 'the page holds the guest\'s descriptor table: its writes are carried over to the real table' };
  }
  if (!system || vector === Vector.StackFault) return { name: `${trap} limit`, why: 'the access lies outside the truncated segment' };
  const label = `${trap} ${name}`;
  if (cost === 'io' || name === 'CLI' || name === 'STI') return { name: label, why: `${name} at CPL ${real} with IOPL 0 (the guest's is ${iopl})` };
  if (cost === 'int') return { name: label, why: `the monitor's gate for ${name} ${(instruction.immediate & 0xff).toString(16)} is for ring 0 only` };
  if (vector === Vector.SegmentNotPresent) return { name: label, why: `${name} names a code segment of ring 3, kept not present so that returns to user mode trap` };
  if (cost === 'segment' || cost === 'iret' || cost === 'far') return { name: label, why: `${name} at CPL ${real} names a segment of ring ${cpl}, or one that has no counterpart in the real tables` };
  return { name: label, why: `${name} is privileged, and the guest's ring ${cpl} is ring ${real}` };
}
