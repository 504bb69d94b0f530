import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { encodeInstance, operandSizes } from '../../cpu/assembler-encode.ts';
import type { InstanceForm, MemoryForm, Size } from '../../cpu/assembler-encode.ts';
import { assemble } from '../../cpu/assembler.ts';
import { Decoder } from '../../cpu/decode.ts';
import { disassemble } from '../../cpu/disassembler.ts';
import type { DisassembleOptions } from '../../cpu/disassembler.ts';
import type { Instruction } from '../../cpu/instruction.ts';
import type { Row } from '../../cpu/row.ts';
import { features, fromHex, rows, toHex } from './assembler-rows.ts';

const decoder = new Decoder(rows, features);

function decode(bytes: Uint8Array, codeSize: Size): Instruction {
  const padded = new Uint8Array(16);
  padded.set(bytes);
  const insn = decoder.decode(padded, 0, 15, codeSize);
  if (typeof insn === 'number') throw new Error(`${toHex(bytes)} does not decode as ${codeSize}-bit code (${insn})`);
  return insn;
}

function text(hex: string, codeSize: Size, options?: DisassembleOptions): string {
  return disassemble(decode(fromHex(hex), codeSize), 0x1000, options);
}

describe('text', () => {
  /** [bytes, code size, plain text, exact text where it differs] at address 1000h. */
  const cases: readonly (readonly [string, Size, string, string?])[] = [
    ['01d8', 32, 'add eax, ebx'],
    ['6601d8', 16, 'add eax, ebx'],
    ['83c005', 32, 'add eax, 0x5', 'add eax, strict byte 0x5'],
    ['83e8ff', 32, 'sub eax, -0x1', 'sub eax, strict byte -0x1'],
    ['c745fc01000000', 32, 'mov dword [ebp-0x4], 0x1', 'mov dword [ebp-0x4], strict dword 0x1'],
    ['8b042500000000', 64, 'mov eax, dword [0x0]'],
    ['648b042510000000', 64, 'mov eax, dword [fs:0x10]'],
    ['488b0510000000', 64, 'mov rax, qword [rel 0x1017]'],
    ['678b0510000000', 64, 'a32 mov eax, dword [rel 0x1017]'],
    ['8b846d00010000', 32, 'mov eax, dword [ebp+ebp*2+0x100]'],
    ['8b044500000000', 32, 'mov eax, dword [nosplit eax*2]'],
    ['8b4000', 32, 'mov eax, dword [eax]', 'mov eax, dword [byte eax+0x0]'],
    ['8b8005000000', 32, 'mov eax, dword [eax+0x5]', 'mov eax, dword [dword eax+0x5]'],
    ['8a00', 16, 'mov al, byte [bx+si]'],
    ['8a260000', 16, 'mov ah, byte [0x0]'],
    ['4088c7', 64, 'mov dil, al'],
    ['88c7', 64, 'mov bh, al'],
    ['a134120000', 32, 'mov eax, dword [0x1234]'],
    ['48a18877665544332211', 64, 'mov rax, qword [qword 0x1122334455667788]'],
    ['ebfe', 32, 'jmp 0x1000', 'jmp short 0x1000'],
    ['e9fbffffff', 64, 'jmp 0x1000', 'jmp near 0x1000'],
    ['0f84faffffff', 64, 'jz 0x1000', 'jz near 0x1000'],
    ['ebee', 16, 'jmp 0xff0', 'jmp short 0xff0'],
    ['66e9000000f0', 16, 'o32 jmp 0xf0001006', 'o32 jmp near 0xf0001006'],
    ['e3fe', 32, 'jecxz 0x1000'],
    ['67e2fd', 64, 'a32 loop 0x1000'],
    ['f3a5', 32, 'rep movsd'],
    ['f366a5', 32, 'rep movsw'],
    ['f2ae', 32, 'repne scasb'],
    ['f3a6', 32, 'repe cmpsb'],
    ['67a4', 64, 'a32 movsb'],
    ['64ac', 32, 'fs lodsb'],
    ['f0830001', 32, 'lock add dword [eax], 0x1', 'lock add dword [eax], strict byte 0x1'],
    ['9c', 64, 'pushfq'], ['9c', 16, 'pushfw'], ['669d', 32, 'popfw'],
    ['cf', 64, 'iretd'], ['48cf', 64, 'iretq'], ['60', 32, 'pushad'],
    ['ea341200000800', 32, 'jmp dword 0x8:0x1234'],
    ['ff28', 32, 'jmp dword far [eax]'],
    ['ff10', 64, 'call qword [rax]'],
    ['6a05', 32, 'push 0x5', 'push strict byte 0x5'],
    ['666a05', 32, 'push word 0x5', 'o16 push strict byte 0x5'],
    ['0f22d8', 32, 'mov cr3, eax'], ['440f22c0', 64, 'mov cr8, rax'],
    ['8ed8', 32, 'mov ds, ax'], ['8c18', 32, 'mov word [eax], ds'],
    ['d1e0', 32, 'shl eax, 1'], ['c1e001', 32, 'shl eax, 0x1', 'shl eax, byte 0x1'],
    ['48c7c001000000', 64, 'mov rax, 0x1', 'mov rax, strict dword 0x1'],
    ['87d9', 32, 'xchg ebx, ecx'],
    ['660fefc1', 32, 'pxor xmm0, xmm1'], ['f30f6f08', 32, 'movdqu xmm1, oword [eax]'],
    ['0f0110', 32, 'lgdt [eax]'],
  ];
  for (const [hex, codeSize, plain, exact] of cases) {
    test(`${hex} in ${codeSize}-bit code`, () => {
      expect(text(hex, codeSize)).toBe(plain);
      const said = text(hex, codeSize, { exact: true });
      if (exact !== undefined) expect(said).toBe(exact);
      expect(toHex(assemble(`bits ${codeSize}\norg 0x1000\n${said}`, rows).bytes)).toBe(hex);
    });
  }
  test('symbols stand for targets', () => {
    expect(text('ebfe', 32, { symbol: (address) => (address === 0x1000n ? 'here' : undefined) })).toBe('jmp here');
  });
  test('targets wrap at the instruction pointer', () => {
    expect(disassemble(decode(Uint8Array.of(0xe9, 0xf0, 0xff), 16), 2)).toBe('jmp 0xfff5');
    expect(disassemble(decode(Uint8Array.of(0xeb, 0x10), 64), 0xffffffff80000000n)).toBe('jmp 0xffffffff80000012');
  });
});

test('every golden line of the assembler comes back as the same bytes', () => {
  let size: Size = 16;
  const wrong: string[] = [];
  for (const line of readFileSync(new URL('./assembler-golden.txt', import.meta.url), 'utf8').trim().split('\n')) {
    const bits = /^bits (\d+)$/.exec(line);
    if (bits) {
      size = Number(bits[1]) as Size;
      continue;
    }
    const [source, hex] = line.split(' | ') as [string, string];
    // Several instructions; overrides that 64-bit mode ignores and the decoder drops.
    if (source.startsWith('times') || (size === 64 && /\b(es|cs)\b.*[:m]/.test(source))) continue;
    const said = text(hex, size, { exact: true });
    const back = toHex(assemble(`bits ${size}\norg 0x1000\n${said}`, rows).bytes);
    if (back !== hex) wrong.push(`${size}: ${source}: ${hex} -> ${said} -> ${back}`);
  }
  expect(wrong).toEqual([]);
});

/** Deterministic numbers 0..n-1. */
function generator(seed: number): (n: number) => number {
  let state = seed;
  return (n) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
}

function pick<T>(random: (n: number) => number, list: readonly T[]): T {
  return list[random(list.length)]!;
}

const pairs16 = [[3, 6], [3, 7], [5, 6], [5, 7], [6, -1], [7, -1], [5, -1], [3, -1], [-1, -1]] as const;

function randomMemory(random: (n: number) => number, codeSize: Size, addressSize: Size): MemoryForm {
  if (addressSize === 16) {
    const [base, index] = pick(random, pairs16);
    return { base, index, scale: 0, displacement: pick(random, [0, 5, -5, 300]) };
  }
  const registers = codeSize === 64 ? 16 : 8;
  const base = random(5) === 0 ? -1 : codeSize === 64 && random(6) === 0 ? 16 : random(registers);
  const index = base === 16 || random(2) ? -1 : pick(random, [0, 1, 2, 3, 5, 6, 7, ...(codeSize === 64 ? [8, 12, 13, 15] : [])]);
  return { base, index, scale: index < 0 ? 0 : random(4), displacement: pick(random, [0, 5, -128, 300, 0x12345678, -70000]) };
}

function randomForm(random: (n: number) => number, row: Row, codeSize: Size, operandSize: Size): InstanceForm {
  const kinds = row.operands.map((operand) => operand.kind);
  const registerForm = kinds.some((kind) => /^(rm|rmreg|xmmrm|xmmreg)$/.test(kind));
  const memoryForm = kinds.some((kind) => /^(rm|mem|xmmrm)$/.test(kind));
  const inMemory = memoryForm && (!registerForm || random(2) === 0);
  const addressSize = row.encoding.addressSize || (random(4) ? codeSize : codeSize === 32 ? 16 : 32);
  const registers = codeSize === 64 ? 16 : 8;
  const reg = kinds.includes('sreg') ? pick(random, [0, 2, 3, 4, 5]) : kinds.includes('cr') ? pick(random, [0, 2, 3, 4]) : kinds.includes('dr') ? pick(random, [0, 1, 2, 3, 6, 7]) : random(registers);
  const immediate = (token: string): number => (token === 'ib' || token === 'cb' ? pick(random, [0, 1, 5, 100, -1, -128])
    : token === 'iw' ? pick(random, [0, 5, 0xffff, 0x1234]) : pick(random, [0, 5, -1, 127, 128, 0x1234, ...(operandSize === 16 ? [] : [0x12345678, -0x80000000])]));
  return {
    codeSize, operandSize, addressSize, reg, rm: inMemory ? randomMemory(random, codeSize, addressSize) : random(registers), moffs: pick(random, [5, 0x1234]),
    immediates: row.encoding.immediates.filter((token) => token !== 'moffs').flatMap((token) => (token === 'far' ? [immediate(token), 8] : [immediate(token)])),
    override: inMemory && random(4) === 0 ? (codeSize === 64 ? 4 : random(6)) : -1,
    lock: row.lock === true && inMemory && random(3) === 0, rep: row.rep !== undefined && random(2) === 0 ? 0xf3 : 0,
  };
}

/** What the instruction does, apart from how it is encoded. */
function meaning(insn: Instruction): string {
  const said = disassemble(insn, 0x1000, { exact: true }).replace(/\b(strict )?(byte|word|dword|qword) (?=[-0-9]|[a-z0-9]+[-+*\]])/g, '').replace(/\+0x0\b/g, '');
  // Both operand orders of XCHG are one instruction.
  const swapped = /^(.*xchg )(\w+), (\w+)$/.exec(said);
  if (swapped) return swapped[1]! + [swapped[2]!, swapped[3]!].sort().join(', ');
  return said;
}

describe('random instances of every row', () => {
  for (const codeSize of [16, 32, 64] as const) {
    test(`${codeSize}-bit code: encode, decode, disassemble, assemble, decode`, () => {
      const random = generator(codeSize);
      const wrong: string[] = [];
      let instances = 0;
      for (const row of rows) {
        for (const operandSize of operandSizes(row, codeSize)) {
          for (let k = 0; k < 4; k++) {
            const form = randomForm(random, row, codeSize, operandSize);
            const bytes = encodeInstance(row, form);
            const insn = decode(bytes, codeSize);
            instances++;
            // 90 is NOP by definition: no instance of XCHG with the accumulator.
            if (insn.row !== row && row.notation !== '90+r') wrong.push(`${row.syntax} (${row.notation}) as ${toHex(bytes)} decodes as ${insn.row.syntax} (${insn.row.notation})`);
            if (insn.length !== bytes.length) wrong.push(`${toHex(bytes)} decodes with length ${insn.length}`);
            const said = disassemble(insn, 0x1000, { exact: true });
            let back: Uint8Array;
            try {
              back = assemble(`bits ${codeSize}\norg 0x1000\n${said}`, rows).bytes;
            } catch (error) {
              wrong.push(`${toHex(bytes)} '${said}': ${String(error)}`);
              continue;
            }
            const again = decode(back, codeSize);
            if (toHex(back) !== toHex(bytes) && meaning(again) !== meaning(insn) && !sameByDefinition(insn, again)) wrong.push(`${row.notation} ${toHex(bytes)} '${said}' comes back as ${toHex(back)} '${disassemble(again, 0x1000, { exact: true })}'`);
            if (back.length > bytes.length) wrong.push(`${toHex(bytes)} '${said}' comes back longer: ${toHex(back)}`);
          }
        }
      }
      expect(wrong).toEqual([]);
      expect(instances).toBeGreaterThan(1500);
    });
  }
});

/** MOV of a segment register to r64 zero-extends as to r32; XCHG RAX, RAX is NOP. */
function sameByDefinition(a: Instruction, b: Instruction): boolean {
  if (a.row.syntax === 'MOV r/mv, Sreg' && b.row === a.row) return a.rm === b.rm && a.reg === b.reg;
  return a.row.mnemonic === 'XCHG' && a.rm === a.reg && b.row.mnemonic === 'NOP';
}
