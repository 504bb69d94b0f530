import type { Bus } from '../cpu/bus.ts';
import { Cpu } from '../cpu/cpu.ts';
import { updateMode } from '../cpu/engine.ts';
import { Evaluator } from '../cpu/evaluator.ts';
import type { Fault } from '../cpu/fault.ts';
import type { SecondLevel } from '../cpu/hooks.ts';
import type { Instruction } from '../cpu/instruction.ts';
import { Efer, Leave, S, SegmentIndex } from '../cpu/state.ts';
import type { CpuEvent } from '../cpu/events.ts';
import { deliverEvent, raise } from '../cpu/interrupt.ts';
import { enterPlan, type EntryState } from '../machine/boot/load-plan.ts';
import { Translation } from '../cpu/translation.ts';
import { MachineBus } from '../machine/bus.ts';
import { isa } from '../machine/isa.ts';
import type { VirtualMachine } from './monitor.ts';

/** Added to guest-physical addresses that are not RAM, so that they never look like host RAM. */
const DEVICE = 2 ** 40;

/** Guest-physical to host-physical by a fixed offset; device addresses stay recognizable. */
class Offset implements SecondLevel {
  readonly root = 0;
  pageShift = 12;
  permissions = 7;
  references = 0;
  private readonly vm: VirtualMachine;
  constructor(vm: VirtualMachine) { this.vm = vm; }
  translate(_cpu: Cpu, guestPhysical: number): number {
    return guestPhysical < this.vm.memorySize ? guestPhysical + this.vm.memoryOffset : guestPhysical + DEVICE;
  }
  peek(_cpu: Cpu, guestPhysical: number): number { return this.translate(_cpu, guestPhysical); }
}

/** What emulating one instruction came to. */
export interface Emulated {
  readonly instruction: Instruction | null;
  /** The fault it raised in the guest's view, or null. */
  readonly fault: Fault | null;
  /** It halted. */
  readonly halted: boolean;
}

/**
 * A virtual CPU state on which a monitor executes the same rows as any CPU, against guest-physical memory and the
 * virtual devices: there is no second decoder. The caller moves the guest's registers in and out.
 */
export class Emulator {
  /** The virtual CPU: registers as the guest believes them to be. */
  readonly cpu: Cpu;
  private readonly engine: Evaluator;

  /** @param features the guest's CPUID features (without VMX) */
  constructor(vm: VirtualMachine, features: readonly string[]) {
    const physical = vm.core.cpu;
    const devices = new MachineBus(vm.platform, 0);
    const bus: Bus = {
      readPhysical: (p, size) => devices.readPhysical(p - DEVICE, size),
      writePhysical: (p, size, value) => devices.writePhysical(p - DEVICE, size, value),
      ioRead: (port, size) => devices.ioRead(port, size),
      ioWrite: (port, size, value) => devices.ioWrite(port, size, value),
      acknowledgeInterrupt: () => devices.acknowledgeInterrupt(0),
      readApicBase: () => devices.readApicBase(0),
      writeApicBase: (_cpu, value) => devices.writeApicBase(0, value),
      readTaskPriority: () => devices.readTaskPriority(0),
      writeTaskPriority: (_cpu, value) => devices.writeTaskPriority(0, value),
    };
    this.cpu = new VirtualCpu(vm, physical, features, bus);
    this.cpu.mmu = new Translation(this.cpu);
    this.cpu.secondLevel = new Offset(vm);
    this.engine = new Evaluator(this.cpu, isa);
    // stores of emulated instructions must reach the decoder of the physical CPU
    this.cpu.codeWritten = (at, size) => physical.codeWritten(at, size);
  }

  /**
   * Executes the instruction at the virtual RIP. The base cost of a completed instruction is retired on `on`.
   * @param keepTranslations the monitor sees every CR3 write and INVLPG of the guest and emulates them here, so that the virtual TLB is as good as a real one
   */
  step(on: Cpu, keepTranslations = false): Emulated {
    const cpu = this.cpu;
    if (!keepTranslations) cpu.mmu.flushAll();
    cpu.mmu.updateContext();
    updateMode(cpu);
    cpu.setFloat(S.sliceCycles, on.cycles);
    cpu.setFloat(S.sliceRetired, on.retired);
    cpu.set32(S.retired, 0);
    cpu.set32(S.left, 1);
    cpu.set32(S.budget, 1);
    cpu.set32(S.extra, 0);
    cpu.set32(S.interruptPending, 0);
    const before = cpu.cycles;
    const leave = this.engine.run();
    const instruction = this.engine.last;
    if (leave === Leave.Fault) return { instruction, fault: cpu.recordedFault(), halted: false };
    // an iteration of a repeated instruction costs but does not retire
    const spent = cpu.cycles - before;
    if (cpu.get32(S.retired) > 0) on.retire(spent);
    else on.spend(spent);
    return { instruction, fault: null, halted: cpu.get32(S.activity) === 1 };
  }
  /** Puts the virtual CPU into the entry state of a plan. */
  reset(entry: EntryState): void {
    enterPlan(entry, this.cpu);
    this.cpu.set64(S.pat, 0x0007040600070406n);
    this.cpu.set64(S.dr + 48, 0xffff0ff0n);
    this.cpu.set64(S.dr + 56, 0x400n);
    this.cpu.setSegment(SegmentIndex.LDTR, 0, 0, 0, 0x10082);
    this.cpu.setFloat(S.shadowAt, -1);
    updateMode(this.cpu);
  }
  /** Delivers an event through the guest's own tables, in the virtual CPU. False when a fault was delivered in its place. */
  deliver(event: CpuEvent): boolean { return deliverEvent(this.cpu, event); }
  /** Delivers a fault of the instruction just emulated. */
  raise(fault: Fault): void { raise(this.cpu, fault); }
  /** The virtual CPU shut down (triple fault). */
  get shutDown(): boolean { return this.cpu.get32(S.activity) === 2; }
  /** The instruction emulated last loaded CR3, perhaps with the same value. */
  get loadedCr3(): boolean {
    const last = this.engine.last;
    return last !== null && last.row.operands[0]?.kind === 'cr' && last.reg === 3;
  }
  /** EFER bits that stay in the real register of a CPU without EFER controls. */
  copyEfer(physical: Cpu, bits: number): void {
    physical.set32(S.efer, (physical.get32(S.efer) & ~(Efer.SCE | Efer.NXE)) | bits);
    physical.mmu.updateContext();
  }
  save(): unknown { return { state: this.cpu.u8.slice(this.cpu.base, this.cpu.base + 4096), mmu: this.cpu.mmu.save() }; }
  load(saved: unknown): void {
    const s = saved as { state: Uint8Array; mmu: unknown };
    this.cpu.u8.set(s.state, this.cpu.base);
    this.cpu.mmu.load(s.mmu);
  }
}

/** Time and observers of a virtual CPU are the physical one's. */
class VirtualCpu extends Cpu {
  private readonly host: Cpu;
  constructor(vm: VirtualMachine, physical: Cpu, features: readonly string[], bus: Bus) {
    super(physical.memory, 1, { ...vm.profile.cpu, features }, bus);
    this.host = physical;
  }
  override get now(): number { return this.host.now; }
  override charge(): void { /* the monitor bills emulation by its own cost keys */ }
}
