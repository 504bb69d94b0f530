import { Platform, type PlatformOptions } from '../../machine/platform.ts';
import type { StopRequest } from '../../machine/system-ports.ts';

/** A platform with a clock that the test turns by hand. */
export interface TestPlatform {
  readonly platform: Platform;
  readonly lines: boolean[];
  readonly output: () => string;
  readonly stops: StopRequest[];
  readonly signals: string[];
  readonly reports: string[];
  in(port: number, size?: number): number;
  out(port: number, value: number, size?: number): void;
  /** Lets cycles pass, events included, each at its own cycle. */
  run(cycles: number): void;
  now(): number;
}

export function testPlatform(options: Partial<PlatformOptions> & { frequency?: number; startAt?: number } = {}): TestPlatform {
  let now = options.startAt ?? 0;
  let text = '';
  const lines: boolean[] = [];
  const stops: StopRequest[] = [];
  const signals: string[] = [];
  const reports: string[] = [];
  const platform = new Platform({
    time: { frequency: options.frequency ?? 1_000_000_000, now: () => now, changed: () => {} },
    cpus: options.cpus ?? 1, memorySize: options.memorySize ?? 64 << 20, busDivisor: options.busDivisor ?? 1,
    console: byte => { text += String.fromCharCode(byte); },
    stop: request => stops.push(request),
    setInterruptLine: (cpu, level) => { lines[cpu] = level; },
    signal: (cpu, kind, vector) => signals.push(`${kind} ${cpu} ${vector}`),
    report: what => reports.push(what),
  });
  return {
    platform, lines, stops, signals, reports,
    output: () => text,
    in: (port, size = 1) => platform.ports.read(port, size),
    out: (port, value, size = 1) => platform.ports.write(port, size, value),
    run: cycles => {
      const end = now + cycles;
      while (platform.queue.next() <= end) {
        now = Math.max(now, platform.queue.next());
        platform.queue.runDue(now);
      }
      now = end;
    },
    now: () => now,
  };
}
