/** Kinds of stop, so that report rows line up across monitors. */
export type StopKind = 'vmExit' | 'trap' | 'hypercall' | 'callout';
export type StoppedBy = 'poweroff' | 'debugExit' | 'until' | 'limit' | 'tripleFault' | 'halted' | 'error';

/** Statistics of one kind of exit under one monitor. */
export interface ExitStatistics {
  readonly kind: StopKind;
  /** VmExitReason member, vector name, hypercall or instruction. */
  readonly name: string;
  readonly count: number;
  /** Cycles from leaving the guest to running it again: transition and monitor work. */
  readonly cycles: number;
  readonly minimum: number;
  readonly maximum: number;
  /** Sum of squares of the cycles, for the spread. */
  readonly squares: number;
}

/** One exit, kept for the curves and the event log. */
export interface ExitRecord {
  /** Guest instructions retired before it. */
  readonly retired: number;
  /** Machine cycles at which the guest was left, and what the round trip cost. */
  readonly at: number;
  readonly cycles: number;
  readonly kind: StopKind;
  readonly name: string;
  readonly rip: string;
  readonly why: string;
}

/** Where a run's cycles went; the parts add up to the total. */
export interface CycleBreakdown {
  /** Base costs of retired guest instructions. */
  readonly guest: number;
  /** TLB misses and walks while the guest ran. */
  readonly translation: number;
  /** Event delivery inside the guest (exceptions, interrupts). */
  readonly events: number;
  /** Transitions: VM exit and entry microcode, trap delivery to the monitor and return from it. */
  readonly transitions: number;
  /** Monitor work. */
  readonly monitor: number;
  /** Waiting (HLT). */
  readonly idle: number;
}

/** What one run of one guest under one monitor gave. Everything a report says comes from these. */
export interface RunResult {
  readonly guest: string;
  readonly monitor: string;
  readonly profile: string;
  readonly engine: 'evaluate' | 'interpret';
  readonly clock: 'guest' | 'machine';
  readonly memoryMiB: number;
  readonly instructions: number;
  readonly cycles: number;
  readonly breakdown: CycleBreakdown;
  readonly exits: readonly ExitStatistics[];
  /** The first exits, at most `exitLimit`; `exitsDropped` were only counted. */
  readonly exitRecords: readonly ExitRecord[];
  readonly exitsDropped: number;
  readonly tlb: { readonly dataMisses: number; readonly instructionMisses: number; readonly walks: number; readonly walkReferences: number; readonly secondLevelReferences: number };
  /** Cumulative curve: cycles when `retired` instructions had retired; the same retired indices under every monitor as far as it ran. At most 4096 points. */
  readonly samples: readonly { readonly retired: number; readonly cycles: number }[];
  /** Instructions of the window asked for: index, RIP, bytes, text, cycles. */
  readonly window: readonly { readonly index: number; readonly rip: string; readonly text: string; readonly cycles: number }[];
  readonly console: string;
  readonly stoppedBy: StoppedBy;
  readonly exitStatus: number;
  readonly deviations: readonly string[];
  /** Share of the cycles that rests on estimated figures, 0..1; null where it was not counted. */
  readonly estimatedShare: number | null;
  /** Input image: sha256 in hex, bytes, detected format. */
  readonly image: { readonly sha256: string; readonly bytes: number; readonly format: string };
  /** Things the guest did that are not modelled: text and count. */
  readonly unmodelled: readonly { readonly what: string; readonly count: number }[];
}

/** A guest that a monitor cannot run, and why. */
export interface NotRun {
  readonly guest: string;
  readonly monitor: string;
  readonly profile: string;
  readonly reason: string;
}
