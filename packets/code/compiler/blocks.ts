/** Bytes as records, sixteen at a time: counted, added up, compared, searched; and their histogram, eight at a time. */
import { ColumnType } from "../column-type.ts";
import { Aggregate, Filter, Records } from "../format.ts";
import type { Code } from "../format.ts";
import { ValueType } from "./assembler.ts";
import { LANES, clearLowest, equalsAt, needleBits } from "./needles.ts";
import { Address, BIN_TABLES } from "./registers.ts";
import type { Registers } from "./registers.ts";

/** Blocks a turn, which two sums are made of, lane by lane: those are of a byte and must not go beyond 255. */
const BLOCKS = 8;
const SUMS = 2;
const TURNS_MAX: number = Math.floor(255 / (BLOCKS / SUMS));

/** Whether a histogram is made of all bytes, and what does not pass is left out of it afterwards. */
export function filtersBins({ records, rowBytes, aggregate, filter, filterType }: Code): boolean {
  const isBytes = records === Records.ROWS && rowBytes === 1;
  const isOfBytes = filter === Filter.ALL || filterType === ColumnType.u8;
  return isBytes && aggregate === Aggregate.HISTOGRAM && isOfBytes;
}

/** Blocks of bytes of which a mask tells which pass: counted, added up, compared. */
export function byteBlocks(
  registers: Registers,
  maskOf: (block: number, offset: number) => void = (block, offset) => byteMask(registers, block, offset),
): void {
  const { f } = registers;
  const { aggregate } = registers.code;
  const [block, mask] = [f.local(ValueType.v128), f.local(ValueType.v128)];
  // More than one, so that an addition does not wait for the one before it.
  const counts = Array.from({ length: SUMS }, () => f.local(ValueType.v128));
  const [sums, best, turns] = [f.local(ValueType.v128), f.local(ValueType.v128), f.local(ValueType.i32)];
  const isMin = aggregate === Aggregate.MIN;
  if (isMin) f.splat(0xff).set(best);
  f.op("block", "loop");
  // Turns that there are, each of some blocks.
  f.get(registers.end)
    .get(registers.at)
    .op("i32.sub")
    .i32(Math.log2(LANES * BLOCKS))
    .op("i32.shr_u")
    .set(turns);
  f.get(turns).op("i32.eqz").at("br_if", 1);
  f.get(turns).i32(TURNS_MAX).get(turns).i32(TURNS_MAX).op("i32.lt_u", "select").set(turns);
  for (const each of counts) f.splat(0).set(each);
  f.op("loop");
  for (let index = 0; index < BLOCKS; index++) {
    f.get(registers.at)
      .memory("v128.load", index * LANES)
      .set(block);
    maskOf(block, index * LANES);
    f.set(mask);
    const sum = counts[index % SUMS]!;
    f.get(sum).get(mask).op("i8x16.sub").set(sum);
    addBlock(registers, block, mask, sums, best);
  }
  f.get(registers.at)
    .i32(LANES * BLOCKS)
    .op("i32.add")
    .set(registers.at);
  f.get(turns).i32(1).op("i32.sub").at("local.tee", turns).at("br_if", 0);
  f.op("end");
  for (const each of counts) {
    f.get(each).op("i16x8.extadd_pairwise_i8x16_u", "i32x4.extadd_pairwise_i16x8_u").set(each);
    addLanes(registers, each, registers.count);
  }
  f.at("br", 0);
  f.op("end", "end");
  if (aggregate === Aggregate.SUM || aggregate === Aggregate.MEAN) addLanes(registers, sums, registers.low);
  if (aggregate === Aggregate.XOR || isMin || aggregate === Aggregate.MAX) foldLanes(registers, best);
}

function addBlock(registers: Registers, block: number, mask: number, sums: number, best: number): void {
  const { f } = registers;
  const passing = (): void => void f.get(block).get(mask).op("v128.and");
  switch (registers.code.aggregate) {
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
function byteMask(registers: Registers, block: number, offset: number): void {
  const { f } = registers;
  const { filter, ranges, isNot, needle } = registers.code;
  if (filter === Filter.ALL) return void f.splat(0xff);
  if (filter === Filter.AT) {
    for (const [index, byte] of needle.entries()) {
      if (index === 0) f.get(block);
      else f.get(registers.at).memory("v128.load", offset + index);
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
function addLanes(registers: Registers, lanes: number, sum: number): void {
  const f = registers.f.get(sum);
  for (let lane = 0; lane < 4; lane++) f.get(lanes).i32x4Lane(lane).op("i64.extend_i32_u", "i64.add");
  f.set(sum);
}

/** Aggregates sixteen lanes of bytes as values. What no byte passed leaves is what changes nothing. */
function foldLanes(registers: Registers, lanes: number): void {
  for (let lane = 0; lane < LANES; lane++) {
    registers.f.get(lanes).i8x16Lane(lane).set(registers.value);
    registers.addValue(ColumnType.u8);
  }
}

/** Places of a needle, by its first, second and last byte, and the rest where those are right. */
export function searchBlocks(registers: Registers): void {
  const { f } = registers;
  const { needle, isNot } = registers.code;
  const [matches, place] = [f.local(ValueType.i64), f.local(ValueType.i32)];
  const first = f.local(ValueType.i32);
  f.get(registers.at).set(first);
  f.op("block", "loop");
  f.get(registers.end).get(registers.at).op("i32.sub").i32(LANES).op("i32.lt_u").at("br_if", 1);
  needleBits(f, registers.at, needle);
  f.set(registers.bits);
  f.op("block", "loop");
  f.get(registers.bits).op("i32.eqz").at("br_if", 1);
  f.get(registers.at).get(registers.bits).op("i32.ctz", "i32.add").set(place);
  equalsAt(f, place, needle, 0);
  f.op("i64.extend_i32_u").get(matches).op("i64.add").set(matches);
  clearLowest(f, registers.bits);
  f.at("br", 0).op("end", "end");
  f.get(registers.at).i32(LANES).op("i32.add").set(registers.at).at("br", 0);
  f.op("end", "end");
  if (isNot) {
    f.get(registers.at).get(first).op("i32.sub", "i64.extend_i32_u").get(matches).op("i64.sub").set(matches);
  }
  f.get(registers.count).get(matches).op("i64.add").set(registers.count);
}

/** Eight bytes a turn, into four tables. */
export function histogram(registers: Registers): void {
  const { f } = registers;
  f.op("block", "loop");
  f.get(registers.end).get(registers.at).op("i32.sub").i32(8).op("i32.lt_u").at("br_if", 1);
  for (let byte = 0; byte < 8; byte++) {
    const bins = Address.bins + (byte % BIN_TABLES) * 1024;
    f.get(registers.at).memory("i32.load8_u", byte).i32(2).op("i32.shl").at("local.tee", registers.value);
    f.get(registers.value).memory("i32.load", bins).i32(1).op("i32.add").memory("i32.store", bins);
  }
  f.get(registers.count).i64(8n).op("i64.add").set(registers.count);
  f.get(registers.at).i32(8).op("i32.add").set(registers.at).at("br", 0);
  f.op("end", "end");
}
