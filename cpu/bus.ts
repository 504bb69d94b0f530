/**
 * What lies outside a CPU: RAM is in linear memory and is not asked here; everything else is. Sizes are 1, 2 or 4
 * bytes; values are unsigned numbers. Absent devices read as all ones and swallow writes (and are reported).
 */
export interface Bus {
  readPhysical(physical: number, size: number): number;
  writePhysical(physical: number, size: number, value: number): void;
  ioRead(port: number, size: number): number;
  ioWrite(port: number, size: number, value: number): void;
  /** Highest-priority interrupt vector requested by the interrupt controllers, acknowledged; -1 if none. */
  acknowledgeInterrupt(cpuIndex: number): number;
  /** The guest wrote or read IA32_APIC_BASE, an x2APIC register or CR8 (SDM "Advanced Programmable Interrupt Controller"). */
  readApicBase(cpuIndex: number): number;
  writeApicBase(cpuIndex: number, value: number): void;
  /** CR8: the task-priority class, 0..15 (bits 7:4 of the local APIC's TPR). */
  readTaskPriority(cpuIndex: number): number;
  writeTaskPriority(cpuIndex: number, value: number): void;
}
