import { encodeInstance, operandSizes, type InstanceForm, type MemoryForm, type Size } from '../../cpu/assembler-encode.ts';
import { Decoder } from '../../cpu/decode.ts';
import { disassemble } from '../../cpu/disassembler.ts';
import type { Instruction } from '../../cpu/instruction.ts';
import type { Row } from '../../cpu/row.ts';
import { Cr0, Cr4, Flag, Gpr, Leave, S, SegmentIndex } from '../../cpu/state.ts';
import { operandBits, traitsOf } from '../../cpu/traits.ts';
import { isa } from '../../machine/isa.ts';
import { CODE_PAGE, Choice, enterWorld, Pair, physicalCode, pricedUnit, randomTarget, type Side, type World, worlds } from './agreement-machine.ts';

const toHex = (bytes: Uint8Array): string => [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
const decoder = new Decoder(isa.rows, new Set(isa.rows.flatMap((row) => row.feature ?? [])));

/** One way of writing a row: what is enumerated; registers, addresses and values are drawn at random. */
export interface Shape {
  readonly row: Row;
  readonly operandSize: Size;
  readonly addressSize: Size;
  readonly memory: boolean;
  readonly rep: number;
  readonly lock: boolean;
}

/** Every shape of a row in code of one size. */
export function shapes(row: Row, codeSize: Size): Shape[] {
  const kinds = row.operands.map((operand) => operand.kind);
  const registerForm = kinds.some((kind) => /^(rm|rmreg|xmmrm|xmmreg)$/.test(kind));
  const memoryForm = kinds.some((kind) => /^(rm|mem|xmmrm)$/.test(kind));
  const traits = row.semantics ? traitsOf(row) : null;
  const usesAddress = kinds.includes('moffs') || (traits !== null && (traits.places || traits.addressRegisters || traits.address)) || /^(INS|OUTS)/.test(row.mnemonic);
  const out: Shape[] = [];
  for (const operandSize of operandSizes(row, codeSize)) {
    for (const memory of memoryForm && registerForm ? [false, true] : [memoryForm]) {
      const both: readonly Size[] = codeSize === 64 ? [64, 32] : codeSize === 32 ? [32, 16] : [16, 32];
      const sizes = row.encoding.addressSize ? [row.encoding.addressSize] : memory || usesAddress ? both : [codeSize];
      for (const addressSize of sizes) {
        for (const rep of row.rep ? [0, 0xf2, 0xf3] : [0]) {
          for (const lock of row.lock && memory ? [false, true] : [false]) out.push({ row, operandSize, addressSize, memory, rep, lock });
        }
      }
    }
  }
  return out;
}

const pairs16 = [[3, 6], [3, 7], [5, 6], [5, 7], [6, -1], [7, -1], [5, -1], [3, -1], [-1, -1]] as const;

function randomMemory(c: Choice, codeSize: Size, addressSize: Size): MemoryForm {
  if (addressSize === 16) {
    const [base, index] = c.pick(pairs16);
    return { base, index, scale: 0, displacement: base < 0 && index < 0 ? 0x8000 + c.below(0x7000) : c.pick([0, 5, -5, 300]) };
  }
  const registers = codeSize === 64 ? 16 : 8;
  const base = c.chance(8) ? -1 : codeSize === 64 && c.chance(8) ? 16 : c.below(registers);
  const index = base === 16 || c.chance(2) ? -1 : c.pick([0, 1, 2, 3, 5, 6, 7, ...(codeSize === 64 ? [8, 12, 13, 15] : [])]);
  return { base, index, scale: index < 0 ? 0 : c.below(4), displacement: base === 16 ? 0x4000 + c.below(0x3000) : base < 0 ? 0x8000 + c.below(0x8000) : c.pick([0, 5, -128, 300, 0x12345678, -70000]) };
}

/** Draws registers, address form and immediates. */
export function instance(c: Choice, shape: Shape, codeSize: Size): { form: InstanceForm; bytes: Uint8Array } {
  const { row, operandSize, addressSize, memory, rep, lock } = shape;
  const kinds = row.operands.map((operand) => operand.kind);
  const registers = codeSize === 64 ? 16 : 8;
  const reg = kinds.includes('sreg') ? c.below(6) : kinds.includes('cr') ? c.pick([0, 2, 3, 4]) : kinds.includes('dr') ? c.below(8) : c.below(registers);
  const immediate = (token: string): number =>
    token === 'ib' || token === 'cb' ? c.below(256) - 128
      : token === 'iw' ? c.pick([0, 4, 0xffff, c.below(0x10000)])
        : token === 'cz' || token === 'far' ? c.pick([0, c.below(0x200) - 0x100, c.below(0x8000) - 0x2000, c.word() | 0]) : c.pick([0, 1, -1, 127, 128, -128, 0x7fffffff, -0x80000000, c.word() | 0]);
  const overrides = codeSize === 64 ? [SegmentIndex.FS, SegmentIndex.GS, SegmentIndex.DS] : [0, 1, 2, 3, 4, 5];
  const form: InstanceForm = {
    codeSize, operandSize, addressSize, reg, rm: memory ? randomMemory(c, codeSize, addressSize) : c.below(registers),
    moffs: 0x8000 + c.below(0x8000) + (addressSize === 64 && c.chance(4) ? 2 ** 40 : 0),
    immediates: row.encoding.immediates.filter((token) => token !== 'moffs').flatMap((token) => (token === 'far' ? [immediate(token), c.below(64)] : [immediate(token)])),
    override: c.chance(3) ? c.pick(overrides) : -1, rep, lock,
    ...(codeSize === 64 && !row.encoding.operandSize && c.chance(4) ? { rex: 0x40 } : {}),
  };
  return { form, bytes: encodeInstance(row, form) };
}

const doubles = [0n, 1n << 63n, 0x3ff0000000000000n, 0xbff8000000000000n, 0x7ff0000000000000n, 0xfff0000000000000n, 0x7ff8000000000001n, 0x7ff0000000000001n, 1n, 0x000fffffffffffffn, 0x0010000000000000n, 0x7fefffffffffffffn, 0x3ca0000000000000n, 0x4340000000000000n];

/** Random registers, aimed so that memory operands, the stack and string pointers mostly hit mapped memory. */
function randomState(c: Choice, world: World, template: Uint8Array, shape: Shape, form: InstanceForm, insn: Instruction): DataView {
  const state = new DataView(template.slice().buffer);
  const u64 = (at: number, value: bigint): void => state.setBigUint64(at, BigInt.asUintN(64, value), true);
  const u32 = (at: number, value: number): void => state.setUint32(at, value, true);
  const registers = world.codeSize === 64 || c.chance(8) ? 16 : 8;
  for (let n = 0; n < registers; n++) u64(S.gpr + 8 * n, world.codeSize === 64 || c.chance(4) ? c.value() : c.value() & 0xffffffffn);
  const base = (segment: number): bigint => (world.codeSize === 64 && segment < SegmentIndex.FS ? 0n : state.getBigInt64(S.segment + 32 * segment, true));
  const aim = (segment: number, size: number): bigint => BigInt(randomTarget(c, world, size)) - base(segment);
  const stackMask = world.codeSize === 64 ? ~0n : 0xffffffffn;
  if (!c.chance(16)) u64(S.gpr + 8 * Gpr.RSP, (aim(SegmentIndex.SS, 8) & stackMask) & (c.chance(2) ? ~0n : ~7n));
  if (c.chance(2)) u64(S.gpr + 8 * Gpr.RBP, (aim(SegmentIndex.SS, 8) & stackMask));
  const { row } = shape;
  const strings = row.rep !== undefined || row.mnemonic === 'XLATB';
  if (strings) {
    const width = shape.addressSize === 64 ? ~0n : shape.addressSize === 32 ? 0xffffffffn : 0xffffn;
    const wrap = (v: bigint): bigint => (c.chance(3) ? v & width : (v & width) | (c.value() & ~width));
    if (!c.chance(16)) u64(S.gpr + 8 * Gpr.RSI, wrap(aim(insn.segment, 8)));
    if (!c.chance(16)) u64(S.gpr + 8 * Gpr.RDI, wrap(aim(world.codeSize === 64 ? 3 : SegmentIndex.ES, 8)));
    if (!c.chance(16)) u64(S.gpr + 8 * Gpr.RBX, wrap(aim(insn.segment, 8)));
    if (!c.chance(6)) u64(S.gpr + 8 * Gpr.RCX, wrap(BigInt(c.below(7))));
  } else if (c.chance(2)) u64(S.gpr + 8 * Gpr.RCX, BigInt(c.below(70)));
  if (row.mnemonic.startsWith('CMPXCHG') && c.chance(2)) u64(S.gpr, state.getBigUint64(S.gpr + 8 * (insn.rm & 15), true));
  if (row.mnemonic.endsWith('DIV') && c.chance(2)) u64(S.gpr + 8 * Gpr.RDX, BigInt(c.below(3) - 1));
  if (/^(BT|BTS|BTR|BTC)$/.test(row.mnemonic) && !c.chance(3)) u64(S.gpr + 8 * (form.reg ?? 0), BigInt(c.below(2000) - 1000));
  if (insn.memory && !c.chance(12)) {
    const size = Math.max(1, ...row.operands.map((operand) => operandBits(operand, shape.operandSize) / 8));
    const offset = aim(insn.segment, size) & (c.chance(4) ? ~0n : BigInt(-Math.min(size, 16)));
    const displacement = (BigInt(insn.displacementHigh) << 32n) + BigInt(insn.displacement >>> 0);
    const target = insn.base >= 0 && insn.base < 16 ? insn.base : insn.index;
    if (target >= 0 && insn.base !== 16 && insn.base !== insn.index) {
      const other = target === insn.base ? (insn.index >= 0 ? state.getBigUint64(S.gpr + 8 * insn.index, true) << BigInt(insn.scale) : 0n) : 0n;
      if (target === insn.base || insn.scale === 0) {
        const value = BigInt.asUintN(shape.addressSize, offset - displacement - other);
        u64(S.gpr + 8 * target, shape.addressSize === 64 || c.chance(2) ? value : value | (c.value() & ~((1n << BigInt(shape.addressSize)) - 1n) & (world.codeSize === 64 ? ~0n : 0xffffffffn)));
      }
    }
  }
  const flags = c.word();
  u32(S.flagBits, flags & 0x895);
  u64(S.flagResult, c.chance(3) ? 0n : c.value());
  let rest = state.getUint32(S.flagsRest, true) | (flags & (Flag.DF | Flag.IF | Flag.NT | Flag.ID));
  if (c.chance(6)) rest |= Flag.AC;
  if (c.chance(2)) rest |= (c.below(4) << 12);
  u32(S.flagsRest, (rest | 2) >>> 0);
  for (let n = 0; n < 32; n++) u64(S.xmm + 8 * n, c.chance(3) ? c.pick(doubles) : c.chance(2) ? BigInt(0x3ff + c.below(60) - 30) << 52n | (c.value() & 0x800fffffffffffffn) : c.value());
  u32(S.mxcsr, c.chance(2) ? 0x1f80 : c.chance(2) ? 0x1f80 | (c.word() & 0xe07f) : c.word() & 0xffff);
  if (row.feature?.startsWith('SSE') && c.chance(8)) {
    const at = c.chance(2) ? S.cr4 : S.cr0;
    u32(at, (state.getUint32(at, true) ^ (at === S.cr4 ? c.pick([Cr4.OSFXSR, Cr4.OSXMMEXCPT]) : c.pick([Cr0.EM, Cr0.TS]))) >>> 0);
  }
  u32(S.faultVector, 0xee);
  u32(S.faultError, 0xeeee);
  u64(S.faultLinear, 0xeeeen);
  return state;
}

export interface Outcome { readonly states: number; readonly completed: ReadonlySet<number>; readonly met: ReadonlySet<number>; readonly failures: readonly string[] }

/**
 * Runs an engine for `budget` cycles and says why it stopped, with a thrown Error as text: what is not modelled must
 * be the same for both. A store into decoded code ends a run early, which is the engine's own business: it goes on.
 */
export function runEngine(side: Side, budget: number): string {
  const { cpu, engine } = side.core;
  const until = cpu.cycles + budget;
  try {
    for (;;) {
      const now = cpu.cycles;
      cpu.setFloat(S.sliceCycles, now);
      for (const word of [S.left, S.budget]) cpu.set32(word, until - now);
      cpu.set32(S.extra, 0);
      const leave = engine.run();
      if (leave !== Leave.Deadline || cpu.cycles >= until) return String(leave);
    }
  } catch (thrown) {
    return `Error: ${(thrown as Error).message}`;
  }
}

/**
 * Executes `states` random states of every shape of every row in every world of a code size on both engines.
 * Reports the first difference of each shape.
 */
export function agreement(codeSize: Size, states: number, seed: number, only?: (row: Row) => boolean): Outcome {
  const pair = new Pair(pricedUnit);
  const failures: string[] = [];
  const completed = new Set<number>();
  const met = new Set<number>();
  let count = 0;
  for (const world of worlds.filter((each) => each.codeSize === codeSize)) {
    const worldSeed = seed + worlds.indexOf(world) * 0x10001;
    const templates = enterWorld(pair, world, worldSeed);
    const codeBase = Number(new DataView(templates[0]!.buffer).getBigInt64(S.segment + 32 * SegmentIndex.CS, true));
    for (const row of isa.rows) {
      if (only && !only(row)) continue;
      for (const [n, shape] of shapes(row, codeSize).entries()) {
        const shapeSeed = (worldSeed ^ Math.imul(row.id * 64 + n, 0x9e3779b1)) | 0;
        const c = new Choice(shapeSeed);
        if (row.system) { enterWorld(pair, world, worldSeed).forEach((buffer, i) => { templates[i] = buffer; }); }
        const { form, bytes } = instance(c, shape, codeSize);
        const padded = new Uint8Array(16);
        padded.set(bytes);
        const insn = decoder.decode(padded, 0, 16, codeSize);
        if (typeof insn === 'number') { failures.push(`${row.syntax} (${row.notation}): ${toHex(bytes)} does not decode in ${codeSize}-bit code`); continue; }
        if (insn.row !== row) { if (row.notation !== '90+r') failures.push(`${row.syntax} (${row.notation}) encodes as ${insn.row.syntax}`); continue; }
        met.add(row.id);
        // in one page, across two, or at the end of one
        const linear = CODE_PAGE * 0x1000 + c.pick([c.below(0xf00), 0x1000 - bytes.length, 0x1000 - 1 - c.below(Math.max(1, bytes.length - 1))]);
        const code: number[] = [...bytes, ...new Array<number>(16 - bytes.length).fill(0xf4)];
        pair.both((side) => {
          // whatever follows ends the run of decoding
          side.put(physicalCode(world, CODE_PAGE * 0x1000), new Uint8Array(4096).fill(0xf4));
          side.put(physicalCode(world, (CODE_PAGE + 1) * 0x1000), new Uint8Array(4096).fill(0xf4));
          code.forEach((byte, i) => { side.put(physicalCode(world, linear + i), [byte]); });
        });
        for (let k = 0; k < states; k++) {
          const state = randomState(c, world, templates[0]!, shape, form, insn);
          state.setBigInt64(S.rip, BigInt(linear - codeBase), true);
          const budget = c.chance(3) ? 1 + c.below(6) : 1;
          const repeated = row.rep && shape.rep;
          pair.sides.forEach((side, i) => {
            const { cpu } = side.core;
            const old = new DataView(templates[i]!.buffer);
            side.state.set(new Uint8Array(state.buffer));
            for (const word of [S.readTable, S.writeTable, S.execTable]) cpu.set32(word, old.getUint32(word, true));
            cpu.set32(S.codePage, 0);
            side.changed();
          });
          let problem: string | null = null;
          for (let turn = 0; problem === null && turn < 6; turn++) {
            const leaves = pair.sides.map((side) => {
              const now = side.core.cpu.cycles;
              side.core.cpu.setFloat(S.sliceCycles, now);
              for (const word of [S.left, S.budget, S.extra]) side.core.cpu.set32(word, 0);
              return runEngine(side, repeated ? budget : 1);
            });
            count++;
            problem = leaves[0] !== leaves[1] ? `interpreter stops with ${leaves[0]}, evaluator with ${leaves[1]}` : null;
            const difference = pair.difference();
            if (difference !== null) problem = problem === null ? difference : `${problem}; ${difference}`;
            const { cpu } = pair.evaluator.core;
            if (leaves[1] === '1' || leaves[1]!.startsWith('Error')) break;
            if (cpu.get32(S.retired) !== 0) { completed.add(row.id); break; }
          }
          if (problem !== null) {
            const dump = Array.from({ length: 16 }, (_, r) => state.getBigUint64(S.gpr + 8 * r, true).toString(16)).join(' ');
            failures.push(`${row.syntax} (${row.notation}) '${disassemble(insn, linear - codeBase)}' [${toHex(bytes)}] at 0x${linear.toString(16)}, ${world.name}, seed ${shapeSeed}, state ${k}: ${problem}\n    registers ${dump}`);
            // the machines part here: begin again from equal ones
            enterWorld(pair, world, worldSeed).forEach((buffer, i) => { templates[i] = buffer; });
            break;
          }
        }
      }
    }
  }
  return { states: count, completed, met, failures };
}
