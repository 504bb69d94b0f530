import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { measureChild, type Command } from './child.ts';
import type { BenchImage } from './images.ts';
import type { Measured } from './serial.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
/** A run that takes longer than this is given up. */
export const TIMEOUT_SECONDS = 900;

/** Our own command line, in this one place: the image's serial output on standard output, in one process. */
export function ours(image: string, options: readonly string[] = []): Command {
  return { command: process.execPath, args: ['--import', 'tsx', 'app/cli.ts', 'run', image, '--monitor', 'native', ...options], cwd: root };
}

export interface Simulator {
  readonly name: string;
  /** Null where it can run; otherwise why not. Called once, before the runs. */
  prepare(folder: string): string | null;
  /** So slow that it runs the images of scale 1, once. */
  readonly slow?: true;
  /** Can run images of this kind. */
  readonly bits: readonly (32 | 64)[];
  run(image: BenchImage, path: string): Promise<Measured>;
}

function runs(command: string, ...args: string[]): boolean {
  return spawnSync(command, args, { encoding: 'utf8', timeout: 20_000 }).error === undefined;
}

function v86(name: string, flags: readonly string[]): Simulator {
  let build = '';
  return {
    name,
    bits: [32],
    prepare(folder) {
      const prefix = `${folder}/v86`;
      build = `${prefix}/node_modules/v86/build`;
      if (existsSync(build)) return null;
      const done = spawnSync('npm', ['install', '--prefix', prefix, '--no-audit', '--no-fund', '--loglevel=error', 'v86'], { encoding: 'utf8' });
      if (done.status !== 0) return `npm install v86 failed: ${done.stderr.trim().split('\n').at(-1) ?? ''}`;
      const { version } = JSON.parse(readFileSync(`${prefix}/node_modules/v86/package.json`, 'utf8')) as { version: string };
      process.stderr.write(`v86 ${version} installed in ${prefix}\n`);
      return null;
    },
    async run(_image, path) {
      // v86 measures itself: process.cpuUsage() in the callback of each byte is exact
      const done = spawnSync(process.execPath, [fileURLToPath(new URL('v86.mjs', import.meta.url)), build, path, ...flags], { encoding: 'utf8', timeout: TIMEOUT_SECONDS * 1000 });
      const line = done.stdout.trim().split('\n').at(-1) ?? '';
      if (done.status !== 0 || !line.startsWith('{')) throw new Error(`v86 ended with status ${done.status}: ${done.stderr.trim().split('\n').at(-1) ?? ''}`);
      return JSON.parse(line) as Measured;
    },
  };
}

const qemu: Simulator = {
  name: 'qemu-tcg',
  bits: [32, 64],
  prepare: () => (['qemu-system-i386', 'qemu-system-x86_64'].every((name) => runs(name, '--version')) ? null : 'qemu-system-i386 and qemu-system-x86_64 are not installed (Debian: qemu-system-x86)'),
  run: (image, path) => measureChild({ command: image.bits === 64 ? 'qemu-system-x86_64' : 'qemu-system-i386', args: ['-accel', 'tcg', '-kernel', path, '-m', '64', '-display', 'none', '-serial', 'stdio', '-no-reboot'] }, TIMEOUT_SECONDS),
};

const biosFiles = ['/usr/share/bochs/BIOS-bochs-latest'];
const vgaFiles = ['/usr/share/seabios/vgabios-stdvga.bin', '/usr/share/vgabios/vgabios.bin'];

/** Bochs cannot load a multiboot kernel; GRUB on an ISO image can. */
function bochs(): Simulator {
  let folder = '';
  return {
    name: 'bochs',
    slow: true,
    bits: [32, 64],
    prepare(temporary) {
      folder = `${temporary}/bochs`;
      const missing = [
        ...(['bochs', 'grub-mkrescue', 'xorriso', 'mformat'] as const).filter((name) => !runs(name, '--version')),
        ...(biosFiles.some((file) => existsSync(file)) ? [] : ['a BIOS image']), ...(vgaFiles.some((file) => existsSync(file)) ? [] : ['a VGA BIOS image']), ...(existsSync('/usr/lib/grub/i386-pc') ? [] : ['GRUB for the PC']),
      ];
      return missing.length === 0 ? null : `it cannot load multiboot images itself, and to boot them through GRUB these are missing: ${missing.join(', ')} (Debian: bochs bochsbios seabios grub-common grub-pc-bin xorriso mtools)`;
    },
    run(image, path) {
      const tree = `${folder}/${image.file}`;
      const iso = `${tree}.iso`;
      if (!existsSync(iso)) {
        mkdirSync(`${tree}/boot/grub`, { recursive: true });
        writeFileSync(`${tree}/boot/image`, readFileSync(path));
        // the images rely on a serial port that is already set up for eight data bits, which GRUB does on first use
        writeFileSync(`${tree}/boot/grub/grub.cfg`, 'set timeout=0\nserial --unit=0 --speed=115200 --word=8 --parity=no --stop=1\nterminal_output serial\nterminal_output console\nmultiboot /boot/image image\nboot\n');
        const made = spawnSync('grub-mkrescue', ['-o', iso, tree], { encoding: 'utf8' });
        if (made.status !== 0) throw new Error(`grub-mkrescue failed: ${made.stderr.trim().split('\n').at(-1) ?? ''}`);
        writeFileSync(`${tree}.rc`, 'c\n');
        writeFileSync(`${tree}.bochsrc`, [
          'display_library: rfb, options="timeout=0"', `romimage: file=${biosFiles.find((file) => existsSync(file))}`, `vgaromimage: file=${vgaFiles.find((file) => existsSync(file))}`, 'megs: 128',
          `ata0-master: type=cdrom, path=${iso}, status=inserted`, 'boot: cdrom', `com1: enabled=1, mode=file, dev=${tree}.serial`, 'cpu: model=corei7_sandy_bridge_2600k, count=1, ips=100000000', 'clock: sync=none', 'speaker: enabled=0, mode=none', 'sound: driver=dummy', 'log: /dev/null', '',
        ].join('\n'));
      }
      // its messages go to standard output, so the serial port gets a pipe of its own; Debian's build has the debugger, hence -rc
      return measureChild({ command: 'sh', args: ['-c', 'rm -f "$1.serial"; mkfifo "$1.serial"; cat "$1.serial" & exec bochs -q -f "$1.bochsrc" -rc "$1.rc" >/dev/null 2>&1', 'sh', tree] }, TIMEOUT_SECONDS);
    },
  };
}

const us: Simulator = {
  name: 'vanderpool',
  bits: [32, 64],
  prepare: () => (existsSync(`${root}app/cli.ts`) ? null : 'app/cli.ts does not exist'),
  run: (_image, path) => measureChild(ours(path, ['--memory', '64']), TIMEOUT_SECONDS),
};

export const OURS = us.name;
export const V86_INTERPRETER = 'v86-interp';

export function simulators(): Simulator[] {
  return [v86(V86_INTERPRETER, ['--nojit']), v86('v86-jit', []), qemu, bochs(), us];
}
