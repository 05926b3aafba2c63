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
import { Codec } from "../../packets/codec.ts";
import { refAt, refKey } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { Op, REF_BYTES } from "../../packets/layout.ts";
import { opAt } from "../../packets/packet.ts";
import { WHOLE_LIMITS, checkPlan } from "../../packets/plan.ts";
import { Stream } from "../../packets/stream-reader.ts";
import type { ChunkSource } from "../../runtime/contracts/chunks.ts";
import { PatchReceiver } from "../../runtime/stream/patch/receive-patches.ts";
import { FILE_LACKING_MAX } from "../limits.ts";
import { FileContent, isWholeChunk, partOf } from "./file-content.ts";
import type { FileContentOptions } from "./file-content.ts";
import { FileJournal } from "./file-journal.ts";
import { usingFile } from "./part-writer.ts";
import { lackingOf, madeOf, placeOf } from "./received-root.ts";
import type { Lacking } from "./received-root.ts";
import { ByteRanges } from "./replication/byte-ranges.ts";
import type { ByteRange } from "./replication/byte-ranges.ts";
import { DataForm, decodeRows } from "./replication/messages.ts";
import type { DataHead, StoredRows } from "./replication/messages.ts";
import type { PlacedData } from "./replication/receiver.ts";
import { InOrder } from "./root-sink.ts";
import type { ReceiveContext, ReceivedBody, RootSink, SinkPresence } from "./root-sink.ts";
import type { PlacedRows } from "./transfer-offload.ts";

export type { HeldChunks } from "./file-content.ts";

export interface ReceivedFileOptions extends FileContentOptions {
  /** Where the journal is, or is to be. It stays, also when the file is whole: whoever removes or renames the one removes the other. */
  readonly journal: string;
}

const NOTHING_PLACED: PlacedData = {
  chunks: 0,
  plainBytes: 0,
  patchedChunks: 0,
  compressedChunks: 0,
  wrong: [],
  covered: [],
};

const NEVER = new AbortController().signal;

export class ReceivedFile implements RootSink {
  readonly #root: Ref;
  readonly #descriptor: number;
  readonly #journal: FileJournal;
  readonly #content: FileContent;
  readonly #order = new InOrder();
  /** By ref, the oldest first. */
  readonly #lacking = new Map<string, Lacking>();
  #context: ReceiveContext | undefined;
  #patches: PatchReceiver | undefined;
  /** Of those that are lacking, chunks of which nobody was told yet that they are expected. */
  #untold: Lacking[] = [];

  private constructor(options: ReceivedFileOptions, journal: FileJournal) {
    this.#root = options.root;
    this.#descriptor = options.handle.fd;
    this.#journal = journal;
    this.#content = new FileContent(options, journal, (doneBytes) => this.#context?.onDone(doneBytes));
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
    return this.#content.isWhole;
  }

  /** Streams of the root that are here: all of them, once it is whole. */
  get streams(): ChunkSource {
    return { read: (refs, signal = NEVER) => this.#content.readAll(refs, signal) };
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
      const source: ChunkSource = { read: (refs) => this.#content.readAll(refs, signal) };
      this.#patches = new PatchReceiver(source, this.#root, bases, signal);
      await this.#content.verify(signal);
      const ranges = await this.#presence(signal);
      this.#tellExpected();
      // What needs nothing from a peer may still have to be written.
      return { ranges, isWhole: this.#content.isWhole };
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

  placedAside({ good, wrong, covered, plainBytes, compressedChunks }: PlacedRows): PlacedData {
    const ranges: ByteRange[] = [];
    for (let at = 0; at < covered.length; at += 2) ranges.push({ from: covered[at]!, end: covered[at + 1]! });
    for (const ref of refsOf(good)) this.#lacking.delete(refKey(ref));
    for (const { from, end } of ranges) this.#content.isThere(from, end);
    this.#journal.noteLater(ranges);
    this.#content.tellDone();
    const chunks = good.byteLength / REF_BYTES;
    return { chunks, plainBytes, patchedChunks: 0, compressedChunks, wrong: refsOf(wrong), covered: ranges };
  }

  async check(signal: AbortSignal): Promise<readonly Ref[]> {
    return await this.#order.run(async ({ alone }) => {
      await alone();
      const missing = await this.#content.fill(signal);
      if (missing.length === 0) await this.#content.finish(signal);
      for (const lacking of missing) this.#expect(lacking);
      this.#tellExpected();
      return missing.map(({ ref }) => ref);
    });
  }

  /** What is here of it, and of what is lacking as much as may be expected at a time. */
  async #presence(signal: AbortSignal): Promise<ByteRanges> {
    this.#lacking.clear();
    const ranges = new ByteRanges(this.#content.written);
    const isDone = (from: number, end: number): boolean => this.#content.covers(from, end);
    for await (const place of this.#content.places.all({ signal, isDone })) {
      if (place.kind === "literal") ranges.add(place.from, place.end);
      else if (place.kind === "chunk" && this.#content.has(place.lacking.ref))
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
    if (!lacking.isStream && isWholeChunk(lacking)) this.#untold.push(lacking);
  }

  #tellExpected(): void {
    const rows = this.#untold;
    this.#untold = [];
    if (rows.length === 0) return;
    this.#context!.expect({
      file: this.#descriptor,
      refs: Buffer.concat(rows.map(({ ref }) => ref)),
      from: Float64Array.from(rows, ({ from }) => from),
      bytes: Uint32Array.from(rows, ({ from, end }) => end - from),
    });
  }

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
    const files = [this.#descriptor];
    const wrong: Lacking[] = [];
    const covered: ByteRange[] = [];
    let compressedChunks = 0;
    try {
      const { good } = await body.place({ refs, storedBytes, plainBytes, codec, files, targets });
      for (const { row, lacking } of claimed) {
        if (good[row] !== 1) {
          wrong.push(lacking);
          continue;
        }
        covered.push({ from: lacking.from, end: lacking.end });
        if (codec[row] !== Codec.plain) compressedChunks++;
      }
      this.#journal.noteLater(joined(covered));
    } catch (error) {
      for (const { lacking } of claimed) this.#expect(lacking);
      throw error;
    }
    let bytes = 0;
    for (const { from, end } of covered) {
      this.#content.isThere(from, end);
      bytes += end - from;
    }
    for (const lacking of wrong) this.#expect(lacking);
    this.#content.tellDone();
    return {
      ...NOTHING_PLACED,
      chunks: covered.length,
      plainBytes: bytes,
      compressedChunks,
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
    const writer = this.#content.writer();
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
      // Refs that it names are needed longer than what it came with.
      if (lacking.isStream) covered.push(...this.#named(Stream.parse(new Uint8Array(made.bytes)), lacking));
      else {
        await writer.write(partOf(made.bytes, lacking), lacking.from);
        const { from, end } = lacking;
        covered.push({ from, end });
        written.push({ from, end });
      }
    }
    await writer.flush();
    await this.#journal.note(kept, joined(written));
    this.#patches!.discard();
    if (bytes.byteLength < result.plainBytes) result.compressedChunks = result.chunks - result.patchedChunks;
    for (const key of done) this.#lacking.delete(key);
    this.#tellExpected();
    this.#content.tellDone();
    return { ...result, wrong, covered: joined(covered) };
  }

  /** What it names is lacking from now on, unless it is here. Returns the bytes that are. */
  #named(stream: Stream, place: Lacking): ByteRange[] {
    checkPlan(stream, WHOLE_LIMITS, 0);
    const { frame, count } = stream;
    const covered: ByteRange[] = [];
    for (let index = 0; index < count; index++) {
      const op = opAt(frame, index);
      const { from, end } = placeOf(frame, index, place);
      if (from >= end) continue;
      const isNamed = op === Op.COPY || op === Op.CALL;
      const lacking = isNamed ? lackingOf(frame, index, place) : undefined;
      const isHere = lacking === undefined || this.#content.covers(from, end);
      if (isHere || (op === Op.COPY && this.#content.has(lacking.ref))) covered.push({ from, end });
      else if (!this.#journal.has(lacking.ref)) this.#expect(lacking);
    }
    return covered;
  }
}

function refsOf(refs: Uint8Array): Ref[] {
  return Array.from({ length: refs.byteLength / REF_BYTES }, (_, index) => refAt(refs, index));
}

/** Those that touch as one. */
function joined(ranges: readonly ByteRange[]): ByteRange[] {
  return [...new ByteRanges(ranges, Number.POSITIVE_INFINITY)];
}
