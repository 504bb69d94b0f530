import { coordinate, log2, shortNumber } from './number-format.ts';

/** Text for XML or HTML, in content or in a quoted attribute. */
export function escapeXml(text: string): string {
  return text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;').replace(/"/g, '&quot;').replace(/'/g, '&#39;');
}

export type Attributes = Readonly<Record<string, string | number>>;

/** An element; numbers become coordinates with one decimal. The children are markup already. */
export function element(name: string, attributes: Attributes, ...children: readonly string[]): string {
  const list = Object.entries(attributes).map(([key, value]) => ` ${key}="${typeof value === 'number' ? coordinate(value) : escapeXml(value)}"`).join('');
  return children.length === 0 ? `<${name}${list}/>` : `<${name}${list}>${children.join('')}</${name}>`;
}

/** A line of text; `content` is escaped here. */
export const label = (x: number, y: number, content: string, className = '', anchor: 'start' | 'middle' | 'end' = 'start'): string =>
  element('text', { x, y, ...className ? { class: className } : {}, ...anchor === 'start' ? {} : { 'text-anchor': anchor } }, escapeXml(content));

/** Width of a text at 12 pixels in a usual sans-serif font, a little too wide on purpose: nothing may overlap. */
export const textWidth = (content: string): number => content.length * 6.8;

export interface Scale {
  readonly map: (value: number) => number;
  readonly ticks: readonly number[];
}

/** From 0 to `maximum` on `from`…`to` pixels, with at most `most` round ticks besides 0. */
export function linearScale(maximum: number, from: number, to: number, most: number): Scale {
  const end = maximum > 0 ? maximum : 1;
  let power = 1;
  while (power * 10 * most < end) power *= 10;
  while (power * most >= end * 10) power /= 10;
  const step = [1, 2, 5, 10, 20, 50].map(digit => digit * power).find(candidate => candidate * most >= end) ?? power * 100;
  const ticks: number[] = [];
  for (let i = 0; i * step <= end; i++) ticks.push(i * step);
  return { map: value => from + (to - from) * (value / end), ticks };
}

/** Logarithmic between powers of two that enclose all values, with at most `most` ticks. */
export function logScale(values: readonly number[], from: number, to: number, most: number): Scale {
  const logs = values.filter(value => value > 0).map(log2);
  const low = Math.min(0, ...logs.map(Math.floor));
  const high = Math.max(low + 1, 0, ...logs.map(Math.ceil));
  const every = Math.ceil((high - low) / most);
  const ticks: number[] = [];
  for (let exponent = low; exponent <= high; exponent += every) {
    let tick = 1;
    for (let i = 0; i < exponent; i++) tick *= 2;
    for (let i = 0; i > exponent; i--) tick /= 2;
    ticks.push(tick);
  }
  return { map: value => from + (to - from) * ((log2(value) - low) / (high - low)), ticks };
}

/** Ticks and labels under a drawing, with lines up to `top`. */
export function horizontalAxis(scale: Scale, top: number, bottom: number, show: (value: number) => string = shortNumber): string {
  return scale.ticks.map(tick => {
    const x = scale.map(tick);
    return element('path', { class: 'grid', d: `M${coordinate(x)} ${coordinate(top)}V${coordinate(bottom)}` }) + label(x, bottom + 16, show(tick), 'tick', 'middle');
  }).join('');
}

/** Ticks and labels left of a drawing, with lines to `right`. */
export function verticalAxis(scale: Scale, left: number, right: number): string {
  return scale.ticks.map(tick => {
    const y = scale.map(tick);
    return element('path', { class: 'grid', d: `M${coordinate(left)} ${coordinate(y)}H${coordinate(right)}` }) + label(left - 8, y + 4, shortNumber(tick), 'tick', 'end');
  }).join('');
}

/** Path of a curve that holds its value until the next point. */
export function stepPath(points: readonly (readonly [number, number])[]): string {
  let path = '';
  let last: readonly [string, string] | null = null;
  for (const point of points) {
    const [x, y] = [coordinate(point[0]), coordinate(point[1])] as const;
    if (!last) path = `M${x} ${y}`;
    else {
      if (x !== last[0]) path += `H${x}`;
      if (y !== last[1]) path += `V${y}`;
    }
    last = [x, y];
  }
  return path;
}

/** Moves positions apart until each is `distance` from the next, keeping their order, inside `top`…`bottom` if they fit. */
export function spread(positions: readonly number[], distance: number, top: number, bottom: number): readonly number[] {
  const order = positions.map((_, i) => i).sort((a, b) => positions[a]! - positions[b]! || a - b);
  const out = [...positions];
  let floor = top;
  for (const i of order) { out[i] = Math.max(out[i]!, floor); floor = out[i] + distance; }
  let ceiling = bottom;
  for (const i of order.toReversed()) { out[i] = Math.min(out[i]!, ceiling); ceiling = out[i] - distance; }
  return out;
}

const shapes = ['circle', 'square', 'triangle', 'diamond', 'down', 'bar'] as const;

/** Marker of the n-th series: shapes differ so that colour is not needed. */
export function marker(series: number, x: number, y: number, size = 5): string {
  const className = `m s${series % 6}`;
  const path = (d: string): string => element('path', { class: className, d });
  const at = (dx: number, dy: number): string => `${coordinate(x + dx)} ${coordinate(y + dy)}`;
  switch (shapes[series % shapes.length]!) {
    case 'circle': return element('circle', { class: className, cx: x, cy: y, r: size });
    case 'square': return element('rect', { class: className, x: x - size + 0.5, y: y - size + 0.5, width: 2 * size - 1, height: 2 * size - 1 });
    case 'triangle': return path(`M${at(0, -size)}L${at(size, size - 1)}L${at(-size, size - 1)}Z`);
    case 'diamond': return path(`M${at(0, -size - 1)}L${at(size + 1, 0)}L${at(0, size + 1)}L${at(-size - 1, 0)}Z`);
    case 'down': return path(`M${at(0, size)}L${at(size, 1 - size)}L${at(-size, 1 - size)}Z`);
    case 'bar': return element('rect', { class: className, x: x - 2, y: y - size, width: 4, height: 2 * size });
  }
}

/** A whole drawing that fills the width of its place. `title` is read out and shown by screen readers. */
export function drawing(width: number, height: number, title: string, ...children: readonly string[]): string {
  return element('svg', { viewBox: `0 0 ${coordinate(width)} ${coordinate(height)}`, role: 'img', 'aria-label': title }, ...children);
}
