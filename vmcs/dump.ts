import { fields, FieldType, FieldWidth, type Field } from './field.ts';
import { Vmcs } from './storage.ts';

const digits = { [FieldWidth.Bits16]: 4, [FieldWidth.Bits32]: 8, [FieldWidth.Bits64]: 16, [FieldWidth.Natural]: 16 } as const;
const headings = { [FieldType.Control]: 'Control fields', [FieldType.ExitInformation]: 'Read-only data fields', [FieldType.GuestState]: 'Guest-state area', [FieldType.HostState]: 'Host-state area' } as const;

/** Value of a field in hexadecimal, as wide as the field. */
export function fieldText(vmcs: Vmcs, field: Field): string {
  return '0x' + vmcs.value(field).toString(16).padStart(digits[field.width], '0');
}

/**
 * All fields of a VMCS as text, grouped by area, one `Member = value` line each.
 * @param exists by field number: fields with 0 are left out (Capability.fieldExists); all are shown without it
 */
export function dump(vmcs: Vmcs, exists?: Uint8Array): string {
  const lines = [`VMCS revision 0x${(vmcs.revision & 0x7fffffff).toString(16)}${vmcs.revision >>> 31 ? ' (shadow)' : ''}, ${vmcs.launchState ? 'launched' : 'clear'}, abort indicator ${vmcs.abortIndicator}`];
  for (const type of [FieldType.Control, FieldType.GuestState, FieldType.HostState, FieldType.ExitInformation]) {
    lines.push('', headings[type]);
    for (const field of fields) {
      if (field.type !== type || (exists && exists[field.number] === 0)) continue;
      lines.push(`  ${field.member} = ${fieldText(vmcs, field)}`);
    }
  }
  return lines.join('\n') + '\n';
}

/** Fields that differ between two VMCSs, as `Member: a -> b` lines. */
export function difference(a: Vmcs, b: Vmcs): string[] {
  return fields.filter((field) => a.low(field) !== b.low(field) || a.high(field) !== b.high(field)).map((field) => `${field.member}: ${fieldText(a, field)} -> ${fieldText(b, field)}`);
}
