/**
 * A file comes from a hub or node by a transfer, into a part file: what other files of this machine have of it, and what an
 * earlier try has written there, does not come again.
 *
 *     what is held ──▶ its root: a base, where the peer has it too ──▶ what changed comes as patches
 *                  └─▶ where the peer does not: the file's streams are read, and say which chunks are lacking
 */
import { refKey } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { hasCode, PacketErrorCode } from "../../packets/errors.ts";
import { REF_BYTES } from "../../packets/layout.ts";
import { WireErrorCode } from "../../nodes/errors.ts";
import { TRANSFER_FILE_BYTES_MIN } from "../../nodes/limits.ts";
import type { RemoteStore } from "../../nodes/remote/remote-store.ts";
import { ReceivedFile } from "../../nodes/transfer/received-file.ts";
import type { HeldChunks } from "../../nodes/transfer/received-file.ts";
import type { TransferStats } from "../../nodes/transfer/replication/statistics.ts";
import { HeldFiles } from "../../runtime/stream/execute.ts";
import type { HeldFile } from "../../runtime/stream/execute.ts";
import { fileFailure } from "../errors.ts";
import type { Part } from "../target/file-target.ts";
import type { ClientMemory } from "./client-memory.ts";

/** Files elsewhere that had this root when they were remembered: the first that has it still is enough. */
const PLACES_MAX = 3;

export interface FileGet {
  readonly peer: RemoteStore;
  readonly memory: ClientMemory | undefined;
  readonly root: Ref;
  readonly length: number;
  readonly part: Part;
  readonly signal: AbortSignal | undefined;
  /** Called with bytes of the file that are there. */
  readonly onProgress: (bytes: number) => void;
}

/**
 * Undefined where it has to come by its chunks: the peer is older, or the file is small, or has to be computed. Rejects as
 * `TransferClient.get` and writing files do.
 */
export async function getByTransfer(options: FileGet): Promise<TransferStats | undefined> {
  const { peer, memory, root, length, part, signal, onProgress } = options;
  if (!peer.transfers.isOffered || length < TRANSFER_FILE_BYTES_MIN) return undefined;
  const elsewhere = memory?.files.placesOf(root, PLACES_MAX).map(({ path }) => path) ?? [];
  await using files = await HeldFiles.open([...new Set([...part.held, ...elsewhere])], signal);
  const bases = await basesOf(peer, files.files, signal);
  const held: HeldChunks[] = [...files.files];
  if (bases.length === 0 && held.length > 0) held.push({ read: (refs) => peer.read(refs, signal) });
  const { handle, path, journal } = part;
  const file = await ReceivedFile.open({ root, handle, path, journal, held });
  try {
    return await peer.transfers.get({
      store: file,
      root,
      bases,
      onProgress: ({ doneBytes }) => onProgress(doneBytes),
      ...(signal === undefined ? {} : { signal }),
    });
  } catch (error) {
    if (hasCode(error, WireErrorCode.bulkUnavailable) || hasCode(error, PacketErrorCode.notPlain))
      return undefined;
    throw error;
  } finally {
    await file.close();
  }
}

/** Whether what came until then is of use to whoever tries again: the connection was lost, and nothing else was wrong. */
export function survives(error: unknown): boolean {
  const lost = [
    WireErrorCode.nodeLost,
    WireErrorCode.unreachable,
    WireErrorCode.bulkCut,
    WireErrorCode.closed,
  ];
  return lost.some((code) => hasCode(error, code));
}

/** Roots of what is held that the peer has. */
async function basesOf(
  peer: RemoteStore,
  files: readonly HeldFile[],
  signal: AbortSignal | undefined,
): Promise<Ref[]> {
  const roots = new Map(files.map(({ root }) => [refKey(root), root]));
  if (roots.size === 0) return [];
  const refs = Buffer.concat([...roots.values()], roots.size * REF_BYTES);
  const there = await peer.has(refs, signal);
  return [...roots.values()].filter((_, index) => there[index] === 1);
}

/** What the system said of a part is told of the path that it was to become. */
export function partError(error: unknown, path: string): unknown {
  if (!hasCode(error, WireErrorCode.bulkFileFailed)) return error;
  const { system } = error.data;
  return typeof system === "string" ? fileFailure(system, "write", path, error) : error;
}
