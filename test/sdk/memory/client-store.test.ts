/** What a client keeps of what it stored: bounded, shared by processes, and never in anybody's way. */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdir, readFile, readdir, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { refFromHex, sha256 } from "../../../packets/digest.ts";
import type { Ref } from "../../../packets/digest.ts";
import { execute } from "../../../runtime/stream/execute.ts";
import { ingest } from "../../../runtime/stream/ingest.ts";
import { Store } from "../../../runtime/store/store.ts";
import { ClientStore } from "../../../sdk/memory/client-store.ts";
import { collect, inPieces, randomBytes, temporaryDirectory } from "../../runtime/store/store-fixture.ts";

const CHILD = fileURLToPath(new URL("./client-store-child.ts", import.meta.url));
const MIB = 1024 * 1024;

/** Keeps a file; undefined where there was no room or nobody could write. */
async function keep(
  cache: ClientStore,
  bytes: Uint8Array,
  bases: readonly Ref[] = [],
): Promise<Ref | undefined> {
  await using kept = await cache.open(bytes.byteLength, bases);
  if (kept?.writer === undefined) return undefined;
  const { root } = await ingest(kept.writer, inPieces(bytes, 300_000));
  await kept.keep(root, bytes.byteLength);
  return root;
}

/** Its bytes, where they are kept. */
async function find(cache: ClientStore, root: Ref): Promise<Buffer | undefined> {
  await using kept = await cache.open(0, [root]);
  return kept?.roots.length === 1 ? await collect(execute(kept.store, root)) : undefined;
}

async function keptOf(cache: ClientStore, roots: readonly Ref[]): Promise<boolean[]> {
  const found: boolean[] = [];
  for (const root of roots) found.push((await find(cache, root)) !== undefined);
  return found;
}

test("what was kept is there for the next process, as what it was", async () => {
  await using at = await temporaryDirectory();
  const directory = join(at.path, "cache", "store");
  const bytes = randomBytes("kept", 2 * MIB);
  const root = (await keep(new ClientStore({ directory }), bytes))!;
  const next = new ClientStore({ directory });
  expect((await find(next, root))!.equals(bytes)).toBe(true);
  expect(await find(next, sha256(bytes))).toBeUndefined();
  const { bytes: used, bytesMax } = await next.usage();
  expect(used).toBeGreaterThan(bytes.byteLength);
  expect(used).toBeLessThan(bytesMax);
});

describe("it is bounded", () => {
  test("those go that were not used for the longest, and what is in use stays", async () => {
    await using at = await temporaryDirectory();
    const cache = new ClientStore({ directory: join(at.path, "store"), bytesMax: 24 * MIB });
    const roots: Ref[] = [];
    for (let index = 0; index < 12; index++) {
      const root = await keep(cache, randomBytes(`file ${index}`, 4 * MIB), roots.slice(0, 1));
      roots.push(root!);
      expect((await cache.usage()).bytes).toBeLessThanOrEqual(24 * MIB);
    }
    const found = await keptOf(cache, roots);
    expect(found[0]).toBe(true);
    expect(found[1]).toBe(false);
    expect(found.at(-1)).toBe(true);
    const first = found.indexOf(true, 1);
    expect(found.slice(first).every(Boolean)).toBe(true);
  });

  test("versions of a file take the room of what differs", async () => {
    await using at = await temporaryDirectory();
    const cache = new ClientStore({ directory: join(at.path, "store"), bytesMax: 40 * MIB });
    const bytes = randomBytes("versions", 8 * MIB);
    const roots: Ref[] = [];
    for (let index = 0; index < 6; index++) {
      bytes.set(randomBytes(`edit ${index}`, 100), index * MIB);
      roots.push((await keep(cache, bytes))!);
    }
    expect(await keptOf(cache, roots)).toEqual(roots.map(() => true));
  });

  test("a file that all others would go for is not kept, and none goes for it", async () => {
    await using at = await temporaryDirectory();
    const cache = new ClientStore({ directory: join(at.path, "store"), bytesMax: 24 * MIB });
    const root = (await keep(cache, randomBytes("small", MIB)))!;
    expect(await keep(cache, randomBytes("large", 13 * MIB))).toBeUndefined();
    await using kept = await cache.open(13 * MIB, [root]);
    expect(kept!.roots).toEqual([root]);
    expect((await collect(execute(kept!.store, root))).byteLength).toBe(MIB);
  });

  test("to nothing it is not there", async () => {
    await using at = await temporaryDirectory();
    const cache = new ClientStore({ directory: join(at.path, "store"), bytesMax: 0 });
    expect(await keep(cache, randomBytes("any", 1000))).toBeUndefined();
    expect(await readdir(at.path)).toEqual([]);
    expect(await cache.usage()).toEqual({ bytes: 0, bytesMax: 0 });
  });

  test("what a process left that was killed goes when there is no room for it", async () => {
    await using at = await temporaryDirectory();
    const directory = join(at.path, "store");
    const cache = new ClientStore({ directory, bytesMax: 24 * MIB });
    const root = (await keep(cache, randomBytes("kept", MIB)))!;
    {
      await using store = await Store.open(directory);
      await using writer = await store.openWriter();
      await ingest(writer, inPieces(randomBytes("left", 18 * MIB), 300_000));
    }
    const next = await keep(cache, randomBytes("next", 8 * MIB), [root]);
    expect(next).toBeDefined();
    expect(await keptOf(cache, [root, next!])).toEqual([true, true]);
  });
});

describe("where it is broken it is empty", () => {
  test.each<readonly [string, (directory: string) => Promise<unknown>]>([
    [
      "the directory is full of other things",
      async (directory) => {
        await rm(directory, { recursive: true });
        await mkdir(directory);
        await writeFile(join(directory, "notes.txt"), "no store");
      },
    ],
    [
      "it is a file",
      async (directory) => {
        await rm(directory, { recursive: true });
        await writeFile(directory, "no store");
      },
    ],
    [
      "it is of another version",
      (directory) =>
        writeFile(
          join(directory, "format.json"),
          '{"format":"packetfs-store","version":99,"id":"00","check":0}',
        ),
    ],
    ["its segments are gone", (directory) => rm(join(directory, "segments"), { recursive: true })],
    ["all of its files are full of zeros", zeroed],
    ["all of its files are cut off", cutOff],
    ["its index is gone", (directory) => rm(join(directory, "index.db"))],
  ])("%s", async (_, damage) => {
    await using at = await temporaryDirectory();
    const directory = join(at.path, "store");
    const cache = new ClientStore({ directory });
    const bytes = randomBytes("kept", MIB);
    const root = (await keep(cache, bytes))!;
    await damage(directory);
    // It has what it has, or says that it has not.
    const found = await find(cache, root).catch((error: { code: string }) => error.code);
    if (Buffer.isBuffer(found)) expect(found.equals(bytes)).toBe(true);
    else expect([undefined, "PFS_CHUNK_MISSING", "PFS_CHUNK_DAMAGED"]).toContain(found);
    // And is of use from then on.
    const other = randomBytes("other", MIB);
    const again = (await keep(cache, other))!;
    expect((await find(cache, again))!.equals(other)).toBe(true);
    await using kept = await cache.open(0, [root]);
    await kept!.forget(root);
    expect((await readdir(at.path)).filter((name) => name !== "store")).toEqual([]);
  });

  async function zeroed(directory: string): Promise<void> {
    for (const path of await filesIn(directory))
      await writeFile(path, Buffer.alloc((await readFile(path)).byteLength));
  }

  async function cutOff(directory: string): Promise<void> {
    for (const path of await filesIn(directory))
      await truncate(path, Math.floor((await readFile(path)).byteLength / 2));
  }

  async function filesIn(directory: string): Promise<string[]> {
    const entries = await readdir(directory, { recursive: true, withFileTypes: true });
    return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  }

  test("what is incomplete is forgotten, and can be kept again", async () => {
    await using at = await temporaryDirectory();
    const cache = new ClientStore({ directory: join(at.path, "store") });
    const bytes = randomBytes("kept", MIB);
    const root = (await keep(cache, bytes))!;
    {
      await using kept = await cache.open(MIB, [root]);
      await kept!.forget(root);
    }
    expect(await find(cache, root)).toBeUndefined();
    expect(await keep(cache, bytes)).toEqual(root);
    expect(await find(cache, root)).toBeDefined();
  });

  test("where nothing can be made it is none", async () => {
    await using at = await temporaryDirectory();
    await writeFile(join(at.path, "file"), "");
    const cache = new ClientStore({ directory: join(at.path, "file", "store") });
    expect(await keep(cache, randomBytes("any", 1000))).toBeUndefined();
    expect((await cache.usage()).bytes).toBe(0);
    await cache.clear();
  });
});

test("several at once in one process share it, and the last one closes it", async () => {
  await using at = await temporaryDirectory();
  const directory = join(at.path, "store");
  const cache = new ClientStore({ directory });
  const files = Array.from({ length: 5 }, (_, index) => randomBytes(`file ${index}`, MIB));
  const roots = await Promise.all(files.map((bytes) => keep(cache, bytes)));
  expect(await keptOf(cache, roots as Ref[])).toEqual(roots.map(() => true));
  // Nobody writes any more.
  await using store = await Store.open(directory, { lockWaitMs: 0 });
  expect(store.statistics().names).toBe(5);
});

test("while another process writes, what is there is read, and nothing is kept", async () => {
  await using at = await temporaryDirectory();
  const directory = join(at.path, "store");
  const bytes = randomBytes("kept", MIB);
  const root = (await keep(new ClientStore({ directory }), bytes))!;
  await using _store = await Store.open(directory);
  const cache = new ClientStore({ directory });
  expect(await keep(cache, randomBytes("other", MIB))).toBeUndefined();
  expect((await find(cache, root))!.equals(bytes)).toBe(true);
});

test("all of it can be removed", async () => {
  await using at = await temporaryDirectory();
  const cache = new ClientStore({ directory: join(at.path, "store") });
  await cache.clear();
  expect(await readdir(at.path)).toEqual([]);
  const root = (await keep(cache, randomBytes("kept", 3 * MIB)))!;
  await cache.clear();
  expect(await find(cache, root)).toBeUndefined();
  expect((await cache.usage()).bytes).toBeLessThan(MIB);
  await mkdir(join(at.path, "store.0123abcd.gone"));
  await rm(join(at.path, "store", "format.json"));
  await rm(join(at.path, "store", "segments"), { recursive: true });
  await cache.clear();
  expect((await readdir(at.path)).filter((name) => name !== "store")).toEqual([]);
});

test("processes that keep files at once, and are killed, leave all that was kept whole", async () => {
  await using at = await temporaryDirectory();
  const directory = join(at.path, "store");
  const children = ["a", "b"].map((seed) =>
    spawn(process.execPath, [CHILD, directory, seed], { stdio: ["ignore", "pipe", "inherit"] }),
  );
  const said = await Promise.all(children.map((child) => killedAfter(child, 12)));
  const roots = said.flat().filter((line) => line !== "without");
  expect(roots.length).toBeGreaterThan(0);
  const cache = new ClientStore({ directory });
  for (const line of roots) {
    const root = refFromHex(line)!;
    expect((await find(cache, root))?.byteLength).toBe(300_000);
  }
});

/** What it says until it is killed in the middle of what it does then. */
async function killedAfter(child: ChildProcess, lines: number): Promise<string[]> {
  const said: string[] = [];
  for await (const line of createInterface({ input: child.stdout! })) {
    said.push(line);
    if (said.length === lines) child.kill("SIGKILL");
  }
  if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  return said;
}
