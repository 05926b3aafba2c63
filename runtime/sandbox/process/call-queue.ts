/**
 * The calls to an executor process, in order. A few more are sent than it has threads, so that no thread waits for the
 * pipe; a call's deadline runs from when a thread is free for it.
 *
 *   waiting ──▶ sent ──▶ running ──▶ answered
 *   (bounded)   (as many again as there are threads)
 */
import { EXECUTOR_GRACE_MS } from "../../limits.ts";
import type { Message } from "./protocol.ts";

/** Lets answers that have come meanwhile be read, in case that this process was busy and not the other. */
const READ_ON_MS = 25;

export interface Call {
  readonly id: number;
  /** What it may take on a thread, without the grace. */
  readonly limitMs: number;
  /** Bytes that the body of its answer may have. */
  readonly bodyBytesMax: number;
  /** Header and body. */
  readonly parts: readonly Uint8Array[];
  /** Returns false when this is no answer to it. */
  readonly answer: (message: Message) => boolean;
  readonly reject: (error: Error) => void;
}

/** What has no answer, but its place among the calls. */
interface Notice {
  readonly parts: readonly Uint8Array[];
}

interface Sent {
  readonly call: Call;
  deadline: NodeJS.Timeout | undefined;
}

export class CallQueue {
  readonly #threads: number;
  readonly #send: (parts: readonly Uint8Array[]) => void;
  readonly #late: (call: Call) => void;
  readonly #waiting: (Call | Notice)[] = [];
  /** In the order they were sent; the first `#running` of them have a thread. */
  readonly #sent = new Map<number, Sent>();
  #running = 0;

  constructor(threads: number, send: (parts: readonly Uint8Array[]) => void, late: (call: Call) => void) {
    this.#threads = threads;
    this.#send = send;
    this.#late = late;
  }

  /** Calls that have no answer yet. */
  get size(): number {
    return this.#waiting.length + this.#sent.size;
  }

  add(call: Call): void {
    this.#waiting.push(call);
    this.#advance();
  }

  /** Sends something behind all calls that came before it. */
  tell(parts: readonly Uint8Array[]): void {
    this.#waiting.push({ parts });
    this.#advance();
  }

  /** The call that an answer is for. Only what was sent can be answered. */
  find(id: number): Call | undefined {
    return this.#sent.get(id)?.call;
  }

  remove(id: number): void {
    const sent = this.#sent.get(id);
    if (sent === undefined) return;
    this.#sent.delete(id);
    if (sent.deadline !== undefined) this.#running--;
    clearTimeout(sent.deadline);
    this.#advance();
  }

  /** Empties it: every call that has no answer, in order. */
  clear(): Call[] {
    const calls = [...this.#sent.values()].map(({ call, deadline }) => {
      clearTimeout(deadline);
      return call;
    });
    for (const waiting of this.#waiting.splice(0)) if ("id" in waiting) calls.push(waiting);
    this.#sent.clear();
    this.#running = 0;
    return calls;
  }

  #advance(): void {
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      if ("id" in next) {
        if (this.#sent.size >= this.#threads * 2) break;
        this.#sent.set(next.id, { call: next, deadline: undefined });
      }
      this.#waiting.shift();
      this.#send(next.parts);
    }
    if (this.#running === this.#threads) return;
    for (const sent of this.#sent.values()) {
      if (sent.deadline !== undefined) continue;
      if (this.#running === this.#threads) break;
      this.#running++;
      sent.deadline = setTimeout(() => this.#expire(sent), sent.call.limitMs + EXECUTOR_GRACE_MS);
    }
  }

  #expire(sent: Sent): void {
    sent.deadline = setTimeout(() => this.#late(sent.call), READ_ON_MS);
  }
}
