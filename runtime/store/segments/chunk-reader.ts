/** Reads chunks: finds them, reads neighbours at once, and returns nothing that does not match its ref. */
import { Worker } from "node:worker_threads";
import { Codec, decompress, discardPlain } from "../../../packets/codec.ts";
import { isRefOf, refAt, refToHex } from "../../../packets/digest.ts";
import type { Ref } from "../../../packets/digest.ts";
import { REF_BYTES } from "../../../packets/layout.ts";
import { builtUrl } from "../../built.ts";
import type {
  ChunkPlacer,
  ChunkPlaces,
  PlacedPieces,
  StoredChunk,
  StoredPlaces,
} from "../../contracts/chunks.ts";
import { StoreError, StoreErrorCode, systemCode } from "../../errors.ts";
import {
  READ_ASIDE_BYTES_BEFORE,
  READ_ASIDE_BYTES_MIN,
  READ_RUNS_SPARE_MAX,
  READ_RUN_BYTES_MAX,
  TURN_STEP_PACKETS,
} from "../../limits.ts";
import { SpareMemory } from "../../spare-memory.ts";
import { ThreadPool } from "../../thread-pool.ts";
import { inTurns, turnOver } from "../../turns.ts";
import { diskError } from "../disk.ts";
import type { IndexReader, PendingPlaces } from "../index/reader.ts";
import type { ChunkRow, ChunkRowWithRef } from "../index/tables.ts";
import { bodyAt, bodyInRun, planRuns } from "./files.ts";
import type { ReadRun, SegmentFiles } from "./files.ts";
import { RECORD_HEADER_BYTES, offsetOf, segmentOf } from "./format.ts";
import { ROW_NUMBERS } from "./read-protocol.ts";
import type { FromReadThread, RunToRead } from "./read-protocol.ts";

export interface ChunkReaderOptions {
  readonly index: IndexReader;
  readonly pending: PendingPlaces;
  readonly files: SegmentFiles;
  /** These chunks' bytes are not what they should be, or not there: n × 32 bytes, and where they were read. */
  readonly onDamaged: (refs: Uint8Array, places: Float64Array) => void;
}

/** A chunk that is asked for, at one of the places of the answer. */
interface Wanted extends ChunkRow {
  readonly ref: Ref;
  readonly index: number;
}

/** Who gets chunks that were read and verified. */
interface Taker {
  /** Whether bodies as they are stored are kept. */
  readonly keepsBodies: boolean;
  /** Gets one, for one of the places of the answer. */
  readonly take: (index: number, plain: Uint8Array, row: ChunkRow, body: Uint8Array) => void;
}

const NOBODY: Taker = { keepsBodies: false, take: () => {} };

interface Located {
  readonly wanted: Wanted[];
  readonly missing: Ref | undefined;
}

interface Fetched {
  readonly damaged: readonly Ref[];
  readonly missing: Ref | undefined;
}

/** gc may move a chunk between looking it up and reading it, but not again and again. */
const ATTEMPTS_MAX = 4;
/** The file is gone or the medium cannot read it: as bad as wrong bytes. */
const LOST = new Set(["ENOENT", "EIO"]);

export class ChunkReader implements ChunkPlacer, ChunkPlaces {
  readonly #options: ChunkReaderOptions;
  /** Threads that read and verify: many bytes neither hold up the caller's thread nor wait for one core to hash them. */
  readonly #threads = new ThreadPool<RunToRead, FromReadThread>(() => {
    const url = builtUrl(new URL("./read-thread.ts", import.meta.url));
    return new Worker(url, { execArgv: [], name: "packetfs-read" });
  });
  /** Of reads that were large enough for threads. */
  #largeBytes = 0;
  /** What is compressed is read into it. */
  readonly #memory = new SpareMemory(READ_RUN_BYTES_MAX, READ_RUNS_SPARE_MAX);

  constructor(options: ChunkReaderOptions) {
    this.#options = options;
  }

  /** Reads under way still end well. */
  close(): void {
    this.#threads.close();
  }

  /** One byte per ref: whether a chunk is there whose bytes are not known to be wrong. */
  async has(refs: Uint8Array): Promise<Uint8Array> {
    return Uint8Array.from(await this.sizes(refs), (bytes) => (bytes === 0 ? 0 : 1));
  }

  /** The plain bytes of each chunk, 0 where `has` says 0. */
  async sizes(refs: Uint8Array): Promise<Float64Array> {
    const each = Array.from({ length: refs.byteLength / REF_BYTES }, (_, index) => refAt(refs, index));
    const rows = await inTurns(this.#find(each));
    return Float64Array.from(rows, (row) => (row === undefined || row.isDamaged ? 0 : row.plainBytes));
  }

  /** As `ChunkPlaces` has it. */
  async places(refs: Uint8Array): Promise<StoredPlaces | undefined> {
    const each = Array.from({ length: refs.byteLength / REF_BYTES }, (_, index) => refAt(refs, index));
    const rows = await inTurns(this.#find(each));
    const segments = new Map<number, number>();
    const places = {
      place: new Float64Array(rows.length),
      file: new Uint32Array(rows.length),
      offset: new Float64Array(rows.length),
      storedBytes: new Uint32Array(rows.length),
      plainBytes: new Uint32Array(rows.length),
      codec: new Uint8Array(rows.length),
    };
    for (let index = 0; index < rows.length; index++) {
      const row = rows[index];
      if (row === undefined || row.isDamaged) return undefined;
      const segment = segmentOf(row.place);
      const file = segments.get(segment) ?? segments.size;
      segments.set(segment, file);
      places.place[index] = row.place;
      places.file[index] = file;
      places.offset[index] = offsetOf(row.place) + RECORD_HEADER_BYTES;
      places.storedBytes[index] = row.storedBytes;
      places.plainBytes[index] = row.plainBytes;
      places.codec[index] = row.codec;
    }
    return {
      files: Array.from(segments.keys(), (segment) => this.#options.files.pathOf(segment)),
      ...places,
    };
  }

  async read(refs: readonly Ref[], signal?: AbortSignal): Promise<Uint8Array[]> {
    const chunks: Uint8Array[] = Array.from({ length: refs.length });
    const take: Taker["take"] = (index, plain) => void (chunks[index] = plain);
    await this.#readTo(refs, { keepsBodies: false, take }, signal);
    return chunks;
  }

  /** The chunks as they are kept, verified all the same. */
  async readStored(refs: readonly Ref[], signal?: AbortSignal): Promise<StoredChunk[]> {
    const chunks: StoredChunk[] = Array.from({ length: refs.length });
    const take: Taker["take"] = (index, _plain, { codec, plainBytes }, bytes) => {
      chunks[index] = { codec: codec as Codec, plainBytes, bytes };
    };
    await this.#readTo(refs, { keepsBodies: true, take }, signal);
    return chunks;
  }

  async #readTo(refs: readonly Ref[], taker: Taker, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    const { damaged, missing } = await this.#fetch(refs, taker, signal);
    if (missing !== undefined) {
      const ref = refToHex(missing);
      throw new StoreError(StoreErrorCode.chunkMissing, `chunk ${ref} is not here`, { ref });
    }
    if (damaged.length > 0) throw damagedChunk(damaged[0]!);
  }

  /** As `ChunkPlacer` has it: threads do it, or nobody. */
  async place(
    refs: readonly Ref[],
    pieces: PlacedPieces,
    file: number,
    signal?: AbortSignal,
  ): Promise<boolean> {
    signal?.throwIfAborted();
    const { wanted, missing } = await this.#locate(refs.map((ref, index) => ({ ref, index })));
    if (missing !== undefined || !this.#isAside(wanted)) return false;
    const rowsOf: number[][] = refs.map(() => []);
    for (const [row, chunk] of pieces.chunk.entries()) rowsOf[chunk]!.push(row);
    const sorted = wanted.toSorted((a, b) => a.place - b.place);
    const placed = planRuns(sorted).map(async (run) => {
      const rows = sorted.slice(run.first, run.end);
      const numbers = rows.flatMap(({ index }, position) =>
        rowsOf[index]!.flatMap((row) => [position, pieces.from[row]!, pieces.bytes[row]!, pieces.at[row]!]),
      );
      const target = { file, pieces: Float64Array.from(numbers) };
      // What a thread cannot do is met again by the caller, who finds out why.
      const answer = await this.#askThread(run, rows, { keepsBodies: false, target }).catch(() => undefined);
      return answer !== undefined && "good" in answer && !answer.good.includes(0);
    });
    const done = await Promise.all(placed);
    signal?.throwIfAborted();
    return !done.includes(false) && piecesFit(wanted, pieces);
  }

  /** Which of these chunks are damaged. One that is not there any more is not. */
  async check(rows: readonly ChunkRowWithRef[], signal?: AbortSignal): Promise<readonly Ref[]> {
    const failed = await this.#readAll(
      rows.map((row, index) => ({ ...row, index })),
      NOBODY,
      signal,
    );
    const refs = failed.map(({ ref }) => ref);
    // gc may have moved or freed them meanwhile.
    for (;;) {
      const found = await inTurns(this.#find(refs));
      const present = refs.filter((_ref, index) => found[index] !== undefined);
      if (present.length === 0) return [];
      const { damaged, missing } = await this.#fetch(present, NOBODY, signal);
      if (missing === undefined) return damaged;
    }
  }

  /**
   * What can be had of a damaged chunk, whatever it is: for guessing, not for reading. "sound" when it is not damaged,
   * undefined when nothing of it can be had.
   */
  async readAsIs(ref: Ref): Promise<Uint8Array | "sound" | undefined> {
    const [row] = await inTurns(this.#find([ref]));
    const [run] = planRuns(row === undefined ? [] : [row]);
    if (row === undefined || run === undefined) return undefined;
    try {
      const bytes = await this.#options.files.read(run.segment, run.offset, run.length);
      const plain = decompress(bodyInRun(bytes, run, row), row.codec, row.plainBytes);
      return plain !== undefined && isRefOf(ref, plain) ? "sound" : plain;
    } catch (error) {
      if (LOST.has(systemCode(error))) return undefined;
      throw diskError(error);
    }
  }

  /** Hands out the chunks and says which are damaged, or which one is missing: then the others may not have been handed out. */
  async #fetch(refs: readonly Ref[], taker: Taker, signal?: AbortSignal): Promise<Fetched> {
    const damaged: Ref[] = [];
    const places: number[] = [];
    let { wanted, missing } = await this.#locate(refs.map((ref, index) => ({ ref, index })));
    for (let attempt = 1; wanted.length > 0 && missing === undefined; attempt++) {
      const failed = await this.#readAll(wanted, taker, signal);
      for (const { place } of failed) this.#options.files.forget(segmentOf(place));
      const before = new Map(failed.map(({ index, place }) => [index, place]));
      const again = await this.#locate(failed);
      // A second look through a file opened anew, then only at what has moved meanwhile.
      const isWorthIt = ({ index, place }: Wanted): boolean =>
        attempt === 1 || (before.get(index) !== place && attempt < ATTEMPTS_MAX);
      for (const row of again.wanted) {
        if (isWorthIt(row)) continue;
        damaged.push(row.ref);
        places.push(before.get(row.index)!);
      }
      wanted = again.wanted.filter(isWorthIt);
      missing = again.missing;
    }
    if (damaged.length > 0) this.#options.onDamaged(Buffer.concat(damaged), Float64Array.from(places));
    return { damaged, missing };
  }

  *#find(refs: readonly Ref[]): Generator<void, (ChunkRow | undefined)[], undefined> {
    const { index, pending } = this.#options;
    const rows: (ChunkRow | undefined)[] = [];
    for (let start = 0; start < refs.length; start += TURN_STEP_PACKETS) {
      const some = refs.slice(start, start + TURN_STEP_PACKETS);
      const found = index.use(({ chunks }) => chunks.findAll(some));
      for (let position = 0; position < found.length; position++) {
        const row = found[position];
        rows.push(row === undefined || row.isDamaged ? (pending.find(some[position]!) ?? row) : row);
      }
      yield;
    }
    return rows;
  }

  /** Where the chunks are, or the first that is nowhere. */
  async #locate(chunks: readonly Pick<Wanted, "ref" | "index">[]): Promise<Located> {
    const refs = chunks.map(({ ref }) => ref);
    let rows = await inTurns(this.#find(refs));
    if (rows.includes(undefined) && this.#options.index.isStale) {
      this.#options.index.reopen();
      rows = await inTurns(this.#find(refs));
    }
    const wanted: Wanted[] = [];
    for (const [position, row] of rows.entries()) {
      const { ref, index } = chunks[position]!;
      if (row === undefined) return { wanted, missing: ref };
      wanted.push({ ...row, ref, index });
    }
    return { wanted, missing: undefined };
  }

  /** Hands out what it could read and returns the rest. */
  async #readAll(wanted: readonly Wanted[], taker: Taker, signal?: AbortSignal): Promise<Wanted[]> {
    const sorted = wanted.toSorted((a, b) => a.place - b.place);
    const isAside = this.#isAside(sorted);
    const runs = planRuns(sorted).map((run) => {
      const rows = sorted.slice(run.first, run.end);
      return isAside ? this.#readAside(run, rows, taker, signal) : this.#readRun(run, rows, taker, signal);
    });
    return (await Promise.all(runs)).flat();
  }

  /** Whether it is so much that threads read it, and they are there. */
  #isAside(wanted: readonly Wanted[]): boolean {
    let bytes = 0;
    for (const { plainBytes } of wanted) bytes += plainBytes;
    if (bytes < READ_ASIDE_BYTES_MIN) return false;
    this.#largeBytes += bytes;
    return this.#largeBytes >= READ_ASIDE_BYTES_BEFORE && this.#threads.ready();
  }

  /** As `#readRun`, by another thread. */
  async #readAside(
    run: ReadRun,
    wanted: readonly Wanted[],
    taker: Taker,
    signal?: AbortSignal,
  ): Promise<readonly Wanted[]> {
    signal?.throwIfAborted();
    let answer: FromReadThread | undefined;
    try {
      answer = await this.#askThread(run, wanted, { keepsBodies: taker.keepsBodies });
    } catch (error) {
      if (LOST.has(systemCode(error))) return wanted;
      throw diskError(error);
    }
    signal?.throwIfAborted();
    if (answer === undefined) return await this.#readRun(run, wanted, taker, signal);
    if ("code" in answer) {
      if (LOST.has(answer.code)) return wanted;
      throw diskError(Object.assign(new Error(answer.message), { code: answer.code }));
    }
    const { bytes, good, plain } = answer;
    let plainAt = 0;
    for (const [index, row] of wanted.entries()) {
      const body = bodyInRun(bytes, run, row);
      const isPlain = row.codec === Codec.plain;
      const chunk = isPlain ? body : plain.subarray(plainAt, plainAt + row.plainBytes);
      if (!isPlain) plainAt += row.plainBytes;
      if (good[index] === 1) taker.take(row.index, chunk, row, body);
    }
    return wanted.filter((_row, index) => good[index] === 0);
  }

  /** Undefined where no thread did it. Rejects as opening the file does. */
  #askThread(
    run: ReadRun,
    wanted: readonly Wanted[],
    what: Pick<RunToRead, "keepsBodies" | "target">,
  ): Promise<FromReadThread | undefined> {
    const refs = new Uint8Array(wanted.length * REF_BYTES);
    const rows = new Uint32Array(wanted.length * ROW_NUMBERS);
    for (const [index, { ref, place, storedBytes, plainBytes, codec }] of wanted.entries()) {
      refs.set(ref, index * REF_BYTES);
      rows.set([bodyAt(run, place), storedBytes, plainBytes, codec], index * ROW_NUMBERS);
    }
    const { offset, length } = run;
    return this.#options.files.use(run.segment, ({ fd }) =>
      this.#threads.run({ file: fd, offset, length, refs, rows, ...what }),
    );
  }

  async #readRun(
    run: ReadRun,
    wanted: readonly Wanted[],
    taker: Taker,
    signal?: AbortSignal,
  ): Promise<readonly Wanted[]> {
    signal?.throwIfAborted();
    // What stands there as it is, is handed out as a view of what was read.
    const isKept = taker.keepsBodies || wanted.some(({ codec }) => codec === Codec.plain);
    const memory = isKept ? undefined : this.#memory.take(run.length);
    let bytes: Buffer<ArrayBuffer>;
    try {
      bytes = await this.#options.files.read(run.segment, run.offset, run.length, memory);
    } catch (error) {
      if (LOST.has(systemCode(error))) return wanted;
      throw diskError(error);
    }
    signal?.throwIfAborted();
    let place = -1;
    let plain: Uint8Array | undefined;
    const failed: Wanted[] = [];
    for (const row of wanted) {
      const body = bodyInRun(bytes, run, row);
      // The same chunk again needs no second look.
      if (row.place !== place) {
        // What is read at once can yield many times as much.
        const over = turnOver();
        if (over !== undefined) await over;
        signal?.throwIfAborted();
        plain = decompress(body, row.codec, row.plainBytes);
        if (plain !== undefined && !isRefOf(row.ref, plain)) plain = undefined;
        place = row.place;
      }
      if (plain === undefined) failed.push(row);
      else taker.take(row.index, plain, row, body);
      // Then it was for verifying alone.
      if (plain !== undefined && (taker.keepsBodies || taker === NOBODY)) discardPlain(plain, row.codec);
    }
    this.#memory.giveBack(memory?.buffer);
    return failed;
  }
}

export function damagedChunk(ref: Ref): StoreError {
  const hex = refToHex(ref);
  return new StoreError(StoreErrorCode.chunkDamaged, `the bytes of chunk ${hex} are damaged`, { ref: hex });
}

/** Whether no piece reaches beyond the end of its chunk. */
function piecesFit(wanted: readonly Wanted[], { chunk, from, bytes }: PlacedPieces): boolean {
  const sizes: number[] = [];
  for (const { index, plainBytes } of wanted) sizes[index] = plainBytes;
  return chunk.every((index, row) => from[row]! + bytes[row]! <= sizes[index]!);
}
