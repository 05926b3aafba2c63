/** Begins to store the file at a path, is interrupted, says why it ended, and has nothing left to do. */
import { fileSource, ingest } from "../../../runtime/stream/ingest.ts";
import type { ChunkSink } from "../../../runtime/contracts/chunks.ts";

const sink: ChunkSink = { write: () => Promise.reject(new Error("nothing comes")) };
const controller = new AbortController();
const { signal } = controller;
setTimeout(() => controller.abort(new Error("enough")), 20);
const [path = ""] = process.argv.slice(2);
const ended = await ingest(sink, fileSource(path, signal), { signal }).catch((error: unknown) => error);
process.stdout.write(ended instanceof Error ? ended.message : "it was stored");
