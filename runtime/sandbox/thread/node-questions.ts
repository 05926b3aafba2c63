/**
 * What a guest asks its node, by a function that its prelude holds and no program: only numbers are given to it and come from it.
 * Bytes go through a part of the guest's exchange, piece by piece, and the thread stands still until there is an answer.
 */
import { readSync } from "node:fs";
import { KERNEL_VALUES_BYTES_MAX } from "../../limits.ts";
import { MessageKind } from "../process/protocol.ts";
import { AnswerKind, HELD_ORIGIN, decodeAnswer, encodeRead } from "../process/questions.ts";
import type { BlockRange, NodeAnswer } from "../process/questions.ts";
import type { AskNumbers } from "../guest/questions.ts";
import type { ThreadPipe } from "./thread-pipe.ts";

/** The numbers that it is asked and answers with. */
export const ASK_NUMBERS: AskNumbers = {
  put: 0,
  call: 1,
  computed: 2,
  read: 3,
  take: 4,
  isLeft: -1,
  fault: -1000,
};

const NOTHING = new Uint8Array(0);
const NOTHING_GIVEN: GivenBytes = { kind: AnswerKind.here, bytes: NOTHING };

export class NodeQuestions {
  readonly #memory: number;
  #pipe: ThreadPipe | undefined;
  #call = 0;
  #exchange: Uint8Array = NOTHING;
  #parts: Uint8Array[] = [];
  #putBytes = 0;
  /** What the node gave last, and bytes of it that are taken. */
  #given: GivenBytes = NOTHING_GIVEN;
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
      case ASK_NUMBERS.put:
        return this.#put(a, b);
      case ASK_NUMBERS.call:
        return this.#ask(MessageKind.call, this.#question(a));
      case ASK_NUMBERS.computed:
        this.#frame().send(MessageKind.computed, this.#call, NOTHING);
        return 0;
      case ASK_NUMBERS.read:
        return this.#read({ origin: a, from: b, length: c });
      case ASK_NUMBERS.take:
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
    this.#given = NOTHING_GIVEN;
    this.#taken = 0;
  }

  /** One that a guest has begun and not asked, since its stack was full, is forgotten when it begins another. */
  #put(length: number, at: number): number {
    if (at === 0) this.#forget();
    if (at !== this.#putBytes) throw new Error("a guest leaves out a part of what it asks");
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
        return ASK_NUMBERS.isLeft;
      case AnswerKind.fault:
        this.#given = { kind: AnswerKind.here, bytes: Buffer.from(answer.text) };
        return ASK_NUMBERS.fault - answer.code;
      default:
        this.#given = answer;
        return lengthOf(answer);
    }
  }

  #take(): number {
    const given = this.#given;
    const wanted = Math.min(this.#exchange.byteLength, lengthOf(given) - this.#taken);
    if (wanted === 0) return 0;
    const taken = this.#copy(given, this.#taken, wanted);
    if (taken === 0) throw new Error("there is less than an answer says");
    this.#taken += taken;
    return taken;
  }

  /** Bytes of what was given into the exchange. Returns how many, which may be fewer. */
  #copy(given: GivenBytes, from: number, length: number): number {
    switch (given.kind) {
      case AnswerKind.shared:
        return readSync(this.#memory, this.#exchange, 0, length, given.offset + from);
      case AnswerKind.here:
        this.#exchange.set(given.bytes.subarray(from, from + length));
        return length;
      case AnswerKind.held: {
        // It had no room, and comes in as many pieces as it takes.
        const piece = encodeRead({ origin: HELD_ORIGIN, from, length });
        const answer = decodeAnswer(this.#frame().ask(MessageKind.read, this.#call, piece));
        if (answer.kind !== AnswerKind.here) throw new Error("the node does not have what it holds");
        this.#exchange.set(answer.bytes);
        return answer.bytes.byteLength;
      }
    }
  }
}

type GivenBytes = Extract<NodeAnswer, { readonly bytes: Uint8Array } | { readonly length: number }>;

function lengthOf(given: GivenBytes): number {
  return given.kind === AnswerKind.here ? given.bytes.byteLength : given.length;
}
