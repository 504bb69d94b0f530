import type { MemoryForm, Size } from './assembler-encode.ts';
import { LineError, evaluate } from './assembler-expression.ts';
import type { Evaluated, Expression, Scope, TokenReader } from './assembler-expression.ts';
import { segmentNames } from './assembler-names.ts';
import type { Register } from './assembler-names.ts';

/** Size keywords in bits. */
export const sizeKeywords: Readonly<Record<string, number>> = { byte: 8, word: 16, dword: 32, qword: 64, tword: 80, oword: 128 };

/** An operand as written. `size` is that of its keyword in bits, 0 = none. */
export type SourceOperand =
  | { readonly kind: 'register'; readonly register: Register; readonly size: number; readonly column: number }
  | {
    readonly kind: 'memory'; readonly expression: Expression; readonly size: number; readonly far: boolean; readonly column: number;
    /** Segment override (SegmentIndex) or -1. */
    readonly segment: number;
    /** Size keyword inside the brackets: bits of displacement, 0 = none. */
    readonly displacementSize: number;
    /** RIP-relative: 'yes' as written, 'labels' by default (constants stay absolute, as in NASM). */
    readonly relative: 'yes' | 'labels' | 'no';
    /** Keep the index an index: no [r*2] to [r+r]. */
    readonly nosplit: boolean;
  }
  | { readonly kind: 'immediate'; readonly expression: Expression; readonly size: number; readonly strict: boolean; readonly distance: '' | 'short' | 'near'; readonly column: number }
  | { readonly kind: 'far'; readonly selector: Expression; readonly offset: Expression; readonly size: number; readonly column: number };

function hasRegister(expression: Expression): boolean {
  if (expression.kind === 'register') return true;
  if (expression.kind === 'unary') return hasRegister(expression.a);
  return expression.kind === 'binary' && (hasRegister(expression.a) || hasRegister(expression.b));
}

function parseMemory(reader: TokenReader, size: number, far: boolean, defaultRelative: boolean, column: number): SourceOperand {
  let displacementSize = 0;
  let relative: 'yes' | 'no' | undefined;
  let nosplit = false;
  for (;;) {
    const word = reader.token.text.toLowerCase();
    if (reader.token.kind === 'name' && sizeKeywords[word]) displacementSize = sizeKeywords[word];
    else if (reader.is('rel')) relative = 'yes';
    else if (reader.is('abs')) relative = 'no';
    else if (reader.is('nosplit')) nosplit = true;
    else break;
    reader.next();
  }
  let segment = -1;
  if (reader.token.kind === 'name' && reader.peek().text === ':') {
    segment = segmentNames.indexOf(reader.token.text.toLowerCase());
    if (segment < 0) reader.fail('a segment register');
    reader.next();
    reader.next();
  }
  const expression = reader.expression();
  reader.expect(']');
  // Segments with a base of their own are addressed absolutely, whatever the default.
  return { kind: 'memory', expression, size, far, column, segment, displacementSize, nosplit, relative: relative ?? (defaultRelative && segment < 4 ? 'labels' : 'no') };
}

/** Reads one operand. */
export function parseOperand(reader: TokenReader, defaultRelative: boolean): SourceOperand {
  const { column } = reader.token;
  let size = 0;
  let strict = false;
  let distance: '' | 'short' | 'near' | 'far' = '';
  for (;;) {
    const word = reader.token.kind === 'name' ? reader.token.text.toLowerCase() : '';
    if (sizeKeywords[word]) size = sizeKeywords[word];
    else if (word === 'strict') strict = true;
    else if (word === 'short' || word === 'near' || word === 'far') distance = word;
    else break;
    reader.next();
  }
  if (reader.take('[')) return parseMemory(reader, size, distance === 'far', defaultRelative, column);
  const expression = reader.expression();
  if (expression.kind === 'register') {
    if (size && expression.register.bits && size !== expression.register.bits) throw new LineError(column, `expected an operand of ${size} bits, found ${expression.register.name}`);
    return { kind: 'register', register: expression.register, size, column };
  }
  if (hasRegister(expression)) throw new LineError(column, 'expected a register, a memory operand in [ ] or an immediate, found an expression with a register');
  if (reader.take(':')) return { kind: 'far', selector: expression, offset: reader.expression(), size, column };
  if (distance === 'far') reader.fail("':' and an offset after the selector");
  return { kind: 'immediate', expression, size, strict, distance, column };
}

/** A memory operand with its symbols filled in. */
export interface ResolvedMemory {
  readonly addressSize: Size;
  /** RIP as base: `displacement` is still the target address. */
  readonly form: MemoryForm;
  readonly value: Evaluated;
  /** No base and no index: a moffs encoding can hold it. */
  readonly direct: boolean;
  readonly column: number;
}

/** Evaluates a memory operand; base and index are chosen as NASM does (shortest form, first register as base). */
export function resolveMemory(operand: SourceOperand & { kind: 'memory' }, scope: Scope, codeSize: Size, forcedAddressSize: Size | 0): ResolvedMemory {
  const value = evaluate(operand.expression, scope);
  const terms = [...value.registers].map(([register, factor]) => ({ register, factor: Number(factor) }));
  for (const { register } of terms) {
    if (register.kind !== 'gpr' || register.bits === 8) throw new LineError(operand.column, `expected 16-, 32- or 64-bit registers in the address, found ${register.name}`);
    if (register.bits !== terms[0]!.register.bits) throw new LineError(operand.column, `expected registers of one size in the address, found ${terms[0]!.register.name} and ${register.name}`);
  }
  if (terms.length === 0) {
    const hint = operand.displacementSize;
    const addressSize = forcedAddressSize || (codeSize !== 64 && (hint === 16 || hint === 32) ? hint : codeSize);
    const relative = codeSize === 64 && (operand.relative === 'yes' || (operand.relative === 'labels' && (value.labels !== 0 || value.unknown)));
    return { addressSize, value, direct: !relative, column: operand.column, form: { base: relative ? 16 : -1, index: -1, scale: 0, displacement: value.value } };
  }
  const addressSize = terms[0]!.register.bits as Size;
  const invalid = (): never => { throw new LineError(operand.column, `expected an address that ${addressSize}-bit ModRM encodes (base, index times 1, 2, 4 or 8, displacement)`); };
  if (forcedAddressSize && forcedAddressSize !== addressSize) throw new LineError(operand.column, `expected ${forcedAddressSize}-bit registers in the address`);
  if ((addressSize === 64) !== (codeSize === 64) && (addressSize === 64 || addressSize === 16)) throw new LineError(operand.column, `expected no ${addressSize}-bit address in ${codeSize}-bit code`);
  let base = -1;
  let index = -1;
  let factor = 1;
  const [first, second] = terms;
  if (terms.length > 2) invalid();
  if (!second) {
    // [r*2], [r*3], [r*5], [r*9] are shorter or only possible with the register as base too.
    if (operand.nosplit && value.scaled.size) {
      index = first!.register.number;
      factor = first!.factor;
    } else if (first!.factor === 1) base = first!.register.number;
    else if ([2, 3, 5, 9].includes(first!.factor) && addressSize !== 16) {
      base = index = first!.register.number;
      factor = first!.factor - 1;
    } else {
      index = first!.register.number;
      factor = first!.factor;
    }
  } else {
    const firstIsIndex = first!.factor !== 1 || (second.factor === 1 && value.scaled.has(first!.register) && !value.scaled.has(second.register));
    const [b, i] = firstIsIndex ? [second, first!] : [first!, second];
    if (b.factor !== 1) invalid();
    base = b.register.number;
    index = i.register.number;
    factor = i.factor;
    if (index === 4 && factor === 1) [base, index] = [index, base];
  }
  const scale = [1, 2, 4, 8].indexOf(factor);
  if (scale < 0 || (addressSize !== 16 && index === 4)) invalid();
  if (addressSize === 16) {
    const pair = [base, index].filter((register) => register >= 0).sort((a, b) => a - b).join();
    if (scale !== 0 || !['3,6', '3,7', '5,6', '5,7', '3', '5', '6', '7'].includes(pair)) invalid();
  }
  const wide = addressSize === 16 ? 16 : 32;
  const hint = operand.displacementSize;
  const forced = hint === 8 ? 8 : hint ? wide : value.labels !== 0 ? wide : undefined;
  return { addressSize, value, direct: false, column: operand.column, form: { base, index, scale, displacement: value.value, ...(forced === undefined ? {} : { displacementSize: forced }) } };
}
