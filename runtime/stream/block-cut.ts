/** Cuts a block into chunks, and takes out those that need not be stored. */
import type { Chunker } from "../../packets/chunker.ts";
import { INLINE_BYTES_MAX } from "../../packets/layout.ts";

export interface BlockCut {
  /** The chunks to be stored stand back to back behind the block's start; the bytes of each. */
  readonly lengths: Uint32Array<ArrayBuffer>;
  /** The bytes of all of them. */
  readonly bytes: number;
  /** What the block yields in order: a stored chunk (IS_STORED), or a run of one byte (its value), and its length. */
  readonly kinds: readonly number[];
  readonly sizes: readonly number[];
  /** The end of a file that is too short for a chunk of its own: it stands in the stream itself. */
  readonly tail: Uint8Array | undefined;
  /** What stands from here on is not a whole chunk yet. */
  readonly end: number;
}

export const IS_STORED = -1;

/** Moves bytes of `buffer` where something between chunks is left out. */
export function cutBlock(
  chunker: Chunker,
  buffer: Uint8Array<ArrayBuffer>,
  start: number,
  end: number,
  isLast: boolean,
): BlockCut {
  const bytes = Buffer.from(buffer.buffer, buffer.byteOffset, buffer.byteLength);
  const lengths: number[] = [];
  const kinds: number[] = [];
  const sizes: number[] = [];
  let tail: Uint8Array | undefined;
  let stored = start;
  let run: Run | undefined;
  let from = start;
  while (from < end) {
    const repeated = run !== undefined && continues(bytes, run, from, end);
    const to = repeated ? from + run!.length : chunker.cut(buffer, from, end, isLast);
    if (to === 0) break;
    if (to - from <= INLINE_BYTES_MAX && isLast && to === end) tail = buffer.slice(from, to);
    else {
      run = repeated || isRun(bytes, from, to) ? { byte: bytes[from]!, length: to - from } : undefined;
      kinds.push(run === undefined ? IS_STORED : run.byte);
      sizes.push(to - from);
      if (run === undefined) {
        lengths.push(to - from);
        if (stored !== from) buffer.copyWithin(stored, from, to);
        stored += to - from;
      }
    }
    from = to;
  }
  return { lengths: Uint32Array.from(lengths), bytes: stored - start, kinds, sizes, tail, end: from };
}

/** A chunk of one repeated byte. */
interface Run {
  readonly byte: number;
  readonly length: number;
}

/**
 * Whether the next chunk is the same run again. Where a chunk ends follows from its own bytes alone, so the chunker would cut
 * it there too; this looks at zeros ten times as fast.
 */
function continues(bytes: Buffer, run: Run, from: number, end: number): boolean {
  const to = from + run.length;
  return to <= end && bytes[from] === run.byte && isRun(bytes, from, to);
}

/** Whether all bytes are the same: they are when each equals its neighbour, which is one comparison of memory. */
function isRun(bytes: Buffer, from: number, to: number): boolean {
  return bytes[from] === bytes[to - 1] && bytes.compare(bytes, from, to - 1, from + 1, to) === 0;
}
