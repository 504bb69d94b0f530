import type { Cpu } from '../cpu/cpu.ts';
import { isFault } from '../cpu/fault.ts';
import { msrValue, readMsrWords, writeMsrWords } from '../cpu/msr.ts';

/** MSRs that MSR areas must not load: segment bases have fields of their own (SDM "Loading MSRs"). */
const FS_BASE = 0xc0000100;
const GS_BASE = 0xc0000101;

/**
 * Loads `count` MSRs from the list at a physical address. Returns 0, or the number (from 1) of the first entry that
 * cannot be loaded.
 */
export function loadMsrArea(cpu: Cpu, area: number, count: number): number {
  for (let i = 0; i < count; i++) {
    const at = area + i * 16;
    const number = cpu.readPhysical(at, 4);
    if (number === FS_BASE || number === GS_BASE || number >>> 8 === 8 || cpu.readPhysical(at + 4, 4) !== 0) return i + 1;
    try {
      writeMsrWords(cpu, number, cpu.readPhysical(at + 8, 4), cpu.readPhysical(at + 12, 4));
    } catch (thrown) {
      if (!isFault(thrown)) throw thrown;
      return i + 1;
    }
  }
  return 0;
}

/** Stores `count` MSRs into the list at a physical address. Returns 0, or the number of the first entry that cannot be read. */
export function storeMsrArea(cpu: Cpu, area: number, count: number): number {
  for (let i = 0; i < count; i++) {
    const at = area + i * 16;
    const number = cpu.readPhysical(at, 4);
    if (number >>> 8 === 8 || cpu.readPhysical(at + 4, 4) !== 0) return i + 1;
    try {
      readMsrWords(cpu, number);
    } catch (thrown) {
      if (!isFault(thrown)) throw thrown;
      return i + 1;
    }
    cpu.writePhysical(at + 8, 4, msrValue.low);
    cpu.writePhysical(at + 12, 4, msrValue.high);
  }
  return 0;
}
