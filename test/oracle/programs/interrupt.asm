; Software interrupts, exceptions and IRET in 32-bit protected mode; interrupt and trap gates; flags; debug exceptions.
%include "kernel32.inc"

main:
    TAG 'int '
    mov dword [WATCH], .here
.here:
    int 0x80
    int 0x81
    int 0x82
    int3
    mov eax, 0x7fffffff
    add eax, 1
    into
    cmp eax, eax
    into                        ; no overflow: nothing
    sti
    int 0x82                    ; a trap gate leaves IF, an interrupt gate clears it
    mov dword [HOOKS + 0x81 * 4], .flags_hook
    mov dword [HOOKS + 0x82 * 4], .flags_hook
    int 0x81
    int 0x82
    cli
    TAG 'gate'
    TRY int 0x83                ; beyond the limit
    TRY int 0x10
    and byte [IDT + 0x81 * 8 + 5], 0x7f
    TRY int 0x81                ; not present
    or byte [IDT + 0x81 * 8 + 5], 0x80
    mov word [IDT + 0x81 * 8 + 2], DATA
    TRY int 0x81                ; to a data segment
    mov word [IDT + 0x81 * 8 + 2], 0
    TRY int 0x81
    mov word [IDT + 0x81 * 8 + 2], CODE_ABSENT
    TRY int 0x81
    mov word [IDT + 0x81 * 8 + 2], USER_CODE
    TRY int 0x81
    mov word [IDT + 0x81 * 8 + 2], 0xfff8
    TRY int 0x81
    mov byte [IDT + 0x81 * 8 + 5], 0x8c
    mov word [IDT + 0x81 * 8 + 2], CODE
    TRY int 0x81                ; a call gate
    mov byte [IDT + 0x81 * 8 + 5], 0x8e
    TAG 'br  '
    mov dword [SCRATCH], -5
    mov dword [SCRATCH + 4], 10
    mov eax, -5
    TRY bound eax, [SCRATCH]
    mov eax, 10
    TRY bound eax, [SCRATCH]
    mov eax, 11
    TRY bound eax, [SCRATCH]
    mov eax, -6
    TRY bound eax, [SCRATCH]
    mov dword [SCRATCH], 0x00050003
    mov eax, 0x12340004
    TRY o16 bound ax, [SCRATCH]
    mov eax, 6
    TRY o16 bound ax, [SCRATCH]
    TAG 'de  '
    xor edx, edx
    xor ecx, ecx
    TRY div ecx
    TAG 'nm  '
    TRY ud2

    TAG 'iret'
    mov ebp, esp
    push dword 0x44cd5          ; NT would ask for a task switch; so without
    and dword [esp], 0xffffbfff
    push dword CODE
    push dword .iret1
    iretd
.iret1:
    PUT_FLAGS
    push dword 0x2
    push dword DATA
    push dword 0
    TRY iretd
    mov esp, ebp
    push dword 0x2
    push dword 0
    push dword 0
    TRY iretd
    mov esp, ebp
    push dword 0x2
    push dword CODE_ABSENT
    push dword 0
    TRY iretd
    mov esp, ebp
    push dword DATA
    push dword USER_TOP
    push dword 0x2
    push dword USER_CODE
    push dword 0
    TRY iretd
    mov esp, ebp
    push dword 0x00000002       ; the 16-bit form, in 16-bit code
    mov word [SCRATCH], .sixteen - 0x100000
    mov word [SCRATCH + 2], CODE16
    o16 jmp far [SCRATCH]
.from_sixteen:
    mov esp, ebp
    PUT_FLAGS

    TAG 'flag'
    push dword 0x3f7fd7 - 0x20000 - 0x100 - 0x4000 - 0x10000
    popfd
    pushfd
    pop eax
    push dword 2
    popfd
    PUT eax
    push dword 0x10002          ; RF is not loaded
    popfd
    PUT_FLAGS
    o16 pushf
    pop ax
    movzx eax, ax
    PUT eax
    push word 0x0ed7
    o16 popf
    o16 pushf
    pop ax
    push dword 2
    popfd
    movzx eax, ax
    PUT eax
    sti
    PUT_FLAGS
    cli
    PUT_FLAGS
    TRY_USER .user_cli
    TRY_USER .user_sti
    TRY_USER .user_popf
    TRY_USER .user_int
    TRY_USER .user_int81
    TRY_USER .user_int3
    TRY_USER .user_into
    TRY_USER .user_iret
    mov dword [RESUME_SP], esp
    mov dword [RESUME], .after_iopl
    mov dword [WATCH], .user_iopl
    push dword USER_DATA
    push dword USER_TOP
    push dword 0x3002           ; IOPL 3
    push dword USER_CODE
    push dword .user_iopl
    jmp enter_ring3
.after_iopl:
    call settle

    TAG 'step'                  ; TF
    mov dword [WATCH], .step
    mov dword [HOOKS + 4], .step_hook
.step:
    pushfd
    or dword [esp], 0x100
    popfd
    nop
    mov eax, ss
    mov ss, ax                  ; holds the trap back
    nop
    mov ecx, 2
    mov esi, SCRATCH
    rep lodsb
    int 0x80                    ; the handler runs without TF
    pushfd
    and dword [esp], 0xfffffeff
    popfd
    nop
    mov eax, dr6
    PUT eax
    mov dword [HOOKS + 4], 0

    TAG 'brk '                  ; an instruction breakpoint
    mov dword [HOOKS + 4], .break_hook
    mov eax, .broken
    mov dr0, eax
    mov eax, 0xffff0ff0
    mov dr6, eax
    mov eax, 0x402
    mov dr7, eax
    mov dword [WATCH], .broken
    nop
.broken:
    mov ebx, 0x1234
    mov eax, dr6
    PUT eax
    mov eax, 0x400
    mov dr7, eax
    mov dword [HOOKS + 4], 0
    TAG 'df  '                  ; the handler of #GP is unusable
    mov al, [IDT + 13 * 8 + 5]
    push eax
    and byte [IDT + 13 * 8 + 5], 0x7f
    mov ax, 0xfff8
    TRY mov es, ax
    pop eax
    mov [IDT + 13 * 8 + 5], al
    TRY mov es, [SCRATCH + 0x10]
    ret

.flags_hook:
    pushfd
    pop eax
    and eax, 0x200
    PUT eax
    PUT [ebp + FRAME_EFLAGS]
    jmp trap_return
.step_hook:
    mov eax, [ebp + FRAME_EIP]
    sub eax, .step
    PUT eax
    jmp trap_return
.break_hook:
    mov eax, [ebp + FRAME_EIP]
    sub eax, .broken
    PUT eax
    or dword [ebp + FRAME_EFLAGS], 0x10000
    jmp trap_return

    bits 16
.sixteen:
    push word 0x0246
    push word CODE16
    push word .sixteen2 - 0x100000
    iret
.sixteen2:
    pushf
    pop ax
    int3                        ; from 16-bit code through a 32-bit gate
    jmp dword CODE:.from_sixteen
    bits 32

.user_cli: cli
.user_sti: sti
.user_popf:
    push dword 0x3202           ; IF and IOPL do not change
    popfd
    PUT_FLAGS
    int 0x80
.user_int:
    int 0x80
.user_int81:
    int 0x81                    ; DPL 0
.user_int3:
    int3
    nop
    int 0x80
.user_into:
    mov eax, 0x80000000
    sub eax, 1
    into
    int 0x80
.user_iret:
    push dword 0x3ed7 - 0xd5    ; within ring 3
    push dword USER_CODE
    push dword .user_iret2
    iretd
.user_iret2:
    PUT_FLAGS
    cld
    push dword 2
    push dword CODE             ; to an inner ring
    push dword 0
    iretd
.user_iopl:
    sti
    PUT_FLAGS
    cli
    PUT_FLAGS
    push dword 0x0202
    popfd
    PUT_FLAGS
    cli
    int 0x80

image_end:
