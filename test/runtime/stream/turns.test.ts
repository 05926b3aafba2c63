/** Reading, planning and walking what is made to take for ever leaves the event loop to others. */
import { describe, expect, test } from "vitest";
import type { Ref } from "../../../packets/digest.ts";
import { execute } from "../../../runtime/stream/execute.ts";
import { leafBorders, leafRefs } from "../../../runtime/stream/leaves.ts";
import { reachable } from "../../../runtime/stream/walk.ts";
import { seededBytes } from "../../packets/seed.ts";
import { ShelfSource } from "./shelf-source.ts";

/** Seven levels of 64 CALLs over one byte: 29 kB that yield 4 TiB, in pieces of one byte. */
function tower(source: ShelfSource): Ref {
  const { shelf } = source;
  const chunk = shelf.put(Uint8Array.of(1));
  let { root, length } = shelf.write((writer) => writer.copy(chunk, 0, 1));
  for (let level = 0; level < 7; level++) {
    const [below, bytes] = [root, length];
    ({ root, length } = shelf.write((writer) => {
      for (let call = 0; call < 64; call++) writer.call(below, 0, bytes);
    }));
  }
  return root;
}

/** Turns that the event loop takes while the work is under way, until there were enough: then the work is ended. */
async function turnsDuring(work: (signal: AbortSignal) => Promise<unknown>, enough = 50): Promise<number> {
  const ending = new AbortController();
  let turns = 0;
  let isDone = false;
  const counting = (async (): Promise<void> => {
    while (!isDone) {
      await new Promise((resolve) => setImmediate(resolve));
      if (++turns === enough) ending.abort(new Error("that is enough"));
    }
  })();
  await work(ending.signal).catch((error: unknown) => {
    if (!ending.signal.aborted) throw error;
  });
  isDone = true;
  await counting;
  return turns;
}

describe("29 kB that yield 4 TiB", () => {
  test("are read in turns, and end as soon as nobody wants them", async () => {
    const source = new ShelfSource();
    const root = tower(source);
    const turns = await turnsDuring(async (signal) => {
      for await (const bytes of execute(source, root, { signal })) void bytes;
    });
    expect(turns).toBeGreaterThanOrEqual(50);
  });

  test("are planned in turns", async () => {
    const source = new ShelfSource();
    const root = tower(source);
    const turns = await turnsDuring((signal) => leafBorders(source, root, Infinity, signal));
    expect(turns).toBeGreaterThanOrEqual(50);
  });

  test("have their leaves found in turns", async () => {
    const source = new ShelfSource();
    const root = tower(source);
    function* wanted(): Generator<{ readonly root: Ref; readonly position: number }> {
      for (let position = 0; position < 100_000; position++) yield { root, position: position * 1e6 };
    }
    expect(await turnsDuring((signal) => leafRefs(source, wanted(), signal))).toBeGreaterThan(10);
  });
});

test("what a large tree needs is found in turns", async () => {
  const source = new ShelfSource();
  const { root } = source.shelf.write((writer) => {
    const data = seededBytes("refs", 32 * 1024);
    for (let at = 0; at < 200_000; at++) writer.copy(data.subarray(at % 16_384, (at % 16_384) + 32), 0, 1);
  });
  const turns = await turnsDuring(async (signal) => {
    for await (const refs of reachable(source, root, { signal })) void refs;
  });
  expect(turns).toBeGreaterThan(10);
});
