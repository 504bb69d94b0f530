/** A file that somebody gave us is not what it should be. Callers print `message` as one line; it is not a bug. */
export class FormatError extends Error {
  /** Where: 'line 3' of an event log, '$.inputs[0].bytes' of a JSON file. */
  readonly where: string;

  constructor(where: string, problem: string) {
    super(`${where}: ${problem}`);
    this.name = 'FormatError';
    this.where = where;
  }
}

/** A value from a file, short enough for one line of a message. */
export function shown(value: unknown): string {
  if (value === undefined) return 'nothing';
  const text = JSON.stringify(value) ?? typeof value;
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
}
