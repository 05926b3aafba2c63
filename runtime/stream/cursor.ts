/** Walks the CALL tree over a range of a stream's output, and says in batches what the range is made of. */
import type { Ref } from "../../packets/digest.ts";
import { Op } from "../../packets/layout.ts";
import { fromAt, opAt, refOf } from "../../packets/packet.ts";
import { checkCall, planRange, skipAt, takeAt } from "../../packets/plan.ts";
import type { PlanLimits, RangePlan } from "../../packets/plan.ts";
import type { Stream } from "../../packets/stream-reader.ts";
import { TURN_STEP_PACKETS } from "../limits.ts";
import { turnOver } from "../turns.ts";
import type { StreamCache } from "./caches.ts";

/** Takes what a range is made of, piece by piece (piece-batch.ts). */
export interface PieceSink {
  readonly isFull: boolean;
  /** `take` bytes of a chunk; `packet` is the packet's index in its stream. */
  copy(ref: Ref, from: number, take: number, packet: number): void;
  /** What the DATA or FILL at `index` yields from `skip` on. */
  literal(frame: Uint8Array, index: number, skip: number, take: number): void;
}

/** A stream that is being executed, and how far. */
interface Level {
  readonly stream: Stream;
  readonly plan: RangePlan;
  /** The next packet. */
  index: number;
}

export class Cursor {
  readonly #streams: StreamCache;
  readonly #limits: PlanLimits;
  /** The top stream, then what calls what. */
  readonly #levels: Level[];
  #steps = 0;

  constructor(streams: StreamCache, limits: PlanLimits, top: Stream, start: number, length: number) {
    this.#streams = streams;
    this.#limits = limits;
    this.#levels = [levelOf(top, start, length)];
  }

  get isDone(): boolean {
    return this.#levels.length === 0;
  }

  /**
   * Adds the pieces that come next until the batch is full or nothing is left. Rejects with PFS_STREAM_INVALID,
   * PFS_STREAM_OVER_LIMIT, PFS_STREAM_NOT_PLAIN, the signal's reason, or as reading a sub-stream does.
   */
  async fill(batch: PieceSink, signal: AbortSignal): Promise<void> {
    while (!batch.isFull) {
      // A tree of CALLs can be walked for years, and what is cached is read without any waiting.
      const over = ++this.#steps % TURN_STEP_PACKETS === 0 ? turnOver() : undefined;
      if (over !== undefined) {
        await over;
        signal.throwIfAborted();
      }
      const level = this.#levels.at(-1);
      if (level === undefined) return;
      if (level.index === level.plan.end) {
        this.#levels.pop();
        continue;
      }
      const { frame } = level.stream;
      const index = level.index++;
      const skip = skipAt(level.plan, index);
      const take = takeAt(level.plan, frame, index);
      switch (opAt(frame, index)) {
        case Op.NOP:
          break;
        case Op.COPY:
          batch.copy(refOf(frame, index), fromAt(frame, index) + skip, take, index);
          break;
        case Op.CALL:
          await this.#call(frame, index, skip, take);
          break;
        default:
          batch.literal(frame, index, skip, take);
      }
    }
  }

  async #call(frame: Uint8Array, index: number, skip: number, take: number): Promise<void> {
    const ref: Ref = refOf(frame, index);
    const callee = await this.#streams.get(ref);
    checkCall(frame, index, callee, this.#levels.length, this.#limits);
    this.#levels.push(levelOf(callee, fromAt(frame, index) + skip, take));
  }
}

function levelOf(stream: Stream, from: number, length: number): Level {
  const plan = planRange(stream, from, length);
  return { stream, plan, index: plan.first };
}
