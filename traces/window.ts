import type { RunResult, StopKind } from '../monitors/result.ts';

/** One guest instruction under every monitor. */
export interface WindowRow {
  /** Instructions that had retired before it. */
  readonly index: number;
  readonly rip: string;
  readonly text: string;
  /** False if the monitors executed different instructions here; `rip` and `text` are then of the first that has one. */
  readonly aligned: boolean;
  /** In the order of AlignedWindow.monitors; null where the run has no such instruction. */
  readonly cycles: readonly (number | null)[];
  readonly stops: readonly { readonly monitor: string; readonly kind: StopKind; readonly name: string; readonly cycles: number; readonly why: string }[];
}

export interface AlignedWindow {
  readonly monitors: readonly string[];
  readonly rows: readonly WindowRow[];
}

/** Puts the windows of all runs side by side, aligned on the retired index. */
export function alignWindow(runs: readonly RunResult[]): AlignedWindow {
  const byIndex = runs.map(run => new Map(run.window.map(entry => [entry.index, entry])));
  const indices = [...new Set(runs.flatMap(run => run.window.map(entry => entry.index)))].sort((a, b) => a - b);
  const stopsAt = runs.map(run => {
    const lists = new Map<number, RunResult['exitRecords'][number][]>();
    for (const entry of run.window) lists.set(entry.index, []);
    for (const record of run.exitRecords) lists.get(record.retired)?.push(record);
    return lists;
  });
  const rows = indices.map((index): WindowRow => {
    const entries = byIndex.map(map => map.get(index) ?? null);
    const first = entries.find(entry => entry !== null)!;
    return {
      index, rip: first.rip, text: first.text,
      aligned: entries.every(entry => entry === null || (entry.rip === first.rip && entry.text === first.text)),
      cycles: entries.map(entry => entry?.cycles ?? null),
      stops: runs.flatMap((run, i) => (stopsAt[i]!.get(index) ?? []).map(({ kind, name, cycles, why }) => ({ monitor: run.monitor, kind, name, cycles, why }))),
    };
  });
  return { monitors: runs.map(run => run.monitor), rows };
}
