/** Directories that clients put at hubs and fetch from them: little moves of what is like something at the other end, whatever is remembered. */
import { mkdir, readFile, readdir, rm, stat, utimes, writeFile } from "node:fs/promises";
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import type { ClientMemoryOptions } from "../../../sdk/memory/client-memory.ts";
import type { PacketFS, WriteTreeOptions, WriteTreeResult } from "../../../sdk/packetfs.ts";
import { Store } from "../../../runtime/store/store.ts";
import { connect } from "../../../sdk/remote.ts";
import { Line } from "../../e2e/line.ts";
import { randomBytes } from "../../runtime/store/store-fixture.ts";
import { describeDirectory } from "../../runtime/tree/tree-place.ts";
import { world } from "./world.ts";
import type { World } from "./world.ts";

const SMALL_FILES = 200;
const LARGE_BYTES = 1_000_000;
/** All files together have about so many bytes. */
const TREE_BYTES = 3_000_000;

/** Small files in directories, and a large one. */
async function makeTree(directory: string, seed: string): Promise<void> {
  for (let file = 0; file < SMALL_FILES; file++) {
    const below = join(directory, `part ${file % 7}`);
    await mkdir(below, { recursive: true });
    await writeFile(join(below, `file ${file}`), randomBytes(`${seed} ${file}`, 50 * (file + 100)));
  }
  await writeFile(join(directory, "large"), randomBytes(`${seed} large`, LARGE_BYTES));
}

/** Writes a few bytes into some of the files. */
async function editTree(directory: string, version: number): Promise<void> {
  for (const path of ["part 1/file 1", "part 3/file 101", "large"]) {
    const bytes = await readFile(join(directory, path));
    bytes.write(`version ${version}`, 1000);
    await writeFile(join(directory, path), bytes);
    await utimes(join(directory, path), 1_700_000_000 + version, 1_700_000_000 + version);
  }
}

/** With all times, to the nanosecond. */
async function copyTree(from: string, to: string): Promise<void> {
  await promisify(execFile)("cp", ["-a", from, to]);
}

async function write(
  pfs: PacketFS,
  name: string,
  to: string,
  options?: WriteTreeOptions,
): Promise<WriteTreeResult> {
  return await (await pfs.openTree(name)).write(to, options);
}

function sum({ sent, received }: { readonly sent: number; readonly received: number }): number {
  return sent + received;
}

async function withTree(): Promise<World & { readonly from: string; readonly to: string }> {
  const at = await world();
  const from = join(at.directory, "from");
  await makeTree(from, "tree");
  return Object.assign(at, { from, to: join(at.directory, "to") });
}

describe("a directory that is put", () => {
  test("goes whole at first, then as what changed of it, by another process too", async () => {
    await using at = await withTree();
    const first = await (await at.client({ directory: at.cache })).putTree(at.from, { name: "tree" });
    expect(first.transfer!.wireBytes.sent).toBeGreaterThan(TREE_BYTES * 0.9);
    await editTree(at.from, 1);
    const told: number[] = [];
    const pfs = await at.client({ directory: at.cache });
    const second = await pfs.putTree(at.from, {
      name: "tree",
      onProgress: (bytes, total) => told.push(bytes / total),
    });
    expect(sum(second.transfer!.wireBytes)).toBeLessThan(30_000);
    expect(second.transfer!.chunks.patched).toBeGreaterThan(0);
    expect(second.transfer!.chunks.reused).toBeGreaterThan(0);
    expect(told.at(-1)).toBe(1);
    expect(told.toSorted((a, b) => a - b)).toEqual(told);
    expect((await pfs.stat("tree")).version).toBe(2);
    await write(await at.client(), "tree", at.to, { sync: true });
    expect(describeDirectory(at.to)).toEqual(describeDirectory(at.from));
    const unchanged = await pfs.putTree(at.from, { name: "tree" });
    expect(unchanged).toMatchObject({ root: second.root, newChunks: 0, newBytes: 0 });
  });

  test("by sync goes as what changed, and what stays of a version of others stays there", async () => {
    await using at = await withTree();
    const pfs = await at.client({ directory: at.cache });
    const first = await pfs.syncTree(at.from, "tree");
    expect(sum(first.transfer!.wireBytes)).toBeGreaterThan(TREE_BYTES * 0.9);
    expect((await pfs.syncTree(at.from, "tree")).transfer).toBeUndefined();
    await editTree(at.from, 1);
    const second = await pfs.syncTree(at.from, "tree", { deletes: true });
    expect(sum(second.transfer!.wireBytes)).toBeLessThan(30_000);
    expect(second.changes.map(({ path }) => path).toSorted()).toEqual([
      "large",
      "part 1/file 1",
      "part 3/file 101",
    ]);
    // Somebody who has nothing of it here takes a file away, and adds one: all else is where it is.
    const other = await at.client({ directory: join(at.directory, "other cache") });
    const copy = join(at.directory, "copy");
    await copyTree(at.from, copy);
    await rm(join(copy, "part 1/file 1"));
    await writeFile(join(copy, "added"), randomBytes("added", 300_000));
    const third = await other.syncTree(copy, "tree");
    expect(sum(third.transfer!.wireBytes)).toBeGreaterThan(300_000);
    expect(sum(third.transfer!.wireBytes)).toBeLessThan(600_000);
    await write(await at.client(), "tree", at.to);
    expect(await readdir(join(at.to, "part 1"))).toContain("file 1");
    const { damaged, incomplete } = await pfs.verify();
    expect({ damaged, incomplete }).toEqual({ damaged: [], incomplete: [] });
    // What was here in part alone was not kept as if it were all.
    await write(other, "tree", join(at.directory, "third"));
    expect(describeDirectory(join(at.directory, "third"))).toEqual(describeDirectory(at.to));
  });
});

describe("a directory that is fetched", () => {
  test("comes whole at first, and then as what changed of the version that was fetched before", async () => {
    await using at = await withTree();
    const hub = await at.client();
    await hub.putTree(at.from, { name: "tree" });
    const told: number[] = [];
    const onProgress = (bytes: number, total: number): unknown => told.push(bytes / total);
    const first = await write(await at.client({ directory: at.cache }), "tree", at.to, { onProgress });
    expect(sum(first.transfer!.wireBytes)).toBeGreaterThan(TREE_BYTES * 0.9);
    expect(told.at(-1)).toBe(1);
    expect(told.toSorted((a, b) => a - b)).toEqual(told);
    await editTree(at.from, 1);
    await hub.putTree(at.from, { name: "tree" });
    const pfs = await at.client({ directory: at.cache });
    const second = await write(pfs, "tree", at.to, { sync: true, deletes: true });
    expect(second.files).toBe(3);
    expect(sum(second.transfer!.wireBytes)).toBeLessThan(30_000);
    expect(describeDirectory(at.to)).toEqual(describeDirectory(at.from));
    // All of it is here.
    const again = join(at.directory, "again");
    expect((await write(pfs, "tree", again, { sync: true })).transfer).toBeUndefined();
    expect(describeDirectory(again)).toEqual(describeDirectory(at.from));
  });

  test.each([
    ["a version", false],
    ["something like it", true],
  ])("over %s that stands there comes as what differs", async (_, isStrange) => {
    await using at = await withTree();
    const hub = await at.client();
    await hub.putTree(at.from, { name: "tree" });
    await copyTree(at.from, at.to);
    if (isStrange) await writeFile(join(at.to, "part 2", "of nobody"), "else");
    await editTree(at.from, 1);
    await hub.putTree(at.from, { name: "tree" });
    const pfs = await at.client({ directory: at.cache });
    const result = await write(pfs, "tree", at.to, { sync: true, deletes: true });
    expect(result.files).toBe(3);
    // Chunks of what is known to no peer come whole, if they changed.
    expect(sum(result.transfer!.wireBytes)).toBeLessThan(isStrange ? 700_000 : 30_000);
    expect(describeDirectory(at.to)).toEqual(describeDirectory(at.from));
  });

  test("has its manifest come as what changed of one that was fetched before", async () => {
    await using at = await world();
    const from = join(at.directory, "from");
    for (let file = 0; file < 6000; file++) {
      const below = join(from, `${file % 60}`);
      await mkdir(below, { recursive: true });
      const path = join(below, Buffer.from(randomBytes(`name ${file}`, 24)).toString("hex"));
      await writeFile(path, "");
      await utimes(path, file * 1000, file * 1000);
    }
    await writeFile(join(from, "0", "file"), randomBytes("file", 1_000_000));
    const hub = await at.client();
    await hub.putTree(from, { name: "tree" });
    await write(await at.client({ directory: at.cache }), "tree", join(at.directory, "first"));
    await writeFile(join(from, "0", "another"), "another");
    await hub.putTree(from, { name: "tree" });
    const line = await Line.to(at.hub.address);
    const opened = async (cache: ClientMemoryOptions | undefined): Promise<number> => {
      await using pfs = await connect(line.token(at.hub.clientToken), { cache });
      const before = line.received;
      const tree = await pfs.openTree("tree");
      expect(tree.entry("0/another")).toMatchObject({ length: 7 });
      expect([...tree.entries()].length).toBe(1 + 60 + 6000 + 2);
      return line.received - before;
    };
    const unknown = await opened(undefined);
    expect(unknown).toBeGreaterThan(100_000);
    expect(await opened({ directory: at.cache })).toBeLessThan(unknown / 4);
    line.close();
  });

  test("in part comes by its files", async () => {
    await using at = await withTree();
    await (await at.client()).putTree(at.from, { name: "tree" });
    const pfs = await at.client({ directory: at.cache });
    const result = await write(pfs, "tree/part 1", at.to);
    expect(result.transfer).toBeUndefined();
    expect(await readdir(at.to)).toEqual(await readdir(join(at.from, "part 1")));
  });
});

describe("what is remembered may be lost, or nothing may be", () => {
  test.each<readonly [string, ClientMemoryOptions | undefined]>([
    ["nothing is remembered", undefined],
    ["nothing may be", { bytesMax: 0 }],
    ["there is no room for it", { bytesMax: 1_000_000 }],
    ["it cannot be made", { directory: "/dev/null/cache" }],
  ])("%s: directories go by messages", async (_, cache) => {
    await using at = await withTree();
    const pfs = await at.client(cache);
    expect((await pfs.putTree(at.from, { name: "tree" })).transfer).toBeUndefined();
    await editTree(at.from, 1);
    expect((await pfs.syncTree(at.from, "tree", { deletes: true })).transfer).toBeUndefined();
    expect((await write(pfs, "tree", at.to, { sync: true })).transfer).toBeUndefined();
    expect(describeDirectory(at.to)).toEqual(describeDirectory(at.from));
  });

  test.each<readonly [string, (cache: string) => Promise<unknown>]>([
    ["all of it is gone", (cache) => rm(cache, { recursive: true })],
    ["its segments are gone", (cache) => eachSegment(cache, (path) => rm(path))],
    [
      "its segments have other bytes",
      (cache) =>
        eachSegment(cache, async (path) => {
          const bytes = await readFile(path);
          await writeFile(path, bytes.fill(7, Math.floor(bytes.byteLength / 4)));
        }),
    ],
    ["another process writes it", async (cache) => void (await Store.open(join(cache, "store")))],
  ])("%s: the next version arrives whole, both ways", async (_, damage) => {
    await using at = await withTree();
    await (await at.client({ directory: at.cache })).putTree(at.from, { name: "tree" });
    await editTree(at.from, 1);
    await damage(at.cache);
    const pfs = await at.client({ directory: at.cache });
    await pfs.putTree(at.from, { name: "tree" });
    await write(pfs, "tree", at.to, { sync: true });
    expect(describeDirectory(at.to)).toEqual(describeDirectory(at.from));
    const { damaged, incomplete } = await pfs.verify();
    expect({ damaged, incomplete }).toEqual({ damaged: [], incomplete: [] });
  });

  async function eachSegment(cache: string, damage: (path: string) => Promise<unknown>): Promise<void> {
    const segments = join(cache, "store", "segments");
    for (const name of await readdir(segments)) await damage(join(segments, name));
    expect((await stat(segments)).isDirectory()).toBe(true);
  }
});

test("a directory that nobody waits for any more goes on where it was, both ways", async () => {
  await using at = await withTree();
  await writeFile(join(at.from, "larger"), randomBytes("larger", 12_000_000));
  const halfWay = (signal: AbortController) => (bytes: number, total: number) =>
    bytes > total * 0.3 && signal.abort(new Error("enough"));
  const pfs = await at.client({ directory: at.cache });
  const stop = new AbortController();
  const putting = pfs.putTree(at.from, { name: "tree", signal: stop.signal, onProgress: halfWay(stop) });
  await expect(putting).rejects.toThrow("enough");
  await pfs.putTree(at.from, { name: "tree" });
  const other = await at.client({ directory: join(at.directory, "other cache") });
  const stopped = new AbortController();
  const getting = write(other, "tree", at.to, { signal: stopped.signal, onProgress: halfWay(stopped) });
  await expect(getting).rejects.toThrow("enough");
  const { transfer } = await write(other, "tree", at.to, { sync: true });
  expect(sum(transfer!.wireBytes)).toBeLessThan(12_000_000);
  expect(describeDirectory(at.to)).toEqual(describeDirectory(at.from));
});
