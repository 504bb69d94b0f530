import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll } from 'vitest';

export const root = fileURLToPath(new URL('../..', import.meta.url));

export interface Outcome { readonly status: number | null; readonly stdout: string; readonly stderr: string }

/** Runs the command line as a clone does: through tsx. */
export function vanderpool(words: readonly string[], folder = root): Outcome {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--import', join(root, 'node_modules/tsx/dist/esm/index.mjs'), join(root, 'app/cli.ts'), ...words], { cwd: folder, encoding: 'utf8', timeout: 60_000, maxBuffer: 1 << 28 });
  return { status, stdout, stderr };
}

/** A folder that is gone after the tests of the file. */
export function scratch(): { readonly path: string; file(name: string, content: string | Uint8Array): string } {
  const path = mkdtempSync(join(tmpdir(), 'vanderpool-'));
  afterAll(() => rmSync(path, { recursive: true, force: true }));
  return {
    path,
    file: (name, content) => {
      writeFileSync(join(path, name), content);
      return join(path, name);
    },
  };
}

/** A multiboot image in the address-field form: header at 1 MiB, then code. Fields: load_addr, load_end_addr, bss_end_addr, entry_addr. */
export function multibootImage(code: readonly number[], fields: Partial<{ header: number; load: number; loadEnd: number; bssEnd: number; entry: number; checksum: number }> = {}): Uint8Array {
  const bytes = new Uint8Array(32 + code.length);
  const view = new DataView(bytes.buffer);
  const at = fields.header ?? 0x100000;
  const end = at + bytes.length;
  [0x1badb002, 0x10003, fields.checksum ?? (0 - 0x1badb002 - 0x10003) >>> 0, at, fields.load ?? at, fields.loadEnd ?? end, fields.bssEnd ?? end, fields.entry ?? at + 32].forEach((word, i) => view.setUint32(4 * i, word >>> 0, true));
  bytes.set(code, 32);
  return bytes;
}

/** MOV AL, value; OUT 0xf4, AL. */
export const debugExit = (value: number): readonly number[] => [0xb0, value, 0xe6, 0xf4];
/** MOV AL, byte; MOV DX, 0x3f8; OUT DX, AL. */
export const printByte = (byte: number): readonly number[] => [0x66, 0xba, 0xf8, 0x03, 0xb0, byte, 0xee];
/** JMP to itself; CLI and HLT; UD2 without an IDT. */
export const forever: readonly number[] = [0xeb, 0xfe];
export const halt: readonly number[] = [0xfa, 0xf4];
export const undefinedWithoutIdt: readonly number[] = [0x0f, 0x0b];
