/**
 * What tasks on groups take in. A partial result stands in buckets of its keys' hashes, one packet of its stream for each, so
 * what a partition needs of it is a row of packets: no bytes move until the task reads them, and then only its own. The runs
 * that a finish leaves are sorted and say where which key stands, so a part of the order takes a piece out of each.
 *
 * Between those bytes stand lines of ours, which say what to do with what follows (program/program.ts).
 */
import { refKey } from "../../packets/digest.ts";
import { Flag, Op } from "../../packets/layout.ts";
import { flagsAt, fromAt, lengthAt, opAt, refOf } from "../../packets/packet.ts";
import { Stream } from "../../packets/stream-reader.ts";
import type { StreamSummary, StreamWriter } from "../../packets/stream-writer.ts";
import { JobError, JobErrorCode } from "../errors.ts";
import { BUCKETS_MAX, RUN_INDEX_BYTES_MAX } from "../limits.ts";
import type { ChunkSink, ChunkSource } from "../contracts/chunks.ts";
import { RUN_TRAILER_BYTES } from "../program/program.ts";
import type { Directive } from "../program/program.ts";
import { execute } from "../stream/execute.ts";
import { appendResult, writeStream } from "../stream/ingest.ts";
import { inTurns } from "../turns.ts";
import type { MergeTree, TaskInputs } from "./merge-tree.ts";

/** A result that a task needs cannot be read now. */
export class UnreadableResult extends Error {
  /** The task of the level below whose result it is. */
  readonly task: number;

  constructor(task: number, cause: unknown) {
    super("a result cannot be read", { cause });
    this.task = task;
  }
}

export interface ShuffleOptions {
  readonly tree: MergeTree;
  /** Reads what lanes made. */
  readonly source: ChunkSource;
  readonly sink: ChunkSink;
  /** How the last result shall stand, unless as lines of JSON. */
  readonly format: "csv" | undefined;
}

/** Where a run has the first key of each of its blocks. */
interface Block {
  readonly key: string;
  readonly start: number;
  readonly end: number;
}

interface Order {
  /** By task of the finish. */
  readonly runs: readonly (readonly Block[])[];
  /** The first key of each part but the first one. */
  readonly bounds: readonly string[];
}

export class Shuffle {
  readonly #options: ShuffleOptions;
  /** Streams of the results of one level, by ref. */
  readonly #streams = new Map<string, Stream>();
  #streamsOf = -1;
  #order: Promise<Order> | undefined;

  constructor(options: ShuffleOptions) {
    this.#options = options;
  }

  /**
   * Writes what the task takes in as one stream; `results` are the RETURN packets of the level below. Rejects with
   * UnreadableResult, with the signal's reason, and with what the sink rejects with.
   */
  async write(level: number, task: number, results: Uint8Array, signal: AbortSignal): Promise<StreamSummary> {
    const { tree } = this.#options;
    const inputs = tree.inputsOf(level, task);
    if (tree.entryOf(level) === "order") return await this.#writeOrder(inputs, results, signal);
    const head = tree.entryOf(level) === "finish" ? this.#headOf(tree.isLast(level)) : "";
    if (inputs.partitions === 1) {
      return await this.#writeStream(head, inputs.tasks, (writer, index) =>
        appendResult(writer, results, inputs.tasks[index]!),
      );
    }
    if (this.#streamsOf !== level) this.#streams.clear();
    this.#streamsOf = level;
    const streams: (Stream | undefined)[] = [];
    for (const input of inputs.tasks) streams.push(await this.#bucketsOf(results, input, signal));
    let said: Directive | "" = "whole";
    return await this.#writeStream(head, inputs.tasks, (writer, index) => {
      const { partition, partitions } = inputs;
      const stream = streams[index];
      const buckets = stream?.count ?? 1;
      const rule: Directive = buckets >= partitions ? "whole" : `partition ${partition} ${partitions}`;
      if (rule !== said) say(writer, rule);
      said = rule;
      if (stream === undefined) return appendResult(writer, results, inputs.tasks[index]!);
      const first = Math.floor((partition * buckets) / partitions);
      const behind = Math.max(first + 1, Math.floor(((partition + 1) * buckets) / partitions));
      for (let bucket = first; bucket < behind; bucket++) appendPacket(writer, stream.frame, bucket);
    });
  }

  #headOf(isLast: boolean): Directive | "" {
    if (!isLast) return "run";
    return this.#options.format ?? "";
  }

  /** One stream: the head, which is said where there are no results too, then what `append` adds for each of them. */
  #writeStream(
    head: Directive | "",
    { length }: readonly number[],
    append: (writer: StreamWriter, index: number) => void,
  ): Promise<StreamSummary> {
    return writeStream(this.#options.sink, 1 + length, (writer, part) =>
      part === 0 ? say(writer, head) : append(writer, part - 1),
    );
  }

  /** The stream whose packets are the result's buckets; undefined where it has but one. */
  async #bucketsOf(results: Uint8Array, task: number, signal: AbortSignal): Promise<Stream | undefined> {
    if ((flagsAt(results, task) & Flag.STREAM) === 0) return undefined;
    const ref = refOf(results, task).slice();
    const key = refKey(ref);
    const known = this.#streams.get(key);
    if (known !== undefined) return known;
    try {
      const [bytes] = await this.#options.source.read([ref], signal);
      const stream = Stream.parse(bytes!);
      if (
        stream.length !== lengthAt(results, task) ||
        !isPowerOfTwo(stream.count) ||
        stream.count > BUCKETS_MAX
      )
        throw notBuckets();
      this.#streams.set(key, stream);
      return stream;
    } catch (error) {
      signal.throwIfAborted();
      throw new UnreadableResult(task, error);
    }
  }

  async #writeOrder(inputs: TaskInputs, results: Uint8Array, signal: AbortSignal): Promise<StreamSummary> {
    this.#order ??= this.#readOrder(inputs, results, signal);
    let order: Order;
    try {
      order = await this.#order;
    } catch (error) {
      this.#order = undefined;
      throw error;
    }
    const { runs, bounds } = order;
    const { partition: part, partitions: parts } = inputs;
    const from = part === 0 ? null : bounds[part - 1]!;
    const to = part === parts - 1 ? null : bounds[part]!;
    return await this.#writeStream(this.#options.format ?? "", inputs.tasks, (writer, index) => {
      if (index === 0) writer.data(TEXT.encode(`${JSON.stringify({ from, to })}\n`));
      const blocks = runs[index]!;
      const first = from === null ? 0 : Math.max(0, blockBehind(blocks, from, true) - 1);
      const behind = to === null ? blocks.length : blockBehind(blocks, to, false);
      if (behind <= first) return;
      say(writer, "run");
      const start = blocks[first]!.start;
      appendPiece(writer, results, inputs.tasks[index]!, start, blocks[behind - 1]!.end - start);
    });
  }

  async #readOrder(inputs: TaskInputs, results: Uint8Array, signal: AbortSignal): Promise<Order> {
    const runs: (readonly Block[])[] = [];
    for (const task of inputs.tasks) {
      try {
        runs.push(await this.#readIndex(results, task, signal));
      } catch (error) {
        signal.throwIfAborted();
        throw new UnreadableResult(task, error);
      }
    }
    return { runs, bounds: await inTurns(boundsOf(runs, inputs.partitions)) };
  }

  /** Of a run: [first key, byte] of each block, as JSON, and how long that is, in the last bytes. */
  async #readIndex(results: Uint8Array, task: number, signal: AbortSignal): Promise<readonly Block[]> {
    const length = lengthAt(results, task);
    const trailer = await this.#readPiece(results, task, length - RUN_TRAILER_BYTES, length, signal);
    const bytes = Number(trailer);
    const end = length - RUN_TRAILER_BYTES - bytes;
    if (!Number.isInteger(bytes) || bytes > RUN_INDEX_BYTES_MAX || end < 0) throw notRun();
    const text = await this.#readPiece(results, task, end, end + bytes, signal);
    return blocksOf(JSON.parse(text), end);
  }

  async #readPiece(
    results: Uint8Array,
    task: number,
    start: number,
    end: number,
    signal: AbortSignal,
  ): Promise<string> {
    if (start < 0) throw notRun();
    const { source } = this.#options;
    const ref = refOf(results, task).slice();
    const decoder = new TextDecoder();
    if ((flagsAt(results, task) & Flag.STREAM) === 0) {
      const [chunk] = await source.read([ref], signal);
      return decoder.decode(chunk!.subarray(start, end));
    }
    let text = "";
    for await (const piece of execute(source, ref, { start, end, signal }))
      text += decoder.decode(piece, { stream: true });
    return text + decoder.decode();
  }
}

const TEXT = new TextEncoder();

function say(writer: StreamWriter, directive: Directive | ""): void {
  if (directive !== "") writer.data(TEXT.encode(`${directive}\n`));
}

function appendPacket(writer: StreamWriter, frame: Uint8Array, index: number): void {
  const ref = refOf(frame, index);
  if (opAt(frame, index) === Op.CALL) writer.call(ref, fromAt(frame, index), lengthAt(frame, index));
  else if (opAt(frame, index) === Op.COPY) writer.copy(ref, fromAt(frame, index), lengthAt(frame, index));
  else throw notBuckets();
}

function appendPiece(
  writer: StreamWriter,
  results: Uint8Array,
  index: number,
  from: number,
  length: number,
): void {
  const ref = refOf(results, index);
  if (flagsAt(results, index) & Flag.STREAM) writer.call(ref, from, length);
  else writer.copy(ref, from, length);
}

/** The first block whose first key is behind `key`, or is it where not `beyond`. */
function blockBehind(blocks: readonly Block[], key: string, beyond: boolean): number {
  let low = 0;
  let high = blocks.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const first = blocks[middle]!.key;
    if (first < key || (beyond && first === key)) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Keys between which the parts have about as many bytes each. A part between two equal ones has none. */
function* boundsOf(runs: readonly (readonly Block[])[], parts: number): Generator<void, string[], undefined> {
  const blocks = runs.flat();
  yield;
  blocks.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
  yield;
  let total = 0;
  for (const { start, end } of blocks) total += end - start;
  const bounds: string[] = [];
  let bytes = 0;
  for (const { key, start, end } of blocks) {
    while (bounds.length + 1 < parts && bytes >= ((bounds.length + 1) * total) / parts) bounds.push(key);
    bytes += end - start;
  }
  const last = blocks.at(-1)?.key ?? "";
  while (bounds.length + 1 < parts) bounds.push(last);
  return bounds;
}

function blocksOf(index: unknown, end: number): readonly Block[] {
  if (!Array.isArray(index)) throw notRun();
  const starts: { readonly key: string; readonly start: number }[] = [];
  for (const pair of index as unknown[]) {
    if (!Array.isArray(pair)) throw notRun();
    const [key, start] = pair as readonly unknown[];
    const before = starts.at(-1);
    const isNext = before === undefined ? start === 0 : typeof start === "number" && start > before.start;
    if (typeof key !== "string" || typeof start !== "number" || !isNext || start >= end) throw notRun();
    starts.push({ key, start });
  }
  return starts.map(({ key, start }, at) => ({ key, start, end: starts[at + 1]?.start ?? end }));
}

function isPowerOfTwo(count: number): boolean {
  return count > 0 && (count & (count - 1)) === 0;
}

function notBuckets(): JobError {
  return new JobError(JobErrorCode.invalidRecord, "the result is not in buckets", {});
}

function notRun(): JobError {
  return new JobError(JobErrorCode.invalidRecord, "the result is not a sorted run with its index", {});
}
