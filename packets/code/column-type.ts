/** The types of columns: what they are called, how many bytes a value has, and how it is read. All little-endian. */
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
