import type { Cpu } from '../cpu/cpu.ts';
import { TranslatePurpose, type SecondLevel } from '../cpu/hooks.ts';
import type { EptCapability } from '../vmcs/capability.ts';
import { eptRoot } from './eptp.ts';
import { EptEntry, eptLevels, EptViolationBit, VALID_MEMORY_TYPES } from './format.ts';

const TWO32 = 4294967296;
/** How a stopped translation ends; the numbers are the basic exit reasons. */
export const EptStop = { Violation: 48, Misconfiguration: 49 } as const;

const shifts = eptLevels.map((level) => level.shift);
const accessOf = { page: TranslatePurpose.Page, tableRead: TranslatePurpose.TableRead, tableWrite: TranslatePurpose.TableWrite, physical: TranslatePurpose.Physical } as const;

/**
 * EPT as the page walker uses it: guest-physical to host-physical for one EPT pointer at a time. Tables are read
 * from, and accessed and dirty flags written to, the machine's physical memory. A translation that fails leaves the
 * exit in `stopReason` and the fields after it.
 */
export class EptTranslation implements SecondLevel {
  /** Page number of the top table: the tag of guest-physical and combined mappings. */
  root = 0;
  pageShift = 12;
  permissions = 0;
  references = 0;
  /** Memory type of the last translation (bits 5:3 of the leaf entry). */
  memoryType = 6;
  /** EptStop of the last failed translation, 0 when none is pending. */
  stopReason = 0;
  stopQualification = 0;
  stopGuestPhysical = 0;
  stopLinear = 0;
  stopLinearValid = false;

  private top = 0;
  private accessedDirty = false;
  private readonly executeOnly: boolean;
  /** Per level: reserved low bits of table and page entries, and whether bit 7 may make a page. */
  private readonly reservedTable: readonly number[];
  private readonly reservedPage: readonly number[];
  private readonly mayMapPage: readonly boolean[];
  /** Reserved bits of the high word. */
  private readonly reservedHigh: number;
  private readonly entryAddress = new Float64Array(4);
  private readonly entryLow = new Uint32Array(4);

  constructor(capability: EptCapability, physicalBits: number) {
    this.executeOnly = capability.executeOnly;
    this.reservedTable = eptLevels.map((level) => level.reservedTable);
    this.reservedPage = eptLevels.map((level) => level.reservedPage);
    this.mayMapPage = eptLevels.map((level) => level.page === 'always' || (level.page !== 'never' && capability[level.page]));
    // bits 51:width of every entry are reserved, bits 63:52 are ignored
    this.reservedHigh = physicalBits >= 52 ? 0 : (0xfffff & ~((1 << (physicalBits - 32)) - 1)) >>> 0;
  }

  /** Uses this EPT pointer from now on (checked by VM entry). */
  setPointer(low: number, high: number): void {
    this.top = eptRoot(low, high);
    this.root = this.top / 4096;
    this.accessedDirty = (low & 0x40) !== 0;
  }

  translate(cpu: Cpu, guestPhysical: number, access: number, purpose: TranslatePurpose, linear: number): number {
    const gpaLow = guestPhysical >>> 0;
    const gpaHigh = Math.floor(guestPhysical / TWO32);
    // with accessed and dirty flags on, the walker's own accesses to guest tables count as writes
    const isTable = purpose === accessOf.tableRead || purpose === accessOf.tableWrite;
    const needed = isTable && this.accessedDirty ? access | EptEntry.Write : access;
    this.references = 0;
    if (gpaHigh >>> 16 !== 0) return this.violation(guestPhysical, needed, 0, purpose, linear); // beyond what four levels translate
    let table = this.top;
    let permissions = EptEntry.Permissions as number;
    for (let level = 0; level < 4; level++) {
      const shift = shifts[level]!;
      const index = shift >= 32 ? (gpaHigh >>> (shift - 32)) & 0x1ff : shift > 23 ? ((gpaLow >>> shift) | (gpaHigh << (32 - shift))) & 0x1ff : (gpaLow >>> shift) & 0x1ff;
      const at = table + index * 8;
      const low = cpu.readPhysical(at, 4);
      const high = cpu.readPhysical(at + 4, 4);
      this.references++;
      this.entryAddress[level] = at;
      this.entryLow[level] = low;
      const bits = low & EptEntry.Permissions;
      if (bits === 0) return this.violation(guestPhysical, needed, 0, purpose, linear);
      const isPage = level === 3 || ((low & EptEntry.Page) !== 0 && this.mayMapPage[level]!);
      if ((bits & 3) === EptEntry.Write || (bits === EptEntry.Execute && !this.executeOnly) || (high & this.reservedHigh) !== 0
        || (isPage ? (low & this.reservedPage[level]!) !== 0 || (VALID_MEMORY_TYPES & (1 << ((low >>> EptEntry.MemoryTypeShift) & 7))) === 0
          : (low & (this.reservedTable[level]! | EptEntry.Page)) !== 0)) {
        return this.misconfiguration(guestPhysical);
      }
      permissions &= bits;
      const base = (high & 0xfffff) * TWO32;
      if (!isPage) {
        table = base + ((low & EptEntry.AddressLow) >>> 0);
        continue;
      }
      if ((needed & ~permissions) !== 0) return this.violation(guestPhysical, needed, permissions, purpose, linear);
      let effective = permissions;
      if (this.accessedDirty) effective = this.mark(cpu, level, needed, permissions);
      this.permissions = effective;
      this.pageShift = shift;
      this.memoryType = (low >>> EptEntry.MemoryTypeShift) & 7;
      const offset = shift >= 32 ? gpaLow : gpaLow & ((1 << shift) - 1);
      return base + (((low & EptEntry.AddressLow) >>> 0) + offset);
    }
    throw new Error('the EPT walk went past its last level: eptLevels does not end in a level with page "always"');
  }

  /** The host-physical address without accessed flags, exits or counts; -1 where there is no translation. */
  peek(cpu: Cpu, guestPhysical: number): number {
    if (guestPhysical >= 2 ** 48) return -1;
    let table = this.top;
    for (let level = 0; level < 4; level++) {
      const span = 2 ** shifts[level]!;
      const at = table + (Math.floor(guestPhysical / span) % 512) * 8;
      const low = cpu.readPhysical(at, 4);
      if ((low & EptEntry.Permissions) === 0) return -1;
      const target = (cpu.readPhysical(at + 4, 4) & 0xfffff) * TWO32 + ((low & EptEntry.AddressLow) >>> 0);
      if (level === 3 || ((low & EptEntry.Page) !== 0 && this.mayMapPage[level]!)) return Math.floor(target / span) * span + (guestPhysical % span);
      table = target;
    }
    return -1;
  }

  /** Sets the accessed flags on the way and, for writes, the dirty flag of the leaf; returns the permissions a mapping may cache. */
  private mark(cpu: Cpu, leaf: number, needed: number, permissions: number): number {
    for (let level = 0; level <= leaf; level++) {
      const low = this.entryLow[level]!;
      const set = low | EptEntry.Accessed | (level === leaf && (needed & EptEntry.Write) !== 0 ? EptEntry.Dirty : 0);
      if (set !== low) {
        cpu.writePhysical(this.entryAddress[level]!, 4, set >>> 0);
        this.entryLow[level] = set;
      }
    }
    return (this.entryLow[leaf]! & EptEntry.Dirty) !== 0 ? permissions : permissions & ~EptEntry.Write;
  }

  private violation(guestPhysical: number, access: number, permissions: number, purpose: TranslatePurpose, linear: number): -1 {
    this.stopReason = EptStop.Violation;
    this.stopGuestPhysical = guestPhysical;
    this.stopLinearValid = purpose !== accessOf.physical;
    this.stopLinear = this.stopLinearValid ? linear : 0;
    // an update of a guest table entry is a read-modify-write; so is any table access with accessed and dirty flags on
    const kind = purpose === accessOf.tableWrite || (purpose === accessOf.tableRead && this.accessedDirty) ? access | EptViolationBit.Read | EptViolationBit.Write : access;
    this.stopQualification = (kind & 7) | ((permissions & 7) << 3) | (this.stopLinearValid ? EptViolationBit.LinearValid : 0) | (purpose === accessOf.page ? EptViolationBit.FinalTranslation : 0);
    return -1;
  }

  private misconfiguration(guestPhysical: number): -1 {
    this.stopReason = EptStop.Misconfiguration;
    this.stopGuestPhysical = guestPhysical;
    this.stopQualification = 0;
    this.stopLinear = 0;
    this.stopLinearValid = false;
    return -1;
  }
}
