/**
 * One job from its inputs to its result.
 *
 *   plan splits ─▶ (CSV: scan) ─▶ maps ─▶ merges ─▶ finish ─▶ value or file
 *                                   │                 ╰─ groups ─▶ (order) ─▶ value, or file left where it was made
 *                                   ╰───── bytes ──────────────────────────▶ file, left where it was made
 */
import { refToHex } from "../../packets/digest.ts";
import { PacketfsError, hasCode, messageOf } from "../../packets/errors.ts";
import { faultErrorCode } from "../../packets/faults.ts";
import { PACKET_BYTES } from "../../packets/layout.ts";
import { lengthAt } from "../../packets/packet.ts";
import { JobError, JobErrorCode } from "../errors.ts";
import { JOB_TASKS_MAX, PLAN_PACKETS_MAX, RESULT_ATTEMPTS_MAX, RESULT_BYTES_MAX } from "../limits.ts";
import type { ChunkSource, StoreWriter } from "../contracts/chunks.ts";
import type { JobInput, JobOutcome, JobRequest } from "../contracts/jobs.ts";
import { SCAN_BYTES_MAX, decodeScan } from "../program/csv-rows.ts";
import type { CsvScan } from "../program/csv-rows.ts";
import type { Entry } from "../program/program.ts";
import { ingest } from "../stream/ingest.ts";
import { inputFault } from "../stream/inputs.ts";
import { leafBorders } from "../stream/leaves.ts";
import type { LeafBorders } from "../stream/leaves.ts";
import type { Dispatcher, SetTimer } from "./dispatcher.ts";
import { Locality, sampleSplits } from "./locality.ts";
import { MergeTree } from "./merge-tree.ts";
import type { TreeEntry } from "./merge-tree.ts";
import { programSources } from "./program-sources.ts";
import type { ProgramSpec } from "./program-sources.ts";
import { Failure, JobReporter } from "./record.ts";
import type { JobRecord } from "./record.ts";
import { resultBytes, resultPieces, resultText, unnamedOut, writeOutputFile } from "./results.ts";
import { Shuffle } from "./shuffle.ts";
import {
  SplitPackets,
  expectedSplits,
  inputsToCut,
  planSplits,
  scannedRows,
  selectSplits,
  splitsToScan,
} from "./splits.ts";
import type { Splits } from "./splits.ts";
import type { EditionChoice } from "../schedule/state.ts";
import { inTurns, turnOver } from "../turns.ts";
import { TreeRun } from "./tree-run.ts";

export interface JobSpec extends Omit<JobRequest, "kind">, ProgramSpec {
  /** No other running job has it. */
  readonly id: string;
}

export interface JobContext {
  readonly source: ChunkSource;
  /** For what the job writes itself; closed at its end. */
  readonly writer: StoreWriter;
  readonly dispatcher: Dispatcher;
  readonly setTimer: SetTimer;
}

type ResultFile = NonNullable<JobOutcome["file"]>;
type Result = Pick<JobOutcome<Uint8Array>, "value" | "file">;

export class Job {
  readonly #context: JobContext;
  readonly #spec: JobSpec;
  /** The version that the name of its result must have. */
  #expected: number | undefined;
  readonly #record: JobRecord;
  readonly #group: number;
  readonly #failure = new Failure();
  readonly #trees: TreeRun[] = [];
  readonly #programs: number[] = [];
  readonly #writer: StoreWriter;
  /** Packets that its splits have taken of the budget. */
  #packets = 0;
  /** Of all its packets: a job gives the same bytes wherever they run. */
  readonly #edition: EditionChoice;
  #retries = 0;

  /** `group`: no other job of the dispatcher has it. */
  constructor(context: JobContext, spec: JobSpec, record: JobRecord, group: number) {
    this.#context = context;
    this.#writer = context.writer;
    this.#spec = spec;
    this.#expected = spec.expected;
    this.#record = record;
    this.#group = group;
    this.#edition = context.dispatcher.chooseEdition(spec.kind);
  }

  /** Ends the job with this error, unless it has ended. */
  fail(error: unknown): void {
    this.#failure.fail(error);
  }

  /** Rejects with the first thing that went wrong for good. */
  async run(): Promise<JobOutcome<Uint8Array>> {
    try {
      return await this.#failure.race(this.#outcome());
    } catch (error) {
      // Whatever is still being waited for is not needed any more.
      this.#failure.fail(error);
      throw error;
    } finally {
      await this.#end();
    }
  }

  async #end(): Promise<void> {
    for (const tree of this.#trees) tree.close();
    const { dispatcher } = this.#context;
    for (const program of this.#programs) dispatcher.closeProgram(program);
    dispatcher.budget.give(this.#packets);
    await this.#writer.close();
  }

  async #outcome(): Promise<JobOutcome<Uint8Array>> {
    const { id: job, description } = this.#spec;
    const splits = await this.#plan();
    const result = await this.#work(splits);
    return { job, yields: description.yields, ...result, statistics: this.#record.statistics(this.#retries) };
  }

  /** The places where inputs may be split are read from their streams. */
  async #plan(): Promise<Splits> {
    const { inputs, splitBytes, description, kind } = this.#spec;
    const { reader, yields } = description;
    const options = { reader, yields, kind, splitBytes };
    // Before anything is planned for which there is no room.
    this.#reserve(Math.min(JOB_TASKS_MAX, expectedSplits(inputs, options)));
    const borders: (LeafBorders | undefined)[] = [];
    let packets = PLAN_PACKETS_MAX;
    for (const index of inputsToCut(inputs, options)) {
      if (packets <= 0) break;
      borders[index] = await this.#bordersOf(inputs[index]!, packets);
      packets -= borders[index].at.length + 1;
    }
    const splits = await inTurns(planSplits(inputs, options, borders));
    this.#reserve(splits.count);
    return splits;
  }

  /** Takes so many packets of the budget in place of those that it had. */
  #reserve(packets: number): void {
    const { budget } = this.#context.dispatcher;
    budget.give(this.#packets);
    this.#packets = 0;
    budget.take(packets);
    this.#packets = packets;
  }

  async #bordersOf({ name, root }: JobInput, packetsMax: number): Promise<LeafBorders> {
    const { signal } = this.#failure;
    try {
      return await leafBorders(this.#context.source, root, packetsMax, signal);
    } catch (cause) {
      if (signal.aborted || !(cause instanceof PacketfsError)) throw cause;
      throw new JobError(
        faultErrorCode(inputFault(cause)) as JobErrorCode,
        `the stream of "${name}" cannot be read: ${cause.message}`,
        { job: this.#spec.id, program: this.#spec.name },
        { cause },
      );
    }
  }

  async #work(splits: Splits): Promise<Result> {
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
    const run = this.#treeRun(tree, programs as ReadonlyMap<TreeEntry, number>, maps, splits, true);
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
    const sources = await programSources(this.#writer, this.#spec, entries);
    const programs = new Map<Entry, number>();
    this.#failure.throwIfFailed();
    for (const [index, entry] of entries.entries()) {
      const { name, kind, tenant } = this.#spec;
      const toLoad = { name, kind, source: sources[index]!, tenant };
      const program = this.#context.dispatcher.openProgram(toLoad, this.#edition);
      this.#programs.push(program);
      programs.set(entry, program);
    }
    return programs;
  }

  #treeRun(
    tree: MergeTree,
    programs: ReadonlyMap<TreeEntry, number>,
    maps: SplitPackets,
    splits: Splits,
    counts: boolean,
  ): TreeRun {
    this.#failure.throwIfFailed();
    const { dispatcher } = this.#context;
    const events = new JobReporter({
      ...this.#context,
      spec: this.#spec,
      record: this.#record,
      failure: this.#failure,
      splits,
      tree,
      counts,
      stop: () => run.close(),
    });
    const { source } = this.#context;
    const isGroups = counts && this.#spec.description.yields === "groups";
    const format = this.#spec.out?.endsWith(".csv") === true ? "csv" : undefined;
    const run: TreeRun = new TreeRun({
      dispatcher,
      tree,
      programs,
      group: this.#group,
      maps,
      sink: this.#writer,
      shuffle: isGroups ? new Shuffle({ tree, source, sink: this.#writer, format }) : undefined,
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
    const run = this.#treeRun(tree, new Map([["map", program]]), packets, selected, false);
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
      ingest(this.#writer, resultPieces(source, answer, signal), { signal }),
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
    return { file: await this.#name(await ingest(this.#writer, each(parts), { length: bytes })) };
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
      if (run.last === undefined) return { file: await this.#name(await ingest(this.#writer, nothing())) };
      const file = await writeOutputFile({
        dispatcher,
        source,
        sink: this.#writer,
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

  /** Makes the file durable, under the job's `out` if it has one. */
  async #name({ root, length }: { readonly root: Uint8Array; readonly length: number }): Promise<ResultFile> {
    this.#failure.throwIfFailed();
    const { out } = this.#spec;
    if (out === undefined) await this.#writer.flush();
    else {
      const { version } = await this.#writer.bind({ name: out, root, length }, { expected: this.#expected });
      if (this.#expected !== undefined) this.#expected = version;
    }
    const file = { root: refToHex(root), length };
    return out === undefined ? file : { name: out, ...file };
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
