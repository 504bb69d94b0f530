import type { EventQueue, TimeSource } from './clock.ts';
import type { Device, InterruptLine, PortDevice } from './device.ts';

/** Registers by offset from the base port (PC16550D data sheet, register summary). */
const Register = { Data: 0, InterruptEnable: 1, Identification: 2, LineControl: 3, ModemControl: 4, LineStatus: 5, ModemStatus: 6, Scratch: 7 } as const;
const Enable = { Receive: 1, Transmit: 2, LineStatus: 4, Modem: 8 } as const;
/** Interrupt identification codes, highest priority first. */
const Cause = { LineStatus: 6, Receive: 4, Timeout: 0xc, Transmit: 2, Modem: 0, None: 1 } as const;
const Line = { DataReady: 1, Overrun: 2, Parity: 4, Framing: 8, Break: 0x10, HoldingEmpty: 0x20, TransmitterEmpty: 0x40 } as const;
const FIFO_SIZE = 16;
const TRIGGERS = [1, 4, 8, 14] as const;
const EVENT_TIMEOUT = 0;

/**
 * 16550A serial port. Transmission takes no time, so the transmitter is always ready (polling guests would otherwise
 * spend most of their instructions waiting). Received bytes wait outside until there is room, as with flow
 * control: overruns happen in loopback only. The interrupt line is not gated by OUT2, as on chips whose line is
 * wired directly.
 */
export class Uart implements Device, PortDevice {
  readonly name: string;
  private readonly time: TimeSource;
  private readonly queue: EventQueue;
  private readonly number: number;
  private readonly line: InterruptLine;
  private readonly sink: (byte: number) => void;

  private interruptEnable = 0;
  private lineControl = 0;
  private modemControl = 0;
  private modemDelta = 0;
  private scratch = 0;
  private divisor = 12;
  private fifoEnabled = false;
  private trigger = 1;
  private errors = 0;
  private transmitPending = false;
  private timedOut = false;
  private received: number[] = [];
  private waiting: number[] = [];

  /**
   * @param line interrupt line
   * @param sink receives every byte transmitted
   */
  constructor(name: string, time: TimeSource, queue: EventQueue, line: InterruptLine, sink: (byte: number) => void) {
    this.name = name;
    this.time = time;
    this.queue = queue;
    this.line = line;
    this.sink = sink;
    this.number = queue.register(this);
  }

  reset(): void {
    this.interruptEnable = this.lineControl = this.modemControl = this.modemDelta = this.scratch = this.errors = 0;
    this.divisor = 12; // 9600 baud, as firmware leaves it
    this.fifoEnabled = this.transmitPending = this.timedOut = false;
    this.trigger = 1;
    this.received = [];
    this.waiting = [];
    this.queue.cancel(this.number, EVENT_TIMEOUT);
    this.line(false);
  }

  /** A byte arrives from outside. */
  receive(byte: number): void {
    this.waiting.push(byte & 0xff);
    this.refill(false);
  }

  /** Bytes that the guest has not read yet. */
  get unread(): number { return this.received.length + this.waiting.length; }

  event(kind: number): void {
    if (kind === EVENT_TIMEOUT && this.received.length > 0) {
      this.timedOut = true;
      this.update();
    }
  }

  readPort(port: number): number {
    switch (port & 7) {
      case Register.Data: return this.dlab ? this.divisor & 0xff : this.readData();
      case Register.InterruptEnable: return this.dlab ? this.divisor >> 8 : this.interruptEnable;
      case Register.Identification: {
        const cause = this.cause();
        if (cause === Cause.Transmit) {
          this.transmitPending = false;
          this.update();
        }
        return cause | (this.fifoEnabled ? 0xc0 : 0);
      }
      case Register.LineControl: return this.lineControl;
      case Register.ModemControl: return this.modemControl;
      case Register.LineStatus: {
        const status = this.errors | (this.received.length > 0 ? Line.DataReady : 0) | Line.HoldingEmpty | Line.TransmitterEmpty;
        this.errors = 0;
        this.update();
        return status;
      }
      case Register.ModemStatus: {
        const status = this.modemInputs() | this.modemDelta;
        this.modemDelta = 0;
        this.update();
        return status;
      }
      default: return this.scratch;
    }
  }

  writePort(port: number, _size: number, value: number): void {
    switch (port & 7) {
      case Register.Data:
        if (this.dlab) this.divisor = (this.divisor & 0xff00) | value;
        else this.transmit(value);
        break;
      case Register.InterruptEnable:
        if (this.dlab) this.divisor = (this.divisor & 0xff) | (value << 8);
        else {
          // enabling the interrupt while the holding register is empty requests it at once
          if (value & ~this.interruptEnable & Enable.Transmit) this.transmitPending = true;
          this.interruptEnable = value & 0xf;
          this.update();
        }
        break;
      case Register.Identification: this.writeFifoControl(value); break;
      case Register.LineControl: this.lineControl = value; break;
      case Register.ModemControl: this.writeModemControl(value & 0x1f); break;
      case Register.Scratch: this.scratch = value; break;
      default: break; // line and modem status are read-only
    }
  }

  save(): unknown {
    return {
      interruptEnable: this.interruptEnable, lineControl: this.lineControl, modemControl: this.modemControl, modemDelta: this.modemDelta, scratch: this.scratch, divisor: this.divisor,
      fifoEnabled: this.fifoEnabled, trigger: this.trigger, errors: this.errors, transmitPending: this.transmitPending, timedOut: this.timedOut, received: [...this.received], waiting: [...this.waiting],
    };
  }

  load(saved: unknown): void {
    const s = saved as {
      interruptEnable: number; lineControl: number; modemControl: number; modemDelta: number; scratch: number; divisor: number;
      fifoEnabled: boolean; trigger: number; errors: number; transmitPending: boolean; timedOut: boolean; received: number[]; waiting: number[];
    };
    this.interruptEnable = s.interruptEnable;
    this.lineControl = s.lineControl;
    this.modemControl = s.modemControl;
    this.modemDelta = s.modemDelta;
    this.scratch = s.scratch;
    this.divisor = s.divisor;
    this.fifoEnabled = s.fifoEnabled;
    this.trigger = s.trigger;
    this.errors = s.errors;
    this.transmitPending = s.transmitPending;
    this.timedOut = s.timedOut;
    this.received = [...s.received];
    this.waiting = [...s.waiting];
  }

  private get dlab(): boolean { return (this.lineControl & 0x80) !== 0; }
  private get loopback(): boolean { return (this.modemControl & 0x10) !== 0; }

  private transmit(byte: number): void {
    // the byte leaves at once, so the holding register falls empty again at once
    this.transmitPending = false;
    this.update();
    if (!this.loopback) this.sink(byte);
    else if (this.received.length < (this.fifoEnabled ? FIFO_SIZE : 1)) this.store(byte);
    else {
      this.errors |= Line.Overrun;
      if (!this.fifoEnabled) this.received[0] = byte; // without FIFO the new byte destroys the old one
    }
    this.transmitPending = true;
    this.update();
  }

  private readData(): number {
    const byte = this.received.shift() ?? 0;
    this.timedOut = false;
    this.armTimeout();
    // the line drops when its cause goes away, even if the next byte raises it again: edge-triggered controllers need the edge
    this.update();
    this.refill(true);
    return byte;
  }

  /** Takes waiting bytes; while the guest reads a batch, the next one comes when the batch is empty. */
  private refill(afterRead: boolean): void {
    if (this.loopback || this.waiting.length === 0 || (afterRead && this.received.length > 0)) return;
    const room = this.fifoEnabled ? FIFO_SIZE : 1;
    let changed = false;
    while (this.waiting.length > 0 && this.received.length < room) {
      this.received.push(this.waiting.shift()!);
      changed = true;
    }
    if (!changed) return;
    this.armTimeout();
    this.update();
  }

  private store(byte: number): void {
    this.received.push(byte);
    this.armTimeout();
  }

  /** Received bytes below the trigger level are announced after four character times without traffic. */
  private armTimeout(): void {
    if (!this.fifoEnabled || this.received.length === 0) {
      this.queue.cancel(this.number, EVENT_TIMEOUT);
      return;
    }
    const bits = 4 * (1 + 5 + (this.lineControl & 3) + (this.lineControl & 8 ? 1 : 0) + (this.lineControl & 4 ? 2 : 1));
    const baud = 115200 / Math.max(1, this.divisor);
    this.queue.schedule(this.time.now() + Math.ceil((bits * this.time.frequency) / baud), this.number, EVENT_TIMEOUT);
  }

  private writeFifoControl(value: number): void {
    const enable = (value & 1) !== 0;
    if (enable !== this.fifoEnabled || (enable && value & 2)) {
      this.received = [];
      this.timedOut = false;
      this.queue.cancel(this.number, EVENT_TIMEOUT);
    }
    this.fifoEnabled = enable;
    if (enable) this.trigger = TRIGGERS[(value >> 6) & 3]!;
    this.update();
    this.refill(true);
  }

  private writeModemControl(value: number): void {
    const before = this.modemInputs();
    this.modemControl = value;
    const changed = before ^ this.modemInputs();
    // deltas of CTS, DSR, DCD; RI counts its trailing edge only
    this.modemDelta |= ((changed >> 4) & 0xb) | (before & ~this.modemInputs() & 0x40 ? 4 : 0);
    this.update();
    this.refill(true);
  }

  /** CTS, DSR, RI, DCD: asserted by the other side, or looped back from RTS, DTR, OUT1, OUT2. */
  private modemInputs(): number {
    if (!this.loopback) return 0xb0;
    const m = this.modemControl;
    return (m & 2 ? 0x10 : 0) | (m & 1 ? 0x20 : 0) | (m & 4 ? 0x40 : 0) | (m & 8 ? 0x80 : 0);
  }

  private cause(): number {
    if (this.interruptEnable & Enable.LineStatus && this.errors !== 0) return Cause.LineStatus;
    if (this.interruptEnable & Enable.Receive) {
      if (this.received.length >= (this.fifoEnabled ? this.trigger : 1)) return Cause.Receive;
      if (this.timedOut && this.received.length > 0) return Cause.Timeout;
    }
    if (this.interruptEnable & Enable.Transmit && this.transmitPending) return Cause.Transmit;
    if (this.interruptEnable & Enable.Modem && this.modemDelta !== 0) return Cause.Modem;
    return Cause.None;
  }

  private update(): void { this.line(this.cause() !== Cause.None); }
}
