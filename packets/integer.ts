/** Unsigned little-endian integers of 8 bytes, read and written without BigInt. The only code that does so. */
const TWO_32 = 0x1_0000_0000;

/** Writes `value`, a safe integer of at least zero, at `offset`. */
export function writeInteger(bytes: Uint8Array, offset: number, value: number): void {
  const low = value >>> 0;
  const high = ((value - low) / TWO_32) >>> 0;
  bytes[offset] = low;
  bytes[offset + 1] = low >>> 8;
  bytes[offset + 2] = low >>> 16;
  bytes[offset + 3] = low >>> 24;
  bytes[offset + 4] = high;
  bytes[offset + 5] = high >>> 8;
  bytes[offset + 6] = high >>> 16;
  bytes[offset + 7] = high >>> 24;
}

/** The integer at `offset`. Above 2^53 - 1 it is inexact, but never rounds to a safe integer: check with isSafeInteger. */
export function readInteger(bytes: Uint8Array, offset: number): number {
  return readInteger32(bytes, offset + 4) * TWO_32 + readInteger32(bytes, offset);
}

/** Writes `value`, 0 to 2^32 - 1, at `offset`. */
export function writeInteger32(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value;
  bytes[offset + 1] = value >>> 8;
  bytes[offset + 2] = value >>> 16;
  bytes[offset + 3] = value >>> 24;
}

/** The unsigned 32-bit integer at `offset`. */
export function readInteger32(bytes: Uint8Array, offset: number): number {
  return (
    (bytes[offset]! | (bytes[offset + 1]! << 8) | (bytes[offset + 2]! << 16) | (bytes[offset + 3]! << 24)) >>>
    0
  );
}
