/** Looking after a store: what it says when it was asked to check itself, or to free what nothing needs. */

export interface GcResult {
  readonly keptChunks: number;
  readonly freedChunks: number;
  /** Bytes of the disk. */
  readonly freedBytes: number;
}

export interface StoreReport {
  /** Chunks that were read, and the plain bytes of those that are sound. */
  readonly chunks: number;
  readonly bytes: number;
  /** Refs of damaged chunks, as hex. */
  readonly damaged: readonly string[];
  /** Names whose streams miss a chunk, or cannot be read. */
  readonly incomplete: readonly string[];
  /** Headers and names that were damaged in the segments and that the index still knew: a store that is written to has them again. */
  readonly lostRecords: number;
}

export interface Maintenance {
  /**
   * Reads and checks every chunk, looks whether every name's stream has all of its own, and whether the index could be built
   * again as it is; where it could not, the segments are mended.
   */
  verify(signal?: AbortSignal): Promise<StoreReport>;
  /**
   * Frees what neither a name (its kept versions included) nor an open writer needs. One that is asked for while another
   * runs follows it. Rejects with PFS_CHUNK_MISSING or PFS_CHUNK_DAMAGED {name} while a name is incomplete: what its
   * stream needs is not known then.
   */
  gc(signal?: AbortSignal): Promise<GcResult>;
}
