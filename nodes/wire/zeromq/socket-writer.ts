/**
 * Writes to one socket what its sessions have to say: one write at a time (zeromq.js refuses a second one), the sessions in
 * turn, a turn being SOCKET_TURN_BYTES or one message.
 */
import { SOCKET_RETRY_MS, SOCKET_TURN_BYTES } from "../../limits.ts";

export interface Source {
  /** The parts of the next message; undefined when there is none. */
  next(): Uint8Array[] | undefined;
}

/** "later": there is no room for it; the same message is tried again. "gone": the source cannot be written to any more. */
export type WriteResult = "written" | "later" | "gone";

export interface SocketWriterOptions<S extends Source> {
  readonly write: (source: S, parts: Uint8Array[]) => Promise<WriteResult>;
  /** Called once for a source that is gone. */
  readonly onGone: (source: S) => void;
}

export class SocketWriter<S extends Source> {
  readonly #options: SocketWriterOptions<S>;
  readonly #awake = new Set<S>();
  readonly #blocked = new Map<S, Uint8Array[]>();
  #retry: NodeJS.Timeout | undefined;
  #isRunning = false;
  #isClosed = false;

  constructor(options: SocketWriterOptions<S>) {
    this.#options = options;
  }

  /** The source may have something to say. */
  wake(source: S): void {
    if (this.#isClosed) return;
    this.#awake.add(source);
    if (this.#isRunning) return;
    this.#isRunning = true;
    // Not at once: what is said in the same breath then leaves in the order of its class. Node's queueMicrotask makes more of it.
    void Promise.resolve().then(() => this.#run());
  }

  /** Forgets a source. */
  forget(source: S): void {
    this.#awake.delete(source);
    this.#blocked.delete(source);
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#retry);
    this.#awake.clear();
    this.#blocked.clear();
  }

  async #run(): Promise<void> {
    for (const source of this.#awake) {
      // Deleted and added again, a source goes to the end of the set, which this loop reaches in the end.
      this.#awake.delete(source);
      if (await this.#turn(source)) this.#awake.add(source);
      if (this.#isClosed) break;
    }
    this.#isRunning = false;
  }

  /** Whether the source may have more to say. */
  async #turn(source: S): Promise<boolean> {
    let bytes = 0;
    while (bytes < SOCKET_TURN_BYTES) {
      const parts = this.#blocked.get(source) ?? source.next();
      if (parts === undefined) return false;
      const result = await this.#options.write(source, parts);
      if (this.#isClosed) return false;
      if (result === "later") {
        this.#retryLater(source, parts);
        return false;
      }
      this.#blocked.delete(source);
      if (result === "gone") {
        this.#options.onGone(source);
        return false;
      }
      for (const part of parts) bytes += part.byteLength;
    }
    return true;
  }

  #retryLater(source: S, parts: Uint8Array[]): void {
    this.#blocked.set(source, parts);
    this.#retry ??= setTimeout(() => {
      this.#retry = undefined;
      for (const blocked of this.#blocked.keys()) this.wake(blocked);
    }, SOCKET_RETRY_MS);
  }
}
