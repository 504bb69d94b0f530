import { createHash } from 'node:crypto';

/** Hash and length of an event log that need not be kept. */
export class LogDigest {
  private readonly hash = createHash('sha256');
  private readonly waiting: string[] = [];
  lines = 0;

  /** One line without its line end. */
  add(line: string): void {
    this.lines++;
    this.waiting.push(line, '\n');
    if (this.waiting.length >= 1024) this.flush();
  }

  private flush(): void {
    this.hash.update(this.waiting.join(''));
    this.waiting.length = 0;
  }

  /** SHA-256 of all lines with their line ends; nothing may be added afterwards. */
  finish(): string {
    this.flush();
    return this.hash.digest('hex');
  }
}

/** SHA-256 of the bytes a guest printed, kept as one character each. */
export function consoleHash(console: string): string {
  return createHash('sha256').update(Uint8Array.from(console, character => character.charCodeAt(0))).digest('hex');
}
