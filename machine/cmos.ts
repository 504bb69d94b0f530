import { Oscillator, type EventQueue, type TimeSource } from './clock.ts';
import type { Device, InterruptLine, PortDevice, Report } from './device.ts';

/** Clock registers (MC146818 data sheet); the century is where PC firmware keeps it. */
const Register = { Seconds: 0, Minutes: 2, Hours: 4, Weekday: 6, Day: 7, Month: 8, Year: 9, A: 0xa, B: 0xb, C: 0xc, D: 0xd, Century: 0x32 } as const;
const B = { Set: 0x80, Periodic: 0x40, Alarm: 0x20, Update: 0x10, Binary: 4, Hours24: 2 } as const;
/** Update in progress is up for the last 244 µs before the seconds change. */
const UPDATE_HERTZ = 4096;
const EVENT_PERIODIC = 0;
const DAY = 86400;

/** Seconds from 2000-01-01 00:00 to power-on: 2005-11-14 00:00, a Monday (the day the first VT-x processors came out). */
export const POWER_ON_SECONDS = daysSince2000(2005, 11, 14) * DAY;

/** Days from 2000-01-01 to a date of the Gregorian calendar. */
function daysSince2000(year: number, month: number, day: number): number {
  // years begin in March, so that the leap day is their last
  const y = month <= 2 ? year - 1 : year;
  const inYear = Math.floor((153 * ((month + 9) % 12) + 2) / 5) + day - 1;
  return y * 365 + Math.floor(y / 4) - Math.floor(y / 100) + Math.floor(y / 400) + inYear - 730425;
}

interface Time { second: number; minute: number; hour: number; weekday: number; day: number; month: number; year: number }

function timeOf(seconds: number): Time {
  const days = Math.floor(seconds / DAY);
  const rest = seconds - days * DAY;
  let year = 2000 + Math.floor(days / 365.2425);
  while (daysSince2000(year, 1, 1) > days) year--;
  while (daysSince2000(year + 1, 1, 1) <= days) year++;
  let month = 1;
  while (month < 12 && daysSince2000(year, month + 1, 1) <= days) month++;
  return {
    second: rest % 60, minute: Math.floor(rest / 60) % 60, hour: Math.floor(rest / 3600), weekday: ((((days + 6) % 7) + 7) % 7) + 1, // 2000-01-01 was a Saturday
    day: days - daysSince2000(year, month, 1) + 1, month, year,
  };
}

/**
 * Real-time clock and battery-backed memory at ports 0x70 and 0x71. The date starts at a constant and advances with
 * machine cycles, so that every run reads the same time.
 */
export class Cmos implements Device, PortDevice {
  readonly name = 'cmos';
  private readonly time: TimeSource;
  private readonly queue: EventQueue;
  private readonly number: number;
  private readonly line: InterruptLine;
  private readonly memorySize: number;
  private readonly report: Report;
  private index = 0;
  private bytes: number[] = [];
  /** Clock time at cycle 0, in seconds since 2000; moved when the guest sets the clock. */
  private origin = POWER_ON_SECONDS;
  private statusC = 0;
  /** Cycle at which the periodic rate was set, and ticks scheduled since. */
  private periodicStart = 0;
  private periodicTicks = 0;

  /**
   * @param line IRQ 8
   * @param memorySize bytes of RAM
   */
  constructor(time: TimeSource, queue: EventQueue, line: InterruptLine, memorySize: number, report: Report) {
    this.time = time;
    this.queue = queue;
    this.line = line;
    this.memorySize = memorySize;
    this.report = report;
    this.number = queue.register(this);
    this.powerUp();
  }

  reset(): void {
    this.powerUp();
    this.queue.cancel(this.number, EVENT_PERIODIC);
    this.line(false);
  }

  event(): void {
    this.statusC |= B.Periodic;
    this.schedulePeriodic();
    this.update();
  }

  readPort(port: number): number { return port & 1 ? this.read(this.index & 0x7f) : 0xff; }

  writePort(port: number, _size: number, value: number): void {
    if (port & 1) this.write(this.index & 0x7f, value);
    else this.index = value; // bit 7 masks NMI; nothing raises one here
  }

  save(): unknown {
    return { index: this.index, bytes: [...this.bytes], origin: this.origin, statusC: this.statusC, periodicStart: this.periodicStart, periodicTicks: this.periodicTicks };
  }
  load(saved: unknown): void {
    const s = saved as { index: number; bytes: number[]; origin: number; statusC: number; periodicStart: number; periodicTicks: number };
    this.index = s.index;
    this.bytes = [...s.bytes];
    this.origin = s.origin;
    this.statusC = s.statusC;
    this.periodicStart = s.periodicStart;
    this.periodicTicks = s.periodicTicks;
  }

  private powerUp(): void {
    this.index = 0;
    this.origin = POWER_ON_SECONDS;
    this.statusC = this.periodicStart = this.periodicTicks = 0;
    const bytes = new Array<number>(128).fill(0);
    const word = (at: number, value: number): void => {
      bytes[at] = value & 0xff;
      bytes[at + 1] = (value >> 8) & 0xff;
    };
    bytes[Register.A] = 0x26; // 32.768 kHz time base, 1024 Hz periodic rate
    bytes[Register.B] = B.Hours24;
    // memory: base KiB; KiB above 1 MiB (twice); 64 KiB units above 16 MiB
    const above1M = Math.max(0, this.memorySize - 0x100000);
    word(0x15, 640);
    word(0x17, Math.min(0xffff, Math.floor(above1M / 1024)));
    word(0x30, Math.min(0xffff, Math.floor(above1M / 1024)));
    word(0x34, Math.min(0xffff, Math.floor(Math.max(0, this.memorySize - 0x1000000) / 65536)));
    bytes[0x14] = 0x02; // equipment: no floppy, no coprocessor flag of its own, monitor of the adapter's choice
    let sum = 0;
    for (let at = 0x10; at <= 0x2d; at++) sum += bytes[at]!;
    bytes[0x2e] = (sum >> 8) & 0xff;
    bytes[0x2f] = sum & 0xff;
    this.bytes = bytes;
  }

  /** Clock time in seconds since 2000. */
  private seconds(): number { return this.origin + Math.floor(this.time.now() / this.time.frequency); }

  private read(register: number): number {
    const t = timeOf(this.seconds());
    switch (register) {
      case Register.Seconds: return this.encode(t.second);
      case Register.Minutes: return this.encode(t.minute);
      case Register.Hours:
        if (this.bytes[Register.B]! & B.Hours24) return this.encode(t.hour);
        return this.encode(t.hour % 12 === 0 ? 12 : t.hour % 12) | (t.hour >= 12 ? 0x80 : 0);
      case Register.Weekday: return this.encode(t.weekday);
      case Register.Day: return this.encode(t.day);
      case Register.Month: return this.encode(t.month);
      case Register.Year: return this.encode(t.year % 100);
      case Register.Century: return this.encode(Math.floor(t.year / 100));
      case Register.A: return (this.bytes[Register.A]! & 0x7f) | (this.updating() ? 0x80 : 0);
      case Register.C: {
        const status = this.statusC;
        this.statusC = 0;
        this.update();
        return status | (status & this.bytes[Register.B]! & 0x70 ? 0x80 : 0);
      }
      case Register.D: return 0x80; // valid RAM and time
      default: return this.bytes[register]!;
    }
  }

  private write(register: number, value: number): void {
    switch (register) {
      case Register.Seconds: case Register.Minutes: case Register.Hours: case Register.Weekday: case Register.Day: case Register.Month: case Register.Year: case Register.Century:
        this.setClock(register, value);
        return;
      case Register.A:
        this.bytes[Register.A] = value & 0x7f;
        this.startPeriodic();
        return;
      case Register.B: {
        if (value & (B.Alarm | B.Update)) this.report('real-time clock: alarm and update-ended interrupts are not modelled and will not come');
        const rising = value & ~this.bytes[Register.B]! & B.Periodic;
        this.bytes[Register.B] = value;
        if (rising) this.startPeriodic();
        else if (!(value & B.Periodic)) this.queue.cancel(this.number, EVENT_PERIODIC);
        this.update();
        return;
      }
      case Register.C: case Register.D: return; // read-only
      default: this.bytes[register] = value;
    }
  }

  private setClock(register: number, value: number): void {
    const now = this.seconds();
    const t = timeOf(now);
    const n = this.decode(value);
    switch (register) {
      case Register.Seconds: t.second = n; break;
      case Register.Minutes: t.minute = n; break;
      case Register.Hours: t.hour = this.bytes[Register.B]! & B.Hours24 ? n : (this.decode(value & 0x7f) % 12) + (value & 0x80 ? 12 : 0); break;
      case Register.Day: t.day = n; break;
      case Register.Month: t.month = n; break;
      case Register.Year: t.year = Math.floor(t.year / 100) * 100 + n; break;
      case Register.Century: t.year = n * 100 + (t.year % 100); break;
      default: return; // the day of the week follows from the date
    }
    this.origin += daysSince2000(t.year, t.month, t.day) * DAY + t.hour * 3600 + t.minute * 60 + t.second - now;
  }

  private updating(): boolean {
    const { frequency } = this.time;
    return (this.bytes[Register.B]! & B.Set) === 0 && this.time.now() % frequency >= frequency - Math.floor(frequency / UPDATE_HERTZ);
  }

  private encode(n: number): number { return this.bytes[Register.B]! & B.Binary ? n : ((Math.floor(n / 10) << 4) | (n % 10)); }
  private decode(n: number): number { return this.bytes[Register.B]! & B.Binary ? n : (n >> 4) * 10 + (n & 15); }

  /** Periodic rate in hertz, 0 = none (data sheet, "Periodic Interrupt Rate"). */
  private get rate(): number {
    const select = this.bytes[Register.A]! & 15;
    // selects 1 and 2 repeat 8 and 9 with the 32.768 kHz time base
    return select === 0 ? 0 : 65536 >> (select <= 2 ? select + 7 : select);
  }

  private startPeriodic(): void {
    this.periodicStart = this.time.now();
    this.periodicTicks = 0;
    this.schedulePeriodic();
  }

  private schedulePeriodic(): void {
    const { rate } = this;
    if (rate === 0 || !(this.bytes[Register.B]! & B.Periodic)) {
      this.queue.cancel(this.number, EVENT_PERIODIC);
      return;
    }
    this.periodicTicks++;
    this.queue.schedule(this.periodicStart + new Oscillator(this.time.frequency, rate).cycleOf(this.periodicTicks), this.number, EVENT_PERIODIC);
  }

  private update(): void { this.line((this.statusC & this.bytes[Register.B]! & 0x70) !== 0); }
}
