/** Writes pieces of bytes to a file: many at a time, and the next ones are fetched meanwhile. */
import type { FileHandle } from "node:fs/promises";

/** Bytes that are written at once; as many may be on their way before them. */
const WRITE_BYTES: number = 1 * 1024 * 1024;

/** Resolves with the bytes written. A write that fails rejects with what `failed` makes of its error. */
export async function writePieces(
  handle: FileHandle,
  content: AsyncIterable<Uint8Array>,
  failed: (error: unknown) => unknown = (error) => error,
): Promise<number> {
  let total = 0;
  let pieces: Uint8Array[] = [];
  let waiting = 0;
  let writing: Promise<void> = Promise.resolve();
  let failure: { readonly error: unknown } | undefined;
  const flush = async (): Promise<void> => {
    await writing;
    if (failure !== undefined) throw failed(failure.error);
    const batch = pieces;
    pieces = [];
    waiting = 0;
    writing = writeAll(handle, batch).catch((error: unknown) => {
      failure = { error };
    });
  };
  try {
    for await (const piece of content) {
      pieces.push(piece);
      waiting += piece.byteLength;
      total += piece.byteLength;
      if (waiting >= WRITE_BYTES) await flush();
    }
    await flush();
    await writing;
    if (failure !== undefined) throw failed((failure as { readonly error: unknown }).error);
    return total;
  } finally {
    // Nobody may close the file while something is still being written.
    await writing;
  }
}

async function writeAll(handle: FileHandle, pieces: readonly Uint8Array[]): Promise<void> {
  let rest = pieces.filter(({ byteLength }) => byteLength > 0);
  while (rest.length > 0) {
    let { bytesWritten } = await handle.writev(rest);
    const next: Uint8Array[] = [];
    for (const piece of rest) {
      if (bytesWritten >= piece.byteLength) bytesWritten -= piece.byteLength;
      else {
        next.push(piece.subarray(bytesWritten));
        bytesWritten = 0;
      }
    }
    rest = next;
  }
}
