import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { refToHex, sha256 } from "../../../packets/digest.ts";
import { NAME_VERSIONS_MAX } from "../../../runtime/limits.ts";
import { Store } from "../../../runtime/store/store.ts";
import { chunkSourceSuite } from "../../suites/chunk-source.ts";
import {
  failure,
  filesIn,
  get,
  namesOf,
  put,
  randomBytes,
  readAll,
  repairNotes,
  segmentOf,
  temporaryDirectory,
} from "./store-fixture.ts";

chunkSourceSuite("a store", async () => {
  const directory = await temporaryDirectory();
  const store = await Store.open(directory.path);
  return {
    source: store,
    put: async (chunks) => {
      await using writer = await store.openWriter();
      const block = new Uint8Array(Buffer.concat(chunks));
      await writer.write(
        block,
        Uint32Array.from(chunks, (chunk) => chunk.byteLength),
      );
      await writer.flush();
    },
    damage: async (chunk) => {
      const segment = readFileSync(segmentOf(directory.path));
      const at = segment.indexOf(sha256(chunk)) + 50;
      segment[at] = segment[at]! ^ 4;
      writeFileSync(segmentOf(directory.path), segment);
    },
    close: async () => {
      await store.close();
      await directory[Symbol.asyncDispose]();
    },
  };
});

describe("opening", () => {
  test("makes a store where nothing is, and finds it again", async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, "deep", "down");
    const bytes = randomBytes("first", 100_000);
    {
      await using store = await Store.open(path);
      await put(store, "a", bytes);
    }
    const { events, notes } = repairNotes();
    await using store = await Store.open(path, { events });
    expect(notes).toEqual([]);
    expect(Buffer.compare(await get(store, "a"), bytes)).toBe(0);
  });

  test("refuses what is no store, and leaves it as it is", async () => {
    await using directory = await temporaryDirectory();
    writeFileSync(join(directory.path, "letter.txt"), "dear");
    const error = await failure(Store.open(directory.path));
    expect(error).toMatchObject({ code: "PFS_STORE_UNREADABLE", data: { directory: directory.path } });
    expect(filesIn(directory.path)).toEqual({ "letter.txt": 4 });
    expect(await failure(Store.open(join(directory.path, "letter.txt")))).toMatchObject({
      code: "PFS_STORE_UNREADABLE",
    });
  });

  test("refuses a version that it does not know, and one that is damaged beyond what the segments tell", async () => {
    await using directory = await temporaryDirectory();
    await (await Store.open(directory.path)).close();
    const format = join(directory.path, "format.json");
    const good = readFileSync(format, "utf8");
    writeFileSync(format, good.slice(0, 20));
    expect(await failure(Store.open(directory.path))).toMatchObject({ code: "PFS_STORE_UNREADABLE" });
    writeFileSync(format, good);
    await (await Store.open(directory.path)).close();
  });

  test.skipIf(process.getuid?.() === 0)("says why a directory cannot be used", async () => {
    await using directory = await temporaryDirectory();
    chmodSync(directory.path, 0o500);
    expect(await failure(Store.open(join(directory.path, "store")))).toMatchObject({
      code: "PFS_STORE_UNREADABLE",
    });
    chmodSync(directory.path, 0o700);
  });

  test("puts back a format file that was lost or hit, as long as there is a segment", async () => {
    await using directory = await temporaryDirectory();
    {
      await using store = await Store.open(directory.path);
      await put(store, "a", randomBytes("format", 50_000));
    }
    const format = join(directory.path, "format.json");
    const good = readFileSync(format);
    for (let at = 0; at < good.length; at += 13) {
      const hit = Buffer.from(good);
      hit[at] = hit[at]! ^ 1;
      writeFileSync(format, hit);
      await using store = await Store.open(directory.path);
      expect((await get(store, "a")).byteLength).toBe(50_000);
    }
    expect(readFileSync(format)).toEqual(good);
  });
});

describe("for reading only", () => {
  test("makes no file, before and after a writer was there", async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, "store");
    expect(await failure(Store.open(path, { readOnly: true }))).toMatchObject({
      code: "PFS_STORE_UNREADABLE",
    });
    expect(existsSync(path)).toBe(false);
    mkdirSync(path);
    expect(await failure(Store.open(path, { readOnly: true }))).toMatchObject({
      code: "PFS_STORE_UNREADABLE",
    });
    const bytes = randomBytes("only", 200_000);
    {
      await using store = await Store.open(path);
      await put(store, "a", bytes);
    }
    const before = filesIn(path);
    await using reader = await Store.open(path, { readOnly: true });
    expect(Buffer.compare(await get(reader, "a"), bytes)).toBe(0);
    expect(await namesOf(reader)).toEqual(["a"]);
    expect(await reader.verify()).toMatchObject({ damaged: [], incomplete: [] });
    expect(filesIn(path)).toEqual(before);
    expect(await failure(reader.openWriter())).toMatchObject({ code: "PFS_STORE_READ_ONLY" });
    expect(await failure(reader.catalog.remove("a"))).toMatchObject({ code: "PFS_STORE_READ_ONLY" });
    expect(await failure(reader.gc())).toMatchObject({ code: "PFS_STORE_READ_ONLY" });
  });

  test("sees what a writer adds, names and frees, also when that one comes later or goes", async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, "store");
    await (await Store.open(path)).close();
    const { events, notes } = repairNotes();
    await using reader = await Store.open(path, { readOnly: true, events });
    expect(await reader.catalog.resolve("a")).toBeUndefined();
    const first = randomBytes("reader 1", 700_000);
    const second = randomBytes("reader 2", 700_000);
    {
      await using writer = await Store.open(path);
      await put(writer, "a", first);
      expect(Buffer.compare(await get(reader, "a"), first)).toBe(0);
      await put(writer, "b", second);
      expect(Buffer.compare(await get(reader, "b"), second)).toBe(0);
      await writer.catalog.remove("a");
      expect(await reader.catalog.resolve("a")).toBeUndefined();
      expect((await writer.gc()).freedChunks).toBeGreaterThan(0);
      expect(Buffer.compare(await get(reader, "b"), second)).toBe(0);
    }
    expect(Buffer.compare(await get(reader, "b"), second)).toBe(0);
    {
      await using writer = await Store.open(path);
      await put(writer, "c", first);
    }
    expect(Buffer.compare(await get(reader, "c"), first)).toBe(0);
    expect(notes).toEqual([]);
  });
});

test("only one writes at a time, and the second learns who does", async () => {
  await using directory = await temporaryDirectory();
  const first = await Store.open(directory.path);
  const error = await failure(Store.open(directory.path, { lockWaitMs: 50 }));
  expect(error).toMatchObject({
    code: "PFS_STORE_BUSY",
    data: { directory: directory.path, pid: process.pid },
  });
  const waiting = Store.open(directory.path);
  await put(first, "a", randomBytes("busy", 1000));
  await first.close();
  await using second = await waiting;
  expect(await second.catalog.resolve("a")).toBeDefined();
});

test("a store that is closed says so, however often", async () => {
  await using directory = await temporaryDirectory();
  const store = await Store.open(directory.path);
  const writer = await store.openWriter();
  await store.close();
  await store.close();
  const closed = { code: "PFS_STORE_CLOSED" };
  expect(await failure(writer.flush())).toMatchObject(closed);
  expect(await failure(store.openWriter())).toMatchObject(closed);
  expect(await failure(store.read([sha256(Buffer.from("x"))]))).toMatchObject(closed);
  expect(await failure(store.catalog.resolve("a"))).toMatchObject(closed);
  await writer.close();
});

describe("names", () => {
  test("keep their latest versions, and start again after they were removed", async () => {
    await using directory = await temporaryDirectory();
    await using store = await Store.open(directory.path);
    const roots: string[] = [];
    for (let version = 1; version <= NAME_VERSIONS_MAX + 3; version++) {
      roots.push(refToHex((await put(store, "a", randomBytes(`v${version}`, 5000))).root));
    }
    const history = await store.catalog.history("a");
    expect(history.map(({ version }) => version)).toEqual([13, 12, 11, 10, 9, 8, 7, 6, 5, 4]);
    expect(history.map(({ root }) => refToHex(root))).toEqual(roots.toReversed().slice(0, NAME_VERSIONS_MAX));
    expect(await store.catalog.resolve("a")).toEqual(history[0]);
    expect((await readAll(store, history.at(-1)!.root)).byteLength).toBe(5000);
    expect(await store.catalog.remove("a")).toBe(true);
    expect(await store.catalog.resolve("a")).toBeUndefined();
    expect(await store.catalog.history("a")).toEqual([]);
    expect(await store.catalog.remove("a")).toBe(false);
    await put(store, "a", randomBytes("again", 10));
    expect((await store.catalog.history("a")).map(({ version }) => version)).toEqual([1]);
  });

  test("are listed in the order of their bytes, from a prefix and after a name", async () => {
    await using directory = await temporaryDirectory();
    await using store = await Store.open(directory.path);
    await using writer = await store.openWriter();
    const { root } = await put(store, "seed", randomBytes("list", 10));
    const many = Array.from({ length: 600 }, (_, index) => `m/${String(index).padStart(4, "0")}`);
    const names = ["Z", "a", "a/b", "a/c", "ab", "é", "\u{1F600}", "\uFFFD", "a/é", ...many];
    await Promise.all(names.map((name) => writer.bind({ name, root, length: 10 })));
    await store.catalog.remove("ab");
    const byBytes = [...names, "seed"]
      .filter((name) => name !== "ab")
      .toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    const listed = async (prefix?: string, after?: string): Promise<string[]> =>
      await namesOf(store, prefix, after);
    expect(await listed()).toEqual(byBytes);
    expect(await listed("a")).toEqual(["a", "a/b", "a/c", "a/é"]);
    expect(await listed("a/", "a/b")).toEqual(["a/c", "a/é"]);
    expect(await listed("m/")).toEqual(many);
    expect(await listed("m/", "m/0597")).toEqual(many.slice(598));
    expect(await listed("nothing")).toEqual([]);
    expect(await listed("\u{1F600}")).toEqual(["\u{1F600}"]);
    expect(store.statistics().names).toBe(byBytes.length);
  });

  test("are checked, and point only to what is there", async () => {
    await using directory = await temporaryDirectory();
    await using store = await Store.open(directory.path);
    await using writer = await store.openWriter();
    const { root } = await put(store, "a", randomBytes("check", 10));
    for (const name of ["", "../a", "a\nb", "\ud800", "x".repeat(1025)]) {
      expect(await failure(writer.bind({ name, root, length: 10 }))).toMatchObject({
        code: "PFS_NAME_INVALID",
      });
    }
    const nowhere = sha256(Buffer.from("nowhere"));
    expect(await failure(writer.bind({ name: "b", root: nowhere, length: 10 }))).toMatchObject({
      code: "PFS_CHUNK_MISSING",
      data: { ref: refToHex(nowhere) },
    });
    expect(await namesOf(store)).toEqual(["a"]);
  });
});

describe("a writer", () => {
  test("refuses blocks that its lengths do not cut into chunks", async () => {
    await using directory = await temporaryDirectory();
    await using store = await Store.open(directory.path);
    await using writer = await store.openWriter();
    for (const [size, lengths] of [
      [10, [5]],
      [10, [5, 6]],
      [10, [10, 0]],
      [1_048_577, [1_048_577]],
    ] as const) {
      await expect(writer.write(new Uint8Array(size), Uint32Array.from(lengths))).rejects.toThrow(RangeError);
    }
    expect(await writer.write(new Uint8Array(0), new Uint32Array(0))).toMatchObject({ newChunks: 0 });
  });

  test("stores a chunk once: in a block, in another, after it is in the index", async () => {
    await using directory = await temporaryDirectory();
    await using store = await Store.open(directory.path);
    await using writer = await store.openWriter();
    const chunk = randomBytes("once", 1000);
    const block = (): Uint8Array<ArrayBuffer> => Uint8Array.from(Buffer.concat([chunk, chunk]));
    const lengths = (): Uint32Array<ArrayBuffer> => Uint32Array.of(1000, 1000);
    expect(await writer.write(block(), lengths())).toMatchObject({ newChunks: 1, newBytes: 1000 });
    const again = await Promise.all([writer.write(block(), lengths()), writer.write(block(), lengths())]);
    expect(again.map(({ newChunks }) => newChunks)).toEqual([0, 0]);
    const ref = sha256(chunk);
    expect(Buffer.from(again[0]!.refs)).toEqual(Buffer.concat([ref, ref]));
    expect(await store.has(ref)).toEqual(Uint8Array.of(1));
    expect(await store.read([ref])).toEqual([Buffer.from(chunk)]);
    await writer.flush();
    expect(await writer.write(block(), lengths())).toMatchObject({ newChunks: 0 });
    const refs = Buffer.concat([ref, sha256(Buffer.from("nowhere"))]);
    expect(await writer.claim(refs)).toEqual(Uint8Array.of(1, 0));
    expect(await store.has(refs)).toEqual(Uint8Array.of(1, 0));
  });
});
