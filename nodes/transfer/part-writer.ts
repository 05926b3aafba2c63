/** A file that is written in pieces at their places, neighbours together, and that has holes where zeros would be. */
import type { FileHandle } from "node:fs/promises";
import { messageOf } from "../../packets/errors.ts";
import { systemCode } from "../../runtime/errors.ts";
import { WireError, WireErrorCode } from "../errors.ts";
import { FILE_WRITE_BYTES, FILE_WRITE_PIECES_MAX } from "../limits.ts";

/** What of an open file is used; its descriptor by the thread that places what comes. */
export type PartHandle = Pick<FileHandle, "fd" | "read" | "writev" | "truncate" | "sync">;

const ZEROS = new Uint8Array(FILE_WRITE_BYTES);

/** Does what a file is needed for. Rejects with PFS_BULK_FILE_FAILED {file, system}. */
export async function usingFile<Result>(name: string, use: () => Promise<Result>): Promise<Result> {
  try {
    return await use();
  } catch (error) {
    if (error instanceof WireError) throw error;
    const data = { file: name, system: systemCode(error) };
    const text = `a file cannot be used: ${messageOf(error)}`;
    throw new WireError(WireErrorCode.bulkFileFailed, text, data, { cause: error });
  }
}

/** As many bytes as there are from there on, up to all of `memory`. Rejects as the system does. */
export async function readAt(
  handle: Pick<PartHandle, "read">,
  memory: Uint8Array,
  from: number,
): Promise<number> {
  let at = 0;
  while (at < memory.byteLength) {
    const { bytesRead } = await handle.read(memory, at, memory.byteLength - at, from + at);
    if (bytesRead === 0) break;
    at += bytesRead;
  }
  return at;
}

/** All of the pieces, one behind the other. Rejects as the system does. */
export async function writeAt(
  handle: Pick<PartHandle, "writev">,
  pieces: readonly Uint8Array[],
  from: number,
): Promise<void> {
  let rest = pieces.filter(({ byteLength }) => byteLength > 0);
  let at = from;
  while (rest.length > 0) {
    let { bytesWritten } = await handle.writev(rest, at);
    at += bytesWritten;
    while (rest.length > 0 && bytesWritten >= rest[0]!.byteLength) bytesWritten -= rest.shift()!.byteLength;
    if (bytesWritten > 0) rest = [rest[0]!.subarray(bytesWritten), ...rest.slice(1)];
  }
}

export function isZero(bytes: Uint8Array): boolean {
  if (bytes[0] !== 0) return false;
  for (let at = 0; at < bytes.byteLength; at += ZEROS.byteLength) {
    const some = bytes.subarray(at, at + ZEROS.byteLength);
    if (Buffer.compare(some, ZEROS.subarray(0, some.byteLength)) !== 0) return false;
  }
  return true;
}

export class PartWriter {
  readonly #handle: PartHandle;
  readonly #name: string;
  /** Whether nothing but zeros stands where nothing was written. */
  readonly #isBlank: boolean;
  readonly #onWritten: (from: number, end: number) => void;
  #pieces: Uint8Array[] = [];
  #from = 0;
  #bytes = 0;

  constructor(
    handle: PartHandle,
    name: string,
    isBlank: boolean,
    onWritten: (from: number, end: number) => void,
  ) {
    this.#handle = handle;
    this.#name = name;
    this.#isBlank = isBlank;
    this.#onWritten = onWritten;
  }

  /** Bytes that stay as they are until they are written: `flush` says when, or the next pieces do. */
  async write(bytes: Uint8Array, at: number): Promise<void> {
    if (this.#isBlank && isZero(bytes)) return this.#onWritten(at, at + bytes.byteLength);
    const isNext = at === this.#from + this.#bytes && this.#pieces.length < FILE_WRITE_PIECES_MAX;
    if (!isNext || this.#bytes >= FILE_WRITE_BYTES) await this.flush();
    if (this.#pieces.length === 0) this.#from = at;
    this.#pieces.push(bytes);
    this.#bytes += bytes.byteLength;
  }

  /** So many zeros: where nothing else stands, nothing is written. */
  async zeros(from: number, end: number): Promise<void> {
    if (!this.#isBlank) await this.#makeZero(from, end);
    this.#onWritten(from, end);
  }

  async flush(): Promise<void> {
    const pieces = this.#pieces;
    const [from, end] = [this.#from, this.#from + this.#bytes];
    this.#pieces = [];
    this.#bytes = 0;
    if (pieces.length === 0) return;
    await usingFile(this.#name, () => writeAt(this.#handle, pieces, from));
    this.#onWritten(from, end);
  }

  async #makeZero(from: number, end: number): Promise<void> {
    await usingFile(this.#name, async () => {
      const memory = new Uint8Array(Math.min(FILE_WRITE_BYTES, end - from));
      for (let at = from; at < end; at += memory.byteLength) {
        const some = memory.subarray(0, Math.min(memory.byteLength, end - at));
        const read = await readAt(this.#handle, some, at);
        if (read === 0) return;
        if (!isZero(some.subarray(0, read))) await writeAt(this.#handle, [ZEROS.subarray(0, read)], at);
      }
    });
  }
}
