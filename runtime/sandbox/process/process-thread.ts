/**
 * One thread of an executor process as the node has it: its pipe, its clock, the call that it runs, and whether that is late.
 *
 *   idle ──▶ running ──▶ answered
 *              ├──▶ waiting for an answer of the node's ──▶ running
 *              └──▶ too much CPU time: deadline. Too long, yet little of it: stalled
 */
import type { Socket } from "node:net";
import { EXECUTOR_GRACE_MS, EXECUTOR_READ_ON_MS, QUESTION_CPU_MS } from "../../limits.ts";
import { HEADER_BYTES, MessageKind, writeHeader } from "./protocol.ts";
import type { Message } from "./protocol.ts";
import { TIME_SOURCE } from "./usage.ts";
import type { ThreadClock } from "./usage.ts";

export interface Answer {
  readonly message: Message;
  readonly thread: number;
  /** CPU time of the thread since it began. */
  readonly cpuMs: number;
}

export interface Call {
  readonly id: number;
  readonly kind: MessageKind;
  readonly lane: number;
  /** Of a run. */
  readonly packets: number;
  readonly body: readonly Uint8Array[];
  /** CPU time that it may take on its thread, without the grace. */
  readonly limitMs: number;
  /** Wall-clock time after which it is given up whatever it used. */
  readonly ceilingMs: number;
  /** Bytes that the answer's body may have. */
  readonly bodyBytesMax: number;
  /** It is for one thread, to make it ready. */
  readonly isBound: boolean;
  /** Returns false when this is no answer to it. */
  readonly answer: (answer: Answer) => boolean;
  /** Answers what its thread asks before it answers itself; without it, it asks nothing. */
  readonly questions?: Questions | undefined;
  readonly reject: (error: Error) => void;
}

/** What has no answer, but its place among the calls. */
export type Notice = Pick<Call, "kind" | "lane">;

/** Whoever answers what a thread asks within a call (questions.ts). */
export interface Questions {
  /** Bytes that the body of a question of that kind may have; negative for what is none. */
  bodyBytesMax(kind: number): number;
  /**
   * The body of the answer, or undefined for what gets none. `cpuMs`: what the thread's clock says. Returns false for nonsense.
   * Rejects with defects.
   */
  ask(kind: number, body: Uint8Array, cpuMs: number): Promise<Uint8Array> | undefined | false;
}

export type Clock = Pick<ThreadClock, "thread" | "read" | "close">;

export type Lateness = "deadline" | "stalled";

/** Called once, with a call that is late and the CPU time that it used. */
export type Late = (call: Call, lateness: Lateness, cpuMs: number) => void;

/** Messages up to this size are copied together, which costs less than to write them in parts. */
const JOINED_BYTES_MAX = 16 * 1024;
/** Between two looks at a thread that is near its limit. */
const LOOK_AGAIN_MS_MIN = 10;
/** What its clock said when a call ended holds for one that begins so soon after it. */
const CLOCK_HOLDS_MS = 1;

export class ProcessThread {
  readonly index: number;
  readonly clock: Clock;
  /** Calls for this very thread, which go before all others, and notices behind them. */
  readonly bound: (Call | Notice)[] = [];
  readonly #pipe: Socket;
  readonly #late: Late;
  #running: Call | undefined;
  /** When the call began, in wall-clock time and in the thread's own. */
  #beganAt = 0;
  #usedBefore = 0;
  #answeredAt = -Infinity;
  /** One for many calls: most are answered long before it comes to look. */
  #timer: NodeJS.Timeout | undefined;
  #looksAt = Infinity;
  /** When the thread has asked something that it waits for, and its own time then. */
  #waits: { readonly since: number; readonly used: number } | undefined;
  /** Bytes that had been read when the call was found to be late; the answer may be among what was not read yet. */
  #readWhenLate: number | undefined;

  constructor(index: number, pipe: Socket, clock: Clock, late: Late) {
    this.index = index;
    this.clock = clock;
    this.#pipe = pipe;
    this.#late = late;
  }

  get running(): Call | undefined {
    return this.#running;
  }

  begin(call: Call): void {
    const now = performance.now();
    this.#running = call;
    this.#beganAt = now;
    if (now - this.#answeredAt > CLOCK_HOLDS_MS) this.#usedBefore = this.clock.read();
    this.#readWhenLate = undefined;
    const looksAt = now + call.limitMs + EXECUTOR_GRACE_MS;
    if (looksAt < this.#looksAt) this.#lookIn(looksAt - now, now);
    this.#write(call);
  }

  tell({ kind, lane }: Notice): void {
    this.#write({ kind, lane, id: 0, packets: 0, body: [] });
  }

  /** The thread asks something within its call. Returns false where it may not, or asks nonsense. */
  asked({ kind, call: id, body }: Message, failed: (error: unknown) => void): boolean {
    const call = this.#running;
    if (call?.id !== id || call.questions === undefined || this.#waits !== undefined) return false;
    const used = this.clock.read();
    const cpuMs = used - this.#usedBefore;
    // It stands still now, so this is what it used. Whoever goes on asking would never be found late by what was not read yet.
    if (cpuMs >= call.limitMs + EXECUTOR_GRACE_MS) {
      this.#late(call, "deadline", Math.round(cpuMs));
      return true;
    }
    const answer = call.questions.ask(kind, body, used);
    if (answer === undefined || answer === false) return answer !== false;
    this.#waits = { since: performance.now(), used };
    answer.then(
      (bytes) => {
        if (this.#running === call) this.#goOn(call, bytes);
      },
      (error: unknown) => {
        if (this.#running === call) failed(error);
      },
    );
    return true;
  }

  /** What it waited for is not held against the call; that it asked is. */
  #goOn({ id, lane }: Call, answer: Uint8Array): void {
    const { since, used } = this.#waits!;
    this.#waits = undefined;
    this.#beganAt += performance.now() - since;
    // A thread that stands still uses no CPU time; where another clock stands in for that, it does.
    if (TIME_SOURCE !== "CPU time") this.#usedBefore += this.clock.read() - used;
    this.#usedBefore -= QUESTION_CPU_MS;
    this.#write({ kind: MessageKind.answer, lane, id, packets: 0, body: [answer] });
  }

  /** The call is over. Returns it, or undefined where this is no answer to it. */
  answered(message: Message): Call | undefined {
    const used = this.clock.read();
    const call = this.#running;
    if (this.#waits !== undefined) return undefined;
    if (call?.answer({ message, thread: this.index, cpuMs: used - this.#usedBefore }) !== true)
      return undefined;
    this.#running = undefined;
    this.#usedBefore = used;
    this.#answeredAt = performance.now();
    return call;
  }

  /** Returns what it was to do. */
  close(): (Call | Notice)[] {
    clearTimeout(this.#timer);
    this.clock.close();
    const unanswered = this.bound.splice(0);
    if (this.#running !== undefined) unanswered.unshift(this.#running);
    this.#running = undefined;
    return unanswered;
  }

  #write({ kind, id, lane, packets, body }: Pick<Call, "kind" | "id" | "lane" | "packets" | "body">): void {
    let length = 0;
    for (const part of body) length += part.byteLength;
    const isJoined = length <= JOINED_BYTES_MAX;
    const head = Buffer.allocUnsafe(HEADER_BYTES + (isJoined ? length : 0));
    writeHeader(head, kind, id, lane, packets, length);
    if (!isJoined) {
      this.#pipe.cork();
      this.#pipe.write(head);
      for (const part of body) this.#pipe.write(part);
      this.#pipe.uncork();
      return;
    }
    let at = HEADER_BYTES;
    for (const part of body) {
      head.set(part, at);
      at += part.byteLength;
    }
    this.#pipe.write(head);
  }

  /** The process that runs keeps this one waiting, not the timer. */
  #lookIn(ms: number, now: number): void {
    clearTimeout(this.#timer);
    const wait = Math.max(ms, LOOK_AGAIN_MS_MIN);
    this.#looksAt = now + wait;
    this.#timer = setTimeout(() => this.#look(), wait).unref();
  }

  /** Whether the call is late. Nothing that it waited for is held against it. */
  #look(): void {
    this.#looksAt = Infinity;
    const call = this.#running;
    if (call === undefined) return;
    const now = performance.now();
    const isStopped = this.#waits !== undefined && TIME_SOURCE !== "CPU time";
    const cpuMs = (isStopped ? this.#waits!.used : this.clock.read()) - this.#usedBefore;
    const cpuLeft = call.limitMs + EXECUTOR_GRACE_MS - cpuMs;
    // While it waits for an answer of this side, its wall-clock time stands still.
    const wallLeft = call.ceilingMs - ((this.#waits?.since ?? now) - this.#beganAt);
    if (cpuLeft > 0 && wallLeft > 0) {
      this.#readWhenLate = undefined;
      return this.#lookIn(Math.min(cpuLeft, wallLeft), now);
    }
    // In case that this process was busy and not the other: the answer may be among what was not read yet.
    const { bytesRead } = this.#pipe;
    if (this.#readWhenLate === undefined || (wallLeft > 0 && this.#readWhenLate !== bytesRead)) {
      this.#readWhenLate = bytesRead;
      return this.#lookIn(EXECUTOR_READ_ON_MS, now);
    }
    this.#late(call, cpuLeft <= 0 ? "deadline" : "stalled", Math.round(cpuMs));
  }
}
