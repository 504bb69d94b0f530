import { describe, expect, it } from 'vitest';
import { Clock, EventQueue } from '../../machine/clock.ts';
import { Uart } from '../../machine/uart.ts';

// Expectations: National Semiconductor PC16550D data sheet.
function setup(): { uart: Uart; level: () => boolean; edges: () => number; sent: number[]; pass: (cycles: number) => void; read: (r: number) => number; write: (r: number, v: number) => void; queue: EventQueue } {
  let now = 0;
  let level = false;
  let edges = 0;
  const sent: number[] = [];
  const time = new Clock(1_000_000_000, () => now);
  const queue = new EventQueue(time);
  const uart = new Uart('com1', time, queue, l => {
    if (l && !level) edges++;
    level = l;
  }, b => sent.push(b));
  return {
    uart, queue, sent, level: () => level, edges: () => edges,
    pass: cycles => {
      now += cycles;
      queue.runDue(now);
    },
    read: r => uart.readPort(0x3f8 + r), write: (r, v) => uart.writePort(0x3f8 + r, 1, v),
  };
}

describe('16550A', () => {
  it('reads its reset state: IIR 01, LSR 60, no FIFO', () => {
    const { read } = setup();
    expect(read(2)).toBe(0x01);
    expect(read(5)).toBe(0x60);
    expect(read(1)).toBe(0);
    expect(read(3)).toBe(0);
    expect(read(4)).toBe(0);
  });

  it('maps the divisor latch over data and interrupt enable while DLAB is set', () => {
    const { read, write, sent } = setup();
    write(3, 0x83);
    write(0, 0x34);
    write(1, 0x12);
    expect([read(0), read(1)]).toEqual([0x34, 0x12]);
    write(3, 0x03);
    expect(read(1)).toBe(0);
    write(0, 0x41);
    expect(sent).toEqual([0x41]);
    write(7, 0x5a);
    expect(read(7)).toBe(0x5a);
  });

  it('is always ready to transmit, and interrupts on each emptying', () => {
    const { read, write, sent, level, edges } = setup();
    write(1, 0x02);
    expect(level()).toBe(true); // enabling ETBEI while THR is empty interrupts
    expect(read(2)).toBe(0x02);
    expect(level()).toBe(false); // reading IIR resets it
    write(0, 0x61);
    expect(read(5) & 0x60).toBe(0x60);
    expect(level()).toBe(true);
    expect(edges()).toBe(2);
    write(0, 0x62);
    expect(edges()).toBe(3); // writing THR resets the request, emptying raises it again
    expect(sent).toEqual([0x61, 0x62]);
  });

  it('receives without FIFO one byte at a time, with an edge for each', () => {
    const { uart, read, write, level, edges } = setup();
    write(1, 0x01);
    uart.receive(0x68);
    uart.receive(0x69);
    expect(level()).toBe(true);
    expect(read(2)).toBe(0x04);
    expect(read(5)).toBe(0x61);
    expect(read(0)).toBe(0x68);
    expect(edges()).toBe(2);
    expect(read(0)).toBe(0x69);
    expect(level()).toBe(false);
    expect(read(5)).toBe(0x60);
  });

  it('announces a FIFO at its trigger level, and less than that after four character times', () => {
    const { uart, read, write, level, pass } = setup();
    write(3, 0x83);
    write(0, 1); // 115200 baud
    write(1, 0);
    write(3, 0x03); // 8N1: 10 bits
    write(2, 0x41); // FIFO on, trigger 4
    write(1, 0x01);
    expect(read(2)).toBe(0xc1);
    for (const b of [1, 2, 3]) uart.receive(b);
    expect(level()).toBe(false);
    const fourCharacters = Math.ceil(40e9 / 115200);
    pass(fourCharacters - 1);
    expect(level()).toBe(false);
    pass(1);
    expect(level()).toBe(true);
    expect(read(2)).toBe(0xcc);
    expect(read(0)).toBe(1);
    expect(level()).toBe(false); // reading RBR resets the timeout
    uart.receive(4);
    uart.receive(5);
    expect(read(2)).toBe(0xc4);
    expect([read(0), read(0), read(0), read(0)]).toEqual([2, 3, 4, 5]);
    expect(read(2)).toBe(0xc1);
  });

  it('holds 16 bytes and takes more when they are read; clearing empties the FIFO', () => {
    const { uart, read, write } = setup();
    write(2, 0x01);
    for (let i = 0; i < 20; i++) uart.receive(i);
    for (let i = 0; i < 16; i++) expect(read(0)).toBe(i);
    expect(read(5) & 1).toBe(1);
    write(2, 0x03); // clear
    expect(read(5) & 1).toBe(0);
    expect(uart.unread).toBe(0);
  });

  it('loops back data and modem lines, reports overrun with highest priority', () => {
    const { read, write, sent, level } = setup();
    write(4, 0x1a); // loopback, RTS and OUT2
    read(6);
    expect(read(6)).toBe(0x90); // CTS and DCD
    write(1, 0x05);
    write(0, 0x77);
    expect(sent).toEqual([]);
    expect(read(2)).toBe(0x04);
    write(0, 0x78); // overrun: the first byte is destroyed
    expect(read(2)).toBe(0x06);
    expect(read(5)).toBe(0x63);
    expect(read(5)).toBe(0x61); // reading LSR clears the error
    expect(read(0)).toBe(0x78);
    expect(level()).toBe(false);
    write(4, 0x00);
    expect(read(6) & 0xf0).toBe(0xb0);
    expect(read(6) & 0x0f).toBe(0); // deltas are cleared by reading
  });

  it('continues from saved state', () => {
    const a = setup();
    a.write(2, 0x01);
    a.write(1, 0x01);
    a.uart.receive(9);
    const b = setup();
    b.uart.load(JSON.parse(JSON.stringify(a.uart.save())));
    b.queue.load(JSON.parse(JSON.stringify(a.queue.save())));
    expect(b.uart.save()).toEqual(a.uart.save());
    expect(b.read(2)).toBe(0xc4);
    expect(b.read(0)).toBe(9);
  });
});
