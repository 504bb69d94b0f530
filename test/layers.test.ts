import { readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));
/** A file imports from its own folder and those before it. */
const order = ['cpu', 'vmcs', 'ept', 'vmx', 'machine', 'monitors', 'guests', 'traces', 'app', 'test'];
/** Folders of the repository that hold no code, made by tools or read by people. */
const others = ['docs', 'node_modules', 'dist', 'report', '.ci', '.git', '.github'];

function sources(folder: string): string[] {
  return readdirSync(join(root, folder)).flatMap(name => {
    const path = `${folder}/${name}`;
    if (statSync(join(root, path)).isDirectory()) return sources(path);
    return name.endsWith('.ts') ? [path] : [];
  });
}

/** Code without comments and the contents of strings, so that words in them do not count. Text stays on its line. */
function code(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\/|\/\/[^\n]*|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`/g, match => match.replace(/[^\n]/g, ' '));
}

function imports(text: string): string[] {
  return [...text.matchAll(/(?:^|\n)\s*(?:import|export)\b[^;'"`]*?\bfrom\s+'([^']+)'|(?:^|\n)\s*import\s+'([^']+)'|\bimport\(\s*'([^']+)'\s*\)/g)].map(match => (match[1] ?? match[2] ?? match[3])!);
}

const files = order.flatMap(sources).map(path => ({ path, folder: path.split('/')[0]!, text: readFileSync(join(root, path), 'utf8') }));
const shipped = files.filter(({ folder }) => folder !== 'test');

describe('layers', () => {
  test('only the folders of the architecture exist', () => {
    const folders = readdirSync(root).filter(name => statSync(join(root, name)).isDirectory());
    expect(folders.filter(name => !order.includes(name) && !others.includes(name))).toEqual([]);
    expect(order.filter(name => !folders.includes(name))).toEqual([]);
  });

  test('a file imports its own folder and those before it, with the extension', () => {
    const wrong: string[] = [];
    for (const { path, folder, text } of files) {
      for (const target of imports(text)) {
        if (!target.startsWith('.')) continue;
        const to = relative(root, join(root, dirname(path), target)).split('/')[0]!;
        if (order.indexOf(to) < 0 || order.indexOf(to) > order.indexOf(folder)) wrong.push(`${path} imports ${target}`);
        if (!/\.(ts|mjs)$/.test(target)) wrong.push(`${path} imports ${target} without .ts`);
      }
    }
    expect(wrong).toEqual([]);
  });

  test('the core reaches for no system and no package', () => {
    const wrong = shipped.flatMap(({ path, folder, text }) => imports(text)
      .filter(target => !target.startsWith('.') && !(folder === 'app' && target.startsWith('node:')))
      .map(target => `${path} imports ${target}`));
    expect(wrong).toEqual([]);
  });

  test('the public API runs without Node', () => {
    const seen = new Set<string>();
    const visit = (path: string): void => {
      if (seen.has(path)) return;
      seen.add(path);
      for (const target of imports(files.find(file => file.path === path)!.text)) {
        expect([path, target.startsWith('node:')]).toEqual([path, false]);
        visit(relative(root, join(root, dirname(path), target)));
      }
    };
    visit('app/index.ts');
    expect(seen.size).toBeGreaterThan(100);
  });

  const banned: readonly (readonly [string, RegExp])[] = [
    ['the clock', /\bDate\b|\bperformance\b/], ['chance', /\bMath\s*\.\s*random\b|\bcrypto\b/], ['Node', /\bprocess\s*\.\s*\w|\bBuffer\b/],
  ];
  test.each(banned)('nothing outside app/ knows %s', (_what, pattern) => {
    const found = shipped.filter(({ folder }) => folder !== 'app').flatMap(({ path, text }) => code(text).split('\n').flatMap((line, i) => pattern.test(line) ? [`${path}:${i + 1}: ${line.trim()}`] : []));
    expect(found).toEqual([]);
  });

  test('no any and no suppressed check', () => {
    const pattern = /[:<,|]\s*any\b|\bas any\b/;
    const found = shipped.filter(({ path }) => !path.endsWith('.d.ts')).flatMap(({ path, text }) => [
      ...code(text).split('\n').flatMap((line, i) => pattern.test(line) ? [`${path}:${i + 1}: ${line.trim()}`] : []),
      ...(/@ts-(?:ignore|expect-error|nocheck)/.test(text) ? [`${path}: suppresses a check`] : []),
    ]);
    expect(found).toEqual([]);
  });

  test('the package has no runtime dependency', () => {
    const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Record<string, unknown>;
    for (const kind of ['dependencies', 'peerDependencies', 'optionalDependencies', 'bundleDependencies']) expect(manifest).not.toHaveProperty(kind);
    expect(Object.keys(manifest['devDependencies'] as object).sort()).toEqual(['tsx', 'typedoc', 'vitest']);
    expect(readFileSync(join(root, 'package-lock.json'), 'utf8')).not.toContain('"resolved"');
  });

  test('files are named by a noun in kebab case, and none is a drawer for everything', () => {
    const wrong = files.map(({ path }) => path).filter(path => !/^([a-z0-9]+(-[a-z0-9]+)*\/)+[a-z0-9]+(-[a-z0-9]+)*(\.test|\.d)?\.ts$/.test(path) || /(^|[/-])(util|utils|helpers?|common|misc|manager)([-.]|$)/.test(path));
    expect(wrong).toEqual([]);
  });
});
