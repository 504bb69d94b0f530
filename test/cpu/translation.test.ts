import { describe, expect, it } from 'vitest';
import { Cr0, Cr4, S } from '../../cpu/state.ts';
import { PagingMachine, REFERENCE_COST } from './paging-machine.ts';

const P = 1n, W = 2n, U = 4n, A = 0x20n, D = 0x40n, PS = 0x80n, G = 0x100n, NX = 1n << 63n;
const [PML4, PDPT, PD, PT] = [0x1000, 0x2000, 0x3000, 0x4000];
const PAGE = 0x10000;

/** 4-level tables mapping linear 0x5000 to PAGE, each entry with the flags given. */
function fourLevel(machine: PagingMachine, flags: { pml4e?: bigint; pdpte?: bigint; pde?: bigint; pte?: bigint } = {}): PagingMachine {
  const all = P | W | U;
  machine.put64(PML4, BigInt(PDPT) | (flags.pml4e ?? all));
  machine.put64(PDPT, BigInt(PD) | (flags.pdpte ?? all));
  machine.put64(PD, BigInt(PT) | (flags.pde ?? all));
  machine.put64(PT + 5 * 8, BigInt(PAGE) | (flags.pte ?? all));
  return machine;
}

describe('4-level paging', () => {
  it('translates and counts four references', () => {
    const machine = fourLevel(new PagingMachine());
    machine.long(PML4);
    expect(machine.access('read', 0x5123)).toBe(PAGE + 0x123);
    expect(machine.mmu.counters).toEqual({ dataMisses: 1, instructionMisses: 0, walks: 1, walkReferences: 4, secondLevelReferences: 0 });
    expect(machine.charged).toBe(4 * REFERENCE_COST);
    expect(machine.access('read', 0x5fff)).toBe(PAGE + 0xfff);
    expect(machine.charged).toBe(4 * REFERENCE_COST);
  });

  it('uses every index field, and the upper half of the address space', () => {
    const machine = new PagingMachine();
    // PML4 index 0x123, PDPT 0x145, PD 0x167, PT 0x189: upper half because bit 47 is set
    machine.put64(PML4 + 0x123 * 8, BigInt(PDPT) | P | W);
    machine.put64(PDPT + 0x145 * 8, BigInt(PD) | P | W);
    machine.put64(PD + 0x167 * 8, BigInt(PT) | P | W);
    machine.put64(PT + 0x189 * 8, BigInt(PAGE) | P | W);
    machine.long(PML4);
    const linear = Number(BigInt.asIntN(64, 0xffff000000000000n | (0x123n << 39n) | (0x145n << 30n) | (0x167n << 21n) | (0x189n << 12n) | 0xabcn));
    expect(linear).toBeLessThan(0);
    expect(machine.access('write', linear)).toBe(PAGE + 0xabc);
    expect(machine.fast('write', linear)).toBe(PAGE + 0xabc);
    expect(machine.mmu.peek(linear)).toBe(PAGE + 0xabc);
    expect(machine.access('read', linear + 0x1000)).toBe('PF 0');
  });

  it('sets accessed flags on every level and the dirty flag for a write only', () => {
    const machine = fourLevel(new PagingMachine());
    machine.long(PML4);
    machine.read(0x5000);
    expect([PML4, PDPT, PD, PT + 40].map((at) => machine.get64(at) & (A | D))).toEqual([A, A, A, A]);
    const before = machine.mmu.counters.walks;
    expect(machine.fast('write', 0x5000)).toBe(null);
    machine.write(0x5000);
    expect([PML4, PDPT, PD, PT + 40].map((at) => machine.get64(at) & (A | D))).toEqual([A, A, A, A | D]);
    expect(machine.mmu.counters.walks).toBe(before + 1);
    machine.write(0x5000);
    expect(machine.mmu.counters.walks).toBe(before + 1);
    expect(machine.mmu.counters.dataMisses).toBe(1);
    expect(machine.fast('write', 0x5000)).toBe(PAGE);
  });

  it('leaves accessed and dirty flags alone when the access is refused', () => {
    const machine = fourLevel(new PagingMachine(), { pte: P | U });
    machine.long(PML4, { cpl: 3 });
    expect(machine.access('write', 0x5000)).toBe('PF 7');
    expect([PML4, PDPT, PD, PT + 40].map((at) => machine.get64(at) & (A | D))).toEqual([0n, 0n, 0n, 0n]);
  });

  it('finds a missing entry at each level', () => {
    for (const level of ['pml4e', 'pdpte', 'pde', 'pte'] as const) {
      const machine = fourLevel(new PagingMachine(), { [level]: W | U });
      machine.long(PML4);
      expect(machine.access('read', 0x5000)).toBe('PF 0');
      expect(machine.access('write', 0x5000)).toBe('PF 2');
      expect(machine.access('fetch', 0x5000)).toBe('PF 16');
      machine.mode({ cpl: 3 });
      expect(machine.access('read', 0x5000)).toBe('PF 4');
      expect(machine.access('write', 0x5000)).toBe('PF 6');
      expect(machine.access('fetch', 0x5000)).toBe('PF 20');
      expect(machine.access('write', 0x5000, true)).toBe('PF 2');
    }
    const machine = fourLevel(new PagingMachine(), { pde: W });
    machine.long(PML4, { nxe: false });
    expect(machine.access('fetch', 0x5000)).toBe('PF 0'); // neither NXE nor SMEP: the fetch bit stays clear
    machine.long(PML4, { nxe: false, cr4: Cr4.SMEP });
    expect(machine.access('fetch', 0x5000)).toBe('PF 16');
  });

  it('knows every reserved bit', () => {
    // SDM figure "Formats of CR3 and Paging-Structure Entries with 4-Level Paging", MAXPHYADDR 40
    const cases: [string, number[], bigint][] = [
      ['pml4e', [7, 40, 45, 51], 0n],
      ['pdpte', [40, 51], 0n],
      ['pde', [40, 51], 0n],
      ['pte', [40, 51], 0n],
      ['pde', [13, 16, 20, 40, 51], PS],
      ['pdpte', [13, 21, 29, 40, 51], PS],
    ];
    for (const [level, reserved, large] of cases) {
      for (const bit of reserved) {
        const machine = fourLevel(new PagingMachine());
        const at = { pml4e: PML4, pdpte: PDPT, pde: PD, pte: PT + 40 }[level as 'pml4e'];
        machine.put64(at, (large ? 0x40000000n : machine.get64(at)) | P | W | U | large | (1n << BigInt(bit)));
        machine.long(PML4, { cpl: 3 });
        expect(machine.access('write', 0x5000), `${level} bit ${bit}`).toBe('PF 15');
        expect(machine.access('fetch', 0x5000), `${level} bit ${bit}`).toBe('PF 29');
        expect(machine.mmu.peek(0x5000)).toBe(-1);
      }
      for (const bit of [9, 11, 52, 58, 62]) {
        const machine = fourLevel(new PagingMachine());
        const at = { pml4e: PML4, pdpte: PDPT, pde: PD, pte: PT + 40 }[level as 'pml4e'];
        machine.put64(at, (large ? 0x40000000n : machine.get64(at)) | P | W | U | large | (1n << BigInt(bit)));
        machine.long(PML4, { cpl: 3 });
        expect(typeof machine.access('write', 0x5000), `${level} bit ${bit} is ignored`).toBe('number');
      }
    }
    for (const level of ['pml4e', 'pdpte', 'pde', 'pte'] as const) {
      const machine = fourLevel(new PagingMachine(), { [level]: P | W | U | NX });
      machine.long(PML4, { nxe: false });
      expect(machine.access('read', 0x5000)).toBe('PF 9'); // bit 63 is reserved without NXE
      machine.long(PML4);
      expect(machine.access('read', 0x5000)).toBe(PAGE);
      expect(machine.access('fetch', 0x5000)).toBe('PF 17');
    }
    const noGigabyte = fourLevel(new PagingMachine({ features: [] }), { pdpte: P | W | U | PS });
    noGigabyte.long(PML4);
    expect(noGigabyte.access('read', 0x5000)).toBe('PF 9');
  });

  it('reports a reserved bit above a missing entry, and a missing entry above a reserved bit', () => {
    const machine = fourLevel(new PagingMachine(), { pde: P | W | U | (1n << 45n), pte: 0n });
    machine.long(PML4);
    expect(machine.access('read', 0x5000)).toBe('PF 9');
    machine.put64(PDPT, 1n << 45n);
    expect(machine.access('read', 0x5000)).toBe('PF 0');
  });

  it('maps 2-MByte and 1-GByte pages', () => {
    const machine = fourLevel(new PagingMachine());
    machine.put64(PD + 8, 0x200000n | P | W | PS);
    machine.put64(PDPT + 8, P | W | PS);
    machine.long(PML4);
    expect(machine.access('write', 0x2abcde)).toBe(0x2abcde);
    expect(machine.get64(PD + 8) & (A | D)).toBe(A | D);
    expect(machine.mmu.counters.walkReferences).toBe(3);
    expect(machine.access('write', 0x40234567)).toBe(0x234567);
    expect(machine.mmu.counters.walkReferences).toBe(5);
    expect(machine.get64(PDPT + 8) & (A | D)).toBe(A | D);
    expect(machine.mmu.peek(0x40234567)).toBe(0x234567);
  });

  it('reaches physical addresses beyond RAM, which never get fast entries', () => {
    const machine = fourLevel(new PagingMachine());
    machine.put64(PT + 40, 0xab_cdef_f000n | P | W | U);
    machine.long(PML4);
    expect(machine.access('write', 0x5678)).toBe(0xabcdeff678);
    expect(machine.fast('write', 0x5000)).toBe(null);
    expect(machine.fast('read', 0x5000)).toBe(null);
    expect(machine.mmu.enterExecute(0x5000, 64)).toBe(false);
    const walks = machine.mmu.counters.walks;
    machine.read(0x5678);
    expect(machine.mmu.counters.walks).toBe(walks);
  });
});

describe('access rights', () => {
  /** SDM "Determination of Access Rights", sentence by sentence. */
  function permitted(kind: 'read' | 'write' | 'fetch', user: boolean, implicit: boolean, page: { user: boolean; writable: boolean; nx: boolean }, wp: boolean, smep: boolean, smap: boolean, ac: boolean): boolean {
    if (user) {
      if (!page.user) return false;
      if (kind === 'write') return page.writable;
      return kind === 'read' || !page.nx;
    }
    if (kind === 'fetch') return page.user ? !smep && !page.nx : !page.nx;
    if (page.user && smap && !(ac && !implicit)) return false;
    return kind === 'read' || !wp || page.writable;
  }

  it('follows the manual for every combination', () => {
    let combinations = 0;
    for (let flags = 0; flags < 64; flags++) {
      const [u1, u2, w1, w2, nx1, nx2] = [1, 2, 4, 8, 16, 32].map((bit) => (flags & bit) !== 0) as [boolean, boolean, boolean, boolean, boolean, boolean];
      const page = { user: u1 && u2, writable: w1 && w2, nx: nx1 || nx2 };
      const machine = fourLevel(new PagingMachine({ ram: 1 << 20 }), {
        pdpte: P | (u1 ? U : 0n) | (w1 ? W : 0n) | (nx1 ? NX : 0n), pte: P | (u2 ? U : 0n) | (w2 ? W : 0n) | (nx2 ? NX : 0n),
      });
      for (let control = 0; control < 32; control++) {
        const [wp, smep, smap, ac, cpl3] = [1, 2, 4, 8, 16].map((bit) => (control & bit) !== 0) as [boolean, boolean, boolean, boolean, boolean];
        machine.long(PML4, { wp, cr4: (smep ? Cr4.SMEP : 0) | (smap ? Cr4.SMAP : 0), cpl: cpl3 ? 3 : 0, ac });
        for (const kind of ['read', 'write', 'fetch'] as const) {
          for (const implicit of kind === 'fetch' ? [false] : [false, true]) {
            const user = cpl3 && !implicit;
            const expected = permitted(kind, user, implicit, page, wp, smep, smap, ac)
              ? PAGE : `PF ${1 | (kind === 'write' ? 2 : kind === 'fetch' ? 16 : 0) | (user ? 4 : 0)}`;
            // twice: from the tables, and with whatever the TLB kept
            for (let round = 0; round < 2; round++) {
              const got = machine.access(kind, 0x5000, implicit);
              if (got !== expected) expect(got, JSON.stringify({ page, wp, smep, smap, ac, cpl3, kind, implicit, round })).toBe(expected);
              combinations++;
            }
            // a fast entry means that generated code may use the page without asking
            for (const fast of ['read', 'write'] as const) {
              if (machine.fast(fast, 0x5000) !== null) expect(permitted(fast, cpl3, false, page, wp, smep, smap, ac), `${fast} ${JSON.stringify({ page, wp, smep, smap, ac, cpl3 })}`).toBe(true);
            }
          }
        }
      }
    }
    expect(combinations).toBe(64 * 32 * 5 * 2);
  });
});

describe('32-bit paging', () => {
  const DIRECTORY = 0x1000, TABLE = 0x2000;
  it('walks two levels and 4-MByte pages', () => {
    const machine = new PagingMachine();
    machine.put32(DIRECTORY + 4 * 0x300, TABLE | 7);
    machine.put32(TABLE + 4 * 0x3ff, PAGE | 7);
    machine.put32(DIRECTORY + 4, 0x400000 | 0x83);
    machine.legacy(DIRECTORY);
    expect(machine.access('read', 0xc03ff123)).toBe(PAGE + 0x123);
    expect(machine.mmu.counters.walkReferences).toBe(2);
    expect(machine.fast('read', 0xc03ff123)).toBe(PAGE + 0x123);
    expect(machine.access('write', 0x7fffff)).toBe(0x7fffff);
    expect(machine.mmu.counters.walkReferences).toBe(3);
    expect(machine.get32(DIRECTORY + 4) & 0x60).toBe(0x60);
    expect(machine.access('read', 0xc03fe000)).toBe('PF 0');
    expect(machine.access('fetch', 0xc03fe000)).toBe('PF 0'); // no execute-disable without PAE
    machine.legacy(DIRECTORY, { cr4: Cr4.PSE | Cr4.SMEP });
    expect(machine.access('fetch', 0xc03fe000)).toBe('PF 16');
  });

  it('ignores PS without CR4.PSE', () => {
    const machine = new PagingMachine();
    machine.put32(DIRECTORY, TABLE | 0x87);
    machine.put32(TABLE, PAGE | 7);
    machine.legacy(DIRECTORY, { cr4: 0 });
    expect(machine.access('read', 0)).toBe(PAGE);
    machine.legacy(DIRECTORY, { cr4: Cr4.PSE });
    machine.mmu.flushAll();
    machine.put32(DIRECTORY, 0x400000 | 0x87);
    expect(machine.access('read', 0)).toBe(0x400000);
  });

  it('has PSE-36 addresses and reserved bits', () => {
    const machine = new PagingMachine({ physicalAddressBits: 36 });
    machine.put32(DIRECTORY, (0xf << 13) | 0x83);
    machine.legacy(DIRECTORY);
    expect(machine.access('read', 0x1234)).toBe(0xf * 2 ** 32 + 0x1234);
    for (let bit = 13; bit <= 21; bit++) {
      machine.put32(DIRECTORY, (1 << bit) | 0x83);
      machine.mmu.flushAll();
      expect(machine.access('read', 0), `bit ${bit}`).toBe(bit < 17 ? 2 ** (32 + bit - 13) : 'PF 9');
    }
    const without = new PagingMachine({ physicalAddressBits: 36, features: [] });
    without.put32(DIRECTORY, (1 << 13) | 0x83);
    without.legacy(DIRECTORY);
    expect(without.access('read', 0)).toBe('PF 9');
  });
});

describe('PAE paging', () => {
  const DIRECTORY = 0x2000, TABLE = 0x3000;
  function pae(machine: PagingMachine, nxe = true): void {
    machine.mode({ cr0: Cr0.PE | Cr0.PG | Cr0.WP, cr3: 0x1000, cr4: Cr4.PAE, efer: nxe ? 0x800 : 0, cpl: 0 });
  }
  it('starts from the PDPTE registers', () => {
    const machine = new PagingMachine();
    machine.cpu.setSigned(S.pdpte + 3 * 8, DIRECTORY | 1);
    machine.put64(DIRECTORY + 8, BigInt(TABLE) | P | W);
    machine.put64(TABLE, BigInt(PAGE) | P | W | NX);
    machine.put64(DIRECTORY + 16, 0x200000n | P | W | PS);
    pae(machine);
    expect(machine.access('read', 0xc0200040)).toBe(PAGE + 0x40);
    expect(machine.mmu.counters.walkReferences).toBe(2);
    expect(machine.access('fetch', 0xc0200040)).toBe('PF 17');
    expect(machine.access('write', 0xc05fffff)).toBe(0x3fffff);
    expect(machine.access('read', 0)).toBe('PF 0'); // PDPTE 0 is not present
    pae(machine, false);
    machine.mmu.flushAll();
    expect(machine.access('read', 0xc0200040)).toBe('PF 9');
  });
  it('reserves bits 62:M', () => {
    for (const bit of [40, 51, 52, 62]) {
      const machine = new PagingMachine();
      machine.cpu.setSigned(S.pdpte, DIRECTORY | 1);
      machine.put64(DIRECTORY, BigInt(TABLE) | P | W);
      machine.put64(TABLE, BigInt(PAGE) | P | W | (1n << BigInt(bit)));
      machine.put64(DIRECTORY + 8, P | W | PS | (1n << BigInt(bit)));
      machine.put64(DIRECTORY + 16, BigInt(TABLE) | P | W | (1n << BigInt(bit)));
      pae(machine);
      for (const linear of [0, 0x200000, 0x400000]) expect(machine.access('read', linear)).toBe('PF 9');
    }
  });
});

describe('without paging', () => {
  it('is the identity, free of charge', () => {
    const machine = new PagingMachine();
    machine.mode({ cr0: Cr0.PE });
    expect(machine.access('write', 0x123456)).toBe(0x123456);
    expect(machine.fast('read', 0x123456)).toBe(0x123456);
    expect(machine.fast('write', 0x123456)).toBe(0x123456);
    expect(machine.access('read', 0xfee00020)).toBe(0xfee00020);
    expect(machine.fast('read', 0xfee00020)).toBe(null);
    expect(machine.charged).toBe(0);
    expect(machine.mmu.counters.walks).toBe(0);
    expect(machine.mmu.enterExecute(0x5000, 77)).toBe(true);
    expect(machine.fast('fetch', 0x5004)).toBe(0x5004);
    expect(machine.mmu.peek(0x1234)).toBe(0x1234);
  });
});

it('names a missing cost', () => {
  expect(() => new PagingMachine({ costs: {} })).toThrow(/no cost 'tlb.second'/);
});

it('rejects a geometry that has no power of two of sets', () => {
  const level = { entries4k: 6, ways4k: 2, entriesLarge: 0, waysLarge: 0 };
  expect(() => new PagingMachine({ tlb: { instruction: level, data: level, second: null } })).toThrow(/power of two/);
});

// G is used by the TLB tests; here only to show that it does not matter without CR4.PGE
it('ignores the global flag without CR4.PGE', () => {
  const machine = fourLevel(new PagingMachine(), { pte: P | W | U | G });
  machine.mode({ cr0: Cr0.PE | Cr0.PG, cr3: PML4, cr4: Cr4.PAE, efer: 0xd00, cpl: 0 });
  machine.read(0x5000);
  machine.mmu.flushNonGlobal();
  machine.read(0x5000);
  expect(machine.mmu.counters.walks).toBe(2);
});
