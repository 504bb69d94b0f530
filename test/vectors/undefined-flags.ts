import { registerNames } from './layout.ts';
import type { VectorCase } from './reader.ts';

const CF = 1, PF = 4, AF = 0x10, ZF = 0x40, SF = 0x80, OF = 0x800;
const ALL = CF | PF | AF | ZF | SF | OF;

/** Flags that the SDM's "Flags Affected" paragraph calls undefined whatever the operands are. */
const always: Readonly<Record<string, number>> = {
  AND: AF, OR: AF, XOR: AF, TEST: AF,
  MUL: SF | ZF | AF | PF, IMUL: SF | ZF | AF | PF, DIV: ALL, IDIV: ALL,
  BT: OF | SF | AF | PF, BTS: OF | SF | AF | PF, BTR: OF | SF | AF | PF, BTC: OF | SF | AF | PF,
  BSF: CF | OF | SF | AF | PF, BSR: CF | OF | SF | AF | PF, TZCNT: OF | SF | AF | PF, LZCNT: OF | SF | AF | PF,
  DAA: OF, DAS: OF, AAA: OF | SF | ZF | PF, AAS: OF | SF | ZF | PF, AAM: OF | AF | CF, AAD: OF | AF | CF,
};

/** Operand size of a shift in bits, from its prefixes. */
function operandSize({ form }: VectorCase): number {
  if (/r\/m8/.test(form.syntax)) return 8;
  const bytes = [...form.bytes];
  const prefixes = bytes.slice(0, bytes.findIndex((byte) => ![0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x2e, 0x36, 0x3e, 0x26].includes(byte)));
  if (form.codeSize === 64 && (bytes[prefixes.length]! & 0xf8) === 0x48) return 64;
  return prefixes.includes(0x66) === (form.codeSize !== 16) ? 16 : 32;
}

/** Count operand before masking: the 1, CL or the immediate (the last byte). */
function shiftCount({ form, initial }: VectorCase): number {
  if (form.syntax.endsWith(', 1')) return 1;
  return form.syntax.endsWith('CL') ? Number(initial.registers[1]! & 0xffn) : form.bytes[form.bytes.length - 1]!;
}

function shiftUndefined(mnemonic: string, vector: VectorCase): number {
  const size = operandSize(vector);
  const count = shiftCount(vector) & (size === 64 ? 63 : 31);
  if (count === 0) return 0; // no flag is affected
  const overflow = count === 1 ? 0 : OF;
  switch (mnemonic) {
    case 'ROL': case 'ROR': case 'RCL': case 'RCR': return overflow;
    case 'SAR': return overflow | AF;
    case 'SHL': case 'SHR': return overflow | AF | (count >= size ? CF : 0);
    default: return overflow | AF | (count > size ? ALL : 0); // SHLD, SHRD
  }
}

const shifts: ReadonlySet<string> = new Set(['ROL', 'ROR', 'RCL', 'RCR', 'SHL', 'SHR', 'SAR', 'SHLD', 'SHRD']);

/** What the SDM leaves open in the outcome of a case: EFLAGS bits, and registers as a bit mask. */
export function undefinedOutcome(vector: VectorCase): { readonly flags: number; readonly registers: number } {
  const mnemonic = vector.form.syntax.split(' ')[0]!;
  if (vector.exception) return { flags: 0, registers: 0 }; // a fault leaves everything
  const flags = shifts.has(mnemonic) ? shiftUndefined(mnemonic, vector) : (always[mnemonic] ?? 0);
  let registers = 0;
  if ((mnemonic === 'BSF' || mnemonic === 'BSR') && vector.final.flags & ZF) {
    // "If the content of the source operand is 0, the content of the destination operand is undefined."
    const name = / (\w+),/.exec(vector.form.text)![1]!;
    registers = 1 << registerNumber(name);
  }
  // REP with 32-bit addresses and a count of 0: whether the upper halves of RCX, RSI and RDI are cleared is not said (this host does)
  if (vector.form.codeSize === 64 && repeated.test(vector.form.text) && /\ba32\b/.test(vector.form.text) && (vector.initial.registers[1]! & 0xffffffffn) === 0n) registers = (1 << 1) | (1 << 6) | (1 << 7);
  return { flags, registers };
}

const repeated = /\brep(e|ne)?\b/;

/** Number of a 16-, 32- or 64-bit register by its name in the disassembly. */
function registerNumber(name: string): number {
  const number = registerNames.indexOf(/^r\d/.test(name) ? name.replace(/[dw]$/, '') : `r${name.slice(-2)}`);
  if (number < 0) throw new Error(`vectors: '${name}' is not a register name`);
  return number;
}
