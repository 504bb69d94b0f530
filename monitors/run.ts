import type { Bus } from '../cpu/bus.ts';
import { ChargeTo } from '../cpu/cpu.ts';
import { ExecutionStop } from '../cpu/execution.ts';
import { Memory } from '../cpu/memory.ts';
import type { Observer } from '../cpu/observer.ts';
import { MachineBus } from '../machine/bus.ts';
import { Core, type CoreSnapshot, type EngineName } from '../machine/core.ts';
import { planLoad, type LoadOptions } from '../machine/boot/detect.ts';
import { writePlan, type LoadPlan } from '../machine/boot/load-plan.ts';
import { Platform } from '../machine/platform.ts';
import type { MachineProfile } from '../machine/profile.ts';
import { featureRows } from '../cpu/cpuid.ts';
import { Curve } from './curve.ts';
import { Ledger } from './ledger.ts';
import { Listing } from './listing.ts';
import type { Monitor, MonitorKind } from './monitor.ts';
import type { NotRun, RunResult, StoppedBy } from './result.ts';

/** A byte sequence typed at the serial console, at a moment of the clock in force. */
export interface TypedInput { readonly at: number; readonly bytes: readonly number[] }

export interface RunOptions {
  readonly guest: string;
  readonly image: { readonly name: string; readonly bytes: Uint8Array; readonly sha256: string };
  readonly monitor: MonitorKind;
  readonly profile: MachineProfile;
  readonly engine?: EngineName;
  /** Default: 'guest'. */
  readonly clock?: 'guest' | 'machine';
  readonly memoryMiB?: number;
  readonly append?: string;
  readonly load?: Partial<LoadOptions>;
  readonly maxInstructions?: number;
  /** Stop when the serial output contains this. */
  readonly until?: string;
  readonly input?: readonly TypedInput[];
  /** Instructions whose cycles are listed one by one. */
  readonly window?: { readonly from: number; readonly count: number };
  /** Record the cumulative curve (default true). */
  readonly curve?: boolean;
  readonly observer?: Observer;
  console?(byte: number): void;
}

export const MEMORY_DEFAULT = 64;
const MIB = 2 ** 20;

/** Why a monitor cannot run this image, or null. Throws ImageError for a bad image. */
export function unable(options: RunOptions): NotRun | null {
  const plan = planFor(options);
  const reason = options.monitor.unable(options.profile, plan);
  return reason === null ? null : { guest: options.guest, monitor: options.monitor.name, profile: options.profile.name, reason };
}

function planFor(options: RunOptions): LoadPlan {
  const memorySize = (options.memoryMiB ?? MEMORY_DEFAULT) * MIB;
  return planLoad(options.image.bytes, { ...options.load, name: options.image.name, memorySize, ...(options.append ? { append: options.append } : {}) });
}

/** One guest under one monitor on one machine, from power-on to its end; can be stepped, saved and loaded. */
export class Run {
  readonly options: RunOptions;
  readonly core: Core;
  readonly platform: Platform;
  readonly monitor: Monitor;
  readonly ledger = new Ledger();
  readonly curve: Curve;
  readonly plan: LoadPlan;
  private readonly memory: Memory;
  private consoleText = '';
  private stop: { by: StoppedBy; status: number } | null = null;
  private readonly listing: Listing | null;
  private readonly window: { index: number; rip: string; text: string; cycles: number }[] = [];
  private readonly reports = new Map<string, number>();
  private readonly clock: 'guest' | 'machine';

  constructor(options: RunOptions) {
    this.options = options;
    this.clock = options.clock ?? 'guest';
    const memorySize = (options.memoryMiB ?? MEMORY_DEFAULT) * MIB;
    this.plan = planFor(options);
    const overhead = options.monitor.memory(memorySize);
    this.memory = new Memory(memorySize + overhead, overhead ? 2 : 1);
    const deferred: { bus: Bus | null } = { bus: null };
    // the CPU is made before the devices it talks to
    const bus = busOf(() => deferred.bus!);
    this.core = new Core(this.memory, 0, options.profile, bus, options.engine ?? 'interpret');
    const { cpu, execution } = this.core;
    cpu.guestTime = this.clock === 'guest';
    cpu.observer = this.observe(options.observer);
    const holder: { monitor: Monitor | null; level: boolean } = { monitor: null, level: false };
    this.platform = new Platform({
      memorySize,
      busDivisor: options.profile.busDivisor,
      time: { frequency: options.profile.cpu.frequency, now: () => cpu.now, changed: () => { if (holder.monitor) execution.sooner(this.platform.queue.next()); } },
      console: (byte) => this.printed(byte),
      stop: (request) => {
        this.stop = request.kind === 'poweroff' ? { by: 'poweroff', status: 0 } : { by: 'debugExit', status: request.status };
        execution.stop();
      },
      setInterruptLine: (_cpu, level) => {
        holder.level = level;
        holder.monitor?.interruptRequest(level);
      },
      signal: (_cpu, kind) => {
        if (kind === 'nmi') { cpu.nmiPending = true; cpu.leaveSoon(); }
        else this.report(`${kind} signal to a processor that does not exist`);
      },
      report: (what) => this.report(what),
    });
    const physical = this.memory;
    const guestBase = overhead;
    this.platform.writeTables((at, bytes) => physical.u8.set(bytes, physical.ramBase + guestBase + at), options.profile.cpu.signature, featureWord(options.profile));
    writePlan(this.plan, this.memory, guestBase);
    for (const { at, bytes } of options.input ?? []) this.platform.input.add(bytes.map((byte) => ({ cycle: at, byte })));
    this.monitor = options.monitor.create({
      core: this.core, profile: options.profile, platform: this.platform, memorySize, memoryOffset: guestBase, monitorStart: 0, monitorEnd: overhead, ledger: this.ledger,
      fail: (reason) => {
        this.report(reason);
        this.stop ??= { by: 'error', status: 70 };
        execution.stop();
      },
    });
    deferred.bus = this.monitor.hostBus ?? new MachineBus(this.platform, 0);
    holder.monitor = this.monitor;
    this.curve = new Curve(options.curve !== false);
    this.listing = options.window ? new Listing(this.core) : null;
    this.monitor.start(this.plan);
    if (holder.level) this.monitor.interruptRequest(true);
  }

  private report(what: string): void {
    const known = this.reports.get(what) ?? 0;
    this.reports.set(what, known + 1);
    if (known === 0) this.options.observer?.unmodelled?.(what);
  }
  private observe(outer: Observer | undefined): Observer {
    const inner: Observer = { ...(outer ? bind(outer) : {}), unmodelled: (what) => this.report(what) };
    return inner;
  }

  private printed(byte: number): void {
    const character = String.fromCharCode(byte);
    this.consoleText += character;
    this.options.console?.(byte);
    const { until } = this.options;
    if (until !== undefined && this.consoleText.endsWith(until) && this.stop === null) {
      this.stop = { by: 'until', status: 0 };
      this.core.execution.stop();
    }
  }

  /** Runs to the end. */
  finish(): RunResult {
    while (!this.step(Infinity));
    return this.result();
  }

  /**
   * Runs until about `instructions` more have retired (exactly, unless the run ends before). True when it is over.
   */
  step(instructions: number): boolean {
    const { cpu, execution } = this.core;
    const target = cpu.retired + instructions;
    const maximum = this.options.maxInstructions ?? Infinity;
    while (this.stop === null) {
      const { queue } = this.platform;
      queue.runDue(cpu.now);
      if (this.stop !== null) break;
      const retired = cpu.retired;
      if (retired >= maximum) { this.stop = { by: 'limit', status: 124 }; break; }
      if (retired >= target) return false;
      const single = this.inWindow(retired);
      const limit = Math.min(target, maximum, this.curve.next, single ? retired + 1 : this.windowStart(retired));
      const before = cpu.cycles;
      const rip = single ? cpu.rip : 0;
      const text = single ? this.listing!.text() : '';
      const how = execution.run(queue.next(), limit);
      const now = cpu.retired;
      if (single && now > retired) this.window.push({ index: retired, rip: hex(rip), text, cycles: cpu.cycles - before });
      if (now >= this.curve.next) this.curve.sample(now, cpu.cycles);
      if (how === ExecutionStop.Idle) this.wait();
      else if (how === ExecutionStop.Shutdown) this.stop ??= { by: 'tripleFault', status: 125 };
      else if (how === ExecutionStop.WaitForSipi) this.stop ??= { by: 'halted', status: 125 };
    }
    return true;
  }

  /** Everything waits: time goes on to the next event. */
  private wait(): void {
    const { cpu } = this.core;
    const next = this.platform.queue.next();
    if (next === Infinity) this.stop ??= { by: 'halted', status: 125 };
    else if (next > cpu.now) cpu.skip(Math.ceil(next - cpu.now));
  }

  private inWindow(retired: number): boolean {
    const { window } = this.options;
    return window !== undefined && retired >= window.from && retired < window.from + window.count;
  }
  private windowStart(retired: number): number {
    const { window } = this.options;
    return window !== undefined && retired < window.from ? window.from : Infinity;
  }

  /** Ends the run from outside. */
  interrupt(): void { this.stop ??= { by: 'limit', status: 124 }; }
  get console(): string { return this.consoleText; }
  get stopped(): { readonly by: StoppedBy; readonly status: number } | null { return this.stop; }
  /** Things met that are not modelled. */
  get unmodelled(): ReadonlyMap<string, number> { return this.reports; }

  result(): RunResult {
    const { cpu } = this.core;
    this.ledger.leave(cpu.chargedTotal);
    const charged = cpu.charged;
    const cycles = cpu.cycles;
    const guest = cycles - cpu.chargedTotal - cpu.idle;
    this.curve.end(cpu.retired, cycles);
    const { image, monitor, profile } = this.options;
    return {
      guest: this.options.guest, monitor: monitor.name, profile: profile.name, engine: this.core.engine.name, clock: this.clock,
      memoryMiB: this.options.memoryMiB ?? MEMORY_DEFAULT,
      instructions: cpu.retired, cycles,
      breakdown: {
        guest: guest + charged[ChargeTo.Other]!, translation: charged[ChargeTo.Translation]!, events: charged[ChargeTo.Event]!,
        transitions: charged[ChargeTo.Transition]!, monitor: charged[ChargeTo.Monitor]!, idle: cpu.idle,
      },
      exits: this.ledger.statistics(), exitRecords: this.ledger.records, exitsDropped: this.ledger.dropped,
      tlb: { ...cpu.mmu.counters },
      samples: this.curve.points, window: this.window, console: this.consoleText,
      stoppedBy: this.stop?.by ?? 'limit', exitStatus: this.stop?.status ?? 124,
      deviations: [], estimatedShare: null,
      image: { sha256: image.sha256, bytes: image.bytes.length, format: this.plan.format },
      unmodelled: [...this.reports].map(([what, count]) => ({ what, count })),
    };
  }

  /** Plain data: the whole run. */
  save(): RunSnapshot {
    const { memory } = this;
    return {
      ram: memory.u8.slice(memory.ramBase, memory.ramBase + memory.ramSize),
      core: this.core.save(), platform: this.platform.save(), monitor: this.monitor.save(), ledger: this.ledger.save(), curve: this.curve.save(),
      console: this.consoleText, stop: this.stop, window: structuredClone(this.window), reports: [...this.reports],
    };
  }
  /** Continues from a snapshot of a run with the same options. */
  load(saved: RunSnapshot): void {
    this.memory.u8.set(saved.ram, this.memory.ramBase);
    this.monitor.load(saved.monitor);
    this.core.load(saved.core);
    this.platform.load(saved.platform);
    this.core.cpu.interruptLine = saved.core.interruptLine;
    this.ledger.load(saved.ledger);
    this.curve.load(saved.curve);
    this.consoleText = saved.console;
    this.stop = saved.stop;
    this.window.length = 0;
    this.window.push(...saved.window);
    this.reports.clear();
    for (const [what, count] of saved.reports) this.reports.set(what, count);
  }
}

export interface RunSnapshot {
  readonly ram: Uint8Array;
  readonly core: CoreSnapshot;
  readonly platform: unknown;
  readonly monitor: unknown;
  readonly ledger: unknown;
  readonly curve: unknown;
  readonly console: string;
  readonly stop: { by: StoppedBy; status: number } | null;
  readonly window: { index: number; rip: string; text: string; cycles: number }[];
  readonly reports: [string, number][];
}

const hex = (value: number): string => (value < 0 ? BigInt.asUintN(64, BigInt(value)) : BigInt(value)).toString(16);

/** CPUID.1:EDX of a profile, for the MP table. */
function featureWord(profile: MachineProfile): number {
  let word = 0;
  for (const row of featureRows) if (row.leaf === 1 && row.register === 3 && profile.cpu.features.includes(row.name)) word |= 1 << row.bit;
  return word >>> 0;
}

function busOf(of: () => Bus): Bus {
  return {
    readPhysical: (physical, size) => of().readPhysical(physical, size),
    writePhysical: (physical, size, value) => of().writePhysical(physical, size, value),
    ioRead: (port, size) => of().ioRead(port, size),
    ioWrite: (port, size, value) => of().ioWrite(port, size, value),
    acknowledgeInterrupt: (cpu) => of().acknowledgeInterrupt(cpu),
    readApicBase: (cpu) => of().readApicBase(cpu),
    writeApicBase: (cpu, value) => of().writeApicBase(cpu, value),
    readTaskPriority: (cpu) => of().readTaskPriority(cpu),
    writeTaskPriority: (cpu, value) => of().writeTaskPriority(cpu, value),
  };
}

function bind(observer: Observer): Observer {
  return {
    ...(observer.delivered ? { delivered: observer.delivered.bind(observer) } : {}),
    ...(observer.vmExit ? { vmExit: observer.vmExit.bind(observer) } : {}),
    ...(observer.vmEntry ? { vmEntry: observer.vmEntry.bind(observer) } : {}),
    ...(observer.tlbFill ? { tlbFill: observer.tlbFill.bind(observer) } : {}),
    ...(observer.note ? { note: observer.note.bind(observer) } : {}),
  };
}
