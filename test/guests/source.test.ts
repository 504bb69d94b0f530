import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { assemble } from '../../cpu/assembler.ts';
import { buildIsa } from '../../cpu/isa.ts';
import { checkOutput, findGuest, guestList, guests, includes, monitorNames } from '../../guests/index.ts';

const { rows } = buildIsa();

function image(source: string): Uint8Array {
  return assemble(source, rows, { include: name => includes[name] }).bytes;
}

describe('the list of guests', () => {
  test('names are unique and can be found', () => {
    expect(new Set(guestList.map(guest => guest.name)).size).toBe(guestList.length);
    expect(Object.keys(guests).length).toBe(guestList.length);
    for (const guest of guestList) expect(findGuest(guest.name)).toBe(guest);
    expect(findGuest('no such guest')).toBeUndefined();
  });

  test.each(guestList.map(guest => [guest.name, guest] as const))('%s', (name, guest) => {
    expect(name).toMatch(/^[a-z][a-z0-9-]*$/);
    expect(name.endsWith('64')).toBe(guest.bits === 64);
    expect(guest.title).not.toBe('');
    expect(guest.description.length).toBeGreaterThan(80);
    expect(guest.expected).toMatch(/^[\x20-\x7e\n]+\n$/);
    expect(guest.memoryMiB).toBeGreaterThanOrEqual(16);
    for (const included of guest.source.matchAll(/^%include "(.*)"$/gm)) expect(includes).toHaveProperty([included[1]!]);

    // every monitor runs it or is excused, and only one of the two
    for (const monitor of monitorNames) {
      expect([monitor, guest.monitors.includes(monitor)]).toEqual([monitor, guest.cannot[monitor] === undefined]);
    }
    expect(guest.monitors).toContain('native');
    expect(guest.deviations.native).toBeUndefined();
    for (const [monitor, deviations] of Object.entries(guest.deviations)) {
      expect(guest.monitors).toContain(monitor);
      const lines = guest.expected.split('\n');
      for (const { line, reason } of deviations) {
        expect(lines.some(l => l === line || l.startsWith(line + ' ')), line).toBe(true);
        expect(reason).not.toBe('');
      }
    }
  });
});

describe('images', () => {
  test.each(guestList.map(guest => [guest.name, guest] as const))('%s has a multiboot header with addresses', (_name, guest) => {
    const bytes = image(guest.source);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const word = (offset: number) => view.getUint32(offset, true);
    expect(word(0)).toBe(0x1badb002);
    expect(word(4) & 0x10000).toBe(0x10000);
    expect((word(0) + word(4) + word(8)) >>> 0).toBe(0);
    expect(word(12)).toBe(0x100000); // header
    expect(word(16)).toBe(0x100000); // load
    expect(word(20)).toBe(0x100000 + bytes.length);
    expect(word(24)).toBe(0x100000 + bytes.length);
    expect(word(28)).toBeGreaterThanOrEqual(0x100020);
    expect(word(28)).toBeLessThan(0x100000 + bytes.length);
  });

  const nasm = spawnSync('nasm', ['-v'], { encoding: 'utf8' }).status === 0;
  test.skipIf(!nasm)('are what NASM makes of the same text', () => {
    const folder = mkdtempSync(join(tmpdir(), 'guests-'));
    try {
      for (const [name, text] of Object.entries(includes)) writeFileSync(join(folder, name), text);
      for (const guest of guestList) {
        const source = join(folder, `${guest.name}.asm`);
        const binary = join(folder, `${guest.name}.bin`);
        writeFileSync(source, guest.source);
        const run = spawnSync('nasm', ['-f', 'bin', '-I', folder + '/', '-o', binary, source], { encoding: 'utf8' });
        expect([guest.name, run.status, run.stderr]).toEqual([guest.name, 0, '']);
        expect([guest.name, [...image(guest.source)]]).toEqual([guest.name, [...readFileSync(binary)]]);
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
  }, 30_000);
});

describe('checkOutput', () => {
  const guest = guests.sensitive;
  const changed = (from: string, to: string) => guest.expected.replace(from, to);

  test('the expected output is right under every monitor', () => {
    for (const monitor of monitorNames) expect(checkOutput(guest, monitor, guest.expected)).toEqual({ ok: true, deviations: [], unexplained: [] });
  });

  test('a listed deviation is explained, under its monitor only', () => {
    const output = changed('PUSH CS 00000008 ok', 'PUSH CS 00000009 WRONG');
    const check = checkOutput(guest, 'trap-and-emulate', output);
    expect(check.ok).toBe(true);
    expect(check.deviations.length).toBe(1);
    expect(check.deviations[0]).toMatch(/^PUSH CS 00000009 WRONG: .*ring 1/);
    expect(checkOutput(guest, 'vtx-ept', output)).toEqual({ ok: false, deviations: [], unexplained: ['line 29: expected "PUSH CS 00000008 ok", got "PUSH CS 00000009 WRONG"'] });
  });

  test('the longest name decides', () => {
    const check = checkOutput(guest, 'trap-and-emulate', changed('CALL far RPL 1 FAULT 0d/0008 ok', 'CALL far RPL 1 00000009 WRONG'));
    expect(check.deviations[0]).toMatch(/refused in ring 0/);
  });

  test('missing and additional lines are not', () => {
    expect(checkOutput(guests.hello, 'native', '').ok).toBe(false);
    expect(checkOutput(guests.hello, 'native', guests.hello.expected + 'more\n').ok).toBe(false);
    expect(checkOutput(guest, 'trap-and-emulate', changed('wrong 0\n', '')).ok).toBe(false);
    expect(checkOutput(guest, 'trap-and-emulate', changed('LSL small 00001234 ok', 'LSL small 00000000 WRONG')).ok).toBe(false);
  });
});
