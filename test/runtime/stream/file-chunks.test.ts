/** Chunks found in files that lie around: what is read from them is right, whatever becomes of the files meanwhile. */
import { appendFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { sha256 } from "../../../packets/digest.ts";
import type { Ref } from "../../../packets/digest.ts";
import type { ChunkSource } from "../../../runtime/contracts/chunks.ts";
import { execute, FileChunks } from "../../../runtime/stream/execute.ts";
import { ingest } from "../../../runtime/stream/ingest.ts";
import { Store } from "../../../runtime/store/store.ts";
import { collect, inPieces, randomBytes, temporaryDirectory } from "../store/store-fixture.ts";

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
    await using held = await FileChunks.open(paths);
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

  test("of which one is not there", async () => {
    await using directory = await temporaryDirectory();
    await using held = await FileChunks.open([join(directory.path, "nothing"), directory.path]);
    expect(held.size).toBe(0);
    expect(await held.read(sha256(bytes))).toBeUndefined();
  });
});
