import { describe, expect, test } from 'vitest';
import { assemble } from '../../cpu/assembler.ts';
import { ExecutionStop } from '../../cpu/execution.ts';
import { Access, Flag, Gpr, S, SegmentIndex } from '../../cpu/state.ts';
import { isa } from '../../machine/isa.ts';
import { unit } from '../../machine/profile.ts';
import { Choice, enterWorld, Pair, pricedUnit, type Side, type World, worlds } from './agreement-machine.ts';

const world = (name: string): World => worlds.find((each) => each.name === name)!;
const flat32 = world('32-bit flat, no paging');
const long64 = world('64-bit, ring 0');
const ringZero: World = { name: '32-bit flat, paging, ring 0', codeSize: 32, paging: 'legacy', cpl: 0, segments: [] };
const real: World = { name: 'real mode from 0', codeSize: 16, paging: 'none', cpl: 0, realMode: true, segments: [0, 1, 2, 3, 4, 5].map((n) => [n, 0, 0xffff, n === 1 ? 0x9b : 0x93] as const) };

const GDT = 0x1000;
const IDT = 0x2000;
const CODE = 0x4000;

interface Program { readonly pair: Pair; readonly symbols: ReadonlyMap<string, number> }

/** Loads a program at 0x4000 into both machines; labels named vNN become interrupt handlers. Flat code at selector 8, data at 16, 16-bit code at 24. */
function load(source: string, where: World = flat32, profile = pricedUnit): Program {
  const pair = new Pair(profile);
  enterWorld(pair, where, 1);
  const program = assemble(`bits ${where.codeSize}\norg ${CODE}\n${source}`, isa.rows);
  pair.both((side) => {
    const physical = (linear: number): number => (where.paging === 'none' ? linear : ({ 1: 0x21, 2: 0x24, 4: 0x14, 5: 0x16 } as Record<number, number>)[linear >> 12]! * 0x1000 + (linear & 0xfff));
    const put = (linear: number, bytes: ArrayLike<number>): void => { for (let i = 0; i < bytes.length; i++) side.put(physical(linear + i), [bytes[i]!]); };
    const words = (...values: number[]): number[] => values.flatMap((value) => [value & 0xff, (value >> 8) & 0xff, (value >> 16) & 0xff, value >>> 24]);
    if (!where.realMode) {
      const flags = where.codeSize === 64 ? 0xaf : 0xcf;
      put(GDT, words(0, 0, 0xffff, (flags << 16) | 0x9b00, 0xffff, 0xcf9300, 0xffff, 0x009b00));
      const wide = where.codeSize === 64;
      put(IDT, new Uint8Array(0x800));
      for (const [name, address] of program.symbols) {
        const vector = /^v(\d+)$/.exec(name);
        if (vector) put(IDT + Number(vector[1]) * (wide ? 16 : 8), [...words(0x80000 | address, 0x8e00), ...(wide ? words(0, 0) : [])]);
      }
    } else {
      for (const [name, address] of program.symbols) {
        const vector = /^v(\d+)$/.exec(name);
        if (vector) put(4 * Number(vector[1]), words(address));
      }
    }
    put(CODE, program.bytes);
    const { cpu } = side.core;
    for (let n = 0; n < 16; n++) cpu.setReg64(n, 0n);
    cpu.setReg64(Gpr.RSP, where.paging === 'none' ? 0x20000n & (where.realMode ? 0xf000n : ~0n) : 0x9000n);
    if (where.realMode) cpu.setReg64(Gpr.RSP, 0x9000n);
    cpu.rip = CODE;
    side.changed();
  });
  return { pair, symbols: program.symbols };
}

interface Options {
  /** Cycles or instructions per turn, drawn at random up to this. */
  readonly turn?: number;
  readonly seed?: number;
  /** Limits are times only. */
  readonly timed?: true;
  /** Called before each turn, for both machines with the same number. */
  readonly before?: (side: Side, turn: number) => void;
}

/** Runs both machines with the same random limits, comparing after every turn, until they are idle or shut down. */
function lockStep({ pair }: Program, { turn = 40, seed = 1, timed, before }: Options = {}): ExecutionStop {
  const c = new Choice(seed);
  for (let n = 0; n < 20_000; n++) {
    const step = 1 + c.below(turn);
    const byTime = c.chance(2) || timed === true;
    const [a, b] = pair.sides.map((side) => {
      before?.(side, n);
      const { cpu, execution } = side.core;
      return byTime ? execution.run(cpu.now + step, Infinity) : execution.run(Infinity, cpu.retired + step);
    });
    const difference = pair.difference();
    if (difference !== null || a !== b) throw new Error(`turn ${n} (seed ${seed}): stops ${a} and ${b}; ${difference}`);
    if (a !== ExecutionStop.Limit) return a!;
  }
  throw new Error('the program does not end');
}

/** Runs a program with several seeds and turn lengths; gives register values of the last run. */
function ends(source: string, where: World = flat32, options: Options = {}): { reg: (n: number) => number; program: Program; stop: ExecutionStop } {
  let program!: Program;
  let stop!: ExecutionStop;
  for (const [turn, seed] of [[1, 1], [3, 2], [17, 3], [400, 4]] as const) {
    program = load(source, where);
    stop = lockStep(program, { turn, seed, ...options });
  }
  const { cpu } = program.pair.interpreter.core;
  return { reg: (n) => cpu.reg32(n), program, stop };
}

describe('self-modifying code', () => {
  test('a store into the next instruction', () => {
    const { reg } = ends('mov byte [next + 1], 5\nnext: mov al, 1\nhlt');
    expect(reg(Gpr.RAX)).toBe(5);
  });
  test('a store further down the run that is executing', () => {
    const { reg } = ends(`mov ecx, 3\nagain: inc dword [there + 1]\n${'inc ebx\n'.repeat(20)}there: mov edx, 10\nadd esi, edx\ndec ecx\njnz again\nhlt`);
    expect(reg(Gpr.RSI)).toBe(11 + 12 + 13);
  });
  test('a store into the instruction that makes it', () => {
    const { reg } = ends('mov ecx, 2\nagain: mov byte [again + 6], 7\nmov al, [again + 6]\ndec ecx\njnz again\nhlt');
    expect(reg(Gpr.RAX)).toBe(7);
  });
  test('REP STOS over the code that follows', () => {
    const { reg } = ends(`mov edi, target\nmov ecx, 30\nmov al, 0x43\nrep stosb\ntarget: ${'inc esi\n'.repeat(40)}hlt`);
    expect([reg(Gpr.RBX), reg(Gpr.RSI)]).toEqual([30, 10]);
  });
  test('a run longer than what is decoded at once, changed at its end', () => {
    const { reg } = ends(`mov ecx, 3\nagain: ${'inc ebx\n'.repeat(130)}last: inc edx\nmov byte [last], 0x46\ndec ecx\njnz again\nhlt`);
    expect([reg(Gpr.RBX), reg(Gpr.RDX), reg(Gpr.RSI)]).toEqual([390, 1, 2]);
  });
  test('an instruction across two pages, changed in the second', () => {
    const { reg } = ends('mov ecx, 4\njmp across\ntimes 0x4ffd - ($ - $$) - 0x4000 nop\nacross: mov edx, 0x100\nadd esi, edx\ninc byte [across + 3]\ndec ecx\njnz across\nhlt', ringZero);
    expect(reg(Gpr.RSI)).toBe(0x100 + 0x100 + 0x100 + 0x100 + (0 + 1 + 2 + 3) * 0x10000);
  });
  test('through another mapping of the same physical page', () => {
    const { reg } = ends('mov ecx, 3\nagain: inc byte [next + 0x2000 + 1]\nnext: mov al, 1\nadd ebx, eax\ndec ecx\njnz again\nhlt', ringZero);
    expect(reg(Gpr.RBX)).toBe(2 + 3 + 4);
  });
});

describe('pages under code', () => {
  test('a page fault on the second page of an instruction names that page', () => {
    // page 5 is made absent, the handler brings it back
    const { reg } = ends('jmp start\nv14: pop edi\nmov edi, cr2\nor dword [entry], 1\niretd\nentry equ 0x8014\nstart: and dword [entry], ~1\nmov eax, 0x5000\ninvlpg [eax]\njmp across\ntimes 0x4ffe - ($ - $$) - 0x4000 nop\nacross: mov edx, 0x12345678\nhlt', ringZero, {
      before: (side, turn) => { if (turn === 0) mapTables(side); },
    });
    expect([reg(Gpr.RDX), reg(Gpr.RDI)]).toEqual([0x12345678, 0x5000]);
  });
  test('a page remapped under an instruction that crosses into it', () => {
    const { reg } = ends('jmp start\nentry equ 0x8014\nstart: mov ecx, 2\nagain: jmp across\nback: mov esi, edx\nmov dword [entry], 0x1c007\nmov eax, 0x5000\ninvlpg [eax]\ndec ecx\njnz again\nhlt\ntimes 0x4ffe - ($ - $$) - 0x4000 nop\nacross: mov edx, 0x12345678\njmp back', ringZero, {
      before: (side, turn) => {
        if (turn !== 0) return;
        mapTables(side);
        // the other page says 0x9abc in the two upper immediate bytes, and a jump of the same distance
        const other = side.ram.slice(0x16000, 0x17000);
        other[1] = 0xbc;
        other[2] = 0x9a;
        side.put(0x1c000, other);
      },
    });
    expect([reg(Gpr.RDX), reg(Gpr.RSI)]).toEqual([0x9abc5678, 0x9abc5678]);
  });
  test('one page of code in two modes', () => {
    // B8 and four bytes: MOV EAX, imm32 in 32-bit code, MOV AX, imm16 and ADD [BX+SI], AL in 16-bit code
    const { reg } = ends('call both\nmov esi, eax\njmp 24:sixteen\nback: mov edi, eax\nhlt\nboth: db 0xb8, 1, 2, 0, 0\nret\nbits 16\nsixteen: mov bx, 0x7000\nxor eax, eax\nxor si, si\ncall both\njmp dword 8:back\n');
    expect([reg(Gpr.RSI), reg(Gpr.RDI)]).toEqual([0, 0x201]);
  });
});

/** Maps the page table itself at linear 0x8000. */
function mapTables(side: Side): void {
  const directory = side.core.cpu.get32(S.cr3);
  const table = side.memory.view.getUint32(side.memory.ramBase + directory, true) & ~0xfff;
  side.memory.view.setUint32(side.memory.ramBase + table + 8 * 4, table | 7, true);
  side.core.cpu.mmu.flushAll();
}

describe('time', () => {
  const mixed = 'mov esi, 0x8000\nmov edi, 0xc000\nmov ecx, 50\nrep movsb\nmov ecx, 20\nagain: push ecx\ncall work\npop ecx\nloop again\nhlt\nwork: imul eax, ecx, 7\nxor edx, edx\nmov ebx, 3\ndiv ebx\nlea edi, [0x8000 + ecx * 4]\nstosd\nret';
  test('random deadlines: both engines stop at the same instruction', () => {
    for (const where of [flat32, ringZero]) ends(mixed, where);
  });
  test('at a cycle an instruction the limit is exact', () => {
    const program = load(`${'inc eax\nmov [0x8000], eax\nadd ebx, [0x8000]\n'.repeat(60)}hlt`, flat32, unit);
    for (let n = 1; n <= 100; n++) {
      for (const side of program.pair.sides) {
        expect(side.core.execution.run(n, Infinity)).toBe(ExecutionStop.Limit);
        expect([side.core.cpu.cycles, side.core.cpu.retired]).toEqual([n, n]);
      }
      expect(program.pair.difference()).toBe(null);
    }
  });
  test('halts, and goes on after an interrupt', () => {
    const source = 'sti\nhlt\nmov edx, 1\ncli\nhlt\nv32: mov ecx, [esp]\niretd';
    const program = load(source);
    expect(lockStep(program)).toBe(ExecutionStop.Idle);
    const at = program.pair.interpreter.core.cpu.rip;
    program.pair.both((side) => { side.device.vector = 32; side.core.execution.interruptRequest(true); });
    for (const side of program.pair.sides) expect(side.core.execution.run(Infinity, side.core.cpu.retired + 1)).toBe(ExecutionStop.Limit);
    program.pair.both((side) => side.core.execution.interruptRequest(false));
    expect(lockStep(program)).toBe(ExecutionStop.Idle);
    expect([program.pair.interpreter.core.cpu.reg32(Gpr.RCX), program.pair.interpreter.core.cpu.reg32(Gpr.RDX)]).toEqual([at, 1]);
  });
});

describe('interrupts between instructions', () => {
  /** The interrupt line is up from the start; the handler keeps where it came from and takes the line down through the port. */
  function interrupted(source: string): Program {
    const program = load(`${source}\nv32: mov edi, [esp]\nand dword [esp + 8], ~0x200\niretd`);
    program.pair.both((side) => { side.device.vector = 32; side.core.execution.interruptRequest(true); });
    lockStep(program, { turn: 1 });
    return program;
  }
  test('STI holds interrupts back for one instruction', () => {
    const program = interrupted('inc eax\nsti\ninc eax\nhere: inc eax\nhlt');
    expect(program.pair.interpreter.core.cpu.reg32(Gpr.RDI)).toBe(program.symbols.get('here'));
  });
  test('MOV SS holds interrupts back for one instruction', () => {
    const program = interrupted('mov bx, ss\npush 0x202\npopfd\nthere: mov ss, bx\ninc eax\nhere: inc eax\nhlt');
    expect(program.pair.interpreter.core.cpu.reg32(Gpr.RDI)).toBe(program.symbols.get('there'));
    const later = interrupted('mov bx, 16\nsti\nmov ss, bx\ninc eax\nhere: inc eax\nhlt');
    expect(later.pair.interpreter.core.cpu.reg32(Gpr.RDI)).toBe(later.symbols.get('here'));
  });
  test('a repeated instruction is interrupted between iterations and resumed', () => {
    const source = 'sti\nmov esi, 0x8000\nmov edi, 0xc000\nmov ecx, 200\ncopy: rep movsb\nmov edx, 1\ncli\nhlt\nv32: mov ebx, [esp]\nmov ebp, ecx\niretd';
    const program = load(source);
    let raised = false;
    lockStep(program, {
      turn: 5, timed: true,
      before: (side) => {
        const { cpu, execution } = side.core;
        if (cpu.rip === program.symbols.get('copy') && cpu.reg32(Gpr.RCX) < 120 && cpu.reg32(Gpr.RBP) === 0) { side.device.vector = 32; execution.interruptRequest(true); raised = true; }
        else execution.interruptRequest(false);
      },
    });
    const { core, ram } = program.pair.interpreter;
    expect(raised).toBe(true);
    expect(core.cpu.reg32(Gpr.RBX)).toBe(program.symbols.get('copy'));
    expect(core.cpu.reg32(Gpr.RBP)).toBeGreaterThan(0);
    expect([core.cpu.reg32(Gpr.RCX), core.cpu.reg32(Gpr.RDX), core.cpu.reg32(Gpr.RDI)]).toEqual([0, 1, 0xc0c8]);
    expect(ram.slice(0xc000, 0xc0c8)).toEqual(ram.slice(0x8000, 0x80c8));
  });
});

describe('debug exceptions', () => {
  // the handler counts in EBX, keeps the return address in a list and DR6 in EDX, and clears DR6
  const handler = '\nv1: inc ebx\nmov eax, [esp]\nmov [0x8000 + ebx * 4], eax\nmov edx, dr6\nxor eax, eax\nmov dr6, eax\n';
  const list = (program: Program, n: number): number[] => Array.from({ length: n }, (_, i) => program.pair.interpreter.memory.view.getUint32(program.pair.interpreter.memory.ramBase + 0x8004 + 4 * i, true));

  test('single-step: after the instruction that follows POPF, and after each one until TF goes', () => {
    const { program, reg } = ends(`pushfd\nor dword [esp], 0x100\npopfd\nnop\na: inc esi\nb: mov ecx, 3\nc: pushfd\nd: and dword [esp], ~0x100\ne: popfd\nf: nop\nhlt${handler}iretd`);
    const at = (name: string): number => program.symbols.get(name)!;
    // POPF that clears TF is still stepped over
    expect(reg(Gpr.RBX)).toBe(6);
    expect(list(program, 6)).toEqual(['a', 'b', 'c', 'd', 'e', 'f'].map(at));
    expect(reg(Gpr.RDX) & 0xe00f).toBe(0x4000);
  });
  test('single-step is held back behind MOV SS', () => {
    const { program, reg } = ends(`mov cx, ss\npushfd\nor dword [esp], 0x100\npopfd\nnop\na: mov ss, cx\ninc esi\nb: push 2\nc: popfd\nd: hlt${handler}iretd`);
    const at = (name: string): number => program.symbols.get(name)!;
    expect(list(program, reg(Gpr.RBX))).toEqual(['a', 'b', 'c', 'd'].map(at));
  });
  test('a repeated string instruction is stepped iteration by iteration', () => {
    const { program, reg } = ends(`mov edi, 0xc000\nmov ecx, 3\npushfd\nor dword [esp], 0x100\npopfd\na: rep stosb\nb: push 2\nc: popfd\nd: hlt${handler}iretd`);
    const at = (name: string): number => program.symbols.get(name)!;
    expect(list(program, reg(Gpr.RBX))).toEqual(['a', 'a', 'b', 'c', 'd'].map(at));
  });
  test('instruction breakpoints fault before the instruction; RF lets it through', () => {
    const { program, reg } = ends(`mov eax, here\nmov dr0, eax\nmov eax, 1\nmov dr7, eax\ninc esi\nhere: inc esi\nhlt${handler}or dword [esp + 8], 0x10000\niretd`);
    expect(list(program, reg(Gpr.RBX))).toEqual([program.symbols.get('here')]);
    expect(reg(Gpr.RDX) & 0xe00f).toBe(1);
    expect(reg(Gpr.RSI)).toBe(2);
  });
});

describe('faults', () => {
  test('a fault that cannot be delivered shuts the CPU down', () => {
    const { stop } = ends('mov word [limits], 0\nlidt [limits]\nud2\nlimits: dw 0\ndd 0');
    expect(stop).toBe(ExecutionStop.Shutdown);
  });
  test('64-bit: a fault in the middle of a run restarts after the handler', () => {
    const { reg, program } = ends('mov ecx, 5\nxor eax, eax\nagain: inc eax\nmov rdx, [0xa000]\nadd ebx, eax\ndec ecx\njnz again\nhlt\nv14: add qword [rsp + 8], 8\nadd rsp, 8\niretq', long64);
    expect(program.pair.interpreter.core.cpu.getSigned(S.cr2)).toBe(0xa000);
    expect(reg(Gpr.RBX)).toBe(15);
  });
});

describe('system rows in programs', () => {
  test('string input moves the pointer by the operand size and the address size', () => {
    const { reg } = ends('mov edi, 0x18000\nmov ecx, 3\nmov dx, 0x10\nrep insd\nmov ebx, edi\nmov edi, 0x2bfff\na16 insb\nmov esi, edi\nstd\nmov edi, 0x9000\ninsw\nhlt');
    expect([reg(Gpr.RBX), reg(Gpr.RSI), reg(Gpr.RDI), reg(Gpr.RCX)]).toEqual([0x1800c, 0x2c000, 0x8ffe, 0]);
  });
  test('string output at the end of a 16-bit address wraps', () => {
    const { reg } = ends('mov esi, 0x2ffff\nmov dx, 0x10\na16 outsb\nhlt');
    expect(reg(Gpr.RSI)).toBe(0x20000);
  });
  test('every bit of base and limit of a descriptor', () => {
    for (const [low, high, base, limit] of [[0xdef0_4321, 0x9a_45_93_bc, 0x9abcdef0, 0x54321], [0x210f_fedc, 0x65_0a_93_43, 0x6543210f, 0xafedc], [0xffff_0000, 0xff_80_93_ff, 0xffffffff, 0xfff]] as const) {
      const { program } = ends(`mov dword [0x1020], ${low >>> 0}\nmov dword [0x1024], ${high >>> 0}\nmov bx, 32\nmov fs, bx\nhlt`);
      const { cpu } = program.pair.interpreter.core;
      expect([cpu.segmentBase(SegmentIndex.FS), cpu.limit(SegmentIndex.FS)]).toEqual([base, limit]);
    }
  });
});

describe('ENTER', () => {
  test('the nesting level counts modulo 32 and copies the display', () => {
    const { program, reg } = ends('mov dword [0x8ffc], 0x11111111\nmov dword [0x8ff8], 0x22222222\nmov ebp, 0x9000\nmov esp, 0xa000\nenter 16, 35\nhlt');
    const word = (at: number): number => program.pair.interpreter.memory.view.getUint32(program.pair.interpreter.memory.ramBase + at, true);
    expect([reg(Gpr.RBP), reg(Gpr.RSP)]).toEqual([0x9ffc, 0x9ff0 - 16]);
    expect([0x9ffc, 0x9ff8, 0x9ff4, 0x9ff0].map(word)).toEqual([0x9000, 0x11111111, 0x22222222, 0x9ffc]);
  });
  test('a push that faults leaves everything as it was, and names its address', () => {
    // page 7 is not present: the third push reaches it
    const program = load('enter 0, 3', ringZero);
    for (const { core, ram } of program.pair.sides) {
      const { cpu } = core;
      cpu.setReg64(Gpr.RSP, 0x8008n);
      cpu.setReg64(Gpr.RBP, 0x9000n);
      const before = ram.slice();
      cpu.set32(S.left, 100);
      cpu.set32(S.budget, 100);
      expect(core.engine.run()).toBe(1);
      expect([cpu.get32(S.faultVector), cpu.get32(S.faultError), cpu.getSigned(S.faultLinear)]).toEqual([14, 2, 0x7ffc]);
      expect([cpu.reg32(Gpr.RSP), cpu.reg32(Gpr.RBP), cpu.rip]).toEqual([0x8008, 0x9000, CODE]);
      expect(ram.slice(0x18000, 0x18010)).toEqual(before.slice(0x18000, 0x18010));
    }
    expect(program.pair.difference()).toBe(null);
  });
  test('the final stack pointer must be writable, beyond the pushes', () => {
    const program = load('enter 0x800, 0', ringZero);
    for (const { core } of program.pair.sides) {
      const { cpu } = core;
      cpu.setReg64(Gpr.RSP, 0x8100n);
      cpu.set32(S.left, 100);
      cpu.set32(S.budget, 100);
      expect(core.engine.run()).toBe(1);
      expect([cpu.get32(S.faultVector), cpu.reg32(Gpr.RSP)]).toEqual([14, 0x8100]);
    }
  });
});

describe('the end of the code segment', () => {
  const limited = (limit: number, base = 0): World => ({ name: `limit ${limit}`, codeSize: 32, paging: 'none', cpl: 0, segments: [[SegmentIndex.CS, base, limit, 0x9b | Access.Big]] });
  test('running into the limit in the middle of a page is #GP(0) at the next instruction', () => {
    const { program, reg } = ends(`mov ecx, 3\nagain: inc eax\ndec ecx\njnz again\nlast: inc eax\nafter: inc eax\nhlt\nv13: pop ebx\npop esi\nhlt`, limited(CODE + 9));
    expect([reg(Gpr.RBX), reg(Gpr.RSI), reg(Gpr.RAX)]).toEqual([0, program.symbols.get('after'), 4]);
  });
  test('an instruction that reaches beyond the limit is #GP(0)', () => {
    const { reg } = ends('inc eax\nmov edx, 1\nhlt\nv13: pop ebx\npop esi\nhlt', limited(CODE + 3));
    expect([reg(Gpr.RBX), reg(Gpr.RSI), reg(Gpr.RAX)]).toEqual([0, CODE + 1, 1]);
  });
  test('a branch beyond the limit is #GP(0) at the branch', () => {
    const { reg } = ends('inc eax\njmp far_away\nhlt\nv13: pop ebx\npop esi\nhlt\ntimes 100 nop\nfar_away: hlt', limited(CODE + 40));
    expect([reg(Gpr.RBX), reg(Gpr.RSI), reg(Gpr.RAX)]).toEqual([0, CODE + 1, 1]);
  });
  test('real mode: IP wraps in a branch from the top to the bottom of the segment', () => {
    // at 0xfff8: INC AX, JMP +4 which is 0xffff: one byte NOP; the next instruction lies beyond the limit or wraps
    const program = load('jmp 0xfff8\nv13: pop si\nhlt', real);
    program.pair.both((side) => { side.put(0xfff8, [0x40, 0xeb, 0x08]); side.put(3, [0x40, 0x40, 0xf4]); side.put(0xfffb, [0xf4, 0xf4, 0xf4, 0xf4]); });
    lockStep(program, { turn: 2 });
    const { cpu } = program.pair.interpreter.core;
    expect([cpu.reg32(Gpr.RAX), cpu.rip]).toEqual([3, 6]);
    expect(cpu.flags & Flag.IF).toBe(0);
  });
  test('real mode with a base that is not a page: the last byte of the segment', () => {
    const where: World = { ...real, name: 'real, CS = 10h', segments: [[1, 0x100, 0xffff, 0x9b], ...real.segments.filter(([n]) => n !== 1)] };
    const program = load('nop', where);
    program.pair.both((side) => { side.put(0x100 + 0xfffd, [0x40, 0x40, 0x40, 0x40, 0x40, 0xf4]); side.put(0x100, [0x43, 0xf4]); side.core.cpu.rip = 0xfffd; });
    lockStep(program, { turn: 3 });
    const { cpu } = program.pair.interpreter.core;
    expect([cpu.reg32(Gpr.RAX), cpu.reg32(Gpr.RBX), cpu.rip]).toEqual([3, 1, 2]);
  });
});
