import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { AssemblyError, assemble } from '../../cpu/assembler.ts';
import type { AssembleOptions } from '../../cpu/assembler.ts';
import { rows, toHex } from './assembler-rows.ts';

const bytesOf = (source: string, options?: AssembleOptions): string => toHex(assemble(source, rows, options).bytes);

function errorOf(source: string, options?: AssembleOptions): AssemblyError {
  try {
    assemble(source, rows, options);
  } catch (error) {
    if (error instanceof AssemblyError) return error;
    throw error;
  }
  throw new Error('the source assembled');
}

/** Lines 'source | hex' under 'bits N': what NASM 2.16 makes of each line alone. */
const golden = readFileSync(new URL('./assembler-golden.txt', import.meta.url), 'utf8').trim().split('\n');

describe('single lines against NASM', () => {
  for (const size of ['16', '32', '64']) {
    const from = golden.indexOf(`bits ${size}`) + 1;
    const to = golden.findIndex((line, i) => i >= from && line.startsWith('bits '));
    test(`${size}-bit code`, () => {
      const lines = golden.slice(from, to < 0 ? undefined : to);
      const differences = lines.flatMap((line) => {
        const [source, hex] = line.split(' | ') as [string, string];
        let mine: string;
        try {
          mine = bytesOf(`bits ${size}\n${source}`);
        } catch (error) {
          mine = String(error);
        }
        return mine === hex ? [] : [`${source}: ${mine} instead of ${hex}`];
      });
      expect(differences).toEqual([]);
      expect(lines.length).toBeGreaterThan(300);
    });
  }
});

describe('programs against NASM', () => {
  for (const name of ['boot', 'vstart']) {
    test(name, () => {
      const source = readFileSync(new URL(`./assembler-${name}.asm`, import.meta.url), 'utf8');
      const image = readFileSync(new URL(`./assembler-${name}.hex`, import.meta.url), 'utf8').replace(/\s/g, '');
      expect(bytesOf(source, { include: (file) => (file === 'inc.inc' ? '%macro fromfile 0\n db "inc"\n%endmacro\n' : undefined) })).toBe(image);
    });
  }
});

describe('relaxation', () => {
  test('a forward jump is short up to 127 bytes and near beyond', () => {
    expect(bytesOf('bits 32\njmp x\ntimes 127 nop\nx:').slice(0, 4)).toBe('eb7f');
    expect(bytesOf('bits 32\njmp x\ntimes 128 nop\nx:').slice(0, 10)).toBe('e980000000');
  });
  test('a backward jump is short down to -128', () => {
    expect(bytesOf('bits 32\nx: times 126 nop\njz x').slice(-4)).toBe('7480');
    expect(bytesOf('bits 32\nx: times 127 nop\njz x').slice(-12)).toBe('0f847bffffff');
  });
  test('one grown jump pushes the next one out of range', () => {
    // jmp a spans 127 bytes as long as jmp b is short, which must be near.
    const source = 'bits 32\njmp a\njmp b\ntimes 125 nop\na: times 3 nop\nb:';
    expect(bytesOf(source).slice(0, 20)).toBe('e982000000e980000000');
    expect(bytesOf(source.replace('times 3', 'times 2')).slice(0, 8)).toBe('eb7feb7f');
  });
  test('short on request is an error out of range, with the distance', () => {
    const error = errorOf('bits 32\n  jmp short x\n times 128 nop\nx:');
    expect([error.line, error.column]).toEqual([2, 7]);
    expect(error.reason).toContain('found a distance of 128');
  });
  test('constants known later still take the short form, addresses never do', () => {
    expect(bytesOf('bits 32\nadd ebx, n\nn equ 5')).toBe('83c305');
    expect(bytesOf('bits 32\nadd ebx, n\nn:')).toBe('81c306000000');
    expect(bytesOf('bits 32\nadd ebx, b-a\na: nop\nb:')).toBe('83c30190');
    expect(bytesOf('bits 32\nmov eax, [ebx+b-a]\na: nop\nb:')).toBe('8b430190');
  });
  test('jumps take addresses across sections', () => {
    expect(bytesOf('bits 32\norg 0x1000\nsection .data\nx: dd 1\nsection .text\njmp x')).toBe('eb02000001000000');
  });
  test('a size that depends on itself is reported', () => {
    expect(errorOf('a: times 5-(b-a) nop\nb:').reason).toContain('depends on itself');
  });
});

describe('symbols and layout', () => {
  const built = assemble('bits 32\norg 0x7c00\n_start: nop\n.loop: jmp .loop\nother:\n.loop: nop\nk equ 7\nsection .data align=16\nd: dd other.loop\nsection .bss\nb: resd 4', rows);
  test('labels, local labels and constants', () => {
    expect(Object.fromEntries(built.symbols)).toEqual({ _start: 0x7c00, '_start.loop': 0x7c01, other: 0x7c03, 'other.loop': 0x7c03, k: 7, d: 0x7c10, b: 0x7c14 });
    expect(built.entry).toBe(0x7c00);
  });
  test('image without .bss, limit with it', () => {
    expect([built.origin, built.bytes.length, built.limit]).toEqual([0x7c00, 0x14, 0x7c24]);
  });
  test('listing gives address and length of each line', () => {
    expect(built.listing.slice(0, 3)).toEqual([
      { file: 'source', line: 3, address: 0x7c00, length: 1 }, { file: 'source', line: 4, address: 0x7c01, length: 2 }, { file: 'source', line: 6, address: 0x7c03, length: 1 },
    ]);
  });
  test('addresses in the high half are exact', () => {
    const high = assemble('bits 64\norg 0xffffffff80000000\nmov rax, x\nlea rbx, [rel x]\nx:', rows);
    expect(toHex(high.bytes)).toBe('48b8110000' + '80ffffffff' + '488d1d00000000');
    expect(high.exactSymbols.get('x')).toBe(-0x7fffffefn);
  });
  test('defines, origin and code size from the caller', () => {
    expect(bytesOf('mov eax, N\ndd $$', { bits: 32, origin: 0x1000, defines: { N: 3 } })).toBe('b80300000000100000');
  });
});

describe('errors', () => {
  const cases: readonly (readonly [string, number, number, RegExp])[] = [
    ['bits 32\n  foo eax', 2, 3, /expected an instruction or a directive, found 'foo'/],
    ['bits 32\nmov eax, [ebx', 2, 14, /expected ']', found end of line/],
    ['bits 32\nmov eax, bl', 2, 5, /expected operands as in MOV/],
    ['bits 32\nmov [ebx], 5', 2, 5, /expected a size/],
    ['bits 32\npush [ebx]', 2, 6, /expected a size/],
    ['bits 32\nmovzx eax, [ebx]', 2, 12, /expected a size/],
    ['bits 32\nmov al, 300', 2, 9, /expected a value of 8 bits, found 300/],
    ['bits 32\njmp nowhere', 2, 5, /expected a defined symbol, found 'nowhere'/],
    ['bits 32\na: nop\na: nop', 3, 1, /expected a new name, found 'a', defined in line 2/],
    ['bits 32\nmov eax, [eax+bx]', 2, 10, /registers of one size/],
    ['bits 32\nmov eax, [eax*3+ebx]', 2, 10, /expected an address that 32-bit ModRM encodes/],
    ['bits 16\nmov ax, [ax]', 2, 9, /expected an address that 16-bit ModRM encodes/],
    ['bits 32\nmov rax, 1', 2, 5, /rax exists only in 64-bit code|operands as in/],
    ['bits 64\npusha', 2, 1, /PUSHA does not exist in 64-bit code/],
    ['bits 64\nmov r8b, ah', 2, 1, /cannot stand beside a REX prefix/],
    ['bits 32\nlock mov [eax], ebx', 2, 6, /LOCK does not go with/],
    ['bits 32\nlock add eax, ebx', 2, 6, /LOCK needs a memory destination/],
    ['bits 32\ndb 5 6', 2, 6, /expected end of line, found '6'/],
    ['bits 32\ndb "abc', 2, 4, /expected a closing quote/],
    ['bits 32\ndb 256', 2, 4, /expected a value of 8 bits, found 256/],
    ['bits 33', 1, 6, /expected 16, 32 or 64/],
    ['dw 1/0', 1, 5, /divisor other than 0/],
    ['mov ax, 0x', 1, 9, /expected a number, found '0x'/],
    ['align 3', 1, 7, /expected a power of two, found 3/],
    ['section .bss\ndb 1', 2, 1, /expected only reserved space/],
    ['extern x', 1, 1, /flat image/],
    ['%include "none"', 1, 1, /expected an existing file, found 'none'/],
    ['%if 1\nnop', 1, 1, /expected %endif/],
    ['%endif', 1, 1, /%endif without %if/],
    ['%macro m 1\nnop\n%endmacro\n  m 1, 2', 4, 3, /expected 1 arguments of m, found 2/],
    ['%macro m 1\nmov al, %1\n%endmacro\nnop\nm 300', 5, 1, /value of 8 bits, found 300 \(in 'mov al, 300' after expansion\)/],
    ['nop\n%macro m 0\nnop', 2, 1, /expected %endmacro/],
    ['%error "stop here"', 1, 1, /^stop here$/],
  ];
  for (const [source, line, column, reason] of cases) {
    test(source.split('\n').slice(-1)[0]!.trim() || source, () => {
      const error = errorOf(source, { file: 'x.asm' });
      expect([error.file, error.line, error.column]).toEqual(['x.asm', line, column]);
      expect(error.reason).toMatch(reason);
      expect(error.message).toBe(`x.asm:${line}:${column}: ${error.reason}${error.problems.length > 1 ? ` (and ${error.problems.length - 1} more)` : ''}`);
    });
  }
  test('all problems are collected, those of an included file with its name', () => {
    const error = errorOf('bad one\n%include "f"\nworse two', { file: 'a', include: () => 'nop\nbad three' });
    expect(error.problems.map(({ file, line }) => `${file}:${line}`)).toEqual(['a:1', 'f:2', 'a:3']);
  });
});
