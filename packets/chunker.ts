/**
 * Cuts bytes into chunks where the content says so, so that an insertion moves only the cuts beside it: FastCDC with
 * normalised chunking at level 2 (Xia et al., USENIX ATC 2016).
 *
 *   start        start + min            start + average                  start + max
 *     |-- no cut ----|-- strict mask ------|-- lax mask ----------------------| cut in any case
 *
 * The hash of a position is a function of the 32 bytes before it: hash = (hash << 1) + gear[byte], modulo 2^32, from zero at
 * `start + min`. A cut stands behind the first byte that leaves the hash's top bits zero: log2(average) + 2 of them before the
 * average, log2(average) - 2 after it.
 */
import { GearScanner } from "./gear-scanner.ts";
import { gearTable } from "./gear.ts";
import { CHUNK_BYTES_MAX } from "./limits.ts";

export interface ChunkerParameters {
  readonly minBytes: number;
  /** A power of two. */
  readonly averageBytes: number;
  /** At most CHUNK_BYTES_MAX. */
  readonly maxBytes: number;
  /**
   * A secret that keys the gear table, so that chunk lengths do not tell strangers which known file this is. Stores with
   * different salts share no cuts. It stops comparing, not an attacker who has files of their choice stored and sees the
   * lengths: the table can be worked out from those.
   */
  readonly salt?: Uint8Array;
}

export const CHUNKER_DEFAULTS: ChunkerParameters = {
  minBytes: 16 * 1024,
  averageBytes: 64 * 1024,
  maxBytes: 256 * 1024,
};

const AVERAGE_BYTES_MIN = 64;
const NORMALISATION_BITS = 2;

/** Stateless between calls: one may serve many files, in any order. */
export class Chunker {
  readonly parameters: ChunkerParameters;
  /** Made for the first bytes that are searched: small files have none. */
  #scanner: GearScanner | undefined;
  readonly #strictMask: number;
  readonly #laxMask: number;

  constructor(parameters: Partial<ChunkerParameters> = {}) {
    this.parameters = { ...CHUNKER_DEFAULTS, ...parameters };
    const { minBytes, averageBytes, maxBytes } = this.parameters;
    if (!Number.isInteger(Math.log2(averageBytes)) || averageBytes < AVERAGE_BYTES_MIN) {
      throw new RangeError(`averageBytes must be a power of two from ${AVERAGE_BYTES_MIN} on`);
    }
    const ordered = minBytes >= 1 && minBytes <= averageBytes && averageBytes <= maxBytes;
    if (
      !ordered ||
      !Number.isInteger(minBytes) ||
      !Number.isInteger(maxBytes) ||
      maxBytes > CHUNK_BYTES_MAX
    ) {
      throw new RangeError(`chunks need 1 <= min <= average <= max <= ${CHUNK_BYTES_MAX} bytes`);
    }
    const bits = Math.log2(averageBytes);
    this.#strictMask = topBits(bits + NORMALISATION_BITS);
    this.#laxMask = topBits(bits - NORMALISATION_BITS);
  }

  /**
   * Where the chunk that starts at `start` ends, given that the bytes up to `end` are known. `final` says that nothing
   * follows `end`. Zero when more bytes are needed to decide, which never happens with `maxBytes` of them or `final`.
   * The answer depends on the bytes from `start` on alone, not on how much of them was shown at once.
   */
  cut(bytes: Uint8Array, start: number, end: number, final: boolean): number {
    const { minBytes, averageBytes, maxBytes } = this.parameters;
    const first = start + minBytes;
    const last = Math.min(end, start + maxBytes);
    if (first < last) {
      const middle = Math.min(last, start + averageBytes);
      const scanner = (this.#scanner ??= new GearScanner(gearTable(this.parameters.salt)));
      const found =
        scanner.scan(bytes, this.#strictMask, first, first, middle) ||
        scanner.scan(bytes, this.#laxMask, first, middle, last);
      if (found !== 0) return found;
    }
    return last === start + maxBytes || final ? last : 0;
  }
}

function topBits(count: number): number {
  return -1 << (32 - count);
}
