import type { PortDevice, Report } from './device.ts';

interface Claim { readonly device: PortDevice; readonly width: number }

const hex = (n: number): string => `0x${n.toString(16)}`;

/** Who answers which I/O port. Ports nobody claims read as all ones, swallow writes, and are reported once each. */
export class PortMap {
  private readonly claims = new Map<number, Claim>();
  private readonly reported = new Set<number>();
  private readonly report: Report;

  constructor(report: Report) { this.report = report; }

  /**
   * Registers `count` ports from `first`. Accesses wider than `width` bytes are split into bytes for consecutive
   * ports, as a bus does for an 8-bit device.
   */
  claim(first: number, count: number, device: PortDevice, width: 1 | 2 | 4 = 1): void {
    for (let port = first; port < first + count; port++) {
      if (this.claims.has(port)) throw new Error(`PortMap.claim: port ${hex(port)} belongs to another device already`);
      this.claims.set(port, { device, width });
    }
  }

  read(port: number, size: number): number {
    const claim = this.claims.get(port);
    if (claim !== undefined && size <= claim.width) return claim.device.readPort(port, size) >>> 0;
    if (size === 1) return this.absent(port, 0xff, 'read');
    let value = 0;
    for (let i = size - 1; i >= 0; i--) value = value * 256 + (this.read((port + i) & 0xffff, 1) & 0xff);
    return value;
  }

  write(port: number, size: number, value: number): void {
    const claim = this.claims.get(port);
    if (claim !== undefined && size <= claim.width) claim.device.writePort(port, size, value >>> 0);
    else if (size === 1) this.absent(port, 0, 'written');
    else for (let i = 0; i < size; i++) this.write((port + i) & 0xffff, 1, (value >>> (8 * i)) & 0xff);
  }

  /** Ports reported so far belong to the saved state, so that a continued run reports what the uninterrupted one does. */
  save(): readonly number[] { return [...this.reported]; }
  load(saved: unknown): void {
    this.reported.clear();
    for (const port of saved as readonly number[]) this.reported.add(port);
  }

  private absent(port: number, value: number, how: string): number {
    if (!this.reported.has(port)) {
      this.reported.add(port);
      this.report(`I/O port ${hex(port)} ${how}: no device there, reads give all ones`);
    }
    return value;
  }
}
