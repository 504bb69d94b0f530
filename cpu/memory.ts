import { STATE_SIZE } from './state.ts';

const PAGE = 0x10000;
/** Physical code is tracked in granules of this many bytes; a store to a granule without code is not a code change. */
export const GRANULE = 128;
export const GRANULE_SHIFT = 7;
/** Entries in one fast TLB table, bytes per entry, tables per context (read, write, execute), contexts per CPU. */
export const FAST_ENTRIES = 256;
export const FAST_ENTRY = 16;
export const FAST_TABLE = FAST_ENTRIES * FAST_ENTRY;
export const FAST_CONTEXT = 3 * FAST_TABLE;
export const FAST_CONTEXTS = 24;
/** Added to the tag of a write entry whose page holds decoded code: never matches on the fast path, known to the slow one. */
export const CODE_TAG_HIGH = 0x40000000;
/** Tag (high word) that matches no linear address. */
export const NO_TAG_HIGH = 0x20000000;

/** Index into a fast table for the page of a linear address (any JavaScript number holding its low 32 bits). */
export function fastIndex(linearLow: number): number {
  const page = linearLow >>> 12;
  return (page ^ (page >>> 7)) & (FAST_ENTRIES - 1);
}

/**
 * All that is hot, in one WebAssembly.Memory created at its final size: CPU states, fast TLB tables, the
 * modelled TLBs, decoded instructions and the machine's RAM. Addresses into it are called *host* addresses.
 */
export class Memory {
  readonly wasm: WebAssembly.Memory;
  readonly u8: Uint8Array;
  readonly u16: Uint16Array;
  readonly i32: Int32Array;
  readonly u32: Uint32Array;
  readonly f64: Float64Array;
  readonly u64: BigUint64Array;
  readonly i64: BigInt64Array;
  readonly view: DataView;
  /** Bytes of RAM, and the host address of physical address 0. */
  readonly ramSize: number;
  readonly ramBase: number;
  readonly cpus: number;
  /** Host address of 256 bytes where accesses that are not plain RAM are assembled. */
  readonly bounce = 256;
  readonly bounceEnd = 1024;
  readonly fastBase: number;
  readonly tlbBase: number;
  readonly tlbSize: number;
  /** One bit per granule of RAM: it holds decoded code. */
  readonly granuleBase: number;
  readonly granuleSize: number;
  /** Arena for decoded pages and records. */
  readonly arenaBase: number;
  readonly arenaSize: number;

  /**
   * @param ramSize bytes of machine RAM, a multiple of 4096, at most 3 GiB
   * @param cpus number of CPU state blocks
   */
  constructor(ramSize: number, cpus = 1, arenaSize = 32 << 20) {
    if (ramSize <= 0 || ramSize % 4096 !== 0 || ramSize > 3 * 2 ** 30 + (64 << 20)) throw new Error(`RAM of ${ramSize} bytes: expected a multiple of 4096 up to 3 GiB`);
    this.ramSize = ramSize;
    this.cpus = cpus;
    let at = 4096;
    const take = (size: number, align: number): number => {
      at = Math.ceil(at / align) * align;
      const base = at;
      at += size;
      return base;
    };
    take(STATE_SIZE * cpus, 4096);
    this.fastBase = take(FAST_CONTEXT * FAST_CONTEXTS * cpus, 4096);
    this.tlbSize = 0x10000;
    this.tlbBase = take(this.tlbSize * cpus, 4096);
    this.granuleSize = Math.ceil(ramSize / GRANULE / 8);
    this.granuleBase = take(this.granuleSize + 64, 64);
    this.arenaSize = arenaSize;
    this.arenaBase = take(arenaSize, 4096);
    this.ramBase = take(ramSize, PAGE);
    const pages = Math.ceil((at + 64) / PAGE);
    this.wasm = new WebAssembly.Memory({ initial: pages, maximum: pages });
    const buffer = this.wasm.buffer;
    this.u8 = new Uint8Array(buffer);
    this.u16 = new Uint16Array(buffer);
    this.i32 = new Int32Array(buffer);
    this.u32 = new Uint32Array(buffer);
    this.f64 = new Float64Array(buffer);
    this.u64 = new BigUint64Array(buffer);
    this.i64 = new BigInt64Array(buffer);
    this.view = new DataView(buffer);
  }

  /** Host address of a CPU's state block. */
  stateBase(cpu: number): number {
    return 4096 + cpu * STATE_SIZE;
  }
}
