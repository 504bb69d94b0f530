import { canonical, checkList, CheckGroup, fixedBits, on, patValid, physical, type CheckContext } from './check.ts';
import { Entry, PinBased, Secondary } from './control.ts';
import { Field, type FieldName } from './field.ts';

const list = checkList(CheckGroup.Guest);
const unwritten = 'the field was never written';

const unrestrictedFields = ['PrimaryControls', 'SecondaryControls'] as const;
const unrestricted = (c: CheckContext): boolean => on(c, Secondary.UnrestrictedGuest);
const longGuest = (c: CheckContext): boolean => on(c, Entry.Ia32eModeGuest);
const cr0 = (c: CheckContext): number => c.vmcs.low(Field.GuestCr0);
const cr4 = (c: CheckContext): number => c.vmcs.low(Field.GuestCr4);
const rflags = (c: CheckContext): number => c.vmcs.low(Field.GuestRflags);
const virtual8086 = (c: CheckContext): boolean => (rflags(c) & 0x20000) !== 0;
const PG = 0x80000000;

// --- SDM "Checks on Guest Control Registers, Debug Registers, and MSRs" -------------------------------------------
let check = list.section('Checks on Guest Control Registers, Debug Registers, and MSRs');
check('cr0.fixed', 'Guest CR0 has the bits that VMX operation fixes (PE and PG may be 0 with unrestricted guest)', ['GuestCr0', ...unrestrictedFields], (c) => {
  const fixed0 = c.capability.profile.cr0Fixed0 & (unrestricted(c) ? ~(PG | 1) : ~0);
  return fixedBits(cr0(c), c.vmcs.high(Field.GuestCr0), fixed0, 0xffffffff);
}, { cause: 'real mode or an unpaged guest without unrestricted guest, or NE is 0', fix: 'set NE (hide it with the mask and read shadow); use paging, or unrestricted guest' });
check('cr0.paging', 'Guest CR0.PG 1 needs CR0.PE 1', ['GuestCr0'], (c) => (cr0(c) & PG) === 0 || (cr0(c) & 1) !== 0, { cause: 'CR0 was composed by hand', fix: 'set PE' });
check('cr4.fixed', 'Guest CR4 has the bits that VMX operation fixes, VMXE among them, and none the CPU lacks', ['GuestCr4'],
  (c) => fixedBits(cr4(c), c.vmcs.high(Field.GuestCr4), c.capability.profile.cr4Fixed0, c.capability.profile.cr4Fixed1), { cause: 'VMXE is 0 because the guest does not know of VMX', fix: 'set VMXE and hide it with the mask and read shadow' });
check('debugctl', 'With "load debug controls", guest IA32_DEBUGCTL has no reserved bit set', ['EntryControls', 'GuestIa32Debugctl'],
  (c) => !on(c, Entry.LoadDebugControls) || ((c.vmcs.low(Field.GuestIa32Debugctl) & ~c.debugctlBits) === 0 && c.vmcs.high(Field.GuestIa32Debugctl) === 0), { cause: unwritten, fix: 'write 0' });
check('long.paging', '"IA-32e mode guest" needs guest CR0.PG 1 and CR4.PAE 1', ['EntryControls', 'GuestCr0', 'GuestCr4'], (c) => !longGuest(c) || ((cr0(c) & PG) !== 0 && (cr4(c) & 0x20) !== 0),
  { cause: 'the entry control does not match the guest mode', fix: 'set "IA-32e mode guest" only for a guest in IA-32e mode' });
check('long.pcide', 'Without "IA-32e mode guest", guest CR4.PCIDE is 0', ['EntryControls', 'GuestCr4'], (c) => longGuest(c) || (cr4(c) & 0x20000) === 0, { cause: 'a 32-bit guest got the CR4 of a 64-bit kernel', fix: 'clear PCIDE' });
check('cr3.width', 'Guest CR3 has no bit set beyond the physical-address width', ['GuestCr3'], (c) => physical(c, c.vmcs.high(Field.GuestCr3)), { cause: 'bit 63 of a MOV to CR3 (no flush) was kept', fix: 'clear bit 63' });
check('dr7.high', 'With "load debug controls", bits 63:32 of guest DR7 are 0', ['EntryControls', 'GuestDr7'], (c) => !on(c, Entry.LoadDebugControls) || c.vmcs.high(Field.GuestDr7) === 0, { cause: unwritten, fix: 'write 0x400' });
for (const [id, member] of [['sysenter-esp', 'GuestIa32SysenterEsp'], ['sysenter-eip', 'GuestIa32SysenterEip']] as const) {
  check(`${id}.canonical`, `${Field[member].name} is canonical`, [member], (c) => canonical(c, Field[member]), { cause: unwritten, fix: 'write the value of the MSR' });
}
check('pat', 'With "load IA32_PAT" on entry, each byte of guest IA32_PAT is a memory type', ['EntryControls', 'GuestIa32Pat'], (c) => !on(c, Entry.LoadPat) || patValid(c.vmcs.low(Field.GuestIa32Pat), c.vmcs.high(Field.GuestIa32Pat)),
  { cause: unwritten, fix: 'write 0x0007040600070406, the reset value' });
check('efer.reserved', 'With "load IA32_EFER" on entry, guest IA32_EFER has no reserved bit set', ['EntryControls', 'GuestIa32Efer'],
  (c) => !on(c, Entry.LoadEfer) || ((c.vmcs.low(Field.GuestIa32Efer) & ~c.eferBits) === 0 && c.vmcs.high(Field.GuestIa32Efer) === 0), { cause: unwritten, fix: 'write SCE, LME, LMA and NXE only' });
check('efer.mode', 'With "load IA32_EFER" on entry, guest LMA equals "IA-32e mode guest", and LME equals LMA where CR0.PG is 1', ['EntryControls', 'GuestIa32Efer', 'GuestCr0'], (c) => {
  if (!on(c, Entry.LoadEfer)) return true;
  const efer = c.vmcs.low(Field.GuestIa32Efer);
  const lma = (efer & 0x400) !== 0;
  return lma === longGuest(c) && ((cr0(c) & PG) === 0 || lma === ((efer & 0x100) !== 0));
}, { cause: 'the entry control and EFER disagree on the mode', fix: 'change both together' });

// --- SDM "Checks on Guest Segment Registers" ----------------------------------------------------------------------
check = list.section('Checks on Guest Segment Registers');
const names = ['Es', 'Cs', 'Ss', 'Ds', 'Fs', 'Gs'] as const;
type SegmentName = (typeof names)[number] | 'Ldtr' | 'Tr';
const member = (name: SegmentName, part: 'Selector' | 'Base' | 'Limit' | 'AccessRights'): FieldName => `Guest${name}${part}`;
const selector = (c: CheckContext, name: SegmentName): number => c.vmcs.low(Field[member(name, 'Selector')]);
const rights = (c: CheckContext, name: SegmentName): number => c.vmcs.low(Field[member(name, 'AccessRights')]);
const usable = (c: CheckContext, name: SegmentName): boolean => (rights(c, name) & 0x10000) === 0;
const limit = (c: CheckContext, name: SegmentName): number => c.vmcs.low(Field[member(name, 'Limit')]);
const baseHigh = (c: CheckContext, name: SegmentName): number => c.vmcs.high(Field[member(name, 'Base')]);
const dpl = (value: number): number => (value >>> 5) & 3;

check('tr.ti', 'TI of the guest TR selector is 0', ['GuestTrSelector'], (c) => (selector(c, 'Tr') & 4) === 0, { cause: unwritten, fix: 'use a GDT selector' });
check('ldtr.ti', 'TI of the guest LDTR selector is 0 if LDTR is usable', ['GuestLdtrSelector', 'GuestLdtrAccessRights'], (c) => !usable(c, 'Ldtr') || (selector(c, 'Ldtr') & 4) === 0, { cause: unwritten, fix: 'mark LDTR unusable (access rights 0x10000)' });
check('ss.rpl', 'The RPLs of guest SS and CS are equal (outside virtual-8086 mode, without unrestricted guest)', ['GuestSsSelector', 'GuestCsSelector', 'GuestRflags', ...unrestrictedFields],
  (c) => virtual8086(c) || unrestricted(c) || (selector(c, 'Ss') & 3) === (selector(c, 'Cs') & 3), { cause: 'CS was changed without SS', fix: 'give both the same RPL' });
for (const name of names) {
  check(`${name.toLowerCase()}.v86-base`, `In virtual-8086 mode the guest ${name.toUpperCase()} base is the selector times 16`, [member(name, 'Base'), member(name, 'Selector'), 'GuestRflags'],
    (c) => !virtual8086(c) || (c.vmcs.low(Field[member(name, 'Base')]) === selector(c, name) * 16 && baseHigh(c, name) === 0), { cause: 'selector and base were set apart', fix: 'write selector << 4' });
}
for (const name of ['Tr', 'Fs', 'Gs'] as const) {
  check(`${name.toLowerCase()}.base`, `The guest ${name.toUpperCase()} base is canonical`, [member(name, 'Base')], (c) => canonical(c, Field[member(name, 'Base')]), { cause: unwritten, fix: 'write a canonical base' });
}
check('ldtr.base', 'The guest LDTR base is canonical if LDTR is usable', ['GuestLdtrBase', 'GuestLdtrAccessRights'], (c) => !usable(c, 'Ldtr') || canonical(c, Field.GuestLdtrBase), { cause: unwritten, fix: 'mark LDTR unusable' });
check('cs.base', 'Bits 63:32 of the guest CS base are 0', ['GuestCsBase'], (c) => baseHigh(c, 'Cs') === 0, { cause: unwritten, fix: 'write a 32-bit base' });
for (const name of ['Ss', 'Ds', 'Es'] as const) {
  check(`${name.toLowerCase()}.base`, `Bits 63:32 of the guest ${name.toUpperCase()} base are 0 if it is usable`, [member(name, 'Base'), member(name, 'AccessRights')], (c) => !usable(c, name) || baseHigh(c, name) === 0, { cause: unwritten, fix: 'write a 32-bit base' });
}
for (const name of names) {
  check(`${name.toLowerCase()}.v86-limit`, `In virtual-8086 mode the guest ${name.toUpperCase()} limit is 0xffff`, [member(name, 'Limit'), 'GuestRflags'], (c) => !virtual8086(c) || limit(c, name) === 0xffff, { cause: 'a flat segment was kept', fix: 'write 0xffff' });
}
for (const name of names) {
  check(`${name.toLowerCase()}.v86-rights`, `In virtual-8086 mode the guest ${name.toUpperCase()} access rights are 0xf3`, [member(name, 'AccessRights'), 'GuestRflags'], (c) => !virtual8086(c) || rights(c, name) === 0xf3, { cause: 'real-mode rights (DPL 0) were kept', fix: 'write 0xf3' });
}
/** A rule for access rights outside virtual-8086 mode. */
const outside = (holds: (c: CheckContext) => boolean) => (c: CheckContext): boolean => virtual8086(c) || holds(c);
check('cs.type', 'The guest CS type is accessed code (9, 11, 13, 15; also 3 with unrestricted guest)', ['GuestCsAccessRights', 'GuestRflags', ...unrestrictedFields],
  outside((c) => { const type = rights(c, 'Cs') & 15; return (type & 9) === 9 || (type === 3 && unrestricted(c)); }), { cause: 'the descriptor was copied with its accessed bit 0', fix: 'set bit 0 of the type' });
check('ss.type', 'The guest SS type is accessed writable data (3 or 7) if SS is usable', ['GuestSsAccessRights', 'GuestRflags'], outside((c) => !usable(c, 'Ss') || (rights(c, 'Ss') & 15) === 3 || (rights(c, 'Ss') & 15) === 7), { cause: 'the descriptor was copied with its accessed bit 0', fix: 'use access rights 0xc093' });
for (const name of ['Ds', 'Es', 'Fs', 'Gs'] as const) {
  check(`${name.toLowerCase()}.type`, `The guest ${name.toUpperCase()} type is accessed, and readable if it is code, if usable`, [member(name, 'AccessRights'), 'GuestRflags'],
    outside((c) => { const value = rights(c, name); return !usable(c, name) || ((value & 1) !== 0 && ((value & 8) === 0 || (value & 2) !== 0)); }), { cause: 'the descriptor was copied with its accessed bit 0', fix: 'set bit 0 of the type, or mark it unusable' });
}
for (const name of ['Cs', 'Ss', 'Ds', 'Es', 'Fs', 'Gs'] as const) {
  check(`${name.toLowerCase()}.s`, `The guest ${name.toUpperCase()} S bit is 1${name === 'Cs' ? '' : ' if usable'}`, [member(name, 'AccessRights'), 'GuestRflags'],
    outside((c) => (name !== 'Cs' && !usable(c, name)) || (rights(c, name) & 0x10) !== 0), { cause: unwritten, fix: 'set S, or mark it unusable' });
}
check('cs.dpl', 'The guest CS DPL fits: 0 for type 3; equal to the SS DPL for non-conforming, at most it for conforming code', ['GuestCsAccessRights', 'GuestSsAccessRights', 'GuestRflags', ...unrestrictedFields], outside((c) => {
  const type = rights(c, 'Cs') & 15;
  const own = dpl(rights(c, 'Cs'));
  const stack = dpl(rights(c, 'Ss'));
  if (type === 3) return !unrestricted(c) || own === 0;
  return (type & 4) === 0 ? own === stack : own <= stack;
}), { cause: 'CS and SS belong to different privilege levels', fix: 'give both the guest CPL' });
check('ss.dpl', 'The guest SS DPL equals its RPL (without unrestricted guest); it is 0 where CS has type 3 or CR0.PE is 0', ['GuestSsAccessRights', 'GuestSsSelector', 'GuestCsAccessRights', 'GuestCr0', 'GuestRflags', ...unrestrictedFields], outside((c) => {
  const own = dpl(rights(c, 'Ss'));
  if (!unrestricted(c)) return own === (selector(c, 'Ss') & 3);
  return ((rights(c, 'Cs') & 15) !== 3 && (cr0(c) & 1) !== 0) || own === 0;
}), { cause: 'the selector was changed without the access rights', fix: 'make DPL and RPL the guest CPL' });
for (const name of ['Ds', 'Es', 'Fs', 'Gs'] as const) {
  check(`${name.toLowerCase()}.dpl`, `The guest ${name.toUpperCase()} DPL is not below its RPL (usable data or non-conforming code, without unrestricted guest)`, [member(name, 'AccessRights'), member(name, 'Selector'), 'GuestRflags', ...unrestrictedFields],
    outside((c) => unrestricted(c) || !usable(c, name) || (rights(c, name) & 15) > 11 || dpl(rights(c, name)) >= (selector(c, name) & 3)), { cause: 'the selector was changed without the access rights', fix: 'clear the RPL or raise the DPL' });
}
const dataAndCode = ['Cs', 'Ss', 'Ds', 'Es', 'Fs', 'Gs'] as const;
/** One row per segment; CS is always usable. */
function eachSegment(id: string, sentence: (name: string, when: string) => string, parts: readonly ('Limit')[], holds: (c: CheckContext, name: SegmentName) => boolean, meaning: { cause: string; fix: string }): void {
  for (const name of dataAndCode) {
    const always = name === 'Cs';
    check(`${name.toLowerCase()}.${id}`, sentence(name.toUpperCase(), always ? '' : ' if usable'), [member(name, 'AccessRights'), ...parts.map((part) => member(name, part)), 'GuestRflags'], outside((c) => (!always && !usable(c, name)) || holds(c, name)), meaning);
  }
}
eachSegment('present', (name, when) => `The guest ${name} P bit is 1${when}`, [], (c, name) => (rights(c, name) & 0x80) !== 0, { cause: unwritten, fix: 'set P, or mark it unusable' });
eachSegment('reserved', (name, when) => `Bits 11:8 of the guest ${name} access rights are 0${when}`, [], (c, name) => (rights(c, name) & 0xf00) === 0, { cause: 'descriptor bits were copied without removing limit bits 19:16', fix: 'mask with 0xf0ff' });
check('cs.big', 'The guest CS D/B bit is 0 in 64-bit mode', ['GuestCsAccessRights', 'EntryControls', 'GuestRflags'], outside((c) => !longGuest(c) || (rights(c, 'Cs') & 0x6000) !== 0x6000), { cause: 'L was added to a 32-bit code segment', fix: 'use access rights 0xa09b' });
eachSegment('granularity', (name, when) => `The guest ${name} G bit fits its limit${when}`, ['Limit'], (c, name) => granularity(c, name), { cause: 'the limit was written in pages instead of bytes', fix: 'write the byte limit 0xffffffff with G 1' });
eachSegment('reserved-high', (name, when) => `Bits 31:17 of the guest ${name} access rights are 0${when}`, [], (c, name) => rights(c, name) >>> 17 === 0, { cause: 'the output of LAR was used as it is', fix: 'shift it right by 8 and mask with 0xf0ff' });
/** Limit bits 11:0 not all 1 need G 0; a limit above 1 MiB needs G 1. */
function granularity(c: CheckContext, name: SegmentName): boolean {
  const value = limit(c, name);
  const g = (rights(c, name) & 0x8000) !== 0;
  return ((value & 0xfff) === 0xfff || !g) && (value >>> 20 === 0 || g);
}
check('tr.type', 'The guest TR type is a busy TSS: 11, or 3 outside IA-32e mode', ['GuestTrAccessRights', 'EntryControls'], (c) => { const type = rights(c, 'Tr') & 15; return type === 11 || (type === 3 && !longGuest(c)); },
  { cause: 'the TSS was never loaded, so its descriptor is not busy', fix: 'use access rights 0x8b' });
check('tr.system', 'The guest TR S bit is 0, P is 1, it is usable, and bits 11:8 and 31:17 are 0', ['GuestTrAccessRights'], (c) => (rights(c, 'Tr') & 0xffff0f90) === 0x80, { cause: 'TR was marked unusable', fix: 'use access rights 0x8b with limit 0x67' });
check('tr.granularity', 'The guest TR G bit fits its limit', ['GuestTrAccessRights', 'GuestTrLimit'], (c) => granularity(c, 'Tr'), { cause: 'the limit is below 0xfff with G 1', fix: 'clear G' });
check('ldtr.type', 'A usable guest LDTR has type 2, S 0, P 1 and bits 11:8 and 31:17 equal to 0', ['GuestLdtrAccessRights'], (c) => !usable(c, 'Ldtr') || (rights(c, 'Ldtr') & 0xfffe0f9f) === 0x82, { cause: unwritten, fix: 'mark LDTR unusable (0x10000) or use 0x82' });
check('ldtr.granularity', 'The G bit of a usable guest LDTR fits its limit', ['GuestLdtrAccessRights', 'GuestLdtrLimit'], (c) => !usable(c, 'Ldtr') || granularity(c, 'Ldtr'), { cause: 'the limit is below 0xfff with G 1', fix: 'clear G' });

// --- SDM "Checks on Guest Descriptor-Table Registers" -------------------------------------------------------------
check = list.section('Checks on Guest Descriptor-Table Registers');
for (const name of ['Gdtr', 'Idtr'] as const) {
  check(`${name.toLowerCase()}.base`, `The guest ${name.toUpperCase()} base is canonical`, [`Guest${name}Base`], (c) => canonical(c, Field[`Guest${name}Base`]), { cause: unwritten, fix: 'write a canonical base' });
}
for (const name of ['Gdtr', 'Idtr'] as const) {
  check(`${name.toLowerCase()}.limit`, `Bits 31:16 of the guest ${name.toUpperCase()} limit are 0`, [`Guest${name}Limit`], (c) => c.vmcs.low(Field[`Guest${name}Limit`]) >>> 16 === 0, { cause: unwritten, fix: 'write a 16-bit limit' });
}

// --- SDM "Checks on Guest RIP, RFLAGS, and SSP" -------------------------------------------------------------------
check = list.section('Checks on Guest RIP, RFLAGS, and SSP');
check('rip', 'Guest RIP fits the mode: 32 bits outside 64-bit mode, else within the linear-address width', ['GuestRip', 'GuestCsAccessRights', 'EntryControls'], (c) => {
  if (!longGuest(c) || (rights(c, 'Cs') & 0x2000) === 0) return c.vmcs.high(Field.GuestRip) === 0;
  // a non-canonical RIP whose bits above the linear-address width are equal faults in the guest instead
  const upper = (c.vmcs.high(Field.GuestRip) | 0) >> (c.linearBits - 32);
  return upper === 0 || upper === -1;
}, { cause: 'RIP came from another mode', fix: 'truncate RIP, or set CS.L' });
check('rflags.reserved', 'Guest RFLAGS bit 1 is 1 and bits 63:22, 15, 5 and 3 are 0', ['GuestRflags'], (c) => (rflags(c) & 0xffc0802a) === 2 && c.vmcs.high(Field.GuestRflags) === 0, { cause: '0 was written', fix: 'write 2' });
check('rflags.vm', 'Guest RFLAGS.VM is 0 in IA-32e mode and with CR0.PE 0', ['GuestRflags', 'EntryControls', 'GuestCr0'], (c) => !virtual8086(c) || (!longGuest(c) && (cr0(c) & 1) !== 0), { cause: 'virtual-8086 mode was left on when the guest changed mode', fix: 'clear VM' });
const injects = (c: CheckContext, type: number): boolean => { const information = c.vmcs.low(Field.EntryInterruptionInformation); return information >>> 31 !== 0 && ((information >>> 8) & 7) === type; };
const info = 'EntryInterruptionInformation' as const;
check('rflags.if', 'Guest RFLAGS.IF is 1 when an external interrupt is injected', ['GuestRflags', info], (c) => !injects(c, 0) || (rflags(c) & 0x200) !== 0, { cause: 'an interrupt is injected while the guest has interrupts off', fix: 'use interrupt-window exiting and inject when the window opens' });

// --- SDM "Checks on Guest Non-Register State" ---------------------------------------------------------------------
check = list.section('Checks on Guest Non-Register State');
const activity = (c: CheckContext): number => c.vmcs.low(Field.GuestActivityState);
const blocking = (c: CheckContext): number => c.vmcs.low(Field.GuestInterruptibilityState);
check('activity.supported', 'The activity state is active, or HLT, shutdown or wait-for-SIPI where the CPU supports it', ['GuestActivityState'], (c) => {
  const { activityHlt, activityShutdown, activityWaitForSipi } = c.capability.profile;
  return [true, activityHlt, activityShutdown, activityWaitForSipi][activity(c)] === true;
}, { cause: unwritten, fix: 'write 0 (active)' });
check('activity.hlt', 'The activity state is not HLT where the SS DPL is not 0', ['GuestActivityState', 'GuestSsAccessRights'], (c) => activity(c) !== 1 || dpl(rights(c, 'Ss')) === 0, { cause: 'HLT is privileged', fix: 'write 0 (active)' });
check('activity.blocking', 'The activity state is active while STI or MOV SS blocks interrupts', ['GuestActivityState', 'GuestInterruptibilityState'], (c) => (blocking(c) & 3) === 0 || activity(c) === 0, { cause: 'STI; HLT was emulated without ending the STI shadow', fix: 'clear bits 1:0 of the interruptibility state' });
check('activity.event', 'The injected event can reach the activity state: HLT takes interrupts, NMIs, #DB and #MC; shutdown NMIs and #MC; wait-for-SIPI nothing', ['GuestActivityState', info], (c) => {
  const information = c.vmcs.low(Field.EntryInterruptionInformation);
  if (information >>> 31 === 0 || activity(c) === 0) return true;
  const type = (information >>> 8) & 7;
  const vector = information & 0xff;
  const machineCheck = type === 3 && vector === 18;
  if (activity(c) === 1) return type === 0 || type === 2 || type === 7 || machineCheck || (type === 3 && vector === 1);
  return activity(c) === 2 && (type === 2 || machineCheck);
}, { cause: 'an event is injected into a sleeping guest that it cannot wake', fix: 'write 0 (active) to the activity state with the event' });
check('blocking.reserved', 'Bits 31:4 of the interruptibility state are 0', ['GuestInterruptibilityState'], (c) => blocking(c) >>> 4 === 0, { cause: unwritten, fix: 'write 0' });
check('blocking.both', 'STI and MOV SS do not block both', ['GuestInterruptibilityState'], (c) => (blocking(c) & 3) !== 3, { cause: unwritten, fix: 'keep one' });
check('blocking.sti', 'STI blocks only with RFLAGS.IF 1', ['GuestInterruptibilityState', 'GuestRflags'], (c) => (blocking(c) & 1) === 0 || (rflags(c) & 0x200) !== 0, { cause: 'IF was cleared without ending the STI shadow', fix: 'clear bit 0' });
check('blocking.interrupt', 'Neither STI nor MOV SS blocks when an external interrupt is injected', ['GuestInterruptibilityState', info], (c) => !injects(c, 0) || (blocking(c) & 3) === 0, { cause: 'the interrupt is injected one instruction too early', fix: 'wait for the interrupt window' });
check('blocking.nmi', 'Neither STI nor MOV SS blocks when an NMI is injected', ['GuestInterruptibilityState', info], (c) => !injects(c, 2) || (blocking(c) & 3) === 0, { cause: 'the NMI is injected one instruction too early', fix: 'wait for the NMI window', qualification: 3 });
check('blocking.smi', 'Blocking by SMI is 0 outside SMM', ['GuestInterruptibilityState'], (c) => (blocking(c) & 4) === 0, { cause: unwritten, fix: 'clear bit 2' });
check('blocking.virtual-nmi', 'With virtual NMIs, NMIs are not blocked when an NMI is injected', ['GuestInterruptibilityState', 'PinBasedControls', info], (c) => !on(c, PinBased.VirtualNmis) || !injects(c, 2) || (blocking(c) & 8) === 0,
  { cause: 'a second NMI is injected inside the handler of the first', fix: 'use NMI-window exiting' });
check('pending-debug.reserved', 'Bits 11:4, 13 and 63:15 of the pending debug exceptions are 0', ['GuestPendingDebugExceptions'], (c) => (c.vmcs.low(Field.GuestPendingDebugExceptions) & 0xffffaff0) === 0 && c.vmcs.high(Field.GuestPendingDebugExceptions) === 0, { cause: unwritten, fix: 'write 0' });
check('pending-debug.step', 'While an instruction boundary is delayed (STI, MOV SS or HLT), pending BS equals RFLAGS.TF without IA32_DEBUGCTL.BTF', ['GuestPendingDebugExceptions', 'GuestInterruptibilityState', 'GuestActivityState', 'GuestRflags', 'GuestIa32Debugctl'], (c) => {
  if ((blocking(c) & 3) === 0 && activity(c) !== 1) return true;
  const step = (rflags(c) & 0x100) !== 0 && (c.vmcs.low(Field.GuestIa32Debugctl) & 2) === 0;
  return step === ((c.vmcs.low(Field.GuestPendingDebugExceptions) & 0x4000) !== 0);
}, { cause: 'an instruction was emulated under TF without raising BS', fix: 'set bit 14 exactly when TF is 1 and BTF is 0' });
check('link-pointer', 'The VMCS link pointer is all ones, or the 4 KiB aligned address of a region with this revision identifier', ['VmcsLinkPointer', 'PrimaryControls', 'SecondaryControls'], (c) => {
  const low = c.vmcs.low(Field.VmcsLinkPointer);
  const high = c.vmcs.high(Field.VmcsLinkPointer);
  if (low === 0xffffffff && high === 0xffffffff) return true;
  if ((low & 0xfff) !== 0 || !physical(c, high)) return false;
  const revision = c.readWord(high * 4294967296 + low);
  return (revision & 0x7fffffff) === c.capability.profile.revision && revision >>> 31 === (on(c, Secondary.VmcsShadowing) ? 1 : 0);
}, { cause: unwritten, fix: 'write all ones', qualification: 4 });

// --- SDM "Checks on Guest Page-Directory-Pointer-Table Entries" ----------------------------------------------------
check = list.section('Checks on Guest Page-Directory-Pointer-Table Entries');
for (const index of [0, 1, 2, 3] as const) {
  const name = `GuestPdpte${index}` as const;
  check(`pdpte${index}`, `With EPT and PAE paging, guest PDPTE${index} has no reserved bit set if it is present`, [name, 'GuestCr0', 'GuestCr4', 'EntryControls', ...unrestrictedFields], (c) => {
    if (!on(c, Secondary.EnableEpt) || longGuest(c) || (cr0(c) & PG) === 0 || (cr4(c) & 0x20) === 0) return true;
    const low = c.vmcs.low(Field[name]);
    return (low & 1) === 0 || ((low & 0x1e6) === 0 && physical(c, c.vmcs.high(Field[name])));
  }, { cause: 'the PDPTE fields were not reloaded after the guest changed CR3', fix: 'copy the four entries from the table at CR3', qualification: 2 });
}

/** SDM "Checks on the Guest State Area", in listing order. A failure is a VM exit with reason 33. */
export const guestChecks = list.rows;
