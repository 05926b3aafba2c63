/**
 * What waits to be sent to one peer. There are three classes, first in, first out within each. A higher class goes first, but not for
 * ever: it may send its share of bytes per round, and a new round begins when every class that waits has used its own.
 *
 *   control      4 MiB a round
 *   interactive  2 MiB a round        so bulk always gets at least a ninth of what the other two send
 *   bulk         ¾ MiB a round
 */
import { Priority } from "../../../packets/envelope.ts";
import { UNANNOUNCED_BYTES_MAX } from "../../limits.ts";
import { Heartbeat } from "./heartbeat.ts";
import { toParts, CREDIT } from "./message.ts";
import type { OutFrame } from "./message.ts";
import { ReceiveWindow, SendWindow } from "./window.ts";

const SHARES: readonly [number, number, number] = [4 * 1024 * 1024, 2 * 1024 * 1024, 768 * 1024];

export class PriorityQueue<Item> {
  readonly #classes = [new Fifo<Entry<Item>>(), new Fifo<Entry<Item>>(), new Fifo<Entry<Item>>()] as const;
  readonly #used: [number, number, number] = [0, 0, 0];
  #bytes = 0;

  /** Bytes of everything that waits. */
  get bytes(): number {
    return this.#bytes;
  }

  push(item: Item, priority: Priority, bytes: number): void {
    this.#classes[priority].push({ item, bytes });
    this.#bytes += bytes;
  }

  /**
   * Takes the next item out. `lowest` is the last class that may go (when a window is closed, only control may).
   * `fits` is asked about the bytes of the item whose turn it is; when it says no, nothing is taken.
   */
  take(lowest: Priority, fits?: (bytes: number) => boolean): Item | undefined {
    const turn = this.#turn(lowest);
    if (turn === undefined) return undefined;
    const queue = this.#classes[turn];
    const bytes = queue.first()!.bytes;
    if (fits !== undefined && !fits(bytes)) return undefined;
    this.#bytes -= bytes;
    this.#used[turn] += bytes;
    return queue.shift()!.item;
  }

  clear(): void {
    for (const queue of this.#classes) queue.clear();
    this.#bytes = 0;
  }

  #turn(lowest: Priority): Priority | undefined {
    let waiting: Priority | undefined;
    for (const priority of [Priority.control, Priority.interactive, Priority.bulk]) {
      if (priority > lowest) break;
      if (this.#classes[priority].length === 0) continue;
      waiting ??= priority;
      if (this.#used[priority] < SHARES[priority]) return priority;
    }
    if (waiting !== undefined) this.#used.fill(0);
    return waiting;
  }
}

interface Entry<Item> {
  readonly item: Item;
  readonly bytes: number;
}

/** A queue whose `shift` costs the same however long it is. */
class Fifo<Item> {
  #items: (Item | undefined)[] = [];
  #head = 0;

  get length(): number {
    return this.#items.length - this.#head;
  }

  push(item: Item): void {
    this.#items.push(item);
  }

  first(): Item | undefined {
    return this.#items[this.#head];
  }

  shift(): Item | undefined {
    const item = this.#items[this.#head];
    // What was taken must not be kept alive by the array.
    this.#items[this.#head] = undefined;
    this.#head++;
    if (this.#head > 1024 && this.#head * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#head);
      this.#head = 0;
    } else if (this.#head === this.#items.length) {
      this.clear();
    }
    return item;
  }

  clear(): void {
    this.#items = [];
    this.#head = 0;
  }
}

/** What leaves a session, in which order and when: classes, window, counters, credit that rides along, the goodbye. */
export class SendQueue {
  readonly sendWindow: SendWindow = new SendWindow();
  readonly receiveWindow: ReceiveWindow = new ReceiveWindow();
  readonly #queue = new PriorityQueue<OutFrame>();
  readonly #isWanted: (frame: OutFrame, now: number) => boolean;
  /** A large message whose announcement has just left: it goes next. */
  #announced: OutFrame | undefined;
  #goodbye: OutFrame | undefined;
  #counter = 0;

  /** `isWanted` is asked about each frame when its turn has come. */
  constructor(isWanted: (frame: OutFrame, now: number) => boolean) {
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
    return { ...CREDIT, deadlineMs: Heartbeat.silenceFor(frame.cost) };
  }

  #wantedFrame(now: number): OutFrame | undefined {
    for (;;) {
      // Control messages are few and small, and must pass when the window is closed.
      const frame =
        this.#queue.take(Priority.control) ??
        this.#queue.take(Priority.bulk, (cost) => this.sendWindow.admits(cost, now));
      if (frame === undefined || this.#isWanted(frame, now)) return frame;
    }
  }

  #takeGoodbye(): OutFrame | undefined {
    const goodbye = this.#goodbye;
    this.#goodbye = undefined;
    return goodbye;
  }
}
