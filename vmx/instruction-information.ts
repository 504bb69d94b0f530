import type { Instruction } from '../cpu/instruction.ts';

const sizeCode = (bits: 16 | 32 | 64): number => (bits === 16 ? 0 : bits === 32 ? 1 : 2);

/** Scale, address size, segment, index and base of a memory operand, as all formats share them. */
function memoryPart(insn: Instruction): number {
  const noIndex = insn.index < 0;
  const noBase = insn.base < 0 || insn.base === 16;
  return insn.scale | (sizeCode(insn.addressSize) << 7) | (insn.segment << 15)
    | (noIndex ? 1 << 22 : (insn.index << 18)) | (noBase ? 1 << 27 : (insn.base << 23));
}

/** VMCLEAR, VMPTRLD, VMPTRST, VMXON (SDM "Format of the VM-Exit Instruction-Information Field as Used for VMCLEAR, …"). */
export function memoryInformation(insn: Instruction): number { return memoryPart(insn) >>> 0; }
/** INVEPT, INVPCID, INVVPID: with the register operand. */
export function invalidateInformation(insn: Instruction): number { return (memoryPart(insn) | (insn.reg << 28)) >>> 0; }
/** VMREAD, VMWRITE: register or memory operand, and the register that holds the encoding or value. */
export function fieldInformation(insn: Instruction): number {
  return ((insn.memory ? memoryPart(insn) : (insn.rm << 3) | (1 << 10)) | (insn.reg << 28)) >>> 0;
}
/** LGDT, LIDT, SGDT, SIDT. `identity`: 0 SGDT, 1 SIDT, 2 LGDT, 3 LIDT. */
export function tableInformation(insn: Instruction, identity: number): number {
  return (memoryPart(insn) | (insn.operandSize === 16 ? 0 : 1 << 11) | (identity << 28)) >>> 0;
}
/** LLDT, LTR, SLDT, STR. `identity`: 0 SLDT, 1 STR, 2 LLDT, 3 LTR. */
export function selectorInformation(insn: Instruction, identity: number): number {
  return ((insn.memory ? memoryPart(insn) : (insn.rm << 3) | (1 << 10)) | (identity << 28)) >>> 0;
}
/** INS, OUTS: address size, and for OUTS the segment. */
export function stringInformation(insn: Instruction, output: boolean): number {
  return ((sizeCode(insn.addressSize) << 7) | (output ? insn.segment << 15 : 0)) >>> 0;
}
/** Exit qualification of instructions with a memory operand: the displacement, sign-extended; RIP-relative ones give the address itself. */
export function displacement(insn: Instruction, nextRip: number): number {
  return insn.memory ? (insn.base === 16 ? nextRip + insn.displacement : insn.displacement) : 0;
}
