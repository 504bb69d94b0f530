import { expect, test } from 'vitest';
import { isa } from '../../machine/isa.ts';
import { agreement, shapes } from './agreement-rows.ts';

test('every row that exists in 64-bit code: evaluator and interpreter end in the same state', () => {
  const { completed, met, failures } = agreement(64, 4, 64);
  if (failures.length > 0) throw new Error(`${failures.length} shapes differ:\n${failures.slice(0, 10).join('\n')}`);
  const here = isa.rows.filter((row) => shapes(row, 64).length > 0);
  expect(here.filter((row) => !met.has(row.id)).map((row) => `${row.syntax} (${row.notation})`)).toEqual([]);
  // and not by faulting alike every time
  expect(here.filter((row) => row.semantics && !completed.has(row.id)).map((row) => `${row.syntax} (${row.notation})`)).toEqual([]);
}, 60_000);
