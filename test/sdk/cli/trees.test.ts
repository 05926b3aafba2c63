/** Directories on the command line: stored, listed, read, compared, written out and synchronised. */
import { chmod, mkdir, readFile, readdir, rm, stat, symlink, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { startHub } from "../../../nodes/hub/hub.ts";
import type { TransferInfo } from "../../../sdk/packetfs.ts";
import { randomBytes } from "../../runtime/store/store-fixture.ts";
import { OneProcess } from "./one-process.ts";
import { makePlace } from "./run-pfs.ts";

interface Moved {
  readonly transfer: TransferInfo;
}

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

it("say what it cost to move one to a hub and from there", async () => {
  await using hub = await startHub({
    store: join(cwd, "hub"),
    listen: { host: "127.0.0.1", port: 0 },
    workers: 0,
  });
  const at = ["--at", hub.clientToken];
  await mkdir(join(cwd, "large"));
  await writeFile(join(cwd, "large", "file"), randomBytes("large", 400_000));
  await writeFile(join(cwd, "large", "other"), "other");
  const put = await commands.run(["put", "large", ...at]);
  expect(put.err).toMatch(/2 files read, 4\d\d kB sent, .* received \(1 : [\d.]+\): /);
  await writeFile(join(cwd, "large", "other"), "another");
  const sync = JSON.parse((await lines("sync", "./large", "large", "--json", ...at)).at(-1)!) as Moved;
  expect(sync).toMatchObject({ name: "large", version: 2, changed: 1 });
  expect(sync.transfer.wireBytes.sent).toBeLessThan(20_000);
  await rm(join(cwd, "large", "file"));
  const get = await commands.run(["get", "large", "-o", "fetched", ...at]);
  // All of it was put from here.
  expect(get.err).toMatch(/2 of 3 entries, 400 kB in .*, verified → fetched$/m);
  await using others = await OneProcess.start(cwd, { XDG_CACHE_HOME: join(cwd, "another cache") });
  const elsewhere = await others.run(["sync", "large", "./elsewhere", ...at]);
  expect(elsewhere.err).toMatch(/2 added, .* sent, 4\d\d kB received \(1 : /);
  expect(await readFile(join(cwd, "elsewhere", "other"), "utf8")).toBe("another");
});

it("take a stored directory as ls shows it", async () => {
  expect((await lines("stat", "site/"))[0]).toMatch(/^site\/\t/);
  expect((await lines("packets", "site/"))[0]).toMatch(/^site\/: /);
  await lines("put", "site", "--name", "gone");
  await lines("rm", "gone/");
  expect((await wrong("stat", "gone/")).err).toMatch(/there is no file called "gone\/"/);
  expect((await wrong("rm", "text/")).err).toMatch(/there is no file called "text\/"/);
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
