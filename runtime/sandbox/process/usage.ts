/**
 * What an executor process uses, read from outside, since the process itself is not believed: its memory, and the CPU time of
 * each of its threads. Files of `/proc` are opened once: a descriptor keeps naming this process, or this thread, even when
 * its number is given to another.
 */
import { closeSync, existsSync, openSync, readFileSync, readSync } from "node:fs";
import { EXECUTOR_RSS_IDLE_POLL_MS, EXECUTOR_RSS_POLL_MS } from "../../limits.ts";

let pageBytes: number | undefined;

/** V8's own limits do not hold against hostile programs, so this is what bounds their memory. */
export class MemoryWatch {
  readonly #descriptor: number;
  readonly #text = Buffer.alloc(128);
  readonly #isBusy: () => boolean;
  readonly #over: (bytes: number) => void;
  #timer: NodeJS.Timeout | undefined;
  #isNear = false;
  bytesMax: number;
  #closed = false;

  /**
   * Calls `over` once with the resident bytes when they are more than `bytesMax`. One that was given nothing to run is not
   * looked at, and one that has run something seldom while it is not busy.
   */
  constructor(pid: number, bytesMax: number, isBusy: () => boolean, over: (bytes: number) => void) {
    this.bytesMax = bytesMax;
    this.#isBusy = isBusy;
    this.#over = over;
    this.#descriptor = openSync(`/proc/${pid}/statm`, "r");
  }

  /** The process is given something to do. */
  wake(): void {
    if (!this.#closed && !this.#isNear) this.#lookSoon(true);
  }

  /** What the process has in memory now, in bytes; 0 when it is gone. */
  get resident(): number {
    return this.#closed ? 0 : this.#resident();
  }

  /** Whether this system tells the memory of other processes. */
  static get supported(): boolean {
    return process.platform === "linux";
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#timer);
    closeSync(this.#descriptor);
  }

  #lookSoon(isNear: boolean): void {
    clearTimeout(this.#timer);
    this.#isNear = isNear;
    const milliseconds = isNear ? EXECUTOR_RSS_POLL_MS : EXECUTOR_RSS_IDLE_POLL_MS;
    this.#timer = setTimeout(() => this.#look(), milliseconds).unref();
  }

  #look(): void {
    const bytes = this.#resident();
    if (this.#closed) return;
    if (bytes > this.bytesMax) {
      this.close();
      return this.#over(bytes);
    }
    this.#lookSoon(this.#isBusy());
  }

  #resident(): number {
    try {
      const length = readSync(this.#descriptor, this.#text, 0, this.#text.byteLength, 0);
      return Number(this.#text.toString("latin1", 0, length).split(" ")[1]) * pageSize();
    } catch {
      // The process is gone; whoever waits for its end will hear of it.
      this.close();
      return 0;
    }
  }
}

/** The kernel counts in pages, whose size is told by how it counts us: a power of two, so that changes do not matter. */
function pageSize(): number {
  if (pageBytes !== undefined) return pageBytes;
  const pages = Number(readFileSync("/proc/self/statm", "latin1").split(" ")[1]);
  pageBytes = 2 ** Math.round(Math.log2(process.memoryUsage.rss() / pages));
  return pageBytes;
}

/** What the time limits of programs count on this system. */
export type TimeSource = "CPU time" | "wall-clock time";

/** "wall-clock time" where the system does not tell the CPU time of another process's threads: then waiting counts too. */
export const TIME_SOURCE: TimeSource = existsSync("/proc/self/schedstat") ? "CPU time" : "wall-clock time";

/** The time of one thread of another process, in milliseconds from some point on. */
export class ThreadClock {
  readonly #descriptor: number | undefined;
  readonly #text = Buffer.alloc(64);
  #last = 0;

  /** Throws what opening the file throws when there is no such thread. */
  constructor(pid: number, thread: number) {
    if (TIME_SOURCE === "CPU time") this.#descriptor = openSync(`/proc/${pid}/task/${thread}/schedstat`, "r");
  }

  /** A thread that has ended has used what it had used before. */
  read(): number {
    if (this.#descriptor === undefined) return performance.now();
    try {
      // Nanoseconds on a CPU, nanoseconds of waiting for one, and how often it got one.
      const length = readSync(this.#descriptor, this.#text, 0, this.#text.byteLength, 0);
      this.#last = Number.parseInt(this.#text.toString("latin1", 0, length), 10) / 1e6;
    } catch {
      // The process is gone; whoever waits for its end will hear of it.
    }
    return this.#last;
  }

  /** Not to be read after this. */
  close(): void {
    if (this.#descriptor !== undefined) closeSync(this.#descriptor);
  }
}
