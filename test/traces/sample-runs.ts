import type { CycleBreakdown, ExitRecord, ExitStatistics, NotRun, RunResult, StopKind } from '../../monitors/result.ts';
import type { ProvenanceInput } from '../../traces/report.ts';

export const hash = (digit: string): string => digit.repeat(64);

const zero: CycleBreakdown = { guest: 0, translation: 0, events: 0, transitions: 0, monitor: 0, idle: 0 };

/** A run whose totals follow from the parts given; everything else is unremarkable. */
export function run(given: Partial<Omit<RunResult, 'breakdown'>> & { readonly breakdown?: Partial<CycleBreakdown> } = {}): RunResult {
  const breakdown = { ...zero, guest: 100, ...given.breakdown };
  return {
    guest: 'hello', monitor: 'native', profile: 'nehalem', engine: 'interpret', clock: 'guest', memoryMiB: 64, instructions: 10,
    cycles: breakdown.guest + breakdown.translation + breakdown.events + breakdown.transitions + breakdown.monitor + breakdown.idle,
    exits: [], exitRecords: [], exitsDropped: 0,
    tlb: { dataMisses: 0, instructionMisses: 0, walks: 0, walkReferences: 0, secondLevelReferences: 0 },
    samples: [], window: [], console: 'hello\n', stoppedBy: 'poweroff', exitStatus: 0, deviations: [], estimatedShare: 0,
    image: { sha256: hash('a'), bytes: 512, format: 'flat binary' }, unmodelled: [],
    ...given, breakdown,
  };
}

export const stop = (retired: number, name: string, cycles: number, kind: StopKind = 'vmExit', at = 0): ExitRecord =>
  ({ retired, at, cycles, kind, name, rip: '0x7c00', why: 'HLT exiting' });

/** Statistics of the records. */
export function statistics(records: readonly ExitRecord[]): readonly ExitStatistics[] {
  const keys = new Map(records.map(record => [`${record.kind} ${record.name}`, record]));
  return [...keys.values()].map(({ kind, name }) => {
    const cycles = records.filter(record => record.kind === kind && record.name === name).map(record => record.cycles);
    const sum = cycles.reduce((a, b) => a + b, 0);
    return { kind, name, count: cycles.length, cycles: sum, minimum: Math.min(...cycles), maximum: Math.max(...cycles), squares: cycles.reduce((a, b) => a + b * b, 0) };
  });
}

interface Shape {
  readonly guest: string;
  readonly monitor: string;
  readonly instructions: number;
  /** Every `every` instructions one stop of this kind; [name, every, cycles, kind]. */
  readonly stops: readonly (readonly [string, number, number, StopKind])[];
  readonly setup: number;
  readonly referencesPerWalk: number;
  readonly window?: boolean;
}

/** A made-up run with curves, stops and a window that fit each other to the cycle. */
export function shaped({ guest, monitor, instructions, stops, setup, referencesPerWalk, window = false }: Shape): RunResult {
  let seed = 12345;
  const random = (): number => { seed = (seed * 1103515245 + 12345) % 2147483648; return seed / 2147483648; };
  const records: ExitRecord[] = [];
  const samples: { retired: number; cycles: number }[] = [];
  const shown: { index: number; rip: string; text: string; cycles: number }[] = [];
  let [base, translation, events, monitorCycles] = [0, 0, 0, setup];
  const total = (): number => base + translation + events + monitorCycles;
  const every = Math.ceil(instructions / 4000);
  let walks = 0;
  for (let i = 0; i < instructions; i++) {
    const before = total();
    for (const [name, period, cycles, kind] of stops) {
      if (i % period !== period - 1) continue;
      const cost = cycles + Math.floor(random() * cycles / 10);
      records.push({ retired: i, at: total(), cycles: cost, kind, name, rip: `0x${(0x100000 + i % 400).toString(16)}`, why: `${name} rule` });
      monitorCycles += cost;
    }
    base += 1 + (i * 7 % 5 === 0 ? 3 : 0);
    if (i % 97 === 0) { walks++; translation += referencesPerWalk * 6; }
    if (i % 500 === 499) events += 120;
    if (window && i >= 194 && i < 206) shown.push({ index: i, rip: `0x${(0x100000 + i).toString(16)}`, text: i === 199 ? 'mov cr3, eax' : 'add eax, [ebx+4]', cycles: total() - before });
    if ((i + 1) % every === 0) samples.push({ retired: i + 1, cycles: total() });
  }
  const transitions = Math.floor((monitorCycles - setup) * 0.6);
  const idle = guest === 'timer-interrupts' ? 20000 : 0;
  return run({
    guest, monitor, instructions, breakdown: { guest: base, translation, events, transitions, monitor: monitorCycles - transitions, idle },
    exits: statistics(records), exitRecords: records.slice(0, 4000), exitsDropped: Math.max(0, records.length - 4000),
    tlb: { dataMisses: walks, instructionMisses: 3, walks, walkReferences: walks * Math.min(4, referencesPerWalk), secondLevelReferences: walks * Math.max(0, referencesPerWalk - 4) },
    samples, window: shown, estimatedShare: monitor === 'native' ? 0.04 : 0.21, image: { sha256: hash('b'), bytes: 4096, format: 'multiboot ELF32' }, console: `${guest} ok\n`,
  });
}

/** Four guests under four monitors as a comparison might give them. */
export function sampleRuns(): readonly (RunResult | NotRun)[] {
  const out: (RunResult | NotRun)[] = [];
  const guests: readonly (readonly [string, number, number])[] = [['compute', 60000, 30000], ['syscalls', 20000, 200], ['page-faults', 12000, 60], ['timer-interrupts', 30000, 1500]];
  for (const [guest, instructions, period] of guests) {
    const common = { guest, instructions, window: guest === 'page-faults' };
    out.push(shaped({ ...common, monitor: 'native', stops: [], setup: 0, referencesPerWalk: 2 }));
    if (guest === 'timer-interrupts') out.push({ guest, monitor: 'trap-and-emulate', profile: 'nehalem', reason: 'the guest enters long mode, and ring 1 is no protection there' });
    else out.push(shaped({ ...common, monitor: 'trap-and-emulate', stops: [['#GP', period, 900, 'trap'], ['#PF', period * 2, 1500, 'trap']], setup: 5000, referencesPerWalk: 2 }));
    out.push(shaped({ ...common, monitor: 'vtx-shadow', stops: [['CrAccess', period * 2, 2100, 'vmExit'], ['ExceptionOrNmi', period * 3, 2600, 'vmExit'], ['IoInstruction', 4000, 1800, 'vmExit']], setup: 9000, referencesPerWalk: 2 }));
    out.push(shaped({ ...common, monitor: 'vtx-ept', stops: [['EptViolation', 5000, 2400, 'vmExit'], ['IoInstruction', 4000, 1800, 'vmExit']], setup: 9500, referencesPerWalk: 12 }));
  }
  return out.map(run => run.guest === 'page-faults' && run.monitor === 'trap-and-emulate' ? { ...run, deviations: ['SMSW at 0x100034 showed CR0.PE of the real CR0: it does not trap in ring 1'], console: 'page-faults oK\n' } as RunResult : run);
}

export const provenance: ProvenanceInput = {
  tool: 'vanderpool', version: '0.1.0', revision: null, commandLine: ['compare', '--out', 'report'],
  profile: { name: 'nehalem', description: 'Core i7-920, 2.67 GHz', sha256: hash('c') },
  costs: { sha256: hash('d'), figures: { 'vmx.exit': { value: 800, source: 'vmexit-nehalem', low: 800, high: 800 }, alu: { value: 1, source: 'estimate', low: 0.33, high: 1 } } },
  options: {}, limits: ['4096 points per curve'],
};
