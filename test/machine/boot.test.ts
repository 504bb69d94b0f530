import { describe, expect, it } from 'vitest';
import type { Bus } from '../../cpu/bus.ts';
import { Cpu } from '../../cpu/cpu.ts';
import { Memory } from '../../cpu/memory.ts';
import type { Mmu } from '../../cpu/mmu.ts';
import { S, SegmentIndex } from '../../cpu/state.ts';
import { detectImage, planLoad } from '../../machine/boot/detect.ts';
import { loadElf, parseElf } from '../../machine/boot/elf.ts';
import { loadFlat } from '../../machine/boot/flat.ts';
import { ImageError } from '../../machine/boot/image-error.ts';
import { applyLoad, type LoadPlan } from '../../machine/boot/load-plan.ts';
import { profiles } from '../../machine/profile.ts';

const MiB = 2 ** 20;
const text = (s: string): number[] => [...new TextEncoder().encode(s)];

interface Program { offset?: number; virtual: number; physical: number; data: number[]; memory?: number; type?: number; fileSize?: number }

/** A small ELF32 executable: header, program headers, then the data of each segment from byte 0x100 on, 0x100 apart. */
function elf32(programs: Program[], entry: number): Uint8Array {
  const bytes = new Uint8Array(0x100 + programs.length * 0x100);
  const v = new DataView(bytes.buffer);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 1, 1, 1]);
  v.setUint16(16, 2, true);
  v.setUint16(18, 3, true);
  v.setUint32(20, 1, true);
  v.setUint32(24, entry, true);
  v.setUint32(28, 52, true);
  v.setUint16(40, 52, true);
  v.setUint16(42, 32, true);
  v.setUint16(44, programs.length, true);
  programs.forEach((p, i) => {
    const at = 52 + i * 32;
    const offset = p.offset ?? 0x100 + i * 0x100;
    bytes.set(p.data, 0x100 + i * 0x100);
    [p.type ?? 1, offset, p.virtual, p.physical, p.fileSize ?? p.data.length, p.memory ?? p.data.length, 7, 4096].forEach((n, k) => v.setUint32(at + k * 4, n >>> 0, true));
  });
  return bytes;
}

function elf64(entry: bigint, virtual: bigint, physical: bigint): Uint8Array {
  const names = [0, ...text('start'), 0];
  const bytes = new Uint8Array(0x400);
  const v = new DataView(bytes.buffer);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  v.setUint16(16, 2, true);
  v.setUint16(18, 62, true);
  v.setBigUint64(24, entry, true);
  v.setBigUint64(32, 64n, true);
  v.setBigUint64(40, 0x200n, true);
  v.setUint16(54, 56, true);
  v.setUint16(56, 1, true);
  v.setUint16(58, 64, true);
  v.setUint16(60, 3, true);
  v.setUint32(64, 1, true);
  [0x100n, virtual, physical, 4n, 0x20n].forEach((n, k) => v.setBigUint64(72 + k * 8, n, true));
  bytes.set([0x90, 0x90, 0xf4, 0xf4], 0x100);
  // sections: null, symbols (two entries at 0x300), names at 0x340
  v.setUint32(0x240 + 4, 2, true);
  [0x300n, 48n].forEach((n, k) => v.setBigUint64(0x240 + 24 + k * 8, n, true));
  v.setUint32(0x240 + 40, 2, true);
  v.setBigUint64(0x240 + 56, 24n, true);
  v.setUint32(0x280 + 4, 3, true);
  [0x340n, BigInt(names.length)].forEach((n, k) => v.setBigUint64(0x280 + 24 + k * 8, n, true));
  v.setUint32(0x300 + 24, 1, true);
  v.setBigUint64(0x300 + 32, entry, true);
  v.setBigUint64(0x300 + 40, 4n, true);
  bytes.set(names, 0x340);
  return bytes;
}

const words = (...n: number[]): number[] => n.flatMap(x => [x & 0xff, (x >>> 8) & 0xff, (x >>> 16) & 0xff, x >>> 24]);
const header = (flags: number, ...rest: number[]): number[] => words(0x1badb002, flags, -(0x1badb002 + flags) >>> 0, ...rest);

function flatten(plan: LoadPlan, size: number): Uint8Array {
  const memory = new Uint8Array(size).fill(0xee);
  for (const z of plan.zero) memory.fill(0, z.physical, z.physical + z.length);
  for (const s of plan.segments) memory.set(s.bytes, s.physical);
  return memory;
}
const options = { name: 'image.elf', memorySize: 64 * MiB };

function problem(action: () => unknown): ImageError {
  try {
    action();
  } catch (e) {
    if (e instanceof ImageError) {
      expect(e.message).not.toContain('\n');
      return e;
    }
    throw e;
  }
  throw new Error('expected an ImageError');
}

describe('format detection', () => {
  it('looks at contents', () => {
    expect(detectImage(Uint8Array.from([0x90, 0xf4]))).toBe('flat');
    expect(detectImage(elf32([{ virtual: 0x100000, physical: 0x100000, data: [0xf4] }], 0x100000))).toBe('elf');
    expect(detectImage(elf32([{ virtual: 0x100000, physical: 0x100000, data: header(0) }], 0x100000))).toBe('multiboot');
    const sector = new Uint8Array(512);
    sector.set([0x55, 0xaa], 510);
    expect(detectImage(sector)).toBe('bootSector');
    expect(detectImage(sector.subarray(0, 511))).toBe('flat');
    const late = new Uint8Array(8192 + 12);
    late.set(header(0), 8192);
    expect(detectImage(late)).toBe('flat'); // beyond the first 8192 bytes
    late.set(header(0), 8180);
    expect(detectImage(late)).toBe('multiboot');
    expect(problem(() => detectImage(new Uint8Array(0))).message).toContain('0 bytes');
  });
});

describe('multiboot 1', () => {
  // Multiboot Specification 0.6.96, "OS image format" and "Boot information format"
  const image = elf32([
    { virtual: 0x80100000, physical: 0x100000, data: [...header(3), 0xfa, 0xf4], memory: 0x40 },
    { virtual: 0x80102000, physical: 0x102000, data: [], memory: 0x3000 },
  ], 0x10000c);

  it('loads ELF segments by physical address, clears the rest, keeps the entry', () => {
    const plan = planLoad(image, options);
    expect(plan.format).toBe('multiboot');
    expect(plan.entry.rip).toBe(0x10000c);
    const memory = flatten(plan, 0x200000);
    expect([...memory.subarray(0x10000c, 0x10000e)]).toEqual([0xfa, 0xf4]);
    expect(memory.subarray(0x10000e, 0x100040).every(b => b === 0)).toBe(true);
    expect(memory.subarray(0x102000, 0x105000).every(b => b === 0)).toBe(true);
    expect(memory[0x105000]).toBe(0xee);
  });

  it('passes the information structure: memory, command line, map, loader name', () => {
    const plan = planLoad(image, { ...options, append: 'a=1 b' });
    const memory = flatten(plan, 0x200000);
    const v = new DataView(memory.buffer);
    const registers = new Map(plan.entry.registers.map(([n, value]) => [n, value]));
    expect(registers.get(0)).toBe(0x2badb002);
    const info = registers.get(3)!;
    expect(info).toBeGreaterThanOrEqual(0x1000);
    const flags = v.getUint32(info, true);
    expect(flags & 0x245).toBe(0x245);
    expect(flags & 8).toBe(0);
    expect(v.getUint32(info + 4, true)).toBe(639);
    expect(v.getUint32(info + 8, true)).toBe(63 * 1024);
    const string = (at: number): string => {
      let s = '';
      for (let p = at; memory[p] !== 0; p++) s += String.fromCharCode(memory[p]!);
      return s;
    };
    expect(string(v.getUint32(info + 16, true))).toBe('image.elf a=1 b');
    expect(string(v.getUint32(info + 64, true))).toBe('vanderpool');
    const map: number[][] = [];
    const start = v.getUint32(info + 48, true);
    for (let at = start; at < start + v.getUint32(info + 44, true); at += v.getUint32(at, true) + 4) {
      map.push([Number(v.getBigUint64(at + 4, true)), Number(v.getBigUint64(at + 12, true)), v.getUint32(at + 20, true)]);
    }
    expect(map[0]).toEqual([0, 0x9fc00, 1]);
    expect(map).toContainEqual([0x100000, 63 * MiB, 1]);
    expect(map).toContainEqual([0xfee00000, 0x1000, 2]);
  });

  it('ends the command line with a space when nothing is appended', () => {
    const plan = planLoad(image, options);
    const block = plan.segments.at(-1)!.bytes;
    expect(new TextDecoder('latin1').decode(block)).toContain('image.elf \0');
  });

  it('places modules on pages above the image and the information beside an image in low memory', () => {
    const low = elf32([{ virtual: 0x10000, physical: 0x10000, data: header(1), memory: 0x8f000 }], 0x10000);
    const plan = planLoad(low, { ...options, modules: [{ bytes: Uint8Array.from([1, 2, 3]), commandLine: 'env' }, { bytes: Uint8Array.from([4]), commandLine: '' }] });
    const memory = flatten(plan, 0x200000);
    const v = new DataView(memory.buffer);
    const info = plan.entry.registers.find(([n]) => n === 3)![1];
    expect(info).toBeGreaterThanOrEqual(0x1000);
    expect(info < 0x10000 || info >= 0x9f000).toBe(true);
    expect(v.getUint32(info, true) & 8).toBe(8);
    expect(v.getUint32(info + 20, true)).toBe(2);
    const list = v.getUint32(info + 24, true);
    expect([v.getUint32(list, true), v.getUint32(list + 4, true)]).toEqual([0x100000, 0x100003]);
    expect(v.getUint32(list + 16, true)).toBe(0x101000);
    expect([...memory.subarray(0x100000, 0x100003)]).toEqual([1, 2, 3]);
  });

  it('loads the address-field form', () => {
    // 16 bytes before the header; load from 8 bytes before it
    const bytes = Uint8Array.from([...new Array<number>(16).fill(0x11), ...header(0x10000, 0x200010, 0x200008, 0x200040, 0x200080, 0x200030), ...new Array<number>(32).fill(0x90)]);
    const plan = planLoad(bytes, options);
    expect(plan.entry.rip).toBe(0x200030);
    expect(plan.segments[0]).toEqual({ physical: 0x200008, bytes: bytes.subarray(8, 64) });
    expect(plan.zero).toEqual([{ physical: 0x200040, length: 0x40 }]);
    const whole = Uint8Array.from([...header(0x10000, 0x200000, 0x200000, 0, 0, 0x200020), 0xf4]);
    expect(planLoad(whole, options).segments[0]!.bytes).toHaveLength(33);
  });

  it('names what is wrong with address fields', () => {
    const bad = (...fields: number[]): string => problem(() => planLoad(Uint8Array.from([...header(0x10000, ...fields), ...new Array<number>(32).fill(0x90)]), options)).message;
    expect(bad(0x200000, 0x1ff000, 0, 0, 0x200020)).toMatch(/load_addr 0x1ff000.*outside the file.*at byte 16/);
    expect(bad(0x200000, 0x200004, 0, 0, 0x200020)).toMatch(/above header_addr/);
    expect(bad(0x200000, 0x200000, 0x300000, 0, 0x200020)).toMatch(/load_end_addr.*outside the file.*at byte 20/);
    expect(bad(0x200000, 0x200000, 0x1ffff0, 0, 0x200020)).toMatch(/load_end_addr.*below/);
    expect(bad(0x200000, 0x200000, 0x200040, 0x200030, 0x200020)).toMatch(/bss_end_addr/);
    expect(bad(0x200000, 0x200000, 0, 0, 0x300000)).toMatch(/entry_addr 0x300000/);
    expect(problem(() => planLoad(Uint8Array.from(header(0x10000)), options)).message).toMatch(/truncated/);
    expect(bad(0x9f000, 0x9f000, 0, 0xa1000, 0x9f020)).toMatch(/overlaps low memory.*0x9fc00/);
  });

  it('names other faults of the header', () => {
    expect(problem(() => planLoad(Uint8Array.from(words(0x1badb002, 0, 1)), options)).message).toMatch(/checksum.*at byte 8/);
    expect(problem(() => planLoad(Uint8Array.from(header(0x8000)), options)).message).toMatch(/0x8000/);
    expect(problem(() => planLoad(Uint8Array.from(header(0)), options)).message).toMatch(/no ELF file/);
    const wide = elf64(0x100000n, 0x100000n, 0x100000n);
    wide.set(header(0), 0x3c0);
    expect(problem(() => planLoad(wide, options)).message).toMatch(/ELF64/);
  });

  it('says how much memory an image needs', () => {
    const big = elf32([{ virtual: 0x100000, physical: 0x100000, data: header(0), memory: 0x5000000 }], 0x100000);
    expect(problem(() => planLoad(big, options)).message).toMatch(/needs 81 MiB of memory, the machine has 64/);
    expect(() => planLoad(big, { ...options, memorySize: 82 * MiB })).not.toThrow();
  });
});

describe('ELF', () => {
  const good = (): Uint8Array => elf32([{ virtual: 0x100000, physical: 0x100000, data: [0x90, 0xf4], memory: 0x10 }], 0x100000);

  it('starts 32-bit code in flat protected mode', () => {
    const plan = planLoad(good(), options);
    expect([plan.format, plan.entry.mode, plan.entry.rip, plan.entry.cr0]).toEqual(['elf', 'protected32', 0x100000, 0x11]);
  });

  it('translates a virtual entry point, and starts 64-bit code on identity page tables', () => {
    const plan = loadElf(elf64(0xffffffff81000002n, 0xffffffff81000000n, 0x200000n), 64 * MiB);
    expect([plan.entry.mode, plan.entry.rip, plan.entry.efer, plan.entry.cr4]).toEqual(['long64', 0x200002, 0x500, 0x20]);
    expect(plan.symbols).toEqual([{ name: 'start', value: 0xffffffff81000002n, size: 4 }]);
    const memory = new DataView(flatten(plan, 0x300000).buffer);
    const entry = (at: number): number => Number(memory.getBigUint64(at, true));
    // walk linear 0xC0312345 by hand: PML4 0, PDPT 3, directory 1
    const pml4 = entry(plan.entry.cr3);
    expect(pml4 & 0xfff).toBe(3);
    const pdpt = entry(Math.floor(pml4 / 4096) * 4096 + 3 * 8);
    const directory = entry(Math.floor(pdpt / 4096) * 4096 + 1 * 8);
    expect(directory).toBe(0xc0200083);
  });

  it('names what is wrong, and where', () => {
    const broken = (change: (bytes: Uint8Array, v: DataView) => void): ImageError => {
      const bytes = good();
      change(bytes, new DataView(bytes.buffer));
      return problem(() => loadElf(bytes, 64 * MiB));
    };
    expect(broken(b => { b[4] = 9; })).toMatchObject({ offset: 4, message: expect.stringMatching(/class is 9/) as string });
    expect(broken(b => { b[5] = 2; })).toMatchObject({ offset: 5 });
    expect(broken((_, v) => v.setUint16(16, 3, true))).toMatchObject({ offset: 16 });
    expect(broken((_, v) => v.setUint16(18, 40, true))).toMatchObject({ offset: 18 });
    expect(broken((_, v) => v.setUint32(28, 0x7fffffff, true)).message).toMatch(/program headers.*truncated/);
    expect(broken((_, v) => v.setUint16(42, 8, true)).message).toMatch(/entry size is 8/);
    expect(broken((_, v) => v.setUint16(44, 0, true)).message).toMatch(/nothing to run/);
    expect(broken((_, v) => v.setUint32(56, 0x10000, true))).toMatchObject({ offset: 52, message: expect.stringMatching(/not in the image/) as string });
    expect(broken((_, v) => v.setUint32(68, 0x100, true)).message).toMatch(/no more than in memory/);
    expect(broken((_, v) => v.setUint32(24, 0x500000, true)).message).toMatch(/entry point 0x500000/);
    expect(broken((_, v) => v.setUint32(64, 0xa0000, true)).message).toMatch(/overlaps low memory/);
    expect(broken((_, v) => v.setUint32(64, 0x3f8, true)).message).toMatch(/BIOS data area/);
    expect(broken((_, v) => v.setUint32(32, 0x1fff, true)).message).toMatch(/^0 section headers|section/);
  });

  it('never gets past a cut, wherever it is made', () => {
    const bytes = elf64(0x200000n, 0x200000n, 0x200000n);
    const least = 0x340 + 7; // end of the symbol names
    for (let length = 0; length < least; length++) {
      const error = problem(() => loadElf(bytes.subarray(0, length), 64 * MiB));
      expect(error.message.length).toBeGreaterThan(10);
    }
    expect(() => loadElf(bytes.subarray(0, least), 64 * MiB)).not.toThrow();
  });

  it('survives every single-byte corruption with a plan or an ImageError', () => {
    const source = elf64(0x200000n, 0x200000n, 0x200000n);
    for (let at = 0; at < source.length; at++) {
      const bytes = source.slice();
      bytes[at] = bytes[at]! ^ 0xff;
      try {
        loadElf(bytes, 64 * MiB);
      } catch (e) {
        if (!(e instanceof ImageError)) throw e;
      }
    }
  });

  it('refuses overlapping segments', () => {
    const bytes = elf32([{ virtual: 0x100000, physical: 0x100000, data: [1], memory: 0x2000 }, { virtual: 0x101000, physical: 0x101000, data: [2] }], 0x100000);
    expect(problem(() => parseElf(bytes) && loadElf(bytes, 64 * MiB)).message).toMatch(/overlaps a segment/);
  });
});

describe('boot sector and flat binary', () => {
  it('enters a boot sector at 0:7C00 with DL = 80h', () => {
    const sector = new Uint8Array(1024);
    sector.set([0x55, 0xaa], 510);
    const plan = planLoad(sector, options);
    expect([plan.entry.mode, plan.entry.rip, plan.entry.segments[SegmentIndex.CS]]).toEqual(['real', 0x7c00, { selector: 0, base: 0, limit: 0xffff, attributes: 0x93 }]);
    expect(plan.entry.registers).toContainEqual([2, 0x80]);
    expect(plan.segments).toHaveLength(1);
    expect(plan.segments[0]!.bytes).toHaveLength(512);
    expect(plan.description).toContain('512 bytes');
    expect(problem(() => planLoad(sector.subarray(0, 100), { ...options, format: 'bootSector' })).message).toMatch(/truncated/);
    sector[511] = 0;
    expect(problem(() => planLoad(sector, { ...options, format: 'bootSector' }))).toMatchObject({ offset: 510 });
  });

  it('puts a flat binary where it is told, in any mode', () => {
    const code = Uint8Array.from([0x90, 0xf4]);
    expect(loadFlat(code, MiB, { mode: 'real', address: 0x12340, entry: 0x12341 }).entry).toMatchObject({ rip: 1, mode: 'real' });
    expect(loadFlat(code, 2 * MiB).entry).toMatchObject({ rip: 0x100000, mode: 'protected32' });
    expect(loadFlat(code, 2 * MiB, { mode: 'long64' }).entry.mode).toBe('long64');
    expect(problem(() => loadFlat(code, MiB)).message).toMatch(/needs 2 MiB of memory, the machine has 1/);
    expect(problem(() => loadFlat(code, 2 * MiB, { entry: 5 })).message).toMatch(/entry 0x5/);
    expect(problem(() => loadFlat(new Uint8Array(0), MiB)).message).toMatch(/0 bytes/);
  });
});

describe('applying a plan', () => {
  const bus: Bus = {
    readPhysical: () => 0xff, writePhysical: () => {}, ioRead: () => 0xff, ioWrite: () => {}, acknowledgeInterrupt: () => -1,
    readApicBase: () => 0, writeApicBase: () => {}, readTaskPriority: () => 0, writeTaskPriority: () => {},
  };

  it('writes memory at an offset and the whole entry state', () => {
    const memory = new Memory(4 * MiB, 1, 1 << 16);
    const cpu = new Cpu(memory, 0, profiles.unit.cpu, bus);
    let contexts = 0;
    cpu.mmu = { updateContext: () => { contexts++; }, updateMode: () => {} } as Partial<Mmu> as Mmu;
    const written: number[][] = [];
    cpu.codeWritten = (physical, size) => void written.push([physical, size]);
    cpu.setReg64(9, 0x123456789abcdef0n);
    memory.u8.fill(0xcc, memory.ramBase, memory.ramBase + 4 * MiB);
    const image = elf32([{ virtual: 0x100000, physical: 0x100000, data: [...header(0), 0xf4], memory: 0x20 }], 0x10000c);
    const plan = planLoad(image, { ...options, memorySize: 2 * MiB });
    applyLoad(plan, memory, cpu, 2 * MiB);
    const at = memory.ramBase + 2 * MiB + 0x100000;
    expect([...memory.u8.subarray(at, at + 4)]).toEqual(words(0x1badb002));
    expect(memory.u8[at + 0x1f]).toBe(0);
    expect(memory.u8[at + 0x20]).toBe(0xcc);
    expect(cpu.rip).toBe(0x10000c);
    expect(cpu.reg64(0)).toBe(0x2badb002n);
    expect(cpu.reg64(9)).toBe(0n);
    expect([cpu.cr0, cpu.cr4, cpu.efer, cpu.flags, cpu.cpl]).toEqual([0x11, 0, 0, 2, 0]);
    expect([cpu.selector(SegmentIndex.CS), cpu.limit(SegmentIndex.CS), cpu.attributes(SegmentIndex.CS)]).toEqual([8, 0xffffffff, 0xc09b]);
    expect([cpu.attributes(SegmentIndex.SS), cpu.attributes(SegmentIndex.TR), cpu.attributes(SegmentIndex.LDTR)]).toEqual([0xc093, 0x8b, 0x82]);
    expect(cpu.get32(S.gdtrLimit)).toBe(0);
    expect(contexts).toBe(1);
    expect(written).toContainEqual([2 * MiB + 0x100000, 13]);
    expect(() => applyLoad(plan, memory, cpu, 3.5 * MiB)).toThrow(/outside RAM/);
  });
});
