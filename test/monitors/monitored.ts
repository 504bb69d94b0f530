import { assemble } from '../../cpu/assembler.ts';
import type { Guest } from '../../guests/guest.ts';
import { includes } from '../../guests/index.ts';
import { isa } from '../../machine/isa.ts';
import { profiles } from '../../machine/profile.ts';
import type { MonitorKind } from '../../monitors/monitor.ts';
import type { RunResult } from '../../monitors/result.ts';
import { Run } from '../../monitors/run.ts';

export const bytesOf = (source: string): Uint8Array => assemble(source, isa.rows, { include: (name) => includes[name] }).bytes;
const images = new Map<string, Uint8Array>();
/** Image of an embedded guest. */
export function imageOf(guest: Guest): Uint8Array {
  let bytes = images.get(guest.name);
  if (!bytes) images.set(guest.name, (bytes = bytesOf(guest.source)));
  return bytes;
}

/** A run, and what its guest was delivered: when by both clocks, and what. */
export interface Monitored { readonly run: Run; readonly events: string[] }
export function monitored(bytes: Uint8Array, monitor: MonitorKind, engine: 'interpret' | 'evaluate' = 'interpret', profile: keyof typeof profiles = 'nehalem', memoryMiB = 20): Monitored {
  const events: string[] = [];
  const run: Run = new Run({
    guest: 'test', image: { name: 'test', bytes, sha256: '' }, monitor, profile: profiles[profile], engine, memoryMiB, curve: false, maxInstructions: 1e7,
    observer: { delivered: (vector, kind, error, linear) => events.push(`${run.core.cpu.retired} at ${run.core.cpu.now}: ${kind} ${vector} ${error} ${linear}`) },
  });
  return { run, events };
}
/** Everything that must be the same however a run was done. */
export const outcome = (result: RunResult): unknown => ({ ...result, engine: '', samples: [], window: [] });
