/**
 * One attempt at a job: all its packets on executors of one edition, from the splits of its input to its result. Where what it
 * runs on is lost, the job makes another one.
 */
import type { Ref } from "../../packets/digest.ts";
import { hasCode, messageOf } from "../../packets/errors.ts";
import { PACKET_BYTES } from "../../packets/layout.ts";
import { lengthAt } from "../../packets/packet.ts";
import { JobError, JobErrorCode } from "../errors.ts";
import { RESULT_ATTEMPTS_MAX, RESULT_BYTES_MAX } from "../limits.ts";
import type { ChunkSource } from "../contracts/chunks.ts";
import type { JobOutcome } from "../contracts/jobs.ts";
import type { KernelEstimate } from "../contracts/kernels.ts";
import { SCAN_BYTES_MAX, decodeScan } from "../program/csv-rows.ts";
import type { CsvScan } from "../program/csv-rows.ts";
import { parseEstimates } from "../program/kernel/estimate.ts";
import type { Entry } from "../program/program.ts";
import { ingest } from "../stream/ingest.ts";
import type { JobContext, JobSpec } from "./job.ts";
import { Locality, sampleSplits } from "./locality.ts";
import { MergeTree } from "./merge-tree.ts";
import type { TreeEntry } from "./merge-tree.ts";
import { programSources } from "./program-sources.ts";
import { Failure, JobReporter } from "./record.ts";
import type { JobRecord } from "./record.ts";
import { resultBytes, resultPieces, resultText, unnamedOut, writeOutputFile } from "./results.ts";
import { Shuffle } from "./shuffle.ts";
import { SplitPackets, scannedRows, selectSplits, splitsToScan } from "./splits.ts";
import type { Splits } from "./splits.ts";
import type { EditionChoice } from "../schedule/state.ts";
import { turnOver } from "../turns.ts";
import { TreeRun } from "./tree-run.ts";

export interface AttemptOptions {
  readonly context: JobContext;
  readonly spec: JobSpec;
  readonly record: JobRecord;
  /** Of the job, which no other one has. */
  readonly group: number;
  readonly splits: Splits;
  /** Of all its packets: a job gives the same bytes wherever they run. */
  readonly edition: EditionChoice;
  /** Of what computes its kernels, where its results depend on that. */
  readonly engineClass?: string | undefined;
  /** Makes a file durable, under the name that the job's result is to have, if any. */
  readonly name: (file: StoredStream) => Promise<ResultFile>;
}

/** A stream that is written. */
export interface StoredStream {
  readonly root: Ref;
  readonly length: number;
}

export type ResultFile = NonNullable<JobOutcome["file"]>;
export type Result = Pick<JobOutcome<Uint8Array>, "value" | "file">;

export class Attempt {
  readonly #options: AttemptOptions;
  readonly #context: JobContext;
  readonly #spec: JobSpec;
  readonly #record: JobRecord;
  readonly #failure = new Failure();
  readonly #trees: TreeRun[] = [];
  readonly #programs: number[] = [];
  #retries = 0;

  constructor(options: AttemptOptions) {
    this.#options = options;
    this.#context = options.context;
    this.#spec = options.spec;
    this.#record = options.record;
  }

  /** Ends it with this error, unless it has ended. */
  fail(error: unknown): void {
    this.#failure.fail(error);
  }

  /** Packets that were placed again, of what has ended of it. */
  get retries(): number {
    return this.#retries;
  }

  /** Rejects with the first thing that went wrong for good. */
  run(): Promise<Result> {
    return this.#ending(this.#work());
  }

  /** Runs the first of the splits for what its calls of kernels take. Its answer is of no use. Rejects as `run`. */
  sample(): Promise<void> {
    return this.#ending(this.#sample());
  }

  /** The calls of kernels that the first of the splits makes. Rejects as `run`. */
  estimate(): Promise<KernelEstimate[]> {
    return this.#ending(this.#estimate());
  }

  async #ending<T>(work: Promise<T>): Promise<T> {
    try {
      return await this.#failure.race(work);
    } catch (error) {
      // Whatever is still being waited for is not needed any more.
      this.#failure.fail(error);
      throw error;
    }
  }

  /** Nothing of it runs any more, and what was made and not kept may be gone. */
  close(): void {
    for (const tree of this.#trees) tree.close();
    for (const program of this.#programs) this.#context.dispatcher.closeProgram(program);
  }

  async #work(): Promise<Result> {
    const { splits } = this.#options;
    const { description, inputs } = this.#spec;
    const { yields, hasCombine, reader } = description;
    const scanned = reader.kind === "csv" ? splitsToScan(splits) : new Uint32Array(0);
    const tree = new MergeTree(splits.count, {
      top: yields !== "bytes",
      merges: hasCombine,
      ...(yields === "groups" ? { groups: { ordered: !description.hasTop } } : {}),
    });
    const above: readonly Entry[] =
      yields === "groups"
        ? ["merge", "finish", "order"]
        : tree.counts.slice(1).map((_, at) => tree.entryOf(at + 1));
    const entries = new Set<Entry>(["map", ...above, ...(scanned.length > 0 ? ["scan" as const] : [])]);
    const programs = await this.#open([...entries]);
    this.#record.started(splits.count, splits.bytes);
    const scan = programs.get("scan");
    const rows = scan === undefined ? [] : await this.#scan(scan, splits, scanned);
    const maps = new SplitPackets(splits, inputs, rows);
    const run = this.#treeRun(tree, programs as ReadonlyMap<TreeEntry, number>, maps, splits, {
      counts: true,
    });
    const locality = await this.#locate(run, splits);
    try {
      run.start();
      if (yields === "bytes") return await this.#file(run);
      return yields === "groups" ? await this.#groups(run) : await this.#value(run);
    } finally {
      locality?.close();
      this.#retries += run.retries;
    }
  }

  /** Loads nothing yet: lanes come with the first packets for them. */
  async #open(entries: readonly Entry[]): Promise<Map<Entry, number>> {
    const sources = await programSources(this.#context.writer, this.#spec, entries);
    const programs = new Map<Entry, number>();
    this.#failure.throwIfFailed();
    for (const [index, entry] of entries.entries()) {
      const { name, kind, tenant, description } = this.#spec;
      const hasKernels = description.kernels !== undefined;
      const toLoad = { name, kind, source: sources[index]!, tenant, hasKernels };
      const program = this.#context.dispatcher.openProgram(toLoad, this.#options.edition);
      this.#programs.push(program);
      programs.set(entry, program);
    }
    return programs;
  }

  async #name(file: StoredStream): Promise<ResultFile> {
    this.#failure.throwIfFailed();
    return await this.#options.name(file);
  }

  #treeRun(
    tree: MergeTree,
    programs: ReadonlyMap<TreeEntry, number>,
    maps: SplitPackets,
    splits: Splits,
    { counts, isApart = false }: { readonly counts: boolean; readonly isApart?: boolean },
  ): TreeRun {
    this.#failure.throwIfFailed();
    const { dispatcher } = this.#context;
    const events = new JobReporter({
      context: this.#context,
      spec: this.#spec,
      record: this.#record,
      failure: this.#failure,
      splits,
      tree,
      counts,
      isApart,
      engineClass: this.#options.engineClass,
      stop: () => run.close(),
    });
    const { source } = this.#context;
    const isGroups = counts && this.#spec.description.yields === "groups";
    const format = this.#spec.out?.endsWith(".csv") === true ? "csv" : undefined;
    const run: TreeRun = new TreeRun({
      dispatcher,
      tree,
      programs,
      group: this.#options.group,
      maps,
      sink: this.#context.writer,
      shuffle: isGroups ? new Shuffle({ tree, source, sink: this.#context.writer, format }) : undefined,
      read: async (answer, signal) => {
        for await (const piece of resultPieces(source, answer, signal)) void piece;
      },
      events,
    });
    this.#trees.push(run);
    return run;
  }

  /** Where the rows of a CSV's splits are. */
  async #scan(
    program: number,
    splits: Splits,
    scanned: Uint32Array,
  ): Promise<ReturnType<typeof scannedRows>> {
    const selected = selectSplits(splits, scanned);
    const packets = new SplitPackets(selected, this.#spec.inputs);
    const tree = new MergeTree(selected.count, { top: false, merges: false });
    const run = this.#treeRun(tree, new Map([["map", program]]), packets, selected, {
      counts: false,
    });
    run.start();
    const { source } = this.#context;
    const scans: CsvScan[] = [];
    for (let task = 0; task < selected.count; task++) {
      await turnOver();
      const length = selected.length[task]!;
      scans.push(await this.#read(run, task, (answer, signal) => readScan(source, answer, length, signal)));
    }
    this.#retries += run.retries;
    run.close();
    return scannedRows(splits, scanned, scans);
  }

  async #sample(): Promise<void> {
    const run = await this.#first("map");
    await this.#failure.race(run.whenDone());
  }

  async #estimate(): Promise<KernelEstimate[]> {
    const { source } = this.#context;
    const run = await this.#first("estimate");
    const text = await this.#read(run, 0, (answer, signal) => resultText(source, answer, signal));
    return parseEstimates(text, this.#spec.description.kernels ?? []);
  }

  /** Has the first of the splits run alone, of which people are told nothing. */
  async #first(entry: "map" | "estimate"): Promise<TreeRun> {
    const first = selectSplits(this.#options.splits, Uint32Array.of(0));
    const programs = await this.#open([entry]);
    const maps = new SplitPackets(first, this.#spec.inputs);
    const tree = new MergeTree(first.count, { top: false, merges: false });
    const program = new Map([["map", programs.get(entry)!]] as const);
    const run = this.#treeRun(tree, program, maps, first, { counts: false, isApart: true });
    run.start();
    return run;
  }

  async #locate(run: TreeRun, splits: Splits): Promise<Locality | undefined> {
    const { dispatcher, setTimer, source } = this.#context;
    if (run.maps === undefined) return undefined;
    const sample = (): ReturnType<typeof sampleSplits> =>
      sampleSplits(source, splits, this.#spec.inputs, this.#failure.signal);
    const locality = new Locality(dispatcher, setTimer, run.maps, sample);
    await locality.known();
    return locality;
  }

  /** The value's text, or the file that it is stored in. */
  async #value(run: TreeRun): Promise<Result> {
    const { source } = this.#context;
    if (this.#spec.out === undefined) {
      return { value: await this.#read(run, 0, (answer, signal) => resultText(source, answer, signal)) };
    }
    const file = await this.#read(run, 0, (answer, signal) =>
      ingest(this.#context.writer, resultPieces(source, answer, signal), { signal }),
    );
    return { file: await this.#name(file) };
  }

  /** The groups' text where that is not too long for a value, or the file that they are stored in. */
  async #groups(run: TreeRun): Promise<Result> {
    await this.#failure.race(run.whenDone());
    const { source } = this.#context;
    const { count, answers } = run.last!;
    let bytes = 0;
    for (let task = 0; task < count; task++) bytes += lengthAt(answers.packets, task);
    if (bytes > RESULT_BYTES_MAX) return await this.#file(run);
    const parts: Uint8Array[] = [];
    for (let task = 0; task < count; task++)
      parts.push(await this.#read(run, task, (answer, signal) => resultBytes(source, answer, signal)));
    if (this.#spec.out === undefined) return { value: Buffer.concat(parts) };
    return { file: await this.#name(await ingest(this.#context.writer, each(parts), { length: bytes })) };
  }

  /** Reads the result of a task on top. What cannot be read is made again, elsewhere if need be. */
  async #read<T>(
    run: TreeRun,
    task: number,
    read: (answer: Uint8Array, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const { signal } = this.#failure;
    for (let attempt = 1; ; attempt++) {
      await this.#failure.race(run.whenDone());
      try {
        return await read(answerOf(run, task), signal);
      } catch (error) {
        // What is too long stays too long.
        const isFinal = hasCode(error, JobErrorCode.overLimit) || attempt === RESULT_ATTEMPTS_MAX;
        if (isFinal || signal.aborted) throw error;
        this.#record.noted(`the result is made again: ${messageOf(error)}`);
        run.remake(task, error);
      }
    }
  }

  async #file(run: TreeRun): Promise<Result> {
    const { dispatcher, source } = this.#context;
    const { id, out = unnamedOut(id) } = this.#spec;
    for (let attempt = 1; ; attempt++) {
      await this.#failure.race(run.whenDone());
      if (run.last === undefined)
        return { file: await this.#name(await ingest(this.#context.writer, nothing())) };
      const file = await writeOutputFile({
        dispatcher,
        source,
        sink: this.#context.writer,
        batch: run.last,
        name: out,
        signal: this.#failure.signal,
      });
      const named = file !== undefined && run.isDone ? await this.#name(file) : undefined;
      // A part that was lost meanwhile is made again, and the name moves to the file that has it.
      if (named !== undefined && run.isDone) return { file: named };
      if (attempt === RESULT_ATTEMPTS_MAX) throw this.#failure.lostOutputs(this.#spec);
    }
  }
}

async function* nothing(): AsyncGenerator<Uint8Array> {}

async function* each(parts: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* parts;
}

/** What a scan of a split of `length` bytes yielded. Rejects with PFS_INTERNAL for what is none. */
async function readScan(
  source: ChunkSource,
  answer: Uint8Array,
  length: number,
  signal: AbortSignal,
): Promise<CsvScan> {
  const bytes = lengthAt(answer, 0);
  const scan =
    bytes <= SCAN_BYTES_MAX ? decodeScan(await resultBytes(source, answer, signal), length) : undefined;
  if (scan === undefined) throw new JobError(JobErrorCode.internal, "a scan yielded no rows", { bytes });
  return scan;
}

/** The answer to a task on top, in bytes of its own. */
function answerOf(run: TreeRun, task: number): Uint8Array {
  return run.last!.answers.packets.slice(task * PACKET_BYTES, (task + 1) * PACKET_BYTES);
}
