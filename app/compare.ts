import type { MonitorKind } from '../monitors/index.ts';
import type { NotRun, RunResult } from '../monitors/result.ts';
import { compareRuns } from '../traces/comparison.ts';
import { renderFiles } from '../traces/report-files.ts';
import { renderHtml } from '../traces/report-html.ts';
import { renderJson } from '../traces/report-json.ts';
import { renderMarkdown } from '../traces/report-markdown.ts';
import { renderText } from '../traces/report-text.ts';
import { buildReport, type Report } from '../traces/report.ts';
import { settingsFrom, workloadOf, type MachineOptions, type Subject } from './machine.ts';
import { provenanceOf } from './provenance.ts';
import { simulate, whyNot } from './simulation.ts';

/** A comparison with everything that it says, in every form. */
export class ComparisonReport {
  /** The numbers. */
  readonly report: Report;
  /** The runs behind them, in order. */
  readonly runs: readonly (RunResult | NotRun)[];

  constructor(report: Report, runs: readonly (RunResult | NotRun)[]) {
    this.report = report;
    this.runs = runs;
  }

  /** Tables for a terminal. */
  toText(): string { return renderText(this.report); }
  toJson(): string { return renderJson(this.report); }
  toMarkdown(): string { return renderMarkdown(this.report); }
  /** One self-contained page. */
  toHtml(): string { return renderHtml(this.report); }
  /** All files of a report directory but the event log. */
  files(): readonly { readonly name: string; readonly content: string }[] { return renderFiles(this.report); }
}

/**
 * Runs one guest or several under each monitor and compares cycle by cycle; a pair that cannot run is in the report
 * with its reason. The guest's clock is guest time unless told otherwise, so that interrupts land on the same
 * instruction everywhere.
 * @throws ImageError for a bad image
 */
export async function compare(subjects: Subject | readonly Subject[], monitors: readonly MonitorKind[], options: MachineOptions = {}): Promise<ComparisonReport> {
  const settings = settingsFrom(options, 'guest');
  const runs: (RunResult | NotRun)[] = [];
  for (const subject of isList(subjects) ? subjects : [subjects]) {
    const workload = await workloadOf(subject);
    for (const monitor of monitors) runs.push(whyNot(workload, monitor, settings) ?? await simulate(workload, monitor, settings, options));
  }
  return new ComparisonReport(buildReport(compareRuns(runs), await provenanceOf(settings, [])), runs);
}

const isList = (subjects: Subject | readonly Subject[]): subjects is readonly Subject[] => Array.isArray(subjects);
