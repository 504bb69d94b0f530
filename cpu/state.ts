/**
 * The layout of one CPU's state in linear memory. TypeScript and generated WebAssembly read the same bytes, so
 * this table is the only place where an offset is decided.
 */

/** [name, bytes per element, elements] in order; every field is aligned to its element size (at most 8). */
const fields = [
  // hot words, touched by every instruction
  ['gpr', 8, 16], // RAX RCX RDX RBX RSP RBP RSI RDI R8..R15
  ['zero', 8, 1], // always 0: the base or index of an address that has none
  ['ea', 8, 1], // linear address prepared by an address record (non-flat segments)
  ['rip', 8, 1],
  ['flagResult', 8, 1], // ZF = (it is 0), SF = its sign ^ bit 7 of flagBits, PF = parity of its low byte ^ bit 2 of flagBits
  ['flagBits', 4, 1], // CF bit 0, AF bit 4, OF bit 11 as in EFLAGS; bit 2 flips PF, bit 7 flips SF
  ['flagsRest', 4, 1], // the other EFLAGS bits (TF IF DF IOPL NT RF VM AC VIF VIP ID and bit 1)
  ['left', 4, 1], // cycles left until the deadline; the engine leaves when it is <= 0 (signed)
  ['retired', 4, 1], // instructions retired since the slice began
  ['extra', 4, 1], // cycles charged by slow paths, not yet taken from `left`
  ['readTable', 4, 1], // fast TLB tables of the current context (host addresses)
  ['writeTable', 4, 1],
  ['execTable', 4, 1],
  ['pageRip', 8, 1], // RIP of offset 0 of the code page being executed
  ['codePage', 4, 1], // host address of its offset-to-record map; 0 = look it up again
  ['exit', 4, 1], // why the engine left (Leave)
  ['pendingStore', 4, 1], // a store went to the bounce buffer and must be committed
  ['cpl', 4, 1],
  ['mode', 4, 1], // decode mode key (cpu/mode.ts)
  ['activity', 4, 1], // 0 active, 1 HLT, 2 shutdown, 3 wait-for-SIPI (as the VMCS activity state)
  // fault raised by generated code, delivered by the run loop
  ['faultVector', 4, 1],
  ['faultError', 4, 1], // -1 = none
  ['faultLinear', 8, 1],
  ['interruptPending', 4, 1], // non-zero: a row that sets IF must end the run
  ['blockInterrupts', 4, 1], // 1 STI shadow, 2 MOV SS shadow (bits as the VMCS interruptibility state); valid while shadowAt matches
  ['shadowAt', 8, 1], // f64: retired count at which the shadow applies
  ['sliceCycles', 8, 1], // f64: cycles at the start of the slice
  ['sliceRetired', 8, 1], // f64: instructions retired at the start of the slice
  ['budget', 4, 1], // `left` at the start of the slice
  ['storeAddress', 4, 1], // pending store: physical address(es) it commits to
  ['storeSize', 4, 1],
  ['storeAddress2', 4, 1],
  ['iterations', 8, 1], // f64: REP iterations
  ['iterationCost', 4, 1], // cycles per REP iteration
  ['record', 4, 1], // record being executed while TypeScript runs
  ['segment', 32, 8], // ES CS SS DS FS GS LDTR TR, see Segment
  ['gdtrBase', 8, 1], ['idtrBase', 8, 1], ['gdtrLimit', 4, 1], ['idtrLimit', 4, 1],
  ['cr0', 8, 1], ['cr2', 8, 1], ['cr3', 8, 1], ['cr4', 8, 1], ['cr8', 8, 1],
  ['dr', 8, 8],
  ['efer', 8, 1], ['star', 8, 1], ['lstar', 8, 1], ['cstar', 8, 1], ['fmask', 8, 1], ['kernelGsBase', 8, 1],
  ['sysenterCs', 8, 1], ['sysenterEsp', 8, 1], ['sysenterEip', 8, 1],
  ['pat', 8, 1], ['tscAux', 8, 1], ['tscOffset', 8, 1], ['apicBase', 8, 1], ['featureControl', 8, 1], ['miscEnable', 8, 1],
  ['debugctl', 8, 1], ['xcr0', 8, 1], ['pdpte', 8, 4],
  ['mtrr', 8, 28], // IA32_MTRR_DEF_TYPE, 11 fixed ranges, 8 pairs of base and mask
  ['mxcsr', 4, 1], ['nmiBlocked', 4, 1],
  ['xmm', 16, 16],
  ['x87', 8, 64], // for the x87 state
  ['scratch', 8, 16],
] as const;

type FieldName = (typeof fields)[number][0];

const offsets = {} as Record<FieldName, number>;
let end = 0;
for (const [name, size, count] of fields) {
  const align = Math.min(size, 8);
  end = (end + align - 1) & -align;
  offsets[name] = end;
  end += size * count;
}

/**
 * Byte offsets of the fields inside a CPU's state block. A frozen copy: an object filled by computed names is a hash
 * table to JavaScript engines, which would make every access to the state several times slower.
 */
export const S: Readonly<Record<FieldName, number>> = Object.freeze({ ...offsets });
/** Field table, for dumps and snapshots: [name, bytes per element, elements]. */
export const stateFields: readonly (readonly [FieldName, number, number])[] = fields;
/** Bytes reserved per CPU. */
export const STATE_SIZE = 4096;
if (end > STATE_SIZE) throw new Error(`CPU state needs ${end} bytes, more than the ${STATE_SIZE} reserved`);

/** Segment register numbers; the order is that of the VMCS guest-state fields. */
export const SegmentIndex = { ES: 0, CS: 1, SS: 2, DS: 3, FS: 4, GS: 5, LDTR: 6, TR: 7 } as const;
/** Offsets inside one segment register (stride {@link SEGMENT_SIZE}). Attributes have the VMX access-rights layout; limit is in bytes. */
export const Segment = { base: 0, limit: 8, attributes: 12, selector: 16 } as const;
export const SEGMENT_SIZE = 32;

/** Bits of the access-rights word (SDM "Guest Register State", access-rights format). */
export const Access = {
  Type: 0xf, Accessed: 1, Writable: 2, Expand: 4, Conforming: 4, Code: 8, S: 0x10, Dpl: 0x60, DplShift: 5, Present: 0x80,
  Available: 0x1000, Long: 0x2000, Big: 0x4000, Granularity: 0x8000, Unusable: 0x10000,
} as const;

export const Gpr = { RAX: 0, RCX: 1, RDX: 2, RBX: 3, RSP: 4, RBP: 5, RSI: 6, RDI: 7, R8: 8, R9: 9, R10: 10, R11: 11, R12: 12, R13: 13, R14: 14, R15: 15 } as const;

export const Flag = {
  CF: 1, PF: 4, AF: 0x10, ZF: 0x40, SF: 0x80, TF: 0x100, IF: 0x200, DF: 0x400, OF: 0x800, IOPL: 0x3000, NT: 0x4000,
  RF: 0x10000, VM: 0x20000, AC: 0x40000, VIF: 0x80000, VIP: 0x100000, ID: 0x200000,
} as const;
export const STATUS_FLAGS = 0x8d5;

export const Cr0 = { PE: 1, MP: 2, EM: 4, TS: 8, ET: 0x10, NE: 0x20, WP: 0x10000, AM: 0x40000, NW: 0x20000000, CD: 0x40000000, PG: 0x80000000 } as const;
export const Cr4 = {
  VME: 1, PVI: 2, TSD: 4, DE: 8, PSE: 0x10, PAE: 0x20, MCE: 0x40, PGE: 0x80, PCE: 0x100, OSFXSR: 0x200, OSXMMEXCPT: 0x400, UMIP: 0x800, LA57: 0x1000,
  VMXE: 0x2000, SMXE: 0x4000, FSGSBASE: 0x10000, PCIDE: 0x20000, OSXSAVE: 0x40000, SMEP: 0x100000, SMAP: 0x200000, PKE: 0x400000,
} as const;
export const Efer = { SCE: 1, LME: 0x100, LMA: 0x400, NXE: 0x800 } as const;

/** Why the engine came back to the run loop (value of `exit`). */
export const Leave = {
  Deadline: 0, // `left` ran out
  Fault: 1, // faultVector/faultError/faultLinear are set, RIP is the faulting instruction
  State: 2, // a system row changed something the run loop must look at (halt, pending interrupt, single-step, stop)
  Lookup: 3, // the record of RIP must be found again (mode, context or page changed)
} as const;
