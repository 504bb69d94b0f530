import type { Bus } from '../cpu/bus.ts';
import { EventType } from '../cpu/events.ts';
import { Vector } from '../cpu/fault.ts';
import type { Instruction } from '../cpu/instruction.ts';
import type { Observer } from '../cpu/observer.ts';
import { MachineBus } from '../machine/bus.ts';
import type { LoadPlan } from '../machine/boot/load-plan.ts';
import { Emulator } from './emulator.ts';
import { hostBus } from './host-bus.ts';
import type { Monitor, MonitorKind, VirtualMachine } from './monitor.ts';
import { PagePool } from './page-pool.ts';
import { Port } from './port.ts';
import { DescriptorTable } from './ring-descriptors.ts';
import { Entrance, GUEST_ENTRIES, MONITOR_PAGES, monitorPages, RingRegisters } from './ring-registers.ts';
import { Shadow } from './shadow.ts';
import { emulationLabel, faultLabel, vectorLabel, type TrapLabel } from './trap-label.ts';

/** Vector that the physical interrupt controller gives. */
const HOST_INTERRUPT = 0x20;
/** DR6.BS: a single step. */
const SINGLE_STEP = 0x4000;
const hasErrorCode: ReadonlySet<number> = new Set([8, 10, 11, 12, 13, 14, 17, 21]);
/** Exceptions that may only mean that the guest is not in the ring it believes in: the instruction decides, when emulated. */
const emulated: ReadonlySet<number> = new Set([Vector.InvalidOpcode, Vector.InvalidTss, Vector.SegmentNotPresent, Vector.StackFault, Vector.GeneralProtection]);

/**
 * The classic monitor for a CPU without virtualization: the guest's kernel runs in ring 1 of 32-bit protected mode,
 * its users in ring 3, on shadow page tables and shadow descriptor tables. Privileged instructions, exceptions and
 * interrupts really trap into the monitor's own IDT; sensitive instructions that do not trap go wrong, and are let.
 */
class TrapAndEmulate implements Monitor {
  readonly name = 'trap-and-emulate';
  readonly hostBus: Bus;
  private readonly vm: VirtualMachine;
  private readonly port: Port;
  private readonly pool: PagePool;
  private readonly emulator: Emulator;
  private readonly registers: RingRegisters;
  private readonly shadow: Shadow;
  private readonly gdt: DescriptorTable;
  private readonly ldt: DescriptorTable;
  private readonly devices: MachineBus;
  private readonly labels = new Map<number, TrapLabel>();
  /** The interrupt request of the virtual platform. */
  private level = false;
  private nonMaskable = false;
  /** The guest halted; the CPU waits at the firmware page. */
  private parked = false;
  /** TF in the real flags is the monitor's: an interrupt waits for one more instruction. */
  private stepping = false;
  private failed = false;
  /** Guest-physical ranges that emulated instructions wrote inside the guest's descriptor tables. */
  private dirty: [number, number][] = [];
  private readonly translate = (linear: number): number => this.shadow.guestPhysical(linear);

  constructor(vm: VirtualMachine) {
    this.vm = vm;
    this.port = new Port(vm);
    const { cpu } = vm.core;
    this.pool = new PagePool(cpu.memory, vm.monitorStart, vm.monitorEnd);
    const run = this.pool.takeRun(MONITOR_PAGES);
    this.devices = new MachineBus(vm.platform, 0);
    // CPUID does not trap, so only what the guest tries to use can be withheld
    this.emulator = new Emulator(vm, vm.profile.cpu.features.filter((name) => name !== 'VMX'));
    this.gdt = new DescriptorTable(this.port, run + 0x3000, GUEST_ENTRIES);
    this.ldt = new DescriptorTable(this.port, run + 0x13000, 8192);
    this.registers = new RingRegisters(cpu, this.emulator.cpu, this.port, run, this.gdt, this.ldt);
    this.shadow = new Shadow(vm, this.port, this.pool, {
      fixed: monitorPages(run),
      tlb: { page: (linear) => this.registers.dropPage(linear), all: () => this.registers.reloadRoot(this.shadow.root) },
      traced: (page) => this.traced(page),
    });
    this.hostBus = this.makeHostBus();
    cpu.firmware = { page: run / 4096, call: (_cpu, offset) => this.entered(offset) };
    this.watch();
  }

  get halted(): boolean { return this.parked; }

  /** The machine under the monitor has no devices but an interrupt controller. */
  private makeHostBus(): Bus {
    return hostBus(() => {
      this.line(false);
      return HOST_INTERRUPT;
    });
  }
  /** Deliveries through the monitor's IDT are not the guest's; those in the virtual CPU are. */
  private watch(): void {
    const { cpu } = this.vm.core;
    const outer: Observer = cpu.observer ?? {};
    const { delivered, ...rest } = outer;
    cpu.observer = rest;
    this.emulator.cpu.observer = { ...rest, ...(delivered ? { delivered } : {}) };
    const virtual = this.emulator.cpu;
    const toDecoder = virtual.codeWritten;
    virtual.codeWritten = (at, size) => {
      toDecoder(at, size);
      const guestPhysical = at - this.vm.memoryOffset;
      if (this.traced(Math.floor(guestPhysical / 4096))) this.dirty.push([guestPhysical, size]);
    };
    cpu.eventsTo = 2;
  }
  private traced(page: number): boolean { return this.gdt.covers(page) || this.ldt.covers(page); }

  start(plan: LoadPlan): void {
    const { registers, shadow, emulator, vm } = this;
    emulator.reset(plan.entry);
    const paging = registers.guestPaging();
    if (typeof paging === 'string') throw new Error(`trap-and-emulate cannot start this guest (${paging}); MonitorKind.unable should have said so`);
    shadow.setGuest(paging);
    registers.enterMonitor(shadow.root);
    for (let vector = HOST_INTERRUPT + 1; vector < 256; vector++) registers.setGate(vector, 3);
    registers.setGate(Vector.Breakpoint, 3);
    registers.setGate(Vector.Overflow, 3);
    registers.virtualRip = plan.entry.rip;
    this.locateTables();
    this.resume(true);
    vm.core.engine.stateChanged();
  }

  interruptRequest(level: boolean): void {
    this.level = level;
    if (!level) this.line(false);
    else if (!this.vm.ledger.handling) this.line(true);
  }
  private line(level: boolean): void {
    if (this.vm.core.cpu.interruptLine !== level) this.vm.core.execution.interruptRequest(level);
  }

  // --- traps ------------------------------------------------------------------------------------------------------
  /** The hardware delivered an event through the monitor's IDT. */
  private entered(offset: number): void {
    const { registers, vm, port } = this;
    if (offset === Entrance.Stay) return this.stayed();
    const vector = offset >>> 3;
    if (offset & 7 || vector > 255) throw new Error(`the monitor's firmware page was entered at 0x${offset.toString(16)}, where no gate leads`);
    if (registers.nested) {
      if (vector === Vector.Nmi) this.nonMaskable = true;
      if (!this.parked) {
        // an NMI, or the single step of an INT, on the way in: the trap underneath comes first
        if (vector === Vector.Debug) registers.takeDebugStatus();
        return registers.returnNested();
      }
    }
    const { cpu } = vm.core;
    const software = vector > HOST_INTERRUPT || vector === Vector.Breakpoint || vector === Vector.Overflow;
    const delivery = cpu.costs[software ? 'event.software' : vector === HOST_INTERRUPT || vector === Vector.Nmi ? 'event.interrupt' : 'event.exception']!;
    const label = this.label(vector, () => vectorLabel(vector, software, HOST_INTERRUPT));
    vm.ledger.enter('trap', label.name, cpu.retired - (software ? 1 : 0), cpu.cycles - delivery, cpu.chargedTotal - delivery, registers.frameEip.toString(16), label.why);
    port.spend('monitor.dispatch');
    if (this.parked) this.wake();
    else if (vector === Vector.PageFault) this.pageFault();
    else this.trap(vector, software);
  }

  /** The guest's next instruction lies above the cut, where the real code segment ends. */
  private stayed(): void {
    const { vm, port, registers } = this;
    const { cpu } = vm.core;
    vm.ledger.enter('trap', 'code limit', cpu.retired, cpu.cycles, cpu.chargedTotal, registers.virtualRip.toString(16), 'the code lies outside the truncated segment');
    port.spend('monitor.dispatch');
    this.emulate(Vector.GeneralProtection, false);
  }

  private trap(vector: number, software: boolean): void {
    const { registers } = this;
    registers.fetch(this.stepping);
    if (vector === HOST_INTERRUPT) return this.resume(false);
    if (vector === Vector.Nmi) {
      this.nonMaskable = true;
      return this.resume(false);
    }
    if (software) {
      // the instruction is delivered again, through the guest's own table; it has retired only if that succeeds
      this.stepping = false;
      const length = vector === Vector.Breakpoint || vector === Vector.Overflow ? 1 : 2;
      const type = length === 1 ? EventType.SoftwareException : EventType.SoftwareInterrupt;
      registers.virtualRip -= length;
      registers.takeBack();
      this.port.spend('monitor.inject');
      if (this.emulator.deliver({ type, vector, error: -1, data: 0, length })) registers.retireAgain();
      return this.resume(false);
    }
    if (emulated.has(vector)) return this.emulate(vector, false);
    if (vector === Vector.Debug) {
      const status = registers.takeDebugStatus();
      if (this.stepping && status & SINGLE_STEP) {
        this.stepping = false;
        this.vm.ledger.rename('#DB single step', 'TF: an interrupt waited for the instruction after STI');
        return this.resume(false);
      }
      if (status === 0) return this.reflect(EventType.PrivilegedSoftwareException, vector, -1, 0, 0);
      return this.reflect(EventType.HardwareException, vector, -1, status, 0);
    }
    if (vector === Vector.DoubleFault) throw new Error(`double fault in the monitor's own tables at 0x${registers.frameEip.toString(16)}`);
    this.reflect(EventType.HardwareException, vector, hasErrorCode.has(vector) ? registers.errorCode : -1, 0, 0);
  }

  /** Gives the guest an event through its own IDT. */
  private reflect(type: EventType, vector: number, error: number, data: number, length: number): void {
    this.port.spend('monitor.inject');
    this.emulator.deliver({ type, vector, error, data, length });
    this.resume(false);
  }

  private pageFault(): void {
    const { registers, shadow, vm } = this;
    const linear = registers.pageFaultAddress;
    const error = registers.errorCode;
    const result = shadow.fault(linear, error, registers.alignmentFlag);
    if (result === 'filled') {
      registers.returnToGuest();
      vm.ledger.leave(vm.core.cpu.chargedTotal);
      return;
    }
    registers.fetch(this.stepping);
    if ('guestFault' in result) {
      vm.ledger.rename('#PF guest', 'the guest\'s own page tables forbid the access');
      registers.virtualPageFaultAddress = linear;
      this.port.spend('monitor.inject');
      this.emulator.deliver({ type: EventType.HardwareException, vector: Vector.PageFault, error: result.guestFault, data: linear, length: 0 });
      return this.resume(false);
    }
    this.emulate(Vector.PageFault, result.traced !== true);
  }

  /** Carries out the instruction in the virtual CPU, where the guest's kernel is in ring 0. */
  private emulate(vector: number, device: boolean): void {
    const { registers, emulator, port, vm } = this;
    port.spend('monitor.decode');
    port.spend('monitor.emulate');
    if (device) port.spend('monitor.device');
    registers.fetchExtended();
    const cpl = registers.cpl;
    const iopl = registers.ioPrivilege;
    const singleStep = registers.trapFlag;
    const retired = vm.core.cpu.retired;
    const { instruction, fault } = emulator.step(vm.core.cpu, true);
    if (fault !== null) {
      const label = this.label(((instruction?.row.id ?? -1) + 2) * 2 ** 20 + 2 ** 19 + (instruction?.reg ?? 0) * 2 ** 13 + fault.vector * 4 + cpl, () => faultLabel(fault.vector, instruction, cpl));
      vm.ledger.rename(label.name, label.why);
      port.spend('monitor.inject');
      emulator.raise(fault);
      return this.resume(true);
    }
    this.stepping = false;
    const { row, reg } = instruction!;
    if (row.cost === 'io' && !device) port.spend('monitor.device');
    const label = this.label((row.id + 2) * 2 ** 20 + reg * 2 ** 12 + vector * 32 + cpl * 8 + iopl * 2 + (device ? 1 : 0), () => emulationLabel(vector, instruction!, cpl, iopl, device));
    vm.ledger.rename(label.name, label.why);
    // a trap flag that was set when the instruction began (MOV SS and POP SS hold the trap back; INT n and the like discard it)
    const traps = singleStep && row.cost !== 'int' && vm.core.cpu.retired !== retired && emulator.cpu.shadowNow !== 2;
    this.afterInstruction(instruction!, traps);
  }

  private afterInstruction(instruction: Instruction, singleStep: boolean): void {
    const { registers, shadow, emulator } = this;
    if (registers.pagingChanged || emulator.loadedCr3) {
      const paging = registers.guestPaging();
      if (typeof paging === 'string') return this.fail(paging);
      shadow.setGuest(paging);
      registers.setPaging(shadow.root, shadow.pae);
      if (this.gdt.moved(this.translate) || this.ldt.moved(this.translate)) this.locateTables();
    } else if (registers.sharedChanged()) registers.shareControl();
    switch (instruction.row.mnemonic) {
      case 'INVLPG': {
        const { cpu } = emulator;
        const linear = (cpu.segmentBase(instruction.segment) + cpu.effectiveAddress(instruction)) >>> 0;
        shadow.invalidate(linear);
        if (this.gdt.moved(this.translate) || this.ldt.moved(this.translate)) this.locateTables();
        break;
      }
      case 'LGDT': case 'LLDT': this.locateTables(); break;
      default:
        if (this.gdt.base !== registers.gdtrBase || this.gdt.limit !== registers.gdtrLimit || this.ldt.limit !== registers.ldtrLimit || (this.ldt.limit >= 0 && this.ldt.base !== registers.ldtrBase)) this.locateTables();
    }
    if (singleStep && !this.failed) emulator.deliver({ type: EventType.HardwareException, vector: Vector.Debug, error: -1, data: SINGLE_STEP, length: 0 });
    this.resume(true);
  }

  /** The guest's descriptor tables moved: mirrors them anew, and watches the pages they lie in. */
  private locateTables(): void {
    const { registers, shadow, gdt, ldt } = this;
    const before = [...gdt.tracedPages, ...ldt.tracedPages];
    const reason = gdt.locate(registers.gdtrBase, registers.gdtrLimit, this.translate) ?? ldt.locate(registers.ldtrBase, registers.ldtrLimit, this.translate);
    if (reason !== null) return this.fail(reason);
    this.dirty.length = 0;
    if ([...gdt.tracedPages, ...ldt.tracedPages].some((page) => page >= 0 && !before.includes(page))) shadow.flush();
  }

  // --- back to the guest ------------------------------------------------------------------------------------------
  /** Injects what waits, and continues the guest, or lets the CPU wait. `extended`: an instruction was emulated. */
  private resume(extended: boolean): void {
    const { registers, vm, emulator } = this;
    const { cpu } = vm.core;
    if (this.dirty.length > 0) {
      for (const [at, size] of this.dirty) {
        this.gdt.written(at, size);
        this.ldt.written(at, size);
      }
      this.dirty.length = 0;
    }
    this.injectPending();
    if (this.failed) {
      vm.ledger.leave(cpu.chargedTotal);
      return;
    }
    if (registers.virtualShutDown) {
      registers.shutDown();
      vm.ledger.leave(cpu.chargedTotal);
      cpu.leaveSoon();
      return;
    }
    if (registers.virtualHalted) {
      this.parked = true;
      registers.park();
      vm.ledger.leave(cpu.chargedTotal);
      cpu.leaveSoon();
      return;
    }
    if (!registers.reachable) {
      this.stepping = false;
      registers.stay();
      vm.ledger.leave(cpu.chargedTotal);
      return;
    }
    this.stepping = this.level && registers.interruptsEnabled && emulator.cpu.shadowNow !== 0;
    const reason = registers.resume(this.stepping, extended);
    if (reason !== null) this.fail(reason);
    vm.ledger.leave(cpu.chargedTotal);
    if (this.stepping || registers.trapFlag) cpu.leaveSoon();
  }

  /** Events that the guest must see before its next instruction. */
  private injectPending(): void {
    const { registers, emulator, port } = this;
    if (registers.virtualShutDown) return;
    if (this.nonMaskable) {
      this.nonMaskable = false;
      port.spend('monitor.inject');
      emulator.deliver({ type: EventType.Nmi, vector: Vector.Nmi, error: -1, data: 0, length: 0 });
    }
    // the monitor has seen the request: the physical line need not interrupt again
    if (this.level) this.line(false);
    while (this.level && registers.interruptsEnabled && emulator.cpu.shadowNow === 0) {
      const vector = this.devices.acknowledgeInterrupt(0);
      if (vector < 0) break;
      port.spend('monitor.inject');
      emulator.deliver({ type: EventType.ExternalInterrupt, vector, error: -1, data: 0, length: 0 });
      if (registers.virtualShutDown) break;
    }
  }

  /** An interrupt ended the monitor's idle loop. */
  private wake(): void {
    this.parked = false;
    this.resume(false);
  }

  private fail(reason: string): void {
    if (this.failed) return;
    this.failed = true;
    this.vm.fail(reason);
    this.vm.ledger.leave(this.vm.core.cpu.chargedTotal);
  }

  /** Labels by what they depend on, made once. */
  private label(key: number, make: () => TrapLabel): TrapLabel {
    let label = this.labels.get(key);
    if (!label) this.labels.set(key, (label = make()));
    return label;
  }

  save(): unknown {
    return {
      pool: this.pool.save(), emulator: this.emulator.save(), registers: this.registers.save(), shadow: this.shadow.save(), gdt: this.gdt.save(), ldt: this.ldt.save(),
      level: this.level, nonMaskable: this.nonMaskable, parked: this.parked, stepping: this.stepping, failed: this.failed,
    };
  }
  load(saved: unknown): void {
    const s = saved as Record<'pool' | 'emulator' | 'registers' | 'shadow' | 'gdt' | 'ldt', unknown> & { level: boolean; nonMaskable: boolean; parked: boolean; stepping: boolean; failed: boolean };
    this.pool.load(s.pool);
    this.emulator.load(s.emulator);
    this.registers.load(s.registers);
    this.shadow.load(s.shadow);
    this.gdt.load(s.gdt);
    this.ldt.load(s.ldt);
    this.level = s.level;
    this.nonMaskable = s.nonMaskable;
    this.parked = s.parked;
    this.stepping = s.stepping;
    this.failed = s.failed;
  }
}

const MIB = 2 ** 20;

/** Ring deprivileging with shadow page tables. */
export const trapAndEmulate: MonitorKind = {
  name: 'trap-and-emulate',
  title: 'trap and emulate',
  description: 'the guest\'s kernel runs in ring 1 on shadow page tables; what is privileged traps and is emulated, what is sensitive and does not trap goes wrong',
  memory: (guestMemory) => (guestMemory > 2 ** 30 ? 12 : 4) * MIB,
  unable: (_profile, plan) => {
    if (plan.entry.mode === 'long64') return 'long mode ignores segment limits and knows only user and supervisor pages: neither protects the monitor from a kernel in ring 1';
    if (plan.entry.mode === 'real') return 'ring 1 exists only in protected mode, and this monitor does not run real mode as virtual-8086 mode';
    return null;
  },
  create: (vm) => new TrapAndEmulate(vm),
};
