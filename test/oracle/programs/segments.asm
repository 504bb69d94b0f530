; Segment registers in protected mode: loads, stores, checks, and what LAR, LSL, VERR, VERW and ARPL say about descriptors.
%include "kernel32.inc"

; Selectors tried one after another
    align 4
selectors:
    dw 0, 3, CODE, DATA, USER_CODE, USER_DATA, TASK, LOCAL, READ_ONLY, CONFORMING, EXECUTE, ABSENT, EXPAND_DOWN, GATE, TASK_GATE, TASK_OTHER
    dw DATA16, CODE16, CODE_ABSENT, RING1_DATA, RING1_CODE, TASK_16, GATE16, GATE_ABSENT, BUSY_TSS, CONF_USER, LOCAL_ABSENT, RESERVED, DATA + 3, CODE + 3, GDT_LIMIT + 1, 0xfff8
    dw 4, 0x0c, 0x14, 0x1c, 0x24
selectors_end:

%macro EACH 2+                  ; name, instruction on AX
    TAG %1
    mov esi, selectors
%%next:
    movzx eax, word [esi]
    push esi
    TRY %2
    mov bx, DATA                ; loads may have changed these
    mov ds, bx
    pop esi
    add esi, 2
    cmp esi, selectors_end
    jb %%next
    mov bx, DATA
    mov es, bx
    mov fs, bx
    mov gs, bx
%endmacro

; Bits 19:16 of what LAR gives are undefined.
%macro ASK 2+                   ; name, instruction from AX to EDX
    TAG %1
    mov esi, selectors
%%next:
    movzx eax, word [esi]
    mov edx, 0xabcd1234
    %2
    lahf
    shr eax, 14                 ; ZF
    and eax, 1
    PUT eax
    and edx, KEEP
    PUT edx
    add esi, 2
    cmp esi, selectors_end
    jb %%next
%endmacro

main:
    mov dword [LDT + 8], 0x0000ffff ; an LDT with data, and code in it
    mov dword [LDT + 12], 0x00cf9300
    mov dword [LDT + 16], 0x0000ffff
    mov dword [LDT + 20], 0x00cf9a00
    mov dword [LDT + 24], 0x00000010
    mov dword [LDT + 28], 0x0040f100

    TAG 'sldt'
    mov eax, 0x55555555
    sldt ax
    PUT eax
    mov eax, 0x55555555
    sldt eax
    PUT eax
    mov ax, LOCAL
    TRY lldt ax
    sldt [SCRATCH]
    PUT [SCRATCH]
    TAG 'str '
    mov eax, 0x55555555
    str ax
    PUT eax
    str eax
    PUT eax
    str [SCRATCH]
    PUT [SCRATCH]
    PUT [gdt + TASK + 4]        ; busy now

    EACH 'ds  ', mov ds, ax
    EACH 'es  ', mov es, eax
    EACH 'fs  ', mov fs, ax
    EACH 'gs  ', mov gs, ax
    ; the accessed bits that this left
    PUT [gdt + EXECUTE + 4]
    PUT [gdt + READ_ONLY + 4]
    PUT [LDT + 20]

    TAG 'ss  '
    mov esi, selectors
.ss:
    movzx eax, word [esi]
    mov ebp, esp
    cmp ax, EXPAND_DOWN
    je .skip
    cmp ax, DATA16
    je .skip
    TRY mov ss, ax
    mov bx, DATA
    mov ss, bx
.skip:
    mov esp, ebp
    add esi, 2
    cmp esi, selectors_end
    jb .ss

%define KEEP 0xfff0ffff
    ASK 'lar ', lar edx, ax
    ASK 'larw', lar dx, ax
%define KEEP 0xffffffff
    ASK 'lsl ', lsl edx, ax
    ASK 'lslw', lsl dx, ax
    ASK 'verr', verr ax
    ASK 'verw', verw ax

    TAG 'arpl'
    mov ebx, 0
.arpl:
    mov eax, ebx
    and eax, 3
    or eax, 0xff00
    mov ecx, ebx
    shr ecx, 2
    or ecx, 0x1230
    mov edx, eax
    arpl dx, cx
    lahf
    PUT edx
    shr eax, 14
    and eax, 1
    PUT eax
    inc ebx
    cmp ebx, 16
    jne .arpl
    mov word [SCRATCH], 0x11
    mov ax, 0x13
    arpl [SCRATCH], ax
    PUT [SCRATCH]

    TAG 'lldt'
    mov ax, 0
    TRY lldt ax
    mov ax, DATA
    TRY lldt ax
    mov ax, LOCAL_ABSENT
    TRY lldt ax
    mov ax, 0xfff0
    TRY lldt ax
    mov ax, 0x0c
    TRY lldt ax
    mov word [SCRATCH], LOCAL
    TRY lldt [SCRATCH]
    TAG 'ltr '
    mov ax, TASK
    TRY ltr ax
    mov ax, BUSY_TSS
    TRY ltr ax
    mov ax, DATA
    TRY ltr ax
    mov ax, TASK_16
    TRY ltr ax
    str eax
    PUT eax
    PUT [gdt + TASK_16 + 4]
    mov word [SCRATCH], TASK_OTHER
    TRY ltr [SCRATCH]
    and byte [gdt + TASK + 5], 0xfd
    mov ax, TASK
    TRY ltr ax

    TAG 'sgdt'
    mov dword [SCRATCH], 0x77777777
    mov dword [SCRATCH + 4], 0x77777777
    sgdt [SCRATCH]
    movzx eax, word [SCRATCH]
    PUT eax
    mov eax, [SCRATCH + 2]
    sub eax, gdt
    PUT eax
    movzx eax, word [SCRATCH + 6]
    PUT eax
    TAG 'sidt'
    mov dword [SCRATCH], 0x77777777
    mov dword [SCRATCH + 4], 0x77777777
    sidt [SCRATCH]
    PUT [SCRATCH]
    PUT [SCRATCH + 4]
    TAG 'lidt'
    mov word [SCRATCH + 8], 0x123
    mov dword [SCRATCH + 10], 0x12345678
    o16 lidt [SCRATCH + 8]
    sidt [SCRATCH]
    PUT [SCRATCH]
    PUT [SCRATCH + 4]
    lidt [SCRATCH + 8]
    sidt [SCRATCH]
    PUT [SCRATCH]
    PUT [SCRATCH + 4]
    lidt [idt_pointer]
    TAG 'lgdt'
    mov ax, [gdt_pointer]
    mov [SCRATCH + 8], ax
    mov eax, [gdt_pointer + 2]
    mov [SCRATCH + 10], eax
    mov word [SCRATCH + 8], 0x57
    lgdt [SCRATCH + 8]
    sgdt [SCRATCH]
    movzx eax, word [SCRATCH]
    PUT eax
    mov ax, GATE                ; now beyond the limit
    lsl edx, eax
    PUT_FLAGS
    TRY mov es, ax
    lgdt [gdt_pointer]

    TAG 'mov '
    mov eax, 0x11111111
    mov ax, ds
    PUT eax
    mov eax, ds
    PUT eax
    mov dword [SCRATCH], 0x22222222
    mov [SCRATCH], ss
    PUT [SCRATCH]
    mov word [SCRATCH], USER_DATA
    mov fs, [SCRATCH]
    mov ebx, fs
    PUT ebx
    TRY db 0x8e, 0xc8           ; MOV CS
    TRY db 0x8e, 0xf0           ; no such register
    TRY db 0x8c, 0xf0

    TAG 'push'
    mov eax, USER_DATA
    mov gs, ax
    mov dword [esp - 4], 0x99999999
    push gs
    pop eax
    and eax, 0xffff             ; the upper half depends on the model
    PUT eax
    push fs
    pop eax
    and eax, 0xffff
    PUT eax
    push cs
    pop eax
    and eax, 0xffff
    PUT eax
    push ss
    push ds
    push es
    pop eax
    pop ebx
    pop ecx
    and eax, 0xffff
    PUT eax
    and ebx, 0xffff
    PUT ebx
    and ecx, 0xffff
    PUT ecx
    o16 push es
    o16 push cs
    o16 push fs
    o16 push gs
    pop eax
    pop ebx
    PUT eax
    PUT ebx
    mov eax, esp
    push dword DATA
    pop es
    push dword RING1_DATA
    TRY pop es
    push dword ABSENT
    TRY pop ds
    pop edx
    PUT edx
    push dword 0
    TRY pop fs
    push dword ABSENT
    TRY pop gs
    pop edx
    push dword USER_DATA
    TRY pop ss
    pop edx
    push dword 0
    TRY pop ss
    pop edx
    push dword ABSENT
    TRY pop ss
    pop edx
    push dword DATA
    TRY pop ss
    push dword DATA
    pop ds
    o16 push ds
    o16 pop ds
    o16 push fs
    o16 pop fs
    mov eax, fs
    PUT eax

    TAG 'lseg'
    mov dword [SCRATCH], 0x12345678
    mov word [SCRATCH + 4], USER_DATA
    TRY les eax, [SCRATCH]
    PUT eax
    mov ebx, es
    PUT ebx
    TRY lfs ecx, [SCRATCH]
    PUT ecx
    TRY lgs edx, [SCRATCH]
    PUT edx
    mov ebx, gs
    PUT ebx
    TRY lds esi, [SCRATCH]
    PUT esi
    mov ebx, ds
    PUT ebx
    mov ax, DATA
    mov ds, ax
    mov dword [SCRATCH + 8], 0x00100000 + 0x4444
    mov eax, 0x77777777
    TRY o16 les ax, [SCRATCH + 8]
    PUT eax
    TRY o16 lfs ax, [SCRATCH + 8]
    TRY o16 lgs ax, [SCRATCH + 8]
    TRY lss ebp, [SCRATCH]
    mov ebp, 0x66666666
    mov word [SCRATCH + 4], DATA
    mov ebx, esp
    TRY lss ebp, [SCRATCH]
    PUT ebp
    mov word [SCRATCH + 4], ABSENT
    mov eax, 0x66666666
    TRY les eax, [SCRATCH]
    PUT eax
    TRY db 0xc5, 0xc0           ; a register operand

    TAG 'ring'                  ; the same from ring 3
    TRY_USER .user_store
    TRY_USER .user_lldt
    TRY_USER .user_ltr
    TRY_USER .user_lgdt
    TRY_USER .user_lidt
    TRY_USER .user_data
    TRY_USER .user_lar
    PUT edx
    PUT ecx
    TRY_USER .user_conforming
    ret
.user_store:
    sldt eax
    PUT eax
    str eax
    PUT eax
    sgdt [SCRATCH]
    movzx eax, word [SCRATCH]
    PUT eax
    sidt [SCRATCH]
    PUT [SCRATCH]
    smsw eax
    and eax, 0xffff
    PUT eax
    int 0x80
.user_lldt:
    lldt ax
.user_ltr:
    ltr ax
.user_lgdt:
    lgdt [SCRATCH]
.user_lidt:
    lidt [SCRATCH]
.user_data:
    mov ax, DATA
    mov es, ax
.user_lar:
    mov ax, DATA
    mov edx, 1
    lar edx, ax
    PUT_FLAGS
    mov ax, USER_DATA
    lsl ecx, ax
    PUT_FLAGS
    mov ax, CONFORMING
    verr ax
    PUT_FLAGS
    mov ax, DATA
    verr ax
    PUT_FLAGS
    int 0x80
.user_conforming:
    mov ax, CONFORMING
    mov fs, ax
    mov eax, fs
    PUT eax
    mov ax, EXECUTE
    mov fs, ax

image_end:
