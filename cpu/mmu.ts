/** Kinds of access; also the fast-table number. */
export const AccessKind = { Read: 0, Write: 1, Execute: 2 } as const;
export type AccessKind = (typeof AccessKind)[keyof typeof AccessKind];

/**
 * Translation as the CPU and generated code see it. Linear addresses are numbers: 0..2^32-1 outside 64-bit mode,
 * signed canonical 48-bit values in it. One implementation: cpu/translation.ts.
 */
export interface Mmu {
  /**
   * After a fast-table miss for an access that stays inside one page and is canonical: probes the modelled TLB,
   * walks, charges, fills the fast table where allowed. Returns the physical address, or -1 after writing the fault
   * to the CPU state (faultVector, faultError, faultLinear; vector 255 = second-level abort).
   * `system` = implicit supervisor access (descriptor tables), whatever the CPL.
   */
  translate(linear: number, kind: AccessKind, system: boolean): number;
  /** Physical address without any effect (debuggers, monitors' inspection), or -1. */
  peek(linear: number): number;
  /** Must be called after any change of CR0, CR3, CR4, EFER, CPL, EFLAGS.AC, PCID, VPID or EPT root: selects the fast tables. Cheap. */
  updateContext(): void;
  /** Cheaper than updateContext after a change of S.mode alone: selects the execute table of that decode mode. */
  updateMode(): void;
  /**
   * Enters the page of `linear` in the current execute table with this aux word, after a successful translate for
   * Execute. False when that is not possible (the page is not RAM, or another fetch has evicted it since).
   */
  enterExecute(linear: number, codeMap: number): boolean;
  /** Removes all execute entries with this aux word (a decoded page was dropped). */
  dropExecute(codeMap: number): void;
  /** INVLPG: one linear page of the current PCID/VPID, global entries included. */
  invalidatePage(linear: number): void;
  /** MOV CR3 without PCID: all non-global entries of the current PCID. */
  flushNonGlobal(): void;
  /** All entries of the current VPID, global ones and all PCIDs included (CR4.PGE change, CR0.PG change, INVPCID 2). */
  flushAll(): void;
  /** INVPCID types 0, 1, 3 (2 is flushAll). */
  invalidatePcid(type: number, pcid: number, linear: number): void;
  /** VPID of linear and combined mappings created from now on; 0 in root operation. */
  vpid: number;
  /** VMX: all linear and combined mappings of one VPID (INVVPID 1; transitions without VPID), of all but VPID 0 (-1, INVVPID 2), or one address of one VPID (INVVPID 0); keepGlobal for INVVPID 3. */
  invalidateVpid(vpid: number, linear?: number, keepGlobal?: boolean): void;
  /** INVEPT: combined and guest-physical mappings of one EPT root, or all (-1). */
  invalidateEpt(root: number): void;
  /** A page of RAM (physical page number, address / 4096) gained or lost decoded code: write entries of the fast tables that map it change their tag. */
  codePageChanged(physicalPage: number, hasCode: boolean): void;
  /** After translate(linear, Execute): the decoded page's offset map for this linear page, for generated lookups. */
  enterExecute(linear: number, map: number): void;
  /** A decoded page is dropped: no context may find it any more. */
  dropExecute(map: number): void;
  /** Plain data, exact state of the modelled TLBs and counters. */
  save(): unknown;
  load(saved: unknown): void;
  readonly counters: TlbCounters;
}

export interface TlbCounters {
  /** Modelled first-level misses by kind, misses that also missed the second level, references made by walks (guest, second level). */
  dataMisses: number;
  instructionMisses: number;
  walks: number;
  walkReferences: number;
  secondLevelReferences: number;
}

/** Vector recorded in the CPU state when a second-level translation gave a VM exit instead of a fault. */
export const ABORT_VECTOR = 255;
