import { describe, expect, it } from 'vitest';
import { element, escapeXml, linearScale, logScale, spread, stepPath } from '../../traces/svg.ts';

describe('svg', () => {
  it('escapes text and attributes', () => {
    expect(escapeXml('<a b="c">&\'')).toBe('&lt;a b=&quot;c&quot;&gt;&amp;&#39;');
    expect(element('rect', { class: '"><script>', x: 1.25 })).toBe('<rect class="&quot;&gt;&lt;script&gt;" x="1.3"/>');
  });

  it('chooses round ticks that cover the axis and are not too many', () => {
    for (const maximum of [0, 0.3, 1, 7, 10, 11, 99, 100, 101, 12345, 999999, 1e15]) {
      const scale = linearScale(maximum, 0, 100, 6);
      expect(scale.ticks.length).toBeGreaterThanOrEqual(2);
      expect(scale.ticks.length).toBeLessThanOrEqual(7);
      expect(scale.map(scale.ticks.at(-1)!)).toBeLessThanOrEqual(100);
    }
    expect(linearScale(117828, 0, 100, 6).ticks).toEqual([0, 20000, 40000, 60000, 80000, 100000]);
    expect(logScale([1, 18.6], 0, 100, 10).ticks).toEqual([1, 2, 4, 8, 16, 32]);
    expect(logScale([0.4], 0, 100, 10).ticks).toEqual([0.25, 0.5, 1]);
  });

  it('draws steps, and leaves labels no closer than asked', () => {
    expect(stepPath([[0, 10], [5, 10], [8, 4]])).toBe('M0 10H5H8V4');
    expect(spread([50, 50, 10], 16, 0, 100)).toEqual([50, 66, 10]);
    expect(spread([98, 99, 100], 16, 0, 100)).toEqual([68, 84, 100]);
  });
});
