/**
 * Metadata: MessagePack of at most 64 KiB. The decoder builds whatever the bytes claim, so a few bytes could make it
 * build gigabytes or nest until the stack ends; they are scanned first, without building anything.
 */
import { Decoder, Encoder } from "@msgpack/msgpack";
import * as v from "valibot";
import { messageOf } from "../../../packets/errors.ts";
import { META_BYTES_MAX } from "../../../packets/limits.ts";
import { WireError, WireErrorCode } from "../../errors.ts";
import { META_DEPTH_MAX, META_ITEMS_MAX } from "../../limits.ts";
import type { WireMessage } from "../link.ts";

const decoder = new Decoder({
  maxStrLength: META_BYTES_MAX,
  maxBinLength: META_BYTES_MAX,
  maxArrayLength: META_ITEMS_MAX,
  maxMapLength: META_ITEMS_MAX,
  maxExtLength: 0,
  useBigInt64: false,
  // The shared cache of keys would keep what strangers sent.
  keyDecoder: null,
});
const encoder = new Encoder({ ignoreUndefined: true, maxDepth: META_DEPTH_MAX });

/** MessagePack of a value. Throws PFS_MESSAGE_TOO_LARGE above 64 KiB. */
export function encodeMeta(value: unknown): Uint8Array {
  // The encoder's own buffer is used again by the next call, so the result is a copy.
  const bytes = encoder.encode(value);
  if (bytes.byteLength > META_BYTES_MAX) {
    throw new WireError(
      WireErrorCode.messageTooLarge,
      `metadata of ${bytes.byteLength} bytes is above the limit of ${META_BYTES_MAX}`,
      { bytes: bytes.byteLength, limit: META_BYTES_MAX },
    );
  }
  return bytes;
}

/** The value; undefined for no bytes. Throws PFS_META_INVALID for everything that is not plain, small MessagePack. */
export function decodeMeta(bytes: Uint8Array): unknown {
  if (bytes.byteLength === 0) return undefined;
  const reason = invalidMeta(bytes);
  if (reason !== null) throw metaInvalid(reason);
  try {
    return decoder.decode(bytes);
  } catch (error) {
    throw metaInvalid(messageOf(error));
  }
}

/** What the message's metadata says, in the shape that `schema` asks for. Throws PFS_META_INVALID. */
export function readMeta<Output>(schema: v.GenericSchema<unknown, Output>, message: WireMessage): Output {
  return checked(schema, message.meta);
}

/** What the message's chunks say as JSON, for answers that may be longer than metadata. Throws PFS_META_INVALID. */
export function readJson<Output>(schema: v.GenericSchema<unknown, Output>, message: WireMessage): Output {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder().decode(message.chunks));
  } catch {
    throw metaInvalid("it is not JSON");
  }
  return checked(schema, value);
}

function checked<Output>(schema: v.GenericSchema<unknown, Output>, value: unknown): Output {
  const result = v.safeParse(schema, value, { abortEarly: true });
  if (result.success) return result.output;
  const issue = result.issues[0];
  const path = issue.path?.map(({ key }) => String(key)).join(".") ?? "";
  throw metaInvalid(path === "" ? issue.message : `${path}: ${issue.message}`);
}

function metaInvalid(reason: string): WireError {
  return new WireError(WireErrorCode.metaInvalid, `metadata is invalid: ${reason}`, { reason });
}

/** Why these bytes are no metadata, or null. Walks over headers only; nothing is built, nothing recurses. */
export function invalidMeta(bytes: Uint8Array): string | null {
  if (bytes.byteLength > META_BYTES_MAX) return "more than 64 KiB";
  // How many values each open array or map still lacks, the innermost last.
  const open: number[] = [1];
  let at = 0;
  let items = 0;
  while (open.length > 0) {
    if (at >= bytes.byteLength) return "ends too early";
    if (++items > META_ITEMS_MAX) return "too many values";
    open[open.length - 1]!--;
    const header = headerAt(bytes, at);
    if (header === null) return "unknown type";
    at += header.bytes;
    if (at > bytes.byteLength) return "ends too early";
    if (header.values > bytes.byteLength - at) return "claims more values than it has bytes";
    if (header.values > 0) {
      if (open.length >= META_DEPTH_MAX) return "nested too deeply";
      open.push(header.values);
    }
    while (open.length > 0 && open[open.length - 1] === 0) open.pop();
  }
  return at === bytes.byteLength ? null : "more bytes than one value";
}

interface Header {
  /** Bytes of the header, and of the body of a string, binary or number. */
  readonly bytes: number;
  /** Values that follow inside it. */
  readonly values: number;
}

/** Fixed sizes of the formats from 0xc0 on that are not strings, binaries, arrays or maps; 0 = not allowed here. */
const FIXED = [1, 0, 1, 1, 0, 0, 0, 0, 0, 0, 5, 9, 2, 3, 5, 9, 2, 3, 5, 9];

function headerAt(bytes: Uint8Array, at: number): Header | null {
  const format = bytes[at]!;
  if (format < 0x80 || format >= 0xe0) return { bytes: 1, values: 0 };
  if (format < 0x90) return { bytes: 1, values: 2 * (format & 0x0f) };
  if (format < 0xa0) return { bytes: 1, values: format & 0x0f };
  if (format < 0xc0) return { bytes: 1 + (format & 0x1f), values: 0 };
  switch (format) {
    case 0xc4:
    case 0xd9:
      return { bytes: 2 + lengthAt(bytes, at + 1, 1), values: 0 };
    case 0xc5:
    case 0xda:
      return { bytes: 3 + lengthAt(bytes, at + 1, 2), values: 0 };
    case 0xc6:
    case 0xdb:
      return { bytes: 5 + lengthAt(bytes, at + 1, 4), values: 0 };
    case 0xdc:
      return { bytes: 3, values: lengthAt(bytes, at + 1, 2) };
    case 0xdd:
      return { bytes: 5, values: lengthAt(bytes, at + 1, 4) };
    case 0xde:
      return { bytes: 3, values: 2 * lengthAt(bytes, at + 1, 2) };
    case 0xdf:
      return { bytes: 5, values: 2 * lengthAt(bytes, at + 1, 4) };
    default: {
      // Extension types (timestamps among them) are not used, so they are not decoded.
      const size = FIXED[format - 0xc0] ?? 0;
      return size === 0 ? null : { bytes: size, values: 0 };
    }
  }
}

/** A big-endian length of `size` bytes; bytes that are missing read as zero and are noticed by the caller. */
function lengthAt(bytes: Uint8Array, at: number, size: number): number {
  let length = 0;
  for (let index = 0; index < size; index++) length = length * 256 + (bytes[at + index] ?? 0);
  return length;
}
