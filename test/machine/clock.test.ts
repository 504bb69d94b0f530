import { describe, expect, it } from 'vitest';
import { Clock, EventQueue, Oscillator } from '../../machine/clock.ts';
import type { Device } from '../../machine/device.ts';

class Probe implements Device {
  readonly name: string;
  private readonly log: string[];
  onEvent: (kind: number, cycle: number) => void = () => {};
  constructor(name: string, log: string[]) {
    this.name = name;
    this.log = log;
  }
  reset(): void {}
  event(kind: number, cycle: number): void {
    this.log.push(`${this.name}${kind}@${cycle}`);
    this.onEvent(kind, cycle);
  }
  save(): unknown { return null; }
  load(): void {}
}

function setup(): { log: string[]; queue: EventQueue; a: Probe; b: Probe; changes: () => number } {
  let changes = 0;
  const queue = new EventQueue(new Clock(1000, () => 0, () => changes++));
  const log: string[] = [];
  const a = new Probe('a', log);
  const b = new Probe('b', log);
  queue.register(a);
  queue.register(b);
  return { log, queue, a, b, changes: () => changes };
}

describe('event queue', () => {
  it('runs by cycle, then by registration, then by order of scheduling', () => {
    const { log, queue } = setup();
    queue.schedule(20, 0, 1);
    queue.schedule(10, 1, 7);
    queue.schedule(10, 0, 2);
    queue.schedule(10, 0, 0);
    expect(queue.next()).toBe(10);
    queue.runDue(15);
    expect(log).toEqual(['a2@10', 'a0@10', 'b7@10']);
    expect(queue.next()).toBe(20);
    queue.runDue(20);
    expect(log.at(-1)).toBe('a1@20');
    expect(queue.next()).toBe(Infinity);
  });

  it('moves an event that is scheduled again and forgets cancelled ones', () => {
    const { log, queue } = setup();
    queue.schedule(10, 0, 1);
    queue.schedule(30, 0, 1);
    queue.schedule(20, 1, 1);
    queue.cancel(1, 1);
    queue.cancel(1, 5);
    queue.runDue(100);
    expect(log).toEqual(['a1@30']);
  });

  it('runs events that due events schedule, and reports changes of the earliest one only', () => {
    const { log, queue, a, changes } = setup();
    a.onEvent = (kind, cycle) => { if (kind < 3) queue.schedule(cycle + 5, 0, kind + 1); };
    queue.schedule(1, 0, 0);
    expect(changes()).toBe(1);
    queue.schedule(50, 1, 0);
    expect(changes()).toBe(1);
    queue.runDue(20);
    expect(log).toEqual(['a0@1', 'a1@6', 'a2@11', 'a3@16']);
  });

  it('saves plain data and continues from it', () => {
    const first = setup();
    first.queue.schedule(9, 1, 4);
    first.queue.schedule(9, 0, 3);
    first.queue.schedule(9, 0, 2);
    const saved = JSON.parse(JSON.stringify(first.queue.save())) as unknown;
    expect(saved).toEqual([{ cycle: 9, device: 'a', kind: 3 }, { cycle: 9, device: 'a', kind: 2 }, { cycle: 9, device: 'b', kind: 4 }]);
    const second = setup();
    second.queue.load(saved);
    second.queue.runDue(9);
    first.queue.runDue(9);
    expect(second.log).toEqual(first.log);
    expect(() => second.queue.load([{ cycle: 1, device: 'zz', kind: 0 }])).toThrow(/zz/);
  });

  it('rejects misuse', () => {
    const { queue, a } = setup();
    expect(() => queue.register(a)).toThrow(/called 'a'/);
    expect(() => queue.schedule(1, 9, 0)).toThrow(/no device number 9/);
    expect(() => queue.schedule(Infinity, 0, 0)).toThrow(/finite/);
  });
});

describe('oscillator', () => {
  it('is exact in both directions, also after years', () => {
    for (const frequency of [1_000_000_000, 2_930_000_000, 3_800_000_000]) {
      const clock = new Oscillator(frequency, 1193182);
      for (const ticks of [0, 1, 2, 1193181, 1193182, 123456789, 1193182 * 500000 + 77]) {
        const cycle = clock.cycleOf(ticks);
        expect(clock.ticksAt(cycle)).toBe(ticks);
        if (ticks > 0) expect(clock.ticksAt(cycle - 1)).toBe(ticks - 1);
        // against whole-number arithmetic
        expect(BigInt(cycle)).toBe((BigInt(ticks) * BigInt(frequency) + 1193181n) / 1193182n);
      }
    }
  });
});
