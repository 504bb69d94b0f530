import { Oscillator, type EventQueue, type TimeSource } from './clock.ts';
import type { Device, InterruptLine, PortDevice } from './device.ts';

/** Input clock of the counters: the colour subcarrier's 14.31818 MHz divided by 12. */
export const PIT_HERTZ = 1193182;
/** Ticks between two DRAM refresh requests as firmware programs counter 1; port 0x61 bit 4 toggles with each. */
const REFRESH_TICKS = 18;

/** One 8254 counter; plain data. Times are ticks of the input clock since power-on. */
interface Counter {
  mode: number; access: number; bcd: boolean; gate: boolean;
  /** Initial count in clocks (1..65536, or 10000 in BCD); 0 until one is written. */
  count: number;
  /** Tick at which the counting element was loaded; -1: not counting (no count, or waiting for a trigger). */
  start: number;
  /** Clocks counted when a low gate stopped modes 0 and 4; -1: running. */
  held: number;
  /** Count not taken over yet (0: none): in modes 2 and 3 at tick `switchAt`, the end of the (half) period, in modes 1 and 5 at the next trigger. */
  next: number;
  switchAt: number;
  /** Mode 3: the half period that begins at `switchAt` has output low. */
  switchLow: boolean;
  /** First byte of a two-byte write, or -1. */
  lowByte: number;
  /** Next read gives the high byte. */
  highNext: boolean;
  /** Latched count, or -1; latched status, or -1. */
  latch: number; status: number;
}

const fresh = (): Counter => ({ mode: 3, access: 3, bcd: false, gate: true, count: 0, start: -1, held: -1, next: 0, switchAt: 0, switchLow: false, lowByte: -1, highNext: false, latch: -1, status: -1 });

const fromBcd = (n: number): number => (n >> 12) * 1000 + ((n >> 8) & 15) * 100 + ((n >> 4) & 15) * 10 + (n & 15);
const toBcd = (n: number): number => (Math.floor(n / 1000) % 10 << 12) | (Math.floor(n / 100) % 10 << 8) | (Math.floor(n / 10) % 10 << 4) | (n % 10);

/** Programmable interval timer (Intel 8254 data sheet, all six modes) with the PC's wiring: counter 0 is IRQ 0, counter 2 the speaker, gated by port 0x61. */
export class Pit implements Device, PortDevice {
  readonly name = 'pit';
  private readonly time: TimeSource;
  private readonly queue: EventQueue;
  private readonly number: number;
  private readonly clock: Oscillator;
  private readonly line: InterruptLine;
  private counters: Counter[] = [fresh(), fresh(), fresh()];
  private speaker = false;

  /** @param line IRQ 0 */
  constructor(time: TimeSource, queue: EventQueue, line: InterruptLine) {
    this.time = time;
    this.queue = queue;
    this.line = line;
    this.clock = new Oscillator(time.frequency, PIT_HERTZ);
    this.number = queue.register(this);
  }

  reset(): void {
    this.counters = [fresh(), fresh(), fresh()];
    this.counters[2]!.gate = false;
    this.speaker = false;
    this.queue.cancel(this.number, 0);
    this.line(false);
  }

  /** Output of counter 0 changes: passes it on and schedules the next change. */
  event(_kind: number, cycle: number): void { this.follow(this.clock.ticksAt(cycle)); }

  readPort(port: number): number {
    const n = port & 3;
    if (n === 3) return 0xff; // the control word cannot be read
    const c = this.counters[n]!;
    if (c.status >= 0) {
      const status = c.status;
      c.status = -1;
      return status;
    }
    const value = c.latch >= 0 ? c.latch : this.element(c, this.now());
    let byte: number;
    if (c.access === 1) byte = value & 0xff;
    else if (c.access === 2) byte = value >> 8;
    else {
      byte = c.highNext ? value >> 8 : value & 0xff;
      c.highNext = !c.highNext;
    }
    if (!c.highNext) c.latch = -1;
    return byte;
  }

  writePort(port: number, _size: number, value: number): void {
    const n = port & 3;
    if (n === 3) this.writeControl(value);
    else this.writeCount(n, value);
  }

  /** Port 0x61: gate and speaker enable, refresh toggle, output of counter 2. */
  readonly systemPort: PortDevice = {
    readPort: () => {
      const now = this.now();
      const c = this.counters[2]!;
      return (c.gate ? 1 : 0) | (this.speaker ? 2 : 0) | (Math.floor(now / REFRESH_TICKS) & 1 ? 0x10 : 0) | (this.output(c, now) ? 0x20 : 0);
    },
    writePort: (_port, _size, value) => {
      this.speaker = (value & 2) !== 0;
      this.setGate(this.counters[2]!, (value & 1) !== 0, this.now());
    },
  };

  save(): unknown { return { counters: this.counters.map(c => ({ ...c })), speaker: this.speaker }; }
  load(saved: unknown): void {
    const s = saved as { counters: Counter[]; speaker: boolean };
    this.counters = s.counters.map(c => ({ ...c }));
    this.speaker = s.speaker;
  }

  private now(): number { return this.clock.ticksAt(this.time.now()); }

  private writeControl(value: number): void {
    const now = this.now();
    const select = value >> 6;
    if (select === 3) {
      // read-back: bits 5 and 4 are active low
      for (let n = 0; n < 3; n++) {
        if (!(value & (2 << n))) continue;
        if (!(value & 0x20)) this.latchCount(n, now);
        if (!(value & 0x10)) this.latchStatus(n, now);
      }
      return;
    }
    const access = (value >> 4) & 3;
    if (access === 0) {
      this.latchCount(select, now);
      return;
    }
    const mode = (value >> 1) & 7;
    const old = this.counters[select]!;
    this.counters[select] = { ...fresh(), gate: old.gate, mode: mode > 5 ? mode - 4 : mode, access, bcd: (value & 1) !== 0 };
    if (select === 0) this.follow(now);
  }

  private writeCount(n: number, byte: number): void {
    const c = this.counters[n]!;
    const now = this.now();
    let raw: number;
    if (c.access === 1) raw = byte;
    else if (c.access === 2) raw = byte << 8;
    else if (c.lowByte < 0) {
      c.lowByte = byte;
      if (c.mode === 0) {
        // the first of two bytes stops the count and clears the output
        c.count = 0;
        c.start = -1;
        if (n === 0) this.follow(now);
      }
      return;
    } else {
      raw = c.lowByte | (byte << 8);
      c.lowByte = -1;
    }
    const clocks = c.bcd ? fromBcd(raw) || 10000 : raw || 65536;
    this.settle(c, now);
    switch (c.mode) {
      case 2:
      case 3:
        if (c.start >= 0 && c.count > 0) this.postpone(c, clocks, now);
        else {
          c.count = clocks;
          c.start = c.gate ? now + 1 : -1;
        }
        break;
      case 1:
      case 5: // taken over by the next trigger
        c.next = clocks;
        break;
      default: // 0 and 4: loaded on the next clock
        c.count = clocks;
        c.start = now + 1;
        c.held = c.gate ? -1 : 0;
    }
    if (n === 0) this.follow(now);
  }

  private setGate(c: Counter, gate: boolean, now: number): void {
    if (gate === c.gate) return;
    this.settle(c, now);
    c.gate = gate;
    switch (c.mode) {
      case 0:
      case 4:
        if (c.start < 0) break;
        if (!gate) c.held = Math.max(0, now - c.start);
        else {
          c.start = now - c.held;
          c.held = -1;
        }
        break;
      case 2:
      case 3:
        if (c.next > 0) {
          c.count = c.next;
          c.next = 0;
        }
        c.start = gate && c.count > 0 ? now + 1 : -1;
        break;
      default: // a rising gate triggers
        if (!gate) break;
        if (c.next > 0) {
          c.count = c.next;
          c.next = 0;
        }
        if (c.count > 0) c.start = now + 1;
    }
  }

  /** Modes 2 and 3 take a new count over at the end of the current period, or half period in mode 3. */
  private postpone(c: Counter, clocks: number, now: number): void {
    const e = Math.max(0, now - c.start);
    const phase = e % c.count;
    const half = Math.ceil(c.count / 2);
    c.next = clocks;
    c.switchLow = c.mode === 3 && phase < half;
    c.switchAt = c.start + e - phase + (c.switchLow ? half : c.count);
  }

  /** Takes a postponed count over once its time has come. */
  private settle(c: Counter, now: number): void {
    if (c.next === 0 || c.start < 0 || (c.mode !== 2 && c.mode !== 3) || now < c.switchAt) return;
    c.count = c.next;
    c.next = 0;
    c.start = c.switchLow ? c.switchAt - Math.ceil(c.count / 2) : c.switchAt;
  }

  private latchCount(n: number, now: number): void {
    const c = this.counters[n]!;
    if (c.latch < 0) {
      c.latch = this.element(c, now);
      c.highNext = false;
    }
  }

  private latchStatus(n: number, now: number): void {
    const c = this.counters[n]!;
    if (c.status >= 0) return;
    this.settle(c, now);
    const nullCount = c.count === 0 || c.next > 0 || (c.start >= 0 && now < c.start);
    c.status = (this.output(c, now) ? 0x80 : 0) | (nullCount ? 0x40 : 0) | (c.access << 4) | (c.mode << 1) | (c.bcd ? 1 : 0);
  }

  /** Clocks counted since the counting element was loaded. */
  private elapsed(c: Counter, now: number): number {
    if ((c.mode === 0 || c.mode === 4) && c.held >= 0) return c.held;
    return Math.max(0, now - c.start);
  }

  /** The counting element as the guest reads it. */
  private element(c: Counter, now: number): number {
    this.settle(c, now);
    if (c.start < 0 || c.count === 0) return c.bcd ? toBcd(c.count % 10000) : c.count & 0xffff;
    const e = this.elapsed(c, now);
    const modulus = c.bcd ? 10000 : 65536;
    let value: number;
    if (c.mode === 2) value = c.count - (e % c.count);
    else if (c.mode === 3) {
      const phase = e % c.count;
      const high = Math.ceil(c.count / 2);
      value = c.count - (c.count & 1) - 2 * (phase < high ? phase : phase - high);
    } else value = (((c.count - e) % modulus) + modulus) % modulus; // counts on through zero
    return c.bcd ? toBcd(value % 10000) : value & 0xffff;
  }

  private output(c: Counter, now: number): boolean {
    this.settle(c, now);
    if (c.start < 0 || c.count === 0) return c.mode !== 0;
    const e = this.elapsed(c, now);
    const loaded = now >= c.start;
    switch (c.mode) {
      case 0: return loaded && e >= c.count;
      case 1: return !loaded || e >= c.count;
      case 2: return !loaded || e % c.count !== c.count - 1;
      case 3: return !loaded || e % c.count < Math.ceil(c.count / 2);
      default: return !loaded || e !== c.count; // 4, 5: low for one clock
    }
  }

  /** Puts counter 0's output on its line and schedules its next change. */
  private follow(now: number): void {
    const c = this.counters[0]!;
    this.line(this.output(c, now));
    const next = this.nextChange(c, now);
    if (next > 0) this.queue.schedule(this.clock.cycleOf(next), this.number, 0);
    else this.queue.cancel(this.number, 0);
  }

  /** Tick after `now` at which the output may change, or -1. */
  private nextChange(c: Counter, now: number): number {
    if (c.start < 0 || c.count <= (c.mode === 2 || c.mode === 3 ? 1 : 0)) return -1; // a count of 1 is illegal in modes 2 and 3
    if (now < c.start) return c.start;
    const e = now - c.start;
    switch (c.mode) {
      case 0:
      case 1: return e < c.count ? c.start + c.count : -1;
      case 2:
      case 3: {
        const phase = e % c.count;
        const base = c.start + e - phase;
        const turn = c.mode === 2 ? c.count - 1 : Math.ceil(c.count / 2);
        return phase < turn ? base + turn : base + c.count;
      }
      default: return e < c.count ? c.start + c.count : e === c.count ? c.start + c.count + 1 : -1;
    }
  }
}
