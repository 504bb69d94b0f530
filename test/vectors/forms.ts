import { alignedShape, encode, EXACT_OFFSET, exactShape, needsRex, registerInput, shapes, type RegisterOperand, type Shape } from './encode.ts';
import type { CodeSize, VectorForm } from './layout.ts';

/** A form before it is run. */
export type FormSpec = Omit<VectorForm, 'text'>;

/** What an input rule may refer to. */
interface Operands {
  readonly size: number;
  /** Full registers of the operands, '' where there is none. */
  readonly reg: string;
  readonly rm: string;
  /** The r/m operand is in memory. */
  readonly memory: boolean;
}

interface Options {
  /** Operand sizes for v, y and z operands. */
  readonly sizes?: readonly number[];
  readonly codeSizes?: readonly CodeSize[];
  /** Input tokens, or a rule over the operands chosen. */
  readonly inputs?: string | ((operands: Operands) => string);
  /** Which forms of an r/m operand to make (default both). */
  readonly rm?: 'reg' | 'mem';
  /** Memory forms use one operand address that the inputs can name ([68:n]), or an aligned one. */
  readonly exact?: boolean;
  readonly aligned?: boolean;
  /** Immediate values by position; each inner list is cycled through, one form per value of the longest list. */
  readonly immediates?: readonly (readonly (number | bigint)[])[];
  readonly default64?: boolean;
  readonly prefixes?: readonly number[];
  readonly addressSize?: 16 | 32 | 64;
  /** Registers for the reg and rm operands instead of the next of the cycle. */
  readonly reg?: number;
  readonly rmRegister?: number;
  /** Registers that memory shapes must leave alone. */
  readonly avoid?: readonly string[];
  readonly states?: number;
  /** Memory shapes: all of them, one form each. */
  readonly everyShape?: boolean;
  /** The address registers stay random (LEA). */
  readonly wildAddress?: boolean;
}

const registers64 = [0, 2, 9, 6, 1, 15, 3, 8, 7, 5, 12, 10, 4, 11];
const registers32 = [0, 2, 6, 1, 3, 7, 5, 4];
const bytes64: readonly RegisterOperand[] = [
  { number: 0, bits: 8 }, { number: 1, bits: 8, high: true }, { number: 9, bits: 8 }, { number: 6, bits: 8 }, { number: 2, bits: 8 }, { number: 0, bits: 8, high: true }, { number: 3, bits: 8 },
  { number: 7, bits: 8 }, { number: 1, bits: 8 }, { number: 3, bits: 8, high: true }, { number: 14, bits: 8 }, { number: 5, bits: 8 }, { number: 2, bits: 8, high: true }, { number: 4, bits: 8 },
];
const bytes32 = bytes64.filter((operand) => operand.number < 4);
const immediateCycle: Record<string, readonly (number | bigint)[]> = {
  ib: [0x35, 0x80, 0x7f, 0xff, 0x01, 0xc6, 0x00], iw: [0x1234, 0x8000, 0xfffe, 0x7fff], id: [0x12345678, 0x80000000, 0xfffffff0], cb: [0x30, 0xe0], cz: [0x130, -0x120],
  iz: [0x12345678, 0x80000000, 0x7fffffff, 0xffffff80, 0x00008000, 0x01], iv: [0x123456789abcdef0n, 0x8000000080000000n, 0xffffffffn, 0x7fff7fff00007fffn],
};

class FormBuilder {
  readonly forms: FormSpec[] = [];
  private group = '';
  private cycle: Record<string, number> = {};

  private next(what: string, length: number): number {
    const at = this.cycle[what] ?? 0;
    this.cycle[what] = at + 1;
    return at % length;
  }

  in(group: string): this {
    this.group = group;
    this.cycle = {};
    return this;
  }

  private register(bits: number, codeSize: CodeSize, width: string): RegisterOperand {
    if (bits === 128) return { number: [1, 3, 7, 9, 15, 0][this.next('xmm', codeSize === 64 ? 6 : 3)]!, bits };
    if (bits === 8) {
      const pool = codeSize === 64 ? bytes64 : bytes32;
      return pool[this.next(`byte${width}`, pool.length)]!;
    }
    const pool = codeSize === 64 ? registers64 : registers32;
    return { number: pool[this.next('register', pool.length)]!, bits };
  }

  private shape(codeSize: CodeSize, options: Options): Shape {
    if (options.exact) return exactShape(codeSize);
    if (options.aligned) return alignedShape;
    // 32-bit code uses 16-bit addressing for every third operand, 16-bit code 32-bit addressing
    const other = codeSize === 64 ? 64 : codeSize === 32 ? 16 : 32;
    for (;;) {
      const list = shapes[this.next('address', 3) === 2 ? other : codeSize];
      const shape = list[this.next(`shape${list.length}`, list.length)]!;
      if (!options.avoid?.some((name) => shape.inputs.includes(`${name}=`))) return shape;
    }
  }

  /** Adds the forms of one instruction: every code size, operand size, r/m kind and immediate asked for. */
  add(syntax: string, notation: string, options: Options = {}): this {
    const operands = syntax.includes(' ') ? syntax.slice(syntax.indexOf(' ') + 1).split(',').map((text) => text.trim()) : [];
    const sized = operands.some((text) => /[vyz]$|^zAX|^rAX/.test(text)) || options.sizes !== undefined;
    const fixedBits = operands.some((text) => /8$|^AL$/.test(text)) && !operands.some((text) => /(16|32|64)$/.test(text)) ? 8 : operands.some((text) => /xmm|Xmm/.test(text)) ? 128 : 32;
    const rmOperand = operands.find((text) => /^(r\/m|m|R|xmm\/m|Xmm|r64\/m|m\d*$)/.test(text) && !text.startsWith('moffs'));
    const regOperand = operands.find((text) => /^(r(8|16|32|64|v|y)|xmm)$/.test(text));
    for (const codeSize of options.codeSizes ?? [64]) {
      const sizes = options.sizes ?? (sized ? (operands.some((text) => /y$/.test(text)) ? [32, 64] : [16, 32, 64]) : [fixedBits]);
      for (const size of sizes) {
        if (size === 64 && codeSize !== 64) continue;
        const kinds: ('reg' | 'mem' | 'none')[] = !rmOperand ? ['none'] : /^m/.test(rmOperand) ? ['mem'] : /^[RX]/.test(rmOperand) ? ['reg'] : options.rm ? [options.rm] : ['reg', 'mem'];
        for (const kind of kinds) {
          const variants = Math.max(1, ...(options.immediates ?? []).map((list) => list.length));
          const all = kind === 'mem' && options.everyShape ? [...shapes[codeSize], ...(codeSize === 64 ? [] : shapes[codeSize === 32 ? 16 : 32])] : [undefined];
          for (const shape of all) for (let variant = 0; variant < variants; variant++) this.one(syntax, notation, options, { codeSize, size, kind, variant, rmOperand, regOperand, ...(shape ? { shape } : {}) });
        }
      }
    }
    return this;
  }

  private one(syntax: string, notation: string, options: Options, pick: { codeSize: CodeSize; size: number; kind: 'reg' | 'mem' | 'none'; variant: number; rmOperand: string | undefined; regOperand: string | undefined; shape?: Shape }): void {
    const { codeSize, size } = pick;
    const width = (text: string): number => {
      const digits = /(\d+)$/.exec(text);
      return /xmm/i.test(text) ? 128 : digits ? Number(digits[1]) : size;
    };
    const tokens = notation.split(' ').filter((token) => /^(ib|iw|id|iz|iv|cb|cz|moffs)$/.test(token));
    const immediates = tokens.map((token, index) => {
      const given = options.immediates?.[index];
      if (given) return given[pick.variant % given.length]!;
      const list = immediateCycle[token]!;
      return list[this.next(token, list.length)]!;
    });
    for (let attempt = 0; ; attempt++) {
      const shape = pick.kind === 'mem' ? (pick.shape ?? this.shape(codeSize, options)) : undefined;
      let reg = pick.regOperand ? (options.reg === undefined ? this.register(width(pick.regOperand), codeSize, 'r') : { number: options.reg, bits: width(pick.regOperand) }) : undefined;
      if (options.reg !== undefined && !reg) reg = { number: options.reg, bits: size };
      const rm = shape ?? (pick.kind === 'reg' ? (options.rmRegister === undefined ? this.register(width(pick.rmOperand!), codeSize, 'm') : { number: options.rmRegister, bits: width(pick.rmOperand!) }) : undefined);
      const encodable = {
        codeSize, notation, size, immediates, ...(reg ? { reg } : {}), ...(rm ? { rm } : {}), ...(options.default64 ? { default64: true } : {}),
        ...(options.prefixes ? { prefixes: options.prefixes } : {}), ...(options.addressSize ? { addressSize: options.addressSize } : {}),
      };
      const high = reg?.high || (rm && 'high' in rm && rm.high);
      if (high && needsRex(encodable)) continue; // no AH beside REX: the next registers of the cycle
      const context: Operands = { size, reg: reg ? registerInput(reg) : '', rm: rm && 'number' in rm ? registerInput(rm) : '', memory: pick.kind === 'mem' };
      const rule = typeof options.inputs === 'function' ? options.inputs(context) : (options.inputs ?? '');
      // a rule about a register that also addresses memory would break the address
      if (attempt < 50 && rule !== '' && shape && !options.exact && !options.aligned && rule.split(' ').some((token) => shape.inputs.split(' ').some((s) => sameRegister(s, token)))) continue;
      this.forms.push({
        group: this.group, syntax, codeSize, bytes: encode(encodable), inputs: [rule, options.wildAddress ? '' : (shape?.inputs ?? '')].filter((text) => text !== '').join(' '), states: options.states ?? 100,
      });
      return;
    }
  }
}

/** Two input tokens set the same register (whatever its width). */
function sameRegister(a: string, b: string): boolean {
  const root = (text: string): string => text.replace(/[?=].*/, '').replace(/^(r\d+)d$/, '$1').replace(/^[re](..)$/, '$1').replace(/^(.)l$/, '$1x');
  return root(a) === root(b);
}

/** All forms, in order. The groups become one file each. */
export function buildForms(): FormSpec[] {
  const b = new FormBuilder();
  const legacy: readonly CodeSize[] = [32, 16];
  const everywhere: readonly CodeSize[] = [64, 32, 16];
  const dividend = 'rdx?=int:0..9 rax?=int:0..1000';
  const hex = (value: number): string => value.toString(16).toUpperCase().padStart(2, '0');

  b.in('alu');
  const alu = ['ADD', 'OR', 'ADC', 'SBB', 'AND', 'SUB', 'XOR', 'CMP'];
  alu.forEach((name, n) => {
    const op = (low: number): string => hex(n * 8 + low);
    b.add(`${name} r/m8, r8`, `${op(0)} /r`).add(`${name} r/mv, rv`, `${op(1)} /r`).add(`${name} r8, r/m8`, `${op(2)} /r`).add(`${name} rv, r/mv`, `${op(3)} /r`)
      .add(`${name} AL, imm8`, `${op(4)} ib`).add(`${name} rAX, immz`, `${op(5)} iz`).add(`${name} r/m8, imm8`, `80 /${n} ib`).add(`${name} r/mv, immz`, `81 /${n} iz`).add(`${name} r/mv, imm8s`, `83 /${n} ib`);
  });
  b.add('TEST r/m8, r8', '84 /r').add('TEST r/mv, rv', '85 /r').add('TEST AL, imm8', 'A8 ib').add('TEST rAX, immz', 'A9 iz').add('TEST r/m8, imm8', 'F6 /0 ib').add('TEST r/mv, immz', 'F7 /0 iz').add('TEST r/m8, imm8', 'F6 /1 ib').add('TEST r/mv, immz', 'F7 /1 iz');

  b.in('alu-legacy');
  alu.forEach((name, n) => {
    const op = (low: number): string => hex(n * 8 + low);
    b.add(`${name} r/m8, r8`, `${op(0)} /r`, { codeSizes: [n & 1 ? 32 : 16] }).add(`${name} r/mv, rv`, `${op(1)} /r`, { codeSizes: legacy, rm: 'mem' }).add(`${name} rv, r/mv`, `${op(3)} /r`, { codeSizes: legacy, sizes: [n & 1 ? 32 : 16], rm: 'reg' })
      .add(`${name} r/mv, imm8s`, `83 /${n} ib`, { codeSizes: [n & 1 ? 16 : 32], rm: 'mem' }).add(`${name} r/mv, immz`, `81 /${n} iz`, { codeSizes: [n & 1 ? 32 : 16], rm: 'mem' }).add(`${name} r/m8, imm8`, `82 /${n} ib`, { codeSizes: [32] });
  });
  b.add('INC rv', '40+r', { codeSizes: legacy }).add('DEC rv', '48+r', { codeSizes: legacy }).add('INC r/mv', 'FF /0', { codeSizes: legacy, rm: 'mem' }).add('NOT r/mv', 'F7 /2', { codeSizes: legacy });
  b.add('SHL r/mv, CL', 'D3 /4', { codeSizes: legacy, inputs: 'cl?=int:0..40', avoid: ['cx', 'ecx'] }).add('RCR r/mv, CL', 'D3 /3', { codeSizes: legacy, inputs: 'cl?=int:0..40' });
  b.add('MUL r/mv', 'F7 /4', { codeSizes: legacy }).add('DIV r/mv', 'F7 /6', { codeSizes: legacy, inputs: dividend }).add('IMUL rv, r/mv', '0F AF /r', { codeSizes: legacy });
  b.add('BTC Rv, rv', '0F BB /r', { codeSizes: legacy }).add('BTC mv, rv', '0F BB /r', { codeSizes: legacy, exact: true, inputs: 'rdx=int:-500..1000', reg: 2 });
  b.add('MOVZX rv, r/m8', '0F B6 /r', { codeSizes: legacy, rm: 'mem' }).add('MOVSX rv, r/m8', '0F BE /r', { codeSizes: legacy, rm: 'mem' });
  b.add('MOV r/mv, rv', '89 /r', { codeSizes: legacy, rm: 'mem', everyShape: true, sizes: [32] }).add('MOV rv, r/mv', '8B /r', { codeSizes: legacy, rm: 'mem', everyShape: true, sizes: [16] });
  b.add('MOV AL, moffs8', 'A0 moffs', { codeSizes: legacy, immediates: [[0x8444]] }).add('MOV moffsv, rAX', 'A3 moffs', { codeSizes: legacy, immediates: [[0x8444]] });
  b.add('CBW', '98', { codeSizes: legacy, sizes: [16] }).add('CWDE', '98', { codeSizes: legacy, sizes: [32] }).add('CWD', '99', { codeSizes: legacy, sizes: [16] }).add('CDQ', '99', { codeSizes: legacy, sizes: [32] });

  b.in('bcd');
  const bcd = { codeSizes: [32] as const };
  for (const [name, op] of [['DAA', '27'], ['DAS', '2F'], ['AAA', '37'], ['AAS', '3F']] as const) b.add(name, op, { ...bcd, inputs: 'al?=int:0..153' }).add(name, op, { codeSizes: [16] });
  b.add('AAM imm8', 'D4 ib', { ...bcd, immediates: [[10, 16, 1, 255, 7, 0]] }).add('AAD imm8', 'D5 ib', { ...bcd, immediates: [[10, 16, 1, 255, 0]] });
  b.add('ARPL r/m16, r16', '63 /r', { ...bcd }).add('BOUND rv, mv&v', '62 /r', { ...bcd, rm: 'mem', exact: true, reg: 0, sizes: [16, 32], inputs: (o) => (o.size === 32 ? 'eax?=int:-5..20 [68:4]=int:-2..3 [72:4]=int:8..15' : 'ax?=int:-5..20 [68:2]=int:-2..3 [70:2]=int:8..15') });
  b.add('INTO', 'CE', bcd);

  b.in('unary');
  for (const [name, v, n] of [['INC', 'FE', 0], ['DEC', 'FE', 1], ['NOT', 'F6', 2], ['NEG', 'F6', 3]] as const) b.add(`${name} r/m8`, `${v} /${n}`).add(`${name} r/mv`, `${v === 'FE' ? 'FF' : 'F7'} /${n}`);
  b.add('CBW', '98', { sizes: [16] }).add('CWDE', '98', { sizes: [32] }).add('CDQE', '98', { sizes: [64] }).add('CWD', '99', { sizes: [16] }).add('CDQ', '99', { sizes: [32] }).add('CQO', '99', { sizes: [64] });
  b.add('BSWAP rv', '0F C8+r', { sizes: [32, 64] }).add('BSWAP rv', '0F C8+r', { sizes: [32, 64] });
  b.add('LAHF', '9F').add('SAHF', '9E').add('CLC', 'F8').add('STC', 'F9').add('CMC', 'F5').add('CLD', 'FC').add('STD', 'FD').add('NOP', '90').add('NOP r/mv', '0F 1F /0').add('PAUSE', '90', { prefixes: [0xf3] });
  b.add('MOVBE rv, mv', '0F 38 F0 /r').add('MOVBE mv, rv', '0F 38 F1 /r').add('XLATB', 'D7', { inputs: 'rbx=ptr:-120..128' }).add('XLATB', 'D7', { addressSize: 32, inputs: 'ebx=ptr:-120..128' });

  b.in('multiply');
  b.add('MUL r/m8', 'F6 /4').add('MUL r/mv', 'F7 /4').add('IMUL r/m8', 'F6 /5').add('IMUL r/mv', 'F7 /5').add('IMUL rv, r/mv', '0F AF /r').add('IMUL rv, r/mv, immz', '69 /r iz').add('IMUL rv, r/mv, imm8s', '6B /r ib');
  b.add('DIV r/m8', 'F6 /6', { inputs: 'ax?=int:0..300' }).add('DIV r/mv', 'F7 /6', { inputs: dividend }).add('DIV r/mv', 'F7 /6', { rm: 'reg', rmRegister: 14, inputs: 'rdx?=int:0..9 r14?=int:1..20' }).add('IDIV r/m8', 'F6 /7', { inputs: 'ax?=int:-300..300' }).add('IDIV r/mv', 'F7 /7', { inputs: 'rdx?=int:-1..0 rax?=int:-1000..1000' }).add('IDIV r/mv', 'F7 /7', { rm: 'reg', rmRegister: 6, inputs: 'rdx?=int:-1..0 rsi?=int:-1..1' });

  b.in('shift');
  ['ROL', 'ROR', 'RCL', 'RCR', 'SHL', 'SHR', 'SHL', 'SAR'].forEach((name, n) => {
    const count = 'cl?=int:0..70';
    b.add(`${name} r/m8, 1`, `D0 /${n}`).add(`${name} r/mv, 1`, `D1 /${n}`).add(`${name} r/m8, CL`, `D2 /${n}`, { inputs: count }).add(`${name} r/mv, CL`, `D3 /${n}`, { inputs: count })
      .add(`${name} r/m8, imm8`, `C0 /${n} ib`, { immediates: [[n & 1 ? 3 : 7, n & 1 ? 9 : 8, n & 1 ? 18 : 32]] }).add(`${name} r/mv, imm8`, `C1 /${n} ib`, { immediates: [[1, n & 1 ? 15 : 31, n & 1 ? 64 : 33]] });
  });

  b.in('double-shift');
  for (const [name, op] of [['SHLD', 0xa4], ['SHRD', 0xac]] as const) {
    b.add(`${name} r/mv, rv, imm8`, `0F ${hex(op)} /r ib`, { immediates: [[1, 15, 0]] }).add(`${name} r/mv, rv, imm8`, `0F ${hex(op)} /r ib`, { immediates: [[31, 33]], sizes: [32, 64] });
    // counts above the operand size leave everything undefined
    b.add(`${name} r/mv, rv, CL`, `0F ${hex(op + 1)} /r`, { inputs: 'cl=int:0..16', sizes: [16] }).add(`${name} r/mv, rv, CL`, `0F ${hex(op + 1)} /r`, { inputs: 'cl?=int:0..70', sizes: [32, 64] });
  }

  b.in('bits');
  ['BT', 'BTS', 'BTR', 'BTC'].forEach((name, n) => {
    const op = hex(0xa3 + n * 8);
    b.add(`${name} Rv, rv`, `0F ${op} /r`);
    b.add(`${name} mv, rv`, `0F ${op} /r`, { exact: true, reg: [2, 9, 6, 0][n]!, inputs: (o) => `${o.size === 16 ? ['dx', 'r9', 'si', 'ax'][n] : o.size === 32 ? ['edx', 'r9d', 'esi', 'eax'][n] : o.reg}=int:-540..1300` });
    b.add(`${name} r/mv, imm8`, `0F BA /${n + 4} ib`, { immediates: [[3, 77, 0xff]] });
  });
  b.add('BSF rv, r/mv', '0F BC /r').add('BSR rv, r/mv', '0F BD /r').add('TZCNT rv, r/mv', 'F3 0F BC /r').add('LZCNT rv, r/mv', 'F3 0F BD /r').add('POPCNT rv, r/mv', 'F3 0F B8 /r');

  b.in('exchange');
  const equal = (o: Operands): string => (o.memory ? `rax?=mem:${EXACT_OFFSET}` : `rax?=reg:${o.rm}`);
  b.add('XADD r/m8, r8', '0F C0 /r').add('XADD r/mv, rv', '0F C1 /r').add('XCHG r/m8, r8', '86 /r').add('XCHG r/mv, rv', '87 /r').add('XCHG rv, rAX', '90+r', { reg: 6 }).add('XCHG rv, rAX', '90+r', { reg: 8 });
  b.add('CMPXCHG r/m8, r8', '0F B0 /r', { exact: true, inputs: equal, reg: 1, rmRegister: 2 }).add('CMPXCHG r/m8, r8', '0F B0 /r', { rm: 'reg', inputs: equal }).add('CMPXCHG r/mv, rv', '0F B1 /r', { exact: true, inputs: equal, reg: 1 }).add('CMPXCHG r/mv, rv', '0F B1 /r', { rm: 'reg', inputs: equal });
  b.add('CMPXCHG8B m64', '0F C7 /1', { rm: 'mem', exact: true, inputs: `rax?=mem:${EXACT_OFFSET} rdx?=mem:${EXACT_OFFSET + 4}`, sizes: [32] }).add('CMPXCHG8B m64', '0F C7 /1', { codeSizes: [32], rm: 'mem', exact: true, inputs: `eax?=mem:${EXACT_OFFSET} edx?=mem:${EXACT_OFFSET + 4}`, sizes: [32] });
  b.add('CMPXCHG8B m64', '0F C7 /1', { rm: 'mem', exact: true, inputs: `rax?=mem:${EXACT_OFFSET} rdx?=mem:${EXACT_OFFSET + 4}`, sizes: [16] });
  b.add('CMPXCHG16B m128', 'REX.W 0F C7 /1', { rm: 'mem', aligned: true, inputs: 'rax?=mem:80 rdx?=mem:88', sizes: [64] });
  b.add('XADD r/mv, rv', '0F C1 /r', { rm: 'reg', reg: 7, rmRegister: 7 }).add('XCHG r/m8, r8', '86 /r', { codeSizes: legacy }).add('CMPXCHG r/mv, rv', '0F B1 /r', { codeSizes: legacy, exact: true, inputs: equal, reg: 1, rm: 'mem' });

  b.in('lock');
  const lock = { prefixes: [0xf0], rm: 'mem' as const };
  alu.slice(0, 7).forEach((name, n) => b.add(`${name} r/m8, r8`, `${hex(n * 8)} /r`, lock).add(`${name} r/mv, rv`, `${hex(n * 8 + 1)} /r`, lock).add(`${name} r/mv, imm8s`, `83 /${n} ib`, lock));
  b.add('INC r/mv', 'FF /0', lock).add('DEC r/m8', 'FE /1', lock).add('NOT r/mv', 'F7 /2', lock).add('NEG r/mv', 'F7 /3', lock).add('XADD r/mv, rv', '0F C1 /r', lock).add('XCHG r/mv, rv', '87 /r', lock);
  b.add('BTS r/mv, imm8', '0F BA /5 ib', lock).add('BTR r/mv, imm8', '0F BA /6 ib', lock).add('BTC r/mv, imm8', '0F BA /7 ib', lock).add('CMPXCHG r/mv, rv', '0F B1 /r', { ...lock, exact: true, inputs: equal, reg: 1 });
  b.add('CMPXCHG8B m64', '0F C7 /1', { ...lock, exact: true, inputs: `rax?=mem:${EXACT_OFFSET} rdx?=mem:${EXACT_OFFSET + 4}`, sizes: [32] });

  b.in('move');
  b.add('MOV r/m8, r8', '88 /r').add('MOV r/mv, rv', '89 /r').add('MOV r8, r/m8', '8A /r').add('MOV rv, r/mv', '8B /r').add('MOV r8, imm8', 'B0+r ib').add('MOV r8, imm8', 'B0+r ib').add('MOV rv, immv', 'B8+r iv').add('MOV r/m8, imm8', 'C6 /0 ib').add('MOV r/mv, immz', 'C7 /0 iz');
  b.add('MOV r/mv, rv', '89 /r', { rm: 'mem', everyShape: true, sizes: [64] }).add('MOV rv, r/mv', '8B /r', { rm: 'mem', everyShape: true, sizes: [32] });
  for (const prefix of [0x2e, 0x36, 0x3e, 0x26]) b.add('MOV rv, r/mv', '8B /r', { rm: 'mem', prefixes: [prefix], sizes: [64] }).add('MOV r/mv, rv', '89 /r', { rm: 'mem', prefixes: [prefix === 0x2e ? 0x3e : prefix], sizes: [32], codeSizes: [32] });
  for (const addressSize of [64, 32] as const) b.add('MOV AL, moffs8', 'A0 moffs', { addressSize, immediates: [[0x8444]] }).add('MOV rAX, moffsv', 'A1 moffs', { addressSize, immediates: [[0x8448]] }).add('MOV moffs8, AL', 'A2 moffs', { addressSize, immediates: [[0x844b]] }).add('MOV moffsv, rAX', 'A3 moffs', { addressSize, immediates: [[0x8450]] });
  b.add('MOVZX rv, r/m8', '0F B6 /r').add('MOVZX rv, r/m16', '0F B7 /r', { sizes: [16, 32, 64] }).add('MOVSX rv, r/m8', '0F BE /r').add('MOVSX rv, r/m16', '0F BF /r', { sizes: [16, 32, 64] }).add('MOVSXD rv, r/m32', '63 /r', { sizes: [32, 64] }).add('MOVSXD rv, r/m16', '63 /r', { sizes: [16] });
  for (let c = 0; c < 16; c++) {
    const name = ['O', 'NO', 'B', 'NB', 'Z', 'NZ', 'BE', 'NBE', 'S', 'NS', 'P', 'NP', 'L', 'NL', 'LE', 'NLE'][c]!;
    b.add(`CMOV${name} rv, r/mv`, `0F ${hex(0x40 + c)} /r`, { sizes: [[16, 32, 64][c % 3]!, 32] }).add(`SET${name} r/m8`, `0F ${hex(0x90 + c)} /0`);
  }

  b.in('lea');
  b.add('LEA rv, m', '8D /r', { rm: 'mem', everyShape: true, wildAddress: true, sizes: [64] }).add('LEA rv, m', '8D /r', { rm: 'mem', everyShape: true, wildAddress: true, sizes: [32] }).add('LEA rv, m', '8D /r', { rm: 'mem', everyShape: true, wildAddress: true, sizes: [16, 32], codeSizes: legacy });

  b.in('stack');
  const stack = 'rsp=ptr:100..140';
  const popTo = { inputs: stack, default64: true, avoid: ['rsp'] };
  b.add('PUSH rv', '50+r', { ...popTo, sizes: [16, 64] }).add('PUSH rv', '50+r', { ...popTo, sizes: [16, 64], reg: 4 }).add('PUSH rv', '50+r', { ...popTo, sizes: [64], reg: 13 }).add('POP rv', '58+r', { ...popTo, sizes: [16, 64], reg: 3 }).add('POP rv', '58+r', { ...popTo, sizes: [16, 64], reg: 4 }).add('POP rv', '58+r', { ...popTo, sizes: [64], reg: 14 });
  b.add('PUSH r/mv', 'FF /6', { ...popTo, sizes: [16, 64] }).add('POP r/mv', '8F /0', { ...popTo, sizes: [16, 64] }).add('PUSH imm8s', '6A ib', { ...popTo, sizes: [16, 64], immediates: [[0x7f, 0x80]] }).add('PUSH immz', '68 iz', { ...popTo, sizes: [16, 64], immediates: [[0x12345678, 0x87654321]] });
  const throughRsp = { mod: 1, rm: 4, sib: 0x24, displacement: [1, 16] as const, addressSize: 64 as const, inputs: '' };
  b.forms.push({ group: 'stack', syntax: 'POP r/mv', codeSize: 64, bytes: encode({ codeSize: 64, notation: '8F /0', size: 64, default64: true, rm: throughRsp }), inputs: stack, states: 100 }, { group: 'stack', syntax: 'PUSH r/mv', codeSize: 64, bytes: encode({ codeSize: 64, notation: 'FF /6', size: 64, default64: true, rm: throughRsp }), inputs: stack, states: 100 });
  b.add('PUSHFv', '9C', { ...popTo, sizes: [16, 64] });
  b.add('POPFv', '9D', { default64: true, sizes: [16, 64], inputs: 'rsp=ptr:120..120 [120:8]=and:ffffffffff207ed5' }); // no TF, no AC
  b.add('ENTER imm16, imm8', 'C8 iw ib', { default64: true, sizes: [16, 64], immediates: [[0, 16, 24, 9], [0, 1, 2, 3]], inputs: 'rsp=ptr:150..170 rbp=ptr:80..100' }).add('LEAVE', 'C9', { default64: true, sizes: [16, 64], inputs: 'rbp=ptr:80..200' });
  const stack32 = { inputs: 'esp=ptr:100..140', avoid: ['esp'], codeSizes: legacy, sizes: [16, 32] };
  b.add('PUSH rv', '50+r', stack32).add('POP rv', '58+r', { ...stack32, reg: 4 }).add('POP rv', '58+r', { ...stack32, reg: 7 }).add('PUSH r/mv', 'FF /6', { ...stack32, rm: 'mem' }).add('POP r/mv', '8F /0', { ...stack32, rm: 'mem' }).add('PUSH imm8s', '6A ib', stack32).add('PUSH immz', '68 iz', stack32).add('PUSHFv', '9C', stack32);
  b.add('PUSHAv', '60', stack32).add('POPAv', '61', stack32).add('POPFv', '9D', { ...stack32, inputs: 'esp=ptr:120..120 [120:4]=and:fff07ed5' }).add('ENTER imm16, imm8', 'C8 iw ib', { ...stack32, immediates: [[0, 16, 9], [0, 1, 3]], inputs: 'esp=ptr:150..170 ebp=ptr:80..100' }).add('LEAVE', 'C9', { ...stack32, inputs: 'ebp=ptr:80..200' });

  b.in('branch');
  for (let c = 0; c < 16; c++) {
    const name = ['O', 'NO', 'B', 'NB', 'Z', 'NZ', 'BE', 'NBE', 'S', 'NS', 'P', 'NP', 'L', 'NL', 'LE', 'NLE'][c]!;
    b.add(`J${name} rel8`, `${hex(0x70 + c)} cb`).add(`J${name} relz`, `0F ${hex(0x80 + c)} cz`, { sizes: [32], codeSizes: c % 4 === 0 ? everywhere : [64] });
  }
  b.add('JZ rel8', '74 cb', { codeSizes: legacy }).add('JNLE relz', '0F 8F cz', { sizes: [16], codeSizes: everywhere });
  b.add('JMP rel8', 'EB cb', { codeSizes: everywhere, immediates: [[0x40, 0xc0]], states: 20 }).add('JMP relz', 'E9 cz', { sizes: [32], codeSizes: everywhere, states: 20 }).add('JMP relz', 'E9 cz', { sizes: [16], codeSizes: everywhere, states: 20 });
  for (const [op, name] of [['E0', 'LOOPNE'], ['E1', 'LOOPE'], ['E2', 'LOOP'], ['E3', 'J*CXZ']] as const) {
    const named = (addressSize: number): string => `${name.replace('*', { 16: '', 32: 'E', 64: 'R' }[addressSize]!)} rel8`;
    b.add(named(64), `${op} cb`, { inputs: 'rcx?=int:-1..2' }).add(named(32), `${op} cb`, { addressSize: 32, inputs: 'ecx?=int:-1..2' }).add(named(32), `${op} cb`, { codeSizes: [32], inputs: 'ecx?=int:-1..2' });
    for (const codeSize of legacy) b.add(named(16), `${op} cb`, { codeSizes: [codeSize], addressSize: 16, inputs: 'cx?=int:-1..2' });
  }
  const target = (o: Operands): string => (o.memory ? `[${EXACT_OFFSET}:8]=code:32..200` : `${o.rm}=code:32..200`);
  const near = { sizes: [64], default64: true, states: 50 };
  b.add('JMP r/mv', 'FF /4', { ...near, inputs: target, exact: true, rmRegister: 9 }).add('CALL r/mv', 'FF /2', { ...near, inputs: (o) => `rsp=ptr:100..140 ${target(o)}`, exact: true, rmRegister: 0 });
  b.add('CALL relz', 'E8 cz', { sizes: [64], default64: true, inputs: 'rsp=ptr:100..140' }).add('CALL relz', 'E8 cz', { sizes: [16], default64: true, inputs: 'rsp=ptr:100..140', immediates: [[0x55]] });
  b.add('RET', 'C3', { ...near, inputs: 'rsp=ptr:120..120 [120:8]=code:32..200' }).add('RET imm16', 'C2 iw', { ...near, inputs: 'rsp=ptr:120..120 [120:8]=code:32..200', immediates: [[8, 0x1235, 0xfff0]] });
  const near32 = { sizes: [16, 32], codeSizes: legacy, states: 50 };
  const target32 = (o: Operands): string => (o.memory ? `[${EXACT_OFFSET}:4]=code:32..200` : `${o.rm.replace('r', 'e')}=code:32..200`);
  b.add('CALL relz', 'E8 cz', { ...near32, inputs: 'esp=ptr:100..140' }).add('CALL r/mv', 'FF /2', { ...near32, inputs: (o) => `esp=ptr:100..140 ${target32(o)}`, exact: true, rmRegister: 0 }).add('JMP r/mv', 'FF /4', { ...near32, inputs: target32, exact: true, rmRegister: 7 });
  b.add('RET', 'C3', { ...near32, inputs: 'esp=ptr:120..120 [120:4]=code:32..200' }).add('RET imm16', 'C2 iw', { ...near32, inputs: 'esp=ptr:120..120 [120:4]=code:32..200', immediates: [[6]] });

  b.in('string');
  const strings = [['MOVS', 0xa4], ['CMPS', 0xa6], ['STOS', 0xaa], ['LODS', 0xac], ['SCAS', 0xae]] as const;
  for (const [name, op] of strings) {
    const compare = name === 'CMPS' || name === 'SCAS';
    const runs = compare ? ' mem=runs al?=int:65..65 rax?=mem:120' : '';
    for (const [codeSize, address, inputs] of [[64, 64, 'rsi=ptr:96..104 rdi=ptr:128..140 rcx=int:0..8'], [64, 32, 'esi=ptr:96..104 edi=ptr:128..140 ecx=int:0..8'], [32, 32, 'esi=ptr:96..104 edi=ptr:128..140 ecx=int:0..8'], [32, 16, 'si=ptr:96..104 di=ptr:128..140 cx=int:0..8'], [16, 16, 'si=ptr:96..104 di=ptr:128..140 cx=int:0..8'], [16, 32, 'esi=ptr:96..104 edi=ptr:128..140 ecx=int:0..8']] as const) {
      const full = codeSize === 64 && address === 64;
      for (const prefixes of [[], [0xf3], [0xf2]]) {
        if (!compare && prefixes[0] === 0xf2 && !full) continue;
        const common = { codeSizes: [codeSize], addressSize: address, inputs: inputs + runs, prefixes } as const;
        if (full || prefixes.length > 0) b.add(`${name}B`, hex(op), { ...common, sizes: [8] });
        for (const size of [16, 32, 64]) if (full || size === 32 || (prefixes.length > 0 && size === 16)) b.add(`${name}v`, hex(op + 1), { ...common, sizes: [size] });
      }
    }
  }

  b.in('sse2');
  const bits = { inputs: 'xmm=bits' };
  b.add('PXOR xmm, xmm/m128', '66 0F EF /r', { ...bits, aligned: true }).add('PADDD xmm, xmm/m128', '66 0F FE /r', { ...bits, aligned: true }).add('MOVDQU xmm, xmm/m128', 'F3 0F 6F /r', bits).add('MOVDQU xmm/m128, xmm', 'F3 0F 7F /r', bits).add('MOVDQA xmm, xmm/m128', '66 0F 6F /r', { ...bits, aligned: true }).add('MOVDQA xmm/m128, xmm', '66 0F 7F /r', { ...bits, aligned: true });
  b.add('MOVDQA xmm, xmm/m128', '66 0F 6F /r', { ...bits, rm: 'mem' }).add('MOVQ r/m64, xmm', '66 REX.W 0F 7E /r', { ...bits, sizes: [64] }).add('MOVQ xmm, r/m64', '66 REX.W 0F 6E /r', { ...bits, sizes: [64] }).add('MOVD r/m32, xmm', '66 0F 7E /r', { ...bits, sizes: [32] }).add('MOVD xmm, r/m32', '66 0F 6E /r', { ...bits, sizes: [32] });
  b.add('MOVQ xmm, xmm/m64', 'F3 0F 7E /r', { ...bits, sizes: [128] }).add('MOVQ xmm/m64, xmm', '66 0F D6 /r', { ...bits, sizes: [128] }).add('CVTDQ2PD xmm, xmm/m64', 'F3 0F E6 /r', { ...bits, sizes: [128] }).add('ADDPD xmm, xmm/m128', '66 0F 58 /r', { inputs: 'xmm=double', aligned: true }).add('ADDPD xmm, xmm/m128', '66 0F 58 /r', { inputs: 'xmm=double', rm: 'mem', states: 30 });

  for (const [name, op] of [['POR', 'EB'], ['PAND', 'DB'], ['PADDQ', 'D4']] as const) b.add(`${name} xmm, xmm/m128`, `66 0F ${op} /r`, { ...bits, aligned: true });
  b.add('MOVUPS xmm, xmm/m128', 'NP 0F 10 /r', bits).add('MOVUPS xmm/m128, xmm', 'NP 0F 11 /r', bits).add('MOVAPS xmm, xmm/m128', 'NP 0F 28 /r', { ...bits, aligned: true }).add('MOVAPS xmm/m128, xmm', 'NP 0F 29 /r', { ...bits, aligned: true });

  b.in('fault');
  const few = { states: 8 };
  for (const [name, op] of [['HLT', 'F4'], ['CLI', 'FA'], ['STI', 'FB'], ['CLTS', '0F 06'], ['INVD', '0F 08'], ['WBINVD', '0F 09'], ['RDMSR', '0F 32'], ['WRMSR', '0F 30'], ['SYSEXIT', '0F 35'], ['IN AL, DX', 'EC'], ['OUT DX, AL', 'EE'], ['UD2', '0F 0B']] as const) b.add(name, op, { ...few, codeSizes: [64, 32], sizes: [32] });
  b.add('MOV CRn, Ry', '0F 22 /0', { ...few, rm: 'reg', sizes: [32], default64: true, rmRegister: 0 });
  b.forms.push(...['0f20d8', '0f23c0', '0f01f8', '0f013b', '0f0113', '0f011b', '0f00d8', '0f00d0', '0f01f0'].map((code): FormSpec => ({ group: 'fault', syntax: '(privileged)', codeSize: 64, bytes: fromHex(code), inputs: 'rbx=ptr:100..100', states: 8 })));
  // LOCK where it is not allowed, one-byte opcodes that 64-bit mode lacks, undefined opcodes, register forms of memory-only instructions
  for (const code of ['f001c8', 'f03903', 'f0395304', 'f08b03', 'f08903', 'f00fa303', 'f090', 'f08d03', 'f0f7e1', '0fffc0', '0f0b', '8dc0', '0fc7c8', '0f38f0c1', 'fef8', 'fff9', '8fc8', 'c6c855', '0fb9c0', '0f04', '0f0a']) b.forms.push({ group: 'fault', syntax: '(invalid opcode)', codeSize: 64, bytes: fromHex(code), inputs: 'rbx=ptr:100..100', states: 8 });
  for (const code of ['06', '0e', '16', '1e', '27', '2f', '37', '3f', '60', '61', '82c005', 'ce', 'd40a', 'd50a', 'ea0000000000', '9a0000000000', 'd6', '17', '1f', '07']) b.forms.push({ group: 'fault', syntax: '(not in 64-bit mode)', codeSize: 64, bytes: fromHex(code), inputs: '', states: 8 });
  // canonicality (#GP, but #SS through RSP and RBP; branches fault before they leave) and alignment of 16-byte operands
  const holes = [
    ['488b03', 'rbx=hole'], ['488b442408', 'rsp=hole'], ['488b4500', 'rbp=hole'], ['488943f8', 'rbx=hole'], ['50', 'rsp=hole'], ['58', 'rsp=hole'], ['ff23', 'rbx=hole'], ['ffe3', 'rbx=hole'],
    ['c3', 'rsp=ptr:120..120 [120:8]=hole'], ['660f6f0b', 'rbx=ptr:97..103'], ['660f7f0b', 'rbx=ptr:97..103'], ['480fc70b', 'rbx=ptr:97..103'], ['f3aa', 'rdi=hole ecx=int:1..3'], ['f3aa', 'rdi=hole rcx=int:0..0'], ['d7', 'rbx=hole'],
  ] as const;
  for (const [code, inputs] of holes) b.forms.push({ group: 'fault', syntax: '(canonical or aligned)', codeSize: 64, bytes: fromHex(code), inputs, states: 8 });
  return b.forms;
}

function fromHex(text: string): Uint8Array {
  return Uint8Array.from(text.match(/../g)!.map((pair) => parseInt(pair, 16)));
}
