/**
 * What packets yielded, as answers: up to 32 bytes stand in the answer itself, more goes into the sink, as a chunk as long
 * as it fits in one and as a stream beyond. All chunks of a frame are written together.
 */
import { refAt } from "../../packets/digest.ts";
import { INLINE_BYTES_MAX } from "../../packets/layout.ts";
import { CHUNK_BYTES_MAX } from "../../packets/limits.ts";
import { atOf } from "../../packets/packet.ts";
import type { FrameOutcome } from "../sandbox/process/outcome.ts";
import type { Manifest } from "../program/program.ts";
import { ingest, writeChunks } from "../stream/ingest.ts";
import type { ChunkSink } from "../contracts/chunks.ts";
import { AnswerFrame } from "./answer-frame.ts";
import { faultText, reasonOf } from "./fault-text.ts";
import type { Refusal } from "./frame-inputs.ts";

/** Bytes that are too many for their answer. */
interface StoredAnswer {
  readonly index: number;
  readonly status: number;
  readonly bytes: Uint8Array;
}

export class ResultStore {
  readonly #sink: ChunkSink;
  readonly #manifest: Manifest;

  constructor(sink: ChunkSink, manifest: Manifest) {
    this.#sink = sink;
    this.#manifest = manifest;
  }

  /** The answers to the first `outcome.completed` packets of `frame`. Rejects with what the sink rejects with. */
  async answers(frame: Uint8Array, outcome: FrameOutcome): Promise<Uint8Array> {
    const { completed, statuses, offsets, lengths, output } = outcome;
    const answers = new AnswerFrame(frame, completed);
    const stored: StoredAnswer[] = [];
    for (let index = 0; index < completed; index++) {
      const status = statuses[index]!;
      const offset = offsets[index]!;
      const length = lengths[index]!;
      if (status === 0 && length <= INLINE_BYTES_MAX) {
        answers.inline(index, status, output, offset, length);
        continue;
      }
      const bytes = output.subarray(offset, offset + length);
      stored.push({
        index,
        status,
        bytes: status === 0 ? bytes : this.#faultText(frame, index, status, new TextDecoder().decode(bytes)),
      });
    }
    if (stored.length > 0) await this.#store(answers, stored);
    return answers.bytes;
  }

  /** The FAULT packets for packets that have no outcome. */
  async faults(refusals: readonly Refusal[]): Promise<Uint8Array> {
    const frame = Buffer.concat(refusals.map(({ packet }) => packet));
    const answers = new AnswerFrame(frame, refusals.length);
    const stored = refusals.map(({ code, detail }, index) => {
      const text = [reasonOf(this.#manifest, code), detail].filter((part) => part !== "").join(": ");
      return { index, status: code, bytes: this.#faultText(frame, index, code, text) };
    });
    await this.#store(answers, stored);
    return answers.bytes;
  }

  #faultText(frame: Uint8Array, index: number, status: number, detail: string): Uint8Array {
    return faultText(this.#manifest, atOf(frame, index), status, detail);
  }

  async #store(answers: AnswerFrame, stored: readonly StoredAnswer[]): Promise<void> {
    const small = stored.filter(({ bytes }) => bytes.byteLength <= CHUNK_BYTES_MAX);
    const refs = await writeChunks(
      this.#sink,
      small.map(({ bytes }) => bytes),
    );
    small.forEach(({ index, status, bytes }, at) => {
      answers.reference(index, status, bytes.byteLength, refAt(refs, at), false);
    });
    for (const { index, status, bytes } of stored) {
      if (bytes.byteLength <= CHUNK_BYTES_MAX) continue;
      const { root } = await ingest(this.#sink, inPieces(bytes));
      answers.reference(index, status, bytes.byteLength, root, true);
    }
  }
}

async function* inPieces(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.byteLength; at += CHUNK_BYTES_MAX)
    yield bytes.subarray(at, at + CHUNK_BYTES_MAX);
}
