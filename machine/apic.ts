import { Delivery, type ApicMessage, type MessageTarget } from './apic-bus.ts';
import { ApicTimer } from './apic-timer.ts';
import type { EventQueue, TimeSource } from './clock.ts';
import type { Device, MemoryDevice, Report } from './device.ts';
import { VectorSet } from './vector-set.ts';

/** Power-on value of the address in IA32_APIC_BASE, and its flag bits. */
export const APIC_ADDRESS = 0xfee00000;
export const ApicBase = { Bsp: 0x100, Extended: 0x400, Enable: 0x800 } as const;

/** Register offsets (SDM "Local APIC Register Address Map"). */
const Register = {
  Id: 0x20, Version: 0x30, TaskPriority: 0x80, ArbitrationPriority: 0x90, ProcessorPriority: 0xa0, EndOfInterrupt: 0xb0, RemoteRead: 0xc0, LogicalDestination: 0xd0,
  DestinationFormat: 0xe0, Spurious: 0xf0, InService: 0x100, TriggerMode: 0x180, Request: 0x200, ErrorStatus: 0x280, CommandLow: 0x300, CommandHigh: 0x310,
  Timer: 0x320, Thermal: 0x330, Performance: 0x340, Lint0: 0x350, Lint1: 0x360, Error: 0x370, InitialCount: 0x380, CurrentCount: 0x390, Divide: 0x3e0,
} as const;

/** Version 14H, six local vector table entries. */
const VERSION = 0x00050014;
const MASKED = 0x10000;
const PERIODIC = 0x20000;
const SOFTWARE_ENABLE = 0x100;
const REMOTE_IRR = 0x4000;

/** Error status bits (SDM "Error Handling", local APIC). */
const ErrorBit = { SendIllegalVector: 0x20, ReceiveIllegalVector: 0x40, IllegalRegister: 0x80 } as const;

/** Writable bits of each local vector table entry. */
const lvt = [
  { offset: Register.Timer, writable: 0x300ff },
  { offset: Register.Thermal, writable: 0x107ff },
  { offset: Register.Performance, writable: 0x107ff },
  { offset: Register.Lint0, writable: 0x1a7ff },
  { offset: Register.Lint1, writable: 0x1a7ff },
  { offset: Register.Error, writable: 0x100ff },
] as const;
const TIMER = 0;
const LINT0 = 3;
const ERROR = 5;

/** What a local APIC needs from the machine around it. */
export interface ApicWiring {
  readonly report: Report;
  /** Its interrupt request may have changed. */
  changed(cpu: number): void;
  /** NMI, INIT or start-up for this CPU; `vector` is the page of a start-up. */
  signal(cpu: number, kind: 'nmi' | 'init' | 'startUp', vector: number): void;
  /** An interrupt command was written: deliver it. */
  send(from: number, message: ApicMessage): void;
  /** End of a level-triggered interrupt, for the I/O APIC. */
  endOfInterrupt(vector: number): void;
}

/**
 * Local APIC in xAPIC mode (SDM "Advanced Programmable Interrupt Controller (APIC)"). The timer counts bus clocks:
 * CPU frequency divided by `busDivisor`, then by its divide configuration.
 */
export class LocalApic implements Device, MemoryDevice, MessageTarget {
  readonly name: string;
  readonly cpu: number;
  private readonly wiring: ApicWiring;

  private baseRegister = 0;
  private id = 0;
  private taskPriority = 0;
  private logicalDestination = 0;
  private destinationFormat = 0xffffffff;
  private spurious = 0xff;
  private command = [0, 0];
  private entries: number[] = [];
  /** Errors seen, and those latched by the last write to the error status register. */
  private errors = 0;
  private errorStatus = 0;
  private readonly isr = new VectorSet();
  private readonly tmr = new VectorSet();
  private readonly irr = new VectorSet();
  private lint = [false, false];
  private readonly timer: ApicTimer;

  constructor(cpu: number, time: TimeSource, queue: EventQueue, busDivisor: number, wiring: ApicWiring) {
    this.name = `apic${cpu}`;
    this.cpu = cpu;
    this.wiring = wiring;
    this.timer = new ApicTimer(time, queue, queue.register(this), busDivisor);
    this.powerUp();
  }

  /** Power-on: globally enabled, software-disabled, everything masked. */
  reset(): void {
    this.powerUp();
    this.wiring.changed(this.cpu);
  }

  /** INIT: as power-on, except that the ID and IA32_APIC_BASE stay (SDM "Local APIC State After an INIT Reset"). */
  init(): void {
    const { baseRegister, id } = this;
    this.powerUp();
    this.baseRegister = baseRegister;
    this.id = id;
    this.wiring.changed(this.cpu);
  }

  /** What firmware sets up for virtual wire mode (MultiProcessor Specification "Virtual Wire Mode"): PIC through LINT0, NMI through LINT1. */
  virtualWire(): void {
    this.spurious = SOFTWARE_ENABLE | 0xff;
    this.entries[LINT0] = Delivery.ExtInt << 8;
    this.entries[LINT0 + 1] = Delivery.Nmi << 8;
    this.wiring.changed(this.cpu);
  }

  /** IA32_APIC_BASE. */
  get base(): number { return this.baseRegister; }
  /** Enabled again after having been disabled, it starts from its reset state (SDM "Enabling or Disabling the Local APIC"). */
  set base(value: number) {
    const was = this.enabled;
    const bsp = this.baseRegister & ApicBase.Bsp;
    if (value % 4096 & ApicBase.Extended) this.wiring.report('x2APIC mode requested through IA32_APIC_BASE: not offered, the bit is ignored');
    this.baseRegister = Math.floor(value / 4096) * 4096 + (value % 4096 & ApicBase.Enable) + bsp;
    if (was && !this.enabled) {
      const kept = this.baseRegister;
      this.powerUp();
      this.baseRegister = kept;
    }
    this.wiring.changed(this.cpu);
  }
  get enabled(): boolean { return (this.baseRegister % 4096 & ApicBase.Enable) !== 0; }
  /** Physical address of the register page. */
  get page(): number { return Math.floor(this.baseRegister / 4096) * 4096; }
  get apicId(): number { return this.id; }

  /** CR8: bits 7:4 of the task priority. */
  get cr8(): number { return this.taskPriority >> 4; }
  set cr8(value: number) {
    this.taskPriority = (value & 15) << 4;
    this.wiring.changed(this.cpu);
  }

  /** Task priority class, or that of the highest interrupt in service if higher (SDM "Task and Processor Priorities"). */
  get processorPriority(): number {
    const inService = this.isr.highest;
    return inService >> 4 > this.taskPriority >> 4 ? inService & 0xf0 : this.taskPriority;
  }

  /** Vector that may be delivered now, or -1. */
  get deliverable(): number {
    const vector = this.irr.highest;
    return this.enabled && vector >= 0 && vector >> 4 > this.processorPriority >> 4 ? vector : -1;
  }

  /** Takes {@link deliverable} into service. */
  acknowledge(): number {
    const vector = this.deliverable;
    if (vector < 0) return -1;
    this.irr.delete(vector);
    this.isr.add(vector);
    this.wiring.changed(this.cpu);
    return vector;
  }

  /** The PIC's output reaches the CPU: the APIC is off (then its pins are the CPU's own), or LINT0 is unmasked for ExtINT. */
  get passesExtInt(): boolean {
    if (!this.enabled) return true;
    const entry = this.entries[LINT0]!;
    return (entry & MASKED) === 0 && ((entry >> 8) & 7) === Delivery.ExtInt;
  }

  /** Level of pin LINT0 or LINT1. */
  setLint(pin: 0 | 1, level: boolean): void {
    const rising = level && !this.lint[pin];
    this.lint[pin] = level;
    const entry = this.entries[LINT0 + pin]!;
    const delivery = (entry >> 8) & 7;
    if (!this.enabled) {
      if (pin === 1 && rising) this.wiring.signal(this.cpu, 'nmi', 2);
      this.wiring.changed(this.cpu);
      return;
    }
    if ((entry & MASKED) === 0 && delivery !== Delivery.ExtInt) {
      if (delivery === Delivery.Fixed && entry & 0x8000) this.serviceLevelPin(pin);
      else if (rising) this.local(entry);
    }
    this.wiring.changed(this.cpu);
  }

  /** Accepts an interrupt message addressed to this APIC. */
  accept(message: ApicMessage): void {
    switch (message.delivery) {
      case Delivery.Fixed:
      case Delivery.LowestPriority: this.request(message.vector, message.level); break;
      case Delivery.Nmi: this.wiring.signal(this.cpu, 'nmi', 2); break;
      case Delivery.Init: this.wiring.signal(this.cpu, 'init', 0); break;
      case Delivery.StartUp: this.wiring.signal(this.cpu, 'startUp', message.vector); break;
      default: this.wiring.report(`interrupt message with delivery mode ${message.delivery}: not modelled, dropped`);
    }
  }

  /** Whether a message with this destination is for this APIC (SDM "Determining IPI Destination"). */
  matches(destination: number, logical: boolean): boolean {
    if (!this.enabled) return false;
    if (!logical) return destination === 0xff || destination === this.id;
    const own = this.logicalDestination >>> 24;
    if (this.destinationFormat >>> 28 === 0xf) return (destination & own) !== 0; // flat
    return (destination >> 4 === own >> 4 || destination === 0xff) && (destination & own & 15) !== 0; // cluster
  }

  /** The timer runs out. */
  event(_kind: number, cycle: number): void {
    const entry = this.entries[TIMER]!;
    this.timer.expired(cycle, (entry & PERIODIC) !== 0);
    if ((entry & MASKED) === 0) this.request(entry & 0xff, false);
  }

  readMemory(offset: number, size: number): number {
    // registers are 32 bits on 16-byte boundaries; smaller reads see part of one
    const value = (offset & 15) < 4 ? this.read(offset & ~15) : 0;
    const shifted = value >>> (8 * (offset & 3));
    return size === 4 ? shifted : shifted & (size === 2 ? 0xffff : 0xff);
  }

  writeMemory(offset: number, size: number, value: number): void {
    if (size !== 4 || offset & 15) {
      this.wiring.report(`local APIC: ${size}-byte write at offset 0x${offset.toString(16)}; only aligned 32-bit writes are defined, this one is ignored`);
      return;
    }
    this.write(offset, value >>> 0);
  }

  save(): unknown {
    return {
      baseRegister: this.baseRegister, id: this.id, taskPriority: this.taskPriority, logicalDestination: this.logicalDestination, destinationFormat: this.destinationFormat,
      spurious: this.spurious, command: [...this.command], entries: [...this.entries], errors: this.errors, errorStatus: this.errorStatus,
      isr: [...this.isr.words], tmr: [...this.tmr.words], irr: [...this.irr.words], lint: [...this.lint], timer: this.timer.save(),
    };
  }

  load(saved: unknown): void {
    const s = saved as {
      baseRegister: number; id: number; taskPriority: number; logicalDestination: number; destinationFormat: number; spurious: number; command: number[]; entries: number[];
      errors: number; errorStatus: number; isr: number[]; tmr: number[]; irr: number[]; lint: boolean[]; timer: unknown;
    };
    this.baseRegister = s.baseRegister;
    this.id = s.id;
    this.taskPriority = s.taskPriority;
    this.logicalDestination = s.logicalDestination;
    this.destinationFormat = s.destinationFormat;
    this.spurious = s.spurious;
    this.command = [...s.command];
    this.entries = [...s.entries];
    this.errors = s.errors;
    this.errorStatus = s.errorStatus;
    this.isr.words.set(s.isr);
    this.tmr.words.set(s.tmr);
    this.irr.words.set(s.irr);
    this.lint = [...s.lint];
    this.timer.load(s.timer);
  }

  private powerUp(): void {
    this.baseRegister = APIC_ADDRESS + ApicBase.Enable + (this.cpu === 0 ? ApicBase.Bsp : 0);
    this.id = this.cpu;
    this.taskPriority = this.logicalDestination = this.errors = this.errorStatus = 0;
    this.destinationFormat = 0xffffffff;
    this.spurious = 0xff;
    this.command = [0, 0];
    this.entries = lvt.map(() => MASKED);
    this.isr.words.fill(0);
    this.tmr.words.fill(0);
    this.irr.words.fill(0);
    this.timer.reset();
  }

  private get softwareEnabled(): boolean { return (this.spurious & SOFTWARE_ENABLE) !== 0; }

  private read(register: number): number {
    switch (register) {
      case Register.Id: return (this.id << 24) >>> 0;
      case Register.Version: return VERSION;
      case Register.TaskPriority: return this.taskPriority;
      case Register.ProcessorPriority: return this.processorPriority;
      case Register.LogicalDestination: return this.logicalDestination;
      case Register.DestinationFormat: return this.destinationFormat;
      case Register.Spurious: return this.spurious;
      case Register.ErrorStatus: return this.errorStatus;
      case Register.CommandLow: return this.command[0]!;
      case Register.CommandHigh: return this.command[1]!;
      case Register.InitialCount: return this.timer.initialCount;
      case Register.CurrentCount: return this.timer.count((this.entries[TIMER]! & PERIODIC) !== 0);
      case Register.Divide: return this.timer.divide;
      case Register.EndOfInterrupt: case Register.ArbitrationPriority: case Register.RemoteRead: return 0;
      default:
    }
    if (register >= Register.InService && register < Register.InService + 0x180) {
      const word = (register >> 4) & 7;
      return (register < Register.TriggerMode ? this.isr : register < Register.Request ? this.tmr : this.irr).words[word]!;
    }
    const entry = lvt.findIndex(e => e.offset === register);
    if (entry < 0) {
      this.fail(ErrorBit.IllegalRegister);
      return 0;
    }
    // a level-triggered pin shows its remote IRR
    if (entry === LINT0 || entry === LINT0 + 1) {
      const value = this.entries[entry]!;
      return value & 0x8000 && ((value >> 8) & 7) === Delivery.Fixed && this.tmr.has(value & 0xff) && (this.irr.has(value & 0xff) || this.isr.has(value & 0xff)) ? value | REMOTE_IRR : value;
    }
    return this.entries[entry]!;
  }

  private write(register: number, value: number): void {
    switch (register) {
      case Register.Id: this.id = value >>> 24; return;
      case Register.TaskPriority:
        this.taskPriority = value & 0xff;
        this.wiring.changed(this.cpu);
        return;
      case Register.EndOfInterrupt: this.endOfInterrupt(); return;
      case Register.LogicalDestination: this.logicalDestination = (value & 0xff000000) >>> 0; return;
      case Register.DestinationFormat: this.destinationFormat = (value | 0x0fffffff) >>> 0; return;
      case Register.Spurious: this.writeSpurious(value); return;
      case Register.ErrorStatus: // a write latches what has accumulated
        this.errorStatus = this.errors;
        this.errors = 0;
        return;
      case Register.CommandLow: this.writeCommand(value); return;
      case Register.CommandHigh: this.command[1] = (value & 0xff000000) >>> 0; return;
      case Register.InitialCount:
        this.timer.start(value);
        return;
      case Register.Divide:
        this.timer.setDivide(value & 0xb, (this.entries[TIMER]! & PERIODIC) !== 0);
        return;
      case Register.Version: case Register.ProcessorPriority: case Register.ArbitrationPriority: case Register.RemoteRead: case Register.CurrentCount: return; // read-only
      default:
    }
    if (register >= Register.InService && register < Register.InService + 0x180) return;
    const entry = lvt.findIndex(e => e.offset === register);
    if (entry < 0) {
      this.fail(ErrorBit.IllegalRegister);
      return;
    }
    this.entries[entry] = (value & lvt[entry]!.writable) | (this.softwareEnabled ? 0 : MASKED);
    if (entry === LINT0 || entry === LINT0 + 1) this.serviceLevelPin(entry === LINT0 ? 0 : 1);
    this.wiring.changed(this.cpu);
  }

  private writeSpurious(value: number): void {
    this.spurious = value & 0x3ff;
    // while software-disabled all local entries are masked and stay so until written again
    if (!this.softwareEnabled) this.entries = this.entries.map(e => e | MASKED);
    this.wiring.changed(this.cpu);
  }

  private writeCommand(value: number): void {
    this.command[0] = value & 0xccfff; // delivery status reads as idle: sending takes no time
    const delivery = (value >> 8) & 7;
    const level = (value & 0x8000) !== 0;
    const shorthand = (value >> 18) & 3;
    const vector = value & 0xff;
    if (delivery === Delivery.Init && level && (value & 0x4000) === 0) return; // INIT level de-assert: only ever set arbitration IDs
    if ((delivery === Delivery.Fixed || delivery === Delivery.LowestPriority) && vector < 16) {
      this.fail(ErrorBit.SendIllegalVector);
      return;
    }
    // interrupts sent by command are edge-triggered whatever the trigger mode bit says
    this.wiring.send(this.cpu, { vector, delivery, level: false, logical: (value & 0x800) !== 0, destination: this.command[1]! >>> 24, shorthand });
  }

  private endOfInterrupt(): void {
    const vector = this.isr.highest;
    if (vector < 0) return;
    this.isr.delete(vector);
    if (this.tmr.has(vector)) {
      this.wiring.endOfInterrupt(vector);
      this.serviceLevelPin(0);
      this.serviceLevelPin(1);
    }
    this.wiring.changed(this.cpu);
  }

  /** A level-triggered fixed interrupt on a pin requests as long as the pin is up and it is neither pending nor in service. */
  private serviceLevelPin(pin: 0 | 1): void {
    const entry = this.entries[LINT0 + pin]!;
    if (!this.lint[pin] || entry & MASKED || !(entry & 0x8000) || ((entry >> 8) & 7) !== Delivery.Fixed) return;
    const vector = entry & 0xff;
    if (!this.irr.has(vector) && !this.isr.has(vector)) this.request(vector, true);
  }

  private local(entry: number): void {
    const delivery = (entry >> 8) & 7;
    if (delivery === Delivery.Fixed) this.request(entry & 0xff, false);
    else if (delivery === Delivery.Nmi) this.wiring.signal(this.cpu, 'nmi', 2);
    else if (delivery === Delivery.Init) this.wiring.signal(this.cpu, 'init', 0);
    else this.wiring.report(`local APIC pin with delivery mode ${delivery}: not modelled, dropped`);
  }

  private request(vector: number, level: boolean): void {
    if (vector < 16) {
      this.fail(ErrorBit.ReceiveIllegalVector);
      return;
    }
    if (!this.enabled || !this.softwareEnabled) return;
    this.irr.add(vector);
    if (level) this.tmr.add(vector);
    else this.tmr.delete(vector);
    this.wiring.changed(this.cpu);
  }

  private fail(bit: number): void {
    const before = this.errors;
    this.errors |= bit;
    const entry = this.entries[ERROR]!;
    if (before !== this.errors && (entry & MASKED) === 0 && (entry & 0xff) >= 16) this.request(entry & 0xff, false);
  }
}
