/** Writes buffers to an open file, all of them. */
import { writev, writevSync } from "node:fs";
import { promisify } from "node:util";

const writevAsync = promisify(writev);
/** What systems take at once. */
const BUFFERS_MAX = 1024;

/**
 * Writes all of `buffers`, back to back, at `position` of the file with this descriptor, or where it stands now. Rejects as the system does,
 * which takes a part before it refuses the rest: some of them may have been written then.
 */
export async function writeAll(
  file: number,
  buffers: readonly Uint8Array[],
  position: number | undefined,
): Promise<void> {
  let at = position;
  for (let rest = nonEmpty(buffers); rest.length > 0;) {
    const { bytesWritten } = await writevAsync(file, rest.slice(0, BUFFERS_MAX), at);
    if (at !== undefined) at += bytesWritten;
    rest = behind(rest, bytesWritten);
  }
}

/** As `writeAll`, and stands still meanwhile. */
export function writeAllSync(file: number, buffers: readonly Uint8Array[], position: number): void {
  let at = position;
  for (let rest = nonEmpty(buffers); rest.length > 0;) {
    const bytes = writevSync(file, rest.slice(0, BUFFERS_MAX), at);
    at += bytes;
    rest = behind(rest, bytes);
  }
}

function nonEmpty(buffers: readonly Uint8Array[]): readonly Uint8Array[] {
  return buffers.filter(({ byteLength }) => byteLength > 0);
}

/** What is left of `buffers` behind their first `count` bytes. Throws where the system took none without a word. */
function behind(buffers: readonly Uint8Array[], count: number): readonly Uint8Array[] {
  if (count === 0) throw Object.assign(new Error("no more bytes are taken"), { code: "ENOSPC" });
  let skipped = count;
  for (const [index, buffer] of buffers.entries()) {
    if (skipped < buffer.byteLength) return [buffer.subarray(skipped), ...buffers.slice(index + 1)];
    skipped -= buffer.byteLength;
  }
  return [];
}
