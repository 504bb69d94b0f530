import { describe, expect, it } from 'vitest';
import { FormatError } from '../../traces/format-error.ts';
import { formatRecording, parseRecording } from '../../traces/recording.ts';
import type { Recording } from '../../traces/recording.ts';
import { hash } from './sample-runs.ts';

const recording: Recording = {
  tool: 'vanderpool', version: '0.1.0',
  image: { name: 'kernel.elf', sha256: hash('a'), bytes: 4096, format: 'ELF32' },
  configuration: {
    guest: 'kernel.elf', monitor: 'vtx-ept', profile: 'nehalem', costTable: hash('b'), clock: 'machine', engine: 'interpret', memoryMiB: 64, append: 'root="x" -v', maxInstructions: null, until: '$ ',
  },
  inputs: [{ at: 0, device: 'serial', bytes: Uint8Array.of(0, 255, 10) }, { at: 9007199254740991, device: 'serial', bytes: Uint8Array.of(65) }],
  result: { instructions: 5, cycles: 70, stoppedBy: 'until', exitStatus: 0, console: { sha256: hash('c') }, events: { sha256: hash('d'), lines: 3 } },
};

function problem(change: (json: string) => string): string {
  try {
    parseRecording(change(formatRecording(recording)));
  } catch (error) {
    if (error instanceof FormatError) return error.message;
    throw error;
  }
  return 'no problem';
}
const replaced = (from: string | RegExp, to: string): string => problem(json => { const out = json.replace(from, to); expect(out).not.toBe(json); return out; });

describe('recording', () => {
  it('is read back as written, to the same bytes', () => {
    const json = formatRecording(recording);
    expect(parseRecording(json)).toEqual(recording);
    expect(formatRecording(parseRecording(json))).toBe(json);
    expect(json.endsWith('}\n')).toBe(true);
  });

  it('names the place in the JSON and what was expected', () => {
    expect(problem(() => '{')).toMatch(/^\$: expected JSON, but /);
    expect(problem(() => '[]')).toBe('$: expected an object, got []');
    expect(problem(() => '{}')).toBe('$.schema: expected "vanderpool-recording/1", got nothing');
    expect(replaced('recording/1', 'recording/9')).toBe('$.schema: expected "vanderpool-recording/1", got "vanderpool-recording/9"');
    expect(replaced(hash('a'), 'A')).toBe('$.image.sha256: expected a SHA-256 as 64 lower-case hex digits, got "A"');
    expect(replaced('"memoryMiB": 64', '"memoryMiB": 4096')).toBe('$.configuration.memoryMiB: expected an integer from 1 to 3072, got 4096');
    expect(replaced('"machine"', '"wall"')).toBe('$.configuration.clock: expected one of guest, machine, got "wall"');
    expect(replaced('"maxInstructions": null', '"maxInstructions": 0')).toMatch(/^\$\.configuration\.maxInstructions: expected an integer from 1 to /);
    expect(replaced('"append"', '"apend"')).toBe('$.configuration.append: expected a string, got nothing');
    expect(replaced('"00ff0a"', '"00ff0"')).toBe('$.inputs[0].bytes: expected bytes as pairs of lower-case hex digits, got "00ff0"');
    expect(replaced('"at": 0', '"at": 0.5')).toMatch(/^\$\.inputs\[0\]\.at: expected an integer/);
    expect(replaced('9007199254740991', '9007199254740992')).toMatch(/^\$\.inputs\[1\]\.at: expected an integer/);
    expect(replaced('"at": 0', '"at": 9007199254740991')).toBe('no problem');
    expect(replaced(/"at": 9007199254740991/, '"at": 0')).toBe('no problem');
    expect(problem(json => json.replace('"at": 0', '"at": 9').replace('9007199254740991', '8'))).toBe('$.inputs[1].at: expected at least 9, the place of the input before, got 8');
    expect(replaced('"until": "$ "', '"until": 5, "more": 1')).toBe('$.configuration.until: expected a string, got 5');
    expect(replaced('"lines": 3', '"lines": 3, "extra": 0')).toBe('$.result.events.extra: expected one of the keys sha256, lines');
    expect(replaced('"stoppedBy": "until"', '"stoppedBy": "boredom"')).toMatch(/^\$\.result\.stoppedBy: expected one of poweroff, .*, got "boredom"$/);
  });

  it('does not write what it could not read', () => {
    expect(() => formatRecording({ ...recording, image: { ...recording.image, sha256: '' } })).toThrow(/^formatRecording: \$\.image\.sha256: expected/);
  });
});
