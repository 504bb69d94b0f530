import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { findGuest } from '../guests/index.ts';
import { ImageError } from '../machine/boot/image-error.ts';
import { eventLogHeader } from '../traces/event-log.ts';
import { FormatError } from '../traces/format-error.ts';
import { parseQemuLog } from '../traces/qemu-log.ts';
import { renderReplay, replayQemuLog } from '../traces/qemu-replay.ts';
import { parseRecording, type Recording } from '../traces/recording.ts';
import { costTableHash } from './hash.ts';
import { findWorkload, readText } from './image-source.ts';
import { consoleHash, LogDigest } from './log-digest.ts';
import { monitorNamed, profileNamed, type Options } from './options.ts';
import { simulate, type Settings } from './simulation.ts';
import { complain, print, writeByte } from './terminal.ts';
import { quoted, UserError } from './user-error.ts';
import type { Workload } from './workload.ts';

/** Status when the repeated run is another. */
const different = 1;

/** `replay FILE`: repeats a recorded run (its status is that of the run; with --verify 0, or 1 where it differs), or follows a QEMU log. */
export async function replayCommand(options: Options): Promise<number> {
  const [path, ...more] = options.places;
  if (path === undefined) throw new UserError('replay: expected the path of a recording or of a QEMU log');
  if (more.length > 0) throw new UserError(`replay: expected one file, got ${quoted(more[0]!)} too`);
  const text = readText(path);
  const verify = options.switch('verify');
  const given = options.filled('guest');
  if (!/^\s*[{[]/.test(text)) return follow(text, path, given, options);
  if (options.text('memory') ?? options.text('append') ?? options.text('engine')) throw new UserError('replay: a recording says itself with what memory, command line and engine it was made');
  const recording = read(text, path);
  const { configuration, inputs } = recording;
  const workload = await imageOf(recording, path, given);
  const profile = profileNamed(configuration.profile);
  const costTable = await costTableHash(profile);
  if (costTable !== configuration.costTable) throw new UserError(`${path}: recorded with another cost table of profile ${profile.name}; the cycles cannot be repeated`);
  const settings: Settings = {
    profile, clock: configuration.clock, engine: configuration.engine, memoryMiB: configuration.memoryMiB, append: configuration.append,
    ...(configuration.maxInstructions === null ? {} : { maxInstructions: configuration.maxInstructions }),
    ...(configuration.until === null ? {} : { until: configuration.until }),
    ...(inputs.length === 0 ? {} : { input: inputs.map(({ at, bytes }) => ({ at, bytes: [...bytes] })) }),
  };
  const digest = new LogDigest();
  if (verify) digest.add(eventLogHeader({ tool: recording.tool, version: recording.version, profile: profile.name, costTable, inputs: [{ guest: workload.name, sha256: workload.image.sha256 }] }));
  const result = await simulate(workload, monitorNamed(configuration.monitor), settings, {
    ...(verify ? { log: (line: string) => digest.add(line) } : { console: writeByte }),
    unmodelled: what => complain(`not modelled: ${what}`),
  });
  if (!verify) return result.exitStatus;

  const { result: wanted } = recording;
  const facts: readonly (readonly [string, string | number, string | number])[] = [
    ['instructions', wanted.instructions, result.instructions], ['cycles', wanted.cycles, result.cycles], ['stoppedBy', wanted.stoppedBy, result.stoppedBy], ['exitStatus', wanted.exitStatus, result.exitStatus],
    ['console sha256', wanted.console.sha256, consoleHash(result.console)], ['event log lines', wanted.events.lines, digest.lines], ['event log sha256', wanted.events.sha256, digest.finish()],
  ];
  const differing = facts.filter(([, recorded, repeated]) => recorded !== repeated);
  for (const [what, recorded, repeated] of differing) complain(`${path}: ${what}: recorded ${recorded}, repeated ${repeated}`);
  if (differing.length > 0) return different;
  print(`verified: ${workload.name} under ${result.monitor}: ${result.instructions} instructions, ${result.cycles} cycles and ${digest.lines} lines of the event log are the same, to the byte\n`);
  return 0;
}

/** `replay LOG --guest IMAGE`: lock step with a QEMU log; 0, or 1 where the machines part. */
async function follow(text: string, path: string, image: string | undefined, options: Options): Promise<number> {
  const log = atPlace('', path, () => parseQemuLog(text));
  if (options.switch('verify')) throw new UserError('replay: --verify is for recordings; a QEMU log is compared as it is');
  if (image === undefined) throw new UserError(`replay: ${path} is a QEMU log; the image that it was made with is given with --guest FILE`);
  const workload = await findWorkload(image);
  const { memoryMiB, engine } = options;
  const append = options.text('append');
  const result = atPlace(image, path, () => replayQemuLog(log, workload.image.bytes, workload.image.name, {
    engine, ...(memoryMiB === undefined ? {} : { memoryMiB }), ...(append === undefined ? {} : { append }), ...(workload.load ? { load: workload.load } : {}),
  }));
  print(renderReplay(result));
  return result.divergence ? different : 0;
}

/** Says whose fault it is: the image's or the log's. */
function atPlace<T>(image: string, log: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof ImageError) throw new UserError(`${image}: ${error.message}`);
    if (error instanceof FormatError) throw new UserError(`${log}: ${error.message}`);
    throw error;
  }
}

function read(text: string, path: string): Recording {
  try {
    return parseRecording(text);
  } catch (error) {
    if (error instanceof FormatError) throw new UserError(`${path}: ${error.message}`);
    throw error;
  }
}

/** The image by its name: an embedded guest, a file beside the recording or in the working directory, or what --guest says. */
async function imageOf({ image, configuration }: Recording, path: string, given: string | undefined): Promise<Workload> {
  const beside = join(dirname(path), image.name);
  const name = given ?? (findGuest(image.name) ? image.name : existsSync(beside) ? beside : image.name);
  if (given === undefined && !findGuest(name) && !existsSync(name)) throw new UserError(`${path}: the image ${quoted(image.name)} is not here; give it with --guest FILE`);
  const workload = await findWorkload(name);
  if (workload.image.sha256 !== image.sha256) throw new UserError(`${name} is not the image of ${path}: its SHA-256 is ${workload.image.sha256}, recorded is ${image.sha256}`);
  return { ...workload, name: configuration.guest, image: { ...workload.image, name: image.name } };
}
