import type { Cpu } from './cpu.ts';
import { fault, gp, Vector } from './fault.ts';
import { AccessKind } from './mmu.ts';
import { Access, Cr0, Efer, Flag, S, Segment, SegmentIndex, SEGMENT_SIZE } from './state.ts';

/** System-segment and gate types (SDM "System Descriptor Types"). */
export const SystemType = {
  AvailableTss16: 1, Ldt: 2, BusyTss16: 3, CallGate16: 4, TaskGate: 5, InterruptGate16: 6, TrapGate16: 7,
  AvailableTss32: 9, BusyTss32: 11, CallGate32: 12, InterruptGate32: 14, TrapGate32: 15,
} as const;

/** Access rights of the segments that SYSENTER, SYSCALL and virtual-8086 mode load without a descriptor. */
export const FlatAccess = { Code64: 0xa09b, Code32: 0xc09b, Data: 0xc093, Virtual8086: 0xf3, Real: 0x93, UserDpl: 0x60 } as const;

/** A descriptor as read from a table: raw words, to be taken apart by the functions below. Reused, never allocated per access. */
export class Descriptor {
  selector = 0;
  /** Linear address of its first byte. */
  linear = 0;
  /** Signed words: small integers for the host. */
  low = 0;
  high = 0;
  /** Bits 63:32 of the base or offset of a 16-byte descriptor. */
  upper = 0;

  /** Access rights in the VMX format. */
  get attributes(): number { return (this.high >>> 8) & 0xf0ff; }
  get base(): number { return ((this.low >>> 16) | ((this.high & 0xff) << 16) | (this.high & 0xff000000)) >>> 0; }
  /** Limit in bytes. */
  get limit(): number {
    const raw = (this.low & 0xffff) | (this.high & 0xf0000);
    return this.high & 0x800000 ? ((raw << 12) | 0xfff) >>> 0 : raw;
  }
  get type(): number { return (this.high >>> 8) & 0xf; }
  /** Type with the S bit: a code or data segment has it. */
  get isSegment(): boolean { return (this.high & 0x1000) !== 0; }
  get isCode(): boolean { return (this.high & 0x1800) === 0x1800; }
  get isConforming(): boolean { return (this.high & 0x1c00) === 0x1c00; }
  /** Data segment that can be written. */
  get isWritable(): boolean { return (this.high & 0x1a00) === 0x1200; }
  get dpl(): number { return (this.high >>> 13) & 3; }
  get isPresent(): boolean { return (this.high & 0x8000) !== 0; }
  /** CS.L. */
  get isLong(): boolean { return (this.high & 0x200000) !== 0; }
  get isBig(): boolean { return (this.high & 0x400000) !== 0; }
  /** Gates: selector and bits 31:0 of the offset. */
  get gateSelector(): number { return this.low >>> 16; }
  get gateOffset(): number { return ((this.low & 0xffff) | (this.high & 0xffff0000)) >>> 0; }
}

/** Physical address of an implicit supervisor access (descriptor tables, TSS, IDT); throws the fault. */
export function systemPhysical(cpu: Cpu, linear: number, kind: AccessKind): number {
  const physical = cpu.mmu.translate(linear, kind, true);
  if (physical < 0) throw cpu.recordedFault();
  return physical;
}

/** Reads the eight bytes at `linear` into the low and high words of a descriptor. */
export function readWords(cpu: Cpu, linear: number, into: Descriptor): void {
  if ((linear & 0xfff) <= 4088) {
    const physical = systemPhysical(cpu, linear, AccessKind.Read);
    if ((physical & 3) === 0 && physical + 8 <= cpu.memory.ramSize) {
      const at = (cpu.memory.ramBase + physical) >>> 2;
      into.low = cpu.i32[at]!;
      into.high = cpu.i32[at + 1]!;
    } else {
      into.low = cpu.readPhysical(physical, 4) | 0;
      into.high = cpu.readPhysical(physical + 4, 4) | 0;
    }
  } else {
    cpu.probeRead(linear, 8, true);
    into.low = cpu.load(linear, 4, true) | 0;
    into.high = cpu.load(cpu.wrapLinear(linear + 4), 4, true) | 0;
  }
  into.linear = linear;
}

/**
 * Finds a selector's descriptor. Returns false when it lies outside its table (or there is no LDT); reads it
 * otherwise. Null selectors are the caller's business.
 */
export function findDescriptor(cpu: Cpu, selector: number, into: Descriptor): boolean {
  const last = (selector & 0xfff8) + 7;
  let table: number;
  if (selector & 4) {
    if (cpu.attributes(SegmentIndex.LDTR) & Access.Unusable || last > cpu.limit(SegmentIndex.LDTR)) return false;
    table = cpu.segmentBase(SegmentIndex.LDTR);
  } else {
    if (last > cpu.get32(S.gdtrLimit)) return false;
    table = cpu.getSigned(S.gdtrBase);
  }
  into.selector = selector;
  readWords(cpu, cpu.wrapLinear(table + (selector & 0xfff8)), into);
  return true;
}

/** As {@link findDescriptor}, but outside the table is a fault: `vector` with the selector and the EXT bit as error code. */
export function readDescriptor(cpu: Cpu, selector: number, into: Descriptor, vector: number = Vector.GeneralProtection, ext = 0): void {
  if (!findDescriptor(cpu, selector, into)) throw fault(vector, (selector & 0xfffc) | ext);
}

/** Reads bytes 8 to 15 of a 16-byte descriptor that {@link findDescriptor} has found; outside the table or with a non-zero type field it is #GP(selector). */
export function readUpper(cpu: Cpu, into: Descriptor): void {
  const last = (into.selector & 0xfff8) + 15;
  const limit = into.selector & 4 ? cpu.limit(SegmentIndex.LDTR) : cpu.get32(S.gdtrLimit);
  if (last > limit) throw gp(into.selector & 0xfffc);
  into.upper = cpu.load(cpu.wrapLinear(into.linear + 8), 4, true);
  if (cpu.load(cpu.wrapLinear(into.linear + 12), 4, true) & 0x1f00) throw gp(into.selector & 0xfffc);
}

/** Sets bits of the second word of a descriptor in memory (accessed 0x100, busy 0x200) and in the copy. */
export function markDescriptor(cpu: Cpu, descriptor: Descriptor, bits: number): void {
  if ((descriptor.high & bits) === bits) return;
  cpu.store(cpu.wrapLinear(descriptor.linear + 5), 1, ((descriptor.high | bits) >>> 8) & 0xff, true);
  descriptor.high |= bits;
}

/** Clears the busy bit of the TSS descriptor of a selector. */
export function clearBusy(cpu: Cpu, descriptor: Descriptor): void {
  cpu.store(cpu.wrapLinear(descriptor.linear + 5), 1, ((descriptor.high & ~0x200) >>> 8) & 0xff, true);
  descriptor.high &= ~0x200;
}

/** Puts a descriptor into a segment register; the accessed bit must have been set. */
export function installSegment(cpu: Cpu, index: number, selector: number, descriptor: Descriptor): void {
  const at = (cpu.base + S.segment + index * SEGMENT_SIZE) >>> 2;
  cpu.u32[at + (Segment.base >>> 2)] = descriptor.base;
  cpu.u32[at + (Segment.base >>> 2) + 1] = 0;
  cpu.u32[at + (Segment.limit >>> 2)] = descriptor.limit;
  cpu.u32[at + (Segment.attributes >>> 2)] = descriptor.attributes;
  cpu.u32[at + (Segment.selector >>> 2)] = selector;
}

/** A segment register loaded with a null selector. `dpl`: for SS, the CPL it stands for. */
export function installNull(cpu: Cpu, index: number, selector: number, dpl = 0): void {
  const at = (cpu.base + S.segment + index * SEGMENT_SIZE) >>> 2;
  cpu.u32[at + (Segment.base >>> 2)] = 0;
  cpu.u32[at + (Segment.base >>> 2) + 1] = 0;
  cpu.u32[at + (Segment.attributes >>> 2)] = Access.Unusable | (dpl << Access.DplShift);
  cpu.u32[at + (Segment.selector >>> 2)] = selector;
}

/** Real-address mode: the base follows the selector, limit and default size stay what protected mode left there. */
export function installReal(cpu: Cpu, index: number, selector: number): void {
  const kept = cpu.attributes(index) & (Access.Big | Access.Granularity | Access.Available);
  cpu.setSegment(index, selector, selector * 16, cpu.limit(index), kept | FlatAccess.Real);
}

/** Virtual-8086 mode: everything but the selector is fixed. */
export function installVirtual8086(cpu: Cpu, index: number, selector: number): void {
  cpu.setSegment(index, selector, selector * 16, 0xffff, FlatAccess.Virtual8086);
}

/** True in real-address and virtual-8086 mode, where a selector is a paragraph number. */
export function paragraphMode(cpu: Cpu): boolean {
  return (cpu.get32(S.cr0) & Cr0.PE) === 0 || (cpu.get32(S.flagsRest) & Flag.VM) !== 0;
}

/** Bits of the descriptor cache word that decide whether a code segment descriptor is good for long mode: L and D together are not. */
export function checkCodeSize(cpu: Cpu, descriptor: Descriptor, ext = 0): void {
  if (cpu.get32(S.efer) & Efer.LMA && descriptor.isLong && descriptor.isBig) throw gp((descriptor.selector & 0xfffc) | ext);
}

const loaded = new Descriptor();

/**
 * Checks of SDM "Loading Segment Registers" for SS. The descriptor is in `into` afterwards, its accessed bit set.
 * `cpl` is the privilege level it must match; `vector` is what a wrong descriptor raises (#GP, or #TS in switches).
 */
export function checkStackSegment(cpu: Cpu, selector: number, cpl: number, into: Descriptor, vector: number = Vector.GeneralProtection, ext = 0): void {
  const code = (selector & 0xfffc) | ext;
  if (!findDescriptor(cpu, selector, into)) throw fault(vector, code);
  if ((selector & 3) !== cpl || !into.isWritable || into.dpl !== cpl) throw fault(vector, code);
  if (!into.isPresent) throw fault(Vector.StackFault, code);
}

/**
 * Loads ES, SS, DS, FS or GS as MOV, POP, LDS and their kin do. Throws #GP, #SS or #NP with the selector and leaves
 * the register as it was.
 */
export function loadSegment(cpu: Cpu, index: number, selector: number): void {
  if (!(cpu.get32(S.cr0) & Cr0.PE)) return installReal(cpu, index, selector);
  if (cpu.get32(S.flagsRest) & Flag.VM) return installVirtual8086(cpu, index, selector);
  const cpl = cpu.get32(S.cpl);
  if (index === SegmentIndex.SS) {
    if ((selector & 0xfffc) === 0) {
      if (!cpu.code64 || cpl === 3 || (selector & 3) !== cpl) throw gp();
      installNull(cpu, index, selector, cpl);
      return;
    }
    checkStackSegment(cpu, selector, cpl, loaded);
  } else {
    if ((selector & 0xfffc) === 0) {
      installNull(cpu, index, selector);
      return;
    }
    checkDataSegment(cpu, selector, cpl, loaded, Vector.GeneralProtection);
  }
  markDescriptor(cpu, loaded, 0x100);
  installSegment(cpu, index, selector, loaded);
}

/** Checks for DS, ES, FS and GS. */
export function checkDataSegment(cpu: Cpu, selector: number, cpl: number, into: Descriptor, vector: number): void {
  const code = selector & 0xfffc;
  if (!findDescriptor(cpu, selector, into)) throw fault(vector, code);
  const type = into.high & 0x1e00; // S, code, conforming/expand-down, readable/writable
  if (!(type & 0x1000) || (type & 0x0a00) === 0x0800) throw fault(vector, code);
  if ((type & 0x0c00) !== 0x0c00 && ((selector & 3) > into.dpl || cpl > into.dpl)) throw fault(vector, code);
  if (!into.isPresent) throw fault(Vector.SegmentNotPresent, code);
}

/** On a return to an outer ring: data segments that the outer ring could not have loaded become null. */
export function dropInnerSegments(cpu: Cpu, cpl: number): void {
  for (let n: number = SegmentIndex.ES; n <= SegmentIndex.GS; n = n === SegmentIndex.ES ? SegmentIndex.DS : n + 1) {
    const attributes = cpu.u32[(cpu.base + S.segment + n * SEGMENT_SIZE + Segment.attributes) >>> 2]!;
    if (attributes & Access.Unusable) continue;
    if ((attributes & (Access.Code | Access.Conforming)) === (Access.Code | Access.Conforming)) continue;
    if ((attributes & Access.Dpl) >> Access.DplShift < cpl) {
      const base = cpu.segmentBase(n); // only the selector and the right to use it go ("RET", "IRET"); 64-bit mode still sees the base
      installNull(cpu, n, 0);
      if (cpu.longMode) cpu.setSigned(cpu.segmentOffset(n), base);
    }
  }
}

/** Offset as a signed number from two words; outside the canonical range it stays outside. */
export function wide(high: number, low: number): number {
  return (high | 0) * 4294967296 + (low >>> 0);
}

/** True where bits 63:47 of an address, given by its high word, are all equal. */
export function isCanonicalHigh(high: number): boolean {
  const top = (high | 0) >> 15;
  return top === 0 || top === -1;
}

export function isCanonical(linear: number): boolean {
  return linear >= -140737488355328 && linear < 140737488355328;
}
