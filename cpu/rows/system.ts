import { cpuidInstruction } from '../cpuid.ts';
import {
  clts, hlt, invalidateCaches, invlpg, invpcid, lmsw, monitor, movFromCr, movFromDr, movToCr, movToDr, mwait, rdpmc, rdtsc, rdtscp, readBase, smsw, swapgs, writeBase, xgetbv, xsetbv,
} from '../control.ts';
import type { SystemBody } from '../cpu.ts';
import { sysenter, sysexit, syscall, sysret } from '../fast-call.ts';
import { ud } from '../fault.ts';
import { cli, popf, pushf, sti } from '../flag-control.ts';
import { input, inputString, output, outputString } from '../io.ts';
import { iret } from '../iret.ts';
import { rdmsr, wrmsr } from '../msr.ts';
import { insn, system, type Row, type RowOptions } from '../row.ts';
import { bound, loadFarPointer, movFromSegment, movToSegment, popSegment, pushSegment } from '../segments.ts';
import { breakpoint, debugTrap, interrupt, overflow } from '../software-interrupt.ts';
import { enter } from '../stack-frame.ts';
import { S, SegmentIndex } from '../state.ts';
import { arpl, lar, lldt, loadTable, lsl, ltr, storeSelector, storeTable, verr, verw } from '../tables.ts';
import { callFarDirect, callFarMemory, jmpFarDirect, jmpFarMemory, retf } from '../transfer.ts';

const { ES, CS, SS, DS, FS, GS, LDTR, TR } = SegmentIndex;

const put = (syntax: string, notation: string, body: SystemBody, options?: RowOptions): Omit<Row, 'id'> => insn(syntax, notation, system(body), options);
const undefinedInstruction: SystemBody = () => { throw ud(); };
const nothing: SystemBody = () => {};
const touch: SystemBody = (cpu, instruction) => { cpu.load(cpu.linearOf(instruction, 1, false), 1); };

const segment = { cost: 'segment' } as const;
const descriptor = { cost: 'descriptor' } as const;
const far = { cost: 'far' } as const;
const io = { cost: 'io' } as const;
const flags = { cost: 'flags' } as const;
const fence = { cost: 'fence' } as const;

/** System instructions: everything that cannot be said as micro-ops. */
export const systemRows: readonly Omit<Row, 'id'>[] = [
  // segment registers
  put('MOV Sreg, r/m16', '8E /r', movToSegment, segment),
  put('MOV r/mv, Sreg', '8C /r', movFromSegment),
  ...([['ES', ES, '06', '07'], ['SS', SS, '16', '17'], ['DS', DS, '1E', '1F']] as const).flatMap(([name, n, push, pop]) => [
    put(`PUSH ${name}`, push, pushSegment(n), { mode: 'no64', cost: 'stack' }),
    put(`POP ${name}`, pop, popSegment(n), { mode: 'no64', cost: 'segment' }),
  ]),
  put('PUSH CS', '0E', pushSegment(CS), { mode: 'no64', cost: 'stack' }),
  ...([['FS', FS, '0F A0', '0F A1'], ['GS', GS, '0F A8', '0F A9']] as const).flatMap(([name, n, push, pop]) => [
    put(`PUSH ${name}`, push, pushSegment(n), { size: 'd64', cost: 'stack' }),
    put(`POP ${name}`, pop, popSegment(n), { size: 'd64', cost: 'segment' }),
  ]),
  put('LES rv, m16:v', 'C4 /r', loadFarPointer(ES), { mode: 'no64', cost: 'segment' }),
  put('LDS rv, m16:v', 'C5 /r', loadFarPointer(DS), { mode: 'no64', cost: 'segment' }),
  put('LSS rv, m16:v', '0F B2 /r', loadFarPointer(SS), segment),
  put('LFS rv, m16:v', '0F B4 /r', loadFarPointer(FS), segment),
  put('LGS rv, m16:v', '0F B5 /r', loadFarPointer(GS), segment),

  // descriptor tables and what they say
  put('SLDT r/mv', '0F 00 /0', storeSelector(LDTR), descriptor),
  put('STR r/mv', '0F 00 /1', storeSelector(TR), descriptor),
  put('LLDT r/m16', '0F 00 /2', lldt, descriptor),
  put('LTR r/m16', '0F 00 /3', ltr, descriptor),
  put('VERR r/m16', '0F 00 /4', verr, segment),
  put('VERW r/m16', '0F 00 /5', verw, segment),
  put('SGDT m16&64', '0F 01 /0', storeTable(S.gdtrBase, S.gdtrLimit), descriptor),
  put('SIDT m16&64', '0F 01 /1', storeTable(S.idtrBase, S.idtrLimit), descriptor),
  put('LGDT m16&64', '0F 01 /2', loadTable(S.gdtrBase, S.gdtrLimit), descriptor),
  put('LIDT m16&64', '0F 01 /3', loadTable(S.idtrBase, S.idtrLimit), descriptor),
  put('LAR rv, r/m16', '0F 02 /r', lar, segment),
  put('LSL rv, r/m16', '0F 03 /r', lsl, segment),
  put('ARPL r/m16, r16', '63 /r', arpl, { mode: 'no64', cost: 'segment' }),

  // control, debug and model-specific registers
  put('MOV Ry, CRn', '0F 20 /r', movFromCr, { size: 'f64', cost: 'crread' }),
  put('MOV CRn, Ry', '0F 22 /r', movToCr, { size: 'f64', cost: 'cr' }),
  put('MOV Ry, DRn', '0F 21 /r', movFromDr, { size: 'f64', cost: 'dr' }),
  put('MOV DRn, Ry', '0F 23 /r', movToDr, { size: 'f64', cost: 'dr' }),
  put('CLTS', '0F 06', clts, { cost: 'cr' }),
  put('SMSW r/mv', '0F 01 /4', smsw, { cost: 'crread' }),
  put('LMSW r/m16', '0F 01 /6', lmsw, { cost: 'cr' }),
  put('RDMSR', '0F 32', rdmsr, { feature: 'MSR', cost: 'rdmsr' }),
  put('WRMSR', '0F 30', wrmsr, { feature: 'MSR', cost: 'wrmsr' }),
  put('RDTSC', '0F 31', rdtsc, { feature: 'TSC', cost: 'rdtsc' }),
  put('RDTSCP', '0F 01 F9', rdtscp, { feature: 'RDTSCP', cost: 'rdtsc' }),
  put('RDPMC', '0F 33', rdpmc, { cost: 'rdmsr' }),
  put('CPUID', '0F A2', cpuidInstruction, { cost: 'cpuid' }),
  put('XGETBV', 'NP 0F 01 D0', xgetbv, { feature: 'XSAVE', cost: 'rdmsr' }),
  put('XSETBV', 'NP 0F 01 D1', xsetbv, { feature: 'XSAVE', cost: 'wrmsr' }),
  put('RDFSBASE Ry', 'F3 0F AE /0', readBase(FS), { mode: 'only64', feature: 'FSGSBASE', cost: 'segment' }),
  put('RDGSBASE Ry', 'F3 0F AE /1', readBase(GS), { mode: 'only64', feature: 'FSGSBASE', cost: 'segment' }),
  put('WRFSBASE Ry', 'F3 0F AE /2', writeBase(FS), { mode: 'only64', feature: 'FSGSBASE', cost: 'segment' }),
  put('WRGSBASE Ry', 'F3 0F AE /3', writeBase(GS), { mode: 'only64', feature: 'FSGSBASE', cost: 'segment' }),
  put('SWAPGS', '0F 01 F8', swapgs, { mode: 'only64', cost: 'segment' }),

  // translation caches and caches
  put('INVLPG m', '0F 01 /7', invlpg, { cost: 'invlpg' }),
  put('INVPCID ry, m128', '66 0F 38 82 /r', invpcid, { size: 'f64', feature: 'INVPCID', cost: 'invpcid' }),
  put('INVD', '0F 08', invalidateCaches, { cost: 'serialize' }),
  put('WBINVD', '0F 09', invalidateCaches, { cost: 'serialize' }),
  put('CLFLUSH m8', 'NP 0F AE /7', touch, { feature: 'CLFSH', cost: 'fence', straight: true }),
  put('LFENCE', 'NP 0F AE E8', nothing, { ...fence, feature: 'SSE2', straight: true }),
  put('MFENCE', 'NP 0F AE F0', nothing, { ...fence, feature: 'SSE2', straight: true }),
  put('SFENCE', 'NP 0F AE F8', nothing, { ...fence, feature: 'SSE', straight: true }),
  put('PREFETCHNTA m8', '0F 18 /0', nothing, { feature: 'SSE', straight: true }),
  put('PREFETCHT0 m8', '0F 18 /1', nothing, { feature: 'SSE', straight: true }),
  put('PREFETCHT1 m8', '0F 18 /2', nothing, { feature: 'SSE', straight: true }),
  put('PREFETCHT2 m8', '0F 18 /3', nothing, { feature: 'SSE', straight: true }),
  put('PREFETCHW m8', '0F 0D /1', nothing, { feature: 'LM', straight: true }), // a no-operation where PREFETCHW is not enumerated
  put('PAUSE', 'F3 90', nothing, { straight: true }),

  // processor state
  put('HLT', 'F4', hlt, { cost: 'hlt' }),
  put('MONITOR', 'NP 0F 01 C8', monitor, { feature: 'MONITOR', cost: 'serialize' }),
  put('MWAIT', 'NP 0F 01 C9', mwait, { feature: 'MONITOR', cost: 'serialize' }),
  put('CLI', 'FA', cli, flags),
  put('STI', 'FB', sti, flags),
  put('ENTER imm16, imm8', 'C8 iw ib', enter, { size: 'd64', cost: 'stack' }),
  put('PUSHFv', '9C', pushf, { size: 'd64', cost: 'flags' }),
  put('POPFv', '9D', popf, { size: 'd64', cost: 'flags' }),

  // ports
  put('IN AL, imm8', 'E4 ib', input(false, true), io),
  put('IN zAX, imm8', 'E5 ib', input(true, true), io),
  put('IN AL, DX', 'EC', input(false, false), io),
  put('IN zAX, DX', 'ED', input(true, false), io),
  put('OUT imm8, AL', 'E6 ib', output(false, true), io),
  put('OUT imm8, zAX', 'E7 ib', output(true, true), io),
  put('OUT DX, AL', 'EE', output(false, false), io),
  put('OUT DX, zAX', 'EF', output(true, false), io),
  put('INSB', '6C', inputString(false), { rep: 'rep', cost: 'io' }),
  put('INSv', '6D', inputString(true), { rep: 'rep', cost: 'io' }),
  put('OUTSB', '6E', outputString(false), { rep: 'rep', cost: 'io' }),
  put('OUTSv', '6F', outputString(true), { rep: 'rep', cost: 'io' }),

  // interrupts and far transfers
  put('INT3', 'CC', breakpoint, { cost: 'int' }),
  put('INT imm8', 'CD ib', interrupt, { cost: 'int' }),
  put('INTO', 'CE', overflow, { mode: 'no64', cost: 'int' }),
  put('INT1', 'F1', debugTrap, { cost: 'int' }),
  put('IRETv', 'CF', iret, { cost: 'iret' }),
  put('JMP ptr16:z', 'EA far', jmpFarDirect, { mode: 'no64', cost: 'far' }),
  put('JMP m16:v', 'FF /5', jmpFarMemory, far),
  put('CALL ptr16:z', '9A far', callFarDirect, { mode: 'no64', cost: 'far' }),
  put('CALL m16:v', 'FF /3', callFarMemory, far),
  put('RETF', 'CB', retf, far),
  put('RETF imm16', 'CA iw', retf, far),
  put('SYSCALL', '0F 05', syscall, { feature: 'SYSCALL', cost: 'syscall' }),
  put('SYSRET', '0F 07', sysret, { feature: 'SYSCALL', cost: 'sysret' }),
  put('SYSENTER', '0F 34', sysenter, { feature: 'SEP', cost: 'sysenter' }),
  put('SYSEXIT', '0F 35', sysexit, { feature: 'SEP', cost: 'sysexit' }),
  put('BOUND rv, mv&v', '62 /r', bound, { mode: 'no64' }),

  // reserved for good
  put('UD2', '0F 0B', undefinedInstruction),
  put('UD1 rv, r/mv', '0F B9 /r', undefinedInstruction),
  put('UD0 rv, r/mv', '0F FF /r', undefinedInstruction),
];
