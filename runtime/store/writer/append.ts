/** What a writer appends: the chunks of a block that are new (the hot path of a put), and what happens to names. */
import { Codec, decompress, discardPlain } from "../../../packets/codec.ts";
import type { Compressor, Encoded } from "../../../packets/codec.ts";
import { isRefOf, refAt, refKey, refToHex, sha256, sha256Key } from "../../../packets/digest.ts";
import { REF_BYTES } from "../../../packets/layout.ts";
import type { Binding, NameCondition, NameRecord } from "../../contracts/catalog.ts";
import type { StoredForms } from "../../contracts/chunks.ts";
import { StoreError, StoreErrorCode, nameChanged } from "../../errors.ts";
import type { StorePaths } from "../directory.ts";
import type { Disk } from "../disk.ts";
import { reading } from "../index/database.ts";
import type { ChunkRow, IndexTables } from "../index/tables.ts";
import type { SegmentAppender } from "../segments/appender.ts";
import { damagedChunk } from "../segments/chunk-reader.ts";
import {
  NameAction,
  RecordKind,
  encodeName,
  nameToBytes,
  nameToSearch,
  storedAtOf,
} from "../segments/format.ts";
import type { NameEvent } from "../segments/format.ts";
import type { Commits } from "./commits.ts";
import type { OpenWriter, OpenWriters } from "./open-writers.ts";
import { PLACE_NUMBERS } from "./protocol.ts";
import type { WriteAnswer } from "./protocol.ts";

/** What the parts of a store's writer share. */
export interface WriterContext {
  readonly paths: StorePaths;
  readonly disk: Disk;
  readonly segments: SegmentAppender;
  readonly commits: Commits;
  readonly writers: OpenWriters;
  /** Another object after the index was built again: read it anew after each await. */
  readonly tables: IndexTables;
  /** The store's check seed. */
  readonly seed: number;
  /** A sequence for the next record. */
  nextSequence(): number;
  /** Says that a segment's file was removed: whoever has it open keeps its bytes from being free. */
  onDropped(segment: number): void;
  /** For what makes room: does `work`, and once more with what was kept free for it when the disk is full. */
  withReserve<T>(work: (isAgain: boolean) => Promise<T>): Promise<T>;
}

/** Appends the chunks of a valid block that are nowhere yet, as they are without a compressor. The caller flushes the segments. */
export function appendBlock(
  store: WriterContext,
  writer: OpenWriter,
  compressor: Compressor | undefined,
  block: Uint8Array<ArrayBuffer>,
  lengths: Uint32Array,
): WriteAnswer {
  return reading(store.tables.database, lengths.length, () => {
    const append = new BlockAppend(store, writer, lengths.length);
    let start = 0;
    for (const length of lengths) {
      const chunk = block.subarray(start, (start += length));
      const key = sha256Key(chunk);
      if (append.finds(key)) continue;
      append.add(key, compressor?.compress(chunk) ?? { codec: Codec.plain, bytes: chunk }, length);
    }
    return append.answer();
  });
}

/**
 * Appends chunks as they came, those that compressing made larger as plain bytes. All of them are verified before one is
 * appended: throws PFS_CHUNK_DAMAGED {ref}. The caller flushes the segments.
 */
export function appendStored(
  store: WriterContext,
  writer: OpenWriter,
  block: Uint8Array<ArrayBuffer>,
  { refs, lengths, plainLengths, codecs }: StoredForms,
): WriteAnswer {
  const bodies: Encoded[] = [];
  let start = 0;
  for (const [index, length] of lengths.entries()) {
    const body = block.subarray(start, (start += length));
    const ref = refAt(refs, index);
    const codec = codecs[index] as Codec;
    const plain = decompress(body, codec, plainLengths[index]!);
    if (plain === undefined || !isRefOf(ref, plain)) throw damagedChunk(ref);
    const isSmaller = plain.byteLength <= length;
    bodies.push(isSmaller ? { codec: Codec.plain, bytes: plain } : { codec, bytes: body });
    if (!isSmaller) discardPlain(plain, codec);
  }
  return reading(store.tables.database, lengths.length, () => {
    const append = new BlockAppend(store, writer, lengths.length);
    for (const [index, body] of bodies.entries()) {
      const key = refKey(refAt(refs, index));
      if (!append.finds(key)) append.add(key, body, plainLengths[index]!);
    }
    return append.answer();
  });
}

/** The chunks of one block, in their order, and what became of them. */
class BlockAppend {
  readonly #store: WriterContext;
  readonly #writer: OpenWriter;
  readonly #refs: Uint8Array<ArrayBuffer>;
  /** The same bytes. */
  readonly #keys: Buffer;
  readonly #places: number[] = [];
  #next = 0;
  #newBytes = 0;
  #storedBytes = 0;
  #mendedChunks = 0;

  constructor(store: WriterContext, writer: OpenWriter, count: number) {
    this.#store = store;
    this.#writer = writer;
    this.#refs = new Uint8Array(count * REF_BYTES);
    this.#keys = Buffer.from(this.#refs.buffer);
  }

  /** Takes the next chunk if it is there already; `add` has to follow otherwise. */
  finds(key: string): boolean {
    this.#keys.write(key, this.#next * REF_BYTES, "latin1");
    const ref = refAt(this.#refs, this.#next);
    const known = findChunk(this.#store, ref, key);
    if (known?.isDamaged === true) this.#mendedChunks++;
    if (known === undefined || known.isDamaged) return false;
    this.#store.writers.rely(this.#writer, ref, known.place);
    this.#next++;
    return true;
  }

  add(key: string, { codec, bytes: body }: Encoded, plainBytes: number): void {
    const { segments, commits, writers } = this.#store;
    const ref = refAt(this.#refs, this.#next);
    const record = { kind: RecordKind.chunk, codec, plainBytes, ref, body };
    const place = segments.append({ ...record, sequence: this.#store.nextSequence() });
    commits.addChunk(key, { place, storedBytes: body.byteLength, plainBytes, codec });
    writers.rely(this.#writer, ref, place);
    this.#places.push(this.#next++, place, body.byteLength, plainBytes, codec);
    this.#newBytes += plainBytes;
    this.#storedBytes += body.byteLength;
  }

  answer(): WriteAnswer {
    const places = Float64Array.from(this.#places);
    const newChunks = places.length / PLACE_NUMBERS;
    return {
      refs: this.#refs,
      newChunks,
      newBytes: this.#newBytes,
      storedBytes: this.#storedBytes,
      mendedChunks: this.#mendedChunks,
      places,
    };
  }
}

/** Where a chunk is, undefined when it is nowhere, or only with wrong bytes. */
export function findPlace(
  store: WriterContext,
  ref: Uint8Array,
  key: string = refKey(ref),
): number | undefined {
  const known = findChunk(store, ref, key);
  return known === undefined || known.isDamaged ? undefined : known.place;
}

function findChunk(
  store: WriterContext,
  ref: Uint8Array,
  key: string,
): Pick<ChunkRow, "place" | "isDamaged"> | undefined {
  const pending = store.commits.find(key);
  return pending === undefined ? store.tables.chunks.find(ref) : { place: pending.place, isDamaged: false };
}

/** Binds and removes names: a record each, and the one sync that makes it durable together with its chunks. */
export class NameWriter {
  readonly #store: WriterContext;
  readonly #durable: () => Promise<void>;

  /** `durable` resolves when everything appended before is durable and in the index. */
  constructor(store: WriterContext, durable: () => Promise<void>) {
    this.#store = store;
    this.#durable = durable;
  }

  /** Rejects with PFS_NAME_INVALID {reason}, PFS_NAME_CHANGED {name, expected, version}, or PFS_CHUNK_MISSING {ref} when the root is not here. */
  async bind(
    writer: OpenWriter,
    { name, root, length }: Binding,
    { expected }: NameCondition,
  ): Promise<NameRecord> {
    const bytes = nameToBytes(name);
    if (findPlace(this.#store, root) === undefined) throw missingRoot(root);
    const now = versionOf(this.#latest(bytes));
    if (expected !== undefined && expected !== now) throw nameChanged(name, expected, now);
    const version = now + 1;
    const storedAt = storedAtOf(Date.now());
    await this.#append(writer, { action: NameAction.bind, name: bytes, version, storedAt, length, root });
    await this.#commit(writer);
    return { name, root, length, version, storedAt };
  }

  /** Whether there was such a name. */
  async remove(name: string, condition: NameCondition): Promise<boolean> {
    const { writers, segments } = this.#store;
    const writer = writers.open(segments.place);
    try {
      // Two steps: the record must not be written again because the index could not be.
      const isThere = await this.#store.withReserve(() => this.#appendRemoval(writer, name, condition));
      if (isThere) await this.#store.withReserve(() => this.#commit(writer));
      return isThere;
    } finally {
      writers.close(writer.id);
    }
  }

  async #appendRemoval(writer: OpenWriter, name: string, { expected }: NameCondition): Promise<boolean> {
    const bytes = nameToSearch(name);
    const latest = bytes && this.#latest(bytes);
    const version = versionOf(latest);
    if (expected !== undefined && expected !== version) throw nameChanged(name, expected, version);
    if (bytes === undefined || version === 0) return false;
    const root = new Uint8Array(REF_BYTES);
    const removal = { action: NameAction.remove, name: bytes, version, length: 0, root };
    await this.#append(writer, { ...removal, storedAt: storedAtOf(Date.now()) });
    return true;
  }

  #latest(name: Uint8Array): NameEvent | undefined {
    return this.#store.commits.latest(name) ?? this.#store.tables.names.latest(name);
  }

  async #append(writer: OpenWriter, event: NameEvent): Promise<void> {
    const { segments, commits, writers } = this.#store;
    const body = encodeName(event);
    const sequence = this.#store.nextSequence();
    const record = { kind: RecordKind.name, codec: Codec.plain, plainBytes: body.byteLength, body };
    // One sync makes the chunks and the name durable: recovery stops at the first record that is not whole, so it never
    // finds a name whose chunks did not reach the disk.
    const place = segments.append({ ...record, sequence, ref: sha256(body) });
    commits.addName({ event, sequence, place });
    writers.touch(writer);
    await segments.flush();
  }

  /** Everything appended before is durable when it resolves. */
  async #commit(writer: OpenWriter): Promise<void> {
    await this.#durable();
    if (writer.failure !== undefined) throw writer.failure;
  }
}

/** 0 when the name is not bound. */
function versionOf(latest: NameEvent | undefined): number {
  return latest?.action === NameAction.bind ? latest.version : 0;
}

function missingRoot(root: Uint8Array): StoreError {
  const ref = refToHex(root);
  return new StoreError(StoreErrorCode.chunkMissing, `a name cannot point to ${ref}, which is not here`, {
    ref,
  });
}
