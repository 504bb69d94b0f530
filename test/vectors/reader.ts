import { readdirSync, readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { initialStates } from './inputs.ts';
import type { VectorForm, VectorState } from './layout.ts';
import { hashState, Reader, type PackedForm, type VectorException } from './pack.ts';

/** One instruction on one initial state, and what the host CPU made of it. */
export interface VectorCase {
  readonly form: VectorForm;
  /** 0..form.states - 1. */
  readonly index: number;
  readonly initial: VectorState;
  /** RIP, flags (COMPARED_FLAGS only) and all else when the instruction is done, or as a fault leaves it. */
  readonly final: VectorState;
  readonly exception: VectorException | null;
}

const folder = new URL('data/', import.meta.url);

/** Names of the groups, sorted. */
export function vectorGroups(): string[] {
  return readdirSync(folder).filter((name) => name.endsWith('.bin.gz')).map((name) => name.slice(0, -'.bin.gz'.length)).sort();
}

/** One form with its cases. Arrays may be shared between the states of a case and between cases: read only. */
export interface VectorFormCases {
  readonly form: VectorForm;
  readonly cases: readonly VectorCase[];
}

/** The forms of a group in file order, each with all its cases. Throws Error where file and generator disagree. */
export function* readVectors(group: string): Generator<VectorFormCases> {
  const data = gunzipSync(readFileSync(new URL(`${group}.bin.gz`, folder)));
  const headerLength = new DataView(data.buffer, data.byteOffset).getUint32(0, true);
  const packed = JSON.parse(new TextDecoder().decode(data.subarray(4, 4 + headerLength))) as PackedForm[];
  const reader = new Reader(data, 4 + headerLength);
  for (const entry of packed) {
    const form: VectorForm = { group, syntax: entry.syntax, text: entry.text, codeSize: entry.codeSize, bytes: Uint8Array.from(entry.bytes.match(/../g)!.map((pair) => parseInt(pair, 16))), inputs: entry.inputs, states: entry.states };
    const cases: VectorCase[] = [];
    let hash = 0;
    let index = 0;
    for (const initial of initialStates(form)) {
      hash = hashState(initial, hash);
      cases.push({ form, index: index++, initial, ...reader.outcome(form, initial) });
    }
    if (hash !== entry.check) throw new Error(`vector file ${group}: the initial states of '${form.text}' are not those that it was made with; regenerate it (test/vectors/README.md)`);
    yield { form, cases };
  }
  if (!reader.end) throw new Error(`vector file ${group}: it has more records than its header says`);
}
