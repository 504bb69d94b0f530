import { describe, expect, test } from 'vitest';
import { FormatError } from '../../traces/format-error.ts';
import { parseQemuLog } from '../../traces/qemu-log.ts';
import { dumpText, traceText } from './qemu-text.ts';

const wideDump = `RAX=0000000000001000 RBX=0000000000000800 RCX=000000000000001b RDX=00000000000003f8
RSI=0000000000000000 RDI=0000000000005000 RBP=0000000000000000 RSP=0000000000007c00
R8 =0000000000000008 R9 =0000000000000000 R10=0000000000000000 R11=0000000000000000
R12=0000000000000000 R13=0000000000000000 R14=0000000000000000 R15=ffffffffffffffff
RIP=0000000000007cac RFL=00000046 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=0
ES =0000 0000000000000000 0000ffff 00009300 DPL=0 DS   [-WA]
CS =0008 0000000000000000 ffffffff 00af9a00 DPL=0 CS64 [-R-]
SS =0010 0000000000000000 ffffffff 00cf9300 DPL=0 DS   [-WA]
DS =0010 0000000000000000 ffffffff 00cf9300 DPL=0 DS   [-WA]
FS =0000 ffff800000000000 0000ffff 00009300 DPL=0 DS   [-WA]
GS =0000 0000000000000000 0000ffff 00009300 DPL=0 DS   [-WA]
LDT=0000 0000000000000000 0000ffff 00008200 DPL=0 LDT
TR =0000 0000000000000000 0000ffff 00008b00 DPL=0 TSS64-busy
GDT=     0000000000007cc0 00000017
IDT=     0000000000000000 00000000
CR0=80000011 CR2=0000000000000000 CR3=0000000000001000 CR4=00000020
DR0=0000000000000000 DR1=0000000000000000 DR2=0000000000000000 DR3=0000000000000000 
DR6=00000000ffff0ff0 DR7=0000000000000400
CCS=0000000000000000 CCD=ffffffff80000011 CCO=CLR
EFER=0000000000000500
`;

describe('reading a log', () => {
  const log = parseQemuLog(`----------------
IN: 
0x00007cac:  48 89 1c 25 00 80 00 00  movq     %rbx, 0x8000

Trace 0: 0x7f0fd8425a40 [0000000000000000/0000000000007cac/0000c0b0/ff000201] 
${wideDump}check_exception old: 0xffffffff new 0x6
     0: v=06 e=0000 i=0 cpl=0 IP=0008:0000000000007cb4 pc=0000000000007cb4 SP=0010:0000000000007c00 env->regs[R_EAX]=0000000000001000
${wideDump}Servicing hardware INT=0x20
     1: v=20 e=0000 i=0 cpl=0 IP=0008:0000000000007cb4 pc=0000000000007cb4 SP=0010:0000000000007c00 env->regs[R_EAX]=0000000000001000
${wideDump}something new
----------------
IN: 
0x00007c27:  66 c7 06 00 05 78 56 34  movl     $0x12345678, 0x500
0x00007c2f:  12

Trace 0: 0x7fe4ac187740 [0000000000000000/0000000000007c27/00000040/ff000200] 
`);
  const [code, block, exception, interrupt] = log.entries;
  test('blocks with their dump', () => {
    expect(block).toMatchObject({ kind: 'block', line: 5, pc: 0x7cacn, csBase: 0n });
    const dump = block!.kind === 'block' ? block!.dump! : null;
    expect(dump).toMatchObject({ line: 6, wide: true, rip: 0x7cacn, flags: 0x46, cpl: 0, inhibit: false, smm: false });
    expect([dump!.registers[0], dump!.registers[1], dump!.registers[3], dump!.registers[8], dump!.registers[15]]).toEqual([0x1000n, 0x1bn, 0x800n, 8n, 2n ** 64n - 1n]);
    expect(dump!.system.segments[1]).toEqual({ selector: 8, base: 0, limit: 0xffffffff, flags: 0xaf9a00 });
    expect(dump!.system.segments[4]!.base).toBe(-(2 ** 47));
    expect(dump!.system).toMatchObject({ gdtBase: 0x7cc0, gdtLimit: 0x17, cr0: 0x80000011, cr3: 0x1000n, cr4: 0x20, dr6: 0xffff0ff0, dr7: 0x400, efer: 0x500 });
  });
  test('code, long instructions put together', () => {
    expect(code).toMatchObject({ kind: 'code', instructions: [{ pc: 0x7cacn, bytes: [0x48, 0x89, 0x1c, 0x25, 0, 0x80, 0, 0] }] });
    expect(log.entries.at(-2)).toMatchObject({ kind: 'code', instructions: [{ pc: 0x7c27n, bytes: [0x66, 0xc7, 6, 0, 5, 0x78, 0x56, 0x34, 0x12] }] });
  });
  test('exceptions and interrupts', () => {
    expect(exception).toMatchObject({ kind: 'event', vector: 6, error: 0, software: false, ip: 0x7cb4n });
    expect(interrupt).toMatchObject({ kind: 'interrupt', vector: 0x20 });
  });
  test('unknown lines are counted', () => {
    expect([log.unknownLines, log.blocks, log.dumps, log.singleStep]).toEqual([1, 2, 1, true]);
    expect(log.firstUnknown).toBe(70);
  });
  test('a block that did not run after all is left out', () => {
    const text = `${traceText(0x7c00)}${dumpText({})}Stopped execution of TB chain before 0x7f2b [0000000000007c00] \n${traceText(0x7c00)}${dumpText({})}`;
    expect(parseQemuLog(text)).toMatchObject({ blocks: 1, dumps: 1 });
  });
  test('a dump that is cut off is counted, not an error', () => {
    const text = `${traceText(0x7c00)}${dumpText({})}${traceText(0x7c01)}${dumpText({}).split('\n').slice(0, 9).join('\n')}\n`;
    expect(parseQemuLog(text)).toMatchObject({ blocks: 2, dumps: 1, incomplete: 1 });
  });
  test('a log that ends in the middle of a line', () => {
    expect(parseQemuLog(`${traceText(0x7c00)}${dumpText({})}${traceText(0x7c01).slice(0, 22)}`)).toMatchObject({ blocks: 1, dumps: 1, incomplete: 1 });
    expect(parseQemuLog(`${traceText(0x7c00)}${dumpText({})}0x00007c`)).toMatchObject({ blocks: 1, dumps: 1, incomplete: 1 });
  });
  test('SMM and reset', () => {
    const text = `CPU Reset (CPU 0)\n${dumpText({})}SMM: enter\n${dumpText({})}SMM: after RSM\n${dumpText({})}${traceText(0xfffffff0)}${dumpText({})}`;
    const smm = parseQemuLog(text);
    expect(smm.entries.map((entry) => entry.kind)).toEqual(['smm', 'smm', 'block']);
    expect([smm.fromReset, smm.unknownLines]).toEqual([true, 0]);
  });
});

describe('bad logs', () => {
  const cases: readonly (readonly [string, string, RegExp])[] = [
    ['empty', '', /^line 1: expected a QEMU log .* found an empty file$/],
    ['another file', 'hello\nworld\n', /^line 1: expected a QEMU log .* no block and no register dump in 3 lines; the first is "hello"$/],
    ['a damaged Trace line', 'Trace 0: nothing\n', /^line 1: expected 'Trace CPU/],
    ['a damaged register', `${traceText(0x7c00)}${dumpText({}).replace('EBX', 'E?X')}`, /^line 2: expected general registers of the register dump that starts in line 2, found "EAX=/],
    ['a missing segment', `${traceText(0x7c00)}${dumpText({}).replace(/^ES .*\n/m, '')}`, /^line 5: expected segment register ES, found CS$/],
    ['damaged code', '0x00007c00: zz\n', /^line 1: expected an address, two blanks and instruction bytes/],
  ];
  test.each(cases)('%s', (_name, text, message) => {
    expect(() => parseQemuLog(text)).toThrow(FormatError);
    expect(() => parseQemuLog(text)).toThrow(message);
  });
});
