/** Finding a stored file by what people call it: the same for a directory, a hub and its clients. */
import { refFromHex, refToHex } from "../packets/digest.ts";
import type { Ref } from "../packets/digest.ts";
import { hasCode } from "../packets/errors.ts";
import { invalidName, versionOfName } from "../packets/name.ts";
import type { Catalog, NameRecord } from "./contracts/catalog.ts";
import type { ChunkSource } from "./contracts/chunks.ts";
import { FileError, FileErrorCode } from "./errors.ts";
import { describeStream } from "./stream/execute.ts";

/** Where names and chunks come from. */
export interface StoredFiles {
  readonly source: ChunkSource;
  readonly catalog: Pick<Catalog, "resolve" | "history" | "findRoots">;
}

/** A root's first digits name it where so many are given and no other root begins with them. */
const ROOT_DIGITS_LEAST = 8;
const SHORT_ROOT = new RegExp(`^[0-9a-f]{${ROOT_DIGITS_LEAST},63}$`, "i");
const CANDIDATES_MAX = 8;

/**
 * What a text names. 64 hexadecimal digits are a root and nothing else. Otherwise a name comes first, then `NAME@3`, a kept
 * version of a name, then a root by its first digits. Rejects with PFS_NOT_FOUND {file} or PFS_ROOT_AMBIGUOUS {file, candidates},
 * and as reading does.
 */
export async function findFile(files: StoredFiles, file: string): Promise<NameRecord> {
  const root = refFromHex(file);
  if (root !== undefined) return await findRoot(files, root, file);
  const record = invalidName(file) === null ? await files.catalog.resolve(file) : undefined;
  return record ?? (await findVersion(files, file)) ?? (await findShortRoot(files, file));
}

async function findRoot(files: StoredFiles, root: Ref, file: string): Promise<NameRecord> {
  const { length = 0 } = await describeStream(files.source, root).catch((error: unknown) => {
    // Its first chunk is nowhere: nothing is stored under this root.
    throw hasCode(error, "PFS_CHUNK_MISSING") && error.data["ref"] === refToHex(root)
      ? fileNotFound(file)
      : error;
  });
  return { name: refToHex(root), root, length, version: 0, storedAt: 0 };
}

async function findVersion(files: StoredFiles, file: string): Promise<NameRecord | undefined> {
  const read = versionOfName(file);
  if (read === undefined) return undefined;
  const { name, version } = read;
  const kept = await files.catalog.history(name);
  const record = kept.find((each) => each.version === version);
  if (record !== undefined || kept.length === 0) return record;
  const numbers = kept.map((each) => each.version).join(", ");
  throw fileNotFound(file, `version ${version} of ${JSON.stringify(name)} is not kept; there is ${numbers}`);
}

async function findShortRoot(files: StoredFiles, file: string): Promise<NameRecord> {
  const digits = file.toLowerCase();
  const found = SHORT_ROOT.test(file) ? await files.catalog.findRoots(digits, CANDIDATES_MAX) : [];
  const [record] = found;
  if (record === undefined) throw fileNotFound(file);
  if (found.length === 1) return { ...record, name: refToHex(record.root), version: 0, storedAt: 0 };
  const candidates = found.map(({ root }) => refToHex(root)).join(" ");
  const shown = found.map(({ root, name }) => `${refToHex(root).slice(0, digits.length + 4)} (${name})`);
  throw new FileError(FileErrorCode.rootAmbiguous, `several roots begin with ${file}: ${shown.join(", ")}`, {
    file,
    candidates,
  });
}

/** `message` says why, where it is more than that nothing has the name. */
export function fileNotFound(
  file: string,
  message: string = `there is no file called ${JSON.stringify(file)}`,
): FileError {
  return new FileError(FileErrorCode.notFound, message, { file });
}
