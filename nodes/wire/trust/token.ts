/**
 * A token is one line that a person copies: which keys the hub has, a secret that its bearer's identity is derived from, and where
 * the hub was when it was made. A client token lets its bearer use the hub, a join token lets a machine become a node under keys of
 * its own. Who the hub is follows from its keys alone, so a token of a hub that moved stays valid: its address is written behind it.
 *
 *   pfs1.client.<base64url>      1 version, 1 kind, 32 hub's CURVE key, 32 hub's signing key, 32 secret,
 *   pfs1.join.<base64url>        1 length and HOST:PORT (or nothing), 4 check
 *   …@HOST:PORT                  the same, of a hub that is elsewhere now
 */
import { sha256 } from "../../../packets/digest.ts";
import { WireError, WireErrorCode } from "../../errors.ts";
import { ADDRESS_CHARACTERS_MAX } from "../../limits.ts";
import { isUnspecified, parseAddress } from "./address.ts";
import { KEY_BYTES, SECRET_BYTES } from "./keys.ts";

export const TokenKind = { client: "client", join: "join" } as const;
export type TokenKind = (typeof TokenKind)[keyof typeof TokenKind];

export interface Token {
  readonly kind: TokenKind;
  /** The hub's public keys, 32 bytes each. */
  readonly curveKey: Uint8Array;
  readonly signingKey: Uint8Array;
  /** 32 bytes: `Identity.fromSecret(secret)` is who its bearer is. */
  readonly secret: Uint8Array;
  /** The hub's HOST:PORT; empty in a token that does not say it. */
  readonly address: string;
}

const VERSION = 1;
const KIND_BYTE: Readonly<Record<TokenKind, number>> = { client: 1, join: 2 };
const FIXED_BYTES = 2 + KEY_BYTES + KEY_BYTES + SECRET_BYTES + 1;
const CHECK_BYTES = 4;
const ARTICLE: Readonly<Record<TokenKind, string>> = { client: "a client token", join: "a join token" };

export function formatToken(token: Token): string {
  const address = Buffer.from(token.address, "utf8");
  if (token.address !== "") parseAddress(token.address);
  if (address.byteLength > 255)
    throw invalid("address", `the address "${token.address}" is too long for a token`);
  const body = Buffer.concat([
    Buffer.from([VERSION, KIND_BYTE[token.kind]]),
    token.curveKey,
    token.signingKey,
    token.secret,
    Buffer.from([address.byteLength]),
    address,
  ]);
  if (body.byteLength !== FIXED_BYTES + address.byteLength) throw new Error("keys and secrets have 32 bytes");
  const prefix = `pfs1.${token.kind}.`;
  return prefix + Buffer.concat([body, checkOf(prefix, body)]).toString("base64url");
}

/**
 * Reads a token of the kind that is needed, whatever white space is in it; the address behind it, if there is one, takes the place
 * of its own. Throws PFS_TOKEN_INVALID {reason}; the token itself is never in the error.
 */
export function parseToken(text: string, needed: TokenKind): Token {
  // A terminal breaks its one line into several, and so it is copied.
  const match = /^pfs1\.([a-z]+)\.([A-Za-z0-9_-]*)(?:@(\S*))?$/.exec(text.replace(/\s+/g, ""));
  if (match === null)
    throw invalid(
      "format",
      `this is no token: ${ARTICLE[needed]} is the whole line, with pfs1.${needed}. at its beginning, that "pfs up" or "pfs token add" printed`,
    );
  const [, kind, encoded, elsewhere] = match as unknown as [string, string, string, string | undefined];
  if (kind !== TokenKind.client && kind !== TokenKind.join) {
    throw invalid("kind", `tokens of the kind "${kind.slice(0, 20)}" are not known to this version`);
  }
  if (kind !== needed)
    throw invalid("kind", `this is ${ARTICLE[kind]}, but ${ARTICLE[needed]} is needed here`);
  const bytes = Buffer.from(encoded, "base64url");
  const addressBytes = bytes[FIXED_BYTES - 1] ?? 0;
  const length = FIXED_BYTES + addressBytes + CHECK_BYTES;
  if (bytes.byteLength < FIXED_BYTES + CHECK_BYTES || bytes.byteLength < length) {
    throw invalid("truncated", "the token is cut off; copy the whole line");
  }
  const body = bytes.subarray(0, bytes.byteLength - CHECK_BYTES);
  const check = bytes.subarray(bytes.byteLength - CHECK_BYTES);
  // Base64 has several spellings of the same bytes; a token has one.
  const mistyped = !check.equals(checkOf(`pfs1.${kind}.`, body)) || bytes.toString("base64url") !== encoded;
  if (mistyped || bytes.byteLength !== length) {
    throw invalid("mistyped", "the token is damaged; a character is wrong, missing or too many");
  }
  if (bytes[0] !== VERSION || bytes[1] !== KIND_BYTE[kind]) {
    throw invalid("version", "the token was made by another version of PacketFS");
  }
  let at = 2;
  const take = (size: number): Uint8Array => Uint8Array.from(bytes.subarray(at, (at += size)));
  const [curveKey, signingKey, secret] = [take(KEY_BYTES), take(KEY_BYTES), take(SECRET_BYTES)];
  const address = elsewhere ?? bytes.toString("utf8", FIXED_BYTES, FIXED_BYTES + addressBytes);
  if (address === "") {
    throw invalid("address", "the token does not say where the hub is; write it behind it: TOKEN@HOST:PORT");
  }
  if (isUnspecified(parseAddress(address).host)) {
    throw invalid(
      "address",
      `nobody can be reached at ${address}; write the hub's address behind the token: TOKEN@HOST:PORT`,
    );
  }
  return { kind, curveKey, signingKey, secret, address };
}

function checkOf(prefix: string, body: Uint8Array): Uint8Array {
  return sha256(Buffer.concat([Buffer.from(prefix), body])).subarray(0, CHECK_BYTES);
}

function invalid(reason: string, message: string): WireError {
  return new WireError(WireErrorCode.tokenInvalid, message, { reason });
}

if (ADDRESS_CHARACTERS_MAX < 255) throw new Error("a token's address must be a valid address");
