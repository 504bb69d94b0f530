import { ApicBus, type ApicMessage } from './apic-bus.ts';
import { APIC_ADDRESS, LocalApic } from './apic.ts';
import { EventQueue, type TimeSource } from './clock.ts';
import { Cmos } from './cmos.ts';
import type { Device } from './device.ts';
import { IOAPIC_ADDRESS, IoApic } from './ioapic.ts';
import { MemoryMap } from './memory-map.ts';
import { writeFirmwareTables, type MemoryWriter } from './mp-table.ts';
import { PicPair } from './pic.ts';
import { Pit } from './pit.ts';
import { PortMap } from './port-map.ts';
import { SerialInput } from './serial-input.ts';
import { Port, SystemPorts, type StopRequest } from './system-ports.ts';
import { Uart } from './uart.ts';

const COM1 = 0x3f8;
const IrqLine = { Timer: 0, Com1: 4, Clock: 8 } as const;

export interface PlatformOptions {
  readonly time: TimeSource;
  /** CPUs, each with a local APIC whose ID is its number. Default 1. */
  readonly cpus?: number;
  /** Bytes of RAM as the CMOS reports them. */
  readonly memorySize: number;
  /** CPU cycles per bus clock (MachineProfile.busDivisor). */
  readonly busDivisor: number;
  /** A byte was transmitted on the serial port. */
  console(byte: number): void;
  /** The guest asked to stop. May be called in the middle of an instruction. */
  stop(request: StopRequest): void;
  /** The interrupt request to a CPU changed. */
  setInterruptLine(cpu: number, level: boolean): void;
  /** NMI, INIT or start-up for a CPU; for a start-up `vector` is the page to start at. Whoever carries out an INIT also calls `apics[cpu].init()`. */
  signal(cpu: number, kind: 'nmi' | 'init' | 'startUp', vector: number): void;
  /** Something is not modelled. */
  report(what: string): void;
}

/**
 * All devices of one PC and the wires between them. Used twice: as the physical machine's own, and, with another
 * time source and other callbacks, as a virtual machine's.
 */
export class Platform {
  readonly queue: EventQueue;
  readonly ports: PortMap;
  readonly mmio: MemoryMap;
  readonly pic: PicPair;
  readonly ioApic: IoApic;
  readonly pit: Pit;
  readonly cmos: Cmos;
  readonly uart: Uart;
  readonly input: SerialInput;
  readonly system: SystemPorts;
  readonly apics: readonly LocalApic[];
  private readonly options: PlatformOptions;
  private readonly devices: readonly Device[];
  private readonly lines: boolean[];
  private quiet = false;

  constructor(options: PlatformOptions) {
    this.options = options;
    const { time, memorySize } = options;
    const cpus = options.cpus ?? 1;
    const report = (what: string): void => options.report(what);
    this.lines = new Array<boolean>(cpus).fill(false);
    this.queue = new EventQueue(time);
    this.ports = new PortMap(report);
    this.mmio = new MemoryMap(report);

    const apics: LocalApic[] = [];
    this.apics = apics;
    const apicBus = new ApicBus(apics);
    // the I/O APIC shares the ID space with the local ones
    this.ioApic = new IoApic(cpus, (message: ApicMessage) => apicBus.deliver(-1, message), report);
    // the constructors of the devices do not move their lines, so the order matters for ties in time only
    this.pic = new PicPair(level => apics[0]!.setLint(0, level));
    this.pit = new Pit(time, this.queue, level => this.setIrq(IrqLine.Timer, level));
    this.cmos = new Cmos(time, this.queue, level => this.setIrq(IrqLine.Clock, level), memorySize, report);
    this.uart = new Uart('com1', time, this.queue, level => this.setIrq(IrqLine.Com1, level), byte => options.console(byte));
    this.input = new SerialInput(time, this.queue, this.uart);
    this.system = new SystemPorts(request => options.stop(request), report);
    for (let cpu = 0; cpu < cpus; cpu++) {
      apics.push(new LocalApic(cpu, time, this.queue, options.busDivisor, {
        report,
        changed: target => this.update(target),
        signal: (target, kind, vector) => options.signal(target, kind, vector),
        send: (from, message) => void apicBus.deliver(from, message),
        endOfInterrupt: vector => this.ioApic.endOfInterrupt(vector),
      }));
    }
    this.devices = [this.pic, this.ioApic, this.pit, this.cmos, this.uart, this.input, this.system, ...apics];

    this.ports.claim(0x20, 2, this.pic.master);
    this.ports.claim(0xa0, 2, this.pic.slave);
    this.ports.claim(0x4d0, 2, this.pic.edgeLevel);
    this.ports.claim(0x40, 4, this.pit);
    this.ports.claim(0x61, 1, this.pit.systemPort);
    this.ports.claim(0x70, 2, this.cmos);
    this.ports.claim(COM1, 8, this.uart);
    for (const port of [Port.Post, Port.System, Port.Keyboard, Port.KeyboardStatus, Port.CrtcIndex, Port.CrtcData, Port.Shutdown]) this.ports.claim(port, 1, this.system);
    this.ports.claim(Port.AcpiControl, 1, this.system, 4);
    this.ports.claim(Port.DebugExit, 1, this.system, 4);
    this.mmio.claim(IOAPIC_ADDRESS, 0x1000, this.ioApic);
    this.reset();
  }

  /** Power-on, followed by what firmware sets up: virtual wire mode on the bootstrap processor. */
  reset(): void {
    this.quiet = true;
    this.queue.clear();
    for (const device of this.devices) device.reset();
    this.apics[0]!.virtualWire();
    this.quiet = false;
    this.announce();
  }

  /** Writes the MP table and the BIOS data words that lead to it. `signature` and `features` are CPUID.1:EAX and EDX. */
  writeTables(write: MemoryWriter, signature: number, features: number): void {
    writeFirmwareTables(write, { cpus: this.apics.length, ioApicId: this.apics.length, signature, features });
  }

  /** Level of an ISA interrupt request, which reaches both kinds of controller; IRQ 0 is input 2 of the I/O APIC. */
  setIrq(irq: number, level: boolean): void {
    this.pic.setLine(irq, level);
    this.ioApic.setLine(irq === 0 ? 2 : irq, level);
  }

  /** The CPU takes the interrupt it was promised: its vector, or -1 if there is none any more. */
  acknowledge(cpu: number): number {
    const apic = this.apics[cpu]!;
    const vector = apic.acknowledge();
    if (vector >= 0) return vector;
    return this.externalInterrupt(cpu) ? this.pic.acknowledge() : -1;
  }

  /** Vector that {@link acknowledge} would give from the local APIC, -1 if none. Nothing changes. */
  peek(cpu: number): number { return this.apics[cpu]!.deliverable; }

  /** Physical address outside RAM, read or written by a CPU: its own local APIC first. */
  readMemory(cpu: number, physical: number, size: number): number {
    const apic = this.apics[cpu]!;
    const offset = physical - apic.page;
    if (offset >= 0 && offset < 0x1000 && apic.enabled) return apic.readMemory(offset, size) >>> 0;
    return this.mmio.read(physical, size);
  }

  writeMemory(cpu: number, physical: number, size: number, value: number): void {
    const apic = this.apics[cpu]!;
    const offset = physical - apic.page;
    if (offset >= 0 && offset < 0x1000 && apic.enabled) apic.writeMemory(offset, size, value);
    else this.mmio.write(physical, size, value);
  }

  /** IA32_APIC_BASE of a CPU. */
  writeApicBase(cpu: number, value: number): void {
    const apic = this.apics[cpu]!;
    apic.base = value;
    if (apic.enabled && apic.page < this.options.memorySize) this.options.report(`local APIC moved to 0x${apic.page.toString(16)}, over RAM: not modelled, accesses there still reach RAM`);
  }

  save(): unknown {
    const devices: Record<string, unknown> = {};
    for (const device of this.devices) devices[device.name] = device.save();
    return { devices, queue: this.queue.save(), ports: this.ports.save(), mmio: this.mmio.save() };
  }

  /** @throws Error when the saved state is of a machine with other devices */
  load(saved: unknown): void {
    const s = saved as { devices: Record<string, unknown>; queue: unknown; ports: unknown; mmio: unknown };
    this.quiet = true;
    for (const device of this.devices) {
      const state = s.devices[device.name];
      if (state === undefined) throw new Error(`Platform.load: no saved state for device '${device.name}'; load into a machine of the same configuration`);
      device.load(state);
    }
    this.queue.load(s.queue);
    this.ports.load(s.ports);
    this.mmio.load(s.mmio);
    this.quiet = false;
    this.announce();
  }

  /** Interrupt request to a CPU now. */
  interruptLine(cpu: number): boolean { return this.apics[cpu]!.deliverable >= 0 || this.externalInterrupt(cpu); }

  private externalInterrupt(cpu: number): boolean { return cpu === 0 && this.pic.int && this.apics[0]!.passesExtInt; }

  private update(cpu: number): void {
    if (this.quiet) return;
    const level = this.interruptLine(cpu);
    if (level === this.lines[cpu]) return;
    this.lines[cpu] = level;
    this.options.setInterruptLine(cpu, level);
  }

  private announce(): void {
    for (let cpu = 0; cpu < this.lines.length; cpu++) {
      this.lines[cpu] = this.interruptLine(cpu);
      this.options.setInterruptLine(cpu, this.lines[cpu]!);
    }
  }
}

/** Physical ranges that belong to devices, for memory maps: [start, length]. */
export const deviceRanges: readonly (readonly [number, number])[] = [[IOAPIC_ADDRESS, 0x1000], [APIC_ADDRESS, 0x1000]];
