import { describe, expect, test } from 'vitest';
import { checkOutput } from '../../guests/guest.ts';
import { guestList, guests } from '../../guests/index.ts';
import { native } from '../../monitors/native.ts';
import { trapAndEmulate } from '../../monitors/trap-and-emulate.ts';
import { imageOf, monitored, outcome } from './monitored.ts';

const able = guestList.filter((guest) => guest.monitors.includes('trap-and-emulate'));

describe('embedded guests', () => {
  test.each(able.map((guest) => [guest.name, guest] as const))('%s', (_name, guest) => {
    const plain = monitored(imageOf(guest), native, 'interpret', 'nehalem', guest.memoryMiB);
    const base = plain.run.finish();
    const trapped = monitored(imageOf(guest), trapAndEmulate, 'interpret', 'nehalem', guest.memoryMiB);
    const result = trapped.run.finish();
    expect(checkOutput(guest, 'trap-and-emulate', result.console).unexplained).toEqual([]);
    expect(result.stoppedBy).toBe(base.stoppedBy);
    const { breakdown: b } = result;
    expect(b.guest + b.translation + b.events + b.transitions + b.monitor + b.idle).toBe(result.cycles);
    expect(b.events).toBe(0);
    if (guest === guests.sensitive) return; // prints other numbers, so it retires other instructions
    expect(result.instructions).toBe(base.instructions);
    // every exception and interrupt arrives at the same instruction and the same guest time
    expect(trapped.events).toEqual(plain.events);
    expect(trapped.run.core.cpu.guestCycles).toBe(plain.run.core.cpu.guestCycles);
  });
});

describe('both engines run the same', () => {
  test.each([guests.pageFaults, guests.exceptions, guests.sensitive].map((guest) => [guest.name, guest] as const))('%s', (_name, guest) => {
    expect(outcome(monitored(imageOf(guest), trapAndEmulate, 'evaluate').run.finish())).toEqual(outcome(monitored(imageOf(guest), trapAndEmulate).run.finish()));
  });
});

describe('save, load, continue equals the uninterrupted run', () => {
  test.each([guests.syscalls, guests.pageFaults, guests.protection, guests.sensitive, guests.timerInterrupts].map((guest) => [guest.name, guest] as const))('%s', (_name, guest) => {
    const whole = outcome(monitored(imageOf(guest), trapAndEmulate).run.finish());
    for (const at of [41_650]) {
      const first = monitored(imageOf(guest), trapAndEmulate).run;
      first.step(at);
      const saved = structuredClone(first.save());
      const second = monitored(imageOf(guest), trapAndEmulate).run;
      second.load(saved);
      expect(outcome(second.finish())).toEqual(whole);
    }
  });
});

