import { AccessKind } from '../../cpu/mmu.ts';
import { Memory } from '../../cpu/memory.ts';
import { Cr0, Cr4, Efer, S } from '../../cpu/state.ts';
import { loadPageDirectoryBase } from '../../cpu/control.ts';
import { Core } from '../../machine/core.ts';
import { Platform } from '../../machine/platform.ts';
import { profiles } from '../../machine/profile.ts';
import { Emulator } from '../../monitors/emulator.ts';
import { Ledger } from '../../monitors/ledger.ts';
import type { VirtualMachine } from '../../monitors/monitor.ts';
import { PagePool } from '../../monitors/page-pool.ts';
import { Port } from '../../monitors/port.ts';
import { Shadow, type ShadowOptions } from '../../monitors/shadow.ts';

const MIB = 2 ** 20;
export const GUEST_MEMORY = 8 * MIB;

export interface ModeSettings { readonly cr0?: number; readonly cr4?: number; readonly efer?: number; readonly cr3?: number }

/** A physical CPU on shadow tables, and beside it a virtual CPU that walks the guest's tables directly: the expectation. */
export class ShadowMachine {
  readonly vm: VirtualMachine;
  readonly shadow: Shadow;
  readonly pool: PagePool;
  readonly emulator: Emulator;
  private readonly memory: Memory;

  constructor(poolPages = 512, options: ShadowOptions = {}) {
    const offset = 4 * MIB;
    this.memory = new Memory(GUEST_MEMORY + offset, 2);
    const profile = profiles.unit;
    const core = new Core(this.memory, 0, profile, {
      readPhysical: () => 0xffffffff, writePhysical: () => {}, ioRead: () => 0, ioWrite: () => {}, acknowledgeInterrupt: () => -1, readApicBase: () => 0, writeApicBase: () => {},
      readTaskPriority: () => 0, writeTaskPriority: () => {},
    }, 'interpret');
    const platform = new Platform({
      memorySize: GUEST_MEMORY, busDivisor: 1, time: { frequency: 1e9, now: () => 0, changed: () => {} }, console: () => {}, stop: () => {}, setInterruptLine: () => {}, signal: () => {}, report: () => {},
    });
    this.vm = {
      core, profile, platform, memorySize: GUEST_MEMORY, memoryOffset: offset, monitorStart: 0, monitorEnd: poolPages * 4096, ledger: new Ledger(),
      fail: (reason) => { throw new Error(reason); },
    };
    this.pool = new PagePool(this.memory, 0, poolPages * 4096);
    this.shadow = new Shadow(this.vm, new Port(this.vm), this.pool, {
      tlb: { page: (linear) => core.cpu.mmu.invalidatePage(linear), all: () => core.cpu.mmu.flushAll() }, ...options,
    });
    this.emulator = new Emulator(this.vm, profile.cpu.features);
  }

  /** Words of guest-physical memory. */
  put(guestPhysical: number, low: number, high?: number): void {
    const at = (this.memory.ramBase + this.vm.memoryOffset + guestPhysical) >>> 2;
    this.memory.u32[at] = low;
    if (high !== undefined) this.memory.u32[at + 1] = high;
  }
  get(guestPhysical: number): number { return this.memory.u32[(this.memory.ramBase + this.vm.memoryOffset + guestPhysical) >>> 2]!; }

  /** Sets the guest's paging mode in both CPUs. */
  mode(settings: ModeSettings): void {
    const cr0 = (Cr0.PE | Cr0.ET | (settings.cr0 ?? Cr0.PG)) >>> 0;
    const cr4 = settings.cr4 ?? 0;
    const efer = settings.efer ?? 0;
    const cr3 = settings.cr3 ?? 0;
    const virtual = this.emulator.cpu;
    virtual.set32(S.cr0, cr0);
    virtual.set32(S.cr4, cr4);
    virtual.set32(S.efer, efer);
    virtual.mmu.updateContext();
    loadPageDirectoryBase(virtual, cr3, 0);
    virtual.mmu.flushAll();
    const entry = (i: number): readonly [number, number] => [virtual.get32(S.pdpte + i * 8), virtual.get32(S.pdpte + i * 8 + 4)];
    const long = (efer & Efer.LMA) !== 0;
    this.shadow.setGuest({ paged: (cr0 & Cr0.PG) !== 0, pae: (cr4 & Cr4.PAE) !== 0, long, cr0, cr3, cr4, efer, pdptes: [entry(0), entry(1), entry(2), entry(3)] });
    const { cpu } = this.vm.core;
    cpu.set32(S.cr0, (cr0 | Cr0.PG | Cr0.WP) >>> 0);
    cpu.set32(S.cr4, (this.shadow.pae ? Cr4.PAE : 0) | (cr0 & Cr0.PG ? cr4 & (Cr4.SMEP | Cr4.SMAP) : 0));
    cpu.set32(S.efer, long ? efer : this.shadow.pae ? efer & Efer.NXE : 0);
    cpu.mmu.updateContext();
    loadPageDirectoryBase(cpu, this.shadow.root, 0);
    cpu.mmu.flushAll();
  }

  private privilege(user: boolean): void {
    for (const cpu of [this.vm.core.cpu, this.emulator.cpu]) {
      cpu.cpl = user ? 3 : 0;
      cpu.mmu.updateContext();
    }
  }

  /** An access by the physical CPU, with the shadow filled as its faults ask: what it comes to in the guest's terms. */
  access(linear: number, kind: AccessKind, user: boolean): string {
    this.privilege(user);
    const { cpu } = this.vm.core;
    for (let tries = 0; tries < 3; tries++) {
      const physical = cpu.mmu.translate(linear, kind, false);
      if (physical >= 0) return `at ${physical - this.vm.memoryOffset}`;
      const result = this.shadow.fault(linear, cpu.get32(S.faultError));
      if (result === 'filled') continue;
      return 'guestFault' in result ? `fault ${result.guestFault}` : `${result.traced ? 'traced' : 'device'} ${result.device}`;
    }
    return 'the same fault again and again';
  }

  /** The same access as a CPU does it on the guest's own tables. */
  expected(linear: number, kind: AccessKind, user: boolean): string {
    this.privilege(user);
    const { cpu } = this.emulator;
    cpu.mmu.flushAll();
    const physical = cpu.mmu.translate(linear, kind, false);
    if (physical < 0) return `fault ${cpu.get32(S.faultError)}`;
    return physical >= this.memory.ramSize ? `device ${physical - 2 ** 40}` : `at ${physical - this.vm.memoryOffset}`;
  }

  /** Copies of guest memory, for comparing accessed and dirty flags. */
  snapshot(from: number, bytes: number): Uint8Array { return this.memory.u8.slice(this.memory.ramBase + this.vm.memoryOffset + from, this.memory.ramBase + this.vm.memoryOffset + from + bytes); }
  restore(from: number, bytes: Uint8Array): void { this.memory.u8.set(bytes, this.memory.ramBase + this.vm.memoryOffset + from); }
}
