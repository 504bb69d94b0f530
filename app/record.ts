import type { RunResult } from '../monitors/result.ts';
import { formatRecording } from '../traces/recording.ts';
import { consoleHash, type LogDigest } from './log-digest.ts';
import type { Settings } from './simulation.ts';
import { tool, version } from './version.ts';
import type { Workload } from './workload.ts';

/** The recording of a run, as text; `digest` has taken its whole event log. */
export function recordingOf(result: RunResult, workload: Workload, settings: Settings, costTable: string, digest: LogDigest): string {
  const { append = '', maxInstructions = null, until = null, input = [] } = settings;
  return formatRecording({
    tool, version, image: { name: workload.image.name, ...result.image },
    configuration: {
      guest: result.guest, monitor: result.monitor, profile: result.profile, costTable, clock: result.clock, engine: result.engine, memoryMiB: result.memoryMiB,
      append, maxInstructions, until,
    },
    inputs: input.map(({ at, bytes }) => ({ at, device: 'serial', bytes: Uint8Array.from(bytes) })),
    result: {
      instructions: result.instructions, cycles: result.cycles, stoppedBy: result.stoppedBy, exitStatus: result.exitStatus,
      console: { sha256: consoleHash(result.console) }, events: { lines: digest.lines, sha256: digest.finish() },
    },
  });
}
