bits 32
org 0x1000
section .text
 jmp dword 8:tramp
 nop
section .tramp vstart=0x8000 align=16
tramp: jmp tramp
 dd $, $$, after
section .data
after: dd tramp
section .text
 mov eax, after
