/**
 * EPT paging-structure entries (SDM "The Extended Page Table Mechanism (EPT)": formats of PML4 entries, PDPTEs, PDEs
 * and PTEs) as data. Masks are of the low word unless the name says high; addresses fill the rest up to the
 * physical-address width.
 */
export const EptEntry = {
  Read: 1, Write: 2, Execute: 4, Permissions: 7,
  MemoryType: 0x38, MemoryTypeShift: 3, IgnorePat: 0x40, Page: 0x80, Accessed: 0x100, Dirty: 0x200, UserExecute: 0x400,
  AddressLow: 0xfffff000,
  SuppressVeHigh: 0x80000000,
} as const;

/** One level of the walk, from the top. */
export interface EptLevel {
  readonly name: string;
  /** Guest-physical bits shift+8..shift index the table. */
  readonly shift: number;
  /** Bit 7 set makes the entry map a page: 'never' (reserved), 'always' (a PTE; bit 7 ignored), or the capability needed. */
  readonly page: 'never' | 'always' | 'pages1g' | 'pages2m';
  /** Reserved bits (low word) of an entry that refers to a table, and of one that maps a page. */
  readonly reservedTable: number;
  readonly reservedPage: number;
}

export const eptLevels: readonly EptLevel[] = [
  { name: 'EPT PML4 entry', shift: 39, page: 'never', reservedTable: 0xf8, reservedPage: 0 },
  { name: 'EPT PDPTE', shift: 30, page: 'pages1g', reservedTable: 0x78, reservedPage: 0x3ffff000 },
  { name: 'EPT PDE', shift: 21, page: 'pages2m', reservedTable: 0x78, reservedPage: 0x1ff000 },
  { name: 'EPT PTE', shift: 12, page: 'always', reservedTable: 0, reservedPage: 0 },
];

/** Memory types an entry may hold: UC, WC, WT, WP, WB; as a bit set. */
export const VALID_MEMORY_TYPES = (1 << 0) | (1 << 1) | (1 << 4) | (1 << 5) | (1 << 6);

/** Exit qualification of EPT violations (SDM table "Exit Qualification for EPT Violations"). */
export const EptViolationBit = {
  Read: 1, Write: 2, Fetch: 4, Readable: 8, Writable: 0x10, Executable: 0x20, UserExecutable: 0x40,
  LinearValid: 0x80, FinalTranslation: 0x100, NmiUnblocking: 0x1000,
} as const;
