import type { EventQueue, TimeSource } from './clock.ts';

/** Counter of a local APIC timer (SDM "APIC Timer"): counts bus clocks, divided. Whether it is periodic or masked is in the local vector table. */
export class ApicTimer {
  private readonly time: TimeSource;
  private readonly queue: EventQueue;
  private readonly device: number;
  private readonly busDivisor: number;
  private initial = 0;
  private divideCode = 0;
  /** Count at cycle `since`; 0 = stopped. */
  private remaining = 0;
  private since = 0;

  /**
   * @param device number of the local APIC in the queue; expiry is its event 0
   * @param busDivisor CPU cycles per bus clock
   */
  constructor(time: TimeSource, queue: EventQueue, device: number, busDivisor: number) {
    this.time = time;
    this.queue = queue;
    this.device = device;
    this.busDivisor = busDivisor;
  }

  reset(): void {
    this.initial = this.divideCode = this.remaining = this.since = 0;
    this.queue.cancel(this.device, 0);
  }

  get initialCount(): number { return this.initial; }
  /** Divide configuration as written (bits 0, 1 and 3). */
  get divide(): number { return this.divideCode; }

  /** Writes the initial count: starts the timer, or stops it with 0. */
  start(count: number): void {
    this.initial = this.remaining = count;
    this.since = this.time.now();
    this.schedule();
  }

  /** Changes the divider; the current count stays. */
  setDivide(code: number, periodic: boolean): void {
    this.remaining = this.count(periodic);
    this.since = this.time.now();
    this.divideCode = code;
    this.schedule();
  }

  /** Current count. */
  count(periodic: boolean): number {
    if (this.remaining === 0) return 0;
    const gone = Math.floor((this.time.now() - this.since) / this.cyclesPerCount);
    if (gone < this.remaining) return this.remaining - gone;
    // due but not served yet
    return periodic && this.initial > 0 ? this.initial - ((gone - this.remaining) % this.initial) : 0;
  }

  /** The event at `cycle`: starts the next period, counted from the exact end of the last one, or stops. */
  expired(cycle: number, periodic: boolean): void {
    this.since = cycle;
    this.remaining = periodic ? this.initial : 0;
    this.schedule();
  }

  save(): unknown { return { initial: this.initial, divideCode: this.divideCode, remaining: this.remaining, since: this.since }; }
  load(saved: unknown): void {
    const s = saved as { initial: number; divideCode: number; remaining: number; since: number };
    this.initial = s.initial;
    this.divideCode = s.divideCode;
    this.remaining = s.remaining;
    this.since = s.since;
  }

  /** Divide configuration 111b is 1, the others 2, 4 … 128 (SDM "Divide Configuration Register"). */
  private get cyclesPerCount(): number {
    const code = (this.divideCode & 3) | ((this.divideCode >> 1) & 4);
    return this.busDivisor * (code === 7 ? 1 : 2 << code);
  }

  private schedule(): void {
    if (this.remaining === 0) this.queue.cancel(this.device, 0);
    else this.queue.schedule(this.since + this.remaining * this.cyclesPerCount, this.device, 0);
  }
}
