/**
 * One executor process, as the node uses it. It belongs to one tenant, and its programs run in lanes.
 *
 *   starting ──▶ ready ──▶ ended: closed | memory | shared-memory | deadline | stalled | crash
 */
import { hasCode } from "../../../packets/errors.ts";
import { PACKET_BYTES } from "../../../packets/layout.ts";
import { FRAME_PACKETS_MAX } from "../../../packets/limits.ts";
import {
  EXECUTOR_THREADS_MAX,
  FAULT_TEXT_BYTES_MAX,
  FRAME_LOG_BYTES,
  FRAME_OUTPUT_BYTES,
  PROGRAM_ARGS_BYTES_MAX,
  PROGRAM_CODE_BYTES_MAX,
  PROGRAM_LOAD_TIME_MS,
  PROGRAM_DESCRIPTION_BYTES_MAX,
  KERNEL_COMPILED_BYTES_MAX,
  LOAD_ANSWER_BYTES_MAX,
} from "../../limits.ts";
import { SandboxErrorCode } from "../../errors.ts";
import { formatDuration } from "../../format.ts";
import { gpuJsSource } from "../../program/kernel/gpujs.ts";
import type { GpuJsSource } from "../../program/kernel/gpujs.ts";
import type { Kernel } from "../../program/kernel/kernel.ts";
import { invalidProgram, parseInspection } from "../../program/manifest.ts";
import { ExecutorPipe, ceilingOf } from "./executor-pipe.ts";
import type { EndReason, ExecutorEnd } from "./executor-pipe.ts";
import type { Answer, Questions } from "./process-thread.ts";
import {
  EXTENT_NUMBERS,
  LAZY_OFFSET,
  MessageKind,
  decodeOutcome,
  encodeImage,
  outcomeBytesMax,
} from "./protocol.ts";
import type { FrameOutcome } from "./protocol.ts";
import { inputEncoding } from "../../program/readers.ts";
import type {
  Entry,
  InspectedProgram,
  Manifest,
  ProgramDescription,
  ProgramLimits,
} from "../../program/program.ts";
import type { WallName } from "./wall-states.ts";
import { startProcess } from "./launch.ts";
import type { StartedProcess } from "./launch.ts";
import { SharedMemory } from "./shared-memory.ts";
import { MemoryWatch, TIME_SOURCE } from "./usage.ts";
import type { Walls } from "./walls.ts";

export { TIME_SOURCE };

export { standingWalls } from "./launch.ts";
export { EXTENT_NUMBERS, LAZY_OFFSET, parseFault } from "./protocol.ts";
export type { Questions } from "./process-thread.ts";
export type { Fault, FrameOutcome } from "./protocol.ts";
export type { TimeSource } from "./usage.ts";

export interface ExecutorProcessOptions {
  /** Frames that run at once, 1 to EXECUTOR_THREADS_MAX. One thread is there at once, others start when there is work for them. */
  readonly threads: number;
  /** The process is killed when it has more memory resident. An idle one has 100 MiB and 25 MiB a thread. */
  readonly rssBytesMax: number;
  readonly sharedMemoryBytes: number;
  /** CPU time that evaluating a program's module may take; PROGRAM_LOAD_TIME_MS unless given. */
  readonly loadTimeMs?: number;
  /** Wall-clock time after which a call is given up, whatever it used; a generous one (ceilingOf) unless given. */
  readonly ceilingMs?: number;
  /** Whether it does beforehand what its first program would have to wait for, which others do when it comes. Default false. */
  readonly isSpare?: boolean;
}

export interface LaneProgram {
  /** For people. */
  readonly name: string;
  /** The body of a function that evaluates the module, UTF-8: see guest/module.ts. */
  readonly code: Uint8Array;
  readonly entry: Entry;
  readonly description: ProgramDescription;
  /** JSON text. */
  readonly args: string;
  /** Stored files that it is given beside its input: what it reads of them is asked for. */
  readonly files?: Manifest["files"];
}

/** What became of a frame, and the CPU time of its thread that it took. */
export interface RanFrame extends FrameOutcome {
  readonly cpuMs: number;
}

interface LoadedLane {
  readonly program: LaneProgram;
  readonly limits: ProgramLimits;
  /** CPU time that loading the program again may add to a frame, when its thread no longer has it. */
  loadMs: number;
}

export class ExecutorProcess implements AsyncDisposable {
  readonly pid: number;
  readonly threads: number;
  readonly sharedMemory: SharedMemory;
  /** What stands between the process and the system. */
  readonly walls: readonly WallName[];
  /** Resolves when the process is gone. Never rejects. */
  readonly ended: Promise<ExecutorEnd>;
  readonly #pipe: ExecutorPipe;
  #loadTimeMs: number;
  #ceilingMs: number | undefined;
  readonly #lanes = new Map<number, LoadedLane>();

  private constructor(
    options: ExecutorProcessOptions,
    sharedMemory: SharedMemory,
    { walls, ...watched }: StartedProcess,
  ) {
    this.pid = watched.pid;
    this.threads = options.threads;
    this.sharedMemory = sharedMemory;
    this.walls = walls;
    this.#loadTimeMs = options.loadTimeMs ?? PROGRAM_LOAD_TIME_MS;
    this.#ceilingMs = options.ceilingMs;
    this.#pipe = new ExecutorPipe(watched, options.rssBytesMax);
    this.#pipe.onThread = (thread) => {
      for (const [lane, loaded] of this.#lanes) this.#follow(lane, loaded, thread);
    };
    this.ended = this.#pipe.ended.finally(() => sharedMemory.close());
  }

  /**
   * Resolves when the process is ready, behind the walls of this machine unless others are given. Rejects with
   * PFS_EXECUTOR_START_FAILED or PFS_SHARED_MEMORY_FAILED.
   */
  static async start(
    options: ExecutorProcessOptions,
    signal?: AbortSignal,
    walls?: Walls,
  ): Promise<ExecutorProcess> {
    const { threads, rssBytesMax, sharedMemoryBytes } = options;
    if (!(Number.isInteger(threads) && threads >= 1 && threads <= EXECUTOR_THREADS_MAX)) {
      throw new Error(`an executor has 1 to ${EXECUTOR_THREADS_MAX} threads`);
    }
    const sharedMemory = new SharedMemory(sharedMemoryBytes);
    try {
      const launched = {
        threads,
        rssBytesMax: MemoryWatch.supported ? 0 : rssBytesMax,
        sharedMemoryDescriptor: sharedMemory.childDescriptor,
        isSpare: options.isSpare === true,
      };
      const started = await startProcess(launched, signal, walls);
      sharedMemory.closeChildDescriptor();
      return new ExecutorProcess(options, sharedMemory, started);
    } catch (error) {
      sharedMemory.close();
      throw error;
    }
  }

  /**
   * Takes other options than it was started with, as long as nothing was loaded. Returns false when it cannot: other
   * threads or more shared memory need another process.
   */
  adapt(options: ExecutorProcessOptions): boolean {
    const { threads, rssBytesMax, sharedMemoryBytes, loadTimeMs, ceilingMs } = options;
    if (threads !== this.threads || sharedMemoryBytes > this.sharedMemory.capacity || this.closed)
      return false;
    if (this.#lanes.size > 0 || !this.#pipe.limitMemory(rssBytesMax)) return false;
    this.sharedMemory.limit(sharedMemoryBytes);
    this.#loadTimeMs = loadTimeMs ?? PROGRAM_LOAD_TIME_MS;
    this.#ceilingMs = ceilingMs;
    return true;
  }

  /** Whether it has ended, or is about to. */
  get closed(): boolean {
    return this.#pipe.end !== undefined;
  }

  /** Calls that have no answer yet. */
  get pending(): number {
    return this.#pipe.pending;
  }

  /** What it has in memory now, in bytes; 0 where the system does not tell, and it watches itself. */
  get residentBytes(): number {
    return this.#pipe.residentBytes;
  }

  /** What a program's module declares. Runs nothing of it but the module itself. Rejects with PFS_PROGRAM_INVALID {reason}. */
  async inspect(code: Uint8Array): Promise<InspectedProgram> {
    checkCode(code);
    const { message } = await this.#load(MessageKind.inspect, 0, [code], PROGRAM_DESCRIPTION_BYTES_MAX);
    const text = Buffer.from(message.body).toString();
    if (message.kind === MessageKind.invalid) throw invalidProgram(text);
    return parseInspection(text);
  }

  /**
   * What GPU.js makes of kernels, each unknown until somebody has looked at it. Rejects with PFS_PROGRAM_INVALID {reason}.
   */
  async compileKernels(sources: readonly GpuJsSource[]): Promise<readonly unknown[]> {
    const body = Buffer.from(JSON.stringify(sources));
    const { message } = await this.#load(MessageKind.compile, 0, [body], KERNEL_COMPILED_BYTES_MAX);
    const text = Buffer.from(message.body).toString();
    if (message.kind === MessageKind.invalid) throw invalidProgram(text);
    let made: unknown;
    try {
      made = JSON.parse(text);
    } catch {
      made = undefined;
    }
    if (!Array.isArray(made) || made.length !== sources.length)
      throw invalidProgram("GPU.js made nothing of its kernels that can be read");
    return made;
  }

  /** Loads a program into a lane, 1 to 65,535, in place of what was there. Rejects with PFS_PROGRAM_INVALID {reason}. */
  async load(lane: number, program: LaneProgram): Promise<void> {
    const { code, args } = program;
    checkCode(code);
    if (Buffer.byteLength(args) > PROGRAM_ARGS_BYTES_MAX) {
      throw invalidProgram(`its arguments have more than ${PROGRAM_ARGS_BYTES_MAX} bytes`);
    }
    const image = imageOf(program);
    const { message, thread, cpuMs } = await this.#load(
      MessageKind.load,
      lane,
      [image],
      LOAD_ANSWER_BYTES_MAX,
    );
    if (message.kind === MessageKind.invalid) {
      this.#pipe.tell(MessageKind.unload, lane);
      throw invalidProgram(Buffer.from(message.body).toString());
    }
    const loaded: LoadedLane = { program, limits: program.description.limits, loadMs: Math.ceil(cpuMs) };
    this.#lanes.set(lane, loaded);
    for (let other = 0; other < this.#pipe.threads; other++) {
      if (other !== thread) this.#follow(lane, loaded, other, image);
    }
  }

  /** Loads a lane's program in another thread, ahead of whatever else that is given. */
  #follow(
    lane: number,
    loaded: LoadedLane,
    thread: number,
    image: Uint8Array = imageOf(loaded.program),
  ): void {
    this.#load(MessageKind.load, lane, [image], LOAD_ANSWER_BYTES_MAX, thread).then(
      (answer) => (loaded.loadMs = Math.max(loaded.loadMs, Math.ceil(answer.cpuMs))),
      // What fails here fails again in the frame that needs it, and is told there.
      () => undefined,
    );
  }

  async #load(
    kind: keyof typeof LOAD_ANSWERS,
    lane: number,
    body: readonly Uint8Array[],
    bodyBytesMax: number,
    thread?: number,
  ): Promise<Answer> {
    const limitMs = this.#loadTimeMs;
    const ceilingMs = this.#ceilingMs ?? ceilingOf(limitMs);
    const kinds = [LOAD_ANSWERS[kind], MessageKind.invalid];
    try {
      return await this.#pipe.call(kind, lane, body, { limitMs, ceilingMs, bodyBytesMax, kinds }, thread);
    } catch (error) {
      if (!hasCode(error, SandboxErrorCode.deadline)) throw error;
      throw invalidProgram(
        `it takes longer to load than ${formatDuration(limitMs)} of ${TIME_SOURCE}`,
        error,
      );
    }
  }

  /**
   * Runs a frame of n EXEC packets in a loaded lane. `extents` has EXTENT_NUMBERS per packet: places in the shared memory,
   * or in `inputs` where these are given. None of them may change until it resolves. Packets that failed have a status; the
   * outcome has fewer packets than the frame when one of several ran out of memory, or the frame's results are large.
   * Rejects with PFS_EXECUTOR_DEADLINE {limitMs, cpuMs} when this frame used more CPU time than one packet may, with
   * PFS_EXECUTOR_STALLED {ceilingMs, limitMs, cpuMs} when it did not, yet did not end for very long, and with
   * PFS_EXECUTOR_ENDED {reason, detail} when the process ended of anything else. Where the offset of an extent is LAZY_OFFSET,
   * the packet's input is in neither: bytes of it are asked of `questions`.
   */
  async run(
    lane: number,
    frame: Uint8Array,
    extents: Float64Array,
    inputs?: Uint8Array,
    questions?: Questions,
  ): Promise<RanFrame> {
    const loaded = this.#lanes.get(lane);
    if (loaded === undefined) throw new Error(`lane ${lane} is not loaded`);
    const packets = frame.byteLength / PACKET_BYTES;
    this.#checkFrame(packets, extents, inputs?.byteLength ?? this.sharedMemory.bytesMax, questions);
    const { limits, loadMs } = loaded;
    const outputBytes = FRAME_OUTPUT_BYTES + Math.max(limits.outputBytes, FAULT_TEXT_BYTES_MAX * 4);
    const logBytes = FRAME_LOG_BYTES + limits.logBytes + 64;
    const numbers = new Uint8Array(extents.buffer, extents.byteOffset, extents.byteLength);
    const body = [numbers, frame];
    if (inputs !== undefined) body.push(inputs);
    let outcome: FrameOutcome | undefined;
    const { cpuMs } = await this.#pipe.call(MessageKind.run, lane, body, {
      limitMs: limits.timeMs + loadMs,
      ceilingMs: this.#ceilingMs ?? ceilingOf(limits.timeMs),
      bodyBytesMax: outcomeBytesMax(packets, outputBytes, logBytes),
      kinds: [MessageKind.ran],
      packets,
      questions,
      check: ({ body }) => (outcome = decodeOutcome(body, packets)) !== undefined,
    });
    return { ...outcome!, cpuMs };
  }

  /** Nobody looks at this frame's outcome any more. */
  recycle({ output }: FrameOutcome): void {
    this.#pipe.recycle(output);
  }

  /** Frees a lane. Frames that are still in flight end as if it had not been. */
  unload(lane: number): void {
    if (this.#lanes.delete(lane)) this.#pipe.tell(MessageKind.unload, lane);
  }

  /** Ends the process at once. Calls in flight reject with PFS_EXECUTOR_ENDED. */
  kill(reason: EndReason, detail = "it was killed"): void {
    this.#pipe.kill(reason, detail);
  }

  async close(): Promise<void> {
    this.#pipe.kill("closed", "it was closed");
    await this.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #checkFrame(
    packets: number,
    extents: Float64Array,
    inputBytes: number,
    questions: Questions | undefined,
  ): void {
    if (!Number.isInteger(packets) || packets < 1 || packets > FRAME_PACKETS_MAX) {
      throw new Error(`a frame has 1 to ${FRAME_PACKETS_MAX} packets`);
    }
    if (extents.length !== packets * EXTENT_NUMBERS) throw new Error("a packet has five numbers of extents");
    let total = 0;
    for (let at = 0; at < extents.length; at += EXTENT_NUMBERS) {
      const offset = extents[at]!;
      const length = extents[at + 1]!;
      const prefix = extents[at + 3]!;
      const tail = extents[at + 4]!;
      const isLazy = offset === LAZY_OFFSET && questions !== undefined;
      if (!isLazy) total += length;
      const within = length >= 0 && (isLazy || (offset >= 0 && offset + length <= inputBytes));
      if (!within || !(prefix >= 0 && tail >= 0 && prefix + tail <= length)) {
        throw new Error("an extent lies outside of the inputs");
      }
    }
    if (total > this.sharedMemory.bytesMax)
      throw new Error("the inputs of a frame are more than the shared memory");
  }
}

/** What answers a call that may be found invalid. */
const LOAD_ANSWERS = {
  [MessageKind.inspect]: MessageKind.described,
  [MessageKind.compile]: MessageKind.compiled,
  [MessageKind.load]: MessageKind.loaded,
} as const;

/** What a thread loads a program from. */
function imageOf({ name, code, entry, description, args, files = {} }: LaneProgram): Uint8Array {
  const encoding = inputEncoding(entry, description);
  const lengths = Object.entries(files).map(([file, { length }]) => ({ name: file, length }));
  const { kernels = [], ...described } = description;
  const computed = entry === "map" ? computedKernels(kernels) : [];
  const image = {
    name,
    entry,
    description: described,
    args,
    ...(kernels.length === 0 ? {} : { kernels: kernels.length }),
    ...(lengths.length === 0 ? {} : { files: lengths }),
    ...(computed.every((source) => source === null) ? {} : { computed }),
    ...(encoding === undefined ? {} : { encoding }),
  };
  return encodeImage(image, code);
}

/** Kernels that a CPU computes by their source. */
function computedKernels(kernels: readonly Kernel[]): (GpuJsSource | null)[] {
  return kernels.map((kernel) => (kernel.kind === "js" && !kernel.hasCpu ? gpuJsSource(kernel) : null));
}

function checkCode(code: Uint8Array): void {
  if (code.byteLength <= PROGRAM_CODE_BYTES_MAX) return;
  throw invalidProgram(`its code has more than ${PROGRAM_CODE_BYTES_MAX} bytes`);
}
