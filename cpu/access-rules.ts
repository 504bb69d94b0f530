import { Right } from './page-format.ts';

/** Page-fault error code (SDM "Page-Fault Exceptions"). */
export const PageFault = { Present: 1, Write: 2, User: 4, Reserved: 8, Fetch: 16 } as const;

/** What the access rules depend on; bits of an index into {@link accessRules}. */
export const Privilege = { User: 1, WriteProtect: 2, Smap: 4, AlignmentFlag: 8, Smep: 16 } as const;

/**
 * Rights that each access needs and that forbid it: [need, forbid] at index (kind * 2 + implicit) * 2, kind as
 * AccessKind, implicit = implicit supervisor access.
 */
export type AccessRules = Int32Array;

/** SDM "Determination of Access Rights", for one combination of {@link Privilege} bits. */
function rulesFor(privilege: number): AccessRules {
  const has = (bit: number): boolean => (privilege & bit) !== 0;
  const rules = new Int32Array(12);
  for (const implicit of [false, true]) {
    const user = has(Privilege.User) && !implicit;
    const data = user ? Right.User : 0;
    // EFLAGS.AC lifts SMAP for explicit supervisor accesses only
    const noData = !user && has(Privilege.Smap) && (implicit || !has(Privilege.AlignmentFlag)) ? Right.User : 0;
    const writable = user || has(Privilege.WriteProtect) ? Right.Write : 0;
    const column = implicit ? 2 : 0;
    rules.set([Right.Read | data, noData], 0 + column);
    rules.set([Right.Dirty | Right.SecondWrite | writable | data, noData], 4 + column);
    rules.set([Right.Execute | data, !user && has(Privilege.Smep) ? Right.User : 0], 8 + column);
  }
  return rules;
}

/** By {@link Privilege} bits. */
export const accessRules: readonly AccessRules[] = Array.from({ length: 32 }, (_, privilege) => rulesFor(privilege));
/** Without paging only the second level restricts accesses. */
export const unpagedRules: AccessRules = Int32Array.from([
  Right.Read, 0, Right.Read, 0, Right.SecondWrite, 0, Right.SecondWrite, 0, Right.Execute, 0, Right.Execute, 0,
]);
/** Rights that the guest's own tables decide on (the others are a matter of the dirty flag and the second level). */
export const GUEST_RIGHTS = Right.Write | Right.Execute | Right.User;
