import type { Bus } from '../cpu/bus.ts';
import { checkFeatures } from '../cpu/cpuid.ts';
import { Cpu } from '../cpu/cpu.ts';
import type { Engine } from '../cpu/engine.ts';
import { updateMode } from '../cpu/engine.ts';
import { Evaluator } from '../cpu/evaluator.ts';
import { Execution } from '../cpu/execution.ts';
import { Interpreter } from '../cpu/interpreter.ts';
import type { Memory } from '../cpu/memory.ts';
import { Mxcsr } from '../cpu/float.ts';
import { S, SegmentIndex, STATE_SIZE } from '../cpu/state.ts';
import { Translation } from '../cpu/translation.ts';
import { installVmx } from '../vmx/install.ts';
import { vmxOf } from '../vmx/operation.ts';
import { isa } from './isa.ts';
import { checkProfile, type MachineProfile } from './profile.ts';

export type EngineName = 'interpret' | 'evaluate';

/** A physical CPU with everything that belongs to it: translation, VMX, engine, execution loop. */
export class Core {
  readonly cpu: Cpu;
  readonly engine: Engine;
  readonly execution: Execution;

  constructor(memory: Memory, index: number, profile: MachineProfile, bus: Bus, engine: EngineName) {
    checkProfile(profile);
    checkFeatures(profile.cpu.features);
    this.cpu = new Cpu(memory, index, profile.cpu, bus);
    this.cpu.mmu = new Translation(this.cpu);
    if (this.cpu.features.has('VMX')) installVmx(this.cpu, profile.vmx, isa.rows);
    this.reset();
    this.engine = engine === 'interpret' ? new Interpreter(this.cpu, isa) : new Evaluator(this.cpu, isa);
    this.execution = new Execution(this.cpu, this.engine);
    updateMode(this.cpu);
  }

  /** Register values after power-up (SDM "Processor State After Reset"). */
  private reset(): void {
    const { cpu } = this;
    for (let n = 0; n < 16; n++) cpu.setReg64(n, 0n);
    cpu.setReg32(2, cpu.profile.signature);
    cpu.flags = 2;
    for (const n of [SegmentIndex.ES, SegmentIndex.SS, SegmentIndex.DS, SegmentIndex.FS, SegmentIndex.GS]) cpu.setSegment(n, 0, 0, 0xffff, 0x93);
    cpu.setSegment(SegmentIndex.CS, 0xf000, 0xffff0000, 0xffff, 0x9b);
    cpu.setSegment(SegmentIndex.LDTR, 0, 0, 0xffff, 0x82);
    cpu.setSegment(SegmentIndex.TR, 0, 0, 0xffff, 0x8b);
    cpu.set32(S.gdtrLimit, 0xffff);
    cpu.set32(S.idtrLimit, 0xffff);
    cpu.set64(S.cr0, 0x60000010n);
    cpu.set64(S.dr + 48, 0xffff0ff0n);
    cpu.set64(S.dr + 56, 0x400n);
    cpu.set64(S.pat, 0x0007040600070406n);
    cpu.set64(S.xcr0, 1n);
    cpu.set32(S.mxcsr, Mxcsr.Default);
    cpu.setFloat(S.shadowAt, -1);
    cpu.rip = 0xfff0;
    cpu.mmu.updateContext();
  }

  /** Plain data: state block, translation, VMX, and the words outside linear memory. */
  save(): CoreSnapshot {
    const { cpu } = this;
    return {
      state: cpu.u8.slice(cpu.base, cpu.base + STATE_SIZE),
      cycles: cpu.cycles, retired: cpu.retired, idle: cpu.idle, charged: [...cpu.charged], chargedTotal: cpu.chargedTotal,
      interruptLine: cpu.interruptLine, nmiPending: cpu.nmiPending, initPending: cpu.initPending,
      mmu: cpu.mmu.save(), vmx: cpu.extension === null ? null : vmxOf(cpu).save(),
    };
  }

  /** Restores a snapshot; RAM must have been restored before. */
  load(saved: CoreSnapshot): void {
    const { cpu } = this;
    cpu.u8.set(saved.state, cpu.base);
    cpu.setFloat(S.sliceCycles, saved.cycles);
    cpu.setFloat(S.sliceRetired, saved.retired);
    for (const offset of [S.left, S.budget, S.extra, S.retired]) cpu.set32(offset, 0);
    cpu.idle = saved.idle;
    cpu.charged.set(saved.charged);
    cpu.chargedTotal = saved.chargedTotal;
    cpu.interruptLine = saved.interruptLine;
    cpu.nmiPending = saved.nmiPending;
    cpu.initPending = saved.initPending;
    this.engine.flushCode();
    cpu.mmu.load(saved.mmu);
    if (saved.vmx !== null) vmxOf(cpu).restore(cpu, saved.vmx);
    cpu.mmu.updateContext();
    updateMode(cpu);
  }
}

export interface CoreSnapshot {
  readonly state: Uint8Array;
  readonly cycles: number;
  readonly retired: number;
  readonly idle: number;
  readonly charged: readonly number[];
  readonly chargedTotal: number;
  readonly interruptLine: boolean;
  readonly nmiPending: boolean;
  readonly initPending: boolean;
  readonly mmu: unknown;
  readonly vmx: ReturnType<ReturnType<typeof vmxOf>['save']> | null;
}
