/** One machine: its store, and (unless it lends no workers) the executor that runs packets in sandboxes beside it. */
import { EventEmitter } from "node:events";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { refToHex, sha256 } from "../packets/digest.ts";
import type { Ref } from "../packets/digest.ts";
import { hasCode } from "../packets/errors.ts";
import { KernelErrorCode } from "./errors.ts";
import {
  ACCELERATORS_MAX,
  GPU_PACKETS_MAX,
  DESCRIPTIONS_KEPT_MAX,
  DESCRIPTION_KEPT_CHARACTERS_MAX,
  LANE_INPUT_BYTES,
  PROGRAM_CODE_BYTES_MAX,
  PROGRAM_LIMITS_DEFAULT,
} from "./limits.ts";
import { execute } from "./stream/execute.ts";
import { CodeExecutor } from "./code/code-executor.ts";
import { FastestEngine } from "./engine/fastest-engine.ts";
import { GpuEngine } from "./engine/gpu-engine.ts";
import { GpuExecutors } from "./gpu-executors.ts";
import { LaneSlots } from "./lane-slots.ts";
import { LocalExecutor } from "./executor/local-executor.ts";
import { processOptions, inspectProgram, sharedOptions } from "./executor/shared-processes.ts";
import type { ProcessSource } from "./executor/shared-processes.ts";
import { invalidProgram, parseDescription } from "./program/manifest.ts";
import type { ProgramDescription } from "./program/program.ts";
import { guestEdition } from "./sandbox/edition.ts";
import { ExecutorProcess, standingWalls } from "./sandbox/process/executor-process.ts";
import type { ExecutorProcessOptions } from "./sandbox/process/executor-process.ts";
import type { WallState } from "./sandbox/process/wall-states.ts";
import { SpareExecutors } from "./sandbox/process/spare-executors.ts";
import { Store } from "./store/store.ts";
import { ExecutorList } from "./job/candidates.ts";
import { JOB_HISTORY_FILE, JobHistory } from "./job/job-history.ts";
import { Jobs } from "./job/jobs.ts";
import { partName } from "./job/results.ts";
import type { Accelerator, FoundAccelerators, UnusedAccelerator } from "./contracts/kernels.ts";
import type { ChunkSource, StoreWriterOptions } from "./contracts/chunks.ts";
import type { Executor } from "./contracts/executor.ts";
import type { EventMap, Events } from "./contracts/events.ts";
import { findAccelerators } from "./accelerator/accelerators.ts";
import { GPU_HISTORY_FILE } from "./gpu-history.ts";
import { checkKernel } from "./accelerator/wgsl-check.ts";
import { KERNEL_HISTORY_FILE, KernelHistory } from "./kernel-history.ts";
import { WALL_HISTORY_FILE, WallHistory } from "./wall-history.ts";

export interface MachineOptions {
  /** The store's directory; it is made when there is none. */
  readonly directory: string;
  readonly id: string;
  readonly label: string;
  /** Packets with large inputs to work on at once; 0 for a machine that only stores. By default one per core. */
  readonly workers?: number | undefined;
  /** Looks for GPUs that its kernels may run on, which a machine without workers never does; by default for all that it has. */
  readonly findAccelerators?:
    | ((machine: Pick<Machine, "store" | "source">, signal: AbortSignal) => Promise<FoundAccelerators>)
    | undefined;
  /** Whether GPUs are looked for and measured whatever is remembered of them: by who has time. */
  readonly looksAfresh?: boolean | undefined;
  /** As StoreOptions have it. */
  readonly writesLittle?: boolean | undefined;
  /** Where it is remembered what programs say of themselves; nowhere by default. */
  readonly memory?: Memory | undefined;
  /** Whoever wants to hear of what happens while it opens brings the emitter along. */
  readonly events?: Events | undefined;
  /** Where chunks come from that the store may lack, closed with it; the store itself by default. */
  readonly source?: ((store: Store, events: Events) => ChunkSource & AsyncDisposable) | undefined;
}

/** What is remembered beyond the life of a process, by keys of 64 hexadecimal digits; best effort, so that neither rejects. */
export interface Memory {
  readonly read: (key: string) => Promise<unknown>;
  readonly remember: (key: string, value: unknown) => Promise<void>;
}

export class Machine implements AsyncDisposable {
  readonly store: Store;
  readonly source: ChunkSource & AsyncDisposable;
  /** What happens here, for whoever wants to watch. */
  readonly events: Events;
  readonly executor: LocalExecutor | undefined;
  /** What calls of kernels took. */
  readonly kernels: KernelHistory;
  /** Of all its executors' lanes. */
  readonly lanes: LaneSlots = new LaneSlots();
  readonly #code: CodeExecutor | undefined;
  readonly #gpus: GpuExecutors | undefined;
  /** What its jobs run on, once it has any. */
  #candidates: ExecutorList | undefined;
  readonly #id: string;
  readonly #threads: number;
  #isClosed = false;
  /** Walls that are being compared with those that stood. */
  #comparing: Promise<void> = Promise.resolve();
  readonly #memory: Memory | undefined;
  readonly #processes: ProcessSource = {
    take: (options = this.#spareOptions()) => this.#spares?.take(options) ?? ExecutorProcess.start(options),
  };
  /** What programs say of themselves, by the root of their code, the one asked for least recently first. */
  readonly #descriptions = new Map<string, ProgramDescription>();
  /** None where nobody asked for them: whoever runs one program and ends has no use for another process. */
  #spares: SpareExecutors | undefined;

  private constructor(store: Store, kernels: KernelHistory, events: Events, options: MachineOptions) {
    const { id, label, workers = availableParallelism() } = options;
    this.store = store;
    this.kernels = kernels;
    this.events = events;
    this.#id = id;
    this.#memory = options.memory;
    this.source = options.source?.(store, events) ?? store;
    // A machine without workers still looks into programs for others.
    this.#threads = Math.max(1, workers);
    if (workers === 0) return;
    const shared = {
      label,
      source: this.source,
      openWriter: (use: StoreWriterOptions) => store.openWriter(use),
      has: (refs: Uint8Array) => store.has(refs),
      spares: this.#processes,
      lanes: this.lanes,
    };
    const fastest = new FastestEngine({
      accelerators: () => this.accelerators,
      averages: kernels.averages,
    });
    this.executor = new LocalExecutor({ ...shared, id, threads: workers, kernels: fastest });
    this.#code = new CodeExecutor({
      id: codeIdOf(id),
      label,
      source: this.source,
      openWriter: () => store.openWriter(),
      has: (refs) => store.has(refs),
      places: store,
      slots: workers,
      lanes: this.lanes,
      kernels: fastest,
      findGpus: () => this.findAccelerators(),
    });
    const { looksAfresh, findAccelerators: find = findMachineAccelerators(looksAfresh) } = options;
    this.#gpus = new GpuExecutors({
      find: (signal) => find(this, signal),
      open: (accelerator, index) =>
        new LocalExecutor({
          ...shared,
          id: gpuIdOf(id, index),
          threads: Math.min(workers, GPU_PACKETS_MAX),
          kernels: new GpuEngine(accelerator),
          accelerator: accelerator.info,
        }),
      opened: (executors) => {
        for (const executor of executors) this.#candidates?.add(executor);
      },
      withdrawn: (executor, gpu) => {
        this.#candidates?.remove(executor);
        this.events.emit("withdrawn", gpu);
      },
    });
  }

  /** Rejects as `Store.open` does. */
  static async open(options: MachineOptions): Promise<Machine> {
    const events = options.events ?? new EventEmitter<EventMap>();
    const store = await Store.open(options.directory, {
      events,
      writesLittle: options.writesLittle === true,
    });
    const kernels = await KernelHistory.open(join(store.directory, KERNEL_HISTORY_FILE));
    return new Machine(store, kernels, events, options);
  }

  /** Those that run packets here: none on a machine that only stores. */
  get executors(): readonly Executor[] {
    const gpus = this.#gpus?.executors ?? [];
    return [this.executor, this.#code, ...gpus].filter((each) => each !== undefined);
  }

  /** GPUs that are used, once they were found. */
  get accelerators(): readonly Accelerator[] {
    return this.#gpus?.accelerators ?? [];
  }

  /** GPUs that are not used, and why, once they were looked for. */
  get unusedAccelerators(): readonly UnusedAccelerator[] {
    return this.#gpus?.unused ?? [];
  }

  /** Looks for GPUs, unless that was done before: resolves when those that can be used are among the executors. */
  async findAccelerators(): Promise<void> {
    await this.#gpus?.find();
  }

  /** Starts a spare executor process now and whenever there is none, so that new programs do not wait for one. */
  warm(): void {
    this.#spares ??= new SpareExecutors(this.#spareOptions());
  }

  /** As `standingWalls`, once a spare has started; with none when it does not start. */
  async walls(): Promise<readonly WallState[]> {
    this.warm();
    await this.#spares?.settled();
    return this.standingWalls();
  }

  /**
   * Each wall that executor processes start behind or lack, and which of the latter stood here before; none until a first
   * one has started.
   */
  async standingWalls(): Promise<readonly WallState[]> {
    const walls = standingWalls() ?? [];
    // Whoever has closed it may be removing its directory.
    if (this.#isClosed) return walls;
    const compared = this.#compare(walls);
    this.#comparing = Promise.allSettled([this.#comparing, compared]).then(() => undefined);
    return await compared;
  }

  async #compare(walls: readonly WallState[]): Promise<readonly WallState[]> {
    const history = new WallHistory(join(this.store.directory, WALL_HISTORY_FILE));
    const compared = await history.compare(walls);
    await history.remember(compared);
    return compared;
  }

  /** What the program whose bundle's stream is `code` says of itself. Rejects with PFS_PROGRAM_INVALID. */
  async inspect(code: Ref): Promise<ProgramDescription> {
    const key = refToHex(code);
    const known = this.#descriptions.get(key);
    const description = known ?? (await this.#inspect(code));
    this.#descriptions.delete(key);
    if (JSON.stringify(description).length <= DESCRIPTION_KEPT_CHARACTERS_MAX)
      this.#descriptions.set(key, description);
    const [oldest = ""] = this.#descriptions.keys();
    if (this.#descriptions.size > DESCRIPTIONS_KEPT_MAX) this.#descriptions.delete(oldest);
    return description;
  }

  async #inspect(code: Ref): Promise<ProgramDescription> {
    const key = refToHex(sha256(Buffer.from(`${guestEdition()}\0${refToHex(code)}`)));
    const remembered = descriptionIn(await this.#memory?.read(key));
    if (remembered !== undefined) return remembered;
    const description = await this.#lookInto(code);
    await this.#memory?.remember(key, description);
    return description;
  }

  async #lookInto(code: Ref): Promise<ProgramDescription> {
    const parts: Uint8Array[] = [];
    for await (const part of execute(this.source, code, { outputBytesMax: PROGRAM_CODE_BYTES_MAX }))
      parts.push(part);
    const bundle = Buffer.concat(parts);
    const description =
      (await this.executor?.inspect(bundle)) ?? (await inspectProgram(this.#processes, bundle));
    try {
      for (const kernel of description.kernels ?? []) await checkKernel(kernel);
    } catch (error) {
      throw hasCode(error, KernelErrorCode.invalid) ? invalidProgram(error.message, error) : error;
    }
    return description;
  }

  /**
   * Jobs on this machine's executor, if it lends one, and on those that others add to `executors`. `removeParts` frees what
   * other machines keep for an output file. To be closed before the runtime is.
   */
  openJobs(
    executors: ExecutorList = new ExecutorList(),
    removeParts: (out: string) => Promise<void> = async () => {},
  ): Jobs {
    this.#candidates = executors;
    for (const executor of this.executors) executors.add(executor);
    return new Jobs({
      source: this.source,
      openWriter: () => this.store.openWriter(),
      executors,
      events: this.events,
      history: new JobHistory(join(this.store.directory, JOB_HISTORY_FILE)),
      inspect: (code) => this.inspect(code),
      findGpus: () => this.findAccelerators(),
      kernels: this.kernels,
      removeParts: async (out) => {
        await this.removeParts(out);
        await removeParts(out);
      },
    });
  }

  /** Frees what this machine's executor keeps for the output file `out`. */
  async removeParts(out: string): Promise<void> {
    const gpus = Array.from({ length: ACCELERATORS_MAX }, (_, index) => gpuIdOf(this.#id, index));
    const { catalog } = this.store;
    for (const executor of [this.#id, codeIdOf(this.#id)]) await catalog.remove(partName(out, executor));
    // Most machines never had any: looking is cheaper than a removal.
    for (const name of gpus.map((executor) => partName(out, executor)))
      if ((await catalog.resolve(name)) !== undefined) await catalog.remove(name);
  }

  #spareOptions(): ExecutorProcessOptions {
    return sharedOptions(processOptions(PROGRAM_LIMITS_DEFAULT, this.#threads, LANE_INPUT_BYTES));
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#gpus?.close();
    await this.executor?.close();
    await this.#code?.close();
    await this.#spares?.close();
    await this.#comparing;
    // A node has no jobs of its own, whose ends have it kept.
    await this.kernels.keep();
    await this.source[Symbol.asyncDispose]();
    await this.store.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** What is read of inputs on this machine's disk, its GPUs read themselves. */
function findMachineAccelerators(
  looksAfresh: boolean | undefined,
): NonNullable<MachineOptions["findAccelerators"]> {
  return async ({ source, store }, signal) => {
    const history = join(store.directory, GPU_HISTORY_FILE);
    const reads = [store.segments];
    return await findAccelerators({ source, places: store, reads, history, looksAfresh, signal });
  };
}

/** The id of the executor of packet code beside the one of this id. */
function codeIdOf(id: string): string {
  return `${id}-code`;
}

/** The id of the executor of a GPU beside the one of this id. */
function gpuIdOf(id: string, index: number): string {
  return `${id}-gpu${index}`;
}

/** Undefined where nothing was remembered, or nothing that can be one. */
function descriptionIn(remembered: unknown): ProgramDescription | undefined {
  if (remembered === undefined) return undefined;
  try {
    return parseDescription(JSON.stringify(remembered));
  } catch {
    return undefined;
  }
}
