import { describe, expect, it } from 'vitest';
import type { RunResult } from '../../monitors/result.ts';
import { compareRuns } from '../../traces/comparison.ts';
import { run, sampleRuns, shaped, statistics, stop } from './sample-runs.ts';

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

describe('compareRuns', () => {
  it('keeps totals that add up', () => {
    const comparison = compareRuns(sampleRuns());
    expect(comparison.guests.map(guest => guest.guest)).toEqual(['compute', 'syscalls', 'page-faults', 'timer-interrupts']);
    for (const guest of comparison.guests) {
      expect(guest.warnings).toEqual([]);
      for (const row of guest.rows) {
        expect(sum(Object.values(row.breakdown))).toBe(row.cycles);
        expect(sum(row.stopRows.map(stop => stop.count))).toBe(row.stopsTotal ?? 0);
        expect(sum(row.stopRows.map(stop => stop.cycles)) + (row.outsideStops ?? 0)).toBe(row.hypervisorCycles ?? 0);
        if (row.stopRows.length > 0) expect(sum(row.stopRows.map(stop => stop.countShare))).toBeCloseTo(1, 12);
        for (const stop of row.stopRows) expect(stop.minimum <= stop.mean && stop.mean <= stop.maximum).toBe(true);
      }
    }
  });

  it('tells "cannot happen" from "did not happen"', () => {
    const [guest] = compareRuns(['native', 'trap-and-emulate', 'vtx-ept', 'unheard-of'].map(monitor => run({ monitor }))).guests;
    const counts = guest!.rows.map(row => [row.monitor, row.stops.vmExit, row.stops.trap, row.stopsTotal, row.hypervisorCycles, row.stopsPerThousand]);
    expect(counts).toEqual([['native', null, null, null, null, null], ['trap-and-emulate', null, 0, 0, 0, 0], ['vtx-ept', 0, null, 0, 0, 0], ['unheard-of', null, null, null, null, null]]);
  });

  it('learns the kinds of an unknown monitor from any of its runs', () => {
    const comparison = compareRuns([run({ guest: 'a', monitor: 'new' }), run({ guest: 'b', monitor: 'new', exits: statistics([stop(1, 'x', 5, 'callout')]) })]);
    expect(comparison.guests.map(guest => guest.rows[0]!.stops.callout)).toEqual([0, 1]);
  });

  it('computes the columns of perf kvm stat by hand-checked numbers', () => {
    const [guest] = compareRuns([run(), run({ monitor: 'vtx-ept', breakdown: { transitions: 60, monitor: 50 }, exits: statistics([stop(1, 'Hlt', 20), stop(2, 'Hlt', 40), stop(3, 'Cpuid', 40)]) })]).guests;
    const [hlt, cpuid] = guest!.rows[1]!.stopRows;
    // Variance of 20 and 40 is 200; standard error of the mean is sqrt(200 / 2) = 10; over the mean 30.
    expect(hlt).toEqual({ kind: 'vmExit', name: 'Hlt', count: 2, countShare: 2 / 3, cycles: 60, cyclesShare: 0.6, minimum: 20, maximum: 40, mean: 30, spread: 1 / 3 });
    expect(cpuid).toMatchObject({ count: 1, spread: 0 });
    expect(guest!.rows[1]).toMatchObject({ slowdown: 2.1, stopsTotal: 3, stopsPerThousand: 300, cyclesPerStop: 100 / 3, hypervisorCycles: 110, hypervisorShare: 110 / 210, outsideStops: 10 });
  });

  it('says what one monitor removes and adds against the one before', () => {
    const shadow = run({ monitor: 'vtx-shadow', breakdown: { monitor: 50 }, exits: statistics([stop(1, 'CrAccess', 30), stop(2, 'Hlt', 20)]), tlb: { dataMisses: 2, instructionMisses: 0, walks: 2, walkReferences: 8, secondLevelReferences: 0 } });
    const ept = run({ monitor: 'vtx-ept', breakdown: { monitor: 35 }, exits: statistics([stop(1, 'EptViolation', 15), stop(2, 'Hlt', 20)]), tlb: { dataMisses: 2, instructionMisses: 0, walks: 2, walkReferences: 8, secondLevelReferences: 40 } });
    const [guest] = compareRuns([run(), shadow, ept]).guests;
    expect(guest!.differences).toHaveLength(1);
    expect(guest!.differences[0]).toMatchObject({ from: 'vtx-shadow', to: 'vtx-ept', cyclesChange: -15, relativeChange: 135 / 150 - 1, referencesPerWalkBefore: 4, referencesPerWalkAfter: 24 });
    expect(guest!.differences[0]!.rows).toEqual([
      { kind: 'vmExit', name: 'CrAccess', before: 1, after: 0, change: -1, cyclesBefore: 30, cyclesAfter: 0, cyclesChange: -30 },
      { kind: 'vmExit', name: 'EptViolation', before: 0, after: 1, change: 1, cyclesBefore: 0, cyclesAfter: 15, cyclesChange: 15 },
    ]);
  });

  it('shows null, not 0, for kinds that one side cannot have', () => {
    const [guest] = compareRuns([run(), run({ monitor: 'trap-and-emulate', exits: statistics([stop(1, '#GP', 9, 'trap')]) }), run({ monitor: 'vtx-ept' })]).guests;
    expect(guest!.differences[0]!.rows[0]).toMatchObject({ before: 1, after: null, change: -1, cyclesAfter: null });
  });

  it('finds where the curves part and which exits did it', () => {
    const samples = (extra: (retired: number) => number): RunResult['samples'] => [10, 20, 30, 40].map(retired => ({ retired, cycles: retired + extra(retired) }));
    const records = [stop(12, 'Cpuid', 1), stop(20, 'Hlt', 30), stop(25, 'Hlt', 30), stop(39, 'Io', 2)];
    const base = run({ instructions: 40, breakdown: { guest: 40 }, samples: samples(() => 0) });
    const ept = run({
      instructions: 40, monitor: 'vtx-ept', breakdown: { guest: 40, translation: 5, monitor: 63 }, exits: statistics(records), exitRecords: records,
      samples: samples(retired => retired < 20 ? 0 : retired < 30 ? 1 : retired < 40 ? 66 : 68),
    });
    const [guest] = compareRuns([base, ept]).guests;
    expect(guest!.warnings).toEqual([]);
    expect(guest!.curves.retired).toEqual([10, 20, 30, 40]);
    expect(guest!.curves.monitors[1]!.cycles).toEqual([10, 21, 96, 108]);
    const [parting] = guest!.partings;
    expect(parting!.points).toEqual([
      { thresholds: [0, 0.01], from: 10, to: 20, baseCycles: 20, cycles: 21, difference: 1, grown: 1, stops: [{ kind: 'vmExit', name: 'Cpuid', count: 1, cycles: 1 }], remainder: 0 },
      { thresholds: [0.1, 1], from: 20, to: 30, baseCycles: 30, cycles: 96, difference: 66, grown: 65, stops: [{ kind: 'vmExit', name: 'Hlt', count: 2, cycles: 60 }], remainder: 5 },
    ]);
    expect(parting!.steepest).toMatchObject({ from: 20, to: 30, grown: 65 });
    const dropped = compareRuns([base, { ...ept, exitRecords: records.slice(0, 2), exitsDropped: 2 }]).guests[0]!;
    expect(dropped.partings[0]!.points.map(point => point.remainder)).toEqual([0, null]);
    expect(dropped.warnings).toEqual(['vtx-ept: only the first 2 stops were kept for the curves; 2 more are in the totals alone']);
  });

  it('aligns curves of runs that ended at different places on what they have in common', () => {
    const long = run({ instructions: 30, samples: [{ retired: 10, cycles: 30 }, { retired: 20, cycles: 60 }] });
    const short = run({ monitor: 'vtx-ept', instructions: 15, stoppedBy: 'limit', exitStatus: 124, samples: [{ retired: 10, cycles: 40 }] });
    const [guest] = compareRuns([long, short]).guests;
    expect(guest!.curves).toMatchObject({ retired: [10, 20, 30], monitors: [{ cycles: [30, 60, 100] }, { cycles: [40, null, null] }] });
    expect(guest!.rows[1]!.verdict).toBe('same output; ended by limit, status 124');
    expect(guest!.warnings).toEqual(['vtx-ept: 15 guest instructions, but native has 30; only the common part is aligned', 'vtx-ept: cut off by the instruction limit']);
  });

  it('bins the exits of a curve without losing any', () => {
    const result = shaped({ guest: 'g', monitor: 'vtx-ept', instructions: 5000, stops: [['Hlt', 7, 10, 'vmExit']], setup: 0, referencesPerWalk: 2 });
    const { stops } = compareRuns([result]).guests[0]!.curves.monitors[0]!;
    expect(stops.length).toBeLessThanOrEqual(256);
    expect(sum(stops.map(bin => bin.count))).toBe(Math.floor(5000 / 7));
    expect(sum(stops.map(bin => bin.cycles))).toBe(sum(result.exits.map(exit => exit.cycles)));
  });

  it('puts the windows side by side and marks instructions that differ', () => {
    const entry = (index: number, text: string, cycles: number): RunResult['window'][number] => ({ index, rip: `0x${index}`, text, cycles });
    const [guest] = compareRuns([
      run({ window: [entry(5, 'nop', 1), entry(6, 'hlt', 2), entry(7, 'nop', 1)] }),
      run({ monitor: 'vtx-ept', window: [entry(6, 'hlt', 50), entry(7, 'inc eax', 1)], exitRecords: [stop(6, 'Hlt', 48)], exits: statistics([stop(6, 'Hlt', 48)]) }),
    ]).guests;
    expect(guest!.window.monitors).toEqual(['native', 'vtx-ept']);
    expect(guest!.window.rows).toEqual([
      { index: 5, rip: '0x5', text: 'nop', aligned: true, cycles: [1, null], stops: [] },
      { index: 6, rip: '0x6', text: 'hlt', aligned: true, cycles: [2, 50], stops: [{ monitor: 'vtx-ept', kind: 'vmExit', name: 'Hlt', cycles: 48, why: 'HLT exiting' }] },
      { index: 7, rip: '0x7', text: 'nop', aligned: false, cycles: [1, 1], stops: [] },
    ]);
  });

  it('finds the first character that differs', () => {
    const [guest] = compareRuns([run({ console: 'one\ntwo\nend' }), run({ monitor: 'vtx-ept', console: 'one\ntwo\nend' }), run({ monitor: 'trap-and-emulate', console: 'one\ntXo' }), run({ monitor: 'vtx-shadow', console: 'one\n' })]).guests;
    expect(guest!.output).toEqual({
      base: 'native', characters: 11, identical: false,
      divergences: [
        { monitor: 'trap-and-emulate', offset: 5, line: 2, column: 2, expected: '"wo\\nend"', got: '"Xo"' },
        { monitor: 'vtx-shadow', offset: 4, line: 2, column: 1, expected: '"two\\nend"', got: '""' },
      ],
    });
    expect(guest!.rows.map(row => row.verdict)).toEqual(['base', 'same output', 'output differs', 'output differs']);
  });

  it('takes the geometric mean of ratios to native over the guests that all ran', () => {
    const at = (guest: string, monitor: string, cycles: number): RunResult => run({ guest, monitor, breakdown: { guest: cycles } });
    const comparison = compareRuns([
      at('a', 'native', 100), at('a', 'vtx-shadow', 200), at('a', 'vtx-ept', 100), at('b', 'native', 10), at('b', 'vtx-shadow', 80), at('b', 'vtx-ept', 10),
      at('c', 'native', 10), { guest: 'c', monitor: 'vtx-shadow', profile: 'nehalem', reason: 'no' }, at('c', 'vtx-ept', 1000),
    ]);
    expect(comparison.geometricMeans.guests).toEqual(['a', 'b']);
    expect(comparison.geometricMeans.leftOut).toEqual(['c']);
    expect(comparison.geometricMeans.rows.map(row => row.monitor)).toEqual(['native', 'vtx-shadow', 'vtx-ept']);
    [1, 4, 1].forEach((wanted, i) => expect(comparison.geometricMeans.rows[i]!.slowdown).toBeCloseTo(wanted, 12));
    expect(comparison.guests[2]!.notRun).toEqual([{ monitor: 'vtx-shadow', reason: 'no' }]);
  });

  it('takes the first monitor as base if native did not run, and none if nothing did', () => {
    const [first] = compareRuns([run({ monitor: 'vtx-shadow' }), run({ monitor: 'vtx-ept' })]).guests;
    expect(first!.base).toBe('vtx-shadow');
    const none = compareRuns([{ guest: 'g', monitor: 'native', profile: 'unit', reason: 'too big' }]);
    expect(none.guests[0]).toMatchObject({ base: null, rows: [], curves: { retired: [] }, output: null });
    expect(none.geometricMeans).toEqual({ guests: [], rows: [], leftOut: ['g'] });
  });

  it('warns where runs cannot be compared as they seem', () => {
    const [guest] = compareRuns([run(), run({ monitor: 'vtx-ept', cycles: 101, clock: 'machine', memoryMiB: 32, image: { sha256: 'e', bytes: 1, format: 'x' } })]).guests;
    expect(guest!.warnings).toEqual([
      'vtx-ept: the parts of the breakdown add up to 100, not to the 101 cycles of the run', 'vtx-ept: ran another image than native',
      "vtx-ept: guest clock 'machine', but native has 'guest'; interrupts land on other instructions", 'vtx-ept: 32 MiB of guest memory, but native has 64',
    ]);
  });

  it('refuses misuse', () => {
    expect(() => compareRuns([])).toThrow(/there are no runs/);
    expect(() => compareRuns([run(), run({ profile: 'unit', monitor: 'vtx-ept' })])).toThrow(/profiles nehalem and unit are mixed/);
    expect(() => compareRuns([run(), run()])).toThrow(/hello under native is given twice/);
  });
});
