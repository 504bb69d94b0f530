import type { Memory } from '../cpu/memory.ts';

/** Pages of the monitor's own memory, handed out in address order. */
export class PagePool {
  private readonly memory: Memory;
  private readonly end: number;
  private next: number;
  private free: number[] = [];

  /** @param start host-physical address of the first page; `end` is behind the last */
  constructor(memory: Memory, start: number, end: number) {
    this.memory = memory;
    this.next = start;
    this.end = end;
  }
  get available(): number { return this.free.length + (this.end - this.next) / 4096; }
  /** A zeroed page. @throws Error when there is none: give the monitor more memory */
  take(): number {
    let page = this.free.pop();
    if (page === undefined) {
      if (this.next >= this.end) throw new Error('the monitor ran out of its own memory: enlarge MonitorKind.memory');
      page = this.next;
      this.next += 4096;
    }
    const at = this.memory.ramBase + page;
    this.memory.u8.fill(0, at, at + 4096);
    return page;
  }
  /** Several pages in a row (never recycled ones). */
  takeRun(pages: number): number {
    const first = this.next;
    if (first + pages * 4096 > this.end) throw new Error('the monitor ran out of its own memory: enlarge MonitorKind.memory');
    this.next += pages * 4096;
    this.memory.u8.fill(0, this.memory.ramBase + first, this.memory.ramBase + first + pages * 4096);
    return first;
  }
  /** Zeroes a page that stays taken. */
  clear(page: number): void { this.memory.u8.fill(0, this.memory.ramBase + page, this.memory.ramBase + page + 4096); }
  release(page: number): void { this.free.push(page); }
  save(): unknown { return { next: this.next, free: [...this.free] }; }
  load(saved: unknown): void {
    const s = saved as { next: number; free: number[] };
    this.next = s.next;
    this.free = [...s.free];
  }
}
