/** What looking after a store of many small files costs, in CPU time of this process, all of its threads together. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Store } from "../../../runtime/store/store.ts";
import { ingest } from "../../../runtime/stream/ingest.ts";
import { inOnePiece, randomBytes, temporaryDirectory } from "./store-fixture.ts";
import type { TemporaryDirectory } from "./store-fixture.ts";

const FILES = 5_000;
/** 20,000 files are to take less than 5 seconds. */
const CPU_SECONDS_MAX = (5 * FILES) / 20_000;
/** Files that are stored side by side, so that they share what makes them durable. */
const TOGETHER = 250;

let directory: TemporaryDirectory;
let store: Store;

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

describe(`a store of ${FILES} small files`, () => {
  test("is verified in little time, by who writes to it and by who only reads", async () => {
    const verify = async (opened: Store): Promise<void> => {
      expect(await opened.verify()).toMatchObject({ damaged: [], incomplete: [], lostRecords: 0 });
    };
    expect(await cpuSecondsOf(() => verify(store))).toBeLessThan(CPU_SECONDS_MAX);
    await using reading = await Store.open(directory.path, { readOnly: true });
    expect(await cpuSecondsOf(() => verify(reading))).toBeLessThan(CPU_SECONDS_MAX);
  });

  test("is collected in little time", async () => {
    const removed = Array.from({ length: FILES / TOGETHER }, (_, index) => `small/${index * TOGETHER}`);
    await Promise.all(removed.map((name) => store.catalog.remove(name)));
    let freed = 0;
    const seconds = await cpuSecondsOf(async () => {
      ({ freedChunks: freed } = await store.gc());
    });
    expect(freed).toBe(2 * removed.length);
    expect(seconds).toBeLessThan(CPU_SECONDS_MAX);
  });
});
