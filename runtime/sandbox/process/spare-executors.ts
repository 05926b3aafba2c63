/**
 * Keeps one process warm, so that a new tenant's first packet does not wait for one to start. Starting it is work too, so it
 * is done while those that were taken have nothing to do.
 */
import { SandboxError, SandboxErrorCode } from "../../errors.ts";
import { SPARE_DELAY_MS } from "../../limits.ts";
import { ExecutorProcess } from "./executor-process.ts";
import type { ExecutorProcessOptions } from "./executor-process.ts";

export class SpareExecutors implements AsyncDisposable {
  readonly #options: ExecutorProcessOptions;
  #spare: { readonly process: Promise<ExecutorProcess>; readonly start: AbortController } | undefined;
  readonly #taken = new Set<ExecutorProcess>();
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: ExecutorProcessOptions) {
    this.#options = options;
    this.#start();
  }

  /**
   * A process of the caller's own. Options that ask for other threads or more shared memory than the spare's cost the start
   * of another. Rejects with PFS_EXECUTOR_START_FAILED or PFS_SHARED_MEMORY_FAILED, and with PFS_EXECUTOR_ENDED when this is
   * closed.
   */
  async take(options: ExecutorProcessOptions = this.#options): Promise<ExecutorProcess> {
    if (this.#closed) throw closedError();
    const fits =
      options.threads === this.#options.threads &&
      options.sharedMemoryBytes <= this.#options.sharedMemoryBytes;
    const spare = fits ? this.#spare : undefined;
    const process = await this.#takeOrStart(spare?.process, options);
    this.#taken.add(process);
    void process.ended.then(() => this.#taken.delete(process));
    return process;
  }

  async #takeOrStart(
    spare: Promise<ExecutorProcess> | undefined,
    options: ExecutorProcessOptions,
  ): Promise<ExecutorProcess> {
    if (spare === undefined) return ExecutorProcess.start(options);
    this.#spare = undefined;
    this.#startLater();
    const executor = await spare.catch(() => undefined);
    if (executor?.adapt(options) === true) return executor;
    // It did not start, or has ended while it waited.
    await executor?.close();
    return ExecutorProcess.start(options);
  }

  #startLater(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      const isIdle = [...this.#taken].every(({ pending }) => pending === 0);
      if (isIdle) this.#start();
      else if (!this.#closed) this.#startLater();
    }, SPARE_DELAY_MS).unref();
  }

  /** Resolves when the spare that is starting now, if one is, has started or failed to. */
  async settled(): Promise<void> {
    await this.#spare?.process.catch(() => undefined);
  }

  /** Ends the spare, though it may be starting. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    const spare = this.#spare;
    this.#spare = undefined;
    spare?.start.abort();
    await (await spare?.process.catch(() => undefined))?.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #start(): void {
    if (this.#closed || this.#spare !== undefined) return;
    const start = new AbortController();
    const process = ExecutorProcess.start({ ...this.#options, isSpare: true }, start.signal);
    // Whoever takes it tries again and hears of it then.
    process.catch(() => undefined);
    this.#spare = { process, start };
  }
}

function closedError(): SandboxError {
  const detail = "no more executor processes are started";
  return new SandboxError(SandboxErrorCode.ended, detail, { reason: "closed", detail });
}
