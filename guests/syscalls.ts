import type { Guest } from './guest.ts';
import { everyMonitor, longMode } from './guest.ts';

export const syscalls: Guest = {
  name: 'syscalls',
  title: 'System calls, 32-bit',
  description: 'A user program in ring 3 makes 5,000 system calls with INT 80H between short loops of its own, prints a line through the kernel, and tries a few privileged instructions that the kernel must refuse. Under trap-and-emulate every call passes through the monitor twice; under VT-x the processor delivers it without an exit.',
  bits: 32,
  source: String.raw`%include "multiboot.inc"
%include "console32.inc"
%include "kernel32.inc"

; calls: number in EAX, arguments in EBX and ECX, result in EAX
CALL_EXIT  equ 0                ; EBX: what the program computed
CALL_ADD   equ 1                ; adds EBX to the kernel's sum, returns the sum
CALL_PRINT equ 2                ; EBX: bytes up to a zero
CALL_COUNT equ 3                ; returns the number of calls so far

calls    equ VARIABLES
sum      equ VARIABLES + 4
refused  equ VARIABLES + 8
rings    equ VARIABLES + 12     ; OR of all privilege levels that calls came from, XOR 3
result   equ VARIABLES + 16

main:
    mov eax, 0x80
    mov edx, system_call
    mov ecx, 0xee00
    call set_gate
    mov dword [HANDLERS + 13 * 4], refuse
    mov esi, program
    mov ecx, program_end - program
    call load_user
    mov eax, USER
    call enter_user
    PRINT "calls "
    mov eax, [calls]
    call put_number
    call put_line
    PRINT "kernel sum "
    mov eax, [sum]
    call put_number
    call put_line
    PRINT "user result "
    mov eax, [result]
    call put_hex
    call put_line
    PRINT "refused "
    mov eax, [refused]
    call put_number
    call put_line
    PRINT "other rings "
    mov eax, [rings]
    call put_number
    call put_line
    ret

    align 16
system_call:                    ; straight from the gate: the fast path saves little
    push ds
    push edx
    mov dx, KERNEL_DATA
    mov ds, dx
    inc dword [calls]
    mov edx, [esp + 12]         ; CS of the caller
    and edx, 3
    xor edx, 3
    or [rings], edx
    cmp eax, CALL_ADD
    jne .other
    add [sum], ebx
    mov eax, [sum]
    pop edx
    pop ds
    iret
.other:
    cmp eax, CALL_COUNT
    je .count
    cmp eax, CALL_PRINT
    je .print
    mov [result], ebx
    mov ax, KERNEL_DATA
    mov es, ax
    jmp leave_user
.print:
    push esi
    mov esi, ebx
    call put_text
    pop esi
.count:
    mov eax, [calls]
    pop edx
    pop ds
    iret

refuse:                         ; #GP in user mode: go on at ESI
    inc dword [refused]
    mov eax, [ebp + FRAME_ESI]
    mov [ebp + FRAME_EIP], eax
    ret

; The user program runs at USER; it knows no absolute address but that.
    align 16
program:
    call .here
.here:
    pop edi
    mov eax, CALL_PRINT
    lea ebx, [edi + text - .here]
    int 0x80
    lea esi, [edi + .after_cli - .here]
    cli
.after_cli:
    lea esi, [edi + .after_hlt - .here]
    hlt
.after_hlt:
    lea esi, [edi + .after_in - .here]
    in al, 0x80
.after_in:
    lea esi, [edi + .after_cr - .here]
    mov eax, cr0
.after_cr:
    lea esi, [edi + .after_int - .here]
    int 0x20                    ; a gate that user mode may not use
.after_int:
    mov ebp, 2499
    xor ecx, ecx
.loop:
    mov eax, CALL_ADD
    mov ebx, ebp
    int 0x80
    mov edx, 12
.work:
    rol ecx, 3
    xor ecx, eax
    add eax, 0x9e3779b9
    dec edx
    jnz .work
    mov eax, CALL_COUNT
    int 0x80
    add ecx, eax
    dec ebp
    jnz .loop
    mov ebx, ecx
    mov eax, CALL_EXIT
    int 0x80
text:
    db "printed by the kernel for ring 3", 10, 0
program_end:
image_end:
`,
  expected: `printed by the kernel for ring 3
calls 5000
kernel sum 3123750
user result 72c617e7
refused 5
other rings 0
`,
  memoryMiB: 16,
  monitors: everyMonitor,
  cannot: {},
  deviations: {},
};

export const syscalls64: Guest = {
  name: 'syscalls64',
  title: 'System calls, long mode',
  description: 'A 64-bit user program makes 4,000 calls with SYSCALL and SYSRET and 1,000 with INT 80H. The kernel switches stacks with SWAPGS and per-CPU data at GS, as real ones do. Neither kind of call exits under VT-x.',
  bits: 64,
  source: String.raw`%include "multiboot.inc"
%include "console64.inc"
%include "kernel64.inc"

; calls: number in RAX, argument in RBX, result in RAX
CALL_EXIT  equ 0                ; RBX: what the program computed
CALL_ADD   equ 1                ; adds RBX to the kernel's sum, returns the sum
CALL_PRINT equ 2                ; RBX: bytes up to a zero

fast_calls equ VARIABLES
gate_calls equ VARIABLES + 8
sum        equ VARIABLES + 16
result     equ VARIABLES + 24
refused    equ VARIABLES + 32
flags_seen equ VARIABLES + 40   ; OR of RFLAGS inside SYSCALL
PER_CPU    equ VARIABLES + 0x800 ; user RSP, kernel RSP

main:
    mov eax, 0x80
    mov edx, gate_call
    mov ecx, 0xee00
    call set_gate
    mov qword [HANDLERS + 13 * 8], refuse
    mov ecx, 0xc0000081         ; IA32_STAR: SYSCALL to KERNEL_CODE, SYSRET to USER_DATA and USER_CODE
    xor eax, eax
    mov edx, 0x00130008
    wrmsr
    mov ecx, 0xc0000082         ; IA32_LSTAR
    mov eax, fast_call
    xor edx, edx
    wrmsr
    mov ecx, 0xc0000084         ; IA32_FMASK: IF, DF and the carry flag
    mov eax, 0x601
    xor edx, edx
    wrmsr
    mov ecx, 0xc0000101         ; IA32_GS_BASE of the user program
    mov eax, USER + 0x10000
    xor edx, edx
    wrmsr
    mov ecx, 0xc0000102         ; IA32_KERNEL_GS_BASE
    mov eax, PER_CPU
    xor edx, edx
    wrmsr
    mov qword [PER_CPU + 8], ENTRY_TOP
    mov rax, 0x0102030405060708
    mov [USER + 0x10000], rax
    mov esi, program
    mov ecx, program_end - program
    call load_user
    mov eax, USER
    call enter_user
    PRINT "syscalls "
    mov rax, [fast_calls]
    call put_number
    call put_line
    PRINT "int 80h "
    mov rax, [gate_calls]
    call put_number
    call put_line
    PRINT "kernel sum "
    mov rax, [sum]
    call put_number
    call put_line
    PRINT "user result "
    mov rax, [result]
    call put_hex
    call put_line
    PRINT "masked flags "
    mov rax, [flags_seen]
    and eax, 0x601
    call put_number
    call put_line
    PRINT "refused "
    mov rax, [refused]
    call put_number
    call put_line
    ret

    align 16
fast_call:                      ; RCX: return address, R11: RFLAGS
    swapgs
    mov [gs:0], rsp
    mov rsp, [gs:8]
    push rcx
    push r11
    pushfq
    pop rdx
    or [flags_seen], rdx
    inc qword [fast_calls]
    cmp eax, CALL_ADD
    jne .other
    add [sum], rbx
    mov rax, [sum]
    jmp .return
.other:
    cmp eax, CALL_PRINT
    jne .exit
    push rsi
    mov rsi, rbx
    call put_text
    pop rsi
.return:
    pop r11
    pop rcx
    mov rsp, [gs:0]
    swapgs
    o64 sysret
.exit:
    mov [result], rbx
    swapgs
    jmp leave_user

    align 16
gate_call:
    inc qword [gate_calls]
    add [sum], rbx
    mov rax, [sum]
    iretq

refuse:                         ; #GP in user mode: go on at RSI
    inc qword [refused]
    mov rax, [rbp + FRAME_RSI]
    mov [rbp + FRAME_RIP], rax
    ret

; The user program runs at USER and addresses relative to RIP.
    align 16
program:
    mov eax, CALL_PRINT
    lea rbx, [rel text]
    syscall
    lea rsi, [rel .after_wrmsr]
    wrmsr
.after_wrmsr:
    lea rsi, [rel .after_swapgs]
    swapgs
.after_swapgs:
    lea rsi, [rel .after_canonical]
    mov rax, 0x8000000000000000
    mov rax, [rax]
.after_canonical:
    mov r12d, 3998
    xor r13d, r13d
.fast:
    mov eax, CALL_ADD
    mov ebx, r12d
    stc
    syscall
    mov edx, 12
.work:
    rol r13, 7
    xor r13, rax
    add rax, [gs:0]
    dec edx
    jnz .work
    dec r12d
    jnz .fast
    mov r12d, 1000
.gate:
    mov ebx, r12d
    int 0x80
    add r13, rax
    dec r12d
    jnz .gate
    mov rbx, r13
    mov eax, CALL_EXIT
    syscall
text:
    db "printed by the kernel for 64-bit user code", 10, 0
program_end:
image_end:
`,
  expected: `printed by the kernel for 64-bit user code
syscalls 4000
int 80h 1000
kernel sum 8494501
user result 59aad881550986e5
masked flags 0
refused 3
`,
  memoryMiB: 16,
  ...longMode,
  deviations: {},
};
