/**
 * What looking after a store of many small files costs, in CPU time of this process, all of its threads together, measured
 * against what reading the same chunks costs in the same run.
 */
import { existsSync, readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { sha256 } from "../../../packets/digest.ts";
import type { Ref } from "../../../packets/digest.ts";
import { Store } from "../../../runtime/store/store.ts";
import { ingest } from "../../../runtime/stream/ingest.ts";
import { inOnePiece, randomBytes, temporaryDirectory } from "./store-fixture.ts";
import type { TemporaryDirectory } from "./store-fixture.ts";

const FILES = 5_000;
/**
 * Verify reads all chunks, the streams among them twice, and the headers and names beside them. Both need three to seven times as
 * much: reading in batches costs little.
 */
const TIMES_MAX = 12;
/** Where the system counts them: reads, those that wake the process up among them, that verify may need for a small file. */
const READS_MAX = 2;
const RUNS = 3;
/** Chunks that are read together where that is what is measured. */
const BATCH = 64;
/** Files that are stored side by side, so that they share what makes them durable. */
const TOGETHER = 250;

let directory: TemporaryDirectory;
let store: Store;
const refs: Ref[] = [];

beforeAll(async () => {
  directory = await temporaryDirectory();
  store = await Store.open(directory.path);
  for (let first = 0; first < FILES; first += TOGETHER) {
    await Promise.all(
      Array.from({ length: TOGETHER }, async (_, index) => {
        await using writer = await store.openWriter();
        const bytes = randomBytes(`small ${first + index}`, 700 + ((first + index) % 900));
        const { root, length } = await ingest(writer, inOnePiece(bytes));
        await writer.bind({ name: `small/${first + index}`, root, length });
        refs.push(root, sha256(bytes));
      }),
    );
  }
});
afterAll(async () => {
  await store.close();
  await directory[Symbol.asyncDispose]();
});

async function cpuSecondsOf(work: () => Promise<void>): Promise<number> {
  const before = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e6;
}

/** How often this process has read; undefined where the system does not tell. */
function readsSoFar(): number | undefined {
  if (!existsSync("/proc/self/io")) return undefined;
  return Number(/^syscr: (\d+)$/m.exec(readFileSync("/proc/self/io", "utf8"))?.[1]);
}

async function readAll(): Promise<void> {
  for (let first = 0; first < refs.length; first += BATCH) await store.read(refs.slice(first, first + BATCH));
}

async function verify(opened: Store): Promise<void> {
  expect(await opened.verify()).toMatchObject({ damaged: [], incomplete: [], lostRecords: 0 });
}

describe(`a store of ${FILES} small files`, () => {
  test(`is verified for less than ${TIMES_MAX} times what reading it costs, by who writes and by who only reads`, async () => {
    await using reading = await Store.open(directory.path, { readOnly: true });
    const control = await cpuSecondsOf(readAll);
    expect((await cpuSecondsOf(() => verify(store))) / control).toBeLessThan(TIMES_MAX);
    expect((await cpuSecondsOf(() => verify(reading))) / control).toBeLessThan(TIMES_MAX);
  });

  test.runIf(readsSoFar() !== undefined)(
    "is verified with few reads: they are what takes long on a busy machine",
    async () => {
      const counts: number[] = [];
      // A busy machine wakes threads up one by one, and adds reads of which verify knows nothing: the least counts.
      while (counts.length < RUNS && Math.min(...counts) >= READS_MAX) {
        const before = readsSoFar()!;
        await verify(store);
        counts.push((readsSoFar()! - before) / FILES);
      }
      expect(Math.min(...counts)).toBeLessThan(READS_MAX);
    },
  );

  test(`is collected for less than ${TIMES_MAX} times that`, async () => {
    const control = await cpuSecondsOf(readAll);
    const removed = Array.from({ length: FILES / TOGETHER }, (_, index) => `small/${index * TOGETHER}`);
    await Promise.all(removed.map((name) => store.catalog.remove(name)));
    let freed = 0;
    const seconds = await cpuSecondsOf(async () => {
      ({ freedChunks: freed } = await store.gc());
    });
    expect(freed).toBe(2 * removed.length);
    expect(seconds / control).toBeLessThan(TIMES_MAX);
  });
});
