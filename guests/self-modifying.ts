import type { Guest } from './guest.ts';
import { everyMonitor } from './guest.ts';

export const selfModifying: Guest = {
  name: 'self-modifying',
  title: 'Self-modifying code',
  description: 'Patches the operand of an instruction before each of 2,000 calls, flips an opcode in its own loop, overwrites a routine with string moves, and changes code through a second mapping of its page. A simulator that caches decoded instructions, or a binary translator, must notice each of these stores.',
  bits: 32,
  source: String.raw`%include "multiboot.inc"
%include "console32.inc"
%include "kernel32.inc"

CODE   equ WORK                 ; routines are put together here
ALIAS  equ 0x40000000           ; another linear address of the same frame
TABLE  equ 0x205000

main:
    call operands
    call opcodes
    call routines
    call alias
    ret

operands:                       ; mov eax, N; ret
    mov byte [CODE], 0xb8
    mov byte [CODE + 5], 0xc3
    mov edi, CODE
    mov ecx, 2000
    xor ebx, ebx
.next:
    mov [CODE + 1], ecx
    call edi
    add ebx, eax
    dec ecx
    jnz .next
    PRINT "operands "
    mov eax, ebx
    call put_number
    call put_line
    ret

opcodes:                        ; the instruction is one of the loop that changes it: inc ebx or dec ebx
    mov ecx, 999
    mov ebx, 1000
    xor edx, edx
.next:
    xor byte [.changed], 8
    jmp .changed
.changed:
    inc ebx
    add edx, ebx
    dec ecx
    jnz .next
    PRINT "opcodes "
    mov eax, ebx
    call put_number
    PRINT " sum "
    mov eax, edx
    call put_number
    call put_line
    ret

routines:                       ; two routines take turns in the same place
    mov ebp, 100
    xor eax, eax
.next:
    mov esi, double
    mov edi, CODE
    mov ecx, 16
    rep movsb
    mov edi, CODE
    call edi
    mov esi, increment
    mov edi, CODE + 15          ; from the end
    mov ecx, 16
    add esi, 15
    std
    rep movsb
    cld
    mov edi, CODE
    call edi
    dec ebp
    jnz .next
    PRINT "routines "
    call put_hex
    call put_line
    ret

alias:                          ; CPUID makes the processor fetch again
    mov dword [TABLE], CODE + 3
    mov dword [PAGE_DIRECTORY + (ALIAS >> 22) * 4], TABLE + 3
    mov byte [CODE], 0xb8
    mov byte [CODE + 5], 0xc3
    mov edi, CODE
    mov esi, 50
    xor ebp, ebp
.next:
    mov [ALIAS + 1], esi
    xor eax, eax
    cpuid
    call edi
    add ebp, eax
    dec esi
    jnz .next
    PRINT "alias "
    mov eax, ebp
    call put_number
    call put_line
    ret

    align 16
double:
    lea eax, [eax + eax]
    xor eax, 0x1234
    ret
    align 16
increment:
    add eax, 7
    rol eax, 3
    ret
    align 16
image_end:
`,
  expected: `operands 2001000
opcodes 999 sum 998500
routines cdc1189c
alias 1275
`,
  memoryMiB: 16,
  monitors: everyMonitor,
  cannot: {},
  deviations: {},
};
