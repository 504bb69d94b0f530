import type { Device } from './device.ts';

/**
 * Where a device gets its time from: machine cycles, or the guest time of a virtual machine. Never a wall clock.
 */
export interface TimeSource {
  /** Cycles since power-on. Never goes back. */
  now(): number;
  /** Cycles per second. */
  readonly frequency: number;
  /** The earliest event changed: whoever runs the CPUs must look at {@link EventQueue.next} again. */
  changed(): void;
}

/** A time source made of functions. */
export class Clock implements TimeSource {
  readonly frequency: number;
  private readonly read: () => number;
  private readonly onChange: () => void;

  /**
   * @param frequency cycles per second
   * @param read cycles since power-on
   * @param onChange called when the earliest event changed
   */
  constructor(frequency: number, read: () => number, onChange: () => void = () => {}) {
    this.frequency = frequency;
    this.read = read;
    this.onChange = onChange;
  }

  now(): number { return this.read(); }
  changed(): void { this.onChange(); }
}

/** An event to come: plain data, so that it can be saved. */
export interface QueuedEvent {
  readonly cycle: number;
  readonly device: string;
  readonly kind: number;
}

interface Entry { cycle: number; rank: number; kind: number; order: number }

/**
 * Events in the order of their cycle; ties go to the device registered first, then to the event scheduled first. A
 * device has at most one event of each kind: scheduling it again moves it.
 */
export class EventQueue {
  private readonly time: TimeSource;
  private readonly devices: Device[] = [];
  private entries: Entry[] = [];
  private order = 0;

  constructor(time: TimeSource) { this.time = time; }

  /** Makes a device known; registration order breaks ties. Returns its number, for {@link schedule}. */
  register(device: Device): number {
    if (this.devices.some(d => d.name === device.name)) throw new Error(`EventQueue.register: two devices are called '${device.name}'; names identify saved events and must differ`);
    return this.devices.push(device) - 1;
  }

  /** Schedules (or moves) the event `kind` of a device. A cycle that has passed already is due at once. */
  schedule(cycle: number, device: number, kind: number): void {
    if (!(device >= 0 && device < this.devices.length)) throw new Error(`EventQueue.schedule: no device number ${device}; register the device first`);
    if (!Number.isFinite(cycle)) throw new Error(`EventQueue.schedule: event ${kind} of ${this.devices[device]!.name} at cycle ${cycle}; expected a finite number (cancel events that never happen)`);
    const before = this.next();
    this.remove(device, kind);
    const entry: Entry = { cycle, rank: device, kind, order: this.order++ };
    let at = this.entries.length;
    while (at > 0 && EventQueue.later(this.entries[at - 1]!, entry)) at--;
    this.entries.splice(at, 0, entry);
    if (this.next() !== before) this.time.changed();
  }

  /** Forgets the event `kind` of a device, if there is one. */
  cancel(device: number, kind: number): void {
    const before = this.next();
    this.remove(device, kind);
    if (this.next() !== before) this.time.changed();
  }

  /** Cycle of the earliest event, or Infinity. */
  next(): number { return this.entries.length === 0 ? Infinity : this.entries[0]!.cycle; }

  /** Runs every event due at `now`, those that the events themselves schedule included. */
  runDue(now: number): void {
    while (this.entries.length > 0 && this.entries[0]!.cycle <= now) {
      const { cycle, rank, kind } = this.entries.shift()!;
      this.devices[rank]!.event(kind, cycle);
    }
  }

  /** Events to come, earliest first. */
  save(): readonly QueuedEvent[] {
    return this.entries.map(e => ({ cycle: e.cycle, device: this.devices[e.rank]!.name, kind: e.kind }));
  }

  load(saved: unknown): void {
    this.entries = (saved as readonly QueuedEvent[]).map((e, order) => {
      const rank = this.devices.findIndex(d => d.name === e.device);
      if (rank < 0) throw new Error(`EventQueue.load: saved event of device '${e.device}', which this machine lacks; build it with the same configuration`);
      return { cycle: e.cycle, rank, kind: e.kind, order };
    });
    this.order = this.entries.length;
    this.time.changed();
  }

  /** Drops every event. */
  clear(): void {
    if (this.entries.length === 0) return;
    this.entries = [];
    this.time.changed();
  }

  private remove(device: number, kind: number): void {
    const at = this.entries.findIndex(e => e.rank === device && e.kind === kind);
    if (at >= 0) this.entries.splice(at, 1);
  }

  private static later(a: Entry, b: Entry): boolean {
    if (a.cycle !== b.cycle) return a.cycle > b.cycle;
    if (a.rank !== b.rank) return a.rank > b.rank;
    return a.order > b.order;
  }
}

/**
 * An oscillator that runs since power-on, seen from cycles: exact for any length of time (no rounding of large
 * products, both frequencies below 2^32 with a product below 2^53).
 */
export class Oscillator {
  private readonly frequency: number;
  private readonly hertz: number;

  constructor(frequency: number, hertz: number) {
    if (frequency * hertz > Number.MAX_SAFE_INTEGER) throw new Error(`Oscillator of ${hertz} Hz against ${frequency} Hz: their product exceeds 2^53`);
    this.frequency = frequency;
    this.hertz = hertz;
  }

  /** Whole ticks that have passed at a cycle. */
  ticksAt(cycle: number): number {
    const rest = cycle % this.frequency;
    const product = rest * this.hertz;
    return ((cycle - rest) / this.frequency) * this.hertz + (product - (product % this.frequency)) / this.frequency;
  }

  /** First cycle at which this many ticks have passed. */
  cycleOf(ticks: number): number {
    const rest = ticks % this.hertz;
    const product = rest * this.frequency;
    const remainder = product % this.hertz;
    return ((ticks - rest) / this.hertz) * this.frequency + (product - remainder) / this.hertz + (remainder > 0 ? 1 : 0);
  }
}
