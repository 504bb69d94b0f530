import { Gpr } from '../../cpu/state.ts';
import { ImageError } from './image-error.ts';
import { IDENTITY_TABLE_SIZE, identityTables, Layout, longEntry, protectedEntry, realEntry, type LoadPlan, type LoadSegment } from './load-plan.ts';

export interface FlatOptions {
  /** Where the bytes go. Default 0x100000, or 0x7c00 in real mode. */
  readonly address?: number;
  readonly mode?: 'real' | 'protected32' | 'long64';
  /** First instruction; default: `address`. */
  readonly entry?: number;
}

/** A flat binary: its bytes, one address, one of three entry modes. In 64-bit mode the first 4 GiB are mapped to themselves. */
export function loadFlat(bytes: Uint8Array, memorySize: number, options: FlatOptions = {}): LoadPlan {
  if (bytes.length === 0) throw new ImageError('the image is empty (0 bytes)', 0);
  const mode = options.mode ?? 'protected32';
  const address = options.address ?? (mode === 'real' ? 0x7c00 : 0x100000);
  const entry = options.entry ?? address;
  if (mode === 'real' && entry > 0xfffff) throw new ImageError(`entry 0x${entry.toString(16)} cannot be reached in real mode: expected an address below 1 MiB`);
  if (entry < address || entry >= address + bytes.length) throw new ImageError(`entry 0x${entry.toString(16)} lies outside the image at 0x${address.toString(16)}..0x${(address + bytes.length - 1).toString(16)}`);
  const layout = new Layout(memorySize);
  layout.occupy(address, bytes.length, 'the image', 0);
  const segments: LoadSegment[] = [{ physical: address, bytes }];
  let start = realEntry(mode === 'real' ? entry : 0, [[Gpr.RSP, 0x7c00]]);
  if (mode === 'protected32') start = protectedEntry(entry);
  else if (mode === 'long64') {
    const tables = layout.find(IDENTITY_TABLE_SIZE, 4096, 'page tables');
    segments.push({ physical: tables, bytes: identityTables(tables) });
    start = longEntry(entry, tables);
  }
  return { format: 'flat', description: `flat binary, ${bytes.length} bytes at 0x${address.toString(16)}, entered in ${mode} mode`, segments, zero: [], entry: start, symbols: [] };
}
