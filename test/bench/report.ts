import { checksums, instructions, testNames, type BenchImage } from './images.ts';
import { geometricMean, median, type Measured } from './serial.ts';
import { OURS, V86_INTERPRETER } from './simulators.ts';

export interface Run {
  readonly simulator: string;
  readonly image: BenchImage;
  readonly measured: Measured;
}

export interface ExitRate {
  readonly exits: number;
  /** CPU milliseconds. */
  readonly cpu: number;
  readonly perSecond: number;
  readonly withoutStart: number;
  readonly sumCorrect: boolean;
}

export interface Summary {
  readonly host: { readonly processor: string; readonly processors: number; readonly load: number; readonly version: string };
  readonly simulators: readonly string[];
  /** Images that each simulator ran. */
  readonly images: Readonly<Record<string, readonly string[]>>;
  /** Million instructions per CPU second of each simulator, by test. */
  readonly rows: readonly { readonly bits: 32 | 64; readonly letter: string; readonly mips: Readonly<Record<string, number>>; readonly low: Readonly<Record<string, number>>; readonly high: Readonly<Record<string, number>> }[];
  /** Geometric means over the 32-bit and over the 64-bit tests of our speed divided by another's. */
  readonly ratios: readonly { readonly bits: 32 | 64; readonly other: string; readonly ratio: number; readonly tests: number }[];
  readonly exits: ExitRate | string;
  /** Wrong or differing checksums, and tests without a result. */
  readonly problems: readonly string[];
}

const significant = (text: string): string => text.replace(/^0+(?=.)/, '');

/** Puts runs together: per test the median over the rounds of the median of repetitions 2 to 6. */
export function summarize(runs: readonly Run[], exits: ExitRate | string, host: Summary['host']): Summary {
  const simulators = [...new Set(runs.map((run) => run.simulator))];
  const problems: string[] = [];
  const rows: Summary['rows'][number][] = [];
  const widths = ([32, 64] as const).filter((bits) => runs.some((run) => run.image.bits === bits));
  for (const bits of widths) {
    const own = runs.filter((run) => run.image.bits === bits);
    const letters = [...new Set(own.flatMap((run) => Object.keys(run.measured.tests)))].sort();
    for (const letter of letters) {
      const where = `${bits}-bit test '${letter}'`;
      if (instructions(own[0]!.image, letter) === undefined) { problems.push(`${where} is not known`); continue; }
      const mips: Record<string, number> = {};
      const low: Record<string, number> = {};
      const high: Record<string, number> = {};
      const seen = new Map<string, string[]>(); // scale and checksum: who printed it
      for (const simulator of simulators) {
        const results = own.filter((run) => run.simulator === simulator);
        const speeds: number[] = [];
        for (const { image, measured } of results) {
          const result = measured.tests[letter];
          if (!result) { problems.push(`${where}: ${simulator} has no result`); continue; }
          const key = `s${image.scale} ${significant(result.checksum)}`;
          const users = seen.get(key) ?? [];
          if (!users.includes(simulator)) users.push(simulator);
          seen.set(key, users);
          speeds.push(instructions(image, letter)! / median(result.cpu.slice(1)) / 1000);
        }
        if (speeds.length === 0) continue;
        mips[simulator] = median(speeds);
        low[simulator] = Math.min(...speeds);
        high[simulator] = Math.max(...speeds);
      }
      const expected = checksums[bits][letter];
      for (const scale of new Set(own.map((run) => run.image.scale))) {
        const found = [...seen].filter(([key]) => key.startsWith(`s${scale} `));
        if (found.length > 1) problems.push(`${where}: checksums differ: ${found.map(([key, users]) => `${key} (${users.join(', ')})`).join(', ')}`);
        if (scale === 1 && expected !== undefined) for (const [key, users] of found) if (key !== `s1 ${significant(expected)}`) problems.push(`${where}: checksum ${key} on ${users.join(', ')}, expected ${significant(expected)}`);
      }
      rows.push({ bits, letter, mips, low, high });
    }
  }
  const ratios = widths.flatMap((bits) => simulators.filter((other) => other !== OURS).flatMap((other) => {
    const values = rows.filter((row) => row.bits === bits).map((row) => row.mips[OURS]! / row.mips[other]!).filter((value) => Number.isFinite(value) && value > 0);
    return values.length === 0 ? [] : [{ bits, other, ratio: geometricMean(values), tests: values.length }];
  }));
  const images = Object.fromEntries(simulators.map((simulator) => [simulator, [...new Set(runs.filter((run) => run.simulator === simulator).map((run) => run.image.file))]]));
  return { host, simulators, images, rows, ratios, exits, problems };
}

/** The summary as text tables. */
export function reportText(summary: Summary): string {
  const { simulators } = summary;
  const others = simulators.includes(OURS) ? simulators.filter((name) => name !== OURS) : [];
  const lines: string[] = [`${summary.host.processor}, ${summary.host.processors} processors, load ${summary.host.load.toFixed(2)} at the end; vanderpool ${summary.host.version}`, 'million guest instructions per CPU second, median (lowest to highest round); the last columns are our speed divided by theirs', ''];
  const width = 22;
  lines.push(...simulators.map((name) => `${name}: ${summary.images[name]!.join(', ')}`), '');
  for (const bits of new Set(summary.rows.map((row) => row.bits))) {
    lines.push(`${bits}-bit images`, ['test'.padEnd(24), ...simulators.map((name) => name.padStart(width)), ...others.map((name) => `/ ${name}`.padStart(14))].join(''));
    for (const row of summary.rows.filter((candidate) => candidate.bits === bits)) {
      const cells = simulators.map((name) => (row.mips[name] === undefined ? '–' : `${row.mips[name].toFixed(0)} (${row.low[name]!.toFixed(0)}–${row.high[name]!.toFixed(0)})`).padStart(width));
      const ratio = others.map((name) => (row.mips[name] === undefined || row.mips[OURS] === undefined ? '–' : (row.mips[OURS] / row.mips[name]).toFixed(2)).padStart(14));
      lines.push([`${row.letter} ${testNames[row.letter] ?? ''}`.padEnd(24), ...cells, ...ratio].join(''));
    }
    for (const ratio of summary.ratios.filter((candidate) => candidate.bits === bits)) lines.push(`geometric mean of our speed / ${ratio.other} over ${ratio.tests} tests: ${ratio.ratio.toFixed(2)}${ratio.other === V86_INTERPRETER ? ' (to reach: 3)' : ''}`);
    lines.push('');
  }
  const { exits } = summary;
  if (typeof exits === 'string') lines.push(`VM exits: not measured (${exits})`);
  else lines.push(`VM exits (vmx64.elf vmcpuid 60): ${Math.round(exits.perSecond)} per CPU second over the whole run of ${(exits.cpu / 1000).toFixed(2)} s, ${Math.round(exits.withoutStart)} without start-up; sum ${exits.sumCorrect ? 'correct' : 'WRONG'}`);
  for (const problem of summary.problems) lines.push(`PROBLEM: ${problem}`);
  return `${lines.join('\n')}\n`;
}
