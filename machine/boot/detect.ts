import { isBootSector, loadBootSector } from './boot-sector.ts';
import { isElf, loadElf } from './elf.ts';
import { loadFlat, type FlatOptions } from './flat.ts';
import { ImageError } from './image-error.ts';
import type { LoadPlan } from './load-plan.ts';
import { findMultiboot, loadMultiboot, type MultibootOptions } from './multiboot.ts';

export type ImageFormat = LoadPlan['format'];

/**
 * Format of an image by its contents: a multiboot header first (also inside ELF files), then ELF, then a boot sector
 * (whole sectors, 55 AA at byte 510); anything else is a flat binary.
 * @throws ImageError for an empty image or a damaged multiboot header
 */
export function detectImage(bytes: Uint8Array): ImageFormat {
  if (bytes.length === 0) throw new ImageError('the image is empty (0 bytes)', 0);
  if (findMultiboot(bytes) >= 0) return 'multiboot';
  if (isElf(bytes)) return 'elf';
  return isBootSector(bytes) ? 'bootSector' : 'flat';
}

export interface LoadOptions extends MultibootOptions {
  /** Bytes of guest RAM. */
  readonly memorySize: number;
  /** Take the image for this format instead of looking. */
  readonly format?: ImageFormat;
  /** For flat binaries. */
  readonly flat?: FlatOptions;
}

/**
 * Plans the load of any image.
 * @throws ImageError with one line for the user
 */
export function planLoad(bytes: Uint8Array, options: LoadOptions): LoadPlan {
  const { memorySize } = options;
  if (bytes.length === 0) throw new ImageError('the image is empty (0 bytes)', 0);
  switch (options.format ?? detectImage(bytes)) {
    case 'multiboot': return loadMultiboot(bytes, memorySize, options);
    case 'elf': return loadElf(bytes, memorySize);
    case 'bootSector': return loadBootSector(bytes, memorySize);
    case 'flat': return loadFlat(bytes, memorySize, options.flat);
  }
}
