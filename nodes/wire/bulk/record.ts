/**
 * What travels on a bulk channel: records, each sealed with AES-256-GCM under the key of its direction. A record's number is
 * its nonce, and is not sent: so one that is missing, doubled, out of order, of the other direction or of another channel
 * does not open. All integers are little-endian.
 *
 *   OFFSET SIZE FIELD
 *   0      1    kind      RecordKind
 *   1      1    flags     RecordFlag
 *   2      2    type      what the message is, to those who use the channel
 *   4      4    head      bytes of its head
 *   8      4    body      bytes of its body
 *   12     4    0
 *   16     n    head and body, encrypted; the 16 bytes before are authenticated with them
 *   16+n   16   tag
 *   32+n   m    the body, where it travels in the clear: whoever takes it verifies it by other means
 *
 * The first record of a direction is a hello, the last one an end: what stops without an end was cut. When a key has sealed
 * as much as it may, both sides go on with the next one, which each derives from it.
 */
import { createCipheriv, createDecipheriv, createSecretKey } from "node:crypto";
import type { CipherGCM, DecipherGCM, KeyObject } from "node:crypto";
import { readInteger32, writeInteger32 } from "../../../packets/integer.ts";
import {
  BULK_BODY_BYTES_MAX,
  BULK_HEAD_BYTES_MAX,
  BULK_KEY_BYTES_MAX,
  BULK_KEY_RECORDS_MAX,
  BULK_PIECE_BYTES,
} from "../../limits.ts";
import { bulkCut, bulkDamaged } from "./errors.ts";
import { nextKey } from "./keys.ts";

export const RecordKind = { hello: 1, message: 2, end: 3 } as const;
export type RecordKind = (typeof RecordKind)[keyof typeof RecordKind];
const KIND_MAX = Math.max(...Object.values(RecordKind));

/** Bits of a record's flags. */
export const RecordFlag = {
  /** The body is not encrypted, and not authenticated. */
  CLEAR_BODY: 1,
} as const;

const Offset = { kind: 0, flags: 1, type: 2, head: 4, body: 8, zero: 12 } as const;
export const RECORD_HEADER_BYTES = 16;
export const TAG_BYTES = 16;
const NONCE_BYTES = 12;
const CIPHER = "aes-256-gcm";

/** When a key is followed by the next one. */
export interface KeyLimits {
  readonly records: number;
  /** Sealed bytes; the record that reaches it is still sealed with the same key. */
  readonly bytes: number;
}
const KEY_LIMITS: KeyLimits = { records: BULK_KEY_RECORDS_MAX, bytes: BULK_KEY_BYTES_MAX };

/** A direction's keys, one after the other, and the number of the next record. */
class KeyChain {
  #key: Uint8Array;
  /** The same for the ciphers: of bytes Node finds out each time that they are no such object, by an error that it throws. */
  #object: KeyObject;
  readonly #limits: KeyLimits;
  readonly #nonce = new Uint8Array(NONCE_BYTES);
  #records = 0;
  #bytes = 0;

  constructor(key: Uint8Array, limits: KeyLimits) {
    this.#key = key;
    this.#object = createSecretKey(key);
    this.#limits = limits;
  }

  /** Of the next record, never the same twice. */
  next(): { readonly key: KeyObject; readonly nonce: Uint8Array } {
    writeInteger32(this.#nonce, 0, this.#records);
    return { key: this.#object, nonce: this.#nonce };
  }

  /** A record of so many sealed bytes is done. */
  advance(sealedBytes: number): void {
    this.#records++;
    this.#bytes += sealedBytes;
    if (this.#records < this.#limits.records && this.#bytes < this.#limits.bytes) return;
    const next = nextKey(this.#key);
    this.#key.fill(0);
    this.#key = next;
    this.#object = createSecretKey(next);
    this.#records = 0;
    this.#bytes = 0;
  }
}

/** What is to be sealed. */
export interface OutRecord {
  readonly kind: RecordKind;
  readonly type?: number;
  readonly head?: Uint8Array;
  readonly body?: Uint8Array;
  /** The body is verified by other means, and need not be encrypted. */
  readonly hasClearBody?: boolean;
}

const NOTHING: Uint8Array<ArrayBuffer> = new Uint8Array(0);

export class RecordSealer {
  readonly #chain: KeyChain;

  /** The key is the sealer's from then on. */
  constructor(key: Uint8Array, limits: KeyLimits = KEY_LIMITS) {
    this.#chain = new KeyChain(key, limits);
  }

  /**
   * The bytes of a record, in pieces. A body in the clear is one of them, as it is; the others are memory of their own, which
   * `discard` frees. The caller vouches for the lengths.
   */
  seal({ kind, type = 0, head = NOTHING, body = NOTHING, hasClearBody = false }: OutRecord): Uint8Array[] {
    const header = new Uint8Array(RECORD_HEADER_BYTES);
    header[Offset.kind] = kind;
    header[Offset.flags] = hasClearBody ? RecordFlag.CLEAR_BODY : 0;
    header[Offset.type] = type;
    header[Offset.type + 1] = type >> 8;
    writeInteger32(header, Offset.head, head.byteLength);
    writeInteger32(header, Offset.body, body.byteLength);
    const { key, nonce } = this.#chain.next();
    const cipher = createCipheriv(CIPHER, key, nonce);
    cipher.setAAD(header);
    const pieces: Uint8Array[] = [header];
    if (head.byteLength > 0) pieces.push(cipher.update(head));
    if (!hasClearBody) sealPieces(cipher, body, pieces);
    cipher.final();
    pieces.push(cipher.getAuthTag());
    if (hasClearBody && body.byteLength > 0) pieces.push(body);
    this.#chain.advance(head.byteLength + (hasClearBody ? 0 : body.byteLength));
    return pieces;
  }
}

/** Piece by piece, so that each is still near when it is used next. */
function sealPieces(cipher: CipherGCM, body: Uint8Array, pieces: Uint8Array[]): void {
  for (let at = 0; at < body.byteLength; at += BULK_PIECE_BYTES)
    pieces.push(cipher.update(body.subarray(at, at + BULK_PIECE_BYTES)));
}

/** Smaller ones share their memory with others. */
const DISCARDED_BYTES_MIN = 16 * 1024;

/** Frees memory at once that a cipher made and nobody needs any more: waiting for V8 to find it takes longer than ciphering. */
export function discard(bytes: Uint8Array): void {
  const { buffer, byteLength } = bytes;
  if (byteLength < DISCARDED_BYTES_MIN || byteLength !== buffer.byteLength) return;
  if (buffer instanceof ArrayBuffer) buffer.transfer(0);
}

/** A record that was opened: what its peer sealed, but for a body in the clear. */
export interface OpenedRecord {
  readonly kind: RecordKind;
  readonly type: number;
  readonly head: Uint8Array;
  /** In memory that the sink gave. */
  readonly body: Uint8Array<ArrayBuffer>;
  /** The body came in the clear: anybody may have changed it. */
  readonly hasClearBody: boolean;
}

export interface RecordSink {
  /** Memory for so many bytes of a body, more than 0. */
  memory(bytes: number): Uint8Array<ArrayBuffer>;
  /** A record has come, and is what the peer sealed. */
  opened(record: OpenedRecord): void;
  /** That memory is not needed: its record was not what the peer sealed. */
  unused(memory: Uint8Array): void;
}

export interface OpenerOptions {
  /** The opener's from then on. */
  readonly key: Uint8Array;
  /** Whether bodies may come in the clear. */
  readonly isClear: boolean;
  readonly sink: RecordSink;
  readonly limits?: KeyLimits;
}

interface Header {
  readonly kind: RecordKind;
  readonly type: number;
  readonly headBytes: number;
  readonly bodyBytes: number;
  readonly hasClearBody: boolean;
}

type Part = "header" | "head" | "body" | "tag" | "clear body" | "nothing";

/**
 * Opens the records of one direction, of bytes in whatever pieces they come. Nothing is handed on before its tag was checked.
 */
export class RecordOpener {
  readonly #options: OpenerOptions;
  readonly #chain: KeyChain;
  /** What comes next, and how much of it there is already. */
  #part: Part = "header";
  #filled = 0;
  readonly #headerBytes = new Uint8Array(RECORD_HEADER_BYTES);
  readonly #tag = new Uint8Array(TAG_BYTES);
  #header: Header | undefined;
  #decipher: DecipherGCM | undefined;
  #head = NOTHING;
  #body = NOTHING;
  #hasHello = false;
  #hasEnd = false;
  #isBroken = false;

  constructor(options: OpenerOptions) {
    this.#options = options;
    this.#chain = new KeyChain(options.key, options.limits ?? KEY_LIMITS);
  }

  /** Takes bytes of the line. Throws PFS_BULK_DAMAGED where they are not the next ones that the peer sealed: for good. */
  push(bytes: Uint8Array): void {
    if (this.#isBroken) throw bulkDamaged("it was before");
    try {
      let rest = bytes;
      while (rest.byteLength > 0) rest = rest.subarray(this.#take(rest));
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** The line has ended. Throws PFS_BULK_CUT where the peer did not say so before. */
  lineEnded(): void {
    this.close();
    if (!this.#hasEnd) throw bulkCut("its connection ended in the middle");
  }

  /** Nothing is taken any more. */
  close(): void {
    this.#isBroken = true;
    if (this.#body.byteLength > 0) this.#options.sink.unused(this.#body);
    this.#body = NOTHING;
  }

  /** How many of them were taken. */
  #take(bytes: Uint8Array): number {
    switch (this.#part) {
      case "header":
        return this.#fill(this.#headerBytes, bytes, () => this.#begin());
      case "head":
        return this.#open(this.#head, bytes, () => this.#headOpened());
      case "body":
        return this.#open(this.#body, bytes, () => this.#to("tag"));
      case "tag":
        return this.#fill(this.#tag, bytes, () => this.#check());
      case "clear body":
        return this.#fill(this.#body, bytes, () => this.#deliver());
      case "nothing":
        throw bulkDamaged("bytes behind its end");
    }
  }

  #to(part: Part): void {
    this.#part = part;
    this.#filled = 0;
  }

  #fill(target: Uint8Array, bytes: Uint8Array, then: () => void): number {
    const taken = Math.min(bytes.byteLength, target.byteLength - this.#filled);
    target.set(bytes.subarray(0, taken), this.#filled);
    this.#filled += taken;
    if (this.#filled === target.byteLength) then();
    return taken;
  }

  /** As `fill`, of what is encrypted. */
  #open(target: Uint8Array, bytes: Uint8Array, then: () => void): number {
    const taken = Math.min(bytes.byteLength, target.byteLength - this.#filled, BULK_PIECE_BYTES);
    const plain = this.#decipher!.update(bytes.subarray(0, taken));
    target.set(plain, this.#filled);
    discard(plain);
    this.#filled += taken;
    if (this.#filled === target.byteLength) then();
    return taken;
  }

  #begin(): void {
    const header = readHeader(this.#headerBytes, this.#options.isClear);
    if ((header.kind === RecordKind.hello) === this.#hasHello)
      throw bulkDamaged("it begins with a hello, and has no other");
    this.#header = header;
    const { key, nonce } = this.#chain.next();
    this.#decipher = createDecipheriv(CIPHER, key, nonce);
    this.#decipher.setAAD(this.#headerBytes);
    this.#head = header.headBytes === 0 ? NOTHING : new Uint8Array(header.headBytes);
    if (header.headBytes > 0) this.#to("head");
    else this.#headOpened();
  }

  #headOpened(): void {
    const { bodyBytes, hasClearBody } = this.#header!;
    if (bodyBytes === 0 || hasClearBody) return this.#to("tag");
    this.#body = this.#options.sink.memory(bodyBytes);
    this.#to("body");
  }

  #check(): void {
    const decipher = this.#decipher!;
    this.#decipher = undefined;
    decipher.setAuthTag(this.#tag);
    try {
      decipher.final();
    } catch {
      throw bulkDamaged("a record is not the next one that the peer sealed");
    }
    const { headBytes, bodyBytes, hasClearBody } = this.#header!;
    this.#chain.advance(headBytes + (hasClearBody ? 0 : bodyBytes));
    if (!hasClearBody || bodyBytes === 0) return this.#deliver();
    this.#body = this.#options.sink.memory(bodyBytes);
    this.#to("clear body");
  }

  #deliver(): void {
    const { kind, type, hasClearBody } = this.#header!;
    const record = { kind, type, head: this.#head, body: this.#body, hasClearBody };
    this.#head = NOTHING;
    this.#body = NOTHING;
    this.#hasHello = true;
    this.#hasEnd = kind === RecordKind.end;
    this.#to(this.#hasEnd ? "nothing" : "header");
    this.#options.sink.opened(record);
  }
}

/** Throws PFS_BULK_DAMAGED for what no peer says. Its lengths are believed when the tag has been checked. */
function readHeader(bytes: Uint8Array, isClear: boolean): Header {
  const kind = bytes[Offset.kind]!;
  const flags = bytes[Offset.flags]!;
  const headBytes = readInteger32(bytes, Offset.head);
  const bodyBytes = readInteger32(bytes, Offset.body);
  const hasClearBody = flags === RecordFlag.CLEAR_BODY;
  const isPlain = flags === 0 || (hasClearBody && isClear && kind === RecordKind.message);
  if (kind === 0 || kind > KIND_MAX || !isPlain || readInteger32(bytes, Offset.zero) !== 0)
    throw bulkDamaged("a record that makes no sense");
  if (headBytes > BULK_HEAD_BYTES_MAX || bodyBytes > BULK_BODY_BYTES_MAX)
    throw bulkDamaged("a record that is too long");
  if (kind !== RecordKind.message && headBytes + bodyBytes > 0)
    throw bulkDamaged("more than there is to say");
  const type = bytes[Offset.type]! | (bytes[Offset.type + 1]! << 8);
  return { kind: kind as RecordKind, type, headBytes, bodyBytes, hasClearBody };
}

if (Offset.zero + 4 !== RECORD_HEADER_BYTES) throw new Error("record layout is broken");
