/**
 * The executor process: starts its threads, which talk to the node by themselves, and ends with the node. It owns nothing
 * that must be closed, so every end of it is a SIGKILL to itself: a thread that is stuck in a built-in would make an orderly
 * exit wait for ever.
 */
import { closeSync, writeSync } from "node:fs";
import { Socket } from "node:net";
import { Piscina } from "piscina";
import { builtUrl } from "../../built.ts";
import { EXECUTOR_RSS_POLL_MS } from "../../limits.ts";
import {
  HEADER_BYTES,
  MessageKind,
  PROCESS_PIPE_DESCRIPTOR,
  THREAD_PIPES_DESCRIPTOR,
  writeHeader,
} from "../process/protocol.ts";
import { closeInherited } from "./descriptors.ts";
import type { ThreadTask } from "./executor-thread.ts";

const threads = Number(process.argv[2]);
/** Bytes, or 0 where the node itself watches the memory of this process. */
const rssBytesMax = Number(process.argv[3]);

closeInherited(THREAD_PIPES_DESCRIPTOR + threads - 1);
const pipe = new Socket({ fd: PROCESS_PIPE_DESCRIPTOR, readable: true, writable: true });
/** One of each thread, so that the node knows each: it chooses the thread of a call, and reads its CPU time from outside. */
const pools: readonly Piscina<ThreadTask, number>[] = Array.from(
  { length: threads },
  () =>
    new Piscina<ThreadTask, number>({
      filename: builtUrl(new URL("./executor-thread.ts", import.meta.url)).href,
      minThreads: 1,
      maxThreads: 1,
      idleTimeout: Infinity,
      recordTiming: false,
    }),
);

function die(reason: string): never {
  try {
    writeSync(2, `${reason}\n`);
  } finally {
    process.kill(process.pid, "SIGKILL");
    // The first process of a pid namespace cannot kill itself, only crash. What it would say of that is no news.
    closeSync(2);
    process.abort();
  }
}

function dieOf(error: unknown): never {
  return die(error instanceof Error ? (error.stack ?? error.message) : String(error));
}

/** Says what the system calls each thread, once all are there, and lets them serve their pipes. */
async function begin(): Promise<void> {
  const numbers = Uint32Array.from(await Promise.all(pools.map((pool) => pool.run({ kind: "start" }))));
  const header = Buffer.alloc(HEADER_BYTES);
  writeHeader(header, MessageKind.ready, 0, 0, numbers.byteLength);
  const serving = pools.map((pool, thread) =>
    pool.run({ kind: "serve", descriptor: THREAD_PIPES_DESCRIPTOR + thread }),
  );
  pipe.write(Buffer.concat([header, new Uint8Array(numbers.buffer)]));
  await Promise.race(serving);
  die("the node is gone");
}

for (const event of ["data", "end", "error", "close"]) pipe.on(event, () => die("the node is gone"));
process.on("uncaughtException", dieOf);
if (rssBytesMax > 0) {
  setInterval(() => {
    if (process.memoryUsage.rss() > rssBytesMax) die("out of memory: the process is over its limit");
  }, EXECUTOR_RSS_POLL_MS);
}
// Our defect, or the end of a thread: neither can be gone on from.
begin().catch(dieOf);
