/** Executes packets on this machine: each program in an executor process of its own, so that tenants share nothing. */
import type { Ref } from "../../packets/digest.ts";
import { LANES_MAX } from "../../packets/limits.ts";
import { PoolError, PoolErrorCode } from "../errors.ts";
import { WINDOW_BYTES } from "../limits.ts";
import type { ProgramDescription } from "../program/program.ts";
import type { ChunkSource, StoreWriter } from "../contracts/chunks.ts";
import type { Capacity, Executor, Lane, LaneListener } from "../contracts/executor.ts";
import { InputSource } from "../stream/inputs.ts";
import { readProgram } from "./stored-program.ts";
import { LocalLane } from "./lane.ts";
import type { ProcessSource } from "./process-start.ts";
import { TenantProcesses } from "./tenant-processes.ts";

export interface LocalExecutorOptions {
  readonly id: string;
  readonly label: string;
  /** Where manifests, code and inputs are read from. */
  readonly source: ChunkSource;
  /** Opens a writer for the results of a lane. */
  readonly openWriter: () => Promise<StoreWriter>;
  /** One byte (0 or 1) per 32-byte ref. */
  readonly has: (refs: Uint8Array) => Uint8Array | Promise<Uint8Array>;
  /** Not closed with the executor: others may use it too. */
  readonly spares: ProcessSource;
  /** Threads of each lane's process. */
  readonly threads: number;
  /** Memory that the inputs of one lane's packets in flight share. */
  readonly windowBytes?: number;
}

export class LocalExecutor implements Executor, AsyncDisposable {
  readonly id: string;
  readonly label: string;
  readonly capacity: Capacity;
  readonly #options: LocalExecutorOptions;
  readonly #inputs: InputSource;
  readonly #processes: TenantProcesses;
  readonly #abort = new AbortController();
  /** By lane number; undefined while a lane is being loaded. */
  readonly #lanes = new Map<number, LocalLane | undefined>();
  readonly #loading = new Set<Promise<unknown>>();
  #lastLane = 0;

  constructor(options: LocalExecutorOptions) {
    this.id = options.id;
    this.label = options.label;
    this.capacity = { js: options.threads };
    this.#options = options;
    this.#inputs = new InputSource(options.source);
    this.#processes = new TenantProcesses(options.spares);
  }

  async load(manifest: Ref, listener: LaneListener, signal: AbortSignal): Promise<Lane> {
    const either = AbortSignal.any([signal, this.#abort.signal]);
    either.throwIfAborted();
    const number = this.#reserve();
    const loading = this.#load(number, manifest, listener, either);
    this.#loading.add(loading);
    try {
      return await loading;
    } catch (error) {
      this.#lanes.delete(number);
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
    this.#abort.abort(new PoolError(PoolErrorCode.laneClosed, "the executor is closed"));
    await Promise.allSettled(this.#loading);
    const lanes = [...this.#lanes.values()].filter((lane) => lane !== undefined);
    await Promise.all(lanes.map((lane) => lane.close()));
    await this.#processes.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #load(
    number: number,
    manifest: Ref,
    listener: LaneListener,
    signal: AbortSignal,
  ): Promise<LocalLane> {
    const { openWriter, threads, windowBytes = WINDOW_BYTES } = this.#options;
    const program = await readProgram(manifest, this.#inputs, signal);
    const context = {
      number,
      program,
      inputs: this.#inputs,
      writer: await openWriter(),
      processes: this.#processes,
      threads,
      windowBytes,
      listener,
      closed: () => void this.#lanes.delete(number),
    };
    const lane = await LocalLane.open(context, signal);
    this.#lanes.set(number, lane);
    return lane;
  }

  /** A lane number that is free. */
  #reserve(): number {
    if (this.#lanes.size === LANES_MAX) {
      throw new PoolError(PoolErrorCode.lanesFull, `all ${LANES_MAX} lanes are taken`, { max: LANES_MAX });
    }
    do this.#lastLane = (this.#lastLane % LANES_MAX) + 1;
    while (this.#lanes.has(this.#lastLane));
    this.#lanes.set(this.#lastLane, undefined);
    return this.#lastLane;
  }
}
