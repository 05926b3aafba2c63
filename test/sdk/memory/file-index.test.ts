/** What is remembered of files: never a root that a file does not have, and never an error. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  appendFile,
  chmod,
  mkdir,
  open,
  readFile,
  readdir,
  rename,
  rm,
  stat,
  symlink,
  truncate,
  utimes,
  writeFile,
} from "node:fs/promises";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { sha256 } from "../../../packets/digest.ts";
import { FileIndex, seeFile } from "../../../sdk/memory/file-index.ts";
import type { SeenFile } from "../../../sdk/memory/file-index.ts";
import { temporaryDirectory } from "../../runtime/store/store-fixture.ts";

const CHILD = fileURLToPath(new URL("./index-child.ts", import.meta.url));
const root = sha256(Buffer.from("a root"));
const other = sha256(Buffer.from("another root"));

/** As if the file had been left alone for long: the tests need not wait for that. */
async function settled(path: string): Promise<SeenFile> {
  return { ...(await seeFile(path))!, isSettled: true };
}

interface Place extends AsyncDisposable {
  readonly path: string;
  readonly file: string;
  readonly cache: string;
  readonly index: FileIndex;
}

async function place(): Promise<Place> {
  const directory = await temporaryDirectory();
  const file = join(directory.path, "file");
  await writeFile(file, "some bytes");
  const cache = join(directory.path, "cache", "files");
  const index = await FileIndex.open(cache);
  return {
    path: directory.path,
    file,
    cache,
    index,
    [Symbol.asyncDispose]: async () => {
      index.close();
      await directory[Symbol.asyncDispose]();
    },
  };
}

async function databaseOf(cache: string): Promise<string> {
  return join(
    cache,
    (await readdir(cache)).find((name) => name.endsWith(".db"))!,
  );
}

test("a file that is as it was has its root, for this process and for the next", async () => {
  await using at = await place();
  expect(at.index.rootOf(await settled(at.file))).toBeUndefined();
  expect(await at.index.remember(await settled(at.file), root)).toBe(true);
  expect(at.index.rootOf((await seeFile(at.file))!)).toEqual(root);
  using next = await FileIndex.open(at.cache);
  expect(next.rootOf((await seeFile(at.file))!)).toEqual(root);
  expect(next.placesOf(root, 8)).toMatchObject([{ path: at.file, length: 10, root }]);
});

describe("a file is not taken for what it was", () => {
  test.each<readonly [string, (path: string) => Promise<void>]>([
    ["has more bytes", (path) => appendFile(path, "!")],
    ["has fewer", (path) => truncate(path, 3)],
    ["has others, and the same times", otherBytesSameTime],
    ["was replaced by another", replaced],
    ["is gone for a link to another", linked],
  ])("that %s", async (_, change) => {
    await using at = await place();
    await at.index.remember(await settled(at.file), root);
    await change(at.file);
    expect(at.index.rootOf(await settled(at.file))).toBeUndefined();
  });

  async function otherBytesSameTime(path: string): Promise<void> {
    const { atimeMs, mtimeMs, ctimeNs } = await stat(path, { bigint: true });
    // The times of a file system have ticks: the next one has to come.
    do {
      const file = await open(path, "r+");
      await file.write("SOME");
      await file.close();
      await utimes(path, Number(atimeMs) / 1000, Number(mtimeMs) / 1000);
    } while ((await stat(path, { bigint: true })).ctimeNs === ctimeNs);
  }

  async function replaced(path: string): Promise<void> {
    await writeFile(`${path}.new`, "SOME bytes");
    await rename(`${path}.new`, path);
  }

  async function linked(path: string): Promise<void> {
    await rename(path, `${path}.old`);
    await writeFile(`${path}.other`, "SOME bytes");
    await symlink(`${path}.other`, path);
  }

  test("that was written to just before it was looked at: once more at the same time of the clock would look the same", async () => {
    await using at = await place();
    const seen = (await seeFile(at.file))!;
    expect(seen.isSettled).toBe(false);
    expect(await at.index.remember(seen, root)).toBe(true);
    expect(at.index.rootOf((await seeFile(at.file))!)).toBeUndefined();
    // It may be read to see what of the root it still has.
    expect(at.index.placesOf(root, 8)).toMatchObject([{ path: at.file, length: 10, isSettled: false }]);
    // Once it was read again, having been left alone, it is believed; and a look at it too soon does not change that.
    await at.index.remember(await settled(at.file), root);
    await at.index.remember(seen, root);
    expect(at.index.rootOf(seen)).toEqual(root);
    await at.index.remember(seen, other);
    expect(at.index.rootOf(seen)).toBeUndefined();
  });

  test("whose times are to come", async () => {
    await using at = await place();
    const later = Date.now() / 1000 + 3600;
    await utimes(at.file, later, later);
    expect((await seeFile(at.file))!.isSettled).toBe(false);
  });

  test("that changed while it was read is not remembered", async () => {
    await using at = await place();
    const before = await settled(at.file);
    await appendFile(at.file, "more");
    expect(await at.index.remember(before, root)).toBe(false);
    expect(at.index.placesOf(root, 8)).toEqual([]);
    await rm(at.file);
    expect(await at.index.remember(before, root)).toBe(false);
    expect(await seeFile(at.file)).toBeUndefined();
    expect(await seeFile(at.path)).toBeUndefined();
  });
});

test("of many files that had a root the latest come first, as many as are asked for", async () => {
  await using at = await place();
  const paths = Array.from({ length: 5 }, (_, index) => join(at.path, `copy-${index}`));
  for (const path of paths) {
    await writeFile(path, "copy");
    await at.index.remember(await settled(path), root);
  }
  await at.index.remember(await settled(at.file), other);
  expect(at.index.placesOf(root, 3).map(({ path }) => path)).toEqual(paths.slice(2).toReversed());
  expect(at.index.placesOf(other, 3)).toHaveLength(1);
});

test("what is used stays, and the oldest goes when there is too much", async () => {
  await using at = await place();
  const old = join(at.path, "old");
  await writeFile(old, "old");
  await at.index.remember(await settled(old), other);
  await at.index.remember(await settled(at.file), root);
  const pass = async (uses: number): Promise<void> => {
    // As many uses of other files, without the files.
    const database = new DatabaseSync(await databaseOf(at.cache));
    database
      .prepare(
        "insert into files select max(use) + ?, 'x' || max(use), 'x', 0, zeroblob(32), 0, '', '', 0 from files",
      )
      .run(uses);
    database.close();
  };
  await pass(40_000);
  expect(at.index.rootOf((await seeFile(at.file))!)).toEqual(root);
  await pass(40_000);
  const latest = join(at.path, "latest");
  await writeFile(latest, "latest");
  await at.index.remember(await settled(latest), other);
  expect(at.index.rootOf((await seeFile(at.file))!)).toEqual(root);
  expect(at.index.rootOf(await settled(old))).toBeUndefined();
  expect(at.index.placesOf(other, 8).map(({ path }) => path)).toEqual([latest]);
});

describe("an index that is of no use is none", () => {
  const damages: readonly (readonly [string, (path: string) => Promise<void>])[] = [
    ["that is no database", (path) => writeFile(path, Buffer.alloc(8192, "no database "))],
    ["that is cut off", (path) => truncate(path, 5000)],
    ["without its tables", (path) => alter(path, "drop table files")],
    [
      "with tables of other columns",
      (path) => alter(path, "drop table files; create table files (use text)"),
    ],
    ["that is empty", (path) => truncate(path, 0)],
    ["that is a directory", async (path) => (await rm(path), await mkdir(path))],
  ];

  async function alter(path: string, sql: string): Promise<void> {
    const database = new DatabaseSync(path);
    database.exec(sql);
    database.close();
  }

  test.each(damages)("%s: it is made anew", async (_, damage) => {
    await using at = await place();
    await at.index.remember(await settled(at.file), root);
    at.index.close();
    await damage(await databaseOf(at.cache));
    using next = await FileIndex.open(at.cache);
    const seen = await settled(at.file);
    expect(next.rootOf(seen)).toBeUndefined();
    await next.remember(seen, root);
    using last = await FileIndex.open(at.cache);
    await last.remember(seen, root);
    expect(last.rootOf(seen)).toEqual(root);
  });

  test.each([
    ["another root", `update files set root = x'${"11".repeat(32)}'`],
    ["another file", "update files set path = path || '2'"],
    ["the mark of another state", "update files set mark = mark || '2'"],
    ["a root that is none", "update files set root = x'1234'"],
    ["a number for a path", "update files set path = 17"],
    ["a length beyond all", "update files set length = 9223372036854775807"],
    ["a place behind all others", "update files set use = 9223372036854775807"],
  ])("whose row has %s", async (_, sql) => {
    await using at = await place();
    await at.index.remember(await settled(at.file), root);
    await alter(await databaseOf(at.cache), sql);
    const found = at.index.rootOf(await settled(at.file));
    expect(found === undefined || Buffer.compare(found, root) === 0).toBe(true);
    const elsewhere = { ...(await settled(at.file)), path: `${at.file}2` };
    expect(at.index.rootOf(elsewhere)).toBeUndefined();
    expect(await at.index.remember(await settled(at.file), other)).toBeTypeOf("boolean");
    await at.index.remember(await settled(at.file), other);
    expect(at.index.rootOf(await settled(at.file))).toEqual(other);
  });

  test("that another process holds up", async () => {
    await using at = await place();
    await at.index.remember(await settled(at.file), root);
    const database = new DatabaseSync(await databaseOf(at.cache));
    database.exec("begin immediate; update files set settled = settled");
    expect(await at.index.remember(await settled(at.file), other)).toBe(false);
    expect(at.index.rootOf(await settled(at.file))).toEqual(root);
    database.exec("rollback");
    database.close();
    expect(await at.index.remember(await settled(at.file), other)).toBe(true);
    expect(at.index.rootOf(await settled(at.file))).toEqual(other);
  });

  test("where nothing can be written", async () => {
    await using at = await place();
    const blocked = join(at.path, "file", "cache");
    using none = await FileIndex.open(blocked);
    expect(await none.remember(await settled(at.file), root)).toBe(false);
    expect(none.rootOf(await settled(at.file))).toBeUndefined();
    expect(none.placesOf(root, 1)).toEqual([]);
    none.clear();
    if (process.geteuid?.() === 0) return;
    await mkdir(at.cache, { recursive: true });
    await chmod(at.cache, 0o500);
    using refused = await FileIndex.open(at.cache);
    expect(await refused.remember(await settled(at.file), root)).toBe(false);
    await chmod(at.cache, 0o700);
  });
});

test("nobody but the user reads it, and all of it can be forgotten", async () => {
  await using at = await place();
  await at.index.remember(await settled(at.file), root);
  const path = await databaseOf(at.cache);
  expect((await stat(path)).mode & 0o077).toBe(0);
  expect((await stat(at.cache)).mode & 0o077).toBe(0);
  at.index.clear();
  expect(at.index.placesOf(root, 1)).toEqual([]);
  at.index.close();
  expect((await readFile(path)).includes(at.file)).toBe(false);
});

test("several processes that remember at once, and one of them killed, lose nothing of the others", async () => {
  await using at = await place();
  const of = async (process: number): Promise<string[]> =>
    await Promise.all(
      Array.from({ length: 40 }, async (_, index) => {
        const path = join(at.path, `${process}-${index}`);
        await writeFile(path, path);
        return path;
      }),
    );
  const paths = await Promise.all([0, 1, 2].map(of));
  const children = paths.map((each) =>
    spawn(process.execPath, [CHILD, at.cache, ...each], { stdio: ["ignore", "pipe", "inherit"] }),
  );
  const ended = Promise.all(children.map((child) => once(child, "exit")));
  await Promise.all(children.map(({ stdout }) => once(stdout!, "data")));
  children[0]!.kill("SIGKILL");
  await ended;
  for (const path of paths.slice(1).flat()) {
    expect(at.index.placesOf(sha256(Buffer.from(path)), 1).map((found) => found.path)).toEqual([path]);
  }
});
