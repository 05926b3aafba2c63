import { describe, expect, it } from "vitest";
import { encodeManifest, parseManifest } from "../../../runtime/program/manifest.ts";
import { PROGRAM_ARGS_BYTES_MAX, PROGRAM_FILES_MAX } from "../../../runtime/limits.ts";
import type { Manifest } from "../../../runtime/program/program.ts";
import type { ReaderSpec } from "../../../runtime/program/readers.ts";

const READERS: readonly ReaderSpec[] = [
  { kind: "bytes" },
  { kind: "bytes", size: 16 },
  { kind: "blocks" },
  { kind: "lines" },
  { kind: "json-lines" },
  { kind: "lines", encoding: "utf-16be", raw: true },
  { kind: "records", separator: "0d0a", encoding: "latin1", overlapBytes: 7 },
  { kind: "json-lines", encoding: "utf-16le", bigint: true },
  { kind: "csv", separator: ";", header: true },
  {
    kind: "csv",
    separator: "§",
    header: false,
    columns: ["a", "b"],
    encoding: "latin1",
    quote: "'",
    escape: "\\",
    comment: "#",
    relaxQuotes: true,
    trim: false,
    ragged: "keep",
  },
  { kind: "csv", separator: ",", header: true, quote: "" },
  { kind: "columns", fields: [{ name: "x", type: "f64" }] },
];

function manifestOf(reader: ReaderSpec): Manifest {
  return {
    version: 1,
    kind: "js",
    name: "count",
    code: "ab".repeat(32),
    entry: "map",
    description: {
      reader,
      yields: "groups",
      hasCombine: true,
      hasReduce: false,
      hasTop: false,
      limits: { timeMs: 1000, memoryBytes: 1 << 26, outputBytes: 32, logBytes: 16 },
    },
    args: '{"a":[1,null]}',
  };
}

function encoded(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}

describe("a manifest", () => {
  it("survives its chunk, with every reader", () => {
    for (const reader of READERS) {
      const manifest = manifestOf(reader);
      expect(parseManifest(encodeManifest(manifest))).toEqual(manifest);
    }
  });

  it("has the same bytes whatever order its keys were written in", () => {
    for (const reader of READERS) {
      const manifest = manifestOf(reader);
      expect(encodeManifest(reversed(manifest))).toEqual(encodeManifest(manifest));
      expect(Object.keys(reversed(manifest))[0]).toBe("args");
    }
  });

  it("is refused when a part of it is not what it should be", () => {
    const good = manifestOf({ kind: "lines" });
    const { limits } = good.description;
    const bad: readonly unknown[] = [
      null,
      [],
      {},
      { ...good, version: 2 },
      { ...good, kind: "wasm" },
      { ...good, extra: 1 },
      { ...good, name: "" },
      { ...good, name: "ü".repeat(513) },
      { ...good, code: "AB".repeat(32) },
      { ...good, code: "ab" },
      { ...good, entry: "reduce" },
      { ...good, args: undefined },
      { ...good, description: { ...good.description, yields: "text" } },
      { ...good, description: { ...good.description, hasReduce: 1 } },
      ...[0, -1, 1.5, 10 ** 9, 2 ** 53, "1", null].map((timeMs) => ({
        ...good,
        description: { ...good.description, limits: { ...limits, timeMs } },
      })),
      ...[
        { kind: "pages" },
        { kind: "lines", size: 1 },
        { kind: "bytes", size: 0 },
        { kind: "bytes", size: 1024 * 1024 + 1 },
        { kind: "bytes", overlapBytes: 1 },
        { kind: "bytes", size: 1, overlapBytes: 0 },
        { kind: "lines", encoding: "utf8" },
        { kind: "lines", raw: 1 },
        { kind: "records" },
        { kind: "records", separator: "" },
        { kind: "records", separator: "0" },
        { kind: "records", separator: "0A" },
        { kind: "records", separator: "00".repeat(1025) },
        { kind: "records", separator: "0a", encoding: "utf-16le" },
        { kind: "records", separator: "ff", encoding: "utf-8" },
        { kind: "json-lines", bigint: "yes" },
        { kind: "csv", separator: "§", header: true },
        { kind: "csv", separator: "\u0100", header: true, encoding: "utf-16le" },
        { kind: "csv", separator: "😀", header: true },
        { kind: "csv", separator: ",", header: true, quote: "," },
        { kind: "csv", separator: ",", header: true, escape: "," },
        { kind: "csv", separator: ",", header: true, comment: '"' },
        { kind: "csv", separator: ",", header: true, quote: '""' },
        { kind: "csv", separator: ",", header: true, columns: [] },
        { kind: "csv", separator: ",", header: true, columns: ["a", "a"] },
        { kind: "csv", separator: ",", header: true, columns: [""] },
        { kind: "csv", separator: ",", header: true, ragged: "drop" },
        { kind: "csv", separator: '"', header: true },
        { kind: "csv", separator: "\n", header: true },
        { kind: "csv", separator: "ab", header: true },
        { kind: "csv", separator: "", header: true },
        { kind: "csv", separator: "," },
        { kind: "columns", fields: [] },
        { kind: "columns", fields: [{ name: "a", type: "u128" }] },
        {
          kind: "columns",
          fields: [
            { name: "a", type: "u8" },
            { name: "a", type: "u8" },
          ],
        },
      ].map((reader) => ({ ...good, description: { ...good.description, reader } })),
    ];
    for (const value of bad) {
      expect(() => parseManifest(encoded(value)), JSON.stringify(value)).toThrow(
        expect.objectContaining({ code: "PFS_PROGRAM_INVALID" }),
      );
    }
    for (const bytes of [new Uint8Array(), new Uint8Array([0xff, 0xfe]), encoded(good).subarray(1)]) {
      expect(() => parseManifest(bytes)).toThrow(expect.objectContaining({ code: "PFS_PROGRAM_INVALID" }));
    }
  });

  it("names the files that its program has, in one spelling, and which engine is to compute its kernels", () => {
    const [one, other] = ["12".repeat(32), "34".repeat(32)];
    const files = { b: { root: one, length: 7 }, a_1$: { root: other, length: 0 } };
    const manifest: Manifest = { ...manifestOf({ kind: "lines" }), engine: "gpu", files };
    const bytes = encodeManifest(manifest);
    expect(parseManifest(bytes)).toEqual(manifest);
    const { a_1$, b } = files;
    expect(encodeManifest({ ...manifest, files: { a_1$, b } })).toEqual(bytes);
    expect(encodeManifest({ ...manifest, files: { b, a_1$ }, engine: "cpu" })).not.toEqual(bytes);
  });

  it("is refused where its files are none", () => {
    const file = { root: "12".repeat(32), length: 7 };
    const many = Array.from({ length: PROGRAM_FILES_MAX + 1 }, (_, index) => [`f${index}`, file]);
    const names = ["", "0", "a b", "a-b", "é", "x".repeat(65), "constructor", "__proto__", "toString"];
    const bad = [
      {},
      Object.fromEntries(many),
      ...names.map((name) => JSON.parse(`{${JSON.stringify(name)}:${JSON.stringify(file)}}`) as unknown),
      { a: { ...file, root: "12" } },
      { a: { ...file, length: -1 } },
      { a: { ...file, length: 2 ** 53 } },
      { a: { ...file, more: 1 } },
    ];
    const good = JSON.parse(
      new TextDecoder().decode(encodeManifest(manifestOf({ kind: "lines" }))),
    ) as Manifest & { args: unknown };
    const { args, ...rest } = good;
    for (const files of bad) {
      expect(() => parseManifest(encoded({ ...rest, files, args })), JSON.stringify(files)).toThrow(
        expect.objectContaining({ code: "PFS_PROGRAM_INVALID" }),
      );
    }
    expect(() => parseManifest(encoded({ ...rest, engine: "auto", args }))).toThrow(
      expect.objectContaining({ code: "PFS_PROGRAM_INVALID" }),
    );
  });

  it("holds arguments up to their limit, however they are written as text", () => {
    for (const unit of ['"', "\\", "\n", "é", "x"]) {
      const fits = Math.floor(
        (PROGRAM_ARGS_BYTES_MAX - 8) / Buffer.byteLength(JSON.stringify(unit).slice(1, -1)),
      );
      const args = JSON.stringify([unit.repeat(fits)]);
      expect(Buffer.byteLength(args)).toBeLessThanOrEqual(PROGRAM_ARGS_BYTES_MAX);
      const manifest = { ...manifestOf({ kind: "lines" }), args };
      expect(parseManifest(encodeManifest(manifest))).toEqual(manifest);
    }
    const args = '{ "a" : [1.0, "\\u0041"] }';
    expect(parseManifest(encodeManifest({ ...manifestOf({ kind: "lines" }), args })).args).toBe(
      '{"a":[1,"A"]}',
    );
  });

  it("is refused when its arguments are no JSON, or nested without end", () => {
    for (const args of ["{", "", "undefined", "[".repeat(100_000) + "]".repeat(100_000)]) {
      expect(() => encodeManifest({ ...manifestOf({ kind: "lines" }), args })).toThrow(
        expect.objectContaining({ code: "PFS_PROGRAM_INVALID" }),
      );
    }
  });

  it("is refused when it is larger than a chunk", () => {
    const args = JSON.stringify("x".repeat(1024 * 1024));
    expect(() => encodeManifest({ ...manifestOf({ kind: "lines" }), args })).toThrow(
      expect.objectContaining({ code: "PFS_PROGRAM_INVALID" }),
    );
  });
});

/** The same value with the keys of its objects in the opposite order. */
function reversed<T>(value: T): T {
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map((item: unknown) => reversed(item)) as T;
  const entries = Object.entries(value).toReversed();
  return Object.fromEntries(entries.map(([key, item]: [string, unknown]) => [key, reversed(item)])) as T;
}
