import type { Guest } from './guest.ts';

const notRealMode = 'a guest in real mode needs "unrestricted guest", or a monitor that runs it in virtual-8086 mode; this one does neither';

export const realMode: Guest = {
  name: 'real-mode',
  title: 'Real mode',
  description: 'Leaves protected mode for real mode, installs an interrupt handler in the vector table at address 0, calls it 1,000 times, and tries segment arithmetic and string moves across segments. The first VT-x processors could not run this: VM entry demanded protected mode and paging.',
  bits: 32,
  source: String.raw`%include "multiboot.inc"

PLACE equ 0x8000                ; the 16-bit part runs here
VALUE equ 0x7000                ; its variables

start:
    cli
    cld
    mov esp, KERNEL_TOP
    mov al, 0xff
    out 0x21, al
    out 0xa1, al
    mov dx, 0x3fb               ; serial line: 8 bits, no parity, one stop bit
    mov al, 3
    out dx, al
    lgdt [gdt_pointer]
    mov esi, part
    mov edi, PLACE
    mov ecx, part_end - part
    rep movsb
    jmp 0x08:PLACE

    bits 16
; First 16-bit protected mode, to get limits of 64 KiB, then real mode.
part:
    mov ax, 0x10
    mov ds, ax
    mov es, ax
    mov ss, ax
    lidt [PLACE + vectors - part]
    mov eax, cr0
    and al, 0xfe
    mov cr0, eax
    jmp 0:PLACE + .real - part
.real:
    xor ax, ax
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov sp, 0x7000
    mov si, PLACE + hello - part
    call text

    mov word [0x60 * 4], PLACE + handler - part
    mov word [0x60 * 4 + 2], 0
    mov dword [VALUE], 0
    mov cx, 1000
.call:
    mov ax, cx
    int 0x60
    loop .call
    mov eax, [VALUE]
    call number                 ; 1 + 2 + ... + 1000

    mov ax, 0x1234              ; 1234:5 is 12345
    mov ds, ax
    mov byte [5], 0xa5
    mov ax, 0x1000
    mov ds, ax
    mov al, [0x2345]
    xor dx, dx
    mov ds, dx
    movzx eax, al
    call number

    mov ax, 0x2000              ; 4 KiB from 2000:0 to 3000:0, then a sum
    mov es, ax
    xor di, di
    mov cx, 2048
    mov ax, 7
.fill:
    stosw
    add ax, 13
    loop .fill
    mov ax, 0x2000
    mov ds, ax
    mov ax, 0x3000
    mov es, ax
    xor si, si
    xor di, di
    mov cx, 2048
    rep movsw
    mov ds, ax
    xor si, si
    mov cx, 2048
    xor edx, edx
.sum:
    lodsw
    movzx eax, ax
    add edx, eax
    loop .sum
    xor ax, ax
    mov ds, ax
    mov eax, edx
    call number

    pushf                       ; flags: IF as set here, 16 bits
    pop ax
    and eax, 0x200
    call number
    mov dx, 0x604
    mov ax, 0x2000
    out dx, ax
    xor al, al
    out 0xf4, al
.halt:
    hlt
    jmp .halt

handler:
    push bp
    mov bp, sp
    movzx eax, ax
    add [VALUE], eax
    pop bp
    iret

text:                           ; SI
    lodsb
    test al, al
    jz .done
    call char
    jmp text
.done:
    ret

char:                           ; AL
    push ax
    mov dx, 0x3fd
.wait:
    in al, dx
    test al, 0x20
    jz .wait
    pop ax
    mov dx, 0x3f8
    out dx, al
    ret

number:                         ; EAX, decimal, and a newline
    mov ebx, 10
    xor cx, cx
.divide:
    xor edx, edx
    div ebx
    push dx
    inc cx
    test eax, eax
    jnz .divide
.next:
    pop ax
    add al, '0'
    call char
    loop .next
    mov al, 10
    call char
    ret

hello:
    db "Hello from real mode", 10, 0
vectors:
    dw 0x3ff
    dd 0
part_end:

    align 8
gdt:
    dq 0
    dq 0x00009b000000ffff       ; 16-bit code, base 0
    dq 0x000093000000ffff
gdt_end:
gdt_pointer:
    dw gdt_end - gdt - 1
    dd gdt
image_end:
`,
  expected: `Hello from real mode
500500
165
27264000
0
`,
  memoryMiB: 16,
  monitors: ['native'],
  cannot: {
    'trap-and-emulate': 'ring 1 exists only in protected mode, and this monitor does not run real mode as virtual-8086 mode',
    'vtx-shadow': notRealMode,
    'vtx-ept': notRealMode,
  },
  deviations: {},
};

export const virtual8086: Guest = {
  name: 'virtual-8086',
  title: 'Virtual-8086 mode',
  description: 'A protected-mode kernel runs a 16-bit program in virtual-8086 mode and plays its monitor: software interrupts, CLI, STI, PUSHF and IN fault into the kernel, which decodes and emulates them 1,000 times. The oldest virtual machine of the x86, inside the newer ones.',
  bits: 32,
  source: String.raw`%include "multiboot.inc"
%include "console32.inc"
%include "kernel32.inc"

PLACE equ 0x8000                ; the 16-bit program, at 0800:0000

calls     equ VARIABLES         ; INT 60H
sum       equ VARIABLES + 4
flag_uses equ VARIABLES + 8     ; CLI, STI, PUSHF
ports     equ VARIABLES + 12    ; IN
enabled   equ VARIABLES + 16    ; the program's IF, 0 or 200H
answer    equ VARIABLES + 20

main:
    mov dword [HANDLERS + 13 * 4], protection
    or dword [PAGE_TABLES + (PLACE >> 12) * 4], 4
    or dword [PAGE_TABLES + (PLACE >> 12) * 4 + 4], 4
    mov eax, cr3
    mov cr3, eax
    mov esi, program
    mov edi, PLACE
    mov ecx, program_end - program
    rep movsb
    call run
    PRINT "interrupts "
    mov eax, [calls]
    call put_number
    call put_line
    PRINT "sum "
    mov eax, [sum]
    call put_number
    call put_line
    PRINT "flag instructions "
    mov eax, [flag_uses]
    call put_number
    call put_line
    PRINT "port reads "
    mov eax, [ports]
    call put_number
    call put_line
    PRINT "answer "
    mov eax, [answer]
    call put_hex
    call put_line
    ret

run:
    pushad
    mov [USER_RETURN], esp
    push dword 0                ; GS FS DS ES
    push dword 0
    push dword PLACE >> 4
    push dword PLACE >> 4
    push dword PLACE >> 4       ; SS:SP
    push dword 0x1ffe
    push dword 0x20202          ; VM and IF
    push dword PLACE >> 4
    push dword 0
    iret

; What virtual-8086 mode may not do arrives here; the linear address of the instruction is CS * 16 + IP.
protection:
    test dword [ebp + FRAME_EFLAGS], 0x20000
    jz unexpected
    movzx esi, word [ebp + FRAME_CS]
    shl esi, 4
    add esi, [ebp + FRAME_EIP]
    mov al, [esi]
    cmp al, 0xcd
    je .interrupt
    cmp al, 0xfa
    je .cli
    cmp al, 0xfb
    je .sti
    cmp al, 0x9c
    je .pushf
    cmp al, 0xe4
    je .in
    cmp al, 0xf4
    jne unexpected
    mov eax, [ebp + FRAME_EAX]  ; HLT: the program is done
    mov [answer], eax
    jmp leave_user
.interrupt:
    cmp byte [esi + 1], 0x60
    jne unexpected
    inc dword [calls]
    movzx eax, word [ebp + FRAME_EAX]
    add [sum], eax
    add dword [ebp + FRAME_EIP], 2
    ret
.cli:
    mov dword [enabled], 0
    jmp .flag
.sti:
    mov dword [enabled], 0x200
    jmp .flag
.pushf:
    movzx edi, word [ebp + FRAME_SS]
    shl edi, 4
    sub word [ebp + FRAME_ESP], 2
    movzx eax, word [ebp + FRAME_ESP]
    mov edx, [ebp + FRAME_EFLAGS]
    and edx, 0xdff
    or edx, [enabled]
    mov [edi + eax], dx
.flag:
    inc dword [flag_uses]
    inc dword [ebp + FRAME_EIP]
    ret
.in:
    inc dword [ports]
    mov byte [ebp + FRAME_EAX], 0x77
    add dword [ebp + FRAME_EIP], 2
    ret

    bits 16
    align 16
program:
    mov cx, 700
.call:
    mov ax, cx
    int 0x60
    loop .call
    mov cx, 75
    xor bx, bx
.flags:
    sti
    pushf
    pop ax
    and ax, 0x200
    add bx, ax
    cli
    pushf
    pop ax
    and ax, 0x200
    add bx, ax
    loop .flags
    mov ax, ds                  ; another segment for the same byte
    inc ax
    mov es, ax
    mov byte [0x1010], 0x5a
    mov dl, [es:0x1000]
    in al, 0x80
    mov ah, dl
    shl eax, 16
    mov ax, bx
    hlt
    bits 32
program_end:
image_end:
`,
  expected: `interrupts 700
sum 245350
flag instructions 300
port reads 1
answer 5a779600
`,
  memoryMiB: 16,
  monitors: ['native', 'vtx-shadow', 'vtx-ept'],
  cannot: {
    'trap-and-emulate': 'IRET enters virtual-8086 mode only in ring 0; in ring 1 it leaves the VM flag alone and does not trap for that, and the monitor has no virtual-8086 mode of its own to give',
  },
  deviations: {},
};
