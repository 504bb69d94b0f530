import type { Cpu } from './cpu.ts';
import type { Instruction } from './instruction.ts';
import type { CpuEvent } from './events.ts';

/**
 * The only way into the CPU from outside: virtualization extensions install hooks, and plain runs pay nothing.
 * All three may change the whole CPU state (a VM exit does).
 */
export interface Hooks {
  /**
   * Asked before a row of the intercept set executes, after its #UD and privilege checks of higher priority.
   * Returns true when the instruction was taken over (a VM exit happened); false to execute it.
   */
  instruction(cpu: Cpu, insn: Instruction): boolean;
  /** Asked before an exception, interrupt or NMI is delivered. True: taken over (VM exit); false: deliver. */
  event(cpu: Cpu, event: CpuEvent): boolean;
  /** Asked when a triple fault shuts the CPU down. True: taken over. */
  tripleFault(cpu: Cpu): boolean;
  /**
   * Asked before a hardware task switch, after the checks that precede it. `source`: 0 CALL, 1 IRET, 2 JMP, 3 task
   * gate in the IDT; `length` is that of the instruction (0 for other events). RIP is the instruction's. True: taken over.
   */
  taskSwitch?(cpu: Cpu, selector: number, source: number, length: number): boolean;
  /** Asked at every instruction boundary, before interrupts: exits that wait for one (windows, timer). True: something was done. */
  boundary(cpu: Cpu): boolean;
  /** Cycle at which `boundary` must be asked again although nothing else happens (preemption timer); Infinity if none. */
  deadline(cpu: Cpu): number;
  /** The interrupt line is up: 'exit' = taken over, 'deliver' = acknowledge and deliver through the guest's own tables, 'blocked'. */
  externalInterrupt(cpu: Cpu): 'exit' | 'deliver' | 'blocked';
  /** A second-level translation stopped an access (SecondLevel.translate gave -1): carry out the recorded VM exit. RIP is the instruction's. */
  abort(cpu: Cpu): void;
}

/**
 * Second-level translation, asked by the page walker while it fills a TLB entry.
 */
export interface SecondLevel {
  /** Tag of the address space behind this translation (EPT root); part of the TLB tag. */
  readonly root: number;
  /**
   * Translates one guest-physical address for an access of the kind given (bits: 1 read, 2 write, 4 execute).
   * Returns the host-physical address (at least 0), or -1 after recording a VM exit in progress (`cpu.abort`).
   * `result` of the last call tells page size and permissions.
   */
  translate(cpu: Cpu, guestPhysical: number, access: number, purpose: TranslatePurpose, linear: number): number;
  /** Host-physical address without any effect or exit, or -1. Without it, inspection through this level finds nothing. */
  peek?(cpu: Cpu, guestPhysical: number): number;
  /** log2 of the page size behind the last translation. */
  pageShift: number;
  /** Permissions of the last translation: 1 read, 2 write, 4 execute. For write: only when its dirty bit (if any) is set. */
  permissions: number;
  /** Memory references the last translation made. */
  references: number;
}

/** What the guest-physical address is used for (exit qualification of EPT violations). */
export const TranslatePurpose = { Page: 0, TableRead: 1, TableWrite: 2, Physical: 3 } as const;
export type TranslatePurpose = (typeof TranslatePurpose)[keyof typeof TranslatePurpose];
