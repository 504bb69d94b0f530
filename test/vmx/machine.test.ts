import { describe, expect, it } from 'vitest';
import type { Bus } from '../../cpu/bus.ts';
import { ExecutionStop } from '../../cpu/execution.ts';
import { Memory } from '../../cpu/memory.ts';
import { Cr0, Cr4, Efer, S } from '../../cpu/state.ts';
import { encodeEptPointer } from '../../ept/eptp.ts';
import { Core } from '../../machine/core.ts';
import { unit } from '../../machine/profile.ts';
import { PinBased, Primary, Secondary } from '../../vmcs/control.ts';
import { Field, type FieldName } from '../../vmcs/field.ts';
import { enter } from '../../vmx/entry.ts';
import { vmxOf } from '../../vmx/operation.ts';
import { fillValid, GUEST_RIP, HOST_RIP, VMCS_REGION, VMXON_REGION } from './rig.ts';

const GUEST_CR3 = 0x20000, PDPT = 0x21000, PD = 0x22000;
const EPT = 0x24000, EPT_PDPT = 0x25000, EPT_PD = 0x26000;

/** The real engine, translation and run loop: a guest of a hypervisor whose exit handler is HLT. */
function machine(code: readonly number[], engine: 'interpret' | 'evaluate') {
  const bus: Bus = {
    readPhysical: (_, size) => (size === 4 ? 0xffffffff : size === 2 ? 0xffff : 0xff), writePhysical() {}, ioRead: () => 0xff, ioWrite() {},
    acknowledgeInterrupt: () => 0x40, readApicBase: () => 0xfee00900, writeApicBase() {}, readTaskPriority: () => 0, writeTaskPriority() {},
  };
  const core = new Core(new Memory(8 << 20, 1, 4 << 20), 0, unit, bus, engine);
  const { cpu } = core;
  const vmx = vmxOf(cpu);
  const put = (at: number, low: number): void => { cpu.writePhysical(at, 4, low); cpu.writePhysical(at + 4, 4, 0); };
  put(GUEST_CR3, PDPT | 7); put(PDPT, PD | 7);
  put(EPT, EPT_PDPT | 7); put(EPT_PDPT, EPT_PD | 7);
  for (let i = 0; i < 4; i++) put(PD + i * 8, (i << 21) | 0x87);
  put(EPT_PD, 0xb7); // the guest has its first 2 MiB only
  code.forEach((byte, i) => cpu.writePhysical(GUEST_RIP + i, 1, byte));
  cpu.writePhysical(HOST_RIP, 1, 0xf4);
  cpu.set32(S.cr0, Cr0.PE | Cr0.PG | Cr0.NE | Cr0.ET | Cr0.WP);
  cpu.set32(S.cr4, Cr4.PAE | Cr4.VMXE);
  cpu.set32(S.efer, Efer.LME | Efer.LMA);
  cpu.set32(S.cr3, GUEST_CR3);
  cpu.setSegment(1, 8, 0, 0xffffffff, 0xa09b);
  cpu.mmu.updateContext();
  cpu.writePhysical(VMXON_REGION, 4, vmx.capability.profile.revision);
  cpu.writePhysical(VMCS_REGION, 4, vmx.capability.profile.revision);
  expect([vmx.enable(cpu, VMXON_REGION), vmx.clear(cpu, VMCS_REGION), vmx.load(cpu, VMCS_REGION)]).toEqual([0, 0, 0]);
  fillValid(vmx.vmcs, vmx.capability);
  const set = (name: FieldName, low: number, high = 0): void => { expect(vmx.write(Field[name].encoding, low, high)).toBe(0); };
  set('PrimaryControls', vmx.capability.mustBe1.Primary | Primary.ActivateSecondaryControls.mask);
  set('SecondaryControls', Secondary.EnableEpt.mask | Secondary.EnableVpid.mask);
  set('VirtualProcessorIdentifier', 3);
  set('EptPointer', ...encodeEptPointer(EPT));
  const run = (): void => {
    expect(enter(vmx, cpu, vmx.vmcs.launchState === 0, 0)).toBe(0);
    core.engine.stateChanged();
    expect(core.execution.run(1e9, cpu.retired + 100_000)).toBe(ExecutionStop.Idle);
    cpu.set32(S.activity, 0);
  };
  return { cpu, vmx, set, run, put, value: (name: FieldName): bigint => vmx.vmcs.value(Field[name]) };
}

describe.each(['interpret', 'evaluate'] as const)('a guest under VT-x, %s', (engine) => {
  it('exits for an EPT violation of a load, with nothing done, and goes on once it is mapped', () => {
    const m = machine([0x90, 0x8b, 0x04, 0x25, 0x08, 0x00, 0x30, 0x00, 0x0f, 0xa2], engine); // nop; mov eax, [0x300008]; cpuid
    m.cpu.setReg64(0, 0x1234n);
    m.run();
    expect(m.value('ExitReason')).toBe(48n);
    expect(m.value('ExitQualification')).toBe(0x181n);
    expect(m.value('GuestPhysicalAddress')).toBe(0x300008n);
    expect(m.value('GuestLinearAddress')).toBe(0x300008n);
    expect(m.value('GuestRip')).toBe(BigInt(GUEST_RIP + 1));
    expect(m.cpu.reg64(0)).toBe(0x1234n);
    m.put(EPT_PD + 8, 0x400000 | 0xb7);
    m.cpu.writePhysical(0x500008, 4, 0xfeedf00d);
    m.run();
    expect(m.value('ExitReason')).toBe(10n);
    expect(m.cpu.reg32(0)).toBe(0xfeedf00d);
    expect(m.value('GuestRip')).toBe(BigInt(GUEST_RIP + 8));
    expect(m.value('ExitInstructionLength')).toBe(2n);
  });

  it('exits for a guest page table that the EPT does not map', () => {
    const m = machine([0x90], engine);
    m.set('GuestCr3', 0x300000);
    m.run();
    expect(m.value('ExitReason')).toBe(48n);
    expect(m.value('ExitQualification') & 0x187n).toBe(0x81n);
    expect(m.value('GuestPhysicalAddress')).toBe(0x300000n);
    expect(m.value('GuestLinearAddress')).toBe(BigInt(GUEST_RIP));
  });

  it('exits for a misconfigured entry', () => {
    const m = machine([0x88, 0x04, 0x25, 0x00, 0x00, 0x20, 0x00], engine); // mov [0x200000], al
    m.put(EPT_PD + 8, 0x400000 | 0xb2);
    m.run();
    expect(m.value('ExitReason')).toBe(49n);
    expect(m.value('GuestPhysicalAddress')).toBe(0x200000n);
  });

  it('gives the interrupt window as soon as STI has taken effect', () => {
    const m = machine([0x90, 0xfb, 0x90, 0x90, 0xf4], engine); // nop; sti; nop; nop; hlt
    m.set('PrimaryControls', m.vmx.vmcs.low(Field.PrimaryControls) | Primary.InterruptWindowExiting.mask);
    m.run();
    expect(m.value('ExitReason')).toBe(7n);
    expect(m.value('GuestRip')).toBe(BigInt(GUEST_RIP + 3)); // one instruction in the shadow of STI
  });

  it('ends a loop by the preemption timer at the exact cycle', () => {
    const m = machine([0xeb, 0xfe], engine); // jmp $
    m.set('PinBasedControls', 0x16 | PinBased.ActivatePreemptionTimer.mask);
    m.set('PreemptionTimerValue', 1000);
    const start = m.cpu.retired;
    m.run();
    expect(m.value('ExitReason')).toBe(52n);
    expect(m.cpu.retired - start).toBe(1000 + 1); // one cycle each under this profile, and the HLT of the host
  });

  it('exits for an exception of the bitmap and for a triple fault', () => {
    const m = machine([0x0f, 0x0b], engine); // ud2
    m.set('ExceptionBitmap', 1 << 6);
    m.run();
    expect(m.value('ExitInterruptionInformation')).toBe(0x80000306n);
    expect(m.value('GuestRip')).toBe(BigInt(GUEST_RIP));
    m.set('ExceptionBitmap', 0);
    m.set('GuestIdtrLimit', 0);
    m.run();
    expect(m.value('ExitReason')).toBe(2n);
  });
});
