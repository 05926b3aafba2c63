/**
 * Records that are many at once: rows of numbers, and bytes, as kernels take them. What is in one is not read unless the program
 * looks at it: a kernel that a GPU computes gets it from the file itself.
 *
 *   matrix({ type: "f32", columns: 256 })               // a record is as many rows as a split has
 *   matrix({ type: "f32", columns: 256, rows: 4096 })   // 4,096 rows, the last record of a file what is left
 *   block()                                             // all bytes of a split
 *   columns({ id: "u32", x: "f32" }, { rows: 65536 })   // rows whose columns are read as typed arrays
 */
import type { ElementType } from "../runtime/program/kernel/kernel.ts";
import type { ColumnType } from "../runtime/program/readers.ts";

/** Bytes of a file. */
export interface Block {
  /** In bytes. */
  readonly length: number;
  /** A copy of them, read when it is first asked for; what is written to it changes nothing for kernels. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** A part of it, from byte `start` on, `end` excluded. */
  slice(start: number, end?: number): Block;
}

/** Elements by type: the typed array that holds them. */
export interface ElementArrays {
  readonly f32: Float32Array<ArrayBuffer>;
  readonly i32: Int32Array<ArrayBuffer>;
  readonly u32: Uint32Array<ArrayBuffer>;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** Rows of numbers, little-endian, one behind the other. */
export interface Matrix<Type extends ElementType = ElementType> {
  readonly type: Type;
  readonly rows: number;
  readonly columns: number;
  /** A copy of all elements, read when it is first asked for; what is written to it changes nothing for kernels. */
  readonly values: ElementArrays[Type];
  /** Some of its rows, `end` excluded. */
  slice(start: number, end?: number): Matrix<Type>;
}

/** By type of column: the typed array that holds one. */
interface ColumnArrays {
  readonly u8: Uint8Array<ArrayBuffer>;
  readonly i8: Int8Array<ArrayBuffer>;
  readonly u16: Uint16Array<ArrayBuffer>;
  readonly i16: Int16Array<ArrayBuffer>;
  readonly u32: Uint32Array<ArrayBuffer>;
  readonly i32: Int32Array<ArrayBuffer>;
  readonly u64: BigUint64Array<ArrayBuffer>;
  readonly i64: BigInt64Array<ArrayBuffer>;
  readonly f32: Float32Array<ArrayBuffer>;
  readonly f64: Float64Array<ArrayBuffer>;
}

/** Rows of binary fields: the record of `columns(fields, { rows })`. */
export interface RowBlock<Fields extends Readonly<Record<string, ColumnType>>> extends Block {
  readonly rows: number;
  /** One field of all rows, as an array of its own. */
  column<Name extends keyof Fields & string>(name: Name): ColumnArrays[Fields[Name]];
}

/** A stored file that a job was given beside its input: `run(program, input, { files: { b: "b.f32" } })`. */
export interface StoredFile extends Block {
  /** Its bytes as rows of so many numbers. A file that ends within a row is a RangeError. */
  matrix<Type extends ElementType>(options: { readonly type: Type; readonly columns: number }): Matrix<Type>;
}
