/** Comparing bytes in memory with some that are known when a program is compiled. */
import type { FunctionBody } from "./assembler.ts";

/** Places that one instruction looks at. */
export const LANES = 16;
/** Needles of so few bytes are compared with all of a block's places at once. */
export const SHORT_NEEDLE_BYTES = 4;

/** Leaves a bit for each of the sixteen places from `at` on where the needle may stand. */
export function needleBits(f: FunctionBody, at: number, needle: Uint8Array): void {
  const last = needle.byteLength - 1;
  for (const index of new Set([0, Math.min(1, last), last])) {
    f.get(at).memory("v128.load", index).splat(needle[index]!).op("i8x16.eq");
    if (index > 0) f.op("v128.and");
  }
  f.op("i8x16.bitmask");
}

export function clearLowest(f: FunctionBody, bits: number): void {
  f.get(bits).get(bits).i32(1).op("i32.sub", "i32.and").set(bits);
}

/** Leaves 1 where these bytes stand `offset` behind the address in a local. */
export function equalsAt(f: FunctionBody, address: number, bytes: Uint8Array, offset: number): void {
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
