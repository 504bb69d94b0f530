/**
 * The same guest on a simulated x86-64 PC with Intel VT-x, under several monitors, compared cycle by cycle. Nothing
 * here needs more than the language: it runs in Node and in a browser.
 *
 * ```ts
 * import { compare, guests, monitors, profiles } from 'vanderpool';
 * const report = await compare(guests.pageFaults, Object.values(monitors), { profile: profiles.nehalem });
 * console.log(report.toText());
 * ```
 * @module vanderpool
 */
export { compare, ComparisonReport } from './compare.ts';
export { Machine, run, type Image, type MachineOptions, type Subject } from './machine.ts';
export { type Settings, type Watchers } from './simulation.ts';
export { version } from './version.ts';

export { checkOutput, findGuest, guestList, guests, type Deviation, type Guest, type MonitorName, type OutputCheck } from '../guests/index.ts';
export { findMonitor, monitorList, monitors, type MonitorKind } from '../monitors/index.ts';
export { nehalem, prescott, profiles, unit, type MachineProfile } from '../machine/profile.ts';
export { Run, type RunOptions, type RunSnapshot, type TypedInput } from '../monitors/run.ts';
export type { CycleBreakdown, ExitRecord, ExitStatistics, NotRun, RunResult, StopKind, StoppedBy } from '../monitors/result.ts';
export type { Monitor, VirtualMachine } from '../monitors/monitor.ts';

export { assemble, AssemblyError, type Assembled, type AssembleOptions, type ListingLine, type Problem } from '../cpu/assembler.ts';
export { isa } from '../machine/isa.ts';
export { ImageError } from '../machine/boot/image-error.ts';
export type { EngineName } from '../machine/core.ts';
export type { ImageFormat, LoadOptions } from '../machine/boot/detect.ts';
export type { FlatOptions } from '../machine/boot/flat.ts';
export type { BootModule } from '../machine/boot/multiboot.ts';
export type { CpuProfile, Figure, TlbGeometry, TlbLevel } from '../cpu/profile.ts';

export { compareRuns, type Comparison, type GeometricMeans, type GuestComparison, type MonitorRow, type StopRow } from '../traces/comparison.ts';
export type { Curves, Parting, PartingPoint, StopBin, StopGroup } from '../traces/curve.ts';
export type { Difference, DifferenceRow } from '../traces/difference.ts';
export type { OutputComparison, OutputDivergence } from '../traces/output.ts';
export type { StopCounts } from '../traces/stop-kinds.ts';
export type { AlignedWindow, WindowRow } from '../traces/window.ts';
export { buildReport, type Definition, type Provenance, type ProvenanceInput, type Report } from '../traces/report.ts';
export { eventFields, EventLogWriter, eventLogHeader, eventLogSchema, parseEventLog, type EventLog, type EventLogHeader, type EventLogOptions, type EventName, type EventPlace, type LogEvent } from '../traces/event-log.ts';
export type { Observer, VmEntryEvent, VmExitEvent } from '../cpu/observer.ts';
export { FormatError } from '../traces/format-error.ts';
