import { Layout, registerNames, type CodeSize } from './layout.ts';

/** A memory operand: how it is encoded and what the registers in it must hold to point into the region. */
export interface Shape {
  /** ModRM.mod and ModRM.rm. */
  readonly mod: number;
  readonly rm: number;
  /** SIB byte without REX extensions, or -1. */
  readonly sib?: number;
  /** REX.X and REX.B. */
  readonly extend?: number;
  /** Displacement bytes (0, 1, 2 or 4) and its value; 'rip' = relative to the end of the instruction. */
  readonly displacement: readonly [0 | 1 | 2 | 4, number];
  readonly ripRelative?: true;
  readonly addressSize: 16 | 32 | 64;
  readonly inputs: string;
}

const absolute = Layout.region + 100;

/** Shapes by address size. Each leaves 32 bytes before and after the operand inside the region. */
export const shapes: Readonly<Record<16 | 32 | 64, readonly Shape[]>> = {
  64: [
    { mod: 1, rm: 3, displacement: [1, 0x10], addressSize: 64, inputs: 'rbx=ptr:40..71' },
    { mod: 2, rm: 4, sib: 0x8d, extend: 2, displacement: [4, 0x20], addressSize: 64, inputs: 'rbp=ptr:32..40 r9=int:0..15' }, // [rbp+r9*4+disp32]
    { mod: 0, rm: 4, sib: 0x25, displacement: [4, absolute], addressSize: 64, inputs: '' }, // [disp32], no base
    { mod: 0, rm: 5, displacement: [4, absolute], ripRelative: true, addressSize: 64, inputs: '' },
    { mod: 1, rm: 5, extend: 1, displacement: [1, -16], addressSize: 64, inputs: 'r13=ptr:100..131' },
    { mod: 1, rm: 4, sib: 0xd4, extend: 3, displacement: [1, -32], addressSize: 64, inputs: 'r12=ptr:100..107 r10=int:-2..4' }, // [r12+r10*8-32]
    { mod: 1, rm: 3, displacement: [1, 0x7f], addressSize: 32, inputs: 'ebx=ptr:-40..31' },
    { mod: 1, rm: 4, sib: 0x24, displacement: [1, 8], addressSize: 64, inputs: 'rsp=ptr:64..95' },
    { mod: 0, rm: 4, sib: 0x4d, extend: 2, displacement: [4, Layout.region + 60], addressSize: 64, inputs: 'r9=int:0..31' }, // [r9*2+disp32]
    { mod: 0, rm: 7, displacement: [0, 0], addressSize: 64, inputs: 'rdi=ptr:80..111' },
    { mod: 2, rm: 4, sib: 0x86, extend: 3, displacement: [4, -0x1000], addressSize: 32, inputs: 'r14d=ptr:4196..4206 r8d=int:-4..7' }, // wraps at 4 GiB
    { mod: 1, rm: 5, displacement: [1, 4], addressSize: 32, inputs: 'ebp=ptr:48..95' },
  ],
  32: [
    { mod: 1, rm: 3, displacement: [1, 0x10], addressSize: 32, inputs: 'ebx=ptr:40..71' },
    { mod: 2, rm: 4, sib: 0xb5, displacement: [4, 0x20], addressSize: 32, inputs: 'ebp=ptr:32..40 esi=int:-4..15' }, // [ebp+esi*4+disp32]
    { mod: 0, rm: 5, displacement: [4, absolute], addressSize: 32, inputs: '' },
    { mod: 0, rm: 7, displacement: [0, 0], addressSize: 32, inputs: 'edi=ptr:80..111' },
    { mod: 1, rm: 4, sib: 0x24, displacement: [1, -8], addressSize: 32, inputs: 'esp=ptr:64..95' },
    { mod: 0, rm: 4, sib: 0xf5, displacement: [4, Layout.region + 60], addressSize: 32, inputs: 'esi=int:0..7' }, // [esi*8+disp32]
  ],
  16: [
    { mod: 1, rm: 7, displacement: [1, 0x10], addressSize: 16, inputs: 'bx=ptr:40..71' },
    { mod: 2, rm: 0, displacement: [2, 0x20], addressSize: 16, inputs: 'bx=ptr:32..40 si=int:-4..31' }, // [bx+si+disp16]
    { mod: 1, rm: 3, displacement: [1, -4], addressSize: 16, inputs: 'bp=ptr:60..70 di=int:0..31' }, // [bp+di+disp8]
    { mod: 0, rm: 5, displacement: [0, 0], addressSize: 16, inputs: 'di=ptr:80..111' },
    { mod: 0, rm: 6, displacement: [2, absolute], addressSize: 16, inputs: '' }, // [disp16]
    { mod: 1, rm: 6, displacement: [1, 0x20], addressSize: 16, inputs: 'bp=ptr:48..95' },
    { mod: 2, rm: 1, displacement: [2, -0x4000], addressSize: 16, inputs: 'bx=ptr:16464..16474 di=int:-8..8' }, // wraps at 64 KiB in 16-bit arithmetic
  ],
};

/** The operand with [base+disp8] at exactly region offset 68: for inputs that must name the operand's bytes. */
export function exactShape(codeSize: CodeSize): Shape {
  if (codeSize === 16) return { mod: 1, rm: 7, displacement: [1, 4], addressSize: 16, inputs: 'bx=ptr:64..64' };
  return { mod: 1, rm: 3, displacement: [1, 4], addressSize: codeSize, inputs: codeSize === 64 ? 'rbx=ptr:64..64' : 'ebx=ptr:64..64' };
}
export const EXACT_OFFSET = 68;
/** 16-byte aligned, for MOVDQA and CMPXCHG16B. */
export const alignedShape: Shape = { mod: 1, rm: 6, displacement: [1, 0x20], addressSize: 64, inputs: 'rsi=ptr:48..48' };

/** A register operand: number, and for bytes whether it is AH..BH. */
export interface RegisterOperand {
  readonly number: number;
  readonly bits: number;
  readonly high?: boolean;
}

/** The name as the inputs notation knows it (AH..BH are written by their full register, which is good enough). */
export function registerInput(operand: RegisterOperand): string {
  return registerNames[operand.number]!;
}

export interface Encodable {
  readonly codeSize: CodeSize;
  /** Encoding in the notation of cpu/row.ts. */
  readonly notation: string;
  /** Operand size in bits (8 needs no prefix). */
  readonly size: number;
  /** The operand size is 64 (or stack-sized) without REX.W in 64-bit mode. */
  readonly default64?: boolean;
  /** LOCK, REP, segment and further prefixes, in front. */
  readonly prefixes?: readonly number[];
  readonly reg?: RegisterOperand;
  readonly rm?: RegisterOperand | Shape;
  readonly addressSize?: 16 | 32 | 64;
  /** One value per immediate in the notation. */
  readonly immediates?: readonly (number | bigint)[];
}

const immediateBytes: Record<string, (size: number, codeSize: CodeSize, addressSize: number) => number> = {
  ib: () => 1, iw: () => 2, id: () => 4, cb: () => 1, iz: (size) => Math.min(size, 32) / 8, iv: (size) => size / 8,
  cz: (size, codeSize) => (codeSize === 64 ? 4 : Math.min(size, 32) / 8), moffs: (_size, _code, address) => address / 8,
};

function littleEndian(value: number | bigint, bytes: number): number[] {
  return Array.from({ length: bytes }, (_, i) => Number((BigInt(value) >> BigInt(8 * i)) & 0xffn));
}

const isShape = (rm: RegisterOperand | Shape): rm is Shape => 'mod' in rm;

/** Bytes of one instruction. Written for these tables only and checked against a disassembler by generate.ts. */
export function encode(e: Encodable): Uint8Array {
  const prefixes = [...(e.prefixes ?? [])];
  const opcode: number[] = [];
  let wide = e.size === 64 && !e.default64;
  let plus = false;
  let modrm: number | 'r' | null = null;
  const fields: string[] = [];
  const tokens = e.notation.split(' ');
  let mandatory = -1;
  tokens.forEach((token, index) => {
    if (token === 'NP' || /^[oa](16|32|64)$/.test(token)) return;
    if (token === 'REX.W') wide = true;
    else if (/^(66|F2|F3)$/.test(token) && index === 0 && tokens.includes('0F')) mandatory = parseInt(token, 16);
    else if (/^[0-9A-F]{2}\+r$/.test(token)) { opcode.push(parseInt(token, 16)); plus = true; }
    else if (/^[0-9A-F]{2}$/.test(token)) opcode.push(parseInt(token, 16));
    else if (token === '/r') modrm = 'r';
    else if (/^\/\d$/.test(token)) modrm = Number(token[1]);
    else fields.push(token);
  });
  const codeDefault = e.codeSize === 16 ? 16 : 32;
  const legacySize = e.size === 16 ? 16 : e.size === 8 || e.size === 128 ? codeDefault : e.size === 64 ? 32 : e.size;
  if (legacySize !== codeDefault) prefixes.push(0x66);
  const shape = e.rm && isShape(e.rm) ? e.rm : null;
  const addressSize = shape?.addressSize ?? e.addressSize ?? e.codeSize;
  if (addressSize !== e.codeSize) prefixes.push(0x67);
  if (mandatory >= 0) prefixes.push(mandatory);

  let rex = wide ? 8 : 0;
  let needRex = wide;
  const low = (operand: RegisterOperand): number => (operand.high ? operand.number + 4 : operand.number & 7);
  for (const operand of [e.reg, shape ? undefined : (e.rm as RegisterOperand | undefined)]) {
    if (operand && operand.bits === 8 && !operand.high && operand.number >= 4) needRex = true;
  }
  let tail: number[] = [];
  if (modrm !== null) {
    let reg = typeof modrm === 'number' ? modrm : 0;
    if (modrm === 'r') { reg = low(e.reg!); if (e.reg!.number >= 8) rex |= 4; }
    if (shape) {
      rex |= shape.extend ?? 0;
      tail = [(shape.mod << 6) | (reg << 3) | shape.rm, ...(shape.sib === undefined ? [] : [shape.sib])];
    } else {
      const rm = e.rm as RegisterOperand;
      if (rm.number >= 8) rex |= 1;
      tail = [0xc0 | (reg << 3) | low(rm)];
    }
  } else if (plus) {
    const operand = e.reg!;
    if (operand.number >= 8) rex |= 1;
    opcode[opcode.length - 1]! += low(operand);
  }
  needRex ||= rex !== 0;
  const immediates = fields.flatMap((field, index) => {
    const width = immediateBytes[field];
    if (!width) throw new Error(`vector encoding '${e.notation}': token '${field}' is not known`);
    return littleEndian(e.immediates![index]!, width(e.size, e.codeSize, addressSize));
  });
  const head = [...prefixes, ...(needRex ? [0x40 | rex] : []), ...opcode, ...tail];
  if (shape) {
    const [bytes, value] = shape.displacement;
    const end = Layout.code + head.length + bytes + immediates.length;
    head.push(...littleEndian(shape.ripRelative ? value - end : value, bytes));
  }
  return Uint8Array.from([...head, ...immediates]);
}

/** AH..BH cannot be named beside a REX prefix. */
export function needsRex(e: Encodable): boolean {
  const bytes = encode(e);
  return e.codeSize === 64 && [...bytes].slice(0, 5).some((byte, index) => byte >= 0x40 && byte < 0x50 && bytes.slice(0, index).every((b) => [0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x26, 0x2e, 0x36, 0x3e].includes(b)));
}
