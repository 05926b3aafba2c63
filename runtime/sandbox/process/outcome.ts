/**
 * What became of a frame, as bytes. The guest writes it, two processes pass it on untouched, and the node reads it
 * without believing any of it.
 *
 *   OFFSET     SIZE FIELD
 *   0          4    c, packets that have an answer: the first c of the frame
 *   4          4    l, packets of these that logged something
 *   8          4c   how many bytes each of the c yielded
 *   8+4c       8l   index of a packet, and the bytes of its log
 *   8+4c+8l    c    statuses
 *   …               the logs, then the outputs, back to back
 */
import { FaultCode } from "../../../packets/faults.ts";
import { PROGRAM_LIMITS_MAX } from "../../limits.ts";

export interface FrameOutcome {
  /** 0, or the FaultCode of a packet that failed. One for each of the `completed` packets. */
  readonly statuses: Uint8Array;
  /** Where each of the `completed` packets' bytes stand in `output`: its result, or the text of its fault. */
  readonly offsets: Uint32Array;
  readonly lengths: Uint32Array;
  readonly output: Uint8Array;
  /** What packets logged, by their index in the frame. */
  readonly logs: readonly { readonly index: number; readonly text: string }[];
  /** Packets that have an answer. When it is less than the frame has, the rest must run one packet a frame. */
  readonly completed: number;
}

const HEAD_BYTES = 8;
const STATUS_MAX: number = Math.max(...Object.values(FaultCode));

/** The bytes that an outcome of `packets` packets can have, when their outputs have `outputBytes` and logs `logBytes`. */
export function outcomeBytesMax(packets: number, outputBytes: number, logBytes: number): number {
  return HEAD_BYTES + packets * 13 + outputBytes + logBytes;
}

/** One packet's fault. */
export function faultOutcome(code: FaultCode, text: string): Uint8Array<ArrayBuffer> {
  const message = Buffer.from(text);
  const bytes = new Uint8Array(HEAD_BYTES + 5 + message.byteLength);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 1, true);
  view.setUint32(HEAD_BYTES, message.byteLength, true);
  bytes[HEAD_BYTES + 4] = code;
  bytes.set(message, HEAD_BYTES + 5);
  return bytes;
}

/** No packet has an answer. */
export function emptyOutcome(): Uint8Array<ArrayBuffer> {
  return new Uint8Array(HEAD_BYTES);
}

/** Reads the outcome of a frame of `packets` packets; undefined when it is not one. `output` is a view. */
export function decodeOutcome(bytes: Uint8Array, packets: number): FrameOutcome | undefined {
  if (bytes.byteLength < HEAD_BYTES) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const completed = view.getUint32(0, true);
  const logCount = view.getUint32(4, true);
  if (completed > packets || logCount > completed) return undefined;
  const logsAt = HEAD_BYTES + completed * 4;
  const statusesAt = logsAt + logCount * 8;
  const textAt = statusesAt + completed;
  if (textAt > bytes.byteLength) return undefined;
  const statuses = bytes.subarray(statusesAt, textAt);
  if (!statuses.every((status) => status <= STATUS_MAX)) return undefined;
  const logs: { index: number; text: string }[] = [];
  let at = textAt;
  for (let entry = logsAt; entry < statusesAt; entry += 8) {
    const index = view.getUint32(entry, true);
    const length = view.getUint32(entry + 4, true);
    if (index >= completed || at + length > bytes.byteLength) return undefined;
    logs.push({ index, text: Buffer.from(bytes.buffer, bytes.byteOffset + at, length).toString() });
    at += length;
  }
  const output = bytes.subarray(at);
  const offsets = new Uint32Array(completed);
  const lengths = new Uint32Array(completed);
  let end = 0;
  for (let index = 0; index < completed; index++) {
    const length = view.getUint32(HEAD_BYTES + index * 4, true);
    if (length > PROGRAM_LIMITS_MAX.outputBytes) return undefined;
    offsets[index] = end;
    lengths[index] = length;
    end += length;
  }
  if (end !== output.byteLength) return undefined;
  return { statuses, offsets, lengths, output, logs, completed };
}
