import type { Guest } from './guest.ts';
import { everyMonitor } from './guest.ts';

export const exceptions: Guest = {
  name: 'exceptions',
  title: 'Processor exceptions',
  description: 'Provokes exceptions in ring 0 and ring 3 (divide errors, breakpoints, bounds, invalid opcodes, segment and page faults, a double fault) and prints vector, error code and how far the saved instruction pointer is from the instruction that did it. Monitors that intercept or emulate exceptions must hand on exactly these.',
  bits: 32,
  source: String.raw`%include "multiboot.inc"
%include "console32.inc"
%include "kernel32.inc"

; Each test sets EBX to the instruction to be watched and ESI to where to go on.
scratch equ VARIABLES
count   equ VARIABLES + 64
NOWHERE equ 0x50000000          ; not mapped

%macro GATE_TO 1                ; makes the vector's handler the one that prints
    mov dword [HANDLERS + %1 * 4], report
%endmacro

%macro WATCH 3                  ; name, instruction, continuation
    PRINT %1
    mov ebx, %2
    mov esi, %3
%endmacro

main:
    GATE_TO 0
    GATE_TO 1
    GATE_TO 3
    GATE_TO 4
    GATE_TO 5
    GATE_TO 6
    GATE_TO 8
    GATE_TO 11
    GATE_TO 12
    GATE_TO 13
    GATE_TO 14
    call arithmetic
    call traps
    call opcodes
    call segments
    call pages
    call double
    call user
    PRINT "exceptions "
    mov eax, [count]
    call put_number
    call put_line
    ret

arithmetic:
    WATCH "divide by zero", .by_zero, .overflow
    xor edx, edx
    xor ecx, ecx
    mov eax, 1
.by_zero:
    div ecx
.overflow:
    WATCH "quotient too large", .too_large, .signed
    mov edx, 5
    mov ecx, 5
.too_large:
    div ecx
.signed:
    WATCH "signed overflow", .minimum, .done
    mov eax, 0x80000000
    mov edx, -1
    mov ecx, -1
.minimum:
    idiv ecx
.done:
    ret

traps:
    WATCH "breakpoint", .breakpoint, .into
.breakpoint:
    int3
.into:
    WATCH "overflow", .overflow, .bound
    mov al, 0x7f
    add al, 1
.overflow:
    into
.bound:
    WATCH "bound", .outside, .step
    mov dword [scratch], 10
    mov dword [scratch + 4], 20
    mov eax, 20
    bound eax, [scratch]        ; within
    inc eax
.outside:
    bound eax, [scratch]
.step:
    WATCH "single step", .stepped, .done
    pushfd
    or dword [esp], 0x100
    popfd
.stepped:
    nop
    nop
.done:
    ret

opcodes:
    WATCH "undefined", .undefined, .lock
.undefined:
    ud2
.lock:
    WATCH "lock without a store", .locked, .move
.locked:
    db 0xf0, 0x90
.move:
    WATCH "move to CS", .to_cs, .done
    mov eax, KERNEL_CODE
.to_cs:
    db 0x8e, 0xc8
.done:
    ret

segments:
    WATCH "beyond the GDT", .beyond, .absent
    mov eax, 0x1ff8
.beyond:
    mov fs, ax
.absent:
    WATCH "absent segment", .load_absent, .stack
    mov eax, ABSENT
.load_absent:
    mov fs, ax
.stack:
    WATCH "absent stack", .load_stack, .null_stack
    mov eax, ABSENT
.load_stack:
    mov ss, ax
.null_stack:
    WATCH "null stack", .load_null, .vector
    xor eax, eax
.load_null:
    mov ss, ax
.vector:
    WATCH "beyond the IDT", .interrupt, .done
.interrupt:
    int 0x90
.done:
    ret

pages:
    WATCH "page read", .read, .write
.read:
    mov eax, [NOWHERE + 0x123]
.write:
    WATCH "page write", .store, .crossing
.store:
    mov [NOWHERE + 0x124], eax
.crossing:                      ; the last mapped bytes are at the end of 16 MiB
    WATCH "page crossing", .cross, .done
.cross:
    mov eax, [0xfffffe]
.done:
    ret

double:                         ; the handler of #GP is absent: #NP while delivering #GP
    and byte [IDT + 13 * 8 + 5], 0x7f
    WATCH "double fault", .fault, .done
    mov eax, 0x1ff8
.fault:
    mov fs, ax
.done:
    or byte [IDT + 13 * 8 + 5], 0x80
    ret

user:
    mov eax, 0x80
    mov edx, .back
    mov ecx, 0xee00
    call set_gate
    mov eax, 3                  ; user mode may use the breakpoint gate
    mov edx, stubs + 3 * 16
    mov ecx, 0xee00
    call set_gate
    mov esi, program
    mov ecx, program_end - program
    call load_user
    mov eax, USER
    call enter_user
    mov ax, KERNEL_DATA
    mov ds, ax
    mov es, ax
    ret
.back:
    jmp leave_user

report:
    inc dword [count]
    test dword [ebp + FRAME_CS], 3
    jz .kernel
    PRINT "user code"
.kernel:
    PRINT ": vector "
    mov eax, [ebp + FRAME_VECTOR]
    call put_number
    PRINT " error "
    mov eax, [ebp + FRAME_ERROR]
    mov ecx, 4
    call put_digits
    cmp dword [ebp + FRAME_VECTOR], 8
    je .aborted                 ; the saved pointer of a double fault is undefined
    PRINT " at +"
    mov eax, [ebp + FRAME_EIP]
    sub eax, [ebp + FRAME_EBX]
    call put_number
.aborted:
    cmp dword [ebp + FRAME_VECTOR], 14
    jne .line
    PRINT " address "
    mov eax, cr2
    call put_hex
.line:
    call put_line
    mov eax, [ebp + FRAME_ESI]
    mov [ebp + FRAME_EIP], eax
    and dword [ebp + FRAME_EFLAGS], ~0x100 ; TF
    ret

; In user mode, where it is copied to USER. The kernel prints.
    align 16
program:
    call .here
.here:
    pop edi
    lea ebx, [edi + .divide - .here]
    lea esi, [edi + .breakpoint - .here]
    xor edx, edx
    xor ecx, ecx
.divide:
    div ecx
.breakpoint:
    lea ebx, [edi + .int3 - .here]
    lea esi, [edi + .gate - .here]
.int3:
    int3
.gate:
    lea ebx, [edi + .kernel_gate - .here]
    lea esi, [edi + .privileged - .here]
.kernel_gate:
    int 0x0e
.privileged:
    lea ebx, [edi + .halt - .here]
    lea esi, [edi + .selector - .here]
.halt:
    hlt
.selector:
    lea ebx, [edi + .load - .here]
    lea esi, [edi + .page - .here]
    mov eax, KERNEL_DATA
.load:
    mov fs, ax
.page:
    lea ebx, [edi + .store - .here]
    lea esi, [edi + .done - .here]
.store:
    mov [VARIABLES], eax
.done:
    int 0x80
program_end:
image_end:
`,
  expected: `divide by zero: vector 0 error 0000 at +0
quotient too large: vector 0 error 0000 at +0
signed overflow: vector 0 error 0000 at +0
breakpoint: vector 3 error 0000 at +1
overflow: vector 4 error 0000 at +1
bound: vector 5 error 0000 at +0
single step: vector 1 error 0000 at +1
undefined: vector 6 error 0000 at +0
lock without a store: vector 6 error 0000 at +0
move to CS: vector 6 error 0000 at +0
beyond the GDT: vector 13 error 1ff8 at +0
absent segment: vector 11 error 0050 at +0
absent stack: vector 12 error 0050 at +0
null stack: vector 13 error 0000 at +0
beyond the IDT: vector 13 error 0482 at +0
page read: vector 14 error 0000 at +0 address 50000123
page write: vector 14 error 0002 at +0 address 50000124
page crossing: vector 14 error 0000 at +0 address 01000000
double fault: vector 8 error 0000
user code: vector 0 error 0000 at +0
user code: vector 3 error 0000 at +1
user code: vector 13 error 0072 at +0
user code: vector 13 error 0000 at +0
user code: vector 13 error 0010 at +0
user code: vector 14 error 0007 at +0 address 00210000
exceptions 25
`,
  memoryMiB: 16,
  monitors: everyMonitor,
  cannot: {},
  deviations: {},
};
