/**
 * Between the scheduler, which only decides, and the executors, which only do: carries out the one's actions and reports
 * the others' answers. All jobs of a machine share one.
 */
import { PacketfsError, messageOf } from "../../packets/errors.ts";
import { FaultCode, faultErrorCode } from "../../packets/faults.ts";
import { JobError, JobErrorCode } from "../errors.ts";
import { JOBS_PACKETS_MAX, SCHEDULE_TICK_MS } from "../limits.ts";
import type { Events } from "../contracts/events.ts";
import type { BarInfo, Executor, ProgramKind } from "../contracts/executor.ts";
import type { KernelUse } from "../contracts/kernels.ts";
import type { Action, LaneEnd, StrikeReason, StuckReason } from "../schedule/actions.ts";
import { Scheduler } from "../schedule/scheduler.ts";
import type { BatchNumbers } from "../schedule/scheduler.ts";
import type { EditionChoice } from "../schedule/state.ts";
import { Batch, DispatchedProgram, inputBytes } from "./batch.ts";
import type { AnswerRun, BatchPlan, ProgramToLoad } from "./batch.ts";
import { Candidates } from "./candidates.ts";
import type { ExecutorSet } from "./candidates.ts";
import { DispatchedLanes } from "./lanes.ts";
import type { DispatchedLane, LaneEvents } from "./lanes.ts";
import { PacketBudget } from "./packet-budget.ts";

/** Runs `run` once after so many milliseconds, unless the returned function is called before. */
export type SetTimer = (run: () => void, milliseconds: number) => () => void;

const BAR_REASONS: Readonly<Record<StrikeReason, string>> = {
  load: "it could not load programs that others loaded",
  fault: "it failed packets that others ran",
  input: "it did not get input that others got",
  result: "results that it gave were nowhere",
  answer: "it sent what is no answer",
};

/** Why an executor did not run a packet that others may, by the fault's number. */
function reasonOf(fault: number): string {
  return fault === FaultCode.inputMissing
    ? "bytes of the input are missing or damaged there"
    : `it fails with ${faultErrorCode(fault)}`;
}

export interface DispatcherOptions {
  readonly executors: ExecutorSet;
  readonly events?: Events | undefined;
  /** Milliseconds of a monotonic clock. */
  readonly now: () => number;
  readonly setTimer: SetTimer;
}

export class Dispatcher implements LaneEvents {
  readonly #now: () => number;
  readonly #setTimer: SetTimer;
  readonly #events: Events | undefined;
  readonly #scheduler: Scheduler;
  /** Packets in memory, of everything that runs here. */
  readonly budget: PacketBudget = new PacketBudget(JOBS_PACKETS_MAX);
  readonly #candidates: Candidates;
  readonly #programs = new Map<number, DispatchedProgram>();
  readonly #batches = new Map<number, Batch>();
  readonly #lanes = new DispatchedLanes();
  #cancelTimer: (() => void) | undefined;
  #isPerforming = false;

  constructor({ executors, events, now, setTimer }: DispatcherOptions) {
    this.#now = now;
    this.#setTimer = setTimer;
    this.#events = events;
    this.#scheduler = new Scheduler(now());
    this.#candidates = new Candidates(executors, {
      joined: (executor) => {
        const { id: node, label, capacity } = executor;
        const workers = Math.max(0, ...Object.values(capacity));
        events?.emit("node", { kind: "joined", node, label, workers });
        for (const program of this.#programs.values()) this.#noteEdition(program, executor);
        return this.#scheduler.join({ capacity, edition: executor.edition, name: node }, now());
      },
      left: (number, executor) => {
        events?.emit("node", { kind: "left", node: executor.id, label: executor.label });
        this.#left(number, executor);
      },
      synced: () => this.#perform(),
    });
    this.#candidates.sync();
  }

  /** The executors that are there, by the number that the scheduler knows them by. */
  get candidates(): Pick<Candidates, "executors" | "onJoined"> {
    return this.#candidates;
  }

  /** Which edition the packets of a job run on whose programs are of the kind; to be given to all of them. */
  chooseEdition(kind: ProgramKind): EditionChoice {
    return this.#scheduler.chooseEdition(kind);
  }

  /** Executors that get packets of programs of the kind. */
  executorsFor(kind: ProgramKind): Executor[] {
    return [...this.#candidates.executors.values()].filter(
      ({ id, capacity }) =>
        capacity[kind] !== undefined && !this.#scheduler.barsOf(id).some((bar) => bar.kind === kind),
    );
  }

  /** What people call the GPUs of a class, as long as one is there. */
  labelOf(engineClass: string): string | undefined {
    for (const { accelerator } of this.#candidates.executors.values())
      if (accelerator?.engineClass === engineClass) return accelerator.label;
    return undefined;
  }

  openProgram(program: ProgramToLoad, choice: EditionChoice = this.chooseEdition(program.kind)): number {
    const number = this.#scheduler.openProgram(program.kind, choice);
    this.#programs.set(number, new DispatchedProgram(number, program, choice));
    return number;
  }

  /** What the program is made of, and on which edition it runs, once that is chosen. */
  programOf(
    number: number,
  ): (Pick<ProgramToLoad, "kind" | "source"> & { readonly edition: string | undefined }) | undefined {
    const program = this.#programs.get(number);
    if (program === undefined) return undefined;
    const { kind, source, choice } = program;
    return { kind, source, edition: choice.edition };
  }

  /** Removes the program's batches and closes its lanes; what was made there and not kept may be gone then. */
  closeProgram(number: number): void {
    const program = this.#programs.get(number);
    if (program === undefined) return;
    for (const batch of program.batches) this.remove(batch);
    this.#programs.delete(number);
    this.#tell((scheduler) => scheduler.closeProgram(number));
  }

  /** All tasks wait until they are released. */
  start(plan: BatchPlan): Batch {
    const program = this.#programs.get(plan.program);
    if (program === undefined) throw new Error("no such program");
    this.#lookForSuspects();
    const bytes = inputBytes(plan.packets);
    const batch = new Batch(this.#scheduler.addBatch({ ...plan, bytes }, this.#now()), plan, bytes);
    program.add(batch);
    this.#batches.set(batch.id, batch);
    for (const executor of this.#candidates.executors.values()) this.#noteEdition(program, executor);
    this.#cancelTimer ??= this.#setTimer(() => this.#tick(), SCHEDULE_TICK_MS);
    return batch;
  }

  /** Loads the batch's program ahead of its first task. */
  prepare(batch: Batch): void {
    this.#tell((scheduler, now) => scheduler.prepare(batch.id, now));
  }

  release(batch: Batch, tasks?: Iterable<number>): void {
    this.#tell((scheduler, now) => scheduler.release(batch.id, now, tasks));
  }

  withdraw(batch: Batch, tasks: Iterable<number>): void {
    this.#tell((scheduler, now) => scheduler.withdraw(batch.id, now, tasks));
  }

  redo(batch: Batch, tasks: Iterable<number>): void {
    this.#tell((scheduler, now) => scheduler.redo(batch.id, now, tasks));
  }

  /** `held[task]` bytes of each task's input are on the executor. */
  located(batch: Batch, executor: number, held: Float64Array): void {
    this.#tell((scheduler) => scheduler.located(batch.id, executor, held));
  }

  numbersOf(batch: Batch): BatchNumbers | undefined {
    return this.#scheduler.numbersOf(batch.id);
  }

  /** Nobody hears of its tasks any more. */
  remove(batch: Batch): void {
    if (!this.#batches.delete(batch.id)) return;
    this.#programs.get(batch.program)?.batches.delete(batch);
    this.#tell((scheduler, now) => scheduler.removeBatch(batch.id, now));
  }

  /** What the batch's program is made of. */
  kindOf(batch: Batch): ProgramKind {
    return this.programOfBatch(batch).kind;
  }

  programOfBatch(batch: Batch): Pick<ProgramToLoad, "kind" | "hasKernels"> {
    return this.#programs.get(batch.program)!;
  }

  /** Packets in flight on the executor, and those it has finished since it came. */
  loadOf(executor: Executor): { readonly inFlight: number; readonly done: number } {
    const number = this.#candidates.numberOf(executor);
    const inFlight = number === undefined ? 0 : this.#scheduler.inFlight(number).packets;
    return { inFlight, done: this.#candidates.finishedBy(executor) };
  }

  /** The kinds of program of which the executor with this id gets no packets, whether it is there or not. */
  barsOf(executor: string): BarInfo[] {
    return this.#scheduler
      .barsOf(executor)
      .map(({ kind, reason }) => ({ kind, reason: BAR_REASONS[reason] }));
  }

  /** The executor with this id gets packets again, whatever it did. */
  allow(executor: string): void {
    this.#tell((scheduler, now) => scheduler.allow(executor, now));
  }

  /** The lane that an answer came from, as long as it is there; and with it whatever it made. */
  laneOf(maker: number): DispatchedLane | undefined {
    const lane = this.#lanes.get(maker);
    return lane?.isReady === true ? lane : undefined;
  }

  /** A result that came from the lane cannot be read or kept: the lane is given up, with all that it made. */
  discredit(maker: number, error: unknown): void {
    this.#lanes.get(maker)?.discredit(asPacketfsError(error));
  }

  /** Resolves when every lane is closed. */
  async close(): Promise<void> {
    this.#candidates.close();
    this.#cancelTimer?.();
    for (const number of this.#programs.keys()) this.closeProgram(number);
    await this.#lanes.closed(this.#setTimer);
  }

  // ── what lanes say ──

  ready({ number }: DispatchedLane): void {
    this.#tell((scheduler, now) => scheduler.laneReady(number, now));
  }

  lost(lane: DispatchedLane, error: unknown, wasReady: boolean, end: LaneEnd): void {
    if (!this.#lanes.forget(lane.number)) return;
    const { program, executor } = lane;
    if (!wasReady) program.loadError = error;
    const what = `${wasReady ? "lost its lane of" : "cannot load"} "${program.name}"`;
    this.#note(program, `node "${executor.label}" ${what}: ${asPacketfsError(error).message}`);
    this.#scheduler.laneLost(lane.number, this.#now(), end);
    if (wasReady) for (const { listener } of program.batches) listener.laneLost();
    this.#perform();
  }

  answered(lane: DispatchedLane, batch: Batch | undefined, run: AnswerRun): void {
    if (batch === undefined) this.#scheduler.stray(lane.number, run.count, this.#now());
    else {
      const outcomes = run.outcomes.subarray(0, run.count);
      const tasks = run.tasks.subarray(0, run.count);
      this.#scheduler.returned(lane.number, batch.id, tasks, outcomes, this.#now());
      const { accepted, again, fault } = batch.accept(run, lane.number);
      this.#candidates.finished(lane.executor, accepted);
      if (fault !== undefined) {
        const packets = again === 1 ? "a packet, which is" : `${again} packets, which are`;
        const text = `node "${lane.executor.label}" could not run ${packets} tried again: ${reasonOf(fault)}`;
        batch.listener.noted(text);
      }
      if (accepted > 0) batch.listener.settled(run.tasks.subarray(0, accepted), lane.executor);
    }
    this.#perform();
  }

  logged({ program, executor }: DispatchedLane, at: number, text: string): void {
    const batch = program.batchAt(at);
    batch?.listener.logged(at - batch.base, executor, text);
  }

  noted({ program, executor }: DispatchedLane, text: string): void {
    this.#note(program, `node "${executor.label}": ${text}`);
  }

  measured({ program }: DispatchedLane, uses: readonly KernelUse[]): void {
    // Packets of all its batches are one job's.
    const [batch] = program.batches;
    batch?.listener.measured?.(uses);
  }

  /**
   * A node that runs another edition would give other bytes, so it gets no packets; who watches is told. Of those whose results
   * depend on the engine, other engines have others.
   */
  #noteEdition(program: DispatchedProgram, { label, capacity, edition }: Executor): void {
    const chosen = program.choice.edition;
    if (chosen === undefined || chosen === edition || capacity[program.kind] === undefined) return;
    if (program.kind === "kernel") return;
    this.#note(
      program,
      `node "${label}" gets no packets of this job, which runs on ${chosen}: it has ${edition}`,
    );
  }

  #note(program: DispatchedProgram, text: string): void {
    for (const { listener } of program.batches) listener.noted(text);
  }

  // ── executors and time ──

  #left(number: number, executor: Executor): void {
    const programs = this.#lanes.closeAll(executor);
    this.#scheduler.leave(number, this.#now());
    for (const program of programs) {
      this.#note(program, `node "${executor.label}" is gone`);
      for (const batch of program.batches) batch.listener.laneLost();
    }
  }

  #tick(): void {
    this.#cancelTimer = undefined;
    if (this.#batches.size > 0) this.#cancelTimer = this.#setTimer(() => this.#tick(), SCHEDULE_TICK_MS);
    this.#lookForSuspects();
    this.#tell((scheduler, now) => scheduler.tick(now));
  }

  #lookForSuspects(): void {
    for (const [number, { isSuspect = false }] of this.#candidates.executors)
      this.#scheduler.suspect(number, isSuspect, this.#now());
  }

  // ── what the scheduler wants ──

  #tell(event: (scheduler: Scheduler, now: number) => void): void {
    event(this.#scheduler, this.#now());
    this.#perform();
  }

  #perform(): void {
    // Whatever an action leads to at once is done after it, by the loop that is running.
    if (this.#isPerforming) return;
    this.#isPerforming = true;
    try {
      for (let actions = this.#scheduler.takeActions(); actions.length > 0;) {
        for (const action of actions) this.#do(action);
        actions = this.#scheduler.takeActions();
      }
    } finally {
      this.#isPerforming = false;
    }
  }

  #do(action: Action): void {
    if (action.kind === "load") {
      const executor = this.#candidates.executors.get(action.executor);
      const program = this.#programs.get(action.program);
      if (executor !== undefined && program !== undefined) {
        this.#lanes.open(action.lane, executor, program, this);
      }
      return;
    }
    if (action.kind === "close") {
      const lane = this.#lanes.close(action.lane);
      if (lane !== undefined) lane.program.loadError ??= new Error("it took too long");
      return;
    }
    if (action.kind === "barred") return this.#barred(action);
    const batch = this.#batches.get(action.batch);
    if (batch === undefined) return;
    switch (action.kind) {
      case "send":
        return this.#lanes.get(action.lane)?.exec(batch.packetsOf(action.tasks));
      case "lost":
        return batch.listener.givenUp(action.task);
      case "done":
        return batch.listener.finished();
      case "stuck":
        return batch.listener.failed(this.#stuckError(this.#programs.get(batch.program)!, action.reason));
    }
  }

  /** Who watches is told, and so is who runs jobs now. */
  #barred({ executor: number, programKind, reason }: Action & { readonly kind: "barred" }): void {
    const executor = this.#candidates.executors.get(number);
    if (executor === undefined) return;
    const { id: node, label } = executor;
    const why = BAR_REASONS[reason];
    this.#events?.emit("node", { kind: "barred", node, label, reason: why });
    for (const program of this.#programs.values()) {
      if (program.kind === programKind) this.#note(program, `node "${label}" gets no more packets: ${why}`);
    }
  }

  #stuckError(program: DispatchedProgram, reason: StuckReason): PacketfsError {
    if (reason === "refused") return asPacketfsError(program.loadError);
    const barred = [...this.#candidates.executors.values()].flatMap(({ id, label }) =>
      this.barsOf(id).flatMap(({ kind, reason: why }) =>
        kind === program.kind ? `; node "${label}" is barred: ${why}` : [],
      ),
    );
    return stuckError(program, reason, barred.join(""));
  }
}

function stuckError(
  program: DispatchedProgram,
  reason: Exclude<StuckReason, "refused">,
  barred: string,
): JobError {
  const why =
    reason === "no executor"
      ? `there is no executor${barred}`
      : `no executor can load it: ${asPacketfsError(program.loadError).message}${barred}`;
  return new JobError(
    JobErrorCode.noExecutor,
    `program "${program.name}" cannot run: ${why}`,
    { reason, program: program.name },
    program.loadError === undefined ? undefined : { cause: program.loadError },
  );
}

/** One of ours as it is; anything else as a defect. */
function asPacketfsError(error: unknown): PacketfsError {
  if (error instanceof PacketfsError) return error;
  const text = messageOf(error);
  return new JobError(JobErrorCode.internal, text, {}, { cause: error });
}
