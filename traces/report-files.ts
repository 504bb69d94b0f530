import { renderExitsCsv, renderSummaryCsv } from './report-csv.ts';
import { renderHtml } from './report-html.ts';
import { renderJson } from './report-json.ts';
import { renderMarkdown } from './report-markdown.ts';
import type { Report } from './report.ts';

/** The files of a report directory, name and content (UTF-8, LF); the event log is written as the runs go. */
export function renderFiles(report: Report): readonly { readonly name: string; readonly content: string }[] {
  return [
    { name: 'report.json', content: renderJson(report) },
    { name: 'summary.csv', content: renderSummaryCsv(report) },
    { name: 'exits.csv', content: renderExitsCsv(report) },
    { name: 'report.md', content: renderMarkdown(report) },
    { name: 'report.html', content: renderHtml(report) },
  ];
}
