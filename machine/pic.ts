import type { Device, InterruptLine, PortDevice } from './device.ts';

/** State of one 8259A; plain data. */
interface PicState {
  irr: number; isr: number; imr: number; lines: number;
  vectorBase: number; lowestPriority: number;
  /** 0: not initialized; 1: ready; 2..4: that ICW is expected next. */
  expect: number;
  icw1: number; icw4: number;
  readIsr: boolean; poll: boolean; specialMask: boolean; rotateOnAutoEoi: boolean;
  /** Edge/level control register of the chip set: bit set = level-triggered. */
  levelMask: number;
}

const fresh = (): PicState => ({
  irr: 0, isr: 0, imr: 0, lines: 0, vectorBase: 0, lowestPriority: 7, expect: 0, icw1: 0, icw4: 0,
  readIsr: false, poll: false, specialMask: false, rotateOnAutoEoi: false, levelMask: 0,
});

const LEVEL_MODE = 0x08; // ICW1 LTIM
const SINGLE = 0x02; // ICW1 SNGL
const NEEDS_ICW4 = 0x01; // ICW1 IC4
const AUTO_EOI = 0x02; // ICW4 AEOI
const FULLY_NESTED = 0x10; // ICW4 SFNM

/** One 8259A interrupt controller (8259A data sheet). `int` tells whether it requests an interrupt. */
export class Pic8259 implements PortDevice {
  private s = fresh();
  private readonly changed: () => void;
  /** Inputs that have a slave behind them (for special fully nested mode). */
  private readonly slaveInputs: number;

  constructor(slaveInputs: number, changed: () => void) {
    this.slaveInputs = slaveInputs;
    this.changed = changed;
  }

  reset(): void { this.s = fresh(); }

  /** Level of an input. */
  setLine(input: number, level: boolean): void {
    const s = this.s;
    const bit = 1 << input;
    if (level === ((s.lines & bit) !== 0)) return;
    if (level) {
      s.lines |= bit;
      s.irr |= bit;
    } else {
      s.lines &= ~bit;
      // a request must hold until it is acknowledged, edge-triggered ones too (data sheet, "Interrupt Sequence")
      s.irr &= ~bit;
    }
    this.changed();
  }

  /** INT output. A controller that was never initialized requests nothing. */
  get int(): boolean { return this.s.expect === 1 && this.request() >= 0; }

  /** First INTA cycle: the input served, or -1 when the request went away (spurious: input 7, in-service bit not set). */
  acknowledge(): number {
    const input = this.request();
    if (input < 0) return -1;
    this.serve(input);
    this.changed();
    return input;
  }

  /** Vector of an input; of input 7 for a spurious acknowledgement. */
  vector(input: number): number { return this.s.vectorBase | (input < 0 ? 7 : input); }

  readPort(port: number): number {
    const s = this.s;
    if (s.poll) {
      // poll: acts as an acknowledgement and names the input
      s.poll = false;
      const input = this.request();
      if (input < 0) return 0;
      this.serve(input);
      this.changed();
      return 0x80 | input;
    }
    if (port & 1) return s.imr;
    return s.readIsr ? s.isr : s.irr;
  }

  writePort(port: number, _size: number, value: number): void {
    const s = this.s;
    if (port & 1) this.writeData(value);
    else if (value & 0x10) {
      // ICW1: starts the initialization sequence
      s.icw1 = value;
      s.icw4 = 0;
      s.isr = s.imr = 0;
      s.irr = this.levelInputs & s.lines; // the edge sense is reset: a line must rise anew
      s.lowestPriority = 7;
      s.readIsr = s.poll = s.specialMask = s.rotateOnAutoEoi = false;
      s.expect = 2;
    } else if (value & 0x08) {
      // OCW3
      if (value & 0x04) s.poll = true;
      else if (value & 0x02) s.readIsr = (value & 1) !== 0;
      if (value & 0x40) s.specialMask = (value & 0x20) !== 0;
    } else this.writeOcw2(value);
    this.changed();
  }

  /** Edge/level register of the chip set. */
  get levelMask(): number { return this.s.levelMask; }
  set levelMask(value: number) {
    this.s.levelMask = value;
    this.s.irr |= value & this.s.lines;
    this.changed();
  }

  save(): unknown { return { ...this.s }; }
  load(saved: unknown): void { this.s = { ...(saved as PicState) }; }

  private get levelInputs(): number { return this.s.icw1 & LEVEL_MODE ? 0xff : this.s.levelMask; }

  private writeData(value: number): void {
    const s = this.s;
    switch (s.expect) {
      case 2:
        s.vectorBase = value & 0xf8;
        s.expect = s.icw1 & SINGLE ? (s.icw1 & NEEDS_ICW4 ? 4 : 1) : 3;
        break;
      case 3: // the wiring of the cascade is fixed on a PC
        s.expect = s.icw1 & NEEDS_ICW4 ? 4 : 1;
        break;
      case 4:
        s.icw4 = value;
        s.expect = 1;
        break;
      default: s.imr = value;
    }
  }

  private writeOcw2(value: number): void {
    const s = this.s;
    const input = value & 7;
    switch (value >> 5) {
      case 0: s.rotateOnAutoEoi = false; break;
      case 4: s.rotateOnAutoEoi = true; break;
      case 1: this.endOfInterrupt(this.highestInService(), false); break;
      case 5: this.endOfInterrupt(this.highestInService(), true); break;
      case 3: this.endOfInterrupt(input, false); break;
      case 7: this.endOfInterrupt(input, true); break;
      case 6: s.lowestPriority = input; break;
      default: break; // no operation
    }
  }

  private endOfInterrupt(input: number, rotate: boolean): void {
    if (input < 0) return;
    this.s.isr &= ~(1 << input);
    if (rotate) this.s.lowestPriority = input;
  }

  private serve(input: number): void {
    const s = this.s;
    const bit = 1 << input;
    if ((this.levelInputs & bit) === 0) s.irr &= ~bit;
    if (s.icw4 & AUTO_EOI) {
      if (s.rotateOnAutoEoi) s.lowestPriority = input;
    } else s.isr |= bit;
  }

  /** Non-specific EOI ends the in-service input of highest priority; under special mask mode not a masked one. */
  private highestInService(): number {
    const s = this.s;
    const candidates = s.specialMask ? s.isr & ~s.imr : s.isr;
    for (let i = 1; i <= 8; i++) {
      const input = (s.lowestPriority + i) & 7;
      if (candidates & (1 << input)) return input;
    }
    return -1;
  }

  /** Unmasked request that no in-service input of the same or higher priority holds back, or -1. */
  private request(): number {
    const s = this.s;
    const requests = s.irr & ~s.imr;
    if (requests === 0) return -1;
    for (let i = 1; i <= 8; i++) {
      const input = (s.lowestPriority + i) & 7;
      const bit = 1 << input;
      const inService = (s.isr & bit) !== 0;
      if (s.specialMask) {
        if (requests & bit && !inService) return input;
        continue;
      }
      // special fully nested: a slave may interrupt again while it is in service
      if (requests & bit && (!inService || (s.icw4 & FULLY_NESTED && this.slaveInputs & bit))) return input;
      if (inService) return -1;
    }
    return -1;
  }
}

/** The two cascaded 8259As of a PC: master at 0x20, slave at 0xa0 behind input 2, edge/level registers at 0x4d0. */
export class PicPair implements Device {
  readonly name = 'pic';
  readonly master: Pic8259;
  readonly slave: Pic8259;
  private readonly output: InterruptLine;
  private ready = false;

  /** @param output INT line of the master */
  constructor(output: InterruptLine) {
    this.output = output;
    this.master = new Pic8259(0x04, () => this.update());
    this.slave = new Pic8259(0, () => this.update());
    this.ready = true;
  }

  reset(): void {
    this.master.reset();
    this.slave.reset();
    this.update();
  }

  event(kind: number): void { throw new Error(`pic: unexpected event ${kind}; it schedules none`); }

  /** ISA interrupt request 0..15; 2 is the cascade and has no line. */
  setLine(irq: number, level: boolean): void {
    if (irq >= 8) this.slave.setLine(irq - 8, level);
    else if (irq !== 2) this.master.setLine(irq, level);
  }

  get int(): boolean { return this.master.int; }

  /** Both INTA cycles: the vector to deliver. A request that vanished gives the spurious vector of input 7. */
  acknowledge(): number {
    const input = this.master.acknowledge();
    if (input !== 2) return this.master.vector(input);
    const vector = this.slave.vector(this.slave.acknowledge());
    // INT falls with INTA, so that a further request of the slave is an edge at the master
    this.master.setLine(2, false);
    this.update();
    return vector;
  }

  readonly edgeLevel: PortDevice = {
    readPort: port => (port & 1 ? this.slave : this.master).levelMask,
    // timer, keyboard, cascade, clock and coprocessor inputs are always edge-triggered
    writePort: (port, _size, value) => {
      if (port & 1) this.slave.levelMask = value & 0xde;
      else this.master.levelMask = value & 0xf8;
    },
  };

  save(): unknown { return { master: this.master.save(), slave: this.slave.save() }; }
  load(saved: unknown): void {
    const s = saved as { master: unknown; slave: unknown };
    this.master.load(s.master);
    this.slave.load(s.slave);
  }

  private update(): void {
    if (!this.ready) return;
    this.master.setLine(2, this.slave.int);
    this.output(this.master.int);
  }
}
