import type { ProvenanceInput } from '../traces/report.ts';
import { costTableHash, profileHash } from './hash.ts';
import type { Settings } from './simulation.ts';
import { tool, version } from './version.ts';

/** Where the numbers of a comparison come from; `commandLine` is empty for the API. */
export async function provenanceOf({ profile, engine, clock, memoryMiB, append, maxInstructions, until, window, input }: Settings, commandLine: readonly string[]): Promise<ProvenanceInput> {
  const options: Record<string, string> = {};
  if (clock !== 'guest') options['clock'] = clock;
  if (engine !== undefined && engine !== 'interpret') options['engine'] = engine;
  if (memoryMiB !== undefined) options['memory'] = `${memoryMiB} MiB`;
  if (append !== undefined) options['append'] = append;
  if (until !== undefined) options['until'] = until;
  if (window) options['window'] = `${window.from},${window.count}`;
  if (input) options['input'] = `${input.reduce((sum, { bytes }) => sum + bytes.length, 0)} bytes`;
  return {
    tool, version, revision: null, commandLine,
    profile: { name: profile.name, description: profile.description, sha256: await profileHash(profile) },
    costs: { sha256: await costTableHash(profile), figures: profile.cpu.costs },
    options, limits: maxInstructions === undefined ? [] : [`at most ${maxInstructions} guest instructions in each run`],
  };
}
