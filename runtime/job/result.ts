/** What RETURN and FAULT packets stand for, read wherever it is. */
import { faultErrorCode } from "../../packets/faults.ts";
import { Flag, INLINE_BYTES_MAX } from "../../packets/layout.ts";
import { CHUNK_BYTES_MAX } from "../../packets/limits.ts";
import { flagsAt, fromAt, lengthAt, refOf } from "../../packets/packet.ts";
import { JobError, JobErrorCode } from "../errors.ts";
import { FAULT_MESSAGE_BYTES_MAX, RESULT_BYTES_MAX } from "../limits.ts";
import { execute } from "../stream/execute.ts";
import type { ChunkSource } from "../contracts/chunks.ts";

/** The bytes of a result, in pieces. Rejects with what the source rejects with. */
export async function* resultPieces(
  source: ChunkSource,
  answer: Uint8Array,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void, undefined> {
  const flags = flagsAt(answer, 0);
  const length = lengthAt(answer, 0);
  const ref = refOf(answer, 0);
  if (flags & Flag.INLINE) yield ref.subarray(0, length);
  else if (flags & Flag.STREAM) {
    yield* execute(source, ref, { end: length, outputBytesMax: length, signal });
  } else {
    const [chunk] = await source.read([ref], signal);
    yield chunk!.subarray(0, length);
  }
}

/** The JSON value of a result. Rejects with PFS_JOB_OVER_LIMIT {bytes, max} when it is too long to be one. */
export async function resultValue(
  source: ChunkSource,
  answer: Uint8Array,
  signal: AbortSignal,
): Promise<unknown> {
  const bytes = lengthAt(answer, 0);
  if (bytes > RESULT_BYTES_MAX) {
    throw new JobError(
      JobErrorCode.overLimit,
      `the result has ${bytes} bytes, a value has at most ${RESULT_BYTES_MAX}: store it as a file`,
      { bytes, max: RESULT_BYTES_MAX },
    );
  }
  const pieces: Uint8Array[] = [];
  for await (const piece of resultPieces(source, answer, signal)) pieces.push(piece.slice());
  const text = new TextDecoder().decode(Buffer.concat(pieces));
  try {
    return text === "" ? undefined : JSON.parse(text);
  } catch (cause) {
    throw new JobError(JobErrorCode.internal, "the result is not JSON", { bytes }, { cause });
  }
}

/** The text of a result that stands in its answer; empty for any other. */
export function resultText(answer: Uint8Array): string {
  if ((flagsAt(answer, 0) & Flag.INLINE) === 0) return "";
  return new TextDecoder().decode(refOf(answer, 0).subarray(0, lengthAt(answer, 0)));
}

/** Where a fault happened, for people. */
export interface FaultPlace {
  readonly job: string;
  readonly task: number;
  readonly node: string;
  readonly program: string;
  /** The packet in words: `bytes 0 to 100 of "a.csv"`. */
  readonly packet: string;
}

/** The error for a FAULT packet, with the fault's own text if it can still be read. Never rejects. */
export async function faultError(
  source: ChunkSource,
  answer: Uint8Array,
  { packet, ...place }: FaultPlace,
  signal: AbortSignal,
): Promise<JobError> {
  const code = faultErrorCode(fromAt(answer, 0)) as JobErrorCode;
  const text = await faultText(source, answer, signal).catch(() => "");
  const what = text === "" ? `program "${place.program}" failed on packet ${place.task}` : text;
  // What it was and where stand in one sentence; the program's own stack comes behind it.
  const [sentence, ...stack] = what.split("\n");
  const message = [`${sentence} (${packet}, on node "${place.node}")`, ...stack].join("\n");
  return new JobError(code, message, { ...place });
}

async function faultText(source: ChunkSource, answer: Uint8Array, signal: AbortSignal): Promise<string> {
  const length = lengthAt(answer, 0);
  const ref = refOf(answer, 0);
  const isInline = (flagsAt(answer, 0) & Flag.INLINE) !== 0;
  if (isInline) return new TextDecoder().decode(ref.subarray(0, Math.min(length, INLINE_BYTES_MAX)));
  if (length > CHUNK_BYTES_MAX) return "";
  const [chunk] = await source.read([ref], signal);
  return new TextDecoder().decode(chunk!.subarray(0, Math.min(length, FAULT_MESSAGE_BYTES_MAX)));
}
