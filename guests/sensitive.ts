import type { Deviation, Guest } from './guest.ts';
import { everyMonitor } from './guest.ts';

const descriptorRegister = 'stores the real register, which holds the monitor\'s table, and does not trap outside ring 0';
const realFlags = 'shows the real flags: IF is always set while the guest runs, and IOPL is 0';
const silent = 'changes neither IF nor IOPL outside ring 0, and does not trap: the monitor never learns that the guest tried';
const ring = 'shows that the kernel runs in ring 1: the selector\'s low bits are the current privilege level';
const raised = 'sees the monitor\'s descriptor, whose privilege level was raised from 0 to 1 and whose limit is truncated';
const permitted = 'a selector for ring 1 is refused in ring 0, but the kernel is in ring 1';

/** Lines that the classic method gets wrong; what exactly they show depends on where the monitor put its tables. */
const trapAndEmulate: readonly Deviation[] = [
  { line: 'SGDT base', reason: descriptorRegister },
  { line: 'SGDT limit', reason: descriptorRegister },
  { line: 'SIDT base', reason: descriptorRegister },
  { line: 'SIDT limit', reason: descriptorRegister },
  { line: 'SLDT', reason: descriptorRegister },
  { line: 'STR', reason: descriptorRegister },
  { line: 'SMSW', reason: 'stores the real CR0, not the one the guest loaded, and does not trap' },
  { line: 'PUSHF after CLI', reason: realFlags },
  { line: 'PUSHF IOPL', reason: realFlags },
  { line: 'POPF sets IF', reason: silent },
  { line: 'POPF clears IF', reason: silent },
  { line: 'POPF seen by PUSHF', reason: realFlags },
  { line: 'LAR data', reason: raised },
  { line: 'LAR data RPL 1', reason: raised },
  { line: 'LAR conforming', reason: raised },
  { line: 'LSL data', reason: raised },
  { line: 'LSL data RPL 1', reason: raised },
  { line: 'VERR data RPL 1', reason: raised },
  { line: 'VERW data RPL 1', reason: raised },
  { line: 'POP SS', reason: ring },
  { line: 'POP DS RPL 1', reason: permitted },
  { line: 'PUSH CS', reason: ring },
  { line: 'PUSH SS', reason: ring },
  { line: 'CALL far', reason: ring },
  { line: 'CALL gate', reason: 'the code behind the gate sees that it runs in ring 1, or the gate is refused to ring 1' },
  { line: 'CALL far RPL 1', reason: permitted },
  { line: 'JMP far', reason: ring },
  { line: 'JMP far RPL 1', reason: permitted },
  { line: 'RETF', reason: ring },
  { line: 'RETF RPL 1', reason: permitted },
  { line: 'IRET', reason: ring },
  { line: 'IRET RPL 1', reason: permitted },
  { line: 'MOV from CS', reason: ring },
  { line: 'MOV from SS', reason: ring },
  { line: 'MOV to SS', reason: ring },
  { line: 'MOV to DS RPL 1', reason: permitted },
  { line: 'wrong', reason: 'counts the lines above' },
];

export const sensitive: Guest = {
  name: 'sensitive',
  title: 'Sensitive instructions',
  description: 'Executes every instruction of the Pentium that is sensitive but not privileged, in the guest\'s kernel, and prints what each one showed next to what ring 0 would show. With VT-x all of them are right without any exit; under trap-and-emulate the kernel runs in ring 1, nothing traps, and the output tells where the disguise slips.',
  bits: 32,
  source: String.raw`%include "multiboot.inc"
%include "console32.inc"
%include "kernel32.inc"

; Every test is a routine that returns what it saw in EAX. A fault ends the routine with 0xfavveeee: vector and error.
resume     equ VARIABLES        ; where a fault goes on, 0 = nowhere
resume_esp equ VARIABLES + 4
faulted    equ VARIABLES + 8
wrong      equ VARIABLES + 12
seen_cs    equ VARIABLES + 16   ; what the handler of INT 21H found on its stack
seen_flags equ VARIABLES + 20
scratch    equ VARIABLES + 0x1000 ; not in the page of the LDT, whose writes a monitor may watch

main:
    mov dword [HANDLERS + 6 * 4], fault
    mov dword [HANDLERS + 10 * 4], fault
    mov dword [HANDLERS + 11 * 4], fault
    mov dword [HANDLERS + 12 * 4], fault
    mov dword [HANDLERS + 13 * 4], fault
    mov dword [HANDLERS + 33 * 4], look
    mov ax, LOCAL
    lldt ax
    mov esi, tests
.next:
    mov edi, [esi]
    test edi, edi
    jz .done
    call run_test
    add esi, 12
    jmp .next
.done:
    PRINT "wrong "
    mov eax, [wrong]
    call put_number
    call put_line
    ret

; One row of the table: routine, name, expected value.
run_test:
    push esi
    push esi
    mov esi, [esi + 4]
    call put_text
    pop esi
    mov ebx, [esi + 8]
    push ebx
    mov dword [faulted], 0
    mov [resume_esp], esp
    mov dword [resume], .after
    call edi
.after:
    mov dword [resume], 0
    cli
    pop ebx
    push eax
    mov al, ' '
    call put_char
    pop eax
    cmp dword [faulted], 0
    jne .fault
    call put_hex
    jmp .compare
.fault:
    PRINT "FAULT "
    push eax
    shr eax, 16
    mov ecx, 2
    call put_digits
    mov al, '/'
    call put_char
    pop eax
    push eax
    mov ecx, 4
    call put_digits
    pop eax
.compare:
    cmp eax, ebx
    jne .wrong
    PRINT " ok"
    jmp .end
.wrong:
    inc dword [wrong]
    PRINT " WRONG"
.end:
    call put_line
    pop esi
    ret

; Handler of faults: leaves the test.
fault:
    cmp dword [resume], 0
    je unexpected
    mov dword [faulted], 1
    mov eax, [ebp + FRAME_VECTOR]
    shl eax, 16
    or eax, 0xfa000000
    mov ax, [ebp + FRAME_ERROR]
    mov dx, KERNEL_DATA
    mov ds, dx
    mov es, dx
    mov ss, dx
    mov esp, [resume_esp]
    jmp [resume]

; Handler of INT 21H: what was pushed.
look:
    mov eax, [ebp + FRAME_CS]
    mov [seen_cs], eax
    mov eax, [ebp + FRAME_EFLAGS]
    mov [seen_flags], eax
    ret

; The flags that an interrupt pushes, which a monitor fills in as it believes they are.
interrupt_flags:
    int 0x21
    mov eax, [seen_flags]
    and eax, 0x200
    ret

sgdt_base:
    sgdt [scratch]
    mov eax, [scratch + 2]
    sub eax, gdt
    ret
sgdt_limit:
    sgdt [scratch]
    movzx eax, word [scratch]
    ret
sidt_base:
    sidt [scratch]
    mov eax, [scratch + 2]
    sub eax, IDT
    ret
sidt_limit:
    sidt [scratch]
    movzx eax, word [scratch]
    ret
sldt_test:
    xor eax, eax
    sldt ax
    ret
str_test:
    xor eax, eax
    str ax
    ret
smsw_test:                      ; with TS and MP set; a plain kernel again afterwards
    mov eax, 0x8001003b
    mov cr0, eax
    xor eax, eax
    smsw ax
    mov edx, 0x80010031
    mov cr0, edx
    ret

pushf_sti:
    sti
    pushfd
    pop eax
    cli
    and eax, 0x200
    ret
pushf_cli:
    cli
    pushfd
    pop eax
    and eax, 0x200
    ret
pushf_iopl:
    pushfd
    or dword [esp], 0x3000
    popfd
    pushfd
    pop eax
    push dword 2
    popfd
    and eax, 0x3000
    ret
popf_sets:
    cli
    push dword 0x202
    popfd
    call interrupt_flags
    ret
popf_clears:
    sti
    push dword 2
    popfd
    call interrupt_flags
    ret
popf_pushf:
    sti
    push dword 2
    popfd
    pushfd
    pop eax
    and eax, 0x200
    ret

lar_data:
    mov ecx, KERNEL_DATA
    jmp lar_common
lar_data1:
    mov ecx, KERNEL_DATA + 1
    jmp lar_common
lar_code:
    mov ecx, CONFORMING
    jmp lar_common
lar_user:
    mov ecx, USER_DATA
lar_common:                     ; 0 where it refuses; bits 19:16 are undefined
    mov eax, 0
    lar eax, ecx
    jz .loaded
    xor eax, eax
.loaded:
    and eax, 0x00f0ff00
    ret
lsl_data:
    mov ecx, KERNEL_DATA
    jmp lsl_common
lsl_data1:
    mov ecx, KERNEL_DATA + 1
    jmp lsl_common
lsl_small:
    mov ecx, SMALL_DATA
lsl_common:
    lsl eax, ecx
    jz .loaded
    xor eax, eax
.loaded:
    ret
verr_data:
    mov ecx, KERNEL_DATA
    jmp verr_common
verr_data1:
    mov ecx, KERNEL_DATA + 1
verr_common:
    xor eax, eax
    verr cx
    setz al
    ret
verw_data:
    mov ecx, KERNEL_DATA
    jmp verw_common
verw_data1:
    mov ecx, KERNEL_DATA + 1
    jmp verw_common
verw_small:
    mov ecx, SMALL_DATA
verw_common:
    xor eax, eax
    verw cx
    setz al
    ret

pop_es:
    push dword KERNEL_DATA
    pop es
    xor eax, eax
    mov ax, es
    ret
pop_ss:
    push dword KERNEL_DATA
    pop ss
    xor eax, eax
    mov ax, ss
    ret
pop_ds1:
    push dword KERNEL_DATA + 1
    pop ds
    xor eax, eax
    mov ax, ds
    mov dx, KERNEL_DATA
    mov ds, dx
    ret
push_cs:
    push cs
    pop eax
    and eax, 0xffff
    ret
push_ss:
    push ss
    pop eax
    and eax, 0xffff
    ret

call_far:                       ; the CS that it pushes
    call KERNEL_CODE:.target
    ret
.target:
    mov eax, [esp + 4]
    and eax, 0xffff
    retf
call_gate:                      ; the CS on the other side
    call GATE:0
    mov eax, edx
    ret
call_far1:
    call KERNEL_CODE + 1:.target
    ret
.target:
    mov eax, [esp + 4]
    and eax, 0xffff
    retf
jmp_far:
    jmp KERNEL_CODE:jmp_target
jmp_far1:
    jmp KERNEL_CODE + 1:jmp_target
jmp_target:
    xor eax, eax
    mov ax, cs
    ret
int_cs:                         ; the CS that an interrupt pushes
    int 0x21
    mov eax, [seen_cs]
    and eax, 0xffff
    ret
int_beyond:                     ; a vector beyond the limit of the IDT
    xor eax, eax
    int 0x90
    ret
retf_test:
    push dword KERNEL_CODE
    push dword jmp_target
    retf
retf1:
    push dword KERNEL_DATA + 1
    push dword KERNEL_TOP - 0x1000
    push dword KERNEL_CODE + 1
    push dword .target
    retf
.target:
    xor eax, eax
    mov ax, cs
    mov esp, [resume_esp]
    jmp [resume]
iret_test:
    push dword 2
    push dword KERNEL_CODE
    push dword jmp_target
    iret
iret1:
    push dword KERNEL_DATA + 1
    push dword KERNEL_TOP - 0x1000
    push dword 2
    push dword KERNEL_CODE + 1
    push dword retf1.target
    iret

mov_from_cs:
    xor eax, eax
    mov ax, cs
    ret
mov_from_ss:
    xor eax, eax
    mov ax, ss
    ret
mov_from_ds:
    xor eax, eax
    mov ax, ds
    ret
mov_to_ss:
    mov ax, KERNEL_DATA
    mov ss, ax
    xor eax, eax
    mov ax, ss
    ret
mov_to_ds1:
    mov ax, KERNEL_DATA + 1
    mov ds, ax
    xor eax, eax
    mov ax, ds
    mov dx, KERNEL_DATA
    mov ds, dx
    ret
mov_to_es_absent:
    mov ax, ABSENT
    mov es, ax
    ret

    align 4
tests:
    dd sgdt_base, n_sgdt_base, 0
    dd sgdt_limit, n_sgdt_limit, 0x57
    dd sidt_base, n_sidt_base, 0
    dd sidt_limit, n_sidt_limit, 0x407
    dd sldt_test, n_sldt, LOCAL
    dd str_test, n_str, TASK
    dd smsw_test, n_smsw, 0x3b
    dd pushf_sti, n_pushf_sti, 0x200
    dd pushf_cli, n_pushf_cli, 0
    dd pushf_iopl, n_pushf_iopl, 0x3000
    dd popf_sets, n_popf_sets, 0x200
    dd popf_clears, n_popf_clears, 0
    dd popf_pushf, n_popf_pushf, 0
    dd lar_data, n_lar_data, 0x00c09300
    dd lar_data1, n_lar_data1, 0
    dd lar_code, n_lar_code, 0x00c09f00
    dd lar_user, n_lar_user, 0x00c0f300
    dd lsl_data, n_lsl_data, 0xffffffff
    dd lsl_data1, n_lsl_data1, 0
    dd lsl_small, n_lsl_small, 0x1234
    dd verr_data, n_verr_data, 1
    dd verr_data1, n_verr_data1, 0
    dd verw_data, n_verw_data, 1
    dd verw_data1, n_verw_data1, 0
    dd verw_small, n_verw_small, 0
    dd pop_es, n_pop_es, KERNEL_DATA
    dd pop_ss, n_pop_ss, KERNEL_DATA
    dd pop_ds1, n_pop_ds1, 0xfa0d0010
    dd push_cs, n_push_cs, KERNEL_CODE
    dd push_ss, n_push_ss, KERNEL_DATA
    dd call_far, n_call_far, KERNEL_CODE
    dd call_gate, n_call_gate, KERNEL_CODE
    dd call_far1, n_call_far1, 0xfa0d0008
    dd jmp_far, n_jmp_far, KERNEL_CODE
    dd jmp_far1, n_jmp_far1, 0xfa0d0008
    dd int_cs, n_int_cs, KERNEL_CODE
    dd int_beyond, n_int_beyond, 0xfa0d0482
    dd retf_test, n_retf, KERNEL_CODE
    dd retf1, n_retf1, 0xfa0d0008
    dd iret_test, n_iret, KERNEL_CODE
    dd iret1, n_iret1, 0xfa0d0008
    dd mov_from_cs, n_from_cs, KERNEL_CODE
    dd mov_from_ss, n_from_ss, KERNEL_DATA
    dd mov_from_ds, n_from_ds, KERNEL_DATA
    dd mov_to_ss, n_to_ss, KERNEL_DATA
    dd mov_to_ds1, n_to_ds1, 0xfa0d0010
    dd mov_to_es_absent, n_to_es, 0xfa0b0050
    dd 0

n_sgdt_base:   db "SGDT base", 0
n_sgdt_limit:  db "SGDT limit", 0
n_sidt_base:   db "SIDT base", 0
n_sidt_limit:  db "SIDT limit", 0
n_sldt:        db "SLDT", 0
n_str:         db "STR", 0
n_smsw:        db "SMSW", 0
n_pushf_sti:   db "PUSHF after STI", 0
n_pushf_cli:   db "PUSHF after CLI", 0
n_pushf_iopl:  db "PUSHF IOPL", 0
n_popf_sets:   db "POPF sets IF", 0
n_popf_clears: db "POPF clears IF", 0
n_popf_pushf:  db "POPF seen by PUSHF", 0
n_lar_data:    db "LAR data", 0
n_lar_data1:   db "LAR data RPL 1", 0
n_lar_code:    db "LAR conforming", 0
n_lar_user:    db "LAR user", 0
n_lsl_data:    db "LSL data", 0
n_lsl_data1:   db "LSL data RPL 1", 0
n_lsl_small:   db "LSL small", 0
n_verr_data:   db "VERR data", 0
n_verr_data1:  db "VERR data RPL 1", 0
n_verw_data:   db "VERW data", 0
n_verw_data1:  db "VERW data RPL 1", 0
n_verw_small:  db "VERW read-only", 0
n_pop_es:      db "POP ES", 0
n_pop_ss:      db "POP SS", 0
n_pop_ds1:     db "POP DS RPL 1", 0
n_push_cs:     db "PUSH CS", 0
n_push_ss:     db "PUSH SS", 0
n_call_far:    db "CALL far", 0
n_call_gate:   db "CALL gate", 0
n_call_far1:   db "CALL far RPL 1", 0
n_jmp_far:     db "JMP far", 0
n_jmp_far1:    db "JMP far RPL 1", 0
n_int_cs:      db "INT n", 0
n_int_beyond:  db "INT n beyond the IDT", 0
n_retf:        db "RETF", 0
n_retf1:       db "RETF RPL 1", 0
n_iret:        db "IRET", 0
n_iret1:       db "IRET RPL 1", 0
n_from_cs:     db "MOV from CS", 0
n_from_ss:     db "MOV from SS", 0
n_from_ds:     db "MOV from DS", 0
n_to_ss:       db "MOV to SS", 0
n_to_ds1:      db "MOV to DS RPL 1", 0
n_to_es:       db "MOV to ES absent", 0
image_end:
`,
  expected: `SGDT base 00000000 ok
SGDT limit 00000057 ok
SIDT base 00000000 ok
SIDT limit 00000407 ok
SLDT 00000040 ok
STR 00000028 ok
SMSW 0000003b ok
PUSHF after STI 00000200 ok
PUSHF after CLI 00000000 ok
PUSHF IOPL 00003000 ok
POPF sets IF 00000200 ok
POPF clears IF 00000000 ok
POPF seen by PUSHF 00000000 ok
LAR data 00c09300 ok
LAR data RPL 1 00000000 ok
LAR conforming 00c09f00 ok
LAR user 00c0f300 ok
LSL data ffffffff ok
LSL data RPL 1 00000000 ok
LSL small 00001234 ok
VERR data 00000001 ok
VERR data RPL 1 00000000 ok
VERW data 00000001 ok
VERW data RPL 1 00000000 ok
VERW read-only 00000000 ok
POP ES 00000010 ok
POP SS 00000010 ok
POP DS RPL 1 FAULT 0d/0010 ok
PUSH CS 00000008 ok
PUSH SS 00000010 ok
CALL far 00000008 ok
CALL gate 00000008 ok
CALL far RPL 1 FAULT 0d/0008 ok
JMP far 00000008 ok
JMP far RPL 1 FAULT 0d/0008 ok
INT n 00000008 ok
INT n beyond the IDT FAULT 0d/0482 ok
RETF 00000008 ok
RETF RPL 1 FAULT 0d/0008 ok
IRET 00000008 ok
IRET RPL 1 FAULT 0d/0008 ok
MOV from CS 00000008 ok
MOV from SS 00000010 ok
MOV from DS 00000010 ok
MOV to SS 00000010 ok
MOV to DS RPL 1 FAULT 0d/0010 ok
MOV to ES absent FAULT 0b/0050 ok
wrong 0
`,
  memoryMiB: 16,
  monitors: everyMonitor,
  cannot: {},
  deviations: { 'trap-and-emulate': trapAndEmulate },
};
