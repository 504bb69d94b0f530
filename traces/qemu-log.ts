import { FormatError, shown } from './format-error.ts';

/** A segment register as QEMU dumps it; `flags` is the high word of a descriptor with base and limit bits meaningless. */
export interface QemuSegment {
  readonly selector: number;
  /** Signed 64-bit value as a number, exact for canonical addresses. */
  readonly base: number;
  /** In bytes (granularity applied). */
  readonly limit: number;
  readonly flags: number;
}

/** The part of a dump that seldom changes; equal ones are one object. */
export interface QemuSystemState {
  /** ES CS SS DS FS GS LDTR TR. */
  readonly segments: readonly QemuSegment[];
  readonly gdtBase: number;
  readonly gdtLimit: number;
  readonly idtBase: number;
  readonly idtLimit: number;
  readonly cr0: number;
  readonly cr2: bigint;
  readonly cr3: bigint;
  readonly cr4: number;
  /** DR0..DR3. */
  readonly dr: readonly bigint[];
  readonly dr6: number;
  readonly dr7: number;
  readonly efer: number;
}

/** One register dump (`-d cpu`, `-d int`). */
export interface QemuDump {
  /** Line it starts in, from 1. */
  readonly line: number;
  /** 64-bit form: sixteen registers of 64 bits; otherwise eight of 32. */
  readonly wide: boolean;
  /** In encoding order (RAX RCX RDX RBX RSP RBP RSI RDI R8 …). */
  readonly registers: readonly bigint[];
  readonly rip: bigint;
  readonly flags: number;
  readonly cpl: number;
  /** Interrupts are held back for one instruction (STI, MOV SS). */
  readonly inhibit: boolean;
  readonly smm: boolean;
  readonly system: QemuSystemState;
}

/** What happened, in the order of the log. */
export type QemuEntry =
  /** A block is about to run: state before it. */
  | { readonly kind: 'block'; readonly line: number; /** Linear address of the first instruction. */ readonly pc: bigint; readonly csBase: bigint; readonly dump: QemuDump | null }
  /** An exception or interrupt is delivered (`v=…`). */
  | { readonly kind: 'event'; readonly line: number; readonly vector: number; readonly error: number; /** INT n, INT3, INTO. */ readonly software: boolean; readonly ip: bigint }
  /** A hardware interrupt was acknowledged; its event follows. */
  | { readonly kind: 'interrupt'; readonly line: number; readonly vector: number }
  | { readonly kind: 'smm'; readonly line: number; readonly enter: boolean }
  /** Code as it was translated, once for every translation. */
  | { readonly kind: 'code'; readonly line: number; readonly instructions: readonly QemuInstruction[] };

export interface QemuInstruction { readonly pc: bigint; readonly bytes: readonly number[] }

/** A parsed log. */
export interface QemuLog {
  readonly entries: readonly QemuEntry[];
  /** Blocks that ran, and those of them with a dump. */
  readonly blocks: number;
  readonly dumps: number;
  /** Every block is one instruction (`-singlestep`): what the disassembler splits (a lone prefix) is not counted. */
  readonly singleStep: boolean;
  /** The log starts with the first instruction after reset: no -dfilter. */
  readonly fromReset: boolean;
  readonly lines: number;
  /** Lines that no rule knows, and the number of the first one (0: none). */
  readonly unknownLines: number;
  readonly firstUnknown: number;
  /** Dumps that were cut off. */
  readonly incomplete: number;
}

const segmentNames = ['ES', 'CS', 'SS', 'DS', 'FS', 'GS', 'LDT', 'TR'] as const;
const rows32 = [['EAX', 'EBX', 'ECX', 'EDX'], ['ESI', 'EDI', 'EBP', 'ESP']] as const;
const rows64 = [['RAX', 'RBX', 'RCX', 'RDX'], ['RSI', 'RDI', 'RBP', 'RSP'], ['R8', 'R9', 'R10', 'R11'], ['R12', 'R13', 'R14', 'R15']] as const;
const order = ['AX', 'CX', 'DX', 'BX', 'SP', 'BP', 'SI', 'DI'];
/** Encoding number of a register name. */
const numberOf = (name: string): number => (/^R\d/.test(name) ? Number(name.slice(1)) : order.indexOf(name.slice(1)));
const registersIn = (rows: readonly (readonly string[])[]): readonly { readonly pattern: RegExp; readonly numbers: readonly number[] }[] =>
  rows.map((row) => ({ pattern: new RegExp(`^${row.map((name) => `${name.padEnd(3)}=([0-9a-f]+)`).join(' ')}\\s*$`), numbers: row.map(numberOf) }));
const forms = { narrow: registersIn(rows32), wide: registersIn(rows64) };

const statusLine = /^[ER]IP=([0-9a-f]+) [ER]FL=([0-9a-f]+) \[[^\]]*\] CPL=([0-3]) II=([01]) A20=[01] SMM=([01]) HLT=[01]\s*$/;
const segmentLine = /^(ES|CS|SS|DS|FS|GS|LDT|TR) ?=([0-9a-f]{4}) ([0-9a-f]+) ([0-9a-f]{8}) ([0-9a-f]{8})(?: .*)?$/;
const tableLine = /^(GDT|IDT)=\s+([0-9a-f]+) ([0-9a-f]{8})\s*$/;
const controlLine = /^CR0=([0-9a-f]+) CR2=([0-9a-f]+) CR3=([0-9a-f]+) CR4=([0-9a-f]+)\s*$/;
const debugLine = /^DR0=([0-9a-f]+) DR1=([0-9a-f]+) DR2=([0-9a-f]+) DR3=([0-9a-f]+)\s*$/;
const debugStatusLine = /^DR6=([0-9a-f]+) DR7=([0-9a-f]+)\s*$/;
const eferLine = /^EFER=([0-9a-f]+)\s*$/;
const traceLine = /^Trace \d+: 0x[0-9a-f]+ \[([0-9a-f]+)\/([0-9a-f]+)\/[0-9a-f]+(?:\/[0-9a-f]+)?\]/;
const codeLine = /^0x([0-9a-f]+): {2}((?:[0-9a-f]{2} )*[0-9a-f]{2})(\s+\S.*)?\s*$/;
const eventLine = /^ *\d+: v=([0-9a-f]{2}) e=([0-9a-f]{4,8}) i=([01]) cpl=[0-3] IP=[0-9a-f]{4}:([0-9a-f]+) pc=[0-9a-f]+ SP=[0-9a-f]{4}:[0-9a-f]+/;
const serviceLine = /^Servicing (?:hardware|virtual hardware) INT=0x([0-9a-f]+)/;
const dumpStart = /^(?:EAX|RAX)=/;
/** Lines that say nothing a replay needs. */
const silent = /^(?:check_exception |-{8,}|IN:|#|CCS=|FCW=|FPR\d|XMM\d|Opmask|YMM|OUT:|\s*$|CPU Reset |cpu_)/;

/** Bits 63:0 as a signed number. */
const signed = (digits: string): number => Number(BigInt.asIntN(64, BigInt(`0x${digits}`)));

class Parser {
  private readonly lines: string[];
  private at = 0;
  private readonly entries: QemuEntry[] = [];
  private unknownLines = 0;
  private firstUnknown = 0;
  private incomplete = 0;
  private blocks = 0;
  private dumps = 0;
  private system: QemuSystemState | null = null;
  private systemText = '';
  private translations = 0;
  private longTranslations = 0;

  constructor(text: string) { this.lines = text.split(/\r?\n/); }

  run(): QemuLog {
    const { lines, entries } = this;
    // what follows the last line end was cut off in the middle of a line
    if (lines.length > 1 && /^(?:Trace |0x)/.test(lines.at(-1)!)) {
      this.incomplete++;
      lines[lines.length - 1] = '';
    }
    while (this.at < lines.length) this.line(lines[this.at]!);
    if (this.blocks + this.dumps === 0) throw new FormatError('line 1', `expected a QEMU log (-d in_asm,exec,cpu,int,nochain -singlestep), found ${lines.length === 1 && lines[0] === '' ? 'an empty file' : `no block and no register dump in ${lines.length} lines; the first is ${shown(lines[0])}`}`);
    const first = entries.find((entry) => entry.kind === 'block');
    return {
      entries, blocks: this.blocks, dumps: this.dumps, singleStep: this.longTranslations * 20 < this.translations, fromReset: first?.kind === 'block' && BigInt.asUintN(32, first.pc) === 0xfffffff0n,
      lines: lines.length, unknownLines: this.unknownLines, firstUnknown: this.firstUnknown, incomplete: this.incomplete,
    };
  }

  private line(text: string): void {
    const number = this.at + 1;
    let m: RegExpExecArray | null;
    if (dumpStart.test(text)) {
      this.dump(); // one that belongs to no block (SMM, reset)
      return;
    }
    if (text.startsWith('0x')) {
      this.code();
      return;
    }
    this.at++;
    if (text.startsWith('Trace ')) {
      m = traceLine.exec(text);
      if (!m) throw new FormatError(`line ${number}`, `expected 'Trace CPU: POINTER [CS base/PC/flags/cflags]', found ${shown(text)}`);
      const dump = dumpStart.test(this.lines[this.at] ?? '') ? this.dump() : null;
      this.entries.push({ kind: 'block', line: number, csBase: BigInt(`0x${m[1]!}`), pc: BigInt(`0x${m[2]!}`), dump });
      this.blocks++;
      if (dump) this.dumps++;
    } else if ((m = eventLine.exec(text))) {
      this.entries.push({ kind: 'event', line: number, vector: parseInt(m[1]!, 16), error: parseInt(m[2]!, 16), software: m[3] === '1', ip: BigInt(`0x${m[4]!}`) });
      if (dumpStart.test(this.lines[this.at] ?? '')) this.dump();
    } else if ((m = serviceLine.exec(text))) this.entries.push({ kind: 'interrupt', line: number, vector: parseInt(m[1]!, 16) });
    else if (text.startsWith('SMM: ')) {
      this.entries.push({ kind: 'smm', line: number, enter: text.startsWith('SMM: enter') });
      if (dumpStart.test(this.lines[this.at] ?? '')) this.dump();
    } else if (text.startsWith('Stopped execution of TB chain before ')) this.withdraw();
    else if (!silent.test(text) && !this.partOfDump(text)) {
      this.unknownLines++;
      this.firstUnknown ||= number;
    }
  }

  /** The block announced last did not run after all: it is announced again later. */
  private withdraw(): void {
    for (let i = this.entries.length - 1; i >= 0; i--) {
      const entry = this.entries[i]!;
      if (entry.kind !== 'block') continue;
      this.entries.splice(i, 1);
      this.blocks--;
      if (entry.dump) this.dumps--;
      return;
    }
  }

  /** A line of a dump whose beginning is missing. */
  private partOfDump(text: string): boolean {
    if (!(statusLine.test(text) || segmentLine.test(text) || tableLine.test(text) || controlLine.test(text) || debugLine.test(text) || debugStatusLine.test(text) || eferLine.test(text))) return false;
    if (eferLine.test(text)) this.incomplete++;
    return true;
  }

  /** The instructions of an IN: block. */
  private code(): void {
    const line = this.at + 1;
    const list: { pc: bigint; bytes: number[] }[] = [];
    for (; this.at < this.lines.length; this.at++) {
      const text = this.lines[this.at]!;
      if (!text.startsWith('0x')) break;
      const m = codeLine.exec(text);
      if (!m) throw new FormatError(`line ${this.at + 1}`, `expected an address, two blanks and instruction bytes, found ${shown(text)}`);
      const bytes = m[2]!.split(' ').map((byte) => parseInt(byte, 16));
      const pc = BigInt(`0x${m[1]!}`);
      const last = list.at(-1);
      // the second line of a long instruction has no disassembly
      if (m[3] === undefined && last && last.bytes.length % 8 === 0 && pc === last.pc + BigInt(last.bytes.length)) last.bytes.push(...bytes);
      else list.push({ pc, bytes });
    }
    this.translations++;
    if (list.length > 1) this.longTranslations++;
    this.entries.push({ kind: 'code', line, instructions: list });
  }

  /** Reads the dump that starts here; null (and counted) when it is cut off. */
  private dump(): QemuDump | null {
    const start = this.at;
    const wide = this.lines[start]!.startsWith('RAX');
    const registers = new Array<bigint>(wide ? 16 : 8).fill(0n);
    const next = (pattern: RegExp, what: string): RegExpExecArray | null => {
      const text = this.lines[this.at];
      // a log may end, or be cut, anywhere
      if (text === undefined || (this.at === this.lines.length - 1)) return null;
      const m = pattern.exec(text);
      if (m) {
        this.at++;
        return m;
      }
      if (/^(?:Trace |-{8,}|IN:|Servicing|check_exception|SMM: | *\d+: v=|#|$)/.test(text)) return null;
      throw new FormatError(`line ${this.at + 1}`, `expected ${what} of the register dump that starts in line ${start + 1}, found ${shown(text)}`);
    };
    const cut = (): null => {
      this.incomplete++;
      if (this.at === this.lines.length - 1) this.at++;
      return null;
    };
    for (const { pattern, numbers } of wide ? forms.wide : forms.narrow) {
      const m = next(pattern, 'general registers');
      if (!m) return cut();
      numbers.forEach((number, i) => { registers[number] = BigInt(`0x${m[i + 1]!}`); });
    }
    const status = next(statusLine, 'EIP and EFL, or RIP and RFL,');
    if (!status) return cut();
    const from = this.at;
    const text = this.lines.slice(from, from + 13).join('\n') + (/^EFER=/.test(this.lines[from + 14] ?? '') ? `\n${this.lines[from + 14]!}` : '');
    if (text !== this.systemText || this.system === null) {
      const system = this.readSystem(next);
      if (!system) return cut();
      this.system = system;
      this.systemText = text;
    } else this.at = from + 15; // CCS= in between says nothing
    return {
      line: start + 1, wide, registers, rip: BigInt(`0x${status[1]!}`), flags: parseInt(status[2]!, 16), cpl: Number(status[3]), inhibit: status[4] === '1', smm: status[5] === '1', system: this.system,
    };
  }

  private readSystem(next: (pattern: RegExp, what: string) => RegExpExecArray | null): QemuSystemState | null {
    const segments: QemuSegment[] = [];
    for (const name of segmentNames) {
      const m = next(segmentLine, `segment register ${name}`);
      if (!m) return null;
      if (m[1] !== name) throw new FormatError(`line ${this.at}`, `expected segment register ${name}, found ${m[1]}`);
      segments.push({ selector: parseInt(m[2]!, 16), base: signed(m[3]!), limit: parseInt(m[4]!, 16), flags: parseInt(m[5]!, 16) });
    }
    const gdt = next(tableLine, 'GDT');
    const idt = gdt && next(tableLine, 'IDT');
    const control = idt && next(controlLine, 'control registers');
    const debug = control && next(debugLine, 'DR0 to DR3');
    const status = debug && next(debugStatusLine, 'DR6 and DR7');
    if (!status) return null;
    if (/^CCS=/.test(this.lines[this.at] ?? '')) this.at++;
    const efer = next(eferLine, 'EFER');
    if (!efer) return null;
    return {
      segments, gdtBase: signed(gdt![2]!), gdtLimit: parseInt(gdt![3]!, 16), idtBase: signed(idt![2]!), idtLimit: parseInt(idt![3]!, 16),
      cr0: parseInt(control![1]!, 16), cr2: BigInt(`0x${control![2]!}`), cr3: BigInt(`0x${control![3]!}`), cr4: parseInt(control![4]!, 16),
      dr: [1, 2, 3, 4].map((i) => BigInt(`0x${debug![i]!}`)), dr6: Number(BigInt(`0x${status[1]!}`) & 0xffffffffn), dr7: Number(BigInt(`0x${status[2]!}`) & 0xffffffffn), efer: parseInt(efer[1]!, 16),
    };
  }
}

/**
 * Reads a log that QEMU wrote with `-d in_asm,exec,cpu,int,nochain -singlestep` (made with QEMU 7.2), also filtered or cut at
 * either end.
 * @throws FormatError with the line number
 */
export function parseQemuLog(text: string): QemuLog {
  return new Parser(text).run();
}
