import type { Cpu } from './cpu.ts';
import { Cr4, Gpr, S } from './state.ts';
import type { CpuProfile } from './profile.ts';

/** Register that CPUID leaves a feature flag in. */
export const CpuidRegister = { Eax: 0, Ebx: 1, Ecx: 2, Edx: 3 } as const;
export type CpuidRegister = (typeof CpuidRegister)[keyof typeof CpuidRegister];
const { Ebx, Ecx, Edx } = CpuidRegister;

/** One feature flag of CPUID (SDM "CPUID—CPU Identification"). */
export interface FeatureRow {
  /** Name used by rows (`feature`), MSR rows and profiles. */
  readonly name: string;
  readonly leaf: number;
  readonly subleaf: number;
  readonly register: CpuidRegister;
  readonly bit: number;
  readonly description: string;
}

const feature = (name: string, leaf: number, register: CpuidRegister, bit: number, description: string): FeatureRow => ({ name, leaf, subleaf: 0, register, bit, description });

/** Every feature that a profile can name. x87, MMX, SSE3 and later vector extensions come with their rows. */
export const featureRows: readonly FeatureRow[] = [
  feature('VME', 1, Edx, 1, 'virtual-8086 mode extensions'),
  feature('DE', 1, Edx, 2, 'debugging extensions (CR4.DE)'),
  feature('PSE', 1, Edx, 3, '4 MiB pages'),
  feature('TSC', 1, Edx, 4, 'time-stamp counter'),
  feature('MSR', 1, Edx, 5, 'RDMSR and WRMSR'),
  feature('PAE', 1, Edx, 6, 'physical-address extension'),
  feature('MCE', 1, Edx, 7, 'machine-check exception'),
  feature('CX8', 1, Edx, 8, 'CMPXCHG8B'),
  feature('APIC', 1, Edx, 9, 'local APIC'),
  feature('SEP', 1, Edx, 11, 'SYSENTER and SYSEXIT'),
  feature('MTRR', 1, Edx, 12, 'memory-type range registers'),
  feature('PGE', 1, Edx, 13, 'global pages'),
  feature('MCA', 1, Edx, 14, 'machine-check architecture'),
  feature('CMOV', 1, Edx, 15, 'conditional moves'),
  feature('PAT', 1, Edx, 16, 'page attribute table'),
  feature('PSE36', 1, Edx, 17, '36-bit page-size extension'),
  feature('CLFSH', 1, Edx, 19, 'CLFLUSH'),
  feature('FXSR', 1, Edx, 24, 'FXSAVE and FXRSTOR'),
  feature('SSE', 1, Edx, 25, 'streaming SIMD extensions'),
  feature('SSE2', 1, Edx, 26, 'streaming SIMD extensions 2'),
  feature('MONITOR', 1, Ecx, 3, 'MONITOR and MWAIT'),
  feature('VMX', 1, Ecx, 5, 'virtual-machine extensions'),
  feature('CX16', 1, Ecx, 13, 'CMPXCHG16B'),
  feature('PCID', 1, Ecx, 17, 'process-context identifiers'),
  feature('MOVBE', 1, Ecx, 22, 'MOVBE'),
  feature('POPCNT', 1, Ecx, 23, 'POPCNT'),
  feature('XSAVE', 1, Ecx, 26, 'XSAVE, XCR0'),
  feature('FSGSBASE', 7, Ebx, 0, 'RDFSBASE and its kin'),
  feature('BMI1', 7, Ebx, 3, 'bit manipulation 1'),
  feature('SMEP', 7, Ebx, 7, 'supervisor-mode execution prevention'),
  feature('BMI2', 7, Ebx, 8, 'bit manipulation 2'),
  feature('ERMS', 7, Ebx, 9, 'enhanced REP MOVSB and STOSB'),
  feature('INVPCID', 7, Ebx, 10, 'INVPCID'),
  feature('SMAP', 7, Ebx, 20, 'supervisor-mode access prevention'),
  feature('UMIP', 7, Ecx, 2, 'user-mode instruction prevention'),
  feature('LAHF', 0x80000001, Ecx, 0, 'LAHF and SAHF in 64-bit mode'),
  feature('LZCNT', 0x80000001, Ecx, 5, 'LZCNT'),
  feature('PREFETCHW', 0x80000001, Ecx, 8, 'PREFETCHW'),
  feature('SYSCALL', 0x80000001, Edx, 11, 'SYSCALL and SYSRET'),
  feature('NX', 0x80000001, Edx, 20, 'execute-disable bit'),
  feature('PDPE1GB', 0x80000001, Edx, 26, '1 GiB pages'),
  feature('RDTSCP', 0x80000001, Edx, 27, 'RDTSCP and IA32_TSC_AUX'),
  feature('LM', 0x80000001, Edx, 29, 'Intel 64 architecture'),
  feature('INVTSC', 0x80000007, Edx, 8, 'invariant time-stamp counter'),
];

const byName = new Map(featureRows.map((row) => [row.name, row]));

/** Throws an Error for feature names that no row of {@link featureRows} has. */
export function checkFeatures(names: Iterable<string>): void {
  const unknown = [...names].filter((name) => !byName.has(name));
  if (unknown.length > 0) throw new Error(`CPU profile names unknown features ${unknown.join(', ')}: known are ${featureRows.map((row) => row.name).join(', ')}`);
}

const MAX_EXTENDED_LEAF = 0x80000008;

function text(bytes: string, at: number): number {
  let word = 0;
  for (let i = 3; i >= 0; i--) word = (word << 8) | (at + i < bytes.length ? bytes.charCodeAt(at + i) : 0);
  return word >>> 0;
}

/** Feature flags of a leaf, without the ones that depend on the CPU's state. */
function flags(cpu: Cpu, leaf: number, register: CpuidRegister): number {
  let word = 0;
  for (const row of featureRows) if (row.leaf === leaf && row.register === register && cpu.features.has(row.name)) word |= 1 << row.bit;
  return word >>> 0;
}

/** Deterministic cache parameters: L1 data, L1 instruction, L2, L3 as [type, level, ways, sets]. */
const caches: readonly (readonly [number, number, number, number])[] = [[1, 1, 8, 64], [2, 1, 4, 128], [3, 2, 8, 512], [3, 3, 16, 8192]];

/**
 * What CPUID leaves in [EAX, EBX, ECX, EDX]. A leaf above the highest one gives the data of the highest basic leaf,
 * as Intel processors do.
 */
export function cpuid(cpu: Cpu, leaf: number, subleaf: number): [number, number, number, number] {
  const profile: CpuProfile = cpu.profile;
  if (leaf >= 0x80000000 ? leaf > MAX_EXTENDED_LEAF : leaf > profile.maxBasicLeaf) leaf = profile.maxBasicLeaf;
  const count = cpu.memory.cpus;
  switch (leaf) {
    case 0: return [profile.maxBasicLeaf, 0x756e6547, 0x6c65746e, 0x49656e69]; // "GenuineIntel"
    case 1: {
      let ecx = flags(cpu, 1, Ecx);
      if (ecx & (1 << 26) && cpu.get32(S.cr4) & Cr4.OSXSAVE) ecx |= 1 << 27;
      let edx = flags(cpu, 1, Edx);
      // the local APIC shows only while it is enabled globally
      if (edx & (1 << 9) && !(cpu.bus.readApicBase(cpu.index) & 0x800)) edx &= ~(1 << 9);
      const line = cpu.features.has('CLFSH') ? 8 << 8 : 0;
      return [profile.signature, ((cpu.index << 24) | ((count & 0xff) << 16) | line) >>> 0, ecx >>> 0, edx >>> 0];
    }
    case 2: return [0x55035a01, 0x00f0b2e4, 0, 0x09ca212c];
    case 4: {
      const cache = caches[subleaf];
      if (!cache) return [0, 0, 0, 0];
      const [type, level, ways, sets] = cache;
      return [(type | (level << 5) | (1 << 8) | ((count - 1) << 26)) >>> 0, (63 | ((ways - 1) << 22)) >>> 0, sets - 1, 0];
    }
    case 5: return cpu.features.has('MONITOR') ? [64, 64, 3, 0x20] : [0, 0, 0, 0];
    case 7: return subleaf === 0 ? [0, flags(cpu, 7, Ebx), flags(cpu, 7, Ecx), flags(cpu, 7, Edx)] : [0, 0, 0, 0];
    case 0xb: {
      const shift = Math.ceil(Math.log2(count));
      if (subleaf === 0) return [0, 1, 0x100, cpu.index];
      if (subleaf === 1) return [shift, count, 0x201, cpu.index];
      return [0, 0, subleaf & 0xff, cpu.index];
    }
    case 0xd:
      if (!cpu.features.has('XSAVE')) return [0, 0, 0, 0];
      return subleaf === 0 ? [3, 576, 576, 0] : [0, 0, 0, 0]; // x87 and SSE state: legacy area and header
    case 0x15: return [1, Math.round(profile.frequency / 1e6), 1_000_000, 0];
    case 0x16: return [Math.round(profile.frequency / 1e6), Math.round(profile.frequency / 1e6), 100, 0];
    case 0x80000000: return [MAX_EXTENDED_LEAF, 0, 0, 0];
    case 0x80000001: {
      let edx = flags(cpu, leaf, Edx);
      if (!cpu.code64) edx &= ~(1 << 11); // SYSCALL is enumerated in 64-bit mode only
      return [0, 0, flags(cpu, leaf, Ecx), edx >>> 0];
    }
    case 0x80000002: case 0x80000003: case 0x80000004: {
      const at = (leaf - 0x80000002) * 16;
      return [text(profile.brand, at), text(profile.brand, at + 4), text(profile.brand, at + 8), text(profile.brand, at + 12)];
    }
    case 0x80000006: return [0, 0, 0x01006040, 0]; // L2: 256 KiB, 8 ways, 64-byte lines
    case 0x80000007: return [0, 0, 0, flags(cpu, leaf, Edx)];
    case 0x80000008: return [profile.physicalAddressBits | (profile.linearAddressBits << 8), 0, 0, 0];
    default: return [0, 0, 0, 0];
  }
}

export function cpuidInstruction(cpu: Cpu): void {
  const [eax, ebx, ecx, edx] = cpuid(cpu, cpu.reg32(Gpr.RAX), cpu.reg32(Gpr.RCX));
  cpu.setReg32(Gpr.RAX, eax);
  cpu.setReg32(Gpr.RBX, ebx);
  cpu.setReg32(Gpr.RCX, ecx);
  cpu.setReg32(Gpr.RDX, edx);
}
