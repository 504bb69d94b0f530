import type { Observer } from '../cpu/observer.ts';
import { checkOutput, type MonitorName } from '../guests/index.ts';
import { ImageError } from '../machine/boot/image-error.ts';
import type { EngineName } from '../machine/core.ts';
import type { MachineProfile } from '../machine/profile.ts';
import type { MonitorKind } from '../monitors/index.ts';
import type { NotRun, RunResult } from '../monitors/result.ts';
import { MEMORY_DEFAULT, Run, unable, type RunOptions, type TypedInput } from '../monitors/run.ts';
import { EventLogWriter } from '../traces/event-log.ts';
import type { Workload } from './workload.ts';

/** How to run a workload, whatever the monitor. */
export interface Settings {
  readonly profile: MachineProfile;
  readonly clock: 'guest' | 'machine';
  readonly engine?: EngineName;
  readonly memoryMiB?: number;
  readonly append?: string;
  readonly maxInstructions?: number;
  readonly until?: string;
  readonly window?: { readonly from: number; readonly count: number };
  readonly input?: readonly TypedInput[];
}

/** What to tell whom while it runs. */
export interface Watchers {
  /** Lines of the event log, without line end. */
  readonly log?: (line: string) => void;
  /** Most lines of one run. */
  readonly logLimit?: number;
  /** Serial output, byte by byte. */
  readonly console?: (byte: number) => void;
  /** Something that is not modelled, once. */
  readonly unmodelled?: (what: string) => void;
  /** Called a few times a second. */
  readonly progress?: (run: Run) => void;
  /** Ends the run: its result says that a limit was reached. */
  readonly signal?: AbortSignal;
}

/** Instructions between two looks at the outside. */
const slices = { interpret: 5e6, evaluate: 5e4 } as const;

/** MiB of memory that a workload gets: what was asked for, otherwise what the embedded guest needs. */
function memoryOf({ guest }: Workload, { memoryMiB }: Settings): number { return memoryMiB ?? guest?.memoryMiB ?? MEMORY_DEFAULT; }

/** The options of a run of this workload. */
export function runOptions(workload: Workload, monitor: MonitorKind, settings: Settings): RunOptions {
  const { profile, clock, engine, append, maxInstructions, until, window, input } = settings;
  return {
    guest: workload.name, image: workload.image, monitor, profile, clock,
    ...(workload.load ? { load: workload.load } : {}), ...(engine ? { engine } : {}), memoryMiB: memoryOf(workload, settings), ...(append ? { append } : {}),
    ...(maxInstructions ? { maxInstructions } : {}), ...(until ? { until } : {}), ...(window ? { window } : {}), ...(input ? { input } : {}),
  };
}

/** Why this workload cannot run under this monitor, or null. Throws ImageError for a bad image. */
export function whyNot(workload: Workload, monitor: MonitorKind, settings: Settings): NotRun | null {
  const needed = workload.guest?.memoryMiB ?? 0;
  const given = memoryOf(workload, settings);
  if (given < needed) throw new ImageError(`the guest needs ${needed} MiB of memory, it gets ${given}`);
  const excuse = workload.guest?.cannot[monitor.name as MonitorName];
  if (excuse === undefined) return unable(runOptions(workload, monitor, settings));
  return { guest: workload.name, monitor: monitor.name, profile: settings.profile.name, reason: excuse };
}

/** Runs a workload to its end, in slices: other work of the program goes on in between. */
export async function simulate(workload: Workload, monitor: MonitorKind, settings: Settings, watchers: Watchers = {}): Promise<RunResult> {
  const holder: { run: Run | null } = { run: null };
  const writer = watchers.log ? new EventLogWriter({
    sink: watchers.log, guest: workload.name, monitor: monitor.name,
    clock: () => ({ retired: holder.run?.core.cpu.retired ?? 0, cycles: holder.run?.core.cpu.cycles ?? 0 }),
    ...(watchers.logLimit === undefined ? {} : { limit: watchers.logLimit }),
  }) : null;
  writer?.start({ sha256: workload.image.sha256, clock: settings.clock, memoryMiB: memoryOf(workload, settings) });
  const run = holder.run = new Run({ ...runOptions(workload, monitor, settings), observer: observer(writer, watchers), ...(watchers.console ? { console: watchers.console } : {}) });
  if (writer) run.ledger.onExit = record => writer.stop(record);
  while (!run.step(slices[settings.engine ?? 'interpret'])) {
    watchers.progress?.(run);
    await turn();
    if (watchers.signal?.aborted) run.interrupt();
  }
  const result = judged(run.result(), workload);
  writer?.end(result);
  return result;
}

function observer(writer: EventLogWriter | null, { unmodelled }: Watchers): Observer {
  const tell = (what: string): void => { writer?.unmodelled(what); unmodelled?.(what); };
  if (!writer) return { unmodelled: tell };
  return {
    unmodelled: tell,
    delivered: (vector, kind, error, linear) => writer.delivered(vector, kind, error, linear),
    vmExit: exit => writer.vmExit(exit),
    vmEntry: entry => writer.vmEntry(entry),
    note: (what, detail) => writer.note(what, detail),
  };
}

/** With what the guest's own expected output says of the run. */
function judged(result: RunResult, { guest }: Workload): RunResult {
  if (!guest || result.stoppedBy === 'limit' || result.stoppedBy === 'until') return result;
  const { deviations, unexplained } = checkOutput(guest, result.monitor, result.console);
  return { ...result, deviations: [...deviations, ...unexplained.map(line => `${unexplainedMark}${line}`)] };
}

const unexplainedMark = 'not explained: ';

/** Deviations from the expected output that nobody has explained: a bug of ours, or of the guest. */
export function unexplained(result: RunResult): readonly string[] {
  return result.deviations.filter(line => line.startsWith(unexplainedMark));
}

/** Lets timers, input and the page have their turn. */
function turn(): Promise<void> {
  return new Promise(done => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => { port1.close(); done(); };
    port2.postMessage(null);
  });
}
