/**
 * A source's bytes in blocks that can be handed away, and the chunks that a block is cut into. There is room before the bytes
 * for what the block before it left over:
 *
 *   │ room: one chunk │ bytes read …                      │
 *              └──┬──┘
 *      the end of the block before, which is not a whole chunk yet
 */
import type { Chunker } from "../../packets/chunker.ts";
import { INLINE_BYTES_MAX } from "../../packets/layout.ts";
import type { BaseMatch, Matcher } from "../contracts/matcher.ts";
import { fillingFrom } from "./sources.ts";
import type { FillingSource } from "./sources.ts";

export interface SourceBlock {
  readonly buffer: Uint8Array<ArrayBuffer>;
  /** Where the bytes read begin, and end. */
  readonly start: number;
  readonly end: number;
  /** Nothing follows. */
  readonly isLast: boolean;
}

const SPARE_BLOCKS_MAX = 2;
/** Most files are small, so the first block is, and the next ones grow. */
const FIRST_BYTES = 64 * 1024;
const GROWTH = 8;

export class BlockSource {
  readonly #source: FillingSource;
  readonly #room: number;
  readonly #bytes: number;
  #next: Promise<SourceBlock> | undefined;
  #nextBytes = FIRST_BYTES;
  readonly #spare: ArrayBuffer[] = [];

  /** `room` is what a block may leave over, `bytes` what it reads at most. */
  constructor(source: AsyncIterable<Uint8Array>, room: number, bytes: number) {
    this.#source = fillingFrom(source);
    this.#room = room;
    this.#bytes = bytes;
  }

  /** The next block; the one after it is being read already. */
  async next(): Promise<SourceBlock> {
    const block = await (this.#next ?? this.#read(0));
    this.#next = block.isLast ? undefined : this.#read(this.#room);
    // Its failure is met when it is asked for.
    this.#next?.catch(() => {});
    return block;
  }

  /** A block's buffer that came back; the next block may be read into it. */
  reuse(buffer: ArrayBuffer): void {
    if (buffer.byteLength === this.#room + this.#bytes && this.#spare.length < SPARE_BLOCKS_MAX) {
      this.#spare.push(buffer);
    }
  }

  async close(): Promise<void> {
    await this.#source.close();
  }

  async #read(room: number): Promise<SourceBlock> {
    const bytes = this.#nextBytes;
    this.#nextBytes = Math.min(bytes * GROWTH, this.#bytes);
    const spare = bytes === this.#bytes ? this.#spare.pop() : undefined;
    // Not zeroed: only what was read into it is looked at.
    const buffer = new Uint8Array(spare ?? Buffer.allocUnsafeSlow(room + bytes).buffer);
    const filled = await this.#source.fill(buffer.subarray(room));
    return { buffer, start: room, end: room + filled, isLast: filled < bytes };
  }
}

export interface BlockCut {
  /** The chunks to be stored stand back to back behind the block's start; the bytes of each. */
  readonly lengths: Uint32Array<ArrayBuffer>;
  /** The bytes of all of them. */
  readonly bytes: number;
  /**
   * What the block yields in order, and its length: a stored chunk (IS_STORED), the next of `matches` (IS_MATCHED), or a run
   * of one byte (its value).
   */
  readonly kinds: readonly number[];
  readonly sizes: readonly number[];
  readonly matches: readonly BaseMatch[];
  /** The end of a file that is too short for a chunk of its own: it stands in the stream itself. */
  readonly tail: Uint8Array | undefined;
  /** What stands from here on is not a whole chunk yet. */
  readonly end: number;
}

export const IS_STORED = -1;
export const IS_MATCHED = -2;

/** Moves bytes of `buffer` where something between chunks is left out. */
export function cutBlock(
  chunker: Chunker,
  buffer: Uint8Array<ArrayBuffer>,
  start: number,
  end: number,
  isLast: boolean,
  matcher?: Matcher,
): BlockCut {
  const bytes = Buffer.from(buffer.buffer, buffer.byteOffset, buffer.byteLength);
  const lengths: number[] = [];
  const kinds: number[] = [];
  const sizes: number[] = [];
  const matches: BaseMatch[] = [];
  let tail: Uint8Array | undefined;
  let stored = start;
  let run: Run | undefined;
  let from = start;
  let match = matcher?.match(buffer, start, end);
  while (from < end) {
    if (from === match?.at) {
      matches.push(match);
      kinds.push(IS_MATCHED);
      sizes.push(match.length);
      run = undefined;
      from += match.length;
      match = matcher!.match(buffer, from, end);
      continue;
    }
    const until = match?.at ?? end;
    const repeated = run !== undefined && continues(bytes, run, from, until);
    const to = repeated
      ? from + run!.length
      : chunker.cut(buffer, from, until, isLast || match !== undefined);
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
  return {
    lengths: Uint32Array.from(lengths),
    bytes: stored - start,
    kinds,
    sizes,
    matches,
    tail,
    end: from,
  };
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
export function isRun(bytes: Buffer, from: number, to: number): boolean {
  return bytes[from] === bytes[to - 1] && bytes.compare(bytes, from, to - 1, from + 1, to) === 0;
}
