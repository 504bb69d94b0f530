import { commands, optionRows, type CommandName } from './option-table.ts';

const commandNames = Object.keys(commands) as readonly CommandName[];

/** What --help prints, for all commands or one. */
export function help(command?: CommandName): string {
  const shown = command ? [command] : commandNames;
  const lines = ['vanderpool: the same guest on a simulated x86-64 PC with Intel VT-x, under several monitors, compared cycle by cycle', ''];
  for (const name of shown) {
    lines.push(`vanderpool ${name} ${commands[name].places} [options]`, `  ${commands[name].meaning}`);
    for (const [option, row] of optionRows) {
      if (!row.commands.includes(name)) continue;
      lines.push(`    ${`--${option}${row.value === null ? '' : ` ${row.value}`}`.padEnd(24)} ${row.meaning}`);
    }
    lines.push('');
  }
  lines.push('  --help, --version', '', 'exit status of run and replay: what the guest wrote to the debug-exit port (& 0xff), 0 after poweroff or --until, 124 at the limit,',
    '125 after a triple fault or when the guest halted for good; 2 for bad input, 70 for a bug in vanderpool');
  return `${lines.join('\n')}\n`;
}
