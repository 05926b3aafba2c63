/**
 * Where among old bytes those are that some new ones are like: for blocks that moved, and for files of which no chunk stayed
 * whole. Of both, short windows are taken where their content says so, the same of the same bytes wherever they stand; of
 * the old ones it is remembered where, and each window of the new ones that is found there votes for a distance.
 */
import { gearTable } from "../../../packets/gear.ts";
import { ALIKE_PLACES_MAX, ALIKE_BYTES_MAX } from "../../limits.ts";

/** Bytes of a window. Fewer stand in too many places, and in more of them something is new. */
const WINDOW_BYTES = 20;
/** One in 2^7 places at most has a window that is taken, */
const RATE_BITS_MIN = 7;
/** and of those that lie so near each other the first one. */
const APART_BYTES = 32;
/** Windows that are taken of as many bytes as come at once. */
const TAKEN_MAX = 32 * 1024;
/** Votes for distances that differ by less than about so much are for the same. */
const BUCKET_BYTES = 32 * 1024;
/** Places that one part may be put together of. */
const PLACES_MAX = 3;
/** A place has at least so many votes, and this share of the windows that were taken. */
const VOTES_MIN = 4;
const VOTES_SHARE_MIN = 1 / 64;
/** and this share of those of the best place. */
const OTHERS_SHARE_MIN = 1 / 64;

const GEAR = gearTable();
/** What is taken of the bytes that are looked at: no two are at once. */
const ENDS = new Uint32Array(TAKEN_MAX);
const HASHES = new Uint32Array(TAKEN_MAX);

/** Old bytes, and how many windows of the new ones are in them. */
export interface AlikePlace {
  readonly from: number;
  readonly end: number;
  readonly votes: number;
}

export interface AlikePlaces {
  /** The best first. */
  readonly places: AlikePlace[];
  /** The share of the windows that are found there. */
  readonly share: number;
}

export class AlikeIndex {
  /** The old bytes that it knows. */
  readonly from: number;
  readonly end: number;
  readonly #mask: number;
  /** A window's hash, never 0, and behind `from` where it ends. Slots are free where the hash is 0. */
  readonly #hashes: Uint32Array;
  readonly #places: Uint32Array;
  #count = 0;

  constructor(from: number, end: number) {
    this.from = from;
    this.end = Math.min(end, from + ALIKE_BYTES_MAX);
    const bytes = this.end - from;
    const bits = Math.max(RATE_BITS_MIN, Math.ceil(Math.log2(bytes / ALIKE_PLACES_MAX)));
    this.#mask = (2 ** bits - 1) << (WINDOW_BYTES - bits);
    const slots = 2 ** Math.ceil(Math.log2(Math.max(1024, (bytes / 2 ** bits) * 2)));
    this.#hashes = new Uint32Array(slots);
    this.#places = new Uint32Array(slots);
  }

  /** Learns old bytes that stand at `at`. */
  learn(bytes: Uint8Array, at: number): void {
    const taken = this.#take(bytes);
    for (let index = 0; index < taken; index++) {
      const hash = HASHES[index]!;
      const slot = this.#slot(hash);
      // Where content has more such windows than is usual, the first ones have to do.
      if (this.#hashes[slot] === hash || this.#count * 4 > this.#hashes.length * 3) continue;
      this.#hashes[slot] = hash;
      this.#places[slot] = at + ENDS[index]! - this.from;
      this.#count++;
    }
  }

  /** Where bytes like these are. */
  find(bytes: Uint8Array): AlikePlaces {
    const windows = this.#take(bytes);
    const found: number[] = [];
    const distances: number[] = [];
    for (let index = 0; index < windows; index++) {
      const slot = this.#slot(HASHES[index]!);
      if (this.#hashes[slot] === 0) continue;
      found.push(this.#places[slot]!);
      distances.push(Math.floor((this.#places[slot]! - ENDS[index]!) / BUCKET_BYTES));
    }
    const places: AlikePlace[] = [];
    const votesMin = Math.max(VOTES_MIN, windows * VOTES_SHARE_MIN);
    let voted = 0;
    for (let left = distances; places.length < PLACES_MAX;) {
      const best = mostVoted(left);
      if (best === undefined) break;
      const isOf = (distance: number): boolean => distance === best || distance === best + 1;
      let [from, end, votes] = [Number.POSITIVE_INFINITY, 0, 0];
      left.forEach((distance, index) => {
        if (!isOf(distance)) return;
        from = Math.min(from, found[index]!);
        end = Math.max(end, found[index]!);
        votes++;
      });
      if (votes < Math.max(votesMin, (places[0]?.votes ?? 0) * OTHERS_SHARE_MIN)) break;
      voted += votes;
      places.push({ from: this.from + Math.max(0, from - WINDOW_BYTES), end: this.from + end, votes });
      left = left.map((distance) => (isOf(distance) ? Number.NaN : distance));
    }
    return { places, share: windows === 0 ? 0 : voted / windows };
  }

  /** The slot of the hash, or the free one where it would stand. */
  #slot(hash: number): number {
    const mask = this.#hashes.length - 1;
    let slot = hash & mask;
    while (this.#hashes[slot] !== 0 && this.#hashes[slot] !== hash) slot = (slot + 1) & mask;
    return slot;
  }

  /** Notes the windows that are taken: their hashes, and where they end. Returns how many. */
  #take(bytes: Uint8Array): number {
    const mask = this.#mask;
    const taken = windowEnds(bytes, mask, ENDS);
    for (let index = 0; index < taken; index++) HASHES[index] = windowHash(bytes, ENDS[index]!);
    return taken;
  }
}

/**
 * Where windows end whose content says that they are taken: as many of the first ones as `ends` has room for. A word costs one
 * load for four bytes, as in the chunker.
 */
function windowEnds(bytes: Uint8Array, mask: number, ends: Uint32Array): number {
  const gear = GEAR;
  const room = ends.length;
  const aligned = Math.min(bytes.length, -bytes.byteOffset & 3);
  const words = new Int32Array(bytes.buffer, bytes.byteOffset + aligned, (bytes.length - aligned) >>> 2);
  let taken = 0;
  // One window in as many places is enough: a run of the same bytes would be taken at each.
  let next = WINDOW_BYTES;
  let hash = 0;
  const take = (end: number): void => {
    if (end < next || taken === room) return;
    ends[taken++] = end;
    next = end + APART_BYTES;
  };
  for (let at = 0; at < aligned; at++) hash = ((hash << 1) + gear[bytes[at]!]!) | 0;
  for (let index = 0; index < words.length; index++) {
    const word = words[index]!;
    hash = ((hash << 1) + gear[word & 0xff]!) | 0;
    if ((hash & mask) === 0) take(aligned + index * 4 + 1);
    hash = ((hash << 1) + gear[(word >>> 8) & 0xff]!) | 0;
    if ((hash & mask) === 0) take(aligned + index * 4 + 2);
    hash = ((hash << 1) + gear[(word >>> 16) & 0xff]!) | 0;
    if ((hash & mask) === 0) take(aligned + index * 4 + 3);
    hash = ((hash << 1) + gear[word >>> 24]!) | 0;
    if ((hash & mask) === 0) take(aligned + index * 4 + 4);
  }
  return taken;
}

/** The distance that, with the next one, has most votes. */
function mostVoted(distances: readonly number[]): number | undefined {
  const votes = new Map<number, number>();
  for (const distance of distances) {
    if (!Number.isNaN(distance)) votes.set(distance, (votes.get(distance) ?? 0) + 1);
  }
  let best: number | undefined;
  let most = 0;
  for (const [distance, count] of votes) {
    const both = count + (votes.get(distance + 1) ?? 0);
    if (both > most) [best, most] = [distance, both];
  }
  return best;
}

/** The rolling hash says too little where its lowest bits were chosen: this one is of all bytes alike. */
function windowHash(bytes: Uint8Array, end: number): number {
  let hash = 0x811c9dc5;
  for (let at = end - WINDOW_BYTES; at < end; at++) hash = Math.imul(hash ^ bytes[at]!, 0x01000193);
  return (hash ^ (hash >>> 15)) >>> 0 || 1;
}
