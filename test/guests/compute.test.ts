import { expect, test } from 'vitest';
import { guests } from '../../guests/index.ts';

/** What the guests compute, computed once more, in a straightforward way and another language. */

const mask64 = (1n << 64n) - 1n;
const rol32 = (x: number, n: number) => ((x << n) | (x >>> (32 - n))) >>> 0;
const rol64 = (x: bigint, n: bigint) => ((x << n) | (x >> (64n - n))) & mask64;
const signed = (x: bigint) => BigInt.asIntN(64, x);
const hex = (x: number | bigint, digits: number) => x.toString(16).padStart(digits, '0');

function lines(expected: string): Record<string, string> {
  return Object.fromEntries(expected.trim().split('\n').map(line => [line.slice(0, line.lastIndexOf(' ')), line.slice(line.lastIndexOf(' ') + 1)]));
}

test('compute', () => {
  const array = new Uint32Array(65536);
  for (let i = 0, x = 1; i < array.length; i++) array[i] = x = (Math.imul(x, 1103515245) + 12345) >>> 0;
  const checksum = (words: Uint32Array) => words.reduce((sum, word, i) => (((rol32(sum, 5) ^ word) >>> 0) + words.length - i) >>> 0, 0);
  const reversed = new Uint32Array(array.length);
  for (let i = 0; i < array.length; i++) {
    const view = new DataView(new ArrayBuffer(4));
    view.setUint32(0, array[i]!);
    reversed[array.length - 1 - i] = view.getUint32(0, true);
  }
  let crc = 0xffffffff;
  for (const byte of new Uint8Array(array.buffer, 0, 65536)) {
    crc ^= byte;
    for (let i = 0; i < 8; i++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  let primes = 0;
  for (let n = 2; n < 32768; n++) {
    let prime = true;
    for (let d = 2; d * d <= n && prime; d++) prime = n % d !== 0;
    if (prime) primes++;
  }
  let matrix = 0;
  for (let row = 0; row < 24; row++) for (let column = 0; column < 24; column++) {
    for (let k = 0; k < 24; k++) matrix = (matrix + (row * 24 + k + 1) * 7 * (k * 24 + column)) >>> 0;
    matrix = rol32(matrix, 1);
  }
  const fibonacci = (n: number): number => n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
  const sorted = array.slice(0, 256).sort().reduce((sum, x, i) => (sum + Math.imul(x, i + 1)) >>> 0, 0);
  let steps = 0;
  for (let start = 1; start <= 1000; start++) for (let n = start; n !== 1; steps++) n = n % 2 ? 3 * n + 1 : n / 2;
  const gcd = (a: number, b: number): number => b === 0 ? a : gcd(b, a % b);
  let divisors = 0;
  for (let a = 1; a <= 60; a++) for (let b = 1; b <= 60; b++) divisors += gcd(a, b);

  expect(lines(guests.compute.expected)).toEqual({
    random: hex(checksum(array), 8), reversed: hex(checksum(reversed), 8), copied: hex(checksum(array), 8), crc32: hex(~crc >>> 0, 8), primes: hex(primes, 8),
    matrix: hex(matrix, 8), fibonacci: hex(fibonacci(16), 8), sorted: hex(sorted, 8), collatz: hex(steps, 8), divisors: hex(divisors, 8),
  });
});

test('compute64', () => {
  const array: bigint[] = [];
  for (let i = 0, x = 1n; i < 32768; i++) array.push(x = (x * 6364136223846793005n + 1442695040888963407n) & mask64);
  const checksum = (words: bigint[]) => words.reduce((sum, word, i) => ((rol64(sum, 7n) ^ word) + BigInt(words.length - i)) & mask64, 0n);
  const bytes = new DataView(new ArrayBuffer(array.length * 8));
  array.forEach((word, i) => bytes.setBigUint64(i * 8, word, true));
  const copied = array.map((word, i) => i < array.length - 4096 ? bytes.getBigUint64(i * 8, false) : word);
  let hash = 0xcbf29ce484222325n;
  for (let i = 0; i < 65536; i++) hash = ((hash ^ BigInt(bytes.getUint8(i))) * 0x100000001b3n) & mask64;
  let bits = 0;
  for (const word of array) bits += word.toString(2).replaceAll('0', '').length;
  let products = 0n;
  for (let i = 0; i < 8192; i++) {
    const unsigned = array[i]! * array[i + 1]!;
    const low = products + (unsigned & mask64);
    products = ((low & mask64) + (unsigned >> 64n) + (low >> 64n)) & mask64;
    const product = signed(array[i]!) * signed(array[i + 2]!);
    products = ((products ^ (product & mask64)) - ((product >> 64n) & mask64)) & mask64;
  }
  let quotients = 0n;
  for (let i = 0; i < 4096; i++) {
    const divisor = array[i + 1]! | 1n;
    const dividend = ((array[i]! % divisor) << 64n) | array[i + 2]!;
    quotients = ((rol64(quotients, 3n) + dividend / divisor) & mask64) ^ (dividend % divisor);
  }
  let a = 0x0123456789abcdefn;
  let d = 0xfedcba9876543210n;
  for (let i = 20000n; i > 0n; i--) {
    a = (((a << 64n) | d) << (i & 63n)) >> 64n & mask64;
    d = (((a << 64n) | d) >> 13n) & mask64;
    a ^= i;
    d = signed(d) >> 1n & mask64;
    d = (d + a + ((a >> (i & 63n)) & 1n)) & mask64;
  }
  expect(lines(guests.compute64.expected)).toEqual({
    random: hex(checksum(array), 16), copied: hex(checksum(copied), 16), hash: hex(hash, 16), bits: hex(bits, 16), products: hex(products, 16),
    quotients: hex(quotients, 16), shifts: hex(a ^ d, 16), fibonacci: hex(987, 16),
  });
});

test('syscalls', () => {
  let result = 0;
  let sum = 0;
  let calls = 1;
  for (let i = 2499; i > 0; i--) {
    calls++;
    let x = sum += i;
    for (let j = 0; j < 12; j++) {
      result = (rol32(result, 3) ^ x) >>> 0;
      x = (x + 0x9e3779b9) >>> 0;
    }
    result = (result + ++calls) >>> 0;
  }
  expect(lines(guests.syscalls.expected)).toMatchObject({ calls: String(calls + 1), 'kernel sum': String(sum), 'user result': hex(result, 8) });
});

test('syscalls64', () => {
  let result = 0n;
  let sum = 0n;
  for (let i = 3998n; i > 0n; i--) {
    let x = sum += i;
    for (let j = 0; j < 12; j++) {
      result = rol64(result, 7n) ^ x;
      x = (x + 0x0102030405060708n) & mask64;
    }
  }
  for (let i = 1000n; i > 0n; i--) result = (result + (sum += i)) & mask64;
  expect(lines(guests.syscalls64.expected)).toMatchObject({ syscalls: '4000', 'int 80h': '1000', 'kernel sum': String(sum), 'user result': hex(result, 16) });
});

test('context-switches', () => {
  const result = (x: number) => {
    for (let i = 0; i < 500 * 20; i++) x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    return hex(x, 8);
  };
  expect(lines(guests.contextSwitches.expected)).toEqual({ switches: '1000', 'first process': result(1), 'second process': result(2), 'its memory': result(2) });
});

test('self-modifying', () => {
  let x = 0;
  for (let i = 0; i < 100; i++) x = rol32((((2 * x) ^ 0x1234) + 7) >>> 0, 3);
  expect(guests.selfModifying.expected).toContain(`routines ${hex(x, 8)}\n`);
});
