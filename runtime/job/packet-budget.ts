/** Packets that a machine has in memory, of all its jobs and programs together: more are refused, instead of running out of it. */
import { JobError, JobErrorCode } from "../errors.ts";

export class PacketBudget {
  readonly #max: number;
  #taken = 0;

  constructor(max: number) {
    this.#max = max;
  }

  /** Throws PFS_JOB_OVER_LIMIT {tasks, max} when there is no room for them now. */
  take(packets: number): void {
    if (this.#taken + packets > this.#max) {
      throw new JobError(
        JobErrorCode.overLimit,
        `${packets} packets more than the ${this.#taken} that are being worked on are more than ${this.#max}`,
        { tasks: this.#taken + packets, max: this.#max },
      );
    }
    this.#taken += packets;
  }

  give(packets: number): void {
    this.#taken -= packets;
  }
}
