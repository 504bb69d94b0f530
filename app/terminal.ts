import { writeSync } from 'node:fs';

const output = 1;
const errors = 2;

/** Raised when the reader of our output has gone away (`| head`): the program ends quietly. */
export class OutputClosed {}

/** Writes all bytes at once, without a buffer of our own, and waits while a pipe is full. */
function writeAll(file: number, bytes: Uint8Array): void {
  let at = 0;
  while (at < bytes.length) {
    try {
      at += writeSync(file, bytes, at, bytes.length - at);
    } catch (error) {
      const { code } = error as { readonly code?: string };
      if (code === 'EPIPE') throw new OutputClosed();
      if (code !== 'EAGAIN') throw error;
      Atomics.wait(pause, 0, 0, 1);
    }
  }
}

const pause = new Int32Array(new SharedArrayBuffer(4));
const single = new Uint8Array(1);
const encoder = new TextEncoder();

/** One byte of serial output to stdout, at once. */
export function writeByte(byte: number): void {
  single[0] = byte;
  writeAll(output, single);
}

/** Text to stdout. */
export function print(text: string): void { writeAll(output, encoder.encode(text)); }

/** One line to stderr. */
export function complain(line: string): void { writeAll(errors, encoder.encode(`vanderpool: ${line.replace(/[\x00-\x1f\x7f]+/g, ' ')}\n`)); }

/** Text to stderr as it is. */
export function printError(text: string): void { writeAll(errors, encoder.encode(text)); }

/** Whether somebody watches stderr. */
export function watched(): boolean { return process.stderr.isTTY === true; }
