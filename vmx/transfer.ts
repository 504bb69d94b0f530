import type { Cpu } from '../cpu/cpu.ts';
import { S, Segment, SEGMENT_SIZE } from '../cpu/state.ts';
import { Field, type FieldName, type Field as VmcsField } from '../vmcs/field.ts';
import type { Vmcs } from '../vmcs/storage.ts';

/** A guest register and the field it is saved in; `words` moves only that many words (the rest of the register becomes 0 on entry). */
type Pair = readonly [field: FieldName, offset: number];

const segments = ['Es', 'Cs', 'Ss', 'Ds', 'Fs', 'Gs', 'Ldtr', 'Tr'] as const;

/**
 * Guest registers that move unchanged between VMCS and CPU at every entry and exit (SDM "Loading Guest Control
 * Registers…", "Loading Guest Segment Registers…" and "Saving Guest State"). CR0, RFLAGS, DR7 and the registers that
 * depend on controls have rules of their own in vmx/entry.ts and vmx/exit.ts.
 */
const pairs: readonly Pair[] = [
  ['GuestCr3', S.cr3], ['GuestCr4', S.cr4], ['GuestRsp', S.gpr + 4 * 8], ['GuestRip', S.rip],
  ...segments.flatMap((name, n): Pair[] => {
    const at = S.segment + n * SEGMENT_SIZE;
    return [[`Guest${name}Selector`, at + Segment.selector], [`Guest${name}Base`, at + Segment.base], [`Guest${name}Limit`, at + Segment.limit], [`Guest${name}AccessRights`, at + Segment.attributes]];
  }),
  ['GuestGdtrBase', S.gdtrBase], ['GuestGdtrLimit', S.gdtrLimit], ['GuestIdtrBase', S.idtrBase], ['GuestIdtrLimit', S.idtrLimit],
  ['GuestIa32SysenterCs', S.sysenterCs], ['GuestIa32SysenterEsp', S.sysenterEsp], ['GuestIa32SysenterEip', S.sysenterEip],
];

const flat: number[] = [];
for (const [member, offset] of pairs) {
  for (let i = 0; i < Field[member].words; i++) flat.push(Field[member].word + i, offset / 4 + i);
}
const moves = Int32Array.from(flat);

/** Guest registers from the VMCS to the CPU. */
export function loadGuestRegisters(cpu: Cpu, vmcs: Vmcs): void {
  const { words, base } = vmcs;
  const state = cpu.u32;
  const at = cpu.base >>> 2;
  for (let i = 0; i < moves.length; i += 2) state[at + moves[i + 1]!] = words[base + moves[i]!]!;
  state[at + ((S.sysenterCs + 4) >>> 2)] = 0;
}

/** Guest registers from the CPU to the VMCS. */
export function saveGuestRegisters(cpu: Cpu, vmcs: Vmcs): void {
  const { words, base } = vmcs;
  const state = cpu.u32;
  const at = cpu.base >>> 2;
  for (let i = 0; i < moves.length; i += 2) words[base + moves[i]!] = state[at + moves[i + 1]!]!;
}

/** Moves one 64-bit register. */
export function loadPair(cpu: Cpu, vmcs: Vmcs, field: VmcsField, offset: number): void {
  cpu.set32(offset, vmcs.low(field));
  cpu.set32(offset + 4, vmcs.high(field));
}
export function savePair(cpu: Cpu, vmcs: Vmcs, field: VmcsField, offset: number): void {
  vmcs.set(field, cpu.get32(offset), cpu.get32(offset + 4));
}

/** CR0 bits that neither entry nor exit changes: ET, NW, CD, and reserved bits (SDM "Loading Guest Control Registers, Debug Registers, and MSRs"). */
export const CR0_KEPT = 0x7ffaffd0;
export const pdpteFields = [Field.GuestPdpte0, Field.GuestPdpte1, Field.GuestPdpte2, Field.GuestPdpte3] as const;
