import { execFile } from "node:child_process";
import {
  appendFileSync,
  copyFileSync,
  cpSync,
  existsSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { DatabaseSync } from "node:sqlite";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { refToHex } from "../../../packets/digest.ts";
import { Store } from "../../../runtime/store/store.ts";
import { WriterClient } from "../../../runtime/store/writer/client.ts";
import { Random } from "../../packets/seed.ts";
import {
  failure,
  filesIn,
  get,
  namesOf,
  put,
  randomBytes,
  repairNotes,
  segmentOf,
  temporaryDirectory,
  textBytes,
} from "./store-fixture.ts";
import type { TemporaryDirectory } from "./store-fixture.ts";

const FILES: readonly (readonly [name: string, bytes: Uint8Array])[] = [
  ["random", randomBytes("recovery", 1_500_000)],
  ["text", textBytes(400_000)],
  ["tiny", randomBytes("tiny", 7)],
  ["empty", new Uint8Array(0)],
];

let original: TemporaryDirectory;

/** Everything that the catalog says. */
async function catalogOf(store: Store): Promise<unknown[]> {
  const records: unknown[] = [];
  for (const name of await namesOf(store)) {
    for (const record of await store.catalog.history(name)) {
      records.push({ ...record, root: refToHex(record.root) });
    }
  }
  return records;
}
let expected: unknown[];

beforeAll(async () => {
  original = await temporaryDirectory();
  await using store = await Store.open(join(original.path, "store"));
  for (const [name, bytes] of FILES) await put(store, name, bytes);
  await put(store, "text", textBytes(300_000));
  await put(store, "text", textBytes(400_000));
  await put(store, "gone", randomBytes("gone", 100_000));
  await store.catalog.remove("gone");
  expected = await catalogOf(store);
});
afterAll(() => original[Symbol.asyncDispose]());

/** Opens a copy of the store after `damage` was done to it, and finds everything in it. */
async function survives(damage: (directory: string) => void, readOnly = false): Promise<readonly string[]> {
  await using copy = await temporaryDirectory();
  const directory = join(copy.path, "store");
  cpSync(join(original.path, "store"), directory, { recursive: true });
  damage(directory);
  const files = readOnly ? filesIn(directory) : undefined;
  const { events, notes } = repairNotes();
  await using store = await Store.open(directory, { readOnly, events });
  expect(await catalogOf(store)).toEqual(expected);
  for (const [name, bytes] of FILES) expect(Buffer.compare(await get(store, name), bytes)).toBe(0);
  expect(await store.verify()).toMatchObject({ damaged: [], incomplete: [] });
  if (readOnly) expect(filesIn(directory)).toEqual(files);
  return notes;
}

describe.each([
  ["for writing", false],
  ["for reading only", true],
])("an index that is lost or damaged, opened %s", (_how, readOnly) => {
  test("is built again after it was deleted", async () => {
    expect(await survives((directory) => rmSync(join(directory, "index.db")), readOnly)).toHaveLength(1);
    expect(existsSync(":memory:")).toBe(false);
  });

  test.each([0, 100, 4096, 0.9])("is built again after it was cut to %f", async (cut) => {
    const notes = await survives((directory) => {
      const path = join(directory, "index.db");
      truncateSync(path, cut < 1 && cut > 0 ? Math.floor(statSync(path).size * cut) : cut);
    }, readOnly);
    expect(notes).toHaveLength(1);
  });

  test("is built again after a bit of it has flipped, anywhere", async () => {
    const random = new Random(readOnly ? 1 : 2);
    for (let flip = 0; flip < 6; flip++) {
      const notes = await survives((directory) => flipBit(join(directory, "index.db"), random), readOnly);
      expect(notes).toHaveLength(1);
    }
  });

  test("is built again when it is not a database at all", async () => {
    const notes = await survives(
      (directory) => writeFileSync(join(directory, "index.db"), randomBytes("no database", 50_000)),
      readOnly,
    );
    expect(notes).toHaveLength(1);
  });
});

function flipBit(path: string, random: Random): void {
  const bytes = readFileSync(path);
  const at = random.below(bytes.byteLength);
  bytes[at] = bytes[at]! ^ (1 << random.below(8));
  writeFileSync(path, bytes);
}

test("an index that was not closed in order is believed row by row", async () => {
  const random = new Random(3);
  for (let flip = 0; flip < 12; flip++) {
    await survives((directory) => {
      rmSync(join(directory, "index.check"));
      flipBit(join(directory, "index.db"), random);
    });
  }
});

test("an index that was deleted while the store is open is built again, and what is acknowledged then is kept", async () => {
  await using directory = await temporaryDirectory();
  const bytes = randomBytes("deleted", 300_000);
  {
    await using store = await Store.open(directory.path);
    await put(store, "a", bytes);
    rmSync(join(directory.path, "index.db"));
    await put(store, "b", bytes);
    expect(await namesOf(store)).toEqual(["a", "b"]);
    expect(Buffer.compare(await get(store, "a"), bytes)).toBe(0);
    expect(await store.verify()).toMatchObject({ damaged: [], incomplete: [] });
    expect(await store.gc()).toMatchObject({ freedChunks: 0 });
    await put(store, "c", bytes);
  }
  await using store = await Store.open(directory.path, { readOnly: true });
  expect(await namesOf(store)).toEqual(["a", "b", "c"]);
});

test("who only reads needs no room beside the index of a writer that was killed", async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, "store");
  const copy = join(directory.path, "copy");
  {
    await using store = await Store.open(path);
    await put(store, "a", randomBytes("no room", 3000));
    cpSync(path, copy, { recursive: true });
  }
  truncateSync(join(copy, "index.db-shm"), 0);
  const child = fileURLToPath(new URL("./listing-child.ts", import.meta.url));
  // No file may become longer, as on a disk that is full.
  const command = ["-c", 'ulimit -f 0; exec "$@"', "sh", process.execPath, child, copy];
  const { stdout } = await promisify(execFile)("sh", command);
  expect(JSON.parse(stdout)).toEqual(["a"]);
});

test("an older index that somebody put back hides nothing of what was stored since", async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, "store");
  const older = join(directory.path, "older");
  const after = [randomBytes("after", 400_000), randomBytes("later", 200_000)] as const;
  {
    await using store = await Store.open(path);
    await put(store, "before", randomBytes("before", 500_000));
  }
  cpSync(path, older, { recursive: true });
  {
    await using store = await Store.open(path);
    await store.catalog.remove("before");
    expect(await store.gc()).toMatchObject({ keptChunks: 0 });
  }
  // The store has no segment then, and a later process begins the next one.
  {
    await using store = await Store.open(path);
    await put(store, "after", after[0]);
    await put(store, "later", after[1]);
  }
  for (const file of ["index.db", "index.check"]) copyFileSync(join(older, file), join(path, file));
  for (const readOnly of [true, false]) {
    await using store = await Store.open(path, { readOnly });
    expect(Buffer.compare(await get(store, "after"), after[0])).toBe(0);
    expect(Buffer.compare(await get(store, "later"), after[1])).toBe(0);
  }
});

test("an index that somebody was killed while building is not left over", async () => {
  await using directory = await temporaryDirectory();
  const unfinished = join(directory.path, "index.db.new");
  await (await Store.open(directory.path)).close();
  writeFileSync(unfinished, randomBytes("half an index", 5000));
  await (await Store.open(directory.path)).close();
  expect(existsSync(unfinished)).toBe(false);
});

test.each([
  ["whose check was being written when its writer was killed", false],
  ["that is lost with its check", true],
])("who only reads sees what was acknowledged last beside an index %s", async (_what, isLost) => {
  await using directory = await temporaryDirectory();
  const last = randomBytes("last", 43_000);
  {
    await using store = await Store.open(directory.path);
    await put(store, "first", randomBytes("first", 10_000));
    await put(store, "last", last);
  }
  if (isLost) for (const name of ["index.check", "index.db"]) rmSync(join(directory.path, name));
  else writeFileSync(join(directory.path, "index.check"), "");
  await using store = await Store.open(directory.path, { readOnly: true });
  expect(await namesOf(store)).toEqual(["first", "last"]);
  expect(await get(store, "last")).toEqual(Buffer.from(last));
});

test("an index that is damaged while it is used is built again", async () => {
  await using directory = await temporaryDirectory();
  const { events, notes } = repairNotes();
  await using store = await Store.open(directory.path, { events });
  const bytes = randomBytes("in use", 2_000_000);
  const { root } = await put(store, "a", bytes);
  // Another process writes nonsense into rows: through SQLite, so that everyone sees it at once.
  const vandal = (sql: string): void => {
    using database = new DatabaseSync(join(directory.path, "index.db"), { timeout: 5000 });
    database.exec(sql);
  };
  vandal("update chunks set place = place + 1");
  expect(Buffer.compare(await get(store, "a"), bytes)).toBe(0);
  expect(notes).toHaveLength(1);
  vandal("update names set root = zeroblob(32)");
  expect(refToHex((await store.catalog.resolve("a"))!.root)).toBe(refToHex(root));
  vandal("update chunks set stored = 5; update names set length = 1");
  await put(store, "b", bytes);
  expect(await store.catalog.history("a")).toHaveLength(1);
  expect((await store.catalog.resolve("a"))!.length).toBe(2_000_000);
  expect(await store.verify()).toMatchObject({ damaged: [], incomplete: [] });
  vandal("drop table names");
  await put(store, "c", bytes);
  expect(await namesOf(store)).toEqual(["a", "b", "c"]);
});

test("a writer that has ended is not waited for", async () => {
  await using directory = await temporaryDirectory();
  const ignore = (): void => {};
  const { client } = await WriterClient.open(
    { directory: directory.path, lockWaitMs: 0 },
    { onCommitted: ignore, onNote: ignore, onDropped: ignore, onRepaired: ignore },
  );
  await client.close();
  expect(() => client.repair(0)).toThrow(expect.objectContaining({ code: "PFS_STORE_CLOSED" }));
});

describe("a segment's end", () => {
  test.each([
    ["zeros", new Uint8Array(5000)],
    ["noise", randomBytes("noise", 5000)],
    ["the beginning of a record", Buffer.from("PFSR\u0001\u0000\u0000\u0000", "latin1")],
  ])("in %s is cut off", async (_what, garbage) => {
    const notes = await survives((directory) => appendFileSync(segmentOf(directory), garbage));
    expect(notes.join()).toContain("cut off");
  });

  test("in a record that was torn or mangled is cut off, and those before it count", async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, "store");
    await (await Store.open(path)).close();
    copyFileSync(join(path, "index.db"), join(directory.path, "index.db"));
    {
      await using store = await Store.open(path);
      await put(store, "a", randomBytes("torn a", 100_000));
      await put(store, "b", randomBytes("torn b", 100_000));
    }
    const whole = readFileSync(segmentOf(path));
    const endings: Buffer[] = [1, 50, 200, 70_000].map((cut) => whole.subarray(0, -cut));
    const mangled = Buffer.from(whole);
    mangled[whole.byteLength - 60_000]! ^= 1;
    for (const ending of [...endings, mangled]) {
      // The index is the one from before the puts, as after a loss of power.
      copyFileSync(join(directory.path, "index.db"), join(path, "index.db"));
      rmSync(join(path, "index.check"), { force: true });
      writeFileSync(segmentOf(path), ending);
      const { events, notes } = repairNotes();
      await using store = await Store.open(path, { events });
      expect(notes.join()).toContain("cut off");
      expect(await namesOf(store)).toEqual(["a"]);
      expect(Buffer.compare(await get(store, "a"), randomBytes("torn a", 100_000))).toBe(0);
      expect(await store.verify()).toMatchObject({ damaged: [], incomplete: [] });
      await put(store, "c", randomBytes("torn c", 1000));
      expect((await get(store, "c")).byteLength).toBe(1000);
    }
  });

  test("that somebody cut off is known, and not written over", async () => {
    await using directory = await temporaryDirectory();
    {
      await using store = await Store.open(directory.path);
      await put(store, "a", randomBytes("cut a", 300_000));
    }
    truncateSync(segmentOf(directory.path), 250_000);
    const { events, notes } = repairNotes();
    await using store = await Store.open(directory.path, { events });
    expect(notes.join()).toContain("misses its last");
    expect(await failure(get(store, "a"))).toMatchObject({ code: "PFS_CHUNK_DAMAGED" });
    await put(store, "b", randomBytes("cut b", 300_000));
    expect(Buffer.compare(await get(store, "b"), randomBytes("cut b", 300_000))).toBe(0);
    // Put again, it is whole again.
    await put(store, "a", randomBytes("cut a", 300_000));
    expect(Buffer.compare(await get(store, "a"), randomBytes("cut a", 300_000))).toBe(0);
  });
});

test("a stored segment is not taken for records when the index is built again", async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, "store");
  {
    await using store = await Store.open(path);
    await put(store, "secret", randomBytes("secret", 5000));
    await put(store, "copy", readFileSync(segmentOf(path)));
    await store.catalog.remove("secret");
  }
  const segment = readFileSync(segmentOf(path));
  // Every header in turn is hit, so that the search for the next one goes through the bodies.
  for (
    let at = segment.indexOf("PFSR"), count = 0;
    at !== -1 && count < 4;
    at = segment.indexOf("PFSR", at + 1), count++
  ) {
    const hit = Buffer.from(segment);
    hit[at + 20]! ^= 1;
    writeFileSync(segmentOf(path), hit);
    rmSync(join(path, "index.db"));
    await using store = await Store.open(path);
    const names = await namesOf(store);
    expect(names.filter((name) => name !== "copy" && name !== "secret")).toEqual([]);
  }
});
