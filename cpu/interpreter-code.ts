import { Emitter, pushFastEntry, NO_LINEAR, Pool, Record, SlowAccess, Status, type Calls, type Frame, type Variant } from './emit.ts';
import { PSEUDO_COUNT, hotVariants, variantKey } from './handlers.ts';
import { CODE_TAG_HIGH, GRANULE_SHIFT, NO_TAG_HIGH } from './memory.ts';
import type { Row } from './row.ts';
import { Access, Flag, Leave, S, Segment, SEGMENT_SIZE, SegmentIndex } from './state.ts';
import { F64, I32, I64, ModuleBuilder, Op, type FunctionCode } from './wasm.ts';

/** Host addresses of the words that tell generated code where things are (written by the interpreter). */
export const Header = { ramBase: 16, granuleBase: 20, ramSize: 24 } as const;

/** Imports of every generated module, in order, and their signatures. */
const slowParameters = [I32, I32, I32] as const;

export interface InterpreterCode {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Handler number by variant key, for the handlers inside the hot function. */
  readonly handlers: ReadonlyMap<string, number>;
  /** First handler number that goes through the table; table entry 0 is the system handler. */
  readonly firstCold: number;
}

/** Maximum entries of the handler table. */
export const TABLE_SIZE = 8192;

/** Emits `linear -> host` slow path: stores to code pages that touch no code stay here, all else goes to TypeScript. */
function emitSlow(m: ModuleBuilder, slowImport: number, state: number): FunctionCode {
  const f = m.function([I64, I32], [I32], 'slow');
  const linear = 0;
  const flags = 1;
  const low = f.local(I32);
  const entry = f.local(I32);
  const host = f.local(I32);
  const last = f.local(I32);
  const granule = f.local(I32);
  f.get(linear).op(Op.i32_wrap_i64).set(low);
  f.get(flags).i32(SlowAccess.Write).op(Op.i32_and);
  f.if();
  pushFastEntry(f, low, state + S.writeTable);
  f.set(entry);
  f.get(entry).load64(0).get(linear).op(Op.i64_xor).i64(BigInt(CODE_TAG_HIGH) << 32n).op(Op.i64_xor);
  f.i32(4096).get(flags).i32(SlowAccess.Size).op(Op.i32_and, Op.i32_sub, Op.i64_extend_i32_u, Op.i64_le_u);
  f.if();
  f.get(entry).load32(8).get(low).op(Op.i32_add).set(host);
  f.get(host).i32(0).load32(Header.ramBase).op(Op.i32_sub).i32(GRANULE_SHIFT).op(Op.i32_shr_u).set(granule);
  f.get(host).get(flags).i32(SlowAccess.Size).op(Op.i32_and, Op.i32_add).i32(1).op(Op.i32_sub).i32(0).load32(Header.ramBase).op(Op.i32_sub).i32(GRANULE_SHIFT).op(Op.i32_shr_u).set(last);
  const bit = (g: number): void => {
    f.i32(0).load32(Header.granuleBase).get(g).i32(3).op(Op.i32_shr_u, Op.i32_add).load8u(0).get(g).i32(7).op(Op.i32_and, Op.i32_shr_u).i32(1).op(Op.i32_and);
  };
  bit(granule);
  bit(last);
  f.op(Op.i32_or, Op.i32_eqz);
  f.if();
  f.get(host).op(Op.return);
  f.end();
  f.end();
  f.end();
  f.get(low).get(linear).i64(32).op(Op.i64_shr_u, Op.i32_wrap_i64).get(flags).call(slowImport);
  return f;
}

/** Where TypeScript leaves the linear address of a segment access (S.ea may hold that of the memory operand). */
export const SEGMENT_RESULT = S.scratch + 15 * 8;

/** Emits segment:offset -> linear for ordinary expand-up read/write segments; the rest goes to TypeScript. */
function emitSegment(m: ModuleBuilder, segmentImport: number, state: number): FunctionCode {
  const f = m.function([I64, I32, I32], [I64], 'segment');
  const at = f.local(I32);
  f.get(1).i32(SEGMENT_SIZE).op(Op.i32_mul).set(at);
  const base = state + S.segment;
  f.get(at).load32(base + Segment.attributes).i32(Access.Code | Access.Expand | Access.Writable | Access.Present | Access.Unusable).op(Op.i32_and).i32(Access.Writable | Access.Present).op(Op.i32_eq);
  f.get(0).get(2).i32(0xff).op(Op.i32_and, Op.i64_extend_i32_u, Op.i64_add).i64(1).op(Op.i64_sub);
  f.get(at).load64of32u(base + Segment.limit).op(Op.i64_le_u, Op.i32_and);
  f.if(I64);
  f.get(at).load64(base + Segment.base).get(0).op(Op.i64_add).i64(0xffffffff).op(Op.i64_and);
  f.else();
  f.get(0).op(Op.i32_wrap_i64).get(0).i64(32).op(Op.i64_shr_u, Op.i32_wrap_i64).get(1).get(2).call(segmentImport);
  f.if(I64);
  f.i32(0).load64(state + SEGMENT_RESULT);
  f.else();
  f.i64(NO_LINEAR);
  f.end();
  f.end();
  return f;
}

/** Emits RIP -> record through the fast execute table, or 0; sets S.pageRip and S.codePage. */
function emitLookup(m: ModuleBuilder, state: number): FunctionCode {
  const f = m.function([I64], [I32]);
  const linear = f.local(I64);
  const low = f.local(I32);
  const entry = f.local(I32);
  const map = f.local(I32);
  // in 64-bit mode the CS base word is kept 0
  f.get(0).i32(0).load64(state + S.segment + SegmentIndex.CS * SEGMENT_SIZE + Segment.base).op(Op.i64_add).set(linear);
  f.get(linear).op(Op.i32_wrap_i64).set(low);
  pushFastEntry(f, low, state + S.execTable);
  f.set(entry);
  f.get(entry).load64(0).get(linear).op(Op.i64_xor).i64(4095).op(Op.i64_le_u);
  f.if(I32);
  f.get(entry).load32(12).set(map);
  f.i32(0).get(0).get(low).i32(0xfff).op(Op.i32_and, Op.i64_extend_i32_u, Op.i64_sub).store64(state + S.pageRip);
  f.i32(0).get(map).store32(state + S.codePage);
  f.get(map).get(low).i32(0xfff).op(Op.i32_and).i32(2).op(Op.i32_shl, Op.i32_add).load32(0);
  f.else();
  f.i32(0);
  f.end();
  return f;
}

/**
 * Generates the interpreter: one function `run(): void` that executes records until `left` runs out or something
 * needs TypeScript (the reason is in S.exit, RIP and the counters are exact), and the shared slow paths.
 */
export function generateInterpreter(rows: readonly Row[], state: number, bounceEnd: number): InterpreterCode {
  const m = new ModuleBuilder();
  m.importMemory('memory', 1);
  m.importTable('table', TABLE_SIZE);
  const slowImport = m.importFunction('slow', slowParameters, [I32]);
  const commitImport = m.importFunction('commit', [], []);
  const segmentImport = m.importFunction('segment', [I32, I32, I32, I32], [I32]);
  const wideDivide = m.importFunction('wideDivide', [I32], [I32]);
  const doubleAdd = m.importFunction('doubleAdd', [I32], [I32]);
  const straddle = m.importFunction('straddle', [I32], [I32]);
  const handlerType = m.type([I32], [I32]);
  const slow = emitSlow(m, slowImport, state);
  const segment = emitSegment(m, segmentImport, state);
  const lookup = emitLookup(m, state);
  const calls: Calls = { slow: slow.index, commit: commitImport, segment: segment.index, wideDivide, doubleAdd };

  const f = m.function([], [], 'run');
  const record = f.local(I32);
  const left = f.local(I32);
  const retired = f.local(I32);
  const target = f.local(I64);
  const status = f.local(I32);
  const taken = f.local(I32);
  const pool = new Pool(f);
  const variants = hotVariants(rows);
  const handlers = new Map<string, number>();
  variants.forEach((variant, i) => handlers.set(variantKey(variant), PSEUDO_COUNT + i));
  const firstCold = PSEUDO_COUNT + variants.length;

  const setWord = (offset: number, push: () => void): void => { f.i32(0); push(); f.store32(state + offset); };
  const loadCounters = (): void => {
    f.i32(0).load32(state + S.left).set(left);
    f.i32(0).load32(state + S.retired).set(retired);
  };
  const storeCounters = (): void => {
    setWord(S.left, () => f.get(left));
    setWord(S.retired, () => f.get(retired));
  };
  const storeRip = (): void => {
    f.i32(0).i32(0).load64(state + S.pageRip).get(record).load64of32u(Record.offset).op(Op.i64_add).store64(state + S.rip);
  };
  const foldExtra = (): void => {
    f.get(left).i32(0).load32(state + S.extra).op(Op.i32_sub).set(left);
    setWord(S.extra, () => f.i32(0));
  };
  const account = (): void => {
    f.get(left).get(record).load32(Record.cost).op(Op.i32_sub).set(left);
    f.get(retired).i32(1).op(Op.i32_add).set(retired);
  };

  loadCounters();
  f.i32(0).load64(state + S.rip).set(target);
  f.get(target).call(lookup.index).tee(record).op(Op.i32_eqz);
  f.if();
  setWord(S.exit, () => f.i32(Leave.Lookup));
  f.op(Op.return);
  f.end();
  const done = f.block();
  const faulted = f.block();
  const deadline = f.block();
  const next = f.loop();
  const lookupBlock = f.block();
  const cold = f.block();
  const labels: number[] = [];
  for (let h = firstCold - 1; h >= 0; h--) labels[h] = f.block();
  f.get(left).i32(0).op(Op.i32_le_s).brIf(deadline);
  f.get(record).load32(Record.handler).brTable(labels, cold);

  const frame: Frame = {
    f, record,
    bail: () => { f.br(faulted); },
    beforeCall: () => {
      storeCounters();
      storeRip();
      setWord(S.record, () => f.get(record));
    },
    afterCall: foldExtra,
    jump: (local) => {
      f.get(local).set(target);
      account();
      f.br(lookupBlock);
    },
    takeInPage: () => {
      account();
      f.get(record).load32(Record.taken).tee(taken).op(Op.i32_eqz);
      f.if();
      f.i32(0).load32(state + S.codePage).get(record).load32(Record.target).op(Op.i32_add).load32(0).tee(taken).op(Op.i32_eqz);
      f.if();
      f.i32(0).load64(state + S.pageRip).get(record).load32(Record.target).i32(2).op(Op.i32_shr_u, Op.i64_extend_i32_u, Op.i64_add).set(target);
      f.br(lookupBlock);
      f.end();
      f.get(record).get(taken).store32(Record.taken);
      f.end();
      f.get(taken).set(record).br(next);
    },
  };
  const advance = (): void => { f.get(record).i32(Record.size).op(Op.i32_add).set(record).br(next); };

  // goto: continue at a record decoded before
  f.end();
  f.get(record).load32(Record.taken).set(record).br(next);
  // page end: sequential flow into the next page
  f.end();
  f.i32(0).load64(state + S.pageRip).get(record).load64of32u(Record.offset).op(Op.i64_add).get(record).load64(Record.mask).op(Op.i64_and).set(target).br(lookupBlock);
  // address: checked linear address into S.ea
  f.end();
  {
    const linear = pool.take(I64);
    frame.beforeCall();
    f.get(record).load16u(Record.base).load64(state);
    f.get(record).load16u(Record.index).load64(state).get(record).load8u(Record.scale).op(Op.i64_extend_i32_u, Op.i64_shl, Op.i64_add);
    f.get(record).load64(Record.displacement).op(Op.i64_add).get(record).load64(Record.mask).op(Op.i64_and);
    f.get(record).load8u(Record.segment);
    f.get(record).load8u(Record.access).i32(0x7f).op(Op.i32_and).get(record).load8u(Record.access).i32(0x80).op(Op.i32_and).i32(1).op(Op.i32_shl, Op.i32_or);
    f.call(segment.index).tee(linear).i64(NO_LINEAR).op(Op.i64_eq);
    f.brIf(faulted);
    f.i32(0).get(linear).store64(state + S.ea);
    frame.afterCall();
    pool.release();
    advance();
  }
  // straddle: second page of the instruction behind it
  f.end();
  frame.beforeCall();
  f.get(record).call(straddle).set(status);
  foldExtra();
  f.get(status).i32(Status.Fault).op(Op.i32_eq).brIf(faulted);
  f.get(status);
  f.if();
  f.i32(0).load64(state + S.rip).set(target).br(lookupBlock);
  f.end();
  advance();

  for (const variant of variants) {
    f.end();
    const emitter = new Emitter(variant, frame, calls, state, bounceEnd, pool);
    variant.row.semantics!(emitter);
    pool.release();
    if (!emitter.left) {
      account();
      advance();
    }
  }
  // cold: handlers of their own, through the table
  f.end();
  storeCounters();
  storeRip();
  setWord(S.record, () => f.get(record));
  f.get(record).get(record).load32(Record.handler).i32(firstCold).op(Op.i32_sub).callIndirect(handlerType).set(status);
  foldExtra();
  f.i32(0).load32(state + S.retired).set(retired);
  f.get(status).op(Op.i32_eqz);
  f.if();
  account();
  advance();
  f.end();
  f.get(status).i32(Status.Lookup).op(Op.i32_eq);
  f.if();
  account();
  f.i32(0).load64(state + S.rip).set(target).br(lookupBlock);
  f.end();
  f.get(status).i32(Status.Partial).op(Op.i32_eq).brIf(next);
  f.get(status).i32(Status.Fault).op(Op.i32_eq).brIf(faulted);
  f.get(status).i32(Status.Leave).op(Op.i32_eq);
  f.if();
  account();
  storeCounters();
  setWord(S.exit, () => f.i32(Leave.State));
  f.br(done);
  f.end();
  // Exited: a VM exit took the instruction over; Again: an iteration of a repeated system row
  f.i32(0).load64(state + S.rip).set(target);
  f.end(); // lookupBlock
  f.get(left).i32(0).op(Op.i32_le_s);
  f.if();
  storeCounters();
  f.i32(0).get(target).store64(state + S.rip);
  setWord(S.exit, () => f.i32(Leave.Deadline));
  f.br(done);
  f.end();
  f.get(target).call(lookup.index).tee(record).brIf(next);
  storeCounters();
  f.i32(0).get(target).store64(state + S.rip);
  setWord(S.exit, () => f.i32(Leave.Lookup));
  f.br(done);
  f.end(); // loop
  f.end(); // deadline
  storeCounters();
  storeRip();
  setWord(S.exit, () => f.i32(Leave.Deadline));
  f.br(done);
  f.end(); // faulted
  storeCounters();
  storeRip();
  setWord(S.exit, () => f.i32(Leave.Fault));
  f.end(); // done
  return { bytes: m.bytes(), handlers, firstCold };
}

/** Generates one handler as a module of its own: `handler(record) -> Status`. */
export function generateHandler(variant: Variant, state: number, bounceEnd: number): Uint8Array<ArrayBuffer> {
  const m = new ModuleBuilder();
  m.importMemory('memory', 1);
  const calls: Calls = {
    slow: m.importFunction('slow', [I64, I32], [I32]),
    commit: m.importFunction('commit', [], []),
    segment: m.importFunction('segment', [I64, I32, I32], [I64]),
    wideDivide: m.importFunction('wideDivide', [I32], [I32]),
    doubleAdd: m.importFunction('doubleAdd', [I32], [I32]),
  };
  const f = m.function([I32], [I32], 'handler');
  const record = 0;
  const pool = new Pool(f);
  const none = (): void => {};
  const frame: Frame = {
    f, record,
    bail: () => { f.i32(Status.Fault).op(Op.return); },
    beforeCall: none,
    afterCall: none,
    jump: (local) => { f.i32(0).get(local).store64(state + S.rip).i32(Status.Lookup).op(Op.return); },
    takeInPage: () => {
      f.i32(0).i32(0).load64(state + S.pageRip).get(record).load32(Record.target).i32(2).op(Op.i32_shr_u, Op.i64_extend_i32_u, Op.i64_add).store64(state + S.rip);
      f.i32(Status.Lookup).op(Op.return);
    },
  };
  const emitter = new Emitter(variant, frame, calls, state, bounceEnd, pool);
  if (!variant.rep || !variant.row.rep) variant.row.semantics!(emitter);
  else emitRepeat(variant, emitter, f, state);
  f.i32(Status.Next);
  return m.bytes();
}

/**
 * Repetition: registers are up to date after each iteration, so faults and the deadline leave a restartable
 * instruction. Every iteration beyond the first is charged; the instruction retires when it is complete.
 */
function emitRepeat(variant: Variant, emitter: Emitter, f: FunctionCode, state: number): void {
  const RCX = 1;
  const iterations = f.local(F64);
  emitter.when(emitter.eq(emitter.addressReg(RCX), emitter.constant(0, 64)), () => { f.i32(Status.Next).op(Op.return); });
  const again = f.loop();
  variant.row.semantics!(emitter);
  const count = emitter.addressWrap(emitter.sub(emitter.addressReg(RCX), emitter.constant(1, 64)));
  emitter.setAddressReg(RCX, count);
  f.i32(0).loadFloat(state + S.iterations).set(iterations);
  f.i32(0).get(iterations).code.byte(0x44);
  new Uint8Array(new Float64Array([1]).buffer).forEach((byte) => f.code.byte(byte));
  f.op(Op.f64_add).storeFloat(state + S.iterations);
  emitter.when(emitter.eq(count, emitter.constant(0, 64)), () => { f.i32(Status.Next).op(Op.return); });
  if (variant.row.rep === 'repe') {
    const zero = emitter.eq(emitter.flagResult(), emitter.constant(0, 64));
    const stop = variant.rep === 0xf3 ? emitter.xor(zero, emitter.constant(1, 1)) : zero;
    emitter.when(stop, () => { f.i32(Status.Next).op(Op.return); });
  }
  // one more iteration: charged before it is made
  f.i32(0).i32(0).load32(state + S.extra).i32(0).load32(state + S.iterationCost).op(Op.i32_add).store32(state + S.extra);
  if (variant.row.rep === 'rep' && /^(MOVS|STOS)/.test(variant.row.mnemonic) && variant.flatData && variant.addressSize !== 16) emitBulk(variant, f, state);
  f.i32(0).load32(state + S.left).i32(0).load32(state + S.extra).op(Op.i32_sub).i32(0).op(Op.i32_gt_s).brIf(again);
  f.end();
  f.i32(Status.Partial).op(Op.return);
}

/**
 * Several iterations of REP MOVS or REP STOS at once: upwards, inside the pages that the fast tables hold, as many as
 * leave at least one more iteration and some time for it. The state afterwards is the one that many single
 * iterations give.
 */
function emitBulk(variant: Variant, f: FunctionCode, state: number): void {
  const move = variant.row.mnemonic.startsWith('MOVS');
  const size = variant.row.mnemonic.endsWith('B') ? 1 : variant.operandSize / 8;
  const shift = size === 8 ? 3 : size === 4 ? 2 : size === 2 ? 1 : 0;
  const gpr = (n: number): number => state + S.gpr + n * 8;
  const RAX = 0, RCX = 1, RSI = 6, RDI = 7;
  const linear = f.local(I64);
  const low = f.local(I32);
  const entry = f.local(I32);
  const source = f.local(I32);
  const target = f.local(I32);
  const n = f.local(I32);
  const room = f.local(I32);
  const none = f.block();
  f.i32(0).load32(state + S.flagsRest).i32(Flag.DF).op(Op.i32_and).brIf(none);
  // iterations after which there is time left: (left - extra - 1) / cost, signed, not below 0
  f.i32(0).load32(state + S.left).i32(0).load32(state + S.extra).op(Op.i32_sub).i32(1).op(Op.i32_sub).tee(n).i32(0).op(Op.i32_le_s).brIf(none);
  f.get(n).i32(0).load32(state + S.iterationCost).op(Op.i32_div_u).set(n);
  const least = (): void => { f.get(room).get(n).get(room).get(n).op(Op.i32_lt_u, Op.select).set(n); };
  // all but the last of the remaining count, itself at most 2^30
  if (variant.addressSize === 64) f.i32(0).load64(gpr(RCX));
  else f.i32(0).load64of32u(gpr(RCX));
  f.set(linear);
  f.get(linear).i64(1).op(Op.i64_sub).i64(0x40000000).get(linear).i64(0x40000000).op(Op.i64_le_u, Op.select).op(Op.i32_wrap_i64).set(room);
  least();
  const locate = (register: number, table: number, host: number, segment: boolean): void => {
    if (variant.addressSize === 64) f.i32(0).load64(gpr(register));
    else f.i32(0).load64of32u(gpr(register));
    if (segment) f.get(0).load16u(Record.segmentBase).load64(state).op(Op.i64_add);
    f.tee(linear).op(Op.i32_wrap_i64).set(low);
    pushFastEntry(f, low, state + table);
  f.set(entry);
    f.get(entry).load64(0).get(linear).op(Op.i64_xor).i64(4095).op(Op.i64_gt_u).brIf(none);
    f.get(entry).load32(8).get(low).op(Op.i32_add).set(host);
    f.i32(4096).get(low).i32(4095).op(Op.i32_and, Op.i32_sub).i32(shift).op(Op.i32_shr_u).set(room);
    least();
  };
  if (move) locate(RSI, S.readTable, source, true);
  locate(RDI, S.writeTable, target, false);
  f.get(n).i32(4).op(Op.i32_lt_u).brIf(none);
  if (move) {
    // a target inside the source range must see the copied bytes again
    f.get(target).get(source).op(Op.i32_sub).get(n).i32(shift).op(Op.i32_shl, Op.i32_lt_u).brIf(none);
    f.get(target).get(source).get(n).i32(shift).op(Op.i32_shl).memoryCopy();
  } else if (size === 1) f.get(target).i32(0).load8u(gpr(RAX)).get(n).memoryFill();
  else {
    f.get(target).get(n).i32(shift).op(Op.i32_shl, Op.i32_add).set(entry);
    const store = f.loop();
    f.get(target);
    if (size === 8) f.i32(0).load64(gpr(RAX)).store64(0);
    else if (size === 4) f.i32(0).load32(gpr(RAX)).store32(0);
    else f.i32(0).load16u(gpr(RAX)).store16(0);
    f.get(target).i32(size).op(Op.i32_add).tee(target).get(entry).op(Op.i32_lt_u).brIf(store);
    f.end();
  }
  const advance = (register: number, push: () => void, operation: number): void => {
    f.i32(0);
    if (variant.addressSize === 64) f.i32(0).load64(gpr(register));
    else f.i32(0).load64of32u(gpr(register));
    push();
    f.op(Op.i64_extend_i32_u, operation);
    if (variant.addressSize === 32) f.i64(0xffffffff).op(Op.i64_and);
    f.store64(gpr(register));
  };
  const bytes = (): void => { f.get(n).i32(shift).op(Op.i32_shl); };
  if (move) advance(RSI, bytes, Op.i64_add);
  advance(RDI, bytes, Op.i64_add);
  advance(RCX, () => f.get(n), Op.i64_sub);
  f.i32(0).i32(0).loadFloat(state + S.iterations).get(n).op(Op.f64_convert_i32_s, Op.f64_add).storeFloat(state + S.iterations);
  f.i32(0).i32(0).load32(state + S.extra).get(n).i32(0).load32(state + S.iterationCost).op(Op.i32_mul, Op.i32_add).store32(state + S.extra);
  f.end();
}

/** Tag words of an empty fast entry, for those who clear tables. */
export const emptyTag = BigInt(NO_TAG_HIGH) << 32n;
