import type { GuestComparison } from './comparison.ts';
import type { Curves } from './curve.ts';
import { coordinate, formatNumber } from './number-format.ts';
import { breakdownParts, thresholdText } from './report-tables.ts';
import type { Report } from './report.ts';
import { drawing, element, escapeXml, horizontalAxis, label, linearScale, logScale, marker, spread, stepPath, textWidth, verticalAxis } from './svg.ts';
import { visible } from './table.ts';

const width = 960;

/** Names as they fit beside a drawing; the tables have them in full. */
const shortName = (name: string): string => { const text = visible(name); return text.length > 22 ? `${text.slice(0, 21)}…` : text; };

/** The hatchings of the breakdown; drawn once per page, used by every bar. */
export function patterns(): string {
  const tile = (part: string, size: number, ...marks: readonly string[]): string => element('pattern', { id: `p-${part}`, width: size, height: size, patternUnits: 'userSpaceOnUse' },
    element('rect', { class: `bg-${part}`, width: size, height: size }), ...marks);
  const lines = (d: string, part: string): string => element('path', { class: `ink-${part}`, d });
  return element('svg', { width: 0, height: 0, 'aria-hidden': 'true', class: 'defs' }, element('defs', {},
    tile('guest', 8),
    tile('translation', 8, lines('M-2 2L2 -2M0 8L8 0M6 10L10 6', 'translation')),
    tile('events', 6, element('circle', { class: 'dot-events', cx: 3, cy: 3, r: 1.4 })),
    tile('transitions', 6, lines('M-2 4L2 8M0 0L6 6M4 -2L8 2', 'transitions')),
    tile('monitor', 8),
    tile('idle', 6, lines('M0 3H6', 'idle')),
  ));
}

/** A legend in as many lines as it needs, and the height they take. */
function legend(entries: readonly { readonly text: string; readonly key: (x: number, y: number) => string }[], left: number): { readonly markup: string; readonly height: number } {
  let [x, y] = [left, 12];
  const markup = entries.map(({ text, key }) => {
    const space = 24 + textWidth(text);
    if (x > left && x + space > width) { x = left; y += 20; }
    const entry = key(x, y) + label(x + 24, y + 4, text, 'legend');
    x += space + 20;
    return entry;
  }).join('');
  return { markup, height: y + 22 };
}

/** One bar per monitor, cut into where the cycles went. */
export function breakdownChart(guest: GuestComparison): string {
  const rows = guest.rows;
  const [left, right, pitch, bar] = [170, 190, 38, 24];
  const used = breakdownParts.filter(part => rows.some(row => row.breakdown[part] > 0));
  const { markup: keys, height: top } = legend(used.map(part => ({ text: part, key: (x, y) => element('rect', { class: 'segment', x, y: y - 6, width: 18, height: 12, fill: `url(#p-${part})` }) })), left);
  const bottom = top + rows.length * pitch;
  const scale = linearScale(Math.max(...rows.map(row => row.cycles)), left, width - right, 6);
  const bars = rows.map((row, i) => {
    const y = top + i * pitch + (pitch - bar) / 2;
    let start = 0;
    const segments = used.map(part => {
      const cycles = row.breakdown[part];
      const [from, to] = [scale.map(start), scale.map(start + cycles)];
      start += cycles;
      if (cycles <= 0) return '';
      const share = row.cycles > 0 ? `${(cycles * 100 / row.cycles).toFixed(0)}%` : '';
      return element('rect', { class: 'segment', x: from, y, width: Math.max(0.2, to - from), height: bar, fill: `url(#p-${part})` }, element('title', {}, `${part}: ${formatNumber(cycles, 'count', true)} cycles`))
        + (to - from > 36 ? label((from + to) / 2, y + 16, share, `in ${part === 'guest' ? 'in-guest' : part === 'monitor' ? 'in-monitor' : ''}`, 'middle') : '');
    });
    const slowdown = row.slowdown === null ? '' : `  (${row.slowdown.toFixed(2)}×)`;
    return label(left - 12, y + 16, shortName(row.monitor), 'name', 'end') + segments.join('') + label(scale.map(row.cycles) + 8, y + 16, `${formatNumber(row.cycles, 'count', true)}${slowdown}`, 'value');
  });
  return drawing(width, bottom + 42, `${visible(guest.guest)}: cycles of each monitor by part`,
    keys, horizontalAxis(scale, top, bottom), ...bars, element('path', { class: 'axis', d: `M${left} ${top}V${bottom}` }), label((left + width - right) / 2, bottom + 36, 'cycles', 'tick', 'middle'));
}

/** Cumulative cycles over retired instructions; below, a lane per monitor that shows where its exits and traps are. */
export function curveChart(guest: GuestComparison, monitors: readonly string[]): string {
  const { curves } = guest;
  const [left, right, top, bottom, lane] = [80, 190, 12, 300, 20];
  const series = curves.monitors.map(curve => ({ ...curve, series: monitors.indexOf(curve.monitor) }));
  const most = Math.max(...series.flatMap(({ cycles }) => cycles.filter(value => value !== null)));
  const x = linearScale(curves.retired.at(-1) ?? 0, left, width - right, 8);
  const y = linearScale(most * 1.05, bottom, top, 5);
  const lines = series.map(entry => ({ ...entry, points: thinned(curves, entry.cycles).map(([retired, cycles]): readonly [number, number] => [x.map(retired), y.map(cycles)]) }));
  const ends = lines.map(({ points }) => points.at(-1) ?? [left, bottom] as const);
  const places = spread(ends.map(end => end[1]), 16, top + 4, bottom - 2);
  const names = lines.map(({ monitor, series: n }, i) => {
    const [endX, endY] = ends[i]!;
    return element('path', { class: 'leader', d: `M${coordinate(endX + 6)} ${coordinate(endY)}L${coordinate(width - right + 18)} ${coordinate(places[i]!)}` })
      + marker(n, width - right + 26, places[i]!) + label(width - right + 38, places[i]! + 4, shortName(monitor), 'name');
  });
  const lanes = lines.filter(({ monitor }) => guest.rows.find(row => row.monitor === monitor)?.stopsTotal !== null);
  const lanesTop = bottom + 44;
  const laneMarkup = lanes.map(({ monitor, stops, series: n }, i) => {
    const base = lanesTop + (i + 1) * lane;
    const tallest = Math.max(1, ...stops.map(stop => stop.count));
    const end = curves.retired.at(-1) ?? 0;
    const ticks = stops.filter(stop => stop.from <= end).map(stop => {
      const height = 3 + (lane - 7) * (stop.count / tallest);
      return element('rect', { class: `f s${n % 6}`, x: x.map(stop.from), y: base - height, width: Math.max(1.2, x.map(Math.min(stop.to, end)) - x.map(stop.from)), height });
    });
    const row = guest.rows.find(other => other.monitor === monitor)!;
    const total = `${formatNumber(row.stopsTotal, 'count', true)}${row.stopsDropped > 0 ? `, first ${formatNumber(row.stopsRecorded, 'count', true)} shown` : ''}`;
    return element('path', { class: 'lane', d: `M${left} ${base}H${width - right}` }) + ticks.join('') + label(width - right + 18, base - 3, `${shortName(monitor)}: ${total}`, 'tick');
  });
  const height = lanes.length > 0 ? lanesTop + lanes.length * lane + 10 : bottom + 42;
  return drawing(width, height, `${visible(guest.guest)}: cumulative cycles over retired instructions`,
    horizontalAxis(x, top, bottom), verticalAxis(y, left, width - right),
    element('path', { class: 'axis', d: `M${left} ${top}V${bottom}H${width - right}` }),
    ...lines.map(({ points, series: n }) => element('path', { class: `line s${n % 6}`, d: stepPath(points) })),
    ...partingMarks(guest, monitors, x.map, y.map), ...names,
    label(left + 6, top + 10, 'cumulative cycles', 'tick'), label((left + width - right) / 2, bottom + 34, 'retired guest instructions', 'tick', 'middle'),
    ...lanes.length > 0 ? [label(left - 8, lanesTop + lane - 3, 'exits', 'tick', 'end'), ...laneMarkup] : []);
}

/** Rings where a curve passes a threshold, unless one is there already. */
function partingMarks(guest: GuestComparison, monitors: readonly string[], x: (value: number) => number, y: (value: number) => number): readonly string[] {
  return guest.partings.flatMap(({ monitor, points }) => {
    let last = -Infinity;
    return points.flatMap(point => {
      const at = x(point.to);
      if (at - last < 9) return [];
      last = at;
      const what = point.thresholds.map(thresholdText).join(', ');
      return [element('circle', { class: `ring s${monitors.indexOf(monitor) % 6}`, cx: at, cy: y(point.cycles), r: 4 }, element('title', {}, escapeXml(`${visible(monitor)} parts from ${visible(guest.base ?? '')}: ${what}`)))];
    });
  });
}

/** At most about 600 points, first and last included: the drawing has no more pixels. */
function thinned(curves: Curves, cycles: readonly (number | null)[]): readonly (readonly [number, number])[] {
  const all = curves.retired.flatMap((retired, i): readonly (readonly [number, number])[] => cycles[i] === null ? [] : [[retired, cycles[i]!]]);
  const every = Math.ceil(all.length / 600);
  const points = all.filter((_, i) => i % every === 0 || i === all.length - 1);
  return points[0] && points[0][0] > 0 ? [[0, 0], ...points] : points;
}

/** Slowdown of every guest under every monitor, on a logarithmic axis. */
export function slowdownChart({ comparison: { guests, monitors } }: Report): string {
  const [left, right, step] = [170, 40, 9];
  const { markup: keys, height: top } = legend(monitors.map((monitor, i) => ({ text: shortName(monitor), key: (x: number, y: number) => marker(i, x + 12, y) })), left);
  const pitch = monitors.length * step + 14;
  const bottom = top + guests.length * pitch;
  const values = guests.flatMap(guest => guest.rows.flatMap(row => row.slowdown !== null && row.slowdown > 0 ? [row.slowdown] : []));
  const x = logScale(values, left + 14, width - right, 10);
  const rows = guests.map((guest, i) => {
    const middle = top + i * pitch + pitch / 2;
    const dots = guest.rows.flatMap(row => {
      if (row.slowdown === null || row.slowdown <= 0) return [];
      const series = monitors.indexOf(row.monitor);
      const [at, y] = [x.map(row.slowdown), middle + (series - (monitors.length - 1) / 2) * step];
      return [element('path', { class: `stem s${series % 6}`, d: `M${coordinate(x.map(1))} ${coordinate(y)}H${coordinate(at)}` }) + marker(series, at, y, 4)];
    });
    const line = i > 0 ? element('path', { class: 'lane', d: `M${left - 150} ${coordinate(top + i * pitch)}H${width - right}` }) : '';
    return line + label(left - 12, middle + 4, shortName(guest.guest), 'name', 'end') + dots.join('');
  });
  return drawing(width, bottom + 42, 'Slowdown of every guest under every monitor',
    keys, horizontalAxis(x, top, bottom, value => `${value < 1 ? value : value.toFixed(0)}×`), ...rows, label((left + width - right) / 2, bottom + 36, 'slowdown against the base (logarithmic)', 'tick', 'middle'));
}
