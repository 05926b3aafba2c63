/**
 * Fills the disk under the directory it is given with a store, and what is left of it with something else; then removes and
 * collects in that store, and goes on with it. Says as JSON what became of it.
 */
import { statfsSync } from "node:fs";
import { join } from "node:path";
import { errorToJson } from "../../../packets/errors.ts";
import { Store } from "../../../runtime/store/store.ts";
import { fillDisk, get, put, randomBytes } from "./store-fixture.ts";

const [directory = ""] = process.argv.slice(2);
const path = join(directory, "store");
const stored = new Map<string, number>();

/** Puts files of a size until one does not fit any more, and returns why. */
async function fill(store: Store, prefix: string, bytes: number): Promise<string> {
  for (let index = 0; ; index++) {
    const name = `${prefix}${index}`;
    try {
      await put(store, name, randomBytes(name, bytes));
      stored.set(name, bytes);
    } catch (error) {
      return errorToJson(error).code;
    }
  }
}

const freeBlocks = (): number => statfsSync(directory).bavail;

/** Removes every other file, collects, and says what that freed. */
async function makeRoom(store: Store): Promise<{ removed: number; freedBytes: number }> {
  const names = [...stored.keys()].filter((_, index) => index % 2 === 0);
  for (const name of names) {
    await store.catalog.remove(name);
    stored.delete(name);
  }
  return { removed: names.length, freedBytes: (await store.gc()).freedBytes };
}

const codes: string[] = [];
const rooms: { removed: number; freedBytes: number }[] = [];
let full = 0;
{
  await using store = await Store.open(path);
  codes.push(await fill(store, "large", 700_000), await fill(store, "small", 2_000));
  fillDisk(join(directory, "ballast"));
  full = freeBlocks();
  rooms.push(await makeRoom(store));
  codes.push(await fill(store, "again", 700_000), await fill(store, "small again", 2_000));
}
fillDisk(join(directory, "ballast"));
{
  // Another process would find the disk as full.
  await using store = await Store.open(path);
  rooms.push(await makeRoom(store));
  await put(store, "last", randomBytes("last", 1_000_000));
  stored.set("last", 1_000_000);
}
await using store = await Store.open(path);
const wrong: string[] = [];
for (const [name, bytes] of stored) {
  const content = await get(store, name).catch(() => Buffer.alloc(0));
  if (Buffer.compare(content, randomBytes(name, bytes)) !== 0) wrong.push(name);
}
const { damaged, incomplete } = await store.verify();
process.stdout.write(JSON.stringify({ codes, rooms, full, wrong, damaged, incomplete }));
