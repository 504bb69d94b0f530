import type { Report } from './report.ts';

/** report.json: the whole report, keys in the order of its types, numbers with all their digits. */
export function renderJson(report: Report): string {
  return `${format(report, '', 'report')}\n`;
}

/** Objects over several lines, lists of plain values and small objects on one, so that two reports differ line by line. */
function format(value: unknown, indent: string, path: string): string {
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return JSON.stringify(value);
  if (typeof value === 'number') {
    if (!Number.isFinite(value)) throw new Error(`renderJson: ${path} is ${value}, which JSON cannot hold`);
    return JSON.stringify(value);
  }
  if (typeof value !== 'object') throw new Error(`renderJson: ${path} is of type ${typeof value}, which JSON cannot hold`);
  const isList = Array.isArray(value);
  const entries = isList ? value.map((item, i): readonly [string, unknown] => [String(i), item]) : Object.entries(value);
  const inner = `${indent}  `;
  const texts = entries.map(([key, item]) => `${isList ? '' : `${JSON.stringify(key)}: `}${format(item, inner, isList ? `${path}[${key}]` : `${path}.${key}`)}`);
  const [open, close] = isList ? ['[', ']'] : ['{', '}'];
  const plain = entries.every(([, item]) => item === null || typeof item !== 'object' || (Array.isArray(item) && item.length === 0));
  const oneLine = isList ? `[${texts.join(', ')}]` : `{ ${texts.join(', ')} }`;
  if (entries.length === 0) return open + close;
  if (plain && (isList || oneLine.length <= 160)) return oneLine;
  return `${open}\n${texts.map(text => inner + text).join(',\n')}\n${indent}${close}`;
}
