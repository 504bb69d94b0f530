import type { MonitorKind } from './monitor.ts';
import { native } from './native.ts';
import { trapAndEmulate } from './trap-and-emulate.ts';
import { vtxEpt, vtxShadow } from './vtx.ts';

export type { MonitorKind } from './monitor.ts';

/** The monitors that are built, in the order of reports; the base of comparisons first. */
export const monitors = { native, trapAndEmulate, vtxShadow, vtxEpt } as const satisfies Readonly<Record<string, MonitorKind>>;

/** The same as a list. */
export const monitorList: readonly MonitorKind[] = Object.values(monitors);

/** The monitor of that name, or undefined. */
export function findMonitor(name: string): MonitorKind | undefined {
  return monitorList.find(monitor => monitor.name === name);
}
