// Runs one 32-bit image in v86 and prints what serial.ts would have measured, as one line of JSON. A process of its
// own, started by simulators.ts: node v86.mjs BUILD_FOLDER IMAGE [--nojit]
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const [build, image] = process.argv.slice(2);
const { V86 } = await import(pathToFileURL(`${build}/libv86.mjs`).href);
const bytes = readFileSync(image);
const emulator = new V86({
  wasm_path: `${build}/v86.wasm`, memory_size: 64 << 20, vga_memory_size: 1 << 20, autostart: true, disable_speaker: true, log_level: 0, disable_jit: process.argv.includes('--nojit'),
  multiboot: { buffer: bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length) },
});
const tests = {};
let current = '';
let wall = 0;
let cpu;
let instructions = 0;
emulator.add_listener('serial0-output-byte', (byte) => {
  const now = performance.now();
  const count = emulator.get_instruction_counter();
  const character = String.fromCharCode(byte);
  if (character >= 'a' && character <= 'z') {
    current = character;
    wall = now;
    instructions = count;
    cpu = process.cpuUsage();
  } else if (character === '.') {
    const used = process.cpuUsage(cpu);
    const test = (tests[current] ??= { cpu: [], wall: [], instructions: [], checksum: '' });
    test.cpu.push((used.user + used.system) / 1000);
    test.wall.push(now - wall);
    test.instructions.push((count - instructions) >>> 0);
  } else if (character === 'Z') {
    process.stdout.write(`${JSON.stringify({ tests, finished: true })}\n`, () => process.exit(0));
  } else if (/[0-9A-F]/.test(character) && tests[current]) tests[current].checksum += character;
});
