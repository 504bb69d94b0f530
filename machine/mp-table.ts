import { APIC_ADDRESS } from './apic.ts';
import { IOAPIC_ADDRESS } from './ioapic.ts';

/** Writes bytes of firmware data into memory. */
export type MemoryWriter = (physical: number, bytes: Uint8Array) => void;

/** Where firmware data lies in low memory. Images must stay out of it. */
export const Firmware = {
  /** BIOS data area. */
  data: 0x400, dataSize: 0x100,
  /** Extended BIOS data area: top KiB of base memory. */
  extended: 0x9fc00,
  /** KiB below the extended BIOS data area. */
  baseMemory: 639,
  /** MP floating pointer; the configuration table follows. */
  table: 0xf0000,
} as const;

export interface MpConfiguration {
  readonly cpus: number;
  readonly ioApicId: number;
  /** CPUID.1: EAX and EDX, for the processor entries. */
  readonly signature: number;
  readonly features: number;
}

/** Builds little-endian structures. */
class Bytes {
  readonly list: number[] = [];
  u8(...values: number[]): this {
    for (const v of values) this.list.push(v & 0xff);
    return this;
  }
  u16(v: number): this { return this.u8(v, v >> 8); }
  u32(v: number): this { return this.u8(v, v >> 8, v >> 16, v >>> 24); }
  text(s: string, length: number): this {
    for (let i = 0; i < length; i++) this.u8(i < s.length ? s.charCodeAt(i) : 0x20);
    return this;
  }
}

/** Byte that makes the sum of all bytes zero. */
const checksum = (list: readonly number[]): number => -list.reduce((a, b) => a + b, 0) & 0xff;

const BUS_ISA = 0;
const Kind = { Processor: 0, Bus: 1, IoApic: 2, IoInterrupt: 3, LocalInterrupt: 4 } as const;
const Interrupt = { Int: 0, Nmi: 1, ExtInt: 3 } as const;

/**
 * MP floating pointer structure and configuration table (Intel MultiProcessor Specification 1.4), plus the words of
 * the BIOS data area through which operating systems look for it.
 */
export function writeFirmwareTables(write: MemoryWriter, configuration: MpConfiguration): void {
  const { cpus, ioApicId } = configuration;
  const entries = new Bytes();
  let count = 0;
  for (let cpu = 0; cpu < cpus; cpu++, count++) {
    // local APIC version 14H; enabled, first one the bootstrap processor
    entries.u8(Kind.Processor, cpu, 0x14, 1 | (cpu === 0 ? 2 : 0)).u32(configuration.signature).u32(configuration.features).u32(0).u32(0);
  }
  entries.u8(Kind.Bus, BUS_ISA).text('ISA', 6);
  entries.u8(Kind.IoApic, ioApicId, 0x11, 1).u32(IOAPIC_ADDRESS);
  count += 2;
  for (let irq = 0; irq < 16; irq++) {
    if (irq === 2) continue; // the cascade has no line of its own: IRQ 0 uses its input
    entries.u8(Kind.IoInterrupt, Interrupt.Int).u16(0).u8(BUS_ISA, irq, ioApicId, irq === 0 ? 2 : irq);
    count++;
  }
  entries.u8(Kind.LocalInterrupt, Interrupt.ExtInt).u16(0).u8(BUS_ISA, 0, 0, 0); // PIC at LINT0 of the bootstrap processor
  entries.u8(Kind.LocalInterrupt, Interrupt.Nmi).u16(0).u8(BUS_ISA, 0, 0xff, 1); // NMI at LINT1 of all
  count += 2;

  const header = new Bytes().text('PCMP', 4).u16(44 + entries.list.length).u8(4, 0).text('VANDERPL', 8).text('SIMULATED PC', 12).u32(0).u16(0).u16(count).u32(APIC_ADDRESS).u16(0).u8(0, 0);
  const table = [...header.list, ...entries.list];
  table[7] = checksum(table);

  // 16 bytes, specification revision 1.4, no default configuration, no IMCR: virtual wire mode
  const pointer = new Bytes().text('_MP_', 4).u32(Firmware.table + 16).u8(1, 4, 0).u8(0, 0, 0, 0, 0).list;
  pointer[10] = checksum(pointer);
  write(Firmware.table, Uint8Array.from([...pointer, ...table]));

  write(Firmware.data + 0x0e, Uint8Array.from(new Bytes().u16(Firmware.extended >> 4).list));
  write(Firmware.data + 0x13, Uint8Array.from(new Bytes().u16(Firmware.baseMemory).list));
  write(Firmware.extended, Uint8Array.from([1])); // its size in KiB
}
