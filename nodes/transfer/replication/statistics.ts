/** What a transfer cost and brought, counted where it happened: no peer is believed. */
import type { PacketfsError } from "../../../packets/errors.ts";

export interface TransferStats {
  /** Bytes of all its messages: heads, bodies, and what a record has around them. */
  sentBytes: number;
  receivedBytes: number;
  /** Messages of FILE_DATA. */
  messages: number;
  /** Chunks in them, stream chunks too; of a receiver those that were right. */
  chunks: number;
  /** Bytes of these chunks when they are not packed. */
  plainBytes: number;
  /** Those that were made of bytes of a base, and those that were compressed by themselves. */
  patchedChunks: number;
  compressedChunks: number;
  /** Chunks that came with wrong bytes or not at all, and were asked for again. */
  wrongChunks: number;
  /** Requests: 1 where nothing was begun again. */
  runs: number;
}

/** How a transfer ended: `error` says why not well. */
export interface TransferEnd {
  readonly transfer: number;
  readonly stats: TransferStats;
  readonly error: PacketfsError | undefined;
}

export function noStats(): TransferStats {
  return {
    sentBytes: 0,
    receivedBytes: 0,
    messages: 0,
    chunks: 0,
    plainBytes: 0,
    patchedChunks: 0,
    compressedChunks: 0,
    wrongChunks: 0,
    runs: 0,
  };
}

/** Counts what another transfer of the same file cost and brought, too. */
export function addStats(sum: TransferStats, more: TransferStats): void {
  for (const key of Object.keys(more) as (keyof TransferStats)[]) sum[key] += more[key];
}

/** How many bytes of a file came of each byte on the wire; infinite where none was needed. */
export function ratioOf({ sentBytes, receivedBytes }: TransferStats, length: number): number {
  return length / (sentBytes + receivedBytes);
}
