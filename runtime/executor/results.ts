/**
 * What packets yielded, as answers: up to 32 bytes stand in the answer itself, more goes into the sink, as a chunk as long
 * as it fits in one and as a stream beyond. All chunks of a frame are written together. A partial result of groups that
 * stands in several buckets is a stream of them, so that whoever needs one of them reads no other.
 */
import { wordChange } from "../../packets/crc32.ts";
import { refAt } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { FaultCode } from "../../packets/faults.ts";
import { readInteger32, writeInteger } from "../../packets/integer.ts";
import { Flag, INLINE_BYTES_MAX, Offset, Op, PACKET_BYTES } from "../../packets/layout.ts";
import { CHUNK_BYTES_MAX } from "../../packets/limits.ts";
import { atOf, encodePacket, laneAt, sealPacket } from "../../packets/packet.ts";
import type { StreamSummary } from "../../packets/stream-writer.ts";
import type { ChunkSink, StoreWriter, WrittenChunks } from "../contracts/chunks.ts";
import type { Refusal } from "./frame-inputs.ts";
import { formatBytes, formatDuration } from "../format.ts";
import { BUCKETS_MAX, FAULT_MESSAGE_BYTES_MAX, RESULT_BLOCK_BYTES, RUN_PACKETS_MAX } from "../limits.ts";
import { SpareMemory } from "../spare-memory.ts";
import type { Manifest } from "../program/program.ts";
import { parseFault, TIME_SOURCE } from "../sandbox/process/executor-process.ts";
import type { Fault, FrameOutcome } from "../sandbox/process/executor-process.ts";
import { ingest, writeChunks, writeStream } from "../stream/ingest.ts";

const ANSWERS_BYTES = RUN_PACKETS_MAX * PACKET_BYTES;
/** Frames whose answers are on their way at a time are few. */
const SPARE_FRAMES_MAX = 4;
/** Of all lanes: of results that are written few are at once on their way. */
const BLOCKS = new SpareMemory(RESULT_BLOCK_BYTES, 2);

/** Bytes that are too many for their answer. */
interface StoredAnswer {
  readonly index: number;
  readonly status: number;
  readonly bytes: Uint8Array;
}

export class ResultStore {
  readonly #sink: ChunkSink;
  readonly #manifest: Manifest;
  /** Whether what packets yield stands in buckets. */
  readonly #isBucketed: boolean;
  /** Of ANSWERS_BYTES each. */
  readonly #spare: Uint8Array[] = [];

  constructor(sink: ChunkSink, manifest: Manifest) {
    this.#sink = sink;
    this.#manifest = manifest;
    this.#isBucketed = yieldsBuckets(manifest);
  }

  /**
   * The answers to the first `outcome.completed` packets of `frame`, in a buffer to be given to `recycle` after use; at once
   * where nothing is to be stored. Rejects with what the sink rejects with.
   */
  answers(frame: Uint8Array, outcome: FrameOutcome): Uint8Array | Promise<Uint8Array> {
    const { completed, statuses, offsets, lengths, output } = outcome;
    const answers = new AnswerFrame(frame, this.#zeros(completed * PACKET_BYTES));
    const stored: StoredAnswer[] = [];
    for (let index = 0; index < completed; index++) {
      const status = statuses[index]!;
      const offset = offsets[index]!;
      const length = lengths[index]!;
      if (status === 0 && length === 0) {
        answers.empty(index);
        continue;
      }
      if (status === 0 && length <= INLINE_BYTES_MAX) {
        answers.inline(index, output, offset, length);
        continue;
      }
      const bytes = output.subarray(offset, offset + length);
      stored.push({
        index,
        status,
        bytes: status === 0 ? bytes : this.#faultText(frame, index, status, parseFault(bytes)),
      });
    }
    return stored.length === 0 ? answers.bytes : this.#store(answers, stored).then(() => answers.bytes);
  }

  /** Nobody looks at these answers any more. */
  recycle(answers: Uint8Array): void {
    const { buffer } = answers;
    if (buffer.byteLength === ANSWERS_BYTES && this.#spare.length < SPARE_FRAMES_MAX) {
      this.#spare.push(new Uint8Array(buffer));
    }
  }

  /** Memory for frames that come one after the other would make V8 look for garbage all the time. */
  #zeros(bytes: number): Uint8Array {
    if (bytes > ANSWERS_BYTES) return new Uint8Array(bytes);
    const spare = this.#spare.pop();
    return spare === undefined
      ? new Uint8Array(ANSWERS_BYTES).subarray(0, bytes)
      : spare.subarray(0, bytes).fill(0);
  }

  /** The FAULT packets for packets that have no outcome. */
  async faults(refusals: readonly Refusal[]): Promise<Uint8Array> {
    const frame = Buffer.concat(refusals.map(({ packet }) => packet));
    const answers = new AnswerFrame(frame, new Uint8Array(frame.byteLength));
    const stored = refusals.map(({ code, detail, place }, index) => {
      const text = [reasonOf(this.#manifest, code), detail].filter((part) => part !== "").join(": ");
      const fault = place === undefined ? { text } : { text, place };
      return { index, status: code, bytes: this.#faultText(frame, index, code, fault) };
    });
    await this.#store(answers, stored);
    return answers.bytes;
  }

  #faultText(frame: Uint8Array, index: number, status: number, fault: Fault): Uint8Array {
    return faultText(this.#manifest, atOf(frame, index), status, fault);
  }

  async #store(answers: AnswerFrame, stored: readonly StoredAnswer[]): Promise<void> {
    const large: { readonly answer: StoredAnswer; readonly buckets: readonly Uint8Array[] }[] = [];
    const small: StoredAnswer[] = [];
    for (const answer of stored) {
      const { status, bytes } = answer;
      const buckets = this.#isBucketed && status === 0 ? bucketsOf(bytes) : [bytes];
      if (buckets.length === 1 && bytes.byteLength <= CHUNK_BYTES_MAX) small.push(answer);
      else large.push({ answer, buckets });
    }
    const refs = await writeChunks(
      this.#sink,
      small.map(({ bytes }) => bytes),
      BLOCKS,
    );
    small.forEach(({ index, status, bytes }, at) => {
      answers.reference(index, status, bytes.byteLength, refAt(refs, at), false);
    });
    for (const { answer, buckets } of large) {
      const { index, status, bytes } = answer;
      const { root } = this.#isBucketed
        ? await this.#writeBuckets(buckets)
        : await ingest(this.#sink, inPieces(bytes), { length: bytes.byteLength });
      answers.reference(index, status, bytes.byteLength, root, true);
    }
  }

  /** A stream of a packet for each, in their order. */
  async #writeBuckets(buckets: readonly Uint8Array[]): Promise<StreamSummary> {
    const small = buckets.filter(({ byteLength }) => byteLength <= CHUNK_BYTES_MAX);
    const refs = await writeChunks(this.#sink, small, BLOCKS);
    const roots: Ref[] = [];
    for (const bytes of buckets)
      if (bytes.byteLength > CHUNK_BYTES_MAX)
        roots.push((await ingest(this.#sink, inPieces(bytes), { length: bytes.byteLength })).root);
    let chunks = 0;
    let streams = 0;
    return await writeStream(this.#sink, buckets.length, (writer, index) => {
      const { byteLength } = buckets[index]!;
      if (byteLength <= CHUNK_BYTES_MAX) writer.copy(refAt(refs, chunks++), 0, byteLength);
      else writer.call(roots[streams++]!, 0, byteLength);
    });
  }
}

/** A writer of results that is opened when there is something to be written, which most lanes never have. */
export class LaneWriter implements ChunkSink {
  readonly #open: () => Promise<StoreWriter>;
  #writer: Promise<StoreWriter> | undefined;
  #uses = 0;
  #quiet: (() => void) | undefined;

  constructor(open: () => Promise<StoreWriter>) {
    this.#open = open;
  }

  write(block: Uint8Array<ArrayBuffer>, lengths: Uint32Array<ArrayBuffer>): Promise<WrittenChunks> {
    return this.use((writer) => writer.write(block, lengths));
  }

  /** Rejects with what `use` rejects with, and where the writer does not open. */
  async use<T>(use: (writer: StoreWriter) => Promise<T>): Promise<T> {
    this.#uses++;
    try {
      this.#writer ??= this.#open();
      return await use(await this.#writer);
    } finally {
      if (--this.#uses === 0) this.#quiet?.();
    }
  }

  /** Once nobody uses it any more. What was written is protected by it until then. */
  async close(): Promise<void> {
    if (this.#uses > 0) await new Promise<void>((resolve) => (this.#quiet = resolve));
    // What could not be opened need not be closed.
    await (await this.#writer?.catch(() => undefined))?.close();
  }
}

/** Whether what packets yield are partial results of groups, which stand in buckets and which only the job itself reads. */
export function yieldsBuckets({ entry, description }: Manifest): boolean {
  return description.yields === "groups" && (entry === "map" || entry === "merge");
}

const LF = 0x0a;

/** Each ends with an empty line. What is behind more of them than there may be stands in the last. */
function bucketsOf(bytes: Uint8Array): Uint8Array[] {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const buckets: Uint8Array[] = [];
  for (let at = 0; at < bytes.byteLength;) {
    const found = bytes[at] === LF ? at : text.indexOf("\n\n", at, "latin1") + 1;
    const end = found <= 0 && bytes[at] !== LF ? bytes.byteLength : found + 1;
    const isLast = buckets.length === BUCKETS_MAX - 1;
    buckets.push(bytes.subarray(at, isLast ? bytes.byteLength : end));
    if (isLast) break;
    at = end;
  }
  return buckets;
}

async function* inPieces(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.byteLength; at += CHUNK_BYTES_MAX)
    yield bytes.subarray(at, at + CHUNK_BYTES_MAX);
}

/** What a packet that yielded nothing is answered with, but for lane and `at`. */
const EMPTY_RETURN = encodePacket({ op: Op.RETURN, flags: Flag.INLINE });
const EMPTY_RETURN_WORD = readInteger32(EMPTY_RETURN, Offset.op);
const EMPTY_RETURN_CHECK = readInteger32(EMPTY_RETURN, Offset.check);

/**
 * RETURN and FAULT packets for a frame of EXEC packets, with their lanes and `at`. A status of 0 is a RETURN, any other the
 * code of a FAULT.
 */
class AnswerFrame {
  /** n × 64 bytes, complete once every packet got its answer. */
  readonly bytes: Uint8Array;
  readonly #questions: Uint8Array;
  readonly #answerView: DataView;
  readonly #questionView: DataView;

  /** The first n packets of `frame` will be answered, each once, in `bytes`, which are zeros. The frame stays as it is. */
  constructor(frame: Uint8Array, bytes: Uint8Array) {
    this.bytes = bytes;
    this.#questions = frame;
    this.#answerView = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#questionView = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  }

  /** Answers with nothing. All but lane and `at` is the same then, so the check follows from these. */
  empty(index: number): void {
    const start = index * PACKET_BYTES;
    const lane = this.#questionView.getUint16(start + Offset.lane, true) << 16;
    const low = this.#questionView.getUint32(start + Offset.at, true);
    const high = this.#questionView.getUint32(start + Offset.at + 4, true);
    let check = EMPTY_RETURN_CHECK ^ wordChange(Offset.op, lane) ^ wordChange(Offset.at, low);
    if (high !== 0) check ^= wordChange(Offset.at + 4, high);
    this.#answerView.setUint32(start, EMPTY_RETURN_WORD | lane, true);
    this.#answerView.setUint32(start + Offset.check, check, true);
    this.#answerView.setUint32(start + Offset.at, low, true);
    this.#answerView.setUint32(start + Offset.at + 4, high, true);
  }

  /** Answers with `length` ≤ 32 bytes of `source` from `from` on. */
  inline(index: number, source: Uint8Array, from: number, length: number): void {
    const ref = this.#begin(index, 0, Flag.INLINE, length);
    for (let at = 0; at < length; at++) this.bytes[ref + at] = source[from + at]!;
    sealPacket(this.bytes, index);
  }

  /** Answers with `length` bytes in the chunk or stream `target`. */
  reference(index: number, status: number, length: number, target: Ref, isStream: boolean): void {
    const ref = this.#begin(index, status, isStream ? Flag.STREAM : 0, length);
    this.bytes.set(target, ref);
    sealPacket(this.bytes, index);
  }

  #begin(index: number, status: number, flags: number, length: number): number {
    const start = index * PACKET_BYTES;
    const lane = laneAt(this.#questions, index);
    this.bytes[start] = status === 0 ? Op.RETURN : Op.FAULT;
    this.bytes[start + Offset.flags] = flags;
    this.bytes[start + Offset.lane] = lane;
    this.bytes[start + Offset.lane + 1] = lane >>> 8;
    writeInteger(this.bytes, start + Offset.at, atOf(this.#questions, index));
    writeInteger(this.bytes, start + Offset.length, length);
    writeInteger(this.bytes, start + Offset.from, status);
    return start + Offset.ref;
  }
}

/**
 * `text` is the program's own, or the runtime's for a packet that did not run to its end. At most FAULT_MESSAGE_BYTES_MAX.
 * The byte of the input stands where job/results.ts looks for it: before anything that a program can have said.
 */
function faultText(manifest: Manifest, at: number, code: number, { text, place }: Fault): Uint8Array {
  const reason = text === "" ? reasonOf(manifest, code) : text;
  const where = place === undefined ? `packet ${at}` : `packet ${at} at byte ${place}`;
  const bytes = new TextEncoder().encode(`program "${manifest.name}" failed on ${where}: ${reason}`);
  if (bytes.byteLength <= FAULT_MESSAGE_BYTES_MAX) return bytes;
  let end = FAULT_MESSAGE_BYTES_MAX;
  // Not in the middle of a character.
  while ((bytes[end]! & 0xc0) === 0x80) end--;
  return bytes.slice(0, end);
}

/** What a code means where the program has not said it itself. */
function reasonOf({ description: { limits } }: Manifest, code: number): string {
  switch (code) {
    case FaultCode.timeLimit:
      return `ran longer than its limit of ${formatDuration(limits.timeMs)} of ${TIME_SOURCE}`;
    case FaultCode.memoryLimit:
      return `needed more memory than its limit of ${formatBytes(limits.memoryBytes)}`;
    case FaultCode.outputLimit:
      return `yielded more than its limit of ${formatBytes(limits.outputBytes)}`;
    case FaultCode.quarantined:
      return "ended its executor process twice, the second time while it ran alone";
    case FaultCode.stalled:
      return `did not end for very long, twice, though it used little of its ${formatDuration(limits.timeMs)} of CPU time`;
    case FaultCode.invalidRange:
    case FaultCode.invalidStream:
    case FaultCode.streamOverLimit:
    case FaultCode.notPlain:
    case FaultCode.wrongDigest:
    case FaultCode.inputMissing:
      return "its input cannot be read";
    case FaultCode.engineLost:
      return "the GPU that its kernels run on is lost";
    case FaultCode.badRecord:
      return "its input is not what the program's reader takes";
    default:
      return "it has no answer";
  }
}
