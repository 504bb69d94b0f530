import { loadPdptes } from '../cpu/control.ts';
import { ChargeTo, type Cpu } from '../cpu/cpu.ts';
import { EventType } from '../cpu/events.ts';
import { isFault } from '../cpu/fault.ts';
import { Access, Cr0, Cr4, Efer, Flag, Gpr, S, Segment, SEGMENT_SIZE, SegmentIndex } from '../cpu/state.ts';
import { Entry, Exit, PinBased, Secondary } from '../vmcs/control.ts';
import { Field, type FieldName } from '../vmcs/field.ts';
import { loadMsrArea, storeMsrArea } from './msr-area.ts';
import { address, type Vmx } from './operation.ts';
import { ENTRY_FAILURE, REASON_COUNT, reasonName, VmExitReason } from './reason.ts';
import { CR0_KEPT, loadPair, pdpteFields, saveGuestRegisters, savePair } from './transfer.ts';

const TWO32 = 4294967296;
const DR6 = S.dr + 6 * 8;
const DR7 = S.dr + 7 * 8;
const LME_LMA = Efer.LME | Efer.LMA;
const NAMES = Array.from({ length: REASON_COUNT }, (_, reason) => `vmx.exit.${reasonName(reason)}`);

/** Causes of a VM abort (SDM "VMX Aborts"). */
export const VmxAbort = { SavingMsrs: 1, HostPdptes: 2, LoadingMsrs: 4 } as const;

/** Interruption-information word of an event. */
export function interruptionInformation(type: number, vector: number, hasError: boolean): number {
  return (0x80000000 | vector | (type << 8) | (hasError ? 0x800 : 0)) >>> 0;
}

function chargeExit(cpu: Cpu, reason: number): void {
  cpu.charge(cpu.costs[NAMES[reason]!] ?? cpu.costs['vmx.exit'] ?? 0, ChargeTo.Transition);
}

function setWords(vmx: Vmx, field: (typeof Field)['ExitQualification'], value: number): void {
  vmx.vmcs.set(field, value >>> 0, Math.floor(value / TWO32) >>> 0);
}

/**
 * A VM exit from non-root operation (SDM "VM Exits"). RIP is what the guest-state area must show; the caller has set
 * `exitLength` and the other exit registers of `vmx`, which are cleared here.
 * @param qualification an exact integer: up to 2^53, or a signed linear address
 * @param why the control, bitmap or unconditional rule behind the exit
 */
export function vmExit(vmx: Vmx, cpu: Cpu, reason: number, qualification: number, why: string): void {
  const v = vmx.vmcs;
  v.set(Field.ExitReason, reason);
  setWords(vmx, Field.ExitQualification, qualification);
  setWords(vmx, Field.GuestLinearAddress, vmx.exitLinear);
  if (reason === VmExitReason.EptViolation || reason === VmExitReason.EptMisconfiguration) setWords(vmx, Field.GuestPhysicalAddress, vmx.exitGuestPhysical);
  v.set(Field.ExitInterruptionInformation, vmx.exitInterruption);
  v.set(Field.ExitInterruptionErrorCode, vmx.exitInterruptionError);
  v.set(Field.ExitInstructionInformation, vmx.exitInstruction);
  const vectoring = cpu.delivering;
  let length = vmx.exitLength;
  if (vectoring !== null) {
    v.set(Field.IdtVectoringInformation, interruptionInformation(vectoring.type, vectoring.vector, vectoring.error >= 0));
    v.set(Field.IdtVectoringErrorCode, vectoring.error >= 0 ? vectoring.error : 0);
    if (vectoring.type >= EventType.SoftwareInterrupt) length = vectoring.length;
  } else v.set(Field.IdtVectoringInformation, 0);
  v.set(Field.ExitInstructionLength, length);
  v.set(Field.EntryInterruptionInformation, v.low(Field.EntryInterruptionInformation) & 0x7fffffff);
  vmx.exits++;
  if (cpu.observer !== null && cpu.observer.vmExit !== undefined) {
    cpu.observer.vmExit({
      reason, name: reasonName(reason), qualification: v.value(Field.ExitQualification), guestPhysical: v.value(Field.GuestPhysicalAddress), guestLinear: v.value(Field.GuestLinearAddress),
      rip: cpu.get64(S.rip), instructionLength: length, interruptionInformation: vmx.exitInterruption, why, cycles: cpu.cycles,
    });
  }
  const nmiExit = reason === VmExitReason.ExceptionOrNmi && ((vmx.exitInterruption >>> 8) & 7) === EventType.Nmi;
  saveGuest(vmx, cpu);
  // the MSR-store area gets the TSC without the guest's offset
  cpu.set32(S.tscOffset, vmx.rootTscLow);
  cpu.set32(S.tscOffset + 4, vmx.rootTscHigh);
  if (v.low(Field.ExitMsrStoreCount) !== 0 && storeMsrArea(cpu, address(v, Field.ExitMsrStoreAddress), v.low(Field.ExitMsrStoreCount)) !== 0) return abort(vmx, cpu, VmxAbort.SavingMsrs);
  leave(vmx, cpu, reason, nmiExit);
}

/**
 * A VM entry that failed after its checks on controls and host state (SDM "VM-Entry Failures During or After Loading
 * Guest State"): host state is loaded, no guest state is saved.
 */
export function failEntry(vmx: Vmx, cpu: Cpu, reason: number, qualification: number): void {
  vmx.vmcs.set(Field.ExitReason, (reason | ENTRY_FAILURE) >>> 0);
  setWords(vmx, Field.ExitQualification, qualification);
  leave(vmx, cpu, reason, false);
}

function leave(vmx: Vmx, cpu: Cpu, reason: number, nmiExit: boolean): void {
  vmx.nonRoot = false;
  vmx.exitLength = 0;
  vmx.exitInstruction = 0;
  vmx.exitInterruption = 0;
  vmx.exitInterruptionError = 0;
  vmx.exitLinear = 0;
  vmx.exitGuestPhysical = 0;
  vmx.exitResume = false;
  vmx.injecting = false;
  vmx.tprBelow = false;
  vmx.timerTick = Infinity;
  cpu.interceptSet = null;
  cpu.secondLevel = null;
  if (nmiExit) cpu.set32(S.nmiBlocked, 1);
  else if ((vmx.pin & PinBased.VirtualNmis.mask) !== 0) cpu.set32(S.nmiBlocked, 0);
  chargeExit(cpu, reason);
  if (!loadHost(vmx, cpu)) return abort(vmx, cpu, VmxAbort.HostPdptes);
  const count = vmx.vmcs.low(Field.ExitMsrLoadCount);
  if (count !== 0 && loadMsrArea(cpu, address(vmx.vmcs, Field.ExitMsrLoadAddress), count) !== 0) abort(vmx, cpu, VmxAbort.LoadingMsrs);
}

/** SDM "VMX Aborts": the CPU shuts down with the cause in the VMCS region. */
function abort(vmx: Vmx, cpu: Cpu, cause: number): void {
  vmx.vmcs.abortIndicator = cause;
  vmx.nonRoot = false;
  cpu.interceptSet = null;
  cpu.secondLevel = null;
  cpu.set32(S.activity, 2);
  cpu.observer?.note?.('VMX abort', `cause ${cause}`);
}

/** SDM "Saving Guest State". */
function saveGuest(vmx: Vmx, cpu: Cpu): void {
  const v = vmx.vmcs;
  saveGuestRegisters(cpu, v);
  v.set(Field.GuestCr0, cpu.get32(S.cr0), 0);
  // SS.DPL is the CPL, whatever the segment register held
  const ss = S.segment + SegmentIndex.SS * SEGMENT_SIZE + Segment.attributes;
  if (!cpu.virtual8086) v.set(Field.GuestSsAccessRights, (cpu.get32(ss) & ~Access.Dpl) | (cpu.get32(S.cpl) << Access.DplShift));
  const flags = cpu.flags;
  v.set(Field.GuestRflags, vmx.exitResume ? flags | Flag.RF : flags, 0);
  if ((vmx.exitControls & Exit.SaveDebugControls.mask) !== 0) {
    savePair(cpu, v, Field.GuestDr7, DR7);
    savePair(cpu, v, Field.GuestIa32Debugctl, S.debugctl);
  }
  if ((vmx.exitControls & Exit.SavePat.mask) !== 0) savePair(cpu, v, Field.GuestIa32Pat, S.pat);
  if ((vmx.exitControls & Exit.SaveEfer.mask) !== 0) savePair(cpu, v, Field.GuestIa32Efer, S.efer);
  if ((vmx.exitControls & Exit.SavePreemptionTimer.mask) !== 0) {
    v.set(Field.PreemptionTimerValue, Math.max(0, vmx.timerTick - Math.floor(cpu.cycles / 2 ** vmx.capability.profile.preemptionRate)));
  }
  v.set(Field.GuestActivityState, cpu.get32(S.activity));
  v.set(Field.GuestInterruptibilityState, cpu.shadowNow | (cpu.get32(S.nmiBlocked) !== 0 ? 8 : 0));
  v.set(Field.GuestPendingDebugExceptions, 0, 0);
  const efer = cpu.get32(S.efer);
  if (vmx.capability.profile.storesLma) {
    const mask = Entry.Ia32eModeGuest.mask;
    v.set(Field.EntryControls, (efer & Efer.LMA) !== 0 ? vmx.entryControls | mask : vmx.entryControls & ~mask);
  }
  if ((vmx.secondary & Secondary.EnableEpt.mask) !== 0 && (cpu.get32(S.cr0) & Cr0.PG) !== 0 && (cpu.get32(S.cr4) & Cr4.PAE) !== 0 && (efer & Efer.LMA) === 0) {
    for (let i = 0; i < 4; i++) savePair(cpu, v, pdpteFields[i]!, S.pdpte + i * 8);
  }
}

/** Host data segments: [segment, selector field, base field or null]. */
const dataSegments: readonly (readonly [number, FieldName, FieldName | null])[] = [
  [SegmentIndex.ES, 'HostEsSelector', null], [SegmentIndex.SS, 'HostSsSelector', null], [SegmentIndex.DS, 'HostDsSelector', null],
  [SegmentIndex.FS, 'HostFsSelector', 'HostFsBase'], [SegmentIndex.GS, 'HostGsSelector', 'HostGsBase'],
];
const dataRows = dataSegments.map(([n, selector, base]) => ({ at: S.segment + n * SEGMENT_SIZE, selector: Field[selector], base: base === null ? null : Field[base] }));
const DATA_RIGHTS = 0xc093;
const CODE64_RIGHTS = 0xa09b;
const CODE32_RIGHTS = 0xc09b;
const CS = S.segment + SegmentIndex.CS * SEGMENT_SIZE;
const TR = S.segment + SegmentIndex.TR * SEGMENT_SIZE;
const LDTR = S.segment + SegmentIndex.LDTR * SEGMENT_SIZE;

/** SDM "Loading Host State". False where the PDPTEs of a PAE host are invalid. */
function loadHost(vmx: Vmx, cpu: Cpu): boolean {
  const v = vmx.vmcs;
  const long = (vmx.exitControls & Exit.HostAddressSpaceSize.mask) !== 0;
  // control registers and MSRs
  cpu.set32(S.cr0, (v.low(Field.HostCr0) & ~CR0_KEPT) | (cpu.get32(S.cr0) & CR0_KEPT));
  loadPair(cpu, v, Field.HostCr3, S.cr3);
  const cr4 = v.low(Field.HostCr4);
  cpu.set32(S.cr4, long ? cr4 | Cr4.PAE : cr4 & ~Cr4.PCIDE);
  cpu.set32(S.cr4 + 4, 0);
  cpu.set32(DR7, 0x400);
  cpu.set32(DR7 + 4, 0);
  cpu.set32(S.debugctl, 0);
  cpu.set32(S.sysenterCs, v.low(Field.HostIa32SysenterCs));
  cpu.set32(S.sysenterCs + 4, 0);
  loadPair(cpu, v, Field.HostIa32SysenterEsp, S.sysenterEsp);
  loadPair(cpu, v, Field.HostIa32SysenterEip, S.sysenterEip);
  if ((vmx.exitControls & Exit.LoadPat.mask) !== 0) loadPair(cpu, v, Field.HostIa32Pat, S.pat);
  if ((vmx.exitControls & Exit.LoadEfer.mask) !== 0) loadPair(cpu, v, Field.HostIa32Efer, S.efer);
  else cpu.set32(S.efer, long ? cpu.get32(S.efer) | LME_LMA : cpu.get32(S.efer) & ~LME_LMA);
  // segments and tables
  segment(cpu, CS, v.low(Field.HostCsSelector), 0xffffffff, long ? CODE64_RIGHTS : CODE32_RIGHTS);
  for (let i = 0; i < dataRows.length; i++) {
    const row = dataRows[i]!;
    const selector = v.low(row.selector);
    segment(cpu, row.at, selector, 0xffffffff, selector === 0 ? DATA_RIGHTS | Access.Unusable : DATA_RIGHTS);
    if (row.base !== null) loadPair(cpu, v, row.base, row.at + Segment.base);
  }
  segment(cpu, TR, v.low(Field.HostTrSelector), 0x67, 0x8b);
  loadPair(cpu, v, Field.HostTrBase, TR + Segment.base);
  segment(cpu, LDTR, 0, 0, Access.Unusable);
  loadPair(cpu, v, Field.HostGdtrBase, S.gdtrBase);
  loadPair(cpu, v, Field.HostIdtrBase, S.idtrBase);
  cpu.set32(S.gdtrLimit, 0xffff);
  cpu.set32(S.idtrLimit, 0xffff);
  // RIP, RSP, RFLAGS and the rest
  loadPair(cpu, v, Field.HostRip, S.rip);
  loadPair(cpu, v, Field.HostRsp, S.gpr + Gpr.RSP * 8);
  cpu.flags = 2;
  cpu.set32(S.cpl, 0);
  cpu.set32(S.activity, 0);
  cpu.set32(S.blockInterrupts, 0);
  cpu.mmu.vpid = 0;
  // without VPIDs the transition drops all linear and combined mappings of VPID 0
  if ((vmx.secondary & Secondary.EnableVpid.mask) === 0) cpu.mmu.invalidateVpid(0);
  cpu.mmu.updateContext();
  if (!long && (cpu.get32(S.cr4) & Cr4.PAE) !== 0) {
    try {
      loadPdptes(cpu, cpu.get32(S.cr3));
    } catch (thrown) {
      if (!isFault(thrown)) throw thrown;
      return false;
    }
  }
  return true;
}

function segment(cpu: Cpu, at: number, selector: number, limit: number, rights: number): void {
  cpu.set32(at + Segment.base, 0);
  cpu.set32(at + Segment.base + 4, 0);
  cpu.set32(at + Segment.limit, limit);
  cpu.set32(at + Segment.attributes, rights);
  cpu.set32(at + Segment.selector, selector);
}
export { DR6, DR7 };
