import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { guests } from '../../guests/index.ts';
import { root, scratch } from './program.ts';

const folder = scratch();

function npm(words: readonly string[], cwd: string): { readonly status: number | null; readonly stdout: string; readonly stderr: string } {
  return spawnSync('npm', [...words, '--no-audit', '--no-fund', '--offline', '--loglevel=error', '--cache', join(folder.path, 'cache')], { cwd, encoding: 'utf8', timeout: 100_000 });
}

const version = spawnSync('npm', ['--version'], { encoding: 'utf8' });
if (version.status !== 0) console.warn('SKIPPED: npm is not here, the package was not built and installed');

test.skipIf(version.status !== 0)('the package installs, and its command and its API work', () => {
  const packed = npm(['pack', '--json', '--pack-destination', folder.path], root);
  expect(packed.status, packed.stderr).toBe(0);
  const [{ filename, files }] = JSON.parse(packed.stdout.slice(packed.stdout.indexOf('['))) as [{ filename: string; files: { path: string }[] }];
  expect(files.map(({ path }) => path).filter(path => !/^(dist\/(cpu|vmcs|ept|vmx|machine|monitors|guests|traces|app)\/|package\.json$|README\.md$|LICENSE$)/.test(path))).toEqual([]);

  folder.file('package.json', '{"name":"user","private":true,"type":"module"}');
  const installed = npm(['install', join(folder.path, filename)], folder.path);
  expect(installed.status, installed.stderr).toBe(0);
  const listed = spawnSync(join(folder.path, 'node_modules/.bin/vanderpool'), ['list', 'guests'], { cwd: folder.path, encoding: 'utf8' });
  expect(listed).toMatchObject({ status: 0, stderr: '' });
  expect(listed.stdout).toMatch(/^hello /);

  folder.file('user.js', "import { guests, monitors, run } from 'vanderpool';\nconst { console: printed } = await run(guests.hello, monitors.native);\nprocess.stdout.write(printed);\n");
  expect(spawnSync(process.execPath, ['user.js'], { cwd: folder.path, encoding: 'utf8' })).toMatchObject({ status: 0, stdout: guests.hello.expected });

  // its declarations are all that a user needs
  folder.file('user.ts', "import { compare, guests, monitors, profiles, type RunResult } from 'vanderpool';\nconst report = await compare(guests.hello, [monitors.native], { profile: profiles.unit });\nconst text: string = report.toText();\nexport const first = report.runs[0] as RunResult;\nexport { text };\n// @ts-expect-error the result is no number\nexport const wrong: number = report;\n");
  folder.file('tsconfig.json', JSON.stringify({ compilerOptions: { noEmit: true, strict: true, target: 'es2022', module: 'nodenext', lib: ['es2023', 'dom'], types: [] }, include: ['user.ts'] }));
  const checked = spawnSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', folder.path], { cwd: folder.path, encoding: 'utf8' });
  expect(checked.stdout).toBe('');
  expect(readFileSync(join(folder.path, 'node_modules/vanderpool/LICENSE'), 'utf8')).toContain('MIT License');
}, 120_000);
