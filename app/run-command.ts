import { ImageError } from '../machine/boot/image-error.ts';
import type { MonitorKind } from '../monitors/index.ts';
import type { NotRun, RunResult } from '../monitors/result.ts';
import type { TypedInput } from '../monitors/run.ts';
import { eventLogHeader } from '../traces/event-log.ts';
import { costTableHash } from './hash.ts';
import { findWorkload, readImage } from './image-source.ts';
import { LogDigest } from './log-digest.ts';
import type { Options } from './options.ts';
import { OutputFile } from './output-file.ts';
import { Progress } from './progress.ts';
import { recordingOf } from './record.ts';
import { simulate, whyNot, type Settings } from './simulation.ts';
import { complain, print, writeByte } from './terminal.ts';
import { quoted, UserError } from './user-error.ts';
import { tool, version } from './version.ts';
import type { Workload } from './workload.ts';

/** `run GUEST|FILE`: gives the exit status of the guest. */
export async function runCommand(options: Options): Promise<number> {
  const [name, ...more] = options.places;
  if (name === undefined) throw new UserError('run: expected the name of a guest or the path of an image');
  if (more.length > 0) throw new UserError(`run: expected one guest, got ${quoted(more[0]!)} too; compare takes several`);
  const { monitor } = options;
  const settings = { ...settingsOf(options, 'machine'), ...typed(options) };
  const json = options.switch('json');
  const workload = await findWorkload(name);
  const reason = refusal(name, workload, monitor, settings);
  if (reason) throw new UserError(`${workload.name} cannot run under ${monitor.name}: ${reason.reason}`);

  const files = { events: outputFile(options.text('events')), record: outputFile(options.text('record')) };
  const digest = files.record ? new LogDigest() : null;
  const log = (line: string): void => { files.events?.write(`${line}\n`); digest?.add(line); };
  const logged = files.events !== null || digest !== null;
  const costTable = await costTableHash(settings.profile);
  if (logged) log(eventLogHeader({ tool, version, profile: settings.profile.name, costTable, inputs: [{ guest: workload.name, sha256: workload.image.sha256 }] }));
  const progress = new Progress();
  const result = await simulate(workload, monitor, settings, {
    ...(logged ? { log } : {}),
    ...(json ? {} : { console: writeByte }),
    unmodelled: what => { progress.clear(); complain(`not modelled: ${what}`); },
    progress: run => progress.update(() => `${workload.name} under ${monitor.name}: ${(run.core.cpu.retired / 1e6).toFixed(0)} million instructions`),
  });
  progress.clear();
  if (json) print(`${JSON.stringify(summary(result), null, 2)}\n`);
  files.record?.write(recordingOf(result, workload, settings, costTable, digest!));
  files.events?.commit();
  files.record?.commit();
  return result.exitStatus;
}

/** {@link whyNot} with the place of a bad image in front of what is wrong with it. */
export function refusal(place: string, workload: Workload, monitor: MonitorKind, settings: Settings): NotRun | null {
  try {
    return whyNot(workload, monitor, settings);
  } catch (error) {
    if (error instanceof ImageError) throw new UserError(`${place}: ${error.message}`);
    throw error;
  }
}

/** The settings that run and compare share. */
export function settingsOf(options: Options, clock: 'guest' | 'machine'): Settings {
  const { profile, engine, memoryMiB, maxInstructions, window } = options;
  const append = options.text('append');
  const until = options.filled('until');
  return {
    profile, engine, clock: options.clock(clock),
    ...(memoryMiB === undefined ? {} : { memoryMiB }), ...(maxInstructions === undefined ? {} : { maxInstructions }), ...(window ? { window } : {}),
    ...(append === undefined ? {} : { append }), ...(until === undefined ? {} : { until }),
  };
}

function typed(options: Options): { readonly input?: readonly TypedInput[] } {
  const path = options.filled('input');
  if (path === undefined) return {};
  const bytes = readImage(path);
  return bytes.length === 0 ? {} : { input: [{ at: 0, bytes: [...bytes] }] };
}

function outputFile(path: string | undefined): OutputFile | null {
  return path === undefined ? null : new OutputFile(path);
}

/** What run --json prints. */
export function summary(result: RunResult): object {
  const exits: Record<string, number> = {};
  for (const exit of result.exits) exits[exit.name] = (exits[exit.name] ?? 0) + exit.count;
  const { guest, monitor, profile, engine, clock, memoryMiB, instructions, cycles, breakdown, tlb, console, stoppedBy, exitStatus, deviations, image, unmodelled, window } = result;
  return {
    guest, monitor, profile, engine, clock, memoryMiB, instructions, cycles, breakdown, exits, tlb, console, stoppedBy, exitStatus, deviations: [...deviations], image, unmodelled,
    ...(window.length > 0 ? { window } : {}),
  };
}
