import { controlGroups, controls, default1, Entry, Exit, PinBased, Primary, Secondary, type Control, type ControlGroup } from './control.ts';
import { fields } from './field.ts';

/** What the EPT of a CPU can do (SDM "VPID and EPT Capabilities", low word of IA32_VMX_EPT_VPID_CAP). */
export interface EptCapability {
  readonly executeOnly: boolean;
  readonly pages2m: boolean;
  readonly pages1g: boolean;
  readonly accessedDirty: boolean;
  readonly inveptSingle: boolean;
  readonly inveptAll: boolean;
}

/** INVVPID types (same section, high word). */
export interface VpidCapability {
  readonly individualAddress: boolean;
  readonly singleContext: boolean;
  readonly allContexts: boolean;
  readonly singleRetainingGlobals: boolean;
}

/** The VMX section of a CPU profile. */
export interface VmxProfile {
  readonly name: string;
  readonly description: string;
  /** VMCS revision identifier (31 bits). */
  readonly revision: number;
  /** Controls that may be 1. Default1 bits need not be listed. */
  readonly controls: readonly Control[];
  /** The TRUE capability MSRs exist: the named default1 controls may be 0. */
  readonly trueControls: boolean;
  /** VM exits for INS and OUTS fill the VM-exit instruction-information field. */
  readonly stringInformation: boolean;
  /** Injected hardware exceptions may or may not deliver an error code, whatever the vector. */
  readonly freeErrorCode: boolean;
  readonly ept: EptCapability | null;
  readonly vpid: VpidCapability | null;
  /** CR3-target values supported. */
  readonly cr3Targets: number;
  /** log2 of the TSC ticks per VMX-preemption timer tick. */
  readonly preemptionRate: number;
  /** VM exits store IA32_EFER.LMA into the control "IA-32e mode guest" (always so with unrestricted guest). */
  readonly storesLma: boolean;
  /** Recommended maximum of MSRs in each list: 512 * (value + 1). */
  readonly msrListMax: number;
  readonly activityHlt: boolean;
  readonly activityShutdown: boolean;
  readonly activityWaitForSipi: boolean;
  /** VMWRITE may write the read-only fields. */
  readonly writeAnyField: boolean;
  /** Software events may be injected with instruction length 0. */
  readonly zeroLengthInjection: boolean;
  readonly cr0Fixed0: number;
  readonly cr4Fixed0: number;
  /** CR4 bits that may be 1. */
  readonly cr4Fixed1: number;
}

/** Numbers of the capability MSRs (SDM appendix "VMX Capability Reporting Facility"). */
export const VmxMsr = {
  FeatureControl: 0x3a, Basic: 0x480, PinBased: 0x481, Primary: 0x482, Exit: 0x483, Entry: 0x484, Misc: 0x485, Cr0Fixed0: 0x486, Cr0Fixed1: 0x487, Cr4Fixed0: 0x488, Cr4Fixed1: 0x489,
  VmcsEnum: 0x48a, Secondary: 0x48b, EptVpid: 0x48c, TruePinBased: 0x48d, TruePrimary: 0x48e, TrueExit: 0x48f, TrueEntry: 0x490, VmFunctions: 0x491,
} as const;

type Pair = readonly [low: number, high: number];

/** What a CPU with a given profile advertises: derived words, used by the capability MSRs, the entry checks and VMREAD/VMWRITE. */
export class Capability {
  readonly profile: VmxProfile;
  /** Bits that must be 1 (with the TRUE MSRs where they exist), and that may be 1. */
  readonly mustBe1: Readonly<Record<ControlGroup, number>>;
  readonly mayBe1: Readonly<Record<ControlGroup, number>>;
  /** By field number: 1 if the field exists. */
  readonly fieldExists: Uint8Array;
  private readonly ids: ReadonlySet<string>;
  private readonly msrs = new Map<number, Pair>();

  /** Throws Error where the profile advertises a control that is not implemented. */
  constructor(profile: VmxProfile) {
    this.profile = profile;
    for (const control of profile.controls) {
      if (!control.implemented) throw new Error(`VMX profile '${profile.name}' advertises '${control.name}' (${control.group} bit ${control.bit}), which is not implemented: remove it from the profile's controls or implement it (vmcs/control.ts)`);
    }
    const ids = new Set(profile.controls.map((control) => control.id));
    for (const control of controls) if (control.default1) ids.add(control.id);
    this.ids = ids;
    if (this.supports(Secondary.EnableEpt) !== (profile.ept !== null)) throw new Error(`VMX profile '${profile.name}': 'ept' and the control 'Enable EPT' must come together`);
    if (this.supports(Secondary.EnableVpid) !== (profile.vpid !== null)) throw new Error(`VMX profile '${profile.name}': 'vpid' and the control 'Enable VPID' must come together`);
    const must = {} as Record<ControlGroup, number>;
    const may = {} as Record<ControlGroup, number>;
    for (const name of Object.keys(controlGroups) as ControlGroup[]) {
      let optional = 0;
      let allowed = default1[name];
      for (const control of controlGroups[name]) {
        if (control.default1) optional |= control.mask;
        if (ids.has(control.id)) allowed |= control.mask;
      }
      must[name] = (profile.trueControls ? default1[name] & ~optional : default1[name]) >>> 0;
      may[name] = allowed >>> 0;
    }
    this.mustBe1 = must;
    this.mayBe1 = may;
    this.fieldExists = Uint8Array.from(fields, (field) => (field.conditions.length === 0 || field.conditions.some((id) => ids.has(id)) ? 1 : 0));
    this.fillMsrs();
  }

  /** The control may be 1. */
  supports(control: Control): boolean { return this.ids.has(control.id); }

  /** Words of a capability MSR, or null where the CPU does not have it (RDMSR gives #GP). */
  msr(number: number): Pair | null { return this.msrs.get(number) ?? null; }
  /** Numbers of the capability MSRs this CPU has. */
  msrNumbers(): readonly number[] { return [...this.msrs.keys()]; }

  private fillMsrs(): void {
    const p = this.profile;
    const set = (number: number, low: number, high: number): void => { this.msrs.set(number, [low >>> 0, high >>> 0]); };
    // memory type write-back (6) in bits 53:50; the region takes 4096 bytes
    set(VmxMsr.Basic, p.revision, 0x1000 | (6 << 18) | (p.stringInformation ? 1 << 22 : 0) | (p.trueControls ? 1 << 23 : 0) | (p.freeErrorCode ? 1 << 24 : 0));
    set(VmxMsr.PinBased, default1.PinBased, this.mayBe1.PinBased);
    set(VmxMsr.Primary, default1.Primary, this.mayBe1.Primary);
    set(VmxMsr.Exit, default1.Exit, this.mayBe1.Exit);
    set(VmxMsr.Entry, default1.Entry, this.mayBe1.Entry);
    const storesLma = p.storesLma || this.supports(Secondary.UnrestrictedGuest);
    set(VmxMsr.Misc, p.preemptionRate | (storesLma ? 0x20 : 0) | (p.activityHlt ? 0x40 : 0) | (p.activityShutdown ? 0x80 : 0) | (p.activityWaitForSipi ? 0x100 : 0)
      | (p.cr3Targets << 16) | (p.msrListMax << 25) | (p.writeAnyField ? 1 << 29 : 0) | (p.zeroLengthInjection ? 1 << 30 : 0), 0);
    set(VmxMsr.Cr0Fixed0, p.cr0Fixed0, 0);
    set(VmxMsr.Cr0Fixed1, 0xffffffff, 0);
    set(VmxMsr.Cr4Fixed0, p.cr4Fixed0, 0);
    set(VmxMsr.Cr4Fixed1, p.cr4Fixed1, 0);
    let highest = 0;
    for (const field of fields) if (this.fieldExists[field.number]) highest = Math.max(highest, field.index);
    set(VmxMsr.VmcsEnum, highest << 1, 0);
    if (this.supports(Primary.ActivateSecondaryControls)) set(VmxMsr.Secondary, 0, this.mayBe1.Secondary);
    const { ept, vpid } = p;
    if (ept !== null || vpid !== null) {
      // walk length 4 (bit 6), memory types UC (8) and WB (14), INVEPT (20), INVVPID (32)
      const low = ept === null ? 0 : (ept.executeOnly ? 1 : 0) | (1 << 6) | (1 << 8) | (1 << 14) | (ept.pages2m ? 1 << 16 : 0) | (ept.pages1g ? 1 << 17 : 0) | (1 << 20)
        | (ept.accessedDirty ? 1 << 21 : 0) | (ept.inveptSingle ? 1 << 25 : 0) | (ept.inveptAll ? 1 << 26 : 0);
      const high = vpid === null ? 0 : 1 | (vpid.individualAddress ? 1 << 8 : 0) | (vpid.singleContext ? 1 << 9 : 0) | (vpid.allContexts ? 1 << 10 : 0) | (vpid.singleRetainingGlobals ? 1 << 11 : 0);
      set(VmxMsr.EptVpid, low, high);
    }
    if (p.trueControls) {
      set(VmxMsr.TruePinBased, this.mustBe1.PinBased, this.mayBe1.PinBased);
      set(VmxMsr.TruePrimary, this.mustBe1.Primary, this.mayBe1.Primary);
      set(VmxMsr.TrueExit, this.mustBe1.Exit, this.mayBe1.Exit);
      set(VmxMsr.TrueEntry, this.mustBe1.Entry, this.mayBe1.Entry);
    }
  }
}

/** Everything implemented, for tests and for explaining. */
export const unitVmx: VmxProfile = {
  name: 'unit', description: 'Every implemented VMX feature',
  revision: 0x56504c31,
  controls: controls.filter((control) => control.implemented),
  trueControls: true, stringInformation: true, freeErrorCode: false,
  ept: { executeOnly: true, pages2m: true, pages1g: true, accessedDirty: true, inveptSingle: true, inveptAll: true },
  vpid: { individualAddress: true, singleContext: true, allContexts: true, singleRetainingGlobals: true },
  cr3Targets: 4, preemptionRate: 0, storesLma: true, msrListMax: 0, activityHlt: true, activityShutdown: true, activityWaitForSipi: true, writeAnyField: true, zeroLengthInjection: true,
  cr0Fixed0: 0x80000021, cr4Fixed0: 0x2000,
  // VME..OSXMMEXCPT, UMIP, VMXE, FSGSBASE, PCIDE, OSXSAVE, SMEP, SMAP
  cr4Fixed1: 0x372fff,
};

/**
 * Pentium 4 672 (Prescott 2M), the first processor with VT-x (November 2005). Intel published no capability MSR
 * values for it. This section follows the first edition of the VT-x specification for the IA-32 architecture (2005):
 * no secondary controls, hence no EPT, VPID or unrestricted guest; no virtual NMIs, preemption timer, monitor trap
 * flag, PAT or EFER controls, and no TRUE capability MSRs, so that CR3-load and CR3-store exiting are always on.
 * MSR bitmaps are left out: the SDM says that their address field exists only on processors that support the
 * control, so some do not, and hypervisors of that time treat it as optional. Every RDMSR and WRMSR then exits.
 */
export const prescottVmx: VmxProfile = {
  name: 'prescott', description: 'First-generation VT-x (Pentium 4 672)',
  revision: 0x3,
  controls: [
    PinBased.ExternalInterruptExiting, PinBased.NmiExiting,
    Primary.InterruptWindowExiting, Primary.UseTscOffsetting, Primary.HltExiting, Primary.InvlpgExiting, Primary.MwaitExiting, Primary.RdpmcExiting, Primary.RdtscExiting,
    Primary.Cr8LoadExiting, Primary.Cr8StoreExiting, Primary.UseTprShadow, Primary.MovDrExiting, Primary.UnconditionalIoExiting, Primary.UseIoBitmaps, Primary.MonitorExiting, Primary.PauseExiting,
    Exit.HostAddressSpaceSize, Exit.AcknowledgeInterrupt, Entry.Ia32eModeGuest,
  ],
  trueControls: false, stringInformation: false, freeErrorCode: false,
  ept: null, vpid: null,
  cr3Targets: 4, preemptionRate: 0, storesLma: false, msrListMax: 0, activityHlt: true, activityShutdown: true, activityWaitForSipi: true, writeAnyField: false, zeroLengthInjection: false,
  cr0Fixed0: 0x80000021, cr4Fixed0: 0x2000, cr4Fixed1: 0x27ff,
};

/**
 * Nehalem (Lynnfield, Core i5-750): EPT without accessed and dirty bits and with 2 MiB pages, VPID, no unrestricted
 * guest, preemption timer ticking every 32 TSC cycles. The real processor also has what is not implemented here yet:
 * monitor trap flag, APIC-access and x2APIC virtualization, the IA32_PERF_GLOBAL_CTRL controls, SMM entry.
 */
export const nehalemVmx: VmxProfile = {
  name: 'nehalem', description: 'First EPT and VPID (Lynnfield)',
  revision: 0x0e,
  controls: [
    PinBased.ExternalInterruptExiting, PinBased.NmiExiting, PinBased.VirtualNmis, PinBased.ActivatePreemptionTimer,
    Primary.InterruptWindowExiting, Primary.UseTscOffsetting, Primary.HltExiting, Primary.InvlpgExiting, Primary.MwaitExiting, Primary.RdpmcExiting, Primary.RdtscExiting,
    Primary.Cr3LoadExiting, Primary.Cr3StoreExiting, Primary.Cr8LoadExiting, Primary.Cr8StoreExiting, Primary.UseTprShadow, Primary.NmiWindowExiting, Primary.MovDrExiting,
    Primary.UnconditionalIoExiting, Primary.UseIoBitmaps, Primary.UseMsrBitmaps, Primary.MonitorExiting, Primary.PauseExiting, Primary.ActivateSecondaryControls,
    Secondary.EnableEpt, Secondary.DescriptorTableExiting, Secondary.EnableRdtscp, Secondary.EnableVpid, Secondary.WbinvdExiting,
    Exit.SaveDebugControls, Exit.HostAddressSpaceSize, Exit.AcknowledgeInterrupt, Exit.SavePat, Exit.LoadPat, Exit.SaveEfer, Exit.LoadEfer, Exit.SavePreemptionTimer,
    Entry.LoadDebugControls, Entry.Ia32eModeGuest, Entry.LoadPat, Entry.LoadEfer,
  ],
  trueControls: true, stringInformation: true, freeErrorCode: false,
  ept: { executeOnly: true, pages2m: true, pages1g: false, accessedDirty: false, inveptSingle: true, inveptAll: true },
  vpid: { individualAddress: true, singleContext: true, allContexts: true, singleRetainingGlobals: true },
  cr3Targets: 4, preemptionRate: 5, storesLma: true, msrListMax: 0, activityHlt: true, activityShutdown: true, activityWaitForSipi: true, writeAnyField: false, zeroLengthInjection: false,
  cr0Fixed0: 0x80000021, cr4Fixed0: 0x2000, cr4Fixed1: 0x27ff,
};
