/**
 * Makes test/vectors/data from the host CPU. See README.md; never run by the tests.
 *
 *   npx tsx test/vectors/generate.ts        (x86-64 Linux, as root; needs gcc and nasm's ndisasm)
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { buildForms, type FormSpec } from './forms.ts';
import { initialStates } from './inputs.ts';
import { COMPARED_FLAGS, emptyState, Layout, type VectorState } from './layout.ts';
import { hashState, Writer, type PackedForm, type VectorOutcome } from './pack.ts';

const INPUT_SIZE = 8 + 16 + 128 + 8 + 256 + Layout.regionSize;
const OUTPUT_SIZE = 8 + 8 + 128 + 8 + 256 + Layout.regionSize;
const BREAKPOINT = 3;
/** Vectors that push an error code. */
const withError = [8, 10, 11, 12, 13, 14, 17];

const hexOf = (bytes: Uint8Array): string => [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');

function run(command: string, args: readonly string[], input?: Uint8Array): string {
  const done = spawnSync(command, args, { ...(input ? { input } : {}), encoding: 'utf8' });
  if (done.status !== 0) throw new Error(`${command} ${args.join(' ')} failed: ${done.stderr ?? String(done.error)}`);
  return done.stdout;
}

/** Text of the instruction; throws where the disassembler sees another length or another instruction than the table says. */
function disassemble(form: FormSpec, folder: string): string {
  const file = `${folder}/code.bin`;
  writeFileSync(file, form.bytes);
  const lines = run('ndisasm', ['-b', String(form.codeSize), '-o', `0x${Layout.code.toString(16)}`, file]).trimEnd().split('\n').filter((line) => !/^ +-/.test(line)); // long encodings continue on a line of their own
  const text = lines.map((line) => line.slice(28)).join(' ').trim(); // a prefix may stand on a line of its own
  if (form.syntax.startsWith('(')) return text;
  // encodings that processors know and ndisasm does not: opcode 82 (an alias of 80), shift /6 (of /4), TEST /1 (of /0), and 63 without REX.W
  if ((/^(SHL|TEST|MOVSXD) /.test(form.syntax) && /\bdb\b/.test(text)) || form.bytes[form.bytes[0] === 0x67 ? 1 : 0] === 0x82) return `${form.syntax} (alias encoding)`;
  const mnemonic = form.syntax.split(' ')[0]!.toLowerCase();
  const words = text.split(' ').filter((word) => !['lock', 'rep', 'repe', 'repne', 'repnz', 'repz', 'o16', 'o32', 'o64', 'a16', 'a32', 'a64', 'cs', 'ds', 'es', 'ss'].includes(word));
  if (lines.length > text.split(' ').length - words.length + 1) throw new Error(`${form.syntax}: ndisasm reads '${text}'`);
  const aliases: Record<string, readonly string[]> = {
    ret: ['retw', 'retnw', 'retn', 'ret', 'retd', 'retnd'], pause: ['pause', 'rep'],
    jnb: ['jnc'], jnbe: ['ja'], jnle: ['jg'], jnz: ['jnz'], jb: ['jc'], cmovb: ['cmovc'], cmovnb: ['cmovnc'], setb: ['setc'], setnb: ['setnc'], setnbe: ['seta'], cmovnbe: ['cmova'], setnle: ['setg'], cmovnle: ['cmovg'], jbe: ['jna'], setbe: ['setna'], cmovbe: ['cmovna'], jle: ['jng'], setle: ['setng'], cmovle: ['cmovng'], jp: ['jpe'], jnp: ['jpo'], setp: ['setpe'], setnp: ['setpo'], cmovp: ['cmovpe'], cmovnp: ['cmovpo'],
  };
  const word = words[0] ?? text;
  const anySize = mnemonic.endsWith('v') && /^[wdq]?$/.test(word.replace(mnemonic.slice(0, -1), '')); // MOVSv, PUSHFv
  if (word !== mnemonic && !anySize && !aliases[mnemonic]?.includes(word)) throw new Error(`${form.syntax}: ndisasm reads '${text}'`);
  return text;
}

function writeInput(view: DataView, at: number, form: FormSpec, state: VectorState): void {
  view.setUint32(at, form.codeSize, true);
  view.setUint32(at + 4, form.bytes.length, true);
  const bytes = new Uint8Array(view.buffer);
  bytes.set(form.bytes, at + 8);
  bytes.set(new Uint8Array(state.registers.buffer), at + 24);
  view.setUint32(at + 152, state.flags, true);
  view.setUint32(at + 156, state.mxcsr, true);
  bytes.set(state.xmm, at + 160);
  bytes.set(state.memory, at + 416);
}

function readOutput(data: Uint8Array, at: number, form: FormSpec): VectorOutcome {
  const view = new DataView(data.buffer, data.byteOffset);
  const final = emptyState(true);
  const vector = view.getUint32(at, true);
  final.rip = Number(view.getBigInt64(at + 8, true));
  for (let i = 0; i < 16; i++) final.registers[i] = view.getBigUint64(at + 16 + i * 8, true);
  final.flags = view.getUint32(at + 144, true) & COMPARED_FLAGS;
  final.mxcsr = view.getUint32(at + 148, true);
  final.xmm.set(data.subarray(at + 152, at + 408));
  final.memory.set(data.subarray(at + 408, at + 664));
  if (vector === BREAKPOINT) return { final, exception: null };
  if (vector === 14) throw new Error(`${form.syntax} (${hexOf(form.bytes)}, ${form.codeSize}-bit, '${form.inputs}'): page fault; its inputs leave the region`);
  return { final, exception: { vector, error: withError.includes(vector) ? view.getUint32(at + 4, true) : -1 } };
}

const folder = mkdtempSync(`${tmpdir()}/vectors-`);
try {
  const harness = `${folder}/harness`;
  run('gcc', ['-O1', '-o', harness, fileURLToPath(new URL('harness.c', import.meta.url))]);
  const forms = buildForms();
  const total = forms.reduce((sum, form) => sum + form.states, 0);
  const input = new Uint8Array(total * INPUT_SIZE);
  const view = new DataView(input.buffer);
  let at = 0;
  for (const form of forms) for (const state of initialStates(form)) { writeInput(view, at, form, state); at += INPUT_SIZE; }
  writeFileSync(`${folder}/inputs`, input);
  run(harness, [`${folder}/inputs`, `${folder}/outputs`]);
  const output = readFileSync(`${folder}/outputs`);

  const target = fileURLToPath(new URL('data/', import.meta.url));
  rmSync(target, { recursive: true, force: true });
  mkdirSync(target, { recursive: true });
  at = 0;
  for (const group of new Set(forms.map((form) => form.group))) {
    const header: PackedForm[] = [];
    const writer = new Writer();
    for (const form of forms.filter((candidate) => candidate.group === group)) {
      let check = 0;
      let faults = 0;
      for (const initial of initialStates(form)) {
        check = hashState(initial, check);
        const outcome = readOutput(output, at, form);
        if (outcome.exception) faults++;
        writer.outcome(form, initial, outcome);
        at += OUTPUT_SIZE;
      }
      const text = disassemble(form, folder);
      if (faults > form.states * 0.8 && group !== 'fault') process.stderr.write(`note: ${text} faults in ${faults} of ${form.states} states\n`);
      header.push({ syntax: form.syntax, text, codeSize: form.codeSize, bytes: hexOf(form.bytes), inputs: form.inputs, states: form.states, check });
    }
    const head = new TextEncoder().encode(JSON.stringify(header));
    const body = writer.bytes();
    const file = new Uint8Array(4 + head.length + body.length);
    new DataView(file.buffer).setUint32(0, head.length, true);
    file.set(head, 4);
    file.set(body, 4 + head.length);
    const packed = gzipSync(file, { level: 9 });
    writeFileSync(`${target}${group}.bin.gz`, packed);
    process.stdout.write(`${group}: ${header.length} forms, ${header.reduce((sum, form) => sum + form.states, 0)} cases, ${packed.length} bytes\n`);
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
