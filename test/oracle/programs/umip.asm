; CR4.UMIP: SLDT, STR, SGDT, SIDT and SMSW fault outside ring 0.
%include "kernel32.inc"

main:
    mov eax, 0x800
    mov cr4, eax
    TAG 'umip'
    TRY_USER .sldt
    TRY_USER .str
    TRY_USER .sgdt
    TRY_USER .sidt
    TRY_USER .smsw
    TRY_USER .memory
    TRY sldt eax
    TRY smsw eax
    ret
.sldt: sldt eax
.str: str eax
.sgdt: sgdt [SCRATCH]
.sidt: sidt [SCRATCH]
.smsw: smsw eax
.memory: smsw [SCRATCH]

image_end:
