/** What RETURN and FAULT packets stand for, read wherever it is. */
import { createHash } from "node:crypto";
import { faultErrorCode } from "../../packets/faults.ts";
import { Flag, INLINE_BYTES_MAX, PACKET_BYTES } from "../../packets/layout.ts";
import { CHUNK_BYTES_MAX } from "../../packets/limits.ts";
import { invalidName } from "../../packets/name.ts";
import { flagsAt, fromAt, lengthAt, refOf } from "../../packets/packet.ts";
import type { Ref } from "../../packets/digest.ts";
import type { StreamSummary } from "../../packets/stream-writer.ts";
import { JobError, JobErrorCode } from "../errors.ts";
import { formatBytes, splitStack } from "../format.ts";
import {
  FAULT_MESSAGE_BYTES_MAX,
  PROGRAM_LIMITS_MAX,
  RESULT_BYTES_MAX,
  RESULT_SAMPLES,
  TURN_STEP_PACKETS,
} from "../limits.ts";
import type { ChunkSink, ChunkSource } from "../contracts/chunks.ts";
import type { JobInput, JobOutcome } from "../contracts/jobs.ts";
import { lineCounter } from "../program/readers.ts";
import type { ReaderSpec } from "../program/readers.ts";
import { inTurns } from "../turns.ts";
import { execute } from "../stream/execute.ts";
import { writeKeptStream } from "../stream/ingest.ts";
import type { Batch } from "./batch.ts";
import type { Dispatcher } from "./dispatcher.ts";
import { valueCodec } from "../program/values.ts";

/**
 * The bytes of a result, in pieces. Rejects with what the source rejects with, and with PFS_INTERNAL {bytes} for more than any
 * program may yield.
 */
export async function* resultPieces(
  source: ChunkSource,
  answer: Uint8Array,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void, undefined> {
  const flags = flagsAt(answer, 0);
  const length = lengthAt(answer, 0);
  // Whoever answers may say anything, and all of it would be stored.
  if (length > PROGRAM_LIMITS_MAX.outputBytes) {
    throw new JobError(JobErrorCode.internal, "a result is longer than any program may yield", {
      bytes: length,
    });
  }
  const ref = refOf(answer, 0);
  if (flags & Flag.INLINE) yield ref.subarray(0, length);
  else if (flags & Flag.STREAM) {
    yield* execute(source, ref, { end: length, outputBytesMax: length, signal });
  } else {
    const [chunk] = await source.read([ref], signal);
    yield chunk!.subarray(0, length);
  }
}

/** Reads the last byte of a result, with the chunk that has it. */
async function readEnd(source: ChunkSource, answer: Uint8Array, signal: AbortSignal): Promise<void> {
  const length = lengthAt(answer, 0);
  const ref = refOf(answer, 0);
  if ((flagsAt(answer, 0) & Flag.STREAM) === 0) await source.read([ref], signal);
  else if (length > 0) {
    const range = { start: length - 1, end: length, signal };
    for await (const piece of execute(source, ref, range)) void piece;
  }
}

/** All of a result that may be had at once. */
export async function resultBytes(
  source: ChunkSource,
  answer: Uint8Array,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const bytes = new Uint8Array(lengthAt(answer, 0));
  let at = 0;
  for await (const piece of resultPieces(source, answer, signal)) {
    bytes.set(piece, at);
    at += piece.byteLength;
  }
  return bytes;
}

/**
 * The text of the value that a result is, for `withValue`: whoever asked for it decodes it, and nobody before. Rejects with
 * PFS_JOB_OVER_LIMIT {bytes, max} when it is too long to be one.
 */
export async function resultText(
  source: ChunkSource,
  answer: Uint8Array,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const bytes = lengthAt(answer, 0);
  if (bytes <= RESULT_BYTES_MAX) return await resultBytes(source, answer, signal);
  throw new JobError(
    JobErrorCode.overLimit,
    `the result has ${formatBytes(bytes)}, a value has at most ${formatBytes(RESULT_BYTES_MAX)}: store it as a file`,
    { bytes, max: RESULT_BYTES_MAX },
  );
}

/** What a job's outcome is to whoever asked for it: with its value, instead of its text. Throws PFS_INTERNAL when that is none. */
export function withValue({ value: text, ...outcome }: JobOutcome<Uint8Array>): JobOutcome {
  const isGroups = outcome.yields === "groups";
  if (text === undefined || (text.byteLength === 0 && !isGroups)) return outcome;
  try {
    const decoded = new TextDecoder().decode(text);
    return { ...outcome, value: isGroups ? decodeGroups(decoded) : valueCodec.decode(decoded) };
  } catch (cause) {
    const bytes = text.byteLength;
    throw new JobError(JobErrorCode.internal, "the result is not the text of a value", { bytes }, { cause });
  }
}

/** What lines [key,value] stand for. Throws SyntaxError or TypeError when they are none. */
export function decodeGroups(lines: string): [key: string, value: unknown][] {
  return valueCodec.decode(`[${lines.trimEnd().replaceAll("\n", ",")}]`, true) as [string, unknown][];
}

/** Where a fault happened, for people. */
export interface FaultPlace {
  readonly job: string;
  readonly task: number;
  readonly node: string;
  readonly program: string;
  /** The packet in words: `bytes 0 to 100 of "a.csv"`. */
  readonly packet: string;
  /** What the packet reads, unless that is other packets' results. */
  readonly input?: { readonly file: JobInput; readonly reader: ReaderSpec };
}

/**
 * The error for a FAULT packet, with the fault's own text if it can still be read, and the record that it is about: data
 * has `file`, `at` (its byte) and, for readers of lines, `line`, as far as they are known. Never rejects.
 */
export async function faultError(
  source: ChunkSource,
  answer: Uint8Array,
  { packet, input, ...place }: FaultPlace,
  signal: AbortSignal,
): Promise<JobError> {
  const code = faultErrorCode(fromAt(answer, 0)) as JobErrorCode;
  const text = await faultText(source, answer, signal).catch(() => "");
  const what = text === "" ? `program "${place.program}" failed on packet ${place.task}` : text;
  // What it was and where stand in one sentence; the program's own stack comes behind it.
  const { sentence, stack } = splitStack(what);
  const at = input === undefined ? undefined : recordPlace(sentence, place.program);
  if (input === undefined || at === undefined) {
    const message = [`${sentence} (${packet}, on node "${place.node}")`, ...stack].join("\n");
    return new JobError(code, message, { ...place });
  }
  const { file, reader } = input;
  const line = await lineAt(source, file.root, at, reader, signal).catch(() => undefined);
  const record = `${line === undefined ? "" : `line ${line}, `}byte ${at} of "${file.name}"`;
  const told = sentence.replace(` at byte ${at}: `, ": ");
  const message = [`${told} (${record}, on node "${place.node}")`, ...stack].join("\n");
  const data = { ...place, file: file.name, at };
  return new JobError(code, message, line === undefined ? data : { ...data, line });
}

/** The byte that executor/results.ts names in front of whatever the program itself can have said. */
function recordPlace(sentence: string, program: string): number | undefined {
  const head = `program "${program}" failed on packet `;
  if (!sentence.startsWith(head)) return undefined;
  const place = /^\d+ at byte (\d{1,15}): /.exec(sentence.slice(head.length));
  return place === null ? undefined : Number(place[1]);
}

/** The number of the line that begins at byte `at`, from 1, by reading all that stands before it. */
async function lineAt(
  source: ChunkSource,
  root: Ref,
  at: number,
  reader: ReaderSpec,
  signal: AbortSignal,
): Promise<number | undefined> {
  const counter = lineCounter(reader);
  if (counter === undefined) return undefined;
  for await (const piece of execute(source, root, { end: at, signal })) counter.push(piece);
  return counter.line;
}

async function faultText(source: ChunkSource, answer: Uint8Array, signal: AbortSignal): Promise<string> {
  const length = lengthAt(answer, 0);
  const ref = refOf(answer, 0);
  const isInline = (flagsAt(answer, 0) & Flag.INLINE) !== 0;
  if (isInline) return new TextDecoder().decode(ref.subarray(0, Math.min(length, INLINE_BYTES_MAX)));
  if (length > CHUNK_BYTES_MAX) return "";
  const [chunk] = await source.read([ref], signal);
  return new TextDecoder().decode(chunk!.subarray(0, Math.min(length, FAULT_MESSAGE_BYTES_MAX)));
}

export interface OutputFileOptions {
  readonly dispatcher: Dispatcher;
  /** Reads what lanes made. */
  readonly source: ChunkSource;
  readonly sink: ChunkSink;
  readonly batch: Batch;
  /** Of the file. */
  readonly name: string;
  readonly signal: AbortSignal;
}

/** What one lane made. */
interface Part {
  readonly maker: number;
  readonly tasks: number[];
}

/**
 * Has every lane keep what it made, and writes the file: the results of the tasks in their order, so that the same job gives
 * the same root whoever made what. Undefined when a lane was lost with what it made, or some of it cannot be read: its tasks
 * run again then, and this has to be called again after them. Rejects with the signal's reason.
 */
export async function writeOutputFile(options: OutputFileOptions): Promise<StreamSummary | undefined> {
  const { sink, batch } = options;
  const parts = await inTurns(partsOf(batch));
  const kept = await Promise.all(parts.map((part) => keep(options, part)));
  return kept.includes(false) ? undefined : await writeKeptStream(sink, batch.answers.packets);
}

/** What executors keep for output files stands under names that begin like this. */
export const PARTS_PREFIX = ".parts/";

/** What stands in for `out` in the names of parts when a job has none. Whoever started the job frees them. */
export function unnamedOut(job: string): string {
  return `job-${job}`;
}

/** The name of a part in its executor's catalog: a job with the same `out` replaces it. */
export function partName(out: string, executor: string): string {
  const name = `${PARTS_PREFIX}${out}/${executor}`;
  if (invalidName(name) === null) return name;
  const hash = (text: string): string => createHash("sha256").update(text).digest("hex");
  return `${PARTS_PREFIX}${hash(out)}/${hash(executor)}`;
}

function* partsOf(batch: Batch): Generator<void, Part[], undefined> {
  const parts = new Map<number, Part>();
  const { packets, makers } = batch.answers;
  for (let task = 0; task < batch.count; task++) {
    if (task % TURN_STEP_PACKETS === 0) yield;
    if ((flagsAt(packets, task) & Flag.INLINE) !== 0) continue;
    const maker = makers[task]!;
    const part = parts.get(maker);
    if (part === undefined) parts.set(maker, { maker, tasks: [task] });
    else part.tasks.push(task);
  }
  return [...parts.values()];
}

/** False when the lane is gone, which loses it for good. */
async function keep(
  { dispatcher, source, batch, name, signal }: OutputFileOptions,
  part: Part,
): Promise<boolean> {
  const lane = dispatcher.laneOf(part.maker);
  if (lane === undefined) return false;
  const returns = new Uint8Array(part.tasks.length * PACKET_BYTES);
  for (const [index, task] of part.tasks.entries()) {
    const start = task * PACKET_BYTES;
    returns.set(batch.answers.packets.subarray(start, start + PACKET_BYTES), index * PACKET_BYTES);
  }
  try {
    await lane.keep(partName(name, lane.executor.id), returns);
    // All of it is read by whoever reads the file; who has nothing of what it says it made is found out before.
    const step = Math.max(1, Math.floor(part.tasks.length / RESULT_SAMPLES));
    for (let index = 0; index < part.tasks.length; index += step) {
      await readEnd(source, returns.slice(index * PACKET_BYTES, (index + 1) * PACKET_BYTES), signal);
    }
    return true;
  } catch (error) {
    signal.throwIfAborted();
    dispatcher.discredit(part.maker, error);
    return false;
  }
}
