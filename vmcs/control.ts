/** The words of control bits a VMCS holds. */
export const ControlGroup = { PinBased: 'PinBased', Primary: 'Primary', Secondary: 'Secondary', Tertiary: 'Tertiary', Exit: 'Exit', SecondaryExit: 'SecondaryExit', Entry: 'Entry' } as const;
export type ControlGroup = (typeof ControlGroup)[keyof typeof ControlGroup];

/** One control bit. */
export interface Control {
  /** Unique name over all groups: the field conditions and profiles use it. */
  readonly id: string;
  readonly group: ControlGroup;
  readonly bit: number;
  /** Bit as an unsigned word; bits 32 and above of the tertiary and secondary exit controls do not occur. */
  readonly mask: number;
  /** The SDM's words. */
  readonly name: string;
  /** The simulator carries it out. A profile that advertises one that is not is refused. */
  readonly implemented: boolean;
  /** In the default1 class although named: only the TRUE capability MSRs can show that it may be 0. */
  readonly default1: boolean;
}

const yes = true;
const no = false;

function group<T extends Record<string, readonly [bit: number, name: string, implemented: boolean, default1?: boolean]>>(name: ControlGroup, prefix: string, rows: T): { readonly [K in keyof T]: Control } {
  const out: Record<string, Control> = {};
  for (const [member, [bit, words, implemented, default1 = false]] of Object.entries(rows)) {
    out[member] = { id: prefix + member, group: name, bit, mask: 2 ** bit, name: words, implemented, default1 };
  }
  return out as { readonly [K in keyof T]: Control };
}

const pinRows = {
  ExternalInterruptExiting: [0, 'External-interrupt exiting', yes],
  NmiExiting: [3, 'NMI exiting', yes],
  VirtualNmis: [5, 'Virtual NMIs', yes],
  ActivatePreemptionTimer: [6, 'Activate VMX-preemption timer', yes],
  ProcessPostedInterrupts: [7, 'Process posted interrupts', no],
} as const;
/** SDM "Pin-Based VM-Execution Controls". */
export const PinBased = group('PinBased', '', pinRows);

const primaryRows = {
  InterruptWindowExiting: [2, 'Interrupt-window exiting', yes],
  UseTscOffsetting: [3, 'Use TSC offsetting', yes],
  HltExiting: [7, 'HLT exiting', yes],
  InvlpgExiting: [9, 'INVLPG exiting', yes],
  MwaitExiting: [10, 'MWAIT exiting', yes],
  RdpmcExiting: [11, 'RDPMC exiting', yes],
  RdtscExiting: [12, 'RDTSC exiting', yes],
  Cr3LoadExiting: [15, 'CR3-load exiting', yes, true],
  Cr3StoreExiting: [16, 'CR3-store exiting', yes, true],
  ActivateTertiaryControls: [17, 'Activate tertiary controls', no],
  Cr8LoadExiting: [19, 'CR8-load exiting', yes],
  Cr8StoreExiting: [20, 'CR8-store exiting', yes],
  UseTprShadow: [21, 'Use TPR shadow', yes],
  NmiWindowExiting: [22, 'NMI-window exiting', yes],
  MovDrExiting: [23, 'MOV-DR exiting', yes],
  UnconditionalIoExiting: [24, 'Unconditional I/O exiting', yes],
  UseIoBitmaps: [25, 'Use I/O bitmaps', yes],
  MonitorTrapFlag: [27, 'Monitor trap flag', no],
  UseMsrBitmaps: [28, 'Use MSR bitmaps', yes],
  MonitorExiting: [29, 'MONITOR exiting', yes],
  PauseExiting: [30, 'PAUSE exiting', yes],
  ActivateSecondaryControls: [31, 'Activate secondary controls', yes],
} as const;
/** SDM "Processor-Based VM-Execution Controls", primary. */
export const Primary = group('Primary', '', primaryRows);

const secondaryRows = {
  VirtualizeApicAccesses: [0, 'Virtualize APIC accesses', no],
  EnableEpt: [1, 'Enable EPT', yes],
  DescriptorTableExiting: [2, 'Descriptor-table exiting', yes],
  EnableRdtscp: [3, 'Enable RDTSCP', yes],
  VirtualizeX2apicMode: [4, 'Virtualize x2APIC mode', no],
  EnableVpid: [5, 'Enable VPID', yes],
  WbinvdExiting: [6, 'WBINVD exiting', yes],
  UnrestrictedGuest: [7, 'Unrestricted guest', yes],
  ApicRegisterVirtualization: [8, 'APIC-register virtualization', no],
  VirtualInterruptDelivery: [9, 'Virtual-interrupt delivery', no],
  PauseLoopExiting: [10, 'PAUSE-loop exiting', no],
  RdrandExiting: [11, 'RDRAND exiting', no],
  EnableInvpcid: [12, 'Enable INVPCID', yes],
  EnableVmFunctions: [13, 'Enable VM functions', no],
  VmcsShadowing: [14, 'VMCS shadowing', no],
  EnclsExiting: [15, 'Enable ENCLS exiting', no],
  RdseedExiting: [16, 'RDSEED exiting', no],
  EnablePml: [17, 'Enable PML', no],
  EptViolationVirtualizationException: [18, 'EPT-violation #VE', no],
  ConcealFromPt: [19, 'Conceal VMX from PT', no],
  EnableXsaves: [20, 'Enable XSAVES/XRSTORS', no],
  PasidTranslation: [21, 'PASID translation', no],
  ModeBasedExecute: [22, 'Mode-based execute control for EPT', no],
  SubPageWritePermissions: [23, 'Sub-page write permissions for EPT', no],
  PtUsesGuestPhysical: [24, 'Intel PT uses guest physical addresses', no],
  UseTscScaling: [25, 'Use TSC scaling', no],
  EnableUserWait: [26, 'Enable user wait and pause', no],
  EnablePconfig: [27, 'Enable PCONFIG', no],
  EnclvExiting: [28, 'Enable ENCLV exiting', no],
  BusLockDetection: [30, 'VMM bus-lock detection', no],
  InstructionTimeout: [31, 'Instruction timeout', no],
} as const;
/** SDM "Processor-Based VM-Execution Controls", secondary. */
export const Secondary = group('Secondary', '', secondaryRows);

const tertiaryRows = {
  LoadIwkeyExiting: [0, 'LOADIWKEY exiting', no],
  EnableHlat: [1, 'Enable HLAT', no],
  EptPagingWriteControl: [2, 'EPT paging-write control', no],
  GuestPagingVerification: [3, 'Guest-paging verification', no],
  IpiVirtualization: [4, 'IPI virtualization', no],
  SeamGuestPhysicalWidth: [5, 'SEAM guest-physical address width', no],
  EnableMsrList: [6, 'Enable MSR-list instructions', no],
  VirtualizeSpecCtrl: [7, 'Virtualize IA32_SPEC_CTRL', no],
  ApicTimerVirtualization: [8, 'Virtualize APIC timer', no],
} as const;
/** SDM "Processor-Based VM-Execution Controls", tertiary (64 bits; the named ones are in the low word). */
export const Tertiary = group('Tertiary', '', tertiaryRows);

const exitRows = {
  SaveDebugControls: [2, 'Save debug controls', yes, true],
  HostAddressSpaceSize: [9, 'Host address-space size', yes],
  LoadPerfGlobalCtrl: [12, 'Load IA32_PERF_GLOBAL_CTRL', no],
  AcknowledgeInterrupt: [15, 'Acknowledge interrupt on exit', yes],
  SavePat: [18, 'Save IA32_PAT', yes],
  LoadPat: [19, 'Load IA32_PAT', yes],
  SaveEfer: [20, 'Save IA32_EFER', yes],
  LoadEfer: [21, 'Load IA32_EFER', yes],
  SavePreemptionTimer: [22, 'Save VMX-preemption timer value', yes],
  ClearBndcfgs: [23, 'Clear IA32_BNDCFGS', no],
  ConcealFromPt: [24, 'Conceal VMX from PT', no],
  ClearRtitCtl: [25, 'Clear IA32_RTIT_CTL', no],
  ClearLbrCtl: [26, 'Clear IA32_LBR_CTL', no],
  ClearUinv: [27, 'Clear UINV', no],
  LoadCet: [28, 'Load CET state', no],
  LoadPkrs: [29, 'Load PKRS', no],
  SavePerfGlobalCtrl: [30, 'Save IA32_PERF_GLOBAL_CTRL', no],
  ActivateSecondary: [31, 'Activate secondary controls', no],
} as const;
/** SDM "VM-Exit Controls", primary. */
export const Exit = group('Exit', 'Exit', exitRows);

const secondaryExitRows = {
  SaveFred: [0, 'Save FRED state', no],
  LoadFred: [1, 'Load FRED state', no],
  LoadSpecCtrl: [2, 'Load IA32_SPEC_CTRL', no],
  PrematurelyBusyShadowStack: [3, 'Prematurely busy shadow stack', no],
} as const;
/** SDM "VM-Exit Controls", secondary (64 bits). */
export const SecondaryExit = group('SecondaryExit', 'Exit', secondaryExitRows);

const entryRows = {
  LoadDebugControls: [2, 'Load debug controls', yes, true],
  Ia32eModeGuest: [9, 'IA-32e mode guest', yes],
  EntryToSmm: [10, 'Entry to SMM', no],
  DeactivateDualMonitor: [11, 'Deactivate dual-monitor treatment', no],
  LoadPerfGlobalCtrl: [13, 'Load IA32_PERF_GLOBAL_CTRL', no],
  LoadPat: [14, 'Load IA32_PAT', yes],
  LoadEfer: [15, 'Load IA32_EFER', yes],
  LoadBndcfgs: [16, 'Load IA32_BNDCFGS', no],
  ConcealFromPt: [17, 'Conceal VMX from PT', no],
  LoadRtitCtl: [18, 'Load IA32_RTIT_CTL', no],
  LoadUinv: [19, 'Load UINV', no],
  LoadCet: [20, 'Load CET state', no],
  LoadLbrCtl: [21, 'Load guest IA32_LBR_CTL', no],
  LoadPkrs: [22, 'Load PKRS', no],
  LoadFred: [23, 'Load FRED state', no],
  LoadSpecCtrl: [24, 'Load IA32_SPEC_CTRL', no],
} as const;
/** SDM "VM-Entry Controls". */
export const Entry = group('Entry', 'Entry', entryRows);

/** Names of all controls: those of the exit and entry groups carry their group in front ('ExitLoadPat', 'EntryLoadPat'). */
export type ControlName =
  | keyof typeof pinRows | keyof typeof primaryRows | keyof typeof secondaryRows | keyof typeof tertiaryRows
  | `Exit${keyof typeof exitRows | keyof typeof secondaryExitRows}` | `Entry${keyof typeof entryRows}`
 ;

/** All control bits by group, in bit order. */
export const controlGroups: Readonly<Record<ControlGroup, readonly Control[]>> = {
  PinBased: Object.values(PinBased), Primary: Object.values(Primary), Secondary: Object.values(Secondary), Tertiary: Object.values(Tertiary),
  Exit: Object.values(Exit), SecondaryExit: Object.values(SecondaryExit), Entry: Object.values(Entry),
};
export const controls: readonly Control[] = Object.values(controlGroups).flat();

/** Reserved bits that read as 1 in the capability MSRs of every processor (SDM "Reserved Controls and Default Settings", class default1), named ones included. */
export const default1: Readonly<Record<ControlGroup, number>> = {
  PinBased: 0x16, Primary: 0x0401e172, Secondary: 0, Tertiary: 0, Exit: 0x00036dff, SecondaryExit: 0, Entry: 0x000011ff,
};
