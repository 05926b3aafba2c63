/**
 * What both ends of a bulk channel derive its keys from, and how: one key for each direction, of a secret that came over the
 * encrypted session and is used once. Pure.
 */
import { hkdfSync } from "node:crypto";
import { signedText } from "../trust/keys.ts";

export const TICKET_BYTES = 16;
export const SECRET_BYTES = 32;
/** What the dialing side adds, so that no key is made twice, whatever the port's chance is worth. */
export const BULK_NONCE_BYTES = 32;
const KEY_BYTES = 32;

/** What both sides know once a channel was asked for and granted. */
export interface Agreement {
  /** Names the channel to the port, in the clear; of use once. */
  readonly ticket: Uint8Array;
  /** Known to these two. */
  readonly secret: Uint8Array;
  /** The dialing side's. */
  readonly nonce: Uint8Array;
  /** What stands for the session that it was agreed in, and for both its sides. */
  readonly session: Uint8Array;
  /** Whether bodies that are verified by other means may travel in the clear. */
  readonly isClear: boolean;
}

export const Direction = { toPort: "to the port", fromPort: "from the port" } as const;
export type Direction = (typeof Direction)[keyof typeof Direction];

/** The first key of one direction (HKDF-SHA-256, RFC 5869). */
export function channelKey(agreement: Agreement, direction: Direction): Uint8Array {
  const { ticket, secret, nonce, session, isClear } = agreement;
  const mode = isClear ? "clear bodies" : "sealed";
  const info = signedText(["packetfs 1 bulk", direction, mode, nonce, session]);
  return new Uint8Array(hkdfSync("sha256", secret, ticket, info, KEY_BYTES));
}

/** The key that follows another one, from which that cannot be found. */
export function nextKey(key: Uint8Array): Uint8Array {
  const info = signedText(["packetfs 1 bulk next key"]);
  return new Uint8Array(hkdfSync("sha256", key, new Uint8Array(0), info, KEY_BYTES));
}
