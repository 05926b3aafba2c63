/** Hands blocks of chunks to a sink, a few at a time, and writes the stream that names the chunks in their order. */
import { refAt, sha256 } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { REF_BYTES } from "../../packets/layout.ts";
import { CHUNK_BYTES_MAX } from "../../packets/limits.ts";
import { StreamWriter } from "../../packets/stream-writer.ts";
import { INGEST_BLOCKS_MAX } from "../limits.ts";
import type { ChunkSink, WrittenChunks } from "../contracts/chunks.ts";
import { IS_MATCHED, IS_STORED } from "./blocks.ts";
import type { BlockCut } from "./blocks.ts";

export interface Assembled {
  readonly root: Ref;
  readonly packets: number;
  readonly chunks: number;
  readonly newChunks: number;
  readonly newBytes: number;
  readonly storedBytes: number;
}

interface Sent {
  readonly cut: BlockCut;
  /** Undefined when the block had nothing to store. */
  readonly written: Promise<WrittenChunks> | undefined;
}

export class StreamAssembly {
  readonly #sink: ChunkSink;
  readonly #writer: StreamWriter;
  readonly #onReturned: (buffer: ArrayBuffer) => void;
  /** Blocks whose refs have not been taken over, in order. */
  #sent: Sent[] = [];
  /** Stream chunks that were cut and not yet handed over, behind the chunks of a file that is small. */
  #streams: Uint8Array[] = [];
  #streamBytes = 0;
  #chunks = 0;
  #newChunks = 0;
  #newBytes = 0;
  #storedBytes = 0;

  /** `onReturned` gets the buffers of blocks that the sink has given back, `onStream` each stream chunk before the sink does. */
  constructor(
    sink: ChunkSink,
    onReturned: (buffer: ArrayBuffer) => void,
    onStream?: (ref: Ref, bytes: Uint8Array) => void,
  ) {
    this.#sink = sink;
    this.#onReturned = onReturned;
    this.#writer = new StreamWriter((ref, bytes) => {
      onStream?.(ref, bytes);
      this.#streams.push(bytes);
      this.#streamBytes += bytes.byteLength;
    });
  }

  /** Takes the block, whose buffer is gone then, and waits while too many are on their way. */
  async add(buffer: Uint8Array<ArrayBuffer>, start: number, cut: BlockCut): Promise<void> {
    const { lengths, bytes } = cut;
    const written =
      lengths.length === 0 ? undefined : this.#sink.write(buffer.subarray(start, start + bytes), lengths);
    // Its failure is met when its turn comes.
    written?.catch(() => {});
    this.#sent.push({ cut, written });
    while (this.#sent.length >= INGEST_BLOCKS_MAX) await this.#settle();
  }

  /**
   * Takes the only block of a small file: its refs are computed here, so that chunks and stream go to the sink together and
   * are waited for once.
   */
  addOnly(buffer: Uint8Array<ArrayBuffer>, start: number, cut: BlockCut): void {
    const refs = new Uint8Array(cut.lengths.length * REF_BYTES);
    let at = start;
    for (const [index, length] of cut.lengths.entries()) {
      const chunk = buffer.subarray(at, (at += length));
      refs.set(sha256(chunk), index * REF_BYTES);
      this.#streams.push(chunk);
    }
    this.#streamBytes += cut.bytes;
    this.#append(cut, refs);
  }

  /** Everything is in the sink when it resolves. */
  async finish(): Promise<Assembled> {
    while (this.#sent.length > 0) await this.#settle();
    const { root, packets } = this.#writer.finish();
    await this.#writeStreams();
    return {
      root,
      packets,
      chunks: this.#chunks,
      newChunks: this.#newChunks,
      newBytes: this.#newBytes,
      storedBytes: this.#storedBytes,
    };
  }

  /** Resolves when nothing is on its way any more. */
  async abandon(): Promise<void> {
    for (const { written } of this.#sent) await written?.catch(() => {});
  }

  async #settle(): Promise<void> {
    const { cut, written } = this.#sent[0]!;
    const chunks = await written;
    this.#sent.shift();
    if (chunks !== undefined) this.#count(chunks, cut.lengths.length);
    if (chunks?.buffer !== undefined) this.#onReturned(chunks.buffer);
    this.#append(cut, chunks?.refs);
    if (this.#streamBytes >= CHUNK_BYTES_MAX) await this.#writeStreams();
  }

  /** Writes what a block yields into the stream. `refs` are those of its stored chunks. */
  #append(cut: BlockCut, refs: Uint8Array | undefined): void {
    let stored = 0;
    let matched = 0;
    for (const [piece, kind] of cut.kinds.entries()) {
      const length = cut.sizes[piece]!;
      if (kind === IS_STORED) this.#writer.copy(refAt(refs!, stored++), 0, length);
      else if (kind === IS_MATCHED) {
        const { ref, from } = cut.matches[matched++]!;
        this.#writer.copy(ref, from, length);
      } else this.#writer.fill(Uint8Array.of(kind), length);
    }
    if (cut.tail !== undefined) this.#writer.data(cut.tail);
  }

  async #writeStreams(): Promise<void> {
    if (this.#streams.length === 0) return;
    const block = new Uint8Array(this.#streamBytes);
    const lengths = Uint32Array.from(this.#streams, (stream) => stream.byteLength);
    let at = 0;
    for (const stream of this.#streams) {
      block.set(stream, at);
      at += stream.byteLength;
    }
    this.#streams = [];
    this.#streamBytes = 0;
    this.#count(await this.#sink.write(block, lengths), lengths.length);
  }

  #count(written: WrittenChunks, chunks: number): void {
    this.#chunks += chunks;
    this.#newChunks += written.newChunks;
    this.#newBytes += written.newBytes;
    this.#storedBytes += written.storedBytes;
  }
}
