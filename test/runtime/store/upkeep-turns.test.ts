/** Looking after a store of very many chunks leaves the event loop to others: a hub's sessions live on it too. */
import { setImmediate as nextTurn } from "node:timers/promises";
import { expect, test } from "vitest";
import { refAt } from "../../../packets/digest.ts";
import { StreamWriter } from "../../../packets/stream-writer.ts";
import { Store } from "../../../runtime/store/store.ts";
import { temporaryDirectory } from "./store-fixture.ts";

/** PACKETFS_TEST_CHUNKS=838000 is the store that cost a hub its sessions. */
const CHUNKS = Number(process.env["PACKETFS_TEST_CHUNKS"] ?? 60_000);
/** Nothing is decided by it: it ends what hangs. */
const HANGING_MS = 240_000 + CHUNKS * 10;
const CHUNK_BYTES = 40;
const BLOCK_CHUNKS = 4096;
/** CPU time of this thread in one turn of its event loop, of which others would see nothing before. */
const TURN_CPU_MS_MAX = 50;

/** A file that copies each of its chunks once. */
async function fill(store: Store): Promise<void> {
  await using writer = await store.openWriter();
  const streams: Uint8Array<ArrayBuffer>[] = [];
  const stream = new StreamWriter((_ref, bytes) => void streams.push(Uint8Array.from(bytes)));
  const writeStreams = async (): Promise<void> => {
    for (const bytes of streams.splice(0)) await writer.write(bytes, Uint32Array.of(bytes.byteLength));
  };
  for (let first = 0; first < CHUNKS; first += BLOCK_CHUNKS) {
    const count = Math.min(BLOCK_CHUNKS, CHUNKS - first);
    const block = new Uint8Array(count * CHUNK_BYTES);
    const view = new DataView(block.buffer);
    for (let index = 0; index < count; index++) view.setUint32(index * CHUNK_BYTES, first + index);
    const { refs } = await writer.write(block, new Uint32Array(count).fill(CHUNK_BYTES));
    for (let index = 0; index < count; index++) stream.copy(refAt(refs, index).slice(), 0, CHUNK_BYTES);
    await writeStreams();
  }
  const { root, length } = stream.finish();
  await writeStreams();
  await writer.bind({ name: "wide", root, length });
}

/** The CPU time of the longest turn of the event loop while `work` is done, in milliseconds. */
async function longestTurn(work: () => Promise<unknown>): Promise<number> {
  let isDone = false;
  let longest = 0;
  const watching = (async (): Promise<void> => {
    while (!isDone) {
      const before = process.threadCpuUsage();
      await nextTurn();
      const { user, system } = process.threadCpuUsage(before);
      longest = Math.max(longest, (user + system) / 1000);
    }
  })();
  await work();
  isDone = true;
  await watching;
  return longest;
}

test(
  `verify and gc of ${CHUNKS} chunks take no turn of more than ${TURN_CPU_MS_MAX} ms`,
  async () => {
    await using directory = await temporaryDirectory();
    await using store = await Store.open(directory.path);
    await fill(store);
    const turns = {
      verify: await longestTurn(async () => {
        expect(await store.verify()).toMatchObject({ damaged: [], incomplete: [], lostRecords: 0 });
      }),
      gc: await longestTurn(async () => expect(await store.gc()).toMatchObject({ freedChunks: 0 })),
    };
    expect(turns.verify, "verify").toBeLessThan(TURN_CPU_MS_MAX);
    expect(turns.gc, "gc").toBeLessThan(TURN_CPU_MS_MAX);
  },
  HANGING_MS,
);
