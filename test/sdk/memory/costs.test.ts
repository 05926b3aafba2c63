/** What is told beforehand of what a file would move is what it moves then, and telling it moves and leaves nothing. */
import { existsSync } from "node:fs";
import { readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { openLocal } from "../../../sdk/index.ts";
import { randomBytes } from "../../runtime/store/store-fixture.ts";
import { edit, world } from "./world.ts";

const MIB = 1024 * 1024;
/** Heads of messages, and what a sample of a file is off by. */
const SHARE = 0.15;
const SLACK_BYTES = 8_000;

function expectNear(told: number, moved: number): void {
  expect(Math.abs(told - moved)).toBeLessThan(moved * SHARE + SLACK_BYTES);
}

test("of puts: whole, as what changed, and of what is there", async () => {
  await using at = await world();
  const pfs = await at.client({ directory: at.cache });
  await writeFile(at.file, randomBytes("file", 6 * MIB));
  for (const version of [1, 2]) {
    const before = existsSync(at.cache) ? (await readdir(at.cache, { recursive: true })).length : 0;
    const cost = await pfs.costOfPut(at.file, { name: "file" });
    const after = existsSync(at.cache) ? (await readdir(at.cache, { recursive: true })).length : 0;
    if (version > 1) expect(after).toBe(before);
    const versions = await pfs.history("file").catch(() => []);
    expect(versions).toHaveLength(version - 1);
    const put = await pfs.put({ path: at.file }, { name: "file" });
    expect(cost).toMatchObject({ root: put.root, length: 6 * MIB });
    expectNear(cost.wireBytes.sent, put.transfer!.wireBytes.sent);
    expectNear(cost.newBytes, put.newBytes);
    const again = await pfs.costOfPut(at.file, { name: "other" });
    expect(again).toMatchObject({ newBytes: 0, wireBytes: { sent: 0, received: 0 }, exact: true });
    await edit(at.file, version);
  }
});

test("of gets: whole, as what changed, and of what is there", async () => {
  await using at = await world();
  const pfs = await at.client({ directory: at.cache });
  const other = await at.client();
  const original = join(at.directory, "original");
  await writeFile(original, randomBytes("file", 6 * MIB));
  for (const version of [1, 2]) {
    await other.put({ path: original }, { name: "file" });
    const cost = await pfs.costOfGet("file", at.file);
    expect(existsSync(at.file)).toBe(version > 1);
    const got = await pfs.getFile("file", at.file);
    expect(cost).toMatchObject({ root: got.root, length: 6 * MIB });
    expectNear(cost.wireBytes.received, got.transfer!.wireBytes.received);
    expect(await pfs.costOfGet("file", at.file)).toMatchObject({ newBytes: 0, exact: true });
    await edit(original, version);
  }
  await rm(at.file);
  const elsewhere = await pfs.costOfGet("file", join(at.directory, "elsewhere"));
  expect(elsewhere.wireBytes.received).toBeLessThan(SLACK_BYTES);
  await expect(pfs.costOfGet("nothing", at.file)).rejects.toMatchObject({ code: "PFS_NOT_FOUND" });
});

test("of a store on this machine: what it lacks, and nothing moves", async () => {
  await using at = await world();
  await writeFile(at.file, randomBytes("file", 2 * MIB));
  await using pfs = await openLocal(join(at.directory, "store"));
  await pfs.put(Buffer.from("another file"), { name: "other" });
  const cost = await pfs.costOfPut(at.file);
  const { root, newBytes } = await pfs.put({ path: at.file }, { name: "file" });
  expect(cost).toEqual({
    root,
    length: 2 * MIB,
    newBytes,
    wireBytes: { sent: 0, received: 0 },
    exact: true,
  });
  expect((await pfs.costOfPut(at.file)).newBytes).toBe(0);
  const { newBytes: toWrite } = await pfs.costOfGet("file", at.file);
  expect(toWrite).toBe(2 * MIB);
});
