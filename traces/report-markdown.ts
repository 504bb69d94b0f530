import {
  breakdownTable, differenceSentence, differenceTable, figuresTable, geometricMeanNote, guestLine, guestNotes, mainTable, overviewTable, partingTable, provenanceLines, stopsTable,
  translationTable, windowTable,
} from './report-tables.ts';
import type { Report } from './report.ts';
import { cellText, visible } from './table.ts';
import type { Table } from './table.ts';

/** The report as GitHub-flavoured Markdown. */
export function renderMarkdown(report: Report): string {
  const out: string[] = [`# Comparison under ${escaped(report.comparison.profile)}`, '', ...tableLines(overviewTable(report))];
  const note = geometricMeanNote(report);
  if (note) out.push(escaped(note), '');
  for (const guest of report.comparison.guests) {
    out.push(`## ${escaped(guest.guest)}`, '', `${escaped(guestLine(guest))}.`, '');
    const notes = guestNotes(guest);
    if (notes.length > 0) out.push(...notes.map(({ kind, text }) => `- **${kind}**: ${escaped(text)}`), '');
    if (guest.rows.length === 0) continue;
    out.push(...tableLines(mainTable(guest)), ...tableLines(breakdownTable(guest)), ...tableLines(translationTable(guest)), ...tableLines(stopsTable(guest)));
    for (const change of guest.differences) {
      out.push(escaped(differenceSentence(change)), '');
      if (change.rows.length > 0) out.push(...tableLines(differenceTable(guest, change)));
    }
    if (guest.partings.some(parting => parting.points.length > 0)) out.push(...tableLines(partingTable(guest)));
    if (guest.window.rows.length > 0) out.push(...tableLines(windowTable(guest)));
  }
  out.push('## What the words mean', '', ...report.definitions.map(({ term, meaning }) => `- **${escaped(term)}**: ${escaped(meaning)}`), '');
  out.push('## Provenance', '', ...provenanceLines(report).map(([name, value]) => `- ${name}: ${escaped(value)}`), '', ...tableLines(figuresTable(report)));
  return `${out.join('\n').trimEnd()}\n`;
}

function tableLines(table: Table): readonly string[] {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [
    `**${escaped(table.caption)}**`, '',
    line(table.columns.map(column => escaped(column.title))),
    `|${table.columns.map(column => column.format === 'text' ? ':---' : '---:').join('|')}|`,
    ...table.rows.map(row => line(row.map((cell, i) => escaped(cellText(cell, table.columns[i]!))))), '',
  ];
}

/** Text that Markdown must not take for markup, on one line. */
function escaped(text: string): string {
  return visible(text).replace(/[\\`*_[\]|~#!]/g, character => `\\${character}`).replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;').replace(/^([-+=]|\d+[.)])(?=\s)/, '\\$1').replace(/(https?):/g, '$1&#58;');
}
