import { describe, expect, test } from 'vitest';
import { checkOutput, guestList, type Guest, type MonitorName } from '../../guests/index.ts';
import { nehalem, prescott, type MachineProfile } from '../../machine/profile.ts';
import { monitorList, monitors, type MonitorKind } from '../../monitors/index.ts';
import type { RunResult } from '../../monitors/result.ts';
import { Run, unable } from '../../monitors/run.ts';
import { optionsFor } from './images.ts';

const nameOf = (monitor: MonitorKind): MonitorName => monitor.name as MonitorName;
const listed = (guest: Guest, monitor: MonitorKind): boolean => guest.monitors.includes(nameOf(monitor));

interface Outcome { readonly result: RunResult; readonly guestTime: number; readonly start: number }

function outcome(guest: Guest, monitor: MonitorKind, profile: MachineProfile): Outcome {
  const run = new Run(optionsFor(guest, monitor, profile));
  // what had been charged when the guest was first left: the monitor's own start belongs to no exit
  let start = -1;
  const { ledger } = run;
  const enter = ledger.enter.bind(ledger);
  ledger.enter = (kind, name, retired, at, charged, rip, why) => {
    if (start < 0) start = charged;
    enter(kind, name, retired, at, charged, rip, why);
  };
  const result = run.finish();
  return { result, guestTime: run.core.cpu.guestCycles, start };
}

function checkSums({ result, start }: Outcome): void {
  const { breakdown: b, exits, exitRecords } = result;
  for (const part of Object.values(b)) expect(part).toBeGreaterThanOrEqual(0);
  expect(b.guest + b.translation + b.events + b.transitions + b.monitor + b.idle).toBe(result.cycles);
  if (result.monitor === 'native') {
    expect({ exits, start, transitions: b.transitions, monitor: b.monitor }).toEqual({ exits: [], start: -1, transitions: 0, monitor: 0 });
    return;
  }
  // the statistics are those of the records, as long as all of them were kept
  const count = exits.reduce((sum, exit) => sum + exit.count, 0);
  expect(exitRecords.length + result.exitsDropped).toBe(count);
  expect(count).toBeGreaterThan(0);
  if (result.exitsDropped === 0) {
    for (const exit of exits) {
      const cycles = exitRecords.filter((record) => record.kind === exit.kind && record.name === exit.name).map((record) => record.cycles);
      const again = {
        kind: exit.kind, name: exit.name, count: cycles.length, cycles: cycles.reduce((sum, value) => sum + value, 0),
        minimum: cycles.reduce((least, value) => Math.min(least, value), Infinity), maximum: cycles.reduce((most, value) => Math.max(most, value), 0),
        squares: cycles.reduce((sum, value) => sum + value * value, 0),
      };
      expect(exit).toEqual(again);
    }
  }
  // no transition and no monitor work outside exits and start; what else exits hold is walks and event delivery
  const inExits = start + exits.reduce((sum, exit) => sum + exit.cycles, 0);
  expect(inExits).toBeGreaterThanOrEqual(b.transitions + b.monitor);
  expect(inExits).toBeLessThanOrEqual(b.transitions + b.monitor + b.translation + b.events);
}

const plan = [
  { profile: nehalem, kinds: monitorList },
  { profile: prescott, kinds: [monitors.native, monitors.trapAndEmulate, monitors.vtxShadow] },
];

describe.each(plan.map((row) => [row.profile.name, row] as const))('every guest on %s', (_profile, { profile, kinds }) => {
  test.each(guestList.map((guest) => [guest.name, guest] as const))('%s', (_name, guest) => {
    const native = outcome(guest, monitors.native, profile);
    for (const monitor of kinds) {
      if (!listed(guest, monitor)) continue;
      const one = monitor === monitors.native ? native : outcome(guest, monitor, profile);
      const { result } = one;
      const deviations = guest.deviations[nameOf(monitor)] ?? [];
      const output = checkOutput(guest, monitor.name, result.console);
      expect({ monitor: monitor.name, ...output }).toMatchObject({ monitor: monitor.name, ok: true, unexplained: [] });
      expect({ monitor: monitor.name, by: result.stoppedBy, status: result.exitStatus }).toEqual({ monitor: monitor.name, by: 'poweroff', status: 0 });
      checkSums(one);
      // counts differ: a monitor that decodes a refused instruction meets it twice
      expect(result.unmodelled.map((report) => report.what)).toEqual(native.result.unmodelled.map((report) => report.what));
      if (deviations.length === 0) {
        expect({ monitor: monitor.name, instructions: result.instructions, guest: result.breakdown.guest, idle: result.breakdown.idle, time: one.guestTime })
          .toEqual({ monitor: monitor.name, instructions: native.result.instructions, guest: native.result.breakdown.guest, idle: native.result.breakdown.idle, time: native.guestTime });
      } else {
        // a guest that prints other lines retires other instructions; a list that nothing of shows is out of date
        expect(output.deviations.length).toBeGreaterThan(0);
      }
    }
  });
});

describe('who cannot run what', () => {
  test('every guest names each monitor once, with a reason where it cannot', () => {
    for (const guest of guestList) {
      for (const monitor of monitorList) {
        const reason = guest.cannot[nameOf(monitor)];
        expect({ guest: guest.name, monitor: monitor.name, excluded: reason !== undefined }).toEqual({ guest: guest.name, monitor: monitor.name, excluded: !listed(guest, monitor) });
        if (reason !== undefined) expect(reason.length).toBeGreaterThan(20);
      }
    }
  });
  test('no monitor refuses a guest that counts on it', () => {
    for (const { profile, kinds } of plan) {
      for (const guest of guestList) for (const monitor of kinds) if (listed(guest, monitor)) expect(unable(optionsFor(guest, monitor, profile))).toBeNull();
    }
  });
  test('prescott has no EPT', () => {
    for (const guest of guestList) expect(unable(optionsFor(guest, monitors.vtxEpt, prescott))?.reason).toBe('profile prescott has no EPT');
  });
  // images alone do not show it: all guests are loaded into protected mode, so only running tells
  const excluded = guestList.flatMap((guest) => monitorList.filter((monitor) => !listed(guest, monitor)).map((monitor) => [guest.name, monitor.name, guest, monitor] as const));
  test.each(excluded)('%s really fails under %s', (_guest, _monitor, guest, monitor) => {
    const run = new Run(optionsFor(guest, monitor, nehalem, { maxInstructions: 3_000_000 }));
    const result = run.finish();
    expect(checkOutput(guest, monitor.name, result.console).ok).toBe(false);
    expect(result.stoppedBy).not.toBe('poweroff');
  });
});
