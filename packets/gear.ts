/**
 * The gear table: 256 pseudo-random 32-bit numbers, one per byte value, that the chunker's rolling hash adds up.
 * Without a salt it is the same everywhere, so that equal bytes give equal chunks on all machines.
 */
import { createHmac, hash } from "node:crypto";

const GEAR_LABEL = "PacketFS gear";
const WORDS_PER_DIGEST = 8;

/** Words 8n to 8n + 7 are the SHA-256 of the label and the byte n, or its HMAC under the salt, read little-endian. */
export function gearTable(salt?: Uint8Array): Int32Array {
  const table = new Int32Array(256);
  for (let part = 0; part < table.length / WORDS_PER_DIGEST; part++) {
    const message = Buffer.from(`${GEAR_LABEL}${String.fromCharCode(part)}`, "latin1");
    const digest =
      salt === undefined
        ? hash("sha256", message, "buffer")
        : createHmac("sha256", salt).update(message).digest();
    for (let word = 0; word < WORDS_PER_DIGEST; word++) {
      table[part * WORDS_PER_DIGEST + word] = digest.readInt32LE(word * 4);
    }
  }
  return table;
}
