import { describe, expect, test } from "vitest";
import { refAt, refToHex, sha256 } from "../../../packets/digest.ts";
import type { Ref } from "../../../packets/digest.ts";
import { Flag, Op } from "../../../packets/layout.ts";
import { encodeFrame } from "../../../packets/packet.ts";
import { encodeManifest } from "../../../runtime/program/manifest.ts";
import { PROGRAM_LIMITS_DEFAULT } from "../../../runtime/limits.ts";
import { checkExtents, firstMissing, reachable, walkStreams } from "../../../runtime/stream/walk.ts";
import type { ChunkSizes } from "../../../runtime/contracts/chunks.ts";
import { CALL_DEPTH_MAX } from "../../../packets/limits.ts";
import type { ReachableOptions } from "../../../runtime/stream/walk.ts";
import { seededBytes } from "../../packets/seed.ts";
import { failure } from "../store/store-fixture.ts";
import { ShelfSource } from "./shelf-source.ts";

async function reached(
  source: ShelfSource,
  roots: Ref | Ref[],
  options?: ReachableOptions,
): Promise<string[]> {
  const refs: string[] = [];
  for await (const batch of reachable(source, roots, options)) {
    for (let index = 0; index < batch.byteLength / 32; index++) refs.push(refToHex(refAt(batch, index)));
  }
  return refs;
}

const sorted = (refs: Iterable<Ref>): string[] => [...refs].map(refToHex).toSorted();

describe("walking a stream", () => {
  test("meets the top first, then what each CALL calls, where it stands in the output", async () => {
    const source = new ShelfSource();
    const { shelf } = source;
    const chunk = shelf.put(seededBytes("walk", 100));
    const a = shelf.write((writer) => writer.copy(chunk, 0, 60));
    const b = shelf.write((writer) => {
      writer.copy(chunk, 3, 30);
      writer.call(a.root, 10, 50);
    });
    const top = shelf.write((writer) => {
      writer.call(a.root, 0, 60);
      writer.fill(new Uint8Array(1), 1000);
      writer.call(b.root, 0, 80);
    });
    const met: [string, number, number][] = [];
    for await (const { ref, depth, at, frame } of walkStreams(source, top.root)) {
      expect(sha256(frame)).toEqual(Uint8Array.from(ref));
      met.push([refToHex(ref), depth, at]);
    }
    expect(met).toEqual([
      [refToHex(top.root), 0, 0],
      [refToHex(a.root), 1, 0],
      [refToHex(b.root), 1, 1060],
      [refToHex(a.root), 2, 1090],
    ]);
  });

  test("checks what it meets", async () => {
    const source = new ShelfSource();
    const short = source.shelf.write((writer) => writer.data(Uint8Array.of(1, 2, 3)));
    const top = source.shelf.write((writer) => writer.call(short.root, 0, 4));
    const walk = async (): Promise<void> => {
      for await (const { depth } of walkStreams(source, top.root)) expect(depth).toBe(0);
    };
    expect(await failure(walk())).toMatchObject({ code: "PFS_STREAM_INVALID" });
    const signal = AbortSignal.abort(new Error("enough"));
    await expect(walkStreams(source, top.root, signal).next()).rejects.toThrow("enough");
  });
});

describe("what a stream needs", () => {
  test("is every chunk and stream below it, each stream once", async () => {
    const source = new ShelfSource();
    const chunks = Array.from({ length: 9000 }, (_, index) => sha256(Buffer.from(`chunk ${index}`)));
    const streams: Ref[] = [];
    const { shelf } = source;
    const long = shelf.write((writer) => chunks.forEach((ref) => writer.copy(ref, 0, 10)));
    for await (const { ref } of walkStreams(source, long.root)) streams.push(ref);
    const top = shelf.write((writer) => {
      for (let index = 0; index < 30; index++) writer.call(long.root, index, 1000);
    });
    source.calls = [];
    const all = await reached(source, top.root);
    expect(all.toSorted()).toEqual(sorted([...chunks, ...streams, top.root]));
    expect(source.calls.flat()).toHaveLength(streams.length + 1);
  });

  test("is one chunk once for many pieces in a row", async () => {
    const source = new ShelfSource();
    const [one, two] = [sha256(Buffer.from("one")), sha256(Buffer.from("two"))];
    const patch = source.shelf.write((writer) => {
      for (let index = 0; index < 100; index++) writer.copy(index < 60 ? one : two, index * 10, 5);
    });
    expect(await reached(source, patch.root)).toEqual([patch.root, one, two].map(refToHex));
  });

  test("is looked for once through many roots", async () => {
    const source = new ShelfSource();
    const shared = source.shelf.write((writer) => writer.copy(sha256(Buffer.from("shared")), 0, 10));
    const roots = Array.from(
      { length: 50 },
      (_, index) =>
        source.shelf.write((writer) => {
          writer.data(Uint8Array.of(index));
          writer.call(shared.root, 0, 10);
        }).root,
    );
    const seen = new Set<string>();
    const all = await reached(source, roots, { seen });
    expect(all.toSorted()).toEqual(sorted([...roots, shared.root, sha256(Buffer.from("shared"))]));
    expect(source.count(shared.root)).toBe(1);
    expect(await reached(source, roots.slice(0, 10), { seen })).toEqual([]);
  });

  test("is program, code, files and inputs of a derived stream too", async () => {
    const source = new ShelfSource();
    const { shelf } = source;
    const codeChunk = shelf.put(Buffer.from("export default {}"));
    const code = shelf.write((writer) => writer.copy(codeChunk, 0, 17));
    const fileChunk = sha256(Buffer.from("file"));
    const file = shelf.write((writer) => writer.copy(fileChunk, 0, 4));
    const manifest = shelf.put(
      encodeManifest({
        version: 1,
        kind: "js",
        name: "p",
        code: refToHex(code.root),
        entry: "map",
        description: {
          reader: { kind: "bytes" },
          yields: "value",
          hasCombine: false,
          hasReduce: false,
          hasTop: false,
          limits: PROGRAM_LIMITS_DEFAULT,
        },
        files: { f: { root: refToHex(file.root), length: 4 } },
        args: "null",
      }),
    );
    const inputChunk = sha256(Buffer.from("input"));
    const input = shelf.write((writer) => writer.copy(inputChunk, 0, 5));
    const loose = sha256(Buffer.from("loose"));
    const noManifest = shelf.put(Buffer.from("no manifest"));
    const root = shelf.put(
      encodeFrame([
        { op: Op.LOAD, lane: 1, ref: manifest },
        { op: Op.LOAD, lane: 2, ref: noManifest },
        { op: Op.EXEC, lane: 1, flags: Flag.STREAM, length: 5, ref: input.root },
        { op: Op.EXEC, lane: 2, at: 1, length: 5, ref: loose },
        { op: Op.HALT, flags: Flag.OPEN, at: 4 },
      ]),
    );
    const program = [manifest, code.root, codeChunk, file.root, fileChunk];
    const expected = [root, ...program, noManifest, input.root, inputChunk, loose];
    expect((await reached(source, root)).toSorted()).toEqual(sorted(expected));
  });

  test("cannot be said when a stream is missing or is none", async () => {
    const source = new ShelfSource();
    const nowhere = sha256(Buffer.from("nowhere"));
    const top = source.shelf.write((writer) => writer.call(nowhere, 0, 1));
    expect(await failure(reached(source, top.root))).toMatchObject({
      code: "PFS_CHUNK_MISSING",
      data: { ref: refToHex(nowhere) },
    });
    const none = source.shelf.put(seededBytes("none", 64));
    expect(await failure(reached(source, none))).toMatchObject({ code: "PFS_PACKET_INVALID" });
  });

  test("is all there, or lacks a chunk that can be told, at any depth and of any kind", async () => {
    const source = new ShelfSource();
    const { shelf } = source;
    const [one, two] = [sha256(Buffer.from("one")), sha256(Buffer.from("two"))];
    const deep = shelf.write((writer) => writer.copy(two, 0, 1));
    const top = shelf.write((writer) => {
      writer.copy(one, 0, 1);
      writer.call(deep.root, 0, 1);
    });
    const without =
      (...gone: Ref[]) =>
      async (refs: Uint8Array): Promise<Uint8Array> =>
        Uint8Array.from({ length: refs.byteLength / 32 }, (_, index) =>
          gone.some((ref) => refToHex(ref) === refToHex(refAt(refs, index))) ? 0 : 1,
        );
    expect(await firstMissing(source, top.root, without())).toBeUndefined();
    expect(await firstMissing(source, top.root, without(sha256(Buffer.from("other"))))).toBeUndefined();
    for (const ref of [one, two, deep.root, top.root]) {
      expect(refToHex((await firstMissing(source, top.root, without(ref)))!)).toBe(refToHex(ref));
    }
  });
});

describe("extents", () => {
  const sized = (source: ShelfSource): ChunkSizes => ({
    sizes: async (refs) =>
      Float64Array.from({ length: refs.byteLength / 32 }, (_, index) => {
        const ref = refAt(refs, index);
        return source.shelf.has(ref) ? source.shelf.get(ref).byteLength : 0;
      }),
  });

  test("of a stream that can be read are right, each of its streams read once", async () => {
    const source = new ShelfSource();
    const { shelf } = source;
    const chunk = shelf.put(seededBytes("extents", 100));
    let { root, length } = shelf.write((writer) => writer.copy(chunk, 10, 90));
    for (let level = 0; level < CALL_DEPTH_MAX; level++) {
      const [below, bytes] = [root, length];
      ({ root, length } = shelf.write((writer) => {
        for (let call = 0; call < 40; call++) writer.call(below, 1, bytes - 1);
      }));
    }
    source.calls = [];
    await checkExtents(source, root, sized(source));
    expect(source.calls).toHaveLength(CALL_DEPTH_MAX + 1);
    const deeper = shelf.write((writer) => writer.call(root, 0, 5));
    await expect(checkExtents(source, deeper.root, sized(source))).rejects.toMatchObject({
      code: "PFS_STREAM_OVER_LIMIT",
    });
  });

  test("beyond a chunk or a sub-stream are found, wherever they stand; those of chunks that are elsewhere are not", async () => {
    const source = new ShelfSource();
    const { shelf } = source;
    const chunk = shelf.put(seededBytes("extents", 100));
    const elsewhere = sha256(seededBytes("elsewhere", 100));
    const good = shelf.write((writer) => writer.copy(chunk, 0, 100));
    const beyond = [
      shelf.write((writer) => writer.copy(chunk, 0, 101)),
      shelf.write((writer) => writer.copy(chunk, 100, 1)),
      shelf.write((writer) => writer.call(good.root, 0, 101)),
    ];
    for (const { root, length } of beyond) {
      const above = shelf.write((writer) => {
        for (let call = 0; call < 100; call++) writer.call(good.root, 0, 100);
        writer.call(root, 0, length);
      });
      for (const each of [root, above.root]) {
        await expect(checkExtents(source, each, sized(source))).rejects.toMatchObject({
          code: "PFS_STREAM_INVALID",
        });
      }
    }
    const far = shelf.write((writer) => writer.copy(elsewhere, 0, 1000));
    await checkExtents(source, far.root, sized(source));
  });
});
