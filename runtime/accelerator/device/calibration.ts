/** What a GPU can do, measured by doing it, and whether what it computes is right. */
import { GPU_PROBE_MS } from "../../limits.ts";
import type { CalibratedMessage } from "../protocol.ts";
import type { Gpu } from "./gpu.ts";
import { DownloadRing, UploadRing, partsOf } from "./staging.ts";

/** Threads of a probe, of 64 in a workgroup. */
const PROBE_GROUPS = 64;
const LAUNCHES = 15;
const PROBES = 3;
/** Bytes that are moved, at first; four times as many as long as that is too fast to be measured. */
const MOVED_BYTES_MIN: number = 2 * 1024 * 1024;
const MOVED_BYTES_MAX: number = 128 * 1024 * 1024;
const MEASURED_MS_MIN = 30;
/** How often they are moved before: once for the ring's own buffers, which are made for it. */
const WARMS = 2;
/** Multiply-adds of a thread in one round of its loop, and threads that run them. */
const ROUND_OPERATIONS = 8 * 2;
const GOPS_GROUPS = 1024;
const GROUP_THREADS = 64;
const ROUNDS_MIN = 64;
const ROUNDS_MAX: number = 2 ** 20;

const PROBE = `
@group(0) @binding(0) var<uniform> rounds: vec4u;
@group(0) @binding(1) var<storage, read_write> output: array<u32>;
@compute @workgroup_size(${GROUP_THREADS}) fn main(@builtin(global_invocation_id) id: vec3u) {
  var value = id.x;
  for (var round = 0u; round < rounds.x; round++) { value = value * 1664525u + 1013904223u; }
  output[id.x] = value;
}`;

/** Mixes each word with its place, so that a word that is lost, doubled or elsewhere comes out wrong. */
const MIX = `
@group(0) @binding(0) var<uniform> size: vec4u;
@group(0) @binding(1) var<storage, read_write> words: array<u32>;
@compute @workgroup_size(${GROUP_THREADS}) fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  for (var at = id.x; at < size.x; at += groups.x * ${GROUP_THREADS}u) { words[at] = (words[at] ^ at) * 2654435761u; }
}`;

const MULTIPLY_ADD = `
@group(0) @binding(0) var<uniform> rounds: vec4u;
@group(0) @binding(1) var<storage, read_write> output: array<f32>;
@compute @workgroup_size(${GROUP_THREADS}) fn main(@builtin(global_invocation_id) id: vec3u) {
  let factor = 0.5;
  let step = f32(id.x % 16u);
  var a = vec4f(1.0, 2.0, 3.0, 4.0);
  var b = vec4f(5.0, 6.0, 7.0, 8.0);
  for (var round = 0u; round < rounds.x; round++) { a = fma(a, vec4f(factor), vec4f(step)); b = fma(b, vec4f(factor), vec4f(step)); }
  output[id.x] = a.x + a.y + a.z + a.w + b.x + b.y + b.z + b.w;
}`;

/** Rounds after each operation, as exact kernels in JavaScript do (program/kernel/gpujs.ts). */
const ROUND = `
@group(0) @binding(0) var<uniform> zero: vec4u;
@group(0) @binding(1) var<storage, read_write> words: array<u32>;
fn fround(x: f32) -> f32 { return bitcast<f32>(bitcast<u32>(x) ^ zero.x); }
@compute @workgroup_size(${GROUP_THREADS}) fn main(@builtin(global_invocation_id) id: vec3u) {
  let a = f32(words[id.x] & 0xffffffu);
  let b = f32(words[id.x] >> 8u);
  words[id.x] = bitcast<u32>(fround(fround(fround(a * b) - fround(b * b)) + a));
}`;

/** A kernel of one buffer and four words, to be measured. */
class Sample {
  readonly #gpu: Gpu;
  readonly #pipeline: GPUComputePipeline;
  readonly #uniform: GPUBuffer;
  readonly #group: GPUBindGroup;
  readonly buffer: GPUBuffer;

  constructor(gpu: Gpu, code: string, bytes: number) {
    const { device } = gpu;
    this.#gpu = gpu;
    this.#pipeline = device.createComputePipeline({
      layout: "auto",
      compute: { module: device.createShaderModule({ code }), entryPoint: "main" },
    });
    this.#uniform = device.createBuffer({
      size: 16,
      usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
    });
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    this.buffer = device.createBuffer({ size: bytes, usage });
    this.#group = device.createBindGroup({
      layout: this.#pipeline.getBindGroupLayout(0),
      entries: [
        { binding: 0, resource: { buffer: this.#uniform } },
        { binding: 1, resource: { buffer: this.buffer } },
      ],
    });
  }

  /** Milliseconds until it was done. */
  async run(word: number, groups: number): Promise<number> {
    const { device } = this.#gpu;
    device.queue.writeBuffer(this.#uniform, 0, Uint32Array.of(word, 0, 0, 0));
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setPipeline(this.#pipeline);
    pass.setBindGroup(0, this.#group);
    pass.dispatchWorkgroups(groups);
    pass.end();
    const started = performance.now();
    device.queue.submit([encoder.finish()]);
    await device.queue.onSubmittedWorkDone();
    return performance.now() - started;
  }

  destroy(): void {
    this.buffer.destroy();
    this.#uniform.destroy();
  }
}

/** A kernel whose time tells whether others use the GPU: some milliseconds where nobody does. */
export class Probe {
  readonly #sample: Sample;
  #rounds = ROUNDS_MIN;

  constructor(gpu: Gpu) {
    this.#sample = new Sample(gpu, PROBE, PROBE_GROUPS * GROUP_THREADS * 4);
  }

  /** Finds a size for it. Returns what it takes. */
  async prepare(): Promise<number> {
    await this.run();
    while ((await this.run()) < GPU_PROBE_MS && this.#rounds < ROUNDS_MAX) this.#rounds *= 2;
    const times: number[] = [];
    for (let count = 0; count < PROBES; count++) times.push(await this.run());
    return Math.min(...times);
  }

  /** Milliseconds. */
  async run(): Promise<number> {
    return await this.#sample.run(this.#rounds, PROBE_GROUPS);
  }
}

/** Takes about a second. Rejects where the device is lost. */
export async function calibrate(gpu: Gpu): Promise<Omit<CalibratedMessage, "kind">> {
  const launchMs = await launch(gpu);
  const { gops, wrong: wrongFloats } = await multiplyAdd(gpu, MEASURED_MS_MIN);
  const wrongRounding = await round(gpu);
  const { uploadGBps, downloadGBps, wrong: wrongWords } = await move(gpu);
  return { uploadGBps, downloadGBps, launchMs, gops, wrong: wrongWords || wrongFloats || wrongRounding };
}

/** What it rounds otherwise than to the nearest float, and of two to the even one; empty where it does that. */
async function round(gpu: Gpu): Promise<string> {
  const words = Uint32Array.from({ length: PROBE_GROUPS * GROUP_THREADS }, (_, at) =>
    Math.imul(at + 1, 2246822519),
  );
  const sample = new Sample(gpu, ROUND, words.byteLength);
  gpu.device.queue.writeBuffer(sample.buffer, 0, words);
  await sample.run(0, PROBE_GROUPS);
  const rounded = new Float32Array(await readBack(gpu, sample.buffer, words.byteLength));
  sample.destroy();
  const { fround } = Math;
  // What is rounded here has no more digits than a double.
  const wrong = rounded.findIndex((value, at) => {
    const [a, b] = [words[at]! & 0xff_ffff, words[at]! >>> 8];
    return value !== fround(fround(fround(a * b) - fround(b * b)) + a);
  });
  return wrong < 0 ? "" : `thread ${wrong} of a kernel that rounds whole numbers came to ${rounded[wrong]}`;
}

/** What comes out wrong; empty where nothing does. Takes a fraction of what measuring takes. Rejects where the device is lost. */
export async function verify(gpu: Gpu): Promise<string> {
  const { wrong: wrongFloats } = await multiplyAdd(gpu, 0);
  const wrongRounding = await round(gpu);
  const bytes = Math.min(MOVED_BYTES_MIN, gpu.limits.bindingBytes, gpu.limits.bufferBytes);
  const { wrong: wrongWords } = await moveOnce(gpu, bytes, 0);
  return wrongWords || wrongFloats || wrongRounding;
}

async function launch(gpu: Gpu): Promise<number> {
  const sample = new Sample(gpu, PROBE, GROUP_THREADS * 4);
  const times: number[] = [];
  for (let count = 0; count < LAUNCHES; count++) times.push(await sample.run(0, 1));
  sample.destroy();
  return times.toSorted((a, b) => a - b)[LAUNCHES >> 1]!;
}

/** Of so many milliseconds at least, for which it computes more and more. */
async function multiplyAdd(
  gpu: Gpu,
  leastMs: number,
): Promise<{ readonly gops: number; readonly wrong: string }> {
  const threads = GOPS_GROUPS * GROUP_THREADS;
  const sample = new Sample(gpu, MULTIPLY_ADD, threads * 4);
  let rounds = ROUNDS_MIN;
  let milliseconds = await sample.run(rounds, GOPS_GROUPS);
  while (milliseconds < leastMs && rounds < ROUNDS_MAX) {
    rounds *= 4;
    milliseconds = await sample.run(rounds, GOPS_GROUPS);
  }
  milliseconds = Math.min(milliseconds, await sample.run(rounds, GOPS_GROUPS));
  const output = new Float32Array(await readBack(gpu, sample.buffer, threads * 4));
  sample.destroy();
  // x = x / 2 + step comes to 2 step, whichever number it begins with.
  const wrong = output.findIndex((value, thread) => Math.abs(value - 16 * (thread % 16)) > 1e-3);
  return {
    gops: (threads * rounds * ROUND_OPERATIONS) / milliseconds / 1e6,
    wrong: wrong < 0 ? "" : `thread ${wrong} of a kernel of multiply-adds came to ${output[wrong]}`,
  };
}

async function move(
  gpu: Gpu,
): Promise<{ readonly uploadGBps: number; readonly downloadGBps: number; readonly wrong: string }> {
  const most = Math.min(MOVED_BYTES_MAX, gpu.limits.bindingBytes, gpu.limits.bufferBytes);
  let bytes = Math.min(MOVED_BYTES_MIN, most);
  for (;;) {
    const { upload, download, wrong } = await moveOnce(gpu, bytes, WARMS);
    const isMeasured = Math.min(upload, download) >= MEASURED_MS_MIN || bytes * 4 > most;
    const [uploadGBps, downloadGBps] = [bytes / upload / 1e6, bytes / download / 1e6];
    if (isMeasured || wrong !== "") return { uploadGBps, downloadGBps, wrong };
    bytes *= 4;
  }
}

/** Both in milliseconds, after so many times that do not count. */
async function moveOnce(
  gpu: Gpu,
  bytes: number,
  warms: number,
): Promise<{ readonly upload: number; readonly download: number; readonly wrong: string }> {
  const { device } = gpu;
  const words = new Uint32Array(bytes / 4);
  for (let at = 0; at < words.length; at++) words[at] = Math.imul(at, 2246822519) ^ (at >>> 7);
  const sample = new Sample(gpu, MIX, bytes);
  const ring = new UploadRing(device);
  for (let warm = 0; warm < warms; warm++) {
    const first = ring.begin(sample.buffer);
    await first.push(new Uint8Array(words.buffer));
    first.end();
    await device.queue.onSubmittedWorkDone();
  }
  const started = performance.now();
  const upload = ring.begin(sample.buffer);
  await upload.push(new Uint8Array(words.buffer));
  upload.end();
  await device.queue.onSubmittedWorkDone();
  const uploaded = performance.now() - started;
  await sample.run(words.length, Math.min(1024, Math.ceil(words.length / GROUP_THREADS)));
  const back = performance.now();
  const mixed = new Uint32Array(await readBack(gpu, sample.buffer, bytes));
  const download = performance.now() - back;
  sample.destroy();
  const wrong = mixed.findIndex((word, at) => word !== Math.imul(words[at]! ^ at, 2654435761) >>> 0);
  return {
    upload: uploaded,
    download,
    wrong: wrong < 0 ? "" : `word ${wrong} of ${words.length} came back as ${mixed[wrong]}`,
  };
}

async function readBack({ device }: Gpu, buffer: GPUBuffer, bytes: number): Promise<ArrayBuffer> {
  const all = new Uint8Array(bytes);
  let at = 0;
  await new DownloadRing(device).read(partsOf([{ buffer, from: 0, bytes }]), async (part) => {
    all.set(part, at);
    at += part.byteLength;
  });
  return all.buffer;
}
