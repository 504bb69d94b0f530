import { beforeEach, describe, expect, it } from 'vitest';
import type { Cpu } from '../../cpu/cpu.ts';
import { TranslatePurpose } from '../../cpu/hooks.ts';
import { decodeEptPointer, encodeEptPointer } from '../../ept/eptp.ts';
import { EptStop, EptTranslation } from '../../ept/translate.ts';
import type { EptCapability } from '../../vmcs/capability.ts';

const full: EptCapability = { executeOnly: true, pages2m: true, pages1g: true, accessedDirty: true, inveptSingle: true, inveptAll: true };
const nehalem: EptCapability = { ...full, executeOnly: false, pages1g: false, accessedDirty: false };
const { Page, TableRead, TableWrite, Physical } = TranslatePurpose;
const PML4 = 0x1000, PDPT = 0x2000, PD = 0x3000, PT = 0x4000;
const GPA = 0x12_3456_7890; // PML4 index 0, PDPT 0x48, PD 0x1a2, PT 0x167

let words: Map<number, number>;
let cpu: Cpu;
const entry = (table: number, index: number, low: number, high = 0): void => { words.set(table + index * 8, low >>> 0); words.set(table + index * 8 + 4, high >>> 0); };
beforeEach(() => {
  words = new Map();
  cpu = { readPhysical: (at: number) => words.get(at) ?? 0, writePhysical: (at: number, _size: number, value: number) => { words.set(at, value >>> 0); } } as unknown as Cpu;
  entry(PML4, 0, PDPT | 7);
  entry(PDPT, 0x48, PD | 7);
  entry(PD, 0x1a2, PT | 7);
  entry(PT, 0x167, 0xabcde000 | 0x37, 0x2);
});
const make = (capability = full, accessedDirty = false): EptTranslation => {
  const ept = new EptTranslation(capability, 36);
  ept.setPointer(...encodeEptPointer(PML4, accessedDirty));
  return ept;
};

describe('EPT pointer', () => {
  it('has memory type 6 and walk length 4 in bits 5:0', () => {
    expect(encodeEptPointer(0x5000)).toEqual([0x501e, 0]);
    expect(encodeEptPointer(0x2_0000_5000, true)).toEqual([0x505e, 2]);
    expect(decodeEptPointer(0x505e, 2)).toEqual({ root: 0x2_0000_5000, memoryType: 6, walkLength: 4, accessedDirty: true });
  });
});

describe('EPT translation', () => {
  it('walks four levels to a 4 KiB page', () => {
    const ept = make();
    expect(ept.translate(cpu, GPA, 1, Page, 0)).toBe(0x2_abcd_e890);
    expect(ept).toMatchObject({ pageShift: 12, permissions: 7, references: 4, root: 1, memoryType: 6 });
    expect(ept.peek(cpu, GPA)).toBe(0x2_abcd_e890);
  });

  it('maps 2 MiB and 1 GiB pages', () => {
    entry(PD, 0x1a2, 0x40000000 | 0xb7, 1);
    const ept = make();
    expect(ept.translate(cpu, GPA, 2, Page, 0)).toBe(0x1_4000_0000 + (GPA % 2 ** 21));
    expect(ept).toMatchObject({ pageShift: 21, references: 3 });
    expect(ept.peek(cpu, GPA)).toBe(0x1_4000_0000 + (GPA % 2 ** 21));
    entry(PDPT, 0x48, 0xc0000000 | 0xb5);
    expect(ept.translate(cpu, GPA, 4, Page, 0)).toBe(0xc0000000 + (GPA % 2 ** 30));
    expect(ept).toMatchObject({ pageShift: 30, permissions: 5, references: 2 });
  });

  it('gives the permissions common to all levels', () => {
    entry(PML4, 0, PDPT | 3);
    entry(PT, 0x167, 0x5000 | 0x35);
    const ept = make();
    expect(ept.translate(cpu, GPA, 1, Page, 0)).toBe(0x5890);
    expect(ept.permissions).toBe(1);
  });

  // SDM table "Exit Qualification for EPT Violations"
  it.each([
    ['data read of an absent page', 0, 1, Page, 0x181],
    ['data write to a read-only page', 0x35 & ~4, 2, Page, 0x18a],
    ['fetch from a page without execute', 0x33, 4, Page, 0x19c],
    ['guest table read through an absent page', 0, 1, TableRead, 0x81],
    ['guest table update through a read-only page', 0x31, 2, TableWrite, 0x8b],
    ['PDPTE load: no linear address', 0, 1, Physical, 0x01],
  ] as const)('reports %s', (_, low, access, purpose, qualification) => {
    entry(PT, 0x167, low ? 0x5000 | low : 0);
    const ept = make();
    expect(ept.translate(cpu, GPA, access, purpose, -0x7000)).toBe(-1);
    expect(ept).toMatchObject({ stopReason: EptStop.Violation, stopQualification: qualification, stopGuestPhysical: GPA, stopLinear: purpose === Physical ? 0 : -0x7000 });
  });

  it('treats guest table reads as writes with accessed and dirty flags on', () => {
    entry(PT, 0x167, 0x5000 | 0x31);
    const ept = make(full, true);
    expect(ept.translate(cpu, GPA, 1, TableRead, 0)).toBe(-1);
    expect(ept.stopQualification).toBe(0x8b); // read and write, readable
    expect(ept.translate(cpu, GPA, 1, Page, 0)).toBe(0x5890);
  });

  // SDM "EPT Misconfigurations"
  it.each([
    ['write without read', () => entry(PT, 0x167, 0x5000 | 0x32), full],
    ['write and execute without read', () => entry(PDPT, 0x48, PD | 6), full],
    ['execute-only where it is not supported', () => entry(PT, 0x167, 0x5000 | 0x34), nehalem],
    ['bits 7:3 of a PML4 entry', () => entry(PML4, 0, PDPT | 0x87), full],
    ['bits 6:3 of a PDPTE that refers to a table', () => entry(PDPT, 0x48, PD | 0x0f), full],
    ['bits 6:3 of a PDE that refers to a table', () => entry(PD, 0x1a2, PT | 0x47), full],
    ['a 1 GiB page where it is not supported', () => entry(PDPT, 0x48, 0xc0000000 | 0xb7), nehalem],
    ['address bits of a large page', () => entry(PD, 0x1a2, 0x40001000 | 0xb7), full],
    ['memory type 2', () => entry(PT, 0x167, 0x5000 | 0x17), full],
    ['an address beyond the physical width', () => entry(PD, 0x1a2, PT | 7, 0x10), full],
  ] as const)('misconfigures on %s', (_, change, capability) => {
    change();
    const ept = make(capability);
    expect(ept.translate(cpu, GPA, 1, Page, 5)).toBe(-1);
    expect(ept).toMatchObject({ stopReason: EptStop.Misconfiguration, stopGuestPhysical: GPA });
  });

  it('ignores reserved settings of an entry that is not present, and bits 63:52', () => {
    entry(PT, 0x167, 0x5010, 0);
    const ept = make();
    expect(ept.translate(cpu, GPA, 1, Page, 0)).toBe(-1);
    expect(ept.stopReason).toBe(EptStop.Violation);
    entry(PT, 0x167, 0x5000 | 0x37, 0x80100000);
    expect(ept.translate(cpu, GPA, 1, Page, 0)).toBe(0x5890);
  });

  it('allows execute-only pages to be fetched from but not read', () => {
    entry(PT, 0x167, 0x5000 | 0x34);
    const ept = make();
    expect(ept.translate(cpu, GPA, 4, Page, 0)).toBe(0x5890);
    expect(ept.translate(cpu, GPA, 1, Page, 0)).toBe(-1);
    expect(ept.stopQualification).toBe(0x1a1);
  });

  it('sets accessed flags on the way and the dirty flag of the page on writes', () => {
    const ept = make(full, true);
    ept.translate(cpu, GPA, 1, Page, 0);
    for (const at of [PML4, PDPT + 0x48 * 8, PD + 0x1a2 * 8, PT + 0x167 * 8]) expect(words.get(at)! & 0x300).toBe(0x100);
    expect(ept.permissions).toBe(5); // not writable before it is dirty
    ept.translate(cpu, GPA, 2, Page, 0);
    expect(words.get(PT + 0x167 * 8)! & 0x300).toBe(0x300);
    expect(words.get(PD + 0x1a2 * 8)! & 0x200).toBe(0);
    expect(ept.permissions).toBe(7);
    const plain = make();
    entry(PT, 0x167, 0x5000 | 0x37);
    plain.translate(cpu, GPA, 2, Page, 0);
    expect(words.get(PT + 0x167 * 8)! & 0x300).toBe(0);
  });
});
