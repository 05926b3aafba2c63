/**
 * What is decided before a stream yields a byte: whether it is small and shallow enough for the caller, which of its packets
 * a range touches, and how much of each. Pure: fetching chunks and sub-streams is the machine's work.
 */
import { PacketError, PacketErrorCode } from "./errors.ts";
import { INLINE_BYTES_MAX, OP_NAMES, Offset, Op, PACKET_BYTES } from "./layout.ts";
import { CALL_DEPTH_MAX } from "./limits.ts";
import { atOf, flagsAt, fromAt, lengthAt, opAt } from "./packet.ts";
import type { Stream } from "./stream-reader.ts";

export interface PlanLimits {
  /** Bytes that a caller takes at most, whatever the stream describes. */
  readonly outputBytesMax: number;
  /** CALL within CALL: 0 refuses every CALL. At most CALL_DEPTH_MAX for streams from others. */
  readonly depthMax: number;
}

/** Of whoever goes through all of a stream, however much it yields. */
export const WHOLE_LIMITS: PlanLimits = { outputBytesMax: Number.MAX_SAFE_INTEGER, depthMax: CALL_DEPTH_MAX };

/** The packets `first` .. `end` yield a range, and `skip` + `drop` bytes around it. */
export interface RangePlan {
  /** Index of the packet that yields the range's first byte. */
  readonly first: number;
  /** Index behind the packet that yields its last byte; `first` for a range of no bytes. */
  readonly end: number;
  /** Bytes that packet `first` yields before the range. */
  readonly skip: number;
  /** Bytes that packet `end - 1` yields behind the range. */
  readonly drop: number;
}

/**
 * Refuses what cannot be read or is too much. `length` is how much of the stream is wanted; all of it, if left out.
 * Throws PFS_STREAM_NOT_PLAIN {op} or PFS_STREAM_OVER_LIMIT {limit, actual}.
 */
export function checkPlan(stream: Stream, limits: PlanLimits, length: number = stream.length): void {
  requirePlain(stream);
  if (length <= limits.outputBytesMax) return;
  throw new PacketError(
    PacketErrorCode.overLimit,
    `reading this yields ${length} bytes, more than the limit of ${limits.outputBytesMax}`,
    { limit: limits.outputBytesMax, actual: length, of: "bytes" },
  );
}

/**
 * Checks what the CALL at `index` of `frame` fetched. `depth` is how deep `callee` stands: 1 below the top stream. Throws
 * PFS_STREAM_NOT_PLAIN {op}, PFS_STREAM_OVER_LIMIT {limit, actual}, or PFS_STREAM_INVALID {reason, index} for a range beyond
 * the callee's end.
 */
export function checkCall(
  frame: Uint8Array,
  index: number,
  callee: Pick<Stream, "length" | "isPlain" | "frame" | "count">,
  depth: number,
  limits: PlanLimits,
): void {
  if (depth > limits.depthMax) {
    throw new PacketError(
      PacketErrorCode.overLimit,
      `CALL is nested ${depth} deep, the limit is ${limits.depthMax}`,
      {
        limit: limits.depthMax,
        actual: depth,
        of: "depth",
      },
    );
  }
  requirePlain(callee);
  if (fromAt(frame, index) + lengthAt(frame, index) <= callee.length) return;
  const reason = "CALL reads beyond the end of what it calls";
  throw new PacketError(PacketErrorCode.invalidStream, `this is no stream: ${reason}`, { reason, index });
}

function requirePlain(stream: Pick<Stream, "isPlain" | "frame" | "count">): void {
  if (stream.isPlain) return;
  // What is not plain is LOAD and EXEC alone; NOPs may stand before them.
  let index = 0;
  while (index < stream.count && opAt(stream.frame, index) === Op.NOP) index++;
  const op = OP_NAMES[opAt(stream.frame, index)]!;
  throw new PacketError(PacketErrorCode.notPlain, `a stream with ${op} has to be computed, not read`, { op });
}

/**
 * Which packets of a plain stream yield the bytes `from` .. `from + length`. NOPs may stand among them. The caller has made
 * sure that the range lies inside the stream.
 */
export function planRange(stream: Stream, from: number, length: number): RangePlan {
  if (from < 0 || length < 0 || from + length > stream.length) {
    throw new RangeError(`${from} + ${length} is no range of ${stream.length} bytes`);
  }
  if (length === 0) return { first: 0, end: 0, skip: 0, drop: 0 };
  const first = stream.find(from);
  const last = stream.find(from + length - 1);
  return {
    first,
    end: last + 1,
    skip: from - atOf(stream.frame, first),
    drop: atOf(stream.frame, last) + lengthAt(stream.frame, last) - (from + length),
  };
}

/** Bytes of the packet at `index` that stand before the planned range. */
export function skipAt(plan: RangePlan, index: number): number {
  return index === plan.first ? plan.skip : 0;
}

/** Bytes of the packet at `index` that the planned range takes, behind those that it skips. 0 for a NOP. */
export function takeAt(plan: RangePlan, frame: Uint8Array, index: number): number {
  const drop = index === plan.end - 1 ? plan.drop : 0;
  return lengthAt(frame, index) - skipAt(plan, index) - drop;
}

/** Fills `target` with what the DATA or FILL at `index` yields from its `skip`-th byte on. */
export function writeLiteral(frame: Uint8Array, index: number, skip: number, target: Uint8Array): void {
  const op = opAt(frame, index);
  if (op !== Op.DATA && op !== Op.FILL) throw new Error(`${OP_NAMES[op]!} has no literal bytes`);
  if (skip + target.length > lengthAt(frame, index)) throw new RangeError("beyond what the packet yields");
  const start = index * PACKET_BYTES + Offset.ref;
  const pattern = frame.subarray(start, start + (op === Op.DATA ? INLINE_BYTES_MAX : flagsAt(frame, index)));
  const phase = skip % pattern.length;
  const once = Math.min(pattern.length, target.length);
  for (let at = 0; at < once; at++) target[at] = pattern[(phase + at) % pattern.length]!;
  // What is there already is doubled: a long fill costs memory speed.
  for (let done = once; done < target.length; done *= 2) target.copyWithin(done, 0, done);
}

/**
 * What the DATA or FILL at `index` yields from `skip` on, `take` bytes of it, in blocks of at most `blockBytes`. Each block is
 * made when it is asked for, so that a FILL of an exabyte costs one block at a time.
 */
export function* literalBlocks(
  frame: Uint8Array,
  index: number,
  skip: number,
  take: number,
  blockBytes: number,
): Generator<Uint8Array<ArrayBuffer>, void, undefined> {
  if (!Number.isInteger(blockBytes) || blockBytes < 1) throw new RangeError("a block has at least one byte");
  for (let done = 0; done < take;) {
    const block = new Uint8Array(Math.min(blockBytes, take - done));
    writeLiteral(frame, index, skip + done, block);
    yield block;
    done += block.length;
  }
}
