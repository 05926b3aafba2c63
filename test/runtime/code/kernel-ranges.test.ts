/** Packet code where somebody decides what computes it: whatever that one does, or says, answers are the interpreter's. */
import { setImmediate as nextTurn } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { decodeCode } from "../../../packets/code/format.ts";
import { interpret } from "../../../packets/code/interpreter.ts";
import { encodeState } from "../../../packets/code/state.ts";
import type { Ref } from "../../../packets/digest.ts";
import { Flag, Op } from "../../../packets/layout.ts";
import { encodeFrame } from "../../../packets/packet.ts";
import { CodeExecutor } from "../../../runtime/code/code-executor.ts";
import type {
  Engine,
  EngineDecision,
  KernelCall,
  KernelEngine,
  KernelUse,
} from "../../../runtime/contracts/kernels.ts";
import { LaneSlots } from "../../../runtime/lane-slots.ts";
import { CODE_KERNEL_BYTES_MIN, CODE_RANGES_MEASURED } from "../../../runtime/limits.ts";
import { checkDimensions, outputPlaces } from "../../../runtime/program/kernel/binding.ts";
import { KernelAverages } from "../../../runtime/program/kernel/averages.ts";
import { parseKernel } from "../../../runtime/program/kernel/declaration.ts";
import { findAccelerators } from "../../../runtime/accelerator/accelerators.ts";
import { FastestEngine } from "../../../runtime/engine/fastest-engine.ts";
import { GpuEngine } from "../../../runtime/engine/gpu-engine.ts";
import { Store } from "../../../runtime/store/store.ts";
import { ingest } from "../../../runtime/stream/ingest.ts";
import { parseCode } from "../../../sdk/code/parse.ts";
import { Collector } from "../../suites/collector.ts";
import { execStream } from "../../suites/exec-packets.ts";
import { noGpu } from "../../suites/gpu.ts";
import { inOnePiece, randomBytes, temporaryDirectory } from "../store/store-fixture.ts";

const never = new AbortController().signal;
const BYTES = 3 * CODE_KERNEL_BYTES_MIN + 5;
const file = randomBytes("rows", BYTES - (BYTES % 7));
const RANGES = [
  [0, file.byteLength],
  [CODE_KERNEL_BYTES_MIN + 3, CODE_KERNEL_BYTES_MIN + 1],
  [file.byteLength - CODE_KERNEL_BYTES_MIN, CODE_KERNEL_BYTES_MIN],
] as const;
const SOURCES = [
  'count("\\n")',
  'match("ab")',
  "histogram()",
  "bytes().filter(not(anyOf(range(10, 200)))).mean()",
  'rows(7).filter("u16@1", ">", 9999).sum("u32@3")',
  'rows(7).min("i32@2")',
];

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let store: Store;
let root: Ref;

beforeAll(async () => {
  directory = await temporaryDirectory();
  store = await Store.open(directory.path);
  await using writer = await store.openWriter();
  ({ root } = await ingest(writer, inOnePiece(file)));
  await writer.bind({ name: "file", root, length: file.byteLength });
});

afterAll(async () => {
  await store.close();
  await directory[Symbol.asyncDispose]();
});

/** Says of each call what it is told to say of it. */
class ToldEngine implements KernelEngine {
  readonly calls: KernelCall[] = [];
  readonly computedMs: number[] = [];
  readonly #decide: (call: KernelCall) => Uint8Array | undefined;

  constructor(decide: (call: KernelCall) => Uint8Array | undefined) {
    this.#decide = decide;
  }

  async run(call: KernelCall): Promise<EngineDecision> {
    this.calls.push(call);
    const outputs = this.#decide(call);
    const said = { engineClass: "test-0", reason: "a test says so" };
    return outputs === undefined ? said : { ...said, answer: { times: TIMES, outputs } };
  }

  computed(_call: KernelCall, cpuMs: number): void {
    this.computedMs.push(cpuMs);
  }
}

const TIMES = {
  totalMs: 1,
  waitMs: 0,
  compileMs: 0,
  uploadMs: 0,
  kernelMs: 1,
  downloadMs: 0,
  uploadedBytes: 0,
  residentBytes: 0,
};

function executorWith(kernels: KernelEngine | undefined, findGpus?: () => Promise<void>): CodeExecutor {
  return new CodeExecutor({
    id: "code",
    label: "code",
    source: store,
    places: store,
    has: (refs) => store.has(refs),
    openWriter: () => store.openWriter(),
    slots: 1,
    lanes: new LaneSlots(),
    kernels,
    findGpus,
  });
}

/** Hears what calls took, too, and that it is told before the answers. */
class UsesCollector extends Collector {
  readonly uses: KernelUse[] = [];
  readonly answeredBefore: number[] = [];

  measured(uses: readonly KernelUse[]): void {
    this.uses.push(...uses);
    this.answeredBefore.push(this.answers.size);
  }
}

/** States of the ranges, one after the other. */
async function statesBy(
  engine: KernelEngine | undefined,
  source: string,
  { asked, collector = new UsesCollector() }: { asked?: Engine; collector?: UsesCollector } = {},
): Promise<string[]> {
  await using executor = executorWith(engine);
  const program = { inline: parseCode(source).packetCode, engine: asked };
  const lane = await executor.load(program, collector, never);
  const states: string[] = [];
  let packets = 0;
  const run = async (from: number, length: number): Promise<number> => {
    lane.exec(encodeFrame([execStream(packets, root, from, length)]));
    await collector.answered(++packets);
    return packets - 1;
  };
  // Verified by a thread, and measured.
  if (asked === undefined)
    for (let count = 0; count < 1 + CODE_RANGES_MEASURED; count++) await run(0, file.byteLength);
  for (const [from, length] of RANGES) {
    const at = await run(from, length);
    const answer = collector.answer(at);
    expect(answer.op).toBe(Op.RETURN);
    const isInline = (answer.flags & Flag.INLINE) !== 0;
    const bytes = isInline ? answer.ref.subarray(0, answer.length) : (await store.read([answer.ref]))[0]!;
    states.push(Buffer.from(bytes).toString("hex"));
  }
  await lane.close();
  expect(collector.offences).toEqual([]);
  return states;
}

/** By source: interpreting takes far longer than all else here. */
const interpreted = new Map<string, string[]>();

function expected(source: string): string[] {
  const known = interpreted.get(source);
  if (known !== undefined) return known;
  const code = decodeCode(parseCode(source).packetCode);
  const states = RANGES.map(([from, length]) => {
    const state = interpret(code, file, from, length);
    if ("reason" in state) throw new Error(state.reason);
    return Buffer.from(encodeState(code, state)).toString("hex");
  });
  interpreted.set(source, states);
  return states;
}

/** Where a number of rows stands among the inputs, so that lies can be told about it. */
function rowsOf({ inputs, kernel }: KernelCall): number {
  const input = inputs[kernel.inputs.findIndex(({ name }) => name === "rows")]!;
  return "bytes" in input ? new DataView(input.bytes.buffer).getUint32(0, true) : 0;
}

describe.each(SOURCES)("%s", (source) => {
  test("where the program is to compute it itself, which is told what it took", async () => {
    const engine = new ToldEngine(() => undefined);
    expect(await statesBy(engine, source)).toEqual(expected(source));
    expect(engine.calls).toHaveLength(RANGES.length);
    expect(engine.computedMs).toHaveLength(CODE_RANGES_MEASURED + RANGES.length);
    for (const ms of engine.computedMs) expect(ms).toBeGreaterThan(0);
    for (const { kernel, dimensions, inputs } of engine.calls) {
      // As a manifest would have it, and with inputs that fit.
      expect(parseKernel(kernel)).toEqual(kernel);
      const lengths = inputs.map((each) => ("bytes" in each ? each.bytes.byteLength : each.length));
      checkDimensions(kernel, dimensions, lengths);
    }
  });

  test("where whoever is to compute it fails", async () => {
    const engine = new ToldEngine(() => {
      throw new Error("the GPU is gone");
    });
    expect(await statesBy(engine, source)).toEqual(expected(source));
    expect(engine.computedMs).toHaveLength(CODE_RANGES_MEASURED + RANGES.length);
  });

  test("where it answers what no run gives", async () => {
    const lies = [
      (bytes: number) => new Uint8Array(bytes - 4),
      (bytes: number) => new Uint8Array(bytes + 1),
      // Far more rows than there are.
      (bytes: number) => new Uint8Array(bytes).fill(255),
    ];
    for (const lie of lies) {
      const engine = new ToldEngine((call) => {
        expect(rowsOf(call)).toBeGreaterThan(0);
        const places = outputPlaces(call.kernel, call.dimensions);
        const { offset, length } = places.at(-1)!;
        return lie(offset + length);
      });
      expect(await statesBy(engine, source)).toEqual(expected(source));
      expect(engine.computedMs).toHaveLength(CODE_RANGES_MEASURED + RANGES.length);
    }
  });
});

test("GPUs are looked for before a lane is there that asks for one, and for no other", async () => {
  const order: string[] = [];
  await using executor = executorWith(new ToldEngine(() => undefined), async () => {
    await nextTurn();
    order.push("found");
  });
  const { packetCode: inline } = parseCode("histogram()");
  for (const engine of [undefined, "cpu", "gpu"] as const) {
    await executor.load({ inline, engine }, new Collector(), never);
    order.push(engine ?? "auto");
  }
  expect(order).toEqual(["auto", "cpu", "found", "gpu"]);
  // Nobody waits for what is not wanted any more.
  const abort = new AbortController();
  const loading = executor.load({ inline, engine: "gpu" }, new Collector(), abort.signal);
  abort.abort(new Error("not wanted"));
  await expect(loading).rejects.toThrow("not wanted");
});

test("a GPU that computes something else is found out by its first answer, and asked nothing more", async () => {
  const engine = new ToldEngine((call) => {
    const bins = new Uint32Array(256);
    bins[7] = rowsOf(call);
    return new Uint8Array(bins.buffer);
  });
  const collector = new UsesCollector();
  expect(await statesBy(engine, "histogram()", { asked: "gpu", collector })).toEqual(expected("histogram()"));
  expect(engine.calls).toHaveLength(1);
  expect(collector.notes).toEqual([expect.stringMatching(/another answer than a thread/)]);
  expect(collector.uses.map((use) => use.engine)).toEqual(RANGES.map(() => "cpu"));
});

test("what a GPU has of a file is the same whatever is looked for in its bytes", async () => {
  const places = async (source: string): Promise<unknown> => {
    const engine = new ToldEngine(() => undefined);
    await statesBy(engine, source, { asked: "gpu" });
    return engine.calls.map(({ inputs: [data] }) => data);
  };
  const all = await places("histogram()");
  expect(all).toHaveLength(RANGES.length);
  for (const source of ['count("\\n")', 'match("some twenty letters!")', "bytes().sum()"])
    expect(await places(source)).toEqual(all);
});

test("whoever started the job says what computes it, and hears what did", async () => {
  for (const asked of ["gpu", "cpu"] as const) {
    const engine = new ToldEngine(() => undefined);
    const collector = new UsesCollector();
    const [source] = SOURCES;
    expect(await statesBy(engine, source!, { asked, collector })).toEqual(expected(source!));
    expect(engine.calls.map((call) => call.engine)).toEqual(RANGES.map(() => asked));
    expect(collector.answeredBefore).toEqual(RANGES.map((_, index) => index));
    // Of bytes that were verified meanwhile: what that takes is not what it always takes.
    expect(engine.computedMs.length).toBeLessThan(RANGES.length);
    for (const use of collector.uses)
      expect(use).toMatchObject({ kernel: 0, engine: "cpu", engineClass: "test-0", calls: 1 });
  }
});

test.skipIf(noGpu !== undefined)("all programs, on a GPU", async () => {
  const found = await findAccelerators({ source: store, places: store, isSoftwareUsed: true });
  const gpu = found.accelerators[0]!;
  try {
    for (const source of SOURCES) {
      const engine = new GpuEngine(gpu);
      const answered: EngineDecision[] = [];
      const kernels: KernelEngine = {
        run: async (call, signal) => {
          const decision = await engine.run(call, signal);
          answered.push(decision);
          return decision;
        },
        computed: () => answered.length > 1 && expect.fail("a thread did it"),
      };
      const collector = new UsesCollector();
      expect(await statesBy(kernels, source, { collector })).toEqual(expected(source));
      expect(answered).toHaveLength(RANGES.length);
      const { engineClass } = gpu.info;
      for (const use of collector.uses) expect(use).toMatchObject({ engine: "gpu", engineClass, calls: 1 });
      expect(collector.uses).toHaveLength(RANGES.length);
    }
  } finally {
    await gpu.close();
  }
});

test.skipIf(noGpu !== undefined)(
  "a GPU that says it is fast is asked once threads were measured, and by what it took from then on",
  async () => {
    const found = await findAccelerators({ source: store, places: store, isSoftwareUsed: true });
    const gpu = found.accelerators[0]!;
    const { info } = gpu;
    const calibration = { uploadGBps: 1e6, downloadGBps: 1e6, launchMs: 0, gops: 1e9 };
    const boasting = new Proxy(gpu, {
      get: (target, name) => {
        if (name === "info") return { ...info, calibration };
        const value: unknown = Reflect.get(target, name, target);
        return typeof value === "function" ? (value.bind(target) as unknown) : value;
      },
    });
    try {
      const averages = new KernelAverages();
      const collector = new UsesCollector();
      const engine = new FastestEngine({ accelerators: () => [boasting], averages });
      const source = "bytes().mean()";
      expect(await statesBy(engine, source, { collector })).toEqual(expected(source));
      const [first, ...others] = collector.uses;
      expect(first).toMatchObject({ engine: "gpu", engineClass: info.engineClass });
      // What it took to bring the bytes there, compile and run is far more than it said.
      expect(first!.milliseconds).toBeGreaterThan(100 * first!.predictedMs!);
      expect(others).toHaveLength(RANGES.length - 1);
      for (const use of others) expect(use.predictedMs).toBeGreaterThan(100 * first!.predictedMs!);
    } finally {
      await gpu.close();
    }
  },
);

test.each(["lines().max()", "crc32()", 'rows(7).sum("f32@0")', "rows(7).count()"])(
  "%s is nothing for a GPU, and nobody is asked",
  async (source) => {
    const engine = new ToldEngine(() => undefined);
    expect(await statesBy(engine, source)).toEqual(expected(source));
    expect(engine.calls).toEqual([]);
  },
);
