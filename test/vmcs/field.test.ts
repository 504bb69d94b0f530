import { describe, expect, it } from 'vitest';
import { controls } from '../../vmcs/control.ts';
import { Field, fieldNumber, fields, FieldType, FieldWidth, Region } from '../../vmcs/field.ts';
import { Vmcs } from '../../vmcs/storage.ts';

describe('VMCS fields', () => {
  // SDM appendix "Field Encoding in VMCS"
  it.each([
    ['VirtualProcessorIdentifier', 0x0000], ['GuestTrSelector', 0x080e], ['HostTrSelector', 0x0c0c], ['IoBitmapA', 0x2000], ['EptPointer', 0x201a], ['GuestPhysicalAddress', 0x2400],
    ['VmcsLinkPointer', 0x2800], ['GuestPdpte3', 0x2810], ['HostIa32Efer', 0x2c02], ['PinBasedControls', 0x4000], ['SecondaryControls', 0x401e], ['VmInstructionError', 0x4400],
    ['ExitInstructionInformation', 0x440e], ['GuestActivityState', 0x4826], ['PreemptionTimerValue', 0x482e], ['HostIa32SysenterCs', 0x4c00], ['Cr3TargetValue3', 0x600e],
    ['GuestLinearAddress', 0x640a], ['GuestRflags', 0x6820], ['HostRip', 0x6c16],
  ] as const)('%s has encoding %i', (member, encoding) => {
    expect(Field[member].encoding).toBe(encoding);
    expect(fieldNumber(encoding)).toBe(Field[member].number);
  });

  it('derives width, type and index from the encoding', () => {
    expect(Field.EptPointer).toMatchObject({ width: FieldWidth.Bits64, type: FieldType.Control, index: 13, words: 2 });
    expect(Field.GuestRip).toMatchObject({ width: FieldWidth.Natural, type: FieldType.GuestState, index: 15, words: 2 });
    expect(Field.ExitReason).toMatchObject({ width: FieldWidth.Bits32, type: FieldType.ExitInformation, index: 1, words: 1 });
    expect(Field.HostCsSelector).toMatchObject({ width: FieldWidth.Bits16, type: FieldType.HostState, index: 1 });
  });

  it('is in ascending order of encoding within width and type, without duplicates', () => {
    for (let i = 1; i < fields.length; i++) expect(fields[i]!.encoding).toBeGreaterThan(fields[i - 1]!.encoding);
  });

  it('stores every field in its own words of the region', () => {
    const vmcs = new Vmcs();
    for (const field of fields) {
      expect(field.offset).toBeGreaterThanOrEqual(Region.fields);
      expect(field.offset + field.words * 4).toBeLessThanOrEqual(Region.size);
      vmcs.set(field, field.number + 1, field.number + 1000);
    }
    for (const field of fields) {
      expect(vmcs.low(field)).toBe(field.number + 1);
      expect(vmcs.high(field)).toBe(field.words === 2 ? field.number + 1000 : 0);
    }
  });

  it('accepts the high access type for 64-bit fields only, and rejects unknown encodings', () => {
    expect(fieldNumber(0x201b)).toBe(Field.EptPointer.number);
    expect(fieldNumber(0x4001)).toBe(-1);
    expect(fieldNumber(0x6801)).toBe(-1);
    for (const unknown of [0x0e, 0x2046, 0x4026, 0x7fff, 0x8000, 0x1802, 0xffffffff]) expect(fieldNumber(unknown)).toBe(-1);
  });

  it('names only controls that exist in its conditions', () => {
    const ids = new Set(controls.map((control) => control.id));
    for (const field of fields) for (const id of field.conditions) expect(ids, field.member).toContain(id);
    expect(ids.size).toBe(controls.length);
  });
});
