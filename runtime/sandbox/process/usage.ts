/**
 * What an executor process uses, read from outside, since the process itself is not believed: its memory, and the CPU time of
 * each of its threads and of all of it. Files of `/proc` are opened once: a descriptor keeps naming this process, or this
 * thread, even when its number is given to another.
 */
import { closeSync, existsSync, openSync, readFileSync, readSync } from "node:fs";
import {
  EXECUTOR_RSS_IDLE_POLL_MS,
  EXECUTOR_RSS_POLL_MS,
  EXECUTOR_UNCOUNTED_LOOKS,
  EXECUTOR_UNCOUNTED_TIMES,
} from "../../limits.ts";

let pageBytes: number | undefined;

/** V8's own limits do not hold against hostile programs, so this is what bounds their memory. */
export class MemoryWatch {
  readonly #descriptor: number;
  readonly #text = Buffer.alloc(128);
  readonly #isBusy: () => boolean;
  readonly #over: (bytes: number) => void;
  readonly #now: () => void;
  #looks = 0;
  #timer: NodeJS.Timeout | undefined;
  #isNear = false;
  bytesMax: number;
  #closed = false;

  /**
   * Calls `over` once with the resident bytes when they are more than `bytesMax`. One that was given nothing to run is not
   * looked at, and one that has run something seldom while it is not busy. `now` is called at some of the looks, for whoever
   * wants to look at something else.
   */
  constructor(
    pid: number,
    bytesMax: number,
    isBusy: () => boolean,
    over: (bytes: number) => void,
    now: () => void = () => undefined,
  ) {
    this.bytesMax = bytesMax;
    this.#isBusy = isBusy;
    this.#over = over;
    this.#now = now;
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
    const isBusy = this.#isBusy();
    if (!isBusy || ++this.#looks % EXECUTOR_UNCOUNTED_LOOKS === 0) this.#now();
    if (!this.#closed) this.#lookSoon(isBusy);
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

/** CPU time that a process uses and that the clocks of its threads do not tell, beyond what V8's helpers may need. */
export class UncountedTime {
  #process: number;
  #threads: number;
  #excess = 0;

  /** What process and threads had used when this begins, in milliseconds. */
  constructor(processMs: number, threadsMs: number) {
    this.#process = processMs;
    this.#threads = threadsMs;
  }

  /** What they have used by now. Returns how much of it is too much; what others used less before does not make up for it. */
  add(processMs: number, threadsMs: number): number {
    const counted = Math.max(0, threadsMs - this.#threads);
    const uncounted = processMs - this.#process - counted;
    this.#process = processMs;
    this.#threads = threadsMs;
    this.#excess = Math.max(0, this.#excess + uncounted - counted * EXECUTOR_UNCOUNTED_TIMES);
    return this.#excess;
  }
}

/** "0". */
const ZERO = 0x30;

/** The time of one thread of another process, in milliseconds from some point on. */
export class ThreadClock {
  /** What the system calls the thread; 0 where it does not say. */
  readonly thread: number;
  readonly #descriptor: number | undefined;
  readonly #text = Buffer.alloc(64);
  #last = 0;

  /** Throws what opening the file throws when there is no such thread. */
  constructor(pid: number, thread: number) {
    this.thread = thread;
    if (TIME_SOURCE === "CPU time") this.#descriptor = openSync(`/proc/${pid}/task/${thread}/schedstat`, "r");
  }

  /** A thread that has ended has used what it had used before. */
  read(): number {
    if (this.#descriptor === undefined) return performance.now();
    try {
      // Nanoseconds on a CPU, nanoseconds of waiting for one, and how often it got one.
      const length = readSync(this.#descriptor, this.#text, 0, this.#text.byteLength, 0);
      this.#last = this.#leadingNumber(length) / 1e6;
    } catch {
      // The process is gone; whoever waits for its end will hear of it.
    }
    return this.#last;
  }

  /** Of the text's first `length` bytes. Each frame has it read, and a string of it would cost as much as to read it. */
  #leadingNumber(length: number): number {
    let number = 0;
    for (let at = 0; at < length; at++) {
      const digit = this.#text[at]! - ZERO;
      if (digit < 0 || digit > 9) break;
      number = number * 10 + digit;
    }
    return number;
  }

  /** Not to be read after this. */
  close(): void {
    if (this.#descriptor !== undefined) closeSync(this.#descriptor);
  }
}
