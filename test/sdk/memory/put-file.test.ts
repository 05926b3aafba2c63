/** Files that clients put at hubs: little is sent of what is like something there, and what was remembered wrongly costs nothing but time. */
import { writeFileSync } from "node:fs";
import { readFile, readdir, rm, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { Store } from "../../../runtime/store/store.ts";
import type { ClientMemoryOptions } from "../../../sdk/memory/client-memory.ts";
import type { ProgressStep } from "../../../sdk/packetfs.ts";
import { randomBytes } from "../../runtime/store/store-fixture.ts";
import { contentOf, edit, settle, world } from "./world.ts";

const MIB = 1024 * 1024;

describe("a file that was put before", () => {
  test("goes as what changed of it, by another process too", async () => {
    await using at = await world();
    await writeFile(at.file, randomBytes("file", 6 * MIB));
    const first = await (await at.client({ directory: at.cache })).put({ path: at.file }, { name: "file" });
    expect(first.transfer!.wireBytes.sent).toBeGreaterThan(6 * MIB);
    const edited = await edit(at.file, 1);
    const next = await at.client({ directory: at.cache });
    const second = await next.put({ path: at.file }, { name: "file" });
    expect(second.root).not.toBe(first.root);
    expect(second.transfer!.wireBytes.sent).toBeLessThan(20_000);
    expect(second.transfer!.chunks.patched).toBeGreaterThan(0);
    expect(second.transfer!.chunks.reused).toBeGreaterThan(second.chunks / 2);
    expect(second.transfer!.ratio).toBeGreaterThan(200);
    expect((await contentOf(next, "file")).equals(edited)).toBe(true);
    expect((await next.stat("file")).version).toBe(2);
  });

  test("and did not change is asked about in a few bytes, and not read", async () => {
    await using at = await world();
    await writeFile(at.file, randomBytes("file", 6 * MIB));
    await settle(at.file);
    const pfs = await at.client({ directory: at.cache });
    const first = await pfs.put({ path: at.file }, { name: "file" });
    let told = 0;
    const again = await pfs.put({ path: at.file }, { name: "again", onProgress: () => told++ });
    expect(again).toMatchObject({
      root: first.root,
      length: 6 * MIB,
      name: "again",
      newChunks: 0,
      chunks: 0,
    });
    const { sent, received } = again.transfer!.wireBytes;
    expect(sent + received).toBeLessThan(1024);
    expect(told).toBe(0);
    expect((await contentOf(pfs, "again")).byteLength).toBe(6 * MIB);
  });

  test("and did not change is read where the hub has lost it", async () => {
    await using at = await world();
    const bytes = randomBytes("file", 2 * MIB);
    await writeFile(at.file, bytes);
    await settle(at.file);
    const pfs = await at.client({ directory: at.cache });
    await pfs.put({ path: at.file }, { name: "file" });
    await pfs.remove("file");
    await pfs.gc();
    const again = await pfs.put({ path: at.file }, { name: "file" });
    expect(again.newBytes).toBeGreaterThanOrEqual(2 * MIB);
    expect((await contentOf(pfs, "file")).equals(bytes)).toBe(true);
  });
});

describe("what is remembered may be lost or wrong", () => {
  test.each<readonly [string, (cache: string) => Promise<unknown>]>([
    ["all of it is gone", (cache) => rm(cache, { recursive: true })],
    [
      "its segments are gone",
      async (cache) => {
        for (const path of await segmentsIn(cache)) await rm(path);
      },
    ],
    [
      "its segments are cut off",
      async (cache) => {
        for (const path of await segmentsIn(cache))
          await truncate(path, Math.floor((await stat(path)).size / 2));
      },
    ],
    [
      "its segments have other bytes",
      async (cache) => {
        for (const path of await segmentsIn(cache)) {
          const bytes = await readFile(path);
          await writeFile(path, bytes.fill(7, Math.floor(bytes.byteLength / 4)));
        }
      },
    ],
    ["another process writes it", async (cache) => void (await Store.open(join(cache, "store")))],
  ])("%s: the next version arrives whole", async (_, damage) => {
    await using at = await world();
    await writeFile(at.file, randomBytes("file", 4 * MIB));
    await (await at.client({ directory: at.cache })).put({ path: at.file }, { name: "file" });
    await damage(at.cache);
    const edited = await edit(at.file, 1);
    const pfs = await at.client({ directory: at.cache });
    await pfs.put({ path: at.file }, { name: "file" });
    expect((await contentOf(pfs, "file")).equals(edited)).toBe(true);
    expect(await pfs.verify()).toMatchObject({ damaged: [], incomplete: [] });
  });

  async function segmentsIn(cache: string): Promise<string[]> {
    const segments = join(cache, "store", "segments");
    return (await readdir(segments)).map((name) => join(segments, name));
  }

  test.each<readonly [string, ClientMemoryOptions | undefined]>([
    ["nothing is remembered", undefined],
    ["nothing may be", { bytesMax: 0 }],
    ["there is no room for it", { bytesMax: 1000 }],
    ["it cannot be made", { directory: "/dev/null/cache" }],
  ])("%s: it is read where it lies, and what is there is not sent", async (_, cache) => {
    await using at = await world();
    const bytes = randomBytes("file", 4 * MIB);
    await writeFile(at.file, bytes);
    const pfs = await at.client(cache);
    const first = await pfs.put({ path: at.file }, { name: "file" });
    expect(first.transfer!.wireBytes.sent).toBeGreaterThan(4 * MIB);
    const half = bytes.byteLength / 2;
    const moved = [bytes.subarray(half), randomBytes("more", 100_000), bytes.subarray(0, half)];
    await writeFile(at.file, Buffer.concat(moved));
    const second = await pfs.put({ path: at.file });
    expect(second.transfer!.wireBytes.sent).toBeLessThan(MIB);
    expect((await contentOf(pfs, "file")).equals(bytes)).toBe(true);
    expect((await contentOf(pfs, second.root)).equals(await readFile(at.file))).toBe(true);
  });
});

test("a file that was fetched before is where the next copy of it comes from", async () => {
  await using at = await world();
  const bytes = randomBytes("file", 4 * MIB);
  await (await at.client()).put(bytes, { name: "file" });
  const pfs = await at.client({ directory: at.cache });
  const first = await pfs.getFile("file", at.file);
  expect(first.transfer!.wireBytes.received).toBeGreaterThan(4 * MIB);
  const copy = join(at.directory, "copy");
  const again = await pfs.getFile("file", copy);
  expect(again.transfer!.wireBytes.received).toBeLessThan(20_000);
  expect((await readFile(copy)).equals(bytes)).toBe(true);
  // Others write to it: it is what it is then, and no copy.
  await writeFile(at.file, randomBytes("other", 4 * MIB));
  await writeFile(copy, "");
  await pfs.getFile("file", join(at.directory, "third"));
  expect((await readFile(join(at.directory, "third"))).equals(bytes)).toBe(true);
});

test("small files, bytes and streams go by messages", async () => {
  await using at = await world();
  const pfs = await at.client({ directory: at.cache });
  await writeFile(at.file, randomBytes("file", 10_000));
  for (const source of [{ path: at.file }, randomBytes("bytes", 3 * MIB)]) {
    const put = await pfs.put(source, { name: "file" });
    expect(put.transfer).toBeUndefined();
    expect((await contentOf(pfs, "file")).byteLength).toBe(put.length);
  }
});

test.each<readonly [ProgressStep["doing"], number]>([
  ["reading", 0],
  // By then chunks are read where they lie, and not before they are sent.
  ["sending", 6 * MIB],
])("a file that changes in %s is not put", async (doing, from) => {
  await using at = await world();
  await writeFile(at.file, randomBytes("file", 30 * MIB));
  const pfs = await at.client({ bytesMax: 0 });
  let isChanged = false;
  const putting = pfs.put(
    { path: at.file },
    {
      name: "file",
      onProgress: (_, step) => {
        if (isChanged || step?.doing !== doing || step.bytes < from) return;
        isChanged = true;
        writeFileSync(at.file, randomBytes("other", 30 * MIB));
      },
    },
  );
  await expect(putting).rejects.toMatchObject({ code: "PFS_INPUT_CHANGED" });
  expect(isChanged).toBe(true);
  await expect(pfs.stat("file")).rejects.toMatchObject({ code: "PFS_NOT_FOUND" });
});

test("a put that nobody waits for any more ends, and the next one goes well", async () => {
  await using at = await world();
  await writeFile(at.file, randomBytes("file", 20 * MIB));
  const pfs = await at.client({ directory: at.cache });
  const stop = new AbortController();
  const putting = pfs.put(
    { path: at.file },
    {
      name: "file",
      signal: stop.signal,
      onProgress: (bytes) => bytes > 5 * MIB && stop.abort(new Error("enough")),
    },
  );
  await expect(putting).rejects.toThrow("enough");
  await pfs.put({ path: at.file }, { name: "file" });
  expect((await contentOf(pfs, "file")).byteLength).toBe(20 * MIB);
});
