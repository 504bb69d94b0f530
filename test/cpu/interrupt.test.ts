import { describe, expect, it } from 'vitest';
import { Flag, S, SegmentIndex } from '../../cpu/state.ts';
import { At, hooksWith, Sel, SystemMachine } from './system-machine.ts';

const handler = (vector: number): number => At.handler + vector * 16;

describe('real mode', () => {
  it('INT pushes FLAGS, CS, IP and clears IF and TF; IRET brings them back', () => {
    const m = new SystemMachine().real();
    m.cpu.flags = 0x202 | Flag.DF;
    m.step(0xcd, 0x21);
    expect([m.cpu.rip, m.cpu.selector(SegmentIndex.CS), m.cpu.reg32(4)]).toEqual([0x210, 0x2000, 0x6ffa]);
    expect(m.words(0x6ffa, 3)).toEqual([2, 0x1000, 0x602]);
    expect(m.cpu.flags & Flag.IF).toBe(0);
    m.step(0xcf);
    expect([m.cpu.rip, m.cpu.selector(SegmentIndex.CS), m.cpu.reg32(4), m.cpu.flags]).toEqual([2, 0x1000, 0x7000, 0x602]);
  });
  it('a fault pushes no error code, and RF has no place in the 16-bit image', () => {
    const m = new SystemMachine().real();
    m.deliver(3, 13, 0);
    expect(m.words(0x6ffa, 3)).toEqual([0, 0x1000, 2]);
  });
  it('an IDT limit of 0 shuts the CPU down', () => {
    const m = new SystemMachine().real();
    m.cpu.set32(S.idtrLimit, 0);
    m.step(0xcd, 3);
    expect(m.cpu.get32(S.activity)).toBe(2);
  });
});

describe('32-bit protected mode', () => {
  it('ring 3 to ring 0 through an interrupt gate, and back', () => {
    const m = new SystemMachine().protect(3);
    m.cpu.flags = 0x3202;
    m.step(0xcd, 0x80);
    expect([m.cpu.rip, m.cpu.selector(SegmentIndex.CS), m.cpu.selector(SegmentIndex.SS), m.cpu.reg32(4), m.cpu.cpl]).toEqual([handler(0x80), Sel.code0, Sel.data0, At.kernelStack - 20, 0]);
    expect(m.dwords(At.kernelStack - 20, 5)).toEqual([At.code + 2, Sel.code3, 0x3202, At.userStack, Sel.data3]);
    expect(m.cpu.flags).toBe(0x3002);
    expect(m.cpu.selector(SegmentIndex.DS)).toBe(Sel.data3);
    m.step(0xcf);
    expect([m.cpu.rip, m.cpu.selector(SegmentIndex.CS), m.cpu.selector(SegmentIndex.SS), m.cpu.reg32(4), m.cpu.cpl, m.cpu.flags]).toEqual([At.code + 2, Sel.code3, Sel.data3, At.userStack, 3, 0x3202]);
  });
  it('IRET to an outer ring makes inner data segments null', () => {
    const m = new SystemMachine().protect(3);
    m.step(0xcd, 0x80);
    m.cpu.setSegment(SegmentIndex.DS, Sel.data0, 0, 0xffffffff, 0xc093);
    m.step(0xcf);
    expect([m.cpu.selector(SegmentIndex.DS), m.cpu.attributes(SegmentIndex.DS) & 0x10000, m.cpu.selector(SegmentIndex.ES)]).toEqual([0, 0x10000, Sel.data3]);
  });
  it('INT n through a gate of ring 0 is #GP(vector*8+2) with RF in the image and the return address of the INT', () => {
    const m = new SystemMachine().protect(3);
    m.step(0xcd, 0x21);
    expect(m.cpu.rip).toBe(handler(13));
    expect(m.dwords(At.kernelStack - 24, 4)).toEqual([0x21 * 8 + 2, At.code, Sel.code3, 0x10002]);
  });
  it('INT1 looks at no DPL', () => {
    const m = new SystemMachine().protect(3);
    m.step(0xf1);
    expect(m.cpu.rip).toBe(handler(1));
    expect(m.dwords(At.kernelStack - 20, 1)).toEqual([At.code + 1]);
  });
  it.each([
    ['gate not present', (m: SystemMachine) => m.gate(0x80, Sel.code0, 0, 0x6e), 11, 0x402],
    ['gate of another type', (m: SystemMachine) => m.gate(0x80, Sel.code0, 0, 0xec), 13, 0x402],
    ['null CS in the gate', (m: SystemMachine) => m.gate(0x80, 3, 0, 0xee), 13, 0],
    ['data segment in the gate', (m: SystemMachine) => m.gate(0x80, Sel.data0, 0, 0xee), 13, Sel.data0],
    ['selector outside the GDT', (m: SystemMachine) => m.gate(0x80, 0x1000, 0, 0xee), 13, 0x1000],
    ['null SS in the TSS', (m: SystemMachine) => m.ram.setUint16(At.tss + 8, 0, true), 10, 0],
    ['SS of another ring in the TSS', (m: SystemMachine) => m.ram.setUint16(At.tss + 8, Sel.data3, true), 10, Sel.data3 & ~3],
    ['TSS too short', (m: SystemMachine) => m.cpu.setSegment(SegmentIndex.TR, Sel.tss, At.tss, 7, 0x8b), 10, Sel.tss],
  ])('INT 0x80, %s', (_name, spoil, vector, error) => {
    const m = new SystemMachine().protect(3);
    spoil(m);
    const seen: string[] = [];
    m.cpu.hooks = hooksWith({ event: (_cpu, event) => { seen.push(`${event.vector}(${event.error})`); return seen.length === 2; } });
    m.step(0xcd, 0x80);
    expect(seen).toEqual(['128(-1)', `${vector}(${error})`]);
    // nothing happened yet: the second event was taken over
    expect([m.cpu.rip, m.cpu.cpl, m.cpu.reg32(4)]).toEqual([At.code, 3, At.userStack]);
  });
  it('the same fault during an external interrupt has EXT set', () => {
    const m = new SystemMachine().protect(3);
    m.gate(0x30, Sel.code0, 0, 0x6e);
    m.deliver(0, 0x30);
    expect(m.cpu.rip).toBe(handler(11));
    expect(m.dwords(At.kernelStack - 24, 1)).toEqual([0x30 * 8 + 3]);
  });
  it('#GP while delivering #GP is a double fault with error code 0', () => {
    const m = new SystemMachine().protect(3);
    m.gate(13, 0x1000, 0, 0x8e);
    m.deliver(3, 13, 0x44);
    expect(m.cpu.rip).toBe(handler(8));
    expect(m.dwords(At.kernelStack - 24, 2)).toEqual([0, At.code]);
  });
  it('#PF while delivering #GP is delivered in turn; #GP while delivering #PF is a double fault', () => {
    const m = new SystemMachine().protect(0);
    m.gate(14, 0x1000, 0, 0x8e);
    m.deliver(3, 14, 2, 0x123456);
    expect([m.cpu.rip, m.cpu.get32(S.cr2)]).toEqual([handler(8), 0x123456]);
    const n = new SystemMachine().protect(0);
    // the #GP gate's code segment is in the LDT, whose page is absent
    n.cpu.setSegment(SegmentIndex.LDTR, Sel.ldt, 0x30000, 0xff, 0x82);
    n.gate(13, 0x0c, 0, 0x8e);
    n.mmu.absent.add(0x30);
    n.deliver(3, 13, 0);
    expect([n.cpu.rip, n.cpu.get32(S.cr2)]).toEqual([handler(14), 0x30008]);
    expect(n.dwords(At.kernelStack - 16, 2)).toEqual([0, At.code]);
  });
  it('a fault while delivering #DF shuts down, and RIP stays', () => {
    const m = new SystemMachine().protect(0);
    m.gate(13, 0x1000, 0, 0x8e);
    m.gate(8, 0x1000, 0, 0x8e);
    m.step(0x0f, 0x01, 0x10); // LGDT [eax] with EAX beyond nothing: executes; then the fault
    m.deliver(3, 13, 0);
    expect(m.cpu.get32(S.activity)).toBe(2);
  });
  it('a page fault on the new stack leaves the old one in place', () => {
    const m = new SystemMachine().protect(3);
    m.mmu.absent.add((At.kernelStack - 1) >>> 12);
    const seen: number[] = [];
    m.cpu.hooks = hooksWith({ event: (_cpu, event) => { seen.push(event.vector); return seen.length === 3; } });
    m.step(0xcd, 0x80);
    expect(seen).toEqual([128, 14, 14]); // and a page fault while delivering the page fault would be #DF next
    expect([m.cpu.cpl, m.cpu.reg32(4), m.cpu.get32(S.cr2)]).toEqual([3, At.userStack, At.kernelStack - 4]);
  });
  it('trap gates keep IF; #DB sets DR6 and clears DR7.GD', () => {
    const m = new SystemMachine().protect(0);
    m.gate(1, Sel.code0, handler(1), 0x8f);
    m.cpu.flags = 0x302;
    m.cpu.set32(S.dr + 56, 0x2400);
    m.deliver(3, 1, -1, 0x4000);
    expect([m.cpu.flags, m.cpu.get32(S.dr + 48), m.cpu.get32(S.dr + 56)]).toEqual([0x202, 0xffff4ff0, 0x400]);
    expect(m.dwords(At.kernelStack - 12, 3)).toEqual([At.code, Sel.code0, 0x302]);
  });
  it('an NMI blocks NMIs until IRET', () => {
    const m = new SystemMachine().protect(0);
    m.deliver(2, 2);
    expect(m.cpu.get32(S.nmiBlocked)).toBe(1);
    m.step(0xcf);
    expect([m.cpu.get32(S.nmiBlocked), m.cpu.rip]).toEqual([0, At.code]);
  });
  it('a 16-bit gate pushes words', () => {
    const m = new SystemMachine().protect(0);
    m.gate(0x40, Sel.code0, 0x1234, 0x86);
    m.step(0xcd, 0x40);
    expect([m.cpu.rip, m.cpu.reg32(4)]).toEqual([0x1234, At.kernelStack - 6]);
    expect(m.words(At.kernelStack - 6, 3)).toEqual([2, Sel.code0, 2]);
  });
});

describe('virtual-8086 mode', () => {
  const enter = (iopl: number): SystemMachine => {
    const m = new SystemMachine().protect(0);
    const frame = [0x100, 0x1000, 0x20202 | (iopl << 12), 0x5000, 0x600, 0x111, 0x222, 0x333, 0x444];
    m.cpu.setReg32(4, 0x7f00);
    frame.forEach((value, i) => m.ram.setUint32(0x7f00 + i * 4, value, true));
    m.step(0xcf);
    return m;
  };
  it('IRETD with VM set enters it', () => {
    const m = enter(3);
    expect([m.cpu.virtual8086, m.cpu.cpl, m.cpu.rip, m.cpu.segmentBase(SegmentIndex.CS), m.cpu.segmentBase(SegmentIndex.SS), m.cpu.selector(SegmentIndex.GS), m.cpu.attributes(SegmentIndex.DS)]).toEqual([true, 3, 0x100, 0x10000, 0x6000, 0x444, 0xf3]);
  });
  it('INT n with IOPL 3 pushes all segments and makes them null', () => {
    const m = enter(3);
    m.gate(0x21, Sel.code0, handler(0x21), 0xee);
    m.step(0xcd, 0x21);
    expect(m.dwords(At.kernelStack - 36, 9)).toEqual([0x102, 0x1000, 0x23202, 0x5000, 0x600, 0x111, 0x222, 0x333, 0x444]);
    expect([m.cpu.virtual8086, m.cpu.cpl, m.cpu.attributes(SegmentIndex.DS) & 0x10000, m.cpu.rip]).toEqual([false, 0, 0x10000, handler(0x21)]);
  });
  it('INT n, CLI, PUSHF, IRET with IOPL below 3 are #GP(0)', () => {
    for (const bytes of [[0xcd, 0x21], [0xfa], [0xfb], [0x9c], [0x9d], [0xcf]]) expect(enter(0).attempt(...bytes), bytes.join()).toBe('#13(0)');
  });
  it('with VME the redirection map sends INT n to the program, and PUSHF and CLI see VIF', () => {
    const m = enter(0);
    m.cpu.set32(S.cr4, 1);
    m.cpu.set32(S.flagsRest, m.cpu.get32(S.flagsRest) | Flag.VIF);
    m.ram.setUint16(At.tss + 0x66, 0x68 + 0x20 - 8, true);
    m.cpu.setSegment(SegmentIndex.TR, Sel.tss, At.tss, 0xff, 0x8b);
    m.ram.setUint32(0x21 * 4, 0x0abc0123, true);
    m.step(0xcd, 0x21);
    expect([m.cpu.virtual8086, m.cpu.rip, m.cpu.selector(SegmentIndex.CS)]).toEqual([true, 0x123, 0xabc]);
    expect(m.words(0x6000 + 0x5000 - 6, 3)).toEqual([0x102, 0x1000, 0x3202]);
    expect(m.cpu.flags & (Flag.VIF | Flag.IF)).toBe(Flag.IF);
    m.step(0xcf);
    expect([m.cpu.rip, m.cpu.flags & (Flag.VIF | Flag.IF)]).toEqual([0x102, Flag.VIF | Flag.IF]);
  });
});

describe('long mode', () => {
  it('ring 3 to ring 0: aligned frame of five, SS null; IRETQ goes back', () => {
    const m = new SystemMachine().long(3);
    m.cpu.set64(S.gpr + 32, 0x00007fffffffe123n);
    m.cpu.flags = 0x202;
    m.step(0xcd, 0x80);
    expect([m.cpu.rip, m.cpu.selector(SegmentIndex.CS), m.cpu.selector(SegmentIndex.SS), m.cpu.attributes(SegmentIndex.SS), m.cpu.reg32(4), m.cpu.cpl]).toEqual([handler(0x80), Sel.code64, 0, 0x10000, At.kernelStack - 40, 0]);
    expect(m.dwords(At.kernelStack - 40, 10)).toEqual([At.code + 2, 0, Sel.user64, 0, 0x202, 0, 0xffffe123, 0x7fff, Sel.data3, 0]);
    m.step(0x48, 0xcf);
    expect([m.cpu.rip, m.cpu.reg64(4), m.cpu.cpl, m.cpu.selector(SegmentIndex.SS), m.cpu.code64]).toEqual([At.code + 2, 0x00007fffffffe123n, 3, Sel.data3, true]);
  });
  it('ring 0 keeps SS, aligns RSP down and pushes all five', () => {
    const m = new SystemMachine().long(0);
    m.cpu.setReg32(4, At.kernelStack - 3);
    m.deliver(3, 14, 2, -0x1000);
    expect([m.cpu.reg32(4), m.cpu.selector(SegmentIndex.SS)]).toEqual([At.kernelStack - 16 - 48, Sel.data0]);
    expect(m.dwords(At.kernelStack - 64, 12)).toEqual([2, 0, At.code, 0, Sel.code64, 0, 0x10002, 0, At.kernelStack - 3, 0, Sel.data0, 0]);
    expect(m.cpu.get64(S.cr2)).toBe(0xfffffffffffff000n);
  });
  it('IST switches the stack whatever the ring', () => {
    const m = new SystemMachine().long(0);
    m.gate(8, Sel.code64, handler(8), 0x8e, true, 1);
    m.deliver(3, 8, 0);
    expect(m.cpu.reg32(4)).toBe(At.istStack - 48);
  });
  it.each([
    ['32-bit code segment in the gate', (m: SystemMachine) => m.gate(0x80, Sel.code0, 0, 0xee, true), 13, Sel.code0],
    ['16-bit gate', (m: SystemMachine) => m.gate(0x80, Sel.code64, 0, 0xe6, true), 13, 0x402],
    ['offset not canonical', (m: SystemMachine) => m.ram.setUint32(At.idt + 0x808, 0x8000, true), 13, 0],
    ['stack not canonical', (m: SystemMachine) => m.ram.setUint32(At.tss + 8, 0x8000, true), 12, 0],
  ])('INT 0x80, %s', (_name, spoil, vector, error) => {
    const m = new SystemMachine().long(3);
    spoil(m);
    const seen: string[] = [];
    m.cpu.hooks = hooksWith({ event: (_cpu, event) => { seen.push(`${event.vector}(${event.error})`); return seen.length === 2; } });
    m.step(0xcd, 0x80);
    expect(seen[1]).toBe(`${vector}(${error})`);
  });
  it('IRETQ: #GP(0) for NT, for RIP not canonical, for a null SS in ring 3', () => {
    const frame = (values: readonly bigint[], flags = 2): string => {
      const m = new SystemMachine().long(0);
      m.cpu.flags = flags;
      m.cpu.setReg32(4, 0x7f00);
      values.forEach((value, i) => m.ram.setBigUint64(0x7f00 + i * 8, value, true));
      return m.attempt(0x48, 0xcf);
    };
    const user = BigInt(Sel.user64);
    const data = BigInt(Sel.data3);
    expect(frame([0x1000n, user, 2n, 0x9000n, data])).toBe('1');
    expect(frame([0x1000n, user, 2n, 0x9000n, data], Flag.NT | 2)).toBe('#13(0)');
    expect(frame([0x800000000000n, user, 2n, 0x9000n, data])).toBe('#13(0)');
    expect(frame([0x1000n, user, 2n, 0x9000n, 0n])).toBe('#13(0)');
    expect(frame([0x1000n, BigInt(Sel.code64), 2n, 0x9000n, 0n])).toBe('1');
    expect(frame([0x1000n, user, 2n, 0x9000n, BigInt(Sel.data0)])).toBe(`#13(${Sel.data0.toString(16)})`);
    expect(frame([0x1000n, BigInt(Sel.absent | 3), 2n, 0x9000n, data])).toBe(`#13(${Sel.absent.toString(16)})`);
  });
});
