import { conditionNames } from './semantics.ts';
import type { Row } from './row.ts';
import type { Variant } from './emit.ts';
import { traitsOf } from './traits.ts';

/**
 * Handlers of the interpreter that are no instructions. The address record computes a checked linear address for
 * the record behind it; the straddle record checks the second page of an instruction that crosses a page.
 */
export const Pseudo = { Goto: 0, PageEnd: 1, Address: 2, Straddle: 3, System: 4 } as const;
export const PSEUDO_COUNT = 4;

/** Identity of a generated handler: only what its row really depends on. */
export function variantKey(v: Variant): string {
  const traits = traitsOf(v.row);
  let key = `${v.row.id}.${v.operandSize}${v.memory ? (v.prepared ? 'p' : 'm') : ''}`;
  if (traits.stack) key += `.s${v.stackBits}${v.flatStack ? 'f' : ''}`;
  if (traits.branch || traits.jump) key += `.c${v.codeSize}${v.flatCode ? 'f' : ''}${traits.branch && v.inPage ? 'i' : ''}`;
  if (traits.places || traits.addressRegisters || traits.address) key += `.a${v.addressSize}${v.flatData ? 'f' : ''}`;
  if (v.rep && v.row.rep) key += `.r${v.row.rep === 'repe' ? v.rep : 1}`;
  return key;
}

/**
 * A row that another row's handler can execute with the same record: immediates are already extended in the
 * record, shifts by 1 are shifts by an immediate, and register forms have a twin with the operands the other way
 * round. `swap`: exchange the reg and rm fields.
 */
export interface Alias { readonly row: Row; readonly swap: boolean; readonly immediate: number | null }

export function buildAliases(rows: readonly Row[]): ReadonlyMap<number, { memory: Alias | null; register: Alias | null }> {
  const bySyntax = new Map(rows.map((row) => [row.syntax, row]));
  const aliases = new Map<number, { memory: Alias | null; register: Alias | null }>();
  for (const row of rows) {
    if (!row.semantics || row.mode === 'no64') continue;
    const [first, second] = row.operands;
    if (!first || !second || row.operands.length !== 2) continue;
    const find = (syntax: string): Row | null => {
      const other = bySyntax.get(syntax);
      return other && other.semantics === row.semantics && other.mode === row.mode ? other : null;
    };
    let target: Row | null = null;
    if (second.text === 'imm8s') {
      target = find(`${row.mnemonic} ${first.text}, immz`);
      if (target) aliases.set(row.id, { memory: { row: target, swap: false, immediate: null }, register: { row: target, swap: false, immediate: null } });
    } else if (second.text === '1') {
      target = find(`${row.mnemonic} ${first.text}, imm8`);
      if (target) aliases.set(row.id, { memory: { row: target, swap: false, immediate: 1 }, register: { row: target, swap: false, immediate: 1 } });
    } else if (first.kind === 'reg' && second.kind === 'rm' && first.width === second.width && !row.mnemonic.startsWith('CMOV')) {
      target = find(`${row.mnemonic} ${second.text}, ${first.text}`);
      // reg op= rm(register) is rm(register) op= reg with the fields exchanged
      if (target) aliases.set(row.id, { memory: null, register: { row: target, swap: true, immediate: null } });
    }
  }
  return aliases;
}

type Form = 'r' | 'm' | 'rm';
/** Syntax, operand sizes, register and/or memory form: the rows inside the interpreter's own function, most frequent first. */
const hotRows: readonly (readonly [string, readonly (16 | 32 | 64)[], Form])[] = [
  ['MOV r/mv, rv', [32, 64], 'rm'], ['MOV rv, r/mv', [32, 64], 'm'], ['MOV r/m8, r8', [32], 'rm'], ['MOV r8, r/m8', [32], 'm'],
  ['MOV r/mv, immz', [32, 64], 'rm'], ['MOV rv, immv', [32, 64], 'r'], ['MOV r/m8, imm8', [32], 'm'],
  ...['ADD', 'SUB', 'CMP', 'AND', 'XOR', 'OR'].flatMap((name): [string, (16 | 32 | 64)[], Form][] => [
    [`${name} r/mv, rv`, [32, 64], 'rm'], [`${name} rv, r/mv`, [32, 64], 'm'], [`${name} r/mv, immz`, [32, 64], 'rm'],
  ]),
  ['ADD rAX, immz', [32, 64], 'r'], ['CMP rAX, immz', [32, 64], 'r'], ['AND rAX, immz', [32, 64], 'r'],
  ['CMP r/m8, imm8', [32], 'rm'], ['CMP r/m8, r8', [32], 'rm'], ['CMP r8, r/m8', [32], 'm'], ['CMP AL, imm8', [32], 'r'],
  ['TEST r/mv, rv', [32, 64], 'r'], ['TEST r/m8, r8', [32], 'r'], ['TEST r/m8, imm8', [32], 'rm'], ['TEST AL, imm8', [32], 'r'], ['TEST r/mv, immz', [32, 64], 'r'],
  ['LEA rv, m', [32, 64], 'm'], ['INC r/mv', [32, 64], 'r'], ['DEC r/mv', [32, 64], 'r'], ['INC rv', [32], 'r'], ['DEC rv', [32], 'r'],
  ['INC r/mv', [32], 'm'], ['DEC r/mv', [32], 'm'],
  ['SHL r/mv, imm8', [32, 64], 'r'], ['SHR r/mv, imm8', [32, 64], 'r'], ['SAR r/mv, imm8', [32, 64], 'r'], ['ROL r/mv, imm8', [32, 64], 'r'], ['ROR r/mv, imm8', [32], 'r'],
  ['MOVZX rv, r/m8', [32], 'rm'], ['MOVZX rv, r/m16', [32], 'rm'], ['MOVSX rv, r/m8', [32], 'rm'], ['MOVSXD rv, r/m32', [64], 'rm'],
  ['IMUL rv, r/mv', [32, 64], 'r'], ['IMUL rv, r/mv, immz', [32, 64], 'r'], ['NEG r/mv', [32, 64], 'r'], ['NOT r/mv', [32, 64], 'r'], ['NOP', [32], 'r'],
  ['ADC r/mv, rv', [32, 64], 'r'], ['SBB r/mv, rv', [32, 64], 'r'],
  ['PUSH rv', [32, 64], 'r'], ['POP rv', [32, 64], 'r'], ['PUSH r/mv', [32], 'm'], ['PUSH immz', [32], 'r'], ['CALL relz', [32, 64], 'r'], ['RET', [32, 64], 'r'],
  ['CALL r/mv', [32, 64], 'rm'], ['JMP r/mv', [32, 64], 'rm'], ['JMP rel8', [32, 64], 'r'], ['JMP relz', [32, 64], 'r'], ['LEAVE', [32, 64], 'r'],
  ...conditionNames.flatMap((name): [string, (16 | 32 | 64)[], Form][] => [[`J${name} rel8`, [32, 64], 'r'], [`J${name} relz`, [32, 64], 'r']]),
  ['SETZ r/m8', [32], 'r'], ['SETNZ r/m8', [32], 'r'],
];

/** The variants compiled into the interpreter's function. */
export function hotVariants(rows: readonly Row[]): Variant[] {
  const bySyntax = new Map<string, Row[]>();
  for (const row of rows) {
    const list = bySyntax.get(row.syntax);
    if (list) list.push(row);
    else bySyntax.set(row.syntax, [row]);
  }
  const result: Variant[] = [];
  const seen = new Set<string>();
  for (const [syntax, sizes, form] of hotRows) {
    const found = bySyntax.get(syntax);
    if (!found) throw new Error(`hot row '${syntax}' is not in the tables: correct the list in cpu/handlers.ts`);
    for (const operandSize of sizes) {
      const row = found.find((candidate) => candidate.encoding.operandSize === 0 || candidate.encoding.operandSize === operandSize);
      if (!row) throw new Error(`hot row '${syntax}' has no form of ${operandSize} bits`);
      const traits = traitsOf(row);
      // 64-bit stack and branch forms run in 64-bit code, 32-bit ones in flat 32-bit code
      const wideMode = operandSize === 64 && (traits.stack || traits.branch || traits.jump);
      for (const memory of form === 'rm' ? [false, true] : [form === 'm']) {
        for (const inPage of traits.branch ? [true, false] : [false]) {
          const v: Variant = {
            row, operandSize, addressSize: wideMode || operandSize === 64 ? 64 : 32, codeSize: wideMode ? 64 : 32, memory, prepared: false,
            stackBits: wideMode ? 64 : 32, flatStack: true, flatCode: true, flatData: true, inPage, rep: 0,
          };
          const variants = traits.address ? [v, { ...v, addressSize: v.addressSize === 64 ? 32 : 64 } as Variant] : [v];
          for (const variant of variants) {
            const key = variantKey(variant);
            if (!seen.has(key)) { seen.add(key); result.push(variant); }
          }
        }
      }
    }
  }
  return result;
}

/** Reduces a variant to the canonical operand size of its row, so that byte rows are generated once. */
export function canonicalSize(row: Row, operandSize: 16 | 32 | 64): 16 | 32 | 64 {
  if (row.encoding.operandSize !== 0) return operandSize;
  const traits = traitsOf(row);
  if (traits.stack || traits.branch || traits.jump) return operandSize;
  const depends = row.operands.length === 0 ? !/B$/.test(row.mnemonic) && row.rep !== undefined : row.operands.some((o) => o.width === 'v' || o.width === 'y' || o.width === 'z' || o.signed);
  return depends ? operandSize : 32;
}
