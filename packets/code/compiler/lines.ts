/** Lines: their separators are found sixteen places at a time. */
import { ColumnType } from "../column-type.ts";
import { Aggregate, Filter } from "../format.ts";
import type { Code } from "../format.ts";
import { FunctionBody, ValueType } from "./assembler.ts";
import { byteBlocks } from "./blocks.ts";
import { LANES, clearLowest, equalsAt, needleBits } from "./needles.ts";
import type { Registers } from "./registers.ts";

/** Lines of which nothing but their number is asked are counted by what ends them. */
function countLines(registers: Registers): void {
  const { f } = registers;
  const separator = registers.code.separator[0]!;
  byteBlocks(registers, (block) => void f.get(block).splat(separator).op("i8x16.eq"));
  const isSeparator = (): void => void f.memory("i32.load8_u", 0).i32(separator).op("i32.eq");
  f.op("block", "loop");
  f.get(registers.at).get(registers.end).op("i32.ge_u").at("br_if", 1);
  f.get(registers.at);
  isSeparator();
  f.op("i64.extend_i32_u").get(registers.count).op("i64.add").set(registers.count);
  f.get(registers.at).i32(1).op("i32.add").set(registers.at).at("br", 0);
  f.op("end", "end");
  // The line that is not whole begins behind the last of them.
  f.op("block", "loop");
  f.get(registers.at).get(registers.start).op("i32.eq").at("br_if", 1);
  f.get(registers.at).i32(1).op("i32.sub");
  isSeparator();
  f.at("br_if", 1);
  f.get(registers.at).i32(1).op("i32.sub").set(registers.at).at("br", 0);
  f.op("end", "end");
}

/** `at` is where a line begins; `behind` goes on to its separator. */
export function lines(registers: Registers): void {
  const { f } = registers;
  const { separator, filter, aggregate } = registers.code;
  const bytes = separator.byteLength;
  if (bytes === 1 && filter === Filter.ALL && aggregate === Aggregate.COUNT) return countLines(registers);
  f.get(registers.at).set(registers.behind);
  f.op("block", "loop");
  f.get(registers.end)
    .get(registers.behind)
    .op("i32.sub")
    .i32(LANES + bytes - 1)
    .op("i32.lt_u")
    .at("br_if", 1);
  for (const [index, byte] of separator.entries()) {
    f.get(registers.behind).memory("v128.load", index).splat(byte).op("i8x16.eq");
    if (index > 0) f.op("v128.and");
  }
  f.op("i8x16.bitmask").set(registers.bits);
  const block = f.local(ValueType.i32);
  f.get(registers.behind).set(block);
  f.op("block", "loop");
  f.get(registers.bits).op("i32.eqz").at("br_if", 1);
  f.get(block).get(registers.bits).op("i32.ctz", "i32.add").set(registers.behind);
  clearLowest(f, registers.bits);
  addLine(registers);
  f.at("br", 0).op("end", "end");
  f.get(block).i32(LANES).op("i32.add").set(registers.behind).at("br", 0);
  f.op("end", "end");
  // What is left is less than a block.
  f.op("block", "loop");
  f.get(registers.behind).i32(bytes).op("i32.add").get(registers.end).op("i32.gt_u").at("br_if", 1);
  equalsAt(f, registers.behind, separator, 0);
  f.op("if");
  addLine(registers);
  f.op("end");
  f.get(registers.behind).i32(1).op("i32.add").set(registers.behind).at("br", 0);
  f.op("end", "end");
}

/** The line from `at` to `behind`; the next one begins behind its separator. */
function addLine(registers: Registers): void {
  const { f } = registers;
  const { filter, isNot, needle, type, separator } = registers.code;
  f.get(registers.behind).get(registers.at).op("i32.sub").set(registers.value);
  const isLong = (): void => void f.get(registers.value).i32(needle.byteLength).op("i32.ge_u");
  switch (filter) {
    case Filter.IN:
      registers.isInRanges(ColumnType.u32);
      break;
    case Filter.BEGINS:
      isLong();
      equalsAt(f, registers.at, needle, 0);
      f.op("i32.and");
      break;
    case Filter.ENDS:
      isLong();
      // Before the memory's beginning there is nothing, and a line stands far behind it.
      f.get(registers.behind).i32(needle.byteLength).op("i32.sub").set(registers.ending);
      equalsAt(f, registers.ending, needle, 0);
      f.op("i32.and");
      break;
    case Filter.CONTAINS:
      f.get(registers.at).get(registers.behind).at("call", 1);
      break;
    default:
      f.i32(1);
  }
  if (isNot) f.op("i32.eqz");
  f.op("if");
  f.get(registers.count).i64(1n).op("i64.add").set(registers.count);
  if (type !== 0) registers.addValue(ColumnType.u32);
  f.op("end");
  f.get(registers.behind).i32(separator.byteLength).op("i32.add").set(registers.at);
}

/** (start, end) → whether the needle stands between them. */
export function containsFunction({ needle }: Code): FunctionBody {
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
