import type { Guest } from './guest.ts';
import { compute, compute64 } from './compute.ts';
import { contextSwitches } from './context-switches.ts';
import { exceptions } from './exceptions.ts';
import { hello, hello64 } from './hello.ts';
import { pageFaults, pageFaults64 } from './page-faults.ts';
import { portIo } from './port-io.ts';
import { protection } from './protection.ts';
import { realMode, virtual8086 } from './real-mode.ts';
import { selfModifying } from './self-modifying.ts';
import { sensitive } from './sensitive.ts';
import { syscalls, syscalls64 } from './syscalls.ts';
import { timerInterrupts, timerInterrupts64 } from './timer-interrupts.ts';

export { checkOutput, monitorNames } from './guest.ts';
export type { Deviation, Guest, MonitorName, OutputCheck } from './guest.ts';
export { includes } from './include.ts';

/** The embedded workloads. */
export const guests = {
  hello, hello64, compute, compute64, syscalls, syscalls64, pageFaults, pageFaults64, portIo, timerInterrupts, timerInterrupts64,
  sensitive, exceptions, protection, contextSwitches, selfModifying, virtual8086, realMode,
} as const;

/** The same in the order of reports. */
export const guestList: readonly Guest[] = Object.values(guests);

/** The guest of that name, or undefined. */
export function findGuest(name: string): Guest | undefined {
  return guestList.find(guest => guest.name === name);
}
