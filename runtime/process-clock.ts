/** The CPU time of another process, read from outside. */
import { closeSync, openSync, readSync } from "node:fs";

/** How the kernel counts CPU time in `/proc/PID/stat`, whatever its own clock: in hundredths of a second. */
const TICK_MS = 10;

/** The CPU time of another process, in milliseconds: of all its threads, those that have ended too. */
export class ProcessClock {
  readonly #descriptor: number;
  readonly #text = Buffer.alloc(1024);
  #last = 0;

  constructor(pid: number) {
    this.#descriptor = openSync(`/proc/${pid}/stat`, "r");
  }

  /** Of a process; undefined where the system does not tell it, or the process is gone. */
  static of(pid: number): ProcessClock | undefined {
    try {
      return new ProcessClock(pid);
    } catch {
      return undefined;
    }
  }

  /** A process that has ended has used what it had used before. */
  read(): number {
    try {
      const length = readSync(this.#descriptor, this.#text, 0, this.#text.byteLength, 0);
      const text = this.#text.toString("latin1", 0, length);
      // Behind its name, which may hold anything: 12 and 13 are its time as itself, and in the kernel.
      const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
      this.#last = (Number(fields[11]) + Number(fields[12])) * TICK_MS;
    } catch {
      // The process is gone; whoever waits for its end will hear of it.
    }
    return this.#last;
  }

  /** Not to be read after this. */
  close(): void {
    closeSync(this.#descriptor);
  }
}
