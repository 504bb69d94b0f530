import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { inside } from './inside.ts';
import { debugExit, multibootImage, scratch, vanderpool } from './program.ts';

vi.mock('../../app/terminal.ts', () => import('./terminal-double.ts'));

const folder = scratch();
const at = (name: string): string => join(folder.path, name);

/** ELF32 executable with one PT_LOAD segment of `code` at 1 MiB; `change` damages it. */
function elf(change: (view: DataView) => void = () => {}): Uint8Array {
  const code = debugExit(0);
  const bytes = new Uint8Array(84 + code.length);
  const view = new DataView(bytes.buffer);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 1, 1, 1]);
  [2, 3].forEach((half, i) => view.setUint16(16 + 2 * i, half, true));
  [1, 0x100054, 52, 0, 0].forEach((word, i) => view.setUint32(20 + 4 * i, word, true));
  [52, 32, 1, 0, 0, 0].forEach((half, i) => view.setUint16(40 + 2 * i, half, true));
  [1, 84, 0x100054, 0x100054, code.length, code.length, 5, 4].forEach((word, i) => view.setUint32(52 + 4 * i, word, true));
  bytes.set(code, 84);
  change(view);
  return bytes;
}

folder.file('empty', '');
mkdirSync(at('directory'));
folder.file('good.elf', elf());
folder.file('truncated.elf', elf().subarray(0, 60));
folder.file('cut.elf', elf().subarray(0, 86));
folder.file('headers.elf', elf(view => view.setUint32(28, 0x7fffffff, true)));
folder.file('count.elf', elf(view => view.setUint16(44, 0xffff, true)));
folder.file('machine.elf', elf(view => view.setUint16(18, 40, true)));
folder.file('high.elf', elf(view => view.setUint32(64, 0xf0000000, true)));
folder.file('outside.bin', multibootImage(debugExit(0), { loadEnd: 0x900000, bssEnd: 0x900000 }));
folder.file('before.bin', multibootImage(debugExit(0), { load: 0x90000 }));
folder.file('entry.bin', multibootImage(debugExit(0), { entry: 0x5000 }));
folder.file('checksum.bin', multibootImage(debugExit(0), { checksum: 5 }));
folder.file('large.bin', multibootImage(debugExit(0), { bssEnd: 0x3000000 }));
folder.file('operand.asm', 'bits 32\n\n  mov eax, [ebx+\n');
folder.file('word.asm', 'org 0x7c00\n  frobnicate ax\n');
folder.file('label.asm', '  jmp nowhere\n');
folder.file('recording.json', '{"schema":"vanderpool-recording/1"}');
folder.file('cut.json', '{"schema":');
folder.file('other.json', '{"schema":"vanderpool-recording/99"}');
folder.file('words.txt', 'this is no log\n');

/** Arguments, and what the one line on stderr must name. */
const table: readonly (readonly [string, readonly string[], RegExp])[] = [
  ['nothing', [], /expected a command: compare, run/],
  ['unknown command', ['frob'], /unknown command 'frob'/],
  ['unknown option', ['run', 'hello', '--frob'], /unknown option '--frob'/],
  ['option of another command', ['run', 'hello', '--out', 'x'], /unknown option '--out'/],
  ['option without its value', ['run', 'hello', '--monitor'], /--monitor needs a value/],
  ['value for a switch', ['run', 'hello', '--json=1'], /--json takes no value/],
  ['no guest', ['run'], /expected the name of a guest/],
  ['two guests', ['run', 'hello', 'compute'], /expected one guest, got 'compute'/],
  ['unknown guest', ['run', 'nobody'], /unknown guest 'nobody': expected hello/],
  ['unknown guest to compare', ['compare', 'hello', 'nobody'], /unknown guest 'nobody'/],
  ['unknown monitor', ['run', 'hello', '--monitor', 'xen'], /unknown monitor 'xen': expected native/],
  ['unknown monitor to compare', ['compare', 'hello', '--monitors', 'native,xen'], /unknown monitor 'xen'/],
  ['monitor named twice', ['compare', 'hello', '--monitors', 'native,native'], /native is named twice/],
  ['unknown profile', ['run', 'hello', '--profile', 'i486'], /unknown profile 'i486': expected nehalem/],
  ['unknown engine', ['run', 'hello', '--engine', 'fast'], /--engine: expected interpret or evaluate, got 'fast'/],
  ['unknown clock', ['run', 'hello', '--clock', 'wall'], /--clock: expected guest or machine/],
  ['memory that is no number', ['run', 'hello', '--memory', 'lots'], /--memory: expected MiB .* got 'lots'/],
  ['no memory', ['run', 'hello', '--memory', '0'], /--memory: expected MiB/],
  ['too much memory', ['run', 'hello', '--memory', '4096'], /--memory: expected MiB/],
  ['memory too small for a guest', ['run', 'hello', '--memory', '8'], /needs 16 MiB/],
  ['memory too small for a guest to compare', ['compare', 'hello', '--memory', '8', '--json'], /needs 16 MiB/],
  ['memory too small for an image', ['run', at('large.bin'), '--memory', '4'], /large\.bin: .*memory/],
  ['memory too small for a machine', ['run', at('good.elf'), '--memory', '1'], /good\.elf: .*memory/],
  ['limit that is no number', ['run', 'hello', '--max-instructions', '1.5'], /--max-instructions: .* got '1\.5'/],
  ['limit of nothing', ['run', 'hello', '--max-instructions', '0'], /--max-instructions/],
  ['window without a count', ['run', 'hello', '--window', '7'], /--window: expected FROM,COUNT/],
  ['until nothing', ['run', 'hello', '--until', ''], /--until: expected some text/],
  ['missing file', ['run', at('missing.elf')], /missing\.elf: no such file/],
  ['missing input', ['run', 'hello', '--input', at('missing')], /missing: no such file/],
  ['directory', ['run', at('directory')], /directory: it is a directory/],
  ['empty file', ['run', at('empty')], /empty: the image is empty/],
  ['ELF cut in its header', ['run', at('truncated.elf')], /truncated\.elf: .*truncated/],
  ['ELF cut in its contents', ['run', at('cut.elf')], /cut\.elf: .*truncated/],
  ['ELF program headers outside the file', ['run', at('headers.elf')], /headers\.elf: .*truncated or corrupted/],
  ['ELF with too many program headers', ['run', at('count.elf')], /count\.elf: .*truncated or corrupted/],
  ['ELF for another machine', ['run', at('machine.elf')], /machine\.elf: /],
  ['ELF segment beyond the memory', ['run', at('high.elf')], /high\.elf: .*memory/],
  ['multiboot header that points behind the file', ['run', at('outside.bin')], /outside\.bin: .*outside the file/],
  ['multiboot header that points before the file', ['compare', at('before.bin'), '--json'], /before\.bin: .*outside the file/],
  ['multiboot entry outside the image', ['run', at('entry.bin')], /entry\.bin: .*entry_addr/],
  ['multiboot checksum', ['run', at('checksum.bin')], /checksum\.bin: .*checksum/],
  ['assembly: operand', ['run', at('operand.asm')], /operand\.asm:3:\d+: /],
  ['assembly: mnemonic', ['run', at('word.asm')], /word\.asm:2:\d+: /],
  ['assembly: label', ['run', at('label.asm')], /label\.asm:1:\d+: /],
  ['list of nothing', ['list'], /expected guests, monitors/],
  ['unknown list', ['list', 'figs'], /got 'figs'/],
  ['recording without its parts', ['replay', at('recording.json')], /recording\.json: \$\.\w+/],
  ['recording cut short', ['replay', at('cut.json')], /cut\.json: \$: expected JSON/],
  ['recording of another version', ['replay', at('other.json')], /other\.json: \$\.schema: expected "vanderpool-recording\/1"/],
  ['neither recording nor log', ['replay', at('words.txt'), '--guest', 'hello'], /words\.txt: /],
  ['no recording', ['replay'], /expected the path of a recording/],
  ['events into a directory', ['run', 'hello', '--events', at('directory')], /directory: it is a directory/],
  ['events nowhere', ['run', 'hello', '--events', at('nowhere/x.jsonl')], /nowhere\/x\.jsonl: no such file or directory/],
  ['record into a directory', ['run', 'hello', '--record', at('directory')], /directory: it is a directory/],
  ['report into a file', ['compare', 'hello', '--out', at('empty')], /empty: a file of that name is in the way/],
];

describe('bad input is one line and status 2', () => {
  test.each(table)('%s', async (_name, words, line) => {
    const { status, stdout, stderr } = await inside(words);
    expect(stderr).toMatch(/^vanderpool: [^\n]+\n$/);
    expect(stderr).toMatch(line);
    expect([status, stdout]).toEqual([2, '']);
  });

  // the same through a process of its own, where nothing can hide
  test.each([table[1]!, table[2]!, table.find(([name]) => name === 'ELF cut in its header')!, table.find(([name]) => name === 'assembly: operand')!])('as a process: %s', (_name, words, line) => {
    const { status, stdout, stderr } = vanderpool(words);
    expect(stderr).toMatch(/^vanderpool: [^\n]+\n$/);
    expect(stderr).toMatch(line);
    expect([status, stdout]).toEqual([2, '']);
  });

  test('a good image is still one', () => {
    expect(vanderpool(['run', at('good.elf')])).toMatchObject({ status: 0, stderr: '' });
  });
});
