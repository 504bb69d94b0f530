import { Flow, type Cpu } from '../cpu/cpu.ts';
import { gp, ud } from '../cpu/fault.ts';
import type { Instruction } from '../cpu/instruction.ts';
import { insn, system, type Row } from '../cpu/row.ts';
import { Cr0, Cr4, Efer, Flag, S, STATUS_FLAGS } from '../cpu/state.ts';
import { isCanonicalHigh } from '../cpu/descriptor.ts';
import { Secondary } from '../vmcs/control.ts';
import { enter, guestRunsOn } from './entry.ts';
import { featureControlAllows, NO_POINTER, VmxResult, vmxOf, type Vmx } from './operation.ts';
import { VmInstructionError } from './reason.ts';

const TWO32 = 4294967296;

/** VMsucceed, VMfailInvalid or VMfailValid in the flags (SDM "Conventions"). */
function conclude(cpu: Cpu, result: number): void {
  cpu.setFlagBits(STATUS_FLAGS, result === VmxResult.Success ? 0 : result === VmxResult.FailInvalid ? Flag.CF : Flag.ZF);
}

const wrongMode = (cpu: Cpu): boolean => !(cpu.get32(S.cr0) & Cr0.PE) || (cpu.get32(S.flagsRest) & Flag.VM) !== 0 || ((cpu.get32(S.efer) & Efer.LMA) !== 0 && !cpu.code64);

/** Faults common to the instructions of root operation. Exits in non-root operation come before (vmx/intercept.ts). */
function root(cpu: Cpu): Vmx {
  const vmx = vmxOf(cpu);
  if (!vmx.on || wrongMode(cpu)) throw ud();
  if (cpu.get32(S.cpl) !== 0) throw gp();
  return vmx;
}

/** The 64-bit physical address in memory; NaN-free: an address beyond 2^53 stays too large to be valid. */
function pointer(cpu: Cpu, instruction: Instruction): number {
  const linear = cpu.linearOf(instruction, 8, false);
  cpu.probeRead(linear, 8);
  const low = cpu.load(linear, 4);
  return cpu.load(cpu.wrapLinear(linear + 4), 4) * TWO32 + low;
}

function vmxon(cpu: Cpu, instruction: Instruction): Flow | void {
  const vmx = vmxOf(cpu);
  if (wrongMode(cpu) || !(cpu.get32(S.cr4) & Cr4.VMXE)) throw ud();
  const { cr0Fixed0, cr4Fixed0, cr4Fixed1 } = vmx.capability.profile;
  if (cpu.get32(S.cpl) !== 0) throw gp();
  if (!vmx.on && ((~cpu.get32(S.cr0) & cr0Fixed0) !== 0 || (~cpu.get32(S.cr4) & cr4Fixed0) !== 0 || (cpu.get32(S.cr4) & ~cr4Fixed1) !== 0 || !featureControlAllows(cpu))) throw gp();
  conclude(cpu, vmx.enable(cpu, vmx.on ? 0 : pointer(cpu, instruction)));
}

function vmxoff(cpu: Cpu): void {
  conclude(cpu, root(cpu).disable());
}

function vmclear(cpu: Cpu, instruction: Instruction): void {
  const vmx = root(cpu);
  conclude(cpu, vmx.clear(cpu, pointer(cpu, instruction)));
}

function vmptrld(cpu: Cpu, instruction: Instruction): void {
  const vmx = root(cpu);
  conclude(cpu, vmx.load(cpu, pointer(cpu, instruction)));
}

function vmptrst(cpu: Cpu, instruction: Instruction): void {
  const vmx = root(cpu);
  const linear = cpu.linearOf(instruction, 8, true);
  cpu.probeWrite(linear, 8);
  const none = vmx.current === NO_POINTER;
  cpu.store(linear, 4, none ? 0xffffffff : vmx.current >>> 0);
  cpu.store(cpu.wrapLinear(linear + 4), 4, none ? 0xffffffff : Math.floor(vmx.current / TWO32));
  conclude(cpu, VmxResult.Success);
}

/** Low word of the register that holds a field encoding, or -1 where its upper half is not 0. */
function encoding(cpu: Cpu, instruction: Instruction): number {
  if (instruction.codeSize === 64 && cpu.get32(S.gpr + instruction.reg * 8 + 4) !== 0) return -1;
  return cpu.reg32(instruction.reg);
}

function vmread(cpu: Cpu, instruction: Instruction): void {
  const vmx = root(cpu);
  const wide = instruction.codeSize === 64;
  const field = encoding(cpu, instruction);
  const result = field < 0 ? vmx.fail(VmInstructionError.UnsupportedComponent) : vmx.read(field);
  if (result === VmxResult.Success) {
    if (instruction.memory) {
      const linear = cpu.linearOf(instruction, wide ? 8 : 4, true);
      if (wide) {
        cpu.probeWrite(linear, 8);
        cpu.store(linear, 4, vmx.low);
        cpu.store(cpu.wrapLinear(linear + 4), 4, vmx.high);
      } else cpu.store(linear, 4, vmx.low);
    } else {
      cpu.setReg32(instruction.rm, vmx.low);
      if (wide) cpu.set32(S.gpr + instruction.rm * 8 + 4, vmx.high);
    }
  }
  conclude(cpu, result);
}

function vmwrite(cpu: Cpu, instruction: Instruction): void {
  const vmx = root(cpu);
  const wide = instruction.codeSize === 64;
  let low: number;
  let high = 0;
  if (instruction.memory) {
    const linear = cpu.linearOf(instruction, wide ? 8 : 4, false);
    if (wide) cpu.probeRead(linear, 8);
    low = cpu.load(linear, 4);
    if (wide) high = cpu.load(cpu.wrapLinear(linear + 4), 4);
  } else {
    low = cpu.reg32(instruction.rm);
    if (wide) high = cpu.get32(S.gpr + instruction.rm * 8 + 4);
  }
  const field = encoding(cpu, instruction);
  conclude(cpu, field < 0 ? vmx.fail(VmInstructionError.UnsupportedComponent) : vmx.write(field, low, high));
}

const entry = (launch: boolean) => (cpu: Cpu): Flow | void => {
  const vmx = root(cpu);
  const result = enter(vmx, cpu, launch, 1);
  if (result === VmxResult.Success) return vmx.nonRoot && guestRunsOn(vmx, cpu) ? Flow.Jump : Flow.Leave;
  conclude(cpu, result);
};

/** VMCALL in root operation would activate the dual-monitor treatment of SMIs, which no profile has. */
function vmcall(cpu: Cpu): void {
  const vmx = vmxOf(cpu);
  if (!vmx.on || (cpu.get32(S.flagsRest) & Flag.VM) !== 0 || ((cpu.get32(S.efer) & Efer.LMA) !== 0 && !cpu.code64)) throw ud();
  if (cpu.get32(S.cpl) !== 0) throw gp();
  conclude(cpu, vmx.fail(VmInstructionError.VmcallInRoot));
}

const descriptor = new Uint32Array(4);
/** The type register and the 128-bit descriptor of INVEPT and INVVPID; the type is -1 where it cannot be valid. */
function invalidation(cpu: Cpu, instruction: Instruction): number {
  const linear = cpu.linearOf(instruction, 16, false);
  cpu.probeRead(linear, 16);
  for (let i = 0; i < 4; i++) descriptor[i] = cpu.load(cpu.wrapLinear(linear + i * 4), 4);
  if (instruction.codeSize === 64 && cpu.get32(S.gpr + instruction.reg * 8 + 4) !== 0) return -1;
  return cpu.reg32(instruction.reg) | 0;
}

function invept(cpu: Cpu, instruction: Instruction): Flow | void {
  const vmx = vmxOf(cpu);
  const ept = vmx.capability.profile.ept;
  if (ept === null || !vmx.capability.supports(Secondary.EnableEpt)) throw ud();
  root(cpu);
  const type = invalidation(cpu, instruction);
  const invalid = type === 1 ? !ept.inveptSingle || !validEptPointer(vmx, descriptor[0]!, descriptor[1]!) : type !== 2 || !ept.inveptAll;
  if (invalid) return conclude(cpu, vmx.fail(VmInstructionError.InvalidInvalidation));
  cpu.mmu.invalidateEpt(type === 1 ? (descriptor[1]! & 0xfffff) * 0x100000 + (descriptor[0]! >>> 12) : -1);
  conclude(cpu, VmxResult.Success);
}

function validEptPointer(vmx: Vmx, low: number, high: number): boolean {
  const type = low & 7;
  return (type === 0 || type === 6) && ((low >>> 3) & 7) === 3 && ((low & 0x40) === 0 || vmx.capability.profile.ept!.accessedDirty) && (low & 0xf80) === 0 && high >>> (vmx.context.physicalBits - 32) === 0;
}

function invvpid(cpu: Cpu, instruction: Instruction): void {
  const vmx = vmxOf(cpu);
  const types = vmx.capability.profile.vpid;
  if (types === null) throw ud();
  root(cpu);
  const type = invalidation(cpu, instruction);
  const supported = type === 0 ? types.individualAddress : type === 1 ? types.singleContext : type === 2 ? types.allContexts : type === 3 && types.singleRetainingGlobals;
  const vpid = descriptor[0]! & 0xffff;
  const reserved = descriptor[0]! >>> 16 !== 0 || descriptor[1]! !== 0;
  if (!supported || reserved || (type !== 2 && vpid === 0) || (type === 0 && !isCanonicalHigh(descriptor[3]!))) return conclude(cpu, vmx.fail(VmInstructionError.InvalidInvalidation));
  if (type === 0) cpu.mmu.invalidateVpid(vpid, (descriptor[3]! | 0) * TWO32 + descriptor[2]!);
  else cpu.mmu.invalidateVpid(type === 2 ? -1 : vpid, undefined, type === 3);
  conclude(cpu, VmxResult.Success);
}

const vmx = (cost: string) => ({ feature: 'VMX', cost });

/** The VMX instructions (SDM "VMX Instruction Reference"). */
export const vmxRows: readonly Omit<Row, 'id'>[] = [
  insn('VMXON m64', 'F3 0F C7 /6', system(vmxon), vmx('vmxon')),
  insn('VMXOFF', 'NP 0F 01 C4', system(vmxoff), vmx('vmxon')),
  insn('VMCLEAR m64', '66 0F C7 /6', system(vmclear), vmx('vmclear')),
  insn('VMPTRLD m64', 'NP 0F C7 /6', system(vmptrld), vmx('vmptrld')),
  insn('VMPTRST m64', 'NP 0F C7 /7', system(vmptrst), vmx('vmptrld')),
  insn('VMREAD r/my, ry', 'NP 0F 78 /r', system(vmread), { ...vmx('vmread'), size: 'f64' }),
  insn('VMWRITE ry, r/my', 'NP 0F 79 /r', system(vmwrite), { ...vmx('vmwrite'), size: 'f64' }),
  insn('VMLAUNCH', 'NP 0F 01 C2', system(entry(true)), vmx('vmentry')),
  insn('VMRESUME', 'NP 0F 01 C3', system(entry(false)), vmx('vmentry')),
  insn('VMCALL', 'NP 0F 01 C1', system(vmcall), vmx('vmcall')),
  insn('INVEPT ry, m128', '66 0F 38 80 /r', system(invept), { ...vmx('invept'), size: 'f64' }),
  insn('INVVPID ry, m128', '66 0F 38 81 /r', system(invvpid), { ...vmx('invvpid'), size: 'f64' }),
];
