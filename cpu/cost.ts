/** One thing that costs cycles: the class of a row, or an event. */
export interface CostKey {
  readonly key: string;
  /** 'row': charged by the engine for every execution of a row of this class; 'event': charged where it happens. */
  readonly kind: 'row' | 'event';
  readonly description: string;
}

const row = (key: string, description: string): CostKey => ({ key, kind: 'row', description });
const event = (key: string, description: string): CostKey => ({ key, kind: 'event', description });

/** Every cost a profile must state. A row names one of the row classes (Row.cost); everything else is an event. */
export const costKeys: readonly CostKey[] = [
  row('alu', 'moves, arithmetic, logic, shifts: every row that names no other class'),
  row('mul', 'integer multiplication'),
  row('div', 'integer division'),
  row('string', 'string instruction, its first iteration included'),
  row('branch', 'near jump, taken or not'),
  row('call', 'near call'),
  row('ret', 'near return'),
  row('stack', 'PUSH, POP, ENTER, LEAVE and their all-register forms'),
  row('lock', 'LOCK-prefixed or implicitly locked read-modify-write'),
  row('bcd', 'decimal adjustment'),
  row('segment', 'segment register load, LAR, LSL, VERR, VERW'),
  row('far', 'far jump, far call, far return'),
  row('gate', 'far transfer through a call gate'),
  row('int', 'INT n, INT3, INTO, INT1 themselves (delivery is event.software)'),
  row('iret', 'IRET'),
  row('syscall', 'SYSCALL'),
  row('sysret', 'SYSRET'),
  row('sysenter', 'SYSENTER'),
  row('sysexit', 'SYSEXIT'),
  row('cpuid', 'CPUID'),
  row('rdtsc', 'RDTSC, RDTSCP'),
  row('rdmsr', 'RDMSR'),
  row('wrmsr', 'WRMSR'),
  row('io', 'IN, OUT, INS, OUTS, the device included'),
  row('cr', 'MOV to a control register, LMSW, CLTS'),
  row('crread', 'MOV from a control register, SMSW'),
  row('dr', 'MOV to or from a debug register'),
  row('descriptor', 'LGDT, LIDT, LLDT, LTR, SGDT, SIDT, SLDT, STR'),
  row('invlpg', 'INVLPG'),
  row('invpcid', 'INVPCID'),
  row('hlt', 'HLT, up to the halted state'),
  row('serialize', 'cache control and serializing instructions (WBINVD, INVD)'),
  row('flags', 'PUSHF, POPF, CLI, STI'),
  row('task', 'far transfer that switches tasks (the switch is event.task)'),
  row('sse', 'SSE and SSE2 moves, integer and logic'),
  row('ssefp', 'SSE and SSE2 floating point'),
  row('fence', 'LFENCE, SFENCE, MFENCE'),
  row('vmxon', 'VMXON, VMXOFF'),
  row('vmptrld', 'VMPTRLD, VMPTRST'),
  row('vmclear', 'VMCLEAR'),
  row('vmread', 'VMREAD'),
  row('vmwrite', 'VMWRITE'),
  row('vmentry', 'VMLAUNCH, VMRESUME, the VM entry included'),
  row('vmcall', 'VMCALL outside VMX non-root operation'),
  row('invept', 'INVEPT'),
  row('invvpid', 'INVVPID'),
  event('event.exception', 'delivery of an exception through the IDT'),
  event('event.interrupt', 'delivery of an external interrupt or NMI through the IDT'),
  event('event.software', 'delivery of a software interrupt through the IDT'),
  event('event.task', 'hardware task switch'),
  event('tlb.second', 'first-level TLB miss that hits the second level'),
  event('walk.reference', 'one page-table or EPT-table reference of a page walk'),
  event('vmx.exit', 'VM exit, unless vmx.exit.<reason> says otherwise'),
  event('mmio', 'access to a memory-mapped device'),
  event('string.iteration', 'one REP iteration beyond the first'),
  event('monitor.memory', 'monitor reads or writes a word of guest memory or of one of its tables'),
  event('monitor.decode', 'monitor decodes one guest instruction in software'),
  event('monitor.emulate', 'monitor carries out one decoded guest instruction'),
  event('monitor.dispatch', 'monitor saves and restores registers and finds its handler, once per stop'),
  event('monitor.inject', 'monitor prepares an event for its guest'),
  event('monitor.device', 'monitor serves one access to a virtual device'),
];

/** Prefix of the optional costs of one exit reason: `vmx.exit.` and a VmExitReason member. */
export const VMX_EXIT_PREFIX = 'vmx.exit.';

const known = new Set(costKeys.map(c => c.key));

/** Whether a profile may state this cost: a key of the table, or a VM exit of one reason. */
export function isCostKey(key: string): boolean {
  return known.has(key) || (key.startsWith(VMX_EXIT_PREFIX) && key.length > VMX_EXIT_PREFIX.length);
}
