/**
 * Memory that a thread shares with the prelude of an isolate, and so what crosses the isolate's border for a frame: to hand
 * buffers over costs more than many a packet takes. No program sees it: the prelude copies what is for one.
 *
 *   OFFSET      BYTES
 *   0           64 a packet    eight float64 (Prelude.run says which)
 *   packetsAt   64 a packet    the packets
 *   inputAt     inputBytes     inputs of readers of bytes, where these are few
 *   outcomeAt   outcomeBytes   what the frame yielded (protocol.ts), where that is little
 *   askAt       askBytes       what is asked of the node within a frame, and answered (node-questions.ts)
 */
import { PACKET_BYTES } from "../../../packets/layout.ts";
import { FRAME_PACKETS_MAX } from "../../../packets/limits.ts";
import { CARRIED_INPUT_BYTES_MAX, KERNEL_EXCHANGE_BYTES } from "../../limits.ts";

/** Numbers per packet that the guest gets. */
export const META_NUMBERS = 8;
const NUMBER_BYTES = 8;

/** Where what stands in it, as the prelude is told. */
export interface ExchangeLayout {
  readonly packetsAt: number;
  readonly inputAt: number;
  readonly inputBytes: number;
  readonly outcomeAt: number;
  readonly outcomeBytes: number;
  readonly askAt: number;
  readonly askBytes: number;
}

const PACKETS_AT = FRAME_PACKETS_MAX * META_NUMBERS * NUMBER_BYTES;
const INPUT_AT = PACKETS_AT + FRAME_PACKETS_MAX * PACKET_BYTES;
const OUTCOME_AT = INPUT_AT + CARRIED_INPUT_BYTES_MAX;
const OUTCOME_BYTES = 64 * 1024;
const ASK_AT = OUTCOME_AT + OUTCOME_BYTES;

export const EXCHANGE_LAYOUT: ExchangeLayout = {
  packetsAt: PACKETS_AT,
  inputAt: INPUT_AT,
  inputBytes: CARRIED_INPUT_BYTES_MAX,
  outcomeAt: OUTCOME_AT,
  outcomeBytes: OUTCOME_BYTES,
  askAt: ASK_AT,
  askBytes: KERNEL_EXCHANGE_BYTES,
};

export class Exchange {
  /** The system gives it memory where it is written to, and nowhere else. */
  readonly memory: SharedArrayBuffer = new SharedArrayBuffer(ASK_AT + KERNEL_EXCHANGE_BYTES);
  /** META_NUMBERS for each of up to FRAME_PACKETS_MAX packets. */
  readonly numbers: Float64Array = new Float64Array(this.memory, 0, FRAME_PACKETS_MAX * META_NUMBERS);
  /** The packets themselves. */
  readonly packets: Uint8Array = new Uint8Array(this.memory, PACKETS_AT, FRAME_PACKETS_MAX * PACKET_BYTES);
  readonly input: Uint8Array = new Uint8Array(this.memory, INPUT_AT, CARRIED_INPUT_BYTES_MAX);
  readonly asked: Uint8Array = new Uint8Array(this.memory, ASK_AT, KERNEL_EXCHANGE_BYTES);
  readonly #outcome = new Uint8Array(this.memory, OUTCOME_AT, EXCHANGE_LAYOUT.outcomeBytes);

  /** A copy of the outcome of the last frame; undefined when it cannot have so many bytes. */
  outcome(bytes: number): Uint8Array<ArrayBuffer> | undefined {
    if (!Number.isInteger(bytes) || bytes < 0 || bytes > EXCHANGE_LAYOUT.outcomeBytes) return undefined;
    const copy = new Uint8Array(bytes);
    copy.set(this.#outcome.subarray(0, bytes));
    return copy;
  }
}
