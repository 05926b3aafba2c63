/** Looking after a store: what it says when it was asked to check itself, or to free what nothing needs. */

import type { ChunkSource } from "./chunks.ts";

export interface GcResult {
  readonly keptChunks: number;
  readonly freedChunks: number;
  /** Bytes of the disk. */
  readonly freedBytes: number;
  /**
   * Names, or versions of them (`notes.txt@3`), whose streams cannot be read whole. What they need, as far as it is known,
   * and what they may need was kept.
   */
  readonly incomplete: readonly string[];
  /** Segments that were worth rewriting, and were left as they are because they cannot be read. */
  readonly unreadableSegments: number;
  /** Labels of machines that were asked and did not answer: nothing of theirs is in this. */
  readonly unreachable: readonly string[];
}

/** What is wrong, or was, in the store of one machine of a network. */
export interface DamagedStore {
  /** The machine's. */
  readonly label: string;
  /** Refs of damaged chunks, and of those that were and are whole again, as hex. */
  readonly damaged: readonly string[];
  readonly repaired: readonly string[];
  /** Records of segments that were damaged, written anew or not. */
  readonly lostRecords: number;
}

export interface StoreReport {
  /** Chunks that were read, and the plain bytes of those that are sound. */
  readonly chunks: number;
  readonly bytes: number;
  /** Refs of damaged chunks, as hex. */
  readonly damaged: readonly string[];
  /** Refs of chunks that were found damaged and have been fetched again from another machine. */
  readonly repaired: readonly string[];
  /** Names whose streams miss a chunk, or cannot be read. */
  readonly incomplete: readonly string[];
  /** Headers and names that were damaged in the segments and that the index still knew, */
  readonly lostRecords: number;
  /** and how many of them were written anew: all, where the store is written to. */
  readonly mendedRecords: number;
  /** Where the stores of several machines were looked at: those whose disks lose bytes. */
  readonly stores: readonly DamagedStore[];
  /** Labels of machines that were asked and did not answer: nothing of theirs is in this. */
  readonly unreachable: readonly string[];
}

export interface Maintenance {
  /**
   * Reads and checks every chunk, looks whether every name's stream has all of its own, and whether the index could be built
   * again as it is; where it could not, the segments are mended.
   */
  verify(signal?: AbortSignal): Promise<StoreReport>;
  /**
   * Frees what neither a name (its kept versions included) nor an open writer needs. One that is asked for while another
   * runs follows it, and one that failed may be asked for again. Streams that the store lacks are read from `source`, where
   * there is one: what they need is known then.
   */
  gc(signal?: AbortSignal, source?: ChunkSource): Promise<GcResult>;
}
