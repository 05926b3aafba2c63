/**
 * A root on its way into a file, without a store: each chunk is written where it belongs, by the thread that has its bytes where
 * they come as they are stored. Streams are kept in the file's journal (file-journal.ts), and what is written is noted there
 * afterwards, so whoever opens both after a killed process goes on where it was.
 *
 *     stored chunks ──▶ verified and written in the bulk thread ─┐
 *     streams, patches ──▶ verified here, kept or written ───────┴─▶ noted ─▶ …
 *     all came ──▶ the rest: repeats, what held files have, literals ─▶ synced
 *
 * Every byte is hashed before it is written, and again where it is from before this process.
 */
import { createHash } from "node:crypto";
import { isRefOf, refAt, refKey, refToHex, sameBytes } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { PacketError, PacketErrorCode } from "../../packets/errors.ts";
import { Offset, Op, PACKET_BYTES } from "../../packets/layout.ts";
import { CALL_DEPTH_MAX } from "../../packets/limits.ts";
import { flagsAt, opAt } from "../../packets/packet.ts";
import { checkPlan, literalBlocks } from "../../packets/plan.ts";
import { Stream } from "../../packets/stream-reader.ts";
import type { ChunkSource } from "../../runtime/contracts/chunks.ts";
import { readEach } from "../../runtime/read-each.ts";
import { StreamError, StreamErrorCode } from "../../runtime/errors.ts";
import { PatchReceiver } from "../../runtime/stream/patch/receive-patches.ts";
import { turnOver } from "../../runtime/turns.ts";
import { WireError, WireErrorCode } from "../errors.ts";
import {
  FILE_FILLED_CHUNKS,
  FILE_LACKING_MAX,
  FILE_RANGES_MAX,
  FILE_READS_MAX,
  FILE_WRITE_BYTES,
  TRANSFER_COMPLAINTS_REFS_MAX,
} from "../limits.ts";
import { FileJournal } from "./file-journal.ts";
import { PartWriter, isZero, readAt, usingFile } from "./part-writer.ts";
import type { PartHandle } from "./part-writer.ts";
import { lackingOf, madeOf, placeOf } from "./received-root.ts";
import type { Lacking } from "./received-root.ts";
import { ByteRanges } from "./replication/byte-ranges.ts";
import type { ByteRange } from "./replication/byte-ranges.ts";
import { DataForm, decodeRows } from "./replication/messages.ts";
import type { DataHead, StoredRows } from "./replication/messages.ts";
import type { PlacedData } from "./replication/receiver.ts";
import { InOrder } from "./root-sink.ts";
import type { ReceiveContext, ReceivedBody, RootSink, SinkPresence } from "./root-sink.ts";
import { RootPlaces } from "./root-places.ts";
import type { RootPlace } from "./root-places.ts";

export interface ReceivedFileOptions {
  readonly root: Ref;
  /** Open for reading and writing as long as this is: what it holds is of use only with the journal. */
  readonly handle: PartHandle;
  /** What errors call it. */
  readonly path: string;
  /** Where the journal is, or is to be. It stays, also when the file is whole: whoever removes or renames the one removes the other. */
  readonly journal: string;
  /** What else is here: bases, with their streams, and files with chunks like those of the root (HeldFile). */
  readonly held?: readonly HeldChunks[];
}

/** Chunks that are here, outside of the file. Those that it says it has are not asked for before it turns out that it has not. */
export interface HeldChunks extends ChunkSource {
  has?(ref: Ref): boolean;
}

const NOTHING_PLACED: PlacedData = {
  chunks: 0,
  plainBytes: 0,
  patchedChunks: 0,
  compressedChunks: 0,
  wrong: [],
  covered: [],
};

export class ReceivedFile implements RootSink {
  readonly #root: Ref;
  readonly #handle: PartHandle;
  readonly #path: string;
  readonly #journal: FileJournal;
  readonly #held: readonly HeldChunks[];
  readonly #places: RootPlaces;
  readonly #order = new InOrder();
  /** By ref, the oldest first. */
  readonly #lacking = new Map<string, Lacking>();
  /** What stands in the file, verified. */
  readonly #written = new ByteRanges([], FILE_RANGES_MAX);
  /** What is in the journal and was not looked at yet. */
  #unverified: ByteRanges | undefined;
  #context: ReceiveContext | undefined;
  #patches: PatchReceiver | undefined;
  #doneBytes = 0;
  #isWhole = false;

  private constructor({ root, handle, path, held = [] }: ReceivedFileOptions, journal: FileJournal) {
    this.#root = root;
    this.#handle = handle;
    this.#path = path;
    this.#held = held;
    this.#journal = journal;
    this.#unverified = journal.isOld ? journal.ranges : undefined;
    this.#places = new RootPlaces(root, (ref) => this.#read(ref));
  }

  /**
   * Goes on with what is there of the root, where there is a journal of it; otherwise what the file holds is cut off. Rejects with
   * PFS_BULK_FILE_FAILED.
   */
  static async open(options: ReceivedFileOptions): Promise<ReceivedFile> {
    const journal = await FileJournal.open(options.journal, options.root);
    try {
      if (!journal.isOld) await usingFile(options.path, () => options.handle.truncate(0));
      return new ReceivedFile(options, journal);
    } catch (error) {
      await journal.close();
      throw error;
    }
  }

  /** Whether all of it is there, verified and synced. */
  get isWhole(): boolean {
    return this.#isWhole;
  }

  /** Waits for what is under way. The file's handle can be closed then, and not before. */
  async close(): Promise<void> {
    await this.#order.run(async ({ alone }) => {
      await alone();
      await this.#journal.close();
    });
  }

  async begin(context: ReceiveContext): Promise<SinkPresence> {
    return await this.#order.run(async ({ alone }) => {
      await alone();
      this.#context = context;
      const { bases, signal } = context;
      const source: ChunkSource = { read: (refs) => this.#readAll(refs, signal) };
      this.#patches = new PatchReceiver(source, this.#root, bases, signal);
      await this.#verify(signal);
      const ranges = await this.#presence(signal);
      // What needs nothing from a peer may still have to be written.
      return { ranges, isWhole: this.#isWhole };
    });
  }

  async place(data: DataHead, body: ReceivedBody): Promise<PlacedData> {
    return await this.#order.run(async ({ letPass, alone }) => {
      const { signal, inRoom } = this.#context!;
      signal.throwIfAborted();
      const rows = data.form === DataForm.stored ? decodeRows(data.packets, body.bytes) : undefined;
      const claimed = rows === undefined ? undefined : this.#claim(rows);
      if (claimed?.length === 0) return NOTHING_PLACED;
      if (claimed !== undefined) {
        letPass();
        return await inRoom(() => this.#placeStored(rows!, claimed, body));
      }
      await alone();
      return await inRoom(() => this.#placeTaken(data, body));
    });
  }

  async check(signal: AbortSignal): Promise<readonly Ref[]> {
    return await this.#order.run(async ({ alone }) => {
      await alone();
      const missing = await this.#fill(signal);
      if (missing.length === 0) await this.#finish(signal);
      for (const lacking of missing) this.#expect(lacking);
      return missing.map(({ ref }) => ref);
    });
  }

  // ── what is here ───────────────────────────────────────────────────────────────────────────────────────────────

  async #read(ref: Ref): Promise<Uint8Array | undefined> {
    const [bytes] = await this.#readSome([ref]);
    return bytes;
  }

  /** Those that are in the journal or in what is held. */
  async #readSome(refs: readonly Ref[]): Promise<(Uint8Array | undefined)[]> {
    const found = await Promise.all(refs.map((ref) => this.#journal.read(ref)));
    for (const held of this.#held) {
      const lacking = [...refs.keys()].filter((index) => found[index] === undefined);
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

  #isHeld(ref: Ref): boolean {
    return this.#journal.has(ref) || this.#held.some((held) => held.has?.(ref) === true);
  }

  async #readAll(refs: readonly Ref[], signal: AbortSignal): Promise<Uint8Array[]> {
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
  async #verify(signal: AbortSignal): Promise<void> {
    const noted = this.#unverified;
    if (noted === undefined) return;
    const isDone = (from: number, end: number): boolean => !noted.meets(from, end);
    let some: Lacking[] = [];
    let bytes = 0;
    for await (const place of this.#places.all({ signal, isDone })) {
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
      if (end - start <= read && isRefOf(ref, bytes)) this.#isThere(from, end);
    }
  }

  /** What is here of it, and of what is lacking as much as may be expected at a time. */
  async #presence(signal: AbortSignal): Promise<ByteRanges> {
    this.#lacking.clear();
    const ranges = new ByteRanges(this.#written);
    const isDone = (from: number, end: number): boolean => this.#written.covers(from, end);
    for await (const place of this.#places.all({ signal, isDone })) {
      if (place.kind === "literal") ranges.add(place.from, place.end);
      else if (place.kind === "chunk" && this.#isHeld(place.lacking.ref))
        ranges.add(place.lacking.from, place.lacking.end);
      else this.#expect(place.lacking);
    }
    return ranges;
  }

  /** Where a chunk stands in several places, it is written to the first, and from there to the others at the end. */
  #expect(lacking: Lacking): void {
    const key = refKey(lacking.ref);
    if (this.#lacking.has(key)) return;
    // The oldest are what stands elsewhere already, or in a base.
    if (this.#lacking.size >= FILE_LACKING_MAX) this.#lacking.delete(this.#lacking.keys().next().value!);
    this.#lacking.set(key, lacking);
  }

  #isThere(from: number, end: number): void {
    if (this.#written.covers(from, end)) return;
    this.#written.add(from, end);
    this.#doneBytes += end - from;
  }

  #progress(): void {
    this.#context?.onDone(this.#doneBytes);
  }

  // ── what comes ─────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * The rows that are lacking, each as whole as it stands in the file: they are this message's from now on. Undefined where one is
   * a stream, or of use in part.
   */
  #claim({
    refs,
    plainBytes,
  }: StoredRows): { readonly row: number; readonly lacking: Lacking }[] | undefined {
    const claimed: { readonly row: number; readonly lacking: Lacking }[] = [];
    for (let row = 0; row < plainBytes.length; row++) {
      const key = refKey(refAt(refs, row));
      const lacking = this.#lacking.get(key);
      if (lacking === undefined) continue;
      if (lacking.isStream || !isWholeChunk(lacking, plainBytes[row])) {
        for (const { lacking: other } of claimed) this.#expect(other);
        return undefined;
      }
      this.#lacking.delete(key);
      claimed.push({ row, lacking });
    }
    return claimed;
  }

  async #placeStored(
    { refs, storedBytes, plainBytes, codec }: StoredRows,
    claimed: readonly { readonly row: number; readonly lacking: Lacking }[],
    body: ReceivedBody,
  ): Promise<PlacedData> {
    const targets = {
      chunk: Uint32Array.from(claimed, ({ row }) => row),
      file: new Uint32Array(claimed.length),
      offset: Float64Array.from(claimed, ({ lacking }) => lacking.from),
    };
    const files = [this.#handle.fd];
    const wrong: Lacking[] = [];
    const covered: ByteRange[] = [];
    try {
      const { good } = await body.place({ refs, storedBytes, plainBytes, codec, files, targets });
      for (const { row, lacking } of claimed) {
        if (good[row] === 1) covered.push({ from: lacking.from, end: lacking.end });
        else wrong.push(lacking);
      }
      await this.#journal.note([], joined(covered));
    } catch (error) {
      for (const { lacking } of claimed) this.#expect(lacking);
      throw error;
    }
    let bytes = 0;
    for (const { from, end } of covered) {
      this.#isThere(from, end);
      bytes += end - from;
    }
    for (const lacking of wrong) this.#expect(lacking);
    this.#progress();
    return {
      ...NOTHING_PLACED,
      chunks: covered.length,
      plainBytes: bytes,
      compressedChunks: claimed.filter(({ row }) => storedBytes[row]! < plainBytes[row]!).length,
      wrong: wrong.map(({ ref }) => ref),
      covered: joined(covered),
    };
  }

  /** As all messages are placed that are no rows of whole chunks: here. */
  async #placeTaken(data: DataHead, body: ReceivedBody): Promise<PlacedData> {
    const bytes = await body.take();
    const result = { chunks: 0, plainBytes: 0, patchedChunks: 0, compressedChunks: 0 };
    const wrong: Ref[] = [];
    const covered: ByteRange[] = [];
    const written: ByteRange[] = [];
    const kept: { readonly ref: Ref; readonly bytes: Uint8Array }[] = [];
    const done = new Set<string>();
    // Where it cannot be read to its end, what it has written comes again.
    const writer = this.#writer();
    for await (const made of madeOf(data, bytes, this.#patches!)) {
      this.#context!.signal.throwIfAborted();
      const key = refKey(made.ref);
      const lacking = this.#lacking.get(key);
      if (lacking === undefined || done.has(key)) continue;
      if (made.bytes === undefined) {
        wrong.push(made.ref);
        continue;
      }
      done.add(key);
      result.chunks++;
      result.plainBytes += made.bytes.byteLength;
      if (made.isPatched) result.patchedChunks++;
      const isWhole = isWholeChunk(lacking, made.bytes.byteLength);
      if (lacking.isStream || !isWhole) kept.push({ ref: made.ref, bytes: made.bytes });
      if (lacking.isStream) covered.push(...this.#named(Stream.parse(made.bytes), lacking));
      else {
        await writer.write(partOf(made.bytes, lacking), lacking.from);
        const { from, end } = lacking;
        covered.push({ from, end });
        written.push({ from, end });
      }
    }
    await writer.flush();
    await this.#journal.note(kept, joined(written));
    if (bytes.byteLength < result.plainBytes) result.compressedChunks = result.chunks - result.patchedChunks;
    for (const key of done) this.#lacking.delete(key);
    this.#progress();
    return { ...result, wrong, covered: joined(covered) };
  }

  /** What it names is lacking from now on, unless it is here. Returns the bytes that are. */
  #named(stream: Stream, place: Lacking): ByteRange[] {
    checkPlan(stream, LIMITS, 0);
    const { frame, count } = stream;
    const covered: ByteRange[] = [];
    for (let index = 0; index < count; index++) {
      const op = opAt(frame, index);
      const { from, end } = placeOf(frame, index, place);
      if (from >= end) continue;
      const isNamed = op === Op.COPY || op === Op.CALL;
      const lacking = isNamed ? lackingOf(frame, index, place) : undefined;
      const isHere = lacking === undefined || this.#written.covers(from, end);
      if (isHere || (op === Op.COPY && this.#isHeld(lacking.ref))) covered.push({ from, end });
      else if (!this.#journal.has(lacking.ref)) this.#expect(lacking);
    }
    return covered;
  }

  #writer(): PartWriter {
    const isBlank = !this.#journal.isOld;
    return new PartWriter(this.#handle, this.#path, isBlank, (from, end) => this.#isThere(from, end));
  }

  // ── the rest ───────────────────────────────────────────────────────────────────────────────────────────────────

  /** Writes what stands in streams, elsewhere in the file, or in held files. Returns the first of what is missing. */
  async #fill(signal: AbortSignal): Promise<Lacking[]> {
    const missing = new Map<string, Lacking>();
    let wanted = new Map<string, Lacking[]>();
    let count = 0;
    const writer = this.#writer();
    const isDone = (from: number, end: number): boolean => this.#written.covers(from, end);
    for await (const place of this.#places.all({ signal, isDone })) {
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
    this.#progress();
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
      this.#progress();
    }
    // What waits to be written may be what is looked for.
    await writer.flush();
    if (wanted.size === 0) return [];
    for await (const place of this.#places.all({ signal })) {
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
      this.#progress();
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
  async #finish(signal: AbortSignal): Promise<void> {
    if (this.#isWhole) return;
    const { length, digest } = (await this.#places.stream(this.#root))!;
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
}

const LIMITS = { outputBytesMax: Number.MAX_SAFE_INTEGER, depthMax: CALL_DEPTH_MAX };

/** Whether all of a chunk stands where it is lacking, of so many bytes; as far as can be told without its bytes, if they are left out. */
function isWholeChunk({ start, from, end }: Lacking, bytes: number = end - start): boolean {
  return start === from && end - start === bytes;
}

/** What of a chunk's bytes is needed at a place. Throws PFS_STREAM_INVALID where it does not have them. */
function partOf(bytes: Uint8Array, { start, from, end }: Lacking): Uint8Array {
  if (end - start > bytes.byteLength) {
    const reason = "COPY reads beyond the end of its chunk";
    throw new PacketError(PacketErrorCode.invalidStream, `this is no stream: ${reason}`, { reason });
  }
  return bytes.subarray(from - start, end - start);
}

/** Those that touch as one. */
function joined(ranges: readonly ByteRange[]): ByteRange[] {
  return [...new ByteRanges(ranges, Number.POSITIVE_INFINITY)];
}

function isZeroFill(frame: Uint8Array, index: number): boolean {
  if (opAt(frame, index) !== Op.FILL) return false;
  const at = index * PACKET_BYTES + Offset.ref;
  return isZero(frame.subarray(at, at + flagsAt(frame, index)));
}
