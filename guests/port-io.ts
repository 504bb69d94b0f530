import type { Guest } from './guest.ts';
import { everyMonitor } from './guest.ts';

export const portIo: Guest = {
  name: 'port-io',
  title: 'Port input and output',
  description: 'Some 7,000 IN and OUT instructions to simple devices: the POST port, the scratch register of the UART, CMOS memory, interrupt masks, the timer, ports where nothing is, and strings with REP OUTSB. Each one leaves the guest unless the monitor lets it through, so this is the worst case for device emulation.',
  bits: 32,
  source: String.raw`%include "multiboot.inc"
%include "console32.inc"
%include "kernel32.inc"

POST    equ 0x80
UART    equ 0x3f8
SCRATCH equ 0x3ff
NOTHING equ 0xe00               ; a port without a device
BUFFER  equ WORK

%macro COUNTED 2
    PRINT %1
    mov eax, %2
    call put_number
    call put_line
%endmacro

main:
    call post
    call scratch
    call cmos
    call masks
    call timer
    call nothing
    call strings
    ret

post:                           ; both forms, and through DX
    mov ecx, 1000
    mov dx, POST
.next:
    mov al, cl
    out POST, al
    out dx, al
    dec ecx
    jnz .next
    COUNTED "post codes ", 2000
    ret

scratch:                        ; every byte, four times, read back
    xor ebx, ebx                ; right
    mov ecx, 1024
    mov dx, SCRATCH
.next:
    mov al, cl
    xor al, ch
    mov ah, al
    out dx, al
    in al, dx
    cmp al, ah
    jne .wrong
    inc ebx
.wrong:
    dec ecx
    jnz .next
    COUNTED "scratch right ", ebx
    ret

cmos:                           ; memory at 40H to 4FH, 8 rounds
    xor ebx, ebx
    mov esi, 8
.round:
    mov ecx, 16
.write:
    lea eax, [ecx + 0x3f]
    out 0x70, al
    imul eax, esi, 37
    add eax, ecx
    out 0x71, al
    dec ecx
    jnz .write
    mov ecx, 16
.read:
    lea eax, [ecx + 0x3f]
    out 0x70, al
    in al, 0x71
    movzx edx, al
    imul eax, esi, 37
    add eax, ecx
    movzx eax, al
    cmp eax, edx
    jne .wrong
    inc ebx
.wrong:
    dec ecx
    jnz .read
    dec esi
    jnz .round
    COUNTED "cmos right ", ebx
    ret

masks:                          ; of the two interrupt controllers; all lines masked again at the end
    xor ebx, ebx
    mov ecx, 256
.next:
    mov al, cl
    out 0xa1, al
    not al
    out 0x21, al
    in al, 0xa1
    cmp al, cl
    jne .wrong
    in al, 0x21
    not al
    cmp al, cl
    jne .wrong
    inc ebx
.wrong:
    dec ecx
    jnz .next
    mov al, 0xff
    out 0x21, al
    out 0xa1, al
    COUNTED "masks right ", ebx
    ret

timer:                          ; counter 2: mode by read-back, and latched counts, of which only the range is certain
    mov al, 0xb6                ; both bytes, mode 3
    out 0x43, al
    mov al, 0x00
    out 0x42, al
    mov al, 0x10                ; 4,096
    out 0x42, al
    mov al, 0xe8                ; latch the status of counter 2
    out 0x43, al
    in al, 0x42
    and eax, 0x3f
    push eax
    xor ebx, ebx
    mov ecx, 200
.next:
    mov al, 0x80                ; latch the count of counter 2
    out 0x43, al
    in al, 0x42
    mov dl, al
    in al, 0x42
    mov dh, al
    movzx edx, dx
    cmp edx, 4096
    ja .wrong
    inc ebx
.wrong:
    dec ecx
    jnz .next
    pop eax
    PRINT "timer mode "
    mov ecx, 2
    call put_digits
    call put_line
    COUNTED "counts in range ", ebx
    ret

nothing:                        ; all ones, in three sizes
    mov dx, NOTHING
    mov ebx, -1
    mov ecx, 100
.next:
    xor eax, eax
    in al, dx
    or eax, 0xffffff00
    and ebx, eax
    xor eax, eax
    in ax, dx
    or eax, 0xffff0000
    and ebx, eax
    xor eax, eax
    in eax, dx
    and ebx, eax
    out dx, eax
    dec ecx
    jnz .next
    PRINT "nothing there "
    mov eax, ebx
    call put_hex
    call put_line
    ret

strings:
    mov esi, text               ; at most 16 bytes into the empty transmitter FIFO
    mov ecx, 16
    call send
    call send
    call send
    mov dx, SCRATCH
    mov al, 0x5a
    out dx, al
    mov edi, BUFFER
    mov ecx, 64
    rep insb
    xor ebx, ebx
    mov esi, BUFFER
    mov ecx, 64
.sum:
    lodsb
    movzx eax, al
    add ebx, eax
    dec ecx
    jnz .sum
    mov esi, BUFFER
    mov ecx, 64
    mov dx, POST
    rep outsb
    mov esi, BUFFER
    mov ecx, 64
    mov dx, NOTHING
    rep outsd
    mov edi, BUFFER             ; backwards, by words
    add edi, 126
    mov ecx, 64
    std
    rep insw
    cld
    mov eax, [BUFFER]
    not eax
    COUNTED "string sum ", ebx
    PRINT "words from nothing "
    mov eax, [BUFFER]
    call put_hex
    call put_line
    COUNTED "left over ", ecx
    ret

send:                           ; ECX bytes at ESI when the transmitter is empty
    push ecx
    mov dx, UART + 2
    mov al, 1                   ; FIFO on
    out dx, al
    mov dx, UART + 5
.wait:
    in al, dx
    test al, 0x40
    jz .wait
    mov dx, UART
    rep outsb
    pop ecx
    ret
text:
    db "sent by REP OUTS"
    db "B in three parts"
    db " of 16 bytes...", 10
image_end:
`,
  expected: `post codes 2000
scratch right 1024
cmos right 128
masks right 256
timer mode 36
counts in range 200
nothing there ffffffff
sent by REP OUTSB in three parts of 16 bytes...
string sum 5760
words from nothing ffffffff
left over 0
`,
  memoryMiB: 16,
  monitors: everyMonitor,
  cannot: {},
  deviations: {},
};
