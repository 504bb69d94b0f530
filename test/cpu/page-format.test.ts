import { describe, expect, it } from 'vitest';
import { compileFormat, format32, format4, format5, formatPae, parseBits, pdpteReserved, Right, type FormatConditions } from '../../cpu/page-format.ts';

const conditions: FormatConditions = { physicalAddressBits: 40, executeDisable: true, pageSizeExtensions: true, pageSize36: true, gigabytePages: true, accessedDirty: true };
const bits = (low: number, high: number): bigint => BigInt(low >>> 0) | (BigInt(high >>> 0) << 32n);
const range = (high: number, low: number): bigint => (high < low ? 0n : ((1n << BigInt(high - low + 1)) - 1n) << BigInt(low));

describe('paging formats', () => {
  it('reads the bit-range notation', () => {
    const set = (text: string, m: number, n = 32): bigint => { const mask = parseBits(text, m, n); return bits(mask.low, mask.high); };
    expect(set('7, 51:M', 36)).toBe(0x80n | range(51, 36));
    expect(set('51:M', 52)).toBe(0n);
    expect(set('21:N-19', 36, 36)).toBe(range(21, 17));
    expect(set('', 36)).toBe(0n);
    expect(set(pdpteReserved, 36)).toBe(range(2, 1) | range(8, 5) | range(63, 36));
    expect(() => parseBits('1:Q', 36, 32)).toThrow(/cannot read 'Q'/);
  });

  it('has the reserved bits of the SDM tables', () => {
    const four = compileFormat(format4, conditions);
    expect(four.depth).toBe(4);
    expect([0, 1, 2, 3].map((l) => bits(four.reservedLow[l]!, four.reservedHigh[l]!))).toEqual([0x80n | range(51, 40), range(51, 40), range(51, 40), range(51, 40)]);
    expect(bits(four.leafReservedLow[1]!, four.leafReservedHigh[1]!)).toBe(range(29, 13) | range(51, 40));
    expect(bits(four.leafReservedLow[2]!, four.leafReservedHigh[2]!)).toBe(range(20, 13) | range(51, 40));
    const pae = compileFormat(formatPae, { ...conditions, executeDisable: false });
    expect(bits(pae.reservedLow[0]!, pae.reservedHigh[0]!)).toBe(range(63, 40));
    expect(bits(pae.leafReservedLow[0]!, pae.leafReservedHigh[0]!)).toBe(range(20, 13) | range(63, 40));
    const small = compileFormat(format32, conditions);
    expect(bits(small.leafReservedLow[0]!, small.leafReservedHigh[0]!)).toBe(range(21, 21));
    expect(compileFormat(format32, { ...conditions, pageSize36: false }).leafReservedLow[0]).toBe(Number(range(21, 13)));
    expect(compileFormat(format32, { ...conditions, physicalAddressBits: 36 }).leafReservedLow[0]).toBe(Number(range(21, 17)));
    const noGigabyte = compileFormat(format4, { ...conditions, gigabytePages: false });
    expect(bits(noGigabyte.reservedLow[1]!, noGigabyte.reservedHigh[1]!)).toBe(0x80n | range(51, 40));
    expect(compileFormat(format5, conditions).depth).toBe(5);
  });

  it('holds formats of other kinds', () => {
    const other = compileFormat({
      name: 'second level', entryBytes: 8, presentBits: [0, 1, 2], allow: { read: 0, write: 1, execute: 2, user: null }, executeDisableBit: null, accessedBit: 8, dirtyBit: 9, globalBit: null,
      invalidPermissions: [2, 6], invalidMemoryTypes: [2, 3, 7], levels: format4.levels,
    }, { ...conditions, accessedDirty: false });
    expect(other.presentMask).toBe(7);
    expect(other.rights[5]! & 7).toBe(Right.Read | Right.Execute);
    expect(other.accessedMask | other.dirtyMask).toBe(0);
    expect(other.invalidPermissions).toBe(0x44);
    expect(other.invalidMemoryTypes).toBe(0x8c);
    expect(() => compileFormat(format4, { ...conditions, physicalAddressBits: 60 })).toThrow(/32 to 52/);
  });
});
