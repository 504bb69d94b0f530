import { describe, test } from 'vitest';
import type { Evaluator } from '../../cpu/evaluator.ts';
import { Gpr, Leave, S, SegmentIndex } from '../../cpu/state.ts';
import { isa } from '../../machine/isa.ts';
import { Choice, CODE_PAGE, enterWorld, Pair, physicalCode, randomTarget, type World, worlds } from './agreement-machine.ts';
import { instance, runEngine, shapes } from './agreement-rows.ts';

const CODE = CODE_PAGE * 0x1000;
/** Bytes of code, across the end of a page. */
const FROM = 0xc00;
const TO = 0x1400;

/** Rows that random programs are made of: micro-ops, and the flags rows; branches often enough to loop. */
const straight = isa.rows.filter((row) => row.semantics !== null || /^(PUSHFv|CLI|STI|ENTER)/.test(row.syntax));
const branches = straight.filter((row) => /^(J|LOOP)/.test(row.mnemonic) && row.operands[0]?.kind === 'rel');

/**
 * A random program on both engines with random deadlines. A fault is compared and stepped over; stores may hit the
 * code. Returns the first difference.
 */
function runProgram(pair: Pair, world: World, seed: number): string | null {
  const c = new Choice(seed);
  const { codeSize } = world;
  const starts: number[] = [];
  const code: number[] = [];
  while (code.length < TO - FROM) {
    const row = c.chance(5) ? c.pick(branches) : c.pick(straight);
    const list = shapes(row, codeSize);
    if (list.length === 0) continue;
    const { bytes } = instance(c, c.pick(list), codeSize);
    starts.push(FROM + code.length);
    code.push(...bytes);
    // short branches stay inside
    if (row.encoding.immediates[0] === 'cb') code[code.length - 1] = c.below(120) - 60;
    else if (row.encoding.immediates[0] === 'cz') code.splice(-2, 2, ...(c.chance(2) ? [0xff, 0xff] : [0, 0]));
  }
  pair.both((side) => { code.forEach((byte, i) => { side.put(physicalCode(world, CODE + FROM + i), [byte]); }); });
  const base = pair.evaluator.core.cpu.segmentBase(SegmentIndex.CS);
  const enter = (): void => {
    const rip = CODE + c.pick(starts) - base;
    const registers = Array.from({ length: codeSize === 64 ? 16 : 8 }, (_, n) => (n === Gpr.RCX ? BigInt(c.below(20)) : c.chance(4) ? c.value() : BigInt(randomTarget(c, world, 8))) & (codeSize === 64 ? ~0n : 0xffffffffn));
    pair.both((side) => {
      registers.forEach((value, n) => side.core.cpu.setReg64(n, value));
      side.core.cpu.rip = rip;
    });
  };
  enter();
  for (let turn = 0; turn < 250; turn++) {
    const budget = 1 + c.below(c.pick([2, 10, 60]));
    const leaves = pair.sides.map((side) => {
      const { cpu } = side.core;
      const now = cpu.cycles;
      cpu.setFloat(S.sliceCycles, now);
      for (const word of [S.left, S.budget, S.extra]) cpu.set32(word, 0);
      return runEngine(side, budget);
    });
    const difference = pair.difference();
    if (leaves[0] !== leaves[1] || difference !== null) return `${world.name}, program ${seed}, turn ${turn}: interpreter stops with ${leaves[0]}, evaluator with ${leaves[1]}; ${difference}`;
    if (leaves[0] === String(Leave.Deadline)) continue;
    const { last } = pair.evaluator.core.engine as Evaluator;
    if (leaves[0] !== String(Leave.Fault) || last === null || c.chance(4)) enter();
    else pair.both((side) => side.core.cpu.advance(last));
    pair.both((side) => { side.core.cpu.set32(S.activity, 0); side.changed(); });
  }
  return null;
}

describe('random programs: evaluator and interpreter stay in the same state', () => {
  const pair = new Pair();
  for (const world of worlds) {
    test(world.name, () => {
      enterWorld(pair, world, 7);
      for (let seed = 1; seed <= 15; seed++) {
        const problem = runProgram(pair, world, seed);
        if (problem !== null) throw new Error(problem);
      }
    }, 30_000);
  }
});
