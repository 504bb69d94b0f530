import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DISK_CYLINDERS, diskOf, qemuCpu } from './programs.ts';

/** What an oracle printed on the serial port, without blank ends, or why it cannot run. */
export type Printed = { readonly text: string } | { readonly missing: string };

const installed = (command: string): boolean => spawnSync(command, ['--help'], { encoding: 'utf8', timeout: 10_000 }).error === undefined;

export const qemuInstalled = installed('qemu-system-x86_64');

/** Runs an image under QEMU's translator. */
export function runQemu(image: Uint8Array, folder: string, name: string): Printed {
  if (!qemuInstalled) return { missing: 'qemu-system-x86_64 is not installed (Debian: qemu-system-x86)' };
  const file = join(folder, `${name}.img`);
  writeFileSync(file, image);
  const run = spawnSync('qemu-system-x86_64', ['-accel', 'tcg', '-m', '64', '-cpu', qemuCpu, '-kernel', file, '-serial', 'stdio', '-monitor', 'none', '-display', 'none', '-no-reboot'], { encoding: 'latin1', timeout: 20_000, input: '' });
  return { text: run.stdout.trim() };
}

/**
 * QEMU's log of an image with one block per instruction, only of the address ranges given.
 * @param filter as in -dfilter
 */
export function logQemu(image: Uint8Array, folder: string, name: string, filter: string): string {
  const file = join(folder, `${name}.img`);
  const log = join(folder, `${name}.log`);
  writeFileSync(file, image);
  spawnSync('qemu-system-x86_64', [
    '-accel', 'tcg', '-m', '64', '-cpu', qemuCpu, '-kernel', file, '-serial', 'file:/dev/null', '-monitor', 'none', '-display', 'none', '-no-reboot',
    '-singlestep', '-d', 'in_asm,exec,cpu,int,nochain', '-dfilter', filter, '-D', log,
  ], { encoding: 'latin1', timeout: 60_000 });
  return readFileSync(log, 'utf8');
}

const bios = '/usr/share/bochs/BIOS-bochs-latest';
const vga = ['/usr/share/seabios/vgabios-stdvga.bin', '/usr/share/vgabios/vgabios.bin'].find((file) => existsSync(file));

/** Runs an image under Bochs 2.7 from a disk of our own; Debian's build has the debugger, hence the command file. */
export function runBochs(image: Uint8Array, folder: string, name: string): Printed {
  if (!installed('bochs') || !existsSync(bios) || vga === undefined) return { missing: 'bochs, its BIOS or a VGA BIOS is not installed (Debian: bochs bochsbios seabios)' };
  const base = join(folder, name);
  for (const end of ['serial', 'disk.lock']) rmSync(`${base}.${end}`, { force: true });
  writeFileSync(`${base}.disk`, diskOf(image));
  writeFileSync(`${base}.rc`, 'c\n');
  writeFileSync(`${base}.bochsrc`, [
    'display_library: rfb, options="timeout=0"', `romimage: file=${bios}`, `vgaromimage: file=${vga}`, 'megs: 64',
    `ata0-master: type=disk, path=${base}.disk, mode=flat, cylinders=${DISK_CYLINDERS}, heads=16, spt=63`, 'boot: disk', `com1: enabled=1, mode=file, dev=${base}.serial`,
    'cpu: model=corei7_skylake_x, count=1, ips=50000000, reset_on_triple_fault=0', 'clock: sync=none', 'speaker: enabled=0, mode=none', 'sound: driver=dummy', 'log: /dev/null', 'panic: action=fatal', '',
  ].join('\n'));
  // its BIOS waits for the disk in real time and gives up on a busy machine
  for (let attempt = 0; attempt < 5; attempt++) {
    spawnSync('bochs', ['-q', '-f', `${base}.bochsrc`, '-rc', `${base}.rc`], { encoding: 'latin1', timeout: 8_000, input: '' });
    rmSync(`${base}.disk.lock`, { force: true });
    if (existsSync(`${base}.serial`) && /[0-9a-f]\s*$/.test(readFileSync(`${base}.serial`, 'latin1'))) break;
  }
  return { text: existsSync(`${base}.serial`) ? readFileSync(`${base}.serial`, 'latin1').trim() : '' };
}

/** Differing lines of two outputs, short enough for a message. */
export function difference(one: string, other: string): string[] {
  const a = one.split('\n');
  const b = other.split('\n');
  const lines: string[] = [];
  for (let i = 0; i < Math.max(a.length, b.length); i++) {
    if (a[i] === b[i]) continue;
    const x = (a[i] ?? '').split(' ');
    const y = (b[i] ?? '').split(' ');
    let at = 0;
    while (at < x.length && x[at] === y[at]) at++;
    lines.push(`${x[0]}, word ${at}: ${x.slice(at, at + 6).join(' ')} instead of ${y.slice(at, at + 6).join(' ')}`);
  }
  return lines;
}
