/**
 * Compiles packet code to WebAssembly: a module whose one function runs over the records between two addresses and adds
 * them to the numbers at the beginning of its memory. Bytes and lines are looked at sixteen at a time.
 *
 *   address 0   count      i64     records that passed
 *           8   low        i64     of sums, and XOR: value = high · 2^32 + low
 *           16  high       i64
 *           24  extreme    i64 or f64
 *           64  bins       4 × 256 × u32, of histograms: four tables, so that equal bytes do not wait for one another
 *
 * What it computes is what interpreter.ts says; a test compares the two on random programs.
 */
import { FunctionBody, ValueType, moduleBytes } from "./assembler.ts";
import { ColumnType } from "./column-type.ts";
import { Aggregate, Filter, Records, isFloat } from "./format.ts";
import type { Code } from "./format.ts";

export const Address = { count: 0, low: 8, high: 16, extreme: 24, bins: 64 } as const;
export const BIN_TABLES = 4;
/** What a module takes of its memory for itself. */
export const KERNEL_BYTES = 8192;

const LANES = 16;
/** Blocks a turn, which two sums are made of, lane by lane: those are of a byte and must not go beyond 255. */
const BLOCKS = 8;
const SUMS = 2;
const TURNS_MAX: number = Math.floor(255 / (BLOCKS / SUMS));
/** Needles of so few bytes are compared with all of a block's places at once. */
const SHORT_NEEDLE_BYTES = 4;

/** The module of a program, for a memory of at least so many pages of 64 KiB. CRC32 has none: zlib's is faster. */
export function compileCode(code: Code, memoryPages: number): Uint8Array<ArrayBuffer> | undefined {
  if (code.aggregate === Aggregate.CRC32) return undefined;
  const compiler = new Compiler(code);
  return moduleBytes(compiler.functions(), memoryPages);
}

/** Whether a histogram is made of all bytes, and what does not pass is left out of it afterwards. */
export function filtersBins({ records, rowBytes, aggregate, filter, filterType }: Code): boolean {
  const isBytes = records === Records.ROWS && rowBytes === 1;
  const isOfBytes = filter === Filter.ALL || filterType === ColumnType.u8;
  return isBytes && aggregate === Aggregate.HISTOGRAM && isOfBytes;
}

class Compiler {
  readonly #code: Code;
  readonly #f: FunctionBody = new FunctionBody(2);
  readonly #start = 0;
  readonly #end = 1;
  /** Where the record that is looked at begins and, of lines, ends. */
  readonly #at: number;
  readonly #behind: number;
  readonly #value: number;
  readonly #wide: number;
  readonly #real: number;
  readonly #count: number;
  readonly #low: number;
  readonly #high: number;
  readonly #extreme: number;
  readonly #extremeReal: number;
  readonly #bits: number;
  /** Where what a line is to end with would begin. */
  readonly #ending: number;

  constructor(code: Code) {
    this.#code = code;
    const f = this.#f;
    this.#at = f.local(ValueType.i32);
    this.#behind = f.local(ValueType.i32);
    this.#value = f.local(ValueType.i32);
    this.#wide = f.local(ValueType.i64);
    this.#real = f.local(ValueType.f64);
    this.#count = f.local(ValueType.i64);
    this.#low = f.local(ValueType.i64);
    this.#high = f.local(ValueType.i64);
    this.#extreme = f.local(ValueType.i64);
    this.#extremeReal = f.local(ValueType.f64);
    this.#bits = f.local(ValueType.i32);
    this.#ending = f.local(ValueType.i32);
  }

  functions(): FunctionBody[] {
    const { records, filter } = this.#code;
    this.#loadState();
    if (records === Records.LINES) this.#lines();
    else this.#rows();
    this.#storeState();
    this.#f.get(this.#at);
    return filter === Filter.CONTAINS ? [this.#f, containsFunction(this.#code)] : [this.#f];
  }

  #loadState(): void {
    const f = this.#f;
    f.get(this.#start).set(this.#at);
    f.i32(0).memory("i64.load", Address.count).set(this.#count);
    f.i32(0).memory("i64.load", Address.low).set(this.#low);
    f.i32(0).memory("i64.load", Address.high).set(this.#high);
    f.i32(0).memory("i64.load", Address.extreme).set(this.#extreme);
    f.i32(0).memory("f64.load", Address.extreme).set(this.#extremeReal);
  }

  #storeState(): void {
    const f = this.#f;
    const { aggregate, type } = this.#code;
    f.i32(0).get(this.#count).memory("i64.store", Address.count);
    if (aggregate === Aggregate.MIN || aggregate === Aggregate.MAX) {
      if (isFloat(type)) f.i32(0).get(this.#extremeReal).memory("f64.store", Address.extreme);
      else f.i32(0).get(this.#extreme).memory("i64.store", Address.extreme);
      return;
    }
    if (isFloat(type)) return void f.i32(0).get(this.#extremeReal).memory("f64.store", Address.extreme);
    if (aggregate === Aggregate.SUM || aggregate === Aggregate.MEAN) {
      // What is more than 32 bits of the low half moves up, so that neither half ever overflows within a call.
      f.get(this.#high).get(this.#low).i64(32n).op("i64.shr_s", "i64.add").set(this.#high);
      f.get(this.#low).i64(0xffffffffn).op("i64.and").set(this.#low);
    }
    f.i32(0).get(this.#low).memory("i64.store", Address.low);
    f.i32(0).get(this.#high).memory("i64.store", Address.high);
  }

  // ── rows ──

  #rows(): void {
    const { rowBytes, filter, filterType, aggregate, type, needle } = this.#code;
    const isBytes = rowBytes === 1;
    const isByteColumn = type === 0 || type === ColumnType.u8;
    const isByteFilter = filter === Filter.ALL || (filter === Filter.IN && filterType === ColumnType.u8);
    if (isBytes && filtersBins(this.#code)) this.#histogram();
    else if (isBytes && isByteFilter && isByteColumn && aggregate !== Aggregate.HISTOGRAM) this.#byteBlocks();
    else if (isBytes && filter === Filter.AT && aggregate === Aggregate.COUNT) {
      if (needle.byteLength <= SHORT_NEEDLE_BYTES) this.#byteBlocks();
      else this.#searchBlocks();
    }
    this.#rowLoop();
  }

  /** One row after the other: what the loops over blocks left, or everything. */
  #rowLoop(): void {
    const f = this.#f;
    const { rowBytes } = this.#code;
    f.op("block", "loop");
    f.get(this.#at).get(this.#end).op("i32.ge_u").at("br_if", 1);
    this.#rowPasses();
    f.op("if");
    this.#addRow();
    f.op("end");
    f.get(this.#at).i32(rowBytes).op("i32.add").set(this.#at).at("br", 0);
    f.op("end", "end");
  }

  /** Leaves 1 on the stack where the row at `at` passes. */
  #rowPasses(): void {
    const f = this.#f;
    const { filter, filterType, filterOffset, isNot, needle } = this.#code;
    // A histogram's values are looked at when it is complete.
    if (filter === Filter.ALL || filtersBins(this.#code)) return void f.i32(1);
    if (filter === Filter.IN) {
      this.#loadColumn(filterType as ColumnType, filterOffset);
      this.#isInRanges(filterType as ColumnType);
    } else equalsAt(f, this.#at, needle, filterOffset);
    if (isNot) f.op("i32.eqz");
  }

  /** Puts a column of the row at `at` into the local of its kind. */
  #loadColumn(type: ColumnType, offset: number): void {
    const f = this.#f;
    f.get(this.#at);
    switch (type) {
      case ColumnType.u8:
        return void f.memory("i32.load8_u", offset).set(this.#value);
      case ColumnType.i8:
        return void f.memory("i32.load8_s", offset).set(this.#value);
      case ColumnType.u16:
        return void f.memory("i32.load16_u", offset).set(this.#value);
      case ColumnType.i16:
        return void f.memory("i32.load16_s", offset).set(this.#value);
      case ColumnType.u32:
      case ColumnType.i32:
        return void f.memory("i32.load", offset).set(this.#value);
      case ColumnType.u64:
      case ColumnType.i64:
        return void f.memory("i64.load", offset).set(this.#wide);
      case ColumnType.f32:
        return void f.memory("f32.load", offset).op("f64.promote_f32").set(this.#real);
      case ColumnType.f64:
        return void f.memory("f64.load", offset).set(this.#real);
    }
  }

  /** Leaves 1 on the stack where the value that was loaded lies in a range. */
  #isInRanges(type: ColumnType): void {
    const f = this.#f;
    for (const [index, { low, high }] of this.#code.ranges.entries()) {
      if (isFloat(type)) {
        f.get(this.#real).f64(Number(low)).op("f64.ge");
        f.get(this.#real).f64(Number(high)).op("f64.le", "i32.and");
      } else if (type === ColumnType.u64 || type === ColumnType.i64) {
        // Whether signed or not, a range is as many values behind its lowest.
        f.get(this.#wide)
          .i64(BigInt(low))
          .op("i64.sub")
          .i64(BigInt(high) - BigInt(low))
          .op("i64.le_u");
      } else {
        f.get(this.#value)
          .i32(Number(low))
          .op("i32.sub")
          .i32(Number(high) - Number(low))
          .op("i32.le_u");
      }
      if (index > 0) f.op("i32.or");
    }
  }

  #addRow(): void {
    const { type, offset } = this.#code;
    const f = this.#f;
    f.get(this.#count).i64(1n).op("i64.add").set(this.#count);
    if (type === 0) return;
    this.#loadColumn(type, offset);
    this.#addValue(type);
  }

  /** Aggregates the value that was loaded. */
  #addValue(type: ColumnType): void {
    const f = this.#f;
    const { aggregate } = this.#code;
    if (isFloat(type)) return this.#addReal();
    if (aggregate === Aggregate.HISTOGRAM) {
      const bin = (): void => void f.get(this.#value).i32(2).op("i32.shl");
      bin();
      bin();
      f.memory("i32.load", Address.bins).i32(1).op("i32.add").memory("i32.store", Address.bins);
      return;
    }
    const isWide = type === ColumnType.u64 || type === ColumnType.i64;
    const isUnsigned = ([ColumnType.u8, ColumnType.u16, ColumnType.u32, ColumnType.u64] as number[]).includes(
      type,
    );
    if (!isWide) {
      f.get(this.#value)
        .op(isUnsigned ? "i64.extend_i32_u" : "i64.extend_i32_s")
        .set(this.#wide);
    }
    switch (aggregate) {
      case Aggregate.SUM:
      case Aggregate.MEAN:
        f.get(this.#low).get(this.#wide);
        if (isWide) f.i64(0xffffffffn).op("i64.and");
        f.op("i64.add").set(this.#low);
        if (!isWide) return;
        f.get(this.#high)
          .get(this.#wide)
          .i64(32n)
          .op(isUnsigned ? "i64.shr_u" : "i64.shr_s");
        return void f.op("i64.add").set(this.#high);
      case Aggregate.MIN:
      case Aggregate.MAX: {
        const isMin = aggregate === Aggregate.MIN;
        f.get(this.#wide).get(this.#extreme).get(this.#wide).get(this.#extreme);
        if (isUnsigned) f.op(isMin ? "i64.lt_u" : "i64.gt_u");
        else f.op(isMin ? "i64.lt_s" : "i64.gt_s");
        return void f.op("select").set(this.#extreme);
      }
      case Aggregate.XOR:
        return void f.get(this.#low).get(this.#wide).op("i64.xor").set(this.#low);
    }
  }

  /** Sums of floats are kept where extremes are: one after the other, as their order says. */
  #addReal(): void {
    const { aggregate } = this.#code;
    const isMin = aggregate === Aggregate.MIN;
    const isExtreme = isMin || aggregate === Aggregate.MAX;
    const f = this.#f.get(this.#extremeReal).get(this.#real);
    f.op(isExtreme ? (isMin ? "f64.min" : "f64.max") : "f64.add").set(this.#extremeReal);
  }

  // ── bytes, in blocks ──

  /** Blocks of bytes of which a mask tells which pass: counted, added up, compared. */
  #byteBlocks(
    maskOf: (block: number, offset: number) => void = (block, offset) => this.#byteMask(block, offset),
  ): void {
    const f = this.#f;
    const { aggregate } = this.#code;
    const [block, mask] = [f.local(ValueType.v128), f.local(ValueType.v128)];
    // More than one, so that an addition does not wait for the one before it.
    const counts = Array.from({ length: SUMS }, () => f.local(ValueType.v128));
    const [sums, best, turns] = [f.local(ValueType.v128), f.local(ValueType.v128), f.local(ValueType.i32)];
    const isMin = aggregate === Aggregate.MIN;
    if (isMin) f.splat(0xff).set(best);
    f.op("block", "loop");
    // Turns that there are, each of some blocks.
    f.get(this.#end)
      .get(this.#at)
      .op("i32.sub")
      .i32(Math.log2(LANES * BLOCKS))
      .op("i32.shr_u")
      .set(turns);
    f.get(turns).op("i32.eqz").at("br_if", 1);
    f.get(turns).i32(TURNS_MAX).get(turns).i32(TURNS_MAX).op("i32.lt_u", "select").set(turns);
    for (const each of counts) f.splat(0).set(each);
    f.op("loop");
    for (let index = 0; index < BLOCKS; index++) {
      f.get(this.#at)
        .memory("v128.load", index * LANES)
        .set(block);
      maskOf(block, index * LANES);
      f.set(mask);
      const sum = counts[index % SUMS]!;
      f.get(sum).get(mask).op("i8x16.sub").set(sum);
      this.#addBlock(block, mask, sums, best);
    }
    f.get(this.#at)
      .i32(LANES * BLOCKS)
      .op("i32.add")
      .set(this.#at);
    f.get(turns).i32(1).op("i32.sub").at("local.tee", turns).at("br_if", 0);
    f.op("end");
    for (const each of counts) {
      f.get(each).op("i16x8.extadd_pairwise_i8x16_u", "i32x4.extadd_pairwise_i16x8_u").set(each);
      this.#addLanes(each, this.#count);
    }
    f.at("br", 0);
    f.op("end", "end");
    if (aggregate === Aggregate.SUM || aggregate === Aggregate.MEAN) this.#addLanes(sums, this.#low);
    if (aggregate === Aggregate.XOR || isMin || aggregate === Aggregate.MAX) this.#foldLanes(best);
  }

  #addBlock(block: number, mask: number, sums: number, best: number): void {
    const f = this.#f;
    const passing = (): void => void f.get(block).get(mask).op("v128.and");
    switch (this.#code.aggregate) {
      case Aggregate.SUM:
      case Aggregate.MEAN:
        passing();
        f.op("i16x8.extadd_pairwise_i8x16_u", "i32x4.extadd_pairwise_i16x8_u");
        return void f.get(sums).op("i32x4.add").set(sums);
      case Aggregate.MIN:
        f.get(block).splat(0xff).get(mask).op("v128.bitselect");
        return void f.get(best).op("i8x16.min_u").set(best);
      case Aggregate.MAX:
        passing();
        return void f.get(best).op("i8x16.max_u").set(best);
      case Aggregate.XOR:
        passing();
        return void f.get(best).op("v128.xor").set(best);
    }
  }

  /** Leaves the mask of the bytes in a block that pass. */
  #byteMask(block: number, offset: number): void {
    const f = this.#f;
    const { filter, ranges, isNot, needle } = this.#code;
    if (filter === Filter.ALL) return void f.splat(0xff);
    if (filter === Filter.AT) {
      for (const [index, byte] of needle.entries()) {
        if (index === 0) f.get(block);
        else f.get(this.#at).memory("v128.load", offset + index);
        f.splat(byte).op("i8x16.eq");
        if (index > 0) f.op("v128.and");
      }
    } else {
      for (const [index, { low, high }] of ranges.entries()) {
        f.get(block).splat(Number(low));
        if (low === high) f.op("i8x16.eq");
        else
          f.op("i8x16.sub")
            .splat(Number(high) - Number(low))
            .op("i8x16.le_u");
        if (index > 0) f.op("v128.or");
      }
    }
    if (isNot) f.op("v128.not");
  }

  /** Adds four lanes of 32 bits to a local of 64. */
  #addLanes(lanes: number, sum: number): void {
    const f = this.#f.get(sum);
    for (let lane = 0; lane < 4; lane++) f.get(lanes).i32x4Lane(lane).op("i64.extend_i32_u", "i64.add");
    f.set(sum);
  }

  /** Aggregates sixteen lanes of bytes as values. What no byte passed leaves is what changes nothing. */
  #foldLanes(lanes: number): void {
    for (let lane = 0; lane < LANES; lane++) {
      this.#f.get(lanes).i8x16Lane(lane).set(this.#value);
      this.#addValue(ColumnType.u8);
    }
  }

  /** Places of a needle, by its first, second and last byte, and the rest where those are right. */
  #searchBlocks(): void {
    const f = this.#f;
    const { needle, isNot } = this.#code;
    const [matches, place] = [f.local(ValueType.i64), f.local(ValueType.i32)];
    const first = f.local(ValueType.i32);
    f.get(this.#at).set(first);
    f.op("block", "loop");
    f.get(this.#end).get(this.#at).op("i32.sub").i32(LANES).op("i32.lt_u").at("br_if", 1);
    needleBits(f, this.#at, needle);
    f.set(this.#bits);
    f.op("block", "loop");
    f.get(this.#bits).op("i32.eqz").at("br_if", 1);
    f.get(this.#at).get(this.#bits).op("i32.ctz", "i32.add").set(place);
    equalsAt(f, place, needle, 0);
    f.op("i64.extend_i32_u").get(matches).op("i64.add").set(matches);
    clearLowest(f, this.#bits);
    f.at("br", 0).op("end", "end");
    f.get(this.#at).i32(LANES).op("i32.add").set(this.#at).at("br", 0);
    f.op("end", "end");
    if (isNot) {
      f.get(this.#at).get(first).op("i32.sub", "i64.extend_i32_u").get(matches).op("i64.sub").set(matches);
    }
    f.get(this.#count).get(matches).op("i64.add").set(this.#count);
  }

  /** Eight bytes a turn, into four tables. */
  #histogram(): void {
    const f = this.#f;
    const word = this.#wide;
    f.op("block", "loop");
    f.get(this.#end).get(this.#at).op("i32.sub").i32(8).op("i32.lt_u").at("br_if", 1);
    for (let byte = 0; byte < 8; byte++) {
      const bins = Address.bins + (byte % BIN_TABLES) * 1024;
      f.get(this.#at).memory("i32.load8_u", byte).i32(2).op("i32.shl").at("local.tee", this.#value);
      f.get(this.#value).memory("i32.load", bins).i32(1).op("i32.add").memory("i32.store", bins);
    }
    f.get(this.#count).i64(8n).op("i64.add").set(this.#count);
    f.get(this.#at).i32(8).op("i32.add").set(this.#at).at("br", 0);
    f.op("end", "end");
    f.i64(0n).set(word);
  }

  // ── lines ──

  /** Lines of which nothing but their number is asked are counted by what ends them. */
  #countLines(): void {
    const f = this.#f;
    const separator = this.#code.separator[0]!;
    this.#byteBlocks((block) => void f.get(block).splat(separator).op("i8x16.eq"));
    const isSeparator = (): void => void f.memory("i32.load8_u", 0).i32(separator).op("i32.eq");
    f.op("block", "loop");
    f.get(this.#at).get(this.#end).op("i32.ge_u").at("br_if", 1);
    f.get(this.#at);
    isSeparator();
    f.op("i64.extend_i32_u").get(this.#count).op("i64.add").set(this.#count);
    f.get(this.#at).i32(1).op("i32.add").set(this.#at).at("br", 0);
    f.op("end", "end");
    // The line that is not whole begins behind the last of them.
    f.op("block", "loop");
    f.get(this.#at).get(this.#start).op("i32.eq").at("br_if", 1);
    f.get(this.#at).i32(1).op("i32.sub");
    isSeparator();
    f.at("br_if", 1);
    f.get(this.#at).i32(1).op("i32.sub").set(this.#at).at("br", 0);
    f.op("end", "end");
  }

  /** `at` is where a line begins; `behind` goes on to its separator. */
  #lines(): void {
    const f = this.#f;
    const { separator, filter, aggregate } = this.#code;
    const bytes = separator.byteLength;
    if (bytes === 1 && filter === Filter.ALL && aggregate === Aggregate.COUNT) return this.#countLines();
    f.get(this.#at).set(this.#behind);
    f.op("block", "loop");
    f.get(this.#end)
      .get(this.#behind)
      .op("i32.sub")
      .i32(LANES + bytes - 1)
      .op("i32.lt_u")
      .at("br_if", 1);
    for (const [index, byte] of separator.entries()) {
      f.get(this.#behind).memory("v128.load", index).splat(byte).op("i8x16.eq");
      if (index > 0) f.op("v128.and");
    }
    f.op("i8x16.bitmask").set(this.#bits);
    const block = f.local(ValueType.i32);
    f.get(this.#behind).set(block);
    f.op("block", "loop");
    f.get(this.#bits).op("i32.eqz").at("br_if", 1);
    f.get(block).get(this.#bits).op("i32.ctz", "i32.add").set(this.#behind);
    clearLowest(f, this.#bits);
    this.#addLine();
    f.at("br", 0).op("end", "end");
    f.get(block).i32(LANES).op("i32.add").set(this.#behind).at("br", 0);
    f.op("end", "end");
    // What is left is less than a block.
    f.op("block", "loop");
    f.get(this.#behind).i32(bytes).op("i32.add").get(this.#end).op("i32.gt_u").at("br_if", 1);
    equalsAt(f, this.#behind, separator, 0);
    f.op("if");
    this.#addLine();
    f.op("end");
    f.get(this.#behind).i32(1).op("i32.add").set(this.#behind).at("br", 0);
    f.op("end", "end");
  }

  /** The line from `at` to `behind`; the next one begins behind its separator. */
  #addLine(): void {
    const f = this.#f;
    const { filter, isNot, needle, type, separator } = this.#code;
    f.get(this.#behind).get(this.#at).op("i32.sub").set(this.#value);
    const isLong = (): void => void f.get(this.#value).i32(needle.byteLength).op("i32.ge_u");
    switch (filter) {
      case Filter.IN:
        this.#isInRanges(ColumnType.u32);
        break;
      case Filter.BEGINS:
        isLong();
        equalsAt(f, this.#at, needle, 0);
        f.op("i32.and");
        break;
      case Filter.ENDS:
        isLong();
        // Before the memory's beginning there is nothing, and a line stands far behind it.
        f.get(this.#behind).i32(needle.byteLength).op("i32.sub").set(this.#ending);
        equalsAt(f, this.#ending, needle, 0);
        f.op("i32.and");
        break;
      case Filter.CONTAINS:
        f.get(this.#at).get(this.#behind).at("call", 1);
        break;
      default:
        f.i32(1);
    }
    if (isNot) f.op("i32.eqz");
    f.op("if");
    f.get(this.#count).i64(1n).op("i64.add").set(this.#count);
    if (type !== 0) this.#addValue(ColumnType.u32);
    f.op("end");
    f.get(this.#behind).i32(separator.byteLength).op("i32.add").set(this.#at);
  }
}

/** (start, end) → whether the needle stands between them. */
function containsFunction({ needle }: Code): FunctionBody {
  const f = new FunctionBody(2);
  const [at, end] = [0, 1];
  const [bits, place, left] = [f.local(ValueType.i32), f.local(ValueType.i32), f.local(ValueType.i32)];
  f.op("block");
  f.get(end).get(at).op("i32.sub").i32(needle.byteLength).op("i32.lt_u").at("br_if", 0);
  // Places that are left, one at least.
  f.get(end)
    .get(at)
    .op("i32.sub")
    .i32(needle.byteLength - 1)
    .op("i32.sub")
    .set(left);
  f.op("loop");
  needleBits(f, at, needle);
  f.set(bits);
  f.get(left).i32(LANES).op("i32.lt_u", "if");
  f.get(bits).i32(1).get(left).op("i32.shl").i32(1).op("i32.sub", "i32.and").set(bits);
  f.op("end");
  f.op("block", "loop");
  f.get(bits).op("i32.eqz").at("br_if", 1);
  f.get(at).get(bits).op("i32.ctz", "i32.add").set(place);
  equalsAt(f, place, needle, 0);
  f.op("if").i32(1).op("return", "end");
  clearLowest(f, bits);
  f.at("br", 0).op("end", "end");
  f.get(at).i32(LANES).op("i32.add").set(at);
  f.get(left).i32(LANES).op("i32.gt_u").get(left).i32(LANES).op("i32.sub").set(left).at("br_if", 0);
  f.op("end", "end");
  return f.i32(0);
}

/** Leaves a bit for each of the sixteen places from `at` on where the needle may stand. */
function needleBits(f: FunctionBody, at: number, needle: Uint8Array): void {
  const last = needle.byteLength - 1;
  for (const index of new Set([0, Math.min(1, last), last])) {
    f.get(at).memory("v128.load", index).splat(needle[index]!).op("i8x16.eq");
    if (index > 0) f.op("v128.and");
  }
  f.op("i8x16.bitmask");
}

function clearLowest(f: FunctionBody, bits: number): void {
  f.get(bits).get(bits).i32(1).op("i32.sub", "i32.and").set(bits);
}

/** Leaves 1 where these bytes stand `offset` behind the address in a local. */
function equalsAt(f: FunctionBody, address: number, bytes: Uint8Array, offset: number): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at < bytes.byteLength;) {
    const left = bytes.byteLength - at;
    f.get(address);
    const first = at === 0;
    if (left >= 8) {
      f.memory("i64.load", offset + at)
        .i64(view.getBigInt64(at, true))
        .op("i64.eq");
      at += 8;
    } else if (left >= 4) {
      f.memory("i32.load", offset + at)
        .i32(view.getInt32(at, true))
        .op("i32.eq");
      at += 4;
    } else if (left >= 2) {
      f.memory("i32.load16_u", offset + at)
        .i32(view.getUint16(at, true))
        .op("i32.eq");
      at += 2;
    } else {
      f.memory("i32.load8_u", offset + at)
        .i32(bytes[at]!)
        .op("i32.eq");
      at += 1;
    }
    if (!first) f.op("i32.and");
  }
}
