import { CodeCache, type HandlerSource } from './code-cache.ts';
import type { Cpu } from './cpu.ts';
import { Decoder } from './decode.ts';
import { Record, SlowAccess, Status, type Variant } from './emit.ts';
import { accessFault, addPackedDouble, executeSystem, iterationCost, recordFault, updateMode, wideDivide, type Engine } from './engine.ts';
import { isFault, Vector } from './fault.ts';
import { buildAliases } from './handlers.ts';
import { generateHandler, generateInterpreter, Header, SEGMENT_RESULT, TABLE_SIZE, type InterpreterCode } from './interpreter-code.ts';
import type { Isa } from './isa.ts';
import { FAST_ENTRY, fastIndex, NO_TAG_HIGH } from './memory.ts';
import { AccessKind } from './mmu.ts';
import { codeSizeOf, Mode } from './mode.ts';
import { Cr0, Flag, Leave, S, SegmentIndex } from './state.ts';

interface Compiled { readonly module: WebAssembly.Module; readonly code: InterpreterCode }
/** Compiled code is the same for every machine with the same instruction set and state address. */
const compiled = new Map<Isa, Map<number, Compiled>>();
const handlerModules = new Map<Isa, Map<string, WebAssembly.Module>>();
let wrapper: WebAssembly.Module | null = null;
const CANONICAL = 2 ** 47;
/** Highest value of the instruction pointer before a fault or, in 16-bit code, before it wraps; Infinity where the segment has 4 GiB. */
function lastOffset(cpu: Cpu, mode: number): number {
  const limit = cpu.limit(SegmentIndex.CS);
  return codeSizeOf(mode) === 16 ? Math.min(limit, 0xffff) : limit === 0xffffffff ? Infinity : limit;
}

/** The default engine: a WebAssembly interpreter generated from the rows, over predecoded records. */
export class Interpreter implements Engine, HandlerSource {
  readonly name = 'interpret';
  private readonly cpu: Cpu;
  private readonly code: InterpreterCode;
  private readonly execute: () => void;
  private readonly exports: WebAssembly.Exports;
  private readonly table: WebAssembly.Table;
  private readonly handlers = new Map<string, number>();
  private readonly modules: Map<string, WebAssembly.Module>;
  private nextHandler: number;
  readonly cache: CodeCache;
  readonly system: number;

  constructor(cpu: Cpu, isa: Isa) {
    this.cpu = cpu;
    const memory = cpu.memory;
    let byKey = compiled.get(isa);
    if (!byKey) compiled.set(isa, (byKey = new Map()));
    let entry = byKey.get(cpu.base);
    if (!entry) {
      const code = generateInterpreter(isa.rows, cpu.base, memory.bounceEnd);
      byKey.set(cpu.base, (entry = { code, module: new WebAssembly.Module(code.bytes) }));
    }
    this.code = entry.code;
    let modules = handlerModules.get(isa);
    if (!modules) handlerModules.set(isa, (modules = new Map()));
    this.modules = modules;
    this.table = new WebAssembly.Table({ element: 'anyfunc', initial: TABLE_SIZE });
    const instance = new WebAssembly.Instance(entry.module, { e: {
      memory: memory.wasm, table: this.table,
      slow: (low: number, high: number, flags: number) => this.slow(low, high, flags),
      commit: () => this.commit(),
      segment: (low: number, high: number, segment: number, flags: number) => this.segment(low, high, segment, flags),
      wideDivide: (signed: number) => (wideDivide(this.cpu, signed !== 0) ? 1 : 0),
      doubleAdd: (count: number) => (addPackedDouble(this.cpu, count) ? 1 : 0),
      straddle: (record: number) => this.straddle(record),
    } });
    this.exports = instance.exports;
    this.execute = instance.exports['run'] as () => void;
    this.system = this.code.firstCold;
    this.table.set(0, this.wrap((record) => this.systemRecord(record)));
    this.nextHandler = 1;
    memory.u32[Header.ramBase >>> 2] = memory.ramBase;
    memory.u32[Header.granuleBase >>> 2] = memory.granuleBase;
    memory.u32[Header.ramSize >>> 2] = memory.ramSize;
    const rowCosts = new Int32Array(isa.rows.length);
    for (const row of isa.rows) {
      const cost = cpu.costs[row.cost ?? 'alu'];
      if (cost === undefined) throw new Error(`profile ${cpu.profile.name} has no cost for class '${row.cost ?? 'alu'}' of ${row.syntax}`);
      rowCosts[row.id] = Math.max(1, Math.round(cost));
    }
    cpu.set32(S.iterationCost, iterationCost(cpu));
    this.cache = new CodeCache(cpu, new Decoder(isa.rows, cpu.features), this, buildAliases(isa.rows), rowCosts);
    cpu.codeWritten = (physical, size) => this.codeWritten(physical, size);
  }

  /** A JavaScript function as a table entry: through a one-function module that imports it. */
  private wrap(f: (record: number) => number): CallableFunction {
    // (module (type (func (param i32) (result i32))) (import "e" "f" (func (type 0))) (export "f" (func 0)))
    wrapper ??= new WebAssembly.Module(new Uint8Array([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 6, 1, 0x60, 1, 0x7f, 1, 0x7f, 2, 7, 1, 1, 0x65, 1, 0x66, 0, 0, 7, 5, 1, 1, 0x66, 0, 0]));
    const instance = new WebAssembly.Instance(wrapper, { e: { f } });
    return instance.exports['f'] as CallableFunction;
  }

  handler(variant: Variant, key: string): number {
    const hot = this.code.handlers.get(key);
    if (hot !== undefined) return hot;
    const known = this.handlers.get(key);
    if (known !== undefined) return known;
    const moduleKey = `${this.cpu.base}.${key}`;
    let module = this.modules.get(moduleKey);
    if (!module) this.modules.set(moduleKey, (module = new WebAssembly.Module(generateHandler(variant, this.cpu.base, this.cpu.memory.bounceEnd))));
    const instance = new WebAssembly.Instance(module, { e: {
      memory: this.cpu.memory.wasm, slow: this.exports['slow']!, segment: this.exports['segment']!,
      commit: () => this.commit(),
      wideDivide: (signed: number) => (wideDivide(this.cpu, signed !== 0) ? 1 : 0),
      doubleAdd: (count: number) => (addPackedDouble(this.cpu, count) ? 1 : 0),
    } });
    if (this.nextHandler >= TABLE_SIZE) throw new Error(`more than ${TABLE_SIZE} handlers: enlarge the table in cpu/interpreter-code.ts`);
    this.table.set(this.nextHandler, instance.exports['handler']);
    const number = this.code.firstCold + this.nextHandler++;
    this.handlers.set(key, number);
    return number;
  }

  run(): number {
    const cpu = this.cpu;
    this.guardCode();
    for (;;) {
      this.execute();
      if (this.guarded !== 0) {
        // a guarded page is checked anew for every instruction
        cpu.mmu.dropExecute(this.guarded);
        this.guarded = 0;
      }
      const leave = cpu.get32(S.exit);
      if (leave !== Leave.Lookup) return leave;
      const resolved = this.resolve();
      const left = cpu.i32[(cpu.base + S.left) >>> 2]! - cpu.i32[(cpu.base + S.extra) >>> 2]!;
      cpu.i32[(cpu.base + S.left) >>> 2] = left;
      cpu.set32(S.extra, 0);
      if (!resolved) return Leave.Fault;
      // what the fetch was charged may have used up the time
      if (left <= 0) return Leave.Deadline;
    }
  }
  private get expired(): boolean { return this.cpu.i32[(this.cpu.base + S.left) >>> 2]! - this.cpu.i32[(this.cpu.base + S.extra) >>> 2]! <= 0; }

  /** Map of the guarded page entered for the instruction being executed, or 0. */
  private guarded = 0;
  private codeEnd = -1;
  private codeMode = -1;
  /**
   * After a change of CS outside flat code: pages in which the code segment ends must be found through resolve, which
   * guards them.
   */
  private guardCode(): void {
    const cpu = this.cpu;
    const mode = cpu.get32(S.mode);
    if (mode & Mode.FlatCs) return;
    const end = cpu.segmentBase(SegmentIndex.CS) + lastOffset(cpu, mode);
    if (end === this.codeEnd && mode === this.codeMode) return;
    this.codeEnd = end;
    this.codeMode = mode;
    for (const linear of [end, end - 15]) {
      const page = (linear - (linear & 0xfff)) >>> 0;
      const at = (cpu.get32(S.execTable) + fastIndex(page) * FAST_ENTRY) >>> 2;
      if (cpu.u32[at] === page) cpu.u32[at + 1] = NO_TAG_HIGH;
    }
  }

  /** Makes RIP findable by the generated lookup: translates, decodes, enters the page. False after recording a fault. */
  private resolve(): boolean {
    const cpu = this.cpu;
    const rip = cpu.rip;
    const code64 = (cpu.get32(S.mode) & 3) === 2;
    if (code64) {
      if (rip < -CANONICAL || rip >= CANONICAL) { recordFault(cpu, Vector.GeneralProtection, 0, 0); return false; }
    } else if (rip < 0 || rip > cpu.limit(SegmentIndex.CS)) { recordFault(cpu, Vector.GeneralProtection, 0, 0); return false; }
    const linear = code64 ? rip : (cpu.segmentBase(SegmentIndex.CS) + rip) >>> 0;
    const physical = cpu.mmu.translate(linear, AccessKind.Execute, false);
    if (physical < 0) return false;
    if (physical >= cpu.memory.ramSize) throw new Error(`instruction fetch from physical address 0x${physical.toString(16)}, which is not RAM: not modelled (RIP 0x${rip.toString(16)})`);
    // before a second page of the instruction is looked up, as where it has been decoded before
    if (this.expired) return true;
    this.cache.makeRoom();
    const offset = linear & 0xfff;
    const mode = cpu.get32(S.mode);
    // the segment may end in this page, or inside an instruction that crosses out of it
    const guard = (mode & Mode.FlatCs) === 0 && rip - offset + 4095 + 15 > lastOffset(cpu, mode);
    const page = this.cache.page(Math.floor(physical / 4096), mode, guard);
    const allowed = guard ? cpu.limit(SegmentIndex.CS) - rip + 1 : Infinity;
    if (cpu.u32[(page.map + offset * 4) >>> 2] === 0 && this.cache.decode(page, offset, linear - offset, allowed) < 0) return false;
    cpu.mmu.enterExecute(linear - offset, page.map);
    if (guard) this.guarded = page.map;
    return true;
  }

  /** Second page of a straddling instruction: probes the instruction TLB; a changed mapping decodes anew. */
  private straddle(record: number): number {
    const cpu = this.cpu;
    const rip = cpu.rip;
    const code64 = (cpu.get32(S.mode) & 3) === 2;
    const linear = code64 ? rip : (cpu.segmentBase(SegmentIndex.CS) + rip) >>> 0;
    const second = cpu.wrapLinear(Math.floor(linear / 4096) * 4096 + 4096);
    const physical = cpu.mmu.translate(second, AccessKind.Execute, false);
    if (physical < 0) return Status.Fault;
    if (Math.floor(physical / 4096) === this.cache.straddlePage(record)) return Status.Next;
    const first = cpu.mmu.translate(linear, AccessKind.Execute, false);
    if (first < 0) return Status.Fault;
    this.cache.dropPhysical(Math.floor(first / 4096));
    return Status.Lookup;
  }

  private systemRecord(record: number): number {
    const cpu = this.cpu;
    const slot = this.cache.slots[cpu.u32[(record + Record.instruction) >>> 2]!]!;
    if (slot === 'firmware') {
      cpu.firmware!.call(cpu, cpu.u32[(record + Record.offset) >>> 2]!);
      updateMode(cpu);
      return Status.Exited;
    }
    if ('vector' in slot) {
      if (slot.bytes) cpu.observer?.unmodelled?.(`undefined opcode ${slot.bytes}`);
      recordFault(cpu, slot.vector, slot.error, 0);
      return Status.Fault;
    }
    const status = executeSystem(cpu, slot);
    this.guardCode();
    return status;
  }

  /** A data access that the fast tables did not serve. Returns a host address, or 0 after recording a fault. */
  private slow(low: number, high: number, flags: number): number {
    const cpu = this.cpu;
    const size = flags & SlowAccess.Size;
    const write = (flags & SlowAccess.Write) !== 0;
    const linear = (high | 0) * 4294967296 + (low >>> 0);
    if (linear < -CANONICAL || linear + size - 1 >= CANONICAL) {
      const stack = flags & SlowAccess.Stack || cpu.u8[cpu.get32(S.record) + Record.segment] === SegmentIndex.SS;
      recordFault(cpu, accessFault(stack ? SegmentIndex.SS : SegmentIndex.DS), 0, 0);
      return 0;
    }
    if (size > 1 && size <= 8 && low & (size - 1) && cpu.cpl === 3 && cpu.get32(S.flagsRest) & Flag.AC && cpu.cr0 & Cr0.AM) {
      recordFault(cpu, Vector.AlignmentCheck, 0, 0);
      return 0;
    }
    const kind = write ? AccessKind.Write : AccessKind.Read;
    const physical = cpu.mmu.translate(linear, kind, false);
    if (physical < 0) return 0;
    const memory = cpu.memory;
    const inPage = 4096 - (low & 0xfff);
    if (size <= inPage) {
      if (physical + size <= memory.ramSize && !(write && this.cache.hasCode(physical, size))) return memory.ramBase + physical;
    }
    let second = 0;
    if (size > inPage) {
      second = cpu.mmu.translate(cpu.wrapLinear(linear + inPage), kind, false);
      if (second < 0) return 0;
    }
    const bounce = write ? memory.bounce + 256 : memory.bounce;
    if (!write || flags & SlowAccess.Read) {
      const first = Math.min(size, inPage);
      this.copyIn(physical, bounce, first);
      if (size > first) this.copyIn(second, bounce + first, size - first);
    }
    if (write) {
      cpu.set32(S.storeAddress, physical);
      cpu.set32(S.storeAddress2, second);
      cpu.set32(S.storeSize, size | (Math.min(size, inPage) << 8));
    }
    return bounce;
  }
  private copyIn(physical: number, host: number, size: number): void {
    const cpu = this.cpu;
    if (physical + size <= cpu.memory.ramSize) {
      const at = cpu.memory.ramBase + physical;
      for (let i = 0; i < size; i++) cpu.u8[host + i] = cpu.u8[at + i]!;
      return;
    }
    for (let i = 0; i < size;) {
      const part = size - i >= 4 ? 4 : size - i >= 2 ? 2 : 1;
      cpu.memory.view.setUint32(host + i, cpu.readPhysical(physical + i, part), true);
      i += part;
    }
  }
  /** Carries out the store left in the bounce buffer. */
  private commit(): void {
    const cpu = this.cpu;
    const bounce = cpu.memory.bounce + 256;
    const size = cpu.get32(S.storeSize) & 0xff;
    const first = cpu.get32(S.storeSize) >>> 8;
    this.copyOut(bounce, cpu.get32(S.storeAddress), first);
    if (size > first) this.copyOut(bounce + first, cpu.get32(S.storeAddress2), size - first);
  }
  private copyOut(host: number, physical: number, size: number): void {
    const cpu = this.cpu;
    const view = cpu.memory.view;
    for (let i = 0; i < size;) {
      const part = size - i >= 4 ? 4 : size - i >= 2 ? 2 : 1;
      const value = part === 4 ? view.getUint32(host + i, true) : part === 2 ? view.getUint16(host + i, true) : cpu.u8[host + i]!;
      cpu.writePhysical(physical + i, part, value);
      i += part;
    }
  }

  /** Segment access that is not an ordinary read/write segment: 1 with the linear address in SEGMENT_RESULT, or 0 after a fault. */
  private segment(low: number, high: number, segment: number, flags: number): number {
    const cpu = this.cpu;
    try {
      cpu.setSigned(SEGMENT_RESULT, cpu.linear(segment, (high | 0) * 4294967296 + (low >>> 0), flags & SlowAccess.Size, (flags & SlowAccess.Write) !== 0));
      return 1;
    } catch (thrown) {
      if (!isFault(thrown)) throw thrown;
      recordFault(cpu, thrown.vector, thrown.error, thrown.linear);
      return 0;
    }
  }

  private codeWritten(physical: number, size: number): void {
    if (this.cache.hasCode(physical, size) && this.cache.written(physical, size)) this.cpu.leaveSoon();
  }

  stateChanged(): void { updateMode(this.cpu); }
  flushCode(): void { this.cache.flush(); }
}
