import { expect, test } from 'vitest';
import { systemRows } from '../../cpu/rows/system.ts';
import { isa } from '../../machine/isa.ts';
import type { Row } from '../../cpu/row.ts';
import { machineFor, programs } from './programs.ts';

/** System rows that no program runs, with the reason. */
const uncovered: Readonly<Record<string, string>> = {
  ENTER: 'no system instruction: tested against the host CPU with the user-mode vectors',
  RDPMC: 'performance counters are not modelled: it always faults, which no oracle agrees on',
  XGETBV: 'XSAVE is not offered by any profile: the row is #UD', XSETBV: 'XSAVE is not offered by any profile: the row is #UD',
};

/** Runs every program with the bodies of the system rows counted; ids of the rows that ran. */
function executedRows(): Set<number> {
  const executed = new Set<number>();
  const originals = new Map<Row, Row['system']>();
  for (const row of isa.rows) {
    if (row.system === null) continue;
    const body = row.system;
    originals.set(row, body);
    (row as { system: Row['system'] }).system = (cpu, insn) => {
      executed.add(row.id);
      return body(cpu, insn);
    };
  }
  try {
    for (const name of programs) machineFor(name).finish();
  } finally {
    for (const [row, body] of originals) (row as { system: Row['system'] }).system = body;
  }
  return executed;
}

const key = (row: { readonly syntax: string; readonly notation: string }): string => `${row.syntax} | ${row.notation}`;
const system = new Set(systemRows.map(key));

test('every system row is executed by a program whose outcome an oracle printed, or is named with a reason', () => {
  const executed = executedRows();
  const missing = isa.rows.filter((row) => system.has(key(row)) && !executed.has(row.id) && uncovered[row.mnemonic] === undefined).map(key);
  expect(missing).toEqual([]);
  const superfluous = Object.keys(uncovered).filter((mnemonic) => isa.rows.some((row) => row.mnemonic === mnemonic && system.has(key(row)) && executed.has(row.id)));
  expect(superfluous).toEqual([]);
}, 30_000);
