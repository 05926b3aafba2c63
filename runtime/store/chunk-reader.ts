/** Reads chunks: finds them, reads neighbours at once, and returns nothing that does not match its ref. */
import { refToHex, sameBytes, sha256 } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { REF_BYTES } from "../../packets/layout.ts";
import { StoreError, StoreErrorCode } from "../errors.ts";
import type { ChunkRow } from "./chunk-index.ts";
import { decompress } from "./compression.ts";
import { diskError, systemCode } from "./disk.ts";
import type { IndexReader } from "./index-reader.ts";
import type { PendingPlaces } from "./pending-places.ts";
import { bodyInRun, planRuns } from "./read-runs.ts";
import type { ReadRun } from "./read-runs.ts";
import { segmentOf } from "./segment-format.ts";
import type { SegmentFiles } from "./segment-files.ts";
import type { ChunkSource } from "./types.ts";

export interface ChunkReaderOptions {
  readonly index: IndexReader;
  readonly pending: PendingPlaces;
  readonly files: SegmentFiles;
  /** These chunks' bytes are not what they should be, or not there: n × 32 bytes. */
  readonly onDamaged: (refs: Uint8Array) => void;
}

/** A chunk that is asked for, at one of the places of the answer. */
interface Wanted extends ChunkRow {
  readonly ref: Ref;
  readonly index: number;
}

/** gc may move a chunk between looking it up and reading it, but not again and again. */
const ATTEMPTS_MAX = 4;
/** The file is gone or the medium cannot read it: as bad as wrong bytes. */
const LOST = new Set(["ENOENT", "EIO"]);

export class ChunkReader implements ChunkSource {
  readonly #options: ChunkReaderOptions;

  constructor(options: ChunkReaderOptions) {
    this.#options = options;
  }

  /** One byte per ref: whether a chunk is there whose bytes are not known to be wrong. */
  has(refs: Uint8Array): Uint8Array {
    const present = new Uint8Array(refs.byteLength / REF_BYTES);
    for (let index = 0; index < present.length; index++) {
      const row = this.#find(refs.subarray(index * REF_BYTES, (index + 1) * REF_BYTES));
      if (row !== undefined && !row.isDamaged) present[index] = 1;
    }
    return present;
  }

  async read(refs: readonly Ref[], signal?: AbortSignal): Promise<Uint8Array[]> {
    const chunks: Uint8Array[] = Array.from({ length: refs.length });
    const [damaged] = await this.#fetch(
      refs.map((ref, index) => this.#locate(ref, index)),
      chunks,
      signal,
    );
    if (damaged === undefined) return chunks;
    const ref = refToHex(damaged.ref);
    throw new StoreError(StoreErrorCode.chunkDamaged, `the bytes of chunk ${ref} are damaged`, { ref });
  }

  /** Which of the chunks are damaged. One that is not there is not. */
  async check(refs: readonly Ref[], signal?: AbortSignal): Promise<Ref[]> {
    const wanted: Wanted[] = [];
    for (const [index, ref] of refs.entries()) {
      const row = this.#find(ref);
      if (row !== undefined) wanted.push({ ...row, ref, index });
    }
    return (await this.#fetch(wanted, [], signal)).map(({ ref }) => ref);
  }

  /** Puts the chunks into `chunks`, each where it belongs, and returns those that are damaged. */
  async #fetch(rows: readonly Wanted[], chunks: Uint8Array[], signal?: AbortSignal): Promise<Wanted[]> {
    const damaged: Wanted[] = [];
    let wanted = rows;
    for (let attempt = 1; wanted.length > 0; attempt++) {
      const failed = await this.#readAll(wanted, chunks, signal);
      for (const { place } of failed) this.#options.files.forget(segmentOf(place));
      const again: Wanted[] = [];
      for (const row of failed) {
        const found = this.#locate(row.ref, row.index);
        // A second look through a file opened anew, then only at what has moved meanwhile.
        const isWorthIt = attempt === 1 || (found.place !== row.place && attempt < ATTEMPTS_MAX);
        (isWorthIt ? again : damaged).push(found);
      }
      wanted = again;
    }
    if (damaged.length > 0) this.#options.onDamaged(Buffer.concat(damaged.map(({ ref }) => ref)));
    return damaged;
  }

  #find(ref: Ref): ChunkRow | undefined {
    const { index, pending } = this.#options;
    const row = index.use((tables) => tables.chunks.find(ref));
    if (row !== undefined && !row.isDamaged) return row;
    return pending.find(ref) ?? row;
  }

  #locate(ref: Ref, index: number): Wanted {
    let row = this.#find(ref);
    if (row === undefined && this.#options.index.isStale) {
      this.#options.index.reopen();
      row = this.#find(ref);
    }
    if (row !== undefined) return { ...row, ref, index };
    const hex = refToHex(ref);
    throw new StoreError(StoreErrorCode.chunkMissing, `chunk ${hex} is not here`, { ref: hex });
  }

  /** Puts what it could read into `chunks` and returns the rest. */
  async #readAll(wanted: readonly Wanted[], chunks: Uint8Array[], signal?: AbortSignal): Promise<Wanted[]> {
    const sorted = wanted.toSorted((a, b) => a.place - b.place);
    const runs = planRuns(sorted).map((run) =>
      this.#readRun(run, sorted.slice(run.first, run.end), chunks, signal),
    );
    return (await Promise.all(runs)).flat();
  }

  async #readRun(
    run: ReadRun,
    wanted: readonly Wanted[],
    chunks: Uint8Array[],
    signal?: AbortSignal,
  ): Promise<readonly Wanted[]> {
    let bytes: Buffer<ArrayBuffer>;
    try {
      signal?.throwIfAborted();
      bytes = await this.#options.files.read(run.segment, run.offset, run.length);
    } catch (error) {
      if (LOST.has(systemCode(error))) return wanted;
      throw diskError(error);
    }
    signal?.throwIfAborted();
    let last: Wanted | undefined;
    return wanted.filter((row) => {
      if (row.place === last?.place) {
        chunks[row.index] = chunks[last.index]!;
        return false;
      }
      const chunk = decompress(bodyInRun(bytes, run, row), row.codec, row.plainBytes);
      if (chunk === undefined || !sameBytes(sha256(chunk), row.ref)) return true;
      chunks[row.index] = chunk;
      last = row;
      return false;
    });
  }
}
