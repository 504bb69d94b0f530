import { accessRules, GUEST_RIGHTS, PageFault, Privilege } from '../cpu/access-rules.ts';
import type { SecondLevel } from '../cpu/hooks.ts';
import { AccessKind } from '../cpu/mmu.ts';
import { compileFormat, format32, format4, formatPae, Right, type CompiledFormat, type PageFormat } from '../cpu/page-format.ts';
import { Cr0Bits as Cr0, Cr4Bits as Cr4, EferBits as Efer } from './guest-registers.ts';
import { Walker, WalkOutcome } from '../cpu/walk.ts';
import type { VirtualMachine } from './monitor.ts';
import type { PagePool } from './page-pool.ts';
import type { Port } from './port.ts';

/** Bits of a shadow entry; accessed and dirty are set beforehand, so that the hardware never writes a shadow table. */
const Entry = { Present: 1, Write: 2, User: 4, Accessed: 0x20, Dirty: 0x40 } as const;
const TABLE = Entry.Present | Entry.Write | Entry.User | Entry.Accessed;
const NO_EXECUTE_HIGH = 0x80000000;
/** Words that clearing one page is billed as: one per cache line. */
const CLEAR_WORDS = 64;
const TWO32 = 4294967296;
/** Where fixed pages may lie: the top 2 MiB of a 32-bit linear space, one table in either format. */
const FIXED_START = 0xffe00000;
/** Start of the 32-bit table that maps them. */
const FIXED_TABLE = 0xffc00000;

/** Paging of the guest as the guest believes it to be. */
export interface GuestPaging {
  readonly paged: boolean;
  readonly pae: boolean;
  readonly long: boolean;
  readonly cr0: number;
  readonly cr3: number;
  readonly cr4: number;
  readonly efer: number;
  /** The four PDPTE registers as [low, high], loaded and checked when CR3 was written (PAE paging outside long mode). */
  readonly pdptes?: readonly (readonly [number, number])[];
}

/** What a page fault of the real CPU came to. */
export type ShadowResult =
  /** The shadow table was behind the guest's own; the access can be tried again. */
  | 'filled'
  /** The guest's own tables forbid the access: the error code to give it. */
  | { readonly guestFault: number }
  /** To be emulated: a device's guest-physical address (never mapped), or a write to a page that is `traced`. */
  | { readonly device: number; readonly traced?: true };

/** What must leave the real TLB when shadow entries go away. */
export interface ShadowTlb {
  page(linear: number): void;
  all(): void;
}

export interface ShadowOptions {
  /** The monitor's own pages, supervisor only, present in every address space: [linear, host-physical], in the top 2 MiB of 32 bits. */
  readonly fixed?: readonly (readonly [number, number])[];
  readonly tlb?: ShadowTlb;
  /** Guest-physical page number: writes there are reported, not mapped. */
  traced?(page: number): boolean;
}

export interface ShadowCounters { fills: number; guestFaults: number; flushes: number; poolFlushes: number; invalidations: number }

interface Table { readonly page: number; readonly entryBytes: 4 | 8 }

/**
 * Shadow page tables in the monitor's own memory, used as a virtual TLB: filled on demand from the guest's tables,
 * forgotten when the guest writes CR3, one page (or guest large page) on INVLPG. Pages are 4 KiB.
 *
 * The real CPU must run with CR0.PG and CR0.WP set, CR3 = {@link root}, CR4.PAE as {@link pae} says, EFER.LME for
 * long mode, EFER.NXE as the guest has it; SMEP and SMAP may be left to it, since U/S bits are the guest's.
 */
export class Shadow {
  readonly counters: ShadowCounters = { fills: 0, guestFaults: 0, flushes: 0, poolFlushes: 0, invalidations: 0 };
  private readonly port: Port;
  private readonly pool: PagePool;
  private readonly options: ShadowOptions;
  private readonly walker: Walker;
  private readonly second: GuestTables;
  private readonly formats = new Map<string, CompiledFormat>();
  private readonly format: (guest: GuestPaging) => CompiledFormat;
  private guest: GuestPaging = { paged: false, pae: false, long: false, cr0: 0, cr3: 0, cr4: 0, efer: 0 };
  private compiled: CompiledFormat;
  private layout: '32-bit' | 'PAE' | '4-level' = '32-bit';
  private rootPage = 0;
  /** Page directories under the four PAE entries: permanent, because the CPU reads those entries only when CR3 is loaded. */
  private directories: number[] = [];
  private tables: Table[] = [];
  /** Leaf tables that hold pieces of a guest large page. */
  private readonly large = new Set<number>();
  /** A guest 1-GByte page has been used. */
  private gigabyte = false;
  private fixed32 = 0;
  private fixedPae = 0;

  constructor(vm: VirtualMachine, port: Port, pool: PagePool, options: ShadowOptions = {}) {
    this.port = port;
    this.pool = pool;
    this.options = options;
    this.walker = new Walker(vm.core.cpu);
    this.second = new GuestTables(port, pool);
    const { profile } = vm;
    const features = profile.cpu.features;
    this.format = (guest) => {
      const nx = (guest.efer & Efer.NXE) !== 0;
      const pse = guest.pae || guest.long || (guest.cr4 & Cr4.PSE) !== 0;
      const row: PageFormat = guest.long ? format4 : guest.pae ? formatPae : format32;
      const key = `${row.name} ${nx} ${pse}`;
      let compiled = this.formats.get(key);
      if (!compiled) {
        compiled = compileFormat(row, {
          physicalAddressBits: profile.cpu.physicalAddressBits, executeDisable: nx, pageSizeExtensions: pse, accessedDirty: true,
          pageSize36: features.includes('PSE36'), gigabytePages: features.includes('PDPE1GB'),
        });
        this.formats.set(key, compiled);
      }
      return compiled;
    };
    this.compiled = this.format(this.guest);
    if (options.fixed) this.fixTables(options.fixed);
  }

  private fixTables(fixed: readonly (readonly [number, number])[]): void {
    this.fixed32 = this.pool.take();
    this.fixedPae = this.pool.take();
    for (const [linear, page] of fixed) {
      if (linear < FIXED_START) throw new Error(`fixed shadow page 0x${linear.toString(16)}: expected 0x${FIXED_START.toString(16)} or above`);
      const entry = page | Entry.Present | Entry.Write | Entry.Accessed | Entry.Dirty;
      this.port.writeHost(this.fixed32 + ((linear >>> 12) & 1023) * 4, entry);
      this.port.writeHost(this.fixedPae + ((linear >>> 12) & 511) * 8, entry);
    }
  }

  /** Host-physical address for the real CR3. */
  get root(): number { return this.rootPage; }
  /** The shadow tables have 8-byte entries: the real CR4.PAE must be set. */
  get pae(): boolean { return this.layout !== '32-bit'; }

  /** The guest's paging changed, or it wrote CR3: everything is dropped. The caller then loads the real CR3. */
  setGuest(guest: GuestPaging): void {
    this.guest = guest;
    this.compiled = this.format(guest);
    const layout = guest.paged && guest.long ? '4-level' : guest.paged && guest.pae ? 'PAE' : '32-bit';
    if (layout !== this.layout || this.rootPage === 0) {
      this.releaseTables();
      if (this.rootPage !== 0) this.pool.release(this.rootPage);
      for (const page of this.directories) this.pool.release(page);
      this.layout = layout;
      this.rootPage = this.take();
      this.directories = layout === 'PAE' ? [this.take(), this.take(), this.take(), this.take()] : [];
      this.link();
      this.counters.flushes++;
    } else this.clear();
  }

  /** Drops every translation; the real TLB is told. */
  flush(): void {
    this.clear();
    this.options.tlb?.all();
  }

  private clear(): void {
    this.counters.flushes++;
    this.releaseTables();
    this.wipe(this.rootPage);
    for (const page of this.directories) this.wipe(page);
    this.link();
  }
  private releaseTables(): void {
    for (const table of this.tables) this.pool.release(table.page);
    this.tables = [];
    this.large.clear();
    this.gigabyte = false;
  }
  private take(): number {
    this.port.spendWords(CLEAR_WORDS);
    return this.pool.take();
  }
  private wipe(page: number): void {
    this.port.spendWords(CLEAR_WORDS);
    this.pool.clear(page);
  }
  /** Entries that every address space has. */
  private link(): void {
    const { port, directories } = this;
    directories.forEach((page, i) => port.writeHost(this.rootPage + i * 8, page | Entry.Present));
    if (this.fixed32 === 0 || this.layout === '4-level') return;
    if (this.layout === 'PAE') port.writeHost(directories[3]! + 511 * 8, this.fixedPae | TABLE);
    else port.writeHost(this.rootPage + 1023 * 4, this.fixed32 | TABLE);
  }

  /**
   * Handles a page fault of the real CPU.
   * @param errorCode as the CPU gave it
   * @param alignmentFlag EFLAGS.AC at an explicit access (matters under SMAP)
   */
  fault(linear: number, errorCode: number, alignmentFlag = false): ShadowResult {
    const { guest, walker, compiled: format } = this;
    // the end of an instruction that begins below the monitor: no page of the guest is mapped there
    if (this.fixed32 !== 0 && linear >= FIXED_TABLE && linear < FIXED_START) return { device: linear };
    if (this.fixed32 !== 0 && linear >= FIXED_START) throw new Error(`page fault in the monitor's own pages at 0x${linear.toString(16)}, error ${errorCode}`);
    const low = linear | 0;
    const high = Math.floor(linear / TWO32);
    const user = (errorCode & PageFault.User) !== 0;
    const write = (errorCode & PageFault.Write) !== 0;
    const kind = write ? AccessKind.Write : errorCode & PageFault.Fetch ? AccessKind.Execute : AccessKind.Read;
    let frame = (low & -4096) >>> 0;
    let rights = GUEST_RIGHTS | Right.Read | Right.Dirty;
    let shift = 12;
    let traced = false;
    if (guest.paged) {
      const root = this.guestRoot(low);
      if (root < 0) return this.guestFault(errorCode, 0);
      const outcome = walker.walk(format, root, low, high, this.second, linear);
      if (outcome !== WalkOutcome.Mapped) return this.guestFault(errorCode, outcome === WalkOutcome.Reserved ? PageFault.Present | PageFault.Reserved : 0);
      const rules = accessRules[
        (user ? Privilege.User : 0) | (guest.cr0 & Cr0.WP ? Privilege.WriteProtect : 0) | (guest.cr4 & Cr4.SMAP ? Privilege.Smap : 0) | (alignmentFlag ? Privilege.AlignmentFlag : 0) | (guest.cr4 & Cr4.SMEP ? Privilege.Smep : 0)
      ]!;
      const need = rules[kind * 4]! & GUEST_RIGHTS;
      // without SMEP and NX the error code does not tell a fetch from a read: the CPU itself, under SMAP, refuses the read when it comes again
      const perhapsFetch = kind === AccessKind.Read && !(errorCode & PageFault.Present) && !(guest.cr4 & Cr4.SMEP) && !(guest.efer & Efer.NXE && guest.pae);
      const forbid = perhapsFetch ? 0 : rules[kind * 4 + 1]!;
      if ((walker.rights & need) !== need || (walker.rights & forbid) !== 0) return this.guestFault(errorCode, PageFault.Present);
      frame = walker.frame;
      if (!this.port.isGuestRam(frame)) return { device: frame + (low & 0xfff) };
      traced = this.options.traced?.(Math.floor(frame / 4096)) ?? false;
      if (traced && write) return { device: frame + (low & 0xfff), traced: true };
      walker.mark(format, write, this.second, linear);
      rights = walker.rights;
      shift = walker.shift;
    } else {
      if (!this.port.isGuestRam(frame)) return { device: frame + (low & 0xfff) };
      traced = this.options.traced?.(Math.floor(frame / 4096)) ?? false;
      if (traced && write) return { device: frame + (low & 0xfff), traced: true };
    }
    let bits = Entry.Present | Entry.Accessed | Entry.Dirty;
    let highBits = rights & Right.Execute ? 0 : NO_EXECUTE_HIGH;
    if (rights & Right.User) bits |= Entry.User;
    // read-only until the first write, so that the guest's dirty flag is set then
    if (rights & Right.Write && rights & Right.Dirty) bits |= Entry.Write;
    else if (write && !(rights & Right.Write)) {
      // CR0.WP clear: the kernel may write, and users must not meanwhile; their next access brings the page back
      bits = (bits | Entry.Write) & ~Entry.User;
      if (guest.cr4 & Cr4.SMEP && rights & Right.User) highBits = NO_EXECUTE_HIGH;
    }
    if (traced) bits &= ~Entry.Write;
    if (!(guest.efer & Efer.NXE)) highBits = 0;
    this.enter(low, high, this.port.hostOf(frame) | bits, highBits, shift);
    this.counters.fills++;
    return 'filled';
  }

  private guestRoot(low: number): number {
    const { guest } = this;
    if (guest.pae && !guest.long) {
      const entry = guest.pdptes?.[low >>> 30];
      if (!entry) throw new Error('PAE paging without its four PDPTEs: give them to setGuest');
      return entry[0] & 1 ? ((entry[0] & -4096) >>> 0) + (entry[1] & this.compiled.addressHigh) * TWO32 : -1;
    }
    return Math.floor(guest.cr3 / 4096) * 4096;
  }

  private guestFault(errorCode: number, found: number): ShadowResult {
    this.counters.guestFaults++;
    return { guestFault: found | (errorCode & (PageFault.Write | PageFault.User | PageFault.Fetch)) };
  }

  /** Physical address of a leaf entry, or 0; with `make` the tables above it are made. */
  private leaf(low: number, high: number, make: boolean): number {
    const { port, layout } = this;
    if (layout === '32-bit') return this.descend(this.rootPage + (low >>> 22) * 4, 4, make, (low >>> 12) & 1023);
    if (layout === 'PAE') return this.descend(this.directories[low >>> 30]! + ((low >>> 21) & 511) * 8, 8, make, (low >>> 12) & 511);
    let table = this.rootPage;
    for (const index of [(high >> 7) & 511, ((high & 0x7f) << 2) | (low >>> 30)]) {
      const at = table + index * 8;
      let entry = port.readHost(at);
      if (!(entry & Entry.Present)) {
        if (!make) return 0;
        entry = this.newTable(8) | TABLE;
        port.writeHost(at, entry);
      }
      table = (entry & -4096) >>> 0;
    }
    return this.descend(table + ((low >>> 21) & 511) * 8, 8, make, (low >>> 12) & 511);
  }
  private descend(at: number, entryBytes: 4 | 8, make: boolean, index: number): number {
    const { port } = this;
    let entry = port.readHost(at);
    if (!(entry & Entry.Present)) {
      if (!make) return 0;
      entry = this.newTable(entryBytes) | TABLE;
      port.writeHost(at, entry);
    }
    return ((entry & -4096) >>> 0) + index * entryBytes;
  }
  private newTable(entryBytes: 4 | 8): number {
    const page = this.take();
    this.tables.push({ page, entryBytes });
    return page;
  }

  private enter(low: number, high: number, entry: number, entryHigh: number, shift: number): void {
    const { port } = this;
    if (this.pool.available < 4) {
      this.counters.poolFlushes++;
      this.flush();
    }
    const at = this.leaf(low, high, true);
    if (this.layout !== '32-bit') port.writeHost(at + 4, entryHigh >>> 0);
    port.writeHost(at, entry >>> 0);
    if (shift > 12) this.large.add(at - (at & 0xfff));
    if (shift >= 30) this.gigabyte = true;
  }

  /** INVLPG of the guest: drops the page, or all of the guest large page around it. */
  invalidate(linear: number): void {
    this.counters.invalidations++;
    if (this.gigabyte) return this.flush();
    if (this.fixed32 !== 0 && linear >= FIXED_TABLE) return;
    const at = this.leaf(linear | 0, Math.floor(linear / TWO32), false);
    if (at !== 0) {
      const page = at - (at & 0xfff);
      if (this.large.has(page)) {
        const table = this.tables.find((candidate) => candidate.page === page)!;
        for (let offset = 0; offset < 4096; offset += table.entryBytes) if (this.port.readHost(page + offset) & Entry.Present) this.port.writeHost(page + offset, 0);
        this.large.delete(page);
        this.options.tlb?.all();
        return;
      }
      this.port.writeHost(at, 0);
    }
    this.options.tlb?.page(linear);
  }

  /** Guest-physical address behind a guest linear address for inspection, or -1; no flag changes. */
  guestPhysical(linear: number): number {
    const low = linear | 0;
    if (!this.guest.paged) return low >>> 0;
    const root = this.guestRoot(low);
    if (root < 0 || this.walker.walk(this.compiled, root, low, Math.floor(linear / TWO32), this.second, linear) !== WalkOutcome.Mapped) return -1;
    return this.walker.frame + (low & 0xfff);
  }

  /** Plain data; the tables themselves are in RAM. */
  save(): unknown {
    return structuredClone({
      guest: this.guest, layout: this.layout, rootPage: this.rootPage, directories: this.directories, tables: this.tables, large: [...this.large], gigabyte: this.gigabyte,
      fixed32: this.fixed32, fixedPae: this.fixedPae, ones: this.second.ones, counters: this.counters,
    });
  }
  load(saved: unknown): void {
    const s = structuredClone(saved) as {
      guest: GuestPaging; layout: Shadow['layout']; rootPage: number; directories: number[]; tables: Table[]; large: number[]; gigabyte: boolean;
      fixed32: number; fixedPae: number; ones: number; counters: ShadowCounters;
    };
    this.guest = s.guest;
    this.compiled = this.format(s.guest);
    this.layout = s.layout;
    this.rootPage = s.rootPage;
    this.directories = s.directories;
    this.tables = s.tables;
    this.large.clear();
    for (const page of s.large) this.large.add(page);
    this.gigabyte = s.gigabyte;
    this.fixed32 = s.fixed32;
    this.fixedPae = s.fixedPae;
    this.second.ones = s.ones;
    Object.assign(this.counters, s.counters);
  }
}

/** The guest's tables as the walker reads them: guest-physical plus the offset of its memory, every word billed. */
class GuestTables implements SecondLevel {
  readonly root = 0;
  readonly pageShift = 12;
  /** Read only: so that writing an accessed or dirty flag asks, and is billed. */
  readonly permissions = 1;
  readonly references = 0;
  /** A page of ones, which is what a table outside RAM reads as; 0 until one is needed. */
  ones = 0;
  private readonly port: Port;
  private readonly pool: PagePool;

  constructor(port: Port, pool: PagePool) {
    this.port = port;
    this.pool = pool;
  }
  translate(_cpu: unknown, guestPhysical: number): number {
    this.port.spendWords(1);
    return this.port.isGuestRam(guestPhysical) ? this.port.hostOf(guestPhysical) : this.outside() + (guestPhysical % 4096);
  }
  private outside(): number {
    if (this.ones === 0) {
      this.ones = this.pool.take();
      for (let offset = 0; offset < 4096; offset += 4) this.port.writeHost(this.ones + offset, 0xffffffff);
    }
    return this.ones;
  }
}
