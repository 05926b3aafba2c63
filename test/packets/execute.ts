/** The simplest machine there can be: executes plain streams from a map, whole, in memory. What others are compared with. */
import { refToHex, sha256 } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { Op } from "../../packets/layout.ts";
import { fromAt, lengthAt, opAt, refOf } from "../../packets/packet.ts";
import { checkCall, checkPlan, planRange, skipAt, takeAt, writeLiteral } from "../../packets/plan.ts";
import type { PlanLimits } from "../../packets/plan.ts";
import { Stream } from "../../packets/stream-reader.ts";
import { StreamWriter } from "../../packets/stream-writer.ts";
import type { StreamSummary } from "../../packets/stream-writer.ts";

export const TEST_LIMITS: PlanLimits = { outputBytesMax: 1 << 20, depthMax: 8 };

/** Chunks and streams by ref. */
export class Shelf {
  readonly #chunks = new Map<string, Uint8Array>();

  get size(): number {
    return this.#chunks.size;
  }

  put(bytes: Uint8Array): Ref {
    const ref = sha256(bytes);
    this.#chunks.set(refToHex(ref), bytes);
    return ref;
  }

  has(ref: Ref): boolean {
    return this.#chunks.has(refToHex(ref));
  }

  get(ref: Ref): Uint8Array {
    const bytes = this.#chunks.get(refToHex(ref));
    if (bytes === undefined) throw new Error(`no chunk ${refToHex(ref)}`);
    return bytes;
  }

  /** Writes a stream and keeps its chunks. */
  write(pieces: (writer: StreamWriter) => void, options?: { digest: Ref }): StreamSummary {
    const writer = new StreamWriter((_ref, bytes) => this.put(bytes));
    pieces(writer);
    return writer.finish(options);
  }

  stream(root: Ref): Stream {
    return Stream.parse(this.get(root));
  }

  /** The bytes `from` .. `from + length` of what the root yields. */
  execute(root: Ref, from = 0, length?: number, limits: PlanLimits = TEST_LIMITS): Uint8Array {
    const stream = this.stream(root);
    const wanted = length ?? stream.length - from;
    checkPlan(stream, limits, wanted);
    const output = new Uint8Array(wanted);
    this.#run(stream, from, output, 0, limits);
    return output;
  }

  #run(stream: Stream, from: number, output: Uint8Array, depth: number, limits: PlanLimits): void {
    const plan = planRange(stream, from, output.length);
    const { frame } = stream;
    let done = 0;
    for (let index = plan.first; index < plan.end; index++) {
      const op = opAt(frame, index);
      if (op === Op.NOP) continue;
      const skip = skipAt(plan, index);
      const target = output.subarray(done, done + takeAt(plan, frame, index));
      const source = fromAt(frame, index) + skip;
      if (op === Op.COPY) {
        target.set(this.get(refOf(frame, index)).subarray(source, source + target.length));
      } else if (op === Op.CALL) {
        const callee = this.stream(refOf(frame, index));
        checkCall(frame, index, callee, depth + 1, limits);
        this.#run(callee, source, target, depth + 1, limits);
      } else {
        writeLiteral(frame, index, skip, target);
      }
      done += target.length;
    }
    if (done !== output.length) throw new Error(`${done} bytes of ${output.length}, ${lengthAt(frame, 0)}`);
  }
}
