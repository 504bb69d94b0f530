/**
 * Numbers as text, the same bytes on every machine: no Intl, no locale, no Math.pow. Number.prototype.toFixed and the
 * shortest form of a number are defined exactly by ECMAScript.
 */

/** How a column of a table shows its numbers. */
export type NumberFormat = 'count' | 'signed' | 'ratio' | 'decimal' | 'percent';

/** What stands for "there is no such thing here", as opposed to 0. */
export const absent = '–';

/** Text of a number; `grouped` puts a comma between thousands. Null is `–`. */
export function formatNumber(value: number | null, format: NumberFormat, grouped = false): string {
  if (value === null) return absent;
  if (!Number.isFinite(value)) throw new Error(`formatNumber: ${value} is not a finite number; give null for a ratio that does not exist`);
  const sign = value < 0 ? '-' : format === 'signed' && value > 0 ? '+' : '';
  const size = value < 0 ? -value : value;
  let text: string;
  switch (format) {
    case 'count': case 'signed': text = Number.isInteger(size) ? String(size) : size.toFixed(2); break;
    case 'ratio': text = size.toFixed(3); break;
    case 'decimal': text = size.toFixed(2); break;
    case 'percent': text = `${(size * 100).toFixed(2)}%`; break;
  }
  if (grouped) text = groupThousands(text);
  return /[1-9]/.test(text) ? sign + text : text;
}

/** Puts commas between the thousands of a decimal number without sign. */
export function groupThousands(text: string): string {
  const end = text.search(/[^0-9]/);
  const whole = end < 0 ? text : text.slice(0, end);
  let out = '';
  for (let i = 0; i < whole.length; i++) out += (i > 0 && (whole.length - i) % 3 === 0 ? ',' : '') + whole[i];
  return out + (end < 0 ? '' : text.slice(end));
}

/** Short form for axis labels: 950, 12k, 1.5M, 2G. */
export function shortNumber(value: number): string {
  const size = value < 0 ? -value : value;
  for (const [unit, letter] of [[1e12, 'T'], [1e9, 'G'], [1e6, 'M'], [1e3, 'k']] as const) {
    if (size >= unit) return `${trimZeros((value / unit).toFixed(2))}${letter}`;
  }
  return trimZeros(value.toFixed(2));
}

const trimZeros = (text: string): string => text.includes('.') ? text.replace(/\.?0+$/, '') : text;

/** Coordinate in a drawing: one decimal is a tenth of a pixel. */
export function coordinate(value: number): string {
  const text = trimZeros(value.toFixed(1));
  return text === '-0' ? '0' : text;
}

/** Base-2 logarithm to 2^-24 from multiplications alone, so that all hosts agree. x > 0. */
export function log2(x: number): number {
  if (!(x > 0) || !Number.isFinite(x)) throw new Error(`log2: ${x} is not a positive finite number`);
  let whole = 0;
  while (x >= 2) { x /= 2; whole++; }
  while (x < 1) { x *= 2; whole--; }
  let fraction = 0;
  for (let step = 0, bit = 0.5; step < 24; step++, bit /= 2) {
    x *= x;
    if (x >= 2) { x /= 2; fraction += bit; }
  }
  return whole + fraction;
}

/** Geometric mean of positive ratios (1e-60 to 1e60) by bisection: the g at which the product of value/g is 1. Null for none. */
export function geometricMean(values: readonly number[]): number | null {
  if (values.length === 0) return null;
  let low = Infinity;
  let high = 0;
  for (const value of values) {
    if (!(value > 0) || !Number.isFinite(value)) throw new Error(`geometricMean: ${value} is not a positive ratio`);
    if (value < low) low = value;
    if (value > high) high = value;
  }
  for (let step = 0; step < 200; step++) {
    const middle = low + (high - low) / 2;
    if (middle <= low || middle >= high) break;
    if (scaledProduct(values, middle) >= 1) low = middle; else high = middle;
  }
  return low + (high - low) / 2;
}

/** Product of value/by, its factors taken so that the running product stays near 1 and cannot overflow. */
function scaledProduct(values: readonly number[], by: number): number {
  const factors = values.map(value => value / by).sort((a, b) => a - b);
  let product = 1;
  for (let small = 0, large = factors.length - 1; small <= large;) product *= product >= 1 ? factors[small++]! : factors[large--]!;
  return product;
}
