import { closeSync, mkdirSync, openSync, renameSync, rmSync, statSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { systemReason, UserError } from './user-error.ts';

const bufferSize = 1 << 16;

/**
 * A file that appears whole or not at all: everything goes to a file beside it, which takes its name at the end.
 * Opening it tells at once whether the place can be written to.
 */
export class OutputFile {
  readonly path: string;
  private readonly temporary: string;
  private file: number | null;
  private readonly waiting: string[] = [];
  private size = 0;

  /** @throws UserError when the place cannot be written to */
  constructor(path: string) {
    this.path = path;
    this.temporary = `${path}.${process.pid}.partial`;
    if (isDirectory(path)) throw new UserError(`cannot write ${path}: it is a directory`);
    try {
      this.file = openSync(this.temporary, 'w');
    } catch (error) {
      throw new UserError(`cannot write ${path}: ${systemReason(error)}`);
    }
    open.add(this);
  }

  write(text: string): void {
    this.waiting.push(text);
    this.size += text.length;
    if (this.size >= bufferSize) this.flush();
  }

  private flush(): void {
    if (this.file === null) throw new Error(`OutputFile ${this.path}: written to after commit or discard`);
    const bytes = new TextEncoder().encode(this.waiting.join(''));
    this.waiting.length = 0;
    this.size = 0;
    try {
      for (let at = 0; at < bytes.length;) at += writeSync(this.file, bytes, at, bytes.length - at);
    } catch (error) {
      throw new UserError(`cannot write ${this.path}: ${systemReason(error)}`);
    }
  }

  /** The file takes its name. */
  commit(): void {
    this.flush();
    closeSync(this.file!);
    this.file = null;
    try {
      renameSync(this.temporary, this.path);
    } catch (error) {
      throw new UserError(`cannot write ${this.path}: ${systemReason(error)}`);
    }
    open.delete(this);
  }

  /** Nothing is left of it. */
  discard(): void {
    if (this.file !== null) closeSync(this.file);
    this.file = null;
    rmSync(this.temporary, { force: true });
    open.delete(this);
  }
}

const open = new Set<OutputFile>();

/** Removes what was not finished: whatever ends the program early comes through here. */
export function discardUnfinished(): void {
  for (const file of [...open]) file.discard();
}

/** Writes several files of a directory; none takes its name before all are written. */
export function commitAll(files: readonly OutputFile[]): void {
  for (const file of files) file.commit();
}

/**
 * Makes a directory for output.
 * @throws UserError when that is not possible
 */
export function outputDirectory(path: string): string {
  try {
    makeDirectory(path);
  } catch (error) {
    throw new UserError(`cannot make the directory ${path}: ${systemReason(error)}`);
  }
  return path;
}

/** One level at a time: Node's own recursion does not end where a parent exists but takes no directories (/proc). */
function makeDirectory(path: string): void {
  if (isDirectory(path)) return;
  const parent = dirname(path);
  if (parent !== path) makeDirectory(parent);
  mkdirSync(path);
}

/** A file in a directory made by {@link outputDirectory}. */
export function fileIn(directory: string, name: string): OutputFile { return new OutputFile(join(directory, name)); }

function isDirectory(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}
