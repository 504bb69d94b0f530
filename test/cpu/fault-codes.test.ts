import { expect, it } from 'vitest';
import { Flag, S, SegmentIndex } from '../../cpu/state.ts';
import { At, SystemMachine } from './system-machine.ts';

/*
 * Vector, error code, CS and RF of the pushed flags for faulting instructions in 32-bit protected mode, as Bochs 2.7
 * delivers them (a boot sector printed them; QEMU 7.2 agrees except that it leaves EXT and RF clear, loads a null TR,
 * and lets CR0.PG be set without PE). Every case starts from the same GDT and an IDT of interrupt gates for vectors
 * 0 to 31 (ring 0) and 0x80 (ring 3).
 */
const gdt: readonly (readonly [number, number])[] = [
  [0, 0], [0x0000ffff, 0x00cf9b00], [0x0000ffff, 0x00cf9300], [0x0000ffff, 0x00cffb00], [0x0000ffff, 0x00cff300], [0, 0],
  [0x0000ffff, 0x00cf1300], // 30: data, not present
  [0x0000ffff, 0x00cf9f00], // 38: conforming code
  [0x00180100, 0x0000ec00], // 40: call gate of ring 3 to ring 3 code
  [0x00080100, 0x00008c00], // 48: call gate of ring 0
  [0x0000ffff, 0x00cf1b00], // 50: code, not present
  [0x0000ffff, 0x00cf9100], // 58: read-only data
  [0x0000ffff, 0x00cf9800], // 60: execute-only code
];

type Prepare = (m: SystemMachine) => void;
const ax = (value: number): Prepare => (m) => m.cpu.setReg32(0, value);
const gateSelector = (vector: number, selector: number): Prepare => (m) => m.ram.setUint16(At.idt + vector * 8 + 2, selector, true);
const gateAbsent = (vector: number): Prepare => (m) => m.ram.setUint8(At.idt + vector * 8 + 5, m.ram.getUint8(At.idt + vector * 8 + 5) & 0x7f);
const all = (...steps: readonly Prepare[]): Prepare => (m) => { for (const step of steps) step(m); };
/** Dwords on the stack, the first one on top. */
const stack = (...values: readonly number[]): Prepare => (m) => {
  m.cpu.setReg32(4, 0x7f00);
  values.forEach((value, i) => m.ram.setUint32(0x7f00 + i * 4, value, true));
};
const nested = (link: number): Prepare => (m) => {
  m.cpu.flags = Flag.NT | 2;
  m.ram.setUint16(At.tss, link, true);
};
const nothing: Prepare = () => {};
const far = (opcode: number, selector: number): number[] => [opcode, 0, 0, 0, 0, selector & 0xff, selector >> 8];
const movDs = [0x8e, 0xd8];
const movSs = [0x8e, 0xd0];
const int80 = [0xcd, 0x80];
const ud2 = [0x0f, 0x0b];

const cases: readonly (readonly [string, 0 | 3, Prepare, readonly number[], string])[] = [
  ['INT 80 from ring 3, gate not present', 3, gateAbsent(0x80), int80, '0b 402 1b 1'],
  ['INT 21 from ring 3, gate of ring 0', 3, nothing, [0xcd, 0x21], '0d 10a 1b 1'],
  ['INT 80, null selector', 0, gateSelector(0x80, 0), int80, '0d 0 8 1'],
  ['INT 80, data selector', 0, gateSelector(0x80, 0x10), int80, '0d 10 8 1'],
  ['INT 80, code not present', 0, gateSelector(0x80, 0x50), int80, '0b 50 8 1'],
  ['INT 80, outer ring', 0, gateSelector(0x80, 0x18), int80, '0d 18 8 1'],
  ['#UD, gate not present: EXT', 0, gateAbsent(6), ud2, '0b 33 8 1'],
  ['#UD, data selector: EXT', 0, gateSelector(6, 0x10), ud2, '0d 11 8 1'],
  ['#UD, null selector: EXT', 0, gateSelector(6, 0), ud2, '0d 1 8 1'],
  ['INT 90 outside the IDT, #GP gate bad', 0, gateSelector(13, 0x10), [0xcd, 0x90], '08 0 8 1'],
  ['#NP, its gate bad', 0, all(ax(0x30), gateSelector(11, 0x10)), movDs, '08 0 8 1'],
  ['#NP, its gate and that of #GP bad', 0, all(ax(0x30), gateSelector(11, 0x10), gateSelector(13, 0x10)), movDs, '08 0 8 1'],
  ['INT 90 outside the IDT', 0, nothing, [0xcd, 0x90], '0d 482 8 1'],
  ['MOV SS, not present', 0, ax(0x30), movSs, '0c 30 8 1'],
  ['MOV DS, not present', 0, ax(0x30), movDs, '0b 30 8 1'],
  ['MOV SS, null', 0, ax(0), movSs, '0d 0 8 1'],
  ['MOV DS, execute-only', 0, ax(0x60), movDs, '0d 60 8 1'],
  ['MOV SS, read-only', 0, ax(0x58), movSs, '0d 58 8 1'],
  ['MOV DS, RPL above DPL', 0, ax(0x13), movDs, '0d 10 8 1'],
  ['MOV SS, RPL not CPL', 0, ax(0x13), movSs, '0d 10 8 1'],
  ['MOV DS, TSS', 0, ax(0x28), movDs, '0d 28 8 1'],
  ['MOV DS, outside the GDT', 0, ax(0x88), movDs, '0d 88 8 1'],
  ['JMP, null', 0, nothing, far(0xea, 0), '0d 0 8 1'],
  ['JMP, data', 0, nothing, far(0xea, 0x10), '0d 10 8 1'],
  ['JMP, outer ring', 0, nothing, far(0xea, 0x18), '0d 18 8 1'],
  ['JMP, not present', 0, nothing, far(0xea, 0x50), '0b 50 8 1'],
  ['JMP, busy TSS', 0, nothing, far(0xea, 0x28), '0d 28 8 1'],
  ['CALL, gate outward', 0, nothing, far(0x9a, 0x40), '0d 18 8 1'],
  ['JMP, gate outward', 0, nothing, far(0xea, 0x40), '0d 18 8 1'],
  ['CALL from ring 3, gate of ring 0', 3, nothing, far(0x9a, 0x48), '0d 48 1b 1'],
  ['CALL from ring 3, inner code', 3, nothing, far(0x9a, 0x08), '0d 8 1b 1'],
  ['HLT', 3, nothing, [0xf4], '0d 0 1b 1'],
  ['CLI', 3, nothing, [0xfa], '0d 0 1b 1'],
  ['IN', 3, (m) => m.cpu.setSegment(SegmentIndex.TR, 0x28, At.tss, 0x67, 0x8b), [0xe4, 0x40], '0d 0 1b 1'],
  ['MOV EAX, CR0', 3, nothing, [0x0f, 0x20, 0xc0], '0d 0 1b 1'],
  ['LGDT', 3, nothing, [0x0f, 0x01, 0x10], '0d 0 1b 1'],
  ['MOV DS from ring 3, inner data', 3, ax(0x10), movDs, '0d 10 1b 1'],
  ['LTR', 3, nothing, [0x0f, 0x00, 0xd8], '0d 0 1b 1'],
  ['INVLPG', 3, nothing, [0x0f, 0x01, 0x38], '0d 0 1b 1'],
  ['WBINVD', 3, nothing, [0x0f, 0x09], '0d 0 1b 1'],
  ['RDMSR', 3, nothing, [0x0f, 0x32], '0d 0 1b 1'],
  ['IRETD, null CS', 0, stack(0, 0, 2), [0xcf], '0d 0 8 1'],
  ['IRETD, data', 0, stack(0, 0x10, 2), [0xcf], '0d 10 8 1'],
  ['IRETD, not present', 0, stack(0, 0x50, 2), [0xcf], '0b 50 8 1'],
  ['IRETD outward, null SS', 0, stack(0, 0x1b, 2, 0xa000, 0), [0xcf], '0d 0 8 1'],
  ['IRETD outward, RPL of SS', 0, stack(0, 0x1b, 2, 0xa000, 0x20), [0xcf], '0d 20 8 1'],
  ['IRETD outward, read-only SS', 0, stack(0, 0x1b, 2, 0xa000, 0x5b), [0xcf], '0d 58 8 1'],
  ['IRETD, RPL not DPL', 0, stack(0, 0x1a, 2), [0xcf], '0d 18 8 1'],
  ['IRETD with NT, link not a TSS', 0, nested(0x10), [0xcf], '0a 10 8 1'],
  ['IRETD with NT, null link', 0, nested(0), [0xcf], '0a 0 8 1'],
  ['LTR, null', 0, ax(0), [0x0f, 0x00, 0xd8], '0d 0 8 1'],
  ['LTR, busy', 0, ax(0x28), [0x0f, 0x00, 0xd8], '0d 28 8 1'],
  ['LLDT, not an LDT', 0, ax(0x10), [0x0f, 0x00, 0xd0], '0d 10 8 1'],
  ['LLDT, from the LDT', 0, ax(0x2c), [0x0f, 0x00, 0xd0], '0d 2c 8 1'],
  ['MOV CR0, PG without PE', 0, ax(0x80000000), [0x0f, 0x22, 0xc0], '0d 0 8 1'],
  ['MOV CR0, NW without CD', 0, ax(0x20000001), [0x0f, 0x22, 0xc0], '0d 0 8 1'],
  ['MOV CR4, reserved bit', 0, ax(0x80000), [0x0f, 0x22, 0xe0], '0d 0 8 1'],
  ['MOV CR1', 0, nothing, [0x0f, 0x22, 0xc8], '06 - 8 1'],
  ['INT1', 0, nothing, [0xf1], '01 - 8 0'],
  ['INT3', 0, nothing, [0xcc], '03 - 8 0'],
  ['INTO', 0, (m) => { m.cpu.flags = Flag.OF | 2; }, [0xce], '04 - 8 0'],
  ['RETF, not present', 0, stack(0, 0x50), [0xcb], '0b 50 8 1'],
  ['RETF, data', 0, stack(0, 0x11), [0xcb], '0d 10 8 1'],
  ['RETF outward, null SS', 0, stack(0, 0x1b, 0xa000, 0), [0xcb], '0d 0 8 1'],
];

it.each(cases)('%s', (_name, ring, prepare, bytes, expected) => {
  const m = new SystemMachine().protect(ring);
  gdt.forEach(([low, high], i) => {
    if (i === 5) return; // the TSS stays
    m.ram.setUint32(At.gdt + i * 8, low, true);
    m.ram.setUint32(At.gdt + i * 8 + 4, high, true);
  });
  m.cpu.set32(S.gdtrLimit, 0x7f);
  m.cpu.set32(S.idtrLimit, 0x407);
  prepare(m);
  m.step(...bytes);
  const vector = (m.cpu.rip - At.handler) / 16;
  const hasError = [8, 10, 11, 12, 13, 14].includes(vector);
  const frame = m.dwords(m.cpu.reg32(4), 4);
  const [error, cs, flags] = hasError ? [frame[0]!.toString(16), frame[2]!, frame[3]!] : ['-', frame[1]!, frame[2]!];
  expect(`${vector.toString(16).padStart(2, '0')} ${error} ${cs.toString(16)} ${(flags >> 16) & 1}`).toBe(expected);
});
