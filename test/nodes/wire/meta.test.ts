import { encode } from "@msgpack/msgpack";
import fc from "fast-check";
import * as v from "valibot";
import { describe, expect, test } from "vitest";
import { META_BYTES_MAX } from "../../../packets/limits.ts";
import { META_DEPTH_MAX, META_ITEMS_MAX } from "../../../nodes/limits.ts";
import { decodeMeta, encodeMeta, invalidMeta, readMeta } from "../../../nodes/wire/session/meta.ts";
import type { WireMessage } from "../../../nodes/wire/link.ts";

const plain = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 5 },
    fc.string(),
    fc.integer(),
    fc.maxSafeInteger(),
    fc.double({ noNaN: true }).filter((number) => !Object.is(number, -0)),
    fc.boolean(),
    fc.constant(null),
    fc.array(tie("value"), { maxLength: 6 }),
    fc.dictionary(
      fc.string().filter((key) => key !== "__proto__"),
      tie("value"),
      { maxKeys: 6 },
    ),
  ),
})).value;

test("plain values survive, numbers beyond 32 bits and bytes too", () => {
  fc.assert(
    fc.property(plain, (value) => {
      expect(decodeMeta(encodeMeta(value))).toEqual(value);
    }),
  );
  expect(decodeMeta(encodeMeta({ bytes: Uint8Array.of(1, 2), gone: undefined }))).toEqual({
    bytes: Uint8Array.of(1, 2),
  });
  expect(decodeMeta(new Uint8Array(0))).toBeUndefined();
});

test("the scan accepts what the decoder does, and never reads past the end", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      const reason = invalidMeta(bytes);
      if (reason !== null || bytes.byteLength === 0) return;
      // What passes may still be refused by the decoder (a map whose key is a list), but only with our error.
      try {
        decodeMeta(bytes);
      } catch (error) {
        expect(error).toMatchObject({ code: "PFS_META_INVALID" });
      }
    }),
    { numRuns: 3000 },
  );
  fc.assert(
    fc.property(plain, (value) => {
      expect(invalidMeta(encode(value))).toBeNull();
    }),
  );
});

test("any cut of valid metadata is refused", () => {
  const bytes = encodeMeta({
    list: [1, 300, 70_000, 2 ** 40, -1, -300, 1.5, "text", Uint8Array.of(1)],
    map: { a: {} },
  });
  for (let length = 1; length < bytes.byteLength; length++) {
    expect(() => decodeMeta(bytes.subarray(0, length))).toThrow(
      expect.objectContaining({ code: "PFS_META_INVALID" }),
    );
  }
  expect(invalidMeta(Buffer.concat([bytes, Uint8Array.of(0)]))).toBe("more bytes than one value");
});

describe("bombs are refused before anything is built", () => {
  const claims = [0xdd, 0xdf, 0xdb, 0xc6, 0xc9].map((format) =>
    Uint8Array.of(format, 0xff, 0xff, 0xff, 0xff, 0),
  );
  test.each<[string, Uint8Array]>([
    ["nested lists", new Uint8Array(META_BYTES_MAX).fill(0x91)],
    ["nested maps", new Uint8Array(META_BYTES_MAX).fill(0x81)],
    ["lists of lists", new Uint8Array(META_BYTES_MAX).fill(0x9f)],
    ["too many values", Buffer.concat([Uint8Array.of(0xdc, 0xff, 0xff), new Uint8Array(META_BYTES_MAX - 3)])],
    ["more than 64 KiB", new Uint8Array(META_BYTES_MAX + 1)],
    ...claims.map((bytes, index): [string, Uint8Array] => [`a claim of 4 GiB (${index})`, bytes]),
    ["an extension", Uint8Array.of(0xd6, 0xff, 0, 0, 0, 0)],
    ["the format that is never used", Uint8Array.of(0xc1)],
  ])("%s", (_title, bytes) => {
    const before = process.memoryUsage().heapUsed;
    for (let times = 0; times < 20; times++) expect(invalidMeta(bytes)).not.toBeNull();
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(32 * 1024 * 1024);
    expect(() => decodeMeta(bytes)).toThrow(expect.objectContaining({ code: "PFS_META_INVALID" }));
  });

  test("at the limits they pass", () => {
    const deep = Uint8Array.of(...Array.from({ length: META_DEPTH_MAX - 1 }, () => 0x91), 0);
    expect(invalidMeta(deep)).toBeNull();
    expect(invalidMeta(Buffer.concat([Uint8Array.of(0x91), deep]))).toBe("nested too deeply");
    const wide = (count: number): Uint8Array =>
      Buffer.concat([Uint8Array.of(0xdc, count >> 8, count), Buffer.alloc(count)]);
    expect(invalidMeta(wide(META_ITEMS_MAX - 1))).toBeNull();
    expect(invalidMeta(wide(META_ITEMS_MAX))).toBe("too many values");
  });

  test("names of the prototype are no keys", () => {
    expect(() => decodeMeta(encode(JSON.parse('{"__proto__": {"x": 1}}')))).toThrow("metadata is invalid");
  });
});

test("a message's metadata is read in the shape that is asked for", () => {
  const message = { meta: { lane: 3, list: [{ name: 1 }] } } as unknown as WireMessage;
  expect(readMeta(v.object({ lane: v.number() }), message)).toEqual({ lane: 3 });
  const schema = v.object({ list: v.array(v.object({ name: v.string() })) });
  expect(() => readMeta(schema, message)).toThrow(
    expect.objectContaining({ code: "PFS_META_INVALID", message: expect.stringContaining("list.0.name") }),
  );
  expect(() => readMeta(v.object({}), { ...message, meta: undefined })).toThrow("metadata is invalid");
});

test("too much metadata is refused when it is made", () => {
  expect(() => encodeMeta("x".repeat(META_BYTES_MAX))).toThrow(
    expect.objectContaining({
      code: "PFS_MESSAGE_TOO_LARGE",
      data: { bytes: META_BYTES_MAX + 5, limit: META_BYTES_MAX },
    }),
  );
});
