/**
 * Paging formats as rows of data (SDM "32-Bit Paging", "PAE Paging", "4-Level Paging and 5-Level Paging"). A row is
 * compiled for the features in force and given to the one walker (cpu/walk.ts). EPT and shadow tables are further
 * rows of the same type, declared in their own folders.
 */

/** What a translation allows; bits of {@link CompiledFormat.rights}, of walk results and of TLB entries. */
export const Right = {
  Read: 1,
  Write: 2,
  Execute: 4,
  /** User-mode accesses are allowed (U/S of every entry used). */
  User: 8,
  /** The page's dirty flag is set (or the format has none). */
  Dirty: 16,
  /** The translation behind this one allows writes, and its dirty flag is set. */
  SecondWrite: 32,
} as const;

/** Conditions on which rows depend. */
export interface FormatConditions {
  /** MAXPHYADDR: `M` in the reserved-bit notation. */
  readonly physicalAddressBits: number;
  /** IA32_EFER.NXE: the execute-disable bit acts; otherwise it is reserved. */
  readonly executeDisable: boolean;
  /** CR4.PSE. */
  readonly pageSizeExtensions: boolean;
  /** PSE-36: 4-MByte pages reach beyond 4 GiB; `N` in the notation is then min(40, M), otherwise 32. */
  readonly pageSize36: boolean;
  readonly gigabytePages: boolean;
  /** The format's accessed and dirty flags are in use (always for ordinary paging; EPTP bit 6 for EPT). */
  readonly accessedDirty: boolean;
}

/** One level of a format, root first. */
export interface LevelRow {
  /** SDM name of the entry: PML4E, PDPTE, PDE, PTE. */
  readonly name: string;
  /** Lowest linear-address bit of the index, and number of index bits. */
  readonly shift: number;
  readonly bits: number;
  /** `size`: the entry maps a page when its PS bit (7) is set. */
  readonly leaf: 'never' | 'size' | 'always';
  /** Large pages at this level exist only under this condition; otherwise the PS bit is ignored or reserved. */
  readonly sizeNeeds?: { readonly condition: 'pageSizeExtensions' | 'gigabytePages'; readonly otherwise: 'ignored' | 'reserved' };
  /** Reserved bits of an entry that references a table, in the SDM's notation: `'7, 51:M'`. */
  readonly reserved: string;
  /** Reserved bits of an entry that maps a page. */
  readonly leafReserved: string;
  /** Bit of a page entry from which on it holds physical-address bits 32 and up (PSE-36). */
  readonly highAddressBit?: number;
}

/** A paging format. Bit numbers are positions in an entry; `null`: the format has no such bit. */
export interface PageFormat {
  readonly name: string;
  readonly entryBytes: 4 | 8;
  /** An entry is present when any of these bits (0..31) is set. */
  readonly presentBits: readonly number[];
  /** Bits (0..2) that must be set in every entry used for the right; `null`: the right is always given. */
  readonly allow: { readonly read: number | null; readonly write: number | null; readonly execute: number | null; readonly user: number | null };
  /** Bit (32..63) that in any entry used takes the execute right away; reserved unless `executeDisable` holds. */
  readonly executeDisableBit: number | null;
  readonly accessedBit: number | null;
  readonly dirtyBit: number | null;
  readonly globalBit: number | null;
  /** Values of bits 2:0 that are reserved although present (EPT: write without read). */
  readonly invalidPermissions?: readonly number[];
  /** Values of bits 5:3 of a page entry that are reserved (EPT memory types). */
  readonly invalidMemoryTypes?: readonly number[];
  readonly levels: readonly LevelRow[];
}

const ordinary = {
  presentBits: [0],
  allow: { read: null, write: 1, execute: null, user: 2 },
  accessedBit: 5,
  dirtyBit: 6,
  globalBit: 8,
} as const;

/** 32-bit paging; 4-MByte pages while CR4.PSE is set. */
export const format32: PageFormat = {
  ...ordinary,
  name: '32-bit',
  entryBytes: 4,
  executeDisableBit: null,
  levels: [
    { name: 'PDE', shift: 22, bits: 10, leaf: 'size', sizeNeeds: { condition: 'pageSizeExtensions', otherwise: 'ignored' }, reserved: '', leafReserved: '21:N-19', highAddressBit: 13 },
    { name: 'PTE', shift: 12, bits: 10, leaf: 'always', reserved: '', leafReserved: '' },
  ],
};

/** PAE paging below the four PDPTE registers. */
export const formatPae: PageFormat = {
  ...ordinary,
  name: 'PAE',
  entryBytes: 8,
  executeDisableBit: 63,
  levels: [
    { name: 'PDE', shift: 21, bits: 9, leaf: 'size', reserved: '62:M', leafReserved: '20:13, 62:M' },
    { name: 'PTE', shift: 12, bits: 9, leaf: 'always', reserved: '62:M', leafReserved: '62:M' },
  ],
};

const lowerLevels: readonly LevelRow[] = [
  { name: 'PDPTE', shift: 30, bits: 9, leaf: 'size', sizeNeeds: { condition: 'gigabytePages', otherwise: 'reserved' }, reserved: '51:M', leafReserved: '29:13, 51:M' },
  { name: 'PDE', shift: 21, bits: 9, leaf: 'size', reserved: '51:M', leafReserved: '20:13, 51:M' },
  { name: 'PTE', shift: 12, bits: 9, leaf: 'always', reserved: '51:M', leafReserved: '51:M' },
];
const pml4e: LevelRow = { name: 'PML4E', shift: 39, bits: 9, leaf: 'never', reserved: '7, 51:M', leafReserved: '' };

/** 4-level paging. */
export const format4: PageFormat = { ...ordinary, name: '4-level', entryBytes: 8, executeDisableBit: 63, levels: [pml4e, ...lowerLevels] };

/** 5-level paging: declared for the walker; no profile offers LA57, so CR4.LA57 cannot be set. */
export const format5: PageFormat = {
  ...format4,
  name: '5-level',
  levels: [{ name: 'PML5E', shift: 48, bits: 9, leaf: 'never', reserved: '7, 51:M', leafReserved: '' }, pml4e, ...lowerLevels],
};

/** Reserved bits of the PDPTE registers, checked when they are loaded (SDM "PDPTE Registers"); present entries only. */
export const pdpteReserved = '2:1, 8:5, 63:M';

/** A set of bits of a 64-bit entry, as two signed 32-bit words. */
export interface BitMask {
  readonly low: number;
  readonly high: number;
}

/**
 * Parses the SDM's notation of bit ranges: items `hi:lo` or `bit` separated by commas; a term is a number, `M` or
 * `N`, optionally minus a number. A range whose upper end is below its lower end is empty.
 */
export function parseBits(notation: string, m: number, n: number): BitMask {
  let low = 0;
  let high = 0;
  const term = (text: string): number => {
    const match = /^(\d+|M|N)(?:-(\d+))?$/.exec(text.trim());
    if (!match) throw new Error(`bit range '${notation}': cannot read '${text}'; expected a number, M or N, optionally minus a number`);
    const start = match[1] === 'M' ? m : match[1] === 'N' ? n : Number(match[1]);
    return start - Number(match[2] ?? 0);
  };
  for (const item of notation.split(',')) {
    if (item.trim() === '') continue;
    const [first, second] = item.split(':');
    const top = term(first!);
    const bottom = second === undefined ? top : term(second);
    for (let bit = bottom; bit <= top; bit++) {
      if (bit < 32) low |= 1 << bit;
      else high |= 1 << (bit - 32);
    }
  }
  return { low, high };
}

/** How an entry of a level is found to map a page. */
export const LeafRule = { Never: 0, Size: 1, Always: 2 } as const;
/** The PS bit, at the same place in every format. */
export const PAGE_SIZE_BIT = 0x80;

/** A format with its conditions folded in, as flat arrays for the walker (index: level, root first). */
export interface CompiledFormat {
  readonly format: PageFormat;
  readonly depth: number;
  readonly entryBytes: number;
  /** 2 for 4-byte entries, 3 for 8-byte entries. */
  readonly entryShift: number;
  readonly shift: Int32Array;
  readonly indexMask: Int32Array;
  readonly leaf: Int32Array;
  readonly reservedLow: Int32Array;
  readonly reservedHigh: Int32Array;
  readonly leafReservedLow: Int32Array;
  readonly leafReservedHigh: Int32Array;
  /** For 4-byte entries: mask of the upper physical-address bits after shifting a page entry right by 13. */
  readonly leafHighMask: Int32Array;
  /** Physical-address bits in the high word of an 8-byte entry. */
  readonly addressHigh: number;
  readonly presentMask: number;
  /** Rights (bits of {@link Right}) by the AND of bits 2:0 of all entries used. */
  readonly rights: Uint8Array;
  /** High-word bits that take the execute right away. */
  readonly denyExecuteHigh: number;
  readonly accessedMask: number;
  readonly dirtyMask: number;
  readonly globalMask: number;
  /** Bit v set: value v of bits 2:0, or of bits 5:3 of a page entry, is reserved. */
  readonly invalidPermissions: number;
  readonly invalidMemoryTypes: number;
}

const maskOf = (bit: number | null): number => (bit === null ? 0 : 1 << bit);
const setOf = (values: readonly number[] | undefined): number => (values ?? []).reduce((set, value) => set | (1 << value), 0);

/** Folds the conditions in force into a format row. */
export function compileFormat(format: PageFormat, conditions: FormatConditions): CompiledFormat {
  const m = conditions.physicalAddressBits;
  if (m < 32 || m > 52) throw new Error(`${format.name} paging: physicalAddressBits is ${m}; expected 32 to 52`);
  const n = conditions.pageSize36 ? Math.min(40, m) : 32;
  const depth = format.levels.length;
  const column = (): Int32Array => new Int32Array(depth);
  const compiled = {
    shift: column(), indexMask: column(), leaf: column(), reservedLow: column(), reservedHigh: column(), leafReservedLow: column(), leafReservedHigh: column(), leafHighMask: column(),
  };
  const executeDisableHigh = format.executeDisableBit === null ? 0 : 1 << (format.executeDisableBit - 32);
  const alwaysReservedHigh = conditions.executeDisable ? 0 : executeDisableHigh;
  format.levels.forEach((row, level) => {
    const reserved = parseBits(row.reserved, m, n);
    const leafReserved = parseBits(row.leafReserved, m, n);
    const large = row.leaf === 'size' && (row.sizeNeeds === undefined || conditions[row.sizeNeeds.condition]);
    compiled.shift[level] = row.shift;
    compiled.indexMask[level] = (1 << row.bits) - 1;
    compiled.leaf[level] = row.leaf === 'always' ? LeafRule.Always : large ? LeafRule.Size : LeafRule.Never;
    compiled.reservedLow[level] = reserved.low | (row.leaf === 'size' && !large && row.sizeNeeds?.otherwise === 'reserved' ? PAGE_SIZE_BIT : 0);
    compiled.reservedHigh[level] = reserved.high | alwaysReservedHigh;
    compiled.leafReservedLow[level] = leafReserved.low;
    compiled.leafReservedHigh[level] = leafReserved.high | alwaysReservedHigh;
    if (row.highAddressBit !== undefined) {
      if (row.highAddressBit !== 13 || format.entryBytes !== 4) throw new Error(`${format.name} ${row.name}: upper address bits are supported from bit 13 of a 4-byte entry only`);
      compiled.leafHighMask[level] = (1 << (n - 32)) - 1;
    }
  });
  const rights = new Uint8Array(8);
  const { read, write, execute, user } = format.allow;
  for (const bit of [read, write, execute, user]) if (bit !== null && bit > 2) throw new Error(`${format.name}: permission bit ${bit}; the walker accumulates bits 2:0`);
  for (let bits = 0; bits < 8; bits++) {
    const has = (bit: number | null): boolean => bit === null || (bits >> bit & 1) !== 0;
    rights[bits] = (has(read) ? Right.Read : 0) | (has(write) ? Right.Write : 0) | (has(execute) ? Right.Execute : 0) | (has(user) ? Right.User : 0);
  }
  return {
    format,
    depth,
    entryBytes: format.entryBytes,
    entryShift: format.entryBytes === 4 ? 2 : 3,
    ...compiled,
    addressHigh: format.entryBytes === 4 ? 0 : 2 ** (m - 32) - 1,
    presentMask: format.presentBits.reduce((mask, bit) => mask | (1 << bit), 0),
    rights,
    denyExecuteHigh: conditions.executeDisable ? executeDisableHigh : 0,
    accessedMask: conditions.accessedDirty ? maskOf(format.accessedBit) : 0,
    dirtyMask: conditions.accessedDirty ? maskOf(format.dirtyBit) : 0,
    globalMask: maskOf(format.globalBit),
    invalidPermissions: setOf(format.invalidPermissions),
    invalidMemoryTypes: setOf(format.invalidMemoryTypes),
  };
}
