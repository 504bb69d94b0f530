; Far jumps, calls and returns, directly and through gates, within a ring and between rings, in 32-bit protected mode.
%include "kernel32.inc"

%macro GATE_AT 2                ; selector, target
    mov eax, %2
    mov [gdt + %1], ax
    shr eax, 16
    mov [gdt + %1 + 6], ax
%endmacro
%macro PUT_SP 0                 ; stack pointer relative to EBP
    mov eax, ebp
    sub eax, esp
    PUT eax
%endmacro
%macro FAR 2                    ; far pointer in SCRATCH
    mov dword [SCRATCH], %2
    mov word [SCRATCH + 4], %1
%endmacro

main:
    mov ebp, esp
    GATE_AT GATE, .gate
    GATE_AT GATE_PARAM, .gate_param
    GATE_AT GATE_ABSENT, .gate
    mov word [gdt + GATE16], .gate16 - 0x100000

    TAG 'jmp '
    jmp CODE:.direct
    PUT 0
.direct:
    FAR CODE, .indirect
    jmp far [SCRATCH]
    PUT 0
.indirect:
    jmp CONFORMING:.conforming
.conforming:
    mov eax, cs
    PUT eax
    jmp GATE:0x55555555
.gate_jump:
    TAG 'jerr'
    TRY jmp 0:0
    TRY jmp DATA:0
    TRY jmp USER_CODE:0
    TRY jmp CODE + 3:.indirect
    TRY jmp CODE_ABSENT:0
    TRY jmp CONF_USER:0
    TRY jmp GATE_ABSENT:0
    TRY jmp 0xfff8:0
    TRY jmp 0x0c:0
    TRY jmp LOCAL:0
    TRY jmp BUSY_TSS:0
    TRY jmp RESERVED:0
    FAR ABSENT, 0
    TRY jmp far [SCRATCH]
    TRY db 0xff, 0xe8           ; a register
    TRY db 0xff, 0xd8

    TAG 'call'
    call CODE:.called
    FAR CODE, .called
    call far [SCRATCH]
    call GATE:0
    PUT ebx
    push dword 0x11112222
    push dword 0x33334444
    call GATE_PARAM:0           ; no copying within a ring
    add esp, 8
    PUT_SP
    FAR GATE, 0
    call far [SCRATCH]
    call CONFORMING:.called
    FAR CODE, .called_pop
    call far [SCRATCH]
    PUT_SP
    TRY call 0:0
    TRY call DATA:0
    TRY call USER_CODE:0
    TRY call CODE_ABSENT:0
    TRY call GATE_ABSENT:0
    TRY call 0xfff8:0

    TAG '16  '                  ; 16-bit code
    mov word [SCRATCH], .sixteen - 0x100000
    mov word [SCRATCH + 2], CODE16
    o16 jmp far [SCRATCH]
.from_sixteen:
    PUT ebx
    PUT eax
    PUT_SP
    PUT eax

    TAG 'ret '
    push dword CODE
    push dword .returned
    retf
.returned:
    PUT_SP
    push dword 0x1
    push dword 0x2
    push dword CODE
    push dword .returned2
    retf 8
.returned2:
    PUT_SP
    push dword 0
    push dword 0
    TRY retf
    mov esp, ebp
    push dword DATA
    push dword 0
    TRY retf
    PUT_SP
    push dword CODE_ABSENT
    push dword 0
    TRY retf
    push dword 0xfffb
    push dword 0
    TRY retf
    push dword USER_DATA
    push dword USER_TOP
    push dword CODE_ABSENT + 3
    push dword 0
    TRY retf
    push dword DATA             ; stack of the wrong ring
    push dword USER_TOP
    push dword USER_CODE
    push dword 0
    TRY retf
    push dword 0
    push dword USER_TOP
    push dword USER_CODE
    push dword 0
    TRY retf
    mov esp, ebp

    TAG 'ring'
    mov [RESUME_SP], esp
    mov dword [RESUME], .after_ring3
    mov dword [WATCH], .ring3
    mov ax, DATA                ; becomes null on the way out
    mov es, ax
    mov ax, USER_DATA
    mov fs, ax
    push dword USER_DATA
    push dword USER_TOP
    push dword USER_CODE
    push dword .ring3
    retf
.after_ring3:
    call settle
    mov esp, ebp
    TRY_USER .user_gate
    TRY_USER .user_gate_param
    TRY_USER .user_gate16
    TRY_USER .user_absent
    TRY_USER .user_jump_gate
    TRY_USER .user_conforming
    TRY_USER .user_to_kernel
    TRY_USER .user_retf_inner
    TRY_USER .user_far
    TRY_USER .user_dpl
    ret

.called:
    mov eax, [esp + 4]
    PUT eax
    retf
.called_pop:
    PUT_SP
    retf
.gate:
    mov ebx, cs
    cmp esp, ebp                ; came here by JMP: nothing pushed
    je .gate_jump
    PUT ebx
    PUT_SP
    retf
.gate_param:
    PUT [esp + 8]
    PUT [esp + 12]
    mov ebx, cs
    PUT ebx
    mov eax, [esp]
    sub eax, .user_gate_param
    retf

    bits 16
.sixteen:
    mov eax, 0x12345
    mov ebx, 0
    call GATE16:0               ; pushes 16-bit words
    call CODE16:.near16 - 0x100000
    jmp dword CODE:.from_sixteen
.gate16:
    mov bx, cs
.near16:
    inc eax
    retf
    bits 32

.ring3:
    mov eax, es                 ; nulled
    PUT eax
    mov eax, fs
    PUT eax
    mov eax, cs
    PUT eax
    mov eax, ss
    PUT eax
    PUT esp
    int 0x80
.user_gate:
    call GATE:0
    PUT ebx
    PUT esp
    mov eax, cs
    PUT eax
    mov eax, ss
    PUT eax
    int 0x80
.user_gate_param:
    push dword 0xaaaa5555
    push dword 0x5555aaaa
    call GATE_PARAM_USER:0
    PUT eax
    PUT esp
    int 0x80
.user_gate16:
    int 0x80
.user_absent:
    call GATE_ABSENT:0
.user_jump_gate:
    jmp GATE:0
.user_conforming:
    call CONFORMING:.user_called
    PUT eax
    jmp CONF_USER:.conf_user
.user_called:
    mov eax, cs
    retf
.conf_user:
    mov eax, cs
    PUT eax
    int 0x80
.user_to_kernel:
    jmp CODE:.called
.user_retf_inner:
    push dword CODE
    push dword .called
    retf
.user_far:
    call USER_CODE:.user_called
    PUT eax
    call USER_CODE - 3:.user_called
    int 0x80
.user_dpl:
    call TASK_GATE_0:0
GATE_PARAM_USER equ GATE_PARAM
TASK_GATE_0 equ RESERVED

image_end:
