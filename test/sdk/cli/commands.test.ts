/** The commands against an embedded store: what they print, what they leave behind, and how they end. */
import { lstat, open, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { makePlace, TEXT } from "./run-pfs.ts";
import type { Finished } from "./run-pfs.ts";

describe.concurrent("files", () => {
  it("are put, listed, read back and removed", async () => {
    const { cwd, run } = await makePlace();
    const put = await run(["put", "text.txt"]);
    expect(put.status).toBe(0);
    expect(put.out).toMatch(/^[0-9a-f]{64} {2}text\.txt\n$/);
    expect(put.err).toMatch(/^stored 449 kB in .*: \d+ chunks, \d+ new/);
    const root = put.out.slice(0, 64);

    const stdin = await run(["put", "-", "--name", "logs/in.txt"], { input: TEXT });
    expect(stdin.out).toBe(`${root}  logs/in.txt\n`);
    expect(stdin.err).toContain("0 new");

    const listed = await run(["ls"]);
    const rows = listed.out
      .trimEnd()
      .split("\n")
      .map((line) => line.split("\t"));
    expect(rows.map(([name, bytes, version, , of]) => [name, bytes, version, of])).toEqual([
      ["logs/in.txt", String(TEXT.length), "1", root],
      ["text.txt", String(TEXT.length), "1", root],
    ]);
    expect((await run(["ls", "logs/"])).out.split("\n")).toHaveLength(2);
    expect((await run(["cat", "text.txt", "logs/in.txt"])).out).toBe(TEXT + TEXT);

    expect((await run(["get", root, "-o", "copy.txt", "--quiet"])).err).toBe("");
    expect(await readFile(join(cwd, "copy.txt"), "utf8")).toBe(TEXT);
    await run(["get", "logs/in.txt"]);
    expect(await readFile(join(cwd, "in.txt"), "utf8")).toBe(TEXT);

    expect((await run(["rm", "text.txt", "logs/in.txt"])).status).toBe(0);
    expect((await run(["ls"])).out).toBe("");
    const freed = await run(["gc"]);
    expect(freed.status).toBe(0);
    expect(freed.err).toMatch(/^freed \d+ chunks?/);
  });

  it("are read by range: the first byte is 0, the last is not included", async () => {
    const { run } = await makePlace();
    await run(["put", "text.txt"]);
    const range = async (text: string): Promise<Finished> =>
      run(["get", "text.txt", "-o", "-", "--quiet", "--range", text]);
    expect((await range("5-11")).out).toBe(TEXT.slice(5, 11));
    expect((await range(`${TEXT.length - 4}-`)).out).toBe("ext\n");
    expect((await range(`0-${TEXT.length * 2}`)).out).toBe(TEXT);
    expect((await range("7-7")).out).toBe("");
    const outside = await range(`${TEXT.length + 1}-`);
    expect([outside.status, outside.out]).toEqual([2, ""]);
    expect(outside.err).toContain(`has ${TEXT.length}`);
  });

  it("are written whole or not at all", async () => {
    const { cwd, run } = await makePlace();
    await run(["put", "text.txt"]);
    await writeFile(join(cwd, "old.txt"), "what was there before");
    await symlink("old.txt", join(cwd, "link.txt"));
    const missing = await run(["get", "no such name", "-o", "old.txt"]);
    expect(missing.status).toBe(3);
    expect(await readFile(join(cwd, "old.txt"), "utf8")).toBe("what was there before");

    expect((await run(["get", "text.txt", "-o", "link.txt"])).status).toBe(0);
    expect((await lstat(join(cwd, "link.txt"))).isSymbolicLink()).toBe(true);
    expect(await readFile(join(cwd, "old.txt"), "utf8")).toBe(TEXT);
    expect((await run(["get", "text.txt", "-o", "/dev/null"])).status).toBe(0);
    expect((await lstat("/dev/null")).isCharacterDevice()).toBe(true);
    expect((await readdir(cwd)).filter((name) => name.includes("part"))).toEqual([]);
  });

  it("are left alone when one of several names is wrong", async () => {
    const { run } = await makePlace();
    await run(["put", "text.txt"]);
    expect(await run(["cat", "text.txt", "nope"])).toMatchObject({ status: 3, out: "" });
    expect(await run(["rm", "text.txt", "nope"])).toMatchObject({ status: 3 });
    expect((await run(["ls"])).out).toContain("text.txt");
  });

  it("are shown as packets, calls below their CALL", async () => {
    const { run, json } = await makePlace();
    await run(["put", "text.txt"]);
    const { out } = await run(["packets", "text.txt"]);
    const [head, ...lines] = out.trimEnd().split("\n");
    expect(head).toMatch(/^text\.txt: 448,890 bytes, root [0-9a-f]{64}$/);
    expect(lines[0]).toMatch(/^ +0 {2}COPY {4}at 0 /);
    expect(lines.at(-1)).toMatch(/HALT .* 448,890 bytes {2}in all/);

    const [header, ...packets] = await json(["packets", "text.txt"]);
    expect(header).toMatchObject({ schema: 1, name: "text.txt", length: TEXT.length });
    expect(packets.at(-1)).toMatchObject({ schema: 1, depth: 0, op: "HALT", length: TEXT.length });
    const copied = packets.reduce(
      (sum, each) => sum + (each["op"] === "COPY" ? Number(each["length"]) : 0),
      0,
    );
    expect(copied).toBe(TEXT.length);
    expect(
      (await run(["packets", "text.txt", "--limit", "1", "--quiet"])).out.trimEnd().split("\n"),
    ).toHaveLength(2);
  });
});

describe.concurrent("JSON", () => {
  it("is one object a command, or one a line, each with its schema", async () => {
    const { run, json } = await makePlace();
    const [put] = await json(["put", "text.txt"]);
    expect(put).toMatchObject({
      schema: 1,
      name: "text.txt",
      root: expect.stringMatching(/^[0-9a-f]{64}$/),
      length: TEXT.length,
      packets: expect.any(Number),
      chunks: expect.any(Number),
      newChunks: expect.any(Number),
      newBytes: expect.any(Number),
      storedBytes: expect.any(Number),
      milliseconds: expect.any(Number),
    });
    const [listed] = await json(["ls"]);
    expect(listed).toMatchObject({ schema: 1, name: "text.txt", root: put!["root"], version: 1 });
    expect(await json(["stat", "text.txt"])).toEqual([listed]);
    expect(await json(["get", "text.txt", "-o", "copy.txt"])).toMatchObject([
      { schema: 1, path: "copy.txt" },
    ]);
    expect(await json(["nodes"])).toMatchObject([{ schema: 1, role: "local", workers: expect.any(Number) }]);
    expect(await run(["lanes", "--json"])).toMatchObject({ out: "", err: "", status: 0 });
    expect(await json(["verify"])).toMatchObject([{ schema: 1, sound: true, damaged: [], incomplete: [] }]);
    expect(await json(["rm", "text.txt"])).toEqual([{ schema: 1, removed: ["text.txt"] }]);
    expect(await json(["gc"])).toMatchObject([{ schema: 1, keptChunks: 0, freedChunks: expect.any(Number) }]);

    const missing = await run(["get", "nope", "-o", "x", "--json"]);
    expect(JSON.parse(missing.out)).toMatchObject({
      schema: 1,
      error: { code: "PFS_NOT_FOUND", data: expect.any(Object) },
    });
    expect([missing.status, missing.err]).toEqual([3, ""]);
  });

  it("leaves stdout to the bytes where they go there", async () => {
    const { run } = await makePlace();
    await run(["put", "text.txt"]);
    const got = await run(["get", "text.txt", "-o", "-", "--json"]);
    expect(got.out).toBe(TEXT);
    expect(JSON.parse(got.err)).toMatchObject({ schema: 1, length: TEXT.length });
    const missing = await run(["cat", "nope", "--json"]);
    expect(missing.out).toBe("");
    expect(JSON.parse(missing.err)).toMatchObject({ error: { code: "PFS_NOT_FOUND" } });
  });

  it("of doctor says of each thing whether it is well", async () => {
    const { json } = await makePlace();
    const [report] = await json(["doctor"]);
    expect(report).toMatchObject({ schema: 1, ok: true });
    const checks = report!["checks"] as { topic: string; name: string; state: string }[];
    expect(checks.filter(({ state }) => state === "failure")).toEqual([]);
    const store = checks.find(({ name }) => name === "directory");
    expect(store).toMatchObject({ topic: "store", found: expect.stringContaining(" (PACKETFS_STORE)") });
    expect(checks.map(({ name }) => name)).toEqual(
      expect.arrayContaining(["packetfs", "node", "directory", "isolated-vm", "a program", "encryption"]),
    );
  });

  it("of doctor says when the index is damaged, and what mends it", async () => {
    const { cwd, json } = await makePlace();
    await json(["put", "text.txt"]);
    const index = await open(join(cwd, "store", "index.check"), "r+");
    await index.write("damaged!", 0);
    await index.close();
    const [report] = await json(["doctor"]);
    expect(report!["checks"]).toContainEqual({
      topic: "store",
      name: "repair",
      found: "the index cannot be used and was built in memory from the segments",
      state: "warning",
      advice: "whatever writes next, such as a put or gc, makes it anew",
    });
  });
});
