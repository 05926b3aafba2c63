/** What is known of a job while it runs and after: its numbers, its notes, and the events that people see. */
import { errorToJson } from "../../packets/errors.ts";
import type { ErrorJson } from "../../packets/errors.ts";
import { JOB_NOTES_MAX, JOB_NOTE_CHARS_MAX, PROGRESS_MS } from "../limits.ts";
import type { JobEvent } from "../contracts/events.ts";
import type { JobInfo, JobStatistics } from "../contracts/jobs.ts";

export interface RecordOptions {
  readonly job: string;
  readonly program: string;
  /** Milliseconds of a monotonic clock. */
  readonly now: () => number;
  /** Milliseconds since 1970. */
  readonly startedAt: number;
  readonly onEvent: (event: JobEvent) => void;
}

export class JobRecord {
  readonly #options: RecordOptions;
  readonly #began: number;
  readonly #byNode = new Map<string, number>();
  readonly #notes: string[] = [];
  #state: JobInfo["state"] = "running";
  #error: ErrorJson | undefined;
  #ended: number | undefined;
  #tasks = 0;
  #done = 0;
  #inputBytes = 0;
  #doneBytes = 0;
  #toldAt = -Infinity;

  constructor(options: RecordOptions) {
    this.#options = options;
    this.#began = options.now();
  }

  get isRunning(): boolean {
    return this.#state === "running";
  }

  started(tasks: number, inputBytes: number): void {
    this.#tasks = tasks;
    this.#inputBytes = inputBytes;
    this.#options.onEvent({ kind: "started", job: this.#options.job, tasks, inputBytes });
  }

  /** So many splits with so many bytes are finished. */
  settled(tasks: number, bytes: number, node: string): void {
    this.#done += tasks;
    this.#doneBytes += bytes;
    this.#byNode.set(node, (this.#byNode.get(node) ?? 0) + tasks);
    const now = this.#options.now();
    if (now - this.#toldAt < PROGRESS_MS && this.#done < this.#tasks) return;
    this.#toldAt = now;
    this.#options.onEvent({
      kind: "progress",
      job: this.#options.job,
      done: this.#done,
      tasks: this.#tasks,
      doneBytes: this.#doneBytes,
      inputBytes: this.#inputBytes,
    });
  }

  /** So many of them run again. */
  reopened(tasks: number, bytes: number): void {
    this.#done -= tasks;
    this.#doneBytes -= bytes;
  }

  logged(at: number, node: string, text: string): void {
    this.#options.onEvent({ kind: "log", job: this.#options.job, at, node, text });
  }

  /** What was said before is not said again. Notes beyond the limit are dropped. */
  noted(text: string): void {
    const note = text.length > JOB_NOTE_CHARS_MAX ? `${text.slice(0, JOB_NOTE_CHARS_MAX)}…` : text;
    if (this.#notes.length >= JOB_NOTES_MAX || this.#notes.includes(note)) return;
    this.#notes.push(this.#notes.length + 1 < JOB_NOTES_MAX ? note : "more notes followed");
    this.#options.onEvent({ kind: "note", job: this.#options.job, text: this.#notes.at(-1)! });
  }

  ended(state: Exclude<JobInfo["state"], "running">, error?: unknown): void {
    this.#state = state;
    this.#ended = this.#options.now();
    if (error !== undefined) this.#error = errorToJson(error);
  }

  info(): JobInfo {
    const { job, program, startedAt } = this.#options;
    const info = {
      job,
      program,
      state: this.#state,
      startedAt,
      milliseconds: this.#milliseconds(),
      done: this.#done,
      tasks: this.#tasks,
    };
    return this.#error === undefined ? info : { ...info, error: this.#error };
  }

  statistics(retries: number): JobStatistics {
    return {
      tasks: this.#tasks,
      inputBytes: this.#inputBytes,
      milliseconds: this.#milliseconds(),
      retries,
      byNode: Object.fromEntries(this.#byNode),
      notes: [...this.#notes],
    };
  }

  #milliseconds(): number {
    return Math.round((this.#ended ?? this.#options.now()) - this.#began);
  }
}
