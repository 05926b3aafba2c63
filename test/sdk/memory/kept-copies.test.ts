/** Copies of fetched files: bounded, verified when they are read, and never in anybody's way. */
import { mkdir, readFile, readdir, stat, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { refToHex } from "../../../packets/digest.ts";
import { execute, HeldFile } from "../../../runtime/stream/execute.ts";
import { KeptCopies } from "../../../sdk/memory/kept-copies.ts";
import { collect, randomBytes, temporaryDirectory } from "../../runtime/store/store-fixture.ts";

const MIB = 1024 * 1024;

async function keep(copies: KeptCopies, path: string, bytes: Uint8Array): Promise<HeldFile["root"]> {
  await writeFile(path, bytes);
  await using held = await HeldFile.open(path);
  await copies.keep(path, held.root, held.length, held.streams);
  return held.root;
}

test("a copy is what the file was, whatever becomes of it", async () => {
  await using at = await temporaryDirectory();
  const directory = join(at.path, "copies");
  const copies = new KeptCopies({ directory, bytesMax: async () => 10 * MIB });
  const file = join(at.path, "file");
  const bytes = randomBytes("kept", 2 * MIB);
  const root = await keep(copies, file, bytes);
  await writeFile(file, "other");
  await using copy = await copies.copyOf(root);
  expect(copy).toMatchObject({ length: bytes.byteLength });
  expect((await collect(execute(copy!, root))).equals(bytes)).toBe(true);
  expect(await copies.at(join(at.path, "nothing"), root)).toBeUndefined();
  for (const name of await readdir(directory))
    expect((await stat(join(directory, name))).mode & 0o777).toBe(0o600);
  await copies.clear();
  expect(await copies.copyOf(root)).toBeUndefined();
  expect(await copies.bytes()).toBe(0);
});

test("those go that were not used for the longest, and of what is too long the streams are kept", async () => {
  await using at = await temporaryDirectory();
  const directory = join(at.path, "copies");
  const copies = new KeptCopies({ directory, bytesMax: async () => 3 * MIB });
  const file = join(at.path, "file");
  const roots: Uint8Array[] = [];
  for (const [index, size] of [MIB, MIB, MIB / 2].entries()) {
    roots.push(await keep(copies, file, randomBytes(`file ${index}`, size)));
    const used = new Date(Date.now() - 1_000_000 + index * 1000);
    await utimes(join(directory, `${refToHex(roots.at(-1)!)}.streams`), used, used);
  }
  // It is the latest from now on.
  await (await copies.copyOf(roots[0]!))![Symbol.asyncDispose]();
  const isKept = async (root: Uint8Array): Promise<boolean> => {
    await using copy = await copies.copyOf(root);
    return copy !== undefined;
  };
  roots.push(await keep(copies, file, randomBytes("file 4", MIB)));
  expect(await copies.bytes()).toBeLessThanOrEqual(3 * MIB);
  const kept: boolean[] = [];
  for (const root of roots) kept.push(await isKept(root));
  expect(kept).toEqual([true, false, true, true]);
  const long = await keep(copies, file, randomBytes("long", 4 * MIB));
  expect(await isKept(long)).toBe(false);
  await using known = await copies.at(file, long);
  expect((await collect(execute(known!, long))).equals(await readFile(file))).toBe(true);
});

test("what killed processes left goes when it is old", async () => {
  await using at = await temporaryDirectory();
  const directory = join(at.path, "copies");
  await mkdir(directory);
  const copies = new KeptCopies({ directory, bytesMax: async () => 3 * MIB });
  for (const name of ["young.new", "old.new"]) await writeFile(join(directory, name), "left");
  await utimes(join(directory, "old.new"), 1000, 1000);
  expect(await copies.bytes()).toBe(4);
  expect(await readdir(directory)).toEqual(["young.new"]);
});
