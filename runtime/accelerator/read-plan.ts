/**
 * Where the bytes of an input stand in files, row by row, as the node hands it to a GPU process: parallel lists in one block
 * of bytes, the widest first, so that each stands at a multiple of its width. A row is a piece of a chunk.
 */
import { createHash } from "node:crypto";
import { REF_BYTES } from "../../packets/layout.ts";
import type { StoredPlaces } from "../contracts/chunks.ts";
import type { StreamInput } from "../stream/inputs.ts";

/** The pieces of a range, where all of them are copied from chunks. */
type Extents = NonNullable<Awaited<ReturnType<StreamInput["extents"]>>>;

export interface ReadPlan {
  /** What tells places apart: nothing else ever stands there. */
  readonly place: Float64Array<ArrayBuffer>;
  /** Where in its file the chunk's bytes begin as they are kept. */
  readonly offset: Float64Array<ArrayBuffer>;
  /** Which bytes of the chunk: the first of them, and how many. */
  readonly from: Uint32Array<ArrayBuffer>;
  readonly take: Uint32Array<ArrayBuffer>;
  readonly file: Uint32Array<ArrayBuffer>;
  readonly storedBytes: Uint32Array<ArrayBuffer>;
  readonly plainBytes: Uint32Array<ArrayBuffer>;
  /** n × 32 bytes. */
  readonly refs: Uint8Array<ArrayBuffer>;
  /** A `Codec` each. */
  readonly codec: Uint8Array<ArrayBuffer>;
}

export const PLAN_ROW_BYTES: number = 2 * 8 + 5 * 4 + REF_BYTES + 1;

/** The lists as they stand in the bytes, which must be as many as so many rows take. */
export function planIn(bytes: Uint8Array<ArrayBuffer>, rows: number): ReadPlan {
  if (bytes.byteLength !== rows * PLAN_ROW_BYTES)
    throw new Error(`${rows} rows do not take ${bytes.byteLength} bytes`);
  const { buffer } = bytes;
  let at = bytes.byteOffset;
  const next = (width: number): number => {
    const start = at;
    at += rows * width;
    return start;
  };
  return {
    place: new Float64Array(buffer, next(8), rows),
    offset: new Float64Array(buffer, next(8), rows),
    from: new Uint32Array(buffer, next(4), rows),
    take: new Uint32Array(buffer, next(4), rows),
    file: new Uint32Array(buffer, next(4), rows),
    storedBytes: new Uint32Array(buffer, next(4), rows),
    plainBytes: new Uint32Array(buffer, next(4), rows),
    refs: new Uint8Array(buffer, next(REF_BYTES), rows * REF_BYTES),
    codec: new Uint8Array(buffer, next(1), rows),
  };
}

/** The bytes of a plan for pieces whose chunks stand at these places. */
export function encodePlan(extents: Extents, places: StoredPlaces): Uint8Array<ArrayBuffer> {
  const rows = extents.take.length;
  const bytes = new Uint8Array(rows * PLAN_ROW_BYTES);
  const plan = planIn(bytes, rows);
  plan.place.set(places.place);
  plan.offset.set(places.offset);
  plan.from.set(extents.from);
  plan.take.set(extents.take);
  plan.file.set(places.file);
  plan.storedBytes.set(places.storedBytes);
  plan.plainBytes.set(places.plainBytes);
  plan.refs.set(extents.refs);
  plan.codec.set(places.codec);
  return bytes;
}

/** What bytes are called that are made of these pieces, in whatever file and wherever they stand: the same name, the same bytes. */
export function contentKey({ refs, from, take }: Extents): string {
  return createHash("sha256")
    .update(refs)
    .update(new Uint8Array(Float64Array.from(from).buffer))
    .update(new Uint8Array(Float64Array.from(take).buffer))
    .digest("hex");
}
