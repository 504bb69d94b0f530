/**
 * Instruction counts of the benchmark images (bench-sN.elf, bench64-sN.elf), worked out from their loops. One
 * repetition of a test executes count(letter) * N instructions, give or take the few around the loop. REP MOVSD counts
 * its doublewords.
 */

export const testNames: Readonly<Record<string, string>> = {
  a: 'ALU loop', b: 'dword copy', c: 'sieve', d: 'int 80h / iret', e: 'PTE + INVLPG', f: 'CRC-32 table', g: 'REP MOVSD', h: 'Fibonacci calls', i: 'indirect jumps', j: 'int 80h, same page', k: 'dword copy, aliased', s: 'SYSCALL / SYSRET', x: 'SSE2 mix',
};

/** The sieve executes what the primes make it execute, so it is run. */
function sieveInstructions(): number {
  const size = 1 << 20;
  const composite = new Uint8Array(size);
  let count = 2 + size + 1; // two set-up instructions, four per doubleword cleared, one more
  for (let i = 2; ; i++) {
    count += 2;
    if (!composite[i]) {
      count += 4;
      if (i * i >= size) break;
      for (let j = i * i; j < size; j += i) { composite[j] = 1; count += 4; }
    }
    count += 2;
  }
  return count + 3 + 5 * (size - 2) + 2;
}

function fibonacciInstructions(n: number): number {
  let [previous, current] = [3, 3]; // below 2: compare, branch, return
  for (let i = 2; i <= n; i++) [previous, current] = [current, 13 + current + previous];
  return current;
}

const MEBI = 1 << 20;
const common: Readonly<Record<string, number>> = {
  a: 9 * 1_000_000, c: sieveInstructions(), d: 12 * 100_000, e: 8 * 200_000, f: 8 * MEBI, h: 8 * (fibonacciInstructions(24) + 4), i: 66 * 100_000, j: 12 * 10_000,
};
const counts: Readonly<Record<32 | 64, Readonly<Record<string, number>>>> = {
  32: { ...common, b: 6 * MEBI, g: 8 * MEBI, k: 6 * MEBI },
  64: { ...common, b: 12 * (MEBI / 2), g: 8 * (MEBI / 2), k: 12 * (MEBI / 2), s: 13 * 100_000, x: 8 * 65_536 },
};

export interface BenchImage {
  readonly file: string;
  readonly bits: 32 | 64;
  readonly scale: number;
}

export function benchImage(bits: 32 | 64, scale: number): BenchImage {
  return { file: `bench${bits === 64 ? '64' : ''}-s${scale}.elf`, bits, scale };
}

/** Instructions of one repetition, or undefined for a letter that the image does not have. */
export function instructions(image: BenchImage, letter: string): number | undefined {
  const count = counts[image.bits][letter];
  return count === undefined ? undefined : count * image.scale;
}

/** Checksums printed at scale 1. */
export const checksums: Readonly<Record<32 | 64, Readonly<Record<string, string>>>> = {
  32: { a: 'F720C2F8', b: '0D700001', c: '00014069', d: '000927C0', e: '00540007', f: 'E4A2C393', h: '0000B520', i: '165A3936' },
  64: { a: '5FE61C6706229665', b: '0D700001086191E8', c: '0000000000014069', d: '00000000000927C0', e: '0000000000540007', f: '00000000E4A2C393', h: '000000000000B520', i: '31441B909081A468', s: '0000000000124F80', x: '423E9FA000000000' },
};
