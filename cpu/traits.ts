import type { Builder, Place, SegmentChoice, Semantics, Value } from './semantics.ts';
import type { Operand, Row } from './row.ts';

/** What a micro-op definition does, found by running it once against a recorder. */
export interface Traits {
  /** Operand numbers read and written. */
  readonly reads: ReadonlySet<number>;
  readonly writes: ReadonlySet<number>;
  /** Pushes, pops or uses the stack pointer. */
  readonly stack: boolean;
  /** Uses segment:offset accesses of its own (strings, XLATB, bit strings) rather than a memory operand. */
  readonly places: boolean;
  /** Uses the offset of the memory operand (LEA, bit strings). */
  readonly address: boolean;
  /** Uses address-sized registers. */
  readonly addressRegisters: boolean;
  /** Ends in a relative branch; in any other transfer. */
  readonly branch: boolean;
  readonly jump: boolean;
  /** May raise a fault of its own besides memory faults. */
  readonly faults: boolean;
}

/** Width of an operand in bits, given the operand size. */
export function operandBits(operand: Operand, operandSize: number): number {
  switch (operand.width) {
    case 'b': return 8;
    case 'w': return 16;
    case 'd': return 32;
    case 'q': return 64;
    case 'v': return operandSize;
    case 'y': return operandSize === 64 ? 64 : 32;
    case 'z': return operandSize === 16 ? 16 : 32;
    case 'x': return 128;
    case 't': return 80;
    default: return operandSize;
  }
}

/** Width a value of this operand has inside a definition: immediates are extended to the operand size. */
export function valueBits(row: Row, i: number, operandSize: number): number {
  const operand = row.operands[i]!;
  if (operand.kind === 'imm' && operand.signed) return rowBits(row, operandSize);
  return operandBits(operand, operandSize);
}

/** Builder.bits of a row: 8 for byte rows, else the operand size. */
export function rowBits(row: Row, operandSize: number): number {
  if (row.operands.length ? row.operands[0]!.width === 'b' && !row.operands[0]!.signed : /^(MOVS|CMPS|STOS|LODS|SCAS)B$/.test(row.mnemonic)) return 8;
  return operandSize;
}

class Recorder implements Builder {
  readonly bits: number;
  readonly addressBits = 32;
  readonly codeBits = 32;
  readonly reads = new Set<number>();
  readonly writes = new Set<number>();
  stack = false; places = false; usesAddress = false; addressRegisters = false; branches = false; jumps = false; faults = false;
  private readonly row: Row;
  constructor(row: Row) {
    this.row = row;
    this.bits = rowBits(row, 32);
  }
  private value(bits: number): Value { return { bits }; }
  constant(_value: number | bigint, bits: number): Value { return this.value(bits); }
  read(i: number): Value { this.reads.add(i); return this.value(valueBits(this.row, i, 32)); }
  write(i: number): void { this.writes.add(i); }
  operandIsMemory(): boolean { return false; }
  reg(_n: number, bits: number): Value { return this.value(bits); }
  setReg(): void { /* nothing to record */ }
  readHalf(i: number): Value { this.reads.add(i); return this.value(64); }
  writeHalves(i: number): void { this.writes.add(i); }
  add(a: Value): Value { return a; }
  sub(a: Value): Value { return a; }
  and(a: Value): Value { return a; }
  or(a: Value): Value { return a; }
  xor(a: Value): Value { return a; }
  mul(a: Value): Value { return a; }
  not(a: Value): Value { return a; }
  shl(a: Value): Value { return a; }
  shr(a: Value): Value { return a; }
  sar(a: Value): Value { return a; }
  eq(): Value { return this.value(1); }
  ltu(): Value { return this.value(1); }
  lts(): Value { return this.value(1); }
  select(_c: Value, a: Value): Value { return a; }
  zeroExtend(_a: Value, bits: number): Value { return this.value(bits); }
  signExtend(_a: Value, bits: number): Value { return this.value(bits); }
  truncate(_a: Value, bits: number): Value { return this.value(bits); }
  ctz(a: Value): Value { return a; }
  clz(a: Value): Value { return a; }
  popcnt(a: Value): Value { return a; }
  mulHigh(a: Value): Value { return a; }
  divide(a: Value): readonly [Value, Value] { this.faults = true; return [a, a]; }
  flagResult(): Value { return this.value(64); }
  flagBits(): Value { return this.value(32); }
  setFlagResult(): void { /* nothing to record */ }
  setFlagBits(): void { /* nothing to record */ }
  flagsRest(): Value { return this.value(32); }
  setFlagsRest(): void { /* nothing to record */ }
  address(): Value { this.usesAddress = true; return this.value(64); }
  addressWrap(a: Value): Value { return a; }
  place(_segment: SegmentChoice, _offset: Value, bits: number): Place { this.places = true; return { size: bits / 8 }; }
  get(_place: Place, bits: number): Value { return this.value(bits); }
  put(): void { /* nothing to record */ }
  addressReg(): Value { this.addressRegisters = true; return this.value(64); }
  setAddressReg(): void { this.addressRegisters = true; }
  stackPointer(): Value { this.stack = true; return this.value(64); }
  setStackPointer(): void { this.stack = true; }
  stackWrap(a: Value): Value { this.stack = true; return a; }
  stackPlace(_offset: Value, bits: number): Place { this.stack = true; return { size: bits / 8 }; }
  nextRip(bits: number): Value { return this.value(bits); }
  checkTarget(): void { this.faults = true; }
  jump(): void { this.jumps = true; }
  checkBranch(): void { /* nothing to record */ }
  branch(): void { this.branches = true; }
  aligned(): void { this.faults = true; }
  when(_c: Value, then: () => void, otherwise?: () => void): void { then(); otherwise?.(); }
  fault(): void { this.faults = true; }
  doubleAdd(a: readonly Value[]): readonly Value[] { this.faults = true; return a; }
  int32ToDouble(): Value { return this.value(64); }
}

const known = new WeakMap<Semantics, Map<string, Traits>>();

/** Traits of a row with micro-op semantics. */
export function traitsOf(row: Row): Traits {
  if (!row.semantics) throw new Error(`row ${row.syntax} has no micro-op semantics`);
  let byRow = known.get(row.semantics);
  if (!byRow) known.set(row.semantics, (byRow = new Map()));
  let traits = byRow.get(row.syntax);
  if (!traits) {
    const r = new Recorder(row);
    row.semantics(r);
    traits = { reads: r.reads, writes: r.writes, stack: r.stack, places: r.places, address: r.usesAddress, addressRegisters: r.addressRegisters, branch: r.branches, jump: r.jumps, faults: r.faults };
    byRow.set(row.syntax, traits);
  }
  return traits;
}
