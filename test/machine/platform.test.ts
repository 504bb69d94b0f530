import { describe, expect, it } from 'vitest';
import { MachineBus } from '../../machine/bus.ts';
import { testPlatform, type TestPlatform } from './test-platform.ts';

const hex = (b: Uint8Array): number[] => [...b];

function tables(cpus: number): Uint8Array {
  const memory = new Uint8Array(0x100000);
  testPlatform({ cpus }).platform.writeTables((at, bytes) => memory.set(bytes, at), 0x106a5, 0x0fabfbff);
  return memory;
}

describe('MP table', () => {
  // Intel MultiProcessor Specification 1.4, chapter "MP Configuration Table"
  it('is found, sums to zero and lists CPUs, bus, I/O APIC and interrupts', () => {
    const memory = tables(2);
    const view = new DataView(memory.buffer);
    let pointer = -1;
    for (let at = 0xf0000; at < 0x100000; at += 16) if (view.getUint32(at, true) === 0x5f504d5f) pointer = at;
    expect(pointer).toBeGreaterThan(0);
    const sum = (from: number, length: number): number => hex(memory.subarray(from, from + length)).reduce((a, b) => a + b, 0) & 0xff;
    expect(sum(pointer, 16)).toBe(0);
    expect([memory[pointer + 8], memory[pointer + 9], memory[pointer + 11], memory[pointer + 12]]).toEqual([1, 4, 0, 0]);
    const table = view.getUint32(pointer + 4, true);
    expect(String.fromCharCode(...memory.subarray(table, table + 4))).toBe('PCMP');
    const length = view.getUint16(table + 4, true);
    expect(sum(table, length)).toBe(0);
    expect(memory[table + 6]).toBe(4);
    expect(view.getUint32(table + 36, true)).toBe(0xfee00000);
    const kinds: number[] = [];
    const irqs: number[][] = [];
    let at = table + 44;
    for (let i = 0; i < view.getUint16(table + 34, true); i++) {
      const kind = memory[at]!;
      kinds.push(kind);
      if (kind === 0) expect([memory[at + 1], memory[at + 3]]).toEqual([kinds.length - 1, kinds.length === 1 ? 3 : 1]);
      if (kind === 2) expect([memory[at + 1], memory[at + 2], memory[at + 3], view.getUint32(at + 4, true)]).toEqual([2, 0x11, 1, 0xfec00000]);
      if (kind === 3) irqs.push([memory[at + 5]!, memory[at + 7]!]);
      at += kind === 0 ? 20 : 8;
    }
    expect(at).toBe(table + length);
    expect(kinds.filter(k => k === 0)).toHaveLength(2);
    expect(irqs).toContainEqual([0, 2]);
    expect(irqs).toContainEqual([4, 4]);
    expect(kinds.filter(k => k === 4)).toHaveLength(2);
  });

  it('leaves the words through which systems search: extended BIOS data segment and base memory', () => {
    const view = new DataView(tables(1).buffer);
    expect(view.getUint16(0x40e, true)).toBe(0x9fc0);
    expect(view.getUint16(0x413, true)).toBe(639);
  });
});

describe('CMOS', () => {
  const cmos = (p: TestPlatform, register: number): number => {
    p.out(0x70, register);
    return p.in(0x71);
  };

  it('tells the memory size as PC firmware does', () => {
    const p = testPlatform({ memorySize: 64 << 20 });
    expect(cmos(p, 0x15) | (cmos(p, 0x16) << 8)).toBe(640);
    expect(cmos(p, 0x17) | (cmos(p, 0x18) << 8)).toBe(63 * 1024);
    expect(cmos(p, 0x30) | (cmos(p, 0x31) << 8)).toBe(63 * 1024);
    expect(cmos(p, 0x34) | (cmos(p, 0x35) << 8)).toBe(48 * 16);
    const big = testPlatform({ memorySize: 1 << 30 });
    expect(cmos(big, 0x17) | (cmos(big, 0x18) << 8)).toBe(0xffff);
    expect(cmos(big, 0x34) | (cmos(big, 0x35) << 8)).toBe((1024 - 16) * 16);
  });

  it('starts at a constant date in BCD and advances with cycles', () => {
    const p = testPlatform();
    const time = (): number[] => [0x32, 9, 8, 7, 6, 4, 2, 0].map(r => cmos(p, r));
    expect(time()).toEqual([0x20, 0x05, 0x11, 0x14, 0x02, 0x00, 0x00, 0x00]);
    p.run(86399 * 1_000_000_000);
    expect(time()).toEqual([0x20, 0x05, 0x11, 0x14, 0x02, 0x23, 0x59, 0x59]);
    p.run(1_000_000_000);
    expect(time()).toEqual([0x20, 0x05, 0x11, 0x15, 0x03, 0x00, 0x00, 0x00]);
    expect(cmos(p, 0xd)).toBe(0x80);
  });

  it('shows update in progress shortly before the seconds change', () => {
    const p = testPlatform();
    expect(cmos(p, 0xa)).toBe(0x26);
    p.run(999_900_000);
    expect(cmos(p, 0xa)).toBe(0xa6);
    p.run(100_000);
    expect(cmos(p, 0xa)).toBe(0x26);
  });

  it('can be set, in binary and 12-hour form too', () => {
    const p = testPlatform();
    const set = (r: number, v: number): void => {
      p.out(0x70, r);
      p.out(0x71, v);
    };
    set(9, 0x24);
    set(8, 0x02);
    set(7, 0x28);
    set(4, 0x23);
    set(2, 0x59);
    set(0, 0x59);
    p.run(1_000_000_000);
    expect([8, 7, 4, 6].map(r => cmos(p, r))).toEqual([0x02, 0x29, 0x00, 0x05]); // a leap day, a Thursday
    set(0xb, 0x04); // binary, 12 hours
    set(4, 0x8b); // 11 p.m.
    expect([9, 4]).toEqual([9, 4]);
    expect(cmos(p, 9)).toBe(24);
    expect(cmos(p, 4)).toBe(0x8b);
  });

  it('keeps other bytes and raises periodic interrupts on IRQ 8', () => {
    const p = testPlatform();
    for (const [port, ...values] of [[0x20, 0x11], [0x21, 0x20, 0x04, 0x01], [0xa0, 0x11], [0xa1, 0x28, 0x02, 0x01]] as const) for (const v of values) p.out(port, v);
    p.out(0x70, 0x0f);
    p.out(0x71, 0x0a);
    expect(p.in(0x71)).toBe(0x0a);
    p.out(0x70, 0x0b);
    p.out(0x71, 0x42);
    p.run(976_562);
    expect(p.lines[0]).toBe(false);
    p.run(1); // 1/1024 s
    expect(p.platform.acknowledge(0)).toBe(0x28);
    p.out(0x70, 0x0c);
    expect(p.in(0x71)).toBe(0xc0);
    expect(p.in(0x71)).toBe(0);
  });
});

describe('ports', () => {
  it('stops: power-off by word at 0x604, debug exit at any width, the word Shutdown', () => {
    const p = testPlatform();
    p.out(0x604, 0x2000, 2);
    p.out(0xf4, 0x10, 1);
    p.out(0xf4, 0x12345, 4);
    for (const c of 'ShutShutdown') p.out(0x8900, c.charCodeAt(0));
    expect(p.stops).toEqual([{ kind: 'poweroff' }, { kind: 'debugExit', status: 0x10 }, { kind: 'debugExit', status: 0x45 }, { kind: 'poweroff' }]);
    p.out(0x604, 0x0000, 2);
    expect(p.stops).toHaveLength(4);
  });

  it('keeps POST code and cursor registers, shows no key and A20 on', () => {
    const p = testPlatform();
    p.out(0x80, 0x55);
    expect(p.in(0x80)).toBe(0x55);
    expect(p.platform.system.postCode).toBe(0x55);
    p.out(0x3d4, 14);
    p.out(0x3d5, 0x03);
    p.out(0x3d4, 15);
    p.out(0x3d5, 0x21);
    p.out(0x3d4, 14);
    expect(p.in(0x3d5)).toBe(0x03);
    p.out(0x3d4, 0x0f21, 2); // index and data in one word
    expect([p.in(0x3d4), p.in(0x3d5)]).toEqual([1, 0x0f]);
    expect(p.in(0x64)).toBe(0);
    expect(p.in(0x92) & 2).toBe(2);
  });

  it('absent ports read all ones and are reported once', () => {
    const p = testPlatform();
    expect(p.in(0x1f7)).toBe(0xff);
    expect(p.in(0xcfc, 4)).toBe(0xffffffff);
    expect(p.in(0x1f7, 2)).toBe(0xffff);
    p.out(0x1f7, 1);
    expect(p.reports.filter(r => r.includes('0x1f7 '))).toHaveLength(1);
    expect(p.reports).toHaveLength(6);
  });

  it('absent memory reads all ones and is reported once per page', () => {
    const p = testPlatform();
    const bus = new MachineBus(p.platform, 0);
    expect(bus.readPhysical(0xfd000000, 4)).toBe(0xffffffff);
    expect(bus.readPhysical(0xfd000010, 1)).toBe(0xff);
    bus.writePhysical(0xfd000020, 4, 1);
    expect(p.reports).toHaveLength(1);
  });

  it('sends characters out, and takes input at its cycle', () => {
    const p = testPlatform();
    const bus = new MachineBus(p.platform, 0);
    for (const c of 'hi\n') bus.ioWrite(0x3f8, 1, c.charCodeAt(0));
    expect(p.output()).toBe('hi\n');
    p.platform.input.add([{ cycle: 100, byte: 0x61 }, { cycle: 50, byte: 0x62 }]);
    p.run(99);
    expect(bus.ioRead(0x3fd, 1) & 1).toBe(0);
    p.run(1);
    expect(bus.ioRead(0x3f8, 1)).toBe(0x61);
    expect(bus.ioRead(0x3f8, 1)).toBe(0x62);
    expect(p.platform.input.delivered).toEqual([{ cycle: 100, byte: 0x61 }, { cycle: 100, byte: 0x62 }]);
  });
});

describe('whole platform', () => {
  /** Programs everything so that several events are pending and in service. */
  function busy(): TestPlatform {
    const p = testPlatform({ frequency: 2_930_000_000, busDivisor: 22 });
    for (const [port, ...values] of [[0x20, 0x11], [0x21, 0x20, 0x04, 0x01, 0x00], [0xa0, 0x11], [0xa1, 0x28, 0x02, 0x01, 0x00], [0x43, 0x34], [0x40, 0xa9, 0x04], [0x3f9, 0x01], [0x3fa, 0x01], [0x70, 0x0b], [0x71, 0x42]] as const) {
      for (const v of values) p.out(port, v);
    }
    const apic = (r: number, v: number): void => p.platform.writeMemory(0, 0xfee00000 + r, 4, v);
    apic(0xf0, 0x1ff);
    apic(0x3e0, 0xb);
    apic(0x320, 0x20040);
    apic(0x380, 77777);
    p.platform.writeMemory(0, 0xfec00000, 4, 0x18);
    p.platform.writeMemory(0, 0xfec00010, 4, 0x8044);
    p.platform.input.add([..."ls\n"].map((c, i) => ({ cycle: 3_000_000 * (i + 1), byte: c.charCodeAt(0) })));
    return p;
  }
  /** A handler that acknowledges everything, every 10,000 cycles. */
  function drive(p: TestPlatform, steps: number): string[] {
    const log: string[] = [];
    for (let i = 0; i < steps; i++) {
      p.run(10_000);
      const vector = p.lines[0] ? p.platform.acknowledge(0) : -1;
      if (vector < 0) continue;
      log.push(`${vector}@${p.now()}`);
      if (vector === 0x40 || vector === 0x44) p.platform.writeMemory(0, 0xfee000b0, 4, 0);
      else {
        if (vector >= 0x28) p.out(0xa0, 0x20);
        p.out(0x20, 0x20);
      }
      if (vector === 0x44 || vector === 0x24) log.push(`byte ${p.in(0x3f8)}`);
      if (vector === 0x28) {
        p.out(0x70, 0x0c);
        p.in(0x71);
      }
    }
    return log;
  }

  it('save, load, continue equals the uninterrupted run', () => {
    const whole = busy();
    const first = drive(whole, 300);
    const second = drive(whole, 700);
    const before = busy();
    expect(drive(before, 300)).toEqual(first);
    const saved = JSON.stringify(before.platform.save());
    const after = testPlatform({ frequency: 2_930_000_000, busDivisor: 22, startAt: before.now() });
    after.platform.load(JSON.parse(saved));
    expect(JSON.stringify(after.platform.save())).toBe(saved);
    expect(after.lines).toEqual(before.lines);
    expect(drive(after, 700)).toEqual(second);
    expect(JSON.stringify(after.platform.save())).toBe(JSON.stringify(whole.platform.save()));
    for (const vector of [0x20, 0x28, 0x40, 0x44]) expect([...first, ...second].some(l => l.startsWith(`${vector}@`)), `vector ${vector}`).toBe(true);
  });

  it('reset brings back the power-on state', () => {
    const p = busy();
    drive(p, 100);
    p.platform.reset();
    const ports = (s: unknown): unknown => ({ ...(s as Record<string, unknown>), ports: null, mmio: null });
    expect(ports(p.platform.save())).toEqual(ports(testPlatform({ frequency: 2_930_000_000, busDivisor: 22 }).platform.save()));
  });

  it('refuses state of another configuration', () => {
    const saved = testPlatform({ cpus: 1 }).platform.save();
    expect(() => testPlatform({ cpus: 2 }).platform.load(saved)).toThrow(/apic1/);
  });
});
