import type { Bus } from '../cpu/bus.ts';
import type { Core } from '../machine/core.ts';
import type { LoadPlan } from '../machine/boot/load-plan.ts';
import type { Platform } from '../machine/platform.ts';
import type { MachineProfile } from '../machine/profile.ts';
import type { Ledger } from './ledger.ts';

/** What a monitor gets to work with: the physical CPU, the guest's devices, and where the guest's memory lies. */
export interface VirtualMachine {
  readonly core: Core;
  readonly profile: MachineProfile;
  readonly platform: Platform;
  /** Bytes of guest RAM, and the host-physical address of guest-physical 0. */
  readonly memorySize: number;
  readonly memoryOffset: number;
  /** The monitor's own memory: host-physical [start, end). */
  readonly monitorStart: number;
  readonly monitorEnd: number;
  readonly ledger: Ledger;
  /** Ends the run: something the monitor cannot do. The reason is reported; the run's stoppedBy is 'error'. */
  fail(reason: string): void;
}

/** A way to run a guest. It owns real structures in the machine's memory and is entered through its firmware page. */
export interface Monitor {
  readonly name: string;
  /** Builds the structures and starts the guest at the entry state of the plan (memory is loaded already). */
  start(plan: LoadPlan): void;
  /** The virtual machine's interrupt request went up or down. */
  interruptRequest(level: boolean): void;
  /** The guest halted (under `native`: the CPU itself). */
  readonly halted: boolean;
  /** Bus of the physical CPU; null = the guest's own devices. */
  readonly hostBus: Bus | null;
  save(): unknown;
  load(saved: unknown): void;
}

/** How a monitor is made; `unable` says why it cannot run under a profile, or null. */
export interface MonitorKind {
  readonly name: string;
  readonly title: string;
  readonly description: string;
  /** Bytes of host memory in front of the guest's (a multiple of 4 MiB), 0 for none. */
  memory(guestMemory: number): number;
  unable(profile: MachineProfile, plan: LoadPlan): string | null;
  create(vm: VirtualMachine): Monitor;
}
