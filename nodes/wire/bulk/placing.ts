/** Bodies that are made of chunks: each is verified where it came, and written where it belongs. */
import { decompress, discardPlain } from "../../../packets/codec.ts";
import { isRefOf, refAt } from "../../../packets/digest.ts";
import { BULK_WRITE_PIECES_MAX } from "../../limits.ts";
import type { OpenFiles } from "./open-files.ts";
import type { Placed, Placement } from "./protocol.ts";

/** Rejects with PFS_BULK_FILE_FAILED; some of it may have been written then. The body must stay until it resolves. */
export async function place(body: Uint8Array, placement: Placement, files: OpenFiles): Promise<Placed> {
  const chunks = verify(body, placement);
  try {
    await write(chunks, placement, files);
    const good = Uint8Array.from(chunks, (plain) => (plain === undefined ? 0 : 1));
    return placement.wantsPlain === true ? { good, plain: together(chunks) } : { good };
  } finally {
    for (const [row, plain] of chunks.entries())
      if (plain !== undefined) discardPlain(plain, placement.codec[row]!);
  }
}

/** The plain bytes of each chunk; undefined for those that are not what their ref says. */
function verify(
  body: Uint8Array,
  { refs, storedBytes, plainBytes, codec }: Placement,
): (Uint8Array | undefined)[] {
  const chunks: (Uint8Array | undefined)[] = [];
  let at = 0;
  for (let row = 0; row < storedBytes.length; row++) {
    const stored = body.subarray(at, at + storedBytes[row]!);
    at += storedBytes[row]!;
    const plain = decompress(stored, codec[row]!, plainBytes[row]!);
    chunks.push(plain !== undefined && isRefOf(refAt(refs, row), plain) ? plain : undefined);
  }
  return chunks;
}

/** Rows that stand one behind the other in a file are written together. */
async function write(
  chunks: readonly (Uint8Array | undefined)[],
  { files: names, targets: { chunk, file, offset } }: Placement,
  files: OpenFiles,
): Promise<void> {
  let pieces: Uint8Array[] = [];
  let from = 0;
  let end = 0;
  let target = 0;
  const flush = async (): Promise<void> => {
    const now = pieces;
    pieces = [];
    if (now.length > 0) await files.write(names[target]!, now, from);
  };
  for (let row = 0; row < chunk.length; row++) {
    const plain = chunks[chunk[row]!];
    if (plain === undefined) continue;
    const follows = file[row] === target && offset[row] === end && pieces.length < BULK_WRITE_PIECES_MAX;
    if (!follows) {
      await flush();
      target = file[row]!;
      from = offset[row]!;
      end = from;
    }
    pieces.push(plain);
    end += plain.byteLength;
  }
  await flush();
}

function together(chunks: readonly (Uint8Array | undefined)[]): Uint8Array<ArrayBuffer> {
  let bytes = 0;
  for (const chunk of chunks) bytes += chunk?.byteLength ?? 0;
  const all = new Uint8Array(Buffer.allocUnsafeSlow(bytes).buffer);
  let at = 0;
  for (const chunk of chunks) {
    if (chunk === undefined) continue;
    all.set(chunk, at);
    at += chunk.byteLength;
  }
  return all;
}
