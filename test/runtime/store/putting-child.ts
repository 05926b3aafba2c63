/**
 * Puts files into the store of the directory it is given, several at once, until it is killed. Says on its standard output
 * what it is about to do with a name, and that the store has acknowledged it: `start|done <name> <content>` a line.
 */
import { writeSync } from "node:fs";
import { ingest } from "../../../runtime/stream/ingest.ts";
import { Store } from "../../../runtime/store/store.ts";
import { NamedPut } from "../../../sdk/named-put.ts";
import { REMOVED } from "../../suites/acknowledged.ts";
import { bytesOf } from "./put-content.ts";
import { inPieces } from "./store-fixture.ts";

const [directory = "", run = ""] = process.argv.slice(2);
const store = await Store.open(directory);

async function say(name: string, content: string, work: () => Promise<unknown>): Promise<void> {
  writeSync(1, `start ${name} ${content}\n`);
  await work();
  writeSync(1, `done ${name} ${content}\n`);
}

async function putOne(name: string, content: string): Promise<void> {
  const bytes = bytesOf(content);
  await using put = new NamedPut(store);
  const { root } = await ingest(put, inPieces(bytes, 500_000));
  await put.bind({ name, root, length: bytes.byteLength });
}

async function putForever(lane: number): Promise<void> {
  for (let index = 0; ; index++) {
    const name = `${lane}/${index % 3}`;
    // Small files, and with each third a large one whose chunks are mostly there.
    const isLarge = index % 3 === 0;
    const content = isLarge
      ? `base-${lane}/${2_000_000 + index}`
      : `${run}-${lane}-${index}/${(index * 7919) % 90_000}`;
    await say(name, content, () => putOne(name, content));
    if (index % 5 === 4) await say(name, REMOVED, () => store.catalog.remove(name));
    if (lane === 0 && index % 6 === 5) await store.gc();
  }
}

await Promise.all([putForever(0), putForever(1), putForever(2)]);
