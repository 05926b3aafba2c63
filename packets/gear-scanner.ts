/**
 * The chunker's inner loop, as WebAssembly, which is twice as fast as JavaScript here: it looks through a window of bytes at two places
 * at once, since each step at one place waits for the step before it.
 *
 *   memory   │ gear table: 256 words │ bytes before │ first half ──▶   │ second half ──▶  │ up to 7 bytes │
 */
import { FunctionBody, ValueType, moduleBytes } from "./code/compiler/assembler.ts";
import { compileModule, instantiate, makeMemory } from "./code/engine.ts";

/** A byte is shifted out of the 32-bit hash after as many bytes. */
const HASH_REACH_BYTES = 32;
const TABLE_BYTES = 1024;
/** Small enough to stay in a core's nearest cache, and for little to be looked at behind the place that is found. */
const WINDOW_BYTES: number = 16 * 1024;
const WORD_BYTES = 4;

type Scan = (
  warmFirst: number,
  first: number,
  warmSecond: number,
  second: number,
  end: number,
  mask: number,
) => number;

export class GearScanner {
  readonly #memory: Uint8Array;
  readonly #run: Scan;

  constructor(gear: Int32Array) {
    const memory = makeMemory(1);
    const functions = [runFunction(), scanFunction(), warmFunction()];
    this.#run = instantiate<Scan>(compileModule(moduleBytes(functions, 1)), memory);
    const table = new DataView(memory.buffer);
    for (const [byte, number] of gear.entries()) table.setInt32(byte * WORD_BYTES, number, true);
    this.#memory = new Uint8Array(memory.buffer);
  }

  /**
   * Where, in from..to, the first run of bytes ends that leaves the mask's bits of the hash zero; 0 for nowhere. The hash is zero at
   * `first`, which is not behind `from`.
   */
  scan(bytes: Uint8Array, mask: number, first: number, from: number, to: number): number {
    for (let at = from; at < to; at += WINDOW_BYTES) {
      const found = this.#scanWindow(bytes, mask, first, at, Math.min(to, at + WINDOW_BYTES));
      if (found !== 0) return found;
    }
    return 0;
  }

  #scanWindow(bytes: Uint8Array, mask: number, first: number, from: number, to: number): number {
    const copied = Math.max(first, from - HASH_REACH_BYTES);
    this.#memory.set(bytes.subarray(copied, to), TABLE_BYTES);
    const moved = TABLE_BYTES - copied;
    const half = Math.floor((to - from) / 2 / WORD_BYTES) * WORD_BYTES;
    const middle = from + half;
    const warm = Math.max(copied, middle - HASH_REACH_BYTES);
    const found = this.#run(moved + copied, moved + from, moved + warm, moved + middle, moved + to, mask);
    return found === 0 ? 0 : found - moved;
  }
}

const SCAN = 1;
const WARM = 2;

/** One half and the other, four bytes of each in turns, and then what is left over. */
function runFunction(): FunctionBody {
  const f = new FunctionBody(6);
  const [warmFirst, first, warmSecond, second, end, mask] = [0, 1, 2, 3, 4, 5] as const;
  const middle = f.local(ValueType.i32);
  const word = f.local(ValueType.i32);
  const hash = f.local(ValueType.i32);
  const secondHash = f.local(ValueType.i32);
  f.get(second).set(middle);
  f.get(warmFirst).get(first).at("call", WARM).set(hash);
  f.get(warmSecond).get(second).at("call", WARM).set(secondHash);
  f.op("block").get(first).get(middle).op("i32.ge_u").at("br_if", 0).op("loop");
  f.get(first).memory("i32.load", 0).set(word);
  for (let byte = 0; byte < WORD_BYTES; byte++) {
    step(f, word, byte, hash, mask);
    f.op("if")
      .get(first)
      .i32(byte + 1)
      .op("i32.add", "return", "end");
  }
  f.get(second).memory("i32.load", 0).set(word);
  for (let byte = 0; byte < WORD_BYTES; byte++) {
    step(f, word, byte, secondHash, mask);
    // What is found in the first half comes before it.
    f.op("if").get(first).i32(WORD_BYTES).op("i32.add").get(middle).get(mask).get(hash).at("call", SCAN);
    f.at("local.tee", word)
      .get(second)
      .i32(byte + 1)
      .op("i32.add")
      .get(word)
      .op("select", "return", "end");
  }
  f.get(second).i32(WORD_BYTES).op("i32.add").set(second);
  f.get(first).i32(WORD_BYTES).op("i32.add").at("local.tee", first);
  f.get(middle).op("i32.lt_u").at("br_if", 0).op("end", "end");
  return f.get(second).get(end).get(mask).get(secondHash).at("call", SCAN);
}

/** Byte by byte. */
function scanFunction(): FunctionBody {
  const f = new FunctionBody(4);
  const [at, end, mask, hash] = [0, 1, 2, 3] as const;
  f.op("block").get(at).get(end).op("i32.ge_u").at("br_if", 0).op("loop");
  addByte(f, at, hash);
  f.get(mask).op("i32.and", "i32.eqz", "if").get(at).op("return", "end");
  f.get(at).get(end).op("i32.lt_u").at("br_if", 0).op("end", "end");
  return f.i32(0);
}

/** The hash of bytes that are not searched. */
function warmFunction(): FunctionBody {
  const f = new FunctionBody(2);
  const [at, end] = [0, 1] as const;
  const hash = f.local(ValueType.i32);
  f.op("block").get(at).get(end).op("i32.ge_u").at("br_if", 0).op("loop");
  addByte(f, at, hash);
  f.set(hash).get(at).get(end).op("i32.lt_u").at("br_if", 0).op("end", "end");
  return f.get(hash);
}

/** Leaves the hash with the byte at `at` on the stack too, and `at` behind the byte. */
function addByte(f: FunctionBody, at: number, hash: number): void {
  f.get(hash).i32(1).op("i32.shl").get(at).memory("i32.load8_u", 0).i32(2).op("i32.shl");
  f.memory("i32.load", 0).op("i32.add").at("local.tee", hash);
  f.get(at).i32(1).op("i32.add").set(at);
}

/** Adds a byte of the word, and leaves on the stack whether the mask's bits of the hash are zero. */
function step(f: FunctionBody, word: number, byte: number, hash: number, mask: number): void {
  f.get(hash).i32(1).op("i32.shl").get(word);
  // Four times the byte, which is where its number stands in the table.
  if (byte === 0) f.i32(2).op("i32.shl");
  else f.i32(8 * byte - 2).op("i32.shr_u");
  f.i32(0x3fc).op("i32.and").memory("i32.load", 0).op("i32.add").at("local.tee", hash);
  f.get(mask).op("i32.and", "i32.eqz");
}
