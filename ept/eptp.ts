/** Fields of the EPT pointer (SDM "Extended-Page-Table Pointer (EPTP)"). */
export interface EptPointer {
  /** Host-physical address of the top table. */
  readonly root: number;
  readonly memoryType: number;
  readonly walkLength: number;
  readonly accessedDirty: boolean;
}

export function decodeEptPointer(low: number, high: number): EptPointer {
  return { root: eptRoot(low, high), memoryType: low & 7, walkLength: ((low >>> 3) & 7) + 1, accessedDirty: (low & 0x40) !== 0 };
}

/** An EPT pointer to a top table at `root` with memory type write-back and walk length 4, as [low, high]. */
export function encodeEptPointer(root: number, accessedDirty = false): [low: number, high: number] {
  if (root % 4096 !== 0) throw new Error(`EPT root 0x${root.toString(16)} is not 4 KiB aligned`);
  return [((root >>> 0) | 0x1e | (accessedDirty ? 0x40 : 0)) >>> 0, Math.floor(root / 4294967296)];
}

/** Address of the top table. */
export function eptRoot(low: number, high: number): number {
  return (high & 0xfffff) * 4294967296 + ((low & 0xfffff000) >>> 0);
}
