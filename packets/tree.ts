/**
 * The manifest of a directory: what is in it and below it, in one order and one spelling, so that the same directory has the
 * same bytes on every machine. SPEC.md, section 13, is this file in prose.
 *
 *   OFFSET SIZE FIELD
 *   0      4    magic     the bytes PFT1
 *   4      4    owners    how many owners are named, 0 where nobody's are kept
 *   8      8    bytes     of the manifest
 *   16     8    entries   how many there are
 *   24     8    run       bytes of the run: all small files, one behind the other
 *   32     8    content   bytes of the run and of the large files behind it
 *   40     …              the owners, then the entries
 *
 * Names, paths and targets are bytes, here as strings of one character for each (latin1): they need not be any Unicode.
 */
import { PacketError, PacketErrorCode } from "./errors.ts";
import { readInteger, readInteger32, writeInteger, writeInteger32 } from "./integer.ts";
import {
  TREE_DEPTH_MAX,
  TREE_ENTRIES_MAX,
  TREE_MANIFEST_BYTES_MAX,
  TREE_NAME_BYTES_MAX,
  TREE_OWNERS_MAX,
  TREE_PATH_BYTES_MAX,
  TREE_RUN_FILE_BYTES_MAX,
  TREE_TARGET_BYTES_MAX,
} from "./limits.ts";

export const TREE_HEADER_BYTES = 40;
const MAGIC = 0x31544650;

export const TreeOffset = { magic: 0, owners: 4, bytes: 8, entries: 16, run: 24, content: 32 } as const;

export const TreeType = { FILE: 0, DIRECTORY: 1, SYMLINK: 2, LINK: 3 } as const;
export type TreeType = (typeof TreeType)[keyof typeof TreeType];

/** The twelve bits of a mode that are kept: permissions, setuid, setgid and sticky. */
export const TREE_MODE_MAX = 0o7777;
/** Seconds before or after 1970: microseconds of them are safe integers. */
const SECONDS_MAX = 9_000_000_000;
const MICROSECONDS = 1_000_000;
/** Entries that are decoded between two places at which decoding may be left for a while. */
const STEP_ENTRIES = 64;

export interface TreeEntry {
  readonly type: TreeType;
  /** Names in its path: 0 for the directory itself. */
  readonly depth: number;
  /** The last name of its path; empty for the directory itself. */
  readonly name: string;
  /** Of files and directories; 0 for links. */
  readonly mode: number;
  /** Microseconds since 1970; 0 for hard links. Finer ones cannot be given back to a file by all systems. */
  readonly mtime: number;
  /** Bytes of a file; 0 for others. */
  readonly length: number;
  /** What a symbolic link points to; empty for others. */
  readonly target: string;
  /** The index of the file that a hard link is another name of; 0 for others. */
  readonly link: number;
  /** Index of its owner; 0 where none are named. */
  readonly owner: number;
}

export interface TreeOwner {
  readonly user: number;
  readonly group: number;
  /** UTF-8 as bytes; empty where it is not known. */
  readonly userName: string;
  readonly groupName: string;
}

export interface TreeManifest {
  readonly entries: readonly TreeEntry[];
  readonly owners: readonly TreeOwner[];
  /** Of each entry, the index of the directory that it is in; -1 for the first one. */
  readonly parents: Int32Array;
  /** Of each file, where its bytes begin in the output of the whole stream; 0 for others. */
  readonly at: Float64Array;
  /** Bytes of the manifest, behind which the run begins, */
  readonly bytes: number;
  /** bytes of the run, */
  readonly runBytes: number;
  /** and of everything behind the manifest. */
  readonly contentBytes: number;
}

/** Whether a file stands in the run, with its neighbours. */
export function isInRun({ type, length }: Pick<TreeEntry, "type" | "length">): boolean {
  return type === TreeType.FILE && length <= TREE_RUN_FILE_BYTES_MAX;
}

/** The path of an entry, its names joined by "/"; empty for the directory itself. */
export function treePath(
  { entries, parents }: Pick<TreeManifest, "entries" | "parents">,
  index: number,
): string {
  const names: string[] = [];
  for (let at = index; at > 0; at = parents[at]!) names.push(entries[at]!.name);
  return names.reverse().join("/");
}

/** Why bytes are no name in a directory, in a few words, or null. */
export function invalidTreeName(name: string): string | null {
  if (name === "") return "an empty name";
  if (name === "." || name === "..") return `the name "${name}"`;
  if (name.length > TREE_NAME_BYTES_MAX) return `a name of more than ${TREE_NAME_BYTES_MAX} bytes`;
  return /[\0/]/.test(name) ? "a name with a slash or a zero byte" : null;
}

// ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * The manifest's bytes. `entries` are in order: the directory itself, then what is in it by the bytes of the names, each
 * directory followed by what is in it. Throws PFS_TREE_INVALID {reason, entry} for what is too much or too long.
 */
export function encodeTree(
  entries: readonly TreeEntry[],
  owners: readonly TreeOwner[] = [],
): Uint8Array<ArrayBuffer> {
  const writer = new ByteWriter();
  let runBytes = 0;
  let contentBytes = 0;
  for (const { user, group, userName, groupName } of owners) {
    writer.varint(user);
    writer.varint(group);
    writer.text(userName);
    writer.text(groupName);
  }
  const before = new PathBytes();
  let seconds = 0;
  for (const [index, entry] of entries.entries()) {
    const { type, length } = entry;
    const { shared, rest } = before.next(entry);
    writer.varint(shared);
    writer.text(rest);
    writer.byte(type);
    if (type === TreeType.LINK) writer.varint(index - entry.link);
    else {
      if (type !== TreeType.SYMLINK) writer.varint(entry.mode);
      const whole = Math.floor(entry.mtime / MICROSECONDS);
      writer.varint(zigzag(whole - seconds));
      writer.varint(entry.mtime - whole * MICROSECONDS);
      seconds = whole;
      if (type === TreeType.FILE) writer.varint(length);
      if (type === TreeType.SYMLINK) writer.text(entry.target);
      if (owners.length > 0) writer.varint(entry.owner);
    }
    contentBytes += length;
    if (isInRun(entry)) runBytes += length;
  }
  const body = writer.bytes();
  const bytes = new Uint8Array(TREE_HEADER_BYTES + body.byteLength);
  writeInteger32(bytes, TreeOffset.magic, MAGIC);
  writeInteger32(bytes, TreeOffset.owners, owners.length);
  writeInteger(bytes, TreeOffset.bytes, bytes.byteLength);
  writeInteger(bytes, TreeOffset.entries, entries.length);
  writeInteger(bytes, TreeOffset.run, runBytes);
  writeInteger(bytes, TreeOffset.content, contentBytes);
  bytes.set(body, TREE_HEADER_BYTES);
  // Whatever the caller got wrong shows here, and not on the machine that reads it.
  decodeTree(bytes);
  return bytes;
}

/** The path of one entry after the other, and what each shares with the one before. */
class PathBytes {
  readonly #names: string[] = [];
  #path = "";

  next({ depth, name }: TreeEntry): { readonly shared: number; readonly rest: string } {
    this.#names.length = Math.max(0, depth - 1);
    if (depth > 0) this.#names.push(name);
    const before = this.#path;
    const path = (this.#path = this.#names.join("/"));
    let shared = 0;
    while (shared < path.length && path.charCodeAt(shared) === before.charCodeAt(shared)) shared++;
    return { shared, rest: path.slice(shared) };
  }
}

class ByteWriter {
  #buffer: Buffer = Buffer.alloc(4096);
  #used = 0;

  byte(value: number): void {
    this.#reserve(1);
    this.#buffer[this.#used++] = value;
  }

  /** Seven bits a byte, the lowest first; the highest bit says that more follow. */
  varint(value: number): void {
    if (!Number.isSafeInteger(value) || value < 0)
      throw new RangeError(`${value} is no number of a manifest`);
    this.#reserve(VARINT_BYTES_MAX);
    let rest = value;
    for (; rest > 0x7f; rest = Math.floor(rest / 0x80)) this.#buffer[this.#used++] = (rest % 0x80) | 0x80;
    this.#buffer[this.#used++] = rest;
  }

  /** Its length and its bytes. */
  text(text: string): void {
    this.varint(text.length);
    this.#reserve(text.length);
    this.#used += this.#buffer.write(text, this.#used, "latin1");
  }

  bytes(): Uint8Array {
    return this.#buffer.subarray(0, this.#used);
  }

  #reserve(bytes: number): void {
    if (this.#used + bytes <= this.#buffer.byteLength) return;
    const larger = Buffer.alloc(Math.max(2 * this.#buffer.byteLength, this.#used + bytes));
    larger.set(this.#buffer);
    this.#buffer = larger;
  }
}

/** 2^53 has 54 bits, eight times seven. */
const VARINT_BYTES_MAX = 8;

function zigzag(value: number): number {
  return value < 0 ? -2 * value - 1 : 2 * value;
}

function unzigzag(value: number): number {
  return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
}

// ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

/** Bytes of the manifest that begins so, and of what follows it. Throws PFS_TREE_INVALID {reason, entry}. */
export function treeExtent(header: Uint8Array): { readonly bytes: number; readonly contentBytes: number } {
  if (header.byteLength < TREE_HEADER_BYTES) throw invalid("it is shorter than its header", 0);
  if (readInteger32(header, TreeOffset.magic) !== MAGIC) throw invalid("it does not begin with PFT1", 0);
  const bytes = readInteger(header, TreeOffset.bytes);
  if (bytes > TREE_MANIFEST_BYTES_MAX) throw invalid(`more than ${TREE_MANIFEST_BYTES_MAX} bytes`, 0);
  return { bytes, contentBytes: readInteger(header, TreeOffset.content) };
}

/** The manifest, with everything checked that can be wrong with one. Throws PFS_TREE_INVALID {reason, entry}. */
export function decodeTree(bytes: Uint8Array): TreeManifest {
  const steps = decodeTreeInSteps(bytes);
  for (;;) {
    const { done, value } = steps.next();
    if (done === true) return value;
  }
}

/** The same, which may be left for a while wherever it yields. */
export function* decodeTreeInSteps(bytes: Uint8Array): Generator<void, TreeManifest, undefined> {
  const extent = treeExtent(bytes);
  if (extent.bytes !== bytes.byteLength) throw invalid("its length is not what it says", 0);
  const count = readInteger(bytes, TreeOffset.entries);
  if (count === 0) throw invalid("it has no entry", 0);
  if (count > TREE_ENTRIES_MAX) throw invalid(`more than ${TREE_ENTRIES_MAX} entries`, 0);
  // An entry takes four bytes or more: what claims to have more of them gets no memory for them.
  if (count > bytes.byteLength) throw invalid("it ends before its entries do", 0);
  const reader = new EntryReader(bytes, readInteger32(bytes, TreeOffset.owners));
  const parents = new Int32Array(count);
  const entries: TreeEntry[] = [];
  for (let index = 0; index < count; index++) {
    if (index % STEP_ENTRIES === 0) yield;
    entries.push(reader.next(entries));
    parents[index] = reader.parent;
  }
  reader.end();
  const at = new Float64Array(count);
  const runBytes = readInteger(bytes, TreeOffset.run);
  const { contentBytes } = extent;
  let run = bytes.byteLength;
  let large = bytes.byteLength + runBytes;
  for (const [index, entry] of entries.entries()) {
    if (index % STEP_ENTRIES === 0) yield;
    if (entry.type !== TreeType.FILE) continue;
    at[index] = isInRun(entry) ? run : large;
    if (isInRun(entry)) run += entry.length;
    else large += entry.length;
    if (!Number.isSafeInteger(large)) throw invalid("files of more than 2^53 - 1 bytes", index);
  }
  if (run !== bytes.byteLength + runBytes)
    throw invalid("its run has another length than its small files", 0);
  if (large !== bytes.byteLength + contentBytes)
    throw invalid("its content has another length than its files", 0);
  return { entries, owners: reader.owners, parents, at, bytes: bytes.byteLength, runBytes, contentBytes };
}

/** A directory that what is read may stand in: how long its path is, and its entry's index. */
interface Above {
  readonly pathBytes: number;
  readonly index: number;
}

class EntryReader {
  readonly owners: readonly TreeOwner[];
  /** The index of the directory that the entry read last is in. */
  parent = -1;
  readonly #bytes: Buffer;
  #at = TREE_HEADER_BYTES;
  #index = 0;
  /** The path of the entry before. */
  readonly #path: Buffer = Buffer.alloc(TREE_PATH_BYTES_MAX);
  #pathBytes = 0;
  /** The entries whose paths are how this one's begins. */
  readonly #above: Above[] = [];
  #seconds = 0;
  #ownersUsed = 0;

  constructor(bytes: Uint8Array, owners: number) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (owners > TREE_OWNERS_MAX) throw invalid(`more than ${TREE_OWNERS_MAX} owners`, 0);
    const known = new Set<string>();
    this.owners = Array.from({ length: owners }, () => {
      const owner = {
        user: this.#varint(),
        group: this.#varint(),
        userName: this.#text(TREE_NAME_BYTES_MAX, "an owner's name"),
        groupName: this.#text(TREE_NAME_BYTES_MAX, "an owner's name"),
      };
      known.add(JSON.stringify(owner));
      return owner;
    });
    if (known.size < owners) throw invalid("an owner is named twice", 0);
  }

  next(entries: readonly TreeEntry[]): TreeEntry {
    const index = this.#index;
    const name = this.#name(entries);
    const depth = this.#above.length;
    const type = this.#byte() as TreeType;
    if (type > TreeType.LINK) throw this.#invalid("an unknown type or field");
    if (index === 0 && type !== TreeType.DIRECTORY) throw this.#invalid("the first entry is no directory");
    let link = 0;
    let mode = 0;
    let mtime = 0;
    let length = 0;
    let target = "";
    let owner = 0;
    if (type === TreeType.LINK) {
      link = index - this.#varint();
      if (link === index || entries[link]?.type !== TreeType.FILE)
        throw this.#invalid("a hard link to what is no file before it");
    } else {
      if (type !== TreeType.SYMLINK) mode = this.#varint();
      if (mode > TREE_MODE_MAX) throw this.#invalid("a mode of more than twelve bits");
      mtime = this.#mtime();
      if (type === TreeType.FILE) length = this.#varint();
      if (type === TreeType.SYMLINK) {
        target = this.#text(TREE_TARGET_BYTES_MAX, "a target");
        if (target === "" || target.includes("\0")) throw this.#invalid("a target that is none");
      }
      if (this.owners.length > 0) owner = this.#owner();
    }
    this.#above.push({ pathBytes: this.#pathBytes, index });
    this.#index++;
    return { type, depth, name, mode, mtime, length, target, link, owner };
  }

  end(): void {
    if (this.#at !== this.#bytes.byteLength) throw invalid("bytes behind its last entry", this.#index);
    if (this.#ownersUsed !== this.owners.length) throw invalid("an owner of nothing", this.#index);
  }

  /** The last name of the next path; what stands above it is settled. */
  #name(entries: readonly TreeEntry[]): string {
    const shared = this.#varint();
    const rest = this.#varint();
    const path = this.#path;
    const pathBytes = shared + rest;
    if (shared > this.#pathBytes) throw this.#invalid("a path that shares more than there is");
    if (pathBytes > TREE_PATH_BYTES_MAX)
      throw this.#invalid(`a path of more than ${TREE_PATH_BYTES_MAX} bytes`);
    if (this.#at + rest > this.#bytes.byteLength) throw this.#invalid("it ends within an entry");
    if (this.#index === 0) {
      if (pathBytes !== 0) throw this.#invalid("the first entry is not the directory itself");
      this.parent = -1;
      return "";
    }
    if (rest === 0) throw this.#invalid("paths out of order");
    if (shared < this.#pathBytes && rank(path[shared]!) >= rank(this.#bytes[this.#at]!))
      throw this.#invalid(
        path[shared] === this.#bytes[this.#at]
          ? "a path that shares less than there is"
          : "paths out of order",
      );
    this.#bytes.copy(path, shared, this.#at, this.#at + rest);
    this.#at += rest;
    this.#pathBytes = pathBytes;
    const above = this.#above;
    const isAbove = (directory: Above): boolean =>
      directory.pathBytes === 0 ||
      (directory.pathBytes <= shared &&
        directory.pathBytes < pathBytes &&
        path[directory.pathBytes] === SLASH);
    while (!isAbove(above.at(-1)!)) above.pop();
    const { index, pathBytes: begins } = above.at(-1)!;
    this.parent = index;
    const name = path.toString("latin1", begins === 0 ? 0 : begins + 1, pathBytes);
    const [first = ""] = name.split("/", 1);
    const reason = invalidTreeName(first);
    if (reason !== null) throw this.#invalid(reason);
    if (first !== name) throw this.#invalid("a path in a directory that is not there");
    if (entries[index]!.type !== TreeType.DIRECTORY) throw this.#invalid("a path below what is no directory");
    if (above.length > TREE_DEPTH_MAX) throw this.#invalid(`a path of more than ${TREE_DEPTH_MAX} names`);
    return name;
  }

  #mtime(): number {
    const seconds = (this.#seconds += unzigzag(this.#varint()));
    const microseconds = this.#varint();
    if (Math.abs(seconds) > SECONDS_MAX || microseconds >= MICROSECONDS)
      throw this.#invalid("a time that is none");
    return seconds * MICROSECONDS + microseconds;
  }

  #owner(): number {
    const owner = this.#varint();
    if (owner > this.#ownersUsed || owner >= this.owners.length) throw this.#invalid("owners out of order");
    if (owner === this.#ownersUsed) this.#ownersUsed++;
    return owner;
  }

  #byte(): number {
    if (this.#at >= this.#bytes.byteLength) throw this.#invalid("it ends within an entry");
    return this.#bytes[this.#at++]!;
  }

  #varint(): number {
    let value = 0;
    let scale = 1;
    for (let count = 0; count < VARINT_BYTES_MAX; count++, scale *= 0x80) {
      const byte = this.#byte();
      value += (byte & 0x7f) * scale;
      if (byte > 0x7f) continue;
      if (byte === 0 && count > 0) throw this.#invalid("a number in more bytes than it takes");
      if (!Number.isSafeInteger(value)) break;
      return value;
    }
    throw this.#invalid("a number above 2^53 - 1");
  }

  #text(bytesMax: number, what: string): string {
    const length = this.#varint();
    if (length > bytesMax) throw this.#invalid(`${what} of more than ${bytesMax} bytes`);
    if (this.#at + length > this.#bytes.byteLength) throw this.#invalid("it ends within an entry");
    return this.#bytes.toString("latin1", this.#at, (this.#at += length));
  }

  #invalid(reason: string): PacketError {
    return invalid(reason, this.#index);
  }
}

const SLASH = 0x2f;

/** "/" comes before all bytes that a name can have: so what is in a directory stands right behind it. */
function rank(byte: number): number {
  return byte === SLASH ? 0 : byte;
}

function invalid(reason: string, entry: number): PacketError {
  return new PacketError(PacketErrorCode.invalidTree, `this is no manifest of a directory: ${reason}`, {
    reason,
    entry,
  });
}
