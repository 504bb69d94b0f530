import { describe, expect, it } from 'vitest';
import { compareRuns } from '../../traces/comparison.ts';
import type { Comparison } from '../../traces/comparison.ts';
import { buildReport } from '../../traces/report.ts';
import type { Report } from '../../traces/report.ts';
import { csvField, renderExitsCsv, renderSummaryCsv } from '../../traces/report-csv.ts';
import { renderFiles } from '../../traces/report-files.ts';
import { renderHtml } from '../../traces/report-html.ts';
import { renderJson } from '../../traces/report-json.ts';
import { renderMarkdown } from '../../traces/report-markdown.ts';
import { breakdownTable, differenceSentence, differenceTable, mainTable, overviewTable, partingTable, stopsTable, translationTable, windowTable } from '../../traces/report-tables.ts';
import { renderText } from '../../traces/report-text.ts';
import { cellText, visible } from '../../traces/table.ts';
import type { Table } from '../../traces/table.ts';
import { provenance, run, sampleRuns, statistics, stop } from './sample-runs.ts';

const report = buildReport(compareRuns(sampleRuns()), provenance);
const renderers = { renderText, renderJson, renderMarkdown, renderHtml, renderSummaryCsv, renderExitsCsv };

/** RFC 4180, written for this test. */
function parseCsv(text: string): string[][] {
  const rows: string[][] = [[]];
  const pattern = /("(?:[^"]|"")*"|[^,\n]*)([,\n])/g;
  for (const [, field, end] of text.matchAll(pattern)) {
    rows.at(-1)!.push(field!.startsWith('"') ? field!.slice(1, -1).replaceAll('""', '"') : field!);
    if (end === '\n') rows.push([]);
  }
  rows.pop();
  return rows;
}

const unescapeHtml = (text: string): string => text.replace(/&lt;/g, '<').replace(/&gt;/g, '>').replace(/&quot;/g, '"').replace(/&#39;/g, '\'').replace(/&amp;/g, '&');
const unescapeMarkdown = (text: string): string => text.replace(/&lt;/g, '<').replace(/&gt;/g, '>').replace(/&#58;/g, ':').replace(/&amp;/g, '&').replace(/\\([^a-z{])/g, '$1');

/** Cells of the table with this caption. */
function htmlTable(html: string, caption: string): string[][] {
  const table = html.split('<table>').find(part => unescapeHtml(/^<caption>(.*?)<\/caption>/.exec(part)?.[1] ?? '') === caption);
  if (!table) throw new Error(`no table '${caption}'`);
  return table.split('</table>')[0]!.split('<tr').slice(1).map(row => [...row.matchAll(/<t[hd][^>]*>(.*?)<\/t[hd]>/g)].map(match => unescapeHtml(match[1]!)));
}

function markdownTable(markdown: string, caption: string): string[][] {
  const lines = markdown.split('\n');
  const start = lines.findIndex(line => line.startsWith('**') && unescapeMarkdown(line.slice(2, -2)) === caption);
  if (start < 0) throw new Error(`no table '${caption}'`);
  const rows: string[][] = [];
  for (let i = start + 2; lines[i]!.startsWith('|'); i++) if (i !== start + 3) rows.push(lines[i]!.slice(2, -2).split(/(?<!\\) \| /).map(unescapeMarkdown));
  return rows;
}

const expected = (table: Table, grouped: boolean): string[][] => [table.columns.map(column => column.title), ...table.rows.map(row => row.map((cell, i) => cellText(cell, table.columns[i]!, grouped)))];

describe('renderings of one report', () => {
  it('give the same bytes for the same input', () => {
    const again = buildReport(compareRuns(sampleRuns()), { ...provenance });
    for (const render of Object.values(renderers)) expect(render(again)).toBe(render(report));
    expect(renderFiles(report).map(file => file.name)).toEqual(['report.json', 'summary.csv', 'exits.csv', 'report.md', 'report.html']);
  });

  it('end with a line end and have no carriage returns', () => {
    for (const render of Object.values(renderers)) expect(render(report)).toMatch(/^[^\r]*[^\n]\n$/);
  });

  it('JSON holds the whole report, digit for digit', () => {
    expect(JSON.parse(renderJson(report))).toEqual(report);
    expect(Object.keys(JSON.parse(renderJson(report)) as Report)).toEqual(['schema', 'provenance', 'definitions', 'comparison']);
    expect(() => renderJson({ ...report, definitions: [{ term: 'x', meaning: NaN as unknown as string }] })).toThrow(/report\.definitions\[0\]\.meaning is NaN/);
  });

  it('Markdown and HTML show the numbers of the JSON', () => {
    const fromJson = JSON.parse(renderJson(report)) as Report;
    const html = renderHtml(report);
    const markdown = renderMarkdown(report);
    const compare = (table: Table, groupedTable = table): void => {
      expect(markdownTable(markdown, table.caption)).toEqual(expected(table, false));
      expect(htmlTable(html, table.caption)).toEqual(expected(groupedTable, true));
    };
    compare(overviewTable(fromJson));
    for (const guest of fromJson.comparison.guests) {
      for (const table of [mainTable, breakdownTable, translationTable, stopsTable]) compare(table(guest));
      for (const change of guest.differences) compare(differenceTable(guest, change));
      compare(partingTable(guest), partingTable(guest, true));
      if (guest.window.rows.length > 0) compare(windowTable(guest), windowTable(guest, true));
    }
  });

  it('the terminal shows the main table of every guest', () => {
    const lines = renderText(report).split('\n').map(line => line.trim().split(/ {2,}/));
    for (const guest of report.comparison.guests) for (const row of expected(mainTable(guest), false)) expect(lines).toContainEqual(row);
  });

  it('CSV holds the numbers of the JSON, an empty value where there is no such thing', () => {
    const summary = parseCsv(renderSummaryCsv(report));
    expect(summary[0]).toEqual(['guest', 'monitor', 'metric', 'unit', 'value', 'profile']);
    expect(summary.every(row => row.length === 6)).toBe(true);
    const value = (guest: string, monitor: string, metric: string): string => summary.find(row => row[0] === guest && row[1] === monitor && row[2] === metric)![4]!;
    for (const guest of report.comparison.guests) {
      for (const row of guest.rows) {
        expect(Number(value(guest.guest, row.monitor, 'cycles'))).toBe(row.cycles);
        expect(Number(value(guest.guest, row.monitor, 'slowdown'))).toBe(row.slowdown);
        expect(['guest', 'translation', 'events', 'transitions', 'monitor', 'idle'].reduce((sum, part) => sum + Number(value(guest.guest, row.monitor, `breakdown_${part}`)), 0)).toBe(row.cycles);
      }
    }
    expect([value('compute', 'native', 'vm_exits'), value('compute', 'trap-and-emulate', 'vm_exits'), value('compute', 'vtx-ept', 'vm_exits')]).toEqual(['', '', '27']);
    expect(value('timer-interrupts', 'trap-and-emulate', 'cannot_run')).toBe('the guest enters long mode, and ring 1 is no protection there');
    const exits = parseCsv(renderExitsCsv(report));
    for (const guest of report.comparison.guests) {
      for (const row of guest.rows) expect(exits.filter(line => line[0] === guest.guest && line[1] === row.monitor).reduce((sum, line) => sum + Number(line[4]), 0)).toBe(row.stopsTotal ?? 0);
    }
  });

  it('says in one sentence what a monitor removes and adds', () => {
    const syscalls = report.comparison.guests[1]!;
    expect(differenceSentence(syscalls.differences[1]!)).toBe('vtx-ept against vtx-shadow: removes 50 CrAccess VM exits, 33 ExceptionOrNmi VM exits; adds 4 EptViolation VM exits; '
      + '-177288 cycles (-68.64%); a TLB miss that walks takes 12.00 references instead of 2.00.');
  });
});

describe('HTML', () => {
  const html = renderHtml(report);

  it('needs nothing but itself', () => {
    expect(html).not.toMatch(/<script|<link|<img|<iframe|src=|@import|https?:|url\((?!#)/i);
  });

  it('is well-formed: every element is closed, every pattern and target exists', () => {
    const open: string[] = [];
    const empty = new Set(['meta', '!doctype']);
    for (const [, close, name, self] of html.replace(/<style>[^]*?<\/style>/, '').matchAll(/<(\/?)([a-z!][a-z0-9]*)[^>]*?(\/?)>/gi)) {
      if (close) expect(open.pop()).toBe(name);
      else if (!self && !empty.has(name!.toLowerCase())) open.push(name!);
    }
    expect(open).toEqual([]);
    const ids = new Set([...html.matchAll(/ id="([^"]+)"/g)].map(match => match[1]));
    for (const [, target] of html.matchAll(/(?:href="|url\()#([^")]+)/g)) expect(ids).toContain(target);
  });

  it('draws no NaN and nothing outside the picture', () => {
    expect(html).not.toMatch(/NaN|Infinity|undefined|null/);
    for (const [, x] of html.matchAll(/ (?:c?x)="([-0-9.]+)"/g)) expect(Number(x) >= 0 && Number(x) <= 960).toBe(true);
  });

  it('copes with guests that no monitor could run and with empty runs', () => {
    const empty = compareRuns([{ guest: 'g', monitor: 'native', profile: 'nehalem', reason: 'too big' }, run({ guest: 'h', instructions: 0, breakdown: { guest: 0 } })]);
    for (const render of Object.values(renderers)) expect(render(buildReport(empty, provenance))).not.toMatch(/NaN|Infinity|undefined/);
  });
});

describe('hostile strings', () => {
  const hostile = '<script>alert(1)</script>"\'&|`*_[x](http://e.vil)\u001b[31m\u202e\n=1+1';
  const comparison: Comparison = compareRuns(['native', 'vtx-ept'].map(monitor => run({
    guest: hostile, monitor, console: monitor === 'native' ? hostile : '', deviations: [hostile], unmodelled: [{ what: hostile, count: 2 }], exits: monitor === 'native' ? [] : statistics([stop(1, hostile, 5)]),
    exitRecords: monitor === 'native' ? [] : [{ ...stop(1, hostile, 5), why: hostile }], window: [{ index: 1, rip: hostile, text: hostile, cycles: 1 }], image: { sha256: hostile, bytes: 1, format: hostile },
  })));
  const bad = buildReport(comparison, { ...provenance, tool: hostile, commandLine: [hostile], options: { [hostile]: hostile }, limits: [hostile] });

  it('are text in HTML', () => {
    const html = renderHtml(bad);
    expect(html).not.toMatch(/<script/i);
    expect(html).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u202e]/);
    expect(html).toContain('&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;|`*_[x](http://e.vil)\\u{1b}[31m\\u{202e}\\u{a}=1+1');
    expect(html).toMatch(/aria-label="&lt;script&gt;/);
  });

  it('are text in Markdown and stay in their cell', () => {
    const markdown = renderMarkdown(bad);
    expect(markdown).not.toMatch(/<script|\]\(http:|\u001b|\u202e/);
    const table = markdownTable(markdown, visible(`${hostile}: exits and traps by reason`));
    expect(new Set(table.map(row => row.length))).toEqual(new Set([11]));
  });

  it('do not reach the terminal', () => {
    expect(renderText(bad)).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/);
  });

  it('survive JSON and CSV as they are', () => {
    expect((JSON.parse(renderJson(bad)) as Report).comparison.guests[0]!.guest).toBe(hostile);
    expect(parseCsv(renderExitsCsv(bad))[1]![3]).toBe(hostile);
    expect(parseCsv(renderSummaryCsv(bad)).every(row => row.length === 6)).toBe(true);
  });

  it('are no formulas in CSV, and numbers are left alone', () => {
    expect(['=1', '+1', '-1', '@a', '\ta', '=a"b'].map(csvField)).toEqual(['"\'=1"', '"\'+1"', '"\'-1"', '"\'@a"', '"\'\ta"', '"\'=a""b"']);
    expect([csvField(-1), csvField(null), csvField(0), csvField('a,b'), csvField('a"b'), csvField('a\nb'), csvField('#PF')]).toEqual(['-1', '', '0', '"a,b"', '"a""b"', '"a\nb"', '#PF']);
  });
});

describe('provenance', () => {
  it('names no directories', () => {
    const shown = buildReport(report.comparison, { ...provenance, commandLine: ['compare', '/home/me/x.elf', '--out=/home/me/out/', 'C:\\me\\y.elf', '--memory', '64', 'dir/z.elf'] });
    expect(shown.provenance.commandLine).toEqual(['compare', '…/x.elf', '--out=…/out', '…/y.elf', '--memory', '64', 'dir/z.elf']);
  });

  it('lists inputs, figures and options in a fixed order', () => {
    const { inputs, costs, options, schemas } = buildReport(report.comparison, { ...provenance, options: { profile: 'nehalem', memory: '32' } }).provenance;
    expect(inputs.map(input => input.guest)).toEqual(['compute', 'syscalls', 'page-faults', 'timer-interrupts']);
    expect(costs).toMatchObject({ published: 1, estimated: 1, figures: [{ name: 'alu' }, { name: 'vmx.exit' }] });
    expect(options).toEqual([{ name: 'memory', value: '32' }, { name: 'profile', value: 'nehalem' }]);
    expect(schemas).toEqual(['vanderpool-report/1', 'vanderpool-comparison/1']);
  });

  it('refuses a hash that is none and a profile that was not used', () => {
    expect(() => buildReport(report.comparison, { ...provenance, costs: { ...provenance.costs, sha256: 'x' } })).toThrow(/costs\.sha256 must be 64/);
    expect(() => buildReport(report.comparison, { ...provenance, profile: { ...provenance.profile, name: 'unit' } })).toThrow(/used profile 'nehalem', but the provenance names 'unit'/);
  });
});
