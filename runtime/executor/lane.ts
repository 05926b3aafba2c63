/**
 * One program on this machine: a queue of packets, an executor process, and the frames on their way between them.
 *
 *   exec ──▶ queue ──▶ stage inputs ──▶ run ──▶ store results ──▶ returned
 *              ▲          │              │
 *              └──────────┴── process ended: innocent packets wait again, suspects run alone (kill-ledger.ts)
 *
 * As many frames are staged or running as the process has threads, and one more, so that no thread waits for bytes and
 * memory stays bounded.
 */
import type { Ref } from "../../packets/digest.ts";
import { PacketfsError } from "../../packets/errors.ts";
import { atOf, packetCount } from "../../packets/packet.ts";
import { PoolError, PoolErrorCode } from "../errors.ts";
import { LANE_PACKETS_MAX } from "../limits.ts";
import type { StoreWriter } from "../contracts/chunks.ts";
import { ExecutorSeat } from "./executor-seat.ts";
import type { Seat } from "./executor-seat.ts";
import type { Lane, LaneListener } from "../contracts/executor.ts";
import { FrameRunner } from "./frame-runner.ts";
import type { Landing } from "./frame-runner.ts";
import { InputStage } from "./input-stage.ts";
import type { InputSource } from "../stream/inputs.ts";
import { writeKeptStream } from "../stream/ingest.ts";
import { takeIn } from "../../packets/exec-frame.ts";
import { processOptions } from "./process-start.ts";
import type { StoredProgram } from "./stored-program.ts";
import { ResultStore } from "./result-store.ts";
import type { TenantProcesses } from "./tenant-processes.ts";
import { WorkQueue } from "./work-queue.ts";
import type { Work } from "./work-queue.ts";

export interface LaneContext {
  /** The lane's number, 1 to 65,535. */
  readonly number: number;
  readonly program: StoredProgram;
  readonly inputs: InputSource;
  /** The lane's own; it closes it. */
  readonly writer: StoreWriter;
  readonly processes: TenantProcesses;
  readonly threads: number;
  readonly windowBytes: number;
  readonly listener: LaneListener;
  /** Called once, when everything that the lane held is free again. */
  readonly closed: () => void;
}

export class LocalLane implements Lane {
  readonly #context: LaneContext;
  readonly #seat: ExecutorSeat;
  readonly #runner: FrameRunner;
  readonly #results: ResultStore;
  readonly #work: WorkQueue;
  readonly #abort = new AbortController();
  /** Everything that has to end before the lane is closed. */
  readonly #pending = new Set<Promise<unknown>>();
  /** Frames that are being staged or run, and frames whose results are being stored. */
  #flights = 0;
  #landings = 0;
  #unanswered = 0;
  #pumping = false;
  #ended = false;
  #closing: Promise<void> | undefined;

  private constructor(context: LaneContext) {
    const { program, inputs, writer, processes, threads, windowBytes, number } = context;
    const { manifest, code } = program;
    this.#context = context;
    this.#work = new WorkQueue(manifest.description.limits.timeMs);
    this.#seat = new ExecutorSeat(
      () =>
        processes.take({
          tenant: tenantOf(program),
          code,
          options: processOptions(manifest.description.limits, threads, windowBytes),
        }),
      (process) => process.load(number, { ...manifest, code }),
      {
        seated: () => this.#pump(),
        ended: (seat, reason, detail) => this.#processEnded(seat, reason, detail),
        lost: (error) => this.#lose(error),
      },
    );
    const reader = manifest.entry === "map" ? manifest.description.reader : undefined;
    const stage = new InputStage(inputs, reader, this.#abort.signal);
    this.#runner = new FrameRunner(number, stage, this.#work);
    this.#results = new ResultStore(writer, manifest);
  }

  /** Rejects when the program does not load or the signal fires before it did; nothing is left open then. */
  static async open(context: LaneContext, signal: AbortSignal): Promise<LocalLane> {
    const lane = new LocalLane(context);
    const abort = (): void => void lane.close();
    signal.addEventListener("abort", abort);
    try {
      await lane.#seat.open();
      signal.throwIfAborted();
      return lane;
    } catch (error) {
      await lane.close();
      throw error;
    } finally {
      signal.removeEventListener("abort", abort);
    }
  }

  exec(frame: Uint8Array): void {
    if (this.#ended) return;
    const own = takeIn(frame, this.#context.number);
    const packets = this.#unanswered + packetCount(own);
    if (packets > LANE_PACKETS_MAX) return this.#lose(overfull(packets));
    this.#unanswered = packets;
    this.#work.add(own);
    if (this.#pumping) return;
    // Frames that come one right after the other are sent on together.
    this.#pumping = true;
    queueMicrotask(() => {
      this.#pumping = false;
      this.#pump();
    });
  }

  async keep(name: string, returns: Uint8Array): Promise<Ref> {
    if (this.#ended) throw new PoolError(PoolErrorCode.laneClosed, "the lane is closed");
    const { writer } = this.#context;
    return this.#track(
      writeKeptStream(writer, returns).then(async ({ root, length }) => {
        await writer.setName(name, root, length);
        return root;
      }),
    );
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#end();
    await this.#seat.close();
    await Promise.allSettled(this.#pending);
    await this.#context.writer.close();
    this.#context.closed();
  }

  #end(): void {
    this.#ended = true;
    this.#work.clear();
    this.#abort.abort(new PoolError(PoolErrorCode.laneClosed, "the lane is closed"));
  }

  #lose(error: unknown): void {
    if (this.#ended) return;
    this.#end();
    this.#context.listener.lost(error instanceof PacketfsError ? error : broken(error));
    // What closing could still report has no listener any more.
    this.close().catch(() => undefined);
  }

  async #track<T>(work: Promise<T>): Promise<T> {
    this.#pending.add(work);
    try {
      return await work;
    } finally {
      this.#pending.delete(work);
    }
  }

  #processEnded({ process }: Seat, reason: string, detail: string): void {
    const { listener, program } = this.#context;
    const why = detail === "" ? reason : `${reason}: ${detail}`;
    listener.noted(`executor process ${process.pid} of program "${program.manifest.name}" ended (${why})`);
  }

  #pump(): void {
    const most = this.#context.threads + 1;
    while (!this.#ended && this.#flights < most && this.#landings <= most) {
      const seat = this.#seat.current;
      const work = seat && this.#work.next(this.#flights);
      if (work === undefined) return;
      this.#flights++;
      void this.#track(this.#fly(work, seat!));
    }
  }

  /** Takes one frame all the way. Never rejects: a defect loses the lane. */
  async #fly(work: Work, seat: Seat): Promise<void> {
    let landing: Landing;
    try {
      landing = await this.#runner.run(work, seat);
    } catch (error) {
      return this.#lose(error);
    } finally {
      this.#flights--;
      this.#work.over(work);
    }
    if (landing.ran !== undefined || landing.refused.length > 0) this.#seat.progressed();
    this.#landings++;
    this.#pump();
    try {
      await this.#answer(landing);
    } catch (error) {
      this.#lose(error);
    }
    this.#landings--;
    this.#pump();
  }

  async #answer({ ran, refused }: Landing): Promise<void> {
    if (this.#ended) return;
    const { listener } = this.#context;
    if (ran !== undefined) {
      for (const { index, text } of ran.outcome.logs) listener.logged(atOf(ran.frame, index), text);
      this.#deliver(await this.#results.answers(ran.frame, ran.outcome));
    }
    if (refused.length > 0) this.#deliver(await this.#results.faults(refused));
  }

  #deliver(answers: Uint8Array): void {
    if (this.#ended) return;
    this.#unanswered -= packetCount(answers);
    this.#context.listener.returned(answers);
  }
}

/** Lanes of the same code, arguments and limits are one tenant. */
function tenantOf({ manifest }: StoredProgram): string {
  const { code, args, description } = manifest;
  return JSON.stringify([code, args, description]);
}

function overfull(packets: number): PoolError {
  return new PoolError(
    PoolErrorCode.laneOverfull,
    `${packets} packets are in flight, a lane takes ${LANE_PACKETS_MAX}`,
    { packets, max: LANE_PACKETS_MAX },
  );
}

function broken(cause: unknown): PoolError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new PoolError(PoolErrorCode.laneBroken, `the lane is lost: ${reason}`, { reason }, { cause });
}
