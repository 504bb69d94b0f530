import { describe, expect, it } from 'vitest';
import { MAX_SPACES } from '../../cpu/address-space.ts';
import { FAST_CONTEXT, FAST_CONTEXTS, FAST_ENTRIES, NO_TAG_HIGH } from '../../cpu/memory.ts';
import { AccessKind } from '../../cpu/mmu.ts';
import { Cr0, Cr4, S } from '../../cpu/state.ts';
import { PagingMachine, REFERENCE_COST, SECOND_COST, type MachineOptions } from './paging-machine.ts';

const P = 1n, W = 2n, U = 4n, PS = 0x80n, G = 0x100n;
const [PML4, PDPT, PD, PT] = [0x1000, 0x2000, 0x3000, 0x4000];
/** Second set of tables for the second address space, sharing nothing. */
const OTHER = 0x8000;
const frame = (page: number): number => 0x100000 + page * 0x1000;

/** Maps linear pages 0..511 to frame(page), user and writable. Returns a machine in 4-level paging. */
function tables(options: MachineOptions = {}, base = 0, offset = 0, machine = new PagingMachine(options)): PagingMachine {
  machine.put64(base + PML4, BigInt(base + PDPT) | P | W | U);
  machine.put64(base + PDPT, BigInt(base + PD) | P | W | U);
  machine.put64(base + PD, BigInt(base + PT) | P | W | U);
  for (let page = 0; page < 512; page++) machine.put64(base + PT + page * 8, BigInt(frame(page + offset)) | P | W | U);
  machine.long(base + PML4);
  return machine;
}
const walks = (machine: PagingMachine, act: () => void): number => {
  const before = machine.mmu.counters.walks;
  act();
  return machine.mmu.counters.walks - before;
};

describe('the modelled TLB', () => {
  it('keeps stale translations until INVLPG', () => {
    const machine = tables();
    machine.read(0x5000);
    machine.put64(PT + 40, BigInt(frame(99)) | P | W | U);
    expect(machine.read(0x5000)).toBe(frame(5));
    machine.mmu.invalidatePage(0x6000);
    expect(machine.read(0x5000)).toBe(frame(5));
    machine.mmu.invalidatePage(0x5abc);
    expect(machine.fast('read', 0x5000)).toBe(null);
    expect(machine.read(0x5000)).toBe(frame(99));
  });

  it('keeps instruction and data translations apart', () => {
    const machine = tables({ tlb: { instruction: { entries4k: 4, ways4k: 0, entriesLarge: 0, waysLarge: 0 }, data: { entries4k: 4, ways4k: 0, entriesLarge: 0, waysLarge: 0 }, second: null } });
    machine.read(0x5000);
    machine.put64(PT + 40, BigInt(frame(99)) | P | W | U);
    expect(machine.fetch(0x5000)).toBe(frame(99));
    expect(machine.read(0x5000)).toBe(frame(5));
    expect(machine.mmu.counters).toMatchObject({ dataMisses: 1, instructionMisses: 1, walks: 2 });
    machine.mmu.invalidatePage(0x5000);
    expect(walks(machine, () => { machine.fetch(0x5000); machine.read(0x5000); })).toBe(2);
  });

  it('replaces first in, first out, and takes the fast entries along', () => {
    const machine = tables({ tlb: { instruction: { entries4k: 4, ways4k: 2, entriesLarge: 0, waysLarge: 0 }, data: { entries4k: 4, ways4k: 2, entriesLarge: 0, waysLarge: 0 }, second: null } });
    // two sets: even and odd pages
    machine.write(0x2000);
    machine.write(0x4000);
    machine.read(0x2000); // a hit does not make it younger
    expect(machine.fast('write', 0x2000)).toBe(frame(2));
    machine.write(0x6000);
    expect(machine.fast('write', 0x2000)).toBe(null);
    expect(machine.fast('read', 0x2000)).toBe(null);
    expect(machine.fast('write', 0x4000)).toBe(frame(4));
    expect(walks(machine, () => machine.read(0x4000))).toBe(0);
    expect(walks(machine, () => machine.read(0x2000))).toBe(1); // evicts 0x4000
    expect(walks(machine, () => machine.read(0x6000))).toBe(0);
    expect(walks(machine, () => machine.read(0x4000))).toBe(1);
    machine.read(0x3000);
    machine.read(0x5000);
    expect(machine.fast('read', 0x4000)).toBe(frame(4)); // the other set
  });

  it('fills an invalidated entry before it replaces a live one', () => {
    const machine = tables({ tlb: { instruction: { entries4k: 4, ways4k: 0, entriesLarge: 0, waysLarge: 0 }, data: { entries4k: 4, ways4k: 0, entriesLarge: 0, waysLarge: 0 }, second: null } });
    for (const page of [0x1000, 0x2000, 0x3000, 0x4000]) machine.read(page);
    for (let i = 0; i < 10; i++) {
      machine.mmu.invalidatePage(0x3000);
      expect(walks(machine, () => { for (const page of [0x1000, 0x2000, 0x3000, 0x4000]) machine.read(page); })).toBe(1);
    }
    machine.read(0x5000);
    machine.put64(PT + 16, BigInt(frame(2)) | P | W | U | G);
    machine.mmu.invalidatePage(0x2000);
    machine.read(0x2000); // global, and next to be replaced
    machine.mmu.flushNonGlobal();
    for (const page of [0x6000, 0x7000, 0x8000]) machine.read(page);
    expect(walks(machine, () => { machine.read(0x2000); })).toBe(0);
    machine.mmu.flushAll();
    expect(walks(machine, () => { for (const page of [0x1000, 0x2000, 0x3000, 0x4000]) machine.read(page); })).toBe(4);
    expect(walks(machine, () => { for (const page of [0x1000, 0x2000, 0x3000, 0x4000]) machine.read(page); })).toBe(0);
  });

  it('finds first-level victims in the second level and charges for it', () => {
    const machine = tables();
    for (const page of [0x2000, 0x4000, 0x6000]) machine.read(page);
    const charged = machine.charged;
    expect(charged).toBe(3 * 4 * REFERENCE_COST);
    expect(walks(machine, () => expect(machine.read(0x2008)).toBe(frame(2) + 8))).toBe(0);
    expect(machine.charged).toBe(charged + SECOND_COST);
    expect(machine.mmu.counters.dataMisses).toBe(4);
    expect(machine.fast('read', 0x2000)).toBe(frame(2));
    machine.fetch(0x2000);
    expect(machine.charged).toBe(charged + 2 * SECOND_COST); // the second level is shared
  });

  it('drops a cached translation that does not permit the access and asks the tables', () => {
    const machine = tables();
    machine.put64(PT + 40, BigInt(frame(5)) | P | U);
    machine.read(0x5000);
    machine.put64(PT + 40, BigInt(frame(77)) | P | W | U);
    expect(machine.access('write', 0x5000)).toBe(frame(77)); // no INVLPG needed for added rights
    expect(machine.read(0x5000)).toBe(frame(77));
    for (const page of [0x7000, 0x9000]) machine.read(page); // evict it from the first level
    expect(walks(machine, () => { expect(machine.read(0x5000)).toBe(frame(77)); })).toBe(0);
  });

  it('keeps permissions that were taken away until the entry goes', () => {
    const machine = tables();
    machine.write(0x5000);
    machine.put64(PT + 40, BigInt(frame(5)) | P | U);
    expect(machine.access('write', 0x5000)).toBe(frame(5));
    machine.put64(PT + 40, 0n);
    expect(machine.access('write', 0x5000)).toBe(frame(5));
  });

  it('loses the entry of a page that faults', () => {
    const machine = tables();
    machine.put64(PT + 40, BigInt(frame(5)) | P | U);
    machine.long(PML4, { cpl: 3 });
    machine.read(0x5000);
    machine.fetch(0x5000);
    expect(machine.access('write', 0x5000)).toBe('PF 7');
    expect(machine.fast('read', 0x5000)).toBe(null);
    expect(walks(machine, () => { machine.fetch(0x5000); })).toBe(1); // the instruction TLB's too
    expect(walks(machine, () => { machine.read(0x5000); })).toBe(0); // from the second level
  });

  it('breaks large pages up where the level has no large entries', () => {
    const level = { entries4k: 8, ways4k: 0, entriesLarge: 0, waysLarge: 0 };
    const machine = tables({ tlb: { instruction: level, data: level, second: null } });
    machine.put64(PD + 8, 0x200000n | P | W | PS);
    machine.read(0x200000);
    expect(walks(machine, () => { machine.read(0x201000); })).toBe(1);
    machine.read(0x202000);
    // INVLPG removes every piece of the page
    machine.mmu.invalidatePage(0x3ff000);
    expect(machine.fast('read', 0x200000)).toBe(null);
    expect(walks(machine, () => { machine.read(0x200000); machine.read(0x201000); machine.read(0x202000); })).toBe(3);
  });

  it('holds 1-GByte pages whole in one set, in 2-MByte pieces otherwise', () => {
    const small = { entries4k: 8, ways4k: 0 };
    for (const [ways, expected] of [[0, 0], [2, 1]] as const) {
      const level = { ...small, entriesLarge: 4, waysLarge: ways };
      const machine = tables({ tlb: { instruction: level, data: level, second: null } });
      machine.put64(PDPT + 8, P | W | PS);
      machine.read(0x40000000);
      expect(walks(machine, () => { expect(machine.read(0x40200000)).toBe(0x200000); })).toBe(expected);
      machine.mmu.invalidatePage(0x7ffff000);
      expect(walks(machine, () => { machine.read(0x40000000); })).toBe(1);
    }
  });

  it('backs many fast entries with one large entry', () => {
    const machine = tables();
    machine.put64(PD + 8, 0x200000n | P | W | U | PS);
    machine.put64(PD + 16, 0x400000n | P | W | U | PS);
    machine.put64(PD + 24, 0x600000n | P | W | U | PS);
    for (let at = 0x200000; at < 0x280000; at += 0x1000) machine.write(at);
    expect(machine.mmu.counters.walks).toBe(1);
    for (let at = 0x200000; at < 0x280000; at += 0x1000) expect(machine.fast('write', at)).toBe(at);
    machine.write(0x400000);
    machine.long(PML4, { cpl: 3 });
    machine.read(0x234000);
    machine.read(0x600000); // two large entries: the first goes
    expect(machine.fast('read', 0x234000)).toBe(null);
    machine.long(PML4);
    for (let at = 0x200000; at < 0x280000; at += 0x1000) expect(machine.fast('write', at)).toBe(null);
    expect(machine.fast('write', 0x400000)).toBe(0x400000);
    machine.mmu.codePageChanged(0x400, true); // a page with decoded code goes with the others
    expect(machine.fast('write', 0x400000)).toBe('code');
    machine.mmu.invalidatePage(0x433000);
    expect(machine.fast('write', 0x400000)).toBe(null);
  });

  it('INVLPG of any address removes a large page', () => {
    const machine = tables();
    machine.put64(PD + 8, 0x200000n | P | W | PS);
    machine.read(0x200000);
    machine.read(0x3ff000);
    machine.mmu.invalidatePage(0x2f1000);
    expect(machine.fast('read', 0x200000)).toBe(null);
    expect(machine.fast('read', 0x3ff000)).toBe(null);
    expect(walks(machine, () => { machine.read(0x200000); })).toBe(1);
  });

  it('indexes 4-MByte pages in 32-bit paging', () => {
    const machine = new PagingMachine({ ram: 32 << 20, tlb: { instruction: { entries4k: 4, ways4k: 0, entriesLarge: 4, waysLarge: 1 }, data: { entries4k: 4, ways4k: 0, entriesLarge: 4, waysLarge: 1 }, second: null } });
    for (let page = 0; page < 8; page++) machine.put32(0x1000 + page * 4, (page << 22) | 0x83);
    machine.legacy(0x1000);
    for (let page = 0; page < 4; page++) machine.read(page << 22);
    expect(walks(machine, () => { for (let page = 0; page < 4; page++) machine.read((page << 22) + 0x3ff000); })).toBe(0);
    expect(walks(machine, () => { machine.read(4 << 22); machine.read(0); machine.read(1 << 22); })).toBe(2);
    machine.mmu.invalidatePage((2 << 22) + 0x234567);
    expect(walks(machine, () => { machine.read(2 << 22); })).toBe(1);
  });
});

describe('address spaces', () => {
  function two(): PagingMachine {
    const machine = tables();
    tables({}, OTHER, 256, machine);
    machine.long(PML4);
    return machine;
  }
  const loadCr3 = (machine: PagingMachine, cr3: number, cr4 = 0): void => {
    machine.long(cr3, { cr4 });
    machine.mmu.flushNonGlobal();
  };

  it('keeps global pages across CR3 writes, and drops them with CR4.PGE', () => {
    const machine = two();
    machine.put64(PT + 40, BigInt(frame(5)) | P | W | U | G);
    machine.write(0x5000);
    machine.write(0x6000);
    loadCr3(machine, OTHER + PML4);
    expect(machine.fast('write', 0x5000)).toBe(frame(5));
    expect(machine.fast('write', 0x6000)).toBe(null);
    expect(machine.read(0x5000)).toBe(frame(5)); // although the new tables say otherwise
    expect(machine.read(0x6000)).toBe(frame(256 + 6));
    machine.mmu.flushAll();
    expect(machine.fast('write', 0x5000)).toBe(null);
    expect(machine.read(0x5000)).toBe(frame(256 + 5));
    machine.put64(OTHER + PT + 40, BigInt(frame(300)) | P | W | U | G);
    machine.mmu.invalidatePage(0x5000);
    expect(machine.read(0x5000)).toBe(frame(300));
    machine.mmu.invalidatePage(0x5000); // global entries too
    expect(walks(machine, () => { machine.read(0x5000); })).toBe(1);
  });

  it('without PCIDs a CR3 write to the same value flushes', () => {
    const machine = tables();
    machine.read(0x5000);
    machine.put64(PT + 40, BigInt(frame(9)) | P | W | U);
    machine.long(PML4);
    expect(machine.read(0x5000)).toBe(frame(5));
    loadCr3(machine, PML4);
    expect(machine.read(0x5000)).toBe(frame(9));
  });

  it('tells PCIDs apart and keeps them all', () => {
    const machine = two();
    const cr4 = Cr4.PCIDE;
    machine.long(PML4 | 1, { cr4 });
    machine.write(0x5000);
    machine.long((OTHER + PML4) | 2, { cr4 });
    expect(machine.fast('write', 0x5000)).toBe(null);
    expect(machine.write(0x5000)).toBe(frame(256 + 5));
    machine.long(PML4 | 1, { cr4 });
    expect(machine.fast('write', 0x5000)).toBe(frame(5));
    expect(walks(machine, () => { expect(machine.read(0x5000)).toBe(frame(5)); })).toBe(0);
    // MOV to CR3 with bit 63 clear flushes the PCID it selects, no other
    loadCr3(machine, (OTHER + PML4) | 2, cr4);
    expect(walks(machine, () => { machine.read(0x5000); })).toBe(1);
    machine.long(PML4 | 1, { cr4 });
    expect(walks(machine, () => { machine.read(0x5000); })).toBe(0);
    // INVLPG: only the current PCID
    machine.mmu.invalidatePage(0x5000);
    machine.long((OTHER + PML4) | 2, { cr4 });
    expect(walks(machine, () => { machine.read(0x5000); })).toBe(0);
  });

  it('implements the INVPCID types', () => {
    const cr4 = Cr4.PCIDE;
    const fresh = (): PagingMachine => {
      const machine = two();
      machine.put64(PT + 56, BigInt(frame(7)) | P | W | U | G);
      machine.long(PML4 | 1, { cr4 });
      for (const page of [0x5000, 0x6000, 0x7000]) machine.read(page);
      machine.long((OTHER + PML4) | 2, { cr4 });
      for (const page of [0x8000, 0xa000]) machine.read(page);
      return machine;
    };
    const left = (machine: PagingMachine): string[] => {
      const found: string[] = [];
      for (const [pcid, cr3, pages] of [[1, PML4, [0x5000, 0x6000, 0x7000]], [2, OTHER + PML4, [0x8000, 0xa000]]] as const) {
        machine.long(cr3 | pcid, { cr4 });
        for (const page of pages) if (walks(machine, () => { machine.read(page); }) === 0) found.push(`${pcid}:${page.toString(16)}`);
      }
      return found;
    };
    expect(left(fresh())).toEqual(['1:5000', '1:6000', '1:7000', '2:8000', '2:a000']);
    for (const [type, pcid, linear, expected] of [
      [0, 1, 0x5000, ['1:6000', '1:7000', '2:8000', '2:a000']],
      [0, 1, 0x7000, ['1:5000', '1:6000', '1:7000', '2:8000', '2:a000']], // not global entries
      [0, 2, 0x8000, ['1:5000', '1:6000', '1:7000', '2:a000']],
      [1, 1, 0, ['1:7000', '2:8000', '2:a000']],
      [2, 0, 0, []],
      [3, 0, 0, ['1:7000']],
    ] as const) {
      const machine = fresh();
      machine.mmu.invalidatePcid(type, pcid, linear);
      expect(left(machine), `type ${type}, PCID ${pcid}, address ${linear}`).toEqual(expected);
    }
    expect(() => fresh().mmu.invalidatePcid(4, 0, 0)).toThrow(/type 4/);
  });

  it('tells VPIDs apart', () => {
    const machine = two();
    const vpid = (value: number): void => { machine.mmu.vpid = value; machine.mmu.updateContext(); };
    machine.put64(PT + 56, BigInt(frame(7)) | P | W | U | G);
    vpid(1);
    machine.read(0x5000);
    machine.read(0x7000);
    vpid(2);
    expect(walks(machine, () => { machine.read(0x5000); machine.read(0x7000); })).toBe(2);
    vpid(0);
    expect(walks(machine, () => { machine.read(0x5000); })).toBe(1);
    machine.mmu.invalidateVpid(1, undefined, true); // single context, retaining globals
    vpid(1);
    expect(walks(machine, () => { machine.read(0x7000); })).toBe(0);
    expect(walks(machine, () => { machine.read(0x5000); })).toBe(1);
    vpid(2);
    machine.mmu.invalidateVpid(1);
    machine.mmu.invalidateVpid(2, 0x5000);
    expect(walks(machine, () => { machine.read(0x7000); })).toBe(0);
    expect(walks(machine, () => { machine.read(0x5000); })).toBe(1);
    vpid(1);
    expect(walks(machine, () => { machine.read(0x7000); })).toBe(1);
    machine.mmu.invalidateVpid(-1); // all but VPID 0
    expect(walks(machine, () => { machine.read(0x7000); })).toBe(1);
    vpid(0);
    expect(walks(machine, () => { machine.read(0x5000); })).toBe(0);
    machine.mmu.invalidateVpid(0);
    expect(walks(machine, () => { machine.read(0x5000); })).toBe(1);
  });

  it('survives running out of tags without losing global entries, and of spaces', () => {
    const machine = tables();
    machine.put64(PT + 40, BigInt(frame(5)) | P | W | U | G);
    machine.read(0x5000);
    for (let i = 0; i < 70000; i++) {
      machine.mmu.flushNonGlobal();
      if (i % 10000 === 0) expect(walks(machine, () => { machine.read(0x5000); machine.read(0x6000); })).toBe(1);
    }
    expect(walks(machine, () => { machine.read(0x5000); })).toBe(0);
    for (let vpid = 1; vpid <= MAX_SPACES + 5; vpid++) {
      machine.mmu.vpid = vpid;
      machine.mmu.updateContext();
      if (machine.read(0x6000) !== frame(6)) throw new Error(`vpid ${vpid}`);
    }
    expect(walks(machine, () => { machine.read(0x6000); })).toBe(0);
  });
});

describe('fast tables', () => {
  it('give each privilege its own tables', () => {
    const machine = tables();
    machine.put64(PT + 40, BigInt(frame(5)) | P | W);
    machine.write(0x5000);
    machine.write(0x6000);
    machine.mode({ cpl: 3 });
    expect(machine.fast('write', 0x6000)).toBe(null);
    machine.write(0x6000);
    expect(machine.fast('write', 0x6000)).toBe(frame(6));
    expect(machine.access('read', 0x5000, true)).toBe(frame(5)); // implicit supervisor access
    expect(machine.fast('read', 0x5000)).toBe(null);
    machine.mode({ cpl: 0 });
    expect(machine.fast('write', 0x5000)).toBe(frame(5));
    machine.mmu.invalidatePage(0x6000);
    expect(machine.fast('write', 0x6000)).toBe(null);
    machine.mode({ cpl: 3 });
    expect(machine.fast('write', 0x6000)).toBe(null);
  });

  it('are empty while alignment is checked', () => {
    const machine = tables();
    machine.write(0x5000);
    machine.mode({ cr0: Cr0.PE | Cr0.PG | Cr0.AM, cpl: 3, ac: true });
    machine.write(0x5000);
    expect(machine.fast('write', 0x5000)).toBe(null);
    expect(machine.fast('read', 0x5000)).toBe(null);
    machine.mode({ ac: false });
    machine.write(0x5000);
    expect(machine.fast('write', 0x5000)).toBe(frame(5));
    machine.mode({ cpl: 0, ac: true });
    expect(machine.cpu.get32(S.readTable)).not.toBe(machine.memory.fastBase + (FAST_CONTEXTS - 1) * FAST_CONTEXT);
  });

  it('reuse the least recently used context', () => {
    const level = { entries4k: 64, ways4k: 0, entriesLarge: 0, waysLarge: 0 };
    const machine = tables({ tlb: { instruction: level, data: level, second: null } });
    const select = (vpid: number): void => { machine.mmu.vpid = vpid; machine.mmu.updateContext(); };
    for (let vpid = 0; vpid < 30; vpid++) {
      select(vpid);
      machine.read(0x5000);
      expect(machine.fast('read', 0x5000)).toBe(frame(5));
    }
    select(29);
    expect(machine.fast('read', 0x5000)).toBe(frame(5));
    select(0);
    expect(machine.fast('read', 0x5000)).toBe(null); // cleared on reuse
  });

  it('retag write entries of pages that hold decoded code', () => {
    const machine = tables();
    machine.put64(PT + 48, BigInt(frame(5)) | P | W | U); // a second mapping of the same frame
    machine.write(0x5000);
    machine.write(0x6000);
    machine.write(0x7000);
    machine.mmu.codePageChanged(frame(5) / 4096, true);
    expect([0x5000, 0x6000, 0x7000].map((page) => machine.fast('write', page))).toEqual(['code', 'code', frame(7)]);
    expect(machine.fast('read', 0x5000)).toBe(frame(5));
    machine.mmu.codePageChanged(frame(5) / 4096, true); // telling it twice changes nothing
    expect(machine.fast('write', 0x5000)).toBe('code');
    machine.mode({ cpl: 3 });
    machine.write(0x5000);
    expect(machine.fast('write', 0x5000)).toBe('code');
    machine.mmu.codePageChanged(frame(5) / 4096, false);
    expect(machine.fast('write', 0x5000)).toBe(frame(5));
    machine.mode({ cpl: 0 });
    expect(machine.fast('write', 0x6000)).toBe(frame(5));
    machine.mmu.codePageChanged(frame(5) / 4096, true);
    machine.mmu.invalidatePage(0x5000);
    expect(machine.fast('write', 0x5000)).toBe(null);
  });

  it('hold execute entries by decode mode, as long as the instruction TLB does', () => {
    const machine = tables({ tlb: { instruction: { entries4k: 2, ways4k: 2, entriesLarge: 0, waysLarge: 0 }, data: { entries4k: 4, ways4k: 0, entriesLarge: 0, waysLarge: 0 }, second: null } });
    expect(machine.mmu.enterExecute(0x5000, 1111)).toBe(false); // nothing fetched yet
    machine.fetch(0x5010);
    expect(machine.mmu.enterExecute(0x5010, 1111)).toBe(true);
    expect(machine.fast('fetch', 0x5010)).toBe(frame(5) + 0x10);
    machine.cpu.set32(S.mode, 2);
    machine.mmu.updateMode();
    expect(machine.fast('fetch', 0x5010)).toBe(null);
    machine.fetch(0x5010);
    machine.mmu.enterExecute(0x5010, 2222);
    machine.fetch(0x6000);
    machine.mmu.enterExecute(0x6000, 3333);
    machine.mmu.dropExecute(2222);
    expect(machine.fast('fetch', 0x5010)).toBe(null);
    expect(machine.fast('fetch', 0x6000)).toBe(frame(6));
    machine.cpu.set32(S.mode, 0);
    machine.mmu.updateContext();
    expect(machine.fast('fetch', 0x5010)).toBe(frame(5) + 0x10);
    machine.fetch(0x7000); // evicts 0x5000 from the instruction TLB
    expect(machine.fast('fetch', 0x5010)).toBe(null);
    expect(machine.mmu.counters.dataMisses).toBe(0);
  });
});

/** Deterministic numbers for the randomized tests. */
function generator(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}

/** One random action; returns what it observed. */
function step(machine: PagingMachine, random: (limit: number) => number): string | number {
  const page = random(3) === 0 ? 0x200000 + random(64) * 0x1000 : random(24) * 0x1000;
  switch (random(14)) {
    case 0: machine.mmu.invalidatePage(page); return 'invlpg';
    case 1: machine.mode({ cpl: random(2) * 3 }); return 'cpl';
    case 2: if (random(3) === 0) machine.mmu.flushNonGlobal(); return 'cr3';
    case 3: if (random(8) === 0) machine.mmu.flushAll(); return 'all';
    case 4: machine.mode({ cr3: PML4 | random(3) }); return 'pcid';
    case 5: {
      const at = PT + random(24) * 8;
      machine.put64(at, machine.get64(at) ^ [W, U, G, 0x20n, 0x1000n][random(5)]!);
      return 'pte';
    }
    case 6: machine.mode({ ac: random(2) === 1 }); return 'ac';
    case 7: machine.mmu.codePageChanged(frame(random(24)) / 4096, random(2) === 1); return 'code';
    case 8: {
      const result = machine.access('fetch', page);
      if (typeof result === 'number') machine.mmu.enterExecute(page, 64);
      return result;
    }
    default: return machine.access(random(2) === 0 ? 'read' : 'write', page, random(8) === 0);
  }
}
function randomMachine(): PagingMachine {
  const machine = tables();
  machine.put64(PD + 8, 0x200000n | P | W | U | PS);
  machine.long(PML4, { cr4: Cr4.PCIDE | Cr4.SMAP });
  return machine;
}

it('never has a fast entry that the modelled TLB would not answer for free', () => {
  const machine = randomMachine();
  const random = generator(42);
  const { memory, cpu, mmu } = machine;
  let checked = 0;
  for (let i = 0; i < 6000; i++) {
    step(machine, random);
    if (i % 3 !== 0) continue;
    for (const [kind, field] of [[AccessKind.Read, S.readTable], [AccessKind.Write, S.writeTable], [AccessKind.Execute, S.execTable]] as const) {
      const table = cpu.get32(field);
      for (let index = 0; index < FAST_ENTRIES; index++) {
        const at = (table + index * 16) >>> 2;
        if (memory.i32[at + 1] === NO_TAG_HIGH) continue;
        const linear = memory.u32[at]!;
        const before = machine.charged;
        const physical = mmu.translate(linear, kind, false);
        const fast = ((memory.u32[at + 2]! + linear) >>> 0) - memory.ramBase;
        if (physical !== fast || machine.charged !== before) expect({ i, kind, linear, physical, extra: machine.charged - before }).toEqual({ i, kind, linear, physical: fast, extra: 0 });
        checked++;
      }
    }
  }
  expect(checked).toBeGreaterThan(1000);
});

it('saves and loads exactly', () => {
  const machine = randomMachine();
  const random = generator(7);
  for (let i = 0; i < 3000; i++) step(machine, random);
  const copy = new PagingMachine();
  const ram = (m: PagingMachine): Uint8Array => m.memory.u8.subarray(m.memory.ramBase, m.memory.ramBase + m.memory.ramSize);
  ram(copy).set(ram(machine));
  for (const field of [S.cr0, S.cr3, S.cr4, S.efer, S.cpl, S.flagsRest, S.extra]) copy.cpu.set32(field, machine.cpu.get32(field));
  copy.mmu.load(JSON.parse(JSON.stringify(machine.mmu.save())));
  for (let page = 0; page < 512; page++) copy.mmu.codePageChanged(frame(page) / 4096, false);
  expect(copy.mmu.save()).toEqual(machine.mmu.save());
  const [one, two] = [generator(99), generator(99)];
  for (let i = 0; i < 3000; i++) {
    const expected = step(machine, one);
    const got = step(copy, two);
    if (got !== expected || copy.charged !== machine.charged) expect({ i, got, charged: copy.charged }).toEqual({ i, got: expected, charged: machine.charged });
  }
  expect(copy.mmu.save()).toEqual(machine.mmu.save());
  expect(copy.mmu.counters).toEqual(machine.mmu.counters);
  const other = new PagingMachine({ tlb: { instruction: { entries4k: 8, ways4k: 2, entriesLarge: 0, waysLarge: 0 }, data: { entries4k: 4, ways4k: 2, entriesLarge: 0, waysLarge: 0 }, second: null } });
  expect(() => other.mmu.load(machine.mmu.save())).toThrow(/saved with/);
});
