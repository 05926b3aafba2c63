/** What people are told of what a transfer cost. */
import { ratioOf } from "../nodes/transfer/replication/statistics.ts";
import type { TransferStats } from "../nodes/transfer/replication/statistics.ts";
import type { TransferInfo } from "./packetfs.ts";

/** Of a file of `length` bytes; `reused` are chunks of it that were there already, where that is known. */
export function transferInfo(stats: TransferStats, length: number, reused?: number): TransferInfo {
  const { sentBytes, receivedBytes, patchedChunks, compressedChunks } = stats;
  return {
    wireBytes: { sent: sentBytes, received: receivedBytes },
    chunks: {
      ...(reused === undefined ? {} : { reused: Math.max(0, reused) }),
      patched: patchedChunks,
      compressed: compressedChunks,
    },
    ratio: ratioOf(stats, length),
  };
}
