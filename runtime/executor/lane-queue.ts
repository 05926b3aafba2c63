/**
 * What a lane runs next: suspects before all, one at a time with nothing beside them; then packets that must run one a
 * frame; then the others in frames as large as they turned out to be quick. Pure: the lane runs the packets and measures.
 *
 * A process that died says that it died, not of what: so each packet that was in flight becomes a suspect and runs again,
 * alone in a process, where a second death is its own.
 *
 *   waiting ──▶ in flight ──▶ answered
 *                 │ process died
 *                 ▼
 *               suspect ──▶ alone in flight ──▶ answered
 *                             │ process died
 *                             ▼
 *                           FAULT: memory limit when memory was the reason both times, otherwise quarantined
 *
 * One that did not end for very long although it used little CPU time is not to blame either: it runs again, alone, and only
 * the second time that is its answer.
 */
import { FaultCode } from "../../packets/faults.ts";
import { Offset, PACKET_BYTES } from "../../packets/layout.ts";
import { WORDS_PER_PACKET, lengthAt, packetCount, packetWords } from "../../packets/packet.ts";
import { RUN_AIM_MS, RUN_INPUT_BYTES_MAX, RUN_PACKETS_MAX } from "../limits.ts";

/** Packets that go in one frame; `lone` where it is one packet that must go by itself. */
export interface Work {
  readonly frame: Uint8Array;
  readonly lone?: LonePacket;
}

/** Whether nothing may be in flight beside it in its process, not of other lanes either. */
export function isSuspect({ lone }: Work): boolean {
  return lone !== undefined && lone.deaths.length > 0;
}

export type EndedPacket = AfterDeath & { readonly kind: "fault" } & { readonly packet: Uint8Array };

export class LaneQueue {
  readonly size: FrameSize;
  readonly #packets = new PacketQueue();
  readonly #singles: LonePacket[] = [];
  readonly #suspects: LonePacket[] = [];
  #suspectRuns = false;

  /** `limitMs` is the time limit of a packet. */
  constructor(limitMs: number) {
    this.size = new FrameSize(limitMs);
  }

  add(frame: Uint8Array): void {
    this.#packets.push(frame);
  }

  /** Work that may begin beside `inFlight` others, or undefined when there is none now. */
  next(inFlight: number): Work | undefined {
    if (this.#suspectRuns) return undefined;
    if (this.#suspects.length > 0) {
      if (inFlight > 0) return undefined;
      this.#suspectRuns = true;
      return workOf(this.#suspects.shift()!);
    }
    const single = this.#singles.shift();
    if (single !== undefined) return workOf(single);
    if (this.#packets.count === 0) return undefined;
    return { frame: this.#packets.take(this.size.packets, RUN_INPUT_BYTES_MAX) };
  }

  /** The work that `next` gave is over, however it went. */
  over(work: Work): void {
    if (isSuspect(work)) this.#suspectRuns = false;
  }

  /** Packets of `work` that did not run, for no fault of theirs: they come next again. */
  putBack(frame: Uint8Array, work: Work): void {
    const { lone } = work;
    if (lone === undefined) this.#packets.unshift(frame);
    else if (isSuspect(work)) this.#suspects.unshift(lone);
    else this.#singles.unshift(lone);
  }

  /** Lets each of the packets run in a frame of its own. */
  separate(frame: Uint8Array): void {
    for (const packet of packetsOf(frame)) this.#singles.push({ packet, deaths: [] });
  }

  /** The process died while these packets of `work` were in flight. Those that are not tried again are returned. */
  died(frame: Uint8Array, { lone }: Work, circumstances: Circumstances): EndedPacket[] {
    this.size.reset();
    const ended: EndedPacket[] = [];
    for (const packet of packetsOf(frame)) {
      const next = afterDeath(lone ?? { packet, deaths: [] }, circumstances);
      if (next.kind === "retry") this.#suspects.push(next.lone);
      else ended.push({ ...next, packet });
    }
    return ended;
  }

  clear(): void {
    this.#packets.clear();
    this.#singles.length = 0;
    this.#suspects.length = 0;
  }
}

function workOf(lone: LonePacket): Work {
  return { frame: lone.packet, lone };
}

function* packetsOf(frame: Uint8Array): Generator<Uint8Array> {
  for (let index = 0; index < packetCount(frame); index++) {
    // A copy: the frame it came in need not live as long.
    yield frame.slice(index * PACKET_BYTES, (index + 1) * PACKET_BYTES);
  }
}

const NO_PACKETS = new Uint8Array(0);
/** Frames that are gone before the others move up. */
const GONE_MAX = 4096;

/** EXEC packets that wait for their turn, in order. Frames go in and frames come out, cut and joined as needed. */
export class PacketQueue {
  /** Packets that wait. */
  count = 0;
  /** Those before `#head` are gone: a lane that many share has tens of thousands of frames, which must not all move for each. */
  #frames: Uint8Array[] = [];
  #head = 0;

  /** Adds packets at the end. The frame is the queue's from now on. */
  push(frame: Uint8Array): void {
    if (frame.byteLength === 0) return;
    this.#frames.push(frame);
    this.count += packetCount(frame);
  }

  /** Puts packets back in front of all others. */
  unshift(frame: Uint8Array): void {
    if (frame.byteLength === 0) return;
    if (this.#head > 0) this.#frames[--this.#head] = frame;
    else this.#frames.unshift(frame);
    this.count += packetCount(frame);
  }

  /**
   * Takes the next packets: as many as there are, but at most `packetsMax`, and no more than have `inputBytesMax` bytes of
   * input together, repeated ones not counted; yet one at least. Empty when nothing waits.
   */
  take(packetsMax: number, inputBytesMax: number): Uint8Array {
    const parts: Uint8Array[] = [];
    let packets = 0;
    let inputBytes = 0;
    while (this.#head < this.#frames.length && packets < packetsMax) {
      const frame = this.#frames[this.#head]!;
      const frameCount = packetCount(frame);
      const words = frameCount > 1 ? packetWords(frame) : undefined;
      let taken = 0;
      while (taken < frameCount && packets < packetsMax) {
        if (taken === 0 || !repeatsInput(words!, taken)) inputBytes += lengthAt(frame, taken);
        if (inputBytes > inputBytesMax && packets > 0) break;
        packets++;
        taken++;
      }
      if (taken > 0) parts.push(taken < frameCount ? frame.subarray(0, taken * PACKET_BYTES) : frame);
      if (taken < frameCount) {
        this.#frames[this.#head] = frame.subarray(taken * PACKET_BYTES);
        break;
      }
      this.#shift();
    }
    this.count -= packets;
    return joined(parts, packets);
  }

  #shift(): void {
    this.#frames[this.#head++] = NO_PACKETS;
    if (this.#head < this.#frames.length && this.#head < GONE_MAX) return;
    this.#frames = this.#frames.slice(this.#head);
    this.#head = 0;
  }

  /** Forgets everything that waits. */
  clear(): void {
    this.#frames = [];
    this.#head = 0;
    this.count = 0;
  }
}

function joined(parts: readonly Uint8Array[], packets: number): Uint8Array {
  if (parts.length === 1) return parts[0]!;
  const frame = new Uint8Array(packets * PACKET_BYTES);
  let at = 0;
  for (const part of parts) {
    frame.set(part, at);
    at += part.byteLength;
  }
  return frame;
}

const LENGTH_WORD = Offset.length / 4;

/** Whether the packet at `index` reads the same bytes in the same way as the one before it. `words`: packetWords of a frame. */
export function repeatsInput(words: Uint32Array, index: number): boolean {
  const start = index * WORDS_PER_PACKET;
  const end = start + WORDS_PER_PACKET;
  // Length, place and ref, and what says how they are meant: op, flags and lane are the first word, all of one program.
  if (words[start] !== words[start - WORDS_PER_PACKET]) return false;
  for (let at = start + LENGTH_WORD; at < end; at++) {
    if (words[at] !== words[at - WORDS_PER_PACKET]) return false;
  }
  return true;
}

/** A frame is stopped when it reaches the time limit of one packet, so it should stay far below. */
const SHARE_OF_LIMIT = 0.25;

/**
 * How many packets a frame may have. Nothing is known of a program at first, so its frames begin with one packet and
 * double while they are quick: a program that gets stuck is found in a small frame, and one that does little per packet
 * soon goes in frames that hide what a border costs.
 */
export class FrameSize {
  readonly #aimMs: number;
  #packets = 1;

  /** `limitMs` is the time limit of a packet. */
  constructor(limitMs: number) {
    this.#aimMs = Math.min(RUN_AIM_MS, limitMs * SHARE_OF_LIMIT);
  }

  /** Packets that the next frame may have, 1 to RUN_PACKETS_MAX. */
  get packets(): number {
    return this.#packets;
  }

  /** Learns from a frame of `packets` packets that took `cpuMs` of CPU time. */
  ran(packets: number, cpuMs: number): void {
    if (cpuMs > this.#aimMs) {
      const fitting = Math.floor((packets * this.#aimMs) / cpuMs);
      this.#packets = Math.max(1, Math.min(this.#packets, fitting));
    } else if (cpuMs < this.#aimMs / 2) {
      // A frame that was not full says nothing about fuller ones than twice itself.
      this.#packets = Math.max(this.#packets, Math.min(RUN_PACKETS_MAX, packets * 2));
    }
  }

  /** Begins small again: what was known ended with a process that was killed. */
  reset(): void {
    this.#packets = 1;
  }
}

/** `crash` is any end that was nobody's decision: an abort inside V8, a signal from outside. `stall` is no end for too long. */
export type DeathReason = "memory" | "crash" | "stall";

/** A packet (64 bytes) that runs one a frame from now on, and the deaths that it was in flight at. */
export interface LonePacket {
  readonly packet: Uint8Array;
  readonly deaths: readonly DeathReason[];
}

export interface Circumstances {
  readonly reason: DeathReason;
  /** No other packet was in flight in the process. */
  readonly alone: boolean;
  /** Nor had one run in it before. */
  readonly fresh: boolean;
}

/** Another try, or the code of the FAULT that the packet ends with. */
export type AfterDeath =
  | { readonly kind: "retry"; readonly lone: LonePacket }
  | { readonly kind: "fault"; readonly code: FaultCode };

export function afterDeath(lone: LonePacket, { reason, alone, fresh }: Circumstances): AfterDeath {
  const deaths = [...lone.deaths, reason];
  // Memory that was taken while the packet was the only one that ever ran there can be nobody else's.
  if (reason === "memory" && alone && fresh) return { kind: "fault", code: FaultCode.memoryLimit };
  // A stall is nobody's doing, so it makes no other death the second one.
  const alike = deaths.filter((death) => (death === "stall") === (reason === "stall"));
  if (!alone || alike.length < 2) return { kind: "retry", lone: { packet: lone.packet, deaths } };
  if (reason === "stall") return { kind: "fault", code: FaultCode.stalled };
  const byMemory = alike.every((death) => death === "memory");
  return { kind: "fault", code: byMemory ? FaultCode.memoryLimit : FaultCode.quarantined };
}
