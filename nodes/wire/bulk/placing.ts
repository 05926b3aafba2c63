/** Bodies that are made of chunks: each is verified where it came, and written where it belongs. */
import { decompress, discardPlain } from "../../../packets/codec.ts";
import { isRefOf, refAt } from "../../../packets/digest.ts";
import { BULK_WRITE_PIECES_MAX } from "../../limits.ts";
import type { OpenFiles } from "./open-files.ts";
import type { FileName, Placed, Placement } from "./protocol.ts";

/** Rejects with PFS_BULK_FILE_FAILED; some of it may have been written then. The body must stay until it resolves. */
export async function place(body: Uint8Array, placement: Placement, files: OpenFiles): Promise<Placed> {
  const chunks = verify(body, placement);
  try {
    for (const { file, pieces, offset } of writesOf(chunks, placement))
      await files.write(file, pieces, offset);
    return placed(chunks, placement);
  } finally {
    free(chunks, placement);
  }
}

/** As `place`, at once, where all files are open. Throws PFS_BULK_FILE_FAILED. */
export function placeNow(body: Uint8Array, placement: Placement, files: OpenFiles): Placed {
  const chunks = verify(body, placement);
  try {
    for (const { file, pieces, offset } of writesOf(chunks, placement))
      files.writeNow(file as number, pieces, offset);
    return placed(chunks, placement);
  } finally {
    free(chunks, placement);
  }
}

function placed(chunks: readonly (Uint8Array | undefined)[], { wantsPlain }: Placement): Placed {
  const good = Uint8Array.from(chunks, (plain) => (plain === undefined ? 0 : 1));
  return wantsPlain === true ? { good, plain: together(chunks) } : { good };
}

function free(chunks: readonly (Uint8Array | undefined)[], { codec }: Placement): void {
  for (const [row, plain] of chunks.entries()) if (plain !== undefined) discardPlain(plain, codec[row]!);
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

interface Write {
  readonly file: FileName;
  readonly pieces: Uint8Array[];
  readonly offset: number;
}

/** Rows that stand one behind the other in a file are written together. */
function* writesOf(
  chunks: readonly (Uint8Array | undefined)[],
  { files, targets: { chunk, file, offset } }: Placement,
): Generator<Write> {
  let next: (Write & { readonly target: number }) | undefined;
  let end = 0;
  for (let row = 0; row < chunk.length; row++) {
    const plain = chunks[chunk[row]!];
    if (plain === undefined) continue;
    const [target, from] = [file[row]!, offset[row]!];
    const follows = target === next?.target && from === end && next.pieces.length < BULK_WRITE_PIECES_MAX;
    if (!follows) {
      if (next !== undefined) yield next;
      next = { target, file: files[target]!, pieces: [], offset: from };
    }
    next!.pieces.push(plain);
    end = from + plain.byteLength;
  }
  if (next !== undefined) yield next;
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
