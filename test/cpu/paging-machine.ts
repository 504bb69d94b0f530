import type { Bus } from '../../cpu/bus.ts';
import { Cpu } from '../../cpu/cpu.ts';
import { fastIndex, Memory, NO_TAG_HIGH } from '../../cpu/memory.ts';
import { AccessKind } from '../../cpu/mmu.ts';
import { estimate, type CpuProfile, type TlbGeometry } from '../../cpu/profile.ts';
import { Cr0, Cr4, Efer, Flag, S } from '../../cpu/state.ts';
import { Translation } from '../../cpu/translation.ts';

const emptyBus: Bus = {
  readPhysical: () => 0xffffffff, writePhysical: () => {}, ioRead: () => 0, ioWrite: () => {}, acknowledgeInterrupt: () => -1,
  readApicBase: () => 0, writeApicBase: () => {}, readTaskPriority: () => 0, writeTaskPriority: () => {},
};

/** Two ways and two sets of 4-KByte entries, two large entries, a second level of eight: small enough to fill. */
export const smallTlb: TlbGeometry = {
  instruction: { entries4k: 4, ways4k: 2, entriesLarge: 2, waysLarge: 0 },
  data: { entries4k: 4, ways4k: 2, entriesLarge: 2, waysLarge: 0 },
  second: { entries4k: 8, ways4k: 4, entriesLarge: 0, waysLarge: 0 },
};

export const REFERENCE_COST = 7;
export const SECOND_COST = 100;

export interface MachineOptions {
  readonly ram?: number;
  readonly tlb?: TlbGeometry;
  readonly features?: readonly string[];
  readonly physicalAddressBits?: number;
  readonly costs?: CpuProfile['costs'];
}

/** A CPU with memory and translation only: page tables are written by hand, accesses are translate() calls. */
export class PagingMachine {
  readonly memory: Memory;
  readonly cpu: Cpu;
  readonly mmu: Translation;
  readonly profile: CpuProfile;

  constructor(options: MachineOptions = {}) {
    this.profile = {
      name: 'test', description: '', signature: 0, brand: '', features: options.features ?? ['PSE36', 'PDPE1GB'], physicalAddressBits: options.physicalAddressBits ?? 40, linearAddressBits: 48,
      maxBasicLeaf: 1, frequency: 1e9, tlb: options.tlb ?? smallTlb,
      costs: options.costs ?? { 'tlb.second': estimate(SECOND_COST, 1, 100), 'walk.reference': estimate(REFERENCE_COST, 1, 100) },
    };
    this.memory = new Memory(options.ram ?? 8 << 20, 1, 4096);
    this.cpu = new Cpu(this.memory, 0, this.profile, emptyBus);
    this.mmu = new Translation(this.cpu);
    this.cpu.mmu = this.mmu;
  }

  /** Writes a 64-bit word of RAM. */
  put64(physical: number, value: bigint): void { this.memory.view.setBigUint64(this.memory.ramBase + physical, value, true); }
  get64(physical: number): bigint { return this.memory.view.getBigUint64(this.memory.ramBase + physical, true); }
  put32(physical: number, value: number): void { this.memory.view.setUint32(this.memory.ramBase + physical, value, true); }
  get32(physical: number): number { return this.memory.view.getUint32(this.memory.ramBase + physical, true); }

  /** Sets the paging mode and privilege, and selects the context. */
  mode(settings: { cr0?: number; cr3?: number; cr4?: number; efer?: number; cpl?: number; ac?: boolean }): void {
    const { cpu } = this;
    if (settings.cr0 !== undefined) cpu.set32(S.cr0, settings.cr0);
    if (settings.cr3 !== undefined) cpu.setSigned(S.cr3, settings.cr3);
    if (settings.cr4 !== undefined) cpu.set32(S.cr4, settings.cr4);
    if (settings.efer !== undefined) cpu.set32(S.efer, settings.efer);
    if (settings.cpl !== undefined) cpu.set32(S.cpl, settings.cpl);
    if (settings.ac !== undefined) cpu.set32(S.flagsRest, settings.ac ? 2 | Flag.AC : 2);
    this.mmu.updateContext();
  }
  long(cr3: number, more: { wp?: boolean; cr4?: number; nxe?: boolean; cpl?: number; ac?: boolean } = {}): void {
    this.mode({
      cr0: Cr0.PE | Cr0.PG | (more.wp === false ? 0 : Cr0.WP), cr3, cr4: Cr4.PAE | Cr4.PGE | (more.cr4 ?? 0), efer: Efer.LME | Efer.LMA | (more.nxe === false ? 0 : Efer.NXE),
      cpl: more.cpl ?? 0, ac: more.ac ?? false,
    });
  }
  legacy(cr3: number, more: { wp?: boolean; cr4?: number; cpl?: number } = {}): void {
    this.mode({ cr0: Cr0.PE | Cr0.PG | (more.wp === false ? 0 : Cr0.WP), cr3, cr4: more.cr4 ?? Cr4.PSE | Cr4.PGE, efer: 0, cpl: more.cpl ?? 0, ac: false });
  }

  read(linear: number, system = false): number { return this.mmu.translate(linear, AccessKind.Read, system); }
  write(linear: number, system = false): number { return this.mmu.translate(linear, AccessKind.Write, system); }
  fetch(linear: number): number { return this.mmu.translate(linear, AccessKind.Execute, false); }
  /** Physical address, or the page-fault error code as 'PF 5', or 'abort'. */
  access(kind: 'read' | 'write' | 'fetch', linear: number, system = false): number | string {
    const physical = this.mmu.translate(linear, kind === 'read' ? AccessKind.Read : kind === 'write' ? AccessKind.Write : AccessKind.Execute, system);
    if (physical >= 0) return physical;
    const vector = this.cpu.get32(S.faultVector);
    if (vector === 255) return 'abort';
    if (vector !== 14 || this.cpu.getSigned(S.faultLinear) !== linear) throw new Error(`vector ${vector} at ${this.cpu.getSigned(S.faultLinear)}`);
    return `PF ${this.cpu.get32(S.faultError)}`;
  }

  /** What generated code would find in a table of the current context: host address minus ramBase, 'code' for a page with decoded code, or null. */
  fast(kind: 'read' | 'write' | 'fetch', linear: number): number | 'code' | null {
    const table = this.cpu.get32(kind === 'read' ? S.readTable : kind === 'write' ? S.writeTable : S.execTable);
    const at = table + fastIndex(linear) * 16;
    const tag = this.memory.view.getBigInt64(at, true);
    const page = BigInt(linear) & ~0xfffn;
    const physical = ((this.memory.view.getUint32(at + 8, true) + (linear >>> 0)) >>> 0) - this.memory.ramBase;
    if (tag === page) return physical;
    return tag === (page ^ (1n << 62n)) ? 'code' : null;
  }
  /** Number of filled entries in all tables of all contexts. */
  fastCount(): number {
    let count = 0;
    for (let at = this.memory.fastBase; at < this.memory.tlbBase; at += 16) if (this.memory.u32[(at + 4) >>> 2] !== NO_TAG_HIGH) count++;
    return count;
  }
  /** Cycles charged so far. */
  get charged(): number { return this.cpu.get32(S.extra); }
}
