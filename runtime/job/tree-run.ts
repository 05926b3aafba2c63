/**
 * Runs a merge tree: each level is a batch of the dispatcher, and as soon as the inputs of a merge are there they are
 * written as one stream and the merge is released, while maps still run. Results that get lost with the executor that made
 * them are made again, as far as somebody still needs them. Where results are groups, a level is added when the one below it
 * is there.
 */
import type { PacketfsError } from "../../packets/errors.ts";
import { Flag, Op, PACKET_BYTES } from "../../packets/layout.ts";
import { fromAt, lengthAt, writePacket } from "../../packets/packet.ts";
import { RESULT_ATTEMPTS_MAX } from "../limits.ts";
import type { ChunkSink } from "../contracts/chunks.ts";
import type { Executor } from "../contracts/executor.ts";
import type { KernelUse } from "../contracts/kernels.ts";
import { Outcome } from "../schedule/actions.ts";
import type { KeptStream } from "../stream/ingest.ts";
import type { Batch, BatchListener, PacketSource } from "./batch.ts";
import type { Dispatcher } from "./dispatcher.ts";
import { InputWriter } from "./input-writer.ts";
import { Journal } from "./journal.ts";
import { isInputFault, outcomeOf } from "./lanes.ts";
import type { MergeTree, TaskRef, TreeEntry } from "./merge-tree.ts";
import type { Shuffle, UnreadableResult } from "./shuffle.ts";

export interface TreeRunEvents {
  /** These tasks of a level have a result. */
  settled(level: number, tasks: Uint32Array, executor: Executor): void;
  /** The results of these tasks were lost and are made again. */
  reopened(level: number, tasks: readonly number[]): void;
  /** A task has no result and never will. Told again for one that comes before it. */
  faulted(place: TaskRef, answer: Uint8Array, executor: Executor): void;
  /** The fault that was told last is what the job ends with. */
  faultFinal(): void;
  givenUp(place: TaskRef): void;
  failed(error: unknown): void;
  logged(place: TaskRef, executor: Executor, text: string): void;
  noted(text: string): void;
  measured(uses: readonly KernelUse[]): void;
}

export interface TreeRunOptions {
  readonly dispatcher: Dispatcher;
  readonly tree: MergeTree;
  /** By what the tasks of a level run. */
  readonly programs: ReadonlyMap<TreeEntry, number>;
  readonly group: number;
  /** The EXEC packets of the maps. */
  readonly maps: PacketSource;
  /** Where the inputs of merges are written. */
  readonly sink: ChunkSink;
  /** What makes the inputs of tasks on groups; the results themselves, one after the other, are the inputs of others. */
  readonly shuffle?: Shuffle | undefined;
  /** Resolves when all bytes of the result that the answer stands for could be read. */
  readonly read: (answer: Uint8Array, signal: AbortSignal) => Promise<void>;
  readonly events: TreeRunEvents;
}

export class TreeRun {
  readonly #dispatcher: Dispatcher;
  readonly #tree: MergeTree;
  readonly #programs: TreeRunOptions["programs"];
  readonly #group: number;
  readonly #events: TreeRunEvents;
  readonly #read: TreeRunOptions["read"];
  readonly #abort = new AbortController();
  /** By level; a level without tasks has none. */
  readonly #batches: (Batch | undefined)[] = [];
  readonly #journal: Journal;
  readonly #inputs: InputWriter;
  /** By level and task: how often its inputs were looked for. */
  readonly #searches = new Map<string, number>();
  #madeAgain = 0;
  #waiters: (() => void)[] = [];
  #isOver = false;

  constructor({ dispatcher, tree, programs, group, maps, sink, shuffle, read, events }: TreeRunOptions) {
    this.#dispatcher = dispatcher;
    this.#tree = tree;
    this.#programs = programs;
    this.#group = group;
    this.#read = read;
    this.#events = events;
    this.#journal = new Journal(tree.counts, shuffle === undefined);
    this.#inputs = new InputWriter({
      tree,
      journal: this.#journal,
      sink,
      shuffle,
      signal: this.#abort.signal,
      events: {
        written: (level, places, streams) => this.#release(level, places, streams),
        unreadable: (place, error) => this.#searchFor(place, error),
        failed: (error) => events.failed(error),
      },
    });
    for (const [level] of tree.counts.entries()) this.#open(level, maps);
    if (tree.counts[0] === 0 && tree.top > 0) this.#inputs.add({ level: 1, task: 0 });
  }

  #open(level: number, maps?: PacketSource): void {
    const { counts } = this.#tree;
    const count = counts[level]!;
    if (count === 0) return void this.#batches.push(undefined);
    const batch = this.#dispatcher.start({
      program: this.#programs.get(this.#tree.entryOf(level))!,
      group: this.#group,
      rank: level,
      packets: maps !== undefined && level === 0 ? maps : new Uint8Array(count * PACKET_BYTES),
      // Levels of merges share a program.
      base: counts.slice(0, level).reduce((sum, tasks) => sum + tasks, 0),
      listener: this.#listenerOf(level),
      answers: this.#journal.answersOf(level),
    });
    this.#batches.push(batch);
  }

  /** Adds levels for which all results are there. */
  #grow(): void {
    while (!this.#tree.isFinal && this.#journal.isComplete) {
      const { packets } = this.#journal.answersOf(this.#tree.top);
      this.#tree.grow((task) => lengthAt(packets, task));
      const level = this.#tree.top;
      const count = this.#tree.countOf(level);
      this.#journal.add(count);
      this.#open(level);
      for (let task = 0; task < count; task++) this.#inputs.add({ level, task });
    }
  }

  /** The batch of the maps, for what is known of their inputs. */
  get maps(): Batch | undefined {
    return this.#batches[0];
  }

  /** The batch on top; undefined without tasks. */
  get last(): Batch | undefined {
    return this.#batches.at(-1);
  }

  get isDone(): boolean {
    return this.#tree.isFinal && this.#journal.isComplete;
  }

  /** Lets the maps run, and has what follows them loaded meanwhile. */
  start(): void {
    const [maps, ...above] = this.#batches;
    if (maps !== undefined) this.#dispatcher.release(maps);
    for (const batch of above) if (batch !== undefined) this.#dispatcher.prepare(batch);
    this.#grow();
    this.#inputs.write();
  }

  /** Resolves when every task on top has a result; that may change again when a lane is lost. Not after `close`. */
  async whenDone(): Promise<void> {
    while (!this.isDone) await new Promise<void>((resolve) => this.#waiters.push(resolve));
  }

  /** Packets that were placed again so far: before they had a result, or because it was lost. */
  get retries(): number {
    const batches = this.#batches.filter((batch) => batch !== undefined);
    return batches.reduce(
      (sum, batch) => sum + (this.#dispatcher.numbersOf(batch)?.retries ?? 0),
      this.#madeAgain,
    );
  }

  /** The result of a task on top could not be read: it is made again, elsewhere where there is an elsewhere. */
  remake(task: number, error: unknown): void {
    const level = this.#tree.top;
    const { makers } = this.#journal.answersOf(level);
    this.#dispatcher.discredit(makers[task]!, error);
    if (this.#journal.isDone(level, task)) this.#reopen([{ level, task }], "redo");
  }

  /** Nothing more is run or told. */
  close(): void {
    this.#isOver = true;
    this.#abort.abort();
    for (const batch of this.#batches) if (batch !== undefined) this.#dispatcher.remove(batch);
  }

  #listenerOf(level: number): BatchListener {
    return {
      settled: (tasks, executor) => this.#settled(level, tasks, executor),
      givenUp: (task) => this.#events.givenUp({ level, task }),
      finished: () => {},
      laneLost: () => this.#repair(),
      failed: (error: PacketfsError) => this.#events.failed(error),
      logged: (task, executor, text) => this.#events.logged({ level, task }, executor, text),
      noted: (text) => this.#events.noted(text),
      measured: (uses) => this.#events.measured(uses),
    };
  }

  #settled(level: number, tasks: Uint32Array, executor: Executor): void {
    const answers = this.#journal.answersOf(level);
    const last = this.#journal.fault;
    let count = 0;
    for (const task of tasks) {
      if (this.#isOver) return;
      if (!this.#journal.isWanted(level, task)) continue;
      if (answers.isFault(task)) {
        this.#faulted({ level, task }, answers.at(task).slice(), executor);
        continue;
      }
      tasks[count++] = task;
      this.#journal.settle(level, task);
      for (const consumer of this.#tree.settled(level, task)) {
        // Another one needed the result again.
        if (this.#journal.isDone(level + 1, consumer)) continue;
        this.#inputs.add({ level: level + 1, task: consumer });
      }
    }
    if (count > 0) this.#events.settled(level, tasks.subarray(0, count), executor);
    if (this.#isOver) return;
    const { fault } = this.#journal;
    if (fault !== undefined && fault !== last) {
      this.#events.faulted(fault, answers.at(fault.task).slice(), executor);
      this.#withdrawBehind(fault, last);
    }
    if (this.#journal.isFaultFinal) return this.#events.faultFinal();
    this.#grow();
    this.#inputs.write();
    if (this.isDone) this.#wake();
  }

  /** `answer`: 64 bytes of its own. */
  #faulted(place: TaskRef, answer: Uint8Array, executor: Executor): void {
    const { level } = place;
    const code = fromAt(answer, 0);
    // The fault that it had last need not be what it failed by before.
    const outcome = outcomeOf(code, this.#dispatcher.programOfBatch(this.#batches[level]!));
    const mayBeInput =
      isInputFault(code) || outcome === Outcome.elsewhere || outcome === Outcome.inputMissing;
    if (level > 0 && mayBeInput && this.#search(place)) return;
    if (outcome === Outcome.final) return this.#journal.hold(place);
    // It says nothing of the program or its input: there is nothing to wait for.
    this.#events.faulted(place, answer, executor);
    this.#events.faultFinal();
  }

  /** What comes behind the first fault need not run; `last` was the first one until now. */
  #withdrawBehind(fault: TaskRef, last: TaskRef | undefined): void {
    const { counts, top } = this.#tree;
    for (let level = fault.level; level <= (last?.level ?? top); level++) {
      const batch = this.#batches[level];
      const start = level === fault.level ? fault.task + 1 : 0;
      const end = level === last?.level ? last.task : counts[level]!;
      if (batch !== undefined) this.#dispatcher.withdraw(batch, this.#journal.openTasks(level, start, end));
    }
  }

  /** A merge could not read its inputs: it runs again when they are there. False when that was so too often. */
  #search(place: TaskRef): boolean {
    const { level, task } = place;
    // They are being made again since it was sent.
    if (!this.#tree.isReady(level, task)) {
      this.#reopen([place], "withdraw");
      return true;
    }
    const maySearch = this.#countSearch(place);
    const inputs = this.#tree
      .inputsOf(level, task)
      .tasks.filter((input) => this.#journal.isStored(level - 1, input));
    if (inputs.length === 0 || !maySearch) return false;
    this.#reopen([place], "withdraw");
    void this.#lookFor(place, inputs);
    return true;
  }

  /**
   * Reads the inputs: who made one that cannot be read is not believed, and all that it made is made again. If all can be
   * read, it was whoever ran the merge that could not. Never rejects.
   */
  async #lookFor({ level, task }: TaskRef, inputs: readonly number[]): Promise<void> {
    const answers = this.#journal.answersOf(level - 1);
    const { makers } = answers;
    for (const input of inputs) {
      const maker = makers[input]!;
      try {
        await this.#read(answers.at(input).slice(), this.#abort.signal);
      } catch (error) {
        if (this.#isOver) return;
        if (this.#journal.isStored(level - 1, input) && makers[input] === maker)
          this.#dispatcher.discredit(maker, error);
      }
    }
    if (this.#isOver) return;
    const batch = this.#batches[level]!;
    if (this.#tree.isReady(level, task) && this.#journal.isWanted(level, task))
      this.#dispatcher.release(batch, [task]);
  }

  #repair(): void {
    if (this.#isOver) return;
    const { redo, withdraw } = this.#tree.repair(
      (level, task) => this.#journal.isDone(level, task),
      (level, task) => this.#isGone(level, task),
    );
    const isWanted = ({ level, task }: TaskRef): boolean => this.#journal.isWanted(level, task);
    this.#reopen([...withdraw, ...redo.filter((place) => !isWanted(place))], "withdraw");
    this.#reopen(redo.filter(isWanted), "redo");
  }

  #reopen(places: readonly TaskRef[], how: "redo" | "withdraw"): void {
    for (const [level, batch] of this.#batches.entries()) {
      const tasks = places.filter((place) => place.level === level).map(({ task }) => task);
      if (batch === undefined || tasks.length === 0) continue;
      const lost = this.#journal.reopen(level, tasks);
      this.#madeAgain += lost.length;
      if (lost.length > 0) this.#events.reopened(level, lost);
      this.#dispatcher[how](batch, tasks);
    }
  }

  #isGone(level: number, task: number): boolean {
    const maker = this.#journal.answersOf(level).makers[task]!;
    return this.#journal.isStored(level, task) && this.#dispatcher.laneOf(maker) === undefined;
  }

  /** What these tasks of a level take in is written: they run. */
  #release(level: number, places: readonly TaskRef[], streams: readonly KeptStream[]): void {
    const batch = this.#batches[level]!;
    const ready: number[] = [];
    for (const [index, { task }] of places.entries()) {
      // Results that were lost meanwhile bring it here again.
      if (!this.#tree.isReady(level, task) || !this.#journal.isWanted(level, task)) continue;
      const { root, length } = streams[index]!;
      const at = batch.base + task;
      writePacket(batch.frame, task, { op: Op.EXEC, flags: Flag.STREAM, lane: 1, at, length, ref: root });
      batch.bytes[task] = length;
      ready.push(task);
    }
    if (ready.length > 0) this.#dispatcher.release(batch, ready);
  }

  /** What the task takes in could not be written, because a result cannot be read. False when that was so too often. */
  #searchFor(place: TaskRef, { task: input, cause }: UnreadableResult): boolean {
    const { level, task } = place;
    // They are being made again, and bring it here again.
    if (!this.#tree.isReady(level, task)) return true;
    if (!this.#countSearch(place)) return false;
    this.#dispatcher.discredit(this.#journal.answersOf(level - 1).makers[input]!, cause);
    if (this.#tree.isReady(level, task)) this.#inputs.add(place);
    return true;
  }

  /** One search more for the task's inputs. False when there were too many. */
  #countSearch({ level, task }: TaskRef): boolean {
    const key = `${level} ${task}`;
    const search = (this.#searches.get(key) ?? 0) + 1;
    this.#searches.set(key, search);
    return search <= RESULT_ATTEMPTS_MAX;
  }

  #wake(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const resolve of waiters) resolve();
  }
}
