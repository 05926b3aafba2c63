/** The hot path of a put: which chunks of a block are new, and their records. */
import { refKey, sha256 } from "../../../packets/digest.ts";
import { REF_BYTES } from "../../../packets/layout.ts";
import { CHUNK_BYTES_MAX } from "../../../packets/limits.ts";
import type { Compressor } from "../../../packets/codec.ts";
import { Codec } from "../../../packets/codec.ts";
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
  const refs = new Uint8Array(lengths.length * REF_BYTES);
  const places: number[] = [];
  let newBytes = 0;
  let storedBytes = 0;
  let start = 0;
  for (let index = 0; index < lengths.length; index++) {
    const chunk = block.subarray(start, (start += lengths[index]!));
    const ref = sha256(chunk);
    refs.set(ref, index * REF_BYTES);
    const key = refKey(ref);
    const found = findPlace(store, ref, key);
    if (found !== undefined) {
      store.writers.rely(writer, ref, found);
      continue;
    }
    const packed = compressor.compress(chunk);
    const codec = packed === undefined ? Codec.plain : Codec.zstd;
    const body = packed ?? chunk;
    const record = { kind: RecordKind.chunk, codec, plainBytes: chunk.byteLength, ref, body };
    const place = store.segments.append({ ...record, sequence: store.nextSequence() });
    store.commits.addChunk(key, {
      ref,
      place,
      storedBytes: body.byteLength,
      plainBytes: chunk.byteLength,
      codec,
    });
    store.writers.rely(writer, ref, place);
    places.push(index, place, body.byteLength, chunk.byteLength, codec);
    newBytes += chunk.byteLength;
    storedBytes += body.byteLength;
  }
  const newChunks = places.length / PLACE_NUMBERS;
  return { refs, newChunks, newBytes, storedBytes, places: Float64Array.from(places) };
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
