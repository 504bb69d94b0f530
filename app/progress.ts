import { printError, watched } from './terminal.ts';

/** Milliseconds of silence before the first line, and between changes of it. */
const patience = 1500;
const interval = 250;

/** One line on stderr that says how far a long job is; silent where stderr is not a terminal. */
export class Progress {
  private readonly active = watched();
  private readonly started = performance.now();
  private last = 0;
  private shown = false;

  /** The text is asked for only when it is going to be shown. */
  update(text: () => string): void {
    if (!this.active) return;
    const now = performance.now();
    if (now - this.started < patience || now - this.last < interval) return;
    this.last = now;
    this.shown = true;
    printError(`\r\x1b[K${text()}`);
  }

  /** Takes the line away. */
  clear(): void {
    if (this.shown) printError('\r\x1b[K');
    this.shown = false;
  }
}
