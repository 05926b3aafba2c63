/** What a process that was taken over may ask while its packets run: nothing that they may not read, and nothing that ends its node. */
import { describe, expect, it } from "vitest";
import { refToHex, sha256 } from "../../../packets/digest.ts";
import { FaultCode } from "../../../packets/faults.ts";
import { encodeFrame } from "../../../packets/packet.ts";
import type { ChunkSource } from "../../../runtime/contracts/chunks.ts";
import type { KernelEngine } from "../../../runtime/contracts/kernels.ts";
import { StoreError, StoreErrorCode } from "../../../runtime/errors.ts";
import { PACKET_GPU_TIMES } from "../../../runtime/limits.ts";
import { FrameQuestions } from "../../../runtime/executor/frame-questions.ts";
import { InputBuffer } from "../../../runtime/executor/input-buffer.ts";
import { EXTENT_NUMBERS, LAZY_OFFSET } from "../../../runtime/sandbox/process/executor-process.ts";
import {
  AnswerKind,
  HELD_ORIGIN,
  QuestionKind,
  decodeAnswer,
  encodeRead,
} from "../../../runtime/sandbox/process/questions.ts";
import type { NodeAnswer } from "../../../runtime/sandbox/process/questions.ts";
import { InputSource } from "../../../runtime/stream/inputs.ts";
import { inspectionImage } from "../../../runtime/sandbox/thread/guest-isolate.ts";
import { execStream } from "../../suites/exec-packets.ts";
import { kernelOf } from "../accelerator/kernels.ts";

const kernel = kernelOf({
  inputs: { data: ["bytes", "n"], weights: ["i32", 2] },
  outputs: { out: ["u32", "n"] },
  source: "fn main() {}",
});
const root = sha256(Buffer.from("a stream"));
const other = sha256(Buffer.from("another"));

/** Nothing is there. */
const source = {
  read: (refs: readonly Uint8Array[]) =>
    Promise.reject(
      new StoreError(StoreErrorCode.chunkMissing, "it is not there", { ref: refToHex(refs[0]!) }),
    ),
} as unknown as ChunkSource;

/** Packet 0 is left where it is, bytes 100 to 1,100 of its stream; packet 1 has come along. */
function questionsOf(engine?: KernelEngine, memoryBytes?: number): FrameQuestions {
  const extents = new Float64Array(2 * EXTENT_NUMBERS);
  extents.set([LAZY_OFFSET, 1000, 100, 0, 0, 0, 500, 0, 0, 0]);
  const { description } = inspectionImage();
  const limits = { ...description.limits, memoryBytes: memoryBytes ?? description.limits.memoryBytes };
  const context = {
    manifest: {
      description: { ...description, limits, kernels: [kernel] },
      files: { weights: { root: refToHex(other), length: 64 } },
    },
    inputs: new InputSource(source),
    engine,
  };
  const frame = encodeFrame([execStream(0, root, 100, 1000), execStream(1, root, 0, 500)]);
  const space = new InputBuffer({
    path: undefined,
    hold: () => () => undefined,
    alloc: () => 0,
    free: () => undefined,
    write: () => Promise.resolve(),
  });
  return new FrameQuestions(context, { frame, extents, space });
}

function callOf(question: unknown, values: Uint8Array = new Uint8Array(0)): Uint8Array {
  const text = Buffer.from(typeof question === "string" ? question : JSON.stringify(question));
  const head = Buffer.alloc(4);
  head.writeUInt32LE(text.byteLength);
  return Buffer.concat([head, text, values]);
}

async function answerOf(asked: Promise<Uint8Array> | undefined | false): Promise<NodeAnswer> {
  if (asked === undefined || asked === false) throw new Error("it was no question");
  return decodeAnswer(await asked);
}

const RANGE = { origin: 0, from: 0, length: 8 };
const WEIGHTS = { origin: -1, from: 8, length: 8 };
const CALL = { packet: 0, kernel: 0, dimensions: { n: 8 }, inputs: [RANGE, WEIGHTS] };

describe("a question is none where", () => {
  it.each([
    ["it goes beyond what has come along", { ...RANGE, origin: 1, from: 493 }],
    ["there is no such packet", { ...RANGE, origin: 2 }],
    ["there is no such file", { ...RANGE, origin: -2 }],
    ["it goes beyond the packet's records", { ...RANGE, from: 993 }],
    ["it goes beyond the file", { origin: -1, from: 60, length: 8 }],
    ["nothing is held", { origin: HELD_ORIGIN, from: 0, length: 8 }],
    ["it begins before", { ...RANGE, from: -1 }],
    ["it is endless", { ...RANGE, length: Number.MAX_SAFE_INTEGER }],
  ])("%s", (_name, range) => {
    const questions = questionsOf();
    expect(questions.ask(QuestionKind.read, encodeRead(range), 0)).toBe(false);
    if (range.origin === HELD_ORIGIN) return;
    const call = callOf({ ...CALL, inputs: [range, WEIGHTS] });
    expect(questions.ask(QuestionKind.call, call, 0)).toBe(false);
  });

  it.each([
    ["its text is no JSON", callOf("{")],
    ["its text ends behind it", Buffer.from([255, 0, 0, 0, 1])],
    ["it is empty", new Uint8Array(0)],
    ["it is of no packet", callOf({ ...CALL, packet: undefined })],
    ["there is no such packet", callOf({ ...CALL, packet: 2 })],
    ["there is no such kernel", callOf({ ...CALL, kernel: 1 })],
    ["an input is missing", callOf({ ...CALL, inputs: [RANGE] })],
    ["bytes are missing", callOf({ ...CALL, inputs: [RANGE, { length: 8 }] }, new Uint8Array(4))],
    ["there are more bytes", callOf(CALL, new Uint8Array(4))],
    ["a dimension is no number", callOf({ ...CALL, dimensions: { n: "8" } })],
    ["a length is none", callOf({ ...CALL, inputs: [{ ...RANGE, length: 1.5 }, WEIGHTS] })],
  ])("%s", (_name, body) => {
    expect(questionsOf().ask(QuestionKind.call, body, 0)).toBe(false);
  });

  it("it is of a packet that is over", async () => {
    const questions = questionsOf();
    await answerOf(questions.ask(QuestionKind.call, callOf({ ...CALL, packet: 1 }), 0));
    expect(questions.ask(QuestionKind.call, callOf(CALL), 0)).toBe(false);
  });

  it("nothing was left to the program that it says it has computed", async () => {
    const questions = questionsOf();
    expect(questions.ask(QuestionKind.computed, new Uint8Array(0), 5)).toBe(false);
    expect(await answerOf(questions.ask(QuestionKind.call, callOf(CALL), 5))).toEqual({
      kind: AnswerKind.compute,
    });
    expect(questions.ask(QuestionKind.computed, new Uint8Array(0), 8)).toBeUndefined();
    expect(questions.ask(QuestionKind.computed, new Uint8Array(0), 9)).toBe(false);
    expect(questions.uses()).toMatchObject([
      { kernel: 0, engine: "cpu", engineClass: "cpu", calls: 1, milliseconds: 3 },
    ]);
  });
});

describe("a packet whose calls take too much of the GPU's time, all together", () => {
  /** Of a GPU that takes so long for each call. */
  function askedOf(kernelMs: number): (packet: number) => Promise<NodeAnswer> {
    const times = { totalMs: 1, waitMs: 0, compileMs: 0, uploadMs: 0, downloadMs: 0, uploadedBytes: 0 };
    const answer = { times: { ...times, kernelMs, residentBytes: 0 }, outputs: new Uint8Array(32) };
    const questions = questionsOf({
      run: () => Promise.resolve({ engineClass: "gpu-0", reason: "it is a test", answer }),
      computed: () => undefined,
    });
    return (packet) => answerOf(questions.ask(QuestionKind.call, callOf({ ...CALL, packet }), 0));
  }

  it("fails as one that takes too much of a CPU's, by the call that is too much", async () => {
    const { timeMs } = inspectionImage().description.limits;
    const ask = askedOf(timeMs);
    for (let calls = 0; calls < PACKET_GPU_TIMES; calls++)
      expect(await ask(0)).toMatchObject({ kind: AnswerKind.here });
    expect(await ask(0)).toMatchObject({
      kind: AnswerKind.fault,
      code: FaultCode.timeLimit,
      text: expect.stringContaining("limits.timeMs") as unknown,
    });
    // What it took is none of the next one's.
    for (let calls = 0; calls < PACKET_GPU_TIMES; calls++)
      expect(await ask(1)).toMatchObject({ kind: AnswerKind.here });
  });

  it("but for one call, which has a limit of its own", async () => {
    const { gpuMs } = kernel.limits;
    expect(await askedOf(gpuMs)(0)).toMatchObject({ kind: AnswerKind.here });
  });
});

describe("a question that makes sense", () => {
  it.each([
    ["fails as the program's where dimensions do not fit", { ...CALL, dimensions: { n: 9 } }],
    ["or are others", { ...CALL, dimensions: { n: 8, m: 1 } }],
    ["or none", { ...CALL, dimensions: {} }],
  ])("%s", async (_name, call) => {
    const answer = await answerOf(questionsOf().ask(QuestionKind.call, callOf(call), 0));
    if (Object.keys(call.dimensions).length > 0)
      expect(answer).toMatchObject({ kind: AnswerKind.fault, code: FaultCode.threw });
    else expect(answer.kind).toBe(AnswerKind.fault);
  });

  it("names ranges of streams as they stand in them", async () => {
    const calls: unknown[] = [];
    const questions = questionsOf({
      run: (call) => {
        calls.push(call.inputs);
        return Promise.resolve({ engineClass: "cpu", reason: "it is a test" });
      },
      computed: () => undefined,
    });
    await answerOf(
      questions.ask(QuestionKind.call, callOf({ ...CALL, inputs: [{ ...RANGE, from: 2 }, WEIGHTS] }), 0),
    );
    expect(calls).toEqual([
      [
        { root, from: 102, length: 8 },
        { root: other, from: 8, length: 8 },
      ],
    ]);
  });

  it("for outputs that the program has no memory for reaches no engine", async () => {
    const engine: KernelEngine = { run: () => expect.fail("it was asked"), computed: () => undefined };
    const answer = await answerOf(questionsOf(engine, 31).ask(QuestionKind.call, callOf(CALL), 0));
    expect(answer).toMatchObject({ kind: AnswerKind.fault, code: FaultCode.memoryLimit });
    expect(answer).toHaveProperty("text", expect.stringContaining("gives 32 bytes"));
  });

  it("for bytes that are nowhere fails as an input", async () => {
    const answer = await answerOf(questionsOf().ask(QuestionKind.read, encodeRead(RANGE), 0));
    expect(answer).toMatchObject({ kind: AnswerKind.fault, code: FaultCode.inputMissing });
  });

  it("is given up with its frame", async () => {
    let reason: unknown;
    const begun = Promise.withResolvers<void>();
    const questions = questionsOf({
      run: (_call, signal) =>
        new Promise((_, reject) => {
          begun.resolve();
          signal.addEventListener("abort", () => {
            reason = signal.reason;
            reject(signal.reason as Error);
          });
        }),
      computed: () => undefined,
    });
    const asked = questions.ask(QuestionKind.call, callOf(CALL), 0);
    await begun.promise;
    questions.close();
    await expect(asked).rejects.toThrow("the frame is over");
    expect(reason).toMatchObject({ message: "the frame is over" });
    const late = questionsOf({ run: () => expect.fail("it was asked"), computed: () => undefined });
    const never = late.ask(QuestionKind.call, callOf(CALL), 0);
    late.close();
    await expect(never).rejects.toThrow("the frame is over");
  });
});
