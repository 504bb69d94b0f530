import { describe, expect, test } from 'vitest';
import { embedded } from '../../app/workload.ts';
import { runOptions, whyNot, type Settings } from '../../app/simulation.ts';
import { guestList } from '../../guests/index.ts';
import type { EngineName } from '../../machine/core.ts';
import { nehalem } from '../../machine/profile.ts';
import { monitorList } from '../../monitors/index.ts';
import { Run } from '../../monitors/run.ts';
import { EventLogWriter } from '../../traces/event-log.ts';

/** Instructions that the interpreter runs before both engines go on from its snapshot, and how many they run. */
const skipped = 41_000;
const compared = 1500;

/** The workload proper begins after a boot of some 40,000 instructions, too many for the evaluator to run for each guest. */
describe('evaluator and interpreter write the same event log', () => {
  const settings: Settings = { profile: nehalem, clock: 'guest', memoryMiB: 16 };
  test.each(guestList.map((guest, i) => [guest.name, guest, i] as const))('%s', async (_name, guest, i) => {
    const workload = await embedded(guest);
    const able = monitorList.filter(monitor => whyNot(workload, monitor, settings) === null);
    // each guest under one monitor, all monitors among the guests
    const monitor = able[i % able.length]!;
    const start = new Run({ ...runOptions(workload, monitor, settings), curve: false });
    start.step(skipped);
    const snapshot = start.save();
    const logOf = (engine: EngineName): readonly string[] => {
      const lines: string[] = [];
      let writer: EventLogWriter | null = null;
      const run: Run = new Run({
        ...runOptions(workload, monitor, { ...settings, engine }), curve: false,
        observer: {
          delivered: (vector, kind, error, linear) => writer?.delivered(vector, kind, error, linear),
          vmExit: exit => writer?.vmExit(exit), vmEntry: entry => writer?.vmEntry(entry), note: (what, detail) => writer?.note(what, detail),
        },
      });
      run.load(snapshot);
      const { cpu } = run.core;
      const made = writer = new EventLogWriter({ sink: line => lines.push(line), guest: guest.name, monitor: monitor.name, clock: () => ({ retired: cpu.retired, cycles: cpu.cycles }) });
      run.ledger.onExit = record => made.stop(record);
      run.step(compared);
      made.end({ stoppedBy: run.stopped?.by ?? 'limit', exitStatus: run.stopped?.status ?? 124, instructions: cpu.retired, cycles: cpu.cycles });
      return lines;
    };
    const interpreted = logOf('interpret');
    expect(logOf('evaluate')).toEqual(interpreted);
    expect(interpreted.length).toBeGreaterThan(0);
  }, 20_000);
});
