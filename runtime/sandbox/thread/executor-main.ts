/**
 * The executor process: takes messages from the pipe, gives frames to its threads, and passes their outcomes on. It owns
 * nothing that must be closed, so every end of it is a SIGKILL to itself: a thread that is stuck in a built-in would make
 * an orderly exit wait for ever.
 */
import { createHash } from "node:crypto";
import { writeSync } from "node:fs";
import { Socket } from "node:net";
import { Piscina } from "piscina";
import { builtUrl } from "../../built.ts";
import { EXECUTOR_RSS_POLL_MS, PROGRAM_ARGS_BYTES_MAX, PROGRAM_CODE_BYTES_MAX } from "../../limits.ts";
import { PIPE_DESCRIPTOR, encodeHeader, MessageKind, MessageReader } from "../process/protocol.ts";
import type { SharedProgram, ThreadAnswer, ThreadTask } from "./executor-thread.ts";
import type { Message } from "../process/protocol.ts";

interface LoadedProgram extends SharedProgram {
  readonly hash: string;
  readonly prepared: Promise<ThreadAnswer>;
  lanes: number;
}

const threads = Number(process.argv[2]);
/** Bytes, or 0 where the node itself watches the memory of this process. */
const rssBytesMax = Number(process.argv[3]);
const BODY_BYTES_MAX = PROGRAM_CODE_BYTES_MAX + PROGRAM_ARGS_BYTES_MAX + 4 * 1024 * 1024;

const pool = new Piscina<ThreadTask, ThreadAnswer | ArrayBuffer>({
  filename: builtUrl(new URL("./executor-thread.ts", import.meta.url)).href,
  minThreads: threads,
  maxThreads: threads,
  idleTimeout: Infinity,
  stricterFIFO: true,
  recordTiming: false,
});
const pipe = new Socket({ fd: PIPE_DESCRIPTOR, readable: true, writable: true });
const lanes = new Map<number, LoadedProgram>();
const programsByHash = new Map<string, LoadedProgram>();
let lastProgram = 0;

function die(reason: string): never {
  try {
    writeSync(2, `${reason}\n`);
  } finally {
    process.kill(process.pid, "SIGKILL");
  }
  throw new Error(reason);
}

function send(kind: MessageKind, call: number, word: number, body: Uint8Array): void {
  pipe.cork();
  pipe.write(encodeHeader(kind, call, word, body.byteLength));
  if (body.byteLength > 0) pipe.write(body);
  pipe.uncork();
}

function ask(task: ThreadTask, transfer?: ArrayBuffer): Promise<ThreadAnswer | ArrayBuffer> {
  return pool.run(task, transfer === undefined ? {} : { transferList: [transfer] });
}

async function inspect(call: number, code: Uint8Array, loadTimeMs: number): Promise<void> {
  const answer = (await ask({ kind: "inspect", code, loadTimeMs })) as ThreadAnswer;
  if (answer.kind === "described") send(MessageKind.described, call, 0, Buffer.from(answer.json));
  else if (answer.kind === "invalid") send(MessageKind.invalid, call, 0, Buffer.from(answer.reason));
}

/** The same program in several lanes is loaded once: lanes are many, isolates are not. */
async function load(call: number, lane: number, body: Uint8Array): Promise<void> {
  const hash = createHash("sha256").update(body).digest("hex");
  let program = programsByHash.get(hash);
  if (program === undefined) {
    const image = new SharedArrayBuffer(body.byteLength);
    new Uint8Array(image).set(body);
    const wanted = new SharedArrayBuffer(4);
    new Int32Array(wanted)[0] = 1;
    const shared = { id: ++lastProgram, image, wanted };
    program = { ...shared, hash, prepared: prepare(shared), lanes: 0 };
    programsByHash.set(hash, program);
  }
  // Counted before the old one is let go, which may be the same.
  program.lanes++;
  unload(lane);
  lanes.set(lane, program);
  const answer = await program.prepared;
  if (answer.kind === "invalid") {
    if (lanes.get(lane) === program) unload(lane);
    send(MessageKind.invalid, call, 0, Buffer.from(answer.reason));
  } else if (answer.kind === "prepared") {
    send(MessageKind.loaded, call, Math.ceil(answer.milliseconds), new Uint8Array());
  }
}

/** Ready as soon as one thread is; the others follow, if they have nothing else to do. */
async function prepare(program: SharedProgram): Promise<ThreadAnswer> {
  const task: ThreadTask = { kind: "prepare", program };
  const answers = Array.from({ length: threads }, () => ask(task));
  return (await Promise.race(answers)) as ThreadAnswer;
}

function unload(lane: number): void {
  const program = lanes.get(lane);
  if (program === undefined) return;
  lanes.delete(lane);
  program.lanes--;
  if (program.lanes > 0) return;
  programsByHash.delete(program.hash);
  Atomics.store(new Int32Array(program.wanted), 0, 0);
  for (let thread = 0; thread < threads; thread++) orDie(ask({ kind: "sweep" }));
}

async function run(call: number, lane: number, body: Uint8Array<ArrayBuffer>): Promise<void> {
  const program = lanes.get(lane);
  if (program === undefined) die(`lane ${lane} has no program`);
  const { id, image, wanted } = program;
  const outcome = await ask({ kind: "run", program: { id, image, wanted }, body }, body.buffer);
  send(MessageKind.ran, call, 0, new Uint8Array(outcome as ArrayBuffer));
}

/** A task that fails is our defect or the end of a thread: neither can be gone on from. */
function orDie(work: Promise<unknown>): void {
  work.catch((error: unknown) =>
    die(error instanceof Error ? (error.stack ?? error.message) : String(error)),
  );
}

function take({ kind, call, word, body }: Message): void {
  if (kind === MessageKind.run) orDie(run(call, word, body));
  else if (kind === MessageKind.load) orDie(load(call, word, body));
  else if (kind === MessageKind.inspect) orDie(inspect(call, body, word));
  else if (kind === MessageKind.unload) unload(word);
  else die(`unknown message ${kind}`);
}

const reader = new MessageReader(() => BODY_BYTES_MAX, take);
pipe.on("data", (piece: Buffer) => {
  if (!reader.push(piece)) die("a message is too long");
});
for (const event of ["end", "error", "close"]) pipe.on(event, () => die("the node is gone"));
process.on("uncaughtException", (error) => die(error.stack ?? error.message));
if (rssBytesMax > 0) {
  setInterval(() => {
    if (process.memoryUsage.rss() > rssBytesMax) die("out of memory: the process is over its limit");
  }, EXECUTOR_RSS_POLL_MS);
}

await Promise.all(Array.from({ length: threads }, () => ask({ kind: "sweep" })));
send(MessageKind.ready, 0, 0, new Uint8Array());
