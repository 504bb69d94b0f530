import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { byBochs, expectedOf, imageOf, machineFor, programs } from './programs.ts';
import { qemuInstalled, runQemu } from './simulators.ts';

describe('system rows against what QEMU or Bochs printed', () => {
  for (const engine of ['interpret', 'evaluate'] as const) {
    test.each(programs)(`%s (${engine})`, (name) => {
      const result = machineFor(name, engine).finish();
      expect(result.console.trim().split('\n')).toEqual(expectedOf(name).split('\n'));
      expect(result.stoppedBy).toBe('poweroff');
    });
  }
});

if (!qemuInstalled) console.warn('oracle: qemu-system-x86_64 is not installed; only the committed expectations were compared');
describe.skipIf(!qemuInstalled)('the committed expectations against QEMU itself', () => {
  const folder = mkdtempSync(join(tmpdir(), 'oracle-'));
  afterAll(() => rmSync(folder, { recursive: true }));
  test.each(programs.filter((name) => byBochs[name] === undefined))('%s', (name) => {
    const printed = runQemu(imageOf(name), folder, name);
    expect('text' in printed && printed.text).toBe(expectedOf(name));
  }, 25_000);
});
