/** Answers to packets of packet code: most are a few bytes, which stand in the answer itself. */
import { refAt } from "../../packets/digest.ts";
import { FaultCode } from "../../packets/faults.ts";
import { Flag, INLINE_BYTES_MAX, Op, PACKET_BYTES } from "../../packets/layout.ts";
import { atOf, laneAt, writePacket } from "../../packets/packet.ts";
import type { ChunkSink } from "../contracts/chunks.ts";
import { FAULT_MESSAGE_BYTES_MAX } from "../limits.ts";
import { writeChunks } from "../stream/ingest.ts";

/** What became of a packet: its result, or a fault and the byte of the input that is to blame, if one is. */
export type Outcome = { readonly bytes: Uint8Array } | Fault;

export interface Fault {
  readonly fault: FaultCode;
  readonly reason: string;
  readonly place?: number | undefined;
}

/** The RETURN or FAULT packet for the EXEC at `index` of `frame`. `openSink` is asked for when the answer needs a chunk. */
export async function answerTo(
  frame: Uint8Array,
  index: number,
  outcome: Outcome,
  program: string,
  openSink: () => Promise<ChunkSink>,
): Promise<Uint8Array> {
  const answer = new Uint8Array(PACKET_BYTES);
  const [lane, at] = [laneAt(frame, index), atOf(frame, index)];
  const isFault = "fault" in outcome;
  const bytes = isFault ? faultText(program, at, outcome) : outcome.bytes;
  const isInline = bytes.byteLength <= INLINE_BYTES_MAX;
  const ref = isInline ? bytes : refAt(await writeChunks(await openSink(), [bytes]), 0);
  const fields = { lane, at, length: bytes.byteLength, ref, flags: isInline ? Flag.INLINE : 0 };
  if (isFault) writePacket(answer, 0, { ...fields, op: Op.FAULT, from: outcome.fault });
  else writePacket(answer, 0, { ...fields, op: Op.RETURN });
  return answer;
}

/** In the words of other programs' faults, which job/results.ts looks for the place in. */
function faultText(program: string, at: number, { fault, place, reason }: Fault): Uint8Array {
  const where = place === undefined ? `packet ${at}` : `packet ${at} at byte ${place}`;
  const isRecord = fault === FaultCode.badRecord;
  const what = isRecord ? "its input is not what the program takes" : "its input cannot be read";
  const text = `program "${program}" failed on ${where}: ${what}: ${reason}`;
  return new TextEncoder().encode(text).subarray(0, FAULT_MESSAGE_BYTES_MAX);
}
