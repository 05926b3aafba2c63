/** Stores that are begun, left unfinished, older, or newer than the program that opens them. */
import fs from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import fsSync, { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { dirname, join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { crc32 } from "node:zlib";
import { describe, expect, test } from "vitest";
import { makeDirectory } from "../../../runtime/durable-file.ts";
import { createStore, readStoreId, storePaths } from "../../../runtime/store/directory.ts";
import {
  RECORD_HEADER_BYTES,
  SEGMENT_HEADER_BYTES,
  checkSeed,
  decodeRecordHeader,
  encodeRecordHeader,
} from "../../../runtime/store/segments/format.ts";
import { Store } from "../../../runtime/store/store.ts";
import {
  failure,
  get,
  namesOf,
  put,
  randomBytes,
  repairNotes,
  segmentOf,
  temporaryDirectory,
} from "./store-fixture.ts";
import { outputSync } from "../../suites/run-sync.ts";

describe("a store whose creation was interrupted", () => {
  test.each([
    ["before anything was in it", () => {}],
    ["behind the lock", (path: string) => writeFileSync(join(path, "writer.lock"), "")],
    ["behind the directory of segments", (path: string) => mkdirSync(join(path, "segments"))],
    [
      "before its format file had its name",
      (path: string) => {
        mkdirSync(join(path, "segments"));
        writeFileSync(join(path, "format.json.0123456789ab.new"), "{");
      },
    ],
  ])("%s is made when it is opened, and nothing of it is left over", async (_when, leave) => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, "store");
    mkdirSync(path);
    leave(path);
    expect(await failure(Store.open(path, { readOnly: true }))).toMatchObject({
      code: "PFS_STORE_UNREADABLE",
      data: { reason: "there is none" },
    });
    {
      await using store = await Store.open(path);
      await put(store, "a", randomBytes("unfinished", 1000));
    }
    expect(readdirSync(path).filter((entry) => entry.startsWith("format.json"))).toEqual(["format.json"]);
    await using store = await Store.open(path, { readOnly: true });
    expect(await namesOf(store)).toEqual(["a"]);
  });

  test("is told from a directory with other things in it", async () => {
    await using directory = await temporaryDirectory();
    mkdirSync(join(directory.path, "segments"));
    writeFileSync(join(directory.path, "segments", "holiday.jpg"), "");
    expect(await failure(Store.open(directory.path))).toMatchObject({ code: "PFS_STORE_UNREADABLE" });
    expect(readdirSync(directory.path)).toEqual(["segments"]);
  });
});

/** Which directories are synchronised while `work` runs. */
async function synchronised(work: () => Promise<unknown>): Promise<string[]> {
  const paths: string[] = [];
  const { open } = fs;
  fs.open = async (path, ...rest): Promise<FileHandle> => {
    const handle = await open(path, ...rest);
    const sync = handle.sync.bind(handle);
    handle.sync = async () => {
      await sync();
      paths.push(String(path));
    };
    return handle;
  };
  syncBuiltinESMExports();
  try {
    await work();
  } finally {
    fs.open = open;
    syncBuiltinESMExports();
  }
  return paths;
}

test.skipIf(process.platform === "win32")(
  "each directory that is made for a store is durable in the one above it, also when another writer made it",
  async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, "a", "b", "store");
    const paths = storePaths(path);
    const create = async (): Promise<void> => {
      await makeDirectory(path);
      await createStore(paths);
    };
    const above = [path, dirname(path), join(directory.path, "a"), directory.path];
    expect(await synchronised(create)).toEqual(expect.arrayContaining(above));
    rmSync(path, { recursive: true });
    mkdirSync(paths.segments, { recursive: true });
    expect(await synchronised(create)).toEqual(expect.arrayContaining([path, dirname(path)]));
  },
);

/** Makes a store of version 1 of one that was just written: its records do not say what was durable before them. */
function toVersion1(directory: string): void {
  const paths = storePaths(directory);
  const id = readStoreId(paths)!;
  const seed = checkSeed(id);
  const path = segmentOf(directory);
  const bytes = readFileSync(path);
  bytes.write("PFSSEG01", "latin1");
  bytes.fill(0, 32, 60);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, 60)), 60);
  for (let at = SEGMENT_HEADER_BYTES; at < bytes.byteLength;) {
    const header = decodeRecordHeader(bytes, at, { segment: 1, offset: at }, seed)!;
    bytes.set(encodeRecordHeader({ ...header, durableBytes: 0 }, seed), at);
    at += RECORD_HEADER_BYTES + header.storedBytes;
  }
  writeFileSync(path, bytes);
  const hex = id.toString("hex");
  const check = crc32(`packetfs-store 1 ${hex}`);
  writeFileSync(paths.format, JSON.stringify({ format: "packetfs-store", version: 1, id: hex, check }));
  rmSync(paths.indexCheck, { force: true });
  using database = new DatabaseSync(paths.index);
  database.exec("pragma user_version = 1; pragma application_id = 0");
}

describe("a store of version 1", () => {
  const FILES = ["a", "b", "c"];

  async function withOldStore(work: (directory: string) => Promise<void>): Promise<void> {
    await using directory = await temporaryDirectory();
    {
      await using store = await Store.open(directory.path);
      for (const name of FILES) await put(store, name, randomBytes(`old ${name}`, 50_000));
    }
    toVersion1(directory.path);
    await work(directory.path);
  }

  async function expectFiles(directory: string, readOnly: boolean): Promise<void> {
    await using store = await Store.open(directory, { readOnly });
    for (const name of FILES) {
      expect(Buffer.compare(await get(store, name), randomBytes(`old ${name}`, 50_000))).toBe(0);
    }
    expect(await store.verify()).toMatchObject({ damaged: [], incomplete: [], lostRecords: 0 });
  }

  test("is read, and becomes one of version 2 when it is opened for writing", () =>
    withOldStore(async (directory) => {
      await expectFiles(directory, true);
      expect(JSON.parse(readFileSync(join(directory, "format.json"), "utf8"))).toMatchObject({ version: 1 });
      await expectFiles(directory, false);
      expect(JSON.parse(readFileSync(join(directory, "format.json"), "utf8"))).toMatchObject({ version: 2 });
      {
        await using store = await Store.open(directory);
        await put(store, "d", randomBytes("new", 50_000));
      }
      // Nothing is appended where the rules of version 1 hold.
      expect(readdirSync(join(directory, "segments"))).toHaveLength(2);
      rmSync(join(directory, "index.db"));
      await expectFiles(directory, false);
    }));

  test("loses nothing behind damage when its index is built again", () =>
    withOldStore(async (directory) => {
      const segment = readFileSync(segmentOf(directory));
      segment[1000]! ^= 1;
      writeFileSync(segmentOf(directory), segment);
      await using store = await Store.open(directory);
      expect(await namesOf(store)).toEqual(FILES);
    }));
});

test("a store of a version to come is refused, and left as it is", async () => {
  await using directory = await temporaryDirectory();
  await (await Store.open(directory.path)).close();
  const { format } = storePaths(directory.path);
  const { id } = JSON.parse(readFileSync(format, "utf8")) as { id: string };
  const text = JSON.stringify({
    format: "packetfs-store",
    version: 3,
    id,
    check: crc32(`packetfs-store 3 ${id}`),
  });
  writeFileSync(format, text);
  for (const readOnly of [false, true]) {
    expect(await failure(Store.open(directory.path, { readOnly }))).toMatchObject({
      code: "PFS_STORE_UNREADABLE",
      data: { reason: "the store has version 3, this program knows version 2" },
    });
  }
  expect(readFileSync(format, "utf8")).toBe(text);
  expect(existsSync(join(directory.path, "segments"))).toBe(true);
});

test("where nothing more can be opened, a store is not called none, and verify says so", async () => {
  await using directory = await temporaryDirectory();
  await using store = await Store.open(directory.path);
  await put(store, "a", randomBytes("a", 3000));
  const { openSync, readdirSync } = fsSync;
  const refuse = (): never => {
    throw Object.assign(new Error("EMFILE: too many open files"), { code: "EMFILE", syscall: "open" });
  };
  Object.assign(fsSync, { openSync: refuse, readdirSync: refuse });
  syncBuiltinESMExports();
  try {
    const expected = { code: "PFS_STORE_IO", data: { system: "EMFILE" } };
    expect(await failure(Store.open(directory.path, { readOnly: true }))).toMatchObject(expected);
    expect(await failure(store.verify())).toMatchObject(expected);
  } finally {
    Object.assign(fsSync, { openSync, readdirSync });
    syncBuiltinESMExports();
  }
  expect(await store.verify()).toMatchObject({ damaged: [], incomplete: [] });
});

test("a store without the directory of its segments is refused, and left as it is", async () => {
  await using directory = await temporaryDirectory();
  const segments = join(directory.path, "segments");
  const aside = join(directory.path, "aside");
  {
    await using store = await Store.open(directory.path);
    await put(store, "a", randomBytes("a", 3000));
  }
  await fs.rename(segments, aside);
  for (const readOnly of [true, false]) {
    expect(await failure(Store.open(directory.path, { readOnly }))).toMatchObject({
      code: "PFS_STORE_UNREADABLE",
      data: { reason: "the directory of its segments is missing" },
    });
  }
  await fs.rename(aside, segments);
  await using store = await Store.open(directory.path);
  expect(await store.verify()).toMatchObject({ damaged: [], incomplete: [] });
});

const WRITERS = new Set(["reserve", "writer.lock"]);

test("what stands where a store has files and is none is named, and not waited for", async () => {
  await using directory = await temporaryDirectory();
  {
    await using store = await Store.open(directory.path);
    await put(store, "a", randomBytes("a", 3000));
  }
  const segment = join("segments", "00000001.seg");
  const files = ["format.json", "index.db", "index.db-wal", "index.check", "reserve", "writer.lock", segment];
  for (const file of files) {
    const path = join(directory.path, file);
    const aside = join(directory.path, "aside");
    if (existsSync(path)) await fs.rename(path, aside);
    for (const make of ["mkfifo", "mkdir"]) {
      outputSync(make, [path]);
      // Whoever only reads has no use for what is the writer's.
      for (const readOnly of WRITERS.has(file) ? [false] : [true, false]) {
        expect(await failure(Store.open(directory.path, { readOnly }))).toMatchObject({
          code: "PFS_STORE_UNREADABLE",
          data: { reason: `${file} is not a file` },
        });
      }
      await fs.rm(path, { recursive: true });
    }
    if (existsSync(aside)) await fs.rename(aside, path);
  }
  await using store = await Store.open(directory.path);
  expect(await store.verify()).toMatchObject({ damaged: [], incomplete: [] });
});

test("an index that was copied from another store is not believed", async () => {
  await using directory = await temporaryDirectory();
  const [mine, other] = [join(directory.path, "mine"), join(directory.path, "other")];
  for (const path of [mine, other]) {
    await using store = await Store.open(path);
    for (let index = 0; index < 5; index++) {
      await put(store, `${path === mine ? "mine" : "ghost"} ${index}`, randomBytes(`${path} ${index}`, 3000));
    }
  }
  const expected = Array.from({ length: 5 }, (_, index) => `mine ${index}`);
  for (const readOnly of [true, false]) {
    for (const file of ["index.db", "index.check"]) await fs.copyFile(join(other, file), join(mine, file));
    const { events, notes } = repairNotes();
    await using store = await Store.open(mine, { readOnly, events });
    expect(await namesOf(store)).toEqual(expected);
    expect(notes).toHaveLength(1);
    if (readOnly) continue;
    await put(store, "mine 5", randomBytes("mine 5", 3000));
    expect(await store.gc()).toMatchObject({ freedChunks: 0 });
    expect(await store.verify()).toMatchObject({ damaged: [], incomplete: [], lostRecords: 0 });
  }
});
