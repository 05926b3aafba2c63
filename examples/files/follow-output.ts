/**
 * Hands the output of a simulation to workers while it grows. What was written since the last look is stored as a piece of its own, cut
 * behind a line, and a program runs over the new pieces at once: when the simulation ends, little is left to be done.
 *
 *   node examples/files/follow-output.ts STORE OUTPUT PROGRAM
 *
 * STORE is a directory, where four workers of this machine run the program, or the client token of a hub, whose nodes do. OUTPUT is a file
 * that is appended to, of lines; beside it stands OUTPUT.done when the simulation is over. PROGRAM yields a value with a `combine`, as a sum has.
 */
import { existsSync } from "node:fs";
import { open } from "node:fs/promises";
import { basename } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { connect, openLocal } from "packetfs";

const [store, output, program] = process.argv.slice(2);
if (store === undefined || output === undefined || program === undefined)
  throw new Error("usage: follow-output.ts STORE OUTPUT PROGRAM");

const PIECE_BYTES = 16 * 1024 * 1024;
const LOOK_MS = 200;

await using pfs = await (store.startsWith("pfs1.") ? connect(store) : openLocal(store, { workers: 4 }));
const pieces: string[] = [];
let running: Promise<void> = Promise.resolve();
let stored = 0;
for (let isOver = false; !isOver;) {
  // Looked for first: what is written before it is there is not missed.
  isOver = existsSync(`${output}.done`);
  for (;;) {
    const bytes = await linesFrom(stored, isOver);
    if (bytes.byteLength === 0) break;
    const name = `${basename(output)}/${String(pieces.length).padStart(6, "0")}`;
    await pfs.put(bytes, { name });
    pieces.push(name);
    stored += bytes.byteLength;
    // The workers are at one piece while the next one is written.
    running = Promise.all([running, show(name)]).then(() => undefined);
    running.catch(() => {});
  }
  if (!isOver) await sleep(LOOK_MS);
}
await running;
// All pieces are one input: a single answer, over everything.
const { value } = await pfs.run({ path: program }, pieces);
console.log(`all ${pieces.length} pieces, ${stored} bytes:`, value);

async function show(name: string): Promise<void> {
  const { value } = await pfs.run({ path: program! }, [name]);
  console.log(`${name}:`, value);
}

/** Whole lines behind a place, a piece of them at most; at the end the last one need not be whole. */
async function linesFrom(place: number, isLast: boolean): Promise<Buffer> {
  await using file = await open(output!, "r");
  const buffer = Buffer.alloc(PIECE_BYTES);
  const { bytesRead } = await file.read(buffer, 0, PIECE_BYTES, place);
  const isAll = isLast && bytesRead < PIECE_BYTES;
  return buffer.subarray(0, isAll ? bytesRead : buffer.lastIndexOf(10, bytesRead - 1) + 1);
}
