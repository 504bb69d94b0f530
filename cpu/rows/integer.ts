import { insn, type Row, type RowOptions } from '../row.ts';
import {
  adjustFlag, carryFlag, condition, conditionNames, flagsOfAdd, flagsOfIncrement, flagsOfLogic, flagsOfResult, flagsOfSub, overflowFlag, parityFlag,
  setAllFlags, setCarry, signFlag, zeroFlag, type Builder, type Semantics, type Value,
} from '../semantics.ts';
import { Flag, Gpr } from '../state.ts';

type Declared = Omit<Row, 'id'>;
const rows: Declared[] = [];
const put = (syntax: string, notation: string, meaning: Semantics, options: RowOptions = {}): void => {
  rows.push(insn(syntax, notation, meaning, options));
};
const lock = { lock: true } as const;

// --- two-operand arithmetic and logic (SDM "ADD—Add" and following) ------------------------------------------------
type Alu = (m: Builder, a: Value, b: Value) => Value | null;
const arithmetic: Record<string, Alu> = {
  ADD: (m, a, b) => { const r = m.add(a, b); flagsOfAdd(m, a, b, r); return r; },
  OR: (m, a, b) => { const r = m.or(a, b); flagsOfLogic(m, r); return r; },
  ADC: (m, a, b) => { const c = carryFlag(m); const r = m.add(m.add(a, b), m.zeroExtend(c, a.bits)); flagsOfAdd(m, a, b, r, c); return r; },
  SBB: (m, a, b) => { const c = carryFlag(m); const r = m.sub(m.sub(a, b), m.zeroExtend(c, a.bits)); flagsOfSub(m, a, b, r, c); return r; },
  AND: (m, a, b) => { const r = m.and(a, b); flagsOfLogic(m, r); return r; },
  SUB: (m, a, b) => { const r = m.sub(a, b); flagsOfSub(m, a, b, r); return r; },
  XOR: (m, a, b) => { const r = m.xor(a, b); flagsOfLogic(m, r); return r; },
  CMP: (m, a, b) => { flagsOfSub(m, a, b, m.sub(a, b)); return null; },
};
const binary = (alu: Alu): Semantics => (m) => {
  const result = alu(m, m.read(0), m.read(1));
  if (result) m.write(0, result);
};
const hex = (n: number): string => n.toString(16).toUpperCase().padStart(2, '0');
Object.entries(arithmetic).forEach(([name, alu], i) => {
  const body = binary(alu);
  const options = name === 'CMP' ? {} : lock;
  put(`${name} r/m8, r8`, `${hex(8 * i)} /r`, body, options);
  put(`${name} r/mv, rv`, `${hex(8 * i + 1)} /r`, body, options);
  put(`${name} r8, r/m8`, `${hex(8 * i + 2)} /r`, body);
  put(`${name} rv, r/mv`, `${hex(8 * i + 3)} /r`, body);
  put(`${name} AL, imm8`, `${hex(8 * i + 4)} ib`, body);
  put(`${name} rAX, immz`, `${hex(8 * i + 5)} iz`, body);
  put(`${name} r/m8, imm8`, `80 /${i} ib`, body, options);
  put(`${name} r/mv, immz`, `81 /${i} iz`, body, options);
  put(`${name} r/m8, imm8`, `82 /${i} ib`, body, { ...options, mode: 'no64' });
  put(`${name} r/mv, imm8s`, `83 /${i} ib`, body, options);
});
const test: Semantics = (m) => flagsOfLogic(m, m.and(m.read(0), m.read(1)));
put('TEST r/m8, r8', '84 /r', test);
put('TEST r/mv, rv', '85 /r', test);
put('TEST AL, imm8', 'A8 ib', test);
put('TEST rAX, immz', 'A9 iz', test);
for (const n of [0, 1]) {
  put('TEST r/m8, imm8', `F6 /${n} ib`, test);
  put('TEST r/mv, immz', `F7 /${n} iz`, test);
}

// --- data movement ---------------------------------------------------------------------------------------------
const move: Semantics = (m) => m.write(0, m.read(1));
put('MOV r/m8, r8', '88 /r', move);
put('MOV r/mv, rv', '89 /r', move);
put('MOV r8, r/m8', '8A /r', move);
put('MOV rv, r/mv', '8B /r', move);
put('MOV AL, moffs8', 'A0 moffs', move);
put('MOV rAX, moffsv', 'A1 moffs', move);
put('MOV moffs8, AL', 'A2 moffs', move);
put('MOV moffsv, rAX', 'A3 moffs', move);
put('MOV r8, imm8', 'B0+r ib', move);
put('MOV rv, immv', 'B8+r iv', move);
put('MOV r/m8, imm8', 'C6 /0 ib', move);
put('MOV r/mv, immz', 'C7 /0 iz', move);
put('MOVZX rv, r/m8', '0F B6 /r', (m) => m.write(0, m.zeroExtend(m.read(1), m.bits)));
put('MOVZX rv, r/m16', '0F B7 /r', (m) => m.write(0, m.zeroExtend(m.read(1), m.bits)));
put('MOVSX rv, r/m8', '0F BE /r', (m) => m.write(0, m.signExtend(m.read(1), m.bits)));
put('MOVSX rv, r/m16', '0F BF /r', (m) => m.write(0, m.signExtend(m.read(1), m.bits)));
// with a 16-bit operand only 16 bits are read (SDM "MOVSX/MOVSXD—Move With Sign-Extension")
put('MOVSXD rv, r/m16', 'o16 63 /r', move, { mode: 'only64' });
put('MOVSXD rv, r/m32', 'o32 63 /r', move, { mode: 'only64' });
put('MOVSXD rv, r/m32', 'REX.W 63 /r', (m) => m.write(0, m.signExtend(m.read(1), 64)), { mode: 'only64' });
put('LEA rv, m', '8D /r', (m) => m.write(0, m.truncate(m.address(), m.bits)));
const exchange: Semantics = (m) => { const a = m.read(0); const b = m.read(1); m.write(0, b); m.write(1, a); };
put('XCHG r/m8, r8', '86 /r', exchange, lock);
put('XCHG r/mv, rv', '87 /r', exchange, lock);
put('NOP', '90', () => {});
put('XCHG rv, rAX', '90+r', exchange);
put('NOP r/mv', '0F 1F /0', () => {});
put('XADD r/m8, r8', '0F C0 /r', (m) => exchangeAdd(m), lock);
put('XADD r/mv, rv', '0F C1 /r', (m) => exchangeAdd(m), lock);
function exchangeAdd(m: Builder): void {
  const a = m.read(0);
  const b = m.read(1);
  const sum = m.add(a, b);
  flagsOfAdd(m, a, b, sum);
  m.write(1, a);
  m.write(0, sum);
}
const compareExchange: Semantics = (m) => {
  const old = m.read(0);
  const source = m.read(1);
  const accumulator = m.reg(Gpr.RAX, m.bits);
  const equal = m.eq(accumulator, old);
  flagsOfSub(m, accumulator, old, m.sub(accumulator, old));
  // a memory destination is written in both cases; a register keeps even its upper half where they differ
  const memory = m.operandIsMemory(0);
  if (memory) m.write(0, m.select(equal, source, old));
  m.when(equal, () => { if (!memory) m.write(0, source); }, () => m.setReg(Gpr.RAX, old));
};
put('CMPXCHG r/m8, r8', '0F B0 /r', compareExchange, lock);
put('CMPXCHG r/mv, rv', '0F B1 /r', compareExchange, lock);
const keepFlagsButZero = (m: Builder, zero: Value): void =>
  setAllFlags(m, { CF: carryFlag(m), PF: parityFlag(m), AF: adjustFlag(m), ZF: zero, SF: signFlag(m), OF: overflowFlag(m) });
const compareExchange8: Semantics = (m) => {
  const old = m.read(0);
  const low = m.truncate(old, 32);
  const high = m.truncate(m.shr(old, m.constant(32, 64)), 32);
  const equal = m.and(m.eq(low, m.reg(Gpr.RAX, 32)), m.eq(high, m.reg(Gpr.RDX, 32)));
  const replacement = m.or(m.zeroExtend(m.reg(Gpr.RBX, 32), 64), m.shl(m.zeroExtend(m.reg(Gpr.RCX, 32), 64), m.constant(32, 64)));
  m.write(0, m.select(equal, replacement, old));
  keepFlagsButZero(m, equal);
  m.when(equal, () => {}, () => { m.setReg(Gpr.RAX, low); m.setReg(Gpr.RDX, high); });
};
put('CMPXCHG8B m64', 'o32 0F C7 /1', compareExchange8, lock);
put('CMPXCHG8B m64', 'o16 0F C7 /1', compareExchange8, lock);
put('CMPXCHG16B m128', 'REX.W 0F C7 /1', (m) => {
  m.aligned(0);
  const low = m.readHalf(0, 0);
  const high = m.readHalf(0, 1);
  const equal = m.and(m.eq(low, m.reg(Gpr.RAX, 64)), m.eq(high, m.reg(Gpr.RDX, 64)));
  m.writeHalves(0, m.select(equal, m.reg(Gpr.RBX, 64), low), m.select(equal, m.reg(Gpr.RCX, 64), high));
  keepFlagsButZero(m, equal);
  m.when(equal, () => {}, () => { m.setReg(Gpr.RAX, low); m.setReg(Gpr.RDX, high); });
}, { lock: true, feature: 'CX16' });
const byteSwap = (m: Builder, v: Value): Value => {
  let result = m.constant(0, v.bits);
  for (let at = 0; at < v.bits; at += 8) {
    const byte = m.and(m.shr(v, m.constant(at, v.bits)), m.constant(0xff, v.bits));
    result = m.or(result, m.shl(byte, m.constant(v.bits - 8 - at, v.bits)));
  }
  return result;
};
// a 16-bit BSWAP is undefined; hardware gives 0
put('BSWAP rv', 'o16 0F C8+r', (m) => m.write(0, m.constant(0, 16)));
put('BSWAP rv', 'o32 0F C8+r', (m) => m.write(0, byteSwap(m, m.read(0))));
put('BSWAP rv', 'REX.W 0F C8+r', (m) => m.write(0, byteSwap(m, m.read(0))));
put('MOVBE rv, mv', '0F 38 F0 /r', (m) => m.write(0, byteSwap(m, m.read(1))), { feature: 'MOVBE' });
put('MOVBE mv, rv', '0F 38 F1 /r', (m) => m.write(0, byteSwap(m, m.read(1))), { feature: 'MOVBE' });
put('XLATB', 'D7', (m) => {
  const offset = m.addressWrap(m.add(m.addressReg(Gpr.RBX), m.zeroExtend(m.reg(Gpr.RAX, 8), 64)));
  m.setReg(Gpr.RAX, m.get(m.place('data', offset, 8, 'r'), 8));
});
put('CBW', 'o16 98', (m) => m.setReg(Gpr.RAX, m.signExtend(m.reg(Gpr.RAX, 8), 16)));
put('CWDE', 'o32 98', (m) => m.setReg(Gpr.RAX, m.signExtend(m.reg(Gpr.RAX, 16), 32)));
put('CDQE', 'REX.W 98', (m) => m.setReg(Gpr.RAX, m.signExtend(m.reg(Gpr.RAX, 32), 64)));
const signIntoD = (bits: number): Semantics => (m) => m.setReg(Gpr.RDX, m.sar(m.reg(Gpr.RAX, bits), m.constant(bits - 1, bits)));
put('CWD', 'o16 99', signIntoD(16));
put('CDQ', 'o32 99', signIntoD(32));
put('CQO', 'REX.W 99', signIntoD(64));
conditionNames.forEach((name, code) => {
  put(`CMOV${name} rv, r/mv`, `0F ${hex(0x40 + code)} /r`, (m) => {
    const source = m.read(1);
    m.write(0, m.select(condition(m, code), source, m.read(0)));
  });
  put(`SET${name} r/m8`, `0F ${hex(0x90 + code)} /0`, (m) => m.write(0, m.zeroExtend(condition(m, code), 8)));
});

// --- one-operand arithmetic --------------------------------------------------------------------------------------
const step = (decrement: boolean): Semantics => (m) => {
  const a = m.read(0);
  const one = m.constant(1, a.bits);
  const result = decrement ? m.sub(a, one) : m.add(a, one);
  flagsOfIncrement(m, a, result, decrement);
  m.write(0, result);
};
put('INC r/m8', 'FE /0', step(false), lock);
put('DEC r/m8', 'FE /1', step(true), lock);
put('INC r/mv', 'FF /0', step(false), lock);
put('DEC r/mv', 'FF /1', step(true), lock);
put('INC rv', '40+r', step(false), { mode: 'no64' });
put('DEC rv', '48+r', step(true), { mode: 'no64' });
const not: Semantics = (m) => m.write(0, m.not(m.read(0)));
put('NOT r/m8', 'F6 /2', not, lock);
put('NOT r/mv', 'F7 /2', not, lock);
const neg: Semantics = (m) => {
  const a = m.read(0);
  const zero = m.constant(0, a.bits);
  const result = m.sub(zero, a);
  flagsOfSub(m, zero, a, result);
  m.write(0, result);
};
put('NEG r/m8', 'F6 /3', neg, lock);
put('NEG r/mv', 'F7 /3', neg, lock);
const multiplyWide = (signed: boolean): Semantics => (m) => {
  const source = m.read(0);
  const a = m.reg(Gpr.RAX, source.bits);
  const low = m.mul(a, source);
  const high = m.mulHigh(a, source, signed);
  const fits = signed ? m.eq(high, m.sar(low, m.constant(source.bits - 1, source.bits))) : m.eq(high, m.constant(0, source.bits));
  const over = m.xor(fits, m.constant(1, 1));
  if (source.bits === 8) m.setReg(Gpr.RAX, m.or(m.zeroExtend(low, 16), m.shl(m.zeroExtend(high, 16), m.constant(8, 16))));
  else { m.setReg(Gpr.RAX, low); m.setReg(Gpr.RDX, high); }
  flagsOfResult(m, low, over, over);
};
put('MUL r/m8', 'F6 /4', multiplyWide(false), { cost: 'mul' });
put('MUL r/mv', 'F7 /4', multiplyWide(false), { cost: 'mul' });
put('IMUL r/m8', 'F6 /5', multiplyWide(true), { cost: 'mul' });
put('IMUL r/mv', 'F7 /5', multiplyWide(true), { cost: 'mul' });
const multiply = (first: number): Semantics => (m) => {
  const a = m.read(first);
  const b = m.read(first + 1);
  const low = m.mul(a, b);
  const over = m.xor(m.eq(m.mulHigh(a, b, true), m.sar(low, m.constant(a.bits - 1, a.bits))), m.constant(1, 1));
  flagsOfResult(m, low, over, over);
  m.write(0, low);
};
put('IMUL rv, r/mv', '0F AF /r', multiply(0), { cost: 'mul' });
put('IMUL rv, r/mv, immz', '69 /r iz', multiply(1), { cost: 'mul' });
put('IMUL rv, r/mv, imm8s', '6B /r ib', multiply(1), { cost: 'mul' });
const divide = (signed: boolean): Semantics => (m) => {
  const divisor = m.read(0);
  if (divisor.bits === 8) {
    const dividend = m.reg(Gpr.RAX, 16);
    const [q, r] = m.divide(m.truncate(m.shr(dividend, m.constant(8, 16)), 8), m.truncate(dividend, 8), divisor, signed);
    m.setReg(Gpr.RAX, m.or(m.zeroExtend(q, 16), m.shl(m.zeroExtend(r, 16), m.constant(8, 16))));
    return;
  }
  const [q, r] = m.divide(m.reg(Gpr.RDX, divisor.bits), m.reg(Gpr.RAX, divisor.bits), divisor, signed);
  m.setReg(Gpr.RAX, q);
  m.setReg(Gpr.RDX, r);
};
put('DIV r/m8', 'F6 /6', divide(false), { cost: 'div' });
put('DIV r/mv', 'F7 /6', divide(false), { cost: 'div' });
put('IDIV r/m8', 'F6 /7', divide(true), { cost: 'div' });
put('IDIV r/mv', 'F7 /7', divide(true), { cost: 'div' });

// --- shifts and rotates (SDM "SAL/SAR/SHL/SHR—Shift", "RCL/RCR/ROL/ROR—Rotate") ------------------------------------
type Shifter = (m: Builder, a: Value, count: Value) => { result: Value; carry: Value; overflow: Value; rotate?: true };
const bit = (m: Builder, v: Value, at: Value | number): Value =>
  m.truncate(m.and(m.shr(v, typeof at === 'number' ? m.constant(at, v.bits) : at), m.constant(1, v.bits)), 1);
const wide = (m: Builder, v: Value, signed = false): Value => (signed ? m.signExtend(v, 64) : m.zeroExtend(v, 64));
/** count is a 64-bit value, not 0 and below 32 (64 for 64-bit operands) inside these */
const shifters: Record<string, Shifter> = {
  SHL: (m, a, count) => {
    const top = a.bits - 1;
    if (a.bits === 64) {
      const result = m.shl(a, count);
      const carry = bit(m, a, m.and(m.sub(m.constant(64, 64), count), m.constant(63, 64)));
      return { result, carry, overflow: m.xor(bit(m, result, top), carry) };
    }
    const full = m.shl(wide(m, a), count);
    const result = m.truncate(full, a.bits);
    const carry = bit(m, full, a.bits);
    return { result, carry, overflow: m.xor(bit(m, result, top), carry) };
  },
  SHR: (m, a, count) => {
    const source = wide(m, a);
    const before = m.sub(count, m.constant(1, 64));
    return { result: m.truncate(m.shr(source, count), a.bits), carry: bit(m, source, m.and(before, m.constant(63, 64))), overflow: bit(m, a, a.bits - 1) };
  },
  SAR: (m, a, count) => {
    const source = wide(m, a, true);
    const before = m.sub(count, m.constant(1, 64));
    return { result: m.truncate(m.sar(source, count), a.bits), carry: bit(m, m.sar(source, m.and(before, m.constant(63, 64))), 0), overflow: m.constant(0, 1) };
  },
  ROL: (m, a, count) => {
    const result = rotateLeft(m, a, count);
    const carry = bit(m, result, 0);
    return { result, carry, overflow: m.xor(bit(m, result, a.bits - 1), carry), rotate: true };
  },
  ROR: (m, a, count) => {
    const result = rotateLeft(m, a, m.and(m.sub(m.constant(a.bits, 64), count), m.constant(63, 64)));
    const carry = bit(m, result, a.bits - 1);
    return { result, carry, overflow: m.xor(carry, bit(m, result, a.bits - 2)), rotate: true };
  },
  RCL: (m, a, count) => throughCarry(m, a, count, false),
  RCR: (m, a, count) => throughCarry(m, a, count, true),
};
function rotateLeft(m: Builder, a: Value, count: Value): Value {
  const n = m.and(count, m.constant(a.bits - 1, 64));
  const source = wide(m, a);
  const back = m.and(m.sub(m.constant(a.bits, 64), n), m.constant(a.bits - 1, 64));
  return m.truncate(m.or(m.shl(source, n), m.shr(source, back)), a.bits);
}
function throughCarry(m: Builder, a: Value, count: Value, right: boolean): ReturnType<Shifter> {
  const one = m.constant(1, 64);
  const carryIn = m.zeroExtend(carryFlag(m), 64);
  let result: Value;
  let carry: Value;
  if (a.bits === 64) {
    // count is 1..63 where the flags are used; the double shift avoids a shift by 64
    const back = m.and(m.sub(m.constant(64, 64), count), m.constant(63, 64));
    const less = m.and(m.sub(count, one), m.constant(63, 64));
    if (right) {
      result = m.or(m.or(m.shr(a, count), m.shl(m.shl(a, back), one)), m.shl(carryIn, back));
      carry = bit(m, a, less);
    } else {
      result = m.or(m.or(m.shl(a, count), m.shr(m.shr(a, back), one)), m.shl(carryIn, less));
      carry = bit(m, a, back);
    }
    // the double shift is wrong for a count of 0, which changes nothing
    const none = m.eq(count, m.constant(0, 64));
    result = m.select(none, a, result);
  } else {
    const width = a.bits + 1;
    let n = count;
    if (a.bits === 8) {
      n = m.select(m.ltu(n, m.constant(18, 64)), n, m.sub(n, m.constant(18, 64)));
      n = m.select(m.ltu(n, m.constant(9, 64)), n, m.sub(n, m.constant(9, 64)));
    } else if (a.bits === 16) n = m.select(m.ltu(n, m.constant(17, 64)), n, m.sub(n, m.constant(17, 64)));
    const source = m.or(wide(m, a), m.shl(carryIn, m.constant(a.bits, 64)));
    const back = m.sub(m.constant(width, 64), n);
    const full = right ? m.or(m.shr(source, n), m.shl(source, back)) : m.or(m.shl(source, n), m.shr(source, back));
    result = m.truncate(full, a.bits);
    carry = bit(m, full, a.bits);
  }
  const top = bit(m, result, a.bits - 1);
  return { result, carry, overflow: m.xor(top, right ? bit(m, result, a.bits - 2) : carry), rotate: true };
}
const shift = (shifter: Shifter): Semantics => (m) => {
  const a = m.read(0);
  const raw = m.read(1);
  const count = m.and(m.zeroExtend(raw, 64), m.constant(a.bits === 64 ? 63 : 31, 64));
  const { result, carry, overflow, rotate } = shifter(m, a, count);
  m.write(0, m.select(m.eq(count, m.constant(0, 64)), a, result));
  m.when(m.eq(count, m.constant(0, 64)), () => {}, () => {
    if (rotate) setCarry(m, carry, overflow);
    else flagsOfResult(m, result, carry, overflow);
  });
};
(['ROL', 'ROR', 'RCL', 'RCR', 'SHL', 'SHR', 'SHL', 'SAR'] as const).forEach((name, n) => {
  const body = shift(shifters[name]!);
  put(`${name} r/m8, imm8`, `C0 /${n} ib`, body);
  put(`${name} r/mv, imm8`, `C1 /${n} ib`, body);
  put(`${name} r/m8, 1`, `D0 /${n}`, body);
  put(`${name} r/mv, 1`, `D1 /${n}`, body);
  put(`${name} r/m8, CL`, `D2 /${n}`, body);
  put(`${name} r/mv, CL`, `D3 /${n}`, body);
});
const doubleShift = (right: boolean): Semantics => (m) => {
  const a = m.read(0);
  const b = m.read(1);
  const bits = a.bits;
  const count = m.and(m.zeroExtend(m.read(2), 64), m.constant(bits === 64 ? 63 : 31, 64));
  let result: Value;
  let carry: Value;
  if (bits === 64) {
    const back = m.and(m.sub(m.constant(64, 64), count), m.constant(63, 64));
    const less = m.and(m.sub(count, m.constant(1, 64)), m.constant(63, 64));
    result = right ? m.or(m.shr(a, count), m.shl(b, back)) : m.or(m.shl(a, count), m.shr(b, back));
    carry = right ? bit(m, a, less) : bit(m, a, back);
  } else if (bits === 32) {
    const pair = right
      ? m.or(wide(m, a), m.shl(wide(m, b), m.constant(32, 64)))
      : m.or(m.shl(wide(m, a), m.constant(32, 64)), wide(m, b));
    result = right ? m.truncate(m.shr(pair, count), 32) : m.truncate(m.shr(m.shl(pair, count), m.constant(32, 64)), 32);
    const less = m.and(m.sub(count, m.constant(1, 64)), m.constant(63, 64));
    carry = right ? bit(m, pair, less) : bit(m, wide(m, a), m.and(m.sub(m.constant(32, 64), count), m.constant(63, 64)));
  } else {
    // counts above 16 are undefined; hardware goes on with the destination
    const triple = right
      ? m.or(m.or(wide(m, a), m.shl(wide(m, b), m.constant(16, 64))), m.shl(wide(m, a), m.constant(32, 64)))
      : m.or(m.or(m.shl(wide(m, a), m.constant(32, 64)), m.shl(wide(m, b), m.constant(16, 64))), wide(m, a));
    const full = right ? m.shr(triple, count) : m.shl(triple, count);
    result = right ? m.truncate(full, 16) : m.truncate(m.shr(full, m.constant(32, 64)), 16);
    carry = right ? bit(m, triple, m.and(m.sub(count, m.constant(1, 64)), m.constant(63, 64))) : bit(m, full, 48);
  }
  m.write(0, m.select(m.eq(count, m.constant(0, 64)), a, result));
  m.when(m.eq(count, m.constant(0, 64)), () => {}, () => flagsOfResult(m, result, carry, m.xor(bit(m, result, bits - 1), bit(m, a, bits - 1))));
};
put('SHLD r/mv, rv, imm8', '0F A4 /r ib', doubleShift(false));
put('SHLD r/mv, rv, CL', '0F A5 /r', doubleShift(false));
put('SHRD r/mv, rv, imm8', '0F AC /r ib', doubleShift(true));
put('SHRD r/mv, rv, CL', '0F AD /r', doubleShift(true));

// --- bits --------------------------------------------------------------------------------------------------------
const bitActions: Record<string, ((m: Builder, v: Value, mask: Value) => Value) | null> = {
  BT: null,
  BTS: (m, v, mask) => m.or(v, mask),
  BTR: (m, v, mask) => m.and(v, m.not(mask)),
  BTC: (m, v, mask) => m.xor(v, mask),
};
Object.entries(bitActions).forEach(([name, action], n) => {
  const options = action ? lock : {};
  const apply = (m: Builder, v: Value, at: Value): Value | null => {
    setCarry(m, bit(m, v, at));
    return action ? action(m, v, m.shl(m.constant(1, v.bits), at)) : null;
  };
  put(`${name} r/mv, imm8`, `0F BA /${4 + n} ib`, (m) => {
    const v = m.read(0);
    const raw = m.read(1);
    const at = m.and(v.bits === 64 ? m.zeroExtend(raw, 64) : v.bits > 8 ? m.zeroExtend(raw, v.bits) : raw, m.constant(v.bits - 1, v.bits));
    const result = apply(m, v, at);
    if (result) m.write(0, result);
  }, options);
  put(`${name} Rv, rv`, `0F ${hex(0xa3 + 8 * n)} /r`, (m) => {
    const v = m.read(0);
    const result = apply(m, v, m.and(m.read(1), m.constant(v.bits - 1, v.bits)));
    if (result) m.write(0, result);
  });
  // a memory bit string: the offset reaches beyond the operand (SDM "Bit(BitBase, BitOffset)")
  put(`${name} mv, rv`, `0F ${hex(0xa3 + 8 * n)} /r`, (m) => {
    const offset = m.read(1);
    const shiftBy = m.bits === 64 ? 6 : m.bits === 32 ? 5 : 4;
    const unit = m.sar(m.signExtend(offset, 64), m.constant(shiftBy, 64));
    const at = m.addressWrap(m.add(m.address(), m.shl(unit, m.constant(shiftBy - 3, 64))));
    const place = m.place('data', at, m.bits, action ? 'rw' : 'r');
    const v = m.get(place, m.bits);
    const result = apply(m, v, m.and(offset, m.constant(m.bits - 1, m.bits)));
    if (result) m.put(place, result);
  }, options);
});
const scan = (reverse: boolean): Semantics => (m) => {
  const source = m.read(1);
  const zero = m.eq(source, m.constant(0, source.bits));
  const found = reverse ? m.sub(m.constant(source.bits - 1, source.bits), m.clz(source)) : m.ctz(source);
  // a zero source leaves the whole destination register unchanged
  m.when(zero, () => {}, () => m.write(0, found));
  // the other flags are undefined; ZF is what counts
  setAllFlags(m, { CF: m.constant(0, 1), PF: parityFlag(m), AF: m.constant(0, 1), ZF: zero, SF: m.constant(0, 1), OF: m.constant(0, 1) });
};
put('BSF rv, r/mv', '0F BC /r', scan(false));
put('BSR rv, r/mv', '0F BD /r', scan(true));
const countZeros = (leading: boolean): Semantics => (m) => {
  const source = m.read(1);
  const result = leading ? m.clz(source) : m.ctz(source);
  const none = m.constant(0, 1);
  m.write(0, result);
  setAllFlags(m, { CF: m.eq(source, m.constant(0, source.bits)), PF: none, AF: none, ZF: m.eq(result, m.constant(0, source.bits)), SF: none, OF: none });
};
put('TZCNT rv, r/mv', 'F3 0F BC /r', countZeros(false), { feature: 'BMI1' });
put('LZCNT rv, r/mv', 'F3 0F BD /r', countZeros(true), { feature: 'LZCNT' });
put('POPCNT rv, r/mv', 'F3 0F B8 /r', (m) => {
  const source = m.read(1);
  const none = m.constant(0, 1);
  m.write(0, m.popcnt(source));
  setAllFlags(m, { CF: none, PF: none, AF: none, ZF: m.eq(source, m.constant(0, source.bits)), SF: none, OF: none });
}, { feature: 'POPCNT' });

// --- flags -------------------------------------------------------------------------------------------------------
put('CLC', 'F8', (m) => setCarry(m, m.constant(0, 1)));
put('STC', 'F9', (m) => setCarry(m, m.constant(1, 1)));
put('CMC', 'F5', (m) => setCarry(m, m.xor(carryFlag(m), m.constant(1, 1))));
put('CLD', 'FC', (m) => m.setFlagsRest(m.and(m.flagsRest(), m.constant(~Flag.DF, 32))));
put('STD', 'FD', (m) => m.setFlagsRest(m.or(m.flagsRest(), m.constant(Flag.DF, 32))));
put('LAHF', '9F', (m) => {
  const at = (v: Value, n: number): Value => m.shl(m.zeroExtend(v, 32), m.constant(n, 32));
  const flags = m.or(m.or(m.or(at(carryFlag(m), 0), at(parityFlag(m), 2)), m.or(at(adjustFlag(m), 4), at(zeroFlag(m), 6))), m.or(at(signFlag(m), 7), m.constant(2, 32)));
  const ax = m.or(m.and(m.reg(Gpr.RAX, 16), m.constant(0xff, 16)), m.shl(m.truncate(flags, 16), m.constant(8, 16)));
  m.setReg(Gpr.RAX, ax);
});
put('SAHF', '9E', (m) => {
  const ah = m.shr(m.reg(Gpr.RAX, 16), m.constant(8, 16));
  setAllFlags(m, { CF: bit(m, ah, 0), PF: bit(m, ah, 2), AF: bit(m, ah, 4), ZF: bit(m, ah, 6), SF: bit(m, ah, 7), OF: overflowFlag(m) });
});

// --- control transfer --------------------------------------------------------------------------------------------
const near = { size: 'f64', cost: 'branch' } as const;
conditionNames.forEach((name, code) => {
  const body: Semantics = (m) => { const taken = condition(m, code); m.checkBranch(taken); m.branch(taken); };
  put(`J${name} rel8`, `${hex(0x70 + code)} cb`, body, near);
  put(`J${name} relz`, `0F ${hex(0x80 + code)} cz`, body, near);
});
const jumpRelative: Semantics = (m) => { const always = m.constant(1, 1); m.checkBranch(always); m.branch(always); };
put('JMP rel8', 'EB cb', jumpRelative, near);
put('JMP relz', 'E9 cz', jumpRelative, near);
put('JMP r/mv', 'FF /4', (m) => { const target = m.zeroExtend(m.read(0), 64); m.checkTarget(target); m.jump(target); }, near);
const loop = (test: (m: Builder) => Value | null): Semantics => (m) => {
  const count = m.addressWrap(m.sub(m.addressReg(Gpr.RCX), m.constant(1, 64)));
  const more = m.xor(m.eq(count, m.constant(0, 64)), m.constant(1, 1));
  const also = test(m);
  const taken = also ? m.and(more, also) : more;
  m.checkBranch(taken);
  m.setAddressReg(Gpr.RCX, count);
  m.branch(taken);
};
put('LOOPNE rel8', 'E0 cb', loop((m) => m.xor(zeroFlag(m), m.constant(1, 1))), near);
put('LOOPE rel8', 'E1 cb', loop(zeroFlag), near);
put('LOOP rel8', 'E2 cb', loop(() => null), near);
const jumpIfZero: Semantics = (m) => { const taken = m.eq(m.addressReg(Gpr.RCX), m.constant(0, 64)); m.checkBranch(taken); m.branch(taken); };
put('JCXZ rel8', 'a16 E3 cb', jumpIfZero, near);
put('JECXZ rel8', 'a32 E3 cb', jumpIfZero, near);
put('JRCXZ rel8', 'a64 E3 cb', jumpIfZero, near);
const pushValue = (m: Builder, value: Value): void => {
  const at = m.stackWrap(m.sub(m.stackPointer(), m.constant(value.bits / 8, 64)));
  const place = m.stackPlace(at, value.bits, 'w');
  m.put(place, value);
  m.setStackPointer(at);
};
const call = { size: 'f64', cost: 'call' } as const;
put('CALL relz', 'E8 cz', (m) => {
  const always = m.constant(1, 1);
  m.checkBranch(always);
  pushValue(m, m.nextRip(m.bits));
  m.branch(always);
}, call);
put('CALL r/mv', 'FF /2', (m) => {
  const target = m.zeroExtend(m.read(0), 64);
  m.checkTarget(target);
  pushValue(m, m.nextRip(m.bits));
  m.jump(target);
}, call);
const ret = (release: boolean): Semantics => (m) => {
  const pointer = m.stackPointer();
  const target = m.zeroExtend(m.get(m.stackPlace(pointer, m.bits, 'r'), m.bits), 64);
  m.checkTarget(target);
  let next = m.add(pointer, m.constant(m.bits / 8, 64));
  if (release) next = m.add(next, m.zeroExtend(m.read(0), 64));
  m.setStackPointer(m.stackWrap(next));
  m.jump(target);
};
put('RET imm16', 'C2 iw', ret(true), { size: 'f64', cost: 'ret' });
put('RET', 'C3', ret(false), { size: 'f64', cost: 'ret' });

// --- stack -------------------------------------------------------------------------------------------------------
const stack = { size: 'd64', cost: 'stack' } as const;
const push: Semantics = (m) => pushValue(m, m.read(0));
put('PUSH rv', '50+r', push, stack);
put('PUSH immz', '68 iz', push, stack);
put('PUSH imm8s', '6A ib', push, stack);
put('PUSH r/mv', 'FF /6', push, stack);
const pop: Semantics = (m) => {
  const pointer = m.stackPointer();
  const value = m.get(m.stackPlace(pointer, m.bits, 'r'), m.bits);
  const next = m.stackWrap(m.add(pointer, m.constant(m.bits / 8, 64)));
  // POP rSP: the popped value wins; a memory operand based on rSP is addressed with the new pointer (see popDisplacement)
  if (m.operandIsMemory(0)) {
    m.write(0, value);
    m.setStackPointer(next);
  } else {
    m.setStackPointer(next);
    m.write(0, value);
  }
};
put('POP rv', '58+r', pop, stack);
put('POP r/mv', '8F /0', pop, stack);
const order = [Gpr.RAX, Gpr.RCX, Gpr.RDX, Gpr.RBX, Gpr.RSP, Gpr.RBP, Gpr.RSI, Gpr.RDI];
put('PUSHAv', '60', (m) => {
  const pointer = m.stackPointer();
  const size = m.bits / 8;
  const at = order.map((_, i) => m.stackWrap(m.sub(pointer, m.constant(size * (i + 1), 64))));
  for (const offset of at) m.stackPlace(offset, m.bits, 'w');
  order.forEach((n, i) => m.put(m.stackPlace(at[i]!, m.bits, 'w'), m.reg(n, m.bits)));
  m.setStackPointer(at[7]!);
}, { mode: 'no64', cost: 'stack' });
put('POPAv', '61', (m) => {
  const pointer = m.stackPointer();
  const size = m.bits / 8;
  const values = order.map((_, i) => m.get(m.stackPlace(m.stackWrap(m.add(pointer, m.constant(size * i, 64))), m.bits, 'r'), m.bits));
  m.setStackPointer(m.stackWrap(m.add(pointer, m.constant(size * 8, 64))));
  // popped in the reverse order; the stack pointer's image is skipped
  order.forEach((n, i) => { if (order[7 - i] !== Gpr.RSP) m.setReg(order[7 - i]!, values[i]!); void n; });
}, { mode: 'no64', cost: 'stack' });
put('LEAVE', 'C9', (m) => {
  const frame = m.stackWrap(m.reg(Gpr.RBP, 64));
  const value = m.get(m.stackPlace(frame, m.bits, 'r'), m.bits);
  m.setStackPointer(m.stackWrap(m.add(frame, m.constant(m.bits / 8, 64))));
  m.setReg(Gpr.RBP, value);
}, stack);

// --- strings: one iteration; repetition is the engine's (SDM "REP/REPE/REPZ/REPNE/REPNZ") -------------------------
const advance = (m: Builder, registers: readonly number[]): void => {
  const backwards = m.truncate(m.and(m.shr(m.flagsRest(), m.constant(10, 32)), m.constant(1, 32)), 1);
  const by = m.select(backwards, m.constant(-m.bits / 8, 64), m.constant(m.bits / 8, 64));
  for (const n of registers) m.setAddressReg(n, m.addressWrap(m.add(m.addressReg(n), by)));
};
const ES = 0;
const strings: Record<string, readonly [number, Semantics, 'rep' | 'repe']> = {
  MOVS: [0xa4, (m) => {
    const value = m.get(m.place('data', m.addressReg(Gpr.RSI), m.bits, 'r'), m.bits);
    m.put(m.place(ES, m.addressReg(Gpr.RDI), m.bits, 'w'), value);
    advance(m, [Gpr.RSI, Gpr.RDI]);
  }, 'rep'],
  CMPS: [0xa6, (m) => {
    const a = m.get(m.place('data', m.addressReg(Gpr.RSI), m.bits, 'r'), m.bits);
    const b = m.get(m.place(ES, m.addressReg(Gpr.RDI), m.bits, 'r'), m.bits);
    flagsOfSub(m, a, b, m.sub(a, b));
    advance(m, [Gpr.RSI, Gpr.RDI]);
  }, 'repe'],
  STOS: [0xaa, (m) => {
    m.put(m.place(ES, m.addressReg(Gpr.RDI), m.bits, 'w'), m.reg(Gpr.RAX, m.bits));
    advance(m, [Gpr.RDI]);
  }, 'rep'],
  LODS: [0xac, (m) => {
    m.setReg(Gpr.RAX, m.get(m.place('data', m.addressReg(Gpr.RSI), m.bits, 'r'), m.bits));
    advance(m, [Gpr.RSI]);
  }, 'rep'],
  SCAS: [0xae, (m) => {
    const a = m.reg(Gpr.RAX, m.bits);
    const b = m.get(m.place(ES, m.addressReg(Gpr.RDI), m.bits, 'r'), m.bits);
    flagsOfSub(m, a, b, m.sub(a, b));
    advance(m, [Gpr.RDI]);
  }, 'repe'],
};
for (const [name, [opcode, body, rep]] of Object.entries(strings)) {
  put(`${name}B`, hex(opcode), body, { rep, cost: 'string' });
  put(`${name}v`, hex(opcode + 1), body, { rep, cost: 'string' });
}

// --- BCD (SDM "DAA—Decimal Adjust AL After Addition" and following) ----------------------------------------------
const bcd = { mode: 'no64', cost: 'bcd' } as const;
const decimal = (subtract: boolean): Semantics => (m) => {
  const old = m.reg(Gpr.RAX, 8);
  const oldCarry = carryFlag(m);
  const apply = (v: Value, n: number): Value => (subtract ? m.sub(v, m.constant(n, 8)) : m.add(v, m.constant(n, 8)));
  const low = m.or(m.ltu(m.constant(9, 8), m.and(old, m.constant(15, 8))), adjustFlag(m));
  const high = m.or(m.ltu(m.constant(0x99, 8), old), oldCarry);
  const first = m.select(low, apply(old, 6), old);
  const borrowed = subtract ? m.and(low, m.ltu(old, m.constant(6, 8))) : m.and(low, m.ltu(m.constant(0xf9, 8), old));
  const result = m.select(high, apply(first, 0x60), first);
  const carry = subtract ? m.or(high, m.or(m.and(low, oldCarry), borrowed)) : m.or(high, m.and(low, m.or(oldCarry, borrowed)));
  m.setReg(Gpr.RAX, result);
  m.setFlagResult(result);
  m.setFlagBits(m.or(m.zeroExtend(carry, 32), m.shl(m.zeroExtend(low, 32), m.constant(4, 32))));
};
put('DAA', '27', decimal(false), bcd);
put('DAS', '2F', decimal(true), bcd);
const ascii = (subtract: boolean): Semantics => (m) => {
  const ax = m.reg(Gpr.RAX, 16);
  const low = m.and(m.reg(Gpr.RAX, 8), m.constant(15, 8));
  const adjust = m.or(m.ltu(m.constant(9, 8), low), adjustFlag(m));
  const by = m.constant(0x106, 16);
  const changed = m.select(adjust, subtract ? m.sub(ax, by) : m.add(ax, by), ax);
  m.setReg(Gpr.RAX, m.and(changed, m.constant(0xff0f, 16)));
  // SF, ZF, PF and OF are undefined
  m.setFlagResult(m.truncate(m.and(changed, m.constant(15, 16)), 8));
  m.setFlagBits(m.or(m.zeroExtend(adjust, 32), m.shl(m.zeroExtend(adjust, 32), m.constant(4, 32))));
};
put('AAA', '37', ascii(false), bcd);
put('AAS', '3F', ascii(true), bcd);
put('AAM imm8', 'D4 ib', (m) => {
  const [q, r] = m.divide(m.constant(0, 8), m.reg(Gpr.RAX, 8), m.read(0), false);
  m.setReg(Gpr.RAX, m.or(m.shl(m.zeroExtend(q, 16), m.constant(8, 16)), m.zeroExtend(r, 16)));
  flagsOfLogic(m, r);
}, bcd);
put('AAD imm8', 'D5 ib', (m) => {
  const ax = m.reg(Gpr.RAX, 16);
  const high = m.truncate(m.shr(ax, m.constant(8, 16)), 8);
  const result = m.add(m.truncate(ax, 8), m.mul(high, m.read(0)));
  m.setReg(Gpr.RAX, m.zeroExtend(result, 16));
  flagsOfLogic(m, result);
}, bcd);

/** The general-purpose integer instruction set. */
export const integerRows: readonly Declared[] = rows;
