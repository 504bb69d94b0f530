; Boot sector for simulators that load no multiboot images (Bochs): reads the image from the sectors after it and enters it as a
; multiboot loader would. The image must be smaller than 60 KiB. SECTORS is defined by who assembles this.
    org 0x7c00
    bits 16
    cli
    xor ax, ax
    mov ds, ax
    mov ss, ax
    mov sp, 0x7c00
    mov [drive], dl
    mov cx, SECTORS
.next:                          ; one sector at a time, by linear block address
    push cx
    mov dl, [drive]
    mov ah, 0x42
    mov si, packet
    int 0x13
    pop cx
    jc .error
    add word [packet + 6], 0x20
    inc dword [packet + 8]
    loop .next
    in al, 0x92                 ; A20
    or al, 2
    out 0x92, al
    lgdt [pointer]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    jmp dword 8:protected
.error:
    hlt
    jmp .error

    bits 32
protected:
    mov ax, 16
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov fs, ax
    mov gs, ax
    cld
    mov esi, 0x10000
    mov edi, 0x100000
    mov ecx, SECTORS * 128
    rep movsd
    mov eax, 0x2badb002
    xor ebx, ebx
    mov ecx, 0x100000 + 28      ; entry_addr of the header
    jmp [ecx]

    align 4
packet:
    db 16, 0
    dw 1, 0, 0x1000
    dq 1
drive:
    db 0
    align 8
gdt:
    dq 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
pointer:
    dw 23
    dd gdt
    times 510 - ($ - $$) db 0
    dw 0xaa55
