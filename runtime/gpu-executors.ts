/**
 * A machine's GPUs, and an executor for each. They are looked for when somebody first needs to know, since that starts
 * processes and takes a second: who only lists names never waits for it.
 */
import { messageOf } from "../packets/errors.ts";
import type { Executor } from "./contracts/executor.ts";
import type { Accelerator, FoundAccelerators, UnusedAccelerator } from "./contracts/kernels.ts";
import { AdmittedAccelerator } from "./engine/admission.ts";

export interface GpuExecutorsOptions {
  /** Looks for GPUs. May reject, and leaves nothing open when the signal fires before it resolves. */
  readonly find: (signal: AbortSignal) => Promise<FoundAccelerators>;
  /** An executor whose kernels run on the GPU of this index. */
  readonly open: (accelerator: Accelerator, index: number) => Opened;
  /** Called once, when all are there. */
  readonly opened: (executors: readonly Executor[]) => void;
  /** Called with one whose GPU runs no calls any more: it gets no packets, and is closed then. */
  readonly withdrawn: (executor: Executor, gpu: UnusedAccelerator) => void;
}

type Opened = Executor & AsyncDisposable;

export class GpuExecutors implements AsyncDisposable {
  readonly #options: GpuExecutorsOptions;
  #finding: Promise<void> | undefined;
  #accelerators: readonly Accelerator[] = [];
  #executors: readonly Opened[] = [];
  #unused: readonly UnusedAccelerator[] = [];
  /** Resolves when those that were withdrawn are closed. */
  #leaving: Promise<unknown> = Promise.resolve();
  readonly #closing = new AbortController();

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
    const { signal } = this.#closing;
    let found: FoundAccelerators;
    try {
      found = await this.#options.find(signal);
    } catch (error) {
      found = { accelerators: [], unused: [{ label: "GPU", reason: messageOf(error) }] };
    }
    this.#unused = found.unused;
    this.#accelerators = found.accelerators.map((accelerator) => new AdmittedAccelerator(accelerator));
    if (signal.aborted) return;
    this.#executors = this.#accelerators.map((accelerator, index) => this.#options.open(accelerator, index));
    this.#options.opened(this.#executors);
    for (const [index, accelerator] of this.#accelerators.entries()) {
      const executor = this.#executors[index]!;
      void accelerator.gone.then((reason) => this.#withdraw(accelerator, executor, reason));
    }
  }

  #withdraw(accelerator: Accelerator, executor: Opened, reason: string): void {
    if (this.#closing.signal.aborted) return;
    this.#accelerators = this.#accelerators.filter((other) => other !== accelerator);
    this.#executors = this.#executors.filter((other) => other !== executor);
    const gpu = { label: accelerator.info.label, reason };
    this.#unused = [...this.#unused, gpu];
    this.#options.withdrawn(executor, gpu);
    this.#leaving = Promise.all([this.#leaving, executor[Symbol.asyncDispose](), accelerator.close()]);
  }

  async close(): Promise<void> {
    this.#closing.abort(new Error("the machine is closed"));
    await this.#finding;
    await this.#leaving;
    await Promise.all(this.#executors.map((executor) => executor[Symbol.asyncDispose]()));
    await Promise.all(this.#accelerators.map((accelerator) => accelerator.close()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
