import { ChargeTo, type Cpu } from '../cpu/cpu.ts';
import { costKeys } from '../cpu/cost.ts';
import type { Field } from '../vmcs/field.ts';
import { enter } from '../vmx/entry.ts';
import { vmxOf, VmxResult, type Vmx } from '../vmx/operation.ts';
import type { VirtualMachine } from './monitor.ts';

/**
 * Everything a monitor does to the machine goes through here and is billed at the profile's cycles: memory words,
 * VMREAD and VMWRITE, VM entry, and named pieces of software work.
 */
export class Port {
  readonly cpu: Cpu;
  private readonly vm: VirtualMachine;
  private readonly vmx: Vmx | null;
  private readonly costs: Readonly<Record<string, number>>;
  private readonly memoryCost: number;
  private readonly readCost: number;
  private readonly writeCost: number;

  constructor(vm: VirtualMachine) {
    this.vm = vm;
    this.cpu = vm.core.cpu;
    this.vmx = this.cpu.extension === null ? null : vmxOf(this.cpu);
    const costs: Record<string, number> = {};
    for (const { key } of costKeys) costs[key] = this.cpu.costs[key]!;
    this.costs = costs;
    this.memoryCost = costs['monitor.memory']!;
    this.readCost = costs['vmread']!;
    this.writeCost = costs['vmwrite']!;
  }

  /** Bills a named piece of work (cpu/cost.ts). */
  spend(key: string, to: ChargeTo = ChargeTo.Monitor): void {
    const cycles = this.costs[key];
    if (cycles === undefined) throw new Error(`no cost key '${key}': add it to cpu/cost.ts and the profiles`);
    this.cpu.charge(cycles, to);
  }

  // --- memory --------------------------------------------------------------------------------------------------
  /** Bills words touched in some other way than through this port. */
  spendWords(words: number): void { this.cpu.charge(words * this.memoryCost, ChargeTo.Monitor); }
  readHost(physical: number): number {
    this.cpu.charge(this.memoryCost, ChargeTo.Monitor);
    return this.cpu.readPhysical(physical, 4) >>> 0;
  }
  writeHost(physical: number, value: number): void {
    this.cpu.charge(this.memoryCost, ChargeTo.Monitor);
    this.cpu.writePhysical(physical, 4, value);
  }
  /** Guest-physical address is RAM of the virtual machine. */
  isGuestRam(guestPhysical: number): boolean { return guestPhysical >= 0 && guestPhysical < this.vm.memorySize; }
  /** Host-physical address of a guest-physical one. */
  hostOf(guestPhysical: number): number { return guestPhysical + this.vm.memoryOffset; }
  /** A 32-bit word of guest RAM; all ones outside. */
  readGuest(guestPhysical: number): number {
    return this.isGuestRam(guestPhysical) ? this.readHost(this.hostOf(guestPhysical)) : 0xffffffff;
  }
  writeGuest(guestPhysical: number, value: number): void {
    if (this.isGuestRam(guestPhysical)) this.writeHost(this.hostOf(guestPhysical), value);
  }

  // --- VMX -----------------------------------------------------------------------------------------------------
  private get operation(): Vmx {
    if (this.vmx === null) throw new Error('this machine has no VMX; MonitorKind.unable should have said so');
    return this.vmx;
  }
  /** Low word of a VMCS field. */
  vmread(field: Field): number {
    this.cpu.charge(this.readCost, ChargeTo.Monitor);
    return this.operation.vmcs.low(field);
  }
  /** A field as a signed number (exact for canonical addresses and physical addresses). */
  vmreadNumber(field: Field): number {
    this.cpu.charge(this.readCost, ChargeTo.Monitor);
    const v = this.operation.vmcs;
    return (v.high(field) | 0) * 4294967296 + v.low(field);
  }
  /** High word of the field read before (the same VMREAD in 64-bit mode: not billed again). */
  high(field: Field): number { return this.operation.vmcs.high(field); }
  vmwrite(field: Field, low: number, high = 0): void {
    this.cpu.charge(this.writeCost, ChargeTo.Monitor);
    if (this.operation.write(field.encoding, low >>> 0, high >>> 0) !== VmxResult.Success) {
      throw new Error(`monitor VMWRITE of ${field.name} failed with error ${this.operation.low}: the field is absent from profile ${this.vm.profile.name}`);
    }
  }
  vmwriteNumber(field: Field, value: number): void { this.vmwrite(field, value | 0, Math.floor(value / 4294967296) | 0); }

  /** INVVPID of one linear address, or of the whole VPID. */
  invalidateVpid(vpid: number, linear?: number): void {
    this.spend('invvpid');
    this.cpu.mmu.invalidateVpid(vpid, linear);
  }

  /** VMLAUNCH or VMRESUME. @throws Error when it fails: a monitor's bug */
  enterGuest(launch: boolean): void {
    this.spend('vmentry', ChargeTo.Transition);
    const result = enter(this.operation, this.cpu, launch, 0);
    if (result !== VmxResult.Success) throw new Error(`the monitor's VM entry failed (VM-instruction error ${result}): its VMCS is wrong`);
  }
}
