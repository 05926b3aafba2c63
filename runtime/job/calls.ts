/**
 * Calls of a loaded program whose packets are one batch. Each has its answers as soon as its own packets are answered,
 * whatever the others of the batch take.
 */
import { PACKET_BYTES } from "../../packets/layout.ts";
import { packetCount, renumberPackets } from "../../packets/packet.ts";
import { SHARED_BATCH_PACKETS_MAX } from "../limits.ts";

/** One call, and who waits for it. */
interface Call {
  /** EXEC packets, numbered as the batch's are. */
  readonly frame: Uint8Array;
  /** The first of them among the batch's. */
  readonly first: number;
  readonly count: number;
  readonly resolve: (answers: Uint8Array) => void;
  readonly reject: (error: Error) => void;
  unanswered: number;
}

export class Calls {
  /** The `at` of the first packet. */
  readonly base: number;
  /** Packets of all calls. */
  count = 0;
  readonly #calls: Call[] = [];
  /** By packet, whose it is, where there are several calls. */
  #callOf = new Uint16Array(0);

  constructor(base: number) {
    this.base = base;
  }

  /** Whether there is room for another call with so many packets, in a batch that calls share. */
  hasRoom(packets: number): boolean {
    return this.count + packets <= SHARED_BATCH_PACKETS_MAX;
  }

  /** The packets of `frame` have the numbers from base + count on. */
  add(frame: Uint8Array, resolve: Call["resolve"], reject: Call["reject"]): void {
    const count = packetCount(frame);
    this.#calls.push({ frame, first: this.count, count, resolve, reject, unanswered: count });
    this.count += count;
  }

  /** The packets of all calls. Nothing is added after this. */
  joined(): Uint8Array {
    if (this.#calls.length === 1) return this.#calls[0]!.frame;
    const packets = new Uint8Array(this.count * PACKET_BYTES);
    this.#callOf = new Uint16Array(this.count);
    for (const [index, { frame, first, count }] of this.#calls.entries()) {
      packets.set(frame, first * PACKET_BYTES);
      this.#callOf.fill(index, first, first + count);
    }
    return packets;
  }

  /** These packets are answered in `answers`, which has one for each of the batch. `over` is told of calls that have all theirs. */
  answered(tasks: Uint32Array, answers: Uint8Array, over: (packets: number) => void): void {
    const [single] = this.#calls;
    if (this.#calls.length === 1) {
      single!.unanswered -= tasks.length;
      if (single!.unanswered > 0) return;
      over(single!.count);
      return single!.resolve(answers);
    }
    for (const task of tasks) {
      const call = this.#calls[this.#callOf[task]!]!;
      if (--call.unanswered > 0) continue;
      over(call.count);
      call.resolve(ownAnswers(call, answers));
    }
  }

  /** Whoever waits still is told why it is for nothing. */
  fail(error: Error, over: (packets: number) => void): void {
    for (const { count, unanswered, reject } of this.#calls) {
      if (unanswered === 0) continue;
      over(count);
      reject(error);
    }
  }
}

/** The answers to one of several calls, numbered from 0. */
function ownAnswers({ first, count }: Call, answers: Uint8Array): Uint8Array {
  const own = answers.slice(first * PACKET_BYTES, (first + count) * PACKET_BYTES);
  renumberPackets(own, 0, count, 0);
  return own;
}
