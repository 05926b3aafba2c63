/**
 * Ranges of rows that a GPU could take: whoever decides what computes kernels is asked of each, and told what a thread took for
 * those that are computed here. A GPU that fails, or answers what no run gives, costs time and nothing else; of one that computes,
 * some answers are compared with what a thread makes of the range, the first of each program among them.
 *
 *   range ──▶ a kernel's call ──▶ asked ─┬▶ a GPU's answer ──▶ state ──▶ now and then: here, and compared
 *                                        ╰▶ here ──▶ told what it took
 */
import { CODE_BYTES } from "../../packets/code/format.ts";
import { encodeState } from "../../packets/code/state.ts";
import { sameBytes } from "../../packets/digest.ts";
import { messageOf } from "../../packets/errors.ts";
import type { EngineDecision, KernelCall, KernelEngine } from "../contracts/kernels.ts";
import {
  CODE_COMPARED_RANGES,
  CODE_DIRECT_BYTES_MAX,
  CODE_GPU_BYTES,
  CODE_KERNEL_BYTES_MIN,
  CODE_MODULES_MAX,
  CODE_RANGES_MEASURED,
} from "../limits.ts";
import { bucketOf, kernelKey, sizeOf, workOf, measuredGpuMs } from "../program/kernel/cost.ts";
import type { UsedCall } from "../program/kernel/uses.ts";
import type { Outcome } from "./code-answers.ts";
import type { CodeLane } from "./code-lane.ts";
import type { Input, Meter } from "./piecewise.ts";
import { rowsOf } from "./range-run.ts";

/**
 * Behind the rows, as much as any program may look at: so that a range of bytes which a GPU has for one program is the same for
 * others, whatever they look for.
 */
const BEHIND_BYTES: number = CODE_BYTES;

export interface RowRange {
  readonly lane: CodeLane;
  readonly input: Input;
  /** Whether nothing of it has to be verified any more, so that a run of it takes what it always takes. */
  readonly isVerified: boolean;
  readonly signal: AbortSignal;
}

/** Of a kernel: ranges of which it was measured what a thread takes, and those that GPUs computed. */
interface SeenRanges {
  measured: number;
  byGpu: number;
}

interface RowCall {
  readonly call: KernelCall;
  readonly rows: number;
}

export class RowRanges {
  readonly #engine: KernelEngine;
  readonly #findGpus: (() => Promise<void>) | undefined;
  /** Bytes that a GPU would have been asked for, since there last was nothing to do. */
  #bytes = 0;
  /** Whether a GPU gave another answer than a thread. */
  #isWrong = false;
  /** By kernel, the one that was seen last at the end: programs come and go, and come again. */
  readonly #seen = new Map<string, SeenRanges>();

  /** `findGpus` is called when there is so much to do that a GPU is worth being looked for; again and again, then. It never rejects. */
  constructor(engine: KernelEngine, findGpus: (() => Promise<void>) | undefined) {
    this.#engine = engine;
    this.#findGpus = findGpus;
  }

  /** There is nothing to do. */
  rest(): void {
    this.#bytes = 0;
  }

  /** What comes of a range, by a GPU or by `here`, which adds to a meter. Rejects as that does. */
  async run(range: RowRange, here: (meter: Meter) => Promise<Outcome>): Promise<Outcome> {
    const { lane, isVerified } = range;
    const { program, slot } = lane;
    const offered = rowCall(range);
    if (offered === undefined) return await here(slot);
    const { call, rows } = offered;
    if (isVerified) this.#bytes += range.input.length;
    if (this.#bytes >= CODE_GPU_BYTES) void this.#findGpus?.();
    const { answer, ...decision } = await this.#decide(range, call);
    const bucket = bucketOf(workOf(sizeOf(call)));
    const state = answer?.outputs && program.rowKernel?.state(answer.outputs, rows);
    const found = state && encodeState(program.code, state);
    const gpuMs = answer === undefined ? 0 : measuredGpuMs(answer.times);
    const byGpu: UsedCall = { kernel: 0, engine: "gpu", decision, bucket, milliseconds: gpuMs };
    const seen = this.#seenOf(call);
    if (found !== undefined && seen.byGpu++ % CODE_COMPARED_RANGES !== 0) {
      lane.measured(byGpu);
      return { bytes: found };
    }
    const meter: Meter = { cpuMs: 0 };
    const outcome = await here(meter);
    slot.cpuMs += meter.cpuMs;
    if (!("bytes" in outcome)) return outcome;
    if (isVerified) {
      seen.measured++;
      this.#engine.computed(call, meter.cpuMs);
    }
    if (found !== undefined && sameBytes(found, outcome.bytes)) {
      lane.measured(byGpu);
      return outcome;
    }
    if (found !== undefined) {
      this.#isWrong = true;
      lane.note("a GPU gave another answer than a thread: none here is asked of packet code any more");
    }
    // Where there is no GPU, nobody has to be told which of them did it.
    if (decision.predictedMs === undefined && lane.engine === undefined) return outcome;
    const own: EngineDecision = answer === undefined ? decision : DISBELIEVED;
    lane.measured({ kernel: 0, engine: "cpu", decision: own, bucket, milliseconds: meter.cpuMs });
    return outcome;
  }

  #seenOf({ kernel }: KernelCall): SeenRanges {
    const key = kernelKey(kernel);
    const seen = this.#seen.get(key) ?? { measured: 0, byGpu: 0 };
    this.#seen.delete(key);
    this.#seen.set(key, seen);
    const [oldest = ""] = this.#seen.keys();
    if (this.#seen.size > CODE_MODULES_MAX) this.#seen.delete(oldest);
    return seen;
  }

  /** Whatever goes wrong where a GPU is to do it, who reads the range here does better, or finds what is wrong with it. */
  async #decide({ lane, isVerified, signal }: RowRange, call: KernelCall): Promise<EngineDecision> {
    if (this.#isWrong) return DISBELIEVED;
    // Bytes are verified by all threads at once, and what a thread takes for the others is known before it is compared with.
    const isKnown = isVerified && this.#seenOf(call).measured >= CODE_RANGES_MEASURED;
    if (lane.engine === undefined && !isKnown) return NOT_ASKED;
    try {
      return await this.#engine.run(call, signal);
    } catch (error) {
      signal.throwIfAborted();
      return { engineClass: "cpu", reason: messageOf(error) };
    }
  }
}

const NOT_ASKED: EngineDecision = { engineClass: "cpu", reason: "what a thread takes is not known yet" };
const DISBELIEVED: EngineDecision = { engineClass: "cpu", reason: "a GPU answered what is wrong" };

/** What a GPU would be asked for; undefined where that is not worth a question, or who reads the range has to say more. */
function rowCall({ lane, input }: RowRange): RowCall | undefined {
  const { stream, length, total } = input;
  const { engine, program } = lane;
  const least = engine === "gpu" ? 1 : CODE_KERNEL_BYTES_MIN;
  if (stream === undefined || length < least || length > CODE_DIRECT_BYTES_MAX) return undefined;
  const { code, rowKernel } = program;
  if (rowKernel === undefined) return undefined;
  const { start, end } = rowsOf(code, input);
  // A file that ends within a row is a fault.
  if (start === end || end > total) return undefined;
  const bytes = Math.min(total, end + BEHIND_BYTES) - start;
  const rows = (end - start) / code.rowBytes;
  const place = { root: stream.root, from: start, length: bytes };
  return { call: { ...rowKernel.call({ input: place, bytes, rows }), engine }, rows };
}
