import { parseArgs } from 'node:util';
import type { EngineName } from '../machine/core.ts';
import { profiles, type MachineProfile } from '../machine/profile.ts';
import { findMonitor, monitorList, type MonitorKind } from '../monitors/index.ts';
import { optionRows, type CommandName, type OptionName } from './option-table.ts';
import { choices, quoted, UserError } from './user-error.ts';

/** What the arguments of a command say, checked one by one as they are asked for. */
export class Options {
  readonly command: CommandName;
  readonly places: readonly string[];
  private readonly values: Readonly<Record<string, string | boolean | undefined>>;

  /** @throws UserError for an option that the command does not have */
  constructor(command: CommandName, words: readonly string[]) {
    this.command = command;
    const mine = optionRows.filter(([, row]) => row.commands.includes(command));
    try {
      const parsed = parseArgs({
        args: words, allowPositionals: true, strict: true,
        options: Object.fromEntries(mine.map(([name, row]) => [name, { type: row.value === null ? 'boolean' : 'string' } as const])),
      });
      this.places = parsed.positionals;
      this.values = parsed.values;
    } catch (error) {
      throw new UserError(`${command}: ${parseReason(error, command, mine.map(([name]) => name))}`);
    }
  }

  switch(name: OptionName): boolean { return this.values[name] === true; }

  text(name: OptionName): string | undefined {
    const value = this.values[name];
    return typeof value === 'string' ? value : undefined;
  }

  /** A text that must not be empty. */
  filled(name: OptionName): string | undefined {
    const value = this.text(name);
    if (value === '') throw new UserError(`--${name}: expected some text, got an empty one`);
    return value;
  }

  /** A whole number in decimal, or in hex with 0x. */
  count(name: OptionName, least: number, most: number, unit: string): number | undefined {
    const value = this.text(name);
    if (value === undefined) return undefined;
    const number = wholeNumber(value);
    if (number === null || number < least || number > most) throw new UserError(`--${name}: expected ${unit} as a whole number from ${least} to ${most}, got ${quoted(value)}`);
    return number;
  }

  choice<T extends string>(name: OptionName, known: readonly T[]): T | undefined {
    const value = this.text(name);
    if (value === undefined) return undefined;
    const found = known.find(candidate => candidate === value);
    if (found === undefined) throw new UserError(`--${name}: expected ${choices(known)}, got ${quoted(value)}`);
    return found;
  }

  /** Names of options that were given, with their values. */
  given(): Readonly<Record<string, string>> {
    return Object.fromEntries(Object.entries(this.values).map(([name, value]) => [name, String(value)]));
  }

  get profile(): MachineProfile { return profileNamed(this.text('profile') ?? 'nehalem'); }
  get memoryMiB(): number | undefined { return this.count('memory', 1, 3072, 'MiB'); }
  get maxInstructions(): number | undefined { return this.count('max-instructions', 1, Number.MAX_SAFE_INTEGER, 'a number of instructions'); }
  get engine(): EngineName { return this.choice('engine', ['interpret', 'evaluate']) ?? 'interpret'; }
  clock(standard: 'guest' | 'machine'): 'guest' | 'machine' { return this.choice('clock', ['guest', 'machine']) ?? standard; }

  get window(): { readonly from: number; readonly count: number } | undefined {
    const value = this.text('window');
    if (value === undefined) return undefined;
    const parts = value.split(',').map(wholeNumber);
    const [from, count] = parts;
    if (parts.length !== 2 || from === null || count === null || count! < 1 || count! > 10_000) throw new UserError(`--window: expected FROM,COUNT with at most 10000 instructions, such as 1000,20, got ${quoted(value)}`);
    return { from: from!, count: count! };
  }

  get monitor(): MonitorKind { return monitorNamed(this.text('monitor') ?? 'native'); }

  get monitors(): readonly MonitorKind[] {
    const value = this.text('monitors');
    if (value === undefined) return monitorList;
    const named = value.split(',').map(name => monitorNamed(name.trim()));
    const twice = named.find((monitor, i) => named.indexOf(monitor) !== i);
    if (twice) throw new UserError(`--monitors: ${twice.name} is named twice`);
    return named;
  }
}

/** @throws UserError for a name that is not known */
export function monitorNamed(name: string): MonitorKind {
  const monitor = findMonitor(name);
  if (!monitor) throw new UserError(`unknown monitor ${quoted(name)}: expected ${choices(monitorList.map(known => known.name))}`);
  return monitor;
}

/** @throws UserError for a name that is not known */
export function profileNamed(name: string): MachineProfile {
  const profile = Object.values(profiles).find(known => known.name === name);
  if (!profile) throw new UserError(`unknown profile ${quoted(name)}: expected ${choices(Object.keys(profiles))}`);
  return profile;
}

function wholeNumber(text: string): number | null {
  const number = /^(0x[0-9a-f]+|[0-9]+(_[0-9]+)*|[0-9]+e[0-9]+)$/i.test(text) ? Number(text.replaceAll('_', '')) : NaN;
  return Number.isSafeInteger(number) ? number : null;
}

/** Node's reason without its advice. */
function parseReason(error: unknown, command: string, known: readonly string[]): string {
  const { code, message } = error as { readonly code?: string; readonly message: string };
  const option = /'(-[^' ]*)/.exec(message)?.[1] ?? '';
  if (code === 'ERR_PARSE_ARGS_UNKNOWN_OPTION') return `unknown option ${quoted(option)}: expected ${choices(known.map(name => `--${name}`))}`;
  if (code === 'ERR_PARSE_ARGS_INVALID_OPTION_VALUE') return /does not take/.test(message) ? `option ${option} takes no value` : `option ${option} needs a value; one that begins with '-' is written ${option.split(',').at(-1)!.trim()}=VALUE`;
  throw error instanceof Error ? error : new Error(`${command}: ${String(error)}`);
}
