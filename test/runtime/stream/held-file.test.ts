/** Chunks found in files that lie around: what is read from them is right, whatever becomes of the files meanwhile. */
import { appendFileSync } from "node:fs";
import { appendFile, rename, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { isRefOf, sha256 } from "../../../packets/digest.ts";
import type { Ref } from "../../../packets/digest.ts";
import type { ChunkSource } from "../../../runtime/contracts/chunks.ts";
import { execute, HeldFile, HeldFiles } from "../../../runtime/stream/execute.ts";
import { ingest } from "../../../runtime/stream/ingest.ts";
import { PatchReceiver } from "../../../runtime/stream/patch/receive-patches.ts";
import { patches } from "../../../runtime/stream/patch/send-patches.ts";
import { reachable } from "../../../runtime/stream/walk.ts";
import { Store } from "../../../runtime/store/store.ts";
import { runSync } from "../../suites/run-sync.ts";
import { collect, inPieces, randomBytes, temporaryDirectory } from "../store/store-fixture.ts";
import { ShelfSource } from "./shelf-source.ts";

const MIB = 1024 * 1024;

describe("a file of which others are an older copy, or a part", () => {
  const bytes = Buffer.concat([
    randomBytes("first", 5 * MIB),
    Buffer.alloc(MIB),
    randomBytes("last", 5 * MIB),
  ]);

  async function read(
    made: readonly (readonly [string, Uint8Array])[],
    after: (path: string) => Promise<void> = async () => {},
  ): Promise<{ readonly fetched: number; readonly isRight: boolean }> {
    await using directory = await temporaryDirectory();
    await using store = await Store.open(join(directory.path, "store"));
    await using writer = await store.openWriter();
    const { root, length } = await ingest(writer, inPieces(bytes, 300_000));
    const paths: string[] = [];
    for (const [name, content] of made) {
      paths.push(join(directory.path, name));
      await writeFile(paths.at(-1)!, content);
    }
    let fetched = 0;
    const remote: ChunkSource = {
      read: async (refs: readonly Ref[], signal) => {
        const chunks = await store.read(refs, signal);
        for (const chunk of chunks) fetched += chunk.byteLength;
        return chunks;
      },
    };
    await using held = await HeldFiles.open(paths);
    for (const path of paths) await after(path);
    const content = await collect(execute(held.before(remote), root, { start: 0, end: length }));
    return { fetched, isRight: content.equals(bytes) };
  }

  test.each([
    ["the same file", bytes, 0.02],
    ["its first half", bytes.subarray(0, bytes.byteLength / 2), 0.6],
    ["one with something before it", Buffer.concat([Buffer.from("a new line\n"), bytes]), 0.05],
    ["one whose middle is other bytes", Buffer.from(bytes).fill(7, 4 * MIB, 5 * MIB), 0.2],
    ["another file", randomBytes("other", 3 * MIB), 1],
    ["an empty one", new Uint8Array(0), 1],
  ])("%s: what they have in common is not fetched", async (_, other, part) => {
    const { fetched, isRight } = await read([["other", other]]);
    expect(isRight).toBe(true);
    expect(fetched).toBeLessThanOrEqual(part * bytes.byteLength);
  });

  test.each<readonly [string, (path: string) => Promise<void>]>([
    ["cut off", (path) => truncate(path, MIB)],
    ["written over", (path) => writeFile(path, randomBytes("later", bytes.byteLength))],
    ["longer", (path) => appendFile(path, "more")],
  ])("that are %s meanwhile: the bytes are right all the same", async (_, change) => {
    expect((await read([["other", bytes]], change)).isRight).toBe(true);
  });

  test("of which some are of no use", async () => {
    await using directory = await temporaryDirectory();
    await using store = await Store.open(join(directory.path, "store"));
    const ref = sha256(bytes.subarray(0, 100));
    const pipe = join(directory.path, "pipe");
    runSync("mkfifo", [pipe]);
    await using held = await HeldFiles.open([join(directory.path, "nothing"), directory.path, pipe]);
    await expect(held.before(store).read([ref])).rejects.toMatchObject({ code: "PFS_CHUNK_MISSING" });
  });
});

describe("a file held in the place of a stored one", () => {
  const repeated = randomBytes("repeated", 3 * MIB);
  const files: readonly (readonly [string, Uint8Array])[] = [
    ["nothing", new Uint8Array(0)],
    ["a few bytes", Buffer.from("a few bytes")],
    ["one chunk", randomBytes("one", 20_000)],
    ["zeros", Buffer.alloc(5 * MIB)],
    ["the same bytes again", Buffer.concat([repeated, Buffer.alloc(MIB), repeated, Buffer.from("end")])],
    ["more than is hashed without a thread", randomBytes("many", 40 * MIB)],
  ];

  test.each(files)("%s: has the root that storing it gives, and all of its chunks", async (_, bytes) => {
    await using directory = await temporaryDirectory();
    await using store = await Store.open(join(directory.path, "store"));
    await using writer = await store.openWriter();
    const stored = await ingest(writer, inPieces(bytes, 300_000));
    const path = join(directory.path, "file");
    await writeFile(path, bytes);
    let progress = 0;
    await using held = await HeldFile.open(path, { onProgress: (done) => (progress = done) });
    expect(held.root).toEqual(stored.root);
    expect(held.length).toBe(bytes.byteLength);
    expect(progress).toBe(bytes.byteLength);
    expect((await collect(execute(held, held.root))).equals(bytes)).toBe(true);
    for await (const refs of reachable(store, stored.root)) {
      for (let at = 0; at < refs.byteLength; at += 32)
        expect(held.has(refs.subarray(at, at + 32))).toBe(true);
    }
    await expect(held.read([sha256(Buffer.from("another"))])).rejects.toMatchObject({
      code: "PFS_CHUNK_MISSING",
    });
  });

  test("chunks in any order are each the right one", async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, "file");
    await writeFile(path, Buffer.concat([repeated, randomBytes("other", 3 * MIB)]));
    await using held = await HeldFile.open(path);
    const refs: Ref[] = [];
    for await (const each of reachable(held, held.root))
      for (let at = 0; at < each.byteLength; at += 32) refs.push(each.slice(at, at + 32));
    const mixed = [...refs, ...refs.toReversed(), ...refs.filter((_, index) => index % 3 === 0)];
    const read = await held.read(mixed);
    expect(read.every((bytes, index) => isRefOf(mixed[index]!, bytes))).toBe(true);
  });

  test.each<readonly [string, (path: string) => Promise<unknown>]>([
    ["written over", (path) => writeFile(path, randomBytes("later", 3 * MIB))],
    ["cut off", (path) => truncate(path, 10)],
  ])("one that is %s later lacks what it had, and yields nothing else", async (_, change) => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, "file");
    await writeFile(path, repeated);
    await using held = await HeldFile.open(path);
    await change(path);
    await expect(collect(execute(held, held.root))).rejects.toMatchObject({ code: "PFS_CHUNK_MISSING" });
  });

  test("one that another takes the place of goes on being read", async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, "file");
    await writeFile(path, repeated);
    await using held = await HeldFile.open(path);
    await writeFile(`${path}.new`, randomBytes("new", 3 * MIB));
    await rename(`${path}.new`, path);
    expect((await collect(execute(held, held.root))).equals(repeated)).toBe(true);
  });

  test("one that changes while it is read is none, and nothing is left open of it", async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, "file");
    await writeFile(path, randomBytes("many", 20 * MIB));
    let isChanged = false;
    const opening = HeldFile.open(path, {
      onProgress: () => {
        if (!isChanged) appendFileSync(path, "more");
        isChanged = true;
      },
    });
    await expect(opening).rejects.toMatchObject({ code: "PFS_INPUT_CHANGED" });
    const stop = AbortSignal.abort(new Error("enough"));
    await expect(HeldFile.open(path, { signal: stop })).rejects.toThrow("enough");
  });

  test("what is sent of an update to whoever has it is made of it by a patch", async () => {
    await using directory = await temporaryDirectory();
    await using store = await Store.open(join(directory.path, "store"));
    await using writer = await store.openWriter();
    const old = Buffer.concat([repeated, randomBytes("second", 3 * MIB)]);
    const edited = Buffer.from(old);
    for (let at = 1000; at < edited.byteLength; at += 100_000) edited.write("edited", at);
    const path = join(directory.path, "file");
    await writeFile(path, old);
    await using held = await HeldFile.open(path);
    await ingest(writer, inPieces(old, 300_000));
    const { root } = await ingest(writer, inPieces(edited, 300_000));
    const stop = new AbortController();
    const came = new ShelfSource();
    const both: ChunkSource = {
      read: async (refs) =>
        (await Promise.all(refs.map((ref) => (came.shelf.has(ref) ? came : held).read([ref])))).flat(),
    };
    const receiver = new PatchReceiver(both, root, [held.root], stop.signal);
    let bytes = 0;
    for await (const patch of patches(store, root, [held.root], { signal: stop.signal })) {
      bytes += patch.body.byteLength + patch.packets.byteLength;
      for await (const chunk of receiver.chunks(patch)) came.shelf.put(chunk.bytes);
    }
    expect(bytes).toBeLessThan(edited.byteLength / 100);
    expect((await collect(execute(both, root))).equals(edited)).toBe(true);
  });
});
