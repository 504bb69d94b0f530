import { defaultOperandSize, dependsOnOperandSize, encodeInstance, memoryBits, operandBits, operandSizes } from './assembler-encode.ts';
import type { InstanceForm, MemoryForm, Size } from './assembler-encode.ts';
import { LineError, evaluate } from './assembler-expression.ts';
import type { Evaluated, Scope } from './assembler-expression.ts';
import { comparePredicates, sizedMnemonics, synonyms } from './assembler-names.ts';
import { resolveMemory } from './assembler-operand.ts';
import type { ResolvedMemory, SourceOperand } from './assembler-operand.ts';
import type { Operand, Row } from './row.ts';

/** Prefixes written before an instruction. */
export interface Prefixes {
  readonly lock: boolean;
  readonly rep: number;
  readonly segment: number;
  readonly operandSize: Size | 0;
  readonly addressSize: Size | 0;
}

/** One instruction as written. */
export interface SourceInstruction {
  readonly mnemonic: string;
  /** 1-based column of the mnemonic. */
  readonly column: number;
  readonly prefixes: Prefixes;
  readonly operands: readonly SourceOperand[];
  readonly codeSize: Size;
}

/** A row under one of its names; `size` is the operand size that the name says. */
interface Named { readonly row: Row; readonly size: Size | 0; readonly immediate?: bigint }

const suffixes = [['W', 16], ['D', 32], ['Q', 64]] as const;
/** Rows whose name without suffix means the default of the mode. */
const plainNames = /^(PUSHF|POPF|IRET|PUSHA|POPA)$/;

/** Rows by mnemonic, with suffixes and synonyms resolved. */
export class MnemonicIndex {
  private readonly rows = new Map<string, Named[]>();
  private readonly resolved = new Map<string, readonly Named[]>();

  constructor(rows: readonly Row[]) {
    const put = (name: string, named: Named): void => {
      const list = this.rows.get(name);
      if (list) list.push(named);
      else this.rows.set(name, [named]);
    };
    for (const row of rows) {
      if (!row.mnemonic.endsWith('v')) {
        put(row.mnemonic, { row, size: 0 });
        continue;
      }
      const stem = row.mnemonic.slice(0, -1);
      // Ports are at most 32 bits wide: there is no INSQ, OUTSQ.
      for (const [letter, size] of suffixes) if (size !== 64 || !/^(INS|OUTS|PUSHA|POPA)$/.test(stem)) put(stem + letter, { row, size });
      if (plainNames.test(stem)) put(stem, { row, size: 0 });
    }
  }

  /** Rows a mnemonic (upper case) can mean; empty if it is none. */
  find(name: string): readonly Named[] {
    let found = this.resolved.get(name);
    if (!found) {
      found = this.look(name);
      this.resolved.set(name, found);
    }
    return found;
  }

  private look(name: string): readonly Named[] {
    const own = [name, ...(synonyms.get(name) ?? [])].flatMap((each) => this.rows.get(each) ?? []);
    // MOVSX RAX, ECX is what the SDM calls MOVSXD.
    if (name === 'MOVSX') own.push(...(this.rows.get('MOVSXD') ?? []).filter(({ row }) => row.encoding.operandSize === 64));
    if (own.length) return own;
    const sized = sizedMnemonics.get(name);
    if (sized) return (this.rows.get(sized[0]) ?? []).map(({ row }) => ({ row, size: sized[1] }));
    const compare = /^CMP(\w+)([PS][SD])$/.exec(name);
    const predicate = compare ? comparePredicates.indexOf(compare[1]!) : -1;
    if (predicate >= 0) return (this.rows.get(`CMP${compare![2]}`) ?? []).filter(({ row }) => row.operands.length === 3).map(({ row }) => ({ row, size: 0, immediate: BigInt(predicate) }));
    return [];
  }
}

/** Why a row does not take the operands; the reason with the highest rank is reported. */
interface Misfit { readonly rank: number; readonly column: number; readonly reason: string }

interface Building {
  reg?: number;
  rm?: number | MemoryForm;
  memory?: ResolvedMemory;
  moffs?: bigint;
  override: number;
  addressSize: Size | 0;
  rex: boolean;
  high: boolean;
  immediates: bigint[];
  /** Index in `immediates` of a branch target still to be made relative. */
  branch: { at: number; bits: 8 | 16 | 32; column: number; unknown: boolean } | null;
  /** An operand fixes the operand size of the row. */
  pinned: boolean;
  /** Width of the memory operand that the row implies where the source gives none. */
  impliedWidth: number;
}

interface Candidate { readonly row: Row; readonly form: InstanceForm; readonly building: Building; readonly immediateBytes: number; readonly size: Size }

/** Settled choice for one instruction in one pass. */
export interface Choice { readonly bytes: Uint8Array; readonly row: Row }

const fitsUnsignedOrSigned = (value: bigint, bits: number): boolean => value >= -(1n << BigInt(bits)) && value < 1n << BigInt(bits);
const branchRow = (row: Row): boolean => (row.mnemonic === 'JMP' || row.mnemonic === 'CALL');
const fixedInMemory = (row: Row, operand: Operand): boolean => memoryBits(row, operand, 16) === memoryBits(row, operand, 32);
const farMemory = (row: Row): boolean => branchRow(row) && row.operands[0]?.text === 'm16:v';

/** Chooses the row and encodes. One per assembly: holds what does not change between passes. */
export class Matcher {
  readonly index: MnemonicIndex;

  constructor(rows: readonly Row[]) {
    this.index = new MnemonicIndex(rows);
  }

  /**
   * Shortest encoding of the instruction at `address`, but not shorter than `floor` bytes (what it needed in an earlier pass:
   * instructions only grow, so that the passes come to an end). Throws LineError if no row takes the operands.
   */
  choose(source: SourceInstruction, scope: Scope, address: bigint, floor: number): Choice {
    const named = this.index.find(source.mnemonic);
    const candidates: Candidate[] = [];
    let misfit: Misfit | undefined;
    const evaluations = new Map<SourceOperand, Evaluated>();
    const values = (operand: SourceOperand & { kind: 'immediate' }): Evaluated => {
      let value = evaluations.get(operand);
      if (!value) evaluations.set(operand, value = evaluate(operand.expression, scope));
      return value;
    };
    const memories = new Map<SourceOperand, ResolvedMemory>();
    const memory = (operand: SourceOperand & { kind: 'memory' }): ResolvedMemory => {
      let resolved = memories.get(operand);
      if (!resolved) memories.set(operand, resolved = resolveMemory(operand, scope, source.codeSize, source.prefixes.addressSize));
      return resolved;
    };
    for (const operands of arrangements(source, values)) {
      for (const each of named) {
        for (const size of operandSizes(each.row, source.codeSize)) {
          const result = fit(each, size, operands, source, values, memory, scope);
          if ('reason' in result) {
            if (!misfit || result.rank > misfit.rank) misfit = result;
          } else candidates.push(result);
        }
      }
    }
    const first = source.operands[0];
    if (candidates.length === 0) {
      if (misfit && misfit.rank > 0) throw new LineError(misfit.column, misfit.reason);
      const forms = [...new Set(named.map(({ row }) => row.syntax))];
      if (named.every(({ row }) => operandSizes(row, source.codeSize).length === 0)) throw new LineError(source.column, `${source.mnemonic} does not exist in ${source.codeSize}-bit code`);
      throw new LineError(first?.column ?? source.column, `expected operands as in ${forms.slice(0, 8).join(' | ')}${forms.length > 8 ? ' | …' : ''}`);
    }
    const unsized = source.operands.find((operand) => operand.kind === 'memory' && operand.size === 0);
    if (unsized) {
      const widths = new Set(candidates.map((candidate) => candidate.building.impliedWidth).filter((width) => width > 0));
      if (widths.size > 1 || candidates.some((candidate) => !candidate.building.pinned && candidate.building.impliedWidth > 0 && !branchRow(candidate.row) && candidate.row.operands.some((operand) => /^(rm|mem)$/.test(operand.kind) && operand.width === 'v' && !fixedInMemory(candidate.row, operand)))) {
        throw new LineError(unsized.column, 'expected a size (byte, word, dword, qword) before the memory operand');
      }
    }
    return this.shortest(source, candidates, address, floor);
  }

  private shortest(source: SourceInstruction, candidates: readonly Candidate[], address: bigint, floor: number): Choice {
    let best: Choice | undefined;
    let bestImmediate = 0;
    let longest: Choice | undefined;
    let misfit: LineError | undefined;
    for (const candidate of candidates) {
      for (const displacementSize of displacementSizes(candidate, floor)) {
        const bytes = settle(candidate, displacementSize, address);
        if (bytes instanceof LineError) {
          misfit = bytes;
          continue;
        }
        if (bytes.length > 15) throw new LineError(source.column, 'expected an instruction of at most 15 bytes');
        const choice = { bytes, row: candidate.row };
        if (!longest || bytes.length > longest.bytes.length) longest = choice;
        if (bytes.length < floor) continue;
        // Among equally long encodings the one with the smaller immediate, then table order.
        if (!best || bytes.length < best.bytes.length || (bytes.length === best.bytes.length && candidate.immediateBytes < bestImmediate)) {
          best = choice;
          bestImmediate = candidate.immediateBytes;
        }
      }
    }
    const choice = best ?? longest;
    if (!choice) throw misfit ?? new LineError(source.column, 'expected an encodable instruction');
    return choice;
  }
}

function displacementSizes(candidate: Candidate, floor: number): readonly (0 | 8 | 16 | 32 | undefined)[] {
  const { rm } = candidate.building;
  if (floor === 0 || typeof rm !== 'object' || rm.displacementSize !== undefined || rm.base === 16 || rm.base < 0) return [undefined];
  return [undefined, 8, candidate.building.memory!.addressSize === 16 ? 16 : 32];
}

/** Source operand lists to try: as written, and what NASM takes as the same. */
function arrangements(source: SourceInstruction, values: (operand: SourceOperand & { kind: 'immediate' }) => Evaluated): readonly (readonly SourceOperand[])[] {
  const { mnemonic, operands } = source;
  const [a, b] = operands;
  const tries: (readonly SourceOperand[])[] = [operands];
  if (operands.length === 2) {
    if (mnemonic === 'XCHG') {
      if (b!.kind === 'memory') return [[b!, a!]];
      // NASM writes the first register of XCHG to ModRM.reg.
      return a!.kind === 'memory' ? tries : [[b!, a!], operands];
    }
    if (mnemonic === 'TEST' && b!.kind === 'memory') return [[b!, a!]];
    if (mnemonic === 'IMUL' && b!.kind === 'immediate' && a!.kind === 'register') return [[a!, a!, b!]];
    // Storing a segment register to a 64-bit register zero-extends as the 32-bit form does.
    if (mnemonic === 'MOV' && b!.kind === 'register' && b!.register.kind === 'sreg' && a!.kind === 'register' && a!.register.bits === 64) tries.unshift([{ ...a!, register: { ...a!.register, bits: 32 } }, b!]);
    if (mnemonic === 'MOV' && source.codeSize === 64 && a!.kind === 'register' && a!.register.kind === 'gpr' && a!.register.bits === 64 && b!.kind === 'immediate' && !b!.strict && (b!.size === 0 || b!.size === 64)) {
      // Writing the 32-bit register clears the upper half: shorter for a value of 32 bits.
      const value = values(b!);
      if (value.labels === 0 && (value.unknown || (value.value >= 0n && value.value <= 0xffffffffn))) {
        tries.push([{ ...a!, register: { ...a!.register, bits: 32 } }, { ...b!, size: 0 }]);
      }
    }
  }
  if (operands.length === 0 && /^AA[MD]$/.test(mnemonic)) return [[{ kind: 'immediate', expression: { kind: 'number', value: 10n, column: source.column }, size: 0, strict: false, distance: '', column: source.column }]];
  // LOOP label, ECX: the counter register is the address size.
  if (operands.length === 2 && /^LOOP/.test(mnemonic) && b!.kind === 'register') return [[a!]];
  return tries;
}

const misfit = (rank: number, column: number, reason: string): Misfit => ({ rank, column, reason });
const noMatch = misfit(0, 0, '');

function fit(named: Named, size: Size, operands: readonly SourceOperand[], source: SourceInstruction, values: (operand: SourceOperand & { kind: 'immediate' }) => Evaluated, memory: (operand: SourceOperand & { kind: 'memory' }) => ResolvedMemory, scope: Scope): Candidate | Misfit {
  const { row } = named;
  const { prefixes, codeSize } = source;
  const { encoding } = row;
  const expected = named.immediate === undefined ? row.operands : row.operands.slice(0, -1);
  if (expected.length !== operands.length) return noMatch;
  const forced = named.size || prefixes.operandSize;
  if (named.size && prefixes.operandSize && named.size !== prefixes.operandSize) return misfit(2, source.column, `${source.mnemonic} contradicts the prefix o${prefixes.operandSize}`);
  if (forced && forced !== size) return noMatch;
  const building: Building = { override: prefixes.segment, addressSize: prefixes.addressSize, rex: false, high: false, immediates: [], branch: null, pinned: forced !== 0 || encoding.operandSize !== 0, impliedWidth: 0 };
  let immediateToken = 0;
  for (const [i, operand] of expected.entries()) {
    const given = operands[i]!;
    const problem = fitOperand(operand, given, row, size, source, building, values, memory, scope, encoding.immediates[immediateToken] ?? '');
    if (problem) return problem;
    if (/^(imm|rel|far|moffs)$/.test(operand.kind)) immediateToken++;
  }
  if (named.immediate !== undefined) building.immediates.push(named.immediate);
  // Where nothing tells the operand size it is the default (SDM "Operand-Size and Address-Size Attributes").
  if (!building.pinned) {
    const standard = defaultOperandSize(row, codeSize);
    // NASM makes far branches through memory 64-bit in 64-bit code.
    if (size !== (farMemory(row) && codeSize === 64 && !row.size ? 64 : standard) && !(row.operands.some((operand) => operand.width === 'y') && size !== 64)) return noMatch;
  }
  if (!dependsOnOperandSize(row) && !encoding.operandSize && !forced && size !== defaultOperandSize(row, codeSize)) return noMatch;
  // 90 is NOP: in 64-bit code it does not clear the upper half of RAX as XCHG EAX, EAX does.
  if (row.mnemonic === 'XCHG' && encoding.plusRegister && codeSize === 64 && size === 32 && building.rm === 0) return noMatch;
  if (building.high && (building.rex || size === 64 || (building.reg ?? 0) > 7 || (typeof building.rm === 'number' ? building.rm > 7 : building.rm !== undefined && (building.rm.index > 7 || (building.rm.base > 7 && building.rm.base < 16))))) {
    return misfit(3, source.column, 'AH, BH, CH and DH cannot stand beside a REX prefix');
  }
  let addressSize = building.addressSize || encoding.addressSize || codeSize;
  if (/^LOOP/.test(source.mnemonic) && source.operands.length === 2) {
    const counter = source.operands[1]!;
    if (counter.kind !== 'register' || counter.register.kind !== 'gpr' || counter.register.number !== 1 || counter.register.bits === 8) return misfit(3, counter.column, 'expected CX, ECX or RCX');
    addressSize = counter.register.bits as Size;
  }
  if (encoding.addressSize && addressSize !== encoding.addressSize) return noMatch;
  if ((codeSize === 64 && addressSize === 16) || (codeSize !== 64 && addressSize === 64)) return misfit(1, source.column, `${source.mnemonic} does not exist in ${codeSize}-bit code`);
  if (prefixes.lock && !row.lock) return misfit(3, source.column, `LOCK does not go with ${row.syntax}`);
  if (prefixes.lock && typeof building.rm !== 'object') return misfit(3, source.column, 'LOCK needs a memory destination');
  const form: InstanceForm = {
    codeSize, operandSize: size, addressSize, override: building.override, lock: prefixes.lock, rep: prefixes.rep, rex: building.rex ? 0x40 : 0,
    ...(building.reg === undefined ? {} : { reg: building.reg }), ...(building.rm === undefined ? {} : { rm: building.rm }), ...(building.moffs === undefined ? {} : { moffs: building.moffs }),
  };
  const immediateBytes = encoding.immediates.includes('ib') || encoding.immediates.includes('cb') ? 1 : encoding.immediates.length ? 4 : 0;
  return { row, form, building, immediateBytes, size };
}

/** LAR, LSL and MOV to a segment register read 16 bits of a register of any size. */
const takesWiderSource = /^(LAR|LSL|MOV) .*, r\/m16$/;

function fitOperand(operand: Operand, given: SourceOperand, row: Row, size: Size, source: SourceInstruction, building: Building, values: (operand: SourceOperand & { kind: 'immediate' }) => Evaluated, memory: (operand: SourceOperand & { kind: 'memory' }) => ResolvedMemory, scope: Scope, token: string): Misfit | null {
  const bits = operandBits(operand, size);
  const sized = operand.width === 'v' || operand.width === 'y' || operand.width === 'z';
  if (given.kind === 'register') {
    const { register } = given;
    const { number } = register;
    if (operand.kind === 'sreg' || operand.kind === 'cr' || operand.kind === 'dr') {
      if (register.kind !== operand.kind) return noMatch;
      if (operand.kind === 'sreg' && operand.fixed !== undefined) return operand.fixed === number ? null : noMatch;
      if (number > 7 && source.codeSize !== 64) return misfit(1, given.column, `${register.name} exists only in 64-bit code`);
      building.reg = number;
      return null;
    }
    if (operand.kind === 'xmm' || operand.kind === 'xmmrm' || operand.kind === 'xmmreg') {
      if (register.kind !== 'xmm') return noMatch;
      if (number > 7 && source.codeSize !== 64) return misfit(1, given.column, `${register.name} exists only in 64-bit code`);
      if (operand.kind === 'xmm') building.reg = number;
      else building.rm = number;
      return null;
    }
    if (register.kind !== 'gpr') return noMatch;
    const wider = operand.kind === 'rm' && takesWiderSource.test(row.syntax) && register.bits > 8;
    if (register.bits !== bits && !wider) return noMatch;
    if ((number > 7 || register.bits === 64 || register.byte === 'rex') && source.codeSize !== 64) return misfit(1, given.column, `${register.name} exists only in 64-bit code`);
    if (operand.kind === 'fixed') {
      if (number !== operand.fixed || register.byte === 'high') return noMatch;
    } else if (operand.kind === 'reg') {
      if (row.encoding.plusRegister) building.rm = number;
      else building.reg = number;
    } else if (operand.kind === 'rm' || operand.kind === 'rmreg') building.rm = number;
    else return noMatch;
    if (register.byte === 'rex') building.rex = true;
    if (register.byte === 'high') building.high = true;
    if (sized) building.pinned = true;
    return null;
  }
  if (given.kind === 'memory') {
    if (!/^(rm|mem|moffs|xmmrm)$/.test(operand.kind)) return noMatch;
    if (branchRow(row) && farMemory(row) !== given.far) return noMatch;
    let width = given.size;
    const bits = memoryBits(row, operand, size);
    const sized = 'vyz'.includes(operand.width) && !fixedInMemory(row, operand);
    if (width === 0) {
      // MOV [x], dword 5: the size stands at the immediate.
      const immediate = source.operands.find((other) => other.kind === 'immediate');
      if (immediate && immediate.size && !immediate.strict && !row.operands.some((other) => other.kind === 'imm' && other.width === 'b' && operand.width !== 'b')) width = immediate.size;
    }
    if (farMemory(row)) {
      if (width && width !== size) return noMatch;
      if (width) building.pinned = true;
    } else if (width && bits) {
      if (width !== bits) return noMatch;
      if (sized) building.pinned = true;
    } else if (bits) building.impliedWidth = bits;
    const resolved = memory(given);
    if (given.segment >= 0) building.override = given.segment;
    if (operand.kind === 'moffs') {
      if (!resolved.direct) return noMatch;
      // In 64-bit code a moffs has 8 bytes: only on request or where 32 signed bits do not reach.
      const reaches = resolved.value.unknown || resolved.value.value === BigInt.asIntN(32, resolved.value.value);
      if (resolved.addressSize === 64 && given.displacementSize !== 64 && reaches) return noMatch;
      building.moffs = resolved.value.value;
      building.addressSize = resolved.addressSize;
      return null;
    }
    if (given.displacementSize === 64 && resolved.direct && source.codeSize === 64) return noMatch;
    if (resolved.addressSize === 64 && resolved.form.base !== 16 && resolved.value.value !== BigInt.asIntN(32, resolved.value.value)) return misfit(4, given.column, 'expected an address or displacement that fits 32 signed bits');
    building.rm = resolved.form;
    building.memory = resolved;
    building.addressSize = resolved.addressSize;
    return null;
  }
  if (given.kind === 'far') {
    if (operand.kind !== 'far') return noMatch;
    if (given.size && given.size !== size) return noMatch;
    if (given.size) building.pinned = true;
    const selector = evaluate(given.selector, scope);
    const offset = evaluate(given.offset, scope);
    if (!fitsUnsignedOrSigned(selector.value, 16)) return misfit(4, given.column, 'expected a selector of 16 bits');
    if (!fitsUnsignedOrSigned(offset.value, operandBits(operand, size))) return misfit(4, given.column, `expected an offset of ${operandBits(operand, size)} bits`);
    building.immediates.push(offset.value, selector.value);
    return null;
  }
  return fitImmediate(operand, given, row, size, source, building, values(given), token);
}

function fitImmediate(operand: Operand, given: SourceOperand & { kind: 'immediate' }, row: Row, size: Size, source: SourceInstruction, building: Building, value: Evaluated, token: string): Misfit | null {
  if (value.registers.size) return misfit(4, given.column, 'expected an immediate without registers');
  if (operand.kind === 'one') return !given.size && !value.unknown && value.labels === 0 && value.value === 1n ? null : noMatch;
  if (operand.kind === 'rel') {
    const bits = operand.width === 'b' ? 8 : size === 16 ? 16 : 32;
    if (given.distance === 'short' && bits !== 8) return noMatch;
    // LOOP and JCXZ have only the short form: NEAR asks nothing of them.
    if (given.distance === 'near' && bits === 8 && row.mnemonic.startsWith('J') && !row.mnemonic.endsWith('CXZ')) return noMatch;
    if (given.size) {
      if (given.size !== size || source.codeSize === 64) return noMatch;
      building.pinned = true;
    }
    building.branch = { at: building.immediates.length, bits, column: given.column, unknown: value.unknown };
    building.immediates.push(value.value);
    return null;
  }
  if (operand.kind !== 'imm' || given.distance) return noMatch;
  const bits = operandBits(operand, size);
  const wide = token === 'iz' || token === 'iv' || token === 'id';
  // Size of the operation the immediate takes part in: that of the first operand, or the stack's.
  const operation = row.operands[0] === operand ? size : operandBits(row.operands[0]!, size);
  const encoded = token === 'ib' ? 8 : token === 'iw' ? 16 : token === 'iv' ? size : size === 16 ? 16 : 32;
  if (given.size) {
    const alone = row.operands.length === 1;
    if (given.strict ? given.size !== encoded : given.size !== encoded && given.size !== operation && !(alone && given.size === 32 && size === 64)) return noMatch;
    // PUSH WORD 5 has a 16-bit operand; PUSH BYTE 5 is the short form of the default.
    if (alone && wide && given.size !== 8 && given.size !== size && !(given.size === 32 && size === 64)) return noMatch;
    if (alone && (wide || operand.signed) && given.size === 16) {
      if (size !== 16) return noMatch;
      building.pinned = true;
    } else if (alone && given.size === size) building.pinned = true;
  }
  if (operand.signed && operand.width === 'b') {
    if (given.strict && given.size !== 8) return noMatch;
    if (!value.unknown) {
      const wrapped = BigInt.asIntN(operation, value.value);
      const insideOperation = operation === 64 ? true : fitsUnsignedOrSigned(value.value, operation);
      if (value.labels !== 0 || wrapped !== BigInt.asIntN(8, wrapped) || !insideOperation) {
        return given.size === 8 ? misfit(4, given.column, `expected a value from -128 to 127, found ${value.value}`) : noMatch;
      }
    }
    building.immediates.push(value.value);
    return null;
  }
  if (wide && operation === 64 && encoded === 32) {
    // MOV with an address takes all 64 bits, as in NASM: the value may move.
    if (row.mnemonic === 'MOV' && value.labels !== 0 && given.size !== 32) return row.operands[0]!.kind === 'rm' && typeof building.rm === 'object' ? fits32(given, value, building) : noMatch;
    return fits32(given, value, building);
  }
  if (!value.unknown && bits < 64 && !fitsUnsignedOrSigned(value.value, bits)) return misfit(3, given.column, `expected a value of ${bits} bits, found ${value.value}`);
  building.immediates.push(value.value);
  return null;
}

function fits32(given: SourceOperand, value: Evaluated, building: Building): Misfit | null {
  if (!value.unknown && value.value !== BigInt.asIntN(32, value.value)) return misfit(3, given.column, `expected a value that fits 32 signed bits, found ${value.value}`);
  building.immediates.push(value.value);
  return null;
}

/** Encodes a candidate, making branch targets and RIP-relative addresses relative to its own end. */
function settle(candidate: Candidate, displacementSize: 0 | 8 | 16 | 32 | undefined, address: bigint): Uint8Array | LineError {
  const { row, building } = candidate;
  let form: InstanceForm = { ...candidate.form, immediates: building.immediates };
  const { rm } = building;
  if (typeof rm === 'object' && displacementSize !== undefined) {
    if (displacementSize === 8 && rm.displacement !== 0 && BigInt(rm.displacement) !== BigInt.asIntN(8, BigInt(rm.displacement))) return new LineError(building.memory!.column, 'expected a displacement from -128 to 127');
    form = { ...form, rm: { ...rm, displacementSize } };
  }
  const relative = typeof rm === 'object' && rm.base === 16;
  if (!building.branch && !relative) return encodeInstance(row, form);
  const { branch } = building;
  const immediates = [...building.immediates];
  if (branch) immediates[branch.at] = 0n;
  const length = BigInt(encodeInstance(row, { ...form, immediates, ...(relative ? { rm: { ...rm, displacement: 0 } } : {}) }).length);
  const end = address + length;
  if (branch) {
    let distance = building.immediates[branch.at]! - end;
    // Branches wrap at the operand size.
    if (candidate.size !== 64) distance = BigInt.asIntN(candidate.size, distance);
    if (branch.unknown) distance = 0n;
    if (distance !== BigInt.asIntN(branch.bits, distance)) return new LineError(branch.column, `expected a target within ${branch.bits === 8 ? '-128 to 127' : '2 GiB'} of the next instruction, found a distance of ${distance}`);
    immediates[branch.at] = distance;
  }
  if (relative) {
    const displacement = building.memory!.value.unknown ? 0n : BigInt.asIntN(building.memory!.addressSize, BigInt(rm.displacement) - end);
    if (displacement !== BigInt.asIntN(32, displacement)) return new LineError(building.memory!.column, 'expected an address within 2 GiB of the next instruction');
    form = { ...form, rm: { ...rm, displacement } };
  }
  return encodeInstance(row, { ...form, immediates });
}
