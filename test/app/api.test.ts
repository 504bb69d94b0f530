import { describe, expect, test } from 'vitest';
import { assemble, compare, guests, isa, Machine, monitors, profiles, run } from '../../app/index.ts';
import { debugExit, forever, multibootImage, printByte } from './program.ts';

describe('the public API', () => {
  test('compares a guest under monitors', async () => {
    const report = await compare(guests.hello, [monitors.native, monitors.vtxEpt], { profile: profiles.nehalem });
    expect(report.runs.map(result => result.monitor)).toEqual(['native', 'vtx-ept']);
    expect(report.toText()).toMatch(/^hello +\d+ guest instructions; base native/);
    expect(JSON.parse(report.toJson())).toEqual(JSON.parse(JSON.stringify(report.report)));
    expect(report.toMarkdown()).toContain('vtx-ept');
    expect(report.toHtml()).toMatch(/^<!doctype html>/i);
    expect(report.files().map(({ name }) => name)).toEqual(['report.json', 'summary.csv', 'exits.csv', 'report.md', 'report.html']);
  });

  test('says in the report why a monitor cannot run a guest', async () => {
    const { runs } = await compare([guests.hello64, guests.hello], [monitors.native, monitors.trapAndEmulate], { profile: profiles.nehalem });
    expect(runs.map(result => 'reason' in result)).toEqual([false, true, false, false]);
    await expect(run(guests.hello64, monitors.trapAndEmulate)).rejects.toThrow(/hello64 cannot run under trap-and-emulate with profile nehalem: /);
  });

  test('runs an image of your own', async () => {
    const printed: number[] = [];
    const result = await run({ name: 'own', bytes: multibootImage([...printByte(0x68), ...debugExit(7)]) }, monitors.native, { profile: profiles.unit, console: byte => printed.push(byte) });
    expect(result).toMatchObject({ guest: 'own', instructions: 5, cycles: 5, console: 'h', stoppedBy: 'debugExit', exitStatus: 7 });
    expect(printed).toEqual([0x68]);
    const { bytes } = assemble('bits 32\n mov al, 3\n out 0xf4, al\n', isa.rows);
    expect(await run({ name: 'flat', bytes, load: { format: 'flat' } }, monitors.vtxEpt)).toMatchObject({ exitStatus: 3 });
    await expect(run({ name: 'empty', bytes: new Uint8Array() }, monitors.native)).rejects.toThrow('the image is empty');
  });

  test('can be stopped from outside', async () => {
    const stop = new AbortController();
    const result = run({ name: 'forever', bytes: multibootImage(forever) }, monitors.native, { signal: stop.signal });
    setTimeout(() => stop.abort(), 50);
    expect(await result).toMatchObject({ stoppedBy: 'limit' });
  });

  test('a machine is stepped to the instruction, saved and loaded', async () => {
    const machine = await Machine.create(guests.hello, monitors.vtxEpt);
    expect(await machine.step(41_100)).toBe(false);
    expect(machine.instructions).toBe(41_100);
    const other = await Machine.create(guests.hello, monitors.vtxEpt);
    other.load(machine.save());
    expect(await machine.step(Infinity)).toBe(true);
    expect(await other.step(Infinity)).toBe(true);
    expect(other.result()).toEqual(machine.result());
    expect(machine.console).toBe(guests.hello.expected);
  });
});
