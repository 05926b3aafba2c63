/**
 * The executor process: takes messages from the pipe, gives each to the thread that it names, and passes answers on. It owns
 * nothing that must be closed, so every end of it is a SIGKILL to itself: a thread that is stuck in a built-in would make
 * an orderly exit wait for ever.
 */
import { createHash } from "node:crypto";
import { closeSync, writeSync } from "node:fs";
import { Socket } from "node:net";
import { Piscina } from "piscina";
import { builtUrl } from "../../built.ts";
import { EXECUTOR_RSS_POLL_MS, PROGRAM_ARGS_BYTES_MAX, PROGRAM_CODE_BYTES_MAX } from "../../limits.ts";
import {
  MessageKind,
  MessageReader,
  PIPE_DESCRIPTOR,
  SHARED_MEMORY_DESCRIPTOR,
  encodeHeader,
} from "../process/protocol.ts";
import type { Message } from "../process/protocol.ts";
import { closeInherited } from "./descriptors.ts";
import type { SharedProgram, ThreadAnswer, ThreadTask } from "./executor-thread.ts";

interface RegisteredProgram extends SharedProgram {
  readonly hash: string;
  lanes: number;
}

closeInherited(SHARED_MEMORY_DESCRIPTOR);
const threads = Number(process.argv[2]);
/** Bytes, or 0 where the node itself watches the memory of this process. */
const rssBytesMax = Number(process.argv[3]);
const BODY_BYTES_MAX = PROGRAM_CODE_BYTES_MAX + PROGRAM_ARGS_BYTES_MAX + 4 * 1024 * 1024;

const pipe = new Socket({ fd: PIPE_DESCRIPTOR, readable: true, writable: true });
const lanes = new Map<number, RegisteredProgram>();
const programsByHash = new Map<string, RegisteredProgram>();
let lastProgram = 0;
/** What the system calls each thread, 0 until it is ready. */
const numbers = new Uint32Array(threads);
let starting = threads;
/** One of each thread, so that the node chooses the thread of a call: it reads the CPU time of each from outside. */
const pools: readonly Piscina<ThreadTask, ThreadAnswer | undefined>[] = Array.from(
  { length: threads },
  () =>
    new Piscina<ThreadTask, ThreadAnswer | undefined>({
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

function hear(thread: number, answer: ThreadAnswer | undefined): void {
  if (answer === undefined) return;
  const { kind, call, word, body } = answer;
  if (kind !== MessageKind.ready) return send(kind, call, word, body);
  numbers[thread] = word;
  starting--;
  if (starting === 0) send(MessageKind.ready, 0, 0, new Uint8Array(numbers.buffer));
}

function send(kind: MessageKind, call: number, word: number, body: Uint8Array): void {
  pipe.cork();
  pipe.write(encodeHeader(kind, call, 0, word, body.byteLength));
  if (body.byteLength > 0) pipe.write(body);
  pipe.uncork();
}

function tell(thread: number, task: ThreadTask, transferList: ArrayBuffer[] = []): void {
  const pool = pools[thread] ?? die(`there is no thread ${thread}`);
  // Our defect, or the end of the thread: neither can be gone on from.
  pool.run(task, { transferList }).then((answer) => hear(thread, answer), dieOf);
}

/** The same program in several lanes is loaded once on each thread: lanes are many, isolates are not. */
function load(lane: number, body: Uint8Array): void {
  const hash = createHash("sha256").update(body).digest("hex");
  let program = programsByHash.get(hash);
  if (program === undefined) {
    const image = new SharedArrayBuffer(body.byteLength);
    new Uint8Array(image).set(body);
    const wanted = new SharedArrayBuffer(4);
    new Int32Array(wanted)[0] = 1;
    program = { id: ++lastProgram, image, wanted, hash, lanes: 0 };
    programsByHash.set(hash, program);
  }
  // Counted before the old one is let go, which may be the same.
  program.lanes++;
  unload(lane);
  lanes.set(lane, program);
}

function unload(lane: number): void {
  const program = lanes.get(lane);
  if (program === undefined) return;
  lanes.delete(lane);
  program.lanes--;
  if (program.lanes > 0) return;
  programsByHash.delete(program.hash);
  Atomics.store(new Int32Array(program.wanted), 0, 0);
  for (let thread = 0; thread < threads; thread++) tell(thread, { kind: "sweep" });
}

/** The lane's program, as threads take it. */
function programOf(lane: number): SharedProgram | undefined {
  const program = lanes.get(lane);
  return program && { id: program.id, image: program.image, wanted: program.wanted };
}

function take({ kind, call, thread, word, body }: Message): void {
  switch (kind) {
    case MessageKind.inspect:
      tell(thread, { kind: "inspect", call, code: body });
      // What was looked into is most likely run next.
      return tell(thread, { kind: "openAhead" });
    case MessageKind.load:
      load(word, body);
      return tell(thread, { kind: "prepare", call, program: programOf(word) });
    case MessageKind.prepare:
      return tell(thread, { kind: "prepare", call, program: programOf(word) });
    case MessageKind.run: {
      const program = programOf(word) ?? die(`lane ${word} has no program`);
      return tell(thread, { kind: "run", call, program, body }, [body.buffer]);
    }
    case MessageKind.unload:
      return unload(word);
    default:
      die(`unknown message ${kind}`);
  }
}

const reader = new MessageReader(() => BODY_BYTES_MAX, take);
pipe.on("data", (piece: Buffer) => {
  if (!reader.push(piece)) die("a message is too long");
});
for (const event of ["end", "error", "close"]) pipe.on(event, () => die("the node is gone"));
process.on("uncaughtException", dieOf);
if (rssBytesMax > 0) {
  setInterval(() => {
    if (process.memoryUsage.rss() > rssBytesMax) die("out of memory: the process is over its limit");
  }, EXECUTOR_RSS_POLL_MS);
}
for (let thread = 0; thread < threads; thread++) tell(thread, { kind: "start" });
