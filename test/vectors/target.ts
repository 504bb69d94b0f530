import { COMPARED_FLAGS, registerNames, type VectorState } from './layout.ts';
import type { VectorException } from './pack.ts';
import type { VectorCase } from './reader.ts';
import { undefinedOutcome } from './undefined-flags.ts';

export interface VectorResult {
  /** As {@link VectorCase.final}: bits of flags outside COMPARED_FLAGS are ignored. */
  readonly final: VectorState;
  readonly exception: VectorException | null;
}

/**
 * Something that executes one instruction.
 *
 * `run` starts from vector.initial with the instruction at Layout.code, in the code size of the form, and returns the
 * state after exactly this instruction (a repeated string instruction to its end). The world it runs in:
 * - CPL 3, IOPL 0, RFLAGS.IF and bit 1 set (initial.flags says so), CR0.AM may be set (AC never is), flat segments
 *   (CS of the code size; SS with B = 1 also under 16-bit code; DS and ES writable), FS and GS unused.
 * - Layout.dataPage: one page, readable and writable in user mode, zero but for initial.memory at Layout.region.
 *   Layout.codePage: one page with the instruction, otherwise INT3. Linear addresses as given; nothing else is touched.
 *   64-bit forms may use non-canonical addresses, with 48- or 57-bit linear addresses.
 * - MXCSR as initial.mxcsr; CR4.OSFXSR and OSXMMEXCPT set; every feature the forms need is present.
 * A fault is not delivered: it is returned, with RIP at the instruction and the state unchanged (INTO: behind it, being a trap).
 * `initial` must not be modified (its arrays are shared).
 */
export interface VectorTarget {
  readonly name: string;
  /** Run only this many states of each form (a slow reference); all when absent. */
  readonly states?: number;
  run(vector: Pick<VectorCase, 'form' | 'initial'>): VectorResult;
}

function hex(value: number | bigint, digits: number): string {
  return value.toString(16).padStart(digits, '0');
}

/** Differences between what the host CPU did and what a target did, as text; empty when they agree where the SDM defines the outcome. */
export function differences(vector: VectorCase, result: VectorResult): string[] {
  const out: string[] = [];
  const { final, exception } = vector;
  const named = (e: VectorException | null): string => (e ? `vector ${e.vector}${e.error >= 0 ? ` error ${hex(e.error, 4)}` : ''}` : 'no exception');
  if (exception?.vector !== result.exception?.vector || exception?.error !== result.exception?.error) out.push(`exception: host ${named(exception)}, got ${named(result.exception)}`);
  const undefinedPart = undefinedOutcome(vector);
  for (let r = 0; r < 16; r++) {
    if (undefinedPart.registers & (1 << r)) continue;
    if (final.registers[r] !== result.final.registers[r]) out.push(`${registerNames[r]}: host ${hex(final.registers[r]!, 16)}, got ${hex(result.final.registers[r]!, 16)}, was ${hex(vector.initial.registers[r]!, 16)}`);
  }
  if (final.rip !== result.final.rip) out.push(`rip: host ${hex(final.rip, 8)}, got ${hex(result.final.rip, 8)}`);
  const mask = COMPARED_FLAGS & ~undefinedPart.flags;
  if ((final.flags & mask) !== (result.final.flags & mask)) out.push(`flags: host ${flagNames(final.flags & mask)}, got ${flagNames(result.final.flags & mask)}, were ${flagNames(vector.initial.flags)}`);
  for (let i = 0; i < final.memory.length; i++) {
    if (final.memory[i] !== result.final.memory[i]) { out.push(`memory region+${i}: host ${hex(final.memory[i]!, 2)}, got ${hex(result.final.memory[i]!, 2)}, was ${hex(vector.initial.memory[i]!, 2)}`); break; }
  }
  if (final.xmm.some((byte, i) => byte !== result.final.xmm[i])) {
    const part = (state: VectorState, r: number): string => [...state.xmm.subarray(r * 16, r * 16 + 16)].reverse().map((byte) => hex(byte, 2)).join('');
    for (let r = 0; r < 16; r++) if (part(final, r) !== part(result.final, r)) out.push(`xmm${r}: host ${part(final, r)}, got ${part(result.final, r)}, was ${part(vector.initial, r)}`);
  }
  if (final.mxcsr !== result.final.mxcsr) out.push(`mxcsr: host ${hex(final.mxcsr, 4)}, got ${hex(result.final.mxcsr, 4)}`);
  return out;
}

function flagNames(flags: number): string {
  const names = [['CF', 0x1], ['PF', 0x4], ['AF', 0x10], ['ZF', 0x40], ['SF', 0x80], ['IF', 0x200], ['DF', 0x400], ['OF', 0x800], ['IOPL', 0x3000], ['NT', 0x4000], ['AC', 0x40000], ['ID', 0x200000]] as const;
  return `${hex(flags, 6)} (${names.filter(([, bit]) => flags & bit).map(([name]) => name).join(' ')})`;
}

/** Runs the cases of one form; returns null, or a message naming the form, the first state that differs and how. */
export function checkForm(target: VectorTarget, cases: readonly VectorCase[]): string | null {
  let message: string | null = null;
  let wrong = 0;
  for (const vector of cases) {
    const found = differences(vector, target.run(vector));
    if (found.length === 0) continue;
    wrong++;
    const { form } = vector;
    message ??= `${form.syntax} [${form.text}] ${form.codeSize}-bit code, bytes ${[...form.bytes].map((byte) => hex(byte, 2)).join(' ')}, state ${vector.index}:\n    ${found.join('\n    ')}`;
  }
  return message && `${target.name}: ${message}\n    (${wrong} of ${cases.length} states differ)`;
}
