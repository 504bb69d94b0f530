import type { LoadPlan } from '../machine/boot/load-plan.ts';
import { enterPlan } from '../machine/boot/load-plan.ts';
import type { Monitor, MonitorKind, VirtualMachine } from './monitor.ts';

/** The guest owns the machine. Guest hypervisors use the simulated VT-x from here. */
class Native implements Monitor {
  readonly name = 'native';
  readonly hostBus = null;
  private readonly vm: VirtualMachine;
  constructor(vm: VirtualMachine) { this.vm = vm; }
  get halted(): boolean { return false; }
  start(plan: LoadPlan): void {
    const { core } = this.vm;
    enterPlan(plan.entry, core.cpu);
    core.cpu.mmu.updateContext();
    core.engine.stateChanged();
  }
  interruptRequest(level: boolean): void { this.vm.core.execution.interruptRequest(level); }
  save(): unknown { return null; }
  load(): void { /* nothing of its own */ }
}

export const native: MonitorKind = {
  name: 'native',
  title: 'native',
  description: 'the guest runs on the machine itself; the base of every comparison',
  memory: () => 0,
  unable: () => null,
  create: (vm) => new Native(vm),
};
