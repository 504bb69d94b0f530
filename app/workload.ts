import { assemble } from '../cpu/assembler.ts';
import { includes, type Guest } from '../guests/index.ts';
import type { LoadOptions } from '../machine/boot/detect.ts';
import { isa } from '../machine/isa.ts';
import { sha256 } from './hash.ts';

/** Something to run: an image and what is known about it. */
export interface Workload {
  /** Name in reports. */
  readonly name: string;
  readonly image: { readonly name: string; readonly bytes: Uint8Array; readonly sha256: string };
  /** How to load it, where looking at it does not tell. */
  readonly load?: Partial<LoadOptions>;
  /** The embedded guest that it is. */
  readonly guest?: Guest;
}

/** Text that sources of guests include, by name. */
export function embeddedText(name: string): string | undefined {
  return Object.hasOwn(includes, name) ? includes[name] : undefined;
}

const made = new Map<string, Promise<Workload>>();

/** An embedded guest, assembled once. */
export function embedded(guest: Guest): Promise<Workload> {
  let workload = made.get(guest.name);
  if (!workload) made.set(guest.name, (workload = make(guest)));
  return workload;
}

async function make(guest: Guest): Promise<Workload> {
  const { bytes } = assemble(guest.source, isa.rows, { include: embeddedText, file: `${guest.name}.asm` });
  return { name: guest.name, image: { name: guest.name, bytes, sha256: await sha256(bytes) }, guest };
}
