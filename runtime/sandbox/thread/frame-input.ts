/**
 * Reads a frame's input out of the shared memory and gives it the form that the guest takes: text where the reader reads
 * text, because the host decodes many times faster than an isolate could, bytes otherwise. Text is never altered on the
 * way: a packet whose bytes are not of its encoding has the text before the first that is not, and fails where that ends.
 */
import { isAscii, isUtf8 } from "node:buffer";
import { readSync } from "node:fs";
import { packetCount } from "../../../packets/packet.ts";
import type { TextEncoding } from "../../program/readers.ts";
import { EXTENT_NUMBERS, LAZY_OFFSET } from "../process/protocol.ts";
import { EXCHANGE_LAYOUT, META_NUMBERS } from "./exchange.ts";
import type { Exchange } from "./exchange.ts";

const NOWHERE = -1;
/** A buffer that is kept for the next frame. */
const KEEP_BYTES = 8 * 1024 * 1024;
const LF = 0x0a;

/** What a guest gets of a frame beside what stands in its exchange: see Prelude.run. */
export interface GuestFrame {
  readonly packets: number;
  readonly text: string | undefined;
  readonly bytes: ArrayBuffer | undefined;
}

/** Whom a frame is for. */
interface StagedGuest {
  readonly exchange: Exchange;
  readonly encoding: TextEncoding | undefined;
}

export class InputReader {
  readonly #descriptor: number;
  #kept: Buffer<ArrayBuffer> = Buffer.alloc(0);

  constructor(sharedMemoryDescriptor: number) {
    this.#descriptor = sharedMemoryDescriptor;
  }

  /**
   * Into the guest's exchange as far as it belongs there. Without an encoding the guest gets bytes. Inputs that were not carried
   * along are read.
   */
  stage(
    extents: Float64Array,
    frame: Uint8Array,
    { exchange, encoding }: StagedGuest,
    carried?: Uint8Array,
  ): GuestFrame {
    const packets = packetCount(frame);
    exchange.packets.set(frame);
    const layout = exchange.numbers.subarray(0, packets * META_NUMBERS);
    // A line end behind each packet's text keeps a search for one from running on through the whole frame.
    const gap = encoding !== undefined && packets > 1 ? 1 : 0;
    let total = 0;
    for (let index = 0; index < packets; index++) {
      const extent = index * EXTENT_NUMBERS;
      const at = index * META_NUMBERS;
      if (index > 0 && repeatsExtent(extents, extent)) {
        repeatLayout(layout, at);
        continue;
      }
      const length = extents[extent + 1]!;
      const isLazy = extents[extent] === LAZY_OFFSET;
      layout[at] = isLazy ? LAZY_OFFSET : total;
      layout[at + 1] = length;
      layout[at + 2] = extents[extent + 2]!;
      layout[at + 3] = extents[extent + 3]!;
      layout[at + 4] = extents[extent + 4]!;
      layout[at + 5] = length;
      layout[at + 6] = NOWHERE;
      layout[at + 7] = 0;
      if (!isLazy) total += length + gap;
    }
    if (encoding === undefined) {
      const isSmall = total <= EXCHANGE_LAYOUT.inputBytes;
      const bytes = isSmall ? exchange.input : new Uint8Array(total);
      this.#fill(bytes, extents, layout, gap, carried);
      return { packets, text: undefined, bytes: isSmall ? undefined : (bytes.buffer as ArrayBuffer) };
    }
    const input = this.#buffer(total);
    this.#fill(input, extents, layout, gap, carried);
    const isSingle = encoding === "latin1" || (encoding === "utf-8" && isAscii(input));
    const text = isSingle ? input.toString("latin1") : decodeParts(input, extents, layout, encoding);
    return { packets, text, bytes: undefined };
  }

  #buffer(bytes: number): Buffer<ArrayBuffer> {
    if (bytes > KEEP_BYTES) return Buffer.from(new ArrayBuffer(bytes));
    if (this.#kept.byteLength < bytes) this.#kept = Buffer.from(new ArrayBuffer(Math.max(bytes, 64 * 1024)));
    return this.#kept.subarray(0, bytes);
  }

  /** Extents that follow each other in the shared memory are read at once: frames of small inputs are mostly such. */
  #fill(
    input: Uint8Array,
    extents: Float64Array,
    layout: Float64Array,
    gap: number,
    carried: Uint8Array | undefined,
  ): void {
    const packets = layout.length / META_NUMBERS;
    let index = 0;
    while (index < packets) {
      const offset = extents[index * EXTENT_NUMBERS]!;
      const start = layout[index * META_NUMBERS]!;
      if (offset === LAZY_OFFSET || (index > 0 && repeatsExtent(extents, index * EXTENT_NUMBERS))) {
        index++;
        continue;
      }
      let bytes = extents[index * EXTENT_NUMBERS + 1]!;
      let next = index + 1;
      if (gap === 0) {
        for (; next < packets && extents[next * EXTENT_NUMBERS] === offset + bytes; next++) {
          bytes += extents[next * EXTENT_NUMBERS + 1]!;
        }
      } else {
        input[start + bytes] = LF;
      }
      if (carried === undefined) this.#read(input, start, bytes, offset);
      else input.set(carried.subarray(offset, offset + bytes), start);
      index = next;
    }
  }

  #read(input: Uint8Array, start: number, bytes: number, offset: number): void {
    for (let done = 0; done < bytes;) {
      const read = readSync(this.#descriptor, input, start + done, bytes - done, offset + done);
      if (read === 0) throw new Error("the shared memory is shorter than the packets say");
      done += read;
    }
  }
}

/** Whether the packet whose extent begins at `extent` has the very input of the one before it: it is there once for both. */
function repeatsExtent(extents: Float64Array, extent: number): boolean {
  for (let at = extent; at < extent + EXTENT_NUMBERS; at++) {
    if (extents[at] !== extents[at - EXTENT_NUMBERS]) return false;
  }
  return true;
}

/** Gives the packet whose numbers begin at `at` those of the one before it. */
function repeatLayout(layout: Float64Array, at: number): void {
  for (let number = at; number < at + META_NUMBERS; number++) layout[number] = layout[number - META_NUMBERS]!;
}

/**
 * Each packet's text decoded by itself, up to the first bytes that are none. Where its tail ends in the middle of a
 * character, that is left off.
 */
function decodeParts(
  input: Buffer,
  extents: Float64Array,
  layout: Float64Array,
  encoding: "utf-8" | "utf-16le" | "utf-16be",
): string {
  const gap = layout.length > META_NUMBERS ? "\n" : "";
  let text = "";
  for (let at = 0; at < layout.length; at += META_NUMBERS) {
    if (at > 0 && repeatsExtent(extents, (at / META_NUMBERS) * EXTENT_NUMBERS)) {
      repeatLayout(layout, at);
      continue;
    }
    const start = layout[at]!;
    const tailBytes = layout[at + 4]!;
    const whole = input.subarray(start, start + layout[at + 1]!);
    const ownBytes = whole.byteLength - tailBytes;
    const wrong =
      encoding === "utf-8" ? invalidUtf8At(whole) : whole.byteLength % 2 === 1 ? whole.byteLength - 1 : -1;
    const valid = wrong < 0 ? whole : whole.subarray(0, wrong);
    const own = valid.subarray(0, ownBytes);
    if (wrong >= 0) {
      const begun = encoding === "utf-8" ? begunBytes(whole, wrong) : 1;
      const isCutOff = wrong + begun === whole.byteLength;
      const prefixBytes = layout[at + 3]!;
      // What stands in a prefix stands at the beginning of the file.
      const place = wrong < prefixBytes ? wrong : layout[at + 2]! + wrong - prefixBytes;
      layout[at + 6] = isCutOff && wrong >= ownBytes ? NOWHERE : place;
      layout[at + 7] = isCutOff ? Infinity : begun;
    }
    const ownText = decode(own, encoding);
    const tailText = decode(valid.subarray(own.byteLength), encoding);
    layout[at] = text.length;
    layout[at + 1] = ownText.length + tailText.length;
    layout[at + 4] = tailText.length;
    layout[at + 5] = valid.byteLength;
    text += ownText + tailText + gap;
  }
  return text;
}

function decode(bytes: Buffer, encoding: "utf-8" | "utf-16le" | "utf-16be"): string {
  if (bytes.byteLength === 0) return "";
  if (encoding === "utf-8") return bytes.toString("utf8");
  return encoding === "utf-16le"
    ? bytes.toString("utf16le")
    : Buffer.from(bytes).swap16().toString("utf16le");
}

/** How many bytes from `at` on, where there is no character, could begin one: 0 to 3. */
function begunBytes(bytes: Uint8Array, at: number): number {
  const first = bytes[at]!;
  const need = first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
  if (need === 0) return 0;
  let low = first === 0xe0 ? 0xa0 : first === 0xf0 ? 0x90 : 0x80;
  let high = first === 0xed ? 0x9f : first === 0xf4 ? 0x8f : 0xbf;
  let count = 1;
  for (; count < need && bytes[at + count]! >= low && bytes[at + count]! <= high; count++) {
    low = 0x80;
    high = 0xbf;
  }
  return count;
}

/** Where the first character begins that is none, -1 where all are. */
function invalidUtf8At(bytes: Uint8Array): number {
  if (isUtf8(bytes)) return -1;
  // Halved as long as the front half, which may end in the middle of a character, is not to blame.
  let from = 0;
  let to = bytes.byteLength;
  while (to - from > 8) {
    let middle = (from + to) >>> 1;
    while (middle > from && (bytes[middle]! & 0xc0) === 0x80) middle--;
    if (middle === from) break;
    if (isUtf8(bytes.subarray(from, middle))) from = middle;
    else to = middle;
  }
  // A character has at most four bytes.
  for (;;) {
    const size = [1, 2, 3, 4].find((length) => isUtf8(bytes.subarray(from, from + length)));
    if (size === undefined || from + size > bytes.byteLength) return from;
    from += size;
  }
}
