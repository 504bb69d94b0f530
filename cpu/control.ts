import { Flow, type Cpu } from './cpu.ts';
import { isCanonical, isCanonicalHigh } from './descriptor.ts';
import { fault, gp, ud, Vector } from './fault.ts';
import { TranslatePurpose } from './hooks.ts';
import type { Instruction } from './instruction.ts';
import { ABORT_VECTOR } from './mmu.ts';
import { readRm16 } from './operand.ts';
import { Access, Cr0, Cr4, Efer, Gpr, S, Segment, SegmentIndex } from './state.ts';

/** Which CPUID features let a CR4 bit be set; any of the names will do (SDM "Control Registers"). */
const cr4Rows: readonly (readonly [readonly string[], number])[] = [
  [['VME'], Cr4.VME | Cr4.PVI], [['TSC'], Cr4.TSD], [['DE'], Cr4.DE], [['PSE'], Cr4.PSE], [['PAE'], Cr4.PAE], [['MCE'], Cr4.MCE], [['PGE'], Cr4.PGE],
  [['MSR'], Cr4.PCE], [['FXSR', 'SSE'], Cr4.OSFXSR], [['SSE'], Cr4.OSXMMEXCPT], [['UMIP'], Cr4.UMIP], [['VMX'], Cr4.VMXE], [['SMX'], Cr4.SMXE],
  [['FSGSBASE'], Cr4.FSGSBASE], [['PCID'], Cr4.PCIDE], [['XSAVE'], Cr4.OSXSAVE], [['SMEP'], Cr4.SMEP], [['SMAP'], Cr4.SMAP],
];
const cr4Masks = new WeakMap<Cpu, number>();

/** CR4 bits that this CPU lets software set. */
export function cr4Allowed(cpu: Cpu): number {
  let mask = cr4Masks.get(cpu);
  if (mask === undefined) {
    mask = 0;
    for (const [names, bits] of cr4Rows) if (names.some((name) => cpu.features.has(name))) mask |= bits;
    cr4Masks.set(cpu, mask);
  }
  return mask;
}

/** Bits above the physical-address width in the high word of a table entry or CR3. */
export function reservedHigh(cpu: Cpu): number {
  return cpu.profile.physicalAddressBits >= 64 ? 0 : ~(2 ** (cpu.profile.physicalAddressBits - 32) - 1);
}

function requirePrivilege(cpu: Cpu): void {
  if (cpu.get32(S.cpl) !== 0) throw gp();
}

const pdpteWords = new Uint32Array(8);

/** Reads and checks the four PDPTEs that CR3 points to under PAE paging, and keeps them on-die. Throws #GP(0) for a reserved bit. */
export function loadPdptes(cpu: Cpu, cr3: number): void {
  const table = (cr3 & 0xffffffe0) >>> 0;
  for (let i = 0; i < 4; i++) {
    let physical = table + i * 8;
    if (cpu.secondLevel !== null) {
      physical = cpu.secondLevel.translate(cpu, physical, 1, TranslatePurpose.Physical, 0);
      if (physical < 0) throw fault(ABORT_VECTOR);
    }
    const low = cpu.readPhysical(physical, 4);
    const high = cpu.readPhysical(physical + 4, 4);
    if (low & 1 && (low & 0x1e6 || high & reservedHigh(cpu))) throw gp();
    pdpteWords[i * 2] = low;
    pdpteWords[i * 2 + 1] = high;
  }
  for (let i = 0; i < 8; i++) cpu.set32(S.pdpte + i * 4, pdpteWords[i]!);
}

function usesPdptes(cr0: number, cr4: number, efer: number): boolean {
  return (cr0 & Cr0.PG) !== 0 && (cr4 & Cr4.PAE) !== 0 && (efer & Efer.LMA) === 0;
}

/** Writes CR0 with the checks of MOV to CR0 (privilege excepted), mode changes and TLB effects included. Throws #GP(0). */
export function writeCr0(cpu: Cpu, value: number, high = 0): void {
  if (high !== 0) throw gp();
  const old = cpu.get32(S.cr0);
  value = ((value & 0xe005002f) | Cr0.ET) >>> 0;
  if (value & Cr0.PG && !(value & Cr0.PE)) throw gp();
  if (value & Cr0.NW && !(value & Cr0.CD)) throw gp();
  if (cpu.controlRegisters !== null && !cpu.controlRegisters.check(cpu, 0, value)) throw gp();
  const cr4 = cpu.get32(S.cr4);
  let efer = cpu.get32(S.efer);
  const enables = (value & Cr0.PG) !== 0 && !(old & Cr0.PG);
  const disables = !(value & Cr0.PG) && (old & Cr0.PG) !== 0;
  if (enables && efer & Efer.LME) {
    if (!(cr4 & Cr4.PAE)) throw gp();
    if (cpu.attributes(SegmentIndex.CS) & Access.Long) throw gp();
    const tr = cpu.attributes(SegmentIndex.TR);
    if (!(tr & Access.Unusable) && tr & Access.Present && (tr & Access.Type) === 3 && cpu.selector(SegmentIndex.TR) !== 0) throw gp(); // a 16-bit TSS cannot serve long mode
    efer |= Efer.LMA;
  }
  if (disables) {
    if (cpu.code64 || cr4 & Cr4.PCIDE) throw gp();
    efer &= ~Efer.LMA;
  }
  const changed = (old ^ value) >>> 0;
  if (usesPdptes(value, cr4, efer) && changed & (Cr0.PG | Cr0.CD | Cr0.NW)) loadPdptes(cpu, cpu.get32(S.cr3));
  cpu.set32(S.cr0, value);
  cpu.set32(S.efer, efer);
  if (enables || disables) cpu.mmu.flushAll();
  cpu.mmu.updateContext();
}

/** Puts a value into CR3 (reserved bits already checked): PDPTEs, flush of the current PCID's non-global entries. */
export function loadPageDirectoryBase(cpu: Cpu, low: number, high: number, keep = false): void {
  if (usesPdptes(cpu.get32(S.cr0), cpu.get32(S.cr4), cpu.get32(S.efer))) loadPdptes(cpu, low);
  cpu.set32(S.cr3, low);
  cpu.set32(S.cr3 + 4, high);
  cpu.mmu.updateContext();
  if (!keep) cpu.mmu.flushNonGlobal();
}

/** Writes CR3 with the checks of MOV to CR3 (privilege excepted). Bit 63 with CR4.PCIDE keeps the TLB. Throws #GP(0). */
export function writeCr3(cpu: Cpu, low: number, high = 0): void {
  const pcid = (cpu.get32(S.cr4) & Cr4.PCIDE) !== 0;
  const keep = pcid && (high | 0) < 0;
  if (pcid) high &= 0x7fffffff;
  if (cpu.get32(S.efer) & Efer.LMA && high & reservedHigh(cpu)) throw gp();
  loadPageDirectoryBase(cpu, low, high, keep);
}

/** Writes CR4 with the checks of MOV to CR4 (privilege excepted) and its TLB effects. Throws #GP(0). */
export function writeCr4(cpu: Cpu, value: number, high = 0): void {
  const old = cpu.get32(S.cr4);
  if (high !== 0 || value & ~cr4Allowed(cpu)) throw gp();
  if (cpu.controlRegisters !== null && !cpu.controlRegisters.check(cpu, 4, value)) throw gp();
  const long = (cpu.get32(S.efer) & Efer.LMA) !== 0;
  if (long && !(value & Cr4.PAE)) throw gp();
  const changed = old ^ value;
  if (changed & value & Cr4.PCIDE && (!long || cpu.get32(S.cr3) & 0xfff)) throw gp();
  if (changed & (Cr4.PAE | Cr4.PGE | Cr4.PSE | Cr4.SMEP) && usesPdptes(cpu.get32(S.cr0), value, cpu.get32(S.efer))) loadPdptes(cpu, cpu.get32(S.cr3));
  cpu.set32(S.cr4, value);
  const flushes = changed & (Cr4.PGE | Cr4.PAE | Cr4.PSE) || changed & old & Cr4.PCIDE || changed & value & Cr4.SMEP;
  if (flushes) cpu.mmu.flushAll();
  cpu.mmu.updateContext();
}

/** MOV r, CRn. */
export function movFromCr(cpu: Cpu, insn: Instruction): void {
  const n = insn.reg;
  if (n === 1 || (n > 4 && n !== 8)) throw ud();
  requirePrivilege(cpu);
  if (n === 8) {
    const virtual = cpu.controlRegisters === null ? -1 : cpu.controlRegisters.readTaskPriority(cpu);
    cpu.setReg32(insn.rm, virtual >= 0 ? virtual : cpu.bus.readTaskPriority(cpu.index) & 15);
    return;
  }
  const at = n === 0 ? S.cr0 : n === 2 ? S.cr2 : n === 3 ? S.cr3 : S.cr4;
  let low = cpu.get32(at);
  let high = cpu.get32(at + 4);
  if (cpu.controlRegisters !== null && (n === 0 || n === 4)) {
    low = cpu.controlRegisters.read(n, low);
    high = cpu.controlRegisters.readHigh(n);
  }
  cpu.setReg32(insn.rm, low);
  cpu.set32(S.gpr + insn.rm * 8 + 4, insn.codeSize === 64 ? high : 0);
}

/** MOV CRn, r. */
export function movToCr(cpu: Cpu, insn: Instruction): Flow {
  const n = insn.reg;
  if (n === 1 || (n > 4 && n !== 8)) throw ud();
  requirePrivilege(cpu);
  let low = cpu.reg32(insn.rm);
  const high = insn.codeSize === 64 ? cpu.get32(S.gpr + insn.rm * 8 + 4) : 0;
  const next = cpu.nextRip(insn);
  if (cpu.controlRegisters !== null && (n === 0 || n === 4)) low = cpu.controlRegisters.write(cpu, n, low);
  if (n === 0) writeCr0(cpu, low, high);
  else if (n === 2) {
    cpu.set32(S.cr2, low);
    cpu.set32(S.cr2 + 4, high);
  } else if (n === 3) writeCr3(cpu, low, high);
  else if (n === 4) writeCr4(cpu, low, high);
  else {
    if (high !== 0 || low > 15) throw gp();
    if (cpu.controlRegisters === null || !cpu.controlRegisters.writeTaskPriority(cpu, low)) cpu.bus.writeTaskPriority(cpu.index, low);
    cpu.rip = next;
    return Flow.Leave; // a lower priority may let an interrupt in
  }
  cpu.rip = next;
  return Flow.Jump;
}

/** DR6.BD: the next instruction accesses a debug register while DR7.GD is set. */
const DEBUG_ACCESS = 0x2000;
const DR7_GENERAL_DETECT = 0x2000;

function debugRegister(cpu: Cpu, insn: Instruction): number {
  let n = insn.reg;
  if (n > 7) throw ud();
  if (n === 4 || n === 5) {
    if (cpu.get32(S.cr4) & Cr4.DE) throw ud();
    n += 2;
  }
  requirePrivilege(cpu);
  if (cpu.get32(S.dr + 56) & DR7_GENERAL_DETECT) throw fault(Vector.Debug, -1, DEBUG_ACCESS);
  return n;
}

/** MOV r, DRn. */
export function movFromDr(cpu: Cpu, insn: Instruction): void {
  const n = debugRegister(cpu, insn);
  cpu.setReg32(insn.rm, cpu.get32(S.dr + n * 8));
  if (insn.codeSize === 64) cpu.set32(S.gpr + insn.rm * 8 + 4, cpu.get32(S.dr + n * 8 + 4));
}

/** MOV DRn, r. */
export function movToDr(cpu: Cpu, insn: Instruction): Flow {
  const n = debugRegister(cpu, insn);
  const low = cpu.reg32(insn.rm);
  const high = insn.codeSize === 64 ? cpu.get32(S.gpr + insn.rm * 8 + 4) : 0;
  if (n >= 6 && high !== 0) throw gp();
  cpu.set32(S.dr + n * 8, n === 6 ? (low & 0xe00f) | 0xffff0ff0 : n === 7 ? (low & 0xffff23ff) | 0x400 : low);
  cpu.set32(S.dr + n * 8 + 4, high);
  cpu.advance(insn);
  return Flow.Leave; // breakpoints may be armed now
}

export function clts(cpu: Cpu, insn: Instruction): Flow {
  requirePrivilege(cpu);
  const cleared = (cpu.get32(S.cr0) & ~Cr0.TS) >>> 0;
  cpu.set32(S.cr0, cpu.controlRegisters === null ? cleared : cpu.controlRegisters.write(cpu, 0, cleared));
  cpu.advance(insn);
  return Flow.Jump;
}

/** LMSW: PE, MP, EM and TS; PE can be set but not cleared. */
export function lmsw(cpu: Cpu, insn: Instruction): Flow {
  requirePrivilege(cpu);
  const value = readRm16(cpu, insn);
  const old = cpu.get32(S.cr0);
  const next = cpu.nextRip(insn);
  const wanted = ((old & ~0xe) | (value & 0xf) | (old & 1)) >>> 0;
  writeCr0(cpu, cpu.controlRegisters === null ? wanted : cpu.controlRegisters.write(cpu, 0, wanted));
  cpu.rip = next;
  return Flow.Jump;
}

/** SMSW: 16 bits to memory, as much of CR0 as the operand size takes to a register. */
export function smsw(cpu: Cpu, insn: Instruction): void {
  checkUmip(cpu);
  let cr0 = cpu.get32(S.cr0);
  if (cpu.controlRegisters !== null) cr0 = cpu.controlRegisters.read(0, cr0);
  if (insn.memory) cpu.store(cpu.linearOf(insn, 2, true), 2, cr0 & 0xffff);
  else if (insn.operandSize === 16) cpu.u16[(cpu.base + S.gpr + insn.rm * 8) >>> 1] = cr0;
  else cpu.setReg32(insn.rm, cr0);
}

/** User-mode instruction prevention: SGDT, SIDT, SLDT, STR and SMSW are for ring 0. */
export function checkUmip(cpu: Cpu): void {
  if (cpu.get32(S.cr4) & Cr4.UMIP && cpu.get32(S.cpl) !== 0) throw gp();
}

/** INVLPG: no limit or canonical fault; an address that is not canonical has nothing to invalidate. */
export function invlpg(cpu: Cpu, insn: Instruction): Flow {
  requirePrivilege(cpu);
  const offset = cpu.effectiveAddress(insn);
  let linear: number;
  if (insn.codeSize === 64) linear = insn.segment >= SegmentIndex.FS ? cpu.segmentBase(insn.segment) + offset : offset;
  else linear = (cpu.segmentBase(insn.segment) + offset) >>> 0;
  if (insn.codeSize !== 64 || isCanonical(linear)) cpu.mmu.invalidatePage(linear);
  cpu.advance(insn);
  return Flow.Jump;
}

/** INVPCID r, m128. */
export function invpcid(cpu: Cpu, insn: Instruction): Flow {
  requirePrivilege(cpu);
  const type = cpu.reg32(insn.reg);
  if (type > 3 || (insn.codeSize === 64 && cpu.get32(S.gpr + insn.reg * 8 + 4) !== 0)) throw gp();
  const at = cpu.linearOf(insn, 16, false);
  const low = cpu.load(at, 4);
  const high = cpu.load(cpu.wrapLinear(at + 4), 4);
  const linearLow = cpu.load(cpu.wrapLinear(at + 8), 4);
  const linearHigh = cpu.load(cpu.wrapLinear(at + 12), 4);
  if (high !== 0 || low > 0xfff) throw gp();
  if (type < 2 && low !== 0 && !(cpu.get32(S.cr4) & Cr4.PCIDE)) throw gp();
  if (type === 0 && !isCanonicalHigh(linearHigh)) throw gp();
  if (type === 2) cpu.mmu.flushAll();
  else cpu.mmu.invalidatePcid(type, low, (linearHigh | 0) * 4294967296 + linearLow);
  cpu.advance(insn);
  return Flow.Jump;
}

/** INVD and WBINVD: there are no caches to lose or write back. */
export function invalidateCaches(cpu: Cpu): void {
  requirePrivilege(cpu);
}

export function hlt(cpu: Cpu, insn: Instruction): Flow {
  requirePrivilege(cpu);
  cpu.advance(insn);
  cpu.set32(S.activity, 1);
  return Flow.Leave;
}

/** MONITOR: checks its operands; the range watched is not modelled. */
export function monitor(cpu: Cpu, insn: Instruction): void {
  requirePrivilege(cpu);
  if (cpu.reg32(Gpr.RCX) !== 0) throw gp();
  const offset = insn.addressSize === 64 ? cpu.getSigned(S.gpr) : insn.addressSize === 32 ? cpu.reg32(0) : cpu.reg32(0) & 0xffff;
  cpu.load(cpu.linear(insn.override >= 0 ? insn.override : SegmentIndex.DS, offset, 1, false), 1);
}

/** MWAIT may return at once for reasons of the implementation's own (SDM "MWAIT"), and here it always does. */
export function mwait(cpu: Cpu): void {
  requirePrivilege(cpu);
  if (cpu.reg32(Gpr.RCX) & ~1) throw gp();
}

export function swapgs(cpu: Cpu): void {
  requirePrivilege(cpu);
  const gs = (cpu.base + cpu.segmentOffset(SegmentIndex.GS) + Segment.base) >>> 2;
  const other = (cpu.base + S.kernelGsBase) >>> 2;
  const low = cpu.u32[gs]!;
  const high = cpu.u32[gs + 1]!;
  cpu.u32[gs] = cpu.u32[other]!;
  cpu.u32[gs + 1] = cpu.u32[other + 1]!;
  cpu.u32[other] = low;
  cpu.u32[other + 1] = high;
}

/** RDFSBASE, RDGSBASE. */
export const readBase = (segment: number) => (cpu: Cpu, insn: Instruction): void => {
  if (insn.memory || !(cpu.get32(S.cr4) & Cr4.FSGSBASE)) throw ud();
  const at = cpu.segmentOffset(segment) + Segment.base;
  const high = insn.operandSize === 64 ? cpu.get32(at + 4) : 0;
  cpu.setReg32(insn.rm, cpu.get32(at));
  cpu.set32(S.gpr + insn.rm * 8 + 4, high);
};

/** WRFSBASE, WRGSBASE. */
export const writeBase = (segment: number) => (cpu: Cpu, insn: Instruction): void => {
  if (insn.memory || !(cpu.get32(S.cr4) & Cr4.FSGSBASE)) throw ud();
  const high = insn.operandSize === 64 ? cpu.get32(S.gpr + insn.rm * 8 + 4) : 0;
  if (!isCanonicalHigh(high)) throw gp();
  const at = cpu.segmentOffset(segment) + Segment.base;
  cpu.set32(at, cpu.reg32(insn.rm));
  cpu.set32(at + 4, high);
};

/** The value of the last {@link readTsc}, as two unsigned words. */
export const tsc = { low: 0, high: 0 };

/** Time-stamp counter: the clock in force plus the offset that writes to it leave (and a VMM's). Result in {@link tsc}. */
export function readTsc(cpu: Cpu): void {
  const cycles = Math.floor(cpu.now);
  const low = (cycles % 4294967296) + cpu.get32(S.tscOffset);
  tsc.low = low >>> 0;
  tsc.high = (Math.floor(cycles / 4294967296) + cpu.get32(S.tscOffset + 4) + (low > 0xffffffff ? 1 : 0)) >>> 0;
}

export function rdtsc(cpu: Cpu): void {
  if (cpu.get32(S.cr4) & Cr4.TSD && cpu.get32(S.cpl) !== 0) throw gp();
  readTsc(cpu);
  cpu.setReg32(Gpr.RAX, tsc.low);
  cpu.setReg32(Gpr.RDX, tsc.high);
}

export function rdtscp(cpu: Cpu): void {
  rdtsc(cpu);
  cpu.setReg32(Gpr.RCX, cpu.get32(S.tscAux));
}

/** No performance counters are advertised, so every counter number is out of range. */
export function rdpmc(): void {
  throw gp();
}

export function xgetbv(cpu: Cpu): void {
  if (!(cpu.get32(S.cr4) & Cr4.OSXSAVE)) throw ud();
  if (cpu.reg32(Gpr.RCX) !== 0) throw gp();
  cpu.setReg32(Gpr.RAX, cpu.get32(S.xcr0));
  cpu.setReg32(Gpr.RDX, cpu.get32(S.xcr0 + 4));
}

/** State components that XCR0 may enable: x87 and SSE. */
export const XCR0_ALLOWED = 3;

export function xsetbv(cpu: Cpu): void {
  if (!(cpu.get32(S.cr4) & Cr4.OSXSAVE)) throw ud();
  requirePrivilege(cpu);
  const value = cpu.reg32(Gpr.RAX);
  if (cpu.reg32(Gpr.RCX) !== 0 || cpu.reg32(Gpr.RDX) !== 0 || value & ~XCR0_ALLOWED || !(value & 1)) throw gp();
  cpu.set32(S.xcr0, value);
}
