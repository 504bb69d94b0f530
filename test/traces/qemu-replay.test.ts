import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { assemble } from '../../cpu/assembler.ts';
import { isa } from '../../machine/isa.ts';
import { parseQemuLog } from '../../traces/qemu-log.ts';
import { renderReplay, replayQemuLog, type ReplayResult } from '../../traces/qemu-replay.ts';
import { imageOf, logFile, loggedPrograms } from '../oracle/programs.ts';
import { logText, type DumpValues } from './qemu-text.ts';

const bootSector = (source: string): Uint8Array => assemble(`org 0x7c00\nbits 16\n${source}\ntimes 510 - ($ - $$) db 0\ndw 0xaa55`, isa.rows).bytes;
const replay = (source: string, states: readonly DumpValues[], more = ''): ReplayResult => replayQemuLog(parseQemuLog(logText(states) + more), bootSector(source), 'test.img');

describe('logs of our own programs', () => {
  for (const name of loggedPrograms) {
    const text = new TextDecoder().decode(gunzipSync(readFileSync(logFile(name))));
    for (const engine of ['interpret', 'evaluate'] as const) {
      test(`${name} agrees to its end (${engine})`, () => {
        const result = replayQemuLog(parseQemuLog(text), imageOf(name), name, { engine });
        expect(result.divergence).toBeNull();
        expect(result.compared).toBeGreaterThan(3000);
        expect(result.compared).toBe(result.steps - 1);
      });
    }
  }
  test('a changed register is found at its line, and shown', () => {
    const lines = new TextDecoder().decode(gunzipSync(readFileSync(logFile('real')))).split('\n');
    const at = lines.findIndex((line, i) => i > 40_000 && line.startsWith('EAX='));
    lines[at] = lines[at]!.replace(/EBX=......../, 'EBX=deadbeef');
    const result = replayQemuLog(parseQemuLog(lines.join('\n')), imageOf('real'), 'real');
    expect(result.divergence).toMatchObject({ line: at + 1, reason: 'EBX differs' });
    expect(renderReplay(result)).toMatch(/DIVERGENCE\n[^]*\n {2}\* EBX +\w{8} +deadbeef\n/);
  });
});

describe('what comes from outside', () => {
  test('results of IN, RDTSC and CPUID are taken from the log', () => {
    const result = replay('in al, 0x42\nrdtsc\ncpuid\nnop\nnop', [
      { eax: 0x1234 }, { eax: 0x1277, eip: 0x7c02 }, { eax: 0x55555555, edx: 7, eip: 0x7c04 }, { eax: 1, ebx: 2, ecx: 3, edx: 4, eip: 0x7c06 }, { eax: 1, ebx: 2, ecx: 3, edx: 4, eip: 0x7c07 },
    ]);
    expect(result).toMatchObject({ steps: 5, compared: 4, divergence: null, fed: { IN: 1, RDTSC: 1, CPUID: 1 } });
  });
  test('hardware interrupts happen where the log shows them', () => {
    const source = 'mov word [0x80], handler\nhlt\nnop\nhandler: nop\nnop';
    const sti = { flags: 0x202, esp: 0x7000 };
    const before = logText([{ ...sti }, { ...sti, eip: 0x7c06 }]);
    const after = logText([{ flags: 2, esp: 0x6ffa, eip: 0x7c08 }, { flags: 2, esp: 0x6ffa, eip: 0x7c09 }]);
    const interrupt = 'Servicing hardware INT=0x20\n     0: v=20 e=0000 i=0 cpl=0 IP=0000:0000000000007c07 pc=0000000000007c07 SP=0000:0000000000007000 env->regs[R_EAX]=0000000000000000\n';
    const result = replayQemuLog(parseQemuLog(before + interrupt + after), bootSector(source), 'test.img');
    expect(result).toMatchObject({ divergence: null, compared: 3, fed: { interrupt: 1 } });
  });
  test('memory that firmware filled: the value is taken and kept', () => {
    const result = replay('mov ax, [0x413]\nmov bx, [0x413]\nnop', [{}, { eax: 0x27f, eip: 0x7c03 }, { eax: 0x27f, ebx: 0x27f, eip: 0x7c07 }]);
    expect(result).toMatchObject({ divergence: null, fed: { memory: 1 } });
    expect(result.notes.join('\n')).toContain('first at 0x413');
  });
  test('but nothing of the sort in memory that the program wrote', () => {
    const result = replay('mov word [0x413], 1\nmov ax, [0x413]\nnop', [{}, { eip: 0x7c06 }, { eax: 0x27f, eip: 0x7c09 }]);
    expect(result.divergence?.reason).toBe('EAX differs');
  });
  test('undefined flags follow the log, defined ones do not', () => {
    const source = 'xor ax, ax\nnop';
    expect(replay(source, [{}, { eip: 0x7c02, flags: 0x56 }])).toMatchObject({ divergence: null, fed: { flags: 1 } });
    expect(replay(source, [{}, { eip: 0x7c02, flags: 0x47 }]).divergence?.reason).toBe('EFLAGS differs');
  });
  test('firmware calls are passed over', () => {
    const result = replay('int 0x10\nmov bx, ax\nnop', [{ esp: 0x7000 }, { eax: 5, esp: 0x7000, eip: 0x7c02 }, { eax: 5, ebx: 5, esp: 0x7000, eip: 0x7c04 }]);
    expect(result).toMatchObject({ divergence: null, fed: { firmware: 1 } });
    expect(result.notes.join('\n')).toContain('called firmware');
  });
});

describe('repeated instructions', () => {
  test('one dump for each iteration, and one more with a count of 0', () => {
    const result = replay('mov cx, 3\nrep stosb\nnop', [{ ecx: 0 }, { ecx: 3, eip: 0x7c03 }, { ecx: 2, eip: 0x7c03 }, { ecx: 1, eip: 0x7c03 }, { ecx: 0, eip: 0x7c03 }, { ecx: 0, eip: 0x7c05 }]);
    // the states of this log leave EDI alone: it must be found at the first iteration
    expect(result.divergence).toMatchObject({ step: 2, reason: 'EDI differs' });
  });
});

describe('divergences', () => {
  test('an event on one side only', () => {
    const result = replay('ud2\nnop', [{ esp: 0x7000 }, { esp: 0x7000, eip: 0x7c02 }]);
    expect(result.fed).toMatchObject({ firmware: 1 }); // its vector leads to firmware, which is passed over
    const fault = replay('nop\nnop', [{}], '     0: v=0d e=0000 i=0 cpl=0 IP=0000:0000000000007c00 pc=0000000000007c00 SP=0000:0000000000000000 env->regs[R_EAX]=0\n');
    expect(fault.divergence?.reason).toBe('the log ends with #GP(0x0); here the instruction completed');
  });
  test('another image than the log was made with', () => {
    const code = '----------------\nIN: \n0x00007c01:  90                       nop\n\n';
    const log = parseQemuLog(logText([{}]) + code + logText([{ eip: 0x7c01 }, { eip: 0x7c02 }]));
    const result = replayQemuLog(log, bootSector('nop\ninc ax'), 'test.img');
    expect(result.notes.join('\n')).toContain('is this the image that the log was made with?');
    expect(result.divergence).toMatchObject({ instruction: 'inc ax', reason: 'EAX differs', address: '0000:00007c01', bytes: '40' });
  });
});
