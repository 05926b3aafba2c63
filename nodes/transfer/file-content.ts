/**
 * The bytes of a file that a root is brought into (received-file.ts): which of them are right, what another process wrote of
 * them, and those that stand elsewhere on this machine.
 */
import { createHash } from "node:crypto";
import { isRefOf, refKey, refToHex, sameBytes } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { PacketError, PacketErrorCode } from "../../packets/errors.ts";
import { Offset, Op, PACKET_BYTES } from "../../packets/layout.ts";
import { flagsAt, opAt } from "../../packets/packet.ts";
import { literalBlocks } from "../../packets/plan.ts";
import type { ChunkSource } from "../../runtime/contracts/chunks.ts";
import { readEach } from "../../runtime/read-each.ts";
import { StreamError, StreamErrorCode } from "../../runtime/errors.ts";
import { turnOver } from "../../runtime/turns.ts";
import { WireError, WireErrorCode } from "../errors.ts";
import {
  FILE_FILLED_CHUNKS,
  FILE_RANGES_MAX,
  FILE_READS_MAX,
  FILE_WRITE_BYTES,
  TRANSFER_COMPLAINTS_REFS_MAX,
} from "../limits.ts";
import { FileJournal } from "./file-journal.ts";
import { PartWriter, isZero, readAt, usingFile } from "./part-writer.ts";
import type { PartHandle } from "./part-writer.ts";
import type { Lacking } from "./received-root.ts";
import { ByteRanges } from "./replication/byte-ranges.ts";
import type { ByteRange } from "./replication/byte-ranges.ts";
import { RootPlaces } from "./root-places.ts";
import type { RootPlace } from "./root-places.ts";

export interface FileContentOptions {
  readonly root: Ref;
  /** Open for reading and writing as long as this is: what it holds is of use only with the journal. */
  readonly handle: PartHandle;
  /** What errors call it. */
  readonly path: string;
  /** What else is here: bases, with their streams, and files with chunks like those of the root (HeldFile). */
  readonly held?: readonly HeldChunks[];
}

/** Chunks that are here, outside of the file. Those that it says it has are not asked for before it turns out that it has not. */
export interface HeldChunks extends ChunkSource {
  has?(ref: Ref): boolean;
}

export class FileContent {
  readonly places: RootPlaces;
  readonly #root: Ref;
  readonly #handle: PartHandle;
  readonly #path: string;
  readonly #journal: FileJournal;
  readonly #held: readonly HeldChunks[];
  readonly #onDone: (doneBytes: number) => void;
  /** What stands in the file, verified. */
  readonly #written = new ByteRanges([], FILE_RANGES_MAX);
  /** What is in the journal and was not looked at yet. */
  #unverified: ByteRanges | undefined;
  #doneBytes = 0;
  #isWhole = false;

  constructor(
    { root, handle, path, held = [] }: FileContentOptions,
    journal: FileJournal,
    onDone: (doneBytes: number) => void,
  ) {
    this.#root = root;
    this.#handle = handle;
    this.#path = path;
    this.#held = held;
    this.#journal = journal;
    this.#onDone = onDone;
    this.#unverified = journal.isOld ? journal.ranges : undefined;
    this.places = new RootPlaces(root, (ref) => this.#read(ref));
  }

  /** Places that are right, in order. */
  get written(): Iterable<ByteRange> {
    return this.#written;
  }

  /** Whether all of it is there, verified and synced. */
  get isWhole(): boolean {
    return this.#isWhole;
  }

  covers(from: number, end: number): boolean {
    return this.#written.covers(from, end);
  }

  /** Whether the chunk is in the journal, or in what is held, as that says. */
  has(ref: Ref): boolean {
    return this.#journal.has(ref) || this.#held.some((held) => held.has?.(ref) === true);
  }

  /** These bytes were verified, and written. */
  isThere(from: number, end: number): void {
    if (this.#written.covers(from, end)) return;
    this.#written.add(from, end);
    this.#doneBytes += end - from;
  }

  async #read(ref: Ref): Promise<Uint8Array | undefined> {
    const [bytes] = await this.#readSome([ref]);
    return bytes;
  }

  /** Those that are in the journal or in what is held. */
  async #readSome(refs: readonly Ref[]): Promise<(Uint8Array | undefined)[]> {
    const found = await Promise.all(refs.map((ref) => this.#journal.read(ref)));
    for (const held of this.#held) {
      const lacking = [...refs.keys()].filter((index) => found[index] === undefined);
      if (lacking.length === 0) break;
      const read = await readEach(
        held,
        lacking.map((index) => refs[index]!),
      );
      lacking.forEach((index, row) => {
        const bytes = read[row]!;
        if (bytes instanceof Uint8Array) found[index] = bytes;
      });
    }
    return found;
  }

  /** Rejects with PFS_CHUNK_MISSING {ref}, and the reason of the signal. */
  async readAll(refs: readonly Ref[], signal: AbortSignal): Promise<Uint8Array[]> {
    signal.throwIfAborted();
    const found = await this.#readSome(refs);
    signal.throwIfAborted();
    return found.map((bytes, index) => {
      if (bytes !== undefined) return bytes;
      const hex = refToHex(refs[index]!);
      throw new WireError(WireErrorCode.chunkMissing, `nothing here has ${hex}`, { ref: hex });
    });
  }

  /** Reads again what another process has written. */
  async verify(signal: AbortSignal): Promise<void> {
    const noted = this.#unverified;
    if (noted === undefined) return;
    const isDone = (from: number, end: number): boolean => !noted.meets(from, end);
    let some: Lacking[] = [];
    let bytes = 0;
    for await (const place of this.places.all({ signal, isDone })) {
      if (place.kind !== "chunk" || !isWholeChunk(place.lacking)) continue;
      const { from, end } = place.lacking;
      if (!noted.covers(from, end)) continue;
      const follows = some.length === 0 || from === some.at(-1)!.end;
      if (!follows || bytes >= FILE_WRITE_BYTES) {
        await this.#verifyRow(some);
        [some, bytes] = [[], 0];
      }
      some.push(place.lacking);
      bytes += end - from;
    }
    await this.#verifyRow(some);
    this.#unverified = undefined;
  }

  async #verifyRow(row: readonly Lacking[]): Promise<void> {
    if (row.length === 0) return;
    const start = row[0]!.from;
    const memory = Buffer.allocUnsafe(row.at(-1)!.end - start);
    const read = await usingFile(this.#path, () => readAt(this.#handle, memory, start));
    for (const { ref, from, end } of row) {
      const over = turnOver();
      if (over !== undefined) await over;
      const bytes = memory.subarray(from - start, end - start);
      if (end - start <= read && isRefOf(ref, bytes)) this.isThere(from, end);
    }
  }

  writer(): PartWriter {
    const isBlank = !this.#journal.isOld;
    return new PartWriter(this.#handle, this.#path, isBlank, (from, end) => this.isThere(from, end));
  }

  /** Writes what stands in streams, elsewhere in the file, or in held files. Returns the first of what is missing. */
  async fill(signal: AbortSignal): Promise<Lacking[]> {
    const missing = new Map<string, Lacking>();
    let wanted = new Map<string, Lacking[]>();
    let count = 0;
    const writer = this.writer();
    const isDone = (from: number, end: number): boolean => this.#written.covers(from, end);
    for await (const place of this.places.all({ signal, isDone })) {
      if (missing.size >= TRANSFER_COMPLAINTS_REFS_MAX) break;
      if (place.kind === "literal") {
        await this.#writeLiteral(writer, place, signal);
        continue;
      }
      const { lacking } = place;
      const key = refKey(lacking.ref);
      if (missing.has(key)) continue;
      if (place.kind === "stream") {
        missing.set(key, lacking);
        continue;
      }
      const others = wanted.get(key);
      if (others === undefined) wanted.set(key, [lacking]);
      else others.push(lacking);
      if (++count < FILE_FILLED_CHUNKS) continue;
      for (const lost of await this.#find(wanted, writer, signal)) missing.set(refKey(lost.ref), lost);
      [wanted, count] = [new Map(), 0];
    }
    for (const lost of await this.#find(wanted, writer, signal)) missing.set(refKey(lost.ref), lost);
    await writer.flush();
    this.tellDone();
    return [...missing.values()].slice(0, TRANSFER_COMPLAINTS_REFS_MAX);
  }

  /** Writes chunks to all their places that are here, in whatever place. Returns the first places of those that are not. */
  async #find(
    wanted: Map<string, readonly Lacking[]>,
    writer: PartWriter,
    signal: AbortSignal,
  ): Promise<Lacking[]> {
    const write = async (bytes: Uint8Array, places: readonly Lacking[]): Promise<void> => {
      for (const place of places) await writer.write(partOf(bytes, place), place.from);
    };
    const all = [...wanted.entries()];
    for (let at = 0; at < all.length; at += FILE_READS_MAX) {
      const some = all.slice(at, at + FILE_READS_MAX);
      const read = await this.#readSome(some.map(([, [first]]) => first!.ref));
      for (const [index, bytes] of read.entries()) {
        if (bytes === undefined) continue;
        const [key, places] = some[index]!;
        wanted.delete(key);
        await write(bytes, places);
      }
      await this.#turn(signal);
      this.tellDone();
    }
    // What waits to be written may be what is looked for.
    await writer.flush();
    if (wanted.size === 0) return [];
    for await (const place of this.places.all({ signal })) {
      if (place.kind !== "chunk" || !isWholeChunk(place.lacking)) continue;
      const { ref, from, end } = place.lacking;
      const key = refKey(ref);
      const places = wanted.get(key);
      if (places === undefined || !this.#written.covers(from, end)) continue;
      const memory = new Uint8Array(end - from);
      const read = await usingFile(this.#path, () => readAt(this.#handle, memory, from));
      // It may be longer than what is needed of it here.
      if (read < memory.byteLength || !isRefOf(ref, memory)) continue;
      wanted.delete(key);
      await write(memory, places);
      await this.#turn(signal);
      this.tellDone();
      if (wanted.size === 0) break;
    }
    return [...wanted.values()].map(([first]) => first!);
  }

  async #writeLiteral(
    writer: PartWriter,
    { frame, index, skip, from, end }: RootPlace & { readonly kind: "literal" },
    signal: AbortSignal,
  ): Promise<void> {
    if (isZeroFill(frame, index)) await writer.zeros(from, end);
    else {
      let at = from;
      for (const bytes of literalBlocks(frame, index, skip, end - from, FILE_WRITE_BYTES)) {
        await writer.write(bytes, at);
        at += bytes.byteLength;
        await this.#turn(signal);
      }
    }
  }

  /** Nothing is behind its end, what its own digest says is true, and it is on the disk. */
  async finish(signal: AbortSignal): Promise<void> {
    if (this.#isWhole) return;
    const { length, digest } = (await this.places.stream(this.#root))!;
    await usingFile(this.#path, () => this.#handle.truncate(length));
    if (digest !== undefined) await this.#checkDigest(digest, length, signal);
    await usingFile(this.#path, () => this.#handle.sync());
    this.#isWhole = true;
  }

  async #checkDigest(digest: Ref, length: number, signal: AbortSignal): Promise<void> {
    const hash = createHash("sha256");
    const memory = Buffer.allocUnsafe(FILE_WRITE_BYTES);
    for (let at = 0; at < length; at += FILE_WRITE_BYTES) {
      const some = memory.subarray(0, Math.min(FILE_WRITE_BYTES, length - at));
      await usingFile(this.#path, () => readAt(this.#handle, some, at));
      hash.update(some);
      await this.#turn(signal);
    }
    if (sameBytes(hash.digest(), digest)) return;
    const ref = refToHex(this.#root);
    throw new StreamError(StreamErrorCode.wrongDigest, `stream ${ref} does not yield what its digest says`, {
      ref,
    });
  }

  async #turn(signal: AbortSignal): Promise<void> {
    const over = turnOver();
    if (over !== undefined) await over;
    signal.throwIfAborted();
  }

  tellDone(): void {
    this.#onDone(this.#doneBytes);
  }
}

/** Whether all of a chunk stands where it is lacking, of so many bytes; as far as can be told without its bytes, if they are left out. */
export function isWholeChunk({ start, from, end }: Lacking, bytes: number = end - start): boolean {
  return start === from && end - start === bytes;
}

/** What of a chunk's bytes is needed at a place. Throws PFS_STREAM_INVALID where it does not have them. */
export function partOf(bytes: Uint8Array, { start, from, end }: Lacking): Uint8Array {
  if (end - start > bytes.byteLength) {
    const reason = "COPY reads beyond the end of its chunk";
    throw new PacketError(PacketErrorCode.invalidStream, `this is no stream: ${reason}`, { reason });
  }
  return bytes.subarray(from - start, end - start);
}

function isZeroFill(frame: Uint8Array, index: number): boolean {
  if (opAt(frame, index) !== Op.FILL) return false;
  const at = index * PACKET_BYTES + Offset.ref;
  return isZero(frame.subarray(at, at + flagsAt(frame, index)));
}
