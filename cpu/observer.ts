/**
 * Everything that is only watched. Lower folders emit these; traces/ records them. Every call says what happened,
 * none may change anything. An observer is optional: emitters test `cpu.observer` first.
 */
export interface Observer {
  /** An exception or interrupt is delivered through the guest's own tables. */
  delivered?(vector: number, kind: 'exception' | 'interrupt' | 'nmi' | 'software', error: number, linear: number): void;
  /** A VM exit, VM entry or failure of a VMX instruction; `why` names the control, bitmap bit or unconditional rule. */
  vmExit?(exit: VmExitEvent): void;
  vmEntry?(entry: VmEntryEvent): void;
  /** Something is not modelled: what, and what was done instead. One line each on stderr. */
  unmodelled?(what: string): void;
  /** A TLB was filled (only when asked for in detail). */
  tlbFill?(linear: number, physical: number, references: number): void;
  /** A table or control register changed, for the log: name and value. */
  note?(what: string, detail: string): void;
}

export interface VmExitEvent {
  readonly reason: number;
  readonly name: string;
  readonly qualification: bigint;
  readonly guestPhysical: bigint;
  readonly guestLinear: bigint;
  readonly rip: bigint;
  readonly instructionLength: number;
  readonly interruptionInformation: number;
  /** The control bit, bitmap bit or unconditional rule behind the exit. */
  readonly why: string;
  readonly cycles: number;
}

export interface VmEntryEvent {
  readonly rip: bigint;
  /** 'ok', or the failure: 'VMfail 7', 'VMfail 8', 'exit 33' … */
  readonly outcome: string;
  /** Failing checks by id, first the one reported. */
  readonly failing: readonly string[];
}
