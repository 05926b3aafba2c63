/** Rows of a fixed size: one after the other, but for those of a byte that are looked at in blocks. */
import { ColumnType } from "../column-type.ts";
import { Aggregate, Filter } from "../format.ts";
import { byteBlocks, filtersBins, histogram, searchBlocks } from "./blocks.ts";
import { SHORT_NEEDLE_BYTES, equalsAt } from "./needles.ts";
import type { Registers } from "./registers.ts";

export function rows(registers: Registers): void {
  const { rowBytes, filter, filterType, aggregate, type, needle } = registers.code;
  const isBytes = rowBytes === 1;
  const isByteColumn = type === 0 || type === ColumnType.u8;
  const isByteFilter = filter === Filter.ALL || (filter === Filter.IN && filterType === ColumnType.u8);
  if (isBytes && filtersBins(registers.code)) histogram(registers);
  else if (isBytes && isByteFilter && isByteColumn && aggregate !== Aggregate.HISTOGRAM)
    byteBlocks(registers);
  else if (isBytes && filter === Filter.AT && aggregate === Aggregate.COUNT) {
    if (needle.byteLength <= SHORT_NEEDLE_BYTES) byteBlocks(registers);
    else searchBlocks(registers);
  }
  rowLoop(registers);
}

/** One row after the other: what the loops over blocks left, or everything. */
function rowLoop(registers: Registers): void {
  const { f } = registers;
  const { rowBytes } = registers.code;
  f.op("block", "loop");
  f.get(registers.at).get(registers.end).op("i32.ge_u").at("br_if", 1);
  rowPasses(registers);
  f.op("if");
  registers.addRow();
  f.op("end");
  f.get(registers.at).i32(rowBytes).op("i32.add").set(registers.at).at("br", 0);
  f.op("end", "end");
}

/** Leaves 1 on the stack where the row at `at` passes. */
function rowPasses(registers: Registers): void {
  const { f } = registers;
  const { filter, filterType, filterOffset, isNot, needle } = registers.code;
  // A histogram's values are looked at when it is complete.
  if (filter === Filter.ALL || filtersBins(registers.code)) return void f.i32(1);
  if (filter === Filter.IN) {
    registers.loadColumn(filterType as ColumnType, filterOffset);
    registers.isInRanges(filterType as ColumnType);
  } else equalsAt(f, registers.at, needle, filterOffset);
  if (isNot) f.op("i32.eqz");
}
