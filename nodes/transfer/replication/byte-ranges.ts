/** Ranges of a file that are here: in order, apart from each other, and written in a few bytes. */
import { WireError, WireErrorCode } from "../../errors.ts";
import { RESUME_RANGES_MAX } from "../../limits.ts";

/** Bytes `from` up to `end`, `end` not included. */
export interface ByteRange {
  readonly from: number;
  readonly end: number;
}

export class ByteRanges implements Iterable<ByteRange> {
  readonly #max: number;
  #ranges: ByteRange[] = [];

  /** At most `max` of them: RESUME_RANGES_MAX, if left out, which can be told to a peer. */
  constructor(ranges: Iterable<ByteRange> = [], max: number = RESUME_RANGES_MAX) {
    this.#max = max;
    for (const { from, end } of ranges) this.add(from, end);
  }

  get size(): number {
    return this.#ranges.length;
  }

  get bytes(): number {
    return this.#ranges.reduce((sum, { from, end }) => sum + end - from, 0);
  }

  /** Where the last one ends; 0 for none. */
  get end(): number {
    return this.#ranges.at(-1)?.end ?? 0;
  }

  [Symbol.iterator](): Iterator<ByteRange> {
    return this.#ranges[Symbol.iterator]();
  }

  /** Of more than it has room for the shortest is forgotten: its bytes come once more. */
  add(from: number, end: number): void {
    if (from >= end) return;
    const ranges = this.#ranges;
    const first = this.#firstEndingAt(from);
    let last = first;
    let [low, high] = [from, end];
    while (last < ranges.length && ranges[last]!.from <= high) {
      low = Math.min(low, ranges[last]!.from);
      high = Math.max(high, ranges[last]!.end);
      last++;
    }
    ranges.splice(first, last - first, { from: low, end: high });
    if (ranges.length > this.#max) ranges.splice(shortest(ranges), 1);
  }

  /** Whether all of these bytes are in them. */
  covers(from: number, end: number): boolean {
    if (from >= end) return true;
    const range = this.#ranges[this.#firstEndingAt(end)];
    return range !== undefined && range.from <= from && range.end >= end;
  }

  /** Whether one of these bytes is in them. */
  meets(from: number, end: number): boolean {
    const range = this.#ranges[this.#firstEndingAt(from + 1)];
    return from < end && range !== undefined && range.from < end;
  }

  /** For each range how many bytes are missing before it and how many it has, each as a number of seven bits a byte. */
  encode(): Uint8Array {
    const bytes: number[] = [];
    let at = 0;
    for (const { from, end } of this.#ranges) {
      writeNumber(bytes, from - at);
      writeNumber(bytes, end - from);
      at = end;
    }
    return Uint8Array.from(bytes);
  }

  /** Throws PFS_TRANSFER_INVALID {reason} for what `encode` does not write. */
  static decode(bytes: Uint8Array): ByteRanges {
    const result = new ByteRanges();
    let at = 0;
    for (let next = 0; next < bytes.byteLength;) {
      const gap = readNumber(bytes, next);
      const length = readNumber(bytes, gap.next);
      const from = at + gap.value;
      at = from + length.value;
      if (length.value === 0 || (from === result.end && from > 0) || !Number.isSafeInteger(at))
        throw invalidTransfer("ranges are not in order, or empty");
      if (result.#ranges.length === RESUME_RANGES_MAX) throw invalidTransfer("too many ranges");
      result.#ranges.push({ from, end: at });
      next = length.next;
    }
    return result;
  }

  /** The first range that ends at this place or behind it. */
  #firstEndingAt(place: number): number {
    let [low, high] = [0, this.#ranges.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#ranges[middle]!.end < place) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function shortest(ranges: readonly ByteRange[]): number {
  let found = 0;
  ranges.forEach(({ from, end }, index) => {
    if (end - from < ranges[found]!.end - ranges[found]!.from) found = index;
  });
  return found;
}

function writeNumber(bytes: number[], value: number): void {
  let left = value;
  while (left >= 0x80) {
    bytes.push((left % 0x80) | 0x80);
    left = Math.floor(left / 0x80);
  }
  bytes.push(left);
}

function readNumber(bytes: Uint8Array, start: number): { readonly value: number; readonly next: number } {
  let value = 0;
  let scale = 1;
  for (let next = start; next < bytes.byteLength; next++) {
    const byte = bytes[next]!;
    value += (byte & 0x7f) * scale;
    scale *= 0x80;
    if (!Number.isSafeInteger(value)) break;
    if (byte >= 0x80) continue;
    if (byte === 0 && next > start) break;
    return { value, next: next + 1 };
  }
  throw invalidTransfer("ranges have a number that is none");
}

/** What a peer may not say in a transfer. */
export function invalidTransfer(reason: string): WireError {
  return new WireError(WireErrorCode.transferInvalid, `the peer broke the rules of a transfer: ${reason}`, {
    reason,
  });
}
