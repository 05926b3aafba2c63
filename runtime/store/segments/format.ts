/**
 * The bytes of a segment, `segments/NNNNNNNN.seg`. Numbers, sizes and offsets of it stand here and nowhere else.
 *
 *   segment:  header (64 bytes), then records back to back, each a header (72 bytes) and a body. Only ever appended to.
 *
 *   OFFSET SIZE segment header
 *   0      8    magic "PFSSEG02"
 *   8      4    number of the segment
 *   12     4    zero
 *   16     16   id of the store
 *   32     4    previous   number of the segment that was appended to before this one, zero when that is not known
 *   36     4    ended      bytes of that one which count, its header included: what stands behind them was lost, and told so
 *   40     20   zero
 *   60     4    CRC-32 of the bytes before it
 *
 *   OFFSET SIZE record header, integers little-endian
 *   0      4    magic "PFSR"
 *   4      1    kind       1 chunk, 2 name
 *   5      1    codec      as in packets/codec.ts
 *   6      2    zero
 *   8      4    stored     bytes of the body
 *   12     4    plain      bytes of the body when decompressed
 *   16     8    sequence   larger than that of every record written before; a name that gc moves keeps its own
 *   24     4    segment    number of the segment
 *   28     4    offset     where the header stands in it
 *   32     32   ref        SHA-256 of the plain body
 *   64     4    durable    bytes of the segment that were on the disk when the record was appended, zero when none were
 *   68     4    CRC-32 of the bytes before it, seeded with the store's id
 *
 * Records are acknowledged after a sync, and each record behind that sync says how far it reached. So one whole record is the
 * commit record of everything before it: what `durable` covers was acknowledged, and counts also behind damage; what comes
 * later counts up to the first record that is not whole. A name's chunks stand before it, so no name counts without them.
 *
 *   │ acknowledged: damage is searched over        │ torn by a loss of power: nothing behind it counts
 *   ├──────────────┬───────────────────────────────┼──────────┬─ ─ ─ ─ ─ ┬──────────────┐
 *   │ durable: 0   │ durable: 0                    │ durable ─┤  (torn)  │ durable ─┐   │
 *   └──────────────┴───────────────────────────────┴──────────┴─ ─ ─ ─ ─ ┴──────────│───┘
 *                                                  ▲                                │
 *                                                  └────────────────────────────────┘
 *
 * Version 1 ("PFSSEG01") has zeros for `previous`, `ended` and `durable`: there everything that is whole counts.
 *
 * The body needs no CRC of its own: its hash is in the header. Id, segment and offset are part of the check, so that a
 * chunk which is itself (a copy of) a segment is never mistaken for records when damage makes recovery search for them.
 */
import { crc32 } from "node:zlib";
import type { Codec } from "../../../packets/codec.ts";
import type { Ref } from "../../../packets/digest.ts";
import { readInteger, readInteger32, writeInteger, writeInteger32 } from "../../../packets/integer.ts";
import { REF_BYTES } from "../../../packets/layout.ts";
import { CHUNK_BYTES_MAX } from "../../../packets/limits.ts";
import { invalidName } from "../../../packets/name.ts";
import { StoreError, StoreErrorCode } from "../../errors.ts";

export const SEGMENT_HEADER_BYTES = 64;
export const RECORD_HEADER_BYTES = 72;
export const STORE_ID_BYTES = 16;

export const RecordKind = { chunk: 1, name: 2 } as const;
export type RecordKind = (typeof RecordKind)[keyof typeof RecordKind];

export interface RecordHeader {
  readonly kind: RecordKind;
  readonly codec: Codec;
  readonly storedBytes: number;
  readonly plainBytes: number;
  readonly sequence: number;
  readonly segment: number;
  readonly offset: number;
  readonly ref: Ref;
  /** Bytes of the segment, its header included, that were on the disk when the record was appended. */
  readonly durableBytes: number;
}

/** The end of a segment. */
export interface SegmentPosition {
  readonly segment: number;
  readonly bytes: number;
}

export interface SegmentHeader {
  readonly number: number;
  /** STORE_ID_BYTES bytes. */
  readonly storeId: Uint8Array;
  /** Where the segment before it ended; undefined when that is not known. */
  readonly previous: SegmentPosition | undefined;
}

const SEGMENT_MAGIC = Buffer.from("PFSSEG02", "latin1");
const SEGMENT_MAGIC_1 = Buffer.from("PFSSEG01", "latin1");
export const RECORD_MAGIC: Buffer = Buffer.from("PFSR", "latin1");

const Segment = { number: 8, id: 16, previous: 32, ended: 36, check: 60 } as const;
const Record = {
  kind: 4,
  codec: 5,
  stored: 8,
  plain: 12,
  sequence: 16,
  segment: 24,
  offset: 28,
  ref: 32,
  durable: 64,
  check: 68,
} as const;

/** A place is one number for segment and offset: it orders records as they were written and is an SQLite integer. */
const OFFSETS = 2 ** 30;
export const SEGMENT_NUMBER_MAX: number = 2 ** 23 - 1;

export function placeOf(segment: number, offset: number): number {
  return segment * OFFSETS + offset;
}

export function segmentOf(place: number): number {
  return Math.floor(place / OFFSETS);
}

export function offsetOf(place: number): number {
  return place % OFFSETS;
}

/** What a record takes in its segment. */
export function recordBytes(storedBytes: number): number {
  return RECORD_HEADER_BYTES + storedBytes;
}

/** What record checks of a store start from. */
export function checkSeed(storeId: Uint8Array): number {
  return crc32(storeId);
}

export function encodeSegmentHeader({ number, storeId, previous }: SegmentHeader): Buffer {
  const bytes = Buffer.alloc(SEGMENT_HEADER_BYTES);
  bytes.set(SEGMENT_MAGIC);
  writeInteger32(bytes, Segment.number, number);
  bytes.set(storeId, Segment.id);
  writeInteger32(bytes, Segment.previous, previous?.segment ?? 0);
  writeInteger32(bytes, Segment.ended, previous?.bytes ?? 0);
  writeInteger32(bytes, Segment.check, crc32(bytes.subarray(0, Segment.check)));
  return bytes;
}

/** The header at the beginning of a segment and the version that it has, or undefined when these bytes are none. */
export function decodeSegmentHeader(bytes: Uint8Array): (SegmentHeader & { version: 1 | 2 }) | undefined {
  if (bytes.byteLength < SEGMENT_HEADER_BYTES) return undefined;
  const magic = bytes.subarray(0, SEGMENT_MAGIC.length);
  if (!SEGMENT_MAGIC.equals(magic) && !SEGMENT_MAGIC_1.equals(magic)) return undefined;
  if (crc32(bytes.subarray(0, Segment.check)) !== readInteger32(bytes, Segment.check)) return undefined;
  const previous = {
    segment: readInteger32(bytes, Segment.previous),
    bytes: readInteger32(bytes, Segment.ended),
  };
  return {
    version: SEGMENT_MAGIC.equals(magic) ? 2 : 1,
    number: readInteger32(bytes, Segment.number),
    storeId: Uint8Array.from(bytes.subarray(Segment.id, Segment.id + STORE_ID_BYTES)),
    previous: previous.segment === 0 ? undefined : previous,
  };
}

export function encodeRecordHeader(header: RecordHeader, seed: number): Buffer {
  // Of memory that many share: a buffer for each chunk is what a writer's garbage would be.
  const bytes = Buffer.allocUnsafe(RECORD_HEADER_BYTES).fill(0);
  bytes.set(RECORD_MAGIC);
  bytes[Record.kind] = header.kind;
  bytes[Record.codec] = header.codec;
  writeInteger32(bytes, Record.stored, header.storedBytes);
  writeInteger32(bytes, Record.plain, header.plainBytes);
  writeInteger(bytes, Record.sequence, header.sequence);
  writeInteger32(bytes, Record.segment, header.segment);
  writeInteger32(bytes, Record.offset, header.offset);
  bytes.set(header.ref, Record.ref);
  writeInteger32(bytes, Record.durable, header.durableBytes);
  writeInteger32(bytes, Record.check, crc32(bytes.subarray(0, Record.check), seed));
  return bytes;
}

/** The record header at `at`, or undefined when there is none that belongs at this place of this store. */
export function decodeRecordHeader(
  bytes: Uint8Array,
  at: number,
  place: { readonly segment: number; readonly offset: number },
  seed: number,
): RecordHeader | undefined {
  if (at + RECORD_HEADER_BYTES > bytes.byteLength) return undefined;
  const view = bytes.subarray(at, at + RECORD_HEADER_BYTES);
  if (!RECORD_MAGIC.equals(view.subarray(0, RECORD_MAGIC.length))) return undefined;
  if (readInteger32(view, Record.check) !== crc32(view.subarray(0, Record.check), seed)) return undefined;
  const header: RecordHeader = {
    kind: view[Record.kind] as RecordKind,
    codec: view[Record.codec] as Codec,
    storedBytes: readInteger32(view, Record.stored),
    plainBytes: readInteger32(view, Record.plain),
    sequence: readInteger(view, Record.sequence),
    segment: readInteger32(view, Record.segment),
    offset: readInteger32(view, Record.offset),
    ref: Uint8Array.from(view.subarray(Record.ref, Record.ref + REF_BYTES)),
    durableBytes: readInteger32(view, Record.durable),
  };
  const belongs = header.segment === place.segment && header.offset === place.offset;
  const bounded =
    header.storedBytes <= CHUNK_BYTES_MAX &&
    header.plainBytes <= CHUNK_BYTES_MAX &&
    header.durableBytes <= header.offset;
  return belongs && bounded && Number.isSafeInteger(header.sequence) ? header : undefined;
}

/**
 * The body of a name record: that a name was bound to a root, or removed.
 *
 *   OFFSET SIZE
 *   0      1    action     1 bind, 2 remove
 *   1      3    zero
 *   4      4    version
 *   8      8    storedAt   milliseconds since 1970
 *   16     8    length     bytes that the root's stream yields
 *   24     32   root       zero when the name is removed
 *   56     …    name       UTF-8
 */
export const NameAction = { bind: 1, remove: 2 } as const;
export type NameAction = (typeof NameAction)[keyof typeof NameAction];

/** One event in the life of a name. */
export interface NameEvent {
  readonly action: NameAction;
  readonly name: Uint8Array;
  readonly version: number;
  readonly storedAt: number;
  readonly length: number;
  /** 32 bytes. */
  readonly root: Uint8Array;
}

const Offset = { version: 4, storedAt: 8, length: 16, root: 24, name: 56 } as const;

/** The last millisecond since 1970 that has a date: no clock that is right tells a later one. */
const STORED_AT_MAX = 8_640_000_000_000_000;

/** What a clock says, or stored bytes, as a time that has a date. */
export function storedAtOf(milliseconds: number): number {
  return Math.min(Math.max(0, milliseconds), STORED_AT_MAX);
}

/** What the record of a name of `nameBytes` takes in its segment. */
export function nameRecordBytes(nameBytes: number): number {
  return recordBytes(Offset.name + nameBytes);
}

export function encodeName(event: NameEvent): Uint8Array {
  const bytes = new Uint8Array(Offset.name + event.name.byteLength);
  bytes[0] = event.action;
  writeInteger32(bytes, Offset.version, event.version);
  writeInteger(bytes, Offset.storedAt, event.storedAt);
  writeInteger(bytes, Offset.length, event.length);
  bytes.set(event.root, Offset.root);
  bytes.set(event.name, Offset.name);
  return bytes;
}

/** The event in a body whose hash was checked; undefined when it is of a kind that this version does not know. */
export function decodeName(bytes: Uint8Array): NameEvent | undefined {
  const action = bytes[0] as NameAction;
  if (bytes.byteLength <= Offset.name || (action !== NameAction.bind && action !== NameAction.remove)) {
    return undefined;
  }
  return {
    action,
    name: bytes.slice(Offset.name),
    version: readInteger32(bytes, Offset.version),
    storedAt: readInteger(bytes, Offset.storedAt),
    length: readInteger(bytes, Offset.length),
    root: bytes.slice(Offset.root, Offset.root + REF_BYTES),
  };
}

/** A name as the catalog's bytes. Throws PFS_NAME_INVALID {reason}. */
export function nameToBytes(name: string): Uint8Array {
  const reason = invalidName(name);
  if (reason === null) return Buffer.from(name, "utf8");
  throw new StoreError(
    StoreErrorCode.invalidName,
    `${JSON.stringify(name)} is no name for a file: ${reason}`,
    { reason },
  );
}

/** The bytes under which a name would be found. Undefined when none can be: older stores have names that are refused now. */
export function nameToSearch(name: string): Uint8Array | undefined {
  return name === "" || !name.isWellFormed() ? undefined : Buffer.from(name, "utf8");
}

export function nameFromBytes(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8");
}
