import { describe, expect, it } from 'vitest';
import { PicPair } from '../../machine/pic.ts';

// Expectations: Intel 8259A data sheet.
interface Rig { pic: PicPair; int: () => boolean; m: (a0: number, v: number) => void; s: (a0: number, v: number) => void; rm: (a0: number) => number; rs: (a0: number) => number }

function setup(icw4 = 0x01, icw1 = 0x11): Rig {
  let int = false;
  const pic = new PicPair(level => { int = level; });
  const rig: Rig = {
    pic, int: () => int,
    m: (a0, v) => pic.master.writePort(0x20 + a0, 1, v), s: (a0, v) => pic.slave.writePort(0xa0 + a0, 1, v),
    rm: a0 => pic.master.readPort(0x20 + a0), rs: a0 => pic.slave.readPort(0xa0 + a0),
  };
  rig.m(0, icw1);
  rig.m(1, 0x20);
  rig.m(1, 0x04);
  rig.m(1, icw4);
  rig.s(0, icw1);
  rig.s(1, 0x28);
  rig.s(1, 0x02);
  rig.s(1, icw4);
  return rig;
}

const pulse = (r: Rig, irq: number): void => {
  r.pic.setLine(irq, false);
  r.pic.setLine(irq, true);
};

describe('8259A pair', () => {
  it('requests nothing before it is initialized', () => {
    let int = false;
    const pic = new PicPair(l => { int = l; });
    pic.setLine(0, true);
    expect(int).toBe(false);
  });

  it('delivers by priority: vector base plus input, in service until EOI', () => {
    const r = setup();
    pulse(r, 4);
    pulse(r, 1);
    expect(r.int()).toBe(true);
    expect(r.pic.acknowledge()).toBe(0x21);
    r.m(0, 0x0b); // read ISR
    expect(r.rm(0)).toBe(0x02);
    r.m(0, 0x0a); // read IRR
    expect(r.rm(0)).toBe(0x10);
    expect(r.int()).toBe(false); // 4 waits behind 1
    pulse(r, 0);
    expect(r.int()).toBe(true); // 0 does not
    expect(r.pic.acknowledge()).toBe(0x20);
    r.m(0, 0x20); // non-specific EOI ends 0
    r.m(0, 0x0b);
    expect(r.rm(0)).toBe(0x02);
    r.m(0, 0x61); // specific EOI of 1
    expect(r.pic.acknowledge()).toBe(0x24);
  });

  it('masks by IMR', () => {
    const r = setup();
    r.m(1, 0xfe);
    expect(r.rm(1)).toBe(0xfe);
    pulse(r, 3);
    expect(r.int()).toBe(false);
    r.m(1, 0x00);
    expect(r.pic.acknowledge()).toBe(0x23);
  });

  it('edge mode: one request per rising edge, gone if the line falls before it is acknowledged', () => {
    const r = setup();
    r.pic.setLine(5, true);
    expect(r.pic.acknowledge()).toBe(0x25);
    r.m(0, 0x20);
    expect(r.int()).toBe(false); // still high: no new edge
    pulse(r, 5);
    r.pic.setLine(5, false);
    expect(r.int()).toBe(false);
    expect(r.pic.acknowledge()).toBe(0x27); // spurious: input 7
    r.m(0, 0x0b);
    expect(r.rm(0)).toBe(0); // without in-service bit
  });

  it('level mode: requests as long as the line is up', () => {
    const r = setup(0x01, 0x19);
    r.pic.setLine(5, true);
    expect(r.pic.acknowledge()).toBe(0x25);
    r.m(0, 0x20);
    expect(r.int()).toBe(true);
    r.pic.setLine(5, false);
    expect(r.int()).toBe(false);
  });

  it('edge/level register of the chip set selects single inputs', () => {
    const r = setup();
    r.pic.edgeLevel.writePort(0x4d0, 1, 0xff);
    r.pic.edgeLevel.writePort(0x4d1, 1, 0xff);
    expect([r.pic.edgeLevel.readPort(0x4d0, 1), r.pic.edgeLevel.readPort(0x4d1, 1)]).toEqual([0xf8, 0xde]);
    r.pic.setLine(3, true);
    r.pic.acknowledge();
    r.m(0, 0x20);
    expect(r.int()).toBe(true);
  });

  it('cascades: slave vectors, both in service, spurious slave input leaves the master in service', () => {
    const r = setup();
    pulse(r, 12);
    expect(r.pic.acknowledge()).toBe(0x2c);
    r.m(0, 0x0b);
    r.s(0, 0x0b);
    expect([r.rm(0), r.rs(0)]).toEqual([0x04, 0x10]);
    r.s(0, 0x20);
    r.m(0, 0x20);
    expect([r.rm(0), r.rs(0)]).toEqual([0, 0]);
    // IRQ 8 beats IRQ 3 (input 2 beats input 3)
    pulse(r, 3);
    pulse(r, 8);
    expect(r.pic.acknowledge()).toBe(0x28);
    expect(r.pic.acknowledge()).toBe(0x27); // 3 is held back by 2 in service
    // a second slave request is an edge at the master
    const q = setup(0x03); // automatic EOI
    pulse(q, 9);
    pulse(q, 10);
    expect(q.pic.acknowledge()).toBe(0x29);
    expect(q.int()).toBe(true);
    expect(q.pic.acknowledge()).toBe(0x2a);
    expect(q.int()).toBe(false);
  });

  it('automatic EOI leaves nothing in service', () => {
    const r = setup(0x03);
    pulse(r, 6);
    expect(r.pic.acknowledge()).toBe(0x26);
    r.m(0, 0x0b);
    expect(r.rm(0)).toBe(0);
  });

  it('rotates priorities: on EOI, and set outright', () => {
    const r = setup();
    pulse(r, 0);
    r.pic.acknowledge();
    r.m(0, 0xa0); // rotate on non-specific EOI: 0 becomes lowest
    pulse(r, 0);
    pulse(r, 7);
    expect(r.pic.acknowledge()).toBe(0x27);
    r.m(0, 0x20);
    r.m(0, 0xc6); // set priority: 6 lowest, 7 highest
    pulse(r, 7);
    expect(r.pic.acknowledge()).toBe(0x27);
  });

  it('special mask mode lets lower priorities through while a masked one is in service', () => {
    const r = setup();
    pulse(r, 2 + 1);
    r.pic.acknowledge();
    pulse(r, 5);
    expect(r.int()).toBe(false);
    r.m(1, 0x08);
    r.m(0, 0x68); // set special mask mode
    expect(r.int()).toBe(true);
    expect(r.pic.acknowledge()).toBe(0x25);
    r.m(0, 0x48);
    r.m(1, 0x00);
  });

  it('polls', () => {
    const r = setup();
    pulse(r, 4);
    r.m(0, 0x0c);
    expect(r.rm(0)).toBe(0x84);
    r.m(0, 0x0c);
    expect(r.rm(0)).toBe(0x00);
    r.m(0, 0x0b);
    expect(r.rm(0)).toBe(0x10);
  });

  it('ICW1 clears masks, service and special mask, and forgets edges', () => {
    const r = setup();
    r.m(1, 0xff);
    r.pic.setLine(1, true);
    r.m(0, 0x13); // single, ICW4 needed: no ICW3
    r.m(1, 0x48);
    r.m(1, 0x01);
    expect(r.rm(1)).toBe(0);
    expect(r.int()).toBe(false);
    pulse(r, 1);
    expect(r.pic.acknowledge()).toBe(0x49);
  });

  it('continues from saved state', () => {
    const a = setup();
    pulse(a, 4);
    pulse(a, 12);
    a.pic.acknowledge();
    const b = setup();
    b.pic.load(JSON.parse(JSON.stringify(a.pic.save())));
    expect(b.pic.save()).toEqual(a.pic.save());
    a.m(0, 0x20);
    a.s(0, 0x20);
    b.m(0, 0x20);
    b.s(0, 0x20);
    expect(b.pic.acknowledge()).toBe(a.pic.acknowledge());
  });
});
