import type { Guest } from './guest.ts';
import { everyMonitor, longMode } from './guest.ts';

export const pageFaults: Guest = {
  name: 'page-faults',
  title: 'Page faults and page tables, 32-bit',
  description: 'Maps a 2 MiB window page by page from its page-fault handler, write-protects it, tears it down and does it again, then switches between two address spaces and checks accessed and dirty bits. Shadow paging has to follow every one of these steps; with EPT the guest keeps its page tables to itself.',
  bits: 32,
  source: String.raw`%include "multiboot.inc"
%include "console32.inc"
%include "kernel32.inc"

WINDOW      equ 0x40000000
PAGES       equ 512
FRAMES      equ WORK            ; 2 MiB of frames for the window
TABLE       equ 0x205000        ; page table of the window
OTHER       equ 0x206000        ; a second page directory
OTHER_TABLE equ 0x207000        ; and its table for the window

faults     equ VARIABLES        ; by error code, eight counters
wrong      equ VARIABLES + 32   ; faults at an address that was not touched
touching   equ VARIABLES + 36   ; address about to be touched

; Prints a name and a counter
%macro COUNTED 2
    PRINT %1
    mov eax, %2
    call put_number
    call put_line
%endmacro

main:
    mov dword [HANDLERS + 14 * 4], page_fault
    mov dword [PAGE_DIRECTORY + (WINDOW >> 22) * 4], TABLE + 7
    call write_all
    COUNTED "mapped by writing ", [faults + 2 * 4]
    call protect
    call write_all
    COUNTED "unprotected by writing ", [faults + 3 * 4]
    call unmap
    call read_all
    mov ebp, eax
    COUNTED "mapped by reading ", [faults]
    COUNTED "sum after reading ", ebp
    call unmap_at_once
    call write_all
    COUNTED "mapped again ", [faults + 2 * 4]
    call accessed
    call write_through
    call spaces
    call user
    COUNTED "wrong addresses ", [wrong]
    ret

; Writes the number of pages left into each page. A plain store: whether an instruction that reads and then writes
; faults as a read or as a write is not settled by the manual.
write_all:
    mov edi, WINDOW
    mov ecx, PAGES
.next:
    mov [touching], edi
    mov [edi], ecx
    add edi, 0x1000
    dec ecx
    jnz .next
    ret

read_all:
    mov edi, WINDOW
    mov ecx, PAGES
    xor eax, eax
.next:
    mov [touching], edi
    add eax, [edi]
    add edi, 0x1000
    dec ecx
    jnz .next
    ret

; Takes the write permission from each page.
protect:
    mov edi, WINDOW
    xor ecx, ecx
.next:
    and dword [TABLE + ecx * 4], ~2
    invlpg [edi]
    add edi, 0x1000
    inc ecx
    cmp ecx, PAGES
    jne .next
    ret

; Takes each page away.
unmap:
    mov edi, WINDOW
    xor ecx, ecx
.next:
    mov dword [TABLE + ecx * 4], 0
    invlpg [edi]
    add edi, 0x1000
    inc ecx
    cmp ecx, PAGES
    jne .next
    ret

; The whole page table, with one reload of CR3.
unmap_at_once:
    mov edi, TABLE
    mov ecx, 1024
    xor eax, eax
    rep stosd
    mov eax, cr3
    mov cr3, eax
    ret

; Clears the accessed and dirty bits, then reads even pages and writes every fourth one.
accessed:
    xor ecx, ecx
.clear:
    and dword [TABLE + ecx * 4], ~0x60
    inc ecx
    cmp ecx, PAGES
    jne .clear
    mov eax, cr3
    mov cr3, eax
    mov edi, WINDOW
    xor ecx, ecx
.touch:
    test ecx, 1
    jnz .skip
    mov eax, [edi]
    test ecx, 3
    jnz .skip
    mov [edi], eax
.skip:
    add edi, 0x1000
    inc ecx
    cmp ecx, PAGES
    jne .touch
    xor ecx, ecx
    xor ebx, ebx                ; accessed
    xor edx, edx                ; dirty
.count:
    mov eax, [TABLE + ecx * 4]
    bt eax, 5
    adc ebx, 0
    bt eax, 6
    adc edx, 0
    inc ecx
    cmp ecx, PAGES
    jne .count
    COUNTED "accessed ", ebx
    COUNTED "dirty ", edx
    ret

; With CR0.WP clear the kernel writes read-only pages without a fault.
write_through:
    call protect
    mov eax, [faults + 3 * 4]
    push eax
    mov eax, cr0
    and eax, ~0x10000
    mov cr0, eax
    mov edi, WINDOW
    mov ecx, 16
.next:
    mov [touching], edi
    add dword [edi], 100
    add edi, 0x1000
    dec ecx
    jnz .next
    mov eax, cr0
    or eax, 0x10000
    mov cr0, eax
    pop edx
    mov eax, [faults + 3 * 4]
    sub eax, edx
    COUNTED "faults with WP clear ", eax
    COUNTED "value written ", [WINDOW]
    ret

; A second address space with the frames in reverse order; 64 switches, one page looked at in each.
spaces:
    mov esi, PAGE_DIRECTORY
    mov edi, OTHER
    mov ecx, 1024
    rep movsd
    mov dword [OTHER + (WINDOW >> 22) * 4], OTHER_TABLE + 7
    xor ecx, ecx
    mov eax, FRAMES + (PAGES - 1) * 0x1000 + 3
.map:
    mov [OTHER_TABLE + ecx * 4], eax
    mov edx, eax                ; number each frame through the identity map
    sub edx, FRAMES + 3
    shr edx, 12
    mov [eax - 3 + 8], edx
    sub eax, 0x1000
    inc ecx
    cmp ecx, PAGES
    jne .map
    xor ecx, ecx
    xor ebx, ebx                ; numbers seen in the first space
    xor edx, edx                ; and in the second
    mov edi, WINDOW
.switch:
    mov eax, OTHER
    mov cr3, eax
    add edx, [edi + 8]
    mov eax, PAGE_DIRECTORY
    mov cr3, eax
    add ebx, [edi + 8]
    add edi, 0x1000
    inc ecx
    cmp ecx, 32
    jne .switch
    COUNTED "first space ", ebx
    COUNTED "second space ", edx
    ret

; From ring 3: a supervisor page and an absent page, read and written.
user:
    mov dword [TABLE + 511 * 4], 0
    invlpg [WINDOW + 511 * 0x1000]
    mov eax, 0x80
    mov edx, leave_user
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
    COUNTED "user read absent ", [faults + 4 * 4]
    COUNTED "user read supervisor ", [faults + 5 * 4]
    COUNTED "user write absent ", [faults + 6 * 4]
    COUNTED "user write supervisor ", [faults + 7 * 4]
    ret

page_fault:
    mov ecx, [ebp + FRAME_ERROR]
    cmp ecx, 7
    ja unexpected
    inc dword [faults + ecx * 4]
    mov edx, cr2
    test ecx, 4
    jnz .user
    cmp edx, [touching]
    je .right
    inc dword [wrong]
.right:
    mov ebx, edx
    sub ebx, WINDOW
    cmp ebx, PAGES * 0x1000
    jae unexpected
    shr ebx, 12
    test ecx, 1
    jnz .protected
    mov eax, ebx
    shl eax, 12
    add eax, FRAMES + 3
    mov [TABLE + ebx * 4], eax
    ret
.protected:
    or dword [TABLE + ebx * 4], 2
    ret
.user:                          ; go on at ESI; EBX is where the fault must be
    cmp edx, [ebp + FRAME_EBX]
    je .resume
    inc dword [wrong]
.resume:
    mov eax, [ebp + FRAME_ESI]
    mov [ebp + FRAME_EIP], eax
    ret

    align 16
program:
    call .here
.here:
    pop edi
    mov ebx, KERNEL_TOP
    lea esi, [edi + .first - .here]
    mov eax, [ebx]
.first:
    lea esi, [edi + .second - .here]
    mov [ebx], eax
.second:
    mov ebx, WINDOW + 511 * 0x1000
    lea esi, [edi + .third - .here]
    mov eax, [ebx]
.third:
    lea esi, [edi + .fourth - .here]
    mov [ebx], eax
.fourth:
    int 0x80
program_end:
image_end:
`,
  expected: `mapped by writing 512
unprotected by writing 512
mapped by reading 512
sum after reading 131328
mapped again 1024
accessed 256
dirty 128
faults with WP clear 0
value written 612
first space 496
second space 15856
user read absent 1
user read supervisor 1
user write absent 1
user write supervisor 1
wrong addresses 0
`,
  memoryMiB: 16,
  monitors: everyMonitor,
  cannot: {},
  deviations: {},
};

export const pageFaults64: Guest = {
  name: 'page-faults64',
  title: 'Page faults and page tables, long mode',
  description: 'The same with four-level tables high in the canonical space: demand mapping, write protection, INVLPG and CR3 reloads, accessed and dirty bits, and besides a 2 MiB page, execute-disable, and whole branches of the tree cut off. A nested walk with EPT takes up to 24 references here; shadow paging walks four.',
  bits: 64,
  source: String.raw`%include "multiboot.inc"
%include "console64.inc"
%include "kernel64.inc"

WINDOW   equ 0x0000700040000000
PAGES    equ 512
FRAMES   equ WORK               ; 2 MiB of frames for the window
LARGE    equ WORK + 0x400000    ; a 2 MiB frame
TREE     equ 0x211000           ; PDPT, directory and table of the window
OTHER    equ 0x215000           ; a second PML4 with its own branch
SLOT     equ 224                ; PML4 entry of the window

faults   equ VARIABLES          ; by error code, 32 counters
wrong    equ VARIABLES + 0x100  ; faults at an address that was not touched
touching equ VARIABLES + 0x108  ; address about to be touched
built    equ VARIABLES + 0x110  ; tables linked by the handler

%macro COUNTED 2
    PRINT %1
    mov rax, %2
    call put_number
    call put_line
%endmacro

main:
    mov qword [HANDLERS + 14 * 8], page_fault
    mov edi, TREE
    mov ecx, 0x8000 / 8
    xor eax, eax
    rep stosq
    call write_all
    COUNTED "mapped by writing ", [faults + 2 * 8]
    COUNTED "tables built ", [built]
    call protect
    call write_all
    COUNTED "unprotected by writing ", [faults + 3 * 8]
    call unmap
    call read_all
    mov r12, rax
    COUNTED "mapped by reading ", [faults]
    COUNTED "sum after reading ", r12
    mov qword [PML4 + SLOT * 8], 0 ; cut off at the root
    mov rax, cr3
    mov cr3, rax
    call clear_tree
    call write_all
    COUNTED "mapped again ", [faults + 2 * 8]
    COUNTED "tables built ", [built]
    call accessed
    call large
    call no_execute
    call spaces
    call user
    COUNTED "wrong addresses ", [wrong]
    ret

write_all:
    mov rdi, WINDOW
    mov ecx, PAGES
.next:
    mov [touching], rdi
    mov [rdi], rcx
    add rdi, 0x1000
    dec ecx
    jnz .next
    ret

read_all:
    mov rdi, WINDOW
    mov ecx, PAGES
    xor eax, eax
.next:
    mov [touching], rdi
    add rax, [rdi]
    add rdi, 0x1000
    dec ecx
    jnz .next
    ret

protect:
    mov rdi, WINDOW
    xor ecx, ecx
.next:
    and qword [TREE + 0x2000 + rcx * 8], ~2
    invlpg [rdi]
    add rdi, 0x1000
    inc ecx
    cmp ecx, PAGES
    jne .next
    ret

unmap:
    mov rdi, WINDOW
    xor ecx, ecx
.next:
    mov qword [TREE + 0x2000 + rcx * 8], 0
    invlpg [rdi]
    add rdi, 0x1000
    inc ecx
    cmp ecx, PAGES
    jne .next
    ret

clear_tree:
    mov edi, TREE
    mov ecx, 0x3000 / 8
    xor eax, eax
    rep stosq
    ret

accessed:
    xor ecx, ecx
.clear:
    and qword [TREE + 0x2000 + rcx * 8], ~0x60
    inc ecx
    cmp ecx, PAGES
    jne .clear
    and qword [TREE + 8], ~0x20
    and qword [TREE + 0x1000], ~0x20
    mov rax, cr3
    mov cr3, rax
    mov rdi, WINDOW
    xor ecx, ecx
.touch:
    test ecx, 1
    jnz .skip
    mov rax, [rdi]
    test ecx, 3
    jnz .skip
    mov [rdi], rax
.skip:
    add rdi, 0x1000
    inc ecx
    cmp ecx, PAGES
    jne .touch
    xor ecx, ecx
    xor ebx, ebx                ; accessed
    xor edx, edx                ; dirty
.count:
    mov rax, [TREE + 0x2000 + rcx * 8]
    bt rax, 5
    adc ebx, 0
    bt rax, 6
    adc edx, 0
    inc ecx
    cmp ecx, PAGES
    jne .count
    bt qword [TREE + 8], 5          ; and the tables above
    adc ebx, 0
    bt qword [TREE + 0x1000], 5
    adc ebx, 0
    COUNTED "accessed ", rbx
    COUNTED "dirty ", rdx
    ret

; A 2 MiB page next to the window: written at four places, seen through the identity map.
large:
    mov qword [TREE + 0x1000 + 8], LARGE + 0x83
    mov rdi, WINDOW + 0x200000
    xor ecx, ecx
.next:
    mov [rdi], rdi
    add rdi, 0x80000
    inc ecx
    cmp ecx, 4
    jne .next
    mov rax, [LARGE + 0x180000]
    mov rdx, WINDOW + 0x380000
    sub rax, rdx
    mov r12, rax
    mov r13, [TREE + 0x1000 + 8]
    COUNTED "large page difference ", r12
    and r13d, 0x60
    COUNTED "large page bits ", r13
    ret

; A page of RET instructions, first executable, then not.
no_execute:
    mov rdi, WINDOW + 4 * 0x1000
    mov byte [rdi], 0xc3
    call rdi
    mov rax, 0x8000000000000000
    or [TREE + 0x2000 + 4 * 8], rax
    invlpg [rdi]
    mov [touching], rdi
    call rdi                    ; faults; the handler takes the bit away
    call rdi
    COUNTED "fetched from execute-disable ", [faults + 0x11 * 8]
    ret

spaces:
    mov esi, PML4
    mov edi, OTHER
    mov ecx, 512
    rep movsq
    mov dword [OTHER + SLOT * 8], OTHER + 0x1007
    mov dword [OTHER + 0x1000 + 8], OTHER + 0x2007
    mov dword [OTHER + 0x2000], OTHER + 0x3007
    xor ecx, ecx
    mov eax, FRAMES + (PAGES - 1) * 0x1000 + 3
.map:
    mov [OTHER + 0x3000 + rcx * 8], rax
    mov edx, eax                ; number each frame through the identity map
    sub edx, FRAMES + 3
    shr edx, 12
    mov [rax - 3 + 8], rdx
    sub eax, 0x1000
    inc ecx
    cmp ecx, PAGES
    jne .map
    xor ecx, ecx
    xor ebx, ebx
    xor edx, edx
    mov rdi, WINDOW
.switch:
    mov eax, OTHER
    mov cr3, rax
    add rdx, [rdi + 8]
    mov eax, PML4
    mov cr3, rax
    add rbx, [rdi + 8]
    add rdi, 0x1000
    inc ecx
    cmp ecx, 32
    jne .switch
    COUNTED "first space ", rbx
    COUNTED "second space ", rdx
    ret

user:
    mov rdi, WINDOW + 511 * 0x1000
    mov qword [TREE + 0x2000 + 511 * 8], 0
    invlpg [rdi]
    mov eax, 0x80
    mov edx, leave_user
    mov ecx, 0xee00
    call set_gate
    mov esi, program
    mov ecx, program_end - program
    call load_user
    mov eax, USER
    call enter_user
    COUNTED "user read absent ", [faults + 4 * 8]
    COUNTED "user read supervisor ", [faults + 5 * 8]
    COUNTED "user write absent ", [faults + 6 * 8]
    COUNTED "user write supervisor ", [faults + 7 * 8]
    ret

page_fault:
    mov rcx, [rbp + FRAME_ERROR]
    cmp ecx, 31
    ja unexpected
    inc qword [faults + rcx * 8]
    mov rdx, cr2
    test ecx, 4
    jnz .user
    cmp rdx, [touching]
    je .right
    inc qword [wrong]
.right:
    mov rbx, rdx
    mov rax, WINDOW
    sub rbx, rax
    cmp rbx, PAGES * 0x1000
    jae unexpected
    shr rbx, 12
    test ecx, 16
    jnz .fetch
    test ecx, 1
    jnz .protected
    test byte [PML4 + SLOT * 8], 1
    jnz .linked
    mov qword [PML4 + SLOT * 8], TREE + 7
    mov qword [TREE + 8], TREE + 0x1007 ; the window is the second GiB of its slot
    mov qword [TREE + 0x1000], TREE + 0x2007
    add qword [built], 3
.linked:
    mov eax, ebx
    shl eax, 12
    add eax, FRAMES + 3
    mov [TREE + 0x2000 + rbx * 8], rax
    ret
.protected:
    or qword [TREE + 0x2000 + rbx * 8], 2
    ret
.fetch:
    btr qword [TREE + 0x2000 + rbx * 8], 63
    ret
.user:                          ; go on at RSI; RBX is where the fault must be
    cmp rdx, [rbp + FRAME_RBX]
    je .resume
    inc qword [wrong]
.resume:
    mov rax, [rbp + FRAME_RSI]
    mov [rbp + FRAME_RIP], rax
    ret

    align 16
program:
    mov ebx, KERNEL_TOP
    lea rsi, [rel .first]
    mov eax, [rbx]
.first:
    lea rsi, [rel .second]
    mov [rbx], eax
.second:
    mov rbx, WINDOW + 511 * 0x1000
    lea rsi, [rel .third]
    mov eax, [rbx]
.third:
    lea rsi, [rel .fourth]
    mov [rbx], eax
.fourth:
    int 0x80
program_end:
image_end:
`,
  expected: `mapped by writing 512
tables built 3
unprotected by writing 512
mapped by reading 512
sum after reading 131328
mapped again 1024
tables built 6
accessed 258
dirty 128
large page difference 0
large page bits 96
fetched from execute-disable 1
first space 496
second space 15856
user read absent 1
user read supervisor 1
user write absent 1
user write supervisor 1
wrong addresses 0
`,
  memoryMiB: 16,
  ...longMode,
  deviations: {},
};
