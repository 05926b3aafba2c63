/** Executes packets on this machine: each program in an executor process of its own, so that tenants share nothing. */
import { refFromHex } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { guestEdition } from "../sandbox/edition.ts";
import type { ChunkSource, StoreWriter, StoreWriterOptions } from "../contracts/chunks.ts";
import type { Capacity, Executor, InlineCode, Lane, LaneListener, Tenant } from "../contracts/executor.ts";
import { JobError, JobErrorCode, LaneError, LaneErrorCode } from "../errors.ts";
import type { LaneSlot, LaneSlots } from "../lane-slots.ts";
import { LocalLane } from "./lane.ts";
import type { LaneContext } from "./lane.ts";
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
  /** Memory that the inputs of one lane's packets in flight share. */
  readonly inputBytes?: number;
  /** How long a program's process stays while no lane has it, in milliseconds; PROCESS_KEPT_MS unless given. */
  readonly processKeptMs?: number;
  /** How long inputs stay in memory while there is no lane, in milliseconds. */
  readonly inputsIdleMs?: number;
}

export class LocalExecutor implements Executor, AsyncDisposable {
  readonly id: string;
  readonly label: string;
  readonly capacity: Capacity;
  readonly edition: string = guestEdition();
  readonly #options: LocalExecutorOptions;
  readonly #inputs: InputSource;
  readonly #processes: SharedProcesses;
  readonly #abort = new AbortController();
  /** By the slots that they have; undefined while a lane is being loaded. */
  readonly #lanes = new Map<LaneSlot, LocalLane | undefined>();
  readonly #loading = new Set<Promise<unknown>>();
  /** Runs while there is no lane. */
  #idle: NodeJS.Timeout | undefined;

  constructor(options: LocalExecutorOptions) {
    this.id = options.id;
    this.label = options.label;
    this.capacity = { js: options.threads };
    this.#options = options;
    this.#inputs = new InputSource(options.source);
    this.#processes = new SharedProcesses(options.spares, options.processKeptMs);
  }

  async load(
    manifest: Ref | InlineCode,
    listener: LaneListener,
    signal: AbortSignal,
    tenant?: Tenant,
  ): Promise<Lane> {
    if ("inline" in manifest) {
      const reason = "packet code does not run here";
      throw new JobError(JobErrorCode.invalidProgram, `the program cannot be loaded: ${reason}`, { reason });
    }
    const either = AbortSignal.any([signal, this.#abort.signal]);
    either.throwIfAborted();
    const slot = this.#options.lanes.take("js", tenant);
    this.#lanes.set(slot, undefined);
    clearTimeout(this.#idle);
    const loading = this.#load({ slot, listener }, manifest, either);
    this.#loading.add(loading);
    try {
      return await loading;
    } catch (error) {
      this.#release(slot);
      // Whatever failed because it was told to end.
      either.throwIfAborted();
      throw error;
    } finally {
      this.#loading.delete(loading);
    }
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
    const lanes = [...this.#lanes.values()].filter((lane) => lane !== undefined);
    await Promise.all(lanes.map((lane) => lane.close()));
    await this.#processes.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #load(
    wanted: Pick<LaneContext, "slot" | "listener">,
    manifest: Ref,
    signal: AbortSignal,
  ): Promise<LocalLane> {
    const { openWriter, threads, inputBytes = LANE_INPUT_BYTES } = this.#options;
    const program = await readProgram(manifest, this.#inputs, signal);
    const { slot } = wanted;
    slot.program = program.manifest.name;
    const context = {
      ...wanted,
      program,
      inputs: this.#inputs,
      writer: await openWriter({ isTemporary: yieldsBuckets(program.manifest) }),
      processes: this.#processes,
      threads,
      inputBytes,
      closed: () => this.#release(slot),
    };
    const lane = await LocalLane.open(context, signal);
    slot.isLoaded = true;
    this.#lanes.set(slot, lane);
    return lane;
  }

  #release(slot: LaneSlot): void {
    this.#options.lanes.free(slot);
    this.#lanes.delete(slot);
    if (this.#lanes.size > 0 || this.#abort.signal.aborted) return;
    const { inputsIdleMs = INPUT_CACHE_IDLE_MS } = this.#options;
    clearTimeout(this.#idle);
    this.#idle = setTimeout(() => this.#inputs.forget(), inputsIdleMs).unref();
  }
}

export interface FetchedProgram {
  readonly manifest: Manifest;
  /** The bundle, UTF-8. */
  readonly code: Uint8Array;
}

/** Rejects with PFS_PROGRAM_INVALID, PFS_CHUNK_MISSING, and what else reading chunks and streams rejects with. */
export async function readProgram(
  ref: Ref,
  inputs: InputSource,
  signal: AbortSignal,
): Promise<FetchedProgram> {
  const [chunk] = await inputs.chunks([ref], signal);
  const manifest = parseManifest(chunk!);
  const stream = await inputs.stream(refFromHex(manifest.code)!, signal);
  if (stream.length > PROGRAM_CODE_BYTES_MAX) {
    const reason = `its code has ${stream.length} bytes, more than ${PROGRAM_CODE_BYTES_MAX}`;
    throw new JobError(JobErrorCode.invalidProgram, `the program cannot be loaded: ${reason}`, { reason });
  }
  return { manifest, code: await stream.read(0, stream.length) };
}
