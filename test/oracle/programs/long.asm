; System instructions in 64-bit and compatibility mode.
%include "kernel64.inc"

main:
    mov ebp, esp
    TAG 'int '
    mov dword [abs WATCH], .here
.here:
    int 0x80
    int3
    int 0x81                    ; on the interrupt stack
    TRY int 0x82
    TRY db 0xce                 ; INTO
    TRY db 0x62, 0x00           ; BOUND
    TRY db 0x06                 ; PUSH ES
    TRY db 0x1f                 ; POP DS
    TRY db 0xea, 0, 0, 0, 0, 8, 0
    TRY db 0x9a, 0, 0, 0, 0, 8, 0
    TRY db 0xc4, 0x00           ; LES
    TRY ud2
    TAG 'tabl'
    sgdt [abs SCRATCH]
    movzx eax, word [abs SCRATCH]
    PUT rax
    mov rax, [abs SCRATCH + 2]
    sub rax, gdt
    PUT_BOTH rax
    sidt [abs SCRATCH]
    mov rax, [abs SCRATCH + 2]
    PUT_BOTH rax
    mov rax, 0xffff800012345678
    mov [abs SCRATCH + 2], rax
    TRY lidt [abs SCRATCH]
    sidt [abs SCRATCH + 16]
    lidt [abs idt_pointer]
    PUT_MEM [abs SCRATCH + 22]
    mov rax, 0x8000000012345678
    mov [abs SCRATCH + 2], rax
    TRY lgdt [abs SCRATCH]
    str rax
    PUT_BOTH rax
    mov rax, -1
    sldt eax
    PUT_BOTH rax
    mov ax, LOCAL
    TRY lldt ax
    sldt rax
    PUT rax
    mov ax, TASK_2
    TRY ltr ax
    str ax
    PUT rax
    mov ax, TASK
    and byte [abs gdt + TASK + 5], 0xfd
    TRY ltr ax
    TRY ltr ax
    mov ax, 0
    TRY lldt ax
    mov ax, GATE
    mov rdx, -1
    lar edx, ax
    and rdx, 0xffffffffff00ff00
    PUT_BOTH rdx
    mov ax, TASK
    lar rdx, ax
    PUT rdx
    lsl rdx, ax
    PUT_BOTH rdx
    mov ax, CODE
    verr ax
    PUT_FLAGS
    verw ax
    PUT_FLAGS
    mov ax, LOCAL + 8           ; the upper half of a descriptor
    lsl edx, ax
    PUT_FLAGS
    TAG 'segs'
    xor eax, eax
    TRY mov ds, ax
    TRY mov es, ax
    TRY mov al, [abs SCRATCH]   ; null selectors do not matter
    TRY mov ss, ax              ; nor in SS outside ring 3
    mov ax, DATA
    mov ss, ax
    mov ds, ax
    mov es, ax
    mov ax, ABSENT
    TRY mov fs, ax
    TRY mov ss, ax
    mov ax, 3
    TRY mov ss, ax
    mov ax, USER_DATA
    mov fs, ax
    push fs
    pop rax
    PUT rax
    push USER_DATA
    pop gs
    mov rax, -1
    mov rax, gs
    PUT_BOTH rax
    o16 push gs
    o16 pop fs
    mov dword [abs SCRATCH], 0x12345678
    mov dword [abs SCRATCH + 4], DATA
    TRY lfs eax, [abs SCRATCH]
    PUT_BOTH rax
    TRY lgs eax, [abs SCRATCH]
    TRY lss edx, [abs SCRATCH]
    PUT_BOTH rdx
    TAG 'base'
    mov ecx, 0xc0000100         ; FS
    mov eax, SCRATCH
    xor edx, edx
    wrmsr
    mov ecx, 0xc0000101         ; GS
    mov eax, SCRATCH + 8
    wrmsr
    mov ecx, 0xc0000102         ; KERNEL_GS
    mov eax, SCRATCH + 16
    wrmsr
    mov dword [abs SCRATCH], 0x11111111
    mov dword [abs SCRATCH + 8], 0x22222222
    mov dword [abs SCRATCH + 16], 0x33333333
    mov eax, [fs:0]
    PUT rax
    mov eax, [gs:0]
    PUT rax
    swapgs
    mov eax, [gs:0]
    PUT rax
    rdmsr
    PUT rax
    swapgs
    mov ecx, 0xc0000101
    mov edx, 0x00008000
    TRY wrmsr
    rdmsr
    PUT rax
    TRY rdfsbase rax            ; without CR4.FSGSBASE
    TRY_USER .user_swapgs
    mov rax, cr4
    or eax, 0x10000
    mov cr4, rax
    rdfsbase rax
    PUT_BOTH rax
    rdgsbase eax
    PUT_BOTH rax
    mov rax, 0xffff800000001000
    wrfsbase rax
    rdfsbase rax
    PUT_BOTH rax
    mov ebx, SCRATCH + 4
    wrgsbase ebx
    rdgsbase rax
    PUT_BOTH rax
    mov rax, 0x0000800000000000
    TRY wrgsbase rax
    mov ax, DATA                ; a load resets the base
    mov fs, ax
    rdfsbase rax
    PUT_BOTH rax
    TAG 'cr  '
    mov eax, 5
    mov cr8, rax
    mov rbx, cr8
    PUT_BOTH rbx
    mov eax, 0x10
    TRY mov cr8, rax
    xor eax, eax
    mov cr8, rax
    mov rax, 0x123456789abcdef0
    mov cr2, rax
    mov rbx, cr2
    PUT_BOTH rbx
    mov rax, cr4
    and eax, 0xffffffdf         ; PAE must stay
    TRY mov cr4, rax
    mov rax, 0x0000000180000031 ; reserved for good
    TRY mov cr0, rax
    mov rax, 0xffff0ff0
    mov dr6, rax
    mov rax, 0x100000400
    TRY mov dr7, rax
    mov rax, 0x123456789a
    mov dr1, rax
    mov rbx, dr1
    PUT_BOTH rbx
    xor eax, eax
    mov dr1, rax
    smsw rax
    and eax, 0x9fffffff
    PUT_BOTH rax
    TRY invlpg [abs SCRATCH]
    mov rax, 0x8000000000000000
    TRY mov bl, [rax]
    TRY push qword [rax]
    mov rsp, rbp
    mov rbx, rsp
    mov rsp, rax
    mov rcx, rsp
    mov rsp, rbx
    TRY jmp rax
    TAG 'flag'
    pushfq
    pop rax
    PUT_BOTH rax
    push 0x246ed7
    popfq
    pushfq
    pop rax
    push 2
    popfq
    PUT_BOTH rax
    o16 pushf
    o16 popf
    sti
    PUT_FLAGS
    cli
    clts
    TAG 'far '
    mov eax, .gate
    mov [abs gdt + GATE], ax
    shr eax, 16
    mov [abs gdt + GATE + 6], ax
    mov dword [abs SCRATCH], .far1
    mov word [abs SCRATCH + 4], CODE
    jmp dword far [abs SCRATCH]
.far1:
    mov dword [abs SCRATCH], .far_called
    call dword far [abs SCRATCH]
    PUT rax
    mov word [abs SCRATCH + 4], GATE
    call dword far [abs SCRATCH]
    PUT rax
    mov rax, rbp
    sub rax, rsp
    PUT rax
    mov word [abs SCRATCH + 4], TASK
    TRY call dword far [abs SCRATCH]
    mov word [abs SCRATCH + 4], DATA
    TRY jmp dword far [abs SCRATCH]
    push CODE
    push .far2
    o64 retf
.far2:
    push 0
    push 0
    TRY o64 retf
    mov rsp, rbp
    push DATA
    push 0
    TRY o64 retf
    mov rsp, rbp
    push USER_DATA
    push USER_TOP
    push USER_CODE
    push .user_hello
    mov dword [abs WATCH], .user_hello
    mov [abs RESUME_SP], rbp
    mov dword [abs RESUME], .far3
    o64 retf
.far3:
    call settle
    push 0
    push 0x4002                 ; NT in IRET
    popfq
    TRY iretq
    push 2
    popfq
    mov rsp, rbp
    TAG 'comp'
    mov word [abs SCRATCH + 4], CODE32
    mov dword [abs SCRATCH], .compatible
    jmp dword far [abs SCRATCH]
    bits 32
.compatible:
    mov eax, 0xffffffff
    inc eax
    pushfd
    pop ebx
    mov ecx, cs
    str edx
    int 0x80                    ; through a 64-bit gate
    call CODE32:.compatible_far
    call GATE:0                 ; into 64-bit code and back
    jmp CODE:.from_compatible
.compatible_far:
    retf
    bits 64
.from_compatible:
    PUT rax
    PUT rbx
    PUT rcx
    PUT rdx
    mov rax, rbp
    sub rax, rsp
    PUT rax
    TAG 'sysc'
    mov ecx, 0xc0000081         ; STAR
    xor eax, eax
    mov edx, (USER_CODE32 << 16) | CODE
    wrmsr
    mov ecx, 0xc0000082         ; LSTAR
    mov eax, .lstar
    xor edx, edx
    wrmsr
    mov ecx, 0xc0000083         ; CSTAR
    mov eax, .lstar
    wrmsr
    mov ecx, 0xc0000084         ; FMASK
    mov eax, 0x200
    wrmsr
    mov ecx, 0xc0000082
    mov edx, 0x8000
    TRY wrmsr
    TRY_USER .user_syscall
    PUT rbx
    TRY_USER .user_sysret
    mov ecx, 0xc0000080
    rdmsr
    and eax, 0xfffffffe
    wrmsr
    TRY syscall
    TRY o64 sysret
    or eax, 1
    wrmsr
    TAG 'syse'
    TRY_USER .user_sysenter     ; SYSENTER_CS is 0
    mov ecx, 0x174
    mov eax, CODE
    xor edx, edx
    wrmsr
    mov ecx, 0x175
    mov eax, ENTRY_TOP - 0x100
    wrmsr
    mov ecx, 0x176
    mov eax, .sysenter64
    wrmsr
    mov dword [abs gdt + 0x18], 0x0000ffff ; SYSEXIT wants CODE DATA USER_CODE32 USER_DATA USER_CODE USER_DATA
    TRY_USER .user_sysenter
    TRY_USER32 .user_sysenter32
    TRY_USER .user_sysexit
    xor eax, eax
    mov ecx, 0x174
    xor edx, edx
    wrmsr
    TRY o64 sysexit
    TAG 'ring'
    TRY_USER .user_cr
    TRY_USER .user_lgdt
    TRY_USER .user_hlt
    TRY_USER .user_cli
    TRY_USER .user_flags
    TRY_USER .user_high
    TRY_USER32 .user32
    ret

.gate:
    mov eax, cs
    add eax, 0x100
    o64 retf
.far_called:
    mov eax, cs
    o32 retf
.lstar:
    PUT rcx
    mov eax, cs
    PUT rax
    mov eax, ss
    PUT rax
    PUT r11
    PUT_FLAGS
    PUT rsp
    or r11, 0x40                ; a flag to be seen
    o64 sysret
.sysenter64:
    PUT_FLAGS
    PUT rsp
    mov eax, cs
    PUT rax
    mov eax, ss
    PUT rax
    cmp ebx, 32
    je .exit32
    mov rdx, .user_after
    mov ecx, USER_TOP - 0x40
    o64 sysexit
.exit32:
    mov edx, .user_after32
    mov ecx, USER_TOP - 0x80
    sysexit

.user_swapgs: swapgs
.user_hello:
    mov eax, cs
    PUT rax
    mov eax, ds
    PUT rax
    int 0x80
.user_syscall:
    mov eax, 0x1234
    push 0x202
    popfq
    syscall
    pushfq
    pop rbx
    mov eax, cs
    PUT rax
    mov eax, ss
    PUT rax
    PUT rsp
    int 0x80
.user_sysret: o64 sysret
.user_sysenter:
    mov ebx, 64
    sysenter
.user_after:
    mov eax, cs
    PUT rax
    mov eax, ss
    PUT rax
    PUT rsp
    int 0x80
.user_sysexit: o64 sysexit
.user_cr: mov rax, cr8
.user_lgdt: lgdt [abs SCRATCH]
.user_hlt: hlt
.user_cli: cli
.user_flags:
    push 0x3202
    popfq
    PUT_FLAGS
    int 0x80
.user_high:
    mov rax, 0xffff800000000000
    mov rax, [rax]
    bits 32
.user32:
    mov eax, esp
    mov ebx, cs
    mov ecx, 0x1234
    lea edx, [ecx + 0xfffff000]
    db 0x40                     ; INC EAX here, a prefix in 64-bit mode
    nop
    push es
    pop es
    int 0x80
.user_sysenter32:
    mov ebx, 32
    sysenter
.user_after32:
    mov eax, esp
    mov ecx, cs
    mov edx, ss
    int 0x80
    bits 64

image_end:
