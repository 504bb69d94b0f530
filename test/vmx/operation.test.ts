import { beforeEach, describe, expect, it } from 'vitest';
import { isFault } from '../../cpu/fault.ts';
import { findMsr, readMsr } from '../../cpu/msr.ts';
import { Access, Cr0, Cr4, Flag, S } from '../../cpu/state.ts';
import { nehalemVmx, prescottVmx } from '../../vmcs/capability.ts';
import { Field } from '../../vmcs/field.ts';
import { NO_POINTER } from '../../vmx/operation.ts';
import { vmxRows } from '../../vmx/rows.ts';
import { execute, instruction, isa, ready, rig, VMCS_REGION, VMXON_REGION, type Rig } from './rig.ts';

const POINTER = 0x30000; // memory operand
let r: Rig;
const memory = (syntax: string, address: number | readonly [number, number], parts = {}): void => {
  const [low, high] = typeof address === 'number' ? [address, 0] : address;
  r.cpu.writePhysical(POINTER, 4, low);
  r.cpu.writePhysical(POINTER + 4, 4, high);
  execute(r, instruction(syntax, { memory: true, displacement: POINTER, ...parts }));
};
const outcome = (): string => {
  const flags = r.cpu.flags & 0x8d5;
  if (flags === Flag.CF) return 'invalid';
  if (flags === Flag.ZF) return `valid ${r.vmx.vmcs.low(Field.VmInstructionError)}`;
  return flags === 0 ? 'ok' : `flags ${flags.toString(16)}`;
};
const faultOf = (action: () => void): string => {
  try { action(); } catch (thrown) {
    if (isFault(thrown)) return `#${thrown.vector}${thrown.error >= 0 ? `(${thrown.error})` : ''}`;
    throw thrown;
  }
  return 'none';
};
const UD = '#6', GP = '#13(0)';

describe('VMX instructions', () => {
  it('are twelve rows with the feature VMX', () => {
    expect(vmxRows).toHaveLength(12);
    for (const row of vmxRows) expect(row.feature).toBe('VMX');
    expect(isa.byMnemonic.get('VMREAD')![0]!.notation).toBe('NP 0F 78 /r');
  });

  describe('VMXON', () => {
    beforeEach(() => { r = rig(); r.cpu.writePhysical(VMXON_REGION, 4, r.vmx.capability.profile.revision); });
    it('enters VMX operation', () => {
      memory('VMXON m64', VMXON_REGION);
      expect(outcome()).toBe('ok');
      expect(r.vmx).toMatchObject({ on: true, nonRoot: false, current: NO_POINTER });
    });
    it('gives #UD without CR4.VMXE, in real and compatibility mode', () => {
      r.cpu.set32(S.cr4, Cr4.PAE);
      expect(faultOf(() => memory('VMXON m64', VMXON_REGION))).toBe(UD);
      r.cpu.set32(S.cr4, Cr4.PAE | Cr4.VMXE);
      r.cpu.setSegment(1, 8, 0, 0xffffffff, 0xc09b);
      expect(faultOf(() => memory('VMXON m64', VMXON_REGION))).toBe(UD);
    });
    it('gives #GP(0) at CPL 3, without NE, or where IA32_FEATURE_CONTROL does not allow it', () => {
      r.cpu.cpl = 3;
      expect(faultOf(() => memory('VMXON m64', VMXON_REGION))).toBe(GP);
      r.cpu.cpl = 0;
      for (const bits of [0, 1, 4, 3]) {
        r.cpu.set32(S.featureControl, bits);
        expect(faultOf(() => memory('VMXON m64', VMXON_REGION))).toBe(GP);
      }
      r.cpu.set32(S.featureControl, 5);
      r.cpu.set32(S.cr0, r.cpu.cr0 & ~Cr0.NE);
      expect(faultOf(() => memory('VMXON m64', VMXON_REGION))).toBe(GP);
    });
    it('fails invalid for an unaligned or too large pointer, or another revision', () => {
      for (const bad of [VMXON_REGION + 8, [VMXON_REGION, 0x10] as const, 0x18000]) {
        memory('VMXON m64', bad);
        expect(outcome()).toBe('invalid');
      }
    });
    it('fails with error 15 in root operation, or invalid without a current VMCS', () => {
      memory('VMXON m64', VMXON_REGION);
      memory('VMXON m64', VMXON_REGION);
      expect(outcome()).toBe('invalid');
      r = ready();
      memory('VMXON m64', VMXON_REGION);
      expect(outcome()).toBe('valid 15');
    });
  });

  it('give #UD outside VMX operation and #GP(0) at CPL 3', () => {
    const all = ['VMXOFF', 'VMCLEAR m64', 'VMPTRLD m64', 'VMPTRST m64', 'VMREAD r/my, ry', 'VMWRITE ry, r/my', 'VMLAUNCH', 'VMRESUME', 'VMCALL', 'INVEPT ry, m128', 'INVVPID ry, m128'];
    for (const syntax of all) {
      r = rig();
      expect(faultOf(() => memory(syntax, 0)), syntax).toBe(UD);
      r = ready();
      r.cpu.cpl = 3;
      expect(faultOf(() => memory(syntax, 0)), syntax).toBe(GP);
    }
  });

  describe('on VMCS pointers', () => {
    beforeEach(() => { r = ready(); });
    it('VMCLEAR: errors 2 and 3, launch state, and loss of the current VMCS', () => {
      memory('VMCLEAR m64', 0x123);
      expect(outcome()).toBe('valid 2');
      memory('VMCLEAR m64', VMXON_REGION);
      expect(outcome()).toBe('valid 3');
      r.vmx.vmcs.launchState = 1;
      memory('VMCLEAR m64', VMCS_REGION);
      expect(outcome()).toBe('ok');
      expect(r.vmx.current).toBe(NO_POINTER);
      expect(r.vmx.vmcs.launchState).toBe(0);
    });
    it('VMPTRLD: errors 9, 10 and 11', () => {
      memory('VMPTRLD m64', [VMCS_REGION, 0x10]);
      expect(outcome()).toBe('valid 9');
      memory('VMPTRLD m64', VMXON_REGION);
      expect(outcome()).toBe('valid 10');
      memory('VMPTRLD m64', 0x18000);
      expect(outcome()).toBe('valid 11');
      expect(r.vmx.current).toBe(VMCS_REGION);
    });
    it('VMPTRST stores the pointer, all ones without one', () => {
      memory('VMPTRST m64', 0);
      expect(r.cpu.load64(POINTER)).toBe(BigInt(VMCS_REGION));
      memory('VMCLEAR m64', VMCS_REGION);
      memory('VMPTRST m64', 0);
      expect(r.cpu.load64(POINTER)).toBe(0xffffffffffffffffn);
      expect(outcome()).toBe('ok');
    });
  });

  describe('VMREAD and VMWRITE', () => {
    const vmread = (encoding: bigint): bigint => { r.cpu.setReg64(1, encoding); execute(r, instruction('VMREAD r/my, ry', { reg: 1, rm: 2 })); return r.cpu.reg64(2); };
    const vmwrite = (encoding: bigint, value: bigint): void => { r.cpu.setReg64(1, encoding); r.cpu.setReg64(2, value); execute(r, instruction('VMWRITE ry, r/my', { reg: 1, rm: 2 })); };
    beforeEach(() => { r = ready(); });
    it('move values cut to the width of the field', () => {
      vmwrite(0x681en, 0xffff800012345678n);
      expect(vmread(0x681en)).toBe(0xffff800012345678n);
      vmwrite(0x802n, 0x12345n);
      expect(vmread(0x802n)).toBe(0x2345n);
      vmwrite(0x4004n, 0x1_2345_6789n);
      expect(vmread(0x4004n)).toBe(0x23456789n);
    });
    it('reach the upper half of 64-bit fields', () => {
      vmwrite(0x2010n, 0x1122334455667788n);
      expect(vmread(0x2011n)).toBe(0x11223344n);
      vmwrite(0x2011n, 0xaabbccddn);
      expect(vmread(0x2010n)).toBe(0xaabbccdd55667788n);
    });
    it('fail with 12 for an unknown component, 13 for a read-only one, and invalid without a VMCS', () => {
      vmread(0x4026n);
      expect(outcome()).toBe('valid 12');
      vmread(0x1_0000_681en);
      expect(outcome()).toBe('valid 12');
      vmwrite(0x6801n, 0n);
      expect(outcome()).toBe('valid 12');
      vmwrite(0x4402n, 5n);
      expect(outcome()).toBe('ok'); // IA32_VMX_MISC[29]
      r = ready(nehalemVmx);
      vmwrite(0x4402n, 5n);
      expect(outcome()).toBe('valid 13');
      r.vmx.clear(r.cpu, VMCS_REGION);
      vmread(0x681en);
      expect(outcome()).toBe('invalid');
    });
    it('do not know fields of controls that the CPU lacks', () => {
      r = ready(prescottVmx);
      vmread(0x201an);
      expect(outcome()).toBe('valid 12');
      vmread(0x681en);
      expect(outcome()).toBe('ok');
    });
    it('use memory operands of 8 bytes', () => {
      r.cpu.setReg64(1, 0x6c16n);
      memory('VMWRITE ry, r/my', [0x89abcdef, 0x7654], { reg: 1 });
      expect(vmread(0x6c16n)).toBe(0x765489abcdefn);
      memory('VMREAD r/my, ry', 0, { reg: 1 });
      expect(r.cpu.load64(POINTER)).toBe(0x765489abcdefn);
    });
  });

  it('VMCALL in root operation fails with error 1; VMXOFF leaves VMX operation', () => {
    r = ready();
    execute(r, instruction('VMCALL'));
    expect(outcome()).toBe('valid 1');
    execute(r, instruction('VMXOFF'));
    expect(outcome()).toBe('ok');
    expect(r.vmx.on).toBe(false);
  });

  describe('INVEPT and INVVPID', () => {
    const invalidate = (syntax: string, type: number, words: readonly number[]): string => {
      r = ready();
      r.cpu.setReg64(1, BigInt(type));
      for (let i = 0; i < 4; i++) r.cpu.writePhysical(POINTER + i * 4, 4, words[i] ?? 0);
      execute(r, instruction(syntax, { memory: true, displacement: POINTER, reg: 1 }));
      return outcome();
    };
    it('take their types', () => {
      expect(invalidate('INVEPT ry, m128', 1, [0x501e])).toBe('ok');
      expect(r.mmu.calls.at(-1)).toBe('invalidateEpt 5');
      expect(invalidate('INVEPT ry, m128', 2, [])).toBe('ok');
      expect(r.mmu.calls.at(-1)).toBe('invalidateEpt -1');
      expect(invalidate('INVVPID ry, m128', 0, [7, 0, 0x5000, 0xffff8000])).toBe('ok');
      expect(r.mmu.calls.at(-1)).toBe(`invalidateVpid 7 ${-(2 ** 47) + 0x5000}`);
      expect(invalidate('INVVPID ry, m128', 1, [7])).toBe('ok');
      expect(r.mmu.calls.at(-1)).toBe('invalidateVpid 7');
      expect(invalidate('INVVPID ry, m128', 2, [])).toBe('ok');
      expect(r.mmu.calls.at(-1)).toBe('invalidateVpid -1');
      expect(invalidate('INVVPID ry, m128', 3, [7])).toBe('ok');
      expect(r.mmu.calls.at(-1)).toBe('invalidateVpid 7 keepGlobal');
    });
    it.each([
      ['INVEPT ry, m128', 0, [0x501e]], ['INVEPT ry, m128', 3, []], ['INVEPT ry, m128', 1, [0x5000]], ['INVVPID ry, m128', 4, []], ['INVVPID ry, m128', 1, [0]],
      ['INVVPID ry, m128', 0, [1, 0, 0, 0x8000]], ['INVVPID ry, m128', 1, [0x10001]], ['INVVPID ry, m128', 3, [0]],
    ] as const)('%s type %i with descriptor %j fails with error 28', (syntax, type, words) => {
      expect(invalidate(syntax, type, words)).toBe('valid 28');
    });
    it('do not exist without EPT and VPID', () => {
      r = ready(prescottVmx);
      expect(faultOf(() => memory('INVEPT ry, m128', 0))).toBe(UD);
      expect(faultOf(() => memory('INVVPID ry, m128', 0))).toBe(UD);
    });
  });

  it('capability MSRs are read-only registers of the CPU', () => {
    r = rig(nehalemVmx);
    expect(readMsr(r.cpu, 0x48c)).toBe(0x00000f0106114141n);
    expect(findMsr(r.cpu, 0x491)).toBeUndefined();
    // CR4_FIXED1 is what both the profile and the CPU have
    expect(readMsr(r.cpu, 0x489)).toBe(0x27ffn & BigInt(r.vmx.capability.profile.cr4Fixed1));
    expect(r.cpu.attributes(1) & Access.Long).not.toBe(0);
  });
});
