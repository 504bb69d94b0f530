import { breakdownChart, curveChart, patterns, slowdownChart } from './charts.ts';
import type { GuestComparison } from './comparison.ts';
import { formatNumber } from './number-format.ts';
import {
  breakdownTable, differenceSentence, differenceTable, figuresTable, geometricMeanNote, guestLine, guestNotes, mainTable, overviewTable, partingTable, provenanceLines, stopsTable,
  translationTable, windowTable,
} from './report-tables.ts';
import { reportStyle } from './report-style.ts';
import type { Report } from './report.ts';
import { escapeXml } from './svg.ts';
import { cellText, visible } from './table.ts';
import type { Table } from './table.ts';

/** One page that needs nothing else: no script, no network, readable on paper and without colour. */
export function renderHtml(report: Report): string {
  const { comparison, provenance } = report;
  const title = `${provenance.tool}: ${comparison.guests.length === 1 ? comparison.guests[0]!.guest : `${comparison.guests.length} guests`} under ${comparison.monitors.length} monitors`;
  const several = comparison.guests.length > 1;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>${safe(title)}</title>
<style>${reportStyle}</style>
</head>
<body>
${patterns()}
<header>
<h1>The same guest, side by side</h1>
<p class="lead">${safe(subject(report))}</p>
${tiles(report)}
</header>
${several ? `<nav aria-label="Guests"><ul>${comparison.guests.map((guest, i) => `<li><a href="#guest-${i}">${safe(guest.guest)}</a></li>`).join('')}<li><a href="#definitions">definitions</a></li><li><a href="#provenance">provenance</a></li></ul></nav>` : ''}
<main>
<section>
<h2>Overview</h2>
${several && comparison.guests.some(guest => guest.rows.length > 0) ? figure(slowdownChart(report), 'Slowdown of each guest under each monitor. Further left is better; 1× is as fast as the base.') : ''}
${tableMarkup(overviewTable(report))}
${several && geometricMeanNote(report) ? `<p>${safe(geometricMeanNote(report)!)}</p>` : ''}
</section>
${comparison.guests.map((guest, i) => guestSection(guest, i, comparison.monitors)).join('\n')}
<section id="definitions">
<h2>What the words mean</h2>
<dl class="definitions">${report.definitions.map(({ term, meaning }) => `<dt>${safe(term)}</dt><dd>${safe(meaning)}</dd>`).join('')}</dl>
</section>
<section id="provenance">
<h2>Provenance</h2>
<dl class="provenance">${provenanceLines(report).map(([name, value]) => `<dt>${safe(name)}</dt><dd>${safe(value)}</dd>`).join('')}</dl>
<details><summary>${provenance.costs.figures.length} cost figures</summary>
${tableMarkup(figuresTable(report))}
</details>
</section>
</main>
</body>
</html>
`;
}

/** Text from anywhere as HTML. */
const safe = (text: string): string => escapeXml(visible(text));

function subject({ comparison, provenance }: Report): string {
  const { guests, monitors } = comparison;
  const names = monitors.length > 1 ? `${monitors.slice(0, -1).join(', ')} and ${monitors.at(-1)!}` : monitors[0]!;
  return `${guests.length === 1 ? guests[0]!.guest : `${guests.length} guests`} under ${names}, with the costs of ${provenance.profile.name} (${provenance.profile.description}).`;
}

/** The one number per monitor that a reader takes away. */
function tiles({ comparison: { geometricMeans, guests } }: Report): string {
  if (geometricMeans.guests.length === 0) return '';
  const what = geometricMeans.guests.length === 1 ? `slowdown of ${geometricMeans.guests[0]!}` : `geometric mean slowdown of ${geometricMeans.guests.length}${geometricMeans.guests.length < guests.length ? ` of ${guests.length}` : ''} guests`;
  return `<div class="tiles">${geometricMeans.rows.map(({ monitor, slowdown }) => `<div><strong>${formatNumber(slowdown, 'ratio')}×</strong><span>${safe(monitor)}</span></div>`).join('')}</div>
<p class="what">${safe(what)}</p>`;
}

function guestSection(guest: GuestComparison, index: number, monitors: readonly string[]): string {
  const notes = guestNotes(guest);
  const parts = [
    `<section class="guest" id="guest-${index}">`, `<h2>${safe(guest.guest)}</h2>`, `<p>${safe(guestLine(guest, true))}.</p>`,
    notes.length > 0 ? `<ul class="notes">${notes.map(({ kind, text }) => `<li><b>${safe(kind)}</b> ${safe(text)}</li>`).join('')}</ul>` : '',
  ];
  if (guest.rows.length > 0) {
    parts.push(
      tableMarkup(mainTable(guest)),
      '<h3>Where the cycles went</h3>', figure(breakdownChart(guest), 'Total cycles by part. The number behind each bar is the total and the slowdown.'), tableMarkup(breakdownTable(guest)), tableMarkup(translationTable(guest)),
      '<h3>How they add up</h3>',
      figure(curveChart(guest, monitors), 'Machine cycles against guest instructions retired. A ring marks where the difference to the base passes one of the shares of the table below. The lanes show where the exits and traps are; the higher the mark, the more there.'),
      guest.partings.some(parting => parting.points.length > 0) ? tableMarkup(partingTable(guest, true)) : '',
      '<h3>Exits and traps</h3>', tableMarkup(stopsTable(guest), 0),
      ...guest.differences.flatMap(change => [`<p>${safe(differenceSentence(change, true))}</p>`, change.rows.length > 0 ? tableMarkup(differenceTable(guest, change)) : '']),
      ...guest.window.rows.length > 0 ? ['<h3>Instruction by instruction</h3>', tableMarkup(windowTable(guest, true))] : [],
    );
  }
  return [...parts.filter(part => part !== ''), '</section>'].join('\n');
}

const figure = (svg: string, caption: string): string => `<figure>${svg}<figcaption>${safe(caption)}</figcaption></figure>`;

/** A table; with `groupBy`, rows that repeat the cell of that column above them show it muted. */
function tableMarkup(table: Table, groupBy = -1): string {
  const numeric = table.columns.map(column => column.format !== 'text');
  const cell = (text: string, i: number, tag: string, extra = ''): string => {
    const classes = [numeric[i] ? 'n' : '', extra].filter(name => name !== '').join(' ');
    return `<${tag}${tag === 'th' ? ' scope="col"' : ''}${classes ? ` class="${classes}"` : ''}>${safe(text)}</${tag}>`;
  };
  const rows = table.rows.map((row, r) => {
    const repeated = groupBy >= 0 && r > 0 && table.rows[r - 1]![groupBy] === row[groupBy];
    const starts = groupBy >= 0 && r > 0 && !repeated;
    const className = table.totalRow === r ? 'total' : starts ? 'first' : '';
    return `<tr${className ? ` class="${className}"` : ''}>${row.map((value, i) => {
      const text = cellText(value, table.columns[i]!, true);
      return cell(text, i, 'td', repeated && i === groupBy ? 'again' : text.length > 48 ? 'long' : '');
    }).join('')}</tr>`;
  });
  return `<div class="wide"><table><caption>${safe(table.caption)}</caption>
<thead><tr>${table.columns.map((column, i) => cell(column.title, i, 'th')).join('')}</tr></thead>
<tbody>
${rows.join('\n')}
</tbody></table></div>`;
}
