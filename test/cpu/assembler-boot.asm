%define BASE 0x7c00
%define TWICE BASE*2
%assign N 3
%include "inc.inc"
org BASE
bits 16
section .text
_start: jmp main
%macro print 1-2 0x0f
  mov al, %1
  mov bl, %2
  jmp %%skip
  nop
%%skip: call put
%endmacro
%macro many 1+
  db %1
%endmacro
%macro empty 0
  nop
%endmacro
main: print 'A'
  print 'B', 7
lab: empty
  many 1, 2, "x,y"
%rep N
  inc ax
%assign N N+1
%endrep
%if N == 6 && BASE > 1
  hlt
%elif 1
  int3
%else
  int 1
%endif
%ifdef FOO
  db 1
%elifdef BASE
  db 2
%endif
%ifndef FOO
 db 3
%endif
%if 0
%macro dead 0
%if 1
%endif
 bad line
%endmacro
%else
 db 4
%endif
%ifidn abc, abc
 db 5
%endif
.loop: dec cx
  jnz .loop
put: ret
.loop: jmp .loop
 jmp put.loop
 jmp main.nothing
main.nothing:
  mov ax, TWICE
  mov eax, [msg+si]
  mov ax, msg - $$
  mov dl, end - msg
  lea si, [bx + end - msg]
  times 3 dw $ - $$
  times 2 call put
  align 16
  align 4, db 0xcc
X equ end - msg
Y equ $
  db X, Y - $$ , "q", `a\tb\x41\0`
  dw 'abc', 0x1234, -1
  dd 1.5, -2.25, 1e+3
  dq 3.5, 0x123456789abcdef0, msg
  add cx, X
  add cx, later
later equ 5
  push later
  cmp byte [msg + X - 1], 0
fwd: jmp far_away
  times 130 nop
far_away:
  jz fwd
  jz near fwd2
fwd2:
  times 510-($-$$) db 0
  dw 0xaa55
section .data align=16
msg: db "hello"
end:
 dd bssvar
section .rodata
 dw msg, end
section .bss
bssvar: resw 3
 alignb 8
b2: resb 1
section .text
 dw b2
absolute 0x500
s1: resb 4
s2: resd 1
section .data
 dw s1, s2
