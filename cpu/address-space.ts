const LAST_ID = 0xffff;
const HINTS = 256;
/** Address spaces known at once. */
export const MAX_SPACES = 4096;

/**
 * Address spaces that the modelled TLB tells apart. Every combination of VPID, PCID and EPT root gets a number and
 * a tag for its own entries; spaces that differ only in PCID share a group, whose tag marks global entries. Giving
 * a space or group a new tag is how its entries are flushed: nothing matches the old one any more.
 */
export class AddressSpaces {
  count = 0;
  groups = 0;
  readonly vpid = new Int32Array(MAX_SPACES);
  readonly pcid = new Int32Array(MAX_SPACES);
  /** Second-level root, or -1. */
  readonly root = new Float64Array(MAX_SPACES);
  /** 1: paging is off in this space (its addresses are guest-physical). */
  readonly unpaged = new Uint8Array(MAX_SPACES);
  readonly group = new Int32Array(MAX_SPACES);
  readonly local = new Int32Array(MAX_SPACES);
  readonly groupVpid = new Int32Array(MAX_SPACES);
  readonly groupRoot = new Float64Array(MAX_SPACES);
  readonly shared = new Int32Array(MAX_SPACES);
  /** By group: 1 = entries may exist (set by fills, cleared when the whole group is flushed). */
  readonly touched = new Uint8Array(MAX_SPACES);
  /** 1: the tag is some space's or group's. Tag 0 is never used. */
  readonly alive = new Uint8Array(LAST_ID + 1);
  private nextId = 1;
  private readonly hints = new Int32Array(HINTS);

  /** Number of a space, or -1 when it is new and there is no room for another. */
  find(vpid: number, pcid: number, root: number, unpaged: number): number {
    const hint = (vpid * 5 + pcid * 3 + unpaged + (root >= 0 ? 1 : 0)) & (HINTS - 1);
    let space = this.hints[hint]!;
    if (space < this.count && this.vpid[space] === vpid && this.pcid[space] === pcid && this.root[space] === root && this.unpaged[space] === unpaged) return space;
    for (space = 0; space < this.count; space++) {
      if (this.vpid[space] === vpid && this.pcid[space] === pcid && this.root[space] === root && this.unpaged[space] === unpaged) {
        this.hints[hint] = space;
        return space;
      }
    }
    if (this.count === MAX_SPACES || this.full) return -1;
    this.vpid[space] = vpid;
    this.pcid[space] = pcid;
    this.root[space] = root;
    this.unpaged[space] = unpaged;
    this.local[space] = this.take();
    this.count++;
    let group = 0;
    while (group < this.groups && (this.groupVpid[group] !== vpid || this.groupRoot[group] !== root)) group++;
    if (group === this.groups) {
      this.groupVpid[group] = vpid;
      this.groupRoot[group] = root;
      this.shared[group] = this.take();
      this.touched[group] = 0;
      this.groups++;
    }
    this.group[space] = group;
    this.hints[hint] = space;
    return space;
  }

  /** No more tags: {@link compact} before asking for one. */
  get full(): boolean { return this.nextId >= LAST_ID; }

  private take(): number {
    const id = this.nextId++;
    if (id > LAST_ID) throw new Error('TLB tags exhausted: compact() must run when full is set');
    this.alive[id] = 1;
    return id;
  }

  /** Flushes a space's own entries. */
  renewLocal(space: number): void {
    this.alive[this.local[space]!] = 0;
    this.local[space] = this.take();
  }
  /** Flushes a group's global entries. */
  renewShared(group: number): void {
    this.alive[this.shared[group]!] = 0;
    this.shared[group] = this.take();
    this.touched[group] = 0;
  }

  /** Renumbers the tags in use from 1. Returns new tag by old tag (0 = dead), with which entries must be rewritten. */
  compact(): Uint16Array {
    const map = new Uint16Array(LAST_ID + 1);
    let next = 1;
    for (let space = 0; space < this.count; space++) {
      map[this.local[space]!] = next;
      this.local[space] = next++;
    }
    for (let group = 0; group < this.groups; group++) {
      map[this.shared[group]!] = next;
      this.shared[group] = next++;
    }
    this.alive.fill(0);
    this.alive.fill(1, 1, next);
    this.nextId = next;
    return map;
  }

  /** Forgets everything. */
  reset(): void {
    this.count = 0;
    this.groups = 0;
    this.nextId = 1;
    this.alive.fill(0);
  }

  save(): SavedSpaces {
    const spaces = Array.from({ length: this.count }, (_, s) => [this.vpid[s]!, this.pcid[s]!, this.root[s]!, this.unpaged[s]!, this.group[s]!, this.local[s]!]);
    const groups = Array.from({ length: this.groups }, (_, g) => [this.groupVpid[g]!, this.groupRoot[g]!, this.shared[g]!]);
    return { spaces, groups, nextId: this.nextId };
  }

  load(saved: SavedSpaces): void {
    this.reset();
    this.count = saved.spaces.length;
    this.groups = saved.groups.length;
    this.nextId = saved.nextId;
    saved.spaces.forEach((row, s) => {
      [this.vpid[s], this.pcid[s], this.root[s], this.unpaged[s], this.group[s], this.local[s]] = row as [number, number, number, number, number, number];
      this.alive[this.local[s]!] = 1;
    });
    saved.groups.forEach((row, g) => {
      [this.groupVpid[g], this.groupRoot[g], this.shared[g]] = row as [number, number, number];
      this.alive[this.shared[g]!] = 1;
      this.touched[g] = 1;
    });
  }
}

/** Rows: vpid, pcid, root, unpaged, group, tag; and vpid, root, tag. */
export interface SavedSpaces {
  readonly spaces: readonly (readonly number[])[];
  readonly groups: readonly (readonly number[])[];
  readonly nextId: number;
}
