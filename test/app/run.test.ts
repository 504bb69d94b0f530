import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { guests } from '../../guests/index.ts';
import { parseEventLog } from '../../traces/event-log.ts';
import { inside } from './inside.ts';
import { debugExit, forever, halt, multibootImage, printByte, scratch, undefinedWithoutIdt, vanderpool } from './program.ts';

vi.mock('../../app/terminal.ts', () => import('./terminal-double.ts'));

const folder = scratch();
const at = (name: string): string => join(folder.path, name);
const image = (name: string, ...code: readonly (readonly number[])[]): string => folder.file(name, multibootImage(code.flat()));

describe('exit status of run', () => {
  test('poweroff gives 0, and the serial output is all of stdout', () => {
    expect(vanderpool(['run', 'hello'])).toEqual({ status: 0, stdout: guests.hello.expected, stderr: '' });
  });

  test.each([[0, 0], [1, 1], [77, 77], [255, 255]])('the debug-exit port: %i gives %i', (value, status) => {
    expect(vanderpool(['run', image(`exit${value}.bin`, debugExit(value))])).toMatchObject({ status, stderr: '' });
  });

  test('the instruction limit gives 124', () => {
    expect(vanderpool(['run', image('forever.bin', forever), '--max-instructions', '1000'])).toMatchObject({ status: 124, stderr: '' });
  });

  test('a triple fault gives 125, and so does a halt that nothing ends', () => {
    expect(vanderpool(['run', image('fault.bin', undefinedWithoutIdt)])).toMatchObject({ status: 125 });
    expect(vanderpool(['run', image('halt.bin', halt)])).toMatchObject({ status: 125 });
  });

  test('--until gives 0 and stops right there', () => {
    const path = image('print.bin', printByte(0x61), printByte(0xff), printByte(0x62), forever);
    const { status, stdout } = vanderpool(['run', path, '--until', 'a']);
    expect([status, stdout]).toEqual([0, 'a']);
  });
});

describe('run --json', () => {
  test('is one object with what the run was and gave', async () => {
    const { status, stdout, stderr } = await inside(['run', 'hello', '--monitor', 'vtx-ept', '--json']);
    expect([status, stderr]).toEqual([0, '']);
    const result = JSON.parse(stdout) as Record<string, unknown> & { exits: Record<string, number>; breakdown: Record<string, number> };
    expect(result).toMatchObject({ guest: 'hello', monitor: 'vtx-ept', profile: 'nehalem', engine: 'interpret', clock: 'machine', memoryMiB: 16, console: guests.hello.expected, stoppedBy: 'poweroff', exitStatus: 0, deviations: [] });
    expect(result['instructions']).toBeGreaterThan(1000);
    expect(result.exits['IoInstruction']).toBeGreaterThan(guests.hello.expected.length);
    expect(Object.values(result.breakdown).reduce((a, b) => a + b)).toBe(result['cycles']);
  });

  test('stoppedBy settles what the status leaves open', async () => {
    const stoppedBy = async (...words: string[]): Promise<unknown> => (JSON.parse((await inside(['run', ...words, '--json'])).stdout) as Record<string, unknown>)['stoppedBy'];
    expect(await stoppedBy(image('zero.bin', debugExit(0)))).toBe('debugExit');
    expect(await stoppedBy(image('halt2.bin', halt))).toBe('halted');
    expect(await stoppedBy('hello', '--until', 'Hello')).toBe('until');
  });
});

describe('what is given is used', () => {
  test('assembly files, flat and in real mode, with includes beside them', async () => {
    folder.file('port.inc', 'DEBUG equ 0xf4\n');
    folder.file('flat.asm', '%include "port.inc"\nbits 32\norg 0x200000\nbad: hlt\n_start: mov al, 9\n out DEBUG, al\n');
    folder.file('real.asm', 'org 0x8000\n mov al, 8\n out 0xf4, al\n');
    expect(await inside(['run', at('flat.asm')])).toMatchObject({ status: 9, stderr: '' });
    expect(await inside(['run', at('real.asm')])).toMatchObject({ status: 8, stderr: '' });
  });

  test('--input is typed at the serial port', async () => {
    // wait for LSR.DR, read a byte, give it to the debug-exit port
    const path = image('read.bin', [0x66, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xfb, 0x66, 0xba, 0xf8, 0x03, 0xec, 0xe6, 0xf4]);
    expect(await inside(['run', path, '--input', folder.file('typed', '*')])).toMatchObject({ status: 42 });
  });

  test('--window lists instructions with their text and cycles', async () => {
    const { stdout } = await inside(['run', image('window.bin', printByte(0x61), debugExit(3)), '--window', '1,2', '--profile', 'unit', '--json']);
    expect((JSON.parse(stdout) as Record<string, unknown>)['window']).toEqual([{ index: 1, rip: '100024', text: 'mov al, 0x61', cycles: 1 }, { index: 2, rip: '100026', text: 'out dx, al', cycles: 1 }]);
  });

  test('what is not modelled is said once, on stderr', async () => {
    // UD0 is decoded by nobody; the IDT is empty, so the machine shuts down
    const { status, stderr } = await inside(['run', image('unmodelled.bin', [0x0f, 0xff, 0xc0])]);
    expect(status).toBe(125);
    expect(stderr.split('\n').filter(line => line !== '').every(line => /^vanderpool: not modelled: /.test(line))).toBe(true);
  });
});

describe('event log and recording', () => {
  test('two runs write the same event log, to the byte; both engines do', async () => {
    const log = async (name: string, ...words: string[]): Promise<Uint8Array> => {
      expect(await inside(['run', 'self-modifying', '--monitor', 'vtx-ept', '--events', at(name), ...words])).toMatchObject({ status: 0 });
      return readFileSync(at(name));
    };
    const first = await log('first.jsonl');
    expect(await log('second.jsonl')).toEqual(first);
    expect(await log('evaluated.jsonl', '--engine', 'evaluate')).toEqual(first);
    const { header, events } = parseEventLog(new TextDecoder().decode(first));
    expect(header).toMatchObject({ tool: 'vanderpool', profile: 'nehalem', inputs: [{ guest: 'self-modifying' }] });
    expect(events[0]).toMatchObject({ event: 'start', guest: 'self-modifying', monitor: 'vtx-ept' });
    expect(events.at(-1)).toMatchObject({ event: 'end', stoppedBy: 'poweroff', dropped: 0 });
    expect(events.filter(({ event }) => event === 'exit').length).toBeGreaterThan(100);
  });

  test('a recorded run is repeated and verified', async () => {
    const recorded = await inside(['run', 'hello', '--monitor', 'vtx-ept', '--memory', '32', '--until', 'mode', '--record', at('hello.json')]);
    expect(recorded.status).toBe(0);
    expect(await inside(['replay', at('hello.json')])).toEqual(recorded);
    const verified = await inside(['replay', at('hello.json'), '--verify']);
    expect(verified).toMatchObject({ status: 0, stderr: '' });
    expect(verified.stdout).toMatch(/^verified: hello under vtx-ept: \d+ instructions, \d+ cycles and \d+ lines of the event log are the same, to the byte\n$/);
  });

  test('typed input is in the recording; the image is found beside it, or refused', async () => {
    const path = image('echo.bin', [0x66, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xfb, 0x66, 0xba, 0xf8, 0x03, 0xec, 0xe6, 0xf4]);
    expect((await inside(['run', path, '--input', folder.file('plus', '+'), '--record', at('echo.json')])).status).toBe(43);
    expect((await inside(['replay', at('echo.json')])).status).toBe(43);
    expect((await inside(['replay', at('echo.json'), '--verify'])).status).toBe(0);
    expect(await inside(['replay', at('echo.json'), '--guest', 'hello'])).toMatchObject({ status: 2, stderr: expect.stringMatching(/hello is not the image of .*echo\.json/) as unknown });
  });

  test('--verify tells a run that is not the recorded one', async () => {
    const recording = readFileSync(at('echo.json'), 'utf8');
    folder.file('wrong.json', recording.replace(/"cycles": (\d+)/, (_, cycles: string) => `"cycles": ${Number(cycles) + 1}`));
    expect(await inside(['replay', at('wrong.json'), '--verify'])).toMatchObject({ status: 1, stdout: '', stderr: expect.stringMatching(/cycles: recorded \d+, repeated \d+\n$/) as unknown });
  });

  test('nothing half-written is left behind', async () => {
    expect(readdirSync(folder.path).filter(name => name.includes('partial'))).toEqual([]);
  });
});

const qemu = spawnSync('qemu-system-i386', ['--version'], { encoding: 'utf8' }).status === 0;
if (!qemu) console.warn('SKIPPED: qemu-system-i386 is not here, no log of it was followed');

describe.skipIf(!qemu)('replay of a QEMU log', () => {
  test('follows it to the end, and stops where another image parts from it', async () => {
    const path = image('follow.bin', printByte(0x61), [0x40, 0x43, 0x01, 0xd8], debugExit(0));
    spawnSync('qemu-system-i386', ['-kernel', path, '-display', 'none', '-serial', 'null', '-monitor', 'none', '-no-reboot', '-device', 'isa-debug-exit,iobase=0xf4,iosize=4',
      '-singlestep', '-d', 'in_asm,exec,cpu,int,nochain', '-dfilter', '0x100000+0x1000', '-D', at('qemu.log')], { encoding: 'utf8', timeout: 20_000 });
    const same = await inside(['replay', at('qemu.log'), '--guest', path, '--memory', '128']);
    expect(same).toMatchObject({ status: 0, stderr: '', stdout: expect.stringMatching(/: no divergence\n/) as unknown });
    const other = image('other.bin', printByte(0x61), [0x40, 0x43, 0x29, 0xd8], debugExit(0));
    expect(await inside(['replay', at('qemu.log'), '--guest', other, '--memory', '128'])).toMatchObject({ status: 1, stdout: expect.stringMatching(/DIVERGENCE/) as unknown });
  }, 30_000);
});

describe('list, help and version', () => {
  test.each([['guests', /^hello +32 /m], ['monitors', /^vtx-ept /m], ['profiles', /^nehalem /m], ['exits', /^48 +EptViolation$/m], ['controls', /^HltExiting +Primary +7 +HLT exiting +yes$/m], ['checks', /^host\./m]])('list %s', async (what, line) => {
    const { status, stdout, stderr } = await inside(['list', what]);
    expect([status, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(line);
    const rows = JSON.parse((await inside(['list', what, '--json'])).stdout) as unknown[];
    expect(rows.length).toBe(stdout.trim().split('\n').length);
  });

  test('--help names every command, --version what it is', async () => {
    const { status, stdout } = await inside(['--help']);
    expect(status).toBe(0);
    for (const command of ['compare', 'run', 'replay', 'list']) expect(stdout).toMatch(new RegExp(`^vanderpool ${command} `, 'm'));
    const manifest = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string };
    expect(vanderpool(['--version'])).toEqual({ status: 0, stdout: `vanderpool ${manifest.version}\n`, stderr: '' });
  });
});
