import type { StopKind } from '../monitors/result.ts';
import type { MonitorRow } from './comparison.ts';

/** One kind of stop under two monitors; null where the monitor cannot have that kind. */
export interface DifferenceRow {
  readonly kind: StopKind;
  readonly name: string;
  readonly before: number | null;
  readonly after: number | null;
  readonly change: number;
  readonly cyclesBefore: number | null;
  readonly cyclesAfter: number | null;
  readonly cyclesChange: number;
}

/** What changes from one monitor to the next. */
export interface Difference {
  readonly from: string;
  readonly to: string;
  readonly cyclesChange: number;
  /** Cycles of `to` over those of `from`, minus 1; null if those are 0. */
  readonly relativeChange: number | null;
  readonly walksChange: number;
  readonly referencesPerWalkBefore: number | null;
  readonly referencesPerWalkAfter: number | null;
  /** Largest change of cycles first; kinds that did not change at all are left out. */
  readonly rows: readonly DifferenceRow[];
}

export function difference(from: MonitorRow, to: MonitorRow): Difference {
  const keys = new Map<string, { readonly kind: StopKind; readonly name: string }>();
  for (const { kind, name } of [...from.stopRows, ...to.stopRows]) keys.set(JSON.stringify([kind, name]), { kind, name });
  const rows = [...keys.values()].map(({ kind, name }) => differenceRow(kind, name, from, to)).filter(row => row.change !== 0 || row.cyclesChange !== 0);
  const size = (row: DifferenceRow): number => Math.abs(row.cyclesChange);
  rows.sort((a, b) => size(b) - size(a) || Math.abs(b.change) - Math.abs(a.change) || (a.kind + a.name < b.kind + b.name ? -1 : 1));
  return {
    from: from.monitor, to: to.monitor,
    cyclesChange: to.cycles - from.cycles, relativeChange: from.cycles > 0 ? to.cycles / from.cycles - 1 : null,
    walksChange: to.tlb.walks - from.tlb.walks,
    referencesPerWalkBefore: from.referencesPerWalk, referencesPerWalkAfter: to.referencesPerWalk,
    rows,
  };
}

function differenceRow(kind: StopKind, name: string, from: MonitorRow, to: MonitorRow): DifferenceRow {
  const of = (row: MonitorRow): { readonly count: number | null; readonly cycles: number | null } => {
    if (row.stops[kind] === null) return { count: null, cycles: null };
    return row.stopRows.find(stop => stop.kind === kind && stop.name === name) ?? { count: 0, cycles: 0 };
  };
  const a = of(from);
  const b = of(to);
  return {
    kind, name, before: a.count, after: b.count, change: (b.count ?? 0) - (a.count ?? 0),
    cyclesBefore: a.cycles, cyclesAfter: b.cycles, cyclesChange: (b.cycles ?? 0) - (a.cycles ?? 0),
  };
}
