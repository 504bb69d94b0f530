import type { Figure } from '../cpu/profile.ts';
import type { Comparison } from './comparison.ts';

/** Version of the report; it changes when a field changes its meaning or goes away. */
export const reportSchema = 'vanderpool-report/1';

/** What the caller knows about how the comparison came about. Hashes are SHA-256, 64 lower-case hex digits. */
export interface ProvenanceInput {
  readonly tool: string;
  readonly version: string;
  /** Git id of the tool, if known. */
  readonly revision: string | null;
  /** Arguments as given; absolute paths are shortened to their last component. */
  readonly commandLine: readonly string[];
  readonly profile: { readonly name: string; readonly description: string; readonly sha256: string };
  readonly costs: { readonly sha256: string; readonly figures: Readonly<Record<string, Figure>> };
  /** Options that differ from the default. */
  readonly options: Readonly<Record<string, string>>;
  /** Limits that apply to every run, such as the instruction limit. */
  readonly limits: readonly string[];
}

/** Where the numbers come from, in the order in which every rendering shows it. No date, user, host or absolute path. */
export interface Provenance {
  readonly tool: string;
  readonly version: string;
  readonly revision: string | null;
  readonly schemas: readonly string[];
  readonly commandLine: readonly string[];
  readonly inputs: readonly { readonly guest: string; readonly sha256: string; readonly bytes: number; readonly format: string }[];
  readonly profile: { readonly name: string; readonly description: string; readonly sha256: string };
  readonly costs: {
    readonly sha256: string;
    readonly published: number;
    readonly estimated: number;
    readonly figures: readonly { readonly name: string; readonly value: number; readonly low: number; readonly high: number; readonly source: string }[];
  };
  readonly seed: 0;
  readonly options: readonly { readonly name: string; readonly value: string }[];
  readonly limits: readonly string[];
}

export interface Definition {
  readonly term: string;
  readonly meaning: string;
}

/** Everything that any rendering shows. */
export interface Report {
  readonly schema: typeof reportSchema;
  readonly provenance: Provenance;
  readonly definitions: readonly Definition[];
  readonly comparison: Comparison;
}

const definitions: readonly Definition[] = [
  { term: 'instructions', meaning: 'guest instructions that completed, natively or emulated; REP counts once; faulting attempts, event delivery and monitor code count zero' },
  { term: 'cycles', meaning: 'simulated machine cycles from the first guest instruction to the end, setting up the monitor included; they come from the cost profile, not from a clock' },
  { term: 'slowdown', meaning: 'cycles / cycles of the base; the base is native where it ran' },
  { term: 'VM exits, traps', meaning: 'times the guest was left for the monitor; – means that the monitor has no such thing, 0 that it did not happen' },
  { term: 'per 1k', meaning: 'exits and traps per 1000 guest instructions' },
  { term: 'hypervisor cycles', meaning: 'transitions + monitor work, without waiting; hypervisor share = hypervisor cycles / cycles' },
  { term: 'cycles per exit', meaning: 'cycles from leaving the guest to running it again / exits and traps' },
  { term: 'outside exits', meaning: 'hypervisor cycles that belong to no exit or trap, such as setting up' },
  { term: 'breakdown', meaning: 'guest (base costs of instructions) + translation (TLB misses and walks) + events (delivery inside the guest) + transitions (exit and entry, trap and return) + monitor (its work) + idle (HLT) = cycles' },
  { term: 'walk references', meaning: 'page-table entries read by walks: those of the guest or shadow tables and those of the second level (EPT)' },
  { term: '+-', meaning: 'standard error of the mean between the exits of one reason, as perf kvm stat prints it; the simulation itself has no spread: the same input gives the same cycles' },
  { term: 'estimated share', meaning: 'share of the cycles that rests on cost figures without a published source; – where it was not counted: the table of figures says which they are' },
  { term: 'geometric mean', meaning: 'over the slowdowns of the guests that every monitor ran; of ratios to native only' },
  { term: 'parting', meaning: 'first sample point at which the cumulative cycles differ from those of the base by more than a share of all the cycles of the base, with the exits and traps between it and the sample before; the rest is translation and setting up' },
];

/** Puts a comparison and its provenance together; every renderer takes the result. */
export function buildReport(comparison: Comparison, given: ProvenanceInput): Report {
  for (const [name, hash] of [['profile', given.profile.sha256], ['costs', given.costs.sha256]] as const) {
    if (!/^[0-9a-f]{64}$/.test(hash)) throw new Error(`buildReport: ${name}.sha256 must be 64 lower-case hex digits, but is '${hash}'`);
  }
  if (given.profile.name !== comparison.profile) throw new Error(`buildReport: the runs used profile '${comparison.profile}', but the provenance names '${given.profile.name}'`);
  const figures = Object.entries(given.costs.figures).sort(byName).map(([name, figure]) => ({ name, value: figure.value, low: figure.low, high: figure.high, source: figure.source }));
  const estimated = figures.filter(figure => figure.source === 'estimate').length;
  return {
    schema: reportSchema,
    provenance: {
      tool: given.tool, version: given.version, revision: given.revision,
      schemas: [reportSchema, comparison.schema],
      commandLine: given.commandLine.map(withoutDirectories),
      inputs: comparison.guests.flatMap(({ guest, image }) => image ? [{ guest, sha256: image.sha256, bytes: image.bytes, format: image.format }] : []),
      profile: { name: given.profile.name, description: given.profile.description, sha256: given.profile.sha256 },
      costs: { sha256: given.costs.sha256, published: figures.length - estimated, estimated, figures },
      seed: 0,
      options: Object.entries(given.options).sort(byName).map(([name, value]) => ({ name, value })),
      limits: [...given.limits],
    },
    definitions,
    comparison,
  };
}

const byName = ([a]: readonly [string, unknown], [b]: readonly [string, unknown]): number => a < b ? -1 : a > b ? 1 : 0;

/** '/home/me/x.elf' and '--out=/home/me/x' name a machine and a user; '…/x.elf' does not. */
function withoutDirectories(argument: string): string {
  const path = /^((?:--?[A-Za-z-]+=)?)((?:[A-Za-z]:[\\/]|[\\/]).*)$/.exec(argument);
  if (!path) return argument;
  const last = path[2]!.split(/[\\/]/).filter(part => part !== '').at(-1) ?? '';
  return `${path[1]}…/${last}`;
}
