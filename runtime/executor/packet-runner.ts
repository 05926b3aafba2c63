/**
 * Runs packets of one program: a queue of them, an executor process, and the frames on their way between the two.
 *
 *   exec ──▶ queue ──▶ stage inputs ──▶ run ──▶ store results ──▶ returned
 *              ▲          │              │
 *              └──────────┴── process ended: suspects run again alone (lane-queue.ts), the others as before
 *
 * As many frames are staged or running as the process has threads, and one more, so that no thread waits for bytes and
 * memory stays bounded.
 */
import { PacketfsError, hasCode } from "../../packets/errors.ts";
import { FaultCode } from "../../packets/faults.ts";
import { PACKET_BYTES } from "../../packets/layout.ts";
import { packetCount, wordAligned } from "../../packets/packet.ts";
import type { ChunkSink } from "../contracts/chunks.ts";
import type { Tenant } from "../contracts/executor.ts";
import type { KernelEngine, KernelUse } from "../contracts/kernels.ts";
import { LaneError, LaneErrorCode, SandboxErrorCode } from "../errors.ts";
import { SupervisedProcess } from "./supervised-process.ts";
import type { Running } from "./supervised-process.ts";
import { FrameQuestions } from "./frame-questions.ts";
import type { QuestionContext } from "./frame-questions.ts";
import { InputStage } from "./input-staging.ts";
import type { Refusal } from "./frame-inputs.ts";
import type { StagedFrame } from "./input-staging.ts";
import { LaneQueue, isSuspect } from "./lane-queue.ts";
import type { Work } from "./lane-queue.ts";
import { processOptions } from "./shared-processes.ts";
import { ResultStore } from "./results.ts";
import type { Kernel } from "../program/kernel/kernel.ts";
import type { FetchedProgram } from "./local-executor.ts";
import type { LaneProcess } from "./lane-process.ts";
import type { ProcessTurns } from "./process-turns.ts";
import type { SharedProcesses } from "./shared-processes.ts";
import { ProcessGone } from "./input-buffer.ts";
import type { FrameOutcome, RanFrame } from "../sandbox/process/executor-process.ts";
import type { InputSource } from "../stream/inputs.ts";

export interface RunnerContext {
  readonly program: FetchedProgram;
  readonly tenant: Tenant | undefined;
  readonly inputs: InputSource;
  /** Of results that do not fit into their answers. */
  readonly sink: ChunkSink;
  readonly processes: SharedProcesses;
  readonly threads: number;
  readonly inputBytes: number;
  /** Who computes its kernels; it does itself unless given. */
  readonly kernels?: KernelEngine | undefined;
  readonly listener: RunnerListener;
}

/** Whoever has packets run. Nothing is said any more once the runner is closed. */
export interface RunnerListener {
  /** Those packets of a frame that are still wanted; all of them unless it is there. */
  wanted?(frame: Uint8Array): Uint8Array;
  /** CPU time that a frame took, whatever became of it. */
  used(frame: Uint8Array, cpuMs: number): void;
  /** What calls of kernels took that packets of a frame made, before their answers. */
  measured(frame: Uint8Array, uses: readonly KernelUse[]): void;
  /** What the first `outcome.completed` packets of a frame came to, before their answers. */
  ran(frame: Uint8Array, outcome: FrameOutcome): void;
  /** Packets that end with a FAULT and did not run to their end, before their answers. */
  refused(packets: readonly Refusal[]): void;
  /** Console output of the packet at `index` of a frame. */
  logged(frame: Uint8Array, index: number, text: string): void;
  /** As LaneListener has them. */
  returned(answers: Uint8Array): void;
  noted(text: string): void;
  lost(error: PacketfsError): void;
}

export class PacketRunner {
  readonly #context: RunnerContext;
  readonly #process: SupervisedProcess;
  readonly #frames: FrameRunner;
  readonly #results: ResultStore;
  readonly #work: LaneQueue;
  readonly #abort = new AbortController();
  /** What has to end before it is closed, and who waits for that. */
  #pending = 0;
  #quiet: (() => void) | undefined;
  /** Frames that are being staged or run, and frames whose results are being stored. */
  #inFlight = 0;
  #storing = 0;
  #pumping = false;
  #ended = false;
  #closing: Promise<void> | undefined;

  constructor(context: RunnerContext) {
    const { program, tenant, inputs, sink, processes, threads, inputBytes, kernels, listener } = context;
    const { manifest, code } = program;
    const { signal } = this.#abort;
    this.#context = context;
    this.#work = new LaneQueue(manifest.description.limits.timeMs);
    const wanted = {
      program: keyOf(program, tenant),
      code,
      options: processOptions(manifest.description.limits, threads, inputBytes),
      signal,
    };
    this.#process = new SupervisedProcess(
      () => processes.take(wanted),
      (process) => process.load({ ...manifest, code }),
      {
        started: () => this.#pump(),
        ended: (running, reason, detail) => this.#processEnded(running, reason, detail),
        lost: (error) => this.#lose(error),
      },
    );
    const called = manifest.description.kernels ?? [];
    const stage = new InputStage(inputs, manifest, signal, () => mayUseGpu(kernels, called));
    const asks = called.length > 0 || manifest.files !== undefined;
    const questions = asks ? { manifest, inputs, engine: kernels } : undefined;
    this.#frames = new FrameRunner({ stage, work: this.#work, questions, listener });
    this.#results = new ResultStore(sink, manifest);
  }

  /**
   * Resolves when the program is loaded, which packets need not wait for. Rejects when it does not load or the signal fires
   * before it did; nothing is left open then.
   */
  async open(signal: AbortSignal): Promise<void> {
    const abort = (): void => void this.close();
    signal.addEventListener("abort", abort);
    try {
      await this.#process.open();
      signal.throwIfAborted();
    } catch (error) {
      await this.close();
      throw error;
    } finally {
      signal.removeEventListener("abort", abort);
    }
  }

  /** Opens it for packets that are there already: what fails is told as the end of it. */
  start(): void {
    this.#process.open().catch((error: unknown) => this.#lose(error));
  }

  /** As a lane's; how many packets are in flight is bounded by whoever calls it. */
  exec(frame: Uint8Array): void {
    if (this.#ended) return;
    this.#work.add(wordAligned(frame));
    if (this.#pumping) return;
    // Frames that come one right after the other are sent on together.
    this.#pumping = true;
    // Node's queueMicrotask makes more of it.
    void Promise.resolve().then(() => {
      this.#pumping = false;
      this.#pump();
    });
  }

  /** Packets in flight are dropped without an answer. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#end();
    await this.#process.close();
    if (this.#pending > 0) await new Promise<void>((resolve) => (this.#quiet = resolve));
  }

  #end(): void {
    this.#ended = true;
    this.#work.clear();
    this.#abort.abort(new LaneError(LaneErrorCode.laneClosed, "the lane is closed"));
  }

  #lose(error: unknown): void {
    if (this.#ended) return;
    this.#end();
    this.#context.listener.lost(error instanceof PacketfsError ? error : broken(error));
    // What closing could still report has no listener any more.
    this.close().catch(() => undefined);
  }

  #over(): void {
    if (--this.#pending === 0) this.#quiet?.();
  }

  #processEnded({ process }: Running, reason: string, detail: string): void {
    const { listener, program } = this.#context;
    const why = detail === "" ? reason : `${reason}: ${detail}`;
    listener.noted(`executor process ${process.pid} of program "${program.manifest.name}" ended (${why})`);
  }

  #pump(): void {
    const most = this.#context.threads + 1;
    while (!this.#ended && this.#inFlight < most && this.#storing <= most) {
      const running = this.#process.current;
      const next = running && this.#work.next(this.#inFlight);
      if (next === undefined) return;
      const work = this.#wanted(next);
      if (work === undefined) continue;
      this.#inFlight++;
      this.#pending++;
      void this.#runFrame(work, running!).then(() => this.#over());
    }
  }

  /** What is still wanted of some work, if anything is. */
  #wanted(work: Work): Work | undefined {
    const { listener } = this.#context;
    if (listener.wanted === undefined) return work;
    const frame = listener.wanted(work.frame);
    if (frame.byteLength > 0) return { ...work, frame };
    this.#work.over(work);
    return undefined;
  }

  /** Takes one frame all the way. Never rejects: a defect loses the lane. */
  async #runFrame(work: Work, running: Running): Promise<void> {
    let result: FrameResult;
    try {
      result = await this.#frames.run(work, running);
    } catch (error) {
      return this.#lose(error);
    } finally {
      this.#inFlight--;
      this.#work.over(work);
    }
    if (result.ran !== undefined || result.refused.length > 0) this.#process.progressed();
    this.#storing++;
    this.#pump();
    try {
      await this.#answer(result);
    } catch (error) {
      this.#lose(error);
    }
    this.#storing--;
    this.#pump();
  }

  async #answer({ ran, refused }: FrameResult): Promise<void> {
    if (this.#ended) return;
    const { listener } = this.#context;
    if (ran !== undefined) {
      listener.ran(ran.frame, ran.outcome);
      for (const { index, text } of ran.outcome.logs) listener.logged(ran.frame, index, text);
      const made = this.#results.answers(ran.frame, ran.outcome);
      const answers = made instanceof Promise ? await made : made;
      ran.process.recycle(ran.outcome);
      this.#deliver(answers);
      this.#results.recycle(answers);
    }
    if (refused.length === 0) return;
    listener.refused(refused);
    this.#deliver(await this.#results.faults(refused));
  }

  #deliver(answers: Uint8Array): void {
    if (!this.#ended) this.#context.listener.returned(answers);
  }
}

/**
 * Lanes of the same code, arguments and limits share a process, when they are of one tenant: what was given to run there may
 * have broken it, though the program means no harm.
 */
function keyOf({ manifest }: FetchedProgram, tenant: Tenant | undefined): string {
  const { code, args, description, files = null } = manifest;
  return JSON.stringify([tenant ?? null, code, args, description, files]);
}

function mayUseGpu(engine: KernelEngine | undefined, kernels: readonly Kernel[]): boolean {
  return engine !== undefined && kernels.length > 0 && (engine.mayUseGpu?.(kernels) ?? true);
}

function broken(cause: unknown): LaneError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new LaneError(LaneErrorCode.laneBroken, `the lane is lost: ${reason}`, { reason }, { cause });
}

/** What came of a frame: the program's answers, and packets that end with a FAULT of the runtime's. */
interface FrameResult {
  readonly ran?: {
    readonly frame: Uint8Array;
    /** To be given back to its process after use. */
    readonly outcome: RanFrame;
    readonly process: LaneProcess;
  };
  readonly refused: readonly Refusal[];
}

class FrameRunner {
  readonly #stage: InputStage;
  readonly #work: LaneQueue;
  /** Absent where the program has nothing to ask. */
  readonly #questions: QuestionContext | undefined;
  readonly #listener: Pick<RunnerListener, "used" | "measured">;

  /** The listener is told what each frame that has ended took, whatever became of it. */
  constructor(options: {
    readonly stage: InputStage;
    readonly work: LaneQueue;
    readonly questions: QuestionContext | undefined;
    readonly listener: Pick<RunnerListener, "used" | "measured">;
  }) {
    this.#stage = options.stage;
    this.#work = options.work;
    this.#questions = options.questions;
    this.#listener = options.listener;
  }

  /**
   * Stages and runs a frame. Packets that got no answer and are not refused are in the work queue again. Rejects with
   * defects, and with what the stage rejects with.
   */
  async run(work: Work, running: Running): Promise<FrameResult> {
    let staged: StagedFrame;
    try {
      const stage = this.#stage.stage(work.frame, running.space);
      staged = stage instanceof Promise ? await stage : stage;
    } catch (error) {
      if (hasCode(error, SandboxErrorCode.sharedMemoryFailed)) {
        running.process.giveUp(error.message);
      } else if (!(error instanceof ProcessGone)) {
        throw error;
      }
      this.#work.putBack(work.frame, work);
      return { refused: [] };
    }
    if (staged.rest.byteLength > 0) this.#work.putBack(staged.rest, work);
    const { refused } = staged;
    if (staged.frame.byteLength === 0) {
      // They took no time at all: packets whose inputs are nowhere must not come one a frame to their end.
      this.#work.size.ran(refused.length, 0);
      return { refused };
    }
    // Awaited here, it takes fewer turns until who waits for this has it.
    return await this.#send(staged, work, running);
  }

  async #send(
    { frame, extents, inputs, offset, refused }: StagedFrame,
    work: Work,
    running: Running,
  ): Promise<FrameResult> {
    const { process, space } = running;
    const { turns } = process;
    const turn = turns.begin(isSuspect(work));
    if (turn !== undefined) await turn;
    const packets = packetCount(frame);
    const asked = this.#questions && new FrameQuestions(this.#questions, { frame, extents, space });
    let outcome: RanFrame;
    try {
      if (process.closed) {
        // It died while this was staged or waited for its turn, and not of it.
        this.#work.putBack(frame, work);
        return { refused };
      }
      turns.framesSent++;
      turns.packetsInFlight += packets;
      outcome = await process.run(frame, extents, inputs, asked);
    } catch (error) {
      return { refused: [...refused, ...this.#failed(error, frame, work, turns)] };
    } finally {
      if (asked !== undefined) this.#ended(asked, frame);
      turns.over();
      if (offset !== undefined) space.free(offset);
    }
    this.#stage.recycle(extents);
    turns.packetsInFlight -= packets;
    this.#listener.used(frame, outcome.cpuMs);
    this.#work.size.ran(packets, outcome.cpuMs);
    if (packets === 1 && outcome.completed === 0) throw new Error("a packet came back without an answer");
    this.#work.separate(frame.subarray(outcome.completed * PACKET_BYTES));
    return { ran: { frame, outcome, process }, refused };
  }

  #ended(asked: FrameQuestions, frame: Uint8Array): void {
    asked.close();
    const uses = asked.uses();
    if (uses.length > 0) this.#listener.measured(frame, uses);
  }

  /** Puts the packets where they run again; returns those that do not. */
  #failed(error: unknown, frame: Uint8Array, work: Work, turns: ProcessTurns): readonly Refusal[] {
    if (hasCode(error, SandboxErrorCode.deadline) || hasCode(error, SandboxErrorCode.stalled))
      this.#listener.used(frame, Number(error.data["cpuMs"]));
    if (hasCode(error, SandboxErrorCode.deadline)) {
      if (packetCount(frame) === 1) return [{ packet: frame, code: FaultCode.timeLimit, detail: "" }];
      this.#work.separate(frame);
      return [];
    }
    const { reason, detail } = deathOf(error);
    if (reason !== "memory" && reason !== "crash" && reason !== "stall") {
      // Another frame's deadline, or its stall: these packets did nothing.
      this.#work.putBack(frame, work);
      return [];
    }
    const alone = turns.packetsInFlight === 1;
    const faults = this.#work.died(frame, work, { reason, alone, fresh: turns.framesSent === 1 });
    return faults.map(({ packet, code }) => ({ packet, code, detail: String(detail) }));
  }
}

/** What the process died of while a frame was in flight. Rethrows what is no death. */
function deathOf(error: unknown): { readonly reason: unknown; readonly detail: unknown } {
  if (hasCode(error, SandboxErrorCode.stalled)) return { reason: "stall", detail: error.message };
  if (!hasCode(error, SandboxErrorCode.ended)) throw error;
  const { reason, detail = "" } = error.data;
  return { reason, detail };
}
