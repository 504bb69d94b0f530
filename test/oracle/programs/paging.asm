; Paging in protected mode: page-fault error codes, write protection, large pages, global pages, accessed and dirty bits, PAE, NX, SMEP, SMAP.
%include "kernel32.inc"

PD      equ 0x200000
PT      equ 0x201000
PDPT    equ 0x202000
PD_PAE  equ 0x203000
PT_PAE  equ 0x204000
PAGE    equ 0x400000            ; the pages played with: WORK and up

%macro ENTRY 2                  ; page of WORK, flags
    mov dword [PT + %1 * 4], (PAGE + %1 * 0x1000) | %2
    invlpg [PAGE + %1 * 0x1000]
%endmacro
%macro ENTRY_PAE 3              ; page of WORK, flags, high word
    mov dword [PT_PAE + %1 * 8], (PAGE + %1 * 0x1000) | %2
    mov dword [PT_PAE + %1 * 8 + 4], %3
    invlpg [PAGE + %1 * 0x1000]
%endmacro

main:
    mov eax, 0x10               ; PSE
    mov cr4, eax
    mov dword [PD], 0x87        ; 4 MiB, also for the user
    mov dword [PD + 4], PT + 7
    mov ecx, 0
.fill:
    mov eax, ecx
    shl eax, 12
    add eax, PAGE + 7
    cmp ecx, 0x100              ; the result words are the supervisor's
    jb .user
    and eax, 0xfffffffb
.user:
    mov [PT + ecx * 4], eax
    inc ecx
    cmp ecx, 1024
    jne .fill
    mov eax, PD
    mov cr3, eax
    mov eax, cr0
    or eax, 0x80000000
    mov cr0, eax
    jmp .on
.on:
    TAG 'page'
    PUT [PD]                    ; accessed and dirty
    PUT [PD + 4]
    ENTRY 0, 7
    mov al, [PAGE]
    PUT [PT]
    mov [PAGE], al
    PUT [PT]
    ENTRY 1, 6                  ; not present
    TRY mov al, [PAGE + 0x1234]
    TRY mov [PAGE + 0x1234], al
    TRY jmp 8:PAGE + 0x1111
    ENTRY 2, 5                  ; read-only
    TRY mov [PAGE + 0x2000], al ; CR0.WP is 0
    PUT [PT + 8]
    mov eax, cr0
    or eax, 0x10000
    mov cr0, eax
    ENTRY 2, 5
    TRY mov [PAGE + 0x2000], al
    TRY inc byte [PAGE + 0x2000]
    mov eax, [PT + 8]           ; a refused access may or may not set the accessed bit
    and eax, 0xffffffdf
    PUT eax
    ENTRY 3, 3                  ; supervisor
    TRY mov [PAGE + 0x3000], al
    TRY_USER .user_read
    TRY_USER .user_write
    TRY_USER .user_jump
    ENTRY 1, 5
    TRY_USER .user_write_1
    ENTRY 1, 6
    TRY_USER .user_write_1
    ENTRY 1, 7
    TRY mov [PAGE + 0x1fff], ax
    ENTRY 2, 0                  ; a write across pages: nothing is written
    mov word [PAGE + 0x1ffe], 0x5555
    TRY mov [PAGE + 0x1ffe], eax
    movzx eax, word [PAGE + 0x1ffe]
    PUT eax
    ENTRY 2, 7
    mov dword [PD + 12], PT + 5 ; the directory refuses to write
    TRY mov [0xc02000], al
    TRY mov al, [0xc02000]
    mov dword [PD + 8], 0x00802087 ; a reserved bit of a large page
    TRY mov al, [0x800000]
    mov dword [PD + 8], 0x00800087
    TRY mov [0x800000], eax
    PUT [PD + 8]
    mov dword [PD + 8], 0
    TRY mov eax, [0x800000]     ; still in the TLB, or not: so only after INVLPG
    invlpg [0x800000]
    TRY mov eax, [0x800000]
    TAG 'strg'                  ; a string instruction that faults midway
    ENTRY 5, 6
    mov esi, PAGE + 0x1000
    mov edi, PAGE + 0x4ffa
    mov ecx, 5
    TRY rep movsw
    PUT ecx
    PUT esi
    PUT edi
    TAG 'stk '
    ENTRY 5, 6
    mov ebp, esp
    mov ebx, PAGE + 0x6002      ; PUSH across into a missing page
    ENTRY 5, 7
    TAG 'smep'
    mov dword [PD], 0x83        ; supervisor from here on
    mov eax, cr3
    mov cr3, eax
    mov eax, 0x100010
    mov cr4, eax
    ENTRY 3, 7
    mov byte [PAGE + 0x3000], 0xc3
    TRY call PAGE + 0x3000
    ENTRY 3, 3
    TRY call PAGE + 0x3000
    TAG 'smap'
    mov eax, 0x10
    mov cr4, eax
    ENTRY 3, 7
    mov eax, 0x200010
    mov cr4, eax
    TRY mov al, [PAGE + 0x3000]
    TRY mov [PAGE + 0x3000], al
    pushfd
    or dword [esp], 0x40000     ; AC
    popfd
    TRY mov al, [PAGE + 0x3000]
    pushfd
    or dword [esp], 0x40000     ; AC
    popfd
    TRY mov [PAGE + 0x3000], al
    push dword 2
    popfd
    mov eax, 0x10
    mov cr4, eax
    mov dword [PD], 0x87
    mov eax, cr3
    mov cr3, eax

    TAG 'pae '
    mov eax, cr0
    and eax, 0x7fffffff
    mov cr0, eax
    mov edi, PDPT
    mov ecx, 8
    xor eax, eax
    rep stosd
    mov dword [PDPT], PD_PAE + 1
    mov dword [PD_PAE], 0x87
    mov dword [PD_PAE + 4], 0
    mov dword [PD_PAE + 8], 0x200087
    mov dword [PD_PAE + 12], 0
    mov dword [PD_PAE + 16], PT_PAE + 7
    mov dword [PD_PAE + 20], 0
    mov ecx, 0
.fill_pae:
    mov eax, ecx
    shl eax, 12
    add eax, PAGE + 7
    mov [PT_PAE + ecx * 8], eax
    mov dword [PT_PAE + ecx * 8 + 4], 0
    inc ecx
    cmp ecx, 512
    jne .fill_pae
    mov dword [PD_PAE + 24], 0x600087
    mov dword [PD_PAE + 28], 0
    mov ecx, 0xc0000080
    xor edx, edx
    mov eax, 0x800              ; NXE
    wrmsr
    mov eax, 0x20
    mov cr4, eax
    mov eax, PDPT
    mov cr3, eax
    mov eax, cr0
    or eax, 0x80000000
    mov cr0, eax
    jmp .pae_on
.pae_on:
    TRY mov [PAGE + 0x100], al
    PUT [PT_PAE]
    PUT [PD_PAE]
    ENTRY_PAE 1, 6, 0
    TRY mov al, [PAGE + 0x1000]
    ENTRY_PAE 1, 7, 0x80000000
    TRY mov al, [PAGE + 0x1000]
    mov byte [PAGE + 0x1000], 0xc3
    TRY call PAGE + 0x1000
    TRY_USER .user_jump_1
    ENTRY_PAE 1, 7, 0x01000000  ; a reserved address bit
    TRY mov al, [PAGE + 0x1000]
    mov ecx, 0xc0000080
    xor edx, edx
    xor eax, eax
    wrmsr
    ENTRY_PAE 1, 7, 0x80000000  ; reserved without NXE
    TRY mov al, [PAGE + 0x1000]
    TRY mov al, [0x40000000]
    TRY mov al, [0xfffff000]
    mov dword [PDPT + 8], PD_PAE + 3 ; a reserved bit: faults when loaded
    mov eax, PDPT
    TRY mov cr3, eax
    mov dword [PDPT + 8], 0
    mov eax, PDPT
    TRY mov cr3, eax
    mov eax, cr0
    and eax, 0x7fffffff
    mov cr0, eax
    ret
.user_read:
    mov al, [PAGE + 0x3000]
    int 0x80
.user_write:
    mov [PAGE + 0x3000], al
    int 0x80
.user_jump:
    mov eax, PAGE + 0x3000
    jmp eax
.user_write_1:
    mov [PAGE + 0x1000], al
    int 0x80
.user_jump_1:
    mov eax, PAGE + 0x1000
    jmp eax

image_end:
