import type { VectorTarget } from './target.ts';

/** What the vectors are run on; each entry makes a fresh target. */
export const vectorTargets: readonly (() => VectorTarget)[] = [];
