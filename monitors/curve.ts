const LIMIT = 4096;

/**
 * Cumulative cycles at fixed retired indices: multiples of a step that starts small and doubles whenever there are
 * too many points, so that runs of the same guest under different monitors sample the same indices.
 */
export class Curve {
  points: { retired: number; cycles: number }[] = [{ retired: 0, cycles: 0 }];
  private every = 64;
  private readonly enabled: boolean;
  constructor(enabled: boolean) { this.enabled = enabled; }

  /** Retired index of the next sample; Infinity when off. */
  get next(): number {
    if (!this.enabled) return Infinity;
    return this.points.at(-1)!.retired + this.every;
  }
  sample(retired: number, cycles: number): void {
    if (!this.enabled || retired % this.every !== 0) return;
    this.points.push({ retired, cycles });
    if (this.points.length >= LIMIT - 1) {
      this.every *= 2;
      this.points = this.points.filter((point) => point.retired % this.every === 0);
    }
  }
  /** The last point of the run. */
  end(retired: number, cycles: number): void {
    const last = this.points.at(-1)!;
    if (last.retired === retired) last.cycles = cycles;
    else this.points.push({ retired, cycles });
  }
  save(): unknown { return structuredClone({ points: this.points, every: this.every }); }
  load(saved: unknown): void {
    const s = structuredClone(saved) as { points: Curve['points']; every: number };
    this.points = s.points;
    this.every = s.every;
  }
}
