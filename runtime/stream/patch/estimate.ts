/** What an update will cost on a wire, before anything is sent. */
import type { Ref } from "../../../packets/digest.ts";
import type { ChunkSource } from "../../contracts/chunks.ts";
import { ESTIMATE_PARTS, PATCH_PART_BYTES } from "../../limits.ts";
import { BaseBytes, Bases, calledStreams } from "./bases.ts";
import { lacking } from "./lacking.ts";
import type { IsThere } from "./lacking.ts";
import { patches } from "./send-patches.ts";
import { PatchKind } from "../../../packets/patch.ts";

export interface UpdateCost {
  /** Chunks of data and of streams that are lacking, and their plain bytes as far as streams tell. */
  readonly chunks: number;
  readonly plainBytes: number;
  /** Bytes of patches: packets and bodies, without what carries them. */
  readonly wireBytes: number;
  /** Whether all of it was written to know that, or a sample. */
  readonly isExact: boolean;
}

export interface EstimateOptions {
  /** Writes everything, which takes as long as sending it over a fast link. */
  readonly isExact?: boolean;
  /** Parts that are written otherwise, or one more; ESTIMATE_PARTS, if left out. */
  readonly partsMax?: number;
  /** What the receiver has of the root itself: it costs nothing. */
  readonly isThere?: IsThere | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * The cost of bringing `root` to somebody who has `bases`. A sample reads both trees' streams, and some parts of what is
 * lacking. Rejects as `patches` does.
 */
export async function estimateUpdate(
  source: ChunkSource,
  root: Ref,
  bases: readonly Ref[],
  options: EstimateOptions = {},
): Promise<UpdateCost> {
  const signal = options.signal ?? new AbortController().signal;
  const { isThere } = options;
  const lack = await lackingOf(source, root, bases, signal, isThere);
  const parts = Math.ceil(lack.bytes / PATCH_PART_BYTES);
  const every =
    options.isExact === true ? 1 : Math.max(1, Math.floor(parts / (options.partsMax ?? ESTIMATE_PARTS)));
  let [streams, streamBytes, streamWire, sampled, sampledWire] = [0, 0, 0, 0, 0];
  for await (const patch of patches(source, root, bases, {
    signal,
    every,
    ...(isThere === undefined ? {} : { isThere }),
  })) {
    const wire = patch.packets.byteLength + patch.body.byteLength;
    if (patch.kind === PatchKind.streams) {
      streams += patch.chunks;
      streamBytes += patch.plainBytes;
      streamWire += wire;
    } else {
      sampled += patch.plainBytes;
      sampledWire += wire;
    }
  }
  const chunkWire =
    every === 1 || sampled === 0 ? sampledWire : Math.round((sampledWire * lack.bytes) / sampled);
  return {
    chunks: streams + lack.chunks,
    plainBytes: streamBytes + (every === 1 ? sampled : lack.bytes),
    wireBytes: streamWire + chunkWire,
    isExact: every === 1,
  };
}

/** Counts what is lacking without reading it. */
async function lackingOf(
  source: ChunkSource,
  root: Ref,
  roots: readonly Ref[],
  signal: AbortSignal,
  isThere: IsThere | undefined,
): Promise<{ chunks: number; bytes: number }> {
  const fresh = new BaseBytes(source, signal);
  const bases = new Bases(source, signal);
  const called = await calledStreams(fresh.streams, root, signal);
  await bases.open(roots, (frame, offset) => called.find(frame, offset) !== undefined);
  let [chunks, bytes] = [0, 0];
  for await (const unit of lacking(fresh.streams, root, bases, signal, isThere)) {
    for (const chunk of unit.runs.flatMap((run) => run.chunks)) {
      chunks++;
      bytes += chunk.length;
    }
  }
  return { chunks, bytes };
}
