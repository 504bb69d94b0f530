import { expect, test } from 'vitest';
import { benchImage, instructions } from './images.ts';
import { summarize } from './report.ts';
import { geometricMean, median, SerialProtocol } from './serial.ts';
import { OURS } from './simulators.ts';

test('instruction counts are those that v86 counted', () => {
  // v86's instruction counter over one repetition of bench-s1.elf; it includes the few instructions around the loop
  const counted = { a: 9_000_028, b: 6_291_491, c: 15_211_804, d: 1_200_039, e: 1_600_016, f: 8_388_633, h: 9_603_144, i: 6_600_018, j: 120_039, k: 6_291_492 };
  for (const [letter, count] of Object.entries(counted)) expect(Math.abs(instructions(benchImage(32, 1), letter)! - count), letter).toBeLessThan(64);
  expect(instructions(benchImage(64, 8), 's')).toBe(8 * 13 * 100_000);
  expect(instructions(benchImage(32, 8), 's')).toBeUndefined();
});

test('the serial protocol gives repetitions and checksums', () => {
  let now = 0;
  const protocol = new SerialProtocol(() => ({ cpu: now++, wall: 2 * now }));
  for (const character of 'a.a.a.00C0\nb.') expect(protocol.push(character)).toBe(false);
  expect(protocol.push('Z')).toBe(true);
  expect(protocol.measured.tests['a']).toEqual({ cpu: [1, 1, 1], wall: [2, 2, 2], checksum: '00C0' });
  expect(protocol.measured.tests['b']!.cpu).toHaveLength(1);
});

test('medians, geometric means, ratios and differing checksums', () => {
  expect(median([5, 1, 3])).toBe(3);
  expect(median([4, 2])).toBe(3);
  expect(geometricMean([2, 8])).toBeCloseTo(4);
  const image = benchImage(32, 8);
  const run = (simulator: string, milliseconds: number, checksum: string) => ({ simulator, image, measured: { finished: true, tests: { a: { cpu: [9999, milliseconds, milliseconds], wall: [0, 0, 0], checksum } } } });
  const summary = summarize([run('other', 720, '1'), run(OURS, 240, '2')], 'not measured', { processor: '', processors: 1, load: 0, version: '' });
  expect(summary.rows[0]!.mips).toEqual({ other: 100, [OURS]: 300 });
  expect(summary.ratios).toEqual([{ bits: 32, other: 'other', ratio: expect.closeTo(3) as number, tests: 1 }]);
  expect(summary.problems).toHaveLength(1);
});
