import { existsSync, mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { createFile, makeDirectory, removeLeftTemporaries, replaceFile } from "../../runtime/durable-file.ts";
import { failure, temporaryDirectory } from "./store/store-fixture.ts";
import { runSync } from "../suites/run-sync.ts";

/** More than whoever replaces a file makes to its disk. */
const CHANGES_MAX = 100;
const LETTERS = Array.from({ length: 10 }, (_, index) => String.fromCharCode(97 + index));

test("a file that is replaced is the old one or a new one, for whoever reads it", async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, "file");
  const contentOf = (letter: string): string => letter.repeat(200_000);
  writeFileSync(path, contentOf("z"));
  let isWriting = true;
  const seen = new Set<string>();
  const reading = (async (): Promise<void> => {
    while (isWriting) {
      const text = readFileSync(path, "utf8");
      expect(text).toBe(contentOf(text[0]!));
      seen.add(text[0]!);
      await new Promise((resolve) => setImmediate(resolve));
    }
  })();
  await Promise.all(LETTERS.map((letter) => replaceFile(path, contentOf(letter))));
  isWriting = false;
  await reading;
  expect(LETTERS).toContain(readFileSync(path, "utf8")[0]);
  expect(seen.size).toBeGreaterThan(0);
  expect(readdirSync(directory.path)).toEqual(["file"]);
});

test("a file is created by one of those that try at once, and the others leave it alone", async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, "file");
  const created = await Promise.all(LETTERS.map((letter) => createFile(path, letter)));
  expect(created.filter(Boolean)).toHaveLength(1);
  expect(readFileSync(path, "utf8")).toBe(LETTERS[created.indexOf(true)]);
  expect(await createFile(path, "late")).toBe(false);
  expect(readdirSync(directory.path)).toEqual(["file"]);
  if (process.platform !== "win32") expect(statSync(path).mode & 0o777).toBe(0o600);
});

test("what cannot be written changes nothing and leaves nothing behind", async () => {
  await using directory = await temporaryDirectory();
  const taken = join(directory.path, "taken");
  mkdirSync(join(taken, "full"), { recursive: true });
  expect(await failure(replaceFile(taken, "x"))).toBeInstanceOf(Error);
  expect(await failure(replaceFile(join(directory.path, "nowhere", "file"), "x"))).toMatchObject({
    code: "ENOENT",
  });
  expect(await createFile(taken, "x")).toBe(false);
  expect(readdirSync(directory.path)).toEqual(["taken"]);
});

test("what a process left that was killed at any step of it is removed, and nothing of one that lives", async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, "file");
  const durableFile = new URL("../../runtime/durable-file.ts", import.meta.url).href;
  const killedAt = fileURLToPath(new URL("../e2e/killed-at.ts", import.meta.url));
  const writing = `const { replaceFile } = await import(${JSON.stringify(durableFile)});
    await replaceFile(process.argv[1], "new");`;
  let left = 0;
  for (let change = 1; ; change++) {
    expect(change).toBeLessThan(CHANGES_MAX);
    writeFileSync(path, "old");
    const words = ["--import", killedAt, "--input-type=module", "-e", writing, path];
    const environment = { ...process.env, PACKETFS_TEST_KILL_AT: String(change) };
    const { signal, status, stderr } = runSync(process.execPath, words, { env: environment });
    if (readdirSync(directory.path).length > 1) left++;
    await removeLeftTemporaries(directory.path);
    expect([change, readdirSync(directory.path)]).toEqual([change, ["file"]]);
    expect(["old", "new"]).toContain(readFileSync(path, "utf8"));
    if (signal === "SIGKILL") continue;
    expect([status, stderr]).toEqual([0, ""]);
    break;
  }
  expect(left).toBeGreaterThan(0);
  const writes = Array.from({ length: 20 }, () => replaceFile(path, "mine"));
  await Promise.all([...writes, removeLeftTemporaries(directory.path)]);
  expect(readFileSync(path, "utf8")).toBe("mine");
});

test("a directory is made with those above it, by several at once, and where none can be it is said", async () => {
  await using directory = await temporaryDirectory();
  const deep = join(directory.path, "a/b/c");
  await Promise.all(Array.from({ length: 5 }, () => makeDirectory(deep)));
  expect(statSync(deep).isDirectory()).toBe(true);
  await makeDirectory(deep);
  writeFileSync(join(directory.path, "file"), "");
  await expect(makeDirectory(join(directory.path, "file/x"))).rejects.toMatchObject({ code: "ENOTDIR" });
  await expect(makeDirectory(join(directory.path, "file"))).rejects.toMatchObject({ code: "EEXIST" });
  // Its own answer to a new directory is that there is no such one.
  if (existsSync("/proc/self")) {
    await expect(makeDirectory("/proc/nowhere/store")).rejects.toMatchObject({ code: "ENOENT" });
  }
});
