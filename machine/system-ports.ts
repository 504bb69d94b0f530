import type { Device, PortDevice, Report } from './device.ts';

/** Why a guest stopped the machine. */
export type StopRequest = { readonly kind: 'poweroff' } | { readonly kind: 'debugExit'; readonly status: number };

export const Port = { Post: 0x80, System: 0x92, Keyboard: 0x60, KeyboardStatus: 0x64, CrtcIndex: 0x3d4, CrtcData: 0x3d5, DebugExit: 0xf4, AcpiControl: 0x604, Shutdown: 0x8900 } as const;
/** SLP_EN of the ACPI PM1 control register. */
const SLEEP_ENABLE = 0x2000;
const SHUTDOWN = 'Shutdown';

/**
 * The single registers of a PC that are too small to be devices of their own: POST code, A20 gate, power-off,
 * debug exit, cursor registers of a text display (there is no display; text memory is RAM), and the status
 * port of an absent keyboard controller.
 */
export class SystemPorts implements Device, PortDevice {
  readonly name = 'ports';
  private readonly stop: (request: StopRequest) => void;
  private readonly report: Report;
  private post = 0;
  private crtcIndex = 0;
  private crtc: number[] = [];
  /** Characters of "Shutdown" seen so far on port 0x8900. */
  private shutdown = 0;

  constructor(stop: (request: StopRequest) => void, report: Report) {
    this.stop = stop;
    this.report = report;
    this.reset();
  }

  reset(): void {
    this.post = this.crtcIndex = this.shutdown = 0;
    this.crtc = new Array<number>(32).fill(0);
  }

  event(kind: number): void { throw new Error(`ports: unexpected event ${kind}; it schedules none`); }

  /** Last POST code written. */
  get postCode(): number { return this.post; }

  readPort(port: number, size: number): number {
    switch (port) {
      case Port.Post: return this.post;
      case Port.System: return 2; // A20 on
      // no keyboard controller: neither buffer is full, so that drivers see no key and may "send" without waiting
      case Port.KeyboardStatus: return 0;
      case Port.Keyboard: return 0xff;
      case Port.CrtcIndex: return this.crtcIndex;
      case Port.CrtcData: return this.crtc[this.crtcIndex]!;
      case Port.AcpiControl: return 1; // SCI enabled: ACPI mode
      default: return 2 ** (8 * size) - 1; // write-only
    }
  }

  writePort(port: number, size: number, value: number): void {
    switch (port) {
      case Port.Post: this.post = value; break;
      case Port.System:
        if (value & 1) this.report('port 0x92: fast reset is not modelled, ignored');
        if (!(value & 2)) this.report('port 0x92: A20 off is not modelled, addresses do not wrap at 1 MiB');
        break;
      case Port.KeyboardStatus: case Port.Keyboard:
        this.report(`port 0x${port.toString(16)}: no keyboard controller, command 0x${value.toString(16)} ignored`);
        break;
      case Port.CrtcIndex: this.crtcIndex = value & 31; break;
      case Port.CrtcData: this.crtc[this.crtcIndex] = value; break;
      case Port.AcpiControl:
        if (size >= 2 && value & SLEEP_ENABLE) this.stop({ kind: 'poweroff' });
        break;
      case Port.DebugExit: this.stop({ kind: 'debugExit', status: value & 0xff }); break;
      case Port.Shutdown:
        this.shutdown = SHUTDOWN.charCodeAt(this.shutdown) === value ? this.shutdown + 1 : SHUTDOWN.charCodeAt(0) === value ? 1 : 0;
        if (this.shutdown === SHUTDOWN.length) {
          this.shutdown = 0;
          this.stop({ kind: 'poweroff' });
        }
        break;
      default: throw new Error(`ports: port 0x${port.toString(16)} was claimed for this device but it does not know it`);
    }
  }

  save(): unknown { return { post: this.post, crtcIndex: this.crtcIndex, crtc: [...this.crtc], shutdown: this.shutdown }; }
  load(saved: unknown): void {
    const s = saved as { post: number; crtcIndex: number; crtc: number[]; shutdown: number };
    this.post = s.post;
    this.crtcIndex = s.crtcIndex;
    this.crtc = [...s.crtc];
    this.shutdown = s.shutdown;
  }
}
