/** Basic exit reasons (SDM appendix "VMX Basic Exit Reasons"). */
export const VmExitReason = {
  ExceptionOrNmi: 0, ExternalInterrupt: 1, TripleFault: 2, InitSignal: 3, StartupIpi: 4, IoSmi: 5, OtherSmi: 6, InterruptWindow: 7, NmiWindow: 8, TaskSwitch: 9,
  Cpuid: 10, Getsec: 11, Hlt: 12, Invd: 13, Invlpg: 14, Rdpmc: 15, Rdtsc: 16, Rsm: 17, Vmcall: 18, Vmclear: 19, Vmlaunch: 20, Vmptrld: 21, Vmptrst: 22, Vmread: 23,
  Vmresume: 24, Vmwrite: 25, Vmxoff: 26, Vmxon: 27, CrAccess: 28, MovDr: 29, IoInstruction: 30, Rdmsr: 31, Wrmsr: 32, EntryFailureGuestState: 33, EntryFailureMsrLoading: 34,
  Mwait: 36, MonitorTrapFlag: 37, Monitor: 39, Pause: 40, EntryFailureMachineCheck: 41, TprBelowThreshold: 43, ApicAccess: 44, VirtualizedEoi: 45, GdtrIdtrAccess: 46, LdtrTrAccess: 47,
  EptViolation: 48, EptMisconfiguration: 49, Invept: 50, Rdtscp: 51, PreemptionTimerExpired: 52, Invvpid: 53, Wbinvd: 54, Xsetbv: 55, ApicWrite: 56, Rdrand: 57, Invpcid: 58, Vmfunc: 59,
  Encls: 60, Rdseed: 61, PageModificationLogFull: 62, Xsaves: 63, Xrstors: 64, Pconfig: 65, SppEvent: 66, Umwait: 67, Tpause: 68, Loadiwkey: 69, Enclv: 70, EnqcmdPasid: 72, EnqcmdsPasid: 73,
  BusLock: 74, InstructionTimeout: 75, Seamcall: 76, Tdcall: 77, Rdmsrlist: 78, Wrmsrlist: 79, Urdmsr: 80, Uwrmsr: 81, RdmsrImmediate: 84, WrmsrnsImmediate: 85,
} as const;
export type VmExitReason = (typeof VmExitReason)[keyof typeof VmExitReason];
export type VmExitReasonName = keyof typeof VmExitReason;

/** Bit 31 of the exit reason: the VM entry failed. */
export const ENTRY_FAILURE = 0x80000000;

const names: (VmExitReasonName | undefined)[] = [];
for (const [name, number] of Object.entries(VmExitReason)) names[number] = name as VmExitReasonName;

/** Member of {@link VmExitReason} for a basic reason. */
export function reasonName(reason: number): string {
  return names[reason & 0xffff] ?? `Reason${reason & 0xffff}`;
}
/** Number of basic reasons, for tables indexed by reason. */
export const REASON_COUNT = names.length;

/** VM-instruction error numbers (SDM "VM Instruction Error Numbers"). */
export const VmInstructionError = {
  VmcallInRoot: 1, VmclearInvalidAddress: 2, VmclearVmxonPointer: 3, VmlaunchNonClear: 4, VmresumeNonLaunched: 5, VmresumeAfterVmxoff: 6, InvalidControlFields: 7, InvalidHostState: 8,
  VmptrldInvalidAddress: 9, VmptrldVmxonPointer: 10, VmptrldRevision: 11, UnsupportedComponent: 12, ReadOnlyComponent: 13, VmxonInRoot: 15, InvalidExecutiveVmcs: 16, NonLaunchedExecutiveVmcs: 17,
  ExecutiveVmcsNotVmxon: 18, VmcallNonClear: 19, VmcallExitControls: 20, VmcallMsegRevision: 22, VmxoffDualMonitor: 23, VmcallSmmMonitor: 24, ExecutiveControls: 25, BlockedByMovSs: 26, InvalidInvalidation: 28,
} as const;

// --- qualifications in words, for reports ------------------------------------------------------------------------

const hex = (value: number | bigint): string => '0x' + value.toString(16);
const registers = ['RAX', 'RCX', 'RDX', 'RBX', 'RSP', 'RBP', 'RSI', 'RDI', 'R8', 'R9', 'R10', 'R11', 'R12', 'R13', 'R14', 'R15'];
const access = (bits: number): string => [bits & 1 ? 'read' : '', bits & 2 ? 'write' : '', bits & 4 ? 'fetch' : ''].filter(Boolean).join('+') || 'no access';

const decoders: Partial<Record<VmExitReasonName, (q: number, whole: bigint) => string>> = {
  CrAccess: (q) => {
    const register = registers[(q >>> 8) & 15]!;
    const cr = `CR${q & 15}`;
    return [`MOV ${cr}, ${register}`, `MOV ${register}, ${cr}`, 'CLTS', `LMSW ${hex(q >>> 16)}${q & 0x40 ? ' (memory operand)' : ''}`][(q >>> 4) & 3]!;
  },
  MovDr: (q) => (q & 0x10 ? `MOV ${registers[(q >>> 8) & 15]}, DR${q & 7}` : `MOV DR${q & 7}, ${registers[(q >>> 8) & 15]}`),
  IoInstruction: (q) => `${q & 0x20 ? 'REP ' : ''}${q & 8 ? (q & 0x10 ? 'INS' : 'IN') : q & 0x10 ? 'OUTS' : 'OUT'} port ${hex(q >>> 16)}, ${(q & 7) + 1} byte${q & 7 ? 's' : ''}${q & 0x40 ? ', immediate' : ''}`,
  EptViolation: (q, whole) => `${access(q & 7)}; entry allows ${access((q >>> 3) & 7)}; ${whole & 0x80n ? `linear address valid, ${q & 0x100 ? 'final translation' : 'guest paging structure'}` : 'no linear address'}${q & 0x1000 ? '; NMI unblocking by IRET' : ''}`,
  TaskSwitch: (q) => `${['CALL', 'IRET', 'JMP', 'task gate in the IDT'][q >>> 30]} to TSS selector ${hex(q & 0xffff)}`,
  Invlpg: (_, whole) => `linear address ${hex(whole)}`,
  EntryFailureGuestState: (q) => ['guest state check', 'reserved', 'PDPTE loading', 'NMI injected while blocked by STI', 'VMCS link pointer'][q] ?? hex(q),
  EntryFailureMsrLoading: (q) => `MSR-load entry ${q}`,
};

/** An exit qualification in words. `q` is its 64-bit value; empty where the reason has none. */
export function describeQualification(reason: number, q: bigint): string {
  const decoder = decoders[reasonName(reason) as VmExitReasonName];
  return decoder ? decoder(Number(q & 0xffffffffn), q) : q === 0n ? '' : hex(q);
}

/** Interruption-information word in words (SDM "Format of the VM-Exit Interruption-Information Field"). */
export function describeInterruption(information: number): string {
  if (information >>> 31 === 0) return 'none';
  const type = ['external interrupt', 'reserved', 'NMI', 'hardware exception', 'software interrupt', 'privileged software exception', 'software exception', 'other event'][(information >>> 8) & 7]!;
  return `${type}, vector ${information & 0xff}${information & 0x800 ? ', with error code' : ''}${information & 0x1000 ? ', NMI unblocking by IRET' : ''}`;
}
