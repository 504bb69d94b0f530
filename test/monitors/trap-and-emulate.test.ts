import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { checkOutput, type Guest } from '../../guests/guest.ts';
import { guests } from '../../guests/index.ts';
import { profiles } from '../../machine/profile.ts';
import { native } from '../../monitors/native.ts';
import { unable } from '../../monitors/run.ts';
import { sensitiveInstructions } from '../../monitors/sensitive-instructions.ts';
import { trapAndEmulate } from '../../monitors/trap-and-emulate.ts';
import { bytesOf, imageOf, monitored } from './monitored.ts';

test('sensitive: what goes wrong is what the deviations list, and it does go wrong', () => {
  const result = monitored(imageOf(guests.sensitive), trapAndEmulate).run.finish();
  const check = checkOutput(guests.sensitive, 'trap-and-emulate', result.console);
  expect(check.ok).toBe(true);
  for (const line of ['SGDT base', 'SIDT limit', 'SLDT', 'STR', 'PUSHF after CLI', 'POPF sets IF', 'LAR data ', 'LSL data ', 'PUSH CS', 'MOV from CS', 'CALL far', 'JMP far', 'RETF', 'IRET']) {
    expect(check.deviations.some((text) => text.startsWith(line)), line).toBe(true);
  }
  expect(result.console).toContain('INT n 00000008 ok');
  expect(result.console).toContain('PUSHF after STI 00000200 ok');
});
test('the table of sensitive instructions has the 18 rows of the literature', () => {
  expect(sensitiveInstructions).toHaveLength(18);
  expect(new Set(sensitiveInstructions.map((row) => row.mnemonic)).size).toBe(18);
});

const kernel = (main: string): Uint8Array => bytesOf(`%include "multiboot.inc"\n%include "console32.inc"\n%include "kernel32.inc"\n${main}\nimage_end:\n`);

/** A handler that prints vector, error code and CR2, and goes on at [again]. */
const report = `
again equ VARIABLES
install:                        ; EAX: vector
    mov dword [HANDLERS + eax * 4], report
    ret
report:
    mov eax, [ebp + FRAME_VECTOR]
    call put_hex
    mov eax, [ebp + FRAME_ERROR]
    call put_hex
    mov eax, cr2
    call put_hex
    mov eax, [ebp + FRAME_EFLAGS]
    and eax, 0x10000
    call put_hex
    call put_line
    mov eax, [again]
    mov [ebp + FRAME_EIP], eax
    ret
`;

/** Programs that must do the same natively and in ring 1, by output, instructions, guest time and events. */
const programs: readonly (readonly [string, string])[] = [
  ['accesses to the monitor\'s linear addresses meet the guest\'s own page tables', `main:
    mov eax, 14
    call install
    mov eax, 13
    call install
    mov dword [again], .t1
    mov dword [0xffe01000], 0x12345678
.t1:
    mov dword [again], .t2
    mov eax, [0xffe10008]
.t2:
    mov dword [again], .t3
    mov eax, [0xfffffffe]
.t3:
    mov dword [again], .t4
    jmp 0xffe00000
.t4:
    ret
${report}`],
  ['with paging off, what lies above the cut is a device', `main:
    mov eax, 0x11
    mov cr0, eax
    mov dword [0xffe01000], 0x12345678
    mov eax, [0xffe01000]
    call put_hex
    mov edi, 0xffe02ff0
    mov ecx, 4
    rep stosd
    mov eax, edi
    call put_hex
    mov eax, 0x80010031
    mov cr0, eax
    ret`],
  ['a segment register keeps what it was loaded with when its descriptor changes', `main:
    mov eax, 13
    call install
    mov ax, SMALL_DATA
    mov fs, ax
    mov dword [gdt + SMALL_DATA], 0x00000010
    cli
    mov eax, [fs:0x1000]
    mov dword [again], .t5
    mov eax, [fs:0x1235]
.t5:
    mov ax, SMALL_DATA
    mov fs, ax
    mov dword [again], .t6
    mov eax, [fs:0x1000]
.t6:
    ret
${report}`],
  ['single-stepping through instructions that trap', `main:
    mov dword [HANDLERS + 4], .step
    pushfd
    or dword [esp], 0x100
    popfd
    nop
    cli
    mov eax, cr0
    in al, 0x61
    mov ax, KERNEL_DATA
    mov ss, ax
    nop
    nop
    pushfd
    and dword [esp], 0xfffffeff
    popfd
    nop
    mov eax, [count]
    call put_hex
    mov eax, dr6
    call put_hex
    ret
.step:
    inc dword [count]
    ret
count: dd 0`],
  ['PAE paging with execute-disable', `DIRECTORIES equ WORK + 0x1000
main:
    mov eax, 14
    call install
    mov eax, 0x10031
    mov cr0, eax                ; off
    mov edi, WORK
    mov ecx, 0x6000 / 4
    xor eax, eax
    rep stosd
    mov dword [WORK], DIRECTORIES + 1
    mov dword [DIRECTORIES], 0x83
    mov dword [DIRECTORIES + 8], 0x200083
    mov dword [DIRECTORIES + 16], 0x400083
    mov dword [DIRECTORIES + 20], 0x80000000
    mov dword [DIRECTORIES + 24], WORK + 0x5003
    mov dword [WORK + 0x5000], 0x600003
    mov dword [WORK + 0x5008], 0x601001
    mov dword [WORK + 0x5014], 0x00080000 ; not present
    mov dword [WORK + 0x5018], 0x602003
    mov dword [WORK + 0x501c], 0x00080000 ; reserved
    mov ecx, 0xc0000080
    rdmsr
    or eax, 0x800
    wrmsr
    mov eax, cr4
    or eax, 0x20
    mov cr4, eax
    mov eax, WORK
    mov cr3, eax
    mov eax, 0x80010031
    mov cr0, eax
    mov byte [0x400fff], 0xc3
    mov dword [again], .t8
    call 0x400fff
.t8:
    mov dword [again], .t9
    mov dword [0x600000], 1
.t9:
    mov dword [again], .t10
    mov dword [0x601000], 1
.t10:
    mov dword [again], .t11
    mov eax, [0x601000]
.t11:
    mov dword [again], .t12
    mov eax, [0x602000]
.t12:
    mov dword [again], .t13
    mov eax, [0x603000]
.t13:
    mov dword [again], .t14
    mov eax, [0x40000000]
.t14:
    mov eax, [WORK + 0x5000]
    call put_hex
    mov eax, [WORK + 0x5008]
    call put_hex
    mov eax, [DIRECTORIES + 16]
    call put_hex
    mov eax, 0x10031
    mov cr0, eax
    mov eax, cr4
    and eax, 0xffffffdf
    mov cr4, eax
    mov eax, PAGE_DIRECTORY
    mov cr3, eax
    mov eax, 0x80010031
    mov cr0, eax
    call put_line
    ret
${report}`],
  ['SYSENTER and SYSEXIT', `main:
    mov ecx, 0x174
    mov eax, KERNEL_CODE
    xor edx, edx
    wrmsr
    mov ecx, 0x175
    mov eax, ENTRY_TOP
    wrmsr
    mov ecx, 0x176
    mov eax, fast
    wrmsr
    mov eax, 33
    mov edx, stubs + 33 * 16
    mov ecx, 0xee00
    call set_gate
    mov dword [HANDLERS + 33 * 4], leave_user
    mov esi, user
    mov ecx, user_end - user
    call load_user
    mov eax, USER
    call enter_user
    mov eax, [total]
    call put_hex
    ret
fast:
    add [total], ebx
    mov ax, KERNEL_DATA
    mov ds, ax
    mov ax, USER_DATA
    mov ds, ax
    sysexit
total: dd 0
user:
    mov ebx, 100
.next:
    mov ecx, esp
    mov edx, USER + .back - user
    sysenter
.back:
    dec ebx
    jnz .next
    int 0x21
user_end:`],
  ['a hardware task switch there and back', `NEW equ WORK
main:
    mov edi, NEW
    mov ecx, 26
    xor eax, eax
    rep stosd
    mov dword [NEW + 28], PAGE_DIRECTORY
    mov dword [TSS + 28], PAGE_DIRECTORY
    mov dword [NEW + 32], task
    mov dword [NEW + 36], 2
    mov dword [NEW + 56], WORK + 0x2000
    mov dword [NEW + 72], KERNEL_DATA
    mov dword [NEW + 76], KERNEL_CODE
    mov dword [NEW + 80], KERNEL_DATA
    mov dword [NEW + 84], KERNEL_DATA
    mov dword [gdt + SMALL_DATA], 0x00000067
    mov dword [gdt + SMALL_DATA + 4], 0x00008940
    mov ebx, 5
.next:
    call SMALL_DATA:0
    dec ebx
    jnz .next
    mov eax, [runs]
    call put_hex
    ret
task:
    inc dword [runs]
    iret
    jmp task
runs: dd 0`],
  ['a stack segment with its own base, far calls and a return to ring 3 by RETF', `main:
    mov dword [gdt + SMALL_DATA], 0x00000fff
    mov dword [gdt + SMALL_DATA + 4], 0x00409340 ; base 0x400000
    mov eax, esp
    mov bx, SMALL_DATA
    mov ss, bx
    mov esp, 0x800
    push dword 0x11223344
    cli
    pop ebx
    mov dx, KERNEL_DATA
    mov ss, dx
    mov esp, eax
    mov eax, ebx
    call put_hex
    mov eax, 33
    mov edx, stubs + 33 * 16
    mov ecx, 0xee00
    call set_gate
    mov dword [HANDLERS + 33 * 4], leave_user
    mov esi, user
    mov ecx, user_end - user
    call load_user
    pushad
    mov [USER_RETURN], esp
    push dword USER_DATA
    push dword USER_TOP
    push dword USER_CODE
    push dword USER
    mov cx, USER_DATA
    mov ds, cx
    mov es, cx
    retf
user:
    mov eax, 5
    int 0x21
user_end:`],
];

describe('the same as natively', () => {
  test.each(programs)('%s', (_name, source) => {
    const bytes = kernel(source);
    const plain = monitored(bytes, native);
    const base = plain.run.finish();
    expect(base.stoppedBy).toBe('poweroff');
    expect(base.console).not.toContain('unexpected');
    for (const engine of ['interpret', 'evaluate'] as const) {
      const trapped = monitored(bytes, trapAndEmulate, engine);
      const result = trapped.run.finish();
      expect(result.console).toBe(base.console);
      expect(result.stoppedBy).toBe('poweroff');
      expect(trapped.events).toEqual(plain.events);
      expect(result.instructions).toBe(base.instructions);
      expect(trapped.run.core.cpu.guestCycles).toBe(plain.run.core.cpu.guestCycles);
    }
  });
});

test('the monitor\'s pages survive a guest that writes all over the top 4 MiB', () => {
  const bytes = kernel(`main:
    mov eax, 0x11
    mov cr0, eax
    mov edi, 0xffc00000
.next:
    mov dword [edi], 0xffffffff
    add edi, 0x1000
    jnz .next
    mov eax, 0x80010031
    mov cr0, eax
    PRINT "still here"
    ret`);
  const { run } = monitored(bytes, trapAndEmulate);
  const result = run.finish();
  expect(result.console).toBe('still here');
  expect(result.exits.find((row) => row.name === '#GP limit')?.count).toBe(1024);
});

test('every trap says why', () => {
  const result = monitored(imageOf(guests.timerInterrupts), trapAndEmulate, 'interpret', 'nehalem', 16).run.finish();
  expect(result.exits.every((row) => row.kind === 'trap')).toBe(true);
  const why = new Map(result.exitRecords.map((record) => [record.name, record.why]));
  expect(why.get('#GP CLI')).toBe('CLI at CPL 1 with IOPL 0 (the guest\'s is 0)');
  expect(why.get('#GP HLT')).toContain('privileged');
  expect(why.get('#DB single step')).toContain('STI');
  expect(why.has('external interrupt')).toBe(true);
  for (const record of result.exitRecords) expect(record.why).not.toBe('');
});

describe('what it cannot run', () => {
  const options = (guest: Guest) => ({ guest: guest.name, image: { name: guest.name, bytes: imageOf(guest), sha256: '' }, monitor: trapAndEmulate, profile: profiles.nehalem });
  test('real-mode images are refused', () => {
    const boot = new Uint8Array(512);
    boot.set([0xf4, 0xeb, 0xfd]);
    boot.set([0x55, 0xaa], 510);
    expect(unable({ guest: 'boot', image: { name: 'boot', bytes: boot, sha256: '' }, monitor: trapAndEmulate, profile: profiles.nehalem })?.reason).toContain('real mode');
    expect(unable(options(guests.hello))).toBeNull();
  });
  test.each([[guests.hello64, 'long mode'], [guests.virtual8086, 'virtual-8086'], [guests.realMode, 'protected mode']] as const)('a guest that goes there later stops with the reason', (guest, reason) => {
    const { run } = monitored(imageOf(guest), trapAndEmulate, 'interpret', 'nehalem', guest.memoryMiB);
    const result = run.finish();
    expect(result.stoppedBy).toBe('error');
    expect(result.unmodelled.some(({ what }) => what.includes(reason))).toBe(true);
  });
});

test('only the port files of monitors/ know the layout of the CPU state', () => {
  const ports = ['emulator.ts', 'guest-registers.ts', 'listing.ts', 'ring-registers.ts'];
  const folder = new URL('../../monitors/', import.meta.url);
  const importing = readdirSync(folder).filter((name) => readFileSync(new URL(name, folder), 'utf8').includes('cpu/state.ts'));
  expect(importing.filter((name) => !ports.includes(name))).toEqual([]);
});
