/**
 * A thread of the executor process. Piscina starts it and calls it twice: to say what the system calls it, and to serve its
 * pipe, which it does until the node is gone. It does one thing at a time, in the order asked.
 */
import { constants } from "node:buffer";
import { readlinkSync } from "node:fs";
import { compiledCode } from "../../built.ts";
import { FaultCode } from "../../../packets/faults.ts";
import { PACKET_BYTES } from "../../../packets/layout.ts";
import {
  PROGRAM_ARGS_BYTES_MAX,
  PROGRAM_CODE_BYTES_MAX,
  PROGRAM_LIMITS_DEFAULT,
  THREAD_ISOLATES_MAX,
} from "../../limits.ts";
import {
  EXTENT_NUMBERS,
  MessageKind,
  SHARED_MEMORY_DESCRIPTOR,
  decodeImage,
  readRun,
} from "../process/protocol.ts";
import type { Message } from "../process/protocol.ts";
import type { Entry } from "../../program/program.ts";
import { inputEncoding } from "../../program/readers.ts";
import { InputReader } from "./frame-input.ts";
import {
  GuestIsolate,
  GuestRealm,
  LoadFailure,
  believeCompiled,
  compiledPrelude,
  inspectionImage,
} from "./guest-isolate.ts";
import { openGuest, refusedOutcome } from "./guest.ts";
import type { Guest } from "./guest.ts";
import { compileKernels } from "./kernel-compiler.ts";
import { NodeQuestions } from "./node-questions.ts";
import { ThreadPipe } from "./thread-pipe.ts";

export type ThreadTask =
  /** Resolves with what the system calls the thread; a spare's has done then what its first program would wait for. */
  | { readonly kind: "start"; readonly isSpare: boolean }
  /** Resolves when it is kept what V8 compiled of all that a first packet needs. */
  | { readonly kind: "compile" }
  /** Resolves when the node is gone. */
  | { readonly kind: "serve"; readonly descriptor: number };

interface Program {
  /** protocol.ts. */
  readonly image: Uint8Array;
  lanes: number;
  guest: Guest | undefined;
}

interface Answer {
  readonly kind: MessageKind;
  readonly body: Uint8Array;
}

/** What a program yields that was rehearsed, and as which its prelude is kept when V8 has compiled it. */
const REHEARSED =
  "$exports.default = { input: { kind: 'lines' }, yields: 'groups', map: (line, { emit }) => { emit(line, 1); }, combine: (a, b) => a + b };";
const GROUPS = `{"k":["a","b"],"v":[2,1]}\n\n`;
const PRELUDE_VARIANT = "prelude";
const NOTHING = new Uint8Array(0);
const GARBAGE_UNITS = 16 * 1024 * 1024;
const BODY_BYTES_MAX = PROGRAM_CODE_BYTES_MAX + PROGRAM_ARGS_BYTES_MAX + 4 * 1024 * 1024;
/** After so many messages Node gets a turn for what it has to do on this thread. */
const MESSAGES_PER_TURN = 256;
const lanes = new Map<number, Program>();
/** The same program in several lanes is loaded once: lanes are many, isolates are not. */
const programs = new Set<Program>();
/** Those with a guest, the one used least recently first. */
const opened = new Set<Program>();
const inputs = new InputReader(SHARED_MEMORY_DESCRIPTOR);
const questions = new NodeQuestions(SHARED_MEMORY_DESCRIPTOR);
/** Opened before there is a program for it. */
let ahead: GuestRealm | undefined;
let garbage = 0;

async function serve(descriptor: number): Promise<number> {
  const pipe = new ThreadPipe(descriptor, BODY_BYTES_MAX);
  for (let messages = 1; ; messages++) {
    const message = pipe.next();
    if (message === undefined) return messages;
    take(message, pipe);
    if (messages % MESSAGES_PER_TURN === 0) await new Promise<void>((resolve) => setImmediate(resolve));
  }
}

function take(message: Message, pipe: ThreadPipe): void {
  const { kind, call, word: lane, body } = message;
  switch (kind) {
    case MessageKind.inspect: {
      const { kind: described, body: text } = loadAnswer(() => inspect(body));
      pipe.send(described, call, text);
      // What was looked into is most likely run next.
      return openAhead();
    }
    case MessageKind.compile: {
      const answer = loadAnswer(() => ({
        kind: MessageKind.compiled,
        body: bytesOf(compileKernels(Buffer.from(body).toString())),
      }));
      return pipe.send(answer.kind, call, answer.body);
    }
    case MessageKind.load: {
      const answer = loadAnswer(() => load(lane, body));
      return pipe.send(answer.kind, call, answer.body);
    }
    case MessageKind.run: {
      const program = lanes.get(lane);
      if (program === undefined) throw new Error(`lane ${lane} has no program`);
      return pipe.send(MessageKind.ran, call, runFrame(program, message, pipe));
    }
    case MessageKind.unload:
      return unload(lane);
    default:
      throw new Error(`unknown message ${kind}`);
  }
}

function loadAnswer(answer: () => Answer): Answer {
  try {
    return answer();
  } catch (error) {
    if (!(error instanceof LoadFailure)) throw error;
    return { kind: MessageKind.invalid, body: bytesOf(error.message) };
  }
}

function load(lane: number, image: Uint8Array): Answer {
  const program = programOf(image);
  // Counted before the old one is let go, which may be the same.
  program.lanes++;
  unload(lane);
  lanes.set(lane, program);
  guestOf(program);
  return { kind: MessageKind.loaded, body: NOTHING };
}

function programOf(image: Uint8Array): Program {
  for (const program of programs) if (Buffer.compare(program.image, image) === 0) return program;
  const program: Program = { image: image.slice(), lanes: 0, guest: undefined };
  programs.add(program);
  return program;
}

function unload(lane: number): void {
  const program = lanes.get(lane);
  if (program === undefined) return;
  lanes.delete(lane);
  if (--program.lanes > 0) return;
  programs.delete(program);
  close(program);
}

function inspect(code: Uint8Array): Answer {
  const image = inspectionImage();
  const realm = takeRealm(image.description.limits.memoryBytes);
  const guest = new GuestIsolate(image, Buffer.from(code).toString(), realm);
  try {
    return { kind: MessageKind.described, body: bytesOf(guest.inspect()) };
  } finally {
    realm.keepCompiled();
    guest.dispose();
  }
}

function runFrame(program: Program, message: Message, pipe: ThreadPipe): Uint8Array {
  const { packets, call } = message;
  const { extents, frame, inputs: carried } = readRun(message);
  let guest: Guest;
  try {
    guest = guestOf(program);
  } catch (error) {
    if (!(error instanceof LoadFailure)) throw error;
    return refusedOutcome(packets, FaultCode.badProgram, error.message);
  }
  if (guest.encoding !== undefined && inputBytes(extents) > constants.MAX_STRING_LENGTH) {
    return refusedOutcome(packets, FaultCode.memoryLimit, "its input is too long for text");
  }
  const staged = inputs.stage(extents, frame, guest, carried);
  questions.begin(pipe, call, guest.exchange.asked);
  const outcome = guest.run(staged);
  questions.end();
  if (guest.broken) close(program);
  collectGarbage(staged.text?.length ?? 0);
  return outcome;
}

function inputBytes(extents: Float64Array): number {
  let total = 0;
  for (let index = 1; index < extents.length; index += EXTENT_NUMBERS) total += extents[index]! + 1;
  return total;
}

/** Long texts are memory outside of V8's heap, which it is slow to notice. They die young, so little is looked at. */
function collectGarbage(units: number): void {
  garbage += units;
  if (garbage < GARBAGE_UNITS) return;
  garbage = 0;
  globalThis.gc?.({ type: "minor" });
}

function guestOf(program: Program): Guest {
  // The newest from now on.
  opened.delete(program);
  if (program.guest === undefined) {
    const { image, code } = decodeImage(program.image);
    program.guest = openGuest(image, code, takeRealm);
  }
  opened.add(program);
  for (const oldest of opened) {
    if (opened.size <= THREAD_ISOLATES_MAX) break;
    close(oldest);
  }
  return program.guest;
}

/** Its guest is opened again when it is needed. */
function close(program: Program): void {
  opened.delete(program);
  program.guest?.dispose();
  program.guest = undefined;
}

/** The one that was opened ahead, if it has that memory. If not, none of this process's program will: it is let go. */
function takeRealm(memoryBytes: number): GuestRealm {
  const opened = ahead;
  ahead = undefined;
  if (opened?.fits(memoryBytes) === true) return opened;
  opened?.dispose();
  return openRealm(memoryBytes);
}

function openRealm(memoryBytes: number): GuestRealm {
  return new GuestRealm(memoryBytes, { ask: questions.ask });
}

function openAhead(): void {
  ahead ??= openRealm(PROGRAM_LIMITS_DEFAULT.memoryBytes);
}

function bytesOf(text: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.from(text));
}

/** What the system calls this thread, 0 where it does not say. */
function threadNumber(): number {
  try {
    return Number(/[0-9]+$/.exec(readlinkSync("/proc/thread-self"))?.[0] ?? 0);
  } catch {
    return 0;
  }
}

/** Does what the first program would have to wait for. */
function warmUp(): void {
  rehearse("map", "a\n").dispose();
  openAhead();
}

/** Once for all executors to come: each of these finds compiled what the one before it has called. */
function compile(): void {
  const rehearsed: readonly (readonly [Entry, string])[] = [
    ["map", "a\nb\na\n"],
    ["merge", GROUPS],
    ["finish", GROUPS],
  ];
  for (const [entry, input] of rehearsed) rehearse(entry, input).dispose();
  compiledCode().write(PRELUDE_VARIANT, compiledPrelude());
  compiledCode().keep();
}

/** Runs a program of our own. Returns the guest that ran it. */
function rehearse(entry: Entry, input: string): Guest {
  const { description, ...inspected } = inspectionImage();
  const rehearsed = { ...description, yields: "groups", hasCombine: true } as const;
  const encoding = inputEncoding(entry, rehearsed)!;
  const realm = openRealm(rehearsed.limits.memoryBytes);
  const guest = GuestIsolate.open(
    { ...inspected, entry, description: rehearsed, encoding },
    REHEARSED,
    realm,
  );
  const bytes = bytesOf(input);
  const extents = new Float64Array(EXTENT_NUMBERS);
  extents[1] = bytes.byteLength;
  guest.run(inputs.stage(extents, new Uint8Array(PACKET_BYTES), guest, bytes));
  realm.keepCompiled(true);
  return guest;
}

export default function handle(task: ThreadTask): number | Promise<number> {
  if (task.kind === "serve") return serve(task.descriptor);
  const prelude = compiledCode().read(PRELUDE_VARIANT);
  if (prelude !== undefined) believeCompiled(prelude);
  if (task.kind === "compile") compile();
  else if (task.isSpare) warmUp();
  return threadNumber();
}
