/**
 * A thread's end of its pipe. The thread waits in the system for what the node says next, and answers by itself, so that no
 * event loop and no other thread stands between the two.
 */
import { readSync, writeSync } from "node:fs";
import { systemCode } from "../../errors.ts";
import { HEADER_BYTES, MessageKind, readHeader, writeHeader } from "../process/protocol.ts";
import type { Message } from "../process/protocol.ts";

const BUFFER_BYTES: number = 256 * 1024;
/** Messages up to this size are copied together: what reads them wakes up once. */
const JOINED_BYTES_MAX: number = 16 * 1024;

export class ThreadPipe {
  readonly #descriptor: number;
  readonly #bodyBytesMax: number;
  readonly #sending = new Uint8Array(JOINED_BYTES_MAX);
  #buffer = new Uint8Array(BUFFER_BYTES);
  /** Messages that came before an answer. */
  readonly #early: Message[] = [];
  /** Bytes that were read, and those of them that belong to the message that was given out last. */
  #end = 0;
  #taken = 0;

  constructor(descriptor: number, bodyBytesMax: number) {
    this.#descriptor = descriptor;
    this.#bodyBytesMax = bodyBytesMax;
  }

  /**
   * The next message, waited for; undefined when the node is gone. Its body begins at a multiple of eight bytes of its buffer,
   * and is overwritten by the next message.
   */
  next(): Message | undefined {
    const early = this.#early.shift();
    return early ?? this.#read();
  }

  /**
   * Asks the node within a call, and waits for its answer: its body, until the next message. What comes before it is for
   * later. Throws when the node is gone.
   */
  ask(kind: MessageKind, call: number, body: Uint8Array): Uint8Array {
    this.send(kind, call, body);
    for (;;) {
      const message = this.#read();
      if (message === undefined) throw new Error("the node is gone");
      if (message.kind === MessageKind.answer) return message.body;
      this.#early.push({ ...message, body: message.body.slice() });
    }
  }

  #read(): Message | undefined {
    this.#forgetTaken();
    if (!this.#fill(HEADER_BYTES)) return undefined;
    const { kind, call, word, packets, length } = readHeader(this.#buffer);
    if (length > this.#bodyBytesMax) throw new Error("a message is too long");
    const bytes = HEADER_BYTES + length;
    if (bytes > this.#buffer.byteLength) this.#resize(bytes);
    if (!this.#fill(bytes)) return undefined;
    this.#taken = bytes;
    return { kind, call, word, packets, body: this.#buffer.subarray(HEADER_BYTES, bytes) };
  }

  send(kind: MessageKind, call: number, body: Uint8Array): void {
    writeHeader(this.#sending, kind, call, 0, 0, body.byteLength);
    const bytes = HEADER_BYTES + body.byteLength;
    const isJoined = bytes <= JOINED_BYTES_MAX;
    if (isJoined) this.#sending.set(body, HEADER_BYTES);
    this.#write(this.#sending, isJoined ? bytes : HEADER_BYTES);
    if (!isJoined) this.#write(body, body.byteLength);
  }

  #forgetTaken(): void {
    this.#buffer.copyWithin(0, this.#taken, this.#end);
    this.#end -= this.#taken;
    this.#taken = 0;
    if (this.#buffer.byteLength > BUFFER_BYTES && this.#end <= BUFFER_BYTES) this.#resize(BUFFER_BYTES);
  }

  #resize(bytes: number): void {
    const buffer = new Uint8Array(bytes);
    buffer.set(this.#buffer.subarray(0, this.#end));
    this.#buffer = buffer;
  }

  /** Reads until there are so many bytes. False when they do not come any more. */
  #fill(bytes: number): boolean {
    while (this.#end < bytes) {
      const read = this.#readSome();
      if (read === 0) return false;
      this.#end += read;
    }
    return true;
  }

  #readSome(): number {
    for (;;) {
      try {
        return readSync(this.#descriptor, this.#buffer, this.#end, this.#buffer.byteLength - this.#end, null);
      } catch (error) {
        // A signal woke it.
        if (systemCode(error) !== "EINTR") throw error;
      }
    }
  }

  #write(bytes: Uint8Array, length: number): void {
    for (let done = 0; done < length;) {
      done += writeSync(this.#descriptor, bytes, done, length - done);
    }
  }
}
