/**
 * What a stream says of itself, and its bytes: DATA, FILL, COPY and CALL become bytes. While a batch of chunks is being yielded, the next ones are
 * being read; a range costs the packets and chunks that it touches.
 */
import { createHash } from "node:crypto";
import { refToHex, sameBytes } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { CALL_DEPTH_MAX } from "../../packets/limits.ts";
import { checkPlan } from "../../packets/plan.ts";
import { StreamError, StreamErrorCode } from "../errors.ts";
import { READ_AHEAD_BATCHES, READ_AHEAD_BYTES } from "../limits.ts";
import { turnOver } from "../turns.ts";
import type { Evaluator } from "../contracts/evaluator.ts";
import type { ChunkSource } from "../contracts/chunks.ts";
import { Cursor } from "./cursor.ts";
import { PieceBatch } from "./piece-batch.ts";
import { StreamCache, readStream } from "./caches.ts";

/** Whoever reads ahead is told so when nobody wants more: an error for each range that was read would cost more than many of them. */
export const STOPPED: Error = new Error("no more of the stream is wanted");

export { HeldFile, HeldFiles, heldBefore } from "./held-file.ts";

export interface ExecuteOptions {
  /** Bytes `start` to `end`, the end not included; the whole, if left out. */
  readonly start?: number | undefined;
  readonly end?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Refuses what yields more, before it yields a byte. */
  readonly outputBytesMax?: number | undefined;
  /** CALL within CALL. */
  readonly depthMax?: number | undefined;
  /** Computes what derived streams yield, here and below; without one they are refused. */
  readonly evaluator?: Evaluator | undefined;
  /** Bytes that are read at once. Those of READ_AHEAD_BATCHES and one more are in memory. */
  readonly readAheadBytes?: number | undefined;
}

/** A batch and its chunks. */
interface ReadBatch {
  readonly batch: PieceBatch;
  readonly chunks: readonly Uint8Array[];
}

/**
 * Yields the stream's bytes in order, verified. Buffers may be views of larger ones and of each other's memory: they are
 * for reading. Throws PFS_RANGE_INVALID, PFS_STREAM_INVALID, PFS_STREAM_NOT_PLAIN, PFS_STREAM_OVER_LIMIT,
 * PFS_DIGEST_WRONG (when the stream has a digest and all of it was read), or what the source rejects with.
 */
export async function* execute(
  source: ChunkSource,
  root: Ref,
  options: ExecuteOptions = {},
): AsyncGenerator<Uint8Array, void, undefined> {
  const stop = new AbortController();
  const signal = options.signal === undefined ? stop.signal : AbortSignal.any([options.signal, stop.signal]);
  signal.throwIfAborted();
  const { cursor, digest } = await begin(source, root, options, signal);
  const hash = digest === undefined ? undefined : createHash("sha256");
  let planned: Promise<unknown> = Promise.resolve();
  const read = (): Promise<ReadBatch | undefined> => {
    // What a batch is made of is found out one after the other; their chunks are read at the same time.
    const plan = planned.then(async () => {
      if (cursor.isDone) return undefined;
      const batch = new PieceBatch(options.readAheadBytes ?? READ_AHEAD_BYTES);
      await cursor.fill(batch, signal);
      return batch;
    });
    planned = plan;
    const done = plan.then(async (batch) => {
      if (batch === undefined) return undefined;
      return { batch, chunks: batch.refs.length === 0 ? [] : await source.read(batch.refs, signal) };
    });
    // Its failure is met when its turn comes, after what is good was yielded.
    done.catch(() => {});
    return done;
  };
  const ahead = Array.from({ length: READ_AHEAD_BATCHES }, read);
  try {
    for (;;) {
      const next = await ahead.shift();
      if (next === undefined) break;
      ahead.push(read());
      for (const bytes of next.batch.output(next.chunks)) {
        const over = turnOver();
        if (over !== undefined) await over;
        signal.throwIfAborted();
        hash?.update(bytes);
        yield bytes;
      }
    }
    if (hash !== undefined && !sameBytes(hash.digest(), digest!)) throw wrongDigest(root);
  } finally {
    stop.abort(STOPPED);
  }
}

/** What is to be read of a stream, and the digest that all of it has to have. Rejects as `execute` does. */
export async function begin(
  source: ChunkSource,
  root: Ref,
  options: ExecuteOptions,
  signal: AbortSignal,
): Promise<{ readonly cursor: Cursor; readonly digest: Ref | undefined }> {
  const streams = new StreamCache(source, signal, options.evaluator);
  const top = await streams.get(root);
  const limits = {
    outputBytesMax: options.outputBytesMax ?? Number.MAX_SAFE_INTEGER,
    depthMax: options.depthMax ?? CALL_DEPTH_MAX,
  };
  checkPlan(top, limits, 0);
  const { start = 0, end = top.length } = options;
  checkRange(start, end, top.length);
  checkPlan(top, limits, end - start);
  const digest = start === 0 && end === top.length ? top.digest : undefined;
  return { cursor: new Cursor(streams, limits, top, start, end - start), digest };
}

function checkRange(start: number, end: number, length: number): void {
  if (
    Number.isSafeInteger(start) &&
    Number.isSafeInteger(end) &&
    0 <= start &&
    start <= end &&
    end <= length
  ) {
    return;
  }
  throw new StreamError(
    StreamErrorCode.invalidRange,
    `the bytes ${start} to ${end} are no range of ${length} bytes`,
    { start, end, length },
  );
}

function wrongDigest(root: Ref): StreamError {
  const ref = refToHex(root);
  return new StreamError(StreamErrorCode.wrongDigest, `stream ${ref} does not yield what its digest says`, {
    ref,
  });
}

export interface StreamDescription {
  /** Bytes that it yields; left out where that is not known before it is computed. */
  readonly length?: number;
  /** Packets of the top stream, its HALT included. */
  readonly packets: number;
  /** Whether reading it takes no computing. */
  readonly isPlain: boolean;
  /** Whether what it yields is a directory: a manifest, and the files' bytes behind it. */
  readonly isTree: boolean;
  /** SHA-256 of the whole output, where the stream says it. */
  readonly digest?: Ref;
}

/** What the top stream says of itself. Rejects as reading and parsing it does. */
export async function describeStream(
  source: ChunkSource,
  root: Ref,
  signal?: AbortSignal,
): Promise<StreamDescription> {
  const { length, count, isPlain, isTree, digest } = await readStream(source, root, signal);
  const description = { packets: count + 1, isPlain, isTree, ...(isPlain ? { length } : {}) };
  return digest === undefined ? description : { ...description, digest: Uint8Array.from(digest) };
}
