import type { Guest } from './guest.ts';
import { everyMonitor, longMode } from './guest.ts';

export const hello: Guest = {
  name: 'hello',
  title: 'Hello, 32-bit',
  description: 'The smallest kernel: sets up segments, interrupts, a task and paging, prints two lines and powers off. Almost all of its exits are one IN and one OUT per character, so it shows what plain device access costs.',
  bits: 32,
  source: String.raw`%include "multiboot.inc"
%include "console32.inc"
%include "kernel32.inc"

main:
    PRINT "Hello from 32-bit protected mode"
    call put_line
    mov eax, cr0
    test eax, eax
    jns .done
    PRINT "paging is on"
    call put_line
.done:
    ret
image_end:
`,
  expected: 'Hello from 32-bit protected mode\npaging is on\n',
  memoryMiB: 16,
  monitors: everyMonitor,
  cannot: {},
  deviations: {},
};

export const hello64: Guest = {
  name: 'hello64',
  title: 'Hello, long mode',
  description: 'The same in long mode: builds four-level page tables, switches IA32_EFER.LME on, enters 64-bit code and prints two lines. The second line is written only if the top half of a register holds what was put there.',
  bits: 64,
  source: String.raw`%include "multiboot.inc"
%include "console64.inc"
%include "kernel64.inc"

main:
    PRINT "Hello from 64-bit mode"
    call put_line
    mov rax, 0x123456789abcdef0
    shr rax, 32
    cmp eax, 0x12345678
    jne .done
    PRINT "registers are 64 bits wide"
    call put_line
.done:
    ret
image_end:
`,
  expected: 'Hello from 64-bit mode\nregisters are 64 bits wide\n',
  memoryMiB: 16,
  ...longMode,
  deviations: {},
};
