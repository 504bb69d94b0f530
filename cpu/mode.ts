import type { Cpu } from './cpu.ts';
import { Access, Cr0, Cr4, S, SegmentIndex } from './state.ts';

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

function flat(cpu: Cpu, n: number): boolean {
  const attributes = cpu.attributes(n);
  return cpu.limit(n) === 0xffffffff && cpu.get32(cpu.segmentOffset(n)) === 0
    && (attributes & (Access.Code | Access.Expand | Access.Writable | Access.Present | Access.Unusable)) === (Access.Writable | Access.Present);
}

/** Computes the key from the CPU state. */
export function modeKey(cpu: Cpu): number {
  const cs = cpu.attributes(SegmentIndex.CS);
  let key: number;
  if (cpu.longMode && cs & Access.Long) key = 2 | Mode.BigStack | Mode.FlatEs | Mode.FlatSs | Mode.FlatDs | Mode.FlatCs;
  else {
    key = cs & Access.Big ? 1 : 0;
    if (cpu.attributes(SegmentIndex.SS) & Access.Big) key |= Mode.BigStack;
    if (flat(cpu, SegmentIndex.ES)) key |= Mode.FlatEs;
    if (flat(cpu, SegmentIndex.SS)) key |= Mode.FlatSs;
    if (flat(cpu, SegmentIndex.DS)) key |= Mode.FlatDs;
    if (cpu.limit(SegmentIndex.CS) === 0xffffffff && cpu.get32(cpu.segmentOffset(SegmentIndex.CS)) === 0) key |= Mode.FlatCs;
  }
  const cr0 = cpu.get32(S.cr0);
  if (cr0 & Cr0.EM || !(cpu.get32(S.cr4) & Cr4.OSFXSR)) key |= Mode.SseInvalid;
  if (cr0 & Cr0.TS) key |= Mode.SseUnavailable;
  if (cpu.interceptSet) key |= cpu.interceptSet.id << Mode.InterceptShift;
  return key;
}

export const codeSizeOf = (key: number): 16 | 32 | 64 => ((key & Mode.CodeSize) === 2 ? 64 : (key & Mode.CodeSize) === 1 ? 32 : 16);
