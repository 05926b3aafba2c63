/**
 * Writes what tasks above the maps take in, each as one stream: the results below it one behind the other, or what its
 * partition needs of them (shuffle.ts). A write costs much beside what a few tasks take in, so neighbours are written
 * together, and while one write is under way others gather for the next.
 */
import { MERGES_WRITTEN_MIN, MERGE_WRITES_MAX, MERGE_WRITE_RESULTS } from "../limits.ts";
import type { ChunkSink } from "../contracts/chunks.ts";
import { writeKeptStream, writeKeptStreams } from "../stream/ingest.ts";
import type { KeptStream } from "../stream/ingest.ts";
import type { Journal } from "./journal.ts";
import type { MergeTree, TaskRef } from "./merge-tree.ts";
import { UnreadableResult } from "./shuffle.ts";
import type { Shuffle } from "./shuffle.ts";

export interface InputWriterEvents {
  /** The i-th stream is what the i-th of these tasks of a level takes in. */
  written(level: number, places: readonly TaskRef[], streams: readonly KeptStream[]): void;
  /** It could not be written, because a result cannot be read. Returns whether that is seen to. */
  unreadable(place: TaskRef, error: UnreadableResult): boolean;
  failed(error: unknown): void;
}

export interface InputWriterOptions {
  readonly tree: MergeTree;
  readonly journal: Journal;
  readonly sink: ChunkSink;
  /** Undefined where results are no groups. */
  readonly shuffle: Shuffle | undefined;
  /** Nothing is written or told any more when it fires. */
  readonly signal: AbortSignal;
  readonly events: InputWriterEvents;
}

export class InputWriter {
  readonly #options: InputWriterOptions;
  /** Tasks whose results below are there. */
  readonly #unwritten: TaskRef[] = [];
  #writing = 0;

  constructor(options: InputWriterOptions) {
    this.#options = options;
  }

  /** What the task takes in is to be written: all results below it are there. */
  add(place: TaskRef): void {
    this.#unwritten.push(place);
  }

  /** Writes what there is to write, unless it is better to wait for more. */
  write(): void {
    const { shuffle, signal } = this.#options;
    while (this.#writing < MERGE_WRITES_MAX && !signal.aborted) {
      const isWorthIt = this.#writing === 0 || this.#unwritten.length >= MERGES_WRITTEN_MIN;
      if (shuffle === undefined && !isWorthIt) return;
      const places = this.#take();
      if (places.length === 0) return;
      this.#writing++;
      void this.#write(places).finally(() => {
        this.#writing--;
        this.write();
      });
    }
  }

  /** Tasks whose inputs are written together: as many as take in MERGE_WRITE_RESULTS, or one where they are shuffled. */
  #take(): TaskRef[] {
    const { tree, journal, shuffle } = this.#options;
    const places: TaskRef[] = [];
    let results = 0;
    let at = 0;
    for (; at < this.#unwritten.length; at++) {
      const place = this.#unwritten[at]!;
      if (!journal.isWanted(place.level, place.task)) continue;
      const inputs = shuffle === undefined ? tree.inputsOf(place.level, place.task).tasks.length : 0;
      if (places.length > 0 && (shuffle !== undefined || results + inputs > MERGE_WRITE_RESULTS)) break;
      places.push(place);
      results += inputs;
    }
    this.#unwritten.splice(0, at);
    return places;
  }

  /** Never rejects. */
  async #write(places: readonly TaskRef[]): Promise<void> {
    const { signal, events } = this.#options;
    try {
      const streams = await this.#streamsOf(places);
      if (signal.aborted) return;
      // Neighbours are of one level, mostly.
      for (let first = 0, end = 0; first < places.length; first = end) {
        const { level } = places[first]!;
        while (end < places.length && places[end]!.level === level) end++;
        events.written(level, places.slice(first, end), streams.slice(first, end));
        this.#forget(level, places.slice(first, end));
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof UnreadableResult && events.unreadable(places[0]!, error)) return;
      events.failed(error instanceof UnreadableResult ? error.cause : error);
    }
  }

  async #streamsOf(places: readonly TaskRef[]): Promise<readonly KeptStream[]> {
    const { tree, journal, sink, shuffle, signal } = this.#options;
    if (shuffle !== undefined) {
      const { level, task } = places[0]!;
      const { packets } = journal.answersOf(level - 1);
      return [await shuffle.write(level, task, packets, signal)];
    }
    const results = places.map(({ level, task }) => {
      const { start, end } = rangeOf(tree, level, task);
      return journal.resultsOf(level - 1, start, end);
    });
    if (results.length > 1) return await writeKeptStreams(sink, results);
    return [await writeKeptStream(sink, results[0]!)];
  }

  /** Results that are written here need not be kept as answers too, where they cannot get lost. */
  #forget(level: number, places: readonly TaskRef[]): void {
    const { tree, journal, shuffle } = this.#options;
    if (shuffle !== undefined) return;
    for (const { task } of places) {
      const { start, end } = rangeOf(tree, level, task);
      journal.written(level - 1, start, end);
    }
  }
}

/** The tasks below whose results the task takes, where they are neighbours. */
function rangeOf(
  tree: MergeTree,
  level: number,
  task: number,
): { readonly start: number; readonly end: number } {
  const { tasks } = tree.inputsOf(level, task);
  const start = tasks[0] ?? 0;
  return { start, end: start + tasks.length };
}
