/**
 * How a connection to a port begins that is to be a bulk channel. Pure.
 *
 *   OFFSET SIZE FIELD
 *   0      8    "PFSBULK1": no ZMTP connection begins so, whose first byte is 0xff
 *   8      16   ticket
 *   24     32   a hello, sealed with the key that belongs to the ticket: its first record
 */
import { RECORD_HEADER_BYTES, TAG_BYTES } from "./record.ts";
import { TICKET_BYTES } from "./keys.ts";

const MAGIC = Buffer.from("PFSBULK1", "latin1");
const TICKET_AT = MAGIC.byteLength;
const HELLO_AT = TICKET_AT + TICKET_BYTES;
export const BULK_BEGINNING_BYTES: number = HELLO_AT + RECORD_HEADER_BYTES + TAG_BYTES;

export interface BulkBeginning {
  readonly ticket: Uint8Array;
  /** The sealed hello. */
  readonly hello: Uint8Array;
}

/** Whether this may become, or is, the beginning of a bulk channel. */
export function startsLikeBulk(said: Uint8Array): boolean {
  const bytes = Math.min(said.byteLength, MAGIC.byteLength);
  return bytes > 0 && MAGIC.compare(said, 0, bytes, 0, bytes) === 0;
}

/** Undefined while it is not whole. */
export function readBulkBeginning(said: Uint8Array): BulkBeginning | undefined {
  if (said.byteLength < BULK_BEGINNING_BYTES) return undefined;
  return { ticket: said.slice(TICKET_AT, HELLO_AT), hello: said.slice(HELLO_AT, BULK_BEGINNING_BYTES) };
}

/** What is said before the sealed hello. */
export function bulkGreeting(ticket: Uint8Array): Uint8Array {
  return Buffer.concat([MAGIC, ticket]);
}
