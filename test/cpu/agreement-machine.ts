import type { Bus } from '../../cpu/bus.ts';
import { updateMode } from '../../cpu/engine.ts';
import { Memory } from '../../cpu/memory.ts';
import { published } from '../../cpu/profile.ts';
import { Access, Cr0, Cr4, Efer, Flag, S, SegmentIndex, stateFields, STATE_SIZE } from '../../cpu/state.ts';
import { Core, type EngineName } from '../../machine/core.ts';
import { unit, type MachineProfile } from '../../machine/profile.ts';
import { Prng } from '../vectors/prng.ts';

export const RAM = 0x30000;
/** Physical addresses from here to here are the registers of a device. */
export const DEVICE = { from: 0x50000, to: 0x52000 } as const;
const TABLES = 0x26000;

/** The profile `unit` with a price on what the fast and the slow paths charge, so that the cycles say whether both took it. */
export const pricedUnit: MachineProfile = {
  ...unit,
  cpu: {
    ...unit.cpu, features: [...unit.cpu.features, 'BMI1'],
    costs: { ...unit.cpu.costs, 'string.iteration': published(1, 'test'), 'walk.reference': published(3, 'test'), 'tlb.second': published(2, 'test') },
  },
};

/** A device of byte registers: what it holds at the end does not depend on how an access was cut into pieces. */
class ByteDevice implements Bus {
  readonly bytes = new Uint8Array(DEVICE.to - DEVICE.from);
  readonly words = new Int32Array(this.bytes.buffer);
  readonly log: string[] = [];
  private at(physical: number): number { return physical >= DEVICE.from && physical < DEVICE.to ? physical - DEVICE.from : -1; }
  readPhysical(physical: number, size: number): number {
    let value = 0;
    for (let i = size - 1; i >= 0; i--) { const at = this.at(physical + i); value = value * 256 + (at < 0 ? 0xff : this.bytes[at]!); }
    return value;
  }
  writePhysical(physical: number, size: number, value: number): void {
    for (let i = 0; i < size; i++) { const at = this.at(physical + i); if (at >= 0) this.bytes[at] = (value >>> (8 * i)) & 0xff; }
  }
  ioRead(port: number, size: number): number { this.log.push(`in ${port} ${size}`); return (Math.imul(port + 1, 0x9e3779b1) >>> (32 - 8 * size)) >>> 0; }
  ioWrite(port: number, size: number, value: number): void { this.log.push(`out ${port} ${size} ${value}`); }
  vector = -1;
  acknowledgeInterrupt(): number { return this.vector; }
  readApicBase(): number { return 0xfee00900; }
  writeApicBase(_index: number, value: number): void { this.log.push(`apic ${value}`); }
  readTaskPriority(): number { return 0; }
  writeTaskPriority(_index: number, value: number): void { this.log.push(`tpr ${value}`); }
}

/** Words that are the engine's own: host addresses, caches of its progress, results waiting to be stored. */
const bookkeeping = new Set(['ea', 'pageRip', 'codePage', 'exit', 'pendingStore', 'storeAddress', 'storeSize', 'storeAddress2', 'record', 'left', 'retired', 'extra', 'budget', 'sliceCycles', 'sliceRetired', 'readTable', 'writeTable', 'execTable', 'scratch']);

/** Indices of the 32-bit words of the state block that must agree. */
const compared: readonly number[] = stateFields.flatMap(([name, size, count]) => (bookkeeping.has(name) ? [] : Array.from({ length: (size * count) / 4 }, (_, i) => S[name] / 4 + i)));

const sameWords = (a: Int32Array, b: Int32Array): boolean => {
  let different = 0;
  for (let i = 0; i < a.length; i += 8) {
    different |= (a[i]! ^ b[i]!) | (a[i + 1]! ^ b[i + 1]!) | (a[i + 2]! ^ b[i + 2]!) | (a[i + 3]! ^ b[i + 3]!)
      | (a[i + 4]! ^ b[i + 4]!) | (a[i + 5]! ^ b[i + 5]!) | (a[i + 6]! ^ b[i + 6]!) | (a[i + 7]! ^ b[i + 7]!);
  }
  return different === 0;
};
const hex = (bytes: Uint8Array): string => [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');

export class Side {
  readonly core: Core;
  readonly memory: Memory;
  readonly device = new ByteDevice();
  readonly ram: Uint8Array;
  readonly ramWords: Int32Array;
  readonly state: Uint8Array;
  readonly stateWords: Int32Array;

  constructor(engine: EngineName, profile: MachineProfile = pricedUnit) {
    this.memory = new Memory(RAM, 1, 24 << 20);
    this.core = new Core(this.memory, 0, profile, this.device, engine);
    this.core.cpu.observer = { unmodelled: (what: string) => { this.device.log.push(what); } };
    const { buffer } = this.memory.u8;
    this.ram = new Uint8Array(buffer, this.memory.ramBase, RAM);
    this.ramWords = new Int32Array(buffer, this.memory.ramBase, RAM / 4);
    this.state = new Uint8Array(buffer, this.core.cpu.base, STATE_SIZE);
    this.stateWords = new Int32Array(buffer, this.core.cpu.base, STATE_SIZE / 4);
  }
  /** After the state block was written from outside. */
  changed(): void {
    this.core.cpu.mmu.updateContext();
    updateMode(this.core.cpu);
  }
  /** Writes RAM as a loader or device would. */
  put(physical: number, bytes: ArrayLike<number>): void {
    this.ram.set(bytes, physical);
    this.core.cpu.codeWritten(physical, bytes.length);
  }
}

/** Both engines over equal machines. */
export class Pair {
  readonly interpreter: Side;
  readonly evaluator: Side;
  readonly sides: readonly [Side, Side];

  constructor(profile: MachineProfile = pricedUnit) {
    this.interpreter = new Side('interpret', profile);
    this.evaluator = new Side('evaluate', profile);
    this.sides = [this.interpreter, this.evaluator];
  }
  both(act: (side: Side) => void): void { for (const side of this.sides) act(side); }

  /** How the machines differ, or null. Both must have been stopped. */
  difference(): string | null {
    const [a, b] = this.sides;
    const out: string[] = [];
    for (const i of compared) if (a.stateWords[i] !== b.stateWords[i]) { this.fields(out); break; }
    const x = a.core.cpu;
    const y = b.core.cpu;
    if (x.cycles !== y.cycles) out.push(`cycles ${x.cycles} and ${y.cycles}`);
    if (x.retired !== y.retired) out.push(`retired ${x.retired} and ${y.retired}`);
    if (x.chargedTotal !== y.chargedTotal) out.push(`charged ${x.chargedTotal} and ${y.chargedTotal}`);
    const m = x.mmu.counters;
    const n = y.mmu.counters;
    for (const key of ['dataMisses', 'instructionMisses', 'walks', 'walkReferences'] as const) if (m[key] !== n[key]) out.push(`${key} ${m[key]} and ${n[key]}`);
    if (!sameWords(a.ramWords, b.ramWords)) {
      const i = a.ram.findIndex((byte, at) => byte !== b.ram[at]);
      out.push(`RAM at 0x${i.toString(16)}: ${hex(a.ram.subarray(i, i + 16))} and ${hex(b.ram.subarray(i, i + 16))}`);
    }
    if (!sameWords(a.device.words, b.device.words)) out.push('device registers');
    if (a.device.log.join() !== b.device.log.join()) out.push(`ports and reports: ${a.device.log.join()} and ${b.device.log.join()}`);
    a.device.log.length = b.device.log.length = 0;
    return out.length ? `interpreter and evaluator: ${out.join('; ')}` : null;
  }
  private fields(out: string[]): void {
    const [a, b] = this.sides;
    for (const [name, size, count] of stateFields) {
      if (bookkeeping.has(name)) continue;
      for (let i = 0; i < count; i++) {
        const at = S[name] + size * i;
        const show = (side: Side): string => hex(side.state.slice(at, at + size).reverse());
        if (show(a) !== show(b)) out.push(`${name}${count > 1 ? `[${i}]` : ''} ${show(a)} and ${show(b)}`);
      }
    }
  }
}

/** Random choices, reproducible from the seed. */
export class Choice {
  private readonly prng: Prng;
  constructor(seed: number) { this.prng = new Prng(seed); }
  below(n: number): number { return this.prng.next() % n; }
  chance(one: number): boolean { return this.prng.next() % one === 0; }
  pick<T>(list: readonly T[]): T { return list[this.prng.next() % list.length]!; }
  word(): number { return this.prng.next(); }
  /** Any 64-bit value, often one near a limit of some size. */
  value(): bigint {
    const kind = this.below(8);
    if (kind < 3) return (BigInt(this.word()) << 32n) | BigInt(this.word());
    if (kind === 3) return BigInt(this.below(0x100));
    if (kind === 4) return BigInt(this.word());
    if (kind === 5) return BigInt.asUintN(64, -BigInt(this.below(0x200)));
    const near = (1n << BigInt(this.pick([4, 7, 8, 15, 16, 31, 32, 47, 63, 64]))) + BigInt(this.below(3) - 1);
    return BigInt.asUintN(64, kind === 6 ? near : -near);
  }
}

/** A mode to run in. */
export interface World {
  readonly name: string;
  readonly codeSize: 16 | 32 | 64;
  readonly paging: 'none' | 'legacy' | 'pae' | 'long';
  readonly cpl: number;
  readonly flags?: number;
  readonly realMode?: true;
  /** [segment, base, limit, attributes] besides the flat ones. */
  readonly segments: readonly (readonly [number, number, number, number])[];
  /** Cleared from the flat attributes of SS: a stack of 16 bits. */
  readonly smallStack?: true;
}

const { ES, CS, SS, DS, FS, GS } = SegmentIndex;
const data = (dpl: number, more = 0): number => Access.Present | (dpl << Access.DplShift) | Access.S | Access.Writable | Access.Accessed | more;
const code = (dpl: number, more = 0): number => Access.Present | (dpl << Access.DplShift) | Access.S | Access.Code | Access.Writable | Access.Accessed | more;
const readOnly = (dpl: number): number => Access.Present | (dpl << Access.DplShift) | Access.S | Access.Accessed | Access.Big;

const real = (base: number): [number, number, number, number][] => [[CS, 0x2000, 0xffff, 0x9b], [DS, base, 0xffff, 0x93], [ES, base + 0x100, 0xffff, 0x93], [SS, base + 0x200, 0xffff, 0x93], [FS, 0, 0xffff, 0x93], [GS, 0xfff0, 0xffff, 0x93]];
const checked = (dpl: number, big: number): [number, number, number, number][] => [
  [CS, 0x2000, 0x7fff, code(dpl, big)], [DS, 0x1230, 0xb7ff, data(dpl, big)], [ES, 0, 0x7fff, data(dpl, Access.Expand | big)],
  [SS, 0, 0x8fff, data(dpl, Access.Expand | big)], [FS, 0x200, 0xffff, readOnly(dpl)], [GS, 0x3000, 0xc000, code(dpl)],
];

/** Every mode of the CPU, flat and with segments that must be checked. */
export const worlds: readonly World[] = [
  { name: 'real mode', codeSize: 16, paging: 'none', cpl: 0, realMode: true, segments: real(0x1000) },
  { name: 'real mode with 4-GiB segments', codeSize: 16, paging: 'none', cpl: 0, realMode: true, segments: [...real(0x1000).slice(0, 1), [DS, 0, 0xffffffff, 0x93], [ES, 0, 0xffffffff, 0x93], [SS, 0, 0xffffffff, 0x4093]] },
  { name: 'virtual-8086', codeSize: 16, paging: 'legacy', cpl: 3, flags: Flag.VM, segments: real(0x1000).map(([n, base]) => [n, base, 0xffff, 0xf3]) },
  { name: '16-bit protected, checked segments', codeSize: 16, paging: 'pae', cpl: 3, smallStack: true, segments: checked(3, 0) },
  { name: '32-bit flat, no paging', codeSize: 32, paging: 'none', cpl: 0, segments: [] },
  { name: '32-bit flat, paging, ring 3', codeSize: 32, paging: 'legacy', cpl: 3, segments: [] },
  { name: '32-bit flat, PAE, ring 0, 16-bit stack', codeSize: 32, paging: 'pae', cpl: 0, smallStack: true, segments: [] },
  { name: '32-bit, checked segments', codeSize: 32, paging: 'legacy', cpl: 3, segments: checked(3, Access.Big) },
  { name: 'compatibility mode, checked segments, ring 0', codeSize: 32, paging: 'long', cpl: 0, segments: [[DS, 0x1230, 0xffffffff, data(0, Access.Big)], [ES, 0x8000, 0x7fff, data(0, Access.Big)], [SS, 0xffff8000, 0xffffffff, data(0, Access.Big)]] },
  { name: '32-bit, code segment ending in the code', codeSize: 32, paging: 'pae', cpl: 3, segments: [[CS, 0x2010, 0x2ff3, code(3, Access.Big)]] },
  { name: '16-bit, code segment ending in the code', codeSize: 16, paging: 'none', cpl: 0, segments: [[CS, 0x10, 0x4ff1, code(0)]] },
  { name: '64-bit, ring 0', codeSize: 64, paging: 'long', cpl: 0, segments: [[FS, 0x1000, 0xffffffff, data(0)], [GS, -0x8000, 0xffffffff, data(0)]] },
  { name: '64-bit, ring 3', codeSize: 64, paging: 'long', cpl: 3, segments: [[FS, 0x7fff_ffff_0000, 0xffffffff, data(3)], [GS, 0x8000, 0xffffffff, data(3)]] },
];

/** Linear page -> [physical page, user, writable]; pages that are missing are not present. */
const pageMap: Readonly<Record<number, readonly [number, boolean, boolean]>> = {
  0: [0x20, true, true], 1: [0x21, true, true], 2: [0x24, true, true], 3: [0x25, true, true], 4: [0x14, true, true], 5: [0x16, true, true], 6: [0x14, true, true],
  8: [0x18, true, true], 9: [0x1b, true, true], 0xb: [0x1c, true, false], 0xc: [0x19, true, true], 0xd: [0x50, true, true], 0xe: [0x1d, false, true], 0xf: [0x1e, true, true], 0x10: [0x1f, true, true],
};
/** Pages at the ends of the address spaces. */
const LAST = 0x22;
const TOP = 0x23;
/** Where code lies: two adjacent linear pages. */
export const CODE_PAGE = 4;
export const physicalCode = (world: World, linear: number): number => (world.paging === 'none' ? linear : (linear >> 12 === CODE_PAGE ? 0x14000 : 0x16000) + (linear & 0xfff));

function writeTables(ram: Uint8Array, paging: World['paging']): void {
  const bits = ([, user, writable]: readonly [number, boolean, boolean]): number => 1 | (writable ? 2 : 0) | (user ? 4 : 0);
  ram.fill(0, TABLES, TABLES + 0xa000);
  const wide = paging !== 'legacy';
  const view = new DataView(ram.buffer);
  const put = (at: number, value: number): void => view.setUint32(at, value, true);
  const T = (n: number): number => TABLES + n * 0x1000;
  const size = wide ? 8 : 4;
  for (const [page, entry] of Object.entries(pageMap)) put(T(3) + Number(page) * size, (entry[0] << 12) | bits(entry));
  const last: [number, boolean, boolean] = [LAST, true, true];
  if (paging === 'legacy') {
    put(T(0), T(3) | 7);
    put(T(0) + 0xffc, T(4) | 7);
    put(T(4) + 0xffc, (LAST << 12) | 7);
  } else if (paging === 'pae') {
    put(T(0), T(2) | 1);
    put(T(0) + 24, T(5) | 1);
    put(T(2), T(3) | 7);
    put(T(5) + 0xff8, T(4) | 7);
    put(T(4) + 0xff8, (LAST << 12) | bits(last));
  } else {
    put(T(0), T(1) | 7); put(T(1), T(2) | 7); put(T(2), T(3) | 7);
    // 4 GiB - 4096
    put(T(1) + 24, T(5) | 7); put(T(5) + 0xff8, T(4) | 7); put(T(4) + 0xff8, (LAST << 12) | 7);
    // the last page of the upper half, and of the lower half
    put(T(0) + 0xff8, T(6) | 7); put(T(6) + 0xff8, T(5) | 7);
    put(T(0) + 255 * 8, T(7) | 7); put(T(7) + 0xff8, T(8) | 7); put(T(8) + 0xff8, T(9) | 7); put(T(9) + 0xff8, (TOP << 12) | 7);
    // and the 64 KiB around FS of the lower half
    for (let page = 0x1e8; page < 0x200; page++) put(T(9) + page * 8, ((page === 0x1ff ? TOP : page & 1 ? 0x18 : 0x1b) << 12) | 7);
  }
}

/** Linear addresses where memory operands are aimed. */
export function randomTarget(c: Choice, world: World, size: number): number {
  const far = world.codeSize === 64 ? [0, 0x10000, -0x1000, 0x7fff_ffff_f000, 0x7fff_ffff_e000] : [0, 0x10000, 0xfffff000];
  const page = c.below(24);
  let base: number;
  if (page < 14) base = c.pick([8, 8, 9, 0xc, 0xf, 0x10]) * 0x1000;
  else if (page < 16) base = c.pick(far);
  else base = c.pick([4, 5, 6, 7, 0xa, 0xb, 0xd, 0xe, 0x11, RAM / 0x1000 - 1, 0x50]) * 0x1000;
  if (world.codeSize !== 64 && world.paging === 'none' && base >= RAM && base !== 0xfffff000 && base !== 0x50000) base = RAM - 0x1000;
  const offset = c.chance(3) ? 0x1000 - c.below(size + 2) : c.chance(2) ? c.below(0x1000) : c.below(0x1000) & -16;
  return base + offset;
}

/** Initial RAM and device registers by world and seed. */
const contentsOf = new Map<string, { readonly ram: Uint8Array; readonly device: Uint8Array }>();

/** Puts both machines into a world: RAM with random contents, page tables, registers; returns the templates of the state blocks. */
export function enterWorld(pair: Pair, world: World, seed: number): Uint8Array[] {
  const key = `${world.name} ${seed}`;
  let initial = contentsOf.get(key);
  if (!initial) {
    const c = new Choice(seed);
    const ram = new Uint8Array(RAM);
    const words = new DataView(ram.buffer);
    for (let i = 0; i < RAM; i += 8) words.setBigUint64(i, c.chance(3) ? BigInt(0x4000 + c.below(0xc000)) : c.value(), true);
    writeTables(ram, world.paging);
    contentsOf.set(key, (initial = { ram, device: Uint8Array.from({ length: DEVICE.to - DEVICE.from }, () => c.below(256)) }));
  }
  const contents = initial.ram;
  const view = new DataView(contents.buffer);
  return pair.sides.map((side) => {
    const { cpu } = side.core;
    side.ram.set(contents);
    side.device.bytes.set(initial.device);
    const protectedMode = world.realMode ? 0 : Cr0.PE;
    cpu.set64(S.cr0, BigInt((protectedMode | Cr0.ET | Cr0.NE | Cr0.MP | (world.paging === 'none' ? 0 : Cr0.PG | Cr0.WP | Cr0.AM)) >>> 0));
    cpu.set64(S.cr3, world.paging === 'none' ? 0n : BigInt(TABLES));
    cpu.set64(S.cr4, BigInt(Cr4.OSFXSR | Cr4.OSXMMEXCPT | Cr4.DE | (world.paging === 'pae' || world.paging === 'long' ? Cr4.PAE : 0)));
    cpu.set64(S.efer, BigInt(world.paging === 'long' ? Efer.LME | Efer.LMA | Efer.SCE | Efer.NXE : 0));
    for (let i = 0; i < 4; i++) cpu.set64(S.pdpte + 8 * i, world.paging === 'pae' ? view.getBigUint64(TABLES + 8 * i, true) : 0n);
    cpu.cpl = world.cpl;
    cpu.flags = 2 | (world.flags ?? 0);
    const big = world.codeSize === 32 ? Access.Big : 0;
    const wide = Access.Granularity;
    for (const n of [ES, DS, FS, GS]) cpu.setSegment(n, 0x10 | world.cpl, 0, 0xffffffff, data(world.cpl, big | wide));
    cpu.setSegment(SS, 0x10 | world.cpl, 0, 0xffffffff, data(world.cpl, wide | (world.smallStack ? 0 : big)));
    cpu.setSegment(CS, 0x8 | world.cpl, 0, 0xffffffff, code(world.cpl, wide | (world.codeSize === 64 ? Access.Long : big)));
    for (const [n, base, limit, attributes] of world.segments) cpu.setSegment(n, (base >>> 4) & 0xffff, base, limit, attributes);
    cpu.setSegment(SegmentIndex.LDTR, 0, 0, 0, Access.Unusable);
    cpu.setSegment(SegmentIndex.TR, 0x20, 0x1f000, 0x67, world.paging === 'long' ? 0x8b : 0x8b);
    cpu.set32(S.gdtrLimit, 0x3f);
    cpu.set64(S.gdtrBase, 0x1000n);
    cpu.set32(S.idtrLimit, world.realMode ? 0x3ff : 0x7ff);
    cpu.set64(S.idtrBase, world.realMode ? 0n : 0x2000n);
    cpu.charged.fill(0);
    cpu.chargedTotal = 0;
    Object.assign(cpu.mmu.counters, { dataMisses: 0, instructionMisses: 0, walks: 0, walkReferences: 0, secondLevelReferences: 0 });
    side.core.engine.flushCode();
    cpu.mmu.flushAll();
    side.changed();
    return side.state.slice();
  });
}
