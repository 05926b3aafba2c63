/** Reads everything that a store holds and says what of it is not what it should be. */
import { refAt, refToHex } from "../../../packets/digest.ts";
import type { Ref } from "../../../packets/digest.ts";
import { PacketErrorCode, PacketfsError } from "../../../packets/errors.ts";
import { StoreErrorCode } from "../../errors.ts";
import { INDEX_PAGE_ROWS, READ_AHEAD_BYTES } from "../../limits.ts";
import { reachable } from "../../stream/walk.ts";
import type { ChunkRowWithRef } from "../index/chunk-index.ts";
import type { ChunkReader } from "../segments/chunk-reader.ts";
import { scrubSegments } from "./scrub.ts";
import type { ScrubOptions } from "./scrub.ts";
import type { Catalog } from "../../contracts/catalog.ts";
import type { StoreReport } from "../../contracts/maintenance.ts";

interface Verified {
  readonly chunks: number;
  readonly bytes: number;
  readonly damaged: ReadonlySet<string>;
}

const STREAM_FAULTS: ReadonlySet<string> = new Set([
  StoreErrorCode.chunkMissing,
  StoreErrorCode.chunkDamaged,
  PacketErrorCode.invalidPacket,
  PacketErrorCode.invalidStream,
]);

export interface VerifierOptions extends ScrubOptions {
  readonly reader: ChunkReader;
  readonly catalog: Catalog;
  /** Writes the records of a segment anew from what the index knows. */
  readonly rewrite: (segment: number) => Promise<void>;
}

export async function verifyStore(options: VerifierOptions): Promise<StoreReport> {
  const { chunks, bytes, damaged } = await verifyChunks(options);
  const incomplete: string[] = [];
  const seen: Set<string> = new Set();
  for await (const { name, root } of options.catalog.list()) {
    options.signal?.throwIfAborted();
    const before = seen.size;
    if (await isComplete(options, root, damaged, seen)) continue;
    incomplete.push(name);
    // What an incomplete stream calls has to be looked at again for every other name that calls it.
    for (const key of [...seen].slice(before)) seen.delete(key);
  }
  let lostRecords = 0;
  for await (const lost of scrubSegments(options)) {
    lostRecords += lost.lostRecords;
    await options.rewrite(lost.segment);
  }
  return { chunks, bytes, damaged: [...damaged], incomplete, lostRecords };
}

async function verifyChunks({ index, reader, signal }: VerifierOptions): Promise<Verified> {
  const damaged: Set<string> = new Set();
  let chunks = 0;
  let bytes = 0;
  for (let place = 0; ;) {
    const page = index.use((tables) => tables.chunks.page(place, INDEX_PAGE_ROWS));
    if (page.length === 0) return { chunks, bytes, damaged };
    for (const rows of inBatches(page)) {
      const wrong = new Set(
        (
          await reader.check(
            rows.map(({ ref }) => ref),
            signal,
          )
        ).map(refToHex),
      );
      for (const ref of wrong) damaged.add(ref);
      chunks += rows.length;
      for (const { ref, plainBytes } of rows) if (!wrong.has(refToHex(ref))) bytes += plainBytes;
    }
    place = page.at(-1)!.place + 1;
  }
}

/** Rows that are read together. */
function* inBatches(page: readonly ChunkRowWithRef[]): Generator<ChunkRowWithRef[], void, undefined> {
  let batch: ChunkRowWithRef[] = [];
  let bytes = 0;
  for (const row of page) {
    batch.push(row);
    bytes += row.plainBytes;
    if (bytes < READ_AHEAD_BYTES) continue;
    yield batch;
    batch = [];
    bytes = 0;
  }
  if (batch.length > 0) yield batch;
}

async function isComplete(
  { reader, signal }: VerifierOptions,
  root: Ref,
  damaged: ReadonlySet<string>,
  seen: Set<string>,
): Promise<boolean> {
  try {
    for await (const refs of reachable(reader, root, { signal, seen })) {
      const present = reader.has(refs);
      for (let index = 0; index < present.length; index++) {
        if (present[index] === 0 || damaged.has(refToHex(refAt(refs, index)))) return false;
      }
    }
    return true;
  } catch (error) {
    if (error instanceof PacketfsError && STREAM_FAULTS.has(error.code)) return false;
    throw error;
  }
}
