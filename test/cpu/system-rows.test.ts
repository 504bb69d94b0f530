import { describe, expect, it } from 'vitest';
import { checkFeatures, cpuid, featureRows } from '../../cpu/cpuid.ts';
import { Flow } from '../../cpu/cpu.ts';
import { ioPermitted } from '../../cpu/io.ts';
import { msrRows, readMsr, readOnlyMsr, registerMsr, writeMsr } from '../../cpu/msr.ts';
import { Access, Cr0, Cr4, Flag, S, SegmentIndex } from '../../cpu/state.ts';
import { At, profile, Sel, SystemMachine } from './system-machine.ts';

const set = (m: SystemMachine, ...registers: readonly (number | undefined)[]): SystemMachine => {
  registers.forEach((value, n) => { if (value !== undefined) m.cpu.setReg32(n, value); });
  return m;
};

describe('segment registers', () => {
  const load = (ring: 0 | 3, sreg: number, selector: number): string => set(new SystemMachine().protect(ring), selector).attempt(0x8e, 0xc0 | (sreg << 3));
  it('MOV Sreg checks (SDM "Loading Segment Registers")', () => {
    expect(load(0, 1, Sel.code0)).toBe('#6()');
    expect(load(0, 6, Sel.code0)).toBe('#6()');
    expect(load(0, 3, 0)).toBe('1'); // null is allowed for data; the shape of DS changed
    expect(load(0, 2, 0)).toBe('#13(0)'); // not for SS
    expect(load(0, 3, 0x1000)).toBe('#13(1000)');
    expect(load(0, 3, 0x14)).toBe('#13(14)'); // no LDT
    expect(load(0, 3, Sel.tss)).toBe(`#13(${Sel.tss.toString(16)})`);
    expect(load(0, 3, Sel.absent)).toBe('#11(58)');
    expect(load(0, 2, Sel.absent)).toBe('#12(58)');
    expect(load(3, 3, Sel.data0)).toBe('#13(10)');
    expect(load(0, 3, Sel.data3)).toBe('0');
    expect(load(0, 2, Sel.data3)).toBe('#13(20)');
    expect(load(3, 3, Sel.conforming)).toBe('1'); // readable conforming code at any ring
  });
  it('sets the accessed bit in memory', () => {
    const m = new SystemMachine().protect(0);
    m.descriptor(At.gdt + 0x60, 0x12345678, 0x0fff, 0x92, 0x4);
    set(m, 0x60).step(0x8e, 0xd8);
    expect(m.ram.getUint8(At.gdt + 0x65)).toBe(0x93);
    expect([m.cpu.segmentBase(SegmentIndex.DS), m.cpu.limit(SegmentIndex.DS), m.cpu.attributes(SegmentIndex.DS)]).toEqual([0x12345678, 0xfff, 0x4093]);
  });
  it('real mode: base follows the selector, the limit of protected mode stays', () => {
    const m = new SystemMachine().real();
    m.cpu.setSegment(SegmentIndex.DS, 0x10, 0, 0xffffffff, 0xc093);
    set(m, 0x1234).step(0x8e, 0xd8);
    expect([m.cpu.segmentBase(SegmentIndex.DS), m.cpu.limit(SegmentIndex.DS)]).toEqual([0x12340, 0xffffffff]);
  });
  it('MOV SS and POP SS shadow the next instruction; null SS is good at ring 0 in 64-bit mode', () => {
    const m = new SystemMachine().long(0);
    set(m, 0).step(0x8e, 0xd0);
    expect([m.cpu.shadowNow, m.cpu.attributes(SegmentIndex.SS) & Access.Unusable]).toEqual([2, Access.Unusable]);
    expect(set(new SystemMachine().long(3), 3).attempt(0x8e, 0xd0)).toBe('#13(0)');
  });
  it('PUSH and POP of FS, LES, LSS, MOV from Sreg', () => {
    const m = new SystemMachine().protect(0);
    m.step(0x0f, 0xa0);
    expect([m.cpu.reg32(4), m.ram.getUint32(At.kernelStack - 4, true)]).toEqual([At.kernelStack - 4, Sel.data0]);
    m.ram.setUint32(At.kernelStack - 4, Sel.data3, true);
    m.step(0x0f, 0xa1);
    expect([m.cpu.reg32(4), m.cpu.selector(SegmentIndex.FS)]).toEqual([At.kernelStack, Sel.data3]);
    m.ram.setUint32(0x7000, 0xcafe1234, true);
    m.ram.setUint16(0x7004, Sel.data3, true);
    set(m, 0x7000).step(0xc4, 0x18); // LES EBX, [EAX]
    expect([m.cpu.reg32(3), m.cpu.selector(SegmentIndex.ES)]).toEqual([0xcafe1234, Sel.data3]);
    m.cpu.setReg32(1, 0xffffffff);
    m.step(0x66, 0x8c, 0xc1);
    expect(m.cpu.reg32(1)).toBe(0xffff0023);
    m.step(0x8c, 0xc1);
    expect(m.cpu.reg32(1)).toBe(0x23);
  });
});

describe('descriptor tables', () => {
  it('LGDT and LIDT take 24 bits of base with a 16-bit operand, and need ring 0', () => {
    const m = new SystemMachine().protect(0);
    [0x34, 0x12, 0x78, 0x56, 0x34, 0x92].forEach((b, i) => m.ram.setUint8(0x7000 + i, b));
    set(m, 0x7000).step(0x0f, 0x01, 0x10);
    expect([m.cpu.get32(S.gdtrLimit), m.cpu.get32(S.gdtrBase)]).toEqual([0x1234, 0x92345678]);
    m.step(0x66, 0x0f, 0x01, 0x18);
    expect(m.cpu.get32(S.idtrBase)).toBe(0x345678);
    set(m, 0x7100).step(0x0f, 0x01, 0x00);
    expect(m.dwords(0x7100, 1)[0]).toBe(0x56781234);
    expect(new SystemMachine().protect(3).attempt(0x0f, 0x01, 0x10)).toBe('#13(0)');
    const n = new SystemMachine().long(0);
    n.ram.setUint32(0x7006, 0x8000, true);
    expect(set(n, 0x7000).attempt(0x0f, 0x01, 0x10)).toBe('#13(0)'); // base not canonical
  });
  it('LTR and LLDT', () => {
    const m = new SystemMachine().protect(0);
    expect(set(m, Sel.tss).attempt(0x0f, 0x00, 0xd8)).toBe('#13(28)'); // busy
    m.ram.setUint8(At.gdt + Sel.tss + 5, 0x89);
    m.step(0x0f, 0x00, 0xd8);
    expect([m.cpu.attributes(SegmentIndex.TR), m.ram.getUint8(At.gdt + Sel.tss + 5)]).toEqual([0x8b, 0x8b]);
    expect(set(m, 0).attempt(0x0f, 0x00, 0xd8)).toBe('#13(0)');
    expect(set(m, Sel.ldt | 4).attempt(0x0f, 0x00, 0xd0)).toBe('#13(3c)');
    set(m, Sel.ldt).step(0x0f, 0x00, 0xd0);
    expect([m.cpu.segmentBase(SegmentIndex.LDTR), m.cpu.limit(SegmentIndex.LDTR)]).toEqual([At.ldt, 0xff]);
    expect(new SystemMachine().real().attempt(0x0f, 0x00, 0xd8)).toBe('#6()');
    const n = new SystemMachine().long(0);
    n.ram.setUint8(At.gdt + Sel.tss + 5, 0x89);
    n.ram.setUint32(At.gdt + Sel.tss + 8, 0xffff8000, true);
    set(n, Sel.tss).step(0x0f, 0x00, 0xd8);
    expect(n.cpu.segmentBase(SegmentIndex.TR)).toBe(-0x800000000000 + At.tss);
  });
  it('LAR, LSL, VERR, VERW, ARPL', () => {
    const m = new SystemMachine().protect(3);
    const ask = (opcode: readonly number[], selector: number): readonly [boolean, number] => {
      set(m, selector, 0x5555).step(...opcode);
      return [(m.cpu.flags & Flag.ZF) !== 0, m.cpu.reg32(1)];
    };
    expect(ask([0x0f, 0x02, 0xc8], Sel.data3)).toEqual([true, 0xc0f300]);
    expect(ask([0x0f, 0x03, 0xc8], Sel.data3)).toEqual([true, 0xffffffff]);
    expect(ask([0x0f, 0x02, 0xc8], Sel.data0)).toEqual([false, 0x5555]);
    expect(ask([0x0f, 0x02, 0xc8], 0)).toEqual([false, 0x5555]);
    expect(ask([0x0f, 0x02, 0xc8], Sel.conforming)).toEqual([true, 0xc09f00]);
    expect(ask([0x0f, 0x00, 0xe0], Sel.code3)[0]).toBe(true); // VERR: readable
    expect(ask([0x0f, 0x00, 0xe8], Sel.code3)[0]).toBe(false); // VERW: code
    expect(ask([0x0f, 0x00, 0xe8], Sel.data3)[0]).toBe(true);
    set(m, 0x10, 3).step(0x63, 0xc8);
    expect([m.cpu.reg32(0), m.cpu.flags & Flag.ZF]).toEqual([0x13, Flag.ZF]);
    m.step(0x63, 0xc8);
    expect(m.cpu.flags & Flag.ZF).toBe(0);
  });
  it('UMIP keeps SGDT, SIDT, SLDT, STR and SMSW from ring 3', () => {
    for (const bytes of [[0x0f, 0x01, 0x00], [0x0f, 0x01, 0x08], [0x0f, 0x00, 0xc0], [0x0f, 0x00, 0xc8], [0x0f, 0x01, 0xe0]]) {
      const m = set(new SystemMachine().protect(3), 0x7000);
      expect(m.attempt(...bytes)).toBe('0');
      m.cpu.set32(S.cr4, Cr4.UMIP);
      expect(m.attempt(...bytes)).toBe('#13(0)');
    }
  });
});

describe('control and debug registers', () => {
  const toCr = (m: SystemMachine, n: number, low: number, high = 0): string => {
    m.cpu.setReg32(0, low);
    m.cpu.set32(S.gpr + 4, high);
    return m.attempt(0x0f, 0x22, 0xc0 | (n << 3));
  };
  it('CR0', () => {
    expect(toCr(new SystemMachine().protect(3), 0, 1)).toBe('#13(0)');
    expect(toCr(new SystemMachine().protect(0), 0, Cr0.PG)).toBe('#13(0)'); // paging without protection
    expect(toCr(new SystemMachine().protect(0), 0, Cr0.PE | Cr0.NW)).toBe('#13(0)');
    expect(toCr(new SystemMachine().protect(0), 1, 0)).toBe('#6()');
    const m = new SystemMachine().protect(0);
    expect(toCr(m, 0, Cr0.PE | Cr0.PG | Cr0.WP)).toBe('1');
    expect(m.cpu.cr0).toBe((Cr0.PE | Cr0.PG | Cr0.WP | Cr0.ET) >>> 0);
    expect(m.mmu.log).toContain('all');
    expect(toCr(new SystemMachine().long(0), 0, Cr0.PE)).toBe('#13(0)'); // leaving paging from 64-bit mode
    expect(toCr(new SystemMachine().long(0), 0, Cr0.PE | Cr0.PG, 1)).toBe('#13(0)');
  });
  it('long mode activation sets LMA; PAE is required; deactivation clears it', () => {
    const m = new SystemMachine().protect(0);
    m.cpu.set32(S.efer, 0x100);
    expect(toCr(m, 0, Cr0.PE | Cr0.PG)).toBe('#13(0)');
    m.cpu.set32(S.cr4, Cr4.PAE);
    expect(toCr(m, 0, Cr0.PE | Cr0.PG)).toBe('1');
    expect(m.cpu.efer).toBe(0x500);
    expect(toCr(m, 4, 0)).toBe('#13(0)'); // PAE cannot go now
    expect(toCr(m, 0, Cr0.PE)).toBe('1'); // from compatibility mode
    expect(m.cpu.efer).toBe(0x100);
  });
  it('PAE paging loads and checks the PDPTEs', () => {
    const m = new SystemMachine().protect(0);
    m.cpu.set32(S.cr4, Cr4.PAE);
    m.cpu.set32(S.cr3, 0x6020);
    m.ram.setUint32(0x6020, 0x5001, true);
    m.ram.setUint32(0x6028, 0x3, true);
    expect(toCr(m, 0, Cr0.PE | Cr0.PG)).toBe('#13(0)'); // bit 1 is reserved
    m.ram.setUint32(0x6028, 0x2, true); // not present: anything goes
    expect(toCr(m, 0, Cr0.PE | Cr0.PG)).toBe('1');
    expect(m.cpu.get64(S.pdpte)).toBe(0x5001n);
    m.ram.setUint32(0x603c, 0x100, true); // above 40 bits
    m.ram.setUint32(0x6038, 1, true);
    expect(toCr(m, 3, 0x6020)).toBe('#13(0)');
  });
  it('CR3: reserved bits, PCID and bit 63', () => {
    const m = new SystemMachine().long(0);
    expect(toCr(m, 3, 0x1000, 0x100)).toBe('#13(0)');
    expect(toCr(m, 3, 0x1000, 0x80000000)).toBe('#13(0)');
    expect(toCr(m, 4, Cr4.PAE | Cr4.PCIDE)).toBe('1');
    m.mmu.log.length = 0;
    expect(toCr(m, 3, 0x2005, 0x80000000)).toBe('1');
    expect(m.mmu.log).toEqual(['context']);
    expect(m.cpu.get64(S.cr3)).toBe(0x2005n);
    toCr(m, 3, 0x2005);
    expect(m.mmu.log).toEqual(['context', 'context', 'nonglobal']);
    expect(toCr(m, 4, Cr4.PAE)).toBe('1');
    expect(toCr(m, 4, Cr4.PAE | Cr4.PCIDE)).toBe('#13(0)'); // CR3[11:0] is not 0
  });
  it('CR4: bits without their feature are reserved', () => {
    expect(toCr(new SystemMachine().protect(0), 4, 1 << 15)).toBe('#13(0)');
    expect(toCr(new SystemMachine(['PSE']).protect(0), 4, Cr4.PSE)).toBe('1');
    expect(toCr(new SystemMachine(['PSE']).protect(0), 4, Cr4.PGE)).toBe('#13(0)');
    expect(toCr(new SystemMachine().protect(0), 4, Cr4.PCIDE)).toBe('#13(0)'); // only in long mode
  });
  it('CR8 is the task-priority class', () => {
    const m = new SystemMachine().long(0);
    m.cpu.setReg32(0, 5);
    m.step(0x44, 0x0f, 0x22, 0xc0);
    expect(m.bus.taskPriority).toBe(5);
    m.step(0x44, 0x0f, 0x20, 0xc1);
    expect(m.cpu.reg32(1)).toBe(5);
    m.cpu.setReg32(0, 16);
    expect(m.attempt(0x44, 0x0f, 0x22, 0xc0)).toBe('#13(0)');
  });
  it('LMSW sets PE but cannot clear it; SMSW and CLTS', () => {
    const m = set(new SystemMachine().protect(0), 0xe);
    m.step(0x0f, 0x01, 0xf0);
    expect(m.cpu.cr0).toBe(0x1f);
    m.step(0x0f, 0x06);
    expect(m.cpu.cr0).toBe(0x17);
    m.step(0x0f, 0x01, 0xe1);
    expect(m.cpu.reg32(1)).toBe(0x17);
  });
  it('debug registers: aliases, reserved bits, general detect', () => {
    const m = set(new SystemMachine().protect(0), 0xffffffff);
    m.step(0x0f, 0x23, 0xf0); // DR6
    m.step(0x0f, 0x21, 0xe1); // DR4
    expect(m.cpu.reg32(1)).toBe(0xffffefff);
    m.cpu.setReg32(0, 0xffffdfff);
    m.step(0x0f, 0x23, 0xf8);
    m.step(0x0f, 0x21, 0xf9);
    expect(m.cpu.reg32(1)).toBe(0xffff07ff);
    m.cpu.set32(S.cr4, Cr4.DE);
    expect(m.attempt(0x0f, 0x21, 0xe1)).toBe('#6()');
    m.cpu.set32(S.dr + 56, 0x2400);
    m.step(0x0f, 0x21, 0xc1);
    expect([m.cpu.rip, m.cpu.get32(S.dr + 48) & 0x2000, m.cpu.get32(S.dr + 56)]).toEqual([At.handler + 16, 0x2000, 0x400]);
  });
  it('INVLPG, INVPCID, HLT', () => {
    const m = set(new SystemMachine().protect(0), 0x7000);
    m.step(0x0f, 0x01, 0x38);
    m.ram.setUint32(0x7000, 5, true);
    m.cpu.setReg32(1, 1);
    expect(m.attempt(0x66, 0x0f, 0x38, 0x82, 0x08)).toBe('#13(0)'); // a PCID without CR4.PCIDE
    m.ram.setUint32(0x7000, 0, true);
    m.ram.setUint32(0x7008, 0x123000, true);
    m.cpu.setReg32(1, 0);
    m.step(0x66, 0x0f, 0x38, 0x82, 0x08);
    m.cpu.setReg32(1, 2);
    m.step(0x66, 0x0f, 0x38, 0x82, 0x08);
    expect(m.mmu.log).toEqual(['page 7000', 'pcid 0 0 123000', 'all']);
    expect(m.step(0xf4)).toBe(Flow.Leave);
    expect([m.cpu.get32(S.activity), m.cpu.rip]).toEqual([1, At.code + 14]);
    expect(new SystemMachine().protect(3).attempt(0xf4)).toBe('#13(0)');
  });
});

describe('model-specific registers', () => {
  it('have distinct numbers and known features', () => {
    checkFeatures(msrRows.flatMap((row) => row.feature ?? []));
    for (const row of msrRows) expect(row.read !== undefined || row.offset !== undefined, row.name).toBe(true);
  });
  it('RDMSR and WRMSR: unknown, read-only, reserved and non-canonical are #GP(0)', () => {
    const m = new SystemMachine().long(0);
    const write = (number: number, low: number, high = 0): string => set(m, low, number, high).attempt(0x0f, 0x30);
    expect(set(m, 0, 0x12345).attempt(0x0f, 0x32)).toBe('#13(0)');
    expect(write(0xfe, 0)).toBe('#13(0)');
    expect(write(0xc0000082, 0, 0x8000)).toBe('#13(0)');
    expect(write(0xc0000082, 0x1000, 0xffff8000)).toBe('1');
    expect(readMsr(m.cpu, 0xc0000082)).toBe(0xffff800000001000n);
    expect(write(0x277, 0x00070106, 0x00070406)).toBe('1');
    expect(write(0x277, 0x00070206, 0)).toBe('#13(0)'); // 2 is no memory type
    expect(write(0xc0000080, 0x400)).toBe('#13(0)'); // LME cannot change while paging
    expect(write(0xc0000080, 0xd01)).toBe('1');
    expect(write(0xc0000080, 0x2d01)).toBe('#13(0)');
    expect(m.cpu.efer).toBe(0xd01);
    expect(write(0xc0000100, 0x1234, 1)).toBe('1');
    expect(m.cpu.segmentBase(SegmentIndex.FS)).toBe(0x100001234);
    expect(write(0x3a, 5)).toBe('1');
    expect(write(0x3a, 5)).toBe('#13(0)'); // locked
    expect(new SystemMachine().protect(3).attempt(0x0f, 0x32)).toBe('#13(0)');
  });
  it('the time-stamp counter goes on from what is written; CR4.TSD hides it', () => {
    const m = new SystemMachine().protect(0);
    m.cpu.setFloat(S.sliceCycles, 0x1_0000_0005);
    m.step(0x0f, 0x31);
    expect([m.cpu.reg32(0), m.cpu.reg32(2)]).toEqual([5, 1]);
    writeMsr(m.cpu, 0x10, 3n);
    m.cpu.setFloat(S.sliceCycles, 0x1_0000_0105);
    m.step(0x0f, 0x01, 0xf9);
    expect([m.cpu.reg32(0), m.cpu.reg32(2)]).toEqual([0x103, 0]);
    const user = new SystemMachine().protect(3);
    user.cpu.set32(S.cr4, Cr4.TSD);
    expect(user.attempt(0x0f, 0x31)).toBe('#13(0)');
  });
  it('take rows from extensions', () => {
    const m = new SystemMachine().protect(0);
    registerMsr(m.cpu, readOnlyMsr(0x480, 'IA32_VMX_BASIC', () => 0x00da040000000001n));
    set(m, 0, 0x480).step(0x0f, 0x32);
    expect([m.cpu.reg32(0), m.cpu.reg32(2)]).toEqual([1, 0x00da0400]);
    expect(set(m, 0, 0x480).attempt(0x0f, 0x30)).toBe('#13(0)');
  });
  it('SWAPGS and the FSGSBASE instructions', () => {
    const m = new SystemMachine().long(0);
    writeMsr(m.cpu, 0xc0000102, 0xffff888000000000n);
    writeMsr(m.cpu, 0xc0000101, 0x1234n);
    m.step(0x0f, 0x01, 0xf8);
    expect([readMsr(m.cpu, 0xc0000101), readMsr(m.cpu, 0xc0000102)]).toEqual([0xffff888000000000n, 0x1234n]);
    expect(m.attempt(0xf3, 0x48, 0x0f, 0xae, 0xc8)).toBe('#6()');
    m.cpu.set32(S.cr4, Cr4.PAE | Cr4.FSGSBASE);
    m.step(0xf3, 0x48, 0x0f, 0xae, 0xc8);
    expect(m.cpu.reg64(0)).toBe(0xffff888000000000n);
    m.step(0xf3, 0x0f, 0xae, 0xd0);
    expect(m.cpu.segmentBase(SegmentIndex.FS)).toBe(0);
  });
});

describe('CPUID', () => {
  it('has one place for each feature, and knows all names', () => {
    const places = featureRows.map((row) => `${row.leaf}.${row.subleaf}.${row.register}.${row.bit}`);
    expect(new Set(places).size).toBe(places.length);
    expect(() => checkFeatures(['VMX', 'NOPE'])).toThrow(/NOPE/);
  });
  it('vendor, signature, ranges, brand', () => {
    const m = new SystemMachine().protect(0);
    expect(cpuid(m.cpu, 0, 0)).toEqual([0x16, 0x756e6547, 0x6c65746e, 0x49656e69]);
    expect(cpuid(m.cpu, 1, 0)[0]).toBe(profile.signature);
    expect(cpuid(m.cpu, 0x40000000, 0)).toEqual(cpuid(m.cpu, 0x16, 0));
    expect(cpuid(m.cpu, 0x80000008, 0)[0]).toBe(40 | (48 << 8));
    expect(cpuid(m.cpu, 0x80000002, 0)[0]).toBe(0x74736554);
    expect(cpuid(m.cpu, 0x80000001, 0)[3] & (1 << 11)).toBe(0);
    expect(cpuid(new SystemMachine().long(0).cpu, 0x80000001, 0)[3] & (1 << 11)).not.toBe(0);
    m.bus.apicBase = 0xfee00100;
    expect(cpuid(m.cpu, 1, 0)[3] & (1 << 9)).toBe(0);
    set(m, 1).step(0x0f, 0xa2);
    expect([m.cpu.reg32(0), (m.cpu.reg32(2) >>> 25) & 1]).toEqual([profile.signature, 1]);
  });
});

describe('ports', () => {
  it('IN and OUT of all sizes', () => {
    const m = set(new SystemMachine().protect(0), 0xaabbccdd, undefined, 0x3f8);
    m.step(0xee);
    m.step(0x66, 0xef);
    m.step(0xef);
    m.step(0xe4, 0x60);
    expect(m.cpu.reg32(0)).toBe(0xaabbcc78);
    m.step(0x66, 0xed);
    expect(m.cpu.reg32(0)).toBe(0xaabb5678);
    m.step(0xed);
    expect(m.cpu.reg32(0)).toBe(0x12345678);
    expect(m.bus.log).toEqual(['out 3f8 1 dd', 'out 3f8 2 ccdd', 'out 3f8 4 aabbccdd', 'in 60 1', 'in 3f8 2', 'in 3f8 4']);
  });
  it('the permission bit map of the TSS', () => {
    const m = set(new SystemMachine().protect(3), 0, undefined, 0x40);
    m.cpu.setSegment(SegmentIndex.TR, Sel.tss, At.tss, 0x71, 0x8b); // map at 0x68..0x70, end byte 0x71
    expect(m.attempt(0xec)).toBe('0');
    m.ram.setUint8(At.tss + 0x68 + 8, 0x04);
    expect([ioPermitted(m.cpu, 0x40, 1), ioPermitted(m.cpu, 0x40, 2), ioPermitted(m.cpu, 0x40, 4), ioPermitted(m.cpu, 0x42, 1)]).toEqual([true, true, false, false]);
    expect(ioPermitted(m.cpu, 0x48, 1)).toBe(false); // beyond the map
    m.cpu.setReg32(2, 0x42);
    expect(m.attempt(0xec)).toBe('#13(0)');
    m.cpu.flags = 0x3002;
    expect(m.attempt(0xec)).toBe('0');
  });
  it('REP OUTSB and INSD: one iteration at a time', () => {
    const m = set(new SystemMachine().protect(0), 0, 2, 0x3f8);
    m.cpu.setReg32(6, 0x7000);
    m.cpu.setReg32(7, 0x7100);
    m.ram.setUint16(0x7000, 0x4241, true);
    expect(m.step(0xf3, 0x6e)).toBe(Flow.Jump);
    expect([m.cpu.rip, m.cpu.reg32(1)]).toEqual([At.code, 1]);
    m.step(0xf3, 0x6e);
    expect([m.cpu.rip, m.cpu.reg32(1), m.cpu.reg32(6), m.cpu.getFloat(S.iterations)]).toEqual([At.code + 2, 0, 0x7002, 2]);
    m.step(0x6d);
    expect([m.ram.getUint32(0x7100, true), m.cpu.reg32(7)]).toEqual([0x12345678, 0x7104]);
    m.mmu.absent.add(7);
    m.bus.log.length = 0;
    m.step(0x6d);
    expect(m.bus.log).toEqual([]); // the port is not read when the store would fault
  });
});

describe('flags', () => {
  it('STI shadows only when IF was clear; CLI and STI need IOPL', () => {
    const m = new SystemMachine().protect(0);
    expect(m.step(0xfb)).toBe(Flow.Next);
    expect(m.cpu.shadowNow).toBe(1);
    m.step(0xfb);
    expect(m.cpu.shadowNow).toBe(0);
    m.step(0xfa);
    m.cpu.set32(S.interruptPending, 1);
    expect(m.step(0xfb)).toBe(Flow.Leave);
    expect(new SystemMachine().protect(3).attempt(0xfa)).toBe('#13(0)');
    const pvi = new SystemMachine().protect(3);
    pvi.cpu.set32(S.cr4, Cr4.PVI);
    pvi.step(0xfb);
    expect(pvi.cpu.flags & (Flag.IF | Flag.VIF)).toBe(Flag.VIF);
  });
  it('POPF at ring 3 leaves IF and IOPL alone, and RF clear', () => {
    const m = new SystemMachine().protect(3);
    m.ram.setUint32(At.userStack, 0xffffffff, true);
    m.step(0x9d);
    expect(m.cpu.flags).toBe(0x244dd7); // ID AC NT OF DF TF SF ZF AF PF CF
    expect(m.cpu.reg32(4)).toBe(At.userStack + 4);
    m.step(0x9c);
    expect(m.ram.getUint32(At.userStack, true)).toBe(0x244dd7);
  });
});

describe('fast system calls', () => {
  it('SYSCALL and SYSRET', () => {
    const m = new SystemMachine().long(3);
    writeMsr(m.cpu, 0xc0000081, (0x0013n << 48n) | (0x0008n << 32n));
    writeMsr(m.cpu, 0xc0000082, 0xffffffff80001000n);
    writeMsr(m.cpu, 0xc0000084, 0x200n);
    m.cpu.flags = 0x203;
    m.step(0x0f, 0x05);
    expect([m.cpu.rip, m.cpu.cpl, m.cpu.selector(SegmentIndex.CS), m.cpu.selector(SegmentIndex.SS), m.cpu.attributes(SegmentIndex.CS), m.cpu.reg64(1), m.cpu.reg64(11), m.cpu.flags])
      .toEqual([-0x7ffff000, 0, 8, 16, 0xa09b, BigInt(At.code + 2), 0x203n, 3]);
    m.step(0x48, 0x0f, 0x07);
    expect([m.cpu.rip, m.cpu.cpl, m.cpu.selector(SegmentIndex.CS), m.cpu.selector(SegmentIndex.SS), m.cpu.attributes(SegmentIndex.CS), m.cpu.flags]).toEqual([At.code + 2, 3, 0x23, 0x1b, 0xa0fb, 0x203]);
    m.step(0x0f, 0x05);
    m.cpu.setReg64(1, 0x800000000000n);
    expect(m.attempt(0x48, 0x0f, 0x07)).toBe('#13(0)');
    m.step(0x0f, 0x07); // to compatibility mode: only ECX counts
    expect([m.cpu.rip, m.cpu.selector(SegmentIndex.CS), m.cpu.attributes(SegmentIndex.CS), m.cpu.code64]).toEqual([0, 0x13, 0xc0fb, false]);
    expect(new SystemMachine().protect(0).attempt(0x0f, 0x05)).toBe('#6()');
  });
  it('SYSENTER and SYSEXIT', () => {
    const m = new SystemMachine().protect(3);
    expect(m.attempt(0x0f, 0x34)).toBe('#13(0)');
    writeMsr(m.cpu, 0x174, 8n);
    writeMsr(m.cpu, 0x175, 0x8000n);
    writeMsr(m.cpu, 0x176, 0xc0001000n);
    m.cpu.flags = 0x202;
    m.step(0x0f, 0x34);
    expect([m.cpu.rip, m.cpu.reg32(4), m.cpu.cpl, m.cpu.selector(SegmentIndex.CS), m.cpu.selector(SegmentIndex.SS), m.cpu.flags]).toEqual([0xc0001000, 0x8000, 0, 8, 16, 2]);
    set(m, undefined, 0x9000, 0x10000).step(0x0f, 0x35);
    expect([m.cpu.rip, m.cpu.reg32(4), m.cpu.cpl, m.cpu.selector(SegmentIndex.CS), m.cpu.selector(SegmentIndex.SS)]).toEqual([0x10000, 0x9000, 3, 0x1b, 0x23]);
  });
});

describe('exceptions by instruction', () => {
  it('BOUND, UD, INTO', () => {
    const m = set(new SystemMachine().protect(0), 0x7000, -5 >>> 0);
    m.ram.setInt32(0x7000, -5, true);
    m.ram.setInt32(0x7004, 5, true);
    expect(m.attempt(0x62, 0x08)).toBe('0');
    m.cpu.setReg32(1, 6);
    expect(m.attempt(0x62, 0x08)).toBe('#5()');
    expect(m.attempt(0x0f, 0x0b)).toBe('#6()');
    expect(m.attempt(0xce)).toBe('0');
    m.cpu.flags = Flag.OF | 2;
    m.step(0xce);
    expect(m.cpu.rip).toBe(At.handler + 4 * 16);
    expect(m.dwords(At.kernelStack - 12, 1)).toEqual([At.code + 1]);
  });
});
