; Port instructions in protected mode, the I/O privilege level and the permission bitmap; HLT and interrupts.
%include "kernel32.inc"

main:
    TAG 'imm '
    mov al, 0x44
    out 0x70, al
    mov eax, 0x12345678
    out 0x71, al
    xor eax, eax
    in al, 0x71
    PUT eax
    mov eax, 0x3344
    out 0x70, ax                ; index 44, value 33
    mov eax, 0x4444
    o16 out 0x70, ax
    in al, 0x71
    PUT eax
    mov eax, 0x00000000
    mov edx, 0x3ff              ; scratch register of the serial port
    mov al, 0x99
    out dx, al
    in al, dx
    PUT eax
    mov edx, 0x3fe
    in ax, dx
    and eax, 0xff00
    PUT eax
    mov edx, 0x3fc
    in eax, dx
    and eax, 0xff000000
    PUT eax
    mov eax, 0xa50000b0
    mov edx, 0x3fc
    mov al, 0
    out dx, eax
    mov edx, 0x3ff
    in al, dx
    and eax, 0xff
    PUT eax
    mov eax, 0x3344
    out 0x80, eax
    in eax, 0xec                ; nothing there
    PUT eax
    TAG 'strg'
    mov edx, 0x3ff
    mov edi, SCRATCH
    mov ecx, 3
    rep insb
    PUT [SCRATCH]
    PUT edi
    mov esi, .bytes
    mov ecx, 3
    rep outsb
    in al, dx
    and eax, 0xff
    PUT eax
    mov edx, 0x70
    mov ecx, 1
    mov esi, .words
    rep outsw
    in al, 0x71
    and eax, 0xff
    PUT eax
    mov edx, 0x80
    outsd
    mov eax, esi
    sub eax, .words
    PUT eax
    mov edx, 0xec
    mov edi, SCRATCH
    insw
    insd
    mov eax, edi
    sub eax, SCRATCH
    PUT eax
    PUT [SCRATCH]
    mov ecx, 0
    rep insb
    PUT edi
    TAG 'iopl'
    TRY_USER .user_in
    TRY_USER .user_out
    TRY_USER .user_ins
    TRY_USER .user_outs
    mov word [TSS + 102], 0x68  ; an I/O bitmap
    mov byte [gdt + TASK], 0x8f
    mov byte [TSS + 0x68 + 0x10], 0x02 ; refuses port 81
    and byte [gdt + TASK + 5], 0xfd
    mov ax, TASK
    ltr ax
    TRY_USER .user_in
    TRY_USER .user_in_word
    TRY_USER .user_in_byte
    TRY_USER .user_in_high
    mov [RESUME_SP], esp
    mov dword [RESUME], .after
    mov dword [WATCH], .user_in_high
    push dword USER_DATA
    push dword USER_TOP
    push dword 0x3002
    push dword USER_CODE
    push dword .user_in_high
    jmp enter_ring3
.after:
    call settle

    TAG 'hlt '                  ; woken by the timer
    mov al, 0x11
    out 0x20, al
    mov al, 0x20
    out 0x21, al
    mov al, 4
    out 0x21, al
    mov al, 1
    out 0x21, al
    mov al, 0xfe
    out 0x21, al
    mov eax, 0x20
    mov edx, .timer
    mov ecx, 0x8e00
    mov dword [SCRATCH], 0
    push dword 0x20 * 8 + 7
    lidt [.bigger]
    pop eax
    mov eax, 0x20
    call set_gate
    mov al, 0x30                ; one shot
    out 0x43, al
    mov al, 0
    out 0x40, al
    mov al, 4
    out 0x40, al
    sti
    hlt
    PUT [SCRATCH]
    cli
    mov al, 0x30
    out 0x43, al
    mov al, 0
    out 0x40, al
    mov al, 4
    out 0x40, al
.wait:
    mov al, 0x0a                ; until it is requested
    out 0x20, al
    in al, 0x20
    test al, 1
    jz .wait
    sti                         ; the next instruction still runs
    inc dword [SCRATCH + 4]
    PUT [SCRATCH + 8]
    cli
    TAG 'mwat'
    xor ecx, ecx
    xor edx, edx
    mov eax, SCRATCH
    monitor
    mov al, 0x30
    out 0x43, al
    mov al, 0
    out 0x40, al
    mov al, 4
    out 0x40, al
    mov eax, 0
    sti
    mwait                       ; may end for any reason
    cli
    ret
.timer:
    push eax
    mov eax, [SCRATCH + 4]
    mov [SCRATCH + 8], eax
    inc dword [SCRATCH]
    mov al, 0x20
    out 0x20, al
    pop eax
    iretd
.user_in: in al, 0x80
    int 0x80
.user_out: out 0x80, al
.user_ins:
    mov dx, 0x80
    mov edi, SCRATCH
    insb
.user_outs:
    mov dx, 0x80
    mov esi, SCRATCH
    outsd
.user_in_word: in ax, 0x80
    int 0x80
.user_in_byte: in al, 0x82
    int 0x80
.user_in_high:
    mov dx, 0x3ff
    in al, dx
    int 0x80
.bigger:
    dw 0x83 * 8 - 1
    dd IDT
.bytes:
    db 1, 2, 3
.words:
    dw 0x7744, 0x1234, 0x5678

image_end:
