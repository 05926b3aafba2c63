/** Lanes as the dispatcher has them: each from the moment it is asked for until it is closed or lost. */
import type { Ref } from "../../packets/digest.ts";
import { PacketfsError, hasCode } from "../../packets/errors.ts";
import { FaultCode, INVALID_INPUT_FAULTS, isOwnFault } from "../../packets/faults.ts";
import { wrongAnswerAt } from "../../packets/exec-frame.ts";
import { Op } from "../../packets/layout.ts";
import { atIn, atOf, fromAt, opAt, packetCount } from "../../packets/packet.ts";
import { JobError, JobErrorCode, LaneErrorCode, StoreErrorCode } from "../errors.ts";
import { LANES_CLOSE_MS_MAX } from "../limits.ts";
import type { Executor, Lane, LaneListener } from "../contracts/executor.ts";
import type { KernelUse } from "../contracts/kernels.ts";
import { LaneEnd, Outcome } from "../schedule/actions.ts";
import type { AnswerRun, Batch, DispatchedProgram } from "./batch.ts";
import type { SetTimer } from "./dispatcher.ts";

/** Answers that are looked at together. */
const ANSWERS_AT_ONCE = 4096;

/** What the lane tells the dispatcher. */
export interface LaneEvents {
  ready(lane: DispatchedLane): void;
  /** Gone, or not even loaded; nothing follows. */
  lost(lane: DispatchedLane, error: unknown, wasReady: boolean, end: LaneEnd): void;
  /** Answers to packets of one batch, or of none that is still there. */
  answered(lane: DispatchedLane, batch: Batch | undefined, run: AnswerRun): void;
  logged(lane: DispatchedLane, at: number, text: string): void;
  noted(lane: DispatchedLane, text: string): void;
  measured(lane: DispatchedLane, uses: readonly KernelUse[]): void;
}

export class DispatchedLane implements LaneListener {
  readonly number: number;
  readonly executor: Executor;
  readonly program: DispatchedProgram;
  readonly #events: LaneEvents;
  readonly #abort = new AbortController();
  #lane: Lane | undefined;
  #isOver = false;

  constructor(number: number, executor: Executor, program: DispatchedProgram, events: LaneEvents) {
    this.number = number;
    this.executor = executor;
    this.program = program;
    this.#events = events;
  }

  /** Never rejects. */
  async load(): Promise<void> {
    try {
      const { source, tenant } = this.program;
      const lane = await this.executor.load(source, this, this.#abort.signal, tenant);
      this.#lane = lane;
      if (this.#isOver) await lane.close();
      else this.#events.ready(this);
    } catch (error) {
      this.#lose(error, loadEndOf(error));
    }
  }

  get isReady(): boolean {
    return this.#lane !== undefined && !this.#isOver;
  }

  /** Rejects when the lane is lost or closed before its outputs are kept. */
  async keep(name: string, returns: Uint8Array): Promise<Ref> {
    const { signal } = this.#abort;
    signal.throwIfAborted();
    let stop = (): void => {};
    const gone = new Promise<never>((_, reject) => {
      stop = () => reject(signal.reason as Error);
      signal.addEventListener("abort", stop);
    });
    try {
      return await Promise.race([this.#lane!.keep(name, returns), gone]);
    } finally {
      signal.removeEventListener("abort", stop);
    }
  }

  exec(frame: Uint8Array): void {
    try {
      this.#lane!.exec(frame);
    } catch (error) {
      this.#lose(error);
    }
  }

  /** Nothing that the lane still says is listened to. Never rejects: what closing reports concerns nobody. */
  async close(reason: unknown): Promise<void> {
    this.#isOver = true;
    this.#abort.abort(reason);
    await this.#lane?.close().catch(() => undefined);
  }

  returned(frame: Uint8Array, isOwn = false): void {
    // Of a frame that is wrong in one place, nothing is believed.
    if (!isOwn && wrongAnswerAt(frame) >= 0)
      return this.#lose(new Error("it sent something that is no answer"), LaneEnd.offended);
    let batch: Batch | undefined;
    const count = packetCount(frame);
    const view = count > 1 ? new DataView(frame.buffer, frame.byteOffset, frame.byteLength) : undefined;
    const run = spareRuns.pop() ?? emptyRun();
    run.frame = frame;
    run.count = 0;
    for (let index = 0; index < count && !this.#isOver; index++) {
      const at = view === undefined ? atOf(frame, index) : atIn(view, index);
      if (batch === undefined || run.count === ANSWERS_AT_ONCE || !isIn(batch, at)) {
        this.#flush(batch, run);
        batch = this.program.batchAt(at);
      }
      run.indexes[run.count] = index;
      run.tasks[run.count] = batch === undefined ? 0 : at - batch.base;
      const isFault = opAt(frame, index) === Op.FAULT;
      run.outcomes[run.count++] = isFault ? outcomeOf(fromAt(frame, index), this.program) : Outcome.final;
    }
    this.#flush(batch, run);
    run.frame = NO_PACKETS;
    spareRuns.push(run);
  }

  logged(at: number, text: string): void {
    if (!this.#isOver) this.#events.logged(this, at, text);
  }

  noted(text: string): void {
    if (!this.#isOver) this.#events.noted(this, text);
  }

  measured(uses: readonly KernelUse[]): void {
    if (!this.#isOver) this.#events.measured(this, uses);
  }

  lost(error: PacketfsError): void {
    this.#lose(error, isGone(error) ? LaneEnd.gone : LaneEnd.broken);
  }

  /** A result that it gave cannot be read or kept, says the error. */
  discredit(error: unknown): void {
    this.#lose(error, isGone(error) ? LaneEnd.gone : LaneEnd.resultless);
  }

  #flush(batch: Batch | undefined, run: AnswerRun): void {
    if (run.count > 0 && !this.#isOver) this.#events.answered(this, batch, run);
    run.count = 0;
  }

  #lose(error: unknown, end: LaneEnd = LaneEnd.gone): void {
    if (this.#isOver) return;
    const wasReady = this.isReady;
    void this.close(error);
    this.#events.lost(this, error, wasReady, end);
  }
}

const NO_PACKETS = new Uint8Array(0);
/** Nobody keeps one, and more than one is in use only where taking answers leads to others at once. */
const spareRuns: AnswerRun[] = [];

function emptyRun(): AnswerRun {
  const places = (): Uint32Array => new Uint32Array(ANSWERS_AT_ONCE);
  const outcomes = new Uint8Array(ANSWERS_AT_ONCE);
  return { frame: NO_PACKETS, count: 0, indexes: places(), tasks: places(), outcomes };
}

function isIn(batch: Batch, at: number): boolean {
  return at >= batch.base && at < batch.base + batch.count;
}

const INPUT_FAULTS: ReadonlySet<number> = new Set([FaultCode.inputMissing, ...INVALID_INPUT_FAULTS]);

/**
 * A fault of the program or its input is final; any other, also one of a code that nobody knows, may not come elsewhere. Who says that
 * no engine computes kernels is believed where there are some.
 */
export function outcomeOf(code: number, { hasKernels }: Pick<DispatchedProgram, "hasKernels">): Outcome {
  if (isOwnFault(code)) return Outcome.final;
  if (code === FaultCode.engineLost && hasKernels) return Outcome.incapable;
  return code === FaultCode.inputMissing ? Outcome.inputMissing : Outcome.elsewhere;
}

/** Whether a fault is about the packet's input: of a merge, that is results of other packets. */
export function isInputFault(code: number): boolean {
  return INPUT_FAULTS.has(code);
}

/** Errors that say nothing of an executor but that it, or this machine, is busy, full or not there. */
const GONE_CODES: ReadonlySet<string> = new Set<string>([
  JobErrorCode.nodeLost,
  JobErrorCode.cancelled,
  LaneErrorCode.lanesFull,
  LaneErrorCode.laneClosed,
  StoreErrorCode.io,
  StoreErrorCode.full,
  "PFS_REQUEST_TIMEOUT",
  "PFS_PEER_QUOTA",
  "PFS_PEER_BUSY",
  "PFS_LINK_CLOSED",
]);

function loadEndOf(error: unknown): LaneEnd {
  if (hasCode(error, JobErrorCode.invalidProgram)) return LaneEnd.refused;
  return isGone(error) ? LaneEnd.gone : LaneEnd.failed;
}

function isGone(error: unknown): boolean {
  return error instanceof PacketfsError && GONE_CODES.has(error.code);
}

/** The lanes that were asked for and are not over yet, by the number that the scheduler knows them by. */
export class DispatchedLanes {
  readonly #lanes = new Map<number, DispatchedLane>();
  readonly #closing = new Set<Promise<void>>();

  /** Begins to load the program. */
  open(number: number, executor: Executor, program: DispatchedProgram, events: LaneEvents): void {
    const lane = new DispatchedLane(number, executor, program, events);
    this.#lanes.set(number, lane);
    void lane.load();
  }

  get(number: number): DispatchedLane | undefined {
    return this.#lanes.get(number);
  }

  /** The lane is over by itself. False when that is known. */
  forget(number: number): boolean {
    return this.#lanes.delete(number);
  }

  close(number: number): DispatchedLane | undefined {
    const lane = this.#lanes.get(number);
    if (lane === undefined) return undefined;
    this.#lanes.delete(number);
    const closing = lane.close(new JobError(JobErrorCode.cancelled, "the lane is not needed any more"));
    this.#closing.add(closing);
    void closing.then(() => this.#closing.delete(closing));
    return lane;
  }

  /** Closes all lanes of an executor. Returns the programs that they ran. */
  closeAll(executor: Executor): Set<DispatchedProgram> {
    const programs = new Set<DispatchedProgram>();
    for (const lane of this.#lanes.values()) {
      if (lane.executor === executor) programs.add(this.close(lane.number)!.program);
    }
    return programs;
  }

  /** Resolves when no lane is being closed, or when one that is far away takes too long. */
  async closed(setTimer: SetTimer): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const cancel = setTimer(resolve, LANES_CLOSE_MS_MAX);
    await Promise.race([Promise.all(this.#closing), promise]);
    cancel();
  }
}
