import { describe, expect, it } from 'vitest';
import type { Observer } from '../../cpu/observer.ts';
import { EventLogWriter, eventFields, eventLogHeader, formatEvent, parseEventLog } from '../../traces/event-log.ts';
import type { EventLogHeader, EventLogOptions } from '../../traces/event-log.ts';
import { FormatError } from '../../traces/format-error.ts';
import { hash } from './sample-runs.ts';

const header: EventLogHeader = { tool: 'vanderpool', version: '0.1.0', profile: 'unit', costTable: hash('1'), inputs: [{ guest: 'hello', sha256: hash('2') }] };
const exit = {
  reason: 48, name: 'EptViolation', qualification: 0x181n, guestPhysical: 0x1000n, guestLinear: 0xffff800000001000n, rip: 0x7c30n, instructionLength: 3, interruptionInformation: 0x80000b0e,
  why: 'EPT entry not present', cycles: 700,
};

function writeAll(options: Partial<EventLogOptions> = {}): string[] {
  const lines = [eventLogHeader(header)];
  let now = 0;
  const log = new EventLogWriter({ sink: line => lines.push(line), guest: 'hello', monitor: 'vtx-ept', clock: () => ({ retired: now++, cycles: now * 10 }), ...options });
  log.start({ sha256: hash('2'), clock: 'guest', memoryMiB: 64 });
  log.vmEntry({ rip: 0x7c00n, outcome: 'ok', failing: [] });
  log.vmExit(exit);
  log.stop({ retired: 1, at: 20, cycles: 2000, kind: 'vmExit', name: 'EptViolation', rip: '7C30', why: 'EPT entry not present' });
  log.delivered(14, 'exception', 2, -0x7ff000);
  log.unmodelled('MSR 0x1234');
  log.tlbFill?.(0x1000, 0x2000, 4);
  log.note('CR3', '0x5000');
  log.mark('console', 'h');
  log.end({ stoppedBy: 'poweroff', exitStatus: 0, instructions: 9, cycles: 100 });
  return lines;
}

const text = (lines: readonly string[]): string => lines.map(line => `${line}\n`).join('');
const problem = (source: string): string => {
  try {
    parseEventLog(source);
  } catch (error) {
    if (error instanceof FormatError) return error.message;
    throw error;
  }
  return 'no problem';
};

describe('event log', () => {
  it('writes keys in a fixed order and addresses as hex', () => {
    const lines = writeAll();
    expect(lines[0]).toBe(`{"schema":"vanderpool-events/1","tool":"vanderpool","version":"0.1.0","profile":"unit","costTable":"${hash('1')}","seed":0,"inputs":[{"guest":"hello","sha256":"${hash('2')}"}]}`);
    expect(lines[3]).toBe('{"event":"exit","guest":"hello","monitor":"vtx-ept","cpu":0,"retired":2,"cycles":30,"reason":48,"name":"EptViolation","qualification":"0x181","guestPhysical":"0x1000",'
      + '"guestLinear":"0xffff800000001000","rip":"0x7c30","instructionLength":3,"interruptionInformation":"0x80000b0e","transition":700,"why":"EPT entry not present"}');
    expect(lines[4]).toContain('"rip":"0x7c30","at":20,"cost":2000');
    expect(lines[5]).toContain('"linear":"0xffffffffff801000"');
  });

  it('is read back as written, every line again to the same bytes', () => {
    const lines = writeAll({ tlbFills: true });
    const log = parseEventLog(text(lines));
    expect(log.header).toEqual(header);
    expect(new Set(log.events.map(event => event.event))).toEqual(new Set(Object.keys(eventFields)));
    expect(log.events.map(formatEvent)).toEqual(lines.slice(1));
    expect(log.events.every(event => event.guest === 'hello' && event.monitor === 'vtx-ept')).toBe(true);
    expect(writeAll({ tlbFills: true })).toEqual(lines);
  });

  it('asks for TLB fills only if they are wanted', () => {
    const make = (tlbFills: boolean): Observer => new EventLogWriter({ sink: () => undefined, guest: 'g', monitor: 'm', clock: () => ({ retired: 0, cycles: 0 }), tlbFills });
    expect(make(false).tlbFill).toBeUndefined();
    expect(make(true).tlbFill).toBeDefined();
  });

  it('counts what a limit leaves out and says so at the end', () => {
    const log = parseEventLog(text(writeAll({ limit: 2 })));
    expect(log.events.map(event => event.event)).toEqual(['start', 'entry', 'exit', 'end']);
    expect(log.events.at(-1)).toMatchObject({ dropped: 5 });
  });

  it('refuses misuse: an exit without a reason, lines after the end, a hash that is none', () => {
    const log = new EventLogWriter({ sink: () => undefined, guest: 'g', monitor: 'm', clock: () => ({ retired: 0, cycles: 0 }) });
    expect(() => log.vmExit({ ...exit, why: '' })).toThrow(/'why' must be a string that names the control/);
    log.end({ stoppedBy: 'limit', exitStatus: 124, instructions: 0, cycles: 0 });
    expect(() => log.mark('a', 'b')).toThrow(/'mark' after end\(\) of g under m/);
    expect(() => eventLogHeader({ ...header, costTable: 'abc' })).toThrow(/costTable must be a SHA-256/);
  });

  it('keeps hostile strings on one line', () => {
    const lines: string[] = [];
    const log = new EventLogWriter({ sink: line => lines.push(line), guest: 'a\n"b', monitor: '\u2028', clock: () => ({ retired: 0, cycles: 0 }) });
    log.note('x\r\n', '{"event":"end"}');
    expect(lines).toHaveLength(1);
    expect(lines[0]).not.toMatch(/[\r\n]/);
    expect(parseEventLog(text([eventLogHeader(header), ...lines])).events[0]).toMatchObject({ guest: 'a\n"b', what: 'x\r\n', detail: '{"event":"end"}' });
  });

  it('names the line and what was expected', () => {
    const good = writeAll();
    const changed = (index: number, from: string, to: string): string => text(good.map((line, i) => i === index ? line.replace(from, to) : line));
    expect(problem('')).toBe('line 1: expected the header {"schema":"vanderpool-events/1",…}, got an empty file');
    expect(problem(changed(0, 'events/1', 'events/2'))).toBe('line 1: expected "schema":"vanderpool-events/1", got "vanderpool-events/2"');
    expect(problem(changed(0, '"seed":0', '"seed":1'))).toBe('line 1: expected "seed":0, got 1');
    expect(problem(changed(0, hash('1'), 'x'))).toBe('line 1: expected "costTable" to be 64 lower-case hex digits, got "x"');
    expect(problem(changed(3, '{', '['))).toMatch(/^line 4: expected a JSON object, got "\[/);
    expect(problem(changed(3, '"event":"exit"', '"event":"exits"'))).toMatch(/^line 4: expected "event" to be one of start, exit, entry, .*, got "exits"$/);
    expect(problem(changed(3, '"event":"exit"', '"event":"toString"'))).toMatch(/^line 4: expected "event" to be one of/);
    expect(problem(changed(3, '"0x181"', '385'))).toBe('line 4: expected "qualification" to be lower-case hex such as "0x7c00", got 385');
    expect(problem(changed(3, '"0x181"', '"0x0181"'))).toMatch(/^line 4: expected "qualification"/);
    expect(problem(changed(3, '"retired":2', '"retired":-2'))).toBe('line 4: expected "retired" to be an integer from 0 to 2^53-1, got -2');
    expect(problem(changed(3, '"retired":2,"cycles":30', '"cycles":30,"retired":2'))).toBe('line 4: expected key "retired" at place 5 of event \'exit\', got "cycles"');
    expect(problem(changed(3, '}', ',"more":1}'))).toBe('line 4: event \'exit\' has no key "more"');
    expect(problem(changed(3, ',"why":"EPT entry not present"', ''))).toBe('line 4: expected key "why" at place 16 of event \'exit\', got nothing');
    expect(problem(changed(3, '"why":"EPT entry not present"', '"why":""'))).toMatch(/^line 4: expected "why" to be a string that names/);
    expect(problem(changed(2, '"failing":[]', '"failing":[1]'))).toBe('line 3: expected "failing" to be a list of strings, got [1]');
    expect(problem(text(good).slice(0, -1))).toMatch(/expected a line end after the last event; the file is cut short$/);
  });
});
