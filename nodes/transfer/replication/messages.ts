/**
 * What sender and receiver of a transfer say to each other: a head of MessagePack, and with FILE_DATA a body. SPEC.md
 * section 15 is this file in prose. Nothing that a peer sent is used before it went through `decodeTransfer`.
 */
import * as v from "valibot";
import { CODECS } from "../../../packets/codec.ts";
import { refAt } from "../../../packets/digest.ts";
import type { Ref } from "../../../packets/digest.ts";
import type { ErrorData } from "../../../packets/errors.ts";
import { PACKET_BYTES, REF_BYTES } from "../../../packets/layout.ts";
import { CHUNK_BYTES_MAX, PATCH_RANGES_MAX } from "../../../packets/limits.ts";
import {
  BULK_BODY_BYTES_MAX,
  BULK_HEAD_BYTES_MAX,
  ERROR_CHARACTERS_MAX,
  MESSAGE_COST_BYTES,
  TRANSFER_BASES_MAX,
  TRANSFER_COMPLAINT_REFS_MAX,
  TRANSFER_CREDIT_BYTES_MAX,
  TRANSFER_CREDIT_BYTES_MIN,
  TRANSFER_CREDIT_PER_MILLE,
  TRANSFER_ROWS_MAX,
} from "../../limits.ts";
import { errorData } from "../../wire/session/errors.ts";
import { count, file, id, name, ref } from "../../message-fields.ts";
import { decodeMeta, encodeMeta } from "../../wire/session/meta.ts";
import { ByteRanges, invalidTransfer } from "./byte-ranges.ts";

/** What a peer says among its features that understands these messages. Others are asked for chunks by their refs. */
export const TRANSFER_FEATURE = "transfer-1";

/** Numbers of messages on a bulk channel. */
export const TransferKind = {
  FILE_OFFER: 1,
  FILE_REQUEST: 2,
  FILE_START: 3,
  FILE_DATA: 4,
  FILE_COMPLETE: 5,
  FILE_CREDIT: 6,
  FILE_WRONG: 7,
  FILE_LOST: 8,
  FILE_END: 9,
  FILE_FAILED: 10,
} as const;
export type TransferKind = (typeof TransferKind)[keyof typeof TransferKind];

/** What a record of a bulk channel has beside its head and body. */
export const RECORD_BYTES = 32;

/** How the body of FILE_DATA is written. */
export const DataForm = {
  /** A patch of SPEC.md section 14: of streams, or of chunks. */
  streams: 0,
  chunks: 1,
  /** Chunks as they are stored, which need nothing else to be read. */
  stored: 2,
} as const;
export type DataForm = (typeof DataForm)[keyof typeof DataForm];

/** A row of FILE_DATA in form `stored`: ref, bytes in the body, plain bytes (4 each, little-endian), codec. */
const ROW_BYTES = REF_BYTES + 9;

interface OfTransfer {
  /** Odd where the dialing side opened it, ascending, and never used again on the channel. */
  readonly transfer: number;
  /** Counts the receiver's requests under this number, from 1. A new one takes the place of the one before. */
  readonly run: number;
}

/** What a sender says of a root that it offers, beside its length. */
export interface OfferTerms {
  /** The name that it will have: older versions may be like it. */
  readonly name?: string | undefined;
  /** The put that keeps its chunks where they come to, by the number that STORE and NAME have for it. */
  readonly put?: string | undefined;
  /** Roots that are like it, the most alike first: those that the receiver has may be bases. */
  readonly bases: readonly Ref[];
}

/** The sender has this, and would send it. */
export interface FileOffer extends OfferTerms {
  readonly kind: typeof TransferKind.FILE_OFFER;
  readonly transfer: number;
  readonly root: Ref;
  readonly length: number;
}

/** The receiver wants it. */
export interface FileRequest extends OfTransfer {
  readonly kind: typeof TransferKind.FILE_REQUEST;
  /** One of the two; the root alone where it was offered. */
  readonly root?: Ref | undefined;
  readonly name?: string | undefined;
  /** Roots of which it has everything, the most alike first. */
  readonly bases: readonly Ref[];
  /** What it has of `resumeRoot`: of these bytes all streams and chunks. */
  readonly resumeRoot?: Ref | undefined;
  readonly resume: ByteRanges;
  /** Bytes that may be on their way to it. */
  readonly credit: number;
  readonly isUrgent: boolean;
}

/** What comes: the first answer to FILE_REQUEST. */
export interface FileStart extends OfTransfer {
  readonly kind: typeof TransferKind.FILE_START;
  readonly root: Ref;
  readonly length: number;
  readonly version?: number | undefined;
  /** Whether what the receiver has of it is left out. */
  readonly isResumed: boolean;
}

export interface DataHead {
  readonly form: DataForm;
  /** A patch's packets, or rows. */
  readonly packets: Uint8Array;
}

export interface FileData extends OfTransfer, DataHead {
  readonly kind: typeof TransferKind.FILE_DATA;
  /** From 1 on. */
  readonly number: number;
}

/** Everything was sent that was asked for up to complaint number `answered`. */
export interface FileComplete extends OfTransfer {
  readonly kind: typeof TransferKind.FILE_COMPLETE;
  /** Of the run: messages of FILE_DATA, and what they cost. */
  readonly messages: number;
  readonly bytes: number;
  readonly answered: number;
}

export interface FileCredit extends OfTransfer {
  readonly kind: typeof TransferKind.FILE_CREDIT;
  /** All bytes that the run may have cost, since its beginning. */
  readonly granted: number;
  /** What those messages cost that have come, and are not placed yet. */
  readonly waiting: number;
}

/** Chunks that came with wrong bytes, or not at all. */
export interface FileWrong extends OfTransfer {
  readonly kind: typeof TransferKind.FILE_WRONG;
  /** From 1 on. */
  readonly complaint: number;
  readonly refs: readonly Ref[];
}

/** The sender has them no more. */
export interface FileLost extends OfTransfer {
  readonly kind: typeof TransferKind.FILE_LOST;
  readonly refs: readonly Ref[];
}

/** The receiver has everything (then `isDone`), or wants no more. Offered: it had everything before, where `run` is 0. */
export interface FileEnd extends OfTransfer {
  readonly kind: typeof TransferKind.FILE_END;
  readonly isDone: boolean;
}

/** Whoever says so cannot go on. */
export interface FileFailed extends OfTransfer {
  readonly kind: typeof TransferKind.FILE_FAILED;
  readonly code: string;
  readonly message: string;
  readonly data?: ErrorData | undefined;
}

export type ToReceiver = FileOffer | FileStart | FileData | FileComplete | FileLost | FileFailed;
export type ToSender = FileRequest | FileCredit | FileWrong | FileEnd | FileFailed;
export type TransferMessage = ToReceiver | ToSender;

const number = v.pipe(count, v.minValue(1));
const transfer = number;
const run = number;
const refs = (max: number): v.GenericSchema<unknown, readonly Ref[]> =>
  v.pipe(
    v.instance(Uint8Array),
    v.check((bytes) => bytes.byteLength % REF_BYTES === 0, "refs have 32 bytes each"),
    v.check((bytes) => bytes.byteLength <= max * REF_BYTES, "too many refs"),
    v.transform((bytes) => {
      return Array.from({ length: bytes.byteLength / REF_BYTES }, (_, index) => refAt(bytes, index).slice());
    }),
  );
const some = v.check((list: readonly Ref[]) => list.length > 0, "no ref at all");
const ranges = v.pipe(
  v.instance(Uint8Array),
  v.transform((bytes) => ByteRanges.decode(bytes)),
);
const packets = v.pipe(
  v.instance(Uint8Array),
  v.check((bytes) => bytes.byteLength <= BULK_HEAD_BYTES_MAX, "too many packets"),
);

const SCHEMAS: ReadonlyMap<number, v.GenericSchema<unknown, Omit<TransferMessage, "kind">>> = new Map<
  number,
  v.GenericSchema<unknown, Omit<TransferMessage, "kind">>
>([
  [
    TransferKind.FILE_OFFER,
    v.object({
      transfer,
      root: ref,
      length: count,
      name: v.optional(name),
      put: v.optional(id),
      bases: refs(TRANSFER_BASES_MAX),
    }),
  ],
  [
    TransferKind.FILE_REQUEST,
    v.pipe(
      v.object({
        transfer,
        run,
        root: v.optional(ref),
        name: v.optional(file),
        bases: refs(TRANSFER_BASES_MAX),
        resumeRoot: v.optional(ref),
        resume: ranges,
        credit: v.pipe(count, v.minValue(TRANSFER_CREDIT_BYTES_MIN), v.maxValue(TRANSFER_CREDIT_BYTES_MAX)),
        isUrgent: v.boolean(),
      }),
      v.check((said) => (said.root === undefined) !== (said.name === undefined), "a root or a name"),
      v.check((said) => said.resumeRoot !== undefined || said.resume.size === 0, "ranges of no root"),
    ),
  ],
  [
    TransferKind.FILE_START,
    v.object({
      transfer,
      run,
      root: ref,
      length: count,
      version: v.optional(count),
      isResumed: v.boolean(),
    }),
  ],
  [
    TransferKind.FILE_DATA,
    v.object({ transfer, run, number, form: v.picklist(Object.values(DataForm)), packets }),
  ],
  [TransferKind.FILE_COMPLETE, v.object({ transfer, run, messages: count, bytes: count, answered: count })],
  [TransferKind.FILE_CREDIT, v.object({ transfer, run, granted: count, waiting: v.optional(count, 0) })],
  [
    TransferKind.FILE_WRONG,
    v.object({ transfer, run, complaint: number, refs: v.pipe(refs(TRANSFER_COMPLAINT_REFS_MAX), some) }),
  ],
  [
    TransferKind.FILE_LOST,
    v.object({ transfer, run, refs: v.pipe(refs(TRANSFER_COMPLAINT_REFS_MAX), some) }),
  ],
  [TransferKind.FILE_END, v.object({ transfer, run: count, isDone: v.boolean() })],
  [
    TransferKind.FILE_FAILED,
    v.object({
      transfer,
      run: count,
      code: v.pipe(v.string(), v.regex(/^PFS_[A-Z_]{1,60}$/)),
      message: v.pipe(v.string(), v.maxLength(ERROR_CHARACTERS_MAX)),
      data: v.optional(errorData),
    }),
  ],
]);

/** The head of a message. */
export function encodeTransfer(message: TransferMessage): Uint8Array {
  const { kind: _kind, ...said } = message;
  const packed = Object.entries(said).map(([key, value]) => {
    if (value instanceof ByteRanges) return [key, value.encode()];
    return [key, Array.isArray(value) ? Buffer.concat(value as Uint8Array[]) : value];
  });
  return encodeMeta(Object.fromEntries(packed));
}

/**
 * A message of its head and the bytes of its body. Throws PFS_TRANSFER_INVALID {reason} and PFS_META_INVALID for what is
 * none.
 */
export function decodeTransfer(kind: number, head: Uint8Array, bodyBytes: number): TransferMessage {
  const schema = SCHEMAS.get(kind);
  if (schema === undefined) throw invalidTransfer(`a message of kind ${kind}`);
  const result = v.safeParse(schema, decodeMeta(head), { abortEarly: true });
  if (!result.success) throw invalidTransfer(result.issues[0].message);
  const message = { kind, ...result.output } as TransferMessage;
  if (message.kind === TransferKind.FILE_DATA) checkData(message, bodyBytes);
  else if (bodyBytes > 0) throw invalidTransfer("a body where none belongs");
  return message;
}

function checkData({ form, packets: { byteLength } }: DataHead, bodyBytes: number): void {
  if (bodyBytes < 1 || bodyBytes > BULK_BODY_BYTES_MAX) throw invalidTransfer(`a body of ${bodyBytes} bytes`);
  if (form === DataForm.stored) {
    const rows = byteLength / ROW_BYTES;
    if (!Number.isInteger(rows) || rows < 1 || rows > TRANSFER_ROWS_MAX)
      throw invalidTransfer("rows that are none");
    return;
  }
  const count = byteLength / PACKET_BYTES;
  if (!Number.isInteger(count) || count < 1 || count > PATCH_RANGES_MAX + 1)
    throw invalidTransfer("packets that are none");
}

/** What a message counts for in credit: both sides know it. */
export function costOf(packetBytes: number, bodyBytes: number): number {
  return MESSAGE_COST_BYTES + packetBytes + bodyBytes;
}

/** What of a file of that length may be on its way: it is lost, at most, when one side is killed. */
export function windowOf(length: number): number {
  const wanted = Math.floor((length / 1000) * TRANSFER_CREDIT_PER_MILLE);
  return Math.min(Math.max(wanted, TRANSFER_CREDIT_BYTES_MIN), TRANSFER_CREDIT_BYTES_MAX);
}

/** Chunks as they stand in a body in form `stored`, as lists of one row each. */
export interface StoredRows {
  /** n × 32 bytes. */
  readonly refs: Uint8Array;
  readonly storedBytes: Uint32Array;
  readonly plainBytes: Uint32Array;
  readonly codec: Uint8Array;
}

export function encodeRows({ refs: allRefs, storedBytes, plainBytes, codec }: StoredRows): Uint8Array {
  const bytes = new Uint8Array(codec.length * ROW_BYTES);
  const view = new DataView(bytes.buffer);
  codec.forEach((value, row) => {
    const at = row * ROW_BYTES;
    bytes.set(refAt(allRefs, row), at);
    view.setUint32(at + REF_BYTES, storedBytes[row]!, true);
    view.setUint32(at + REF_BYTES + 4, plainBytes[row]!, true);
    bytes[at + REF_BYTES + 8] = value;
  });
  return bytes;
}

/** Reads the rows of a body of so many bytes. Throws PFS_TRANSFER_INVALID {reason}. */
export function decodeRows(bytes: Uint8Array, bodyBytes: number): StoredRows {
  const rows = bytes.byteLength / ROW_BYTES;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const result = {
    refs: new Uint8Array(rows * REF_BYTES),
    storedBytes: new Uint32Array(rows),
    plainBytes: new Uint32Array(rows),
    codec: new Uint8Array(rows),
  };
  let body = 0;
  for (let row = 0; row < rows; row++) {
    const at = row * ROW_BYTES;
    result.refs.set(bytes.subarray(at, at + REF_BYTES), row * REF_BYTES);
    const stored = view.getUint32(at + REF_BYTES, true);
    const plain = view.getUint32(at + REF_BYTES + 4, true);
    const codec = bytes[at + REF_BYTES + 8]!;
    if (stored < 1 || plain < 1 || plain > CHUNK_BYTES_MAX)
      throw invalidTransfer("a chunk of no such length");
    if (!(CODECS as readonly number[]).includes(codec)) throw invalidTransfer("an unknown codec");
    result.storedBytes[row] = stored;
    result.plainBytes[row] = plain;
    result.codec[row] = codec;
    body += stored;
  }
  if (body !== bodyBytes) throw invalidTransfer("chunks that are not the body");
  return result;
}
