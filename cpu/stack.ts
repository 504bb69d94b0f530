import type { Cpu } from './cpu.ts';
import { Descriptor, isCanonical, readWords } from './descriptor.ts';
import { fault, Vector } from './fault.ts';
import { AccessKind } from './mmu.ts';
import { Access, Gpr, S, Segment, SegmentIndex, SEGMENT_SIZE } from './state.ts';

/**
 * A stack frame on its way to or from memory: element 0 is the one pushed first (the highest address) when writing,
 * and the one popped first (the lowest address) when reading. Shared, because one frame is in flight at a time.
 */
export const frameLow = new Uint32Array(64);
export const frameHigh = new Uint32Array(64);

/** In place of the access rights of a stack segment: 64-bit mode, where the segment does not matter. */
export const LONG_STACK = -1;

/** Width of the stack pointer: 16, 32 or 64 bits. */
export function stackBits(cpu: Cpu): 16 | 32 | 64 {
  if (cpu.code64) return 64;
  return cpu.attributes(SegmentIndex.SS) & Access.Big ? 32 : 16;
}

/** The stack pointer as wide as the stack is. */
export function stackPointer(cpu: Cpu, bits: 16 | 32 | 64): number {
  if (bits === 64) return cpu.getSigned(S.gpr + Gpr.RSP * 8);
  const low = cpu.u32[(cpu.base + S.gpr + Gpr.RSP * 8) >>> 2]!;
  return bits === 32 ? low : low & 0xffff;
}

/** Moves the stack pointer; a 16-bit stack keeps the upper part of ESP. */
export function setStackPointer(cpu: Cpu, bits: 16 | 32 | 64, value: number): void {
  if (bits === 64) cpu.setSigned(S.gpr + Gpr.RSP * 8, value);
  else if (bits === 32) cpu.setReg32(Gpr.RSP, value);
  else cpu.u16[(cpu.base + S.gpr + Gpr.RSP * 8) >>> 1] = value;
}

/** Throws #SS(error) unless `size` bytes at `offset` lie inside a stack segment. */
function checkLimit(offset: number, size: number, limit: number, attributes: number, error: number): void {
  if (attributes & Access.Unusable) throw fault(Vector.StackFault, error);
  const last = offset + size - 1;
  if ((attributes & (Access.Code | Access.Expand)) === Access.Expand) {
    if (offset <= limit || last > (attributes & Access.Big ? 0xffffffff : 0xffff)) throw fault(Vector.StackFault, error);
  } else if (last > limit) throw fault(Vector.StackFault, error);
}

/**
 * Pushes `count` elements of the frame onto the stack given by base, limit and access rights (or LONG_STACK) and the
 * stack pointer; everything is checked before the first byte is written. Returns the new stack pointer.
 * @param size bytes per element: 2, 4 or 8
 * @param system the access is made with supervisor privilege whatever the CPL is now
 * @param error error code of the #SS for a stack without room
 */
export function writeFrame(cpu: Cpu, base: number, limit: number, attributes: number, sp: number, size: number, count: number, system: boolean, error: number): number {
  const bytes = size * count;
  if (attributes === LONG_STACK) {
    const bottom = sp - bytes;
    if (!isCanonical(bottom) || !isCanonical(sp - 1)) throw fault(Vector.StackFault, error);
    writeElements(cpu, bottom, size, count, system);
    return bottom;
  }
  const mask = attributes & Access.Big ? 0xffffffff : 0xffff;
  const top = sp === 0 ? mask + 1 : sp;
  const bottom = top - bytes;
  if (bottom >= 0) {
    checkLimit(bottom, bytes, limit, attributes, error);
    writeElements(cpu, (base + bottom) >>> 0, size, count, system);
    return bottom;
  }
  // the frame wraps around offset 0: element by element
  for (let i = 1; i <= count; i++) {
    const offset = ((sp - i * size) & mask) >>> 0;
    checkLimit(offset, size, limit, attributes, error);
    cpu.probeWrite((base + offset) >>> 0, size, system);
  }
  for (let i = 1; i <= count; i++) writeElement(cpu, (base + (((sp - i * size) & mask) >>> 0)) >>> 0, size, i - 1, system);
  return (bottom & mask) >>> 0;
}

function writeElement(cpu: Cpu, linear: number, size: number, i: number, system: boolean): void {
  if (size === 2) cpu.store(linear, 2, frameLow[i]! & 0xffff, system);
  else {
    cpu.store(linear, 4, frameLow[i]!, system);
    if (size === 8) cpu.store(cpu.wrapLinear(linear + 4), 4, frameHigh[i]!, system);
  }
}

function writeElements(cpu: Cpu, bottom: number, size: number, count: number, system: boolean): void {
  const bytes = size * count;
  if ((bottom & 0xfff) + bytes <= 4096) {
    // a fault names the first element pushed, which is the highest
    const top = cpu.mmu.translate(bottom + bytes - size, AccessKind.Write, system);
    if (top < 0) throw cpu.recordedFault();
    const physical = top - (bytes - size);
    if (physical + bytes <= cpu.memory.ramSize && (physical & 3) === 0 && size !== 2) {
      const words = cpu.u32;
      let at = (cpu.memory.ramBase + physical) >>> 2;
      if (size === 4) for (let i = count - 1; i >= 0; i--) words[at++] = frameLow[i]!;
      else {
        for (let i = count - 1; i >= 0; i--) {
          words[at++] = frameLow[i]!;
          words[at++] = frameHigh[i]!;
        }
      }
      cpu.codeWritten(physical, bytes);
      return;
    }
  } else {
    // the first push that reaches a page is the one that faults there
    for (let i = 1; i <= count; i++) cpu.probeWrite(cpu.wrapLinear(bottom + bytes - i * size), size, system);
  }
  for (let i = 0; i < count; i++) writeElement(cpu, cpu.wrapLinear(bottom + bytes - (i + 1) * size), size, i, system);
}

/** Pushes the frame onto the current stack at the current privilege level and moves the stack pointer. Throws #SS(error). */
export function pushFrame(cpu: Cpu, size: number, count: number, error = 0): void {
  const bits = stackBits(cpu);
  setStackPointer(cpu, bits, pushFrameOnly(cpu, bits, size, count, error));
}

/** As {@link pushFrame}, but only returns where the stack pointer would be. */
export function pushFrameOnly(cpu: Cpu, bits: 16 | 32 | 64, size: number, count: number, error = 0): number {
  const sp = stackPointer(cpu, bits);
  if (bits === 64) return writeFrame(cpu, 0, 0, LONG_STACK, sp, size, count, false, error);
  const at = (cpu.base + S.segment + SegmentIndex.SS * SEGMENT_SIZE) >>> 2;
  return writeFrame(cpu, cpu.u32[at + (Segment.base >>> 2)]!, cpu.u32[at + (Segment.limit >>> 2)]!, cpu.u32[at + (Segment.attributes >>> 2)]!, sp, size, count, false, error);
}

/**
 * Reads `count` elements from the current stack, `skip` bytes above the stack pointer, into the frame from index
 * `from` on. Throws #SS(0) or #PF; the stack pointer does not move.
 */
export function readFrame(cpu: Cpu, bits: 16 | 32 | 64, skip: number, size: number, count: number, from = 0): void {
  const bytes = size * count;
  let offset = stackPointer(cpu, bits) + skip;
  let linear: number;
  if (bits === 64) {
    if (!isCanonical(offset) || !isCanonical(offset + bytes - 1)) throw fault(Vector.StackFault, 0);
    linear = offset;
  } else {
    const mask = bits === 32 ? 0xffffffff : 0xffff;
    offset = (offset & mask) >>> 0;
    const at = (cpu.base + S.segment + SegmentIndex.SS * SEGMENT_SIZE) >>> 2;
    const base = cpu.u32[at + (Segment.base >>> 2)]!;
    const limit = cpu.u32[at + (Segment.limit >>> 2)]!;
    const attributes = cpu.u32[at + (Segment.attributes >>> 2)]!;
    if (offset + bytes - 1 > mask) {
      for (let i = 0; i < count; i++) {
        const wrapped = ((offset + i * size) & mask) >>> 0;
        checkLimit(wrapped, size, limit, attributes, 0);
        readElement(cpu, (base + wrapped) >>> 0, size, from + i);
      }
      return;
    }
    checkLimit(offset, bytes, limit, attributes, 0);
    linear = (base + offset) >>> 0;
  }
  if ((linear & 0xfff) + bytes <= 4096 && size !== 2) {
    const physical = cpu.mmu.translate(linear, AccessKind.Read, false);
    if (physical < 0) throw cpu.recordedFault();
    if (physical + bytes <= cpu.memory.ramSize && (physical & 3) === 0) {
      const words = cpu.u32;
      let at = (cpu.memory.ramBase + physical) >>> 2;
      for (let i = from; i < from + count; i++) {
        frameLow[i] = words[at++]!;
        frameHigh[i] = size === 8 ? words[at++]! : 0;
      }
      return;
    }
  }
  for (let i = 0; i < count; i++) readElement(cpu, cpu.wrapLinear(linear + i * size), size, from + i);
}

function readElement(cpu: Cpu, linear: number, size: number, i: number): void {
  frameHigh[i] = 0;
  if (size === 2) frameLow[i] = cpu.load(linear, 2);
  else {
    frameLow[i] = cpu.load(linear, 4);
    if (size === 8) frameHigh[i] = cpu.load(cpu.wrapLinear(linear + 4), 4);
  }
}

const words = new Descriptor();
let innerPointer = 0;
let innerSelector = 0;

/**
 * Reads the stack of ring `cpl` from the TSS (SDM "Stack Switching"); {@link innerStackPointer} and
 * {@link innerStackSelector} give it. Throws #TS(TR selector) when the TSS is too short.
 */
export function readInnerStack(cpu: Cpu, cpl: number, ext: number): void {
  const wideTss = (cpu.attributes(SegmentIndex.TR) & 8) !== 0;
  const offset = wideTss ? cpl * 8 + 4 : cpl * 4 + 2;
  if (offset + (wideTss ? 5 : 3) > cpu.limit(SegmentIndex.TR)) throw fault(Vector.InvalidTss, (cpu.selector(SegmentIndex.TR) & 0xfffc) | ext);
  const linear = cpu.wrapLinear(cpu.segmentBase(SegmentIndex.TR) + offset);
  if (wideTss) {
    readWords(cpu, linear, words);
    innerPointer = words.low >>> 0;
    innerSelector = words.high & 0xffff;
  } else {
    innerPointer = cpu.load(linear, 2, true);
    innerSelector = cpu.load(cpu.wrapLinear(linear + 2), 2, true);
  }
}

/** Stack pointer at `offset` of the 64-bit TSS. Throws #TS(TR selector), or #SS(ext) when it is not canonical. */
export function readLongStack(cpu: Cpu, offset: number, ext: number): number {
  if (offset + 7 > cpu.limit(SegmentIndex.TR)) throw fault(Vector.InvalidTss, (cpu.selector(SegmentIndex.TR) & 0xfffc) | ext);
  const linear = cpu.segmentBase(SegmentIndex.TR) + offset;
  readWords(cpu, linear, words);
  const pointer = words.high * 4294967296 + (words.low >>> 0);
  if (!isCanonical(pointer)) throw fault(Vector.StackFault, ext);
  return pointer;
}

export const innerStackPointer = (): number => innerPointer;
export const innerStackSelector = (): number => innerSelector;
