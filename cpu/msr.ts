import { Flow, type Cpu } from './cpu.ts';
import { readTsc, tsc } from './control.ts';
import { isCanonicalHigh } from './descriptor.ts';
import { gp } from './fault.ts';
import type { Instruction } from './instruction.ts';
import { Cr0, Efer, Gpr, S, Segment, SEGMENT_SIZE, SegmentIndex } from './state.ts';

/**
 * One model-specific register. Values travel as two unsigned words; a read leaves them in {@link msrValue}. A row
 * with an offset is a plain state field; `valid` rejects reserved bits and addresses that are not canonical (#GP).
 */
export interface MsrRow {
  readonly number: number;
  /** Name in the SDM's list of MSRs. */
  readonly name: string;
  /** CPUID feature without which the register does not exist. */
  readonly feature?: string;
  /** State field (offset in the CPU's state block), 64 bits. */
  readonly offset?: number;
  readonly valid?: (cpu: Cpu, low: number, high: number) => boolean;
  readonly read?: (cpu: Cpu) => void;
  /** Absent together with `offset`, or null: writes are #GP. */
  readonly write?: ((cpu: Cpu, low: number, high: number) => void) | null;
}

/** Where reads leave their result. */
export const msrValue = { low: 0, high: 0 };

const canonical = (_cpu: Cpu, _low: number, high: number): boolean => isCanonicalHigh(high);
const low32 = (_cpu: Cpu, _low: number, high: number): boolean => high === 0;
const constant = (low: number, high = 0) => (): void => {
  msrValue.low = low;
  msrValue.high = high;
};
const segmentBase = (n: number): number => S.segment + n * SEGMENT_SIZE + Segment.base;

/** Each byte of IA32_PAT is a memory type: UC, WC, WT, WP, WB or UC-. */
function validPat(_cpu: Cpu, low: number, high: number): boolean {
  const types = 0b11110011;
  for (let i = 0; i < 8; i++) {
    const byte = ((i < 4 ? low : high) >>> ((i & 3) * 8)) & 0xff;
    if (byte > 7 || !((types >> byte) & 1)) return false;
  }
  return true;
}

function writeEfer(cpu: Cpu, low: number, high: number): void {
  const old = cpu.get32(S.efer);
  let allowed: number = Efer.LMA;
  if (cpu.features.has('SYSCALL')) allowed |= Efer.SCE;
  if (cpu.features.has('LM')) allowed |= Efer.LME;
  if (cpu.features.has('NX')) allowed |= Efer.NXE;
  if (high !== 0 || low & ~allowed) throw gp();
  if ((old ^ low) & Efer.LME && cpu.get32(S.cr0) & Cr0.PG) throw gp();
  cpu.set32(S.efer, (low & ~Efer.LMA) | (old & Efer.LMA));
  cpu.mmu.updateContext();
}

function readTscRegister(cpu: Cpu): void {
  readTsc(cpu);
  msrValue.low = tsc.low;
  msrValue.high = tsc.high;
}

/** A write moves the offset so that the counter goes on from the value written. */
function writeTscRegister(cpu: Cpu, low: number, high: number): void {
  readTsc(cpu);
  const now = (BigInt(tsc.high) << 32n) | BigInt(tsc.low);
  const value = (BigInt(high) << 32n) | BigInt(low);
  cpu.set64(S.tscOffset, BigInt.asUintN(64, cpu.get64(S.tscOffset) + value - now));
}

const FEATURE_LOCK = 1;

const rangeTypes: ReadonlySet<number> = new Set([0, 1, 4, 5, 6]);
const validRangeType = (byte: number): boolean => rangeTypes.has(byte);

function validFixedRange(_cpu: Cpu, low: number, high: number): boolean {
  for (let i = 0; i < 8; i++) if (!validRangeType(((i < 4 ? low : high) >>> ((i & 3) * 8)) & 0xff)) return false;
  return true;
}

const physicalHigh = (cpu: Cpu, high: number): boolean => high < 2 ** (cpu.profile.physicalAddressBits - 32);

const fixedRanges: readonly (readonly [number, string])[] = [
  [0x250, 'IA32_MTRR_FIX64K_00000'], [0x258, 'IA32_MTRR_FIX16K_80000'], [0x259, 'IA32_MTRR_FIX16K_A0000'],
  [0x268, 'IA32_MTRR_FIX4K_C0000'], [0x269, 'IA32_MTRR_FIX4K_C8000'], [0x26a, 'IA32_MTRR_FIX4K_D0000'], [0x26b, 'IA32_MTRR_FIX4K_D8000'],
  [0x26c, 'IA32_MTRR_FIX4K_E0000'], [0x26d, 'IA32_MTRR_FIX4K_E8000'], [0x26e, 'IA32_MTRR_FIX4K_F0000'], [0x26f, 'IA32_MTRR_FIX4K_F8000'],
];

const VARIABLE_RANGES = 8;
const variableRanges: MsrRow[] = [];
for (let i = 0; i < VARIABLE_RANGES; i++) {
  const offset = S.mtrr + (12 + i * 2) * 8;
  variableRanges.push(
    { number: 0x200 + i * 2, name: `IA32_MTRR_PHYSBASE${i}`, feature: 'MTRR', offset, valid: (cpu, low, high) => (low & 0xf00) === 0 && validRangeType(low & 0xff) && physicalHigh(cpu, high) },
    { number: 0x201 + i * 2, name: `IA32_MTRR_PHYSMASK${i}`, feature: 'MTRR', offset: offset + 8, valid: (cpu, low, high) => (low & 0x7ff) === 0 && physicalHigh(cpu, high) },
  );
}

/** Every MSR of the core, in numeric order of groups (SDM "Architectural MSRs"). Virtualization adds its own with {@link registerMsr}. */
export const msrRows: readonly MsrRow[] = [
  { number: 0x10, name: 'IA32_TIME_STAMP_COUNTER', feature: 'TSC', read: readTscRegister, write: writeTscRegister },
  { number: 0x17, name: 'IA32_PLATFORM_ID', read: constant(0) },
  {
    number: 0x1b, name: 'IA32_APIC_BASE', feature: 'APIC',
    read: (cpu) => {
      const value = cpu.bus.readApicBase(cpu.index);
      msrValue.low = value % 4294967296;
      msrValue.high = Math.floor(value / 4294967296);
    },
    // bit 8 (BSP) and bit 11 (global enable) besides the base; x2APIC mode (bit 10) is not offered
    valid: (cpu, low, high) => (low & 0x6ff) === 0 && physicalHigh(cpu, high),
    write: (cpu, low, high) => cpu.bus.writeApicBase(cpu.index, high * 4294967296 + low),
  },
  {
    number: 0x3a, name: 'IA32_FEATURE_CONTROL', feature: 'VMX', offset: S.featureControl,
    valid: (cpu, low, high) => !(cpu.get32(S.featureControl) & FEATURE_LOCK) && high === 0 && (low & ~(FEATURE_LOCK | (cpu.features.has('SMX') ? 2 : 0) | 4)) === 0,
  },
  { number: 0x79, name: 'IA32_BIOS_UPDT_TRIG', read: () => { throw gp(); }, write: () => {} },
  { number: 0x8b, name: 'IA32_BIOS_SIGN_ID', read: constant(0, 1), write: () => {} },
  { number: 0xfe, name: 'IA32_MTRRCAP', feature: 'MTRR', read: constant(0x500 | VARIABLE_RANGES) }, // WC, fixed ranges
  { number: 0x174, name: 'IA32_SYSENTER_CS', feature: 'SEP', offset: S.sysenterCs },
  { number: 0x175, name: 'IA32_SYSENTER_ESP', feature: 'SEP', offset: S.sysenterEsp, valid: canonical },
  { number: 0x176, name: 'IA32_SYSENTER_EIP', feature: 'SEP', offset: S.sysenterEip, valid: canonical },
  { number: 0x179, name: 'IA32_MCG_CAP', feature: 'MCA', read: constant(0) },
  { number: 0x17a, name: 'IA32_MCG_STATUS', feature: 'MCA', read: constant(0), valid: (_cpu, low, high) => low === 0 && high === 0, write: () => {} },
  { number: 0x1a0, name: 'IA32_MISC_ENABLE', offset: S.miscEnable },
  { number: 0x1d9, name: 'IA32_DEBUGCTL', offset: S.debugctl, valid: (_cpu, low, high) => high === 0 && (low & ~3) === 0 }, // LBR, BTF
  ...variableRanges,
  ...fixedRanges.map(([number, name], i): MsrRow => ({ number, name, feature: 'MTRR', offset: S.mtrr + (1 + i) * 8, valid: validFixedRange })),
  { number: 0x277, name: 'IA32_PAT', feature: 'PAT', offset: S.pat, valid: validPat },
  { number: 0x2ff, name: 'IA32_MTRR_DEF_TYPE', feature: 'MTRR', offset: S.mtrr, valid: (_cpu, low, high) => high === 0 && (low & ~0xcff) === 0 && validRangeType(low & 0xff) },
  {
    number: 0xc0000080, name: 'IA32_EFER', feature: 'LM', write: writeEfer,
    read: (cpu) => {
      msrValue.low = cpu.get32(S.efer);
      msrValue.high = 0;
    },
  },
  { number: 0xc0000081, name: 'IA32_STAR', feature: 'SYSCALL', offset: S.star },
  { number: 0xc0000082, name: 'IA32_LSTAR', feature: 'SYSCALL', offset: S.lstar, valid: canonical },
  { number: 0xc0000083, name: 'IA32_CSTAR', feature: 'SYSCALL', offset: S.cstar, valid: canonical },
  { number: 0xc0000084, name: 'IA32_FMASK', feature: 'SYSCALL', offset: S.fmask, valid: low32 },
  { number: 0xc0000100, name: 'IA32_FS_BASE', feature: 'LM', offset: segmentBase(SegmentIndex.FS), valid: canonical },
  { number: 0xc0000101, name: 'IA32_GS_BASE', feature: 'LM', offset: segmentBase(SegmentIndex.GS), valid: canonical },
  { number: 0xc0000102, name: 'IA32_KERNEL_GS_BASE', feature: 'LM', offset: S.kernelGsBase, valid: canonical },
  { number: 0xc0000103, name: 'IA32_TSC_AUX', feature: 'RDTSCP', offset: S.tscAux, valid: low32 },
];

const coreTable = new Map<number, MsrRow>();
for (const row of msrRows) {
  if (coreTable.has(row.number)) throw new Error(`MSR ${row.number.toString(16)} has two rows: ${coreTable.get(row.number)!.name} and ${row.name}`);
  coreTable.set(row.number, row);
}

const extensionTables = new WeakMap<Cpu, Map<number, MsrRow>>();

/** Adds a register to one CPU (IA32_VMX_*): its row is asked before the core's. */
export function registerMsr(cpu: Cpu, row: MsrRow): void {
  let table = extensionTables.get(cpu);
  if (!table) extensionTables.set(cpu, (table = new Map()));
  table.set(row.number, row);
}

/** A read-only register whose 64-bit value is a function of the CPU. */
export function readOnlyMsr(number: number, name: string, value: (cpu: Cpu) => bigint): MsrRow {
  return {
    number, name,
    read: (cpu) => {
      const result = value(cpu);
      msrValue.low = Number(result & 0xffffffffn);
      msrValue.high = Number((result >> 32n) & 0xffffffffn);
    },
  };
}

/** The row of an MSR on this CPU, or undefined where the register does not exist. */
export function findMsr(cpu: Cpu, number: number): MsrRow | undefined {
  const extension = extensionTables.get(cpu)?.get(number);
  if (extension) return extension;
  const row = coreTable.get(number);
  // LSTAR and its kin come with SYSCALL, EFER with anything that lives in it
  if (row?.feature !== undefined && !cpu.features.has(row.feature)) {
    if (row.number === 0xc0000080 && (cpu.features.has('NX') || cpu.features.has('SYSCALL'))) return row;
    return undefined;
  }
  return row;
}

/** Reads an MSR into {@link msrValue}. Throws #GP(0) where there is none. */
export function readMsrWords(cpu: Cpu, number: number): void {
  const row = findMsr(cpu, number);
  if (row === undefined) {
    cpu.observer?.unmodelled?.(`RDMSR ${number.toString(16)}: no such MSR; #GP`);
    throw gp();
  }
  if (row.read) row.read(cpu);
  else if (row.offset !== undefined) {
    msrValue.low = cpu.get32(row.offset);
    msrValue.high = cpu.get32(row.offset + 4);
  } else throw new Error(`MSR row ${row.name} has neither 'read' nor 'offset'`);
}

/** Writes an MSR. Throws #GP(0) for a register that does not exist, is read-only, or does not take the value. */
export function writeMsrWords(cpu: Cpu, number: number, low: number, high: number): void {
  const row = findMsr(cpu, number);
  if (row === undefined) {
    cpu.observer?.unmodelled?.(`WRMSR ${number.toString(16)}: no such MSR; #GP`);
    throw gp();
  }
  if (row.write === null || (row.write === undefined && row.offset === undefined)) throw gp();
  if (row.valid && !row.valid(cpu, low, high)) throw gp();
  if (row.write) row.write(cpu, low, high);
  else {
    cpu.set32(row.offset!, low);
    cpu.set32(row.offset! + 4, high);
  }
}

/** As RDMSR, for MSR lists and monitors. */
export function readMsr(cpu: Cpu, number: number): bigint {
  readMsrWords(cpu, number);
  return (BigInt(msrValue.high) << 32n) | BigInt(msrValue.low);
}

/** As WRMSR, for MSR lists and monitors. */
export function writeMsr(cpu: Cpu, number: number, value: bigint): void {
  writeMsrWords(cpu, number, Number(value & 0xffffffffn), Number((value >> 32n) & 0xffffffffn));
}

export function rdmsr(cpu: Cpu): void {
  if (cpu.get32(S.cpl) !== 0) throw gp();
  readMsrWords(cpu, cpu.reg32(Gpr.RCX));
  cpu.setReg32(Gpr.RAX, msrValue.low);
  cpu.setReg32(Gpr.RDX, msrValue.high);
}

export function wrmsr(cpu: Cpu, insn: Instruction): Flow {
  if (cpu.get32(S.cpl) !== 0) throw gp();
  writeMsrWords(cpu, cpu.reg32(Gpr.RCX), cpu.reg32(Gpr.RAX), cpu.reg32(Gpr.RDX));
  cpu.advance(insn);
  return Flow.Jump;
}
