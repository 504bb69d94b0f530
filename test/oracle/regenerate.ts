/**
 * Writes test/oracle/expected/ anew: npx tsx test/oracle/regenerate.ts [PROGRAM…]. Runs every program under QEMU and Bochs, keeps
 * the output of the one that is its oracle, and says where the other and our own machine differ. Also makes the logs that the
 * replay is tested with.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { assembled, byBochs, expectedFile, imageOf, logFile, loggedPrograms, machineFor, programs } from './programs.ts';
import { difference, logQemu, qemuInstalled, runBochs, runQemu } from './simulators.ts';

const folder = mkdtempSync(join(tmpdir(), 'oracle-'));
const names = process.argv.slice(2);
for (const name of names.length ? names : programs) {
  const image = imageOf(name);
  const qemu = runQemu(image, folder, name);
  const bochs = runBochs(image, folder, name);
  const oracle = byBochs[name] === undefined ? qemu : bochs;
  const other = oracle === qemu ? bochs : qemu;
  if (!('text' in oracle)) {
    console.log(`${name}: not written, ${oracle.missing}`);
    continue;
  }
  writeFileSync(expectedFile(name), `${oracle.text}\n`);
  console.log(`${name}: ${oracle === qemu ? 'QEMU' : 'Bochs'}, ${oracle.text.split('\n').length} lines`);
  const report = (who: string, text: string): void => {
    for (const line of difference(text, oracle.text)) console.log(`  ${who}: ${line}`);
  };
  if ('text' in other) report(oracle === qemu ? 'Bochs' : 'QEMU', other.text);
  report('ours', machineFor(name).finish().console.trim());
  if (loggedPrograms.includes(name) && qemuInstalled) {
    // without the set-up before main and the printing at the end, which are long and of no interest
    const from = assembled(name).symbols.get('set_gate')!;
    writeFileSync(logFile(name), gzipSync(new TextEncoder().encode(logQemu(image, folder, name, `0x${from.toString(16)}..0x110000,0x8000+0x1000`)), { level: 9 }));
  }
}
rmSync(folder, { recursive: true });
