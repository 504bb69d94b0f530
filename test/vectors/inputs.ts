import { emptyState, Layout, registerNames, type VectorForm, type VectorState } from './layout.ts';
import { hashBytes, hashText, Prng } from './prng.ts';

/*
 * The notation of VectorForm.inputs: tokens separated by blanks, applied in order to a random state.
 *
 *   rbx=ptr:40..71     region address plus 40..71      ebx=, bx=, bl=: only those bits; the rest stays random
 *   rcx=int:-8..40     an integer in that range
 *   rax=code:16..200   address of the instruction plus that much
 *   rax=reg:rcx        a copy of a register
 *   rax=mem:68         the 8 bytes at that offset of the region
 *   [128:8]=int:0..3   the same for 8 bytes of the region from offset 128
 *   [128:8]=and:4cd5   the random bytes there, masked (hexadecimal)
 *   rbx=hole           a non-canonical address
 *   rax?=…             the same in half of the states
 *   mem=runs           the region has long runs of the byte 41
 *   xmm=bits           XMM registers are random integers      (without xmm= they are zero)
 *   xmm=double         … random doubles, infinities, NaNs and denormals among them
 */

const corners: readonly (readonly [number, number])[] = [
  [0, 0], [0, 1], [0xffffffff, 0xffffffff], [0, 0x7f], [0, 0x80], [0, 0xff], [0, 0x7fff], [0, 0x8000], [0, 0xffff], [0, 0x7fffffff], [0, 0x80000000], [0, 0xffffffff],
  [0x7fffffff, 0xffffffff], [0x80000000, 0], [1, 0], [0xffffffff, 0x80000000], [0xffffffff, 0xffff8000], [0xffffffff, 0xffffff80], [0, 2], [0x80000000, 1],
];
/** High words of doubles worth trying; the low word is random, or 0 for the first six. */
const doubleHighs: readonly number[] = [0, 0x80000000, 0x7ff00000, 0xfff00000, 0x3ff00000, 0xbff00000, 0x7ff80000, 0x7ff00001, 0x000fffff, 0x7fefffff, 0xfff80000, 0x43300000];

/** Fills words[at], words[at + 1] with a 64-bit value that likes corners. */
function drawValue(prng: Prng, words: Uint32Array, at: number): void {
  const kind = prng.next() & 7;
  let low = prng.next();
  let high = prng.next();
  if (kind === 3) [high, low] = corners[low % corners.length]!;
  else if (kind === 4) [high, low] = [0, low & 31];
  else if (kind === 5) high = (low | 0) < 0 ? 0xffffffff : 0;
  else if (kind === 6) {
    const bit = low & 63;
    [high, low] = bit < 32 ? [0, (1 << bit) >>> 0] : [(1 << (bit - 32)) >>> 0, 0];
  } else if (kind === 7) low = corners[low % corners.length]![1];
  words[at] = low;
  words[at + 1] = high;
}

function drawDouble(prng: Prng, words: Uint32Array, at: number): void {
  const kind = prng.next() & 3;
  const low = prng.next();
  const high = prng.next();
  if (kind === 0) {
    const index = high % doubleHighs.length;
    words[at] = index < 6 ? 0 : low;
    words[at + 1] = doubleHighs[index]!;
  } else {
    // exponents near 1.0, so that sums round and cancel; kind 1 has few significant bits
    words[at] = kind === 1 ? 0 : low;
    words[at + 1] = (((high & 0x800fffff) | ((0x3f0 + ((high >>> 20) & 31)) << 20)) & (kind === 1 ? 0xffff8000 : 0xffffffff)) >>> 0;
  }
}

interface Destination {
  readonly register: number;
  readonly offset: number;
  readonly bits: number;
}

/** A register name of any width, or [offset:bytes]. */
function parseDestination(text: string): Destination {
  const place = /^\[(\d+):(\d+)\]$/.exec(text);
  if (place) return { register: -1, offset: Number(place[1]), bits: Number(place[2]) * 8 };
  let register = registerNames.indexOf(text);
  if (register >= 0) return { register, offset: 0, bits: 64 };
  for (const [pattern, bits] of [[/^(r\d+)d$/, 32], [/^e(..)$/, 32], [/^(..)$/, 16], [/^(.)l$/, 8]] as const) {
    const m = pattern.exec(text);
    if (!m) continue;
    const stem = m[1]!;
    register = registerNames.indexOf(bits === 8 ? `r${stem}x` : stem.startsWith('r') ? stem : `r${stem}`);
    if (register >= 0) return { register, offset: 0, bits };
  }
  throw new Error(`vector inputs: '${text}' is not a register or [offset:bytes]`);
}

function readMemory(memory: Uint8Array, offset: number, bits: number): bigint {
  let value = 0n;
  for (let i = bits / 8 - 1; i >= 0; i--) value = (value << 8n) | BigInt(memory[offset + i]!);
  return value;
}

function assign(state: VectorState, to: Destination, value: bigint): void {
  if (to.register >= 0) {
    const mask = (1n << BigInt(to.bits)) - 1n;
    state.registers[to.register] = (state.registers[to.register]! & ~mask) | (value & mask);
  } else for (let i = 0; i < to.bits / 8; i++) state.memory[to.offset + i] = Number(BigInt.asUintN(8, value >> BigInt(8 * i)));
}

function applyToken(prng: Prng, state: VectorState, token: string): void {
  const m = /^([^=?]+)(\??)=(\w+)(?::(.*))?$/.exec(token);
  if (!m) throw new Error(`vector inputs: '${token}' is not in the notation of inputs.ts`);
  const [, target, maybe, kind, argument = ''] = m;
  if (target === 'xmm') return; // drawn before the tokens
  if (target === 'mem') {
    for (let i = 0; i < state.memory.length; i++) if (prng.next() % 12) state.memory[i] = 0x41;
    return;
  }
  if (maybe && prng.next() & 1) return;
  const to = parseDestination(target!);
  let value: bigint;
  if (kind === 'reg') value = state.registers[parseDestination(argument).register]!;
  else if (kind === 'mem') value = readMemory(state.memory, Number(argument), 64);
  else if (kind === 'hole') value = 0x4000000000000000n + BigInt(prng.next());
  else if (kind === 'and') value = readMemory(state.memory, to.offset, to.bits) & BigInt(`0x${argument}`);
  else {
    const [low, high] = argument.split('..').map(Number) as [number, number];
    const base = kind === 'ptr' ? Layout.region : kind === 'code' ? Layout.code : kind === 'int' ? 0 : NaN;
    if (Number.isNaN(base) || !(low <= high)) throw new Error(`vector inputs: '${token}' is not in the notation of inputs.ts`);
    value = BigInt(base + prng.range(low, high));
  }
  assign(state, to, value);
}

/** The initial states of a form, in order; the same on every machine. */
export function* initialStates(form: Pick<VectorForm, 'bytes' | 'codeSize' | 'inputs' | 'states'>): Generator<VectorState> {
  const prng = new Prng(hashText(form.inputs, hashBytes([form.codeSize, ...form.bytes])));
  const tokens = form.inputs.split(' ').filter((token) => token !== '');
  const xmm = tokens.find((token) => token.startsWith('xmm='));
  for (let index = 0; index < form.states; index++) {
    const state = emptyState(xmm !== undefined);
    const memory = new Uint32Array(state.memory.buffer);
    for (let i = 0; i < memory.length; i += 2) drawValue(prng, memory, i);
    const registers = new Uint32Array(state.registers.buffer);
    for (let i = 0; i < 32; i += 2) drawValue(prng, registers, i);
    if (xmm) {
      const words = new Uint32Array(state.xmm.buffer);
      for (let i = 0; i < words.length; i += 2) (xmm === 'xmm=double' ? drawDouble : drawValue)(prng, words, i);
      if (xmm === 'xmm=double') for (let i = 0; i < memory.length; i += 2) drawDouble(prng, memory, i);
    }
    state.flags = (prng.next() & 0xcd5) | 0x202;
    for (const token of tokens) applyToken(prng, state, token);
    // 16- and 32-bit code has eight registers of 32 bits; what it leaves in the rest is undefined
    if (form.codeSize !== 64) for (let i = 0; i < 16; i++) state.registers[i] = i < 8 ? state.registers[i]! & 0xffffffffn : 0n;
    yield state;
  }
}
