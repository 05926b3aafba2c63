/**
 * Jobs of clients, by the numbers that the clients gave them. A job whose client lost its connection goes on for a while, so
 * that the client finds it, or what came of it, when it asks for the same job again.
 */
import { JobError, JobErrorCode } from "../../runtime/errors.ts";
import type { JobEvent } from "../../runtime/contracts/events.ts";
import type { JobOutcome } from "../../runtime/contracts/jobs.ts";
import { JOB_EVENTS_KEPT, JOB_ORPHAN_MS, JOB_OUTCOME_BYTES_MAX } from "../limits.ts";

/** An outcome as it is sent. */
export interface SentOutcome {
  readonly outcome: Omit<JobOutcome, "value">;
  /** The value's text; undefined where there is none. */
  readonly value: Uint8Array | undefined;
}

export interface JobAsked {
  /** Whose job it is: another client's job of the same number is another job. */
  readonly client: string;
  readonly job: string;
  /** Events of it that the client has seen. */
  readonly seen: number;
  /** Called with those that it has not. */
  readonly onEvent: (event: JobEvent) => void;
  /** Starts the job where it is not there yet. */
  readonly start: (signal: AbortSignal, onEvent: (event: JobEvent) => void) => Promise<SentOutcome>;
}

/** A client that waits for a job. The last one that asked is the one that is told. */
export interface Follower {
  readonly outcome: Promise<SentOutcome>;
  /** The client wants it no more: the job ends. */
  cancel(reason: unknown): void;
  /** The client's connection is lost: the job goes on, and ends when nobody comes for it. */
  leave(): void;
}

interface FollowedJob {
  readonly key: string;
  readonly outcome: Promise<SentOutcome>;
  readonly controller: AbortController;
  /** The last ones, and how many there were before them. */
  readonly events: JobEvent[];
  dropped: number;
  follower: Follower | undefined;
  onEvent: ((event: JobEvent) => void) | undefined;
  bytes: number;
  hasEnded: boolean;
  /** What is to become of it when nobody asks for it, taken back. */
  keep: () => void;
}

/** Calls `run` after so many milliseconds, unless what it returns is called before. */
export type SetTimer = (run: () => void, milliseconds: number) => () => void;

export class FollowedJobs {
  readonly #jobs = new Map<string, FollowedJob>();
  readonly #setTimer: SetTimer;

  constructor(setTimer: SetTimer = unrefTimer) {
    this.#setTimer = setTimer;
  }

  follow(asked: JobAsked): Follower {
    const key = keyOf(asked.client, asked.job);
    const job = this.#jobs.get(key) ?? this.#start(key, asked);
    const follower: Follower = {
      outcome: job.outcome,
      cancel: (reason) => {
        if (job.follower === follower) job.controller.abort(reason);
      },
      leave: () => {
        if (job.follower === follower) this.#orphan(job);
      },
    };
    job.follower = follower;
    job.keep();
    if (job.hasEnded) this.#forgetLater(job);
    const missed = job.dropped - asked.seen;
    for (const event of job.events.slice(Math.max(0, -missed))) asked.onEvent(event);
    if (missed > 0) {
      const text = `${missed} events of the job were missed while its connection was down`;
      asked.onEvent({ kind: "note", job: asked.job, text });
    }
    job.onEvent = asked.onEvent;
    return follower;
  }

  /** The client has what came of the job. */
  received(client: string, id: string): void {
    const job = this.#jobs.get(keyOf(client, id));
    if (job?.hasEnded === true) this.#forget(job);
  }

  #start(key: string, { start }: JobAsked): FollowedJob {
    const controller = new AbortController();
    const started = Promise.withResolvers<SentOutcome>();
    const job: FollowedJob = {
      key,
      outcome: started.promise,
      controller,
      events: [],
      dropped: 0,
      follower: undefined,
      onEvent: undefined,
      bytes: 0,
      hasEnded: false,
      keep: () => {},
    };
    this.#jobs.set(key, job);
    // Nobody may be there when it fails.
    job.outcome.catch(() => undefined);
    const onEvent = (event: JobEvent): void => {
      job.events.push(event);
      if (job.events.length > JOB_EVENTS_KEPT) {
        job.events.shift();
        job.dropped++;
      }
      job.onEvent?.(event);
    };
    started.resolve(start(controller.signal, onEvent));
    void job.outcome
      .then(({ value }) => (job.bytes = value?.byteLength ?? 0))
      .catch(() => undefined)
      .then(() => {
        job.hasEnded = true;
        this.#forgetLater(job);
        this.#makeRoom();
      });
    return job;
  }

  #orphan(job: FollowedJob): void {
    job.follower = undefined;
    job.onEvent = undefined;
    if (job.hasEnded) return;
    job.keep = this.#setTimer(() => {
      const message = "the client that ran the job lost its connection and did not return";
      job.controller.abort(new JobError(JobErrorCode.cancelled, message));
    }, JOB_ORPHAN_MS);
  }

  /** Its answer may be lost on the way, so what came of it is kept for a while. */
  #forgetLater(job: FollowedJob): void {
    job.keep();
    job.keep = this.#setTimer(() => this.#forget(job), JOB_ORPHAN_MS);
  }

  #forget(job: FollowedJob): void {
    job.keep();
    if (this.#jobs.get(job.key) === job) this.#jobs.delete(job.key);
  }

  /** Forgets outcomes that were there first until the others are few enough. */
  #makeRoom(): void {
    let bytes = 0;
    for (const job of this.#jobs.values()) bytes += job.bytes;
    for (const job of this.#jobs.values()) {
      if (bytes <= JOB_OUTCOME_BYTES_MAX) return;
      if (!job.hasEnded || job.bytes === 0) continue;
      bytes -= job.bytes;
      this.#forget(job);
    }
  }
}

function keyOf(client: string, job: string): string {
  return `${client} ${job}`;
}

function unrefTimer(run: () => void, milliseconds: number): () => void {
  const timer = setTimeout(run, milliseconds).unref();
  return () => clearTimeout(timer);
}
