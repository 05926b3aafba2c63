/**
 * The node's end of an executor process: its pipes, its calls and its end. Anything that goes wrong ends the process, by
 * SIGKILL, because nothing else is sure to.
 *
 * A call runs on a thread that is chosen here, so that this side knows, without asking, whose CPU time it is that the thread
 * uses. None is given a call ahead: it might have to wait there for one without end, though another thread were free.
 *
 *   waiting ──▶ running on a thread ──▶ answered
 *   (bounded)          └──▶ too much CPU time: deadline. Too long, yet little of it: stalled
 *
 * One thread is there from the beginning. Another is started when a call has waited while all that there are were busy: one
 * costs as much as many a program takes.
 */
import type { ChildProcess } from "node:child_process";
import type { Socket } from "node:net";
import { messageOf } from "../../../packets/errors.ts";
import { SandboxError, SandboxErrorCode } from "../../errors.ts";
import {
  EXECUTOR_QUEUE_MAX,
  EXECUTOR_STDERR_BYTES,
  EXECUTOR_THREAD_DELAY_MS,
  EXECUTOR_UNCOUNTED_MS_MAX,
  WALL_CEILING_MS_MIN,
  WALL_CEILING_TIMES,
} from "../../limits.ts";
import {
  HEADER_BYTES,
  MessageKind,
  MessageReader,
  PROCESS_PIPE_DESCRIPTOR,
  READY_BYTES,
  THREAD_PIPES_DESCRIPTOR,
  writeHeader,
} from "./protocol.ts";
import { ProcessThread } from "./process-thread.ts";
import type { Answer, Call, Clock, Lateness, Notice } from "./process-thread.ts";
import type { Message } from "./protocol.ts";
import { isQuestion } from "./questions.ts";
import { ProcessClock } from "../../process-clock.ts";
import { SpareMemory } from "../../spare-memory.ts";
import { MemoryWatch, TIME_SOURCE, UncountedTime } from "./usage.ts";

export type EndReason = "closed" | "memory" | "shared-memory" | "deadline" | "stalled" | "crash";

export interface ExecutorEnd {
  readonly reason: EndReason;
  /** For people: what the process said last, or what it did. */
  readonly detail: string;
}

export interface Expected extends Pick<Call, "limitMs" | "ceilingMs" | "bodyBytesMax" | "questions"> {
  readonly kinds: readonly MessageKind[];
  /** That it runs. */
  readonly packets?: number;
  /** Whether the answer makes sense. */
  readonly check?: (message: Message) => boolean;
}

export interface WatchedProcess {
  /** What was started: the process itself, or its parent, which ends with it. */
  readonly child: ChildProcess;
  readonly pid: number;
  /** Ends it, whatever it does. */
  readonly kill: () => void;
  /** Threads that it may have, of which the first is there. */
  readonly threads: number;
  /** Of its first thread. */
  readonly clock: Clock;
  /** The clock of the thread that the process calls so. Throws when it has none. */
  readonly clockOf: (number: number) => Clock;
}

/** What V8, isolated-vm and C++ say before they abort for lack of memory. */
const OUT_OF_MEMORY = /out of memory|is_heap_oom|allocation failed|heap limit|last few GCs|bad_alloc/i;

/** What long answers of all processes are read into: few are at once on their way to the store. */
const BODIES = new SpareMemory(8 * 1024 * 1024, 2);

export class ExecutorPipe {
  /** Resolves when the process is gone. Never rejects. */
  readonly ended: Promise<ExecutorEnd>;
  readonly #child: ChildProcess;
  readonly #kill: () => void;
  readonly #pipe: Socket;
  /** Those that are there, in their order. */
  readonly #threads: ProcessThread[] = [];
  readonly #threadsMax: number;
  readonly #clockOf: (number: number) => Clock;
  /** Runs while a call waits and another thread may be started. */
  #impatience: NodeJS.Timeout | undefined;
  /** Threads that were asked for, the first among them. */
  #asked = 1;
  readonly #waiting: (Call | Notice)[] = [];
  readonly #pid: number;
  readonly #memory: MemoryWatch | undefined;
  /** Threads that have a call. */
  #running = 0;
  #pending = 0;
  #lastCall = 0;
  #end: ExecutorEnd | undefined;

  /** Called with the index of each thread that is there later than the first, before it is given anything. */
  onThread: (thread: number) => void = () => undefined;

  /** The clocks are closed with it. */
  constructor(
    { child, pid, kill, threads, clock, clockOf }: WatchedProcess,
    rssBytesMax: number,
    uncountedMsMax: number = EXECUTOR_UNCOUNTED_MS_MAX,
  ) {
    this.#child = child;
    this.#pid = pid;
    this.#kill = kill;
    this.#pipe = child.stdio[PROCESS_PIPE_DESCRIPTOR] as Socket;
    this.#threadsMax = threads;
    this.#clockOf = clockOf;
    for (let index = 0; index < threads; index++) this.#listen(index);
    this.#addThread(clock);
    this.ended = this.#watchEnd();
    if (MemoryWatch.supported) {
      try {
        this.#memory = this.#watchUse(rssBytesMax, uncountedMsMax);
      } catch (error) {
        // It has ended already, or this process may open no more files: none runs unwatched.
        this.kill("crash", `it cannot be watched: ${messageOf(error)}`);
      }
    }
    const reader = new MessageReader(
      (kind) => (kind === MessageKind.ready && this.#threads.length < this.#asked ? READY_BYTES : -1),
      (message) => this.#started(message),
    );
    this.#pipe.on("data", (piece: Buffer) => {
      if (this.#end === undefined && !reader.push(piece)) this.kill("crash", "it answered more than it may");
    });
    this.#pipe.on("error", () => this.#kill());
  }

  get end(): ExecutorEnd | undefined {
    return this.#end;
  }

  /** How many threads there are by now. */
  get threads(): number {
    return this.#threads.length;
  }

  /** Calls for no thread in particular that have no answer yet. */
  get pending(): number {
    return this.#pending;
  }

  /** What the process has in memory now, in bytes; 0 where it watches itself. */
  get residentBytes(): number {
    return this.#memory?.resident ?? 0;
  }

  /** Another limit of memory from now on. Returns false where the process watches itself. */
  limitMemory(bytesMax: number): boolean {
    if (this.#memory !== undefined) this.#memory.bytesMax = bytesMax;
    return this.#memory !== undefined;
  }

  /**
   * Asks, on a thread that has time or on the one that is given, and resolves with the answer. The parts of the body may not
   * change until then.
   */
  call(
    kind: MessageKind,
    lane: number,
    body: readonly Uint8Array[],
    expected: Expected,
    thread?: number,
  ): Promise<Answer> {
    if (this.#end !== undefined) return Promise.reject(endedError(this.#end));
    const isBound = thread !== undefined;
    // What makes a thread ready is no more than there are lanes, and takes nobody's place.
    if (!isBound && this.#pending >= EXECUTOR_QUEUE_MAX) return Promise.reject(busyError());
    const { limitMs, ceilingMs, bodyBytesMax, kinds, packets = 0, check, questions } = expected;
    const id = (this.#lastCall = (this.#lastCall % 0xffff_ffff) + 1);
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    const answer = (given: Answer): boolean => {
      const { message } = given;
      if (!kinds.some((wanted) => wanted === message.kind) || check?.(message) === false) return false;
      resolve(given);
      return true;
    };
    const limits = { limitMs, ceilingMs, bodyBytesMax };
    const call = { id, kind, lane, packets, body, isBound, ...limits, questions, answer, reject };
    if (isBound) this.#threads[thread]!.bound.push(call);
    else {
      this.#waiting.push(call);
      this.#pending++;
    }
    this.#advance();
    return promise;
  }

  /** Says what has no answer to every thread, behind all calls that came before it. */
  tell(kind: MessageKind, lane: number): void {
    if (this.#end !== undefined) return;
    this.#waiting.push({ kind, lane });
    this.#advance();
  }

  /** Ends the process at once. Calls in flight reject with PFS_EXECUTOR_ENDED. */
  kill(reason: EndReason, detail: string): void {
    if (this.#end !== undefined) return;
    const end = { reason, detail };
    this.#end = end;
    this.#kill();
    clearTimeout(this.#impatience);
    for (let index = 0; index < this.#threadsMax; index++) this.#pipeOf(index).destroy();
    this.#pipe.destroy();
    this.#pending = 0;
    const unanswered: (Call | Notice)[] = [];
    for (const thread of this.#threads) unanswered.push(...thread.close());
    unanswered.push(...this.#waiting.splice(0));
    for (const call of unanswered) if ("id" in call) call.reject(endedError(end));
  }

  /** Nobody looks at this answer's body any more. */
  recycle(body: Uint8Array): void {
    BODIES.giveBack(body.buffer);
  }

  #pipeOf(thread: number): Socket {
    return this.#child.stdio[THREAD_PIPES_DESCRIPTOR + thread] as Socket;
  }

  /** To the pipe of a thread that need not be there yet: then nothing may come. */
  #listen(index: number): void {
    const reader = new MessageReader(
      (kind, call) => {
        const running = this.#threads[index]?.running;
        if (running?.id !== call) return -1;
        return isQuestion(kind) ? (running.questions?.bodyBytesMax(kind) ?? -1) : running.bodyBytesMax;
      },
      (message) => this.#take(this.#threads[index]!, message),
      BODIES,
    );
    this.#pipeOf(index).on("data", (piece: Buffer) => {
      if (this.#end === undefined && !reader.push(piece)) this.kill("crash", "it answered more than it may");
    });
    // Without its pipe it is of no use; mostly the process has ended already, and will be asked why.
    this.#pipeOf(index).on("error", () => this.#kill());
  }

  #addThread(clock: Clock): void {
    const index = this.#threads.length;
    const late = (call: Call, lateness: Lateness, cpuMs: number): void => this.#late(call, lateness, cpuMs);
    this.#threads.push(new ProcessThread(index, this.#pipeOf(index), clock, late));
  }

  /** Has other threads started for as many calls as have still to wait after a while. */
  #growSoon(): void {
    if (this.#impatience !== undefined || this.#asked === this.#threadsMax) return;
    this.#impatience = setTimeout(() => {
      this.#impatience = undefined;
      const most = Math.min(this.#threads.length + this.#waiting.length, this.#threadsMax);
      while (this.#asked < most) {
        const header = Buffer.alloc(HEADER_BYTES);
        writeHeader(header, MessageKind.start, 0, this.#asked++, 0, 0);
        this.#pipe.write(header);
      }
    }, EXECUTOR_THREAD_DELAY_MS);
  }

  /** A thread that was asked for is there; they come in their order. */
  #started({ word, body }: Message): void {
    if (this.#end !== undefined) return;
    if (word !== this.#threads.length || body.byteLength !== READY_BYTES) {
      return this.kill("crash", "it answered nonsense");
    }
    try {
      const clock = this.#clockOf(new Uint32Array(body.buffer)[0]!);
      if (!this.#isNew(clock)) {
        clock.close();
        return this.kill("crash", "it tells of one thread as of two");
      }
      this.#addThread(clock);
    } catch {
      return this.kill("crash", "it has no such thread");
    }
    this.onThread(word);
    this.#advance();
  }

  /** Whether it is no thread that is known already. The process may run what is not ours by now, and is not believed. */
  #isNew({ thread }: Clock): boolean {
    if (thread === 0) return true;
    return thread !== this.#pid && this.#threads.every(({ clock }) => clock.thread !== thread);
  }

  #advance(): void {
    for (const thread of this.#threads) if (thread.bound.length > 0) this.#advanceBound(thread);
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      if ("id" in next) {
        const thread = this.#threads.find(({ running }) => running === undefined);
        if (thread === undefined) return this.#growSoon();
        this.#send(next, thread);
      } else {
        for (const thread of this.#threads) {
          thread.bound.push(next);
          this.#advanceBound(thread);
        }
      }
      this.#waiting.shift();
    }
  }

  #advanceBound(thread: ProcessThread): void {
    const { bound } = thread;
    for (let next = bound[0]; next !== undefined; next = bound[0]) {
      const isCall = "id" in next;
      if (isCall && thread.running !== undefined) return;
      bound.shift();
      if (isCall) this.#send(next as Call, thread);
      else thread.tell(next);
    }
  }

  #send(call: Call, thread: ProcessThread): void {
    this.#running++;
    this.#memory?.wake();
    thread.begin(call);
  }

  #take(thread: ProcessThread, message: Message): void {
    if (this.#end !== undefined) return;
    if (isQuestion(message.kind)) return this.#takeQuestion(thread, message);
    const call = thread.answered(message);
    if (call === undefined) return this.kill("crash", "it answered nonsense");
    this.#running--;
    if (!call.isBound) this.#pending--;
    this.#advance();
  }

  #takeQuestion(thread: ProcessThread, message: Message): void {
    const call = thread.running;
    const failed = (error: unknown): void => {
      call?.reject(error as Error);
      this.kill("crash", `what it asked could not be answered: ${messageOf(error)}`);
    };
    if (!thread.asked(message, failed)) this.kill("crash", "it asked nonsense");
  }

  #late(call: Call, lateness: Lateness, cpuMs: number): void {
    if (lateness === "deadline") this.#deadline(call, cpuMs);
    else this.#stalled(call, cpuMs);
  }

  #deadline({ limitMs, reject }: Call, cpuMs: number): void {
    const message = `the executor process used more than ${limitMs} ms of ${TIME_SOURCE} for a call and was killed`;
    reject(new SandboxError(SandboxErrorCode.deadline, message, { limitMs, cpuMs }));
    this.kill("deadline", `a call took more than ${limitMs} ms of ${TIME_SOURCE}`);
  }

  #stalled({ limitMs, ceilingMs, reject }: Call, cpuMs: number): void {
    const used = `it used ${cpuMs} of ${limitMs} ms of CPU time`;
    const message = `the executor process did not answer within ${ceilingMs} ms, though ${used}, and was killed`;
    reject(new SandboxError(SandboxErrorCode.stalled, message, { ceilingMs, limitMs, cpuMs }));
    this.kill("stalled", `a call did not end within ${ceilingMs} ms, though ${used}`);
  }

  /** Memory, and CPU time that is not that of its threads: a process that was taken over may name one that does nothing. */
  #watchUse(bytesMax: number, uncountedMsMax: number): MemoryWatch {
    const isBusy = (): boolean => this.#running > 0;
    const whole = new ProcessClock(this.#pid);
    void this.ended.then(() => whole.close());
    const counted = (): number => this.#threads.reduce((sum, { clock }) => sum + clock.read(), 0);
    const uncounted = new UncountedTime(whole.read(), counted());
    const over = (bytes: number): void =>
      this.kill("memory", `it had ${bytes} bytes of memory, more than it may`);
    return new MemoryWatch(this.#pid, bytesMax, isBusy, over, () => {
      if (TIME_SOURCE !== "CPU time" || this.#end !== undefined) return;
      const excessMs = uncounted.add(whole.read(), counted());
      if (excessMs <= uncountedMsMax) return;
      this.kill("crash", `it used ${Math.round(excessMs)} ms of CPU time that none of its threads tells of`);
    });
  }

  #watchEnd(): Promise<ExecutorEnd> {
    const { promise, resolve } = Promise.withResolvers<ExecutorEnd>();
    let said = "";
    this.#child.stderr!.setEncoding("latin1").on("data", (text: string) => {
      said = (said + text).slice(-EXECUTOR_STDERR_BYTES);
    });
    // Its last words come before "close"; "exit" may be first.
    this.#child.on("close", (code, signal) => {
      const words = said.trim() === "" ? `it ended with ${signal ?? `code ${code}`}` : said.trim();
      this.kill(OUT_OF_MEMORY.test(said) ? "memory" : "crash", words);
      this.#memory?.close();
      resolve(this.#end!);
    });
    return promise;
  }
}

/** Wall-clock time after which a call is given up that may use so much CPU time: only as a backstop. */
export function ceilingOf(limitMs: number): number {
  return Math.max(WALL_CEILING_MS_MIN, limitMs * WALL_CEILING_TIMES);
}

function endedError({ reason, detail }: ExecutorEnd): SandboxError {
  const message = `the executor process ended (${reason}): ${detail}`;
  return new SandboxError(SandboxErrorCode.ended, message, { reason, detail });
}

function busyError(): SandboxError {
  const message = `more than ${EXECUTOR_QUEUE_MAX} calls wait for an executor process`;
  return new SandboxError(SandboxErrorCode.busy, message, { max: EXECUTOR_QUEUE_MAX });
}
