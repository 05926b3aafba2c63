/**
 * What the prelude asks the node while a packet runs: who computes a kernel, and bytes that did not come along. It is asked by a
 * function that takes numbers and gives one; bytes go through a part of the exchange. No program gets hold of either.
 */
import type { Faults } from "./faults.ts";
import type { Primordials } from "./primordials.ts";
import type { TextCodec } from "./text-codec.ts";

/** What is asked for (AskNumbers), and its numbers. */
export type AskNode = (request: number, a: number, b: number, c: number) => number;

/** What the numbers mean that the node is asked with and gives. */
export interface AskNumbers {
  /** Takes `a` bytes of the exchange for a question, behind the `b` that it has; 0 begins another. */
  readonly put: number;
  /** Who computes: `a` bytes of what was put are text. Gives the bytes of the outputs, `isLeft` or a fault. */
  readonly call: number;
  /** Has computed what was left to it. */
  readonly computed: number;
  /** Bytes of a block: origin, first, how many. Gives how many of them there are, or a fault. */
  readonly read: number;
  /** Puts the next bytes of what was given into the exchange. Gives how many, 0 when there are no more. */
  readonly take: number;
  /** Given instead of a length: the program shall compute it itself; */
  readonly isLeft: number;
  /** or this less a FaultCode, whose text is to be taken. */
  readonly fault: number;
}

export interface Questions {
  /** The outputs' bytes of a kernel, back to back; undefined where the program shall compute it itself. */
  call(text: string, values: readonly Uint8Array<ArrayBuffer>[]): Uint8Array<ArrayBuffer> | undefined;
  /** It has. */
  computed(): void;
  /** Bytes of a block (questions.ts of the node says what an origin is). */
  readonly read: (origin: number, from: number, length: number) => Uint8Array<ArrayBuffer>;
}

export interface QuestionTools {
  readonly codec: TextCodec;
  readonly faults: Faults;
  /** Absent where there is no node to ask. */
  readonly ask: AskNode | undefined;
  readonly numbers: AskNumbers;
  readonly exchange: SharedArrayBuffer;
  readonly askAt: number;
  readonly askBytes: number;
}

export function makeQuestions(p: Primordials, tools: QuestionTools): Questions {
  const { codec, faults, ask, numbers, exchange, askAt, askBytes } = tools;
  const room = new p.Uint8Array(exchange, askAt, askBytes);

  /** Returns the bytes that the question has with them. */
  function put(bytes: Uint8Array<ArrayBuffer>, before: number): number {
    const length = p.bytesLength(bytes);
    for (let at = 0; at < length; at += askBytes) {
      const piece = p.min(askBytes, length - at);
      p.bytesSet(room, new p.Uint8Array(bytes.buffer, bytes.byteOffset + at, piece));
      ask!(numbers.put, piece, before + at, 0);
    }
    return before + length;
  }

  /** Takes `length` bytes of what was given, into `target` from `start` on. */
  function take(target: Uint8Array, start: number, length: number): void {
    for (let at = 0; at < length;) {
      const piece = ask!(numbers.take, 0, 0, 0);
      p.bytesSet(target, new p.Uint8Array(exchange, askAt, piece), start + at);
      at += piece;
    }
  }

  function failed(given: number): never {
    const bytes = ask!(numbers.take, 0, 0, 0);
    return faults.fail(numbers.fault - given, codec.decode(room, 0, bytes));
  }

  return {
    call(text, values) {
      if (ask === undefined) return undefined;
      const bytes = new p.Uint8Array(codec.encodedLength(text));
      codec.encode(text, bytes, 0);
      let all = put(bytes, 0);
      for (let index = 0; index < values.length; index++) all = put(values[index]!, all);
      const given = ask(numbers.call, p.bytesLength(bytes), 0, 0);
      if (given === numbers.isLeft) return undefined;
      if (given <= numbers.fault) return failed(given);
      const outputs = new p.Uint8Array(given);
      take(outputs, 0, given);
      return outputs;
    },
    computed() {
      ask?.(numbers.computed, 0, 0, 0);
    },
    read(origin, from, length) {
      const bytes = new p.Uint8Array(length);
      for (let at = 0; at < length;) {
        const given = ask!(numbers.read, origin, from + at, length - at);
        if (given <= numbers.fault) return failed(given);
        take(bytes, at, given);
        at += given;
      }
      return bytes;
    },
  };
}
