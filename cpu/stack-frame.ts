import type { Cpu } from './cpu.ts';
import type { Instruction } from './instruction.ts';
import { frameHigh, frameLow, pushFrameOnly, setStackPointer, stackBits, stackPointer } from './stack.ts';
import { Gpr, S, SegmentIndex } from './state.ts';

/** Image of what ENTER pushes, by distance below the old stack pointer: a display may lie where the pushes go. */
const image = new Uint8Array(32 * 8 + 8);

/** ENTER: copies the display of outer frames behind the saved frame pointer (SDM "Stack Frames for Block-Structured Languages"). */
export function enter(cpu: Cpu, insn: Instruction): void {
  const level = insn.immediate2 & 31;
  const bits = stackBits(cpu);
  const size = insn.operandSize >>> 3;
  const sp = stackPointer(cpu, bits);
  const wrap = (offset: number): number => (bits === 64 ? offset : bits === 32 ? offset >>> 0 : offset & 0xffff);
  const low = cpu.u32[(cpu.base + S.gpr + 8 * Gpr.RBP) >>> 2]!;
  const high = cpu.u32[(cpu.base + S.gpr + 8 * Gpr.RBP + 4) >>> 2]!;
  let count = 0;
  const put = (l: number, h: number): void => {
    frameLow[count] = size === 2 ? l & 0xffff : l;
    frameHigh[count] = h;
    count++;
    for (let i = 0; i < size; i++) image[count * size - i] = ((i < 4 ? l : h) >>> (8 * (i & 3))) & 0xff;
  };
  put(low, high);
  const frame = wrap(sp - size);
  let pointer = bits === 64 ? cpu.getSigned(S.gpr + 8 * Gpr.RBP) : wrap(low);
  for (let i = 1; i < level; i++) {
    pointer = wrap(pointer - size);
    const linear = cpu.linear(SegmentIndex.SS, pointer, size, false);
    cpu.checkAlignment(linear, size);
    cpu.probeRead(linear, size);
    let l = 0;
    let h = 0;
    for (let at = 0; at < size; at++) {
      // what has been pushed already is read back
      const distance = wrap(sp - (pointer + at));
      const byte = distance > 0 && distance <= count * size ? image[distance]! : cpu.load(cpu.wrapLinear(linear + at), 1);
      if (at < 4) l |= byte << (8 * at);
      else h |= byte << (8 * (at - 4));
    }
    put(l, h);
  }
  if (level > 0) put(frame | 0, Math.floor(frame / 4294967296) | 0);
  const final = wrap(sp - count * size - (insn.immediate & 0xffff));
  // the pushes in their order, then the final stack pointer, which must be one that can be written at
  for (let i = 1; i <= count; i++) {
    const linear = cpu.linear(SegmentIndex.SS, wrap(sp - i * size), size, true);
    cpu.checkAlignment(linear, size);
    cpu.probeWrite(linear, size);
  }
  cpu.probeWrite(cpu.linear(SegmentIndex.SS, final, size, true), size);
  pushFrameOnly(cpu, bits, size, count);
  setStackPointer(cpu, bits, final);
  if (size === 2) cpu.u16[(cpu.base + S.gpr + 8 * Gpr.RBP) >>> 1] = frame;
  else if (size === 4) cpu.setReg32(Gpr.RBP, frame >>> 0);
  else cpu.setSigned(S.gpr + 8 * Gpr.RBP, frame);
}
