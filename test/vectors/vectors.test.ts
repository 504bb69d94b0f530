import { describe, expect, test } from 'vitest';
import { COMPARED_FLAGS } from './layout.ts';
import { Reader, Writer } from './pack.ts';
import { readVectors, vectorGroups, type VectorCase } from './reader.ts';
import { checkForm, differences, type VectorTarget } from './target.ts';
import { vectorTargets } from './targets.ts';
import { undefinedOutcome } from './undefined-flags.ts';

const groups = vectorGroups();
/** A trap, not a fault: its RIP is behind the instruction. */
const INTO_VECTOR = 4;

describe('host CPU and engines', () => {
  const targets = vectorTargets.map((create) => create());
  const seen = { forms: 0, sizes: new Set<number>() };

  /** What a fault on the host changed, which must be nothing; as text. */
  function changedByFault(vector: VectorCase): string | null {
    const { form, initial, final, exception } = vector;
    if (!exception || exception.vector === INTO_VECTOR) return null;
    const same = final.flags === initial.flags && final.memory === initial.memory && final.xmm === initial.xmm && !final.registers.some((value, r) => value !== initial.registers[r]);
    return same ? null : `host: ${form.text}, state ${vector.index}: vector ${exception.vector} changed something`;
  }

  // one test per group, so that every group is read once
  for (const group of groups) {
    test(group, () => {
      const failures: string[] = [];
      for (const { form, cases } of readVectors(group)) {
        expect(cases.length).toBe(form.states);
        if (cases.length >= 100) seen.forms++;
        seen.sizes.add(form.codeSize);
        for (const vector of cases) {
          const changed = changedByFault(vector);
          if (changed) failures.push(changed);
        }
        for (const target of targets) {
          const failure = checkForm(target, target.states === undefined ? cases : cases.slice(0, target.states));
          if (failure) failures.push(failure);
        }
      }
      if (failures.length > 0) throw new Error(`${failures.length} forms differ from the host CPU:\n${failures.slice(0, 25).join('\n')}`);
    }, 60_000);
  }

  test('at least 300 forms have 100 states each, and every code size has some', () => {
    expect(seen.forms).toBeGreaterThanOrEqual(300);
    expect([...seen.sizes].sort()).toEqual([16, 32, 64]);
  });
});

describe('the files', () => {
  test('a record survives writing and reading', () => {
    for (const group of ['stack', 'bcd', 'sse2']) {
      for (const { form, cases } of readVectors(group)) {
        const writer = new Writer();
        for (const vector of cases) writer.outcome(form, vector.initial, vector);
        const reader = new Reader(writer.bytes(), 0);
        for (const vector of cases) expect(differences(vector, reader.outcome(form, vector.initial))).toEqual([]);
        expect(reader.end).toBe(true);
      }
    }
  });
});

describe('the comparison', () => {
  const find = (group: string, text: RegExp): readonly VectorCase[] => {
    for (const { form, cases } of readVectors(group)) if (text.test(form.text)) return cases;
    throw new Error(`no form matches ${text}`);
  };

  test('a target that does what the host did passes; one wrong bit anywhere does not', () => {
    const vector = find('alu', /^add \[/)[3]!;
    const copy = { final: { ...vector.final, registers: vector.final.registers.slice(), memory: vector.final.memory.slice(), xmm: vector.final.xmm.slice() }, exception: null };
    expect(differences(vector, copy)).toEqual([]);
    for (const flag of [1, 4, 0x10, 0x40, 0x80, 0x400, 0x800]) expect(differences(vector, { ...copy, final: { ...copy.final, flags: copy.final.flags ^ flag } })).toHaveLength(1);
    copy.final.registers[15]! ^= 1n << 63n;
    copy.final.memory[200]! ^= 1;
    copy.final.xmm[255]! ^= 0x80;
    copy.final.rip++;
    expect(differences(vector, { ...copy, exception: { vector: 13, error: 0 } }).map((text) => text.split(':')[0])).toEqual(['exception', 'r15', 'rip', 'memory region+200', 'xmm15']);
  });

  test('undefined flags follow the count of a shift', () => {
    const cases = find('shift', /^shl \w+,cl$/);
    const masks = new Set(cases.map((vector) => undefinedOutcome(vector).flags));
    expect(masks.has(0)).toBe(true); // count 0
    expect(masks.has(0x10)).toBe(true); // count 1: AF
    expect([...masks].every((mask) => (mask & ~COMPARED_FLAGS) === 0)).toBe(true);
  });

  test('a failing form is named with its state', () => {
    const cases = find('alu', /^add \[/);
    const target: VectorTarget = { name: 'nothing', run: ({ initial }) => ({ final: initial, exception: null }) };
    expect(checkForm(target, cases)).toMatch(/^nothing: ADD r\/m8, r8 \[add .*\] 64-bit code, bytes [0-9a-f ]+, state 0:\n +rip: host 0000a20/);
  });
});
