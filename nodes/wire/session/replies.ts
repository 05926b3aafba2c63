/** Replies as users of a link hold them: the stream that an asker reads, and what a handler answers with. */
import { PacketfsError } from "../../../packets/errors.ts";
import type { WireMessage, OutMessage, Reply } from "../link.ts";
import { errorMessage, cancelled } from "./errors.ts";

export interface ReplyStreamOptions {
  /** The reader took a reply of this cost. */
  readonly taken: (cost: number) => void;
  /** The reader went away before the end. */
  readonly left: () => void;
}

/** The replies of one request, in order. How many may wait here is the link's business: it gives the peer credit. */
export class ReplyStream implements AsyncIterator<WireMessage, undefined> {
  readonly #options: ReplyStreamOptions;
  readonly #waiting: { readonly message: WireMessage; readonly cost: number }[] = [];
  readonly #readers: {
    readonly resolve: (result: IteratorResult<WireMessage, undefined>) => void;
    readonly reject: (error: unknown) => void;
  }[] = [];
  #isComplete = false;
  #error: unknown;

  constructor(options: ReplyStreamOptions) {
    this.#options = options;
  }

  answered(message: WireMessage, isLast: boolean, cost: number): void {
    this.#isComplete = isLast;
    const reader = this.#readers.shift();
    if (reader === undefined) {
      this.#waiting.push({ message, cost });
    } else {
      reader.resolve({ value: message, done: false });
      if (!isLast) this.#options.taken(cost);
    }
    if (isLast) this.#endReaders();
  }

  failed(error: unknown): void {
    this.#isComplete = true;
    this.#error = error;
    this.#endReaders();
  }

  next(): Promise<IteratorResult<WireMessage, undefined>> {
    const first = this.#waiting.shift();
    if (first !== undefined) {
      this.#options.taken(first.cost);
      return Promise.resolve({ value: first.message, done: false });
    }
    if (!this.#isComplete) {
      return new Promise((resolve, reject) => this.#readers.push({ resolve, reject }));
    }
    const error = this.#error;
    this.#error = undefined;
    return error === undefined ? Promise.resolve({ value: undefined, done: true }) : Promise.reject(error);
  }

  return(): Promise<IteratorResult<WireMessage, undefined>> {
    this.#waiting.length = 0;
    this.#error = undefined;
    if (!this.#isComplete) {
      this.#isComplete = true;
      this.#options.left();
      this.#error = undefined;
      this.#endReaders();
    }
    return Promise.resolve({ value: undefined, done: true });
  }

  #endReaders(): void {
    for (const { resolve, reject } of this.#readers.splice(0)) {
      const error = this.#error;
      this.#error = undefined;
      if (error === undefined) resolve({ value: undefined, done: true });
      else reject(error);
    }
  }
}

export interface ReplierOptions {
  /** Answers a request; throws PFS_MESSAGE_TOO_LARGE. */
  readonly answer: (request: number, message: OutMessage, isLast: boolean) => void;
  readonly atWork: (request: number) => void;
  readonly isWanted: (request: number) => boolean;
  readonly room: (request: number) => Promise<void>;
}

/** Makes what handlers answer with. A signal is made only for those who ask for it. */
export class Replier {
  readonly #options: ReplierOptions;
  readonly #controllers = new Map<number, AbortController>();
  #unheard: Reply | undefined;

  constructor(options: ReplierOptions) {
    this.#options = options;
  }

  /** The reply to a request; 0 is a notification, which nobody waits for an answer to: one reply is as good as another there. */
  make(request: number): Reply {
    return request === 0 ? (this.#unheard ??= this.#make(0)) : this.#make(request);
  }

  #make(request: number): Reply {
    const { answer, atWork, room } = this.#options;
    const reply = (message: OutMessage, last = true): void => {
      if (request === 0) return;
      if (last) this.#controllers.delete(request);
      try {
        answer(request, message, last);
      } catch (error) {
        if (!(error instanceof PacketfsError)) throw error;
        answer(request, errorMessage(error), true);
      }
    };
    const whole = Object.assign(reply, {
      room: () => room(request),
      atWork: () => {
        if (request !== 0) atWork(request);
      },
    });
    return Object.defineProperty(whole, "signal", { get: () => this.#signal(request) }) as Reply;
  }

  /** The asker does not want the answer any more, or the session is over. */
  withdrawn(request: number, reason: PacketfsError): void {
    this.#controllers.get(request)?.abort(reason);
    this.#controllers.delete(request);
  }

  #signal(request: number): AbortSignal {
    const existing = this.#controllers.get(request);
    if (existing !== undefined) return existing.signal;
    const controller = new AbortController();
    if (this.#options.isWanted(request)) this.#controllers.set(request, controller);
    else if (request !== 0) controller.abort(cancelled());
    return controller.signal;
  }
}
