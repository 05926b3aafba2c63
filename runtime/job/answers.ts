/**
 * The answers to the tasks of a batch. Those of many tasks whose results are merged stand in blocks, which are let go of when
 * nobody needs them any more: as long as a job runs, each would take 64 bytes otherwise.
 */
import { Flag, Op, PACKET_BYTES } from "../../packets/layout.ts";
import { flagsAt, opAt, renumberPackets } from "../../packets/packet.ts";
import { ANSWER_BLOCK_PACKETS } from "../limits.ts";

/** The first `count` of `tasks` are answered by the packets at `indexes` of a frame. */
export interface TakenAnswers {
  readonly frame: Uint8Array;
  readonly indexes: Uint32Array;
  readonly tasks: Uint32Array;
  readonly count: number;
}

export class Answers {
  /** The lane that each answer came from; 0 = none. */
  readonly makers: Int32Array;
  readonly #count: number;
  readonly #blockPackets: number;
  readonly #blocks: (Uint8Array | undefined)[];
  /** Of each block, how many of its answers are of use. */
  readonly #needed: Uint32Array;

  constructor(tasks: number, isInBlocks = false) {
    this.makers = new Int32Array(tasks);
    this.#count = tasks;
    this.#blockPackets = isInBlocks ? ANSWER_BLOCK_PACKETS : Math.max(1, tasks);
    const blocks = Math.max(1, Math.ceil(tasks / this.#blockPackets));
    this.#blocks = Array.from({ length: blocks });
    this.#needed = new Uint32Array(blocks).fill(this.#blockPackets);
    this.#needed[blocks - 1] = tasks - (blocks - 1) * this.#blockPackets;
  }

  /** A RETURN or FAULT packet for each task that was answered, n × 64 bytes, of answers that are not in blocks. */
  get packets(): Uint8Array {
    if (this.#blocks.length > 1) throw new Error("these answers stand in several blocks");
    return this.#blockAt(0);
  }

  /** The answer to a task: 64 bytes, a view. */
  at(task: number): Uint8Array {
    const start = (task % this.#blockPackets) * PACKET_BYTES;
    return this.#blockAt(Math.floor(task / this.#blockPackets)).subarray(start, start + PACKET_BYTES);
  }

  /** The answers to the tasks `start` to `end`: a view, where that is possible. */
  range(start: number, end: number): Uint8Array {
    const block = Math.floor(start / this.#blockPackets);
    const first = block * this.#blockPackets;
    if (end <= first + this.#blockPackets) {
      return this.#blockAt(block).subarray((start - first) * PACKET_BYTES, (end - first) * PACKET_BYTES);
    }
    const packets = new Uint8Array((end - start) * PACKET_BYTES);
    for (let task = start; task < end; task++) packets.set(this.at(task), (task - start) * PACKET_BYTES);
    return packets;
  }

  isFault(task: number): boolean {
    const block = this.#blockAt(Math.floor(task / this.#blockPackets));
    return opAt(block, task % this.#blockPackets) === Op.FAULT;
  }

  /** Whether the answer stands for a result that is elsewhere. */
  isElsewhere(task: number): boolean {
    const block = this.#blocks[Math.floor(task / this.#blockPackets)];
    return block !== undefined && (flagsAt(block, task % this.#blockPackets) & Flag.INLINE) === 0;
  }

  /** Takes over answers from lane `maker`, and gives each the number of its task as its `at` where it may have another. */
  take({ frame, indexes, tasks, count }: TakenAnswers, maker: number, isOther: boolean): void {
    for (let first = 0; first < count;) {
      const task = tasks[first]!;
      const block = Math.floor(task / this.#blockPackets);
      const place = task - block * this.#blockPackets;
      const most = Math.min(count - first, this.#blockPackets - place);
      let run = 1;
      while (
        run < most &&
        indexes[first + run] === indexes[first]! + run &&
        tasks[first + run] === task + run
      )
        run++;
      const start = indexes[first]! * PACKET_BYTES;
      const packets = this.#blockAt(block);
      packets.set(frame.subarray(start, start + run * PACKET_BYTES), place * PACKET_BYTES);
      if (isOther) renumberPackets(packets, place, run, task);
      this.makers.fill(maker, task, task + run);
      first += run;
    }
  }

  /** Nobody asks for the answer to this task again. To be called once for each. */
  drop(task: number): void {
    const block = Math.floor(task / this.#blockPackets);
    this.#needed[block]!--;
    if (this.#needed[block] === 0) this.#blocks[block] = undefined;
  }

  /** It is made when the first of its tasks is answered. */
  #blockAt(block: number): Uint8Array {
    const known = this.#blocks[block];
    if (known !== undefined) return known;
    const packets = Math.min(this.#blockPackets, this.#count - block * this.#blockPackets);
    if (packets > 0 && this.#needed[block] === 0) throw new Error("these answers were dropped");
    const made = new Uint8Array(packets * PACKET_BYTES);
    this.#blocks[block] = made;
    return made;
  }
}
