import type { Guest } from './guest.ts';
import { everyMonitor } from './guest.ts';

export const contextSwitches: Guest = {
  name: 'context-switches',
  title: 'Context switches',
  description: 'Two processes, each with its own page tables and kernel stack, compute on the same linear address and yield to each other 1,000 times. Every switch loads CR3, so shadow paging has to find or rebuild the tables of the other process, while EPT only loses what the TLB held.',
  bits: 32,
  source: String.raw`%include "multiboot.inc"
%include "console32.inc"
%include "kernel32.inc"

CALL_EXIT  equ 0                ; EBX: result
CALL_YIELD equ 1

DIRECTORY1 equ 0x205000         ; page directory of the second process
TABLE1     equ 0x206000         ; its table of the first 4 MiB
FRAME1     equ WORK             ; its two pages of user memory
STACK1     equ WORK + 0x2000    ; and of user stack
ENTRY1_TOP equ KERNEL_TOP + 0x4000

current   equ VARIABLES         ; 0 or 1
saved     equ VARIABLES + 4     ; kernel ESP of each
top       equ VARIABLES + 12    ; top of each kernel stack
spaces    equ VARIABLES + 20    ; CR3 of each
result    equ VARIABLES + 28
switches  equ VARIABLES + 36
alive     equ VARIABLES + 40
main_esp  equ VARIABLES + 44
counter   equ USER + 0x1000     ; the address that both compute on

main:
    mov eax, 0x80
    mov edx, system_call
    mov ecx, 0xee00
    call set_gate

    mov esi, PAGE_DIRECTORY     ; the second space differs in its user pages
    mov edi, DIRECTORY1
    mov ecx, 1024
    rep movsd
    mov esi, PAGE_TABLES
    mov edi, TABLE1
    mov ecx, 1024
    rep movsd
    mov dword [DIRECTORY1], TABLE1 + 7
    mov dword [TABLE1 + (USER >> 12) * 4], FRAME1 + 7
    mov dword [TABLE1 + (USER >> 12) * 4 + 4], FRAME1 + 0x1007
    mov dword [TABLE1 + (USER_TOP >> 12) * 4 - 4], STACK1 + 7

    mov esi, program
    mov ecx, program_end - program
    call load_user
    mov esi, program
    mov edi, FRAME1
    mov ecx, program_end - program
    rep movsb
    mov dword [counter], 1
    mov dword [FRAME1 + 0x1000], 2

    mov dword [top], ENTRY_TOP
    mov dword [top + 4], ENTRY1_TOP
    mov dword [spaces], PAGE_DIRECTORY
    mov dword [spaces + 4], DIRECTORY1
    mov edx, ENTRY_TOP
    call prepare
    mov [saved], edx
    mov edx, ENTRY1_TOP
    call prepare
    mov [saved + 4], edx
    mov dword [alive], 2
    mov [main_esp], esp
    jmp resume
.finished:
    PRINT "switches "
    mov eax, [switches]
    call put_number
    call put_line
    PRINT "first process "
    mov eax, [result]
    call put_hex
    call put_line
    PRINT "second process "
    mov eax, [result + 4]
    call put_hex
    call put_line
    PRINT "its memory "
    mov eax, [FRAME1 + 0x1000]
    call put_hex
    call put_line
    ret

prepare:                        ; what resume pops, below EDX
    mov dword [edx - 4], USER_DATA
    mov dword [edx - 8], USER_TOP
    mov dword [edx - 12], 0x202
    mov dword [edx - 16], USER_CODE
    mov dword [edx - 20], USER
    sub edx, 20
    mov ecx, 8                  ; PUSHAD
.register:
    sub edx, 4
    mov dword [edx], 0
    dec ecx
    jnz .register
    sub edx, 8
    mov dword [edx], USER_DATA
    mov dword [edx + 4], USER_DATA
    ret

    align 16
system_call:
    pushad
    push ds
    push es
    mov cx, KERNEL_DATA
    mov ds, cx
    mov es, cx
    mov ecx, [current]
    mov [saved + ecx * 4], esp
    cmp eax, CALL_YIELD
    jne .exit
    cmp dword [alive], 2
    jne resume                  ; nobody to yield to
    inc dword [switches]
    xor dword [current], 1
    jmp resume
.exit:
    mov [result + ecx * 4], ebx
    dec dword [alive]
    jz .over
    xor dword [current], 1
    jmp resume
.over:
    mov eax, PAGE_DIRECTORY
    mov cr3, eax
    mov esp, [main_esp]
    jmp main.finished

resume:                         ; the current process
    mov ecx, [current]
    mov eax, [top + ecx * 4]
    mov [TSS + 4], eax
    mov eax, [spaces + ecx * 4]
    mov cr3, eax
    mov esp, [saved + ecx * 4]
    pop es
    pop ds
    popad
    iret

    align 16
program:
    mov ecx, 500
.next:
    push ecx
    mov edx, 20
.work:
    imul eax, [counter], 1664525
    add eax, 1013904223
    mov [counter], eax
    dec edx
    jnz .work
    mov eax, CALL_YIELD
    int 0x80
    pop ecx
    dec ecx
    jnz .next
    mov ebx, [counter]
    mov eax, CALL_EXIT
    int 0x80
program_end:
image_end:
`,
  expected: `switches 1000
first process f3be7791
second process 3de657d2
its memory 3de657d2
`,
  memoryMiB: 16,
  monitors: everyMonitor,
  cannot: {},
  deviations: {},
};
