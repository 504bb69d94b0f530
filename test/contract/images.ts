import { assemble } from '../../cpu/assembler.ts';
import { includes, type Guest } from '../../guests/index.ts';
import { isa } from '../../machine/isa.ts';
import type { MachineProfile } from '../../machine/profile.ts';
import type { MonitorKind } from '../../monitors/index.ts';
import type { RunOptions } from '../../monitors/run.ts';

const assembled = new Map<string, Uint8Array>();

/** Machine code of an embedded guest; each is assembled once per test process. */
export function imageOf(guest: Guest): Uint8Array {
  let bytes = assembled.get(guest.name);
  if (!bytes) {
    const include = (name: string): string => {
      const text = includes[name];
      if (text === undefined) throw new Error(`guest ${guest.name} includes ${name}, which guests/include.ts does not have`);
      return text;
    };
    assembled.set(guest.name, (bytes = assemble(guest.source, isa.rows, { include, file: `${guest.name}.asm` }).bytes));
  }
  return bytes;
}

/** How every contract test runs a guest: the guest's clock, 16 MiB. */
export function optionsFor(guest: Guest, monitor: MonitorKind, profile: MachineProfile, more: Partial<RunOptions> = {}): RunOptions {
  return {
    guest: guest.name, image: { name: `${guest.name}.asm`, bytes: imageOf(guest), sha256: '' },
    monitor, profile, clock: 'guest', memoryMiB: 16, ...more,
  };
}
