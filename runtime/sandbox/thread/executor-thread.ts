/** A thread of the executor process: the handler that Piscina calls, one frame a task. */
import { constants } from "node:buffer";
import { move } from "piscina";
import { FaultCode } from "../../../packets/faults.ts";
import { PACKET_BYTES } from "../../../packets/layout.ts";
import { PROGRAM_LIMITS_MAX, THREAD_ISOLATES_MAX } from "../../limits.ts";
import {
  SHARED_MEMORY_DESCRIPTOR,
  EXTENT_NUMBERS,
  emptyOutcome,
  faultOutcome,
  decodeImage,
} from "../process/protocol.ts";
import { GuestIsolate, inspectionImage, LoadFailure } from "./guest-isolate.ts";
import { InputReader } from "./frame-input.ts";
import type { ProgramImage } from "../process/protocol.ts";

/** A program as all threads share it. */
export interface SharedProgram {
  readonly id: number;
  /** program-image.ts. */
  readonly image: SharedArrayBuffer;
  /** One 32-bit number: 0 once no lane runs it any more. */
  readonly wanted: SharedArrayBuffer;
}

export type ThreadTask =
  | { readonly kind: "inspect"; readonly code: Uint8Array; readonly loadTimeMs: number }
  | { readonly kind: "prepare"; readonly program: SharedProgram }
  | { readonly kind: "run"; readonly program: SharedProgram; readonly body: Uint8Array<ArrayBuffer> }
  /** Frees what is no longer wanted. Also the first task of a new thread, which tells that it is there. */
  | { readonly kind: "sweep" };

export type ThreadAnswer =
  | { readonly kind: "described"; readonly json: string }
  | { readonly kind: "prepared"; readonly milliseconds: number }
  | { readonly kind: "invalid"; readonly reason: string }
  | { readonly kind: "swept" };

interface Loaded {
  readonly wanted: Int32Array;
  readonly image: ProgramImage;
  /** Undefined for a scan, which runs no program. */
  guest: GuestIsolate | undefined;
}

/** By id, the one used least recently first. */
const programs = new Map<number, Loaded>();
const inputs = new InputReader(SHARED_MEMORY_DESCRIPTOR);
const GARBAGE_UNITS = 16 * 1024 * 1024;
let garbage = 0;

export default function runTask(task: ThreadTask): unknown {
  sweep();
  switch (task.kind) {
    case "inspect":
      return inspect(task.code, task.loadTimeMs);
    case "prepare":
      return prepare(task.program);
    case "run":
      return move(runFrame(task.program, task.body).buffer);
    case "sweep":
      return { kind: "swept" } satisfies ThreadAnswer;
  }
}

function inspect(code: Uint8Array, loadTimeMs: number): ThreadAnswer {
  let guest: GuestIsolate | undefined;
  try {
    guest = new GuestIsolate(inspectionImage(loadTimeMs), Buffer.from(code).toString());
    return { kind: "described", json: guest.inspect() };
  } catch (error) {
    return invalid(error);
  } finally {
    guest?.dispose();
  }
}

function prepare(program: SharedProgram): ThreadAnswer {
  const begun = performance.now();
  try {
    loaded(program);
    return { kind: "prepared", milliseconds: performance.now() - begun };
  } catch (error) {
    return invalid(error);
  }
}

function invalid(error: unknown): ThreadAnswer {
  if (error instanceof LoadFailure) return { kind: "invalid", reason: error.message };
  throw error;
}

/** `body` is what protocol.ts says of a run. */
function runFrame(program: SharedProgram, body: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const packets = body.byteLength / (EXTENT_NUMBERS * 8 + PACKET_BYTES);
  const extents = new Float64Array(body.buffer, body.byteOffset, packets * EXTENT_NUMBERS);
  const frame = body.subarray(extents.byteLength);
  let ready: Loaded;
  try {
    ready = loaded(program);
  } catch (error) {
    if (!(error instanceof LoadFailure)) throw error;
    return packets === 1 ? faultOutcome(FaultCode.badProgram, error.message) : emptyOutcome();
  }
  const { image, guest } = ready;
  if (image.encoding !== undefined && inputBytes(extents) > constants.MAX_STRING_LENGTH) {
    return packets === 1
      ? faultOutcome(FaultCode.memoryLimit, "its input is too long for text")
      : emptyOutcome();
  }
  const staged = inputs.stage(extents, frame, image.encoding);
  if (guest === undefined) return scan(staged.bytes, extents);
  const outcome = guest.run(staged);
  if (guest.broken) forget(program.id, ready);
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

function loaded(program: SharedProgram): Loaded {
  const known = programs.get(program.id);
  if (known !== undefined) {
    programs.delete(program.id);
    programs.set(program.id, known);
    return known;
  }
  const { image, code } = decodeImage(new Uint8Array(program.image));
  const guest = image.entry === "scan" ? undefined : new GuestIsolate(image, code);
  const entry = { wanted: new Int32Array(program.wanted), image, guest };
  try {
    guest?.load();
  } catch (error) {
    guest?.dispose();
    throw error;
  }
  programs.set(program.id, entry);
  for (const [id, oldest] of programs) {
    if (programs.size <= THREAD_ISOLATES_MAX) break;
    forget(id, oldest);
  }
  return entry;
}

function sweep(): void {
  for (const [id, program] of programs) if (Atomics.load(program.wanted, 0) === 0) forget(id, program);
}

function forget(id: number, program: Loaded): void {
  programs.delete(id);
  program.guest?.dispose();
}

/** How many quotes each packet's bytes hold, as an outcome (outcome.ts). */
function scan(bytes: ArrayBuffer | undefined, extents: Float64Array): Uint8Array<ArrayBuffer> {
  const QUOTE = 0x22;
  const input = bytes === undefined ? Buffer.alloc(0) : Buffer.from(bytes);
  const counts: string[] = [];
  let at = 0;
  for (let index = 0; index < extents.length; index += EXTENT_NUMBERS) {
    const end = at + extents[index + 1]!;
    let count = 0;
    for (; at < end; at++) if (input[at] === QUOTE) count++;
    counts.push(String(count));
  }
  const text = Buffer.from(counts.join(""));
  const outcome = Buffer.alloc(8 + counts.length * 5 + text.byteLength);
  outcome.writeUInt32LE(counts.length, 0);
  counts.forEach((count, index) => outcome.writeUInt32LE(count.length, 8 + index * 4));
  text.copy(outcome, 8 + counts.length * 5);
  return new Uint8Array(outcome);
}

/** Loads what the first program would have to wait for. */
function warmUp(): void {
  const code = "export default { input: { kind: 'lines' }, map() {} }";
  const guest = new GuestIsolate(inspectionImage(PROGRAM_LIMITS_MAX.timeMs), code);
  guest.load();
  guest.dispose();
}
warmUp();
