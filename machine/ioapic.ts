import { Delivery, type ApicMessage } from './apic-bus.ts';
import type { Device, MemoryDevice, Report } from './device.ts';

export const IOAPIC_ADDRESS = 0xfec00000;
export const IOAPIC_PINS = 24;
/** Bits of the low word of a redirection entry (82093AA data sheet, I/O redirection table registers). */
const Entry = { Logical: 0x800, Busy: 0x1000, ActiveLow: 0x2000, RemoteIrr: 0x4000, Level: 0x8000, Masked: 0x10000 } as const;
const WRITABLE = 0x1afff;

/** 82093AA I/O APIC: 24 inputs, index register at offset 0, data window at 0x10. */
export class IoApic implements Device, MemoryDevice {
  readonly name = 'ioapic';
  private readonly firmwareId: number;
  private readonly send: (message: ApicMessage) => boolean;
  private readonly report: Report;
  private index = 0;
  private id = 0;
  private low: number[] = [];
  private high: number[] = [];
  /** Electrical levels; bit set = high. */
  private levels = 0;

  /**
   * @param firmwareId ID that firmware programs, the one in the MP table
   * @param send delivers a message; returns whether anyone was addressed
   */
  constructor(firmwareId: number, send: (message: ApicMessage) => boolean, report: Report) {
    this.firmwareId = firmwareId;
    this.send = send;
    this.report = report;
    this.powerUp();
  }

  reset(): void { this.powerUp(); }
  event(kind: number): void { throw new Error(`ioapic: unexpected event ${kind}; it schedules none`); }

  /** Electrical level of an input: ISA interrupts are active high. */
  setLine(pin: number, level: boolean): void {
    const bit = 1 << pin;
    const was = this.active(pin);
    this.levels = level ? this.levels | bit : this.levels & ~bit;
    if (this.active(pin) && !was) this.service(pin, true);
  }

  /** A local APIC ended the level-triggered interrupt `vector`. */
  endOfInterrupt(vector: number): void {
    for (let pin = 0; pin < IOAPIC_PINS; pin++) {
      const low = this.low[pin]!;
      if ((low & 0xff) !== vector || !(low & Entry.Level) || !(low & Entry.RemoteIrr)) continue;
      this.low[pin] = low & ~Entry.RemoteIrr;
      this.service(pin, false);
    }
  }

  readMemory(offset: number, size: number): number {
    const value = (offset & ~3) === 0 ? this.index : (offset & ~3) === 0x10 ? this.readRegister() : 0;
    const shifted = value >>> (8 * (offset & 3));
    return size === 4 ? shifted : shifted & (size === 2 ? 0xffff : 0xff);
  }

  writeMemory(offset: number, size: number, value: number): void {
    if (offset === 0) this.index = value & 0xff;
    else if (offset === 0x10 && size === 4) this.writeRegister(value >>> 0);
    else this.report(`I/O APIC: ${size}-byte write at offset 0x${offset.toString(16)}: no such register, ignored`);
  }

  save(): unknown { return { index: this.index, id: this.id, low: [...this.low], high: [...this.high], levels: this.levels }; }
  load(saved: unknown): void {
    const s = saved as { index: number; id: number; low: number[]; high: number[]; levels: number };
    this.index = s.index;
    this.id = s.id;
    this.low = [...s.low];
    this.high = [...s.high];
    this.levels = s.levels;
  }

  private powerUp(): void {
    this.index = 0;
    this.id = this.firmwareId;
    this.low = new Array<number>(IOAPIC_PINS).fill(Entry.Masked);
    this.high = new Array<number>(IOAPIC_PINS).fill(0);
    this.levels = 0xff0000; // PCI inputs are pulled up: inactive for their active-low interrupts
  }

  private active(pin: number): boolean { return ((this.levels & (1 << pin)) !== 0) !== ((this.low[pin]! & Entry.ActiveLow) !== 0); }

  private readRegister(): number {
    switch (this.index) {
      case 0: case 2: return (this.id << 24) >>> 0; // ID, arbitration ID
      case 1: return ((IOAPIC_PINS - 1) << 16) | 0x11; // version
      default: {
        const pin = (this.index - 0x10) >> 1;
        if (this.index < 0x10 || pin >= IOAPIC_PINS) return 0;
        return this.index & 1 ? this.high[pin]! : this.low[pin]!;
      }
    }
  }

  private writeRegister(value: number): void {
    if (this.index === 0) this.id = (value >>> 24) & 15;
    if (this.index < 0x10) return;
    const pin = (this.index - 0x10) >> 1;
    if (pin >= IOAPIC_PINS) return;
    if (this.index & 1) {
      this.high[pin] = (value & 0xff000000) >>> 0;
      return;
    }
    // remote IRR is read-only, and means nothing for edge-triggered entries
    this.low[pin] = (value & WRITABLE) | (value & Entry.Level ? this.low[pin]! & Entry.RemoteIrr : 0);
    this.service(pin, false);
  }

  /** Sends what a pin requests. Edges on a masked pin are lost; levels are seen when the pin is unmasked. */
  private service(pin: number, edge: boolean): void {
    const low = this.low[pin]!;
    const level = (low & Entry.Level) !== 0;
    if (low & Entry.Masked || !this.active(pin) || (level ? (low & Entry.RemoteIrr) !== 0 : !edge)) return;
    const delivery = (low >> 8) & 7;
    if (delivery === Delivery.ExtInt || delivery === Delivery.Smi) {
      this.report(`I/O APIC input ${pin} with delivery mode ${delivery}: not modelled, the interrupt is dropped`);
      return;
    }
    const fixed = delivery === Delivery.Fixed || delivery === Delivery.LowestPriority;
    const sent = this.send({ vector: low & 0xff, delivery, level: level && fixed, logical: (low & Entry.Logical) !== 0, destination: this.high[pin]! >>> 24, shorthand: 0 });
    if (sent && level && fixed) this.low[pin] = low | Entry.RemoteIrr;
  }
}
