import { guestList } from '../guests/index.ts';
import type { MonitorKind } from '../monitors/index.ts';
import type { NotRun, RunResult } from '../monitors/result.ts';
import { compareRuns } from '../traces/comparison.ts';
import { eventLogHeader } from '../traces/event-log.ts';
import { renderFiles } from '../traces/report-files.ts';
import { renderJson } from '../traces/report-json.ts';
import { renderText } from '../traces/report-text.ts';
import { buildReport } from '../traces/report.ts';
import { costTableHash } from './hash.ts';
import { findWorkload } from './image-source.ts';
import { LOG_LIMIT } from './option-table.ts';
import type { Options } from './options.ts';
import { fileIn, outputDirectory, OutputFile } from './output-file.ts';
import { Progress } from './progress.ts';
import { provenanceOf } from './provenance.ts';
import { refusal, settingsOf } from './run-command.ts';
import { simulate, unexplained, type Settings } from './simulation.ts';
import { complain, print } from './terminal.ts';
import { quoted, UserError } from './user-error.ts';
import { tool, version } from './version.ts';
import type { Workload } from './workload.ts';

/** Status of a comparison in which an embedded guest did not print what it should. */
const unexpected = 1;

/** `compare [GUEST|FILE …]`: 0, or 1 where an embedded guest printed what nobody has explained. */
export async function compareCommand(options: Options, words: readonly string[]): Promise<number> {
  const { monitors } = options;
  const settings = settingsOf(options, 'guest');
  const found = await findWorkloads(options.places);
  const jobs = found.flatMap(({ place, workload }) => monitors.map(monitor => ({ workload, monitor, cannot: refusal(place, workload, monitor, settings) })));
  const json = options.switch('json');
  const directory = options.filled('out') ?? (json ? null : 'report');
  if (directory !== null) outputDirectory(directory);
  const eventsPath = options.filled('events');
  const events = eventsPath !== undefined ? new OutputFile(eventsPath) : directory !== null ? fileIn(directory, 'events.jsonl') : null;
  events?.write(`${eventLogHeader({
    tool, version, profile: settings.profile.name, costTable: await costTableHash(settings.profile),
    inputs: found.map(({ workload }) => ({ guest: workload.name, sha256: workload.image.sha256 })),
  })}\n`);

  const runs: (RunResult | NotRun)[] = [];
  const progress = new Progress();
  for (const [i, { workload, monitor, cannot }] of jobs.entries()) runs.push(cannot ?? await runJob(workload, monitor, settings, events, eventsPath === undefined, progress, `${i + 1} of ${jobs.length}`));
  progress.clear();

  const report = buildReport(compareRuns(runs), await provenanceOf(settings, words));
  const files = directory === null ? [] : renderFiles(report).map(({ name, content }) => {
    const file = fileIn(directory, name);
    file.write(content);
    return file;
  });
  for (const file of files) file.commit();
  events?.commit();
  print(json ? renderJson(report) : renderText(report));
  if (!json) {
    const names = [...files, ...(events ? [events] : [])].map(({ path }) => path);
    print(`written: ${names.join(' ')}\n`);
  }
  return verdict(runs);
}

async function findWorkloads(names: readonly string[]): Promise<readonly { readonly place: string; readonly workload: Workload }[]> {
  const found: { readonly place: string; readonly workload: Workload }[] = [];
  for (const place of names.length > 0 ? names : guestList.map(guest => guest.name)) {
    const workload = await findWorkload(place);
    if (found.some(known => known.workload.name === workload.name)) throw new UserError(`compare: there are two guests of the name ${quoted(workload.name)}; a report needs different names`);
    found.push({ place, workload });
  }
  return found;
}

function runJob(workload: Workload, monitor: MonitorKind, settings: Settings, events: OutputFile | null, limited: boolean, progress: Progress, place: string): Promise<RunResult> {
  const what = `${workload.name} under ${monitor.name}`;
  progress.update(() => `${place}: ${what}`);
  return simulate(workload, monitor, settings, {
    ...(events ? { log: (line: string) => events.write(`${line}\n`), ...(limited ? { logLimit: LOG_LIMIT } : {}) } : {}),
    unmodelled: note => { progress.clear(); complain(`${what}: not modelled: ${note}`); },
    progress: run => progress.update(() => `${place}: ${what}: ${(run.core.cpu.retired / 1e6).toFixed(0)} million instructions`),
  }).catch((error: unknown) => {
    if (error instanceof Error && error.name === 'Error') error.message = `${what}: ${error.message}`;
    throw error;
  });
}

function verdict(runs: readonly (RunResult | NotRun)[]): number {
  let status = 0;
  for (const run of runs) {
    if ('reason' in run) continue;
    if (run.stoppedBy === 'error') {
      complain(`${run.guest} under ${run.monitor}: the run was given up, see above (this is a bug in vanderpool)`);
      status = run.exitStatus;
    }
    for (const line of unexplained(run)) {
      complain(`${run.guest} under ${run.monitor}: ${line}`);
      status ||= unexpected;
    }
  }
  return status;
}
