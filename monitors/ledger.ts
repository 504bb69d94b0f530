import type { ExitRecord, ExitStatistics, StopKind } from './result.ts';

interface Row { kind: StopKind; name: string; count: number; cycles: number; minimum: number; maximum: number; squares: number }
/** Exits kept one by one; beyond this they are only counted. */
export const EXIT_LIMIT = 20000;

/** Counts exits and what each cost, from leaving the guest to running it again. */
export class Ledger {
  private readonly rows = new Map<string, Row>();
  readonly records: ExitRecord[] = [];
  dropped = 0;
  private open: { kind: StopKind; name: string; retired: number; at: number; charged: number; rip: string; why: string } | null = null;
  /** Told of every completed exit. */
  onExit: ((record: ExitRecord) => void) | null = null;

  /** The guest was left. `charged` is the CPU's charged total then, `at` its cycles. */
  enter(kind: StopKind, name: string, retired: number, at: number, charged: number, rip: string, why: string): void {
    if (this.open !== null) throw new Error(`exit ${name} while ${this.open.name} is being handled: every exit must be closed before the guest runs`);
    this.open = { kind, name, retired, at, charged, rip, why };
  }
  get handling(): boolean { return this.open !== null; }
  /** Renames the exit being handled (its cause was decoded). */
  rename(name: string, why: string): void {
    if (this.open) { this.open.name = name; this.open.why = why; }
  }

  /** The guest runs again; charged cycles since then are the exit's (idle time and emulated rows are not). */
  leave(charged: number): void {
    const open = this.open;
    if (open === null) return;
    this.open = null;
    const cycles = charged - open.charged;
    const key = `${open.kind} ${open.name}`;
    let row = this.rows.get(key);
    if (!row) this.rows.set(key, (row = { kind: open.kind, name: open.name, count: 0, cycles: 0, minimum: Infinity, maximum: 0, squares: 0 }));
    row.count++;
    row.cycles += cycles;
    row.minimum = Math.min(row.minimum, cycles);
    row.maximum = Math.max(row.maximum, cycles);
    row.squares += cycles * cycles;
    const record: ExitRecord = { retired: open.retired, at: open.at, cycles, kind: open.kind, name: open.name, rip: open.rip, why: open.why };
    if (this.records.length < EXIT_LIMIT) this.records.push(record);
    else this.dropped++;
    this.onExit?.(record);
  }

  /** Most frequent first; ties by name. */
  statistics(): ExitStatistics[] {
    return [...this.rows.values()].sort((a, b) => b.count - a.count || (a.name < b.name ? -1 : 1)).map((row) => ({ ...row }));
  }
  save(): unknown { return structuredClone({ rows: [...this.rows], records: this.records, dropped: this.dropped, open: this.open }); }
  load(saved: unknown): void {
    const s = structuredClone(saved) as { rows: [string, Row][]; records: ExitRecord[]; dropped: number; open: Ledger['open'] };
    this.rows.clear();
    for (const [key, row] of s.rows) this.rows.set(key, row);
    this.records.length = 0;
    this.records.push(...s.records);
    this.dropped = s.dropped;
    this.open = s.open;
  }
}
