/** What people are told of what a transfer cost. */
import { ratioOf } from "../nodes/transfer/replication/statistics.ts";
import type { TransferStats } from "../nodes/transfer/replication/statistics.ts";
import type { TransferInfo } from "./packetfs.ts";

/** Digits of a ratio that mean something. */
const RATIO_DIGITS = 4;

/**
 * Of a file of `length` bytes; `reused` are chunks of it that were there already, where that is known, and `route` is whom it went to or
 * came from.
 */
export function transferInfo(
  stats: TransferStats,
  length: number,
  reused: number | undefined,
  { peer, isClear }: { readonly peer: string; readonly isClear: boolean },
): TransferInfo {
  const { sentBytes, receivedBytes, patchedChunks, compressedChunks } = stats;
  return {
    peer,
    encrypted: !isClear,
    wireBytes: { sent: sentBytes, received: receivedBytes },
    chunks: {
      ...(reused === undefined ? {} : { reused: Math.max(0, reused) }),
      patched: patchedChunks,
      compressed: compressedChunks,
    },
    ratio: Number(ratioOf(stats, length).toPrecision(RATIO_DIGITS)),
  };
}
