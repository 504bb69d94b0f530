import type { Guest } from '../guests/index.ts';
import type { LoadOptions } from '../machine/boot/detect.ts';
import { nehalem, type MachineProfile } from '../machine/profile.ts';
import type { MonitorKind } from '../monitors/index.ts';
import type { NotRun, RunResult } from '../monitors/result.ts';
import { Run, type RunSnapshot } from '../monitors/run.ts';
import { sha256 } from './hash.ts';
import { runOptions, simulate, whyNot, type Settings, type Watchers } from './simulation.ts';
import { embedded, type Workload } from './workload.ts';

/** An image of your own: ELF, multiboot, boot sector or flat binary, seen from its contents unless `load` says. */
export interface Image {
  /** Name in reports, and first word of a multiboot command line. */
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly load?: Partial<LoadOptions>;
}

/** Something to run: an embedded guest or an image. */
export type Subject = Guest | Image;

/** Settings of a run; whatever is absent has its default. */
export interface MachineOptions extends Partial<Settings>, Watchers {}

/** One guest under one monitor on a simulated PC, to be stepped, looked at, saved and loaded. */
export class Machine {
  /** The run itself: CPU, devices, monitor, ledger of exits. */
  readonly run: Run;

  private constructor(run: Run) { this.run = run; }

  /**
   * Switches a machine on.
   * @throws ImageError for a bad image, Error where the monitor cannot run it
   */
  static async create(subject: Subject, monitor: MonitorKind, options: MachineOptions = {}): Promise<Machine> {
    const workload = await workloadOf(subject);
    const settings = settingsFrom(options, 'machine');
    const reason = whyNot(workload, monitor, settings);
    if (reason) throw new Error(refusal(reason));
    const { console, unmodelled } = options;
    return new Machine(new Run({ ...runOptions(workload, monitor, settings), ...(console ? { console } : {}), ...(unmodelled ? { observer: { unmodelled } } : {}) }));
  }

  /** Executes this many guest instructions, or up to the end: true when the run is over. */
  async step(instructions = 1): Promise<boolean> { return this.run.step(instructions); }
  /** What the guest printed so far, one character per byte. */
  get console(): string { return this.run.console; }
  /** Guest instructions retired and machine cycles gone by. */
  get instructions(): number { return this.run.core.cpu.retired; }
  get cycles(): number { return this.run.core.cpu.cycles; }
  /** What came out so far. */
  result(): RunResult { return this.run.result(); }
  /** The whole machine as plain data; a machine made with the same arguments continues from it. */
  save(): RunSnapshot { return this.run.save(); }
  load(snapshot: RunSnapshot): void { this.run.load(snapshot); }
}

/**
 * Runs a guest under a monitor to its end; the guest's clock is machine time unless told otherwise.
 * @throws ImageError for a bad image, Error where the monitor cannot run it
 */
export async function run(subject: Subject, monitor: MonitorKind, options: MachineOptions = {}): Promise<RunResult> {
  const workload = await workloadOf(subject);
  const settings = settingsFrom(options, 'machine');
  const reason = whyNot(workload, monitor, settings);
  if (reason) throw new Error(refusal(reason));
  return simulate(workload, monitor, settings, options);
}

/** Settings with the defaults filled in. */
export function settingsFrom(options: MachineOptions, clock: 'guest' | 'machine'): Settings {
  return { profile: options.profile ?? defaultProfile, clock: options.clock ?? clock, ...pick(options) };
}

const defaultProfile: MachineProfile = nehalem;

function pick({ engine, memoryMiB, append, maxInstructions, until, window, input }: MachineOptions): Omit<Settings, 'profile' | 'clock'> {
  return {
    ...(engine === undefined ? {} : { engine }), ...(memoryMiB === undefined ? {} : { memoryMiB }), ...(append === undefined ? {} : { append }),
    ...(maxInstructions === undefined ? {} : { maxInstructions }), ...(until === undefined ? {} : { until }), ...(window === undefined ? {} : { window }), ...(input === undefined ? {} : { input }),
  };
}

/** An embedded guest assembled, or an image hashed. */
export async function workloadOf(subject: Subject): Promise<Workload> {
  if ('source' in subject) return embedded(subject);
  const { name, bytes, load } = subject;
  return { name, image: { name, bytes, sha256: await sha256(bytes) }, ...(load ? { load } : {}) };
}

const refusal = ({ guest, monitor, profile, reason }: NotRun): string => `${guest} cannot run under ${monitor} with profile ${profile}: ${reason}`;
