import { INITIAL_MXCSR, Layout, type VectorForm, type VectorState } from './layout.ts';
import { hashBytes } from './prng.ts';

/** A fault that the instruction raised; `error` is -1 where the vector has no error code. */
export interface VectorException {
  readonly vector: number;
  readonly error: number;
}

export interface VectorOutcome {
  readonly final: VectorState;
  readonly exception: VectorException | null;
}

/** What stands in the header of a group file for each form. `check` is the hash of all initial states. */
export interface PackedForm {
  readonly syntax: string;
  readonly text: string;
  readonly codeSize: 16 | 32 | 64;
  readonly bytes: string;
  readonly inputs: string;
  readonly states: number;
  readonly check: number;
}

/*
 * A group file is gzip over: u32 length of the header, the header (JSON array of PackedForm), then for every form and
 * state one record of the difference between initial and final state:
 *
 *   u8 parts   1 exception, 2 RIP is not behind the instruction, 4 flags changed, 8 registers, 16 memory, 32 XMM, 64 MXCSR
 *   exception  u8 vector, u16 error (ffff: none)
 *   RIP        u32 low, u32 high
 *   flags      u24
 *   registers  u16 mask, then for each register a byte mask and the changed bytes
 *   memory     u8 count of runs, each u8 offset, u8 length, bytes
 *   XMM        u16 mask, then for each register u16 byte mask and the changed bytes
 *   MXCSR      u16
 */
const Part = { Exception: 1, Rip: 2, Flags: 4, Registers: 8, Memory: 16, Xmm: 32, Mxcsr: 64 } as const;

export function hashState(state: VectorState, hash: number): number {
  hash = hashBytes(new Uint8Array(state.registers.buffer), hash);
  hash = hashBytes([state.flags & 0xff, (state.flags >> 8) & 0xff], hash);
  hash = hashBytes(state.memory, hash);
  return hashBytes(state.xmm, hash);
}

export class Writer {
  private readonly out: number[] = [];
  u8(value: number): void { this.out.push(value & 0xff); }
  u16(value: number): void { this.u8(value); this.u8(value >> 8); }
  u24(value: number): void { this.u16(value); this.u8(value >> 16); }
  u32(value: number): void { this.u16(value); this.u16(value >>> 16); }
  bytes(): Uint8Array { return Uint8Array.from(this.out); }

  /** Byte mask and changed bytes of one register. */
  private changed(before: Uint8Array, after: Uint8Array, at: number, length: 8 | 16): void {
    let mask = 0;
    for (let i = 0; i < length; i++) if (before[at + i] !== after[at + i]) mask |= 1 << i;
    if (length === 8) this.u8(mask);
    else this.u16(mask);
    for (let i = 0; i < length; i++) if (mask & (1 << i)) this.u8(after[at + i]!);
  }

  /** Appends the record of one case. */
  outcome(form: Pick<VectorForm, 'bytes'>, initial: VectorState, { final, exception }: VectorOutcome): void {
    const wholes = (before: Uint8Array, after: Uint8Array, length: number): number => {
      let mask = 0;
      for (let i = 0; i < before.length; i++) if (before[i] !== after[i]) mask |= 1 << Math.floor(i / length);
      return mask;
    };
    const before = new Uint8Array(initial.registers.buffer);
    const after = new Uint8Array(final.registers.buffer);
    const registers = wholes(before, after, 8);
    const xmm = wholes(initial.xmm, final.xmm, 16);
    const runs: [number, number][] = [];
    for (let i = 0; i < initial.memory.length; i++) {
      if (initial.memory[i] === final.memory[i]) continue;
      const last = runs.at(-1);
      if (last && last[0] + last[1] >= i - 1) last[1] = i - last[0] + 1;
      else runs.push([i, 1]);
    }
    const rip = exception ? Layout.code : Layout.code + form.bytes.length;
    const parts = (exception ? Part.Exception : 0) | (final.rip !== rip ? Part.Rip : 0) | (final.flags !== initial.flags ? Part.Flags : 0) | (registers ? Part.Registers : 0) | (runs.length ? Part.Memory : 0) | (xmm ? Part.Xmm : 0) | (final.mxcsr !== INITIAL_MXCSR ? Part.Mxcsr : 0);
    this.u8(parts);
    if (exception) { this.u8(exception.vector); this.u16(exception.error); }
    if (parts & Part.Rip) { this.u32(final.rip >>> 0); this.u32(Math.floor(final.rip / 4294967296)); }
    if (parts & Part.Flags) this.u24(final.flags);
    if (registers) {
      this.u16(registers);
      for (let r = 0; r < 16; r++) if (registers & (1 << r)) this.changed(before, after, r * 8, 8);
    }
    if (runs.length) {
      this.u8(runs.length);
      for (const [offset, length] of runs) {
        this.u8(offset);
        this.u8(length);
        for (let i = 0; i < length; i++) this.u8(final.memory[offset + i]!);
      }
    }
    if (xmm) {
      this.u16(xmm);
      for (let r = 0; r < 16; r++) if (xmm & (1 << r)) this.changed(initial.xmm, final.xmm, r * 16, 16);
    }
    if (parts & Part.Mxcsr) this.u16(final.mxcsr);
  }
}

export class Reader {
  private readonly data: Uint8Array;
  private at: number;
  constructor(data: Uint8Array, at: number) {
    this.data = data;
    this.at = at;
  }
  u8(): number {
    const value = this.data[this.at++];
    if (value === undefined) throw new Error('vector file: it ends in the middle of a record; regenerate it (test/vectors/README.md)');
    return value;
  }
  u16(): number { return this.u8() | (this.u8() << 8); }
  u24(): number { return this.u16() | (this.u8() << 16); }
  u32(): number { return (this.u16() | (this.u16() << 16)) >>> 0; }
  get end(): boolean { return this.at === this.data.length; }

  /** The outcome of the next case; shares the memory and XMM arrays of `initial` where they are unchanged. */
  outcome(form: Pick<VectorForm, 'bytes'>, initial: VectorState): VectorOutcome {
    const parts = this.u8();
    let exception: VectorException | null = null;
    if (parts & Part.Exception) {
      const vector = this.u8();
      const error = this.u16();
      exception = { vector, error: error === 0xffff ? -1 : error };
    }
    const final: VectorState = { registers: initial.registers.slice(), rip: exception ? Layout.code : Layout.code + form.bytes.length, flags: initial.flags, mxcsr: INITIAL_MXCSR, xmm: parts & Part.Xmm ? initial.xmm.slice() : initial.xmm, memory: parts & Part.Memory ? initial.memory.slice() : initial.memory };
    if (parts & Part.Rip) final.rip = this.u32() + (this.u32() | 0) * 4294967296;
    if (parts & Part.Flags) final.flags = this.u24();
    if (parts & Part.Registers) {
      const bytes = new Uint8Array(final.registers.buffer);
      const mask = this.u16();
      for (let r = 0; r < 16; r++) {
        if (!(mask & (1 << r))) continue;
        const changed = this.u8();
        for (let i = 0; i < 8; i++) if (changed & (1 << i)) bytes[r * 8 + i] = this.u8();
      }
    }
    if (parts & Part.Memory) {
      for (let runs = this.u8(); runs > 0; runs--) {
        const offset = this.u8();
        const length = this.u8();
        for (let i = 0; i < length; i++) final.memory[offset + i] = this.u8();
      }
    }
    if (parts & Part.Xmm) {
      const mask = this.u16();
      for (let r = 0; r < 16; r++) {
        if (!(mask & (1 << r))) continue;
        const changed = this.u16();
        for (let i = 0; i < 16; i++) if (changed & (1 << i)) final.xmm[r * 16 + i] = this.u8();
      }
    }
    if (parts & Part.Mxcsr) final.mxcsr = this.u16();
    return { final, exception };
  }
}
