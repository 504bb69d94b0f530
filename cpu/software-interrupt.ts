import { Flow, type Cpu } from './cpu.ts';
import { EventType, type CpuEvent } from './events.ts';
import { gp, Vector } from './fault.ts';
import type { Instruction } from './instruction.ts';
import { deliverEvent, redirectInterrupt, redirectionBit } from './interrupt.ts';
import { Flag, S } from './state.ts';

const event = (type: EventType, vector: number, length: number): CpuEvent => ({ type, vector, error: -1, data: 0, length });

/** INT n without prefixes: the common case, so that delivery allocates nothing. */
const plain: readonly CpuEvent[] = Array.from({ length: 256 }, (_, vector) => event(EventType.SoftwareInterrupt, vector, 2));

function deliver(cpu: Cpu, which: CpuEvent): Flow {
  cpu.interrupted = true;
  if (!deliverEvent(cpu, which)) {
    // the instruction faulted: it neither retires nor costs its own cycles, which the engine counts once this returns
    cpu.u32[(cpu.base + S.retired) >>> 2]! -= 1;
    cpu.spend(-Math.max(1, Math.round(cpu.costs['int']!)));
    cpu.leaveSoon();
  }
  return cpu.get32(S.activity) === 0 ? Flow.Jump : Flow.Leave;
}

export function interrupt(cpu: Cpu, insn: Instruction): Flow {
  const vector = insn.immediate & 0xff;
  if (cpu.get32(S.flagsRest) & Flag.VM) {
    // SDM "Software Interrupt Handling Methods While in Virtual-8086 Mode"
    if (cpu.hasCr4('VME')) {
      if (!redirectionBit(cpu, vector)) {
        cpu.interrupted = true;
        redirectInterrupt(cpu, vector, cpu.nextRip(insn));
        return Flow.Jump;
      }
    }
    if (cpu.iopl < 3) throw gp();
  }
  return deliver(cpu, insn.length === 2 ? plain[vector]! : event(EventType.SoftwareInterrupt, vector, insn.length));
}

export function breakpoint(cpu: Cpu, insn: Instruction): Flow {
  return deliver(cpu, event(EventType.SoftwareException, Vector.Breakpoint, insn.length));
}

export function overflow(cpu: Cpu, insn: Instruction): Flow {
  if (!(cpu.flags & Flag.OF)) return Flow.Next;
  return deliver(cpu, event(EventType.SoftwareException, Vector.Overflow, insn.length));
}

/** INT1: a #DB that looks at neither DPL nor DR6. */
export function debugTrap(cpu: Cpu, insn: Instruction): Flow {
  return deliver(cpu, event(EventType.PrivilegedSoftwareException, Vector.Debug, insn.length));
}
