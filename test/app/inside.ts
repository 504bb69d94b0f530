import { main } from '../../app/main.ts';
import type { Outcome } from './program.ts';
import { written } from './terminal-double.ts';

/**
 * The command line inside this process: a process for each of many cases would take minutes. The test file must say
 * vi.mock('../../app/terminal.ts', () => import('./terminal-double.ts')).
 */
export async function inside(words: readonly string[]): Promise<Outcome> {
  written.stdout = written.stderr = '';
  const status = await main(words);
  return { status, stdout: written.stdout, stderr: written.stderr };
}
