import { ImageError, ImageReader } from './image-error.ts';
import { IDENTITY_TABLE_SIZE, identityTables, Layout, longEntry, protectedEntry, type ImageSymbol, type LoadPlan, type LoadSegment, type ZeroRange } from './load-plan.ts';

/** A loadable program header. Physical addresses are numbers, virtual ones 64 bits. */
export interface ElfSegment {
  readonly physical: number;
  readonly virtual: bigint;
  readonly offset: number;
  readonly fileSize: number;
  readonly memorySize: number;
  /** Offset of the program header in the file, for error messages. */
  readonly header: number;
}

export interface ElfImage {
  readonly bits: 32 | 64;
  readonly entry: bigint;
  readonly segments: readonly ElfSegment[];
  readonly symbols: readonly ImageSymbol[];
}

const TYPE_EXECUTABLE = 2;
const MACHINE_386 = 3;
const MACHINE_X86_64 = 62;
const SEGMENT_LOAD = 1;
const SECTION_SYMBOLS = 2;

export function isElf(bytes: Uint8Array): boolean {
  return bytes.length >= 4 && bytes[0] === 0x7f && bytes[1] === 0x45 && bytes[2] === 0x4c && bytes[3] === 0x46;
}

/** Field access that differs between the two classes. */
class ElfReader {
  readonly reader: ImageReader;
  readonly wide: boolean;
  constructor(reader: ImageReader, wide: boolean) {
    this.reader = reader;
    this.wide = wide;
  }
  /** An address, offset or size. */
  word(at: number, what: string): bigint { return this.wide ? this.reader.u64(at, what) : BigInt(this.reader.u32(at, what)); }
  /** One that must be a plausible number. */
  number(at: number, what: string): number {
    const value = this.word(at, what);
    if (value > 0xffffffffffffn) throw new ImageError(`${what} is 0x${value.toString(16)}: expected an offset, size or physical address`, at);
    return Number(value);
  }
}

/**
 * Parses an ELF32 or ELF64 executable for x86 (System V ABI, "ELF Header", "Program Header").
 * @throws ImageError for anything malformed, with the offset of the field
 */
export function parseElf(bytes: Uint8Array): ElfImage {
  const reader = new ImageReader(bytes);
  reader.need(0, 16, 'ELF identification');
  if (!isElf(bytes)) throw new ImageError('not an ELF file: expected 7F 45 4C 46', 0);
  const elfClass = reader.u8(4, 'ELF class');
  if (elfClass !== 1 && elfClass !== 2) throw new ImageError(`ELF class is ${elfClass}: expected 1 (32-bit) or 2 (64-bit)`, 4);
  const order = reader.u8(5, 'ELF byte order');
  if (order !== 1) throw new ImageError(`ELF byte order is ${order}: expected 1 (little-endian)`, 5);
  const wide = elfClass === 2;
  const r = new ElfReader(reader, wide);
  reader.need(0, wide ? 64 : 52, 'ELF header');
  const type = reader.u16(16, 'ELF type');
  if (type !== TYPE_EXECUTABLE) throw new ImageError(`ELF type is ${type}: expected ${TYPE_EXECUTABLE} (executable, linked to fixed addresses)`, 16);
  const machine = reader.u16(18, 'ELF machine');
  const expected = wide ? MACHINE_X86_64 : MACHINE_386;
  if (machine !== expected) throw new ImageError(`ELF machine is ${machine}: expected ${expected} (${wide ? 'x86-64' : '80386'})`, 18);

  const entry = r.word(24, 'entry point');
  const table = r.number(wide ? 32 : 28, 'program header offset');
  const entrySize = reader.u16(wide ? 54 : 42, 'program header entry size');
  const count = reader.u16(wide ? 56 : 44, 'program header count');
  const least = wide ? 56 : 32;
  if (count > 0 && entrySize < least) throw new ImageError(`program header entry size is ${entrySize}: expected at least ${least}`, wide ? 54 : 42);
  reader.need(table, count * entrySize, `${count} program headers`);

  const segments: ElfSegment[] = [];
  for (let i = 0; i < count; i++) {
    const at = table + i * entrySize;
    const name = `program header ${i}`;
    if (reader.u32(at, name) !== SEGMENT_LOAD) continue;
    const offset = r.number(at + (wide ? 8 : 4), `${name}: offset`);
    const virtual = r.word(at + (wide ? 16 : 8), `${name}: virtual address`);
    const physical = r.number(at + (wide ? 24 : 12), `${name}: physical address`);
    const fileSize = r.number(at + (wide ? 32 : 16), `${name}: file size`);
    const memorySize = r.number(at + (wide ? 40 : 20), `${name}: memory size`);
    if (fileSize > memorySize) throw new ImageError(`${name}: ${fileSize} bytes in the file but ${memorySize} in memory: expected no more than in memory`, at);
    if (memorySize === 0) continue;
    if (offset + fileSize > bytes.length) throw new ImageError(`${name}: bytes ${offset}..${offset + fileSize - 1} are not in the image of ${bytes.length} bytes: it is truncated or corrupted`, at);
    segments.push({ physical, virtual, offset, fileSize, memorySize, header: at });
  }
  if (segments.length === 0) throw new ImageError('ELF file without loadable segments: nothing to run', wide ? 56 : 44);
  return { bits: wide ? 64 : 32, entry, segments, symbols: readSymbols(r) };
}

function readSymbols(r: ElfReader): ImageSymbol[] {
  const { reader, wide } = r;
  const table = r.number(wide ? 40 : 32, 'section header offset');
  if (table === 0) return [];
  const entrySize = reader.u16(wide ? 58 : 46, 'section header entry size');
  const count = reader.u16(wide ? 60 : 48, 'section header count');
  if (count > 0 && entrySize < (wide ? 64 : 40)) throw new ImageError(`section header entry size is ${entrySize}: expected at least ${wide ? 64 : 40}`, wide ? 58 : 46);
  reader.need(table, count * entrySize, `${count} section headers`);
  const section = (i: number): { type: number; offset: number; size: number; link: number; entry: number } => {
    const at = table + i * entrySize;
    return {
      type: reader.u32(at + 4, 'section type'), offset: r.number(at + (wide ? 24 : 16), 'section offset'), size: r.number(at + (wide ? 32 : 20), 'section size'),
      link: reader.u32(at + (wide ? 40 : 24), 'section link'), entry: r.number(at + (wide ? 56 : 36), 'section entry size'),
    };
  };
  const symbols: ImageSymbol[] = [];
  for (let i = 0; i < count; i++) {
    const s = section(i);
    if (s.type !== SECTION_SYMBOLS) continue;
    const at = table + i * entrySize;
    const least = wide ? 24 : 16;
    if (s.entry < least) throw new ImageError(`symbol table entry size is ${s.entry}: expected at least ${least}`, at);
    if (s.link >= count) throw new ImageError(`symbol table names section ${s.link} for its strings, but there are ${count}`, at);
    const strings = section(s.link);
    reader.need(s.offset, s.size, 'symbol table');
    reader.need(strings.offset, strings.size, 'symbol names');
    for (let n = 1; n < Math.floor(s.size / s.entry); n++) {
      const symbol = s.offset + n * s.entry;
      const start = reader.u32(symbol, 'symbol name');
      if (start >= strings.size) throw new ImageError(`symbol ${n}: name at ${start}, outside its string table of ${strings.size} bytes`, symbol);
      let name = '';
      for (let c = strings.offset + start; c < strings.offset + strings.size && reader.bytes[c] !== 0; c++) name += String.fromCharCode(reader.bytes[c]!);
      if (name === '') continue;
      symbols.push({ name, value: r.word(symbol + (wide ? 8 : 4), 'symbol value'), size: r.number(symbol + (wide ? 16 : 8), 'symbol size') });
    }
  }
  return symbols;
}

/** Memory of an ELF image by its physical addresses, checked against RAM and against itself. */
export function placeElf(image: ElfImage, bytes: Uint8Array, layout: Layout): { segments: LoadSegment[]; zero: ZeroRange[] } {
  const segments: LoadSegment[] = [];
  const zero: ZeroRange[] = [];
  for (const s of image.segments) {
    layout.occupy(s.physical, s.memorySize, 'a segment', s.header);
    if (s.fileSize > 0) segments.push({ physical: s.physical, bytes: bytes.subarray(s.offset, s.offset + s.fileSize) });
    if (s.memorySize > s.fileSize) zero.push({ physical: s.physical + s.fileSize, length: s.memorySize - s.fileSize });
  }
  return { segments, zero };
}

/**
 * Physical address of the first instruction: the entry point as given if it lies in a segment's physical range, else
 * translated through the segment whose virtual range holds it.
 */
export function physicalEntry(image: ElfImage): number {
  const { entry } = image;
  for (const s of image.segments) {
    const physical = BigInt(s.physical);
    if (entry >= physical && entry < physical + BigInt(s.memorySize)) return Number(entry);
  }
  for (const s of image.segments) {
    if (entry >= s.virtual && entry < s.virtual + BigInt(s.memorySize)) return Number(entry - s.virtual) + s.physical;
  }
  throw new ImageError(`entry point 0x${entry.toString(16)} lies in no loadable segment`, 24);
}

/** A plain ELF executable: 32-bit ones start in flat protected mode, 64-bit ones in 64-bit mode with the first 4 GiB mapped to themselves. */
export function loadElf(bytes: Uint8Array, memorySize: number): LoadPlan {
  const image = parseElf(bytes);
  const layout = new Layout(memorySize);
  const { segments, zero } = placeElf(image, bytes, layout);
  const rip = physicalEntry(image);
  let entry = protectedEntry(rip);
  if (image.bits === 64) {
    const tables = layout.find(IDENTITY_TABLE_SIZE, 4096, 'page tables');
    segments.push({ physical: tables, bytes: identityTables(tables) });
    entry = longEntry(rip, tables);
  }
  return { format: 'elf', description: `ELF${image.bits}, ${image.segments.length} segments, entry 0x${rip.toString(16)}`, segments, zero, entry, symbols: image.symbols };
}
