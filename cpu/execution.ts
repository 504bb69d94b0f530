import type { Cpu } from './cpu.ts';
import type { Engine } from './engine.ts';
import { updateMode } from './engine.ts';
import { EventType, type CpuEvent } from './events.ts';
import { Vector } from './fault.ts';
import { deliverEvent, raise } from './interrupt.ts';
import { Flag, Leave, S, SegmentIndex } from './state.ts';

/** Why {@link Execution.run} came back. */
export const ExecutionStop = {
  /** The time or instruction limit was reached. */
  Limit: 0,
  /** Halted, nothing deliverable. */
  Idle: 1,
  /** Shut down by a triple fault. */
  Shutdown: 2,
  /** Waiting for a start-up IPI. */
  WaitForSipi: 3,
  /** {@link Execution.stop} was called. */
  Stopped: 4,
} as const;
export type ExecutionStop = (typeof ExecutionStop)[keyof typeof ExecutionStop];

const Activity = { Active: 0, Halt: 1, Shutdown: 2, WaitForSipi: 3 } as const;
const SLICE = 2 ** 30 - 1;
const DR7 = 56;

/** Runs one CPU: instruction boundaries, event priorities, single-stepping, and the engine in between. */
export class Execution {
  readonly cpu: Cpu;
  readonly engine: Engine;
  private stopping = false;
  /** The `time` of the current run. */
  private until = Infinity;
  private debugReported = false;

  constructor(cpu: Cpu, engine: Engine) {
    this.cpu = cpu;
    this.engine = engine;
    cpu.deliver = (event) => deliverEvent(cpu, event);
  }

  /** Ends the current run at the next instruction boundary. */
  stop(): void {
    this.stopping = true;
    this.cpu.leaveSoon();
  }

  /** A device event has come closer during the current run: it ends at `time` (clock in force) if that is before its limit. */
  sooner(time: number): void {
    if (time >= this.until) return;
    this.until = time;
    this.cpu.leaveAt(time);
  }

  /** The interrupt line of the CPU changed; a running CPU looks at it at the next boundary. */
  interruptRequest(level: boolean): void {
    const cpu = this.cpu;
    cpu.interruptLine = level;
    cpu.set32(S.interruptPending, level || cpu.nmiPending ? 1 : 0);
    if (level) cpu.leaveSoon();
  }

  /**
   * Runs until the clock in force (cpu.now) reaches `time` or `instructions` have retired in all, whichever comes
   * first; the boundary is exact to the instruction.
   */
  run(time: number, instructions: number): ExecutionStop {
    const cpu = this.cpu;
    this.stopping = false;
    this.until = time;
    for (;;) {
      this.newSlice();
      if (this.stopping) return ExecutionStop.Stopped;
      const boundary = this.boundary();
      if (boundary >= 0) return boundary as ExecutionStop;
      const timeLeft = Math.ceil(this.until - cpu.now);
      const instructionsLeft = instructions - cpu.retired;
      if (timeLeft <= 0 || instructionsLeft <= 0) return ExecutionStop.Limit;
      const hookLimit = cpu.hooks !== null ? cpu.hooks.deadline(cpu) - cpu.cycles : Infinity;
      // every instruction costs at least a cycle, so a budget of as many cycles cannot overshoot the count
      let budget = Math.min(timeLeft, instructionsLeft, Math.max(1, Math.ceil(hookLimit)), SLICE);
      const rest = cpu.get32(S.flagsRest);
      const careful = (rest & (Flag.TF | Flag.RF)) !== 0 || (cpu.get32(S.dr + DR7) & 0xff) !== 0;
      if (careful) {
        if (this.codeBreakpoint(rest)) continue;
        budget = 1;
      } else if (cpu.shadowNow !== 0 && (cpu.interruptLine || cpu.nmiPending)) budget = 1;
      cpu.set32(S.left, budget);
      cpu.set32(S.budget, budget);
      cpu.set32(S.interruptPending, cpu.interruptLine || cpu.nmiPending ? 1 : 0);
      const before = cpu.retired;
      const iterations = cpu.getFloat(S.iterations);
      cpu.interrupted = false;
      const leave = this.engine.run();
      if (leave === Leave.Fault) {
        raise(cpu, cpu.recordedFault());
        updateMode(cpu);
      } else if (careful) this.afterStep(rest, cpu.retired !== before, cpu.getFloat(S.iterations) !== iterations);
    }
  }

  /** Folds the counters of the last slice, so that they can start again. */
  private newSlice(): void {
    const cpu = this.cpu;
    cpu.setFloat(S.sliceCycles, cpu.cycles);
    cpu.setFloat(S.sliceRetired, cpu.retired);
    cpu.set32(S.retired, 0);
    cpu.set32(S.left, 0);
    cpu.set32(S.budget, 0);
    cpu.set32(S.extra, 0);
  }

  /** Events between instructions, highest priority first (SDM "Priority Among Concurrent Events"). -1: go on executing. */
  private boundary(): number {
    const cpu = this.cpu;
    for (let i = 0; ; i++) {
      if (i > 64) throw new Error(`events follow one another without an instruction in between at RIP 0x${cpu.rip.toString(16)}`);
      if (cpu.hooks !== null && cpu.hooks.boundary(cpu)) {
        updateMode(cpu);
        continue;
      }
      const activity = cpu.get32(S.activity);
      if (activity === Activity.WaitForSipi) return ExecutionStop.WaitForSipi;
      if (cpu.nmiPending && !cpu.get32(S.nmiBlocked) && cpu.shadowNow !== 2 && activity !== Activity.WaitForSipi) {
        cpu.nmiPending = false;
        this.event({ type: EventType.Nmi, vector: Vector.Nmi, error: -1, data: 0, length: 0 });
        continue;
      }
      if (activity === Activity.Shutdown) return ExecutionStop.Shutdown;
      if (cpu.interruptLine) {
        const how = cpu.hooks !== null ? cpu.hooks.externalInterrupt(cpu) : null;
        if (how === 'exit') {
          updateMode(cpu);
          continue;
        }
        if (how === 'deliver' || (how === null && cpu.get32(S.flagsRest) & Flag.IF && cpu.shadowNow === 0)) {
          const vector = cpu.bus.acknowledgeInterrupt(cpu.index);
          if (vector >= 0) {
            this.event({ type: EventType.ExternalInterrupt, vector, error: -1, data: 0, length: 0 });
            continue;
          }
        }
      }
      if (activity === Activity.Halt) return ExecutionStop.Idle;
      return -1;
    }
  }

  private event(event: CpuEvent): void {
    const cpu = this.cpu;
    cpu.set32(S.activity, Activity.Active);
    if (event.type === EventType.Nmi) cpu.set32(S.nmiBlocked, 1);
    deliverEvent(cpu, event);
    updateMode(cpu);
  }

  /** Instruction breakpoints (SDM "Instruction-Breakpoint Exception Condition"): faults, suppressed by RF. */
  private codeBreakpoint(rest: number): boolean {
    const cpu = this.cpu;
    const dr7 = cpu.get32(S.dr + DR7);
    if (!(dr7 & 0xff)) return false;
    let hit = 0;
    const linear = cpu.code64 ? cpu.rip : (cpu.rip + cpu.segmentBase(SegmentIndex.CS)) >>> 0;
    for (let n = 0; n < 4; n++) {
      if (!((dr7 >> (2 * n)) & 3)) continue;
      const kind = (dr7 >>> (16 + 4 * n)) & 15;
      if (kind === 0) { if (cpu.getSigned(S.dr + 8 * n) === linear) hit |= 1 << n; }
      else if (!this.debugReported) {
        this.debugReported = true;
        cpu.observer?.unmodelled?.('data and I/O breakpoints (DR7): they never match');
      }
    }
    if (!hit || rest & Flag.RF) return false;
    deliverEvent(cpu, { type: EventType.HardwareException, vector: Vector.Debug, error: -1, data: hit, length: 0 });
    updateMode(cpu);
    return true;
  }

  /** After one instruction with TF or RF set when it began. */
  private afterStep(rest: number, retired: boolean, iterated: boolean): void {
    const cpu = this.cpu;
    // a repeated string instruction is stepped iteration by iteration
    if (!retired && !iterated) return;
    if (retired && rest & Flag.RF) cpu.set32(S.flagsRest, cpu.get32(S.flagsRest) & ~Flag.RF);
    // MOV SS and POP SS hold the trap back for one instruction
    // one that delivered an event itself (INT n, INTO) has cleared TF: the handler is not stepped into ("Single-Step Exception Condition")
    if (rest & Flag.TF && cpu.shadowNow !== 2 && !cpu.interrupted) {
      deliverEvent(cpu, { type: EventType.HardwareException, vector: Vector.Debug, error: -1, data: 0x4000, length: 0 });
      updateMode(cpu);
    }
  }
}
