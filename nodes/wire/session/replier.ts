import { PacketfsError } from "../../../packets/errors.ts";
import { errorMessage } from "./error-frame.ts";
import { cancelled } from "./link-errors.ts";
import type { OutMessage, Reply } from "../link.ts";

export interface ReplierOptions {
  /** Answers a request; throws PFS_MESSAGE_TOO_LARGE. */
  readonly answer: (request: number, message: OutMessage, isLast: boolean) => void;
  readonly isWanted: (request: number) => boolean;
  readonly room: (request: number) => Promise<void>;
}

/** Makes what handlers answer with. A signal is made only for those who ask for it. */
export class Replier {
  readonly #options: ReplierOptions;
  readonly #controllers = new Map<number, AbortController>();

  constructor(options: ReplierOptions) {
    this.#options = options;
  }

  /** The reply to a request; 0 is a notification, which nobody waits for an answer to. */
  make(request: number): Reply {
    const { answer, room } = this.#options;
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
    const whole = Object.assign(reply, { room: () => room(request) });
    return Object.defineProperty(whole, "signal", { get: () => this.#signal(request) }) as Reply;
  }

  /** The asker does not want the answer any more. */
  withdrawn(request: number): void {
    this.#controllers.get(request)?.abort(cancelled());
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
