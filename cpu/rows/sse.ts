import { insn, type Row } from '../row.ts';
import type { Builder, Semantics, Value } from '../semantics.ts';

type Declared = Omit<Row, 'id'>;
const sse2 = { feature: 'SSE2', cost: 'sse' } as const;
const sse2Float = { feature: 'SSE2', cost: 'ssefp' } as const;

/** Applies an operation to each half; memory operands of these rows must be aligned. */
const halves = (operation: (m: Builder, a: Value, b: Value) => Value): Semantics => (m) => {
  m.aligned(1);
  const source = [m.readHalf(1, 0), m.readHalf(1, 1)] as const;
  m.writeHalves(0, operation(m, m.readHalf(0, 0), source[0]), operation(m, m.readHalf(0, 1), source[1]));
};
const addDwords = (m: Builder, a: Value, b: Value): Value => {
  const low = m.add(m.truncate(a, 32), m.truncate(b, 32));
  const shift = m.constant(32, 64);
  const high = m.add(m.truncate(m.shr(a, shift), 32), m.truncate(m.shr(b, shift), 32));
  return m.or(m.zeroExtend(low, 64), m.shl(m.zeroExtend(high, 64), shift));
};
const moveWhole = (check: boolean): Semantics => (m) => {
  if (check) { m.aligned(0); m.aligned(1); }
  m.writeHalves(0, m.readHalf(1, 0), m.readHalf(1, 1));
};

/** SSE2 as far as the benchmark images use it. */
export const sseRows: readonly Declared[] = [
  insn('MOVDQA xmm, xmm/m128', '66 0F 6F /r', moveWhole(true), sse2),
  insn('MOVDQA xmm/m128, xmm', '66 0F 7F /r', moveWhole(true), sse2),
  insn('MOVDQU xmm, xmm/m128', 'F3 0F 6F /r', moveWhole(false), sse2),
  insn('MOVDQU xmm/m128, xmm', 'F3 0F 7F /r', moveWhole(false), sse2),
  insn('MOVUPS xmm, xmm/m128', 'NP 0F 10 /r', moveWhole(false), sse2),
  insn('MOVUPS xmm/m128, xmm', 'NP 0F 11 /r', moveWhole(false), sse2),
  insn('MOVAPS xmm, xmm/m128', 'NP 0F 28 /r', moveWhole(true), sse2),
  insn('MOVAPS xmm/m128, xmm', 'NP 0F 29 /r', moveWhole(true), sse2),
  insn('MOVQ xmm, xmm/m64', 'F3 0F 7E /r', (m) => m.writeHalves(0, m.readHalf(1, 0), m.constant(0, 64)), sse2),
  insn('MOVQ xmm/m64, xmm', '66 0F D6 /r', (m) => (m.operandIsMemory(0) ? m.write(0, m.readHalf(1, 0)) : m.writeHalves(0, m.readHalf(1, 0), m.constant(0, 64))), sse2),
  insn('MOVQ xmm, r/m64', '66 REX.W 0F 6E /r', (m) => m.writeHalves(0, m.read(1), m.constant(0, 64)), sse2),
  insn('MOVQ r/m64, xmm', '66 REX.W 0F 7E /r', (m) => m.write(0, m.readHalf(1, 0)), sse2),
  insn('MOVD xmm, r/m32', '66 0F 6E /r', (m) => m.writeHalves(0, m.zeroExtend(m.read(1), 64), m.constant(0, 64)), sse2),
  insn('MOVD r/m32, xmm', '66 0F 7E /r', (m) => m.write(0, m.truncate(m.readHalf(1, 0), 32)), sse2),
  insn('PXOR xmm, xmm/m128', '66 0F EF /r', halves((m, a, b) => m.xor(a, b)), sse2),
  insn('POR xmm, xmm/m128', '66 0F EB /r', halves((m, a, b) => m.or(a, b)), sse2),
  insn('PAND xmm, xmm/m128', '66 0F DB /r', halves((m, a, b) => m.and(a, b)), sse2),
  insn('PADDQ xmm, xmm/m128', '66 0F D4 /r', halves((m, a, b) => m.add(a, b)), sse2),
  insn('PADDD xmm, xmm/m128', '66 0F FE /r', halves(addDwords), sse2),
  insn('CVTDQ2PD xmm, xmm/m64', 'F3 0F E6 /r', (m) => {
    const source = m.readHalf(1, 0);
    m.writeHalves(0, m.int32ToDouble(m.truncate(source, 32)), m.int32ToDouble(m.truncate(m.shr(source, m.constant(32, 64)), 32)));
  }, sse2Float),
  insn('ADDPD xmm, xmm/m128', '66 0F 58 /r', (m) => {
    m.aligned(1);
    const sum = m.doubleAdd([m.readHalf(0, 0), m.readHalf(0, 1)], [m.readHalf(1, 0), m.readHalf(1, 1)]);
    m.writeHalves(0, sum[0]!, sum[1]!);
  }, sse2Float),
];
