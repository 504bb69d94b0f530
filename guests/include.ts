/**
 * Assembly text that guests share, by the name they include it under. Fixed memory map of every guest:
 *
 *     100000  the image                      220000  top of the kernel stack
 *     200000  page tables                    228000  top of the stack for entries from user mode
 *     20c000  IDT                            300000  user code and data (the only user pages)
 *     20d000  TSS                            380000  top of the user stack
 *     20e000  handler table                  400000  work area, up to 16 MiB
 *     210000  variables
 */

const multiboot = String.raw`
; Multiboot 1 header with address fields: the image is a flat binary. Needs the labels start and image_end.
    org 0x100000
    bits 32
header:
    dd 0x1badb002
    dd 0x00010003
    dd 0 - 0x1badb002 - 0x00010003
    dd header
    dd header
    dd image_end
    dd image_end
    dd start

IDT         equ 0x20c000
TSS         equ 0x20d000
HANDLERS    equ 0x20e000
VARIABLES   equ 0x210000
KERNEL_TOP  equ 0x220000
ENTRY_TOP   equ 0x228000
USER        equ 0x300000
USER_TOP    equ 0x380000
WORK        equ 0x400000
`;

const console32 = String.raw`
; Serial output, polled. Every routine keeps all registers.
put_char:                       ; AL
    push edx
    push eax
    mov dx, 0x3fd
.wait:
    in al, dx
    test al, 0x20
    jz .wait
    pop eax
    mov dx, 0x3f8
    out dx, al
    pop edx
    ret

put_text:                       ; ESI: bytes up to a zero
    push eax
    push esi
.next:
    mov al, [esi]
    inc esi
    test al, al
    jz .done
    call put_char
    jmp .next
.done:
    pop esi
    pop eax
    ret

put_hex:                        ; EAX: 8 digits
    push ecx
    mov ecx, 8
    call put_digits
    pop ecx
    ret

put_digits:                     ; the low ECX hexadecimal digits of EAX
    push eax
    push ebx
    push ecx
    push edx
    mov edx, eax
    mov ebx, ecx
    shl ecx, 2
    ror edx, cl
.next:
    rol edx, 4
    mov eax, edx
    and eax, 15
    cmp al, 10
    jb .digit
    add al, 39
.digit:
    add al, '0'
    call put_char
    dec ebx
    jnz .next
    pop edx
    pop ecx
    pop ebx
    pop eax
    ret

put_number:                     ; EAX, unsigned decimal
    push eax
    push ebx
    push ecx
    push edx
    mov ebx, 10
    xor ecx, ecx
.divide:
    xor edx, edx
    div ebx
    push edx
    inc ecx
    test eax, eax
    jnz .divide
.next:
    pop eax
    add al, '0'
    call put_char
    dec ecx
    jnz .next
    pop edx
    pop ecx
    pop ebx
    pop eax
    ret

put_line:
    push eax
    mov al, 10
    call put_char
    pop eax
    ret

%macro PRINT 1
    push esi
    mov esi, %%text
    call put_text
    pop esi
    jmp %%over
%%text:
    db %1, 0
%%over:
%endmacro

; Says the power-off port, then the debug-exit port, then halts for good.
power_off:
    cli
    mov dx, 0x604
    mov ax, 0x2000
    out dx, ax
    xor eax, eax
    out 0xf4, al
.halt:
    hlt
    jmp .halt
`;

const kernel32 = String.raw`
; A kernel's set-up: GDT, IDT with one stub per vector, TSS, paging (the first 16 MiB identity-mapped). Calls main.
; The GDT is complete before LGDT and keeps its contents; accessed bits are set beforehand.
PAGE_DIRECTORY equ 0x200000
PAGE_TABLES    equ 0x201000

KERNEL_CODE equ 0x08
KERNEL_DATA equ 0x10
USER_CODE   equ 0x1b
USER_DATA   equ 0x23
TASK        equ 0x28
SMALL_DATA  equ 0x30            ; read-only, 0x1235 bytes
CONFORMING  equ 0x38            ; conforming code
LOCAL       equ 0x40            ; an LDT
GATE        equ 0x48            ; call gate to gate_target
ABSENT      equ 0x50            ; data, not present

; What a handler finds at EBP
FRAME_EDI    equ 0
FRAME_ESI    equ 4
FRAME_EBP    equ 8
FRAME_EBX    equ 16
FRAME_EDX    equ 20
FRAME_ECX    equ 24
FRAME_EAX    equ 28
FRAME_VECTOR equ 40
FRAME_ERROR  equ 44
FRAME_EIP    equ 48
FRAME_CS     equ 52
FRAME_EFLAGS equ 56
FRAME_ESP    equ 60             ; only when it came from user mode
FRAME_SS     equ 64

USER_RETURN equ VARIABLES + 0xff0
LDT         equ VARIABLES + 0xf00

start:
    cli
    cld
    mov esp, KERNEL_TOP
    mov al, 0xff                ; no interrupts from the PICs
    out 0x21, al
    out 0xa1, al
    mov dx, 0x3fb               ; serial line: 8 bits, no parity, one stop bit
    mov al, 3
    out dx, al
    mov edi, PAGE_DIRECTORY
    mov ecx, 0x11000 / 4
    xor eax, eax
    rep stosd

    mov eax, TSS
    mov [gdt + TASK + 2], ax
    shr eax, 16
    mov [gdt + TASK + 4], al
    mov [gdt + TASK + 7], ah
    mov eax, LDT
    mov [gdt + LOCAL + 2], ax
    shr eax, 16
    mov [gdt + LOCAL + 4], al
    mov [gdt + LOCAL + 7], ah
    mov eax, gate_target
    mov [gdt + GATE], ax
    shr eax, 16
    mov [gdt + GATE + 6], ax
    lgdt [gdt_pointer]
    jmp KERNEL_CODE:.code
.code:
    mov ax, KERNEL_DATA
    mov ds, ax
    mov es, ax
    mov ss, ax
    xor eax, eax
    mov fs, ax
    mov gs, ax

    mov esi, stubs              ; vectors 0 to 47
    mov ebx, 0
.gate:
    mov eax, ebx
    mov edx, esi
    mov ecx, 0x8e00
    call set_gate
    mov dword [HANDLERS + ebx * 4], unexpected
    add esi, 16
    inc ebx
    cmp ebx, 48
    jne .gate
    lidt [idt_pointer]

    mov dword [TSS + 4], ENTRY_TOP
    mov dword [TSS + 8], KERNEL_DATA
    mov word [TSS + 102], 104
    mov ax, TASK
    ltr ax

    mov edi, PAGE_TABLES        ; user pages only from USER to USER_TOP
    mov eax, 3
.page:
    mov ebx, eax
    cmp eax, USER
    jb .supervisor
    cmp eax, USER_TOP
    jae .supervisor
    or ebx, 4
.supervisor:
    mov [edi], ebx
    add edi, 4
    add eax, 0x1000
    cmp eax, 0x1000003
    jne .page
    mov dword [PAGE_DIRECTORY], PAGE_TABLES + 7
    mov dword [PAGE_DIRECTORY + 4], PAGE_TABLES + 0x1007
    mov dword [PAGE_DIRECTORY + 8], PAGE_TABLES + 0x2007
    mov dword [PAGE_DIRECTORY + 12], PAGE_TABLES + 0x3007
    mov eax, PAGE_DIRECTORY
    mov cr3, eax
    mov eax, 0x80010031         ; PG WP NE ET PE
    mov cr0, eax
    jmp .paged
.paged:
    call main
    jmp power_off

set_gate:                       ; vector EAX, handler EDX, type and DPL CX (as in the descriptor)
    mov [IDT + eax * 8], dx
    mov word [IDT + eax * 8 + 2], KERNEL_CODE
    mov [IDT + eax * 8 + 4], cx
    push edx
    shr edx, 16
    mov [IDT + eax * 8 + 6], dx
    pop edx
    ret

; Runs user code: EAX entry point. Comes back when a handler jumps to leave_user.
enter_user:
    pushad
    mov [USER_RETURN], esp
    push dword USER_DATA
    push dword USER_TOP
    push dword 0x202
    push dword USER_CODE
    push eax
    mov cx, USER_DATA
    mov ds, cx
    mov es, cx
    iret

leave_user:
    mov esp, [USER_RETURN]
    popad
    ret

; Copies code to user memory: ESI from, ECX bytes.
load_user:
    mov edi, USER
    rep movsb
    ret

; A far-call target: adds one to EAX, puts the CS it runs with in EDX.
gate_target:
    inc eax
    xor edx, edx
    mov dx, cs
    retf

trap_entry:
    push ds
    push es
    pushad
    mov eax, KERNEL_DATA
    mov ds, ax
    mov es, ax
    cld
    mov ebp, esp
    mov eax, [ebp + FRAME_VECTOR]
    call [HANDLERS + eax * 4]
    popad
    pop es
    pop ds
    add esp, 8
    iret

unexpected:
    PRINT "unexpected vector "
    mov eax, [ebp + FRAME_VECTOR]
    mov ecx, 2
    call put_digits
    PRINT " error "
    mov eax, [ebp + FRAME_ERROR]
    call put_hex
    PRINT " at "
    mov eax, [ebp + FRAME_EIP]
    call put_hex
    call put_line
    jmp power_off

%macro STUB 1
    align 16
    push dword 0
    push dword %1
    jmp trap_entry
%endmacro
%macro STUB_ERROR 1
    align 16
    push dword %1
    jmp trap_entry
%endmacro
    align 16
stubs:
    STUB 0
    STUB 1
    STUB 2
    STUB 3
    STUB 4
    STUB 5
    STUB 6
    STUB 7
    STUB_ERROR 8
    STUB 9
    STUB_ERROR 10
    STUB_ERROR 11
    STUB_ERROR 12
    STUB_ERROR 13
    STUB_ERROR 14
    STUB 15
    STUB 16
    STUB_ERROR 17
    STUB 18
    STUB 19
    STUB 20
    STUB_ERROR 21
    STUB 22
    STUB 23
    STUB 24
    STUB 25
    STUB 26
    STUB 27
    STUB 28
    STUB 29
    STUB 30
    STUB 31
    STUB 32
    STUB 33
    STUB 34
    STUB 35
    STUB 36
    STUB 37
    STUB 38
    STUB 39
    STUB 40
    STUB 41
    STUB 42
    STUB 43
    STUB 44
    STUB 45
    STUB 46
    STUB 47

    align 16
gdt:
    dq 0
    dq 0x00cf9b000000ffff
    dq 0x00cf93000000ffff
    dq 0x00cffb000000ffff
    dq 0x00cff3000000ffff
    dq 0x0000890000000067
    dq 0x0040910000001234
    dq 0x00cf9f000000ffff
    dq 0x0000820000000017
    dq 0x00008c0000080000
    dq 0x00cf13000000ffff
gdt_end:
gdt_pointer:
    dw gdt_end - gdt - 1
    dd gdt
idt_pointer:
    dw 0x81 * 8 - 1
    dd IDT
`;

const console64 = String.raw`
; Serial output, polled, for 64-bit code. Every routine keeps all registers.
    bits 64
put_char:                       ; AL
    push rdx
    push rax
    mov dx, 0x3fd
.wait:
    in al, dx
    test al, 0x20
    jz .wait
    pop rax
    mov dx, 0x3f8
    out dx, al
    pop rdx
    ret

put_text:                       ; RSI: bytes up to a zero
    push rax
    push rsi
.next:
    mov al, [rsi]
    inc rsi
    test al, al
    jz .done
    call put_char
    jmp .next
.done:
    pop rsi
    pop rax
    ret

put_hex:                        ; RAX: 16 digits
    push rcx
    mov ecx, 16
    call put_digits
    pop rcx
    ret

put_digits:                     ; the low RCX hexadecimal digits of RAX
    push rax
    push rbx
    push rcx
    push rdx
    mov rdx, rax
    mov ebx, ecx
    shl ecx, 2
    ror rdx, cl
.next:
    rol rdx, 4
    mov eax, edx
    and eax, 15
    cmp al, 10
    jb .digit
    add al, 39
.digit:
    add al, '0'
    call put_char
    dec ebx
    jnz .next
    pop rdx
    pop rcx
    pop rbx
    pop rax
    ret

put_number:                     ; RAX, unsigned decimal
    push rax
    push rbx
    push rcx
    push rdx
    mov ebx, 10
    xor ecx, ecx
.divide:
    xor edx, edx
    div rbx
    push rdx
    inc ecx
    test rax, rax
    jnz .divide
.next:
    pop rax
    add al, '0'
    call put_char
    dec ecx
    jnz .next
    pop rdx
    pop rcx
    pop rbx
    pop rax
    ret

put_line:
    push rax
    mov al, 10
    call put_char
    pop rax
    ret

%macro PRINT 1
    push rsi
    mov esi, %%text
    call put_text
    pop rsi
    jmp %%over
%%text:
    db %1, 0
%%over:
%endmacro

power_off:
    cli
    mov dx, 0x604
    mov ax, 0x2000
    out dx, ax
    xor eax, eax
    out 0xf4, al
.halt:
    hlt
    jmp .halt
`;

const kernel64 = String.raw`
; A long-mode kernel's set-up: 4-level paging (the first 16 MiB identity-mapped), GDT, IDT, TSS. Calls main.
PML4        equ 0x200000
PDPT        equ 0x201000
DIRECTORY   equ 0x202000
PAGE_TABLES equ 0x203000        ; eight of them

KERNEL_CODE equ 0x08
KERNEL_DATA equ 0x10
USER_DATA   equ 0x1b            ; in the order that SYSRET wants
USER_CODE   equ 0x23
TASK        equ 0x28

; What a handler finds at RBP
FRAME_R11    equ 32
FRAME_RDI    equ 64
FRAME_RSI    equ 72
FRAME_RBX    equ 88
FRAME_RDX    equ 96
FRAME_RCX    equ 104
FRAME_RAX    equ 112
FRAME_VECTOR equ 120
FRAME_ERROR  equ 128
FRAME_RIP    equ 136
FRAME_CS     equ 144
FRAME_RFLAGS equ 152
FRAME_RSP    equ 160
FRAME_SS     equ 168

USER_RETURN equ VARIABLES + 0xff0

    bits 32
start:
    cli
    cld
    mov esp, KERNEL_TOP
    mov al, 0xff                ; no interrupts from the PICs
    out 0x21, al
    out 0xa1, al
    mov dx, 0x3fb               ; serial line: 8 bits, no parity, one stop bit
    mov al, 3
    out dx, al
    mov edi, PML4
    mov ecx, 0x11000 / 4
    xor eax, eax
    rep stosd

    mov dword [PML4], PDPT + 7
    mov dword [PDPT], DIRECTORY + 7
    mov edi, DIRECTORY
    mov eax, PAGE_TABLES + 7
.directory:
    mov [edi], eax
    add edi, 8
    add eax, 0x1000
    cmp eax, PAGE_TABLES + 0x8007
    jne .directory
    mov edi, PAGE_TABLES        ; user pages only from USER to USER_TOP
    mov eax, 3
.page:
    mov ebx, eax
    cmp eax, USER
    jb .supervisor
    cmp eax, USER_TOP
    jae .supervisor
    or ebx, 4
.supervisor:
    mov [edi], ebx
    add edi, 8
    add eax, 0x1000
    cmp eax, 0x1000003
    jne .page

    mov eax, 0x20               ; PAE
    mov cr4, eax
    mov eax, PML4
    mov cr3, eax
    mov ecx, 0xc0000080         ; IA32_EFER: NXE LME SCE
    rdmsr
    or eax, 0x901
    wrmsr
    mov eax, 0x80010031         ; PG WP NE ET PE
    mov cr0, eax
    mov eax, TSS
    mov [gdt + TASK + 2], ax
    shr eax, 16
    mov [gdt + TASK + 4], al
    mov [gdt + TASK + 7], ah
    lgdt [gdt_pointer]
    jmp KERNEL_CODE:.long

    bits 64
.long:
    mov ax, KERNEL_DATA
    mov ds, ax
    mov es, ax
    mov ss, ax
    xor eax, eax
    mov fs, ax
    mov gs, ax
    mov rsp, KERNEL_TOP

    mov esi, stubs              ; vectors 0 to 47
    xor ebx, ebx
.gate:
    mov eax, ebx
    mov edx, esi
    mov ecx, 0x8e00
    call set_gate
    mov qword [HANDLERS + rbx * 8], unexpected
    add esi, 16
    inc ebx
    cmp ebx, 48
    jne .gate
    lidt [idt_pointer]

    mov qword [TSS + 4], ENTRY_TOP
    mov word [TSS + 102], 104
    mov ax, TASK
    ltr ax
    call main
    jmp power_off

set_gate:                       ; vector EAX, handler EDX, type and DPL CX (as in the descriptor)
    push rax
    push rdx
    shl eax, 4
    mov [IDT + rax], dx
    mov word [IDT + rax + 2], KERNEL_CODE
    mov [IDT + rax + 4], cx
    shr edx, 16
    mov [IDT + rax + 6], dx
    mov qword [IDT + rax + 8], 0
    pop rdx
    pop rax
    ret

; Runs user code: RAX entry point. Comes back when a handler jumps to leave_user.
enter_user:
    push rbx
    push rbp
    push rsi
    push rdi
    mov [USER_RETURN], rsp
    push USER_DATA
    push USER_TOP
    push 0x202
    push USER_CODE
    push rax
    iretq

leave_user:
    mov rsp, [USER_RETURN]
    pop rdi
    pop rsi
    pop rbp
    pop rbx
    ret

; Copies code to user memory: RSI from, RCX bytes.
load_user:
    mov edi, USER
    rep movsb
    ret

trap_entry:
    push rax
    push rcx
    push rdx
    push rbx
    push rbp
    push rsi
    push rdi
    push r8
    push r9
    push r10
    push r11
    push r12
    push r13
    push r14
    push r15
    cld
    mov rbp, rsp
    mov rax, [rbp + FRAME_VECTOR]
    call [HANDLERS + rax * 8]
    pop r15
    pop r14
    pop r13
    pop r12
    pop r11
    pop r10
    pop r9
    pop r8
    pop rdi
    pop rsi
    pop rbp
    pop rbx
    pop rdx
    pop rcx
    pop rax
    add rsp, 16
    iretq

unexpected:
    PRINT "unexpected vector "
    mov rax, [rbp + FRAME_VECTOR]
    mov ecx, 2
    call put_digits
    PRINT " error "
    mov rax, [rbp + FRAME_ERROR]
    mov ecx, 8
    call put_digits
    PRINT " at "
    mov rax, [rbp + FRAME_RIP]
    call put_hex
    call put_line
    jmp power_off

%macro STUB 1
    align 16
    push 0
    push %1
    jmp trap_entry
%endmacro
%macro STUB_ERROR 1
    align 16
    push %1
    jmp trap_entry
%endmacro
    align 16
stubs:
    STUB 0
    STUB 1
    STUB 2
    STUB 3
    STUB 4
    STUB 5
    STUB 6
    STUB 7
    STUB_ERROR 8
    STUB 9
    STUB_ERROR 10
    STUB_ERROR 11
    STUB_ERROR 12
    STUB_ERROR 13
    STUB_ERROR 14
    STUB 15
    STUB 16
    STUB_ERROR 17
    STUB 18
    STUB 19
    STUB 20
    STUB_ERROR 21
    STUB 22
    STUB 23
    STUB 24
    STUB 25
    STUB 26
    STUB 27
    STUB 28
    STUB 29
    STUB 30
    STUB 31
    STUB 32
    STUB 33
    STUB 34
    STUB 35
    STUB 36
    STUB 37
    STUB 38
    STUB 39
    STUB 40
    STUB 41
    STUB 42
    STUB 43
    STUB 44
    STUB 45
    STUB 46
    STUB 47

    align 16
gdt:
    dq 0
    dq 0x00af9b000000ffff
    dq 0x00cf93000000ffff
    dq 0x00cff3000000ffff
    dq 0x00affb000000ffff
    dq 0x0000890000000067
    dq 0
gdt_end:
gdt_pointer:
    dw gdt_end - gdt - 1
    dd gdt
    dd 0
idt_pointer:
    dw 0x81 * 16 - 1
    dd IDT
    dd 0
`;

/** Assembly text by include name. */
export const includes: Readonly<Record<string, string>> = {
  'multiboot.inc': multiboot,
  'console32.inc': console32,
  'kernel32.inc': kernel32,
  'console64.inc': console64,
  'kernel64.inc': kernel64,
};
