/** Directories on the command line: stored, listed, read, compared, written out and synchronised. */
import { chmod, mkdir, readFile, readdir, rm, stat, symlink, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { OneProcess } from "./one-process.ts";
import { makePlace } from "./run-pfs.ts";

let cwd: string;
let commands: OneProcess;
beforeAll(async () => {
  ({ cwd } = await makePlace());
  commands = await OneProcess.start(cwd, { PACKETFS_STORE: join(cwd, "store") });
  await mkdir(join(cwd, "site", "docs"), { recursive: true });
  await mkdir(join(cwd, "site", ".git"));
  await writeFile(join(cwd, "site", ".git", "config"), "left out");
  await writeFile(join(cwd, "site", "index.html"), "<html>");
  await writeFile(join(cwd, "site", "docs", "a.md"), "# a\n");
  await symlink("../index.html", join(cwd, "site", "docs", "up"));
});
afterAll(() => commands[Symbol.asyncDispose]());

/** What a command that ends well writes to stdout, by lines. */
async function lines(...words: readonly string[]): Promise<string[]> {
  const { status, out, err } = await commands.run(words);
  expect(status, err).toBe(0);
  return out.split("\n").filter((line) => line !== "");
}

async function wrong(...words: readonly string[]): Promise<{ status: number; err: string }> {
  const { status, out, err } = await commands.run(words);
  expect(out).toBe("");
  return { status, err };
}

it("store a directory as a name, and say what is in it and what changed", async () => {
  const [first = ""] = await lines("put", "site", "--exclude", ".git/");
  expect(first).toMatch(/^[0-9a-f]{64} {2}site$/);
  expect((await lines("ls"))[0]).toMatch(/^site\/\t/);
  const below = (await lines("ls", "site/")).map((line) => line.split("\t"));
  expect(below.map(([mode = "", bytes, , name]) => [mode[0], bytes, name])).toEqual([
    ["d", "-", "docs/"],
    ["-", "6", "index.html"],
  ]);
  const all = (await lines("ls", "site", "--recursive")).map((line) => line.split("\t").at(-1));
  expect(all).toEqual(["docs/", "docs/a.md", "docs/up -> ../index.html", "index.html"]);
  expect(await lines("cat", "site/docs/a.md")).toEqual(["# a"]);
  expect((await lines("packets", "site")).at(-1)).toMatch(/HALT .*in all, a directory/);
  await writeFile(join(cwd, "site", "docs", "b.md"), "# b\n");
  await chmod(join(cwd, "site", "docs", "a.md"), 0o755);
  await writeFile(join(cwd, "site", "index.html"), "<html lang=en>");
  await lines("put", "site", "--exclude", ".git/");
  const changes = ["m docs/a.md", "+ docs/b.md", "~ index.html"];
  expect(await lines("diff", "site@1", "site@2")).toEqual(changes);
  expect((await commands.run(["diff", "site@2", "site@2"])).err).toMatch(/nothing differs/);
});

it("write it out, all of it, a directory or a file of it", async () => {
  await lines("get", "site", "-o", "copy");
  expect((await readdir(join(cwd, "copy"))).toSorted()).toEqual(["docs", "index.html"]);
  await mkdir(join(cwd, "into"));
  await lines("get", "site/docs", "-o", "into/");
  expect((await readdir(join(cwd, "into", "docs"))).toSorted()).toEqual(["a.md", "b.md", "up"]);
  await lines("get", "site/index.html", "-o", "index");
  expect(await readFile(join(cwd, "index"), "utf8")).toBe("<html lang=en>");
  expect(await wrong("get", "site", "-o", "-")).toMatchObject({ status: 2 });
  expect((await wrong("cat", "site")).err).toMatch(/site is a directory; name a file in it, as site\/PATH/);
  expect((await wrong("get", "site")).err).toMatch(/site exists already; add -o site/);
});

it("make the stored one and the one that is here equal, either way, and say first what would change", async () => {
  const copy = join(cwd, "copy");
  await chmod(join(copy, "docs", "a.md"), 0o600);
  await utimes(join(copy, "docs", "b.md"), 5, 5);
  await mkdir(join(copy, "mine"));
  await writeFile(join(copy, "mine", "x"), "x");
  await rm(join(copy, "index.html"));
  const told = ["- mine/", "m docs/a.md", "t docs/b.md", "+ index.html"];
  // The time alone says that it is another one, so its bytes come again.
  const byTimes = told.map((line) => line.replace("t ", "~ "));
  expect(await lines("sync", "site", "./copy", "--delete", "--dry-run")).toEqual(byTimes);
  expect(await lines("sync", "site", "./copy", "--delete", "--checksum", "--dry-run")).toEqual(told);
  expect(await readdir(join(copy, "mine"))).toEqual(["x"]);
  await lines("sync", "site", "./copy", "--delete");
  expect(await lines("sync", "site", "./copy", "--delete", "--dry-run")).toEqual([]);
  expect((await stat(join(copy, "docs", "a.md"))).mode & 0o777).toBe(0o755);
  await rm(join(copy, "docs", "b.md"));
  expect(await lines("sync", "./copy", "site", "--dry-run")).toEqual([]);
  expect(await lines("sync", "./copy", "site", "--delete", "--dry-run")).toEqual(["- docs/b.md"]);
  await lines("sync", "./copy", "site", "--delete");
  expect(await lines("diff", "site@2", "site")).toEqual(["- docs/b.md"]);
});

it("refuse what cannot be meant", async () => {
  for (const [words, status, said] of [
    [["sync", "site", "site"], 2, /site is a directory here and a stored one; write \.\/site/],
    [["sync", "./site", "./copy"], 2, /both are directories of this machine/],
    [["put", "site", "--exclude", "a["], 2, /"a\[" is no pattern/],
    [["diff", "site", "text"], 3, /text/],
    [["cat", "site/nothing"], 3, /site\/nothing/],
  ] as const) {
    const ended = await wrong(...words);
    expect([words, ended.status]).toEqual([words, status]);
    expect(ended.err).toMatch(said);
  }
});
