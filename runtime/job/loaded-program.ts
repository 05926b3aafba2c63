/** A program whose lanes stay for callers that make EXEC packets themselves. */
import type { Ref } from "../../packets/digest.ts";
import { execPackets } from "../../packets/exec-frame.ts";
import { FaultCode } from "../../packets/faults.ts";
import { Flag, Op, PACKET_BYTES } from "../../packets/layout.ts";
import { packetCount, writePacket } from "../../packets/packet.ts";
import { JobError, JobErrorCode } from "../errors.ts";
import {
  JOB_TASKS_MAX,
  PROGRAM_FRAMES_MAX,
  SEND_PACKETS_MAX,
  SHARED_BATCH_PACKETS_MAX,
  SHARED_CALL_PACKETS_MAX,
} from "../limits.ts";
import type { StoreWriter } from "../contracts/chunks.ts";
import type { InlineCode, ProgramKind } from "../contracts/executor.ts";
import type { KernelUse } from "../contracts/kernels.ts";
import type { Batch, BatchListener } from "./batch.ts";
import { Calls } from "./calls.ts";
import type { Dispatcher, SetTimer } from "./dispatcher.ts";
import type { LoadedEngine } from "./loaded-engine.ts";
import { Locality, samplePackets } from "./locality.ts";

const LOST_TEXT = new TextEncoder().encode("every node that ran it died");

export interface ProgramLanesOptions {
  readonly dispatcher: Dispatcher;
  readonly setTimer: SetTimer;
  /** The dispatcher's number for it; closed with the program. */
  readonly program: number;
  readonly group: () => number;
  /** As in LoadableProgram. */
  readonly packetMs: number;
  /** Holds the manifest; closed with the program. */
  readonly writer: StoreWriter;
  readonly closed: () => void;
  /** What chooses its edition, where its results depend on the engine. */
  readonly engine?: LoadedEngine | undefined;
}

export interface LoadableProgram {
  readonly kind: ProgramKind;
  readonly source: Ref | InlineCode;
  readonly edition: string | undefined;
  /** Within so many milliseconds a machine answers a packet of it that it runs, whatever becomes of it. */
  readonly packetMs: number;
}

/** The frames that are most often used to have many packets under way. */
const SPARE_FRAME_BYTES = SEND_PACKETS_MAX * PACKET_BYTES;
const SPARE_FRAMES_MAX = 16;

/** What a round tells the program whose calls it answers. */
interface RoundEvents {
  /** One of its calls, of so many packets, is answered. */
  readonly over: (packets: number) => void;
  readonly finished: (round: Round) => void;
  readonly failed: (round: Round, error: Error) => void;
  /** Answers to these tasks came. */
  readonly answered?: LoadedEngine["answered"] | undefined;
  readonly measured?: LoadedEngine["measured"] | undefined;
}

/** Calls that are being answered as one batch. */
class Round implements BatchListener {
  readonly calls: Calls;
  readonly #events: RoundEvents;
  #batch: Batch | undefined;
  #locality: Locality | undefined;
  #signal: AbortSignal | undefined;
  readonly #abort = (): void => this.#events.failed(this, this.#signal!.reason as Error);

  constructor(calls: Calls, events: RoundEvents) {
    this.calls = calls;
    this.#events = events;
  }

  get batch(): Batch {
    return this.#batch!;
  }

  /** It fails when the signal fires. */
  began(batch: Batch, locality: Locality, signal: AbortSignal | undefined): void {
    this.#batch = batch;
    this.#locality = locality;
    this.#signal = signal;
    signal?.addEventListener("abort", this.#abort);
  }

  end(): void {
    this.#signal?.removeEventListener("abort", this.#abort);
    this.#locality?.close();
  }

  settled(tasks: Uint32Array): void {
    this.#events.answered?.(tasks, this.batch.answers.packets);
    this.calls.answered(tasks, this.batch.answers.packets, this.#events.over);
  }

  givenUp(task: number): void {
    const fields = { op: Op.FAULT, flags: Flag.INLINE, lane: 1, at: task, from: FaultCode.internal };
    const { packets } = this.batch.answers;
    writePacket(packets, task, { ...fields, length: LOST_TEXT.byteLength, ref: LOST_TEXT });
    this.calls.answered(Uint32Array.of(task), packets, this.#events.over);
  }

  finished(): void {
    this.#events.finished(this);
  }

  failed(error: Error): void {
    this.#events.failed(this, error);
  }

  measured(uses: readonly KernelUse[]): void {
    this.#events.measured?.(uses);
  }

  /** It is told of nothing else. */
  laneLost(): void {}
  logged(): void {}
  noted(): void {}
}

export class ProgramLanes implements AsyncDisposable {
  readonly #options: ProgramLanesOptions;
  readonly #rounds = new Set<Round>();
  /** Calls with few packets that were made in this turn of the event loop: they share a batch. */
  #gathered: Calls | undefined;
  #frames = 0;
  /** Frames of SPARE_FRAME_BYTES that nobody uses any more. Fresh memory for each would make V8 look for garbage all the time. */
  readonly #spareFrames: Uint8Array[] = [];
  /** The `at` of the next packet: answers to packets that nobody waits for any more must not fit later ones. */
  #base = 0;
  /** Whether answers may still come that nobody waits for: to calls that were given up, and to packets that were sent twice. */
  #hasStrays = false;
  #closed: JobError | undefined;
  readonly #roundEvents: RoundEvents;

  constructor(options: ProgramLanesOptions) {
    this.#options = options;
    const { engine } = options;
    this.#roundEvents = {
      over: (packets) => this.#over(packets),
      finished: (round) => this.#finish(round),
      failed: (round, error) => this.#abandon(round, error),
      answered: engine && ((tasks, answers) => engine.answered(tasks, answers)),
      measured: engine && ((uses) => engine.measured(uses)),
    };
  }

  /**
   * Executes EXEC packets (n × 64 bytes) and resolves with n RETURN or FAULT packets, the i-th for the i-th and with i as
   * its `at`. `lane` and `at` of what is given are not looked at. What results refer to is there as long as the program is
   * open. Rejects with PFS_PACKET_INVALID, PFS_JOB_OVER_LIMIT, PFS_PROGRAM_INVALID, PFS_NO_EXECUTOR, PFS_CANCELLED, or the
   * signal's reason.
   */
  exec(frame: Uint8Array, signal?: AbortSignal): Promise<Uint8Array> {
    // What is thrown in here rejects it.
    return new Promise((resolve, reject) => this.#exec(frame, signal, resolve, reject));
  }

  #exec(
    frame: Uint8Array,
    signal: AbortSignal | undefined,
    resolve: (answers: Uint8Array) => void,
    reject: (error: Error) => void,
  ): void {
    signal?.throwIfAborted();
    if (this.#closed !== undefined) throw this.#closed;
    const count = packetCount(frame);
    if (count > JOB_TASKS_MAX) throw overLimit("tasks", count, JOB_TASKS_MAX);
    // One that can be aborted ends by itself, and one with many packets has nothing to gain.
    const isAlone = signal !== undefined || count > SHARED_CALL_PACKETS_MAX;
    const calls = isAlone ? new Calls(this.#base) : this.#gather(count);
    const spare = frame.byteLength === SPARE_FRAME_BYTES ? this.#spareFrames.pop() : undefined;
    const own = execPackets(frame, 1, calls.base + calls.count, spare);
    if (count === 0) return resolve(own);
    if (this.#frames >= PROGRAM_FRAMES_MAX) throw overLimit("frames", this.#frames + 1, PROGRAM_FRAMES_MAX);
    this.#options.dispatcher.budget.take(count);
    this.#frames++;
    calls.add(own, resolve, reject);
    if (!isAlone) return;
    this.#base += count;
    this.#begin(calls, signal);
  }

  /** The calls that one with so many packets joins. They begin when whatever runs now has made all that it makes. */
  #gather(packets: number): Calls {
    if (this.#gathered?.hasRoom(packets) === true) return this.#gathered;
    const calls = new Calls(this.#base);
    this.#base += SHARED_BATCH_PACKETS_MAX;
    this.#gathered = calls;
    process.nextTick(() => {
      if (this.#gathered === calls) this.#gathered = undefined;
      if (calls.count > 0 && this.#closed === undefined) this.#begin(calls);
    });
    return calls;
  }

  #begin(calls: Calls, signal?: AbortSignal): void {
    const { dispatcher, program, group, setTimer, engine } = this.#options;
    const round = new Round(calls, this.#roundEvents);
    const batch = dispatcher.start({
      program,
      group: group(),
      packets: calls.joined(),
      base: calls.base,
      isFixed: true,
      listener: round,
    });
    const locality = new Locality(dispatcher, setTimer, batch, async () =>
      samplePackets(batch.frame, batch.count),
    );
    round.began(batch, locality, signal);
    this.#rounds.add(round);
    const chosen = engine === undefined || engine.isChosen ? undefined : engine.chosen(batch.frame);
    if (!locality.isOfUse && chosen === undefined) return dispatcher.release(batch);
    void Promise.all([locality.isOfUse ? locality.known() : undefined, chosen]).then(() => {
      if (this.#rounds.has(round)) dispatcher.release(batch);
    });
  }

  #over(packets: number): void {
    this.#options.dispatcher.budget.give(packets);
    this.#frames--;
  }

  #finish(round: Round): void {
    const { batch } = round;
    const { retries, copies } = this.#options.dispatcher.numbersOf(batch)!;
    if (copies > 0) this.#hasStrays = true;
    // No lane can still have packets of a frame of which each was sent once.
    else if (retries === 0) this.#recycle(batch.frame);
    this.#end(round);
    const isIdle = this.#rounds.size === 0 && this.#gathered === undefined;
    if (isIdle && !this.#hasStrays) this.#base = 0;
  }

  #recycle(frame: Uint8Array): void {
    if (frame.byteLength !== SPARE_FRAME_BYTES || this.#spareFrames.length >= SPARE_FRAMES_MAX) return;
    this.#spareFrames.push(frame);
  }

  #end(round: Round): void {
    if (!this.#rounds.delete(round)) return;
    round.end();
    this.#options.dispatcher.remove(round.batch);
  }

  #abandon(round: Round, error: Error): void {
    this.#hasStrays = true;
    this.#end(round);
    round.calls.fail(error, this.#roundEvents.over);
  }

  /** What executors load for it, and the edition of those that it runs on, once there is one; nothing of one that is closed. */
  get loadable(): LoadableProgram | undefined {
    const { dispatcher, program, packetMs } = this.#options;
    const loadable = this.#closed === undefined ? dispatcher.programOf(program) : undefined;
    return loadable && { ...loadable, packetMs };
  }

  /** Frees the lanes; frames that are being executed reject with PFS_CANCELLED. */
  async close(): Promise<void> {
    if (this.#closed !== undefined) return;
    this.#closed = new JobError(JobErrorCode.cancelled, "the program was closed");
    for (const round of this.#rounds) this.#abandon(round, this.#closed);
    this.#gathered?.fail(this.#closed, this.#roundEvents.over);
    const { dispatcher, program, writer, closed, engine } = this.#options;
    engine?.close();
    dispatcher.closeProgram(program);
    closed();
    await writer.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function overLimit(what: "frames" | "tasks", actual: number, max: number): JobError {
  return new JobError(
    JobErrorCode.overLimit,
    `${actual} ${what === "tasks" ? "packets" : "frames at once"} are more than ${max}`,
    { [what]: actual, max },
  );
}
