/**
 * Whether a range of bytes holds an odd number of quote characters: all that decides if a CSV field is still quoted
 * behind it, doubled quotes included. Four bytes a step, since only the parity matters and not the count.
 */
const QUOTE = 0x22;
const QUOTES = 0x22222222;
const LOW_BITS = 0x7f7f7f7f;
const NO_WORDS = new Int32Array(0);

export function hasOddQuotes(bytes: Uint8Array): boolean {
  const head = Math.min(-bytes.byteOffset & 3, bytes.byteLength);
  const wordCount = (bytes.byteLength - head) >>> 2;
  const words = wordCount === 0 ? NO_WORDS : new Int32Array(bytes.buffer, bytes.byteOffset + head, wordCount);
  // Each quote leaves the top bit of its byte set; exclusive-or keeps the parity of those bits and forgets the rest.
  let bits = 0;
  for (let index = 0; index < wordCount; index++) {
    const difference = words[index]! ^ QUOTES;
    bits ^= ~(((difference & LOW_BITS) + LOW_BITS) | difference | LOW_BITS);
  }
  bits ^= bits >>> 16;
  bits ^= bits >>> 8;
  let odd = (bits & 0x80) !== 0;
  for (let index = 0; index < head; index++) if (bytes[index] === QUOTE) odd = !odd;
  for (let index = head + wordCount * 4; index < bytes.byteLength; index++) {
    if (bytes[index] === QUOTE) odd = !odd;
  }
  return odd;
}
