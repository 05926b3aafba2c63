/**
 * Results of jobs that have no name: they are there to be read as long as the client is for which the jobs ran. A client whose
 * connection broke may come back, and says then that it is the one that was there before.
 */
import type { SetTimer } from "../../runtime/job/jobs.ts";
import { JOB_ORPHAN_MS, UNNAMED_RESULTS_MAX } from "../limits.ts";
import { unrefTimer } from "./followed-jobs.ts";

export interface HeldResultsOptions {
  /** Nobody reads the unnamed result of the job with this id any more. */
  readonly release: (job: string) => Promise<void>;
  /** Told what became of a release that nobody waits for. */
  readonly onFailure: (error: unknown) => void;
  readonly setTimer?: SetTimer;
}

/** One session of a client. */
export interface Attendance {
  /** Keeps the job's result for the client, in place of its oldest one beyond UNNAMED_RESULTS_MAX. Rejects as `release` does. */
  hold(job: string): Promise<void>;
  /**
   * The session is over. What the client holds is released, unless another session of it is there; where it may come back, only
   * when it has not come for JOB_ORPHAN_MS. Rejects as `release` does.
   */
  leave(mayReturn: boolean): Promise<void>;
}

/** A client, over all its sessions. */
interface Holder {
  readonly jobs: Set<string>;
  sessions: number;
  /** Takes back that its results are to be released. */
  keep: () => void;
}

export class HeldResults {
  readonly #options: HeldResultsOptions;
  readonly #setTimer: SetTimer;
  readonly #holders = new Map<string, Holder>();

  constructor(options: HeldResultsOptions) {
    this.#options = options;
    this.#setTimer = options.setTimer ?? unrefTimer;
  }

  /** A session begins, of that instance of a client which has the key with this id. */
  attend(client: string, instance: string): Attendance {
    const key = `${client} ${instance}`;
    const known = this.#holders.get(key);
    const holder: Holder = known ?? { jobs: new Set(), sessions: 0, keep: () => {} };
    if (known === undefined) this.#holders.set(key, holder);
    holder.sessions++;
    holder.keep();
    return {
      hold: (job) => this.#hold(key, job),
      leave: async (mayReturn) => {
        holder.sessions--;
        if (holder.sessions > 0) return;
        if (!mayReturn) return await this.#release(key, holder);
        const release = (): void => void this.#release(key, holder).catch(this.#options.onFailure);
        holder.keep = this.#setTimer(release, JOB_ORPHAN_MS);
      },
    };
  }

  async #hold(key: string, job: string): Promise<void> {
    const jobs = this.#holders.get(key)?.jobs;
    // The client went while the job ended.
    if (jobs === undefined) return await this.#options.release(job);
    jobs.add(job);
    if (jobs.size <= UNNAMED_RESULTS_MAX) return;
    const [oldest] = jobs;
    jobs.delete(oldest!);
    await this.#options.release(oldest!);
  }

  /** All that can be; rejects then with what the first of the others failed with. */
  async #release(key: string, { jobs }: Holder): Promise<void> {
    this.#holders.delete(key);
    const releases = await Promise.allSettled([...jobs].map((job) => this.#options.release(job)));
    for (const release of releases) if (release.status === "rejected") throw release.reason;
  }
}
