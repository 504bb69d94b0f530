import type { Row } from './row.ts';
import type { Builder, Place, SegmentChoice, Value } from './semantics.ts';
import { S, Segment, SEGMENT_SIZE, SegmentIndex, Gpr } from './state.ts';
import { operandBits, rowBits, traitsOf, valueBits } from './traits.ts';
import { FunctionCode, I32, I64, Op } from './wasm.ts';
import { Vector } from './fault.ts';

/** Layout of a predecoded record. */
export const Record = {
  handler: 0, // u32
  reg: 4, // u16: state offset of the ModRM.reg register
  rm: 6, // u16: state offset of the ModRM.rm (or +r) register
  base: 8, index: 10, // u16: state offsets of base and index (S.zero if none, S.pageRip for RIP)
  scale: 12, // u8
  length: 13, // u8
  segmentBase: 14, // u16: state offset of the segment base to add (S.zero if flat)
  immediate: 16, // i64; of a relative branch: target minus the page's RIP
  displacement: 24, // i64
  mask: 32, // i64: address-size mask; of a branch: operand-size mask
  cost: 40, // u32
  offset: 44, // u32: offset in the code page
  taken: 48, // u32: record of the branch target in this page, filled in when first taken
  target: 52, // u32: offset of the branch target in this page times 4
  instruction: 56, // u32: index of the decoded instruction (TypeScript side)
  segment: 60, // u8: segment register of the memory operand
  access: 61, // u8: address records: bytes accessed, bit 7 = write
  size: 64,
} as const;

/** Status that a handler outside the hot function returns. */
export const Status = { Next: 0, Lookup: 1, Fault: 2, Partial: 3, Leave: 4, Exited: 5, Again: 6 } as const;

/** What distinguishes two generated handlers of the same row. */
export interface Variant {
  readonly row: Row;
  readonly operandSize: 16 | 32 | 64;
  readonly addressSize: 16 | 32 | 64;
  readonly codeSize: 16 | 32 | 64;
  /** The r/m operand is memory. */
  readonly memory: boolean;
  /** The linear address was prepared in S.ea by an address record. */
  readonly prepared: boolean;
  /** Stack pointer width and whether SS needs no checks. */
  readonly stackBits: 16 | 32 | 64;
  readonly flatStack: boolean;
  /** CS needs no limit check. */
  readonly flatCode: boolean;
  /** The segments of string and other own accesses need no checks. */
  readonly flatData: boolean;
  /** Branch target lies in the same page. */
  readonly inPage: boolean;
  readonly rep: number;
}

/** Functions that generated code calls. */
export interface Calls {
  readonly slow: number; // (linear i64, size|write<<8 i32) -> host i32 or 0
  readonly commit: number; // () -> ()
  readonly segment: number; // (offset i64, segment i32, size|write<<8 i32) -> linear i64 or NO_LINEAR
  readonly wideDivide: number; // (signed i32) -> i32: operands in S.scratch
  readonly doubleAdd: number; // () -> i32 status: operands and results in S.scratch
}

/** Flags of a slow access, above its size in bytes. */
export const SlowAccess = { Size: 0xff, Write: 0x100, Read: 0x200, Stack: 0x400 } as const;

/** Pushes the address of the fast-table entry for the low word of a linear address: fastIndex of cpu/memory.ts times the entry size. `table` is the host address of the word that holds the table's. */
export function pushFastEntry(f: FunctionCode, low: number, table: number): void {
  f.get(low).i32(8).op(Op.i32_shr_u).get(low).i32(15).op(Op.i32_shr_u, Op.i32_xor).i32(0xff0).op(Op.i32_and).i32(0).load32(table).op(Op.i32_add);
}

/** Never a linear address. */
export const NO_LINEAR = 0x2000000000000000n;

/** How a handler leaves: different inside the hot function and in a function of its own. */
export interface Frame {
  readonly f: FunctionCode;
  /** Local holding the record address. */
  readonly record: number;
  /** A fault is recorded in the state: leave. */
  bail(): void;
  /** Around calls that may run TypeScript: bring counters up to date, take charges. */
  beforeCall(): void;
  afterCall(): void;
  /** Continue at RIP in the i64 local given (absolute offset), or at the target of an in-page branch; instruction complete. */
  jump(target: number): void;
  takeInPage(): void;
}

interface Local extends Value { readonly local?: number; readonly constant?: bigint }
interface HostPlace extends Place { readonly host: number; readonly write: boolean }

const isWide = (bits: number): boolean => bits === 64;
const mask = (bits: number): bigint => (1n << BigInt(bits)) - 1n;

/** Emits WebAssembly for one instance of a definition. */
export class Emitter implements Builder {
  readonly bits: number;
  readonly addressBits: number;
  readonly codeBits: number;
  private readonly v: Variant;
  private readonly frame: Frame;
  private readonly f: FunctionCode;
  private readonly calls: Calls;
  /** Host address of the CPU's state: baked into the code as load offsets. */
  private readonly state: number;
  private readonly places = new Map<number, HostPlace>();
  private readonly pool: Pool;
  /** The handler left by itself (branch, jump). */
  left = false;

  constructor(variant: Variant, frame: Frame, calls: Calls, state: number, bounceEnd: number, pool: Pool) {
    this.v = variant;
    this.frame = frame;
    this.f = frame.f;
    this.calls = calls;
    this.state = state;
    this.bounceEnd = bounceEnd;
    this.pool = pool;
    this.bits = rowBits(variant.row, variant.operandSize);
    this.addressBits = variant.addressSize;
    this.codeBits = variant.codeSize;
  }
  private readonly bounceEnd: number;

  // --- values --------------------------------------------------------------------------------------------------
  private temporary(bits: number): number { return this.pool.take(isWide(bits) ? I64 : I32); }
  private emit(value: Value): void {
    const v = value as Local;
    if (v.constant !== undefined) {
      if (isWide(v.bits)) this.f.i64(BigInt.asIntN(64, v.constant));
      else this.f.i32(Number(BigInt.asIntN(32, v.constant)));
    } else this.f.get(v.local!);
  }
  /** Takes the value on the stack into a local; masks when asked (results of 8 and 16 bits). */
  private keep(bits: number, clean = true): Local {
    if (!clean && (bits === 8 || bits === 16)) this.f.i32(bits === 8 ? 0xff : 0xffff).op(Op.i32_and);
    const local = this.temporary(bits);
    this.f.set(local);
    return { bits, local };
  }
  constant(value: number | bigint, bits: number): Value { return { bits, constant: BigInt.asUintN(bits, BigInt(value)) } as Local; }
  private asConstant(value: Value): bigint | undefined { return (value as Local).constant; }

  private registerOffset(i: number): { field: number } | { fixed: number } | null {
    const operand = this.v.row.operands[i]!;
    switch (operand.kind) {
      case 'reg': return { field: this.v.row.encoding.plusRegister ? Record.rm : Record.reg };
      case 'rm': case 'rmreg': case 'xmmrm': case 'xmmreg': return this.v.memory ? null : { field: Record.rm };
      case 'xmm': return { field: Record.reg };
      case 'fixed': return { fixed: S.gpr + operand.fixed! * 8 };
      default: return null;
    }
  }
  operandIsMemory(i: number): boolean {
    const kind = this.v.row.operands[i]!.kind;
    return kind === 'mem' || kind === 'moffs' || ((kind === 'rm' || kind === 'xmmrm') && this.v.memory);
  }
  /** Pushes the state-relative address of a register operand; loads and stores then use the state's base as offset. */
  private registerAddress(at: { field: number } | { fixed: number }): number {
    if ('fixed' in at) { this.f.i32(0); return this.state + at.fixed; }
    this.f.get(this.frame.record).load16u(at.field);
    return this.state;
  }
  private loadSized(bits: number, offset: number): void {
    if (bits === 8) this.f.load8u(offset);
    else if (bits === 16) this.f.load16u(offset);
    else if (bits === 32) this.f.load32(offset);
    else this.f.load64(offset);
  }
  private storeSized(bits: number, offset: number): void {
    if (bits === 8) this.f.store8(offset);
    else if (bits === 16) this.f.store16(offset);
    else if (bits === 32) this.f.store32(offset);
    else this.f.store64(offset);
  }

  read(i: number): Value {
    const { row, operandSize } = this.v;
    const operand = row.operands[i]!;
    const bits = valueBits(row, i, operandSize);
    if (operand.kind === 'one') return this.constant(1, 8);
    if (operand.kind === 'imm') {
      this.f.get(this.frame.record);
      if (isWide(bits)) { this.f.load64(Record.immediate); return this.keep(64); }
      if (bits === 8) this.f.load8u(Record.immediate);
      else if (bits === 16) this.f.load16u(Record.immediate);
      else this.f.load32(Record.immediate);
      return this.keep(bits);
    }
    const register = this.registerOffset(i);
    if (register) {
      const offset = this.registerAddress(register);
      this.loadSized(bits, offset);
      return this.keep(bits);
    }
    return this.get(this.operandPlace(i, bits), bits);
  }
  write(i: number, value: Value): void {
    const register = this.registerOffset(i);
    const bits = value.bits;
    if (register) {
      const offset = this.registerAddress(register);
      this.emit(value);
      if (bits === 32) { this.f.op(Op.i64_extend_i32_u); this.f.store64(offset); }
      else this.storeSized(bits, offset);
      return;
    }
    this.put(this.operandPlace(i, operandBits(this.v.row.operands[i]!, this.v.operandSize)), value);
  }
  readHalf(i: number, half: number): Value {
    const register = this.registerOffset(i);
    if (register) {
      const offset = this.registerAddress(register);
      this.f.load64(offset + half * 8);
      return this.keep(64);
    }
    return this.get(this.operandPlace(i, operandBits(this.v.row.operands[i]!, this.v.operandSize)), 64, half * 8);
  }
  writeHalves(i: number, low: Value, high: Value): void {
    const register = this.registerOffset(i);
    [low, high].forEach((value, half) => {
      if (register) {
        const offset = this.registerAddress(register);
        this.emit(value);
        this.f.store64(offset + half * 8);
      } else this.put(this.operandPlace(i, 128), value, half * 8);
    });
  }
  reg(n: number, bits: number): Value {
    this.f.i32(0);
    this.loadSized(bits, this.state + S.gpr + n * 8);
    return this.keep(bits);
  }
  setReg(n: number, value: Value): void {
    const offset = this.state + S.gpr + n * 8;
    this.f.i32(0);
    this.emit(value);
    if (value.bits === 32) { this.f.op(Op.i64_extend_i32_u); this.f.store64(offset); }
    else this.storeSized(value.bits, offset);
  }

  // --- arithmetic ----------------------------------------------------------------------------------------------
  private binary(a: Value, b: Value, narrow: number, wide: number, clean: boolean): Value {
    if (a.bits !== b.bits) throw new Error(`${this.v.row.syntax}: operands of ${a.bits} and ${b.bits} bits`);
    this.emit(a);
    this.emit(b);
    this.f.op(isWide(a.bits) ? wide : narrow);
    return this.keep(a.bits, clean);
  }
  add(a: Value, b: Value): Value { return this.binary(a, b, Op.i32_add, Op.i64_add, false); }
  sub(a: Value, b: Value): Value { return this.binary(a, b, Op.i32_sub, Op.i64_sub, false); }
  and(a: Value, b: Value): Value { return this.binary(a, b, Op.i32_and, Op.i64_and, true); }
  or(a: Value, b: Value): Value { return this.binary(a, b, Op.i32_or, Op.i64_or, true); }
  xor(a: Value, b: Value): Value { return this.binary(a, b, Op.i32_xor, Op.i64_xor, true); }
  mul(a: Value, b: Value): Value { return this.binary(a, b, Op.i32_mul, Op.i64_mul, false); }
  not(a: Value): Value { return this.xor(a, this.constant(-1, a.bits)); }
  private countFor(a: Value, count: Value): void {
    const constant = this.asConstant(count);
    if (constant !== undefined) { this.emit(this.constant(constant, isWide(a.bits) ? 64 : 32)); return; }
    this.emit(count);
    if (isWide(a.bits) && !isWide(count.bits)) this.f.op(Op.i64_extend_i32_u);
    else if (!isWide(a.bits) && isWide(count.bits)) this.f.op(Op.i32_wrap_i64);
  }
  shl(a: Value, count: Value): Value {
    this.emit(a); this.countFor(a, count);
    this.f.op(isWide(a.bits) ? Op.i64_shl : Op.i32_shl);
    return this.keep(a.bits, false);
  }
  shr(a: Value, count: Value): Value {
    this.emit(a); this.countFor(a, count);
    this.f.op(isWide(a.bits) ? Op.i64_shr_u : Op.i32_shr_u);
    return this.keep(a.bits);
  }
  /** Pushes a value sign-extended inside its local's width. */
  private emitSigned(a: Value): void {
    this.emit(a);
    if (a.bits === 8) this.f.op(Op.i32_extend8_s);
    else if (a.bits === 16) this.f.op(Op.i32_extend16_s);
    else if (a.bits === 1) this.f.i32(31).op(Op.i32_shl).i32(31).op(Op.i32_shr_s);
  }
  sar(a: Value, count: Value): Value {
    this.emitSigned(a); this.countFor(a, count);
    this.f.op(isWide(a.bits) ? Op.i64_shr_s : Op.i32_shr_s);
    return this.keep(a.bits, false);
  }
  eq(a: Value, b: Value): Value {
    if (this.asConstant(b) === 0n) {
      this.emit(a);
      this.f.op(isWide(a.bits) ? Op.i64_eqz : Op.i32_eqz);
      return this.keep(1);
    }
    this.emit(a); this.emit(b);
    this.f.op(isWide(a.bits) ? Op.i64_eq : Op.i32_eq);
    return this.keep(1);
  }
  ltu(a: Value, b: Value): Value {
    this.emit(a); this.emit(b);
    this.f.op(isWide(a.bits) ? Op.i64_lt_u : Op.i32_lt_u);
    return this.keep(1);
  }
  lts(a: Value, b: Value): Value {
    this.emitSigned(a); this.emitSigned(b);
    this.f.op(isWide(a.bits) ? Op.i64_lt_s : Op.i32_lt_s);
    return this.keep(1);
  }
  select(condition: Value, whenTrue: Value, whenFalse: Value): Value {
    this.emit(whenTrue); this.emit(whenFalse); this.emit(condition);
    this.f.op(Op.select);
    return this.keep(whenTrue.bits);
  }
  zeroExtend(a: Value, bits: number): Value {
    if (bits < a.bits) throw new Error(`${this.v.row.syntax}: zeroExtend from ${a.bits} to ${bits}`);
    const constant = this.asConstant(a);
    if (constant !== undefined) return this.constant(constant, bits);
    if (isWide(bits) && !isWide(a.bits)) { this.emit(a); this.f.op(Op.i64_extend_i32_u); return this.keep(64); }
    return { bits, local: (a as Local).local! } as Local;
  }
  signExtend(a: Value, bits: number): Value {
    if (bits === a.bits) return a;
    if (a.bits === 1) throw new Error(`${this.v.row.syntax}: a boolean has no sign to extend`);
    if (isWide(bits)) {
      this.emit(a);
      this.f.op(Op.i64_extend_i32_u);
      if (a.bits === 8) this.f.op(Op.i64_extend8_s);
      else if (a.bits === 16) this.f.op(Op.i64_extend16_s);
      else this.f.op(Op.i64_extend32_s);
      return this.keep(64);
    }
    this.emitSigned(a);
    return this.keep(bits, false);
  }
  truncate(a: Value, bits: number): Value {
    if (bits === a.bits) return a;
    const constant = this.asConstant(a);
    if (constant !== undefined) return this.constant(BigInt.asUintN(bits, constant), bits);
    this.emit(a);
    if (isWide(a.bits)) this.f.op(Op.i32_wrap_i64);
    if (bits < 32) this.f.i32(Number(mask(bits))).op(Op.i32_and);
    return this.keep(bits);
  }
  ctz(a: Value): Value {
    this.emit(a);
    if (a.bits < 32) this.f.i32(1 << a.bits).op(Op.i32_or);
    this.f.op(isWide(a.bits) ? Op.i64_ctz : Op.i32_ctz);
    return this.keep(a.bits);
  }
  clz(a: Value): Value {
    this.emit(a);
    this.f.op(isWide(a.bits) ? Op.i64_clz : Op.i32_clz);
    if (a.bits < 32) this.f.i32(32 - a.bits).op(Op.i32_sub);
    return this.keep(a.bits);
  }
  popcnt(a: Value): Value {
    this.emit(a);
    this.f.op(isWide(a.bits) ? Op.i64_popcnt : Op.i32_popcnt);
    return this.keep(a.bits);
  }
  mulHigh(a: Value, b: Value, signed: boolean): Value {
    if (!isWide(a.bits)) {
      const wa = signed ? this.signExtend(a, 64) : this.zeroExtend(a, 64);
      const wb = signed ? this.signExtend(b, 64) : this.zeroExtend(b, 64);
      return this.truncate(this.shr(this.mul(wa, wb), this.constant(a.bits, 64)), a.bits);
    }
    // schoolbook on 32-bit halves; the signed form corrects by the other operand where one is negative
    const c32 = this.constant(32, 64);
    const low = this.constant(0xffffffff, 64);
    const a0 = this.and(a, low); const a1 = this.shr(a, c32);
    const b0 = this.and(b, low); const b1 = this.shr(b, c32);
    const p00 = this.mul(a0, b0);
    const p01 = this.mul(a0, b1);
    const p10 = this.mul(a1, b0);
    const middle = this.add(this.add(this.and(p01, low), this.and(p10, low)), this.shr(p00, c32));
    let high = this.add(this.add(this.mul(a1, b1), this.shr(p01, c32)), this.add(this.shr(p10, c32), this.shr(middle, c32)));
    if (signed) {
      const zero = this.constant(0, 64);
      high = this.sub(high, this.select(this.lts(a, zero), b, zero));
      high = this.sub(high, this.select(this.lts(b, zero), a, zero));
    }
    return high;
  }
  divide(high: Value, low: Value, divisor: Value, signed: boolean): readonly [Value, Value] {
    const bits = divisor.bits;
    if (bits === 64) {
      // rare: computed by a called function through the scratch words; it gives 0 for #DE
      [high, low, divisor].forEach((value, i) => { this.f.i32(0); this.emit(value); this.f.store64(this.state + S.scratch + 8 * i); });
      this.f.i32(signed ? 1 : 0).call(this.calls.wideDivide).op(Op.i32_eqz);
      this.f.if();
      this.raise(Vector.DivideError, -1);
      this.f.end();
      this.f.i32(0).load64(this.state + S.scratch);
      const q = this.keep(64);
      this.f.i32(0).load64(this.state + S.scratch + 8);
      return [q, this.keep(64)];
    }
    const zero = this.eq(divisor, this.constant(0, bits));
    this.faultIf(zero, Vector.DivideError, -1);
    const dividend = this.or(this.shl(this.zeroExtend(high, 64), this.constant(bits, 64)), this.zeroExtend(low, 64));
    if (!signed) {
      const d = this.zeroExtend(divisor, 64);
      this.emit(dividend); this.emit(d); this.f.op(Op.i64_div_u);
      const q = this.keep(64);
      this.faultIf(this.ltu(this.constant(mask(bits), 64), q), Vector.DivideError, -1);
      return [this.truncate(q, bits), this.truncate(this.sub(dividend, this.mul(q, d)), bits)];
    }
    const d = this.signExtend(divisor, 64);
    const full = bits === 32 ? dividend : this.signedOf(dividend, bits * 2);
    // i64.div_s traps on -2^63 / -1, which is #DE here in any case
    const smallest = this.eq(full, this.constant(1n << 63n, 64));
    this.faultIf(this.and(smallest, this.eq(d, this.constant(-1, 64))), Vector.DivideError, -1);
    this.emit(full); this.emit(d); this.f.op(Op.i64_div_s);
    const q = this.keep(64);
    const narrow = this.signExtend(this.truncate(q, bits), 64);
    this.faultIf(this.xor(this.eq(narrow, q), this.constant(1, 1)), Vector.DivideError, -1);
    return [this.truncate(q, bits), this.truncate(this.sub(full, this.mul(q, d)), bits)];
  }
  private signedOf(a: Value, bits: number): Value {
    const shift = this.constant(64 - bits, 64);
    return this.sar(this.shl(a, shift), shift);
  }

  // --- flags ---------------------------------------------------------------------------------------------------
  flagResult(): Value { this.f.i32(0).load64(this.state + S.flagResult); return this.keep(64); }
  flagBits(): Value { this.f.i32(0).load32(this.state + S.flagBits); return this.keep(32); }
  setFlagResult(result: Value): void {
    this.f.i32(0);
    this.emit(result);
    if (!isWide(result.bits)) {
      if (result.bits === 8) this.f.op(Op.i64_extend_i32_u, Op.i64_extend8_s);
      else if (result.bits === 16) this.f.op(Op.i64_extend_i32_u, Op.i64_extend16_s);
      else this.f.op(Op.i64_extend_i32_s);
    }
    this.f.store64(this.state + S.flagResult);
  }
  setFlagBits(bits: Value): void { this.f.i32(0); this.emit(bits); this.f.store32(this.state + S.flagBits); }
  flagsRest(): Value { this.f.i32(0).load32(this.state + S.flagsRest); return this.keep(32); }
  setFlagsRest(value: Value): void { this.f.i32(0); this.emit(value); this.f.store32(this.state + S.flagsRest); }

  // --- memory --------------------------------------------------------------------------------------------------
  private emitOffset(): void {
    const r = this.frame.record;
    this.f.get(r).load16u(Record.base).load64(this.state);
    this.f.get(r).load16u(Record.index).load64(this.state).get(r).load8u(Record.scale).op(Op.i64_extend_i32_u, Op.i64_shl, Op.i64_add);
    this.f.get(r).load64(Record.displacement).op(Op.i64_add);
    this.f.get(r).load64(Record.mask).op(Op.i64_and);
  }
  address(): Value { this.emitOffset(); return this.keep(64); }
  addressWrap(offset: Value): Value {
    return this.v.addressSize === 64 ? offset : this.and(offset, this.constant(mask(this.v.addressSize), 64));
  }
  private operandPlace(i: number, bits: number): HostPlace {
    const known = this.places.get(i);
    if (known) return known;
    const linear = this.pool.take(I64);
    if (this.v.prepared) this.f.i32(0).load64(this.state + S.ea);
    else {
      this.emitOffset();
      this.f.get(this.frame.record).load16u(Record.segmentBase).load64(this.state).op(Op.i64_add);
    }
    this.f.set(linear);
    const traits = traitsOf(this.v.row);
    const place = this.translate(linear, bits / 8, traits.writes.has(i), traits.reads.has(i));
    this.places.set(i, place);
    return place;
  }
  /** Fast TLB lookup, then the slow path; leaves the host address in a local. */
  private translate(linear: number, size: number, write: boolean, alsoRead: boolean, stack = false): HostPlace {
    const f = this.f;
    const host = this.pool.take(I32);
    const low = this.pool.take(I32);
    const entry = this.pool.take(I32);
    f.get(linear).op(Op.i32_wrap_i64).set(low);
    pushFastEntry(f, low, this.state + (write ? S.writeTable : S.readTable));
    f.set(entry);
    f.get(entry).load64(0).get(linear).op(Op.i64_xor).i64(4096 - size).op(Op.i64_gt_u);
    f.if();
    this.frame.beforeCall();
    f.get(linear).i32(size | (write ? SlowAccess.Write : 0) | (write && alsoRead ? SlowAccess.Read : 0) | (stack ? SlowAccess.Stack : 0)).call(this.calls.slow).set(host);
    this.frame.afterCall();
    f.get(host).op(Op.i32_eqz);
    f.if();
    this.frame.bail();
    f.end();
    f.else();
    f.get(entry).load32(8).get(low).op(Op.i32_add).set(host);
    f.end();
    return { size, host, write };
  }
  place(segment: SegmentChoice, offset: Value, bits: number, access: 'r' | 'w' | 'rw'): Place {
    const write = access !== 'r';
    const linear = this.pool.take(I64);
    if (this.v.flatData) {
      this.emit(offset);
      if (segment === 'data') this.f.get(this.frame.record).load16u(Record.segmentBase).load64(this.state).op(Op.i64_add);
      this.f.set(linear);
    } else this.checkedLinear(segment, offset, bits / 8, write, linear);
    return this.translate(linear, bits / 8, write, access === 'rw');
  }
  private checkedLinear(segment: SegmentChoice, offset: Value, size: number, write: boolean, linear: number): void {
    this.frame.beforeCall();
    this.emit(offset);
    if (segment === 'data') this.f.get(this.frame.record).load8u(Record.segment);
    else this.f.i32(segment);
    this.f.i32(size | (write ? 0x100 : 0)).call(this.calls.segment).set(linear);
    this.frame.afterCall();
    this.f.get(linear).i64(NO_LINEAR).op(Op.i64_eq);
    this.f.if();
    this.frame.bail();
    this.f.end();
  }
  get(place: Place, bits: number, at = 0): Value {
    this.f.get((place as HostPlace).host);
    this.loadSized(bits, at);
    return this.keep(bits);
  }
  put(place: Place, value: Value, at = 0): void {
    const p = place as HostPlace;
    this.f.get(p.host);
    this.emit(value);
    this.storeSized(value.bits, at);
    // the last part of a bounced store carries it out
    if (at + value.bits / 8 >= p.size) {
      this.f.get(p.host).i32(this.bounceEnd).op(Op.i32_lt_u);
      this.f.if();
      this.frame.beforeCall();
      this.f.call(this.calls.commit);
      this.frame.afterCall();
      this.f.end();
    }
  }
  addressReg(n: number): Value {
    this.f.i32(0);
    const offset = this.state + S.gpr + n * 8;
    if (this.v.addressSize === 64) this.f.load64(offset);
    else if (this.v.addressSize === 32) this.f.load32(offset).op(Op.i64_extend_i32_u);
    else this.f.load16u(offset).op(Op.i64_extend_i32_u);
    return this.keep(64);
  }
  setAddressReg(n: number, value: Value): void {
    this.f.i32(0);
    this.emit(value);
    const offset = this.state + S.gpr + n * 8;
    if (this.v.addressSize === 16) this.f.op(Op.i32_wrap_i64).store16(offset);
    else this.f.store64(offset); // 32-bit values are already zero-extended
  }
  stackPointer(): Value { return this.stackWrap(this.reg(Gpr.RSP, 64)); }
  stackWrap(offset: Value): Value {
    return this.v.stackBits === 64 ? offset : this.and(offset, this.constant(mask(this.v.stackBits), 64));
  }
  setStackPointer(offset: Value): void {
    const at = this.state + S.gpr + Gpr.RSP * 8;
    this.f.i32(0);
    this.emit(offset);
    if (this.v.stackBits === 16) this.f.op(Op.i32_wrap_i64).store16(at);
    else this.f.store64(at);
  }
  stackPlace(offset: Value, bits: number, access: 'r' | 'w'): Place {
    const linear = this.pool.take(I64);
    if (this.v.flatStack) { this.emit(offset); this.f.set(linear); }
    else this.checkedLinear(SegmentIndex.SS, offset, bits / 8, access === 'w', linear);
    return this.translate(linear, bits / 8, access === 'w', false, true);
  }
  aligned(i: number): void {
    if (!this.operandIsMemory(i)) return;
    if (this.v.prepared) this.f.i32(0).load64(this.state + S.ea);
    else {
      this.emitOffset();
      this.f.get(this.frame.record).load16u(Record.segmentBase).load64(this.state).op(Op.i64_add);
    }
    this.f.i64(15).op(Op.i64_and, Op.i64_eqz, Op.i32_eqz);
    this.f.if();
    this.raise(Vector.GeneralProtection, 0);
    this.f.end();
  }

  // --- control -------------------------------------------------------------------------------------------------
  nextRip(bits: number): Value {
    const r = this.frame.record;
    this.f.i32(0).load64(this.state + S.pageRip).get(r).load64of32u(Record.offset).op(Op.i64_add);
    this.f.get(r).load8u(Record.length).op(Op.i64_extend_i32_u, Op.i64_add);
    const full = this.keep(64);
    const wrapped = this.v.codeSize === 16 ? this.and(full, this.constant(0xffff, 64)) : this.v.codeSize === 32 ? this.and(full, this.constant(0xffffffff, 64)) : full;
    return this.truncate(wrapped, bits);
  }
  private pushRelativeTarget(): void {
    const r = this.frame.record;
    this.f.i32(0).load64(this.state + S.pageRip).get(r).load64(Record.immediate).op(Op.i64_add).get(r).load64(Record.mask).op(Op.i64_and);
  }
  checkBranch(condition: Value): void {
    if (this.v.flatCode) return;
    this.emit(condition);
    this.pushRelativeTarget();
    this.f.i32(0).load64of32u(this.state + S.segment + SegmentIndex.CS * SEGMENT_SIZE + Segment.limit).op(Op.i64_gt_u, Op.i32_and);
    this.f.if();
    this.raise(Vector.GeneralProtection, 0);
    this.f.end();
  }
  checkTarget(target: Value): void {
    if (this.v.codeSize === 64) {
      this.emit(target);
      this.f.i64(16).op(Op.i64_shl).i64(16).op(Op.i64_shr_s);
      this.emit(target);
      this.f.op(Op.i64_ne);
    } else if (this.v.flatCode) return;
    else {
      this.emit(target);
      this.f.i32(0).load64of32u(this.state + S.segment + SegmentIndex.CS * SEGMENT_SIZE + Segment.limit).op(Op.i64_gt_u);
    }
    this.f.if();
    this.raise(Vector.GeneralProtection, 0);
    this.f.end();
  }
  jump(target: Value): void {
    const local = this.pool.take(I64);
    this.emit(target);
    this.f.set(local);
    this.frame.jump(local);
    this.left = true;
  }
  branch(condition: Value): void {
    const always = this.asConstant(condition) === 1n;
    if (!always) { this.emit(condition); this.f.if(); }
    if (this.v.inPage) this.frame.takeInPage();
    else {
      const target = this.pool.take(I64);
      this.pushRelativeTarget();
      this.f.set(target);
      this.frame.jump(target);
    }
    if (!always) this.f.end();
    else this.left = true;
  }
  when(condition: Value, then: () => void, otherwise?: () => void): void {
    this.emit(condition);
    this.f.if();
    then();
    if (otherwise) { this.f.else(); otherwise(); }
    this.f.end();
  }
  private raise(vector: number, error: number): void {
    this.f.i32(0).i32(vector).store32(this.state + S.faultVector);
    this.f.i32(0).i32(error).store32(this.state + S.faultError);
    this.f.i32(0).i64(0).store64(this.state + S.faultLinear);
    this.frame.bail();
  }
  private faultIf(condition: Value, vector: number, error: number): void {
    this.emit(condition);
    this.f.if();
    this.raise(vector, error);
    this.f.end();
  }
  fault(vector: number, error = -1): void { this.raise(vector, error); }

  // --- floating point --------------------------------------------------------------------------------------------
  doubleAdd(a: readonly Value[], b: readonly Value[]): readonly Value[] {
    [...a, ...b].forEach((value, i) => { this.f.i32(0); this.emit(value); this.f.store64(this.state + S.scratch + 8 * i); });
    this.f.i32(a.length).call(this.calls.doubleAdd).op(Op.i32_eqz);
    this.f.if();
    this.frame.bail();
    this.f.end();
    return a.map((_, i) => { this.f.i32(0).load64(this.state + S.scratch + 8 * i); return this.keep(64); });
  }
  int32ToDouble(a: Value): Value {
    this.emit(a);
    this.f.op(Op.f64_convert_i32_s, Op.i64_reinterpret_f64);
    return this.keep(64);
  }
}

/** Reuses locals: a function with thousands of them compiles slowly. */
export class Pool {
  private readonly f: FunctionCode;
  private readonly free = new Map<number, number[]>();
  private readonly used: [number, number][] = [];
  constructor(f: FunctionCode) { this.f = f; }
  take(type: typeof I32 | typeof I64): number {
    const local = this.free.get(type)?.pop() ?? this.f.local(type);
    this.used.push([type, local]);
    return local;
  }
  /** All locals taken so far may be reused. */
  release(): void {
    for (const [type, local] of this.used) {
      let list = this.free.get(type);
      if (!list) this.free.set(type, (list = []));
      list.push(local);
    }
    this.used.length = 0;
  }
}

