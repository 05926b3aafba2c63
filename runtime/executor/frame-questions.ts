/**
 * Answers what a program asks while its packets run: who computes a kernel that it calls, and bytes of blocks that were left where
 * they are. The process that asks is not believed: it gets ranges that its packets read, and of files that its program was given.
 */
import { refFromHex } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { PacketfsError } from "../../packets/errors.ts";
import { FaultCode } from "../../packets/faults.ts";
import { Flag } from "../../packets/layout.ts";
import { flagsAt, packetCount, refOf } from "../../packets/packet.ts";
import type {
  EngineDecision,
  KernelCall,
  KernelEngine,
  KernelInput,
  KernelUse,
} from "../contracts/kernels.ts";
import { EngineErrorCode, KernelError } from "../errors.ts";
import { formatDuration } from "../format.ts";
import {
  BLOCK_READ_BYTES_MAX,
  KERNEL_QUESTION_BYTES_MAX,
  KERNEL_VALUES_BYTES_MAX,
  PACKET_GPU_TIMES,
} from "../limits.ts";
import { checkDimensions, paddedBytes } from "../program/kernel/binding.ts";
import { bucketOf, sizeOf, workOf, measuredGpuMs } from "../program/kernel/cost.ts";
import type { Kernel } from "../program/kernel/kernel.ts";
import { KernelUses } from "../program/kernel/uses.ts";
import type { Manifest } from "../program/program.ts";
import { EXTENT_NUMBERS } from "../sandbox/process/executor-process.ts";
import type { Questions } from "../sandbox/process/executor-process.ts";
import {
  ANSWER_BYTES_MAX,
  AnswerKind,
  HELD_ORIGIN,
  QuestionKind,
  READ_QUESTION_BYTES,
  decodeCall,
  decodeRead,
  encodeAnswer,
} from "../sandbox/process/questions.ts";
import type { BlockRange, InputPlace, NodeAnswer } from "../sandbox/process/questions.ts";
import { inputFault } from "../stream/inputs.ts";
import type { InputSource } from "../stream/inputs.ts";
import type { InputBuffer } from "./input-buffer.ts";

/** What all frames of a program are asked with. */
export interface QuestionContext {
  readonly manifest: Pick<Manifest, "description" | "engine" | "files">;
  readonly inputs: InputSource;
  /** Absent where programs compute all kernels themselves. */
  readonly engine: KernelEngine | undefined;
}

/** A frame that runs: its packets, where their inputs are, and the memory that they share with their process. */
export interface AskingFrame {
  readonly frame: Uint8Array;
  readonly extents: Float64Array;
  readonly space: InputBuffer;
}

/** A range of a stream, or of a chunk. */
interface BlockBytes {
  readonly root: Ref;
  readonly from: number;
  readonly length: number;
  readonly isChunk?: boolean;
}

type AskedInput = { readonly bytes: Uint8Array } | BlockBytes;

/** What the program computes itself, and since when by its thread's clock. */
interface OwnCall {
  readonly index: number;
  /** Absent where no engine wants to hear of it. */
  readonly call: KernelCall | undefined;
  readonly decision: Pick<EngineDecision, "engineClass" | "predictedMs" | "reason">;
  readonly bucket: number;
  readonly sinceMs: number;
}

const BY_ITSELF = { engineClass: "cpu", reason: "nothing else computes kernels here" } as const;

export class FrameQuestions implements Questions {
  readonly #context: QuestionContext;
  readonly #frame: AskingFrame;
  readonly #kernels: readonly Kernel[];
  readonly #files: readonly BlockBytes[];
  readonly #abort = new AbortController();
  readonly #uses = new KernelUses();
  /** What the last answer put into the shared memory, until it is taken. */
  #placed: number | undefined;
  /** Outputs that had no room there. */
  #held: Uint8Array | undefined;
  #own: OwnCall | undefined;
  /** The packet that called a kernel last, and what its calls took of a GPU's own time. */
  #packet = 0;
  #gpuMs = 0;

  constructor(context: QuestionContext, frame: AskingFrame) {
    const { description, files = {} } = context.manifest;
    this.#context = context;
    this.#frame = frame;
    this.#kernels = description.kernels ?? [];
    this.#files = Object.values(files).map(({ root, length }) => ({
      root: refFromHex(root)!,
      from: 0,
      length,
    }));
  }

  /** What calls took that it was not told of before. */
  uses(): KernelUse[] {
    return this.#uses.take();
  }

  /** The frame is over, however. */
  close(): void {
    this.#abort.abort(new Error("the frame is over"));
    this.#forget();
  }

  bodyBytesMax(kind: number): number {
    if (kind === QuestionKind.read) return READ_QUESTION_BYTES;
    return kind === QuestionKind.call ? KERNEL_QUESTION_BYTES_MAX + KERNEL_VALUES_BYTES_MAX : 0;
  }

  ask(kind: number, body: Uint8Array, cpuMs: number): Promise<Uint8Array> | undefined | false {
    if (kind === QuestionKind.computed) return this.#computed(cpuMs);
    const answer = kind === QuestionKind.read ? this.#askedToRead(body) : this.#askedToCompute(body, cpuMs);
    return answer && answered(answer);
  }

  #forget(): void {
    if (this.#placed !== undefined) this.#frame.space.free(this.#placed);
    this.#placed = undefined;
  }

  #askedToRead(body: Uint8Array): Promise<NodeAnswer> | false {
    const asked = decodeRead(body);
    if (asked === undefined) return false;
    this.#forget();
    if (asked.origin === HELD_ORIGIN) {
      const end = asked.from + asked.length;
      if (this.#held === undefined || end > this.#held.byteLength || asked.length > ANSWER_BYTES_MAX)
        return false;
      return Promise.resolve({ kind: AnswerKind.here, bytes: this.#held.subarray(asked.from, end) });
    }
    const range = this.#rangeOf(asked);
    return range !== undefined && range.isChunk !== true && this.#read(range);
  }

  /** The part of a stream that a block stands for, where the program may have it. */
  #rangeOf({ origin, from, length }: BlockRange): BlockBytes | undefined {
    const { frame, extents } = this.#frame;
    let whole: BlockBytes | undefined;
    if (origin < 0) whole = this.#files[-1 - origin];
    else if (origin < packetCount(frame)) {
      const at = origin * EXTENT_NUMBERS;
      const isChunk = (flagsAt(frame, origin) & Flag.STREAM) === 0;
      whole = { root: refOf(frame, origin), from: extents[at + 2]!, length: extents[at + 1]!, isChunk };
    }
    if (whole === undefined || from + length > whole.length) return undefined;
    return { ...whole, from: whole.from + from, length };
  }

  async #read({ root, from, length }: BlockBytes): Promise<NodeAnswer> {
    const { space } = this.#frame;
    const stream = await this.#context.inputs.stream(root, this.#abort.signal);
    const wanted = Math.min(length, BLOCK_READ_BYTES_MAX);
    const offset = wanted > ANSWER_BYTES_MAX ? space.allocNow(wanted) : undefined;
    this.#placed = offset;
    if (offset === undefined) {
      const bytes = await stream.read(from, from + Math.min(wanted, ANSWER_BYTES_MAX));
      return { kind: AnswerKind.here, bytes };
    }
    let at = offset;
    for await (const piece of stream.pieces(from, from + wanted)) {
      await space.write(at, piece);
      at += piece.byteLength;
    }
    return { kind: AnswerKind.shared, offset, length: wanted };
  }

  #askedToCompute(body: Uint8Array, cpuMs: number): Promise<NodeAnswer> | false {
    const decoded = decodeCall(body);
    if (decoded === undefined) return false;
    // A call before it that did not come to its end is nobody's measure.
    this.#own = undefined;
    const { question, values } = decoded;
    // One packet runs after the other.
    if (question.packet < this.#packet || question.packet >= packetCount(this.#frame.frame)) return false;
    if (question.packet > this.#packet) this.#gpuMs = 0;
    this.#packet = question.packet;
    const kernel = this.#kernels[question.kernel];
    const inputs = kernel && this.#inputsOf(kernel, question.inputs, values);
    if (kernel === undefined || inputs === undefined) return false;
    this.#forget();
    this.#held = undefined;
    const { engine } = this.#context.manifest;
    const call = {
      kernel,
      dimensions: question.dimensions,
      ...(engine === undefined ? {} : { engine }),
    };
    return this.#compute(question.kernel, call, inputs, cpuMs);
  }

  /** Undefined where they are not as many, or not those that the program may have. */
  #inputsOf(
    kernel: Kernel,
    places: readonly InputPlace[],
    values: Uint8Array,
  ): readonly AskedInput[] | undefined {
    if (places.length !== kernel.inputs.length) return undefined;
    const inputs: AskedInput[] = [];
    let at = 0;
    for (const { origin, from, length } of places) {
      if (origin === undefined) {
        if (at + length > values.byteLength) return undefined;
        inputs.push({ bytes: values.subarray(at, at + length) });
        at += paddedBytes(length);
        continue;
      }
      const range = this.#rangeOf({ origin, from: from!, length });
      if (range === undefined) return undefined;
      inputs.push(range);
    }
    return at === values.byteLength ? inputs : undefined;
  }

  async #compute(
    index: number,
    asked: Omit<KernelCall, "inputs">,
    inputs: readonly AskedInput[],
    cpuMs: number,
  ): Promise<NodeAnswer> {
    const { kernel, dimensions } = asked;
    checkDimensions(kernel, dimensions, inputs.map(lengthOf));
    const size = sizeOf({ kernel, dimensions, inputs });
    const { outputBytes } = size;
    const { engine, manifest } = this.#context;
    const { memoryBytes } = manifest.description.limits;
    // Nobody holds outputs for a program that has no room for them.
    if (outputBytes > memoryBytes) {
      const text = `${kernel.name} gives ${outputBytes} bytes, more than the program's limits.memoryBytes, ${memoryBytes}`;
      return { kind: AnswerKind.fault, code: FaultCode.memoryLimit, text };
    }
    const bucket = bucketOf(workOf(size));
    if (engine === undefined) {
      this.#own = { index, call: undefined, decision: BY_ITSELF, bucket, sinceMs: cpuMs };
      return { kind: AnswerKind.compute };
    }
    const given = await Promise.all(inputs.map((input) => this.#kernelInput(input)));
    this.#abort.signal.throwIfAborted();
    const { space } = this.#frame;
    const { path } = space;
    const isLarge = outputBytes > ANSWER_BYTES_MAX && path !== undefined;
    const offset = isLarge ? space.allocNow(outputBytes) : undefined;
    this.#placed = offset;
    const call = {
      ...asked,
      inputs: given,
      ...(offset === undefined ? {} : { output: { path: path!, offset, length: outputBytes } }),
    };
    const { answer, ...decision } = await this.#run(engine, call);
    if (answer === undefined) {
      this.#forget();
      this.#own = { index, call, decision, bucket, sinceMs: cpuMs };
      return { kind: AnswerKind.compute };
    }
    const milliseconds = measuredGpuMs(answer.times);
    const { compileMs, kernelMs } = answer.times;
    this.#uses.add({ kernel: index, engine: "gpu", decision, bucket, milliseconds, compileMs });
    this.#gpuMs += kernelMs;
    const fault = this.#gpuFault();
    if (fault !== undefined) return fault;
    if (offset !== undefined) return { kind: AnswerKind.shared, offset, length: outputBytes };
    const bytes = answer.outputs;
    if (bytes?.byteLength !== outputBytes)
      throw new Error("an engine gave other outputs than it was asked for");
    if (outputBytes <= ANSWER_BYTES_MAX) return { kind: AnswerKind.here, bytes };
    this.#held = bytes;
    return { kind: AnswerKind.held, length: outputBytes };
  }

  /** Each call has a limit of its own; of many short ones, a packet has one as it has of CPU time. */
  #gpuFault(): NodeAnswer | undefined {
    const { limits, kernels = [] } = this.#context.manifest.description;
    const mostMs = Math.max(
      limits.timeMs * PACKET_GPU_TIMES,
      ...kernels.map((kernel) => kernel.limits.gpuMs),
    );
    if (this.#gpuMs <= mostMs) return undefined;
    this.#forget();
    const text = `its calls of kernels took ${formatDuration(this.#gpuMs)} of the GPU's time, more than the ${formatDuration(mostMs)} that go with its limit of CPU time: raise limits.timeMs of the program, or use smaller splits`;
    return { kind: AnswerKind.fault, code: FaultCode.timeLimit, text };
  }

  /** Who writes outputs may come to it when the frame's process has ended. */
  async #run(engine: KernelEngine, call: KernelCall): Promise<EngineDecision> {
    const release = this.#frame.space.hold();
    try {
      return await engine.run(call, this.#abort.signal);
    } finally {
      release();
    }
  }

  /** Accelerators read streams themselves, and get what is of a chunk. */
  async #kernelInput(input: AskedInput): Promise<KernelInput> {
    if ("bytes" in input) return input;
    const { root, from, length } = input;
    if (input.isChunk !== true) return { root, from, length };
    const [chunk] = await this.#context.inputs.chunks([root], this.#abort.signal);
    return { bytes: chunk!.subarray(from, from + length) };
  }

  /** The program has computed what it was to compute. */
  #computed(cpuMs: number): undefined | false {
    const own = this.#own;
    if (own === undefined) return false;
    this.#own = undefined;
    const { index: kernel, decision, bucket, call } = own;
    const milliseconds = cpuMs - own.sinceMs;
    this.#uses.add({ kernel, engine: "cpu", decision, bucket, milliseconds });
    if (call !== undefined) this.#context.engine?.computed(call, milliseconds);
    return undefined;
  }
}

function lengthOf(input: AskedInput): number {
  return "bytes" in input ? input.bytes.byteLength : input.length;
}

/** What goes wrong with a call or with reading is the packet's fault, or its input's, or the GPU's. Rejects with defects. */
async function answered(answer: Promise<NodeAnswer>): Promise<Uint8Array> {
  try {
    return encodeAnswer(await answer);
  } catch (error) {
    if (!(error instanceof PacketfsError)) throw error;
    return encodeAnswer({ kind: AnswerKind.fault, code: faultOf(error), text: error.message });
  }
}

function faultOf(error: PacketfsError): FaultCode {
  if (error instanceof KernelError) return FaultCode.threw;
  return error.code === EngineErrorCode.engineLost ? FaultCode.engineLost : inputFault(error);
}
