import type { Size } from './assembler-encode.ts';
import { AssemblyError, LineError, evaluate } from './assembler-expression.ts';
import type { Expression, Problem, Scope } from './assembler-expression.ts';
import { Preprocessor } from './assembler-macro.ts';
import { Matcher } from './assembler-match.ts';
import { StatementParser } from './assembler-statement.ts';
import type { Statement, StatementBody } from './assembler-statement.ts';
import type { Row } from './row.ts';

export { AssemblyError } from './assembler-expression.ts';
export type { Problem } from './assembler-expression.ts';
export { encodeInstance } from './assembler-encode.ts';
export type { InstanceForm, MemoryForm, Size } from './assembler-encode.ts';

export interface AssembleOptions {
  /** Address of the first byte where the source has no `org`; default 0. */
  readonly origin?: number | bigint;
  /** Code size before the first `bits`; default 16, as in NASM. */
  readonly bits?: Size;
  /** Text of a file by the name in %include, or undefined if there is none. */
  readonly include?: (name: string) => string | undefined;
  /** File name in messages; default 'source'. */
  readonly file?: string;
  /** Names defined before the first line. */
  readonly defines?: Readonly<Record<string, string | number>>;
}

export interface ListingLine {
  readonly file: string;
  readonly line: number;
  /** Exact below 2^53. */
  readonly address: number;
  /** Bytes. */
  readonly length: number;
}

export interface Assembled {
  /** The image from the origin on; sections without contents (.bss) are not in it. */
  readonly bytes: Uint8Array;
  /** Address of bytes[0]. Exact below 2^53. */
  readonly origin: number;
  /** Address after the last byte, reserved ones (.bss) included: what must be free in memory is origin..limit. */
  readonly limit: number;
  /** Labels and constants by full name ('loop.next'); signed 64-bit values rounded to numbers, exact below 2^53. */
  readonly symbols: ReadonlyMap<string, number>;
  /** The same values exactly. */
  readonly exactSymbols: ReadonlyMap<string, bigint>;
  /** Source lines that made bytes, in order; macro lines count to the line of the call. */
  readonly listing: readonly ListingLine[];
  /** Address of `_start` (or `start`), if the source has it. */
  readonly entry?: number;
}

const MAXIMUM_PASSES = 60;
/** Passes in which an instruction may still shrink: by then the origin and the rough layout are known. */
const FREE_PASSES = 2;
const MAXIMUM_BYTES = 1 << 28;

class Section {
  readonly name: string;
  align: number;
  nobits: boolean;
  /** Address of the first byte. */
  address = 0n;
  /** Offset in the image. */
  fileOffset = 0;
  vstart: Expression | null = null;
  size = 0;
  bytes = new Uint8Array(256);
  /** Not part of the image (`absolute`). */
  readonly outside: boolean;

  constructor(name: string, outside = false) {
    this.name = name;
    this.outside = outside;
    this.nobits = outside || name === '.bss';
    this.align = name === '.text' || outside ? 1 : 4;
  }

  get here(): bigint {
    return this.address + BigInt(this.size);
  }

  append(bytes: Uint8Array): void {
    this.room(bytes.length);
    if (!this.nobits) this.bytes.set(bytes, this.size - bytes.length);
  }

  fill(count: number, value: number): void {
    this.room(count);
    if (!this.nobits) this.bytes.fill(value, this.size - count, this.size);
  }

  private room(count: number): void {
    this.size += count;
    if (this.nobits) return;
    if (this.size > MAXIMUM_BYTES) throw new LineError(1, `expected at most ${MAXIMUM_BYTES} bytes in ${this.name}`);
    if (this.size > this.bytes.length) {
      const larger = new Uint8Array(Math.max(this.size, this.bytes.length * 2));
      larger.set(this.bytes);
      this.bytes = larger;
    }
  }
}

/** One index per table: sources are often assembled by the dozen. */
const matchers = new WeakMap<readonly Row[], Matcher>();

class Assembly {
  private readonly matcher: Matcher;
  private readonly statements: Statement[] = [];
  private readonly sections = new Map<string, Section>();
  /** A label is an offset in its section, so that it moves with the section at once; a constant has no section. */
  private readonly symbols = new Map<string, { value: bigint; labels: number; section: Section | null }>();
  private readonly declared = new Map<string, Statement>();
  private readonly syntaxProblems: Problem[] = [];
  private passProblems: Problem[] = [];
  private listing: ListingLine[] = [];
  private section: Section;
  private origin: bigint;
  private changed = false;
  private readonly file: string;

  constructor(source: string, rows: readonly Row[], options: AssembleOptions) {
    const known = matchers.get(rows);
    this.matcher = known ?? new Matcher(rows);
    if (!known) matchers.set(rows, this.matcher);
    this.file = options.file ?? 'source';
    this.origin = BigInt(options.origin ?? 0);
    this.section = this.open('.text');
    const lines = new Preprocessor(options.include ?? (() => undefined), options.defines ?? {}, this.syntaxProblems).run(source, this.file);
    const parser = new StatementParser(this.matcher.index, options.bits ?? 16);
    for (const line of lines) this.guard(line, this.syntaxProblems, () => {
      for (const statement of parser.parse(line)) {
        const { body } = statement;
        if (body.kind === 'label' || body.kind === 'equ') {
          const earlier = this.declared.get(body.name);
          if (earlier) throw new LineError(body.column, `expected a new name, found '${body.name}', defined in line ${earlier.source.line}`);
          this.declared.set(body.name, statement);
        }
        this.statements.push(statement);
      }
    });
  }

  run(): Assembled {
    this.stopOn(this.syntaxProblems);
    for (let pass = 1; ; pass++) {
      this.pass(pass);
      // Pass 1 guesses what it does not know; a problem counts only once everything has settled.
      if (pass > 1 && !this.changed) break;
      if (pass === MAXIMUM_PASSES) this.stopOn([...this.passProblems, { file: this.file, line: 1, column: 1, reason: `expected sizes and addresses to settle; they still change after ${MAXIMUM_PASSES} passes (a size depends on itself)` }]);
    }
    this.stopOn(this.passProblems);
    return this.result();
  }

  private stopOn(problems: readonly Problem[]): void {
    const sorted = [...problems];
    if (sorted.length) throw new AssemblyError(sorted as [Problem, ...Problem[]]);
  }

  private guard(line: { file: string; line: number; verbatim: boolean; text: string }, problems: Problem[], body: () => void): void {
    try {
      body();
    } catch (problem) {
      if (!(problem instanceof LineError)) throw problem;
      const reason = line.verbatim ? problem.message : `${problem.message} (in '${line.text.trim()}' after expansion)`;
      problems.push({ file: line.file, line: line.line, column: line.verbatim ? problem.column : 1, reason });
    }
  }

  private open(name: string): Section {
    let section = this.sections.get(name);
    if (!section) this.sections.set(name, section = new Section(name));
    return section;
  }

  private define(name: string, value: bigint, labels: number, section: Section | null): void {
    const before = this.symbols.get(name);
    if (before && before.value === value && before.labels === labels && before.section === section) return;
    this.symbols.set(name, { value, labels, section });
    this.changed = true;
  }

  private scope(): Scope {
    return {
      here: this.section.here,
      start: this.section.address,
      symbol: (name, column) => {
        if (!this.declared.has(name)) throw new LineError(column, `expected a defined symbol, found '${name}'`);
        const found = this.symbols.get(name);
        return found?.section ? { value: found.section.address + found.value, labels: found.labels } : found;
      },
    };
  }

  private pass(number: number): void {
    this.changed = number === 1;
    this.passProblems = [];
    this.listing = [];
    const sizes = new Map([...this.sections.values()].map((section) => [section, section.size] as const));
    for (const section of this.sections.values()) section.size = 0;
    this.section = this.open('.text');
    for (const statement of this.statements) {
      this.guard(statement.source, this.passProblems, () => {
        const { section } = this;
        const before = section.size;
        this.statement(statement, statement.body, this.scope(), number);
        if (section.size > before && this.section === section) this.listing.push({ file: statement.source.file, line: statement.source.line, address: Number(section.address) + before, length: section.size - before });
      });
    }
    for (const [name, section] of this.sections) if (sizes.get(section) !== section.size && (section.size !== 0 || name !== '.text')) this.changed = true;
    this.layout();
  }

  /** Contents one after another from the origin, then the reserved sections. */
  private layout(): void {
    let at = this.origin;
    let offset = 0;
    const all = [...this.sections.values()].filter((section) => !section.outside);
    for (const section of [...all.filter((each) => !each.nobits), ...all.filter((each) => each.nobits)]) {
      const align = BigInt(section.align);
      const start = section.name === '.text' ? at : (at + align - 1n) / align * align;
      offset += Number(start - at);
      let address = start;
      if (section.vstart) {
        const { vstart } = section;
        const value = evaluate(vstart, { ...this.scope(), here: start, start });
        address = value.value;
      }
      if (section.address !== address || section.fileOffset !== offset) this.changed = true;
      section.address = address;
      section.fileOffset = offset;
      at = start + BigInt(section.size);
      offset += section.size;
    }
  }

  private count(expression: Expression, scope: Scope, what: string): number {
    const value = evaluate(expression, scope);
    if (value.unknown) return 0;
    if (value.registers.size || value.value < 0n || value.value > BigInt(MAXIMUM_BYTES)) throw new LineError(expression.column, `expected ${what} from 0 to ${MAXIMUM_BYTES}, found ${value.value}`);
    return Number(value.value);
  }

  private statement(statement: Statement, body: StatementBody, scope: Scope, pass: number): void {
    const { section } = this;
    switch (body.kind) {
      case 'label':
        if (section.outside) this.define(body.name, section.here, 1, null);
        else this.define(body.name, BigInt(section.size), 1, section);
        break;
      case 'equ': {
        const value = evaluate(body.expression, scope);
        if (value.registers.size) throw new LineError(body.expression.column, 'expected a value without registers');
        if (!value.unknown) this.define(body.name, value.value, value.labels, null);
        else this.changed = true;
        break;
      }
      case 'section': {
        const opened = this.open(body.name);
        if (body.align) opened.align = Math.max(opened.align, body.align);
        if (body.nobits !== null) opened.nobits = body.nobits;
        if (body.vstart) opened.vstart = body.vstart;
        this.section = opened;
        break;
      }
      case 'org': {
        const value = evaluate(body.expression, scope);
        if (value.value !== this.origin) this.changed = true;
        this.origin = value.value;
        break;
      }
      case 'absolute': {
        const outside = new Section('absolute', true);
        outside.address = evaluate(body.expression, scope).value;
        this.section = outside;
        break;
      }
      case 'instruction': {
        const { bytes } = this.matcher.choose(body.instruction, scope, section.here, statement.floor);
        if (pass > FREE_PASSES && bytes.length > statement.floor) statement.floor = bytes.length;
        this.contents(body.instruction.column);
        section.append(bytes);
        break;
      }
      case 'data': {
        this.contents(1);
        for (const item of body.items) section.append(item.kind === 'bytes' ? item.bytes : this.value(item.expression, body.unit, scope));
        break;
      }
      case 'reserve':
        section.fill(this.count(body.count, scope, 'a count') * body.unit, 0);
        break;
      case 'align': {
        const boundary = this.count(body.boundary, scope, 'a boundary');
        if (boundary < 1 || (boundary & (boundary - 1)) !== 0) throw new LineError(body.boundary.column, `expected a power of two, found ${boundary}`);
        section.align = Math.max(section.align, boundary);
        // Without a value the gap is NOPs, as NASM's align does in every section.
        const fill = body.fill ? Number(BigInt.asUintN(8, evaluate(body.fill, scope).value)) : body.zero ? 0 : 0x90;
        section.fill((boundary - section.size % boundary) % boundary, fill);
        break;
      }
      case 'times': {
        const count = this.count(body.count, scope, 'a count');
        if (body.body.kind === 'instruction' || body.body.kind === 'times') {
          // `$` stays the start of the line, the instructions move on.
          for (let i = 0; i < count; i++) this.statement(statement, body.body, scope, pass);
          break;
        }
        if (count === 0) break;
        const before = section.size;
        this.statement(statement, body.body, scope, pass);
        const length = section.size - before;
        const once = section.nobits ? new Uint8Array(0) : section.bytes.slice(before, section.size);
        if (length === 1) section.fill(count - 1, once[0] ?? 0);
        else if (section.nobits) section.fill(length * (count - 1), 0);
        else for (let i = 1; i < count; i++) section.append(once);
        break;
      }
    }
  }

  private contents(column: number): void {
    if (this.section.nobits) throw new LineError(column, `expected only reserved space in ${this.section.name}`);
  }

  private value(expression: Expression, unit: number, scope: Scope): Uint8Array {
    const value = evaluate(expression, scope);
    if (value.registers.size) throw new LineError(expression.column, 'expected a value without registers');
    const bits = BigInt(unit * 8);
    if (unit < 8 && !value.unknown && (value.value < -(1n << bits) || value.value >= 1n << bits)) throw new LineError(expression.column, `expected a value of ${bits} bits, found ${value.value}`);
    const bytes = new Uint8Array(unit);
    let rest = BigInt.asUintN(unit * 8, value.value);
    for (let i = 0; i < unit; i++) {
      bytes[i] = Number(rest & 0xffn);
      rest >>= 8n;
    }
    return bytes;
  }

  private result(): Assembled {
    const all = [...this.sections.values()].filter((section) => section.size > 0);
    const contents = all.filter((section) => !section.nobits);
    const length = contents.reduce((end, section) => Math.max(end, section.fileOffset + section.size), 0);
    const bytes = new Uint8Array(length);
    for (const section of contents) bytes.set(section.bytes.subarray(0, section.size), section.fileOffset);
    const named = [...this.symbols].filter(([name]) => !name.startsWith('..@')).map(([name, { value, section }]) => [name, value + (section?.address ?? 0n)] as const);
    const symbols = new Map(named.map(([name, value]) => [name, Number(value)]));
    const entry = symbols.get('_start') ?? symbols.get('start');
    const origin = Number(this.origin);
    const limit = origin + all.reduce((end, section) => Math.max(end, section.fileOffset + section.size), 0);
    return { bytes, origin, limit, symbols, exactSymbols: new Map(named), listing: this.listing, ...(entry === undefined ? {} : { entry }) };
  }
}

/**
 * Assembles NASM-style Intel syntax into a flat image, reading the same rows as the decoder. Throws AssemblyError (file, line,
 * column, reason) if the source does not assemble.
 */
export function assemble(source: string, rows: readonly Row[], options: AssembleOptions = {}): Assembled {
  return new Assembly(source, rows, options).run();
}
