/** Writes a stream's bytes to a file. What has them verifies and writes them where they belong, and none goes through here. */
import type { Ref } from "../../packets/digest.ts";
import type { ChunkPlacer } from "../contracts/chunks.ts";
import { READ_AHEAD_BATCHES, READ_AHEAD_BYTES, TREE_HOLE_BYTES } from "../limits.ts";
import { writeAll } from "../write-all.ts";
import { STOPPED, begin, execute } from "./execute.ts";
import type { ExecuteOptions } from "./execute.ts";
import { PieceBatch } from "./piece-batch.ts";

export interface ExecuteIntoOptions extends ExecuteOptions {
  /** Called with the bytes that are written; the same number may come more than once. */
  readonly onProgress?: ((bytes: number) => void) | undefined;
  /** The file is a new one, and reads as zeros where nothing is written: rows of them that stand in the stream are left out. Default false. */
  readonly leavesHoles?: boolean | undefined;
}

/**
 * Writes the bytes to the beginning of an open file, by its descriptor, which is not used any more when this is settled. Resolves with
 * their number. Rejects as `execute` does, and as the system does where they cannot be written: some of them are written then.
 */
export async function executeInto(
  source: ChunkPlacer,
  root: Ref,
  file: number,
  options: ExecuteIntoOptions = {},
): Promise<number> {
  const stop = new AbortController();
  const signal = options.signal === undefined ? stop.signal : AbortSignal.any([options.signal, stop.signal]);
  signal.throwIfAborted();
  const { onProgress, leavesHoles = false } = options;
  const { cursor, digest } = await begin(source, root, options, signal);
  // All of them have to be hashed in their order.
  if (digest !== undefined) return await writeInOrder(source, root, file, options);
  const writing: Promise<void>[] = [];
  let planned = 0;
  let written = 0;
  const write = async (batch: PieceBatch, start: number): Promise<void> => {
    await writeBatch(source, batch, file, start, signal, leavesHoles);
    written += batch.length;
    onProgress?.(written);
  };
  try {
    while (!cursor.isDone) {
      const batch = new PieceBatch(options.readAheadBytes ?? READ_AHEAD_BYTES);
      await cursor.fill(batch, signal);
      const batchWritten = write(batch, planned);
      // Its failure is met when its turn comes.
      batchWritten.catch(() => {});
      writing.push(batchWritten);
      planned += batch.length;
      if (writing.length > READ_AHEAD_BATCHES) await writing.shift();
    }
    while (writing.length > 0) await writing.shift();
    return written;
  } finally {
    stop.abort(STOPPED);
    await Promise.allSettled(writing);
  }
}

async function writeBatch(
  source: ChunkPlacer,
  batch: PieceBatch,
  file: number,
  start: number,
  signal: AbortSignal,
  leavesHoles: boolean,
): Promise<void> {
  const { refs } = batch;
  if (refs.length > 0 && (await source.place(refs, batch.placed(start), file, signal))) {
    for (const { bytes, at } of batch.literals(start)) {
      signal.throwIfAborted();
      if (!leavesHoles || !isZero(bytes)) await writeAll(file, [bytes], at);
    }
    return;
  }
  const chunks = refs.length === 0 ? [] : await source.read(refs, signal);
  await writeTogether(file, batch.output(chunks), start, signal, leavesHoles);
}

const ZEROS: Buffer = Buffer.alloc(TREE_HOLE_BYTES);

/** Whether it is a row of zeros that makes a hole. */
function isZero(bytes: Uint8Array): boolean {
  if (bytes[0] !== 0 || bytes.byteLength < TREE_HOLE_BYTES) return false;
  for (let at = 0; at < bytes.byteLength; at += ZEROS.byteLength) {
    const end = Math.min(bytes.byteLength, at + ZEROS.byteLength);
    if (ZEROS.compare(bytes, at, end, 0, end - at) !== 0) return false;
  }
  return true;
}

/** Many at a time, and never all of them: a FILL may yield more than memory holds. */
async function writeTogether(
  file: number,
  pieces: Iterable<Uint8Array>,
  start: number,
  signal: AbortSignal,
  leavesHoles: boolean,
): Promise<void> {
  let at = start;
  let together: Uint8Array[] = [];
  let bytes = 0;
  const flush = async (): Promise<void> => {
    signal.throwIfAborted();
    await writeAll(file, together, at);
    at += bytes;
    together = [];
    bytes = 0;
  };
  for (const piece of pieces) {
    if (leavesHoles && isZero(piece)) {
      await flush();
      at += piece.byteLength;
      continue;
    }
    together.push(piece);
    bytes += piece.byteLength;
    if (bytes >= READ_AHEAD_BYTES) await flush();
  }
  await flush();
}

async function writeInOrder(
  source: ChunkPlacer,
  root: Ref,
  file: number,
  options: ExecuteIntoOptions,
): Promise<number> {
  let written = 0;
  for await (const bytes of execute(source, root, options)) {
    await writeAll(file, [bytes], written);
    written += bytes.byteLength;
    options.onProgress?.(written);
  }
  return written;
}
