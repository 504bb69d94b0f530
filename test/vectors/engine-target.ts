import type { Bus } from '../../cpu/bus.ts';
import { Cpu } from '../../cpu/cpu.ts';
import { updateMode, type Engine } from '../../cpu/engine.ts';
import type { CpuEvent } from '../../cpu/events.ts';
import type { Hooks } from '../../cpu/hooks.ts';
import { buildIsa, type Isa } from '../../cpu/isa.ts';
import { Memory } from '../../cpu/memory.ts';
import { Access, Cr0, Cr4, Efer, Leave, S, SegmentIndex } from '../../cpu/state.ts';
import { Translation } from '../../cpu/translation.ts';
import { unit } from '../../machine/profile.ts';
import { Layout, type CodeSize, type VectorForm, type VectorState } from './layout.ts';
import type { VectorException } from './pack.ts';
import type { VectorCase } from './reader.ts';
import type { VectorResult, VectorTarget } from './target.ts';

const RAM = 1 << 20;
/** Four page tables from here: PML4, PDPT, page directory, page table (identity, the first 2 MiB, user pages). */
const TABLES = 0x20000;
const TSS = 0x30000;

const silentBus: Bus = {
  readPhysical: () => 0xffffffff, writePhysical: () => {}, ioRead: () => 0, ioWrite: () => {}, acknowledgeInterrupt: () => -1, readApicBase: () => 0, writeApicBase: () => {}, readTaskPriority: () => 0, writeTaskPriority: () => {},
};

let isa: Isa | null = null;

/** Runs vectors on one of our engines: long mode, CPL 3, 4-level identity paging, 16- and 32-bit code as compatibility mode, as on the host. */
export class EngineTarget implements VectorTarget {
  readonly name: string;
  readonly states: number;
  private readonly memory = new Memory(RAM, 1, 16 << 20);
  private readonly cpu: Cpu;
  private readonly engine: Engine;
  private form: VectorForm | null = null;
  /** The event that INTO delivers by itself: caught before delivery. */
  private event: CpuEvent | null = null;
  private readonly data: Uint32Array;

  constructor(name: string, states: number, create: (cpu: Cpu, isa: Isa) => Engine) {
    this.name = name;
    this.states = states;
    isa ??= buildIsa();
    const cpu = (this.cpu = new Cpu(this.memory, 0, { ...unit.cpu, features: [...unit.cpu.features, 'BMI1'] }, silentBus));
    cpu.mmu = new Translation(cpu);
    for (let level = 0; level < 3; level++) this.memory.view.setUint32(this.memory.ramBase + TABLES + level * 4096, (TABLES + (level + 1) * 4096) | 7, true);
    for (let page = 0; page < 512; page++) this.memory.view.setUint32(this.memory.ramBase + TABLES + 3 * 4096 + page * 8, (page * 4096) | 7, true);
    cpu.set32(S.cr0, Cr0.PE | Cr0.PG | Cr0.WP | Cr0.AM | Cr0.NE | Cr0.ET | Cr0.MP);
    cpu.setSigned(S.cr3, TABLES);
    cpu.set32(S.cr4, Cr4.PAE | Cr4.PGE | Cr4.OSFXSR | Cr4.OSXMMEXCPT);
    cpu.set32(S.efer, Efer.LME | Efer.LMA | Efer.NXE | Efer.SCE);
    cpu.set32(S.cpl, 3);
    const flat = Access.Present | Access.Dpl | Access.S | Access.Writable | Access.Accessed | Access.Granularity;
    for (const segment of [SegmentIndex.ES, SegmentIndex.SS, SegmentIndex.DS]) cpu.setSegment(segment, 0x2b, 0, 0xffffffff, flat | Access.Big);
    for (const segment of [SegmentIndex.FS, SegmentIndex.GS]) cpu.setSegment(segment, 0, 0, 0, Access.Unusable);
    cpu.setSegment(SegmentIndex.LDTR, 0, 0, 0, Access.Unusable);
    cpu.setSegment(SegmentIndex.TR, 0x40, TSS, 0x67, Access.Present | 0xb);
    this.memory.view.setUint16(this.memory.ramBase + TSS + 0x66, 0x68, true); // no I/O permission bitmap
    cpu.hooks = this.capture();
    cpu.setFloat(S.shadowAt, -1);
    this.selectCode(64);
    this.engine = create(cpu, isa);
    this.data = new Uint32Array(this.memory.u8.buffer, this.memory.ramBase + Layout.dataPage, Layout.pageSize / 4);
  }

  private capture(): Hooks {
    return {
      event: (_cpu, event) => { this.event = event; return true; },
      instruction: () => false, tripleFault: () => false, boundary: () => false, deadline: () => Infinity, externalInterrupt: () => 'blocked', abort: () => {},
    };
  }

  private selectCode(size: CodeSize): void {
    const { cpu } = this;
    const code = Access.Present | Access.Dpl | Access.S | Access.Code | Access.Writable | Access.Accessed | Access.Granularity;
    cpu.setSegment(SegmentIndex.CS, size === 64 ? 0x33 : size === 32 ? 0x23 : 7, 0, 0xffffffff, code | (size === 64 ? Access.Long : size === 32 ? Access.Big : 0));
    cpu.mmu.updateContext();
    updateMode(cpu);
  }

  /** Puts the instruction of a form in place. */
  private enter(form: VectorForm): void {
    this.form = form;
    const at = this.memory.ramBase + Layout.codePage;
    this.memory.u8.fill(Layout.fill, at, at + Layout.pageSize);
    this.memory.u8.set(form.bytes, this.memory.ramBase + Layout.code);
    this.selectCode(form.codeSize);
    this.engine.flushCode();
    this.engine.stateChanged();
  }

  run({ form, initial }: Pick<VectorCase, 'form' | 'initial'>): VectorResult {
    const { cpu, memory } = this;
    if (form !== this.form) this.enter(form);
    this.data.fill(0);
    const region = memory.ramBase + Layout.region;
    memory.u8.set(initial.memory, region);
    const gpr = (cpu.base + S.gpr) >>> 3;
    cpu.u64.set(initial.registers, gpr);
    cpu.flags = initial.flags;
    cpu.set32(S.mxcsr, initial.mxcsr);
    cpu.u8.set(initial.xmm, cpu.base + S.xmm);
    cpu.rip = initial.rip;
    cpu.set32(S.retired, 0);
    let exception: VectorException | null = null;
    this.event = null;
    // every instruction costs at least a cycle; a repeated one may come back between iterations
    do {
      for (const offset of [S.left, S.budget]) cpu.set32(offset, 1);
      cpu.set32(S.extra, 0);
      if (this.engine.run() === Leave.Fault) {
        exception = { vector: cpu.get32(S.faultVector), error: cpu.get32(S.faultError) | 0 };
        break;
      }
    } while (cpu.get32(S.retired) === 0 && this.event === null);
    const event = this.event as CpuEvent | null;
    if (event) {
      exception = { vector: event.vector, error: event.error };
      cpu.rip = initial.rip + event.length;
    }
    const final: VectorState = { registers: cpu.u64.slice(gpr, gpr + 16), rip: cpu.rip, flags: cpu.flags, mxcsr: cpu.get32(S.mxcsr), xmm: cpu.u8.slice(cpu.base + S.xmm, cpu.base + S.xmm + 256), memory: memory.u8.slice(region, region + Layout.regionSize) };
    const first = (Layout.region - Layout.dataPage) / 4;
    for (let i = 0; i < this.data.length; i++) {
      if (this.data[i] !== 0 && (i < first || i >= first + Layout.regionSize / 4)) throw new Error(`${this.name}: ${form.text} wrote outside the region, at 0x${(Layout.dataPage + i * 4).toString(16)}`);
    }
    return { final, exception };
  }
}
