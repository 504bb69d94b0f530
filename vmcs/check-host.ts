import { canonical, checkList, CheckGroup, fixedBits, on, patValid, physical } from './check.ts';
import { Entry, Exit } from './control.ts';
import { Field, type FieldName } from './field.ts';

const list = checkList(CheckGroup.Host);

let check = list.section('Checks on Host Control Registers, MSRs, and SSP');
check('cr0.fixed', 'Host CR0 has the bits that VMX operation fixes', ['HostCr0'],
  (c) => fixedBits(c.vmcs.low(Field.HostCr0), c.vmcs.high(Field.HostCr0), c.capability.profile.cr0Fixed0, 0xffffffff), { cause: 'NE or PG is 0, or the field was never written', fix: 'write the CR0 the hypervisor runs with' });
check('cr4.fixed', 'Host CR4 has the bits that VMX operation fixes, VMXE among them', ['HostCr4'],
  (c) => fixedBits(c.vmcs.low(Field.HostCr4), c.vmcs.high(Field.HostCr4), c.capability.profile.cr4Fixed0, c.capability.profile.cr4Fixed1), { cause: 'CR4 was read before VMXE was set', fix: 'write the current CR4' });
check('cr3.width', 'Host CR3 has no bit set beyond the physical-address width', ['HostCr3'], (c) => physical(c, c.vmcs.high(Field.HostCr3)), { cause: 'bit 63 (the PCID no-flush bit) or a virtual address was written', fix: 'write the physical address of the top table' });
for (const member of ['HostIa32SysenterEsp', 'HostIa32SysenterEip'] as const) {
  check(`${member === 'HostIa32SysenterEsp' ? 'sysenter-esp' : 'sysenter-eip'}.canonical`, `${Field[member].name} is canonical`, [member], (c) => canonical(c, Field[member]), { cause: 'the field was never written', fix: 'copy the MSR' });
}
check('pat', 'With "load IA32_PAT" on exit, each byte of host IA32_PAT is a memory type', ['PrimaryExitControls', 'HostIa32Pat'], (c) => !on(c, Exit.LoadPat) || patValid(c.vmcs.low(Field.HostIa32Pat), c.vmcs.high(Field.HostIa32Pat)),
  { cause: 'the field was never written', fix: 'copy IA32_PAT' });
check('efer.reserved', 'With "load IA32_EFER" on exit, host IA32_EFER has no reserved bit set', ['PrimaryExitControls', 'HostIa32Efer'],
  (c) => !on(c, Exit.LoadEfer) || ((c.vmcs.low(Field.HostIa32Efer) & ~c.eferBits) === 0 && c.vmcs.high(Field.HostIa32Efer) === 0), { cause: 'the field was never written', fix: 'copy IA32_EFER' });
check('efer.mode', 'With "load IA32_EFER" on exit, LMA and LME of host IA32_EFER both equal "host address-space size"', ['PrimaryExitControls', 'HostIa32Efer'], (c) => {
  if (!on(c, Exit.LoadEfer)) return true;
  const bits = c.vmcs.low(Field.HostIa32Efer) & 0x500;
  return bits === (on(c, Exit.HostAddressSpaceSize) ? 0x500 : 0);
}, { cause: '"host address-space size" does not match the host', fix: 'set it for a 64-bit host and copy IA32_EFER' });

check = list.section('Checks on Host Segment and Descriptor-Table Registers');
for (const [name, member] of [['es', 'HostEsSelector'], ['cs', 'HostCsSelector'], ['ss', 'HostSsSelector'], ['ds', 'HostDsSelector'], ['fs', 'HostFsSelector'], ['gs', 'HostGsSelector'], ['tr', 'HostTrSelector']] as const satisfies readonly (readonly [string, FieldName])[]) {
  check(`${name}.rpl`, `RPL and TI of the ${Field[member].name} are 0`, [member], (c) => (c.vmcs.low(Field[member]) & 7) === 0, { cause: 'a user-mode or LDT selector was copied', fix: 'clear the low three bits' });
}
check('cs.null', 'The host CS selector is not 0', ['HostCsSelector'], (c) => c.vmcs.low(Field.HostCsSelector) !== 0, { cause: 'the field was never written', fix: 'write the code selector' });
check('tr.null', 'The host TR selector is not 0', ['HostTrSelector'], (c) => c.vmcs.low(Field.HostTrSelector) !== 0, { cause: 'no task register was loaded', fix: 'set up a TSS and LTR, then write its selector' });
check('ss.null', 'The host SS selector is not 0 for a host outside 64-bit mode', ['PrimaryExitControls', 'HostSsSelector'], (c) => on(c, Exit.HostAddressSpaceSize) || c.vmcs.low(Field.HostSsSelector) !== 0,
  { cause: 'the field was never written', fix: 'write the stack selector' });
for (const [name, member] of [['fs', 'HostFsBase'], ['gs', 'HostGsBase'], ['gdtr', 'HostGdtrBase'], ['idtr', 'HostIdtrBase'], ['tr', 'HostTrBase']] as const) {
  check(`${name}.base`, `The ${Field[member].name} is canonical`, [member], (c) => canonical(c, Field[member]), { cause: 'the base was assembled wrongly from the descriptor', fix: 'use all 64 bits, sign-extended' });
}

check = list.section('Checks Related to Address-Space Size');
check('size.legacy', 'A CPU outside IA-32e mode enters only with "IA-32e mode guest" and "host address-space size" 0', ['EntryControls', 'PrimaryExitControls'],
  (c) => c.hostLongMode || (!on(c, Entry.Ia32eModeGuest) && !on(c, Exit.HostAddressSpaceSize)), { cause: 'a 32-bit hypervisor asks for 64-bit state', fix: 'clear both, or run the hypervisor in 64-bit mode' });
check('size.long', 'A CPU in IA-32e mode enters only with "host address-space size" 1', ['PrimaryExitControls'], (c) => !c.hostLongMode || on(c, Exit.HostAddressSpaceSize),
  { cause: 'the exit controls lost bit 9', fix: 'set "host address-space size"' });
check('size.guest', 'Without "host address-space size", "IA-32e mode guest" is 0', ['EntryControls', 'PrimaryExitControls'], (c) => on(c, Exit.HostAddressSpaceSize) || !on(c, Entry.Ia32eModeGuest),
  { cause: 'a 32-bit host wants a 64-bit guest', fix: 'set "host address-space size"' });
check('size.pcide', 'Without "host address-space size", host CR4.PCIDE is 0', ['PrimaryExitControls', 'HostCr4'], (c) => on(c, Exit.HostAddressSpaceSize) || (c.vmcs.low(Field.HostCr4) & 0x20000) === 0,
  { cause: 'CR4 came from a 64-bit kernel', fix: 'clear PCIDE' });
check('size.rip-high', 'Without "host address-space size", bits 63:32 of host RIP are 0', ['PrimaryExitControls', 'HostRip'], (c) => on(c, Exit.HostAddressSpaceSize) || c.vmcs.high(Field.HostRip) === 0,
  { cause: 'a 64-bit handler address', fix: 'set "host address-space size"' });
check('size.pae', 'With "host address-space size", host CR4.PAE is 1', ['PrimaryExitControls', 'HostCr4'], (c) => !on(c, Exit.HostAddressSpaceSize) || (c.vmcs.low(Field.HostCr4) & 0x20) !== 0,
  { cause: 'CR4 was composed by hand', fix: 'write the current CR4' });
check('size.rip', 'With "host address-space size", host RIP is canonical', ['PrimaryExitControls', 'HostRip'], (c) => !on(c, Exit.HostAddressSpaceSize) || canonical(c, Field.HostRip),
  { cause: 'the handler address was truncated or never written', fix: 'write the linear address of the exit handler' });

/** SDM "Checks on Host State Area", in listing order. A failure is VMfailValid with error 8. */
export const hostChecks = list.rows;
