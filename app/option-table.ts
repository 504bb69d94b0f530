import { MEMORY_DEFAULT } from '../monitors/run.ts';

/** The commands and what stands after them. */
export const commands = {
  compare: { places: '[GUEST|FILE …]', meaning: 'run guests under monitors, print the comparison and write a report; every embedded guest under every monitor if none is named' },
  run: { places: 'GUEST|FILE', meaning: 'run one guest under one monitor; its serial output goes to stdout' },
  replay: { places: 'FILE', meaning: 'repeat a recorded run, or follow a QEMU log of the image given with --guest' },
  list: { places: 'guests|monitors|profiles|exits|controls|checks', meaning: 'say what there is' },
} as const;
export type CommandName = keyof typeof commands;

export interface OptionRow {
  /** What stands after the option; null for a switch. */
  readonly value: string | null;
  readonly commands: readonly CommandName[];
  readonly meaning: string;
}

/** Lines of one run in the event log that a comparison writes unasked. */
export const LOG_LIMIT = 4000;

const both = ['compare', 'run'] as const;
const withMachine = ['compare', 'run', 'replay'] as const;

/** Every option: what parses, what is checked and what --help prints all read this. */
export const optionTable = {
  'monitor': { value: 'NAME', commands: ['run'], meaning: 'monitor to run under (default native)' },
  'monitors': { value: 'A,B', commands: ['compare'], meaning: 'monitors to compare (default: all)' },
  'profile': { value: 'NAME', commands: both, meaning: 'machine whose features and costs are simulated (default nehalem)' },
  'memory': { value: 'MIB', commands: withMachine, meaning: `memory of the guest in MiB, 1 to 3072 (default: what an embedded guest needs, ${MEMORY_DEFAULT} for others)` },
  'append': { value: 'TEXT', commands: withMachine, meaning: 'kernel command line after the name of the image' },
  'input': { value: 'FILE', commands: ['run'], meaning: 'bytes typed at the serial port, from the first cycle on' },
  'until': { value: 'TEXT', commands: both, meaning: 'stop when the serial output contains this' },
  'max-instructions': { value: 'N', commands: both, meaning: 'stop after this many guest instructions' },
  'engine': { value: 'NAME', commands: withMachine, meaning: 'interpret (default) or evaluate (the slow reference)' },
  'clock': { value: 'NAME', commands: both, meaning: "guest's clock: guest (default of compare: the same under every monitor) or machine (default of run: monitors' work included)" },
  'window': { value: 'FROM,COUNT', commands: both, meaning: 'list these instructions one by one in the report, counted from 0' },
  'events': { value: 'FILE', commands: both, meaning: `write the whole event log here; without it compare writes events.jsonl into its directory, at most ${LOG_LIMIT} lines a run` },
  'out': { value: 'DIR', commands: ['compare'], meaning: 'directory of the report (default report)' },
  'record': { value: 'FILE', commands: ['run'], meaning: 'write a recording that replay repeats' },
  'verify': { value: null, commands: ['replay'], meaning: 'prove that the repeated run has the same event log, to the byte' },
  'guest': { value: 'GUEST|FILE', commands: ['replay'], meaning: 'image of a QEMU log, or of a recording where it is not found by its name' },
  'json': { value: null, commands: ['compare', 'run', 'list'], meaning: 'print one JSON document instead' },
} as const satisfies Readonly<Record<string, OptionRow>>;
export type OptionName = keyof typeof optionTable;

export const optionRows = Object.entries(optionTable) as readonly (readonly [OptionName, OptionRow])[];
