import { breakdownParts } from './report-tables.ts';
import type { Report } from './report.ts';
import { stopKinds } from './stop-kinds.ts';

type Value = string | number | null;

/** summary.csv: one metric of one guest under one monitor per line. An empty value means that there is no such thing, 0 that it did not happen. */
export function renderSummaryCsv({ comparison }: Report): string {
  const lines: (readonly Value[])[] = [['guest', 'monitor', 'metric', 'unit', 'value', 'profile']];
  for (const { guest, rows, notRun } of comparison.guests) {
    for (const row of rows) {
      const put = (metric: string, unit: string, value: Value): void => { lines.push([guest, row.monitor, metric, unit, value, comparison.profile]); };
      put('instructions', 'count', row.instructions);
      put('cycles', 'cycles', row.cycles);
      put('slowdown', 'ratio', row.slowdown);
      for (const { kind, metric } of stopKinds) put(metric, 'count', row.stops[kind]);
      put('stops', 'count', row.stopsTotal);
      put('stops_per_1k_instructions', 'ratio', row.stopsPerThousand);
      put('cycles_per_stop', 'cycles', row.cyclesPerStop);
      put('hypervisor_cycles', 'cycles', row.hypervisorCycles);
      put('hypervisor_share', 'ratio', row.hypervisorShare);
      put('cycles_outside_stops', 'cycles', row.outsideStops);
      for (const part of breakdownParts) put(`breakdown_${part}`, 'cycles', row.breakdown[part]);
      put('data_tlb_misses', 'count', row.tlb.dataMisses);
      put('instruction_tlb_misses', 'count', row.tlb.instructionMisses);
      put('walks', 'count', row.tlb.walks);
      put('walk_references', 'count', row.tlb.walkReferences);
      put('second_level_references', 'count', row.tlb.secondLevelReferences);
      put('references_per_walk', 'ratio', row.referencesPerWalk);
      put('estimated_share', 'ratio', row.estimatedShare);
      put('stopped_by', 'text', row.stoppedBy);
      put('exit_status', 'number', row.exitStatus);
      put('same_output', 'flag', row.sameOutput ? 1 : 0);
    }
    for (const { monitor, reason } of notRun) lines.push([guest, monitor, 'cannot_run', 'text', reason, comparison.profile]);
  }
  for (const { monitor, slowdown } of comparison.geometricMeans.rows) lines.push(['(geometric mean)', monitor, 'slowdown', 'ratio', slowdown, comparison.profile]);
  return csv(lines);
}

/** exits.csv: one reason of one guest under one monitor per line; the shares are 0..1. */
export function renderExitsCsv({ comparison }: Report): string {
  const lines: (readonly Value[])[] = [['guest', 'monitor', 'kind', 'reason', 'count', 'count_share', 'cycles', 'cycles_share', 'minimum', 'maximum', 'mean', 'spread', 'profile']];
  for (const { guest, rows } of comparison.guests) {
    for (const { monitor, stopRows } of rows) {
      for (const stop of stopRows) {
        lines.push([guest, monitor, stop.kind, stop.name, stop.count, stop.countShare, stop.cycles, stop.cyclesShare, stop.minimum, stop.maximum, stop.mean, stop.spread, comparison.profile]);
      }
    }
  }
  return csv(lines);
}

/** RFC 4180 but for the line end, which is LF as in every other file. */
const csv = (lines: readonly (readonly Value[])[]): string => lines.map(line => `${line.map(csvField).join(',')}\n`).join('');

/** One field. Text that a spreadsheet would run as a formula gets a `'` in front; numbers are left alone. */
export function csvField(value: Value): string {
  if (value === null) return '';
  if (typeof value === 'number') return String(value);
  const text = /^[=+\-@\t\r\n]/.test(value) ? `'${value}` : value;
  return text !== value || /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
