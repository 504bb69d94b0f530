/** The part of Node's API that app/ and test/ use. Add what you need; nothing else in the repository may import node: modules. */
declare module 'node:fs' {
  export function existsSync(path: string | URL): boolean;
  export function readFileSync(path: string | URL): Uint8Array<ArrayBuffer>;
  export function readFileSync(path: string | URL, encoding: 'utf8' | 'latin1'): string;
  export function writeFileSync(path: string | URL, data: string | Uint8Array): void;
  export function readdirSync(path: string | URL): string[];
  export function mkdirSync(path: string | URL, options?: { recursive?: boolean }): string | undefined;
  export function mkdtempSync(prefix: string): string;
  export function rmSync(path: string | URL, options?: { recursive?: boolean; force?: boolean }): void;
  export function openSync(path: string | URL, flags: 'w' | 'wx' | 'r'): number;
  export function writeSync(file: number, data: string | Uint8Array, offset?: number, length?: number): number;
  export function closeSync(file: number): void;
  export function renameSync(from: string, to: string): void;
  export function statSync(path: string | URL): { readonly size: number; isDirectory(): boolean; isFile(): boolean };
  export function chmodSync(path: string | URL, mode: number): void;
  export function copyFileSync(from: string | URL, to: string | URL): void;
}

declare module 'node:util' {
  interface ParsedArguments {
    readonly values: Readonly<Record<string, string | boolean | undefined>>;
    readonly positionals: readonly string[];
  }
  export function parseArgs(config: {
    readonly args: readonly string[];
    readonly options: Readonly<Record<string, { readonly type: 'string' | 'boolean'; readonly short?: string }>>;
    readonly allowPositionals: boolean;
    readonly strict: true;
  }): ParsedArguments;
}

declare module 'node:crypto' {
  interface Hash {
    update(data: string | Uint8Array): Hash;
    digest(encoding: 'hex'): string;
  }
  export function createHash(algorithm: 'sha256'): Hash;
}

declare module 'node:os' {
  export function tmpdir(): string;
  export function cpus(): { model: string }[];
  export function loadavg(): number[];
}

declare module 'node:path' {
  export function join(...parts: string[]): string;
  export function resolve(...parts: string[]): string;
  export function dirname(path: string): string;
  export function basename(path: string, suffix?: string): string;
  export function relative(from: string, to: string): string;
  export function extname(path: string): string;
}

declare module 'node:url' {
  export function fileURLToPath(url: string | URL): string;
  export function pathToFileURL(path: string): URL;
}

declare module 'node:zlib' {
  export function gzipSync(data: Uint8Array, options?: { level?: number }): Uint8Array<ArrayBuffer>;
  export function gunzipSync(data: Uint8Array): Uint8Array<ArrayBuffer>;
}

declare module 'node:child_process' {
  interface Readable {
    on(event: 'data', listener: (data: Uint8Array) => void): void;
    on(event: 'end', listener: () => void): void;
  }
  interface ChildProcess {
    readonly pid: number | undefined;
    readonly stdout: Readable;
    readonly stderr: Readable;
    kill(signal?: string): boolean;
    on(event: 'close', listener: (code: number | null, signal: string | null) => void): void;
    on(event: 'error', listener: (error: Error) => void): void;
  }
  interface SpawnOptions {
    cwd?: string;
    env?: Record<string, string | undefined>;
    stdio?: readonly ('ignore' | 'pipe' | 'inherit')[];
  }
  interface SpawnSyncOptions extends SpawnOptions {
    input?: string | Uint8Array;
    encoding: 'utf8' | 'latin1';
    timeout?: number;
    maxBuffer?: number;
  }
  interface SpawnSyncResult {
    readonly status: number | null;
    readonly stdout: string;
    readonly stderr: string;
    readonly error?: Error;
  }
  export function spawn(command: string, args: readonly string[], options?: SpawnOptions): ChildProcess;
  export function spawnSync(command: string, args: readonly string[], options: SpawnSyncOptions): SpawnSyncResult;
}

declare const process: {
  readonly argv: string[];
  readonly pid: number;
  readonly platform: string;
  readonly execPath: string;
  exitCode: number | undefined;
  readonly env: Record<string, string | undefined>;
  readonly stdout: { write(text: string | Uint8Array): boolean; readonly isTTY?: boolean };
  readonly stderr: { write(text: string | Uint8Array): boolean; readonly isTTY?: boolean };
  exit(code?: number): never;
  cwd(): string;
  cpuUsage(since?: { user: number; system: number }): { user: number; system: number };
};
