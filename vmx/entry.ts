import type { Cpu } from '../cpu/cpu.ts';
import { EventType, type CpuEvent } from '../cpu/events.ts';
import { Vector } from '../cpu/fault.ts';
import { deliverEvent } from '../cpu/interrupt.ts';
import { Access, Cr0, Cr4, Efer, Flag, S, Segment, SEGMENT_SIZE, SegmentIndex } from '../cpu/state.ts';
import { reservedHigh } from '../cpu/control.ts';
import { runChecks, type Check } from '../vmcs/check.ts';
import { controlChecks } from '../vmcs/check-control.ts';
import { guestChecks } from '../vmcs/check-guest.ts';
import { hostChecks } from '../vmcs/check-host.ts';
import { Entry, PinBased, Primary, Secondary } from '../vmcs/control.ts';
import { Field } from '../vmcs/field.ts';
import { LaunchState } from '../vmcs/storage.ts';
import { DR6, DR7, failEntry } from './exit.ts';
import { loadMsrArea } from './msr-area.ts';
import { address, NO_POINTER, VmxResult, type Vmx } from './operation.ts';
import { VmExitReason, VmInstructionError } from './reason.ts';
import { CR0_KEPT, loadGuestRegisters, loadPair, pdpteFields } from './transfer.ts';

const LME_LMA = Efer.LME | Efer.LMA;
const SS_RIGHTS = S.segment + SegmentIndex.SS * SEGMENT_SIZE + Segment.attributes;
/** Pending debug exceptions: an enabled breakpoint was met; single step. */
const PENDING_BREAKPOINT = 0x1000;
const PENDING_STEP = 0x4000;

/**
 * VMLAUNCH or VMRESUME (SDM "VM Entries"), after the fault checks of the row. Returns VmxResult.Success when control
 * has left the caller: the guest runs, or has already exited again, or the entry failed with an exit (33, 34);
 * otherwise the result of the failed instruction.
 * @param retires 1 when called from an instruction that has yet to retire (it delays the interrupt shadow), 0 from a monitor
 */
export function enter(vmx: Vmx, cpu: Cpu, launch: boolean, retires: 0 | 1): number {
  if (vmx.current === NO_POINTER) return VmxResult.FailInvalid;
  const v = vmx.vmcs;
  if ((cpu.shadowNow & 2) !== 0) return vmx.fail(VmInstructionError.BlockedByMovSs);
  const launched = v.launchState !== LaunchState.Clear;
  if (launch && launched) return vmx.fail(VmInstructionError.VmlaunchNonClear);
  if (!launch && !launched) return vmx.fail(VmInstructionError.VmresumeNonLaunched);
  const hostLongMode = (cpu.get32(S.efer) & Efer.LMA) !== 0;
  const validity = vmx.currentValidity(hostLongMode);
  // this check reads memory, which changes without VMWRITE
  if (v.low(Field.TprThreshold) !== 0) validity.control.written(Field.TprThreshold.number);
  if (validity.control.first(vmx.context) >= 0) {
    report(vmx, cpu, `VMfail ${VmInstructionError.InvalidControlFields}`, controlChecks, hostChecks);
    return vmx.fail(VmInstructionError.InvalidControlFields);
  }
  if (validity.host.first(vmx.context) >= 0) {
    report(vmx, cpu, `VMfail ${VmInstructionError.InvalidHostState}`, hostChecks);
    return vmx.fail(VmInstructionError.InvalidHostState);
  }
  vmx.loadControls();
  vmx.rootTscLow = cpu.get32(S.tscOffset);
  vmx.rootTscHigh = cpu.get32(S.tscOffset + 4);
  const failing = validity.guest.first(vmx.context);
  if (failing >= 0) {
    report(vmx, cpu, `exit ${VmExitReason.EntryFailureGuestState}`, guestChecks);
    failEntry(vmx, cpu, VmExitReason.EntryFailureGuestState, guestChecks[failing]!.qualification);
    return VmxResult.Success;
  }
  const paeFailure = loadGuest(vmx, cpu);
  if (paeFailure) {
    cpu.observer?.vmEntry?.({ rip: v.value(Field.GuestRip), outcome: `exit ${VmExitReason.EntryFailureGuestState}`, failing: ['guest.pdpte-memory'] });
    failEntry(vmx, cpu, VmExitReason.EntryFailureGuestState, 2);
    return VmxResult.Success;
  }
  const count = v.low(Field.EntryMsrLoadCount);
  if (count !== 0) {
    const bad = loadMsrArea(cpu, address(v, Field.EntryMsrLoadAddress), count);
    if (bad !== 0) {
      cpu.observer?.vmEntry?.({ rip: v.value(Field.GuestRip), outcome: `exit ${VmExitReason.EntryFailureMsrLoading}`, failing: [`entry.msr-load.${bad}`] });
      failEntry(vmx, cpu, VmExitReason.EntryFailureMsrLoading, bad);
      return VmxResult.Success;
    }
  }
  if (launch) v.launchState = LaunchState.Launched;
  vmx.nonRoot = true;
  vmx.entries++;
  vmx.installGuest(cpu);
  if ((vmx.primary & Primary.UseTscOffsetting.mask) !== 0) {
    const low = vmx.rootTscLow + v.low(Field.TscOffset);
    cpu.set32(S.tscOffset, low >>> 0);
    cpu.set32(S.tscOffset + 4, (vmx.rootTscHigh + v.high(Field.TscOffset) + (low > 0xffffffff ? 1 : 0)) >>> 0);
  }
  // without VPIDs the transition drops all linear and combined mappings of VPID 0
  if ((vmx.secondary & Secondary.EnableVpid.mask) === 0) cpu.mmu.invalidateVpid(0);
  cpu.mmu.updateContext();
  // non-register state
  cpu.set32(S.activity, v.low(Field.GuestActivityState));
  const blocking = v.low(Field.GuestInterruptibilityState);
  cpu.set32(S.blockInterrupts, blocking & 3);
  if ((blocking & 3) !== 0) cpu.setFloat(S.shadowAt, cpu.retired + retires);
  cpu.set32(S.nmiBlocked, (blocking >>> 3) & 1);
  if ((vmx.pin & PinBased.ActivatePreemptionTimer.mask) !== 0) {
    vmx.timerTick = Math.floor(cpu.cycles / 2 ** vmx.capability.profile.preemptionRate) + v.low(Field.PreemptionTimerValue);
  }
  vmx.tprBelow = false;
  if (cpu.observer !== null && cpu.observer.vmEntry !== undefined) cpu.observer.vmEntry({ rip: v.value(Field.GuestRip), outcome: 'ok', failing: [] });
  const event = v.low(Field.EntryInterruptionInformation);
  if (event >>> 31 !== 0) inject(vmx, cpu, event);
  else deliverPendingDebug(vmx, cpu, blocking);
  return VmxResult.Success;
}

/** All failing checks of the lists, for the observer: first those that decide, then the others that fail as well. */
function report(vmx: Vmx, cpu: Cpu, outcome: string, ...lists: (readonly Check[])[]): void {
  if (!cpu.observer?.vmEntry) return;
  const failing = lists.flatMap((list) => runChecks(list, vmx.context)).map((failure) => failure.check.id);
  cpu.observer.vmEntry({ rip: vmx.vmcs.value(Field.GuestRip), outcome, failing });
}

/** SDM "Loading Guest State". True when PDPTEs in memory are invalid. */
function loadGuest(vmx: Vmx, cpu: Cpu): boolean {
  const v = vmx.vmcs;
  const cr0 = (v.low(Field.GuestCr0) & ~CR0_KEPT) | (cpu.get32(S.cr0) & CR0_KEPT);
  const ept = (vmx.secondary & Secondary.EnableEpt.mask) !== 0;
  const long = (vmx.entryControls & Entry.Ia32eModeGuest.mask) !== 0;
  const cr4 = v.low(Field.GuestCr4);
  if ((cr0 & Cr0.PG) !== 0 && (cr4 & Cr4.PAE) !== 0 && !long) {
    const table = (v.low(Field.GuestCr3) & 0xffffffe0) >>> 0;
    const reserved = reservedHigh(cpu);
    for (let i = 0; i < 4; i++) {
      if (ept) loadPair(cpu, v, pdpteFields[i]!, S.pdpte + i * 8);
      else {
        const low = cpu.readPhysical(table + i * 8, 4);
        const high = cpu.readPhysical(table + i * 8 + 4, 4);
        if ((low & 1) !== 0 && ((low & 0x1e6) !== 0 || (high & reserved) !== 0)) return true;
        cpu.set32(S.pdpte + i * 8, low);
        cpu.set32(S.pdpte + i * 8 + 4, high);
      }
    }
  }
  loadGuestRegisters(cpu, v);
  cpu.set32(S.cr0, cr0);
  if ((vmx.entryControls & Entry.LoadDebugControls.mask) !== 0) {
    cpu.set32(DR7, (v.low(Field.GuestDr7) & 0xffff2fff) | 0x400);
    cpu.set32(DR7 + 4, 0);
    loadPair(cpu, v, Field.GuestIa32Debugctl, S.debugctl);
  }
  if ((vmx.entryControls & Entry.LoadPat.mask) !== 0) loadPair(cpu, v, Field.GuestIa32Pat, S.pat);
  if ((vmx.entryControls & Entry.LoadEfer.mask) !== 0) loadPair(cpu, v, Field.GuestIa32Efer, S.efer);
  else {
    // LMA follows the control; so does LME while paging is on
    const bits = (cr0 & Cr0.PG) !== 0 ? LME_LMA : Efer.LMA;
    cpu.set32(S.efer, long ? cpu.get32(S.efer) | bits : cpu.get32(S.efer) & ~bits);
  }
  cpu.flags = v.low(Field.GuestRflags);
  cpu.set32(S.cpl, (cpu.get32(SS_RIGHTS) & Access.Dpl) >> Access.DplShift);
  return false;
}

/** SDM "Event Injection": delivery through the guest's IDT; what it writes to CR2 and the debug registers is the hypervisor's business. */
function inject(vmx: Vmx, cpu: Cpu, information: number): void {
  const v = vmx.vmcs;
  const type = ((information >>> 8) & 7) as EventType;
  const vector = information & 0xff;
  const debug = type === EventType.HardwareException && vector === Vector.Debug;
  const dr7 = cpu.get32(DR7);
  const debugctl = cpu.get32(S.debugctl);
  const event: CpuEvent = {
    type, vector,
    error: (information & 0x800) !== 0 ? v.low(Field.EntryExceptionErrorCode) : -1,
    data: debug ? cpu.get32(DR6) & 0xe00f : cpu.getSigned(S.cr2),
    length: type >= EventType.SoftwareInterrupt ? v.low(Field.EntryInstructionLength) : 0,
  };
  vmx.injecting = true;
  deliverEvent(cpu, event);
  vmx.injecting = false;
  if (debug && vmx.nonRoot) {
    cpu.set32(DR7, dr7);
    cpu.set32(S.debugctl, debugctl);
  }
}

/** SDM "Delivery of Pending Debug Exceptions after VM Entry": at once, unless MOV SS blocks them. */
function deliverPendingDebug(vmx: Vmx, cpu: Cpu, blocking: number): void {
  const pending = vmx.vmcs.low(Field.GuestPendingDebugExceptions);
  if ((pending & (PENDING_BREAKPOINT | PENDING_STEP)) === 0 || (blocking & 2) !== 0) return;
  deliverEvent(cpu, { type: EventType.HardwareException, vector: Vector.Debug, error: -1, data: pending & (PENDING_STEP | 0xf), length: 0 });
}

/** Nothing asks for the run loop right after an entry: the guest can go on at once. */
export function guestRunsOn(vmx: Vmx, cpu: Cpu): boolean {
  return vmx.timerTick === Infinity && !vmx.tprBelow && (vmx.primary & (Primary.InterruptWindowExiting.mask | Primary.NmiWindowExiting.mask)) === 0
    && cpu.get32(S.activity) === 0 && !cpu.interruptLine && !cpu.nmiPending && !cpu.initPending && (cpu.get32(S.flagsRest) & Flag.TF) === 0;
}
