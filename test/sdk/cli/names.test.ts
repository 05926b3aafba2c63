/** What names a file: a name, a version of one, a root, the first digits of one. In a directory, and at a hub. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { connect, openLocal } from "../../../sdk/index.ts";
import type { PacketFS } from "../../../sdk/index.ts";
import { makePlace, serve } from "./run-pfs.ts";
import type { Place, Server } from "./run-pfs.ts";

const COUNT = `import { bytes, defineProgram } from "packetfs";
  export default defineProgram({
    input: bytes(),
    map: (all) => all.reduce((sum, byte) => sum + byte, 0),
    combine: (a, b) => a + b,
  });`;

let hub: Server;
let hubPlace: Place;
beforeAll(async () => {
  hubPlace = await makePlace();
  const words = ["up", "--listen", "127.0.0.1:0", "--workers", "1", "--store", "hub", "--json"];
  hub = await serve(words, hubPlace.cwd);
});
afterAll(() => hub.stop("SIGTERM"));

async function readAll(pfs: PacketFS, file: string): Promise<string> {
  const pieces: Uint8Array[] = [];
  for await (const piece of pfs.get(file)) pieces.push(piece);
  return Buffer.concat(pieces).toString();
}

describe.each(["in a directory", "at a hub"])("%s", (where) => {
  const open = async (): Promise<PacketFS> =>
    where === "at a hub"
      ? connect(String(hub.said["clientToken"]))
      : openLocal(join((await makePlace()).cwd, "store"));

  it("a version and the first digits of a root name what they named when it was stored", async () => {
    await using pfs = await open();
    const roots: string[] = [];
    for (const text of ["first", "second", "third"]) {
      roots.push((await pfs.put(Buffer.from(text), { name: "note@home" })).root);
    }
    const history = await pfs.history("note@home");
    expect(history.map(({ version, root }) => [version, root])).toEqual([
      [3, roots[2]],
      [2, roots[1]],
      [1, roots[0]],
    ]);
    expect(await readAll(pfs, "note@home")).toBe("third");
    expect(await readAll(pfs, "note@home@1")).toBe("first");
    expect(await pfs.stat("note@home@2")).toMatchObject({ name: "note@home", version: 2, root: roots[1] });
    for (const digits of [8, 12, 63, 64]) {
      expect(await readAll(pfs, roots[0]!.slice(0, digits).toUpperCase())).toBe("first");
    }
    const { value } = await pfs.run({ source: COUNT }, ["note@home@1"]);
    expect(value).toBe(Buffer.from("first").reduce((sum, byte) => sum + byte, 0));
    expect((await pfs.run({ source: COUNT }, [roots[0]!.slice(0, 10)])).value).toBe(value);

    await expect(pfs.stat("note@home@4")).rejects.toMatchObject({
      code: "PFS_NOT_FOUND",
      message: 'version 4 of "note@home" is not kept; there is 3, 2, 1',
    });
    await expect(pfs.stat(roots[0]!.slice(0, 7))).rejects.toMatchObject({ code: "PFS_NOT_FOUND" });
    await expect(pfs.history("nobody")).rejects.toMatchObject({ code: "PFS_NOT_FOUND" });
    // What looks like a version is a name where there is one.
    await pfs.put(Buffer.from("a name"), { name: "note@home@1" });
    expect(await readAll(pfs, "note@home@1")).toBe("a name");
    await pfs.put(Buffer.from("short"), { name: roots[0]!.slice(0, 9) });
    expect(await readAll(pfs, roots[0]!.slice(0, 9))).toBe("short");
    await pfs.remove("note@home");
    await expect(pfs.stat("note@home@3")).rejects.toMatchObject({ code: "PFS_NOT_FOUND" });
  });

  it("digits that begin several roots name none of them", async () => {
    await using pfs = await open();
    // Found by trial: the roots of these two begin with the same eight digits.
    const twins = ["packet 133091", "packet 149424"].map((text) => Buffer.from(text));
    const roots: string[] = [];
    for (const [index, bytes] of twins.entries()) {
      roots.push((await pfs.put(bytes, { name: `twin-${index}` })).root);
    }
    const digits = roots[0]!.slice(0, 8);
    expect(roots[1]!.slice(0, 8)).toBe(digits);
    const error: unknown = await pfs.stat(digits).catch((reason: unknown) => reason);
    expect(error).toMatchObject({
      code: "PFS_ROOT_AMBIGUOUS",
      data: { file: digits, candidates: roots.toSorted().join(" ") },
    });
    expect(String(error)).toContain("(twin-0)");
    expect(String(error)).toContain("(twin-1)");
  });

  it("a root names its bytes, and cannot be a name", async () => {
    await using pfs = await open();
    const { root } = await pfs.put(Buffer.from("one"), { name: "foo" });
    for (const name of [root, root.toUpperCase()]) {
      await expect(pfs.put(Buffer.from("two"), { name })).rejects.toMatchObject({ code: "PFS_NAME_INVALID" });
    }
    expect(await readAll(pfs, "foo")).toBe("one");
    expect(await readAll(pfs, root)).toBe("one");
  });
});

it("commands list versions, take what they print, and remove names only", async () => {
  const { cwd, run, json } = await makePlace();
  const [first] = await json(["put", "text.txt"]);
  await writeFile(join(cwd, "text.txt"), "another text\n");
  await json(["put", "text.txt"]);
  const listed = await run(["ls", "--versions", "text.txt"]);
  expect(listed.out.split("\n").map((line) => line.split("\t")[2])).toEqual(["2", "1", undefined]);
  expect(await json(["ls", "--versions", "text.txt"])).toMatchObject([
    { version: 2 },
    { version: 1, root: first!["root"] },
  ]);
  expect((await run(["cat", "text.txt@2"])).out).toBe("another text\n");
  const short = String(first!["root"]).slice(0, 12);
  expect(await json(["stat", short, "text.txt@1"])).toMatchObject([
    { root: first!["root"], version: 0 },
    { root: first!["root"], name: "text.txt", version: 1 },
  ]);
  expect((await json(["packets", short]))[0]).toMatchObject({ root: first!["root"] });
  for (const word of ["text.txt@1", short, String(first!["root"])]) {
    const removed = await run(["rm", "text.txt", word]);
    expect([word, removed.status]).toEqual([word, 2]);
    expect(removed.err).toMatch(/^pfs: .* is a (root|version of a name); rm takes names/);
  }
  expect((await run(["ls", "--versions"])).status).toBe(2);
  expect(await json(["rm", "text.txt"])).toMatchObject([{ removed: ["text.txt"] }]);
});

it("a list of names that do not begin so says so, and is no failure", async () => {
  const { run } = await makePlace();
  await run(["put", "text.txt"]);
  expect(await run(["ls", "nope"])).toMatchObject({ status: 0, out: "", err: "no name begins with nope\n" });
  expect(await run(["ls", "nope", "--json"])).toMatchObject({ status: 0, out: "", err: "" });
});
