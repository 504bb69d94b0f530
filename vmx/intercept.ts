import type { Cpu, InterceptSet } from '../cpu/cpu.ts';
import { ud } from '../cpu/fault.ts';
import type { Instruction } from '../cpu/instruction.ts';
import { ioPermitted } from '../cpu/io.ts';
import type { Row } from '../cpu/row.ts';
import { Cr0, Cr4, Gpr, S, SegmentIndex } from '../cpu/state.ts';
import { Primary, Secondary, type Control } from '../vmcs/control.ts';
import { Field } from '../vmcs/field.ts';
import { vmExit } from './exit.ts';
import { displacement, fieldInformation, invalidateInformation, memoryInformation, selectorInformation, stringInformation, tableInformation } from './instruction-information.ts';
import type { Vmx } from './operation.ts';
import { VmExitReason } from './reason.ts';

/** Which instruction rows may cause VM exits, when, and how it is decided (SDM "Instructions That Cause VM Exits"). */
export interface Intercept {
  /** Mnemonics, or for MOV the kind of the operand that makes it special. */
  readonly rows: (row: Row) => boolean;
  readonly text: string;
  /** The rule behind it, for documents: a control or 'unconditional'. */
  readonly rule: string;
  /** Under these controls the rows are in the intercept set. */
  readonly active: (vmx: Vmx) => boolean;
  /** Before the row executes: true = exited. False = execute it, faults of higher priority included. */
  readonly take: (vmx: Vmx, cpu: Cpu, insn: Instruction) => boolean;
}

const always = (): boolean => true;
const named = (...mnemonics: string[]) => (row: Row): boolean => mnemonics.includes(row.mnemonic);
const operand = (position: 0 | 1, kind: 'cr' | 'dr') => (row: Row): boolean => row.mnemonic === 'MOV' && row.operands[position]?.kind === kind;
const has = (vmx: Vmx, control: Control): boolean => ((control.group === 'Primary' ? vmx.primary : vmx.secondary) & control.mask) !== 0;

function exit(vmx: Vmx, cpu: Cpu, insn: Instruction, reason: number, qualification: number, why: string): true {
  vmx.exitLength = insn.length;
  vmExit(vmx, cpu, reason, qualification, why);
  return true;
}

interface Simple {
  /** #GP(0) at CPL above 0 comes first. */
  readonly privileged?: true;
  readonly control?: Control;
}

const table: Intercept[] = [];
function add(text: string, rows: (row: Row) => boolean, rule: string, active: (vmx: Vmx) => boolean, take: Intercept['take']): void {
  table.push({ text, rows, rule, active, take });
}
/** An instruction that exits whenever its control is 1 (or always), with qualification 0. */
function simple(mnemonic: string, reason: number, { privileged, control }: Simple): void {
  const why = control ? `${control.name} is 1` : `${mnemonic} exits unconditionally`;
  add(mnemonic, named(mnemonic), control ? control.name : 'unconditional', control ? (vmx) => has(vmx, control) : always,
    (vmx, cpu, insn) => (privileged && cpu.get32(S.cpl) !== 0 ? false : exit(vmx, cpu, insn, reason, 0, why)));
}

// --- unconditional -----------------------------------------------------------------------------------------------
simple('CPUID', VmExitReason.Cpuid, {});
simple('INVD', VmExitReason.Invd, { privileged: true });
simple('GETSEC', VmExitReason.Getsec, {});
add('XSETBV', named('XSETBV'), 'unconditional', always, (vmx, cpu, insn) => (cpu.get32(S.cpl) !== 0 || !(cpu.get32(S.cr4) & Cr4.OSXSAVE) ? false : exit(vmx, cpu, insn, VmExitReason.Xsetbv, 0, 'XSETBV exits unconditionally')));

/** VMX instructions exit before their privilege check, but after #UD in modes that do not have them. */
const wrongMode = (cpu: Cpu): boolean => !(cpu.get32(S.cr0) & Cr0.PE) || cpu.virtual8086 || (cpu.longMode && !cpu.code64);
function vmxInstruction(mnemonic: string, reason: number, information: ((insn: Instruction) => number) | null, inEveryMode = false): void {
  const why = `${mnemonic} exits unconditionally`;
  add(mnemonic, named(mnemonic), 'unconditional', always, (vmx, cpu, insn) => {
    if (!inEveryMode && wrongMode(cpu)) throw ud();
    if (information) vmx.exitInstruction = information(insn);
    return exit(vmx, cpu, insn, reason, information ? displacement(insn, cpu.nextRip(insn)) : 0, why);
  });
}
vmxInstruction('VMCALL', VmExitReason.Vmcall, null, true);
vmxInstruction('VMCLEAR', VmExitReason.Vmclear, memoryInformation);
vmxInstruction('VMLAUNCH', VmExitReason.Vmlaunch, null);
vmxInstruction('VMPTRLD', VmExitReason.Vmptrld, memoryInformation);
vmxInstruction('VMPTRST', VmExitReason.Vmptrst, memoryInformation);
vmxInstruction('VMREAD', VmExitReason.Vmread, fieldInformation);
vmxInstruction('VMRESUME', VmExitReason.Vmresume, null);
vmxInstruction('VMWRITE', VmExitReason.Vmwrite, fieldInformation);
vmxInstruction('VMXOFF', VmExitReason.Vmxoff, null);
vmxInstruction('VMXON', VmExitReason.Vmxon, memoryInformation);
vmxInstruction('INVEPT', VmExitReason.Invept, invalidateInformation);
vmxInstruction('INVVPID', VmExitReason.Invvpid, invalidateInformation);

// --- one control -------------------------------------------------------------------------------------------------
simple('HLT', VmExitReason.Hlt, { privileged: true, control: Primary.HltExiting });
simple('MONITOR', VmExitReason.Monitor, { privileged: true, control: Primary.MonitorExiting });
simple('MWAIT', VmExitReason.Mwait, { privileged: true, control: Primary.MwaitExiting });
simple('PAUSE', VmExitReason.Pause, { control: Primary.PauseExiting });
simple('WBINVD', VmExitReason.Wbinvd, { privileged: true, control: Secondary.WbinvdExiting });
add('INVLPG', named('INVLPG'), Primary.InvlpgExiting.name, (vmx) => has(vmx, Primary.InvlpgExiting), (vmx, cpu, insn) => {
  if (cpu.get32(S.cpl) !== 0) return false;
  const offset = cpu.effectiveAddress(insn);
  const linear = insn.codeSize !== 64 ? (cpu.segmentBase(insn.segment) + offset) >>> 0 : insn.segment >= SegmentIndex.FS ? cpu.segmentBase(insn.segment) + offset : offset;
  return exit(vmx, cpu, insn, VmExitReason.Invlpg, linear, 'INVLPG exiting is 1');
});
add('INVPCID', named('INVPCID'), `${Primary.InvlpgExiting.name}, ${Secondary.EnableInvpcid.name}`, (vmx) => has(vmx, Primary.InvlpgExiting) || !has(vmx, Secondary.EnableInvpcid), (vmx, cpu, insn) => {
  if (!has(vmx, Secondary.EnableInvpcid)) throw ud();
  if (cpu.get32(S.cpl) !== 0) return false;
  vmx.exitInstruction = invalidateInformation(insn);
  return exit(vmx, cpu, insn, VmExitReason.Invpcid, displacement(insn, cpu.nextRip(insn)), 'INVLPG exiting and enable INVPCID are 1');
});
/** RDTSC and RDTSCP are for ring 0 under CR4.TSD. */
const tscDenied = (cpu: Cpu): boolean => cpu.get32(S.cpl) !== 0 && (cpu.get32(S.cr4) & Cr4.TSD) !== 0;
add('RDTSC', named('RDTSC'), Primary.RdtscExiting.name, (vmx) => has(vmx, Primary.RdtscExiting), (vmx, cpu, insn) => (tscDenied(cpu) ? false : exit(vmx, cpu, insn, VmExitReason.Rdtsc, 0, 'RDTSC exiting is 1')));
add('RDTSCP', named('RDTSCP'), `${Primary.RdtscExiting.name}, ${Secondary.EnableRdtscp.name}`, (vmx) => has(vmx, Primary.RdtscExiting) || !has(vmx, Secondary.EnableRdtscp), (vmx, cpu, insn) => {
  if (!has(vmx, Secondary.EnableRdtscp)) throw ud();
  return tscDenied(cpu) ? false : exit(vmx, cpu, insn, VmExitReason.Rdtscp, 0, 'RDTSC exiting is 1');
});
add('RDPMC', named('RDPMC'), Primary.RdpmcExiting.name, (vmx) => has(vmx, Primary.RdpmcExiting),
  (vmx, cpu, insn) => (cpu.get32(S.cpl) !== 0 && !(cpu.get32(S.cr4) & Cr4.PCE) && cpu.get32(S.cr0) & Cr0.PE ? false : exit(vmx, cpu, insn, VmExitReason.Rdpmc, 0, 'RDPMC exiting is 1')));

// --- descriptor tables -------------------------------------------------------------------------------------------
const umipDenied = (cpu: Cpu): boolean => cpu.get32(S.cpl) !== 0 && (cpu.get32(S.cr4) & Cr4.UMIP) !== 0;
['SGDT', 'SIDT', 'LGDT', 'LIDT'].forEach((mnemonic, identity) => add(mnemonic, named(mnemonic), Secondary.DescriptorTableExiting.name, (vmx) => has(vmx, Secondary.DescriptorTableExiting), (vmx, cpu, insn) => {
  if (identity >= 2 ? cpu.get32(S.cpl) !== 0 : umipDenied(cpu)) return false;
  vmx.exitInstruction = tableInformation(insn, identity);
  return exit(vmx, cpu, insn, VmExitReason.GdtrIdtrAccess, displacement(insn, cpu.nextRip(insn)), 'descriptor-table exiting is 1');
}));
['SLDT', 'STR', 'LLDT', 'LTR'].forEach((mnemonic, identity) => add(mnemonic, named(mnemonic), Secondary.DescriptorTableExiting.name, (vmx) => has(vmx, Secondary.DescriptorTableExiting), (vmx, cpu, insn) => {
  if (!(cpu.get32(S.cr0) & Cr0.PE) || cpu.virtual8086) return false;
  if (identity >= 2 ? cpu.get32(S.cpl) !== 0 : umipDenied(cpu)) return false;
  vmx.exitInstruction = selectorInformation(insn, identity);
  return exit(vmx, cpu, insn, VmExitReason.LdtrTrAccess, displacement(insn, cpu.nextRip(insn)), 'descriptor-table exiting is 1');
}));

// --- control registers -------------------------------------------------------------------------------------------
/** Access types of control-register exits (SDM "Exit Qualification for Control-Register Accesses"). */
const MOV_TO = 0, MOV_FROM = 1, CLTS = 2, LMSW = 3;
function crExit(vmx: Vmx, cpu: Cpu, insn: Instruction, register: number, type: number, why: string): true {
  return exit(vmx, cpu, insn, VmExitReason.CrAccess, register | (type << 4) | (type <= MOV_FROM ? insn.rm << 8 : 0), why);
}

add('MOV to CR', operand(0, 'cr'), 'CR0 and CR4 guest/host masks, CR3-load exiting and targets, CR8-load exiting', always, (vmx, cpu, insn) => {
  if (cpu.get32(S.cpl) !== 0) return false;
  const low = cpu.reg32(insn.rm);
  const high = insn.codeSize === 64 ? cpu.get32(S.gpr + insn.rm * 8 + 4) : 0;
  switch (insn.reg) {
    case 0:
    case 4: {
      const mask = insn.reg === 0 ? Field.Cr0GuestHostMask : Field.Cr4GuestHostMask;
      const shadow = insn.reg === 0 ? Field.Cr0ReadShadow : Field.Cr4ReadShadow;
      const differs = ((low ^ vmx.vmcs.low(shadow)) & vmx.vmcs.low(mask)) | ((high ^ vmx.vmcs.high(shadow)) & vmx.vmcs.high(mask));
      return differs !== 0 && crExit(vmx, cpu, insn, insn.reg, MOV_TO, insn.reg === 0 ? 'a bit of the CR0 guest/host mask would differ from the read shadow' : 'a bit of the CR4 guest/host mask would differ from the read shadow');
    }
    case 3: {
      if (!has(vmx, Primary.Cr3LoadExiting)) return false;
      const count = vmx.vmcs.low(Field.Cr3TargetCount);
      for (let i = 0; i < count; i++) {
        const target = cr3Targets[i]!;
        if (vmx.vmcs.low(target) === low && vmx.vmcs.high(target) === high) return false;
      }
      return crExit(vmx, cpu, insn, 3, MOV_TO, 'CR3-load exiting is 1 and the value is no CR3 target');
    }
    case 8:
      return has(vmx, Primary.Cr8LoadExiting) && crExit(vmx, cpu, insn, 8, MOV_TO, 'CR8-load exiting is 1');
    default:
      return false;
  }
});
const cr3Targets = [Field.Cr3TargetValue0, Field.Cr3TargetValue1, Field.Cr3TargetValue2, Field.Cr3TargetValue3];
add('MOV from CR', operand(1, 'cr'), 'CR3-store exiting, CR8-store exiting', (vmx) => has(vmx, Primary.Cr3StoreExiting) || has(vmx, Primary.Cr8StoreExiting), (vmx, cpu, insn) => {
  if (cpu.get32(S.cpl) !== 0) return false;
  if (insn.reg === 3 && has(vmx, Primary.Cr3StoreExiting)) return crExit(vmx, cpu, insn, 3, MOV_FROM, 'CR3-store exiting is 1');
  return insn.reg === 8 && has(vmx, Primary.Cr8StoreExiting) && crExit(vmx, cpu, insn, 8, MOV_FROM, 'CR8-store exiting is 1');
});
add('CLTS', named('CLTS'), 'CR0 guest/host mask', (vmx) => (vmx.cr0Mask & vmx.cr0Shadow & Cr0.TS) !== 0,
  (vmx, cpu, insn) => (cpu.get32(S.cpl) !== 0 ? false : crExit(vmx, cpu, insn, 0, CLTS, 'CR0.TS is in the guest/host mask and 1 in the read shadow')));
add('LMSW', named('LMSW'), 'CR0 guest/host mask', (vmx) => (vmx.cr0Mask & 0xf) !== 0, (vmx, cpu, insn) => {
  if (cpu.get32(S.cpl) !== 0) return false;
  const linear = insn.memory ? cpu.linearOf(insn, 2, false) : 0;
  const source = insn.memory ? cpu.load(linear, 2) : cpu.reg32(insn.rm) & 0xffff;
  // MP, EM and TS take the source's value; PE can only be set
  const differs = (source ^ vmx.cr0Shadow) & vmx.cr0Mask & 0xe;
  const sets = source & ~vmx.cr0Shadow & vmx.cr0Mask & 1;
  if (differs === 0 && sets === 0) return false;
  vmx.exitLinear = linear;
  return exit(vmx, cpu, insn, VmExitReason.CrAccess, ((LMSW << 4) | (insn.memory ? 0x40 : 0) | (source << 16)) >>> 0, 'a bit of the CR0 guest/host mask would differ from the read shadow');
});
add('MOV DR', (row) => operand(0, 'dr')(row) || operand(1, 'dr')(row), Primary.MovDrExiting.name, (vmx) => has(vmx, Primary.MovDrExiting), (vmx, cpu, insn) => {
  // takes priority even over the privilege check
  if (insn.reg > 7) return false;
  return exit(vmx, cpu, insn, VmExitReason.MovDr, insn.reg | (insn.row.operands[0]!.kind === 'dr' ? 0 : 0x10) | (insn.rm << 8), 'MOV-DR exiting is 1');
});

// --- ports -------------------------------------------------------------------------------------------------------
function bitmapBit(cpu: Cpu, base: number, bit: number): number {
  return (cpu.readPhysical(base + (bit >>> 3), 1) >>> (bit & 7)) & 1;
}
add('IN, OUT, INS, OUTS', named('IN', 'OUT', 'INSB', 'INSv', 'OUTSB', 'OUTSv'), `${Primary.UnconditionalIoExiting.name}, ${Primary.UseIoBitmaps.name}`,
  (vmx) => has(vmx, Primary.UnconditionalIoExiting) || has(vmx, Primary.UseIoBitmaps), (vmx, cpu, insn) => {
    const opcode = insn.row.encoding.opcode;
    const text = (opcode & 0xf0) === 0x60; // INS 6C 6D, OUTS 6E 6F; IN E4 E5 EC ED, OUT E6 E7 EE EF
    const input = (opcode & 2) === 0;
    const size = (opcode & 1) === 0 ? 1 : insn.operandSize === 16 ? 2 : 4;
    const immediate = !text && (opcode & 8) === 0;
    const port = immediate ? insn.immediate & 0xff : cpu.reg32(Gpr.RDX) & 0xffff;
    const repeats = text && insn.rep !== 0;
    if (repeats && (insn.addressSize === 64 ? cpu.getSigned(S.gpr + Gpr.RCX * 8) : insn.addressSize === 32 ? cpu.reg32(Gpr.RCX) : cpu.reg32(Gpr.RCX) & 0xffff) === 0) return false;
    if (!ioPermitted(cpu, port, size)) return false;
    let why = 'unconditional I/O exiting is 1';
    if (has(vmx, Primary.UseIoBitmaps)) {
      let bit = port + size > 0x10000 ? 1 : 0; // an access that wraps exits
      why = bit ? 'the access wraps at port 0xffff' : port < 0x8000 ? 'I/O bitmap A' : 'I/O bitmap B';
      for (let p = port; bit === 0 && p < port + size; p++) bit = p < 0x8000 ? bitmapBit(cpu, vmx.ioBitmapA, p) : bitmapBit(cpu, vmx.ioBitmapB, p & 0x7fff);
      if (bit === 0) return false;
    }
    if (text) {
      const register = input ? Gpr.RDI : Gpr.RSI;
      const offset = insn.addressSize === 64 ? cpu.getSigned(S.gpr + register * 8) : insn.addressSize === 32 ? cpu.reg32(register) : cpu.reg32(register) & 0xffff;
      const segment = input ? SegmentIndex.ES : insn.segment;
      const base = cpu.code64 && segment < SegmentIndex.FS ? 0 : cpu.segmentBase(segment);
      vmx.exitLinear = cpu.code64 ? base + offset : (base + offset) >>> 0;
      if (vmx.capability.profile.stringInformation) vmx.exitInstruction = stringInformation(insn, !input);
    }
    return exit(vmx, cpu, insn, VmExitReason.IoInstruction, ((size - 1) | (input ? 8 : 0) | (text ? 0x10 : 0) | (repeats ? 0x20 : 0) | (immediate ? 0x40 : 0) | (port << 16)) >>> 0, why);
  });

// --- MSRs --------------------------------------------------------------------------------------------------------
function msr(mnemonic: 'RDMSR' | 'WRMSR', reason: number, offset: number): void {
  add(mnemonic, named(mnemonic), Primary.UseMsrBitmaps.name, always, (vmx, cpu, insn) => {
    if (cpu.get32(S.cpl) !== 0) return false;
    if (!has(vmx, Primary.UseMsrBitmaps)) return exit(vmx, cpu, insn, reason, 0, 'use MSR bitmaps is 0');
    const number = cpu.reg32(Gpr.RCX);
    const low = number & 0x1fff;
    if (number === low) return bitmapBit(cpu, vmx.msrBitmaps + offset, low) !== 0 && exit(vmx, cpu, insn, reason, 0, 'MSR bitmap, low range');
    if (number === (low | 0xc0000000) >>> 0) return bitmapBit(cpu, vmx.msrBitmaps + offset + 0x400, low) !== 0 && exit(vmx, cpu, insn, reason, 0, 'MSR bitmap, high range');
    return exit(vmx, cpu, insn, reason, 0, 'the MSR is outside the ranges of the MSR bitmaps');
  });
}
msr('RDMSR', VmExitReason.Rdmsr, 0);
msr('WRMSR', VmExitReason.Wrmsr, 0x800);

/** All rules, in document order. */
export const interceptRules: readonly Intercept[] = table;

/** Small numbers for the combinations of active rules met so far: part of the decode mode key, the same on every CPU. */
const combinations = new Map<string, number>();

/** The rules resolved to the rows of one instruction set. */
export class InterceptTable {
  private readonly byRow: (Intercept | undefined)[] = [];
  private readonly ids: readonly (readonly number[])[];
  private readonly sets = new Map<string, InterceptSet>();
  private primary = -1;
  private secondary = -1;
  private cr0 = -1;
  private last: InterceptSet | null = null;

  constructor(rows: readonly Row[]) {
    this.ids = interceptRules.map((rule) => {
      const found = rows.filter(rule.rows).map((row) => row.id);
      for (const id of found) this.byRow[id] = rule;
      return found;
    });
  }

  /** The intercept set of the controls loaded into `vmx`. */
  select(vmx: Vmx): InterceptSet {
    const cr0 = (vmx.cr0Mask & 0xf) | ((vmx.cr0Shadow & 0xf) << 4);
    if (this.last !== null && this.primary === vmx.primary && this.secondary === vmx.secondary && this.cr0 === cr0) return this.last;
    this.primary = vmx.primary;
    this.secondary = vmx.secondary;
    this.cr0 = cr0;
    const key = interceptRules.map((rule) => (rule.active(vmx) ? '1' : '0')).join('');
    let set = this.sets.get(key);
    if (!set) {
      let id = combinations.get(key);
      if (id === undefined) combinations.set(key, (id = combinations.size + 1));
      const rows = new Set<number>();
      this.ids.forEach((found, index) => { if (key[index] === '1') for (const row of found) rows.add(row); });
      set = { id, rows };
      this.sets.set(key, set);
    }
    this.last = set;
    return set;
  }

  /** Asked for a row of the set that is about to execute. */
  take(vmx: Vmx, cpu: Cpu, insn: Instruction): boolean {
    const rule = this.byRow[insn.row.id];
    if (rule === undefined) throw new Error(`row '${insn.row.syntax}' is in the intercept set, but no rule of vmx/intercept.ts names it`);
    return rule.take(vmx, cpu, insn);
  }
}
