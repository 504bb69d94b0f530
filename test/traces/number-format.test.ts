import { describe, expect, it } from 'vitest';
import { coordinate, formatNumber, geometricMean, groupThousands, log2, shortNumber } from '../../traces/number-format.ts';

describe('number format', () => {
  it('shows each kind of number one way, and tells absent from 0', () => {
    expect(formatNumber(null, 'count')).toBe('–');
    expect(formatNumber(0, 'count')).toBe('0');
    expect(formatNumber(1234567, 'count')).toBe('1234567');
    expect(formatNumber(1234567, 'count', true)).toBe('1,234,567');
    expect(formatNumber(-1234.5, 'count', true)).toBe('-1,234.50');
    expect(formatNumber(5, 'signed')).toBe('+5');
    expect(formatNumber(0, 'signed')).toBe('0');
    expect(formatNumber(-5, 'signed')).toBe('-5');
    expect(formatNumber(-0.00001, 'ratio')).toBe('0.000');
    expect(formatNumber(1.0625, 'ratio')).toBe('1.063');
    expect(formatNumber(0.12345, 'percent')).toBe('12.35%');
    expect(formatNumber(1e21, 'count')).toBe('1e+21');
    expect(() => formatNumber(NaN, 'count')).toThrow(/not a finite number/);
    expect(() => formatNumber(Infinity, 'ratio')).toThrow(/not a finite number/);
  });

  it('groups, shortens and rounds for drawings', () => {
    expect(['1', '999', '1000', '123456.789'].map(groupThousands)).toEqual(['1', '999', '1,000', '123,456.789']);
    expect([0, 950, 12000, 1500000, 2e9, 0.25].map(shortNumber)).toEqual(['0', '950', '12k', '1.5M', '2G', '0.25']);
    expect([1, 1.04, -0.01, 100].map(coordinate)).toEqual(['1', '1', '0', '100']);
  });

  it('has a logarithm and a geometric mean that agree with Math to their stated precision', () => {
    for (const x of [1, 2, 1024, 3, 0.1, 1e6, 7.3]) expect(Math.abs(log2(x) - Math.log2(x))).toBeLessThan(1e-6);
    for (const values of [[2, 8], [1, 1, 1], [1.5], [1e30, 1e30, 1e-30], [1.01, 3.7, 22, 1.3, 5]]) {
      const wanted = Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
      expect(Math.abs(geometricMean(values)! / wanted - 1)).toBeLessThan(1e-9);
    }
    expect(geometricMean([])).toBeNull();
    expect(() => geometricMean([1, 0])).toThrow(/not a positive ratio/);
  });
});
