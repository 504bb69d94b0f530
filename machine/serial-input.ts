import type { EventQueue, TimeSource } from './clock.ts';
import type { Device } from './device.ts';
import type { Uart } from './uart.ts';

/** A byte that arrives from outside at a cycle of the platform's clock. */
export interface InputByte { readonly cycle: number; readonly byte: number }

/**
 * The outside world at the serial port: bytes enter at given cycles, so that a run with the same list is the same
 * run. What was delivered is kept for recording.
 */
export class SerialInput implements Device {
  readonly name = 'input';
  private readonly time: TimeSource;
  private readonly queue: EventQueue;
  private readonly number: number;
  private readonly uart: Uart;
  private waiting: InputByte[] = [];
  private done: InputByte[] = [];

  constructor(time: TimeSource, queue: EventQueue, uart: Uart) {
    this.time = time;
    this.queue = queue;
    this.uart = uart;
    this.number = queue.register(this);
  }

  /** Adds bytes to come, not before bytes added earlier. A cycle that has passed means now. */
  add(bytes: readonly InputByte[]): void {
    for (const { cycle, byte } of bytes) {
      const earliest = Math.max(this.time.now(), this.waiting.at(-1)?.cycle ?? 0);
      this.waiting.push({ cycle: Math.max(cycle, earliest), byte: byte & 0xff });
    }
    this.schedule();
  }

  /** Bytes delivered so far, with their cycles. */
  get delivered(): readonly InputByte[] { return this.done; }
  get pending(): number { return this.waiting.length; }

  reset(): void {
    this.waiting = [];
    this.done = [];
    this.queue.cancel(this.number, 0);
  }

  event(_kind: number, cycle: number): void {
    while (this.waiting.length > 0 && this.waiting[0]!.cycle <= cycle) {
      const next = this.waiting.shift()!;
      this.done.push(next);
      this.uart.receive(next.byte);
    }
    this.schedule();
  }

  save(): unknown { return { waiting: this.waiting.map(b => ({ ...b })), done: this.done.map(b => ({ ...b })) }; }
  load(saved: unknown): void {
    const s = saved as { waiting: InputByte[]; done: InputByte[] };
    this.waiting = s.waiting.map(b => ({ ...b }));
    this.done = s.done.map(b => ({ ...b }));
  }

  private schedule(): void {
    if (this.waiting.length > 0) this.queue.schedule(this.waiting[0]!.cycle, this.number, 0);
  }
}
