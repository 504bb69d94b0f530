/** Text of a QEMU log, for tests: real-mode dumps. */

export interface DumpValues { readonly eax?: number; readonly ebx?: number; readonly ecx?: number; readonly edx?: number; readonly esp?: number; readonly eip?: number; readonly flags?: number }

const hex = (value: number | undefined, digits = 8): string => (value ?? 0).toString(16).padStart(digits, '0');

export function dumpText(values: DumpValues): string {
  const segment = (name: string, flags = '00009300'): string => `${name.padEnd(3)}=0000 00000000 0000ffff ${flags}\n`;
  return `EAX=${hex(values.eax)} EBX=${hex(values.ebx)} ECX=${hex(values.ecx)} EDX=${hex(values.edx)}
ESI=00000000 EDI=00000000 EBP=00000000 ESP=${hex(values.esp)}
EIP=${hex(values.eip ?? 0x7c00)} EFL=${hex(values.flags ?? 2)} [-------] CPL=0 II=0 A20=1 SMM=0 HLT=0
${segment('ES')}${segment('CS', '00009b00')}${segment('SS')}${segment('DS')}${segment('FS')}${segment('GS')}${segment('LDT', '00008200')}${segment('TR', '00008b00')}GDT=     00000000 00000000
IDT=     00000000 000003ff
CR0=00000010 CR2=00000000 CR3=00000000 CR4=00000000
DR0=0000000000000000 DR1=0000000000000000 DR2=0000000000000000 DR3=0000000000000000 
DR6=00000000ffff0ff0 DR7=0000000000000400
CCS=00000000 CCD=00000000 CCO=EFLAGS
EFER=0000000000000000
`;
}

export const traceText = (pc: number): string => `Trace 0: 0x7fe4ac187740 [0000000000000000/${hex(pc, 16)}/00000040/ff000200] \n`;

/** A log with one instruction per block, from the state before each. */
export const logText = (states: readonly DumpValues[]): string => states.map((state) => `${traceText(state.eip ?? 0x7c00)}${dumpText(state)}`).join('');
