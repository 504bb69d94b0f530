import type { Cpu } from '../../cpu/cpu.ts';
import { updateMode } from '../../cpu/engine.ts';
import type { Memory } from '../../cpu/memory.ts';
import { Cr0, Cr4, Efer, S, SegmentIndex } from '../../cpu/state.ts';
import { Firmware } from '../mp-table.ts';
import { ImageError } from './image-error.ts';

/** Bytes to put at a guest-physical address. */
export interface LoadSegment { readonly physical: number; readonly bytes: Uint8Array }
/** Bytes to clear. */
export interface ZeroRange { readonly physical: number; readonly length: number }
/** Name and value of an ELF symbol (low 48 bits are exact). */
export interface ImageSymbol { readonly name: string; readonly value: bigint; readonly size: number }

/** A segment register as state; `attributes` as in the VMX access-rights format. */
export interface SegmentState { readonly selector: number; readonly base: number; readonly limit: number; readonly attributes: number }

/** CPU state at the first instruction. Registers that are not named are zero; interrupts are off. */
export interface EntryState {
  readonly mode: 'real' | 'protected32' | 'long64';
  readonly rip: number;
  /** General registers: [Gpr, unsigned 32-bit value]. */
  readonly registers: readonly (readonly [number, number])[];
  readonly cr0: number;
  readonly cr3: number;
  readonly cr4: number;
  readonly efer: number;
  /** By SegmentIndex: ES CS SS DS FS GS LDTR TR. */
  readonly segments: readonly SegmentState[];
  readonly gdtrLimit: number;
  readonly idtrLimit: number;
}

/** What to put where, and how to start: plain data. */
export interface LoadPlan {
  readonly format: 'flat' | 'bootSector' | 'elf' | 'multiboot';
  /** One line for people. */
  readonly description: string;
  readonly segments: readonly LoadSegment[];
  readonly zero: readonly ZeroRange[];
  readonly entry: EntryState;
  readonly symbols: readonly ImageSymbol[];
}

const FLAT_CODE32 = 0xc09b;
const FLAT_CODE64 = 0xa09b;
const FLAT_DATA = 0xc093;
const LDTR: SegmentState = { selector: 0, base: 0, limit: 0xffff, attributes: 0x82 };
const TR: SegmentState = { selector: 0, base: 0, limit: 0xffff, attributes: 0x8b };

/** Real mode at `address` below 1 MiB: CS:IP = 0:address, or a paragraph from 64 KiB on. */
export function realEntry(address: number, registers: EntryState['registers'] = []): EntryState {
  const selector = address < 0x10000 ? 0 : address >>> 4;
  const data: SegmentState = { selector: 0, base: 0, limit: 0xffff, attributes: 0x93 };
  const code: SegmentState = { selector, base: selector * 16, limit: 0xffff, attributes: 0x93 };
  return {
    mode: 'real', rip: address - selector * 16, registers, cr0: Cr0.ET, cr3: 0, cr4: 0, efer: 0,
    segments: [data, code, data, data, data, data, LDTR, TR], gdtrLimit: 0xffff, idtrLimit: 0x3ff,
  };
}

/** 32-bit protected mode, paging off, flat segments (Multiboot Specification "I386 machine state"). There is no usable GDT. */
export function protectedEntry(rip: number, registers: EntryState['registers'] = []): EntryState {
  const data: SegmentState = { selector: 0x10, base: 0, limit: 0xffffffff, attributes: FLAT_DATA };
  const code: SegmentState = { selector: 8, base: 0, limit: 0xffffffff, attributes: FLAT_CODE32 };
  return {
    mode: 'protected32', rip, registers, cr0: Cr0.PE | Cr0.ET, cr3: 0, cr4: 0, efer: 0,
    segments: [data, code, data, data, data, data, LDTR, TR], gdtrLimit: 0, idtrLimit: 0,
  };
}

/** 64-bit mode with the page tables at `cr3`. There is no usable GDT. */
export function longEntry(rip: number, cr3: number, registers: EntryState['registers'] = []): EntryState {
  const flat = protectedEntry(rip, registers);
  const segments = flat.segments.map((s, n) => (n === SegmentIndex.CS ? { ...s, attributes: FLAT_CODE64 } : s));
  return { ...flat, mode: 'long64', cr0: (Cr0.PE | Cr0.ET | Cr0.PG) >>> 0, cr3, cr4: Cr4.PAE, efer: Efer.LME | Efer.LMA, segments };
}

/** Pages of {@link identityTables}. */
export const IDENTITY_TABLE_SIZE = 6 * 4096;

/** Page tables that map the first 4 GiB to themselves in 2 MiB pages, to be put at `physical`: PML4, PDPT, four page directories. */
export function identityTables(physical: number): Uint8Array {
  const bytes = new Uint8Array(IDENTITY_TABLE_SIZE);
  const view = new DataView(bytes.buffer);
  const PRESENT_WRITABLE = 3;
  const LARGE = 0x80;
  view.setUint32(0, physical + 0x1000 + PRESENT_WRITABLE, true);
  for (let i = 0; i < 4; i++) view.setUint32(0x1000 + i * 8, physical + 0x2000 + i * 0x1000 + PRESENT_WRITABLE, true);
  for (let i = 0; i < 2048; i++) view.setUint32(0x2000 + i * 8, i * 0x200000 + LARGE + PRESENT_WRITABLE, true);
  return bytes;
}

/** Occupied guest-physical memory while a plan is made. */
export class Layout {
  readonly memorySize: number;
  private readonly ranges: { start: number; end: number; what: string }[] = [];

  /** @param memorySize bytes of guest RAM */
  constructor(memorySize: number) { this.memorySize = memorySize; }

  /**
   * Occupies a range of the image.
   * @throws ImageError where it does not fit: RAM too small, firmware area, another part of the image
   */
  occupy(start: number, length: number, what: string, offset: number): void {
    const end = start + length;
    const at = `${what} at 0x${start.toString(16)}..0x${(end - 1).toString(16)}`;
    if (end > this.memorySize) throw new ImageError(`${at} does not fit: the image needs ${Math.ceil(end / 2 ** 20)} MiB of memory, the machine has ${this.memorySize / 2 ** 20}`, offset);
    const forbid = (from: number, to: number, name: string): void => {
      if (start < to && from < end) throw new ImageError(`${at} overlaps low memory that is taken: ${name} (0x${from.toString(16)}..0x${(to - 1).toString(16)})`, offset);
    };
    forbid(Firmware.data, Firmware.data + Firmware.dataSize, 'the BIOS data area');
    forbid(Firmware.extended, 0x100000, 'BIOS data, video memory and firmware tables');
    for (const other of this.ranges) if (start < other.end && other.start < end) throw new ImageError(`${at} overlaps ${other.what} at 0x${other.start.toString(16)}..0x${(other.end - 1).toString(16)}`, offset);
    this.ranges.push({ start, end, what });
  }

  /** End of the highest occupied range. */
  get end(): number { return this.ranges.reduce((end, r) => Math.max(end, r.end), 0); }

  /**
   * Finds and occupies free memory for data of the loader: from 64 KiB up where the image leaves room, never in the
   * first page (guests put trampolines there).
   */
  find(length: number, align: number, what: string): number {
    const regions = [[0x10000, Firmware.extended], [0x1000, 0x10000], [0x100000, this.memorySize]] as const;
    for (const [from, to] of regions) {
      let start: number = from;
      for (;;) {
        start = Math.ceil(start / align) * align;
        if (start + length > to) break;
        const hit = this.ranges.find(r => start < r.end && r.start < start + length);
        if (hit === undefined) {
          this.ranges.push({ start, end: start + length, what });
          return start;
        }
        start = hit.end;
      }
    }
    throw new ImageError(`no room for ${what} (${length} bytes) beside the image: the machine needs more than ${this.memorySize / 2 ** 20} MiB of memory`);
  }
}

/**
 * Writes the memory part of a plan.
 * @param physicalOffset host-physical address of the guest's address 0
 * @param changed told of every range written (the decoder drops code there)
 */
export function writePlan(plan: LoadPlan, memory: Memory, physicalOffset = 0, changed: (physical: number, size: number) => void = () => {}): void {
  const check = (physical: number, length: number): number => {
    const start = physicalOffset + physical;
    if (start + length > memory.ramSize) throw new Error(`writePlan: 0x${start.toString(16)}..0x${(start + length - 1).toString(16)} lies outside RAM; plan the load with the memory size of the machine it goes to`);
    return start;
  };
  for (const { physical, length } of plan.zero) {
    const start = check(physical, length);
    memory.u8.fill(0, memory.ramBase + start, memory.ramBase + start + length);
    changed(start, length);
  }
  for (const { physical, bytes } of plan.segments) {
    const start = check(physical, bytes.length);
    memory.u8.set(bytes, memory.ramBase + start);
    changed(start, bytes.length);
  }
}

/** Puts a CPU into the entry state. Everything the entry state does not name keeps its reset value. */
export function enterPlan(entry: EntryState, cpu: Cpu): void {
  for (let n = 0; n < 16; n++) cpu.setReg32(n, 0);
  for (const [n, value] of entry.registers) cpu.setReg32(n, value);
  entry.segments.forEach((s, n) => cpu.setSegment(n, s.selector, s.base, s.limit, s.attributes));
  cpu.set64(S.gdtrBase, 0n);
  cpu.set32(S.gdtrLimit, entry.gdtrLimit);
  cpu.set64(S.idtrBase, 0n);
  cpu.set32(S.idtrLimit, entry.idtrLimit);
  cpu.set64(S.cr0, BigInt(entry.cr0));
  cpu.set64(S.cr3, BigInt(entry.cr3));
  cpu.set64(S.cr4, BigInt(entry.cr4));
  cpu.set64(S.efer, BigInt(entry.efer));
  cpu.flags = 2;
  cpu.cpl = 0;
  cpu.rip = entry.rip;
}

/** Loads a plan into a machine: memory, then CPU state, then decode mode and translation context. */
export function applyLoad(plan: LoadPlan, memory: Memory, cpu: Cpu, physicalOffset = 0): void {
  writePlan(plan, memory, physicalOffset, (physical, size) => cpu.codeWritten(physical, size));
  enterPlan(plan.entry, cpu);
  updateMode(cpu);
  cpu.mmu.updateContext();
}
