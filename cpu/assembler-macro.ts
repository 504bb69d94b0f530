import { LineError, TokenReader, evaluate, tokenize } from './assembler-expression.ts';
import type { Problem } from './assembler-expression.ts';

/** A line ready to assemble, with the place it is reported at. */
export interface SourceLine {
  readonly text: string;
  readonly file: string;
  readonly line: number;
  /** Columns of `text` are those of the file (no macro or %define changed it). */
  readonly verbatim: boolean;
}

interface Macro { readonly name: string; readonly least: number; readonly most: number; readonly greedy: boolean; readonly defaults: readonly string[]; readonly body: readonly SourceLine[] }

const pieces = /"[^"]*"|'[^']*'|`(?:\\.|[^`\\])*`|[A-Za-z_.?@$][\w.?@#~$]*|\d\w*|;.*|./g;
const MAXIMUM_DEPTH = 64;

/** Line without its comment. */
function stripComment(text: string): string {
  let at = 0;
  for (const [piece] of text.matchAll(pieces)) {
    if (piece[0] === ';') return text.slice(0, at);
    at += piece.length;
  }
  return text;
}

function splitArguments(text: string): string[] {
  if (text.trim() === '') return [];
  const list: string[] = [''];
  let depth = 0;
  for (const [piece] of text.matchAll(pieces)) {
    if (piece === '{') { if (depth++ === 0) continue; }
    if (piece === '}') { if (--depth === 0) continue; }
    if (piece === ',' && depth === 0) list.push('');
    else list[list.length - 1] += piece;
  }
  return list.map((argument) => argument.trim());
}

/**
 * Expands %include, %define, %assign, %macro, %rep and conditionals. `include` gives the text of a file by the name in
 * %include; problems are added to `problems`.
 */
export class Preprocessor {
  private readonly include: (name: string) => string | undefined;
  private readonly problems: Problem[];
  private readonly defines = new Map<string, string>();
  private readonly macros = new Map<string, Macro[]>();
  private readonly output: SourceLine[] = [];
  /** One entry per open %if: is this branch live, has one been, is the part around it live. */
  private readonly conditions: { live: boolean; taken: boolean; outer: boolean; line: SourceLine }[] = [];
  private collecting: { kind: 'macro' | 'rep'; head: string; body: SourceLine[]; depth: number; at: SourceLine } | null = null;
  private expansions = 0;
  private depth = 0;

  constructor(include: (name: string) => string | undefined, defines: Readonly<Record<string, string | number>>, problems: Problem[]) {
    this.include = include;
    this.problems = problems;
    for (const [name, value] of Object.entries(defines)) this.defines.set(name, String(value));
  }

  run(source: string, file: string): SourceLine[] {
    this.text(source, file);
    if (this.collecting) this.complain(this.collecting.at, 1, `expected %end${this.collecting.kind === 'macro' ? 'macro' : 'rep'} before the end of the source`);
    const open = this.conditions.at(-1);
    if (open) this.complain(open.line, 1, 'expected %endif before the end of the source');
    return this.output;
  }

  private text(source: string, file: string): void {
    const lines = source.split(/\r?\n/);
    for (let i = 0; i < lines.length; i++) {
      let text = lines[i]!;
      const line = i + 1;
      while (text.endsWith('\\') && i + 1 < lines.length) text = text.slice(0, -1) + lines[++i]!;
      this.line({ text, file, line, verbatim: true });
    }
  }

  private complain(at: SourceLine, column: number, reason: string): void {
    this.problems.push({ file: at.file, line: at.line, column, reason });
  }

  private get live(): boolean {
    const last = this.conditions.at(-1);
    return !last || (last.live && last.outer);
  }

  private line(source: SourceLine): void {
    const directive = /^\s*%([a-zA-Z]+)\b\s*(.*)$/.exec(source.text);
    const word = directive?.[1]!.toLowerCase() ?? '';
    if (this.collecting) {
      const { kind, body } = this.collecting;
      if (word === 'macro' && kind === 'macro') this.collecting.depth++;
      if (word === 'rep' && kind === 'rep') this.collecting.depth++;
      if ((kind === 'macro' && word === 'endmacro') || (kind === 'rep' && word === 'endrep')) {
        if (--this.collecting.depth === 0) {
          this.finish();
          return;
        }
      }
      body.push(source);
      return;
    }
    try {
      if (directive) this.directive(source, word, stripComment(directive[2]!).trim());
      else if (this.live) this.ordinary(source);
    } catch (problem) {
      if (!(problem instanceof LineError)) throw problem;
      this.complain(source, problem.column, problem.message);
    }
  }

  private directive(source: SourceLine, word: string, rest: string): void {
    const column = source.text.indexOf('%') + 1;
    if (/^(el)?if/.test(word)) {
      const test = (): boolean => this.test(word.replace(/^el/, ''), rest, column);
      if (word.startsWith('if')) {
        const outer = this.live;
        const live = outer && test();
        this.conditions.push({ live, taken: live, outer, line: source });
      } else {
        const last = this.conditions.at(-1);
        if (!last) throw new LineError(column, `%${word} without %if`);
        last.live = last.outer && !last.taken && test();
        last.taken ||= last.live;
      }
      return;
    }
    if (word === 'else' || word === 'endif') {
      const last = this.conditions.at(-1);
      if (!last) throw new LineError(column, `%${word} without %if`);
      if (word === 'endif') this.conditions.pop();
      else {
        last.live = !last.taken;
        last.taken = true;
      }
      return;
    }
    if (!this.live) return;
    const definition = /^([A-Za-z_.?@$][\w.?@#~$]*)\s*(.*)$/.exec(rest);
    switch (word) {
      case 'define': case 'xdefine': case 'assign':
        if (!definition || definition[2]!.startsWith('(')) throw new LineError(column, `expected a name without parameters after %${word}`);
        this.defines.set(definition[1]!, word === 'define' ? definition[2]! : word === 'assign' ? String(this.number(definition[2]!, column)) : this.substitute(definition[2]!));
        return;
      case 'undef':
        this.defines.delete(rest);
        return;
      case 'macro': case 'rep':
        this.collecting = { kind: word, head: rest, body: [], depth: 1, at: source };
        return;
      case 'include': {
        const name = /^["'`<](.+)["'`>]$/.exec(rest)?.[1];
        if (name === undefined) throw new LineError(column, 'expected a file name in quotes after %include');
        const text = this.include(name);
        if (text === undefined) throw new LineError(column, `expected an existing file, found '${name}'`);
        if (++this.depth > MAXIMUM_DEPTH) throw new LineError(column, `%include is nested deeper than ${MAXIMUM_DEPTH}`);
        this.text(text, name);
        this.depth--;
        return;
      }
      case 'error':
        throw new LineError(column, rest.replace(/^["']|["']$/g, ''));
      default:
        throw new LineError(column, `'%${word}' is not a directive of this assembler`);
    }
  }

  private finish(): void {
    const { kind, head, body, at } = this.collecting!;
    this.collecting = null;
    if (kind === 'rep') {
      try {
        const count = this.number(head, 1);
        for (let i = 0n; i < count; i++) for (const line of body) this.line(line);
      } catch (problem) {
        if (!(problem instanceof LineError)) throw problem;
        this.complain(at, problem.column, problem.message);
      }
      return;
    }
    const m = /^(\S+)(?:\s+(\d+)(?:-(\d+|\*))?(\+)?)?(?:\s+(.*))?$/.exec(head);
    if (!m) {
      this.complain(at, 1, 'expected a name and a number of parameters after %macro');
      return;
    }
    const least = Number(m[2] ?? 0);
    const most = m[3] === undefined ? least : m[3] === '*' ? Infinity : Number(m[3]);
    const list = this.macros.get(m[1]!.toLowerCase()) ?? [];
    list.push({ name: m[1]!, least, most, greedy: m[4] !== undefined, defaults: splitArguments(m[5] ?? ''), body });
    this.macros.set(m[1]!.toLowerCase(), list);
  }

  private test(word: string, rest: string, column: number): boolean {
    switch (word) {
      case 'if': return this.number(rest, column) !== 0n;
      case 'ifdef': return this.defines.has(rest);
      case 'ifndef': return !this.defines.has(rest);
      case 'ifmacro': return this.macros.has(rest.split(/\s/)[0]!.toLowerCase());
      case 'ifidn': case 'ifidni': case 'ifnidn': case 'ifnidni': {
        const [a, b] = splitArguments(this.substitute(rest)).map((argument) => (word.endsWith('i') ? argument.toLowerCase() : argument));
        return (a === b) !== word.startsWith('ifn');
      }
      default: throw new LineError(column, `'%${word}' is not a directive of this assembler`);
    }
  }

  /** Value of an expression that must be known while the source is being read. */
  private number(text: string, column: number): bigint {
    const reader = new TokenReader(tokenize(this.substitute(text)), (name) => name);
    try {
      const expression = reader.expression();
      reader.end();
      const value = evaluate(expression, { symbol: (name) => { throw new LineError(column, `expected a number known here, found the symbol '${name}'`); }, here: 0n, start: 0n });
      return value.value;
    } catch (problem) {
      throw problem instanceof LineError ? new LineError(column, problem.message) : problem;
    }
  }

  /** Replaces defined names, outside strings. */
  private substitute(text: string, busy: ReadonlySet<string> = new Set()): string {
    if (this.defines.size === 0) return text;
    return text.replace(pieces, (piece) => {
      const value = this.defines.get(piece);
      return value === undefined || busy.has(piece) ? piece : this.substitute(value, new Set([...busy, piece]));
    });
  }

  private ordinary(source: SourceLine): void {
    const text = this.substitute(stripComment(source.text));
    const line = text.trimEnd() === stripComment(source.text).trimEnd() ? { ...source, text } : { ...source, text, verbatim: false };
    if (this.macros.size) {
      const m = /^(\s*(?:[A-Za-z_.?@][\w.?@#~$]*\s*:)?)\s*([A-Za-z_.?@][\w.?@#~$]*)(?:\s+(.*))?$/.exec(text);
      const macros = m ? this.macros.get(m[2]!.toLowerCase()) : undefined;
      if (m && macros) {
        if (m[1]!.trim()) this.output.push({ ...line, text: m[1]! });
        this.call(line, macros, m[3] ?? '');
        return;
      }
    }
    this.output.push(line);
  }

  private call(at: SourceLine, macros: readonly Macro[], text: string): void {
    let given = splitArguments(text);
    const macro = macros.find(({ least, most, greedy }) => given.length >= least && (greedy || given.length <= most));
    const column = at.text.search(/\S/) + 1;
    if (!macro) throw new LineError(column, `expected ${macros.map(({ least, most }) => (least === most ? least : `${least} to ${most}`)).join(' or ')} arguments of ${macros[0]!.name}, found ${given.length}`);
    if (++this.depth > MAXIMUM_DEPTH) {
      this.depth--;
      throw new LineError(column, `macro calls are nested deeper than ${MAXIMUM_DEPTH}`);
    }
    if (macro.greedy && given.length > macro.most) given = [...given.slice(0, macro.most - 1), given.slice(macro.most - 1).join(', ')];
    const all = [...given];
    while (all.length < macro.most && macro.defaults[all.length - macro.least] !== undefined) all.push(macro.defaults[all.length - macro.least]!);
    const number = ++this.expansions;
    for (const line of macro.body) {
      const text = line.text.replace(/%%(?=[A-Za-z_])|%\{(\d+)\}|%(\d+)/g, (piece, braced: string | undefined, plain: string | undefined) => {
        if (piece === '%%') return `..@${number}.`;
        const which = Number(braced ?? plain);
        return which === 0 ? String(all.length) : all[which - 1] ?? '';
      });
      this.line({ text, file: at.file, line: at.line, verbatim: false });
    }
    this.depth--;
  }
}
