/**
 * The little of ZMTP 3 (ZeroMQ RFC 23, CURVE: RFC 26) that is spoken in the clear: how a dialing side begins, and what its
 * encrypted messages measure on the line. Pure.
 *
 *     dialing side    greeting (64 bytes)   HELLO (202 bytes)            INITIATE (its key, encrypted)   MESSAGE …
 *     port            greeting              WELCOME                      READY, or ERROR
 */
import { INITIATE_BYTES_MAX } from "../../limits.ts";

const SIGNATURE_BYTES = 10;
export const GREETING_BYTES = 64;
const VERSION_AT = 10;
const MECHANISM_AT = 12;
const MECHANISM = Buffer.from("CURVE".padEnd(20, "\0"), "latin1");
/** A short command of 200 bytes. */
const HELLO = Buffer.from("\x04\xc8\x05HELLO", "latin1");
const HELLO_BYTES = 202;
/** Where a dialing side's greeting and its HELLO end. */
export const INITIATE_AT: number = GREETING_BYTES + HELLO_BYTES;
/** A long command; 8 bytes of its length follow. */
const INITIATE_FLAGS = 0x06;
const LONG_HEADER_BYTES = 9;
const INITIATE_NAME = Buffer.from("\x08INITIATE", "latin1");

/**
 * What a port says to a HELLO that was meant for another key, in the form in which a ROUTER says that a key is not let in (400).
 * ZeroMQ itself ends the connection without a word then, which looks like a line that breaks.
 */
export const WRONG_KEY_STATUS = 500;
export const WRONG_KEY: Buffer = Buffer.from(`\x04\x0a\x05ERROR\x03${WRONG_KEY_STATUS}`, "latin1");

/** How far a dialing side has come. */
export type Beginning =
  /** This is no CURVE client. */
  | { readonly kind: "foreign" }
  /** It may turn out to be anything yet. */
  | { readonly kind: "begun" }
  /** The first `passable` bytes have nothing in them that must wait. */
  | { readonly kind: "greeted"; readonly passable: number }
  /** Its INITIATE is whole, from `initiateAt` to `initiateEnd`: who reads it asks whether its key is let in. */
  | { readonly kind: "initiated"; readonly initiateAt: number; readonly initiateEnd: number };

/** Reads all that a dialing side has said so far. */
export function readBeginning(said: Buffer): Beginning {
  if (!startsLikeCurve(said)) return { kind: "foreign" };
  if (said.byteLength < SIGNATURE_BYTES) return { kind: "begun" };
  const header = said.subarray(INITIATE_AT, INITIATE_AT + LONG_HEADER_BYTES);
  const passable = Math.min(said.byteLength, INITIATE_AT);
  if (header.byteLength > 0 && header[0] !== INITIATE_FLAGS) return { kind: "foreign" };
  if (header.byteLength < LONG_HEADER_BYTES) return { kind: "greeted", passable };
  const bytes = header.readBigUInt64BE(1);
  const body = said.subarray(INITIATE_AT + LONG_HEADER_BYTES);
  if (bytes > BigInt(INITIATE_BYTES_MAX) || !isPrefix(body, INITIATE_NAME)) return { kind: "foreign" };
  const initiateEnd = INITIATE_AT + LONG_HEADER_BYTES + Number(bytes);
  return said.byteLength < initiateEnd
    ? { kind: "greeted", passable }
    : { kind: "initiated", initiateAt: INITIATE_AT, initiateEnd };
}

function startsLikeCurve(said: Buffer): boolean {
  if (said.byteLength > 0 && said[0] !== 0xff) return false;
  if (said.byteLength >= SIGNATURE_BYTES && said[SIGNATURE_BYTES - 1] !== 0x7f) return false;
  if (said.byteLength > VERSION_AT && said[VERSION_AT]! < 3) return false;
  const mechanism = said.subarray(MECHANISM_AT, MECHANISM_AT + MECHANISM.byteLength);
  const hello = said.subarray(GREETING_BYTES);
  return isPrefix(mechanism, MECHANISM) && isPrefix(hello, HELLO);
}

/** Whether two buffers are the same as far as both go. */
function isPrefix(one: Buffer, other: Buffer): boolean {
  const bytes = Math.min(one.byteLength, other.byteLength);
  return one.compare(other, 0, bytes, 0, bytes) === 0;
}

/** Name, nonce, authenticator and flags of an encrypted MESSAGE. */
const MESSAGE_OVERHEAD_BYTES = 8 + 8 + 16 + 1;

/** What one part of a message of so many bytes measures on the line. */
export function lineBytes(partBytes: number): number {
  const bytes = partBytes + MESSAGE_OVERHEAD_BYTES;
  return bytes + (bytes > 255 ? LONG_HEADER_BYTES : 2);
}
