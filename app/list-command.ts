import { guestList, monitorNames } from '../guests/index.ts';
import { profiles } from '../machine/profile.ts';
import { monitorList } from '../monitors/index.ts';
import { hostChecks } from '../vmcs/check-host.ts';
import { controlChecks } from '../vmcs/check-control.ts';
import { guestChecks } from '../vmcs/check-guest.ts';
import { controls } from '../vmcs/control.ts';
import { VmExitReason } from '../vmx/reason.ts';
import type { Options } from './options.ts';
import { print } from './terminal.ts';
import { choices, quoted, UserError } from './user-error.ts';

type Line = Readonly<Record<string, string | number | boolean>>;

/** What can be listed, and the rows of each list. */
const lists: Readonly<Record<string, () => readonly Line[]>> = {
  guests: () => guestList.map(guest => ({ name: guest.name, bits: guest.bits, title: guest.title, monitors: monitorNames.filter(name => guest.monitors.includes(name)).join(' '), description: guest.description })),
  monitors: () => monitorList.map(({ name, description }) => ({ name, description })),
  profiles: () => Object.values(profiles).map(({ name, description }) => ({ name, description })),
  exits: () => Object.entries(VmExitReason).map(([name, number]) => ({ number, name })),
  controls: () => controls.map(({ id, group, bit, name, implemented }) => ({ id, group, bit, name, implemented })),
  checks: () => [...controlChecks, ...hostChecks, ...guestChecks].map(({ id, group, sentence, title }) => ({ id, group, sentence, title })),
};

/** Columns that are too long for a terminal; --json has them. */
const long = ['description'];

/** `list WHAT`. */
export function listCommand(options: Options): number {
  const [what, ...more] = options.places;
  const names = Object.keys(lists);
  if (what === undefined || !Object.hasOwn(lists, what)) throw new UserError(`list: expected ${choices(names)}${what === undefined ? '' : `, got ${quoted(what)}`}`);
  if (more.length > 0) throw new UserError(`list: expected one word, got ${quoted(more[0]!)} too`);
  const rows = lists[what]!();
  print(options.switch('json') ? `${JSON.stringify(rows, null, 2)}\n` : table(rows));
  return 0;
}

function table(rows: readonly Line[]): string {
  const columns = Object.keys(rows[0]!).filter((column, i, all) => !long.includes(column) || all.length <= 2);
  const widths = columns.map(column => Math.max(...rows.map(row => shown(row[column]!).length)));
  return rows.map(row => `${columns.map((column, i) => shown(row[column]!).padEnd(widths[i]!)).join('  ').trimEnd()}\n`).join('');
}

const shown = (value: string | number | boolean): string => (value === true ? 'yes' : value === false ? 'no' : String(value));
