import type { EventQueue, TimeSource } from './clock.ts';
import type { Device, MemoryDevice, Report } from './device.ts';

/** Power-on value of the address in IA32_APIC_BASE, and its flag bits. */
export const APIC_ADDRESS = 0xfee00000;
export const ApicBase = { Bsp: 0x100, Extended: 0x400, Enable: 0x800 } as const;

/** Delivery modes of local vector table entries, interrupt commands and I/O APIC entries (SDM "Local Vector Table", "Interrupt Command Register"). */
export const Delivery = { Fixed: 0, LowestPriority: 1, Smi: 2, Nmi: 4, Init: 5, StartUp: 6, ExtInt: 7 } as const;

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

/** An interrupt message: from an interrupt command register or an I/O APIC entry. */
export interface ApicMessage {
  readonly vector: number;
  readonly delivery: number;
  readonly level: boolean;
  readonly logical: boolean;
  readonly destination: number;
  /** 0 by destination, 1 self, 2 all including self, 3 all but self. */
  readonly shorthand: number;
}

/**
 * Local APIC in xAPIC mode (SDM "Advanced Programmable Interrupt Controller (APIC)"). The timer counts bus clocks:
 * CPU frequency divided by `busDivisor`, then by its divide configuration.
 */
export class LocalApic implements Device, MemoryDevice {
  readonly name: string;
  readonly cpu: number;
  private readonly time: TimeSource;
  private readonly queue: EventQueue;
  private readonly number: number;
  private readonly busDivisor: number;
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
  private isr = new Uint32Array(8);
  private tmr = new Uint32Array(8);
  private irr = new Uint32Array(8);
  private lint = [false, false];
  private divide = 0;
  private initialCount = 0;
  /** Timer: count at cycle `timerStart`; 0 = stopped. */
  private timerCount = 0;
  private timerStart = 0;

  constructor(cpu: number, time: TimeSource, queue: EventQueue, busDivisor: number, wiring: ApicWiring) {
    this.name = `apic${cpu}`;
    this.cpu = cpu;
    this.time = time;
    this.queue = queue;
    this.busDivisor = busDivisor;
    this.wiring = wiring;
    this.number = queue.register(this);
    this.powerUp();
  }

  /** Power-on: globally enabled, software-disabled, everything masked. */
  reset(): void {
    this.powerUp();
    this.queue.cancel(this.number, 0);
    this.wiring.changed(this.cpu);
  }

  /** INIT: as power-on, except that the ID and IA32_APIC_BASE stay (SDM "Local APIC State After an INIT Reset"). */
  init(): void {
    const { baseRegister, id } = this;
    this.powerUp();
    this.baseRegister = baseRegister;
    this.id = id;
    this.queue.cancel(this.number, 0);
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
      this.queue.cancel(this.number, 0);
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
    const inService = LocalApic.highest(this.isr);
    return inService >> 4 > this.taskPriority >> 4 ? inService & 0xf0 : this.taskPriority;
  }

  /** Vector that may be delivered now, or -1. */
  get deliverable(): number {
    const vector = LocalApic.highest(this.irr);
    return this.enabled && vector >= 0 && vector >> 4 > this.processorPriority >> 4 ? vector : -1;
  }

  /** Takes {@link deliverable} into service. */
  acknowledge(): number {
    const vector = this.deliverable;
    if (vector < 0) return -1;
    this.irr[vector >> 5]! &= ~(1 << (vector & 31));
    this.isr[vector >> 5]! |= 1 << (vector & 31);
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
    if (entry & PERIODIC) {
      this.timerStart += this.timerCount * this.cyclesPerCount;
      this.timerCount = this.initialCount;
    } else {
      this.timerCount = 0;
      this.timerStart = cycle;
    }
    this.schedule();
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
      isr: [...this.isr], tmr: [...this.tmr], irr: [...this.irr], lint: [...this.lint], divide: this.divide, initialCount: this.initialCount, timerCount: this.timerCount, timerStart: this.timerStart,
    };
  }

  load(saved: unknown): void {
    const s = saved as {
      baseRegister: number; id: number; taskPriority: number; logicalDestination: number; destinationFormat: number; spurious: number; command: number[]; entries: number[];
      errors: number; errorStatus: number; isr: number[]; tmr: number[]; irr: number[]; lint: boolean[]; divide: number; initialCount: number; timerCount: number; timerStart: number;
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
    this.isr = Uint32Array.from(s.isr);
    this.tmr = Uint32Array.from(s.tmr);
    this.irr = Uint32Array.from(s.irr);
    this.lint = [...s.lint];
    this.divide = s.divide;
    this.initialCount = s.initialCount;
    this.timerCount = s.timerCount;
    this.timerStart = s.timerStart;
  }

  private powerUp(): void {
    this.baseRegister = APIC_ADDRESS + ApicBase.Enable + (this.cpu === 0 ? ApicBase.Bsp : 0);
    this.id = this.cpu;
    this.taskPriority = this.logicalDestination = this.errors = this.errorStatus = this.divide = 0;
    this.destinationFormat = 0xffffffff;
    this.spurious = 0xff;
    this.command = [0, 0];
    this.entries = lvt.map(() => MASKED);
    this.isr.fill(0);
    this.tmr.fill(0);
    this.irr.fill(0);
    this.initialCount = this.timerCount = this.timerStart = 0;
  }

  private get softwareEnabled(): boolean { return (this.spurious & SOFTWARE_ENABLE) !== 0; }
  private get cyclesPerCount(): number {
    const code = (this.divide & 3) | ((this.divide >> 1) & 4);
    return this.busDivisor * (code === 7 ? 1 : 2 << code);
  }

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
      case Register.InitialCount: return this.initialCount;
      case Register.CurrentCount: return this.currentCount();
      case Register.Divide: return this.divide;
      case Register.EndOfInterrupt: case Register.ArbitrationPriority: case Register.RemoteRead: return 0;
      default:
    }
    if (register >= Register.InService && register < Register.InService + 0x180) {
      const word = (register >> 4) & 7;
      return (register < Register.TriggerMode ? this.isr : register < Register.Request ? this.tmr : this.irr)[word]!;
    }
    const entry = lvt.findIndex(e => e.offset === register);
    if (entry < 0) {
      this.fail(ErrorBit.IllegalRegister);
      return 0;
    }
    // a level-triggered pin shows its remote IRR
    if (entry === LINT0 || entry === LINT0 + 1) {
      const value = this.entries[entry]!;
      return value & 0x8000 && ((value >> 8) & 7) === Delivery.Fixed && LocalApic.test(this.tmr, value & 0xff) && (LocalApic.test(this.irr, value & 0xff) || LocalApic.test(this.isr, value & 0xff)) ? value | REMOTE_IRR : value;
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
        this.initialCount = this.timerCount = value;
        this.timerStart = this.time.now();
        this.schedule();
        return;
      case Register.Divide:
        this.timerCount = this.currentCount();
        this.timerStart = this.time.now();
        this.divide = value & 0xb;
        this.schedule();
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
    if (entry === TIMER) this.schedule();
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
    const vector = LocalApic.highest(this.isr);
    if (vector < 0) return;
    this.isr[vector >> 5]! &= ~(1 << (vector & 31));
    if (LocalApic.test(this.tmr, vector)) {
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
    if (!LocalApic.test(this.irr, vector) && !LocalApic.test(this.isr, vector)) this.request(vector, true);
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
    const bit = 1 << (vector & 31);
    this.irr[vector >> 5]! |= bit;
    if (level) this.tmr[vector >> 5]! |= bit;
    else this.tmr[vector >> 5]! &= ~bit;
    this.wiring.changed(this.cpu);
  }

  private fail(bit: number): void {
    const before = this.errors;
    this.errors |= bit;
    const entry = this.entries[ERROR]!;
    if (before !== this.errors && (entry & MASKED) === 0 && (entry & 0xff) >= 16) this.request(entry & 0xff, false);
  }

  private currentCount(): number {
    if (this.timerCount === 0) return 0;
    const gone = Math.floor((this.time.now() - this.timerStart) / this.cyclesPerCount);
    if (gone < this.timerCount) return this.timerCount - gone;
    // due but not delivered yet
    return this.entries[TIMER]! & PERIODIC && this.initialCount > 0 ? this.initialCount - ((gone - this.timerCount) % this.initialCount) : 0;
  }

  private schedule(): void {
    if (this.timerCount === 0) this.queue.cancel(this.number, 0);
    else this.queue.schedule(this.timerStart + this.timerCount * this.cyclesPerCount, this.number, 0);
  }

  private static test(words: Uint32Array, vector: number): boolean { return (words[vector >> 5]! & (1 << (vector & 31))) !== 0; }

  private static highest(words: Uint32Array): number {
    for (let i = 7; i >= 0; i--) if (words[i] !== 0) return i * 32 + 31 - Math.clz32(words[i]!);
    return -1;
  }
}

/** Delivers interrupt messages among the local APICs of one machine. */
export class ApicBus {
  private readonly apics: readonly LocalApic[];
  constructor(apics: readonly LocalApic[]) { this.apics = apics; }

  /** @param from sender's CPU, or -1 for the I/O APIC (no shorthand then). Returns whether anyone was addressed. */
  deliver(from: number, message: ApicMessage): boolean {
    let targets: LocalApic[];
    switch (message.shorthand) {
      case 1: targets = this.apics.filter(a => a.cpu === from); break;
      case 2: targets = [...this.apics]; break;
      case 3: targets = this.apics.filter(a => a.cpu !== from); break;
      default: targets = this.apics.filter(a => a.matches(message.destination, message.logical));
    }
    if (message.delivery === Delivery.LowestPriority && targets.length > 1) {
      // lowest processor priority wins, ties by CPU number
      targets = [targets.reduce((best, a) => (a.processorPriority < best.processorPriority ? a : best))];
    }
    for (const apic of targets) apic.accept(message);
    return targets.length > 0;
  }
}
