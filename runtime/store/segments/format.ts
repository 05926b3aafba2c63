/**
 * The bytes of a segment, `segments/NNNNNNNN.seg`. Numbers, sizes and offsets of it stand here and nowhere else.
 *
 *   segment:  header (64 bytes), then records back to back, each a header (72 bytes) and a body. Only ever appended to.
 *
 *   OFFSET SIZE segment header
 *   0      8    magic "PFSSEG01"
 *   8      4    number of the segment
 *   12     4    zero
 *   16     16   id of the store
 *   32     28   zero
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
 *   64     4    zero
 *   68     4    CRC-32 of the bytes before it, seeded with the store's id
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
}

const SEGMENT_MAGIC = Buffer.from("PFSSEG01", "latin1");
export const RECORD_MAGIC: Buffer = Buffer.from("PFSR", "latin1");

const Segment = { number: 8, id: 16, check: 60 } as const;
const Record = {
  kind: 4,
  codec: 5,
  stored: 8,
  plain: 12,
  sequence: 16,
  segment: 24,
  offset: 28,
  ref: 32,
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

export function encodeSegmentHeader(number: number, storeId: Uint8Array): Buffer {
  const bytes = Buffer.alloc(SEGMENT_HEADER_BYTES);
  bytes.set(SEGMENT_MAGIC);
  writeInteger32(bytes, Segment.number, number);
  bytes.set(storeId, Segment.id);
  writeInteger32(bytes, Segment.check, crc32(bytes.subarray(0, Segment.check)));
  return bytes;
}

/** The id of the store that a segment belongs to, or undefined when these bytes are no segment header. */
export function storeIdOfSegment(bytes: Uint8Array): Buffer | undefined {
  if (bytes.byteLength < SEGMENT_HEADER_BYTES) return undefined;
  if (!SEGMENT_MAGIC.equals(bytes.subarray(0, SEGMENT_MAGIC.length))) return undefined;
  if (crc32(bytes.subarray(0, Segment.check)) !== readInteger32(bytes, Segment.check)) return undefined;
  return Buffer.from(bytes.subarray(Segment.id, Segment.id + STORE_ID_BYTES));
}

export function encodeRecordHeader(header: RecordHeader, seed: number): Buffer {
  const bytes = Buffer.alloc(RECORD_HEADER_BYTES);
  bytes.set(RECORD_MAGIC);
  bytes[Record.kind] = header.kind;
  bytes[Record.codec] = header.codec;
  writeInteger32(bytes, Record.stored, header.storedBytes);
  writeInteger32(bytes, Record.plain, header.plainBytes);
  writeInteger(bytes, Record.sequence, header.sequence);
  writeInteger32(bytes, Record.segment, header.segment);
  writeInteger32(bytes, Record.offset, header.offset);
  bytes.set(header.ref, Record.ref);
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
  };
  const belongs = header.segment === place.segment && header.offset === place.offset;
  const bounded = header.storedBytes <= CHUNK_BYTES_MAX && header.plainBytes <= CHUNK_BYTES_MAX;
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
