import type { CycleBreakdown, ExitStatistics, NotRun, RunResult, StopKind, StoppedBy } from '../monitors/result.ts';
import { kindsOf, stopKinds } from './stop-kinds.ts';
import type { StopCounts } from './stop-kinds.ts';
import { compareCurves, partings } from './curve.ts';
import type { Curves, Parting } from './curve.ts';
import { alignWindow } from './window.ts';
import type { AlignedWindow } from './window.ts';
import { compareOutput } from './output.ts';
import type { OutputComparison } from './output.ts';
import { difference } from './difference.ts';
import type { Difference } from './difference.ts';
import { geometricMean } from './number-format.ts';

/** Version of the comparison; it changes when a field changes its meaning or goes away. */
export const comparisonSchema = 'vanderpool-comparison/1';

/** One kind of stop under one monitor, with the columns of `perf kvm stat`. */
export interface StopRow {
  readonly kind: StopKind;
  readonly name: string;
  readonly count: number;
  /** Share of the stops, 0..1. */
  readonly countShare: number;
  readonly cycles: number;
  /** Share of the cycles of all stops, 0..1; null if these are 0. */
  readonly cyclesShare: number | null;
  readonly minimum: number;
  readonly maximum: number;
  readonly mean: number;
  /** Standard error of the mean over the mean, 0..1; null if the mean is 0. */
  readonly spread: number | null;
}

/** One guest under one monitor. Null means that there is no such thing here, which is not 0. */
export interface MonitorRow {
  readonly monitor: string;
  readonly instructions: number;
  readonly cycles: number;
  /** Cycles over the cycles of the base; null if those are 0. */
  readonly slowdown: number | null;
  readonly stops: StopCounts;
  readonly stopsTotal: number | null;
  readonly stopsPerThousand: number | null;
  readonly cyclesPerStop: number | null;
  readonly hypervisorCycles: number | null;
  /** Hypervisor cycles over all cycles, 0..1. */
  readonly hypervisorShare: number | null;
  /** Hypervisor cycles that belong to no stop: setting up, background work. */
  readonly outsideStops: number | null;
  readonly breakdown: CycleBreakdown;
  readonly tlb: RunResult['tlb'];
  readonly referencesTotal: number;
  readonly referencesPerWalk: number | null;
  /** Most frequent first. */
  readonly stopRows: readonly StopRow[];
  /** Stops whose time and reason were kept, and those that were only counted. */
  readonly stopsRecorded: number;
  readonly stopsDropped: number;
  readonly stoppedBy: StoppedBy;
  readonly exitStatus: number;
  readonly sameOutput: boolean;
  readonly deviations: readonly string[];
  readonly unmodelled: readonly { readonly what: string; readonly count: number }[];
  /** Null where it was not counted. */
  readonly estimatedShare: number | null;
  readonly verdict: string;
}

export interface GuestComparison {
  readonly guest: string;
  /** The monitor all others are compared with: native, or the first that ran; null if none ran. */
  readonly base: string | null;
  readonly clock: 'guest' | 'machine' | null;
  readonly engine: 'evaluate' | 'interpret' | null;
  readonly memoryMiB: number | null;
  readonly image: RunResult['image'] | null;
  readonly rows: readonly MonitorRow[];
  readonly notRun: readonly { readonly monitor: string; readonly reason: string }[];
  readonly output: OutputComparison | null;
  readonly differences: readonly Difference[];
  readonly curves: Curves;
  readonly partings: readonly Parting[];
  readonly window: AlignedWindow;
  /** What makes the numbers less than they seem; empty is the normal case. */
  readonly warnings: readonly string[];
}

export interface GeometricMeans {
  /** Guests that every one of the monitors below ran. */
  readonly guests: readonly string[];
  readonly rows: readonly { readonly monitor: string; readonly slowdown: number | null }[];
  /** Guests left out because a monitor could not run them. */
  readonly leftOut: readonly string[];
}

export interface Comparison {
  readonly schema: typeof comparisonSchema;
  readonly profile: string;
  readonly monitors: readonly string[];
  readonly guests: readonly GuestComparison[];
  readonly geometricMeans: GeometricMeans;
}

const isRun = (run: RunResult | NotRun): run is RunResult => !('reason' in run);

/**
 * Compares runs of any number of guests under any number of monitors and one profile. Guests and monitors keep the
 * order in which they first appear. Throws if nothing is given, if profiles are mixed, or if a pair appears twice.
 */
export function compareRuns(runs: readonly (RunResult | NotRun)[]): Comparison {
  const first = runs[0];
  if (!first) throw new Error('compareRuns: there are no runs; give at least one');
  const pairs = new Set<string>();
  for (const run of runs) {
    if (run.profile !== first.profile) throw new Error(`compareRuns: profiles ${first.profile} and ${run.profile} are mixed; compare each profile by itself`);
    const pair = JSON.stringify([run.guest, run.monitor]);
    if (pairs.has(pair)) throw new Error(`compareRuns: ${run.guest} under ${run.monitor} is given twice; give each pair once`);
    pairs.add(pair);
  }
  const monitors = [...new Set(runs.map(run => run.monitor))];
  const kinds = new Map(monitors.map(monitor => [monitor, kindsOf(monitor, new Set(runs.filter(isRun).filter(run => run.monitor === monitor).flatMap(run => run.exits.map(exit => exit.kind))))]));
  const guests = [...new Set(runs.map(run => run.guest))].map(guest => compareGuest(guest, runs.filter(run => run.guest === guest), kinds));
  return { schema: comparisonSchema, profile: first.profile, monitors, guests, geometricMeans: geometricMeans(monitors, guests) };
}

function compareGuest(guest: string, all: readonly (RunResult | NotRun)[], kinds: ReadonlyMap<string, ReadonlySet<StopKind>>): GuestComparison {
  const runs = all.filter(isRun);
  const notRun = all.filter(run => !isRun(run)).map(run => ({ monitor: run.monitor, reason: (run as NotRun).reason }));
  const base = runs.find(run => run.monitor === 'native') ?? runs[0];
  const output = base ? compareOutput(base, runs) : null;
  const rows = base ? runs.map(run => monitorRow(run, base, kinds.get(run.monitor)!, output!)) : [];
  const withStops = rows.filter(row => row.stopsTotal !== null);
  const curves = compareCurves(base, runs);
  return {
    guest,
    base: base?.monitor ?? null, clock: base?.clock ?? null, engine: base?.engine ?? null, memoryMiB: base?.memoryMiB ?? null,
    image: base ? { sha256: base.image.sha256, bytes: base.image.bytes, format: base.image.format } : null,
    rows: markFastest(rows, base?.monitor ?? null),
    notRun, output,
    differences: withStops.slice(1).map((row, i) => difference(withStops[i]!, row)),
    curves,
    partings: base ? partings(base, runs.filter(run => run !== base)) : [],
    window: alignWindow(runs),
    warnings: base ? warnings(base, runs) : [],
  };
}

function monitorRow(run: RunResult, base: RunResult, kinds: ReadonlySet<StopKind>, output: OutputComparison): MonitorRow {
  const monitored = kinds.size > 0;
  const counts = Object.fromEntries(stopKinds.map(({ kind }) => [kind, kinds.has(kind) ? sum(run.exits.filter(exit => exit.kind === kind).map(exit => exit.count)) : null])) as StopCounts;
  const stopsTotal = sum(run.exits.map(exit => exit.count));
  const stopCycles = sum(run.exits.map(exit => exit.cycles));
  const hypervisor = run.breakdown.transitions + run.breakdown.monitor;
  const references = run.tlb.walkReferences + run.tlb.secondLevelReferences;
  const sameOutput = !output.divergences.some(divergence => divergence.monitor === run.monitor);
  const { guest, translation, events, transitions, monitor, idle } = run.breakdown;
  const { dataMisses, instructionMisses, walks, walkReferences, secondLevelReferences } = run.tlb;
  return {
    monitor: run.monitor, instructions: run.instructions, cycles: run.cycles,
    slowdown: base.cycles > 0 ? run.cycles / base.cycles : null,
    stops: counts,
    stopsTotal: monitored ? stopsTotal : null,
    stopsPerThousand: monitored && run.instructions > 0 ? stopsTotal * 1000 / run.instructions : null,
    cyclesPerStop: monitored && stopsTotal > 0 ? stopCycles / stopsTotal : null,
    hypervisorCycles: monitored ? hypervisor : null,
    hypervisorShare: monitored && run.cycles > 0 ? hypervisor / run.cycles : null,
    outsideStops: monitored ? hypervisor - stopCycles : null,
    breakdown: { guest, translation, events, transitions, monitor, idle },
    tlb: { dataMisses, instructionMisses, walks, walkReferences, secondLevelReferences },
    referencesTotal: references,
    referencesPerWalk: walks > 0 ? references / walks : null,
    stopRows: run.exits.map(exit => stopRow(exit, stopsTotal, stopCycles)).sort((a, b) => b.count - a.count || b.cycles - a.cycles || order(a.kind + a.name, b.kind + b.name)),
    stopsRecorded: run.exitRecords.length, stopsDropped: run.exitsDropped,
    stoppedBy: run.stoppedBy, exitStatus: run.exitStatus, sameOutput,
    deviations: [...run.deviations],
    unmodelled: run.unmodelled.map(({ what, count }) => ({ what, count })),
    estimatedShare: run.estimatedShare,
    verdict: verdict(run, base, sameOutput),
  };
}

function stopRow(exit: ExitStatistics, allCount: number, allCycles: number): StopRow {
  const mean = exit.count > 0 ? exit.cycles / exit.count : 0;
  const variance = exit.count > 1 ? Math.max(0, exit.squares - exit.cycles * mean) / (exit.count - 1) : 0;
  return {
    kind: exit.kind, name: exit.name, count: exit.count, countShare: allCount > 0 ? exit.count / allCount : 0,
    cycles: exit.cycles, cyclesShare: allCycles > 0 ? exit.cycles / allCycles : null,
    minimum: exit.minimum, maximum: exit.maximum, mean,
    spread: mean > 0 ? Math.sqrt(variance / exit.count) / mean : null,
  };
}

function verdict(run: RunResult, base: RunResult, sameOutput: boolean): string {
  const parts = [run === base ? 'base' : sameOutput ? 'same output' : 'output differs'];
  if (run.stoppedBy !== base.stoppedBy || run.exitStatus !== base.exitStatus) parts.push(`ended by ${run.stoppedBy}, status ${run.exitStatus}`);
  return parts.join('; ');
}

/** Says which monitor was fastest, if there are several to choose from that did the same work, and one stands alone. */
function markFastest(rows: readonly MonitorRow[], base: string | null): readonly MonitorRow[] {
  const able = rows.filter(row => row.monitor !== base && row.stopsTotal !== null && row.verdict === 'same output');
  const least = Math.min(...able.map(row => row.cycles));
  const fastest = able.filter(row => row.cycles === least);
  if (able.length < 2 || fastest.length !== 1) return rows;
  return rows.map(row => row === fastest[0] ? { ...row, verdict: `${row.verdict}; fastest monitor` } : row);
}

function warnings(base: RunResult, runs: readonly RunResult[]): readonly string[] {
  const out: string[] = [];
  for (const run of runs) {
    const { guest, translation, events, transitions, monitor, idle } = run.breakdown;
    const parts = guest + translation + events + transitions + monitor + idle;
    if (parts !== run.cycles) out.push(`${run.monitor}: the parts of the breakdown add up to ${parts}, not to the ${run.cycles} cycles of the run`);
    if (run.image.sha256 !== base.image.sha256) out.push(`${run.monitor}: ran another image than ${base.monitor}`);
    if (run.clock !== base.clock) out.push(`${run.monitor}: guest clock '${run.clock}', but ${base.monitor} has '${base.clock}'; interrupts land on other instructions`);
    if (run.memoryMiB !== base.memoryMiB) out.push(`${run.monitor}: ${run.memoryMiB} MiB of guest memory, but ${base.monitor} has ${base.memoryMiB}`);
    if (run.instructions !== base.instructions) out.push(`${run.monitor}: ${run.instructions} guest instructions, but ${base.monitor} has ${base.instructions}; only the common part is aligned`);
    if (run.exitsDropped > 0) out.push(`${run.monitor}: only the first ${run.exitRecords.length} stops were kept for the curves; ${run.exitsDropped} more are in the totals alone`);
    if (run.stoppedBy === 'limit') out.push(`${run.monitor}: cut off by the instruction limit`);
  }
  return out;
}

/** Ratios only, and only over guests that all the monitors ran: means over different guests cannot be compared. */
function geometricMeans(monitors: readonly string[], guests: readonly GuestComparison[]): GeometricMeans {
  const able = monitors.filter(monitor => guests.some(guest => slowdownOf(guest, monitor) !== null));
  const common = guests.filter(guest => guest.base === 'native' && able.every(monitor => slowdownOf(guest, monitor) !== null));
  return {
    guests: common.map(guest => guest.guest),
    rows: able.map(monitor => ({ monitor, slowdown: geometricMean(common.map(guest => slowdownOf(guest, monitor)!)) })),
    leftOut: guests.filter(guest => !common.includes(guest)).map(guest => guest.guest),
  };
}

/** Slowdown usable as a ratio: positive, over native. */
function slowdownOf(guest: GuestComparison, monitor: string): number | null {
  const slowdown = guest.rows.find(row => row.monitor === monitor)?.slowdown ?? null;
  return slowdown !== null && slowdown > 0 ? slowdown : null;
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
const order = (a: string, b: string): number => a < b ? -1 : a > b ? 1 : 0;
