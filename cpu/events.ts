/** Kinds of event, numbered as in the VMX interruption-information format (SDM "Format of the VM-Exit Interruption-Information"). */
export const EventType = { ExternalInterrupt: 0, Nmi: 2, HardwareException: 3, SoftwareInterrupt: 4, PrivilegedSoftwareException: 5, SoftwareException: 6 } as const;
export type EventType = (typeof EventType)[keyof typeof EventType];

/** An event to be delivered through the IDT (or taken over by a hook). */
export interface CpuEvent {
  readonly type: EventType;
  readonly vector: number;
  /** Error code to push, or -1. */
  readonly error: number;
  /** #PF: the faulting linear address (signed number); #DB: the DR6 bits to set. */
  readonly data: number;
  /** Length of the instruction, for software interrupts and exceptions (RIP to push is RIP + length). */
  readonly length: number;
}
