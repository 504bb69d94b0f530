import { DecodeError, Decoder } from '../cpu/decode.ts';
import type { Cpu } from '../cpu/cpu.ts';
import { disassemble } from '../cpu/disassembler.ts';
import { updateMode } from '../cpu/engine.ts';
import { EventType } from '../cpu/events.ts';
import { ExecutionStop } from '../cpu/execution.ts';
import { vectorNames } from '../cpu/fault.ts';
import type { Instruction } from '../cpu/instruction.ts';
import { Memory } from '../cpu/memory.ts';
import { codeSizeOf, modeKey } from '../cpu/mode.ts';
import { published } from '../cpu/profile.ts';
import { Gpr, S, SegmentIndex, STATUS_FLAGS } from '../cpu/state.ts';
import { MachineBus } from '../machine/bus.ts';
import { planLoad, type LoadOptions } from '../machine/boot/detect.ts';
import { applyLoad, type LoadPlan } from '../machine/boot/load-plan.ts';
import { Core, type EngineName } from '../machine/core.ts';
import { isa } from '../machine/isa.ts';
import { Platform } from '../machine/platform.ts';
import { unit, type MachineProfile } from '../machine/profile.ts';
import { FormatError } from './format-error.ts';
import type { QemuDump, QemuEntry, QemuLog } from './qemu-log.ts';
import { agrees, compareState, loadDump, type StateField } from './qemu-state.ts';
import { undefinedFlags, undefinedRegister } from './undefined-flags.ts';

export interface ReplayOptions {
  /** Default: 64. QEMU's own default is 128. */
  readonly memoryMiB?: number;
  readonly append?: string;
  readonly engine?: EngineName;
  /** Whose features the CPU has (costs do not matter); default: everything that is implemented. */
  readonly profile?: MachineProfile;
  readonly load?: Partial<LoadOptions>;
  /** Stop after so many blocks. */
  readonly maxSteps?: number;
}

/** The first place where the two machines are not in the same state. */
export interface Divergence {
  /** Blocks executed until then. */
  readonly step: number;
  /** Line of the log where the differing state is dumped (0: the log has ended), and of the block that led to it. */
  readonly line: number;
  readonly blockLine: number;
  /** The instruction that led to it: CS:offset, bytes, text. */
  readonly address: string;
  readonly bytes: string;
  readonly instruction: string;
  /** What happened in one sentence. */
  readonly reason: string;
  readonly fields: readonly StateField[];
  /** Events delivered by the instruction, in words. */
  readonly ourEvents: readonly string[];
  readonly logEvents: readonly string[];
}

export interface ReplayResult {
  /** Blocks executed in lock step (instructions, in a log made with -singlestep). */
  readonly steps: number;
  /** Dumps compared. */
  readonly compared: number;
  /** What was taken from the log, by kind: mnemonics of instructions (IN, RDTSC …), 'interrupt', 'memory', 'flags', 'registers', 'firmware', 'outside'. */
  readonly fed: Readonly<Record<string, number>>;
  readonly divergence: Divergence | null;
  readonly notes: readonly string[];
}

type Block = Extract<QemuEntry, { kind: 'block' }>;
type LogEvent = Extract<QemuEntry, { kind: 'event' }>;

const MIB = 2 ** 20;
/** Registers that an instruction takes from outside the program. */
const outside: Readonly<Record<string, readonly number[]>> = {
  IN: [Gpr.RAX], RDTSC: [Gpr.RAX, Gpr.RDX], RDTSCP: [Gpr.RAX, Gpr.RDX, Gpr.RCX], RDPMC: [Gpr.RAX, Gpr.RDX], RDMSR: [Gpr.RAX, Gpr.RDX],
  CPUID: [Gpr.RAX, Gpr.RBX, Gpr.RCX, Gpr.RDX], XGETBV: [Gpr.RAX, Gpr.RDX],
};
const PUSHED_RF = 0x10000n;
/** Instructions tried outside the logged addresses before the replay gives up following them. */
const OUTSIDE_LIMIT = 2_000_000;
/** Where firmware code lies. */
const firmwareCode = (linear: number): boolean => (linear >= 0xc0000 && linear < 0x100000) || linear >= 0xfff00000;

/** One instruction as it was when it was about to run. */
interface Executed {
  readonly address: string;
  readonly linear: number;
  readonly bytes: readonly number[];
  readonly insn: Instruction | null;
  readonly rcx: number;
  /** Physical address of its memory operand, or -1. */
  readonly operand: number;
  readonly events: string[];
}

class Replay {
  private readonly log: QemuLog;
  private readonly options: ReplayOptions;
  private readonly memory: Memory;
  private readonly core: Core;
  private readonly cpu: Cpu;
  private readonly plan: LoadPlan;
  private readonly decoder: Decoder;
  private readonly initial: Uint8Array;
  private readonly fed: Record<string, number> = {};
  private readonly notes: string[] = [];
  private readonly noted = new Set<string>();
  private readonly logged = new Set<bigint>();
  /** Instructions per block by address; only of interest without -singlestep. */
  private readonly blockLength = new Map<bigint, number>();
  private events: string[] = [];
  private stopped = '';
  private readMmio = false;
  /** An exception was delivered before. */
  private faulted = false;
  private steps = 0;
  private compared = 0;
  private at = 0;
  /** Multiboot information as QEMU made it: [start, end). */
  private information: readonly [number, number] = [0, 0];

  constructor(log: QemuLog, bytes: Uint8Array, name: string, options: ReplayOptions) {
    this.log = log;
    this.options = options;
    const memorySize = (options.memoryMiB ?? 64) * MIB;
    this.plan = planLoad(bytes, { ...options.load, name, memorySize, ...(options.append ? { append: options.append } : {}) });
    const profile = options.profile ?? unit;
    this.memory = new Memory(memorySize);
    const holder: { bus: MachineBus | null } = { bus: null };
    const bus = (): MachineBus => holder.bus!;
    this.core = new Core(this.memory, 0, {
      ...profile,
      // REP leaves after every iteration only where iterations cost something
      cpu: { ...profile.cpu, costs: { ...profile.cpu.costs, 'string.iteration': published(1, 'model') } },
    }, {
      readPhysical: (physical, size) => {
        this.readMmio = true;
        return bus().readPhysical(physical, size);
      },
      writePhysical: (physical, size, value) => bus().writePhysical(physical, size, value),
      ioRead: (port, size) => bus().ioRead(port, size),
      ioWrite: (port, size, value) => bus().ioWrite(port, size, value),
      acknowledgeInterrupt: () => -1,
      readApicBase: (index) => bus().readApicBase(index),
      writeApicBase: (index, value) => bus().writeApicBase(index, value),
      readTaskPriority: (index) => bus().readTaskPriority(index),
      writeTaskPriority: (index, value) => bus().writeTaskPriority(index, value),
    }, options.engine ?? 'interpret');
    const { cpu, execution } = this.core;
    this.cpu = cpu;
    // devices only take what they are told; interrupts come from the log
    holder.bus = new MachineBus(new Platform({
      memorySize, busDivisor: profile.busDivisor, time: { frequency: profile.cpu.frequency, now: () => cpu.now, changed: () => {} },
      console: () => {}, setInterruptLine: () => {}, signal: () => {}, report: () => {},
      stop: (request) => {
        this.stopped = request.kind;
        execution.stop();
      },
    }), 0);
    cpu.observer = {
      delivered: (vector, kind, error) => {
        this.events.push(eventText(vector, kind, error));
        if (kind === 'exception') this.faulted = true;
        execution.stop();
      },
    };
    applyLoad(this.plan, this.memory, cpu);
    this.initial = this.memory.u8.slice(this.memory.ramBase, this.memory.ramBase + this.memory.ramSize);
    this.decoder = new Decoder(isa.rows, cpu.features);
    for (const entry of log.entries) {
      if (entry.kind === 'block') this.logged.add(entry.pc);
      else if (entry.kind === 'code') this.blockLength.set(entry.instructions[0]!.pc, entry.instructions.length);
    }
  }

  run(): ReplayResult {
    const first = this.start();
    let block: Block | null = first;
    let divergence: Divergence | null = null;
    while (block !== null && divergence === null && this.steps < (this.options.maxSteps ?? Infinity)) {
      const current: Block = block;
      const executed = this.execute(current);
      const { events, next } = this.following(current, executed);
      block = next;
      if (next === null) divergence = this.ending(current, executed, events);
      else divergence = this.settle(current, executed, events, next);
    }
    if (this.stopped && divergence === null && block !== null) this.note(`the guest stopped the machine (${this.stopped}) before the log ends`);
    return { steps: this.steps, compared: this.compared, fed: this.fed, divergence, notes: this.notes };
  }

  /** Finds the first block to run and loads its state. */
  private start(): Block {
    const { log, plan } = this;
    const cs = plan.entry.segments[SegmentIndex.CS]!;
    const entry = BigInt(cs.base + plan.entry.rip);
    const blocks = log.entries;
    const isEntry = (e: QemuEntry): boolean => e.kind === 'block' && e.dump !== null && e.pc === entry && !e.dump.smm;
    const isBlock = (e: QemuEntry): boolean => e.kind === 'block' && e.dump !== null && !e.dump.smm && !firmwareCode(Number(e.pc));
    let at = blocks.findIndex(isEntry);
    const exact = at >= 0;
    if (!exact) at = blocks.findIndex(isBlock);
    if (at < 0) throw new FormatError('the log', 'expected blocks with register dumps outside the firmware; make it with -d in_asm,exec,cpu,int,nochain -singlestep');
    const block = blocks[at] as Block;
    this.at = at + 1;
    if (!exact) {
      const way = `the log does not show the entry point 0x${entry.toString(16)} of the image: the replay starts at line ${block.line}`;
      const count = this.runTo(block.pc);
      if (count >= 0) this.note(`${way}, with memory as ${count} instructions from the entry point to there left it here`);
      else this.note(`${way}, with memory as it was loaded`);
    }
    loadDump(this.cpu, block.dump!);
    this.renew();
    if (exact && at > 0 && log.fromReset) this.note(`firmware before line ${block.line} was skipped`);
    if (!log.singleStep) this.note('the log was made without -singlestep: states are compared once for each block');
    if (log.incomplete > 0) this.note(`${log.incomplete} register dumps are cut off and were left out`);
    if (log.unknownLines > 0) this.note(`${log.unknownLines} lines were not understood, the first is line ${log.firstUnknown}`);
    if (plan.format === 'multiboot' && exact) {
      const start = Number(block.dump!.registers[Gpr.RBX]! & 0xffffffffn);
      this.information = [start & ~0xfff, start + 0x2000];
    }
    return block;
  }

  /** Runs the image by itself up to the first instruction in the log; the number of instructions, or -1 (everything as loaded again). */
  private runTo(pc: bigint): number {
    const { cpu, core, memory } = this;
    for (let count = 0; count < OUTSIDE_LIMIT && !this.stopped; count++) {
      if (this.loggedPc === pc) {
        this.faulted = false;
        return count;
      }
      const how = core.execution.run(Infinity, cpu.retired + 1);
      if (how === ExecutionStop.Shutdown || how === ExecutionStop.Idle) break;
    }
    this.stopped = '';
    memory.u8.set(this.initial, memory.ramBase);
    applyLoad(this.plan, memory, cpu);
    core.engine.flushCode();
    return -1;
  }

  private renew(): void {
    updateMode(this.cpu);
    this.core.engine.stateChanged();
  }

  private note(text: string): void {
    if (this.noted.has(text)) return;
    this.noted.add(text);
    this.notes.push(text);
  }
  private feed(kind: string): void { this.fed[kind] = (this.fed[kind] ?? 0) + 1; }

  private get linearPc(): number {
    const { cpu } = this;
    return cpu.code64 ? cpu.rip : (cpu.rip + cpu.segmentBase(SegmentIndex.CS)) >>> 0;
  }
  private get loggedPc(): bigint { return BigInt.asUintN(64, BigInt(this.linearPc)); }

  /** Bytes at RIP, as many as can be read. */
  private fetch(): number[] {
    const bytes: number[] = [];
    const { cpu, memory } = this;
    const linear = this.linearPc;
    for (let i = 0; i < 15; i++) {
      const physical = cpu.mmu.peek(cpu.wrapLinear(linear + i));
      if (physical < 0 || physical >= memory.ramSize) break;
      bytes.push(memory.u8[memory.ramBase + physical]!);
    }
    return bytes;
  }

  /** Runs one instruction (one iteration of a repeated one), with the events that it causes. */
  private instruction(): Executed {
    const { cpu, core } = this;
    const fetched = this.fetch();
    const linear = this.linearPc;
    const offset = cpu.get64(S.rip);
    const selector = cpu.selector(SegmentIndex.CS);
    const decoded = this.decoder.decode(Uint8Array.from(fetched), 0, fetched.length, codeSizeOf(modeKey(cpu)));
    const insn = typeof decoded === 'object' ? decoded : null;
    this.events = [];
    this.readMmio = false;
    const executed: Executed = {
      address: `${selector.toString(16).padStart(4, '0')}:${BigInt.asUintN(64, offset).toString(16).padStart(8, '0')}`, linear,
      bytes: fetched.slice(0, insn ? insn.length : decoded === DecodeError.Short ? fetched.length : 8), insn, rcx: cpu.reg32(Gpr.RCX), operand: insn ? this.operandOf(insn) : -1, events: this.events,
    };
    cpu.interruptLine = false;
    const how = core.execution.run(cpu.now + 1, cpu.retired + 1);
    if (how === ExecutionStop.Shutdown) this.events.push('shutdown (triple fault)');
    return executed;
  }

  /** Physical address that the instruction reads, or -1. */
  private operandOf(insn: Instruction): number {
    const { cpu } = this;
    let linear: number;
    if (insn.memory) linear = (insn.codeSize === 64 && insn.segment < SegmentIndex.FS ? 0 : cpu.segmentBase(insn.segment)) + cpu.effectiveAddress(insn);
    else if (/^(MOVS|LODS|CMPS|OUTS)/.test(insn.row.mnemonic)) {
      const index = insn.addressSize === 64 ? cpu.getSigned(S.gpr + 8 * Gpr.RSI) : insn.addressSize === 32 ? cpu.reg32(Gpr.RSI) : cpu.reg32(Gpr.RSI) & 0xffff;
      linear = (insn.codeSize === 64 && insn.segment < SegmentIndex.FS ? 0 : cpu.segmentBase(insn.segment)) + index;
    } else return -1;
    return cpu.mmu.peek(cpu.wrapLinear(linear));
  }

  /** Runs a block of the log: one instruction with -singlestep. */
  private execute(block: Block): Executed {
    const count = this.log.singleStep ? 1 : (this.blockLength.get(block.pc) ?? 1);
    let executed = this.instruction();
    const mixed: Executed[] = [executed];
    for (let i = 1; i < count && executed.events.length === 0 && !this.stopped; i++) {
      executed = this.instruction();
      mixed.push(executed);
    }
    this.steps++;
    // in a longer block the results from outside are known at its end only
    const source = mixed.find((each) => each.insn && outside[each.insn.row.mnemonic]);
    return source && source !== executed ? { ...executed, insn: source.insn } : executed;
  }

  /** Log entries up to the next block that can be followed: events, interrupts (delivered here), firmware (skipped). */
  private following(current: Block, executed: Executed): { events: LogEvent[]; next: Block | null } {
    const { entries } = this.log;
    const events: LogEvent[] = [];
    let firmware = false;
    let system = false;
    let interrupted = false;
    for (; this.at < entries.length; this.at++) {
      const entry = entries[this.at]!;
      if (entry.kind === 'smm') system = entry.enter;
      else if (system) continue;
      else if (entry.kind === 'code') this.checkCode(entry);
      else if (entry.kind === 'interrupt') {
        if (!firmware) this.interrupt(entry.vector);
        interrupted = true;
      } else if (entry.kind === 'event') {
        if (!interrupted) events.push(entry);
        interrupted = false;
      } else {
        if (firmwareCode(Number(entry.pc)) || entry.dump?.smm) {
          firmware = true;
          continue;
        }
        if (entry.dump === null) continue;
        if (!firmware && this.isRepeatEnd(current, executed, entry)) continue;
        this.at++;
        if (firmware) this.resume(entry, 'firmware', 'firmware ran: registers were taken from the log after it, memory that it wrote is unknown');
        return { events, next: entry };
      }
    }
    return { events, next: null };
  }

  /** QEMU shows a repeated instruction once more with a count of 0 before it goes on. */
  private isRepeatEnd(current: Block, executed: Executed, entry: Block): boolean {
    const { insn } = executed;
    if (!insn?.rep || !insn.row.rep || entry.pc !== current.pc || this.loggedPc === entry.pc || entry.dump === null || executed.events.length > 0) return false;
    const count = entry.dump.registers[Gpr.RCX]!;
    return BigInt.asUintN(insn.addressSize, count) === 0n;
  }

  /** A hardware interrupt happens where the log says so. */
  private interrupt(vector: number): void {
    const { cpu } = this;
    this.events = [];
    cpu.set32(S.activity, 0);
    cpu.deliver({ type: EventType.ExternalInterrupt, vector, error: -1, data: 0, length: 0 });
    this.renew();
    this.feed('interrupt');
  }

  private checkCode(entry: Extract<QemuEntry, { kind: 'code' }>): void {
    const { cpu, memory } = this;
    const { pc, bytes } = entry.instructions[0]!;
    if (BigInt.asIntN(64, pc) !== BigInt(this.linearPc)) return;
    for (let i = 0; i < bytes.length; i++) {
      const physical = cpu.mmu.peek(cpu.wrapLinear(this.linearPc + i));
      if (physical < 0 || physical >= memory.ramSize || memory.u8[memory.ramBase + physical] === bytes[i]) continue;
      if (this.isUnknown(physical)) {
        memory.u8[memory.ramBase + physical] = bytes[i]!;
        cpu.codeWritten(physical, 1);
        this.feed('code');
        this.note('code that the image does not hold was taken from the log');
      } else this.note(`line ${entry.line}: the code at 0x${pc.toString(16)} is not what memory holds here; is this the image that the log was made with?`);
    }
  }

  /** Memory whose contents came from QEMU's firmware or loader and was not written since. */
  private isUnknown(physical: number): boolean {
    if (physical < 0) return false;
    const inImage = this.plan.segments.some(({ physical: start, bytes }) => physical >= start && physical < start + bytes.length && start !== this.ourInformation());
    if (inImage || physical >= this.memory.ramSize) return false;
    const [from, to] = this.information;
    if (physical >= 0x100000 && !(physical >= from && physical < to)) return false;
    return this.memory.u8[this.memory.ramBase + physical] === this.initial[physical];
  }
  private ourInformation(): number { return this.plan.format === 'multiboot' ? (this.plan.entry.registers.find(([n]) => n === Gpr.RBX)?.[1] ?? -1) : -1; }

  /** Goes on from a dumped state. */
  private resume(block: Block, kind: string, note: string): void {
    loadDump(this.cpu, block.dump!);
    this.renew();
    this.feed(kind);
    this.note(note);
  }

  /** Makes our state the log's where the difference comes from outside, and compares. Null: go on with `next`. */
  private settle(current: Block, executed: Executed, events: readonly LogEvent[], next: Block): Divergence | null {
    const { cpu } = this;
    const dump = next.dump!;
    if (agrees(cpu, dump)) {
      this.compared++;
      return null;
    }
    if (this.loggedPc !== next.pc && !this.stopped && executed.events.every((text) => !text.startsWith('shutdown'))) {
      const target = this.linearPc;
      if ((target < 0x500 && executed.linear >= 0x500) || firmwareCode(target)) {
        this.resume(next, 'firmware', 'the guest called firmware, which is not in the log: registers were taken from the log, memory that it wrote is unknown');
        return null;
      }
      if (!this.log.fromReset && !this.logged.has(this.loggedPc)) return this.follow(current, executed, events, next);
    }
    this.adopt(executed, events, dump);
    if (agrees(cpu, dump)) {
      this.compared++;
      return null;
    }
    const found = this.divergence(current, executed, events, next, '');
    if (events.length > 0 && executed.events.length === 0 && !this.stopped) {
      // an instruction breakpoint or a fault of the fetch: QEMU announces no block for it
      this.instruction();
      if (agrees(cpu, dump)) {
        this.compared++;
        return null;
      }
    }
    return found;
  }

  /** The guest left the addresses that the log covers: runs until it is back. */
  private follow(current: Block, executed: Executed, events: readonly LogEvent[], next: Block): Divergence | null {
    const from = this.linearPc;
    let count = 0;
    while (count < OUTSIDE_LIMIT && this.loggedPc !== next.pc && !this.stopped) {
      const before = this.cpu.retired;
      this.cpu.interruptLine = false;
      const how = this.core.execution.run(Infinity, this.cpu.retired + 1);
      if (how === ExecutionStop.Shutdown || how === ExecutionStop.Idle) break;
      count += Math.max(1, this.cpu.retired - before);
    }
    if (this.fed['outside'] === undefined) this.note(`the guest ran outside the addresses in the log, first at 0x${from.toString(16)}`);
    this.feed('outside');
    if (this.loggedPc !== next.pc) return this.divergence(current, executed, events, next, `the guest went on at 0x${from.toString(16)}, which the log never shows, and did not come to line ${next.line} of the log`);
    if (agrees(this.cpu, next.dump!)) {
      this.compared++;
      return null;
    }
    this.resume(next, 'registers', 'registers differed after instructions outside the log (devices, time, or an error of ours: this cannot be told) and were taken from it');
    return null;
  }

  /** Takes over what the log alone can know. */
  private adopt(executed: Executed, events: readonly LogEvent[], dump: QemuDump): void {
    const { cpu } = this;
    const { insn } = executed;
    if (!insn) return;
    const { mnemonic } = insn.row;
    if (events.length === 0 && executed.events.length > 0) {
      // an MSR that one of the two machines does not have
      if ((mnemonic === 'RDMSR' || mnemonic === 'WRMSR') && dump.rip === BigInt.asUintN(dump.wide ? 64 : 32, BigInt(executed.linear + insn.length - (cpu.code64 ? 0 : cpu.segmentBase(SegmentIndex.CS))))) {
        this.feed(mnemonic);
        this.note(`${mnemonic} of MSR 0x${executed.rcx.toString(16)} faults here and not in the log: the log was followed`);
        loadDump(cpu, dump);
        this.renew();
      }
      return;
    }
    if (executed.events.length > 0) return;
    const registers = new Set<number>(outside[mnemonic] ?? []);
    if (registers.size > 0) this.take(registers, dump, mnemonic);
    if (cpu.flags !== dump.flags) {
      const open = undefinedFlags(insn, executed.rcx);
      if ((cpu.flags ^ dump.flags) & open) {
        cpu.flags = ((cpu.flags & ~open) | (dump.flags & open)) >>> 0;
        this.feed('flags');
        this.note('status flags that the manual leaves undefined were taken from the log');
      }
    }
    if (mnemonic === 'SYSCALL' && (cpu.flags ^ dump.flags) & STATUS_FLAGS) {
      cpu.flags = ((cpu.flags & ~STATUS_FLAGS) | (dump.flags & STATUS_FLAGS)) >>> 0;
      this.feed('flags');
      this.note('QEMU 7.2 loses the status flags in SYSCALL: the log was followed');
    }
    const pushed = dump.registers.flatMap((value, n) => ((cpu.reg64(n) & ~value & 0xffffffffn) === PUSHED_RF && (value & ~cpu.reg64(n) & 0xffffffffn) === 0n ? [n] : []));
    if (pushed.length > 0 && this.faulted && (insn.memory || insn.row.mnemonic === 'POP')) {
      this.take(new Set(pushed), dump, 'RF');
      this.note('QEMU 7.2 does not set RF in the EFLAGS that a fault pushes; where the guest read it, the log was followed');
    }
    if (/^(JMP|CALL|IRET)/.test(mnemonic) && (cpu.attributes(SegmentIndex.TR) & 0x8d) === 0x81) {
      // the 16-bit TSS has no upper halves
      const halves = dump.registers.flatMap((value, n) => (((value ^ cpu.reg64(n)) & 0xffffn) === 0n && value !== cpu.reg64(n) ? [n] : []));
      this.take(new Set(halves), dump, 'registers');
    }
    const undefinedOne = undefinedRegister(insn, executed.rcx, dump.flags);
    if (undefinedOne >= 0) this.take(new Set([undefinedOne]), dump, 'registers');
    if (this.readMmio || this.isUnknown(executed.operand)) {
      const all = new Set(dump.registers.map((_, n) => n).filter((n) => n !== Gpr.RSP));
      const where = this.readMmio ? 'a device' : `0x${executed.operand.toString(16)}`;
      const changed = this.take(all, dump, 'memory');
      if (changed.length === 1 && !this.readMmio && /^MOV(ZX)?$/.test(mnemonic)) this.poke(executed.operand, insn, dump.registers[changed[0]!]!);
      const flags = (cpu.flags ^ dump.flags) & STATUS_FLAGS;
      if (flags) cpu.flags = (cpu.flags ^ flags) >>> 0;
      if (changed.length || flags) this.note(`memory that QEMU's firmware or loader filled (or a device) was read, first at ${where}: the result was taken from the log`);
    }
  }

  /** Copies registers that differ; their numbers. */
  private take(registers: ReadonlySet<number>, dump: QemuDump, kind: string): number[] {
    const { cpu } = this;
    const changed: number[] = [];
    for (const n of registers) {
      const value = dump.registers[n];
      if (value === undefined || (dump.wide ? cpu.reg64(n) : BigInt(cpu.reg32(n))) === value) continue;
      if (dump.wide) cpu.setReg64(n, value);
      else cpu.setReg32(n, Number(value));
      changed.push(n);
    }
    if (changed.length) this.feed(kind);
    return changed;
  }

  /** Remembers what a load from unknown memory gave. */
  private poke(physical: number, insn: Instruction, value: bigint): void {
    const operand = insn.row.operands[1];
    const bits = operand?.width === 'b' ? 8 : operand?.width === 'w' ? 16 : insn.operandSize;
    for (let i = 0; i < bits / 8; i++) {
      if (!this.isUnknown(physical + i)) continue;
      const byte = Number((value >> BigInt(8 * i)) & 0xffn);
      this.memory.u8[this.memory.ramBase + physical + i] = byte;
      this.initial[physical + i] = byte;
      this.cpu.codeWritten(physical + i, 1);
    }
  }

  /** After the last block nothing is dumped; the events that follow it can still be compared. */
  private ending(current: Block, executed: Executed, events: readonly LogEvent[]): Divergence | null {
    if (executed.events.some((text) => text.startsWith('shutdown')) && events.length > 0) this.note('both machines end in a triple fault');
    else if (events.length > 0 && executed.events.length === 0) return this.divergence(current, executed, events, null, `the log ends with ${logEventText(events[0]!)}; here the instruction completed`);
    return null;
  }

  private divergence(current: Block, executed: Executed, events: readonly LogEvent[], next: Block | null, reason: string): Divergence {
    const fields = next ? compareState(this.cpu, next.dump!) : [];
    const logEvents = events.map(logEventText);
    const ourEvents = [...executed.events];
    const names = fields.filter((field) => field.differs).map((field) => field.name);
    let why = reason;
    if (!why) {
      if (executed.insn === null && ourEvents.length && !logEvents.length) why = 'the instruction is not known here, QEMU executed it';
      else if (ourEvents.length && !logEvents.length) why = `${ourEvents[0]} here, no event in the log`;
      else if (!ourEvents.length && logEvents.length) why = `${logEvents[0]} in the log, no event here`;
      else why = `${names.join(', ')} ${names.length === 1 ? 'differs' : 'differ'}`;
    }
    return {
      step: this.steps, line: next?.dump?.line ?? 0, blockLine: current.line, address: executed.address, bytes: executed.bytes.map((byte) => byte.toString(16).padStart(2, '0')).join(' '),
      instruction: executed.insn ? disassemble(executed.insn, executed.linear) : '(no instruction)', reason: why, fields, ourEvents, logEvents,
    };
  }
}

function eventText(vector: number, kind: string, error: number): string {
  return `${vectorNames[vector] ?? `vector 0x${vector.toString(16)}`}${error >= 0 ? `(0x${error.toString(16)})` : ''}${kind === 'exception' ? '' : ` (${kind})`}`;
}

const withError: ReadonlySet<number> = new Set([8, 10, 11, 12, 13, 14, 17, 21]);
function logEventText(event: LogEvent): string {
  return eventText(event.vector, event.software ? 'software' : 'exception', !event.software && withError.has(event.vector) ? event.error : -1);
}

/**
 * Runs the image of a QEMU log in lock step with it, feeding the CPU what comes from outside, up to the first divergence.
 * @param imageName file name without directories (first word of a multiboot command line)
 * @throws ImageError for a bad image, FormatError for a log without anything to follow
 */
export function replayQemuLog(log: QemuLog, imageBytes: Uint8Array, imageName: string, options: ReplayOptions = {}): ReplayResult {
  return new Replay(log, imageBytes, imageName, options).run();
}

/** The result as text for people, ending with a newline. */
export function renderReplay(result: ReplayResult): string {
  const { divergence, fed } = result;
  const lines = [`${result.steps} steps in lock step, ${result.compared} states compared: ${divergence ? 'DIVERGENCE' : 'no divergence'}`];
  const kinds = Object.keys(fed).sort();
  if (kinds.length) lines.push(`taken from the log: ${kinds.map((kind) => `${kind} ${fed[kind]}`).join(', ')}`);
  for (const note of result.notes) lines.push(`note: ${note}`);
  if (divergence) {
    lines.push('', `after step ${divergence.step}, ${divergence.line ? `line ${divergence.line} of the log` : 'at the end of the log'}: ${divergence.reason}`);
    lines.push(`  ${divergence.address}  ${divergence.bytes.padEnd(30)}  ${divergence.instruction}    (line ${divergence.blockLine})`);
    if (divergence.ourEvents.length) lines.push(`  events here: ${divergence.ourEvents.join(', ')}`);
    if (divergence.logEvents.length) lines.push(`  events in the log: ${divergence.logEvents.join(', ')}`);
    if (divergence.fields.length) {
      lines.push('', `    ${'state after it'.padEnd(14)}  ${'here'.padEnd(16)}  log`);
      for (const field of divergence.fields) lines.push(`  ${field.differs ? '*' : ' '} ${field.name.padEnd(14)}  ${field.ours.padEnd(16)}  ${field.log}`);
    }
  }
  return `${lines.join('\n')}\n`;
}
