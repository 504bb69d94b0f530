import type { ControlName } from './control.ts';

/** Width of a field (SDM "VMCS Component Encoding"): the numbers are those of the encoding. */
export const FieldWidth = { Bits16: 0, Bits64: 1, Bits32: 2, Natural: 3 } as const;
export type FieldWidth = (typeof FieldWidth)[keyof typeof FieldWidth];
/** What a field belongs to; the numbers are those of the encoding. */
export const FieldType = { Control: 0, ExitInformation: 1, GuestState: 2, HostState: 3 } as const;
export type FieldType = (typeof FieldType)[keyof typeof FieldType];

/** One field of the VMCS. Everything but the encoding, the names and the condition is derived. */
export interface Field {
  /** Member of {@link Field}: 'EptPointer'. */
  readonly member: string;
  readonly name: string;
  readonly encoding: number;
  /** Title of the SDM section that describes it. */
  readonly title: string;
  /** The field exists where one of these controls may be 1; empty: it always exists. */
  readonly conditions: readonly ControlName[];
  readonly width: FieldWidth;
  readonly type: FieldType;
  /** Bits 9:1 of the encoding. */
  readonly index: number;
  /** Row number in the table. */
  readonly number: number;
  /** Byte offset in the VMCS region, and the same in 32-bit words; every field takes whole words. */
  readonly offset: number;
  readonly word: number;
  /** 1 or 2 words. */
  readonly words: 1 | 2;
}

/** What precedes the fields in a VMCS region: revision identifier with shadow indicator, abort indicator (SDM "Format of the VMCS Region"), and our own launch state. */
export const Region = { revision: 0, abort: 4, launch: 8, fields: 16, size: 4096 } as const;

let end: number = Region.fields;
let count = 0;

/** Declares one field. `encoding` is the only number. */
function field(encoding: number, name: string, title: string, ...conditions: ControlName[]): Field {
  const width = ((encoding >>> 13) & 3) as FieldWidth;
  const words = width === FieldWidth.Bits64 || width === FieldWidth.Natural ? 2 : 1;
  const offset = end;
  end += words * 4;
  return { member: '', name, encoding, title, conditions, width, type: ((encoding >>> 10) & 3) as FieldType, index: (encoding >>> 1) & 0x1ff, number: count++, offset, word: offset / 4, words };
}

const CR_MASKS = 'Guest/Host Masks and Read Shadows for CR0 and CR4';
const TARGETS = 'CR3-Target Controls';
const APIC = 'Controls for APIC Virtualization';
const ENTRY_EVENT = 'VM-Entry Controls for Event Injection';
const ENTRY_MSR = 'VM-Entry Controls for MSRs';
const EXIT_MSR = 'VM-Exit Controls for MSRs';
const GUEST_REGISTERS = 'Guest Register State';
const GUEST_OTHER = 'Guest Non-Register State';
const HOST = 'Host-State Area';
const BASIC_EXIT = 'Basic VM-Exit Information';
const EVENT_EXIT = 'Information for VM Exits Due to Vectored Events';
const VECTORING = 'Information for VM Exits That Occur During Event Delivery';
const INSTRUCTION_EXIT = 'Information for VM Exits Due to Instruction Execution';

/** Every field of the VMCS, in the order of SDM appendix "Field Encoding in VMCS". */
const table = {
  // 16-bit control fields
  VirtualProcessorIdentifier: field(0x0000, 'Virtual-processor identifier (VPID)', 'Virtual-Processor Identifier (VPID)', 'EnableVpid'),
  PostedInterruptNotificationVector: field(0x0002, 'Posted-interrupt notification vector', APIC, 'ProcessPostedInterrupts'),
  EptpIndex: field(0x0004, 'EPTP index', 'Controls for Virtualization Exceptions', 'EptViolationVirtualizationException'),
  HlatPrefixSize: field(0x0006, 'HLAT prefix size', 'Hypervisor-Managed Linear-Address Translation Pointer', 'EnableHlat'),
  LastPidPointerIndex: field(0x0008, 'Last PID-pointer index', APIC, 'IpiVirtualization'),
  VirtualTimerVector: field(0x000a, 'Virtual timer vector', APIC, 'ApicTimerVirtualization'),
  // 16-bit guest-state fields
  GuestEsSelector: field(0x0800, 'Guest ES selector', GUEST_REGISTERS),
  GuestCsSelector: field(0x0802, 'Guest CS selector', GUEST_REGISTERS),
  GuestSsSelector: field(0x0804, 'Guest SS selector', GUEST_REGISTERS),
  GuestDsSelector: field(0x0806, 'Guest DS selector', GUEST_REGISTERS),
  GuestFsSelector: field(0x0808, 'Guest FS selector', GUEST_REGISTERS),
  GuestGsSelector: field(0x080a, 'Guest GS selector', GUEST_REGISTERS),
  GuestLdtrSelector: field(0x080c, 'Guest LDTR selector', GUEST_REGISTERS),
  GuestTrSelector: field(0x080e, 'Guest TR selector', GUEST_REGISTERS),
  GuestInterruptStatus: field(0x0810, 'Guest interrupt status', GUEST_OTHER, 'VirtualInterruptDelivery'),
  PmlIndex: field(0x0812, 'PML index', GUEST_OTHER, 'EnablePml'),
  GuestUinv: field(0x0814, 'Guest UINV', GUEST_REGISTERS, 'ExitClearUinv'),
  // 16-bit host-state fields
  HostEsSelector: field(0x0c00, 'Host ES selector', HOST),
  HostCsSelector: field(0x0c02, 'Host CS selector', HOST),
  HostSsSelector: field(0x0c04, 'Host SS selector', HOST),
  HostDsSelector: field(0x0c06, 'Host DS selector', HOST),
  HostFsSelector: field(0x0c08, 'Host FS selector', HOST),
  HostGsSelector: field(0x0c0a, 'Host GS selector', HOST),
  HostTrSelector: field(0x0c0c, 'Host TR selector', HOST),
  // 64-bit control fields
  IoBitmapA: field(0x2000, 'Address of I/O bitmap A', 'I/O-Bitmap Addresses'),
  IoBitmapB: field(0x2002, 'Address of I/O bitmap B', 'I/O-Bitmap Addresses'),
  MsrBitmaps: field(0x2004, 'Address of MSR bitmaps', 'MSR-Bitmap Address', 'UseMsrBitmaps'),
  ExitMsrStoreAddress: field(0x2006, 'VM-exit MSR-store address', EXIT_MSR),
  ExitMsrLoadAddress: field(0x2008, 'VM-exit MSR-load address', EXIT_MSR),
  EntryMsrLoadAddress: field(0x200a, 'VM-entry MSR-load address', ENTRY_MSR),
  ExecutiveVmcsPointer: field(0x200c, 'Executive-VMCS pointer', 'Executive-VMCS Pointer'),
  PmlAddress: field(0x200e, 'PML address', 'Page-Modification Logging', 'EnablePml'),
  TscOffset: field(0x2010, 'TSC offset', 'Time-Stamp Counter Offset and Multiplier'),
  VirtualApicAddress: field(0x2012, 'Virtual-APIC address', APIC, 'UseTprShadow'),
  ApicAccessAddress: field(0x2014, 'APIC-access address', APIC, 'VirtualizeApicAccesses'),
  PostedInterruptDescriptorAddress: field(0x2016, 'Posted-interrupt descriptor address', APIC, 'ProcessPostedInterrupts'),
  VmFunctionControls: field(0x2018, 'VM-function controls', 'VM-Function Controls', 'EnableVmFunctions'),
  EptPointer: field(0x201a, 'EPT pointer (EPTP)', 'Extended-Page-Table Pointer (EPTP)', 'EnableEpt'),
  EoiExitBitmap0: field(0x201c, 'EOI-exit bitmap 0', APIC, 'VirtualInterruptDelivery'),
  EoiExitBitmap1: field(0x201e, 'EOI-exit bitmap 1', APIC, 'VirtualInterruptDelivery'),
  EoiExitBitmap2: field(0x2020, 'EOI-exit bitmap 2', APIC, 'VirtualInterruptDelivery'),
  EoiExitBitmap3: field(0x2022, 'EOI-exit bitmap 3', APIC, 'VirtualInterruptDelivery'),
  EptpListAddress: field(0x2024, 'EPTP-list address', 'VM-Function Controls', 'EnableVmFunctions'),
  VmreadBitmap: field(0x2026, 'VMREAD-bitmap address', 'VMCS Shadowing Bitmap Addresses', 'VmcsShadowing'),
  VmwriteBitmap: field(0x2028, 'VMWRITE-bitmap address', 'VMCS Shadowing Bitmap Addresses', 'VmcsShadowing'),
  VirtualizationExceptionInformationAddress: field(0x202a, 'Virtualization-exception information address', 'Controls for Virtualization Exceptions', 'EptViolationVirtualizationException'),
  XssExitingBitmap: field(0x202c, 'XSS-exiting bitmap', 'XSS-Exiting Bitmap', 'EnableXsaves'),
  EnclsExitingBitmap: field(0x202e, 'ENCLS-exiting bitmap', 'ENCLS-Exiting Bitmap', 'EnclsExiting'),
  SubPagePermissionTablePointer: field(0x2030, 'Sub-page-permission-table pointer', 'Sub-Page-Permission-Table Pointer (SPPTP)', 'SubPageWritePermissions'),
  TscMultiplier: field(0x2032, 'TSC multiplier', 'Time-Stamp Counter Offset and Multiplier', 'UseTscScaling'),
  TertiaryControls: field(0x2034, 'Tertiary processor-based VM-execution controls', 'Processor-Based VM-Execution Controls', 'ActivateTertiaryControls'),
  EnclvExitingBitmap: field(0x2036, 'ENCLV-exiting bitmap', 'ENCLV-Exiting Bitmap', 'EnclvExiting'),
  LowPasidDirectoryAddress: field(0x2038, 'Low PASID directory address', 'PASID Translation', 'PasidTranslation'),
  HighPasidDirectoryAddress: field(0x203a, 'High PASID directory address', 'PASID Translation', 'PasidTranslation'),
  SharedEptPointer: field(0x203c, 'Shared EPT pointer', 'Shared EPT Pointer', 'SeamGuestPhysicalWidth'),
  PconfigExitingBitmap: field(0x203e, 'PCONFIG-exiting bitmap', 'PCONFIG-Exiting Bitmap', 'EnablePconfig'),
  HlatPointer: field(0x2040, 'Hypervisor-managed linear-address translation pointer (HLATP)', 'Hypervisor-Managed Linear-Address Translation Pointer', 'EnableHlat'),
  PidPointerTableAddress: field(0x2042, 'PID-pointer table address', APIC, 'IpiVirtualization'),
  SecondaryExitControls: field(0x2044, 'Secondary VM-exit controls', 'VM-Exit Controls', 'ExitActivateSecondary'),
  SpecCtrlMask: field(0x204a, 'IA32_SPEC_CTRL mask', 'Virtualizing IA32_SPEC_CTRL', 'VirtualizeSpecCtrl'),
  SpecCtrlShadow: field(0x204c, 'IA32_SPEC_CTRL shadow', 'Virtualizing IA32_SPEC_CTRL', 'VirtualizeSpecCtrl'),
  GuestDeadlineShadow: field(0x204e, 'Guest deadline shadow', APIC, 'ApicTimerVirtualization'),
  InjectedEventData: field(0x2052, 'Injected-event data', ENTRY_EVENT, 'EntryLoadFred'),
  // 64-bit read-only data fields
  GuestPhysicalAddress: field(0x2400, 'Guest-physical address', BASIC_EXIT, 'EnableEpt'),
  MsrData: field(0x2402, 'MSR data', BASIC_EXIT, 'EnableMsrList'),
  OriginalEventData: field(0x2404, 'Original-event data', VECTORING, 'EntryLoadFred'),
  // 64-bit guest-state fields
  VmcsLinkPointer: field(0x2800, 'VMCS link pointer', GUEST_OTHER),
  GuestIa32Debugctl: field(0x2802, 'Guest IA32_DEBUGCTL', GUEST_REGISTERS),
  GuestIa32Pat: field(0x2804, 'Guest IA32_PAT', GUEST_REGISTERS, 'EntryLoadPat', 'ExitSavePat'),
  GuestIa32Efer: field(0x2806, 'Guest IA32_EFER', GUEST_REGISTERS, 'EntryLoadEfer', 'ExitSaveEfer'),
  GuestIa32PerfGlobalCtrl: field(0x2808, 'Guest IA32_PERF_GLOBAL_CTRL', GUEST_REGISTERS, 'EntryLoadPerfGlobalCtrl', 'ExitSavePerfGlobalCtrl'),
  GuestPdpte0: field(0x280a, 'Guest PDPTE0', GUEST_OTHER, 'EnableEpt'),
  GuestPdpte1: field(0x280c, 'Guest PDPTE1', GUEST_OTHER, 'EnableEpt'),
  GuestPdpte2: field(0x280e, 'Guest PDPTE2', GUEST_OTHER, 'EnableEpt'),
  GuestPdpte3: field(0x2810, 'Guest PDPTE3', GUEST_OTHER, 'EnableEpt'),
  GuestIa32Bndcfgs: field(0x2812, 'Guest IA32_BNDCFGS', GUEST_REGISTERS, 'EntryLoadBndcfgs'),
  GuestIa32RtitCtl: field(0x2814, 'Guest IA32_RTIT_CTL', GUEST_REGISTERS, 'EntryLoadRtitCtl'),
  GuestIa32LbrCtl: field(0x2816, 'Guest IA32_LBR_CTL', GUEST_REGISTERS, 'EntryLoadLbrCtl'),
  GuestIa32Pkrs: field(0x2818, 'Guest IA32_PKRS', GUEST_REGISTERS, 'EntryLoadPkrs'),
  GuestIa32FredConfig: field(0x281a, 'Guest IA32_FRED_CONFIG', GUEST_REGISTERS, 'EntryLoadFred'),
  GuestIa32FredRsp1: field(0x281c, 'Guest IA32_FRED_RSP1', GUEST_REGISTERS, 'EntryLoadFred'),
  GuestIa32FredRsp2: field(0x281e, 'Guest IA32_FRED_RSP2', GUEST_REGISTERS, 'EntryLoadFred'),
  GuestIa32FredRsp3: field(0x2820, 'Guest IA32_FRED_RSP3', GUEST_REGISTERS, 'EntryLoadFred'),
  GuestIa32FredStackLevels: field(0x2822, 'Guest IA32_FRED_STKLVLS', GUEST_REGISTERS, 'EntryLoadFred'),
  GuestIa32FredSsp1: field(0x2824, 'Guest IA32_FRED_SSP1', GUEST_REGISTERS, 'EntryLoadFred'),
  GuestIa32FredSsp2: field(0x2826, 'Guest IA32_FRED_SSP2', GUEST_REGISTERS, 'EntryLoadFred'),
  GuestIa32FredSsp3: field(0x2828, 'Guest IA32_FRED_SSP3', GUEST_REGISTERS, 'EntryLoadFred'),
  GuestIa32SpecCtrl: field(0x282e, 'Guest IA32_SPEC_CTRL', GUEST_REGISTERS, 'EntryLoadSpecCtrl'),
  GuestDeadline: field(0x2830, 'Guest deadline', GUEST_OTHER, 'ApicTimerVirtualization'),
  // 64-bit host-state fields
  HostIa32Pat: field(0x2c00, 'Host IA32_PAT', HOST, 'ExitLoadPat'),
  HostIa32Efer: field(0x2c02, 'Host IA32_EFER', HOST, 'ExitLoadEfer'),
  HostIa32PerfGlobalCtrl: field(0x2c04, 'Host IA32_PERF_GLOBAL_CTRL', HOST, 'ExitLoadPerfGlobalCtrl'),
  HostIa32Pkrs: field(0x2c06, 'Host IA32_PKRS', HOST, 'ExitLoadPkrs'),
  HostIa32FredConfig: field(0x2c08, 'Host IA32_FRED_CONFIG', HOST, 'ExitLoadFred'),
  HostIa32FredRsp1: field(0x2c0a, 'Host IA32_FRED_RSP1', HOST, 'ExitLoadFred'),
  HostIa32FredRsp2: field(0x2c0c, 'Host IA32_FRED_RSP2', HOST, 'ExitLoadFred'),
  HostIa32FredRsp3: field(0x2c0e, 'Host IA32_FRED_RSP3', HOST, 'ExitLoadFred'),
  HostIa32FredStackLevels: field(0x2c10, 'Host IA32_FRED_STKLVLS', HOST, 'ExitLoadFred'),
  HostIa32FredSsp1: field(0x2c12, 'Host IA32_FRED_SSP1', HOST, 'ExitLoadFred'),
  HostIa32FredSsp2: field(0x2c14, 'Host IA32_FRED_SSP2', HOST, 'ExitLoadFred'),
  HostIa32FredSsp3: field(0x2c16, 'Host IA32_FRED_SSP3', HOST, 'ExitLoadFred'),
  HostIa32SpecCtrl: field(0x2c1a, 'Host IA32_SPEC_CTRL', HOST, 'ExitLoadSpecCtrl'),
  // 32-bit control fields
  PinBasedControls: field(0x4000, 'Pin-based VM-execution controls', 'Pin-Based VM-Execution Controls'),
  PrimaryControls: field(0x4002, 'Primary processor-based VM-execution controls', 'Processor-Based VM-Execution Controls'),
  ExceptionBitmap: field(0x4004, 'Exception bitmap', 'Exception Bitmap'),
  PageFaultErrorCodeMask: field(0x4006, 'Page-fault error-code mask', 'Exception Bitmap'),
  PageFaultErrorCodeMatch: field(0x4008, 'Page-fault error-code match', 'Exception Bitmap'),
  Cr3TargetCount: field(0x400a, 'CR3-target count', TARGETS),
  PrimaryExitControls: field(0x400c, 'Primary VM-exit controls', 'VM-Exit Controls'),
  ExitMsrStoreCount: field(0x400e, 'VM-exit MSR-store count', EXIT_MSR),
  ExitMsrLoadCount: field(0x4010, 'VM-exit MSR-load count', EXIT_MSR),
  EntryControls: field(0x4012, 'VM-entry controls', 'VM-Entry Controls'),
  EntryMsrLoadCount: field(0x4014, 'VM-entry MSR-load count', ENTRY_MSR),
  EntryInterruptionInformation: field(0x4016, 'VM-entry interruption-information field', ENTRY_EVENT),
  EntryExceptionErrorCode: field(0x4018, 'VM-entry exception error code', ENTRY_EVENT),
  EntryInstructionLength: field(0x401a, 'VM-entry instruction length', ENTRY_EVENT),
  TprThreshold: field(0x401c, 'TPR threshold', APIC, 'UseTprShadow'),
  SecondaryControls: field(0x401e, 'Secondary processor-based VM-execution controls', 'Processor-Based VM-Execution Controls', 'ActivateSecondaryControls'),
  PleGap: field(0x4020, 'PLE_Gap', 'Controls for PAUSE-Loop Exiting', 'PauseLoopExiting'),
  PleWindow: field(0x4022, 'PLE_Window', 'Controls for PAUSE-Loop Exiting', 'PauseLoopExiting'),
  InstructionTimeoutControl: field(0x4024, 'Instruction-timeout control', 'Instruction-Timeout Control', 'InstructionTimeout'),
  // 32-bit read-only data fields
  VmInstructionError: field(0x4400, 'VM-instruction error', 'VM-Instruction Error Field'),
  ExitReason: field(0x4402, 'Exit reason', BASIC_EXIT),
  ExitInterruptionInformation: field(0x4404, 'VM-exit interruption information', EVENT_EXIT),
  ExitInterruptionErrorCode: field(0x4406, 'VM-exit interruption error code', EVENT_EXIT),
  IdtVectoringInformation: field(0x4408, 'IDT-vectoring information field', VECTORING),
  IdtVectoringErrorCode: field(0x440a, 'IDT-vectoring error code', VECTORING),
  ExitInstructionLength: field(0x440c, 'VM-exit instruction length', INSTRUCTION_EXIT),
  ExitInstructionInformation: field(0x440e, 'VM-exit instruction information', INSTRUCTION_EXIT),
  // 32-bit guest-state fields
  GuestEsLimit: field(0x4800, 'Guest ES limit', GUEST_REGISTERS),
  GuestCsLimit: field(0x4802, 'Guest CS limit', GUEST_REGISTERS),
  GuestSsLimit: field(0x4804, 'Guest SS limit', GUEST_REGISTERS),
  GuestDsLimit: field(0x4806, 'Guest DS limit', GUEST_REGISTERS),
  GuestFsLimit: field(0x4808, 'Guest FS limit', GUEST_REGISTERS),
  GuestGsLimit: field(0x480a, 'Guest GS limit', GUEST_REGISTERS),
  GuestLdtrLimit: field(0x480c, 'Guest LDTR limit', GUEST_REGISTERS),
  GuestTrLimit: field(0x480e, 'Guest TR limit', GUEST_REGISTERS),
  GuestGdtrLimit: field(0x4810, 'Guest GDTR limit', GUEST_REGISTERS),
  GuestIdtrLimit: field(0x4812, 'Guest IDTR limit', GUEST_REGISTERS),
  GuestEsAccessRights: field(0x4814, 'Guest ES access rights', GUEST_REGISTERS),
  GuestCsAccessRights: field(0x4816, 'Guest CS access rights', GUEST_REGISTERS),
  GuestSsAccessRights: field(0x4818, 'Guest SS access rights', GUEST_REGISTERS),
  GuestDsAccessRights: field(0x481a, 'Guest DS access rights', GUEST_REGISTERS),
  GuestFsAccessRights: field(0x481c, 'Guest FS access rights', GUEST_REGISTERS),
  GuestGsAccessRights: field(0x481e, 'Guest GS access rights', GUEST_REGISTERS),
  GuestLdtrAccessRights: field(0x4820, 'Guest LDTR access rights', GUEST_REGISTERS),
  GuestTrAccessRights: field(0x4822, 'Guest TR access rights', GUEST_REGISTERS),
  GuestInterruptibilityState: field(0x4824, 'Guest interruptibility state', GUEST_OTHER),
  GuestActivityState: field(0x4826, 'Guest activity state', GUEST_OTHER),
  GuestSmbase: field(0x4828, 'Guest SMBASE', GUEST_REGISTERS),
  GuestIa32SysenterCs: field(0x482a, 'Guest IA32_SYSENTER_CS', GUEST_REGISTERS),
  PreemptionTimerValue: field(0x482e, 'VMX-preemption timer value', GUEST_OTHER, 'ActivatePreemptionTimer'),
  // 32-bit host-state field
  HostIa32SysenterCs: field(0x4c00, 'Host IA32_SYSENTER_CS', HOST),
  // natural-width control fields
  Cr0GuestHostMask: field(0x6000, 'CR0 guest/host mask', CR_MASKS),
  Cr4GuestHostMask: field(0x6002, 'CR4 guest/host mask', CR_MASKS),
  Cr0ReadShadow: field(0x6004, 'CR0 read shadow', CR_MASKS),
  Cr4ReadShadow: field(0x6006, 'CR4 read shadow', CR_MASKS),
  Cr3TargetValue0: field(0x6008, 'CR3-target value 0', TARGETS),
  Cr3TargetValue1: field(0x600a, 'CR3-target value 1', TARGETS),
  Cr3TargetValue2: field(0x600c, 'CR3-target value 2', TARGETS),
  Cr3TargetValue3: field(0x600e, 'CR3-target value 3', TARGETS),
  // natural-width read-only data fields
  ExitQualification: field(0x6400, 'Exit qualification', BASIC_EXIT),
  IoRcx: field(0x6402, 'I/O RCX', INSTRUCTION_EXIT),
  IoRsi: field(0x6404, 'I/O RSI', INSTRUCTION_EXIT),
  IoRdi: field(0x6406, 'I/O RDI', INSTRUCTION_EXIT),
  IoRip: field(0x6408, 'I/O RIP', INSTRUCTION_EXIT),
  GuestLinearAddress: field(0x640a, 'Guest-linear address', BASIC_EXIT),
  // natural-width guest-state fields
  GuestCr0: field(0x6800, 'Guest CR0', GUEST_REGISTERS),
  GuestCr3: field(0x6802, 'Guest CR3', GUEST_REGISTERS),
  GuestCr4: field(0x6804, 'Guest CR4', GUEST_REGISTERS),
  GuestEsBase: field(0x6806, 'Guest ES base', GUEST_REGISTERS),
  GuestCsBase: field(0x6808, 'Guest CS base', GUEST_REGISTERS),
  GuestSsBase: field(0x680a, 'Guest SS base', GUEST_REGISTERS),
  GuestDsBase: field(0x680c, 'Guest DS base', GUEST_REGISTERS),
  GuestFsBase: field(0x680e, 'Guest FS base', GUEST_REGISTERS),
  GuestGsBase: field(0x6810, 'Guest GS base', GUEST_REGISTERS),
  GuestLdtrBase: field(0x6812, 'Guest LDTR base', GUEST_REGISTERS),
  GuestTrBase: field(0x6814, 'Guest TR base', GUEST_REGISTERS),
  GuestGdtrBase: field(0x6816, 'Guest GDTR base', GUEST_REGISTERS),
  GuestIdtrBase: field(0x6818, 'Guest IDTR base', GUEST_REGISTERS),
  GuestDr7: field(0x681a, 'Guest DR7', GUEST_REGISTERS),
  GuestRsp: field(0x681c, 'Guest RSP', GUEST_REGISTERS),
  GuestRip: field(0x681e, 'Guest RIP', GUEST_REGISTERS),
  GuestRflags: field(0x6820, 'Guest RFLAGS', GUEST_REGISTERS),
  GuestPendingDebugExceptions: field(0x6822, 'Guest pending debug exceptions', GUEST_OTHER),
  GuestIa32SysenterEsp: field(0x6824, 'Guest IA32_SYSENTER_ESP', GUEST_REGISTERS),
  GuestIa32SysenterEip: field(0x6826, 'Guest IA32_SYSENTER_EIP', GUEST_REGISTERS),
  GuestIa32SCet: field(0x6828, 'Guest IA32_S_CET', GUEST_REGISTERS, 'EntryLoadCet'),
  GuestSsp: field(0x682a, 'Guest SSP', GUEST_REGISTERS, 'EntryLoadCet'),
  GuestIa32InterruptSspTableAddress: field(0x682c, 'Guest IA32_INTERRUPT_SSP_TABLE_ADDR', GUEST_REGISTERS, 'EntryLoadCet'),
  // natural-width host-state fields
  HostCr0: field(0x6c00, 'Host CR0', HOST),
  HostCr3: field(0x6c02, 'Host CR3', HOST),
  HostCr4: field(0x6c04, 'Host CR4', HOST),
  HostFsBase: field(0x6c06, 'Host FS base', HOST),
  HostGsBase: field(0x6c08, 'Host GS base', HOST),
  HostTrBase: field(0x6c0a, 'Host TR base', HOST),
  HostGdtrBase: field(0x6c0c, 'Host GDTR base', HOST),
  HostIdtrBase: field(0x6c0e, 'Host IDTR base', HOST),
  HostIa32SysenterEsp: field(0x6c10, 'Host IA32_SYSENTER_ESP', HOST),
  HostIa32SysenterEip: field(0x6c12, 'Host IA32_SYSENTER_EIP', HOST),
  HostRsp: field(0x6c14, 'Host RSP', HOST),
  HostRip: field(0x6c16, 'Host RIP', HOST),
  HostIa32SCet: field(0x6c18, 'Host IA32_S_CET', HOST, 'ExitLoadCet'),
  HostSsp: field(0x6c1a, 'Host SSP', HOST, 'ExitLoadCet'),
  HostIa32InterruptSspTableAddress: field(0x6c1c, 'Host IA32_INTERRUPT_SSP_TABLE_ADDR', HOST, 'ExitLoadCet'),
};

export type FieldName = keyof typeof table;
for (const [member, row] of Object.entries(table)) (row as { member: string }).member = member;
if (end > Region.size) throw new Error(`VMCS fields need ${end} bytes, more than the region's ${Region.size}`);

/** The fields by member name: `Field.EptPointer`. */
export const Field: Readonly<Record<FieldName, Field>> = table;
/** The same in table order. */
export const fields: readonly Field[] = Object.values(table);

const byEncoding = new Int16Array(0x8000).fill(-1);
for (const row of fields) byEncoding[row.encoding] = row.number;

/** Row number of the field with this encoding (bit 0, the access type, must be 0 or belong to a 64-bit field), or -1. */
export function fieldNumber(encoding: number): number {
  if (encoding >>> 15 !== 0) return -1;
  const number = byEncoding[encoding & ~1]!;
  if (number >= 0 && (encoding & 1) !== 0 && fields[number]!.width !== FieldWidth.Bits64) return -1;
  return number;
}
