import type { StopKind } from '../monitors/result.ts';

/** The kinds of stop in the order of the tables. */
export const stopKinds: readonly { readonly kind: StopKind; readonly one: string; readonly many: string; readonly metric: string }[] = [
  { kind: 'vmExit', one: 'VM exit', many: 'VM exits', metric: 'vm_exits' },
  { kind: 'trap', one: 'trap', many: 'traps', metric: 'traps' },
  { kind: 'hypercall', one: 'hypercall', many: 'hypercalls', metric: 'hypercalls' },
  { kind: 'callout', one: 'callout', many: 'callouts', metric: 'callouts' },
];

export type StopCounts = { readonly [K in StopKind]: number | null };

/** Which kinds a monitor can have at all: a kind that is not here shows `–`, one that did not happen shows 0. */
const kindsOfMonitor: Readonly<Record<string, readonly StopKind[]>> = {
  'native': [],
  'trap-and-emulate': ['trap'],
  'vtx-shadow': ['vmExit'],
  'vtx-ept': ['vmExit'],
};

/** The kinds of stop of a monitor: by the table, and for one that is not in it by what was seen in its runs. */
export function kindsOf(monitor: string, seen: ReadonlySet<StopKind>): ReadonlySet<StopKind> {
  return new Set([...(Object.hasOwn(kindsOfMonitor, monitor) ? kindsOfMonitor[monitor]! : []), ...seen]);
}
