import type { StopKind } from '../monitors/result.ts';
import type { GuestComparison } from './comparison.ts';
import type { StopGroup } from './curve.ts';
import type { Difference, DifferenceRow } from './difference.ts';
import { absent, formatNumber } from './number-format.ts';
import type { NumberFormat } from './number-format.ts';
import type { Report } from './report.ts';
import { stopKinds } from './stop-kinds.ts';
import type { Cell, Column, Table } from './table.ts';

const column = (title: string, format: Column['format']): Column => ({ title, format });
const text = (title: string): Column => column(title, 'text');
const count = (title: string): Column => column(title, 'count');

const wordOf = (kind: StopKind): string => stopKinds.find(entry => entry.kind === kind)!.one;
const manyOf = (kind: StopKind, number: number): string => { const entry = stopKinds.find(other => other.kind === kind)!; return number === 1 ? entry.one : entry.many; };

/** Slowdown of every guest under every monitor. */
export function overviewTable(report: Report): Table {
  const { guests, monitors, geometricMeans } = report.comparison;
  const rows = guests.map((guest): readonly Cell[] => [guest.guest, ...monitors.map(monitor => {
    const row = guest.rows.find(other => other.monitor === monitor);
    return row ? row.slowdown : guest.notRun.some(other => other.monitor === monitor) ? 'cannot run' : null;
  })]);
  const means = monitors.map(monitor => geometricMeans.rows.find(row => row.monitor === monitor)?.slowdown ?? null);
  return {
    caption: 'Slowdown (cycles / cycles of the base)',
    columns: [text('guest'), ...monitors.map(monitor => column(monitor, 'ratio'))],
    ...geometricMeans.guests.length > 1 ? { rows: [...rows, [`geometric mean of ${geometricMeans.guests.length}`, ...means]], totalRow: rows.length } : { rows },
  };
}

/** The kinds of stop that some monitor of this guest can have. */
const kindsIn = (guest: GuestComparison): typeof stopKinds => stopKinds.filter(({ kind }) => guest.rows.some(row => row.stops[kind] !== null));

export function mainTable(guest: GuestComparison): Table {
  const kinds = kindsIn(guest);
  return {
    caption: `${guest.guest}: totals`,
    columns: [
      text('monitor'), count('instructions'), count('cycles'), column('slowdown', 'ratio'), ...kinds.map(({ many }) => count(many)), column('per 1k', 'decimal'),
      count('hyp. cycles'), column('hyp. share', 'percent'), count('walk refs'), text('verdict'),
    ],
    rows: guest.rows.map(row => [
      row.monitor, row.instructions, row.cycles, row.slowdown, ...kinds.map(({ kind }) => row.stops[kind]), row.stopsPerThousand,
      row.hypervisorCycles, row.hypervisorShare, row.referencesTotal, row.verdict,
    ]),
  };
}

export const breakdownParts = ['guest', 'translation', 'events', 'transitions', 'monitor', 'idle'] as const;

export function breakdownTable(guest: GuestComparison): Table {
  return {
    caption: `${guest.guest}: where the cycles went`,
    columns: [text('monitor'), ...breakdownParts.map(count), count('cycles'), column('cycles per exit', 'decimal'), count('outside exits'), column('estimated share', 'percent')],
    rows: guest.rows.map(row => [row.monitor, ...breakdownParts.map(part => row.breakdown[part]), row.cycles, row.cyclesPerStop, row.outsideStops, row.estimatedShare]),
  };
}

export function translationTable(guest: GuestComparison): Table {
  return {
    caption: `${guest.guest}: address translation`,
    columns: [text('monitor'), count('data TLB misses'), count('instruction TLB misses'), count('walks'), count('guest/shadow refs'), count('EPT refs'), count('walk refs'), column('refs per walk', 'decimal')],
    rows: guest.rows.map(({ monitor, tlb, referencesTotal, referencesPerWalk }) => [
      monitor, tlb.dataMisses, tlb.instructionMisses, tlb.walks, tlb.walkReferences, tlb.secondLevelReferences, referencesTotal, referencesPerWalk,
    ]),
  };
}

/** The columns of `perf kvm stat report`, in cycles, with one total per monitor that stopped at all. */
export function stopsTable(guest: GuestComparison): Table {
  const rows: (readonly Cell[])[] = [];
  for (const row of guest.rows) {
    for (const stop of row.stopRows) {
      rows.push([row.monitor, wordOf(stop.kind), stop.name, stop.count, stop.countShare, stop.cyclesShare, stop.minimum, stop.maximum, stop.mean, stop.spread, stop.cycles]);
    }
    if (row.stopsTotal === null) rows.push([row.monitor, absent, 'none possible', null, null, null, null, null, null, null, null]);
    else if (row.stopRows.length === 0) rows.push([row.monitor, absent, 'none happened', 0, null, null, null, null, null, null, 0]);
    else if (row.stopRows.length > 1) rows.push([row.monitor, 'all', 'total', row.stopsTotal, null, null, null, null, row.cyclesPerStop, null, row.stopRows.reduce((sum, stop) => sum + stop.cycles, 0)]);
  }
  return {
    caption: `${guest.guest}: exits and traps by reason`,
    columns: [
      text('monitor'), text('kind'), text('reason'), count('samples'), column('samples%', 'percent'), column('time%', 'percent'),
      count('min'), count('max'), column('avg', 'decimal'), column('+-', 'percent'), count('cycles'),
    ],
    rows,
  };
}

export function differenceTable(guest: GuestComparison, { from, to, rows }: Difference): Table {
  return {
    caption: `${guest.guest}: from ${from} to ${to}`,
    columns: [text('kind'), text('reason'), count(from), count(to), column('change', 'signed'), count(`cycles, ${from}`), count(`cycles, ${to}`), column('change of cycles', 'signed')],
    rows: rows.map(row => [wordOf(row.kind), row.name, row.before, row.after, row.change, row.cyclesBefore, row.cyclesAfter, row.cyclesChange]),
  };
}

/** 'vtx-ept removes 12 CrAccess …, adds 9 EptViolation …: -31.40% cycles; …'. */
export function differenceSentence({ from, to, rows, cyclesChange, relativeChange, referencesPerWalkBefore, referencesPerWalkAfter }: Difference, grouped = false): string {
  const show = (value: number, format: NumberFormat): string => formatNumber(value, format, grouped);
  const list = (wanted: readonly DifferenceRow[]): string => {
    const shown = wanted.slice(0, 4).map(row => `${show(Math.abs(row.change), 'count')} ${row.name} ${manyOf(row.kind, Math.abs(row.change))}`);
    const rest = wanted.slice(4).reduce((sum, row) => sum + Math.abs(row.change), 0);
    return [...shown, ...rest > 0 ? [`${show(rest, 'count')} others`] : []].join(', ');
  };
  const byCount = [...rows].sort((a, b) => Math.abs(b.change) - Math.abs(a.change));
  const removed = byCount.filter(row => row.change < 0);
  const added = byCount.filter(row => row.change > 0);
  const clauses = [
    ...removed.length > 0 ? [`removes ${list(removed)}`] : [],
    ...added.length > 0 ? [`adds ${list(added)}`] : [],
  ];
  const cycles = cyclesChange === 0 ? 'the same cycles' : `${show(cyclesChange, 'signed')} cycles${relativeChange === null ? '' : ` (${relativeChange > 0 ? '+' : ''}${show(relativeChange, 'percent')})`}`;
  const walks = referencesPerWalkBefore !== null && referencesPerWalkAfter !== null && referencesPerWalkBefore !== referencesPerWalkAfter
    ? `; a TLB miss that walks takes ${show(referencesPerWalkAfter, 'decimal')} references instead of ${show(referencesPerWalkBefore, 'decimal')}` : '';
  return `${to} against ${from}: ${clauses.length > 0 ? clauses.join('; ') : 'the same exits and traps'}; ${cycles}${walks}.`;
}

export function stopList(stops: readonly StopGroup[], grouped = false): string {
  const shown = stops.slice(0, 4).map(stop => `${formatNumber(stop.count, 'count', grouped)} × ${stop.name} (${formatNumber(stop.cycles, 'count', grouped)})`);
  return [...shown, ...stops.length > 4 ? [`${stops.length - 4} more reasons`] : []].join(', ') || 'none';
}

/** 0 is the first difference of any size, 0.1 one of a tenth of all cycles of the base. */
export const thresholdText = (threshold: number): string => threshold === 0 ? 'first' : `over ${threshold * 100}%`;

/** Where the cumulative curves leave the base, and what did it. */
export function partingTable(guest: GuestComparison, grouped = false): Table {
  const rows = guest.partings.flatMap(({ monitor, points, steepest }) => [
    ...points.map(point => ({ monitor, point, what: point.thresholds.map(thresholdText).join(', ') })),
    ...steepest ? [{ monitor, point: steepest, what: 'largest step after the start' }] : [],
  ]);
  return {
    caption: `${guest.guest}: where the curves part from ${guest.base ?? absent}`,
    columns: [text('monitor'), text('passed'), count('from instruction'), count('to instruction'), column('difference', 'signed'), column('of which here', 'signed'), text('exits and traps here (cycles)'), column('rest', 'signed')],
    rows: rows.map(({ monitor, point, what }) => [monitor, what, point.from, point.to, point.difference, point.grown, stopList(point.stops, grouped), point.remainder]),
  };
}

export function windowTable({ guest, window }: GuestComparison, grouped = false): Table {
  return {
    caption: `${guest}: instruction by instruction`,
    columns: [count('index'), text('rip'), text('instruction'), ...window.monitors.map(count), text('exits and traps')],
    rows: window.rows.map(row => [
      row.index, row.rip, row.aligned ? row.text : `${row.text} (others differ)`, ...row.cycles,
      row.stops.map(stop => `${stop.monitor}: ${stop.name}, ${formatNumber(stop.cycles, 'count', grouped)} (${stop.why})`).join('; '),
    ]),
  };
}

/** One line about the run itself. */
export function guestLine(guest: GuestComparison, grouped = false): string {
  const base = guest.rows.find(row => row.monitor === guest.base);
  if (!base || !guest.output) return 'no monitor could run it';
  const output = guest.output.identical
    ? guest.rows.length > 1 ? `output identical under all ${guest.rows.length} monitors (${formatNumber(guest.output.characters, 'count', grouped)} characters)` : `${formatNumber(guest.output.characters, 'count', grouped)} characters of output`
    : `output differs under ${guest.output.divergences.map(divergence => divergence.monitor).join(', ')}`;
  return `${formatNumber(base.instructions, 'count', grouped)} guest instructions; base ${base.monitor}; guest clock: ${guest.clock} time; ${guest.memoryMiB} MiB; ended by ${base.stoppedBy}, status ${base.exitStatus}; ${output}`;
}

/** Everything about a guest that is a sentence and not a number. */
export function guestNotes(guest: GuestComparison): readonly { readonly kind: string; readonly text: string }[] {
  return [
    ...guest.notRun.map(({ monitor, reason }) => ({ kind: 'cannot run', text: `${monitor}: ${reason}` })),
    ...(guest.output?.divergences ?? []).map(({ monitor, offset, line, column, expected, got }) => ({
      kind: 'output differs', text: `${monitor}: from character ${offset} (line ${line}, column ${column}): ${guest.base} printed ${expected}, ${monitor} ${got}`,
    })),
    ...guest.rows.flatMap(({ monitor, deviations }) => deviations.map(what => ({ kind: 'deviation', text: `${monitor}: ${what}` }))),
    ...guest.rows.flatMap(({ monitor, unmodelled }) => unmodelled.map(({ what, count: times }) => ({ kind: 'not modelled', text: `${monitor}: ${what}, ${times} ${times === 1 ? 'time' : 'times'}` }))),
    ...guest.warnings.map(warning => ({ kind: 'warning', text: warning })),
  ];
}

export function geometricMeanNote({ comparison: { geometricMeans } }: Report): string | null {
  if (geometricMeans.leftOut.length === 0 || geometricMeans.guests.length < 2) return null;
  return `The geometric mean leaves out ${geometricMeans.leftOut.join(', ')}: not every monitor ran them against native.`;
}

/** The provenance block as name and value, in its fixed order. */
export function provenanceLines({ provenance }: Report): readonly (readonly [string, string])[] {
  const { tool, version, revision, schemas, commandLine, inputs, profile, costs, seed, options, limits } = provenance;
  return [
    ['tool', `${tool} ${version}${revision === null ? '' : ` (${revision})`}`],
    ['schema', schemas.join(', ')],
    ['command line', commandLine.map(argument => /^[\w./:=,…+-]+$/.test(argument) ? argument : JSON.stringify(argument)).join(' ')],
    ...inputs.map((input): readonly [string, string] => ['input', `${input.guest}: ${input.format}, ${input.bytes} bytes, sha256 ${input.sha256}`]),
    ['profile', `${profile.name} (${profile.description}), sha256 ${profile.sha256}`],
    ['costs', `${costs.published} published and ${costs.estimated} estimated figures, sha256 ${costs.sha256}`],
    ['seed', String(seed)],
    ['options', options.map(({ name, value }) => `${name}=${value}`).join(', ') || 'all default'],
    ['limits', limits.join('; ') || 'none'],
  ];
}

export function figuresTable({ provenance: { profile, costs } }: Report): Table {
  return {
    caption: `Cost figures of ${profile.name}, in cycles`,
    columns: [text('figure'), count('value'), count('low'), count('high'), text('source')],
    rows: costs.figures.map(({ name, value, low, high, source }) => [name, value, low, high, source]),
  };
}
