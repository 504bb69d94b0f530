import type { Bus } from '../../cpu/bus.ts';
import { Cpu } from '../../cpu/cpu.ts';
import type { Instruction } from '../../cpu/instruction.ts';
import { buildIsa } from '../../cpu/isa.ts';
import { Memory } from '../../cpu/memory.ts';
import type { Mmu } from '../../cpu/mmu.ts';
import type { VmEntryEvent, VmExitEvent } from '../../cpu/observer.ts';
import { estimate, type CpuProfile } from '../../cpu/profile.ts';
import type { Row } from '../../cpu/row.ts';
import { Cr0, Cr4, Efer, S } from '../../cpu/state.ts';
import { Capability, unitVmx, type VmxProfile } from '../../vmcs/capability.ts';
import { Field, type FieldName } from '../../vmcs/field.ts';
import { Vmcs } from '../../vmcs/storage.ts';
import { installVmx } from '../../vmx/install.ts';
import type { Vmx } from '../../vmx/operation.ts';
import { vmxRows } from '../../vmx/rows.ts';

export const isa = buildIsa(vmxRows);
const level = { entries4k: 16, ways4k: 0, entriesLarge: 4, waysLarge: 0 };
export const testProfile: CpuProfile = {
  name: 'test', description: 'For tests', signature: 0x106e5, brand: 'test',
  features: ['VMX', 'FPU', 'VME', 'DE', 'PSE', 'TSC', 'MSR', 'PAE', 'MCE', 'APIC', 'SEP', 'MTRR', 'PGE', 'PAT', 'FXSR', 'SSE', 'SSE2', 'LM', 'NX', 'SYSCALL', 'RDTSCP', 'PCID', 'INVPCID', 'FSGSBASE', 'SMEP', 'SMAP', 'UMIP', 'XSAVE', 'MONITOR'],
  physicalAddressBits: 36, linearAddressBits: 48, maxBasicLeaf: 11, frequency: 1e9, tlb: { instruction: level, data: level, second: null },
  costs: { 'vmx.exit': estimate(1000, 1, 2000), 'vmx.exit.Cpuid': estimate(700, 1, 2000) },
};

/** Translation that is the identity and records what it was told. */
export interface FakeMmu extends Mmu { readonly calls: string[] }
function fakeMmu(): FakeMmu {
  const calls: string[] = [];
  const mmu: Partial<FakeMmu> = {
    calls, vpid: 0, counters: { dataMisses: 0, instructionMisses: 0, walks: 0, walkReferences: 0, secondLevelReferences: 0 },
    translate: (linear) => linear >>> 0,
    peek: (linear) => linear >>> 0,
    updateContext() { calls.push('updateContext'); },
    invalidatePage() {}, flushNonGlobal() {}, flushAll() {}, invalidatePcid() {},
    invalidateVpid(vpid, linear, keepGlobal) { calls.push(`invalidateVpid ${vpid}${linear === undefined ? '' : ` ${linear}`}${keepGlobal ? ' keepGlobal' : ''}`); },
    invalidateEpt(root) { calls.push(`invalidateEpt ${root}`); },
    codePageChanged() {}, save: () => null, load() {},
  };
  return mmu as FakeMmu;
}

export interface Rig {
  readonly cpu: Cpu;
  readonly vmx: Vmx;
  readonly mmu: FakeMmu;
  readonly exits: VmExitEvent[];
  readonly entries: VmEntryEvent[];
  /** Interrupt vectors the controller has to give. */
  readonly interrupts: number[];
}

export const VMXON_REGION = 0x10000;
export const VMCS_REGION = 0x11000;
export const HOST_RIP = 0x123000;
export const GUEST_RIP = 0x40000;

/** A CPU in 64-bit mode, CPL 0, ready for VMXON. */
export function rig(profile: VmxProfile = unitVmx): Rig {
  const memory = new Memory(2 << 20, 1, 1 << 20);
  const interrupts: number[] = [];
  const bus: Bus = {
    readPhysical: (_, size) => (size === 4 ? 0xffffffff : size === 2 ? 0xffff : 0xff), writePhysical() {}, ioRead: () => 0, ioWrite() {},
    acknowledgeInterrupt: () => interrupts.shift() ?? -1, readApicBase: () => 0xfee00900, writeApicBase() {}, readTaskPriority: () => 0, writeTaskPriority() {},
  };
  const cpu = new Cpu(memory, 0, testProfile, bus);
  const mmu = fakeMmu();
  cpu.mmu = mmu;
  const vmx = installVmx(cpu, profile, isa.rows);
  cpu.set32(S.cr0, Cr0.PE | Cr0.PG | Cr0.NE | Cr0.ET | Cr0.WP);
  cpu.set32(S.cr4, Cr4.PAE | Cr4.VMXE);
  cpu.set32(S.efer, Efer.LME | Efer.LMA);
  cpu.set32(S.featureControl, 5);
  cpu.set32(S.cr3, 0x20000);
  cpu.setSegment(1, 8, 0, 0xffffffff, 0xa09b);
  for (const n of [0, 2, 3, 4, 5]) cpu.setSegment(n, 0x10, 0, 0xffffffff, 0xc093);
  cpu.setSegment(7, 0x18, 0x5000, 0x67, 0x8b);
  cpu.flags = 2;
  cpu.rip = 0x1000;
  const exits: VmExitEvent[] = [];
  const entries: VmEntryEvent[] = [];
  cpu.observer = { vmExit: (exit) => { exits.push(exit); }, vmEntry: (entry) => { entries.push(entry); } };
  return { cpu, vmx, mmu, exits, entries, interrupts };
}

/** Writes a valid VMCS for a 64-bit guest of a 64-bit host: every check passes. */
export function fillValid(vmcs: Vmcs, capability: Capability): void {
  const set = (name: FieldName, low: number, high = 0): void => vmcs.set(Field[name], low, high);
  set('PinBasedControls', capability.mustBe1.PinBased);
  set('PrimaryControls', capability.mustBe1.Primary);
  set('PrimaryExitControls', capability.mustBe1.Exit | 0x200);
  set('EntryControls', capability.mustBe1.Entry | 0x200);
  set('HostCr0', 0x80010031); set('HostCr3', 0x20000); set('HostCr4', 0x2020);
  set('HostCsSelector', 8); for (const n of ['Es', 'Ss', 'Ds', 'Fs', 'Gs'] as const) set(`Host${n}Selector`, 0x10);
  set('HostTrSelector', 0x18); set('HostTrBase', 0x5000); set('HostGdtrBase', 0x6000); set('HostIdtrBase', 0x7000);
  set('HostRip', HOST_RIP); set('HostRsp', 0x9000);
  set('GuestCr0', 0x80010031); set('GuestCr3', 0x20000); set('GuestCr4', 0x2020);
  for (const n of ['Es', 'Ss', 'Ds', 'Fs', 'Gs'] as const) { set(`Guest${n}Selector`, 0x10); set(`Guest${n}Limit`, 0xffffffff); set(`Guest${n}AccessRights`, 0xc093); }
  set('GuestCsSelector', 8); set('GuestCsLimit', 0xffffffff); set('GuestCsAccessRights', 0xa09b);
  set('GuestLdtrAccessRights', 0x10000);
  set('GuestTrSelector', 0x18); set('GuestTrLimit', 0x67); set('GuestTrAccessRights', 0x8b); set('GuestTrBase', 0x5000);
  set('GuestGdtrBase', 0x6000); set('GuestGdtrLimit', 0x27); set('GuestIdtrBase', 0x7000); set('GuestIdtrLimit', 0xfff);
  set('GuestDr7', 0x400); set('GuestRsp', 0x8000); set('GuestRip', GUEST_RIP); set('GuestRflags', 2);
  set('VmcsLinkPointer', 0xffffffff, 0xffffffff);
}

/** In VMX operation with a valid current VMCS. */
export function ready(profile: VmxProfile = unitVmx): Rig {
  const r = rig(profile);
  const { cpu, vmx } = r;
  cpu.writePhysical(VMXON_REGION, 4, profile.revision);
  cpu.writePhysical(VMCS_REGION, 4, profile.revision);
  if (vmx.enable(cpu, VMXON_REGION) !== 0 || vmx.clear(cpu, VMCS_REGION) !== 0 || vmx.load(cpu, VMCS_REGION) !== 0) throw new Error('the rig could not enter VMX operation');
  fillValid(vmx.vmcs, vmx.capability);
  return r;
}

/** Sets a field as VMWRITE does. */
export function vmwrite(r: Rig, name: FieldName, low: number, high = 0): void {
  const result = r.vmx.write(Field[name].encoding, low, high);
  if (result !== 0) throw new Error(`VMWRITE ${name} gave ${result}`);
}
export const or = (r: Rig, name: FieldName, bits: number): void => vmwrite(r, name, (r.vmx.vmcs.low(Field[name]) | bits) >>> 0, r.vmx.vmcs.high(Field[name]));

const rowOf = (syntax: string): Row => {
  const row = isa.rows.find((candidate) => candidate.syntax === syntax);
  if (!row) throw new Error(`no row '${syntax}'`);
  return row;
};
/** A decoded 64-bit instruction of a row. */
export function instruction(syntax: string, parts: Partial<Instruction> = {}): Instruction {
  return {
    row: rowOf(syntax), length: 3, codeSize: 64, operandSize: 64, addressSize: 64, rex: 0, lock: false, rep: 0, override: -1, segment: 3, modrm: -1, reg: 0, rm: 0, memory: false,
    base: -1, index: -1, scale: 0, displacement: 0, displacementHigh: 0, immediate: 0, immediateHigh: 0, immediate2: 0, ...parts,
  };
}
/** Executes a row as an engine would: intercepts, then the body. Returns 'intercepted' or the flow. */
export function execute(r: Rig, insn: Instruction): 'intercepted' | number {
  const { cpu } = r;
  if (cpu.interceptSet?.rows.has(insn.row.id) && cpu.hooks!.instruction(cpu, insn)) return 'intercepted';
  const flow = insn.row.system!(cpu, insn);
  if (!flow) cpu.advance(insn);
  return flow ?? 0;
}
