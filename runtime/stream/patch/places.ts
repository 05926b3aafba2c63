/**
 * Which old bytes some new ones are written against. Chunks that both have, before and behind, say where; and where they are
 * far, or do not agree, the new bytes themselves do. The old ones are looked through for that once it is worth it.
 */
import { PATCH_DICTIONARY_BYTES_MAX, PATCH_RANGES_MAX } from "../../../packets/limits.ts";
import type { BaseRange } from "../../../packets/patch.ts";
import {
  ALIKE_BYTES_MAX,
  ALIKE_BYTES_PER_BYTE,
  ALIKE_CHEAP_BYTES,
  FILE_READ_BYTES,
  PATCH_ALIKE_PAD_BYTES,
  PATCH_GAP_BYTES_MAX,
  PATCH_PAD_BYTES,
  PATCH_WIDE_PAD_BYTES,
} from "../../limits.ts";
import { turnOver } from "../../turns.ts";
import { AlikeIndex } from "./alike.ts";
import type { Bases } from "./bases.ts";
import type { Anchor } from "./lacking.ts";

/** New bytes that are written together: where they stand, and what is known around them. */
export interface PartPlace {
  readonly at: number;
  readonly before: Anchor | undefined;
  readonly after: Anchor | undefined;
}

/** Where new bytes have this share of windows in common with old ones, nothing else is tried; */
const ALIKE_SHARE_ENOUGH = 0.9;
/** and where they have less than this one, it may be chance. */
const ALIKE_SHARE_MIN = 0.1;
/** With so many, what an index of all old bytes finds is enough. */
const ALIKE_SHARE_KNOWN = 0.3;
/** Bytes that lie so near are read together. */
const JOIN_BYTES = 32 * 1024;
/** A part that shrank to more than this share of it was written against the wrong bytes, or is new. */
export const POOR_SHARE = 0.25;

interface Span {
  from: number;
  end: number;
}

export class Places {
  readonly #bases: Bases;
  readonly #signal: AbortSignal;
  #index: AlikeIndex | undefined;
  #building: Promise<void> | undefined;
  /** Buffers for old bytes that are looked at: as many as parts are under way. */
  readonly #spare: Uint8Array<ArrayBuffer>[] = [];
  /** New bytes so far of which nobody could tell where they are. */
  #lost = 0;

  constructor(bases: Bases, signal: AbortSignal) {
    this.#bases = bases;
    this.#signal = signal;
  }

  /** The ranges of a part's dictionary. `isPoor`: those that it was told before were of little use. */
  async of(bytes: Uint8Array, part: PartPlace, isPoor = false): Promise<BaseRange[]> {
    if (this.#bases.length === 0) return [];
    const expected = spansOf(part, bytes.byteLength);
    if (!isPoor && agree(part)) return this.#ranges(expected);
    const known = isPoor ? undefined : this.#known(bytes);
    if (known !== undefined) return this.#ranges(known);
    // Whoever writes the part against them finds out whether they are like it.
    if (!isPoor && (part.before ?? part.after) !== undefined) return this.#ranges(expected);
    const { span, share } = await this.#best(expected, bytes);
    if (share >= ALIKE_SHARE_ENOUGH) return this.#ranges([span]);
    this.#lost += bytes.byteLength;
    await this.#learnAround(span.from);
    const found = this.#index?.find(bytes);
    if (found === undefined || found.share <= share) return this.#ranges([span]);
    const spans = found.places.map(padded);
    return this.#ranges(share < ALIKE_SHARE_MIN && found.share >= ALIKE_SHARE_MIN ? spans : [...spans, span]);
  }

  /** Where an index of all old bytes says that they are, if it is sure: what is near need not be looked through then. */
  #known(bytes: Uint8Array): Span[] | undefined {
    const index = this.#index;
    if (index === undefined || index.from > 0 || index.end < this.#bases.length) return undefined;
    const { places, share } = index.find(bytes);
    return share < ALIKE_SHARE_KNOWN ? undefined : places.map(padded);
  }

  /** The span that has most windows in common with the bytes, and its share of theirs. */
  async #best(spans: readonly Span[], bytes: Uint8Array): Promise<{ span: Span; share: number }> {
    let best = { span: spans[0]!, share: 0 };
    for (const span of spans) {
      const [range] = this.#ranges([span]);
      if (range === undefined) continue;
      const buffer = this.#spare.pop() ?? new Uint8Array(PATCH_DICTIONARY_BYTES_MAX);
      const old = buffer.subarray(0, range.length);
      await this.#bases.bytes.read(range.root, range.from, old);
      await turnOver();
      const near = new AlikeIndex(0, old.byteLength);
      near.learn(old, 0);
      this.#spare.push(buffer);
      const { share } = near.find(bytes);
      if (share > best.share) best = { span, share };
    }
    return best;
  }

  /** Spans, the best first, as ranges, the best last: what is nearest to the new bytes is cheapest to point to. */
  #ranges(spans: readonly Span[]): BaseRange[] {
    const apart: Span[] = [];
    let room = PATCH_DICTIONARY_BYTES_MAX;
    for (const { from, end } of spans) {
      const span = { from: Math.max(0, from), end: Math.min(this.#bases.length, end) };
      const near = apart.find(
        (other) => span.from <= other.end + JOIN_BYTES && other.from <= span.end + JOIN_BYTES,
      );
      if (near !== undefined) {
        span.from = Math.min(span.from, near.from);
        span.end = Math.max(span.end, near.end);
      }
      const more = span.end - span.from - (near === undefined ? 0 : near.end - near.from);
      if (more <= 0 || more > room) continue;
      room -= more;
      if (near === undefined) apart.push(span);
      else [near.from, near.end] = [span.from, span.end];
    }
    const ranges = apart.map(({ from, end }) => this.#bases.rangeOf(from, end));
    return ranges
      .filter((range) => range !== undefined)
      .slice(0, PATCH_RANGES_MAX)
      .toReversed();
  }

  /** Has an index of what is around the place, once there are enough new bytes that need it. */
  async #learnAround(at: number): Promise<void> {
    while (this.#building !== undefined) await this.#building;
    const index = this.#index;
    const isAround =
      index !== undefined && (index.end === this.#bases.length || at < index.end) && at >= index.from;
    if (isAround || this.#bases.length === 0) return;
    const from = this.#bases.length <= ALIKE_BYTES_MAX ? 0 : Math.max(0, at - ALIKE_BYTES_MAX / 4);
    const next = new AlikeIndex(from, this.#bases.length);
    if (next.end - next.from > ALIKE_CHEAP_BYTES + this.#lost * ALIKE_BYTES_PER_BYTE) return;
    this.#lost = 0;
    this.#building = this.#learn(next).finally(() => (this.#building = undefined));
    await this.#building;
  }

  async #learn(index: AlikeIndex): Promise<void> {
    const buffer = new Uint8Array(FILE_READ_BYTES);
    for (let at = index.from; at < index.end;) {
      const range = this.#bases.rangeFrom(at, Math.min(buffer.byteLength, index.end - at));
      const bytes = buffer.subarray(0, range.length);
      await this.#bases.bytes.read(range.root, range.from, bytes);
      for (let from = 0; from < bytes.byteLength; from += STEP_BYTES) {
        await turnOver();
        index.learn(bytes.subarray(from, from + STEP_BYTES), at + from);
      }
      this.#signal.throwIfAborted();
      at += range.length;
    }
    this.#index = index;
  }
}

function padded({ from, end }: Span): Span {
  return { from: from - PATCH_ALIKE_PAD_BYTES, end: end + PATCH_ALIKE_PAD_BYTES };
}

/** What of old bytes is looked through in one go. */
const STEP_BYTES = 256 * 1024;

/** Whether what both have, before and behind, is so near and so equally apart that the part must be between. */
function agree({ before, after }: PartPlace): boolean {
  if (before === undefined || after === undefined) return false;
  const gap = after.at - before.at;
  const baseGap = after.base - before.base;
  return gap <= PATCH_GAP_BYTES_MAX && baseGap >= 0 && Math.abs(gap - baseGap) <= PATCH_WIDE_PAD_BYTES;
}

/** Where the part is if nothing moved since what both have before it, or behind it; of two that agree, what both say. */
function spansOf(part: PartPlace, length: number): Span[] {
  const { at, before, after } = part;
  const places = [
    ...(before === undefined ? [] : [before.base + at - before.at]),
    ...(after === undefined ? [] : [after.base + at - after.at]),
  ];
  if (places.length === 0) places.push(at);
  if (!agree(part)) {
    return places.map((from) => ({
      from: from - PATCH_WIDE_PAD_BYTES,
      end: from + length + PATCH_WIDE_PAD_BYTES,
    }));
  }
  const [from, end] = [Math.min(...places), Math.max(...places) + length];
  const pad = end === from + length ? PATCH_PAD_BYTES : PATCH_WIDE_PAD_BYTES;
  return [{ from: from - pad, end: end + pad }];
}
