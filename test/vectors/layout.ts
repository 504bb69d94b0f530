/** Where a case lives in memory; harness.c has the same numbers. Linear addresses below 64 KiB suit every code size. */
export const Layout = {
  /** One readable and writable page; zero outside the region, before and after every case. */
  dataPage: 0x8000,
  /** The bytes of the data page that cases fill, change and compare. */
  region: 0x8400,
  regionSize: 256,
  /** One executable page, filled with INT3. */
  codePage: 0xa000,
  /** Where the instruction starts. */
  code: 0xa200,
  fill: 0xcc,
  pageSize: 4096,
} as const;

/** EFLAGS bits that are compared: bit 1, status flags, IF, DF, IOPL, NT, AC, ID. */
export const COMPARED_FLAGS = 0x247ed7;
export const INITIAL_MXCSR = 0x1f80;
/** General registers by number, then by width; for messages and for the input notation. */
export const registerNames: readonly string[] = ['rax', 'rcx', 'rdx', 'rbx', 'rsp', 'rbp', 'rsi', 'rdi', 'r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15'];

export type CodeSize = 16 | 32 | 64;

/** Everything a case starts from or ends in. */
export interface VectorState {
  /** RAX RCX RDX RBX RSP RBP RSI RDI R8..R15. */
  readonly registers: BigUint64Array;
  rip: number;
  flags: number;
  mxcsr: number;
  /** XMM0..XMM15, 16 bytes each, least significant first. */
  readonly xmm: Uint8Array;
  /** The bytes of the region. */
  readonly memory: Uint8Array;
}

/** One instruction with its operands. */
export interface VectorForm {
  readonly group: string;
  /** In the notation of cpu/row.ts. */
  readonly syntax: string;
  /** Disassembly, for messages. */
  readonly text: string;
  readonly codeSize: CodeSize;
  readonly bytes: Uint8Array;
  /** What the initial state must satisfy, in the notation of inputs.ts. */
  readonly inputs: string;
  readonly states: number;
}

const zeroXmm = new Uint8Array(256);

/** A state of zeros. `xmm`: give it XMM registers of its own rather than the shared zeros. */
export function emptyState(xmm = false): VectorState {
  return { registers: new BigUint64Array(16), rip: Layout.code, flags: 0, mxcsr: INITIAL_MXCSR, xmm: xmm ? new Uint8Array(256) : zeroXmm, memory: new Uint8Array(Layout.regionSize) };
}
