import { describe, expect, test } from 'vitest';
import { Decoder } from '../../cpu/decode.ts';
import { isa } from '../../machine/isa.ts';
import { readVectors, vectorGroups } from '../vectors/reader.ts';
import { shapes } from './agreement-rows.ts';
import { rows as assemblerRows } from './assembler-rows.ts';

const name = (row: { readonly syntax: string; readonly notation: string }): string => `${row.syntax} (${row.notation})`;

describe('no row without a test', () => {
  test('the agreement of the engines meets every row in some code size', () => {
    expect(isa.rows.filter((row) => ([16, 32, 64] as const).every((size) => shapes(row, size).length === 0)).map(name)).toEqual([]);
  });

  test('encoding, decoding and disassembly are tried on every row', () => {
    const tried = new Set(assemblerRows.map(name));
    expect(isa.rows.filter((row) => !tried.has(name(row))).map(name)).toEqual([]);
  });

  test('the vectors of the host CPU hold every row with micro-op semantics but the undefined ones', () => {
    const decoder = new Decoder(isa.rows, new Set(isa.rows.flatMap((row) => row.feature ?? [])));
    const held = new Set<number>();
    for (const group of vectorGroups()) {
      for (const { form } of readVectors(group)) {
        const bytes = new Uint8Array(16);
        bytes.set(form.bytes);
        const insn = decoder.decode(bytes, 0, 16, form.codeSize);
        if (typeof insn !== 'number') held.add(insn.row.id);
      }
    }
    // the result of a 16-bit BSWAP is undefined
    expect(isa.rows.filter((row) => row.semantics && !held.has(row.id)).map(name)).toEqual(['BSWAP rv (o16 0F C8+r)']);
  });

  test('no two rows have one encoding', () => {
    const seen = new Map<string, string>();
    const twice: string[] = [];
    for (const row of isa.rows) {
      const key = `${row.notation} ${row.mode ?? ''} ${row.operands.some((operand) => operand.kind === 'rmreg' || operand.kind === 'xmmreg') ? 'register' : row.operands.some((operand) => operand.kind === 'mem') ? 'memory' : ''}`;
      const other = seen.get(key);
      if (other !== undefined) twice.push(`${other} and ${name(row)}`);
      seen.set(key, name(row));
    }
    expect(twice).toEqual([]);
  });
});
