/** A store on a directory, opened and used where something is in the way: for a while, or for good. */
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { openLocal } from "../../sdk/index.ts";
import type { PacketFS } from "../../sdk/index.ts";
import { Store } from "../../runtime/store/store.ts";
import { temporaryDirectory } from "./cli/run-pfs.ts";

const TEXT = Buffer.from("one\ntwo\nthree\n");

async function textOf(pfs: PacketFS, name: string): Promise<string> {
  const parts: Uint8Array[] = [];
  for await (const part of pfs.get(name)) parts.push(part);
  return Buffer.concat(parts).toString();
}

/** A store with a text in it that nobody can open for writing, root neither: what is to be its lock is a directory. */
async function unwritableStore(): Promise<{ readonly directory: string; readonly allow: () => void }> {
  const directory = join(await temporaryDirectory(), "store");
  {
    await using pfs = await openLocal(directory);
    await pfs.put(TEXT, { name: "text" });
  }
  const lock = join(directory, "writer.lock");
  rmSync(lock);
  mkdirSync(lock);
  chmodSync(directory, 0o555);
  return {
    directory,
    allow: () => {
      chmodSync(directory, 0o755);
      rmSync(lock, { recursive: true });
    },
  };
}

it("goes on when what kept it from writing has gone, and reads meanwhile", async () => {
  const { directory, allow } = await unwritableStore();
  // Root is kept out by the lock alone, which is no file.
  const code = process.getuid?.() === 0 ? "PFS_STORE_UNREADABLE" : "PFS_STORE_READ_ONLY";
  await using pfs = await openLocal(directory);
  for (let attempt = 0; attempt < 2; attempt++) {
    await expect(pfs.put(TEXT, { name: "more" })).rejects.toMatchObject({ code });
    await expect(pfs.gc()).rejects.toMatchObject({ code });
    expect(await textOf(pfs, "text")).toBe(TEXT.toString());
    expect(await pfs.stat("text")).toMatchObject({ version: 1 });
    expect(await pfs.verify()).toMatchObject({ damaged: [], incomplete: [] });
  }
  allow();
  await pfs.put(TEXT, { name: "more" });
  expect(await textOf(pfs, "more")).toBe(TEXT.toString());
});

it("goes on when another writer has ended", async () => {
  const directory = join(await temporaryDirectory(), "store");
  const other = await Store.open(directory);
  await using pfs = await openLocal(directory);
  await expect(pfs.put(TEXT, { name: "text" })).rejects.toMatchObject({ code: "PFS_STORE_BUSY" });
  await other.close();
  await pfs.put(TEXT, { name: "text" });
  expect(await textOf(pfs, "text")).toBe(TEXT.toString());
});

it("finds a store that was made after it had looked for one", async () => {
  const directory = join(await temporaryDirectory(), "store");
  await using pfs = await openLocal(directory);
  await expect(pfs.stat("text")).rejects.toMatchObject({ code: "PFS_STORE_UNREADABLE" });
  {
    await using other = await openLocal(directory);
    await other.put(TEXT, { name: "text" });
  }
  expect(await textOf(pfs, "text")).toBe(TEXT.toString());
});

it("runs programs over a store that may only be read, and stores no result there", async () => {
  const { directory, allow } = await unwritableStore();
  {
    await using pfs = await openLocal(directory, { workers: 1 });
    const count = `import { defineProgram, lines } from "packetfs";
      export default defineProgram({ input: lines(), map: () => 1, combine: (a, b) => a + b });`;
    expect((await pfs.run({ source: count }, ["text"])).value).toBe(3);
    await expect(pfs.run({ source: count }, ["text"], { out: "count" })).rejects.toMatchObject({
      code: "PFS_STORE_READ_ONLY",
    });
    expect(await pfs.jobs()).toMatchObject([{ state: "done" }]);
    expect(await textOf(pfs, "text")).toBe(TEXT.toString());
  }
  allow();
  await using pfs = await openLocal(directory);
  const names: string[] = [];
  for await (const { name } of pfs.list()) names.push(name);
  expect(names).toEqual(["text"]);
});

it("remembers what a program says of itself, and asks it again when that is gone or no such thing", async () => {
  const directory = join(await temporaryDirectory(), "store");
  const cache = join(await temporaryDirectory(), "descriptions");
  const source = `import { defineProgram, lines } from "packetfs";
    export default defineProgram({ input: lines(), map: (line) => line.length, combine: (a, b) => a + b });`;
  const run = async (): Promise<unknown> => {
    await using pfs = await openLocal(directory, { runsOnce: true, cache });
    return (await pfs.run({ source }, ["text"])).value;
  };
  const remembered = (): unknown => {
    const [name, ...others] = readdirSync(cache);
    expect(others).toEqual([]);
    return JSON.parse(readFileSync(join(cache, name!), "utf8"));
  };
  {
    await using pfs = await openLocal(directory);
    await pfs.put(TEXT, { name: "text" });
  }
  expect(await run()).toBe(11);
  const description = remembered();
  expect(description).toMatchObject({ yields: "value", hasCombine: true });
  for (const text of [
    "{",
    "{}",
    JSON.stringify({ reason: "it is not there" }),
    JSON.stringify(description),
  ]) {
    writeFileSync(join(cache, readdirSync(cache)[0]!), text);
    expect(await run()).toBe(11);
    expect(remembered()).toEqual(description);
  }
});

it("does nothing any more after it was closed", async () => {
  const directory = join(await temporaryDirectory(), "store");
  const pfs = await openLocal(directory);
  await pfs.put(TEXT, { name: "text" });
  await pfs.close();
  await expect(pfs.put(TEXT)).rejects.toMatchObject({ code: "PFS_STORE_CLOSED" });
  await expect(pfs.stat("text")).rejects.toMatchObject({ code: "PFS_STORE_CLOSED" });
});
