import type { Cpu } from '../cpu/cpu.ts';
import { Access, Cr0, Cr4, Efer, Flag, S, Segment, SEGMENT_SIZE } from '../cpu/state.ts';
import { fields, type Field as FieldRow } from '../vmcs/field.ts';
import { Field } from '../vmcs/field.ts';
import type { Vmcs } from '../vmcs/storage.ts';

/**
 * Moves guest registers between the VMCS, the physical CPU and a virtual CPU. The only file of the VT-x monitors
 * that knows the CPU state layout.
 */

/** Registers that VM exits leave in the physical CPU: [state offset, bytes]. RSP is in the VMCS. */
const live: readonly (readonly [number, number])[] = [
  [S.gpr, 4 * 8], [S.gpr + 5 * 8, 11 * 8], [S.cr2, 8], [S.dr, 7 * 8], [S.star, 5 * 8], [S.tscAux, 8], [S.xcr0, 8], [S.mxcsr, 4], [S.xmm, 256], [S.x87, 512],
];

interface Moved { readonly field: FieldRow; readonly offset: number; readonly words: 1 | 2 }
const byName = (name: string): FieldRow => {
  const field = fields.find((candidate) => candidate === (Field as Record<string, FieldRow>)[name]);
  if (!field) throw new Error(`no VMCS field ${name}`);
  return field;
};
const segments = ['Es', 'Cs', 'Ss', 'Ds', 'Fs', 'Gs', 'Ldtr', 'Tr'].flatMap((name, n): Moved[] => {
  const at = S.segment + n * SEGMENT_SIZE;
  return [
    { field: byName(`Guest${name}Selector`), offset: at + Segment.selector, words: 1 },
    { field: byName(`Guest${name}Base`), offset: at + Segment.base, words: 2 },
    { field: byName(`Guest${name}Limit`), offset: at + Segment.limit, words: 1 },
    { field: byName(`Guest${name}AccessRights`), offset: at + Segment.attributes, words: 1 },
  ];
});
const moved: readonly Moved[] = [
  ...segments,
  { field: Field.GuestGdtrBase, offset: S.gdtrBase, words: 2 }, { field: Field.GuestGdtrLimit, offset: S.gdtrLimit, words: 1 },
  { field: Field.GuestIdtrBase, offset: S.idtrBase, words: 2 }, { field: Field.GuestIdtrLimit, offset: S.idtrLimit, words: 1 },
  { field: Field.GuestRip, offset: S.rip, words: 2 }, { field: Field.GuestRsp, offset: S.gpr + 4 * 8, words: 2 },
  { field: Field.GuestDr7, offset: S.dr + 7 * 8, words: 2 },
  { field: Field.GuestIa32SysenterCs, offset: S.sysenterCs, words: 1 }, { field: Field.GuestIa32SysenterEsp, offset: S.sysenterEsp, words: 2 }, { field: Field.GuestIa32SysenterEip, offset: S.sysenterEip, words: 2 },
];
/** VMCS fields that a state transfer reads or writes, for billing. */
export const TRANSFER_FIELDS = moved.length + 1;

/** What a monitor keeps of the guest's control registers, as the guest believes them to be. */
export interface VirtualControl { cr0: number; cr3: number; cr4: number; efer: number }

/** VMCS and physical CPU to virtual CPU. */
export function loadVirtual(virtual: Cpu, physical: Cpu, v: Vmcs, control: VirtualControl): void {
  for (const [offset, bytes] of live) virtual.u8.copyWithin(virtual.base + offset, physical.base + offset, physical.base + offset + bytes);
  for (const { field, offset, words } of moved) {
    virtual.set32(offset, v.low(field));
    if (words === 2) virtual.set32(offset + 4, v.high(field));
  }
  virtual.flags = v.low(Field.GuestRflags);
  virtual.setSigned(S.cr0, control.cr0);
  virtual.setSigned(S.cr3, control.cr3);
  virtual.setSigned(S.cr4, control.cr4);
  virtual.setSigned(S.efer, control.efer);
  virtual.cpl = (v.low(Field.GuestSsAccessRights) >> Access.DplShift) & 3;
  virtual.set32(S.activity, 0);
  const blocking = v.low(Field.GuestInterruptibilityState);
  virtual.set32(S.blockInterrupts, blocking & 3);
  virtual.setFloat(S.shadowAt, blocking & 3 ? physical.retired : -1);
}

/** Virtual CPU back to the VMCS and the physical CPU. */
export function storeVirtual(virtual: Cpu, physical: Cpu, write: (field: FieldRow, low: number, high: number) => void, control: VirtualControl): void {
  for (const [offset, bytes] of live) physical.u8.copyWithin(physical.base + offset, virtual.base + offset, virtual.base + offset + bytes);
  for (const { field, offset, words } of moved) write(field, virtual.get32(offset), words === 2 ? virtual.get32(offset + 4) : 0);
  write(Field.GuestRflags, virtual.flags, 0);
  control.cr0 = virtual.get32(S.cr0);
  control.cr3 = virtual.getSigned(S.cr3);
  control.cr4 = virtual.get32(S.cr4);
  control.efer = virtual.get32(S.efer);
  write(Field.GuestInterruptibilityState, virtual.shadowNow, 0);
}

/** PDPTEs of the virtual CPU (PAE paging), as [low, high] pairs. */
export function pdptes(virtual: Cpu): readonly (readonly [number, number])[] {
  return [0, 1, 2, 3].map((n) => [virtual.get32(S.pdpte + 8 * n), virtual.get32(S.pdpte + 8 * n + 4)] as const);
}

/** The page-fault address register. */
export function setPageFaultAddress(cpu: Cpu, linear: number): void { cpu.setSigned(S.cr2, linear); }
/** Parks the CPU in the HLT state, or wakes it. */
export function setHalted(cpu: Cpu, halted: boolean): void { cpu.set32(S.activity, halted ? 1 : 0); }
/** Puts the CPU into the shutdown state. */
export function shutDown(cpu: Cpu): void {
  cpu.set32(S.activity, 2);
  // the engine would fetch from the firmware page again
  cpu.leaveSoon();
}

/** Host environment of a VT-x monitor: 64-bit mode on its own tables, at the firmware page. */
export function enterHost(cpu: Cpu, options: { readonly cr3: number; readonly rip: number; readonly gdt: number; readonly tss: number; readonly stack: number }): void {
  for (let n = 0; n < 16; n++) cpu.setReg64(n, 0n);
  cpu.setSigned(S.cr0, Cr0.PG | Cr0.PE | Cr0.NE | Cr0.ET | Cr0.WP);
  cpu.set32(S.cr0 + 4, 0);
  cpu.setSigned(S.cr3, options.cr3);
  cpu.setSigned(S.cr4, Cr4.PAE | Cr4.VMXE | Cr4.OSFXSR | Cr4.OSXMMEXCPT);
  cpu.setSigned(S.efer, Efer.LME | Efer.LMA | Efer.NXE);
  for (const n of [0, 2, 3, 4, 5]) cpu.setSegment(n, 0x10, 0, 0xffffffff, 0xc093);
  cpu.setSegment(1, 8, 0, 0xffffffff, 0xa09b);
  cpu.setSegment(6, 0, 0, 0, 0x10082);
  cpu.setSegment(7, 0x18, options.tss, 0x67, 0x8b);
  cpu.setSigned(S.gdtrBase, options.gdt);
  cpu.set32(S.gdtrLimit, 0x27);
  cpu.set32(S.idtrLimit, 0);
  cpu.setSigned(S.gpr + 4 * 8, options.stack);
  cpu.flags = 2;
  cpu.cpl = 0;
  cpu.rip = options.rip;
  cpu.setSigned(S.featureControl, 5);
  cpu.mmu.updateContext();
}

export const FlagBits = { IF: Flag.IF } as const;
export const Cr0Bits = Cr0;
export const Cr4Bits = Cr4;
export const EferBits = Efer;
