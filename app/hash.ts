import type { MachineProfile } from '../machine/profile.ts';

/** SHA-256 as 64 lower-case hex digits; runs in Node and in a browser. */
export async function sha256(data: string | Uint8Array): Promise<string> {
  const bytes = typeof data === 'string' ? new TextEncoder().encode(data) : new Uint8Array(data);
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return Array.from(digest, byte => byte.toString(16).padStart(2, '0')).join('');
}

/** Hash of the cost table of a profile: keys in order, value, bounds and source. */
export function costTableHash({ cpu: { costs } }: MachineProfile): Promise<string> {
  const keys = Object.keys(costs).sort();
  return sha256(JSON.stringify(keys.map(key => [key, costs[key]!.value, costs[key]!.low, costs[key]!.high, costs[key]!.source])));
}

/** Hash of everything in a profile. */
export function profileHash(profile: MachineProfile): Promise<string> {
  return sha256(JSON.stringify(profile));
}
