/**
 * Fills the disk under the directory it is given with a store of one long segment, and what is left of it with something
 * else; then removes one name in ten and collects. Says as JSON what became of it.
 */
import { join } from "node:path";
import { sha256 } from "../../../packets/digest.ts";
import { errorToJson } from "../../../packets/errors.ts";
import { nodeDisk } from "../../../runtime/store/disk.ts";
import { Store } from "../../../runtime/store/store.ts";
import { openWriter } from "./faulty-disk.ts";
import { fillDisk, randomBytes } from "./store-fixture.ts";

const [directory = ""] = process.argv.slice(2);
const path = join(directory, "store");
const CHUNK_BYTES = 200_000;
const SEGMENT_BYTES = 32 * 1024 * 1024;
const RESERVE_BYTES = 2 * 1024 * 1024;

const chunkOf = (name: string): Uint8Array<ArrayBuffer> => randomBytes(name, CHUNK_BYTES);
const live = new Set<string>();

const { writer, abandon } = await openWriter(path, {
  disk: { ...nodeDisk, abandon: async () => {} },
  segmentBytesMax: SEGMENT_BYTES,
  reserveBytesMax: RESERVE_BYTES,
});

async function fill(): Promise<void> {
  const id = writer.openWriter();
  try {
    for (let index = 0; ; index++) {
      const name = `f${index}`;
      const { refs } = await writer.write(id, chunkOf(name), Uint32Array.of(CHUNK_BYTES));
      await writer.bind(id, { name, root: refs, length: CHUNK_BYTES }, {});
      live.add(name);
    }
  } finally {
    writer.closeWriter(id);
  }
}

async function collect(): Promise<number> {
  try {
    await writer.beginGc();
    for (const name of live) writer.markLive(sha256(chunkOf(name)));
    return (await writer.sweep()).freedBytes;
  } finally {
    writer.endGc();
  }
}

const codes: string[] = [];
const tell = (error: unknown): number => {
  codes.push(errorToJson(error).code);
  return 0;
};
await fill().catch(tell);
const stored = live.size;
fillDisk(join(directory, "ballast"));
for (const name of [...live].filter((_, index) => index % 10 === 0)) {
  await writer.removeName(name, {}).catch(tell);
  live.delete(name);
}
const freedBytes = await collect().catch(tell);
await abandon();

await using store = await Store.open(path);
const wrong: string[] = [];
for (const name of live) {
  const record = await store.catalog.resolve(name);
  const [chunk] = record === undefined ? [] : await store.read([record.root]);
  if (chunk === undefined || Buffer.compare(chunk, chunkOf(name)) !== 0) wrong.push(name);
}
const { damaged, lostRecords } = await store.verify();
const removedBytes = (stored - live.size) * CHUNK_BYTES;
process.stdout.write(
  JSON.stringify({
    codes,
    storedBytes: stored * CHUNK_BYTES,
    removedBytes,
    freedBytes,
    wrong,
    damaged,
    lostRecords,
  }),
);
