/** Reading files, the same for a directory and a hub: only where names and chunks come from differs. */
import { refFromHex, refToHex } from "../packets/digest.ts";

import { hasCode } from "../packets/errors.ts";
import { invalidName } from "../packets/name.ts";
import { PARTS_PREFIX } from "../runtime/job/results.ts";
import { describeStream, execute } from "../runtime/stream/execute.ts";
import { walkStreams } from "../runtime/stream/walk.ts";
import type { NameRecord } from "../runtime/contracts/catalog.ts";
import type { ChunkSource } from "../runtime/contracts/chunks.ts";
import { SdkError, SdkErrorCode, UsageError } from "./errors.ts";
import type { FileInfo, FileSource, GetOptions, StreamPart } from "./packetfs.ts";
import { fileSource } from "../runtime/stream/ingest.ts";

/** Where names and chunks come from. */
export interface FileAccess {
  readonly source: ChunkSource;
  resolve(name: string): Promise<NameRecord | undefined>;
}

/** A name, or a root as 64 hexadecimal digits; a name goes first. Rejects with PFS_NOT_FOUND. */
export async function findFile(access: FileAccess, file: string): Promise<NameRecord> {
  const record = invalidName(file) === null ? await access.resolve(file) : undefined;
  if (record !== undefined) return record;
  const root = refFromHex(file);
  if (root === undefined) throw notFound(file);
  const { length } = await describeStream(access.source, root).catch((error: unknown) => {
    // Its first chunk is nowhere: nothing is stored under this root.
    throw hasCode(error, "PFS_CHUNK_MISSING") && error.data["ref"] === file.toLowerCase()
      ? notFound(file)
      : error;
  });
  return { name: file, root, length, version: 0, storedAt: 0 };
}

export async function* readFile(
  access: FileAccess,
  file: string,
  { range, signal }: GetOptions = {},
): AsyncGenerator<Uint8Array> {
  const { root, length } = await findFile(access, file);
  const start = range?.start ?? 0;
  const end = Math.min(range?.end ?? length, length);
  if (start > length || start > end) {
    throw new UsageError(
      `the range ${start}-${range?.end ?? ""} is outside of ${file}, which has ${length} bytes`,
    );
  }
  yield* execute(access.source, root, { start, end, ...(signal === undefined ? {} : { signal }) });
}

export async function* streamParts(access: FileAccess, file: string): AsyncGenerator<StreamPart> {
  const { root } = await findFile(access, file);
  for await (const { ref, depth, at, frame } of walkStreams(access.source, root)) {
    yield { ref: refToHex(ref), depth, at, frame };
  }
}

/** What jobs keep for their output files is listed only for those who ask for it by prefix. */
export function isListed(name: string, prefix = ""): boolean {
  return !name.startsWith(PARTS_PREFIX) || prefix.startsWith(PARTS_PREFIX);
}

export function fileInfo({ name, root, length, version, storedAt }: NameRecord): FileInfo {
  return { name, root: refToHex(root), length, version, storedAt };
}

/** The bytes of a source, in pieces. */
export function sourceBytes(source: FileSource, signal: AbortSignal | undefined): AsyncIterable<Uint8Array> {
  if (source instanceof Uint8Array) return oneOf(source);
  if (Symbol.asyncIterator in source) return source;
  return fileSource(source.path, signal);
}

async function* oneOf(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

/** Refuses what cannot name a file, before anything is read. */
export function checkName(name: string | undefined): void {
  if (name === undefined) return;
  const reason = invalidName(name);
  if (reason !== null)
    throw new SdkError(SdkErrorCode.nameInvalid, `${JSON.stringify(name)} cannot name a file: ${reason}`, {
      reason,
    });
}

export function notFound(file: string): SdkError {
  return new SdkError(SdkErrorCode.notFound, `there is no file called ${JSON.stringify(file)}`, { file });
}
