/**
 * What becomes of the packets of one frame while their inputs are gathered: those that can run, and where their bytes are; and
 * those that cannot.
 */
import { PacketfsError } from "../../packets/errors.ts";
import { FaultCode } from "../../packets/faults.ts";
import { PACKET_BYTES } from "../../packets/layout.ts";
import { packetCount } from "../../packets/packet.ts";
import { JobErrorCode, SandboxErrorCode } from "../errors.ts";
import { RUN_INPUT_BYTES_MAX } from "../limits.ts";
import { EXTENT_NUMBERS, LAZY_OFFSET } from "../sandbox/process/executor-process.ts";
import { inputFault } from "../stream/inputs.ts";

/** A packet that ends with a FAULT before it ran. */
export interface Refusal {
  readonly packet: Uint8Array;
  readonly code: FaultCode;
  readonly detail: string;
  /** The byte of the input that is to blame, if one is. */
  readonly place?: number;
}

/** What a packet reads, as protocol.ts says; `at` is its place among the bytes of the frame. */
export interface PacketExtent {
  readonly at: number;
  readonly bytes: number;
  readonly place: number;
  readonly prefixBytes: number;
  readonly tailBytes: number;
}

export class FrameInputs {
  readonly count: number;
  readonly buffer: StagingBuffer;
  readonly refused: Refusal[] = [];
  readonly #frame: Uint8Array;
  readonly #extents: Float64Array<ArrayBuffer>;
  /** The packets that can run, by their index in the frame; the first `#kept` count. */
  readonly #indexes: Uint16Array;
  #kept = 0;

  /** `extents` has EXTENT_NUMBERS per packet, whatever they are. */
  constructor(frame: Uint8Array, extents: Float64Array<ArrayBuffer>, bytesAtFirst: number) {
    this.count = packetCount(frame);
    this.buffer = new StagingBuffer(bytesAtFirst);
    this.#frame = frame;
    this.#extents = extents;
    this.#indexes = new Uint16Array(this.count);
  }

  /** Whether what was gathered is enough for one frame: records that are read on for, and headers, can be more than packets say. */
  get isFull(): boolean {
    return this.buffer.length > 2 * RUN_INPUT_BYTES_MAX;
  }

  /** Gives packet `index`, which reads what the packet before it reads, the bytes of that one, if it has any. */
  repeat(index: number): boolean {
    const last = this.#kept - 1;
    if (last < 0 || this.#indexes[last] !== index - 1) return false;
    const from = last * EXTENT_NUMBERS;
    for (let at = from; at < from + EXTENT_NUMBERS; at++)
      this.#extents[at + EXTENT_NUMBERS] = this.#extents[at]!;
    this.#indexes[this.#kept++] = index;
    return true;
  }

  /** Gives packet `index` its bytes. */
  add(index: number, { at, bytes, place, prefixBytes, tailBytes }: PacketExtent): void {
    const start = this.#kept * EXTENT_NUMBERS;
    this.#extents[start] = at;
    this.#extents[start + 1] = bytes;
    this.#extents[start + 2] = place;
    this.#extents[start + 3] = prefixBytes;
    this.#extents[start + 4] = tailBytes;
    this.#indexes[this.#kept++] = index;
  }

  /** Lets packet `index` end with a FAULT. Rethrows what is not the input's fault. */
  refuse(index: number, error: unknown): void {
    if (!(error instanceof PacketfsError) || error.code === SandboxErrorCode.sharedMemoryFailed) throw error;
    const isRecord = error.code === JobErrorCode.invalidRecord;
    const code = isRecord ? FaultCode.badRecord : inputFault(error);
    const refusal = { packet: packetAt(this.#frame, index), code, detail: error.message };
    const { at } = error.data;
    this.refused.push(isRecord && typeof at === "number" ? { ...refusal, place: at } : refusal);
  }

  /** Lets every packet that could run end with a FAULT: their inputs are more than there is room for. */
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
      if (extents[at] !== LAZY_OFFSET) extents[at] = extents[at + 1] === 0 ? 0 : extents[at]! + base;
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
    this.#bytes = unwrittenBytes(bytesAtFirst);
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
const LOOP_BYTES_MAX = 64;
/** So few bytes have room in memory that Node hands out in pieces, which costs a tenth of memory of their own. */
const PIECE_BYTES_MAX = 2048;

/** Bytes that all get written before they are read; as a plain Uint8Array, whose `slice` copies. */
function unwrittenBytes(length: number): Uint8Array<ArrayBuffer> {
  if (length > PIECE_BYTES_MAX) return new Uint8Array(Buffer.allocUnsafeSlow(length).buffer);
  const { buffer, byteOffset } = Buffer.allocUnsafe(length);
  return new Uint8Array(buffer as ArrayBuffer, byteOffset, length);
}
