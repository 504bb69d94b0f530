import type { Operand, Row } from './row.ts';

/** Size in bits of code, operands or addresses. */
export type Size = 16 | 32 | 64;

/** A memory operand in registers and displacement. */
export interface MemoryForm {
  /** Base register number, -1 none, 16 RIP (64-bit code only; `displacement` then counts from the end of the instruction). */
  readonly base: number;
  /** Index register number or -1. */
  readonly index: number;
  /** 0..3: the index is shifted left by this. */
  readonly scale: number;
  readonly displacement: number | bigint;
  /** Bits of displacement to encode; absent: the shortest that holds the value. */
  readonly displacementSize?: 0 | 8 | 16 | 32;
}

/** What varies between two instances of one row. */
export interface InstanceForm {
  readonly codeSize: Size;
  /** Effective operand size; absent: the row's default in this code size. */
  readonly operandSize?: Size;
  /** Effective address size; absent: that of the row or of the code. */
  readonly addressSize?: Size;
  /** REX bits to set besides those that follow from the operands (0x40 alone forces a REX prefix, so that 4..7 mean SPL..DIL). */
  readonly rex?: number;
  /** Register in ModRM.reg, 0..15. */
  readonly reg?: number;
  /** ModRM.rm or opcode register (0..15), or the memory operand. */
  readonly rm?: number | MemoryForm;
  /** Address of a moffs operand. */
  readonly moffs?: number | bigint;
  /** Values in the order of the row's immediates; a far pointer takes two (offset, selector); rel: distance from the end of the instruction. */
  readonly immediates?: readonly (number | bigint)[];
  /** Segment override (SegmentIndex), absent or -1: none. */
  readonly override?: number;
  readonly lock?: boolean;
  /** 0, 0xf2 or 0xf3. */
  readonly rep?: number;
}

const overridePrefixes = [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65];

/** Operand size the row has in code of this size without any prefix (with the prefixes it demands, where it demands a size). */
export function defaultOperandSize(row: Row, codeSize: Size): Size {
  if (codeSize === 64 && row.size) return 64;
  if (row.encoding.operandSize) return row.encoding.operandSize;
  return codeSize === 64 ? 32 : codeSize;
}

/** Width of an operand in bits under an operand size; 0 where the row gives none. */
export function operandBits(operand: Operand, operandSize: Size): number {
  switch (operand.width) {
    case 'b': return 8;
    case 'w': return 16;
    case 'd': return 32;
    case 'q': return 64;
    case 't': return 80;
    case 'x': return 128;
    case 'v': return operandSize;
    case 'y': return operandSize === 64 ? 64 : 32;
    case 'z': return operandSize === 16 ? 16 : 32;
    case 'n': return 0;
  }
}

/** Rows whose register form has the operand size and whose memory form stores 16 bits at any operand size. */
const wordInMemory = /^(MOV r\/mv, Sreg|(SLDT|STR|SMSW) r\/mv)$/;

/** Width in bits of a memory operand of the row; 0 where the row gives none. */
export function memoryBits(row: Row, operand: Operand, operandSize: Size): number {
  return wordInMemory.test(row.syntax) ? 16 : operandBits(operand, operandSize);
}

/** True if the operand size shows in an operand, an immediate or the mnemonic of the row. */
export function dependsOnOperandSize(row: Row): boolean {
  return row.mnemonic.endsWith('v') || row.operands.some((operand) => 'vyz'.includes(operand.width) || operand.signed || /^m(16:|v&)/.test(operand.text))
    || row.encoding.immediates.some((token) => /^(iz|iv|cz|far)$/.test(token));
}

/** Operand sizes the row can have in code of this size, the one without prefix first. */
export function operandSizes(row: Row, codeSize: Size): readonly Size[] {
  if ((row.mode === 'no64' && codeSize === 64) || (row.mode === 'only64' && codeSize !== 64)) return [];
  const { encoding } = row;
  if ((codeSize === 64 && encoding.addressSize === 16) || (codeSize !== 64 && encoding.addressSize === 64)) return [];
  // Beside a mandatory prefix a size that no operand shows would only select another row (MOVD and MOVQ).
  if (encoding.prefix !== null && !encoding.operandSize && !dependsOnOperandSize(row)) return [defaultOperandSize(row, codeSize)];
  // A mandatory 66 or NP leaves no room for 66 as operand-size prefix.
  const fixed66 = encoding.prefix === 'NP' || encoding.prefix === '66' || (encoding.prefix !== null && !row.operands.some((operand) => operand.width === 'v'));
  let sizes: Size[];
  if (codeSize === 64) {
    if (row.size === 'f64') sizes = [64];
    else if (row.size === 'd64') sizes = [64, 16];
    else sizes = fixed66 ? [32, 64] : [32, 16, 64];
  } else if (fixed66) sizes = [codeSize];
  else sizes = codeSize === 32 ? [32, 16] : [16, 32];
  // A 32-bit general register named by a row without a mandatory prefix needs the 32-bit operand size, except where the row forces its width (MOV CRn).
  if (encoding.prefix === null && !row.size && row.operands.some((operand) => operand.width === 'y' && operand.kind !== 'cr' && operand.kind !== 'dr') && !row.operands.some((operand) => operand.kind === 'cr' || operand.kind === 'dr')) sizes = sizes.filter((size) => size !== 16);
  if (!encoding.operandSize) return sizes;
  if (fixed66 && encoding.operandSize !== 64) return sizes.filter((size) => size !== 64);
  return sizes.filter((size) => size === encoding.operandSize);
}

function signed(value: number | bigint, bits: number): bigint {
  return BigInt.asIntN(bits, BigInt(value));
}

function push(bytes: number[], value: number | bigint, size: number): void {
  let rest = BigInt.asUintN(size * 8, BigInt(value));
  for (let i = 0; i < size; i++) {
    bytes.push(Number(rest & 0xffn));
    rest >>= 8n;
  }
}

function fail(row: Row, why: string): never {
  throw new Error(`cannot encode ${row.syntax} (${row.notation}): ${why}`);
}

interface ModrmBytes { readonly mod: number; readonly rm: number; readonly sib: number; readonly displacement: bigint; readonly size: number; readonly x: number; readonly b: number }

/** SDM "16-Bit Addressing Forms with the ModR/M Byte": base + index pairs by r/m value. */
const pairs16 = ['3,6', '3,7', '5,6', '5,7', '6,-1', '7,-1', '5,-1', '3,-1'];

function memory16(row: Row, form: MemoryForm): ModrmBytes {
  const displacement = signed(form.displacement, 16);
  if (form.base < 0 && form.index < 0) return { mod: 0, rm: 6, sib: -1, displacement, size: 2, x: 0, b: 0 };
  let rm = pairs16.indexOf(`${form.base},${form.index}`);
  if (rm < 0) rm = pairs16.indexOf(`${form.index},${form.base}`);
  if (rm < 0 || form.scale !== 0) fail(row, 'a 16-bit address has BX or BP as base, SI or DI as index, and no scale');
  const bits = form.displacementSize ?? (displacement === 0n && rm !== 6 ? 0 : displacement === signed(displacement, 8) ? 8 : 16);
  if (bits === 0 && rm === 6) fail(row, '[BP] needs a displacement');
  return { mod: bits === 0 ? 0 : bits === 8 ? 1 : 2, rm, sib: -1, displacement, size: bits >> 3, x: 0, b: 0 };
}

function memory32(row: Row, form: MemoryForm, codeSize: Size, addressSize: Size): ModrmBytes {
  const displacement = signed(form.displacement, addressSize);
  if (displacement !== signed(displacement, 32)) fail(row, `displacement ${form.displacement} does not fit 32 signed bits`);
  const { base, index, scale } = form;
  if (index === 4) fail(row, 'the stack pointer cannot be an index');
  if (codeSize !== 64 && (base > 7 || index > 7)) fail(row, 'this base or index exists only in 64-bit code');
  const b = base >= 0 && base < 16 ? base >> 3 : 0;
  const x = index >= 0 ? index >> 3 : 0;
  if (base === 16) {
    if (index >= 0) fail(row, 'RIP-relative addresses have no index');
    return { mod: 0, rm: 5, sib: -1, displacement, size: 4, x, b };
  }
  if (base < 0) {
    if (index < 0 && codeSize !== 64) return { mod: 0, rm: 5, sib: -1, displacement, size: 4, x, b };
    // In 64-bit code mod 0, r/m 5 is RIP-relative: an absolute address needs the SIB byte.
    return { mod: 0, rm: 4, sib: (scale << 6) | ((index < 0 ? 4 : index & 7) << 3) | 5, displacement, size: 4, x, b };
  }
  const low = base & 7;
  const bits = form.displacementSize ?? (displacement === 0n && low !== 5 ? 0 : displacement === signed(displacement, 8) ? 8 : 32);
  if (bits === 0 && low === 5) fail(row, 'rBP or R13 as base needs a displacement');
  const mod = bits === 0 ? 0 : bits === 8 ? 1 : 2;
  const needsSib = index >= 0 || low === 4;
  const sib = needsSib ? (scale << 6) | ((index < 0 ? 4 : index & 7) << 3) | low : -1;
  return { mod, rm: needsSib ? 4 : low, sib, displacement, size: mod === 0 ? 0 : mod === 1 ? 1 : 4, x, b };
}

function immediateSize(token: string, operandSize: Size): number {
  switch (token) {
    case 'ib': case 'cb': return 1;
    case 'iw': return 2;
    case 'id': return 4;
    case 'iz': case 'cz': case 'far': return operandSize === 16 ? 2 : 4;
    default: return operandSize >> 3; // iv
  }
}

/**
 * Canonical encoding of one instance of a row: prefixes in the order LOCK, F2/F3, segment, 66, 67, mandatory, REX; the
 * shortest displacement unless the form asks for another. Throws if the row has no such instance.
 */
export function encodeInstance(row: Row, form: InstanceForm): Uint8Array {
  const { encoding } = row;
  const { codeSize } = form;
  const operandSize = form.operandSize ?? defaultOperandSize(row, codeSize);
  const addressSize = form.addressSize ?? (encoding.addressSize || codeSize);
  const bytes: number[] = [];
  if (form.lock) bytes.push(0xf0);
  if (form.rep) bytes.push(form.rep);
  if (form.override !== undefined && form.override >= 0) bytes.push(overridePrefixes[form.override] ?? fail(row, `segment ${form.override} has no override prefix`));

  if (encoding.addressSize && encoding.addressSize !== addressSize) fail(row, `the address size must be ${encoding.addressSize}`);
  let rex = form.rex ?? 0;
  const plain = codeSize === 64 ? (row.size ? 64 : 32) : codeSize;
  if (operandSize !== plain) {
    const word = codeSize === 64 ? operandSize === 16 : operandSize !== 64;
    if (word) {
      if (row.size === 'f64' && codeSize === 64) fail(row, 'the operand size is always 64 bits');
      if (encoding.prefix !== '66' && encoding.prefix !== 'NP') bytes.push(0x66);
      else if (!encoding.operandSize) fail(row, `no ${operandSize}-bit operand size beside the mandatory prefix`);
    } else if (codeSize === 64 && operandSize === 64) rex |= 0x48;
    else fail(row, `no ${operandSize}-bit operand size in ${codeSize}-bit code`);
  }
  if (addressSize !== codeSize) {
    if ((codeSize === 64 && addressSize === 16) || (codeSize !== 64 && addressSize === 64)) fail(row, `no ${addressSize}-bit addresses in ${codeSize}-bit code`);
    bytes.push(0x67);
  }
  if (encoding.prefix === '66') bytes.push(0x66);
  if (encoding.prefix === 'F2') bytes.push(0xf2);
  if (encoding.prefix === 'F3') bytes.push(0xf3);

  const tail: number[] = [];
  if (encoding.map >= 1) tail.push(0x0f);
  if (encoding.map === 2) tail.push(0x38);
  if (encoding.map === 3) tail.push(0x3a);
  if (encoding.plusRegister) {
    const register = form.rm;
    if (typeof register !== 'number') fail(row, 'the opcode names a register, give it as rm');
    if (register > 7) rex |= 0x41;
    tail.push(encoding.opcode | (register & 7));
  } else tail.push(encoding.opcode);

  if (encoding.modrmByte >= 0) tail.push(encoding.modrmByte);
  else if (encoding.modrm !== null) {
    let reg = encoding.modrm === 'r' ? form.reg : encoding.modrm;
    if (reg === undefined) fail(row, 'the register operand is missing');
    if (reg > 7) rex |= 0x44;
    reg &= 7;
    const rm = form.rm ?? fail(row, 'the register or memory operand is missing');
    if (typeof rm === 'number') {
      if (rm > 7) rex |= 0x41;
      tail.push(0xc0 | (reg << 3) | (rm & 7));
    } else {
      const memory = addressSize === 16 ? memory16(row, rm) : memory32(row, rm, codeSize, addressSize);
      if (memory.b) rex |= 0x41;
      if (memory.x) rex |= 0x42;
      tail.push((memory.mod << 6) | (reg << 3) | memory.rm);
      if (memory.sib >= 0) tail.push(memory.sib);
      push(tail, memory.displacement, memory.size);
    }
  }
  const values = form.immediates ?? [];
  let next = 0;
  for (const token of encoding.immediates) {
    if (token === 'moffs') {
      push(tail, form.moffs ?? fail(row, 'the address is missing'), addressSize >> 3);
      continue;
    }
    push(tail, values[next++] ?? fail(row, 'an immediate is missing'), immediateSize(token, operandSize));
    if (token === 'far') push(tail, values[next++] ?? fail(row, 'the selector is missing'), 2);
  }
  if (rex) {
    if (codeSize !== 64) fail(row, 'this register or size exists only in 64-bit code');
    bytes.push(0x40 | rex);
  }
  return Uint8Array.from([...bytes, ...tail]);
}
