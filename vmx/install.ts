import { cr4Allowed } from '../cpu/control.ts';
import type { Cpu } from '../cpu/cpu.ts';
import { msrValue, registerMsr } from '../cpu/msr.ts';
import type { Row } from '../cpu/row.ts';
import { Efer } from '../cpu/state.ts';
import { Capability, type VmxProfile } from '../vmcs/capability.ts';
import { controlRegisterView, vmxHooks } from './event.ts';
import { InterceptTable } from './intercept.ts';
import { Vmx } from './operation.ts';

/** IA32_EFER bits of this CPU. */
function eferBits(cpu: Cpu): number {
  return (cpu.features.has('SYSCALL') ? Efer.SCE : 0) | (cpu.features.has('LM') ? Efer.LME | Efer.LMA : 0) | (cpu.features.has('NX') ? Efer.NXE : 0);
}

/**
 * Gives a CPU VMX: hooks, control-register rules and capability MSRs. The CPU's profile must have the feature 'VMX'.
 * @param rows all rows of the instruction set in use, VMX rows included (Isa.rows)
 */
export function installVmx(cpu: Cpu, profile: VmxProfile, rows: readonly Row[]): Vmx {
  if (!cpu.features.has('VMX')) throw new Error(`CPU profile '${cpu.profile.name}' lacks the feature 'VMX': add it, or do not install the VMX profile '${profile.name}'`);
  const capability = new Capability({ ...profile, cr4Fixed1: profile.cr4Fixed1 & cr4Allowed(cpu) });
  const vmx = new Vmx(cpu, capability, new InterceptTable(rows), eferBits(cpu));
  cpu.extension = vmx;
  cpu.hooks = vmxHooks;
  cpu.controlRegisters = controlRegisterView(vmx);
  for (const number of capability.msrNumbers()) {
    registerMsr(cpu, {
      number, name: `IA32_VMX capability ${number.toString(16)}`,
      read: () => {
        const [low, high] = capability.msr(number)!;
        msrValue.low = low;
        msrValue.high = high;
      },
    });
  }
  return vmx;
}
