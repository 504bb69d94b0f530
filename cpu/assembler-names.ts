import type { Size } from './assembler-encode.ts';

export type RegisterClass = 'gpr' | 'sreg' | 'cr' | 'dr' | 'xmm' | 'st';

/** A register as written in assembly text. */
export interface Register {
  readonly name: string;
  readonly kind: RegisterClass;
  readonly number: number;
  /** Bits; 0 for control and debug registers, whose width is that of the mode. */
  readonly bits: number;
  /** 'high': AH..BH, impossible beside REX. 'rex': SPL..DIL, needs REX. */
  readonly byte?: 'high' | 'rex';
}

const low = ['ax', 'cx', 'dx', 'bx', 'sp', 'bp', 'si', 'di'];
const bytes = ['al', 'cl', 'dl', 'bl', 'spl', 'bpl', 'sil', 'dil'];
const highBytes = ['ah', 'ch', 'dh', 'bh'];
export const segmentNames: readonly string[] = ['es', 'cs', 'ss', 'ds', 'fs', 'gs'];

/** Name of a general register. Without REX, byte registers 4..7 are AH..BH. */
export function gprName(number: number, bits: number, rex: boolean): string {
  if (bits === 8) {
    if (number > 7) return `r${number}b`;
    return number > 3 && !rex ? highBytes[number - 4]! : bytes[number]!;
  }
  if (number > 7) return `r${number}${bits === 16 ? 'w' : bits === 32 ? 'd' : ''}`;
  return (bits === 16 ? '' : bits === 32 ? 'e' : 'r') + low[number]!;
}

function buildRegisters(): Map<string, Register> {
  const all: Register[] = [];
  for (let number = 0; number < 16; number++) {
    for (const bits of [16, 32, 64]) all.push({ name: gprName(number, bits, true), kind: 'gpr', number, bits });
    all.push({ name: gprName(number, 8, true), kind: 'gpr', number, bits: 8, ...(number > 3 ? { byte: 'rex' } : {}) });
    all.push({ name: `xmm${number}`, kind: 'xmm', number, bits: 128 }, { name: `cr${number}`, kind: 'cr', number, bits: 0 }, { name: `dr${number}`, kind: 'dr', number, bits: 0 });
  }
  highBytes.forEach((name, i) => all.push({ name, kind: 'gpr', number: i + 4, bits: 8, byte: 'high' }));
  segmentNames.forEach((name, number) => all.push({ name, kind: 'sreg', number, bits: 16 }));
  for (let number = 0; number < 8; number++) all.push({ name: `st${number}`, kind: 'st', number, bits: 80 });
  return new Map(all.map((register) => [register.name, register]));
}

/** Registers by lower-case name. */
export const registers: ReadonlyMap<string, Register> = buildRegisters();

/** Condition spellings with one meaning (SDM "Jcc", "SETcc", "CMOVcc"). */
const conditions = [['B', 'C', 'NAE'], ['NB', 'NC', 'AE'], ['Z', 'E'], ['NZ', 'NE'], ['BE', 'NA'], ['NBE', 'A'], ['P', 'PE'], ['NP', 'PO'], ['L', 'NGE'], ['NL', 'GE'], ['LE', 'NG'], ['NLE', 'G']];

const groups: readonly (readonly string[])[] = [
  ...['J', 'SET', 'CMOV'].flatMap((verb) => conditions.map((names) => names.map((name) => verb + name))),
  ['SHL', 'SAL'], ['XLATB', 'XLAT'], ['RET', 'RETN'], ['INT1', 'ICEBP'], ['LOOPE', 'LOOPZ'], ['LOOPNE', 'LOOPNZ'],
  ['WAIT', 'FWAIT'], ['UD2', 'UD2A'],
];

/** Other spellings to look for in the rows, by upper-case mnemonic. */
export const synonyms: ReadonlyMap<string, readonly string[]> = new Map(groups.flatMap((group) => group.map((name) => [name, group.filter((other) => other !== name)] as const)));

/** Mnemonics that are another one with an operand size (where the rows do not have them as such). */
export const sizedMnemonics: ReadonlyMap<string, readonly [string, Size]> = new Map([
  ['RETFQ', ['RETF', 64]], ['RETFD', ['RETF', 32]], ['RETFW', ['RETF', 16]], ['RETQ', ['RET', 64]], ['RETD', ['RET', 32]], ['RETW', ['RET', 16]],
  ['SYSRETQ', ['SYSRET', 64]], ['SYSEXITQ', ['SYSEXIT', 64]], ['ENTERD', ['ENTER', 32]], ['ENTERW', ['ENTER', 16]], ['LEAVED', ['LEAVE', 32]], ['LEAVEW', ['LEAVE', 16]],
]);

/** CMPccPS and so on: the predicate is the immediate (SDM "CMPPS", pseudo-op table). */
export const comparePredicates: readonly string[] = ['EQ', 'LT', 'LE', 'UNORD', 'NEQ', 'NLT', 'NLE', 'ORD'];
