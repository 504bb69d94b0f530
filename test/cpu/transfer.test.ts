import { describe, expect, it } from 'vitest';
import type { CpuEvent } from '../../cpu/events.ts';
import { fault } from '../../cpu/fault.ts';
import { Cr0, Flag, S, SegmentIndex } from '../../cpu/state.ts';
import { At, hooksWith, Sel, SystemMachine } from './system-machine.ts';

const dword = (value: number): number[] => [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24];
const word = (value: number): number[] => [value & 0xff, value >>> 8];
const jmp = (selector: number, offset: number): number[] => [0xea, ...dword(offset), ...word(selector)];
const call = (selector: number, offset: number): number[] => [0x9a, ...dword(offset), ...word(selector)];

/** A call gate at Sel.gate. */
function callGate(m: SystemMachine, selector: number, offset: number, type: number, parameters = 0): void {
  m.ram.setUint32(At.gdt + Sel.gate, ((offset & 0xffff) | (selector << 16)) >>> 0, true);
  m.ram.setUint32(At.gdt + Sel.gate + 4, ((offset & 0xffff0000) | (type << 8) | parameters) >>> 0, true);
  m.ram.setUint32(At.gdt + Sel.gate + 8, 0, true);
  m.ram.setUint32(At.gdt + Sel.gate + 12, 0, true);
}

describe('far JMP, CALL and RET', () => {
  it('in real mode', () => {
    const m = new SystemMachine().real();
    m.step(0x9a, 0x34, 0x12, 0x00, 0x20);
    expect([m.cpu.rip, m.cpu.segmentBase(SegmentIndex.CS)]).toEqual([0x1234, 0x20000]);
    expect(m.words(0x6ffc, 2)).toEqual([5, 0x1000]);
    m.step(0xca, 4, 0);
    expect([m.cpu.rip, m.cpu.selector(SegmentIndex.CS), m.cpu.reg32(4)]).toEqual([5, 0x1000, 0x7004]);
  });
  it('to code segments (SDM "Accessing Code Segments")', () => {
    const at = (ring: 0 | 3) => new SystemMachine().protect(ring);
    expect(at(0).attempt(...jmp(0, 0x100))).toBe('#13(0)');
    expect(at(0).attempt(...jmp(Sel.data0, 0x100))).toBe('#13(10)');
    expect(at(0).attempt(...jmp(Sel.code3, 0x100))).toBe('#13(18)');
    expect(at(3).attempt(...jmp(Sel.code0, 0x100))).toBe('#13(8)');
    expect(at(0).attempt(...jmp(0x2000, 0x100))).toBe('#13(2000)');
    const m = at(3);
    m.step(...jmp(Sel.conforming, 0x4444));
    expect([m.cpu.rip, m.cpu.selector(SegmentIndex.CS), m.cpu.cpl]).toEqual([0x4444, Sel.conforming | 3, 3]);
    const small = at(0);
    small.descriptor(At.gdt + 0x58, 0, 0xff, 0x9b, 4);
    expect(small.attempt(...jmp(0x58, 0x100))).toBe('#13(0)');
    small.descriptor(At.gdt + 0x58, 0, 0xff, 0x1b, 4);
    expect(small.attempt(...jmp(0x58, 0x10))).toBe('#11(58)');
  });
  it('call gate inward: stack switch, parameters copied; RETF imm16 releases them on both stacks', () => {
    const m = new SystemMachine().protect(3);
    callGate(m, Sel.code0, 0x12345, 0xec, 2);
    m.ram.setUint32(At.userStack, 0xaaaa, true);
    m.ram.setUint32(At.userStack + 4, 0xbbbb, true);
    m.step(...call(Sel.gate | 3, 0));
    expect([m.cpu.rip, m.cpu.cpl, m.cpu.selector(SegmentIndex.CS), m.cpu.selector(SegmentIndex.SS), m.cpu.reg32(4)]).toEqual([0x12345, 0, Sel.code0, Sel.data0, At.kernelStack - 24]);
    expect(m.dwords(At.kernelStack - 24, 6)).toEqual([At.code + 7, Sel.code3, 0xaaaa, 0xbbbb, At.userStack, Sel.data3]);
    m.step(0xca, 8, 0);
    expect([m.cpu.rip, m.cpu.cpl, m.cpu.reg32(4), m.cpu.selector(SegmentIndex.SS)]).toEqual([At.code + 7, 3, At.userStack + 8, Sel.data3]);
  });
  it('call gate rules', () => {
    const with_ = (type: number, selector: number, ring: 0 | 3 = 3): SystemMachine => {
      const m = new SystemMachine().protect(ring);
      callGate(m, selector, 0x100, type);
      return m;
    };
    expect(with_(0x8c, Sel.code0).attempt(...call(Sel.gate, 0))).toBe('#13(60)'); // DPL 0 gate from ring 3
    expect(with_(0x6c, Sel.code0).attempt(...call(Sel.gate, 0))).toBe('#11(60)');
    expect(with_(0xec, 0).attempt(...call(Sel.gate, 0))).toBe('#13(0)');
    expect(with_(0xec, Sel.data0).attempt(...call(Sel.gate, 0))).toBe('#13(10)');
    expect(with_(0xec, Sel.code0).attempt(...jmp(Sel.gate, 0))).toBe('#13(8)'); // JMP cannot go inward
    expect(with_(0xec, Sel.code3, 0).attempt(...call(Sel.gate, 0))).toBe('#13(18)'); // nor CALL outward
    expect(with_(0xec, Sel.code0, 0).attempt(...jmp(Sel.gate, 0))).toBe('1');
  });
  it('64-bit call gate: SS null, eight bytes per element; far pointers m16:32 and m16:64', () => {
    const m = new SystemMachine().long(3);
    callGate(m, Sel.code64, 0x12345, 0xec);
    m.ram.setUint32(0x7008, Sel.gate | 3, true);
    m.cpu.setReg32(0, 0x7000);
    m.step(0x48, 0xff, 0x18);
    expect(m.cpu.rip).toBe(0x12345);
    expect([m.cpu.cpl, m.cpu.selector(SegmentIndex.SS), m.cpu.reg32(4)]).toEqual([0, 0, At.kernelStack - 32]);
    expect(m.dwords(At.kernelStack - 32, 8)).toEqual([At.code + 3, 0, Sel.user64, 0, At.userStack, 0, Sel.data3, 0]);
    m.step(0x48, 0xcb);
    expect([m.cpu.rip, m.cpu.cpl, m.cpu.reg32(4)]).toEqual([At.code + 3, 3, At.userStack]);
  });
  it('64-bit mode to compatibility mode and back', () => {
    const m = new SystemMachine().long(0);
    m.cpu.setReg32(0, 0x7000);
    m.ram.setUint32(0x7000, 0x5000, true);
    m.ram.setUint16(0x7004, Sel.code0, true);
    m.step(0xff, 0x28);
    expect([m.cpu.rip, m.cpu.code64, m.cpu.longMode]).toEqual([0x5000, false, true]);
    m.step(...jmp(Sel.code64, 0x6000));
    expect([m.cpu.rip, m.cpu.code64]).toEqual([0x6000, true]);
    // L and D together are reserved
    m.descriptor(At.gdt + 0x58, 0, 0xfffff, 0x9b, 0xe);
    m.ram.setUint16(0x7004, 0x58, true);
    expect(m.attempt(0xff, 0x28)).toBe('#13(58)');
    // task switches do not exist in long mode
    m.ram.setUint8(At.gdt + Sel.tss + 5, 0x89);
    m.ram.setUint16(0x7004, Sel.tss, true);
    expect(m.attempt(0xff, 0x28)).toBe('#13(28)');
  });
});

describe('hardware task switch', () => {
  const tss2 = 0x4000;
  const prepare = (type = 0x89): SystemMachine => {
    const m = new SystemMachine().protect(0);
    m.descriptor(At.gdt + Sel.tss2, tss2, 0x67, type, 0);
    const put = (offset: number, value: number): void => m.ram.setUint32(tss2 + offset, value, true);
    put(0x1c, 0);
    put(0x20, 0x5000);
    put(0x24, 0x202);
    for (let i = 0; i < 8; i++) put(0x28 + i * 4, 0x100 + i);
    put(0x38, 0x6000);
    [Sel.data3, Sel.code3, Sel.data3, Sel.data3, 0, Sel.data3].forEach((selector, i) => put(0x48 + i * 4, selector));
    return m;
  };
  it('JMP to a TSS', () => {
    const m = prepare();
    m.cpu.setReg32(3, 0xbbbb);
    m.step(...jmp(Sel.tss2, 0));
    expect([m.cpu.rip, m.cpu.cpl, m.cpu.reg32(4), m.cpu.reg32(3), m.cpu.flags, m.cpu.selector(SegmentIndex.TR)]).toEqual([0x5000, 3, 0x6000, 0x103, 0x202, Sel.tss2]);
    expect([m.ram.getUint8(At.gdt + Sel.tss + 5), m.ram.getUint8(At.gdt + Sel.tss2 + 5)]).toEqual([0x89, 0x8b]);
    expect([m.ram.getUint32(At.tss + 0x20, true), m.ram.getUint32(At.tss + 0x34, true), m.ram.getUint16(At.tss + 0x4c, true)]).toEqual([At.code + 7, 0xbbbb, Sel.code0]);
    expect(m.cpu.cr0 & Cr0.TS).toBe(Cr0.TS);
    expect(m.cpu.attributes(SegmentIndex.FS) & 0x10000).toBe(0x10000);
  });
  it('CALL nests, IRET returns', () => {
    const m = prepare();
    m.step(...call(Sel.tss2, 0));
    expect([m.cpu.flags & Flag.NT, m.ram.getUint16(tss2, true), m.ram.getUint8(At.gdt + Sel.tss + 5)]).toEqual([Flag.NT, Sel.tss, 0x8b]);
    m.step(0xcf);
    expect([m.cpu.rip, m.cpu.cpl, m.cpu.selector(SegmentIndex.TR), m.ram.getUint8(At.gdt + Sel.tss2 + 5), m.ram.getUint32(tss2 + 0x24, true)]).toEqual([At.code + 7, 0, Sel.tss, 0x89, 0x202]);
  });
  it('a task gate in the IDT pushes the error code on the new stack', () => {
    const m = prepare();
    m.gate(8, Sel.tss2, 0, 0x85);
    m.deliver(3, 8, 0);
    expect([m.cpu.rip, m.cpu.reg32(4), m.ram.getUint32(0x5ffc, true), m.cpu.flags & Flag.NT]).toEqual([0x5000, 0x5ffc, 0, Flag.NT]);
  });
  it('checks', () => {
    expect(prepare(0x8b).attempt(...jmp(Sel.tss2, 0))).toBe('#13(70)'); // busy
    expect(prepare(0x09).attempt(...jmp(Sel.tss2, 0))).toBe('#11(70)');
    const short = prepare();
    short.descriptor(At.gdt + Sel.tss2, tss2, 0x66, 0x89, 0);
    expect(short.attempt(...jmp(Sel.tss2, 0))).toBe('#10(70)');
    // faults of the new task are delivered there, the instruction is complete
    const thrower = (event: CpuEvent): void => { throw fault(event.vector, event.error, event.data); };
    const stack = prepare();
    stack.cpu.deliver = thrower;
    stack.ram.setUint32(tss2 + 0x50, Sel.data0, true);
    expect(stack.attempt(...jmp(Sel.tss2, 0))).toBe('#10(10)');
    expect(stack.cpu.selector(SegmentIndex.TR)).toBe(Sel.tss2); // in the new task
    const nested = prepare();
    nested.cpu.flags = Flag.NT | 2;
    nested.ram.setUint16(At.tss, Sel.tss2, true);
    expect(nested.attempt(0xcf)).toBe('#10(70)'); // the task to return to is not busy
    const trap = prepare();
    trap.cpu.deliver = thrower;
    trap.ram.setUint16(tss2 + 0x64, 1, true);
    expect(trap.attempt(...jmp(Sel.tss2, 0))).toBe('#1()');
  });
  it('virtual-8086 and 16-bit tasks', () => {
    const m = prepare();
    m.ram.setUint32(tss2 + 0x24, 0x20202, true);
    m.ram.setUint32(tss2 + 0x4c, 0x1000, true);
    m.step(...jmp(Sel.tss2, 0));
    expect([m.cpu.virtual8086, m.cpu.cpl, m.cpu.segmentBase(SegmentIndex.CS)]).toEqual([true, 3, 0x10000]);
    const n = new SystemMachine().protect(0);
    n.descriptor(At.gdt + Sel.tss2, tss2, 0x2b, 0x81, 0);
    [0x5000, 2, 1, 2, 3, 4, 0x6000, 6, 7, 8, Sel.data0, Sel.code0, Sel.data0, Sel.data0, 0].forEach((value, i) => n.ram.setUint16(tss2 + 0xe + i * 2, value, true));
    n.step(...jmp(Sel.tss2, 0));
    expect([n.cpu.rip, n.cpu.reg32(4), n.cpu.reg32(0), n.cpu.attributes(SegmentIndex.TR), n.cpu.cpl]).toEqual([0x5000, 0x6000, 1, 0x83, 0]);
  });
  it('a hook may take it over before anything is saved', () => {
    const m = prepare();
    m.cpu.hooks = hooksWith({ taskSwitch: () => true });
    m.step(...jmp(Sel.tss2, 0));
    expect([m.cpu.rip, m.cpu.get32(S.cr0) & Cr0.TS]).toEqual([At.code, 0]);
  });
});
