import type { Cpu } from '../cpu/cpu.ts';
import { Access, Cr0, Cr4, Efer, Flag, S, SegmentIndex } from '../cpu/state.ts';
import type { QemuDump, QemuSegment } from './qemu-log.ts';

/** One line of a comparison. */
export interface StateField {
  readonly name: string;
  readonly ours: string;
  readonly log: string;
  readonly differs: boolean;
}

export const registerNames = ['RAX', 'RCX', 'RDX', 'RBX', 'RSP', 'RBP', 'RSI', 'RDI', 'R8', 'R9', 'R10', 'R11', 'R12', 'R13', 'R14', 'R15'] as const;
const segmentNames = ['ES', 'CS', 'SS', 'DS', 'FS', 'GS', 'LDTR', 'TR'] as const;
const DR6 = 48;
const DR7 = 56;
/** RF: QEMU clears it at another moment of the instruction than the dump shows; it has no effect but to hold back instruction breakpoints. */
const COMPARED_FLAGS = 0x3f7fd5 & ~Flag.RF;
/** Accessed bit of code and data segments: QEMU leaves the cached copy as the descriptor was before the load. */
const ACCESSED = 1;
/** Busy bit of the TSS type: not in QEMU's cached copy after LTR. */
const BUSY = 2;

/** Type of CS after a load in real mode ("Checks on Guest Segment Registers" allows it); QEMU keeps the type from before. */
const REAL_CODE = 3;
/** DR6 without bit 12, which is always 0 but which QEMU stores. */
const DR6_MASK = 0xffffefffn;
/** Granularity shows in the limit; the bit for software has no effect. */
const UNCOMPARED_RIGHTS = Access.Granularity | Access.Available;

/** Present segment? QEMU has no "unusable" bit; a null selector leaves P = 0. */
const usable = (segment: QemuSegment): boolean => (segment.flags & 0x8000) !== 0;

/** Access rights in VMX format of a dumped segment register. */
function accessRights(segment: QemuSegment, index: number, real: boolean): number {
  let rights = (segment.flags >>> 8) & 0xf0ff;
  if (index === SegmentIndex.TR) rights |= BUSY;
  else if (index === SegmentIndex.CS || (index !== SegmentIndex.LDTR && usable(segment))) rights |= ACCESSED;
  if (!real && !usable(segment)) rights |= Access.Unusable;
  return rights;
}

/** Puts a dumped state into the CPU, everything the dump does not hold unchanged. Translation caches are emptied; the caller renews decode mode and engine. */
export function loadDump(cpu: Cpu, dump: QemuDump): void {
  const { system } = dump;
  dump.registers.forEach((value, n) => {
    // the 32-bit form does not show the upper halves
    cpu.setReg64(n, dump.wide ? value : (cpu.reg64(n) >> 32n << 32n) | value);
  });
  cpu.set64(S.rip, dump.rip);
  cpu.flags = dump.flags;
  cpu.cpl = dump.cpl;
  const real = (system.cr0 & Cr0.PE) === 0;
  system.segments.forEach((segment, n) => cpu.setSegment(n, segment.selector, segment.base, segment.limit, accessRights(segment, n, real)));
  cpu.setSigned(S.gdtrBase, system.gdtBase);
  cpu.set32(S.gdtrLimit, system.gdtLimit);
  cpu.setSigned(S.idtrBase, system.idtBase);
  cpu.set32(S.idtrLimit, system.idtLimit);
  cpu.set64(S.cr0, BigInt(system.cr0));
  cpu.set64(S.cr2, system.cr2);
  cpu.set64(S.cr3, system.cr3);
  cpu.set64(S.cr4, BigInt(system.cr4));
  cpu.set64(S.efer, BigInt(system.efer));
  system.dr.forEach((value, n) => cpu.set64(S.dr + 8 * n, value));
  cpu.set64(S.dr + DR6, BigInt(system.dr6));
  cpu.set64(S.dr + DR7, BigInt(system.dr7));
  cpu.set32(S.activity, 0);
  cpu.set32(S.blockInterrupts, dump.inhibit ? 1 : 0);
  cpu.setFloat(S.shadowAt, dump.inhibit ? cpu.retired : -1);
  if (system.cr0 & Cr0.PG && system.cr4 & Cr4.PAE && !(system.efer & Efer.LMA)) {
    for (let i = 0; i < 4; i++) {
      const at = Number(system.cr3 & 0xffffffe0n) + i * 8;
      cpu.set32(S.pdpte + i * 8, cpu.readPhysical(at, 4));
      cpu.set32(S.pdpte + i * 8 + 4, cpu.readPhysical(at + 4, 4));
    }
  }
  cpu.mmu.updateContext();
  cpu.mmu.flushAll();
}

const hex = (value: bigint | number, digits: number): string => BigInt.asUintN(64, BigInt(value)).toString(16).padStart(digits, '0');

/** True when the compared parts agree; the quick form of {@link compareState}. */
export function agrees(cpu: Cpu, dump: QemuDump): boolean {
  const { registers, system } = dump;
  if (dump.wide) { for (let n = 0; n < 16; n++) if (cpu.reg64(n) !== registers[n]) return false; }
  else for (let n = 0; n < 8; n++) if (BigInt(cpu.reg32(n)) !== registers[n]) return false;
  if (BigInt.asUintN(64, cpu.get64(S.rip)) !== dump.rip) return false;
  if ((cpu.flags ^ dump.flags) & COMPARED_FLAGS || cpu.cpl !== dump.cpl) return false;
  // the system part: plainly equal as a rule, otherwise field by field with everything that is masked there
  const real = (system.cr0 & Cr0.PE) === 0;
  const equal = cpu.get32(S.cr0) === system.cr0 && cpu.get64(S.cr2) === system.cr2 && cpu.get64(S.cr3) === system.cr3 && cpu.get32(S.cr4) === system.cr4 && cpu.get32(S.efer) === system.efer
    && system.segments.every((segment, n) => cpu.selector(n) === segment.selector && cpu.segmentBase(n) === segment.base && cpu.limit(n) === segment.limit && ((cpu.attributes(n) ^ accessRights(segment, n, real)) & ~UNCOMPARED_RIGHTS) === 0)
    && cpu.getSigned(S.gdtrBase) === system.gdtBase && cpu.get32(S.gdtrLimit) === system.gdtLimit && cpu.getSigned(S.idtrBase) === system.idtBase && cpu.get32(S.idtrLimit) === system.idtLimit
    && cpu.get32(S.dr + DR6) === system.dr6 && cpu.get32(S.dr + DR7) === system.dr7 && system.dr.every((value, n) => cpu.get64(S.dr + 8 * n) === value);
  if (equal) return true;
  return compareState(cpu, dump).every((field) => !field.differs);
}

/** All compared fields, in the order of the dump. */
export function compareState(cpu: Cpu, dump: QemuDump): StateField[] {
  const { system } = dump;
  const fields: StateField[] = [];
  const put = (name: string, ours: bigint | number, log: bigint | number, digits: number, mask = -1n): void => {
    const a = BigInt.asUintN(64, BigInt(ours));
    const b = BigInt.asUintN(64, BigInt(log));
    fields.push({ name, ours: hex(a, digits), log: hex(b, digits), differs: ((a ^ b) & mask) !== 0n });
  };
  const digits = dump.wide ? 16 : 8;
  dump.registers.forEach((value, n) => put(dump.wide ? registerNames[n]! : `E${registerNames[n]!.slice(1)}`, dump.wide ? cpu.reg64(n) : cpu.reg32(n), value, digits));
  put(dump.wide ? 'RIP' : 'EIP', cpu.get64(S.rip), dump.rip, digits);
  put(dump.wide ? 'RFLAGS' : 'EFLAGS', cpu.flags, dump.flags, 8, BigInt(COMPARED_FLAGS));
  put('CPL', cpu.cpl, dump.cpl, 1);
  const real = (system.cr0 & Cr0.PE) === 0;
  system.segments.forEach((segment, n) => {
    const name = segmentNames[n]!;
    const ours = cpu.attributes(n);
    const theirs = accessRights(segment, n, real);
    put(name, cpu.selector(n), segment.selector, 4);
    const bothUnusable = (!real && (ours & Access.Unusable) !== 0 && (theirs & Access.Unusable) !== 0) || (n === SegmentIndex.LDTR && ((cpu.selector(n) | segment.selector) & 0xfffc) === 0);
    // a null selector leaves base, limit and rights undefined ("Segment Selectors"), except that 64-bit mode uses the bases of FS and GS
    if (bothUnusable && !(cpu.longMode && (n === SegmentIndex.FS || n === SegmentIndex.GS))) return;
    put(`${name}.base`, BigInt(Math.trunc(cpu.segmentBase(n))), BigInt(Math.trunc(segment.base)), 8);
    if (bothUnusable) return;
    put(`${name}.limit`, cpu.limit(n), segment.limit, 8);
    const ignored = UNCOMPARED_RIGHTS | (n === SegmentIndex.TR ? BUSY : n === SegmentIndex.LDTR ? 0 : real || (n === SegmentIndex.CS && (ours & Access.Type) === REAL_CODE) ? Access.Type : ACCESSED);
    put(`${name}.rights`, ours, theirs, 5, BigInt(0x1ffff & ~ignored));
  });
  put('GDTR.base', cpu.get64(S.gdtrBase), system.gdtBase, 8);
  put('GDTR.limit', cpu.get32(S.gdtrLimit), system.gdtLimit, 4);
  put('IDTR.base', cpu.get64(S.idtrBase), system.idtBase, 8);
  put('IDTR.limit', cpu.get32(S.idtrLimit), system.idtLimit, 4);
  put('CR0', cpu.get32(S.cr0), system.cr0, 8);
  put('CR2', cpu.get64(S.cr2), system.cr2, digits, dump.wide ? -1n : 0xffffffffn);
  put('CR3', cpu.get64(S.cr3), system.cr3, digits);
  put('CR4', cpu.get32(S.cr4), system.cr4, 8);
  put('EFER', cpu.get32(S.efer), system.efer, 8);
  system.dr.forEach((value, n) => put(`DR${n}`, cpu.get64(S.dr + 8 * n), value, digits));
  put('DR6', cpu.get32(S.dr + DR6), system.dr6, 8, DR6_MASK);
  put('DR7', cpu.get32(S.dr + DR7), system.dr7, 8);
  return fields;
}
