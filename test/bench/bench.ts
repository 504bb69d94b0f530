/**
 * npm run bench: the benchmark images on this simulator and on others, side by side.
 *
 *   --images DIR    where bench-s8.elf, bench64-s8.elf and vmx/vmx64.elf are (default: ../shared/bench beside the repository)
 *   --scale N       1, 8 or 64: which images (default 8)
 *   --rounds N      runs of each simulator, interleaved (default 3)
 *   --only A,B      simulators to run
 *   --bits 32|64    only these images
 *   --json          print one JSON object instead of the tables
 *
 * Speed is CPU time of the whole process per repetition of a test: median of repetitions 2 to 6, then median of the rounds.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { cpus, loadavg, tmpdir } from 'node:os';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { measureUntil } from './child.ts';
import { benchImage } from './images.ts';
import { reportText, summarize, type ExitRate, type Run } from './report.ts';
import { ours, OURS, simulators, TIMEOUT_SECONDS } from './simulators.ts';

function fail(message: string): never {
  process.stderr.write(`bench: ${message}\n`);
  return process.exit(2);
}

interface Options {
  images: string;
  scale: number;
  rounds: number;
  only: string[] | null;
  bits: (32 | 64)[];
  json: boolean;
}

function parseOptions(args: readonly string[]): Options {
  const options: Options = { images: '', scale: 8, rounds: 3, only: null, bits: [32, 64], json: false };
  for (let i = 0; i < args.length; i++) {
    const name = args[i]!;
    if (name === '--json') { options.json = true; continue; }
    const value = args[++i];
    if (value === undefined) fail(`${name} needs a value`);
    if (name === '--images') options.images = resolve(value);
    else if (name === '--scale' && /^(1|8|64)$/.test(value)) options.scale = Number(value);
    else if (name === '--rounds' && /^[1-9]\d*$/.test(value)) options.rounds = Number(value);
    else if (name === '--only') options.only = value.split(',');
    else if (name === '--bits' && /^(32|64)$/.test(value)) options.bits = [Number(value) as 32 | 64];
    else fail(`${name} ${value} is not an option (--images DIR, --scale 1|8|64, --rounds N, --only A,B, --bits 32|64, --json)`);
  }
  if (options.images === '') {
    options.images = fileURLToPath(new URL('../../../shared/bench', import.meta.url));
    if (!existsSync(options.images)) fail('no images: they are not part of the repository; say where they are with --images DIR');
  }
  const first = `${options.images}/${benchImage(options.bits[0]!, options.scale).file}`;
  if (!existsSync(first)) fail(`${first} does not exist; say where the images are with --images DIR`);
  return options;
}

/** Exits per CPU second of vmx64.elf in mode vmcpuid: over the whole run, and without start-up (from the difference of two runs). */
async function exitRate(images: string): Promise<ExitRate | string> {
  const image = `${images}/vmx/vmx64.elf`;
  if (!existsSync(image)) return `${image} does not exist`;
  const one = async (scale: number): Promise<{ exits: number; cpu: number; sum: string }> => {
    const { text, cpu } = await measureUntil(ours(image, ['--memory', '128', '--append', `vmcpuid ${scale}`]), /BENCH vmcpuid .*exits=[0-9a-f]+|FAIL.*\n|vmentry fail.*\n/, TIMEOUT_SECONDS);
    const line = /BENCH vmcpuid .*sum=([0-9a-f]+) exits=([0-9a-f]+)/.exec(text);
    if (!line) throw new Error(`vmx64.elf says: ${text.trim()}`);
    return { exits: parseInt(line[2]!, 16), cpu, sum: line[1]! };
  };
  try {
    const short = await one(1);
    const long = await one(60);
    return { exits: long.exits, cpu: long.cpu, perSecond: (long.exits / long.cpu) * 1000, withoutStart: ((long.exits - short.exits) / (long.cpu - short.cpu)) * 1000, sumCorrect: long.sum === '005b8d81' };
  } catch (error) {
    return (error as Error).message;
  }
}

const options = parseOptions(process.argv.slice(2));
const folder = mkdtempSync(`${tmpdir()}/bench-`);
try {
  const all = simulators();
  for (const name of options.only ?? []) if (!all.some((simulator) => simulator.name === name)) fail(`--only: no simulator '${name}' (${all.map((simulator) => simulator.name).join(', ')})`);
  const ready = all.filter((simulator) => {
    if (options.only && !options.only.includes(simulator.name)) return false;
    const reason = simulator.prepare(folder);
    if (reason) process.stderr.write(`*** ${simulator.name} IS SKIPPED: ${reason}\n`);
    return reason === null;
  });
  const list: Run[] = [];
  for (let round = 1; round <= options.rounds; round++) {
    for (const bits of options.bits) {
      for (const simulator of ready) {
        if (!simulator.bits.includes(bits) || (simulator.slow && round > 1)) continue;
        const image = benchImage(bits, simulator.slow ? 1 : options.scale);
        process.stderr.write(`round ${round} of ${options.rounds}: ${image.file} on ${simulator.name}\n`);
        try {
          list.push({ simulator: simulator.name, image, measured: await simulator.run(image, `${options.images}/${image.file}`) });
        } catch (error) {
          process.stderr.write(`*** ${simulator.name} FAILED on ${image.file}: ${(error as Error).message}\n`);
        }
      }
    }
  }
  let rate: ExitRate | string = 'not asked for';
  if (ready.some((simulator) => simulator.name === OURS)) {
    process.stderr.write('VM exits: vmx64.elf vmcpuid 60\n');
    rate = await exitRate(options.images);
  }
  const summary = summarize(list, rate, { processor: cpus()[0]?.model ?? 'unknown', processors: cpus().length, load: loadavg()[0]!, version: (JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }).version });
  process.stdout.write(options.json ? `${JSON.stringify(summary, null, 2)}\n` : reportText(summary));
  if (summary.problems.length > 0) process.exitCode = 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
