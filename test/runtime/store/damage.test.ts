import { cpSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { refFromHex, refToHex } from "../../../packets/digest.ts";
import { Store } from "../../../runtime/store/store.ts";
import { Random } from "../../packets/seed.ts";
import {
  failure,
  get,
  namesOf,
  put,
  randomBytes,
  readAll,
  repairNotes,
  segmentOf,
  temporaryDirectory,
  textBytes,
} from "./store-fixture.ts";
import type { TemporaryDirectory } from "./store-fixture.ts";

const FILES = new Map<string, Uint8Array>([
  ["a", randomBytes("damage a", 300_000)],
  ["b", randomBytes("damage b", 200_000)],
  ["c", textBytes(500_000)],
  ["d", randomBytes("damage d", 50)],
]);

let original: TemporaryDirectory;
beforeAll(async () => {
  original = await temporaryDirectory();
  await using store = await Store.open(join(original.path, "store"));
  for (const [name, bytes] of FILES) await put(store, name, bytes);
});
afterAll(() => original[Symbol.asyncDispose]());

/** Which files can be read whole; none may be read wrong. */
async function readable(store: Store): Promise<string[]> {
  const good: string[] = [];
  for (const [name, bytes] of FILES) {
    const read = await get(store, name).catch((error: unknown) => error as Error);
    if (read instanceof Error) expect(read).toMatchObject({ code: "PFS_CHUNK_DAMAGED" });
    else {
      expect(Buffer.compare(read, bytes)).toBe(0);
      good.push(name);
    }
  }
  return good;
}

test("a flipped bit of a segment is found wherever it is, and costs the chunk that it is in", async () => {
  await using copy = await temporaryDirectory();
  const directory = join(copy.path, "store");
  cpSync(join(original.path, "store"), directory, { recursive: true });
  const segment = readFileSync(segmentOf(directory));
  const random = new Random(18);
  await using store = await Store.open(directory, { readOnly: true });
  for (let flip = 0; flip < 90; flip++) {
    // Each third one where little is: in headers, names and streams.
    const few = flip % 3 === 0 ? segment.indexOf("PFSR", random.below(segment.byteLength - 1000)) : 0;
    const at = few + random.below(flip % 3 === 0 ? 150 : segment.byteLength);
    const hit = Buffer.from(segment);
    hit[at]! ^= 1 << random.below(8);
    writeFileSync(segmentOf(directory), hit);
    const { damaged, incomplete, lostRecords } = await store.verify();
    // Every bit means something.
    expect(damaged.length + lostRecords, `bit of byte ${at}`).toBe(1);
    expect(incomplete.length).toBe(damaged.length);
    expect((await readable(store)).toSorted()).toEqual(
      [...FILES.keys()].filter((name) => !incomplete.includes(name)),
    );
  }
});

test("a header or a name that is damaged is written again while the index still knows it", async () => {
  const segment = readFileSync(segmentOf(join(original.path, "store")));
  const headers: number[] = [0];
  for (let at = segment.indexOf("PFSR"); at !== -1; at = segment.indexOf("PFSR", at + 1)) headers.push(at);
  for (const at of [0, 1, headers.length - 1].map((index) => headers[index]!)) {
    await using copy = await temporaryDirectory();
    const directory = join(copy.path, "store");
    cpSync(join(original.path, "store"), directory, { recursive: true });
    const hit = Buffer.from(segment);
    hit[at + 9]! ^= 1;
    writeFileSync(segmentOf(directory), hit);
    {
      await using store = await Store.open(directory);
      const sound = { damaged: [], incomplete: [] };
      expect(await store.verify()).toMatchObject({ ...sound, lostRecords: 1 });
      expect(await store.verify()).toMatchObject({ ...sound, lostRecords: 0 });
    }
    rmSync(join(directory, "index.db"));
    await using store = await Store.open(directory);
    expect(await readable(store)).toEqual([...FILES.keys()]);
    expect(await store.verify()).toMatchObject({ damaged: [], incomplete: [], lostRecords: 0 });
  }
});

test("with the index lost as well, the other chunks and names are found", async () => {
  const segment = readFileSync(segmentOf(join(original.path, "store")));
  const random = new Random(19);
  for (let flip = 0; flip < 8; flip++) {
    await using copy = await temporaryDirectory();
    const directory = join(copy.path, "store");
    cpSync(join(original.path, "store"), directory, { recursive: true });
    const hit = Buffer.from(segment);
    // Every other time into a record's header.
    const header = segment.indexOf("PFSR", random.below(segment.byteLength - 1000));
    const at = flip % 2 === 0 ? header + random.below(72) : random.below(segment.byteLength);
    hit[at] = hit[at]! ^ (1 << random.below(8));
    writeFileSync(segmentOf(directory), hit);
    rmSync(join(directory, "index.db"));
    await using store = await Store.open(directory);
    const names = await namesOf(store);
    const { incomplete } = await store.verify();
    // One record is hit: a name that is gone, or a chunk, and with it one name that is incomplete.
    expect(names.length - incomplete.length).toBeGreaterThanOrEqual(FILES.size - 1);
    for (const name of names) {
      if (!incomplete.includes(name))
        expect(Buffer.compare(await get(store, name), FILES.get(name)!)).toBe(0);
    }
  }
});

test("a damaged chunk counts as absent from when it was found, and is whole again once it was put again", async () => {
  await using copy = await temporaryDirectory();
  const directory = join(copy.path, "store");
  cpSync(join(original.path, "store"), directory, { recursive: true });
  const segment = readFileSync(segmentOf(directory));
  segment[1000]! ^= 1;
  writeFileSync(segmentOf(directory), segment);
  {
    await using store = await Store.open(directory);
    const error = await failure(get(store, "a"));
    expect(error).toMatchObject({ code: "PFS_CHUNK_DAMAGED" });
    const ref = refFromHex((error.data as { ref: string }).ref)!;
    await using writer = await store.openWriter();
    expect(await writer.claim(ref)).toEqual(Uint8Array.of(0));
    expect(await store.has(ref)).toEqual(Uint8Array.of(0));
    const again = await put(store, "again", FILES.get("a")!);
    expect(again.newChunks).toBe(1);
    expect(await store.has(ref)).toEqual(Uint8Array.of(1));
    expect(Buffer.compare(await get(store, "a"), FILES.get("a")!)).toBe(0);
  }
  await using store = await Store.open(directory);
  expect(await store.verify()).toMatchObject({ damaged: [], incomplete: [] });
});

test("a segment that is gone costs its chunks, not the process", async () => {
  await using copy = await temporaryDirectory();
  const directory = join(copy.path, "store");
  cpSync(join(original.path, "store"), directory, { recursive: true });
  await using reader = await Store.open(directory, { readOnly: true });
  rmSync(segmentOf(directory));
  expect(await readable(reader)).toEqual([]);
  await reader.close();
  const { events, notes } = repairNotes();
  await using store = await Store.open(directory, { events });
  expect(notes.join()).toContain("misses");
  expect(await readable(store)).toEqual([]);
  expect((await store.verify()).incomplete).toEqual([...FILES.keys()]);
  for (const [name, bytes] of FILES) await put(store, name, bytes);
  expect(await readable(store)).toEqual([...FILES.keys()]);
});

test("refs that are nobody's chunk are missing, and bytes that are no stream are told from those that are", async () => {
  await using directory = await temporaryDirectory();
  await using store = await Store.open(directory.path);
  const nowhere = new Uint8Array(32).fill(7);
  expect(await failure(readAll(store, nowhere))).toMatchObject({
    code: "PFS_CHUNK_MISSING",
    data: { ref: refToHex(nowhere) },
  });
  await using writer = await store.openWriter();
  const { refs } = await writer.write(new Uint8Array(64).fill(9), Uint32Array.of(64));
  expect(await failure(readAll(store, refs))).toMatchObject({ code: "PFS_PACKET_INVALID" });
  await writer.bind({ name: "no stream", root: refs, length: 64 });
  expect(await store.verify()).toMatchObject({ incomplete: ["no stream"] });
  await store.gc();
  expect(await store.has(refs)).toEqual(Uint8Array.of(1));
});
