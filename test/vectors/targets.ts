import { Evaluator } from '../../cpu/evaluator.ts';
import { Interpreter } from '../../cpu/interpreter.ts';
import { EngineTarget } from './engine-target.ts';
import type { VectorTarget } from './target.ts';

/** What the vectors are run on; each entry makes a fresh target. The evaluator is slow and takes fewer states. */
export const vectorTargets: readonly (() => VectorTarget)[] = [
  () => new EngineTarget('interpreter', 100, (cpu, isa) => new Interpreter(cpu, isa)),
  () => new EngineTarget('evaluator', 10, (cpu, isa) => new Evaluator(cpu, isa)),
];
