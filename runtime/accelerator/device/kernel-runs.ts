/** Runs kernels on an opened GPU, one after the other: while one computes, the inputs of the next are brought there. */
import { messageOf } from "../../../packets/errors.ts";
import { GPU_WINDOW_SLOT_BYTES, GPU_WRITE_BYTES_MAX } from "../../limits.ts";
import { PLAN_ROW_BYTES, planIn } from "../read-plan.ts";
import type {
  DoneMessage,
  FailedMessage,
  FailureKind,
  ProcessMessage,
  RunMessage,
  Stage,
} from "../protocol.ts";
import type { Gpu } from "./gpu.ts";
import type { GpuMemory, ResidentInput } from "./gpu-memory.ts";
import { ElementCheck } from "./element-check.ts";
import { scoped } from "./modules.ts";
import type { Modules, Pipeline } from "./modules.ts";
import { PlanReader, UnreadError } from "./plan-reader.ts";
import { DownloadRing, UploadRing, copyPart, partsOf, writeFew } from "./staging.ts";
import type { Download } from "./staging.ts";
import type { WindowWriter } from "./window-writer.ts";

/** Two times of a pass, 8 bytes each. */
const TIMES_BYTES = 16;
const UNIFORM_BYTES_MIN = 256;

class RunFailure extends Error {
  readonly why: FailureKind;
  readonly notes: FailedMessage["notes"];

  constructor(why: FailureKind, reason: string, notes: FailedMessage["notes"] = []) {
    super(reason);
    this.why = why;
    this.notes = notes;
  }
}

/** What a call has of the GPU's memory, until it is over. */
interface Held {
  readonly buffers: GPUBuffer[];
  readonly residents: ResidentInput[];
}

interface Uploaded {
  readonly inputs: readonly GPUBuffer[];
  readonly outputs: readonly GPUBuffer[];
  readonly uploadMs: number;
  readonly uploadedBytes: number;
  readonly residentBytes: number;
  readonly kept: readonly string[];
}

/** What comes next of the bytes of a call's inputs; undefined where there is no more. */
export type NextPiece = (call: number) => Promise<Uint8Array | undefined>;
export type Say = (message: ProcessMessage, body?: Uint8Array) => Promise<void>;

export class KernelRuns {
  readonly #gpu: Gpu;
  readonly #memory: GpuMemory;
  readonly #modules: Modules;
  readonly #say: Say;
  readonly #uploads: UploadRing;
  readonly #downloads: DownloadRing;
  readonly #plans = new PlanReader();
  readonly #times: TimesPool;
  readonly #uniforms: GPUBuffer[] = [];
  readonly #window: WindowWriter | undefined;
  readonly #cancelled = new Set<number>();
  /** The last that began, of which some are over. */
  #last = -1;
  readonly #running = new Set<number>();
  /** Resolves when the kernel before has been computed: the next may begin. */
  #computed: Promise<unknown> = Promise.resolve();

  constructor(gpu: Gpu, memory: GpuMemory, modules: Modules, window: WindowWriter | undefined, say: Say) {
    this.#gpu = gpu;
    this.#window = window;
    this.#memory = memory;
    this.#modules = modules;
    this.#say = say;
    this.#uploads = new UploadRing(gpu.device);
    this.#downloads = new DownloadRing(gpu.device);
    this.#times = new TimesPool(gpu.device);
  }

  /** It may be over, or still be on its way. */
  cancel(call: number): void {
    if (this.#running.has(call) || call > this.#last) this.#cancelled.add(call);
  }

  /** Resolves when its inputs are there, or it failed before; what becomes of it is said. */
  async begin(run: RunMessage, body: Uint8Array<ArrayBuffer>, pieces: NextPiece): Promise<void> {
    const held: Held = { buffers: [], residents: [] };
    this.#running.add(run.call);
    this.#last = Math.max(this.#last, run.call);
    try {
      const compiled = this.#compile(run);
      compiled.catch(() => undefined);
      const uploaded = await this.#upload(run, body, pieces, held);
      const there = performance.now();
      const pipeline = await compiled;
      const compileMs = performance.now() - there;
      const before = this.#computed;
      const computed = Promise.withResolvers<void>();
      this.#computed = computed.promise;
      void this.#finish(run, { ...uploaded, compileMs }, pipeline, held, before, computed.resolve);
    } catch (error) {
      await this.#fail(run, error, held);
    }
  }

  async #compile(run: RunMessage): Promise<Pipeline> {
    const isNew = !this.#modules.has(run.module);
    if (isNew) await this.#stage(run, "compile");
    const pipeline = await this.#modules.get(run);
    if (isNew) await this.#stage(run, "upload");
    if ("pipeline" in pipeline) return pipeline;
    throw new RunFailure("module", pipeline[0]?.text ?? "it does not compile", [...pipeline]);
  }

  /** Computes and reads back. Never rejects. */
  async #finish(
    run: RunMessage,
    uploaded: Uploaded & { readonly compileMs: number },
    pipeline: Pipeline,
    held: Held,
    before: Promise<unknown>,
    computed: () => void,
  ): Promise<void> {
    try {
      await before;
      this.#checkWanted(run);
      const { inputs: _inputs, outputs: _outputs, ...told } = uploaded;
      const times = await this.#compute(run, uploaded, pipeline, computed);
      const done: DoneMessage = { kind: "done", call: run.call, ...told, kept: [...told.kept], ...times };
      // What of its inputs is given up at once, since memory has become scarce, is not there behind what says that it is.
      const said = this.#say(done);
      this.#release(run, held);
      await said;
    } catch (error) {
      computed();
      await this.#fail(run, error, held);
    }
  }

  async #fail(run: RunMessage, error: unknown, held: Held): Promise<void> {
    this.#release(run, held);
    const { why, notes } = error instanceof RunFailure ? error : { why: failureOf(error), notes: [] };
    await this.#say({ kind: "failed", call: run.call, why, reason: messageOf(error).slice(0, 1000), notes });
  }

  #release(run: RunMessage, { buffers, residents }: Held): void {
    for (const buffer of buffers.splice(0)) this.#memory.give(buffer);
    for (const resident of residents.splice(0)) this.#memory.release(resident);
    this.#running.delete(run.call);
    this.#cancelled.delete(run.call);
    this.#memory.shrink();
  }

  #checkWanted({ call }: RunMessage): void {
    if (this.#cancelled.has(call)) throw new RunFailure("cancelled", "nobody wants it any more");
  }

  async #stage({ call }: RunMessage, stage: Stage): Promise<void> {
    await this.#say({ kind: "stage", call, stage });
  }

  async #upload(
    run: RunMessage,
    body: Uint8Array<ArrayBuffer>,
    pieces: NextPiece,
    held: Held,
  ): Promise<Uploaded> {
    const started = performance.now();
    const outputs: GPUBuffer[] = [];
    for (const bytes of run.outputs) outputs.push(await this.#take(bytes, held));
    const inputs: GPUBuffer[] = [];
    const kept: string[] = [];
    let uploadedBytes = 0;
    let residentBytes = 0;
    let rowsAt = 0;
    for (const input of run.inputs) {
      const { length, rows, files = [], key, isResident = false, check } = input;
      const planBytes = rows === undefined ? 0 : rows * PLAN_ROW_BYTES;
      const plan = rows === undefined ? undefined : planIn(body.slice(rowsAt, rowsAt + planBytes), rows);
      rowsAt += planBytes;
      // Pieces come whatever is there.
      const resident =
        key !== undefined && (isResident || plan !== undefined) ? this.#memory.acquire(key) : undefined;
      if (isResident && resident === undefined) throw new UnreadError("it is in memory no longer");
      if (resident !== undefined) {
        held.residents.push(resident);
        inputs.push(resident.buffer);
        residentBytes += length;
        continue;
      }
      const buffer = await this.#take(length, held);
      const looking = check && new ElementCheck(check);
      const looked = (bytes: Uint8Array): Uint8Array => {
        const wrong = looking?.look(bytes);
        if (wrong !== undefined) throw new RunFailure("elements", wrong);
        return bytes;
      };
      if (plan === undefined) await this.#receive(buffer, run, length, pieces, looked);
      else await this.#read(buffer, plan, files, length, looked);
      uploadedBytes += length;
      inputs.push(buffer);
      if (key === undefined || this.#memory.has(key)) continue;
      held.buffers.splice(held.buffers.indexOf(buffer), 1);
      held.residents.push(this.#memory.keep(key, buffer));
      kept.push(key);
    }
    return { inputs, outputs, uploadMs: performance.now() - started, uploadedBytes, residentBytes, kept };
  }

  async #take(bytes: number, held: Held): Promise<GPUBuffer> {
    const buffer = await this.#memory.take(paddedBytes(bytes));
    if (buffer === undefined) throw new RunFailure("memory", `there is no room for ${bytes} bytes`);
    held.buffers.push(buffer);
    return buffer;
  }

  async #read(
    buffer: GPUBuffer,
    plan: ReturnType<typeof planIn>,
    files: readonly string[],
    length: number,
    looked: (bytes: Uint8Array) => Uint8Array,
  ): Promise<void> {
    const upload = this.#uploads.begin(buffer);
    try {
      let bytes = 0;
      await this.#plans.read(plan, files, async (piece) => {
        bytes += piece.byteLength;
        if (bytes <= length) await upload.push(looked(piece));
      });
      if (bytes !== length) throw new UnreadError(`the plan yields ${bytes} bytes instead of ${length}`);
    } finally {
      upload.end();
    }
  }

  /** From the node itself. */
  async #receive(
    buffer: GPUBuffer,
    { call }: RunMessage,
    length: number,
    pieces: NextPiece,
    looked: (bytes: Uint8Array) => Uint8Array,
  ): Promise<void> {
    const upload = this.#uploads.begin(buffer);
    try {
      for (let missing = length; missing > 0;) {
        const piece = await pieces(call);
        if (piece === undefined || piece.byteLength > missing)
          throw new UnreadError("the node sends no more of it");
        missing -= piece.byteLength;
        looked(piece);
        if (piece.byteLength === length && writeFew(this.#gpu.device, buffer, piece)) return;
        await upload.push(piece);
      }
    } finally {
      upload.end();
    }
  }

  async #compute(
    run: RunMessage,
    { inputs, outputs }: Uploaded,
    { pipeline, layout }: Pipeline,
    computed: () => void,
  ): Promise<{ readonly kernelMs: number; readonly downloadMs: number }> {
    const { device, hasTimestamps } = this.#gpu;
    const { queue } = device;
    const downloads = run.outputs.map((bytes, index): Download => {
      return { buffer: outputs[index]!, from: 0, bytes: Math.ceil(bytes / 4) * 4 };
    });
    const parts = partsOf(downloads);
    const first = await this.#downloads.take();
    const times = hasTimestamps ? this.#times.take() : undefined;
    const uniform = this.#uniform(run.uniform);
    const begun = performance.now();
    await this.#stage(run, "kernel");
    const [, refused] = scoped(device, () => {
      const entries = run.buffers.map((each, index): GPUBindGroupEntry => {
        const isInput = "input" in each;
        const buffer = isInput ? inputs[each.input]! : outputs[each.output]!;
        const bytes = isInput ? run.inputs[each.input]!.length : run.outputs[each.output]!;
        return { binding: index + 1, resource: { buffer, size: paddedBytes(bytes) } };
      });
      if (uniform !== undefined)
        entries.push({ binding: 0, resource: { buffer: uniform, size: run.uniform.length * 4 } });
      const bindGroup = device.createBindGroup({ layout, entries });
      const encoder = device.createCommandEncoder();
      // What was there before is another's, and what is added to begins at 0.
      for (const [index, buffer] of outputs.entries())
        encoder.clearBuffer(buffer, 0, paddedBytes(run.outputs[index]!));
      const pass = encoder.beginComputePass(times === undefined ? {} : { timestampWrites: times.writes });
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, bindGroup);
      pass.dispatchWorkgroups(...run.workgroups);
      pass.end();
      times?.resolve(encoder);
      if (parts[0] !== undefined) copyPart(encoder, parts[0], first);
      queue.submit([encoder.finish()]);
    });
    let kernelMs = 0;
    try {
      const failure = await refused;
      if (failure !== undefined) throw new RunFailure("module", failure);
      const wall = performance.now();
      if (times === undefined) await queue.onSubmittedWorkDone();
      else await times.map();
      kernelMs = times?.read() ?? performance.now() - wall;
    } finally {
      computed();
      if (uniform !== undefined) this.#uniforms.push(uniform);
      if (times !== undefined) this.#times.give(times);
    }
    await this.#stage(run, "download");
    await this.#download(run, parts, first);
    return { kernelMs, downloadMs: Math.max(0, performance.now() - begun - kernelMs) };
  }

  #uniform(words: readonly number[]): GPUBuffer | undefined {
    if (words.length === 0) return undefined;
    const { device } = this.#gpu;
    const bytes = Math.max(UNIFORM_BYTES_MIN, words.length * 4);
    const index = this.#uniforms.findIndex(({ size }) => size >= bytes);
    const [spare] = index < 0 ? [] : this.#uniforms.splice(index, 1);
    const buffer =
      spare ?? device.createBuffer({ size: bytes, usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST });
    device.queue.writeBuffer(buffer, 0, Uint32Array.from(words));
    return buffer;
  }

  async #download(run: RunMessage, parts: readonly Download[], first: GPUBuffer): Promise<void> {
    await this.#downloads.read(
      parts,
      async (bytes) => {
        this.#checkWanted(run);
        await this.#hand(run, bytes);
      },
      first,
    );
  }

  async #hand({ call }: RunMessage, bytes: Uint8Array): Promise<void> {
    const window = this.#window;
    if (window === undefined || bytes.byteLength <= GPU_WRITE_BYTES_MAX)
      return await this.#say({ kind: "bytes", call }, bytes);
    for (let from = 0; from < bytes.byteLength; from += GPU_WINDOW_SLOT_BYTES) {
      const part = bytes.subarray(from, from + GPU_WINDOW_SLOT_BYTES);
      const at = await window.take();
      try {
        window.write(part, at);
      } catch {
        // The system has no memory for the window now.
        window.give(at);
        await this.#say({ kind: "bytes", call }, part);
        continue;
      }
      await this.#say({ kind: "window", call, at, bytes: part.byteLength });
    }
  }
}

/** How long passes took, by the GPU's own clock. */
class TimesPool {
  readonly #device: GPUDevice;
  readonly #spare: PassTimes[] = [];

  constructor(device: GPUDevice) {
    this.#device = device;
  }

  take(): PassTimes {
    return this.#spare.pop() ?? new PassTimes(this.#device);
  }

  give(times: PassTimes): void {
    this.#spare.push(times);
  }
}

class PassTimes {
  readonly #queries: GPUQuerySet;
  readonly #resolved: GPUBuffer;
  readonly #read: GPUBuffer;

  constructor(device: GPUDevice) {
    const { QUERY_RESOLVE, COPY_SRC, COPY_DST, MAP_READ } = GPUBufferUsage;
    this.#queries = device.createQuerySet({ type: "timestamp", count: 2 });
    this.#resolved = device.createBuffer({ size: TIMES_BYTES, usage: QUERY_RESOLVE | COPY_SRC });
    this.#read = device.createBuffer({ size: TIMES_BYTES, usage: MAP_READ | COPY_DST });
  }

  get writes(): GPUComputePassTimestampWrites {
    return { querySet: this.#queries, beginningOfPassWriteIndex: 0, endOfPassWriteIndex: 1 };
  }

  resolve(encoder: GPUCommandEncoder): void {
    encoder.resolveQuerySet(this.#queries, 0, 2, this.#resolved, 0);
    encoder.copyBufferToBuffer(this.#resolved, 0, this.#read, 0, TIMES_BYTES);
  }

  /** Resolves when the pass is over. */
  async map(): Promise<void> {
    await this.#read.mapAsync(GPUMapMode.READ);
  }

  /** Milliseconds, once. */
  read(): number {
    const [from, to] = new BigUint64Array(this.#read.getMappedRange());
    const milliseconds = Number(to! - from!) / 1e6;
    this.#read.unmap();
    return Math.max(0, milliseconds);
  }
}

/** What a binding of so many bytes takes: it is not empty, and of whole words. */
function paddedBytes(bytes: number): number {
  return Math.max(4, Math.ceil(bytes / 4) * 4);
}

function failureOf(error: unknown): FailureKind {
  return error instanceof UnreadError ? "unread" : "module";
}
