/**
 * A file outside of any store as chunks of one: its root and streams, as if it had been stored, and its chunks where they lie. It is
 * read once, or not at all where somebody has its streams, and nothing of it is kept but these, a thousandth of its bytes, and where they
 * say its chunks are. Files may change at any time, so that what is read of it later is verified: a chunk that is no more there is missing.
 */
import { constants, open } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { Codec } from "../../packets/codec.ts";
import { isRefOf, refKey, refToHex } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { Op } from "../../packets/layout.ts";
import { atOf, fromAt, lengthAt, opAt, packetCount, refOf } from "../../packets/packet.ts";
import { Stream } from "../../packets/stream-reader.ts";
import { StoreError, StoreErrorCode, StreamError, StreamErrorCode } from "../errors.ts";
import { HELD_FILE_BYTES_MAX, HELD_READ_BYTES, TURN_STEP_PACKETS } from "../limits.ts";
import { readEach } from "../read-each.ts";
import { turnOver } from "../turns.ts";
import type { ChunkRanges, ChunkSource, PlainPlaces } from "../contracts/chunks.ts";
import { HashingSink } from "./hashing-sink.ts";
import { ingest } from "./ingest.ts";
import type { Ingested } from "./ingest.ts";
import { fileSource } from "./sources.ts";
import { walkStreams } from "./walk.ts";

/** Windows has neither the flag nor what it is for. */
const NONBLOCK = constants.O_NONBLOCK ?? 0;

export interface HeldFileOptions {
  readonly signal?: AbortSignal | undefined;
  /** Called with the bytes read so far. */
  readonly onProgress?: ((bytes: number) => void) | undefined;
}

interface Place {
  readonly at: number;
  readonly length: number;
}

export class HeldFile implements ChunkSource, PlainPlaces, AsyncDisposable {
  readonly root: Ref;
  /** Bytes that the root yields, packets of all its streams, and chunks with them, one that repeats counted each time. */
  readonly length: number;
  readonly packets: number;
  readonly chunks: number;
  readonly #file: FileHandle;
  /** By their keys: stream chunks, and where others are. */
  readonly #streams: ReadonlyMap<string, Uint8Array>;
  readonly #places: ReadonlyMap<string, Place>;
  /** Those that read it by its descriptor. */
  #holders = 0;
  #isLeft = false;

  private constructor(
    file: FileHandle,
    { root, length, packets, chunks }: Pick<Ingested, "root" | "length" | "packets" | "chunks">,
    streams: ReadonlyMap<string, Uint8Array>,
    places: ReadonlyMap<string, Place>,
  ) {
    this.#file = file;
    this.root = root;
    this.length = length;
    this.packets = packets;
    this.chunks = chunks;
    this.#streams = streams;
    this.#places = places;
  }

  /**
   * Reads a regular file. Rejects as the system does, with PFS_INPUT_INVALID {reason} for what is no such file or has more than
   * HELD_FILE_BYTES_MAX, PFS_INPUT_CHANGED {path, reason} for one that changes meanwhile, and with the signal's reason.
   */
  static async open(path: string, { signal, onProgress }: HeldFileOptions = {}): Promise<HeldFile> {
    const file = await openRegular(path);
    try {
      const streams = new Map<string, Uint8Array>();
      await using sink = new HashingSink();
      const ingested = await ingest(sink, fileSource(path, signal), {
        onStream: (ref, bytes) => void streams.set(refKey(ref), bytes),
        ...(signal === undefined ? {} : { signal }),
        ...(onProgress === undefined ? {} : { onProgress }),
      });
      const places = await placesIn(streams, ingested.root, signal);
      return new HeldFile(file, ingested, streams, places);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /**
   * A file that somebody knows to have this root, whose streams `source` has: nothing of it is read. Rejects as `open` does, and as
   * reading the streams does.
   */
  static async known(path: string, root: Ref, source: ChunkSource, signal?: AbortSignal): Promise<HeldFile> {
    const file = await openRegular(path);
    try {
      const streams = new Map<string, Uint8Array>();
      const counted = { root, length: 0, packets: 0, chunks: 0 };
      for await (const { ref, depth, frame } of walkStreams(source, root, signal)) {
        streams.set(refKey(ref), frame);
        const count = packetCount(frame);
        if (depth === 0) counted.length = lengthAt(frame, count - 1);
        counted.packets += count;
        counted.chunks += 1 + copiesIn(frame, count);
      }
      return new HeldFile(file, counted, streams, await placesIn(streams, root, signal));
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** Its streams: all that `known` needs of it. */
  get streams(): Iterable<Uint8Array> {
    return this.#streams.values();
  }

  /** Whether it has the chunk, or had it when it was read. */
  has(ref: Ref): boolean {
    return this.#streams.has(refKey(ref)) || this.#places.has(refKey(ref));
  }

  async read(refs: readonly Ref[], signal?: AbortSignal): Promise<Uint8Array[]> {
    signal?.throwIfAborted();
    const runs: Promise<Uint8Array[]>[] = [];
    for (let index = 0; index < refs.length;) {
      const run = this.#run(refs, index);
      index += run.refs.length;
      runs.push(
        run.place === undefined ? Promise.resolve(run.streams) : this.#readRun(run.refs, run.place, signal),
      );
    }
    return (await Promise.all(runs)).flat();
  }

  plainPlaces(refs: readonly Ref[]): ChunkRanges | undefined {
    const offset = new Float64Array(refs.length);
    const bytes = new Uint32Array(refs.length);
    for (const [row, ref] of refs.entries()) {
      const place = this.#places.get(refKey(ref));
      if (place === undefined) return undefined;
      offset[row] = place.at;
      bytes[row] = place.length;
    }
    const codec = new Uint8Array(refs.length).fill(Codec.plain);
    const file = new Uint32Array(refs.length);
    return { files: [this.#file.fd], file, offset, storedBytes: bytes, plainBytes: bytes, codec };
  }

  hold(): () => void {
    this.#holders++;
    let isHeld = true;
    return () => {
      if (!isHeld) return;
      isHeld = false;
      this.#holders--;
      if (this.#isLeft) void this.#closeUnlessHeld().catch(() => undefined);
    };
  }

  /** It is closed when nobody holds it any more. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isLeft = true;
    await this.#closeUnlessHeld();
  }

  async #closeUnlessHeld(): Promise<void> {
    if (this.#holders === 0) await this.#file.close();
  }

  /** The chunks from `index` on that stand one behind the other, or a stream. Throws PFS_CHUNK_MISSING. */
  #run(
    refs: readonly Ref[],
    index: number,
  ): { readonly refs: readonly Ref[]; readonly streams: Uint8Array[]; readonly place: Place | undefined } {
    const first = refs[index]!;
    const stream = this.#streams.get(refKey(first));
    if (stream !== undefined) return { refs: [first], streams: [stream], place: undefined };
    const place = this.#places.get(refKey(first));
    if (place === undefined) throw missing(first);
    let { length } = place;
    let next = index + 1;
    for (; next < refs.length; next++) {
      const beside = this.#places.get(refKey(refs[next]!));
      if (beside?.at !== place.at + length || length + beside.length > HELD_READ_BYTES) break;
      length += beside.length;
    }
    return { refs: refs.slice(index, next), streams: [], place: { at: place.at, length } };
  }

  async #readRun(
    refs: readonly Ref[],
    { at, length }: Place,
    signal: AbortSignal | undefined,
  ): Promise<Uint8Array[]> {
    const bytes = new Uint8Array(length);
    const read = await this.#file.read(bytes, 0, length, at).catch(() => undefined);
    let start = 0;
    const chunks: Uint8Array[] = [];
    for (const ref of refs) {
      await turnOver();
      signal?.throwIfAborted();
      const end = start + this.#places.get(refKey(ref))!.length;
      const chunk = bytes.subarray(start, end);
      if (read === undefined || read.bytesRead < end || !isRefOf(ref, chunk)) throw missing(ref);
      chunks.push(chunk);
      start = end;
    }
    return chunks;
  }
}

/** Several of them, of which some may be of no use. */
export class HeldFiles implements AsyncDisposable {
  readonly files: readonly HeldFile[];

  private constructor(files: readonly HeldFile[]) {
    this.files = files;
  }

  /** Reads the files. One that cannot be read, or changes meanwhile, holds nothing. Rejects with the signal's reason. */
  static async open(paths: readonly string[], signal?: AbortSignal): Promise<HeldFiles> {
    const files: HeldFile[] = [];
    try {
      for (const path of paths) {
        const file = await HeldFile.open(path, { signal }).catch(() => undefined);
        signal?.throwIfAborted();
        if (file !== undefined) files.push(file);
      }
      return new HeldFiles(files);
    } catch (error) {
      await closeAll(files);
      throw error;
    }
  }

  /** A source that reads from the files what they have, and the rest from `source`. */
  before(source: ChunkSource): ChunkSource {
    return heldBefore(this.files, source);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await closeAll(this.files);
  }
}

/** A source that reads from the files what they have, as long as they have it, and the rest from `source`. */
export function heldBefore(files: readonly HeldFile[], source: ChunkSource): ChunkSource & PlainPlaces {
  return {
    plainPlaces: (refs) => {
      for (const file of files) {
        const places = file.plainPlaces(refs);
        if (places !== undefined) return places;
      }
      return undefined;
    },
    hold: () => {
      const ends = files.map((file) => file.hold());
      return () => {
        for (const end of ends) end();
      };
    },
    read: async (refs, signal) => {
      signal?.throwIfAborted();
      const found: (Uint8Array | undefined)[] = refs.map(() => undefined);
      for (const file of files) await readHeld(file, refs, found);
      const lacking = refs.filter((_, index) => found[index] === undefined);
      const others = lacking.length === 0 ? [] : await source.read(lacking, signal);
      let next = 0;
      return found.map((bytes) => bytes ?? others[next++]!);
    },
  };
}

/** Of those that were not found yet the file's. */
async function readHeld(
  file: HeldFile,
  refs: readonly Ref[],
  found: (Uint8Array | undefined)[],
): Promise<void> {
  const own = [...refs.keys()].filter((index) => found[index] === undefined && file.has(refs[index]!));
  const read = await readEach(
    file,
    own.map((index) => refs[index]!),
  );
  own.forEach((index, row) => {
    const bytes = read[row]!;
    if (bytes instanceof Uint8Array) found[index] = bytes;
  });
}

async function closeAll(files: readonly HeldFile[]): Promise<void> {
  for (const file of files) await file[Symbol.asyncDispose]();
}

/** Where the chunks of a file are, as its streams say. */
async function placesIn(
  streams: ReadonlyMap<string, Uint8Array>,
  root: Ref,
  signal: AbortSignal | undefined,
): Promise<Map<string, Place>> {
  const places = new Map<string, Place>();
  const met = new Set<string>();
  const visit = async (ref: Ref, start: number): Promise<void> => {
    if (met.has(refKey(ref))) return;
    met.add(refKey(ref));
    const { frame, count } = Stream.parse(streams.get(refKey(ref))!);
    for (let index = 0; index < count; index++) {
      if (index % TURN_STEP_PACKETS === 0) {
        await turnOver();
        signal?.throwIfAborted();
      }
      const op = opAt(frame, index);
      const at = start + atOf(frame, index) - fromAt(frame, index);
      if (op === Op.CALL) await visit(refOf(frame, index), at);
      else if (op === Op.COPY) {
        const key = refKey(refOf(frame, index));
        if (!places.has(key)) places.set(key, { at, length: lengthAt(frame, index) });
      }
    }
  };
  await visit(root, 0);
  return places;
}

/** A pipe that nobody writes to is open at once. */
async function openRegular(path: string): Promise<FileHandle> {
  const file = await open(path, constants.O_RDONLY | NONBLOCK);
  try {
    const stats = await file.stat();
    if (!stats.isFile()) throw notHeld(path, "it is no regular file");
    if (stats.size > HELD_FILE_BYTES_MAX) throw notHeld(path, `it has ${stats.size} bytes`);
    return file;
  } catch (error) {
    await file.close();
    throw error;
  }
}

function copiesIn(frame: Uint8Array, count: number): number {
  let copies = 0;
  for (let index = 0; index < count; index++) if (opAt(frame, index) === Op.COPY) copies++;
  return copies;
}

function missing(ref: Ref): StoreError {
  const hex = refToHex(ref);
  return new StoreError(StoreErrorCode.chunkMissing, `chunk ${hex} is not here`, { ref: hex });
}

function notHeld(path: string, reason: string): StreamError {
  return new StreamError(
    StreamErrorCode.invalidInput,
    `${path} cannot be used in the place of a stored file: ${reason}`,
    { reason },
  );
}
