import { Descriptor, SystemType } from '../cpu/descriptor.ts';
import type { Port } from './port.ts';

/** First linear address that guest segments may not reach: the monitor lives above. */
export const GUEST_END = 0xffc00000;
/** Entries of a descriptor table at most. */
const ENTRIES = 8192;

/** A segment register as the guest believes it to be; attributes as in the VMX access-rights format. */
export interface SegmentRegister { selector: number; base: number; limit: number; attributes: number }

const Attribute = { Accessed: 1, Expand: 4, Code: 8, S: 0x10, DplShift: 5, Dpl: 0x60, Present: 0x80, Big: 0x4000, Granularity: 0x8000, Unusable: 0x10000 } as const;

/** The present bit in the high word of a descriptor. */
const PRESENT = 0x8000;

/** The two words of a segment descriptor; the high one is signed. */
export interface DescriptorWords { low: number; high: number }

/**
 * The descriptor that stands for a guest segment in the real tables: privilege level 0 raised to 1, the limit cut
 * below the monitor, the accessed bit set (so that the hardware never writes it). Where no limit can keep the
 * segment out of the monitor (expand-down, or a base above the cut) the real segment contains nothing at all, and
 * every access through it is emulated.
 */
export function segmentImage(base: number, limit: number, attributes: number, into: DescriptorWords): void {
  let dpl = (attributes & Attribute.Dpl) >> Attribute.DplShift;
  if (dpl === 0) dpl = 1;
  let bits = (attributes & ~(Attribute.Dpl | Attribute.Unusable)) | (dpl << Attribute.DplShift) | Attribute.Accessed;
  const expandDown = (attributes & (Attribute.Code | Attribute.Expand)) === Attribute.Expand;
  const room = GUEST_END - base;
  let empty = false;
  if (expandDown) empty = (attributes & Attribute.Big) !== 0 || room < 0x10000;
  else if (limit >= room) {
    if (room <= 0) empty = true;
    else limit = room > 0x100000 ? Math.floor(room / 4096) * 4096 - 1 : room - 1;
  }
  if (empty) {
    // expand-down from the top: no offset is valid (a code segment becomes one that cannot be read either)
    if (bits & Attribute.Code) bits &= ~(Attribute.Code | 2);
    bits |= Attribute.Expand | Attribute.Big;
    limit = 0xffffffff;
  }
  const granular = limit > 0xfffff;
  const raw = granular ? limit >>> 12 : limit;
  bits = granular ? bits | Attribute.Granularity : bits & ~Attribute.Granularity;
  into.low = (raw & 0xffff) | (base << 16);
  into.high = ((base >>> 16) & 0xff) | ((bits & 0xf0ff) << 8) | (raw & 0xf0000) | (base & 0xff000000);
}

/** Limit of an image in bytes. */
export function imageLimit(words: DescriptorWords): number {
  const raw = (words.low & 0xffff) | (words.high & 0xf0000);
  return words.high & (Attribute.Granularity << 8) ? ((raw << 12) | 0xfff) >>> 0 : raw;
}

const words = new Descriptor();
const image: DescriptorWords = { low: 0, high: 0 };

/** How the monitor reads the guest's memory by linear address: guest-physical, or -1 where nothing is mapped. */
export type GuestTranslate = (linear: number) => number;

/**
 * One real descriptor table that shadows one of the guest's. System descriptors stay empty (using them traps and is
 * emulated), and code segments of ring 3 stay not present, so that the kernel's return to user mode traps too.
 */
export class DescriptorTable {
  /** The guest's table: linear base and limit; limit -1 = none. */
  base = 0;
  limit = -1;
  /** The guest's words as last read, [low, high] by entry. */
  readonly originals = new Int32Array(2 * ENTRIES);
  /** Guest-physical pages that hold the guest's table, by page of the linear table; -1 = not mapped. */
  private pages: number[] = [];
  /** Changes with every real entry that changed. */
  generation = 0;
  /** Entry made present while the CPU runs in ring 3, or -1. */
  private opened = -1;
  private readonly real: Int32Array = new Int32Array(2 * ENTRIES);
  private readonly port: Port;
  private readonly physical: number;
  private readonly available: number;

  /** @param physical host-physical address of the real table; `available` entries of it mirror the guest's */
  constructor(port: Port, physical: number, available: number) {
    this.port = port;
    this.physical = physical;
    this.available = available;
  }

  /** The guest's table moved, or perhaps changed as a whole. Returns the reason why it cannot be shadowed, or null. */
  locate(base: number, limit: number, translate: GuestTranslate): string | null {
    const entries = limit < 0 ? 0 : (limit + 1) >>> 3;
    if (entries > this.available) return `a descriptor table of ${entries} entries: the last ${ENTRIES - this.available} of ${ENTRIES} are the monitor's`;
    const before = this.limit < 0 ? 0 : (this.limit + 1) >>> 3;
    this.base = base;
    this.limit = limit;
    this.pages = this.translations(translate);
    for (let i = 0; i < entries; i++) this.refresh(i);
    for (let i = entries; i < before; i++) this.put(i, 0, 0, 0, 0);
    return null;
  }

  private translations(translate: GuestTranslate): number[] {
    const pages: number[] = [];
    if (this.limit < 0) return pages;
    const first = Math.floor(this.base / 4096) * 4096;
    const last = this.base + this.limit;
    for (let linear = first; linear <= last; linear += 4096) {
      const physical = translate(linear >>> 0);
      pages.push(physical < 0 || !this.port.isGuestRam(physical) ? -1 : physical - (physical % 4096));
    }
    return pages;
  }

  /** The guest's page tables changed: true when the table now lies elsewhere, and must be located anew. */
  moved(translate: GuestTranslate): boolean {
    const now = this.translations(translate);
    return now.some((page, i) => page !== this.pages[i]);
  }
  /** Whether a guest-physical page number holds part of the table. */
  covers(page: number): boolean { return this.pages.includes(page * 4096); }
  get tracedPages(): readonly number[] { return this.pages; }

  /** Guest RAM at these guest-physical addresses was written. */
  written(guestPhysical: number, size: number): void {
    const page = guestPhysical - (guestPhysical % 4096);
    this.pages.forEach((candidate, k) => {
      if (candidate !== page) return;
      const offset = Math.floor(this.base / 4096) * 4096 + k * 4096 + (guestPhysical - page) - this.base;
      const entries = (this.limit + 1) >>> 3;
      for (let i = Math.max(0, offset >> 3); i <= (offset + size - 1) >> 3 && i < entries; i++) this.refresh(i);
    });
  }

  private word(linear: number): number {
    const page = this.pages[Math.floor(linear / 4096) - Math.floor(this.base / 4096)]!;
    return page < 0 ? 0 : this.port.readGuest(page + (linear % 4096)) | 0;
  }
  private refresh(i: number): void {
    const at = this.base + i * 8;
    let low: number;
    let high: number;
    if (at % 4 === 0) {
      low = this.word(at);
      high = this.word(at + 4);
    } else {
      // an unaligned table: its words from the aligned ones around them
      const shift = (at % 4) * 8;
      const a = this.word(at - (at % 4));
      const b = this.word(at - (at % 4) + 4);
      const c = this.word(at - (at % 4) + 8);
      low = (a >>> shift) | (b << (32 - shift));
      high = (b >>> shift) | (c << (32 - shift));
    }
    words.low = low;
    words.high = high;
    let realLow = 0;
    let realHigh = 0;
    if (words.isSegment && i !== 0) {
      segmentImage(words.base, words.limit, words.attributes, image);
      realLow = image.low;
      realHigh = image.high;
      if (words.isCode && !words.isConforming && words.dpl === 3) realHigh &= ~PRESENT;
    }
    this.put(i, low, high, realLow, realHigh);
  }
  private put(i: number, low: number, high: number, realLow: number, realHigh: number): void {
    this.originals[2 * i] = low;
    this.originals[2 * i + 1] = high;
    if (i === this.opened) this.opened = -1;
    this.writeReal(i, realLow, realHigh);
  }
  /** Writes a real entry. */
  writeReal(i: number, low: number, high: number): void {
    if (this.real[2 * i] === low && this.real[2 * i + 1] === high) return;
    if (this.real[2 * i] !== low) this.port.writeHost(this.physical + i * 8, low >>> 0);
    if (this.real[2 * i + 1] !== high) this.port.writeHost(this.physical + i * 8 + 4, high >>> 0);
    this.real[2 * i] = low;
    this.real[2 * i + 1] = high;
    this.generation++;
  }

  /** The segment that a guest selector names, as loaded. */
  segment(selector: number): SegmentRegister {
    const i = selector >> 3;
    words.low = this.originals[2 * i]!;
    words.high = this.originals[2 * i + 1]!;
    return { selector, base: words.base, limit: words.limit, attributes: words.attributes | Attribute.Accessed };
  }
  /** Whether loading this index gives the real image of a register; `open`: once {@link open} has made it present. */
  gives(i: number, low: number, high: number, open: boolean): boolean {
    if (this.real[2 * i] !== low) return false;
    const real = this.real[2 * i + 1]!;
    return real === high || (open && (this.originals[2 * i + 1]! & PRESENT) !== 0 && (real | PRESENT) === high);
  }
  isPresent(i: number): boolean { return (this.real[2 * i + 1]! & PRESENT) !== 0; }

  /** Ring 3 is about to run in this code segment: present from now on. */
  open(i: number): void {
    if (this.opened === i) return;
    this.close();
    if (this.isPresent(i)) return;
    const { generation } = this;
    this.writeReal(i, this.real[2 * i]!, this.real[2 * i + 1]! | PRESENT);
    this.generation = generation;
    this.opened = i;
  }
  /** The kernel is about to run: no code segment of ring 3 is present. */
  close(): void {
    if (this.opened < 0) return;
    const { generation } = this;
    const i = this.opened;
    this.opened = -1;
    this.writeReal(i, this.real[2 * i]!, this.real[2 * i + 1]! & ~PRESENT);
    this.generation = generation;
  }

  save(): unknown {
    const entries = this.limit < 0 ? 0 : (this.limit + 1) >>> 3;
    return { base: this.base, limit: this.limit, pages: [...this.pages], generation: this.generation, opened: this.opened, originals: [...this.originals.subarray(0, 2 * entries)], real: [...this.real] };
  }
  load(saved: unknown): void {
    const s = saved as { base: number; limit: number; pages: number[]; generation: number; opened: number; originals: number[]; real: number[] };
    this.base = s.base;
    this.limit = s.limit;
    this.pages = [...s.pages];
    this.generation = s.generation;
    this.opened = s.opened;
    this.originals.fill(0);
    this.originals.set(s.originals);
    this.real.set(s.real);
  }
}

/** Access rights of the monitor's own descriptors and of system descriptors it makes. */
export const SystemAccess = { Code: 0xc09b, Data: 0xc093, Tss: 0x80 | SystemType.AvailableTss32, Ldt: 0x80 | SystemType.Ldt } as const;

/** Words of any descriptor, unchanged. */
export function encodeDescriptor(base: number, limit: number, attributes: number): readonly [number, number] {
  const raw = attributes & Attribute.Granularity ? limit >>> 12 : limit;
  return [(raw & 0xffff) | (base << 16), ((base >>> 16) & 0xff) | ((attributes & 0xf0ff) << 8) | (raw & 0xf0000) | (base & 0xff000000)];
}
export const isUnusable = (attributes: number): boolean => (attributes & Attribute.Unusable) !== 0;
