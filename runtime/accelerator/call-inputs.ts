/** Where the inputs of calls are that are ranges of streams: in files of this machine, which a GPU process reads itself, or elsewhere. */
import { refKey } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import type { ChunkPlaces, ChunkSource } from "../contracts/chunks.ts";
import { GPU_FRAME_BODY_BYTES_MAX, GPU_PIECE_BYTES, GPU_PLANS_BYTES_MAX, GPU_PLANS_MAX } from "../limits.ts";
import { InputSource } from "../stream/inputs.ts";
import { PLAN_ROW_BYTES, contentKey, encodePlan } from "./read-plan.ts";

export interface StreamRange {
  readonly root: Ref;
  readonly from: number;
  readonly length: number;
}

/** What is known of a range. */
export interface PlannedRange {
  /** The same for ranges that yield the same bytes, as far as that is known. */
  readonly key: string;
  /** Undefined: not all of it stands in files here, so that it is sent. */
  readonly plan: FilePlan | undefined;
}

export interface FilePlan {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly rows: number;
  readonly files: readonly string[];
}

export class CallInputs {
  readonly #source: InputSource;
  readonly #places: ChunkPlaces | undefined;
  /** By root and range, the one that was used last at the end; and the bytes of all their plans. */
  readonly #planned = new Map<string, PlannedRange>();
  #planBytes = 0;
  readonly #planBytesMax: number;

  /** `planBytesMax`: what plans that are remembered take together. */
  constructor(
    source: ChunkSource,
    places: ChunkPlaces | undefined,
    planBytesMax: number = GPU_PLANS_BYTES_MAX,
  ) {
    this.#source = new InputSource(source);
    this.#places = places;
    this.#planBytesMax = planBytesMax;
  }

  /** Rejects as reading the stream does. */
  async plan(range: StreamRange, signal: AbortSignal): Promise<PlannedRange> {
    const name = rangeKey(range);
    const planned = this.#planned.get(name) ?? (await this.#make(range, signal));
    this.#drop(name);
    this.#planned.set(name, planned);
    this.#planBytes += planBytesOf(planned);
    for (const oldest of this.#planned.keys()) {
      if (this.#planned.size <= GPU_PLANS_MAX && this.#planBytes <= this.#planBytesMax) break;
      this.#drop(oldest);
    }
    return planned;
  }

  #drop(name: string): void {
    const planned = this.#planned.get(name);
    if (planned === undefined) return;
    this.#planBytes -= planBytesOf(planned);
    this.#planned.delete(name);
  }

  /** What it says is not so: it was moved, or is damaged. Whoever reads it in the ordinary way finds out, and has it mended. */
  forget(range: StreamRange): void {
    this.#drop(rangeKey(range));
  }

  /** Its bytes, verified. Rejects as reading the stream does. */
  async *read({ root, from, length }: StreamRange, signal: AbortSignal): AsyncGenerator<Uint8Array, void> {
    const stream = await this.#source.stream(root, signal);
    for await (const piece of stream.pieces(from, from + length)) {
      for (let at = 0; at < piece.byteLength; at += GPU_PIECE_BYTES) {
        yield piece.subarray(at, at + GPU_PIECE_BYTES);
      }
    }
  }

  async #make(range: StreamRange, signal: AbortSignal): Promise<PlannedRange> {
    const stream = await this.#source.stream(range.root, signal);
    const extents = await stream.extents(range.from, range.from + range.length);
    if (extents === undefined) return { key: rangeKey(range), plan: undefined };
    const key = contentKey(extents);
    const rows = extents.take.length;
    if (rows * PLAN_ROW_BYTES > GPU_FRAME_BODY_BYTES_MAX) return { key, plan: undefined };
    const places = await this.#places?.places(extents.refs);
    if (places === undefined) return { key, plan: undefined };
    return { key, plan: { bytes: encodePlan(extents, places), rows, files: places.files } };
  }
}

function planBytesOf({ plan }: PlannedRange): number {
  return plan?.bytes.byteLength ?? 0;
}

/** A range's name, in a few characters. */
function rangeKey({ root, from, length }: StreamRange): string {
  return `${from}+${length} ${Buffer.from(refKey(root), "latin1").toString("hex")}`;
}
