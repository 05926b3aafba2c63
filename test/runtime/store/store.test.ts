import { execFile } from "node:child_process";
import {
  chmodSync,
  closeSync,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { sha256 } from "../../../packets/digest.ts";
import { Store } from "../../../runtime/store/store.ts";
import type { StoreOptions } from "../../../runtime/store/store.ts";
import { ingest } from "../../../runtime/stream/ingest.ts";
import { catalogSuite, gcRootsSuite } from "../../suites/catalog.ts";
import type { CatalogHarness } from "../../suites/catalog.ts";
import { storedFormSuite } from "../../suites/chunk-source.ts";
import {
  failure,
  filesIn,
  get,
  inPieces,
  namesOf,
  put,
  randomBytes,
  repairNotes,
  segmentOf,
  temporaryDirectory,
} from "./store-fixture.ts";

const WRITERS: readonly (readonly [string, StoreOptions])[] = [
  ["a store", {}],
  ["a store that the caller's thread writes", { writesLittle: true }],
];

async function openCatalog(options: StoreOptions): Promise<CatalogHarness<Store["catalog"]>> {
  const directory = await temporaryDirectory();
  const store = await Store.open(directory.path, options);
  const writer = await store.openWriter();
  return {
    catalog: store.catalog,
    put: (bytes) => ingest(writer, inPieces(bytes, 1000)),
    close: async () => {
      await store.close();
      await directory[Symbol.asyncDispose]();
    },
  };
}

for (const [name, options] of WRITERS) {
  catalogSuite(name, () => openCatalog(options));
  gcRootsSuite(name, () => openCatalog(options));

  storedFormSuite(name, async () => {
    const directory = await temporaryDirectory();
    const store = await Store.open(directory.path, options);
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
}

describe("a writer in the caller's thread", () => {
  test("waits for another one in a thread, so that the caller's goes on meanwhile", async () => {
    await using directory = await temporaryDirectory();
    const first = await Store.open(directory.path);
    const opening = Store.open(directory.path, { writesLittle: true, lockWaitMs: 60_000 });
    await first.close();
    await using second = await opening;
    await put(second, "second", randomBytes("second", 100));
    expect(await get(second, "second")).toEqual(Buffer.from(randomBytes("second", 100)));
  });

  test("reads and writes on when its index is deleted", async () => {
    await using directory = await temporaryDirectory();
    await using store = await Store.open(directory.path, { writesLittle: true });
    for (const name of ["before", "after"]) {
      await put(store, name, randomBytes(name, 100_000));
      expect(await get(store, name)).toEqual(Buffer.from(randomBytes(name, 100_000)));
      rmSync(join(directory.path, "index.db"), { force: true });
    }
    expect(await get(store, "before")).toEqual(Buffer.from(randomBytes("before", 100_000)));
  });

  test("says what a thread would say of a directory that is no store", async () => {
    await using directory = await temporaryDirectory();
    writeFileSync(join(directory.path, "file"), "");
    const [aside, here] = await Promise.all(
      WRITERS.map(([, options]) => failure(Store.open(join(directory.path, "file"), options))),
    );
    expect(here).toEqual(aside);
  });
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

test("keeps what is temporary as it is, and compresses what is not", async () => {
  await using directory = await temporaryDirectory();
  await using store = await Store.open(directory.path);
  const stored: number[] = [];
  for (const isTemporary of [true, false]) {
    await using writer = await store.openWriter({ isTemporary });
    const chunk = Buffer.from(`${isTemporary} `.repeat(10_000));
    const { refs, newBytes, storedBytes } = await writer.write(
      new Uint8Array(chunk),
      Uint32Array.of(chunk.byteLength),
    );
    stored.push(storedBytes / newBytes);
    expect(await store.read([refs])).toEqual([chunk]);
  }
  expect(stored[0]).toBe(1);
  expect(stored[1]).toBeLessThan(0.1);
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
  const waiting = Store.open(directory.path, { lockWaitMs: 60_000 });
  await put(first, "a", randomBytes("busy", 1000));
  await first.close();
  await using second = await waiting;
  expect(await second.catalog.resolve("a")).toBeDefined();
});

const TRY_TO_WRITE = `
  import { Store } from ${JSON.stringify(new URL("../../../runtime/store/store.ts", import.meta.url).href)};
  const [directory] = process.argv.slice(1);
  const opened = await Store.open(directory, { lockWaitMs: 10 }).catch((error) => error);
  console.log(opened.code ?? "opened");
  await opened.close?.();
`;

test("nor another process, after a second of this one was refused", async () => {
  await using directory = await temporaryDirectory();
  await using store = await Store.open(directory.path);
  const child = ["--input-type=module", "-e", TRY_TO_WRITE, directory.path];
  const tryToWrite = async (): Promise<string> => (await promisify(execFile)(process.execPath, child)).stdout;
  expect(await tryToWrite()).toBe("PFS_STORE_BUSY\n");
  expect(await failure(Store.open(directory.path, { lockWaitMs: 10 }))).toMatchObject({
    code: "PFS_STORE_BUSY",
  });
  expect(await tryToWrite()).toBe("PFS_STORE_BUSY\n");
  await store.close();
  expect(await tryToWrite()).toBe("opened\n");
});

test("a lock file that was damaged is mended where it is, with whatever lock it has by then", async () => {
  await using directory = await temporaryDirectory();
  const lock = join(directory.path, "writer.lock");
  writeFileSync(lock, randomBytes("lock", 4096));
  const file = openSync(lock, "r");
  {
    await using store = await Store.open(directory.path);
    await put(store, "a", randomBytes("lock", 1000));
    expect(fstatSync(file)).toMatchObject({ nlink: 1, size: 0 });
  }
  closeSync(file);
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
