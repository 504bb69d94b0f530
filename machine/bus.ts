import type { Bus } from '../cpu/bus.ts';
import type { Platform } from './platform.ts';

/**
 * One CPU's way to the devices of its platform. RAM is in linear memory and is not asked here; every CPU has its own
 * bus because each sees its own local APIC at the same address.
 */
export class MachineBus implements Bus {
  private readonly platform: Platform;
  private readonly cpu: number;

  constructor(platform: Platform, cpu: number) {
    if (!(cpu >= 0 && cpu < platform.apics.length)) throw new Error(`MachineBus: no CPU ${cpu}, the platform has ${platform.apics.length}`);
    this.platform = platform;
    this.cpu = cpu;
  }

  readPhysical(physical: number, size: number): number { return this.platform.readMemory(this.cpu, physical, size); }
  writePhysical(physical: number, size: number, value: number): void { this.platform.writeMemory(this.cpu, physical, size, value); }
  ioRead(port: number, size: number): number { return this.platform.ports.read(port & 0xffff, size); }
  ioWrite(port: number, size: number, value: number): void { this.platform.ports.write(port & 0xffff, size, value); }
  acknowledgeInterrupt(cpuIndex: number): number { return this.platform.acknowledge(cpuIndex); }
  readApicBase(cpuIndex: number): number { return this.platform.apics[cpuIndex]!.base; }
  writeApicBase(cpuIndex: number, value: number): void { this.platform.writeApicBase(cpuIndex, value); }
  /** CR8: 0..15. */
  readTaskPriority(cpuIndex: number): number { return this.platform.apics[cpuIndex]!.cr8; }
  writeTaskPriority(cpuIndex: number, value: number): void { this.platform.apics[cpuIndex]!.cr8 = value; }
}
