import type { Instruction } from './instruction.ts';
import type { Row } from './row.ts';
import { SegmentIndex } from './state.ts';

/** Results of decoding that are not an instruction. */
export const DecodeError = {
  /** More bytes are needed than were given. */
  Short: 1,
  /** No row, or a prefix the row forbids: #UD. */
  Invalid: 2,
  /** Longer than 15 bytes: #GP(0). */
  TooLong: 3,
} as const;
export type DecodeError = (typeof DecodeError)[keyof typeof DecodeError];

/** Modes in which a memory operand needs a displacement of 16, 32 bits … (SDM "Addressing-Mode Encoding"). */
const base16 = [[3, 6], [3, 7], [5, 6], [5, 7], [6, -1], [7, -1], [5, -1], [3, -1]] as const;

interface Candidates { readonly hasModrm: boolean; readonly rows: readonly Row[] }

/** How selective a row is: more selective rows are tried first. */
function rank(row: Row): number {
  const e = row.encoding;
  const prefix = e.prefix === 'F2' || e.prefix === 'F3' ? 8 : e.prefix === '66' ? 6 : e.prefix === 'NP' ? 4 : 0;
  return prefix * 4 + (e.modrmByte >= 0 ? 3 : 0) + (e.operandSize || e.addressSize ? 1 : 0) + (e.plusRegister ? -1 : 0);
}

/** Decodes by reading the rows; one instance per instruction set and feature set. */
export class Decoder {
  private readonly table: (Candidates | null)[] = new Array<Candidates | null>(4 * 256).fill(null);

  /** @param features rows whose feature is missing do not exist (a plainer row may take their place) */
  constructor(rows: readonly Row[], features: ReadonlySet<string>) {
    const lists = new Map<number, Row[]>();
    for (const row of rows) {
      if (row.feature !== undefined && !features.has(row.feature)) continue;
      const span = row.encoding.plusRegister ? 8 : 1;
      for (let i = 0; i < span; i++) {
        const key = row.encoding.map * 256 + row.encoding.opcode + i;
        const list = lists.get(key);
        if (list) list.push(row);
        else lists.set(key, [row]);
      }
    }
    for (const [key, list] of lists) {
      const modrm = list.some((row) => row.encoding.modrm !== null);
      if (list.some((row) => (row.encoding.modrm !== null) !== modrm)) {
        throw new Error(`rows disagree whether opcode ${key.toString(16)} has a ModRM byte: ${list.map((row) => row.syntax).join('; ')}`);
      }
      this.table[key] = { hasModrm: modrm, rows: list.map((row, i) => [row, i] as const).sort((a, b) => rank(b[0]) - rank(a[0]) || a[1] - b[1]).map(([row]) => row) };
    }
  }

  /**
   * Decodes the instruction at bytes[at]; `available` bytes may be read (at most 15 are).
   * Nothing is read from memory here, so a result of Short tells the caller to fetch the next page.
   */
  decode(bytes: Uint8Array, at: number, available: number, codeSize: 16 | 32 | 64): Instruction | DecodeError {
    const start = at;
    const end = at + Math.min(available, 15);
    const outOfBytes = available < 15 ? DecodeError.Short : DecodeError.TooLong;
    let operand66 = false;
    let address67 = false;
    let rep = 0;
    let lock = false;
    let override = -1;
    let rex = 0;
    let byte = 0;
    for (;;) {
      if (at >= end) return outOfBytes;
      byte = bytes[at++]!;
      if (codeSize === 64 && (byte & 0xf0) === 0x40) { rex = byte; continue; }
      let prefix = true;
      switch (byte) {
        case 0x66: operand66 = true; break;
        case 0x67: address67 = true; break;
        case 0xf2: case 0xf3: rep = byte; break;
        case 0xf0: lock = true; break;
        case 0x26: if (codeSize !== 64) override = SegmentIndex.ES; break;
        case 0x2e: if (codeSize !== 64) override = SegmentIndex.CS; break;
        case 0x36: if (codeSize !== 64) override = SegmentIndex.SS; break;
        case 0x3e: if (codeSize !== 64) override = SegmentIndex.DS; break;
        case 0x64: override = SegmentIndex.FS; break;
        case 0x65: override = SegmentIndex.GS; break;
        default: prefix = false;
      }
      if (!prefix) break;
      rex = 0; // a REX prefix counts only directly before the opcode
    }
    let map = 0;
    if (byte === 0x0f) {
      if (at >= end) return outOfBytes;
      byte = bytes[at++]!;
      map = 1;
      if (byte === 0x38 || byte === 0x3a) {
        map = byte === 0x38 ? 2 : 3;
        if (at >= end) return outOfBytes;
        byte = bytes[at++]!;
      }
    }
    const candidates = this.table[map * 256 + byte]!;
    if (!candidates) return DecodeError.Invalid;
    let modrm = -1;
    if (candidates.hasModrm) {
      if (at >= end) return outOfBytes;
      modrm = bytes[at++]!;
    }
    const addressSize: 16 | 32 | 64 = codeSize === 64 ? (address67 ? 32 : 64) : (codeSize === 32) !== address67 ? 32 : 16;
    let row: Row | null = null;
    let operandSize: 16 | 32 | 64 = 32;
    for (const candidate of candidates.rows) {
      const e = candidate.encoding;
      if (candidate.mode !== undefined && (candidate.mode === 'only64') !== (codeSize === 64)) continue;
      if (e.prefix === 'NP') { if (operand66 || rep) continue; }
      else if (e.prefix === '66') { if (!operand66 || rep) continue; }
      else if (e.prefix === 'F2') { if (rep !== 0xf2) continue; }
      else if (e.prefix === 'F3') { if (rep !== 0xf3) continue; }
      if (codeSize === 64) {
        operandSize = rex & 8 ? 64 : candidate.size === 'f64' ? 64 : candidate.size === 'd64' ? (operand66 ? 16 : 64) : operand66 ? 16 : 32;
      } else operandSize = (codeSize === 32) !== operand66 ? 32 : 16;
      if (e.operandSize !== 0 && e.operandSize !== operandSize) continue;
      if (e.addressSize !== 0 && e.addressSize !== addressSize) continue;
      if (modrm >= 0) {
        if (e.modrmByte >= 0) { if (e.modrmByte !== modrm) continue; }
        else {
          if (typeof e.modrm === 'number' && ((modrm >> 3) & 7) !== e.modrm) continue;
          if (!modAllowed(candidate, modrm >= 0xc0)) continue;
        }
      } else if (rex & 1 && !e.plusRegister && candidates.rows.some((other) => other.encoding.plusRegister)) continue; // 41 90 is XCHG R8, RAX
      row = candidate;
      break;
    }
    if (row === null) return DecodeError.Invalid;

    const control = isControl(row);
    let memory = modrm >= 0 && modrm < 0xc0 && row.encoding.modrmByte < 0 && !control;
    let base = -1;
    let index = -1;
    let scale = 0;
    let displacement = 0;
    let displacementHigh = 0;
    let defaultSegment: number = SegmentIndex.DS;
    if (memory) {
      const mod = modrm >> 6;
      const rm = modrm & 7;
      let size = mod === 1 ? 1 : mod === 2 ? (addressSize === 16 ? 2 : 4) : 0;
      if (addressSize === 16) {
        if (mod === 0 && rm === 6) size = 2;
        else {
          base = base16[rm]![0];
          index = base16[rm]![1];
          if (base === 5) defaultSegment = SegmentIndex.SS;
        }
      } else {
        if (rm === 4) {
          if (at >= end) return outOfBytes;
          const sib = bytes[at++]!;
          scale = sib >> 6;
          index = ((sib >> 3) & 7) | (rex & 2 ? 8 : 0);
          if (index === 4) index = -1;
          base = (sib & 7) | (rex & 1 ? 8 : 0);
          if ((sib & 7) === 5 && mod === 0) { base = -1; size = 4; }
        } else if (rm === 5 && mod === 0) {
          size = 4;
          base = codeSize === 64 ? 16 : -1;
        } else base = rm | (rex & 1 ? 8 : 0);
        if (base === 4 || base === 5) defaultSegment = SegmentIndex.SS;
      }
      if (at + size > end) return outOfBytes;
      if (size === 1) displacement = (bytes[at]! << 24) >> 24;
      else if (size === 2) displacement = ((bytes[at]! | (bytes[at + 1]! << 8)) << 16) >> 16;
      else if (size === 4) displacement = bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
      at += size;
      displacementHigh = displacement >> 31;
    }
    let immediate = 0;
    let immediateHigh = 0;
    let immediate2 = 0;
    let count = 0;
    for (const kind of row.encoding.immediates) {
      let low = 0;
      let high = 0;
      let size = 0;
      switch (kind) {
        case 'ib': case 'cb':
          if (at + 1 > end) return outOfBytes;
          size = 1;
          low = bytes[at]!;
          // sign-extended where the row says so; a relative offset always is
          if (kind === 'cb' || signedImmediate(row)) { low = (low << 24) >> 24; high = low >> 31; }
          break;
        case 'iw':
          if (at + 2 > end) return outOfBytes;
          size = 2;
          low = wordAt(bytes, at);
          break;
        case 'iz': case 'cz': case 'id':
          if (operandSize === 16 && kind !== 'id') {
            if (at + 2 > end) return outOfBytes;
            size = 2;
            low = (wordAt(bytes, at) << 16) >> 16;
          } else {
            if (at + 4 > end) return outOfBytes;
            size = 4;
            low = dwordAt(bytes, at);
          }
          high = low >> 31;
          break;
        case 'iv':
          size = operandSize / 8;
          if (at + size > end) return outOfBytes;
          if (size === 2) low = wordAt(bytes, at);
          else low = dwordAt(bytes, at);
          if (size === 8) { at += 4; high = dwordAt(bytes, at); at -= 4; }
          break;
        case 'moffs': {
          size = addressSize / 8;
          if (at + size > end) return outOfBytes;
          displacement = size === 2 ? wordAt(bytes, at) : dwordAt(bytes, at);
          if (size === 8) { at += 4; displacementHigh = dwordAt(bytes, at); at -= 4; }
          memory = true;
          at += size;
          continue;
        }
        case 'far':
          size = operandSize === 16 ? 2 : 4;
          if (at + size + 2 > end) return outOfBytes;
          low = size === 2 ? wordAt(bytes, at) : dwordAt(bytes, at);
          at += size;
          immediate2 = wordAt(bytes, at);
          size = 2;
          break;
        default: throw new Error(`immediate '${kind}' of row ${row.syntax} is not decoded`);
      }
      at += size;
      if (count++ === 0) { immediate = low; immediateHigh = high; }
      else immediate2 = low;
    }
    // LOCK: only with a memory destination of a row that allows it (SDM "LOCK—Assert LOCK# Signal Prefix")
    if (lock && !(row.lock && memory)) return DecodeError.Invalid;
    return {
      row, length: at - start, codeSize, operandSize, addressSize, rex, lock, rep, override,
      segment: override >= 0 ? override : defaultSegment,
      modrm, reg: modrm >= 0 ? ((modrm >> 3) & 7) | (rex & 4 ? 8 : 0) : 0,
      rm: modrm >= 0 ? (modrm & 7) | (rex & 1 ? 8 : 0) : row.encoding.plusRegister ? (byte & 7) | (rex & 1 ? 8 : 0) : 0,
      memory, base, index, scale, displacement, displacementHigh, immediate, immediateHigh, immediate2,
    };
  }
}

// not closures inside decode: they would be made anew for every instruction
const wordAt = (bytes: Uint8Array, at: number): number => bytes[at]! | (bytes[at + 1]! << 8);
const dwordAt = (bytes: Uint8Array, at: number): number => bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);

/** MOV to and from control and debug registers ignores ModRM.mod. */
function isControl(row: Row): boolean {
  return row.operands.some((o) => o.kind === 'cr' || o.kind === 'dr');
}

function modAllowed(row: Row, register: boolean): boolean {
  if (isControl(row)) return true;
  for (const operand of row.operands) {
    if (operand.kind === 'mem' && register) return false;
    if ((operand.kind === 'rmreg' || operand.kind === 'xmmreg') && !register) return false;
  }
  return true;
}

function signedImmediate(row: Row): boolean {
  return row.operands.some((o) => o.kind === 'imm' && o.signed);
}
