import type { Ref } from "../../packets/digest.ts";
import type { ChunkSource } from "../contracts/chunks.ts";
import { readStream } from "./stream-cache.ts";

export interface StreamDescription {
  /** Bytes that it yields; 0 when that is not known before it is computed. */
  readonly length: number;
  /** Packets of the top stream, its HALT included. */
  readonly packets: number;
  /** Whether reading it takes no computing. */
  readonly isPlain: boolean;
  /** SHA-256 of the whole output, where the stream says it. */
  readonly digest?: Ref;
}

/** What the top stream says of itself. Rejects as reading and parsing it does. */
export async function describeStream(
  source: ChunkSource,
  root: Ref,
  signal?: AbortSignal,
): Promise<StreamDescription> {
  const { length, count, isPlain, digest } = await readStream(source, root, signal);
  const description = { length, packets: count + 1, isPlain };
  return digest === undefined ? description : { ...description, digest: Uint8Array.from(digest) };
}
