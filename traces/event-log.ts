import type { Observer, VmEntryEvent, VmExitEvent } from '../cpu/observer.ts';
import type { ExitRecord, StoppedBy } from '../monitors/result.ts';
import { FormatError, shown } from './format-error.ts';

/** Version of the log; a reader refuses any other. */
export const eventLogSchema = 'vanderpool-events/1';

/**
 * How a value stands in a line. `count`: non-negative integer. `hex`: string '0x…' without leading zeros, for anything
 * that may pass 2^53. `text`: string. `why`: string that is not empty. `texts`: list of strings.
 */
type FieldType = 'count' | 'hex' | 'text' | 'why' | 'texts';

type ValueOf<T extends FieldType> = T extends 'count' ? number : T extends 'texts' ? readonly string[] : string;

/** The events and their fields, in the order in which they stand in a line: the one place that knows. */
export const eventFields = {
  /** A run begins; `input` is the SHA-256 of its image. */
  start: { input: 'text', clock: 'text', memoryMiB: 'count' },
  /** A VM exit of the simulated VT-x; `transition` is VmExitEvent.cycles. */
  exit: { reason: 'count', name: 'text', qualification: 'hex', guestPhysical: 'hex', guestLinear: 'hex', rip: 'hex', instructionLength: 'count', interruptionInformation: 'hex', transition: 'count', why: 'why' },
  /** A VM entry, or the failure of one. */
  entry: { rip: 'hex', outcome: 'text', failing: 'texts' },
  /** A round trip to the monitor, as the comparison counts it: left at `at`, `cost` cycles until the guest ran again. */
  stop: { kind: 'text', name: 'text', rip: 'hex', at: 'count', cost: 'count', why: 'why' },
  /** An exception or interrupt delivered through the tables of the code that was running. */
  delivered: { vector: 'count', kind: 'text', error: 'count', linear: 'hex' },
  unmodelled: { what: 'text' },
  tlbFill: { linear: 'hex', physical: 'hex', references: 'count' },
  note: { what: 'text', detail: 'text' },
  /** A point at which differing instruction streams can be aligned: system call, console byte. */
  mark: { what: 'text', detail: 'text' },
  /** A run is over. `dropped` lines were left out because of the limit. */
  end: { stoppedBy: 'text', exitStatus: 'count', instructions: 'count', totalCycles: 'count', dropped: 'count' },
} as const satisfies Readonly<Record<string, Readonly<Record<string, FieldType>>>>;

export type EventName = keyof typeof eventFields;
type Fields<K extends EventName> = { readonly [F in keyof (typeof eventFields)[K]]: (typeof eventFields)[K][F] extends FieldType ? ValueOf<(typeof eventFields)[K][F]> : never };

/** What stands at the front of every line: whose event it is and when. */
export interface EventPlace {
  readonly event: EventName;
  readonly guest: string;
  readonly monitor: string;
  readonly cpu: number;
  readonly retired: number;
  readonly cycles: number;
}

export type LogEvent = { [K in EventName]: EventPlace & { readonly event: K } & Fields<K> }[EventName];

export interface EventLogHeader {
  readonly tool: string;
  readonly version: string;
  readonly profile: string;
  /** SHA-256 of the cost table, 64 hex digits. */
  readonly costTable: string;
  /** SHA-256 of each image, 64 hex digits, in the order of the runs. */
  readonly inputs: readonly { readonly guest: string; readonly sha256: string }[];
}

export interface EventLog {
  readonly header: EventLogHeader;
  readonly events: readonly LogEvent[];
}

/** First line of a log, without line end. */
export function eventLogHeader(header: EventLogHeader): string {
  for (const input of header.inputs) requireHash(input.sha256, `eventLogHeader: input of ${input.guest}`);
  requireHash(header.costTable, 'eventLogHeader: costTable');
  return JSON.stringify({
    schema: eventLogSchema, tool: header.tool, version: header.version, profile: header.profile, costTable: header.costTable, seed: 0,
    inputs: header.inputs.map(input => ({ guest: input.guest, sha256: input.sha256 })),
  });
}

export interface EventLogOptions {
  /** Lines go here, without line end. */
  readonly sink: (line: string) => void;
  readonly guest: string;
  readonly monitor: string;
  /** Guest instructions retired and machine cycles, now. */
  readonly clock: () => { readonly retired: number; readonly cycles: number };
  /** Index of the virtual CPU that is watched; 0 if not given. */
  readonly cpu?: number;
  /** Log every TLB fill; otherwise the writer does not ask for them. */
  readonly tlbFills?: boolean;
  /** Most event lines to write (start and end are not counted); the rest is counted in `end.dropped`. No limit if not given. */
  readonly limit?: number;
}

/**
 * Writes the events of one run of one guest under one monitor. It is an Observer; `start`, `stop`, `mark` and `end`
 * are for whoever runs the machine.
 */
export class EventLogWriter implements Observer {
  readonly tlbFill?: (linear: number, physical: number, references: number) => void;
  private readonly options: EventLogOptions;
  private written = 0;
  private dropped = 0;
  private ended = false;

  constructor(options: EventLogOptions) {
    this.options = options;
    // A method here would make the emitters report every fill.
    if (options.tlbFills) this.tlbFill = (linear, physical, references) => this.write('tlbFill', { linear: hex(linear), physical: hex(physical), references });
  }

  /** The run begins: SHA-256 of the image (64 hex digits), guest clock, guest memory. */
  start(run: { readonly sha256: string; readonly clock: 'guest' | 'machine'; readonly memoryMiB: number }): void {
    requireHash(run.sha256, 'EventLogWriter.start: sha256');
    this.put('start', { input: `sha256:${run.sha256}`, clock: run.clock, memoryMiB: run.memoryMiB });
  }

  vmExit(exit: VmExitEvent): void {
    this.write('exit', {
      reason: exit.reason, name: exit.name, qualification: hex(exit.qualification), guestPhysical: hex(exit.guestPhysical), guestLinear: hex(exit.guestLinear), rip: hex(exit.rip),
      instructionLength: exit.instructionLength, interruptionInformation: hex(exit.interruptionInformation), transition: exit.cycles, why: exit.why,
    });
  }

  vmEntry(entry: VmEntryEvent): void {
    this.write('entry', { rip: hex(entry.rip), outcome: entry.outcome, failing: entry.failing });
  }

  delivered(vector: number, kind: 'exception' | 'interrupt' | 'nmi' | 'software', error: number, linear: number): void {
    this.write('delivered', { vector, kind, error: error >>> 0, linear: hex(linear) });
  }

  unmodelled(what: string): void { this.write('unmodelled', { what }); }

  note(what: string, detail: string): void { this.write('note', { what, detail }); }

  mark(what: string, detail: string): void { this.write('mark', { what, detail }); }

  /** A round trip to the monitor, once it is over. */
  stop(record: ExitRecord): void {
    this.write('stop', { kind: record.kind, name: record.name, rip: canonicalHex(record.rip), at: record.at, cost: record.cycles, why: record.why });
  }

  /** The run is over; nothing may follow. */
  end(result: { readonly stoppedBy: StoppedBy; readonly exitStatus: number; readonly instructions: number; readonly cycles: number }): void {
    this.put('end', { stoppedBy: result.stoppedBy, exitStatus: result.exitStatus, instructions: result.instructions, totalCycles: result.cycles, dropped: this.dropped });
    this.ended = true;
  }

  private write<K extends EventName>(event: K, fields: Fields<K>): void {
    if (this.written >= (this.options.limit ?? Infinity)) { this.dropped++; return; }
    this.written++;
    this.put(event, fields);
  }

  private put<K extends EventName>(event: K, fields: Fields<K>): void {
    if (this.ended) throw new Error(`EventLogWriter: '${event}' after end() of ${this.options.guest} under ${this.options.monitor}; use a new writer for each run`);
    const { guest, monitor, cpu = 0, clock } = this.options;
    const { retired, cycles } = clock();
    this.options.sink(formatEvent({ event, guest, monitor, cpu, retired, cycles, ...fields } as LogEvent));
  }
}

/** One event as a line without line end: keys in the order of the table, whatever their order in the object. */
export function formatEvent(event: LogEvent): string {
  const values = event as unknown as Readonly<Record<string, unknown>>;
  const ordered: Record<string, unknown> = {};
  for (const [key, type] of fieldsOf(event.event)) {
    const problem = fieldProblem(values[key], type);
    if (problem) throw new Error(`event '${event.event}' of ${event.guest} under ${event.monitor}: field '${key}' must be ${problem}, but is ${shown(values[key])}`);
    ordered[key] = values[key];
  }
  return JSON.stringify(ordered);
}

/** Reads a whole log and checks every line. Throws FormatError naming the line and what was expected there. */
export function parseEventLog(text: string): EventLog {
  const lines = text.split('\n');
  if (lines.at(-1) === '') lines.pop();
  else if (lines.length > 1) throw new FormatError(`line ${lines.length}`, 'expected a line end after the last event; the file is cut short');
  if (lines.length === 0) throw new FormatError('line 1', `expected the header {"schema":"${eventLogSchema}",…}, got an empty file`);
  const header = parseHeader(lines[0]!);
  const events: LogEvent[] = [];
  for (let i = 1; i < lines.length; i++) events.push(parseEvent(lines[i]!, `line ${i + 1}`));
  return { header, events };
}

function parseHeader(line: string): EventLogHeader {
  const where = 'line 1';
  const value = parseObject(line, where);
  if (value['schema'] !== eventLogSchema) throw new FormatError(where, `expected "schema":"${eventLogSchema}", got ${shown(value['schema'])}`);
  for (const key of ['tool', 'version', 'profile']) if (typeof value[key] !== 'string') throw new FormatError(where, `expected "${key}" to be a string, got ${shown(value[key])}`);
  if (value['seed'] !== 0) throw new FormatError(where, `expected "seed":0, got ${shown(value['seed'])}`);
  if (!isHash(value['costTable'])) throw new FormatError(where, `expected "costTable" to be 64 lower-case hex digits, got ${shown(value['costTable'])}`);
  const inputs = value['inputs'];
  if (!Array.isArray(inputs)) throw new FormatError(where, `expected "inputs" to be a list, got ${shown(inputs)}`);
  for (const input of inputs as readonly unknown[]) {
    if (!isRecord(input) || typeof input['guest'] !== 'string' || !isHash(input['sha256'])) throw new FormatError(where, `expected every input to be {"guest":…,"sha256":<64 hex digits>}, got ${shown(input)}`);
  }
  const text = (key: string): string => value[key] as string;
  return {
    tool: text('tool'), version: text('version'), profile: text('profile'), costTable: text('costTable'),
    inputs: (inputs as readonly { guest: string; sha256: string }[]).map(({ guest, sha256 }) => ({ guest, sha256 })),
  };
}

function parseEvent(line: string, where: string): LogEvent {
  const value = parseObject(line, where);
  const name = value['event'];
  if (typeof name !== 'string' || !Object.hasOwn(eventFields, name)) throw new FormatError(where, `expected "event" to be one of ${Object.keys(eventFields).join(', ')}, got ${shown(name)}`);
  const fields = fieldsOf(name as EventName);
  const keys = Object.keys(value);
  for (const [i, [key, type]] of fields.entries()) {
    if (keys[i] !== key) throw new FormatError(where, `expected key "${key}" at place ${i + 1} of event '${name}', got ${shown(keys[i])}`);
    const problem = fieldProblem(value[key], type);
    if (problem) throw new FormatError(where, `expected "${key}" to be ${problem}, got ${shown(value[key])}`);
  }
  if (keys.length > fields.length) throw new FormatError(where, `event '${name}' has no key ${shown(keys[fields.length])}`);
  return value as unknown as LogEvent;
}

function parseObject(line: string, where: string): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw new FormatError(where, `expected a JSON object, got ${shown(line)}`);
  }
  if (!isRecord(value)) throw new FormatError(where, `expected a JSON object, got ${shown(value)}`);
  return value;
}

const placeFields: readonly (readonly [string, FieldType])[] = [['event', 'text'], ['guest', 'text'], ['monitor', 'text'], ['cpu', 'count'], ['retired', 'count'], ['cycles', 'count']];

const fieldLists = new Map<EventName, readonly (readonly [string, FieldType])[]>(
  (Object.keys(eventFields) as EventName[]).map(name => [name, [...placeFields, ...Object.entries(eventFields[name])]]),
);
const fieldsOf = (name: EventName): readonly (readonly [string, FieldType])[] => fieldLists.get(name)!;

/** What the value should have been, or null if it is that. */
function fieldProblem(value: unknown, type: FieldType): string | null {
  switch (type) {
    case 'count': return Number.isSafeInteger(value) && (value as number) >= 0 ? null : 'an integer from 0 to 2^53-1';
    case 'hex': return typeof value === 'string' && /^0x(0|[1-9a-f][0-9a-f]*)$/.test(value) ? null : 'lower-case hex such as "0x7c00"';
    case 'text': return typeof value === 'string' ? null : 'a string';
    case 'why': return typeof value === 'string' && value !== '' ? null : 'a string that names the control, bitmap bit or rule';
    case 'texts': return Array.isArray(value) && value.every(item => typeof item === 'string') ? null : 'a list of strings';
  }
}

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> => typeof value === 'object' && value !== null && !Array.isArray(value);
const isHash = (value: unknown): boolean => typeof value === 'string' && /^[0-9a-f]{64}$/.test(value);

function requireHash(value: string, where: string): void {
  if (!isHash(value)) throw new Error(`${where} must be a SHA-256 as 64 lower-case hex digits, but is ${shown(value)}`);
}

/** Unsigned hex of an address or field; a negative number is a sign-extended linear address. */
function hex(value: number | bigint): string {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return `0x${value.toString(16)}`;
  const whole = BigInt(value);
  return `0x${(whole < 0n ? BigInt.asUintN(64, whole) : whole).toString(16)}`;
}

/** ExitRecord.rip is text from the monitor; the log has one spelling of it. */
function canonicalHex(text: string): string {
  if (!/^(0x)?[0-9a-fA-F]+$/.test(text)) throw new Error(`ExitRecord.rip must be hex, but is ${shown(text)}`);
  return hex(BigInt(text.startsWith('0x') ? text : `0x${text}`));
}

