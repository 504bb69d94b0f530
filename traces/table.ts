import { absent, formatNumber } from './number-format.ts';
import type { NumberFormat } from './number-format.ts';

/** Strings are shown as they are, numbers in the format of their column, null as `–`. */
export type Cell = string | number | null;

export interface Column {
  readonly title: string;
  /** 'text' is left-aligned, numbers are right-aligned. */
  readonly format: NumberFormat | 'text';
}

/** A table before anybody decides how to draw it: terminal, Markdown and HTML show the same cells. */
export interface Table {
  readonly caption: string;
  readonly columns: readonly Column[];
  readonly rows: readonly (readonly Cell[])[];
  /** Index of a row that sums up the others. */
  readonly totalRow?: number;
}

export function cellText(cell: Cell, column: Column, grouped = false): string {
  if (cell === null) return absent;
  if (typeof cell === 'string') return cell;
  if (column.format === 'text') throw new Error(`table column '${column.title}' holds text, but a cell is the number ${cell}`);
  return formatNumber(cell, column.format, grouped);
}

/**
 * Text from an input (names, guest output, reasons) with everything made visible that would act on a terminal or
 * reorder a page: control characters, line separators, directional overrides.
 */
export function visible(text: string): string {
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]/gu, character => `\\u{${character.codePointAt(0)!.toString(16)}}`);
}
