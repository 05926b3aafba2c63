/**
 * A root on its way to somebody: what they lack, in messages of a transfer. What no base is like goes as it is stored: where a
 * disk has it, the channel's thread reads it there, and nothing of it is looked at here.
 */
import { Codec, Compressor, discardPlain } from "../../packets/codec.ts";
import type { Ref } from "../../packets/digest.ts";
import { joinBytes } from "../../packets/join-bytes.ts";
import { REF_BYTES } from "../../packets/layout.ts";
import { PATCH_PART_BYTES_MAX } from "../../packets/limits.ts";
import { PatchKind, SLOW_LINK_LEVEL, compressPart, writeChunkPatch } from "../../packets/patch.ts";
import type {
  ChunkPlaces,
  ChunkRanges,
  ChunkSource,
  PlainPlaces,
  StoredChunk,
  StoredFormStore,
  StoredPlaces,
} from "../../runtime/contracts/chunks.ts";
import { readEach, readOwn } from "../../runtime/read-each.ts";
import { describeStream } from "../../runtime/stream/execute.ts";
import { isStreamFault } from "../../runtime/stream/walk.ts";
import { patchesOfAlike } from "../../runtime/stream/patch/send-patches.ts";
import type { SentPatch, UnlikeChunks } from "../../runtime/stream/patch/send-patches.ts";
import {
  BULK_BODY_BYTES_MAX,
  SOLID_AT_ONCE,
  SOLID_STORED_SHARE_MAX,
  TRANSFER_MESSAGES_PER_WINDOW,
  TRANSFER_PACKET_BYTES,
  TRANSFER_PATCH_BYTES,
  TRANSFER_PLACES,
  TRANSFER_READ_CHUNKS,
  TRANSFER_ROWS_MAX,
  TRANSFER_UNREAD_CHUNKS_MAX,
} from "../limits.ts";
import type { FileRanges } from "../wire/bulk/dialing.ts";
import type { ByteRanges } from "./replication/byte-ranges.ts";
import { DataForm, costOf, encodeRows, windowOf } from "./replication/messages.ts";
import type { StoredRows } from "./replication/messages.ts";
import type { Bottleneck, DataUnit, Reread } from "./replication/sender.ts";
import { SolidPace } from "./solid-pace.ts";
import type { SolidCost } from "./solid-pace.ts";

/** Where a root comes from. Those that keep chunks say how, so that they can go as they are; and files where they lie. */
export interface SentSource
  extends
    ChunkSource,
    Partial<ChunkPlaces>,
    Partial<PlainPlaces>,
    Partial<Pick<StoredFormStore, "readStored">> {}

/** Bytes, or where they stand. */
export type SentBody = Uint8Array | FileRanges;
export type SentUnit = DataUnit<SentBody>;

export interface SentRootOptions {
  readonly root: Ref;
  /** Bytes that it yields. */
  readonly length: number;
  /** Those of the receiver that are here, too. */
  readonly bases?: readonly Ref[];
  /** What the receiver has of it. */
  readonly resume?: Pick<ByteRanges, "covers"> | undefined;
  readonly signal: AbortSignal;
  /** Milliseconds of a clock; the process's, if left out. */
  readonly now?: () => number;
}

/** Chunks that are to be compressed together; their bytes, if they were read, and how many they have as they are stored, if that is known. */
interface TakenTogether {
  readonly refs: readonly Ref[];
  readonly chunks: readonly Uint8Array[] | undefined;
  readonly storedBytes: number | undefined;
}

interface SolidPart {
  readonly unit?: SentUnit;
  /** Undefined where they could not be read. */
  readonly cost?: SolidCost;
}

/** What is lacking of a root, told in messages; and chunks of it, as they are. */
export class SentRoot {
  /** Bytes of the body of most messages. */
  readonly bodyBytes: number;
  readonly #source: SentSource;
  readonly #signal: AbortSignal;
  readonly #patches: AsyncGenerator<SentPatch | UnlikeChunks, void, undefined>;
  readonly #compressor: Compressor = new Compressor();
  /** Chunks that are to go as they are stored, and messages of some that were before them. */
  #left: readonly Ref[] = [];
  #ready: SentUnit[] = [];
  #packed: readonly Ref[] = [];
  /** Some of those have no place on a disk. */
  #areScattered = false;
  /** So many chunks are not worth reading before they are sent, since those before them were no smaller compressed; and so many the next time. */
  #unread = 0;
  #unreadNext = TRANSFER_READ_CHUNKS;
  /** Ends that its source's files are kept open. */
  #letGo: (() => void) | undefined;
  readonly #now: () => number;
  readonly #pace: SolidPace;
  /** Chunks that are being compressed together, in order. */
  #solid: { readonly refs: readonly Ref[]; readonly made: Promise<SolidPart> }[] = [];
  /** When the last of them was. */
  #compressedAt = 0;
  /** Whether the last ones were much smaller together. */
  #isSmaller = false;
  /** What the next message would be as its chunks are stored, where they go together. */
  #solidBytes: number | undefined;
  /** Whether those that are ready were made so although others go together. */
  #areLeft = false;

  constructor(source: SentSource, options: SentRootOptions) {
    const { root, length, bases = [], resume, signal } = options;
    const { now = () => performance.now() } = options;
    this.#now = now;
    this.#source = source;
    this.#signal = signal;
    // Of a window that is small several fit in, so that one is on its way while another one is placed.
    const share = Math.floor(windowOf(length) / TRANSFER_MESSAGES_PER_WINDOW);
    this.bodyBytes = Math.min(BULK_BODY_BYTES_MAX, share - costOf(TRANSFER_PACKET_BYTES, 0));
    this.#pace = new SolidPace(windowOf(length), now);
    this.#patches = patchesOfAlike(source, root, bases, {
      signal,
      messageBytes: TRANSFER_PATCH_BYTES,
      ...(resume === undefined ? {} : { isThere: (from, end) => resume.covers(from, end) }),
    });
  }

  /** The next message, when there is room for one; undefined where there is none. Rejects as `patches` does. */
  async next(bottleneck: Bottleneck): Promise<SentUnit | undefined> {
    this.#pace.wanted(bottleneck);
    const unit = await this.#made();
    if (unit !== undefined) this.#pace.handed(unit.bodyBytes, this.#solidBytes ?? unit.bodyBytes);
    this.#solidBytes = undefined;
    return unit;
  }

  async #made(): Promise<SentUnit | undefined> {
    for (;;) {
      const { isTogether } = this.#pace;
      if (isTogether && !this.#areLeft) this.#unpack();
      const ready = this.#ready.shift();
      if (ready !== undefined) {
        this.#packed = this.#packed.slice(ready.chunks);
        return ready;
      }
      const solid = await this.#together(isTogether);
      if (solid !== undefined) return solid;
      if (this.#left.length > 0) {
        await this.#pack();
        this.#areLeft = isTogether;
        continue;
      }
      const next = await this.#patches.next();
      if (next.done === true) return undefined;
      const patch = next.value;
      this.#areScattered = false;
      if ("unlike" in patch) this.#left = patch.unlike;
      else if (patch.body.byteLength <= BULK_BODY_BYTES_MAX) return unitOf(patch);
      else this.#left = patch.refs;
    }
  }

  /** It is over, and nothing is read any more where its messages said that it stands. */
  close(): void {
    this.#letGo?.();
  }

  /** The first of these chunks, read again, or that it is not here. */
  async reread([ref]: readonly Ref[]): Promise<Reread<SentBody>> {
    const [bytes] = await readEach(this.#source, [ref!], this.#signal);
    if (!(bytes instanceof Uint8Array)) return { done: 1, unit: undefined, lost: [ref!] };
    const [unit] = this.#units([ref!], [await this.#encoded(bytes)]);
    return { done: 1, unit, lost: [] };
  }

  /** Makes messages of the next chunks that go as they are stored. */
  async #pack(): Promise<void> {
    let refs = this.#left.slice(0, this.#areScattered ? TRANSFER_READ_CHUNKS : TRANSFER_PLACES);
    let places = await this.#placesOf(refs);
    if (places === undefined) {
      this.#areScattered = true;
      refs = refs.slice(0, TRANSFER_READ_CHUNKS);
      places = await this.#placesOf(refs);
    }
    if (places !== undefined) return this.#packAt(refs, places);
    const unread = this.#left.slice(0, Math.min(this.#unread, TRANSFER_PLACES));
    const lying = unread.length > 0 ? this.#source.plainPlaces?.(unread) : undefined;
    if (lying !== undefined) {
      // Whoever has closed it meanwhile does not hear of this any more.
      this.#signal.throwIfAborted();
      this.#letGo ??= this.#source.hold?.();
      this.#unread -= unread.length;
      return this.#packAt(unread, lying);
    }
    this.#left = this.#left.slice(refs.length);
    this.#packed = refs;
    const chunks = await this.#read(refs);
    this.#ready = this.#units(refs, chunks);
    this.#foundOut(chunks);
  }

  #packAt(refs: readonly Ref[], ranges: ChunkRanges): void {
    this.#left = this.#left.slice(refs.length);
    this.#packed = refs;
    this.#ready = this.#unitsAt(refs, ranges);
  }

  /** Where none of many chunks is smaller compressed, many more need not be read to know it, and twice as many the next time. */
  #foundOut(chunks: readonly StoredChunk[]): void {
    const isPlain =
      chunks.length === TRANSFER_READ_CHUNKS && chunks.every(({ codec }) => codec === Codec.plain);
    this.#unread = isPlain ? this.#unreadNext : 0;
    this.#unreadNext = isPlain
      ? Math.min(this.#unreadNext * 2, TRANSFER_UNREAD_CHUNKS_MAX)
      : TRANSFER_READ_CHUNKS;
  }

  /**
   * The next chunks compressed together, and those behind them are begun with; undefined where that is of no use, or not all of them can be
   * read here: as they are stored they are mended when the receiver complains.
   */
  async #together(isWanted: boolean): Promise<SentUnit | undefined> {
    const atOnce = this.#isSmaller ? SOLID_AT_ONCE : 1;
    while (isWanted && this.#solid.length < atOnce && this.#left.length > 0) {
      const taken = await this.#takeTogether();
      if (taken === undefined || "useless" in taken) {
        // It is asked about again when its turn comes.
        if (taken !== undefined && this.#solid.length === 0) this.#learn(taken.useless);
        break;
      }
      this.#left = this.#left.slice(taken.refs.length);
      const made = this.#compressTogether(taken);
      // Its failure is met when its turn comes.
      made.catch(() => {});
      this.#solid.push({ refs: taken.refs, made });
    }
    const first = this.#solid.shift();
    if (first === undefined) return undefined;
    const { unit, cost } = await first.made;
    if (cost !== undefined) this.#learn(cost);
    if (unit !== undefined) {
      this.#solidBytes = cost?.stored;
      return unit;
    }
    this.#left = [first, ...this.#solid].flatMap(({ refs }) => refs).concat(this.#left);
    this.#solid = [];
    return undefined;
  }

  #learn(cost: SolidCost): void {
    this.#pace.made(cost);
    this.#isSmaller = cost.together < cost.stored;
  }

  /** Chunks that make a part of a patch, or that it is known that they are little smaller together; undefined where they are not here. */
  async #takeTogether(): Promise<TakenTogether | { readonly useless: SolidCost } | undefined> {
    const some = this.#left.slice(0, TRANSFER_READ_CHUNKS);
    const places = await this.#placesOf(some);
    if (places === undefined) {
      const chunks = await this.#readHere(some);
      if (chunks === undefined) return undefined;
      const count = fitting(chunks.map(({ byteLength }) => byteLength));
      this.#discard(chunks.slice(count));
      return { refs: some.slice(0, count), chunks: chunks.slice(0, count), storedBytes: undefined };
    }
    const count = fitting(places.plainBytes);
    const stored = sumOf(places.storedBytes.subarray(0, count));
    const plain = sumOf(places.plainBytes.subarray(0, count));
    if (stored > plain * SOLID_STORED_SHARE_MAX)
      return { useless: { plain, stored, together: stored, ms: 0 } };
    return { refs: some.slice(0, count), chunks: undefined, storedBytes: stored };
  }

  /** Without a unit where it is of no use after all. */
  async #compressTogether(taken: TakenTogether): Promise<SolidPart> {
    const { refs } = taken;
    const chunks = taken.chunks ?? (await this.#readHere(refs));
    if (chunks === undefined) return {};
    const plain = Buffer.concat(chunks);
    const lengths = chunks.map(({ byteLength }) => byteLength);
    this.#discard(chunks);
    const begun = this.#now();
    const frame = await compressPart(plain, SLOW_LINK_LEVEL);
    // What is compressed beside another one waits for the same cores.
    const ms = this.#now() - Math.max(begun, this.#compressedAt);
    this.#compressedAt = this.#now();
    const plainBytes = plain.byteLength;
    // What they would be as they are stored is known of those that are stored, and otherwise found out to no purpose.
    const stored = taken.storedBytes ?? plainBytes;
    const useless = { cost: { plain: plainBytes, stored, together: stored, ms } };
    if (frame.byteLength > plainBytes * SOLID_STORED_SHARE_MAX) return useless;
    const patch = await writeChunkPatch([{ refs, lengths, dictionary: [], frame }], [], NO_BYTES);
    const together = patch.body.byteLength;
    if (together > BULK_BODY_BYTES_MAX) return useless;
    return {
      unit: unitOf({ ...patch, refs, chunks: refs.length, plainBytes, patchedChunks: 0 }),
      cost: { plain: plainBytes, stored, together, ms },
    };
  }

  /** Undefined where not all of them can be read here. */
  async #readHere(refs: readonly Ref[]): Promise<Uint8Array[] | undefined> {
    const own = { read: (wanted: readonly Ref[]) => readOwn(this.#source, wanted, this.#signal) };
    const read = await readEach(own, refs, this.#signal);
    const chunks = read.filter((bytes) => bytes instanceof Uint8Array);
    return chunks.length < refs.length ? undefined : chunks;
  }

  /** What is ready is made anew. */
  #unpack(): void {
    this.#left = [...this.#packed, ...this.#left];
    [this.#ready, this.#packed] = [[], []];
  }

  /** Nobody needs these any more. */
  #discard(chunks: readonly Uint8Array[]): void {
    if (this.#source.readOwn !== undefined) for (const chunk of chunks) discardPlain(chunk, Codec.zstd);
  }

  async #placesOf(refs: readonly Ref[]): Promise<StoredPlaces | undefined> {
    return await this.#source.places?.(Buffer.concat(refs));
  }

  async #read(refs: readonly Ref[]): Promise<StoredChunk[]> {
    const stored = await this.#source.readStored?.(refs, this.#signal);
    if (stored !== undefined) return stored;
    const chunks = await this.#source.read(refs, this.#signal);
    return await Promise.all(chunks.map((plain) => this.#encoded(plain)));
  }

  async #encoded(plain: Uint8Array): Promise<StoredChunk> {
    return { ...(await this.#compressor.compressAside(plain)), plainBytes: plain.byteLength };
  }

  /** Messages whose bodies are read where they stand. */
  #unitsAt(refs: readonly Ref[], { files, file, offset, ...rows }: ChunkRanges): SentUnit[] {
    const all: StoredRows = { ...rows, refs: Buffer.concat(refs) };
    return this.#split(rows.storedBytes).map(([from, end]) => {
      const bytes = rows.storedBytes.slice(from, end);
      return storedUnit(sliceOf(all, from, end), {
        files,
        file: file.slice(from, end),
        offset: offset.slice(from, end),
        bytes,
      });
    });
  }

  #units(refs: readonly Ref[], chunks: readonly StoredChunk[]): SentUnit[] {
    const all: StoredRows = {
      refs: Buffer.concat(refs),
      storedBytes: Uint32Array.from(chunks, ({ bytes }) => bytes.byteLength),
      plainBytes: Uint32Array.from(chunks, ({ plainBytes }) => plainBytes),
      codec: Uint8Array.from(chunks, ({ codec }) => codec),
    };
    return this.#split(all.storedBytes).map(([from, end]) => {
      // A message's body is given away, and what was read may be somebody else's too.
      const body = joinBytes(chunks.slice(from, end).map(({ bytes }) => bytes));
      return storedUnit(sliceOf(all, from, end), body);
    });
  }

  /** Rows that make a message together. */
  #split(storedBytes: Uint32Array): (readonly [number, number])[] {
    const spans: (readonly [number, number])[] = [];
    let [from, bytes] = [0, 0];
    for (let row = 0; row < storedBytes.length; row++) {
      const isFull = bytes + storedBytes[row]! > this.bodyBytes || row - from === TRANSFER_ROWS_MAX;
      if (row > from && isFull) {
        spans.push([from, row]);
        [from, bytes] = [row, 0];
      }
      bytes += storedBytes[row]!;
    }
    spans.push([from, storedBytes.length]);
    return spans;
  }
}

/** Those of the roots that are plain streams here, as far as their tops tell: what else they need is read when it is. */
export async function readableRoots(
  source: ChunkSource,
  roots: readonly Ref[],
  signal: AbortSignal,
): Promise<Ref[]> {
  const found: Ref[] = [];
  for (const root of roots) {
    try {
      if ((await describeStream(source, root, signal)).isPlain) found.push(root);
    } catch (error) {
      if (!isStreamFault(error)) throw error;
    }
  }
  return found;
}

const NO_BYTES = new Uint8Array(0);

/** How many chunks of these lengths make a part of a patch: one at least. */
function fitting(plainBytes: ArrayLike<number>): number {
  let [count, bytes] = [0, 0];
  while (count < plainBytes.length && bytes + plainBytes[count]! <= PATCH_PART_BYTES_MAX)
    bytes += plainBytes[count++]!;
  return Math.max(count, 1);
}

function sumOf(numbers: Uint32Array): number {
  return numbers.reduce((sum, number) => sum + number, 0);
}

function sliceOf(
  { refs, storedBytes, plainBytes, codec }: StoredRows,
  from: number,
  end: number,
): StoredRows {
  return {
    refs: refs.subarray(from * REF_BYTES, end * REF_BYTES),
    storedBytes: storedBytes.subarray(from, end),
    plainBytes: plainBytes.subarray(from, end),
    codec: codec.subarray(from, end),
  };
}

function storedUnit(rows: StoredRows, body: SentBody): SentUnit {
  return {
    form: DataForm.stored,
    packets: encodeRows(rows),
    body,
    bodyBytes: rows.storedBytes.reduce((sum, bytes) => sum + bytes, 0),
    chunks: rows.codec.length,
    plainBytes: rows.plainBytes.reduce((sum, bytes) => sum + bytes, 0),
    patchedChunks: 0,
    compressedChunks: rows.codec.reduce((sum, codec) => sum + (codec === Codec.plain ? 0 : 1), 0),
  };
}

function unitOf({ kind, packets, body, chunks, plainBytes, patchedChunks }: SentPatch): SentUnit {
  return {
    form: kind === PatchKind.streams ? DataForm.streams : DataForm.chunks,
    packets,
    body,
    bodyBytes: body.byteLength,
    chunks,
    plainBytes,
    patchedChunks,
    compressedChunks: body.byteLength < plainBytes ? chunks - patchedChunks : 0,
  };
}
