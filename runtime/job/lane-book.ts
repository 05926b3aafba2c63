/** The lanes that were asked for and are not over yet, by the number that the scheduler knows them by. */
import { JobError, JobErrorCode } from "../errors.ts";
import { LANES_CLOSE_MS_MAX } from "../limits.ts";
import type { Executor } from "../contracts/executor.ts";
import { LaneLink } from "./lane-link.ts";
import type { LaneEvents } from "./lane-link.ts";
import type { ProgramLink } from "./program-link.ts";
import type { SetTimer } from "./time.ts";

export class LaneBook {
  readonly #lanes = new Map<number, LaneLink>();
  readonly #closing = new Set<Promise<void>>();

  /** Begins to load the program. */
  open(number: number, executor: Executor, program: ProgramLink, events: LaneEvents): void {
    const link = new LaneLink(number, executor, program, events);
    this.#lanes.set(number, link);
    void link.load();
  }

  get(number: number): LaneLink | undefined {
    return this.#lanes.get(number);
  }

  /** The lane is over by itself. False when that is known. */
  forget(number: number): boolean {
    return this.#lanes.delete(number);
  }

  close(number: number): LaneLink | undefined {
    const link = this.#lanes.get(number);
    if (link === undefined) return undefined;
    this.#lanes.delete(number);
    const closing = link.close(new JobError(JobErrorCode.cancelled, "the lane is not needed any more"));
    this.#closing.add(closing);
    void closing.then(() => this.#closing.delete(closing));
    return link;
  }

  /** Closes all lanes of an executor. Returns the programs that they ran. */
  closeAll(executor: Executor): Set<ProgramLink> {
    const programs = new Set<ProgramLink>();
    for (const link of this.#lanes.values()) {
      if (link.executor === executor) programs.add(this.close(link.number)!.program);
    }
    return programs;
  }

  /** Resolves when no lane is being closed, or when one that is far away takes too long. */
  async closed(setTimer: SetTimer): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const cancel = setTimer(resolve, LANES_CLOSE_MS_MAX);
    await Promise.race([Promise.all(this.#closing), promise]);
    cancel();
  }
}
