/** Updates of what is known: new bytes that are in chunks that are there already, found without hashing whole chunks. */
import type { Ref } from "../../packets/digest.ts";

/** The bytes from `at` on: `length` bytes of the chunk `ref`, from byte `from` of it on. */
export interface BaseMatch {
  readonly at: number;
  readonly ref: Ref;
  readonly from: number;
  readonly length: number;
}

/**
 * Knows a base, such as the version of a file before the one that is being stored. Its chunks must stay where the new stream
 * is read: whoever hands a matcher to ingest holds a lease on them.
 */
export interface Matcher {
  /**
   * The first piece of `bytes`, from `start` on and before `end`, that the base has: at least one byte of it. What stands
   * before it is cut and stored as ever; undefined when that is everything. Asked again behind each piece, and with the next
   * bytes of the file in other buffers. Its answers are trusted.
   */
  match(bytes: Uint8Array, start: number, end: number): BaseMatch | undefined;
}
