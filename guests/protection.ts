import type { Guest } from './guest.ts';
import { everyMonitor } from './guest.ts';

export const protection: Guest = {
  name: 'protection',
  title: 'Segment protection and alignment',
  description: 'Tries segment limits, types and null segments on every kind of access, expand-down segments, the checks of MOV to CR0, and alignment checking in ring 3. Emulators that trade these checks for speed fail it; under trap-and-emulate segment limits are what protects the monitor itself.',
  bits: 32,
  source: String.raw`%include "multiboot.inc"
%include "console32.inc"
%include "kernel32.inc"

; Each test is a routine; a fault ends it. The kernel's GDT is extended here and loaded again.
resume_esp equ VARIABLES
vector     equ VARIABLES + 4
error      equ VARIABLES + 8
left       equ VARIABLES + 12   ; ECX when the last fault came
pointer    equ VARIABLES + 16
NEW_GDT    equ VARIABLES + 0x400
AREA       equ WORK
END        equ WORK + 0x1000    ; where the segments end
FLAT       equ 0x5b             ; base 0, ends at END, writable
DOWN       equ 0x63             ; expand-down: begins at END
CODE       equ 0x6b             ; execute-only
STACK      equ 0x70             ; as FLAT, for ring 0

main:
    mov dword [HANDLERS + 6 * 4], fault
    mov dword [HANDLERS + 11 * 4], fault
    mov dword [HANDLERS + 12 * 4], fault
    mov dword [HANDLERS + 13 * 4], fault
    mov dword [HANDLERS + 17 * 4], alignment
    mov esi, gdt
    mov edi, NEW_GDT
    mov ecx, (gdt_end - gdt) / 4
    rep movsd
    mov dword [NEW_GDT + 0x58], 0x00000400
    mov dword [NEW_GDT + 0x5c], 0x00c0f300
    mov dword [NEW_GDT + 0x60], 0x00000400
    mov dword [NEW_GDT + 0x64], 0x00c0f700
    mov dword [NEW_GDT + 0x68], 0x00000400
    mov dword [NEW_GDT + 0x6c], 0x00c0f900
    mov dword [NEW_GDT + 0x70], 0x00000400
    mov dword [NEW_GDT + 0x74], 0x00c09300
    mov word [pointer], 0x77
    mov dword [pointer + 2], NEW_GDT
    lgdt [pointer]
    mov dword [END - 4], 0x11223344
    mov esi, tests
.next:
    mov edi, [esi]
    test edi, edi
    jz .aligned
    push esi
    mov esi, [esi + 4]
    call put_text
    mov dword [vector], 0
    mov [resume_esp], esp
    call edi
.resume:
    cmp dword [vector], 0
    jne .fault
    PRINT ": no fault, value "
    call put_hex
    jmp .line
.fault:
    PRINT ": vector "
    mov eax, [vector]
    call put_number
    PRINT " error "
    mov eax, [error]
    mov ecx, 4
    call put_digits
.line:
    call put_line
    xor eax, eax
    mov fs, ax
    pop esi
    add esi, 8
    jmp .next
.aligned:
    call user
    ret

fault:
    mov eax, [ebp + FRAME_VECTOR]
    mov [vector], eax
    mov eax, [ebp + FRAME_ERROR]
    mov [error], eax
    mov eax, [ebp + FRAME_ECX]
    mov [left], eax
    mov ax, KERNEL_DATA
    mov ss, ax
    mov esp, [resume_esp]
    jmp main.resume

last_dword:
    mov eax, FLAT
    mov fs, ax
    mov eax, [fs:END - 4]
    ret
crossing:
    mov eax, FLAT
    mov fs, ax
    mov eax, [fs:END - 3]
    ret
store_beyond:
    mov eax, FLAT
    mov fs, ax
    mov [fs:END], al
    ret
wrapping:
    mov eax, FLAT
    mov fs, ax
    mov eax, [fs:0xfffffffe]
    ret
below:
    mov eax, DOWN
    mov fs, ax
    mov eax, [fs:END - 1]
    ret
above:
    mov eax, DOWN
    mov fs, ax
    mov dword [fs:END], 0x55667788
    mov eax, [END]
    ret
read_only:
    mov eax, SMALL_DATA
    mov fs, ax
    mov [fs:0], al
    ret
locked:                         ; reads and writes
    mov eax, SMALL_DATA
    mov fs, ax
    lock inc dword [fs:0]
    ret
execute_only:
    mov eax, CODE
    mov fs, ax
    ret
null:
    xor eax, eax
    mov fs, ax
    mov eax, [fs:AREA]
    ret
to_code:
    mov [cs:AREA], eax
    ret
from_code:
    mov eax, [cs:AREA + 0xffc]
    ret
stack_beyond:                   ; through SS it is #SS
    mov ax, STACK
    mov ss, ax
    mov esp, END - 0x100
    mov ebp, END
    mov eax, [ebp - 2]
    ret
stack_absent:
    mov ax, ABSENT
    mov ss, ax
    ret
stack_type:                     ; SS must be writable
    mov ax, SMALL_DATA
    mov ss, ax
    ret
string_move:                    ; stops at the limit
    mov eax, FLAT
    mov es, ax
    mov esi, AREA
    mov edi, END - 16
    mov ecx, 9
    rep movsd
    ret
string_left:                    ; what it left in ECX
    mov eax, [left]
    ret
far_beyond:
    jmp 0x1ff8:0
far_data:
    jmp KERNEL_DATA:0
far_execute:                    ; a nonconforming segment of another ring
    jmp USER_CODE:0
no_protection:                  ; PG without PE
    mov eax, 0x80000030
    mov cr0, eax
    ret
not_through:                    ; NW without CD
    mov eax, 0xa0010031
    mov cr0, eax
    ret
null_task:
    xor eax, eax
    ltr ax
    ret
busy_task:
    mov ax, TASK
    ltr ax
    ret
code_as_ldt:
    mov ax, KERNEL_CODE
    lldt ax
    ret
gate_as_data:
    mov ax, GATE
    mov fs, ax
    ret

user:
    mov eax, 0x80
    mov edx, leave_user
    mov ecx, 0xee00
    call set_gate
    mov eax, cr0
    or eax, 0x40000             ; AM
    mov cr0, eax
    mov esi, program
    mov ecx, program_end - program
    call load_user
    mov eax, USER
    call enter_user
    mov ax, KERNEL_DATA
    mov ds, ax
    mov es, ax
    ret

alignment:                      ; says where, goes on at ESI
    PRINT "alignment check "
    mov eax, [ebp + FRAME_EBX]
    call put_number
    PRINT " error "
    mov eax, [ebp + FRAME_ERROR]
    mov ecx, 4
    call put_digits
    call put_line
    mov eax, [ebp + FRAME_ESI]
    mov [ebp + FRAME_EIP], eax
    ret

    align 16
program:
    call .here
.here:
    pop edi
    pushfd
    or dword [esp], 0x40000
    popfd
    mov ebx, 1
    lea esi, [edi + .second - .here]
    mov eax, [USER + 0x1001]
.second:
    mov ebx, 2
    lea esi, [edi + .third - .here]
    mov [USER + 0x1003], ax
.third:
    mov ebx, 3
    lea esi, [edi + .fourth - .here]
    mov al, [USER + 0x1001]     ; bytes are always aligned
    mov ax, [USER + 0x1002]
    mov eax, [USER + 0x1004]
    mov eax, [USER + 0x1002]
.fourth:
    mov ebx, 4
    lea esi, [edi + .fifth - .here]
    push word 0
    push eax
.fifth:
    lea esp, [esp + 2]
    pushfd
    and dword [esp], ~0x40000
    popfd
    mov eax, [USER + 0x1001]    ; AC is clear: nothing
    int 0x80
program_end:

    align 4
tests:
    dd last_dword, n_last_dword
    dd crossing, n_crossing
    dd store_beyond, n_store_beyond
    dd wrapping, n_wrapping
    dd below, n_below
    dd above, n_above
    dd read_only, n_read_only
    dd locked, n_locked
    dd execute_only, n_execute_only
    dd null, n_null
    dd to_code, n_to_code
    dd from_code, n_from_code
    dd stack_beyond, n_stack_beyond
    dd stack_absent, n_stack_absent
    dd stack_type, n_stack_type
    dd string_move, n_string_move
    dd string_left, n_string_left
    dd far_beyond, n_far_beyond
    dd far_data, n_far_data
    dd far_execute, n_far_execute
    dd no_protection, n_no_protection
    dd not_through, n_not_through
    dd null_task, n_null_task
    dd busy_task, n_busy_task
    dd code_as_ldt, n_code_as_ldt
    dd gate_as_data, n_gate_as_data
    dd 0

n_last_dword:    db "last dword", 0
n_crossing:      db "crossing the limit", 0
n_store_beyond:  db "storing beyond the limit", 0
n_wrapping:      db "wrapping around", 0
n_below:         db "expand-down below", 0
n_above:         db "expand-down above", 0
n_read_only:     db "storing to read-only", 0
n_locked:        db "locked on read-only", 0
n_execute_only:  db "loading execute-only", 0
n_null:          db "null segment", 0
n_to_code:       db "storing to code", 0
n_from_code:     db "reading readable code", 0
n_stack_beyond:  db "stack limit", 0
n_stack_absent:  db "absent stack segment", 0
n_stack_type:    db "read-only stack", 0
n_string_move:   db "string move over the limit", 0
n_string_left:   db "left to move", 0
n_far_beyond:    db "far jump beyond the GDT", 0
n_far_data:      db "far jump to data", 0
n_far_execute:   db "far jump to user code", 0
n_no_protection: db "paging without protection", 0
n_not_through:   db "NW without CD", 0
n_null_task:     db "null task", 0
n_busy_task:     db "busy task", 0
n_code_as_ldt:   db "code as LDT", 0
n_gate_as_data:  db "gate as data", 0
image_end:
`,
  expected: `last dword: no fault, value 11223344
crossing the limit: vector 13 error 0000
storing beyond the limit: vector 13 error 0000
wrapping around: vector 13 error 0000
expand-down below: vector 13 error 0000
expand-down above: no fault, value 55667788
storing to read-only: vector 13 error 0000
locked on read-only: vector 13 error 0000
loading execute-only: vector 13 error 0068
null segment: vector 13 error 0000
storing to code: vector 13 error 0000
reading readable code: no fault, value 11223344
stack limit: vector 12 error 0000
absent stack segment: vector 12 error 0050
read-only stack: vector 13 error 0030
string move over the limit: vector 13 error 0000
left to move: no fault, value 00000005
far jump beyond the GDT: vector 13 error 1ff8
far jump to data: vector 13 error 0010
far jump to user code: vector 13 error 0018
paging without protection: vector 13 error 0000
NW without CD: vector 13 error 0000
null task: vector 13 error 0000
busy task: vector 13 error 0028
code as LDT: vector 13 error 0008
gate as data: vector 13 error 0048
alignment check 1 error 0000
alignment check 2 error 0000
alignment check 3 error 0000
alignment check 4 error 0000
`,
  memoryMiB: 16,
  monitors: everyMonitor,
  cannot: {},
  deviations: {},
};
