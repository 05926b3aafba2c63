/** Where a frame's results gather: one growing buffer, cut back when a packet fails. */
import type { Faults } from "./faults.ts";
import type { Primordials } from "./primordials.ts";
import type { TextCodec } from "./text-codec.ts";

export interface Output {
  /** Bytes so far. */
  length(): number;
  /** A packet's bytes begin here, and `bytesMax` of them are allowed. */
  begin(bytesMax: number): void;
  /** Fails the packet with `outputLimit` when it would yield too much. */
  text(text: string): void;
  bytes(bytes: Uint8Array, length: number): void;
  /** Forgets what was written behind `length`. */
  cut(length: number): void;
  copyTo(target: Uint8Array, at: number): void;
  /** Empty again; a large buffer is dropped. */
  reset(): void;
}

export interface OutputTools {
  readonly codec: TextCodec;
  readonly faults: Faults;
  /** FaultCode. */
  readonly outputLimit: number;
}

export function makeOutput(p: Primordials, { codec, faults, outputLimit }: OutputTools): Output {
  const FIRST_BYTES = 65536;
  const KEEP_BYTES = 4194304;
  const PIECE = 16384;
  let memory = new p.ArrayBuffer(FIRST_BYTES);
  let buffer = new p.Uint8Array(memory);
  let capacity = FIRST_BYTES;
  let used = 0;
  let end = 0;

  function reserve(bytes: number): void {
    const needed = used + bytes;
    if (needed <= capacity) return;
    let next = capacity * 2;
    if (next < needed) next = needed;
    const larger = new p.ArrayBuffer(next);
    const bytesOfLarger = new p.Uint8Array(larger);
    p.bytesSet(bytesOfLarger, new p.Uint8Array(memory, 0, used));
    memory = larger;
    buffer = bytesOfLarger;
    capacity = next;
  }

  function tooMuch(): never {
    // What the limit is, is said where the program is named (executor/results.ts).
    return faults.fail(outputLimit, "");
  }

  return {
    length: () => used,
    begin(bytesMax) {
      end = used + bytesMax;
    },
    text(text) {
      // Each unit of text is a byte at least.
      if (used + text.length > end) tooMuch();
      for (let at = 0; at < text.length; at += PIECE) {
        let next = at + PIECE;
        if (next < text.length) {
          const last = p.charCodeAt(text, next - 1);
          if (last >= 0xd800 && last < 0xdc00) next--;
        }
        const piece = at === 0 && next >= text.length ? text : p.slice(text, at, next);
        reserve(piece.length * 3);
        used = codec.encode(piece, buffer, used);
        if (used > end) tooMuch();
        at = next - PIECE;
      }
    },
    bytes(bytes, length) {
      if (used + length > end) tooMuch();
      reserve(length);
      p.bytesSet(buffer, bytes, used);
      used += length;
    },
    cut(length) {
      used = length;
    },
    copyTo(target, at) {
      p.bytesSet(target, new p.Uint8Array(memory, 0, used), at);
    },
    reset() {
      used = 0;
      if (capacity <= KEEP_BYTES) return;
      memory = new p.ArrayBuffer(FIRST_BYTES);
      buffer = new p.Uint8Array(memory);
      capacity = FIRST_BYTES;
    },
  };
}
