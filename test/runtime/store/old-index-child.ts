/**
 * Opens a store whose index is older than its segments, where the disk has no room for another index. Says as JSON what it was
 * told, with what was kept free and without it.
 */
import { readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { errorToJson } from "../../../packets/errors.ts";
import { diskError, nodeDisk } from "../../../runtime/store/disk.ts";
import { descriptorsOf } from "../../suites/processes.ts";
import { openWriter } from "./faulty-disk.ts";
import { fillDisk, randomBytes } from "./store-fixture.ts";

const [directory = ""] = process.argv.slice(2);
const path = join(directory, "store");
const index = join(path, "index.db");
const CHUNKS = 1000;
const CHUNK_BYTES = 2000;
const LEFT_BYTES = 64 * 1024;
const disk = { ...nodeDisk, abandon: async (): Promise<void> => {} };
const open = (): ReturnType<typeof openWriter> =>
  openWriter(path, { disk, reserveBytesMax: 2 * 1024 * 1024, uncommittedBytesMax: 100_000 });

const first = await open();
await first.abandon();
const old = readFileSync(index);
const { writer, abandon } = await open();
const id = writer.openWriter();
const chunks = Uint32Array.from({ length: CHUNKS }, () => CHUNK_BYTES);
// What is kept free is sized by what was there before.
for (const name of ["first", "second"]) {
  const { refs } = await writer.write(id, randomBytes(name, CHUNKS * CHUNK_BYTES), chunks);
  await writer.bind(id, { name, root: refs.slice(0, 32), length: CHUNK_BYTES }, {});
}
await abandon();
writeFileSync(index, old);

const ballast = join(directory, "ballast");
fillDisk(ballast);
// What is beside an index that is open has room, another index has not.
truncateSync(ballast, statSync(ballast).size - LEFT_BYTES);

const codes: string[] = [];
await open().catch((error: unknown) => codes.push(errorToJson(diskError(error)).code));
const left = descriptorsOf(process.pid).filter((target) => target.startsWith(index));
rmSync(join(path, "reserve"));
const again = await open();
const removed = await again.writer.removeName("first", {});
const { notes } = again.writer;
await again.abandon();
process.stdout.write(JSON.stringify({ codes, left: left.length, notes, removed }));
