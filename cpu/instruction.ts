import type { Row } from './row.ts';

/** A decoded instruction. Plain data; shared by the evaluator, system bodies, intercepts and monitors. */
export interface Instruction {
  readonly row: Row;
  /** Bytes, prefixes included. */
  readonly length: number;
  /** Code size of the mode it was decoded for: 16, 32 or 64. */
  readonly codeSize: 16 | 32 | 64;
  /** Effective operand size in bits (8-bit rows keep the size their prefixes give). */
  readonly operandSize: 16 | 32 | 64;
  readonly addressSize: 16 | 32 | 64;
  readonly rex: number;
  readonly lock: boolean;
  /** 0, 0xf2 or 0xf3. */
  readonly rep: number;
  /** Segment override as written (SegmentIndex) or -1. */
  readonly override: number;
  /** Effective segment of the memory operand (SegmentIndex). */
  readonly segment: number;
  /** ModRM byte, or -1. */
  readonly modrm: number;
  /** ModRM.reg with REX.R (or the +r register with REX.B in `rm`). */
  readonly reg: number;
  /** ModRM.rm with REX.B when it names a register; the +r register. */
  readonly rm: number;
  /** The r/m operand is memory. */
  readonly memory: boolean;
  /** Base register, -1 none, 16 RIP. */
  readonly base: number;
  readonly index: number;
  /** 0..3: index is shifted left by this. */
  readonly scale: number;
  /** Displacement or moffs: low word (signed) and high word (sign). */
  readonly displacement: number;
  readonly displacementHigh: number;
  /** First immediate, sign- or zero-extended as the row says: low and high word (both signed 32-bit numbers). */
  readonly immediate: number;
  readonly immediateHigh: number;
  /** Second immediate: selector of a far pointer, level of ENTER. */
  readonly immediate2: number;
}
