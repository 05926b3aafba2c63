/** Executes packets on this machine: each program in an executor process of its own, so that tenants share nothing. */
import { refFromHex, refKey } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { acceleratedEdition, guestEdition } from "../sandbox/edition.ts";
import type { ChunkSource, StoreWriter, StoreWriterOptions } from "../contracts/chunks.ts";
import type {
  Capacity,
  Executor,
  InlineCode,
  Lane,
  LaneListener,
  ProgramKind,
  Tenant,
} from "../contracts/executor.ts";
import { JobError, JobErrorCode, LaneError, LaneErrorCode } from "../errors.ts";
import type { AcceleratorInfo, KernelEngine } from "../contracts/kernels.ts";
import type { LaneSlots } from "../lane-slots.ts";
import { LocalLane } from "./local-lane.ts";
import type { LanesOfProgram } from "./local-lane.ts";
import { PacketRunner } from "./packet-runner.ts";
import type { RunnerContext, RunnerListener } from "./packet-runner.ts";
import { RunnerPlaces } from "./runner-places.ts";
import { SharedRunner } from "./shared-runner.ts";
import type { LaneWriter } from "./results.ts";
import { yieldsBuckets } from "./results.ts";
import type { ProcessSource } from "./shared-processes.ts";
import { SharedProcesses } from "./shared-processes.ts";
import { INPUT_CACHE_IDLE_MS, LANE_INPUT_BYTES, PROGRAM_CODE_BYTES_MAX } from "../limits.ts";
import { parseManifest } from "../program/manifest.ts";
import type { Manifest, ProgramDescription } from "../program/program.ts";
import { InputSource } from "../stream/inputs.ts";

export interface LocalExecutorOptions {
  readonly id: string;
  readonly label: string;
  /** Where manifests, code and inputs are read from. */
  readonly source: ChunkSource;
  /** Opens a writer for the results of a lane. */
  readonly openWriter: (options: StoreWriterOptions) => Promise<StoreWriter>;
  /** One byte (0 or 1) per 32-byte ref. */
  readonly has: (refs: Uint8Array) => Uint8Array | Promise<Uint8Array>;
  /** Not closed with the executor: others may use it too. */
  readonly spares: ProcessSource;
  /** Threads of each lane's process. */
  readonly threads: number;
  /** This machine's, which lanes of other executors have too. */
  readonly lanes: LaneSlots;
  /** Who computes its programs' kernels; they do themselves unless given. */
  readonly kernels?: KernelEngine | undefined;
  /**
   * The GPU that the engine has all kernels computed by. The executor is for programs whose results depend on that alone, by an
   * edition of its own.
   */
  readonly accelerator?: AcceleratorInfo | undefined;
  /** Memory that the inputs of one lane's packets in flight share. */
  readonly inputBytes?: number;
  /** How long a program's process stays while no lane has it, in milliseconds; PROCESS_KEPT_MS unless given. */
  readonly processKeptMs?: number;
  /** Processes of programs that there are at once; PROCESSES_MAX unless given. */
  readonly processesMax?: number;
  /** How long inputs stay in memory while there is no lane, in milliseconds. */
  readonly inputsIdleMs?: number;
}

export class LocalExecutor implements Executor, AsyncDisposable {
  readonly id: string;
  readonly label: string;
  readonly capacity: Capacity;
  readonly edition: string;
  readonly accelerator: AcceleratorInfo | undefined;
  readonly #options: LocalExecutorOptions;
  readonly #inputs: InputSource;
  readonly #processes: SharedProcesses;
  readonly #abort = new AbortController();
  readonly #places: RunnerPlaces;
  /** Those that lanes are loaded with or being loaded with, by tenant and manifest. */
  readonly #programs = new Map<string, LoadedProgram>();
  readonly #lanes = new Set<LocalLane>();
  readonly #loading = new Set<Promise<unknown>>();
  /** Runs while there is no lane. */
  #idle: NodeJS.Timeout | undefined;

  constructor(options: LocalExecutorOptions) {
    this.id = options.id;
    this.label = options.label;
    const { threads, accelerator } = options;
    this.accelerator = accelerator;
    this.capacity = accelerator === undefined ? { js: threads, kernel: threads } : { kernel: threads };
    this.edition = accelerator === undefined ? guestEdition() : acceleratedEdition(accelerator);
    this.#options = options;
    this.#inputs = new InputSource(options.source);
    this.#places = new RunnerPlaces(() => this.#processes.isCrowded);
    this.#processes = new SharedProcesses(options.spares, {
      keptMs: options.processKeptMs,
      processesMax: options.processesMax,
      crowded: () => this.#places.restOldest(),
    });
  }

  async load(
    manifest: Ref | InlineCode,
    listener: LaneListener,
    signal: AbortSignal,
    tenant?: Tenant,
  ): Promise<Lane> {
    if ("inline" in manifest) {
      throw invalidProgram("packet code does not run here");
    }
    this.#abort.signal.throwIfAborted();
    signal.throwIfAborted();
    const program = this.#program(manifest, tenant);
    const lane = this.#newLane(program, listener);
    // What one lane has loaded, others need not try.
    if (program.isTried) lane.prepare();
    else {
      const loading = this.#loadFirst(lane, program, AbortSignal.any([signal, this.#abort.signal]));
      this.#loading.add(loading);
      try {
        await loading;
      } finally {
        this.#loading.delete(loading);
      }
    }
    lane.slot.program = program.name;
    lane.slot.kind = program.kind;
    lane.slot.isLoaded = true;
    // Who gives up right after asking is heard, also where there was nothing to be waited for.
    await Promise.resolve();
    if (signal.aborted) await lane.close();
    signal.throwIfAborted();
    return lane;
  }

  async has(refs: Uint8Array): Promise<Uint8Array> {
    return this.#options.has(refs);
  }

  /** What a program says of itself. Rejects with PFS_PROGRAM_INVALID. */
  inspect(code: Uint8Array): Promise<ProgramDescription> {
    return this.#processes.inspect(code);
  }

  /** Ends every lane. Nobody is told: whoever loaded a lane knows, or closes it too. */
  async close(): Promise<void> {
    this.#abort.abort(new LaneError(LaneErrorCode.laneClosed, "the executor is closed"));
    clearTimeout(this.#idle);
    await Promise.allSettled(this.#loading);
    await Promise.all([...this.#lanes].map((lane) => lane.close()));
    await this.#processes.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #program(manifest: Ref, tenant: Tenant | undefined): LoadedProgram {
    const key = `${tenant ?? ""} ${refKey(manifest)}`;
    const known = this.#programs.get(key);
    if (known !== undefined) return known;
    const machine = {
      ...this.#options,
      inputs: this.#inputs,
      processes: this.#processes,
      places: this.#places,
      closed: (lane: LocalLane) => this.#release(lane, key),
      kinds: Object.keys(this.capacity),
    };
    const program = new LoadedProgram(machine, manifest, tenant);
    this.#programs.set(key, program);
    return program;
  }

  #newLane(program: LoadedProgram, listener: LaneListener): LocalLane {
    const slot = this.#options.lanes.take(this.accelerator === undefined ? "js" : "kernel", program.tenant);
    const lane = new LocalLane(program, slot, listener);
    program.lanes++;
    this.#lanes.add(lane);
    if (this.#lanes.size === 1) clearTimeout(this.#idle);
    return lane;
  }

  async #loadFirst(lane: LocalLane, program: LoadedProgram, signal: AbortSignal): Promise<void> {
    try {
      await program.fetch(signal);
      lane.slot.program = program.name;
      lane.slot.kind = program.kind;
      await lane.open(signal);
      program.isTried = true;
    } catch (error) {
      await lane.close();
      // Whatever failed because it was told to end.
      signal.throwIfAborted();
      throw error;
    }
  }

  #release(lane: LocalLane, key: string): void {
    this.#options.lanes.free(lane.slot);
    this.#lanes.delete(lane);
    const program = this.#programs.get(key);
    if (program !== undefined && --program.lanes === 0) this.#programs.delete(key);
    if (this.#lanes.size > 0 || this.#abort.signal.aborted) return;
    const { inputsIdleMs = INPUT_CACHE_IDLE_MS } = this.#options;
    clearTimeout(this.#idle);
    this.#idle = setTimeout(() => this.#inputs.forget(), inputsIdleMs).unref();
  }
}

/** What the lanes of one program and tenant have in common. */
class LoadedProgram implements LanesOfProgram {
  readonly tenant: Tenant | undefined;
  readonly places: RunnerPlaces;
  readonly closed: (lane: LocalLane) => void;
  lanes = 0;
  /** Whether it was loaded once, so that it loads. */
  isTried = false;
  readonly #machine: LoadedProgramOptions;
  readonly #manifest: Ref;
  #fetched: FetchedProgram | undefined;
  #shared: SharedRunner | undefined;

  constructor(machine: LoadedProgramOptions, manifest: Ref, tenant: Tenant | undefined) {
    this.tenant = tenant;
    this.places = machine.places;
    this.closed = machine.closed;
    this.#machine = machine;
    this.#manifest = manifest;
  }

  /** For people; it is fetched by then. */
  get name(): string {
    return this.#program.manifest.name;
  }

  get kind(): ProgramKind {
    return this.#program.manifest.kind;
  }

  async fetch(signal: AbortSignal): Promise<void> {
    const { inputs, kinds } = this.#machine;
    this.#fetched ??= await readProgram(this.#manifest, { inputs, kinds }, signal);
  }

  openWriter(): Promise<StoreWriter> {
    return this.#machine.openWriter({ isTemporary: yieldsBuckets(this.#program.manifest) });
  }

  newRunner(listener: RunnerListener, sink: LaneWriter): PacketRunner {
    const { inputs, processes, threads, kernels, inputBytes = LANE_INPUT_BYTES } = this.#machine;
    const { tenant } = this;
    return new PacketRunner({
      program: this.#program,
      tenant,
      inputs,
      processes,
      threads,
      inputBytes,
      kernels,
      listener,
      sink,
    });
  }

  shared(): SharedRunner {
    if (this.#shared !== undefined) return this.#shared;
    const shared: SharedRunner = new SharedRunner(this, () => {
      if (this.#shared === shared) this.#shared = undefined;
    });
    this.#shared = shared;
    return shared;
  }

  get #program(): FetchedProgram {
    if (this.#fetched === undefined) throw new Error("the program is not fetched yet");
    return this.#fetched;
  }
}

interface LoadedProgramOptions
  extends
    Pick<LocalExecutorOptions, "openWriter" | "inputBytes">,
    Pick<RunnerContext, "inputs" | "processes" | "threads" | "kernels"> {
  readonly places: RunnerPlaces;
  /** Of programs that run there. */
  readonly kinds: readonly string[];
  /** Called once for each lane that is closed. */
  readonly closed: (lane: LocalLane) => void;
}

export interface FetchedProgram {
  readonly manifest: Manifest;
  /** The bundle, UTF-8. */
  readonly code: Uint8Array;
}

/** A program of one of the kinds. Rejects with PFS_PROGRAM_INVALID, PFS_CHUNK_MISSING, and what else reading chunks and streams rejects with. */
export async function readProgram(
  ref: Ref,
  { inputs, kinds }: { readonly inputs: InputSource; readonly kinds: readonly string[] },
  signal: AbortSignal,
): Promise<FetchedProgram> {
  const [chunk] = await inputs.chunks([ref], signal);
  const manifest = parseManifest(chunk!);
  if (!kinds.includes(manifest.kind))
    throw invalidProgram(`programs of kind "${manifest.kind}" do not run here`);
  const stream = await inputs.stream(refFromHex(manifest.code)!, signal);
  if (stream.length > PROGRAM_CODE_BYTES_MAX) {
    throw invalidProgram(`its code has ${stream.length} bytes, more than ${PROGRAM_CODE_BYTES_MAX}`);
  }
  return { manifest, code: await stream.read(0, stream.length) };
}

function invalidProgram(reason: string): JobError {
  return new JobError(JobErrorCode.invalidProgram, `the program cannot be loaded: ${reason}`, { reason });
}
