import { describe, expect, it } from 'vitest';
import { Capability, nehalemVmx, prescottVmx, unitVmx } from '../../vmcs/capability.ts';
import { Secondary, Tertiary } from '../../vmcs/control.ts';
import { Field } from '../../vmcs/field.ts';

const value = (capability: Capability, number: number): bigint | null => {
  const pair = capability.msr(number);
  return pair && (BigInt(pair[1]) << 32n) | BigInt(pair[0]);
};

/** Capability MSRs that Debian's Bochs reports for its corei5_lynnfield_750 model. */
const lynnfield: Record<number, bigint> = {
  0x480: 0x00d810000000002bn, 0x481: 0x0000007f00000016n, 0x482: 0xfff9fffe0401e172n, 0x483: 0x407fffff00036dffn, 0x484: 0x0000ffff000011ffn, 0x485: 0x00000000000401e0n,
  0x486: 0x80000021n, 0x487: 0xffffffffn, 0x488: 0x2000n, 0x489: 0x67ffn, 0x48a: 0x54n, 0x48b: 0x0000007f00000000n, 0x48c: 0x00000f0106114141n,
  0x48d: 0x0000007f00000016n, 0x48e: 0xfff9fffe04006172n, 0x48f: 0x407fffff00036dfbn, 0x490: 0x0000ffff000011fbn,
};

/** Differences, as the bits that differ, with the reason. */
const differences: Record<number, readonly [bigint, string]> = {
  0x480: [0x2bn ^ 0x0en, 'the revision identifier is ours'],
  0x482: [0x0800000000000000n, 'monitor trap flag (27) is not implemented'],
  0x48e: [0x0800000000000000n, 'monitor trap flag (27) is not implemented'],
  0x483: [0x4000100000000000n, 'load and save IA32_PERF_GLOBAL_CTRL (12, 30) are not implemented'],
  0x48f: [0x4000100000000000n, 'load and save IA32_PERF_GLOBAL_CTRL (12, 30) are not implemented'],
  0x484: [0x00002c0000000000n, 'entry to SMM (10), deactivate dual-monitor treatment (11) and load IA32_PERF_GLOBAL_CTRL (13) are not implemented'],
  0x490: [0x00002c0000000000n, 'entry to SMM (10), deactivate dual-monitor treatment (11) and load IA32_PERF_GLOBAL_CTRL (13) are not implemented'],
  0x485: [5n, 'the real processor counts the preemption timer every 32 TSC cycles; Bochs every one'],
  0x489: [0x4000n, 'SMX is not modelled'],
  0x48a: [0x54n ^ 0x2en, 'Bochs reports a constant; the highest index of this field set is that of the preemption timer value (0x17)'],
  0x48b: [0x0000001100000000n, 'virtualize APIC accesses (0) and x2APIC mode (4) are not implemented'],
};

describe('capability MSRs', () => {
  it('of nehalem equal Lynnfield but for the listed differences', () => {
    const capability = new Capability(nehalemVmx);
    for (const [number, theirs] of Object.entries(lynnfield)) {
      const ours = value(capability, Number(number));
      expect((ours! ^ theirs).toString(16), `MSR ${Number(number).toString(16)}`).toBe((differences[Number(number)]?.[0] ?? 0n).toString(16));
    }
    expect(capability.msrNumbers().map(Number).sort((a, b) => a - b)).toEqual(Object.keys(lynnfield).map(Number));
  });

  it('of prescott have no secondary controls, EPT or TRUE registers', () => {
    const capability = new Capability(prescottVmx);
    for (const number of [0x48b, 0x48c, 0x48d, 0x48e, 0x48f, 0x490]) expect(capability.msr(number)).toBeNull();
    expect(value(capability, 0x480)! >> 55n & 1n).toBe(0n);
    expect(capability.fieldExists[Field.EptPointer.number]).toBe(0);
    expect(capability.fieldExists[Field.SecondaryControls.number]).toBe(0);
    expect(capability.fieldExists[Field.GuestIa32Efer.number]).toBe(0);
    expect(capability.fieldExists[Field.GuestRip.number]).toBe(1);
    // CR3-load and CR3-store exiting cannot be turned off without the TRUE registers
    expect(capability.mustBe1.Primary & 0x18000).toBe(0x18000);
  });

  it('of unit allow what is implemented, and the TRUE registers let default1 controls be 0', () => {
    const capability = new Capability(unitVmx);
    expect(capability.mustBe1).toMatchObject({ PinBased: 0x16, Primary: 0x04006172, Exit: 0x36dfb, Entry: 0x11fb });
    expect(capability.supports(Secondary.UnrestrictedGuest)).toBe(true);
    expect(value(capability, 0x485)! & 0x20n).toBe(0x20n);
  });

  it('refuses a profile that advertises what is not implemented', () => {
    expect(() => new Capability({ ...unitVmx, controls: [...unitVmx.controls, Tertiary.EnableHlat] })).toThrow(/Enable HLAT/);
    expect(() => new Capability({ ...nehalemVmx, ept: null })).toThrow(/Enable EPT/);
  });
});
