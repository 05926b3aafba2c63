/**
 * What is there of a root in a file that is not whole, so that whoever comes after a killed process goes on: the streams that
 * came, chunks that stand nowhere in the file as a whole, and which places were written. Beside the file, as entries one behind
 * the other:
 *
 *     PFSPART1 root check │ kind 0 0 0 bytes check │ … │ kind 0 0 0 bytes check │ … │
 *
 * Integers are little-endian, of 4 bytes, and those of ranges of 8; a check is the CRC-32 of the entry, begun with that of the head, so that nothing of
 * another root's journal counts. It is read up to the first entry that is not whole. Nothing in it is believed: chunks have their
 * refs, and places are read again (received-file.ts), since after a loss of power they may be here and the bytes not.
 */
import { constants } from "node:fs";
import { open, rm } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { crc32 } from "node:zlib";
import { isRefOf, refKey, sha256 } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { readInteger, readInteger32, writeInteger, writeInteger32 } from "../../packets/integer.ts";
import { REF_BYTES } from "../../packets/layout.ts";
import { CHUNK_BYTES_MAX } from "../../packets/limits.ts";
import { PRIVATE_FILE_MODE } from "../../runtime/durable-file.ts";
import {
  FILE_KEPT_BYTES_MAX,
  FILE_KEPT_CACHE_BYTES,
  FILE_KEPT_CHUNKS_MAX,
  FILE_NOTED_BYTES,
  FILE_RANGES_MAX,
  FILE_WRITE_BYTES,
} from "../limits.ts";
import { readAt, usingFile, writeAt } from "./part-writer.ts";
import { ByteRanges, invalidTransfer } from "./replication/byte-ranges.ts";
import type { ByteRange } from "./replication/byte-ranges.ts";

/** Windows has none of them. */
const FLAGS = constants.O_RDWR | constants.O_CREAT | (constants.O_NOFOLLOW ?? 0);
const MAGIC = Buffer.from("PFSPART1");
const HEAD_BYTES = MAGIC.byteLength + REF_BYTES + 4;
const ENTRY_BYTES = 12;
const CHECK_AT = 8;
const RANGE_BYTES = 16;

const Entry = { chunk: 1, ranges: 2 } as const;

interface Kept {
  readonly at: number;
  readonly bytes: number;
}

interface Unwritten {
  readonly bytes: Uint8Array;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

export class FileJournal {
  /** The places that were written, as it says. */
  readonly ranges: ByteRanges = new ByteRanges([], FILE_RANGES_MAX);
  /** Whether it was there, of the same root. */
  readonly isOld: boolean;
  readonly #handle: FileHandle;
  readonly #path: string;
  readonly #seed: number;
  readonly #kept = new Map<string, Kept>();
  #keptBytes = 0;
  /** Chunks that were used last. */
  readonly #recent = new Map<string, Uint8Array>();
  #recentBytes = 0;
  /** What is good ends here. */
  #end: number = HEAD_BYTES;
  #unwritten: Unwritten[] = [];
  /** Places that are noted with the next ones, and why those before could not be. */
  #unnoted: ByteRange[] = [];
  #unnotedBytes = 0;
  #failure: unknown;
  #isWriting = false;

  private constructor(handle: FileHandle, path: string, seed: number, isOld: boolean) {
    this.#handle = handle;
    this.#path = path;
    this.#seed = seed;
    this.isOld = isOld;
  }

  /** Goes on with what is there of this root, or begins anew. Rejects with PFS_BULK_FILE_FAILED. */
  static async open(path: string, root: Ref): Promise<FileJournal> {
    return await usingFile(path, async () => {
      const handle = await openOwn(path);
      try {
        const head = Buffer.concat([MAGIC, root, new Uint8Array(4)]);
        const seed = crc32(head.subarray(0, HEAD_BYTES - 4));
        writeInteger32(head, HEAD_BYTES - 4, seed);
        const found = Buffer.alloc(HEAD_BYTES);
        const isOld = (await readAt(handle, found, 0)) === HEAD_BYTES && found.equals(head);
        const journal = new FileJournal(handle, path, seed, isOld);
        if (isOld) await journal.#load();
        else {
          await handle.truncate(0);
          await writeAt(handle, [head], 0);
        }
        await handle.truncate(journal.#end);
        return journal;
      } catch (error) {
        await handle.close();
        throw error;
      }
    });
  }

  has(ref: Ref): boolean {
    return this.#kept.has(refKey(ref));
  }

  /** The chunk's bytes, verified; undefined where it does not have them. Rejects with PFS_BULK_FILE_FAILED. */
  async read(ref: Ref): Promise<Uint8Array | undefined> {
    const key = refKey(ref);
    const recent = this.#recent.get(key);
    if (recent !== undefined) {
      this.#remember(key, recent);
      return recent;
    }
    const kept = this.#kept.get(key);
    if (kept === undefined) return undefined;
    const bytes = new Uint8Array(kept.bytes);
    await usingFile(this.#path, () => readAt(this.#handle, bytes, kept.at));
    if (!isRefOf(ref, bytes)) {
      this.#kept.delete(key);
      return undefined;
    }
    this.#remember(key, bytes);
    return bytes;
  }

  /**
   * Notes chunks that were verified, and then places that were written; a killed process's successor has both when it resolves. Rejects with
   * PFS_BULK_FILE_FAILED, and with PFS_TRANSFER_INVALID for more chunks than a file has streams.
   */
  async note(
    chunks: readonly { readonly ref: Ref; readonly bytes: Uint8Array }[],
    places: readonly ByteRange[],
  ): Promise<void> {
    const ranges = [...this.#unnoted, ...places];
    [this.#unnoted, this.#unnotedBytes] = [[], 0];
    const entries: Uint8Array[] = [];
    const added: { readonly key: string; readonly bytes: Uint8Array; readonly at: number }[] = [];
    let size = 0;
    for (const { ref, bytes } of chunks) {
      const key = refKey(ref);
      if (this.#kept.has(key)) continue;
      this.#keptBytes += bytes.byteLength;
      if (this.#kept.size >= FILE_KEPT_CHUNKS_MAX || this.#keptBytes > FILE_KEPT_BYTES_MAX)
        throw invalidTransfer("more streams than a file may have");
      entries.push(this.#entry(Entry.chunk, bytes));
      added.push({ key, bytes: new Uint8Array(bytes), at: size + ENTRY_BYTES });
      size += ENTRY_BYTES + bytes.byteLength;
    }
    if (ranges.length > 0) entries.push(this.#entry(Entry.ranges, encodeRanges(ranges)));
    if (entries.length === 0) return;
    const from = await this.#append(Buffer.concat(entries));
    for (const { key, bytes, at } of added) {
      this.#kept.set(key, { at: from + at, bytes: bytes.byteLength });
      this.#remember(key, bytes);
    }
  }

  /**
   * Notes places that were written some time: FILE_NOTED_BYTES of them together, with what else is noted, or when it is closed. Throws what
   * came of those before, as `note` rejects.
   */
  noteLater(ranges: readonly ByteRange[]): void {
    if (this.#failure !== undefined) throw this.#failure;
    for (const range of ranges) {
      this.#unnoted.push(range);
      this.#unnotedBytes += range.end - range.from;
    }
    if (this.#unnotedBytes >= FILE_NOTED_BYTES)
      this.note([], []).catch((error: unknown) => (this.#failure = error));
  }

  /** What was noted stays, for whoever opens it next. */
  async close(): Promise<void> {
    // What cannot be noted comes once more, which is no reason to fail.
    await this.note([], []).catch(() => undefined);
    await this.#handle.close();
  }

  #entry(kind: number, payload: Uint8Array): Uint8Array {
    const entry = new Uint8Array(ENTRY_BYTES + payload.byteLength);
    entry[0] = kind;
    writeInteger32(entry, 4, payload.byteLength);
    entry.set(payload, ENTRY_BYTES);
    writeInteger32(entry, CHECK_AT, this.#checkOf(entry));
    return entry;
  }

  #checkOf(entry: Uint8Array): number {
    return crc32(entry.subarray(ENTRY_BYTES), crc32(entry.subarray(0, CHECK_AT), this.#seed));
  }

  /** Entries that come while others are being written are written together. Resolves with where they stand. */
  #append(bytes: Uint8Array): Promise<number> {
    return new Promise((resolve, reject) => {
      let from = this.#end;
      for (const { bytes: before } of this.#unwritten) from += before.byteLength;
      this.#unwritten.push({ bytes, resolve: () => resolve(from), reject });
      if (!this.#isWriting) void this.#write();
    });
  }

  async #write(): Promise<void> {
    this.#isWriting = true;
    while (this.#unwritten.length > 0) {
      const some = this.#unwritten;
      const pieces = some.map(({ bytes }) => bytes);
      const count = some.length;
      try {
        await usingFile(this.#path, () => writeAt(this.#handle, pieces, this.#end));
        // Others may have come behind these, whose places follow.
        this.#unwritten = some.slice(count);
        for (const { byteLength } of pieces) this.#end += byteLength;
        for (const { resolve } of some.slice(0, count)) resolve();
      } catch (error) {
        // What is behind the end is written over by what comes next.
        this.#unwritten = [];
        for (const { reject } of some) reject(error);
      }
    }
    this.#isWriting = false;
  }

  async #load(): Promise<void> {
    const memory = new Uint8Array(FILE_WRITE_BYTES + CHUNK_BYTES_MAX);
    let filled = 0;
    for (;;) {
      const from = this.#end + filled;
      const read = await readAt(this.#handle, memory.subarray(filled), from);
      filled += read;
      let at = 0;
      for (;;) {
        const next = this.#loadEntry(memory.subarray(at, filled));
        if (next === 0) break;
        at += next;
        this.#end += next;
      }
      if (at === 0) return;
      memory.copyWithin(0, at, filled);
      filled -= at;
    }
  }

  /** Takes in an entry at the beginning of these bytes. How long it is; 0 where none is there, or not all of it. */
  #loadEntry(bytes: Uint8Array): number {
    if (bytes.byteLength < ENTRY_BYTES) return 0;
    const length = ENTRY_BYTES + readInteger32(bytes, 4);
    if (length > bytes.byteLength) return 0;
    const entry = bytes.subarray(0, length);
    if (this.#checkOf(entry) !== readInteger32(entry, CHECK_AT)) return 0;
    const payload = entry.subarray(ENTRY_BYTES);
    if (entry[0] === Entry.chunk) {
      const ref = sha256(payload);
      this.#kept.set(refKey(ref), { at: this.#end + ENTRY_BYTES, bytes: payload.byteLength });
      this.#keptBytes += payload.byteLength;
    } else if (entry[0] === Entry.ranges) {
      for (let at = 0; at + RANGE_BYTES <= payload.byteLength; at += RANGE_BYTES)
        this.ranges.add(readInteger(payload, at), readInteger(payload, at + RANGE_BYTES / 2));
    }
    return length;
  }

  #remember(key: string, bytes: Uint8Array): void {
    if (this.#recent.delete(key)) this.#recentBytes -= bytes.byteLength;
    this.#recent.set(key, bytes);
    this.#recentBytes += bytes.byteLength;
    for (const [oldest, { byteLength }] of this.#recent) {
      if (this.#recentBytes <= FILE_KEPT_CACHE_BYTES) break;
      this.#recent.delete(oldest);
      this.#recentBytes -= byteLength;
    }
  }
}

/** What somebody else laid there, where everybody may write, or is another name of something, is not written to. */
async function openOwn(path: string): Promise<FileHandle> {
  const handle = await open(path, FLAGS, PRIVATE_FILE_MODE);
  const { nlink, uid } = await handle.stat();
  if (nlink === 1 && uid === (process.geteuid?.() ?? uid)) return handle;
  await handle.close();
  await rm(path, { force: true });
  return await open(path, FLAGS | constants.O_EXCL, PRIVATE_FILE_MODE);
}

function encodeRanges(ranges: readonly ByteRange[]): Uint8Array {
  const bytes = new Uint8Array(ranges.length * RANGE_BYTES);
  ranges.forEach(({ from, end }, index) => {
    writeInteger(bytes, index * RANGE_BYTES, from);
    writeInteger(bytes, index * RANGE_BYTES + RANGE_BYTES / 2, end);
  });
  return bytes;
}
