/** Numbers that kernels in JavaScript do not take, however the bytes come. */
import { expect, test } from "vitest";
import { ElementCheck } from "../../../runtime/accelerator/device/element-check.ts";
import { KERNEL_WHOLE_MAX } from "../../../runtime/limits.ts";

/** What is wrong with these, in pieces of so many bytes. */
function look(
  words: Int32Array | Uint32Array | Float32Array,
  type: "i32" | "u32" | "f32",
  pieceBytes: number,
): string | undefined {
  // Of a buffer, whose slices are no copies.
  const bytes = Buffer.from(words.buffer);
  const check = new ElementCheck({ name: "v", type });
  for (let at = 0; at < bytes.byteLength; at += pieceBytes) {
    const wrong = check.look(bytes.subarray(at, at + pieceBytes));
    if (wrong !== undefined) return wrong;
  }
  return undefined;
}

const PIECES = [1, 2, 3, 4, 5, 7, 8, 1000];

test.each(PIECES)("are found in pieces of %d bytes", (pieceBytes) => {
  const fine = Int32Array.of(0, 1, -1, KERNEL_WHOLE_MAX, -KERNEL_WHOLE_MAX, 5, 6);
  expect(look(fine, "i32", pieceBytes)).toBeUndefined();
  for (let at = 0; at < fine.length; at++) {
    const signed = Int32Array.from(fine);
    signed[at] = -KERNEL_WHOLE_MAX - 1;
    expect(look(signed, "i32", pieceBytes)).toContain(`the input v has -16777217 at ${at},`);
    const unsigned = Uint32Array.from(fine, Math.abs);
    expect(look(unsigned, "u32", pieceBytes)).toBeUndefined();
    unsigned[at] = 0xffff_ffff;
    expect(look(unsigned, "u32", pieceBytes)).toContain(`the input v has 4294967295 at ${at},`);
  }
});

test.each(PIECES)("and floats that engines take for others are found in pieces of %d bytes", (pieceBytes) => {
  const fine = Float32Array.of(0, -0, 2 ** -126, -(2 ** -126), 3.4028234663852886e38, 0.1, -7e9);
  expect(look(fine, "f32", pieceBytes)).toBeUndefined();
  for (const value of [NaN, Infinity, -Infinity, 2 ** -149, -(2 ** -127)]) {
    for (let at = 0; at < fine.length; at++) {
      const floats = Float32Array.from(fine);
      floats[at] = value;
      expect(look(floats, "f32", pieceBytes)).toContain(`the input v has ${value} at ${at},`);
    }
  }
});
