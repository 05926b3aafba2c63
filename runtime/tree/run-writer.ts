/**
 * Writes the run of a directory, its small files one behind the other, as the stream that ingest would make of all their bytes;
 * without reading most of them, where an earlier run is known. Where a chunk ends follows from the bytes from its
 * beginning on, so wherever a chunk begins as one of the earlier run did, before the same files, it is that chunk:
 *
 *   earlier   │ a  b  c │ d   e │ f  g  h │ i  j │
 *   now       │ a  b  c │ d  E  f' …  │ f  g  h │ i  j │        E was written to: it is read, with its neighbours,
 *                         └─ read ────┘                         until a chunk ends where an earlier one did
 */
import { refAt } from "../../packets/digest.ts";
import { INLINE_BYTES_MAX, REF_BYTES } from "../../packets/layout.ts";
import type { ChunkSink } from "../contracts/chunks.ts";
import type { BaseMatch } from "../contracts/matcher.ts";
import { INGEST_BLOCK_BYTES, TREE_READ_BYTES } from "../limits.ts";
import { IS_MATCHED, IS_STORED, StreamAssembly, defaultChunker, isRun } from "../stream/ingest.ts";
import type { BlockCut, Ingested } from "../stream/ingest.ts";
import type { StreamPieces } from "../stream/leaves.ts";

/** A file of the run. */
export interface RunFile {
  length: number;
  /** Where it begins in the earlier run, if it stands there unchanged. */
  readonly before: number | undefined;
  /**
   * Its bytes from `from` on, at the beginning of `target`, which has room for all of them. One that is not known from earlier is read once, from its
   * beginning, and may turn out to have another length: `length` is that then.
   */
  read(from: number, target: Uint8Array): Promise<void> | void;
}

/** An earlier run, whose chunks are there. */
export interface EarlierRun {
  readonly pieces: StreamPieces;
  /** One byte per piece: whether it can be named again. */
  readonly has: Uint8Array;
  readonly length: number;
}

/** Rejects as the sink and reading the files do. */
export async function writeRun(
  sink: ChunkSink,
  files: readonly RunFile[],
  earlier: EarlierRun | undefined,
  onProgress: (bytes: number) => void = () => undefined,
): Promise<Ingested> {
  const writer = new RunWriter(sink, files, earlier);
  try {
    return await writer.write(onProgress);
  } catch (error) {
    await writer.abandon();
    throw error;
  }
}

class RunWriter {
  readonly #chunker = defaultChunker();
  readonly #files: readonly RunFile[];
  readonly #earlier: EarlierRun | undefined;
  readonly #assembly: StreamAssembly;
  /** Bytes that were read and not cut: `#from` to `#to` of the buffer. */
  readonly #buffer: Uint8Array<ArrayBuffer>;
  #from = 0;
  #to = 0;
  /** The next byte to be read: a file, and a place in it. */
  #file = 0;
  #inFile = 0;
  /** The next byte to be cut, likewise. */
  #cutFile = 0;
  #inCutFile = 0;
  #block: Uint8Array<ArrayBuffer> = new Uint8Array(INGEST_BLOCK_BYTES);
  /** What the sink gave back of the blocks before. */
  readonly #spare: ArrayBuffer[] = [];
  #blockBytes = 0;
  #lengths: number[] = [];
  #kinds: number[] = [];
  #sizes: number[] = [];
  #matches: BaseMatch[] = [];
  #length = 0;

  constructor(sink: ChunkSink, files: readonly RunFile[], earlier: EarlierRun | undefined) {
    this.#files = files;
    this.#earlier = earlier;
    this.#assembly = new StreamAssembly(sink, (buffer) => this.#spare.push(buffer));
    const { maxBytes } = this.#chunker.parameters;
    this.#buffer = new Uint8Array(TREE_READ_BYTES + 2 * maxBytes);
  }

  async write(onProgress: (bytes: number) => void): Promise<Ingested> {
    const { maxBytes } = this.#chunker.parameters;
    let tail: Uint8Array | undefined;
    for (;;) {
      const piece = this.#earlierPiece();
      if (piece !== undefined) {
        this.#take(IS_MATCHED, piece.length);
        this.#matches.push(piece);
        this.#skip(piece.length);
        if (this.#kinds.length >= PIECES_AT_ONCE) await this.#flush();
        continue;
      }
      if (this.#to - this.#from < maxBytes) await this.#fill(maxBytes);
      const isEnd = this.#file === this.#files.length;
      if (this.#from === this.#to && isEnd) break;
      const start = this.#from;
      const end = this.#chunker.cut(this.#buffer, start, this.#to, isEnd);
      const length = end - start;
      if (length <= INLINE_BYTES_MAX && isEnd && end === this.#to) tail = this.#buffer.slice(start, end);
      else if (isRun(bufferOf(this.#buffer), start, end)) this.#take(this.#buffer[start]!, length);
      else {
        if (this.#blockBytes + length > this.#block.byteLength) await this.#flush();
        this.#block.set(this.#buffer.subarray(start, end), this.#blockBytes);
        this.#blockBytes += length;
        this.#lengths.push(length);
        this.#take(IS_STORED, length);
      }
      this.#length += tail?.byteLength ?? 0;
      this.#skip(length);
      onProgress(this.#length);
    }
    await this.#flush(tail);
    return { ...(await this.#assembly.finish()), length: this.#length };
  }

  async abandon(): Promise<void> {
    await this.#assembly.abandon();
  }

  #take(kind: number, length: number): void {
    this.#kinds.push(kind);
    this.#sizes.push(length);
    this.#length += length;
  }

  async #flush(tail?: Uint8Array): Promise<void> {
    const cut: BlockCut = {
      lengths: Uint32Array.from(this.#lengths),
      bytes: this.#blockBytes,
      kinds: this.#kinds,
      sizes: this.#sizes,
      matches: this.#matches,
      tail,
      end: this.#blockBytes,
    };
    await this.#assembly.add(this.#block, 0, cut);
    // The sink has the buffer of the block now.
    if (this.#blockBytes > 0)
      this.#block = new Uint8Array(this.#spare.pop() ?? new ArrayBuffer(INGEST_BLOCK_BYTES));
    this.#blockBytes = 0;
    this.#lengths = [];
    this.#kinds = [];
    this.#sizes = [];
    this.#matches = [];
  }

  /** The chunk of the earlier run that is the next one here too. */
  #earlierPiece(): BaseMatch | undefined {
    if (this.#earlier === undefined) return undefined;
    const file = this.#nextToCut();
    if (file?.before === undefined) return undefined;
    const { pieces, has, length: earlierBytes } = this.#earlier;
    const position = file.before + this.#inCutFile;
    const piece = indexAt(pieces.at, position);
    if (piece < 0 || pieces.at[piece] !== position || has[piece] !== 1 || pieces.from[piece] !== 0)
      return undefined;
    const length = pieces.length[piece]!;
    const covered = this.#unchangedBytes(length);
    if (covered < length) return undefined;
    // The last chunk ended there because the run did.
    if (position + length === earlierBytes && !this.#endsWith(length)) return undefined;
    return { at: 0, ref: refAt(pieces.refs, piece), from: 0, length };
  }

  /** How many of the next bytes, `wanted` at most, stand in the earlier run in the same order. */
  #unchangedBytes(wanted: number): number {
    let index = this.#cutFile;
    let { before = 0, length } = this.#files[index]!;
    let bytes = length - this.#inCutFile;
    while (bytes < wanted) {
      const next = this.#files[++index];
      if (next === undefined || next.before !== before + length) return bytes;
      ({ before = 0, length } = next);
      bytes += length;
    }
    return wanted;
  }

  /** Whether nothing follows the next `length` bytes. */
  #endsWith(length: number): boolean {
    let bytes = -this.#inCutFile;
    for (let index = this.#cutFile; index < this.#files.length; index++) {
      bytes += this.#files[index]!.length;
      if (bytes > length) return false;
    }
    return bytes === length;
  }

  #nextToCut(): RunFile | undefined {
    for (;;) {
      const file = this.#files[this.#cutFile];
      // One that is not read yet may turn out to have other bytes than none.
      if (file === undefined || file.length > this.#inCutFile || this.#cutFile >= this.#file) return file;
      this.#cutFile++;
      this.#inCutFile = 0;
    }
  }

  /** The next `length` bytes are cut; those of them that were not read are not going to be. */
  #skip(length: number): void {
    const buffered = this.#to - this.#from;
    this.#inCutFile += length;
    for (;;) {
      const file = this.#files[this.#cutFile];
      if (file === undefined || this.#inCutFile < file.length) break;
      if (this.#cutFile >= this.#file && length <= buffered) break;
      this.#inCutFile -= file.length;
      this.#cutFile++;
    }
    if (length <= buffered) {
      this.#from += length;
      return;
    }
    this.#from = this.#to = 0;
    this.#file = this.#cutFile;
    this.#inFile = this.#inCutFile;
  }

  /** Reads on until there are enough bytes to cut, or none are left; more at once where all of them have to be read. */
  async #fill(least: number): Promise<void> {
    const wanted = this.#earlier === undefined ? TREE_READ_BYTES : least;
    if (this.#from > 0) {
      this.#buffer.copyWithin(0, this.#from, this.#to);
      this.#to -= this.#from;
      this.#from = 0;
    }
    while (this.#to < wanted && this.#file < this.#files.length) {
      const file = this.#files[this.#file]!;
      const target = this.#buffer.subarray(this.#to);
      const reading = file.read(this.#inFile, target);
      if (reading !== undefined) await reading;
      this.#to += file.length - this.#inFile;
      this.#file++;
      this.#inFile = 0;
    }
  }
}

/** Pieces that are named in one go where nothing has to be stored between them. */
const PIECES_AT_ONCE = 4096;

/** The last index whose value is at most `position`; -1 where there is none. */
export function indexAt(ascending: Float64Array, position: number): number {
  let low = 0;
  let high = ascending.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (ascending[middle]! <= position) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Which of the pieces are chunks, as refs to be asked for: n × 32 bytes, and which piece each is of. */
export function chunkPieces({ refs, from, at }: StreamPieces): { refs: Uint8Array; pieces: number[] } {
  const pieces: number[] = [];
  for (let index = 0; index < at.length; index++) {
    if (from[index] === 0 && refAt(refs, index).some((byte) => byte !== 0)) pieces.push(index);
  }
  const wanted = new Uint8Array(pieces.length * REF_BYTES);
  for (const [index, piece] of pieces.entries()) wanted.set(refAt(refs, piece), index * REF_BYTES);
  return { refs: wanted, pieces };
}
