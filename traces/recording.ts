import type { StoppedBy } from '../monitors/result.ts';
import { FormatError, shown } from './format-error.ts';

/** Version of the file; a reader refuses any other. */
export const recordingSchema = 'vanderpool-recording/1';

/** Bytes that came from outside while the guest ran. */
export interface RecordedInput {
  /** Cycle under machine time, retired guest instructions under guest time. */
  readonly at: number;
  /** Device that got them, such as 'serial'. */
  readonly device: string;
  readonly bytes: Uint8Array;
}

export interface RecordedConfiguration {
  readonly guest: string;
  readonly monitor: string;
  readonly profile: string;
  /** SHA-256 of the cost table. */
  readonly costTable: string;
  readonly clock: 'guest' | 'machine';
  readonly engine: 'evaluate' | 'interpret';
  readonly memoryMiB: number;
  /** Kernel command line given with --append; '' for none. */
  readonly append: string;
  readonly maxInstructions: number | null;
  readonly until: string | null;
}

/** What `run --record FILE` keeps: enough to do the run again, and to prove that it is the same. */
export interface Recording {
  readonly tool: string;
  readonly version: string;
  /** The image itself is not kept, so `name` only helps to find it. */
  readonly image: { readonly name: string; readonly sha256: string; readonly bytes: number; readonly format: string };
  readonly configuration: RecordedConfiguration;
  /** Ascending by `at`; the order decides between equal ones. */
  readonly inputs: readonly RecordedInput[];
  /** What came out; `events` is the event log of the run, whole, with its line ends. */
  readonly result: {
    readonly instructions: number;
    readonly cycles: number;
    readonly stoppedBy: StoppedBy;
    readonly exitStatus: number;
    readonly console: { readonly sha256: string };
    readonly events: { readonly sha256: string; readonly lines: number };
  };
}

const stoppedBy: readonly StoppedBy[] = ['poweroff', 'debugExit', 'until', 'limit', 'tripleFault', 'halted', 'error'];

/** The recording as JSON text: keys in fixed order, bytes as hex. Throws if it could not be read back. */
export function formatRecording({ tool, version, image, configuration, inputs, result }: Recording): string {
  const c = configuration;
  const text = `${JSON.stringify({
    schema: recordingSchema, tool, version,
    image: { name: image.name, sha256: image.sha256, bytes: image.bytes, format: image.format },
    configuration: {
      guest: c.guest, monitor: c.monitor, profile: c.profile, costTable: c.costTable, clock: c.clock, engine: c.engine, memoryMiB: c.memoryMiB, append: c.append,
      maxInstructions: c.maxInstructions, until: c.until,
    },
    inputs: inputs.map(input => ({ at: input.at, device: input.device, bytes: toHex(input.bytes) })),
    result: {
      instructions: result.instructions, cycles: result.cycles, stoppedBy: result.stoppedBy, exitStatus: result.exitStatus,
      console: { sha256: result.console.sha256 }, events: { sha256: result.events.sha256, lines: result.events.lines },
    },
  }, null, 2)}\n`;
  try {
    parseRecording(text);
  } catch (error) {
    if (error instanceof FormatError) throw new Error(`formatRecording: ${error.message}; give a recording that can be read back`);
    throw error;
  }
  return text;
}

/** Reads a recording. Throws FormatError naming the place in the JSON and what was expected there. */
export function parseRecording(text: string): Recording {
  let root: unknown;
  try {
    root = JSON.parse(text);
  } catch (error) {
    throw new FormatError('$', `expected JSON, but ${error instanceof Error ? error.message : String(error)}`);
  }
  const node = new JsonNode(root, '$');
  node.member('schema').only(recordingSchema);
  const [image, c, result] = [node.member('image'), node.member('configuration'), node.member('result')];
  const recording: Recording = {
    tool: node.member('tool').text(),
    version: node.member('version').text(),
    image: { name: image.member('name').text(), sha256: image.member('sha256').hash(), bytes: image.member('bytes').count(), format: image.member('format').text() },
    configuration: {
      guest: c.member('guest').text(), monitor: c.member('monitor').text(), profile: c.member('profile').text(), costTable: c.member('costTable').hash(),
      clock: c.member('clock').oneOf(['guest', 'machine']), engine: c.member('engine').oneOf(['evaluate', 'interpret']),
      memoryMiB: c.member('memoryMiB').count(1, 3072), append: c.member('append').text(),
      maxInstructions: c.member('maxInstructions').orNull(limit => limit.count(1)), until: c.member('until').orNull(until => until.text()),
    },
    inputs: node.member('inputs').list().map(input => {
      input.exactly(['at', 'device', 'bytes']);
      return { at: input.member('at').count(), device: input.member('device').text(), bytes: input.member('bytes').hexBytes() };
    }),
    result: {
      instructions: result.member('instructions').count(), cycles: result.member('cycles').count(), stoppedBy: result.member('stoppedBy').oneOf(stoppedBy),
      exitStatus: result.member('exitStatus').count(0, 255), console: { sha256: result.member('console').member('sha256').hash() },
      events: { sha256: result.member('events').member('sha256').hash(), lines: result.member('events').member('lines').count(1) },
    },
  };
  node.exactly(['schema', 'tool', 'version', 'image', 'configuration', 'inputs', 'result']);
  image.exactly(['name', 'sha256', 'bytes', 'format']);
  c.exactly(['guest', 'monitor', 'profile', 'costTable', 'clock', 'engine', 'memoryMiB', 'append', 'maxInstructions', 'until']);
  result.exactly(['instructions', 'cycles', 'stoppedBy', 'exitStatus', 'console', 'events']);
  result.member('console').exactly(['sha256']);
  result.member('events').exactly(['sha256', 'lines']);
  for (const [i, input] of recording.inputs.entries()) {
    const before = recording.inputs[i - 1]?.at ?? 0;
    if (input.at < before) throw new FormatError(`$.inputs[${i}].at`, `expected at least ${before}, the place of the input before, got ${input.at}`);
  }
  return recording;
}

/** A value of the JSON with its path, for messages. */
class JsonNode {
  private readonly value: unknown;
  private readonly path: string;

  constructor(value: unknown, path: string) {
    this.value = value;
    this.path = path;
  }

  private fail(expected: string): never {
    throw new FormatError(this.path, `expected ${expected}, got ${shown(this.value)}`);
  }

  private object(): Readonly<Record<string, unknown>> {
    if (typeof this.value !== 'object' || this.value === null || Array.isArray(this.value)) this.fail('an object');
    return this.value as Readonly<Record<string, unknown>>;
  }

  member(key: string): JsonNode {
    const object = this.object();
    return new JsonNode(Object.hasOwn(object, key) ? object[key] : undefined, `${this.path}.${key}`);
  }

  exactly(keys: readonly string[]): void {
    for (const key of Object.keys(this.object())) if (!keys.includes(key)) throw new FormatError(`${this.path}.${key}`, `expected one of the keys ${keys.join(', ')}`);
  }

  list(): readonly JsonNode[] {
    if (!Array.isArray(this.value)) this.fail('a list');
    return (this.value as readonly unknown[]).map((item, i) => new JsonNode(item, `${this.path}[${i}]`));
  }

  text(): string { return typeof this.value === 'string' ? this.value : this.fail('a string'); }

  only(wanted: string): void { if (this.value !== wanted) this.fail(JSON.stringify(wanted)); }

  oneOf<T extends string>(wanted: readonly T[]): T { return wanted.find(candidate => candidate === this.value) ?? this.fail(`one of ${wanted.join(', ')}`); }

  count(least = 0, most = Number.MAX_SAFE_INTEGER): number {
    const value = this.value;
    return typeof value === 'number' && Number.isSafeInteger(value) && value >= least && value <= most ? value : this.fail(`an integer from ${least} to ${most}`);
  }

  hash(): string { return typeof this.value === 'string' && /^[0-9a-f]{64}$/.test(this.value) ? this.value : this.fail('a SHA-256 as 64 lower-case hex digits'); }

  orNull<T>(read: (node: JsonNode) => T): T | null { return this.value === null ? null : read(this); }

  hexBytes(): Uint8Array {
    const value = this.value;
    if (typeof value !== 'string' || !/^([0-9a-f]{2})+$/.test(value)) return this.fail('bytes as pairs of lower-case hex digits');
    return Uint8Array.from({ length: value.length / 2 }, (_, i) => Number.parseInt(value.slice(2 * i, 2 * i + 2), 16));
  }
}

const toHex = (bytes: Uint8Array): string => Array.from(bytes, byte => byte.toString(16).padStart(2, '0')).join('');
