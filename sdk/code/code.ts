/** The builders of packet code, by their names: what `code.count("\n")` stands for. */
import * as builders from "./builders.ts";

const { anyOf, at, begins, bytes, columns, contains, count, crc32, ends, filter, hex, histogram, lines } =
  builders;
const { match, max, mean, min, not, range, rows, sum, xor } = builders;

type Builders = Omit<typeof builders, "PacketCode" | "Pattern" | "RowsCode" | "LinesCode">;

/** Everything that packet code is built with. */
export const code: Builders = {
  anyOf,
  at,
  begins,
  bytes,
  columns,
  contains,
  count,
  crc32,
  ends,
  filter,
  hex,
  histogram,
  lines,
  match,
  max,
  mean,
  min,
  not,
  range,
  rows,
  sum,
  xor,
};
