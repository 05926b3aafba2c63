/**
 * A machine's GPUs, and an executor for each. They are looked for when somebody first needs to know, since that starts
 * processes and takes a second: who only lists names never waits for it.
 */
import { messageOf } from "../packets/errors.ts";
import type { Executor } from "./contracts/executor.ts";
import type { Accelerator, FoundAccelerators, UnusedAccelerator } from "./contracts/kernels.ts";
import { AdmittedAccelerator } from "./engine/admission.ts";

export interface GpuExecutorsOptions {
  /** Looks for GPUs. */
  readonly find: () => Promise<FoundAccelerators>;
  /** An executor whose kernels run on the GPU of this index. */
  readonly open: (accelerator: Accelerator, index: number) => Executor & AsyncDisposable;
  /** Called once, when all are there. */
  readonly opened: (executors: readonly Executor[]) => void;
}

export class GpuExecutors implements AsyncDisposable {
  readonly #options: GpuExecutorsOptions;
  #finding: Promise<void> | undefined;
  #accelerators: readonly Accelerator[] = [];
  #executors: readonly (Executor & AsyncDisposable)[] = [];
  #unused: readonly UnusedAccelerator[] = [];
  #isClosed = false;

  constructor(options: GpuExecutorsOptions) {
    this.#options = options;
  }

  /** Those that were found so far. */
  get accelerators(): readonly Accelerator[] {
    return this.#accelerators;
  }

  get executors(): readonly Executor[] {
    return this.#executors;
  }

  /** GPUs that were found and are not used, and why; or why none was found. */
  get unused(): readonly UnusedAccelerator[] {
    return this.#unused;
  }

  /** Resolves when they are there that can be used. Never rejects: without any, CPUs do all the work. */
  find(): Promise<void> {
    this.#finding ??= this.#find();
    return this.#finding;
  }

  async #find(): Promise<void> {
    if (this.#isClosed) return;
    let found: FoundAccelerators;
    try {
      found = await this.#options.find();
    } catch (error) {
      found = { accelerators: [], unused: [{ label: "GPU", reason: messageOf(error) }] };
    }
    this.#unused = found.unused;
    this.#accelerators = found.accelerators.map((accelerator) => new AdmittedAccelerator(accelerator));
    if (this.#isClosed) return;
    this.#executors = this.#accelerators.map((accelerator, index) => this.#options.open(accelerator, index));
    this.#options.opened(this.#executors);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#finding;
    await Promise.all(this.#executors.map((executor) => executor[Symbol.asyncDispose]()));
    await Promise.all(this.#accelerators.map((accelerator) => accelerator.close()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
