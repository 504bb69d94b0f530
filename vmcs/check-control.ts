import { allowed, checkList, CheckGroup, msrArea, on, physical, physicalAligned, type CheckContext } from './check.ts';
import { Entry, Exit, PinBased, Primary, Secondary } from './control.ts';
import { Field } from './field.ts';

const list = checkList(CheckGroup.Control);
const maskedCause = 'the control word was not adjusted with the capability MSR of this CPU, or bits were set after adjusting';
const maskedFix = 'start from the wanted bits, OR the low word and AND the high word of the capability MSR (the TRUE one where IA32_VMX_BASIC[55] is 1)';

// --- SDM "VM-Execution Control Fields" ---------------------------------------------------------------------------
let check = list.section('VM-Execution Control Fields');

check('pin.allowed', 'Reserved bits of the pin-based controls have the settings the CPU allows', ['PinBasedControls'], (c) => allowed(c, 'PinBased'), { cause: maskedCause, fix: maskedFix });
check('primary.allowed', 'Reserved bits of the primary processor-based controls have the settings the CPU allows', ['PrimaryControls'], (c) => allowed(c, 'Primary'), { cause: maskedCause, fix: maskedFix });
check('secondary.allowed', 'With secondary controls activated, their reserved bits have the settings the CPU allows', ['PrimaryControls', 'SecondaryControls'],
  (c) => !on(c, Primary.ActivateSecondaryControls) || allowed(c, 'Secondary'), { cause: maskedCause, fix: maskedFix });
check('cr3-targets', 'The CR3-target count is not above the number the CPU supports', ['Cr3TargetCount'], (c) => c.vmcs.low(Field.Cr3TargetCount) <= c.capability.profile.cr3Targets,
  { cause: 'the field was never written and holds what the memory held', fix: 'write 0 when no CR3-target values are used' });
check('io-bitmaps', 'With I/O bitmaps in use, both bitmap addresses are 4 KiB aligned and inside the physical-address width', ['PrimaryControls', 'IoBitmapA', 'IoBitmapB'],
  (c) => !on(c, Primary.UseIoBitmaps) || (physicalAligned(c, Field.IoBitmapA, 12) && physicalAligned(c, Field.IoBitmapB, 12)),
  { cause: 'a virtual address, or an unaligned buffer, was written', fix: 'write the physical address of a 4 KiB page in each field' });
check('msr-bitmaps', 'With MSR bitmaps in use, their address is 4 KiB aligned and inside the physical-address width', ['PrimaryControls', 'MsrBitmaps'],
  (c) => !on(c, Primary.UseMsrBitmaps) || physicalAligned(c, Field.MsrBitmaps, 12), { cause: 'a virtual address, or an unaligned buffer, was written', fix: 'write the physical address of a 4 KiB page' });
check('tpr-shadow.address', 'With the TPR shadow in use, the virtual-APIC address is 4 KiB aligned and inside the physical-address width', ['PrimaryControls', 'VirtualApicAddress'],
  (c) => !on(c, Primary.UseTprShadow) || physicalAligned(c, Field.VirtualApicAddress, 12), { cause: 'the virtual-APIC address was never written, or is a virtual address', fix: 'write the physical address of a 4 KiB page' });
check('tpr-shadow.threshold', 'With the TPR shadow in use and no virtual-interrupt delivery, bits 31:4 of the TPR threshold are 0', ['PrimaryControls', 'SecondaryControls', 'TprThreshold'],
  (c) => !on(c, Primary.UseTprShadow) || on(c, Secondary.VirtualInterruptDelivery) || c.vmcs.low(Field.TprThreshold) >>> 4 === 0,
  { cause: 'the threshold was given as a TPR byte instead of a priority class', fix: 'write the class (0 to 15)' });
check('tpr-shadow.current', 'With the TPR shadow in use and neither APIC accesses virtualized nor virtual interrupts delivered, the TPR threshold is not above the virtual task-priority class', ['PrimaryControls', 'SecondaryControls', 'TprThreshold', 'VirtualApicAddress'],
  (c) => !on(c, Primary.UseTprShadow) || on(c, Secondary.VirtualizeApicAccesses) || on(c, Secondary.VirtualInterruptDelivery) || !physicalAligned(c, Field.VirtualApicAddress, 12)
    || (c.vmcs.low(Field.TprThreshold) & 15) <= ((c.readWord(c.vmcs.high(Field.VirtualApicAddress) * 4294967296 + c.vmcs.low(Field.VirtualApicAddress) + 0x80) >>> 4) & 15),
  { cause: 'the guest lowered its task priority and the threshold was not adjusted', fix: 'write a threshold at most the class in bits 7:4 of byte 0x80 of the virtual-APIC page' });
check('virtual-nmis', 'Virtual NMIs need NMI exiting', ['PinBasedControls'], (c) => on(c, PinBased.NmiExiting) || !on(c, PinBased.VirtualNmis), { cause: 'virtual NMIs are on without NMI exiting', fix: 'set NMI exiting, or clear virtual NMIs' });
check('nmi-window', 'NMI-window exiting needs virtual NMIs', ['PinBasedControls', 'PrimaryControls'], (c) => on(c, PinBased.VirtualNmis) || !on(c, Primary.NmiWindowExiting),
  { cause: 'NMI-window exiting was left on after virtual NMIs were turned off', fix: 'set virtual NMIs, or clear NMI-window exiting' });
check('apic-access.address', 'With APIC accesses virtualized, the APIC-access address is 4 KiB aligned and inside the physical-address width', ['PrimaryControls', 'SecondaryControls', 'ApicAccessAddress'],
  (c) => !on(c, Secondary.VirtualizeApicAccesses) || physicalAligned(c, Field.ApicAccessAddress, 12), { cause: 'the APIC-access address was never written', fix: 'write the physical address of a 4 KiB page' });
check('tpr-shadow.needed', 'Without the TPR shadow, x2APIC virtualization, APIC-register virtualization and virtual-interrupt delivery are off', ['PrimaryControls', 'SecondaryControls'],
  (c) => on(c, Primary.UseTprShadow) || !(on(c, Secondary.VirtualizeX2apicMode) || on(c, Secondary.ApicRegisterVirtualization) || on(c, Secondary.VirtualInterruptDelivery)),
  { cause: 'an APIC virtualization control is on alone', fix: 'use the TPR shadow with it' });
check('x2apic', 'x2APIC mode and APIC accesses are not virtualized together', ['PrimaryControls', 'SecondaryControls'], (c) => !on(c, Secondary.VirtualizeX2apicMode) || !on(c, Secondary.VirtualizeApicAccesses),
  { cause: 'both controls are on', fix: 'clear one' });
check('virtual-interrupts', 'Virtual-interrupt delivery needs external-interrupt exiting', ['PinBasedControls', 'PrimaryControls', 'SecondaryControls'],
  (c) => !on(c, Secondary.VirtualInterruptDelivery) || on(c, PinBased.ExternalInterruptExiting), { cause: 'external-interrupt exiting is off', fix: 'set it' });
check('vpid', 'With VPIDs enabled, the VPID is not 0', ['PrimaryControls', 'SecondaryControls', 'VirtualProcessorIdentifier'],
  (c) => !on(c, Secondary.EnableVpid) || c.vmcs.low(Field.VirtualProcessorIdentifier) !== 0, { cause: 'the VPID was never written; 0 is the host', fix: 'write a number from 1 to 65535' });

const eptRows = ['PrimaryControls', 'SecondaryControls', 'EptPointer'] as const;
const ept = (holds: (c: CheckContext, low: number) => boolean) => (c: CheckContext): boolean => !on(c, Secondary.EnableEpt) || holds(c, c.vmcs.low(Field.EptPointer));
check('eptp.memory-type', 'The EPT memory type in EPTP bits 2:0 is one the CPU supports (0 uncacheable, 6 write-back)', eptRows, ept((_, low) => (low & 7) === 0 || (low & 7) === 6),
  { cause: 'the EPTP is the bare table address', fix: 'OR 6 into the EPTP' });
check('eptp.walk-length', 'EPTP bits 5:3 are 3, a walk length of 4', eptRows, ept((_, low) => ((low >>> 3) & 7) === 3), { cause: 'the walk length itself was written instead of the length minus 1', fix: 'OR 3 << 3 into the EPTP' });
check('eptp.accessed-dirty', 'EPTP bit 6 (accessed and dirty flags) is 0 where the CPU does not support them', eptRows, ept((c, low) => (low & 0x40) === 0 || c.capability.profile.ept?.accessedDirty === true),
  { cause: 'IA32_VMX_EPT_VPID_CAP[21] was not consulted', fix: 'clear bit 6' });
check('eptp.reserved', 'EPTP bits 11:7 are 0 and no bit is set beyond the physical-address width', eptRows, ept((c, low) => (low & 0xf80) === 0 && physical(c, c.vmcs.high(Field.EptPointer))),
  { cause: 'a virtual address, or an unaligned table', fix: 'write the physical address of the 4 KiB aligned top table' });
check('unrestricted', 'Unrestricted guest needs EPT', ['PrimaryControls', 'SecondaryControls'], (c) => !on(c, Secondary.UnrestrictedGuest) || on(c, Secondary.EnableEpt), { cause: 'EPT is off', fix: 'enable EPT, or clear unrestricted guest' });

// --- SDM "VM-Exit Control Fields" --------------------------------------------------------------------------------
check = list.section('VM-Exit Control Fields');
check('exit.allowed', 'Reserved bits of the VM-exit controls have the settings the CPU allows', ['PrimaryExitControls'], (c) => allowed(c, 'Exit'), { cause: maskedCause, fix: maskedFix });
check('exit.preemption', 'The preemption timer is saved on exit only where it is activated', ['PinBasedControls', 'PrimaryExitControls'], (c) => on(c, PinBased.ActivatePreemptionTimer) || !on(c, Exit.SavePreemptionTimer),
  { cause: 'the timer was turned off without this exit control', fix: 'clear "save VMX-preemption timer value"' });
const areaMeaning = { cause: 'the count was never written, or the area is unaligned', fix: 'write count 0 when unused; else a 16-byte aligned physical address' };
check('exit.msr-store', 'A VM-exit MSR-store area is 16-byte aligned and ends inside the physical-address width', ['ExitMsrStoreCount', 'ExitMsrStoreAddress'], (c) => msrArea(c, Field.ExitMsrStoreCount, Field.ExitMsrStoreAddress), areaMeaning);
check('exit.msr-load', 'A VM-exit MSR-load area is 16-byte aligned and ends inside the physical-address width', ['ExitMsrLoadCount', 'ExitMsrLoadAddress'], (c) => msrArea(c, Field.ExitMsrLoadCount, Field.ExitMsrLoadAddress), areaMeaning);

// --- SDM "VM-Entry Control Fields" -------------------------------------------------------------------------------
check = list.section('VM-Entry Control Fields');
check('entry.allowed', 'Reserved bits of the VM-entry controls have the settings the CPU allows', ['EntryControls'], (c) => allowed(c, 'Entry'), { cause: maskedCause, fix: maskedFix });

/** Vectors that push an error code (SDM "Exception and Interrupt Vectors" table). */
const ERROR_CODE_VECTORS = (1 << 8) | (1 << 10) | (1 << 11) | (1 << 12) | (1 << 13) | (1 << 14) | (1 << 17);
const event = (holds: (information: number, type: number, vector: number, c: CheckContext) => boolean) => (c: CheckContext): boolean => {
  const information = c.vmcs.low(Field.EntryInterruptionInformation);
  return information >>> 31 === 0 || holds(information, (information >>> 8) & 7, information & 0xff, c);
};
const info = 'EntryInterruptionInformation' as const;
check('inject.type', 'An injected event does not have the reserved type 1, nor type 7 on a CPU without the monitor trap flag', [info],
  event((_, type, __, c) => type !== 1 && (type !== 7 || c.capability.supports(Primary.MonitorTrapFlag))), { cause: 'the type field was miscomposed', fix: 'use 0 external interrupt, 2 NMI, 3 hardware exception, 4 software interrupt, 5 privileged software exception, 6 software exception' });
check('inject.vector', 'The vector fits the type: an NMI has vector 2, a hardware exception at most 31, a pending monitor trap 0', [info],
  event((_, type, vector) => (type !== 2 || vector === 2) && (type !== 3 || vector <= 31) && (type !== 7 || vector === 0)), { cause: 'an interrupt vector was injected as an exception', fix: 'inject it with type 0' });
check('inject.deliver-error-code', 'The deliver-error-code bit is 1 exactly for hardware exceptions that push one, and 0 for a guest with CR0.PE 0', [info, 'GuestCr0', 'PrimaryControls', 'SecondaryControls'],
  event((information, type, vector, c) => {
    const deliver = (information & 0x800) !== 0;
    const real = on(c, Secondary.UnrestrictedGuest) && (c.vmcs.low(Field.GuestCr0) & 1) === 0;
    if (real || type !== 3) return !deliver;
    if (c.capability.profile.freeErrorCode) return true;
    return deliver === (vector < 32 && (ERROR_CODE_VECTORS & (1 << vector)) !== 0);
  }), { cause: 'IDT-vectoring or exit interruption information was copied without, or composed with a wrong, bit 11', fix: 'set bit 11 for #DF, #TS, #NP, #SS, #GP, #PF and #AC only' });
check('inject.reserved', 'Bits 30:12 of the interruption information of an injected event are 0', [info], event((information) => (information & 0x7ffff000) === 0),
  { cause: 'exit interruption information was copied with bit 12 (NMI unblocking)', fix: 'mask with 0x80000fff' });
check('inject.error-code', 'An error code to be delivered has bits 31:16 equal to 0', [info, 'EntryExceptionErrorCode'], event((information, _, __, c) => (information & 0x800) === 0 || c.vmcs.low(Field.EntryExceptionErrorCode) >>> 16 === 0),
  { cause: 'the error-code field was never written', fix: 'write the 16-bit error code' });
check('inject.length', 'A software event has an instruction length from 1 to 15 (from 0 where the CPU allows it)', [info, 'EntryInstructionLength'],
  event((_, type, __, c) => {
    if (type !== 4 && type !== 5 && type !== 6) return true;
    const length = c.vmcs.low(Field.EntryInstructionLength);
    return length <= 15 && (length > 0 || c.capability.profile.zeroLengthInjection);
  }), { cause: 'the length field was not set from the VM-exit instruction length', fix: 'copy the VM-exit instruction length' });
check('entry.msr-load', 'A VM-entry MSR-load area is 16-byte aligned and ends inside the physical-address width', ['EntryMsrLoadCount', 'EntryMsrLoadAddress'], (c) => msrArea(c, Field.EntryMsrLoadCount, Field.EntryMsrLoadAddress), areaMeaning);
check('entry.smm', 'Outside SMM, "entry to SMM" and "deactivate dual-monitor treatment" are 0', ['EntryControls'], (c) => !on(c, Entry.EntryToSmm) && !on(c, Entry.DeactivateDualMonitor),
  { cause: 'every bit the CPU allows was set', fix: 'clear both' });

/** SDM "Checks on VMX Controls", in listing order. A failure is VMfailValid with error 7. */
export const controlChecks = list.rows;
