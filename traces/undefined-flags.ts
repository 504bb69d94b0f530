import type { Instruction } from '../cpu/instruction.ts';
import { Flag, Gpr, STATUS_FLAGS } from '../cpu/state.ts';

const { CF, PF, AF, ZF, SF, OF } = Flag;

/** Status flags that the "Flags Affected" paragraphs of the SDM leave undefined whatever the operands are. */
const always: Readonly<Record<string, number>> = {
  AND: AF, OR: AF, XOR: AF, TEST: AF,
  MUL: SF | ZF | AF | PF, IMUL: SF | ZF | AF | PF, DIV: STATUS_FLAGS, IDIV: STATUS_FLAGS,
  BT: OF | SF | AF | PF, BTS: OF | SF | AF | PF, BTR: OF | SF | AF | PF, BTC: OF | SF | AF | PF,
  BSF: CF | OF | SF | AF | PF, BSR: CF | OF | SF | AF | PF, TZCNT: OF | SF | AF | PF, LZCNT: OF | SF | AF | PF,
  DAA: OF, DAS: OF, AAA: OF | SF | ZF | PF, AAS: OF | SF | ZF | PF, AAM: OF | AF | CF, AAD: OF | AF | CF,
};
const rotates: ReadonlySet<string> = new Set(['ROL', 'ROR', 'RCL', 'RCR']);
const doubles: ReadonlySet<string> = new Set(['SHLD', 'SHRD']);
const shifts: ReadonlySet<string> = new Set([...rotates, ...doubles, 'SHL', 'SHR', 'SAR']);

/** Status flags that are undefined after an instruction; `rcx` is RCX before it (the count of shifts by CL). */
export function undefinedFlags(insn: Instruction, rcx: number): number {
  const { mnemonic, operands } = insn.row;
  if (!shifts.has(mnemonic)) return always[mnemonic] ?? 0;
  const last = operands.at(-1)!;
  const size = operands[0]!.width === 'b' ? 8 : insn.operandSize;
  const count = (last.kind === 'one' ? 1 : last.kind === 'fixed' && last.fixed === Gpr.RCX ? rcx & 0xff : insn.immediate & 0xff) & (size === 64 ? 63 : 31);
  if (count === 0) return 0;
  const overflow = count === 1 ? 0 : OF;
  if (rotates.has(mnemonic)) return overflow;
  if (doubles.has(mnemonic)) return count > size ? STATUS_FLAGS : overflow | AF;
  return overflow | AF | (mnemonic !== 'SAR' && count >= size ? CF : 0);
}

/** The register that is undefined after an instruction with these flags, or -1 (BSF and BSR of zero, long double shifts). */
export function undefinedRegister(insn: Instruction, rcx: number, flags: number): number {
  const { mnemonic } = insn.row;
  if ((mnemonic === 'BSF' || mnemonic === 'BSR') && flags & ZF) return insn.reg;
  if (doubles.has(mnemonic) && undefinedFlags(insn, rcx) === STATUS_FLAGS && !insn.memory) return insn.rm;
  return -1;
}
