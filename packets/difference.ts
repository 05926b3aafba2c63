/**
 * New bytes as their difference from old ones that they are like: where they go on side by side, each byte less the old one
 * beside it. Where little changed that is nearly all zeros; and of a program whose code moved it is the few
 * numbers by which its addresses did, the same again and again. SPEC.md section 14 has it in prose. Pure.
 *
 *     new bytes, less the old ones where a segment says so │ gap, length, shift │ gap, length, shift │ …
 */
import {
  DIFFERENCE_BYTES_PER_SEGMENTS_BYTE,
  DIFFERENCE_NUMBER_BYTES_MAX,
  DIFFERENCE_SEGMENTS_BYTES,
} from "./limits.ts";

/** Old bytes are remembered at each of so many places, by as many bytes as are there. */
const STEP_BYTES = 8;
const TABLE_BITS = 16;
/** Segments begin with so many bytes that are the same: what is shorter costs more than it saves. */
const SAME_BYTES_MIN = 24;
/** A segment goes on over bytes that differ: each takes away what so many that are the same add, */
const DIFFERENT_COST = 1.5;
/** and it ended at its best place when it has lost so much since. */
const LOST_MAX = 24;
/** and it is not looked further than so many bytes behind that: bytes whose score stays what it is would be gone over again and again. */
const BEYOND_BYTES_MAX = 1024;
const SEGMENT_BYTES_MAX: number = 3 * DIFFERENCE_NUMBER_BYTES_MAX;
/** Where old bytes were last, by what they are: no two differences are written at once. */
const PLACES = new Int32Array(1 << TABLE_BITS);

/** As many bytes as a difference of so many new ones has at most, with its segments. */
export function differenceBytesMax(plainBytes: number): number {
  return plainBytes + Math.floor(plainBytes / DIFFERENCE_BYTES_PER_SEGMENTS_BYTE) + DIFFERENCE_SEGMENTS_BYTES;
}

export interface Difference {
  /** The beginning of the target. */
  readonly bytes: Uint8Array;
  /** How many of the new bytes no segment has. */
  readonly fresh: number;
}

/** Writes the difference of new bytes from old ones to `target`, which has differenceBytesMax() bytes or more. */
export function writeDifference(plain: Uint8Array, old: Uint8Array, target: Uint8Array): Difference {
  const length = plain.byteLength;
  const room = differenceBytesMax(length);
  target.set(plain);
  const [from, to, result] = [viewOf(plain), viewOf(old), viewOf(target)];
  learn(to);
  let [done, at, fresh, listed, lastShift] = [0, 0, 0, length, 0];
  while (at + STEP_BYTES <= length && listed + SEGMENT_BYTES_MAX <= room) {
    const low = from.getInt32(at, true);
    const high = from.getInt32(at + 4, true);
    const place = PLACES[slotOf(low, high)]! - 1;
    if (place < 0 || to.getInt32(place, true) !== low || to.getInt32(place + 4, true) !== high) {
      at++;
      continue;
    }
    const shift = place - at;
    const same = sameUntil(from, to, at, shift);
    const begin = sameFrom(plain, old, at, shift, done);
    if (same - begin < SAME_BYTES_MIN) {
      at++;
      continue;
    }
    const first = alikeFrom(plain, old, begin, shift, done);
    const end = alikeUntil(from, to, same, shift);
    subtract(from, to, result, first, end, shift);
    fresh += first - done;
    listed = writeNumber(target, listed, first - done);
    listed = writeNumber(target, listed, end - first);
    listed = writeNumber(target, listed, zigzag(shift - lastShift));
    [done, at, lastShift] = [end, end, shift];
  }
  return { bytes: target.subarray(0, listed), fresh: fresh + length - done };
}

/**
 * The `plainBytes` new bytes of a difference, made in its own memory; undefined where it is none of so many bytes, or reads old
 * ones that there are not.
 */
export function undoDifference(
  difference: Uint8Array,
  plainBytes: number,
  old: Uint8Array,
): Uint8Array | undefined {
  if (difference.byteLength < plainBytes) return undefined;
  const [result, view] = [viewOf(difference), viewOf(old)];
  let [done, shift, listed] = [0, 0, plainBytes];
  const next = (): number => {
    let [value, scale] = [0, 1];
    for (let count = 0; count < DIFFERENCE_NUMBER_BYTES_MAX && listed < difference.byteLength; count++) {
      const byte = difference[listed++]!;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
      scale *= 0x80;
    }
    return Number.NaN;
  };
  while (listed < difference.byteLength) {
    const first = done + next();
    const end = first + next();
    shift += unzigzag(next());
    // Written so that what is no number fails.
    if (!(first < end && end <= plainBytes && first + shift >= 0 && end + shift <= old.byteLength))
      return undefined;
    add(result, view, first, end, shift);
    done = end;
  }
  return difference.subarray(0, plainBytes);
}

function viewOf({ buffer, byteOffset, byteLength }: Uint8Array): DataView {
  return new DataView(buffer, byteOffset, byteLength);
}

function slotOf(low: number, high: number): number {
  return (Math.imul(low, 0x9e3779b1) ^ Math.imul(high, 0x85ebca77)) >>> (32 - TABLE_BITS);
}

/** Notes places of old bytes, from 1 on. */
function learn(old: DataView): void {
  PLACES.fill(0);
  const last = old.byteLength - STEP_BYTES;
  for (let at = 0; at <= last; at += STEP_BYTES)
    PLACES[slotOf(old.getInt32(at, true), old.getInt32(at + 4, true))] = at + 1;
}

/** Where bytes that are the same as those `shift` behind them end. */
function sameUntil(from: DataView, to: DataView, start: number, shift: number): number {
  const end = Math.min(from.byteLength, to.byteLength - shift);
  let at = start;
  while (at + 4 <= end && from.getInt32(at, true) === to.getInt32(at + shift, true)) at += 4;
  while (at < end && from.getUint8(at) === to.getUint8(at + shift)) at++;
  return at;
}

/** Where those before `start` begin, behind `least`. */
function sameFrom(plain: Uint8Array, old: Uint8Array, start: number, shift: number, least: number): number {
  const first = Math.max(least, -shift);
  let at = start;
  while (at > first && plain[at - 1] === old[at - 1 + shift]) at--;
  return at;
}

/** Where bytes end that are mostly the same. */
function alikeUntil(from: DataView, to: DataView, start: number, shift: number): number {
  const end = Math.min(from.byteLength, to.byteLength - shift);
  let [at, score, most, best] = [start, 0, 0, start];
  while (at < end) {
    if (at + 4 <= end && from.getInt32(at, true) === to.getInt32(at + shift, true)) {
      score += 4;
      at += 4;
    } else {
      score += from.getUint8(at) === to.getUint8(at + shift) ? 1 : -DIFFERENT_COST;
      at++;
    }
    if (score > most) [most, best] = [score, at];
    else if (score < most - LOST_MAX || at - best > BEYOND_BYTES_MAX) break;
  }
  return best;
}

function alikeFrom(plain: Uint8Array, old: Uint8Array, start: number, shift: number, least: number): number {
  const first = Math.max(least, -shift);
  let [at, score, most, best] = [start, 0, 0, start];
  while (at > first) {
    at--;
    score += plain[at] === old[at + shift] ? 1 : -DIFFERENT_COST;
    if (score > most) [most, best] = [score, at];
    else if (score < most - LOST_MAX || best - at > BEYOND_BYTES_MAX) break;
  }
  return best;
}

const HIGH_BITS = 0x80808080 | 0;
const LOW_BITS = 0x7f7f7f7f;

/** Each byte of `from` less the one beside it: four at a time, none of which borrows from another. */
function subtract(
  from: DataView,
  to: DataView,
  result: DataView,
  first: number,
  end: number,
  shift: number,
): void {
  let at = first;
  for (; at + 4 <= end; at += 4) {
    const a = from.getInt32(at, true);
    const b = to.getInt32(at + shift, true);
    const value = a === b ? 0 : ((a | HIGH_BITS) - (b & LOW_BITS)) ^ ((a ^ ~b) & HIGH_BITS);
    result.setInt32(at, value, true);
  }
  for (; at < end; at++) result.setUint8(at, from.getUint8(at) - to.getUint8(at + shift));
}

function add(result: DataView, old: DataView, first: number, end: number, shift: number): void {
  let at = first;
  for (; at + 4 <= end; at += 4) {
    const a = result.getInt32(at, true);
    const b = old.getInt32(at + shift, true);
    const value = a === 0 ? b : ((a & LOW_BITS) + (b & LOW_BITS)) ^ ((a ^ b) & HIGH_BITS);
    result.setInt32(at, value, true);
  }
  for (; at < end; at++) result.setUint8(at, result.getUint8(at) + old.getUint8(at + shift));
}

function zigzag(value: number): number {
  return value < 0 ? -2 * value - 1 : 2 * value;
}

function unzigzag(value: number): number {
  return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
}

function writeNumber(target: Uint8Array, offset: number, value: number): number {
  let [at, left] = [offset, value];
  for (; left >= 0x80; left >>>= 7) target[at++] = (left & 0x7f) | 0x80;
  target[at++] = left;
  return at;
}
