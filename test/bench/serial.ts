/** What one run of an image gave: for every test letter its repetitions and the checksum printed after them. */
export interface Measured {
  readonly tests: Record<string, { readonly cpu: number[]; readonly wall: number[]; checksum: string }>;
  finished: boolean;
}

/** CPU time in milliseconds of whatever is measured, and wall time likewise. */
export type Clock = () => { readonly cpu: number; readonly wall: number };

/**
 * Follows the images' serial protocol: a small letter starts a repetition, '.' ends it, hexadecimal digits are the
 * checksum of the test, 'Z' ends the run.
 */
export class SerialProtocol {
  readonly measured: Measured = { tests: {}, finished: false };
  private current = '';
  private start = { cpu: 0, wall: 0 };
  private readonly clock: Clock;

  constructor(clock: Clock) {
    this.clock = clock;
  }

  /** Takes one character; true once the run has ended. */
  push(character: string): boolean {
    if (this.measured.finished) return true;
    if (character >= 'a' && character <= 'z') {
      this.current = character;
      this.start = this.clock();
    } else if (character === '.' && this.current !== '') {
      const now = this.clock();
      const test = (this.measured.tests[this.current] ??= { cpu: [], wall: [], checksum: '' });
      test.cpu.push(now.cpu - this.start.cpu);
      test.wall.push(now.wall - this.start.wall);
    } else if (character === 'Z') this.measured.finished = true;
    else if (/[0-9A-F]/.test(character) && this.measured.tests[this.current]) this.measured.tests[this.current]!.checksum += character;
    return this.measured.finished;
  }
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length === 0 ? NaN : sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

export function geometricMean(values: readonly number[]): number {
  return values.length === 0 ? NaN : Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
}
