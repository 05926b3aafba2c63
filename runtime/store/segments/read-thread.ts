/** A thread that reads runs of records, verifies their chunks, and hands them over or writes them to a file. */
import { readSync } from "node:fs";
import { parentPort } from "node:worker_threads";
import { Codec, decompress, discardPlain } from "../../../packets/codec.ts";
import { isRefOf, refAt } from "../../../packets/digest.ts";
import { messageOf } from "../../../packets/errors.ts";
import { systemCode } from "../../errors.ts";
import { READ_RUN_BYTES_MAX } from "../../limits.ts";
import { writeAllSync } from "../../write-all.ts";
import { PIECE_NUMBERS, ROW_NUMBERS } from "./read-protocol.ts";
import type { FromReadThread, ReadAnswer, RunToRead } from "./read-protocol.ts";

const port = parentPort!;
/** What nobody gets as it stands in the file is read into the same memory again and again. */
const scratch = new Uint8Array(READ_RUN_BYTES_MAX);

port.on("message", (run: RunToRead) => {
  const { id } = run;
  try {
    const answer = read(run);
    say(answer, [answer.bytes.buffer, answer.plain.buffer]);
  } catch (error) {
    say({ id, code: systemCode(error), message: messageOf(error) }, []);
  }
});

function say(answer: FromReadThread, buffers: ArrayBuffer[]): void {
  port.postMessage(answer, buffers);
}

function read(run: RunToRead): ReadAnswer {
  const { id, file, offset, length, rows, keepsBodies, target } = run;
  const isKept = target === undefined && (keepsBodies || hasPlain(rows));
  // A run of one chunk alone may be longer.
  const memory = isKept || length > scratch.byteLength ? fresh(length) : scratch.subarray(0, length);
  const bytes = memory.subarray(0, readFully(file, memory, offset));
  const chunks = verify(bytes, run);
  const good = Uint8Array.from(chunks, (chunk) => (chunk === undefined ? 0 : 1));
  if (target !== undefined) writePieces(chunks, target);
  const isHandedOver = target === undefined && !keepsBodies;
  const plain = isHandedOver ? together(chunks, rows) : fresh(0);
  for (const [row, chunk] of chunks.entries())
    if (chunk !== undefined) discardPlain(chunk, rows[row * ROW_NUMBERS + 3]!);
  return { id, bytes: isKept ? bytes : fresh(0), good, plain };
}

/** The plain bytes of each chunk; undefined for those that are not what their ref says. */
function verify(bytes: Uint8Array, { refs, rows }: RunToRead): (Uint8Array | undefined)[] {
  const chunks: (Uint8Array | undefined)[] = [];
  for (let at = 0; at < rows.length; at += ROW_NUMBERS) {
    const from = rows[at]!;
    const chunk = decompress(bytes.subarray(from, from + rows[at + 1]!), rows[at + 3]!, rows[at + 2]!);
    chunks.push(chunk !== undefined && isRefOf(refAt(refs, chunks.length), chunk) ? chunk : undefined);
  }
  return chunks;
}

/** The chunks that had to be decompressed, in one buffer: those that zlib makes cannot be handed over. */
function together(chunks: readonly (Uint8Array | undefined)[], rows: Uint32Array): Uint8Array<ArrayBuffer> {
  const all = fresh(bytesOfCompressed(rows));
  let at = 0;
  for (const [row, chunk] of chunks.entries()) {
    if (rows[row * ROW_NUMBERS + 3] === Codec.plain) continue;
    if (chunk !== undefined) all.set(chunk, at);
    at += rows[row * ROW_NUMBERS + 2]!;
  }
  return all;
}

/** Pieces that stand one behind the other in the file are written together. */
function writePieces(
  chunks: readonly (Uint8Array | undefined)[],
  { file, pieces }: NonNullable<RunToRead["target"]>,
): void {
  let together: Uint8Array[] = [];
  let start = 0;
  let end = 0;
  for (let row = 0; row < pieces.length; row += PIECE_NUMBERS) {
    const chunk = chunks[pieces[row]!];
    const from = pieces[row + 1]!;
    const bytes = pieces[row + 2]!;
    const at = pieces[row + 3]!;
    // Whoever wants more of a chunk than it has is told so by the caller.
    if (chunk === undefined || from + bytes > chunk.byteLength) continue;
    if (at !== end) {
      writeAllSync(file, together, start);
      together = [];
      start = at;
    }
    together.push(chunk.subarray(from, from + bytes));
    end = at + bytes;
  }
  writeAllSync(file, together, start);
}

function hasPlain(rows: Uint32Array): boolean {
  for (let at = 0; at < rows.length; at += ROW_NUMBERS) if (rows[at + 3] === Codec.plain) return true;
  return false;
}

/** Plain bytes of all chunks that are stored compressed. */
function bytesOfCompressed(rows: Uint32Array): number {
  let bytes = 0;
  for (let at = 0; at < rows.length; at += ROW_NUMBERS) {
    if (rows[at + 3] !== Codec.plain) bytes += rows[at + 2]!;
  }
  return bytes;
}

/** Not zeroed. */
function fresh(bytes: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.allocUnsafeSlow(bytes).buffer);
}

/** The bytes that were there. */
function readFully(file: number, memory: Uint8Array, offset: number): number {
  let done = 0;
  while (done < memory.byteLength) {
    const count = readSync(file, memory, done, memory.byteLength - done, offset + done);
    if (count === 0) break;
    done += count;
  }
  return done;
}
