import { AssemblyError } from '../cpu/assembler.ts';
import { ImageError } from '../machine/boot/image-error.ts';
import { FormatError } from '../traces/format-error.ts';
import { compareCommand } from './compare-command.ts';
import { help } from './help.ts';
import { listCommand } from './list-command.ts';
import { commands, type CommandName } from './option-table.ts';
import { Options } from './options.ts';
import { discardUnfinished } from './output-file.ts';
import { replayCommand } from './replay-command.ts';
import { runCommand } from './run-command.ts';
import { complain, OutputClosed, print, printError } from './terminal.ts';
import { choices, quoted, UserError } from './user-error.ts';
import { tool, version } from './version.ts';

const Status = { BadInput: 2, Bug: 70, OutputClosed: 141 } as const;

async function obey(words: readonly string[]): Promise<number> {
  const [first, ...rest] = words;
  if (first === '--version') { print(`${tool} ${version}\n`); return 0; }
  if (first === '--help' || first === '-h' || first === 'help') { print(help()); return 0; }
  if (first === undefined) throw new UserError(`expected a command: ${choices(Object.keys(commands))}; --help says more`);
  if (!Object.hasOwn(commands, first)) throw new UserError(`unknown command ${quoted(first)}: expected ${choices(Object.keys(commands))}; --help says more`);
  const command = first as CommandName;
  if (rest.includes('--help') || rest.includes('-h')) { print(help(command)); return 0; }
  const options = new Options(command, rest);
  switch (command) {
    case 'compare': return compareCommand(options, words);
    case 'run': return runCommand(options);
    case 'replay': return replayCommand(options);
    case 'list': return listCommand(options);
  }
}

/** Everything that ends the program early, in one line. */
function failure(error: unknown): number {
  if (error instanceof OutputClosed) return Status.OutputClosed;
  if (error instanceof UserError || error instanceof ImageError || error instanceof AssemblyError || error instanceof FormatError) {
    complain(error.message);
    return Status.BadInput;
  }
  const message = error instanceof Error ? error.message : String(error);
  complain(`${message} (this is a bug in vanderpool)`);
  if (process.env['VANDERPOOL_DEBUG'] === '1' && error instanceof Error) printError(`${error.stack ?? message}\n`);
  return Status.Bug;
}

/** Does what the arguments say; gives the exit status. Whatever goes wrong is one line on stderr. */
export async function main(words: readonly string[]): Promise<number> {
  try {
    return await obey(words);
  } catch (error) {
    return failure(error);
  } finally {
    discardUnfinished();
  }
}
