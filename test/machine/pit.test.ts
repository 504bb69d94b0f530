import { describe, expect, it } from 'vitest';
import { Clock, EventQueue } from '../../machine/clock.ts';
import { Pit, PIT_HERTZ } from '../../machine/pit.ts';

// Expectations: Intel 8254 data sheet. One cycle is one clock here, so times below are clocks.
function setup(): { pit: Pit; queue: EventQueue; log: string[]; to: (clock: number) => void; out: (port: number, ...v: number[]) => void; in: (port: number) => number } {
  let now = 0;
  const log: string[] = [];
  let level: boolean | null = null;
  const time = new Clock(PIT_HERTZ, () => now);
  const queue = new EventQueue(time);
  const pit = new Pit(time, queue, l => {
    if (l !== level) log.push(`${l ? 'high' : 'low'}@${now}`);
    level = l;
  });
  pit.reset();
  log.length = 0;
  level = null;
  return {
    pit, queue, log,
    to: clock => {
      while (queue.next() <= clock) {
        now = queue.next();
        queue.runDue(now);
      }
      now = clock;
    },
    out: (port, ...values) => { for (const v of values) (port === 0x61 ? pit.systemPort : pit).writePort(port, 1, v); },
    in: port => (port === 0x61 ? pit.systemPort : pit).readPort(port, 1),
  };
}
const word = (p: { in: (port: number) => number }, port: number): number => p.in(port) | (p.in(port) << 8);

describe('8254', () => {
  it('mode 0: output low on the control word, high N + 1 clocks after the count is written', () => {
    const p = setup();
    p.to(100);
    p.out(0x43, 0x30);
    p.out(0x40, 10, 0);
    p.to(200);
    expect(p.log).toEqual(['low@100', 'high@111']);
    // the count runs on through zero
    p.to(116);
    const q = setup();
    q.out(0x43, 0x30);
    q.out(0x40, 10, 0);
    q.to(16);
    expect(word(q, 0x40)).toBe(0xfffb); // loaded at 1, 15 clocks gone
  });

  it('mode 0: the first byte of a new count stops it and clears the output', () => {
    const p = setup();
    p.out(0x43, 0x30);
    p.out(0x40, 4, 0);
    p.to(20);
    p.out(0x40, 8);
    p.to(60);
    p.out(0x40, 0);
    p.to(100);
    expect(p.log).toEqual(['low@0', 'high@5', 'low@20', 'high@69']);
  });

  it('mode 2: low for one clock in every N', () => {
    const p = setup();
    p.out(0x43, 0x34);
    p.out(0x40, 10, 0);
    p.to(35);
    expect(p.log).toEqual(['high@0', 'low@10', 'high@11', 'low@20', 'high@21', 'low@30', 'high@31']);
  });

  it('mode 2: a new count takes effect when the period ends', () => {
    const p = setup();
    p.out(0x43, 0x34);
    p.out(0x40, 10, 0);
    p.to(15);
    p.out(0x40, 4, 0);
    expect(word(p, 0x40)).toBe(6); // loaded at 11, 4 clocks gone
    p.to(33);
    expect(p.log.slice(-6)).toEqual(['low@24', 'high@25', 'low@28', 'high@29', 'low@32', 'high@33']);
    expect(p.log).toContain('low@20');
    expect(p.log).toContain('high@21');
  });

  it('mode 3: half and half, the odd clock high; counts by two', () => {
    const even = setup();
    even.out(0x43, 0x36);
    even.out(0x40, 10, 0);
    even.to(4);
    expect(word(even, 0x40)).toBe(4); // loaded with 10 at 1, three clocks gone
    even.to(27);
    expect(even.log).toEqual(['high@0', 'low@6', 'high@11', 'low@16', 'high@21', 'low@26']);
    const odd = setup();
    odd.out(0x43, 0x36);
    odd.out(0x40, 5, 0);
    odd.to(12);
    expect(odd.log).toEqual(['high@0', 'low@4', 'high@6', 'low@9', 'high@11']);
  });

  it('mode 3: a new count takes effect when the half period ends', () => {
    const p = setup();
    p.out(0x43, 0x36);
    p.out(0x40, 10, 0);
    p.to(3);
    p.out(0x40, 4, 0);
    p.to(13);
    expect(p.log).toEqual(['high@0', 'low@6', 'high@8', 'low@10', 'high@12']);
  });

  it('mode 4: one clock low, once', () => {
    const p = setup();
    p.out(0x43, 0x38);
    p.out(0x40, 6, 0);
    p.to(100);
    expect(p.log).toEqual(['high@0', 'low@7', 'high@8']);
    expect(p.queue.next()).toBe(Infinity);
  });

  it('a count of 0 means 65536', () => {
    const p = setup();
    p.out(0x43, 0x34);
    p.out(0x40, 0, 0);
    p.to(65540);
    expect(p.log).toEqual(['high@0', 'low@65536', 'high@65537']);
  });

  it('latches the count until both bytes are read', () => {
    const p = setup();
    p.out(0x43, 0x34);
    p.out(0x40, 0xe8, 0x03);
    p.to(101);
    p.out(0x43, 0x00);
    p.to(501);
    expect(word(p, 0x40)).toBe(900);
    expect(word(p, 0x40)).toBe(500);
  });

  it('reads and writes single bytes where the control word says so', () => {
    const p = setup();
    p.out(0x43, 0x14); // LSB only, mode 2
    p.out(0x40, 100);
    p.to(11);
    expect([p.in(0x40), p.in(0x40)]).toEqual([90, 90]);
    p.out(0x43, 0x24); // MSB only
    p.out(0x40, 0x10);
    p.to(12 + 0x100);
    expect(p.in(0x40)).toBe(0x0f);
  });

  it('reads back status and count', () => {
    const p = setup();
    p.out(0x43, 0xb6); // counter 2, mode 3
    p.out(0x43, 0xe8); // status of counter 2
    expect(p.in(0x42)).toBe(0xf6); // output high, null count
    p.out(0x61, 1);
    p.out(0x42, 100, 0);
    p.to(11);
    p.out(0x43, 0xc8); // both: status first
    expect(p.in(0x42)).toBe(0xb6);
    expect(word(p, 0x42)).toBe(80);
  });

  it('counts in BCD', () => {
    const p = setup();
    p.out(0x43, 0x35);
    p.out(0x40, 0x00, 0x10); // 1000
    p.to(2);
    expect(word(p, 0x40)).toBe(0x0999);
  });

  it('port 0x61: gate and output of counter 2, refresh toggle', () => {
    const p = setup();
    p.out(0x61, 0);
    p.out(0x43, 0xb0); // counter 2, mode 0
    p.out(0x42, 50, 0);
    p.to(1000);
    expect(p.in(0x61) & 0x23).toBe(0); // gate low: does not count
    p.out(0x61, 1);
    p.to(1049);
    expect(p.in(0x61) & 0x21).toBe(0x01);
    p.to(1051);
    expect(p.in(0x61) & 0x21).toBe(0x21);
    const seen = new Set<number>();
    for (let t = 2000; t < 2040; t++) {
      p.to(t);
      seen.add(p.in(0x61) & 0x10);
    }
    expect(seen.size).toBe(2);
  });

  it('mode 1: a rising gate triggers, again and again', () => {
    const p = setup();
    p.out(0x61, 0);
    p.out(0x43, 0xb2);
    p.out(0x42, 20, 0);
    p.to(100);
    expect(p.in(0x61) & 0x20).toBe(0x20);
    p.out(0x61, 1);
    p.to(101);
    expect(p.in(0x61) & 0x20).toBe(0);
    p.to(110);
    p.out(0x61, 0);
    p.out(0x61, 1);
    p.to(125);
    expect(p.in(0x61) & 0x20).toBe(0);
    p.to(131);
    expect(p.in(0x61) & 0x20).toBe(0x20);
  });

  it('continues from saved state', () => {
    const a = setup();
    a.out(0x43, 0x36);
    a.out(0x40, 10, 0);
    a.to(13);
    const b = setup();
    b.to(13);
    b.pit.load(JSON.parse(JSON.stringify(a.pit.save())));
    b.queue.load(JSON.parse(JSON.stringify(a.queue.save())));
    a.log.length = 0;
    a.to(50);
    b.to(50);
    expect(b.log).toEqual(a.log);
    expect(b.pit.save()).toEqual(a.pit.save());
  });
});
