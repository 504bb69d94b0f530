import type { Cpu } from './cpu.ts';
import { Access, Cr0, Cr4, S, Segment, SEGMENT_SIZE, SegmentIndex } from './state.ts';

/**
 * The decode mode key: everything about the CPU's mode that predecoded records depend on. Records and code pages
 * are kept per (physical page, key).
 */
export const Mode = {
  /** 0 = 16-bit, 1 = 32-bit, 2 = 64-bit code. */
  CodeSize: 3,
  /** The stack pointer has 32 bits (64 in 64-bit code). */
  BigStack: 4,
  /** Base 0, limit 4 GiB, readable and writable, expand-up (always so in 64-bit mode). */
  FlatEs: 8, FlatSs: 0x10, FlatDs: 0x20,
  /** CS base 0 and limit 4 GiB. */
  FlatCs: 0x40,
  /** SSE rows raise #UD (CR0.EM or no CR4.OSFXSR) or #NM (CR0.TS). */
  SseInvalid: 0x80, SseUnavailable: 0x100,
  InterceptShift: 9,
} as const;

const FLAT_BITS = Access.Code | Access.Expand | Access.Writable | Access.Present | Access.Unusable;
const FLAT = Access.Writable | Access.Present;
/** Word index of a segment register inside the state block. */
const word = (n: number): number => (S.segment + n * SEGMENT_SIZE) >>> 2;
const ES = word(SegmentIndex.ES);
const CS = word(SegmentIndex.CS);
const SS = word(SegmentIndex.SS);
const DS = word(SegmentIndex.DS);
const LIMIT = Segment.limit / 4;
const ATTRIBUTES = Segment.attributes / 4;

function flat(words: Uint32Array, at: number): boolean {
  return words[at + LIMIT] === 0xffffffff && words[at] === 0 && (words[at + ATTRIBUTES]! & FLAT_BITS) === FLAT;
}

/** Computes the key from the CPU state. */
export function modeKey(cpu: Cpu): number {
  const words = cpu.u32;
  const state = cpu.base >>> 2;
  const cs = words[state + CS + ATTRIBUTES]!;
  let key: number;
  if (cs & Access.Long && cpu.longMode) key = 2 | Mode.BigStack | Mode.FlatEs | Mode.FlatSs | Mode.FlatDs | Mode.FlatCs;
  else {
    key = cs & Access.Big ? 1 : 0;
    if (words[state + SS + ATTRIBUTES]! & Access.Big) key |= Mode.BigStack;
    if (flat(words, state + ES)) key |= Mode.FlatEs;
    if (flat(words, state + SS)) key |= Mode.FlatSs;
    if (flat(words, state + DS)) key |= Mode.FlatDs;
    if (words[state + CS + LIMIT] === 0xffffffff && words[state + CS] === 0) key |= Mode.FlatCs;
  }
  const cr0 = cpu.get32(S.cr0);
  if (cr0 & Cr0.EM || !(cpu.get32(S.cr4) & Cr4.OSFXSR)) key |= Mode.SseInvalid;
  if (cr0 & Cr0.TS) key |= Mode.SseUnavailable;
  if (cpu.interceptSet) key |= cpu.interceptSet.id << Mode.InterceptShift;
  return key;
}

export const codeSizeOf = (key: number): 16 | 32 | 64 => ((key & Mode.CodeSize) === 2 ? 64 : (key & Mode.CodeSize) === 1 ? 32 : 16);
