/** A stored file, or a range of it, becomes a file of this machine. */
import { refToHex } from "../../packets/digest.ts";
import { UsageError } from "../errors.ts";
import type { FoundBytes } from "../files.ts";
import type { GetFileOptions, GetFileResult } from "../packetfs.ts";
import { findTarget } from "./file-target.ts";
import type { Content } from "./file-target.ts";

/** Rejects as finding the target, reading the content and writing it do. */
export async function getFile(
  path: string,
  found: FoundBytes,
  content: Content,
  { signal, onProgress }: GetFileOptions,
): Promise<GetFileResult> {
  if (path === "") throw new UsageError("a file cannot be written to a path without a character");
  signal?.throwIfAborted();
  const target = await findTarget(path, signal);
  const total = found.end - found.start;
  const root = refToHex(found.root);
  if (target.isFile && (await content.isThere?.()) === true)
    return { root, path, length: total, unchanged: true };
  const length = await target.write({
    ...content,
    read: (held) => told(content.read(held), total, onProgress),
  });
  return { root, path, length };
}

async function* told(
  pieces: AsyncIterable<Uint8Array>,
  total: number,
  onProgress: GetFileOptions["onProgress"],
): AsyncGenerator<Uint8Array> {
  let bytes = 0;
  for await (const piece of pieces) {
    yield piece;
    bytes += piece.byteLength;
    onProgress?.(bytes, total);
  }
}
