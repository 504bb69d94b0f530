; Control, debug and model-specific registers, in 32-bit protected mode.
%include "kernel32.inc"

CR0_KEPT equ 0x9fffffff         ; CD and NW depend on firmware

%macro PUT_CR0 0
    mov eax, cr0
    and eax, CR0_KEPT
    PUT eax
%endmacro

main:
    TAG 'cr0 '
    PUT_CR0
    mov eax, cr0
    or eax, 0x5002e             ; AM WP NE TS EM MP
    mov cr0, eax
    PUT_CR0
    smsw ebx
    and ebx, 0xffff
    PUT ebx
    mov ebx, 0x33333333
    smsw bx
    PUT ebx
    mov dword [SCRATCH], 0x44444444
    smsw [SCRATCH]
    PUT [SCRATCH]
    clts
    PUT_CR0
    mov ax, 0x0f
    lmsw ax
    PUT_CR0
    mov word [SCRATCH], 0       ; LMSW cannot leave protected mode
    lmsw [SCRATCH]
    PUT_CR0
    mov eax, cr0
    and eax, 0xfffaffff
    mov cr0, eax

    TAG 'cr2 '
    mov eax, 0x89abcdef
    mov cr2, eax
    mov ebx, cr2
    PUT ebx
    TAG 'cr3 '
    mov eax, 0x12345018
    mov cr3, eax
    mov edx, cr3
    PUT edx
    TAG 'cr4 '
    mov eax, cr4
    PUT eax
    mov eax, 0x6df              ; VME PVI TSD DE PSE MCE PGE PCE(8) OSFXSR OSXMMEXCPT
    TRY mov cr4, eax
    mov eax, cr4
    PUT eax
    mov eax, 0
    mov cr4, eax
    TRY db 0x0f, 0x20, 0xc8     ; CR1
    TRY db 0x0f, 0x22, 0xe8     ; CR5
    TRY db 0x0f, 0x22, 0xf8     ; CR7

    TAG 'dr  '
    mov eax, 0x11111111
    mov dr0, eax
    mov eax, 0x22222222
    mov dr1, eax
    mov eax, 0x33333333
    mov dr2, eax
    mov eax, 0x44444444
    mov dr3, eax
    mov ebx, dr0
    PUT ebx
    mov ecx, dr1
    PUT ecx
    mov edx, dr2
    PUT edx
    mov esi, dr3
    PUT esi
    mov eax, 0
    mov dr6, eax
    mov eax, dr6
    PUT eax
    mov eax, 0xffff
    mov dr6, eax
    mov eax, dr6
    and eax, 0xffffefff
    PUT eax
    mov eax, 0xf0000000         ; nothing enabled
    mov dr7, eax
    mov eax, dr7
    PUT eax
    TRY db 0x0f, 0x21, 0xe0     ; DR4 is DR6
    TRY db 0x0f, 0x21, 0xe8     ; DR5 is DR7
    mov eax, 8                  ; CR4.DE
    mov cr4, eax
    TRY db 0x0f, 0x21, 0xe0
    TRY db 0x0f, 0x23, 0xe8
    mov eax, 0
    mov cr4, eax
    mov eax, 0x400
    mov dr7, eax
    mov eax, 0xffff0ff0
    mov dr6, eax

    TAG 'msr '
    mov ecx, 0x174              ; SYSENTER
    mov eax, 0x1234
    xor edx, edx
    wrmsr
    mov eax, 0
    rdmsr
    PUT eax
    PUT edx
    mov ecx, 0x175
    mov eax, 0x87654321
    wrmsr
    rdmsr
    PUT eax
    mov ecx, 0x176
    mov eax, 0x12344321
    wrmsr
    rdmsr
    PUT eax
    mov ecx, 0x277              ; PAT
    rdmsr
    PUT eax
    PUT edx
    mov ecx, 0xc0000080         ; EFER
    rdmsr
    PUT eax
    mov eax, 0x801
    xor edx, edx
    TRY wrmsr
    rdmsr
    PUT eax
    mov eax, 0x0
    wrmsr
    mov ecx, 0xc0000081
    mov eax, 0x11112222
    mov edx, 0x33334444
    wrmsr
    xor eax, eax
    rdmsr
    PUT eax
    PUT edx
    mov ecx, 0xc0000084
    mov eax, 0x700
    xor edx, edx
    wrmsr
    rdmsr
    PUT eax

    TAG 'tsc '
    rdtsc
    mov esi, eax
    mov edi, edx
    rdtsc
    sub eax, esi
    sbb edx, edi
    sets al
    movzx eax, al
    PUT eax                     ; it never runs backwards
    mov ecx, 0xc0000103
    mov eax, 0x5a5a
    xor edx, edx
    TRY wrmsr
    mov ecx, 0
    rdtscp
    PUT ecx
    TAG 'cpu '
    xor eax, eax
    cpuid
    PUT ebx                     ; GenuineIntel
    PUT edx
    PUT ecx
    mov eax, 1
    cpuid
    and edx, 0x07808171         ; FPU aside: DE TSC MSR PAE CX8 CMOV MMX aside FXSR SSE SSE2
    and edx, 0x07008170
    PUT edx
    TAG 'misc'
    TRY invlpg [0]
    TRY invlpg [gs:0xfffff000]
    TRY db 0x0f, 0x01, 0xf8     ; a register; in 64-bit mode SWAPGS
    TRY invd
    TRY wbinvd
    TRY clflush [SCRATCH]
    TRY lfence
    TRY mfence
    TRY sfence
    TRY prefetchnta [0xfffffff0]
    TRY prefetcht0 [0xfffffff0]
    TRY prefetcht1 [0xfffffff0]
    TRY prefetcht2 [0xfffffff0]
    TRY prefetchw [0xfffffff0]
    TRY pause
    TRY ud0 eax, [ebx]
    TRY ud1 eax, [ebx]
    TRY ud2
    xor ecx, ecx
    xor edx, edx
    mov eax, SCRATCH
    TRY monitor

    TAG 'ring'
    TRY_USER .to_cr0
    TRY_USER .from_cr0
    TRY_USER .to_dr
    TRY_USER .from_dr
    TRY_USER .clts
    TRY_USER .lmsw
    TRY_USER .rdmsr
    TRY_USER .wrmsr
    TRY_USER .invlpg
    TRY_USER .invd
    TRY_USER .wbinvd
    TRY_USER .hlt
    TRY_USER .rdtsc
    mov eax, 4                  ; CR4.TSD
    mov cr4, eax
    TRY_USER .rdtsc
    TRY_USER .rdtscp
    rdtsc                       ; ring 0 may
    mov eax, 0
    mov cr4, eax
    ret
.to_cr0: mov cr0, eax
.from_cr0: mov eax, cr0
.to_dr: mov dr7, eax
.from_dr: mov eax, dr7
.clts: clts
.lmsw: lmsw ax
.rdmsr: rdmsr
.wrmsr: wrmsr
.invlpg: invlpg [0]
.invd: invd
.wbinvd: wbinvd
.hlt: hlt
.rdtsc: rdtsc
    int 0x80
.rdtscp: rdtscp
    int 0x80

image_end:
