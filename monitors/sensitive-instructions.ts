/**
 * The Pentium's sensitive instructions that do not trap outside ring 0 (Robin and Irvine, "Analysis of the Intel
 * Pentium's Ability to Support a Secure Virtual Machine Monitor", 2000; 17 by their count, 18 mnemonics when listed),
 * and what each does to a guest under ring deprivileging.
 */
export interface SensitiveInstruction {
  readonly mnemonic: string;
  /** `register`: reads or changes sensitive registers; `protection`: refers to the protection system. */
  readonly group: 'register' | 'protection';
  /** What ring 0 would give. */
  readonly expected: string;
  /** What the guest's kernel gets in ring 1. */
  readonly happens: string;
  /** `wrong`: silently different; `partly`: wrong in some uses; `right`: what can go wrong traps. */
  readonly outcome: 'wrong' | 'partly' | 'right';
}

const row = (mnemonic: string, group: SensitiveInstruction['group'], outcome: SensitiveInstruction['outcome'], expected: string, happens: string): SensitiveInstruction => ({ mnemonic, group, outcome, expected, happens });

export const sensitiveInstructions: readonly SensitiveInstruction[] = [
  row('SGDT', 'register', 'wrong', 'the guest\'s GDTR', 'the real GDTR: base 0xffe10000, limit 0xffff'),
  row('SIDT', 'register', 'wrong', 'the guest\'s IDTR', 'the real IDTR: base 0xffe01000, limit 0x7ff'),
  row('SLDT', 'register', 'wrong', 'the selector the guest loaded', 'the monitor\'s LDT selector, also where the guest has none'),
  row('SMSW', 'register', 'partly', 'the guest\'s CR0', 'the real CR0: MP, EM and TS are the guest\'s, PE, ET and NE are always set'),
  row('PUSHF', 'register', 'wrong', 'the guest\'s IF and IOPL', 'IF 1 and IOPL 0; TF while the monitor waits for the instruction after STI'),
  row('POPF', 'register', 'wrong', 'loads IF and IOPL', 'changes neither and does not trap: a kernel that switches interrupts with POPF is not heard'),
  row('LAR', 'protection', 'wrong', 'the descriptor\'s access rights', 'privilege level 1 in place of 0; code segments of ring 3 show as not present; system descriptors are refused'),
  row('LSL', 'protection', 'wrong', 'the descriptor\'s limit', 'the limit cut at 0xffbfffff; system descriptors are refused'),
  row('VERR', 'protection', 'partly', 'checks against ring 0', 'a ring-0 segment passes with RPL 1'),
  row('VERW', 'protection', 'partly', 'checks against ring 0', 'a ring-0 segment passes with RPL 1'),
  row('POP (segment register)', 'protection', 'partly', 'loads SS and data segments of ring 0', 'a ring-0 SS traps and is emulated; RPL 1 is accepted where ring 0 would fault'),
  row('PUSH (segment register)', 'protection', 'wrong', 'the selector with RPL 0', 'CS and SS show RPL 1'),
  row('CALL (far)', 'protection', 'partly', 'transfers inside ring 0', 'works, but pushes and runs with RPL 1; gates and task switches trap and are emulated'),
  row('JMP (far)', 'protection', 'partly', 'transfers inside ring 0', 'works, but runs with RPL 1; task switches trap and are emulated'),
  row('INT n', 'protection', 'right', 'through the guest\'s gate', 'always enters the monitor, which delivers it through the guest\'s IDT with the flags and selectors the guest believes in'),
  row('RET (far), IRET', 'protection', 'partly', 'loads CS, SS and flags', 'an RPL of 0 and a return to ring 3 trap and are emulated; an IRET with RPL 1 stays in ring 1 without trapping and leaves IF and IOPL alone'),
  row('STR', 'protection', 'wrong', 'the selector the guest loaded', 'the selector of the monitor\'s own TSS'),
  row('MOV (segment register)', 'protection', 'partly', 'stores show RPL 0, loads check against ring 0', 'CS and SS show RPL 1; a ring-0 SS traps and is emulated; RPL 1 is accepted where ring 0 would fault'),
];

/** What else a guest may notice under trap-and-emulate. */
export const trapAndEmulateLimits: readonly string[] = [
  'CPUID does not trap: the guest sees the processor\'s own features, VMX included, although CR4.VMXE and the VMX instructions are refused.',
  'RDTSC does not trap either; the counter it reads is that of the clock in force.',
  'The accessed bit of a descriptor is not set in the guest\'s own table by a load that did not trap.',
  'Rings 0 and 1 of the guest share the real ring 1: a guest that uses ring 1 is not kept out of its ring 0.',
  'Segments end below 0xffc00000, where the monitor is; what the guest does above, and every access through a big expand-down segment, is emulated one instruction at a time.',
  'Writes to a page that holds the guest\'s GDT or LDT are emulated, whatever else lies in the page.',
  'Virtual-8086 mode, long mode and leaving protected mode end the run with a reason.',
  'A conforming code segment stays present: a return to ring 3 through it does not trap, and the guest\'s interrupt flag stays as it was.',
  'Data and I/O breakpoints, alignment checks in ring 3 and the direction and trap flags are the real ones.',
];
