/**
 * A part of the machine outside its CPUs. All state is plain data: save() gives JSON, load() takes it back and
 * must not schedule events or move interrupt lines (the platform restores both).
 */
export interface Device {
  /** Unique in its machine; identifies saved state and events. */
  readonly name: string;
  /** Power-on state. */
  reset(): void;
  /** An event of this device is due. `cycle` is when it was due, which may be a little before now. */
  event(kind: number, cycle: number): void;
  save(): unknown;
  load(saved: unknown): void;
}

/** A wire from a device to an interrupt controller: true = asserted. Setting the same level again changes nothing. */
export type InterruptLine = (level: boolean) => void;

/** Answers port accesses. Sizes are 1, 2 or 4 bytes, values unsigned; never wider than the width it was registered with. */
export interface PortDevice {
  readPort(port: number, size: number): number;
  writePort(port: number, size: number, value: number): void;
}

/** Answers accesses to physical addresses that are not RAM. `offset` counts from the start of the range. */
export interface MemoryDevice {
  readMemory(offset: number, size: number): number;
  writeMemory(offset: number, size: number, value: number): void;
}

/** Reports something that is not modelled: one sentence saying what, and what was done instead. */
export type Report = (what: string) => void;
