/**
 * Jobs of clients, by the numbers that the clients gave them. A job whose client lost its connection goes on for a while, so
 * that the client finds it, or what came of it, when it asks for the same job again.
 */
import { JobError, JobErrorCode } from "../../runtime/errors.ts";
import type { JobEvent } from "../../runtime/contracts/events.ts";
import type { JobOutcome } from "../../runtime/contracts/jobs.ts";
import type { SetTimer } from "../../runtime/job/jobs.ts";
import {
  JOBS_KEPT_BYTES_MAX,
  JOBS_KEPT_PER_CLIENT_MAX,
  JOB_EVENTS_KEPT,
  JOB_EVENTS_KEPT_BYTES,
  JOB_EVENT_COST_BYTES,
  JOB_KEPT_COST_BYTES,
  JOB_ORPHAN_MS,
} from "../limits.ts";

/** An outcome as it is sent. */
export interface SentOutcome {
  readonly outcome: Omit<JobOutcome, "value">;
  /** The value's text; undefined where there is none. */
  readonly value: Uint8Array | undefined;
}

/** `number` is the event's place among those of its job, from 1; of a note about events that were missed, the last one's. */
export type OnNumberedEvent = (event: JobEvent, number: number) => void;

export interface JobAsked {
  /** Whose job it is: another client's job of the same number is another job. */
  readonly client: string;
  /** The client's own. */
  readonly number: string;
  /** The number of the last event of it that the client has seen. */
  readonly seen: number;
  /** Called with those that it has not. */
  readonly onEvent: OnNumberedEvent;
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
  readonly client: string;
  readonly key: string;
  readonly outcome: Promise<SentOutcome>;
  readonly controller: AbortController;
  /** The last ones, how much memory they take, and how many there were before them. */
  readonly events: JobEvent[];
  eventBytes: number;
  dropped: number;
  /** The job's id, from its first event on. */
  id: string;
  follower: Follower | undefined;
  onEvent: OnNumberedEvent | undefined;
  /** What its outcome takes once it has ended. */
  outcomeBytes: number;
  hasEnded: boolean;
  /** What is to become of it when nobody asks for it, taken back. */
  keep: () => void;
}

export class FollowedJobs {
  readonly #jobs = new Map<string, FollowedJob>();
  /** Those that ended first come first. */
  readonly #ended = new Set<FollowedJob>();
  #endedBytes = 0;
  readonly #setTimer: SetTimer;

  constructor(setTimer: SetTimer = unrefTimer) {
    this.#setTimer = setTimer;
  }

  follow(asked: JobAsked): Follower {
    const key = keyOf(asked.client, asked.number);
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
    const { dropped, events, id } = job;
    const missed = dropped - asked.seen;
    if (missed > 0) {
      const text = `${missed} events of the job were missed while its connection was down`;
      asked.onEvent({ kind: "note", job: id, text }, dropped);
    }
    const first = Math.max(0, -missed);
    for (const [index, event] of events.slice(first).entries())
      asked.onEvent(event, dropped + first + index + 1);
    job.onEvent = asked.onEvent;
    return follower;
  }

  /** The client has what came of the job. */
  received(client: string, number: string): void {
    const job = this.#jobs.get(keyOf(client, number));
    if (job?.hasEnded === true) this.#forget(job);
  }

  /** The client may have nothing here any more: its jobs end, also those that go on without it, and what came of others is forgotten. */
  dismiss(client: string): void {
    const message = "the token by which the job was run was revoked or has expired";
    for (const job of this.#jobs.values()) {
      if (job.client !== client) continue;
      if (job.hasEnded) this.#forget(job);
      else job.controller.abort(new JobError(JobErrorCode.cancelled, message));
    }
  }

  #start(key: string, { client, start }: JobAsked): FollowedJob {
    const controller = new AbortController();
    const started = Promise.withResolvers<SentOutcome>();
    const job: FollowedJob = {
      client,
      key,
      outcome: started.promise,
      controller,
      events: [],
      eventBytes: 0,
      dropped: 0,
      id: "",
      follower: undefined,
      onEvent: undefined,
      outcomeBytes: 0,
      hasEnded: false,
      keep: () => {},
    };
    this.#jobs.set(key, job);
    const onEvent = (event: JobEvent): void => {
      job.id = event.job;
      remember(job, event);
      job.onEvent?.(event, job.dropped + job.events.length);
    };
    started.resolve(start(controller.signal, onEvent));
    void job.outcome
      // Nobody may be there when it fails.
      .then(bytesOf, () => 0)
      .then((bytes) => this.#end(job, bytes));
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

  #end(job: FollowedJob, outcomeBytes: number): void {
    job.hasEnded = true;
    job.outcomeBytes = outcomeBytes + JOB_KEPT_COST_BYTES;
    this.#ended.add(job);
    this.#endedBytes += job.outcomeBytes + job.eventBytes;
    this.#forgetLater(job);
    this.#makeRoom(job.client);
  }

  /** Its answer may be lost on the way, so what came of it is kept for a while. */
  #forgetLater(job: FollowedJob): void {
    job.keep();
    job.keep = this.#setTimer(() => this.#forget(job), JOB_ORPHAN_MS);
  }

  #forget(job: FollowedJob): void {
    job.keep();
    this.#jobs.delete(job.key);
    if (this.#ended.delete(job)) this.#endedBytes -= job.outcomeBytes + job.eventBytes;
  }

  /** Forgets of the jobs that ended first what they said, and then what came of them, until the rest is little enough. */
  #makeRoom(client: string): void {
    for (const job of this.#ended) {
      if (this.#endedBytes <= JOBS_KEPT_BYTES_MAX) break;
      this.#endedBytes -= job.eventBytes;
      dropEvents(job, job.events.length);
    }
    for (const job of this.#ended) {
      if (this.#endedBytes <= JOBS_KEPT_BYTES_MAX) break;
      this.#forget(job);
    }
    const own = [...this.#ended].filter((job) => job.client === client);
    for (const job of own.slice(0, -JOBS_KEPT_PER_CLIENT_MAX)) this.#forget(job);
  }
}

function remember(job: FollowedJob, event: JobEvent): void {
  job.events.push(event);
  job.eventBytes += costOf(event);
  while (job.events.length > JOB_EVENTS_KEPT || job.eventBytes > JOB_EVENTS_KEPT_BYTES) dropEvents(job, 1);
}

/** Forgets so many of the events that came first. */
function dropEvents(job: FollowedJob, count: number): void {
  for (const event of job.events.splice(0, count)) job.eventBytes -= costOf(event);
  job.dropped += count;
}

/** Bytes of memory, roughly: texts may take two a character. */
function costOf(event: JobEvent): number {
  return JOB_EVENT_COST_BYTES + ("text" in event ? 2 * event.text.length : 0);
}

function bytesOf({ outcome, value }: SentOutcome): number {
  return 2 * JSON.stringify(outcome).length + (value?.byteLength ?? 0);
}

function keyOf(client: string, number: string): string {
  return `${client} ${number}`;
}

/** Keeps no process alive. */
export function unrefTimer(run: () => void, milliseconds: number): () => void {
  const timer = setTimeout(run, milliseconds).unref();
  return () => clearTimeout(timer);
}
