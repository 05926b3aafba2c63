/** The run of a directory is the stream of all its bytes, whatever of it was not read again. */
import { describe, expect, test } from "vitest";
import { refToHex } from "../../../packets/digest.ts";
import { ingest } from "../../../runtime/stream/ingest.ts";
import { streamPieces } from "../../../runtime/stream/leaves.ts";
import { chunkPieces, writeRun } from "../../../runtime/tree/run-writer.ts";
import type { EarlierRun, RunFile } from "../../../runtime/tree/run-writer.ts";
import { Random, seededBytes } from "../../packets/seed.ts";
import { ShelfSink } from "./shelf-sink.ts";

const { signal } = new AbortController();

async function* piecesOf(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

async function expectedRoot(sink: ShelfSink, bytes: Uint8Array): Promise<string> {
  return refToHex((await ingest(sink, piecesOf(bytes))).root);
}

async function earlierOf(sink: ShelfSink, root: Uint8Array, length: number): Promise<EarlierRun> {
  const pieces = await streamPieces(sink, root, 0, length, signal);
  const chunks = chunkPieces(pieces);
  const claimed = await sink.claim(chunks.refs);
  const has = new Uint8Array(pieces.at.length);
  chunks.pieces.forEach((piece, index) => (has[piece] = claimed[index]!));
  return { pieces, has, length };
}

interface Content {
  readonly bytes: Uint8Array;
  readonly before: number | undefined;
}

/** How many bytes were read. */
function filesOf(contents: readonly Content[], onRead: (bytes: number) => void): RunFile[] {
  return contents.map(({ bytes, before }) => ({
    length: bytes.length,
    before,
    read: (from, target) => {
      if (before === undefined) expect(from).toBe(0);
      onRead(bytes.length - from);
      target.set(bytes.subarray(from));
    },
  }));
}

function content(random: Random, seed: string): Uint8Array {
  const kind = random.below(10);
  if (kind === 0) return new Uint8Array(0);
  if (kind === 1) return new Uint8Array(random.below(262_145));
  return seededBytes(`${seed} ${random.word()}`, random.below(kind === 2 ? 262_145 : 40_000));
}

describe("a run", () => {
  test("is the stream that its files, one behind the other, have as one file", async () => {
    const random = new Random(3);
    for (const count of [1, 2, 3, 40, 300]) {
      const sink = new ShelfSink();
      const contents = Array.from({ length: count }, (_, index) => content(random, `file ${index}`));
      const all = Buffer.concat(contents);
      const run = await writeRun(
        sink,
        filesOf(
          contents.map((bytes) => ({ bytes, before: undefined })),
          () => {},
        ),
        undefined,
      );
      expect([refToHex(run.root), run.length]).toEqual([await expectedRoot(sink, all), all.length]);
    }
  });

  test("is the same when most of it is taken from an earlier one, whatever was changed, and little is read", async () => {
    for (let seed = 1; seed <= 8; seed++) {
      const random = new Random(seed);
      const sink = new ShelfSink();
      const old = Array.from({ length: 150 }, (_, index) => content(random, `${seed} ${index}`));
      const bytes = Buffer.concat(old);
      const first = await ingest(sink, piecesOf(bytes));
      const earlier = await earlierOf(sink, first.root, first.length);
      if (seed % 3 === 0)
        for (let piece = 0; piece < earlier.has.length; piece += 1 + random.below(5)) earlier.has[piece] = 0;
      let at = 0;
      const contents = old.flatMap((each, index): Content[] => {
        const before = at;
        at += each.length;
        const change = random.below(40);
        if (change === 0) return [];
        if (change === 1) return [{ bytes: content(random, `new ${index}`), before: undefined }];
        if (change === 2)
          return [
            { bytes: content(random, `added ${index}`), before: undefined },
            { bytes: each, before },
          ];
        return [{ bytes: each, before }];
      });
      // Some stand in another order, as when directories are renamed.
      if (seed % 4 === 0) contents.push(...contents.splice(random.below(100), 20));
      let read = 0;
      const run = await writeRun(
        sink,
        filesOf(contents, (count) => (read += count)),
        earlier,
      );
      const all = Buffer.concat(contents.map((each) => each.bytes));
      expect(refToHex(run.root), `seed ${seed}`).toBe(await expectedRoot(sink, all));
      if (seed % 3 !== 0) expect(read, `seed ${seed}`).toBeLessThan(all.length);
    }
  });

  test("of files that all are as they were reads none, whatever stands at its end", async () => {
    for (const tail of [0, 1, 32, 33, 5_000]) {
      const sink = new ShelfSink();
      const contents = [seededBytes("a", 200_000), seededBytes("b", 250_000), seededBytes("c", tail)];
      const first = await ingest(sink, piecesOf(Buffer.concat(contents)));
      const earlier = await earlierOf(sink, first.root, first.length);
      let before = 0;
      const files = contents.map((bytes) => ({ bytes, before: (before += bytes.length) - bytes.length }));
      let read = 0;
      const again = await writeRun(
        sink,
        filesOf(files, (count) => (read += count)),
        earlier,
      );
      expect(refToHex(again.root)).toBe(refToHex(first.root));
      // What stands in the packets themselves is no chunk that could be named.
      expect(read).toBeLessThanOrEqual(32);
      // One that ends earlier or later has its last chunk read.
      const [one, two] = files as [Content, Content, Content];
      for (const others of [
        [one, two],
        [...files, { bytes: seededBytes("d", 9), before: undefined }],
      ]) {
        const run = await writeRun(
          sink,
          filesOf(others, () => {}),
          earlier,
        );
        const all = Buffer.concat(others.map(({ bytes }) => bytes));
        expect(refToHex(run.root)).toBe(await expectedRoot(sink, all));
      }
    }
  });

  test("has what its files are when they are read", async () => {
    const sink = new ShelfSink();
    const now = [seededBytes("x", 70_000), new Uint8Array(0), seededBytes("y", 10)];
    const files = now.map((bytes): RunFile => {
      const file: RunFile = {
        length: 40_000,
        before: undefined,
        read: (_from, target) => {
          target.set(bytes);
          file.length = bytes.length;
        },
      };
      return file;
    });
    const run = await writeRun(sink, files, undefined);
    expect(refToHex(run.root)).toBe(await expectedRoot(sink, Buffer.concat(now)));
  });
});
