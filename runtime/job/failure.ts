/** The first thing that goes wrong for good: whoever is waiting for anything stops waiting. */
import { JobError, JobErrorCode } from "../errors.ts";
import type { JobSpec } from "./job.ts";

export class Failure {
  readonly #abort = new AbortController();
  readonly #failed: Promise<never>;
  #reject!: (error: unknown) => void;

  constructor() {
    this.#failed = new Promise<never>((_, reject) => {
      this.#reject = reject;
    });
    // Whoever does not race with it hears of it through the signal.
    this.#failed.catch(() => {});
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** Only the first one counts. */
  fail(error: unknown): void {
    this.#reject(error);
    this.#abort.abort(error);
  }

  throwIfFailed(): void {
    this.#abort.signal.throwIfAborted();
  }

  /** What the promise resolves with, unless something fails before. */
  race<T>(promise: Promise<T>): Promise<T> {
    return Promise.race([promise, this.#failed]);
  }

  lostOutputs({ id, name }: JobSpec): JobError {
    return new JobError(
      JobErrorCode.nodeLost,
      `what "${name}" made was lost again and again before it was kept`,
      { job: id, program: name },
    );
  }
}
