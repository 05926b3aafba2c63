/** The types of columns: what they are called, which values they have, and how those stand in bytes. All little-endian. */
export const ColumnType = {
  u8: 1,
  i8: 2,
  u16: 3,
  i16: 4,
  u32: 5,
  i32: 6,
  u64: 7,
  i64: 8,
  f32: 9,
  f64: 10,
} as const;
export type ColumnType = (typeof ColumnType)[keyof typeof ColumnType];
export type ColumnTypeName = keyof typeof ColumnType;

const BYTES: readonly number[] = [0, 1, 1, 2, 2, 4, 4, 8, 8, 4, 8];

/** Bytes of a value; 0 for a number that is no type. */
export function valueBytes(type: ColumnType | 0): number {
  return BYTES[type] ?? 0;
}

/** Whether values are not integers. */
export function isFloat(type: ColumnType | 0): boolean {
  return type === ColumnType.f32 || type === ColumnType.f64;
}

/** The type that an integer of this one is widened to, with its sign. */
export function wideTypeOf(type: ColumnType | 0): ColumnType {
  const isSigned = type === ColumnType.i8 || type === ColumnType.i16 || type === ColumnType.i32;
  return isSigned || type === ColumnType.i64 ? ColumnType.i64 : ColumnType.u64;
}

/** A range of values, both ends in it; bigints where the type has 64-bit integers. */
export interface ValueRange {
  readonly low: number | bigint;
  readonly high: number | bigint;
}

/** The least and the largest value of a type. */
export function valuesOf(type: ColumnType): ValueRange {
  const bits = 8 * valueBytes(type);
  switch (type) {
    case ColumnType.f32:
    case ColumnType.f64:
      return { low: -Infinity, high: Infinity };
    case ColumnType.u64:
      return { low: 0n, high: (1n << 64n) - 1n };
    case ColumnType.i64:
      return { low: -(1n << 63n), high: (1n << 63n) - 1n };
    case ColumnType.i8:
    case ColumnType.i16:
    case ColumnType.i32:
      return { low: -(2 ** (bits - 1)), high: 2 ** (bits - 1) - 1 };
    default:
      return { low: 0, high: 2 ** bits - 1 };
  }
}

/** The value at `at`: a bigint where the type has 64-bit integers. */
export function readValue(bytes: Uint8Array, at: number, type: ColumnType): number | bigint {
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, valueBytes(type));
  switch (type) {
    case ColumnType.u8:
      return view.getUint8(0);
    case ColumnType.i8:
      return view.getInt8(0);
    case ColumnType.u16:
      return view.getUint16(0, true);
    case ColumnType.i16:
      return view.getInt16(0, true);
    case ColumnType.u32:
      return view.getUint32(0, true);
    case ColumnType.i32:
      return view.getInt32(0, true);
    case ColumnType.u64:
      return view.getBigUint64(0, true);
    case ColumnType.i64:
      return view.getBigInt64(0, true);
    case ColumnType.f32:
      return view.getFloat32(0, true);
    case ColumnType.f64:
      return view.getFloat64(0, true);
  }
}

/** Writes a value that the type can hold; of another one its low bits. */
export function writeValue(bytes: Uint8Array, at: number, type: ColumnType, value: number | bigint): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, valueBytes(type));
  switch (type) {
    case ColumnType.u8:
    case ColumnType.i8:
      return view.setUint8(0, Number(value));
    case ColumnType.u16:
    case ColumnType.i16:
      return view.setUint16(0, Number(value), true);
    case ColumnType.u32:
    case ColumnType.i32:
      return view.setUint32(0, Number(value), true);
    case ColumnType.u64:
    case ColumnType.i64:
      return view.setBigUint64(0, BigInt.asUintN(64, BigInt(value)), true);
    case ColumnType.f32:
      return view.setFloat32(0, Number(value), true);
    case ColumnType.f64:
      return view.setFloat64(0, Number(value), true);
  }
}
