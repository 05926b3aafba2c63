import { hash } from "node:crypto";
import { REF_BYTES } from "./layout.ts";

/** The 32 bytes that name a chunk, stream or program: the SHA-256 of its plain bytes. */
export type Ref = Uint8Array;

/**
 * SHA-256 of `bytes`, 32 bytes in a buffer of their own. No Buffer: a Buffer's `slice` shares memory where a Uint8Array's
 * copies, and the two are never deeply equal.
 */
export function sha256(bytes: Uint8Array): Ref {
  const digest = hash("sha256", bytes, "buffer");
  return new Uint8Array(digest.buffer, digest.byteOffset, digest.byteLength);
}

/** The key (see refKey) of the SHA-256 of `bytes`, without a buffer for each. */
export function sha256Key(bytes: Uint8Array): string {
  return hash("sha256", bytes, "binary");
}

/** Whether `ref` is the SHA-256 of `bytes`. */
export function isRefOf(ref: Ref, bytes: Uint8Array): boolean {
  return Buffer.compare(hash("sha256", bytes, "buffer"), ref) === 0;
}

/** A ref as 64 hexadecimal digits: what people see. */
export function refToHex(ref: Ref): string {
  return Buffer.from(ref.buffer, ref.byteOffset, ref.byteLength).toString("hex");
}

/** A ref as the key of a map, cheaper to make than hexadecimal digits: one character a byte. */
export function refKey(ref: Ref): string {
  return Buffer.from(ref.buffer, ref.byteOffset, ref.byteLength).toString("latin1");
}

/** The ref whose key it is; of memory that others share, to be read at once. */
export function refOfKey(key: string): Ref {
  return Buffer.from(key, "latin1");
}

/** The ref that `hex` spells, or undefined when it is not 64 hexadecimal digits. */
export function refFromHex(hex: string): Ref | undefined {
  return /^[0-9a-f]{64}$/i.test(hex) ? new Uint8Array(Buffer.from(hex, "hex")) : undefined;
}

/** Equality of two byte strings. Not constant-time: refs are public. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.byteLength === b.byteLength && Buffer.compare(a, b) === 0;
}

/** The `index`-th of refs that stand back to back. A view, not a copy. */
export function refAt(refs: Uint8Array, index: number): Ref {
  return refs.subarray(index * REF_BYTES, (index + 1) * REF_BYTES);
}
