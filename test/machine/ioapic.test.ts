import { describe, expect, it } from 'vitest';
import { testPlatform, type TestPlatform } from './test-platform.ts';

// Expectations: Intel 82093AA data sheet.
const select = (p: TestPlatform, register: number): void => p.platform.writeMemory(0, 0xfec00000, 4, register);
const read = (p: TestPlatform, register: number): number => {
  select(p, register);
  return p.platform.readMemory(0, 0xfec00010, 4);
};
const write = (p: TestPlatform, register: number, value: number): void => {
  select(p, register);
  p.platform.writeMemory(0, 0xfec00010, 4, value);
};
const apic = (p: TestPlatform, register: number, value: number): void => p.platform.writeMemory(0, 0xfee00000 + register, 4, value);

function setup(): TestPlatform {
  const p = testPlatform();
  apic(p, 0xf0, 0x1ff);
  apic(p, 0x350, 0x10000); // PIC off
  return p;
}

describe('I/O APIC', () => {
  it('has version 11h, 24 entries, all masked', () => {
    const p = setup();
    expect(read(p, 1)).toBe(0x00170011);
    for (let pin = 0; pin < 24; pin++) expect([read(p, 0x10 + pin * 2), read(p, 0x11 + pin * 2)]).toEqual([0x10000, 0]);
    expect(read(p, 0) >>> 24).toBe(1);
    write(p, 0, 0x05000000);
    expect(read(p, 0)).toBe(0x05000000);
  });

  it('edge-triggered: one message per rising edge; edges on a masked input are lost', () => {
    const p = setup();
    p.platform.setIrq(4, true);
    write(p, 0x18, 0x24);
    expect(p.lines[0]).toBe(false);
    p.platform.setIrq(4, false);
    p.platform.setIrq(4, true);
    expect(p.platform.acknowledge(0)).toBe(0x24);
    apic(p, 0xb0, 0);
    expect(p.lines[0]).toBe(false);
  });

  it('level-triggered: remote IRR from acceptance to EOI, again while the line is up', () => {
    const p = setup();
    write(p, 0x1a, 0x8025);
    p.platform.setIrq(5, true);
    expect(read(p, 0x1a)).toBe(0xc025);
    expect(p.platform.acknowledge(0)).toBe(0x25);
    expect(p.platform.readMemory(0, 0xfee00190, 4)).toBe(1 << 5); // TMR
    apic(p, 0xb0, 0);
    expect(p.lines[0]).toBe(true); // line still up
    expect(p.platform.acknowledge(0)).toBe(0x25);
    p.platform.setIrq(5, false);
    apic(p, 0xb0, 0);
    expect(read(p, 0x1a)).toBe(0x8025);
    expect(p.lines[0]).toBe(false);
    write(p, 0x1a, 0x18025);
    p.platform.setIrq(5, true);
    expect(p.lines[0]).toBe(false);
    write(p, 0x1a, 0x8025); // a level is seen when it is unmasked
    expect(p.lines[0]).toBe(true);
  });

  it('active low inverts the line', () => {
    const p = setup();
    p.platform.setIrq(6, true);
    write(p, 0x1c, 0x2026);
    p.platform.setIrq(6, false);
    expect(p.platform.acknowledge(0)).toBe(0x26);
  });

  it('connects IRQ 0 to input 2', () => {
    const p = setup();
    write(p, 0x14, 0x20);
    p.out(0x43, 0x34);
    p.out(0x40, 0xa9);
    p.out(0x40, 0x04); // 1193 clocks: 1 ms
    p.run(1_100_000);
    expect(p.platform.acknowledge(0)).toBe(0x20);
  });

  it('finds logical destinations, and keeps a level pending when nobody is addressed', () => {
    const p = setup();
    apic(p, 0xd0, 0x02000000);
    write(p, 0x17, 0x02000000);
    write(p, 0x16, 0x0823);
    p.platform.setIrq(3, true);
    expect(p.platform.acknowledge(0)).toBe(0x23);
    apic(p, 0xb0, 0);
    p.platform.setIrq(3, false);
    write(p, 0x17, 0x04000000);
    write(p, 0x16, 0x8823);
    p.platform.setIrq(3, true);
    expect(p.lines[0]).toBe(false);
    expect(read(p, 0x16)).toBe(0x8823);
  });
});
