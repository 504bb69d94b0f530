import { describe, expect, test } from 'vitest';
import { assemble } from '../../cpu/assembler.ts';
import { isa } from '../../machine/isa.ts';
import { profiles } from '../../machine/profile.ts';
import { native } from '../../monitors/native.ts';
import { Run } from '../../monitors/run.ts';

/** Long REP MOVS and REP STOS, which the interpreter makes many iterations at a time: overlapping, unaligned, across pages, upwards and downwards, with limits in the middle. */
const source = `
bits 32
org 0x100000
    mov esp, 0x180000
    mov edi, 0x200000
    mov ecx, 20000
    mov eax, 1
fill:
    imul eax, eax, 1103515245
    add eax, 12345
    stosd
    dec ecx
    jnz fill
%macro COPY 4
    mov esi, %2
    mov edi, %3
    mov ecx, %4
    rep %1
%endmacro
    cld
    COPY movsd, 0x200000, 0x230000, 5000
    COPY movsd, 0x200003, 0x240001, 3001
    COPY movsb, 0x200100, 0x200101, 9000
    COPY movsw, 0x210000, 0x210006, 4000
    COPY movsd, 0x220010, 0x220000, 2500
    COPY movsd, 0x220000, 0x220400, 2500
    std
    COPY movsd, 0x234000, 0x236000, 2000
    cld
    mov eax, 0x89abcdef
    mov edi, 0x250001
    mov ecx, 7000
    rep stosb
    mov edi, 0x252003
    mov ecx, 5001
    rep stosw
    mov edi, 0x256005
    mov ecx, 3333
    rep stosd
    ; a checksum of everything
    mov esi, 0x200000
    mov ecx, 0x60000 / 4
    xor ebx, ebx
sum:
    lodsd
    rol ebx, 5
    xor ebx, eax
    dec ecx
    jnz sum
    mov [0x300000], ebx
    mov [0x300004], esi
    hlt
`;
const image = assemble(source, isa.rows).bytes;

function run(engine: 'interpret' | 'evaluate', slice: number): unknown {
  const r = new Run({
    guest: 'bulk', image: { name: 'bulk', bytes: image, sha256: '' }, monitor: native, profile: profiles.nehalem, engine, memoryMiB: 8, curve: false,
    load: { format: 'flat', flat: { address: 0x100000, mode: 'protected32' } },
  });
  const stops: string[] = [];
  const { cpu, execution } = r.core;
  for (let i = 0; i < 1e6; i++) {
    // deadlines fall between iterations too
    const how = execution.run(cpu.now + slice, Infinity);
    stops.push(`${how} ${cpu.rip} ${cpu.reg32(1)} ${cpu.cycles}`);
    if (how !== 0) break;
  }
  return { words: [cpu.readPhysical(0x300000, 4), cpu.readPhysical(0x300004, 4)], cycles: cpu.cycles, retired: cpu.retired, tlb: cpu.mmu.counters, stops };
}

describe('long REP MOVS and REP STOS', () => {
  test('the interpreter stops and ends exactly where the evaluator does', () => {
    expect(run('interpret', 4099)).toEqual(run('evaluate', 4099));
  });
  test('the deadline does not change the result', () => {
    const { stops: _, ...whole } = run('interpret', 1e9) as { stops: unknown };
    const { stops: __, ...sliced } = run('interpret', 777) as { stops: unknown };
    expect(sliced).toEqual(whole);
  });
});
