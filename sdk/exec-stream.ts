/**
 * A stream of EXEC frames through a loaded program, answered in the order in which it was given:
 *
 *   frames ─▶ runs (small frames of one turn together) ─▶ exec, many at a time ─▶ answers, in order ─▶ reader
 *                ▲                                                    │      ▲
 *                ╰── waits as long as too many are unread             ╰─ chunks of a store, where the reader lets it run ahead
 *
 * Memory is bounded by packets that were taken from the source and whose answers nobody has read, whatever the reader and
 * the executors do. It is the same for lanes of this machine and for those behind a hub.
 */
import { execPackets } from "../packets/exec-frame.ts";
import { PACKET_BYTES } from "../packets/layout.ts";
import { packetCount, renumberPackets } from "../packets/packet.ts";
import { CHUNK_BYTES_MAX } from "../packets/limits.ts";
import { refAt } from "../packets/digest.ts";
import type { Ref } from "../packets/digest.ts";
import type { ChunkStore, StoreWriter } from "../runtime/contracts/chunks.ts";
import { SEND_PACKETS_MAX, STREAM_RUNS_MAX, UNREAD_PACKETS_MAX } from "../runtime/limits.ts";
import { writeChunks } from "../runtime/stream/ingest.ts";
import { unlessAborted } from "../runtime/unless-aborted.ts";
import { UsageError } from "./errors.ts";
import type { ExecStreamOptions, FrameSource, LoadedProgram } from "./packetfs.ts";

/** A program's lanes, wherever they are. */
export interface ProgramLanes {
  /** Answers a frame of EXEC packets, or rejects with the signal's reason. */
  exec(frame: Uint8Array, signal?: AbortSignal): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** Where answers are kept until they are read. */
export type AnswerStore = Pick<ChunkStore, "read" | "openWriter">;

/** What whoever loaded a program holds. */
export class ProgramInLanes implements LoadedProgram {
  readonly #lanes: ProgramLanes;
  readonly #store: AnswerStore;

  /** Answers that are not read in time are kept in the store. */
  constructor(lanes: ProgramLanes, store: AnswerStore) {
    this.#lanes = lanes;
    this.#store = store;
  }

  exec(frame: Uint8Array): Promise<Uint8Array>;
  exec(frames: FrameSource, options?: ExecStreamOptions): AsyncGenerator<Uint8Array, void, undefined>;
  exec(
    given: Uint8Array | FrameSource,
    options: ExecStreamOptions = {},
  ): Promise<Uint8Array> | AsyncGenerator<Uint8Array, void, undefined> {
    if (given instanceof Uint8Array) return this.#lanes.exec(given);
    const { aheadPackets = 0 } = options;
    if (!Number.isSafeInteger(aheadPackets) || aheadPackets < 0)
      throw new UsageError(`aheadPackets is a whole number of packets, not ${aheadPackets}`);
    return answersOf(new ExecStream(this.#lanes, this.#store, aheadPackets, options.signal), given);
  }

  async close(): Promise<void> {
    await this.#lanes.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** Nothing is taken from the source before somebody reads. */
async function* answersOf(
  stream: ExecStream,
  frames: FrameSource,
): AsyncGenerator<Uint8Array, void, undefined> {
  try {
    stream.begin(frames);
    for (let answers = await stream.next(); answers !== undefined; answers = await stream.next())
      yield answers;
  } finally {
    await stream.close();
  }
}

/** Packets that are executed by one call: a large frame, or small ones together. */
interface Run {
  packets: number;
  /** Resolves when the answers are there, or kept, or the error is; never rejects. */
  readonly settled: Promise<void>;
  readonly settle: () => void;
  isSettled: boolean;
  answers: Uint8Array | undefined;
  /** Whether the answers are in the store instead. */
  kept: readonly Ref[] | undefined;
  error: unknown;
}

/** A frame as it came: `count` packets of a run, from `first` on. One without packets has none; nor has an end with an error. */
interface Given {
  readonly run: Run | undefined;
  readonly first: number;
  readonly count: number;
  readonly error?: unknown;
}

class ExecStream {
  readonly #lanes: ProgramLanes;
  readonly #kept: KeptAnswers;
  readonly #aheadMax: number;
  readonly #signal: AbortSignal | undefined;
  readonly #abort = new AbortController();
  /** Frames that the reader has not asked for, in order, from `#next` on. */
  #given: Given[] = [];
  #next = 0;
  /** The run that the reader is at. */
  #reading: Run | undefined;
  /** Small frames that came in this turn, checked: one run. */
  #gathered: { readonly run: Run; readonly frame: Uint8Array } | undefined;
  /** Packets taken from the source whose answers are neither read nor kept. A frame counts for one at least. */
  #unread = 0;
  /** Those of them whose answers are in memory. */
  #waiting = 0;
  /** Runs that were sent and are not settled. */
  #runs = 0;
  #source: Iterator<Uint8Array> | AsyncIterator<Uint8Array> | undefined;
  /** No more is taken from the source. */
  #isTaken = false;
  #wakeReader = (): void => {};
  #wakeSource = (): void => {};

  constructor(lanes: ProgramLanes, store: AnswerStore, aheadMax: number, signal: AbortSignal | undefined) {
    this.#lanes = lanes;
    this.#kept = new KeptAnswers(store);
    this.#aheadMax = aheadMax;
    this.#signal = signal;
  }

  begin(frames: FrameSource): void {
    this.#signal?.throwIfAborted();
    this.#signal?.addEventListener("abort", this.#aborted);
    this.#source =
      Symbol.asyncIterator in frames ? frames[Symbol.asyncIterator]() : frames[Symbol.iterator]();
    void this.#take(this.#source);
  }

  /** The answers to the frame whose turn it is; undefined behind the last. Rejects with what that failed for. */
  async next(): Promise<Uint8Array | undefined> {
    const { signal } = this.#abort;
    while (this.#next === this.#given.length && !this.#isTaken && !signal.aborted)
      await new Promise<void>((resolve) => (this.#wakeReader = resolve));
    signal.throwIfAborted();
    const given = this.#shift();
    if (given === undefined) return undefined;
    if (given.error !== undefined) throw given.error;
    const { run, first, count } = given;
    if (run === undefined) {
      this.#read(1);
      return new Uint8Array(0);
    }
    this.#reading = run;
    if (!run.isSettled) await unlessAborted(run.settled, signal);
    if (run.error !== undefined) throw run.error;
    const { kept } = run;
    if (kept === undefined) this.#waiting -= count;
    else {
      run.answers ??= await this.#kept.fetch(kept, signal);
      this.#kept.packets -= count;
    }
    this.#read(kept === undefined ? count : 0);
    const answers = count === run.packets ? run.answers! : partOf(run.answers!, first, count);
    if (first + count === run.packets) run.answers = undefined;
    return answers;
  }

  /** Drops what is in flight. The source is told, and not waited for: it may be waiting for something itself. */
  async close(): Promise<void> {
    this.#signal?.removeEventListener("abort", this.#aborted);
    this.#stop(new Error("the stream was not read to its end"));
    if (this.#source !== undefined) void leave(this.#source);
    await this.#kept.close();
  }

  readonly #aborted = (): void => this.#stop(this.#signal!.reason);

  #stop(reason: unknown): void {
    this.#abort.abort(reason);
    this.#wakeReader();
    this.#wakeSource();
  }

  #read(packets: number): void {
    this.#unread -= packets;
    this.#wakeSource();
  }

  #shift(): Given | undefined {
    const given = this.#given[this.#next];
    if (given === undefined) return undefined;
    this.#next++;
    // Taking the first out of a long array costs as much as the array is long.
    if (this.#next * 2 > this.#given.length) {
      this.#given = this.#given.slice(this.#next);
      this.#next = 0;
    }
    return given;
  }

  /** Never rejects. */
  async #take(source: Iterator<Uint8Array> | AsyncIterator<Uint8Array>): Promise<void> {
    const { signal } = this.#abort;
    try {
      for (;;) {
        while (!this.#hasRoom && !this.#isTaken && !signal.aborted)
          await new Promise<void>((resolve) => (this.#wakeSource = resolve));
        if (this.#isTaken || signal.aborted) return;
        const { done, value } = await source.next();
        if (done === true || this.#isTaken || signal.aborted) return;
        this.#add(value);
      }
    } catch (error) {
      this.#push({ run: undefined, first: 0, count: 0, error });
    } finally {
      this.#isTaken = true;
      this.#wakeReader();
    }
  }

  get #hasRoom(): boolean {
    if (this.#unread >= UNREAD_PACKETS_MAX || this.#runs >= STREAM_RUNS_MAX) return false;
    return this.#unread + this.#kept.packets < Math.max(UNREAD_PACKETS_MAX, this.#aheadMax);
  }

  /** Throws PFS_PACKET_INVALID for a small frame that is none; a large one fails when it is executed. */
  #add(frame: Uint8Array): void {
    const count = packetCount(frame);
    if (count * 2 > SEND_PACKETS_MAX) {
      this.#sendGathered();
      const run = newRun(count);
      this.#push({ run, first: 0, count });
      return this.#send(run, frame);
    }
    if (this.#gathered !== undefined && this.#gathered.run.packets + count > SEND_PACKETS_MAX)
      this.#sendGathered();
    const { run, frame: gathered } = (this.#gathered ??= this.#gather());
    const first = run.packets;
    const start = first * PACKET_BYTES;
    execPackets(frame, 1, first, gathered.subarray(start, start + frame.byteLength));
    this.#push({ run: count === 0 ? undefined : run, first, count });
    run.packets += count;
  }

  /** What small frames go into until whatever runs now has given all that it gives, or longer where many runs are under way. */
  #gather(): { readonly run: Run; readonly frame: Uint8Array } {
    const gathered = { run: newRun(0), frame: new Uint8Array(SEND_PACKETS_MAX * PACKET_BYTES) };
    process.nextTick(() => {
      if (this.#gathered === gathered && this.#runs < STREAM_RUNS_MAX) this.#sendGathered();
    });
    return gathered;
  }

  #sendGathered(): void {
    if (this.#gathered === undefined) return;
    const { run, frame } = this.#gathered;
    this.#gathered = undefined;
    if (run.packets > 0) this.#send(run, frame.subarray(0, run.packets * PACKET_BYTES));
  }

  #push(given: Given): void {
    this.#unread += Math.max(1, given.count);
    this.#given.push(given);
    this.#wakeReader();
  }

  #send(run: Run, frame: Uint8Array): void {
    const { signal } = this.#abort;
    const settle = (): void => {
      run.isSettled = true;
      run.settle();
      this.#runs--;
      this.#sendGathered();
      this.#wakeSource();
    };
    const failed = (error: unknown): void => {
      run.error = error;
      // What comes behind it is not read any more.
      this.#isTaken = true;
      this.#wakeSource();
    };
    this.#runs++;
    if (signal.aborted) return settle();
    void this.#lanes
      .exec(frame, signal)
      .then((answers) => this.#answered(run, answers))
      .catch(failed)
      .then(settle);
  }

  /** Keeps answers that are not wanted yet, where the reader lets the stream run ahead. Never rejects. */
  async #answered(run: Run, answers: Uint8Array): Promise<void> {
    run.answers = answers;
    this.#waiting += run.packets;
    const { signal } = this.#abort;
    const isWanted = run === this.#reading || run === this.#given[this.#next]?.run;
    if (this.#aheadMax <= UNREAD_PACKETS_MAX || isWanted || this.#waiting * 2 <= UNREAD_PACKETS_MAX) return;
    // What comes when the stream is closed already would open a writer that nobody closes.
    if (signal.aborted) return;
    const kept = await this.#kept.keep(answers);
    if (kept === undefined || signal.aborted) return;
    run.kept = kept;
    run.answers = undefined;
    this.#waiting -= run.packets;
    this.#kept.packets += run.packets;
    this.#read(run.packets);
  }
}

function newRun(packets: number): Run {
  const { promise, resolve } = Promise.withResolvers<void>();
  return {
    packets,
    settled: promise,
    settle: resolve,
    isSettled: false,
    answers: undefined,
    kept: undefined,
    error: undefined,
  };
}

/** The answers to one of several frames, numbered from 0. */
function partOf(answers: Uint8Array, first: number, count: number): Uint8Array {
  const part = answers.slice(first * PACKET_BYTES, (first + count) * PACKET_BYTES);
  renumberPackets(part, 0, count, 0);
  return part;
}

/** Never rejects: what it says now concerns nobody. One that has ended by itself takes no notice. */
async function leave(source: Iterator<Uint8Array> | AsyncIterator<Uint8Array>): Promise<void> {
  try {
    await source.return?.();
  } catch {
    return;
  }
}

/** Answers in a store, as chunks that nothing names: gc frees them when the stream has ended. */
class KeptAnswers {
  /** Of streams that are not read to the end, too. */
  packets = 0;
  readonly #store: AnswerStore;
  #writer: Promise<StoreWriter> | undefined;
  #isFull = false;

  constructor(store: AnswerStore) {
    this.#store = store;
  }

  /** Undefined where the store does not take them: then they stay in memory, and the source waits for the reader. */
  async keep(answers: Uint8Array): Promise<readonly Ref[] | undefined> {
    if (this.#isFull) return undefined;
    try {
      const writer = await (this.#writer ??= this.#store.openWriter());
      const chunks: Uint8Array[] = [];
      for (let at = 0; at < answers.byteLength; at += CHUNK_BYTES_MAX)
        chunks.push(answers.subarray(at, at + CHUNK_BYTES_MAX));
      const refs = await writeChunks(writer, chunks);
      return chunks.map((_, index) => refAt(refs, index));
    } catch {
      this.#isFull = true;
      return undefined;
    }
  }

  /** Rejects as reading chunks does. */
  async fetch(refs: readonly Ref[], signal: AbortSignal): Promise<Uint8Array> {
    const chunks = await this.#store.read(refs, signal);
    return chunks.length === 1 ? chunks[0]! : new Uint8Array(Buffer.concat(chunks));
  }

  async close(): Promise<void> {
    const writer = await this.#writer?.catch(() => undefined);
    await writer?.close();
  }
}
