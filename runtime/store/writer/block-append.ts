/** The hot path of a put: which chunks of a block are new, and their records. */
import { refAt, refKey, sameBytes, sha256 } from "../../../packets/digest.ts";
import { REF_BYTES } from "../../../packets/layout.ts";
import { CHUNK_BYTES_MAX } from "../../../packets/limits.ts";
import { Codec, decompress } from "../../../packets/codec.ts";
import type { Compressor } from "../../../packets/codec.ts";
import type { StoredForms } from "../../contracts/chunks.ts";
import { damagedChunk } from "../segments/chunk-reader.ts";
import { RecordKind } from "../segments/segment-format.ts";
import type { OpenWriter } from "./open-writers.ts";
import type { WriterContext } from "./writer-context.ts";
import { PLACE_NUMBERS } from "./writer-protocol.ts";
import type { WriteAnswer } from "./writer-protocol.ts";

/** Why `lengths` do not cut `block` into chunks, or null. */
export function invalidBlock(block: Uint8Array, lengths: Uint32Array): string | null {
  let sum = 0;
  for (const length of lengths) {
    if (length < 1 || length > CHUNK_BYTES_MAX)
      return `a chunk has 1 to ${CHUNK_BYTES_MAX} bytes, not ${length}`;
    sum += length;
  }
  return sum === block.byteLength ? null : `chunks of ${sum} bytes in a block of ${block.byteLength}`;
}

/** Appends the chunks of a valid block that are nowhere yet. The caller flushes the segments. */
export function appendBlock(
  store: WriterContext,
  writer: OpenWriter,
  compressor: Compressor,
  block: Uint8Array<ArrayBuffer>,
  lengths: Uint32Array,
): WriteAnswer {
  const append = new BlockAppend(store, writer, lengths.length);
  let start = 0;
  for (const length of lengths) {
    const chunk = block.subarray(start, (start += length));
    const ref = sha256(chunk);
    const key = refKey(ref);
    if (append.finds(ref, key)) continue;
    const packed = compressor.compress(chunk);
    const codec = packed === undefined ? Codec.plain : Codec.zstd;
    append.add(ref, key, packed ?? chunk, length, codec);
  }
  return append.answer();
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
  const bodies: Uint8Array[] = [];
  let start = 0;
  for (const [index, length] of lengths.entries()) {
    const body = block.subarray(start, (start += length));
    const ref = refAt(refs, index);
    const plain = decompress(body, codecs[index]!, plainLengths[index]!);
    if (plain === undefined || !sameBytes(sha256(plain), ref)) throw damagedChunk(ref);
    bodies.push(plain.byteLength <= length ? plain : body);
  }
  const append = new BlockAppend(store, writer, lengths.length);
  for (const [index, body] of bodies.entries()) {
    // The list of refs may be reused by whoever called; the records need their own.
    const ref = refAt(refs, index).slice();
    const key = refKey(ref);
    if (append.finds(ref, key)) continue;
    const plainBytes = plainLengths[index]!;
    append.add(ref, key, body, plainBytes, body.byteLength === plainBytes ? Codec.plain : Codec.zstd);
  }
  return append.answer();
}

/** The chunks of one block, in their order, and what became of them. */
class BlockAppend {
  readonly #store: WriterContext;
  readonly #writer: OpenWriter;
  readonly #refs: Uint8Array<ArrayBuffer>;
  readonly #places: number[] = [];
  #next = 0;
  #newBytes = 0;
  #storedBytes = 0;

  constructor(store: WriterContext, writer: OpenWriter, count: number) {
    this.#store = store;
    this.#writer = writer;
    this.#refs = new Uint8Array(count * REF_BYTES);
  }

  /** Takes the next chunk if it is there already; `add` has to follow otherwise. */
  finds(ref: Uint8Array, key: string): boolean {
    this.#refs.set(ref, this.#next * REF_BYTES);
    const place = findPlace(this.#store, ref, key);
    if (place === undefined) return false;
    this.#store.writers.rely(this.#writer, ref, place);
    this.#next++;
    return true;
  }

  add(ref: Uint8Array, key: string, body: Uint8Array, plainBytes: number, codec: Codec): void {
    const { segments, commits, writers } = this.#store;
    const record = { kind: RecordKind.chunk, codec, plainBytes, ref, body };
    const place = segments.append({ ...record, sequence: this.#store.nextSequence() });
    commits.addChunk(key, { ref, place, storedBytes: body.byteLength, plainBytes, codec });
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
  const pending = store.commits.find(key);
  if (pending !== undefined) return pending.place;
  const row = store.tables.chunks.find(ref);
  return row === undefined || row.isDamaged ? undefined : row.place;
}
