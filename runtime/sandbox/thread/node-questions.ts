/**
 * What a guest asks its node, by a function that its prelude holds and no program: only numbers are given to it and come from it.
 * Bytes go through a part of the guest's exchange, piece by piece, and the thread stands still until there is an answer.
 */
import { readSync } from "node:fs";
import { KERNEL_VALUES_BYTES_MAX } from "../../limits.ts";
import { MessageKind } from "../process/protocol.ts";
import { AnswerKind, HELD_ORIGIN, decodeAnswer, encodeRead } from "../process/questions.ts";
import type { BlockRange } from "../process/questions.ts";
import type { ThreadPipe } from "./thread-pipe.ts";

/** What the prelude asks for, its first argument. */
export const Request = {
  /** Takes `a` bytes of the exchange for the question that is being put together. */
  put: 0,
  /** Who computes: `a` bytes of what was put are text. Gives the outputs' bytes, COMPUTE or a fault. */
  call: 1,
  /** Has computed what it was to compute itself. */
  computed: 2,
  /** Bytes of a block: origin, first, how many. Gives how many of them there are, or a fault. */
  read: 3,
  /** Puts the next bytes of what was given into the exchange. Gives how many, 0 when there are no more. */
  take: 4,
} as const;

/** Given instead of a length: the program shall compute it itself; or, at and below FAULT, a FaultCode's negative, whose text is taken. */
export const COMPUTE = -1;
export const FAULT = -1000;

/** Whom the thread asks for whom. */
export class NodeQuestions {
  readonly #memory: number;
  #pipe: ThreadPipe | undefined;
  #call = 0;
  #exchange: Uint8Array = new Uint8Array(0);
  #parts: Uint8Array[] = [];
  #putBytes = 0;
  /** What the node gave last, and how much of it is taken. */
  #here: Uint8Array = new Uint8Array(0);
  #shared: { readonly offset: number; readonly length: number } | undefined;
  #held = 0;
  #taken = 0;

  constructor(sharedMemoryDescriptor: number) {
    this.#memory = sharedMemoryDescriptor;
  }

  /** A frame runs, of the call of that number, whose guest asks through this part of its exchange. */
  begin(pipe: ThreadPipe, call: number, exchange: Uint8Array): void {
    this.#pipe = pipe;
    this.#call = call;
    this.#exchange = exchange;
    this.#forget();
  }

  end(): void {
    this.#pipe = undefined;
    this.#forget();
  }

  /** The function for a prelude. */
  readonly ask = (request: number, a: number, b: number, c: number): number => {
    switch (request) {
      case Request.put:
        return this.#put(a);
      case Request.call:
        return this.#ask(MessageKind.call, this.#question(a));
      case Request.computed:
        this.#frame().send(MessageKind.computed, this.#call, NOTHING);
        return 0;
      case Request.read:
        return this.#read({ origin: a, from: b, length: c });
      case Request.take:
        return this.#take();
      default:
        throw new Error(`a guest asks for ${request}`);
    }
  };

  #frame(): ThreadPipe {
    if (this.#pipe === undefined) throw new Error("a guest asks while no frame runs");
    return this.#pipe;
  }

  #forget(): void {
    this.#parts = [];
    this.#putBytes = 0;
    this.#here = NOTHING;
    this.#shared = undefined;
    this.#held = 0;
    this.#taken = 0;
  }

  #put(length: number): number {
    this.#putBytes += length;
    if (this.#putBytes > KERNEL_VALUES_BYTES_MAX + this.#exchange.byteLength)
      throw new Error("a call of a kernel is too long");
    this.#parts.push(this.#exchange.slice(0, length));
    return 0;
  }

  #question(textBytes: number): Uint8Array {
    const head = new Uint8Array(4);
    new DataView(head.buffer).setUint32(0, textBytes, true);
    return Buffer.concat([head, ...this.#parts]);
  }

  #read(range: BlockRange): number {
    return this.#ask(MessageKind.read, encodeRead(range));
  }

  #ask(kind: MessageKind, body: Uint8Array): number {
    this.#forget();
    const answer = decodeAnswer(this.#frame().ask(kind, this.#call, body));
    switch (answer.kind) {
      case AnswerKind.compute:
        return COMPUTE;
      case AnswerKind.here:
        this.#here = answer.bytes;
        return answer.bytes.byteLength;
      case AnswerKind.shared:
        this.#shared = answer;
        return answer.length;
      case AnswerKind.held:
        this.#held = answer.length;
        return answer.length;
      case AnswerKind.fault:
        this.#here = Buffer.from(answer.text);
        return FAULT - answer.code;
    }
  }

  #take(): number {
    const room = this.#exchange;
    if (this.#held > 0) return this.#takeHeld();
    if (this.#shared === undefined) {
      const piece = this.#here.subarray(this.#taken, this.#taken + room.byteLength);
      room.set(piece);
      this.#taken += piece.byteLength;
      return piece.byteLength;
    }
    const { offset, length } = this.#shared;
    const wanted = Math.min(room.byteLength, length - this.#taken);
    if (wanted === 0) return 0;
    const read = readSync(this.#memory, room, 0, wanted, offset + this.#taken);
    if (read === 0) throw new Error("the shared memory is shorter than an answer says");
    this.#taken += read;
    return read;
  }

  /** What had no room is asked for in as many pieces as it takes. */
  #takeHeld(): number {
    const [all, from] = [this.#held, this.#taken];
    if (from === all) return 0;
    const length = Math.min(this.#exchange.byteLength, all - from);
    const answer = decodeAnswer(
      this.#frame().ask(MessageKind.read, this.#call, encodeRead({ origin: HELD_ORIGIN, from, length })),
    );
    if (answer.kind !== AnswerKind.here) throw new Error("the node does not have what it holds");
    this.#exchange.set(answer.bytes);
    this.#taken += answer.bytes.byteLength;
    return answer.bytes.byteLength;
  }
}

const NOTHING = new Uint8Array(0);
