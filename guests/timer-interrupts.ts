import type { Guest } from './guest.ts';
import { everyMonitor, longMode } from './guest.ts';

export const timerInterrupts: Guest = {
  name: 'timer-interrupts',
  title: 'Timer interrupts through the PIC',
  description: 'Programs the two 8259 interrupt controllers and counter 0 of the 8254 timer, waits for 40 ticks with HLT and 10 in a busy loop, and checks masking, pending and in-service bits. Each tick costs an interrupt, its acknowledgement at a port, and a return; what is printed does not depend on when the ticks come.',
  bits: 32,
  source: String.raw`%include "multiboot.inc"
%include "console32.inc"
%include "kernel32.inc"

MASTER  equ 0x20
SLAVE   equ 0xa0
VECTOR  equ 0x20

ticks      equ VARIABLES
outside    equ VARIABLES + 4    ; ticks that did not find their in-service bit set
unfinished equ VARIABLES + 8    ; ticks that found it still set after the end of interrupt

%macro COUNTED 2
    PRINT %1
    mov eax, %2
    call put_number
    call put_line
%endmacro

main:
    mov dword [HANDLERS + VECTOR * 4], tick
    call controllers
    mov ecx, 1193               ; about 1 kHz
    call set_timer
    call wait_halted
    PRINT "forty ticks with HLT"
    call put_line
    mov ecx, 60                 ; about 20 kHz
    call set_timer
    call wait_busy
    PRINT "ten ticks in a busy loop"
    call put_line
    mov ecx, 600                ; about 2 kHz
    call set_timer
    call pending
    call masked
    COUNTED "not in service ", [outside]
    COUNTED "not finished ", [unfinished]
    ret

controllers:                    ; vectors 20H to 2FH, only line 0 open
    mov al, 0x11
    out MASTER, al
    out SLAVE, al
    mov al, VECTOR
    out MASTER + 1, al
    mov al, VECTOR + 8
    out SLAVE + 1, al
    mov al, 4
    out MASTER + 1, al
    mov al, 2
    out SLAVE + 1, al
    mov al, 1
    out MASTER + 1, al
    out SLAVE + 1, al
    mov al, 0xfe
    out MASTER + 1, al
    mov al, 0xff
    out SLAVE + 1, al
    ret

set_timer:                      ; CX: input clocks between ticks; mode 2
    mov al, 0x34
    out 0x43, al
    mov al, cl
    out 0x40, al
    mov al, ch
    out 0x40, al
    ret

wait_halted:
    mov dword [ticks], 0
.next:
    cli
    cmp dword [ticks], 40
    jae .done
    sti
    hlt                         ; not between STI and HLT: the interrupt shadow
    jmp .next
.done:
    ret

wait_busy:
    mov dword [ticks], 0
    xor edx, edx
    sti
.next:
    add edx, 1
    rol edx, 1
    cmp dword [ticks], 10
    jb .next
    cli
    ret

pending:                        ; with interrupts disabled a tick stays in the request register
    mov dword [ticks], 0
    mov al, 0x0a                ; port reads give the request register
    out MASTER, al
.wait:
    in al, MASTER
    test al, 1
    jz .wait
    COUNTED "ticks while disabled ", [ticks]
    mov dword [ticks], 0
    mov al, 0xff                ; keep later ticks away, but not the one that is waiting
    sti
    nop
    cli
    out MASTER + 1, al
    COUNTED "ticks after STI ", [ticks]
    ret

masked:                         ; the line is closed: nothing gets through
    mov dword [ticks], 0
    sti
    mov al, 0x0a
    out MASTER, al
.wait:
    in al, MASTER
    test al, 1
    jz .wait
    nop
    cli
    COUNTED "ticks while masked ", [ticks]
    ret

tick:
    inc dword [ticks]
    mov al, 0x0b                ; port reads give the in-service register
    out MASTER, al
    in al, MASTER
    test al, 1
    jnz .serviced
    inc dword [outside]
.serviced:
    mov al, 0x20                ; end of interrupt
    out MASTER, al
    in al, MASTER
    test al, 1
    jz .return
    inc dword [unfinished]
.return:
    ret
image_end:
`,
  expected: `forty ticks with HLT
ten ticks in a busy loop
ticks while disabled 0
ticks after STI 1
ticks while masked 0
not in service 0
not finished 0
`,
  memoryMiB: 16,
  monitors: everyMonitor,
  cannot: {},
  deviations: {},
};

export const timerInterrupts64: Guest = {
  name: 'timer-interrupts64',
  title: 'Timer interrupts through the local APIC',
  description: 'Maps the local APIC, uses its timer periodically and once, sends interrupts to itself, and holds them back with the task-priority register in CR8. Each access to an APIC register is memory-mapped I/O: without help from the hardware the monitor must decode the instruction to emulate it.',
  bits: 64,
  source: String.raw`%include "multiboot.inc"
%include "console64.inc"
%include "kernel64.inc"

APIC      equ 0xfee00000
DIRECTORY3 equ 0x211000         ; page directory of the fourth GiB

; Registers, from the APIC's base
END       equ 0xb0
SPURIOUS  equ 0xf0
SERVICE   equ 0x120             ; in-service bits of vectors 40H to 5FH
REQUEST   equ 0x220             ; request bits of vectors 40H to 5FH
COMMAND   equ 0x300
TIMER     equ 0x320
INITIAL   equ 0x380
CURRENT   equ 0x390
DIVIDE    equ 0x3e0

ticks      equ VARIABLES
outside    equ VARIABLES + 8    ; interrupts that did not find their in-service bit set
self       equ VARIABLES + 16   ; interrupts sent to itself

%macro COUNTED 2
    PRINT %1
    mov rax, %2
    call put_number
    call put_line
%endmacro

main:
    mov edi, DIRECTORY3
    mov ecx, 512
    xor eax, eax
    rep stosq
    mov dword [PDPT + 3 * 8], DIRECTORY3 + 3
    mov dword [DIRECTORY3 + 503 * 8], APIC + 0x93 ; 2 MiB page, uncached
    mov ecx, 0x1b               ; IA32_APIC_BASE
    rdmsr
    and eax, 0xfffff900
    sub eax, 0xfee00900         ; enabled, bootstrap processor
    COUNTED "base difference ", rax
    mov eax, 0x40
    mov edx, tick
    mov ecx, 0x8e00
    call set_gate
    mov eax, 0x41
    mov edx, sent
    call set_gate
    mov eax, 0x4f
    mov edx, spurious
    call set_gate
    mov ebx, APIC
    mov dword [rbx + SPURIOUS], 0x14f ; software enable
    mov dword [rbx + DIVIDE], 3  ; divide by 16

    mov dword [rbx + TIMER], 0x20040
    mov dword [rbx + INITIAL], 5000
.halted:
    cli
    cmp qword [ticks], 40
    jae .halted_done
    sti
    hlt
    jmp .halted
.halted_done:
    mov dword [rbx + INITIAL], 0  ; stops the timer
    PRINT "forty ticks with HLT"
    call put_line

    mov qword [ticks], 0
    mov dword [rbx + INITIAL], 500
    sti
.busy:
    add rdx, 1
    rol rdx, 1
    cmp qword [ticks], 10
    jb .busy
    cli
    mov dword [rbx + INITIAL], 0
    sti                         ; one more may be waiting
    nop
    cli
    PRINT "ten ticks in a busy loop"
    call put_line

    mov qword [ticks], 0
    mov dword [rbx + TIMER], 0x40 ; once
    mov dword [rbx + INITIAL], 1000
    sti
    hlt
    cli
    COUNTED "ticks once ", [ticks]
    mov eax, [rbx + CURRENT]
    COUNTED "count left ", rax

    mov qword [ticks], 0
    mov dword [rbx + TIMER], 0x10040 ; masked
    mov dword [rbx + INITIAL], 500
.masked:
    mov eax, [rbx + CURRENT]
    test eax, eax
    jnz .masked
    sti
    nop
    cli
    COUNTED "ticks while masked ", [ticks]

    mov ecx, 100
    sti
.send:
    mov dword [rbx + COMMAND], 0x44041 ; fixed, to itself
.accepted:
    mov rax, [self]
    add rax, rcx
    cmp rax, 101
    jb .accepted
    dec ecx
    jnz .send
.last:
    cmp qword [self], 100
    jb .last
    cli
    COUNTED "sent to itself ", [self]

    mov eax, 15                 ; everything below class 15 waits
    mov cr8, rax
    mov qword [self], 0
    mov dword [rbx + COMMAND], 0x44041
    sti
    nop
    nop
    COUNTED "above the threshold ", [self]
    mov eax, [rbx + REQUEST]
    shr eax, 1
    and eax, 1
    COUNTED "requested ", rax
    mov rax, cr8
    COUNTED "threshold ", rax
    xor eax, eax
    mov cr8, rax
.lowered:
    cmp qword [self], 0
    je .lowered
    cli
    COUNTED "after lowering ", [self]
    COUNTED "not in service ", [outside]
    ret

    align 16
tick:
    push rax
    push rcx
    mov ecx, APIC
    inc qword [ticks]
    mov eax, [rcx + SERVICE]
    and eax, 1
    xor eax, 1
    add [outside], rax
    mov dword [rcx + END], 0
    pop rcx
    pop rax
    iretq

    align 16
sent:
    push rax
    push rcx
    mov ecx, APIC
    inc qword [self]
    mov eax, [rcx + SERVICE]
    shr eax, 1
    and eax, 1
    xor eax, 1
    add [outside], rax
    mov dword [rcx + END], 0
    pop rcx
    pop rax
    iretq

spurious:
    iretq
image_end:
`,
  expected: `base difference 0
forty ticks with HLT
ten ticks in a busy loop
ticks once 1
count left 0
ticks while masked 0
sent to itself 100
above the threshold 0
requested 1
threshold 15
after lowering 1
not in service 0
`,
  memoryMiB: 16,
  ...longMode,
  deviations: {},
};
