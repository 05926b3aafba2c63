/**
 * A token is one line that a person copies: where the hub is, which keys it has, and a secret that its bearer's identity
 * is derived from. A client token makes a client; a join token lets a machine become a node under keys of its own.
 *
 *   pfs1.client.<base64url>      1 version, 1 role, 32 hub's CURVE key, 32 hub's signing key, 32 secret,
 *   pfs1.join.<base64url>        1 length and HOST:PORT, 4 check
 */
import { sha256 } from "../../../packets/digest.ts";
import { WireError, WireErrorCode } from "../../errors.ts";
import { ADDRESS_CHARACTERS_MAX } from "../../limits.ts";
import { parseAddress } from "./address.ts";
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
  /** The hub's HOST:PORT. */
  readonly address: string;
}

const VERSION = 1;
const ROLE_BYTE: Readonly<Record<TokenKind, number>> = { client: 1, join: 2 };
const FIXED_BYTES = 2 + KEY_BYTES + KEY_BYTES + SECRET_BYTES + 1;
const CHECK_BYTES = 4;
const ARTICLE: Readonly<Record<TokenKind, string>> = { client: "a client token", join: "a join token" };

export function formatToken(token: Token): string {
  const address = Buffer.from(token.address, "utf8");
  parseAddress(token.address);
  if (address.byteLength > 255)
    throw invalid("address", `the address "${token.address}" is too long for a token`);
  const body = Buffer.concat([
    Buffer.from([VERSION, ROLE_BYTE[token.kind]]),
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

/** Reads a token of the kind that is needed. Throws PFS_TOKEN_INVALID {reason}; the token itself is never in the error. */
export function parseToken(text: string, needed: TokenKind): Token {
  const match = /^pfs1\.([a-z]+)\.([A-Za-z0-9_-]*)$/.exec(text.trim());
  if (match === null)
    throw invalid(
      "format",
      `this is no token: ${ARTICLE[needed]} is one line that begins with pfs1.${needed}.`,
    );
  const [, kind, encoded] = match as unknown as [string, string, string];
  if (kind !== TokenKind.client && kind !== TokenKind.join) {
    throw invalid("kind", `tokens of the kind "${kind.slice(0, 20)}" are not known to this version`);
  }
  if (kind !== needed)
    throw invalid("kind", `this is ${ARTICLE[kind]}, but ${ARTICLE[needed]} is needed here`);
  const bytes = Buffer.from(encoded, "base64url");
  const addressBytes = bytes[FIXED_BYTES - 1] ?? 0;
  const length = FIXED_BYTES + addressBytes + CHECK_BYTES;
  if (bytes.byteLength <= FIXED_BYTES + CHECK_BYTES || bytes.byteLength < length) {
    throw invalid("truncated", "the token is cut off; copy the whole line");
  }
  const body = bytes.subarray(0, bytes.byteLength - CHECK_BYTES);
  const check = bytes.subarray(bytes.byteLength - CHECK_BYTES);
  // Base64 has several spellings of the same bytes; a token has one.
  const mistyped = !check.equals(checkOf(`pfs1.${kind}.`, body)) || bytes.toString("base64url") !== encoded;
  if (mistyped || bytes.byteLength !== length) {
    throw invalid("mistyped", "the token is damaged; a character is wrong, missing or too many");
  }
  if (bytes[0] !== VERSION || bytes[1] !== ROLE_BYTE[kind]) {
    throw invalid("version", "the token was made by another version of PacketFS");
  }
  let at = 2;
  const take = (size: number): Uint8Array => Uint8Array.from(bytes.subarray(at, (at += size)));
  const [curveKey, signingKey, secret] = [take(KEY_BYTES), take(KEY_BYTES), take(SECRET_BYTES)];
  const address = bytes.toString("utf8", FIXED_BYTES, FIXED_BYTES + addressBytes);
  parseAddress(address);
  return { kind, curveKey, signingKey, secret, address };
}

function checkOf(prefix: string, body: Uint8Array): Uint8Array {
  return sha256(Buffer.concat([Buffer.from(prefix), body])).subarray(0, CHECK_BYTES);
}

function invalid(reason: string, message: string): WireError {
  return new WireError(WireErrorCode.tokenInvalid, message, { reason });
}

if (ADDRESS_CHARACTERS_MAX < 255) throw new Error("a token's address must be a valid address");
