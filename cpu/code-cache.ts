import type { Cpu } from './cpu.ts';
import { DecodeError, type Decoder } from './decode.ts';
import { Record, type Variant } from './emit.ts';
import { Vector } from './fault.ts';
import { canonicalSize, Pseudo, variantKey, type buildAliases } from './handlers.ts';
import type { Instruction } from './instruction.ts';
import { GRANULE_SHIFT, type Memory } from './memory.ts';
import { AccessKind } from './mmu.ts';
import { codeSizeOf, Mode } from './mode.ts';
import type { Row } from './row.ts';
import { S, SegmentIndex } from './state.ts';
import { operandBits, traitsOf } from './traits.ts';

/** An instruction slot that does not decode: the fault it raises. */
export interface BadInstruction { readonly vector: number; readonly error: number; readonly bytes: string }
export type Slot = Instruction | BadInstruction | 'firmware';

/** One physical page decoded for one mode. */
interface CodePage {
  readonly physicalPage: number;
  readonly mode: number;
  readonly key: number;
  /** Guarded pages: the offset of their only record, or -1. */
  only: number;
  /** Host address of 4096 record addresses. */
  readonly map: number;
  live: boolean;
}

const MAP_BYTES = 4096 * 4;
/** Instructions decoded ahead in one go. */
const RUN = 48;

/** Rows after which decoding straight on makes no sense. */
function endsRun(row: Row): boolean {
  if (row.semantics) {
    const traits = traitsOf(row);
    return traits.jump ? row.cost !== 'call' : traits.branch && row.mnemonic === 'JMP';
  }
  return row.cost === 'far' || row.cost === 'iret' || row.cost === 'sysret' || row.cost === 'sysexit' || /^(UD|JMP|RET|HLT)/.test(row.mnemonic);
}

/** Where handlers come from: hot ones by key, others generated on demand. */
export interface HandlerSource {
  handler(variant: Variant, key: string): number;
  readonly system: number;
}

/** POP to memory addresses with the stack pointer after the pop (SDM "POP—Pop a Value From the Stack"). */
export function popDisplacement(insn: Instruction): number {
  return insn.memory && insn.base === 4 && insn.row.mnemonic === 'POP' ? insn.operandSize / 8 : 0;
}

/** Decoded code: pages, records, and what must be forgotten when memory changes. */
export class CodeCache {
  /** Decoded instructions that TypeScript needs (system rows, faults), by the number in their record. */
  readonly slots: Slot[] = [];
  /** Second physical page of straddling instructions, by slot number. */
  private readonly straddles: { second: number; linearOffset: number }[] = [];
  private readonly cpu: Cpu;
  private readonly memory: Memory;
  private readonly decoder: Decoder;
  private readonly handlers: HandlerSource;
  private readonly aliases: ReturnType<typeof buildAliases>;
  private readonly pages = new Map<number, CodePage>();
  private readonly byPhysical = new Map<number, Set<CodePage>>();
  /** Pages holding the first half of an instruction whose second half lies in the key page. */
  private readonly straddlers = new Map<number, Set<number>>();
  private top: number;
  private readonly straddleBytes = new Uint8Array(32);
  readonly rowCosts: Int32Array;

  constructor(cpu: Cpu, decoder: Decoder, handlers: HandlerSource, aliases: ReturnType<typeof buildAliases>, rowCosts: Int32Array) {
    this.cpu = cpu;
    this.memory = cpu.memory;
    this.decoder = decoder;
    this.handlers = handlers;
    this.aliases = aliases;
    this.rowCosts = rowCosts;
    this.top = this.memory.arenaBase;
  }

  /**
   * Offset map of a physical page for a mode; made if needed. A guarded page holds the code segment's end and never
   * more than one record, so that every instruction in it is checked against the limit.
   */
  page(physicalPage: number, mode: number, guarded = false): CodePage {
    const key = physicalPage + (guarded ? -1 - mode : mode) * 0x200000;
    let page = this.pages.get(key);
    if (page) {
      if (page.only >= 0) this.memory.u32[(page.map >>> 2) + page.only] = 0;
      page.only = -1;
      return page;
    }
    const map = this.allocate(MAP_BYTES);
    this.memory.u8.fill(0, map, map + MAP_BYTES);
    page = { physicalPage, mode, key, only: -1, map, live: true };
    this.pages.set(key, page);
    let set = this.byPhysical.get(physicalPage);
    if (!set) {
      this.byPhysical.set(physicalPage, (set = new Set()));
      this.cpu.mmu.codePageChanged(physicalPage, true);
    }
    set.add(page);
    return page;
  }

  private allocate(bytes: number): number {
    if (this.top + bytes > this.memory.arenaBase + this.memory.arenaSize) throw new Error('the arena of decoded code is full; callers must make room first');
    const at = this.top;
    this.top += bytes;
    return at;
  }
  /** Forgets everything if a page and a run of records might not fit any more. */
  makeRoom(): boolean {
    if (this.top + MAP_BYTES + 4096 + (RUN + 2) * 3 * Record.size <= this.memory.arenaBase + this.memory.arenaSize) return false;
    this.flush();
    return true;
  }

  flush(): void {
    for (const page of this.pages.values()) this.cpu.mmu.dropExecute(page.map);
    for (const physicalPage of this.byPhysical.keys()) this.cpu.mmu.codePageChanged(physicalPage, false);
    this.pages.clear();
    this.byPhysical.clear();
    this.slots.length = 0;
    this.straddles.length = 0;
    this.straddlers.clear();
    this.memory.u8.fill(0, this.memory.granuleBase, this.memory.granuleBase + this.memory.granuleSize);
    this.top = this.memory.arenaBase;
    this.cpu.set32(S.codePage, 0);
  }

  /** Drops the decoded code of a physical page. Records stay readable until the arena is reused. */
  dropPhysical(physicalPage: number): void {
    const set = this.byPhysical.get(physicalPage);
    if (!set) return;
    for (const page of set) {
      page.live = false;
      this.pages.delete(page.key);
      this.cpu.mmu.dropExecute(page.map);
    }
    this.byPhysical.delete(physicalPage);
    const first = (physicalPage << (12 - GRANULE_SHIFT)) >>> 3;
    for (let i = 0; i < 4096 >> GRANULE_SHIFT >> 3; i++) this.memory.u8[this.memory.granuleBase + first + i] = 0;
    this.cpu.mmu.codePageChanged(physicalPage, false);
    // instructions that end in this page lie in others, and nothing watches their second halves any more
    const firsts = this.straddlers.get(physicalPage);
    if (firsts) {
      this.straddlers.delete(physicalPage);
      for (const first of firsts) this.dropPhysical(first);
    }
  }

  /** Bytes of RAM changed. True when decoded code was there. */
  written(physical: number, size: number): boolean {
    let hit = false;
    const last = (physical + size - 1) >>> GRANULE_SHIFT;
    for (let g = physical >>> GRANULE_SHIFT; g <= last; g++) {
      if ((this.memory.u8[this.memory.granuleBase + (g >>> 3)]! >> (g & 7)) & 1) {
        const physicalPage = g >>> (12 - GRANULE_SHIFT);
        this.dropPhysical(physicalPage);
        hit = true;
      }
    }
    return hit;
  }
  /** RAM holds decoded code somewhere in this granule range. */
  hasCode(physical: number, size: number): boolean {
    const last = (physical + size - 1) >>> GRANULE_SHIFT;
    for (let g = physical >>> GRANULE_SHIFT; g <= last; g++) if ((this.memory.u8[this.memory.granuleBase + (g >>> 3)]! >> (g & 7)) & 1) return true;
    return false;
  }

  private mark(physical: number, length: number): void {
    const last = (physical + length - 1) >>> GRANULE_SHIFT;
    for (let g = physical >>> GRANULE_SHIFT; g <= last; g++) this.memory.u8[this.memory.granuleBase + (g >>> 3)]! |= 1 << (g & 7);
  }

  /**
   * Decodes from an offset of a page on, until control leaves, the page ends or decoded code is met. Returns the
   * first record. `linearPage` is used only for an instruction that crosses the page end.
   * Returns -1 after recording a fault of fetching the second page. In a guarded page `allowed` is the number of bytes
   * from there to the code segment's limit, and only one instruction is decoded.
   */
  decode(page: CodePage, offset: number, linearPage: number, allowed = Infinity): number {
    const run = allowed === Infinity ? RUN : 1;
    if (run === 1) page.only = offset;
    const { u32, u8, ramBase } = this.memory;
    const mode = page.mode;
    const codeSize = codeSizeOf(mode);
    const start = ramBase + page.physicalPage * 4096;
    let first = 0;
    let at = offset;
    for (let n = 0; ; n++) {
      const mapAt = (page.map + at * 4) >>> 2;
      if (at < 4096 && u32[mapAt] !== 0) {
        if (first === 0) return u32[mapAt]!;
        this.pseudo(Pseudo.Goto, at, u32[mapAt]!);
        return first;
      }
      if (at >= 4096 || n === run) {
        // the next page, or an undecoded continuation: looked up when reached
        this.pageEnd(at, codeSize);
        return first;
      }
      if (this.cpu.firmware !== null && this.cpu.firmware.page === page.physicalPage) {
        const record = this.slotRecord('firmware', at, 1, 0);
        u32[mapAt] = record;
        return record;
      }
      const decoded = this.decoder.decode(u8, start + at, Math.min(4096 - at, allowed), codeSize);
      if (decoded === DecodeError.Short && allowed > 4096 - at) {
        if (first !== 0) { this.pageEnd(at, codeSize); return first; }
        return this.straddle(page, at, linearPage, allowed);
      }
      const record = typeof decoded === 'number' ? this.bad(decoded, start + at, at, codeSize) : this.put(decoded, at, mode);
      if (first === 0) first = record;
      u32[mapAt] = record;
      if (typeof decoded === 'number') {
        this.mark(page.physicalPage * 4096 + at, Math.min(15, 4096 - at));
        return first;
      }
      this.mark(page.physicalPage * 4096 + at, decoded.length);
      at += decoded.length;
      if (endsRun(decoded.row)) return first;
    }
  }

  /** An instruction whose bytes cross into the next page. */
  private straddle(page: CodePage, at: number, linearPage: number, allowed: number): number {
    const cpu = this.cpu;
    const { u8, u32, ramBase } = this.memory;
    const codeSize = codeSizeOf(page.mode);
    const secondLinear = cpu.wrapLinear(linearPage + 4096);
    const second = cpu.mmu.translate(secondLinear, AccessKind.Execute, false);
    if (second < 0) return -1;
    const have = 4096 - at;
    const bytes = this.straddleBytes;
    bytes.fill(0);
    bytes.set(u8.subarray(ramBase + page.physicalPage * 4096 + at, ramBase + page.physicalPage * 4096 + 4096));
    for (let i = have; i < 16; i++) bytes[i] = cpu.readPhysical(second + i - have, 1);
    const decoded = this.decoder.decode(bytes, 0, Math.min(16, allowed), codeSize);
    const secondPage = Math.floor(second / 4096);
    const check = this.pseudo(Pseudo.Straddle, at, 0);
    u32[(check + Record.instruction) >>> 2] = this.straddles.length;
    this.straddles.push({ second: secondPage, linearOffset: at });
    if (typeof decoded === 'number') this.bad(decoded, -1, at, codeSize);
    else {
      this.put(decoded, at, page.mode);
      this.pageEnd(at + decoded.length, codeSize);
    }
    u32[(page.map + at * 4) >>> 2] = check;
    this.mark(page.physicalPage * 4096 + at, have);
    if (second < this.memory.ramSize) {
      this.mark(second, typeof decoded === 'number' ? 15 - have : decoded.length - have);
      // stores to the second page must take the slow path too
      if (!this.byPhysical.has(secondPage)) {
        this.byPhysical.set(secondPage, new Set());
        cpu.mmu.codePageChanged(secondPage, true);
      }
      let firsts = this.straddlers.get(secondPage);
      if (!firsts) this.straddlers.set(secondPage, (firsts = new Set()));
      firsts.add(page.physicalPage);
    }
    return check;
  }
  /** Physical page that a straddle record's second half was decoded from. */
  straddlePage(record: number): number {
    return this.straddles[this.memory.u32[(record + Record.instruction) >>> 2]!]!.second;
  }

  private newRecord(handler: number, offset: number): number {
    const record = this.allocate(Record.size);
    this.memory.u8.fill(0, record, record + Record.size);
    this.memory.u32[(record + Record.handler) >>> 2] = handler;
    this.memory.u32[(record + Record.offset) >>> 2] = offset;
    return record;
  }
  private pseudo(handler: number, offset: number, taken: number): number {
    const record = this.newRecord(handler, offset);
    this.memory.u32[(record + Record.taken) >>> 2] = taken;
    return record;
  }
  private pageEnd(offset: number, codeSize: number): void {
    const record = this.newRecord(Pseudo.PageEnd, offset);
    this.memory.i32[(record + Record.mask) >>> 2] = codeSize === 16 ? 0xffff : -1;
    this.memory.i32[(record + Record.mask + 4) >>> 2] = codeSize === 64 ? -1 : 0;
  }
  private slotRecord(slot: Slot, offset: number, length: number, cost: number): number {
    const record = this.newRecord(this.handlers.system, offset);
    this.memory.u32[(record + Record.instruction) >>> 2] = this.slots.length;
    this.memory.u32[(record + Record.cost) >>> 2] = cost;
    this.memory.u8[record + Record.length] = length;
    this.slots.push(slot);
    return record;
  }
  private bad(error: DecodeError, host: number, offset: number, codeSize: number): number {
    const from = host < 0 ? this.straddleBytes : this.memory.u8;
    const at = host < 0 ? 0 : host;
    let bytes = '';
    for (let i = 0; i < 8; i++) bytes += `${i ? ' ' : ''}${from[at + i]!.toString(16).padStart(2, '0')}`;
    void codeSize;
    // too long, or reaching beyond the code segment
    const protection = error !== DecodeError.Invalid;
    return this.slotRecord({ vector: protection ? Vector.GeneralProtection : Vector.InvalidOpcode, error: protection ? 0 : -1, bytes: protection ? '' : bytes }, offset, 0, 0);
  }

  /** State offset of a general register as this instruction names it with `bits` bits. */
  private gpr(insn: Instruction, n: number, bits: number): number {
    return bits === 8 && insn.rex === 0 && n >= 4 && n < 8 ? S.gpr + (n - 4) * 8 + 1 : S.gpr + n * 8;
  }

  /** Writes the record (and an address record before it where segments must be checked); returns the first. */
  private put(insn: Instruction, offset: number, mode: number): number {
    const cost = this.rowCosts[insn.row.id]!;
    if (insn.row.system) return this.slotRecord(insn, offset, insn.length, cost);
    if (insn.row.feature?.startsWith('SSE') && mode & (Mode.SseInvalid | Mode.SseUnavailable)) {
      return this.slotRecord({ vector: mode & Mode.SseInvalid ? Vector.InvalidOpcode : Vector.DeviceNotAvailable, error: -1, bytes: '' }, offset, 0, 0);
    }
    const { u16, u32, i32, u8 } = this.memory;
    let row = insn.row;
    let swap = false;
    let immediate: number | null = null;
    const alias = this.aliases.get(row.id)?.[insn.memory ? 'memory' : 'register'];
    if (alias) {
      row = alias.row;
      swap = alias.swap;
      immediate = alias.immediate;
    }
    const traits = traitsOf(row);
    const codeSize = insn.codeSize;
    const operandMemory = insn.memory && !traits.address && row.operands.some((o) => o.kind === 'rm' || o.kind === 'mem' || o.kind === 'moffs' || o.kind === 'xmmrm');
    const flatBit = insn.segment === SegmentIndex.DS ? Mode.FlatDs : insn.segment === SegmentIndex.SS ? Mode.FlatSs : insn.segment === SegmentIndex.ES ? Mode.FlatEs : 0;
    const flatSegment = codeSize === 64 || (mode & flatBit) !== 0;
    const usesOperandMemory = operandMemory && (traits.reads.size > 0 || traits.writes.size > 0) && row.mnemonic !== 'NOP';
    const prepared = usesOperandMemory && !flatSegment;
    const ownFlat = codeSize === 64 || (flatSegment && (mode & Mode.FlatEs) !== 0);
    const operandSize = canonicalSize(row, insn.operandSize);
    const next = offset + insn.length;
    const relative = traits.branch;
    const targetOffset = next + insn.immediate;
    const flatCode = (mode & Mode.FlatCs) !== 0;
    const inPage = relative && flatCode && targetOffset >= 0 && targetOffset < 4096 && (codeSize === 64 || insn.operandSize === 32);
    const variant: Variant = {
      row, operandSize, addressSize: insn.addressSize, codeSize, memory: insn.memory, prepared,
      stackBits: codeSize === 64 ? 64 : mode & Mode.BigStack ? 32 : 16,
      flatStack: codeSize === 64 || (mode & Mode.FlatSs) !== 0, flatCode, flatData: ownFlat, inPage, rep: row.rep ? insn.rep : 0,
    };
    const handler = this.handlers.handler(variant, variantKey(variant));
    let first = 0;
    if (prepared) {
      first = this.newRecord(Pseudo.Address, offset);
      this.putAddress(first, insn, false);
      const operand = row.operands.find((o) => o.kind === 'rm' || o.kind === 'mem' || o.kind === 'moffs' || o.kind === 'xmmrm')!;
      const index = row.operands.indexOf(operand);
      u8[first + Record.access] = (operandBits(operand, insn.operandSize) / 8) | (traits.writes.has(index) ? 0x80 : 0);
    }
    const record = this.newRecord(handler, offset);
    u8[record + Record.length] = insn.length;
    u32[(record + Record.cost) >>> 2] = cost;
    const fields = [insn.reg, insn.rm];
    if (swap) fields.reverse();
    row.operands.forEach((operand, i) => {
      const at = operand.kind === 'reg' || operand.kind === 'xmm' ? (row.encoding.plusRegister ? 1 : 0) : operand.kind === 'rm' || operand.kind === 'rmreg' || operand.kind === 'xmmrm' || operand.kind === 'xmmreg' ? 1 : -1;
      if (at < 0) return;
      const media = operand.kind === 'xmm' || operand.kind === 'xmmrm' || operand.kind === 'xmmreg';
      const bits = operandBits(operand, insn.operandSize);
      void i;
      u16[(record + (at === 0 ? Record.reg : Record.rm)) >>> 1] = media ? S.xmm + fields[at]! * 16 : this.gpr(insn, fields[at]!, bits);
    });
    this.putAddress(record, insn, true);
    if (relative) {
      const target = targetOffset;
      i32[(record + Record.immediate) >>> 2] = target | 0;
      i32[(record + Record.immediate + 4) >>> 2] = Math.floor(target / 4294967296) | 0;
      i32[(record + Record.mask) >>> 2] = insn.operandSize === 16 ? 0xffff : -1;
      i32[(record + Record.mask + 4) >>> 2] = codeSize === 64 && insn.operandSize === 64 ? -1 : 0;
      u32[(record + Record.target) >>> 2] = inPage ? target * 4 : 0;
    } else {
      i32[(record + Record.immediate) >>> 2] = immediate ?? insn.immediate;
      i32[(record + Record.immediate + 4) >>> 2] = immediate === null ? insn.immediateHigh : 0;
    }
    return first || record;
  }

  private putAddress(record: number, insn: Instruction, main: boolean): void {
    const { u16, i32, u8 } = this.memory;
    let displacement = insn.displacement;
    let high = insn.displacementHigh;
    const addend = popDisplacement(insn) + (insn.base === 16 ? (this.memory.u32[(record + Record.offset) >>> 2]! + insn.length) : 0);
    if (addend !== 0) {
      const sum = high * 4294967296 + (displacement >>> 0) + addend;
      displacement = sum | 0;
      high = Math.floor(sum / 4294967296) | 0;
    }
    u16[(record + Record.base) >>> 1] = insn.base === 16 ? S.pageRip : insn.base < 0 ? S.zero : S.gpr + insn.base * 8;
    u16[(record + Record.index) >>> 1] = insn.index < 0 ? S.zero : S.gpr + insn.index * 8;
    u8[record + Record.scale] = insn.scale;
    i32[(record + Record.displacement) >>> 2] = displacement;
    i32[(record + Record.displacement + 4) >>> 2] = high;
    i32[(record + Record.mask) >>> 2] = insn.addressSize === 16 ? 0xffff : -1;
    i32[(record + Record.mask + 4) >>> 2] = insn.addressSize === 64 ? -1 : 0;
    u8[record + Record.segment] = insn.segment;
    u16[(record + Record.segmentBase) >>> 1] = main && insn.codeSize === 64 && insn.segment >= SegmentIndex.FS ? this.cpu.segmentOffset(insn.segment) : S.zero;
  }
}
