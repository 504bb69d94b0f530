import type { Cpu } from '../cpu/cpu.ts';
import { S } from '../cpu/state.ts';
import { EptTranslation } from '../ept/translate.ts';
import { Capability } from '../vmcs/capability.ts';
import { CheckCache, type CheckContext } from '../vmcs/check.ts';
import { controlChecks } from '../vmcs/check-control.ts';
import { guestChecks } from '../vmcs/check-guest.ts';
import { hostChecks } from '../vmcs/check-host.ts';
import { Primary, Secondary } from '../vmcs/control.ts';
import { Field, fieldNumber, fields, FieldType, Region } from '../vmcs/field.ts';
import { LaunchState, Vmcs } from '../vmcs/storage.ts';
import type { InterceptTable } from './intercept.ts';
import { VmInstructionError } from './reason.ts';

const TWO32 = 4294967296;
/** Outcome of a VMX instruction besides the error numbers, which are positive (SDM "Conventions", VMsucceed and VMfailInvalid). */
export const VmxResult = { Success: 0, FailInvalid: -1 } as const;
/** No current VMCS; no VMXON region. */
export const NO_POINTER = -1;

/** Validity of the checked groups of one VMCS. */
export interface ValidityCaches {
  readonly control: CheckCache;
  readonly host: CheckCache;
  readonly guest: CheckCache;
  hostLongMode: boolean;
}

/**
 * VMX operation of one CPU: the state behind the VMX instructions and transitions. Instruction bodies (vmx/rows.ts),
 * entry, exit and intercepts work on it, and so do monitors that use VT-x from outside the guest. Addresses are
 * physical, as numbers; 64-bit field values are word pairs.
 */
export class Vmx {
  readonly capability: Capability;
  readonly intercepts: InterceptTable;
  readonly ept: EptTranslation | null;
  /** In VMX operation; in VMX non-root operation. */
  on = false;
  nonRoot = false;
  vmxonPointer: number = NO_POINTER;
  /** Physical address of the current VMCS, or NO_POINTER. */
  current: number = NO_POINTER;
  /** View of the current VMCS region in RAM. */
  readonly vmcs: Vmcs;
  /** Result of the last {@link read}. */
  low = 0;
  high = 0;

  // controls of the VMCS in use, read at VM entry
  pin = 0;
  primary = 0;
  /** 0 unless activated. */
  secondary = 0;
  exitControls = 0;
  entryControls = 0;
  exceptionBitmap = 0;
  pageFaultMask = 0;
  pageFaultMatch = 0;
  cr0Mask = 0;
  cr0Shadow = 0;
  cr4Mask = 0;
  cr4Shadow = 0;
  ioBitmapA = 0;
  ioBitmapB = 0;
  msrBitmaps = 0;
  virtualApic = 0;

  // registers of an exit under way, cleared by it
  exitLength = 0;
  exitInstruction = 0;
  exitInterruption = 0;
  exitInterruptionError = 0;
  exitLinear = 0;
  exitGuestPhysical = 0;
  /** RFLAGS.RF is 1 in the saved image (the exit stands for a fault). */
  exitResume = false;

  /** The event being delivered is injected by VM entry: it causes no exit itself. */
  injecting = false;
  /** A write to the virtual task priority went below the threshold. */
  tprBelow = false;
  /** Preemption timer: count of timer ticks (TSC >> rate) at which it expires; Infinity when off. */
  timerTick = Infinity;
  /** TSC offset outside the guest, as two words. */
  rootTscLow = 0;
  rootTscHigh = 0;
  /** Exits and entries since power-on. */
  exits = 0;
  entries = 0;

  private readonly caches = new Map<number, ValidityCaches>();
  private validity: ValidityCaches | null = null;
  readonly context: CheckContext & { hostLongMode: boolean };

  constructor(cpu: Cpu, capability: Capability, intercepts: InterceptTable, eferBits: number) {
    this.capability = capability;
    this.intercepts = intercepts;
    this.ept = capability.profile.ept === null ? null : new EptTranslation(capability.profile.ept, cpu.profile.physicalAddressBits);
    this.vmcs = new Vmcs(cpu.memory.u32, 0);
    this.context = {
      vmcs: this.vmcs, capability, physicalBits: cpu.profile.physicalAddressBits, linearBits: cpu.profile.linearAddressBits, hostLongMode: false, eferBits, debugctlBits: 3,
      readWord: (physical) => cpu.readPhysical(physical, 4) >>> 0,
    };
  }

  // --- results -------------------------------------------------------------------------------------------------
  /** VMfail: with a current VMCS the error number goes to its VM-instruction error field. */
  fail(error: number): number {
    if (this.current === NO_POINTER) return VmxResult.FailInvalid;
    this.vmcs.set(Field.VmInstructionError, error);
    return error;
  }

  private validAddress(cpu: Cpu, physical: number): boolean {
    return physical % Region.size === 0 && physical < 2 ** cpu.profile.physicalAddressBits;
  }
  private inRam(cpu: Cpu, physical: number): boolean { return physical + Region.size <= cpu.memory.ramSize; }
  /** View of any VMCS region in RAM. */
  region(cpu: Cpu, physical: number): Vmcs { return new Vmcs(cpu.memory.u32, (cpu.memory.ramBase + physical) / 4); }

  // --- entering and leaving VMX operation ----------------------------------------------------------------------
  /** VMXON, after the fault checks of its row. */
  enable(cpu: Cpu, physical: number): number {
    if (this.on) return this.fail(VmInstructionError.VmxonInRoot);
    if (!this.validAddress(cpu, physical) || cpu.readPhysical(physical, 4) >>> 0 !== this.capability.profile.revision) return VmxResult.FailInvalid;
    this.on = true;
    this.vmxonPointer = physical;
    this.current = NO_POINTER;
    this.validity = null;
    return VmxResult.Success;
  }

  /** VMXOFF in root operation. */
  disable(): number {
    this.on = false;
    this.nonRoot = false;
    this.vmxonPointer = NO_POINTER;
    this.current = NO_POINTER;
    this.validity = null;
    return VmxResult.Success;
  }

  // --- VMCS pointers -------------------------------------------------------------------------------------------
  /** VMCLEAR. */
  clear(cpu: Cpu, physical: number): number {
    if (!this.validAddress(cpu, physical)) return this.fail(VmInstructionError.VmclearInvalidAddress);
    if (physical === this.vmxonPointer) return this.fail(VmInstructionError.VmclearVmxonPointer);
    if (this.inRam(cpu, physical)) this.region(cpu, physical).launchState = LaunchState.Clear;
    else cpu.observer?.unmodelled?.(`VMCLEAR of a region outside RAM at 0x${physical.toString(16)}: nothing stored`);
    this.caches.delete(physical);
    if (physical === this.current) {
      this.current = NO_POINTER;
      this.validity = null;
    }
    return VmxResult.Success;
  }

  /** VMPTRLD. */
  load(cpu: Cpu, physical: number): number {
    if (!this.validAddress(cpu, physical)) return this.fail(VmInstructionError.VmptrldInvalidAddress);
    if (physical === this.vmxonPointer) return this.fail(VmInstructionError.VmptrldVmxonPointer);
    if (!this.inRam(cpu, physical) || cpu.readPhysical(physical, 4) >>> 0 !== this.capability.profile.revision) return this.fail(VmInstructionError.VmptrldRevision);
    this.current = physical;
    this.vmcs.base = (cpu.memory.ramBase + physical) / 4;
    this.validity = this.caches.get(physical) ?? null;
    return VmxResult.Success;
  }

  // --- fields --------------------------------------------------------------------------------------------------
  /** VMREAD: the component with this encoding goes to `low` and `high`. */
  read(encoding: number): number {
    if (this.current === NO_POINTER) return VmxResult.FailInvalid;
    const number = fieldNumber(encoding);
    if (number < 0 || this.capability.fieldExists[number] === 0) return this.fail(VmInstructionError.UnsupportedComponent);
    const field = fields[number]!;
    if ((encoding & 1) !== 0) {
      this.low = this.vmcs.high(field);
      this.high = 0;
    } else {
      this.low = this.vmcs.low(field);
      this.high = this.vmcs.high(field);
    }
    return VmxResult.Success;
  }

  /** VMWRITE. Values are cut to the field's width. */
  write(encoding: number, low: number, high: number): number {
    if (this.current === NO_POINTER) return VmxResult.FailInvalid;
    const number = fieldNumber(encoding);
    if (number < 0 || this.capability.fieldExists[number] === 0) return this.fail(VmInstructionError.UnsupportedComponent);
    const field = fields[number]!;
    if (field.type === FieldType.ExitInformation && !this.capability.profile.writeAnyField) return this.fail(VmInstructionError.ReadOnlyComponent);
    const oldLow = this.vmcs.low(field);
    const oldHigh = this.vmcs.high(field);
    if ((encoding & 1) !== 0) this.vmcs.set(field, oldLow, low);
    else this.vmcs.set(field, low, high);
    const validity = this.validity;
    // what passed with the old value still does with the same one, unless memory behind the address decides too
    if (validity !== null && (this.vmcs.low(field) !== oldLow || this.vmcs.high(field) !== oldHigh || field === Field.VmcsLinkPointer || field === Field.VirtualApicAddress)) {
      validity.control.written(number);
      validity.host.written(number);
      validity.guest.written(number);
    }
    return VmxResult.Success;
  }

  /** Validity of the current VMCS, made when first needed. */
  currentValidity(hostLongMode: boolean): ValidityCaches {
    let validity = this.validity;
    if (validity === null) {
      validity = { control: new CheckCache(controlChecks), host: new CheckCache(hostChecks), guest: new CheckCache(guestChecks), hostLongMode };
      this.caches.set(this.current, validity);
      this.validity = validity;
    }
    if (validity.hostLongMode !== hostLongMode) {
      validity.hostLongMode = hostLongMode;
      validity.host.invalidate();
    }
    this.context.hostLongMode = hostLongMode;
    return validity;
  }

  /** Reads the controls of the current VMCS into this object. */
  loadControls(): void {
    const v = this.vmcs;
    this.pin = v.low(Field.PinBasedControls);
    this.primary = v.low(Field.PrimaryControls);
    this.secondary = (this.primary & Primary.ActivateSecondaryControls.mask) !== 0 ? v.low(Field.SecondaryControls) : 0;
    this.exitControls = v.low(Field.PrimaryExitControls);
    this.entryControls = v.low(Field.EntryControls);
    this.exceptionBitmap = v.low(Field.ExceptionBitmap);
    this.pageFaultMask = v.low(Field.PageFaultErrorCodeMask);
    this.pageFaultMatch = v.low(Field.PageFaultErrorCodeMatch);
    this.cr0Mask = v.low(Field.Cr0GuestHostMask);
    this.cr0Shadow = v.low(Field.Cr0ReadShadow);
    this.cr4Mask = v.low(Field.Cr4GuestHostMask);
    this.cr4Shadow = v.low(Field.Cr4ReadShadow);
    this.ioBitmapA = address(v, Field.IoBitmapA);
    this.ioBitmapB = address(v, Field.IoBitmapB);
    this.msrBitmaps = address(v, Field.MsrBitmaps);
    this.virtualApic = address(v, Field.VirtualApicAddress);
  }

  // --- snapshots -----------------------------------------------------------------------------------------------
  /** Everything outside linear memory, as plain data. */
  save(): VmxSnapshot {
    return {
      on: this.on, nonRoot: this.nonRoot, vmxonPointer: this.vmxonPointer, current: this.current, tprBelow: this.tprBelow, timerTick: Number.isFinite(this.timerTick) ? this.timerTick : -1,
      rootTscLow: this.rootTscLow, rootTscHigh: this.rootTscHigh, exits: this.exits, entries: this.entries,
      validity: [...this.caches].map(([pointer, v]) => ({ pointer, control: v.control.save(), host: v.host.save(), guest: v.guest.save(), hostLongMode: v.hostLongMode })),
    };
  }

  /** The CPU's state block, RAM and Mmu must have been restored before. */
  restore(cpu: Cpu, saved: VmxSnapshot): void {
    this.on = saved.on;
    this.nonRoot = saved.nonRoot;
    this.vmxonPointer = saved.vmxonPointer;
    this.current = saved.current;
    this.tprBelow = saved.tprBelow;
    this.timerTick = saved.timerTick < 0 ? Infinity : saved.timerTick;
    this.rootTscLow = saved.rootTscLow;
    this.rootTscHigh = saved.rootTscHigh;
    this.exits = saved.exits;
    this.entries = saved.entries;
    this.caches.clear();
    for (const row of saved.validity) {
      const validity: ValidityCaches = { control: new CheckCache(controlChecks), host: new CheckCache(hostChecks), guest: new CheckCache(guestChecks), hostLongMode: row.hostLongMode };
      validity.control.load(row.control);
      validity.host.load(row.host);
      validity.guest.load(row.guest);
      this.caches.set(row.pointer, validity);
    }
    this.validity = this.caches.get(this.current) ?? null;
    if (this.current !== NO_POINTER) this.vmcs.base = (cpu.memory.ramBase + this.current) / 4;
    cpu.interceptSet = null;
    cpu.secondLevel = null;
    cpu.mmu.vpid = 0;
    if (this.nonRoot) {
      this.loadControls();
      this.installGuest(cpu);
    }
    cpu.mmu.updateContext();
  }

  /** Connects the guest of the loaded controls to the CPU: intercept set, VPID and second-level translation. */
  installGuest(cpu: Cpu): void {
    cpu.interceptSet = this.intercepts.select(this);
    cpu.mmu.vpid = (this.secondary & Secondary.EnableVpid.mask) !== 0 ? this.vmcs.low(Field.VirtualProcessorIdentifier) : 0;
    if (this.ept !== null && (this.secondary & Secondary.EnableEpt.mask) !== 0) {
      this.ept.setPointer(this.vmcs.low(Field.EptPointer), this.vmcs.high(Field.EptPointer));
      cpu.secondLevel = this.ept;
    }
  }
}

/** A 64-bit address field as a number. */
export function address(v: Vmcs, field: (typeof Field)['EptPointer']): number {
  return v.high(field) * TWO32 + v.low(field);
}

export interface VmxSnapshot {
  readonly on: boolean;
  readonly nonRoot: boolean;
  readonly vmxonPointer: number;
  readonly current: number;
  readonly tprBelow: boolean;
  /** -1: off. */
  readonly timerTick: number;
  readonly rootTscLow: number;
  readonly rootTscHigh: number;
  readonly exits: number;
  readonly entries: number;
  readonly validity: readonly { readonly pointer: number; readonly control: readonly number[]; readonly host: readonly number[]; readonly guest: readonly number[]; readonly hostLongMode: boolean }[];
}

/** The VMX state of a CPU; Error when it has none. */
export function vmxOf(cpu: Cpu): Vmx {
  if (!(cpu.extension instanceof Vmx)) throw new Error(`CPU ${cpu.index} has no VMX: call installVmx(cpu, profile, isa) before running VMX instructions`);
  return cpu.extension;
}

/** IA32_FEATURE_CONTROL allows VMXON outside SMX: locked, with bit 2. */
export function featureControlAllows(cpu: Cpu): boolean {
  return (cpu.get32(S.featureControl) & 5) === 5;
}
