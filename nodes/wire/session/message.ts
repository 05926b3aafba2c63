/**
 * A message as the frames that travel: the envelope, then metadata, packets and chunks, each only where it is not empty. A few
 * packets without metadata stand in the envelope's own frame, since each frame is encrypted, queued and made a Buffer by itself.
 * The envelope is checked first, then the frames against it, and only then is the metadata decoded.
 */
import { messageOf } from "../../../packets/errors.ts";
import {
  ENVELOPE_BYTES,
  EnvelopeFlag,
  EnvelopeOffset,
  MessageType,
  Priority,
  encodeEnvelope,
  envelopeOf,
  invalidEnvelope,
} from "../../../packets/envelope.ts";
import type { Envelope } from "../../../packets/envelope.ts";
import { readInteger } from "../../../packets/integer.ts";
import { PACKET_BYTES } from "../../../packets/layout.ts";
import { FRAME_PACKETS_MAX, MESSAGE_CHUNK_BYTES_MAX } from "../../../packets/limits.ts";
import { WireError, WireErrorCode } from "../../errors.ts";
import { MESSAGE_COST_BYTES } from "../../limits.ts";
import type { OutMessage, WireMessage } from "../link.ts";
import { decodeMeta, encodeMeta } from "./meta.ts";

/** Envelope, metadata, packets, chunks. */
const PARTS_MAX = 4;

/** Packets without metadata that stand behind the envelope in its frame. */
const ENVELOPE_PACKETS_BYTES_MAX = 16 * PACKET_BYTES;

const NOTHING = new Uint8Array(0);

/** A message that is ready to leave but for its counter and its credit, which it gets when its turn has come. */
export interface OutFrame {
  readonly type: MessageType;
  readonly flags: number;
  readonly priority: Priority;
  readonly request: number;
  readonly deadlineMs: number;
  readonly meta: Uint8Array;
  readonly packets: Uint8Array;
  readonly chunks: Uint8Array;
  readonly trace: Uint8Array | undefined;
  /** Room that a stream's reader has got again; every other frame carries what the window has to tell. */
  readonly streamCreditBytes: number;
  /** What it counts for in windows and queues. */
  readonly cost: number;
}

export interface FrameFields {
  readonly request?: number;
  readonly flags?: number;
  readonly deadlineMs?: number;
  readonly streamCreditBytes?: number;
}

/** Throws PFS_MESSAGE_TOO_LARGE. */
export function outFrame(message: OutMessage, fields: FrameFields = {}): OutFrame {
  const meta = message.meta === undefined ? NOTHING : encodeMeta(message.meta);
  const { packets = NOTHING, chunks = NOTHING } = message;
  if (packets.byteLength % PACKET_BYTES !== 0) throw new Error("packets are multiples of 64 bytes");
  assertFits("packets", packets.byteLength, FRAME_PACKETS_MAX * PACKET_BYTES);
  assertFits("chunks", chunks.byteLength, MESSAGE_CHUNK_BYTES_MAX);
  return {
    type: message.type,
    flags: fields.flags ?? 0,
    priority: message.priority ?? Priority.interactive,
    request: fields.request ?? 0,
    deadlineMs: fields.deadlineMs ?? 0,
    meta,
    packets,
    chunks,
    trace: message.trace,
    streamCreditBytes: fields.streamCreditBytes ?? 0,
    cost: MESSAGE_COST_BYTES + meta.byteLength + packets.byteLength + chunks.byteLength,
  };
}

/** Whether the frame asks something, and so is of no use when the asker gave up before it left. */
export function isRequest(frame: OutFrame): boolean {
  if (frame.request === 0 || (frame.flags & EnvelopeFlag.REPLY) !== 0) return false;
  if (frame.type === MessageType.PONG) return false;
  return frame.type !== MessageType.ERROR && frame.streamCreditBytes === 0;
}

function assertFits(what: string, bytes: number, limit: number): void {
  if (bytes <= limit) return;
  throw new WireError(
    WireErrorCode.messageTooLarge,
    `${bytes} bytes of ${what} in one message are above the limit of ${limit}`,
    { bytes, limit },
  );
}

/** The parts to send. Chunks, and packets that are not few, are the caller's own bytes, not copies. */
export function toParts(frame: OutFrame, counter: number, creditBytes: number): Uint8Array[] {
  const { meta, packets, chunks, trace } = frame;
  const isTogether = meta.byteLength === 0 && packets.byteLength <= ENVELOPE_PACKETS_BYTES_MAX;
  const fields = {
    type: frame.type,
    flags: frame.flags,
    priority: frame.priority,
    deadlineMs: frame.deadlineMs,
    request: frame.request,
    creditBytes,
    metaBytes: meta.byteLength,
    packetBytes: packets.byteLength,
    chunkBytes: chunks.byteLength,
    counter,
    trace,
  };
  const head = encodeEnvelope(fields, isTogether ? packets.byteLength : 0);
  const parts = [head];
  if (meta.byteLength > 0) parts.push(meta);
  if (isTogether) head.set(packets, ENVELOPE_BYTES);
  else if (packets.byteLength > 0) parts.push(packets);
  if (chunks.byteLength > 0) parts.push(chunks);
  return parts;
}

export type Received =
  | {
      readonly kind: "message";
      readonly envelope: Envelope;
      readonly message: WireMessage;
      readonly cost: number;
    }
  /** Well-formed, but of a type that this version does not know. */
  | {
      readonly kind: "unknown";
      readonly type: number;
      readonly request: number;
      readonly flags: number;
      readonly counter: number;
      readonly cost: number;
    }
  | { readonly kind: "invalid"; readonly reason: string };

/** Reads what a peer sent. Never throws. */
export function fromParts(parts: readonly Uint8Array[]): Received {
  const first = parts[0];
  if (first === undefined) return { kind: "invalid", reason: "no frames" };
  if (parts.length > PARTS_MAX) return { kind: "invalid", reason: `${parts.length} frames` };
  const head = first.byteLength > ENVELOPE_BYTES ? first.subarray(0, ENVELOPE_BYTES) : first;
  const reason = invalidEnvelope(head);
  const cost = parts.reduce((sum, part) => sum + part.byteLength, MESSAGE_COST_BYTES - head.byteLength);
  if (reason === "unknown type") {
    const request = readInteger(head, EnvelopeOffset.request);
    const counter = readInteger(head, EnvelopeOffset.counter);
    const flags = head[EnvelopeOffset.flags]!;
    if (!Number.isSafeInteger(request) || !Number.isSafeInteger(counter)) return { kind: "invalid", reason };
    return { kind: "unknown", type: head[EnvelopeOffset.type]!, request, flags, counter, cost };
  }
  if (reason !== null) return { kind: "invalid", reason: `envelope is invalid: ${reason}` };
  const envelope = envelopeOf(head);
  const { metaBytes, packetBytes, chunkBytes } = envelope;
  const behind = first.byteLength > ENVELOPE_BYTES ? first.subarray(ENVELOPE_BYTES) : undefined;
  if (behind !== undefined) {
    const mayBe = metaBytes === 0 && packetBytes <= ENVELOPE_PACKETS_BYTES_MAX;
    if (!mayBe || behind.byteLength !== packetBytes)
      return { kind: "invalid", reason: "what stands behind the envelope is not a few packets" };
  }
  let next = 1;
  const body = (bytes: number): Uint8Array | undefined => {
    if (bytes === 0) return NOTHING;
    const part = parts[next++];
    return part?.byteLength === bytes ? part : undefined;
  };
  const [meta, packets, chunks] = [body(metaBytes), behind ?? body(packetBytes), body(chunkBytes)];
  if (meta === undefined || packets === undefined || chunks === undefined || next !== parts.length) {
    return { kind: "invalid", reason: "frames are not those that the envelope announces" };
  }
  try {
    return {
      kind: "message",
      envelope,
      cost,
      message: {
        type: envelope.type,
        flags: envelope.flags,
        priority: envelope.priority,
        requestId: envelope.request,
        deadlineMs: envelope.deadlineMs,
        meta: decodeMeta(meta),
        // No Buffer, whose `slice` is no copy.
        packets: new Uint8Array(packets.buffer, packets.byteOffset, packets.byteLength),
        chunks,
        trace: envelope.trace,
      },
    };
  } catch (error) {
    return { kind: "invalid", reason: messageOf(error) };
  }
}

const { control: priority } = Priority;

/** What links say to each other about themselves. */
export const PING: OutFrame = outFrame({ type: MessageType.PING, priority });
export const PONG: OutFrame = outFrame({ type: MessageType.PONG, priority });
/** Carries what the window has to tell when nothing else does. */
export const CREDIT: OutFrame = outFrame({ type: MessageType.CREDIT, priority });

/** The request is being worked on. */
export function atWork(request: number): OutFrame {
  return outFrame({ type: MessageType.PONG, priority }, { request });
}

/** The reader of a stream has room for so many bytes more. */
export function streamCredit(request: number, streamCreditBytes: number): OutFrame {
  return outFrame({ type: MessageType.CREDIT, priority }, { request, streamCreditBytes });
}
