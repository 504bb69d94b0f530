import type { Size } from './assembler-encode.ts';
import { LineError, TokenReader, tokenize } from './assembler-expression.ts';
import type { Expression, Token } from './assembler-expression.ts';
import type { SourceLine } from './assembler-macro.ts';
import type { MnemonicIndex, Prefixes, SourceInstruction } from './assembler-match.ts';
import { segmentNames } from './assembler-names.ts';
import { parseOperand } from './assembler-operand.ts';

/** An element of db, dw, dd, dq: a string, a floating-point number (its bits), or an expression. */
export type DataItem = { readonly kind: 'bytes'; readonly bytes: Uint8Array } | { readonly kind: 'value'; readonly expression: Expression };

export type StatementBody =
  | { readonly kind: 'label'; readonly name: string; readonly column: number }
  | { readonly kind: 'equ'; readonly name: string; readonly expression: Expression; readonly column: number }
  | { readonly kind: 'section'; readonly name: string; readonly align: number; readonly nobits: boolean | null; readonly vstart: Expression | null }
  | { readonly kind: 'absolute' | 'org'; readonly expression: Expression }
  | { readonly kind: 'instruction'; readonly instruction: SourceInstruction }
  | { readonly kind: 'data'; readonly unit: number; readonly items: readonly DataItem[] }
  | { readonly kind: 'reserve'; readonly unit: number; readonly count: Expression }
  | { readonly kind: 'align'; readonly boundary: Expression; readonly fill: Expression | null; readonly zero: boolean }
  | { readonly kind: 'times'; readonly count: Expression; readonly body: StatementBody };

export interface Statement {
  readonly source: SourceLine;
  readonly body: StatementBody;
  /** Bytes the instruction needed so far: it never shrinks again, so that the passes come to an end. */
  floor: number;
}

const dataUnits: Readonly<Record<string, number>> = { db: 1, dw: 2, dd: 4, dq: 8 };
const reserveUnits: Readonly<Record<string, number>> = { resb: 1, resw: 2, resd: 4, resq: 8 };
const directives = new Set([...Object.keys(dataUnits), ...Object.keys(reserveUnits), 'times', 'equ', 'align', 'alignb', 'section', 'segment', 'bits', 'use16', 'use32', 'use64', 'org', 'global', 'extern', 'default', 'absolute', 'cpu']);
const repeats: Readonly<Record<string, number>> = { rep: 0xf3, repe: 0xf3, repz: 0xf3, repne: 0xf2, repnz: 0xf2 };
const sizePrefixes = new Set(['o16', 'o32', 'o64', 'a16', 'a32', 'a64']);

/** Turns lines into statements; keeps what depends on the lines before (bits, default rel, the label that owns local ones). */
export class StatementParser {
  private readonly index: MnemonicIndex;
  private codeSize: Size;
  private relative = false;
  private owner = '';

  constructor(index: MnemonicIndex, codeSize: Size) {
    this.index = index;
    this.codeSize = codeSize;
  }

  /** Statements of one line: label first. */
  parse(source: SourceLine): Statement[] {
    const tokens = tokenize(source.text);
    const reader = new TokenReader(tokens, (name) => this.qualify(name));
    const list: Statement[] = [];
    const add = (body: StatementBody | null): void => {
      if (body) list.push({ source, body, floor: 0 });
    };
    if (reader.atEnd()) return list;
    if (reader.take('[')) {
      add(this.statement(reader));
      reader.expect(']');
      reader.end();
      return list;
    }
    const label = this.label(reader);
    if (label) {
      const name = this.qualify(label.text);
      if (reader.take('equ')) {
        add({ kind: 'equ', name, expression: reader.expression(), column: label.column });
        reader.end();
        return list;
      }
      if (!label.text.startsWith('.')) this.owner = label.text;
      add({ kind: 'label', name, column: label.column });
      if (reader.atEnd()) return list;
    }
    add(this.statement(reader));
    reader.end();
    return list;
  }

  private qualify(name: string): string {
    return name.startsWith('.') && !name.startsWith('..') ? this.owner + name : name;
  }

  private known(token: Token): boolean {
    if (token.kind !== 'name') return false;
    const word = token.text.toLowerCase();
    return directives.has(word) || word === 'lock' || repeats[word] !== undefined || sizePrefixes.has(word) || segmentNames.includes(word) || this.index.find(word.toUpperCase()).length > 0;
  }

  private label(reader: TokenReader): Token | null {
    const { token } = reader;
    if (token.kind !== 'name') reader.fail('a label, an instruction or a directive');
    if (reader.peek().text === ':' && reader.peek().kind === 'punctuation') {
      reader.next();
      reader.next();
      return token;
    }
    if (this.known(token) && reader.peek().text.toLowerCase() !== 'equ') return null;
    if (this.known(reader.peek())) return reader.next();
    throw new LineError(token.column, reader.peek().kind === 'end'
      ? `expected an instruction, a directive or a label with ':', found '${token.text}'`
      : `expected an instruction or a directive, found '${token.text}'`);
  }

  private statement(reader: TokenReader): StatementBody | null {
    const { token } = reader;
    const word = token.kind === 'name' ? token.text.toLowerCase() : '';
    if (!directives.has(word)) return { kind: 'instruction', instruction: this.instruction(reader) };
    reader.next();
    if (dataUnits[word]) return { kind: 'data', unit: dataUnits[word], items: this.data(reader, dataUnits[word]) };
    if (reserveUnits[word]) return { kind: 'reserve', unit: reserveUnits[word], count: reader.expression() };
    switch (word) {
      case 'times': {
        const count = reader.expression();
        const body = this.statement(reader);
        if (!body || !/^(instruction|data|reserve|times)$/.test(body.kind)) throw new LineError(token.column, 'expected an instruction or data after times');
        return { kind: 'times', count, body };
      }
      case 'align': case 'alignb': {
        const boundary = reader.expression();
        if (!reader.take(',')) return { kind: 'align', boundary, fill: null, zero: word === 'alignb' };
        if (reader.take('resb')) {
          reader.expression();
          return { kind: 'align', boundary, fill: null, zero: true };
        }
        if (reader.take('nop')) return { kind: 'align', boundary, fill: null, zero: false };
        reader.take('db');
        return { kind: 'align', boundary, fill: reader.expression(), zero: false };
      }
      case 'section': case 'segment': return this.section(reader);
      case 'bits': {
        const size = Number(reader.token.value);
        if (size !== 16 && size !== 32 && size !== 64) reader.fail('16, 32 or 64');
        reader.next();
        this.codeSize = size;
        return null;
      }
      case 'use16': this.codeSize = 16; return null;
      case 'use32': this.codeSize = 32; return null;
      case 'use64': this.codeSize = 64; return null;
      case 'org': case 'absolute': return { kind: word, expression: reader.expression() };
      case 'default':
        if (reader.take('rel')) this.relative = true;
        else if (reader.take('abs')) this.relative = false;
        else reader.fail("'rel' or 'abs'");
        return null;
      case 'global': case 'cpu':
        while (!reader.atEnd() && reader.token.text !== ']') reader.next();
        return null;
      case 'extern': throw new LineError(token.column, "expected a symbol of this source: a flat image has nothing to link, so 'extern' has no meaning");
      default: throw new LineError(token.column, 'expected a name before equ');
    }
  }

  private section(reader: TokenReader): StatementBody {
    if (reader.token.kind !== 'name') reader.fail('a section name');
    const name = reader.next().text;
    let align = 0;
    let nobits: boolean | null = null;
    let vstart: Expression | null = null;
    for (;;) {
      if (reader.take('align')) {
        reader.expect('=');
        const { column } = reader.token;
        align = reader.number('a power of two');
        if (align < 1 || (align & (align - 1)) !== 0) throw new LineError(column, `expected a power of two, found ${align}`);
      } else if (reader.take('vstart')) {
        reader.expect('=');
        vstart = reader.expression();
      } else if (reader.take('nobits')) nobits = true;
      else if (reader.take('progbits')) nobits = false;
      else if (!reader.take('exec') && !reader.take('write') && !reader.take('noexec') && !reader.take('nowrite') && !reader.take('alloc')) break;
    }
    return { kind: 'section', name, align, nobits, vstart };
  }

  private data(reader: TokenReader, unit: number): DataItem[] {
    const items: DataItem[] = [];
    do {
      const { token } = reader;
      const follower = reader.peek().text;
      const last = follower === ',' || reader.peek().kind === 'end' || follower === ']';
      const negative = token.text === '-' && token.kind === 'punctuation' && reader.peek().kind === 'float';
      if (token.kind === 'string' && last) {
        const bytes = new Uint8Array(Math.ceil(token.text.length / unit) * unit);
        for (let i = 0; i < token.text.length; i++) bytes[i] = token.text.charCodeAt(i);
        items.push({ kind: 'bytes', bytes });
        reader.next();
      } else if (token.kind === 'float' || negative) {
        if (negative) reader.next();
        const value = Number(reader.token.text) * (negative ? -1 : 1);
        const bytes = new Uint8Array(unit);
        const view = new DataView(bytes.buffer);
        if (unit === 4) view.setFloat32(0, value, true);
        else if (unit === 8) view.setFloat64(0, value, true);
        else reader.fail('an integer (floating-point numbers go in dd and dq)');
        items.push({ kind: 'bytes', bytes });
        reader.next();
      } else items.push({ kind: 'value', expression: reader.expression() });
    } while (reader.take(','));
    return items;
  }

  private instruction(reader: TokenReader): SourceInstruction {
    const prefixes: { -readonly [K in keyof Prefixes]: Prefixes[K] } = { lock: false, rep: 0, segment: -1, operandSize: 0, addressSize: 0 };
    for (;;) {
      const word = reader.token.kind === 'name' ? reader.token.text.toLowerCase() : '';
      if (word === 'lock') prefixes.lock = true;
      else if (repeats[word]) prefixes.rep = repeats[word];
      else if (sizePrefixes.has(word)) prefixes[word[0] === 'o' ? 'operandSize' : 'addressSize'] = Number(word.slice(1)) as Size;
      else if (segmentNames.includes(word)) prefixes.segment = segmentNames.indexOf(word);
      else break;
      reader.next();
    }
    const { token } = reader;
    const mnemonic = token.text.toUpperCase();
    if (token.kind !== 'name' || this.index.find(mnemonic).length === 0) reader.fail('an instruction');
    reader.next();
    const operands = [];
    if (!reader.atEnd()) {
      do operands.push(parseOperand(reader, this.relative));
      while (reader.take(','));
    }
    return { mnemonic, column: token.column, prefixes, operands, codeSize: this.codeSize };
  }
}
