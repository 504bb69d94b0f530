import type { Capability } from './capability.ts';
import { Primary, type Control, type ControlGroup } from './control.ts';
import { Field, fields, type FieldName } from './field.ts';
import type { Vmcs } from './storage.ts';

/** What the entry checks look at besides the VMCS. */
export interface CheckContext {
  readonly vmcs: Vmcs;
  readonly capability: Capability;
  readonly physicalBits: number;
  readonly linearBits: number;
  /** The CPU is in IA-32e mode when it executes the VM entry (IA32_EFER.LMA). */
  readonly hostLongMode: boolean;
  /** Word at a physical address (VMCS link pointer). */
  readonly readWord: (physical: number) => number;
  /** IA32_EFER bits the CPU has. */
  readonly eferBits: number;
  /** IA32_DEBUGCTL bits the CPU has. */
  readonly debugctlBits: number;
}

/** The three lists fail differently: VMfailValid 7, VMfailValid 8, VM exit 33. */
export const CheckGroup = { Control: 'control', Host: 'host', Guest: 'guest' } as const;
export type CheckGroup = (typeof CheckGroup)[keyof typeof CheckGroup];

/** One check of VM entry. */
export interface Check {
  /** Stable name: 'host.cr4.fixed'. */
  readonly id: string;
  readonly group: CheckGroup;
  /** What must hold, in our words. */
  readonly sentence: string;
  /** Title of the SDM section. */
  readonly title: string;
  /** Every field the predicate may read. */
  readonly fields: readonly Field[];
  readonly holds: (context: CheckContext) => boolean;
  readonly cause: string;
  readonly fix: string;
  /** Exit qualification of a guest-state failure (SDM "Exit Qualification" of VM-entry failures): 0, 2, 3 or 4. */
  readonly qualification: number;
}

/** A check that does not hold, with the values it saw. */
export interface Failure {
  readonly check: Check;
  readonly values: readonly { readonly field: Field; readonly value: bigint }[];
}

interface Meaning {
  readonly cause: string;
  readonly fix: string;
  readonly qualification?: number;
}

/** Builder of one list: all checks of a section share group and title. */
export function checkList(group: CheckGroup): { rows: Check[]; section(title: string): (id: string, sentence: string, members: readonly FieldName[], holds: (context: CheckContext) => boolean, meaning: Meaning) => void } {
  const rows: Check[] = [];
  return {
    rows,
    section: (title) => (id, sentence, members, holds, { cause, fix, qualification = 0 }) => {
      rows.push({ id: `${group}.${id}`, group, sentence, title, fields: members.map((member) => Field[member]), holds, cause, fix, qualification });
    },
  };
}

// --- readings shared by the predicates ---------------------------------------------------------------------------

const wordOf = { PinBased: Field.PinBasedControls, Primary: Field.PrimaryControls, Secondary: Field.SecondaryControls, Tertiary: Field.TertiaryControls, Exit: Field.PrimaryExitControls, SecondaryExit: Field.SecondaryExitControls, Entry: Field.EntryControls } as const;

/** A control is 1, taking into account that the secondary word counts only when it is activated. */
export function on(c: CheckContext, control: Control): boolean {
  if (control.group === 'Secondary' && (c.vmcs.low(Field.PrimaryControls) & Primary.ActivateSecondaryControls.mask) === 0) return false;
  return (c.vmcs.low(wordOf[control.group]) & control.mask) !== 0;
}
/** All must-be-1 bits are 1 and no bit is 1 that may not be. */
export function allowed(c: CheckContext, group: ControlGroup): boolean {
  const value = c.vmcs.low(wordOf[group]);
  return (~value & c.capability.mustBe1[group]) === 0 && (value & ~c.capability.mayBe1[group]) === 0;
}

/** Bits beyond the physical-address width are 0. */
export function physical(c: CheckContext, high: number): boolean {
  return c.physicalBits >= 64 || high >>> (c.physicalBits - 32) === 0;
}
/** A physical address inside the width, aligned to 2^shift bytes. */
export function physicalAligned(c: CheckContext, field: Field, shift: number): boolean {
  return (c.vmcs.low(field) & ((1 << shift) - 1)) === 0 && physical(c, c.vmcs.high(field));
}
/** Bits 63 to linear width - 1 are all equal. */
export function canonical(c: CheckContext, field: Field): boolean {
  const high = c.vmcs.high(field) | 0;
  const sign = high >> (c.linearBits - 33);
  return sign === 0 || sign === -1;
}
/** The range of a list of `count` 16-byte entries: aligned, and its last byte inside the physical width. */
export function msrArea(c: CheckContext, count: Field, address: Field): boolean {
  const entries = c.vmcs.low(count);
  if (entries === 0) return true;
  if (c.vmcs.low(address) & 15) return false;
  const last = c.vmcs.high(address) * 4294967296 + c.vmcs.low(address) + entries * 16 - 1;
  return last < 2 ** c.physicalBits;
}
/** Each byte is a memory type of IA32_PAT: 0, 1, 4, 5, 6 or 7. */
export function patValid(low: number, high: number): boolean {
  for (let i = 0; i < 8; i++) {
    const type = ((i < 4 ? low >>> (8 * i) : high >>> (8 * (i - 4))) & 0xff);
    if (type > 7 || type === 2 || type === 3) return false;
  }
  return true;
}
/** Bits fixed to 1 are 1, and none is 1 that is fixed to 0; the high word is 0. */
export function fixedBits(low: number, high: number, fixed0: number, fixed1: number): boolean {
  return (~low & fixed0) === 0 && (low & ~fixed1) === 0 && high === 0;
}

// --- running -----------------------------------------------------------------------------------------------------

/** All checks of a list that do not hold, in order. */
export function runChecks(list: readonly Check[], context: CheckContext): Failure[] {
  const failures: Failure[] = [];
  for (const check of list) {
    if (check.holds(context)) continue;
    failures.push({ check, values: check.fields.map((field) => ({ field, value: context.vmcs.value(field) })) });
  }
  return failures;
}

const readerTables = new WeakMap<readonly Check[], readonly Int32Array[]>();

/** Per field number: the due bits of the checks that read it, as [word, bits, word, bits …]. */
function readersOf(list: readonly Check[]): readonly Int32Array[] {
  let table = readerTables.get(list);
  if (table) return table;
  const readers: Map<number, number>[] = fields.map(() => new Map());
  list.forEach((check, index) => {
    for (const field of check.fields) {
      const words = readers[field.number]!;
      words.set(index >>> 5, (words.get(index >>> 5) ?? 0) | (1 << (index & 31)));
    }
  });
  table = readers.map((words) => Int32Array.from([...words].flat()));
  readerTables.set(list, table);
  return table;
}

/**
 * Which checks of a list must run again. VMWRITE tells it the field; the checks that read it become due. Values
 * saved by a VM exit are valid by construction and are not reported. One bit per check.
 */
export class CheckCache {
  readonly list: readonly Check[];
  private readonly due: Uint32Array;
  private any = true;
  private readonly readers: readonly Int32Array[];

  constructor(list: readonly Check[]) {
    this.list = list;
    this.due = new Uint32Array(Math.ceil(list.length / 32));
    this.readers = readersOf(list);
    this.invalidate();
  }

  /** Everything must be checked again (another VMCS, another mode). */
  invalidate(): void {
    for (let i = 0; i < this.list.length; i++) this.due[i >>> 5]! |= 1 << (i & 31);
    this.any = true;
  }
  /** A field got a new value. */
  written(field: number): void {
    const words = this.readers[field]!;
    for (let i = 0; i < words.length; i += 2) this.due[words[i]!]! |= words[i + 1]!;
    if (words.length) this.any = true;
  }
  /** Index of the first due check that fails, or -1; passed checks are no longer due. */
  first(context: CheckContext): number {
    if (!this.any) return -1;
    for (let word = 0; word < this.due.length; word++) {
      while (this.due[word] !== 0) {
        const bit = 31 - Math.clz32(this.due[word]! & -this.due[word]!);
        const index = word * 32 + bit;
        if (!this.list[index]!.holds(context)) return index;
        this.due[word]! &= ~(1 << bit);
      }
    }
    this.any = false;
    return -1;
  }
  save(): number[] { return [...this.due]; }
  load(saved: readonly number[]): void {
    this.due.set(saved);
    this.any = true;
  }
}
