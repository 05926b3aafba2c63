/** How a bulk channel is asked for over a session, and granted: the metadata of BULK, and of its answer. */
import * as v from "valibot";
import { BULK_NONCE_BYTES, SECRET_BYTES, TICKET_BYTES } from "./keys.ts";

/** What a port says among its features that grants bulk channels. */
export const BULK_FEATURE = "bulk-1";

function bytes(length: number): v.GenericSchema<unknown, Uint8Array> {
  return v.pipe(
    v.instance(Uint8Array),
    v.check((value) => value.byteLength === length, `must have ${length} bytes`),
  );
}

/** BULK: the dialing side's part of the keys, and whether it would have verified bodies in the clear. */
export interface BulkMeta {
  readonly nonce: Uint8Array;
  readonly clear: boolean;
}
export const BulkMeta: v.GenericSchema<unknown, BulkMeta> = v.object({
  nonce: bytes(BULK_NONCE_BYTES),
  clear: v.boolean(),
});

/** The answer: what the port says to the connection that brings the ticket. */
export interface BulkGrantMeta {
  readonly ticket: Uint8Array;
  readonly secret: Uint8Array;
  /** Whether verified bodies travel in the clear: both sides would have it so. */
  readonly clear: boolean;
}
export const BulkGrantMeta: v.GenericSchema<unknown, BulkGrantMeta> = v.object({
  ticket: bytes(TICKET_BYTES),
  secret: bytes(SECRET_BYTES),
  clear: v.boolean(),
});
