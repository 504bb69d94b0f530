import { Gpr } from '../../cpu/state.ts';
import { deviceRanges } from '../platform.ts';
import { Firmware } from '../mp-table.ts';
import { isElf, parseElf, physicalEntry, placeElf } from './elf.ts';
import { ImageError, ImageReader } from './image-error.ts';
import { Layout, protectedEntry, type ImageSymbol, type LoadPlan, type LoadSegment, type ZeroRange } from './load-plan.ts';

const HEADER_MAGIC = 0x1badb002;
const BOOT_MAGIC = 0x2badb002;
/** The header lies within the first 8192 bytes, on a 4-byte boundary. */
const SEARCH = 8192;
/** Header flags: bits 0..15 must be understood. */
const Request = { PageAlign: 1, Memory: 2, Video: 4, Addresses: 0x10000 } as const;
const UNDERSTOOD = Request.PageAlign | Request.Memory | Request.Video;
/** Information flags. */
const Info = { Memory: 1, CommandLine: 4, Modules: 8, MemoryMap: 0x40, LoaderName: 0x200 } as const;
/** Bytes of the information structure up to and including the loader name. */
const INFO_SIZE = 88;
const LOADER_NAME = 'vanderpool';

/** A file loaded beside the image. */
export interface BootModule { readonly bytes: Uint8Array; readonly commandLine: string }

export interface MultibootOptions {
  /** The image's file name without directories: first word of the command line. */
  readonly name: string;
  /** Rest of the command line. */
  readonly append?: string;
  readonly modules?: readonly BootModule[];
}

/** Offset of the multiboot header, or -1. A header whose checksum does not fit is an error if no other follows. */
export function findMultiboot(bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let broken = -1;
  for (let at = 0; at + 12 <= Math.min(bytes.length, SEARCH); at += 4) {
    if (view.getUint32(at, true) !== HEADER_MAGIC) continue;
    if (((HEADER_MAGIC + view.getUint32(at + 4, true) + view.getUint32(at + 8, true)) & 0xffffffff) === 0) return at;
    if (broken < 0) broken = at;
  }
  if (broken >= 0) throw new ImageError('multiboot header with a wrong checksum: magic, flags and checksum must add up to 0', broken + 8);
  return -1;
}

interface Placed { segments: LoadSegment[]; zero: ZeroRange[]; entry: number; symbols: readonly ImageSymbol[]; form: string }

/** The address-field form: the header says which bytes of the file go where. */
function placeByAddresses(bytes: Uint8Array, header: number, layout: Layout): Placed {
  const reader = new ImageReader(bytes);
  reader.need(header, 32, 'multiboot header with address fields');
  const field = (n: number): number => reader.u32(header + 12 + n * 4, 'multiboot address field');
  const [headerAddress, load, loadEnd, bssEnd, entry] = [field(0), field(1), field(2), field(3), field(4)];
  const hex = (n: number): string => `0x${n.toString(16)}`;
  if (load > headerAddress) throw new ImageError(`multiboot load_addr ${hex(load)} lies above header_addr ${hex(headerAddress)}: expected at or below it`, header + 16);
  const start = header - (headerAddress - load);
  if (start < 0) throw new ImageError(`multiboot load_addr ${hex(load)} lies ${headerAddress - load} bytes before the header, but the header is at byte ${header} of the image: it points outside the file`, header + 16);
  const end = loadEnd === 0 ? load + bytes.length - start : loadEnd;
  if (end < load) throw new ImageError(`multiboot load_end_addr ${hex(loadEnd)} lies below load_addr ${hex(load)}`, header + 20);
  if (start + end - load > bytes.length) throw new ImageError(`multiboot load_end_addr ${hex(loadEnd)} asks for ${start + end - load} bytes of an image of ${bytes.length}: it points outside the file`, header + 20);
  const bss = bssEnd === 0 ? end : bssEnd;
  if (bss < end) throw new ImageError(`multiboot bss_end_addr ${hex(bssEnd)} lies below the end of the loaded data ${hex(end)}`, header + 24);
  if (entry < load || entry >= bss) throw new ImageError(`multiboot entry_addr ${hex(entry)} lies outside the image at ${hex(load)}..${hex(bss - 1)}`, header + 28);
  layout.occupy(load, bss - load, 'the image', header + 16);
  return {
    segments: [{ physical: load, bytes: bytes.subarray(start, start + end - load) }], zero: bss > end ? [{ physical: end, length: bss - end }] : [],
    entry, symbols: [], form: 'address fields',
  };
}

function placeByElf(bytes: Uint8Array, layout: Layout): Placed {
  const image = parseElf(bytes);
  if (image.bits === 64) throw new ImageError('multiboot image in an ELF64 file: multiboot 1 starts 32-bit code, expected ELF32 or address fields in the header', 4);
  const { segments, zero } = placeElf(image, bytes, layout);
  return { segments, zero, entry: physicalEntry(image), symbols: image.symbols, form: 'ELF32' };
}

/** RAM and reserved ranges as firmware would report them: [start, length, type], type 1 = available, 2 = reserved. */
export function memoryMap(memorySize: number): readonly (readonly [number, number, number])[] {
  return [
    [0, Firmware.extended, 1], [Firmware.extended, 0xa0000 - Firmware.extended, 2], [Firmware.table, 0x10000, 2], [0x100000, memorySize - 0x100000, 1],
    ...deviceRanges.map(([start, length]) => [start, length, 2] as const),
  ];
}

/** Multiboot 1 (Multiboot Specification 0.6.96): both forms, with information structure, command line, memory map and modules. */
export function loadMultiboot(bytes: Uint8Array, memorySize: number, options: MultibootOptions): LoadPlan {
  const header = findMultiboot(bytes);
  if (header < 0) throw new ImageError(`no multiboot header in the first ${SEARCH} bytes`);
  const flags = new ImageReader(bytes).u32(header + 4, 'multiboot flags');
  if (flags & 0xffff & ~UNDERSTOOD) throw new ImageError(`multiboot header requires features 0x${(flags & 0xffff & ~UNDERSTOOD).toString(16)}, which this loader does not have`, header + 4);
  if (!(flags & Request.Addresses) && !isElf(bytes)) throw new ImageError('multiboot image that is no ELF file and has no address fields (flag bit 16): there is no way to tell where it goes', header + 4);
  if (memorySize < 2 * 2 ** 20) throw new ImageError(`multiboot images start at or above 1 MiB as a rule: the machine needs at least 2 MiB of memory, it has ${memorySize / 2 ** 20}`);
  const layout = new Layout(memorySize);
  const placed = flags & Request.Addresses ? placeByAddresses(bytes, header, layout) : placeByElf(bytes, layout);
  const segments = [...placed.segments];

  const modules = (options.modules ?? []).map((module, i) => {
    const start = Math.ceil(Math.max(layout.end, 0x100000) / 4096) * 4096;
    layout.occupy(start, Math.max(1, module.bytes.length), `module ${i}`, -1);
    segments.push({ physical: start, bytes: module.bytes });
    return { start, end: start + module.bytes.length, commandLine: module.commandLine };
  });

  // one block: structure, memory map, module list, strings
  const strings: number[] = [];
  const text = (s: string): number => {
    const at = strings.length;
    strings.push(...new TextEncoder().encode(s), 0);
    return at;
  };
  const commandLine = text(`${options.name} ${options.append ?? ''}`); // file name, a space, the rest, as QEMU passes it
  const loader = text(LOADER_NAME);
  const moduleNames = modules.map(m => text(m.commandLine));
  const map = memoryMap(memorySize);
  const mapAt = INFO_SIZE;
  const mapSize = map.length * 24;
  const modulesAt = mapAt + mapSize;
  const stringsAt = modulesAt + modules.length * 16;
  const block = new Uint8Array(stringsAt + strings.length);
  const view = new DataView(block.buffer);
  const info = layout.find(block.length, 16, 'the multiboot information');
  const put = (at: number, value: number): void => view.setUint32(at, value, true);
  put(0, Info.Memory | Info.CommandLine | Info.MemoryMap | Info.LoaderName | (modules.length > 0 ? Info.Modules : 0));
  put(4, Firmware.baseMemory);
  put(8, (memorySize - 0x100000) / 1024);
  put(16, info + stringsAt + commandLine);
  put(20, modules.length);
  put(24, modules.length > 0 ? info + modulesAt : 0);
  put(44, mapSize);
  put(48, info + mapAt);
  put(64, info + stringsAt + loader);
  map.forEach(([start, length, type], i) => {
    const at = mapAt + i * 24;
    put(at, 20); // size of the rest of the entry
    put(at + 4, start);
    put(at + 12, length);
    put(at + 20, type);
  });
  modules.forEach((m, i) => {
    const at = modulesAt + i * 16;
    put(at, m.start);
    put(at + 4, m.end);
    put(at + 8, info + stringsAt + moduleNames[i]!);
  });
  block.set(strings, stringsAt);
  segments.push({ physical: info, bytes: block });
  const video = flags & Request.Video ? '; it asked for a video mode, there is no display' : '';
  return {
    format: 'multiboot', description: `multiboot (${placed.form}), entry 0x${placed.entry.toString(16)}${video}`, segments, zero: placed.zero,
    entry: protectedEntry(placed.entry, [[Gpr.RAX, BOOT_MAGIC], [Gpr.RBX, info]]), symbols: placed.symbols,
  };
}
