/**
 * IEEE 754 double arithmetic with the x86 rules for rounding, exceptions, denormals and NaNs (SDM "Operation of
 * SSE/SSE2 Floating-Point Instructions"). The exact path works on integers; ordinary operands under the default
 * rounding take the host's addition, which is the same operation.
 */

/** MXCSR exception flags; the masks are these shifted left by 7. */
export const Mxcsr = { IE: 1, DE: 2, ZE: 4, OE: 8, UE: 16, PE: 32, DAZ: 64, MaskShift: 7, RoundShift: 13, FTZ: 0x8000, Default: 0x1f80 } as const;

const SIGN = 1n << 63n;
const INFINITY = 0x7ffn << 52n;
const FRACTION = (1n << 52n) - 1n;
const QUIET = 1n << 51n;
const DEFAULT_NAN = SIGN | INFINITY | QUIET;

const isNan = (a: bigint): boolean => (a & ~SIGN) > INFINITY;
const isSignaling = (a: bigint): boolean => isNan(a) && (a & QUIET) === 0n;
const isDenormal = (a: bigint): boolean => (a & INFINITY) === 0n && (a & FRACTION) !== 0n;

/** Result bits and the exception flags raised. */
export interface FloatResult { readonly bits: bigint; readonly flags: number }

/** Rounds sign * magnitude * 2^exponent to a double. `rounding`: 0 nearest even, 1 down, 2 up, 3 toward zero. */
export function roundDouble(negative: boolean, magnitude: bigint, exponent: number, mxcsr: number): FloatResult {
  const sign = negative ? SIGN : 0n;
  if (magnitude === 0n) return { bits: sign, flags: 0 };
  const rounding = (mxcsr >> Mxcsr.RoundShift) & 3;
  const length = magnitude.toString(2).length;
  const top = exponent + length - 1; // exponent of the leading bit
  const tiny = top < -1022;
  const unit = Math.max(top, -1022) - 52; // weight of the last kept bit
  const drop = unit - exponent;
  let kept = drop <= 0 ? magnitude << BigInt(-drop) : magnitude >> BigInt(drop);
  let inexact = false;
  if (drop > 0) {
    const rest = magnitude & ((1n << BigInt(drop)) - 1n);
    if (rest !== 0n) {
      inexact = true;
      const half = 1n << BigInt(drop - 1);
      if (rounding === 0 ? rest > half || (rest === half && (kept & 1n) === 1n) : rounding === 1 ? negative : rounding === 2 ? !negative : false) kept += 1n;
    }
  }
  let flags = inexact ? Mxcsr.PE : 0;
  // tininess is detected after rounding: a tiny value that rounds up to the smallest normal number is not tiny
  const stillTiny = tiny && kept < 1n << 52n;
  if (stillTiny) {
    if (mxcsr & Mxcsr.FTZ && mxcsr & (Mxcsr.UE << Mxcsr.MaskShift)) return { bits: sign, flags: Mxcsr.UE | Mxcsr.PE };
    if (inexact || !(mxcsr & (Mxcsr.UE << Mxcsr.MaskShift))) flags |= Mxcsr.UE;
    return { bits: sign | kept, flags };
  }
  let e = unit + 52;
  if (kept >= 1n << 53n) { kept >>= 1n; e++; }
  if (e > 1023) {
    const away = rounding === 0 || (rounding === 1 && negative) || (rounding === 2 && !negative);
    return { bits: sign | (away ? INFINITY : INFINITY - 1n), flags: Mxcsr.OE | Mxcsr.PE };
  }
  return { bits: sign | (BigInt(e + 1023) << 52n) | (kept & FRACTION), flags };
}

/** a + b. */
export function addDouble(a: bigint, b: bigint, mxcsr: number): FloatResult {
  let flags = 0;
  if (isNan(a) || isNan(b)) {
    if (isSignaling(a) || isSignaling(b)) flags |= Mxcsr.IE;
    // the first operand's NaN wins, made quiet
    return { bits: (isNan(a) ? a : b) | QUIET, flags };
  }
  const infiniteA = (a & INFINITY) === INFINITY;
  const infiniteB = (b & INFINITY) === INFINITY;
  if (mxcsr & Mxcsr.DAZ) {
    if (isDenormal(a)) a &= SIGN;
    if (isDenormal(b)) b &= SIGN;
  }
  if (infiniteA && infiniteB && ((a ^ b) & SIGN) !== 0n) return { bits: DEFAULT_NAN, flags: Mxcsr.IE };
  if (isDenormal(a) || isDenormal(b)) flags |= Mxcsr.DE;
  if (infiniteA || infiniteB) return { bits: infiniteA ? a : b, flags };
  const part = (v: bigint): [bigint, number] => {
    const e = Number((v >> 52n) & 0x7ffn);
    const m = e === 0 ? v & FRACTION : (v & FRACTION) | (1n << 52n);
    return [v & SIGN ? -m : m, Math.max(e, 1) - 1075];
  };
  const [ma, ea] = part(a);
  const [mb, eb] = part(b);
  const exponent = Math.min(ea, eb);
  const sum = (ma << BigInt(ea - exponent)) + (mb << BigInt(eb - exponent));
  if (sum === 0n) {
    const bothNegative = (a & b & SIGN) !== 0n;
    const down = ((mxcsr >> Mxcsr.RoundShift) & 3) === 1;
    const anyNegative = ((a | b) & SIGN) !== 0n;
    return { bits: bothNegative || (down && (anyNegative || ma !== 0n)) ? SIGN : 0n, flags };
  }
  const rounded = roundDouble(sum < 0n, sum < 0n ? -sum : sum, exponent, mxcsr);
  return { bits: rounded.bits, flags: flags | rounded.flags };
}

/**
 * Whether the host's addition gives the x86 result for these doubles, and its inexactness; -1 where the exact path
 * must decide, else 0 or Mxcsr.PE.
 */
export function plainAddFlags(a: number, b: number, sum: number, mxcsr: number): number {
  const low = 2.2250738585072014e-308;
  const high = 1e300;
  const small = (x: number): boolean => (x >= low && x <= high) || (x <= -low && x >= -high);
  if (mxcsr & (3 << Mxcsr.RoundShift) || !(small(a) || a === 0) || !(small(b) || b === 0) || !small(sum)) return -1;
  // the rounding error of an addition is exact in double arithmetic
  const part = sum - a;
  const error = a - (sum - part) + (b - part);
  return error === 0 ? 0 : Mxcsr.PE;
}
