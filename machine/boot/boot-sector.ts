import { Gpr } from '../../cpu/state.ts';
import { ImageError, ImageReader } from './image-error.ts';
import { Layout, realEntry, type LoadPlan } from './load-plan.ts';

const SECTOR = 512;
const ADDRESS = 0x7c00;
const FIRST_DISK = 0x80;

export function isBootSector(bytes: Uint8Array): boolean {
  return bytes.length >= SECTOR && bytes.length % SECTOR === 0 && bytes[510] === 0x55 && bytes[511] === 0xaa;
}

/**
 * A boot sector, entered as a BIOS does: real mode, 0:7C00, DL = 80h. Only the first sector is loaded and there are
 * no BIOS services: it must do without INT 13h.
 */
export function loadBootSector(bytes: Uint8Array, memorySize: number): LoadPlan {
  const reader = new ImageReader(bytes);
  reader.need(0, SECTOR, 'boot sector');
  const signature = reader.u16(510, 'boot signature');
  if (signature !== 0xaa55) throw new ImageError(`boot signature is 0x${signature.toString(16).padStart(4, '0')}, expected 0xaa55 (bytes 55 AA)`, 510);
  const layout = new Layout(memorySize);
  layout.occupy(ADDRESS, SECTOR, 'the boot sector', 0);
  const rest = bytes.length > SECTOR ? `; the other ${bytes.length - SECTOR} bytes of the image are not reachable (no BIOS, no disk)` : '';
  return {
    format: 'bootSector', description: `boot sector at 0x7c00, real mode${rest}`, segments: [{ physical: ADDRESS, bytes: bytes.subarray(0, SECTOR) }], zero: [],
    entry: realEntry(ADDRESS, [[Gpr.RDX, FIRST_DISK], [Gpr.RSP, ADDRESS]]), symbols: [],
  };
}
