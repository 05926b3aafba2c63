/**
 * The node's end of an executor process: its pipe, its calls and its end. Anything that goes wrong ends the process, by
 * SIGKILL, because nothing else is sure to.
 */
import type { ChildProcess } from "node:child_process";
import type { Socket } from "node:net";
import { SandboxError, SandboxErrorCode } from "../../errors.ts";
import { EXECUTOR_QUEUE_MAX, EXECUTOR_STDERR_BYTES } from "../../limits.ts";
import { CallQueue } from "./call-queue.ts";
import type { Call } from "./call-queue.ts";
import { PIPE_DESCRIPTOR } from "./descriptors.ts";
import { MemoryWatch } from "./memory-watch.ts";
import { encodeHeader, MessageReader } from "./protocol.ts";
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

export class ExecutorLink {
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
