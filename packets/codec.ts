/** How the bytes of chunks may be written, at rest and on the wire, and when compressing them pays. */
import { constants, zstdCompress, zstdCompressSync, zstdDecompress, zstdDecompressSync } from "node:zlib";
import type { ZstdOptions } from "node:zlib";

export const Codec = { plain: 0, zstd: 1 } as const;
export type Codec = (typeof Codec)[keyof typeof Codec];
/** All that bytes may be written in; a peer's or a record's that is none of these is refused. */
export const CODECS: readonly Codec[] = Object.values(Codec);

/** Bytes are kept compressed when that saves at least this share of them. */
const COMPRESSION_GAIN_MIN = 0.06;
/** While nothing shrinks, compression is tried on one piece in so many. */
export const COMPRESSION_SKIP_CHUNKS_MAX = 1024;

/** From so many bytes on the system's threads are worth their while: they leave the caller's own to others. */
const ASIDE_BYTES_MIN: number = 128 * 1024;

const LEVEL_1 = { params: { [constants.ZSTD_c_compressionLevel]: 1 } };
/** What zstd would save of fewer bytes is not worth the time that a compressor takes to begin. */
const CHUNK_BYTES_MIN = 256;

/** So many bytes are looked at in so many places of a chunk, */
const SAMPLE_BYTES = 64;
const SAMPLES = 2;
/** and when they have fewer values than this it is tried: 128 random ones have 101, give or take 4. */
const VALUES_MIN = 84;

/** Bytes, and what they are written in. */
export interface Encoded {
  readonly codec: Codec;
  readonly bytes: Uint8Array;
}

/**
 * Compresses what shrinks. Bytes that do not (media, archives, ciphertext) come in long rows, so after each chunk that did
 * not shrink twice as many are kept as they are before the next attempt; unless a glance says that these are others.
 */
export class Compressor {
  #skip = 0;
  #skipNext = 1;

  /** The chunk as it is to be written: compressed, or itself where that does not pay. */
  compress(chunk: Uint8Array): Encoded {
    return this.#skips(chunk)
      ? { codec: Codec.plain, bytes: chunk }
      : this.#better(chunk, zstdCompressSync(chunk, LEVEL_1));
  }

  /** As `compress`; what is long is compressed by another thread. The bytes must stay as they are until it resolves. */
  async compressAside(chunk: Uint8Array): Promise<Encoded> {
    if (chunk.byteLength < ASIDE_BYTES_MIN) return this.compress(chunk);
    if (this.#skips(chunk)) return { codec: Codec.plain, bytes: chunk };
    return this.#better(chunk, await resultOf((done) => zstdCompress(chunk, LEVEL_1, done)));
  }

  #skips(chunk: Uint8Array): boolean {
    if (chunk.byteLength < CHUNK_BYTES_MIN) return true;
    if (this.#skip === 0 || !looksRandom(chunk)) return false;
    this.#skip--;
    return true;
  }

  #better(chunk: Uint8Array, packed: Uint8Array): Encoded {
    if (packed.byteLength <= chunk.byteLength * (1 - COMPRESSION_GAIN_MIN)) {
      this.#skipNext = 1;
      return { codec: Codec.zstd, bytes: packed };
    }
    this.#skip = this.#skipNext;
    this.#skipNext = Math.min(this.#skipNext * 2, COMPRESSION_SKIP_CHUNKS_MAX);
    return { codec: Codec.plain, bytes: chunk };
  }
}

const seen = new Uint8Array(256);

/** A microsecond's worth of a look, against a hundred for an attempt. */
function looksRandom(chunk: Uint8Array): boolean {
  seen.fill(0);
  const step = Math.max(SAMPLE_BYTES, Math.floor(chunk.byteLength / SAMPLES));
  let values = 0;
  for (let from = 0; from + SAMPLE_BYTES <= chunk.byteLength; from += step) {
    for (let at = from; at < from + SAMPLE_BYTES; at++) {
      const value = chunk[at]!;
      values += 1 - seen[value]!;
      seen[value] = 1;
    }
  }
  return values >= VALUES_MIN;
}

/** The plain bytes of a record's body, or undefined when it is not what `codec` and `plainBytes` say. */
export function decompress(body: Uint8Array, codec: number, plainBytes: number): Uint8Array | undefined {
  if (codec === Codec.plain) return body.byteLength === plainBytes ? body : undefined;
  if (codec !== Codec.zstd) return undefined;
  try {
    const plain = zstdDecompressSync(body, bounds(plainBytes));
    return plain.byteLength === plainBytes ? plain : undefined;
  } catch {
    // Damaged bytes are no zstd frame, or one of another length. The caller says which chunk it was.
    return undefined;
  }
}

/** Freeing the memory of shorter ones is not worth its while, and they may share it with others. */
export const DISCARDED_BYTES_MIN: number = 16 * 1024;

/**
 * Frees memory at once that `decompress` made, of which nobody has a part any more; bytes that it found as they are stay. Waiting for V8 to find
 * it takes longer than decompressing: the system maps and clears memory anew for each chunk meanwhile.
 */
export function discardPlain(plain: Uint8Array, codec: number): void {
  const { buffer, byteLength } = plain;
  if (codec !== Codec.zstd || byteLength < DISCARDED_BYTES_MIN || !(buffer instanceof ArrayBuffer)) return;
  if (buffer.byteLength === byteLength + 1) buffer.transfer(0);
}

/** As `decompress`; what is long is decompressed by another thread. The bytes must stay as they are until it resolves. */
export async function decompressAside(
  body: Uint8Array,
  codec: number,
  plainBytes: number,
): Promise<Uint8Array | undefined> {
  if (codec !== Codec.zstd || plainBytes < ASIDE_BYTES_MIN) return decompress(body, codec, plainBytes);
  try {
    const plain = await resultOf((done) => zstdDecompress(body, bounds(plainBytes), done));
    return plain.byteLength === plainBytes ? plain : undefined;
  } catch {
    return undefined;
  }
}

/** All of it is written in one go, into memory for it and one byte: without that byte another piece as large is begun. */
function bounds(plainBytes: number): ZstdOptions {
  return {
    maxOutputLength: Math.max(1, plainBytes),
    chunkSize: Math.max(constants.Z_MIN_CHUNK, plainBytes + 1),
  };
}

/** What another thread calls back with. */
export function resultOf(
  begin: (done: (error: Error | null, bytes: Uint8Array) => void) => void,
): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    begin((error, bytes) => (error === null ? resolve(bytes) : reject(error)));
  });
}
