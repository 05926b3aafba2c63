/** What becomes of the packets of one frame while their inputs are gathered: extents of those that can run, and the rest. */
import { PacketfsError } from "../../packets/errors.ts";
import { FaultCode } from "../../packets/faults.ts";
import { PACKET_BYTES } from "../../packets/layout.ts";
import { packetCount } from "../../packets/packet.ts";
import { JobErrorCode, SandboxErrorCode } from "../errors.ts";
import { repeatsInput } from "./packet-queue.ts";

/** Numbers per packet: window offset, bytes, position in the input of the first byte behind the prefix, prefix bytes. */
const EXTENT_NUMBERS = 4;

/** A packet that ends with a FAULT before it ran. */
export interface Refusal {
  readonly packet: Uint8Array;
  readonly code: FaultCode;
  readonly detail: string;
}

export class FrameInputs {
  readonly buffer: StagingBuffer;
  readonly refused: Refusal[] = [];
  readonly #frame: Uint8Array;
  readonly #extents: Float64Array<ArrayBuffer>;
  /** The packets that can run, by their index in the frame; the first `#kept` count. */
  readonly #indexes: Uint16Array;
  #kept = 0;

  constructor(frame: Uint8Array, bytesAtFirst: number) {
    const count = packetCount(frame);
    this.buffer = new StagingBuffer(bytesAtFirst);
    this.#frame = frame;
    this.#extents = new Float64Array(count * EXTENT_NUMBERS);
    this.#indexes = new Uint16Array(count);
  }

  /** Gives packet `index` the bytes of the packet before it, if it names the very same ones. */
  repeat(index: number): boolean {
    const last = this.#kept - 1;
    if (last < 0 || this.#indexes[last] !== index - 1 || !repeatsInput(this.#frame, index)) return false;
    const from = last * EXTENT_NUMBERS;
    this.#extents.copyWithin(from + EXTENT_NUMBERS, from, from + EXTENT_NUMBERS);
    this.#indexes[this.#kept++] = index;
    return true;
  }

  /** Gives packet `index` bytes that begin `position` bytes into the input; the first `prefixBytes` of them do not count. */
  add(index: number, at: number, bytes: number, position: number, prefixBytes: number): void {
    const start = this.#kept * EXTENT_NUMBERS;
    this.#extents[start] = at;
    this.#extents[start + 1] = bytes;
    this.#extents[start + 2] = position;
    this.#extents[start + 3] = prefixBytes;
    this.#indexes[this.#kept++] = index;
  }

  /** Lets packet `index` end with a FAULT. Rethrows what is not the input's fault. */
  refuse(index: number, error: unknown): void {
    if (!(error instanceof PacketfsError) || error.code === SandboxErrorCode.windowFailed) throw error;
    const isRecord = error.code === JobErrorCode.invalidRecord;
    const code = isRecord ? FaultCode.badRecord : FaultCode.inputMissing;
    this.refused.push({ packet: packetAt(this.#frame, index), code, detail: error.message });
  }

  /** Lets every packet that could run end with a FAULT: their inputs are more than the window holds. */
  refuseAll(detail: string): void {
    for (let kept = 0; kept < this.#kept; kept++) {
      const packet = packetAt(this.#frame, this.#indexes[kept]!);
      this.refused.push({ packet, code: FaultCode.memoryLimit, detail });
    }
    this.#kept = 0;
  }

  /** The packets that can run. */
  frame(): Uint8Array {
    if (this.#kept * PACKET_BYTES === this.#frame.byteLength) return this.#frame;
    const frame = new Uint8Array(this.#kept * PACKET_BYTES);
    for (let kept = 0; kept < this.#kept; kept++) {
      frame.set(packetAt(this.#frame, this.#indexes[kept]!), kept * PACKET_BYTES);
    }
    return frame;
  }

  /** Their extents, `base` added to where each begins. */
  extents(base: number): Float64Array {
    const extents = this.#extents.subarray(0, this.#kept * EXTENT_NUMBERS);
    for (let at = 0; at < extents.length; at += EXTENT_NUMBERS) {
      // What has no bytes lies nowhere.
      extents[at] = extents[at + 1] === 0 ? 0 : extents[at]! + base;
    }
    return extents;
  }
}

function packetAt(frame: Uint8Array, index: number): Uint8Array {
  return frame.subarray(index * PACKET_BYTES, (index + 1) * PACKET_BYTES);
}

/** Bytes that are gathered back to back before they are written in one go. */
export class StagingBuffer {
  /** Bytes gathered so far. */
  length = 0;
  #bytes: Uint8Array<ArrayBuffer>;

  constructor(bytesAtFirst: number) {
    this.#bytes = unwrittenBytes(Math.max(bytesAtFirst, 1));
  }

  /** Adds `length` bytes of `source` from `from` on and returns where they begin. */
  append(source: Uint8Array, from: number, length: number): number {
    const at = this.length;
    const end = at + length;
    if (end > this.#bytes.byteLength) this.#grow(end);
    if (length <= LOOP_BYTES_MAX) {
      for (let index = 0; index < length; index++) this.#bytes[at + index] = source[from + index]!;
    } else {
      this.#bytes.set(source.subarray(from, from + length), at);
    }
    this.length = end;
    return at;
  }

  /** What was gathered: a view, valid until more is added. */
  view(): Uint8Array<ArrayBuffer> {
    return this.#bytes.subarray(0, this.length);
  }

  #grow(bytesMin: number): void {
    const larger = unwrittenBytes(Math.max(bytesMin, this.#bytes.byteLength * 2));
    larger.set(this.view());
    this.#bytes = larger;
  }
}

/** Below this a loop is faster than a call that makes a view. */
const LOOP_BYTES_MAX = 48;

/** Bytes that all get written before they are read; as a plain Uint8Array, whose `slice` copies. */
function unwrittenBytes(length: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.allocUnsafeSlow(length).buffer);
}
