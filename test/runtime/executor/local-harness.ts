/** A LocalExecutor over a store of its own, for the executor's suite and for tests of what only the local one does. */
import { mkdtempSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { refAt, refToHex } from "../../../packets/digest.ts";
import type { Ref } from "../../../packets/digest.ts";
import { SandboxError, SandboxErrorCode, StoreError, StoreErrorCode } from "../../../runtime/errors.ts";
import { encodeManifest } from "../../../runtime/program/manifest.ts";
import { PROGRAM_LIMITS_DEFAULT } from "../../../runtime/limits.ts";
import { execute } from "../../../runtime/stream/execute.ts";
import { LaneSlots } from "../../../runtime/lane-slots.ts";
import { LocalExecutor } from "../../../runtime/executor/local-executor.ts";
import { inspectProgram, sharedOptions, processOptions } from "../../../runtime/executor/shared-processes.ts";
import type {
  ExecutorProcessOptions,
  ExecutorProcess,
} from "../../../runtime/sandbox/process/executor-process.ts";
import type { ProgramDescription } from "../../../runtime/program/program.ts";
import { SpareExecutors } from "../../../runtime/sandbox/process/spare-executors.ts";
import { ingest } from "../../../runtime/stream/ingest.ts";
import { Store } from "../../../runtime/store/store.ts";
import type { StoreWriter, StoreWriterOptions } from "../../../runtime/contracts/chunks.ts";
import { GpuEngine } from "../../../runtime/engine/gpu-engine.ts";
import type { Accelerator, KernelEngine } from "../../../runtime/contracts/kernels.ts";
import type { ExecutorHarness, ProgramOptions } from "../../suites/executor.ts";
import { programCode } from "../../program-code.ts";
import { inOnePiece } from "../store/store-fixture.ts";

export interface LocalHarnessOptions {
  readonly threads?: number;
  readonly inputBytes?: number;
  readonly inputsIdleMs?: number;
  readonly processKeptMs?: number;
  readonly processesMax?: number;
  readonly kernels?: KernelEngine;
  /** Programs are of kind "kernel", and theirs all run on this GPU, which is closed with the harness. */
  readonly openGpu?: (store: Store) => Promise<Accelerator>;
}

export class LocalHarness implements ExecutorHarness {
  readonly executor: LocalExecutor;
  readonly lanes: LaneSlots = new LaneSlots();
  /** Every process that a lane was ever given, the latest last. */
  readonly processes: ExecutorProcess[] = [];
  /** Writers for results that are open. */
  writers = 0;
  /** Lets writing results fail, and taking a process. */
  sinkFails = false;
  takeFails = false;
  /** When a call of a process is given up whatever CPU time it used. */
  ceilingMs: number | undefined;
  readonly store: Store;
  /** What tests put in stays protected until the end. */
  readonly #writer: StoreWriter;
  readonly #spares: SpareExecutors;
  readonly #descriptions = new Map<string, Promise<ProgramDescription>>();

  readonly #gpu: Accelerator | undefined;

  private constructor(
    store: Store,
    writer: StoreWriter,
    options: LocalHarnessOptions,
    gpu: Accelerator | undefined,
  ) {
    const { threads = 2, inputBytes = 32 * 1024 * 1024, inputsIdleMs, processKeptMs, processesMax } = options;
    const kernels = gpu === undefined ? options.kernels : new GpuEngine(gpu);
    this.store = store;
    this.#gpu = gpu;
    this.#writer = writer;
    this.#spares = new SpareExecutors(
      sharedOptions(processOptions(PROGRAM_LIMITS_DEFAULT, threads, inputBytes)),
    );
    this.executor = new LocalExecutor({
      lanes: this.lanes,
      id: "local",
      label: "this machine",
      source: store,
      openWriter: (options) => this.#open(options),
      has: (refs) => store.has(refs),
      spares: { take: (wanted) => this.#take(wanted) },
      threads,
      inputBytes,
      accelerator: gpu?.info,
      kernels,
      ...(inputsIdleMs === undefined ? {} : { inputsIdleMs }),
      ...(processKeptMs === undefined ? {} : { processKeptMs }),
      ...(processesMax === undefined ? {} : { processesMax }),
    });
  }

  static async open(options: LocalHarnessOptions = {}): Promise<LocalHarness> {
    const store = await Store.open(mkdtempSync(join(tmpdir(), "packetfs-executor-")));
    return new LocalHarness(store, await store.openWriter(), options, await options.openGpu?.(store));
  }

  async putFile(bytes: Uint8Array): Promise<Ref> {
    return (await ingest(this.#writer, inOnePiece(bytes))).root;
  }

  async putChunk(bytes: Uint8Array): Promise<Ref> {
    const block = new Uint8Array(bytes);
    const { refs } = await this.#writer.write(block, Uint32Array.of(bytes.byteLength));
    return refAt(refs, 0).slice();
  }

  async putProgram(source: string, options: ProgramOptions = {}): Promise<Ref> {
    const { name = "program", entry = "map", args = null, files } = options;
    const code = programCode(source);
    // Tests load the same few programs again and again.
    const known = this.#descriptions.get(source) ?? inspectProgram(this.#spares, code);
    this.#descriptions.set(source, known);
    const manifest = encodeManifest({
      version: 1,
      kind: this.executor.accelerator === undefined ? "js" : "kernel",
      name,
      code: refToHex(await this.putFile(code)),
      entry,
      description: await known,
      args: JSON.stringify(args),
      ...(files === undefined ? {} : { files }),
    });
    return this.putChunk(manifest);
  }

  async readChunk(ref: Ref): Promise<Uint8Array> {
    return (await this.store.read([ref]))[0]!;
  }

  async readStream(root: Ref): Promise<Uint8Array> {
    const parts: Uint8Array[] = [];
    for await (const part of execute(this.store, root)) parts.push(part.slice());
    return new Uint8Array(Buffer.concat(parts));
  }

  async readName(name: string): Promise<Uint8Array> {
    const record = await this.store.catalog.resolve(name);
    if (record === undefined) throw new Error(`no name ${name}`);
    const bytes = await this.readStream(record.root);
    if (bytes.byteLength !== record.length) throw new Error(`${name} has another length`);
    return bytes;
  }

  async close(): Promise<void> {
    await this.executor.close();
    await this.#gpu?.close();
    await this.#spares.close();
    await this.#writer.close();
    await this.store.close();
    await rm(this.store.directory, { recursive: true, force: true });
  }

  async #take(options?: ExecutorProcessOptions): Promise<ExecutorProcess> {
    if (this.takeFails) throw new SandboxError(SandboxErrorCode.startFailed, "no process can be started");
    const { ceilingMs } = this;
    const wanted = ceilingMs === undefined || options === undefined ? options : { ...options, ceilingMs };
    const process = await this.#spares.take(wanted);
    this.processes.push(process);
    return process;
  }

  async #open(options: StoreWriterOptions): Promise<StoreWriter> {
    const writer = await this.store.openWriter(options);
    this.writers++;
    const close = async (): Promise<void> => {
      this.writers--;
      await writer.close();
    };
    return {
      write: (block, lengths) =>
        this.sinkFails
          ? Promise.reject(new StoreError(StoreErrorCode.full, "the disk is full"))
          : writer.write(block, lengths),
      claim: (refs) => writer.claim(refs),
      flush: () => writer.flush(),
      bind: (binding) => writer.bind(binding),
      close,
      [Symbol.asyncDispose]: close,
    };
  }
}
