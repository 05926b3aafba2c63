/** Plans of ranges that are read where they lie; those that were made last are remembered, and what was verified of them. */
import { Records } from "../../packets/code/format.ts";
import type { Code } from "../../packets/code/format.ts";
import { Interpreter } from "../../packets/code/interpreter.ts";
import { refKey } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { REF_BYTES } from "../../packets/layout.ts";
import type { ChunkPlaces } from "../contracts/chunks.ts";
import { CODE_RECORD_BYTES_MAX, CODE_SEPARATOR_BYTES_MAX } from "../../packets/limits.ts";
import {
  CODE_LONG_LINES_FILES_MAX,
  CODE_PLANS_BYTES,
  CODE_READ_ON_BYTES,
  CODE_VERIFIED_MAX,
} from "../limits.ts";
import type { StreamInput } from "../stream/inputs.ts";
import type { DirectPlan } from "./direct-read.ts";
import { RangeRun } from "./range-run.ts";
import type { CodeRange } from "./range-run.ts";

const NO_MEMORY = new Uint8Array(0);
/** Behind a range, where lines may go on for as long as they may be. */
const LONG_READ_ON_BYTES: number = CODE_RECORD_BYTES_MAX + CODE_SEPARATOR_BYTES_MAX;
/** Of each piece, in the lists of a plan. */
const ROW_BYTES: number = 4 * 8 + 3 * 4 + REF_BYTES + 2;
/** About what a plan takes beside them. */
const PLAN_BYTES = 4096;

export class DirectPlans {
  readonly #places: ChunkPlaces;
  /** By root and range, the one that was used last at the end. */
  readonly #plans = new Map<string, DirectPlan>();
  #plansBytes = 0;
  /** Roots of files that have lines which go on behind CODE_READ_ON_BYTES. */
  readonly #longLines = new Set<string>();
  /** Places whose chunks this process has found to be what their refs say. */
  readonly #verified = new Set<number>();

  constructor(places: ChunkPlaces) {
    this.#places = places;
  }

  /**
   * What the range is made of, and a little behind it where lines go on; undefined where not all of it are chunks that are
   * kept here. Rejects as reading the stream does.
   */
  async plan(code: Code, stream: StreamInput, range: CodeRange): Promise<DirectPlan | undefined> {
    const { start, end } = new RangeRun(code, new Interpreter(code), NO_MEMORY, range).wanted;
    if (start === end) return undefined;
    const root = refKey(stream.root);
    const readOn = this.#longLines.has(root) ? LONG_READ_ON_BYTES : CODE_READ_ON_BYTES;
    const behind = code.records === Records.ROWS ? end : Math.min(range.total, end + readOn);
    const key = `${start} ${behind} ${root}`;
    const plan = this.#plans.get(key) ?? (await this.#make(stream, start, behind));
    if (plan === undefined) return undefined;
    this.#drop(key);
    this.#plans.set(key, plan);
    this.#plansBytes += bytesOf(plan);
    for (const oldest of this.#plans.keys()) {
      if (this.#plansBytes <= CODE_PLANS_BYTES) break;
      this.#drop(oldest);
    }
    return plan;
  }

  /** Those of this file are not as they were. */
  forget(root: Ref): void {
    const ending = refKey(root);
    for (const key of this.#plans.keys()) if (key.endsWith(ending)) this.#drop(key);
  }

  /** A line of this file went on behind a plan: others are made for as long a line as there may be. */
  readOn(root: Ref): void {
    if (this.#longLines.size === CODE_LONG_LINES_FILES_MAX) this.#longLines.clear();
    this.#longLines.add(refKey(root));
  }

  /** What was read by a plan: chunks that were verified need not be again, whichever range they are read for. */
  wasRead({ place, isVerified }: DirectPlan): void {
    if (this.#verified.size > CODE_VERIFIED_MAX) this.#verified.clear();
    for (let index = 0; index < place.length; index++)
      if (isVerified[index] === 1) this.#verified.add(place[index]!);
  }

  clear(): void {
    this.#plans.clear();
    this.#plansBytes = 0;
  }

  #drop(key: string): void {
    const plan = this.#plans.get(key);
    if (plan === undefined) return;
    this.#plans.delete(key);
    this.#plansBytes -= bytesOf(plan);
  }

  async #make(stream: StreamInput, start: number, end: number): Promise<DirectPlan | undefined> {
    const extents = await stream.extents(start, end);
    if (extents === undefined) return undefined;
    const places = await this.#places.places(extents.refs);
    if (places === undefined) return undefined;
    const { place } = places;
    const isVerified = new Uint8Array(place.length);
    for (let index = 0; index < place.length; index++)
      isVerified[index] = this.#verified.has(place[index]!) ? 1 : 0;
    return shared({ start, ...extents, ...places, isVerified });
  }
}

/** Of memory, about. */
function bytesOf({ place }: DirectPlan): number {
  return PLAN_BYTES + place.length * ROW_BYTES;
}

/** The plan in memory that threads share: handing it to one copies nothing, and what is verified there is known here. */
function shared(plan: DirectPlan): DirectPlan {
  const rows = plan.place.length;
  const memory = new SharedArrayBuffer(rows * ROW_BYTES);
  let used = 0;
  const moved = <List extends Float64Array | Uint32Array | Uint8Array>(list: List, values: List): List => {
    list.set(values);
    used += list.byteLength;
    return list;
  };
  // The widest first, so that each stands at a multiple of its width.
  return {
    start: plan.start,
    files: plan.files,
    from: moved(new Float64Array(memory, used, rows), plan.from),
    take: moved(new Float64Array(memory, used, rows), plan.take),
    place: moved(new Float64Array(memory, used, rows), plan.place),
    offset: moved(new Float64Array(memory, used, rows), plan.offset),
    file: moved(new Uint32Array(memory, used, rows), plan.file),
    storedBytes: moved(new Uint32Array(memory, used, rows), plan.storedBytes),
    plainBytes: moved(new Uint32Array(memory, used, rows), plan.plainBytes),
    refs: moved(new Uint8Array(memory, used, rows * REF_BYTES), plan.refs),
    codec: moved(new Uint8Array(memory, used, rows), plan.codec),
    isVerified: moved(new Uint8Array(memory, used, rows), plan.isVerified),
  };
}
