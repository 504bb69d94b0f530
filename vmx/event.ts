import type { ControlRegisterView, Cpu } from '../cpu/cpu.ts';
import { EventType, type CpuEvent } from '../cpu/events.ts';
import { Vector } from '../cpu/fault.ts';
import type { Hooks } from '../cpu/hooks.ts';
import { Cr0, Flag, S } from '../cpu/state.ts';
import { Exit, PinBased, Primary, Secondary } from '../vmcs/control.ts';
import { Field } from '../vmcs/field.ts';
import { fixedBits } from '../vmcs/check.ts';
import { interruptionInformation, vmExit } from './exit.ts';
import { vmxOf, type Vmx } from './operation.ts';
import { VmExitReason } from './reason.ts';

const exceptionWhy = Array.from({ length: 32 }, (_, vector) => `exception bitmap bit ${vector}`);

/** The exception bitmap, for page faults combined with the error-code mask and match (SDM "Exception Bitmap"). */
function exceptionExits(vmx: Vmx, event: CpuEvent): boolean {
  const bit = (vmx.exceptionBitmap >>> event.vector) & 1;
  if (event.vector !== Vector.PageFault || event.type !== EventType.HardwareException) return bit === 1;
  const match = (event.error & vmx.pageFaultMask) >>> 0 === vmx.pageFaultMatch;
  return match === (bit === 1);
}

/** Exceptions whose saved RFLAGS image has RF 1 (SDM "Saving RIP, RSP, RFLAGS, and SSP"). */
function isFaultClass(event: CpuEvent): boolean {
  return event.type === EventType.HardwareException && event.vector !== Vector.Debug && event.vector !== Vector.DoubleFault && event.vector !== Vector.MachineCheck;
}

/** The hooks of VMX; they do nothing in root operation. One object serves all CPUs. */
export const vmxHooks: Hooks = {
  instruction(cpu, insn) {
    const vmx = vmxOf(cpu);
    return vmx.intercepts.take(vmx, cpu, insn);
  },

  event(cpu, event) {
    const vmx = vmxOf(cpu);
    if (!vmx.nonRoot) return false;
    if (vmx.injecting) {
      vmx.injecting = false;
      return false;
    }
    const { type, vector } = event;
    if (type === EventType.Nmi) {
      if ((vmx.pin & PinBased.NmiExiting.mask) === 0) return false;
      nmiExit(vmx, cpu);
      return true;
    }
    if (type === EventType.ExternalInterrupt || type === EventType.SoftwareInterrupt || !exceptionExits(vmx, event)) return false;
    const hardware = type === EventType.HardwareException;
    vmx.exitInterruption = interruptionInformation(type, vector, event.error >= 0);
    vmx.exitInterruptionError = event.error >= 0 ? event.error : 0;
    if (!hardware) vmx.exitLength = event.length;
    vmx.exitResume = isFaultClass(event);
    vmExit(vmx, cpu, VmExitReason.ExceptionOrNmi, hardware && (vector === Vector.PageFault || vector === Vector.Debug) ? event.data : 0, vector === Vector.PageFault && vmx.pageFaultMask !== 0 ? 'exception bitmap bit 14 with the page-fault error-code mask and match' : exceptionWhy[vector]!);
    return true;
  },

  tripleFault(cpu) {
    const vmx = vmxOf(cpu);
    if (!vmx.nonRoot) return false;
    vmExit(vmx, cpu, VmExitReason.TripleFault, 0, 'triple faults exit unconditionally');
    return true;
  },

  taskSwitch(cpu, selector, source, length) {
    const vmx = vmxOf(cpu);
    if (!vmx.nonRoot) return false;
    vmx.exitLength = length;
    vmExit(vmx, cpu, VmExitReason.TaskSwitch, ((source << 30) | selector) >>> 0, 'task switches exit unconditionally');
    return true;
  },

  boundary(cpu) {
    const vmx = vmxOf(cpu);
    if (!vmx.nonRoot) return false;
    if (pendingExit(cpu)) return true;
    if (cpu.initPending && init(cpu) === 'exit') {
      cpu.initPending = false;
      vmExit(vmx, cpu, VmExitReason.InitSignal, 0, 'INIT signals exit unconditionally');
      return true;
    }
    if (cpu.nmiPending && nmi(cpu) === 'exit') {
      cpu.nmiPending = false;
      nmiExit(vmx, cpu);
      return true;
    }
    return interruptWindow(cpu, vmx);
  },

  deadline(cpu) {
    const vmx = vmxOf(cpu);
    if (!vmx.nonRoot) return Infinity;
    // a window may open after any instruction
    if ((vmx.primary & WINDOWS) !== 0) return cpu.cycles + 1;
    return timerDeadline(vmx);
  },

  externalInterrupt(cpu) {
    const how = externalInterrupt(cpu);
    if (how !== 'exit') return how;
    return takeExternalInterrupt(cpu) ? 'exit' : 'blocked';
  },

  abort(cpu) {
    const vmx = vmxOf(cpu);
    const { ept } = vmx;
    if (ept === null || ept.stopReason === 0) throw new Error('hooks.abort was called but the EPT has no stopped translation: only a translate() that gave -1 may lead here');
    const reason = ept.stopReason;
    ept.stopReason = 0;
    vmx.exitGuestPhysical = ept.stopGuestPhysical;
    vmx.exitLinear = ept.stopLinear;
    // during event delivery the saved image is the one the delivery would have pushed
    vmx.exitResume = cpu.delivering === null || isFaultClass(cpu.delivering);
    vmExit(vmx, cpu, reason, ept.stopQualification, reason === VmExitReason.EptViolation ? 'the EPT does not allow the access' : 'an EPT entry holds an unsupported value');
  },
};

// --- control registers seen through masks and shadows ---------------------------------------------------------------

/** CR0, CR4 and CR8 in VMX operation. One object per CPU. */
export function controlRegisterView(vmx: Vmx): ControlRegisterView {
  const profile = vmx.capability.profile;
  return {
    check(_cpu, register, value) {
      if (!vmx.on) return true;
      if (register === 4) return fixedBits(value, 0, profile.cr4Fixed0, profile.cr4Fixed1);
      const relaxed = vmx.nonRoot && (vmx.secondary & Secondary.UnrestrictedGuest.mask) !== 0;
      return fixedBits(value, 0, relaxed ? profile.cr0Fixed0 & ~(Cr0.PE | Cr0.PG) : profile.cr0Fixed0, 0xffffffff);
    },
    read(register, value) {
      if (!vmx.nonRoot) return value;
      const mask = register === 0 ? vmx.cr0Mask : vmx.cr4Mask;
      const shadow = register === 0 ? vmx.cr0Shadow : vmx.cr4Shadow;
      return ((value & ~mask) | (shadow & mask)) >>> 0;
    },
    readHigh(register) {
      if (!vmx.nonRoot) return 0;
      return register === 0 ? vmx.vmcs.high(Field.Cr0ReadShadow) & vmx.vmcs.high(Field.Cr0GuestHostMask) : vmx.vmcs.high(Field.Cr4ReadShadow) & vmx.vmcs.high(Field.Cr4GuestHostMask);
    },
    write(cpu, register, value) {
      if (!vmx.nonRoot) return value;
      const mask = register === 0 ? vmx.cr0Mask : vmx.cr4Mask;
      return ((value & ~mask) | (cpu.get32(register === 0 ? S.cr0 : S.cr4) & mask)) >>> 0;
    },
    readTaskPriority(cpu) {
      if (!vmx.nonRoot || (vmx.primary & Primary.UseTprShadow.mask) === 0) return -1;
      return cpu.readPhysical(vmx.virtualApic + 0x80, 1) >>> 4;
    },
    writeTaskPriority(cpu, value) {
      if (!vmx.nonRoot || (vmx.primary & Primary.UseTprShadow.mask) === 0) return false;
      cpu.writePhysical(vmx.virtualApic + 0x80, 4, value << 4);
      if (value < (vmx.vmcs.low(Field.TprThreshold) & 15)) vmx.tprBelow = true;
      return true;
    },
  };
}

// --- what the run loop asks at instruction boundaries ---------------------------------------------------------------

/** The VMX state of a CPU in non-root operation, or null. */
function guestOf(cpu: Cpu): Vmx | null {
  const vmx = cpu.extension as Vmx | null;
  return vmx !== null && vmx.nonRoot ? vmx : null;
}

/** Cycles (since power-on) at which the preemption timer expires; Infinity when none runs. */
function timerDeadline(vmx: Vmx): number {
  return vmx.timerTick * 2 ** vmx.capability.profile.preemptionRate;
}

const WINDOWS = Primary.InterruptWindowExiting.mask | Primary.NmiWindowExiting.mask;

function nmiExit(vmx: Vmx, cpu: Cpu): void {
  vmx.exitInterruption = interruptionInformation(EventType.Nmi, Vector.Nmi, false);
  vmExit(vmx, cpu, VmExitReason.ExceptionOrNmi, 0, 'NMI exiting is 1');
}

/**
 * Exits that stem from no event and come before NMIs: TPR below threshold, preemption timer, NMI window (SDM
 * "Priority Among Concurrent Events"). True: a VM exit happened.
 */
export function pendingExit(cpu: Cpu): boolean {
  const vmx = guestOf(cpu);
  if (vmx === null) return false;
  if (vmx.tprBelow) {
    vmExit(vmx, cpu, VmExitReason.TprBelowThreshold, 0, 'the virtual task priority is below the TPR threshold');
    return true;
  }
  const activity = cpu.get32(S.activity);
  if (vmx.timerTick !== Infinity && activity < 2 && cpu.cycles >= timerDeadline(vmx)) {
    vmExit(vmx, cpu, VmExitReason.PreemptionTimerExpired, 0, 'the VMX-preemption timer counted down to 0');
    return true;
  }
  if ((vmx.primary & Primary.NmiWindowExiting.mask) !== 0 && activity < 3 && cpu.shadowNow === 0 && cpu.get32(S.nmiBlocked) === 0) {
    vmExit(vmx, cpu, VmExitReason.NmiWindow, 0, 'NMI-window exiting is 1 and virtual NMIs are not blocked');
    return true;
  }
  return false;
}

/** The interrupt window: after NMIs, before external interrupts. A deliverable NMI goes first. */
function interruptWindow(cpu: Cpu, vmx: Vmx): boolean {
  if ((vmx.primary & Primary.InterruptWindowExiting.mask) === 0 || cpu.get32(S.activity) >= 2 || cpu.shadowNow !== 0 || (cpu.get32(S.flagsRest) & Flag.IF) === 0) return false;
  if (cpu.nmiPending && nmi(cpu) === 'deliver') return false;
  vmExit(vmx, cpu, VmExitReason.InterruptWindow, 0, 'interrupt-window exiting is 1, RFLAGS.IF is 1 and nothing blocks interrupts');
  return true;
}

/** What becomes of a pending event at this boundary. */
export type Disposition = 'exit' | 'deliver' | 'blocked';

/** A requested external interrupt (cpu.interruptLine); {@link takeExternalInterrupt} carries out an 'exit'. */
export function externalInterrupt(cpu: Cpu): Disposition {
  const vmx = guestOf(cpu);
  const open = cpu.shadowNow === 0 && cpu.get32(S.activity) < 2;
  if (vmx !== null && (vmx.pin & PinBased.ExternalInterruptExiting.mask) !== 0) return open ? 'exit' : 'blocked';
  return open && (cpu.get32(S.flagsRest) & Flag.IF) !== 0 ? 'deliver' : 'blocked';
}

/** VM exit for an external interrupt, acknowledged where "acknowledge interrupt on exit" is 1. False: the request was spurious, and nothing happened. */
export function takeExternalInterrupt(cpu: Cpu): boolean {
  const vmx = vmxOf(cpu);
  if ((vmx.exitControls & Exit.AcknowledgeInterrupt.mask) !== 0) {
    const vector = cpu.bus.acknowledgeInterrupt(cpu.index);
    if (vector < 0) return false;
    vmx.exitInterruption = interruptionInformation(EventType.ExternalInterrupt, vector, false);
  }
  vmExit(vmx, cpu, VmExitReason.ExternalInterrupt, 0, 'external-interrupt exiting is 1');
  return true;
}

/** A pending NMI (cpu.nmiPending). */
export function nmi(cpu: Cpu): Disposition {
  const vmx = guestOf(cpu);
  if ((cpu.shadowNow & 2) !== 0 || cpu.get32(S.activity) > 2) return 'blocked';
  if (vmx !== null && (vmx.pin & PinBased.NmiExiting.mask) !== 0) {
    // with virtual NMIs the blocking bit is the guest's own and does not hold physical NMIs back
    return (vmx.pin & PinBased.VirtualNmis.mask) !== 0 || cpu.get32(S.nmiBlocked) === 0 ? 'exit' : 'blocked';
  }
  return cpu.get32(S.nmiBlocked) === 0 ? 'deliver' : 'blocked';
}

/** A pending INIT signal (cpu.initPending): blocked in root operation, a VM exit in non-root operation. */
export function init(cpu: Cpu): Disposition {
  const vmx = cpu.extension as Vmx | null;
  if (vmx === null || !vmx.on) return 'deliver';
  return vmx.nonRoot && cpu.get32(S.activity) !== 3 ? 'exit' : 'blocked';
}

/** The CPU is in VMX non-root operation: a guest of a hypervisor runs. */
export function inGuest(cpu: Cpu): boolean { return guestOf(cpu) !== null; }
