/** Monitors that a guest may be run under. */
export const monitorNames = ['native', 'trap-and-emulate', 'vtx-shadow', 'vtx-ept'] as const;
export type MonitorName = (typeof monitorNames)[number];

/** A line of the expected output that one monitor gets wrong, and why. */
export interface Deviation {
  /** How the expected line begins: its first word or words. */
  readonly line: string;
  /** What the guest prints instead, without the newline; where absent, any text that begins with `line` will do. */
  readonly output?: string;
  readonly reason: string;
}

/** An embedded workload: assembly text and what it prints. */
export interface Guest {
  /** Unique; lower case with hyphens. A name ending in 64 runs in long mode. */
  readonly name: string;
  readonly title: string;
  /** Two or three sentences for students. */
  readonly description: string;
  /** Mode that the workload itself runs in; all guests are started in 32-bit protected mode without paging. */
  readonly bits: 32 | 64;
  /** Assembly text; `%include` names are those of guests/include.ts. */
  readonly source: string;
  /** Exact serial output. */
  readonly expected: string;
  /** Memory that the guest needs, in MiB. */
  readonly memoryMiB: number;
  /** Monitors that can run it. */
  readonly monitors: readonly MonitorName[];
  /** Why each of the others cannot. */
  readonly cannot: Readonly<Partial<Record<MonitorName, string>>>;
  /** Lines that differ from `expected` under a monitor. */
  readonly deviations: Readonly<Partial<Record<MonitorName, readonly Deviation[]>>>;
}

/** What a run's output has to do with the expected one. */
export interface OutputCheck {
  /** Whether every difference is a listed deviation. */
  readonly ok: boolean;
  /** Listed deviations that showed: the line as printed, and the reason. */
  readonly deviations: readonly string[];
  /** Differences nobody has explained: expected and printed line. */
  readonly unexplained: readonly string[];
}

const complete: OutputCheck = { ok: true, deviations: [], unexplained: [] };

/** Compares serial output with the expected output of `guest` under `monitor`, line by line. */
export function checkOutput(guest: Guest, monitor: string, console: string): OutputCheck {
  if (console === guest.expected) return complete;
  const listed = guest.deviations[monitor as MonitorName] ?? [];
  const expected = guest.expected.split('\n');
  const printed = console.split('\n');
  const deviations: string[] = [];
  const unexplained: string[] = [];
  for (let i = 0; i < Math.max(expected.length, printed.length); i++) {
    const want = expected[i];
    const got = printed[i];
    if (want === got) continue;
    const deviation = want === undefined || got === undefined ? undefined : match(listed, want, got);
    if (deviation) deviations.push(`${got}: ${deviation.reason}`);
    else unexplained.push(`line ${i + 1}: expected ${quote(want)}, got ${quote(got)}`);
  }
  return { ok: unexplained.length === 0, deviations, unexplained };
}

/** The deviation that says most of the line, so that `LAR data RPL 1` is not taken for `LAR data`. */
function match(listed: readonly Deviation[], want: string, got: string): Deviation | undefined {
  let best: Deviation | undefined;
  for (const d of listed) {
    if (!begins(want, d.line) || (best !== undefined && d.line.length <= best.line.length)) continue;
    best = d;
  }
  return best !== undefined && (best.output === undefined ? begins(got, best.line) : got === best.output) ? best : undefined;
}

function begins(text: string, line: string): boolean {
  return text === line || text.startsWith(line + ' ');
}

function quote(line: string | undefined): string {
  return line === undefined ? 'nothing' : JSON.stringify(line);
}

/** Every monitor: for guests that ask nothing special. */
export const everyMonitor: readonly MonitorName[] = monitorNames;

/** What long-mode guests share: the monitors that run them, and why the other does not. */
export const longMode = {
  monitors: ['native', 'vtx-shadow', 'vtx-ept'],
  cannot: {
    'trap-and-emulate': 'long mode ignores segment limits and knows only user and supervisor pages: ring 1 could read and write the monitor, and ring 3 for both kernel and user is not built',
  },
} as const satisfies Pick<Guest, 'monitors' | 'cannot'>;
