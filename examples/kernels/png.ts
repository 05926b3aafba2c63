/** Pictures as PNG (ISO/IEC 15948), of one byte for each point, stored as it is. */

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
/** A block of deflate that is not compressed holds at most so much. */
const STORED_BYTES_MAX = 0xffff;
/** What sums of Adler-32 are taken modulo. */
const ADLER = 65521;

const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
  let sum = byte;
  for (let bit = 0; bit < 8; bit++) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  return sum;
});

/** A grey picture, row by row from the top; `grey` of a point, by its place among all of them, is 0 to 255. */
export function png(width: number, height: number, grey: (at: number) => number): Uint8Array<ArrayBuffer> {
  // In front of each row stands how it was filtered: it was not.
  const rows = new Uint8Array((width + 1) * height);
  for (let at = 0; at < width * height; at++)
    rows[Math.floor(at / width) * (width + 1) + (at % width) + 1] = grey(at);
  return joined([
    Uint8Array.from(SIGNATURE),
    chunk("IHDR", [bigEndian(width), bigEndian(height), Uint8Array.of(8, 0, 0, 0, 0)]),
    chunk("IDAT", zlib(rows)),
    chunk("IEND", []),
  ]);
}

function chunk(type: string, parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const body = joined([Uint8Array.from(type, (letter) => letter.charCodeAt(0)), ...parts]);
  let sum = 0xffffffff;
  for (const byte of body) sum = (sum >>> 8) ^ CRC[(sum ^ byte) & 0xff]!;
  return joined([bigEndian(body.length - type.length), body, bigEndian(~sum)]);
}

function zlib(bytes: Uint8Array): Uint8Array[] {
  const parts: Uint8Array[] = [Uint8Array.of(0x78, 0x01)];
  let [a, b] = [1, 0];
  for (let at = 0; at < bytes.length; at += STORED_BYTES_MAX) {
    const block = bytes.subarray(at, at + STORED_BYTES_MAX);
    const isLast = at + block.length === bytes.length;
    const { length } = block;
    parts.push(
      Uint8Array.of(isLast ? 1 : 0, length & 0xff, length >> 8, ~length & 0xff, (~length >> 8) & 0xff),
      block,
    );
    for (const byte of block) {
      a = (a + byte) % ADLER;
      b = (b + a) % ADLER;
    }
  }
  return [...parts, bigEndian(b * 0x10000 + a)];
}

function bigEndian(value: number): Uint8Array {
  return Uint8Array.of(value >>> 24, value >>> 16, value >>> 8, value);
}

function joined(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
