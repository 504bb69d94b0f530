/** A small WebAssembly binary writer: just what the engine generators need. */
export const I32 = 0x7f;
export const I64 = 0x7e;
export const F64 = 0x7c;
export const VOID = 0x40;
export type ValueType = typeof I32 | typeof I64 | typeof F64;

/** Opcodes used by the generators, by their WebAssembly names. */
export const Op = {
  unreachable: 0x00, nop: 0x01, return: 0x0f, drop: 0x1a, select: 0x1b,
  i32_eqz: 0x45, i32_eq: 0x46, i32_ne: 0x47, i32_lt_s: 0x48, i32_lt_u: 0x49, i32_gt_s: 0x4a, i32_gt_u: 0x4b, i32_le_s: 0x4c, i32_le_u: 0x4d, i32_ge_s: 0x4e, i32_ge_u: 0x4f,
  i64_eqz: 0x50, i64_eq: 0x51, i64_ne: 0x52, i64_lt_s: 0x53, i64_lt_u: 0x54, i64_gt_s: 0x55, i64_gt_u: 0x56, i64_le_s: 0x57, i64_le_u: 0x58, i64_ge_s: 0x59, i64_ge_u: 0x5a,
  f64_eq: 0x61, f64_ne: 0x62, f64_lt: 0x63, f64_gt: 0x64,
  i32_clz: 0x67, i32_ctz: 0x68, i32_popcnt: 0x69, i32_add: 0x6a, i32_sub: 0x6b, i32_mul: 0x6c, i32_div_s: 0x6d, i32_div_u: 0x6e, i32_rem_s: 0x6f, i32_rem_u: 0x70,
  i32_and: 0x71, i32_or: 0x72, i32_xor: 0x73, i32_shl: 0x74, i32_shr_s: 0x75, i32_shr_u: 0x76, i32_rotl: 0x77, i32_rotr: 0x78,
  i64_clz: 0x79, i64_ctz: 0x7a, i64_popcnt: 0x7b, i64_add: 0x7c, i64_sub: 0x7d, i64_mul: 0x7e, i64_div_s: 0x7f, i64_div_u: 0x80, i64_rem_s: 0x81, i64_rem_u: 0x82,
  i64_and: 0x83, i64_or: 0x84, i64_xor: 0x85, i64_shl: 0x86, i64_shr_s: 0x87, i64_shr_u: 0x88, i64_rotl: 0x89, i64_rotr: 0x8a,
  f64_add: 0xa0, f64_sub: 0xa1, f64_convert_i32_s: 0xb7, i32_wrap_i64: 0xa7, i64_extend_i32_s: 0xac, i64_extend_i32_u: 0xad,
  i64_reinterpret_f64: 0xbd, f64_reinterpret_i64: 0xbf,
  i32_extend8_s: 0xc0, i32_extend16_s: 0xc1, i64_extend8_s: 0xc2, i64_extend16_s: 0xc3, i64_extend32_s: 0xc4,
} as const;

/** Growing byte buffer with LEB128. */
export class Bytes {
  private data = new Uint8Array(256);
  length = 0;
  byte(value: number): this {
    if (this.length === this.data.length) {
      const bigger = new Uint8Array(this.data.length * 2);
      bigger.set(this.data);
      this.data = bigger;
    }
    this.data[this.length++] = value;
    return this;
  }
  unsigned(value: number): this {
    value >>>= 0;
    while (value >= 0x80) { this.byte((value & 0x7f) | 0x80); value >>>= 7; }
    return this.byte(value);
  }
  signed32(value: number): this {
    value |= 0;
    for (;;) {
      const low = value & 0x7f;
      value >>= 7;
      if ((value === 0 && !(low & 0x40)) || (value === -1 && low & 0x40)) return this.byte(low);
      this.byte(low | 0x80);
    }
  }
  signed64(value: bigint): this {
    value = BigInt.asIntN(64, value);
    for (;;) {
      const low = Number(value & 0x7fn);
      value >>= 7n;
      if ((value === 0n && !(low & 0x40)) || (value === -1n && low & 0x40)) return this.byte(low);
      this.byte(low | 0x80);
    }
  }
  append(other: Bytes): this {
    while (this.data.length < this.length + other.length) {
      const bigger = new Uint8Array(this.data.length * 2);
      bigger.set(this.data);
      this.data = bigger;
    }
    this.data.set(other.view(), this.length);
    this.length += other.length;
    return this;
  }
  text(value: string): this {
    this.unsigned(value.length);
    for (let i = 0; i < value.length; i++) this.byte(value.charCodeAt(i));
    return this;
  }
  view(): Uint8Array { return this.data.subarray(0, this.length); }
}

/** Code of one function. Labels are depths returned by block/loop/if. */
export class FunctionCode {
  readonly parameters: readonly ValueType[];
  readonly results: readonly ValueType[];
  readonly locals: ValueType[] = [];
  readonly code = new Bytes();
  index = -1;
  type = -1;
  private depth = 0;

  constructor(parameters: readonly ValueType[], results: readonly ValueType[]) {
    this.parameters = parameters;
    this.results = results;
  }
  local(type: ValueType): number {
    this.locals.push(type);
    return this.parameters.length + this.locals.length - 1;
  }
  op(...codes: readonly number[]): this { for (const code of codes) this.code.byte(code); return this; }
  get(local: number): this { this.code.byte(0x20).unsigned(local); return this; }
  set(local: number): this { this.code.byte(0x21).unsigned(local); return this; }
  tee(local: number): this { this.code.byte(0x22).unsigned(local); return this; }
  i32(value: number): this { this.code.byte(0x41).signed32(value); return this; }
  i64(value: number | bigint): this { this.code.byte(0x42).signed64(BigInt(value)); return this; }
  private access(opcode: number, offset: number): this { this.code.byte(opcode).unsigned(0).unsigned(offset); return this; }
  load32(offset = 0): this { return this.access(0x28, offset); }
  load64(offset = 0): this { return this.access(0x29, offset); }
  load8u(offset = 0): this { return this.access(0x2d, offset); }
  load16u(offset = 0): this { return this.access(0x2f, offset); }
  load64of32u(offset = 0): this { return this.access(0x35, offset); }
  loadFloat(offset = 0): this { return this.access(0x2b, offset); }
  store32(offset = 0): this { return this.access(0x36, offset); }
  store64(offset = 0): this { return this.access(0x37, offset); }
  storeFloat(offset = 0): this { return this.access(0x39, offset); }
  store8(offset = 0): this { return this.access(0x3a, offset); }
  store16(offset = 0): this { return this.access(0x3b, offset); }
  memoryCopy(): this { return this.op(0xfc, 10, 0, 0); }
  memoryFill(): this { return this.op(0xfc, 11, 0); }
  block(type: number = VOID): number { this.op(0x02, type); return ++this.depth; }
  loop(type: number = VOID): number { this.op(0x03, type); return ++this.depth; }
  if(type: number = VOID): number { this.op(0x04, type); return ++this.depth; }
  else(): this { return this.op(0x05); }
  end(): this { this.depth--; return this.op(0x0b); }
  br(label: number): this { this.code.byte(0x0c).unsigned(this.depth - label); return this; }
  brIf(label: number): this { this.code.byte(0x0d).unsigned(this.depth - label); return this; }
  brTable(labels: readonly number[], otherwise: number): this {
    this.code.byte(0x0e).unsigned(labels.length);
    for (const label of labels) this.code.unsigned(this.depth - label);
    this.code.unsigned(this.depth - otherwise);
    return this;
  }
  call(f: number): this { this.code.byte(0x10).unsigned(f); return this; }
  callIndirect(type: number, table = 0): this { this.code.byte(0x11).unsigned(type).unsigned(table); return this; }
}

interface Import { readonly name: string; readonly kind: 'function' | 'memory' | 'table'; readonly type: number; readonly minimum: number }

/** One module: imports first, then functions; `bytes()` gives the binary. */
export class ModuleBuilder {
  private readonly types: { key: string; parameters: readonly ValueType[]; results: readonly ValueType[] }[] = [];
  private readonly imports: Import[] = [];
  private readonly functions: FunctionCode[] = [];
  private readonly exports: { name: string; index: number }[] = [];
  private imported = 0;

  type(parameters: readonly ValueType[], results: readonly ValueType[]): number {
    const key = `${parameters.join()}>${results.join()}`;
    const found = this.types.findIndex((type) => type.key === key);
    if (found >= 0) return found;
    this.types.push({ key, parameters, results });
    return this.types.length - 1;
  }
  /** A memory of at least so many pages, of any maximum: one module serves memories of all sizes. */
  importMemory(name: string, pages: number): void { this.imports.push({ name, kind: 'memory', type: 0, minimum: pages }); }
  importTable(name: string, entries: number): void { this.imports.push({ name, kind: 'table', type: 0, minimum: entries }); }
  importFunction(name: string, parameters: readonly ValueType[], results: readonly ValueType[]): number {
    if (this.functions.length) throw new Error('imports must be declared before functions');
    this.imports.push({ name, kind: 'function', type: this.type(parameters, results), minimum: 0 });
    return this.imported++;
  }
  function(parameters: readonly ValueType[], results: readonly ValueType[], name?: string): FunctionCode {
    const f = new FunctionCode(parameters, results);
    f.type = this.type(parameters, results);
    f.index = this.imported + this.functions.length;
    this.functions.push(f);
    if (name !== undefined) this.exports.push({ name, index: f.index });
    return f;
  }
  bytes(): Uint8Array<ArrayBuffer> {
    const out = new Bytes();
    for (const b of [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]) out.byte(b);
    const section = (id: number, write: (b: Bytes) => void): void => {
      const body = new Bytes();
      write(body);
      out.byte(id).unsigned(body.length).append(body);
    };
    section(1, (b) => {
      b.unsigned(this.types.length);
      for (const type of this.types) {
        b.byte(0x60).unsigned(type.parameters.length);
        for (const p of type.parameters) b.byte(p);
        b.unsigned(type.results.length);
        for (const r of type.results) b.byte(r);
      }
    });
    section(2, (b) => {
      b.unsigned(this.imports.length);
      for (const item of this.imports) {
        b.text('e').text(item.name);
        if (item.kind === 'function') b.byte(0).unsigned(item.type);
        else if (item.kind === 'table') b.byte(1).byte(0x70).byte(0).unsigned(item.minimum);
        else b.byte(2).byte(0).unsigned(item.minimum);
      }
    });
    section(3, (b) => {
      b.unsigned(this.functions.length);
      for (const f of this.functions) b.unsigned(f.type);
    });
    section(7, (b) => {
      b.unsigned(this.exports.length);
      for (const e of this.exports) b.text(e.name).byte(0).unsigned(e.index);
    });
    section(10, (b) => {
      b.unsigned(this.functions.length);
      for (const f of this.functions) {
        const body = new Bytes();
        const runs: [number, ValueType][] = [];
        for (const type of f.locals) {
          const last = runs.at(-1);
          if (last && last[1] === type) last[0]++;
          else runs.push([1, type]);
        }
        body.unsigned(runs.length);
        for (const [n, type] of runs) body.unsigned(n).byte(type);
        body.append(f.code).byte(0x0b);
        b.unsigned(body.length).append(body);
      }
    });
    return out.view().slice();
  }
}
