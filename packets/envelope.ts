/**
 * The envelope: 64 bytes that open every message between nodes and say what follows, so that a message is refused before its
 * body is taken. All integers are little-endian; integers above 2^53 - 1 are invalid.
 *
 *   OFFSET SIZE FIELD
 *   0      4    magic      "PFS1"
 *   4      4    check      CRC-32 of the envelope with this field read as zero, as in a packet
 *   8      1    version    1
 *   9      1    type       MessageType
 *   10     1    flags      EnvelopeFlag
 *   11     1    priority   Priority
 *   12     4    deadline   milliseconds from arrival within which an answer is of use; 0 = none
 *   16     8    request    the number that its asker gave to a request; 0 where nothing is asked
 *   24     4    credit     bytes of body that the sender is ready to take on top of what it allowed before
 *   28     4    meta       bytes of the MessagePack frame; 0 = there is none
 *   32     4    packets    bytes of the packet frame, a multiple of 64; 0 = there is none
 *   36     4    chunks     bytes of the chunk frame; 0 = there is none
 *   40     8    counter    the message's number within its session, from 1 without gaps, so that none is taken twice; 0 before
 *                          there is a session
 *   48     16   trace      an id that follows a job or file across machines; zero = none
 */
import { packetCheck } from "./crc32.ts";
import { PacketError, PacketErrorCode } from "./errors.ts";
import { readInteger, readInteger32, writeInteger, writeInteger32 } from "./integer.ts";
import { PACKET_BYTES } from "./layout.ts";
import { FRAME_PACKETS_MAX, MESSAGE_CHUNK_BYTES_MAX, META_BYTES_MAX } from "./limits.ts";
import { Priority, isMessageType } from "./message-type.ts";
import type { MessageType } from "./message-type.ts";

export { MessageType, Priority, messageTypeName } from "./message-type.ts";

export const ENVELOPE_BYTES = 64;
/** "PFS1", read as a little-endian integer. */
export const ENVELOPE_MAGIC = 0x31534650;
export const ENVELOPE_VERSION = 1;
export const TRACE_BYTES = 16;

export const EnvelopeOffset = {
  magic: 0,
  check: 4,
  version: 8,
  type: 9,
  flags: 10,
  priority: 11,
  deadline: 12,
  request: 16,
  credit: 24,
  meta: 28,
  packets: 32,
  chunks: 36,
  counter: 40,
  trace: 48,
} as const;

export const EnvelopeFlag = {
  /** It answers a request of the receiver: `request` is the receiver's number, not the sender's. */
  REPLY: 1,
  /** More messages of the same request follow. */
  MORE: 2,
} as const;

export interface Envelope {
  readonly type: MessageType;
  /** EnvelopeFlag bits. */
  readonly flags: number;
  readonly priority: Priority;
  /** Milliseconds from now; 0 for none. */
  readonly deadlineMs: number;
  readonly request: number;
  readonly creditBytes: number;
  readonly metaBytes: number;
  readonly packetBytes: number;
  readonly chunkBytes: number;
  readonly counter: number;
  /** 16 bytes. */
  readonly trace: Uint8Array;
}

/** The fields that are not zero. */
export type EnvelopeFields = Pick<Envelope, "type"> &
  Partial<Omit<Envelope, "type" | "trace">> & { readonly trace?: Uint8Array | undefined };

const FLAGS_ALLOWED = EnvelopeFlag.REPLY | EnvelopeFlag.MORE;
const PRIORITY_MAX = Math.max(...Object.values(Priority));

/** One envelope in 64 bytes of its own, and `room` bytes for what follows it. The caller vouches for the fields. */
export function encodeEnvelope(fields: EnvelopeFields, room: number = 0): Uint8Array {
  const bytes = new Uint8Array(ENVELOPE_BYTES + room);
  writeInteger32(bytes, EnvelopeOffset.magic, ENVELOPE_MAGIC);
  bytes[EnvelopeOffset.version] = ENVELOPE_VERSION;
  bytes[EnvelopeOffset.type] = fields.type;
  bytes[EnvelopeOffset.flags] = fields.flags ?? 0;
  bytes[EnvelopeOffset.priority] = fields.priority ?? Priority.control;
  writeInteger32(bytes, EnvelopeOffset.deadline, fields.deadlineMs ?? 0);
  writeInteger(bytes, EnvelopeOffset.request, fields.request ?? 0);
  writeInteger32(bytes, EnvelopeOffset.credit, fields.creditBytes ?? 0);
  writeInteger32(bytes, EnvelopeOffset.meta, fields.metaBytes ?? 0);
  writeInteger32(bytes, EnvelopeOffset.packets, fields.packetBytes ?? 0);
  writeInteger32(bytes, EnvelopeOffset.chunks, fields.chunkBytes ?? 0);
  writeInteger(bytes, EnvelopeOffset.counter, fields.counter ?? 0);
  if (fields.trace !== undefined) bytes.set(fields.trace, EnvelopeOffset.trace);
  writeInteger32(bytes, EnvelopeOffset.check, packetCheck(bytes, 0));
  return bytes;
}

/** Why these bytes are no envelope, in a few words, or null. */
export function invalidEnvelope(bytes: Uint8Array): string | null {
  if (bytes.byteLength !== ENVELOPE_BYTES) return "not 64 bytes";
  if (readInteger32(bytes, EnvelopeOffset.magic) !== ENVELOPE_MAGIC) return "does not begin with PFS1";
  if (readInteger32(bytes, EnvelopeOffset.check) !== packetCheck(bytes, 0)) return "check does not match";
  if (bytes[EnvelopeOffset.version] !== ENVELOPE_VERSION) return "unknown version";
  if (!isMessageType(bytes[EnvelopeOffset.type]!)) return "unknown type";
  if ((bytes[EnvelopeOffset.flags]! & ~FLAGS_ALLOWED) !== 0) return "undefined flag";
  if (bytes[EnvelopeOffset.priority]! > PRIORITY_MAX) return "unknown priority";
  if (!Number.isSafeInteger(readInteger(bytes, EnvelopeOffset.request))) return "integer above 2^53 - 1";
  if (!Number.isSafeInteger(readInteger(bytes, EnvelopeOffset.counter))) return "integer above 2^53 - 1";
  if (readInteger32(bytes, EnvelopeOffset.meta) > META_BYTES_MAX) return "meta frame above its limit";
  const packets = readInteger32(bytes, EnvelopeOffset.packets);
  if (packets % PACKET_BYTES !== 0) return "packet frame is not a multiple of 64";
  if (packets > FRAME_PACKETS_MAX * PACKET_BYTES) return "packet frame above its limit";
  const chunks = readInteger32(bytes, EnvelopeOffset.chunks);
  return chunks > MESSAGE_CHUNK_BYTES_MAX ? "chunk frame above its limit" : null;
}

/** Reads an envelope; `trace` is a view. Throws PFS_ENVELOPE_INVALID {reason}. */
export function decodeEnvelope(bytes: Uint8Array): Envelope {
  const reason = invalidEnvelope(bytes);
  if (reason !== null) {
    throw new PacketError(PacketErrorCode.invalidEnvelope, `envelope is invalid: ${reason}`, { reason });
  }
  return envelopeOf(bytes);
}

/** The same of bytes that `invalidEnvelope` has found nothing wrong with. */
export function envelopeOf(bytes: Uint8Array): Envelope {
  return {
    type: bytes[EnvelopeOffset.type] as MessageType,
    flags: bytes[EnvelopeOffset.flags]!,
    priority: bytes[EnvelopeOffset.priority] as Priority,
    deadlineMs: readInteger32(bytes, EnvelopeOffset.deadline),
    request: readInteger(bytes, EnvelopeOffset.request),
    creditBytes: readInteger32(bytes, EnvelopeOffset.credit),
    metaBytes: readInteger32(bytes, EnvelopeOffset.meta),
    packetBytes: readInteger32(bytes, EnvelopeOffset.packets),
    chunkBytes: readInteger32(bytes, EnvelopeOffset.chunks),
    counter: readInteger(bytes, EnvelopeOffset.counter),
    trace: bytes.subarray(EnvelopeOffset.trace, EnvelopeOffset.trace + TRACE_BYTES),
  };
}

if (EnvelopeOffset.trace + TRACE_BYTES !== ENVELOPE_BYTES) throw new Error("envelope layout is broken");
