/** Reads many chunks where some may be missing or damaged, which is no reason not to have the others. */
import { PacketfsError } from "../packets/errors.ts";
import type { Ref } from "../packets/digest.ts";
import type { ChunkSource } from "./contracts/chunks.ts";
import { StoreErrorCode } from "./errors.ts";

const LOST: ReadonlySet<string> = new Set([StoreErrorCode.chunkMissing, StoreErrorCode.chunkDamaged]);

/** Each chunk, or the PFS_CHUNK_MISSING or PFS_CHUNK_DAMAGED that reading it rejects with. Rejects with any other error. */
export async function readEach(
  source: ChunkSource,
  refs: readonly Ref[],
  signal?: AbortSignal,
): Promise<(Uint8Array | PacketfsError)[]> {
  if (refs.length === 0) return [];
  try {
    // The quick way first: mostly all are there.
    return await source.read(refs, signal);
  } catch (error) {
    const reason = lost(error);
    if (refs.length === 1) return [reason];
  }
  const chunks: (Uint8Array | PacketfsError)[] = [];
  for (const ref of refs) chunks.push(...(await source.read([ref], signal).catch((error) => [lost(error)])));
  return chunks;
}

/** Chunks in memory that is the caller's, where the source gives such; otherwise in whatever memory. */
export function readOwn(
  source: ChunkSource,
  refs: readonly Ref[],
  signal?: AbortSignal,
): Promise<Uint8Array[]> {
  return source.readOwn?.(refs, signal) ?? source.read(refs, signal);
}

/** The error, where it is about one chunk alone; throws it otherwise. */
function lost(error: unknown): PacketfsError {
  if (error instanceof PacketfsError && LOST.has(error.code)) return error;
  throw error;
}
