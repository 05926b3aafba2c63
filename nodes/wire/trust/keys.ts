/**
 * An identity is two key pairs: Ed25519 signs a HELLO, CURVE (X25519) encrypts connections. Both are derived from one
 * 32-byte secret, so that a token or a file carries 32 bytes and nothing else has to be kept.
 *
 *   secret ──HKDF "packetfs 1 signing"──▶ Ed25519 seed ──▶ signing key ──SHA-256, first 16 bytes──▶ peer id
 *          └─HKDF "packetfs 1 curve"────▶ X25519 secret ──▶ CURVE key
 */
import { createPrivateKey, createPublicKey, hkdfSync, randomBytes, sign, verify } from "node:crypto";
import type { KeyObject } from "node:crypto";
import { sha256 } from "../../../packets/digest.ts";

export const KEY_BYTES = 32;
export const SECRET_BYTES = 32;
export const SIGNATURE_BYTES = 64;
const PEER_ID_BYTES = 16;

// RFC 8410: everything of the DER forms before the 32 bytes of key.
const PRIVATE_ED25519 = Buffer.from("302e020100300506032b657004220420", "hex");
const PRIVATE_X25519 = Buffer.from("302e020100300506032b656e04220420", "hex");
const PUBLIC_ED25519 = Buffer.from("302a300506032b6570032100", "hex");

/** The public half of an identity: what an allow list and a HELLO hold. */
export interface PublicIdentity {
  /** 32 hexadecimal digits. */
  readonly id: string;
  /** Ed25519 public key, 32 bytes. */
  readonly signingKey: Uint8Array;
  /** CURVE public key, 32 bytes. */
  readonly curveKey: Uint8Array;
}

/** Both halves. The secrets are private fields, so that no log or inspection shows them. */
export class Identity implements PublicIdentity {
  readonly id: string;
  readonly signingKey: Uint8Array;
  readonly curveKey: Uint8Array;
  readonly #secret: Uint8Array;
  readonly #curveSecret: Uint8Array;
  readonly #signer: KeyObject;

  private constructor(secret: Uint8Array) {
    if (secret.byteLength !== SECRET_BYTES) throw new Error("an identity's secret has 32 bytes");
    this.#secret = Uint8Array.from(secret);
    this.#signer = privateKey(PRIVATE_ED25519, derive(secret, "packetfs 1 signing"));
    this.#curveSecret = derive(secret, "packetfs 1 curve");
    this.signingKey = publicBytes(this.#signer);
    this.curveKey = curvePublicKey(this.#curveSecret);
    this.id = peerId(this.signingKey);
  }

  /** The identity that 32 bytes name; the same bytes give the same identity. */
  static fromSecret(secret: Uint8Array): Identity {
    return new Identity(secret);
  }

  /** A fresh identity. */
  static create(): Identity {
    return new Identity(randomBytes(SECRET_BYTES));
  }

  /** The 32 bytes to keep, for a token or a file of mode 0600. */
  exportSecret(): Uint8Array {
    return Uint8Array.from(this.#secret);
  }

  /** The CURVE secret key in the form that ZeroMQ's options take. */
  curveSecretZ85(): string {
    return z85Encode(this.#curveSecret);
  }

  /** Ed25519, 64 bytes. */
  sign(bytes: Uint8Array): Uint8Array {
    return sign(null, bytes, this.#signer);
  }
}

/** The CURVE public key that belongs to a secret one. */
export function curvePublicKey(secret: Uint8Array): Uint8Array {
  return publicBytes(privateKey(PRIVATE_X25519, secret));
}

/** Whether `signature` is one over `bytes` by the holder of `signingKey`. Never throws for what a peer sent. */
export function isSignedBy(signingKey: Uint8Array, bytes: Uint8Array, signature: Uint8Array): boolean {
  if (signingKey.byteLength !== KEY_BYTES || signature.byteLength !== SIGNATURE_BYTES) return false;
  try {
    const der = Buffer.concat([PUBLIC_ED25519, signingKey]);
    return verify(null, bytes, createPublicKey({ key: der, format: "der", type: "spki" }), signature);
  } catch {
    return false;
  }
}

/**
 * What is signed: each field with its length in front of it, and the first one says what it is, so that no signature can be
 * taken for another.
 */
export function signedText(fields: readonly (string | Uint8Array)[]): Uint8Array {
  const parts: Uint8Array[] = [];
  for (const field of fields) {
    const body = typeof field === "string" ? Buffer.from(field, "utf8") : field;
    const length = Buffer.alloc(4);
    length.writeUInt32LE(body.byteLength);
    parts.push(length, body);
  }
  return Buffer.concat(parts);
}

/** The name of the holder of a signing key: 32 hexadecimal digits. */
export function peerId(signingKey: Uint8Array): string {
  return Buffer.from(sha256(signingKey).subarray(0, PEER_ID_BYTES)).toString("hex");
}

/** A key as hexadecimal digits. */
export function keyToHex(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString("hex");
}

/** The public keys of an identity as JSON has them: 64 hexadecimal digits each. */
export interface KeysJson {
  readonly signingKey: string;
  readonly curveKey: string;
}

export function keysToJson({ signingKey, curveKey }: Omit<PublicIdentity, "id">): KeysJson {
  return { signingKey: keyToHex(signingKey), curveKey: keyToHex(curveKey) };
}

export function keysFromJson({ signingKey, curveKey }: KeysJson): Omit<PublicIdentity, "id"> {
  return { signingKey: Buffer.from(signingKey, "hex"), curveKey: Buffer.from(curveKey, "hex") };
}

function derive(secret: Uint8Array, info: string): Uint8Array {
  return new Uint8Array(hkdfSync("sha256", secret, new Uint8Array(0), info, KEY_BYTES));
}

function privateKey(prefix: Uint8Array, bytes: Uint8Array): KeyObject {
  return createPrivateKey({ key: Buffer.concat([prefix, bytes]), format: "der", type: "pkcs8" });
}

function publicBytes(key: KeyObject): Uint8Array {
  const der = createPublicKey(key).export({ format: "der", type: "spki" });
  return Uint8Array.from(der.subarray(der.byteLength - KEY_BYTES));
}

const Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";

/** Z85 (ZeroMQ RFC 32): 4 bytes become 5 characters. The length must be a multiple of 4. */
export function z85Encode(bytes: Uint8Array): string {
  if (bytes.byteLength % 4 !== 0) throw new Error("Z85 takes multiples of 4 bytes");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let text = "";
  for (let at = 0; at < bytes.byteLength; at += 4) {
    const value = view.getUint32(at);
    for (let power = 85 ** 4; power >= 1; power /= 85) text += Z85[Math.floor(value / power) % 85]!;
  }
  return text;
}
