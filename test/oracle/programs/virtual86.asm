; Virtual-8086 mode: entered by IRET, left by exceptions and interrupts; what each sensitive instruction does with IOPL 0 and 3.
%include "kernel32.inc"

PLACE equ 0x8000                ; 16-bit code runs here, CS = 0x800

%macro IN_V86 2                 ; label, EFLAGS besides VM
    mov [RESUME_SP], esp
    mov dword [RESUME], %%after
    mov dword [WATCH], %1 - code16
    push dword 0x4444           ; GS FS DS ES
    push dword 0x3333
    push dword 0x2222
    push dword 0x1111
    push dword 0x900            ; SS:SP
    push dword 0x1000
    push dword 0x20002 | %2
    push dword 0x800
    push dword %1 - code16
    iretd
%%after:
    call settle
%endmacro
%macro BOTH 1                   ; with IOPL 0 and 3
    IN_V86 %1, 0
    IN_V86 %1, 0x3000
%endmacro

main:
    mov esi, code16
    mov edi, PLACE
    mov ecx, code16_end - code16
    rep movsb
    mov dword [0x60 * 4], 0x09000000
    TAG 'hlt '
    BOTH v_hlt
    TAG 'cli '
    BOTH v_cli
    TAG 'sti '
    BOTH v_sti
    TAG 'pshf'
    BOTH v_pushf
    TAG 'popf'
    BOTH v_popf
    TAG 'int '
    BOTH v_int
    TAG 'int3'
    BOTH v_int3
    TAG 'into'
    BOTH v_into
    TAG 'iret'
    BOTH v_iret
    TAG 'in  '
    IN_V86 v_in, 0x3000
    mov word [TSS + 102], 0x68  ; an I/O bitmap: ports 40-47 are refused
    mov byte [gdt + TASK], 0xff
    mov byte [TSS + 0x68 + 8], 0xff
    and byte [gdt + TASK + 5], 0xfd
    mov ax, TASK
    ltr ax
    IN_V86 v_in, 0x3000
    IN_V86 v_in_word, 0
    IN_V86 v_in_other, 0
    TAG 'cr0 '
    BOTH v_cr0
    TAG 'clts'
    BOTH v_clts
    TAG 'smsw'
    BOTH v_smsw
    TAG 'lgdt'
    BOTH v_lgdt
    TAG 'lldt'
    BOTH v_lldt
    BOTH v_str
    BOTH v_lar
    BOTH v_arpl
    BOTH v_verr
    TAG 'seg '
    BOTH v_segments
    PUT eax
    PUT ebx
    PUT ecx
    PUT edx
    TAG 'far '
    BOTH v_far
    PUT eax
    PUT ebx
    TAG 'mem '
    BOTH v_data
    PUT eax
    PUT ebx
    TAG 'bnd '
    BOTH v_bound
    BOTH v_ud
    TAG 'ss0 '
    mov dword [HOOKS + 0x80 * 4], .show
    IN_V86 v_int80, 0x3000
    ret
.show:                          ; the whole frame
    PUT [ebp + FRAME_ES]
    PUT [ebp + FRAME_DS]
    PUT [ebp + FRAME_FS]
    PUT [ebp + FRAME_GS]
    mov eax, ds
    PUT eax
    mov eax, es
    PUT eax
    mov eax, fs                 ; null
    PUT eax
    mov eax, gs
    PUT eax
    jmp record

    bits 16
code16:
v_hlt: hlt
v_cli: cli
    pushf
    int3
v_sti: sti
    pushf
    int3
v_pushf: pushf
    pop ax
    int3
v_popf:
    push dword 0x3fd7 - 0x100
    popfd
    int3
v_int: int 0x80
v_int80: int 0x80
v_int3: int3
v_into:
    mov al, 0x7f
    add al, 1
    into
    int3
v_iret:
    push word 0x0ed7
    push word 0x800
    push word v_iret2 - code16
    iret
v_iret2:
    int3
v_in: in al, 0x41
    int3
v_in_word: in ax, 0x3f
    int3
v_in_other: in al, 0x80
    int3
v_cr0: mov eax, cr0
v_clts: clts
v_smsw:
    smsw ax
    int3
v_lgdt: lgdt [0]
v_lldt: lldt ax
v_str: str ax
v_lar: lar ax, bx
v_arpl: arpl ax, bx
v_verr: verr ax
v_segments:
    mov ax, 0x5678
    mov ds, ax
    mov es, ax
    push fs
    pop ds
    push gs
    pop es
    push cs
    pop fs
    xor eax, eax
    xor ebx, ebx
    xor ecx, ecx
    xor edx, edx
    mov ax, ds
    mov bx, es
    mov cx, fs
    mov dx, ss
    lgs si, [cs:v_pointer - code16]
    lds si, [cs:v_pointer - code16]
    les si, [cs:v_pointer - code16]
    int3
v_pointer:
    dw 0x1357, 0x2468
v_far:
    xor eax, eax
    xor ebx, ebx
    jmp 0x7ff:v_far1 - code16 + 16
v_far1:
    mov ax, cs
    call 0x800:v_far2 - code16
    jmp far [cs:v_far_pointer - code16 + 16]
v_far2:
    mov bx, cs
    retf
v_far3:
    int3
v_far_pointer:
    dw v_far3 - code16, 0x800
v_data:
    mov ax, 0x800
    mov ds, ax
    mov eax, [v_pointer - code16]
    mov ebx, [ss:0xffc]
    int3
v_bound:
    mov ax, 0x2468
    inc ax
    bound ax, [cs:v_pointer - code16]
v_ud: ud2
code16_end:
    bits 32

image_end:
