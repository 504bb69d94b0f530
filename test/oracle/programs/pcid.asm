; Process-context identifiers and INVPCID.
%include "kernel64.inc"

main:
    TAG 'invp'
    mov qword [abs SCRATCH], 0
    mov qword [abs SCRATCH + 8], SCRATCH
    mov eax, 0
    TRY invpcid rax, [abs SCRATCH]
    mov eax, 1
    TRY invpcid rax, [abs SCRATCH]
    mov eax, 2
    TRY invpcid rax, [abs SCRATCH]
    mov eax, 3
    TRY invpcid rax, [abs SCRATCH]
    mov eax, 4
    TRY invpcid rax, [abs SCRATCH]
    mov eax, 0
    mov qword [abs SCRATCH], 1  ; a PCID without CR4.PCIDE
    TRY invpcid rax, [abs SCRATCH]
    mov eax, 1
    TRY invpcid rax, [abs SCRATCH]
    mov qword [abs SCRATCH], 0x1000 ; reserved bits
    TRY invpcid rax, [abs SCRATCH]
    mov rbx, 0x8000000000000000
    mov eax, 0
    mov qword [abs SCRATCH], 0
    mov [abs SCRATCH + 8], rbx
    TRY invpcid rax, [abs SCRATCH]
    TRY invpcid rax, [rbx]
    TRY_USER .user
    TAG 'pcid'
    mov rax, cr4
    or eax, 0x20000
    TRY mov cr4, rax
    mov rax, cr3
    or eax, 5
    TRY mov cr3, rax
    mov rax, cr3
    PUT rax
    bts rax, 63                 ; keeps the translations, is not stored
    TRY mov cr3, rax
    mov rax, cr3
    PUT_BOTH rax
    mov qword [abs SCRATCH], 5
    mov qword [abs SCRATCH + 8], WORK
    mov eax, 0
    TRY invpcid rax, [abs SCRATCH]
    mov eax, 1
    TRY invpcid rax, [abs SCRATCH]
    mov rax, cr4
    and eax, 0xfffdffff
    TRY mov cr4, rax
    mov eax, PML4
    mov cr3, rax
    ret
.user:
    invpcid rax, [abs SCRATCH]

image_end:
