/**
 * What is remembered of a directory that was stored: under which root, and of each of its files who it was and when it changed
 * last. A file that is still the same one, and did not change, has the bytes that the root has. A file of this machine, made
 * again by the next put where it is lost, damaged or of a root that is no more.
 *
 *   OFFSET SIZE FIELD
 *   0      8    magic   and format
 *   8      8    readAt  when reading began, milliseconds since 1970
 *   16     32   root
 *   48     8    entries of the manifest
 *   56     …    of each entry 24 bytes: device, file, changed (nanoseconds); zeros where it is no file
 *   end    32   SHA-256 of all that
 */
import { readFile, utimes } from "node:fs/promises";
import { join } from "node:path";
import { isRefOf, refToHex, sha256 } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { FILE_SETTLED_MS, TREE_INDEXES_MAX } from "../limits.ts";
import { rememberFile } from "../remembered-files.ts";
import type { FileMark } from "./scan.ts";

const MAGIC = 0x31_58_53_46_50n;
const HEADER_BYTES = 56;
const MARK_WORDS = 3;
const DIGEST_BYTES = 32;

export interface KnownTree {
  readonly root: Ref;
  readonly entries: number;
  /** Whether the file at this index of the manifest is this one still, with the bytes that it had. */
  isUnchanged(index: number, mark: FileMark): boolean;
}

/** What is remembered by `key`; undefined where nothing is. */
export async function readTreeIndex(directory: string, key: string): Promise<KnownTree | undefined> {
  const path = join(directory, fileName(key));
  const file = await readFile(path).catch(() => undefined);
  if (file === undefined || file.byteLength < HEADER_BYTES + DIGEST_BYTES) return undefined;
  const body = new Uint8Array(file.subarray(0, -DIGEST_BYTES));
  if (!isRefOf(file.subarray(-DIGEST_BYTES), body)) return undefined;
  const view = new DataView(body.buffer);
  const entries = Number(view.getBigUint64(48, true));
  if (view.getBigUint64(0, true) !== MAGIC) return undefined;
  if (body.byteLength !== HEADER_BYTES + entries * MARK_WORDS * 8) return undefined;
  const settled = BigInt(Math.max(0, Math.floor(view.getFloat64(8, true)) - FILE_SETTLED_MS)) * 1_000_000n;
  const marks = new BigInt64Array(body.buffer, HEADER_BYTES);
  // The ones that are used stay.
  const now = new Date();
  await utimes(path, now, now).catch(() => undefined);
  return {
    root: body.slice(16, 48),
    entries,
    isUnchanged: (index, { device, file: number, changed }) =>
      marks[index * MARK_WORDS] === BigInt.asIntN(64, device) &&
      marks[index * MARK_WORDS + 1] === BigInt.asIntN(64, number) &&
      marks[index * MARK_WORDS + 2] === BigInt.asIntN(64, changed) &&
      // What was written to just before it was read may have been written to once more at the same time of its clock.
      changed > 0n &&
      changed < settled,
  };
}

/** Remembers which files the entries of a manifest are. Best effort: never rejects. */
export async function rememberTree(
  directory: string,
  key: string,
  tree: { readonly root: Ref; readonly readAt: number; readonly marks: readonly (FileMark | undefined)[] },
): Promise<void> {
  const { root, readAt, marks } = tree;
  const body = new Uint8Array(HEADER_BYTES + marks.length * MARK_WORDS * 8);
  const view = new DataView(body.buffer);
  view.setBigUint64(0, MAGIC, true);
  view.setFloat64(8, readAt, true);
  body.set(root, 16);
  view.setBigUint64(48, BigInt(marks.length), true);
  const words = new BigInt64Array(body.buffer, HEADER_BYTES);
  for (const [index, mark] of marks.entries()) {
    if (mark === undefined) continue;
    words[index * MARK_WORDS] = BigInt.asIntN(64, mark.device);
    words[index * MARK_WORDS + 1] = BigInt.asIntN(64, mark.file);
    words[index * MARK_WORDS + 2] = BigInt.asIntN(64, mark.changed);
  }
  const bytes = Buffer.concat([body, sha256(body)]);
  await rememberFile(directory, fileName(key), bytes, TREE_INDEXES_MAX);
}

/** The key of a directory of this machine, as it is stored in one place: a store or a hub. */
export function treeIndexKey(place: string, path: string): string {
  return refToHex(sha256(Buffer.from(`${place}\0${path}`))).slice(0, 32);
}

function fileName(key: string): string {
  return `${key}.tree`;
}
