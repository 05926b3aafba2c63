/** What a client has of other files and versions: little comes of what it is like, and nothing of what is there. */
import { copyFile, readFile, readdir, rename, rm, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test, vi } from "vitest";
import { HeldFile } from "../../../runtime/stream/execute.ts";
import type { PacketFS, TransferInfo } from "../../../sdk/packetfs.ts";
import { randomBytes } from "../../runtime/store/store-fixture.ts";
import { contentOf, edit, settle, world } from "./world.ts";
import type { World } from "./world.ts";

const MIB = 1024 * 1024;
const LITTLE_BYTES = 30_000;

function moved(transfer: TransferInfo | undefined): number {
  return transfer!.wireBytes.sent + transfer!.wireBytes.received;
}

/** Somebody elsewhere stores these bytes, who remembers nothing. */
async function store(at: World, bytes: Uint8Array, name: string): Promise<string> {
  return (await (await at.client()).put(bytes, { name })).root;
}

function editedOf(bytes: Uint8Array): Buffer {
  const edited = Buffer.from(bytes);
  for (let place = 5000; place < edited.byteLength; place += MIB) edited.write("edited", place);
  return edited;
}

describe("a new version comes to another path as what changed", () => {
  const bytes = randomBytes("file", 5 * MIB);
  const edited = editedOf(bytes);

  async function fetchBoth(
    names: readonly [string, string],
    get: (pfs: PacketFS, root: string, path: string) => Promise<{ readonly transfer?: TransferInfo }>,
    between: (at: World) => Promise<void> = async () => {},
  ): Promise<number> {
    await using at = await world();
    await store(at, bytes, names[0]);
    await (await at.client({ directory: at.cache })).getFile(names[0], at.file);
    await between(at);
    const root = await store(at, edited, names[1]);
    const path = join(at.directory, "elsewhere");
    const { transfer } = await get(await at.client({ directory: at.cache }), root, path);
    expect((await readFile(path)).equals(edited)).toBe(true);
    return moved(transfer);
  }

  test("of the same name", async () => {
    const cost = await fetchBoth(["file", "file"], (pfs, _, path) => pfs.getFile("file", path));
    expect(cost).toBeLessThan(LITTLE_BYTES);
  });

  test("asked for by its root, as commands do", async () => {
    const cost = await fetchBoth(["a/file", "a/file"], (pfs, root, path) =>
      pfs.getFile(root, path, { name: "a/file" }),
    );
    expect(cost).toBeLessThan(LITTLE_BYTES);
  });

  test("with another number in its name", async () => {
    const cost = await fetchBoth(["tool-1.9.tar", "tool-1.10.tar"], (pfs, _, path) =>
      pfs.getFile("tool-1.10.tar", path),
    );
    expect(cost).toBeLessThan(LITTLE_BYTES);
  });

  test.each<readonly [string, (at: World) => Promise<void>]>([
    ["written over", ({ file }) => writeFile(file, randomBytes("other", 5 * MIB))],
    ["removed", ({ file }) => rm(file)],
  ])("where the one that was fetched is %s", async (_, change) => {
    const cost = await fetchBoth(["file", "file"], (pfs, _root, path) => pfs.getFile("file", path), change);
    expect(cost).toBeLessThan(LITTLE_BYTES);
  });

  test("and whole where its copy has other bytes by now", async () => {
    const cost = await fetchBoth(
      ["file", "file"],
      (pfs, _root, path) => pfs.getFile("file", path),
      async ({ file, cache }) => {
        await rm(file);
        const [copy] = (await readdir(join(cache, "fetched"))).filter((name) => name.endsWith(".bytes"));
        await writeFile(join(cache, "fetched", copy!), randomBytes("other", 5 * MIB));
      },
    );
    expect(cost).toBeGreaterThan(4 * MIB);
  });

  test("and what another file has by that name is not taken for it", async () => {
    const cost = await fetchBoth(["file-1", "thing-2"], (pfs, _, path) => pfs.getFile("thing-2", path));
    expect(cost).toBeGreaterThan(4 * MIB);
  });
});

describe("a file that was fetched, and edited", () => {
  test.each<readonly [string, (file: string) => Promise<unknown>]>([
    ["in place", (file) => edit(file, 1)],
    [
      "by an editor that replaces it",
      async (file) => {
        await copyFile(file, `${file}.new`);
        await edit(`${file}.new`, 1);
        await rename(`${file}.new`, file);
      },
    ],
  ])("%s goes as what changed of it", async (_, change) => {
    await using at = await world();
    await store(at, randomBytes("file", 5 * MIB), "file");
    await (await at.client({ directory: at.cache })).getFile("file", at.file);
    await change(at.file);
    const pfs = await at.client({ directory: at.cache });
    const { transfer } = await pfs.put({ path: at.file }, { name: "mine" });
    expect(transfer!.wireBytes.sent).toBeLessThan(LITTLE_BYTES);
    expect((await contentOf(pfs, "mine")).equals(await readFile(at.file))).toBe(true);
    expect(await pfs.verify()).toMatchObject({ damaged: [], incomplete: [] });
  });

  test("is put whole where what was kept of it is damaged", async () => {
    await using at = await world();
    await store(at, randomBytes("file", 3 * MIB), "file");
    await (await at.client({ directory: at.cache })).getFile("file", at.file);
    await edit(at.file, 1);
    const fetched = join(at.cache, "fetched");
    for (const name of await readdir(fetched)) await truncate(join(fetched, name), 1000);
    const pfs = await at.client({ directory: at.cache });
    await pfs.put({ path: at.file }, { name: "file" });
    expect((await contentOf(pfs, "file")).equals(await readFile(at.file))).toBe(true);
  });
});

describe("a file that is there already", () => {
  test.each([["read to know", false] as const, ["known", true] as const])(
    "is left as it is: %s",
    async (_, isKnown) => {
      await using at = await world();
      const bytes = randomBytes("file", 3 * MIB);
      await store(at, bytes, "file");
      await writeFile(at.file, bytes);
      await settle(at.file);
      const before = await stat(at.file, { bigint: true });
      const pfs = await at.client(isKnown ? { directory: at.cache } : undefined);
      const read = vi.spyOn(HeldFile, "open");
      for (const reads of [1, isKnown ? 1 : 2]) {
        const got = await pfs.getFile("file", at.file);
        expect(got).toMatchObject({ unchanged: true, length: 3 * MIB });
        expect(got.transfer).toBeUndefined();
        expect(read).toHaveBeenCalledTimes(reads);
      }
      read.mockRestore();
      expect(await stat(at.file, { bigint: true })).toMatchObject({
        ino: before.ino,
        mtimeNs: before.mtimeNs,
        ctimeNs: before.ctimeNs,
      });
    },
  );

  test.each([3 * MIB, 10_000])("with %i other bytes it is replaced, though it is as long", async (length) => {
    await using at = await world();
    const bytes = randomBytes("file", length);
    await store(at, bytes, "file");
    const pfs = await at.client({ directory: at.cache });
    await pfs.getFile("file", at.file);
    await writeFile(at.file, editedOf(bytes));
    expect((await pfs.getFile("file", at.file)).unchanged).toBeUndefined();
    expect((await readFile(at.file)).equals(bytes)).toBe(true);
    expect((await pfs.getFile("file", at.file)).unchanged).toBe(true);
  });
});
