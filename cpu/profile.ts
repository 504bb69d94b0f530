/** A number of cycles with its provenance. */
export interface Figure {
  readonly value: number;
  /** Id in docs/figures (published) or 'estimate'. */
  readonly source: string;
  /** Bounds; equal to value for a published figure. */
  readonly low: number;
  readonly high: number;
}

export const published = (value: number, source: string): Figure => ({ value, source, low: value, high: value });
export const estimate = (value: number, low: number, high: number): Figure => ({ value, source: 'estimate', low, high });

/** One translation cache level: entries per page size; ways 0 = fully associative. */
export interface TlbLevel {
  readonly entries4k: number;
  readonly ways4k: number;
  /** Entries for 2 MiB, 4 MiB (and 1 GiB) pages; 0 = large pages are broken into 4 KiB entries. */
  readonly entriesLarge: number;
  readonly waysLarge: number;
}

export interface TlbGeometry {
  readonly instruction: TlbLevel;
  readonly data: TlbLevel;
  /** Second level shared by both, or null. */
  readonly second: TlbLevel | null;
}

/**
 * What one CPU model is: features, identification, translation caches and costs. The cost keys are the classes of
 * the rows (Row.cost) and the events named in cpu/cost.ts.
 */
export interface CpuProfile {
  readonly name: string;
  readonly description: string;
  /** CPUID.1:EAX. */
  readonly signature: number;
  readonly brand: string;
  /** Feature names as in cpu/cpuid.ts. */
  readonly features: readonly string[];
  readonly physicalAddressBits: number;
  readonly linearAddressBits: 48;
  readonly maxBasicLeaf: number;
  /** Cycles per second; also the TSC frequency. */
  readonly frequency: number;
  readonly tlb: TlbGeometry;
  readonly costs: Readonly<Record<string, Figure>>;
}
