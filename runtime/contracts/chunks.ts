/** The seams between chunks and everything that reads or writes them. */
import type { Ref } from "../../packets/digest.ts";
import type { NameRecord } from "./catalog.ts";

/** Where chunks are read from: a store, a peer, or a chain of both. */
export interface ChunkSource {
  /**
   * The plain bytes of each chunk, in the order asked, every one verified against its ref.
   * Rejects with PFS_CHUNK_MISSING {ref} or PFS_CHUNK_DAMAGED {ref}; nothing is returned then.
   */
  read(refs: readonly Ref[], signal?: AbortSignal): Promise<Uint8Array[]>;
}

/** Where chunks are written to. */
export interface ChunkSink {
  /**
   * Takes chunks that stand back to back in `block`, `lengths[i]` bytes the i-th. The block's buffer is transferred:
   * the caller must not touch it again. Resolves with the chunks' refs, 32 bytes each, back to back. Calls may
   * overlap; how many is the caller's bound on memory.
   */
  write(block: Uint8Array<ArrayBuffer>, lengths: Uint32Array<ArrayBuffer>): Promise<WrittenChunks>;
}

export interface WrittenChunks {
  /** n × 32 bytes. */
  readonly refs: Uint8Array;
  /** Chunks that were not there before, their plain bytes, and the bytes they took at rest (or on the wire). */
  readonly newChunks: number;
  readonly newBytes: number;
  readonly storedBytes: number;
  /** The block's buffer, where the sink has no more use for it: fresh memory costs more than the copying it saves. */
  readonly buffer?: ArrayBuffer;
}

/**
 * A sink whose chunks are safe from gc until it is closed, and durable once flushed or named. One per put or lane;
 * several may be open at once.
 */
export interface StoreWriter extends ChunkSink {
  /**
   * One byte (0 or 1) per 32-byte ref: which chunks are there already. Those that are, are safe from gc as if this
   * writer had written them: so a peer may leave out what it was told is there.
   */
  claim(refs: Uint8Array): Promise<Uint8Array>;
  /** Everything written through this writer is durable when it resolves. */
  flush(): Promise<void>;
  /** Flushes, then binds the name to the root: durable, and in that order. */
  setName(name: string, root: Ref, length: number): Promise<NameRecord>;
  /** Ends the protection; what no name reaches may be collected from now on. */
  close(): Promise<void>;
}
