import { popDisplacement } from './code-cache.ts';
import type { Cpu } from './cpu.ts';
import { DecodeError, Decoder } from './decode.ts';
import { Status } from './emit.ts';
import { addPackedDouble, executeSystem, iterationCost, recordFault, sseFault, updateMode, wideDivide, type Engine } from './engine.ts';
import { fault, isFault, Vector } from './fault.ts';
import type { Instruction } from './instruction.ts';
import type { Isa } from './isa.ts';
import { AccessKind } from './mmu.ts';
import { codeSizeOf, Mode } from './mode.ts';
import type { Builder, Place, SegmentChoice, Value } from './semantics.ts';
import { Gpr, Leave, S, Segment, SEGMENT_SIZE, SegmentIndex } from './state.ts';
import { operandBits, rowBits, traitsOf, valueBits } from './traits.ts';

interface Big extends Value { readonly v: bigint }
interface BigPlace extends Place { readonly linear: number; readonly stack: boolean }
const CANONICAL = 2 ** 47;

/** Computes one instruction in BigInt: obviously correct and slow. Effects happen in the order of the definition. */
class Evaluation implements Builder {
  readonly bits: number;
  readonly addressBits: number;
  readonly codeBits: number;
  /** RIP to continue at, or null for the next instruction. */
  target: bigint | null = null;
  private readonly cpu: Cpu;
  private readonly insn: Instruction;
  private readonly places = new Map<number, BigPlace>();

  constructor(cpu: Cpu, insn: Instruction) {
    this.cpu = cpu;
    this.insn = insn;
    this.bits = rowBits(insn.row, insn.operandSize);
    this.addressBits = insn.addressSize;
    this.codeBits = insn.codeSize;
  }
  private big(v: bigint, bits: number): Big { return { bits, v: BigInt.asUintN(bits, v) }; }
  private of(value: Value): bigint { return (value as Big).v; }
  private signed(value: Value): bigint { return BigInt.asIntN(value.bits, (value as Big).v); }
  constant(value: number | bigint, bits: number): Value { return this.big(BigInt(value), bits); }

  private register(i: number): number {
    const operand = this.insn.row.operands[i]!;
    switch (operand.kind) {
      case 'reg': return this.insn.row.encoding.plusRegister ? this.insn.rm : this.insn.reg;
      case 'xmm': return this.insn.reg;
      case 'rm': case 'xmmrm': return this.insn.memory ? -1 : this.insn.rm;
      case 'rmreg': case 'xmmreg': return this.insn.rm;
      case 'fixed': return operand.fixed!;
      default: return -1;
    }
  }
  operandIsMemory(i: number): boolean {
    const kind = this.insn.row.operands[i]!.kind;
    return kind === 'mem' || kind === 'moffs' || ((kind === 'rm' || kind === 'xmmrm') && this.insn.memory);
  }
  /** Byte registers 4..7 without REX are AH CH DH BH. */
  private highByte(n: number, bits: number, i: number): boolean {
    return bits === 8 && this.insn.rex === 0 && n >= 4 && n < 8 && this.insn.row.operands[i]!.kind !== 'fixed';
  }
  read(i: number): Value {
    const { row } = this.insn;
    const operand = row.operands[i]!;
    const bits = valueBits(row, i, this.insn.operandSize);
    if (operand.kind === 'one') return this.big(1n, 8);
    if (operand.kind === 'imm') return this.big((BigInt(this.insn.immediateHigh) << 32n) | BigInt(this.insn.immediate >>> 0), bits);
    const n = this.register(i);
    if (n < 0) return this.get(this.operandPlace(i, bits), bits);
    return this.highByte(n, bits, i) ? this.big(this.cpu.reg64(n - 4) >> 8n, 8) : this.big(this.cpu.reg64(n), bits);
  }
  write(i: number, value: Value): void {
    const n = this.register(i);
    if (n < 0) { this.put(this.operandPlace(i, operandBits(this.insn.row.operands[i]!, this.insn.operandSize)), value); return; }
    if (this.highByte(n, value.bits, i)) this.cpu.u8[this.cpu.base + S.gpr + (n - 4) * 8 + 1] = Number(this.of(value));
    else this.cpu.setReg(n, value.bits, this.of(value));
  }
  readHalf(i: number, half: number): Value {
    const n = this.register(i);
    if (n >= 0) return this.big(this.cpu.get64(S.xmm + n * 16 + half * 8), 64);
    return this.get(this.operandPlace(i, operandBits(this.insn.row.operands[i]!, this.insn.operandSize)), 64, half * 8);
  }
  writeHalves(i: number, low: Value, high: Value): void {
    const n = this.register(i);
    [low, high].forEach((value, half) => {
      if (n >= 0) this.cpu.set64(S.xmm + n * 16 + half * 8, this.of(value));
      else this.put(this.operandPlace(i, 128), value, half * 8);
    });
  }
  reg(n: number, bits: number): Value { return this.big(this.cpu.reg64(n), bits); }
  setReg(n: number, value: Value): void { this.cpu.setReg(n, value.bits, this.of(value)); }

  add(a: Value, b: Value): Value { return this.big(this.of(a) + this.of(b), a.bits); }
  sub(a: Value, b: Value): Value { return this.big(this.of(a) - this.of(b), a.bits); }
  and(a: Value, b: Value): Value { return this.big(this.of(a) & this.of(b), a.bits); }
  or(a: Value, b: Value): Value { return this.big(this.of(a) | this.of(b), a.bits); }
  xor(a: Value, b: Value): Value { return this.big(this.of(a) ^ this.of(b), a.bits); }
  mul(a: Value, b: Value): Value { return this.big(this.of(a) * this.of(b), a.bits); }
  not(a: Value): Value { return this.big(~this.of(a), a.bits); }
  /** Counts at or above the width give an unspecified value: definitions select it away. */
  private count(a: Value, count: Value): bigint { return this.of(count) & (a.bits === 64 ? 63n : 31n); }
  shl(a: Value, count: Value): Value { return this.big(this.of(a) << this.count(a, count), a.bits); }
  shr(a: Value, count: Value): Value { return this.big(this.of(a) >> this.count(a, count), a.bits); }
  sar(a: Value, count: Value): Value { return this.big(this.signed(a) >> this.count(a, count), a.bits); }
  eq(a: Value, b: Value): Value { return this.big(this.of(a) === this.of(b) ? 1n : 0n, 1); }
  ltu(a: Value, b: Value): Value { return this.big(this.of(a) < this.of(b) ? 1n : 0n, 1); }
  lts(a: Value, b: Value): Value { return this.big(this.signed(a) < this.signed(b) ? 1n : 0n, 1); }
  select(condition: Value, whenTrue: Value, whenFalse: Value): Value { return this.of(condition) ? whenTrue : whenFalse; }
  zeroExtend(a: Value, bits: number): Value { return this.big(this.of(a), bits); }
  signExtend(a: Value, bits: number): Value { return this.big(this.signed(a), bits); }
  truncate(a: Value, bits: number): Value { return this.big(this.of(a), bits); }
  ctz(a: Value): Value {
    let n = 0n;
    while (n < a.bits && !((this.of(a) >> n) & 1n)) n++;
    return this.big(n, a.bits);
  }
  clz(a: Value): Value {
    let n = 0n;
    while (n < a.bits && !((this.of(a) >> (BigInt(a.bits) - 1n - n)) & 1n)) n++;
    return this.big(n, a.bits);
  }
  popcnt(a: Value): Value {
    let n = 0n;
    for (let v = this.of(a); v; v >>= 1n) n += v & 1n;
    return this.big(n, a.bits);
  }
  mulHigh(a: Value, b: Value, signed: boolean): Value {
    return this.big((signed ? this.signed(a) * this.signed(b) : this.of(a) * this.of(b)) >> BigInt(a.bits), a.bits);
  }
  divide(high: Value, low: Value, divisor: Value, signed: boolean): readonly [Value, Value] {
    const bits = divisor.bits;
    if (bits === 64) {
      [high, low, divisor].forEach((value, i) => this.cpu.set64(S.scratch + 8 * i, this.of(value)));
      if (!wideDivide(this.cpu, signed)) throw fault(Vector.DivideError);
      return [this.big(this.cpu.get64(S.scratch), 64), this.big(this.cpu.get64(S.scratch + 8), 64)];
    }
    const raw = (this.of(high) << BigInt(bits)) | this.of(low);
    const dividend = signed ? BigInt.asIntN(2 * bits, raw) : raw;
    const d = signed ? this.signed(divisor) : this.of(divisor);
    if (d === 0n) throw fault(Vector.DivideError);
    const q = dividend / d;
    if ((signed ? BigInt.asIntN(bits, q) : BigInt.asUintN(bits, q)) !== q) throw fault(Vector.DivideError);
    return [this.big(q, bits), this.big(dividend - q * d, bits)];
  }

  flagResult(): Value { return this.big(this.cpu.get64(S.flagResult), 64); }
  flagBits(): Value { return this.big(BigInt(this.cpu.get32(S.flagBits)), 32); }
  setFlagResult(result: Value): void { this.cpu.set64(S.flagResult, BigInt.asUintN(64, this.signed(result))); }
  setFlagBits(bits: Value): void { this.cpu.set32(S.flagBits, Number(this.of(bits))); }
  flagsRest(): Value { return this.big(BigInt(this.cpu.get32(S.flagsRest)), 32); }
  setFlagsRest(value: Value): void { this.cpu.set32(S.flagsRest, Number(this.of(value))); }

  /** Offset of the memory operand, wrapped to the address size. */
  address(): Value {
    const { insn, cpu } = this;
    let a = (BigInt(insn.displacementHigh) << 32n) + BigInt(insn.displacement >>> 0) + BigInt(popDisplacement(insn));
    if (insn.base === 16) a += BigInt(cpu.rip + insn.length);
    else if (insn.base >= 0) a += cpu.reg64(insn.base);
    if (insn.index >= 0) a += cpu.reg64(insn.index) << BigInt(insn.scale);
    return this.big(BigInt.asUintN(this.addressBits, a), 64);
  }
  addressWrap(offset: Value): Value { return this.big(BigInt.asUintN(this.addressBits, this.of(offset)), 64); }
  private operandPlace(i: number, bits: number): BigPlace {
    let place = this.places.get(i);
    if (!place) {
      const traits = traitsOf(this.insn.row);
      const write = traits.writes.has(i);
      place = this.check(this.insn.segment, this.offset(this.address()), bits / 8, write);
      this.places.set(i, place);
    }
    return place;
  }
  /** Segment checks of the memory operand come before everything else the instruction does (of POP, the stack). */
  checkSegments(): void {
    if (this.insn.codeSize === 64 || !this.insn.memory) return;
    const { reads, writes } = traitsOf(this.insn.row);
    this.insn.row.operands.forEach((operand, i) => {
      if (this.operandIsMemory(i) && (reads.has(i) || writes.has(i))) this.cpu.linear(this.insn.segment, this.offset(this.address()), operandBits(operand, this.insn.operandSize) / 8, writes.has(i));
    });
  }
  private check(segment: number, offset: number, size: number, write: boolean): BigPlace {
    const cpu = this.cpu;
    const linear = cpu.linear(segment, offset, size, write);
    cpu.checkAlignment(linear, size);
    if (write) cpu.probeWrite(linear, size);
    else cpu.probeRead(linear, size);
    return { size, linear, stack: segment === SegmentIndex.SS };
  }
  place(segment: SegmentChoice, offset: Value, bits: number, access: 'r' | 'w' | 'rw'): Place {
    return this.check(segment === 'data' ? this.insn.segment : segment, this.offset(offset), bits / 8, access !== 'r');
  }
  /** An offset as the number that Cpu.linear takes. */
  private offset(value: Value): number { return Number(this.insn.codeSize === 64 ? this.signed(value) : this.of(value)); }
  get(place: Place, bits: number, at = 0): Value {
    const { linear } = place as BigPlace;
    const from = this.cpu.wrapLinear(linear + at);
    return this.big(bits === 64 ? this.cpu.load64(from) : BigInt(this.cpu.load(from, (bits / 8) as 1 | 2 | 4)), bits);
  }
  put(place: Place, value: Value, at = 0): void {
    const to = this.cpu.wrapLinear((place as BigPlace).linear + at);
    if (value.bits === 64) this.cpu.store64(to, this.of(value));
    else this.cpu.store(to, (value.bits / 8) as 1 | 2 | 4, Number(this.of(value)));
  }
  addressReg(n: number): Value { return this.big(BigInt.asUintN(this.addressBits, this.cpu.reg64(n)), 64); }
  setAddressReg(n: number, value: Value): void { this.cpu.setReg(n, this.addressBits, this.of(value)); }
  private get stackBits(): number {
    const mode = this.cpu.get32(S.mode);
    return this.insn.codeSize === 64 ? 64 : mode & Mode.BigStack ? 32 : 16;
  }
  stackPointer(): Value { return this.stackWrap(this.reg(Gpr.RSP, 64)); }
  stackWrap(offset: Value): Value { return this.big(BigInt.asUintN(this.stackBits, this.of(offset)), 64); }
  setStackPointer(offset: Value): void { this.cpu.setReg(Gpr.RSP, this.stackBits, this.of(offset)); }
  stackPlace(offset: Value, bits: number, access: 'r' | 'w'): Place {
    return this.check(SegmentIndex.SS, this.offset(offset), bits / 8, access === 'w');
  }
  aligned(i: number): void {
    if (!this.operandIsMemory(i)) return;
    const segment = this.insn.segment;
    const base = this.insn.codeSize === 64 && segment < SegmentIndex.FS ? 0n : this.cpu.get64(S.segment + segment * SEGMENT_SIZE + Segment.base);
    // limits come first
    if (this.insn.codeSize !== 64) this.cpu.linear(segment, this.offset(this.address()), 16, traitsOf(this.insn.row).writes.has(i));
    if ((base + this.of(this.address())) & 15n) throw fault(Vector.GeneralProtection, 0);
  }
  nextRip(bits: number): Value { return this.big(BigInt(this.cpu.nextRip(this.insn)), bits); }
  private relative(): bigint {
    const target = BigInt(this.cpu.rip + this.insn.length + this.insn.immediate);
    return this.insn.operandSize === 64 ? target : BigInt.asUintN(this.insn.operandSize, target);
  }
  checkBranch(condition: Value): void {
    if (!this.of(condition) || this.insn.codeSize === 64) return;
    if (this.relative() > BigInt(this.cpu.limit(SegmentIndex.CS))) throw fault(Vector.GeneralProtection, 0);
  }
  checkTarget(target: Value): void {
    if (this.insn.codeSize === 64) {
      if (BigInt.asIntN(48, this.of(target)) !== this.signed(target)) throw fault(Vector.GeneralProtection, 0);
    } else if (this.of(target) > BigInt(this.cpu.limit(SegmentIndex.CS))) throw fault(Vector.GeneralProtection, 0);
  }
  jump(target: Value): void { this.target = this.insn.codeSize === 64 ? this.signed(target) : this.of(target); }
  branch(condition: Value): void { if (this.of(condition)) this.target = this.relative(); }
  when(condition: Value, then: () => void, otherwise?: () => void): void {
    if (this.of(condition)) then();
    else otherwise?.();
  }
  fault(vector: number, error = -1): void { throw fault(vector, error); }
  doubleAdd(a: readonly Value[], b: readonly Value[]): readonly Value[] {
    [...a, ...b].forEach((value, i) => this.cpu.set64(S.scratch + 8 * i, this.of(value)));
    if (!addPackedDouble(this.cpu, a.length)) throw this.cpu.recordedFault();
    return a.map((_, i) => this.big(this.cpu.get64(S.scratch + 8 * i), 64));
  }
  int32ToDouble(a: Value): Value {
    const view = new DataView(new ArrayBuffer(8));
    view.setFloat64(0, Number(this.signed(a)));
    return this.big(view.getBigUint64(0), 64);
  }
}

/** The reference engine: decodes every instruction afresh and evaluates its definition in BigInt. */
export class Evaluator implements Engine {
  readonly name = 'evaluate';
  private readonly cpu: Cpu;
  private readonly decoder: Decoder;
  private readonly costs: Int32Array;
  private readonly bytes = new Uint8Array(16);
  /** Where the bytes of the instruction were read: physical addresses of its parts in one or two pages. */
  private fetched: readonly number[] = [];
  /** The instruction being executed has been written to: a repeated one is fetched again. */
  private modified = false;
  /** The instruction executed last. */
  last: Instruction | null = null;

  constructor(cpu: Cpu, isa: Isa) {
    this.cpu = cpu;
    this.decoder = new Decoder(isa.rows, cpu.features);
    this.costs = new Int32Array(isa.rows.length);
    for (const row of isa.rows) this.costs[row.id] = Math.max(1, Math.round(cpu.costs[row.cost ?? 'alu']!));
    cpu.set32(S.iterationCost, iterationCost(cpu));
    cpu.codeWritten = (physical, size) => {
      for (const at of this.fetched) if (physical < at + 16 && physical + size > at) this.modified = true;
    };
  }
  stateChanged(): void { updateMode(this.cpu); }
  flushCode(): void { /* nothing is kept */ }

  run(): number {
    const cpu = this.cpu;
    const word = (cpu.base + S.left) >>> 2;
    for (;;) {
      if (cpu.i32[word]! <= 0) return Leave.Deadline;
      const leave = this.step();
      cpu.i32[word]! -= cpu.get32(S.extra) | 0;
      cpu.set32(S.extra, 0);
      if (leave >= 0) return leave;
    }
  }

  private get expired(): boolean { return this.cpu.i32[(this.cpu.base + S.left) >>> 2]! - this.cpu.i32[(this.cpu.base + S.extra) >>> 2]! <= 0; }

  private account(insn: Instruction): void {
    const cpu = this.cpu;
    cpu.i32[(cpu.base + S.left) >>> 2]! -= this.costs[insn.row.id]!;
    cpu.u32[(cpu.base + S.retired) >>> 2]! += 1;
  }

  /** Fetches the instruction at RIP; throws the faults of fetching. The deadline may pass between the charges of a fetch. */
  private fetch(): Instruction | DecodeError | 'firmware' | 'deadline' {
    const cpu = this.cpu;
    const mode = cpu.get32(S.mode);
    const codeSize = codeSizeOf(mode);
    const rip = cpu.rip;
    if (codeSize === 64 ? rip < -CANONICAL || rip >= CANONICAL : rip < 0 || rip > cpu.limit(SegmentIndex.CS)) throw fault(Vector.GeneralProtection, 0);
    const linear = codeSize === 64 ? rip : (cpu.segmentBase(SegmentIndex.CS) + rip) >>> 0;
    const physical = cpu.mmu.translate(linear, AccessKind.Execute, false);
    if (physical < 0) throw cpu.recordedFault();
    if (physical >= cpu.memory.ramSize) throw new Error(`instruction fetch from physical address 0x${physical.toString(16)}, which is not RAM: not modelled (RIP 0x${rip.toString(16)})`);
    if (this.expired) return 'deadline';
    if (cpu.firmware !== null && cpu.firmware.page === Math.floor(physical / 4096)) return 'firmware';
    this.fetched = [physical];
    this.modified = false;
    // bytes up to the limit of the code segment; at 4 GiB they wrap
    const allowed = codeSize === 64 || cpu.limit(SegmentIndex.CS) === 0xffffffff ? Infinity : cpu.limit(SegmentIndex.CS) - rip + 1;
    const have = Math.min(16, 4096 - (linear & 0xfff), allowed);
    const decoded = this.decoder.decode(cpu.u8, cpu.memory.ramBase + physical, have, codeSize);
    if (decoded !== DecodeError.Short) return decoded;
    if (allowed === have) throw fault(Vector.GeneralProtection, 0);
    this.bytes.set(cpu.u8.subarray(cpu.memory.ramBase + physical, cpu.memory.ramBase + physical + have));
    const second = cpu.mmu.translate(cpu.wrapLinear(linear - (linear & 0xfff) + 4096), AccessKind.Execute, false);
    if (second < 0) throw cpu.recordedFault();
    if (this.expired) return 'deadline';
    this.fetched = [physical, second];
    for (let i = have; i < 16; i++) this.bytes[i] = cpu.readPhysical(second + i - have, 1);
    const whole = this.decoder.decode(this.bytes, 0, Math.min(16, allowed), codeSize);
    if (whole === DecodeError.Short) throw fault(Vector.GeneralProtection, 0);
    return whole;
  }

  /** One instruction; returns a Leave code, or -1 to go on. */
  private step(): number {
    const cpu = this.cpu;
    try {
      this.last = null;
      const insn = this.fetch();
      if (insn === 'deadline') return Leave.Deadline;
      if (insn === 'firmware') {
        cpu.firmware!.call(cpu, (cpu.rip + cpu.segmentBase(SegmentIndex.CS)) & 0xfff);
        updateMode(cpu);
        return -1;
      }
      if (typeof insn === 'number') {
        if (insn === DecodeError.TooLong) throw fault(Vector.GeneralProtection, 0);
        const from = this.fetched.length === 2 ? this.bytes : cpu.u8.subarray(cpu.memory.ramBase + this.fetched[0]!);
        cpu.observer?.unmodelled?.(`undefined opcode ${[...from.subarray(0, 8)].map((byte) => byte.toString(16).padStart(2, '0')).join(' ')}`);
        throw fault(Vector.InvalidOpcode);
      }
      this.last = insn;
      if (insn.row.system) {
        const status = executeSystem(cpu, insn);
        switch (status) {
          case Status.Next: this.account(insn); cpu.advance(insn); return -1;
          case Status.Lookup: this.account(insn); return -1;
          case Status.Fault: return Leave.Fault;
          case Status.Leave: this.account(insn); return Leave.State;
          default: return -1; // Exited, Again
        }
      }
      if (insn.row.feature?.startsWith('SSE')) {
        const vector = sseFault(cpu);
        if (vector >= 0) throw fault(vector);
      }
      return this.evaluate(insn);
    } catch (thrown) {
      if (!isFault(thrown)) throw thrown;
      recordFault(cpu, thrown.vector, thrown.error, thrown.linear);
      return Leave.Fault;
    }
  }

  private evaluate(insn: Instruction): number {
    const cpu = this.cpu;
    if (insn.rep && insn.row.rep) return this.repeat(insn);
    const evaluation = new Evaluation(cpu, insn);
    evaluation.checkSegments();
    insn.row.semantics!(evaluation);
    this.account(insn);
    if (evaluation.target === null) cpu.advance(insn);
    else cpu.rip = Number(evaluation.target);
    return -1;
  }

  /** Repetition as the interpreter generates it: a charge for every iteration beyond the first, the deadline between iterations. */
  private repeat(insn: Instruction): number {
    const cpu = this.cpu;
    const bits = insn.addressSize;
    const cost = cpu.get32(S.iterationCost);
    if (cpu.reg(Gpr.RCX, bits) !== 0n) {
      for (;;) {
        insn.row.semantics!(new Evaluation(cpu, insn));
        cpu.setReg(Gpr.RCX, bits, cpu.reg(Gpr.RCX, bits) - 1n);
        cpu.setFloat(S.iterations, cpu.getFloat(S.iterations) + 1);
        if (cpu.reg(Gpr.RCX, bits) === 0n) break;
        if (insn.row.rep === 'repe' && (cpu.get64(S.flagResult) === 0n) !== (insn.rep === 0xf3)) break;
        cpu.spend(cost);
        if (cpu.i32[(cpu.base + S.left) >>> 2]! - cpu.get32(S.extra) <= 0) return -1;
        if (this.modified) return -1;
      }
    }
    this.account(insn);
    cpu.advance(insn);
    return -1;
  }
}
