import { buildIsa } from '../../cpu/isa.ts';
import { insn, system } from '../../cpu/row.ts';
import type { Row } from '../../cpu/row.ts';
import { vmxRows } from '../../vmx/rows.ts';

/** Encodings (SDM) that the golden list uses; added only where the tables lack the mnemonic. */
const outside = [insn('ENTER imm16, imm8', 'C8 iw ib', system(() => undefined), { size: 'd64' })];

const { byMnemonic } = buildIsa(vmxRows);
/** The table the assembler and disassembler tests read. */
export const rows: readonly Row[] = buildIsa([...vmxRows, ...outside.filter((row) => !byMnemonic.has(row.mnemonic))]).rows;
export const features: ReadonlySet<string> = new Set(rows.flatMap((row) => row.feature ?? []));

export function toHex(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

export function fromHex(hex: string): Uint8Array {
  return Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}
