import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { assemble } from '../../cpu/assembler.ts';
import { buildIsa } from '../../cpu/isa.ts';
import { guestList, includes } from '../../guests/index.ts';

/** The expected outputs against QEMU, where it is installed. */
const qemu = spawnSync('qemu-system-x86_64', ['--version'], { encoding: 'utf8' }).status === 0;

/** Guests whose expected output QEMU's translator does not produce. */
const omitted: Readonly<Record<string, string>> = {
  protection: 'segment limits, segment types and alignment are not checked (Bochs 2.7 prints the expected output)',
};

describe.skipIf(!qemu)('QEMU prints the expected output', () => {
  const { rows } = buildIsa();
  const folder = mkdtempSync(join(tmpdir(), 'qemu-'));
  afterAll(() => rmSync(folder, { recursive: true }));

  test.each(guestList.filter(guest => omitted[guest.name] === undefined).map(guest => [guest.name, guest] as const))('%s', (name, guest) => {
    const file = join(folder, `${name}.bin`);
    writeFileSync(file, assemble(guest.source, rows, { include: text => includes[text] }).bytes);
    const run = spawnSync('qemu-system-x86_64', [
      '-m', String(guest.memoryMiB), '-cpu', 'Nehalem', '-kernel', file, '-serial', 'stdio', '-monitor', 'none', '-display', 'none', '-no-reboot',
      '-device', 'isa-debug-exit,iobase=0xf4,iosize=4',
    ], { encoding: 'utf8', timeout: 20_000, input: '' });
    expect(run.stdout).toBe(guest.expected);
  }, 30_000);
});
