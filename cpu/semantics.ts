/**
 * The micro-op language in which instructions are defined. A definition is written once against {@link Builder};
 * the evaluator computes with it (BigInt), the interpreter generator emits WebAssembly from it, the analysis
 * derives operand access and traits. Values are opaque to definitions.
 *
 * Rules every definition keeps: all reads and checks come before the first architectural write, so that a fault
 * restarts the instruction with nothing done. 32-bit register writes zero-extend (in `write`/`setReg`, nowhere else).
 */

/** A value of 1 (boolean), 8, 16, 32 or 64 bits; always zero-extended. */
export interface Value { readonly bits: number }
/** A memory location that was checked and translated; later gets and puts cannot fault. */
export interface Place { readonly size: number }

/** Where a memory access goes: a segment register number, or 'data' = the segment of the memory operand. */
export type SegmentChoice = number | 'data';

export type Semantics = (m: Builder) => void;

export interface Builder {
  /** Operand size of this instance of the row: 8 for rows of bytes, else 16, 32 or 64. */
  readonly bits: number;
  /** Address size of the instruction: 16, 32 or 64. */
  readonly addressBits: number;
  /** Code size of the mode: 16, 32 or 64. */
  readonly codeBits: number;

  constant(value: number | bigint, bits: number): Value;
  /** Operand i. Reading a memory operand that is also written checks write access first. */
  read(i: number): Value;
  write(i: number, value: Value): void;
  /** Operand i is memory in this instance of the row. */
  operandIsMemory(i: number): boolean;
  /** General register by number (byte registers: low byte only). */
  reg(n: number, bits: number): Value;
  setReg(n: number, value: Value): void;
  /** 64-bit half (0 low, 1 high) of a 128-bit operand. */
  readHalf(i: number, half: number): Value;
  writeHalves(i: number, low: Value, high: Value): void;

  add(a: Value, b: Value): Value;
  sub(a: Value, b: Value): Value;
  and(a: Value, b: Value): Value;
  or(a: Value, b: Value): Value;
  xor(a: Value, b: Value): Value;
  mul(a: Value, b: Value): Value;
  not(a: Value): Value;
  /** Shifts and rotates; count is any value smaller than the width. */
  shl(a: Value, count: Value): Value;
  shr(a: Value, count: Value): Value;
  sar(a: Value, count: Value): Value;
  /** Comparisons give 1-bit values; the logical operations on those are and, or, xor, not. */
  eq(a: Value, b: Value): Value;
  ltu(a: Value, b: Value): Value;
  lts(a: Value, b: Value): Value;
  select(condition: Value, whenTrue: Value, whenFalse: Value): Value;
  zeroExtend(a: Value, bits: number): Value;
  signExtend(a: Value, bits: number): Value;
  truncate(a: Value, bits: number): Value;
  /** Count trailing zeros, leading zeros, ones; the result has the operand's width (the width itself for 0). */
  ctz(a: Value): Value;
  clz(a: Value): Value;
  popcnt(a: Value): Value;
  /** High half of the double-width product. */
  mulHigh(a: Value, b: Value, signed: boolean): Value;
  /** Quotient and remainder of the double-width (high:low) by divisor; raises #DE. */
  divide(high: Value, low: Value, divisor: Value, signed: boolean): readonly [Value, Value];

  /** Raw flag state: see S.flagResult and S.flagBits in cpu/state.ts. */
  flagResult(): Value;
  flagBits(): Value;
  setFlagResult(result: Value): void;
  setFlagBits(bits: Value): void;
  /** The other EFLAGS bits (32-bit value): DF and so on. */
  flagsRest(): Value;
  setFlagsRest(value: Value): void;

  /** Offset of the memory operand (64-bit value, wrapped to the address size; no segment). */
  address(): Value;
  /** Checks and translates `bits/8` bytes at segment:offset. */
  place(segment: SegmentChoice, offset: Value, bits: number, access: 'r' | 'w' | 'rw'): Place;
  get(place: Place, bits: number, at?: number): Value;
  put(place: Place, value: Value, at?: number): void;
  /** Wraps an offset to the address size. */
  addressWrap(offset: Value): Value;
  /** Address-sized register (rSI, rDI, rCX of string and loop rows) as an offset, and its update. */
  addressReg(n: number): Value;
  setAddressReg(n: number, value: Value): void;
  /** Stack pointer as an offset of the current stack size (64-bit value), and its update (keeps upper bits of a 16-bit stack). */
  stackPointer(): Value;
  setStackPointer(offset: Value): void;
  /** Wraps an offset to the stack size. */
  stackWrap(offset: Value): Value;
  /** Stack location for one push or pop. */
  stackPlace(offset: Value, bits: number, access: 'r' | 'w'): Place;

  /** RIP after this instruction, as a value of `bits`. */
  nextRip(bits: number): Value;
  /** Near jump to an absolute offset (checks limit or canonicality before anything is written). */
  checkTarget(target: Value): void;
  jump(target: Value): void;
  /** Faults where the relative target lies outside the code segment and the condition holds; before any write. */
  checkBranch(condition: Value): void;
  /** Continue at the relative target when the condition holds, else with the next instruction. */
  branch(condition: Value): void;
  /** #GP(0) unless memory operand i is aligned to 16 bytes. */
  aligned(i: number): void;

  /** Both arms may contain effects; values made inside stay inside. */
  when(condition: Value, then: () => void, otherwise?: () => void): void;
  fault(vector: number, error?: number): void;

  /** IEEE double operations with MXCSR rounding, exceptions and NaN rules; raise #XM. Pairs are the halves of a packed value. */
  doubleAdd(a: readonly Value[], b: readonly Value[]): readonly Value[];
  /** Exact conversion of a signed 32-bit integer to double. */
  int32ToDouble(a: Value): Value;
}

const CF = 1;
const OF = 0x800;

/** Position of the OF bit computed from the sign bit of a value. */
function overflowBit(m: Builder, sign: Value): Value {
  const shift = sign.bits - 12;
  const moved = shift >= 0 ? m.shr(sign, m.constant(shift, sign.bits)) : m.shl(m.zeroExtend(sign, 32), m.constant(-shift, 32));
  return m.and(moved.bits === 64 ? m.truncate(moved, 32) : moved.bits < 32 ? m.zeroExtend(moved, 32) : moved, m.constant(OF, 32));
}
const to32 = (m: Builder, v: Value): Value => (v.bits === 32 ? v : v.bits === 64 ? m.truncate(v, 32) : m.zeroExtend(v, 32));

/** ADD/ADC: all six status flags of result = a + b (+ carry in). */
export function flagsOfAdd(m: Builder, a: Value, b: Value, result: Value, carryIn?: Value): void {
  // carry out: result < a, or with a carry in also result == a
  const carry = carryIn ? m.or(m.ltu(result, a), m.and(carryIn, m.eq(result, a))) : m.ltu(result, a);
  const overflow = overflowBit(m, m.and(m.xor(a, result), m.xor(b, result)));
  const adjust = m.and(to32(m, m.xor(m.xor(a, b), result)), m.constant(0x10, 32));
  m.setFlagResult(result);
  m.setFlagBits(m.or(m.or(overflow, adjust), m.zeroExtend(carry, 32)));
}

/** SUB/SBB/CMP/NEG: all six status flags of result = a - b (- borrow in). */
export function flagsOfSub(m: Builder, a: Value, b: Value, result: Value, borrowIn?: Value): void {
  const carry = borrowIn ? m.or(m.ltu(a, b), m.and(borrowIn, m.eq(a, b))) : m.ltu(a, b);
  const overflow = overflowBit(m, m.and(m.xor(a, b), m.xor(a, result)));
  const adjust = m.and(to32(m, m.xor(m.xor(a, b), result)), m.constant(0x10, 32));
  m.setFlagResult(result);
  m.setFlagBits(m.or(m.or(overflow, adjust), m.zeroExtend(carry, 32)));
}

/** AND/OR/XOR/TEST: CF, OF and (by definition here) AF cleared. */
export function flagsOfLogic(m: Builder, result: Value): void {
  m.setFlagResult(result);
  m.setFlagBits(m.constant(0, 32));
}

/** INC and DEC: everything but CF. */
export function flagsOfIncrement(m: Builder, a: Value, result: Value, decrement: boolean): void {
  const sign = decrement ? m.and(a, m.not(result)) : m.and(m.not(a), result);
  const overflow = overflowBit(m, sign);
  const one = m.constant(1, a.bits);
  const adjust = m.and(to32(m, m.xor(m.xor(a, one), result)), m.constant(0x10, 32));
  const carry = m.and(m.flagBits(), m.constant(CF, 32));
  m.setFlagResult(result);
  m.setFlagBits(m.or(m.or(overflow, adjust), carry));
}

/** SF, ZF, PF from the result; CF and OF given as 1-bit values; AF cleared. */
export function flagsOfResult(m: Builder, result: Value, carry: Value, overflow: Value): void {
  const bits = m.or(m.zeroExtend(carry, 32), m.shl(m.zeroExtend(overflow, 32), m.constant(11, 32)));
  m.setFlagResult(result);
  m.setFlagBits(bits);
}

/** Replaces CF (and OF where given), keeps the rest. */
export function setCarry(m: Builder, carry: Value, overflow?: Value): void {
  let bits = m.or(m.and(m.flagBits(), m.constant(overflow ? ~(CF | OF) : ~CF, 32)), m.zeroExtend(carry, 32));
  if (overflow) bits = m.or(bits, m.shl(m.zeroExtend(overflow, 32), m.constant(11, 32)));
  m.setFlagBits(bits);
}

/** Sets all six flags from 1-bit values. */
export function setAllFlags(m: Builder, f: { CF: Value; PF: Value; AF: Value; ZF: Value; SF: Value; OF: Value }): void {
  // result 0 has ZF, PF set and SF clear; result 1 has all three clear: bits 2 and 7 correct PF and SF
  const wide = (v: Value, at: number): Value => m.shl(m.zeroExtend(v, 32), m.constant(at, 32));
  const result = m.zeroExtend(m.xor(f.ZF, m.constant(1, 1)), 32);
  const bits = m.or(m.or(m.or(wide(f.CF, 0), wide(f.AF, 4)), wide(f.OF, 11)), m.or(wide(m.xor(f.PF, f.ZF), 2), wide(f.SF, 7)));
  m.setFlagResult(result);
  m.setFlagBits(bits);
}

export const carryFlag = (m: Builder): Value => m.truncate(m.and(m.flagBits(), m.constant(1, 32)), 1);
export const overflowFlag = (m: Builder): Value => m.truncate(m.and(m.shr(m.flagBits(), m.constant(11, 32)), m.constant(1, 32)), 1);
export const adjustFlag = (m: Builder): Value => m.truncate(m.and(m.shr(m.flagBits(), m.constant(4, 32)), m.constant(1, 32)), 1);
export const zeroFlag = (m: Builder): Value => m.eq(m.flagResult(), m.constant(0, 64));
export const signFlag = (m: Builder): Value =>
  m.xor(m.lts(m.flagResult(), m.constant(0, 64)), m.truncate(m.and(m.shr(m.flagBits(), m.constant(7, 32)), m.constant(1, 32)), 1));
export function parityFlag(m: Builder): Value {
  const low = m.and(m.truncate(m.flagResult(), 32), m.constant(0xff, 32));
  const even = m.xor(m.and(m.popcnt(low), m.constant(1, 32)), m.constant(1, 32));
  return m.truncate(m.xor(even, m.and(m.shr(m.flagBits(), m.constant(2, 32)), m.constant(1, 32))), 1);
}

/** Condition codes in encoding order: O NO B NB Z NZ BE NBE S NS P NP L NL LE NLE. */
export function condition(m: Builder, code: number): Value {
  let value: Value;
  switch (code >> 1) {
    case 0: value = overflowFlag(m); break;
    case 1: value = carryFlag(m); break;
    case 2: value = zeroFlag(m); break;
    case 3: value = m.or(carryFlag(m), zeroFlag(m)); break;
    case 4: value = signFlag(m); break;
    case 5: value = parityFlag(m); break;
    case 6: value = m.xor(signFlag(m), overflowFlag(m)); break;
    default: value = m.or(zeroFlag(m), m.xor(signFlag(m), overflowFlag(m))); break;
  }
  return code & 1 ? m.xor(value, m.constant(1, 1)) : value;
}

/** Canonical condition names in encoding order. */
export const conditionNames = ['O', 'NO', 'B', 'NB', 'Z', 'NZ', 'BE', 'NBE', 'S', 'NS', 'P', 'NP', 'L', 'NL', 'LE', 'NLE'] as const;
