import { describe, expect, it } from 'vitest';
import type { Cpu } from '../../cpu/cpu.ts';
import { TranslatePurpose, type SecondLevel } from '../../cpu/hooks.ts';
import { Cr0, S } from '../../cpu/state.ts';
import { PagingMachine, REFERENCE_COST } from './paging-machine.ts';

const P = 1n, W = 2n, U = 4n, PS = 0x80n;
const OFFSET = 0x200000;
const [PML4, PDPT, PD, PT, PAGE] = [0x1000, 0x2000, 0x3000, 0x4000, 0x10000];

/** Guest-physical to host-physical by adding OFFSET, four references each, with pages that refuse accesses. */
class FakeSecondLevel implements SecondLevel {
  root = 0x77000;
  pageShift = 12;
  permissions = 7;
  references = 0;
  readonly refused = new Map<number, number>();
  readonly calls: string[] = [];

  translate(_cpu: Cpu, guestPhysical: number, access: number, purpose: TranslatePurpose, linear: number): number {
    this.calls.push(`${['page', 'table', 'mark', 'physical'][purpose]} ${guestPhysical.toString(16)} ${access} ${linear.toString(16)}`);
    this.references = 4;
    this.permissions = 7 & ~(this.refused.get(guestPhysical >>> 12) ?? 0);
    return (access & ~this.permissions) === 0 ? guestPhysical + OFFSET : -1;
  }
  peek(_cpu: Cpu, guestPhysical: number): number { return guestPhysical + OFFSET; }
}

function nested(): { machine: PagingMachine; second: FakeSecondLevel } {
  const machine = new PagingMachine();
  const second = new FakeSecondLevel();
  machine.put64(OFFSET + PML4, BigInt(PDPT) | P | W | U);
  machine.put64(OFFSET + PDPT, BigInt(PD) | P | W | U);
  machine.put64(OFFSET + PD, BigInt(PT) | P | W | U);
  machine.put64(OFFSET + PT + 40, BigInt(PAGE) | P | W | U);
  machine.put64(OFFSET + PD + 8, 0x400000n | P | W | U | PS);
  machine.cpu.secondLevel = second;
  machine.long(PML4);
  return { machine, second };
}

describe('nested translation', () => {
  it('makes 24 references with four levels on both sides', () => {
    const { machine, second } = nested();
    expect(machine.access('read', 0x5abc)).toBe(OFFSET + PAGE + 0xabc);
    expect(machine.mmu.counters).toMatchObject({ walkReferences: 4, secondLevelReferences: 20 });
    expect(machine.charged).toBe(24 * REFERENCE_COST);
    expect(second.calls).toEqual(['table 1000 1 5abc', 'table 2000 1 5abc', 'table 3000 1 5abc', 'table 4028 1 5abc', 'page 10abc 1 5abc']);
    expect(machine.fast('read', 0x5000)).toBe(OFFSET + PAGE);
    expect(machine.mmu.peek(0x5abc)).toBe(OFFSET + PAGE + 0xabc);
    expect(machine.get64(OFFSET + PT + 40) & 0x60n).toBe(0x20n);
  });

  it('asks for the right to write an entry only when a flag must be set', () => {
    const { machine, second } = nested();
    second.refused.set(PT >>> 12, 2);
    expect(machine.access('read', 0x5000)).toBe('abort');
    expect(second.calls.at(-1)).toBe('mark 4028 2 5000');
    machine.put64(OFFSET + PT + 40, BigInt(PAGE) | P | W | U | 0x20n);
    expect(machine.access('read', 0x5000)).toBe(OFFSET + PAGE);
    expect(machine.access('write', 0x5000)).toBe('abort'); // the dirty flag
  });

  it('stops where a table cannot be read, and at the page', () => {
    const { machine, second } = nested();
    second.refused.set(PD >>> 12, 7);
    expect(machine.access('read', 0x5000)).toBe('abort');
    expect(machine.mmu.counters.walkReferences).toBe(2);
    second.refused.clear();
    second.refused.set(PAGE >>> 12, 2);
    expect(machine.access('read', 0x5000)).toBe(OFFSET + PAGE);
    expect(machine.access('write', 0x5000)).toBe('abort');
    expect(machine.fast('read', 0x5000)).toBe(null); // the entry is gone
    second.refused.set(PAGE >>> 12, 4);
    expect(machine.access('fetch', 0x5000)).toBe('abort');
    expect(machine.access('write', 0x5000)).toBe(OFFSET + PAGE);
    expect(machine.access('fetch', 0x5000)).toBe('abort');
  });

  it('puts a guest page fault before the page\'s own second-level check', () => {
    const { machine, second } = nested();
    second.refused.set(PAGE >>> 12, 7);
    machine.put64(OFFSET + PT + 40, BigInt(PAGE) | P | U);
    expect(machine.access('write', 0x5000)).toBe('PF 3');
    expect(machine.access('read', 0x5000)).toBe('abort');
  });

  it('does not let a cleared CR0.WP write what the second level protects', () => {
    const { machine, second } = nested();
    machine.put64(OFFSET + PT + 40, BigInt(PAGE) | P | U | 0x60n);
    machine.mode({ cr0: Cr0.PE | Cr0.PG });
    second.refused.set(PAGE >>> 12, 2);
    machine.read(0x5000);
    expect(machine.fast('write', 0x5000)).toBe(null);
    expect(machine.access('write', 0x5000)).toBe('abort');
    second.refused.clear();
    expect(machine.access('write', 0x5000)).toBe(OFFSET + PAGE);
  });

  it('enters a large page at the smaller size underneath, and INVLPG removes all pieces', () => {
    const { machine, second } = nested();
    expect(machine.read(0x200000)).toBe(OFFSET + 0x400000);
    const walks = machine.mmu.counters.walks;
    machine.read(0x201000);
    expect(machine.mmu.counters.walks).toBe(walks + 1);
    machine.mmu.invalidatePage(0x3ff000);
    expect(machine.fast('read', 0x200000)).toBe(null);
    expect(machine.fast('read', 0x201000)).toBe(null);
    second.pageShift = 21;
    machine.read(0x200000);
    machine.read(0x201000);
    expect(machine.mmu.counters.walks).toBe(walks + 2);
  });

  it('tags combined mappings with the root and drops them by root', () => {
    const { machine, second } = nested();
    machine.read(0x5000);
    second.root = 0x88000;
    machine.mmu.updateContext();
    expect(machine.fast('read', 0x5000)).toBe(null);
    machine.read(0x5000);
    expect(machine.mmu.counters.walks).toBe(2);
    machine.mmu.invalidateEpt(0x77000);
    machine.read(0x5000);
    expect(machine.mmu.counters.walks).toBe(2);
    machine.mmu.invalidateEpt(-1);
    machine.read(0x5000);
    expect(machine.mmu.counters.walks).toBe(3);
    // INVLPG reaches the current VPID under every root
    second.root = 0x77000;
    machine.mmu.updateContext();
    machine.read(0x5000);
    second.root = 0x88000;
    machine.mmu.updateContext();
    machine.mmu.invalidatePage(0x5000);
    second.root = 0x77000;
    machine.mmu.updateContext();
    machine.read(0x5000);
    expect(machine.mmu.counters.walks).toBe(5);
    machine.cpu.secondLevel = null;
    machine.mmu.updateContext();
    machine.put64(PML4, 0n);
    expect(machine.access('read', 0x5000)).toBe('PF 0');
  });

  it('is modelled without guest paging too', () => {
    const { machine, second } = nested();
    machine.mode({ cr0: Cr0.PE, efer: 0, cr4: 0 });
    second.calls.length = 0;
    expect(machine.access('write', 0x5abc)).toBe(OFFSET + 0x5abc);
    expect(second.calls).toEqual(['page 5abc 2 5abc']);
    expect(machine.mmu.counters).toMatchObject({ walks: 1, walkReferences: 0, secondLevelReferences: 4 });
    expect(machine.fast('write', 0x5000)).toBe(OFFSET + 0x5000);
    machine.write(0x5004);
    expect(machine.mmu.counters.walks).toBe(1);
    expect(machine.mmu.peek(0x5abc)).toBe(OFFSET + 0x5abc);
    machine.mmu.flushAll();
    expect(machine.fast('write', 0x5000)).toBe(null);
  });

  it('makes 14 references under PAE paging', () => {
    const { machine } = nested();
    machine.cpu.setSigned(S.pdpte, PD | 1);
    machine.mode({ cr0: Cr0.PE | Cr0.PG, efer: 0, cr4: 0x20 });
    machine.mmu.flushAll();
    expect(machine.access('read', 0x5000)).toBe(OFFSET + PAGE);
    expect(machine.mmu.counters).toMatchObject({ walkReferences: 2, secondLevelReferences: 12 });
  });
});
