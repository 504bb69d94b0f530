import type { Row } from './row.ts';
import { integerRows } from './rows/integer.ts';
import { sseRows } from './rows/sse.ts';
import { systemRows } from './rows/system.ts';

/** The instruction set of one build: all rows with their ids. */
export interface Isa {
  readonly rows: readonly Row[];
  /** Row ids by mnemonic. */
  readonly byMnemonic: ReadonlyMap<string, readonly Row[]>;
}

/** Puts the tables together; `extra` are rows of folders that cpu/ does not know (VMX). Ids follow table order. */
export function buildIsa(extra: readonly Omit<Row, 'id'>[] = []): Isa {
  const rows = [...integerRows, ...systemRows, ...sseRows, ...extra].map((row, id): Row => ({ ...row, id }));
  const byMnemonic = new Map<string, Row[]>();
  for (const row of rows) {
    const list = byMnemonic.get(row.mnemonic);
    if (list) list.push(row);
    else byMnemonic.set(row.mnemonic, [row]);
  }
  return { rows, byMnemonic };
}
