/** What leaves a session, in which order and when: classes, window, counters, credit that rides along, the goodbye. */
import { Priority } from "../../../packets/envelope.ts";
import { UNANNOUNCED_BYTES_MAX } from "../../limits.ts";
import { toParts } from "./message.ts";
import type { OutFrame } from "./message.ts";
import { CREDIT } from "./own-frames.ts";
import { Pulse } from "./heartbeat.ts";
import { SendQueue } from "./send-queue.ts";
import { ReceiveWindow, SendWindow } from "./window.ts";

export class Outbox {
  readonly sendWindow: SendWindow = new SendWindow();
  readonly receiveWindow: ReceiveWindow = new ReceiveWindow();
  readonly #queue = new SendQueue<OutFrame>();
  readonly #isWanted: (frame: OutFrame) => boolean;
  /** A large message whose announcement has just left: it goes next. */
  #announced: OutFrame | undefined;
  #goodbye: OutFrame | undefined;
  #counter = 0;

  /** `isWanted` is asked about each frame when its turn has come. */
  constructor(isWanted: (frame: OutFrame) => boolean) {
    this.#isWanted = isWanted;
  }

  /** Bytes that wait. */
  get bytes(): number {
    return this.#queue.bytes + (this.#announced?.cost ?? 0);
  }

  /** Whether nothing waits, a goodbye included. */
  get isEmpty(): boolean {
    return this.bytes === 0 && this.#goodbye === undefined;
  }

  push(frame: OutFrame): void {
    this.#queue.push(frame, frame.priority, frame.cost);
  }

  /** Leaves after everything else; nothing comes after it. */
  pushGoodbye(frame: OutFrame): void {
    this.#goodbye = frame;
  }

  clear(): void {
    this.#queue.clear();
    this.#announced = undefined;
    this.#goodbye = undefined;
  }

  /** The parts of the next message; undefined when there is none, or when the peer must take some first. */
  next(now: number): Uint8Array[] | undefined {
    const frame = this.#nextFrame(now);
    if (frame === undefined) return undefined;
    if (frame.priority !== Priority.control) this.sendWindow.sent(frame.cost);
    const credit = frame.streamCreditBytes > 0 ? frame.streamCreditBytes : this.receiveWindow.take();
    return toParts(frame, ++this.#counter, credit);
  }

  #nextFrame(now: number): OutFrame | undefined {
    const announced = this.#announced;
    if (announced !== undefined) {
      this.#announced = undefined;
      return announced;
    }
    const frame = this.#wantedFrame(now);
    if (frame === undefined) {
      if (this.#queue.bytes > 0) return this.receiveWindow.due ? CREDIT : undefined;
      return this.#takeGoodbye() ?? (this.receiveWindow.due ? CREDIT : undefined);
    }
    if (frame.cost <= UNANNOUNCED_BYTES_MAX) return frame;
    this.#announced = frame;
    return { ...CREDIT, deadlineMs: Pulse.silenceFor(frame.cost) };
  }

  #wantedFrame(now: number): OutFrame | undefined {
    for (;;) {
      // Control messages are few and small, and must pass when the window is closed.
      const frame =
        this.#queue.take(Priority.control) ??
        this.#queue.take(Priority.bulk, (cost) => this.sendWindow.admits(cost, now));
      if (frame === undefined || this.#isWanted(frame)) return frame;
    }
  }

  #takeGoodbye(): OutFrame | undefined {
    const goodbye = this.#goodbye;
    this.#goodbye = undefined;
    return goodbye;
  }
}
