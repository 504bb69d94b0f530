/** Stands in for app/terminal.ts: keeps what would have been written. */
export const written = { stdout: '', stderr: '' };

export class OutputClosed {}
export const print = (text: string): void => { written.stdout += text; };
export const writeByte = (byte: number): void => { written.stdout += String.fromCharCode(byte); };
export const complain = (line: string): void => { written.stderr += `vanderpool: ${line}\n`; };
export const printError = (text: string): void => { written.stderr += text; };
export const watched = (): boolean => false;
