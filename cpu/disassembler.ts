import { defaultOperandSize, memoryBits, operandBits } from './assembler-encode.ts';
import { gprName, segmentNames } from './assembler-names.ts';
import type { Instruction } from './instruction.ts';
import type { Operand } from './row.ts';

export interface DisassembleOptions {
  /**
   * Say every size the encoding chose (strict, short, near, nosplit …), so that the assembler makes the same bytes wherever its
   * syntax can tell encodings apart. Without it the text is plain and assembles to the shortest encoding of the same meaning.
   */
  readonly exact?: boolean;
  /** Name of an address, used for branch targets and RIP-relative operands. */
  readonly symbol?: (address: bigint) => string | undefined;
}

const sizeNames: Readonly<Record<number, string>> = { 8: 'byte', 16: 'word', 32: 'dword', 64: 'qword', 80: 'tword', 128: 'oword' };

/** Rows that address memory or count by registers no operand shows: the address size matters. */
const implicitAddress = /^(MOVS|CMPS|STOS|LODS|SCAS|INS|OUTS)[Bv]$|^XLATB$|^LOOP|^MASKMOV|^MONITOR$/;

/** Rows whose memory operand NASM takes without a size. */
const addressOnly = /^(CLFLUSH|PREFETCH\w*|INVLPG|VMPTRLD|VMPTRST|VMCLEAR|VMXON)$/;

/** The row works on bytes: an operand-size prefix changes nothing. */
function byteSized(operand: Operand | undefined): boolean {
  return operand !== undefined && operand.width === 'b' && /^(reg|rm|mem|fixed|moffs)$/.test(operand.kind);
}

function hex(value: bigint): string {
  return value < 0n ? `-0x${(-value).toString(16)}` : `0x${value.toString(16)}`;
}

function quad(low: number, high: number): bigint {
  return BigInt.asIntN(64, (BigInt(high) << 32n) | BigInt(low >>> 0));
}

class Writer {
  private readonly insn: Instruction;
  private readonly address: bigint;
  private readonly options: DisassembleOptions;
  /** The operand size can be read from what is printed. */
  private sizeShown: boolean;
  private addressShown: boolean;
  private memoryShown = false;
  private immediates = 0;

  constructor(insn: Instruction, address: bigint, options: DisassembleOptions) {
    this.insn = insn;
    this.address = address;
    this.options = options;
    const { row } = insn;
    this.sizeShown = row.encoding.operandSize !== 0 || row.encoding.prefix !== null || row.mnemonic.endsWith('v');
    this.addressShown = row.encoding.addressSize !== 0;
  }

  text(): string {
    const { insn, options } = this;
    const { row } = insn;
    let operands = row.operands.map((operand) => this.operand(operand));
    // NASM (and so the assembler) writes the first register of XCHG to ModRM.reg.
    if (row.mnemonic === 'XCHG' && !row.encoding.plusRegister && !insn.memory) operands = operands.reverse();
    let prefix = insn.lock ? 'lock ' : '';
    if (insn.rep && row.encoding.prefix === null) prefix += insn.rep === 0xf2 ? 'repne ' : row.rep === 'repe' ? 'repe ' : 'rep ';
    if (!this.memoryShown && insn.override >= 0) prefix += `${segmentNames[insn.override]} `;
    if (!this.sizeShown && (options.exact || !byteSized(row.operands[0])) && insn.operandSize !== defaultOperandSize(row, insn.codeSize)) prefix += `o${insn.operandSize} `;
    if (!this.addressShown && (options.exact || this.memoryShown || implicitAddress.test(row.mnemonic)) && insn.addressSize !== insn.codeSize) prefix += `a${insn.addressSize} `;
    return prefix + this.mnemonic() + (operands.length ? ` ${operands.join(', ')}` : '');
  }

  private mnemonic(): string {
    const { mnemonic } = this.insn.row;
    if (!mnemonic.endsWith('v')) return mnemonic.toLowerCase();
    const stem = mnemonic.slice(0, -1);
    const { operandSize } = this.insn;
    // REX.W leaves port accesses at 32 bits.
    const letter = operandSize === 16 ? 'w' : operandSize === 64 && !/^(INS|OUTS)$/.test(stem) ? 'q' : 'd';
    return stem.toLowerCase() + letter;
  }

  private register(number: number, bits: number): string {
    return gprName(number, bits, this.insn.rex !== 0);
  }

  private operand(operand: Operand): string {
    const { insn } = this;
    const bits = operandBits(operand, insn.operandSize);
    const sized = 'vyz'.includes(operand.width);
    const shown = (): void => { if (sized) this.sizeShown = true; };
    switch (operand.kind) {
      case 'reg':
        shown();
        return this.register(insn.row.encoding.plusRegister ? insn.rm : insn.reg, bits);
      case 'rmreg':
        shown();
        return this.register(insn.rm, bits);
      case 'rm': case 'mem': {
        if (!insn.memory) {
          shown();
          return this.register(insn.rm, bits);
        }
        const width = memoryBits(insn.row, operand, insn.operandSize);
        if (width === bits) shown();
        return this.memory(operand, width);
      }
      case 'fixed':
        shown();
        return gprName(operand.fixed!, bits, true);
      case 'sreg': return segmentNames[operand.fixed ?? insn.reg]!;
      case 'cr': return `cr${insn.reg}`;
      case 'dr': return `dr${insn.reg}`;
      case 'xmm': return `xmm${insn.reg}`;
      case 'xmmreg': return `xmm${insn.rm}`;
      case 'xmmrm': return insn.memory ? this.memory(operand, bits) : `xmm${insn.rm}`;
      case 'one': return '1';
      case 'imm': return this.immediate(operand, bits);
      case 'rel': return this.target(operand);
      case 'moffs': {
        shown();
        const value = BigInt.asUintN(insn.addressSize, quad(insn.displacement, insn.displacementHigh));
        this.memoryShown = true;
        return `${sizeNames[bits]} [${insn.addressSize === 64 ? 'qword ' : ''}${this.override()}${hex(value)}]`;
      }
      case 'far':
        this.sizeShown = true;
        return `${sizeNames[bits]} ${hex(BigInt(insn.immediate2 & 0xffff))}:${hex(BigInt.asUintN(bits, BigInt(insn.immediate)))}`;
    }
  }

  private override(): string {
    return this.insn.override >= 0 ? `${segmentNames[this.insn.override]}:` : '';
  }

  private named(value: bigint): string {
    return this.options.symbol?.(value) ?? hex(value);
  }

  private memory(operand: Operand, bits: number): string {
    const { insn } = this;
    const { addressSize, base, index } = insn;
    this.memoryShown = true;
    let size = bits && !addressOnly.test(insn.row.mnemonic) ? `${sizeNames[bits]} ` : '';
    if (operand.text === 'm16:v') {
      this.sizeShown = true;
      size = /^(JMP|CALL)$/.test(insn.row.mnemonic) ? `${sizeNames[insn.operandSize]} far ` : '';
    }
    const displacement = BigInt.asIntN(addressSize, quad(insn.displacement, insn.displacementHigh));
    if (base === 16) {
      const target = BigInt.asUintN(addressSize, this.address + BigInt(insn.length) + displacement);
      return `${size}[rel ${this.override()}${this.named(target)}]`;
    }
    if (base < 0 && index < 0) return `${size}[${this.override()}${hex(BigInt.asUintN(addressSize, displacement))}]`;
    this.addressShown = true;
    const name = (register: number): string => gprName(register, addressSize, true);
    const mod = insn.modrm >> 6;
    const small = displacement === BigInt.asIntN(8, displacement);
    // Without a base the address is in DS even for EBP: the assembler must not make the index a base.
    let hints = base < 0 && insn.scale < 2 ? 'nosplit ' : '';
    let shownZero = false;
    if (this.options.exact && base >= 0) {
      if (mod === 1 && displacement === 0n && !this.baseNeedsDisplacement()) hints += 'byte ';
      if (mod === 2 && small) hints += addressSize === 16 ? 'word ' : 'dword ';
      shownZero = mod !== 0;
    }
    const parts = [base >= 0 ? name(base) : '', index >= 0 ? name(index) + (insn.scale || base < 0 ? `*${1 << insn.scale}` : '') : ''].filter(Boolean);
    const tail = displacement === 0n && !shownZero ? '' : displacement < 0n ? hex(displacement) : `+${hex(displacement)}`;
    return `${size}[${hints}${this.override()}${parts.join('+')}${tail}]`;
  }

  private baseNeedsDisplacement(): boolean {
    const { addressSize, base, index } = this.insn;
    return addressSize === 16 ? base === 5 && index < 0 : (base & 7) === 5;
  }

  private immediate(operand: Operand, bits: number): string {
    const { insn } = this;
    const first = this.immediates++ === 0;
    const raw = first ? quad(insn.immediate, insn.immediateHigh) : BigInt(insn.immediate2);
    const token = insn.row.encoding.immediates[first ? 0 : 1]!;
    const encoded = token === 'ib' ? 8 : token === 'iw' ? 16 : token === 'iv' ? insn.operandSize : insn.operandSize === 16 ? 16 : 32;
    // MOV has forms with and without sign extension: one value looks the same in both.
    const signed = operand.signed && !(insn.row.mnemonic === 'MOV' && bits < 64 && insn.operandSize !== 64);
    const value = signed ? BigInt.asIntN(Math.max(bits, encoded), raw) : BigInt.asUintN(encoded, raw);
    let hint = '';
    if (!this.options.exact && insn.row.mnemonic === 'PUSH' && insn.operandSize !== defaultOperandSize(insn.row, insn.codeSize)) {
      this.sizeShown = true;
      hint = `${sizeNames[insn.operandSize]} `;
    }
    if (this.options.exact) {
      const alternatives = token === 'iz' || token === 'iv' || (token === 'ib' && operand.signed);
      if (alternatives) hint = `strict ${sizeNames[encoded]} `;
      // Shifts have a form of their own for 1.
      else if (token === 'ib' && value === 1n && /^(RO[LR]|RC[LR]|SH[LR]|SAR)$/.test(insn.row.mnemonic)) hint = 'byte ';
    }
    return hint + hex(value);
  }

  private target(operand: Operand): string {
    const { insn } = this;
    const width = insn.codeSize === 64 ? 64 : insn.operandSize;
    const target = BigInt.asUintN(width, this.address + BigInt(insn.length) + quad(insn.immediate, insn.immediateHigh));
    const choice = /^J/.test(insn.row.mnemonic) && !/CXZ$/.test(insn.row.mnemonic);
    return (this.options.exact && choice ? (operand.width === 'b' ? 'short ' : 'near ') : '') + this.named(target);
  }
}

/**
 * Intel-syntax text of a decoded instruction at a linear address; the assembler reads it back to an instruction of the same
 * meaning, the same bytes where they were the canonical encoding. Give addresses beyond 2^53 as BigInt.
 */
export function disassemble(insn: Instruction, address: number | bigint, options: DisassembleOptions = {}): string {
  return new Writer(insn, BigInt.asUintN(64, BigInt(address)), options).text();
}
