import type { Bus } from '../../cpu/bus.ts';
import { Cpu, Flow } from '../../cpu/cpu.ts';
import { Decoder } from '../../cpu/decode.ts';
import { fault, isFault } from '../../cpu/fault.ts';
import type { Hooks } from '../../cpu/hooks.ts';
import type { Instruction } from '../../cpu/instruction.ts';
import { deliverEvent, raise } from '../../cpu/interrupt.ts';
import { FAST_CONTEXT, NO_TAG_HIGH, Memory } from '../../cpu/memory.ts';
import type { AccessKind, Mmu } from '../../cpu/mmu.ts';
import { estimate, type CpuProfile } from '../../cpu/profile.ts';
import type { Row } from '../../cpu/row.ts';
import { featureRows } from '../../cpu/cpuid.ts';
import { systemRows } from '../../cpu/rows/system.ts';
import { Cr0, S, SegmentIndex } from '../../cpu/state.ts';

export const profile: CpuProfile = {
  name: 'test', description: 'everything', signature: 0x106a5, brand: 'Test CPU', features: featureRows.map((row) => row.name), physicalAddressBits: 40, linearAddressBits: 48,
  maxBasicLeaf: 0x16, frequency: 1e9,
  tlb: { instruction: { entries4k: 1, ways4k: 0, entriesLarge: 0, waysLarge: 0 }, data: { entries4k: 1, ways4k: 0, entriesLarge: 0, waysLarge: 0 }, second: null },
  costs: { 'event.exception': estimate(100, 100, 100), 'event.software': estimate(50, 50, 50), 'event.interrupt': estimate(30, 30, 30) },
};

/** Identity translation of the low 32 bits; listed pages are not present, and everything asked of it is logged. */
class IdentityMmu implements Mmu {
  readonly absent = new Set<number>();
  readonly log: string[] = [];
  vpid = 0;
  readonly counters = { dataMisses: 0, instructionMisses: 0, walks: 0, walkReferences: 0, secondLevelReferences: 0 };
  cpu!: Cpu;
  translate(linear: number, kind: AccessKind, system: boolean): number {
    const physical = linear >>> 0;
    if (!this.absent.has(physical >>> 12)) return physical;
    this.cpu.set32(S.faultVector, 14);
    this.cpu.set32(S.faultError, (kind === 1 ? 2 : 0) | (!system && this.cpu.cpl === 3 ? 4 : 0));
    this.cpu.setSigned(S.faultLinear, linear);
    return -1;
  }
  peek(linear: number): number { return linear >>> 0; }
  updateContext(): void { this.log.push('context'); }
  invalidatePage(linear: number): void { this.log.push(`page ${linear.toString(16)}`); }
  flushNonGlobal(): void { this.log.push('nonglobal'); }
  flushAll(): void { this.log.push('all'); }
  invalidatePcid(type: number, pcid: number, linear: number): void { this.log.push(`pcid ${type} ${pcid} ${linear.toString(16)}`); }
  invalidateVpid(): void { /* not used here */ }
  invalidateEpt(): void { /* not used here */ }
  codePageChanged(): void { /* no decoded code here */ }
  updateMode(): void { /* no execute tables here */ }
  enterExecute(): boolean { return false; }
  dropExecute(): void { /* no execute tables here */ }
  save(): unknown { return null; }
  load(): void { /* nothing to load */ }
}

class LogBus implements Bus {
  readonly log: string[] = [];
  taskPriority = 0;
  apicBase = 0xfee00900;
  readPhysical(): number { return 0xffffffff; }
  writePhysical(): void { /* swallowed */ }
  ioRead(port: number, size: number): number { this.log.push(`in ${port.toString(16)} ${size}`); return 0x12345678 & (2 ** (8 * size) - 1); }
  ioWrite(port: number, size: number, value: number): void { this.log.push(`out ${port.toString(16)} ${size} ${value.toString(16)}`); }
  acknowledgeInterrupt(): number { return -1; }
  readApicBase(): number { return this.apicBase; }
  writeApicBase(_cpu: number, value: number): void { this.apicBase = value; }
  readTaskPriority(): number { return this.taskPriority; }
  writeTaskPriority(_cpu: number, value: number): void { this.taskPriority = value; }
}

/** Hooks that take nothing over, except as given. */
export function hooksWith(some: Partial<Hooks>): Hooks {
  return { instruction: () => false, event: () => false, tripleFault: () => true, boundary: () => false, deadline: () => Infinity, externalInterrupt: () => 'deliver', abort: () => {}, ...some };
}

export const At = { gdt: 0x1000, idt: 0x2000, tss: 0x3000, ldt: 0x3800, kernelStack: 0x8000, userStack: 0x9000, code: 0x10000, handler: 0x20000, istStack: 0xa000 } as const;
/** Selectors of the fixture's GDT. */
export const Sel = { code0: 0x08, data0: 0x10, code3: 0x1b, data3: 0x23, tss: 0x28, ldt: 0x38, code64: 0x48, user64: 0x53, absent: 0x58, gate: 0x60, tss2: 0x70, conforming: 0x78 } as const;

export class SystemMachine {
  readonly memory = new Memory(1 << 20, 1, 1 << 16);
  readonly bus = new LogBus();
  readonly mmu = new IdentityMmu();
  readonly cpu: Cpu;
  readonly decoder: Decoder;
  readonly ram: DataView;
  readonly rows: readonly Row[] = systemRows.map((row, id): Row => ({ ...row, id }));

  constructor(features: readonly string[] = profile.features) {
    this.cpu = new Cpu(this.memory, 0, { ...profile, features }, this.bus);
    this.mmu.cpu = this.cpu;
    this.cpu.mmu = this.mmu;
    // fast tables that hold nothing
    const { memory } = this.cpu;
    memory.u32.fill(NO_TAG_HIGH, memory.fastBase / 4, (memory.fastBase + FAST_CONTEXT) / 4);
    for (const table of [S.readTable, S.writeTable, S.execTable]) this.cpu.set32(table, memory.fastBase);
    this.decoder = new Decoder(this.rows, this.cpu.features);
    this.ram = new DataView(this.memory.wasm.buffer, this.memory.ramBase, this.memory.ramSize);
    this.cpu.flags = 2;
    this.cpu.set32(S.dr + 48, 0xffff0ff0);
    this.cpu.set32(S.dr + 56, 0x400);
  }

  /** Writes an 8-byte descriptor: base, limit as in the limit field, type byte (P DPL S type), flags nibble (G D L AVL). */
  descriptor(at: number, base: number, limit: number, type: number, flags: number): void {
    this.ram.setUint32(at, ((limit & 0xffff) | (base << 16)) >>> 0, true);
    this.ram.setUint32(at + 4, (((base >>> 16) & 0xff) | (type << 8) | (limit & 0xf0000) | (flags << 20) | (base & 0xff000000)) >>> 0, true);
  }
  gate(vector: number, selector: number, offset: number, type: number, long = false, ist = 0): void {
    const at = At.idt + vector * (long ? 16 : 8);
    this.ram.setUint32(at, ((offset & 0xffff) | (selector << 16)) >>> 0, true);
    this.ram.setUint32(at + 4, ((offset & 0xffff0000) | (type << 8) | ist) >>> 0, true);
    if (long) {
      this.ram.setUint32(at + 8, 0, true);
      this.ram.setUint32(at + 12, 0, true);
    }
  }

  /** Flat 32-bit protected mode at ring 0 or 3 with GDT, IDT (gates 0x80 for ring 3, all others for ring 0) and TSS. */
  protect(ring: 0 | 3): this {
    const { cpu } = this;
    const put = (selector: number, base: number, limit: number, type: number, flags: number): void => this.descriptor(At.gdt + (selector & ~7), base, limit, type, flags);
    put(Sel.code0, 0, 0xfffff, 0x9b, 0xc);
    put(Sel.data0, 0, 0xfffff, 0x93, 0xc);
    put(Sel.code3, 0, 0xfffff, 0xfb, 0xc);
    put(Sel.data3, 0, 0xfffff, 0xf3, 0xc);
    put(Sel.tss, At.tss, 0x7f, 0x8b, 0);
    this.ram.setUint32(At.gdt + Sel.tss + 8, 0, true);
    put(Sel.ldt, At.ldt, 0xff, 0x82, 0);
    put(Sel.code64, 0, 0xfffff, 0x9b, 0xa);
    put(Sel.user64, 0, 0xfffff, 0xfb, 0xa);
    put(Sel.absent, 0, 0xfffff, 0x13, 0xc);
    put(Sel.conforming, 0, 0xfffff, 0x9f, 0xc);
    cpu.setSigned(S.gdtrBase, At.gdt);
    cpu.set32(S.gdtrLimit, 0xff);
    cpu.setSigned(S.idtrBase, At.idt);
    cpu.set32(S.idtrLimit, 0x7ff);
    for (let v = 0; v < 256; v++) this.gate(v, Sel.code0, At.handler + v * 16, v === 0x80 ? 0xee : 0x8e);
    this.ram.setUint32(At.tss + 4, At.kernelStack, true);
    this.ram.setUint16(At.tss + 8, Sel.data0, true);
    this.ram.setUint16(At.tss + 0x66, 0x68, true);
    cpu.set32(S.cr0, Cr0.PE | Cr0.ET);
    cpu.setSegment(SegmentIndex.TR, Sel.tss, At.tss, 0x7f, 0x8b);
    cpu.setSegment(SegmentIndex.LDTR, 0, 0, 0, 0x10000);
    cpu.setSegment(SegmentIndex.CS, ring ? Sel.code3 : Sel.code0, 0, 0xffffffff, ring ? 0xc0fb : 0xc09b);
    for (const n of [SegmentIndex.SS, SegmentIndex.DS, SegmentIndex.ES, SegmentIndex.FS, SegmentIndex.GS]) cpu.setSegment(n, ring ? Sel.data3 : Sel.data0, 0, 0xffffffff, ring ? 0xc0f3 : 0xc093);
    cpu.cpl = ring;
    cpu.setReg32(4, ring ? At.userStack : At.kernelStack);
    cpu.rip = At.code;
    return this;
  }

  /** Long mode: 64-bit code at ring 0 or 3, 16-byte gates. */
  long(ring: 0 | 3): this {
    this.protect(ring);
    const { cpu } = this;
    cpu.set32(S.cr0, Cr0.PE | Cr0.ET | Cr0.PG);
    cpu.set32(S.cr4, 0x20);
    cpu.set32(S.efer, 0x501);
    cpu.setSegment(SegmentIndex.CS, ring ? Sel.user64 : Sel.code64, 0, 0xffffffff, ring ? 0xa0fb : 0xa09b);
    cpu.set32(S.idtrLimit, 0xfff);
    for (let v = 0; v < 256; v++) this.gate(v, Sel.code64, At.handler + v * 16, v === 0x80 ? 0xee : 0x8e, true);
    this.ram.setUint32(At.tss + 4, At.kernelStack, true);
    this.ram.setUint32(At.tss + 8, 0, true);
    this.ram.setUint32(At.tss + 36, At.istStack, true);
    return this;
  }

  /** Real mode with a vector table at 0. */
  real(): this {
    const { cpu } = this;
    cpu.set32(S.idtrLimit, 0x3ff);
    for (let v = 0; v < 256; v++) this.ram.setUint32(v * 4, (0x2000 << 16) | (v * 16), true);
    for (let n = 0; n < 6; n++) cpu.setSegment(n, 0, 0, 0xffff, 0x93);
    cpu.setSegment(SegmentIndex.CS, 0x1000, 0x10000, 0xffff, 0x9b);
    cpu.setReg32(4, 0x7000);
    cpu.rip = 0;
    return this;
  }

  decode(bytes: readonly number[]): Instruction {
    const result = this.decoder.decode(new Uint8Array([...bytes, ...new Array<number>(16).fill(0)]), 0, bytes.length + 16, this.cpu.code64 ? 64 : this.cpu.attributes(SegmentIndex.CS) & 0x4000 ? 32 : 16);
    if (typeof result === 'number') throw fault(6);
    return result;
  }

  /** Executes one instruction as an engine does: faults are delivered. Returns the flow, or 'fault'. */
  step(...bytes: number[]): Flow | 'fault' {
    const { cpu } = this;
    try {
      const instruction = this.decode(bytes);
      const flow = instruction.row.system!(cpu, instruction) ?? Flow.Next;
      if (flow === Flow.Next) cpu.advance(instruction);
      cpu.set32(S.retired, cpu.get32(S.retired) + 1);
      return flow;
    } catch (caught) {
      if (!isFault(caught)) throw caught;
      raise(cpu, caught);
      return 'fault';
    }
  }

  /** Executes one instruction and returns the fault it raises as 'vector(error)', or the flow. */
  attempt(...bytes: number[]): string {
    try {
      const instruction = this.decode(bytes);
      return String(instruction.row.system!(this.cpu, instruction) ?? Flow.Next);
    } catch (caught) {
      if (!isFault(caught)) throw caught;
      return `#${caught.vector}(${caught.error < 0 ? '' : caught.error.toString(16)})`;
    }
  }

  dwords(at: number, count: number): number[] {
    return Array.from({ length: count }, (_, i) => this.ram.getUint32(at + i * 4, true));
  }
  words(at: number, count: number): number[] {
    return Array.from({ length: count }, (_, i) => this.ram.getUint16(at + i * 2, true));
  }
  deliver(type: 0 | 2 | 3 | 4 | 5 | 6, vector: number, error = -1, data = 0, length = 0): void {
    deliverEvent(this.cpu, { type, vector, error, data, length });
  }
}
