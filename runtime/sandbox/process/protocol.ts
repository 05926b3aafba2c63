/**
 * What a node and its executor process say to each other over a pipe: messages of a header and a body.
 *
 *   OFFSET SIZE HEADER
 *   0      4    kind
 *   4      4    call    which call this asks or answers
 *   8      4    word    a lane, or milliseconds (loaded)
 *   12     4    length  bytes of the body
 *
 *   kind          body
 *   inspect    ▶  the module's text, UTF-8
 *   load       ▶  a program image (program-image.ts)
 *   run        ▶  n × 4 float64 of extents, then n × 64 bytes of packets
 *   unload     ▶  nothing, and there is no answer
 *   ready      ◀  nothing, and there was no call
 *   described  ◀  ProgramDescription as JSON
 *   loaded     ◀  nothing; the word says how long it took
 *   invalid    ◀  why the program does not load, as text: the answer to inspect or load
 *   ran        ◀  a frame's outcome (outcome.ts)
 *
 * The executor process is not believed: the node bounds each length before the body is taken.
 */
export const HEADER_BYTES = 16;

export const MessageKind = {
  inspect: 1,
  load: 2,
  run: 3,
  unload: 4,
  ready: 5,
  described: 6,
  loaded: 7,
  invalid: 8,
  ran: 9,
} as const;
export type MessageKind = (typeof MessageKind)[keyof typeof MessageKind];

export interface Message {
  readonly kind: number;
  readonly call: number;
  readonly word: number;
  /** A buffer of its own. */
  readonly body: Uint8Array<ArrayBuffer>;
}

export function encodeHeader(
  kind: MessageKind,
  call: number,
  word: number,
  length: number,
): Uint8Array<ArrayBuffer> {
  const header = new Uint8Array(HEADER_BYTES);
  const view = new DataView(header.buffer);
  view.setUint32(0, kind, true);
  view.setUint32(4, call, true);
  view.setUint32(8, word, true);
  view.setUint32(12, length, true);
  return header;
}

/** How many bytes the body of a message may have; a negative number refuses it. */
export type BodyLimit = (kind: number, call: number) => number;

/** Puts messages together from the pieces that a pipe brings. */
export class MessageReader {
  readonly #limit: BodyLimit;
  readonly #take: (message: Message) => void;
  readonly #header = new Uint8Array(HEADER_BYTES);
  readonly #view = new DataView(this.#header.buffer);
  #headerBytes = 0;
  #body: Uint8Array<ArrayBuffer> | undefined;
  #bodyBytes = 0;

  constructor(limit: BodyLimit, take: (message: Message) => void) {
    this.#limit = limit;
    this.#take = take;
  }

  /** Returns false when a header announces more than it may: nothing behind it can be read. */
  push(piece: Uint8Array): boolean {
    let at = 0;
    while (at < piece.byteLength || this.#body?.byteLength === 0) {
      if (this.#body === undefined) {
        const bytes = Math.min(HEADER_BYTES - this.#headerBytes, piece.byteLength - at);
        this.#header.set(piece.subarray(at, at + bytes), this.#headerBytes);
        this.#headerBytes += bytes;
        at += bytes;
        if (this.#headerBytes < HEADER_BYTES) return true;
        const length = this.#view.getUint32(12, true);
        if (length > this.#limit(this.#view.getUint32(0, true), this.#view.getUint32(4, true))) return false;
        this.#body = new Uint8Array(length);
        this.#bodyBytes = 0;
      }
      const body = this.#body;
      const bytes = Math.min(body.byteLength - this.#bodyBytes, piece.byteLength - at);
      body.set(piece.subarray(at, at + bytes), this.#bodyBytes);
      this.#bodyBytes += bytes;
      at += bytes;
      if (this.#bodyBytes === body.byteLength) this.#deliver(body);
    }
    return true;
  }

  #deliver(body: Uint8Array<ArrayBuffer>): void {
    this.#body = undefined;
    this.#headerBytes = 0;
    const view = this.#view;
    this.#take({
      kind: view.getUint32(0, true),
      call: view.getUint32(4, true),
      word: view.getUint32(8, true),
      body,
    });
  }
}
