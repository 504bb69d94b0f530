import type { ExitRecord, RunResult, StopKind } from '../monitors/result.ts';

/** Cumulative cycles over retired instructions, all monitors at the same indices. */
export interface Curves {
  /** Retired guest instructions, ascending: the sample points of the base. */
  readonly retired: readonly number[];
  /** Machine cycles when so many had retired; null where that run has no sample. */
  readonly monitors: readonly { readonly monitor: string; readonly cycles: readonly (number | null)[]; readonly stops: readonly StopBin[] }[];
}

/** Stops between two retired indices (from ≤ retired < to). */
export interface StopBin {
  readonly from: number;
  readonly to: number;
  readonly count: number;
  readonly cycles: number;
}

/** Stops of one kind in an interval. */
export interface StopGroup {
  readonly kind: StopKind;
  readonly name: string;
  readonly count: number;
  readonly cycles: number;
}

/** An interval of the curves in which a monitor leaves the base behind. */
export interface PartingPoint {
  /** Thresholds first passed here, as shares of all cycles of the base; 0 is the first difference of any size. */
  readonly thresholds: readonly number[];
  /** Retired indices: two neighbouring sample points. */
  readonly from: number;
  readonly to: number;
  readonly baseCycles: number;
  readonly cycles: number;
  /** cycles - baseCycles at `to`, and how much of it came up in this interval. */
  readonly difference: number;
  readonly grown: number;
  readonly stops: readonly StopGroup[];
  /** Part of `grown` that is not cycles of those stops: translation, setting up. Null if not all stops were kept. */
  readonly remainder: number | null;
}

export interface Parting {
  readonly monitor: string;
  readonly points: readonly PartingPoint[];
  /** The interval that adds most, the first one left out: it holds what setting up took. */
  readonly steepest: PartingPoint | null;
}

/** Shares of all cycles of the base at which the report says that a curve has parted from it. */
export const partingThresholds = [0, 0.01, 0.1, 1, 10] as const;

const stopBins = 256;

/** Curve of a run: its samples, and its end if no sample is there. */
function pointsOf(run: RunResult): readonly { readonly retired: number; readonly cycles: number }[] {
  const last = run.samples.at(-1);
  return !last || last.retired < run.instructions ? [...run.samples, { retired: run.instructions, cycles: run.cycles }] : run.samples;
}

export function compareCurves(base: RunResult | undefined, runs: readonly RunResult[]): Curves {
  if (!base) return { retired: [], monitors: [] };
  const retired = pointsOf(base).map(point => point.retired);
  return {
    retired,
    monitors: runs.map(run => {
      const cycles = new Map(pointsOf(run).map(point => [point.retired, point.cycles]));
      return { monitor: run.monitor, cycles: retired.map(index => cycles.get(index) ?? null), stops: binStops(run.exitRecords, Math.max(1, run.instructions)) };
    }),
  };
}

function binStops(records: readonly ExitRecord[], instructions: number): readonly StopBin[] {
  const width = Math.ceil(instructions / stopBins);
  const bins = new Map<number, { count: number; cycles: number }>();
  for (const record of records) {
    const index = Math.floor(record.retired / width);
    const bin = bins.get(index) ?? { count: 0, cycles: 0 };
    bins.set(index, { count: bin.count + 1, cycles: bin.cycles + record.cycles });
  }
  return [...bins].sort(([a], [b]) => a - b).map(([index, { count, cycles }]) => ({ from: index * width, to: (index + 1) * width, count, cycles }));
}

/** Where each run parts from the base, on the retired indices that both have. */
export function partings(base: RunResult, runs: readonly RunResult[]): readonly Parting[] {
  const baseCycles = new Map(pointsOf(base).map(point => [point.retired, point.cycles]));
  return runs.map(run => {
    const common = pointsOf(run).filter(point => baseCycles.has(point.retired));
    const passed = new Set<number>();
    const found: { readonly at: number; readonly thresholds: readonly number[] }[] = [];
    let steepest = -1;
    let most = 0;
    let gapBefore = 0;
    for (const [i, point] of common.entries()) {
      const here = baseCycles.get(point.retired)!;
      const gap = point.cycles - here;
      if (i > 0 && gap - gapBefore > most) { most = gap - gapBefore; steepest = i; }
      gapBefore = gap;
      const thresholds = partingThresholds.filter(threshold => !passed.has(threshold) && Math.abs(gap) > threshold * base.cycles);
      for (const threshold of thresholds) passed.add(threshold);
      if (thresholds.length > 0) found.push({ at: i, thresholds });
    }
    const pointAt = (i: number, thresholds: readonly number[]): PartingPoint => {
      const before = common[i - 1] ?? { retired: 0, cycles: 0 };
      const point = common[i]!;
      const here = baseCycles.get(point.retired)!;
      const grown = point.cycles - here - (i > 0 ? before.cycles - baseCycles.get(before.retired)! : 0);
      return partingPoint(run, thresholds, before.retired, point.retired, here, point.cycles, grown);
    };
    return { monitor: run.monitor, points: found.map(({ at, thresholds }) => pointAt(at, thresholds)), steepest: steepest < 0 ? null : pointAt(steepest, []) };
  });
}

function partingPoint(run: RunResult, thresholds: readonly number[], from: number, to: number, baseCycles: number, cycles: number, grown: number): PartingPoint {
  // A stop before instruction `retired` + 1 is over when that one retires, so it lies in the interval that ends later.
  const last = to === run.instructions ? to : to - 1;
  const groups = new Map<string, { kind: StopKind; name: string; count: number; cycles: number }>();
  for (const record of run.exitRecords) {
    if (record.retired < from || record.retired > last) continue;
    const key = JSON.stringify([record.kind, record.name]);
    const group = groups.get(key) ?? { kind: record.kind, name: record.name, count: 0, cycles: 0 };
    group.count++;
    group.cycles += record.cycles;
    groups.set(key, group);
  }
  const stops = [...groups.values()].sort((a, b) => b.cycles - a.cycles || b.count - a.count || (a.kind + a.name < b.kind + b.name ? -1 : 1));
  const kept = run.exitsDropped === 0 || (run.exitRecords.at(-1)?.retired ?? -1) > last;
  return { thresholds, from, to, baseCycles, cycles, difference: cycles - baseCycles, grown, stops, remainder: kept ? stops.reduce((rest, stop) => rest - stop.cycles, grown) : null };
}
