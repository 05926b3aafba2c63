/**
 * Reads a frame's input out of the shared memory and gives it the form that the guest takes: text where the reader reads text,
 * because the host decodes UTF-8 many times faster than an isolate could, bytes otherwise.
 */
import { isAscii } from "node:buffer";
import { readSync } from "node:fs";
import { PACKET_BYTES } from "../../../packets/layout.ts";
import { EXTENT_NUMBERS } from "../process/protocol.ts";

/** Numbers per packet that the guest gets: start, length, file offset, prefix bytes, start and length in the bytes. */
const META_NUMBERS = 6;
/** A buffer that is kept for the next frame. */
const KEEP_BYTES = 8 * 1024 * 1024;
const LF = 0x0a;

/** See Prelude.run for what these are. */
export interface StagedFrame {
  readonly packets: number;
  readonly meta: ArrayBuffer;
  readonly text: string | undefined;
  readonly bytes: ArrayBuffer | undefined;
}

export class InputReader {
  readonly #descriptor: number;
  #kept: Buffer<ArrayBuffer> = Buffer.alloc(0);

  constructor(sharedMemoryDescriptor: number) {
    this.#descriptor = sharedMemoryDescriptor;
  }

  stage(extents: Float64Array, frame: Uint8Array, textual: boolean): StagedFrame {
    const packets = frame.byteLength / PACKET_BYTES;
    const meta = new ArrayBuffer(packets * (META_NUMBERS * 8 + PACKET_BYTES));
    new Uint8Array(meta, packets * META_NUMBERS * 8).set(frame);
    const layout = new Float64Array(meta, 0, packets * META_NUMBERS);
    // A line end behind each packet's text keeps a search for one from running on through the whole frame.
    const gap = textual && packets > 1 ? 1 : 0;
    let total = 0;
    for (let index = 0; index < packets; index++) {
      const extent = index * EXTENT_NUMBERS;
      const at = index * META_NUMBERS;
      const length = extents[extent + 1]!;
      layout[at] = total;
      layout[at + 1] = length;
      layout[at + 2] = extents[extent + 2]!;
      layout[at + 3] = extents[extent + 3]!;
      layout[at + 4] = total;
      layout[at + 5] = length;
      total += length + gap;
    }
    const input = textual ? this.#buffer(total) : Buffer.from(new ArrayBuffer(total));
    this.#fill(input, extents, layout, gap);
    if (!textual) return { packets, meta, text: undefined, bytes: total === 0 ? undefined : input.buffer };
    if (isAscii(input)) return { packets, meta, text: input.toString("latin1"), bytes: undefined };
    return { packets, meta, text: decodeParts(input, layout), bytes: new Uint8Array(input).buffer };
  }

  #buffer(bytes: number): Buffer<ArrayBuffer> {
    if (bytes > KEEP_BYTES) return Buffer.from(new ArrayBuffer(bytes));
    if (this.#kept.byteLength < bytes) this.#kept = Buffer.from(new ArrayBuffer(Math.max(bytes, 64 * 1024)));
    return this.#kept.subarray(0, bytes);
  }

  /** Extents that follow each other in the shared memory are read at once: frames of small inputs are mostly such. */
  #fill(input: Buffer, extents: Float64Array, layout: Float64Array, gap: number): void {
    const packets = layout.length / META_NUMBERS;
    let index = 0;
    while (index < packets) {
      const offset = extents[index * EXTENT_NUMBERS]!;
      const start = layout[index * META_NUMBERS]!;
      let bytes = extents[index * EXTENT_NUMBERS + 1]!;
      let next = index + 1;
      if (gap === 0) {
        for (; next < packets && extents[next * EXTENT_NUMBERS] === offset + bytes; next++) {
          bytes += extents[next * EXTENT_NUMBERS + 1]!;
        }
      } else {
        input[start + bytes] = LF;
      }
      this.#read(input, start, bytes, offset);
      index = next;
    }
  }

  #read(input: Buffer, start: number, bytes: number, offset: number): void {
    for (let done = 0; done < bytes;) {
      const read = readSync(this.#descriptor, input, start + done, bytes - done, offset + done);
      if (read === 0) throw new Error("the shared memory is shorter than the packets say");
      done += read;
    }
  }
}

/** Each packet's text decoded by itself, since one that ends in the middle of a character must not take from the next. */
function decodeParts(input: Buffer, layout: Float64Array): string {
  const packets = layout.length / META_NUMBERS;
  if (packets === 1) {
    const text = input.toString("utf8");
    layout[1] = text.length;
    return text;
  }
  let text = "";
  for (let at = 0; at < layout.length; at += META_NUMBERS) {
    const start = layout[at]!;
    const part = input.toString("utf8", start, start + layout[at + 1]!);
    layout[at] = text.length;
    layout[at + 1] = part.length;
    text += part + "\n";
  }
  return text;
}
