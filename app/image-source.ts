import { existsSync, readFileSync, statSync } from 'node:fs';
import { basename, dirname, extname, join } from 'node:path';
import { assemble } from '../cpu/assembler.ts';
import { findGuest, guestList } from '../guests/index.ts';
import { detectImage } from '../machine/boot/detect.ts';
import { isa } from '../machine/isa.ts';
import { embedded, embeddedText, type Workload } from './workload.ts';
import { sha256 } from './hash.ts';
import { choices, quoted, systemReason, UserError } from './user-error.ts';

/** Largest image that is read; guests have at most 3 GiB of memory. */
const largest = 2 ** 31 - 1;

/**
 * The guest of that name, or the image file of that path. Files that end in .asm are assembled first.
 * @throws UserError, AssemblyError or ImageError
 */
export async function findWorkload(name: string): Promise<Workload> {
  const guest = findGuest(name);
  if (guest) return embedded(guest);
  if (!existsSync(name) && !/[\\/.]/.test(name)) throw new UserError(`unknown guest ${quoted(name)}: expected ${choices([...guestList.map(known => known.name), 'the path of an image'])}`);
  const bytes = readImage(name);
  return extname(name) === '.asm' ? assembled(name, bytes) : { name: basename(name), image: { name: basename(name), bytes, sha256: await sha256(bytes) } };
}

/** Largest text that a string holds with room to spare. */
const largestText = 2 ** 29 - 2 ** 20;

/** @throws UserError when the file cannot be read, or is more text than fits */
export function readText(path: string): string {
  return new TextDecoder().decode(readBytes(path, largestText, `it is larger than ${largestText / 2 ** 20} MiB; -dfilter and -D of QEMU keep a log to the guest`));
}

/** @throws UserError when the file cannot be read */
export function readImage(path: string): Uint8Array {
  return readBytes(path, largest, 'it is larger than the memory of any guest');
}

function readBytes(path: string, most: number, tooLarge: string): Uint8Array {
  try {
    const status = statSync(path);
    if (status.isDirectory()) throw new UserError(`cannot read ${path}: it is a directory, expected a file`);
    if (status.size > most) throw new UserError(`cannot read ${path}: ${tooLarge}`);
    return readFileSync(path);
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw new UserError(`cannot read ${path}: ${systemReason(error)}`);
  }
}

/**
 * An assembly file of the user: it can include the texts that the embedded guests share and files beside it. Without
 * a multiboot header or boot signature it is entered at _start (or its first byte), in real mode below 1 MiB and in
 * protected mode above.
 */
async function assembled(path: string, text: Uint8Array): Promise<Workload> {
  const include = (name: string): string | undefined => {
    const beside = join(dirname(path), name);
    return existsSync(beside) && !statSync(beside).isDirectory() ? new TextDecoder().decode(readFileSync(beside)) : embeddedText(name);
  };
  const program = assemble(new TextDecoder().decode(text), isa.rows, { include, file: path });
  const { bytes, origin } = program;
  const name = basename(path);
  const image = { name, bytes, sha256: await sha256(bytes) };
  if (bytes.length === 0) throw new UserError(`${path}: the source makes no bytes`);
  if (detectImage(bytes) !== 'flat') return { name, image };
  const entry = program.entry === undefined ? {} : { entry: program.entry };
  return { name, image, load: { flat: { address: origin, mode: origin < 0x100000 ? 'real' : 'protected32', ...entry } } };
}
