import type { MemoryDevice, Report } from './device.ts';

interface Range { start: number; readonly length: number; readonly device: MemoryDevice }

/** Who answers which physical addresses outside RAM. Others read as all ones, swallow writes, and are reported once per page. */
export class MemoryMap {
  private readonly ranges: Range[] = [];
  private readonly reported = new Set<number>();
  private readonly report: Report;

  constructor(report: Report) { this.report = report; }

  claim(start: number, length: number, device: MemoryDevice): void {
    if (this.ranges.some(r => start < r.start + r.length && r.start < start + length)) throw new Error(`MemoryMap.claim: 0x${start.toString(16)} overlaps a range claimed already`);
    this.ranges.push({ start, length, device });
  }

  read(physical: number, size: number): number {
    const range = this.find(physical, size);
    if (range !== undefined) return range.device.readMemory(physical - range.start, size) >>> 0;
    this.absent(physical, 'read');
    return size === 4 ? 0xffffffff : size === 2 ? 0xffff : 0xff;
  }

  write(physical: number, size: number, value: number): void {
    const range = this.find(physical, size);
    if (range !== undefined) range.device.writeMemory(physical - range.start, size, value >>> 0);
    else this.absent(physical, 'written');
  }

  save(): readonly number[] { return [...this.reported]; }
  load(saved: unknown): void {
    this.reported.clear();
    for (const page of saved as readonly number[]) this.reported.add(page);
  }

  private find(physical: number, size: number): Range | undefined {
    for (const range of this.ranges) if (physical >= range.start && physical + size <= range.start + range.length) return range;
    return undefined;
  }

  private absent(physical: number, how: string): void {
    const page = Math.floor(physical / 4096);
    if (this.reported.has(page)) return;
    this.reported.add(page);
    this.report(`physical address 0x${physical.toString(16)} ${how}: neither RAM nor a device, reads give all ones`);
  }
}
