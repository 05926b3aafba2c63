/**
 * Turns bytes into chunks and a stream of packets that names them. Memory stays flat: a block is read, one is cut, and a few
 * are on their way to the sink.
 *
 *   source ─▶ block (4 MiB) ─▶ cuts ─▶ sink.write ─▶ refs, in order ─▶ StreamWriter ─▶ stream chunks ─▶ sink.write ─▶ root
 */
import { Chunker } from "../../packets/chunker.ts";
import type { ChunkerParameters } from "../../packets/chunker.ts";
import type { Ref } from "../../packets/digest.ts";
import { INGEST_BLOCK_BYTES } from "../limits.ts";
import { unlessAborted } from "../unless-aborted.ts";
import { BlockSource, cutBlock } from "./blocks.ts";
import { StreamAssembly } from "./assembly.ts";
import type { Matcher } from "../contracts/matcher.ts";
import type { ChunkSink } from "../contracts/chunks.ts";

export { fileSource, inputChanged, invalidInput } from "./sources.ts";
export type { FillingSource } from "./sources.ts";
export { HashingSink } from "./hashing-sink.ts";
export { StreamAssembly } from "./assembly.ts";
export { IS_MATCHED, IS_STORED, isRun } from "./blocks.ts";
export type { BlockCut } from "./blocks.ts";
export type { KeptStream } from "./results.ts";
export { appendResult, writeChunks, writeKeptStream, writeKeptStreams, writeStream } from "./results.ts";

export interface IngestOptions {
  readonly chunker?: Partial<ChunkerParameters>;
  readonly signal?: AbortSignal;
  /** Knows chunks that are there and pieces of what is coming: those are named instead of stored. */
  readonly matcher?: Matcher;
  /** Bytes that the source has, where that is known: no more memory than for these is taken. */
  readonly length?: number;
  /** Called with the bytes taken in so far. */
  readonly onProgress?: (bytes: number) => void;
  /** Called with each stream chunk, those that are called before those that call them; it must stay as it is. */
  readonly onStream?: (ref: Ref, bytes: Uint8Array) => void;
}

export interface Ingested {
  readonly root: Ref;
  /** Bytes taken in. */
  readonly length: number;
  /** Packets of all its streams. */
  readonly packets: number;
  /** Chunks that were written, streams included, one that repeats counted each time. */
  readonly chunks: number;
  /** What of that was not there before; see WrittenChunks. */
  readonly newChunks: number;
  readonly newBytes: number;
  readonly storedBytes: number;
}

let chunkerOfAll: Chunker | undefined;

/** Made for the first file that is stored: its table takes longer than a small file does, and whoever only reads needs none. */
export function defaultChunker(): Chunker {
  return (chunkerOfAll ??= new Chunker());
}

/**
 * Writes the source's bytes to the sink. What rejects, the source, the sink or the signal, rejects this, and the source is
 * closed. Chunks are durable when the sink has been flushed.
 */
export async function ingest(
  sink: ChunkSink,
  source: AsyncIterable<Uint8Array>,
  options: IngestOptions = {},
): Promise<Ingested> {
  const { signal, matcher, length: expected = Infinity, onProgress } = options;
  const chunker = options.chunker === undefined ? defaultChunker() : new Chunker(options.chunker);
  const { maxBytes } = chunker.parameters;
  const blocks = new BlockSource(source, maxBytes, Math.min(INGEST_BLOCK_BYTES, Math.max(1, expected)));
  const assembly = new StreamAssembly(sink, (buffer) => blocks.reuse(buffer), options.onStream);
  let rest: Uint8Array = new Uint8Array(0);
  let length = 0;
  try {
    for (;;) {
      const block = await unlessAborted(blocks.next(), signal);
      const isOnly = block.isLast && length === 0;
      const start = block.start - rest.byteLength;
      block.buffer.set(rest, start);
      length += block.end - block.start;
      const cut = cutBlock(chunker, block.buffer, start, block.end, block.isLast, matcher);
      // Copied out, since the buffer is given away.
      rest = block.buffer.slice(cut.end, block.end);
      if (isOnly) assembly.addOnly(block.buffer, start, cut);
      else await unlessAborted(assembly.add(block.buffer, start, cut), signal);
      onProgress?.(length);
      if (block.isLast) break;
    }
    return { ...(await assembly.finish()), length };
  } catch (error) {
    await assembly.abandon();
    throw error;
  } finally {
    await blocks.close();
  }
}
