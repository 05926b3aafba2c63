/** One GPU, as a CPU imitates it: what is computed, where inputs come from, what becomes of kernels and processes that go wrong. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Ref } from "../../../packets/digest.ts";
import { findAccelerators } from "../../../runtime/accelerator/accelerators.ts";
import type { ChunkPlaces } from "../../../runtime/contracts/chunks.ts";
import type {
  Accelerator,
  KernelAnswer,
  KernelCall,
  KernelInput,
} from "../../../runtime/contracts/kernels.ts";
import { GPU_RESIDENT_INPUTS_MAX, KERNEL_TENSORS_MAX } from "../../../runtime/limits.ts";
import { ProcessClock } from "../../../runtime/process-clock.ts";
import { Store } from "../../../runtime/store/store.ts";
import { noGpu } from "../../suites/gpu.ts";
import { gpuProcessesOf, runningOf, signalAll } from "../../suites/processes.ts";
import { until } from "../../suites/until.ts";
import { failure, put, temporaryDirectory, textBytes } from "../store/store-fixture.ts";
import { seededBytes } from "../../suites/exec-packets.ts";
import { kernelSpec } from "../../../runtime/program/kernel/declaration.ts";
import { compiledJs } from "../program/kernel/gpujs.ts";
import { endless, kernelOf, mix, mixed } from "./kernels.ts";

const { signal } = new AbortController();
const MEMORY_BYTES = 256 * 1024 * 1024;
const MEMORY_BYTES_FEW = 48 * 1024 * 1024;

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let store: Store;
let gpu: Accelerator;
/** Bytes that are kept as they are, between text that is kept compressed. */
let file: Uint8Array;
let root: Ref;
/** What the next question for places is answered with, instead of where they are. */
let misleading: ((places: Awaited<ReturnType<ChunkPlaces["places"]>>) => typeof places) | undefined;

beforeAll(async () => {
  directory = await temporaryDirectory();
  store = await Store.open(directory.path);
  file = Buffer.concat([seededBytes(900_004, 1), textBytes(600_000), seededBytes(500_000, 2)]);
  ({ root } = await put(store, "file", file));
});
afterAll(async () => {
  await store.close();
  await directory[Symbol.asyncDispose]();
});

async function open(memoryBytesMax: number): Promise<Accelerator> {
  const places: ChunkPlaces = {
    places: async (refs) => {
      const found = await store.places(refs);
      const mislead = misleading;
      misleading = undefined;
      return mislead === undefined ? found : mislead(found);
    },
  };
  const options = { source: store, places, reads: [store.segments], isSoftwareUsed: true, memoryBytesMax };
  const { accelerators, unused } = await findAccelerators(options);
  expect(unused).toEqual([]);
  return accelerators[0]!;
}

function words(count: number): Uint32Array<ArrayBuffer> {
  return Uint32Array.from({ length: count }, (_, index) => Math.imul(index, 40_503) ^ (index >>> 3));
}

function bytesOf(array: Uint32Array<ArrayBuffer> | Float32Array<ArrayBuffer>): KernelInput {
  return { bytes: new Uint8Array(array.buffer) };
}

/** Without a word about the many that differ. */
function expectMixed({ outputs }: KernelAnswer, input: Uint32Array): void {
  expect(Buffer.compare(outputs!, new Uint8Array(mixed(input).buffer))).toBe(0);
}

function wordsOf({ outputs }: KernelAnswer): Uint32Array {
  return new Uint32Array(outputs!.buffer);
}

function mixCall(input: KernelInput, count: number): KernelCall {
  return { kernel: mix, dimensions: { n: count }, inputs: [input] };
}

function rangeWords(from: number, length: number): Uint32Array {
  return new Uint32Array(Uint8Array.from(file.subarray(from, from + length)).buffer);
}

describe.skipIf(noGpu !== undefined)("a GPU", () => {
  beforeAll(async () => {
    gpu = await open(MEMORY_BYTES);
  });
  afterAll(() => gpu?.close());

  test("says what it is, and what it measured", () => {
    expect(gpu.info.engineClass).toMatch(/^[a-z0-9]+-[0-9a-f]{8,}$/);
    expect(gpu.info.engineClass.length).toBeLessThanOrEqual(27);
    for (const measured of Object.values(gpu.info.calibration)) expect(measured).toBeGreaterThan(0);
    expect(gpu.info.memoryBytes).toBe(MEMORY_BYTES);
  });

  test.each([1, 63, 16_384, 100_003, 17 * 1024 * 1024 + 1])(
    "computes over %d words that come with the call",
    async (count) => {
      const input = words(count);
      const answer = await gpu.run(mixCall(bytesOf(input), count), signal);
      expectMixed(answer, input);
      expect(answer.times).toMatchObject({ uploadedBytes: input.byteLength, residentBytes: 0 });
    },
  );

  test("computes floats within what a kernel may promise of them", async () => {
    const [m, k, n] = [33, 257, 65];
    const product = kernelOf({
      inputs: { a: ["f32", "m", "k"], b: ["f32", "k", "n"] },
      outputs: { c: ["f32", "m", "n"] },
      size: [8, 8],
      count: ["n/8", "m/8"],
      source: `fn main(@builtin(global_invocation_id) id: vec3u) {
        if (id.x >= dims.n || id.y >= dims.m) { return; }
        var sum = 0.0;
        for (var i = 0u; i < dims.k; i++) { sum += a[id.y * dims.k + i] * b[i * dims.n + id.x]; }
        c[id.y * dims.n + id.x] = sum;
      }`,
    });
    const [a, b] = [m * k, k * n].map((size) =>
      Float32Array.from({ length: size }, (_, at) => Math.sin(at * 0.7)),
    );
    const answer = await gpu.run(
      { kernel: product, dimensions: { m, k, n }, inputs: [bytesOf(a!), bytesOf(b!)] },
      signal,
    );
    const c = new Float32Array(answer.outputs!.buffer);
    let [error, size] = [0, 0];
    for (let y = 0; y < m; y++)
      for (let x = 0; x < n; x++) {
        let sum = 0;
        for (let i = 0; i < k; i++) sum += a![y * k + i]! * b![i * n + x]!;
        error += (c[y * n + x]! - sum) ** 2;
        size += sum ** 2;
      }
    expect(Math.sqrt(error / size)).toBeLessThan(1e-5);
  });

  test("has scalars, bytes, several outputs, and counters that begin at 0", async () => {
    const histogram = kernelOf({
      inputs: { data: ["bytes", "n"], step: ["u32"], scale: ["f32"] },
      outputs: { counts: ["u32", 256], seen: ["u32", 1] },
      isAtomic: true,
      count: ["n/256"],
      source: `fn main(@builtin(global_invocation_id) id: vec3u) {
        let first = id.x * 4u;
        if (first >= dims.n) { return; }
        let word = data[id.x];
        for (var i = 0u; i < min(4u, dims.n - first); i++) {
          atomicAdd(&counts[(word >> (8u * i)) & 255u], dims.step);
        }
        atomicAdd(&seen[0], u32(bitcast<f32>(dims.scale)));
      }`.replace("bitcast<f32>(dims.scale)", "dims.scale"),
    });
    const bytes = seededBytes(10_001, 3);
    const inputs = [{ bytes }, bytesOf(Uint32Array.of(3)), bytesOf(Float32Array.of(2))];
    const call = { kernel: histogram, dimensions: { n: bytes.byteLength }, inputs };
    const expected = new Uint32Array(257);
    for (const byte of bytes) expected[byte]! += 3;
    expected[256] = 2 * Math.ceil(bytes.byteLength / 4);
    // The second in buffers that the first has left.
    for (let count = 0; count < 2; count++) expect(wordsOf(await gpu.run(call, signal))).toEqual(expected);
  });

  test("shows no call what another left in memory", async () => {
    const count = 5_000;
    await gpu.run(mixCall(bytesOf(words(count).fill(0xffffffff)), count), signal);
    const sparse = kernelOf({
      inputs: { v: ["u32", "n"] },
      outputs: { w: ["u32", "n"] },
      source:
        "fn main(@builtin(global_invocation_id) id: vec3u) { if (id.x == 0u) { w[0] = v[arrayLength(&v) + 100u]; } }",
    });
    const { outputs } = await gpu.run(
      { kernel: sparse, dimensions: { n: count }, inputs: [bytesOf(words(count).fill(7))] },
      signal,
    );
    // What lies behind an input is not there: WebGPU answers with something of the input's own.
    expect(new Set(new Uint32Array(outputs!.buffer).subarray(1))).toEqual(new Set([0]));
    expect([0, 7]).toContain(new Uint32Array(outputs!.buffer)[0]);
  });

  test("writes outputs where it is told, and nowhere else", async () => {
    const path = join(directory.path, "target");
    const count = 5 * 1024 * 1024;
    writeFileSync(path, Buffer.alloc(count * 4 + 200, 0xaa));
    const input = words(count);
    const output = { path, offset: 100, length: count * 4 };
    const answer = await gpu.run({ ...mixCall(bytesOf(input), count), output }, signal);
    expect(answer.outputs).toBeUndefined();
    const written = readFileSync(path);
    expect(Buffer.compare(written.subarray(100, -100), new Uint8Array(mixed(input).buffer))).toBe(0);
    const around = Buffer.concat([written.subarray(0, 100), written.subarray(-100)]);
    expect(Buffer.compare(around, Buffer.alloc(200, 0xaa))).toBe(0);
  });

  test("reads ranges of streams itself, and keeps them", async () => {
    const [from, length] = [1_003, 1_700_000];
    const call = mixCall({ root, from, length }, length / 4);
    const expected = rangeWords(from, length);
    const first = await gpu.run(call, signal);
    expectMixed(first, expected);
    expect(first.times).toMatchObject({ uploadedBytes: length, residentBytes: 0 });
    expect(gpu.resident({ root, from, length })).toBe(length);
    // What is kept is an input: a part of it would be sent.
    expect(gpu.resident({ root, from: from + 100, length: 1_000 })).toBe(0);
    expect(gpu.resident({ root, from: 0, length: 1_003 })).toBe(0);
    const second = await gpu.run(call, signal);
    expectMixed(second, expected);
    expect(second.times).toMatchObject({ uploadedBytes: 0, residentBytes: length });
  });

  test("keeps so many inputs and no more, however small they are", async () => {
    const names = Array.from({ length: KERNEL_TENSORS_MAX - 1 }, (_, index) => `v${index}`);
    const add = kernelOf({
      name: "add",
      inputs: Object.fromEntries(names.map((name) => [name, ["u32", "n"]])),
      outputs: { w: ["u32", "n"] },
      source: `fn main(@builtin(global_invocation_id) id: vec3u) { if (id.x < dims.n) { w[id.x] = ${names.map((name) => `${name}[id.x]`).join(" + ")}; } }`,
    });
    const ranges: { readonly root: Ref; readonly from: number; readonly length: number }[] = [];
    while (ranges.length < GPU_RESIDENT_INPUTS_MAX + 2 * names.length) {
      const inputs = names.map((_, index) => ({ root, from: 4 * (ranges.length + index), length: 4 }));
      ranges.push(...inputs);
      const { outputs } = await gpu.run({ kernel: add, dimensions: { n: 1 }, inputs }, signal);
      const sum = inputs.reduce((total, { from }) => (total + rangeWords(from, 4)[0]!) >>> 0, 0);
      expect(new Uint32Array(Uint8Array.from(outputs!).buffer)[0]).toBe(sum);
    }
    const resident = (): boolean[] => ranges.map((range) => gpu.resident(range) > 0);
    await until(() => resident().filter(Boolean).length <= GPU_RESIDENT_INPUTS_MAX);
    expect([resident()[0], resident().at(-1)]).toEqual([false, true]);
  });

  test("believes no place in which something else stands", async () => {
    const [from, length] = [40, 400_000];
    misleading = (places) => {
      const moved = (list: Float64Array): Float64Array => list.map((each) => each + 8);
      return { ...places!, place: moved(places!.place), offset: moved(places!.offset) };
    };
    const answer = await gpu.run(mixCall({ root, from, length }, length / 4), signal);
    expectMixed(answer, rangeWords(from, length));
    misleading = (places) => ({ ...places!, files: places!.files.map((path) => `${path}.gone`) });
    const other = await gpu.run(mixCall({ root, from: from + 4, length }, length / 4), signal);
    expectMixed(other, rangeWords(from + 4, length));
  });

  test("takes integers that floats have, and says which one they do not have", async () => {
    const kernel = compiledJs(
      kernelSpec({
        kind: "js",
        inputs: [{ name: "v", type: "i32", shape: ["n"] }],
        outputs: [{ name: "w", type: "i32", shape: ["n"] }],
        result: "exact",
        hasCpu: false,
        source: "function (v) { return v[this.thread.x] }",
      }),
    );
    const values = new Int32Array(300_000).map((_, index) => (index % 2 === 0 ? index : -(2 ** 24)));
    const asked = (input: KernelInput, n: number): KernelCall => ({
      kernel,
      dimensions: { n },
      inputs: [input],
    });
    const given = { bytes: new Uint8Array(values.buffer) };
    const { outputs } = await gpu.run(asked(given, values.length), signal);
    expect(Buffer.compare(outputs!, given.bytes)).toBe(0);
    const stored = await put(store, "integers", Uint8Array.from(given.bytes));
    const range = { root: stored.root, from: 4, length: stored.length - 4 };
    for (const residentBytes of [0, range.length]) {
      const { times } = await gpu.run(asked(range, range.length / 4), signal);
      expect(times).toMatchObject({ residentBytes });
    }
    values[299_998] = -(2 ** 24) - 1;
    const refused = {
      code: "PFS_KERNEL_CALL_INVALID",
      message: expect.stringContaining("the input v has -16777217 at 299998"),
    };
    expect(await failure(gpu.run(asked(given, values.length), signal))).toMatchObject(refused);
    // What any other kernel has there already was not looked at.
    await gpu.run(mixCall({ root, from: 0, length: 400 }, 100), signal);
    const other = await failure(gpu.run(asked({ root, from: 0, length: 400 }, 100), signal));
    expect(other).toMatchObject({ code: "PFS_KERNEL_CALL_INVALID" });
  });

  test("tells what it took to make a kernel's code from what the call took", async () => {
    const kernel = kernelOf({
      inputs: { v: ["u32", "n"] },
      outputs: { w: ["u32", "n"] },
      source: `fn main(@builtin(global_invocation_id) id: vec3u) { if (id.x < dims.n) { w[id.x] = v[id.x] + 7919u; } }`,
    });
    const call = { kernel, dimensions: { n: 100 }, inputs: [bytesOf(words(100))] };
    const [first, second] = [await gpu.run(call, signal), await gpu.run(call, signal)];
    expect(second.times.compileMs).toBeLessThan(first.times.compileMs);
    expect(first.times.compileMs).toBeLessThanOrEqual(first.times.totalMs);
  });

  test("takes ranges that stand in no file of this machine", async () => {
    misleading = () => undefined;
    const [from, length] = [8, 1_900_000];
    const call = mixCall({ root, from, length }, length / 4);
    expectMixed(await gpu.run(call, signal), rangeWords(from, length));
    const { times } = await gpu.run(call, signal);
    expect(times).toMatchObject({ uploadedBytes: 0, residentBytes: length });
  });

  test("says which chunk is missing", async () => {
    const range = { root: new Uint8Array(32).fill(9), from: 0, length: 400 };
    const error = await failure(gpu.run(mixCall(range, 100), signal));
    expect(error).toMatchObject({ code: "PFS_CHUNK_MISSING" });
  });

  test("refuses calls that are no calls of the kernel, or too large for it", async () => {
    const run = async (call: Partial<KernelCall>): Promise<unknown> =>
      (await failure(gpu.run({ ...mixCall(bytesOf(words(10)), 10), ...call }, signal))).code;
    expect(await run({ dimensions: { n: 11 } })).toBe("PFS_KERNEL_CALL_INVALID");
    expect(await run({ dimensions: { n: 10, m: 1 } })).toBe("PFS_KERNEL_CALL_INVALID");
    expect(await run({ inputs: [] })).toBe("PFS_KERNEL_CALL_INVALID");
    const limited = { ...mix, limits: { ...mix.limits, gpuBytes: 79 } };
    expect(await run({ kernel: limited })).toBe("PFS_KERNEL_OVER_LIMIT");
    const count = 40 * 1024 * 1024;
    const large = { dimensions: { n: count }, inputs: [{ root, from: 0, length: count * 4 }] };
    expect(await run(large)).toBe("PFS_KERNEL_OVER_LIMIT");
    const broken = { ...mix, wgsl: mix.wgsl.replace("w[at] =", "w[at] == ") };
    expect(await run({ kernel: broken })).toBe("PFS_KERNEL_INVALID");
  });

  test("answers many calls at once, each with its own", async () => {
    const answers = await Promise.all(
      Array.from({ length: 60 }, async (_, index) => {
        const input = words(1_000 + index).fill(index);
        const answer = await gpu.run(mixCall(bytesOf(input), input.length), signal);
        return Buffer.compare(answer.outputs!, new Uint8Array(mixed(input).buffer));
      }),
    );
    expect(answers).toEqual(Array<number>(60).fill(0));
  });

  test("leaves calls that nobody wants any more", async () => {
    const reasons = ["while it waits", "at once"].map((text) => new Error(text));
    const controllers = reasons.map(() => new AbortController());
    const count = 4 * 1024 * 1024;
    const calls = controllers.map((each) => gpu.run(mixCall(bytesOf(words(count)), count), each.signal));
    const failures = calls.map((call) => failure(call));
    controllers[1]!.abort(reasons[1]);
    await pause(5);
    controllers[0]!.abort(reasons[0]);
    const errors = await Promise.all(failures.map((each) => each.catch(() => undefined)));
    expect(errors[1]).toBe(reasons[1]);
    const input = words(100);
    expectMixed(await gpu.run(mixCall(bytesOf(input), 100), signal), input);
  });
});

describe.skipIf(noGpu !== undefined)("a GPU process", () => {
  beforeAll(async () => {
    gpu = await open(MEMORY_BYTES_FEW);
  });
  afterAll(() => gpu?.close());

  const input = words(1_000);
  const isRight = async (): Promise<boolean> => {
    const { outputs } = await gpu.run(mixCall(bytesOf(input), 1_000), signal);
    return Buffer.compare(outputs!, new Uint8Array(mixed(input).buffer)) === 0;
  };
  const endlessCall: KernelCall = { kernel: endless, dimensions: { n: 1_000 }, inputs: [bytesOf(input)] };

  test("gives up what was not used for longest when memory is short", async () => {
    const length = 1_600_000;
    const count = length / 4;
    await gpu.run(mixCall({ root, from: 0, length }, count), signal);
    expect(gpu.resident({ root, from: 0, length })).toBe(length);
    const large = 6 * 1024 * 1024 - 1000;
    const answers = await Promise.all(
      [1, 2, 3].map((factor) => gpu.run(mixCall(bytesOf(words(large).fill(factor)), large), signal)),
    );
    expect(answers.map((answer) => wordsOf(answer)[0])).toEqual(
      [1, 2, 3].map((factor) => Math.imul(factor, 2654435761) >>> 0),
    );
    await until(() => gpu.resident({ root, from: 0, length }) === 0);
    const again = await gpu.run(mixCall({ root, from: 0, length }, count), signal);
    expectMixed(again, rangeWords(0, length));
  });

  test("that is killed is followed by another, and nobody notices who was not computing", async () => {
    expect(await isRight()).toBe(true);
    for (let count = 0; count < 3; count++) {
      expect(signalAll(gpuProcessesOf(process.pid), "SIGKILL")).toBeGreaterThan(0);
      const answers = await Promise.all([isRight(), isRight(), isRight()]);
      expect(answers).toEqual([true, true, true]);
    }
  });

  test("that is killed while it computes says so of what it computed", async () => {
    const long = { ...endless, limits: { ...endless.limits, gpuMs: 60_000 } };
    const clocks = gpuProcessesOf(process.pid).map((pid) => new ProcessClock(pid));
    const before = clocks.map((clock) => clock.read());
    const computing = failure(gpu.run({ ...endlessCall, kernel: long }, signal));
    const behind = isRight();
    // Bringing a few bytes there takes none of that.
    await until(() => clocks.some((clock, index) => clock.read() > before[index]! + 1_000));
    for (const clock of clocks) clock.close();
    signalAll(gpuProcessesOf(process.pid), "SIGKILL");
    expect(await computing).toMatchObject({ code: "PFS_ACCELERATOR_LOST" });
    expect(await behind).toBe(true);
    expect(gpu.isBarred(long)).toBe(false);
  });

  test("that is stopped is left for another, wherever it was, and nobody is told", async () => {
    expect(await isRight()).toBe(true);
    // The other one, which stands by, is younger.
    const stopped = gpuProcessesOf(process.pid).slice(0, 1);
    signalAll(stopped, "SIGSTOP");
    const many = words(4 * 1024 * 1024);
    const call = mixCall(bytesOf(many), many.length);
    const answers = await Promise.all([isRight(), gpu.run(call, signal), isRight()]);
    expect([answers[0], answers[2]]).toEqual([true, true]);
    expectMixed(answers[1], many);
    await until(() => runningOf(stopped).length === 0);
    expect(gpu.isBarred(mix)).toBe(false);
  });

  test("is ended when a kernel does not end, which gets no more calls after three times", async () => {
    for (let strikes = 0; strikes < 3; strikes++) {
      expect(gpu.isBarred(endless)).toBe(false);
      const ended = failure(gpu.run(endlessCall, signal));
      const others = [isRight(), isRight()];
      expect(await ended).toMatchObject({ code: "PFS_KERNEL_DEADLINE", data: { limitMs: 300 } });
      expect(await Promise.all(others)).toEqual([true, true]);
    }
    expect(gpu.isBarred(endless)).toBe(true);
    expect(await failure(gpu.run(endlessCall, signal))).toMatchObject({ code: "PFS_KERNEL_BARRED" });
    expect(await isRight()).toBe(true);
  });

  test("that crashes each time over the same kernel gets it no more", async () => {
    const kernel = { ...endless, wgsl: `${endless.wgsl}\n\n`, limits: { ...endless.limits, gpuMs: 60_000 } };
    for (let crashes = 0; crashes < 3; crashes++) {
      expect(gpu.isBarred(kernel)).toBe(false);
      expect(await isRight()).toBe(true);
      const clocks = gpuProcessesOf(process.pid).map((pid) => new ProcessClock(pid));
      const before = clocks.map((clock) => clock.read());
      const crashed = failure(gpu.run({ ...endlessCall, kernel }, signal));
      await until(() => clocks.some((clock, index) => clock.read() > before[index]! + 1_000));
      for (const clock of clocks) clock.close();
      signalAll(gpuProcessesOf(process.pid), "SIGSEGV");
      expect(await crashed).toMatchObject({ code: "PFS_ACCELERATOR_LOST" });
    }
    expect(gpu.isBarred(kernel)).toBe(true);
    expect(await isRight()).toBe(true);
  });

  test("is ended when a kernel takes for ever to compile", async () => {
    // Each calls the one before twice, and all of them become one function.
    const calls = Array.from({ length: 26 }, (_, index) => {
      const called = index === 0 ? "x * 3u" : `f${index - 1}(x ^ 1u) + f${index - 1}(x + 5u)`;
      return `fn f${index}(x: u32) -> u32 { return ${called}; }\n`;
    });
    const kernel = kernelOf({
      inputs: { v: ["u32", "n"] },
      outputs: { w: ["u32", "n"] },
      source: `${calls.join("")}fn main(@builtin(global_invocation_id) id: vec3u) { w[id.x] = f25(v[id.x]); }`,
    });
    const error = await failure(gpu.run({ ...endlessCall, kernel }, signal));
    expect(error).toMatchObject({
      code: "PFS_KERNEL_INVALID",
      data: { reason: expect.stringContaining("compiled within") as string },
    });
    expect(await isRight()).toBe(true);
  });

  test("leaves nothing behind", async () => {
    const before = gpuProcessesOf(process.pid);
    expect(before.length).toBeGreaterThan(0);
    const pending = failure(
      gpu.run({ ...endlessCall, kernel: { ...endless, wgsl: `${endless.wgsl}\n` } }, signal),
    );
    await gpu.close();
    expect(await pending).toMatchObject({ code: "PFS_ACCELERATOR_LOST" });
    await until(() => runningOf(gpuProcessesOf(process.pid)).length === 0);
    expect(await failure(gpu.run(mixCall(bytesOf(input), 1_000), signal))).toMatchObject({
      code: "PFS_ACCELERATOR_LOST",
    });
  });
});

test("no CPU that imitates a GPU is offered unless somebody asks for it", async () => {
  const { accelerators, unused } = await findAccelerators({ source: store, isSoftwareUsed: false });
  if (accelerators.length > 0) expect(accelerators[0]!.info.isSoftware).toBe(false);
  else expect(unused[0]!.reason).not.toBe("");
  await Promise.all(accelerators.map((each) => each.close()));
});
