/** Exception vectors (SDM "Interrupt 0 – Divide Error Exception" and following sections). */
export const Vector = {
  DivideError: 0, Debug: 1, Nmi: 2, Breakpoint: 3, Overflow: 4, BoundRange: 5, InvalidOpcode: 6, DeviceNotAvailable: 7, DoubleFault: 8,
  InvalidTss: 10, SegmentNotPresent: 11, StackFault: 12, GeneralProtection: 13, PageFault: 14, FloatingPoint: 16, AlignmentCheck: 17, MachineCheck: 18, SimdFloatingPoint: 19,
  Virtualization: 20, ControlProtection: 21,
} as const;

/** Short names of the exception vectors, as the SDM writes them. */
export const vectorNames: readonly (string | undefined)[] = ['#DE', '#DB', 'NMI', '#BP', '#OF', '#BR', '#UD', '#NM', '#DF', undefined, '#TS', '#NP', '#SS', '#GP', '#PF', undefined, '#MF', '#AC', '#MC', '#XM', '#VE', '#CP'];

/**
 * A guest fault on its way to delivery: a plain object, thrown by system bodies and caught in one place. Never an
 * Error (creating one costs several microseconds and means a bug of ours).
 */
export interface Fault {
  readonly fault: true;
  readonly vector: number;
  /** Error code, or -1 where the vector pushes none. */
  readonly error: number;
  /** Faulting linear address of a page fault, as a signed number; otherwise 0. */
  readonly linear: number;
}

export function fault(vector: number, error = -1, linear = 0): Fault {
  return { fault: true, vector, error, linear };
}
export const gp = (error = 0): Fault => fault(Vector.GeneralProtection, error);
export const ud = (): Fault => fault(Vector.InvalidOpcode);

export function isFault(value: unknown): value is Fault {
  return typeof value === 'object' && value !== null && (value as Fault).fault === true;
}
