import { describe, expect, it } from 'vitest';
import { costKeys } from '../../cpu/cost.ts';
import { published } from '../../cpu/profile.ts';
import { VmExitReason } from '../../vmx/reason.ts';
import { Capability } from '../../vmcs/capability.ts';
import { checkProfile, profiles } from '../../machine/profile.ts';

const value = (name: keyof typeof profiles, key: string): number => profiles[name].cpu.costs[key]!.value;

describe('machine profiles', () => {
  it('state every cost and no other', () => {
    for (const profile of Object.values(profiles)) {
      expect(() => checkProfile(profile)).not.toThrow();
      expect(() => new Capability(profile.vmx)).not.toThrow();
    }
    expect(new Set(costKeys.map(c => c.key)).size).toBe(costKeys.length);
  });

  it('a missing or unknown cost is named', () => {
    const { unit } = profiles;
    const without = Object.fromEntries(Object.entries(unit.cpu.costs).filter(([key]) => key !== 'vmx.exit'));
    expect(() => checkProfile({ name: 'x', cpu: { ...unit.cpu, costs: without } })).toThrow(/x: cost 'vmx.exit'.*missing/);
    expect(() => checkProfile({ name: 'x', cpu: { ...unit.cpu, costs: { ...unit.cpu.costs, 'vmx.leave': published(1, 's') } } })).toThrow(/unknown cost 'vmx.leave'/);
    expect(() => checkProfile({ name: 'x', cpu: { ...unit.cpu, costs: { ...unit.cpu.costs, alu: published(0.5, 's') } } })).toThrow(/whole cycles/);
    expect(() => checkProfile({ name: 'x', cpu: { ...unit.cpu, costs: { ...unit.cpu.costs, 'vmx.exit.Hlt': published(1, 's') } } })).not.toThrow();
  });

  it('an unknown feature is named', () => {
    const { unit } = profiles;
    expect(() => checkProfile({ name: 'x', cpu: { ...unit.cpu, features: ['TSC', 'FOO'] } })).toThrow(/FOO/);
  });

  it('exit costs name exit reasons', () => {
    for (const profile of Object.values(profiles)) {
      for (const key of Object.keys(profile.cpu.costs)) if (key.startsWith('vmx.exit.')) expect(VmExitReason).toHaveProperty(key.slice('vmx.exit.'.length));
    }
  });

  it('agree with published round trips', () => {
    // Agesen et al. 2012, table 1; Adams and Agesen 2006, table 1 and sections 3.3 and 6.1
    expect(value('prescott', 'vmentry') + value('prescott', 'vmx.exit')).toBe(3963);
    expect(value('nehalem', 'vmentry') + value('nehalem', 'vmx.exit')).toBe(1009);
    expect(value('prescott', 'vmentry') + value('prescott', 'vmx.exit.ExceptionOrNmi')).toBe(4340);
    expect([value('prescott', 'vmread'), value('prescott', 'vmwrite')]).toEqual([178, 171]);
    expect(value('prescott', 'call') + value('prescott', 'ret')).toBe(11);
    expect(value('prescott', 'syscall') + value('prescott', 'sysret')).toBe(242);
    expect(value('prescott', 'event.exception') + value('prescott', 'iret')).toBe(889);
    // trap-and-emulate RDTSC
    expect(['event.exception', 'monitor.dispatch', 'monitor.decode', 'monitor.emulate', 'iret'].reduce((sum, key) => sum + value('prescott', key), 0)).toBe(2030);
  });

  it('unit: one cycle per instruction, nothing else', () => {
    for (const { key, kind } of costKeys) expect(value('unit', key), key).toBe(kind === 'row' ? 1 : 0);
    expect(profiles.unit.cpu.frequency).toBe(1_000_000_000);
  });

  it('offer VMX by generation', () => {
    expect(profiles.prescott.vmx.ept).toBeNull();
    expect(profiles.prescott.vmx.vpid).toBeNull();
    expect(profiles.nehalem.vmx.ept?.accessedDirty).toBe(false);
    expect(profiles.nehalem.vmx.vpid).not.toBeNull();
    for (const profile of Object.values(profiles)) expect(profile.cpu.features).toContain('VMX');
    expect(Object.keys(profiles)[0]).toBe('nehalem');
  });
});
