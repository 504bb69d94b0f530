import { spawn, type ChildProcess } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { SerialProtocol, type Measured } from './serial.ts';

export interface Command {
  readonly command: string;
  readonly args: readonly string[];
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** CPU milliseconds that a process, all its threads and its children have used (Linux, nanosecond accounting). */
export function cpuOf(pid: number): number {
  let nanoseconds = 0;
  const visit = (process: number): void => {
    try {
      for (const task of readdirSync(`/proc/${process}/task`)) {
        nanoseconds += Number(readFileSync(`/proc/${process}/task/${task}/schedstat`, 'utf8').split(' ')[0]);
        const children = readFileSync(`/proc/${process}/task/${task}/children`, 'utf8').trim();
        if (children !== '') for (const child of children.split(' ')) visit(Number(child));
      }
    } catch {
      // the process or a thread ended while it was looked at: its time no longer matters
    }
  };
  visit(pid);
  return nanoseconds / 1e6;
}

function start({ command, args, cwd, env }: Command): ChildProcess {
  return spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], ...(cwd === undefined ? {} : { cwd }), ...(env ? { env: { ...process.env, ...env } } : {}) });
}

/** Runs a simulator that prints the image's serial bytes on its standard output; it is killed after the final 'Z'. */
export function measureChild(command: Command, timeoutSeconds: number): Promise<Measured> {
  return new Promise((resolve, reject) => {
    const child = start(command);
    const protocol = new SerialProtocol(() => ({ cpu: cpuOf(child.pid!), wall: performance.now() }));
    let errors = '';
    const timer = setTimeout(() => child.kill('SIGKILL'), timeoutSeconds * 1000);
    child.stderr.on('data', (data) => { if (errors.length < 4000) errors += new TextDecoder().decode(data); });
    child.stdout.on('data', (data) => {
      for (const byte of data) if (protocol.push(String.fromCharCode(byte))) { child.kill('SIGKILL'); return; }
    });
    child.on('error', reject);
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      if (protocol.measured.finished) resolve(protocol.measured);
      else reject(new Error(`${command.command} ${command.args.join(' ')} ended (${code ?? signal}) before the image did${errors === '' ? '' : `: ${errors.trim().split('\n').slice(-3).join(' | ')}`}`));
    });
  });
}

/** Runs a command until its output matches; returns the output and the CPU milliseconds used when it did. */
export function measureUntil(command: Command, pattern: RegExp, timeoutSeconds: number): Promise<{ readonly text: string; readonly cpu: number }> {
  return new Promise((resolve, reject) => {
    const child = start(command);
    let text = '';
    let errors = '';
    let cpu = NaN;
    const timer = setTimeout(() => child.kill('SIGKILL'), timeoutSeconds * 1000);
    child.stderr.on('data', (data) => { if (errors.length < 4000) errors += new TextDecoder().decode(data); });
    child.stdout.on('data', (data) => {
      text += new TextDecoder().decode(data);
      if (Number.isNaN(cpu) && pattern.test(text)) {
        cpu = cpuOf(child.pid!);
        child.kill('SIGKILL');
      }
    });
    child.on('error', reject);
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      if (!Number.isNaN(cpu)) resolve({ text, cpu });
      else reject(new Error(`${command.command} ${command.args.join(' ')} ended (${code ?? signal}) without printing ${pattern}: ${(errors || text).trim().split('\n').slice(-3).join(' | ')}`));
    });
  });
}
