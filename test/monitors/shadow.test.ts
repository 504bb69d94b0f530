import { describe, expect, test } from 'vitest';
import { AccessKind } from '../../cpu/mmu.ts';
import { Cr0, Cr4, Efer } from '../../cpu/state.ts';
import { GUEST_MEMORY, ShadowMachine, type ModeSettings } from './shadow-machine.ts';

const { Read, Write, Execute } = AccessKind;
const P = 1, W = 2, U = 4, A = 0x20, D = 0x40, PS = 0x80;
const NX = 0x80000000;
const PAGED = Cr0.PG | Cr0.WP;

/** 32-bit tables: directory at 0x1000, table for the first 4 MiB at 0x2000. */
function small(machine: ShadowMachine, settings: ModeSettings = {}): void {
  machine.put(0x1000, 0x2000 | P | W | U);
  machine.mode({ cr0: PAGED, cr3: 0x1000, ...settings });
}

describe('32-bit paging', () => {
  test('fills on demand, at the offset of the guest\'s memory, and sets the accessed flags', () => {
    const machine = new ShadowMachine();
    machine.put(0x2000 + 5 * 4, 0x7000 | P | W);
    small(machine);
    expect(machine.access(0x5123, Read, false)).toBe('at 28963'); // 0x7123
    expect(machine.get(0x2014)).toBe(0x7000 | P | W | A);
    expect(machine.get(0x1000) & A).toBe(A);
    expect(machine.shadow.counters.fills).toBe(1);
    expect(machine.access(0x5ffc, Read, false)).toBe('at 32764');
    expect(machine.shadow.counters.fills).toBe(1);
  });
  test('sets the dirty flag at the first write, not before', () => {
    const machine = new ShadowMachine();
    machine.put(0x2014, 0x7000 | P | W);
    small(machine);
    machine.access(0x5000, Read, false);
    expect(machine.get(0x2014) & D).toBe(0);
    expect(machine.access(0x5000, Write, false)).toBe('at 28672');
    expect(machine.get(0x2014) & D).toBe(D);
    expect(machine.shadow.counters.fills).toBe(2);
  });
  test.each([
    ['not present', 0x7000, Read, false, 0], ['not present, user write', 0x7000, Write, true, 6], ['user reads a supervisor page', 0x7000 | P | W, Read, true, 5],
    ['user writes a read-only page', 0x7000 | P | U, Write, true, 7], ['kernel writes a read-only page under WP', 0x7000 | P | U, Write, false, 3],
  ] as const)('the guest\'s own fault: %s', (_name, entry, kind, user, error) => {
    const machine = new ShadowMachine();
    machine.put(0x2014, entry);
    small(machine);
    expect(machine.access(0x5000, kind, user)).toBe(`fault ${error}`);
    expect(machine.get(0x2014)).toBe(entry);
  });
  test('with WP clear the kernel writes a read-only user page, and the user still cannot', () => {
    const machine = new ShadowMachine();
    machine.put(0x2014, 0x7000 | P | U);
    small(machine, { cr0: Cr0.PG });
    expect(machine.access(0x5000, Write, false)).toBe('at 28672');
    expect(machine.get(0x2014) & D).toBe(D);
    expect(machine.access(0x5000, Read, true)).toBe('at 28672');
    expect(machine.access(0x5000, Write, true)).toBe('fault 7');
    expect(machine.access(0x5000, Write, false)).toBe('at 28672');
  });
  test('SMAP without SMEP or NX: error codes do not tell fetches from reads, and still only reads are forbidden', () => {
    const machine = new ShadowMachine();
    machine.put(0x2014, 0x7000 | P | U);
    small(machine, { cr4: Cr4.SMAP });
    expect(machine.access(0x5000, Read, false)).toBe('fault 1');
    expect(machine.access(0x5000, Execute, false)).toBe('at 28672');
    expect(machine.access(0x5000, Write, false)).toBe('fault 3');
    expect(machine.access(0x5000, Read, true)).toBe('at 28672');
  });
  test('pages outside RAM are devices and are never mapped', () => {
    const machine = new ShadowMachine();
    machine.put(0x2014, (0xfee00000 | P | W) >>> 0);
    small(machine);
    expect(machine.access(0x5020, Write, false)).toBe(`device ${0xfee00020}`);
    expect(machine.shadow.counters.fills).toBe(0);
  });
  test('tables outside RAM read as ones', () => {
    const machine = new ShadowMachine();
    machine.put(0x1000, (0x40000000 | P | W | U) >>> 0);
    machine.mode({ cr0: PAGED, cr3: 0x1000 });
    expect(machine.access(0x5000, Read, false)).toBe(machine.expected(0x5000, Read, false));
  });
  test('a stale translation stays until INVLPG or a CR3 write, as in a TLB', () => {
    const machine = new ShadowMachine();
    machine.put(0x2014, 0x7000 | P | W);
    small(machine);
    machine.access(0x5000, Read, false);
    machine.put(0x2014, 0x9000 | P | W);
    expect(machine.access(0x5000, Read, false)).toBe('at 28672');
    machine.shadow.invalidate(0x5000);
    expect(machine.access(0x5000, Read, false)).toBe('at 36864');
    machine.put(0x2014, 0x7000 | P | W);
    small(machine);
    expect(machine.access(0x5000, Read, false)).toBe('at 28672');
  });
  test('INVLPG of any address in a 4-MiB page drops all its pieces', () => {
    const machine = new ShadowMachine();
    machine.put(0x1004, 0x400000 | P | W | PS);
    machine.mode({ cr0: PAGED, cr4: Cr4.PSE, cr3: 0x1000 });
    expect(machine.access(0x400010, Read, false)).toBe(`at ${0x400010}`);
    expect(machine.access(0x555555, Read, false)).toBe(`at ${0x555555}`);
    machine.put(0x1004, P | W | PS);
    machine.shadow.invalidate(0x7fffff);
    expect(machine.access(0x400010, Read, false)).toBe('at 16');
    expect(machine.access(0x555555, Read, false)).toBe(`at ${0x155555}`);
  });
});

test('unpaged guests get identity tables', () => {
  const machine = new ShadowMachine();
  machine.mode({ cr0: 0 });
  expect(machine.access(0x123456, Write, true)).toBe(`at ${0x123456}`);
  expect(machine.access(GUEST_MEMORY, Read, false)).toBe(`device ${GUEST_MEMORY}`);
});

test('writes to watched pages are reported, reads are not', () => {
  const machine = new ShadowMachine(512, { traced: (page) => page === 7 });
  machine.put(0x2014, 0x7000 | P | W);
  small(machine);
  expect(machine.access(0x5004, Read, false)).toBe('at 28676');
  expect(machine.access(0x5004, Write, false)).toBe('traced 28676');
  expect(machine.access(0x5004, Read, false)).toBe('at 28676');
});

test('drops everything when its memory is full, and says so', () => {
  const machine = new ShadowMachine(12);
  for (let i = 0; i < 8; i++) machine.put(0x1000 + i * 4, 0x2000 | P | W);
  for (let i = 0; i < 1024; i++) machine.put(0x2000 + i * 4, (i * 4096) | P | W | D);
  machine.put(0x2000 + 4, 0x1000 | P | W);
  small(machine, {});
  for (let round = 0; round < 3; round++) for (let i = 1; i < 8; i++) expect(machine.access(i * 0x400000 + 0x3000, Write, false)).toBe(`at ${0x3000}`);
  expect(machine.shadow.counters.poolFlushes).toBe(0);
  const tight = new ShadowMachine(9);
  for (let i = 0; i < 8; i++) tight.put(0x1000 + i * 4, 0x2000 | P | W);
  for (let i = 0; i < 1024; i++) tight.put(0x2000 + i * 4, (i * 4096) | P | W | D);
  small(tight);
  for (let round = 0; round < 3; round++) for (let i = 1; i < 8; i++) expect(tight.access(i * 0x400000 + 0x3000, Write, false)).toBe(`at ${0x3000}`);
  expect(tight.shadow.counters.poolFlushes).toBeGreaterThan(2);
});

/** A generator of our own: the same numbers on every run. */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

const modes: readonly (readonly [string, ModeSettings, number])[] = [
  ['32-bit', { cr0: PAGED }, 4], ['32-bit, WP clear', { cr0: Cr0.PG }, 4], ['32-bit with PSE', { cr0: PAGED, cr4: Cr4.PSE }, 4], ['32-bit with SMEP', { cr0: PAGED, cr4: Cr4.PSE | Cr4.SMEP }, 4],
  ['32-bit with SMEP and SMAP', { cr0: PAGED, cr4: Cr4.PSE | Cr4.SMEP | Cr4.SMAP }, 4],
  ['PAE', { cr0: PAGED, cr4: Cr4.PAE }, 8], ['PAE with NX', { cr0: PAGED, cr4: Cr4.PAE, efer: Efer.NXE }, 8], ['PAE with NX and SMEP, WP clear', { cr0: Cr0.PG, cr4: Cr4.PAE | Cr4.SMEP, efer: Efer.NXE }, 8],
  ['4-level', { cr0: PAGED, cr4: Cr4.PAE, efer: Efer.LME | Efer.LMA }, 8], ['4-level with NX', { cr0: PAGED, cr4: Cr4.PAE, efer: Efer.LME | Efer.LMA | Efer.NXE }, 8],
  ['4-level with NX, SMEP and SMAP, WP clear', { cr0: Cr0.PG, cr4: Cr4.PAE | Cr4.SMEP | Cr4.SMAP, efer: Efer.LME | Efer.LMA | Efer.NXE }, 8],
];

describe('random tables: the shadow permits, faults and marks exactly as the guest\'s own tables do', () => {
  test.each(modes)('%s', (name, settings, bytes) => {
    const machine = new ShadowMachine();
    const next = random(name.length * 7919);
    const tables = 0x10000;
    const size = 0x8000;
    for (let round = 0; round < 12; round++) {
      const long = ((settings.efer ?? 0) & Efer.LMA) !== 0;
      // four levels of one or two tables each; every entry leads to a table of the next level or to some page
      const levels = long ? 4 : bytes === 8 ? 3 : 2;
      for (let level = 0; level < levels; level++) {
        for (let i = 0; i < 4096 / bytes; i++) {
          const leaf = level === levels - 1;
          const large = !leaf && level > 0 && next(4) === 0;
          let low = leaf ? next(GUEST_MEMORY / 4096 + 40) * 4096 : large ? next(8) * 0x200000 : tables + (level + 1) * 0x1000;
          if (large && bytes === 4) low = next(2) * 0x400000;
          low |= (next(8) ? P : 0) | (next(3) ? W : 0) | (next(3) ? U : 0) | (next(3) ? 0 : A) | (next(3) ? 0 : D) | (large ? PS : 0);
          let high = bytes === 8 && settings.efer && settings.efer & Efer.NXE && next(4) === 0 ? NX : 0;
          if (bytes === 8 && next(60) === 0) high |= 1 << 19;
          if (!long && bytes === 8 && level === 0) {
            // page-directory-pointer entries have no permissions
            low = (tables + 0x1000) | (i === 2 ? 0 : P);
            high = 0;
          }
          if (level === 0 && long && low & PS) low &= ~PS;
          machine.put(tables + level * 0x1000 + i * bytes, low, bytes === 8 ? high >>> 0 : undefined);
        }
      }
      machine.mode({ ...settings, cr3: tables });
      for (let i = 0; i < 60; i++) {
        let linear = next(2 ** 16) * 65536 + next(65536);
        if (long) linear = next(2) ? linear + next(2 ** 15) * 2 ** 32 : linear - (next(2 ** 15) + 1) * 2 ** 32;
        const kind = [Read, Write, Execute][next(3)]!;
        const user = next(2) === 0;
        // nothing stale: each access starts from the tables as they are
        machine.shadow.flush();
        const before = machine.snapshot(tables, size);
        const expected = machine.expected(linear, kind, user);
        const marked = machine.snapshot(tables, size);
        machine.restore(tables, before);
        const got = machine.access(linear, kind, user);
        expect(`${got} (${linear.toString(16)} ${kind} ${user})`).toBe(`${expected} (${linear.toString(16)} ${kind} ${user})`);
        // flags of device pages are set when the access is emulated
        if (!expected.startsWith('device')) {
          const now = machine.snapshot(tables, size);
          expect(now.every((byte, at) => byte === marked[at])).toBe(true);
        }
        // a second access of another kind, on what the first left in the shadow
        const other = [Read, Write, Execute][next(3)]!;
        const second = machine.expected(linear, other, user);
        expect(machine.access(linear, other, user)).toBe(second);
      }
    }
  });
});

test('save and load: the tables are in memory, the rest is plain data', () => {
  const machine = new ShadowMachine();
  machine.put(0x2014, 0x7000 | P | W);
  small(machine);
  machine.access(0x5000, Read, false);
  const saved = JSON.parse(JSON.stringify(machine.shadow.save())) as unknown;
  machine.shadow.load(saved);
  expect(machine.shadow.save()).toEqual(saved);
  expect(machine.access(0x5000, Read, false)).toBe('at 28672');
});
