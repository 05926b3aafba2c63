/** Many bytes are read and verified by threads, of which whoever reads notices nothing. */
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { open as openFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import type { Worker } from "node:worker_threads";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Codec, decompress } from "../../../packets/codec.ts";
import { refAt, refKey, refToHex } from "../../../packets/digest.ts";
import type { Ref } from "../../../packets/digest.ts";
import { CHUNK_BYTES_MAX } from "../../../packets/limits.ts";
import { READ_ASIDE_BYTES_BEFORE, READ_ASIDE_BYTES_MIN } from "../../../runtime/limits.ts";
import type { ChunkPlacer } from "../../../runtime/contracts/chunks.ts";
import { Store } from "../../../runtime/store/store.ts";
import { execute } from "../../../runtime/stream/execute.ts";
import { executeInto } from "../../../runtime/stream/execute-into.ts";
import { reachable } from "../../../runtime/stream/walk.ts";
import {
  collect,
  put,
  randomBytes,
  readAll,
  segmentOf,
  temporaryDirectory,
  textBytes,
} from "./store-fixture.ts";
import type { TemporaryDirectory } from "./store-fixture.ts";

/** Rows of both kinds of chunks, those that are compressed and those that are not, next to each other. */
const PART_BYTES: number = 700_000;
const BYTES: Uint8Array<ArrayBuffer> = Uint8Array.from(
  Buffer.concat(
    Array.from({ length: 12 }, (_, part) =>
      part % 3 === 2 ? textBytes(PART_BYTES) : randomBytes(`aside ${part}`, PART_BYTES),
    ),
  ),
);

/** Threads that were started since, which read for stores unless they write one. */
const started: { readonly worker: Worker; readonly online: Promise<unknown> }[] = [];
const onWorker = (worker: Worker): void => void started.push({ worker, online: once(worker, "online") });

async function readersOf(work: () => Promise<unknown>): Promise<typeof started> {
  const before = started.length;
  await work();
  return started.slice(before);
}

/** A store with the bytes, which has threads that read. */
interface Opened extends AsyncDisposable {
  readonly store: Store;
  readonly root: Ref;
  readonly readers: readonly Worker[];
}

async function open({ path }: TemporaryDirectory): Promise<Opened> {
  const store = await Store.open(path);
  const { root } = await put(store, "bytes", BYTES);
  const readers = await readersOf(async () => {
    for (let bytes = 0; bytes < READ_ASIDE_BYTES_BEFORE + BYTES.byteLength; bytes += BYTES.byteLength) {
      await readAll(store, root);
    }
  });
  await Promise.all(readers.map(({ online }) => online));
  return {
    store,
    root,
    readers: readers.map(({ worker }) => worker),
    [Symbol.asyncDispose]: () => store.close(),
  };
}

async function refsOf({ store, root }: Opened): Promise<Ref[]> {
  const refs = new Map<string, Ref>();
  for await (const some of reachable(store, root)) {
    for (let at = 0; at < some.byteLength; at += 32) {
      const ref = some.subarray(at, at + 32);
      refs.set(refKey(ref), ref);
    }
  }
  return [...refs.values()];
}

beforeAll(() => void process.on("worker", onWorker));
afterAll(() => void process.off("worker", onWorker));

describe.skipIf(availableParallelism() < 2)("threads that read", () => {
  test("are there for many bytes alone, and end with the store", async () => {
    await using directory = await temporaryDirectory();
    const opened = await open(directory);
    expect(opened.readers.length).toBeGreaterThan(0);
    const ends = opened.readers.map((reader) => once(reader, "exit"));
    await opened.store.close();
    await Promise.all(ends);
    await using store = await Store.open(directory.path, { readOnly: true });
    const few = await readersOf(async () => {
      for (let bytes = 0; bytes < 2 * READ_ASIDE_BYTES_BEFORE; bytes += READ_ASIDE_BYTES_MIN / 2)
        await collect(execute(store, opened.root, { end: READ_ASIDE_BYTES_MIN / 2 }));
    });
    expect(few).toEqual([]);
  });

  test("read what the caller would have read, plain and as it is stored", async () => {
    await using directory = await temporaryDirectory();
    await using opened = await open(directory);
    const { store, root } = opened;
    expect(Buffer.compare(await readAll(store, root), BYTES)).toBe(0);
    const range = { start: 1_234_567, end: 7_654_321 };
    expect(Buffer.compare(await readAll(store, root, range), BYTES.subarray(range.start, range.end))).toBe(0);
    const refs = await refsOf(opened);
    const plain = await store.read(refs);
    const stored = await store.readStored(refs);
    expect(new Set(stored.map(({ codec }) => codec))).toEqual(new Set([Codec.plain, Codec.zstd]));
    for (const [index, { bytes, codec, plainBytes }] of stored.entries())
      expect(Buffer.compare(decompress(bytes, codec, plainBytes)!, plain[index]!)).toBe(0);
  });

  test("write them where they belong in a file, and nothing that is wrong", async () => {
    await using directory = await temporaryDirectory();
    await using opened = await open(directory);
    const { store, root } = opened;
    const path = join(directory.path, "out");
    await using target = await openFile(path, "w+");
    const calls: boolean[] = [];
    const watching: ChunkPlacer = {
      read: (refs, signal) => store.read(refs, signal),
      place: async (...what) => {
        const done = await store.place(...what);
        calls.push(done);
        return done;
      },
    };
    expect(await executeInto(watching, root, target.fd)).toBe(BYTES.byteLength);
    expect(Buffer.compare(readFileSync(path), BYTES)).toBe(0);
    expect(new Set(calls)).toEqual(new Set([true]));
    const range = { start: 1_234_567, end: 7_654_321 };
    expect(await executeInto(store, root, target.fd, range)).toBe(range.end - range.start);
    const expected = Buffer.concat([
      BYTES.subarray(range.start, range.end),
      BYTES.subarray(range.end - range.start),
    ]);
    expect(Buffer.compare(readFileSync(path), expected)).toBe(0);
    // A file that cannot be written to is told of by the system, wherever it was met.
    await using reading = await openFile(path, "r");
    await expect(executeInto(store, root, reading.fd)).rejects.toMatchObject({ code: "EBADF" });
    const refs = await refsOf(opened);
    const ref = refs[Math.floor(refs.length / 2)]!;
    const segment = readFileSync(segmentOf(directory.path));
    segment[segment.indexOf(ref) + 60]! ^= 4;
    writeFileSync(segmentOf(directory.path), segment);
    await target.truncate(0);
    await expect(executeInto(store, root, target.fd)).rejects.toMatchObject({
      code: "PFS_CHUNK_DAMAGED",
      data: { ref: refToHex(ref) },
    });
    // What was written before that is right; the rest of the file is a hole.
    for (const [at, byte] of readFileSync(path).entries())
      if (byte !== 0 && byte !== BYTES[at]) throw new Error(`byte ${at} is wrong`);
  });

  test("write the longest chunks too", async () => {
    await using directory = await temporaryDirectory();
    await using opened = await open(directory);
    const { store } = opened;
    await using writer = await store.openWriter();
    const bytes = Uint8Array.from(randomBytes("longest", 2 * CHUNK_BYTES_MAX));
    const { refs } = await writer.write(bytes.slice(), Uint32Array.of(CHUNK_BYTES_MAX, CHUNK_BYTES_MAX));
    const path = join(directory.path, "out");
    await using target = await openFile(path, "w+");
    const at = [0, CHUNK_BYTES_MAX];
    const pieces = { chunk: [0, 1], from: [0, 0], bytes: at.map(() => CHUNK_BYTES_MAX), at };
    expect(await store.place([refAt(refs, 0), refAt(refs, 1)], pieces, target.fd)).toBe(true);
    expect(Buffer.compare(readFileSync(path), bytes)).toBe(0);
  });

  test("give out no wrong bytes, and what was read before them", async () => {
    await using directory = await temporaryDirectory();
    await using opened = await open(directory);
    const { store, root } = opened;
    const refs = await refsOf(opened);
    for (const ref of [refs.at(-1)!, refs[Math.floor(refs.length / 2)]!]) {
      const segment = readFileSync(segmentOf(directory.path));
      const at = segment.indexOf(ref) + 60;
      segment[at]! ^= 4;
      writeFileSync(segmentOf(directory.path), segment);
      const damaged = { code: "PFS_CHUNK_DAMAGED", data: { ref: refToHex(ref) } };
      await expect(store.read(refs)).rejects.toMatchObject(damaged);
      segment[at]! ^= 4;
      writeFileSync(segmentOf(directory.path), segment);
    }
    const segment = readFileSync(segmentOf(directory.path));
    writeFileSync(segmentOf(directory.path), segment.subarray(0, segment.byteLength - PART_BYTES));
    await expect(readAll(store, root)).rejects.toMatchObject({ code: "PFS_CHUNK_DAMAGED" });
  });

  test("stop with their signal, and leave nothing undone when the store is closed or they end", async () => {
    await using directory = await temporaryDirectory();
    await using opened = await open(directory);
    const { store, root, readers } = opened;
    const refs = await refsOf(opened);
    const enough = new Error("enough");
    const controller = new AbortController();
    const stopped = store.read(refs, controller.signal);
    const other = store.read(refs);
    controller.abort(enough);
    await expect(stopped).rejects.toBe(enough);
    expect(await other).toHaveLength(refs.length);
    const read = readAll(store, root);
    await Promise.all(readers.map((reader) => reader.terminate()));
    expect(Buffer.compare(await read, BYTES)).toBe(0);
    expect(Buffer.compare(await readAll(store, root), BYTES)).toBe(0);
    const last = store.read(refs);
    await new Promise((resolve) => setImmediate(resolve));
    await store.close();
    expect(await last).toHaveLength(refs.length);
  });
});
