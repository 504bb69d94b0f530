import { readdirSync, readFileSync } from 'node:fs';
import { assemble, type Assembled } from '../../cpu/assembler.ts';
import { isa } from '../../machine/isa.ts';
import { unit } from '../../machine/profile.ts';
import { native } from '../../monitors/native.ts';
import { Run } from '../../monitors/run.ts';

const folder = new URL('./programs/', import.meta.url);
const expectedFolder = new URL('./expected/', import.meta.url);

/** Programs whose expectation Bochs printed, with what QEMU's translator does otherwise; all others have QEMU's. */
export const byBochs: Readonly<Record<string, string>> = {
  strict: 'QEMU checks no segment limits, null selectors, alignment, reserved bits of CR0 and CR4, DR7.GD and the EXT bit of nested faults, and has no INT1',
  paging: 'QEMU reports a reserved bit in a paging-structure entry without the P bit of the error code',
  long: 'QEMU checks no canonical addresses in WRMSR and LGDT, reserved bits of CR0, CR4, CR8 and DR7, or the RPL of a null SS, and computes the error code of a missing 16-byte gate from its offset',
  pcid: 'QEMU has neither PCID nor INVPCID',
  task: 'QEMU does not model the debug trap bit of the TSS, and reports faults of the segments of a new task at the instruction of the old one',
};

/** QEMU's CPU: what the unit profile has, as far as the translator knows it. */
export const qemuCpu = 'qemu64,vendor=GenuineIntel,+fsgsbase,+smep,+smap,+rdtscp,+pdpe1gb,+umip,+movbe,+popcnt,+sep,+monitor';

/** Names of all programs. */
export const programs: readonly string[] = readdirSync(folder).filter((file) => file.endsWith('.asm')).map((file) => file.slice(0, -4)).sort();

/** A program, assembled. */
export function assembled(name: string): Assembled {
  const read = (file: string): string => readFileSync(new URL(file, folder), 'utf8');
  return assemble(read(`${name}.asm`), isa.rows, { include: read, file: `${name}.asm` });
}
/** Its image. */
export const imageOf = (name: string): Uint8Array => assembled(name).bytes;
/** Programs whose QEMU logs are committed as fixtures of the replay (test/traces/). */
export const loggedPrograms: readonly string[] = ['real', 'transfer'];
export const logFile = (name: string): URL => new URL(`../traces/qemu-${name}.log.gz`, import.meta.url);

/** The boot sector that loads an image from disk, followed by the image. */
export function diskOf(image: Uint8Array): Uint8Array {
  const sectors = Math.ceil(image.length / 512);
  const source = readFileSync(new URL('./disk-loader.asm', import.meta.url), 'utf8');
  const loader = assemble(source, isa.rows, { defines: { SECTORS: sectors }, file: 'disk-loader.asm' }).bytes;
  const disk = new Uint8Array(DISK_CYLINDERS * 16 * 63 * 512);
  disk.set(loader);
  disk.set(image, 512);
  return disk;
}
export const DISK_CYLINDERS = 20;

/** What the oracle printed, without blank ends. */
export function expectedOf(name: string): string {
  return readFileSync(new URL(`${name}.txt`, expectedFolder), 'utf8').trim();
}
export const expectedFile = (name: string): URL => new URL(`${name}.txt`, expectedFolder);

/** A program on our machine, with every cost one and everything that is implemented. */
export function machineFor(name: string, engine: 'interpret' | 'evaluate' = 'interpret'): Run {
  return new Run({ guest: name, image: { name, bytes: imageOf(name), sha256: '' }, monitor: native, profile: unit, engine, curve: false, maxInstructions: 5_000_000 });
}
