import { describe, expect, test } from 'vitest';
import { guestList, guests, type Guest, type MonitorName } from '../../guests/index.ts';
import { nehalem, prescott, type MachineProfile } from '../../machine/profile.ts';
import { monitorList, monitors, type MonitorKind } from '../../monitors/index.ts';
import { Run } from '../../monitors/run.ts';
import { optionsFor } from './images.ts';

/** Long guests are cut here: what they do later they have done before. */
const MAXIMUM = 400_000;
/** Where runs are saved, as shares of their instructions: odd ones, so that no loop of a guest is met at its start. */
const points = [0.3457, 0.7919];

function checkContinued(guest: Guest, monitor: MonitorKind, profile: MachineProfile): void {
  const start = (): Run => new Run(optionsFor(guest, monitor, profile, { maxInstructions: MAXIMUM }));
  const { exitRecords, ...whole } = start().finish();
  let run = start();
  for (const share of points) {
    const at = Math.floor(whole.instructions * share);
    expect(run.step(at - run.core.cpu.retired)).toBe(false);
    expect(run.core.cpu.retired).toBeGreaterThanOrEqual(at);
    const saved = structuredClone(run.save());
    // the run that was saved goes on a little: nothing of it may reach the snapshot
    run.step(500);
    run = start();
    run.load(saved);
  }
  const { exitRecords: recordsAgain, ...again } = run.finish();
  expect(again).toEqual(whole);
  const text = (records: typeof exitRecords): string[] => records.map((record) => JSON.stringify(record));
  const [want, got] = [text(exitRecords), text(recordsAgain)];
  const first = want.findIndex((line, i) => line !== got[i]);
  expect({ length: got.length, first, line: got[first] }).toEqual({ length: want.length, first: -1, line: undefined });
}

/** Without VPID and EPT transitions flush: a few guests show that. */
const withoutVpid: readonly Guest[] = [guests.pageFaults64, guests.contextSwitches, guests.timerInterrupts];

describe.each([[nehalem.name, nehalem, monitorList, guestList], [prescott.name, prescott, [monitors.vtxShadow], withoutVpid]] as const)('save, load and continue on %s', (_profile, profile, kinds, list) => {
  const cases = kinds.flatMap((monitor) => list.filter((guest) => guest.monitors.includes(monitor.name as MonitorName)).map((guest) => [monitor.name, guest.name, monitor, guest] as const));
  test.each(cases)('%s: %s', (_monitor, _guest, monitor, guest) => checkContinued(guest, monitor, profile));
});
