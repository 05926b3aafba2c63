/**
 * Watches the memory of another process. V8's own limits do not hold against hostile programs, so this is what bounds
 * them. The file is opened once: it keeps naming this process even when its number is given to another.
 */
import { closeSync, openSync, readFileSync, readSync } from "node:fs";
import { EXECUTOR_RSS_POLL_MS } from "../../limits.ts";

let pageBytes: number | undefined;

export class MemoryWatch {
  readonly #descriptor: number;
  readonly #text = Buffer.alloc(128);
  readonly #timer: NodeJS.Timeout;
  bytesMax: number;
  #closed = false;

  /** Calls `over` once with the resident bytes when they are more than `bytesMax`. */
  constructor(pid: number, bytesMax: number, over: (bytes: number) => void) {
    this.bytesMax = bytesMax;
    this.#descriptor = openSync(`/proc/${pid}/statm`, "r");
    this.#timer = setInterval(() => {
      const bytes = this.#resident();
      if (bytes <= this.bytesMax) return;
      this.close();
      over(bytes);
    }, EXECUTOR_RSS_POLL_MS).unref();
  }

  /** Whether this system tells the memory of other processes. */
  static get supported(): boolean {
    return process.platform === "linux";
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#timer);
    closeSync(this.#descriptor);
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
