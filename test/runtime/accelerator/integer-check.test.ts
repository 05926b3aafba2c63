/** Integers that floats do not have, however the bytes come. */
import { expect, test } from "vitest";
import { IntegerCheck } from "../../../runtime/accelerator/device/integer-check.ts";
import { KERNEL_WHOLE_MAX } from "../../../runtime/limits.ts";

/** What is wrong with these, in pieces of so many bytes. */
function look(words: Int32Array | Uint32Array, isSigned: boolean, pieceBytes: number): string | undefined {
  // Of a buffer, whose slices are no copies.
  const bytes = Buffer.from(words.buffer);
  const check = new IntegerCheck({ name: "v", isSigned });
  for (let at = 0; at < bytes.byteLength; at += pieceBytes) {
    const wrong = check.look(bytes.subarray(at, at + pieceBytes));
    if (wrong !== undefined) return wrong;
  }
  return undefined;
}

const PIECES = [1, 2, 3, 4, 5, 7, 8, 1000];

test.each(PIECES)("are found in pieces of %d bytes", (pieceBytes) => {
  const fine = Int32Array.of(0, 1, -1, KERNEL_WHOLE_MAX, -KERNEL_WHOLE_MAX, 5, 6);
  expect(look(fine, true, pieceBytes)).toBeUndefined();
  for (let at = 0; at < fine.length; at++) {
    const signed = Int32Array.from(fine);
    signed[at] = -KERNEL_WHOLE_MAX - 1;
    expect(look(signed, true, pieceBytes)).toContain(`the input v has -16777217 at ${at},`);
    const unsigned = Uint32Array.from(fine, Math.abs);
    expect(look(unsigned, false, pieceBytes)).toBeUndefined();
    unsigned[at] = 0xffff_ffff;
    expect(look(unsigned, false, pieceBytes)).toContain(`the input v has 4294967295 at ${at},`);
  }
});
