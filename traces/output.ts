import type { RunResult } from '../monitors/result.ts';

/** The first place at which a guest printed something else than under the base. */
export interface OutputDivergence {
  readonly monitor: string;
  /** Characters before it; line and column from 1. */
  readonly offset: number;
  readonly line: number;
  readonly column: number;
  /** Up to 32 characters from there on, as JSON strings; "" is the end of the output. */
  readonly expected: string;
  readonly got: string;
}

export interface OutputComparison {
  readonly base: string;
  readonly characters: number;
  readonly identical: boolean;
  readonly divergences: readonly OutputDivergence[];
}

/** Compares what the guest printed under every monitor with what it printed under the base. */
export function compareOutput(base: RunResult, runs: readonly RunResult[]): OutputComparison {
  const divergences: OutputDivergence[] = [];
  for (const run of runs) {
    if (run.console === base.console) continue;
    const end = Math.min(run.console.length, base.console.length);
    let offset = 0;
    while (offset < end && run.console[offset] === base.console[offset]) offset++;
    const before = base.console.slice(0, offset);
    divergences.push({
      monitor: run.monitor, offset, line: before.split('\n').length, column: offset - before.lastIndexOf('\n'),
      expected: JSON.stringify(base.console.slice(offset, offset + 32)), got: JSON.stringify(run.console.slice(offset, offset + 32)),
    });
  }
  return { base: base.monitor, characters: base.console.length, identical: divergences.length === 0, divergences };
}
