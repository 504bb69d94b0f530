import { describe, expect, it } from 'vitest';
import { testPlatform, type TestPlatform } from './test-platform.ts';

// Expectations: SDM "Advanced Programmable Interrupt Controller (APIC)".
const APIC = 0xfee00000;
const read = (p: TestPlatform, register: number, cpu = 0): number => p.platform.readMemory(cpu, APIC + register, 4);
const write = (p: TestPlatform, register: number, value: number, cpu = 0): void => p.platform.writeMemory(cpu, APIC + register, 4, value);

function enabled(options: Parameters<typeof testPlatform>[0] = {}): TestPlatform {
  const p = testPlatform(options);
  for (let cpu = 0; cpu < (options.cpus ?? 1); cpu++) write(p, 0xf0, 0x1ff, cpu);
  return p;
}
const selfIpi = (p: TestPlatform, vector: number): void => write(p, 0x300, 0x40000 | vector);

describe('local APIC', () => {
  it('has its registers where the manual puts them', () => {
    const p = testPlatform({ cpus: 2 });
    expect(read(p, 0x20, 0)).toBe(0);
    expect(read(p, 0x20, 1)).toBe(0x01000000);
    expect(read(p, 0x30)).toBe(0x00050014);
    expect(read(p, 0xe0)).toBe(0xffffffff);
    expect(read(p, 0x80)).toBe(0);
    for (const lvt of [0x320, 0x330, 0x340, 0x370]) expect(read(p, lvt)).toBe(0x10000);
    // firmware's virtual wire mode on the first CPU, reset state on the others
    expect([read(p, 0x350, 0), read(p, 0x360, 0), read(p, 0xf0, 0)]).toEqual([0x700, 0x400, 0x1ff]);
    expect([read(p, 0x350, 1), read(p, 0x360, 1), read(p, 0xf0, 1)]).toEqual([0x10000, 0x10000, 0xff]);
    expect(p.platform.apics.map(a => a.base)).toEqual([0xfee00900, 0xfee00800]);
  });

  it('writes the defined bits only', () => {
    const p = enabled();
    write(p, 0x20, 0xffffffff);
    expect(read(p, 0x20)).toBe(0xff000000);
    write(p, 0xd0, 0x12345678);
    expect(read(p, 0xd0)).toBe(0x12000000);
    write(p, 0xe0, 0);
    expect(read(p, 0xe0)).toBe(0x0fffffff);
    write(p, 0x320, 0xffffffff);
    expect(read(p, 0x320)).toBe(0x300ff);
    write(p, 0x30, 0);
    expect(read(p, 0x30)).toBe(0x00050014);
  });

  it('delivers by class against the processor priority, in service until EOI', () => {
    const p = enabled();
    selfIpi(p, 0x31);
    selfIpi(p, 0x45);
    expect(p.lines[0]).toBe(true);
    expect(read(p, 0x210)).toBe(1 << 0x11); // IRR 32..63
    expect(read(p, 0x220)).toBe(1 << 5);
    expect(p.platform.acknowledge(0)).toBe(0x45);
    expect(read(p, 0x120)).toBe(1 << 5);
    expect(read(p, 0xa0)).toBe(0x40);
    expect(p.lines[0]).toBe(false);
    selfIpi(p, 0x4f); // same class: waits
    expect(p.lines[0]).toBe(false);
    selfIpi(p, 0x50);
    expect(p.platform.acknowledge(0)).toBe(0x50);
    write(p, 0xb0, 0);
    write(p, 0xb0, 0);
    expect(p.platform.acknowledge(0)).toBe(0x4f);
    write(p, 0xb0, 0);
    expect(p.platform.acknowledge(0)).toBe(0x31);
    expect(p.platform.acknowledge(0)).toBe(-1);
  });

  it('the task priority holds back its class and below; CR8 is its upper half', () => {
    const p = enabled();
    write(p, 0x80, 0x3f);
    expect(p.platform.apics[0]!.cr8).toBe(3);
    selfIpi(p, 0x3e);
    expect(p.lines[0]).toBe(false);
    p.platform.apics[0]!.cr8 = 2;
    expect(read(p, 0x80)).toBe(0x20);
    expect(p.lines[0]).toBe(true);
  });

  it('timer: one shot, periodic, divided, masked', () => {
    const p = enabled();
    write(p, 0x3e0, 0xb); // divide by 1
    write(p, 0x320, 0x30);
    write(p, 0x380, 1000);
    p.run(400);
    expect(read(p, 0x390)).toBe(600);
    p.run(599);
    expect(p.lines[0]).toBe(false);
    p.run(1);
    expect(p.platform.acknowledge(0)).toBe(0x30);
    write(p, 0xb0, 0);
    expect(read(p, 0x390)).toBe(0);
    p.run(5000);
    expect(p.lines[0]).toBe(false);

    write(p, 0x320, 0x20031);
    write(p, 0x380, 100);
    for (let i = 0; i < 3; i++) {
      p.run(100);
      expect(p.platform.acknowledge(0)).toBe(0x31);
      write(p, 0xb0, 0);
    }
    p.run(30);
    expect(read(p, 0x390)).toBe(70);
    write(p, 0x3e0, 0x3); // divide by 16 from here on
    p.run(160);
    expect(read(p, 0x390)).toBe(60);
    write(p, 0x320, 0x30031); // masked: counts, requests nothing
    p.run(16 * 200);
    expect(p.lines[0]).toBe(false);
    write(p, 0x380, 0);
    expect(p.platform.queue.next()).toBe(Infinity);
  });

  it('timer divide values', () => {
    for (const [code, divisor] of [[0, 2], [1, 4], [2, 8], [3, 16], [8, 32], [9, 64], [10, 128], [11, 1]] as const) {
      const p = enabled({ busDivisor: 3 });
      write(p, 0x3e0, code);
      write(p, 0x320, 0x40);
      write(p, 0x380, 10);
      expect(p.platform.queue.next()).toBe(10 * 3 * divisor);
    }
  });

  it('software-disabled: entries are masked and stay so, new interrupts are refused', () => {
    const p = enabled();
    write(p, 0x320, 0x30);
    write(p, 0xf0, 0xff);
    expect(read(p, 0x320)).toBe(0x10030);
    write(p, 0x320, 0x30);
    expect(read(p, 0x320)).toBe(0x10030);
    selfIpi(p, 0x55);
    expect(p.lines[0]).toBe(false);
  });

  it('can be disabled and enabled again through IA32_APIC_BASE, coming back in reset state', () => {
    const p = enabled();
    const apic = p.platform.apics[0]!;
    write(p, 0xd0, 0x01000000);
    apic.base = 0xfee00000;
    expect(apic.base).toBe(0xfee00100); // BSP is read-only
    expect(read(p, 0x30)).toBe(0xffffffff); // nobody answers
    apic.base = 0xfee00900;
    expect(read(p, 0x30)).toBe(0x00050014);
    expect(read(p, 0xd0)).toBe(0);
    write(p, 0xf0, 0x1ff);
    selfIpi(p, 0x44);
    expect(p.platform.acknowledge(0)).toBe(0x44);
    apic.base = 0xfed40900; // moved
    expect(p.platform.readMemory(0, 0xfed40030, 4)).toBe(0x00050014);
  });

  it('reports errors: illegal vectors and registers, latched by a write', () => {
    const p = enabled();
    write(p, 0x370, 0xee);
    selfIpi(p, 0x05);
    expect(p.platform.acknowledge(0)).toBe(0xee);
    expect(read(p, 0x280)).toBe(0);
    write(p, 0x280, 0);
    expect(read(p, 0x280)).toBe(0x20);
    read(p, 0x3f0);
    write(p, 0x280, 0);
    expect(read(p, 0x280)).toBe(0x80);
    write(p, 0x280, 0);
    expect(read(p, 0x280)).toBe(0);
  });

  it('sends to others: physical, logical flat and cluster, broadcast, lowest priority', () => {
    const p = enabled({ cpus: 3 });
    const took = (): number[] => p.platform.apics.map((_, cpu) => {
      const v = p.platform.acknowledge(cpu);
      if (v >= 0) write(p, 0xb0, 0, cpu);
      return v;
    });
    write(p, 0x310, 0x02000000);
    write(p, 0x300, 0x4041);
    expect(read(p, 0x300) & 0x1000).toBe(0);
    expect(took()).toEqual([-1, -1, 0x41]);
    for (let cpu = 0; cpu < 3; cpu++) write(p, 0xd0, (1 << cpu) << 24, cpu);
    write(p, 0x310, 0x03000000);
    write(p, 0x300, 0x4842);
    expect(took()).toEqual([0x42, 0x42, -1]);
    write(p, 0x300, 0x84043);
    expect(took()).toEqual([0x43, 0x43, 0x43]);
    write(p, 0x300, 0xc4044);
    expect(took()).toEqual([-1, 0x44, 0x44]);
    write(p, 0x310, 0xff000000);
    write(p, 0x300, 0x4045);
    expect(took()).toEqual([0x45, 0x45, 0x45]);
    write(p, 0x80, 0x20, 0); // CPU 0 has the higher task priority
    write(p, 0x310, 0x03000000);
    write(p, 0x300, 0x4946);
    expect(took()).toEqual([-1, 0x46, -1]);
    for (let cpu = 0; cpu < 3; cpu++) {
      write(p, 0xe0, 0, cpu);
      write(p, 0xd0, (0x10 | (1 << cpu)) << 24, cpu);
    }
    write(p, 0x310, 0x16000000);
    write(p, 0x300, 0x4847);
    expect(took()).toEqual([-1, 0x47, 0x47]);
  });

  it('passes on INIT, start-up and NMI', () => {
    const p = enabled({ cpus: 2 });
    write(p, 0x300, 0xc4500); // INIT assert, all but self
    write(p, 0x300, 0xc8500); // INIT level de-assert: nothing
    write(p, 0x310, 0x01000000);
    write(p, 0x300, 0x4608);
    write(p, 0x300, 0x4400);
    expect(p.signals).toEqual(['init 1 0', 'startUp 1 8', 'nmi 1 2']);
    p.platform.apics[1]!.init();
    expect([read(p, 0x20, 1), read(p, 0xf0, 1)]).toEqual([0x01000000, 0xff]);
  });

  it('takes the PIC through LINT0 in ExtINT mode, and directly when it is off', () => {
    const p = testPlatform();
    for (const [port, ...values] of [[0x20, 0x11], [0x21, 0x20, 0x04, 0x01], [0xa0, 0x11], [0xa1, 0x28, 0x02, 0x01]] as const) for (const v of values) p.out(port, v);
    p.platform.setIrq(5, true);
    expect(p.lines[0]).toBe(true);
    write(p, 0x350, 0x10700);
    expect(p.lines[0]).toBe(false);
    write(p, 0x350, 0x700);
    expect(p.lines[0]).toBe(true);
    write(p, 0x320, 0x99);
    write(p, 0x3e0, 0xb);
    write(p, 0x380, 1);
    p.run(1);
    expect(p.platform.acknowledge(0)).toBe(0x99); // the APIC's own first
    expect(p.platform.acknowledge(0)).toBe(0x25);
    p.platform.setIrq(5, false);
    p.out(0x20, 0x20);
    p.platform.apics[0]!.base = 0xfee00000;
    p.platform.setIrq(5, true);
    expect(p.lines[0]).toBe(true);
    expect(p.platform.acknowledge(0)).toBe(0x25);
  });

  it('shows parts of registers to small reads, ignores small writes and says so', () => {
    const p = enabled();
    expect(p.platform.readMemory(0, APIC + 0x30, 1)).toBe(0x14);
    expect(p.platform.readMemory(0, APIC + 0x32, 2)).toBe(0x0005);
    p.platform.writeMemory(0, APIC + 0x80, 1, 0x20);
    expect(read(p, 0x80)).toBe(0);
    expect(p.reports).toHaveLength(1);
  });
});
