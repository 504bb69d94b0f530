import type { Guest } from './guest.ts';
import { everyMonitor, longMode } from './guest.ts';

export const compute: Guest = {
  name: 'compute',
  title: 'Computation, 32-bit',
  description: 'Integer and memory loops over a few hundred KiB: random numbers, checksums, CRC-32, a sieve, a matrix product, recursion, sorting and division. Nothing in the loops concerns a monitor, so only first touches of memory and the printed lines may cost anything extra.',
  bits: 32,
  source: String.raw`%include "multiboot.inc"
%include "console32.inc"
%include "kernel32.inc"

ARRAY   equ WORK                ; 65,536 dwords
COPY    equ WORK + 0x50000
TABLE   equ WORK + 0xa0000      ; CRC table
SIEVE   equ WORK + 0xb0000
MATRIX  equ WORK + 0xc0000      ; three of 24 x 24 dwords
SORTED  equ WORK + 0xd0000
COUNT   equ 65536
PRIMES  equ 32768
SIDE    equ 24

%macro RESULT 1                 ; name; the value is in EAX
    PRINT %1
    call put_hex
    call put_line
%endmacro

main:
    call fill
    call checksum
    RESULT "random "
    call reverse
    mov esi, COPY
    call checksum.from
    RESULT "reversed "
    mov esi, ARRAY
    mov edi, COPY
    mov ecx, COUNT
    rep movsd
    mov esi, COPY
    call checksum.from
    RESULT "copied "
    call crc
    RESULT "crc32 "
    call sieve
    RESULT "primes "
    call matrix
    RESULT "matrix "
    mov ecx, 16
    call fibonacci
    RESULT "fibonacci "
    call sort
    RESULT "sorted "
    call collatz
    RESULT "collatz "
    call divisors
    RESULT "divisors "
    ret

fill:
    mov edi, ARRAY
    mov ecx, COUNT
    mov eax, 1
.next:
    imul eax, eax, 1103515245
    add eax, 12345
    mov [edi], eax
    add edi, 4
    dec ecx
    jnz .next
    ret

checksum:
    mov esi, ARRAY
.from:
    mov ecx, COUNT
    xor eax, eax
.next:
    rol eax, 5
    xor eax, [esi]
    add eax, ecx
    add esi, 4
    dec ecx
    jnz .next
    ret

reverse:                        ; bytes of each element, last element first
    mov esi, ARRAY
    mov edi, COPY + COUNT * 4 - 4
    mov ecx, COUNT
.next:
    mov eax, [esi]
    bswap eax
    mov [edi], eax
    add esi, 4
    sub edi, 4
    dec ecx
    jnz .next
    ret

crc:                            ; of the first 64 KiB
    xor ecx, ecx
.entry:
    mov eax, ecx
    mov edx, 8
.bit:
    shr eax, 1
    jnc .even
    xor eax, 0xedb88320
.even:
    dec edx
    jnz .bit
    mov [TABLE + ecx * 4], eax
    inc ecx
    cmp ecx, 256
    jne .entry
    mov esi, ARRAY
    mov ecx, 65536
    mov eax, -1
.byte:
    movzx edx, byte [esi]
    xor dl, al
    shr eax, 8
    xor eax, [TABLE + edx * 4]
    inc esi
    dec ecx
    jnz .byte
    not eax
    ret

sieve:
    mov edi, SIEVE
    mov ecx, PRIMES / 4
    mov eax, 0x01010101
    rep stosd
    mov ecx, 2
    xor eax, eax
.number:
    cmp byte [SIEVE + ecx], 0
    je .next
    inc eax
    lea edx, [ecx + ecx]
.multiple:
    cmp edx, PRIMES
    jae .next
    mov byte [SIEVE + edx], 0
    add edx, ecx
    jmp .multiple
.next:
    inc ecx
    cmp ecx, PRIMES
    jb .number
    ret

matrix:                         ; the sum of all elements of A x B, where a[i] = i + 1 and b[i] = 7 * i
    xor ecx, ecx
    xor edx, edx
.set:
    lea eax, [ecx + 1]
    mov [MATRIX + ecx * 4], eax
    mov [MATRIX + SIDE * SIDE * 4 + ecx * 4], edx
    add edx, 7
    inc ecx
    cmp ecx, SIDE * SIDE
    jne .set
    mov esi, MATRIX             ; row of A
    xor edx, edx
    mov ebp, SIDE
.row:
    mov edi, MATRIX + SIDE * SIDE * 4
.column:
    xor ecx, ecx
    push edi
.term:
    mov eax, [esi + ecx * 4]
    imul eax, [edi]
    add edx, eax
    add edi, SIDE * 4
    inc ecx
    cmp ecx, SIDE
    jne .term
    pop edi
    rol edx, 1
    add edi, 4
    cmp edi, MATRIX + SIDE * SIDE * 4 + SIDE * 4
    jne .column
    add esi, SIDE * 4
    dec ebp
    jnz .row
    mov eax, edx
    ret

fibonacci:                      ; ECX, recursively
    cmp ecx, 2
    jae .recurse
    mov eax, ecx
    ret
.recurse:
    push ecx
    dec ecx
    call fibonacci
    pop ecx
    push eax
    sub ecx, 2
    call fibonacci
    pop edx
    add eax, edx
    ret

sort:                           ; 256 elements by insertion, then a position-weighted sum
    mov esi, ARRAY
    mov edi, SORTED
    mov ecx, 256
    rep movsd
    mov ecx, 1
.element:
    mov eax, [SORTED + ecx * 4]
    mov edx, ecx
.shift:
    mov ebx, [SORTED - 4 + edx * 4]
    cmp ebx, eax
    jbe .place
    mov [SORTED + edx * 4], ebx
    dec edx
    jnz .shift
.place:
    mov [SORTED + edx * 4], eax
    inc ecx
    cmp ecx, 256
    jne .element
    xor eax, eax
    xor ecx, ecx
.sum:
    mov edx, [SORTED + ecx * 4]
    inc ecx
    imul edx, ecx
    add eax, edx
    cmp ecx, 256
    jne .sum
    ret

collatz:                        ; steps of all starts from 1 to 1,000
    xor eax, eax
    mov ecx, 1000
.start:
    mov edx, ecx
.step:
    cmp edx, 1
    je .next
    inc eax
    shr edx, 1
    jnc .step
    lea edx, [edx + edx * 2]    ; was 2n + 1: 3(2n + 1) + 1 = 2(3n) + 4
    lea edx, [edx * 2 + 4]
    jmp .step
.next:
    dec ecx
    jnz .start
    ret

divisors:                       ; sum of the greatest common divisors of all pairs up to 60
    mov ebp, 60
    xor esi, esi
.first:
    mov edi, 60
.second:
    mov eax, ebp
    mov ebx, edi
.euclid:
    xor edx, edx
    div ebx
    mov eax, ebx
    mov ebx, edx
    test edx, edx
    jnz .euclid
    add esi, eax
    dec edi
    jnz .second
    dec ebp
    jnz .first
    mov eax, esi
    ret
image_end:
`,
  expected: `random fe9f0afe
reversed 46749ffd
copied fe9f0afe
crc32 24baa889
primes 00000db8
matrix ed415926
fibonacci 000003db
sorted 898672ca
collatz 0000e896
divisors 000027b0
`,
  memoryMiB: 16,
  monitors: everyMonitor,
  cannot: {},
  deviations: {},
};

export const compute64: Guest = {
  name: 'compute64',
  title: 'Computation, long mode',
  description: 'Loops that need 64-bit registers: random numbers, a 64-bit hash, bit counting, 128-bit products, a 128-by-64-bit division, string moves and recursion. As in the 32-bit version there is nothing for a monitor to do in them.',
  bits: 64,
  source: String.raw`%include "multiboot.inc"
%include "console64.inc"
%include "kernel64.inc"

ARRAY   equ WORK                ; 32,768 qwords
COPY    equ WORK + 0x50000
COUNT   equ 32768

%macro RESULT 1                 ; name; the value is in RAX
    PRINT %1
    call put_hex
    call put_line
%endmacro

main:
    call fill
    mov esi, ARRAY
    call checksum
    RESULT "random "
    call copy
    mov esi, COPY
    call checksum
    RESULT "copied "
    call hash
    RESULT "hash "
    call count_bits
    RESULT "bits "
    call multiply
    RESULT "products "
    call divide
    RESULT "quotients "
    call shifts
    RESULT "shifts "
    mov ecx, 16
    call fibonacci
    RESULT "fibonacci "
    ret

fill:
    mov edi, ARRAY
    mov ecx, COUNT
    mov eax, 1
    mov rbx, 6364136223846793005
    mov r8, 1442695040888963407
.next:
    imul rax, rbx
    add rax, r8
    mov [rdi], rax
    add rdi, 8
    dec ecx
    jnz .next
    ret

checksum:
    mov ecx, COUNT
    xor eax, eax
.next:
    rol rax, 7
    xor rax, [rsi]
    add rax, rcx
    add rsi, 8
    dec ecx
    jnz .next
    ret

copy:                           ; forwards by qwords, each element byte-swapped, the last 4,096 again by string move
    xor ecx, ecx
.next:
    mov rax, [ARRAY + rcx * 8]
    bswap rax
    mov [COPY + rcx * 8], rax
    inc ecx
    cmp ecx, COUNT
    jne .next
    mov esi, ARRAY + COUNT * 8 - 8
    mov edi, COPY + COUNT * 8 - 8
    mov ecx, 4096
    std
    rep movsq
    cld
    ret

hash:                           ; FNV-1a over the first 64 KiB
    mov rax, 0xcbf29ce484222325
    mov r8, 0x100000001b3
    mov esi, ARRAY
    mov ecx, 65536
.next:
    movzx edx, byte [rsi]
    xor rax, rdx
    imul rax, r8
    inc rsi
    dec ecx
    jnz .next
    ret

count_bits:                     ; all bits set in the array
    mov r8, 0x5555555555555555
    mov r9, 0x3333333333333333
    mov r10, 0x0f0f0f0f0f0f0f0f
    mov r11, 0x0101010101010101
    mov esi, ARRAY
    mov ecx, COUNT
    xor r12d, r12d
.next:
    mov rax, [rsi]
    mov rdx, rax
    shr rdx, 1
    and rdx, r8
    sub rax, rdx
    mov rdx, rax
    shr rdx, 2
    and rax, r9
    and rdx, r9
    add rax, rdx
    mov rdx, rax
    shr rdx, 4
    add rax, rdx
    and rax, r10
    imul rax, r11
    shr rax, 56
    add r12, rax
    add rsi, 8
    dec ecx
    jnz .next
    mov rax, r12
    ret

multiply:                       ; low and high halves of 8,192 unsigned and signed products
    mov esi, ARRAY
    mov ecx, 8192
    xor r8d, r8d
.next:
    mov rax, [rsi]
    mul qword [rsi + 8]
    add r8, rax
    adc r8, rdx
    mov rax, [rsi]
    imul qword [rsi + 16]
    xor r8, rax
    sub r8, rdx
    add rsi, 8
    dec ecx
    jnz .next
    mov rax, r8
    ret

divide:                         ; (x mod d):x / d for 4,096 neighbours
    mov esi, ARRAY
    mov ecx, 4096
    xor r8d, r8d
.next:
    mov rbx, [rsi + 8]
    or rbx, 1
    mov rax, [rsi]
    xor edx, edx
    div rbx                     ; RDX < RBX, so the next one cannot overflow
    mov rax, [rsi + 16]
    div rbx
    rol r8, 3
    add r8, rax
    xor r8, rdx
    add rsi, 8
    dec ecx
    jnz .next
    mov rax, r8
    ret

shifts:
    mov rax, 0x0123456789abcdef
    mov rdx, 0xfedcba9876543210
    mov ecx, 20000
.next:
    shld rax, rdx, cl
    shrd rdx, rax, 13
    xor rax, rcx
    sar rdx, 1
    bt rax, rcx
    adc rdx, rax
    dec ecx
    jnz .next
    xor rax, rdx
    ret

fibonacci:                      ; RCX, recursively
    cmp rcx, 2
    jae .recurse
    mov rax, rcx
    ret
.recurse:
    push rcx
    dec rcx
    call fibonacci
    pop rcx
    push rax
    sub rcx, 2
    call fibonacci
    pop rdx
    add rax, rdx
    ret
image_end:
`,
  expected: `random 2cdebcc5263c45b1
copied e32969193e0d978f
hash 6f8876a67f67d26f
bits 00000000000fff6c
products fa1d33894efc5db3
quotients 12f8dbe25645fb25
shifts 3c263f66c091527b
fibonacci 00000000000003db
`,
  memoryMiB: 16,
  ...longMode,
  deviations: {},
};
