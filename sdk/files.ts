/** Reading files, the same for a directory and a hub: only where names and chunks come from differs. */
import { refKey, refToHex } from "../packets/digest.ts";
import type { Ref } from "../packets/digest.ts";
import { hasCode } from "../packets/errors.ts";
import { Op } from "../packets/layout.ts";
import { invalidName } from "../packets/name.ts";
import { lengthAt, opAt, packetCount, refOf } from "../packets/packet.ts";
import { PARTS_PREFIX } from "../runtime/job/results.ts";
import { execute, HeldFile } from "../runtime/stream/execute.ts";
import { walkStreams } from "../runtime/stream/walk.ts";
import type { NameRecord } from "../runtime/contracts/catalog.ts";
import type { ChunkStore } from "../runtime/contracts/chunks.ts";
import type { JobInput } from "../runtime/contracts/jobs.ts";
import { PROGRAM_FILES_MAX } from "../runtime/limits.ts";
import { invalidFileName } from "../runtime/program/manifest.ts";
import { fileNotFound, findFile } from "../runtime/find-file.ts";
import type { StoredFiles } from "../runtime/find-file.ts";
import { SdkError, SdkErrorCode, UsageError } from "./errors.ts";
import type { FileInfo, FileSource, GetOptions, StreamPart, TransferCost } from "./packetfs.ts";
import { fileSource, invalidInput } from "../runtime/stream/ingest.ts";

/** The versions of a name that are still kept, the latest first. Rejects with PFS_NOT_FOUND. */
export async function fileHistory(files: StoredFiles, name: string): Promise<FileInfo[]> {
  const records = invalidName(name) === null ? await files.catalog.history(name) : [];
  if (records.length === 0) throw fileNotFound(name);
  return records.map(fileInfo);
}

/** Throws PFS_USAGE for files that a program cannot have by these names. */
export function checkFiles(files: Readonly<Record<string, string>>): void {
  const names = Object.keys(files);
  if (names.length > PROGRAM_FILES_MAX)
    throw new UsageError(`a program has at most ${PROGRAM_FILES_MAX} files beside those that it reads`);
  for (const name of names) {
    const reason = invalidFileName(name);
    if (reason !== null)
      throw new UsageError(`a program cannot have a file as ${JSON.stringify(name)}: ${reason}`);
  }
}

/** Those that stand for stored files, by the same names. Rejects with PFS_NOT_FOUND or PFS_ROOT_AMBIGUOUS. */
export async function findFiles(
  stored: StoredFiles,
  files: Readonly<Record<string, string>>,
): Promise<Record<string, JobInput>> {
  const found = Object.entries(files).map(
    async ([name, file]) => [name, await findFile(stored, file)] as const,
  );
  return Object.fromEntries(await Promise.all(found));
}

export async function* readFile(
  files: StoredFiles,
  file: string,
  { range, signal }: GetOptions = {},
): AsyncGenerator<Uint8Array> {
  const bytes = await findBytes(files, file, range);
  yield* readBytes(files, bytes, signal);
}

/** Bytes of what a root yields. */
export interface FoundBytes {
  readonly root: Ref;
  readonly start: number;
  readonly end: number;
  /** Whether that is all that it yields. */
  readonly isWhole: boolean;
  /** What it is stored as; undefined where it was asked for by its root. */
  readonly name?: string | undefined;
}

export function readBytes(
  { source }: Pick<StoredFiles, "source">,
  { root, start, end }: FoundBytes,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  return execute(source, root, { start, end, signal });
}

/** The bytes of a file that are meant, all of them where there is no range. Throws PFS_USAGE for those that it has not. */
export function rangeIn(
  range: GetOptions["range"],
  length: number,
  file: string,
): { readonly start: number; readonly end: number } {
  const start = range?.start ?? 0;
  const end = Math.min(range?.end ?? length, length);
  if (start <= length && start <= end) return { start, end };
  throw new UsageError(
    `the range ${start}-${range?.end ?? ""} is outside of ${file}, which has ${length} bytes`,
  );
}

/** The bytes that a text names, a path in a stored directory too; a range of them. Throws PFS_USAGE for one outside of them. */
export async function findBytes(
  files: StoredFiles,
  file: string,
  range: GetOptions["range"],
): Promise<FoundBytes> {
  const { root, at, length, isWhole, name } = await findExtent(files, file);
  const { start, end } = rangeIn(range, length, file);
  return { root, start: at + start, end: at + end, isWhole: isWhole && start === 0 && end === length, name };
}

interface Extent extends Pick<FoundBytes, "root" | "isWhole" | "name"> {
  readonly at: number;
  readonly length: number;
}

async function findExtent(files: StoredFiles, file: string): Promise<Extent> {
  try {
    const { root, length, name, version } = await findFile(files, file);
    return { root, length, at: 0, isWhole: true, name: version === 0 ? undefined : name };
  } catch (error) {
    if (!file.includes("/") || !hasCode(error, "PFS_NOT_FOUND")) throw error;
    const { findInTree } = await import("./trees.ts");
    return { ...(await findInTree(files, file)), isWhole: false };
  }
}

export async function* streamParts(files: StoredFiles, file: string): AsyncGenerator<StreamPart> {
  const { root } = await findFile(files, file);
  for await (const { ref, depth, at, frame } of walkStreams(files.source, root)) {
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

/** The bytes of a source, in pieces. Throws PFS_INPUT_INVALID for what has none, which only the compiler refuses. */
export function sourceBytes(source: FileSource, signal: AbortSignal | undefined): AsyncIterable<Uint8Array> {
  if (source instanceof Uint8Array) return oneOf(source);
  if (typeof source !== "object" || source === null)
    throw invalidInput(`it is ${source === null ? "null" : `a ${typeof source}`}`);
  if (Symbol.asyncIterator in source) return source;
  if (typeof source.path === "string") return fileSource(source.path, signal);
  throw invalidInput("it is another object");
}

async function* oneOf(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

/** Questions about so many chunks are asked at once. */
const HAS_AT_ONCE = 4096;

/** What storing a file of this machine would add to a store here. Rejects as reading the file does. */
export async function costOfStoring(
  store: Pick<ChunkStore, "has">,
  path: string,
  signal: AbortSignal | undefined,
): Promise<TransferCost> {
  await using held = await HeldFile.open(path, { signal });
  const chunks = new Map<string, { readonly ref: Ref; readonly bytes: number }>();
  for await (const { ref, frame } of walkStreams(held, held.root, signal)) {
    chunks.set(refKey(ref), { ref, bytes: frame.byteLength });
    for (let index = 0; index < packetCount(frame); index++) {
      if (opAt(frame, index) !== Op.COPY) continue;
      const named = refOf(frame, index);
      chunks.set(refKey(named), { ref: named, bytes: lengthAt(frame, index) });
    }
  }
  const all = [...chunks.values()];
  let newBytes = 0;
  for (let from = 0; from < all.length; from += HAS_AT_ONCE) {
    const some = all.slice(from, from + HAS_AT_ONCE);
    const there = await store.has(Buffer.concat(some.map(({ ref }) => ref)));
    some.forEach(({ bytes }, index) => (newBytes += there[index] === 1 ? 0 : bytes));
  }
  const { root, length } = held;
  return { root: refToHex(root), length, newBytes, wireBytes: { sent: 0, received: 0 }, exact: true };
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
