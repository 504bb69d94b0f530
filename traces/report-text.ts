import { differenceSentence, geometricMeanNote, guestLine, guestNotes, mainTable, overviewTable, provenanceLines } from './report-tables.ts';
import type { Report } from './report.ts';
import { cellText, visible } from './table.ts';
import type { Table } from './table.ts';

/** The report for a terminal: what matters, in columns; everything else is in the files. */
export function renderText(report: Report): string {
  const { comparison } = report;
  const out: string[] = [];
  for (const guest of comparison.guests) {
    out.push(`${guest.guest}  ${guestLine(guest)}`);
    if (guest.rows.length > 0) out.push(...tableLines(mainTable(guest)));
    for (const change of guest.differences) out.push(`  ${differenceSentence(change)}`);
    for (const note of guestNotes(guest)) out.push(`  ${note.kind}: ${note.text}`);
    out.push('');
  }
  out.push(overviewTable(report).caption, ...tableLines(overviewTable(report)));
  const note = geometricMeanNote(report);
  if (note) out.push(`  ${note}`);
  out.push('');
  for (const [name, value] of provenanceLines(report)) if (name === 'tool' || name === 'profile' || name === 'costs') out.push(`${name}: ${value}`);
  return out.map(line => `${visible(line).trimEnd()}\n`).join('');
}

/** Rows of a table with two spaces before each, numbers to the right, text to the left. */
function tableLines(table: Table): readonly string[] {
  const cells = [table.columns.map(column => column.title), ...table.rows.map(row => row.map((cell, i) => cellText(cell, table.columns[i]!)))].map(row => row.map(visible));
  const widths = table.columns.map((_, i) => Math.max(...cells.map(row => [...row[i]!].length)));
  const lines = cells.map(row => `  ${row.map((cell, i) => {
    const space = ' '.repeat(widths[i]! - [...cell].length);
    return table.columns[i]!.format === 'text' ? cell + space : space + cell;
  }).join('  ')}`);
  return [lines[0]!, `  ${widths.map(width => '-'.repeat(width)).join('  ')}`, ...lines.slice(1)];
}
