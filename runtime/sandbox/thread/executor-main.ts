/**
 * The executor process: starts its threads, which talk to the node by themselves, and ends with the node. It owns nothing
 * that must be closed, so every end of it is a SIGKILL to itself: a thread that is stuck in a built-in would make an orderly
 * exit wait for ever.
 */
import { closeSync, read, writeSync } from "node:fs";
import { Piscina } from "piscina";
import { builtUrl, compiledCode } from "../../built.ts";
import { EXECUTOR_RSS_POLL_MS } from "../../limits.ts";
import {
  HEADER_BYTES,
  MessageKind,
  MessageReader,
  PROCESS_PIPE_DESCRIPTOR,
  READY_BYTES,
  THREAD_PIPES_DESCRIPTOR,
  writeHeader,
} from "../process/protocol.ts";
import type { Message } from "../process/protocol.ts";
import { closeInherited } from "./descriptors.ts";
import type { ThreadTask } from "./executor-thread.ts";
import type { ThreadData } from "./isolated-vm.ts";

const PIECE_BYTES = 1024;
const threads = Number(process.argv[2]);
/** Bytes, or 0 where the node itself watches the memory of this process. */
const rssBytesMax = Number(process.argv[3]);

/** Whether it starts before there is a program for it. */
const isSpare = process.argv[4] === "true";
/** Nothing where it is only compiled: then threads look for it themselves. */
const isolatedVm = process.argv[5];
let started = 0;
/** Resolves when the thread that was asked for last has been told of. */
let told: Promise<void> = Promise.resolve();

function die(reason: string): never {
  try {
    writeSync(2, `${reason}\n`);
    process.kill(process.pid, "SIGKILL");
  } catch {
    // Nobody reads it, or behind the filter of system calls nothing may be killed.
  }
  // The first process of a pid namespace cannot kill itself either, only crash. What it would say of that is no news.
  closeSync(2);
  process.abort();
}

function dieOf(error: unknown): never {
  return die(error instanceof Error ? (error.stack ?? error.message) : String(error));
}

function openThread(): Piscina<ThreadTask, number> {
  return new Piscina<ThreadTask, number>({
    filename: builtUrl(new URL("./executor-thread.ts", import.meta.url)).href,
    minThreads: 1,
    maxThreads: 1,
    idleTimeout: Infinity,
    recordTiming: false,
    ...(isolatedVm === undefined ? {} : { workerData: { isolatedVm } satisfies ThreadData }),
  });
}

/**
 * Starts the next thread, in a pool of its own, so that the node knows each: it chooses the thread of a call, and reads its CPU
 * time from outside. Says what the system calls it, and lets it serve its pipe until the node is gone.
 */
async function startThread(): Promise<void> {
  const thread = started++;
  const pool = openThread();
  const before = told;
  const starting = pool.run({ kind: "start", isSpare: isSpare && thread === 0 });
  told = tell(thread, starting, before);
  await told;
  await pool.run({ kind: "serve", descriptor: THREAD_PIPES_DESCRIPTOR + thread });
  die("the node is gone");
}

/** Several start at the same time, and are told of in their order. */
async function tell(thread: number, starting: Promise<number>, before: Promise<void>): Promise<void> {
  const number = await starting;
  await before;
  const message = Buffer.alloc(HEADER_BYTES + READY_BYTES);
  writeHeader(message, MessageKind.ready, 0, thread, 0, READY_BYTES);
  message.set(new Uint8Array(Uint32Array.of(number).buffer), HEADER_BYTES);
  // A few bytes, for which a pipe has room.
  writeSync(PROCESS_PIPE_DESCRIPTOR, message);
}

/** Our defect, or the end of a thread: neither can be gone on from. */
function start(): void {
  startThread().catch(dieOf);
}

function take({ kind, word }: Message): void {
  if (kind !== MessageKind.start || word !== started || started === threads) die("no such thread can start");
  start();
}

/** By plain reads, one of which always waits: what Node has for pipes takes longer to load than all that is said here. */
function listen(reader: MessageReader, piece: Uint8Array): void {
  read(PROCESS_PIPE_DESCRIPTOR, piece, 0, piece.byteLength, null, (error, bytes) => {
    if (error !== null || bytes === 0) die("the node is gone");
    if (!reader.push(piece.subarray(0, bytes))) die("a message is too long");
    listen(reader, piece);
  });
}

function serve(): void {
  closeInherited(THREAD_PIPES_DESCRIPTOR + threads - 1);
  process.on("uncaughtException", dieOf);
  listen(new MessageReader(() => 0, take), new Uint8Array(PIECE_BYTES));
  if (rssBytesMax > 0) {
    setInterval(() => {
      if (process.memoryUsage.rss() > rssBytesMax) die("out of memory: the process is over its limit");
    }, EXECUTOR_RSS_POLL_MS);
  }
  start();
}

/** Has V8 compile what an executor process calls until its first packet has run, and keeps it: see compile-executor.ts. */
export async function compile(): Promise<void> {
  await openThread().run({ kind: "compile" });
  compiledCode().keep();
}

if (process.argv.length > 2) serve();
