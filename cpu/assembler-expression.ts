import { registers } from './assembler-names.ts';
import type { Register } from './assembler-names.ts';

/** One thing wrong with the source, with its place (1-based line and column). */
export interface Problem { readonly file: string; readonly line: number; readonly column: number; readonly reason: string }

/** The source does not assemble. Describes the first problem; `problems` has all. */
export class AssemblyError extends Error {
  readonly file: string;
  readonly line: number;
  readonly column: number;
  /** The message without the place. */
  readonly reason: string;
  readonly problems: readonly Problem[];
  constructor(problems: readonly [Problem, ...Problem[]]) {
    const [first] = problems;
    super(`${first.file}:${first.line}:${first.column}: ${first.reason}${problems.length > 1 ? ` (and ${problems.length - 1} more)` : ''}`);
    this.name = 'AssemblyError';
    this.file = first.file;
    this.line = first.line;
    this.column = first.column;
    this.reason = first.reason;
    this.problems = problems;
  }
}

/** Thrown inside the assembler for one bad line; the pass catches it and goes on with the next line. */
export class LineError extends Error {
  readonly column: number;
  constructor(column: number, reason: string) {
    super(reason);
    this.column = column;
  }
}

export interface Token {
  readonly kind: 'name' | 'number' | 'string' | 'float' | 'punctuation' | 'end';
  readonly text: string;
  /** 1-based. */
  readonly column: number;
  readonly value: bigint;
}

const patterns = /\s+|;.*|([A-Za-z_.?@][\w.?@#~$]*|\$\$?(?![\w$]))|(\d+\.\d*(?:[eE][-+]?\d+)?|\d+[eE][-+]\d+)|(\d\w*)|("[^"]*"|'[^']*'|`(?:\\.|[^`\\])*`)|(<<|>>|\/\/|%%|==|!=|<>|<=|>=|&&|\|\||\^\^|[-+*/%&|^~!()[\],:<>=])/y;

const escapes: Record<string, number> = { n: 10, r: 13, t: 9, 0: 0, a: 7, b: 8, f: 12, v: 11, e: 27 };

/** Text of a string literal as byte values in a JavaScript string (UTF-8 source characters become bytes). */
function unquote(literal: string, column: number): string {
  const body = literal.slice(1, -1);
  const bytes = [...new TextEncoder().encode(body)].map((byte) => String.fromCharCode(byte)).join('');
  if (literal[0] !== '`') return bytes;
  return bytes.replace(/\\x([0-9a-fA-F]{1,2})|\\(.)/g, (_, hex: string | undefined, character: string | undefined) => {
    if (hex !== undefined) return String.fromCharCode(parseInt(hex, 16));
    if ('\'"`\\?'.includes(character!)) return character!;
    const code = escapes[character!];
    if (code === undefined) throw new LineError(column, `expected a known escape, found '\\${character}'`);
    return String.fromCharCode(code);
  });
}

function parseNumber(text: string, column: number): bigint {
  const t = text.replace(/_/g, '').toLowerCase();
  let m: RegExpExecArray | null;
  if (/^0x[0-9a-f]+$/.test(t) || /^0b[01]+$/.test(t) || /^0o[0-7]+$/.test(t)) return BigInt(t);
  if ((m = /^0h([0-9a-f]+)$/.exec(t)) || (m = /^([0-9][0-9a-f]*)h$/.exec(t))) return BigInt(`0x${m[1]}`);
  if ((m = /^0d(\d+)$/.exec(t)) || (m = /^(\d+)d?$/.exec(t))) return BigInt(m[1]!);
  if ((m = /^([01]+)[by]$/.exec(t)) || (m = /^0y([01]+)$/.exec(t))) return BigInt(`0b${m[1]}`);
  if ((m = /^([0-7]+)[oq]$/.exec(t)) || (m = /^0q([0-7]+)$/.exec(t))) return BigInt(`0o${m[1]}`);
  throw new LineError(column, `expected a number, found '${text}'`);
}

/** Splits one line; the comment is dropped, the last token has kind 'end'. */
export function tokenize(line: string): Token[] {
  const tokens: Token[] = [];
  let at = 0;
  while (at < line.length) {
    patterns.lastIndex = at;
    const m = patterns.exec(line);
    const column = at + 1;
    if (!m) throw new LineError(column, /["'`]/.test(line[at]!) ? 'expected a closing quote' : `unexpected character '${line[at]}'`);
    at = patterns.lastIndex;
    const [, name, float, number, string, punctuation] = m;
    if (name !== undefined) tokens.push({ kind: 'name', text: name, column, value: 0n });
    else if (float !== undefined) tokens.push({ kind: 'float', text: float, column, value: 0n });
    else if (number !== undefined) tokens.push({ kind: 'number', text: number, column, value: parseNumber(number, column) });
    else if (string !== undefined) tokens.push({ kind: 'string', text: unquote(string, column), column, value: 0n });
    else if (punctuation !== undefined) tokens.push({ kind: 'punctuation', text: punctuation, column, value: 0n });
  }
  tokens.push({ kind: 'end', text: 'end of line', column: line.trimEnd().length + 1, value: 0n });
  return tokens;
}

export type Expression =
  | { readonly kind: 'number'; readonly value: bigint; readonly column: number }
  | { readonly kind: 'symbol'; readonly name: string; readonly column: number }
  | { readonly kind: 'register'; readonly register: Register; readonly column: number }
  | { readonly kind: 'here' | 'start'; readonly column: number }
  | { readonly kind: 'unary'; readonly operator: string; readonly a: Expression; readonly column: number }
  | { readonly kind: 'binary'; readonly operator: string; readonly a: Expression; readonly b: Expression; readonly column: number };

const levels: readonly (readonly string[])[] = [['||'], ['^^'], ['&&'], ['=', '==', '!=', '<>', '<', '>', '<=', '>='], ['|'], ['^'], ['&'], ['<<', '>>'], ['+', '-'], ['*', '/', '//', '%', '%%']];

/** Reads tokens one after another; every complaint says what was expected and what stands there. */
export class TokenReader {
  readonly tokens: readonly Token[];
  at: number;
  /** Full name of a symbol as written ('.x' belongs to the label before it). */
  private readonly qualify: (name: string, column: number) => string;

  constructor(tokens: readonly Token[], qualify: (name: string, column: number) => string) {
    this.tokens = tokens;
    this.at = 0;
    this.qualify = qualify;
  }

  get token(): Token {
    return this.tokens[this.at]!;
  }

  peek(ahead = 1): Token {
    return this.tokens[Math.min(this.at + ahead, this.tokens.length - 1)]!;
  }

  next(): Token {
    const token = this.token;
    if (token.kind !== 'end') this.at++;
    return token;
  }

  /** Takes the punctuation or (lower-case) word if it stands here. */
  take(text: string): boolean {
    if (!this.is(text)) return false;
    this.at++;
    return true;
  }

  is(text: string): boolean {
    const { kind } = this.token;
    return (kind === 'punctuation' || kind === 'name') && this.token.text.toLowerCase() === text;
  }

  expect(text: string): void {
    if (!this.take(text)) this.fail(`'${text}'`);
  }

  fail(expected: string): never {
    throw new LineError(this.token.column, `expected ${expected}, found ${this.token.kind === 'end' ? 'end of line' : `'${this.token.text}'`}`);
  }

  atEnd(): boolean {
    return this.token.kind === 'end';
  }

  /** Takes a number, or says what was expected. */
  number(expected: string): number {
    if (this.token.kind !== 'number') this.fail(expected);
    return Number(this.next().value);
  }

  end(): void {
    if (this.token.kind !== 'end') this.fail('end of line');
  }

  expression(level = 0): Expression {
    if (level === levels.length) return this.unary();
    let a = this.expression(level + 1);
    while (this.token.kind === 'punctuation' && levels[level]!.includes(this.token.text)) {
      const { text, column } = this.next();
      a = { kind: 'binary', operator: text, a, b: this.expression(level + 1), column };
    }
    return a;
  }

  private unary(): Expression {
    const { kind, text, column, value } = this.token;
    if (kind === 'punctuation' && /^[-+~!]$/.test(text)) {
      this.at++;
      return { kind: 'unary', operator: text, a: this.unary(), column };
    }
    if (this.take('(')) {
      const inner = this.expression();
      this.expect(')');
      return inner;
    }
    if (kind === 'number') {
      this.at++;
      return { kind: 'number', value, column };
    }
    if (kind === 'string') {
      this.at++;
      if (text.length > 8) throw new LineError(column, 'expected a character constant of at most 8 bytes');
      let packed = 0n;
      for (let i = text.length - 1; i >= 0; i--) packed = (packed << 8n) | BigInt(text.charCodeAt(i));
      return { kind: 'number', value: packed, column };
    }
    if (kind === 'name') {
      this.at++;
      if (text === '$') return { kind: 'here', column };
      if (text === '$$') return { kind: 'start', column };
      const register = registers.get(text.toLowerCase());
      return register ? { kind: 'register', register, column } : { kind: 'symbol', name: this.qualify(text, column), column };
    }
    return this.fail('an expression');
  }
}

/** A value during one pass. */
export interface Evaluated {
  /** Signed 64-bit. */
  readonly value: bigint;
  /** Addresses counted in (+) and out (-): 0 for a plain number, so that its size may be optimised. */
  readonly labels: number;
  /** A symbol of it is not yet known; the value is a guess. */
  readonly unknown: boolean;
  /** Coefficients of registers, in the order written (memory operands only). */
  readonly registers: ReadonlyMap<Register, bigint>;
  /** The registers written with an explicit factor ([rax*1+rbx]): they prefer to be the index. */
  readonly scaled: ReadonlySet<Register>;
}

/** Symbols and position an expression is evaluated in. */
export interface Scope {
  /** Undefined: not known in this pass. */
  symbol(name: string, column: number): { readonly value: bigint; readonly labels: number } | undefined;
  readonly here: bigint;
  readonly start: bigint;
}

const noRegisters: ReadonlyMap<Register, bigint> = new Map();
const noneScaled: ReadonlySet<Register> = new Set();

function plain(value: bigint, labels = 0, unknown = false): Evaluated {
  return { value: BigInt.asIntN(64, value), labels, unknown, registers: noRegisters, scaled: noneScaled };
}

function combine(a: Evaluated, b: Evaluated, sign: 1n | -1n): Evaluated {
  const value = BigInt.asIntN(64, a.value + sign * b.value);
  const labels = a.labels + Number(sign) * b.labels;
  const unknown = a.unknown || b.unknown;
  if (a.registers.size === 0 && b.registers.size === 0) return { value, labels, unknown, registers: noRegisters, scaled: noneScaled };
  const sum = new Map(a.registers);
  for (const [register, factor] of b.registers) {
    const total = (sum.get(register) ?? 0n) + sign * factor;
    if (total === 0n) sum.delete(register);
    else sum.set(register, total);
  }
  return { value, labels, unknown, registers: sum, scaled: new Set([...a.scaled, ...b.scaled]) };
}

function multiply(a: Evaluated, factor: bigint): Evaluated {
  const scaled = new Map([...a.registers].map(([register, count]) => [register, count * factor] as const).filter(([, count]) => count !== 0n));
  return { value: BigInt.asIntN(64, a.value * factor), labels: a.labels * Number(BigInt.asIntN(32, factor)), unknown: a.unknown, registers: scaled, scaled: new Set(scaled.keys()) };
}

const truth = (condition: boolean): bigint => (condition ? 1n : 0n);

function arithmetic(operator: string, x: bigint, y: bigint, column: number): bigint {
  const ux = BigInt.asUintN(64, x);
  const uy = BigInt.asUintN(64, y);
  if (/^(\/\/?|%%?)$/.test(operator) && y === 0n) throw new LineError(column, 'expected a divisor other than 0');
  switch (operator) {
    case '/': return ux / uy;
    case '//': return x / y;
    case '%': return ux % uy;
    case '%%': return x % y;
    case '<<': return uy > 63n ? 0n : x << uy;
    case '>>': return uy > 63n ? 0n : ux >> uy;
    case '&': return x & y;
    case '|': return x | y;
    case '^': return x ^ y;
    case '=': case '==': return truth(x === y);
    case '!=': case '<>': return truth(x !== y);
    case '<': return truth(x < y);
    case '>': return truth(x > y);
    case '<=': return truth(x <= y);
    case '>=': return truth(x >= y);
    case '&&': return truth(x !== 0n && y !== 0n);
    case '||': return truth(x !== 0n || y !== 0n);
    default: return truth((x !== 0n) !== (y !== 0n)); // ^^
  }
}

/** Value of an expression; 64-bit two's complement as in NASM ('/', '%' and '>>' are unsigned, '//' and '%%' signed). */
export function evaluate(expression: Expression, scope: Scope): Evaluated {
  switch (expression.kind) {
    case 'number': return plain(expression.value);
    case 'here': return plain(scope.here, 1);
    case 'start': return plain(scope.start, 1);
    case 'register': return { value: 0n, labels: 0, unknown: false, registers: new Map([[expression.register, 1n]]), scaled: noneScaled };
    case 'symbol': {
      const found = scope.symbol(expression.name, expression.column);
      return found ? plain(found.value, found.labels) : plain(0n, 0, true);
    }
    case 'unary': {
      const a = evaluate(expression.a, scope);
      if (expression.operator === '-') return combine(plain(0n), a, -1n);
      if (expression.operator === '+') return a;
      if (a.registers.size) throw new LineError(expression.column, `'${expression.operator}' does not apply to a register`);
      return plain(expression.operator === '~' ? ~a.value : truth(a.value === 0n), 0, a.unknown);
    }
    case 'binary': {
      const a = evaluate(expression.a, scope);
      const b = evaluate(expression.b, scope);
      if (expression.operator === '+') return combine(a, b, 1n);
      if (expression.operator === '-') return combine(a, b, -1n);
      if (expression.operator === '*') {
        if (b.registers.size === 0 && b.labels === 0 && !b.unknown) return multiply(a, b.value);
        if (a.registers.size === 0 && a.labels === 0 && !a.unknown) return multiply(b, a.value);
      }
      if (a.registers.size || b.registers.size) throw new LineError(expression.column, `'${expression.operator}' does not apply to a register`);
      const unknown = a.unknown || b.unknown;
      if (expression.operator === '*') return plain(a.value * b.value, 1, unknown);
      // Guesses must not divide by zero.
      const y = unknown && b.value === 0n ? 1n : b.value;
      return plain(arithmetic(expression.operator, a.value, y, expression.column), a.labels || b.labels ? 1 : 0, unknown);
    }
  }
}
