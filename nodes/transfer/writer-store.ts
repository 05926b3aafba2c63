/** Where a root comes to that is to be kept in a store: its writer protects it from gc, and hashes it. */
import { refAt, sameBytes } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { hasCode } from "../../packets/errors.ts";
import { blockOf } from "../../runtime/block.ts";
import type { ChunkSource, StoredFormWriter, WrittenChunks } from "../../runtime/contracts/chunks.ts";
import { StoreErrorCode } from "../../runtime/errors.ts";
import type { ReceivingStore } from "./received-root.ts";
import type { StoredRows } from "./replication/messages.ts";

/** Does a write of chunks of these plain lengths, which it may refuse. */
export type CountedWrite = (
  plainBytes: Uint32Array,
  write: () => Promise<WrittenChunks>,
) => Promise<WrittenChunks>;

export class WriterStore implements ReceivingStore {
  readonly source: ChunkSource;
  readonly #writer: StoredFormWriter;
  readonly #counted: CountedWrite;

  /** `source` has what the writer writes. */
  constructor(
    source: ChunkSource,
    writer: StoredFormWriter,
    counted: CountedWrite = (_plainBytes, write) => write(),
  ) {
    this.source = source;
    this.#writer = writer;
    this.#counted = counted;
  }

  /** What is found here is safe from gc until the writer is closed. */
  has(refs: Uint8Array): Promise<Uint8Array> {
    return this.#writer.claim(refs);
  }

  async keep(chunks: readonly { readonly ref: Ref; readonly bytes: Uint8Array }[]): Promise<void> {
    if (chunks.length === 0) return;
    const { block, lengths } = blockOf(chunks.map(({ bytes }) => bytes));
    // The block goes to the writer, and its lists with it.
    const plainBytes = lengths.slice();
    const { refs, buffer } = await this.#counted(plainBytes, () => this.#writer.write(block, lengths));
    giveUp(buffer);
    chunks.forEach(({ ref }, index) => {
      if (!sameBytes(ref, refAt(refs, index)))
        throw new Error("the store hashed a verified chunk differently");
    });
  }

  async keepStored(
    { refs, storedBytes, plainBytes, codec }: StoredRows,
    body: Uint8Array<ArrayBuffer>,
  ): Promise<Uint8Array> {
    const forms = {
      refs,
      lengths: Uint32Array.from(storedBytes),
      plainLengths: Uint32Array.from(plainBytes),
      codecs: Uint8Array.from(codec),
    };
    try {
      const { buffer } = await this.#counted(plainBytes, () => this.#writer.writeStored(body, forms));
      giveUp(buffer);
    } catch (error) {
      // Then nothing of it was kept: each of them comes again, alone.
      if (hasCode(error, StoreErrorCode.chunkDamaged)) return new Uint8Array(codec.length);
      throw error;
    }
    return new Uint8Array(codec.length).fill(1);
  }
}

/** What came back has V8 look for garbage, again and again, unless it is told that this is some. */
function giveUp(buffer: ArrayBuffer | undefined): void {
  buffer?.transfer(0);
}
