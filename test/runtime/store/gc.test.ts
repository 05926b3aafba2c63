import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { refToHex, sha256 } from "../../../packets/digest.ts";
import { NAME_VERSIONS_MAX } from "../../../runtime/limits.ts";
import { ingest } from "../../../runtime/stream/ingest.ts";
import { Store } from "../../../runtime/store/store.ts";
import { FaultyDisk, openWriter, systemError } from "./faulty-disk.ts";
import type { DiskOperation } from "./faulty-disk.ts";
import {
  failure,
  filesIn,
  get,
  inPieces,
  namesOf,
  put,
  randomBytes,
  readAll,
  repairNotes,
  segmentOf,
  temporaryDirectory,
} from "./store-fixture.ts";

/** 1 crashes at each operation. */
const STEP = Number(process.env["PACKETFS_TEST_STEP"] ?? 11);

function bytesAtRest(directory: string): number {
  const sizes = Object.entries(filesIn(directory)).filter(([path]) => path.startsWith("segments"));
  return sizes.reduce((sum, [, size]) => sum + size, 0);
}

describe("gc", () => {
  test("frees what no name needs, and nothing else", async () => {
    await using directory = await temporaryDirectory();
    const shared = randomBytes("gc shared", 400_000);
    const kept = Buffer.concat([shared, randomBytes("gc kept", 700_000)]);
    {
      await using store = await Store.open(directory.path);
      await put(store, "kept", kept);
      const { chunks } = await put(store, "gone", Buffer.concat([shared, randomBytes("gc gone", 2_000_000)]));
      expect(await store.gc()).toMatchObject({ freedChunks: 0, freedBytes: 0 });
      const before = bytesAtRest(directory.path);
      await store.catalog.remove("gone");
      const { freedChunks, freedBytes, keptChunks } = await store.gc();
      expect(freedChunks).toBeGreaterThan(chunks / 2);
      expect(freedBytes).toBeGreaterThan(1_900_000);
      expect(bytesAtRest(directory.path)).toBeLessThan(before - 1_900_000);
      expect(store.statistics().chunks).toBe(keptChunks);
      expect(Buffer.compare(await get(store, "kept"), kept)).toBe(0);
      expect(await store.gc()).toMatchObject({ freedChunks: 0, freedBytes: 0 });
    }
    const { events, notes } = repairNotes();
    await using store = await Store.open(directory.path, { events });
    expect(notes).toEqual([]);
    expect(await store.verify()).toMatchObject({ damaged: [], incomplete: [] });
    expect(Buffer.compare(await get(store, "kept"), kept)).toBe(0);
  });

  test.each(["looks for what is worth it", "copies"])(
    "goes on when the index is built again while it %s",
    async (when) => {
      await using directory = await temporaryDirectory();
      const disk = new FaultyDisk(() => {});
      const { writer, abandon } = await openWriter(directory.path, { disk });
      const chunkOf = (index: number): Uint8Array<ArrayBuffer> => randomBytes(`rebuilt ${index}`, 100_000);
      const live: Buffer[] = [];
      const id = writer.openWriter();
      for (let index = 0; index < 40; index++) {
        const { refs } = await writer.write(id, chunkOf(index), Uint32Array.of(100_000));
        if (index % 2 === 0) live.push(Buffer.from(refs));
      }
      for (const root of live)
        await writer.bind(id, { name: `f${refToHex(root)}`, root, length: 100_000 }, {});
      writer.closeWriter(id);
      const other = writer.openWriter();
      const before = writer.tables;
      const damage = async (): Promise<void> => {
        await nextTurn();
        writer.tables.database.prepare("update chunks set mark = mark + 1 where ref = ?").run(live[0]!);
        await writer.claim(other, live[0]!);
      };
      await writer.beginGc();
      for (const root of live) writer.markLive(root);
      let damaged = when === "copies" ? undefined : damage();
      disk.freeBytes = async () => {
        damaged ??= damage();
        return Infinity;
      };
      expect(await writer.sweep()).toMatchObject({ freedChunks: 20, keptChunks: 20, unreadableSegments: 0 });
      await damaged;
      expect(writer.tables === before).toBe(false);
      writer.endGc();
      await abandon();
      await using store = await Store.open(directory.path);
      for (const root of live) expect(refToHex(sha256((await store.read([root]))[0]!))).toBe(refToHex(root));
      expect(await store.verify()).toMatchObject({ damaged: [], lostRecords: 0 });
    },
  );

  test("frees everything when nothing has a name", async () => {
    await using directory = await temporaryDirectory();
    await using store = await Store.open(directory.path);
    await put(store, "gone", randomBytes("all", 1_000_000));
    await store.catalog.remove("gone");
    expect(await store.gc()).toMatchObject({ keptChunks: 0 });
    expect(bytesAtRest(directory.path)).toBeLessThan(1000);
    expect(filesIn(directory.path)).toMatchObject({ "index.db-wal": 0 });
    await put(store, "next", randomBytes("all", 1_000_000));
    expect((await get(store, "next")).byteLength).toBe(1_000_000);
  });

  test("keeps the versions that a name still lists, and frees those before them", async () => {
    await using directory = await temporaryDirectory();
    await using store = await Store.open(directory.path);
    const roots: Uint8Array[] = [];
    for (let version = 0; version < NAME_VERSIONS_MAX + 2; version++) {
      roots.push((await put(store, "a", randomBytes(`version ${version}`, 20_000))).root);
    }
    // Each version is one chunk and its stream.
    expect(await store.gc()).toMatchObject({ freedChunks: 4, keptChunks: 2 * NAME_VERSIONS_MAX });
    for (const [version, root] of roots.entries()) {
      if (version < 2) {
        expect(await failure(readAll(store, root))).toMatchObject({ code: "PFS_CHUNK_MISSING" });
      } else expect((await readAll(store, root)).byteLength).toBe(20_000);
    }
  });

  /** How the body of a stream may be hit. */
  const hits: readonly (readonly [string, (body: Buffer) => void])[] = [
    ["a bit in its middle", (body) => void (body[body.byteLength >> 1]! ^= 1)],
    ["a bit at its end", (body) => void (body[body.byteLength - 1]! ^= 1)],
    ["all of its bytes", (body) => void body.fill(0xa5)],
  ];

  test.each(hits)(
    "keeps what a file needs whose stream is damaged, frees the rest and says so: %s",
    async (_what, hit) => {
      await using directory = await temporaryDirectory();
      const shared = randomBytes("shared", 100_000);
      const broken = Buffer.concat([shared, randomBytes("broken", 100_000)]);
      let root: Uint8Array;
      {
        await using store = await Store.open(directory.path);
        await put(store, "other", shared);
        await put(store, "gone before", randomBytes("gone before", 150_000));
        ({ root } = await put(store, "broken", broken));
        await put(store, "gone after", randomBytes("gone after", 150_000));
        await put(store, "whole", randomBytes("whole", 100_000));
        await store.catalog.remove("gone before");
        await store.catalog.remove("gone after");
        const segment = readFileSync(segmentOf(directory.path));
        const at = segment.indexOf(root) - 32;
        hit(segment.subarray(at + 72, at + 72 + segment.readUInt32LE(at + 8)));
        writeFileSync(segmentOf(directory.path), segment);
      }
      await using store = await Store.open(directory.path);
      const before = store.statistics().plainBytes;
      expect((await store.gc()).incomplete).toEqual(["broken"]);
      // What was written just before it, as much as the file has, may be its own.
      expect(store.statistics().plainBytes).toBeLessThan(before - 250_000 + 100_000);
      expect((await store.verify()).incomplete).toEqual(["broken"]);
      expect((await get(store, "whole")).byteLength).toBe(100_000);
      // Its stream is all that has to be written again.
      expect(await put(store, "broken", broken)).toMatchObject({ newChunks: 1 });
      expect(Buffer.compare(await get(store, "broken"), broken)).toBe(0);
      expect(await store.gc()).toMatchObject({ incomplete: [] });
    },
  );

  test("is not kept from its work by names that point to what is no stream, or to what is not here any more", async () => {
    await using directory = await temporaryDirectory();
    await using store = await Store.open(directory.path);
    await put(store, "gone", randomBytes("gone", 100_000));
    await store.catalog.remove("gone");
    await using writer = await store.openWriter();
    const { refs } = await writer.write(new Uint8Array(64).fill(9), Uint32Array.of(64));
    await writer.bind({ name: "no stream", root: refs, length: 64 });
    await put(store, "whole", randomBytes("whole", 100_000));
    const { freedChunks, incomplete } = await store.gc();
    expect(freedChunks).toBeGreaterThan(0);
    expect(incomplete).toEqual(["no stream"]);
    expect(await store.has(refs)).toEqual(Uint8Array.of(1));
    expect((await get(store, "whole")).byteLength).toBe(100_000);
  });

  test("may be asked for again after any of its operations has failed", async () => {
    for (let failing = 1; ; failing += STEP) {
      await using directory = await temporaryDirectory();
      let countdown = Infinity;
      const disk = new FaultyDisk(() => {
        if (--countdown === 0) throw systemError("EIO");
      });
      const { writer, abandon } = await openWriter(directory.path, { disk, segmentBytesMax: 30_000 });
      const id = writer.openWriter();
      const chunks = Array.from({ length: 12 }, (_, index) => randomBytes(`again ${index}`, 9000));
      for (const [index, chunk] of chunks.entries()) {
        const { refs } = await writer.write(id, Uint8Array.from(chunk), Uint32Array.of(9000));
        await writer.bind(id, { name: `f${index}`, root: refs, length: 9000 }, {});
      }
      writer.closeWriter(id);
      for (let index = 0; index < chunks.length; index += 2) await writer.removeName(`f${index}`, {});
      const collect = async (): Promise<number> => {
        await writer.beginGc();
        try {
          for (let index = 1; index < chunks.length; index += 2) writer.markLive(sha256(chunks[index]!));
          return (await writer.sweep()).freedChunks;
        } finally {
          writer.endGc();
        }
      };
      // Something that is not durable yet, so that to begin is a write too.
      const other = writer.openWriter();
      await writer.write(other, randomBytes("other", 9000), Uint32Array.of(9000));
      countdown = failing;
      const error = await failure(collect()).catch(() => undefined);
      const hasFailed = countdown <= 0;
      if (hasFailed) expect(error, `operation ${failing}`).toMatchObject({ code: "PFS_STORE_IO" });
      countdown = Infinity;
      await collect();
      for (const [index, chunk] of chunks.entries()) {
        const row = writer.tables.chunks.find(sha256(chunk));
        expect(row === undefined, `chunk ${index} after operation ${failing}`).toBe(index % 2 === 0);
      }
      const dropped = writer.tables.segments().filter(({ isDropped }) => isDropped);
      expect(dropped, `after operation ${failing}`).toEqual([]);
      await abandon();
      if (!hasFailed) return;
    }
  });

  test("ends when it is told to, and the store goes on", async () => {
    await using directory = await temporaryDirectory();
    await using store = await Store.open(directory.path);
    await put(store, "a", randomBytes("abort", 1_000_000));
    await expect(store.gc(AbortSignal.abort(new Error("enough")))).rejects.toThrow("enough");
    const controller = new AbortController();
    const collected = store.gc(controller.signal);
    controller.abort(new Error("enough"));
    await expect(collected).rejects.toThrow("enough");
    await store.catalog.remove("a");
    expect(await store.gc()).toMatchObject({ keptChunks: 0 });
  });
});

describe("gc beside open writers", () => {
  test("leaves alone what they wrote, what they found and what they claimed, until they are closed", async () => {
    await using directory = await temporaryDirectory();
    await using store = await Store.open(directory.path);
    const found = randomBytes("found", 300_000);
    const claimed = randomBytes("claimed", 50_000);
    await put(store, "found", found);
    const { root: claimedRoot } = await put(store, "claimed", claimed);
    const writer = await store.openWriter();
    const written = await ingest(writer, inPieces(randomBytes("written", 600_000), 100_000));
    expect(await ingest(writer, inPieces(found, 100_000))).toMatchObject({ newChunks: 0 });
    const claimedRefs = Buffer.concat([claimedRoot, sha256(claimed)]);
    expect(await writer.claim(claimedRefs)).toEqual(Uint8Array.of(1, 1));
    await store.catalog.remove("found");
    await store.catalog.remove("claimed");
    expect(await store.gc()).toMatchObject({ freedChunks: 0 });
    expect((await readAll(store, written.root)).byteLength).toBe(600_000);
    expect(Buffer.compare(await readAll(store, claimedRoot), claimed)).toBe(0);
    await writer.bind({ name: "written", root: written.root, length: written.length });
    await writer.close();
    expect((await store.gc()).freedChunks).toBeGreaterThan(4);
    expect((await get(store, "written")).byteLength).toBe(600_000);
    expect(await store.has(claimedRefs)).toEqual(Uint8Array.of(0, 0));
  });

  test("again and again, while files come and go, never loses one that has a name", async () => {
    await using directory = await temporaryDirectory();
    await using store = await Store.open(directory.path);
    const base = randomBytes("busy base", 400_000);
    const expected = new Map<string, Buffer>();
    let isRunning = true;
    const puts = async (lane: number): Promise<void> => {
      for (let index = 0; index < 14; index++) {
        const name = `${lane}/${index % 4}`;
        const bytes = Buffer.concat([
          base.subarray(0, index * 20_000),
          randomBytes(`${lane} ${index}`, 30_000),
        ]);
        await put(store, name, bytes);
        expected.set(name, bytes);
        if (index % 3 === 2) {
          expected.delete(name);
          await store.catalog.remove(name);
        }
      }
    };
    const collecting = (async (): Promise<number> => {
      let freed = 0;
      while (isRunning) freed += (await store.gc()).freedChunks;
      return freed;
    })();
    await Promise.all([puts(0), puts(1), puts(2)]);
    isRunning = false;
    // On a machine that is slow in the wrong moments the last gc finds what the others left.
    expect((await collecting) + (await store.gc()).freedChunks).toBeGreaterThan(0);
    for (const [name, bytes] of expected) expect(Buffer.compare(await get(store, name), bytes)).toBe(0);
    expect(await store.verify()).toMatchObject({ damaged: [], incomplete: [] });
  });
});

test("names that are removed while gc moves them leave the index as it should be", async () => {
  await using directory = await temporaryDirectory();
  const { events, notes } = repairNotes();
  await using store = await Store.open(directory.path, { events });
  const FILES = 300;
  await using writer = await store.openWriter();
  for (let index = 0; index < FILES; index++) {
    const { root, length } = await ingest(writer, inPieces(randomBytes(`beside ${index}`, 500), 500));
    await writer.bind({ name: `f${index}`, root, length });
  }
  await writer.close();
  for (let round = 0; round < 10; round++) {
    const collected = store.gc();
    for (let index = round * 25; index < round * 25 + 25; index++) await store.catalog.remove(`f${index}`);
    await collected;
  }
  expect(notes).toEqual([]);
  expect(await namesOf(store)).toHaveLength(FILES - 250);
  expect(await store.verify()).toMatchObject({ damaged: [], incomplete: [], lostRecords: 0 });
});

describe("a crash in the middle of gc", () => {
  const chunkOf = (index: number): Uint8Array<ArrayBuffer> => randomBytes(`crash ${index}`, 9000);
  const FILES = 20;

  /**
   * Names single chunks over several segments, removes every other name and binds some of those again, then collects. From
   * the `crashAt`-th operation of the gc on, the disk does nothing any more. Returns how many operations there were.
   */
  async function collectAndCrash(
    directory: string,
    crashAt: number,
    free: number,
    onOperation?: (operation: DiskOperation, number: number) => void,
  ): Promise<number> {
    let countdown = Infinity;
    let begun = Infinity;
    const disk = new FaultyDisk((operation, number) => {
      if (number > begun) onOperation?.(operation, number - begun - 1);
      if (--countdown < 0) throw systemError("EIO");
    });
    disk.free = free;
    const { writer, abandon } = await openWriter(directory, { disk, segmentBytesMax: 40_000 });
    const id = writer.openWriter();
    const name = async (file: number, chunk: number): Promise<void> => {
      const { refs } = await writer.write(id, chunkOf(chunk), Uint32Array.of(9000));
      await writer.bind(id, { name: `f${file}`, root: refs, length: 9000 }, {});
    };
    for (let index = 0; index < FILES; index++) await name(index, index);
    for (let index = 0; index < FILES; index += 2) await writer.removeName(`f${index}`, {});
    for (let index = 0; index < FILES; index += 6) await name(index, index + 100);
    writer.closeWriter(id);
    begun = disk.operations;
    countdown = crashAt;
    try {
      await writer.beginGc();
      for (const [, chunk] of liveFiles()) writer.markLive(sha256(chunkOf(chunk)));
      await writer.sweep();
    } catch (error) {
      expect(error).toMatchObject({ code: "PFS_STORE_IO" });
    }
    await abandon();
    return disk.operations - begun;
  }

  function liveFiles(): [name: string, chunk: number][] {
    const live: [string, number][] = [];
    for (let index = 0; index < FILES; index++) {
      if (index % 6 === 0) live.push([`f${index}`, index + 100]);
      else if (index % 2 === 1) live.push([`f${index}`, index]);
    }
    return live.toSorted(([a], [b]) => (a < b ? -1 : 1));
  }

  async function expectLive(directory: string, readOnly: boolean, when: string): Promise<void> {
    await using store = await Store.open(directory, { readOnly });
    const live = liveFiles();
    expect(await namesOf(store), when).toEqual(live.map(([name]) => name));
    for (const [name, chunk] of live) {
      const expected = chunkOf(chunk);
      expect(refToHex((await store.catalog.resolve(name))!.root), `${name} ${when}`).toBe(
        refToHex(sha256(expected)),
      );
      const [bytes] = await store.read([sha256(expected)]);
      expect(Buffer.compare(bytes!, expected)).toBe(0);
    }
  }

  test.each([
    ["where there is room", Infinity],
    ["where there is none", 0],
  ])("loses nothing that is live and brings back nothing that was removed, %s", async (_where, free) => {
    for (let crashAt = 0; ; crashAt += STEP) {
      await using directory = await temporaryDirectory();
      const operations = await collectAndCrash(directory.path, crashAt, free);
      const when = `after a crash at operation ${crashAt} of the gc`;
      await expectLive(directory.path, false, when);
      rmSync(join(directory.path, "index.db"));
      await expectLive(directory.path, true, `${when} and without the index`);
      if (operations > crashAt) continue;
      // It was not hit at all: what is left is what is live.
      expect(readdirSync(join(directory.path, "segments")).length).toBeLessThan(7);
      return;
    }
  });

  test("does not bring back a name that is removed after it, when the index is lost still later", async () => {
    /** More than gc copies for the sake of a few bytes. */
    const LARGE = Array.from({ length: 36 }, (_, index) => randomBytes(`large ${index}`, 500_000));
    const crashes: number[] = [];
    {
      await using directory = await temporaryDirectory();
      await collectAndCrash(directory.path, Infinity, Infinity, (operation, number) => {
        if (operation === "sync") crashes.push(number);
      });
    }
    for (const crashAt of crashes) {
      await using directory = await temporaryDirectory();
      await collectAndCrash(directory.path, crashAt, Infinity);
      {
        // Behind what the gc copied.
        const { writer, abandon } = await openWriter(directory.path, { disk: new FaultyDisk(() => {}) });
        const id = writer.openWriter();
        for (const [index, chunk] of LARGE.entries()) {
          const { refs } = await writer.write(id, Uint8Array.from(chunk), Uint32Array.of(chunk.byteLength));
          await writer.bind(id, { name: `large${index}`, root: refs, length: chunk.byteLength }, {});
        }
        await abandon();
      }
      const disk = new FaultyDisk(() => {});
      const { writer, abandon } = await openWriter(directory.path, { disk, segmentBytesMax: 40_000 });
      for (const [name] of liveFiles()) await writer.removeName(name, {});
      // So that it is worth while to free what stands beside the removals.
      const id = writer.openWriter();
      await writer.write(id, chunkOf(-1), Uint32Array.of(9000));
      writer.closeWriter(id);
      // The first one frees the files, the second one what only had to outlive them.
      for (let round = 0; round < 2; round++) {
        await writer.beginGc();
        for (const chunk of LARGE) writer.markLive(sha256(chunk));
        await writer.sweep();
        writer.endGc();
      }
      await abandon();
      rmSync(join(directory.path, "index.db"));
      await using store = await Store.open(directory.path, { readOnly: true });
      const others = (await namesOf(store)).filter((name) => !name.startsWith("large"));
      expect(others, `after a crash at operation ${crashAt} of the gc`).toEqual([]);
    }
  });
});
