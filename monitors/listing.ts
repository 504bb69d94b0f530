import { DecodeError, Decoder } from '../cpu/decode.ts';
import { disassemble } from '../cpu/disassembler.ts';
import { Access, SegmentIndex } from '../cpu/state.ts';
import type { Core } from '../machine/core.ts';
import { isa } from '../machine/isa.ts';

const longest = 15;

/** Text of the instruction a CPU is about to execute, for listings: looks without touching anything. */
export class Listing {
  private readonly core: Core;
  private readonly decoder: Decoder;
  private readonly bytes = new Uint8Array(longest);

  constructor(core: Core) {
    this.core = core;
    this.decoder = new Decoder(isa.rows, core.cpu.features);
  }

  /** Intel syntax; '(not mapped)' or '(no instruction)' where there is nothing to read. Addresses are linear. */
  text(): string {
    const { cpu } = this.core;
    const { code64 } = cpu;
    const linear = code64 ? cpu.rip : (cpu.rip + cpu.segmentBase(SegmentIndex.CS)) >>> 0;
    let available = 0;
    while (available < longest) {
      const physical = cpu.mmu.peek(code64 ? linear + available : (linear + available) >>> 0);
      if (physical < 0 || physical >= cpu.memory.ramSize) break;
      this.bytes[available++] = cpu.u8[cpu.memory.ramBase + physical]!;
    }
    if (available === 0) return '(not mapped)';
    const codeSize = code64 ? 64 : cpu.attributes(SegmentIndex.CS) & Access.Big ? 32 : 16;
    const insn = this.decoder.decode(this.bytes, 0, available, codeSize);
    if (insn === DecodeError.Short || insn === DecodeError.Invalid || insn === DecodeError.TooLong) return '(no instruction)';
    return disassemble(insn, code64 ? linear : cpu.rip);
  }
}
