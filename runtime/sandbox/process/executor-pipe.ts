/**
 * The node's end of an executor process: its pipe, its calls and its end. Anything that goes wrong ends the process, by
 * SIGKILL, because nothing else is sure to.
 *
 * A few more calls are sent than the process has threads, so that no thread waits for the pipe; a call's deadline runs from
 * when a thread is free for it.
 *
 *   waiting ──▶ sent ──▶ running ──▶ answered
 *   (bounded)   (as many again as there are threads)
 */
import type { ChildProcess } from "node:child_process";
import type { Socket } from "node:net";
import { SandboxError, SandboxErrorCode } from "../../errors.ts";
import { EXECUTOR_GRACE_MS, EXECUTOR_QUEUE_MAX, EXECUTOR_STDERR_BYTES } from "../../limits.ts";
import { MemoryWatch } from "./memory-watch.ts";
import { MessageReader, PIPE_DESCRIPTOR, encodeHeader } from "./protocol.ts";
import type { Message, MessageKind } from "./protocol.ts";

export type EndReason = "closed" | "memory" | "deadline" | "crash";

export interface ExecutorEnd {
  readonly reason: EndReason;
  /** For people: what the process said last, or what it did. */
  readonly detail: string;
}

export interface Expected {
  /** What the call may take on a thread, without the grace. */
  readonly limitMs: number;
  /** Bytes that the answer's body may have. */
  readonly bodyBytesMax: number;
  readonly kinds: readonly MessageKind[];
  /** Whether the answer makes sense. */
  readonly check?: (message: Message) => boolean;
}

/** What V8, isolated-vm and C++ say before they abort for lack of memory. */
const OUT_OF_MEMORY = /out of memory|is_heap_oom|allocation failed|heap limit|last few GCs|bad_alloc/i;

export class ExecutorPipe {
  /** Resolves when the process is gone. Never rejects. */
  readonly ended: Promise<ExecutorEnd>;
  readonly #child: ChildProcess;
  readonly #pipe: Socket;
  readonly #calls: CallQueue;
  readonly #memory: MemoryWatch | undefined;
  #lastCall = 0;
  #end: ExecutorEnd | undefined;

  constructor(child: ChildProcess, threads: number, rssBytesMax: number) {
    this.#child = child;
    this.#pipe = child.stdio[PIPE_DESCRIPTOR] as Socket;
    this.#calls = new CallQueue(
      threads,
      (parts) => this.#write(parts),
      (call) => this.#expire(call),
    );
    this.ended = this.#watchEnd();
    this.#memory = MemoryWatch.supported ? this.#watchMemory(rssBytesMax) : undefined;
    const reader = new MessageReader(
      (_kind, call) => this.#calls.find(call)?.bodyBytesMax ?? -1,
      (message) => this.#take(message),
    );
    this.#pipe.on("data", (piece: Buffer) => {
      if (this.#end === undefined && !reader.push(piece)) this.kill("crash", "it answered more than it may");
    });
    // Without its pipe it is of no use; mostly it has ended already, and will be asked why.
    this.#pipe.on("error", () => this.#child.kill("SIGKILL"));
  }

  get end(): ExecutorEnd | undefined {
    return this.#end;
  }

  get pending(): number {
    return this.#calls.size;
  }

  /** Another limit of memory from now on. Returns false where the process watches itself. */
  limitMemory(bytesMax: number): boolean {
    if (this.#memory !== undefined) this.#memory.bytesMax = bytesMax;
    return this.#memory !== undefined;
  }

  /** Asks, and resolves with the answer. The parts of the body may not change until then. */
  call(kind: MessageKind, word: number, body: readonly Uint8Array[], expected: Expected): Promise<Message> {
    if (this.#end !== undefined) return Promise.reject(endedError(this.#end));
    if (this.#calls.size >= EXECUTOR_QUEUE_MAX) return Promise.reject(busyError());
    const id = (this.#lastCall = (this.#lastCall % 0xffff_ffff) + 1);
    const length = body.reduce((bytes, part) => bytes + part.byteLength, 0);
    const { promise, resolve, reject } = Promise.withResolvers<Message>();
    this.#calls.add({
      id,
      limitMs: expected.limitMs,
      bodyBytesMax: expected.bodyBytesMax,
      parts: [encodeHeader(kind, id, word, length), ...body],
      answer: (message) => {
        if (!expected.kinds.some((wanted) => wanted === message.kind)) return false;
        if (expected.check?.(message) === false) return false;
        resolve(message);
        return true;
      },
      reject,
    });
    return promise;
  }

  /** Says what has no answer, behind all calls that came before it. */
  tell(kind: MessageKind, word: number): void {
    if (this.#end === undefined) this.#calls.tell([encodeHeader(kind, 0, word, 0)]);
  }

  /** Ends the process at once. Calls in flight reject with PFS_EXECUTOR_ENDED. */
  kill(reason: EndReason, detail: string): void {
    if (this.#end !== undefined) return;
    const end = { reason, detail };
    this.#end = end;
    this.#child.kill("SIGKILL");
    this.#pipe.destroy();
    for (const call of this.#calls.clear()) call.reject(endedError(end));
  }

  #write(parts: readonly Uint8Array[]): void {
    this.#pipe.cork();
    for (const part of parts) if (part.byteLength > 0) this.#pipe.write(part);
    this.#pipe.uncork();
  }

  #take(message: Message): void {
    if (this.#end !== undefined) return;
    const call = this.#calls.find(message.call);
    if (call === undefined || !call.answer(message)) return this.kill("crash", "it answered nonsense");
    this.#calls.remove(call.id);
  }

  #expire(late: Call): void {
    if (this.#end !== undefined) return;
    const { limitMs } = late;
    const message = `the executor process did not answer within ${limitMs} ms and was killed`;
    late.reject(new SandboxError(SandboxErrorCode.deadline, message, { limitMs }));
    this.kill("deadline", `a call took longer than ${limitMs} ms`);
  }

  #watchMemory(bytesMax: number): MemoryWatch {
    return new MemoryWatch(this.#child.pid!, bytesMax, (bytes) => {
      this.kill("memory", `it had ${bytes} bytes of memory, more than it may`);
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

function endedError({ reason, detail }: ExecutorEnd): SandboxError {
  const message = `the executor process ended (${reason}): ${detail}`;
  return new SandboxError(SandboxErrorCode.ended, message, { reason, detail });
}

function busyError(): SandboxError {
  const message = `more than ${EXECUTOR_QUEUE_MAX} calls wait for an executor process`;
  return new SandboxError(SandboxErrorCode.busy, message, { max: EXECUTOR_QUEUE_MAX });
}

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
