/** The sizes of fixed-size rows. */
import type { ColumnType, ReaderSpec } from "./program.ts";

const COLUMN_BYTES: Readonly<Record<ColumnType, number>> = {
  u8: 1,
  i8: 1,
  u16: 2,
  i16: 2,
  u32: 4,
  i32: 4,
  u64: 8,
  i64: 8,
  f32: 4,
  f64: 8,
};

/** Bytes of one row: its fields stand back to back. */
export function rowBytes({ fields }: Pick<ReaderSpec & { readonly kind: "columns" }, "fields">): number {
  return fields.reduce((bytes, { type }) => bytes + COLUMN_BYTES[type], 0);
}
