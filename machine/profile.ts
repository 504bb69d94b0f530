import { costKeys, isCostKey } from '../cpu/cost.ts';
import { checkFeatures } from '../cpu/cpuid.ts';
import { estimate, published, type CpuProfile, type Figure, type TlbGeometry } from '../cpu/profile.ts';
import { nehalemVmx, prescottVmx, unitVmx, type VmxProfile } from '../vmcs/capability.ts';

/**
 * One machine model: its CPU, its VMX capabilities, and the one clock ratio that devices need.
 */
export interface MachineProfile {
  readonly name: string;
  readonly description: string;
  readonly cpu: CpuProfile;
  readonly vmx: VmxProfile;
  /** CPU cycles per bus clock; the local APIC timer counts bus clocks (before its own divider). */
  readonly busDivisor: number;
}

/** A published figure that stands for a class or was measured as a range: bounds of our own around it. */
const within = (value: number, low: number, high: number, source: string): Figure => ({ value, source, low, high });
/** No cost in this model: not an estimate, a definition. */
const model = (value: number): Figure => published(value, 'model');

/*
 * What the CPUs offer. x87, MMX, and SSE beyond what SSE2 code needs are architectural for all of these models but
 * are not written yet, so FPU, MMX and SSE3 are left out rather than advertised: a feature named here whose rows do
 * not exist is an error. SSE, SSE2 and FXSR are named because SSE2 code and CR4.OSFXSR depend on them.
 */
const commonFeatures = ['VME', 'DE', 'PSE', 'TSC', 'MSR', 'PAE', 'MCE', 'CX8', 'APIC', 'SEP', 'MTRR', 'PGE', 'MCA', 'CMOV', 'PAT', 'PSE36', 'CLFSH', 'FXSR', 'SSE', 'SSE2', 'MONITOR', 'VMX', 'CX16', 'SYSCALL', 'NX', 'LM', 'LAHF'] as const;

/** Nehalem: 64 data and 128 instruction entries, four ways, 512 shared; large pages have arrays of their own in the first level only. */
const nehalemTlb: TlbGeometry = {
  instruction: { entries4k: 128, ways4k: 4, entriesLarge: 7, waysLarge: 0 },
  data: { entries4k: 64, ways4k: 4, entriesLarge: 32, waysLarge: 4 },
  second: { entries4k: 512, ways4k: 4, entriesLarge: 0, waysLarge: 0 },
};

/** NetBurst: 64 fully associative data entries that hold either page size, 128 instruction entries, one level. */
const prescottTlb: TlbGeometry = {
  instruction: { entries4k: 128, ways4k: 4, entriesLarge: 128, waysLarge: 4 },
  data: { entries4k: 64, ways4k: 0, entriesLarge: 64, waysLarge: 0 },
  second: null,
};

const P4 = 'agner.pentium-4-em64t-(prescott)';
const NHM = 'agner.nehalem';

const prescottCosts: Readonly<Record<string, Figure>> = {
  'alu': estimate(1, 1, 2),
  'mul': estimate(10, 10, 14),
  'div': estimate(80, 60, 160),
  'string': estimate(6, 4, 12),
  'branch': estimate(2, 1, 6),
  // the pair takes 11; the split is ours
  'call': within(5, 4, 7, 'adams2006.nano.callret.native'),
  'ret': within(6, 4, 7, 'adams2006.nano.callret.native'),
  'stack': estimate(2, 1, 4),
  'lock': estimate(120, 70, 150),
  'bcd': estimate(60, 20, 100),
  'segment': published(27, `${P4}.mov-sr`),
  'far': within(160, 154, 160, `${P4}.call-far`),
  'gate': estimate(300, 160, 470),
  // the whole of INT n is in event.software
  'int': model(0),
  'iret': published(325, `${P4}.iret`),
  // the round trip takes 242; the split is ours
  'syscall': within(121, 80, 162, 'adams2006.nano.syscall.native'),
  'sysret': within(121, 80, 162, 'adams2006.nano.syscall.native'),
  // a whole getpid by SYSENTER takes 432 on a Pentium 4, its kernel half 12
  'sysenter': within(210, 120, 300, 'kml2003.getpid.sysenter'),
  'sysexit': within(210, 120, 300, 'kml2003.getpid.sysenter'),
  'cpuid': within(400, 300, 500, `${P4}.cpuid`),
  'rdtsc': published(100, `${P4}.rdtsc`),
  'rdmsr': estimate(150, 100, 300),
  'wrmsr': estimate(250, 150, 500),
  'io': published(3209, 'adams2006.nano.in.native'),
  'cr': within(150, 100, 300, 'adams2006.nano.cr8wr.native'),
  'crread': estimate(40, 20, 80),
  'dr': estimate(150, 80, 300),
  'descriptor': estimate(100, 40, 200),
  // "about 100 ns"
  'invlpg': within(380, 200, 600, 'linux.invlpg'),
  'invpcid': within(550, 400, 700, 'tlb.invpcid-single'),
  'hlt': estimate(20, 5, 100),
  'serialize': estimate(5000, 1000, 100000),
  // CLI 52, STI 64, POPF 70, PUSHF 9: one class
  'flags': estimate(49, 9, 70),
  'task': estimate(50, 20, 100),
  'sse': estimate(2, 1, 7),
  'ssefp': estimate(6, 4, 40),
  'fence': published(124, `${P4}.mfence`),
  'vmxon': estimate(800, 300, 2000),
  'vmptrld': estimate(400, 150, 1000),
  'vmclear': estimate(500, 150, 1000),
  'vmread': published(178, 'adams2006.t1.p4-672.vmcs-read'),
  'vmwrite': published(171, 'adams2006.t1.p4-672.vmcs-write'),
  'vmentry': published(2409, 'adams2006.t1.p4-672.vm-entry'),
  'vmcall': estimate(400, 100, 1000),
  'invept': model(0), // the instruction does not exist here
  'invvpid': model(0), // the instruction does not exist here
  // #DE takes 889 with its IRET (325); what is left is delivery
  'event.exception': within(564, 470, 768, 'adams2006.nano.divzero.native'),
  'event.interrupt': estimate(600, 470, 900),
  'event.software': published(470, `${P4}.int`),
  'event.task': estimate(1000, 500, 2000),
  'tlb.second': model(0), // there is no second level
  'walk.reference': estimate(12, 4, 30),
  // the round trip is 3963; what is left of it after the entry
  'vmx.exit': published(1554, 'agesen2012.t1.prescott'),
  'vmx.exit.ExceptionOrNmi': published(1931, 'adams2006.t1.p4-672.pagefault-vmexit'),
  'mmio': estimate(400, 200, 3209),
  'string.iteration': estimate(1, 1, 4),
  'monitor.memory': estimate(4, 2, 30),
  // trap-and-emulate RDTSC takes 2030 in all, delivery and IRET 889 of it
  'monitor.decode': within(300, 100, 1000, 'adams2006.rdtsc.trap-and-emulate'),
  'monitor.emulate': within(250, 100, 800, 'adams2006.rdtsc.trap-and-emulate'),
  'monitor.dispatch': within(591, 200, 1000, 'adams2006.rdtsc.trap-and-emulate'),
  'monitor.inject': estimate(100, 50, 400),
  'monitor.device': estimate(400, 100, 2000),
};

const nehalemCosts: Readonly<Record<string, Figure>> = {
  'alu': estimate(1, 1, 1),
  'mul': estimate(3, 3, 5),
  'div': estimate(25, 17, 90),
  'string': estimate(4, 2, 8),
  'branch': estimate(1, 1, 4),
  'call': estimate(2, 2, 4),
  'ret': estimate(2, 2, 5),
  'stack': estimate(1, 1, 3),
  'lock': estimate(20, 17, 30),
  'bcd': estimate(20, 3, 50),
  'segment': published(13, `${NHM}.mov-sr`),
  'far': within(74, 67, 120, `${NHM}.call-far`),
  'gate': estimate(150, 74, 300),
  // the whole of INT n is in event.software
  'int': model(0),
  'iret': estimate(280, 240, 330),
  'syscall': estimate(60, 40, 121),
  'sysret': estimate(60, 40, 121),
  'sysenter': estimate(70, 40, 210),
  'sysexit': estimate(70, 40, 210),
  'cpuid': published(200, `${NHM}.cpuid`),
  'rdtsc': published(24, `${NHM}.rdtsc`),
  'rdmsr': estimate(80, 40, 150),
  'wrmsr': estimate(120, 60, 250),
  // a port write crosses the chip set: more than the 300 of the P6 family, at most the 3209 of the Pentium 4
  'io': estimate(1200, 300, 3209),
  'cr': estimate(100, 50, 250),
  'crread': estimate(10, 4, 40),
  'dr': estimate(50, 20, 150),
  'descriptor': estimate(50, 20, 150),
  'invlpg': within(200, 100, 300, 'tlb.invlpg'),
  'invpcid': within(550, 400, 700, 'tlb.invpcid-single'),
  'hlt': estimate(20, 5, 100),
  'serialize': estimate(5000, 1000, 100000),
  // POPF 14, PUSHF 1; CLI and STI between them
  'flags': estimate(8, 1, 14),
  'task': estimate(50, 20, 100),
  'sse': estimate(1, 1, 3),
  'ssefp': estimate(4, 3, 20),
  'fence': published(23, `${NHM}.mfence`),
  'vmxon': estimate(300, 100, 1000),
  'vmptrld': estimate(120, 50, 400),
  'vmclear': estimate(150, 50, 400),
  'vmread': estimate(40, 20, 52),
  'vmwrite': estimate(35, 20, 44),
  // the round trip is 1009; split as Core 2 splits its own (937 to 1186)
  'vmentry': within(446, 400, 509, 'agesen2012.t1.nehalem'),
  'vmcall': estimate(200, 50, 500),
  'invept': estimate(300, 100, 1000),
  'invvpid': estimate(200, 100, 800),
  'event.exception': estimate(600, 300, 715),
  'event.interrupt': estimate(600, 300, 900),
  'event.software': estimate(300, 150, 600),
  'event.task': estimate(600, 300, 1500),
  'tlb.second': estimate(7, 6, 9),
  'walk.reference': estimate(8, 4, 20),
  'vmx.exit': within(563, 500, 609, 'agesen2012.t1.nehalem'),
  'mmio': estimate(300, 100, 3209),
  'string.iteration': estimate(1, 1, 2),
  'monitor.memory': estimate(4, 1, 20),
  'monitor.decode': estimate(200, 80, 600),
  'monitor.emulate': estimate(150, 50, 500),
  // a whole CPUID handler takes 1500 in KVM, its VMREADs and VMWRITEs included
  'monitor.dispatch': within(400, 200, 1500, 'turtles.handler.l0'),
  'monitor.inject': estimate(60, 20, 300),
  'monitor.device': estimate(250, 80, 1500),
};

/** One cycle for every instruction and nothing for anything else: cycles equal retired instructions while no HLT waits. */
const unitCosts: Readonly<Record<string, Figure>> = Object.fromEntries(costKeys.map(c => [c.key, model(c.kind === 'row' ? 1 : 0)]));

/** Everything that is written, at one cycle each: for tests and for counting. */
export const unit: MachineProfile = {
  name: 'unit',
  description: 'every instruction one cycle, every event free, 1 GHz; advertises everything that is implemented',
  cpu: {
    name: 'unit',
    description: 'one cycle per instruction',
    signature: 0x000106a5,
    brand: 'vanderpool unit-cost CPU',
    features: [...commonFeatures, 'PCID', 'MOVBE', 'POPCNT', 'LZCNT', 'FSGSBASE', 'SMEP', 'SMAP', 'INVPCID', 'UMIP', 'PDPE1GB', 'RDTSCP', 'INVTSC'],
    physicalAddressBits: 40,
    linearAddressBits: 48,
    maxBasicLeaf: 0xb,
    frequency: 1_000_000_000,
    tlb: nehalemTlb,
    costs: unitCosts,
  },
  vmx: unitVmx,
  busDivisor: 1,
};

/** Pentium 4 672: the first CPU with VT-x. No EPT, no VPID. */
export const prescott: MachineProfile = {
  name: 'prescott',
  description: 'Pentium 4 672, 3.8 GHz (2005): the first VT-x; no EPT, no VPID',
  cpu: {
    name: 'prescott',
    description: 'Intel Pentium 4 672',
    signature: 0x00000f4a,
    brand: 'Intel(R) Pentium(R) 4 CPU 3.80GHz',
    features: commonFeatures,
    physicalAddressBits: 36,
    linearAddressBits: 48,
    maxBasicLeaf: 5,
    frequency: 3_800_000_000,
    tlb: prescottTlb,
    costs: prescottCosts,
  },
  vmx: prescottVmx,
  busDivisor: 19, // 200 MHz
};

/** Xeon X5570: EPT (without accessed and dirty bits) and VPID; no unrestricted guest. */
export const nehalem: MachineProfile = {
  name: 'nehalem',
  description: 'Xeon X5570, 2.93 GHz (2009): EPT without accessed and dirty bits, VPID; no unrestricted guest',
  cpu: {
    name: 'nehalem',
    description: 'Intel Xeon X5570',
    signature: 0x000106a5,
    brand: 'Intel(R) Xeon(R) CPU X5570 @ 2.93GHz',
    features: [...commonFeatures, 'POPCNT', 'RDTSCP', 'INVTSC'],
    physicalAddressBits: 40,
    linearAddressBits: 48,
    maxBasicLeaf: 0xb,
    frequency: 2_930_000_000,
    tlb: nehalemTlb,
    costs: nehalemCosts,
  },
  vmx: nehalemVmx,
  busDivisor: 22, // 133 MHz
};

/** The built-in profiles by name; the default first. */
export const profiles = { nehalem, prescott, unit } as const;

/**
 * Checks that a profile names known features and states every cost and no unknown one.
 * @throws Error naming the feature or cost and what to do
 */
export function checkProfile(profile: { readonly name: string; readonly cpu: CpuProfile }): void {
  checkFeatures(profile.cpu.features);
  const { costs } = profile.cpu;
  for (const { key, description } of costKeys) {
    if (!(key in costs)) throw new Error(`profile ${profile.name}: cost '${key}' (${description}) is missing; add published(…) or estimate(…)`);
  }
  for (const [key, figure] of Object.entries(costs)) {
    if (!isCostKey(key)) throw new Error(`profile ${profile.name}: unknown cost '${key}'; the keys are listed in cpu/cost.ts`);
    if (!(Number.isInteger(figure.value) && figure.value >= 0 && figure.low <= figure.value && figure.value <= figure.high)) {
      throw new Error(`profile ${profile.name}: cost '${key}' is ${figure.value} within ${figure.low}..${figure.high}; expected whole cycles inside their bounds`);
    }
  }
}
