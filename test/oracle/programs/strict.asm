; Checks that QEMU's translator leaves out: null selectors, limits, types, alignment. The expectation is Bochs's.
%include "kernel32.inc"

main:
    TAG 'null'
    mov ax, 0
    TRY ltr ax
    xor eax, eax
    mov es, ax
    TRY mov eax, [es:0]
    mov fs, ax
    TRY mov [fs:0], al
    TAG 'lim '
    mov ax, READ_ONLY
    mov es, ax
    TRY mov al, [es:0x1234]
    TRY mov al, [es:0x1235]
    TRY mov ax, [es:0x1234]
    TRY mov eax, [es:0x1231]
    TRY mov eax, [es:0x1232]
    TRY mov [es:0], al
    TRY inc byte [es:0x10]
    mov ax, EXPAND_DOWN
    mov fs, ax
    TRY mov al, [fs:0xffff]
    TRY mov al, [fs:0x10000]
    TRY mov ax, [fs:0xffff]
    mov ax, DATA16
    mov gs, ax
    TRY mov al, [gs:0xffff]
    TRY mov ax, [gs:0xffff]
    TRY mov al, [gs:0x10000]
    TAG 'type'
    TRY mov [cs:SCRATCH], al
    mov ax, CONFORMING
    mov es, ax
    TRY mov al, [es:SCRATCH]
    TRY mov [es:SCRATCH], al
    jmp EXECUTE:.execute
.execute:
    TRY mov al, [cs:SCRATCH]
    jmp CODE:.back
.back:
    TAG 'cs  '
    mov word [SCRATCH + 4], CODE16
    mov dword [SCRATCH], 0x12345
    TRY jmp far [SCRATCH]
    TAG 'ss  '
    mov dword [gdt + READ_ONLY + 4], 0x0040f300 ; writable, small, DPL 3
    mov dword [gdt + READ_ONLY], 0x00001234
    mov dword [SCRATCH], gdt
    mov ebx, esp
    TAG 'algn'                  ; alignment checks: CR0.AM, EFLAGS.AC, ring 3
    mov eax, cr0
    or eax, 0x40000
    mov cr0, eax
    TRY_USER .misaligned
    TRY_USER .aligned
    mov eax, cr0
    and eax, 0xfffbffff
    mov cr0, eax
    TRY_USER .misaligned
    TAG 'lock'
    TRY db 0xf0, 0x90
    TRY db 0xf0, 0x01, 0xc0
    TRY db 0xf0, 0xa1, 0, 0, 0, 0
    TAG 'cr0 '
    mov eax, 0x80000010         ; paging without protection
    TRY mov cr0, eax
    mov eax, 0x20000011         ; NW without CD
    TRY mov cr0, eax
    mov eax, 0x80000000
    TRY mov cr4, eax
    TAG 'int1'
    mov dword [ss:WATCH], .int1
.int1:
    int1
    TRY_USER .user_int1
    TAG 'gd  '                  ; general detect
    mov eax, 0xffff0ff0
    mov dr6, eax
    mov eax, 0x2400
    mov dr7, eax
    TRY mov eax, dr0
    mov eax, dr6
    PUT eax
    mov eax, dr7
    PUT eax

    TAG 'nest'                  ; a benign exception with a bad gate gives what the gate gives
    and byte [IDT + 6 * 8 + 5], 0x7f
    TRY ud2
    or byte [IDT + 6 * 8 + 5], 0x80
    mov eax, cr0
    or eax, 0x1000              ; a reserved bit of CR0 is ignored
    mov cr0, eax
    mov eax, cr0
    and eax, 0x9fffffff
    PUT eax
    TAG 'long'                  ; more than 15 bytes
    TRY times 15 db 0x66
    nop
    ret
.user_int1:
    int1
    int 0x80
.misaligned:
    pushfd
    or dword [esp], 0x40000
    popfd
    mov eax, [SCRATCH + 1]
    int 0x80
.aligned:
    pushfd
    or dword [esp], 0x40000
    popfd
    mov eax, [SCRATCH + 4]
    mov ax, [SCRATCH + 2]
    mov al, [SCRATCH + 1]
    mov ax, [SCRATCH + 1]
    int 0x80

image_end:
