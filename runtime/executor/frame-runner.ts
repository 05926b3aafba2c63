/** One frame's way through an executor process, and where its packets go when the process does not survive it. */
import { hasCode } from "../../packets/errors.ts";
import { FaultCode } from "../../packets/faults.ts";
import { PACKET_BYTES } from "../../packets/layout.ts";
import { packetCount } from "../../packets/packet.ts";
import { SandboxErrorCode } from "../errors.ts";
import type { FrameOutcome } from "../sandbox/process/outcome.ts";
import type { Seat } from "./executor-seat.ts";
import type { Refusal } from "./frame-inputs.ts";
import type { InputStage, StagedFrame } from "./input-stage.ts";
import { WindowGone } from "./window-space.ts";
import type { Work, WorkQueue } from "./work-queue.ts";

/** What came of a frame: the program's answers, and packets that end with a FAULT of the runtime's. */
export interface Landing {
  readonly ran?: { readonly frame: Uint8Array; readonly outcome: FrameOutcome };
  readonly refused: readonly Refusal[];
}

export class FrameRunner {
  readonly #lane: number;
  readonly #stage: InputStage;
  readonly #work: WorkQueue;

  constructor(lane: number, stage: InputStage, work: WorkQueue) {
    this.#lane = lane;
    this.#stage = stage;
    this.#work = work;
  }

  /**
   * Stages and runs a frame. Packets that got no answer and are not refused are in the work queue again. Rejects with
   * defects, and with what the stage rejects with.
   */
  async run(work: Work, seat: Seat): Promise<Landing> {
    let staged: StagedFrame;
    try {
      staged = await this.#stage.stage(work.frame, seat.space);
    } catch (error) {
      if (!(error instanceof WindowGone)) throw error;
      this.#work.putBack(work.frame, work);
      return { refused: [] };
    }
    if (staged.rest.byteLength > 0) this.#work.putBack(staged.rest, work);
    const { refused } = staged;
    if (staged.frame.byteLength === 0) return { refused };
    if (!seat.alive || seat.process.closed) {
      // It died while this was staged, and not of it.
      this.#work.putBack(staged.frame, work);
      return { refused };
    }
    return this.#send(staged, work, seat);
  }

  async #send({ frame, extents, offset, refused }: StagedFrame, work: Work, seat: Seat): Promise<Landing> {
    const packets = packetCount(frame);
    seat.framesSent++;
    seat.packetsInFlight += packets;
    const startedAt = performance.now();
    let outcome: FrameOutcome;
    try {
      outcome = await seat.process.run(this.#lane, frame, extents);
    } catch (error) {
      return { refused: [...refused, ...this.#failed(error, frame, work, seat)] };
    } finally {
      if (offset !== undefined) seat.space.free(offset);
    }
    seat.packetsInFlight -= packets;
    this.#work.pace.ran(packets, performance.now() - startedAt);
    if (packets === 1 && outcome.completed === 0) throw new Error("a packet came back without an answer");
    this.#work.separate(frame.subarray(outcome.completed * PACKET_BYTES));
    return { ran: { frame, outcome }, refused };
  }

  /** Puts the packets where they run again; returns those that do not. */
  #failed(error: unknown, frame: Uint8Array, work: Work, seat: Seat): readonly Refusal[] {
    seat.alive = false;
    if (hasCode(error, SandboxErrorCode.deadline)) {
      if (packetCount(frame) === 1) return [{ packet: frame, code: FaultCode.timeLimit, detail: "" }];
      this.#work.separate(frame);
      return [];
    }
    if (!hasCode(error, SandboxErrorCode.ended)) throw error;
    const { reason, detail = "" } = error.data;
    if (reason !== "memory" && reason !== "crash") {
      // Another frame's deadline: these packets did nothing.
      this.#work.putBack(frame, work);
      return [];
    }
    const alone = seat.packetsInFlight === 1;
    const faults = this.#work.died(frame, work, { reason, alone, fresh: seat.framesSent === 1 });
    return faults.map(({ packet, code }) => ({ packet, code, detail: String(detail) }));
  }
}
