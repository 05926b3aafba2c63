/**
 * What the prelude asks the node while a packet runs: who computes a kernel, and bytes that did not come along. It is asked by a
 * function that takes numbers and gives one; bytes go through a part of the exchange. No program gets hold of either.
 */
import type { Faults } from "./faults.ts";
import type { Primordials } from "./primordials.ts";
import type { TextCodec } from "./text-codec.ts";

/** A request (thread/node-questions.ts) and its numbers. */
export type AskNode = (request: number, a: number, b: number, c: number) => number;

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
  readonly exchange: SharedArrayBuffer;
  readonly askAt: number;
  readonly askBytes: number;
}

export function makeQuestions(p: Primordials, tools: QuestionTools): Questions {
  const { codec, faults, ask, exchange, askAt, askBytes } = tools;
  const [PUT, CALL, COMPUTED, READ, TAKE] = [0, 1, 2, 3, 4] as const;
  const COMPUTE = -1;
  const FAULT = -1000;
  const room = new p.Uint8Array(exchange, askAt, askBytes);

  function put(bytes: Uint8Array<ArrayBuffer>): void {
    const length = p.bytesLength(bytes);
    for (let at = 0; at < length; at += askBytes) {
      const piece = p.min(askBytes, length - at);
      p.bytesSet(room, new p.Uint8Array(bytes.buffer, bytes.byteOffset + at, piece));
      ask!(PUT, piece, 0, 0);
    }
  }

  /** Takes `length` bytes of what was given, into `target` from `start` on. */
  function take(target: Uint8Array, start: number, length: number): void {
    for (let at = 0; at < length;) {
      const piece = ask!(TAKE, 0, 0, 0);
      p.bytesSet(target, new p.Uint8Array(exchange, askAt, piece), start + at);
      at += piece;
    }
  }

  function failed(given: number): never {
    const bytes = ask!(TAKE, 0, 0, 0);
    return faults.fail(FAULT - given, codec.decode(room, 0, bytes));
  }

  return {
    call(text, values) {
      if (ask === undefined) return undefined;
      const bytes = new p.Uint8Array(codec.encodedLength(text));
      codec.encode(text, bytes, 0);
      put(bytes);
      for (let index = 0; index < values.length; index++) put(values[index]!);
      const given = ask(CALL, p.bytesLength(bytes), 0, 0);
      if (given === COMPUTE) return undefined;
      if (given <= FAULT) return failed(given);
      const outputs = new p.Uint8Array(given);
      take(outputs, 0, given);
      return outputs;
    },
    computed() {
      ask?.(COMPUTED, 0, 0, 0);
    },
    read(origin, from, length) {
      const bytes = new p.Uint8Array(length);
      for (let at = 0; at < length;) {
        const given = ask!(READ, origin, from + at, length - at);
        if (given <= FAULT) return failed(given);
        take(bytes, at, given);
        at += given;
      }
      return bytes;
    },
  };
}
