import type { Cpu } from './cpu.ts';
import { Flow } from './cpu.ts';
import { isFault, Vector } from './fault.ts';
import type { Instruction } from './instruction.ts';
import { addDouble, Mxcsr, plainAddFlags } from './float.ts';
import { Status } from './emit.ts';
import { modeKey } from './mode.ts';
import { Cr4, S, SegmentIndex } from './state.ts';

/** Something that executes instructions on a CPU until a deadline. */
export interface Engine {
  readonly name: 'evaluate' | 'interpret';
  /**
   * Executes from RIP until S.left is used up or the run loop is needed; returns a Leave code (never Lookup). With
   * Leave.Fault the fault is in the state and RIP is the faulting instruction.
   */
  run(): number;
  /** Mode, context or intercept set may have changed (after event delivery, VM entry or exit, reset). */
  stateChanged(): void;
  /** Forgets all decoded code (after a snapshot was loaded or RAM was written behind the CPU's back). */
  flushCode(): void;
}

/** A page whose fetch calls TypeScript: the way into a monitor (its code runs as the machine's firmware would). */
export interface Firmware {
  /** Physical page number. */
  readonly page: number;
  /** Called when the instruction at this offset would be fetched; sets RIP and state as the firmware code would. */
  call(cpu: Cpu, offset: number): void;
}

/** Cost classes of system rows that cannot change the decode mode. */
const keepsMode = new Set(['cpuid', 'rdtsc', 'rdmsr', 'io', 'invlpg', 'invpcid', 'crread', 'fence', 'hlt', 'vmread', 'vmwrite', 'flags', 'alu', 'serialize']);

/** Cycles of a repeated string iteration beyond the first: at least one, so that repetition can always be interrupted. */
export const iterationCost = (cpu: Cpu): number => Math.max(1, Math.round(cpu.costs['string.iteration'] ?? 0));

/** Records a fault in the CPU state for the run loop. */
export function recordFault(cpu: Cpu, vector: number, error: number, linear: number): void {
  cpu.set32(S.faultVector, vector);
  cpu.set32(S.faultError, error);
  cpu.setSigned(S.faultLinear, linear);
}

/** Recomputes the decode mode; true if it changed. */
export function updateMode(cpu: Cpu): boolean {
  const mode = modeKey(cpu);
  if (mode === cpu.get32(S.mode)) return false;
  cpu.set32(S.mode, mode);
  cpu.mmu.updateMode();
  return true;
}

/**
 * Executes a system row with intercepts, faults and mode changes; the same for every engine. RIP is the
 * instruction's. Returns a Status.
 */
export function executeSystem(cpu: Cpu, insn: Instruction): number {
  const rip = cpu.rip;
  try {
    const row = insn.row;
    if (cpu.interceptSet !== null && cpu.interceptSet.rows.has(row.id)) {
      if (cpu.hooks!.instruction(cpu, insn)) {
        updateMode(cpu);
        return Status.Exited;
      }
    }
    const flow = row.system!(cpu, insn);
    if (!flow) {
      if (!keepsMode.has(row.cost ?? 'alu') && updateMode(cpu)) {
        cpu.advance(insn);
        return Status.Lookup;
      }
      return Status.Next;
    }
    updateMode(cpu);
    if (row.rep && insn.rep && cpu.rip === rip) {
      if (flow === Flow.Leave) cpu.leaveSoon();
      cpu.spend(Math.max(1, Math.round(cpu.costs[row.cost ?? 'alu']!)));
      return Status.Again;
    }
    if (flow === Flow.Leave) return Status.Leave;
    return Status.Lookup;
  } catch (thrown) {
    if (!isFault(thrown)) throw thrown;
    recordFault(cpu, thrown.vector, thrown.error, thrown.linear);
    updateMode(cpu);
    return Status.Fault;
  }
}

/** SSE rows under CR0.EM/TS and CR4.OSFXSR: the fault, or null. */
export function sseFault(cpu: Cpu): number {
  const cr0 = cpu.cr0;
  if (cr0 & 4 || !(cpu.cr4 & Cr4.OSFXSR)) return Vector.InvalidOpcode;
  return cr0 & 8 ? Vector.DeviceNotAvailable : -1;
}

const convert = new DataView(new ArrayBuffer(8));
/** Packed double addition of `count` lanes in S.scratch (a lanes, then b lanes), result over a. Returns false after recording #XM or #UD. */
export function addPackedDouble(cpu: Cpu, count: number): boolean {
  const mxcsr = cpu.get32(S.mxcsr);
  let flags = 0;
  const at = (cpu.base + S.scratch) >>> 3;
  const results: bigint[] = [];
  for (let i = 0; i < count; i++) {
    const a = cpu.f64[at + i]!;
    const b = cpu.f64[at + count + i]!;
    const sum = a + b;
    const plain = plainAddFlags(a, b, sum, mxcsr);
    if (plain >= 0) {
      flags |= plain;
      convert.setFloat64(0, sum);
      results.push(convert.getBigUint64(0));
    } else {
      const exact = addDouble(cpu.u64[at + i]!, cpu.u64[at + count + i]!, mxcsr);
      flags |= exact.flags;
      results.push(exact.bits);
    }
  }
  // an unmasked pre-computation exception keeps the post-computation ones from being detected
  const before = flags & (Mxcsr.IE | Mxcsr.DE | Mxcsr.ZE);
  if (before & ~(mxcsr >> Mxcsr.MaskShift)) flags = before;
  cpu.set32(S.mxcsr, mxcsr | flags);
  if (flags & ~(mxcsr >> Mxcsr.MaskShift) & 0x3f) {
    const vector = cpu.cr4 & Cr4.OSXMMEXCPT ? Vector.SimdFloatingPoint : Vector.InvalidOpcode;
    recordFault(cpu, vector, -1, 0);
    return false;
  }
  for (let i = 0; i < count; i++) cpu.u64[at + i] = results[i]!;
  return true;
}

/** 128-by-64-bit division of S.scratch[0]:S.scratch[1] by S.scratch[2]; quotient and remainder to S.scratch[0] and [1]. False for #DE. */
export function wideDivide(cpu: Cpu, signed: boolean): boolean {
  const at = (cpu.base + S.scratch) >>> 3;
  const divisor = signed ? BigInt.asIntN(64, cpu.u64[at + 2]!) : cpu.u64[at + 2]!;
  if (divisor === 0n) return false;
  const raw = (cpu.u64[at]! << 64n) | cpu.u64[at + 1]!;
  const dividend = signed ? BigInt.asIntN(128, raw) : raw;
  const quotient = dividend / divisor;
  if (signed ? BigInt.asIntN(64, quotient) !== quotient : quotient >> 64n !== 0n) return false;
  cpu.u64[at] = BigInt.asUintN(64, quotient);
  cpu.u64[at + 1] = BigInt.asUintN(64, dividend - quotient * divisor);
  return true;
}

/** #GP or #SS for a non-canonical or out-of-limit access through a segment. */
export const accessFault = (segment: number): number => (segment === SegmentIndex.SS ? Vector.StackFault : Vector.GeneralProtection);
