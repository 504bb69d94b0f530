import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { parseEventLog } from '../../traces/event-log.ts';
import type { Report } from '../../traces/report.ts';
import { inside } from './inside.ts';
import { debugExit, forever, multibootImage, printByte, scratch } from './program.ts';

vi.mock('../../app/terminal.ts', () => import('./terminal-double.ts'));

const folder = scratch();
const at = (name: string): string => join(folder.path, name);
const text = (name: string): string => readFileSync(at(name), 'utf8');

describe('compare', () => {
  test('writes every file, and all show the same numbers', async () => {
    const { status, stdout, stderr } = await inside(['compare', 'hello', '--monitors', 'native,vtx-ept', '--out', at('one')]);
    expect([status, stderr]).toEqual([0, '']);
    expect(readdirSync(at('one')).sort()).toEqual(['events.jsonl', 'exits.csv', 'report.html', 'report.json', 'report.md', 'summary.csv']);
    expect(stdout).toContain(`written: ${at('one')}/report.json`);

    const report = JSON.parse(text('one/report.json')) as Report;
    const [guest] = report.comparison.guests;
    expect(guest!.rows.map(row => row.monitor)).toEqual(['native', 'vtx-ept']);
    const [native, vtx] = guest!.rows;
    expect(vtx!.instructions).toBe(native!.instructions);
    expect(vtx!.cycles).toBeGreaterThan(native!.cycles);
    expect(guest!.output).toMatchObject({ identical: true });
    expect(guest!.warnings).toEqual([]);
    for (const row of guest!.rows) {
      for (const number of [row.instructions, row.cycles]) {
        const grouped = String(number).replace(/\B(?=(\d{3})+$)/g, '[ ,\u202f\u00a0]?');
        for (const shown of [stdout, text('one/summary.csv'), text('one/report.md'), text('one/report.html')]) expect(shown).toMatch(new RegExp(grouped));
      }
      expect(Object.values(row.breakdown).reduce((a, b) => a + b)).toBe(row.cycles);
    }
    // each exit of the table is a stop of the event log
    const log = parseEventLog(text('one/events.jsonl'));
    const stops = log.events.filter(({ event, monitor }) => event === 'stop' && monitor === 'vtx-ept');
    expect(stops.length).toBe(vtx!.stopsTotal);
    expect(stops.reduce((sum, event) => sum + (event.event === 'stop' ? event.cost : 0), 0)).toBe(vtx!.stopRows.reduce((sum, row) => sum + row.cycles, 0));
    expect(log.events.filter(({ event }) => event === 'end').map(event => event.event === 'end' && [event.instructions, event.totalCycles])).toEqual(guest!.rows.map(row => [row.instructions, row.cycles]));
  });

  test('twice the same comparison writes the same files, to the byte', async () => {
    await inside(['compare', 'hello', '--monitors', 'native,vtx-ept', '--out', at('two')]);
    for (const name of readdirSync(at('one'))) {
      const same = (folderName: string): string => text(`${folderName}/${name}`).replaceAll(at(folderName), 'DIR').replaceAll(`…/${folderName}`, 'DIR');
      expect(same('two') === same('one'), name).toBe(true);
    }
  });

  test('--json prints report.json and writes nothing unless told where', async () => {
    const { status, stdout } = await inside(['compare', 'hello', '--monitors', 'native', '--json']);
    expect(status).toBe(0);
    expect((JSON.parse(stdout) as Report).schema).toBe('vanderpool-report/1');
    expect(existsSync('report.json')).toBe(false);
  });

  test('images of your own, with limits, until and window; the event log where it is wanted', async () => {
    const path = folder.file('own.bin', multibootImage([...printByte(0x61), ...printByte(0x62), ...forever]));
    const { status, stdout } = await inside(['compare', path, '--monitors', 'native,vtx-ept', '--until', 'b', '--window', '0,3', '--profile', 'prescott', '--out', at('own'), '--events', at('own.jsonl')]);
    expect(status).toBe(0);
    expect(stdout).toContain('own.bin');
    const report = JSON.parse(text('own/report.json')) as Report;
    expect(report.comparison.guests[0]!.notRun).toEqual([{ monitor: 'vtx-ept', reason: expect.stringMatching(/EPT/) as unknown }]);
    expect(report.comparison.guests[0]!.rows[0]).toMatchObject({ monitor: 'native', stoppedBy: 'until' });
    expect(report.comparison.guests[0]!.window.rows.map(row => row.text)).toEqual(['mov dx, 0x3f8', 'mov al, 0x61', 'out dx, al']);
    expect(existsSync(at('own/events.jsonl'))).toBe(false);
    expect(parseEventLog(text('own.jsonl')).events.at(-1)).toMatchObject({ event: 'end', stoppedBy: 'until' });
    // no path of this machine gets into a report
    for (const name of readdirSync(at('own'))) expect(text(`own/${name}`)).not.toContain(folder.path);
  });

  test('a guest that ends otherwise is in the report, not an error', async () => {
    const path = folder.file('status.bin', multibootImage(debugExit(5)));
    const { status, stdout } = await inside(['compare', path, '--monitors', 'native,vtx-ept', '--json']);
    expect(status).toBe(0);
    expect((JSON.parse(stdout) as Report).comparison.guests[0]!.rows.map(row => [row.stoppedBy, row.exitStatus])).toEqual([['debugExit', 5], ['debugExit', 5]]);
  });
});
