/** UTF-8 both ways: isolates have neither TextDecoder nor TextEncoder. Invalid bytes become U+FFFD, as the WHATWG says. */
import type { Primordials } from "./primordials.ts";
import type { TextEncoding } from "../../program/readers.ts";

export interface TextCodec {
  /** The text of bytes `start` to `end`. */
  decode(bytes: Uint8Array, start: number, end: number): string;
  /** The text of a few bytes in some encoding. */
  decodeAs(bytes: Uint8Array, encoding: TextEncoding): string;
  /** How many bytes at the end of `start` to `end` begin a character that is not complete, 0 to 3. */
  cutOff(bytes: Uint8Array, start: number, end: number): number;
  /** Writes `text` at `at`, where at least 3 bytes per UTF-16 unit have room; returns where it ends. */
  encode(text: string, bytes: Uint8Array, at: number): number;
  /** Bytes that `encode` would write. */
  encodedLength(text: string): number;
}

export function makeTextCodec(p: Primordials): TextCodec {
  // More arguments than this make a call slower, and far more overflow the stack.
  const BLOCK = 4096;
  const units = new p.Uint32Array(BLOCK + 2);

  /** Where the run of ASCII that begins at `start` ends, `limit` at the latest. */
  function asciiEnd(bytes: Uint8Array, start: number, limit: number): number {
    let at = start;
    while (at < limit && bytes[at]! < 0x80) at++;
    return at;
  }

  function fromUnits(count: number): string {
    return p.apply(
      p.fromCharCode as never,
      undefined,
      new p.Uint32Array(units.buffer, 0, count) as never,
    ) as string;
  }

  function decode(bytes: Uint8Array, start: number, end: number): string {
    let text = "";
    let at = start;
    while (at < end) {
      const ascii = asciiEnd(bytes, at, at + BLOCK < end ? at + BLOCK : end);
      if (ascii > at) {
        // Programs decode single words, for which a view takes longer than its text.
        const view =
          ascii - at === p.bytesLength(bytes)
            ? bytes
            : new p.Uint8Array(bytes.buffer, bytes.byteOffset + at, ascii - at);
        text += p.apply(p.fromCharCode as never, undefined, view as never) as string;
        at = ascii;
      }
      let count = 0;
      while (at < end && count < BLOCK) {
        const first = bytes[at]!;
        // Back to the fast path once text is ASCII again, but not for single spaces between words.
        if (first < 0x80 && count > 64 && at + 4 < end && bytes[at + 1]! < 0x80 && bytes[at + 3]! < 0x80)
          break;
        const need = first < 0xc2 ? 0 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : first < 0xf5 ? 3 : 0;
        at++;
        if (need === 0) {
          units[count++] = first < 0x80 ? first : 0xfffd;
          continue;
        }
        let point = first & (0x3f >> need);
        let left = need;
        let low = first === 0xe0 ? 0xa0 : first === 0xf0 ? 0x90 : 0x80;
        let high = first === 0xed ? 0x9f : first === 0xf4 ? 0x8f : 0xbf;
        while (left > 0 && at < end) {
          const byte = bytes[at]!;
          if (byte < low || byte > high) break;
          low = 0x80;
          high = 0xbf;
          point = (point << 6) | (byte & 0x3f);
          left--;
          at++;
        }
        if (left > 0) {
          units[count++] = 0xfffd;
        } else if (point < 0x10000) {
          units[count++] = point;
        } else {
          units[count++] = 0xd7c0 + (point >> 10);
          units[count++] = 0xdc00 | (point & 0x3ff);
        }
      }
      if (count > 0) text += fromUnits(count);
    }
    return text;
  }

  function cutOff(bytes: Uint8Array, start: number, end: number): number {
    for (let back = 1; back <= 3 && end - back >= start; back++) {
      const byte = bytes[end - back]!;
      if (byte < 0x80) return 0;
      if (byte < 0xc0) continue;
      const need = byte < 0xc2 ? 0 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : byte < 0xf5 ? 4 : 0;
      if (need <= back) return 0;
      if (back === 1) return 1;
      // What can no longer become a character is not cut off but wrong.
      const second = bytes[end - back + 1]!;
      if (byte === 0xe0 && second < 0xa0) return 0;
      if (byte === 0xed && second > 0x9f) return 0;
      if (byte === 0xf0 && second < 0x90) return 0;
      if (byte === 0xf4 && second > 0x8f) return 0;
      return back;
    }
    return 0;
  }

  function encode(text: string, bytes: Uint8Array, start: number): number {
    const length = text.length;
    let at = start;
    for (let index = 0; index < length; index++) {
      const unit = p.charCodeAt(text, index);
      if (unit < 0x80) {
        bytes[at++] = unit;
      } else if (unit < 0x800) {
        bytes[at++] = 0xc0 | (unit >> 6);
        bytes[at++] = 0x80 | (unit & 0x3f);
      } else {
        let point = unit;
        if (unit >= 0xd800 && unit <= 0xdfff) {
          const next = unit < 0xdc00 && index + 1 < length ? p.charCodeAt(text, index + 1) : 0;
          if (next >= 0xdc00 && next <= 0xdfff) {
            point = ((unit - 0xd7c0) << 10) | (next & 0x3ff);
            index++;
          } else {
            point = 0xfffd;
          }
        }
        if (point < 0x10000) {
          bytes[at++] = 0xe0 | (point >> 12);
        } else {
          bytes[at++] = 0xf0 | (point >> 18);
          bytes[at++] = 0x80 | ((point >> 12) & 0x3f);
        }
        bytes[at++] = 0x80 | ((point >> 6) & 0x3f);
        bytes[at++] = 0x80 | (point & 0x3f);
      }
    }
    return at;
  }

  function encodedLength(text: string): number {
    const length = text.length;
    let bytes = length;
    for (let index = 0; index < length; index++) {
      const unit = p.charCodeAt(text, index);
      if (unit < 0x80) continue;
      if (unit < 0x800) bytes += 1;
      else if (unit < 0xd800 || unit > 0xdfff) bytes += 2;
      else {
        const next = unit < 0xdc00 && index + 1 < length ? p.charCodeAt(text, index + 1) : 0;
        bytes += 2;
        // A pair is 4 bytes of 2 units.
        if (next >= 0xdc00 && next <= 0xdfff) index++;
      }
    }
    return bytes;
  }

  function decodeAs(bytes: Uint8Array, encoding: TextEncoding): string {
    const length = p.bytesLength(bytes);
    if (encoding === "utf-8") return decode(bytes, 0, length);
    if (encoding === "latin1") return p.apply(p.fromCharCode as never, undefined, bytes as never) as string;
    let text = "";
    for (let at = 0; at + 1 < length; at += 2) {
      const first = bytes[at]!;
      const second = bytes[at + 1]!;
      text += p.fromCharCode(encoding === "utf-16le" ? first | (second << 8) : (first << 8) | second);
    }
    return text;
  }

  return { decode, decodeAs, cutOff, encode, encodedLength };
}
