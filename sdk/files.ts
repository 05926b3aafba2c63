/** Reading files, the same for a directory and a hub: only where names and chunks come from differs. */
import { refFromHex, refToHex } from "../packets/digest.ts";
import type { Ref } from "../packets/digest.ts";
import { hasCode } from "../packets/errors.ts";
import { invalidName } from "../packets/name.ts";
import { PARTS_PREFIX } from "../runtime/job/results.ts";
import { describeStream, execute } from "../runtime/stream/execute.ts";
import { walkStreams } from "../runtime/stream/walk.ts";
import type { Catalog, NameRecord } from "../runtime/contracts/catalog.ts";
import type { ChunkSource } from "../runtime/contracts/chunks.ts";
import { SdkError, SdkErrorCode, UsageError } from "./errors.ts";
import type { FileInfo, FileSource, GetOptions, StreamPart } from "./packetfs.ts";
import { fileSource, invalidInput } from "../runtime/stream/ingest.ts";

/** Where names and chunks come from. */
export interface FileAccess {
  readonly source: ChunkSource;
  readonly catalog: Pick<Catalog, "resolve" | "history" | "findRoots">;
}

/** A root's first digits name it where so many are given and no other root begins with them. */
const ROOT_DIGITS_LEAST = 8;
const SHORT_ROOT = new RegExp(`^[0-9a-f]{${ROOT_DIGITS_LEAST},63}$`, "i");
const VERSION_OF_NAME = /^(.+)@([1-9]\d{0,14})$/s;
const CANDIDATES_MAX = 8;

/**
 * What a text names. 64 hexadecimal digits are a root and nothing else. Otherwise a name comes first, then `NAME@3`, a kept
 * version of a name, then a root by its first digits. Rejects with PFS_NOT_FOUND and PFS_ROOT_AMBIGUOUS.
 */
export async function findFile(access: FileAccess, file: string): Promise<NameRecord> {
  const root = refFromHex(file);
  if (root !== undefined) return await findRoot(access, root, file);
  const record = invalidName(file) === null ? await access.catalog.resolve(file) : undefined;
  return record ?? (await findVersion(access, file)) ?? (await findShortRoot(access, file));
}

/** Whether a text may name a version or a root by its first digits; it may be a name all the same. */
export function isVersionOrShortRoot(file: string): boolean {
  return VERSION_OF_NAME.test(file) || SHORT_ROOT.test(file);
}

/** The versions of a name that are still kept, the latest first. Rejects with PFS_NOT_FOUND. */
export async function fileHistory(access: FileAccess, name: string): Promise<FileInfo[]> {
  const records = invalidName(name) === null ? await access.catalog.history(name) : [];
  if (records.length === 0) throw notFound(name);
  return records.map(fileInfo);
}

async function findRoot(access: FileAccess, root: Ref, file: string): Promise<NameRecord> {
  const { length = 0 } = await describeStream(access.source, root).catch((error: unknown) => {
    // Its first chunk is nowhere: nothing is stored under this root.
    throw hasCode(error, "PFS_CHUNK_MISSING") && error.data["ref"] === refToHex(root)
      ? notFound(file)
      : error;
  });
  return { name: refToHex(root), root, length, version: 0, storedAt: 0 };
}

async function findVersion(access: FileAccess, file: string): Promise<NameRecord | undefined> {
  const [, name = "", version] = VERSION_OF_NAME.exec(file) ?? [];
  if (invalidName(name) !== null) return undefined;
  const kept = await access.catalog.history(name);
  const record = kept.find((each) => each.version === Number(version));
  if (record !== undefined || kept.length === 0) return record;
  const numbers = kept.map((each) => each.version).join(", ");
  throw notFound(file, `version ${version} of ${JSON.stringify(name)} is not kept; there is ${numbers}`);
}

async function findShortRoot(access: FileAccess, file: string): Promise<NameRecord> {
  const digits = file.toLowerCase();
  const found = SHORT_ROOT.test(file) ? await access.catalog.findRoots(digits, CANDIDATES_MAX) : [];
  const [record] = found;
  if (record === undefined) throw notFound(file);
  if (found.length === 1) return { ...record, name: refToHex(record.root), version: 0, storedAt: 0 };
  const candidates = found.map(({ root }) => refToHex(root)).join(" ");
  const shown = found.map(({ root, name }) => `${refToHex(root).slice(0, digits.length + 4)} (${name})`);
  throw new SdkError(SdkErrorCode.rootAmbiguous, `several roots begin with ${file}: ${shown.join(", ")}`, {
    file,
    candidates,
  });
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

/** Refuses what cannot name a file, before anything is read. */
export function checkName(name: string | undefined): void {
  if (name === undefined) return;
  const reason = invalidName(name);
  if (reason !== null)
    throw new SdkError(SdkErrorCode.nameInvalid, `${JSON.stringify(name)} cannot name a file: ${reason}`, {
      reason,
    });
}

export function notFound(
  file: string,
  message: string = `there is no file called ${JSON.stringify(file)}`,
): SdkError {
  return new SdkError(SdkErrorCode.notFound, message, { file });
}
