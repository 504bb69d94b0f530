import { beforeEach, describe, expect, it } from 'vitest';
import { isFault } from '../../cpu/fault.ts';
import { Cr0, Cr4, S } from '../../cpu/state.ts';
import { PinBased, Primary, Secondary } from '../../vmcs/control.ts';
import { Field, type FieldName } from '../../vmcs/field.ts';
import { enter } from '../../vmx/entry.ts';
import { deliverEvent } from '../../cpu/interrupt.ts';
import { EventType, type CpuEvent } from '../../cpu/events.ts';
import { vmxHooks } from '../../vmx/event.ts';
import { interceptRules } from '../../vmx/intercept.ts';
import { describeInterruption, describeQualification, reasonName, VmExitReason, type VmExitReasonName } from '../../vmx/reason.ts';
import { execute, instruction, or, ready, vmwrite, type Rig } from './rig.ts';

let r: Rig;
const field = (name: FieldName): bigint => r.vmx.vmcs.value(Field[name]);
const launch = (): void => { if (enter(r.vmx, r.cpu, true, 0) !== 0 || !r.vmx.nonRoot) throw new Error(`entry failed: ${JSON.stringify(r.entries.at(-1)?.failing)} ${field('VmInstructionError')} ${field('ExitReason').toString(16)}`); };
const secondary = (bits: number): void => { or(r, 'PrimaryControls', Primary.ActivateSecondaryControls.mask); or(r, 'SecondaryControls', bits); };
beforeEach(() => { r = ready(); });

type Set = () => void;
const primary = (bit: { mask: number }): Set => () => or(r, 'PrimaryControls', bit.mask);
const none: Set = () => {};
const GPR = { reg: 0, rm: 6 };

describe('intercepts', () => {
  it.each<[string, Parameters<typeof instruction>[1], VmExitReasonName, Set, bigint?]>([
    ['CPUID', {}, 'Cpuid', none], ['INVD', {}, 'Invd', none], ['VMCALL', {}, 'Vmcall', none], ['VMXOFF', {}, 'Vmxoff', none], ['VMLAUNCH', {}, 'Vmlaunch', none], ['VMRESUME', {}, 'Vmresume', none],
    ['VMREAD r/my, ry', { reg: 1, rm: 2 }, 'Vmread', none], ['VMPTRLD m64', { memory: true, displacement: -8, base: 3 }, 'Vmptrld', none, 0xfffffffffffffff8n],
    ['HLT', {}, 'Hlt', primary(Primary.HltExiting)], ['PAUSE', {}, 'Pause', primary(Primary.PauseExiting)], ['RDTSC', {}, 'Rdtsc', primary(Primary.RdtscExiting)],
    ['RDPMC', {}, 'Rdpmc', primary(Primary.RdpmcExiting)], ['MWAIT', {}, 'Mwait', primary(Primary.MwaitExiting)], ['MONITOR', {}, 'Monitor', primary(Primary.MonitorExiting)],
    ['INVLPG m', { memory: true, displacement: 0x1234000 }, 'Invlpg', primary(Primary.InvlpgExiting), 0x1234000n],
    ['WBINVD', {}, 'Wbinvd', () => secondary(Secondary.WbinvdExiting.mask)],
    ['RDTSCP', {}, 'Rdtscp', () => { secondary(Secondary.EnableRdtscp.mask); primary(Primary.RdtscExiting)(); }],
    ['LGDT m16&64', { memory: true, displacement: 0x40 }, 'GdtrIdtrAccess', () => secondary(Secondary.DescriptorTableExiting.mask), 0x40n],
    ['STR r/mv', { rm: 3 }, 'LdtrTrAccess', () => secondary(Secondary.DescriptorTableExiting.mask)],
    ['MOV DRn, Ry', { reg: 7, rm: 5 }, 'MovDr', primary(Primary.MovDrExiting), 0x507n],
    ['MOV Ry, DRn', { reg: 6, rm: 5 }, 'MovDr', primary(Primary.MovDrExiting), 0x516n],
    ['MOV CRn, Ry', { reg: 3, rm: 6 }, 'CrAccess', primary(Primary.Cr3LoadExiting), 0x603n],
    ['MOV Ry, CRn', { reg: 3, rm: 6 }, 'CrAccess', primary(Primary.Cr3StoreExiting), 0x613n],
    ['MOV CRn, Ry', { reg: 8, rm: 1 }, 'CrAccess', primary(Primary.Cr8LoadExiting), 0x108n],
    ['MOV Ry, CRn', { reg: 8, rm: 1 }, 'CrAccess', primary(Primary.Cr8StoreExiting), 0x118n],
    ['RDMSR', {}, 'Rdmsr', none], ['WRMSR', {}, 'Wrmsr', none],
    ['IN AL, imm8', { immediate: 0x71 }, 'IoInstruction', primary(Primary.UnconditionalIoExiting), 0x710048n],
    ['OUT DX, zAX', { operandSize: 32 }, 'IoInstruction', primary(Primary.UnconditionalIoExiting), 0x3f80003n],
    ['INSv', { operandSize: 16, rep: 0xf3 }, 'IoInstruction', primary(Primary.UnconditionalIoExiting), 0x3f80039n],
  ])('%s %j exits with %s', (syntax, parts, reason, set, qualification = 0n) => {
    set();
    launch();
    r.cpu.setReg64(1, 5n);
    r.cpu.setReg64(2, 0x3f8n);
    expect(execute(r, instruction(syntax, parts))).toBe('intercepted');
    expect(reasonName(Number(field('ExitReason')))).toBe(reason);
    expect(field('ExitQualification')).toBe(qualification);
    expect(field('ExitInstructionLength')).toBe(3n);
    expect(r.exits.at(-1)!.why).not.toBe('');
  });

  it('does not exit where the control is 0', () => {
    launch();
    for (const mnemonic of ['HLT', 'PAUSE', 'RDTSC', 'RDPMC', 'INVLPG m', 'WBINVD', 'LGDT m16&64', 'MOV DRn, Ry', 'MOV Ry, CRn', 'IN AL, DX', 'CLTS', 'LMSW r/m16']) {
      expect(r.cpu.interceptSet!.rows.has(instruction(mnemonic).row.id), mnemonic).toBe(false);
    }
    const first = r.cpu.interceptSet!.id;
    execute(r, instruction('CPUID'));
    or(r, 'PrimaryControls', Primary.HltExiting.mask);
    enter(r.vmx, r.cpu, false, 0);
    const second = r.cpu.interceptSet!.id;
    expect(second).not.toBe(first);
    execute(r, instruction('HLT'));
    vmwrite(r, 'PrimaryControls', r.vmx.capability.mustBe1.Primary);
    enter(r.vmx, r.cpu, false, 0);
    expect(r.cpu.interceptSet!.id).toBe(first);
  });

  it('every rule finds rows, except for instructions the CPU does not have', () => {
    const missing = interceptRules.filter((rule) => !['GETSEC'].includes(rule.text) && r.vmx.intercepts['ids'][interceptRules.indexOf(rule)]!.length === 0);
    expect(missing.map((rule) => rule.text)).toEqual([]);
  });

  it('leaves privilege faults to the instruction, except for MOV DR', () => {
    or(r, 'PrimaryControls', Primary.HltExiting.mask | Primary.MovDrExiting.mask);
    launch();
    r.cpu.cpl = 3;
    let thrown: unknown;
    try { execute(r, instruction('HLT')); } catch (caught) { thrown = caught; }
    expect(isFault(thrown) && thrown.vector).toBe(13);
    expect(execute(r, instruction('MOV Ry, DRn', GPR))).toBe('intercepted');
  });

  it('gives #UD for RDTSCP and INVPCID that are not enabled', () => {
    launch();
    for (const syntax of ['RDTSCP', 'INVPCID ry, m128']) expect(() => execute(r, instruction(syntax))).toThrow(expect.objectContaining({ vector: 6 }));
  });

  describe('CR0 and CR4 masks and read shadows', () => {
    it('show the shadow for masked bits and let the others through', () => {
      vmwrite(r, 'Cr4GuestHostMask', Cr4.VMXE | Cr4.PGE);
      vmwrite(r, 'Cr4ReadShadow', Cr4.PGE);
      launch();
      execute(r, instruction('MOV Ry, CRn', { reg: 4, rm: 6 }));
      expect(r.cpu.reg64(6)).toBe(BigInt(Cr4.PAE | Cr4.PGE));
      // unmasked PCE changes, masked bits keep their real values
      r.cpu.setReg64(6, BigInt(Cr4.PAE | Cr4.PGE | Cr4.PCE));
      expect(execute(r, instruction('MOV CRn, Ry', { reg: 4, rm: 6 }))).toBe(1);
      expect(r.cpu.cr4).toBe(Cr4.PAE | Cr4.VMXE | Cr4.PCE);
      // a masked bit that differs from the shadow exits
      r.cpu.setReg64(6, BigInt(Cr4.PAE));
      expect(execute(r, instruction('MOV CRn, Ry', { reg: 4, rm: 6 }))).toBe('intercepted');
      expect(field('ExitQualification')).toBe(0x604n);
    });
    it('CLTS: exit, nothing or normal', () => {
      vmwrite(r, 'GuestCr0', 0x80010031 | Cr0.TS);
      vmwrite(r, 'Cr0GuestHostMask', Cr0.TS);
      vmwrite(r, 'Cr0ReadShadow', Cr0.TS);
      launch();
      expect(execute(r, instruction('CLTS'))).toBe('intercepted');
      expect(field('ExitQualification')).toBe(0x20n);
      vmwrite(r, 'Cr0ReadShadow', 0);
      enter(r.vmx, r.cpu, false, 0);
      expect(execute(r, instruction('CLTS'))).not.toBe('intercepted');
      expect(r.cpu.cr0 & Cr0.TS).toBe(Cr0.TS); // masked: the real bit stays
    });
    it('LMSW exits with its source; SMSW shows the shadow', () => {
      vmwrite(r, 'Cr0GuestHostMask', Cr0.MP);
      launch();
      r.cpu.setReg64(6, 3n);
      expect(execute(r, instruction('LMSW r/m16', { rm: 6 }))).toBe('intercepted');
      expect(field('ExitQualification')).toBe(0x30030n);
      vmwrite(r, 'Cr0ReadShadow', Cr0.MP);
      enter(r.vmx, r.cpu, false, 0);
      execute(r, instruction('SMSW r/mv', { rm: 6 }));
      expect(r.cpu.reg32(6) & Cr0.MP).toBe(Cr0.MP);
      expect(r.cpu.cr0 & Cr0.MP).toBe(0);
    });
    it('CR3 targets pass without exit', () => {
      or(r, 'PrimaryControls', Primary.Cr3LoadExiting.mask);
      vmwrite(r, 'Cr3TargetCount', 1);
      vmwrite(r, 'Cr3TargetValue0', 0x66000);
      launch();
      r.cpu.setReg64(6, 0x66000n);
      expect(execute(r, instruction('MOV CRn, Ry', { reg: 3, rm: 6 }))).toBe(1);
      r.cpu.setReg64(6, 0x67000n);
      expect(execute(r, instruction('MOV CRn, Ry', { reg: 3, rm: 6 }))).toBe('intercepted');
    });
  });

  it('I/O bitmaps select ports, byte by byte, and wrapping accesses exit', () => {
    or(r, 'PrimaryControls', Primary.UseIoBitmaps.mask | Primary.UnconditionalIoExiting.mask);
    vmwrite(r, 'IoBitmapA', 0x31000);
    vmwrite(r, 'IoBitmapB', 0x32000);
    r.cpu.writePhysical(0x31000 + (0x72 >> 3), 1, 1 << 2);
    launch();
    expect(execute(r, instruction('IN AL, imm8', { immediate: 0x71 }))).toBe(0);
    expect(execute(r, instruction('IN zAX, imm8', { immediate: 0x70, operandSize: 32 }))).toBe('intercepted');
    enter(r.vmx, r.cpu, false, 0);
    r.cpu.setReg64(2, 0xffffn);
    expect(execute(r, instruction('OUT DX, AL'))).toBe(0);
    expect(execute(r, instruction('OUT DX, zAX', { operandSize: 16 }))).toBe('intercepted');
  });

  it('MSR bitmaps select registers of the two ranges, by direction', () => {
    or(r, 'PrimaryControls', Primary.UseMsrBitmaps.mask);
    vmwrite(r, 'MsrBitmaps', 0x31000);
    r.cpu.writePhysical(0x31000 + 0xc00 + (0x81 >> 3), 1, 1 << 1);
    launch();
    r.cpu.setReg64(1, 0xc0000081n);
    expect(execute(r, instruction('RDMSR'))).toBe(0);
    expect(execute(r, instruction('WRMSR'))).toBe('intercepted');
    expect(r.exits.at(-1)!.why).toBe('MSR bitmap, high range');
    enter(r.vmx, r.cpu, false, 0);
    r.cpu.setReg64(1, 0x4000n);
    expect(execute(r, instruction('RDMSR'))).toBe('intercepted');
  });

  it('virtualizes CR8 through the TPR shadow, with an exit below the threshold', () => {
    or(r, 'PrimaryControls', Primary.UseTprShadow.mask);
    vmwrite(r, 'VirtualApicAddress', 0x31000);
    vmwrite(r, 'TprThreshold', 4);
    r.cpu.writePhysical(0x31080, 4, 0x60);
    launch();
    execute(r, instruction('MOV Ry, CRn', { reg: 8, rm: 6 }));
    expect(r.cpu.reg64(6)).toBe(6n);
    r.cpu.setReg64(6, 3n);
    execute(r, instruction('MOV CRn, Ry', { reg: 8, rm: 6 }));
    expect(r.cpu.readPhysical(0x31080, 4)).toBe(0x30);
    expect(vmxHooks.boundary(r.cpu)).toBe(true);
    expect(field('ExitReason')).toBe(BigInt(VmExitReason.TprBelowThreshold));
  });
});

describe('events', () => {
  const exception = (vector: number, error = -1, data = 0): CpuEvent => ({ type: EventType.HardwareException, vector, error, data, length: 0 });
  it('the exception bitmap takes exceptions with information, error code and qualification', () => {
    vmwrite(r, 'ExceptionBitmap', (1 << 14) | (1 << 3) | (1 << 1));
    launch();
    deliverEvent(r.cpu, exception(14, 6, -0x1000));
    expect(field('ExitInterruptionInformation')).toBe(0x80000b0en);
    expect(field('ExitInterruptionErrorCode')).toBe(6n);
    expect(field('ExitQualification')).toBe(0xfffffffffffff000n);
    expect(field('IdtVectoringInformation')).toBe(0n);
    expect(field('GuestRflags')).toBe(0x10002n); // RF: the saved image is that of a fault
    expect(describeInterruption(0x80000b0e)).toBe('hardware exception, vector 14, with error code');
    enter(r.vmx, r.cpu, false, 0);
    deliverEvent(r.cpu, { type: EventType.SoftwareException, vector: 3, error: -1, data: 0, length: 1 });
    expect(field('ExitInterruptionInformation')).toBe(0x80000603n);
    expect(field('ExitInstructionLength')).toBe(1n);
    enter(r.vmx, r.cpu, false, 0);
    deliverEvent(r.cpu, exception(1, -1, 0x4001));
    expect(field('ExitQualification')).toBe(0x4001n);
  });

  it.each([[0, 1, 0, 6, true], [0, 1, 1, 6, false], [0, 0, 1, 6, true], [1, 1, 1, 7, true], [1, 1, 1, 6, false]])('page faults: mask %i, match %i, bitmap bit %i, error %i exits: %s', (mask, match, bit, error, exits) => {
    // the match value is compared with the error code under the mask
    vmwrite(r, 'PageFaultErrorCodeMask', mask);
    vmwrite(r, 'PageFaultErrorCodeMatch', match);
    vmwrite(r, 'ExceptionBitmap', bit << 14);
    launch();
    expect(vmxHooks.event(r.cpu, exception(14, error))).toBe(exits);
  });

  it('an exception while another event is delivered leaves IDT-vectoring information', () => {
    vmwrite(r, 'ExceptionBitmap', 1 << 13);
    vmwrite(r, 'GuestIdtrLimit', 0);
    launch();
    deliverEvent(r.cpu, { type: EventType.SoftwareInterrupt, vector: 0x80, error: -1, data: 0, length: 2 });
    expect(field('ExitInterruptionInformation')).toBe(0x80000b0dn);
    expect(field('IdtVectoringInformation')).toBe(0x80000480n);
    expect(field('ExitInstructionLength')).toBe(2n);
  });

  it('a triple fault exits', () => {
    vmwrite(r, 'GuestIdtrLimit', 0);
    launch();
    deliverEvent(r.cpu, exception(6));
    expect(field('ExitReason')).toBe(2n);
    expect(field('IdtVectoringInformation')).toBe(0n);
    expect(r.cpu.get32(S.activity)).toBe(0);
  });

  it('injects an event through the IDT of the guest, without asking the exception bitmap', () => {
    vmwrite(r, 'ExceptionBitmap', 1 << 13);
    const gate = 0x7000 + 13 * 16;
    [(8 << 16) | 0x5678, 0x8e00 | 0x120000, 0, 0].forEach((word, i) => r.cpu.writePhysical(gate + i * 4, 4, word >>> 0));
    [0xffff, 0xaf9b00].forEach((word, i) => r.cpu.writePhysical(0x6008 + i * 4, 4, word));
    vmwrite(r, 'EntryInterruptionInformation', 0x80000b0d);
    vmwrite(r, 'EntryExceptionErrorCode', 0x18);
    launch();
    expect(r.vmx.nonRoot).toBe(true);
    expect(r.cpu.rip).toBe(0x125678);
    expect(r.cpu.load(r.cpu.reg32(4), 4)).toBe(0x18);
    execute(r, instruction('CPUID'));
    expect(field('EntryInterruptionInformation')).toBe(0xb0dn); // the valid bit is cleared by the exit
  });

  it('external interrupts exit whatever IF is, acknowledged on request', () => {
    r.cpu.interruptLine = true;
    launch();
    expect(vmxHooks.externalInterrupt(r.cpu)).toBe('blocked');
    execute(r, instruction('CPUID'));
    or(r, 'PinBasedControls', PinBased.ExternalInterruptExiting.mask);
    enter(r.vmx, r.cpu, false, 0);
    expect(vmxHooks.externalInterrupt(r.cpu)).toBe('exit');
    expect(field('ExitReason')).toBe(1n);
    expect(field('ExitInterruptionInformation')).toBe(0n);
    or(r, 'PrimaryExitControls', 0x8000);
    r.interrupts.push(0x33);
    enter(r.vmx, r.cpu, false, 0);
    expect(vmxHooks.externalInterrupt(r.cpu)).toBe('exit');
    expect(field('ExitInterruptionInformation')).toBe(0x80000033n);
  });

  it('interrupt window: when IF is 1 and nothing blocks, also in HLT', () => {
    or(r, 'PrimaryControls', Primary.InterruptWindowExiting.mask);
    launch();
    expect(vmxHooks.boundary(r.cpu)).toBe(false);
    expect(vmxHooks.deadline(r.cpu)).toBe(r.cpu.cycles + 1);
    r.cpu.flags = 0x202;
    r.cpu.set32(S.activity, 1);
    expect(vmxHooks.boundary(r.cpu)).toBe(true);
    expect(field('ExitReason')).toBe(7n);
    expect(field('GuestActivityState')).toBe(1n);
    expect(r.cpu.get32(S.activity)).toBe(0);
    vmwrite(r, 'GuestActivityState', 0);
    vmwrite(r, 'GuestInterruptibilityState', 1);
    enter(r.vmx, r.cpu, false, 0);
    expect(vmxHooks.boundary(r.cpu)).toBe(false); // STI shadow
  });

  it('NMIs: exit, virtual blocking, window', () => {
    or(r, 'PinBasedControls', PinBased.NmiExiting.mask | PinBased.VirtualNmis.mask);
    or(r, 'PrimaryControls', Primary.NmiWindowExiting.mask);
    vmwrite(r, 'GuestInterruptibilityState', 8);
    launch();
    expect(vmxHooks.boundary(r.cpu)).toBe(false);
    r.cpu.nmiPending = true;
    expect(vmxHooks.boundary(r.cpu)).toBe(true);
    expect(field('ExitInterruptionInformation')).toBe(0x80000202n);
    expect(field('GuestInterruptibilityState')).toBe(8n);
    expect(r.cpu.nmiPending).toBe(false);
    expect(r.cpu.get32(S.nmiBlocked)).toBe(1);
    vmwrite(r, 'GuestInterruptibilityState', 0);
    enter(r.vmx, r.cpu, false, 0);
    expect(vmxHooks.boundary(r.cpu)).toBe(true);
    expect(field('ExitReason')).toBe(8n);
  });

  it('the preemption timer counts TSC cycles at the rate of the profile', () => {
    or(r, 'PinBasedControls', PinBased.ActivatePreemptionTimer.mask);
    or(r, 'PrimaryExitControls', 1 << 22);
    vmwrite(r, 'PreemptionTimerValue', 100);
    launch();
    const start = r.cpu.cycles;
    expect(vmxHooks.deadline(r.cpu)).toBe(start + 100);
    r.cpu.charge(40);
    expect(vmxHooks.boundary(r.cpu)).toBe(false);
    execute(r, instruction('CPUID'));
    expect(field('PreemptionTimerValue')).toBe(60n);
    enter(r.vmx, r.cpu, false, 0);
    r.cpu.charge(60);
    expect(vmxHooks.boundary(r.cpu)).toBe(true);
    expect(field('ExitReason')).toBe(52n);
    expect(field('PreemptionTimerValue')).toBe(0n);
  });

  it('EPT violations carry qualification and addresses', () => {
    secondary(Secondary.EnableEpt.mask);
    vmwrite(r, 'EptPointer', 0x5001e);
    launch();
    expect(r.vmx.ept!.translate(r.cpu, 0x1234567, 2, 0, 0x7654321)).toBe(-1);
    vmxHooks.abort(r.cpu);
    expect(field('ExitReason')).toBe(48n);
    expect(field('ExitQualification')).toBe(0x182n);
    expect(field('GuestPhysicalAddress')).toBe(0x1234567n);
    expect(field('GuestLinearAddress')).toBe(0x7654321n);
    expect(describeQualification(48, 0x182n)).toBe('write; entry allows no access; linear address valid, final translation');
  });

  it('task switches exit', () => {
    launch();
    expect(vmxHooks.taskSwitch!(r.cpu, 0x28, 3, 0)).toBe(true);
    expect(field('ExitQualification')).toBe(0xc0000028n);
    expect(describeQualification(9, 0xc0000028n)).toBe('task gate in the IDT to TSS selector 0x28');
  });
});
