import type { Semantics } from './semantics.ts';
import type { SystemBody } from './cpu.ts';

/** One operand of a row, parsed from its SDM token. */
export interface Operand {
  readonly text: string;
  /** Where the operand comes from. */
  readonly kind: 'reg' | 'rm' | 'mem' | 'rmreg' | 'imm' | 'rel' | 'moffs' | 'far' | 'fixed' | 'sreg' | 'cr' | 'dr' | 'xmm' | 'xmmrm' | 'xmmreg' | 'one';
  /** b 8, w 16, d 32, q 64, v = operand size (16/32/64), y = 32 or 64 (64 in 64-bit mode with REX.W, or as the row forces), z = 16 or 32, x 128, n = none. */
  readonly width: 'b' | 'w' | 'd' | 'q' | 'v' | 'y' | 'z' | 'x' | 't' | 'n';
  /** Register number of a fixed operand (AL, eAX, CL, DX …), or segment number of a fixed segment register. */
  readonly fixed?: number;
  /** imm: sign-extended to the operand size. */
  readonly signed?: boolean;
}

/** The encoding of a row, parsed from SDM notation. */
export interface Encoding {
  /** Mandatory prefix; 'NP' = none of 66 F2 F3 allowed to select another row; null = prefixes keep their ordinary meaning. */
  readonly prefix: 'NP' | '66' | 'F2' | 'F3' | null;
  /** 0 one byte, 1 0F, 2 0F 38, 3 0F 3A. */
  readonly map: 0 | 1 | 2 | 3;
  readonly opcode: number;
  /** The low three opcode bits name a register. */
  readonly plusRegister: boolean;
  /** null: no ModRM byte; 'r': ModRM.reg is an operand; 0..7: opcode extension. */
  readonly modrm: null | 'r' | number;
  /** Whole ModRM byte fixed by the row (0F 01 C1 …), else -1. */
  readonly modrmByte: number;
  /** Bytes after ModRM and displacement: ib iw id iz iv cb cz far moffs. */
  readonly immediates: readonly string[];
  /** Only with this operand size (o16, o32, o64 = REX.W). */
  readonly operandSize: 0 | 16 | 32 | 64;
  /** Only with this address size (a16, a32, a64). */
  readonly addressSize: 0 | 16 | 32 | 64;
}

export interface RowOptions {
  /** 'no64': #UD in 64-bit mode; 'only64': exists only there. */
  readonly mode?: 'no64' | 'only64';
  /** Operand size in 64-bit mode: 'd64' = 64 unless 66 makes it 16; 'f64' = always 64. */
  readonly size?: 'd64' | 'f64';
  /** LOCK is allowed with a memory destination. */
  readonly lock?: true;
  /** 'rep': F2/F3 repeat; 'repe': they repeat while ZF agrees. */
  readonly rep?: 'rep' | 'repe';
  /** CPUID feature without which the row is #UD (name in cpu/cpuid.ts). */
  readonly feature?: string;
  /** Cost class (cpu/cost.ts); default: 'alu'. */
  readonly cost?: string;
  /** Never ends a block although its body is a system body. */
  readonly straight?: true;
}

/** One instruction, declared once: every decoder, assembler, disassembler, engine and document reads this. */
export interface Row extends RowOptions {
  /** Index in the table: stable within one build. */
  readonly id: number;
  /** As written: 'ADD r/mv, rv'. */
  readonly syntax: string;
  readonly mnemonic: string;
  readonly operands: readonly Operand[];
  /** As written: '01 /r'. */
  readonly notation: string;
  readonly encoding: Encoding;
  /** Meaning as micro-ops, or null. */
  readonly semantics: Semantics | null;
  /** Meaning as a TypeScript function over the CPU, or null. Exactly one of the two is set. */
  readonly system: SystemBody | null;
}

const fixedRegisters: Record<string, readonly [number, Operand['width']]> = {
  AL: [0, 'b'], AX: [0, 'w'], EAX: [0, 'd'], RAX: [0, 'q'], rAX: [0, 'v'], zAX: [0, 'z'], CL: [1, 'b'], DX: [2, 'w'],
};

function parseOperand(text: string): Operand {
  const fixed = fixedRegisters[text];
  if (fixed) return { text, kind: 'fixed', fixed: fixed[0], width: fixed[1] };
  const segment = ['ES', 'CS', 'SS', 'DS', 'FS', 'GS'].indexOf(text);
  if (segment >= 0) return { text, kind: 'sreg', width: 'w', fixed: segment };
  if (text === '1') return { text, kind: 'one', width: 'b' };
  const sizes: Record<string, Operand['width']> = { '8': 'b', '16': 'w', '32': 'd', '64': 'q', '80': 't', '128': 'x', v: 'v', y: 'y', z: 'z', '': 'n' };
  let m: RegExpExecArray | null;
  if ((m = /^r(8|16|32|64|v|y)$/.exec(text))) return { text, kind: 'reg', width: sizes[m[1]!]! };
  if ((m = /^R(8|16|32|64|v|y)$/.exec(text))) return { text, kind: 'rmreg', width: sizes[m[1]!]! };
  if ((m = /^r\/m(8|16|32|64|v|y)$/.exec(text))) return { text, kind: 'rm', width: sizes[m[1]!]! };
  if ((m = /^m(8|16|32|64|80|128|v|y|)$/.exec(text))) return { text, kind: 'mem', width: sizes[m[1]!]! };
  if (/^m(16&64|16:v|v&v)$/.test(text)) return { text, kind: 'mem', width: 'n' };
  if ((m = /^imm(8|16|32|64|z|v)(s?)$/.exec(text))) return { text, kind: 'imm', width: sizes[m[1]!]!, ...(m[2] || m[1] === 'z' ? { signed: true } : {}) };
  if ((m = /^rel(8|z)$/.exec(text))) return { text, kind: 'rel', width: sizes[m[1]!]! };
  if ((m = /^moffs(8|v)$/.exec(text))) return { text, kind: 'moffs', width: sizes[m[1]!]! };
  if (text === 'ptr16:z') return { text, kind: 'far', width: 'z' };
  if (text === 'Sreg') return { text, kind: 'sreg', width: 'w' };
  if (text === 'CRn') return { text, kind: 'cr', width: 'y' };
  if (text === 'DRn') return { text, kind: 'dr', width: 'y' };
  if (text === 'xmm') return { text, kind: 'xmm', width: 'x' };
  if (text === 'Xmm') return { text, kind: 'xmmreg', width: 'x' };
  if ((m = /^xmm\/m(32|64|128)$/.exec(text))) return { text, kind: 'xmmrm', width: sizes[m[1]!]! };
  throw new Error(`row operand '${text}' is not in the notation of cpu/row.ts`);
}

function parseEncoding(notation: string): Encoding {
  let prefix: Encoding['prefix'] = null;
  let map: Encoding['map'] = 0;
  let opcode = -1;
  let plusRegister = false;
  let modrm: Encoding['modrm'] = null;
  let modrmByte = -1;
  let operandSize: Encoding['operandSize'] = 0;
  let addressSize: Encoding['addressSize'] = 0;
  const immediates: string[] = [];
  const tokens = notation.split(' ');
  tokens.forEach((token, index) => {
    if (token === 'NP') prefix = 'NP';
    else if (/^o(16|32)$/.test(token)) operandSize = Number(token.slice(1)) as 16 | 32;
    else if (token === 'REX.W') operandSize = 64;
    else if (/^a(16|32|64)$/.test(token)) addressSize = Number(token.slice(1)) as 16 | 32 | 64;
    else if (/^(66|F2|F3)$/.test(token) && opcode < 0 && map === 0 && index < tokens.length - 1 && prefix === null) prefix = token as '66';
    else if (/^[0-9A-F]{2}\+r$/.test(token)) { opcode = parseInt(token, 16); plusRegister = true; }
    else if (/^[0-9A-F]{2}$/.test(token)) {
      const byte = parseInt(token, 16);
      if (opcode >= 0) modrmByte = byte;
      else if (map === 0 && byte === 0x0f && tokens.length > index + 1) map = 1;
      else if (map === 1 && byte === 0x38) map = 2;
      else if (map === 1 && byte === 0x3a) map = 3;
      else opcode = byte;
    } else if (token === '/r') modrm = 'r';
    else if (/^\/[0-7]$/.test(token)) modrm = Number(token[1]);
    else if (/^(ib|iw|id|iz|iv|cb|cz|far|moffs)$/.test(token)) immediates.push(token);
    else throw new Error(`row encoding '${notation}': token '${token}' is not in the notation of cpu/row.ts`);
  });
  if (opcode < 0) throw new Error(`row encoding '${notation}' has no opcode`);
  if (modrmByte >= 0) modrm = (modrmByte >> 3) & 7;
  return { prefix, map, opcode, plusRegister, modrm, modrmByte, immediates, operandSize, addressSize };
}

/** Marks a TypeScript body; see {@link SystemBody}. */
export function system(body: SystemBody): { readonly system: SystemBody } {
  return { system: body };
}

/** Declares one row. The id is given when the tables are put together (cpu/isa.ts). */
export function insn(syntax: string, notation: string, meaning: Semantics | { readonly system: SystemBody }, options: RowOptions = {}): Omit<Row, 'id'> {
  const space = syntax.indexOf(' ');
  const mnemonic = space < 0 ? syntax : syntax.slice(0, space);
  const operands = space < 0 ? [] : syntax.slice(space + 1).split(',').map((text) => parseOperand(text.trim()));
  const micro = typeof meaning === 'function';
  return { syntax, mnemonic, operands, notation, encoding: parseEncoding(notation), semantics: micro ? meaning : null, system: micro ? null : meaning.system, ...options };
}
