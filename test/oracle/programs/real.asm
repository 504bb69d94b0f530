; Real mode: interrupts through the vector table, far transfers, segments, flags, ports, and the way there and back.
%include "kernel32.inc"

PLACE equ 0x8000
WORDS equ 0x6000                ; results in real mode, copied at the end

%macro NOTE 1                   ; one result word
    push dword %1
    call note
%endmacro

main:
    mov esi, code16
    mov edi, PLACE
    mov ecx, code16_end - code16
    rep movsb
    mov edi, 0
    mov ecx, 0x400 / 4
    mov eax, (PLACE - 0) + r_event - code16
    rep stosd
    mov [SAVED], esp
    mov dword [gdt + CODE16], 0x0000ffff
    mov dword [gdt + CODE16 + 4], 0x00009b00
    jmp CODE16:PLACE
back:
    mov ax, DATA
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov fs, ax
    mov gs, ax
    mov esp, [SAVED]
    lidt [idt_pointer]
    mov esi, WORDS
.copy:
    cmp esi, [0x5ff0]
    jae .done
    PUT [esi]
    add esi, 4
    jmp .copy
.done:
    TAG 'prot'
    mov eax, cr0
    and eax, 0x9fffffff
    PUT eax
    int 0x80
    ret

    bits 16
code16:
    mov ax, DATA16
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov fs, ax
    mov gs, ax
    lidt [r_idt - code16 + PLACE]
    mov eax, cr0
    and al, 0xfe
    mov cr0, eax
    jmp 0:r_real - code16 + PLACE
r_real:
    xor ax, ax
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov fs, ax
    mov gs, ax
    mov sp, 0x7000
    mov dword [0x5ff0], WORDS

    int 0x60                    ; through the table
    int3
    mov al, 0x7f
    add al, 1
    into
    clc
    cmp al, al
    into
    xor cx, cx
    mov word [r_watch - code16 + PLACE], r_div - code16 + PLACE
    mov word [r_resume - code16 + PLACE], r_div2 - code16 + PLACE
r_div:
    div cl
r_div2:
    mov word [r_resume - code16 + PLACE], r_bound2 - code16 + PLACE
    mov ax, 99
    bound ax, [r_pair - code16 + PLACE]
r_bound2:
    mov word [r_resume - code16 + PLACE], r_ud2 - code16 + PLACE
    ud2
r_ud2:
    mov word [r_resume - code16 + PLACE], r_lldt2 - code16 + PLACE
    lldt ax                     ; not recognized in real mode
r_lldt2:
    mov word [r_resume - code16 + PLACE], r_str2 - code16 + PLACE
    str ax
r_str2:
    mov word [r_resume - code16 + PLACE], r_lar2 - code16 + PLACE
    lar ax, bx
r_lar2:
    mov word [r_resume - code16 + PLACE], r_arpl2 - code16 + PLACE
    arpl ax, bx
r_arpl2:
    mov word [r_resume - code16 + PLACE], r_sysenter2 - code16 + PLACE
    sysenter
r_sysenter2:
    mov word [r_resume - code16 + PLACE], 0

    sti                         ; INT clears IF
    int 0x61
    pushf
    pop ax
    cli
    movzx eax, ax
    NOTE eax
    pushfd
    pop eax
    NOTE eax
    push dword 0x3f7ed7 - 0x20000 - 0x10000
    popfd
    pushfd
    pop eax
    push dword 2
    popfd
    NOTE eax
    push word 0x7ed7
    popf
    pushf
    pop ax
    push word 2
    popf
    movzx eax, ax
    NOTE eax

    mov ax, 0x1234              ; segments
    mov ds, ax
    mov byte [5], 0xa5
    xor ax, ax
    mov ds, ax
    movzx eax, byte [0x2345 + 0x10000 - 0x10000 + 0x10000 - 0x10000]
    mov ax, 0x1000
    mov es, ax
    movzx eax, byte [es:0x2345]
    NOTE eax
    push es
    pop fs
    mov ax, fs
    movzx eax, ax
    NOTE eax
    les di, [r_pair - code16 + PLACE]
    mov ax, es
    shl eax, 16
    mov ax, di
    NOTE eax
    lfs edi, [r_long - code16 + PLACE]
    mov ax, fs
    movzx eax, ax
    NOTE eax
    NOTE edi
    xor ax, ax
    mov es, ax
    mov fs, ax

    call 0x10:r_far - code16 + PLACE - 0x100
    NOTE eax
    call far [r_pointer - code16 + PLACE]
    NOTE eax
    mov bp, sp
    push word 0x1111
    push word 0x2222
    call 0:r_far4 - code16 + PLACE
    mov eax, 0
    mov ax, bp
    sub ax, sp
    NOTE eax
    jmp 0x20:r_jumped - code16 + PLACE - 0x200
r_jumped:
    mov ax, cs
    movzx eax, ax
    NOTE eax
    jmp far [r_pointer2 - code16 + PLACE]
r_home:
    mov ax, cs
    movzx eax, ax
    NOTE eax
    pushf
    push word 0x30
    push word r_irets - code16 + PLACE - 0x300
    iret
r_irets:
    mov ax, cs
    movzx eax, ax
    NOTE eax
    push dword 0x40002
    push dword 0
    push dword r_iretd - code16 + PLACE
    iretd
r_iretd:
    pushfd
    pop eax
    NOTE eax
    push dword 2
    popfd

    smsw ax
    movzx eax, ax
    NOTE eax
    sgdt [0x5000]
    movzx eax, word [0x5000]
    NOTE eax
    sidt [0x5000]
    mov eax, [0x5000]
    NOTE eax
    mov eax, cr0
    and eax, 0x9fffffff
    NOTE eax

    mov al, 0x40                ; CMOS memory as a port with contents
    out 0x70, al
    mov al, 0x5a
    out 0x71, al
    mov al, 0x41
    out 0x70, al
    mov al, 0xc3
    out 0x71, al
    mov ax, 0x3c40
    out 0x70, al
    in al, 0x71
    NOTE eax
    mov dx, 0x70
    mov ax, 0x7741              ; index and value in one word
    out dx, ax
    mov eax, 0
    inc dx
    in al, dx
    NOTE eax
    mov si, r_string - code16 + PLACE
    mov cx, 4
    mov dx, 0x71
    rep outsb
    in al, dx
    NOTE eax
    mov di, 0x5000
    mov dword [di], 0
    mov cx, 3
    cld
    rep insb
    mov eax, [0x5000]
    NOTE eax
    mov dx, 0x70
    mov si, r_string2 - code16 + PLACE
    outsw
    std
    mov di, 0x5003
    inc dx
    insb
    cld
    mov eax, [0x5000]
    NOTE eax
    mov eax, 0
    mov ax, di
    NOTE eax
    mov cx, 0
    rep insb
    mov ax, di
    NOTE eax

    mov eax, cr0                ; back, by LMSW
    or al, 1
    lmsw ax
    jmp dword CODE:back

note:                           ; keeps all but flags
    push bx
    push bp
    mov bp, sp
    push eax
    mov eax, [bp + 6]
    mov bx, [0x5ff0]
    mov [bx], eax
    add bx, 4
    mov [0x5ff0], bx
    pop eax
    pop bp
    pop bx
    ret 4
r_event:                        ; notes the offset relative to r_watch, CS and flags
    push bp
    mov bp, sp
    push eax
    push ds
    xor ax, ax
    mov ds, ax
    movzx eax, word [bp + 2]
    sub ax, PLACE
    NOTE eax
    mov ax, [bp + 4]
    shl eax, 16
    mov ax, [bp + 6]
    and ax, 0xf72a              ; without the arithmetic flags
    NOTE eax
    pushf
    pop ax
    movzx eax, ax
    and ax, 0x0200
    NOTE eax
    mov ax, [r_resume - code16 + PLACE]
    test ax, ax
    jz .return
    mov [bp + 2], ax
.return:
    pop ds
    pop eax
    pop bp
    iret
r_far:
    mov ax, cs
    movzx eax, ax
    retf
r_far4:
    retf 4
r_watch:
    dw 0
r_resume:
    dw 0
r_pair:
    dw 10, 20
r_long:
    dd 0x12345678
    dw 0x4321
r_pointer:
    dw r_far - code16 + PLACE - 0x400, 0x40
r_pointer2:
    dw r_home - code16 + PLACE, 0
r_string:
    db 1, 2, 3, 4
r_string2:
    db 0x40, 0x99
r_idt:
    dw 0x3ff
    dd 0
code16_end:
    bits 32

image_end:
