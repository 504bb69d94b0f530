; Hardware task switches in 32-bit protected mode.
%include "kernel32.inc"

OTHER equ TSS_OTHER
SMALL equ TSS_THIRD             ; the 16-bit TSS
THIRD equ 0x20dc00              ; 32-bit, the descriptor is BUSY_TSS

%macro SET 2                    ; field of OTHER, value
    mov dword [OTHER + %1], %2
%endmacro
%macro OTHER_TASK 1             ; makes the other task ready to start at a label
    SET 28, 0                   ; CR3
    SET 32, %1
    SET 36, 2                   ; EFLAGS
    SET 40, 0xa0a0a0a0
    SET 44, 0xc0c0c0c0
    SET 48, 0xd0d0d0d0
    SET 52, 0xb0b0b0b0
    SET 56, 0x306000            ; ESP
    SET 60, 0x50505050
    SET 64, 0x51515151
    SET 68, 0x52525252
    SET 72, DATA
    SET 76, CODE
    SET 80, DATA
    SET 84, DATA
    SET 88, USER_DATA
    SET 92, 0
    SET 96, LOCAL
    SET 100, 0x680000
    SET 4, ENTRY_TOP
    SET 8, DATA
    mov byte [gdt + TASK_OTHER + 5], 0x89
%endmacro
%macro SHOW 0                   ; the visible state of a task
    PUT eax
    PUT ecx
    PUT edx
    PUT ebx
    PUT esp
    PUT ebp
    PUT esi
    PUT edi
    PUT_FLAGS
    str eax
    PUT eax
    sldt eax
    PUT eax
    mov eax, fs
    PUT eax
    mov eax, gs
    PUT eax
    mov eax, cr0
    and eax, 8                  ; TS
    PUT eax
    clts
%endmacro
%macro DESCRIPTORS 0
    PUT [gdt + TASK + 4]
    PUT [gdt + TASK_OTHER + 4]
    PUT [OTHER]
    PUT [TSS]
%endmacro

main:
    mov eax, .double_fault
    TAG 'jmp '
    OTHER_TASK .jumped
    jmp TASK_OTHER:0x12345
    TAG 'back'
    DESCRIPTORS
    PUT_FLAGS
    TAG 'call'
    OTHER_TASK .called
    mov eax, 0x77777777
    call TASK_OTHER:0
    PUT eax
    DESCRIPTORS
    PUT_FLAGS
    PUT [OTHER + 36]
    TAG 'gate'
    OTHER_TASK .called
    call TASK_GATE:0
    DESCRIPTORS
    OTHER_TASK .called
    mov dword [SCRATCH], 0
    mov word [SCRATCH + 4], TASK_GATE
    call far [SCRATCH]
    TAG 'int '
    OTHER_TASK .called
    mov dword [IDT + 0x81 * 8], TASK_OTHER << 16
    mov dword [IDT + 0x81 * 8 + 4], 0xe500
    int 0x81
    DESCRIPTORS
    PUT_FLAGS
    OTHER_TASK .called
    TRY_USER .user_int
    TAG 'gp  '                  ; an exception with an error code through a task gate
    OTHER_TASK .with_error
    mov eax, [IDT + 13 * 8]
    mov ebx, [IDT + 13 * 8 + 4]
    push eax
    push ebx
    mov dword [IDT + 13 * 8], TASK_OTHER << 16
    mov dword [IDT + 13 * 8 + 4], 0x8500
    mov dword [.resume_at], .after_gp
    mov ax, 0xfff8
.faulting:
    mov es, ax
.after_gp:
    pop dword [IDT + 13 * 8 + 4]
    pop dword [IDT + 13 * 8]
    DESCRIPTORS
    TAG '16  '
    mov edi, SMALL
    mov ecx, 11
    xor eax, eax
    rep stosd
    mov word [SMALL + 14], .small - 0x100000
    mov word [SMALL + 16], 2
    mov word [SMALL + 18], 0xa1a1
    mov word [SMALL + 20], 0xc1c1
    mov word [SMALL + 26], 0x6000
    mov word [SMALL + 34], DATA
    mov word [SMALL + 36], CODE16
    mov word [SMALL + 38], DATA16
    mov word [SMALL + 40], DATA
    mov dword [gdt + DATA16], 0x0000ffff
    mov dword [gdt + DATA16 + 4], 0x00009330 ; base 300000
    call TASK_16:0
    mov ax, DATA
    mov fs, ax                  ; not in a 16-bit TSS
    mov gs, ax
    PUT [SMALL]
    PUT [SMALL + 14]
    PUT [SMALL + 18]
    PUT [SMALL + 26]
    PUT [gdt + TASK_16 + 4]
    TAG 'err '
    OTHER_TASK .called
    mov byte [gdt + TASK_OTHER + 5], 0x8b
    TRY call TASK_OTHER:0
    mov byte [gdt + TASK_OTHER + 5], 0x09
    TRY call TASK_OTHER:0
    TRY jmp TASK_GATE:0
    mov byte [gdt + TASK_OTHER + 5], 0x89
    mov byte [gdt + TASK_OTHER], 0x66
    TRY call TASK_OTHER:0
    mov byte [gdt + TASK_OTHER], 0x67
    PUT [gdt + TASK_OTHER + 4]
    pushfd
    or dword [esp], 0x4000      ; NT, back link to nothing good
    popfd
    mov word [TSS], DATA
    TRY iretd
    mov word [TSS], TASK_OTHER
    pushfd
    or dword [esp], 0x4000
    popfd
    TRY iretd                   ; not busy
    push dword 2
    popfd
    TAG 'ts  '                  ; faults of the new task's segments, handled by a third task
    mov byte [gdt + BUSY_TSS + 5], 0x89
    mov dword [IDT + 10 * 8], BUSY_TSS << 16
    mov dword [IDT + 10 * 8 + 4], 0x8500
    mov dword [IDT + 11 * 8], BUSY_TSS << 16
    mov dword [IDT + 11 * 8 + 4], 0x8500
    OTHER_TASK .called
    call third
    SET 76, DATA                ; CS
    call TASK_OTHER:0
    OTHER_TASK .called
    call third
    SET 80, CODE                ; SS
    call TASK_OTHER:0
    OTHER_TASK .called
    call third
    SET 96, DATA                ; LDT
    call TASK_OTHER:0
    OTHER_TASK .called
    call third
    SET 84, EXECUTE             ; DS
    call TASK_OTHER:0
    OTHER_TASK .called
    call third
    SET 92, ABSENT              ; GS
    call TASK_OTHER:0
    TAG 'trap'                  ; the debug trap bit of the TSS
    OTHER_TASK .called
    or byte [OTHER + 100], 1
    mov dword [HOOKS + 4], .debug_hook
    call TASK_OTHER:0
    mov eax, dr6
    and eax, 0xf00f
    PUT eax
    ret

.jumped:
    SHOW
    DESCRIPTORS
    jmp TASK:0
.called:
    SHOW
    iretd
    SHOW                        ; a second call goes on here
    iretd
.with_error:
    PUT [esp]
    PUT esp
    mov eax, [TSS + 32]
    sub eax, main.faulting
    PUT eax
    mov eax, [.resume_at]
    mov [TSS + 32], eax
    add esp, 4
    iretd
    align 4
.resume_at:
    dd 0
.debug_hook:
    mov eax, [ebp + FRAME_EIP]
    sub eax, .called
    PUT eax
    jmp trap_return
.double_fault:
    jmp finish
.user_int:
    int 0x81
    PUT_FLAGS
    call TASK_GATE:0
    PUT_FLAGS
    int 0x80

    bits 16
.small:
    mov cx, 0xc1c2
    mov edx, 0x100000 - 0x300000 + RESULTS ; relative to nothing: keep it in a register
    mov dx, sp
    iret
    bits 32

third:                          ; makes the third task ready
    mov edi, THIRD
    mov ecx, 26
    xor eax, eax
    rep stosd
    mov dword [THIRD + 32], .start
    mov dword [THIRD + 36], 2
    mov dword [THIRD + 56], 0x307000
    mov dword [THIRD + 72], DATA
    mov dword [THIRD + 76], CODE
    mov dword [THIRD + 80], DATA
    mov dword [THIRD + 84], DATA
    mov byte [gdt + BUSY_TSS + 5], 0x89
    ret
.start:
    PUT [esp]
    PUT [THIRD]
    mov eax, [OTHER + 32]
    sub eax, main.called
    PUT eax
    PUT [OTHER + 76]
    str eax
    PUT eax
    mov byte [gdt + TASK + 5], 0x89
    jmp TASK:0

image_end:
