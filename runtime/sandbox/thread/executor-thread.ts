/** A thread of the executor process, in a pool of its own: what Piscina calls, one thing at a time, in the order asked. */
import { constants } from "node:buffer";
import { readlinkSync } from "node:fs";
import { move, transferableSymbol, valueSymbol } from "piscina";
import { FaultCode } from "../../../packets/faults.ts";
import { PACKET_BYTES } from "../../../packets/layout.ts";
import { PROGRAM_LIMITS_DEFAULT, THREAD_ISOLATES_MAX } from "../../limits.ts";
import { EXTENT_NUMBERS, MessageKind, SHARED_MEMORY_DESCRIPTOR, decodeImage } from "../process/protocol.ts";
import { InputReader, META_NUMBERS } from "./frame-input.ts";
import { GuestIsolate, GuestRealm, LoadFailure, inspectionImage } from "./guest-isolate.ts";
import { openGuest, refusedOutcome } from "./guest.ts";
import type { Guest } from "./guest.ts";

/** A program as all threads share it. */
export interface SharedProgram {
  readonly id: number;
  /** protocol.ts. */
  readonly image: SharedArrayBuffer;
  /** One 32-bit number: 0 once no lane runs it any more. */
  readonly wanted: SharedArrayBuffer;
}

export type ThreadTask =
  /** Answered by `ready` and what the system calls the thread. */
  | { readonly kind: "start" }
  | { readonly kind: "inspect"; readonly call: number; readonly code: Uint8Array<ArrayBuffer> }
  /** No program where its lane was freed meanwhile. */
  | { readonly kind: "prepare"; readonly call: number; readonly program: SharedProgram | undefined }
  | {
      readonly kind: "run";
      readonly call: number;
      readonly program: SharedProgram;
      readonly body: Uint8Array<ArrayBuffer>;
    }
  /** Opens what the next program will need. There is no answer. */
  | { readonly kind: "openAhead" }
  /** Frees what is no longer wanted. There is no answer. */
  | { readonly kind: "sweep" };

/** A message for the node (protocol.ts). The word of `ready` is what the system calls the thread. */
export interface ThreadAnswer {
  readonly kind: MessageKind;
  readonly call: number;
  readonly word: number;
  readonly body: Uint8Array<ArrayBuffer>;
}

interface Loaded {
  readonly wanted: Int32Array;
  readonly guest: Guest;
}

const NOTHING = new Uint8Array(0);
const GARBAGE_UNITS = 16 * 1024 * 1024;
/** By id, the one used least recently first. */
const programs = new Map<number, Loaded>();
const inputs = new InputReader(SHARED_MEMORY_DESCRIPTOR);
/** Opened before there is a program for it. */
let ahead: GuestRealm | undefined;
let garbage = 0;

function perform(task: ThreadTask): ThreadAnswer | undefined {
  sweep();
  switch (task.kind) {
    case "start":
      return { kind: MessageKind.ready, call: 0, word: threadNumber(), body: NOTHING };
    case "inspect":
      return loadAnswer(task.call, () => inspect(task.code));
    case "prepare":
      return loadAnswer(task.call, () => {
        if (task.program !== undefined) loaded(task.program);
        return { kind: MessageKind.loaded, body: NOTHING };
      });
    case "run":
      return { kind: MessageKind.ran, call: task.call, word: 0, body: runFrame(task.program, task.body) };
    case "openAhead":
      openAhead();
      return undefined;
    case "sweep":
      return undefined;
  }
}

function loadAnswer(call: number, load: () => Pick<ThreadAnswer, "kind" | "body">): ThreadAnswer {
  try {
    return { call, word: 0, ...load() };
  } catch (error) {
    if (!(error instanceof LoadFailure)) throw error;
    return { kind: MessageKind.invalid, call, word: 0, body: bytesOf(error.message) };
  }
}

function inspect(code: Uint8Array): Pick<ThreadAnswer, "kind" | "body"> {
  const image = inspectionImage();
  const realm = takeRealm(image.description.limits.memoryBytes);
  const guest = new GuestIsolate(image, Buffer.from(code).toString(), realm);
  try {
    return { kind: MessageKind.described, body: bytesOf(guest.inspect()) };
  } finally {
    guest.dispose();
  }
}

/** `body` is what protocol.ts says of a run. */
function runFrame(program: SharedProgram, body: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const packets = body.byteLength / (EXTENT_NUMBERS * 8 + PACKET_BYTES);
  const extents = new Float64Array(body.buffer, body.byteOffset, packets * EXTENT_NUMBERS);
  const frame = body.subarray(extents.byteLength);
  let guest: Guest;
  try {
    guest = loaded(program);
  } catch (error) {
    if (!(error instanceof LoadFailure)) throw error;
    return refusedOutcome(packets, FaultCode.badProgram, error.message);
  }
  if (guest.encoding !== undefined && inputBytes(extents) > constants.MAX_STRING_LENGTH) {
    return refusedOutcome(packets, FaultCode.memoryLimit, "its input is too long for text");
  }
  const staged = inputs.stage(extents, frame, guest.encoding);
  const outcome = guest.run(staged);
  if (guest.broken) forget(program.id, guest);
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

function loaded(program: SharedProgram): Guest {
  const known = programs.get(program.id);
  if (known !== undefined) {
    programs.delete(program.id);
    programs.set(program.id, known);
    return known.guest;
  }
  const { image, code } = decodeImage(new Uint8Array(program.image));
  const guest = openGuest(image, code, takeRealm);
  programs.set(program.id, { wanted: new Int32Array(program.wanted), guest });
  for (const [id, oldest] of programs) {
    if (programs.size <= THREAD_ISOLATES_MAX) break;
    forget(id, oldest.guest);
  }
  return guest;
}

/** The one that was opened ahead, if it has that memory. If not, none of this process's program will: it is let go. */
function takeRealm(memoryBytes: number): GuestRealm {
  const opened = ahead;
  ahead = undefined;
  if (opened?.fits(memoryBytes) === true) return opened;
  opened?.dispose();
  return new GuestRealm(memoryBytes);
}

function openAhead(): void {
  ahead ??= new GuestRealm(PROGRAM_LIMITS_DEFAULT.memoryBytes);
}

function sweep(): void {
  for (const [id, { wanted, guest }] of programs) if (Atomics.load(wanted, 0) === 0) forget(id, guest);
}

function forget(id: number, guest: Guest): void {
  programs.delete(id);
  guest.dispose();
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
  const code = "$exports.default = { input: { kind: 'lines' }, map: (line) => ({ line }) }";
  const image = inspectionImage();
  const realm = new GuestRealm(image.description.limits.memoryBytes);
  const guest = GuestIsolate.open(image, code, realm);
  const meta = new ArrayBuffer(META_NUMBERS * 8 + PACKET_BYTES);
  new Float64Array(meta, 0, META_NUMBERS).set([0, 2, 0, 0, 0, 2, -1]);
  guest.run({ packets: 1, meta, text: "a\n", bytes: undefined });
  realm.keepCompiled();
  guest.dispose();
  openAhead();
}

/** An answer whose body is handed over and not copied. */
class MovedAnswer {
  readonly #answer: ThreadAnswer;

  constructor(answer: ThreadAnswer) {
    this.#answer = answer;
  }

  get [transferableSymbol](): ArrayBuffer {
    return this.#answer.body.buffer;
  }

  get [valueSymbol](): ThreadAnswer {
    return this.#answer;
  }
}

warmUp();

export default function handle(task: ThreadTask): unknown {
  const answer = perform(task);
  return answer === undefined || answer.body.byteLength === 0 ? answer : move(new MovedAnswer(answer));
}
