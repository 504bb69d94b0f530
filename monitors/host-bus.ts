import type { Bus } from '../cpu/bus.ts';

/** Bus of the physical CPU under a monitor: the machine has no devices but the host's timer, whose interrupt `acknowledge` takes. */
export function hostBus(acknowledge: () => number): Bus {
  return {
    readPhysical: () => 0xffffffff,
    writePhysical: () => {},
    ioRead: (_port, size) => (size === 4 ? 0xffffffff : size === 2 ? 0xffff : 0xff),
    ioWrite: () => {},
    acknowledgeInterrupt: acknowledge,
    readApicBase: () => 0xfee00900,
    writeApicBase: () => {},
    readTaskPriority: () => 0,
    writeTaskPriority: () => {},
  };
}
