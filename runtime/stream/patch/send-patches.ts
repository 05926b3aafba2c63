/**
 * What a receiver needs of a root when it has others, as patches: first the streams that it lacks, against those of its bases
 * that are like them, then the chunks that they name, a few neighbours at a time, against the old bytes around the place
 * where they come from. Memory is some parts and their dictionaries, however large the files.
 */
import { Codec, discardPlain } from "../../../packets/codec.ts";
import { sameBytes, sha256 } from "../../../packets/digest.ts";
import type { Ref } from "../../../packets/digest.ts";
import {
  FRAME_PACKETS_MAX,
  PATCH_DICTIONARIES_BYTES_MAX,
  PATCH_DICTIONARY_BYTES_MAX,
  PATCH_PART_BYTES_MAX,
  PATCH_RANGES_MAX,
} from "../../../packets/limits.ts";
import { compressPart, writeChunkPatch, writeStreamPatch } from "../../../packets/patch.ts";
import type { BaseRange, Patch, PatchPart } from "../../../packets/patch.ts";
import type { ChunkSource } from "../../contracts/chunks.ts";
import {
  PATCH_MESSAGE_BYTES,
  PATCH_PARTS_AT_ONCE,
  PATCH_PART_BYTES,
  PATCH_PART_CHUNKS_MAX,
} from "../../limits.ts";
import { readOwn } from "../../read-each.ts";
import { BaseBytes, Bases, calledStreams } from "./bases.ts";
import { lacking } from "./lacking.ts";
import type { IsThere, LackingChunk, LackingRun, LackingStream, LackingUnit } from "./lacking.ts";
import { partThreads } from "./part-threads.ts";
import { POOR_SHARE, Places } from "./places.ts";
import type { PartPlace } from "./places.ts";

export interface SendOptions {
  readonly signal?: AbortSignal | undefined;
  /** Of so many parts one is written, and stands for the others: for an estimate. 1, if left out. */
  readonly every?: number;
  /** What the receiver has of the root itself: it is left out. */
  readonly isThere?: IsThere;
  /** Bytes of chunks in one patch, of which there is one chunk at least; PATCH_MESSAGE_BYTES, if left out. */
  readonly messageBytes?: number;
}

/** A patch, and what it brings. */
export interface SentPatch extends Patch {
  readonly refs: readonly Ref[];
  /** Stream chunks, or chunks of data, and their plain bytes. */
  readonly chunks: number;
  readonly plainBytes: number;
  /** Those that are written against bytes of a base. */
  readonly patchedChunks: number;
}

/** Chunks of data that no base is like, in order: they cost least as they are stored. */
export interface UnlikeChunks {
  readonly unlike: readonly Ref[];
}

/** A part before it is read: neighbours, and where they may come from. */
interface PlannedPart extends PartPlace {
  readonly chunks: readonly LackingChunk[];
}

interface WrittenPart extends PatchPart {
  readonly at: number;
  readonly end: number;
  readonly plainBytes: number;
}

/**
 * Yields the patches in the order in which they can be read. A receiver that has all of `bases` then has all of `root`. Rejects
 * with PFS_STREAM_NOT_PLAIN when `root` or one of the bases has to be computed, and as reading their chunks does.
 */
export async function* patches(
  source: ChunkSource,
  root: Ref,
  bases: readonly Ref[],
  options: SendOptions = {},
): AsyncGenerator<SentPatch, void, undefined> {
  for await (const patch of sent(source, root, bases, options, false)) yield patch as SentPatch;
}

/**
 * As `patches`, but chunks for which bases are of no use are told by their refs: those that cannot be made smaller, and without
 * bases all of them. They are not read.
 */
export function patchesOfAlike(
  source: ChunkSource,
  root: Ref,
  bases: readonly Ref[],
  options: SendOptions = {},
): AsyncGenerator<SentPatch | UnlikeChunks, void, undefined> {
  return sent(source, root, bases, options, true);
}

async function* sent(
  source: ChunkSource,
  root: Ref,
  bases: readonly Ref[],
  options: SendOptions,
  leavesUnlike: boolean,
): AsyncGenerator<SentPatch | UnlikeChunks, void, undefined> {
  const stop = new AbortController();
  const signal = options.signal === undefined ? stop.signal : AbortSignal.any([options.signal, stop.signal]);
  signal.throwIfAborted();
  try {
    const sender = await PatchSender.open(source, root, bases, signal, options);
    yield* sender.patches(leavesUnlike);
  } finally {
    stop.abort(STOPPED);
  }
}

/** Parts that are under way when nobody wants more are told so. */
const STOPPED = new Error("no more of the patches is wanted");

class PatchSender {
  readonly #source: ChunkSource;
  readonly #root: Ref;
  readonly #bases: Bases;
  readonly #new: BaseBytes;
  readonly #places: Places;
  readonly #signal: AbortSignal;
  readonly #every: number;
  readonly #isThere: IsThere | undefined;
  readonly #messageBytes: number;
  #parts = 0;

  private constructor(
    source: ChunkSource,
    root: Ref,
    bases: Bases,
    fresh: BaseBytes,
    signal: AbortSignal,
    options: SendOptions,
  ) {
    this.#source = source;
    this.#root = root;
    this.#bases = bases;
    this.#new = fresh;
    this.#places = new Places(bases, signal);
    this.#signal = signal;
    this.#every = options.every ?? 1;
    this.#isThere = options.isThere;
    this.#messageBytes = options.messageBytes ?? PATCH_MESSAGE_BYTES;
  }

  static async open(
    source: ChunkSource,
    root: Ref,
    roots: readonly Ref[],
    signal: AbortSignal,
    options: SendOptions,
  ): Promise<PatchSender> {
    const fresh = new BaseBytes(source, signal);
    const bases = new Bases(source, signal);
    const called = await calledStreams(fresh.streams, root, signal);
    await bases.open(roots, (frame, offset) => called.find(frame, offset) !== undefined);
    return new PatchSender(source, root, bases, fresh, signal, options);
  }

  async *patches(leavesUnlike: boolean): AsyncGenerator<SentPatch | UnlikeChunks, void, undefined> {
    const units = lacking(this.#new.streams, this.#root, this.#bases, this.#signal, this.#isThere);
    for await (const unit of units) {
      if (unit.streams.length > 0) yield await this.#streamPatch(unit.streams);
      if (leavesUnlike && this.#bases.length === 0) yield* unlike(unit.runs.flatMap(({ chunks }) => chunks));
      else yield* this.#chunkPatches(unit, leavesUnlike);
    }
  }

  async #streamPatch(streams: readonly LackingStream[]): Promise<SentPatch> {
    const frames = streams.map(({ frame }) => frame);
    const spans = streams
      .flatMap(({ like }) => like)
      .map(({ at, length }) => this.#bases.rangeOf(at, at + length));
    const ranges = joined(spans.filter((span) => span !== undefined));
    const { dictionary, packets } = await packetsOf(this.#bases.bytes, ranges);
    const patch = await writeStreamPatch(frames, dictionary, packets);
    return {
      ...patch,
      refs: frames.map((frame) => sha256(frame)),
      patchedChunks: dictionary.length === 0 ? 0 : frames.length,
      chunks: frames.length,
      plainBytes: frames.reduce((sum, { byteLength }) => sum + byteLength, 0),
    };
  }

  async *#chunkPatches(
    { runs }: LackingUnit,
    leavesUnlike: boolean,
  ): AsyncGenerator<SentPatch | UnlikeChunks, void, undefined> {
    let parts: WrittenPart[] = [];
    let size = NO_SIZE;
    const left: { readonly ref: Ref }[] = [];
    for await (const part of this.#written(runs)) {
      if (leavesUnlike && part.frame.byteLength >= part.plainBytes) {
        for (const ref of part.refs) left.push({ ref });
        continue;
      }
      const more = sizeOf(part);
      if (parts.length > 0 && !fits(size, more, this.#messageBytes)) {
        yield await this.#chunkPatch(parts);
        [parts, size] = [[], NO_SIZE];
      }
      parts.push(part);
      size = sum(size, more);
    }
    if (parts.length > 0) yield await this.#chunkPatch(parts);
    yield* unlike(left);
  }

  /** The list is written against the streams that name its chunks: they come before it, and it says little else. */
  async #chunkPatch(parts: readonly WrittenPart[]): Promise<SentPatch> {
    const from = parts.reduce((least, { at }) => Math.min(least, at), Number.POSITIVE_INFINITY);
    const end = parts.reduce((most, part) => Math.max(most, part.end), 0);
    const { dictionary, packets } = await packetsOf(this.#new, [
      { root: this.#root, from, length: end - from },
    ]);
    return {
      ...(await writeChunkPatch(parts, dictionary, packets)),
      refs: parts.flatMap(({ refs }) => refs),
      patchedChunks: parts.reduce(
        (sum, part) => sum + (part.dictionary.length === 0 ? 0 : part.refs.length),
        0,
      ),
      chunks: parts.reduce((sum, { refs }) => sum + refs.length, 0),
      plainBytes: parts.reduce((sum, part) => sum + part.plainBytes, 0),
    };
  }

  /** The parts of some runs in order, a few of them under way at once. */
  async *#written(runs: readonly LackingRun[]): AsyncGenerator<WrittenPart, void, undefined> {
    const underWay: Promise<WrittenPart[]>[] = [];
    for (const planned of runs.flatMap(partsOf)) {
      if (this.#parts++ % this.#every !== 0) continue;
      const written = this.#write(planned);
      // Its failure is met when its turn comes.
      written.catch(() => {});
      underWay.push(written);
      if (underWay.length === PATCH_PARTS_AT_ONCE) yield* await underWay.shift()!;
    }
    for (const written of underWay) yield* await written;
  }

  /** Chunks may be longer than their packets tell: then they are written one by one. */
  async #write(planned: PlannedPart): Promise<WrittenPart[]> {
    const refs = planned.chunks.map(({ ref }) => ref);
    const chunks = await readOwn(this.#source, refs, this.#signal);
    try {
      const bytes = chunks.reduce((sum, { byteLength }) => sum + byteLength, 0);
      if (bytes <= PATCH_PART_BYTES_MAX) return [await this.#writeChunks(planned, chunks, bytes)];
      const written: WrittenPart[] = [];
      for (const [index, chunk] of planned.chunks.entries()) {
        const alone = { ...planned, at: chunk.at, chunks: [chunk] };
        written.push(await this.#writeChunks(alone, [chunks[index]!], chunks[index]!.byteLength));
      }
      return written;
    } finally {
      if (this.#source.readOwn !== undefined) for (const chunk of chunks) discardPlain(chunk, Codec.zstd);
    }
  }

  async #writeChunks(
    planned: PlannedPart,
    chunks: readonly Uint8Array[],
    bytes: number,
  ): Promise<WrittenPart> {
    const plain = partThreads.memory.take(bytes);
    let at = 0;
    for (const chunk of chunks) {
      plain.set(chunk, at);
      at += chunk.byteLength;
    }
    try {
      const lengths = chunks.map(({ byteLength }) => byteLength);
      return await this.#writeOne(planned, lengths, plain);
    } finally {
      partThreads.memory.giveBack(plain);
    }
  }

  async #writeOne(planned: PlannedPart, lengths: readonly number[], plain: Uint8Array): Promise<WrittenPart> {
    let ranges = await this.#places.of(plain, planned);
    let frame = await this.#encode(plain, ranges);
    if (ranges.length > 0 && (frame?.byteLength ?? plain.byteLength) > plain.byteLength * POOR_SHARE) {
      const others = await this.#places.of(plain, planned, true);
      const better = sameRanges(ranges, others) ? undefined : await this.#encode(plain, others);
      if (better !== undefined && better.byteLength < (frame?.byteLength ?? Number.POSITIVE_INFINITY)) {
        [ranges, frame] = [others, better];
      }
    }
    if (frame === undefined) {
      const alone = await compressPart(plain);
      // The memory of what did not become smaller is used again.
      [ranges, frame] = [[], alone === plain ? new Uint8Array(plain) : alone];
    }
    const last = planned.chunks.at(-1)!;
    return {
      refs: planned.chunks.map(({ ref }) => ref),
      lengths,
      dictionary: ranges,
      frame,
      at: planned.chunks[0]!.at,
      end: last.at + last.length,
      plainBytes: plain.byteLength,
    };
  }

  /** Undefined where that saves nothing, or there are no old bytes. */
  async #encode(plain: Uint8Array, ranges: readonly BaseRange[]): Promise<Uint8Array | undefined> {
    const length = ranges.reduce((sum, range) => sum + range.length, 0);
    if (length === 0) return undefined;
    const dictionary = partThreads.memory.take(length);
    try {
      await this.#bases.bytes.readAll(ranges, dictionary);
      return await partThreads.encode(plain, dictionary);
    } finally {
      partThreads.memory.giveBack(dictionary);
    }
  }
}

function* unlike(chunks: readonly { readonly ref: Ref }[]): Generator<UnlikeChunks, void, undefined> {
  if (chunks.length > 0) yield { unlike: chunks.map(({ ref }) => ref) };
}

/** What is limited of a patch. */
interface PatchSize {
  readonly plainBytes: number;
  readonly dictionaryBytes: number;
  readonly packets: number;
}

const NO_SIZE: PatchSize = { plainBytes: 0, dictionaryBytes: 0, packets: 0 };

function sizeOf({ plainBytes, refs, dictionary }: WrittenPart): PatchSize {
  const dictionaryBytes = dictionary.reduce((bytes, { length }) => bytes + length, 0);
  return { plainBytes, dictionaryBytes, packets: refs.length + dictionary.length + 1 };
}

function sum(a: PatchSize, b: PatchSize): PatchSize {
  return {
    plainBytes: a.plainBytes + b.plainBytes,
    dictionaryBytes: a.dictionaryBytes + b.dictionaryBytes,
    packets: a.packets + b.packets,
  };
}

function fits(size: PatchSize, more: PatchSize, plainBytesMax: number): boolean {
  const { plainBytes, dictionaryBytes, packets } = sum(size, more);
  return (
    plainBytes <= plainBytesMax &&
    dictionaryBytes <= PATCH_DICTIONARIES_BYTES_MAX &&
    packets <= FRAME_PACKETS_MAX
  );
}

/** The packets of the streams of as many ranges as a dictionary may have, and these ranges. */
async function packetsOf(
  bytes: BaseBytes,
  ranges: readonly BaseRange[],
): Promise<{ dictionary: BaseRange[]; packets: Uint8Array }> {
  const dictionary: BaseRange[] = [];
  const frames: Uint8Array[] = [];
  let room = PATCH_DICTIONARY_BYTES_MAX;
  for (const range of ranges.slice(0, PATCH_RANGES_MAX)) {
    const packets =
      range.length === 0 ? undefined : await bytes.packets(range.root, range.from, range.length, room);
    if (packets === undefined) continue;
    room -= packets.reduce((sum, { byteLength }) => sum + byteLength, 0);
    frames.push(...packets);
    dictionary.push(range);
  }
  return { dictionary, packets: Buffer.concat(frames) };
}

/** Ranges in order, those that touch as one. */
function joined(ranges: readonly BaseRange[]): BaseRange[] {
  const result: BaseRange[] = [];
  for (const range of ranges.toSorted((a, b) => Buffer.compare(a.root, b.root) || a.from - b.from)) {
    const last = result.at(-1);
    if (last === undefined || !sameBytes(last.root, range.root) || range.from > last.from + last.length) {
      result.push(range);
    } else {
      const end = Math.max(last.from + last.length, range.from + range.length);
      result[result.length - 1] = { ...last, length: end - last.from };
    }
  }
  return result;
}

function sameRanges(a: readonly BaseRange[], b: readonly BaseRange[]): boolean {
  return (
    a.length === b.length &&
    a.every(({ root, from, length }, index) => {
      const other = b[index]!;
      return from === other.from && length === other.length && sameBytes(root, other.root);
    })
  );
}

/** The chunks of a run, put together to parts. */
function partsOf({ chunks, before, after }: LackingRun): PlannedPart[] {
  const parts: PlannedPart[] = [];
  let some: LackingChunk[] = [];
  let bytes = 0;
  for (const chunk of chunks) {
    // A chunk may be longer than its packet tells: so many of them are read at once, whatever they are.
    if (
      some.length === PATCH_PART_CHUNKS_MAX ||
      (some.length > 0 && bytes + chunk.length > PATCH_PART_BYTES)
    ) {
      parts.push({ at: some[0]!.at, before, after, chunks: some });
      [some, bytes] = [[], 0];
    }
    some.push(chunk);
    bytes += chunk.length;
  }
  if (some.length > 0) parts.push({ at: some[0]!.at, before, after, chunks: some });
  return parts;
}
