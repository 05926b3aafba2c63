/**
 * One stream chunk, checked: every packet is valid and together they make a stream. After `Stream.parse` its packets can be
 * believed and read field by field from `frame`.
 */
import type { Ref } from "./digest.ts";
import { PacketError, PacketErrorCode } from "./errors.ts";
import { Flag, OP_NAMES, Op, PACKET_BYTES } from "./layout.ts";
import { STREAM_PACKETS_MAX } from "./limits.ts";
import { atOf, flagsAt, laneAt, lengthAt, opAt, refOf, requirePacket } from "./packet.ts";

export class Stream {
  /** The stream's packets, its HALT the last. The bytes that were parsed, not a copy. */
  readonly frame: Uint8Array;
  /** Packets without the HALT; `opAt(frame, index)` and its neighbours take an index below it. */
  readonly count: number;
  /** Bytes that the stream yields; 0 when it is open. */
  readonly length: number;
  /** A derived stream: LOAD and EXEC packets, whose output has to be computed before its length is known. */
  readonly open: boolean;
  /** Whether it says that its output begins with the manifest of a directory. */
  readonly isTree: boolean;
  /** SHA-256 of everything that the stream yields, where its writer knew it. Not checked here. */
  readonly digest: Ref | undefined;
  /** Indexes of the packets that yield bytes, only where there are others between them. */
  readonly #yielding: Uint32Array | undefined;

  private constructor(frame: Uint8Array, length: number, yielding: Uint32Array | undefined) {
    this.frame = frame;
    this.count = frame.byteLength / PACKET_BYTES - 1;
    this.length = length;
    const flags = flagsAt(frame, this.count);
    this.open = (flags & Flag.OPEN) !== 0;
    this.isTree = (flags & Flag.TREE) !== 0;
    this.digest = (flags & Flag.DIGEST) === 0 ? undefined : refOf(frame, this.count);
    this.#yielding = yielding;
  }

  /**
   * Checks a stream chunk. Throws PFS_PACKET_INVALID {index, reason} when a packet is malformed, PFS_STREAM_INVALID
   * {reason, index} when the packets do not fit together.
   */
  static parse(bytes: Uint8Array): Stream {
    const packets = bytes.byteLength / PACKET_BYTES;
    if (packets === 0) throw invalid("it is empty", 0);
    if (!Number.isInteger(packets)) throw invalid("its size is not a multiple of 64", Math.floor(packets));
    if (packets > STREAM_PACKETS_MAX) throw invalid(`more than ${STREAM_PACKETS_MAX} packets`, packets);
    const count = packets - 1;
    const check = new Check();
    for (let index = 0; index < count; index++) {
      requirePacket(bytes, index);
      const reason = check.next(bytes, index);
      if (reason !== null) throw invalid(reason, index);
    }
    requirePacket(bytes, count);
    const reason = check.halt(bytes, count);
    if (reason !== null) throw invalid(reason, count);
    const yielding = check.idle === 0 ? undefined : yieldingIndexes(bytes, count, count - check.idle);
    return new Stream(bytes, check.length, yielding);
  }

  /** Whether reading it takes no computing: only DATA, FILL, COPY, CALL and NOP. */
  get isPlain(): boolean {
    return !this.open;
  }

  /** The index of the packet that yields the byte at `position`, or -1 when there is no such byte. O(log n). */
  find(position: number): number {
    if (position < 0 || position >= this.length) return -1;
    const yielding = this.#yielding;
    let low = 0;
    let high = (yielding === undefined ? this.count : yielding.length) - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      const index = yielding === undefined ? middle : yielding[middle]!;
      if (atOf(this.frame, index) <= position) low = middle;
      else high = middle - 1;
    }
    return yielding === undefined ? low : yielding[low]!;
  }
}

/** What the packets up to here add up to. */
class Check {
  length = 0;
  /** NOPs: packets that take no part in the output. */
  idle = 0;
  #plain = 0;
  #tasks = 0;
  #lanes: Set<number> | undefined;

  /** Why the packet at `index` cannot follow the ones before it, or null. */
  next(frame: Uint8Array, index: number): string | null {
    const op = opAt(frame, index);
    switch (op) {
      case Op.NOP:
        this.idle++;
        return null;
      case Op.DATA:
      case Op.FILL:
      case Op.COPY:
      case Op.CALL:
        if (this.#lanes !== undefined) return "packets with a known place beside computed ones";
        if (atOf(frame, index) !== this.length) return "gap or overlap";
        this.#plain++;
        this.length += lengthAt(frame, index);
        return null;
      case Op.LOAD:
      case Op.EXEC:
        return this.#compute(op, laneAt(frame, index), atOf(frame, index));
      case Op.HALT:
        return "packets after HALT";
      default:
        return `${OP_NAMES[op]!} is an answer, not part of a stream`;
    }
  }

  /** Why the packet at `index` does not end the stream, or null. */
  halt(frame: Uint8Array, index: number): string | null {
    if (opAt(frame, index) !== Op.HALT) return "no HALT at the end";
    if (atOf(frame, index) !== index) return "HALT counts other packets";
    const open = (flagsAt(frame, index) & Flag.OPEN) !== 0;
    if (open) return this.#plain > 0 ? "an open HALT after packets with a known length" : null;
    if (this.#lanes !== undefined) return "computed packets need an open HALT";
    return lengthAt(frame, index) === this.length ? null : "HALT has another length";
  }

  #compute(op: typeof Op.LOAD | typeof Op.EXEC, lane: number, at: number): string | null {
    if (this.#plain > 0) return "packets with a known place beside computed ones";
    const lanes = (this.#lanes ??= new Set());
    if (op === Op.LOAD) {
      if (this.#tasks > 0) return "LOAD after EXEC";
      if (lanes.has(lane)) return "a lane is loaded twice";
      lanes.add(lane);
      return null;
    }
    if (!lanes.has(lane)) return "EXEC in a lane that no LOAD filled";
    return at === this.#tasks++ ? null : "tasks out of order";
  }
}

function invalid(reason: string, index: number): PacketError {
  return new PacketError(PacketErrorCode.invalidStream, `this is no stream: ${reason}`, { reason, index });
}

function yieldingIndexes(frame: Uint8Array, count: number, yielding: number): Uint32Array {
  const indexes = new Uint32Array(yielding);
  let used = 0;
  for (let index = 0; index < count; index++) if (opAt(frame, index) !== Op.NOP) indexes[used++] = index;
  return indexes;
}
